#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/chunk.h"
#include "mover/control.h"

typedef struct Buffer {
    gint refs;
    guchar data[MOVER_CHUNK];
} Buffer;

struct Pool {
    GMutex lock;
    GPtrArray *free; /* Buffer* that were used before */
    guint left;      /* that may be made or are free */
    gint refs;
    int wake_fd;
};

Pool *pool_new (guint buffers, GError **error)
{
    int wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (wake_fd < 0) {
        error_set_errno (error, errno, _("cannot make an event"));
        return NULL;
    }
    Pool *pool = g_new0 (Pool, 1);
    pool->refs = 1;
    g_mutex_init (&pool->lock);
    pool->free = g_ptr_array_new_with_free_func (g_free);
    pool->left = buffers;
    pool->wake_fd = wake_fd;
    return pool;
}

int pool_wake_fd (Pool *pool)
{
    return pool->wake_fd;
}

void pool_unref (Pool *pool)
{
    if (!pool || !g_atomic_int_dec_and_test (&pool->refs))
        return;
    close (pool->wake_fd);
    g_ptr_array_unref (pool->free);
    g_mutex_clear (&pool->lock);
    g_free (pool);
}

gboolean pool_has (Pool *pool)
{
    g_mutex_lock (&pool->lock);
    gboolean has = pool->left > 0;
    g_mutex_unlock (&pool->lock);
    return has;
}

static Buffer *buffer_take (Pool *pool)
{
    Buffer *buffer = NULL;

    g_mutex_lock (&pool->lock);
    g_assert (pool->left > 0);
    pool->left--;
    if (pool->free->len > 0)
        buffer = g_ptr_array_steal_index_fast (pool->free, pool->free->len - 1);
    g_mutex_unlock (&pool->lock);
    if (!buffer)
        buffer = g_malloc (sizeof *buffer);
    buffer->refs = 1;
    return buffer;
}

static void buffer_unref (Pool *pool, Buffer *buffer)
{
    if (!g_atomic_int_dec_and_test (&buffer->refs))
        return;
    g_mutex_lock (&pool->lock);
    g_ptr_array_add (pool->free, buffer);
    gboolean waited_for = pool->left++ == 0;
    g_mutex_unlock (&pool->lock);
    if (waited_for)
        mover_wake (pool->wake_fd);
}

static Chunk *chunk_new (Pool *pool, guint64 offset, guint64 length, Buffer *buffer)
{
    Chunk *chunk = g_new0 (Chunk, 1);

    chunk->refs = 1;
    chunk->pool = pool;
    chunk->buffer = buffer;
    chunk->seen.offset = offset;
    chunk->seen.length = length;
    chunk->seen.data = buffer ? buffer->data : NULL;
    chunk->seen.leaf = offset / LEAF_SIZE;
    chunk->seen.count = leaf_count (length);
    chunk->seen.hashes = chunk->hash;
    g_atomic_int_inc (&pool->refs);
    return chunk;
}

Chunk *chunk_new_data (Pool *pool, guint64 offset, guint64 length)
{
    return chunk_new (pool, offset, length, buffer_take (pool));
}

Chunk *chunk_new_zero (Pool *pool, guint64 offset, guint64 length)
{
    return chunk_new (pool, offset, length, NULL);
}

guchar *chunk_buffer (Chunk *chunk)
{
    return chunk->buffer->data;
}

Chunk *chunk_part (Chunk *chunk, guint64 leaf, guint64 count, guint64 size, gboolean zero)
{
    guint64 first = leaf - chunk->seen.leaf;
    guint64 offset = leaf * LEAF_SIZE;
    guint64 length = MIN (count * LEAF_SIZE, size - offset);
    Buffer *buffer = zero ? NULL : chunk->buffer;
    Chunk *part = chunk_new (chunk->pool, offset, length, buffer);

    if (chunk->buffer)
        memcpy (part->hash, chunk->hash + first, (zero ? 1 : count) * sizeof *part->hash);
    else
        part->hash[0] = chunk->hash[0];
    if (!buffer)
        return part;
    g_atomic_int_inc (&buffer->refs);
    part->seen.data = chunk->seen.data + first * LEAF_SIZE;
    return part;
}

MoverChunk *mover_chunk_ref (MoverChunk *chunk)
{
    g_atomic_int_inc (&((Chunk *) chunk)->refs);
    return chunk;
}

void mover_chunk_unref (MoverChunk *seen)
{
    Chunk *chunk = (Chunk *) seen;
    Pool *pool = chunk ? chunk->pool : NULL;

    if (!chunk || !g_atomic_int_dec_and_test (&chunk->refs))
        return;
    if (chunk->buffer)
        buffer_unref (pool, chunk->buffer);
    g_free (chunk);
    pool_unref (pool);
}
