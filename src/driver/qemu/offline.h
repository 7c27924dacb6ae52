/* The storage daemon of a powered-off guest, beyond what guest.h says. */
#pragma once
#include "driver/qemu/guest.h"

/* "the images are held by a storage daemon (pid N) ...", NULL when none runs. For begin and
 * dominfo. */
char *offline_note (const Guest *guest);
/* The node-name of image i of the definition: its target where QEMU's alphabet allows, else "disk"
 * and the number. Caller frees. */
char *offline_node_name (const GuestDef *def, guint i);
/* The socket of the daemon's monitor. Caller frees. */
char *offline_socket (const char *dir, const GuestDef *def);
