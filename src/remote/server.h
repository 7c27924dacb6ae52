/* Serves a DriverConn to peers: listeners, peers, worker threads, events. Everything but the
 * workers' driver calls happens on one GMainContext (the one that is the thread's default when the
 * server is made). */
#pragma once
#include "driver/driver.h"
#include "remote/access.h"

typedef struct _Server Server;

typedef enum {
    LISTEN_RW,      /* unix socket: identity by SO_PEERCRED */
    LISTEN_RO,      /* the same, every peer read-only */
    LISTEN_PRIVATE, /* a watcher's: only root and our own user */
} ListenKind;

typedef struct {
    guint max_peers;     /* more are turned away */
    guint max_anonymous; /* peers that have not opened yet */
    guint max_in_work;   /* calls of one peer at a time; then it is not read */
    guint max_workers;   /* calls at work; those that are stuck come on top: turns.h */
    guint max_per_guest; /* calls of one guest at a time, so that a hung guest holds only these */
    guint open_seconds;  /* a peer must have opened by then */
    /* a packet must be whole by then, and a second later for each slow_rate bytes of it; a peer
     * must read its replies by then */
    guint half_seconds;
    gsize slow_rate;
    gsize max_user_bytes; /* of unfinished packets and calls that wait, of all peers of one user */
    gsize max_bytes;      /* of all users */
    gsize max_queued;     /* bytes of events that wait for a slow subscriber; then it is dropped */
} ServerLimits;
extern const ServerLimits server_default_limits;

/* conn is borrowed and must outlive the server; its event callback is the server's from now on.
 * limits NULL: default. */
Server *server_new (DriverConn *conn, const ServerLimits *limits);
void server_free (Server *server); /* drops every peer, waits for the workers' calls */
/* Takes fd, a listening socket. */
gboolean server_listen (Server *server, int fd, ListenKind kind, GError **error);
/* Makes, binds and listens on a unix socket. mode 0660; group NULL or unknown: none. A socket that
 * nobody serves any more is replaced, anything else at the path is an error. Returns the fd. */
int server_bind_unix (const char *path, int mode, const char *group, GError **error);
/* Takes the descriptors of a peer that is connected already, and identity. */
void server_add_peer (Server *server, int in_fd, int out_fd, Identity *identity, gboolean readonly);
void server_add_peer_stream (Server *server, GIOStream *stream, Identity *identity,
                             gboolean readonly);
void server_set_policy (Server *server, Policy *policy); /* takes a reference */
void server_set_audit (Server *server, gboolean on);
/* From now on polkit decides about local users who open the connection for more than looking;
 * members of group need it not. group NULL: nobody is asked. */
void server_set_polkit (Server *server, const char *group);
/* Stops listening; peers stay. */
void server_stop_listening (Server *server);
guint server_count_peers (const Server *server);
guint server_count_calls (const Server *server); /* in work */
/* Called on the server's context for every event of the driver, and (event NULL) when a peer has
 * come or gone. */
typedef void (*ServerNotifyFunc) (Server *server, const bak_event *event, gpointer data);
void server_set_notify (Server *server, ServerNotifyFunc func, gpointer data);
DriverConn *server_get_conn (Server *server);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Server, server_free)
