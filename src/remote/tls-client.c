/* The client's side of TLS, and the certificates of both. */
#include <glib/gi18n-lib.h>
#include "remote/tls.h"
#include "util/config.h"
#include "util/error.h"

/* libvirt's names (servercert.pem), else QEMU's (server-cert.pem), so that one directory serves the
 * daemon and its exports. */
static char *pem_file (const char *dir, const char *role, const char *what)
{
    g_autofree char *name = g_strdup_printf ("%s%s.pem", role, what),
                    *other = g_strdup_printf ("%s-%s.pem", role, what);
    g_autofree char *path = g_build_filename (dir, name, NULL),
                    *second = g_build_filename (dir, other, NULL);
    return g_file_test (second, G_FILE_TEST_EXISTS) && !g_file_test (path, G_FILE_TEST_EXISTS)
               ? g_steal_pointer (&second)
               : g_steal_pointer (&path);
}

GTlsCertificate *tls_load_pair (const char *dir, const char *role, GError **error)
{
    g_autofree char *cert = pem_file (dir, role, "cert"), *key = pem_file (dir, role, "key");
    g_autoptr (GError) why = NULL;
    GTlsCertificate *pair = g_tls_certificate_new_from_files (cert, key, &why);
    if (!pair)
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("TLS: cannot use certificate '%s' with key '%s': %s"), cert, key,
                   why->message);
    return pair;
}

GTlsDatabase *tls_load_ca (const char *dir, GError **error)
{
    g_autofree char *ca = pem_file (dir, "ca", "cert");
    g_autoptr (GError) why = NULL;
    GTlsDatabase *database = g_tls_file_database_new (ca, &why);
    if (!database)
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("TLS: cannot use the authority's certificate '%s': %s"), ca, why->message);
    return database;
}

char *tls_dir (const char *dir, GError **error)
{
    char *chosen = dir ? g_strdup (dir) : config_get_string ("tls_x509_dir");
    if (!chosen)
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("TLS: no certificates: set tls_x509_dir in the configuration"));
    else if (!g_tls_backend_supports_tls (g_tls_backend_get_default ())) {
        g_clear_pointer (&chosen, g_free);
        error_set (error, BAK_ERROR_NOT_SUPPORTED,
                   _("TLS: this system's GIO has no TLS module (install glib-networking)"));
    }
    return chosen;
}

static GIOStream *handshake (GSocketConnection *connection, const char *host, GTlsDatabase *ca,
                             GTlsCertificate *pair, GError **error)
{
    g_autoptr (GSocketConnectable) identity = g_network_address_new (host, 0);
    g_autoptr (GIOStream) stream =
        g_tls_client_connection_new (G_IO_STREAM (connection), identity, error);
    char byte = 0;
    if (!stream)
        return NULL;
    g_tls_connection_set_database (G_TLS_CONNECTION (stream), ca);
    g_tls_connection_set_certificate (G_TLS_CONNECTION (stream), pair);
    g_tls_connection_set_require_close_notify (G_TLS_CONNECTION (stream), FALSE);
    if (!g_tls_connection_handshake (G_TLS_CONNECTION (stream), NULL, error))
        return NULL;
    gssize n = g_input_stream_read (g_io_stream_get_input_stream (stream), &byte, 1, NULL, error);
    if (n == 1 && byte == 1)
        return g_steal_pointer (&stream);
    if (n >= 0)
        error_set (error, BAK_ERROR_ACCESS_DENIED,
                   _("the server does not accept our certificate"));
    return NULL;
}

GIOStream *tls_connect (const char *host, int port, const char *dir, GError **error)
{
    g_autofree char *chosen = tls_dir (dir, error);
    g_autoptr (GTlsDatabase) ca = chosen ? tls_load_ca (chosen, error) : NULL;
    g_autoptr (GTlsCertificate) pair = ca ? tls_load_pair (chosen, "client", error) : NULL;
    if (!pair)
        return NULL;
    g_autoptr (GSocketClient) client = g_socket_client_new ();
    g_autoptr (GError) why = NULL;
    g_socket_client_set_timeout (client, TLS_TIMEOUT_SECONDS);
    g_autoptr (GSocketConnection) connection =
        g_socket_client_connect_to_host (client, host, port, NULL, &why);
    GIOStream *stream = connection ? handshake (connection, host, ca, pair, &why) : NULL;
    if (stream) {
        g_socket_set_timeout (g_socket_connection_get_socket (connection), 0);
        return stream;
    }
    error_set (
        error, why && why->domain == BAK_ERROR ? (BakErrorCode) why->code : BAK_ERROR_CONNECTION,
        _("cannot connect to '%s' port %d by TLS: %s"), host, port, why ? why->message : "");
    return NULL;
}
