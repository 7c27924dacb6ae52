/* A previous backup and all that lies below it, as it was left: size, time of the last write,
 * inode and birth (no device number: that is another one after a restart), and hashes of its ends,
 * where an image has its header and tables. */
#pragma once
#include "util/error.h"

typedef enum {
    CHAIN_CLOSED,
    /* what a guest's image stands on: known by its content and times alone */
    CHAIN_BELOW,
    /* an increment that was laid on nothing: somebody may give it its backing file yet */
    CHAIN_OPEN,
} ChainEnd;

/* Opens the image and its whole chain as a reader does, and says what shows later whether any of it
 * was touched: a line a file, the named one first. Caller frees. */
char *chain_seal (const char *path, ChainEnd end, GError **error);
/* The same of what a guest's image stands on (NULL: nothing), which may be copied elsewhere with
 * its times and stays the same. NULL: it cannot be told, because it is no file or does not open.
 * Caller frees. */
char *chain_seal_below (const char *path);
/* What differs below a guest's image from chain_seal_below(), in words; NULL: nothing. Caller
 * frees. */
char *chain_check_below (const char *path, const char *sealed);
/* The file, of somewhere else than its image, that has the guest's data (NULL: none), which changes
 * with every write: a copy is another one, as nothing in it says what it is. NULL: it cannot be
 * told. Caller frees. */
char *chain_data_id (const char *path);
/* The same for the difference, in words; NULL: the same. Caller frees. */
char *chain_check_data (const char *path, const char *recorded);
/* FALSE with INEXACT, naming the file and what differs. sealed: of chain_seal(); NULL: not known,
 * which is TRUE when the chain opens. */
gboolean chain_check (const char *path, const char *sealed, GError **error);
/* The file that the backup of that checkpoint went into (NULL: not known), wherever it was moved
 * to; by its name only where files have no birth (id NULL). INEXACT else. */
gboolean chain_is_backup_of (const char *path, const char *checkpoint, const char *backup,
                             const char *id, GError **error);
/* Pure: what differs between two of them, in words; NULL: nothing. Caller frees. */
char *chain_difference (const char *then, const char *now);
