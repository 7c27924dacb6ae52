/* The processes of this host that are QEMUs, and which of them a monitor belongs to: who listens on
 * a monitor's socket may be whoever made the socket for QEMU. */
#pragma once
#include <sys/stat.h>
#include <gio/gio.h>

/* pid: an entry of /proc */
gboolean qemu_process_is (const char *pid);
/* The QEMU at this monitor, whose socket was listened on by process peer; 0: cannot be told. */
int qemu_process_of (const char *monitor, int peer);
/* The QEMU of this host at the other end of a connection by TCP; 0: there is none. */
int qemu_process_of_tcp (GSocket *socket);
/* Whether the process has this very file or device open; -1: its descriptors cannot be seen. */
int qemu_process_has_open (int pid, const struct stat *st);
/* Whether any of this host that can be looked into has. */
gboolean qemu_process_any_has_open (const struct stat *st);
