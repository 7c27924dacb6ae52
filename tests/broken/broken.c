/* Deliberately wrong, to see that the tests notice. The linker puts these functions in the place of the right ones (--wrap); nothing of it
 * is in the sources, nor in what is installed. */
#include <gio/gio.h>
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/run.h"

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
    return !plan->checkpoint || checkpoint_record (guest, plan, g_get_real_time () / G_USEC_PER_SEC, NULL, error);
}
#endif

#ifdef BREAK_NOT_LOOKING
gboolean __wrap_checkpoints_see_sizes (const char *dir, GPtrArray *all, guint64 (*size_of) (const char *disk, gconstpointer data), gconstpointer data, GError **error);

/* As everybody else does: a disk that was smaller and has grown back has never changed. */
gboolean __wrap_checkpoints_see_sizes (const char *dir G_GNUC_UNUSED, GPtrArray *all G_GNUC_UNUSED, guint64 (*size_of) (const char *disk, gconstpointer data) G_GNUC_UNUSED,
                                       gconstpointer data G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return TRUE;
}
#endif

#ifdef BREAK_DROP_ZEROS
gboolean __real_run_finish (Run *run, GError **error);
gboolean __wrap_run_finish (Run *run, GError **error);

/* As virtnbdbackup did: what is zero now is not worth storing, so the restored chain shows what was there before. */
gboolean __wrap_run_finish (Run *run, GError **error)
{
    if (!__real_run_finish (run, error))
        return FALSE;
    for (guint i = 0; i < run->plan->disks->len; i++) {
        const PlanDisk *disk = run->plan->disks->pdata[i];
        if (g_strcmp0 (disk->type, "incremental") != 0 || g_strcmp0 (disk->format, "qcow2") != 0 || !disk->path || *disk->path != '/')
            continue;
        g_autofree char *thin = g_strconcat (disk->path, ".thin", NULL);
        const char *const make[] = { "qemu-img", "convert", "-O", "qcow2", disk->path, thin, NULL };
        g_autoptr (GSubprocess) process = g_subprocess_newv (make, G_SUBPROCESS_FLAGS_NONE, error);
        if (!process || !g_subprocess_wait_check (process, NULL, error) || rename (thin, disk->path) != 0)
            return FALSE;
    }
    return TRUE;
}
#endif
