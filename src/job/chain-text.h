/* What qemu-img says of an image and all that lies below it. Each run of the program costs as much
 * as a whole begin does otherwise, so what was said of the same file a moment ago is said again. */
#pragma once
#include "util/error.h"

typedef enum {
    CHAIN_ASK,    /* runs the program */
    CHAIN_RECALL, /* what it said of this very file, unchanged, within seconds; else runs it */
} ChainAsk;

/* format: NULL: found out. JSON, an array, the named one first; caller frees. */
char *chain_text (const char *path, const char *format, ChainAsk ask, GError **error);
