/* The address of an NBD server as the URI that every NBD client reads. What has a meaning in a URI
 * is percent-encoded, in both ways at this one place. */
#pragma once
#include <glib.h>

typedef struct {
    gboolean tls;
    char *socket; /* NULL: by TCP */
    char *host;
    guint port; /* 0: the default one */
} NbdAddress;

char *nbd_uri_of_socket (gboolean tls, const char *name, const char *socket);
char *nbd_uri_of_host (gboolean tls, const char *host, guint port); /* without an export's name */
/* FALSE: it is none of these. */
gboolean nbd_uri_read (const char *uri, NbdAddress *ret);
void nbd_address_clear (NbdAddress *address);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (NbdAddress, nbd_address_clear)
