/* Freezes and thaws the guest's file systems by its agent. On the guest's thread. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/agent.h"
#include "driver/qemu/verbs.h"
#include "util/config.h"

enum { FREEZE_TIMEOUT = 60, THAW_TIMEOUT_MS = 10000, AGENT_CONNECT_MS = 5000 };

gboolean run_freeze (Run *run, GError **error)
{
    Guest *guest = run->data;
    g_autoptr (Agent) agent = agent_connect (guest->def->agent, AGENT_CONNECT_MS, error);
    if (!agent || (run->journal && !journal_frozen (run->journal, TRUE, error)))
        return FALSE;
    run->frozen = TRUE; /* from here on a thaw is owed, whatever the agent answers */
    run->frozen_since = g_get_monotonic_time ();
    guint timeout = CLAMP (config_get_int ("freeze_timeout", FREEZE_TIMEOUT), 1, 3600) * 1000;
    return agent_freeze (agent, NULL, timeout, &run->froze, error);
}

gboolean run_thaw (Run *run, GError **error)
{
    if (!run->frozen)
        return TRUE;
    Guest *guest = run->data;
    g_autoptr (Agent) agent = agent_connect (guest->def->agent, AGENT_CONNECT_MS, error);
    if (!agent || !agent_thaw (agent, THAW_TIMEOUT_MS, &run->thawed, error)) {
        g_free (run->thaw_problem);
        run->thaw_problem = g_strdup (error && *error ? (*error)->message : _("no answer"));
        return FALSE;
    }
    run->frozen_for = g_get_monotonic_time () - run->frozen_since;
    run->frozen = FALSE;
    g_clear_pointer (&run->thaw_problem, g_free);
    return !run->journal || journal_frozen (run->journal, FALSE, error);
}
