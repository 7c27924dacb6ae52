/* What guests there are and what they are: libvirt's answers in the contract's form. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/picture.h"
#include "job/checkpoint.h"
#include "job/image-rows.h"
#include "job/record.h"
#include "util/files.h"

static void fill_item (virDomainPtr domain, bak_domain_item *item)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    int state = VIR_DOMAIN_NOSTATE, reason;

    virDomainGetUUIDString (domain, uuid);
    virDomainGetState (domain, &state, &reason, 0);
    item->name = ret_string (virDomainGetName (domain));
    item->uuid = ret_string (uuid);
    item->id = (int) virDomainGetID (domain);
    item->state = state; /* the contract has libvirt's numbers */
    item->has_checkpoint = virDomainListAllCheckpoints (domain, NULL, 0) > 0;
}

gboolean lv_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret, GError **error)
{
    guint flags = (args->flags & LIST_ACTIVE ? VIR_CONNECT_LIST_DOMAINS_ACTIVE : 0)
                  | (args->flags & LIST_INACTIVE ? VIR_CONNECT_LIST_DOMAINS_INACTIVE : 0);
    g_autoptr (virConnect) vir = lv_connect (conn->priv, error);
    virDomainPtr *domains = NULL;
    int count = vir ? virConnectListAllDomains (vir, &domains, flags) : 0;

    if (!vir)
        return FALSE;
    if (count < 0)
        return lv_error (error);
    guint kept = MIN ((guint) count, BAK_DOMAINS_MAX);
    ret->domains.domains_val = ret_array (kept, sizeof (bak_domain_item));
    ret->domains.domains_len = kept;
    for (int i = 0; i < count; i++) {
        if ((guint) i < kept)
            fill_item (domains[i], &ret->domains.domains_val[i]);
        virDomainFree (domains[i]);
    }
    free (domains);
    return TRUE;
}

/* A transient guest that has gone but left records. */
static gboolean lookup_gone (LvConn *lv, const char *name, bak_domain_item *item)
{
    g_autofree char *dir =
        *name && lv_guest_name_check (name, NULL) ? lv_guest_dir (lv, name) : NULL;
    g_autofree char *path = dir ? g_build_filename (dir, "uuid", NULL) : NULL, *uuid = NULL;
    if (!path || !files_read (path, 64, &uuid, NULL, NULL) || !g_uuid_string_is_valid (uuid))
        return FALSE;
    item->name = ret_string (name);
    item->uuid = ret_string (uuid);
    item->id = -1;
    item->state = DOMAIN_STATE_SHUTOFF;
    return TRUE;
}

gboolean lv_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                    GError **error)
{
    g_autoptr (virConnect) vir = lv_connect (conn->priv, error);
    if (!vir)
        return FALSE;
    g_autoptr (virDomain) domain = *args->name ? virDomainLookupByName (vir, args->name)
                                               : virDomainLookupByUUIDString (vir, args->uuid);
    if (!domain && virGetLastErrorCode () == VIR_ERR_NO_DOMAIN
        && lookup_gone (conn->priv, args->name, &ret->domain))
        return TRUE;
    if (!domain)
        return lv_error (error);
    fill_item (domain, &ret->domain);
    return TRUE;
}

static char *hypervisor_version (virDomainPtr domain)
{
    unsigned long number = 0;
    if (virConnectGetVersion (virDomainGetConnect (domain), &number) != 0)
        return g_strdup ("");
    return g_strdup_printf ("%lu.%lu.%lu", number / 1000000, number / 1000 % 1000, number % 1000);
}

void lv_look_at_sizes (DriverConn *conn, virDomainPtr domain)
{
    g_autofree char *dir = lv_guest_dir (conn->priv, virDomainGetName (domain));
    g_autoptr (GPtrArray) records =
        conn->readonly ? g_ptr_array_new () : checkpoint_load_all (dir, NULL);
    g_autoptr (GError) failure = NULL;
    g_autoptr (LvPicture) picture = records->len ? lv_picture_load (domain, TRUE, &failure) : NULL;
    if ((picture && !checkpoints_see_sizes (dir, records, lv_size_in_picture, picture, &failure))
        || failure)
        g_warning ("guest '%s': %s", virDomainGetName (domain), failure->message);
}

gboolean lv_domain_info (DriverConn *conn, const bak_domain_arg *args, bak_domain_info *ret,
                         GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    virDomainInfo info;
    int state, reason = 0;

    if (!domain)
        return FALSE;
    g_autoptr (LvPicture) picture = lv_picture_load (domain, FALSE, error);
    if (!picture)
        return FALSE;
    if (virDomainGetInfo (domain, &info) != 0
        || virDomainGetState (domain, &state, &reason, 0) != 0)
        return lv_error (error);
    lv_look_at_sizes (conn, domain);
    g_autofree char *version = hypervisor_version (domain);
    fill_item (domain, &ret->item);
    ret->reason = reason;
    ret->qemu_version = ret_string (version);
    ret->max_memory = (guint64) info.maxMem * 1024;
    ret->memory = (guint64) info.memory * 1024;
    ret->cpus = info.nrVirtCpu;
    ret->cpu_time = info.cpuTime;
    ret->qmp = ret_string ("");
    ret->agent = ret_string (picture->agent ? "org.qemu.guest_agent.0" : "");
    ret->persistent = picture->persistent;
    ret->images = !picture->active;
    ret->job = ret_string ("");
    return TRUE;
}

gboolean lv_domain_state (DriverConn *conn, const bak_domain_arg *args, bak_state_ret *ret,
                          GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    if (!domain)
        return FALSE;
    return virDomainGetState (domain, &ret->state, &ret->reason, 0) == 0 || lv_error (error);
}

gboolean lv_domain_xml (DriverConn *conn, const bak_domain_arg *args, bak_text_ret *ret,
                        GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    char *xml = domain ? virDomainGetXMLDesc (domain, args->flags) : NULL;
    if (!domain)
        return FALSE;
    if (!xml)
        return lv_error (error);
    lv_look_at_sizes (conn, domain);
    ret->text = xml; /* from malloc, as the contract wants it */
    return TRUE;
}

/* ---- disks ---- */

static char *disk_note (const LvPicture *picture, const LvDisk *disk)
{
    const char *rule = lv_disk_excluded (disk);
    if (rule)
        return g_strdup (rule);
    if (g_strcmp0 (disk->format, "qcow2") != 0)
        return g_strdup_printf (_("format %s: can be backed up, cannot keep a checkpoint"),
                                disk->format);
    if (!picture->active)
        return g_strdup (_("powered off: its image is read by a private storage daemon"));
    return g_strdup ("");
}

static void fill_disk (const LvPicture *picture, const LvDisk *disk, bak_disk *ret)
{
    g_autofree char *note = disk_note (picture, disk);
    guint names = MIN (disk->names->len, BAK_NAMES_MAX);

    ret->target = ret_string (disk->target);
    ret->names.names_len = names;
    ret->names.names_val = ret_array (names, sizeof (bak_path));
    for (guint i = 0; i < names; i++)
        ret->names.names_val[i] = ret_string (disk->names->pdata[i]);
    ret->node = ret_string ("");
    ret->source = ret_string (disk->source);
    ret->type = ret_string (disk->type);
    ret->device = ret_string (disk->device);
    ret->format = ret_string (disk->empty ? "" : disk->format);
    ret->bus = ret_string (disk->bus);
    ret->capacity = disk->capacity;
    ret->allocation = disk->allocation;
    ret->physical = disk->physical;
    ret->readonly = disk->readonly;
    ret->empty = disk->empty;
    ret->removable = !g_str_equal (disk->device, "disk") && !g_str_equal (disk->device, "lun");
    ret->selected = lv_disk_excluded (disk) == NULL;
    ret->iothread = ret_string (disk->iothread);
    ret->depth = disk->chain->len > 0 ? disk->chain->len - 1 : 0;
    ret->note = ret_string (note);
}

gboolean lv_domain_disks (DriverConn *conn, const bak_domain_arg *args, bak_disks_ret *ret,
                          GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    g_autoptr (LvPicture) picture = domain ? lv_picture_load (domain, TRUE, error) : NULL;

    if (!picture)
        return FALSE;
    lv_look_at_sizes (conn, domain);
    ret->disks.disks_len = picture->disks->len;
    ret->disks.disks_val = ret_array (picture->disks->len, sizeof (bak_disk));
    for (guint i = 0; i < picture->disks->len; i++)
        fill_disk (picture, picture->disks->pdata[i], &ret->disks.disks_val[i]);
    return TRUE;
}

gboolean lv_domain_disk (DriverConn *conn, const bak_disk_arg *args, bak_disk_ret *ret,
                         GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    g_autoptr (LvPicture) picture = domain ? lv_picture_load (domain, FALSE, error) : NULL;
    const LvDisk *disk = picture ? lv_picture_disk (picture, args->disk, error) : NULL;

    if (!disk)
        return FALSE;
    if (!disk->empty && !lv_disk_sizes (domain, (LvDisk *) disk))
        return lv_error (error);
    lv_look_at_sizes (conn, domain);
    fill_disk (picture, disk, &ret->disk);
    return TRUE;
}

/* By the files, also while QEMU has them open: libvirt has no call that tells what QEMU knows of
 * them. */
gboolean lv_domain_chain (DriverConn *conn, const bak_disk_arg *args, bak_text_ret *ret,
                          GError **error)
{
    const LvConn *lv = conn->priv;
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    g_autoptr (LvPicture) picture = domain ? lv_picture_load (domain, FALSE, error) : NULL;
    const LvDisk *disk = picture ? lv_picture_disk (picture, args->disk, error) : NULL;

    if (!disk)
        return FALSE;
    if (disk->empty)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is an empty drive"),
                          disk->target);
    if (!lv->local || (!g_str_equal (disk->type, "file") && !g_str_equal (disk->type, "block")))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': through libvirt the images of local files and devices can "
                             "be looked at, not '%s'"),
                          disk->target, disk->source);
    JsonArray *rows = image_rows (disk->source, disk->format, error);
    g_autofree char *text = rows ? image_rows_document (disk->target, FALSE, rows, error) : NULL;
    if (!text)
        return error_note (error, _("disk '%s'"), disk->target);
    ret->text = ret_string (text);
    return TRUE;
}

/* ---- file systems ---- */

gboolean lv_fs_freeze (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                       GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    if (!domain)
        return FALSE;
    ret->count = virDomainFSFreeze (domain, (const char **) args->mounts.mounts_val,
                                    args->mounts.mounts_len, 0);
    return ret->count >= 0 || lv_error (error);
}

gboolean lv_fs_thaw (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                     GError **error)
{
    g_autoptr (virDomain) domain = lv_domain (conn->priv, args->domain, error);
    if (!domain)
        return FALSE;
    ret->count = virDomainFSThaw (domain, (const char **) args->mounts.mounts_val,
                                  args->mounts.mounts_len, 0);
    return ret->count >= 0 || lv_error (error);
}
