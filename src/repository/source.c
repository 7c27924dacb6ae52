#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/source.h"
#include "util/config.h"
#include "util/files.h"

enum { TUNNEL_TIMEOUT_MS = 60000 };

/* What the other host's shell says when the forwarding is there, and then waits for our end. */
static const char ready_line[] = "libbackup-forwarded";

struct _Source {
    char *socket; /* here; NULL: TCP */
    char *host;
    int port;
    char *tls_dir;
    char *dir; /* of the forwarded socket; NULL: none is */
    GSubprocess *ssh;
};

typedef enum { REACH_LOCAL, REACH_SSH, REACH_TLS, REACH_NONE } Reach;

static GUri *uri_of (BakConnection *conn)
{
    char *text = bak_connection_get_uri (conn, NULL);
    GUri *uri = text ? g_uri_parse (text, G_URI_FLAGS_NON_DNS, NULL) : NULL;
    bak_free (text);
    return uri;
}

static Reach reach_of (GUri *uri)
{
    const char *host = uri ? g_uri_get_host (uri) : NULL;
    if (!host || !*host)
        return REACH_LOCAL;
    return g_str_has_suffix (g_uri_get_scheme (uri), "+ssh")  ? REACH_SSH
           : g_str_equal (g_uri_get_scheme (uri), "qemu+tls") ? REACH_TLS
                                                              : REACH_NONE;
}

char *source_server (BakConnection *conn, guint idle_timeout)
{
    g_autoptr (GUri) uri = uri_of (conn);
    if (reach_of (uri) != REACH_TLS)
        return g_strdup_printf ("<server transport='auto' idle-timeout='%u'/>", idle_timeout);
    g_autofree char *host = g_markup_escape_text (g_uri_get_host (uri), -1);
    return g_strdup_printf ("<server transport='tcp' name='%s' tls='yes' idle-timeout='%u'/>", host,
                            idle_timeout);
}

static char *parameter (const char *query, const char *name)
{
    g_autoptr (GHashTable) values =
        query ? g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, NULL) : NULL;
    return values ? g_strdup (g_hash_table_lookup (values, name)) : NULL;
}

/* ssh */

static GPtrArray *ssh_words (GUri *uri, const char *here, const char *there)
{
    g_autofree char *command = parameter (g_uri_get_query (uri), "command");
    g_autofree char *configured = config_get_string ("ssh_command");
    GPtrArray *words = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (words, g_strdup (command ? command : configured ? configured : "ssh"));
    g_ptr_array_add (words, g_strdup ("-T"));
    g_ptr_array_add (words, g_strdup ("-oExitOnForwardFailure=yes"));
    g_ptr_array_add (words, g_strdup ("-L"));
    g_ptr_array_add (words, g_strdup_printf ("%s:%s", here, there));
    if (g_uri_get_port (uri) > 0) {
        g_ptr_array_add (words, g_strdup ("-p"));
        g_ptr_array_add (words, g_strdup_printf ("%d", g_uri_get_port (uri)));
    }
    if (g_uri_get_user (uri)) {
        g_ptr_array_add (words, g_strdup ("-l"));
        g_ptr_array_add (words, g_strdup (g_uri_get_user (uri)));
    }
    g_ptr_array_add (words, g_strdup ("--"));
    g_ptr_array_add (words, g_strdup (g_uri_get_host (uri)));
    g_ptr_array_add (words, g_strdup_printf ("echo %s && exec cat", ready_line));
    g_ptr_array_add (words, NULL);
    return words;
}

static gboolean kill_late (gpointer ssh)
{
    g_subprocess_force_exit (ssh);
    return G_SOURCE_REMOVE;
}

typedef struct {
    GMainLoop *loop;
    char line[sizeof ready_line];
    gboolean done;
} Greeting;

static void take_greeting (GObject *stream, GAsyncResult *result, gpointer data)
{
    Greeting *greeting = data;
    gsize n = 0;
    greeting->done = g_input_stream_read_all_finish (G_INPUT_STREAM (stream), result, &n, NULL)
                     && n == sizeof ready_line - 1 && memcmp (greeting->line, ready_line, n) == 0;
    g_main_loop_quit (greeting->loop);
}

/* Waits until the other side says that it is there, or ssh ends, or it takes too long. */
static gboolean await_ssh (GSubprocess *ssh)
{
    g_autoptr (GMainContext) context = g_main_context_new ();
    Greeting greeting = { .loop = g_main_loop_new (context, FALSE) };
    g_autoptr (GSource) late = g_timeout_source_new (TUNNEL_TIMEOUT_MS);
    g_main_context_push_thread_default (context);
    g_source_set_callback (late, kill_late, ssh, NULL);
    g_source_attach (late, context);
    g_input_stream_read_all_async (g_subprocess_get_stdout_pipe (ssh), greeting.line,
                                   sizeof ready_line - 1, G_PRIORITY_DEFAULT, NULL, take_greeting,
                                   &greeting);
    g_main_loop_run (greeting.loop);
    g_source_destroy (late);
    g_main_context_pop_thread_default (context);
    g_main_loop_unref (greeting.loop);
    return greeting.done;
}

static gboolean forward (Source *source, GUri *uri, const char *there, GError **error)
{
    g_autoptr (GError) why = NULL;
    source->dir = g_dir_make_tmp ("libbackup-XXXXXX", &why);
    if (!source->dir)
        return error_set (error, BAK_ERROR_IO, "%s", why->message);
    source->socket = g_build_filename (source->dir, "nbd.sock", NULL);
    g_autoptr (GPtrArray) words = ssh_words (uri, source->socket, there);
    source->ssh =
        g_subprocess_newv ((const char *const *) words->pdata,
                           G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &why);
    if (!source->ssh)
        return error_set (error, BAK_ERROR_CONNECTION, _("cannot run '%s': %s"),
                          (char *) words->pdata[0], why->message);
    return await_ssh (source->ssh)
           || error_set (error, BAK_ERROR_CONNECTION,
                         _("ssh to '%s' does not forward the export's socket '%s'"),
                         g_uri_get_host (uri), there);
}

/* all ways */

static gboolean take_address (Source *source, GUri *uri, const char *server, GError **error)
{
    g_autoptr (GUri) parsed = server ? g_uri_parse (server, G_URI_FLAGS_NONE, NULL) : NULL;
    g_autofree char *socket = parsed ? parameter (g_uri_get_query (parsed), "socket") : NULL;
    Reach reach = reach_of (uri);
    if (socket && reach == REACH_SSH)
        return forward (source, uri, socket, error);
    if (socket && reach == REACH_LOCAL) {
        source->socket = g_steal_pointer (&socket);
        return TRUE;
    }
    if (parsed && !socket && reach == REACH_TLS) {
        source->host = g_strdup (g_uri_get_host (parsed));
        source->port = g_uri_get_port (parsed);
        source->tls_dir = parameter (g_uri_get_query (uri), "pkipath");
        if (!source->tls_dir)
            source->tls_dir = config_get_string ("tls_x509_dir");
        return source->tls_dir != NULL
               || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                             _("reading over TLS needs certificates: 'tls_x509_dir' of the "
                                "configuration, or pkipath in the URI"));
    }
    return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                      _("the export at '%s' cannot be read from this host; points are made on the "
                         "guest's host, over qemu+ssh and over qemu+tls"),
                      server ? server : "?");
}

Source *source_open (BakDomain *domain, const BakJob *job, GError **error)
{
    g_autoptr (GUri) uri = uri_of (bak_domain_get_connection (domain));
    Source *source = g_new0 (Source, 1);
    if (take_address (source, uri, bak_job_get_server (job), error))
        return source;
    source_free (source);
    return NULL;
}

void source_for_disk (const Source *source, const BakJobDisk *disk, MoverSource *ret_source)
{
    *ret_source = (MoverSource){ .target = bak_job_disk_get_target (disk),
                                 .fd = -1,
                                 .socket = source->socket,
                                 .host = source->host,
                                 .port = source->port,
                                 .export_name = bak_job_disk_get_export_name (disk),
                                 .tls_dir = source->tls_dir };
}

void source_free (Source *source)
{
    if (!source)
        return;
    if (source->ssh) {
        g_subprocess_force_exit (source->ssh);
        g_subprocess_wait (source->ssh, NULL, NULL);
        g_object_unref (source->ssh);
    }
    if (source->dir)
        files_remove_tree (source->dir);
    g_free (source->dir);
    g_free (source->socket);
    g_free (source->host);
    g_free (source->tls_dir);
    g_free (source);
}
