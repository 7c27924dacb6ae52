#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "util/caller.h"

struct _Caller {
    gatomicrefcount refs;
    char *name;
    gboolean has_user;
    uid_t uid;
    gid_t gid;
    GArray *gids;    /* gid_t */
    GPtrArray *dirs; /* char* */
};

static GPrivate current = G_PRIVATE_INIT ((GDestroyNotify) caller_unref);

Caller *caller_new (const char *name, gboolean has_user, uid_t uid, gid_t gid, const GArray *gids,
                    const GPtrArray *dirs)
{
    Caller *caller = g_new0 (Caller, 1);
    g_atomic_ref_count_init (&caller->refs);
    caller->name = g_strdup (name);
    caller->has_user = has_user;
    caller->uid = uid;
    caller->gid = gid;
    caller->gids = g_array_new (FALSE, FALSE, sizeof (gid_t));
    if (gids)
        g_array_append_vals (caller->gids, gids->data, gids->len);
    caller->dirs = g_ptr_array_new_with_free_func (g_free);
    for (guint i = 0; dirs && i < dirs->len; i++)
        g_ptr_array_add (caller->dirs, g_strdup (dirs->pdata[i]));
    return caller;
}

Caller *caller_ref (Caller *caller)
{
    if (caller)
        g_atomic_ref_count_inc (&caller->refs);
    return caller;
}

void caller_unref (Caller *caller)
{
    if (!caller || !g_atomic_ref_count_dec (&caller->refs))
        return;
    g_free (caller->name);
    g_array_unref (caller->gids);
    g_ptr_array_unref (caller->dirs);
    g_free (caller);
}

Caller *caller_current (void)
{
    return g_private_get (&current);
}

void caller_set_current (Caller *caller)
{
    g_private_replace (&current, caller_ref (caller));
}

/* ---- as the caller ---- */

typedef struct {
    const Caller *caller;
    int (*func) (gpointer data); /* >= 0, or -1 and errno */
    gpointer data;
    int result, errnum;
} Errand;

/* Groups and file system user of this thread alone, which ends with the errand: there is nothing to
 * be put back, and nothing to fail doing so. */
static gboolean become (const Caller *caller)
{
    if (syscall (SYS_setgroups, (gsize) caller->gids->len, caller->gids->data) != 0)
        return FALSE;
    setfsgid (caller->gid);
    setfsuid (caller->uid);
    return setfsgid ((gid_t) -1) == (int) caller->gid && setfsuid ((uid_t) -1) == (int) caller->uid;
}

static gpointer run_errand (gpointer data)
{
    Errand *errand = data;
    errand->result = -1;
    errand->errnum = EPERM;
    if (!errand->caller->has_user || !become (errand->caller))
        return NULL;
    errand->result = errand->func (errand->data);
    errand->errnum = errno;
    return NULL;
}

/* With a directory of the policy, the daemon's own rights count; its way is bound to it. */
static int as_caller (const Caller *caller, int (*func) (gpointer data), gpointer data)
{
    Errand errand = { .caller = caller, .func = func, .data = data };
    if (!caller || caller->dirs->len > 0)
        return func (data);
    g_thread_join (g_thread_new ("errand", run_errand, &errand));
    errno = errand.errnum;
    return errand.result;
}

/* ---- the way ---- */

typedef struct {
    int root; /* AT_FDCWD, or the directory of the policy */
    const char *path;
    int flags, mode;
    guint64 resolve;
} Opening;

static int do_open (gpointer data)
{
    const Opening *opening = data;
    const struct open_how how = { .flags = (guint64) (opening->flags | O_CLOEXEC),
                                  .mode = opening->mode,
                                  .resolve = opening->resolve };
    return (int) syscall (SYS_openat2, opening->root, opening->path, &how, sizeof how);
}

/* What is left of path below dir; NULL: it does not lie there, by its text. */
static const char *path_below (const char *path, const char *dir)
{
    gsize length = strlen (dir);
    while (length > 1 && dir[length - 1] == '/')
        length--;
    if (strncmp (path, dir, length) != 0
        || (length > 1 && path[length] != '/' && path[length] != '\0'))
        return NULL;
    path += length;
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

static gboolean no_such_place (const Caller *caller, const char *path, GError **error)
{
    if (caller->dirs->len > 0) {
        g_autofree char *first = g_strdup (caller->dirs->pdata[0]);
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("the policy does not let %s use '%s': it lets him use what lies below "
                             "'%s'%s"),
                          caller->name, path, first, caller->dirs->len > 1 ? " …" : "");
    }
    if (!caller->has_user)
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("%s may not use '%s' of this host: the policy names no directory for "
                             "him (a line 'tls:SUBJECT into DIRECTORY')"),
                          caller->name, path);
    return error_set (error, BAK_ERROR_ACCESS_DENIED,
                      _("%s may not use '%s' himself, and the policy names no directory for him "
                         "(a line 'user:%s into DIRECTORY'): %s"),
                      caller->name, path, caller->name, g_strerror (errno));
}

/* A directory of the policy is trusted with its own way; from there on nothing leads out of it. */
static int open_below (const Caller *caller, const char *path, int flags, int mode)
{
    g_autofree char *plain = g_canonicalize_filename (path, "/");
    errno = EACCES;
    for (guint i = 0; i < caller->dirs->len; i++) {
        const char *dir = caller->dirs->pdata[i], *rest = path_below (plain, dir);
        int root = rest ? open (dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
        if (root < 0)
            continue;
        Opening opening = { root, rest, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
        int fd = do_open (&opening), saved = errno;
        close (root);
        errno = saved;
        return fd;
    }
    return -1;
}

static int open_way (const Caller *caller, const char *path, int flags, int mode)
{
    if (caller && caller->dirs->len > 0)
        return open_below (caller, path, flags, mode);
    Opening opening = { AT_FDCWD, path, flags, mode, caller ? RESOLVE_NO_MAGICLINKS : 0 };
    return as_caller (caller, do_open, &opening);
}

/* Errors that say how things are are told only of what he may look at. */
static gboolean is_denied (const Caller *caller, int errnum)
{
    return errnum == EACCES || errnum == EPERM || errnum == EXDEV || errnum == ELOOP
           || (errnum == EROFS && caller->has_user);
}

static int opened (Caller *caller, const char *path, int fd, GError **error)
{
    if (fd >= 0)
        return fd;
    if (caller && is_denied (caller, errno))
        no_such_place (caller, path, error);
    else
        error_set_errno (error, errno, _("cannot open '%s'"), path);
    return -1;
}

/* ---- what is there ---- */

typedef struct {
    int fd, mode;
} Access;

static int do_access (gpointer data)
{
    const Access *access = data;
    return (int) syscall (SYS_faccessat2, access->fd, "", access->mode, AT_EMPTY_PATH | AT_EACCESS);
}

/* Another name of it may lie outside, where he could not write. */
static gboolean check_links (const Caller *caller, const char *path, int fd, GError **error)
{
    struct stat st;
    if (!caller || caller->dirs->len == 0 || fstat (fd, &st) != 0 || !S_ISREG (st.st_mode)
        || st.st_nlink <= 1)
        return TRUE;
    return error_set (error, BAK_ERROR_ACCESS_DENIED,
                      _("'%s' has another name (a hard link), which may lie where %s may not "
                         "write: use a file that has none"),
                      path, caller->name);
}

int caller_open (Caller *caller, const char *path, CallerWish wish, GError **error)
{
    static const int flags[] = { [CALLER_READS] = O_RDONLY | O_NONBLOCK,
                                 [CALLER_WRITES] = O_RDWR | O_NONBLOCK,
                                 [CALLER_CONNECTS] = O_PATH };
    int fd = opened (caller, path, open_way (caller, path, flags[wish], 0), error);
    if (fd < 0)
        return -1;
    Access access = { fd, W_OK };
    if (caller && wish == CALLER_CONNECTS && as_caller (caller, do_access, &access) != 0) {
        no_such_place (caller, path, error);
        close (fd);
        return -1;
    }
    if (wish == CALLER_WRITES && !check_links (caller, path, fd, error)) {
        close (fd);
        return -1;
    }
    return fd;
}

/* ---- what is made ---- */

int caller_open_unnamed (Caller *caller, const char *path, int *ret_dir, GError **error)
{
    g_autofree char *parent = g_path_get_dirname (path);
    int dir = open_way (caller, parent, O_PATH | O_DIRECTORY, 0);
    if (dir < 0) {
        opened (caller, parent, -1, error);
        return -1;
    }
    Opening opening = { dir, ".", O_TMPFILE | O_RDWR, 0600, 0 };
    int fd = as_caller (caller, do_open, &opening);
    if (fd >= 0) {
        *ret_dir = dir;
        return fd;
    }
    int saved = errno;
    close (dir);
    errno = saved;
    if (saved == EOPNOTSUPP || saved == EISDIR || saved == EINVAL)
        error_set (error, BAK_ERROR_NOT_SUPPORTED,
                   _("'%s' lies on a file system without unnamed files, where nothing is made for "
                      "other users: make the file and use --reuse-external"),
                   path);
    else
        opened (caller, path, -1, error);
    return -1;
}

typedef struct {
    int fd, dir;
    const char *base;
} Naming;

static int do_name (gpointer data)
{
    const Naming *naming = data;
    g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d", naming->fd);
    return linkat (AT_FDCWD, proc, naming->dir, naming->base, AT_SYMLINK_FOLLOW);
}

gboolean caller_name (Caller *caller, int fd, int dir, const char *base)
{
    Naming naming = { fd, dir, base };
    return as_caller (caller, do_name, &naming) == 0;
}

/* ---- sockets ---- */

/* May he put another thing in the place of the entry child of this directory? */
static gboolean may_change (const Caller *caller, const char *dir, const char *child)
{
    struct stat above, entry;
    int fd = open (dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    Access access = { fd, W_OK };
    const Caller itself = { .has_user = caller->has_user,
                            .uid = caller->uid,
                            .gid = caller->gid,
                            .gids = caller->gids,
                            .dirs = &(GPtrArray){ 0 } };
    if (fd < 0 || fstat (fd, &above) != 0 || lstat (child, &entry) != 0) {
        if (fd >= 0)
            close (fd);
        return TRUE;
    }
    gboolean writes = caller->has_user && as_caller (&itself, do_access, &access) == 0;
    close (fd);
    gboolean sticky = (above.st_mode & S_ISVTX) != 0;
    gboolean owns =
        caller->has_user && (above.st_uid == caller->uid || entry.st_uid == caller->uid);
    return caller->has_user && (above.st_uid == caller->uid || (writes && (!sticky || owns)));
}

gboolean caller_check_socket (Caller *caller, const char *path, GError **error)
{
    if (!caller)
        return TRUE;
    g_autofree char *dir = g_path_get_dirname (path), *plain = g_canonicalize_filename (dir, "/");
    int fd = open_way (caller, dir, O_PATH | O_DIRECTORY, 0);
    Access access = { fd, W_OK | X_OK };
    gboolean writes = fd >= 0 && as_caller (caller, do_access, &access) == 0;
    if (fd >= 0)
        close (fd);
    if (!writes)
        return no_such_place (caller, path, error);
    char *real = realpath (dir, NULL);
    gboolean straight = real && g_str_equal (real, plain);
    free (real);
    for (g_autofree char *child = g_strdup (plain); straight && !g_str_equal (child, "/");) {
        char *above = g_path_get_dirname (child);
        straight = !may_change (caller, above, child);
        g_free (child);
        child = above;
    }
    return straight
           || error_set (error, BAK_ERROR_ACCESS_DENIED,
                         _("socket '%s': %s could have the way there lead elsewhere before QEMU "
                            "makes it; name one in a directory that only root can move (as "
                            "/run/user/%u), without symbolic links"),
                         path, caller->name, (guint) caller->uid);
}
