/* Which point each disk of a new one is compared with, and whether changed-block tracking may say
 * what to read. Pure: the points, the guest's disks and its checkpoints go in. */
#pragma once
#include "repository/repository.h"

typedef struct {
    char *target;
    guint64 size;
    Point *base;      /* the newest point that has this disk; NULL: none */
    gboolean tracked; /* read what changed since base's checkpoint; else all of it */
    char *reason;     /* why not tracked; NULL: nothing to say */
} BaseChoice;

typedef struct {
    const char *target;
    guint64 size;
} BaseDisk;

/* points by rising sequence. why_none: why the checkpoint of the newest point is of no use; NULL:
 * it is there and it is that point's. Returns BaseChoice, one a disk. */
GPtrArray *base_choose (const GPtrArray *points, const BaseDisk *disks, guint n_disks,
                        const char *why_none);
void base_choice_free (BaseChoice *choice);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BaseChoice, base_choice_free)
