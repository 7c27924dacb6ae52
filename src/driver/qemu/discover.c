/* Finds the QEMUs that run here and the monitors through which they can be attached. What a process
 * says of itself, on its command line or through its monitor, is shown and never trusted. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/definitions.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/cmdline.h"
#include "driver/qemu/monitor.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { WAIT_MS = 700, ASK_TIMEOUT_MS = 1000, UNIX_TABLE_MAX = 64 * 1024 * 1024 };

/* A monitor of a process, or a process without one that can be used (address NULL). */
typedef struct {
    int pid;
    char *address, *name, *uuid, *version, *attached_as, *note;
    gboolean busy; /* we have its guest at work: not to be asked */
} Found;

static void found_free (Found *found)
{
    g_free (found->address);
    g_free (found->name);
    g_free (found->uuid);
    g_free (found->version);
    g_free (found->attached_as);
    g_free (found->note);
    g_free (found);
}

static char *read_link (int pid, const char *what)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/%s", pid, what);
    return g_file_read_link (path, NULL);
}

/* A process in another root (a chroot) says paths that are not ours. */
static char *outside_path (int pid, const char *path)
{
    g_autofree char *root = read_link (pid, "root");
    g_autofree char *cwd = g_path_is_absolute (path) ? g_strdup ("/") : read_link (pid, "cwd");
    g_autofree char *whole = cwd ? g_canonicalize_filename (path, cwd) : NULL;
    gboolean elsewhere = root && !g_str_equal (root, "/");

    if (!whole)
        return NULL;
    if (elsewhere && !g_str_has_prefix (whole, root))
        return g_build_filename (root, whole, NULL);
    return g_canonicalize_filename (whole, NULL);
}

/* The path to which an inherited socket was bound: the descriptor names an inode, the kernel's
 * table its path. */
static char *path_of_fd (int pid, int fd)
{
    g_autofree char *what = g_strdup_printf ("fd/%d", fd);
    g_autofree char *link = read_link (pid, what);
    g_autofree char *table = g_strdup_printf ("/proc/%d/net/unix", pid);
    g_autofree char *text = NULL;

    if (!link || !g_str_has_prefix (link, "socket:[")
        || !files_read (table, UNIX_TABLE_MAX, &text, NULL, NULL))
        return NULL;
    guint64 inode = g_ascii_strtoull (link + strlen ("socket:["), NULL, 10);
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[i]; i++) {
        guint64 number = 0;
        int at = 0;
        if (sscanf (lines[i], "%*s %*s %*s %*s %*s %*s %" G_GINT64_MODIFIER "u %n", &number, &at)
                == 1
            && number == inode && at > 0 && lines[i][at] == '/')
            return g_strdup (lines[i] + at);
    }
    return NULL;
}

/* The storage daemons of powered-off guests and of test:/// are ours, not to be attached. */
static gboolean is_private (const char *state_dir, const char *path)
{
    g_autofree char *base = g_path_get_basename (path);
    g_autofree char *guests = g_build_filename (state_dir, "guests/", NULL);

    return g_str_has_prefix (path, guests)
           || (g_str_has_prefix (base, "qsd") && g_str_has_suffix (base, ".sock")
               && strstr (path, "/libbackup"));
}

static Found *found_new (int pid, const Cmdline *cmdline, char *address, char *note)
{
    Found *found = g_new0 (Found, 1);

    found->pid = pid;
    found->name = g_strdup (cmdline->name);
    found->uuid = g_strdup (cmdline->uuid);
    found->address = address;
    found->note = note;
    return found;
}

/* Where others find it. NULL: nowhere that is known. */
static char *monitor_address (int pid, const CmdlineMonitor *monitor)
{
    if (monitor->client || monitor->abstract)
        return NULL;
    if (monitor->address)
        return g_strdup (monitor->address);
    return monitor->path ? outside_path (pid, monitor->path) : path_of_fd (pid, monitor->fd);
}

static void take_monitor (const char *state_dir, int pid, const Cmdline *cmdline,
                          const CmdlineMonitor *monitor, GPtrArray *list)
{
    char *address = monitor_address (pid, monitor), *note = NULL;

    if (monitor->client)
        note = g_strdup (
            _("QEMU connects to this monitor's other end by itself; give it one with server=on"));
    else if (monitor->abstract)
        note = g_strdup (_("the monitor is an abstract socket, which cannot be attached"));
    else if (!address)
        note = g_strdup (_("the monitor's socket was inherited and its path cannot be found out"));
    if (address && is_private (state_dir, address)) {
        g_free (address);
        return;
    }
    g_ptr_array_add (list, found_new (pid, cmdline, address, note));
}

static Cmdline *cmdline_of (int pid)
{
    gsize length = 0;
    g_autofree char *text = pid > 0 ? process_command_line (pid, &length) : NULL;

    return text ? cmdline_parse (text, length) : NULL;
}

static void look_at_process (const char *state_dir, int pid, GPtrArray *list)
{
    g_autoptr (Cmdline) cmdline = cmdline_of (pid);

    if (!cmdline)
        return;
    for (guint i = 0; i < cmdline->monitors->len; i++)
        take_monitor (state_dir, pid, cmdline, cmdline->monitors->pdata[i], list);
    if (cmdline->monitors->len == 0)
        g_ptr_array_add (
            list, found_new (
                      pid, cmdline, NULL,
                      g_strdup (_(
                          "has no QMP monitor; start it with -qmp unix:PATH,server=on,wait=off"))));
}

static int compare_found (gconstpointer a, gconstpointer b)
{
    const Found *left = *(Found *const *) a, *right = *(Found *const *) b;
    return left->pid != right->pid ? (left->pid < right->pid ? -1 : 1)
                                   : g_strcmp0 (left->address, right->address);
}

static GPtrArray *walk_processes (const char *state_dir)
{
    GPtrArray *list = g_ptr_array_new_with_free_func ((GDestroyNotify) found_free);
    g_autoptr (GDir) entries = g_dir_open ("/proc", 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name (entries)))
        if (g_ascii_isdigit (*name))
            look_at_process (state_dir, atoi (name), list);
    g_ptr_array_sort (list, compare_found);
    return list;
}

static gboolean has_monitor (int pid, const char *address)
{
    g_autoptr (Cmdline) cmdline = cmdline_of (pid);
    gboolean has = FALSE;

    for (guint i = 0; cmdline && !has && i < cmdline->monitors->len; i++) {
        g_autofree char *its = monitor_address (pid, cmdline->monitors->pdata[i]);
        has = g_strcmp0 (its, address) == 0;
    }
    return has;
}

int discover_process (const char *address, int peer)
{
    g_autoptr (Cmdline) cmdline = cmdline_of (peer);
    g_autoptr (GDir) entries = cmdline ? NULL : g_dir_open ("/proc", 0, NULL);
    int pid = cmdline ? peer : 0;
    const char *name;

    while (pid == 0 && entries && (name = g_dir_read_name (entries)))
        if (g_ascii_isdigit (*name) && has_monitor (atoi (name), address))
            pid = atoi (name);
    return pid;
}

/* Asking */

static void keep_answer (char **field, Qmp *qmp, const char *command, const char *member)
{
    g_autoptr (JsonNode) node =
        *field ? NULL : qmp_execute (qmp, command, NULL, ASK_TIMEOUT_MS, NULL);

    if (node && JSON_NODE_HOLDS_OBJECT (node))
        *field = g_strdup (json_get_string (json_node_get_object (node), member));
}

static void ask (Found *found, MonitorProbe *probe)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Qmp) qmp = monitor_take (probe, &why);
    const char *version = NULL;

    if (!qmp) {
        found->note = text_sanitize (why->message, 512);
        return;
    }
    qmp_get_version (qmp, &version);
    found->version = g_strdup (version);
    keep_answer (&found->name, qmp, "query-name", "name");
    keep_answer (&found->uuid, qmp, "query-uuid", "UUID");
}

static void note_probe (Found *found, MonitorProbe *probe)
{
    switch (probe->state) {
    case MONITOR_TALKS: ask (found, probe); return;
    case MONITOR_HELD: found->note = g_strdup (_("another client holds the monitor")); return;
    case MONITOR_ABSENT:
    case MONITOR_DENIED:
        found->note =
            g_strdup_printf (_("the monitor cannot be reached: %s"), g_strerror (probe->errnum));
    }
}

static void note_attached (const char *state_dir, Found *found)
{
    g_autofree char *lock = NULL;

    if (!(found->attached_as = attach_find_monitor (state_dir, found->address)))
        return;
    lock = g_build_filename (state_dir, "guests", found->attached_as, "lock", NULL);
    found->busy = files_is_locked (lock);
    if (found->busy)
        found->note = g_strdup (_("libbackup is at work with it"));
}

static void probe_all (const char *state_dir, GPtrArray *list)
{
    g_autofree MonitorProbe *probes = g_new0 (MonitorProbe, list->len + 1);
    g_autoptr (GPtrArray) owners = g_ptr_array_new ();

    for (guint i = 0; i < list->len; i++) {
        Found *found = list->pdata[i];
        if (!found->address)
            continue;
        note_attached (state_dir, found);
        if (found->busy)
            continue;
        probes[owners->len].address = found->address;
        g_ptr_array_add (owners, found);
    }
    monitor_probe (probes, owners->len, WAIT_MS);
    for (guint i = 0; i < owners->len; i++)
        note_probe (owners->pdata[i], &probes[i]);
    monitor_probe_clear (probes, owners->len);
}

static char *plain (const char *text, gsize max)
{
    g_autofree char *clean = text_sanitize (text, max);
    return ret_string (clean);
}

/* 00000000-... is QEMU's word for none. */
static const char *real_uuid (const char *uuid)
{
    return uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") < strlen (uuid) ? uuid
                                                                                        : NULL;
}

static void fill (const Found *found, bak_found *ret)
{
    ret->pid = found->pid;
    ret->qmp = plain (found->address, BAK_PATH_MAX);
    ret->name = plain (found->name, BAK_NAME_MAX);
    ret->uuid = plain (real_uuid (found->uuid), BAK_NAME_MAX);
    ret->qemu_version = plain (found->version, BAK_NAME_MAX);
    ret->attached_as = plain (found->attached_as, BAK_NAME_MAX);
    ret->note = plain (found->note, BAK_MESSAGE_MAX);
}

gboolean qemu_discover (DriverConn *conn, const bak_none *args, bak_discover_ret *ret,
                        GError **error)
{
    QemuConn *owner = conn->priv;
    g_autoptr (GPtrArray) list = walk_processes (owner->state_dir);

    probe_all (owner->state_dir, list);
    guint count = MIN (list->len, BAK_DOMAINS_MAX);
    ret->found.found_val = ret_array (count, sizeof (bak_found));
    ret->found.found_len = count;
    for (guint i = 0; i < count; i++)
        fill (list->pdata[i], &ret->found.found_val[i]);
    return TRUE;
}
