/* What the test driver borrows from the qemu driver. */
#pragma once
#include "driver/qemu/guest.h"

/* Opens with this state directory. */
gboolean qemu_open_at (DriverConn *conn, const DriverOpenOptions *options, const char *state_dir,
                       GError **error);
void qemu_close (DriverConn *conn);
/* All calls but those by which guests come and go. */
extern const DriverCall qemu_embedded_calls[CALL_COUNT];
gboolean qemu_route (DriverConn *conn, CallId id, const void *args, void *ret, GError **error);
