/* What bears our names is taken out of a QEMU, whoever left it there. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/same-qemu.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "job/seal.h"

static gboolean ours (const char *name, const char *prefix)
{
    return name && g_str_has_prefix (name, prefix);
}

/* A seal stays while the bitmap is there that it was made with; an undo or a deletion takes both.
 */
static gboolean seals_bitmap (const GraphNode *node, const char *seal)
{
    gboolean beside = FALSE;
    for (guint i = 0; seal_is_name (seal) && !beside && i < node->bitmaps->len; i++) {
        const char *bitmap = ((GraphBitmap *) node->bitmaps->pdata[i])->name;
        beside = bitmap && seal_is_beside (seal, bitmap);
    }
    return beside;
}

static void sweep_connections (Guest *guest, const Graph *graph, const char *prefix)
{
    Run run = { .ops = &qemu_run_ops, .data = guest };
    for (guint i = 0; guest->caps->yank && i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (!ours (node->name, prefix) || g_strcmp0 (node->driver, "nbd") != 0)
            continue;
        g_autoptr (Action) yank = node_yank (node->name);
        run_action (&run, yank, NULL);
    }
}

static void sweep_exports (Guest *guest, const Graph *graph, const char *prefix)
{
    gboolean any = FALSE, foreign = FALSE;
    for (guint i = 0; i < graph->exports->len; i++) {
        const GraphExport *export = graph->exports->pdata[i];
        if (!ours (export->id, prefix)) {
            foreign = TRUE;
            continue;
        }
        any = TRUE;
        g_autoptr (Action) wait =
            own_action ("export-wait-gone", obj ("export", "s", export->id, NULL));
        Run run = { .ops = &qemu_run_ops, .data = guest };
        if (export->shutting_down
            || qmp_run (guest->qmp, "block-export-del",
                        obj ("id", "s", export->id, "mode", "s", "hard", NULL), 0, NULL))
            run_action (&run, wait, NULL);
    }
    if (any && !foreign)
        qmp_run (guest->qmp, "nbd-server-stop", NULL, 0, NULL);
}

static void sweep_jobs (Guest *guest, const Graph *graph, const char *prefix)
{
    Run run = { .ops = &qemu_run_ops, .data = guest };
    for (guint i = 0; i < graph->jobs->len; i++) {
        const GraphJob *job = graph->jobs->pdata[i];
        if (ours (job->id, prefix))
            run_end_job (&run, job->id);
    }
}

static void sweep_bitmaps (Guest *guest, const Graph *graph, const char *prefix)
{
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        for (guint k = 0; k < node->bitmaps->len; k++) {
            const GraphBitmap *bitmap = node->bitmaps->pdata[k];
            if (ours (bitmap->name, prefix) && !seals_bitmap (node, bitmap->name))
                qmp_run (guest->qmp, "block-dirty-bitmap-remove",
                         obj ("node", "s", node->name, "name", "s", bitmap->name, NULL), 0, NULL);
        }
    }
}

/* Users go before what they use; without the edges at hand, rounds do: each deletes what nothing
 * holds any more. */
static void sweep_nodes (Guest *guest, const Graph *graph, const char *prefix)
{
    const char *command = guest->caps->blockdev_del ? "blockdev-del" : "x-blockdev-del";
    g_autoptr (GPtrArray) left = g_ptr_array_new ();
    for (guint i = 0; i < graph->nodes->len; i++)
        if (ours (((GraphNode *) graph->nodes->pdata[i])->name, prefix))
            g_ptr_array_add (left, ((GraphNode *) graph->nodes->pdata[i])->name);
    for (guint before = left->len + 1; left->len > 0 && left->len < before;) {
        before = left->len;
        for (guint i = 0; i < left->len;)
            if (qmp_run (
                    guest->qmp, command,
                    obj (guest->caps->blockdev_del ? "node-name" : "id", "s", left->pdata[i], NULL),
                    0, NULL))
                g_ptr_array_remove_index (left, i);
            else
                i++;
    }
}

static char *what_is_left (const Graph *graph, const char *prefix)
{
    GString *text = g_string_new (NULL);
#define ADD(kind, name)                                                                            \
    G_STMT_START                                                                                   \
    {                                                                                              \
        if (ours (name, prefix))                                                                   \
            g_string_append_printf (text, "%s%s '%s'", text->len ? ", " : "", kind, name);         \
    }                                                                                              \
    G_STMT_END
    for (guint i = 0; i < graph->exports->len; i++)
        ADD (_("export"), ((GraphExport *) graph->exports->pdata[i])->id);
    for (guint i = 0; i < graph->jobs->len; i++)
        ADD (_("job"), ((GraphJob *) graph->jobs->pdata[i])->id);
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        ADD (_("node"), node->name);
        for (guint k = 0; k < node->bitmaps->len; k++) {
            const char *bitmap = ((GraphBitmap *) node->bitmaps->pdata[k])->name;
            if (!seals_bitmap (node, bitmap))
                ADD (_("bitmap"), bitmap);
        }
    }
    for (guint i = 0; i < graph->objects->len; i++)
        ADD (_("object"), (char *) graph->objects->pdata[i]);
#undef ADD
    if (text->len == 0) {
        g_string_free (text, TRUE);
        return NULL;
    }
    return g_string_free (text, FALSE);
}

gboolean run_sweep (Guest *guest, const char *prefix, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    if (!graph)
        return FALSE;
    g_autofree char *before = what_is_left (graph, prefix);
    if (!before)
        return TRUE;
    /* what bears no id of a job of this guest may be another owner's */
    if (g_str_equal (prefix, "bak-") && same_qemu_holds_ours (graph)
        && !same_qemu_is_alone (guest->qmp, guest->def, error))
        return FALSE;
    g_debug ("sweep: %s", before);
    sweep_connections (guest, graph, prefix);
    sweep_exports (guest, graph, prefix);
    sweep_jobs (guest, graph, prefix);
    sweep_bitmaps (guest, graph, prefix);
    sweep_nodes (guest, graph, prefix);
    for (guint i = 0; i < graph->objects->len; i++)
        if (ours (graph->objects->pdata[i], prefix))
            qmp_run (guest->qmp, "object-del", obj ("id", "s", graph->objects->pdata[i], NULL), 0,
                     NULL);
    g_autoptr (Graph) now = guest_graph (guest, GRAPH_HELD, error);
    if (!now)
        return FALSE;
    g_autofree char *left = what_is_left (now, prefix);
    return !left || error_set (error, BAK_ERROR_MONITOR, _("QEMU still holds: %s"), left);
}

/* Nothing tells any more whether it was to be kept. */
static void name_files (Guest *guest, const Graph *graph)
{
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (!ours (node->name, "bak-") || node->read_only || !g_path_is_absolute (node->filename)
            || (g_strcmp0 (node->driver, "file") != 0
                && g_strcmp0 (node->driver, "host_device") != 0))
            continue;
        g_warning (_("guest '%s': a backup of which nothing is recorded was writing to '%s': what "
                      "is there is no backup; remove it"),
                   guest->def->name, node->filename);
    }
}

gboolean run_sweep_unknown (Guest *guest, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    if (!graph || !run_sweep (guest, "bak-", error))
        return FALSE;
    name_files (guest, graph);
    return TRUE;
}
