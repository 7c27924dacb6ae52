/* What a target is made as: what was asked for, checked against what the format and this QEMU can,
 * and put into QEMU's words. */
#include <glib/gi18n-lib.h>
#include "conf/format_def.h"
#include "driver/qemu/planner.h"
#include "driver/qemu/protocols.h"

/* ---- what was asked for ---- */

static gboolean is_none (const char *word)
{
    return !word || g_str_equal (word, "none") || g_str_equal (word, "off");
}

static guint asked_for (const BackupDiskDef *def)
{
    if (!def)
        return 0;
    return (def->cluster_size ? FORMAT_CLUSTER_SIZE : 0)
           | (is_none (def->compression) ? 0 : FORMAT_COMPRESSION)
           | (def->compat ? FORMAT_COMPAT : 0)
           | (def->extended_l2 == TRISTATE_YES ? FORMAT_EXTENDED_L2 : 0)
           | (is_none (def->preallocation) ? 0 : FORMAT_PREALLOCATION)
           | (def->subformat ? FORMAT_SUBFORMAT : 0);
}

static gboolean takes_options (const Item *item, const FormatDef *format, GError **error)
{
    guint strange = asked_for (item->def) & ~format->options;
    gboolean known =
        !item->def || !item->def->subformat
        || (format->subformats && g_strv_contains (format->subformats, item->def->subformat));

    if (strange == FORMAT_COMPRESSION)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': compression needs format qcow2, not '%s'"),
                          item->disk->target, format->name);
    if (strange)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': format '%s' has no %s"),
                          item->disk->target, format->name,
                          format_option_to_string (strange & -strange));
    if (known)
        return TRUE;
    g_autofree char *words = g_strjoinv (", ", (char **) format->subformats);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("disk '%s': format '%s' has the subformats %s, not '%s'"),
                      item->disk->target, format->name, words, item->def->subformat);
}

/* ---- what it can hold ---- */

static gboolean holds_disk (const Item *item, const FormatDef *format, GError **error)
{
    guint64 max = format_def_max (format, item->def ? item->def->cluster_size : 0,
                                  item->def && item->def->extended_l2 == TRISTATE_YES);

    return max == 0 || item->disk->size <= max
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("disk '%s' has %" G_GUINT64_FORMAT
                            " bytes, and format '%s' holds %" G_GUINT64_FORMAT " at most%s"),
                         item->disk->target, item->disk->size, format->name, max,
                         format->options & FORMAT_CLUSTER_SIZE ? _(" with this cluster size")
                                                               : "");
}

/* ---- what this QEMU can ---- */

static gboolean fits_version (Planner *p, const Item *item, GError **error)
{
    const BackupDiskDef *def = item->def;
    const char *compression = def ? def->compression : NULL;
    gboolean zstd = g_strcmp0 (compression, "zstd") == 0,
             extended = def && def->extended_l2 == TRISTATE_YES;

    if (def && g_strcmp0 (def->compat, "0.10") == 0 && (zstd || extended))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': %s needs compat 1.1"),
                          item->disk->target, zstd ? "compression zstd" : "extended_l2");
    if (!is_none (compression) && (!p->caps->backup_compress || (zstd && !p->caps->qcow2_zstd)))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': this QEMU cannot compress a backup with %s (%s)"),
                          item->disk->target, compression,
                          zstd ? _("since 5.1") : _("since 2.8"));
    if (extended && !p->caps->qcow2_extended_l2 && !is_helped (&item->target))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': this QEMU cannot make images with extended_l2 (since 5.2)"),
            item->disk->target);
    return TRUE;
}

static gboolean is_plain (const FormatDef *format)
{
    return g_str_equal (format->name, "raw") || g_str_equal (format->name, "qcow2");
}

/* raw and qcow2 are everywhere; the others are made by blockdev-create, and not built into every
 * QEMU. */
static gboolean has_driver (Planner *p, const Item *item, const FormatDef *format, GError **error)
{
    gboolean listed =
        g_hash_table_size (p->caps->drivers) == 0 || caps_has_driver (p->caps, format->name);

    if (format->loses_parts && !p->caps->reopen)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': QEMU %s loses data when two writes go to one part of a "
                             "'%s' at once, as they do under a writing guest (seen on 5.2); use "
                             "another format"),
                          item->disk->target, p->caps->version_text ? p->caps->version_text : "?",
                          format->name);
    if (is_helped (&item->target)) /* a QEMU of ours makes it */
        return TRUE;
    if (is_plain (format)
        && (p->caps->blockdev_create || (asked_for (item->def) & ~FORMAT_COMPRESSION) == 0))
        return TRUE;
    if (!p->caps->blockdev_create || !listed)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': this QEMU (%s) cannot make an image of format '%s' so%s"),
                          item->disk->target, p->caps->version_text ? p->caps->version_text : "?",
                          format->name, listed ? _(" (blockdev-create, since 3.0)") : "");
    return TRUE;
}

static gboolean proves_flush (Planner *p, const Item *item, const FormatDef *format, GError **error)
{
    if (format->proves_flush)
        return TRUE;
    if (!(p->in->flags & BEGIN_ALLOW_UNPROVED))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': QEMU cannot show that an image of format '%s' was flushed: the copy "
               "would "
               "be unproved; use another format, or allow that with --allow-unproved"),
            item->disk->target, format->name);
    planner_note (
        p,
        _("disk '%s': durability: unproved: QEMU cannot show that an image of format '%s' "
           "was flushed"),
        item->disk->target, format->name);
    return TRUE;
}

/* ---- entries ---- */

/* It takes whole clusters, each once: what a copy job writes when it compresses. */
gboolean is_stream (const Item *item)
{
    return item->def && g_strcmp0 (item->def->subformat, "streamOptimized") == 0;
}

gboolean loses_parts (const Item *item)
{
    const FormatDef *format = format_def_find (item->target.format);
    return format && format->loses_parts;
}

static gboolean check_encryption (const Item *item, GError **error)
{
    const EncryptionDef *encryption = item->target.store->encryption;
    gboolean luks = g_str_equal (item->target.format, "luks"),
             qcow2 = g_str_equal (item->target.format, "qcow2");

    if (!encryption)
        return !luks
               || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                             _("disk '%s': format luks needs a pass phrase: <encryption "
                                "format='luks'>, --encrypt luks:FILE"),
                             item->disk->target);
    if (!luks && !qcow2)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': format '%s' cannot be encrypted; luks and qcow2 can"),
                          item->disk->target, item->target.format);
    if (!encryption->secret_file)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': a pass phrase is in a file here (<secret "
               "type='passphrase' file=''/>); only libvirt knows it by uuid or usage"),
            item->disk->target);
    if (encryption->cipher_xml || encryption->ivgen_xml)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': <cipher> and <ivgen> are libvirt's; QEMU's defaults are "
                             "used here"),
                          item->disk->target);
    return TRUE;
}

/* The image is behind an NBD export of the disk's size. */
static gboolean check_options (const Item *item, GError **error)
{
    const BackupDiskDef *def = item->def;
    const char *compression = def ? def->compression : NULL;

    if ((compression && !g_str_equal (compression, "none")) || is_stream (item))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': an image that is encrypted, or on a server other than NBD, "
               "cannot be compressed while it is written"),
            item->disk->target);
    if (loses_parts (item))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': QEMU loses data when two writes go to one part of a '%s' at "
               "once, which a server in between does not avoid; use another format"),
            item->disk->target, item->target.format);
    if (def && def->backing)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': an increment that is encrypted, or on a server, stands "
                             "alone; it cannot be laid on '%s'"),
                          item->disk->target, def->backing);
    return TRUE;
}

static gboolean check_helped (Planner *p, const Item *item, GError **error)
{
    const StoreDef *store = item->target.store;
    const ProtocolRow *row = protocol_row (store);

    if (row && !row->proved)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': targets over %s are not supported yet; use nbd, ssh, "
                             "iscsi, nfs, rbd, file or "
                             "block"),
                          item->disk->target, store_protocol_to_string (store->protocol));
    if (!check_encryption (item, error))
        return FALSE;
    if (!is_helped (&item->target))
        return TRUE;
    if (!p->caps->blockdev_add_flat)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': this QEMU (%s) cannot be given an NBD target that can be "
                             "cut off (2.9)"),
                          item->disk->target, p->caps->version_text ? p->caps->version_text : "?");
    if (row && !row->check (store, error))
        return error_note (error, _("disk '%s'"), item->disk->target);
    return check_options (item, error);
}

gboolean check_format (Planner *p, const Item *item, GError **error)
{
    const FormatDef *format = format_def_find (item->target.format);
    g_autofree char *names = format ? NULL : format_def_names ();

    if (!format)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': format '%s' is not known; there are %s"),
                          item->disk->target, item->target.format, names);
    if (format->refused)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': format '%s' cannot be a target: %s"), item->disk->target,
                          format->name, _(format->refused));
    if (!check_helped (p, item, error))
        return FALSE;
    if (item->sync == SYNC_INCREMENTAL && !format->tells_changes
        && !(p->in->flags & BEGIN_REUSE_EXTERNAL))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': an increment in a new %s file cannot tell what changed "
                             "from what did not; "
                             "use qcow2, or --reuse-external with the previous %s backup"),
                          item->disk->target, format->name, format->name);
    return takes_options (item, format, error) && holds_disk (item, format, error)
           && fits_version (p, item, error) && has_driver (p, item, format, error)
           && proves_flush (p, item, format, error);
}

gboolean check_way (const Item *item, GError **error)
{
    gboolean mirrored = item->way == WAY_MIRROR || item->way == WAY_AT_END,
             once = !mirrored && item->sync != SYNC_NONE;

    if (mirrored && loses_parts (item))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': QEMU loses data when two writes go to one part of a '%s' at "
               "once, which a mirror does not avoid; use another format, or the "
               "instant of the begin"),
            item->disk->target, item->target.format);
    return once || !is_stream (item)
           || error_set (error, BAK_ERROR_NOT_SUPPORTED,
                         _("disk '%s': a streamOptimized vmdk takes each part once, in whole, "
                            "which this backup cannot promise; use monolithicSparse"),
                         item->disk->target);
}

guint64 target_cluster (const Item *item)
{
    const FormatDef *format =
        is_helped (&item->target) ? NULL : format_def_find (item->target.format);

    return format ? format_def_cluster (format, item->disk->size,
                                        item->def ? item->def->cluster_size : 0)
                  : 0;
}

gboolean proves_by_reopen (const Item *item)
{
    const FormatDef *format = format_def_find (item->target.format);
    return is_helped (&item->target) || (format && format->proves_flush);
}

/* Of blockdev-create. */
JsonObject *create_options (const Item *item, const Place *place, const char *file)
{
    const BackupDiskDef *def = place->scratch ? NULL : item->def;
    JsonObject *options = obj ("driver", "s", place->format, "file", "s", file, "size", "i",
                               (gint64) item->disk->size, NULL);

    if (def && def->cluster_size)
        json_object_set_int_member (options, "cluster-size", def->cluster_size);
    if (def && g_strcmp0 (def->compression, "zstd") == 0)
        json_object_set_string_member (options, "compression-type", "zstd");
    if (def && def->compat)
        json_object_set_string_member (options, "version",
                                       g_str_equal (def->compat, "0.10") ? "v2" : "v3");
    if (def && def->extended_l2 == TRISTATE_YES)
        json_object_set_boolean_member (options, "extended-l2", TRUE);
    if (def && !is_none (def->preallocation))
        json_object_set_string_member (options, "preallocation", def->preallocation);
    if (def && def->subformat)
        json_object_set_string_member (options, "subformat", def->subformat);
    /* else the size is rounded to what a disk of cylinders and heads can have */
    if (g_str_equal (place->format, "vpc"))
        json_object_set_boolean_member (options, "force-size", TRUE);
    if (def && def->backing && item->sync == SYNC_INCREMENTAL) {
        g_autofree char *name = plan_backing_name (place->store->path, def->backing);
        json_object_set_string_member (options, "backing-file", name);
        json_object_set_string_member (options, "backing-fmt", "qcow2");
    }
    return options;
}
