/* The calls on checkpoints: create, redefine, describe, list, delete. */
#include <stdlib.h>
#include <glib/gi18n-lib.h>
#include "job/build.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/local.h"
#include "driver/qemu/migration.h"
#include "driver/qemu/verbs.h"
#include "util/json.h"

enum { DEFAULT_GRANULARITY = 65536 };

/* ---- one checkpoint as an item ---- */

static char *memory_note (const Checkpoint *checkpoint)
{
    GString *text = g_string_new (NULL);
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *disk = checkpoint->disks->pdata[i];
        if (!disk->persistent)
            g_string_append_printf (text, "%s%s", text->len ? ", " : _("in memory only: "),
                                    disk->disk);
    }
    return g_string_free (text, FALSE);
}

static gboolean no_checkpoint (Guest *guest, const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 256);
    return error_set (error, BAK_ERROR_NO_CHECKPOINT, _("guest '%s' has no checkpoint '%s'"),
                      guest->def->name, shown);
}

/* The recorded ones and, last, the provisional one of a running backup: clients read its
 * description while they copy. */
static GPtrArray *load_all (Guest *guest)
{
    GPtrArray *all = checkpoint_load_all (guest->dir, NULL);
    Checkpoint *provisional = checkpoint_provisional (guest);
    if (provisional && checkpoint_find (all, provisional->name))
        checkpoint_free (provisional); /* promoted between the two */
    else if (provisional)
        g_ptr_array_add (all, provisional);
    return all;
}

/* NULL with NO_CHECKPOINT, or with what is wrong with its record. */
static Checkpoint *load_one (Guest *guest, const char *name, GError **error)
{
    g_autoptr (Checkpoint) provisional = NULL;
    if (checkpoint_exists (guest->dir, name))
        return checkpoint_load (guest->dir, name, error);
    provisional = checkpoint_provisional (guest);
    if (provisional && g_str_equal (provisional->name, name))
        return g_steal_pointer (&provisional);
    if (checkpoint_exists (guest->dir, name))
        return checkpoint_load (guest->dir, name, error);
    no_checkpoint (guest, name, error);
    return NULL;
}

static void fill_item (const Checkpoint *checkpoint, guint children, bak_checkpoint_item *item)
{
    g_autofree char *note = memory_note (checkpoint);
    item->name = ret_string (checkpoint->name);
    item->parent = ret_string (checkpoint->parent);
    item->created = checkpoint->created;
    item->children = children;
    item->note = ret_string (checkpoint->provisional ? _("provisional") : note);
}

/* name -> how many have it as parent */
static GHashTable *count_children (GPtrArray *all)
{
    GHashTable *counts = g_hash_table_new (g_str_hash, g_str_equal);
    for (guint i = 0; i < all->len; i++) {
        const char *parent = ((Checkpoint *) all->pdata[i])->parent;
        if (parent)
            g_hash_table_insert (
                counts, (gpointer) parent,
                GUINT_TO_POINTER (GPOINTER_TO_UINT (g_hash_table_lookup (counts, parent)) + 1));
    }
    return counts;
}

static guint children_of (GHashTable *counts, const Checkpoint *checkpoint)
{
    return GPOINTER_TO_UINT (g_hash_table_lookup (counts, checkpoint->name));
}

/* ---- list, children, lookup: records only ---- */

static gboolean wanted_leaf (guint flags, guint children)
{
    guint both = CHECKPOINT_LIST_LEAVES | CHECKPOINT_LIST_NO_LEAVES;
    if ((flags & both) == 0 || (flags & both) == both)
        return TRUE;
    return (flags & CHECKPOINT_LIST_LEAVES) ? children == 0 : children > 0;
}

static gboolean fill_list (GPtrArray *all, GPtrArray *chosen, guint flags, bak_checkpoints_ret *ret,
                           GError **error)
{
    g_autoptr (GHashTable) counts = count_children (all);
    guint n = 0;
    if (chosen->len > BAK_CHECKPOINTS_MAX)
        return error_set (error, BAK_ERROR_INTERNAL, _("more than %d checkpoints"),
                          BAK_CHECKPOINTS_MAX);
    ret->checkpoints.checkpoints_val = ret_array (chosen->len, sizeof (bak_checkpoint_item));
    for (guint i = 0; i < chosen->len; i++) {
        guint children = children_of (counts, chosen->pdata[i]);
        if (wanted_leaf (flags, children))
            fill_item (chosen->pdata[i], children, &ret->checkpoints.checkpoints_val[n++]);
    }
    ret->checkpoints.checkpoints_len = n;
    return TRUE;
}

static gboolean check_flags (guint flags, guint known, GError **error)
{
    return !(flags & ~known)
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                         flags & ~known);
}

enum {
    LIST_FLAGS = CHECKPOINT_LIST_ROOTS | CHECKPOINT_LIST_TOPOLOGICAL | CHECKPOINT_LIST_LEAVES
                 | CHECKPOINT_LIST_NO_LEAVES
};

gboolean local_checkpoint_list (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_domain_arg *args = data;
    g_autoptr (GPtrArray) all = load_all (guest);
    g_autoptr (GPtrArray) chosen = g_ptr_array_new ();
    g_autoptr (GHashTable) known = g_hash_table_new (g_str_hash, g_str_equal);

    if (!check_flags (args->flags, LIST_FLAGS, error))
        return FALSE;
    for (guint i = 0; i < all->len; i++)
        g_hash_table_add (known, ((Checkpoint *) all->pdata[i])->name);
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        gboolean root = !checkpoint->parent || !g_hash_table_contains (known, checkpoint->parent);
        if (root || !(args->flags & CHECKPOINT_LIST_ROOTS))
            g_ptr_array_add (chosen, all->pdata[i]);
    }
    return fill_list (all, chosen, args->flags, ret, error);
}

/* Parents come first in all, so one pass finds every descendant. */
static GPtrArray *below (GPtrArray *all, const char *name, gboolean descendants)
{
    g_autoptr (GHashTable) family = g_hash_table_new (g_str_hash, g_str_equal);
    GPtrArray *found = g_ptr_array_new ();

    g_hash_table_add (family, (gpointer) name);
    for (guint i = 0; i < all->len; i++) {
        Checkpoint *checkpoint = all->pdata[i];
        if (!checkpoint->parent || g_str_equal (checkpoint->name, name)
            || !g_hash_table_contains (family, checkpoint->parent))
            continue;
        g_ptr_array_add (found, checkpoint);
        if (descendants)
            g_hash_table_add (family, checkpoint->name);
    }
    return found;
}

gboolean local_checkpoint_children (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (GPtrArray) all = load_all (guest);

    if (!check_flags (args->flags, LIST_FLAGS, error))
        return FALSE;
    if (!checkpoint_find (all, args->name))
        return no_checkpoint (guest, args->name, error);
    g_autoptr (GPtrArray) chosen =
        below (all, args->name, (args->flags & CHECKPOINT_LIST_DESCENDANTS) != 0);
    return fill_list (all, chosen, args->flags, ret, error);
}

static gboolean fill_one (Guest *guest, const char *name, bak_checkpoint_ret *ret, GError **error)
{
    g_autoptr (GPtrArray) all = load_all (guest);
    g_autoptr (GHashTable) counts = count_children (all);
    const Checkpoint *checkpoint = checkpoint_find (all, name);
    if (!checkpoint)
        return no_checkpoint (guest, name, error);
    fill_item (checkpoint, children_of (counts, checkpoint), &ret->checkpoint);
    return TRUE;
}

gboolean local_checkpoint_lookup (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (Checkpoint) readable = load_one (guest, args->name, error);
    if (!readable)
        return FALSE;
    return fill_one (guest, args->name, ret, error);
}

/* ---- xml ---- */

static const GraphDisk *disk_by_record (const Graph *graph, const CheckpointDisk *recorded)
{
    return graph_disk (graph, recorded->disk, NULL);
}

/* Bytes that are dirty on the disk since the checkpoint. A chain of layers is merged into a
 * temporary bitmap: an area that is dirty in two of them counts once. */
static gboolean merged_size (Guest *guest, const GraphDisk *disk, JsonArray *bitmaps,
                             guint64 granularity, guint64 *ret_size, GError **error)
{
    g_autofree char *id = record_new_id ();
    g_autofree char *name = g_strdup_printf ("bak-%s-size", id);
    JsonObject *add = obj ("node", "s", disk->node, "name", "s", name, "disabled", "b", TRUE, NULL);
    if (granularity)
        json_object_set_int_member (add, "granularity", granularity);
    JsonObject *merge = obj ("node", "s", disk->node, "target", "s", name, "bitmaps", "a",
                             json_array_ref (bitmaps), NULL);
    JsonArray *actions =
        arr (obj ("type", "s", "block-dirty-bitmap-add", "data", "o", add, NULL),
             obj ("type", "s", "block-dirty-bitmap-merge", "data", "o", merge, NULL), NULL);
    if (!qmp_run (guest->qmp, "transaction", obj ("actions", "a", actions, NULL), 0, error))
        return FALSE;
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    const GraphNode *node = graph ? graph_node (graph, disk->node) : NULL;
    const GraphBitmap *bitmap = node ? graph_bitmap (node, name) : NULL;
    if (bitmap)
        *ret_size = bitmap->count;
    gboolean removed =
        qmp_run (guest->qmp, "block-dirty-bitmap-remove",
                 obj ("node", "s", disk->node, "name", "s", name, NULL), 0, graph ? error : NULL);
    if (graph && removed && !bitmap)
        return error_set (error, BAK_ERROR_MONITOR,
                          _("QEMU does not show the bitmap '%s' that it has just made"), name);
    return graph && removed;
}

static gboolean dirty_size (Guest *guest, const Graph *graph, const Checkpoint *checkpoint,
                            const CheckpointDisk *recorded, guint64 *ret_size, GError **error)
{
    const GraphDisk *disk = disk_by_record (graph, recorded);
    g_autofree char *reason = NULL;
    g_autoptr (JsonArray) bitmaps =
        disk ? plan_changes_since (graph, disk, checkpoint, &reason) : NULL;

    if (!disk)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is not there any more"),
                          recorded->disk);
    if (!bitmaps)
        return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': %s"), disk->target, reason);
    JsonObject *first = json_array_get_object_element (bitmaps, 0);
    const GraphBitmap *bitmap = graph_bitmap (
        graph_node (graph, json_object_get_string_member (first, "node")), recorded->bitmap);
    *ret_size = bitmap->count;
    if (json_array_get_length (bitmaps) > 1
        && !merged_size (guest, disk, bitmaps, bitmap->granularity, ret_size, error))
        return FALSE;
    *ret_size = MIN (*ret_size, disk->size);
    return TRUE;
}

static CheckpointDiskDef *disk_to_def (const CheckpointDisk *disk)
{
    CheckpointDiskDef *def = checkpoint_disk_def_new (disk->disk);
    def->checkpoint = TRISTATE_YES;
    def->bitmap = g_strdup (disk->bitmap);
    def->persistent = disk->persistent ? TRISTATE_ABSENT : TRISTATE_NO;
    def->granularity = disk->granularity == DEFAULT_GRANULARITY ? 0 : disk->granularity;
    return def;
}

static CheckpointDef *to_def (Guest *guest, const Checkpoint *checkpoint)
{
    CheckpointDef *def = checkpoint_def_new ();
    def->name = g_strdup (checkpoint->name);
    def->description = g_strdup (checkpoint->description);
    def->parent = g_strdup (checkpoint->parent);
    def->creation_time = checkpoint->created;
    def->has_disks = TRUE;
    def->domain_name = g_strdup (guest->def->name);
    def->domain_uuid = g_strdup (guest->def->uuid);
    for (guint i = 0; i < checkpoint->disks->len; i++)
        g_ptr_array_add (def->disks, disk_to_def (checkpoint->disks->pdata[i]));
    return def;
}

static gboolean fill_sizes (Guest *guest, const Checkpoint *checkpoint, CheckpointDef *def,
                            GError **error)
{
    if (!guest_acquire (guest, error))
        return FALSE;
    /* of somebody who died in the middle of this */
    if (!guest->job && !run_sweep (guest, "bak-", error))
        return FALSE;
    g_autoptr (Graph) graph = checkpoint_look (guest, error);
    for (guint i = 0; graph && i < def->disks->len; i++) {
        CheckpointDiskDef *disk = def->disks->pdata[i];
        if (!dirty_size (guest, graph, checkpoint, checkpoint->disks->pdata[i], &disk->size, error))
            return error_note (error, _("checkpoint '%s'"), checkpoint->name);
        disk->has_size = TRUE;
    }
    return graph != NULL;
}

gboolean local_checkpoint_xml (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    gboolean size = (args->flags & CHECKPOINT_XML_SIZE) != 0;
    g_autoptr (Checkpoint) checkpoint = NULL;

    if (!check_flags (args->flags,
                      CHECKPOINT_XML_SECURE | CHECKPOINT_XML_NO_DOMAIN | CHECKPOINT_XML_SIZE,
                      error))
        return FALSE;
    if (!(checkpoint = load_one (guest, args->name, error)))
        return FALSE;
    g_autoptr (CheckpointDef) def = to_def (guest, checkpoint);
    if (size && !fill_sizes (guest, checkpoint, def, error))
        return FALSE;
    g_autofree char *xml = checkpoint_def_format (
        def, NULL,
        (size ? CHECKPOINT_FORMAT_SIZE : 0)
            | (args->flags & CHECKPOINT_XML_NO_DOMAIN ? CHECKPOINT_FORMAT_NO_DOMAIN : 0));
    ((bak_text_ret *) ret)->text = ret_string (xml);
    return TRUE;
}

/* ---- create ---- */

static void default_name (Guest *guest, CheckpointDef *def)
{
    gint64 now = g_get_real_time () / G_USEC_PER_SEC;
    if (def->name)
        return;
    def->name = g_strdup_printf ("%" G_GINT64_FORMAT, now);
    for (guint n = 2; checkpoint_exists (guest->dir, def->name); n++) {
        g_free (def->name);
        def->name = g_strdup_printf ("%" G_GINT64_FORMAT "-%u", now, n);
    }
}

/* The journal is written before anything is touched, and the record before the journal goes:
 * whoever dies in between leaves either a checkpoint or nothing. */
static gboolean perform (Guest *guest, Plan *plan, Run *run, GError **error)
{
    gint64 now = g_get_real_time () / G_USEC_PER_SEC;
    g_autoptr (GError) undo_failure = NULL;

    run->journal =
        journal_create (guest->dir, plan, obj ("kind", "s", "checkpoint-create", NULL), error);
    if (!run->journal)
        return FALSE;
    gboolean ok = run_steps (run, error);
    if (ok && !checkpoint_record (guest, plan, now, NULL, error)) {
        ok = FALSE;
        run_undo (run, FALSE, &undo_failure);
    } else if (ok) {
        run_undo (run, TRUE, &undo_failure); /* what the bitmaps were made with */
    }
    if (!ok && !undo_failure && guest_monitor_alive (guest, NULL))
        checkpoint_drop (guest, plan, &undo_failure);
    journal_close (run->journal);
    run->journal = NULL;
    if (undo_failure || (!ok && !guest_monitor_alive (guest, NULL)) || run->frozen)
        g_warning ("checkpoint '%s': %s", plan->checkpoint,
                   undo_failure ? undo_failure->message
                                : "not all could be undone; the next owner does it");
    else
        journal_remove (guest->dir);
    return ok;
}

static gboolean create (Guest *guest, CheckpointDef *def, guint flags, bak_checkpoint_ret *ret,
                        GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    g_autofree char *id = record_new_id (), *seal = seal_new_token ();

    if (!graph || !checkpoint_see_sizes (guest, graph, all, error))
        return FALSE;
    default_name (guest, def);
    PlanInput input = { .job = id,
                        .domain = guest->def->name,
                        .checkpoint = def,
                        .graph = graph,
                        .caps = guest->caps,
                        .checkpoints = all,
                        .flags = flags & CHECKPOINT_QUIESCE ? BEGIN_QUIESCE : 0,
                        .job_dir = guest->dir,
                        .scratch_dir = guest->dir,
                        .offline = guest_is_offline (guest),
                        .agent =
                            !guest_is_offline (guest) && guest->def->agent && *guest->def->agent,
                        .seal = guest->owner->unsealed ? NULL : seal };
    g_autoptr (Plan) plan = plan_checkpoint (&input, error);
    if (!plan)
        return FALSE;
    Run run = { .ops = &qemu_run_ops,
                .data = guest,
                .plan = plan,
                .states = g_array_new (FALSE, TRUE, sizeof (StepState)),
                .froze = -1,
                .thawed = -1,
                .files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free) };
    g_array_set_size (run.states, plan->steps->len);
    gboolean ok = perform (guest, plan, &run, error) && fill_one (guest, def->name, ret, error);
    if (ok) {
        g_autofree char *notes = run_notes (&run);
        free (ret->checkpoint.note);
        ret->checkpoint.note = ret_string (notes);
    }
    g_array_unref (run.states);
    g_hash_table_unref (run.files);
    g_free (run.thaw_problem);
    return ok;
}

/* ---- redefine ---- */

static const CheckpointDisk *recorded_disk (const Checkpoint *checkpoint, const char *name)
{
    for (guint i = 0; checkpoint && i < checkpoint->disks->len; i++)
        if (g_str_equal (((CheckpointDisk *) checkpoint->disks->pdata[i])->disk, name))
            return checkpoint->disks->pdata[i];
    return NULL;
}

/* NULL: there is none. */
static const char *seal_beside (const GraphNode *node, const char *bitmap)
{
    for (guint i = 0; i < node->bitmaps->len; i++) {
        const char *name = ((GraphBitmap *) node->bitmaps->pdata[i])->name;
        if (seal_is_beside (name, bitmap) && !seal_is_end (name))
            return name;
    }
    return NULL;
}

/* The lowest image in a row that bears the bitmap is the one that the checkpoint was made on. */
static void fill_from_graph (const Graph *graph, const GraphDisk *disk, CheckpointDisk *out)
{
    const GraphNode *node = graph_node (graph, disk->node);
    out->size = disk->size;
    for (; node && graph_bitmap (node, out->bitmap);
         node = node->backing ? graph_node (graph, node->backing) : NULL) {
        const GraphBitmap *bitmap = graph_bitmap (node, out->bitmap);
        g_free (out->node);
        g_free (out->file);
        out->node = g_strdup (node->name);
        out->file = g_strdup (node->filename);
        out->granularity = bitmap->granularity;
        out->persistent = bitmap->persistent;
        g_free (out->seal);
        out->seal = g_strdup (seal_beside (node, out->bitmap));
        g_autofree char *end = out->seal ? seal_end_name (out->seal) : NULL;
        out->guarded = end && graph_bitmap (node, end);
    }
}

static gboolean redefine_disk (const Graph *graph, const Checkpoint *before, Checkpoint *checkpoint,
                               const char *name, const CheckpointDiskDef *def, GError **error)
{
    const GraphDisk *disk = graph ? graph_disk (graph, name, error) : NULL;
    if (graph && !disk)
        return FALSE;
    const CheckpointDisk *known = recorded_disk (before, disk ? disk->target : name);
    CheckpointDisk *out =
        known ? checkpoint_disk_copy (known) : checkpoint_disk_new (disk ? disk->target : name);
    if (!known) {
        out->bitmap = g_strdup (checkpoint->name);
        out->persistent = !def || def->persistent != TRISTATE_NO;
        if (disk)
            fill_from_graph (graph, disk, out);
    }
    g_ptr_array_add (checkpoint->disks, out);
    return TRUE;
}

static gboolean redefine_disks (const Graph *graph, const CheckpointDef *def,
                                const Checkpoint *before, Checkpoint *checkpoint, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const CheckpointDiskDef *disk = def->disks->pdata[i];
        if (disk->checkpoint != TRISTATE_NO
            && !redefine_disk (graph, before, checkpoint, disk->name, disk, error))
            return FALSE;
    }
    for (guint i = 0; !def->has_disks && graph && i < graph->disks->len; i++) {
        const GraphDisk *disk = graph->disks->pdata[i];
        const GraphNode *node = disk->node ? graph_node (graph, disk->node) : NULL;
        if (node && graph_bitmap (node, def->name)
            && !redefine_disk (graph, before, checkpoint, disk->target, NULL, error))
            return FALSE;
    }
    if (checkpoint->disks->len == 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("checkpoint '%s': name its disks (<disk name='…'/>): none has a "
                             "bitmap of that name"),
                          def->name);
    return TRUE;
}

static gboolean check_redefinition (Guest *guest, GPtrArray *all, const CheckpointDef *def,
                                    GError **error)
{
    if (!checkpoint_name_check (def->name, error))
        return FALSE;
    if (def->domain_uuid && g_ascii_strcasecmp (def->domain_uuid, guest->def->uuid) != 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("checkpoint '%s' is of guest %s, not of '%s' (%s)"), def->name,
                          def->domain_uuid, guest->def->name, guest->def->uuid);
    if (def->parent && !checkpoint_find (all, def->parent))
        return error_set (error, BAK_ERROR_NO_CHECKPOINT,
                          _("parent '%s' of checkpoint '%s' not found; redefine parents first"),
                          def->parent, def->name);
    g_autoptr (GPtrArray) descendants = below (all, def->name, TRUE);
    for (guint i = 0; def->parent && i < descendants->len; i++)
        if (g_str_equal (((Checkpoint *) descendants->pdata[i])->name, def->parent))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("checkpoint '%s' cannot come after '%s', which comes after it"),
                              def->name, def->parent);
    return TRUE;
}

static gboolean validate (const Graph *graph, const Checkpoint *checkpoint, GError **error)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *recorded = checkpoint->disks->pdata[i];
        const GraphDisk *disk = graph_disk (graph, recorded->disk, error);
        g_autofree char *reason = NULL;
        g_autoptr (JsonArray) bitmaps =
            disk ? plan_changes_since (graph, disk, checkpoint, &reason) : NULL;
        if (!disk)
            return FALSE;
        if (!bitmaps)
            return error_set (error, BAK_ERROR_INEXACT, _("checkpoint '%s', disk '%s': %s"),
                              checkpoint->name, disk->target, reason);
    }
    return TRUE;
}

static gboolean redefine (Guest *guest, const CheckpointDef *def, gboolean alive, guint flags,
                          bak_checkpoint_ret *ret, GError **error)
{
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    g_autoptr (Graph) graph = alive ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    const Checkpoint *before = checkpoint_find (all, def->name);
    g_autoptr (Checkpoint) checkpoint = checkpoint_new (def->name),
                           forgotten = checkpoint_load_forgotten (guest->dir, def->name);

    if ((alive && !graph) || !check_redefinition (guest, all, def, error))
        return FALSE;
    checkpoint->parent = g_strdup (def->parent);
    checkpoint->description = g_strdup (def->description);
    checkpoint->created = def->creation_time;
    checkpoint->sequence = before ? before->sequence : checkpoint_next_sequence (all);
    checkpoint->job = before ? g_strdup (before->job) : NULL;
    checkpoint->series = before ? g_strdup (before->series) : NULL;
    checkpoint->domain_uuid = g_strdup (guest->def->uuid);
    if (!redefine_disks (graph, def, before ? before : forgotten, checkpoint, error))
        return FALSE;
    if ((flags & CHECKPOINT_REDEFINE_VALIDATE) && !validate (graph, checkpoint, error))
        return FALSE;
    return checkpoint_save (guest->dir, checkpoint, error)
           && fill_one (guest, def->name, ret, error);
}

gboolean local_checkpoint_create (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_create_args *args = data;
    gboolean again = (args->flags & CHECKPOINT_REDEFINE) != 0, alive = FALSE;

    if (!check_flags (args->flags,
                      CHECKPOINT_REDEFINE | CHECKPOINT_QUIESCE | CHECKPOINT_REDEFINE_VALIDATE,
                      error))
        return FALSE;
    if (again && (args->flags & CHECKPOINT_QUIESCE))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("flags %s are mutually exclusive"),
                          "REDEFINE, QUIESCE");
    if (!again && (args->flags & CHECKPOINT_REDEFINE_VALIDATE))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("flag %s is required by flag %s"),
                          "REDEFINE", "REDEFINE_VALIDATE");
    g_autoptr (CheckpointDef) def =
        checkpoint_def_parse (args->xml, again ? CHECKPOINT_PARSE_REDEFINE : 0, error);
    if (!def || !checkpoint_not_busy (guest, _("create a checkpoint"), error))
        return FALSE;
    if (again && !(args->flags & CHECKPOINT_REDEFINE_VALIDATE))
        return checkpoint_acquire (guest, &alive, error)
               && checkpoint_not_busy (guest, _("create a checkpoint"), error)
               && redefine (guest, def, alive, args->flags, ret, error);
    if (!guest_acquire (guest, error)
        || !checkpoint_not_busy (guest, _("create a checkpoint"), error))
        return FALSE; /* recover may have adopted a job */
    return again ? redefine (guest, def, TRUE, args->flags, ret, error)
                 : create (guest, def, args->flags, ret, error);
}

/* ---- delete ---- */

/* What the flags mean, youngest last. */
static GPtrArray *names_to_delete (GPtrArray *all, const char *name, guint flags)
{
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
    gboolean family = (flags & (CHECKPOINT_DELETE_CHILDREN | CHECKPOINT_DELETE_CHILDREN_ONLY)) != 0;
    g_autoptr (GPtrArray) descendants = family ? below (all, name, TRUE) : NULL;
    if (!(flags & CHECKPOINT_DELETE_CHILDREN_ONLY))
        g_ptr_array_add (names, g_strdup (name));
    for (guint i = 0; descendants && i < descendants->len; i++)
        g_ptr_array_add (names, g_strdup (((Checkpoint *) descendants->pdata[i])->name));
    return names;
}

/* The bitmaps stay: nothing but records changes. What a disk's size was, no bitmap can tell: that
 * is kept. */
static gboolean forget (Guest *guest, GPtrArray *all, GPtrArray *names, GError **error)
{
    for (guint n = names->len; n-- > 0;) {
        const Checkpoint *checkpoint = checkpoint_find (all, names->pdata[n]);
        for (guint i = 0; i < all->len; i++) {
            Checkpoint *child = all->pdata[i];
            if (g_strcmp0 (child->parent, checkpoint->name) != 0
                || !checkpoint_exists (guest->dir, child->name))
                continue;
            g_free (child->parent);
            child->parent = g_strdup (checkpoint->parent);
            if (!checkpoint_save (guest->dir, child, error))
                return FALSE;
        }
        if (!checkpoint_forget (guest->dir, checkpoint->name, error))
            return FALSE;
    }
    return TRUE;
}

gboolean local_checkpoint_delete (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    gboolean metadata_only = (args->flags & CHECKPOINT_DELETE_METADATA_ONLY) != 0, alive = FALSE;

    if (!check_flags (args->flags,
                      CHECKPOINT_DELETE_CHILDREN | CHECKPOINT_DELETE_METADATA_ONLY
                          | CHECKPOINT_DELETE_CHILDREN_ONLY,
                      error))
        return FALSE;
    if ((args->flags & CHECKPOINT_DELETE_CHILDREN)
        && (args->flags & CHECKPOINT_DELETE_CHILDREN_ONLY))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("flags %s are mutually exclusive"),
                          "CHILDREN, CHILDREN_ONLY");
    if (!checkpoint_not_busy (guest, _("delete a checkpoint"), error))
        return FALSE;
    if (!(metadata_only ? guest_lock (guest, error) : checkpoint_acquire (guest, &alive, error))
        || !checkpoint_not_busy (guest, _("delete a checkpoint"), error))
        return FALSE;
    /* the bitmap that QEMU has let go of lies in an image that is another's now */
    if (alive && !migration_check (guest, error))
        return error_note (error, _("checkpoint '%s' is not deleted"), args->name);
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    if (!checkpoint_find (all, args->name))
        return no_checkpoint (guest, args->name, error);
    g_autoptr (GPtrArray) names = names_to_delete (all, args->name, args->flags);
    return metadata_only ? forget (guest, all, names, error)
                         : checkpoint_delete_all (guest, names, alive, error);
}
