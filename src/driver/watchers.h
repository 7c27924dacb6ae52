/* The watchers of a connection's guests, seen from a client: calls that concern a running job go to the process that owns the
 * guest, events of jobs come from there. For drivers that keep guests in STATE/guests/NAME. Any thread. */
#pragma once
#include "driver/driver.h"

typedef struct _Watchers Watchers;

/* conn: events are emitted on it. locks: NULL-terminated, relative to a guest's folder; any of them locked: the guest is owned. */
Watchers *watchers_new (DriverConn *conn, const char *state_dir, const char *uri, const char *const *locks);
void watchers_free (Watchers *watchers);
gboolean watchers_owned (Watchers *watchers, const char *guest);
/* TRUE: done there, *ret_ok and *error say how. FALSE: nobody is there. */
gboolean watchers_forward (Watchers *watchers, const char *guest, CallId id, const void *args, void *ret, gboolean *ret_ok, GError **error);
/* Starts one; one that is there already will do. */
gboolean watchers_start (Watchers *watchers, const char *guest, GError **error);
/* From now on the events of all watchers, also of later ones, come to conn. */
void watchers_listen (Watchers *watchers);
