/* The watchers of a connection's guests, seen from a client: calls that concern a running job go to
 * the process that owns the guest, events of jobs come from there. For drivers that keep guests in
 * STATE/guests/NAME. Any thread. */
#pragma once
#include "driver/driver.h"

typedef struct _Watchers Watchers;

/* conn: events are emitted on it. uri: given to watchers, NULL: qemu:///. folders: NULL-terminated,
 * relative to a guest's folder; each may hold a lock, then the guest is owned, and a journal, then
 * an owner has something to do. */
Watchers *watchers_new (DriverConn *conn, const char *state_dir, const char *uri,
                        const char *const *folders);
void watchers_free (Watchers *watchers);
gboolean watchers_owned (Watchers *watchers, const char *guest);
/* A call to the guest's watcher. TRUE: done there, *ret_ok and *error say how. FALSE: nobody is
 * there, and the call needs nobody: needs FALSE. One is started when the call needs it, or when a
 * journal is left; another process that holds the guest for a moment is waited for. */
gboolean watchers_ask (Watchers *watchers, const char *guest, gboolean needs, CallId id,
                       const void *args, void *ret, gboolean *ret_ok, GError **error);
/* Starts one; one that is there already will do. */
gboolean watchers_start (Watchers *watchers, const char *guest, GError **error);
/* From now on the events of all watchers, also of later ones, come to conn. */
void watchers_listen (Watchers *watchers);
