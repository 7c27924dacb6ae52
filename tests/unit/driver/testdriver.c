/* test:///default: a block engine that comes with the connection and goes with it, however that
 * ends. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "driver/driver.h"
#include "support.h"
#include "util/files.h"
#include "util/process.h"

static char *dir;

/* Each test has a temporary directory of its own, so that what is left in it is the test's. GLib
 * looks at TMPDIR only once. */
static void setup (void)
{
    dir = g_mkdtemp (g_strdup ("/tmp/libbackup-td-XXXXXX"));
    ck_assert_ptr_nonnull (dir);
    ck_assert_int_eq (setenv ("TMPDIR", dir, 1), 0);
}

static void teardown (void)
{
    files_remove_tree (dir);
    g_clear_pointer (&dir, g_free);
}

static DriverConn *open_test (void)
{
    g_autoptr (GError) error = NULL;
    DriverConn *conn = driver_open ("test:///default", NULL, &error);
    ck_assert_msg (conn != NULL, "%s", error ? error->message : "");
    return conn;
}

static guint count_entries (void)
{
    g_autoptr (GDir) entries = g_dir_open (dir, 0, NULL);
    guint count = 0;

    while (g_dir_read_name (entries))
        count++;
    return count;
}

START_TEST (it_has_one_guest_that_runs_with_two_disks)
{
    DriverConn *conn = open_test ();
    bak_list_args list = { 0 };
    bak_list_ret domains = { 0 };
    bak_domain_arg args = { .domain = (char *) "test" };
    bak_disks_ret disks = { 0 };

    ck_assert (call_list (conn, &list, &domains, NULL));
    ck_assert_uint_eq (domains.domains.domains_len, 1);
    ck_assert_str_eq (domains.domains.domains_val[0].name, "test");
    ck_assert_int_eq (domains.domains.domains_val[0].state, DOMAIN_STATE_RUNNING);
    ck_assert_int_eq (domains.domains.domains_val[0].id, 1);
    call_clear_ret (CALL_ID_list, &domains);
    ck_assert (call_domain_disks (conn, &args, &disks, NULL));
    ck_assert_uint_eq (disks.disks.disks_len, 2);
    for (guint i = 0; i < 2; i++) {
        const bak_disk *disk = &disks.disks.disks_val[i];
        ck_assert_str_eq (disk->target, i ? "vdb" : "vda");
        ck_assert_uint_eq (disk->capacity, 16 * 1024 * 1024);
        ck_assert_uint_gt (disk->allocation, 2 * 1024 * 1024);
        ck_assert_uint_lt (disk->allocation, 4 * 1024 * 1024);
        ck_assert (disk->selected);
        ck_assert_str_eq (disk->format, "qcow2");
    }
    call_clear_ret (CALL_ID_domain_disks, &disks);
    driver_close (conn);
}
END_TEST

START_TEST (its_disks_say_what_they_are)
{
    DriverConn *conn = open_test ();
    bak_disk_arg args = { .domain = (char *) "test", .disk = (char *) "vdb" };
    bak_disk_ret ret = { 0 };
    g_autofree char *raw = g_build_filename (dir, "copy.raw", NULL), *text = NULL;

    ck_assert (call_domain_disk (conn, &args, &ret, NULL));
    run_ok ("qemu-img", "convert", "-U", "-O", "raw", ret.disk.source, raw, NULL);
    ck_assert (g_file_get_contents (raw, &text, NULL, NULL));
    ck_assert (g_str_has_prefix (
        text, "libbackup test disk vdb block 000000\nlibbackup test disk vdb block 000000\n"));
    ck_assert (g_str_has_prefix (text + 511 * 4096, "libbackup test disk vdb block 000511\n"));
    ck_assert_int_eq (text[512 * 4096], 0);
    call_clear_ret (CALL_ID_domain_disk, &ret);
    driver_close (conn);
}
END_TEST

START_TEST (nothing_is_left_after_the_connection)
{
    DriverConn *one = open_test (), *two = open_test ();

    ck_assert_uint_eq (count_entries (), 2);
    driver_close (one);
    ck_assert_uint_eq (count_entries (), 1);
    driver_close (two);
    ck_assert_uint_eq (count_entries (), 0);
    ck_assert_uint_eq (count_children (), 0);
}
END_TEST

/* The child says which daemon it has, then waits to be killed. */
static void child_main (int out)
{
    DriverConn *conn = driver_open ("test:///default", NULL, NULL);
    pid_t daemon = conn ? first_child () : 0;

    if (write (out, &daemon, sizeof daemon) == sizeof daemon)
        pause ();
    _exit (1);
}

START_TEST (the_daemon_dies_with_a_process_that_is_killed_and_the_next_connection_cleans_up)
{
    int pipes[2];
    pid_t daemon = 0;

    ck_assert_int_eq (pipe (pipes), 0);
    pid_t child = fork ();
    if (child == 0)
        child_main (pipes[1]);
    ck_assert_int_eq (read (pipes[0], &daemon, sizeof daemon), sizeof daemon);
    ck_assert_int_gt (daemon, 0);
    ck_assert_uint_eq (count_entries (), 1);
    kill (child, SIGKILL);
    ck_assert_int_eq (waitpid (child, NULL, 0), child);
    ck_assert (process_wait_gone (daemon, 10000));
    ck_assert_uint_eq (count_entries (), 1);
    driver_close (open_test ());
    ck_assert_uint_eq (count_entries (), 0);
}
END_TEST

static gpointer open_in_thread (gpointer data)
{
    return open_test ();
}

START_TEST (a_thread_that_opened_it_may_end)
{
    DriverConn *conn = g_thread_join (g_thread_new ("opener", open_in_thread, NULL));
    bak_domain_arg args = { .domain = (char *) "test" };
    bak_state_ret state = { 0 };

    ck_assert (!process_wait_gone (first_child (), 100));
    ck_assert (call_domain_state (conn, &args, &state, NULL));
    ck_assert_int_eq (state.state, DOMAIN_STATE_RUNNING);
    driver_close (conn);
}
END_TEST

START_TEST (its_guest_can_neither_be_detached_nor_joined_by_others)
{
    DriverConn *conn = open_test ();
    bak_domain_arg args = { .domain = (char *) "test" };
    bak_none none = { 0 };
    g_autoptr (GError) error = NULL;

    ck_assert (!call_detach (conn, &args, &none, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NOT_SUPPORTED);
    driver_close (conn);
}
END_TEST

START_TEST (a_daemon_that_cannot_start_is_an_error_and_leaves_nothing)
{
    g_autoptr (GError) error = NULL;

    ck_assert_int_eq (setenv ("LIBBACKUP_QSD", _i ? "/bin/false" : "/no/such/program", 1), 0);
    ck_assert_ptr_null (driver_open ("test:///default", NULL, &error));
    ck_assert_msg (strstr (error->message, "test:///default") != NULL, "%s", error->message);
    ck_assert_uint_eq (count_entries (), 0);
}
END_TEST

START_TEST (a_daemon_that_lets_its_first_client_go_is_asked_again)
{
    ck_assert_int_eq (setenv ("LIBBACKUP_QSD", TEST_FAKE "/startled-daemon", 1), 0);
    DriverConn *conn = open_test ();

    driver_close (conn);
    ck_assert_uint_eq (count_entries (), 0);
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("test driver");

    require_programs ("qemu-storage-daemon", "qemu-img", NULL);
    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 60);
    tcase_add_test (tcase, it_has_one_guest_that_runs_with_two_disks);
    tcase_add_test (tcase, its_disks_say_what_they_are);
    tcase_add_test (tcase, nothing_is_left_after_the_connection);
    tcase_add_test (
        tcase, the_daemon_dies_with_a_process_that_is_killed_and_the_next_connection_cleans_up);
    tcase_add_test (tcase, a_thread_that_opened_it_may_end);
    tcase_add_test (tcase, its_guest_can_neither_be_detached_nor_joined_by_others);
    tcase_add_test (tcase, a_daemon_that_lets_its_first_client_go_is_asked_again);
    tcase_add_loop_test (tcase, a_daemon_that_cannot_start_is_an_error_and_leaves_nothing, 0, 2);
    return run_tcase (tcase);
}
