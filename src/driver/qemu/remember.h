/* How a guest that is known by its monitor alone was when it was seen last: what is said of it
 * while it is off. Nothing that a backup rests on. */
#pragma once
#include "driver/qemu/guest.h"

/* xml: NULL keeps the description that is remembered. Written when it differs; that it cannot be is
 * no failure. */
void remember_guest (Guest *guest, const bak_disks_ret *disks, const char *xml);
/* FALSE: nothing is remembered. Sizes are those of then. */
gboolean remember_disks (const Guest *guest, bak_disks_ret *ret);
char *remember_xml (const Guest *guest); /* NULL */
