/* Small builders of JSON and actions, so that plans read like the QMP they stand for. */
#pragma once
#include "job/plan.h"

/* obj ("node-name", "s", name, "size", "i", (gint64) n, "flag", "b", TRUE, "child", "o", object,
 * "list", "a", array, "gone", "n", NULL): members with a value of NULL for s, o and a are left out;
 * "n" is a JSON null. Ends with NULL. o and a are consumed. */
JsonObject *obj (const char *name, ...) G_GNUC_NULL_TERMINATED;
JsonArray *arr (JsonObject *first, ...) G_GNUC_NULL_TERMINATED; /* objects, consumed */
JsonArray *str_arr (const char *first, ...) G_GNUC_NULL_TERMINATED;
JsonObject *obj_copy (JsonObject *object);

Action *qmp_action (const char *command, JsonObject *args); /* args consumed; NULL: {} */
Action *oob_action (const char *command, JsonObject *args); /* the same, out of band */
Action *own_action (const char *verb, JsonObject *args);
Action *guarded (Action *action, const char *kind, const char *name);
Action *timed (Action *action, guint timeout_ms);
Action *kept (Action *action);        /* an undo for failures only */
Action *node_yank (const char *name); /* cuts a node's connection to its server */
Plan *plan_new (const char *job, BackupMode mode);
/* Adds a step; undo actions follow, ended by NULL. Returns the step. */
Step *plan_add (Plan *plan, const char *title, const char *disk, Action *action,
                ...) G_GNUC_NULL_TERMINATED;
