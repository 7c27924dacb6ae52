#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/leaves.h"
#include "util/error.h"

enum {
    BLOCK_RECORDS = 1024,
    DIGEST_SIZE = LEAF_HASH_SIZE,
    RUN_BITS = 16,
    FLUSH_US = 1000000, /* what is older than that a dead writer's successor finds */
};

static const char magic[8] = "bakleaf1";

typedef struct {
    char magic[8];
    guint32 leaf_size, zero; /* big-endian, as all numbers */
    guint64 size, count;
} Header;

typedef struct {
    guint64 run;
    LeafHash hash;
} Record;

G_STATIC_ASSERT (sizeof (Header) == LEAVES_HEADER_SIZE);
G_STATIC_ASSERT (sizeof (Record) == LEAVES_RECORD_SIZE);

static guint64 record_index (const Record *record)
{
    return GUINT64_FROM_BE (record->run) >> RUN_BITS;
}

/* The first leaf behind it. */
static guint64 record_end (const Record *record)
{
    return record_index (record) + (GUINT64_FROM_BE (record->run) & (LEAVES_RUN_MAX - 1)) + 1;
}

static void header_fill (Header *header, guint64 size, guint64 count)
{
    memset (header, 0, sizeof *header);
    memcpy (header->magic, magic, sizeof magic);
    header->leaf_size = GUINT32_TO_BE (LEAF_SIZE);
    header->size = GUINT64_TO_BE (size);
    header->count = GUINT64_TO_BE (count);
}

/* Writing */

struct LeavesWriter {
    char *path;
    FILE *file;
    guint64 size;
    guint64 next;         /* first leaf that may be added */
    guint64 leaves;       /* added */
    guint64 records;      /* written */
    guint64 first, count; /* the run that grows; count 0: none */
    LeafHash hash;
    gint64 flushed; /* when */
};

static LeavesWriter *writer_new (const char *path, FILE *file, guint64 size)
{
    LeavesWriter *writer = g_new0 (LeavesWriter, 1);

    writer->path = g_strdup (path);
    writer->file = file;
    writer->size = size;
    writer->flushed = g_get_monotonic_time ();
    return writer;
}

LeavesWriter *leaves_writer_new (const char *path, guint64 size, GError **error)
{
    int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    FILE *file = fd >= 0 ? fdopen (fd, "w+") : NULL;
    Header header = { 0 };

    if (!file || fwrite (&header, sizeof header, 1, file) != 1) {
        error_set_errno (error, errno, _("cannot write '%s'"), path);
        if (file)
            fclose (file);
        else if (fd >= 0)
            close (fd);
        return NULL;
    }
    return writer_new (path, file, size);
}

void leaves_writer_free (LeavesWriter *writer)
{
    if (!writer)
        return;
    if (writer->file)
        fclose (writer->file);
    g_free (writer->path);
    g_free (writer);
}

guint64 leaves_writer_count (const LeavesWriter *writer)
{
    return writer->leaves;
}

static gboolean write_failed (LeavesWriter *writer, GError **error)
{
    return error_set_errno (error, errno, _("cannot write '%s'"), writer->path);
}

static gboolean flush_run (LeavesWriter *writer, GError **error)
{
    while (writer->count > 0) {
        guint64 count = MIN (writer->count, (guint64) LEAVES_RUN_MAX);
        Record record = { GUINT64_TO_BE (writer->first << RUN_BITS | (count - 1)), writer->hash };
        if (fwrite (&record, sizeof record, 1, writer->file) != 1)
            return write_failed (writer, error);
        writer->first += count;
        writer->count -= count;
        writer->records++;
    }
    return TRUE;
}

gboolean leaves_writer_add (LeavesWriter *writer, guint64 index, guint64 count,
                            const LeafHash *hash, GError **error)
{
    guint64 all = leaf_count (writer->size);

    if (index < writer->next || index > all || count > all - index)
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("'%s': leaf %" G_GUINT64_FORMAT " comes out of turn"), writer->path,
                          index);
    gint64 now = g_get_monotonic_time ();
    if (now - writer->flushed > FLUSH_US) {
        if (!flush_run (writer, error))
            return FALSE;
        if (fflush (writer->file) != 0)
            return write_failed (writer, error);
        writer->flushed = now;
    }
    gboolean grows = writer->count > 0 && index == writer->first + writer->count
                     && leaf_equal (hash, &writer->hash);
    if (!grows && !flush_run (writer, error))
        return FALSE;
    if (!grows)
        writer->first = index;
    writer->hash = *hash;
    writer->count += count;
    writer->leaves += count;
    writer->next = index + count;
    return TRUE;
}

/* SHA-256 of the first length bytes. */
static gboolean digest (int fd, guint64 length, LeafHash *ret_hash, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new (error);
    g_autofree char *buffer = g_malloc (LEAF_SIZE);

    for (guint64 at = 0; hasher && at < length;) {
        ssize_t n = pread (fd, buffer, MIN (length - at, (guint64) LEAF_SIZE), at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO, _("cannot read the file"));
        hasher_update (hasher, buffer, n);
        at += n;
    }
    if (hasher)
        hasher_end (hasher, ret_hash);
    return hasher != NULL;
}

gboolean leaves_writer_finish (LeavesWriter *writer, GError **error)
{
    guint64 length;
    Header header;
    LeafHash hash;

    if (!flush_run (writer, error))
        return FALSE;
    header_fill (&header, writer->size, writer->records);
    length = sizeof header + writer->records * sizeof (Record);
    if (fflush (writer->file) != 0
        || pwrite (fileno (writer->file), &header, sizeof header, 0) != sizeof header)
        return write_failed (writer, error);
    if (!digest (fileno (writer->file), length, &hash, error))
        return error_note (error, "'%s'", writer->path);
    if (pwrite (fileno (writer->file), &hash, sizeof hash, length) != sizeof hash
        || fsync (fileno (writer->file)) != 0)
        return write_failed (writer, error);
    int failed = fclose (writer->file);
    writer->file = NULL;
    return failed == 0 || write_failed (writer, error);
}

/* Going on with what a dead writer left */

static gboolean read_all (int fd, void *where, gsize length, guint64 offset)
{
    while (length > 0) {
        ssize_t n = pread (fd, where, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return FALSE;
        where = (char *) where + n;
        length -= n;
        offset += n;
    }
    return TRUE;
}

/* How many of the records in front are in order, within the disk and below leaf end; *ret_last: the
 * last of them. Their number comes from the file's length, because a header is written last; the
 * digest behind them is shorter than one. */
static gboolean scan (int fd, guint64 size, guint64 end, guint64 *ret_count, Record *ret_last)
{
    g_autofree Record *block = g_new (Record, BLOCK_RECORDS);
    guint64 room, next = 0, sound = 0;
    struct stat st;

    if (fstat (fd, &st) != 0)
        return FALSE;
    room = MAX ((guint64) st.st_size, LEAVES_HEADER_SIZE) - LEAVES_HEADER_SIZE;
    room /= sizeof (Record);
    end = MIN (end, leaf_count (size));
    while (sound < room) {
        guint count = MIN (room - sound, (guint64) BLOCK_RECORDS), i = 0;
        if (!read_all (fd, block, count * sizeof (Record),
                       LEAVES_HEADER_SIZE + sound * sizeof (Record)))
            return FALSE;
        while (i < count && record_index (&block[i]) >= next && record_index (&block[i]) < end
               && record_end (&block[i]) <= leaf_count (size))
            next = record_end (&block[i++]);
        if (i > 0)
            *ret_last = block[i - 1];
        sound += i;
        if (i < count)
            break;
    }
    *ret_count = sound;
    return TRUE;
}

static gboolean seal (int fd, guint64 size, guint64 records)
{
    guint64 length = LEAVES_HEADER_SIZE + records * sizeof (Record);
    Header header;
    LeafHash hash;

    header_fill (&header, size, records);
    return ftruncate (fd, length) == 0 && pwrite (fd, &header, sizeof header, 0) == sizeof header
           && digest (fd, length, &hash, NULL)
           && pwrite (fd, &hash, sizeof hash, length) == sizeof hash;
}

gboolean leaves_salvage (const char *path, guint64 size, guint64 *ret_end, GError **error)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    Record last = { 0 };
    guint64 records = 0;
    gboolean ok =
        fd >= 0 && scan (fd, size, G_MAXUINT64, &records, &last) && seal (fd, size, records);
    int saved = errno;

    if (fd >= 0)
        close (fd);
    *ret_end = records ? record_end (&last) : 0;
    return ok || error_set_errno (error, saved, _("cannot read '%s'"), path);
}

LeavesWriter *leaves_writer_resume (const char *path, guint64 size, guint64 end, GError **error)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    FILE *file = fd >= 0 ? fdopen (fd, "r+") : NULL;
    Header header = { 0 };
    Record last = { 0 };
    guint64 records = 0;

    if (!file || !scan (fd, size, end, &records, &last)
        || fwrite (&header, sizeof header, 1, file) != 1 || fflush (file) != 0
        || ftruncate (fd, LEAVES_HEADER_SIZE + (records ? records - 1 : 0) * sizeof (Record)) != 0
        || fseek (file, 0, SEEK_END) != 0) {
        error_set_errno (error, errno, _("cannot write '%s'"), path);
        if (file)
            fclose (file);
        else if (fd >= 0)
            close (fd);
        return NULL;
    }
    LeavesWriter *writer = writer_new (path, file, size);
    writer->next = end;
    if (records) { /* the last one may reach behind end, and grow */
        writer->records = records - 1;
        writer->first = record_index (&last);
        writer->count = MIN (record_end (&last), end) - writer->first;
        writer->hash = last.hash;
    }
    return writer;
}

/* Reading: one file */

typedef struct {
    char *path;
    int fd;
    guint64 size, records;
    Record *block; /* some neighbouring records */
    guint64 block_first;
    guint block_count;
} Layer;

static void layer_free (Layer *layer)
{
    if (layer->fd >= 0)
        close (layer->fd);
    g_free (layer->path);
    g_free (layer->block);
    g_free (layer);
}

static gboolean damaged (const char *path, const char *what, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: %s"), path, what);
}

static gboolean read_header (Layer *layer, GError **error)
{
    Header header;
    struct stat st;

    if (fstat (layer->fd, &st) != 0)
        return error_set_errno (error, errno, _("cannot read '%s'"), layer->path);
    if (!S_ISREG (st.st_mode) || st.st_size < LEAVES_HEADER_SIZE + DIGEST_SIZE)
        return damaged (layer->path, _("it is too short"), error);
    if (!read_all (layer->fd, &header, sizeof header, 0))
        return error_set_errno (error, errno, _("cannot read '%s'"), layer->path);
    if (memcmp (header.magic, magic, sizeof magic) != 0)
        return damaged (layer->path, _("it is no file of leaves"), error);
    if (GUINT32_FROM_BE (header.leaf_size) != LEAF_SIZE || header.zero != 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("'%s' has leaves of another size: a newer version wrote it"),
                          layer->path);
    layer->size = GUINT64_FROM_BE (header.size);
    layer->records = GUINT64_FROM_BE (header.count);
    guint64 room = (guint64) st.st_size - LEAVES_HEADER_SIZE - DIGEST_SIZE;
    if (layer->size > G_MAXINT64 || room % LEAVES_RECORD_SIZE != 0
        || room / LEAVES_RECORD_SIZE != layer->records)
        return damaged (layer->path, _("its size is not what its header says"), error);
    return TRUE;
}

static Layer *layer_open (const char *path, GError **error)
{
    Layer *layer = g_new0 (Layer, 1);

    layer->path = g_strdup (path);
    layer->fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (layer->fd < 0)
        error_set_errno (error, errno, _("cannot read '%s'"), path);
    if (layer->fd >= 0 && read_header (layer, error))
        return layer;
    layer_free (layer);
    return NULL;
}

/* A record that points outside the disk, or not behind the one before it, is never used. */
static gboolean block_sound (const Layer *layer)
{
    guint64 leaves = leaf_count (layer->size), last = 0;

    for (guint i = 0; i < layer->block_count; i++) {
        const Record *record = &layer->block[i];
        if (record_index (record) < last || record_end (record) > leaves)
            return FALSE;
        last = record_end (record);
    }
    return TRUE;
}

static gboolean load_block (Layer *layer, guint64 first, GError **error)
{
    guint64 offset = LEAVES_HEADER_SIZE + first * LEAVES_RECORD_SIZE;

    if (!layer->block)
        layer->block = g_new (Record, BLOCK_RECORDS);
    layer->block_first = first;
    layer->block_count = MIN (layer->records - first, (guint64) BLOCK_RECORDS);
    if (!read_all (layer->fd, layer->block, (gsize) layer->block_count * sizeof (Record), offset)) {
        layer->block_count = 0;
        return error_set_errno (error, errno, _("cannot read '%s'"), layer->path);
    }
    return block_sound (layer) || damaged (layer->path, _("its records are out of order"), error);
}

/* The number of the first record that ends behind index: the record with it, or the next. */
static gboolean search (Layer *layer, guint64 index, guint64 *ret_number, GError **error)
{
    guint64 low = 0, high = layer->records;

    while (low < high) {
        guint64 middle = low + (high - low) / 2;
        Record record;
        if (!read_all (layer->fd, &record, sizeof record,
                       LEAVES_HEADER_SIZE + middle * LEAVES_RECORD_SIZE))
            return error_set_errno (error, errno, _("cannot read '%s'"), layer->path);
        if (record_end (&record) <= index)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_number = low;
    return TRUE;
}

static gboolean in_block (const Layer *layer, guint64 index)
{
    return layer->block_count > 0 && index >= record_index (&layer->block[0])
           && index < record_end (&layer->block[layer->block_count - 1]);
}

static guint search_block (const Layer *layer, guint64 index)
{
    guint low = 0, high = layer->block_count;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        if (record_end (&layer->block[middle]) <= index)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first record that ends behind index; *ret NULL: none. */
static gboolean layer_find (Layer *layer, guint64 index, const Record **ret, GError **error)
{
    guint64 next = layer->block_first + layer->block_count, number = next;

    *ret = NULL;
    if (!in_block (layer, index)) {
        gboolean ascending = layer->block_count > 0
                             && index >= record_end (&layer->block[layer->block_count - 1])
                             && next < layer->records;
        if (ascending && !load_block (layer, next, error))
            return FALSE;
        gboolean near = ascending && index < record_end (&layer->block[layer->block_count - 1]);
        if (!near && !search (layer, index, &number, error))
            return FALSE;
        if (!near && number >= layer->records)
            return TRUE;
        if (!near && !load_block (layer, number, error))
            return FALSE;
    }
    *ret = &layer->block[search_block (layer, index)];
    return TRUE;
}

gboolean leaves_check (const char *path, guint64 size, GError **error)
{
    Layer *layer = layer_open (path, error);
    guint64 last = 0;
    LeafHash made, written;

    if (!layer)
        return FALSE;
    gboolean ok = size == LEAVES_ANY_SIZE || layer->size == size
                  || damaged (path, _("it is of a disk of another size"), error);
    for (guint64 i = 0; ok && i < layer->records; i += layer->block_count) {
        ok = load_block (layer, i, error);
        ok = ok
             && (record_index (&layer->block[0]) >= last
                 || damaged (path, _("its records are out of order"), error));
        last = ok ? record_end (&layer->block[layer->block_count - 1]) : 0;
    }
    guint64 length = LEAVES_HEADER_SIZE + layer->records * LEAVES_RECORD_SIZE;
    ok = ok && digest (layer->fd, length, &made, error);
    ok = ok
         && (read_all (layer->fd, &written, sizeof written, length)
             || error_set_errno (error, errno, _("cannot read '%s'"), path));
    ok = ok && (leaf_equal (&made, &written) || damaged (path, _("its digest differs"), error));
    layer_free (layer);
    return ok;
}

/* Reading: a chain */

struct LeavesView {
    guint64 size;
    GPtrArray *layers; /* newest first */
    Hasher *hasher;
    const LeafKey *key;
    gboolean was_blind;
};

void leaves_view_free (LeavesView *view)
{
    if (!view)
        return;
    g_ptr_array_unref (view->layers);
    hasher_free (view->hasher);
    g_free (view);
}

LeavesView *leaves_view_open (const char *const *paths, guint64 size, const LeafKey *key,
                              GError **error)
{
    g_autoptr (LeavesView) view = g_new0 (LeavesView, 1);

    view->size = size;
    view->layers = g_ptr_array_new_with_free_func ((GDestroyNotify) layer_free);
    view->key = key;
    if (!(view->hasher = hasher_new_keyed (key, error)))
        return NULL;
    for (; *paths; paths++) {
        Layer *layer = layer_open (*paths, error);
        if (!layer)
            return NULL;
        g_ptr_array_add (view->layers, layer);
    }
    return g_steal_pointer (&view);
}

guint64 leaves_view_size (const LeavesView *view)
{
    return view->size;
}

const LeafKey *leaves_view_key (const LeavesView *view)
{
    return view->key;
}

gboolean leaves_view_was_blind (const LeavesView *view)
{
    return view->was_blind;
}

/* Nothing says what is there, because the disk ended above: it reads as zeros. */
static void beyond_end (LeavesView *view, LeafRun *run)
{
    guint64 full = view->size / LEAF_SIZE;

    run->layer = view->layers->len;
    run->known = hasher_knows_leaves (view->hasher);
    view->was_blind |= !run->known;
    if (run->index < full)
        run->count = MIN (run->count, full - run->index);
    if (run->known)
        run->hash = *hasher_zero_leaf (view->hasher, leaf_length (view->size, run->index));
}

/* The run in one layer: TRUE in *ret_found when it, or its end, decides. */
static gboolean look (LeavesView *view, guint i, LeafRun *run, gboolean *ret_found, GError **error)
{
    Layer *layer = view->layers->pdata[i];
    const Record *record;

    *ret_found = TRUE;
    if (run->index >= leaf_count (layer->size)) {
        beyond_end (view, run);
        return TRUE;
    }
    run->count = MIN (run->count, leaf_count (layer->size) - run->index);
    if (!layer_find (layer, run->index, &record, error))
        return FALSE;
    gboolean here = record && record_index (record) <= run->index;
    gboolean whole = leaf_length (layer->size, run->index) == leaf_length (view->size, run->index);
    if (here || !whole) {
        run->count = here ? MIN (run->count, record_end (record) - run->index) : 1;
        run->layer = i;
        run->known = here && whole;
        if (here)
            run->hash = record->hash;
        return TRUE;
    }
    if (record)
        run->count = MIN (run->count, record_index (record) - run->index);
    *ret_found = FALSE;
    return TRUE;
}

/* A run of equal leaves does not reach into the last leaf of a layer, which may be shorter. */
static void cut_short_ends (const LeavesView *view, LeafRun *run)
{
    for (guint i = 0; i <= view->layers->len; i++) {
        guint64 size =
            i == view->layers->len ? view->size : ((Layer *) view->layers->pdata[i])->size;
        guint64 full = size / LEAF_SIZE;
        if (size % LEAF_SIZE != 0 && run->index < full)
            run->count = MIN (run->count, full - run->index);
    }
}

gboolean leaves_view_get (LeavesView *view, guint64 index, LeafRun *ret_run, GError **error)
{
    LeafRun run = { .index = index };
    gboolean found = FALSE;

    if (index >= leaf_count (view->size))
        return error_set (error, BAK_ERROR_INTERNAL, _("there is no leaf %" G_GUINT64_FORMAT),
                          index);
    run.count = leaf_count (view->size) - index;
    cut_short_ends (view, &run);
    for (guint i = 0; i < view->layers->len && !found; i++)
        if (!look (view, i, &run, &found, error))
            return FALSE;
    if (!found)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("no file of leaves knows the leaf at byte %" G_GUINT64_FORMAT " of the disk"),
            index * LEAF_SIZE);
    *ret_run = run;
    return TRUE;
}

gboolean leaves_view_root (LeavesView *view, LeafHash *ret_root, GError **error)
{
    g_autoptr (Tree) tree = tree_new (view->size, error);
    guint64 leaves = leaf_count (view->size);
    LeafRun run;

    for (guint64 index = 0; tree && index < leaves; index += run.count) {
        if (!leaves_view_get (view, index, &run, error))
            return FALSE;
        if (!run.known)
            return error_set (error, BAK_ERROR_INEXACT,
                              _("the hash of the leaf at byte %" G_GUINT64_FORMAT " is not known"),
                              index * LEAF_SIZE);
        tree_add (tree, &run.hash, run.count);
    }
    return tree && tree_root (tree, ret_root, error);
}
