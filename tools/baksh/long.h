/* Calls that take long: they run in a thread of their own, while this one shows how far they are
 * and takes Ctrl-C, which cancels them. */
#pragma once
#include "baksh.h"

typedef struct _LongCall LongCall;
typedef void (*LongFunc) (LongCall *call, gpointer data);

/* Runs function (call, data) to its end. show: progress of name (NULL: without one) on standard
 * error, a bar on a terminal, a line a second elsewhere. TRUE: it was interrupted. */
gboolean long_run (LongFunc function, gpointer data, const char *name, gboolean show);
/* What goes into the options of the call: progress with call as its opaque, and cancellation. */
void long_progress (const BakPointProgress *progress, void *call);
BakCancellation *long_cancellation (LongCall *call);
