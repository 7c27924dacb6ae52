/* Deliberately wrong, to see that the tests notice. The linker puts these functions in the place of
 * the right ones (--wrap); nothing of it is in the sources, nor in what is installed. */
#include <gio/gio.h>
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/planner.h"
#include "job/run.h"

#ifdef BREAK_KEEP_CHECKPOINT
gboolean __real_run_undo (Run *run, gboolean success, GError **error);
gboolean __wrap_run_undo (Run *run, gboolean success, GError **error);
gboolean __wrap_checkpoint_drop (Guest *guest, const Plan *plan, GError **error);

/* As libvirt does: what was made at the start stays when the copy fails. */
gboolean __wrap_run_undo (Run *run, gboolean success, GError **error)
{
    return __real_run_undo (run, success || run->plan->checkpoint, error);
}

gboolean __wrap_checkpoint_drop (Guest *guest, const Plan *plan, GError **error)
{
    return !plan->checkpoint
           || checkpoint_record (guest, plan, g_get_real_time () / G_USEC_PER_SEC, NULL, error);
}
#endif

#ifdef BREAK_NOT_LOOKING
gboolean __wrap_checkpoints_see_sizes (const char *dir, GPtrArray *all,
                                       guint64 (*size_of) (const char *disk, gconstpointer data),
                                       gconstpointer data, GError **error);

gboolean __wrap_seal_has_end (const Planner *p, guint64 size);

gboolean __wrap_seal_has_end (const Planner *p G_GNUC_UNUSED, guint64 size G_GNUC_UNUSED)
{
    return FALSE;
}

/* As everybody else does: a disk that was smaller and has grown back has never changed. */
gboolean __wrap_checkpoints_see_sizes (const char *dir G_GNUC_UNUSED, GPtrArray *all G_GNUC_UNUSED,
                                       guint64 (*size_of) (const char *disk, gconstpointer data)
                                           G_GNUC_UNUSED,
                                       gconstpointer data G_GNUC_UNUSED,
                                       GError **error G_GNUC_UNUSED)
{
    return TRUE;
}
#endif

#ifdef BREAK_DROP_ZEROS
gboolean __real_run_finish (Run *run, GError **error);
gboolean __wrap_run_finish (Run *run, GError **error);

/* As virtnbdbackup did: what is zero now is not worth storing, so the restored chain shows what was
 * there before. */
gboolean __wrap_run_finish (Run *run, GError **error)
{
    if (!__real_run_finish (run, error))
        return FALSE;
    for (guint i = 0; i < run->plan->disks->len; i++) {
        const PlanDisk *disk = run->plan->disks->pdata[i];
        if (g_strcmp0 (disk->type, "incremental") != 0 || g_strcmp0 (disk->format, "qcow2") != 0
            || !disk->path || *disk->path != '/')
            continue;
        g_autofree char *thin = g_strconcat (disk->path, ".thin", NULL);
        const char *const make[] = { "qemu-img", "convert", "-O", "qcow2", disk->path, thin, NULL };
        g_autoptr (GSubprocess) process = g_subprocess_newv (make, G_SUBPROCESS_FLAGS_NONE, error);
        if (!process || !g_subprocess_wait_check (process, NULL, error)
            || rename (thin, disk->path) != 0)
            return FALSE;
    }
    return TRUE;
}
#endif

#ifdef BREAK_CARELESS
#include "repository/merge-parts.h"

gboolean __wrap_merge_record_write (const char *path, const MergeRecord *record, GError **error);

/* What is to be done is not put down before it is done. */
gboolean __wrap_merge_record_write (const char *path G_GNUC_UNUSED,
                                    const MergeRecord *record G_GNUC_UNUSED,
                                    GError **error G_GNUC_UNUSED)
{
    return TRUE;
}
#endif

#ifdef BREAK_TRUSTING
#include "driver/claims.h"
#include "driver/qemu/migration.h"
#include "driver/qemu/same-qemu.h"
#include "job/chain.h"
#include "job/seal.h"
#include "job/seen.h"
#include "job/target.h"

/* One build for all that proves identity: LIBBACKUP_BROKEN names the mechanism that is left out, or
 * "everything", which bench/identity.py compares with. */
static gboolean without (const char *mechanism)
{
    const char *named = g_getenv ("LIBBACKUP_BROKEN");
    return g_strcmp0 (named, mechanism) == 0 || g_strcmp0 (named, "everything") == 0;
}

/* A function that asks, and what it says when nobody looks. */
#define TRUSTING(mechanism, type, said, name, params, args)                                        \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return without (mechanism) ? said : __real_##name args;                                    \
    }

TRUSTING ("seals", char *, NULL, seal_broken,
          (const CheckpointDisk *disk, const SealBitmap *bitmap, const SealBitmap *seal,
           const SealBitmap *end),
          (disk, bitmap, seal, end))
TRUSTING ("end", gboolean, FALSE, seal_has_end, (const Planner *p, guint64 size), (p, size))
TRUSTING ("previous", gboolean, TRUE, chain_check,
          (const char *path, const char *sealed, GError **error), (path, sealed, error))
TRUSTING ("layers", char *, NULL, chain_check_below, (const char *path, const char *sealed),
          (path, sealed))
TRUSTING ("guest", gboolean, TRUE, same_guest_check,
          (Qmp * qmp, const GuestDef *def, GError **error), (qmp, def, error))
TRUSTING ("claims", gboolean, TRUE, claims_allow,
          (const char *dir, const char *path, const struct stat *st, GError **error),
          (dir, path, st, error))
TRUSTING ("state", gboolean, TRUE, migration_allows,
          (const char *status, const char *migration, GError **error), (status, migration, error))
TRUSTING ("state", gboolean, TRUE, migration_check, (Guest * guest, GError **error), (guest, error))
TRUSTING ("barrier", char *, NULL, migration_barrier, (const Guest *guest), (guest))
TRUSTING ("target", gboolean, TRUE, target_check,
          (const char *path, const char *format, guint64 size, GError **error),
          (path, format, size, error))
TRUSTING ("whole", gboolean, TRUE, target_is_whole, (const char *path, guint64 gap, GError **error),
          (path, gap, error))
TRUSTING ("whole", gboolean, TRUE, target_reaches,
          (const char *path, guint64 highest, GError **error), (path, highest, error))
TRUSTING ("names", const struct stat *, NULL, run_seen, (const Run *run, const char *path),
          (run, path))
/* what is left behind to be looked at later */
TRUSTING ("making", char *, NULL, seal_new_token, (void), ())
TRUSTING ("making", char *, NULL, chain_seal_below, (const char *path), (path))
TRUSTING ("making", char *, NULL, chain_data_id, (const char *path), (path))
TRUSTING ("making", gboolean, TRUE, plan_seal_backups,
          (const Plan *plan, Checkpoint *checkpoint, GError **error), (plan, checkpoint, error))
#endif
