/* What the driver's table of calls is filled with. Each runs with guest->busy held unless it says
 * otherwise. */
#pragma once
#include "driver/libvirt/guest.h"

/* checkpoint.c */
gboolean lv_local_checkpoint_create (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_xml (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_list (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_children (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_lookup (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_delete (LvGuest *guest, const void *args, void *ret, GError **error);
gboolean lv_local_checkpoint_check (LvGuest *guest, const void *args, void *ret, GError **error);
/* What libvirt does not keep of a checkpoint that it has just made. */
gboolean lv_checkpoint_record (LvGuest *guest, const Plan *plan, const char *job, GError **error);

/* capabilities.c */
gboolean lv_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret,
                          GError **error);
