#include "job/build.h"

enum { YANK_TIMEOUT_MS = 5000 };

JsonObject *obj (const char *name, ...)
{
    JsonObject *object = json_object_new ();
    va_list args;
    va_start (args, name);
    while (name) {
        const char *kind = va_arg (args, const char *);
        switch (*kind) {
        case 's': {
            const char *text = va_arg (args, const char *);
            if (text)
                json_object_set_string_member (object, name, text);
            break;
        }
        case 'i': json_object_set_int_member (object, name, va_arg (args, gint64)); break;
        case 'b': json_object_set_boolean_member (object, name, va_arg (args, gboolean)); break;
        case 'o': {
            JsonObject *child = va_arg (args, JsonObject *);
            if (child)
                json_object_set_object_member (object, name, child);
            break;
        }
        case 'a': {
            JsonArray *child = va_arg (args, JsonArray *);
            if (child)
                json_object_set_array_member (object, name, child);
            break;
        }
        case 'n':
            (void) va_arg (args, void *);
            json_object_set_null_member (object, name);
            break;
        default: g_assert_not_reached ();
        }
        name = va_arg (args, const char *);
    }
    va_end (args);
    return object;
}

JsonArray *arr (JsonObject *first, ...)
{
    JsonArray *array = json_array_new ();
    va_list args;
    va_start (args, first);
    for (JsonObject *object = first; object; object = va_arg (args, JsonObject *))
        json_array_add_object_element (array, object);
    va_end (args);
    return array;
}

JsonArray *str_arr (const char *first, ...)
{
    JsonArray *array = json_array_new ();
    va_list args;
    va_start (args, first);
    for (const char *text = first; text; text = va_arg (args, const char *))
        json_array_add_string_element (array, text);
    va_end (args);
    return array;
}

/* json_node_copy() shares objects, so a deep copy goes through text. */
JsonObject *obj_copy (JsonObject *object)
{
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    g_autofree char *text = json_to_string (node, FALSE);
    g_autoptr (JsonNode) copy = json_from_string (text, NULL);
    return json_node_dup_object (copy);
}

static Action *action_new (gboolean qmp, const char *verb, JsonObject *args)
{
    Action *action = g_new0 (Action, 1);
    action->qmp = qmp;
    action->verb = g_strdup (verb);
    action->args = args ? args : json_object_new ();
    return action;
}

Action *qmp_action (const char *command, JsonObject *args)
{
    return action_new (TRUE, command, args);
}

Action *oob_action (const char *command, JsonObject *args)
{
    Action *action = action_new (TRUE, command, args);
    action->oob = TRUE;
    return action;
}

Action *own_action (const char *verb, JsonObject *args)
{
    return action_new (FALSE, verb, args);
}

Action *guarded (Action *action, const char *kind, const char *name)
{
    g_clear_pointer (&action->guard, json_object_unref);
    action->guard = obj (kind, "s", name, NULL);
    return action;
}

Action *timed (Action *action, guint timeout_ms)
{
    action->timeout_ms = timeout_ms;
    return action;
}

Action *kept (Action *action)
{
    action->keep = TRUE;
    return action;
}

/* Out of band: what hangs may be the main loop itself. */
Action *node_yank (const char *name)
{
    JsonObject *instance = obj ("type", "s", "block-node", "node-name", "s", name, NULL);
    return timed (guarded (oob_action ("yank", obj ("instances", "a", arr (instance, NULL), NULL)),
                           "node", name),
                  YANK_TIMEOUT_MS);
}

void action_free (Action *action)
{
    if (!action)
        return;
    g_free (action->verb);
    g_free (action->disk);
    g_free (action->otherwise);
    json_object_unref (action->args);
    g_clear_pointer (&action->guard, json_object_unref);
    g_free (action);
}

Step *plan_add (Plan *plan, const char *title, const char *disk, Action *action, ...)
{
    Step *step = g_new0 (Step, 1);
    step->title = g_strdup (title);
    step->disk = g_strdup (disk);
    step->action = action;
    step->undo = g_ptr_array_new_with_free_func ((GDestroyNotify) action_free);
    va_list args;
    va_start (args, action);
    for (Action *undo = va_arg (args, Action *); undo; undo = va_arg (args, Action *))
        g_ptr_array_add (step->undo, undo);
    va_end (args);
    g_ptr_array_add (plan->steps, step);
    return step;
}
