/* What the qemu driver's table of calls is filled with. Each runs on the guest's thread unless it
 * says otherwise. */
#pragma once
#include "driver/qemu/guest.h"

/* capabilities.c */
gboolean qemu_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret,
                            GError **error);

/* chain-info.c */
gboolean local_chain (Guest *guest, const void *args, void *ret, GError **error);

/* checkpoint.c; list, children and lookup read records only (any thread) */
gboolean local_checkpoint_create (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_xml (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_list (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_children (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_lookup (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_delete (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_check (Guest *guest, const void *args, void *ret, GError **error);
