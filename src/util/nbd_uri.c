#include <string.h>
#include "util/nbd_uri.h"

char *nbd_uri_of_socket (gboolean tls, const char *name, const char *socket)
{
    g_autofree char *path = g_uri_escape_string (name ? name : "", "/:@+,=", FALSE),
                    *query = g_uri_escape_string (socket, "/", FALSE);
    return g_strdup_printf ("nbd%s+unix:///%s?socket=%s", tls ? "s" : "", path, query);
}

char *nbd_uri_of_host (gboolean tls, const char *host, guint port)
{
    g_autofree char *shown = g_uri_escape_string (host, ":", FALSE);
    return g_strdup_printf (strchr (host, ':') ? "nbd%s://[%s]:%u" : "nbd%s://%s:%u",
                            tls ? "s" : "", shown, port);
}

void nbd_address_clear (NbdAddress *address)
{
    g_free (address->socket);
    g_free (address->host);
}

gboolean nbd_uri_read (const char *uri, NbdAddress *ret)
{
    g_autoptr (GUri) parsed = g_uri_parse (uri, G_URI_FLAGS_NONE, NULL);
    const char *query = parsed ? g_uri_get_query (parsed) : NULL;
    if (!parsed || !g_str_has_prefix (g_uri_get_scheme (parsed), "nbd"))
        return FALSE;
    ret->tls = g_str_has_prefix (g_uri_get_scheme (parsed), "nbds");
    if (query && g_str_has_prefix (query, "socket="))
        ret->socket = g_strdup (query + strlen ("socket="));
    ret->host = g_strdup (g_uri_get_host (parsed));
    ret->port = MAX (0, g_uri_get_port (parsed));
    return ret->socket || (ret->host && *ret->host);
}
