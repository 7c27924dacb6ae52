/* libnbd, loaded when it is needed: with it come TLS and all that it stands on, and nobody who has
 * no export to look at has that in his memory. */
#pragma once
#include <libnbd.h>
#include "util/error.h"

/* clang-format off */
#ifdef LIBNBD_HAVE_NBD_SET_PREAD_INITIALIZE
#define NBD_OPTIONAL(F) F (set_pread_initialize)
#else
#define NBD_OPTIONAL(F)
#endif
#define NBD_FUNCTIONS(F) \
    F (create) \
    F (close) \
    F (get_error) \
    F (get_errno) \
    F (get_size) \
    F (get_block_size) \
    NBD_OPTIONAL (F) \
    F (set_export_name) \
    F (set_handshake_flags) \
    F (set_strict_mode) \
    F (set_tls) \
    F (set_tls_certificates) \
    F (set_tls_verify_peer) \
    F (set_tls_username) \
    F (set_tls_psk_file) \
    F (add_meta_context) \
    F (can_meta_context) \
    F (can_multi_conn) \
    F (can_flush) \
    F (can_zero) \
    F (is_read_only) \
    F (aio_connect_unix) \
    F (aio_connect_tcp) \
    F (aio_connect_socket) \
    F (aio_is_ready) \
    F (aio_is_dead) \
    F (aio_is_closed) \
    F (aio_pread) \
    F (aio_pread_structured) \
    F (aio_pwrite) \
    F (aio_zero) \
    F (aio_flush) \
    F (aio_block_status) \
    F (aio_disconnect) \
    F (aio_command_completed) \
    F (aio_in_flight) \
    F (aio_get_fd) \
    F (aio_get_direction) \
    F (aio_notify_read) \
    F (aio_notify_write) \
    F (poll)
/* clang-format on */

typedef struct {
#define NBD_DECLARE(name) __typeof__ (&nbd_##name) name;
    NBD_FUNCTIONS (NBD_DECLARE)
#undef NBD_DECLARE
} LibNbd;

extern LibNbd libnbd;
/* Any thread; before the first use. */
gboolean nbd_load (GError **error);
/* "what: what libnbd said last in this thread". Returns FALSE. */
gboolean nbd_failed (const char *what, GError **error);
/* TLS of a client: folder has X.509 files, or keys.psk (psk). verify: the server's certificate. */
gboolean nbd_use_tls (struct nbd_handle *nbd, const char *folder, gboolean psk, gboolean verify,
                      GError **error);
