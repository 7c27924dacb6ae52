/* Plans as JSON, in the journal and for --dry-run. Reading is of untrusted input. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "job/build.h"
#include "job/record.h"
#include "util/json.h"
#include "util/server_id.h"

enum {
    BACKING_NAME_MAX = 1023, /* bytes in the header of a qcow2 image */
    NAME_PART_MAX = 100      /* bytes of a guest or disk in a file name that would be too long */
};

static void step_free (Step *step)
{
    g_free (step->title);
    g_free (step->disk);
    action_free (step->action);
    g_ptr_array_unref (step->undo);
    g_free (step);
}

/* The string members of a PlanDisk, for copying to and from JSON. */
static const struct {
    const char *key;
    gsize offset;
} disk_strings[] = {
#define S(key, member)                                                                             \
    {                                                                                              \
        key, G_STRUCT_OFFSET (PlanDisk, member)                                                    \
    }
    S ("target", target),
    S ("node", node),
    S ("job", job),
    S ("keeper", keeper),
    S ("export", export_id),
    S ("export-name", export_name),
    S ("bitmap", bitmap),
    S ("path", path),
    S ("scratch", scratch),
    S ("scratch-node", scratch_node),
    S ("filter", filter),
    S ("format", format),
    S ("type", type),
    S ("reason", reason),
    S ("protection", protection),
    S ("export-node", export_node),
    S ("since", since),
#undef S
};

static void disk_free (PlanDisk *disk)
{
    for (guint i = 0; i < G_N_ELEMENTS (disk_strings); i++)
        g_free (G_STRUCT_MEMBER (char *, disk, disk_strings[i].offset));
    g_free (disk);
}

static Plan *plan_empty (void)
{
    Plan *plan = g_new0 (Plan, 1);
    plan->steps = g_ptr_array_new_with_free_func ((GDestroyNotify) step_free);
    plan->finish = g_ptr_array_new_with_free_func ((GDestroyNotify) action_free);
    plan->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) disk_free);
    plan->notes = g_ptr_array_new_with_free_func (g_free);
    plan->checkpoint_disks = json_array_new ();
    return plan;
}

Plan *plan_new (const char *job, BackupMode mode)
{
    Plan *plan = plan_empty ();
    plan->job = g_strdup (job);
    plan->mode = mode;
    return plan;
}

void plan_free (Plan *plan)
{
    if (!plan)
        return;
    g_ptr_array_unref (plan->steps);
    g_ptr_array_unref (plan->finish);
    g_ptr_array_unref (plan->disks);
    g_ptr_array_unref (plan->notes);
    g_free (plan->job);
    g_free (plan->server);
    g_free (plan->server_socket);
    g_free (plan->server_host);
    g_free (plan->server_tls);
    g_free (plan->server_passed);
    g_free (plan->checkpoint);
    g_free (plan->checkpoint_description);
    g_free (plan->series);
    json_array_unref (plan->checkpoint_disks);
    g_free (plan);
}

char *plan_notes (const Plan *plan)
{
    g_autoptr (GPtrArray) lines = g_ptr_array_new ();
    for (guint i = 0; i < plan->notes->len; i++)
        g_ptr_array_add (lines, plan->notes->pdata[i]);
    g_ptr_array_add (lines, NULL);
    return g_strjoinv ("; ", (char **) lines->pdata);
}

char *plan_file_name (const char *domain, const char *disk, guint index, const char *job,
                      const char *suffix)
{
    g_autofree char *name = g_strdup_printf ("%s-%s-%s.%s", domain, disk, job, suffix);
    if (strlen (name) > NAME_MAX) {
        g_free (name);
        name = g_strdup_printf ("%.*s-%.*s-%u-%s.%s", NAME_PART_MAX, domain, NAME_PART_MAX, disk,
                                index, job, suffix);
    }
    return g_strdelimit (g_steal_pointer (&name), "/ :", '_');
}

/* NULL: they have no folder in common but the root, or one of them cannot be looked at. "from" and
 * "to" are without symbolic links, as ".." goes by what a folder is, not by how it is called. */
static char *way_between (const char *from, const char *to)
{
    char *real_from = realpath (from, NULL), *real_to = realpath (to, NULL);
    g_auto (GStrv) up = g_strsplit (real_from ? real_from : "", "/", -1),
                   down = g_strsplit (real_to ? real_to : "", "/", -1);
    guint same = 0;
    free (real_from);
    free (real_to);
    while (up[same] && g_strcmp0 (up[same], down[same]) == 0)
        same++;
    if (same < 2 || !*up[1])
        return NULL;
    g_autoptr (GString) way = g_string_new (NULL);
    for (guint i = same; up[i]; i++)
        g_string_append (way, "../");
    for (guint i = same; down[i]; i++)
        g_string_append_printf (way, "%s/", down[i]);
    return g_string_free (g_steal_pointer (&way), FALSE);
}

char *plan_backing_name (const char *target, const char *backing)
{
    g_autofree char *target_dir = target ? g_path_get_dirname (target) : NULL,
                    *backing_dir = g_path_get_dirname (backing),
                    *bare = g_path_get_basename (backing);
    g_autofree char *way = !target ? NULL
                           : g_str_equal (target_dir, backing_dir)
                               ? g_strdup ("")
                               : way_between (target_dir, backing_dir);
    g_autofree char *name = way ? g_strconcat (way, bare, NULL) : NULL;
    if (!name || strlen (name) >= BACKING_NAME_MAX)
        return g_strdup (backing);
    /* what stands before the first colon would be taken for a protocol */
    return strchr (name, ':') && *name != '.' ? g_strconcat ("./", name, NULL)
                                              : g_steal_pointer (&name);
}

static const PlanDisk *disk_of (const Plan *plan, const char *disk)
{
    for (guint i = 0; i < plan->disks->len; i++)
        if (g_str_equal (((PlanDisk *) plan->disks->pdata[i])->target, disk))
            return plan->disks->pdata[i];
    return NULL;
}

gboolean plan_seal_backups (const Plan *plan, Checkpoint *checkpoint, GError **error)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        CheckpointDisk *disk = checkpoint->disks->pdata[i];
        const PlanDisk *copied = disk_of (plan, disk->disk);
        gboolean part = copied && g_strcmp0 (copied->type, "incremental") == 0;
        if (!checkpoint_disk_seal_backup (disk, part ? CHAIN_OPEN : CHAIN_CLOSED, error))
            return FALSE;
    }
    return TRUE;
}

const char *plan_target_of (const Plan *plan, const char *disk)
{
    for (guint i = 0; i < plan->disks->len; i++)
        if (g_str_equal (((PlanDisk *) plan->disks->pdata[i])->target, disk))
            return ((PlanDisk *) plan->disks->pdata[i])->path;
    return NULL;
}

/* ---- out ---- */

static const char *verb_key (gboolean qmp, gboolean oob)
{
    return !qmp ? "action" : oob ? "exec-oob" : "execute";
}

/* A QMP command stands for itself in "qmp", just as it is sent; what is ours stands beside it. */
static JsonObject *action_to_json (const Action *action)
{
    JsonObject *command = obj (verb_key (action->qmp, action->oob), "s", action->verb, "arguments",
                               "o", json_object_ref (action->args), NULL);
    JsonObject *object = action->qmp ? obj ("qmp", "o", command, NULL) : command;
    if (action->guard)
        json_object_set_object_member (object, "if", json_object_ref (action->guard));
    if (action->timeout_ms)
        json_object_set_int_member (object, "timeout-ms", action->timeout_ms);
    if (action->disk)
        json_object_set_string_member (object, "disk", action->disk);
    if (action->keep)
        json_object_set_boolean_member (object, "only-after-failure", TRUE);
    if (action->proves)
        json_object_set_boolean_member (object, "proves", TRUE);
    if (action->otherwise)
        json_object_set_string_member (object, "otherwise", action->otherwise);
    return object;
}

static JsonArray *actions_to_json (GPtrArray *actions)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; i < actions->len; i++)
        json_array_add_object_element (array, action_to_json (actions->pdata[i]));
    return array;
}

static JsonObject *step_to_json (const Step *step)
{
    return obj ("title", "s", step->title, "disk", "s", step->disk, "do", "o",
                action_to_json (step->action), "undo", "a", actions_to_json (step->undo), NULL);
}

static JsonObject *disk_to_json (const PlanDisk *disk)
{
    JsonObject *object =
        obj ("size", "i", (gint64) disk->size, "limit", "i", (gint64) disk->limit, NULL);
    for (guint i = 0; i < G_N_ELEMENTS (disk_strings); i++) {
        const char *text = G_STRUCT_MEMBER (char *, disk, disk_strings[i].offset);
        if (text)
            json_object_set_string_member (object, disk_strings[i].key, text);
    }
    return object;
}

JsonNode *plan_to_json (const Plan *plan)
{
    JsonArray *steps = json_array_new (), *disks = json_array_new (), *notes = json_array_new ();
    for (guint i = 0; i < plan->steps->len; i++)
        json_array_add_object_element (steps, step_to_json (plan->steps->pdata[i]));
    for (guint i = 0; i < plan->disks->len; i++)
        json_array_add_object_element (disks, disk_to_json (plan->disks->pdata[i]));
    for (guint i = 0; i < plan->notes->len; i++)
        json_array_add_string_element (notes, plan->notes->pdata[i]);
    JsonObject *object =
        obj ("job", "s", plan->job, "mode", "s", plan->mode == BACKUP_MODE_PULL ? "pull" : "push",
             "server", "s", plan->server, "server-socket", "s", plan->server_socket, "server-host",
             "s", plan->server_host, "server-port", "i", (gint64) plan->server_port, "server-tls",
             "s", plan->server_tls, "server-psk", "b", plan->server_psk, "checkpoint", "s",
             plan->checkpoint, "series", "s", plan->series, "description", "s",
             plan->checkpoint_description, "checkpoint-disks", "a",
             json_array_ref (plan->checkpoint_disks), "partial", "b", plan->partial, "idle-timeout",
             "i", (gint64) plan->idle_timeout, "steps", "a", steps, "finish", "a",
             actions_to_json (plan->finish), "disks", "a", disks, "notes", "a", notes, NULL);
    if (plan->at_end)
        json_object_set_boolean_member (object, "at-end", TRUE);
    if (plan->server_passed) {
        json_object_set_string_member (object, "server-passed", plan->server_passed);
        json_object_set_int_member (object, "server-inode", plan->server_inode);
    }
    JsonNode *node = json_node_alloc ();
    json_node_init_object (node, object);
    json_object_unref (object);
    return node;
}

/* ---- in ---- */

static Action *action_from_json (JsonObject *object)
{
    JsonObject *qmp = json_get_object (object, "qmp"), *command = qmp ? qmp : object;
    gboolean oob = qmp && json_object_has_member (qmp, verb_key (TRUE, TRUE));
    const char *verb = json_get_string (command, verb_key (qmp != NULL, oob));
    JsonObject *args = json_get_object (command, "arguments");
    if (!verb || !args)
        return NULL;
    Action *action =
        qmp ? qmp_action (verb, json_object_ref (args)) : own_action (verb, json_object_ref (args));
    action->oob = oob;
    JsonObject *guard = json_get_object (object, "if");
    if (guard)
        action->guard = json_object_ref (guard);
    action->timeout_ms = CLAMP (json_get_int (object, "timeout-ms", 0), 0, 3600 * 1000);
    action->disk = g_strdup (json_get_string (object, "disk"));
    action->keep = json_get_bool (object, "only-after-failure", FALSE);
    action->proves = json_get_bool (object, "proves", FALSE);
    action->otherwise = g_strdup (json_get_string (object, "otherwise"));
    return action;
}

static gboolean actions_from_json (JsonArray *array, GPtrArray *actions)
{
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        Action *action = action_from_json (json_get_element (array, i));
        if (!action)
            return FALSE;
        g_ptr_array_add (actions, action);
    }
    return array != NULL;
}

static gboolean step_from_json (Plan *plan, JsonObject *object)
{
    const char *title = object ? json_get_string (object, "title") : NULL;
    Action *action = object ? action_from_json (json_get_object (object, "do")) : NULL;
    if (!title || !action) {
        action_free (action);
        return FALSE;
    }
    Step *step = plan_add (plan, title, json_get_string (object, "disk"), action, NULL);
    return actions_from_json (json_get_array (object, "undo"), step->undo);
}

static gboolean disk_from_json (Plan *plan, JsonObject *object)
{
    if (!object || !json_get_string (object, "target"))
        return FALSE;
    PlanDisk *disk = g_new0 (PlanDisk, 1);
    for (guint i = 0; i < G_N_ELEMENTS (disk_strings); i++)
        G_STRUCT_MEMBER (char *, disk, disk_strings[i].offset) =
            g_strdup (json_get_string (object, disk_strings[i].key));
    disk->size = json_get_int (object, "size", 0);
    disk->limit = json_get_int (object, "limit", 0);
    g_ptr_array_add (plan->disks, disk);
    return TRUE;
}

Plan *plan_from_json (JsonNode *node, GError **error)
{
    g_autoptr (Plan) plan = plan_empty ();
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    const char *mode = object ? json_get_string (object, "mode") : NULL;
    JsonArray *steps = object ? json_get_array (object, "steps") : NULL,
              *disks = object ? json_get_array (object, "disks") : NULL;
    JsonArray *notes = object ? json_get_array (object, "notes") : NULL;
    gboolean ok = steps && disks && mode && record_id_check (json_get_string (object, "job"))
                  && actions_from_json (json_get_array (object, "finish"), plan->finish);

    for (guint i = 0; ok && i < json_array_get_length (steps); i++)
        ok = step_from_json (plan, json_get_element (steps, i));
    for (guint i = 0; ok && i < json_array_get_length (disks); i++)
        ok = disk_from_json (plan, json_get_element (disks, i));
    if (!ok) {
        error_set (error, BAK_ERROR_IO, _("the plan in the journal is damaged"));
        return NULL;
    }
    for (guint i = 0; notes && i < json_array_get_length (notes); i++)
        if (JSON_NODE_HOLDS_VALUE (json_array_get_element (notes, i)))
            g_ptr_array_add (plan->notes,
                             g_strdup (json_node_get_string (json_array_get_element (notes, i))));
    plan->job = g_strdup (json_get_string (object, "job"));
    plan->mode = g_str_equal (mode, "pull") ? BACKUP_MODE_PULL : BACKUP_MODE_PUSH;
    plan->server = g_strdup (json_get_string (object, "server"));
    plan->server_socket = g_strdup (json_get_string (object, "server-socket"));
    plan->server_host = g_strdup (json_get_string (object, "server-host"));
    plan->server_port = json_get_int (object, "server-port", 0);
    plan->server_tls = g_strdup (json_get_string (object, "server-tls"));
    plan->server_psk = json_get_bool (object, "server-psk", FALSE);
    plan->server_passed = g_strdup (json_get_string (object, "server-passed"));
    plan->server_inode = json_get_int (object, "server-inode", 0);
    plan->checkpoint = g_strdup (json_get_string (object, "checkpoint"));
    plan->checkpoint_description = g_strdup (json_get_string (object, "description"));
    plan->series = g_strdup (json_get_string (object, "series"));
    if (json_get_array (object, "checkpoint-disks")) {
        json_array_unref (plan->checkpoint_disks);
        plan->checkpoint_disks = json_array_ref (json_get_array (object, "checkpoint-disks"));
    }
    plan->partial = json_get_bool (object, "partial", FALSE);
    plan->at_end = json_get_bool (object, "at-end", FALSE);
    plan->idle_timeout = json_get_int (object, "idle-timeout", 0);
    return g_steal_pointer (&plan);
}

void plan_mark_directories (BackupDef *def)
{
    for (guint i = 0; i < def->disks->len; i++) {
        StoreDef *scratch = ((BackupDiskDef *) def->disks->pdata[i])->scratch;
        if (!scratch || scratch->type != STORE_FILE || store_def_is_directory (scratch)
            || !g_file_test (scratch->path, G_FILE_TEST_IS_DIR))
            continue;
        g_autofree char *path = scratch->path;
        scratch->path = g_strconcat (path, "/", NULL);
    }
}

/* The form of 2016 has no word for a fallback. */
gboolean plan_refuse_increment (const BackupDef *def, const char *disk, const char *since,
                                const char *reason, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT,
                      def->dialect == DIALECT_2016
                          ? _("disk '%s': no exact increment since '%s' is possible: %s; make a "
                               "full backup of it (type='full')")
                          : _("disk '%s': no exact increment since '%s' is possible: %s; make a "
                               "full backup, or allow one for such disks (fallback='full' in the "
                               "document, --fallback full without one)"),
                      disk, since, reason);
}

static gboolean is_served (const StoreDef *store)
{
    return store && store->type == STORE_NETWORK && store->protocol == PROTOCOL_NBD;
}

void plan_mark_server (StoreDef *store)
{
    enum { NBD_PORT = 10809 };

    if (!is_served (store))
        return;
    g_free (store->server);
    g_free (store->process);
    store->server = store->process = NULL;
    guint port = store->port ? store->port : NBD_PORT;
    if (store->socket) {
        store->server = server_id_of_socket (store->socket);
        store->process = server_process_of_socket (store->socket);
    } else if (store->host) {
        store->server = server_id_of_host (store->host, port);
        if (store->server && server_id_is_here (store->server))
            store->process = server_process_of_port (port);
    }
}

gboolean plan_mark_servers (BackupDef *def)
{
    gboolean any = FALSE;
    for (guint i = 0; i < def->disks->len; i++) {
        StoreDef *target = ((BackupDiskDef *) def->disks->pdata[i])->target;
        any = any || is_served (target);
        plan_mark_server (target);
    }
    return any;
}

/* One process that listens on a socket and on a port shows the same exports on both; that of two
 * sockets, or of two ports, may be two servers. */
static gboolean same_server (const StoreDef *a, const StoreDef *b)
{
    return g_strcmp0 (a->server, b->server) == 0
           || (a->process && b->process && !a->socket != !b->socket
               && g_str_equal (a->process, b->process));
}

gboolean plan_same_place (const StoreDef *a, const StoreDef *b)
{
    if (a->server && b->server)
        return same_server (a, b) && g_str_equal (a->name ? a->name : "", b->name ? b->name : "");
    g_autofree char *x = store_def_describe (a);
    g_autofree char *y = store_def_describe (b);
    return g_str_equal (x, y);
}
