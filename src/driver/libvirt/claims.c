#include <stdlib.h>
#include <string.h>
#include "driver/claims.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/picture.h"

/* "POOL/VOLUME", as the picture of a disk says. NULL: libvirt does not know it now. */
static char *volume_path (virConnectPtr vir, const char *source)
{
    const char *slash = strchr (source, '/');
    g_autofree char *name = slash ? g_strndup (source, slash - source) : NULL;
    virStoragePoolPtr pool = name ? virStoragePoolLookupByName (vir, name) : NULL;
    virStorageVolPtr volume = pool ? virStorageVolLookupByName (pool, slash + 1) : NULL;
    char *path = volume ? virStorageVolGetPath (volume) : NULL;
    char *copy = g_strdup (path);
    free (path);
    if (volume)
        virStorageVolFree (volume);
    if (pool)
        virStoragePoolFree (pool);
    return copy;
}

static void add_disk (Claims *claims, virConnectPtr vir, const char *guest, const LvDisk *disk)
{
    g_autofree char *volume =
        g_strcmp0 (disk->type, "volume") == 0 ? volume_path (vir, disk->source) : NULL;
    claims_add (claims, guest, volume ? volume : disk->source, FALSE);
    for (guint i = 1; i < disk->chain->len; i++)
        claims_add (claims, guest, disk->chain->pdata[i], TRUE);
}

/* One that goes meanwhile has no images any more. */
static void add_domain (Claims *claims, virConnectPtr vir, virDomainPtr domain)
{
    g_autoptr (LvPicture) picture = lv_picture_load (domain, FALSE, NULL);
    for (guint i = 0; picture && i < picture->disks->len; i++)
        add_disk (claims, vir, picture->name, picture->disks->pdata[i]);
}

gboolean lv_publish_images (LvConn *lv, GError **error)
{
    g_autoptr (Claims) claims = claims_new ();
    g_autoptr (virConnect) vir = lv_connect (lv, error);
    virDomainPtr *domains = NULL;
    int count = vir ? virConnectListAllDomains (vir, &domains, 0) : 0;

    if (!vir)
        return FALSE;
    if (count < 0)
        return lv_error (error);
    for (int i = 0; i < count; i++) {
        add_domain (claims, vir, domains[i]);
        virDomainFree (domains[i]);
    }
    free (domains);
    return !lv->local || claims_publish (claims, lv->state_dir, error);
}
