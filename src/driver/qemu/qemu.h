/* What the test driver borrows from the qemu driver. */
#pragma once
#include "driver/qemu/guest.h"

/* Opens with this state directory. */
gboolean qemu_open_at (DriverConn *conn, const DriverOpenOptions *options, const char *state_dir, GError **error);
void qemu_close (DriverConn *conn);
