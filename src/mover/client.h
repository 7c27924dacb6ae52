/* One connection to an NBD server, run by libnbd's asynchronous calls so that a dead or slow server
 * costs a deadline and no more. One thread at a time. */
#pragma once
#include "mover/mover.h"
#include "util/nbd.h"

typedef struct {
    struct nbd_handle *nbd;
    guint timeout_ms;
    int stop_fd; /* readable: everything that waits here ends with ABORTED; -1: none */
} Client;

/* Connects and ends the handshake; contexts: NULL-terminated, NULL: none. */
Client *client_new (const MoverSource *source, const char *const *contexts, guint timeout_ms,
                    int stop_fd, GError **error);
void client_free (Client *client);
gint64 client_deadline (const Client *client); /* of a request that is sent now */
/* Waits until something happens on one of them, on wake_fd (-1: none; it is emptied), or the
 * deadline: the deadline is no error here. */
gboolean client_wait (Client *const *clients, guint count, int wake_fd, gint64 deadline,
                      GError **error);
gboolean client_timed_out (const Client *client, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Client, client_free)
