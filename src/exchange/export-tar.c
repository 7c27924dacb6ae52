/* A tar archive of the whole point: raw disks in the sparse form that GNU tar has in pax archives
 * (1.0), which bsdtar and Python read as well. Where the holes are is known from the leaves before
 * anything is read, so it can be written to a pipe. */
#include <stdio.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/format.h"
#include "repository/stored-file.h"
#include "repository/fields.h"

enum { BLOCK = 512, NAME_MAX_BYTES = 99, MAP_PART = 65536 };

/* clang-format off */
/* The header of a member, by its fields. */
typedef struct {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
} TarHeader;
/* clang-format on */
G_STATIC_ASSERT (sizeof (TarHeader) == BLOCK);

typedef struct {
    char *folder;   /* all members are in it */
    gint64 mtime;   /* */
    guint64 stored; /* bytes of data of the disk, by its leaves */
    guint64 left;   /* of them not written yet */
} TarState;

static gboolean put (Export *export, gconstpointer data, gsize length, GError **error)
{
    return output_write (data, length, export->output, error);
}

static gboolean pad (Export *export, guint64 length, GError **error)
{
    static const char zeros[BLOCK];
    return put (export, zeros, (BLOCK - length % BLOCK) % BLOCK, error);
}

/* Sizes beyond 8 GiB stand in the extended header, where they count. */
static void fill_size (char *field, guint64 size)
{
    g_snprintf (field, 12, "%011" G_GINT64_MODIFIER "o",
                size < G_GUINT64_CONSTANT (1) << 33 ? size : 0);
}

static gboolean put_header (Export *export, const char *name, char type, guint64 size,
                            GError **error)
{
    const TarState *state = export->state;
    TarHeader header = { .type = type, .magic = "ustar", .version = { '0', '0' } };
    guint sum = 0;

    memcpy (header.name, name, MIN (strlen (name), (gsize) NAME_MAX_BYTES));
    g_snprintf (header.mode, sizeof header.mode, "%07o", 0600u);
    g_snprintf (header.uid, sizeof header.uid, "%07o", 0u);
    g_snprintf (header.gid, sizeof header.gid, "%07o", 0u);
    fill_size (header.size, size);
    fill_size (header.mtime, MAX (state->mtime, 0));
    memset (header.checksum, ' ', sizeof header.checksum);
    for (gsize i = 0; i < sizeof header; i++)
        sum += ((const guchar *) &header)[i];
    g_snprintf (header.checksum, sizeof header.checksum, "%06o", sum);
    return put (export, &header, sizeof header, error);
}

/* "LENGTH KEY=VALUE\n", of which the length counts itself. */
static void add_record (GString *text, const char *key, const char *value)
{
    gsize length = strlen (key) + strlen (value) + 3, digits = 1;
    for (gsize limit = 10; length + digits >= limit; limit *= 10)
        digits++;
    g_string_append_printf (text, "%" G_GSIZE_FORMAT " %s=%s\n", length + digits, key, value);
}

static void add_number (GString *text, const char *key, guint64 value)
{
    g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, value);
    add_record (text, key, number);
}

static gboolean put_extended (Export *export, const GString *records, GError **error)
{
    return put_header (export, "PaxHeaders/member", 'x', records->len, error)
           && put (export, records->str, records->len, error) && pad (export, records->len, error);
}

static gboolean put_member (Export *export, const char *name, const void *data, gsize length,
                            GError **error)
{
    const TarState *state = export->state;
    g_autofree char *path = g_strconcat (state->folder, "/", name, NULL);
    g_autoptr (GString) records = g_string_new (NULL);

    if (strlen (path) > NAME_MAX_BYTES)
        add_record (records, "path", path);
    return (records->len == 0 || put_extended (export, records, error))
           && put_header (export, path, '0', length, error) && put (export, data, length, error)
           && pad (export, length, error);
}

static gboolean put_file (Export *export, const ManifestFile *file, GError **error)
{
    g_autofree char *data = NULL;
    gsize length;

    return stored_file_read (export->point, file, &data, &length, error)
           && put_member (export, file->name, data, length, error);
}

static gboolean tar_begin (Export *export, GError **error)
{
    const Manifest *manifest = export->point->manifest;
    g_autofree char *text = manifest_format (manifest);
    TarState *state = g_new0 (TarState, 1);

    export->state = state;
    state->folder = g_strdup (fields_name_is_safe (manifest->guest_name) ? manifest->guest_name
                                                                         : manifest->guest_uuid);
    state->mtime = manifest->instant / G_USEC_PER_SEC;
    if (!put_member (export, "manifest.json", text, strlen (text), error))
        return FALSE;
    for (guint i = 0; i < manifest->files->len; i++) {
        const ManifestFile *file = manifest->files->pdata[i];
        if (!g_str_equal (file->name, "README") && !put_file (export, file, error))
            return FALSE;
    }
    return TRUE;
}

/* Holes */

typedef gboolean (*HoleFunc) (guint64 offset, guint64 length, gpointer data, GError **error);

/* Each run of leaves that are not all zero, in order; at the end an empty one, as GNU tar has it.
 */
static gboolean each_run (const Reading *disk, HoleFunc function, gpointer data, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new_keyed (leaves_view_key (disk->view), error);
    guint64 size = disk->disk->size, leaves = leaf_count (size), start = 0, end = 0;

    if (!hasher)
        return FALSE;
    for (guint64 index = 0, next; index < leaves; index = next) {
        LeafRun run;
        if (!leaves_view_get (disk->view, index, &run, error))
            return FALSE;
        next = MIN (run.index + run.count, leaves);
        /* the last leaf may be shorter, and has a hash of its own then */
        if (next == leaves && size % LEAF_SIZE && next - index > 1)
            next--;
        const LeafHash *zero = hasher_zero_leaf (hasher, leaf_length (size, index));
        if (leaf_equal (zero, &run.hash))
            continue;
        guint64 from = index * LEAF_SIZE, to = MIN (next * LEAF_SIZE, size);
        if (from != end) {
            if (end > start && !function (start, end - start, data, error))
                return FALSE;
            start = from;
        }
        end = to;
    }
    return (end == start || function (start, end - start, data, error))
           && (end == size || function (size, 0, data, error));
}

typedef struct {
    guint64 count, text, stored;
} MapSize;

static gboolean measure (guint64 offset, guint64 length, gpointer data, GError **error)
{
    MapSize *map = data;
    map->count++;
    map->text +=
        snprintf (NULL, 0, "%" G_GUINT64_FORMAT "\n%" G_GUINT64_FORMAT "\n", offset, length);
    map->stored += length;
    return TRUE;
}

typedef struct {
    Export *export;
    GString *text;
} MapText;

static gboolean put_run (guint64 offset, guint64 length, gpointer data, GError **error)
{
    MapText *map = data;
    g_string_append_printf (map->text, "%" G_GUINT64_FORMAT "\n%" G_GUINT64_FORMAT "\n", offset,
                            length);
    if (map->text->len < MAP_PART)
        return TRUE;
    gboolean ok = put (map->export, map->text->str, map->text->len, error);
    g_string_truncate (map->text, 0);
    return ok;
}

static gboolean put_map (Export *export, guint64 count, guint64 length, GError **error)
{
    g_autoptr (GString) text = g_string_new (NULL);
    MapText map = { export, text };
    g_string_append_printf (text, "%" G_GUINT64_FORMAT "\n", count);
    return each_run (export->disk, put_run, &map, error)
           && put (export, text->str, text->len, error) && pad (export, length, error);
}

/* Disks */

static char *disk_name (const Export *export)
{
    const PlacementDisk *placement =
        placement_find_disk (export->point->storage, export->disk->disk->target);
    g_autofree char *stem = g_strdup (placement->file);
    if (g_str_has_suffix (stem, ".qcow2"))
        stem[strlen (stem) - strlen (".qcow2")] = '\0';
    return g_strconcat (stem, ".raw", NULL);
}

static gboolean tar_begin_disk (Export *export, GError **error)
{
    TarState *state = export->state;
    MapSize map = { 0 };
    g_autofree char *name = disk_name (export);
    g_autofree char *path = g_strconcat (state->folder, "/", name, NULL);
    g_autofree char *shown = g_strconcat (state->folder, "/GNUSparseFile.0/", name, NULL);
    g_autoptr (GString) records = g_string_new (NULL);

    if (!export->disk->view)
        return error_set (error, BAK_ERROR_INEXACT, "%s", export->disk->flaw->message);
    if (!each_run (export->disk, measure, &map, error))
        return FALSE;
    guint64 text = map.text + snprintf (NULL, 0, "%" G_GUINT64_FORMAT "\n", map.count);
    guint64 size = (text + BLOCK - 1) / BLOCK * BLOCK + map.stored;
    state->stored = state->left = map.stored;
    add_record (records, "GNU.sparse.major", "1");
    add_record (records, "GNU.sparse.minor", "0");
    add_record (records, "GNU.sparse.name", path);
    add_number (records, "GNU.sparse.realsize", export->disk->disk->size);
    if (size >= G_GUINT64_CONSTANT (1) << 33)
        add_number (records, "size", size);
    return put_extended (export, records, error) && put_header (export, shown, '0', size, error)
           && put_map (export, map.count, text, error);
}

static gboolean tar_chunk (Export *export, const MoverChunk *chunk, GError **error)
{
    TarState *state = export->state;
    if (!chunk->data)
        return TRUE;
    if (chunk->length > state->left)
        return error_set (error, BAK_ERROR_INTERNAL, _("there is more data than leaves told of"));
    state->left -= chunk->length;
    return put (export, chunk->data, chunk->length, error);
}

static gboolean tar_end_disk (Export *export, GError **error)
{
    const TarState *state = export->state;
    if (state->left > 0)
        return error_set (error, BAK_ERROR_INTERNAL, _("there is less data than leaves told of"));
    return pad (export, state->stored, error);
}

static gboolean tar_end (Export *export, GError **error)
{
    static const char zeros[2 * BLOCK];
    return put (export, zeros, sizeof zeros, error);
}

static void tar_free (Export *export)
{
    TarState *state = export->state;
    if (!state)
        return;
    g_free (state->folder);
    g_free (state);
}

const ExportFormat export_tar = { .name = "tar",
                                  .begin = tar_begin,
                                  .begin_disk = tar_begin_disk,
                                  .chunk = tar_chunk,
                                  .end_disk = tar_end_disk,
                                  .end = tar_end,
                                  .free = tar_free };
