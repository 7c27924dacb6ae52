/* What the qemu driver hands to the engine of steps, and what it does to QEMU's jobs besides. All
 * on the guest's thread. */
#pragma once
#include "driver/qemu/guest.h"
#include "job/run.h"

extern const RunOps qemu_run_ops; /* run->data is the Guest */

typedef enum { HALT_STILL, HALT_ENDS, HALT_LATE } JobHalt;
JobHalt run_job_halts (Guest *guest, const char *id, gint64 deadline); /* after a job-pause */
/* FALSE without an error: it ends by itself. */
gboolean run_job_may_be_cancelled (Guest *guest, const char *id, GError **error);
/* Until it has concluded ("ready" is enough where success is wanted); FALSE: it failed, or not in
 * time. */
gboolean run_wait_job (Run *run, const char *id, gboolean want_success, guint timeout_ms,
                       GError **error);
gboolean run_freeze (Run *run, GError **error);
gboolean run_thaw (Run *run, GError **error); /* if frozen */
/* Ends all mirrors of a plan at one instant. */
gboolean verb_mirror_end (Run *run, const Action *action, GError **error);
/* Cancels and dismisses a job, whatever its state, and if there is one at all. */
void run_end_job (Run *run, const char *id);
/* Removes from QEMU everything whose name begins with prefix ("bak-" or "bak-ID-"): exports, jobs,
 * nodes, objects, bitmaps. Idempotent. FALSE and what is left when something stays. */
gboolean run_sweep (Guest *guest, const char *prefix, GError **error);
/* All that is named "bak-", of a job that has no record; a warning for each file it was writing to.
 */
gboolean run_sweep_unknown (Guest *guest, GError **error);
