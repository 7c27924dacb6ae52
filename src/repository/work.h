/* What the long calls that read points share: rate, cancellation, progress over several disks that
 * are worked on one after the other. */
#pragma once
#include "mover/mover.h"
#include "repository/repository.h"

typedef struct {
    MoverControl *control;
    BakPointProgressFunc progress;
    void *opaque;
    BakCancellation *cancellation;
    gulong handler;
    const char *phase, *disk; /* borrowed */
    guint64 before, total;    /* bytes of the disks that are done, of all */
    gint64 start;
} Work;

void work_init (Work *work, guint64 limit, BakPointProgressFunc progress, void *opaque,
                BakCancellation *cancellation);
void work_clear (Work *work);
/* Before and after one disk of the phase. */
void work_begin_disk (Work *work, const char *phase, const char *disk);
void work_end_disk (Work *work, guint64 size);
/* The progress function of MoverOptions; data: the Work. */
void work_progress (guint64 done, guint64 total, gpointer data);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Work, work_clear)
