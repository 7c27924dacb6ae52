#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "job/journal.h"
#include "driver/watchers.h"
#include "remote/watcher.h"
#include "util/files.h"

enum { SCAN_MS = 300, LEAVE_MS = 3000, OWNER_MS = 8000, LOOK_MS = 5 };

typedef struct {
    Watchers *owner;
    DriverConn *remote;
    gboolean registered;
} Link;

struct _Watchers {
    DriverConn *conn;
    char *state_dir, *uri;
    const char *const *folders;
    GMutex lock;       /* guards what follows */
    GHashTable *links; /* guest -> Link* */
    GThread *scanner;  /* finds watchers whose events somebody waits for */
    int wake;          /* eventfd: ends the scanner */
    gboolean listening, closing;
};

static void on_event (DriverConn *remote, const bak_event *event, gpointer data)
{
    if (event->kind != EVENT_CONNECTION) /* a watcher goes when it has done its work */
        driver_conn_emit (((Link *) data)->owner->conn, event);
}

static void link_free (Link *link)
{
    driver_close (link->remote);
    g_free (link);
}

Watchers *watchers_new (DriverConn *conn, const char *state_dir, const char *uri,
                        const char *const *folders)
{
    Watchers *watchers = g_new0 (Watchers, 1);
    watchers->conn = conn;
    watchers->state_dir = g_strdup (state_dir);
    watchers->uri = g_strdup (uri);
    watchers->folders = folders;
    watchers->links =
        g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) link_free);
    g_mutex_init (&watchers->lock);
    watchers->wake = -1;
    return watchers;
}

void watchers_free (Watchers *watchers)
{
    if (!watchers)
        return;
    g_mutex_lock (&watchers->lock);
    watchers->closing = TRUE;
    g_mutex_unlock (&watchers->lock);
    if (watchers->scanner) {
        eventfd_write (watchers->wake, 1);
        g_thread_join (watchers->scanner);
        close (watchers->wake);
    }
    g_hash_table_unref (watchers->links);
    g_mutex_clear (&watchers->lock);
    g_free (watchers->state_dir);
    g_free (watchers->uri);
    g_free (watchers);
}

gboolean watchers_owned (Watchers *watchers, const char *guest)
{
    for (const char *const *folder = watchers->folders; *folder; folder++) {
        g_autofree char *lock =
            g_build_filename (watchers->state_dir, "guests", guest, *folder, "lock", NULL);
        if (files_is_locked (lock))
            return TRUE;
    }
    return FALSE;
}

static gboolean has_journal (Watchers *watchers, const char *guest)
{
    for (const char *const *folder = watchers->folders; *folder; folder++) {
        g_autofree char *dir =
            g_build_filename (watchers->state_dir, "guests", guest, *folder, NULL);
        if (journal_exists (dir))
            return TRUE;
    }
    return FALSE;
}

static DriverConn *connect_to (Watchers *watchers, const char *guest, GError **error)
{
    g_autofree char *socket = watcher_socket (watchers->state_dir, guest),
                    *uri = watcher_uri (watchers->state_dir, guest);
    if (g_file_test (socket, G_FILE_TEST_EXISTS))
        return watchers->conn->open_another (uri, &(DriverOpenOptions){ .stays_lost = TRUE },
                                             error);
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

typedef enum { NOBODY, LOST, ANSWERED } Answer;

static gboolean pass_on (const char *guest, const char *group, const int *fds, guint n_fds,
                         gpointer remote, GError **error)
{
    bak_none none = { 0 };
    const bak_fds_args args = { .domain = (char *) guest,
                                .name = (char *) group,
                                .fds = { .fds_len = n_fds, .fds_val = (int *) fds } };
    return call_fd_associate (remote, &args, &none, error);
}

/* A begin, or its plan, may name a socket that was passed here. */
static gboolean pass_sockets (Watchers *watchers, DriverConn *remote, const char *guest, CallId id,
                              GError **error)
{
    if (id != CALL_ID_backup_begin && id != CALL_ID_backup_plan)
        return TRUE;
    return passed_each (driver_passed (watchers->conn), guest, pass_on, remote, error);
}

static Answer call_over (Watchers *watchers, const char *guest, DriverConn *remote, CallId id,
                         const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    int unsent = g_atomic_int_get (&remote->unsent), lost = g_atomic_int_get (&remote->lost);
    *ret_ok = pass_sockets (watchers, remote, guest, id, error)
              && driver_call (remote, id, args, ret, error);
    return *ret_ok                                        ? ANSWERED
           : g_atomic_int_get (&remote->unsent) != unsent ? NOBODY
           : g_atomic_int_get (&remote->lost) != lost     ? LOST
                                                          : ANSWERED;
}

/* A wait must not keep other calls out: it has a connection of its own. */
static Answer call_apart (Watchers *watchers, const char *guest, CallId id, const void *args,
                          void *ret, gboolean *ret_ok, GError **error)
{
    DriverConn *remote = connect_to (watchers, guest, error);
    Answer answer =
        remote ? call_over (watchers, guest, remote, id, args, ret, ret_ok, error) : NOBODY;
    driver_close (remote);
    return answer;
}

static Answer call_shared (Watchers *watchers, const char *guest, CallId id, const void *args,
                           void *ret, gboolean *ret_ok, GError **error)
{
    g_mutex_lock (&watchers->lock);
    Link *link = link_get (watchers, guest, error);
    if (link && watchers->listening)
        link_register (link);
    Answer answer =
        link ? call_over (watchers, guest, link->remote, id, args, ret, ret_ok, error) : NOBODY;
    if (link && answer != ANSWERED)
        g_hash_table_remove (watchers->links, guest);
    g_mutex_unlock (&watchers->lock);
    return answer;
}

/* TRUE: done there, *ret_ok and *error say how. FALSE: nobody is there. A watcher that had done its
 * work and was leaving is no failure: who comes after it is asked, but a begin that may have got as
 * far as a journal is not made a second time without a word. */
static gboolean forward (Watchers *watchers, const char *guest, CallId id, const void *args,
                         void *ret, gboolean *ret_ok, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + LEAVE_MS * 1000;
    g_autoptr (GError) lost = NULL;

    for (;;) {
        g_autoptr (GError) failure = NULL;
        Answer answer = (id == CALL_ID_backup_wait ? call_apart : call_shared) (
            watchers, guest, id, args, ret, ret_ok, &failure);
        gboolean owned = watchers_owned (watchers, guest);
        /* who is stopped is there, and answers nobody */
        if (answer != ANSWERED && error_code (failure) == BAK_ERROR_MONITOR_HELD) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return TRUE;
        }
        if (answer == LOST && !lost)
            lost = g_error_copy (failure);
        if (answer == NOBODY && !lost)
            return FALSE;
        if (answer != ANSWERED && !owned
            && (id != CALL_ID_backup_begin || !has_journal (watchers, guest)))
            return FALSE;
        if (answer == ANSWERED || !owned || g_get_monotonic_time () > deadline) {
            if (!*ret_ok)
                g_propagate_error (error, answer == ANSWERED ? g_steal_pointer (&failure)
                                                             : g_steal_pointer (&lost));
            return TRUE;
        }
        g_usleep (LOOK_MS * 1000); /* a lock has no event of its own */
    }
}

gboolean watchers_start (Watchers *watchers, const char *guest, GError **error)
{
    g_autoptr (GError) failure = NULL;
    g_autofree char *dir = g_build_filename (watchers->state_dir, "guests", guest, NULL);
    if (!files_make_dir (dir, 0700, error))
        return FALSE;
    if (watcher_spawn (watchers->state_dir, guest, watchers->uri, &failure)
        || error_code (failure) == BAK_ERROR_BUSY)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

gboolean watchers_ask (Watchers *watchers, const char *guest, gboolean needs, CallId id,
                       const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + OWNER_MS * 1000;
    g_autoptr (GError) failure = NULL;

    *ret_ok = FALSE;
    if (!needs && !watchers_owned (watchers, guest) && !has_journal (watchers, guest))
        return FALSE;
    do {
        if (forward (watchers, guest, id, args, ret, ret_ok, error))
            return TRUE;
        if (!needs && (watchers_owned (watchers, guest) || !has_journal (watchers, guest)))
            return FALSE;
        if (watchers_owned (watchers, guest)) {
            /* who holds the guest for the moment of a question is waited for */
            g_usleep (LOOK_MS * 1000);
            continue;
        }
        g_clear_error (&failure);
        if (!watchers_start (watchers, guest, &failure))
            break;
        if (forward (watchers, guest, id, args, ret, ret_ok, error))
            return TRUE;
        g_usleep (LOOK_MS * 1000); /* what kept us from starting one was a watcher that was dying */
    } while ((needs || has_journal (watchers, guest)) && g_get_monotonic_time () < deadline);
    if (!needs)
        return FALSE;
    if (failure)
        g_propagate_error (error, g_steal_pointer (&failure));
    else
        error_set (error, BAK_ERROR_MONITOR_HELD,
                   _("another libbackup process works with guest '%s'"), guest);
    return TRUE;
}

/* A guest may have got another watcher since: a link that is asked finds it, with what was
 * registered. lock is held. */
static void look_after (Watchers *watchers, const char *guest)
{
    bak_hello_args args = { .uri = (char *) "", .api = 1 };
    bak_hello_ret ret = { 0 };
    Link *link = link_get (watchers, guest, NULL);

    if (!link)
        return;
    link_register (link);
    if (g_atomic_int_get (&link->remote->broken) && !call_hello (link->remote, &args, &ret, NULL))
        g_hash_table_remove (watchers->links, guest);
    call_clear_ret (CALL_ID_hello, &ret);
}

/* Until somebody starts a watcher (its socket is there before it is), a guest comes, or the
 * connection closes. A watcher that was there when we came, or died, makes no noise: for these
 * there is a time. */
static void await_news (Watchers *watchers, int notify)
{
    struct pollfd entries[] = { { .fd = watchers->wake, .events = POLLIN },
                                { .fd = notify, .events = POLLIN } };
    char news[4096];
    if (poll (entries, G_N_ELEMENTS (entries), SCAN_MS) > 0 && entries[1].revents)
        while (read (notify, news, sizeof news) > 0)
            ;
}

static gpointer scan (gpointer data)
{
    Watchers *watchers = data;
    g_autofree char *path = g_build_filename (watchers->state_dir, "guests", NULL);
    int notify = inotify_init1 (IN_NONBLOCK | IN_CLOEXEC);
    g_mutex_lock (&watchers->lock);
    while (!watchers->closing) {
        g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
        const char *name;
        inotify_add_watch (notify, path, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
        while (dir && (name = g_dir_read_name (dir))) {
            g_autofree char *folder = g_build_filename (path, name, NULL);
            inotify_add_watch (notify, folder, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
            look_after (watchers, name);
        }
        g_mutex_unlock (&watchers->lock);
        await_news (watchers, notify);
        g_mutex_lock (&watchers->lock);
    }
    g_mutex_unlock (&watchers->lock);
    close (notify);
    return NULL;
}

void watchers_listen (Watchers *watchers)
{
    g_mutex_lock (&watchers->lock);
    watchers->listening = TRUE;
    if (!watchers->scanner && (watchers->wake = eventfd (0, EFD_CLOEXEC)) >= 0)
        watchers->scanner = g_thread_new ("watchers", scan, watchers);
    g_mutex_unlock (&watchers->lock);
}
