/* The first stage: from an export, chunks in address order, block status first. One thread. */
#pragma once
#include "mover/chunk.h"
#include "mover/client.h"

typedef struct {
    const MoverSource *source;
    const MoverOptions *options;
    Pool *pool;
    int stop_fd; /* readable: end with ABORTED */
    /* Takes the chunk; FALSE: the stages behind do not want more. */
    gboolean (*give) (Chunk *chunk, gpointer data);
    gpointer data;
    guint64 size, read, zeroed, looked; /* results */
} Reader;

/* Connects, and knows the size; then reads all that options want. */
typedef struct ReaderState ReaderState;
ReaderState *reader_open (Reader *reader, GError **error);
gboolean reader_run (ReaderState *state, GError **error);
void reader_close (ReaderState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ReaderState, reader_close)
