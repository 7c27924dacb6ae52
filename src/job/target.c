#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <glib/gi18n-lib.h>
#include "job/target.h"
#include "job/chain-text.h"
#include "util/json.h"

enum { EXTENTS = 256 };

/* What is written stays where it was written there, zeroes too; a server may make holes of them.
 * In memory there are no extents to be asked for, but every page that was written counts. */
static const struct {
    guint32 magic;
    gboolean extents;
} tells[] = {
    { EXT4_SUPER_MAGIC, TRUE },      { XFS_SUPER_MAGIC, TRUE },  { BTRFS_SUPER_MAGIC, TRUE },
    { OVERLAYFS_SUPER_MAGIC, TRUE }, { F2FS_SUPER_MAGIC, TRUE }, { TMPFS_MAGIC, FALSE },
};

gboolean target_check (const char *path, const char *format, guint64 wanted, GError **error)
{
    g_autofree char *text = chain_text (path, format, CHAIN_ASK, error);
    g_autoptr (JsonNode) node = text ? json_read (text, -1, error) : NULL;
    if (!node)
        return error_note (error, _("target '%s' does not open"), path);
    JsonArray *chain = JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    gint64 size = chain ? json_get_int (json_get_element (chain, 0), "virtual-size", -1) : -1;
    gboolean whole =
        size >= 0
        && (g_str_equal (format, "raw") ? (guint64) size >= wanted : (guint64) size == wanted);
    return whole
           || error_set (error, BAK_ERROR_IO,
                         _("target '%s' has %" G_GINT64_FORMAT
                            " bytes, the disk %" G_GUINT64_FORMAT ": somebody has cut it"),
                         path, size, wanted);
}

/* Where the next extent at or after *at begins; *at becomes its end. -1: the file system does not
 * tell; size: there is none. */
static gint64 next_extent (struct fiemap *map, int fd, guint64 *at, guint *used, guint64 size)
{
    if (*used == map->fm_mapped_extents) {
        guint count = EXTENTS;
        *map = (struct fiemap){ .fm_start = *at,
                                .fm_length = size - *at,
                                .fm_extent_count = count,
                                .fm_flags = FIEMAP_FLAG_SYNC };
        if (ioctl (fd, FS_IOC_FIEMAP, map) != 0)
            return -1;
        *used = 0;
    }
    if (map->fm_mapped_extents == 0)
        return size;
    const struct fiemap_extent *extent = &map->fm_extents[(*used)++];
    guint64 begin = extent->fe_logical;
    *at = begin + extent->fe_length;
    return begin;
}

/* The first place that has never been written, or has been cut off and came back; size: there is
 * none; -1: it cannot be told. */
static gint64 first_gap (int fd, guint64 gap, guint64 size)
{
    g_autofree struct fiemap *map =
        g_malloc0 (sizeof *map + EXTENTS * sizeof (struct fiemap_extent));
    guint64 at = 0;
    guint used = 0;

    while (at < size) {
        guint64 from = at;
        gint64 begin = next_extent (map, fd, &at, &used, size);
        if (begin < 0)
            return -1;
        if ((guint64) begin >= from + gap)
            return from;
        if ((guint64) begin >= size)
            break;
    }
    return size;
}

/* The first place of gap bytes that nobody has written; size: there is none, or it cannot be told.
 */
static gint64 find_gap (int fd, const struct stat *st, guint64 gap)
{
    struct statfs fs;
    gint64 found = st->st_size;

    if (!S_ISREG (st->st_mode) || fstatfs (fd, &fs) != 0)
        return found;
    for (guint i = 0; i < G_N_ELEMENTS (tells); i++)
        if (tells[i].magic == (guint32) fs.f_type && tells[i].extents)
            found = first_gap (fd, gap, st->st_size);
        else if (tells[i].magic == (guint32) fs.f_type
                 && (guint64) st->st_blocks * 512 + gap <= (guint64) st->st_size)
            found = 0;
    return found < 0 ? st->st_size : found;
}

gboolean target_is_whole (const char *path, guint64 gap, GError **error)
{
    struct stat st;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat (fd, &st) != 0) {
        error_set_errno (error, errno, _("cannot open '%s'"), path);
        if (fd >= 0)
            close (fd);
        return FALSE;
    }
    gint64 found = find_gap (fd, &st, gap);
    close (fd);
    return found == st.st_size
           || error_set (error, BAK_ERROR_IO,
                         _("'%s' lacks something that was written to it, from byte "
                            "%" G_GINT64_FORMAT " on: somebody has cut it meanwhile"),
                         path, found);
}

gboolean target_reaches (const char *path, guint64 highest, GError **error)
{
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    return !S_ISREG (st.st_mode) || (guint64) st.st_size >= highest
           || error_set (error, BAK_ERROR_IO,
                         _("'%s' has %" G_GINT64_FORMAT " bytes, but was written to up to byte "
                            "%" G_GUINT64_FORMAT ": somebody has cut it meanwhile"),
                         path, (gint64) st.st_size, highest);
}
