/* Powered-off guests: libvirt backs up and checkpoints only running ones, so the qemu driver does
 * it on the images, in the same folder, and libvirt is told of the checkpoints afterwards. Only on
 * this host. */
#pragma once
#include "driver/libvirt/guest.h"

/* Is there a job of that kind (running, or left to be recovered)? */
gboolean lv_offline_has_job (LvGuest *guest);
/* The same call, done by the qemu driver. */
gboolean lv_offline_call (LvGuest *guest, CallId id, const void *args, void *ret, GError **error);
/* begin or plan of a guest that is off. */
gboolean lv_offline_begin (LvGuest *guest, const LvPicture *picture, CallId id,
                           const bak_begin_args *args, void *ret, GError **error);
gboolean lv_offline_checkpoint_create (LvGuest *guest, const LvRequest *request,
                                       const bak_checkpoint_create_args *args, char **ret_note,
                                       GError **error);
gboolean lv_offline_checkpoint_delete (LvGuest *guest, virDomainPtr domain,
                                       const bak_checkpoint_arg *args, GError **error);
gboolean lv_offline_checkpoint_check (LvGuest *guest, virDomainPtr domain,
                                      const bak_check_args *args, bak_check_ret *ret,
                                      GError **error);
/* Checkpoints that the qemu driver made and libvirt does not know yet. */
gboolean lv_offline_tell (LvGuest *guest, GError **error);
void lv_offline_recover (LvConn *lv, const char *name);
void lv_offline_close (LvConn *lv);
