#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/both.h"
#include "driver/qemu/definitions.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/same-qemu.h"
#include "job/image.h"
#include "job/journal.h"
#include "util/files.h"

enum { LISTEN_WAIT_MS = 2000, LAYERS_MAX = 1000 };

gboolean both_ways (const GuestDef *def)
{
    return def->qmp && def->images->len > 0;
}

/* ---- whose it is ---- */

gboolean both_nobody_listens (const char *monitor)
{
    MonitorProbe probe = { .address = monitor };

    monitor_probe (&probe, 1, g_path_is_absolute (monitor) ? 0 : LISTEN_WAIT_MS);
    monitor_probe_clear (&probe, 1);
    return probe.state == MONITOR_ABSENT
           && (probe.errnum == ENOENT || probe.errnum == ECONNREFUSED);
}

static gboolean is_named (const GPtrArray *disks, const char *target)
{
    for (guint i = 0; i < disks->len; i++)
        if (g_str_equal (((GuestDiskDef *) disks->pdata[i])->target, target))
            return TRUE;
    return FALSE;
}

/* A disk is called as its image is, under whatever name its QEMU has it. */
static void name_by_images (GuestDef *shape)
{
    for (guint i = 0; i < shape->images->len; i++) {
        const GuestDiskDef *image = shape->images->pdata[i];
        if (g_path_is_absolute (image->id) && !is_named (shape->disks, image->target))
            g_ptr_array_add (shape->disks, guest_disk_def_new (image->target, image->id));
    }
}

static void take_shape (Guest *guest)
{
    g_autoptr (GPtrArray) seen = attach_seen (guest->dir, NULL);
    GuestDef *shape = guest_def_copy (guest->def);

    if (seen) {
        g_ptr_array_unref (shape->images);
        shape->images = g_steal_pointer (&seen);
    }
    if (guest_is_offline (guest))
        g_ptr_array_set_size (shape->disks, 0); /* those are names in QEMU */
    else
        name_by_images (shape);
    guest_def_free (guest->shape);
    guest->shape = shape;
}

/* What a job has begun is ended where it was begun. */
static gboolean is_off_now (Guest *guest)
{
    return offline_running (guest)
           || (!journal_exists (guest->dir) && both_nobody_listens (guest->def->qmp));
}

void both_settle (Guest *guest)
{
    if (!both_ways (guest->def) || guest->qmp || guest->job)
        return;
    g_atomic_int_set (&guest->off, is_off_now (guest));
    take_shape (guest);
}

gboolean both_still_off (Guest *guest)
{
    if (!both_ways (guest->def) || guest->job || both_nobody_listens (guest->def->qmp))
        return TRUE;
    offline_stop (guest);
    g_atomic_int_set (&guest->off, FALSE);
    take_shape (guest);
    return FALSE;
}

/* ---- that it is the same guest ---- */

gboolean both_check_uuid (Guest *guest, GError **error)
{
    g_autofree char *uuid = NULL;
    g_autoptr (GPtrArray) seen = NULL;

    if (!both_ways (guest->def))
        return same_guest_check (guest->qmp, guest->def, guest->def->uuid, error);
    seen = attach_seen (guest->dir, &uuid);
    return same_guest_check (guest->qmp, guest->def, uuid, error);
}

static gboolean has_any (const Graph *graph, const GPtrArray *images)
{
    for (guint i = 0; i < images->len; i++)
        for (guint k = 0; k < graph->nodes->len; k++)
            if (files_same (((GuestDiskDef *) images->pdata[i])->id,
                            ((GraphNode *) graph->nodes->pdata[k])->filename))
                return TRUE;
    return FALSE;
}

/* ---- what it has ---- */

/* The image of a disk as a storage daemon could open it; NULL: only this QEMU can. */
static char *image_of (const Graph *graph, const GraphNode *node, int pid)
{
    const GraphNode *below = node->file ? graph_node (graph, node->file) : NULL;
    gboolean local =
        !below || g_str_equal (below->driver, "file") || g_str_equal (below->driver, "host_device");

    if (!local || node->encrypted || !*node->filename || !image_format_known (node->driver)
        || g_str_has_prefix (node->filename, "json:"))
        return NULL;
    if (g_path_is_absolute (node->filename))
        return g_strdup (node->filename);
    g_autofree char *link = g_strdup_printf ("/proc/%d/cwd", pid);
    g_autofree char *folder = g_file_read_link (link, NULL);
    char *path = folder ? g_canonicalize_filename (node->filename, folder) : NULL;
    if (path && !g_file_test (path, G_FILE_TEST_EXISTS))
        g_clear_pointer (&path, g_free);
    return path;
}

/* The disks that a backup of the guest would hold; one that lies nowhere here has no image (""). */
static GPtrArray *images_of (const Graph *graph, int pid, GPtrArray *formats)
{
    GPtrArray *images = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_disk_def_free);

    for (guint i = 0; i < graph->disks->len; i++) {
        const GraphDisk *disk = graph->disks->pdata[i];
        const GraphNode *node = disk->node ? graph_node (graph, disk->node) : NULL;
        if (disk->elsewhere ? FALSE : !node || graph_disk_excluded (disk) != NULL)
            continue;
        g_autofree char *file = node ? image_of (graph, node, pid) : NULL;
        g_ptr_array_add (images, guest_disk_def_new (disk->target, file ? file : ""));
        g_ptr_array_add (formats, g_strdup (file ? node->driver : ""));
    }
    return images;
}

static gboolean is_known (const char *dir, const GPtrArray *seen, const GPtrArray *now,
                          const GPtrArray *formats)
{
    for (guint i = 0; seen && seen->len == now->len && i < now->len; i++) {
        const GuestDiskDef *one = seen->pdata[i], *other = now->pdata[i];
        g_autofree char *format = attach_image_format (dir, other->target);
        if (!g_str_equal (one->target, other->target) || !g_str_equal (one->id, other->id)
            || g_strcmp0 (format ? format : "", formats->pdata[i]) != 0)
            return FALSE;
    }
    return seen && seen->len == now->len;
}

gboolean both_note (Guest *guest, const Graph *graph, GError **error)
{
    if (!both_ways (guest->def) || guest_is_offline (guest) || guest->job || guest->lock_fd < 0
        || journal_exists (guest->dir))
        return TRUE;
    g_autofree char *uuid = NULL;
    g_autoptr (GPtrArray) seen = attach_seen (guest->dir, &uuid);
    g_autoptr (GPtrArray) formats = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GPtrArray) now = images_of (graph, qmp_get_peer_pid (guest->qmp), formats);
    if (!seen && !has_any (graph, guest->def->images))
        return error_set (error, BAK_ERROR_INEXACT,
                          _("another guest is at the monitor '%s': it has none of the images that "
                             "'%s' was attached with; detach '%s' and attach it anew"),
                          guest->def->qmp, guest->def->name, guest->def->name);
    if (is_known (guest->dir, seen, now, formats))
        return TRUE;
    if (!uuid)
        uuid = same_guest_uuid (guest->qmp);
    return attach_note_seen (guest->dir, uuid, now, (const char *const *) formats->pdata, error);
}

/* ---- attach ---- */

static gboolean stands_on (const Graph *graph, const GraphDisk *disk, const char *file)
{
    const GraphNode *node = disk->node ? graph_node (graph, disk->node) : NULL;

    return node && files_same (node->filename, file);
}

static gboolean match_one (const GuestDef *def, const GuestDiskDef *image, const Graph *graph,
                           GPtrArray *formats, GError **error)
{
    g_autoptr (GString) known = g_string_new (NULL);

    for (guint i = 0; i < graph->disks->len; i++) {
        const GraphDisk *disk = graph->disks->pdata[i];
        const GraphNode *node = disk->node ? graph_node (graph, disk->node) : NULL;
        if (stands_on (graph, disk, image->id)) {
            g_ptr_array_add (formats, g_strdup (node->driver));
            return TRUE;
        }
        if (node && *node->filename)
            g_string_append_printf (known, "%s%s", known->len ? ", " : "", node->filename);
    }
    g_autofree char *shown = text_sanitize (known->str, 1024);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("disk '%s': the QEMU at '%s' has no disk whose image is '%s'; it has: %s"),
                      image->target, def->qmp, image->id, *shown ? shown : _("none"));
}

static void use_given_names (GPtrArray *images, const Graph *graph, const GPtrArray *named)
{
    for (guint i = 0; i < named->len; i++) {
        const GuestDiskDef *want = named->pdata[i];
        const GraphDisk *disk = graph_disk (graph, want->id, NULL);
        for (guint k = 0; disk && k < images->len; k++) {
            GuestDiskDef *image = images->pdata[k];
            if (!g_str_equal (image->target, disk->target))
                continue;
            g_free (image->target);
            image->target = g_strdup (want->target);
            break;
        }
    }
}

gboolean both_match (GuestDef *def, const Graph *graph, int pid, gboolean find, GPtrArray *formats,
                     GError **error)
{
    for (guint i = 0; i < def->images->len; i++)
        if (!match_one (def, def->images->pdata[i], graph, formats, error))
            return FALSE;
    if (!find || def->images->len > 0)
        return TRUE;
    g_autoptr (GPtrArray) found = images_of (graph, pid, formats);
    use_given_names (found, graph, def->disks);
    for (guint i = 0; i < found->len; i++) {
        const GuestDiskDef *image = found->pdata[i];
        if (!*image->id)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s' is no image file or block device of this host that "
                                 "could be read while the guest is off"),
                              image->target);
        g_ptr_array_add (def->images, guest_disk_def_new (image->target, image->id));
    }
    return found->len > 0
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("the QEMU at '%s' has no disk that a backup would hold"), def->qmp);
}
