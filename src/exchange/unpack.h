/* What is imported, as a stream: a file or a descriptor, unpacked on the way when it is zstd. */
#pragma once
#include "mover/tree.h"

typedef struct _Input Input;
/* path "-": standard input. */
Input *input_open (const char *path, GError **error);
/* Up to length bytes, unpacked; 0: the end; -1: *error. */
gssize input_read (Input *input, gpointer buffer, gsize length, GError **error);
/* At the end: of the file as it lies there, packed. */
void input_digest (Input *input, LeafHash *ret_hash, guint64 *ret_length);
void input_free (Input *input);

/* Whole LZ4 frames; *length: the room, then what was made of it. INEXACT: damaged, or too much. */
gboolean unpack_lz4 (const guchar *packed, gsize packed_length, guchar *ret_data, gsize *length,
                     GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Input, input_free)
