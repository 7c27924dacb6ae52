/* The chain of images below a disk, as a document (job/image-rows.h). */
#pragma once
#include "driver/qemu/guest.h"

/* On the guest's thread. Caller frees. */
char *guest_chain (Guest *guest, const char *disk, GError **error);
/* nodes: the answer of query-named-block-nodes. Pure. */
JsonArray *chain_rows (const Graph *graph, JsonArray *nodes, const char *top);
