/* The guest agent's socket: synchronous, one command at a time, guest-sync-delimited before each
 * and after each timeout. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

typedef struct _Agent Agent;

/* address as for qmp_connect. Fails with BAK_ERROR_CONNECTION when the agent does not answer the
 * sync in timeout_ms. */
Agent *agent_connect (const char *address, guint timeout_ms, GError **error);
void agent_close (Agent *agent);
/* *ret_count: file systems frozen. Mountpoints NULL: all. On failure it has tried to thaw.
 * BAK_ERROR_AGENT: the agent said no; BAK_ERROR_TIMEOUT: hangs, state unknown (a thaw was sent). */
gboolean agent_freeze (Agent *agent, const char *const *mountpoints, guint timeout_ms,
                       int *ret_count, GError **error);
gboolean agent_thaw (Agent *agent, guint timeout_ms, int *ret_count, GError **error);
gboolean agent_status (Agent *agent, guint timeout_ms, gboolean *ret_frozen, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Agent, agent_close)
