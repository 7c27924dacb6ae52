#include <stdio.h>
#include <string.h>
#include "long.h"
#include "point.h"

typedef struct {
    const Args *args;
    BakPoint *point;
    BakPointServeOptions options;
    char *host, *socket;
    BakError *error;
    int ret;
} Service;

static void ready (const char *disk, const char *uri, void *opaque)
{
    const Service *service = opaque;
    g_autofree char *target = clean (disk), *where = clean (uri);
    if (args_json (service->args)) {
        JsonObject *object = json_new ();
        json_text (object, "target", disk);
        json_text (object, "uri", uri);
        print_json (json_take_object (object));
    } else {
        print ("%s: %s\n", target, where);
    }
    fflush (stdout);
}

static void serve (LongCall *call, gpointer data)
{
    Service *service = data;
    service->options.ready = ready;
    service->options.opaque = service;
    service->options.cancellation = long_cancellation (call);
    service->ret = bak_point_serve (service->point, &service->options, &service->error);
}

/* tcp:HOST:PORT, HOST perhaps in brackets. */
static int take_tcp (Service *service, const char *text)
{
    const char *colon = strrchr (text, ':');
    guint64 port = colon ? g_ascii_strtoull (colon + 1, NULL, 10) : 0;
    if (!colon || colon == text || port == 0 || port > 65535
        || strspn (colon + 1, "0123456789") != strlen (colon + 1))
        return usage (_("option --server: '%s' is not tcp:HOST:PORT"), text);
    gboolean brackets = *text == '[' && colon[-1] == ']';
    service->host = g_strndup (text + brackets, colon - text - 2 * brackets);
    service->options.host = service->host;
    service->options.port = port;
    return STATUS_DONE;
}

static int take_unix (Service *service, const char *path)
{
    service->socket = g_canonicalize_filename (path, NULL);
    service->options.socket = service->socket;
    return STATUS_DONE;
}

static int take_server (Service *service)
{
    const char *text = args_text (service->args, "server");
    g_autofree char *name =
        g_strdup_printf ("libbackup-%s.sock", bak_point_get_id (service->point));
    g_autofree char *path = g_build_filename (g_get_user_runtime_dir (), name, NULL);
    if (!text)
        return take_unix (service, path);
    if (g_str_has_prefix (text, "unix:"))
        return take_unix (service, text + strlen ("unix:"));
    if (g_str_has_prefix (text, "tcp:"))
        return take_tcp (service, text + strlen ("tcp:"));
    return usage (_("option --server: '%s' is neither unix:PATH nor tcp:HOST:PORT"), text);
}

static guint flags_of (const Args *args)
{
    return (args_has (args, "writable") ? BAK_POINT_SERVE_WRITABLE : 0)
           | (args_has (args, "tls-psk") ? BAK_POINT_SERVE_TLS_PSK : 0)
           | (args_has (args, "allow-insecure") ? BAK_POINT_SERVE_ALLOW_INSECURE : 0);
}

static int point_serve_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    if (!point)
        return status;
    Service service = { .args = args,
                        .point = point,
                        .options = { .size = sizeof (BakPointServeOptions),
                                     .flags = flags_of (args),
                                     .disks =
                                         args_has (args, "disk") ? args_all (args, "disk") : NULL,
                                     .tls_dir = args_text (
                                         args, args_has (args, "tls-psk") ? "tls-psk" : "tls-dir"),
                                     .scratch = args_text (args, "scratch"),
                                     .idle_timeout = args_microseconds (args, "idle-timeout") } };
    status = take_server (&service);
    if (status == STATUS_DONE) {
        long_run (serve, &service, NULL, FALSE);
        if (service.ret < 0)
            status = fail (service.error);
    }
    g_free (service.host);
    g_free (service.socket);
    return status;
}

static const Option serve_options[] = {
    POINT_OPTION,
    { "disk", OPTION_TEXT, OPTION_REPEATED, "DISK", N_("only this disk; may be repeated"),
      WANT_NOTHING },
    { "server", OPTION_TEXT, 0, "unix:PATH|tcp:HOST:PORT",
      N_("where; default: a unix socket in the user's runtime directory"), WANT_NOTHING },
    { "writable", OPTION_FLAG, 0, NULL,
      N_("let clients write; what they write is thrown away at the end"), WANT_NOTHING },
    { "scratch", OPTION_TEXT, 0, "DIR", N_("with --writable: where that lies until then"),
      WANT_FILE },
    { "tls-dir", OPTION_TEXT, 0, "DIR", N_("TLS with the certificates in DIR, peers verified"),
      WANT_FILE },
    { "tls-psk", OPTION_TEXT, 0, "DIR", N_("TLS with the keys in DIR/keys.psk"), WANT_FILE },
    { "allow-insecure", OPTION_FLAG, 0, NULL, N_("allow TCP beyond this host without TLS"),
      WANT_NOTHING },
    { "idle-timeout", OPTION_SECONDS, 0, "SECONDS",
      N_("end when nobody was connected for so long"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};
static const Rule serve_rules[] = { { RULE_EXCLUSIVE, "tls-dir", "tls-psk" },
                                    { RULE_REQUIRES, "allow-insecure", "server" },
                                    { RULE_REQUIRES, "scratch", "writable" },
                                    { 0 } };

const Command cmd_point_serve = {
    .name = "point-serve",
    .group = "point",
    .help = N_("Serve the disks of a point over NBD, without restoring"),
    .description = N_("Prints the URI of each disk and serves until Ctrl-C or the idle time: a "
                       "guest can be started from it with --writable, files can be taken out of "
                       "it. The point itself is never changed."),
    .options = serve_options,
    .rules = serve_rules,
    .run = point_serve_run
};
