#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "util/files.h"
#include "util/library.h"
#include "util/nbd.h"

#define SONAME "libnbd.so.0"
LIBRARY_NOTE (note, SONAME, "nbd", "NBD: pulls, targets over the network, restore points");

LibNbd libnbd;

gboolean nbd_load (GError **error)
{
#define SYMBOL(name) { "nbd_" #name, (gpointer *) &libnbd.name },
    static const LibrarySymbol symbols[] = { NBD_FUNCTIONS (SYMBOL) };
    static Library library = { SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error);
}

gboolean nbd_failed (const char *what, GError **error)
{
    const char *message = libnbd.get_error ();
    g_autofree char *text = text_sanitize (message ? message : "?", 512);
    return error_set (error, libnbd.get_errno () == ETIMEDOUT ? BAK_ERROR_TIMEOUT : BAK_ERROR_IO,
                      "%s: %s", what, text);
}

static char *psk_user (const char *path)
{
    g_autofree char *text = NULL;
    if (!files_read (path, 65536, &text, NULL, NULL))
        return NULL;
    char *colon = strchr (text, ':');
    return colon ? g_strndup (text, colon - text) : NULL;
}

gboolean nbd_use_tls (struct nbd_handle *nbd, const char *folder, gboolean psk, gboolean verify,
                      GError **error)
{
    if (libnbd.set_tls (nbd, LIBNBD_TLS_REQUIRE) != 0)
        return nbd_failed (_("TLS"), error);
    if (!psk)
        return (libnbd.set_tls_certificates (nbd, folder) == 0
                && libnbd.set_tls_verify_peer (nbd, verify) == 0)
               || nbd_failed (_("TLS"), error);
    g_autofree char *path = g_build_filename (folder, "keys.psk", NULL);
    g_autofree char *user = psk_user (path);
    return (user && libnbd.set_tls_username (nbd, user) == 0
            && libnbd.set_tls_psk_file (nbd, path) == 0)
           || nbd_failed (_("TLS"), error);
}
