/* The stages: the reader runs in the caller's thread, hashing and checking in a second, the sink in
 * a third. Chunks go through two queues that the pool of buffers bounds. The first failure of any
 * stage is the mover's; it makes stop_fd readable, at which all waits end. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/control.h"
#include "mover/reader.h"

enum { PROGRESS_US = 100000, QUEUE_MAX = 1024 };

typedef struct {
    GMutex lock;
    GCond changed;
    GQueue chunks;
    gboolean closed;
} Line;

typedef struct {
    const MoverSource *source;
    const MoverOptions *options;
    Sink *sink;
    Pool *pool;
    int stop_fd;
    gint failed;
    GMutex lock;   /* of error */
    GError *error; /* the first */
    Line to_hash, to_sink;
    /* of the hashing thread */
    Hasher *hasher;
    Tree *tree;
    guint64 size, stored, differed, done;
    gint64 told;
} Mover;

/* A queue with an end */

static void line_init (Line *line)
{
    g_mutex_init (&line->lock);
    g_cond_init (&line->changed);
}

static void line_clear (Line *line)
{
    Chunk *chunk;

    while ((chunk = g_queue_pop_head (&line->chunks)))
        mover_chunk_unref (&chunk->seen);
    g_mutex_clear (&line->lock);
    g_cond_clear (&line->changed);
}

/* Takes it; waits while the line is long. */
static void line_put (Line *line, Chunk *chunk)
{
    g_mutex_lock (&line->lock);
    while (line->chunks.length >= QUEUE_MAX && !line->closed)
        g_cond_wait (&line->changed, &line->lock);
    g_queue_push_tail (&line->chunks, chunk);
    g_cond_broadcast (&line->changed);
    g_mutex_unlock (&line->lock);
}

static void line_close (Line *line)
{
    g_mutex_lock (&line->lock);
    line->closed = TRUE;
    g_cond_broadcast (&line->changed);
    g_mutex_unlock (&line->lock);
}

/* NULL: closed, and nothing is left. */
static Chunk *line_take (Line *line)
{
    g_mutex_lock (&line->lock);
    while (line->chunks.length == 0 && !line->closed)
        g_cond_wait (&line->changed, &line->lock);
    Chunk *chunk = g_queue_pop_head (&line->chunks);
    g_cond_broadcast (&line->changed);
    g_mutex_unlock (&line->lock);
    return chunk;
}

/* Takes the error. */
static void fail (Mover *mover, GError *error)
{
    g_mutex_lock (&mover->lock);
    if (!mover->error)
        mover->error = g_steal_pointer (&error);
    g_mutex_unlock (&mover->lock);
    g_clear_error (&error);
    g_atomic_int_set (&mover->failed, TRUE);
    mover_wake (mover->stop_fd);
}

static gboolean has_failed (Mover *mover)
{
    return g_atomic_int_get (&mover->failed);
}

/* Hashing and checking */

static void hash_chunk (Mover *mover, Chunk *chunk)
{
    MoverChunk *seen = &chunk->seen;

    if (!seen->data) {
        chunk->hash[0] = *hasher_zero_leaf (mover->hasher, leaf_length (mover->size, seen->leaf));
        if (mover->tree)
            tree_add (mover->tree, &chunk->hash[0], seen->count);
        return;
    }
    for (guint64 i = 0; i < seen->count; i++) {
        gsize length = leaf_length (mover->size, seen->leaf + i);
        hasher_leaf (mover->hasher, seen->data + i * LEAF_SIZE, length, &chunk->hash[i]);
        if (mover->tree)
            tree_add (mover->tree, &chunk->hash[i], 1);
    }
}

/* How many leaves from this one on have the same answer to "is it what the view knows?". */
static gboolean compare (Mover *mover, Chunk *chunk, guint64 leaf, guint64 *ret_count,
                         gboolean *ret_equal, GError **error)
{
    const MoverChunk *seen = &chunk->seen;
    guint64 end = seen->leaf + seen->count, at = leaf;

    while (at < end) {
        LeafRun run;
        if (!leaves_view_get (mover->options->view, at, &run, error))
            return FALSE;
        const LeafHash *hash = &chunk->hash[seen->data ? at - seen->leaf : 0];
        gboolean equal = run.known && leaf_equal (hash, &run.hash);
        if (at > leaf && equal != *ret_equal)
            break;
        *ret_equal = equal;
        at += seen->data ? 1 : MIN (run.count, end - at);
    }
    *ret_count = at - leaf;
    return TRUE;
}

static gboolean is_zero (Mover *mover, Chunk *chunk, guint64 leaf)
{
    const MoverChunk *seen = &chunk->seen;

    return !seen->data
           || leaf_equal (&chunk->hash[leaf - seen->leaf],
                          hasher_zero_leaf (mover->hasher, leaf_length (mover->size, leaf)));
}

static gboolean record (Mover *mover, Chunk *chunk, GError **error)
{
    const MoverChunk *seen = &chunk->seen;
    LeavesWriter *leaves = mover->options->leaves;
    gboolean ok = TRUE;

    if (!leaves)
        return TRUE;
    if (!seen->data)
        return leaves_writer_add (leaves, seen->leaf, seen->count, &chunk->hash[0], error);
    for (guint64 i = 0; ok && i < seen->count; i++)
        ok = leaves_writer_add (leaves, seen->leaf + i, 1, &chunk->hash[i], error);
    return ok;
}

/* One part, all data or all zeros, goes on. A short last leaf of zeros has a hash of its own. */
static gboolean pass_part (Mover *mover, Chunk *chunk, guint64 leaf, guint64 count, gboolean zero,
                           GError **error)
{
    Chunk *part = chunk_part (chunk, leaf, count, mover->size, zero);

    if (!record (mover, part, error)) {
        mover_chunk_unref (&part->seen);
        return FALSE;
    }
    if (!zero)
        mover->stored += part->seen.length;
    if (mover->sink)
        line_put (&mover->to_sink, part);
    else
        mover_chunk_unref (&part->seen);
    return TRUE;
}

/* Leaves that go on, in parts of data and of zeros. */
static gboolean pass (Mover *mover, Chunk *chunk, guint64 leaf, guint64 count, GError **error)
{
    guint64 end = leaf + count;

    if (!chunk->seen.data)
        return pass_part (mover, chunk, leaf, count, TRUE, error);
    while (leaf < end) {
        gboolean zero = is_zero (mover, chunk, leaf);
        guint64 next = leaf + 1;
        gsize length = leaf_length (mover->size, leaf);
        while (next < end && is_zero (mover, chunk, next) == zero
               && (!zero || leaf_length (mover->size, next) == length))
            next++;
        if (!pass_part (mover, chunk, leaf, next - leaf, zero, error))
            return FALSE;
        leaf = next;
    }
    return TRUE;
}

static gboolean differs (Mover *mover, guint64 leaf, guint64 count, GError **error)
{
    const MoverOptions *options = mover->options;
    guint64 offset = leaf * LEAF_SIZE;
    guint64 length = MIN (count * LEAF_SIZE, mover->size - offset);

    mover->differed += length;
    if (options->check == MOVER_CHECK_PROVE)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("bytes %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                             " are not what was backed up: their hash differs"),
                          offset, offset + length);
    if (options->differs)
        options->differs (offset, length, options->data);
    return TRUE;
}

static gboolean check_and_pass (Mover *mover, Chunk *chunk, GError **error)
{
    const MoverChunk *seen = &chunk->seen;
    MoverCheck check = mover->options->check;
    guint64 leaf = seen->leaf, end = leaf + seen->count, count;

    if (check == MOVER_CHECK_NONE)
        return pass (mover, chunk, leaf, seen->count, error);
    for (; leaf < end; leaf += count) {
        gboolean equal = FALSE;
        if (!compare (mover, chunk, leaf, &count, &equal, error)
            || (!equal && !differs (mover, leaf, count, error)))
            return FALSE;
        gboolean wanted = !equal || check != MOVER_CHECK_SKIP_EQUAL;
        if (wanted && !pass (mover, chunk, leaf, count, error))
            return FALSE;
    }
    return TRUE;
}

static void tell (Mover *mover, guint64 done, gboolean last)
{
    const MoverOptions *options = mover->options;
    gint64 now = g_get_monotonic_time ();

    if (!options->progress || (!last && now - mover->told < PROGRESS_US))
        return;
    mover->told = now;
    options->progress (done, mover->size, options->data);
}

static gpointer hash_thread (gpointer data)
{
    Mover *mover = data;
    Chunk *chunk;

    while ((chunk = line_take (&mover->to_hash))) {
        GError *error = NULL;
        gboolean skip = has_failed (mover);
        if (!skip)
            hash_chunk (mover, chunk);
        if (!skip && !check_and_pass (mover, chunk, &error))
            fail (mover, error);
        if (!skip)
            tell (mover, chunk->seen.offset + chunk->seen.length, FALSE);
        mover_chunk_unref (&chunk->seen);
    }
    line_close (&mover->to_sink);
    return NULL;
}

static gpointer sink_thread (gpointer data)
{
    Mover *mover = data;
    GError *error = NULL;
    Chunk *chunk;

    while ((chunk = line_take (&mover->to_sink))) {
        if (!has_failed (mover) && !mover->sink->write (mover->sink, &chunk->seen, &error))
            fail (mover, g_steal_pointer (&error));
        mover_chunk_unref (&chunk->seen);
    }
    return NULL;
}

/* The reader's */

static gboolean give (Chunk *chunk, gpointer data)
{
    Mover *mover = data;

    line_put (&mover->to_hash, chunk);
    return !has_failed (mover);
}

static gboolean prepare (Mover *mover, GError **error)
{
    const MoverOptions *options = mover->options;
    gboolean whole = !options->bitmap && !options->only && options->begin == 0;

    if (options->view && leaves_view_size (options->view) != mover->size)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("the export has %" G_GUINT64_FORMAT
                             " bytes, what it is compared with %" G_GUINT64_FORMAT),
                          mover->size, leaves_view_size (options->view));
    mover->hasher = hasher_new_keyed (options->key, error);
    if (mover->hasher && whole)
        mover->tree = tree_new (mover->size, error);
    return mover->hasher && (!whole || mover->tree);
}

static void run_stages (Mover *mover, ReaderState *state)
{
    GError *error = NULL;
    GThread *hash = g_thread_new ("mover-hash", hash_thread, mover);
    GThread *sink = mover->sink ? g_thread_new ("mover-sink", sink_thread, mover) : NULL;

    if (!reader_run (state, &error))
        fail (mover, g_steal_pointer (&error));
    line_close (&mover->to_hash);
    g_thread_join (hash);
    if (sink)
        g_thread_join (sink);
    if (has_failed (mover) || !mover->sink)
        return;
    if (!mover->sink->finish (mover->sink, &error))
        fail (mover, error);
}

static gboolean run (Mover *mover, MoverResult *result, GError **error)
{
    Reader reader = { mover->source, mover->options, mover->pool, mover->stop_fd, give, mover };
    g_autoptr (ReaderState) state = reader_open (&reader, error);

    if (!state)
        return FALSE;
    mover->size = reader.size;
    if (!prepare (mover, error))
        return FALSE;
    run_stages (mover, state);
    if (mover->error) {
        g_propagate_error (error, g_steal_pointer (&mover->error));
        return FALSE;
    }
    *result = (MoverResult){ .size = reader.size,
                             .looked = reader.looked,
                             .read = reader.read,
                             .zeroed = reader.zeroed,
                             .stored = mover->stored,
                             .differed = mover->differed,
                             .has_root = mover->tree != NULL };
    if (mover->tree && !tree_root (mover->tree, &result->root, error))
        return FALSE;
    tell (mover, mover->size, TRUE);
    return TRUE;
}

static gboolean check_arguments (const MoverOptions *options, GError **error)
{
    if (options->view && leaves_view_key (options->view) != options->key)
        return error_set (error, BAK_ERROR_INTERNAL, _("its hashes have another key"));
    if (options->bitmap && options->only)
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("a bitmap and a set of leaves cannot be read together"));
    if (options->begin % LEAF_SIZE != 0)
        return error_set (error, BAK_ERROR_INTERNAL, _("reading begins within a leaf"));
    if (options->check != MOVER_CHECK_NONE && !options->view)
        return error_set (error, BAK_ERROR_INTERNAL, _("there is nothing to compare with"));
    return TRUE;
}

static gboolean mover_init (Mover *mover, GError **error)
{
    g_mutex_init (&mover->lock);
    line_init (&mover->to_hash);
    line_init (&mover->to_sink);
    mover->stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mover->stop_fd < 0)
        return error_set_errno (error, errno, _("cannot make an event"));
    mover->pool = pool_new (MOVER_MEMORY / MOVER_CHUNK, error);
    if (!mover->pool)
        return FALSE;
    if (mover->sink)
        mover->sink->stop_fd = mover->stop_fd;
    mover_control_watch (mover->options->control, mover->stop_fd, pool_wake_fd (mover->pool));
    return TRUE;
}

static void mover_clear (Mover *mover)
{
    mover_control_unwatch (mover->options->control, mover->stop_fd);
    if (mover->sink)
        mover->sink->stop_fd = -1;
    line_clear (&mover->to_hash);
    line_clear (&mover->to_sink);
    pool_unref (mover->pool);
    hasher_free (mover->hasher);
    tree_free (mover->tree);
    g_clear_error (&mover->error);
    g_mutex_clear (&mover->lock);
    if (mover->stop_fd >= 0)
        close (mover->stop_fd);
}

gboolean mover_run (const MoverSource *source, const MoverOptions *options, Sink *sink,
                    MoverResult *ret_result, GError **error)
{
    Mover mover = { .source = source, .options = options, .sink = sink };
    MoverResult result = { 0 };

    gboolean ok = mover_init (&mover, error) && check_arguments (options, error)
                  && run (&mover, &result, error);
    mover_clear (&mover);
    if (ok && mover_control_cancelled (options->control))
        ok = error_set (error, BAK_ERROR_ABORTED, _("stopped"));
    if (ok && ret_result)
        *ret_result = result;
    return ok || error_note (error, _("disk '%s'"), source->target);
}
