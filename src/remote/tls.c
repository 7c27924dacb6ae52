#include <string.h>
#include <glib/gi18n-lib.h>
#include "remote/tls.h"
#include "remote/peer.h"
#include "util/config.h"

struct _TlsListener {
    Server *server;
    GSocketService *service;
    GTlsCertificate *pair;
    GTlsDatabase *ca;
    char *allowed;
    GCancellable *ending;
    guint shaking; /* connections before the end of their handshake */
};

/* One connection until it is a peer. */
typedef struct {
    TlsListener *listener;
    GIOStream *stream;
    GCancellable *cancellable;
    GSource *timeout;
    gulong ending;
    char *from;
} Handshake;

gboolean tls_parse_address (const char *text, GSocketAddress **ret, GError **error)
{
    const char *colon = strrchr (text, ':');
    guint64 port = 0;
    if (!colon || !g_ascii_string_to_unsigned (colon + 1, 10, 1, 65535, &port, NULL))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s': expected ADDRESS:PORT with a port of 1 to 65535"), text);
    g_autofree char *host = g_strndup (text, colon - text);
    gsize length = strlen (host);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        memmove (host, host + 1, length - 1);
    }
    *ret = g_inet_socket_address_new_from_string (*host ? host : "::", port);
    return *ret != NULL
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s': '%s' is not an address"),
                         text, host);
}

static void handshake_free (Handshake *handshake)
{
    g_source_destroy (handshake->timeout);
    g_source_unref (handshake->timeout);
    g_cancellable_disconnect (handshake->listener->ending, handshake->ending);
    handshake->listener->shaking--;
    g_signal_handlers_disconnect_by_data (handshake->stream, handshake);
    g_object_unref (handshake->cancellable);
    g_object_unref (handshake->stream);
    g_free (handshake->from);
    g_free (handshake);
}

static gboolean name_is_allowed (const char *allowed, const char *name)
{
    if (!allowed)
        return TRUE;
    g_auto (GStrv) patterns = g_strsplit (allowed, ";", -1);
    for (guint i = 0; patterns[i]; i++)
        if (g_pattern_match_simple (g_strstrip (patterns[i]), name))
            return TRUE;
    return FALSE;
}

/* NULL with the reason when this client may not come in. */
static Identity *judge (Handshake *handshake, const char **ret_why)
{
    GTlsCertificate *certificate =
        g_tls_connection_get_peer_certificate (G_TLS_CONNECTION (handshake->stream));
    g_autofree char *subject =
        certificate ? g_tls_certificate_get_subject_name (certificate) : NULL;
    if (!subject) {
        *ret_why = "its certificate has no subject";
        return NULL;
    }
    g_autofree char *shown = text_sanitize (subject, 512);
    g_autoptr (Identity) identity = identity_new_tls (shown, handshake->from);
    g_autoptr (Policy) policy = server_get_policy (handshake->listener->server);
    if (name_is_allowed (handshake->listener->allowed, shown) && policy_knows (policy, identity))
        return g_steal_pointer (&identity);
    g_message ("tls: %s from %s is not allowed: no line 'tls:%s ...' in the policy, or "
               "tls_allowed_names leaves it out",
               shown, handshake->from, shown);
    *ret_why = "not allowed";
    return NULL;
}

static void confirmed (GObject *stream, GAsyncResult *result, gpointer data)
{
    Handshake *handshake = data;
    Server *server = handshake->listener->server;
    const char *why = NULL;
    g_autoptr (GError) error = NULL;
    if (g_output_stream_write_all_finish (G_OUTPUT_STREAM (stream), result, NULL, &error)) {
        g_autoptr (Identity) identity = judge (handshake, &why);
        if (identity && !server_accepts_peer (server, identity))
            server_turns_away (server, handshake->from, "too many peers");
        else if (identity)
            server_add_peer_stream (server, handshake->stream, g_steal_pointer (&identity), FALSE);
    }
    handshake_free (handshake);
}

static void shaken (GObject *stream, GAsyncResult *result, gpointer data)
{
    static const char yes = 1;
    Handshake *handshake = data;
    g_autoptr (GError) error = NULL;
    g_autoptr (Identity) identity = NULL;
    const char *why = NULL;
    if (!g_tls_connection_handshake_finish (G_TLS_CONNECTION (stream), result, &error))
        why = error->message;
    else
        identity = judge (handshake, &why);
    if (identity) {
        g_output_stream_write_all_async (g_io_stream_get_output_stream (handshake->stream), &yes, 1,
                                         G_PRIORITY_DEFAULT, handshake->cancellable, confirmed,
                                         handshake);
        return;
    }
    server_turns_away (handshake->listener->server, handshake->from, why);
    g_io_stream_close (handshake->stream, NULL, NULL);
    handshake_free (handshake);
}

/* A server is always asked; what GIO found wrong is in flags. */
static gboolean accept_certificate (GTlsConnection *connection, GTlsCertificate *certificate,
                                    GTlsCertificateFlags flags, gpointer data)
{
    Handshake *handshake = data;
    if (flags == 0)
        return TRUE;
    g_autofree char *subject = g_tls_certificate_get_subject_name (certificate);
    g_autofree char *shown = text_sanitize (subject, 512),
                    *what = g_flags_to_string (G_TYPE_TLS_CERTIFICATE_FLAGS, flags);
    g_message ("tls: the certificate of %s from %s: %s", shown, handshake->from, what);
    return FALSE;
}

static gboolean cancel (gpointer cancellable)
{
    g_cancellable_cancel (cancellable);
    return G_SOURCE_REMOVE;
}

static void listener_ends (GCancellable *ending, gpointer cancellable)
{
    g_cancellable_cancel (cancellable);
}

static char *remote_address (GSocketConnection *connection)
{
    g_autoptr (GSocketAddress) address = g_socket_connection_get_remote_address (connection, NULL);
    return address ? g_socket_connectable_to_string (G_SOCKET_CONNECTABLE (address))
                   : g_strdup ("tcp");
}

static gboolean incoming (GSocketService *service, GSocketConnection *connection, GObject *source,
                          gpointer data)
{
    TlsListener *listener = data;
    const ServerLimits *limits = server_limits (listener->server);
    g_autoptr (GError) error = NULL;
    g_autoptr (GIOStream) stream = NULL;
    if (!server_accepts_peer (listener->server, NULL) || listener->shaking >= limits->max_anonymous
        || !(stream =
                 g_tls_server_connection_new (G_IO_STREAM (connection), listener->pair, &error))) {
        g_autofree char *from = remote_address (connection);
        server_turns_away (listener->server, from, error ? error->message : "too many peers");
        return TRUE;
    }
    g_object_set (stream, "authentication-mode", G_TLS_AUTHENTICATION_REQUIRED, NULL);
    g_tls_connection_set_database (G_TLS_CONNECTION (stream), listener->ca);
    g_tls_connection_set_require_close_notify (G_TLS_CONNECTION (stream), FALSE);

    Handshake *handshake = g_new0 (Handshake, 1);
    handshake->listener = listener;
    handshake->stream = g_steal_pointer (&stream);
    handshake->cancellable = g_cancellable_new ();
    handshake->from = remote_address (connection);
    handshake->ending = g_cancellable_connect (listener->ending, G_CALLBACK (listener_ends),
                                               handshake->cancellable, NULL);
    handshake->timeout = g_timeout_source_new_seconds (limits->open_seconds);
    g_source_set_callback (handshake->timeout, cancel, g_object_ref (handshake->cancellable),
                           g_object_unref);
    g_source_attach (handshake->timeout, server_context (listener->server));
    listener->shaking++;
    g_signal_connect (handshake->stream, "accept-certificate", G_CALLBACK (accept_certificate),
                      handshake);
    g_tls_connection_handshake_async (G_TLS_CONNECTION (handshake->stream), G_PRIORITY_DEFAULT,
                                      handshake->cancellable, shaken, handshake);
    return TRUE;
}

gboolean tls_listener_reload (TlsListener *listener, const char *dir, const char *allowed,
                              GError **error)
{
    g_autofree char *chosen = tls_dir (dir, error);
    g_autoptr (GTlsDatabase) ca = chosen ? tls_load_ca (chosen, error) : NULL;
    g_autoptr (GTlsCertificate) pair = ca ? tls_load_pair (chosen, "server", error) : NULL;
    if (!pair)
        return FALSE;
    g_set_object (&listener->pair, pair);
    g_set_object (&listener->ca, ca);
    g_free (listener->allowed);
    listener->allowed = g_strdup (allowed);
    return TRUE;
}

gboolean tls_check (const char *address, GError **error)
{
    g_autoptr (GSocketAddress) where = NULL;
    TlsListener listener = { 0 };
    gboolean ok = tls_parse_address (address, &where, error)
                  && tls_listener_reload (&listener, NULL, NULL, error);
    g_clear_object (&listener.pair);
    g_clear_object (&listener.ca);
    return ok;
}

TlsListener *tls_listen (Server *server, const char *address, const char *dir, const char *allowed,
                         GError **error)
{
    g_autoptr (GSocketAddress) where = NULL;
    g_autoptr (GError) why = NULL;
    if (!tls_parse_address (address, &where, error))
        return NULL;
    TlsListener *listener = g_new0 (TlsListener, 1);
    listener->server = server;
    listener->ending = g_cancellable_new ();
    listener->service = g_socket_service_new ();
    g_socket_listener_set_backlog (G_SOCKET_LISTENER (listener->service), 128);
    gboolean ok = tls_listener_reload (listener, dir, allowed, error);
    if (ok
        && !g_socket_listener_add_address (G_SOCKET_LISTENER (listener->service), where,
                                           G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL, NULL,
                                           &why))
        ok =
            error_set (error, BAK_ERROR_IO, _("cannot listen on '%s': %s"), address, why->message);
    if (!ok) {
        tls_listener_free (listener);
        return NULL;
    }
    g_signal_connect (listener->service, "incoming", G_CALLBACK (incoming), listener);
    g_socket_service_start (listener->service);
    return listener;
}

void tls_listener_free (TlsListener *listener)
{
    if (!listener)
        return;
    g_socket_service_stop (listener->service);
    g_socket_listener_close (G_SOCKET_LISTENER (listener->service));
    g_cancellable_cancel (listener->ending);
    while (listener->shaking > 0)
        g_main_context_iteration (server_context (listener->server), TRUE);
    g_object_unref (listener->service);
    g_clear_object (&listener->pair);
    g_clear_object (&listener->ca);
    g_object_unref (listener->ending);
    g_free (listener->allowed);
    g_free (listener);
}
