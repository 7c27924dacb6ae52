/* The storage daemon of a powered-off guest, a real one. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "driver/qemu/offline.h"
#include "support.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

static char *dir, *qcow2, *raw;
static Guest guest;

static void setup (void)
{
    static const char *const formats[] = { "qcow2", "raw" };

    dir = g_mkdtemp (g_strdup ("/tmp/libbackup-off-XXXXXX"));
    ck_assert_ptr_nonnull (dir);
    qcow2 = g_build_filename (dir, "a b,c.qcow2", NULL);
    raw = g_build_filename (dir, "d.raw", NULL);
    run_ok ("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "8M", NULL);
    run_ok ("qemu-img", "create", "-q", "-f", "raw", raw, "4M", NULL);
    memset (&guest, 0, sizeof guest);
    guest.def = guest_def_new ("off");
    guest.def->uuid = g_strdup ("6695eb01-f6a4-8304-79aa-97f2502e193f");
    g_ptr_array_add (guest.def->images, guest_disk_def_new ("vda", qcow2));
    g_ptr_array_add (guest.def->images, guest_disk_def_new ("0 odd", raw));
    ck_assert (attach_store (dir, guest.def, formats, NULL));
    guest.dir = g_build_filename (dir, "guests", "off", NULL);
}

static void teardown (void)
{
    offline_stop (&guest);
    files_remove_tree (dir);
    guest_def_free (guest.def);
    g_free (guest.dir);
    g_free (qcow2);
    g_free (raw);
    g_free (dir);
}

static char *start (void)
{
    g_autoptr (GError) error = NULL;
    char *socket = offline_start (&guest, &error);

    ck_assert_msg (socket != NULL, "%s", error ? error->message : "");
    return socket;
}

static pid_t pid_of (const char *socket)
{
    g_autoptr (Qmp) qmp = qmp_connect (socket, NULL, 0, NULL);

    ck_assert_ptr_nonnull (qmp);
    return qmp_get_peer_pid (qmp);
}

START_TEST (it_shows_the_guests_disks_by_their_targets)
{
    g_autofree char *socket = start ();
    g_autoptr (Qmp) qmp = qmp_connect (socket, NULL, 0, NULL);
    g_autoptr (Caps) caps = caps_load (qmp, NULL);
    g_autoptr (Graph) graph = graph_load (qmp, caps, GRAPH_ALL, guest.def->disks, NULL);

    ck_assert_ptr_nonnull (graph);
    ck_assert_uint_eq (graph->disks->len, 2);
    const GraphDisk *first = graph_disk (graph, "vda", NULL),
                    *second = graph_disk (graph, "0 odd", NULL);
    ck_assert_ptr_nonnull (first);
    ck_assert_ptr_nonnull (second);
    ck_assert_str_eq (first->target, "vda");
    ck_assert_str_eq (first->node, "vda");
    ck_assert_str_eq (second->target, "0 odd");
    ck_assert_str_eq (graph_node (graph, second->node)->driver, "raw");
    ck_assert_uint_eq (second->size, 4 * 1024 * 1024);
    ck_assert_ptr_null (graph_disk_excluded (first));
    ck_assert_ptr_null (graph_disk_excluded (second));
}
END_TEST

START_TEST (it_is_found_again_and_not_started_twice)
{
    g_autofree char *first = start (), *second = NULL, *note = offline_note (&guest);
    pid_t pid = pid_of (first);
    g_autofree char *number = g_strdup_printf ("pid %d", (int) pid);

    ck_assert (offline_running (&guest));
    ck_assert_ptr_nonnull (strstr (note, number));
    second = start ();
    ck_assert_str_eq (first, second);
    ck_assert_int_eq (pid_of (second), pid);
}
END_TEST

START_TEST (it_outlives_whoever_started_it)
{
    pid_t child = fork ();
    int status = -1;

    if (child == 0) {
        g_autofree char *socket = offline_start (&guest, NULL);
        _exit (socket ? 0 : 1);
    }
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert_int_eq (status, 0);
    ck_assert (offline_running (&guest));
    g_autofree char *socket = start ();
    ck_assert_int_eq (getsid (pid_of (socket)), pid_of (socket));
    ck_assert_uint_eq (count_children (), 0);
}
END_TEST

START_TEST (after_stop_nothing_runs_and_nothing_is_left)
{
    g_autofree char *socket = start ();
    pid_t pid = pid_of (socket);
    g_autoptr (GDir) entries = NULL;
    const char *name;

    offline_stop (&guest);
    ck_assert (!offline_running (&guest));
    ck_assert_ptr_null (offline_note (&guest));
    ck_assert (process_start_time (pid) == 0);
    entries = g_dir_open (guest.dir, 0, NULL);
    while ((name = g_dir_read_name (entries)))
        ck_assert_msg (g_str_equal (name, "guest.json") || g_str_equal (name, "attach.json"), "%s",
                       name);
    offline_stop (&guest);
}
END_TEST

static void no_warning (const char *domain, GLogLevelFlags level, const char *message,
                        gpointer data)
{
    ck_assert_msg (!(level & G_LOG_LEVEL_WARNING), "%s", message);
}

START_TEST (one_that_does_not_listen_any_more_is_ended_all_the_same)
{
    g_autofree char *socket = start ();
    pid_t pid = pid_of (socket);

    kill (pid, SIGSTOP);
    ck_assert (offline_running (&guest));
    /* it cannot answer, but it is made to go on for long enough to close the images */
    g_log_set_default_handler (no_warning, NULL);
    offline_stop (&guest);
    ck_assert (process_start_time (pid) == 0);
}
END_TEST

/* While it runs, no other QEMU may write the images: not the qcow2, and not the raw one, which
 * nothing but our lock guards. */
START_TEST (it_locks_every_image)
{
    const char *file = _i ? raw : qcow2, *format = _i ? "raw" : "qcow2";
    const char *const argv[] = { "qemu-io", "-f", format, "-c", "write 0 64k", file, NULL };
    g_autofree char *socket = start (), *messages = NULL;
    int status = 0;

    ck_assert (process_run (argv, 10000, 1 << 16, &status, NULL, &messages, NULL));
    ck_assert_int_ne (status, 0);
    ck_assert_msg (strstr (messages, "lock"), "%s", messages);
    offline_stop (&guest);
    ck_assert (process_run (argv, 10000, 1 << 16, &status, NULL, NULL, NULL));
    ck_assert_int_eq (status, 0);
}
END_TEST

/* A guest that runs: a QEMU with the image open for writing. */
START_TEST (a_running_guest_is_said_so_and_its_image_named)
{
    const char *file = _i ? raw : qcow2;
    g_autofree char *monitor = g_build_filename (dir, "other.sock", NULL);
    g_autofree char *escaped = _i ? g_strdup (raw) : g_strdup_printf ("%s/a b,,c.qcow2", dir);
    g_autofree char *drive =
        g_strdup_printf ("file=%s,format=%s,if=none,id=d", escaped, _i ? "raw" : "qcow2");
    const char *const argv[] = { "qemu-system-x86_64",
                                 "-S",
                                 "-display",
                                 "none",
                                 "-nodefaults",
                                 "-machine",
                                 "pc",
                                 "-drive",
                                 drive,
                                 "-device",
                                 "virtio-blk-pci,drive=d",
                                 "-chardev",
                                 "socket,id=m,fd=3,server=on,wait=off",
                                 "-mon",
                                 "chardev=m,mode=control",
                                 NULL };
    int listener = listen_at (monitor);
    pid_t pid = start_program (argv, listener);
    g_autoptr (GError) error = NULL;
    g_autoptr (Qmp) qmp = qmp_connect (monitor, NULL, 30000, &error);

    g_assert_no_error (error);
    close (listener);
    ck_assert_ptr_null (offline_start (&guest, &error));
    stop_program (pid);
    ck_assert_int_eq (error->code, BAK_ERROR_BUSY);
    ck_assert_msg (strstr (error->message, file) && strstr (error->message, "running QEMU"), "%s",
                   error->message);
    ck_assert (!offline_running (&guest));
}
END_TEST

START_TEST (a_daemon_that_cannot_start_says_why)
{
    g_autoptr (GError) error = NULL;

    ck_assert_int_eq (setenv ("LIBBACKUP_QSD", _i ? "/bin/false" : "/no/such/program", 1), 0);
    ck_assert_ptr_null (offline_start (&guest, &error));
    ck_assert_msg (strstr (error->message, _i ? "did not start" : "/no/such/program") != NULL, "%s",
                   error->message);
    ck_assert (!offline_running (&guest));
}
END_TEST

START_TEST (a_daemon_that_lets_its_first_client_go_is_asked_again)
{
    ck_assert_int_eq (setenv ("LIBBACKUP_QSD", TEST_FAKE "/startled-daemon", 1), 0);
    g_autofree char *socket = start ();

    ck_assert (offline_running (&guest));
    ck_assert_int_gt (pid_of (socket), 0);
}
END_TEST

/* The classic way out of a guest: a raw disk that becomes a qcow2 whose backing file is the host's.
 */
START_TEST (a_raw_disk_is_raw_whatever_the_guest_writes_into_it)
{
    g_autofree char *secret = g_build_filename (dir, "secret", NULL),
                    *trap = g_build_filename (dir, "trap.qcow2", NULL), *text = NULL;
    gsize length;

    run_ok ("qemu-img", "create", "-q", "-f", "raw", secret, "64k", NULL);
    run_ok ("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", trap, "4M", NULL);
    ck_assert (g_file_get_contents (trap, &text, &length, NULL));
    ck_assert (g_file_set_contents (raw, text, length, NULL));
    g_autofree char *socket = start ();
    g_autoptr (Qmp) qmp = qmp_connect (socket, NULL, 0, NULL);
    g_autoptr (Caps) caps = caps_load (qmp, NULL);
    g_autoptr (Graph) graph = graph_load (qmp, caps, GRAPH_ALL, guest.def->disks, NULL);
    const GraphDisk *disk = graph_disk (graph, "0 odd", NULL);
    ck_assert_str_eq (graph_node (graph, disk->node)->driver, "raw");
    for (guint i = 0; i < graph->nodes->len; i++)
        ck_assert_ptr_null (strstr (((GraphNode *) graph->nodes->pdata[i])->filename, "secret"));
    bak_disks_ret disks = { 0 };
    ck_assert (offline_disks (&guest, &disks, NULL));
    ck_assert_str_eq (disks.disks.disks_val[1].format, "raw");
    call_clear_ret (CALL_ID_domain_disks, &disks);
}
END_TEST

START_TEST (without_the_daemon_images_tell_size_format_depth_and_bitmaps)
{
    g_autofree char *base = g_build_filename (dir, "base.qcow2", NULL);
    bak_disks_ret disks = { 0 };
    g_autoptr (GError) error = NULL;
    struct stat st;

    run_ok ("qemu-img", "create", "-q", "-f", "qcow2", base, "8M", NULL);
    run_ok ("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", base, qcow2, NULL);
    run_ok ("qemu-img", "bitmap", "--add", qcow2, "cp1", NULL);
    ck_assert_msg (offline_disks (&guest, &disks, &error), "%s", error ? error->message : "");
    ck_assert_uint_eq (disks.disks.disks_len, 2);
    const bak_disk *first = &disks.disks.disks_val[0], *second = &disks.disks.disks_val[1];
    ck_assert_str_eq (first->target, "vda");
    ck_assert_str_eq (first->source, qcow2);
    ck_assert_str_eq (first->format, "qcow2");
    ck_assert_uint_eq (first->capacity, 8 * 1024 * 1024);
    ck_assert_uint_eq (first->depth, 1);
    ck_assert_ptr_nonnull (strstr (first->note, "cp1"));
    ck_assert_int_eq (stat (qcow2, &st), 0);
    ck_assert_uint_eq (first->physical, st.st_size);
    ck_assert_str_eq (second->format, "raw");
    ck_assert_uint_eq (second->physical, 4 * 1024 * 1024);
    ck_assert_uint_eq (second->depth, 0);
    ck_assert_str_eq (second->names.names_val[0], "0 odd");
    call_clear_ret (CALL_ID_domain_disks, &disks);
    ck_assert_int_eq (unlink (base), 0);
    ck_assert (!offline_disks (&guest, &disks, &error));
    ck_assert_ptr_nonnull (strstr (error->message, "disk 'vda'"));
}
END_TEST

START_TEST (a_bitmap_is_removed_once_and_its_absence_is_fine)
{
    g_autoptr (GError) error = NULL;

    run_ok ("qemu-img", "bitmap", "--add", qcow2, "cp1", NULL);
    run_ok ("qemu-img", "bitmap", "--add", "--", qcow2, "-odd name", NULL);
    ck_assert_msg (image_bitmap_remove (qcow2, "qcow2", "-odd name", &error), "%s",
                   error ? error->message : "");
    ck_assert (image_bitmap_remove (qcow2, "qcow2", "-odd name", NULL));
    g_autoptr (ImageInfo) info = image_probe (qcow2, NULL, NULL);
    ck_assert_uint_eq (info->bitmaps->len, 1);
    ck_assert_str_eq (((ImageBitmap *) info->bitmaps->pdata[0])->name, "cp1");
    ck_assert (!image_bitmap_remove ("/no/such/file", "qcow2", "cp1", NULL));
}
END_TEST

START_TEST (a_long_state_directory_gets_its_socket_elsewhere)
{
    g_autofree char *part = g_strnfill (60, 'x'),
                    *deep = g_build_filename (guest.dir, part, part, NULL);

    ck_assert_int_eq (setenv ("XDG_RUNTIME_DIR", dir, 1), 0);
    ck_assert_int_eq (g_mkdir_with_parents (deep, 0700), 0);
    g_autofree char *from = g_build_filename (guest.dir, "attach.json", NULL),
                    *to = g_build_filename (deep, "attach.json", NULL);
    ck_assert_int_eq (rename (from, to), 0);
    g_free (guest.dir);
    guest.dir = g_steal_pointer (&deep);
    g_autofree char *socket = start ();
    ck_assert_uint_le (strlen (socket), 107);
    ck_assert (offline_running (&guest));
    offline_stop (&guest);
    ck_assert (!g_file_test (socket, G_FILE_TEST_EXISTS));
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("offline");

    require_programs ("qemu-storage-daemon", "qemu-img", "qemu-io", "qemu-system-x86_64", NULL);
    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 90);
    tcase_add_test (tcase, it_shows_the_guests_disks_by_their_targets);
    tcase_add_test (tcase, it_is_found_again_and_not_started_twice);
    tcase_add_test (tcase, it_outlives_whoever_started_it);
    tcase_add_test (tcase, after_stop_nothing_runs_and_nothing_is_left);
    tcase_add_test (tcase, one_that_does_not_listen_any_more_is_ended_all_the_same);
    tcase_add_loop_test (tcase, it_locks_every_image, 0, 2);
    tcase_add_loop_test (tcase, a_running_guest_is_said_so_and_its_image_named, 0, 2);
    tcase_add_loop_test (tcase, a_daemon_that_cannot_start_says_why, 0, 2);
    tcase_add_test (tcase, a_daemon_that_lets_its_first_client_go_is_asked_again);
    tcase_add_test (tcase, a_raw_disk_is_raw_whatever_the_guest_writes_into_it);
    tcase_add_test (tcase, without_the_daemon_images_tell_size_format_depth_and_bitmaps);
    tcase_add_test (tcase, a_bitmap_is_removed_once_and_its_absence_is_fine);
    tcase_add_test (tcase, a_long_state_directory_gets_its_socket_elsewhere);
    return run_tcase (tcase);
}
