#include <glib/gi18n-lib.h>
#include "driver/watchers.h"
#include "remote/watcher.h"
#include "util/files.h"

enum { SCAN_MS = 300 };

typedef struct {
    Watchers *owner;
    DriverConn *remote;
    gboolean registered;
} Link;

struct _Watchers {
    DriverConn *conn;
    char *state_dir, *uri;
    const char *const *locks;
    GMutex lock;                /* guards what follows */
    GHashTable *links;          /* guest -> Link* */
    GThread *scanner;           /* finds watchers whose events somebody waits for */
    GCond scan;
    gboolean listening, closing;
};

static void on_event (DriverConn *remote, const bak_event *event, gpointer data)
{
    driver_conn_emit (((Link *) data)->owner->conn, event);
}

static void link_free (Link *link)
{
    driver_close (link->remote);
    g_free (link);
}

Watchers *watchers_new (DriverConn *conn, const char *state_dir, const char *uri, const char *const *locks)
{
    Watchers *watchers = g_new0 (Watchers, 1);
    watchers->conn = conn;
    watchers->state_dir = g_strdup (state_dir);
    watchers->uri = g_strdup (uri);
    watchers->locks = locks;
    watchers->links = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) link_free);
    g_mutex_init (&watchers->lock);
    g_cond_init (&watchers->scan);
    return watchers;
}

void watchers_free (Watchers *watchers)
{
    if (!watchers)
        return;
    g_mutex_lock (&watchers->lock);
    watchers->closing = TRUE;
    g_cond_signal (&watchers->scan);
    g_mutex_unlock (&watchers->lock);
    if (watchers->scanner)
        g_thread_join (watchers->scanner);
    g_hash_table_unref (watchers->links);
    g_mutex_clear (&watchers->lock);
    g_cond_clear (&watchers->scan);
    g_free (watchers->state_dir);
    g_free (watchers->uri);
    g_free (watchers);
}

gboolean watchers_owned (Watchers *watchers, const char *guest)
{
    for (const char *const *name = watchers->locks; *name; name++) {
        g_autofree char *lock = g_build_filename (watchers->state_dir, "guests", guest, *name, NULL);
        if (files_is_locked (lock))
            return TRUE;
    }
    return FALSE;
}

static DriverConn *connect_to (Watchers *watchers, const char *guest, GError **error)
{
    g_autofree char *socket = watcher_socket (watchers->state_dir, guest), *uri = watcher_uri (watchers->state_dir, guest);
    if (g_file_test (socket, G_FILE_TEST_EXISTS))
        return driver_open (uri, NULL, error);
    error_set (error, BAK_ERROR_CONNECTION, _("guest '%s' has no watcher"), guest);
    return NULL;
}

/* lock is held. */
static Link *link_get (Watchers *watchers, const char *guest, GError **error)
{
    Link *link = g_hash_table_lookup (watchers->links, guest);
    DriverConn *remote = link ? NULL : connect_to (watchers, guest, error);
    if (!remote)
        return link;
    link = g_new0 (Link, 1);
    link->owner = watchers;
    link->remote = remote;
    driver_conn_set_events (remote, on_event, link);
    g_hash_table_replace (watchers->links, g_strdup (guest), link);
    return link;
}

static void link_register (Link *link)
{
    bak_register_args args = { .kind = -1, .domain = (char *) "" };
    bak_register_ret ret = { 0 };
    link->registered = link->registered || call_event_register (link->remote, &args, &ret, NULL);
}

static gboolean answers (DriverConn *remote)
{
    bak_hello_args args = { .uri = (char *) "" };
    bak_hello_ret ret = { 0 };
    gboolean ok = call_hello (remote, &args, &ret, NULL);
    if (ok)
        call_clear_ret (CALL_ID_hello, &ret);
    return ok;
}

/* A wait must not keep other calls out: it has a connection of its own. */
static gboolean forward_apart (Watchers *watchers, const char *guest, CallId id, const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    DriverConn *remote = connect_to (watchers, guest, error);
    if (!remote)
        return FALSE;
    *ret_ok = driver_call (remote, id, args, ret, error);
    gboolean there = *ret_ok || watchers_owned (watchers, guest) || answers (remote);
    driver_close (remote);
    return there;
}

static gboolean forward_shared (Watchers *watchers, const char *guest, CallId id, const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    g_autoptr (GError) failure = NULL;
    g_mutex_lock (&watchers->lock);
    Link *link = link_get (watchers, guest, &failure);
    gboolean there = link != NULL;
    if (link && watchers->listening)
        link_register (link);
    if (link)
        *ret_ok = driver_call (link->remote, id, args, ret, &failure);
    /* No connection to the watcher, or the watcher's word on a connection of its own? */
    if (link && !*ret_ok && error_code (failure) == BAK_ERROR_CONNECTION && !watchers_owned (watchers, guest))
        there = answers (link->remote);
    if (link && !there)
        g_hash_table_remove (watchers->links, guest);
    g_mutex_unlock (&watchers->lock);
    if (failure)
        g_propagate_error (error, g_steal_pointer (&failure));
    return there;
}

gboolean watchers_forward (Watchers *watchers, const char *guest, CallId id, const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    g_autoptr (GError) failure = NULL;
    gboolean there = (id == CALL_ID_backup_wait ? forward_apart : forward_shared) (watchers, guest, id, args, ret, ret_ok, &failure);

    if (there && *ret_ok)
        return TRUE;
    if (!there && error_code (failure) == BAK_ERROR_CONNECTION)
        return FALSE;           /* it had done its work and left */
    *ret_ok = FALSE;
    g_propagate_error (error, g_steal_pointer (&failure));
    return TRUE;
}

gboolean watchers_start (Watchers *watchers, const char *guest, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (watcher_spawn_uri (watchers->state_dir, guest, watchers->uri, &failure) || error_code (failure) == BAK_ERROR_BUSY)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* A guest may have got another watcher since. lock is held. */
static void drop_dead (Watchers *watchers, const char *guest)
{
    Link *link = g_hash_table_lookup (watchers->links, guest);
    if (link && !answers (link->remote))
        g_hash_table_remove (watchers->links, guest);
}

static gpointer scan (gpointer data)
{
    Watchers *watchers = data;
    g_autofree char *path = g_build_filename (watchers->state_dir, "guests", NULL);
    g_mutex_lock (&watchers->lock);
    while (!watchers->closing) {
        g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name (dir))) {
            drop_dead (watchers, name);
            Link *link = watchers_owned (watchers, name) ? link_get (watchers, name, NULL) : NULL;
            if (link)
                link_register (link);
        }
        g_cond_wait_until (&watchers->scan, &watchers->lock, g_get_monotonic_time () + SCAN_MS * 1000);
    }
    g_mutex_unlock (&watchers->lock);
    return NULL;
}

void watchers_listen (Watchers *watchers)
{
    g_mutex_lock (&watchers->lock);
    watchers->listening = TRUE;
    if (!watchers->scanner)
        watchers->scanner = g_thread_new ("watchers", scan, watchers);
    g_mutex_unlock (&watchers->lock);
}
