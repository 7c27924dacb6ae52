/* Our errors and the wire's, both directions. In our own program the code crosses as it is; in
 * libvirt's it becomes the code that libvirt's clients act on. */
#pragma once
#include "remote/remote.h"
#include "util/error.h"

/* Codes and domains of libvirt that we name. */
enum {
    RPC_ERROR_INTERNAL = 1,
    RPC_ERROR_NO_SUPPORT = 3,
    RPC_ERROR_INVALID_ARG = 8,
    RPC_ERROR_FAILED = 9,
    RPC_ERROR_XML = 27,
    RPC_ERROR_DENIED = 29,
    RPC_ERROR_SYSTEM = 38,
    RPC_ERROR_RPC = 39,
    RPC_ERROR_NO_DOMAIN = 42,
    RPC_ERROR_AUTH = 45,
    RPC_ERROR_NO_POOL = 49,
    RPC_ERROR_INVALID = 55,
    RPC_ERROR_CONFIG = 67,
    RPC_ERROR_TIMEOUT = 68,
    RPC_ERROR_ARGUMENT = 74,
    RPC_ERROR_ABORTED = 78,
    RPC_ERROR_UNSUPPORTED = 84,
    RPC_ERROR_AGENT = 86,
    RPC_ERROR_BUSY = 87,
    RPC_ERROR_ACCESS = 88,
    RPC_ERROR_NO_CHECKPOINT = 103,
    RPC_ERROR_NO_BACKUP = 104,
    RPC_ERROR_INCONSISTENT = 109
};
enum {
    RPC_FROM_NONE = 0,
    RPC_FROM_RPC = 7,
    RPC_FROM_QEMU = 10,
    RPC_FROM_DOMAIN = 20,
    RPC_FROM_CHECKPOINT = 69
};
enum { ERROR_TEXT_MAX = 4096 }; /* a text on the wire is never longer */

/* An error that is to cross with just this code of libvirt's (a GError domain beside BAK_ERROR). */
#define RPC_ERROR (rpc_error_quark ())
GQuark rpc_error_quark (void);
gboolean rpc_error_set (GError **error, int code, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* ret is borrowed-from by nobody: clear it with codec_clear (rpc_error_codec, ...). */
void rpc_error_from (const GError *error, guint32 program, rpc_error *ret);
/* What a reply of this program with status 1 says. Returns FALSE so that it can be returned. */
gboolean rpc_error_to (const rpc_error *wire, GError **error);
/* "Cannot find program": the peer is a libvirtd. */
gboolean rpc_error_is_unknown_program (const rpc_error *wire);
gboolean rpc_error_codec (void *xdrs, void *data);
