/* A watcher from its start to its end: the fake libbackupd (LIBBACKUPD) stands in for the real one.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "driver/watchers.h"
#include "fake.h"
#include "remote/find.h"
#include "remote/watcher.h"
#include "util/files.h"
#include "util/process.h"

static char *state_dir;

/* For what has no event of its own. */
#define until(condition)                                                                           \
    G_STMT_START                                                                                   \
    {                                                                                              \
        gint64 deadline = g_get_monotonic_time () + 10 * G_USEC_PER_SEC;                           \
        while (!(condition)) {                                                                     \
            ck_assert_msg (g_get_monotonic_time () < deadline, "timed out: %s", #condition);       \
            g_usleep (1000);                                                                       \
        }                                                                                          \
    }                                                                                              \
    G_STMT_END

static void make_state (void)
{
    state_dir = g_dir_make_tmp ("bak-watch-XXXXXX", NULL);
    g_autofree char *dir = g_build_filename (state_dir, "guests", "one", NULL);
    g_assert_cmpint (g_mkdir_with_parents (dir, 0700), ==, 0);
}

static void remove_state (void)
{
    g_autofree char *command = g_strdup_printf ("rm -rf '%s'", state_dir);
    g_assert_cmpint (system (command), ==, 0);
    g_clear_pointer (&state_dir, g_free);
}

/* The process whose command line names our state directory. */
static pid_t find_process (void)
{
    g_autoptr (GDir) dir = g_dir_open ("/proc", 0, NULL);
    const char *name;
    while ((name = g_dir_read_name (dir))) {
        g_autofree char *path = g_strdup_printf ("/proc/%s/cmdline", name), *text = NULL;
        gsize length;
        if (!g_ascii_isdigit (*name) || !g_file_get_contents (path, &text, &length, NULL))
            continue;
        if (g_strstr_len (text, length, "libbackupd")
            && memmem (text, length, state_dir, strlen (state_dir)))
            return atoi (name);
    }
    return 0;
}

static gboolean ends (pid_t pid)
{
    return process_wait_gone (pid, 10000);
}

static guint count_fds (pid_t pid)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) pid);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    guint count = 0;
    while (dir && g_dir_read_name (dir))
        count++;
    return count;
}

static DriverConn *open_watcher (GError **error)
{
    g_autofree char *uri = watcher_uri (state_dir, "one");
    return driver_open (uri, NULL, error);
}

static void begin (DriverConn *conn)
{
    g_autoptr (GError) error = NULL;
    bak_begin_args args = { .domain = (char *) "one",
                            .backup_xml = (char *) "<domainbackup mode='pull'/>",
                            .checkpoint_xml = (char *) "" };
    bak_begin_ret ret = { 0 };
    call_backup_begin (conn, &args, &ret, &error);
    g_assert_no_error (error);
    call_clear_ret (CALL_ID_backup_begin, &ret);
}

static void stop (DriverConn *conn)
{
    g_autoptr (GError) error = NULL;
    bak_stop_args args = { .domain = (char *) "one", .job = (char *) "" };
    bak_job_ret ret = { 0 };
    call_backup_stop (conn, &args, &ret, &error);
    g_assert_no_error (error);
    call_clear_ret (CALL_ID_backup_stop, &ret);
}

START_TEST (a_watcher_lives_as_long_as_its_job)
{
    g_autoptr (GError) error = NULL, second = NULL;
    make_state ();
    /* A descriptor that somebody forgot to close on exec must not reach it. */
    int forgotten = open ("/dev/null", O_RDONLY);
    ck_assert_int_eq (fcntl (forgotten, F_SETFD, 0), 0);
    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    pid_t pid = find_process ();
    ck_assert_int_ne (pid, 0);
    ck_assert_int_eq (getsid (pid), pid);
    ck_assert (!watcher_spawn (state_dir, "one", NULL, &second));
    ck_assert_int_eq (error_code (second), BAK_ERROR_BUSY);
    guint fds = count_fds (pid);

    DriverConn *conn = open_watcher (&error);
    g_assert_no_error (error);
    begin (conn);
    driver_close (conn);
    ck_assert (!process_wait_gone (pid, 3000));
    ck_assert_uint_le (fds, 9);
    g_autofree char *leak = g_strdup_printf ("/proc/%d/fd/%d", (int) pid, forgotten);
    g_autofree char *to = g_file_read_link (leak, NULL);
    ck_assert_str_ne (to ? to : "", "/dev/null");

    conn = open_watcher (&error);
    g_assert_no_error (error);
    stop (conn);
    driver_close (conn);
    ck_assert (ends (pid));
    g_autofree char *path = watcher_socket (state_dir, "one");
    ck_assert (g_access (path, F_OK) != 0);
    ck_assert_ptr_null (open_watcher (&error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_CONNECTION);
    close (forgotten);
    remove_state ();
}
END_TEST

START_TEST (a_killed_watcher_leaves_a_socket_that_the_next_one_takes_over)
{
    g_autoptr (GError) error = NULL;
    make_state ();
    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    pid_t pid = find_process ();
    kill (pid, SIGKILL);
    ck_assert (ends (pid));
    ck_assert_ptr_null (open_watcher (&error));
    g_clear_error (&error);
    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    DriverConn *conn = open_watcher (&error);
    g_assert_no_error (error);
    pid = find_process ();
    driver_close (conn);
    ck_assert (ends (pid));
    remove_state ();
}
END_TEST

START_TEST (a_term_signal_ends_it_in_order)
{
    g_autoptr (GError) error = NULL;
    make_state ();
    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    DriverConn *conn = open_watcher (&error);
    g_assert_no_error (error);
    begin (conn);
    pid_t pid = find_process ();
    kill (pid, SIGTERM);
    ck_assert (ends (pid));
    driver_close (conn);
    remove_state ();
}
END_TEST

START_TEST (a_program_that_cannot_watch_is_an_error_with_what_it_said)
{
    g_autoptr (GError) error = NULL;
    static const char *const programs[] = { "/nonexistent/libbackupd", "/bin/false",
                                            "/etc/passwd" };
    make_state ();
    g_setenv ("LIBBACKUPD", programs[_i], TRUE);
    ck_assert (!watcher_spawn (state_dir, "one", NULL, &error));
    ck_assert_ptr_nonnull (error);
    g_autofree char *path = watcher_socket (state_dir, "one");
    ck_assert (g_access (path, F_OK) != 0);
    remove_state ();
}
END_TEST

START_TEST (a_state_directory_with_a_path_too_long_for_a_socket_works)
{
    g_autoptr (GError) error = NULL;
    make_state ();
    g_autofree char *base = g_strdup (state_dir);
    g_autofree char *deep = g_strdup_printf ("%s/%0120d", state_dir, 7);
    g_autofree char *dir = g_build_filename (deep, "guests", "one", NULL);
    ck_assert_int_eq (g_mkdir_with_parents (dir, 0700), 0);
    g_free (state_dir);
    state_dir = g_strdup (deep);
    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    DriverConn *conn = open_watcher (&error);
    g_assert_no_error (error);
    driver_close (conn);
    pid_t pid = find_process ();
    kill (pid, SIGTERM);
    ck_assert (ends (pid));
    g_free (state_dir);
    state_dir = g_strdup (base);
    remove_state ();
}
END_TEST

/* Calls to watchers */

typedef struct {
    Watchers *watchers;
    CallId id;
    gboolean there, ok;
    GError *error;
} Asked;

static gpointer ask (gpointer data)
{
    Asked *asked = data;
    char *none = (char *) "";
    union {
        bak_begin_args begin;
        bak_domain_arg domain;
    } args = { .begin = { .domain = (char *) "one",
                          .backup_xml = (char *) "<domainbackup mode='pull'/>",
                          .checkpoint_xml = none } };
    union {
        bak_begin_ret begin;
        bak_state_ret state;
    } ret = { 0 };
    if (asked->id != CALL_ID_backup_begin)
        args.domain = (bak_domain_arg){ .domain = (char *) "one" };
    asked->there = watchers_ask (asked->watchers, "one", asked->id == CALL_ID_backup_begin,
                                 asked->id, &args, &ret, &asked->ok, &asked->error);
    call_clear_ret (asked->id, &ret);
    return NULL;
}

/* Some socket of ours holds bytes that its other end, which is stopped, has not read. */
static gboolean is_call_unread (void)
{
    g_autoptr (GDir) fds = g_dir_open ("/proc/self/fd", 0, NULL);
    const char *name;
    int unread, type;
    socklen_t length = sizeof type;

    while ((name = g_dir_read_name (fds)))
        if (getsockopt (atoi (name), SOL_SOCKET, SO_TYPE, &type, &length) == 0
            && ioctl (atoi (name), SIOCOUTQ, &unread) == 0 && unread > 0)
            return TRUE;
    return FALSE;
}

/* A watcher dies with a call that it has not answered. next: another process owns the guest then;
 * journal: it died with one. */
static Asked lose_a_call (CallId id, gboolean next, gboolean journal)
{
    static const char *const folders[] = { ".", NULL };
    const DriverOpenOptions options = { .role = DRIVER_ROLE_WATCHER, .state_dir = state_dir };
    g_autoptr (GError) error = NULL;
    g_autofree char *lock = g_build_filename (state_dir, "guests", "one", "lock", NULL),
                    *left = g_build_filename (state_dir, "guests", "one", "journal", NULL);
    DriverConn *conn = driver_open ("qemu:///system", &options, &error);
    g_assert_no_error (error);
    Asked asked = { .watchers = watchers_new (conn, state_dir, NULL, folders),
                    .id = CALL_ID_domain_state };
    int owner = files_lock (lock, 0, NULL);

    watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    ask (&asked);
    ck_assert (asked.there && asked.ok);
    pid_t pid = find_process ();
    kill (pid, SIGSTOP);
    asked.id = id;
    GThread *thread = g_thread_new ("ask", ask, &asked);
    until (is_call_unread ());
    if (journal)
        ck_assert (g_file_set_contents (left, "{}", -1, NULL));
    if (!next)
        close (owner);
    kill (pid, SIGKILL);
    ck_assert (ends (pid));
    if (next)
        watcher_spawn (state_dir, "one", NULL, &error);
    g_assert_no_error (error);
    g_thread_join (thread);
    if (next)
        close (owner);
    watchers_free (asked.watchers);
    driver_close (conn);
    while ((pid = find_process ())) {
        kill (pid, SIGTERM);
        ck_assert (ends (pid));
    }
    remove_state ();
    return asked;
}

START_TEST (a_call_that_was_lost_with_its_watcher_goes_to_the_next)
{
    static const struct {
        CallId id;
        gboolean next, journal;
    } rows[] = { { CALL_ID_backup_begin, TRUE, TRUE },
                 { CALL_ID_backup_begin, FALSE, FALSE },
                 { CALL_ID_domain_state, TRUE, FALSE },
                 { CALL_ID_domain_state, FALSE, TRUE } };
    make_state ();
    Asked asked = lose_a_call (rows[_i].id, rows[_i].next, rows[_i].journal);
    g_assert_no_error (asked.error);
    ck_assert (asked.there && asked.ok);
}
END_TEST

START_TEST (a_begin_that_may_have_been_made_is_not_made_again)
{
    make_state ();
    Asked asked = lose_a_call (CALL_ID_backup_begin, FALSE, TRUE);
    ck_assert (asked.there && !asked.ok);
    ck_assert_int_eq (error_code (asked.error), BAK_ERROR_CONNECTION);
    g_clear_error (&asked.error);
}
END_TEST

START_TEST (a_question_without_owner_and_journal_needs_no_watcher)
{
    make_state ();
    Asked asked = lose_a_call (CALL_ID_domain_state, FALSE, FALSE);
    ck_assert (!asked.there);
    g_assert_no_error (asked.error);
}
END_TEST

/* The daemon */

static pid_t start_daemon (const char *socket)
{
    pid_t pid = fork ();
    if (pid == 0) {
        execl (g_getenv ("LIBBACKUPD"), "libbackupd", "--state-dir", state_dir, "--socket", socket,
               NULL);
        _exit (127);
    }
    return pid;
}

START_TEST (a_client_of_this_host_goes_to_the_daemon_that_owns_the_state)
{
    g_autoptr (GError) error = NULL;
    make_state ();
    g_autofree char *socket = g_build_filename (state_dir, "d.sock", NULL);
    ck_assert_ptr_null (daemon_find (state_dir, FALSE, &error));
    g_assert_no_error (error);
    pid_t pid = start_daemon (socket);
    g_autofree char *lock = g_build_filename (state_dir, "daemon.lock", NULL);
    until (files_is_locked (lock));
    /* It may still be starting. */
    const DriverOpenOptions options = { .role = DRIVER_ROLE_CLIENT, .state_dir = state_dir };
    DriverConn *conn = driver_open ("qemu:///system", &options, &error);
    g_assert_no_error (error);
    ck_assert_str_eq (conn->driver->name, "remote");
    ck_assert_str_eq (conn->uri, "qemu:///system");
    begin (conn);
    stop (conn);
    driver_close (conn);
    /* A second daemon is told so. */
    int status;
    g_autofree char *other = g_build_filename (state_dir, "e.sock", NULL);
    waitpid (start_daemon (other), &status, 0);
    ck_assert_int_eq (WEXITSTATUS (status), 1);

    kill (pid, SIGTERM);
    waitpid (pid, &status, 0);
    ck_assert (WIFEXITED (status) && WEXITSTATUS (status) == 0);
    ck_assert (g_access (socket, F_OK) != 0);
    conn = driver_open ("qemu:///system", &options, &error);
    g_assert_no_error (error);
    ck_assert_str_eq (conn->driver->name, "fake");
    driver_close (conn);
    remove_state ();
}
END_TEST

START_TEST (a_killed_daemon_is_followed_by_a_new_one_at_the_same_place)
{
    g_autoptr (GError) error = NULL;
    make_state ();
    g_autofree char *socket = g_build_filename (state_dir, "d.sock", NULL), *found = NULL;
    for (guint i = 0; i < 2; i++) {
        pid_t pid = start_daemon (socket);
        until ((found = daemon_find (state_dir, FALSE, &error)) || error);
        g_assert_no_error (error);
        ck_assert_str_eq (found, socket);
        g_clear_pointer (&found, g_free);
        DriverConn *conn =
            driver_open ("qemu:///system", &(DriverOpenOptions){ .state_dir = state_dir }, &error);
        g_assert_no_error (error);
        driver_close (conn);
        kill (pid, SIGKILL);
        waitpid (pid, NULL, 0);
        ck_assert_ptr_null (daemon_find (state_dir, FALSE, &error));
        g_assert_no_error (error);
    }
    remove_state ();
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("watcher and daemon");
    TCase *tcase = tcase_create ("processes");
    tcase_set_timeout (tcase, 60);
    tcase_add_test (tcase, a_watcher_lives_as_long_as_its_job);
    tcase_add_test (tcase, a_killed_watcher_leaves_a_socket_that_the_next_one_takes_over);
    tcase_add_test (tcase, a_term_signal_ends_it_in_order);
    tcase_add_loop_test (tcase, a_program_that_cannot_watch_is_an_error_with_what_it_said, 0, 3);
    tcase_add_test (tcase, a_state_directory_with_a_path_too_long_for_a_socket_works);
    tcase_add_loop_test (tcase, a_call_that_was_lost_with_its_watcher_goes_to_the_next, 0, 4);
    tcase_add_test (tcase, a_begin_that_may_have_been_made_is_not_made_again);
    tcase_add_test (tcase, a_question_without_owner_and_journal_needs_no_watcher);
    tcase_add_test (tcase, a_client_of_this_host_goes_to_the_daemon_that_owns_the_state);
    tcase_add_test (tcase, a_killed_daemon_is_followed_by_a_new_one_at_the_same_place);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
