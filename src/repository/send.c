/* What is there decides: a directory that is not there yet becomes a mirror, with the document of
 * this repository; another repository takes points of one without a key, when neither has one.
 *
 * A file that was begun goes on where its first bytes are the same, and each is hashed over there
 * when all of it has arrived. The rename comes last, so nothing is half listed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/lock.h"
#include "repository/reading.h"
#include "repository/remote-shell.h"
#include "repository/send.h"
#include "repository/work.h"
#include "util/files.h"

enum { ABSENT = 44 }; /* exit status of our scripts */

static const char document[] = "libbackup-repository.json";

typedef struct {
    Point *point;
    RemoteShell *shell;
    Work work;
    guint64 sent;
    char *new_dir;  /* below the repository there */
    GString *check; /* the script that looks at all of it again before the rename */
} Sending;

/* ---- what is there ---- */

/* *ret_text NULL: it is not there. */
static gboolean read_there (RemoteShell *shell, const char *below, char **ret_text, GError **error)
{
    g_autofree char *path = remote_shell_quote (shell, below);
    g_autofree char *script =
        g_strdup_printf ("[ -e %s ] || exit %d; exec cat -- %s", path, ABSENT, path);
    g_autofree char *text = NULL;
    int status;
    *ret_text = NULL;
    if (!remote_shell_run (shell, script, NULL, &status, &text, error))
        return FALSE;
    if (status == 0)
        *ret_text = g_steal_pointer (&text);
    return status == 0 || status == ABSENT
           || error_set (error, error_code_from_text (text), _("cannot read '%s' there: %s"),
                         below, text);
}

static gboolean write_there (RemoteShell *shell, const char *below, const char *text,
                             GError **error)
{
    g_autofree char *path = remote_shell_quote (shell, below);
    g_autofree char *temporary = g_strconcat (below, ".new", NULL);
    g_autofree char *new_path = remote_shell_quote (shell, temporary);
    g_autofree char *quoted = g_shell_quote (text);
    g_autofree char *script =
        g_strdup_printf ("umask 077; printf %%s %s >%s && sync %s && mv -T %s %s", quoted, new_path,
                         new_path, new_path, path);
    return remote_shell_must (shell, script, NULL, NULL, error);
}

static gboolean make_mirror (Sending *sending, const char *text, GError **error)
{
    g_autofree char *root = remote_shell_quote (sending->shell, NULL);
    g_autofree char *locks = remote_shell_quote (sending->shell, "locks");
    g_autofree char *script = g_strdup_printf (
        "umask 077; mkdir -p %s && [ -z \"$(ls -A %s | grep -vx -e lost+found -e locks)\" ] || "
        "{ echo 'the directory is not empty and no repository' >&2; exit 1; }; mkdir -p %s",
        root, root, locks);
    return remote_shell_must (sending->shell, script, NULL, NULL, error)
           && write_there (sending->shell, document, text, error);
}

static char *member_of (const char *text, const char *name)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = json_read_object (text, strlen (text), &object, NULL);
    return node ? g_strdup (json_get_string (object, name)) : NULL;
}

/* Keys belong to a repository's id: sealed files and images mean nothing elsewhere. */
static gboolean check_repository_there (Sending *sending, GError **error)
{
    const Repository *repository = sending->point->repository;
    g_autofree char *file = g_build_filename (repository->path, document, NULL);
    g_autofree char *ours = NULL, *theirs = NULL;
    if (!files_read (file, 0, &ours, NULL, error)
        || !read_there (sending->shell, document, &theirs, error))
        return FALSE;
    if (!theirs)
        return make_mirror (sending, ours, error);
    g_autofree char *id = member_of (theirs, "id");
    if (!id)
        return error_set (error, BAK_ERROR_INEXACT, _("%s there is damaged"), document);
    gboolean keyed = repository->slots || strstr (theirs, "\"encryption\"");
    return g_str_equal (id, repository->id) || !keyed
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("the repository there is another one, and one of the two is encrypted: "
                            "by ssh an encrypted one goes to a directory of its own, which becomes "
                            "its mirror"));
}

/* FALSE and no error: it is not there. */
static gboolean has_point (Sending *sending, const Point *point, GError **error)
{
    const Manifest *manifest = point->manifest;
    g_autofree char *below =
        g_build_filename (manifest->guest_uuid, manifest->id, "manifest.json", NULL);
    g_autofree char *text = NULL, *ours = manifest_self (manifest);
    if (!read_there (sending->shell, below, &text, error) || !text)
        return FALSE;
    g_autofree char *theirs = member_of (text, "self");
    return g_strcmp0 (ours, theirs) == 0
           || error_set (error, BAK_ERROR_EXISTS, _("the repository there has another point '%s'"),
                         manifest->id);
}

static gboolean check_base (Sending *sending, const PlacementDisk *disk, GError **error)
{
    const Point *point = sending->point;
    g_autoptr (GError) why = NULL;
    g_autoptr (Point) base =
        point_load (point->repository, point->manifest->guest_uuid, disk->backing, error);
    if (!base)
        return FALSE;
    if (has_point (sending, base, &why))
        return TRUE;
    if (why) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("disk '%s' stands on point '%s', which is not there: copy that one first "
                         "(--all does); if it was removed there, copy to a mounted directory"),
                      disk->target, disk->backing);
}

static gboolean check_bases (Sending *sending, GError **error)
{
    const GPtrArray *disks = sending->point->storage->disks;
    for (guint i = 0; i < disks->len; i++) {
        const PlacementDisk *disk = disks->pdata[i];
        if (disk->backing && !check_base (sending, disk, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- the point is sound ---- */

static LeafSet *own_leaves (const Reading *reading, GError **error)
{
    g_autoptr (LeafSet) set = leaf_set_new (reading->disk->size);
    LeafRun run;
    for (guint64 index = 0; index < leaf_count (reading->disk->size);
         index = run.index + run.count) {
        if (!leaves_view_get (reading->view, index, &run, error))
            return NULL;
        if (run.layer == 0)
            leaf_set_add (set, run.index, run.count);
    }
    return g_steal_pointer (&set);
}

/* What is its own; the rest is of the points that are there. */
static gboolean prove_disk (Sending *sending, const char *target, GError **error)
{
    g_autoptr (Reading) reading = reading_open (sending->point, target, error);
    if (!reading)
        return FALSE;
    if (!reading->view)
        return error_set (error, BAK_ERROR_INEXACT, "%s", reading->flaw->message);
    g_autoptr (LeafSet) only = own_leaves (reading, error);
    g_autoptr (Storage) storage = only ? reading_serve (reading, error) : NULL;
    if (!storage)
        return FALSE;
    MoverSource source = { .target = target,
                           .fd = storage_connect (storage),
                           .export_name = target,
                           .size = reading->disk->size };
    MoverOptions options = { .only = only,
                             .key = repository_leaf_key (sending->point->repository),
                             .view = reading->view,
                             .check = MOVER_CHECK_PROVE };
    MoverResult result;
    return mover_run (&source, &options, NULL, &result, error);
}

static gboolean prove (Sending *sending, GError **error)
{
    const GPtrArray *disks = sending->point->manifest->disks;
    for (guint i = 0; i < disks->len; i++) {
        const char *target = ((ManifestDisk *) disks->pdata[i])->target;
        if (!prove_disk (sending, target, error))
            return error_note (error, _("disk '%s'"), target);
    }
    return TRUE;
}

/* ---- files ---- */

typedef struct {
    Sending *sending;
    int fd;
    guint64 size;
    char hex[LEAF_HEX_SIZE];
    char *there; /* quoted */
} SentFile;

/* SHA-256 of its first bytes. */
static gboolean hash_begin (const SentFile *file, guint64 length, char hex[LEAF_HEX_SIZE],
                            GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new (error);
    g_autofree guint8 *buffer = g_malloc (LEAF_SIZE);
    LeafHash hash;
    for (guint64 at = 0; hasher && at < length;) {
        ssize_t n = pread (file->fd, buffer, MIN (length - at, (guint64) LEAF_SIZE), at);
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO,
                                    _("cannot read what is to be sent"));
        hasher_update (hasher, buffer, n);
        at += n;
    }
    if (!hasher)
        return FALSE;
    hasher_end (hasher, &hash);
    leaf_to_hex (&hash, hex);
    return TRUE;
}

/* Where to go on: what is there of it, if it is the same so far. */
static gboolean find_offset (const SentFile *file, guint64 *ret_offset, GError **error)
{
    g_autofree char *script =
        g_strdup_printf ("[ -f %s ] || exit %d; wc -c <%s; exec sha256sum <%s", file->there, ABSENT,
                         file->there, file->there);
    g_autofree char *text = NULL;
    char hex[LEAF_HEX_SIZE];
    char *rest;
    int status;
    *ret_offset = 0;
    if (!remote_shell_run (file->sending->shell, script, NULL, &status, &text, error))
        return FALSE;
    if (status != 0)
        return status == ABSENT
               || error_set (error, error_code_from_text (text), _("cannot read there: %s"), text);
    guint64 size = g_ascii_strtoull (text, &rest, 10);
    if (size == 0 || size > file->size)
        return TRUE;
    if (!hash_begin (file, size, hex, error))
        return FALSE;
    if (g_str_has_prefix (g_strchug (rest), hex))
        *ret_offset = size;
    return TRUE;
}

static void count_sent (guint64 bytes, gpointer data)
{
    Sending *sending = data;
    sending->sent += bytes;
    work_progress (sending->sent, 0, &sending->work);
}

static gboolean send_rest (const SentFile *file, guint64 offset, GError **error)
{
    g_autofree char *script =
        g_strdup_printf ("umask 077; cat >%s%s && sync %s && exec sha256sum <%s", offset ? ">" : "",
                         file->there, file->there, file->there);
    RemoteInput input = { .fd = file->fd,
                          .offset = offset,
                          .length = file->size - offset,
                          .sent = count_sent,
                          .data = file->sending };
    g_autofree char *text = NULL;
    if (!remote_shell_must (file->sending->shell, script, &input, &text, error))
        return FALSE;
    return g_str_has_prefix (text, file->hex)
           || error_set (error, BAK_ERROR_INEXACT, _("what arrived is not what was sent"));
}

/* name: in the point's directory, here and there. */
static gboolean send_file (Sending *sending, const char *name, GError **error)
{
    g_autofree char *here = g_build_filename (sending->point->dir, name, NULL);
    g_autofree char *below = g_build_filename (sending->new_dir, name, NULL);
    g_autofree char *there = remote_shell_quote (sending->shell, below);
    SentFile file = { .sending = sending, .there = there };
    guint64 offset = 0;
    LeafHash hash;
    file.fd = open (here, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file.fd < 0)
        return error_set_errno (error, errno, _("cannot read '%s'"), here);
    gboolean ok = hasher_file (here, &hash, &file.size, error);
    if (ok)
        leaf_to_hex (&hash, file.hex);
    ok = ok && find_offset (&file, &offset, error) && send_rest (&file, offset, error);
    close (file.fd);
    g_string_append_printf (sending->check,
                            "[ \"$(wc -c <%s)\" -eq %" G_GUINT64_FORMAT " ] || exit 1; ", there,
                            file.size);
    return ok || error_note (error, "'%s'", name);
}

static gboolean send_optional (Sending *sending, const char *name, GError **error)
{
    g_autofree char *here = g_build_filename (sending->point->dir, name, NULL);
    return g_access (here, F_OK) != 0 || send_file (sending, name, error);
}

static gboolean send_files (Sending *sending, GError **error)
{
    const GPtrArray *disks = sending->point->storage->disks;
    const GPtrArray *files = sending->point->manifest->files;
    for (guint i = 0; i < disks->len; i++) {
        const PlacementDisk *disk = disks->pdata[i];
        work_begin_disk (&sending->work, "send", disk->target);
        if (!send_file (sending, disk->file, error) || !send_file (sending, disk->leaves, error))
            return FALSE;
    }
    for (guint i = 0; i < files->len; i++)
        if (!send_file (sending, ((ManifestFile *) files->pdata[i])->name, error))
            return FALSE;
    return send_optional (sending, "note.json", error) && send_optional (sending, "pinned", error)
           && send_file (sending, "storage.json", error)
           && send_file (sending, "manifest.json", error);
}

/* ---- begin and end ---- */

/* Numbers that a point made there later must not have. */
static gboolean update_guest (Sending *sending, GError **error)
{
    const Manifest *manifest = sending->point->manifest;
    g_autofree char *below = g_build_filename (manifest->guest_uuid, "guest.json", NULL);
    g_autofree char *here = g_build_filename (sending->point->repository->path, below, NULL);
    g_autofree char *ours = NULL, *theirs = NULL;
    JsonObject *object = NULL;
    if (!read_there (sending->shell, below, &theirs, error))
        return FALSE;
    g_autoptr (JsonNode) node =
        theirs ? json_read_object (theirs, strlen (theirs), &object, NULL) : NULL;
    if (node && (guint64) json_get_int (object, "sequence", 0) >= manifest->sequence)
        return TRUE;
    return files_read (here, 0, &ours, NULL, error)
           && write_there (sending->shell, below, ours, error);
}

static gboolean begin (Sending *sending, GError **error)
{
    const Manifest *manifest = sending->point->manifest;
    g_autofree char *name = g_strconcat (".new-", manifest->id, NULL);
    g_autofree char *lock = g_strconcat ("locks/", manifest->guest_uuid, ".send", NULL);
    sending->new_dir = g_build_filename (manifest->guest_uuid, name, NULL);
    g_autofree char *dir = remote_shell_quote (sending->shell, sending->new_dir);
    g_autofree char *locks = remote_shell_quote (sending->shell, "locks");
    g_autofree char *script = g_strdup_printf ("umask 077; mkdir -p %s %s", dir, locks);
    return remote_shell_must (sending->shell, script, NULL, NULL, error)
           && remote_shell_lock (sending->shell, lock, error);
}

/* In one command: all is there in its length, the name is free, the points below are there still.
 */
static gboolean publish (Sending *sending, GError **error)
{
    const Manifest *manifest = sending->point->manifest;
    const GPtrArray *disks = sending->point->storage->disks;
    g_autofree char *below = g_build_filename (manifest->guest_uuid, manifest->id, NULL);
    g_autofree char *from = remote_shell_quote (sending->shell, sending->new_dir);
    g_autofree char *to = remote_shell_quote (sending->shell, below);
    g_autofree char *guest = remote_shell_quote (sending->shell, manifest->guest_uuid);
    g_autoptr (GString) script = g_string_new (sending->check->str);
    for (guint i = 0; i < disks->len; i++) {
        const PlacementDisk *disk = disks->pdata[i];
        g_autofree char *base =
            disk->backing ? g_build_filename (manifest->guest_uuid, disk->backing, NULL) : NULL;
        g_autofree char *quoted = base ? remote_shell_quote (sending->shell, base) : NULL;
        if (quoted)
            g_string_append_printf (script, "[ -d %s ] || exit 1; ", quoted);
    }
    g_string_append_printf (script,
                            "[ ! -e %s ] || exit 1; sync %s && mv -T %s %s && exec sync %s %s", to,
                            from, from, to, to, guest);
    if (!remote_shell_is_locked (sending->shell))
        return error_set (error, BAK_ERROR_CONNECTION,
                          _("the connection that held the lock is gone"));
    return remote_shell_must (sending->shell, script->str, NULL, NULL, error)
           || error_note (error, _("it could not be published"));
}

static gboolean send_all (Sending *sending, gboolean *ret_copied, GError **error)
{
    g_autoptr (GError) why = NULL;
    if (!check_repository_there (sending, error))
        return FALSE;
    if (has_point (sending, sending->point, &why))
        return TRUE;
    if (why) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    *ret_copied = check_bases (sending, error) && prove (sending, error) && begin (sending, error)
                  && send_files (sending, error) && update_guest (sending, error)
                  && publish (sending, error);
    return *ret_copied;
}

gboolean send_point (Point *point, const char *url, const BakPointCopyOptions *options,
                     gboolean *ret_copied, guint64 *ret_sent, GError **error)
{
    const Manifest *manifest = point->manifest;
    *ret_copied = FALSE;
    *ret_sent = 0;
    if (!repository_need_key (point->repository, error))
        return FALSE;
    g_autoptr (Lock) lock = lock_point_to_read (point, NULL, error);
    g_autoptr (Point) now =
        lock ? point_load (point->repository, manifest->guest_uuid, manifest->id, error) : NULL;
    if (!now)
        return FALSE;
    Sending sending = { .point = now, .check = g_string_new (NULL) };
    work_init (&sending.work, options->limit, options->progress, options->opaque,
               options->cancellation);
    sending.shell = remote_shell_new (url, sending.work.control, error);
    gboolean ok = sending.shell && send_all (&sending, ret_copied, error);
    *ret_sent = sending.sent;
    remote_shell_free (sending.shell);
    work_clear (&sending.work);
    g_string_free (sending.check, TRUE);
    g_free (sending.new_dir);
    return ok || error_note (error, _("point '%s'"), manifest->id);
}
