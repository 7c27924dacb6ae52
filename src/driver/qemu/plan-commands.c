/* Names of ours, and the commands whose form changed over the years. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

char *own_name (Planner *p, const char *role, const Item *item)
{
    return item ? g_strdup_printf ("bak-%s-%s%u", p->in->job, role, item->index)
                : g_strdup_printf ("bak-%s-%s", p->in->job, role);
}

void planner_note (Planner *p, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (p->plan->notes, g_strdup_vprintf (format, args));
    va_end (args);
}

Action *node_add (Planner *p, JsonObject *options)
{
    if (p->caps->blockdev_add_flat)
        return timed (qmp_action ("blockdev-add", options), CREATE_TIMEOUT_MS);
    /* A job takes names of block backends only, and an id may not be a node-name too. */
    json_object_set_string_member (options, "id",
                                   json_object_get_string_member (options, "node-name"));
    json_object_remove_member (options, "node-name");
    return qmp_action ("blockdev-add", obj ("options", "o", options, NULL));
}

Action *node_del (Planner *p, const char *name)
{
    if (p->caps->blockdev_del)
        return guarded (qmp_action ("blockdev-del", obj ("node-name", "s", name, NULL)), "node",
                        name);
    return guarded (qmp_action ("x-blockdev-del", obj ("id", "s", name, NULL)), "node", name);
}

Action *job_cancel (Planner *p, const char *job)
{
    if (p->caps->jobs)
        return guarded (qmp_action ("job-cancel", obj ("id", "s", job, NULL)), "job", job);
    return guarded (
        qmp_action ("block-job-cancel", obj ("device", "s", job, "force", "b", TRUE, NULL)), "job",
        job);
}

Action *job_dismiss (const char *job)
{
    return guarded (qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), "job", job);
}

/* Once: what has let go of its nodes is only waited for. */
Action *job_finalize (const char *job)
{
    Action *action = qmp_action ("job-finalize", obj ("id", "s", job, NULL));
    action->guard = obj ("job", "s", job, "status", "s", "pending", NULL);
    return action;
}

Action *object_add (Planner *p, const char *type, const char *id, JsonObject *properties)
{
    if (p->caps->object_add_props)
        return qmp_action ("object-add", obj ("qom-type", "s", type, "id", "s", id, "props", "o",
                                              properties, NULL));
    json_object_set_string_member (properties, "qom-type", type);
    json_object_set_string_member (properties, "id", id);
    return qmp_action ("object-add", properties);
}

void start_create_job (Planner *p, const char *title, Item *item, const char *job,
                       JsonObject *options)
{
    plan_add (
        p->plan, title, item->disk->target,
        qmp_action ("blockdev-create", obj ("job-id", "s", job, "options", "o", options, NULL)),
        job_cancel (p, job),
        guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job),
        job_dismiss (job), NULL);
}

void end_create_job (Planner *p, Item *item, const char *job)
{
    const char *target = item->disk->target;
    g_autofree char *wait_title = g_strdup_printf (_("wait until that is done (%s)"), target);
    plan_add (p->plan, wait_title, target,
              timed (own_action ("job-wait", obj ("job", "s", job, NULL)), CREATE_TIMEOUT_MS),
              NULL);
    plan_add (p->plan, _("take note of its result"), target,
              qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), NULL);
}

Action *bitmap_remove (const char *node, const char *bitmap)
{
    Action *action = qmp_action ("block-dirty-bitmap-remove",
                                 obj ("node", "s", node, "name", "s", bitmap, NULL));
    action->guard = obj ("bitmap", "s", bitmap, "node", "s", node, NULL);
    return action;
}
