/* Asks an export of ours, as any reader would, whether the point in time still stands: QEMU itself
 * says nothing. */
#pragma once
#include "job/plan.h"

/* Reads the first sector of the disk's export over the plan's own server within timeout_ms. */
gboolean probe_export (const Plan *plan, const PlanDisk *disk, guint timeout_ms, GError **error);
/* Whether anybody listens at the address of the plan's server. */
gboolean probe_server (const Plan *plan);
/* Before begin: whether a probe will be possible (a TLS server wants a client certificate of ours).
 */
gboolean probe_possible (const Plan *plan, GError **error);
/* Clients that are connected to the plan's server right now, as the kernel lists them for the
 * process pid (0: ours); -1: cannot be told. */
/* just_probed: QEMU may not yet have closed its end of our own connection: who has gone is left
 * out, as far as the kernel tells. */
int probe_count_clients (const Plan *plan, int pid, gboolean just_probed);
