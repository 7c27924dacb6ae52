/* Where an archive goes: a new file that has its name only when it is whole, or a descriptor. */
#pragma once
#include "mover/mover.h"

typedef struct _Output Output;

/* path: a file that is not there yet (EXISTS); NULL: fd, which is borrowed. */
Output *output_open (const char *path, int fd, GError **error);
/* While this is written by a mover, a wait ends when that is stopped. NULL: none. */
void output_set_sink (Output *output, const Sink *sink);
/* All of it, or *error. user: the Output. */
gboolean output_write (gconstpointer data, gsize length, gpointer user, GError **error);
/* Of a file whose holes need no writing; a pipe gets zeros. */
gboolean output_skip (Output *output, guint64 length, GError **error);
/* The SHA-256 of all that was written and its length; not after output_skip(). */
void output_digest (Output *output, LeafHash *ret_hash, guint64 *ret_length);
/* All of it is written: it is made durable. Then it gets its name. */
gboolean output_sync (Output *output, GError **error);
gboolean output_publish (Output *output, GError **error);
/* What is not whole goes. */
void output_free (Output *output);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Output, output_free)
