/* A powered-off guest has no QEMU, so one is started for it: a qemu-storage-daemon that opens the
 * images, holds their locks and outlives whoever started it. It is found again by its socket:
 * whoever listens there is the daemon, the kernel says its pid. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/offline.h"
#include "util/config.h"
#include "util/files.h"
#include "job/seal.h"
#include "util/qsd.h"
#include "util/process.h"

enum {
    START_TIMEOUT_MS = 30000,
    ASK_TIMEOUT_MS = 2000,
    QUIT_WAIT_MS = 15000,
    KILL_WAIT_MS = 5000,
    BACKLOG_WAIT_S = 5,
    NODE_NAME_MAX = 31,
    PROTOCOL_NAME_MAX = NODE_NAME_MAX - 5
};

/* Names and places */

char *offline_socket (const char *dir, const GuestDef *def)
{
    g_autofree char *folder = config_socket_dir (dir, strlen ("qsd.sock")),
                    *file = g_strdup_printf ("qsd-%s.sock", def->uuid);
    return g_build_filename (folder, g_str_equal (folder, dir) ? "qsd.sock" : file, NULL);
}

static char *log_path (const Guest *guest)
{
    return g_build_filename (guest->dir, "qsd.log", NULL);
}

/* Room is left for the node below ("-file"), and "bak-" is kept for what begins and ends with a
 * job. */
static gboolean node_name_legal (const char *name)
{
    gsize length = strlen (name);

    return length > 0 && length <= PROTOCOL_NAME_MAX && g_ascii_isalpha (*name)
           && !g_str_has_prefix (name, "bak-")
           && strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
                  == length;
}

static gboolean is_target (const GuestDef *def, const char *name)
{
    for (guint i = 0; i < def->images->len; i++)
        if (g_str_equal (((GuestDiskDef *) def->images->pdata[i])->target, name))
            return TRUE;
    return FALSE;
}

char *offline_node_name (const GuestDef *def, guint i)
{
    const char *target = ((GuestDiskDef *) def->images->pdata[i])->target;
    char *name;

    if (node_name_legal (target))
        return g_strdup (target);
    for (guint number = i;; number += def->images->len) {
        name = g_strdup_printf ("disk%u", number);
        if (!is_target (def, name))
            return name;
        g_free (name);
    }
}

/* A disk whose node cannot bear its target's name answers to it as if it had been given at attach.
 */
static void name_disks (GuestDef *def)
{
    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autofree char *node = offline_node_name (def, i);
        gboolean known = g_str_equal (node, image->target);
        for (guint j = 0; j < def->disks->len; j++)
            known |= g_str_equal (((GuestDiskDef *) def->disks->pdata[j])->target, image->target);
        if (known)
            continue;
        GuestDiskDef *disk = g_new0 (GuestDiskDef, 1);
        disk->target = g_strdup (image->target);
        disk->id = g_steal_pointer (&node);
        g_ptr_array_add (def->disks, disk);
    }
}

/* The daemon that runs */

/* Those who only looked stay in the backlog until the monitor is free; when it is full, somebody
 * listens and the kernel does not say who before there is room. */
static pid_t wait_for_pid (const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval timeout = { .tv_sec = BACKLOG_WAIT_S };
    struct ucred peer = { 0 };
    socklen_t length = sizeof peer;
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy (address.sun_path, path); /* offline_socket() sees to it that it fits */
    if (fd < 0 || setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0
        || connect (fd, (struct sockaddr *) &address, sizeof address) != 0
        || getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        peer.pid = 0;
    if (fd >= 0)
        close (fd);
    return peer.pid;
}

/* 0: none. A connection is made and closed again at once; the monitor does not mind. */
static pid_t daemon_pid (const Guest *guest)
{
    g_autofree char *socket = offline_socket (guest->dir, guest->def);
    MonitorProbe probe = { .address = socket };

    monitor_probe (&probe, 1, 0);
    monitor_probe_clear (&probe, 1);
    if (probe.state == MONITOR_HELD && probe.pid == 0)
        return wait_for_pid (socket);
    return probe.state == MONITOR_ABSENT || probe.state == MONITOR_DENIED ? 0 : probe.pid;
}

gboolean offline_running (const Guest *guest)
{
    return daemon_pid (guest) != 0;
}

char *offline_note (const Guest *guest)
{
    pid_t pid = daemon_pid (guest);

    if (pid == 0)
        return NULL;
    return g_strdup_printf (_("the images are held by a storage daemon (pid %d); a guest started "
                               "meanwhile would fail to start; "
                               "'backup-stop %s --abort' frees them"),
                            (int) pid, guest->def->name);
}

static void remove_files (const Guest *guest)
{
    g_autofree char *socket = offline_socket (guest->dir, guest->def), *log = log_path (guest);

    g_unlink (socket);
    g_unlink (log);
}

static gboolean ask_to_quit (const Guest *guest)
{
    g_autofree char *socket = offline_socket (guest->dir, guest->def);
    g_autoptr (Qmp) qmp = qmp_connect (socket, NULL, ASK_TIMEOUT_MS, NULL);

    return qmp && qmp_run (qmp, "quit", NULL, ASK_TIMEOUT_MS, NULL);
}

/* quit and SIGTERM both close the images cleanly; SIGKILL does not, and what then remains of
 * bitmaps is marked inconsistent. */
static void stop_process (const Guest *guest, pid_t pid)
{
    if (!ask_to_quit (guest)) {
        kill (pid, SIGTERM);
        kill (pid, SIGCONT); /* one that was stopped hears it only then */
    }
    if (process_wait_gone (pid, QUIT_WAIT_MS))
        return;
    g_warning ("storage daemon (pid %d) of guest '%s' does not end; it is killed", (int) pid,
               guest->def->name);
    kill (pid, SIGKILL);
    process_wait_gone (pid, KILL_WAIT_MS);
}

void offline_stop (Guest *guest)
{
    pid_t pid = daemon_pid (guest);

    if (pid > 0)
        stop_process (guest, pid);
    remove_files (guest);
}

/* Starting it */

/* What a guest has written into a raw disk since it was attached must not be taken for a format,
 * with file names in it. */
static char *image_format (const Guest *guest, const GuestDiskDef *image, GError **error)
{
    if (!*image->id) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED,
                   _("it is no image file or block device of this host: only the guest's QEMU "
                      "can read it, and that does not run"));
        return NULL;
    }
    g_autofree char *format = attach_image_format (guest->dir, image->target);
    g_autoptr (ImageInfo) info = format ? image_probe (image->id, format, error) : NULL;

    if (!format)
        error_set (error, BAK_ERROR_IO,
                   _("the format that image '%s' had when it was attached is not known any more: "
                      "'%s/attach.json' is "
                      "damaged; detach the guest and attach it again"),
                   image->id, guest->dir);
    return info ? g_steal_pointer (&format) : NULL;
}

static gboolean add_images (const Guest *guest, GPtrArray *argv, GError **error)
{
    const GuestDef *def = guest_shape (guest);

    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autofree char *format = image_format (guest, image, error);
        g_autofree char *node = offline_node_name (def, i);
        if (!format)
            return error_note (error, _("disk '%s'"), image->target);
        g_ptr_array_add (argv, g_strdup ("--blockdev"));
        g_ptr_array_add (argv, qsd_blockdev (image->id, format, node));
    }
    return TRUE;
}

static GPtrArray *make_argv (const Guest *guest, GError **error)
{
    g_autoptr (GPtrArray) argv = qsd_argv_new ();

    if (!add_images (guest, argv, error))
        return NULL;
    qsd_argv_end (argv);
    return g_steal_pointer (&argv);
}

/* No greeting is waited for with a sleep: the socket exists already, and is closed if the daemon
 * ends. */
static gboolean wait_ready (const Guest *guest, const char *socket, const char *log, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Qmp) qmp = qmp_connect (socket, NULL, START_TIMEOUT_MS, &why);
    pid_t pid = qmp ? 0 : daemon_pid (guest);

    if (qmp)
        return TRUE;
    if (pid > 0)
        stop_process (guest, pid);
    if (pid > 0 && error_code (why) != BAK_ERROR_CONNECTION)
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("the storage daemon did not open its images within %d s"),
                          START_TIMEOUT_MS / 1000);
    return qsd_reason (log, why, error);
}

static gboolean start (Guest *guest, const char *socket, GError **error)
{
    g_autofree char *said = log_path (guest);
    g_autoptr (GPtrArray) argv = make_argv (guest, error);
    int monitor = argv ? qsd_bind (socket, error) : -1;

    if (monitor < 0)
        return FALSE;
    int log = g_open (said, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    gboolean ok = log >= 0 ? qsd_spawn ((char **) argv->pdata, monitor, log, NULL, error)
                           : error_set_errno (error, errno, "'%s'", said);
    close (monitor);
    if (log >= 0)
        close (log);
    ok = ok && wait_ready (guest, socket, said, error);
    if (!ok)
        remove_files (guest);
    return ok;
}

char *offline_start (Guest *guest, GError **error)
{
    g_autofree char *socket = offline_socket (guest->dir, guest->def);

    name_disks (guest_shape (guest));
    if (!offline_running (guest) && !start (guest, socket, error)) {
        error_note (error, _("guest '%s'"), guest->def->name);
        return NULL;
    }
    return g_steal_pointer (&socket);
}

/* Without it */

static void fill_sizes (const ImageInfo *info, bak_disk *disk)
{
    struct stat st;

    disk->capacity = info->virtual_size;
    disk->allocation = disk->physical = info->actual_size;
    if (stat (info->file, &st) != 0)
        return;
    if (S_ISBLK (st.st_mode))
        disk->allocation = disk->physical = info->virtual_size;
    else
        disk->physical = st.st_size;
}

static char *image_note (const ImageInfo *info)
{
    GString *text = g_string_new (info->corrupt ? _("the image is marked corrupt") : NULL);
    guint named = 0;

    for (guint i = 0; i < info->bitmaps->len; i++) {
        const ImageBitmap *bitmap = info->bitmaps->pdata[i];
        if (seal_is_name (bitmap->name))
            continue;
        g_autofree char *name = text_sanitize (bitmap->name, 64);
        if (text->len > BAK_MESSAGE_MAX / 2)
            break;
        const char *title = text->len ? _("; bitmaps: ") : _("bitmaps: ");
        g_string_append_printf (text, "%s%s%s", named++ > 0 ? ", " : title, name,
                                bitmap->in_use ? _(" (in use or inconsistent)") : "");
    }
    char *note = ret_string (text->str);
    g_string_free (text, TRUE);
    return note;
}

static void fill_disk (const GuestDef *def, guint i, const ImageInfo *info, bak_disk *disk)
{
    const GuestDiskDef *image = def->images->pdata[i];
    g_autofree char *node = offline_node_name (def, i),
                    *file = text_sanitize (image->id, BAK_PATH_MAX);
    const char *names[] = { image->target, node, file };
    struct stat st;

    disk->names.names_val = ret_array (G_N_ELEMENTS (names), sizeof (bak_path));
    for (guint n = 0; n < G_N_ELEMENTS (names); n++)
        if (n != 1 || !g_str_equal (node, image->target))
            disk->names.names_val[disk->names.names_len++] = ret_string (names[n]);
    disk->target = ret_string (image->target);
    disk->node = ret_string (node);
    disk->source = ret_string (file);
    disk->type = ret_string (stat (image->id, &st) == 0 && S_ISBLK (st.st_mode) ? "block" : "file");
    disk->device = ret_string ("disk");
    disk->format = ret_string (info->format);
    disk->bus = ret_string ("virtio");
    disk->iothread = ret_string ("");
    disk->selected = TRUE;
    disk->depth = info->depth;
    disk->note = image_note (info);
    fill_sizes (info, disk);
}

gboolean offline_disks (Guest *guest, bak_disks_ret *ret, GError **error)
{
    const GuestDef *def = guest_shape (guest);

    ret->disks.disks_val = ret_array (def->images->len, sizeof (bak_disk));
    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autofree char *format = image_format (guest, image, error);
        g_autoptr (ImageInfo) info = format ? image_probe (image->id, format, error) : NULL;
        if (!info) {
            call_clear_ret (CALL_ID_domain_disks, ret);
            return error_note (error, _("disk '%s'"), image->target);
        }
        fill_disk (def, i, info, &ret->disks.disks_val[i]);
        ret->disks.disks_len = i + 1;
    }
    return TRUE;
}
