#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"
#include "util/process.h"

void require_programs (const char *program, ...)
{
    va_list args;

    va_start (args, program);
    for (; program; program = va_arg (args, const char *)) {
        g_autofree char *path = g_find_program_in_path (program);
        if (path)
            continue;
        g_print ("skipped: %s is not installed\n", program);
        exit (77);
    }
    va_end (args);
}

void run_ok (const char *program, ...)
{
    g_autoptr (GPtrArray) argv = g_ptr_array_new ();
    g_autofree char *messages = NULL;
    g_autoptr (GError) error = NULL;
    int status = -1;
    va_list args;

    va_start (args, program);
    for (const char *arg = program; arg; arg = va_arg (args, const char *))
        g_ptr_array_add (argv, (char *) arg);
    va_end (args);
    g_ptr_array_add (argv, NULL);
    gboolean ok = process_run ((const char *const *) argv->pdata, 30000, 1 << 20, &status, NULL,
                               &messages, &error);
    ck_assert_msg (ok && status == 0, "%s: %s", program, ok ? messages : error->message);
}

/* inherited_fd, when not -1, is the program's descriptor 3. */
pid_t start_program (const char *const *argv, int inherited_fd)
{
    pid_t parent = getpid (), pid = fork ();

    ck_assert_int_ge (pid, 0);
    if (pid > 0)
        return pid;
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != parent)
        _exit (127);
    if (inherited_fd >= 0)
        dup2 (inherited_fd, 3);
    execvp (argv[0], (char **) argv);
    _exit (127);
}

void stop_program (pid_t pid)
{
    kill (pid, SIGKILL);
    while (waitpid (pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static char *read_children (void)
{
    char *text = NULL;
    GString *all = g_string_new (NULL);
    g_autoptr (GDir) tasks = g_dir_open ("/proc/self/task", 0, NULL);
    const char *task;

    while ((task = g_dir_read_name (tasks))) {
        g_autofree char *path = g_strdup_printf ("/proc/self/task/%s/children", task);
        if (g_file_get_contents (path, &text, NULL, NULL))
            g_string_append (all, text);
        g_clear_pointer (&text, g_free);
    }
    return g_string_free (all, FALSE);
}

guint count_children (void)
{
    g_autofree char *text = read_children ();
    guint count = 0;

    for (const char *p = text; *p; p++)
        count += *p == ' ';
    return count;
}

pid_t first_child (void)
{
    g_autofree char *text = read_children ();
    return atoi (text);
}

int run_tcase (TCase *tcase)
{
    Suite *suite = suite_create ("unit");
    SRunner *runner = srunner_create (suite);

    suite_add_tcase (suite, tcase);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

char *data_file (const char *name)
{
    const char *data = g_getenv ("TEST_DATA");
    return g_build_filename (data ? data : "data", name, NULL);
}

int listen_at (const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket (AF_UNIX, SOCK_STREAM, 0);

    ck_assert_uint_lt (strlen (path), sizeof address.sun_path);
    strcpy (address.sun_path, path);
    ck_assert_int_eq (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
    ck_assert_int_eq (listen (fd, 4), 0);
    return fd;
}

void await_file (const char *path)
{
    g_autofree char *folder = g_path_get_dirname (path);
    struct pollfd news = { .fd = inotify_init1 (IN_NONBLOCK), .events = POLLIN };
    char buffer[4096];

    ck_assert_int_ge (inotify_add_watch (news.fd, folder, IN_CREATE | IN_MOVED_TO), 0);
    while (!g_file_test (path, G_FILE_TEST_EXISTS)) {
        ck_assert_msg (poll (&news, 1, 30000) == 1, "'%s' does not come", path);
        (void) !read (news.fd, buffer, sizeof buffer);
    }
    close (news.fd);
}
