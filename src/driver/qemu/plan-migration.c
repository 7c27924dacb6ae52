/* No migration before, and none while a job runs: migration.h. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/migration.h"
#include "driver/qemu/planner.h"

gboolean check_migration (const Planner *p, GError **error)
{
    return migration_allows (p->in->graph->status, p->in->graph->migration, error);
}

/* First in, so last out: it stands as long as there is anything of the job in QEMU. */
void add_barrier (Planner *p)
{
    if (!p->in->barrier)
        return;
    g_autofree char *node = own_name (p, "mig", NULL);
    JsonObject *file = obj ("driver", "s", "file", "filename", "s", p->in->barrier, NULL);
    JsonObject *options = obj ("driver", "s", "vpc", "node-name", "s", node, "read-only", "b", TRUE,
                               "file", "o", file, NULL);
    Action *add = node_add (p, options);
    add->otherwise = g_strdup ("migration-check");
    plan_add (p->plan, _("keep a migration from starting: QEMU refuses one while this is open"),
              NULL, add, node_del (p, node), NULL);
}
