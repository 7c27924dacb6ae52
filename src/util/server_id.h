/* Which server a name leads to: one is reached under many. Looks names up, so it may take as long
 * as the resolver of this host takes. */
#pragma once
#include <glib.h>

/* The same text for the same socket, under whatever path. NULL: there is none. Caller frees. */
char *server_id_of_socket (const char *path);
/* The same text for the same address and port: of the addresses of this host, for all of them.
 * NULL: the name is not known. Caller frees. */
char *server_id_of_host (const char *host, guint port);
gboolean server_id_is_here (const char *id);
/* The same text for the same process of this host that listens there; of several that share the
 * socket the oldest. NULL: it cannot be seen, or it listens on behalf of others (ssh, systemd).
 * Nobody is connected to: a server may serve one client, and end with it. Caller frees. */
char *server_process_of_socket (const char *path);
char *server_process_of_port (guint port);
