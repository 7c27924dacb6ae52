/* Quick looks at many monitors at once, without waiting for those that another client holds. */
#pragma once
#include "driver/qemu/qmp.h"

typedef enum {
    MONITOR_ABSENT, /* nobody listens: no such socket, or refused */
    MONITOR_DENIED, /* not ours to connect to */
    MONITOR_HELD,   /* somebody listens, but says nothing: another client holds it, or it hangs */
    MONITOR_TALKS,  /* greets */
} MonitorState;

typedef struct {
    const char *address; /* in: absolute path or HOST:PORT, borrowed */
    MonitorState state;
    int pid;    /* who listens on a unix socket; 0 unknown */
    int errnum; /* ABSENT, DENIED */
    int fd;     /* TALKS: connected, for qmp_connect_fd(); -1 */
} MonitorProbe;

/* Connects to all and waits at most timeout_ms, for all together, for their greetings. timeout_ms
 * 0: does not wait; who listens is HELD then. */
void monitor_probe (MonitorProbe *probes, guint count, guint timeout_ms);
void monitor_probe_clear (MonitorProbe *probes, guint count);
/* A monitor that talks, as a client; takes the probe's fd. */
Qmp *monitor_take (MonitorProbe *probe, GError **error);
