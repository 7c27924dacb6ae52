/* A block job as a plan: which images, who else needs them, the steps of its begin and of its end.
 */
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include "driver/claims.h"
#include "driver/qemu/blockjob.h"
#include "driver/qemu/definitions.h"
#include "driver/qemu/migration.h"
#include "driver/qemu/plan.h"
#include "driver/qemu/qemu-process.h"
#include "job/build.h"
#include "job/image.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { MAX_CHAIN = 200 };

/* ---- which images ---- */

static gboolean read_chain (BlockRequest *request, GError **error)
{
    const GraphNode *node = graph_node (request->graph, request->disk->node);

    for (; node && request->chain->len < MAX_CHAIN;
         node = node->backing ? graph_node (request->graph, node->backing) : NULL) {
        if (node->is_filter)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': the filter '%s' lies between its images"),
                              request->disk->target, node->name);
        g_ptr_array_add (request->chain, (gpointer) node);
    }
    if (g_strcmp0 (request->disk->top, request->disk->node) != 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': the filter '%s' lies between the guest and its image"),
                          request->disk->target, request->disk->top);
    return TRUE;
}

/* "vda[2]": the second image below the active one. */
static gboolean is_index (const BlockRequest *request, const char *name, guint depth)
{
    g_autofree char *index = g_strdup_printf ("%s[%u]", request->args->disk, depth),
                    *target = g_strdup_printf ("%s[%u]", request->disk->target, depth);
    return g_str_equal (name, index) || g_str_equal (name, target);
}

static gboolean is_called (const BlockRequest *request, guint depth, const char *name)
{
    const char *path = block_image_path (request, depth);
    return g_str_equal (block_image (request, depth)->name, name) || g_str_equal (path, name)
           || is_index (request, name, depth)
           || (g_path_is_absolute (name) && files_same (name, path));
}

static gboolean find_image (const BlockRequest *request, const char *name, guint *ret_depth,
                            GError **error)
{
    g_autoptr (GString) known = g_string_new (NULL);
    for (guint i = 0; i < request->chain->len; i++) {
        if (is_called (request, i, name)) {
            *ret_depth = i;
            return TRUE;
        }
        g_string_append_printf (known, "%s%s", i ? ", " : "", block_image_path (request, i));
    }
    g_autofree char *shown = text_sanitize (name, 256);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("could not find image '%s' in chain for '%s'; it has: %s"), shown,
                      request->disk->target, known->str);
}

static gboolean choose_pull (BlockRequest *request, GError **error)
{
    const bak_block_args *args = request->args;

    request->top = 1;
    request->base = request->chain->len;
    request->into = block_image (request, 0)->name;
    if (request->chain->len == 1)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s' has no backing image: there is nothing to pull"),
                          request->disk->target);
    if (!*args->base)
        return TRUE;
    if (!find_image (request, args->base, &request->base, error))
        return FALSE;
    return request->base > 1
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("active disk '%s' already points to base '%s'"), request->disk->target,
                         args->base);
}

static gboolean choose_commit (BlockRequest *request, GError **error)
{
    const bak_block_args *args = request->args;
    gboolean shallow = (args->flags & BLOCK_SHALLOW) != 0;

    if (*args->top && !find_image (request, args->top, &request->top, error))
        return FALSE;
    if (request->top + 1 >= request->chain->len)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("top '%s' in chain for '%s' has no backing file"),
                          block_image_path (request, request->top), request->disk->target);
    request->base = shallow ? request->top + 1 : request->chain->len - 1;
    if (*args->base && !find_image (request, args->base, &request->base, error))
        return FALSE;
    if (request->base <= request->top)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("base '%s' is not below top '%s' in chain for '%s'"),
                          block_image_path (request, request->base),
                          block_image_path (request, request->top), request->disk->target);
    if (shallow && *args->base && request->base != request->top + 1)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("base '%s' is not immediately below '%s' in chain for '%s'"),
                          args->base, block_image_path (request, request->top),
                          request->disk->target);
    request->into = block_image (request, request->base)->name;
    request->type = request->top == 0 ? BLOCK_ACTIVE_COMMIT : BLOCK_COMMIT;
    return request->top > 0 || (args->flags & BLOCK_ACTIVE)
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("commit of '%s' active layer requires active flag"),
                         request->disk->target);
}

/* ---- who else needs what is written to ---- */

/* Images that this QEMU has open otherwise. */
static gboolean is_used_here (const BlockRequest *request, const GraphNode *base, GError **error)
{
    const char *path = block_path_of (request, base);
    for (guint i = 0; i < request->graph->nodes->len; i++) {
        const GraphNode *node = request->graph->nodes->pdata[i];
        gboolean stands_on = g_strcmp0 (node->backing, base->name) == 0,
                 same_file = node != base && g_strcmp0 (node->name, base->file) != 0 && *path
                             && files_same (node->filename, path);
        if (g_ptr_array_find (request->chain, node, NULL) || !(stands_on || same_file))
            continue;
        return error_set (
            error, BAK_ERROR_BUSY,
            _("disk '%s': node '%s' ('%s') needs '%s' as it is: a commit would change "
               "it"),
            request->disk->target, node->name, node->filename, path);
    }
    return TRUE;
}

/* The file or what it stands on. */
static gboolean stands_on (const char *path, const char *file)
{
    if (files_same (path, file))
        return TRUE;
    g_autoptr (JsonNode) chain = image_ask (path, NULL, NULL);
    JsonArray *images = chain && JSON_NODE_HOLDS_ARRAY (chain) ? json_node_get_array (chain) : NULL;
    for (guint i = 0; images && i < json_array_get_length (images); i++) {
        JsonObject *info = json_get_element (images, i);
        const char *name = info ? json_get_string (info, "filename") : NULL;
        if (name && files_same (name, file))
            return TRUE;
    }
    return FALSE;
}

/* Copies that checkpoints have recorded, of any guest. */
static gboolean is_backup_of (const char *dir, const char *guest, const char *file, GError **error)
{
    g_autoptr (GPtrArray) all = checkpoint_load_all (dir, NULL);
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            const char *backup = ((const CheckpointDisk *) checkpoint->disks->pdata[k])->backup;
            if (!backup || !g_file_test (backup, G_FILE_TEST_EXISTS) || !stands_on (backup, file))
                continue;
            return error_set (
                error, BAK_ERROR_BUSY,
                _("'%s' is needed as it is: it is, or lies below, the backup '%s' of "
                   "checkpoint '%s' of guest '%s'"),
                file, backup, checkpoint->name, guest);
        }
    }
    return TRUE;
}

static gboolean is_needed_elsewhere (const BlockRequest *request, const char *file, GError **error)
{
    const Guest *guest = request->guest;
    int own = qemu_process_of (guest->def->qmp, qmp_get_peer_pid (guest->qmp));
    struct stat st;

    if (!g_path_is_absolute (file) || stat (file, &st) != 0)
        return TRUE; /* no file: what else may use it cannot be told */
    if (!claims_allow_but (guest->owner->state_dir, guest->def->name, own, file, &st, error))
        return FALSE;
    g_autoptr (GPtrArray) names = attach_names (guest->owner->state_dir);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *dir =
            g_build_filename (guest->owner->state_dir, "guests", names->pdata[i], NULL);
        if (!is_backup_of (dir, names->pdata[i], file, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_needed (const BlockRequest *request, GError **error)
{
    const gboolean writes = request->type != BLOCK_PULL && request->type != BLOCK_COPY;
    const GraphNode *base = writes ? block_image (request, request->base) : NULL;
    gboolean delete = (request->args->flags & BLOCK_DELETE) != 0;

    if (base
        && (!is_used_here (request, base, error)
            || !is_needed_elsewhere (request, block_path_of (request, base), error)))
        return error_note (error, _("disk '%s'"), request->disk->target);
    for (guint i = request->top; delete &&i < request->base; i++) {
        const char *file = block_image_path (request, i);
        if (!g_path_is_absolute (file))
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("'%s' is no file that could be deleted"), file);
        if (!is_used_here (request, block_image (request, i), error)
            || !is_needed_elsewhere (request, file, error))
            return error_note (error, _("disk '%s'"), request->disk->target);
    }
    return TRUE;
}

/* ---- the steps ---- */

/* A name that was relative stays so. NULL: QEMU's own choice. */
static char *new_backing (const BlockRequest *request)
{
    guint above = request->top - 1;
    g_autofree char *stored =
        block_stored_backing (request->guest, block_image (request, above)->name);
    if (!stored || g_path_is_absolute (stored) || strstr (stored, ":")
        || request->base >= request->chain->len
        || !g_path_is_absolute (block_image_path (request, request->base)))
        return NULL;
    return plan_backing_name (block_image_path (request, above),
                              block_image_path (request, request->base));
}

static Action *with_job (Action *action, const char *job)
{
    return guarded (action, "job", job);
}

static void add_carry (const BlockRequest *request, Plan *plan, gboolean first)
{
    if (json_array_get_length (request->carry) == 0)
        return;
    Action *action = own_action ("block-carry", obj ("node", "s", request->into, "bitmaps", "a",
                                                     json_array_ref (request->carry), NULL));
    if (!first) {
        g_ptr_array_add (plan->finish, action);
        return;
    }
    Step *step = plan_add (plan, _("carry the bitmaps of checkpoints into the image that stays"),
                           request->disk->target, action, NULL);
    for (guint i = 0; i < json_array_get_length (request->added); i++) {
        JsonObject *bitmap = json_get_element (request->added, i);
        const char *node = json_get_string (bitmap, "node"),
                   *name = json_get_string (bitmap, "name");
        Action *undo = qmp_action ("block-dirty-bitmap-remove",
                                   obj ("node", "s", node, "name", "s", name, NULL));
        undo->guard = obj ("bitmap", "s", name, "node", "s", node, NULL);
        g_ptr_array_add (step->undo, kept (undo));
    }
}

static JsonObject *job_arguments (const BlockRequest *request)
{
    const bak_block_args *args = request->args;
    gboolean pull = request->type == BLOCK_PULL, middle = request->type == BLOCK_COMMIT;
    g_autofree char *backing = pull || middle ? new_backing (request) : NULL;
    JsonObject *object = obj (
        "job-id", "s", request->job, "device", "s", request->disk->node, "top-node", "s",
        middle ? block_image (request, request->top)->name : NULL, "base-node", "s",
        request->base < request->chain->len ? block_image (request, request->base)->name : NULL,
        "backing-file", "s", backing, NULL);
    if (args->bytes_per_sec)
        json_object_set_int_member (object, "speed", args->bytes_per_sec);
    /* QEMU 7.2 dies when its nodes are asked for while a pull is concluded and not dismissed; how
     * it ended is seen by what the disk stands on then */
    if (!pull)
        json_object_set_boolean_member (object, "auto-dismiss", FALSE);
    if (middle && json_array_get_length (request->carry) > 0)
        json_object_set_boolean_member (object, "auto-finalize", FALSE);
    return object;
}

static void add_job (const BlockRequest *request, Plan *plan)
{
    const char *job = request->job;
    plan_add (plan,
              request->type == BLOCK_PULL ? _("start pulling the data up")
                                          : _("start committing the data down"),
              request->disk->target,
              qmp_action (request->type == BLOCK_PULL ? "block-stream" : "block-commit",
                          job_arguments (request)),
              with_job (qmp_action ("job-cancel", obj ("id", "s", job, NULL)), job),
              with_job (own_action ("job-wait-end", obj ("job", "s", job, NULL)), job),
              with_job (qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), job), NULL);
}

/* The nodes that nothing stands on afterwards, each before what it is made of. */
static JsonArray *nodes_that_go (const BlockRequest *request)
{
    JsonArray *nodes = json_array_new ();
    for (guint i = request->top; i < request->base; i++) {
        const GraphNode *node = block_image (request, i);
        const char *const names[] = { node->name, node->file, node->data };
        for (guint k = 0; k < G_N_ELEMENTS (names); k++)
            if (names[k] && *names[k] != '#')
                json_array_add_string_element (nodes, names[k]);
    }
    return nodes;
}

static JsonArray *files_that_go (const BlockRequest *request)
{
    JsonArray *files = json_array_new ();
    for (guint i = request->top; i < request->base; i++) {
        const char *path = block_image_path (request, i);
        struct stat st;
        if (stat (path, &st) == 0)
            json_array_add_object_element (files,
                                           obj ("path", "s", path, "inode", "i", (gint64) st.st_ino,
                                                "device", "i", (gint64) st.st_dev, NULL));
    }
    return files;
}

static void add_end (const BlockRequest *request, Plan *plan)
{
    JsonObject *job = obj ("job", "s", request->job, NULL);

    if (request->type != BLOCK_PULL) {
        add_carry (request, plan, FALSE);
        g_ptr_array_add (plan->finish, own_action ("block-pivot", json_object_ref (job)));
        g_ptr_array_add (plan->finish, own_action ("block-ended", json_object_ref (job)));
    }
    json_object_unref (job);
    if (json_array_get_length (request->records) > 0)
        g_ptr_array_add (plan->finish, own_action ("block-records",
                                                   obj ("checkpoints", "a",
                                                        json_array_ref (request->records), NULL)));
    if (request->type != BLOCK_PULL)
        g_ptr_array_add (plan->finish,
                         with_job (qmp_action ("job-dismiss", obj ("id", "s", request->job, NULL)),
                                   request->job));
    g_ptr_array_add (plan->finish,
                     own_action ("block-close", obj ("nodes", "a", nodes_that_go (request), NULL)));
    if (request->args->flags & BLOCK_DELETE)
        g_ptr_array_add (
            plan->finish,
            own_action ("block-delete",
                        obj ("files", "a", files_that_go (request), "into", "s",
                             block_image_path (request, request->base), "node", "s", request->into,
                             "active", "b", request->type == BLOCK_ACTIVE_COMMIT, NULL)));
}

/* ---- the whole ---- */

static gboolean check_request (const BlockRequest *request, GError **error)
{
    const bak_block_args *args = request->args;
    const guint known = request->type == BLOCK_COPY
                            ? BLOCK_SHALLOW | BLOCK_REUSE_EXTERNAL | BLOCK_COPY_DEV
                                  | BLOCK_SYNC_WRITES | BLOCK_DROP_CHECKPOINTS
                            : BLOCK_SHALLOW | BLOCK_DELETE | BLOCK_ACTIVE | BLOCK_DROP_CHECKPOINTS;
    const char *rule = graph_disk_excluded (request->disk);

    if (args->flags & ~known)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                          args->flags & ~known);
    if (rule)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot have a block job: it %s"),
                          request->disk->target, rule);
    if (!request->guest->caps->jobs || !caps_has_command (request->guest->caps, "block-commit"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("block jobs need job-complete (QEMU 3.0); this is %s"),
                          request->guest->caps->version_text);
    return migration_check (request->guest, error);
}

static gboolean check_lost (const BlockRequest *request, GError **error)
{
    if (request->lost->len == 0 || request->args->flags & BLOCK_DROP_CHECKPOINTS)
        return TRUE;
    return error_set (
        error, BAK_ERROR_INEXACT,
        _("disk '%s': no exact increment since checkpoint '%s' would be possible any more (%s); "
           "with --drop-checkpoints it is deleted first"),
        request->disk->target, (const char *) request->lost->pdata[0],
        (const char *) request->why->pdata[0]);
}

static void note_lost (const BlockRequest *request, Plan *plan)
{
    for (guint i = 0; i < request->lost->len; i++)
        g_ptr_array_add (plan->notes, g_strdup_printf (_("checkpoint '%s' is deleted: %s"),
                                                       (const char *) request->lost->pdata[i],
                                                       (const char *) request->why->pdata[i]));
}

static JsonObject *make_meta (const BlockRequest *request)
{
    int pid = qmp_get_peer_pid (request->guest->qmp);
    return obj (
        "kind", "s", "block", "disk", "s", request->disk->target, "type", "i",
        (gint64) request->type, "into", "s", request->into, "above", "s",
        request->top > 0 ? block_image (request, request->top - 1)->name : NULL, "base", "s",
        request->base < request->chain->len ? block_image (request, request->base)->name : NULL,
        "added", "a", json_array_ref (request->added), "below", "a",
        json_array_ref (request->below), "pid", "i", (gint64) pid, "start", "i",
        (gint64) process_start_time (pid), "dest", "s", request->copy ? request->args->dest : NULL,
        "proof", "a", request->proof ? json_array_ref (request->proof) : NULL, NULL);
}

static gboolean choose (BlockRequest *request, GError **error)
{
    return request->type == BLOCK_PULL   ? choose_pull (request, error)
           : request->type == BLOCK_COPY ? block_choose_copy (request, error)
                                         : choose_commit (request, error);
}

gboolean block_plan (BlockRequest *request, Plan **ret_plan, JsonObject **ret_meta, GError **error)
{
    if (!check_request (request, error) || !read_chain (request, error) || !choose (request, error)
        || !check_needed (request, error))
        return FALSE;
    block_sort_checkpoints (request);
    if (!check_lost (request, error))
        return FALSE;
    Plan *plan = plan_new (request->id, BACKUP_MODE_PUSH);
    note_lost (request, plan);
    if (request->type == BLOCK_PULL)
        add_carry (request, plan, TRUE);
    if (request->type == BLOCK_COPY)
        block_add_copy (request, plan);
    else
        add_job (request, plan);
    add_end (request, plan);
    *ret_plan = plan;
    *ret_meta = make_meta (request);
    return TRUE;
}
