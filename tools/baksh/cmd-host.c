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

const Command cmd_uri = { .name = "uri",
                          .group = "host",
                          .help = N_("Print the connection URI in use"),
                          .flags = COMMAND_NEEDS_CONNECTION,
                          .run = uri_run };

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

const Command cmd_version = { .name = "version",
                              .group = "host",
                              .help = N_("Show version"),
                              .options = version_options,
                              .run = version_run };

static void print_features (JsonObject *features, JsonObject *reasons)
{
    g_autoptr (GList) names = json_object_get_members (features);
    Table *table = table_new (_("Feature"), _("Here"), _("Remark"), NULL);
    for (const GList *name = names; name; name = name->next) {
        g_autofree char *shown = clean (name->data);
        g_autofree char *reason = clean (
            reasons ? json_object_get_string_member_with_default (reasons, name->data, "") : "");
        table_row (table, shown,
                   json_object_get_boolean_member_with_default (features, name->data, FALSE)
                       ? _("yes")
                       : _("no"),
                   reason, NULL);
    }
    table_print (table);
}

static JsonObject *object_member (JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

static int capabilities_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    char *text = bak_connection_get_capabilities (shell->conn, &error);
    if (!text)
        return fail (error);
    g_autoptr (JsonNode) node = json_from_string (text, NULL);
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    JsonObject *features = object ? object_member (object, "features") : NULL;
    if (!features)
        return print_xml (args, text);
    if (args_json (args))
        print_json (g_steal_pointer (&node));
    else
        print_features (features, object_member (object, "reasons"));
    bak_free (text);
    return STATUS_DONE;
}

const Command cmd_capabilities = { .name = "capabilities",
                                   .group = "host",
                                   .help = N_("Show what this host can do"),
                                   .flags = COMMAND_NEEDS_CONNECTION,
                                   .run = capabilities_run };
