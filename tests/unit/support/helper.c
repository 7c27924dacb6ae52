#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "helper.h"

static int listen_at (const char *path, int backlog)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_strlcpy (address.sun_path, path, sizeof address.sun_path);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind (fd, (struct sockaddr *) &address, sizeof address) != 0
        || listen (fd, backlog) != 0)
        g_error ("cannot listen at %s: %s", path, g_strerror (errno));
    return fd;
}

void helper_start (Helper *helper, int backlog, const char *const *args)
{
    enum { CHILD_FD = 3 };
    g_autoptr (GError) error = NULL;
    helper->folder = g_dir_make_tmp ("helper-XXXXXX", &error);
    helper->path = g_build_filename (helper->folder, "socket", NULL);
    g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
    g_autofree char *number = g_strdup_printf ("%d", CHILD_FD);
    for (guint i = 0; args[i]; i++)
        g_ptr_array_add (argv, g_strdup (strcmp (args[i], "%FD") == 0 ? number : args[i]));
    g_ptr_array_add (argv, NULL);
    g_autoptr (GSubprocessLauncher) launcher =
        g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
    g_subprocess_launcher_take_fd (launcher, listen_at (helper->path, backlog), CHILD_FD);
    helper->process =
        g_subprocess_launcher_spawnv (launcher, (const char *const *) argv->pdata, &error);
    if (!helper->process)
        g_error ("%s", error->message);
}

void helper_stop (Helper *helper)
{
    g_subprocess_force_exit (helper->process);
    g_subprocess_wait (helper->process, NULL, NULL);
    g_clear_object (&helper->process);
    g_unlink (helper->path);
    g_rmdir (helper->folder);
    g_free (helper->path);
    g_free (helper->folder);
}
