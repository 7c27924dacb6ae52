/* A file of leaves, damaged or forged: refused, or all of its disk can be asked for. Views read
 * what the digest has not proved, so both are tried. */
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include "fuzz.h"
#include "mover/leaves.h"

enum { LOOKS_MAX = 2000 };

static void look_at (LeavesView *view)
{
    guint64 leaves = leaf_count (leaves_view_size (view));
    LeafRun run;

    for (guint64 index = 0, looks = 0; index < leaves && looks < LOOKS_MAX; looks++) {
        g_autoptr (GError) error = NULL;
        gboolean ok = leaves_view_get (view, index, &run, &error);
        fuzz_error_check (ok, error);
        if (!ok)
            return;
        MUST (run.index == index && run.count > 0 && run.count <= leaves - index);
        index += run.count;
    }
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autoptr (GError) error = NULL, checked = NULL;
    int fd = memfd_create ("leaves", MFD_CLOEXEC);
    g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
    const char *paths[] = { path, path, NULL };
    static const guint64 sizes[] = { 0, 1, LEAF_SIZE * 3 + 512, G_GUINT64_CONSTANT (1) << 43 };

    MUST (fd >= 0 && write (fd, bytes, length) == (ssize_t) length);
    gboolean sound = leaves_check (path, LEAVES_ANY_SIZE, &checked);
    fuzz_error_check (sound, checked);
    for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
        g_clear_error (&error);
        g_autoptr (LeavesView) view = leaves_view_open (paths, sizes[i], NULL, &error);
        fuzz_error_check (view != NULL, error);
        MUST (view || !sound);
        if (view)
            look_at (view);
    }
    close (fd);
}
