/* Opening, and opening again: libvirtd may be restarted at any time, and a job of ours outlives
 * that. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/lv.h"
#include "util/config.h"

enum { KEEPALIVE_SECONDS = 5, KEEPALIVE_COUNT = 4, OPEN_SECONDS = 20, GUEST_NAME_MAX = 200 };

gboolean lv_uri_is_local (const char *uri)
{
    g_autofree char *scheme = g_uri_parse_scheme (uri);
    const char *rest = scheme ? uri + strlen (scheme) + 1 : NULL;
    const char *transport = scheme ? strchr (scheme, '+') : NULL;

    if (!rest || !g_str_has_prefix (rest, "//"))
        return FALSE;
    if (transport && !g_str_equal (transport, "+unix"))
        return FALSE;
    return rest[2] == '/' || rest[2] == '\0';
}

char *lv_uri_hash (const char *uri)
{
    g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, uri, -1);
    return g_strndup (sum, 8);
}

gboolean lv_guest_name_check (const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 128);
    if (*name && strlen (name) <= GUEST_NAME_MAX && !strchr (name, '/') && !g_str_equal (name, ".")
        && !g_str_equal (name, ".."))
        return TRUE;
    return error_set (error, BAK_ERROR_NO_DOMAIN,
                      _("no guest '%s': a name has 1 to %d bytes and no '/'"), shown,
                      GUEST_NAME_MAX);
}

char *lv_guest_dir (LvConn *lv, const char *name)
{
    return g_build_filename (lv->state_dir, "guests", name, NULL);
}

/* Nobody is there to be asked: what libvirt's own auth.conf does not say is refused. */
static int refuse_credentials (virConnectCredentialPtr credentials, unsigned int count, void *data)
{
    return -1;
}

/* libvirt has no deadline for it: a daemon that hangs is left to a thread that closes what may come
 * of it one day. */
typedef struct {
    gint refs;
    char *uri;
    guint flags;
    GMutex lock;
    GCond ready;
    gboolean done;
    virConnectPtr vir;
    GError *error;
} Opening;

static void opening_unref (Opening *opening)
{
    if (!g_atomic_int_dec_and_test (&opening->refs))
        return;
    lv_connect_close (opening->vir);
    g_clear_error (&opening->error);
    g_mutex_clear (&opening->lock);
    g_cond_clear (&opening->ready);
    g_free (opening->uri);
    g_free (opening);
}

static gpointer open_apart (gpointer data)
{
    static int types[] = { VIR_CRED_AUTHNAME, VIR_CRED_PASSPHRASE };
    static virConnectAuth auth = { types, G_N_ELEMENTS (types), refuse_credentials, NULL };
    Opening *opening = data;
    virConnectPtr vir = virConnectOpenAuth (opening->uri, &auth, opening->flags);

    g_mutex_lock (&opening->lock);
    opening->vir = vir;
    if (!vir)
        lv_error (&opening->error);
    opening->done = TRUE;
    g_cond_signal (&opening->ready);
    g_mutex_unlock (&opening->lock);
    opening_unref (opening);
    return NULL;
}

static virConnectPtr open_in_time (LvConn *lv, GError **error)
{
    gint64 most = config_get_int ("monitor_timeout", 0),
           seconds = most > 0 ? MIN (most, OPEN_SECONDS) : OPEN_SECONDS;
    gint64 deadline = g_get_monotonic_time () + seconds * G_USEC_PER_SEC;
    Opening *opening = g_new0 (Opening, 1);
    gboolean in_time = TRUE;

    opening->refs = 2;
    opening->uri = g_strdup (lv->uri);
    opening->flags = lv->conn->readonly ? VIR_CONNECT_RO : 0;
    g_mutex_init (&opening->lock);
    g_cond_init (&opening->ready);
    g_thread_unref (g_thread_new ("libvirt-open", open_apart, opening));
    g_mutex_lock (&opening->lock);
    while (!opening->done && in_time)
        in_time = g_cond_wait_until (&opening->ready, &opening->lock, deadline);
    virConnectPtr vir = g_steal_pointer (&opening->vir);
    if (opening->error)
        g_propagate_error (error, g_steal_pointer (&opening->error));
    else if (!vir)
        error_set (error, BAK_ERROR_CONNECTION,
                   _("libvirt does not answer for %d seconds: its daemon seems to hang"),
                   (int) seconds);
    g_mutex_unlock (&opening->lock);
    opening_unref (opening);
    return vir;
}

virConnectPtr lv_connect (LvConn *lv, GError **error)
{
    g_mutex_lock (&lv->lock);
    if (lv->vir && virConnectIsAlive (lv->vir) != 1) {
        lv->listen (lv, FALSE);
        virConnectClose (lv->vir);
        lv->vir = NULL;
    }
    if (!lv->vir) {
        lv->vir = open_in_time (lv, error);
        if (lv->vir) {
            lv->opened++;
            lv_error_quiet (lv->vir);
            virConnectSetKeepAlive (lv->vir, KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
            lv->listen (lv, TRUE);
        }
    }
    virConnectPtr vir = lv->vir;
    if (vir)
        virConnectRef (vir);
    g_mutex_unlock (&lv->lock);
    if (!vir) {
        g_autofree char *shown = text_sanitize (lv->uri, 256);
        error_note (error, _("cannot connect to '%s'"), shown);
    }
    return vir;
}

guint lv_connection_number (LvConn *lv)
{
    g_mutex_lock (&lv->lock);
    guint number = lv->opened;
    g_mutex_unlock (&lv->lock);
    return number;
}

virDomainPtr lv_domain (LvConn *lv, const char *name, GError **error)
{
    if (!lv_guest_name_check (name, error))
        return NULL;
    g_autoptr (virConnect) vir = lv_connect (lv, error);
    if (!vir)
        return NULL;
    virDomainPtr domain = virDomainLookupByName (vir, name);
    if (!domain)
        lv_error (error);
    return domain;
}
