/* A QEMU that is started to see a guest come up, and thrown away: it has no network, it dies with
 * us, and nothing of it has a name in the file system. */
#pragma once
#include "job.h"

typedef struct {
    const GPtrArray *words; /* of machine_words() */
    const NightDrill *wish;
    BakCancellation *cancellation;
    void (*started) (gpointer data); /* it has opened its disks; may be NULL */
    gpointer data;
} Boot;

/* What showed that it came up: "agent", "console" or "time". NULL: it did not, *ret_why, which the
 * caller frees. */
const char *boot_run (const Boot *boot, char **ret_why);
