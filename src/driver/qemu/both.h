/* A guest that is attached by its monitor and by its images: one guest, whether it runs or not.
 *
 * While somebody listens at its monitor it is that QEMU's guest, and nobody else opens its images.
 * When nobody does, a private storage daemon opens them: their locks keep it from a QEMU that runs
 * without being heard. Each time it is seen running, what its disks are called and where they lie
 * is written down for the day that it is off. */
#pragma once
#include "driver/qemu/guest.h"

gboolean both_ways (const GuestDef *def);
/* On the guest's thread: whose it is now. Nothing changes while a job runs or the monitor is
 * connected. */
void both_settle (Guest *guest);
/* Nobody listens there; who cannot be reached may well run. */
gboolean both_nobody_listens (const char *monitor);
/* The storage daemon holds the images; FALSE: the guest was started at the last moment, and is the
 * monitor's. */
gboolean both_still_off (Guest *guest);
/* The QEMU at the monitor is that of this guest. INEXACT. */
gboolean both_check_uuid (Guest *guest, GError **error);
/* Writes down what QEMU has. INEXACT when it has never been seen and has none of the images. */
gboolean both_note (Guest *guest, const Graph *graph, GError **error);
/* At attach: each image is that of a disk of QEMU; find: all of its disks become images. Adds the
 * format of each. */
gboolean both_match (GuestDef *def, const Graph *graph, int pid, gboolean find, GPtrArray *formats,
                     GError **error);
