/* test:///default: a real block engine without a guest. Each connection has its own: a storage
 * daemon with two small disks and a state directory of its own, in which that daemon is attached as
 * the guest "test". From there on it is the qemu driver.
 *
 * The daemon is the child of a thread that lives as long as the connection, and dies with it; what
 * a killed process leaves in the temporary directory, the next connection removes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "driver/qemu/qemu.h"
#include "util/qsd.h"
#include "util/files.h"
#include "util/process.h"

#define PREFIX "libbackup-test-"
#define TEST_UUID                                                                                  \
    "6695eb01-f6a4-8304-79aa-97f2502e193f" /* of the guest of libvirt's test driver                \
                                            */

enum {
    DISK_SIZE = 16 * 1024 * 1024,
    DATA_SIZE = 2 * 1024 * 1024,
    BLOCK_SIZE = 4096,
    START_TIMEOUT_MS = 30000,
    END_WAIT_MS = 5000
};

static const char *const targets[] = { "vda", "vdb" };

typedef struct {
    char *dir, *socket;
    GThread *keeper;
    GMutex lock;
    GCond changed;
    gboolean started, ended; /* the keeper has tried to start the daemon; it is to end it */
    GPid pid;                /* 0: did not start */
    GError *error;
} Test;

static GMutex tests_lock;
static GHashTable *tests; /* DriverConn* -> Test*: conn->priv is the qemu driver's */

/* The folder */

/* PREFIX PID-START-XXXXXX, of a process that is no more. Both numbers: pids come again. */
static gboolean is_stale (const char *name)
{
    int pid = 0;
    guint64 start = 0;

    return g_str_has_prefix (name, PREFIX)
           && sscanf (name + strlen (PREFIX), "%d-%" G_GINT64_MODIFIER "u-", &pid, &start) == 2
           && pid > 0 && process_start_time (pid) != start;
}

static void remove_stale (void)
{
    g_autoptr (GDir) entries = g_dir_open (g_get_tmp_dir (), 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name (entries))) {
        g_autofree char *path = g_build_filename (g_get_tmp_dir (), name, NULL);
        struct stat st;
        if (is_stale (name) && lstat (path, &st) == 0 && S_ISDIR (st.st_mode)
            && st.st_uid == geteuid ())
            files_remove_tree (path);
    }
}

static gboolean make_test_folder (Test *test, GError **error)
{
    g_autofree char *name = g_strdup_printf (PREFIX "%d-%" G_GUINT64_FORMAT "-XXXXXX",
                                             (int) getpid (), process_start_time (getpid ()));
    char *path = g_build_filename (g_get_tmp_dir (), name, NULL);

    if (!g_mkdtemp_full (path, 0700)) {
        error_set_errno (error, errno, _("cannot make directory '%s'"), path);
        g_free (path);
        return FALSE;
    }
    test->dir = path;
    test->socket = g_build_filename (path, "qsd.sock", NULL);
    return TRUE;
}

/* The disks */

/* Every block says whose and which it is, over and over. */
static void fill_block (char *block, const char *target, guint number)
{
    g_autofree char *line = g_strdup_printf ("libbackup test disk %s block %06u\n", target, number);
    gsize length = strlen (line);

    for (gsize at = 0; at < BLOCK_SIZE; at += length)
        memcpy (block + at, line, MIN (length, BLOCK_SIZE - at));
}

static gboolean write_raw (const char *path, const char *target, GError **error)
{
    char block[BLOCK_SIZE];
    int fd = g_open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    gboolean ok = fd >= 0 && ftruncate (fd, DISK_SIZE) == 0;

    for (guint i = 0; ok && i < DATA_SIZE / BLOCK_SIZE; i++) {
        fill_block (block, target, i);
        ok = write (fd, block, BLOCK_SIZE) == BLOCK_SIZE;
    }
    int saved = errno;
    if (fd >= 0)
        close (fd);
    return ok || error_set_errno (error, saved, _("cannot write '%s'"), path);
}

static char *disk_path (const Test *test, const char *target)
{
    g_autofree char *file = g_strconcat (target, ".qcow2", NULL);
    return g_build_filename (test->dir, file, NULL);
}

static gboolean make_disk (const Test *test, const char *target, GError **error)
{
    g_autofree char *path = disk_path (test, target), *raw = g_strconcat (path, ".raw", NULL);
    const char *const args[] = { "convert", "-f", "raw", "-O", "qcow2", raw, path, NULL };

    gboolean ok = write_raw (raw, target, error) && image_tool (args, NULL, error);
    g_unlink (raw);
    return ok || error_note (error, _("test disk '%s'"), target);
}

/* The daemon */

static GPtrArray *make_argv (const Test *test)
{
    GPtrArray *argv = qsd_argv_new ();

    for (guint i = 0; i < G_N_ELEMENTS (targets); i++) {
        g_autofree char *path = disk_path (test, targets[i]);
        g_ptr_array_add (argv, g_strdup ("--blockdev"));
        g_ptr_array_add (argv, qsd_blockdev (path, "qcow2", targets[i]));
    }
    qsd_argv_end (argv);
    return argv;
}

static gboolean spawn_daemon (Test *test, GError **error)
{
    g_autoptr (GPtrArray) argv = make_argv (test);
    g_autofree char *path = g_build_filename (test->dir, "qsd.log", NULL);
    int monitor = qsd_bind (test->socket, error);
    int log = monitor < 0 ? -1 : g_open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (monitor >= 0 && log < 0)
        error_set_errno (error, errno, "'%s'", path);
    gboolean ok = log >= 0 && qsd_spawn ((char **) argv->pdata, monitor, log, &test->pid, error);
    if (monitor >= 0)
        close (monitor);
    if (log >= 0)
        close (log);
    return ok;
}

static void end_daemon (Test *test)
{
    if (test->pid == 0)
        return;
    kill (test->pid, SIGTERM);
    if (!process_wait_gone (test->pid, END_WAIT_MS))
        kill (test->pid, SIGKILL);
    while (waitpid (test->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* The daemon's parent: the kernel ends the daemon when this thread ends, however that comes. */
static gpointer keep_daemon (gpointer data)
{
    Test *test = data;

    g_mutex_lock (&test->lock);
    if (!spawn_daemon (test, &test->error))
        test->pid = 0;
    test->started = TRUE;
    g_cond_broadcast (&test->changed);
    while (!test->ended)
        g_cond_wait (&test->changed, &test->lock);
    g_mutex_unlock (&test->lock);
    end_daemon (test);
    return NULL;
}

static gboolean start_daemon (Test *test, GError **error)
{
    g_autofree char *log = g_build_filename (test->dir, "qsd.log", NULL);

    test->keeper = g_thread_new ("test-daemon", keep_daemon, test);
    g_mutex_lock (&test->lock);
    while (!test->started)
        g_cond_wait (&test->changed, &test->lock);
    g_mutex_unlock (&test->lock);
    if (test->pid == 0) {
        g_propagate_error (error, g_steal_pointer (&test->error));
        return FALSE;
    }
    g_autoptr (GError) why = NULL;
    g_autoptr (Qmp) qmp = qmp_connect (test->socket, NULL, START_TIMEOUT_MS, &why);
    return qmp || qsd_reason (log, why, error);
}

/* The connection */

static void test_free (Test *test)
{
    if (test->keeper) {
        g_mutex_lock (&test->lock);
        test->ended = TRUE;
        g_cond_broadcast (&test->changed);
        g_mutex_unlock (&test->lock);
        g_thread_join (test->keeper);
    }
    if (test->dir)
        files_remove_tree (test->dir);
    g_clear_error (&test->error);
    g_mutex_clear (&test->lock);
    g_cond_clear (&test->changed);
    g_free (test->socket);
    g_free (test->dir);
    g_free (test);
}

static gboolean attach_guest (const Test *test, GError **error)
{
    g_autoptr (GuestDef) def = guest_def_new ("test");

    def->uuid = g_strdup (TEST_UUID);
    def->qmp = g_strdup (test->socket);
    return attach_store (test->dir, def, NULL, error);
}

static gboolean test_start (Test *test, GError **error)
{
    if (!make_test_folder (test, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (targets); i++)
        if (!make_disk (test, targets[i], error))
            return FALSE;
    return start_daemon (test, error) && attach_guest (test, error);
}

static gboolean test_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    Test *test = g_new0 (Test, 1);
    DriverOpenOptions own = *options;

    own.role = DRIVER_ROLE_CLIENT;
    own.watch_guest = NULL;
    g_mutex_init (&test->lock);
    g_cond_init (&test->changed);
    remove_stale ();
    if (!test_start (test, error) || !qemu_open_at (conn, &own, test->dir, error)) {
        test_free (test);
        return error_note (error, "test:///default");
    }
    ((QemuConn *) conn->priv)->embedded = TRUE;
    g_mutex_lock (&tests_lock);
    if (!tests)
        tests = g_hash_table_new (g_direct_hash, g_direct_equal);
    g_hash_table_insert (tests, conn, test);
    g_mutex_unlock (&tests_lock);
    return TRUE;
}

static void test_close (DriverConn *conn)
{
    Test *test = NULL;

    g_mutex_lock (&tests_lock);
    g_hash_table_steal_extended (tests, conn, NULL, (gpointer *) &test);
    if (g_hash_table_size (tests) == 0)
        g_clear_pointer (&tests, g_hash_table_unref);
    g_mutex_unlock (&tests_lock);
    qemu_close (conn);
    test_free (test);
}

static gboolean test_probe (const char *uri)
{
    return g_str_equal (uri, "test:///default");
}

const DriverOps test_driver = {
    .name = "test",
    .probe = test_probe,
    .open = test_open,
    .close = test_close,
    .calls = qemu_embedded_calls, /* its one guest comes and goes with the connection */
    .route = qemu_route,
};
