#include "baksh.h"

static int uri_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    char *uri = bak_connection_get_uri (shell->conn, &error);
    if (!uri)
        return fail (error);
    if (args_json (args))
        print_json (json_one ("uri", uri));
    else {
        g_autofree char *shown = clean (uri);
        print ("%s\n", shown);
    }
    bak_free (uri);
    return STATUS_DONE;
}

const Command cmd_uri = { .name = "uri", .group = "host", .help = N_("Print the connection URI in use"),
    .flags = COMMAND_NEEDS_CONNECTION, .run = uri_run };

static int version_run (Shell *shell, const Args *args)
{
    char *daemon = NULL;
    int status;
    if (args_has (args, "daemon")) {
        BakError *error = NULL;
        if (!shell_connect (shell, &status))
            return status;
        if (!(daemon = bak_connection_get_product (shell->conn, &error)))
            return fail (error);
    }
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "compiled", BAK_VERSION_STRING);
        json_text (object, "library", bak_version_string ());
        json_text (object, "daemon", daemon);
        print_json (json_take_object (object));
    } else {
        g_autofree char *shown = clean (daemon);
        print (_("Compiled against library: libbackup %s\n"), BAK_VERSION_STRING);
        print (_("Using library: libbackup %s\n"), bak_version_string ());
        if (daemon)
            print (_("Running against daemon: %s\n"), shown);
    }
    bak_free (daemon);
    return STATUS_DONE;
}

static const Option version_options[] = {
    { "daemon", OPTION_FLAG, 0, NULL, N_("report what serves the connection too"), WANT_NOTHING },
    { 0 },
};

const Command cmd_version = { .name = "version", .group = "host", .help = N_("Show version"), .options = version_options, .run = version_run };

static int capabilities_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    char *xml = bak_connection_get_capabilities (shell->conn, &error);
    return xml ? print_xml (args, xml) : fail (error);
}

const Command cmd_capabilities = { .name = "capabilities", .group = "host", .help = N_("Show what this host can do"),
    .flags = COMMAND_NEEDS_CONNECTION, .run = capabilities_run };
