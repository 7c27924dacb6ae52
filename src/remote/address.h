/* Where a URI leads: qemu+unix:///system?socket=PATH, bak:///system?socket=PATH,
 * qemu+ssh://[user@]host[:port]/system, qemu+tls://host[:port]/system?pkipath=DIR. Parsing is pure;
 * opening blocks. */
#pragma once
#include <gio/gio.h>
#include "util/error.h"

typedef enum { ADDRESS_UNIX, ADDRESS_SSH, ADDRESS_TLS } AddressKind;
enum { TLS_PORT = 16515 };

typedef struct {
    AddressKind kind;
    char *socket;      /* UNIX: path; SSH: path on the other host or NULL */
    char *user, *host; /* NULL when not given */
    int port;          /* -1 */
    char *pki_dir;     /* TLS; NULL: configuration */
    char *command;     /* SSH: instead of the configured ssh; NULL */
    char *libbackupd;  /* SSH: where it is on the other host; NULL: in the PATH there */
    gboolean session;  /* path /session */
    char *label;       /* for messages: "libbackupd at /run/…" */
} Address;

gboolean address_is_ours (const char *uri);
Address *address_parse (const char *uri, GError **error);
Address *address_for_socket (const char *path);
void address_free (Address *address);

/* *ret_stream is set for TLS (already greeted by the server's byte), otherwise *ret_fd, a connected
 * socket. BAK_ERROR_CONNECTION with what the other side said. */
gboolean address_connect (const Address *address, gboolean readonly, int *ret_fd,
                          GIOStream **ret_stream, GError **error);

/* unix sockets whose path may be longer than sun_path (reached through /proc/self/fd). */
int unix_connect (const char *path, GError **error);
int unix_bind (const char *path, int mode, GError **error); /* bound, not listening */

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Address, address_free)
