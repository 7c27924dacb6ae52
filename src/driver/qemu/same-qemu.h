/* One QEMU is one guest, by what QEMU itself tells: it lists the addresses of all its monitors on
 * each of them. Two monitors of one QEMU would be two guests, with two backups at a time, each
 * clearing away what the other has made. */
#pragma once
#include "driver/qemu/guest.h"

/* BAK_ERROR_EXISTS when a guest that is known here has its monitor at this QEMU too, and was there
 * first (by number, of attach_number()) or is at work now. */
gboolean same_qemu_check (Qmp *qmp, const char *state_dir, const GuestDef *def, int number,
                          GError **error);
/* BAK_ERROR_INEXACT when the QEMU at this guest's monitor says that it is another guest (its UUID).
 * One without a UUID is taken on trust. */
gboolean same_guest_check (Qmp *qmp, const GuestDef *def, const char *expected, GError **error);
/* What QEMU says its UUID is; NULL: it has none. */
char *same_guest_uuid (Qmp *qmp);
/* Anything but bitmaps that only libbackup makes. */
gboolean same_qemu_holds_ours (const Graph *graph);
/* BAK_ERROR_BUSY when somebody is connected to another monitor of this QEMU: what is not of this
 * guest may be of a libbackup with another state directory, which lives. */
gboolean same_qemu_is_alone (Qmp *qmp, const GuestDef *def, GError **error);
