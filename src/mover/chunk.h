/* Pieces of a disk in memory: a fixed pool of buffers, shared by the chunks that are cut from them.
 * Chunks are made and ended in any thread. */
#pragma once
#include "mover/mover.h"

enum { CHUNK_LEAVES = MOVER_CHUNK / LEAF_SIZE };

typedef struct Pool Pool;
typedef struct {
    MoverChunk seen; /* first: what sinks get */
    gint refs;
    Pool *pool;
    struct Buffer *buffer; /* NULL: zeros */
    LeafHash hash[CHUNK_LEAVES];
} Chunk;

/* Chunks keep it, also those that a sink still holds when the mover is gone. */
Pool *pool_new (guint buffers, GError **error);
void pool_unref (Pool *pool);
int pool_wake_fd (Pool *pool);  /* readable: a buffer became free after there was none */
gboolean pool_has (Pool *pool); /* a buffer */
/* A chunk of data to read into (at most MOVER_CHUNK); only when the pool has a buffer. */
Chunk *chunk_new_data (Pool *pool, guint64 offset, guint64 length);
Chunk *chunk_new_zero (Pool *pool, guint64 offset, guint64 length);
guchar *chunk_buffer (Chunk *chunk);
/* A part of it, from a leaf on, that shares its buffer and has its hashes; zero: as zeros. */
Chunk *chunk_part (Chunk *chunk, guint64 leaf, guint64 count, guint64 size, gboolean zero);
