/* checkpoint-check: what is recorded against the bitmaps that exist. Looking changes nothing;
 * repair takes away what is of no use any more, and never a bitmap that is not ours unless it is
 * named. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/checkpoint.h"
#include "job/image.h"
#include "driver/qemu/job.h"
#include "driver/qemu/local.h"
#include "driver/qemu/plan.h"
#include "job/run.h"

typedef struct {
    Guest *guest;
    Graph *graph;        /* NULL: QEMU is gone */
    GPtrArray *all;      /* Checkpoint*: what is recorded */
    GPtrArray *findings; /* Finding* */
    const bak_check_args *args;
    GHashTable *provisional; /* names of checkpoints whose backup did not succeed */
} Check;

typedef enum {
    REPAIR_NONE,
    REPAIR_FORGET /* the disk leaves the checkpoint */,
    REPAIR_REMOVE /* and its bitmaps go */,
    REPAIR_BITMAP /* the bitmap goes */,
    REPAIR_SET_ASIDE /* the damaged record */
} RepairKind;

typedef struct {
    const char *kind;
    char *disk, *bitmap, *meaning, *repair;
    RepairKind how;
    char *node, *file; /* of the bitmap that goes */
    gboolean repaired;
} Finding;

static void finding_free (Finding *finding)
{
    g_free (finding->disk);
    g_free (finding->bitmap);
    g_free (finding->meaning);
    g_free (finding->repair);
    g_free (finding->node);
    g_free (finding->file);
    g_free (finding);
}

static Finding *found (Check *check, const char *kind, const char *disk, const char *bitmap,
                       RepairKind how, const char *meaning, const char *repair)
{
    Finding *finding = g_new0 (Finding, 1);
    finding->kind = kind;
    finding->disk = g_strdup (disk);
    finding->bitmap = g_strdup (bitmap);
    finding->how = how;
    finding->meaning = g_strdup (meaning);
    finding->repair = g_strdup (repair);
    g_ptr_array_add (check->findings, finding);
    return finding;
}

static gboolean is_named (const Check *check, const char *bitmap)
{
    for (guint i = 0; i < check->args->names.names_len; i++)
        if (g_str_equal (check->args->names.names_val[i], bitmap))
            return TRUE;
    return FALSE;
}

/* ---- recorded checkpoints ---- */

static gboolean is_sealed_here (const GPtrArray *nodes, const CheckpointDisk *recorded)
{
    for (guint i = 0; i < nodes->len; i++)
        if (graph_bitmap (nodes->pdata[i], recorded->seal))
            return TRUE;
    return FALSE;
}

/* By the seal: nobody has looked while the disk was smaller. */
static gboolean is_cut (GPtrArray *nodes, const CheckpointDisk *recorded)
{
    const SealBitmap end = plan_seal_end (checkpoint_sealed_node (nodes, recorded), recorded);
    return seal_end_is_cut (recorded, &end);
}

static const GraphNode *image_elsewhere (const Graph *graph, const CheckpointDisk *recorded)
{
    g_autoptr (GPtrArray) sealed = checkpoint_sealed_nodes (graph, recorded);
    for (guint i = 0; i < sealed->len; i++) {
        const GraphNode *node = sealed->pdata[i];
        if (g_strcmp0 (node->filename, recorded->file) != 0)
            return node;
    }
    return NULL;
}

static const char *kind_of (const Graph *graph, const CheckpointDisk *recorded,
                            const GraphDisk *disk, GPtrArray *nodes)
{
    for (guint i = 0; i < nodes->len; i++) {
        const GraphBitmap *bitmap = graph_bitmap (nodes->pdata[i], recorded->bitmap);
        if (bitmap->inconsistent)
            return "inconsistent";
        if (bitmap->busy)
            return "busy";
    }
    if (recorded->shrunk || (recorded->size && recorded->size != disk->size))
        return "resized";
    if (nodes->len == 0)
        return image_elsewhere (graph, recorded) ? "replaced" : "lost";
    g_autofree char *broken = checkpoint_seal_broken (nodes, recorded);
    if (broken && !is_sealed_here (nodes, recorded))
        return "replaced";
    if (broken)
        return is_cut (nodes, recorded) ? "resized" : "touched";
    return g_str_equal (((GraphNode *) nodes->pdata[0])->name, disk->node) ? "unusable" : "gap";
}

/* The bitmap is good, and what it says is laid on something else. */
static void check_below (Check *check, const GraphDisk *disk, const CheckpointDisk *recorded)
{
    g_autofree char *reason = plan_layers_differ (check->graph, disk, recorded);
    if (!reason)
        return;
    g_autofree char *meaning = g_strdup_printf (_("no increment from it is exact: %s"), reason);
    found (check, "replaced", recorded->disk, recorded->bitmap, REPAIR_FORGET, meaning,
           _("take the disk out of the checkpoint; the next backup of it must be full"));
}

static void check_recorded_disk (Check *check, const Checkpoint *checkpoint,
                                 const CheckpointDisk *recorded)
{
    const GraphDisk *disk = graph_disk (check->graph, recorded->disk, NULL);
    g_autofree char *reason = NULL, *meaning = NULL;
    g_autoptr (JsonArray) bitmaps =
        disk && disk->node ? plan_changes_since (check->graph, disk, checkpoint, &reason) : NULL;
    g_autoptr (GPtrArray) nodes = checkpoint_nodes (check->graph, recorded);

    if (bitmaps) {
        check_below (check, disk, recorded);
        return;
    }
    if (!disk || !disk->node) {
        found (check, "absent", recorded->disk, recorded->bitmap, REPAIR_NONE,
               _("the disk is not in the guest now"),
               _("nothing: it counts again when the disk is back"));
        return;
    }
    const char *kind = kind_of (check->graph, recorded, disk, nodes);
    if (g_str_equal (kind, "busy")) {
        found (check, kind, recorded->disk, recorded->bitmap, REPAIR_NONE,
               _("another operation uses the bitmap"),
               _("nothing: it can be used again when that operation has ended"));
        return;
    }
    if (g_str_equal (kind, "gap")) {
        meaning = g_strdup_printf (_("no increment from it is exact: %s"), reason);
        found (check, kind, recorded->disk, recorded->bitmap, REPAIR_NONE, meaning,
               _("nothing: it counts again when the snapshot has been committed into its base; "
                  "until then a full backup is needed"));
        return;
    }
    if (g_str_equal (kind, "replaced")) {
        /* what bears the bitmap may be somebody else's */
        const GraphNode *elsewhere = image_elsewhere (check->graph, recorded);
        meaning = elsewhere
                      ? g_strdup_printf (_("no increment from it is exact: the image that it was "
                                            "made on is now '%s'"),
                                         elsewhere->filename)
                      : g_strdup_printf (_("no increment from it is exact: %s"), reason);
        found (check, kind, recorded->disk, recorded->bitmap, REPAIR_FORGET, meaning,
               _("take the disk out of the checkpoint; the next backup of it must be full"));
        return;
    }
    gboolean killed = g_str_equal (kind, "inconsistent");
    meaning = g_strdup_printf (killed ? _("%s: QEMU was killed or crashed while it recorded; no "
                                           "increment from this checkpoint is exact")
                                      : _("no increment from it is exact: %s"),
                               reason);
    found (check, kind, recorded->disk, recorded->bitmap,
           nodes->len ? REPAIR_REMOVE : REPAIR_FORGET, meaning,
           nodes->len
               ? _("remove the bitmap and take the disk out of the checkpoint; the next backup of "
                    "it must be full")
               : _("take the disk out of the checkpoint; the next backup of it must be full"));
}

/* ---- recorded checkpoints of a guest whose QEMU is gone ---- */

static const ImageBitmap *image_bitmap (const ImageInfo *info, const char *name)
{
    for (guint i = 0; i < info->bitmaps->len; i++)
        if (g_str_equal (((ImageBitmap *) info->bitmaps->pdata[i])->name, name))
            return info->bitmaps->pdata[i];
    return NULL;
}

static const ImageInfo *image_of (GHashTable *images, const char *file)
{
    if (!g_hash_table_contains (images, file))
        g_hash_table_insert (images, g_strdup (file), image_probe (file, NULL, NULL));
    return g_hash_table_lookup (images, file);
}

static void check_file_disk (Check *check, GHashTable *images, const CheckpointDisk *recorded)
{
    const char *forget =
        _("take the disk out of the checkpoint; the next backup of it must be full");
    if (!recorded->persistent) {
        found (check, "lost", recorded->disk, recorded->bitmap, REPAIR_FORGET,
               _("the bitmap was in memory only and died with the QEMU process"), forget);
        return;
    }
    const ImageInfo *info = recorded->file && g_path_is_absolute (recorded->file)
                                ? image_of (images, recorded->file)
                                : NULL;
    if (!info) {
        g_autofree char *meaning =
            g_strdup_printf (_("QEMU does not run, and its image '%s' cannot be opened"),
                             recorded->file ? recorded->file : "");
        found (check, "absent", recorded->disk, recorded->bitmap, REPAIR_NONE, meaning,
               _("nothing: it counts again when the image is back"));
        return;
    }
    const ImageBitmap *bitmap = image_bitmap (info, recorded->bitmap);
    if (!bitmap)
        found (check, "lost", recorded->disk, recorded->bitmap, REPAIR_FORGET,
               _("no increment from it is exact: bitmap missing"), forget);
    else if (bitmap->in_use)
        found (check, "inconsistent", recorded->disk, recorded->bitmap, REPAIR_REMOVE,
               _("bitmap inconsistent: QEMU was killed or crashed while it recorded; no increment "
                  "from this checkpoint is exact"),
               _("remove the bitmap and take the disk out of the checkpoint; the next backup of "
                  "it must be full"));
    else if (recorded->seal && !image_bitmap (info, recorded->seal))
        found (
            check, "replaced", recorded->disk, recorded->bitmap, REPAIR_FORGET,
            _("no increment from it is exact: another image than that of the checkpoint, or not "
               "as it was then: its seal is not there"),
            forget);
    else if (recorded->shrunk || (recorded->size && recorded->size != info->virtual_size))
        found (check, "resized", recorded->disk, recorded->bitmap, REPAIR_REMOVE,
               _("no increment from it is exact: the disk was resized"),
               _("remove the bitmap and take the disk out of the checkpoint; the next backup of "
                  "it must be full"));
}

/* ---- bitmaps without a checkpoint ---- */

static gboolean is_recorded_on (const Check *check, const GraphNode *node, const char *bitmap)
{
    const Checkpoint *checkpoint = checkpoint_find (check->all, bitmap);
    for (guint i = 0; checkpoint && i < checkpoint->disks->len; i++) {
        const CheckpointDisk *recorded = checkpoint->disks->pdata[i];
        g_autoptr (GPtrArray) nodes = checkpoint_nodes (check->graph, recorded);
        gboolean has_moved_here = recorded->seal && graph_bitmap (node, recorded->seal);
        if (has_moved_here || g_ptr_array_find (nodes, node, NULL))
            return TRUE;
    }
    return FALSE;
}

static const Checkpoint *sealed_by (const Check *check, const char *bitmap)
{
    for (guint i = 0; seal_is_name (bitmap) && i < check->all->len; i++) {
        const Checkpoint *checkpoint = check->all->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++)
            if (g_strcmp0 (((CheckpointDisk *) checkpoint->disks->pdata[k])->seal, bitmap) == 0)
                return checkpoint;
    }
    return NULL;
}

static void judge_bitmap (Check *check, const char *disk, const char *node, const char *file,
                          const char *bitmap)
{
    gboolean named = is_named (check, bitmap),
             ours = g_hash_table_contains (check->provisional, bitmap)
                    && !checkpoint_find (check->all, bitmap);
    const Job *job = check->guest->job;
    const Checkpoint *sealed = sealed_by (check, bitmap);
    Finding *finding;

    if (job
        && (g_strcmp0 (job->plan->checkpoint, bitmap) == 0 || g_str_has_prefix (bitmap, "bak-")))
        return;
    if (g_str_has_prefix (bitmap, "bak-")) {
        g_autofree char *meaning =
            sealed ? g_strdup_printf (_("the seal of checkpoint '%s', whose bitmap is not there"),
                                      sealed->name)
                   : g_strdup (_("a temporary bitmap that a job of ours has left behind"));
        finding = found (check, "leftover", disk, bitmap, REPAIR_BITMAP, meaning,
                         _("remove the bitmap"));
    } else if (ours)
        finding = found (
            check, "orphan", disk, bitmap, REPAIR_BITMAP,
            _("the bitmap of a checkpoint whose backup did not succeed: nothing starts from it"),
            _("remove the bitmap"));
    else if (checkpoint_find (check->all, bitmap))
        finding = found (check, "duplicate", disk, bitmap, named ? REPAIR_BITMAP : REPAIR_NONE,
                         _("a bitmap with the name of a checkpoint on an image that the "
                            "checkpoint does not cover"),
                         named ? _("remove the bitmap, because it was named")
                               : _("nothing, unless it is named"));
    else
        finding = found (check, "foreign", disk, bitmap, named ? REPAIR_BITMAP : REPAIR_NONE,
                         _("a bitmap that no checkpoint knows: another program's, or of a "
                            "checkpoint that was deleted with --metadata"),
                         named ? _("remove the bitmap, because it was named")
                               : _("nothing, unless it is named; checkpoint-create --redefine "
                                    "makes it known again"));
    finding->node = g_strdup (node);
    finding->file = g_strdup (file);
}

/* A seal is judged with the bitmap that it was made with. Of GraphBitmap or ImageBitmap. */
static gboolean seals_any (const GPtrArray *bitmaps, const char *seal)
{
    for (guint i = 0; seal_is_name (seal) && i < bitmaps->len; i++) {
        const char *bitmap = *(char **) bitmaps->pdata[i];
        if (bitmap && seal_is_beside (seal, bitmap))
            return TRUE;
    }
    return FALSE;
}

static void check_live_bitmaps (Check *check)
{
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
    for (guint i = 0; i < check->graph->disks->len; i++) {
        const GraphDisk *disk = check->graph->disks->pdata[i];
        const GraphNode *node = disk->node ? graph_node (check->graph, disk->node) : NULL;
        for (; node && g_hash_table_add (seen, (gpointer) node);
             node = node->backing ? graph_node (check->graph, node->backing) : NULL)
            for (guint k = 0; k < node->bitmaps->len; k++) {
                const GraphBitmap *bitmap = node->bitmaps->pdata[k];
                if (bitmap->name && !is_recorded_on (check, node, bitmap->name)
                    && !seals_any (node->bitmaps, bitmap->name))
                    judge_bitmap (check, disk->target, node->name, NULL, bitmap->name);
            }
    }
}

static gboolean recorded_in_file (const Check *check, const char *file, const char *bitmap)
{
    const Checkpoint *checkpoint = checkpoint_find (check->all, bitmap);
    for (guint i = 0; checkpoint && i < checkpoint->disks->len; i++)
        if (g_strcmp0 (((CheckpointDisk *) checkpoint->disks->pdata[i])->file, file) == 0)
            return TRUE;
    return FALSE;
}

static void check_file_bitmaps (Check *check, GHashTable *images)
{
    GHashTableIter iter;
    gpointer file, info;
    g_hash_table_iter_init (&iter, images);
    while (g_hash_table_iter_next (&iter, &file, &info))
        for (guint i = 0; info && i < ((ImageInfo *) info)->bitmaps->len; i++) {
            const ImageBitmap *bitmap = ((ImageInfo *) info)->bitmaps->pdata[i];
            if (!recorded_in_file (check, file, bitmap->name)
                && !seals_any (((ImageInfo *) info)->bitmaps, bitmap->name))
                judge_bitmap (check, file, NULL, file, bitmap->name);
        }
}

/* ---- repair ---- */

/* The disk leaves the record; a checkpoint without disks goes. */
static gboolean drop_disk (Check *check, const char *name, const char *disk, GError **error)
{
    g_autoptr (Checkpoint) checkpoint = checkpoint_load (check->guest->dir, name, error);
    if (!checkpoint)
        return FALSE;
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        CheckpointDisk *recorded = checkpoint->disks->pdata[i];
        if (!g_str_equal (recorded->disk, disk))
            continue;
        g_ptr_array_remove_index (checkpoint->disks, i);
        checkpoint_disk_free (recorded);
        break;
    }
    if (checkpoint->disks->len > 0)
        return checkpoint_save (check->guest->dir, checkpoint, error);
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    g_ptr_array_add (names, (gpointer) name);
    return checkpoint_delete_all (check->guest, names, check->graph != NULL, error);
}

/* With the seals beside it. */
static gboolean remove_from_file (const char *file, const char *bitmap, GError **error)
{
    g_autoptr (ImageInfo) info = image_probe (file, NULL, error);
    if (!info || !image_bitmap_remove (file, NULL, bitmap, error))
        return FALSE;
    for (guint i = 0; i < info->bitmaps->len; i++) {
        const ImageBitmap *seal = info->bitmaps->pdata[i];
        if (seal_is_beside (seal->name, bitmap)
            && !image_bitmap_remove (file, NULL, seal->name, error))
            return FALSE;
    }
    return TRUE;
}

static const CheckpointDisk *recorded_disk (const Check *check, const Finding *finding)
{
    const Checkpoint *checkpoint = checkpoint_find (check->all, finding->bitmap);
    for (guint i = 0; checkpoint && i < checkpoint->disks->len; i++) {
        const CheckpointDisk *recorded = checkpoint->disks->pdata[i];
        if (g_str_equal (recorded->disk, finding->disk))
            return recorded;
    }
    return NULL;
}

/* What bears its seal would be known to nobody afterwards. */
static gboolean forget_disk (Check *check, const Finding *finding, GError **error)
{
    const CheckpointDisk *recorded = recorded_disk (check, finding);
    return (!recorded
            || checkpoint_clear_sealed (check->guest, check->graph, check->all, recorded, error))
           && drop_disk (check, finding->bitmap, finding->disk, error);
}

static gboolean remove_recorded (Check *check, const Finding *finding, GError **error)
{
    const CheckpointDisk *recorded = recorded_disk (check, finding);
    if (recorded && !check->graph
        && (!remove_from_file (recorded->file, recorded->bitmap, error)
            || !checkpoint_clear_sealed (check->guest, NULL, check->all, recorded, error)))
        return FALSE;
    g_autoptr (GPtrArray) nodes = recorded && check->graph
                                      ? checkpoint_nodes_to_clear (check->graph, recorded)
                                      : g_ptr_array_new ();
    for (guint k = 0; k < nodes->len; k++)
        if (!checkpoint_remove_bitmap (check->guest, nodes->pdata[k], recorded->bitmap, error)
            || !checkpoint_remove_seals (check->guest, nodes->pdata[k], recorded->bitmap, error))
            return FALSE;
    return drop_disk (check, finding->bitmap, finding->disk, error);
}

static gboolean repair (Check *check, const Finding *finding, GError **error)
{
    switch (finding->how) {
    case REPAIR_FORGET: return forget_disk (check, finding, error);
    case REPAIR_REMOVE: return remove_recorded (check, finding, error);
    case REPAIR_BITMAP:
        if (finding->node) {
            const GraphNode *node = graph_node (check->graph, finding->node);
            return !node
                   || (checkpoint_remove_bitmap (check->guest, node, finding->bitmap, error)
                       && checkpoint_remove_seals (check->guest, node, finding->bitmap, error));
        }
        return remove_from_file (finding->file, finding->bitmap, error);
    case REPAIR_SET_ASIDE: return checkpoint_set_aside (check->guest->dir, finding->bitmap, error);
    default: return FALSE;
    }
}

/* With a picture of its own: one repair may take what another has found as well. */
static gboolean repair_now (Check *check, const Finding *finding, GError **error)
{
    Check now = *check;
    g_autoptr (Graph) graph = check->graph ? guest_graph (check->guest, GRAPH_DISKS, error) : NULL;
    now.graph = graph;
    return (graph || !check->graph) && repair (&now, finding, error);
}

static void repair_all (Check *check)
{
    g_autoptr (GArray) standing =
        check->graph ? checkpoint_who_stands (check->graph, check->all, NULL) : NULL;
    for (guint i = 0; i < check->findings->len; i++) {
        Finding *finding = check->findings->pdata[i];
        g_autoptr (GError) failure = NULL;
        if (finding->how == REPAIR_NONE)
            continue;
        finding->repaired = repair_now (check, finding, &failure);
        if (finding->repaired)
            continue;
        char *text = g_strdup_printf (_("%s; failed: %s"), finding->repair, failure->message);
        g_free (finding->repair);
        finding->repair = text;
    }
    if (standing)
        checkpoint_stand_again (check->guest, check->graph, standing);
}

/* ---- the call ---- */

static void check_damaged (Check *check, GPtrArray *damaged)
{
    g_autofree char *folder = g_build_filename (check->guest->dir, "checkpoints", NULL);
    g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
    const char *entry;
    while (dir && damaged->len && (entry = g_dir_read_name (dir))) {
        g_autofree char *name =
            g_str_has_suffix (entry, ".json") ? g_strndup (entry, strlen (entry) - 5) : NULL;
        if (!name || !checkpoint_exists (check->guest->dir, name)
            || checkpoint_find (check->all, name))
            continue;
        g_autoptr (GError) why = NULL;
        g_autoptr (Checkpoint) loaded = checkpoint_load (check->guest->dir, name, &why);
        if (loaded)
            continue;
        found (check, "damaged", "", name, REPAIR_SET_ASIDE, why->message,
               _("set the record aside; its bitmaps stay"));
    }
}

static GHashTable *failed_checkpoints (Guest *guest)
{
    GHashTable *names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    GArray *jobs = record_list (guest->dir, NULL);
    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        if (*job->checkpoint && (job->state == JOB_STATE_FAILED || job->state == JOB_STATE_ABORTED))
            g_hash_table_add (names, g_strdup (job->checkpoint));
        bak_job_clear (job);
    }
    g_array_unref (jobs);
    return names;
}

static void look_live (Check *check)
{
    for (guint i = 0; i < check->all->len; i++) {
        const Checkpoint *checkpoint = check->all->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++)
            check_recorded_disk (check, checkpoint, checkpoint->disks->pdata[k]);
    }
    check_live_bitmaps (check);
}

static void look_at_files (Check *check)
{
    g_autoptr (GHashTable) images =
        g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) image_info_free);
    for (guint i = 0; i < check->all->len; i++) {
        const Checkpoint *checkpoint = check->all->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++)
            check_file_disk (check, images, checkpoint->disks->pdata[k]);
    }
    check_file_bitmaps (check, images);
}

static void fill_ret (Check *check, bak_check_ret *ret)
{
    guint count = MIN (check->findings->len, BAK_FINDINGS_MAX);
    ret->findings.findings_val = ret_array (count, sizeof (bak_finding));
    ret->findings.findings_len = count;
    for (guint i = 0; i < count; i++) {
        const Finding *from = check->findings->pdata[i];
        g_autofree char *disk = text_sanitize (from->disk, BAK_NAME_MAX - 8),
                        *bitmap = text_sanitize (from->bitmap, BAK_NAME_MAX - 8);
        ret->findings.findings_val[i] = (bak_finding){ .kind = ret_string (from->kind),
                                                       .disk = ret_string (disk),
                                                       .bitmap = ret_string (bitmap),
                                                       .meaning = ret_string (from->meaning),
                                                       .repair = ret_string (from->repair),
                                                       .repaired = from->repaired };
    }
}

gboolean local_checkpoint_check (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_check_args *args = data;
    gboolean wants_repair = (args->flags & CHECK_REPAIR) != 0, alive = FALSE;
    Check check = { .guest = guest, .args = args };

    if (args->flags & ~CHECK_REPAIR)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                          args->flags);
    if (!checkpoint_acquire (guest, &alive, error)
        || (wants_repair && !checkpoint_not_busy (guest, _("repair checkpoints"), error)))
        return FALSE;
    g_autoptr (Graph) graph = alive ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    if (alive && !graph)
        return FALSE;
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, damaged);
    g_autoptr (GPtrArray) findings = g_ptr_array_new_with_free_func ((GDestroyNotify) finding_free);
    g_autoptr (GHashTable) provisional = failed_checkpoints (guest);
    check.graph = graph;
    check.all = all;
    check.findings = findings;
    check.provisional = provisional;
    if (graph && !checkpoint_see_sizes (guest, graph, all, error))
        return FALSE;
    check_damaged (&check, damaged);
    if (alive)
        look_live (&check);
    else
        look_at_files (&check);
    if (wants_repair)
        repair_all (&check);
    fill_ret (&check, ret);
    return TRUE;
}
