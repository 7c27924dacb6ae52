#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "repository/fields.h"
#include "repository/lock.h"
#include "util/files.h"
#include "util/process.h"

enum { WHO_MAX = 4096 };

struct _Lock {
    GArray *fds;    /* int */
    gboolean tells; /* the first file says who has it */
};

Lock *lock_new (void)
{
    Lock *lock = g_new0 (Lock, 1);
    lock->fds = g_array_new (FALSE, FALSE, sizeof (int));
    return lock;
}

void lock_free (Lock *lock)
{
    if (!lock)
        return;
    for (guint i = 0; i < lock->fds->len; i++) {
        int fd = g_array_index (lock->fds, int, i);
        if (i == 0 && lock->tells && ftruncate (fd, 0) != 0)
            g_debug ("lock: %s", g_strerror (errno));
        close (fd);
    }
    g_array_unref (lock->fds);
    g_free (lock);
}

static char *boot_id (void)
{
    g_autofree char *text = NULL;
    return files_read ("/proc/sys/kernel/random/boot_id", 0, &text, NULL, NULL)
               ? g_strdup (g_strstrip (text))
               : g_strdup ("");
}

static void write_who (int fd, const char *what)
{
    g_autofree char *boot = boot_id (), *since = fields_format_time (g_get_real_time ());
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "host", g_get_host_name ());
    json_object_set_string_member (object, "boot", boot);
    json_object_set_int_member (object, "pid", getpid ());
    json_object_set_int_member (object, "start", process_start_time (getpid ()));
    json_object_set_string_member (object, "what", what);
    json_object_set_string_member (object, "since", since);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    /* it only tells: that it could not be written changes nothing */
    if (ftruncate (fd, 0) != 0 || pwrite (fd, text, strlen (text), 0) < 0)
        g_debug ("lock: %s", g_strerror (errno));
}

/* "point-create of process 123 on host 'a', since …". Caller frees. */
static char *read_who (int fd)
{
    char text[WHO_MAX];
    JsonObject *object;
    ssize_t n = pread (fd, text, sizeof text, 0);
    g_autoptr (JsonNode) node = n > 0 ? json_read_object (text, n, &object, NULL) : NULL;
    if (!node)
        return g_strdup (_("another process"));
    Fields fields = { "lock", NULL, FALSE };
    g_autofree char *host = fields_text (&fields, object, "host", FIELD_REQUIRED);
    g_autofree char *what = fields_text (&fields, object, "what", FIELD_REQUIRED);
    g_autofree char *since = fields_text (&fields, object, "since", FIELD_REQUIRED);
    guint64 pid = fields_number (&fields, object, "pid", G_MAXINT, FIELD_REQUIRED);
    if (fields.failed)
        return g_strdup (_("another process"));
    g_autofree char *whole = g_strdup_printf (
        _("%s, process %" G_GUINT64_FORMAT " on host '%s', since %s"), what, pid, host, since);
    return text_sanitize (whole, 512);
}

/* FALSE: errno, EAGAIN when another holds it. */
static gboolean take (int fd, short type)
{
    struct flock range = { .l_type = type, .l_whence = SEEK_SET };
    return fcntl (fd, F_OFD_SETLK, &range) == 0;
}

/* what: whose lock it is, for messages. */
static gboolean add (Lock *lock, const char *path, int flags, short type, const char *what,
                     GError **error)
{
    int fd = open (path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), path);
    if (take (fd, type)) {
        g_array_append_val (lock->fds, fd);
        return TRUE;
    }
    int failed = errno;
    g_autofree char *who = read_who (fd);
    close (fd);
    if (failed != EAGAIN && failed != EACCES)
        return error_set_errno (error, failed, _("this file system does not lock '%s'"), path);
    return error_set (error, BAK_ERROR_BUSY, _("%s is in use by %s"), what, who);
}

/* name: what it is, for messages. */
static Lock *lock_file (Repository *repository, const char *file, const char *name,
                        const char *what, GError **error)
{
    g_autofree char *dir = g_build_filename (repository->path, "locks", NULL);
    g_autofree char *path = g_build_filename (dir, file, NULL);
    g_autoptr (Lock) lock = lock_new ();
    if (!files_make_dir (dir, 0700, error)
        || !add (lock, path, O_RDWR | O_CREAT, F_WRLCK, name, error))
        return NULL;
    write_who (g_array_index (lock->fds, int, 0), what);
    lock->tells = TRUE;
    return g_steal_pointer (&lock);
}

Lock *lock_guest (Repository *repository, const char *guest_uuid, const char *what, GError **error)
{
    g_autofree char *name =
        g_strdup_printf (_("guest %s in repository '%s'"), guest_uuid, repository->path);
    return lock_file (repository, guest_uuid, name, what, error);
}

Lock *lock_keys (Repository *repository, GError **error)
{
    g_autofree char *name = g_strdup_printf (_("the key of repository '%s'"), repository->path);
    return lock_file (repository, "keys", name, "repository-key", error);
}

static gboolean add_point (Lock *lock, const char *dir, const char *id, int flags, short type,
                           GError **error)
{
    g_autofree char *path = g_build_filename (dir, "manifest.json", NULL);
    g_autofree char *name = g_strdup_printf (_("point '%s'"), id);
    return add (lock, path, flags, type, name, error);
}

gboolean lock_add_point (Lock *lock, const char *dir, const char *id, GError **error)
{
    return add_point (lock, dir, id, O_RDONLY, F_RDLCK, error);
}

Lock *lock_point_to_change (Point *point, GError **error)
{
    g_autoptr (Lock) lock = lock_new ();
    return add_point (lock, point->dir, point->manifest->id, O_RDWR, F_WRLCK, error)
               ? g_steal_pointer (&lock)
               : NULL;
}
