/* Reaching a monitor or an agent. */
#pragma once
#include <gio/gio.h>

/* A connected, non-blocking socket, by absolute path or HOST:PORT, before deadline (monotonic).
 * what: "monitor", for messages. BAK_ERROR_BUSY: the listener's backlog stayed full; ACCESS_DENIED,
 * CONNECTION, INVALID_ARGUMENT as they say. */
GSocket *dial (const char *what, const char *address, gint64 deadline, GError **error);
