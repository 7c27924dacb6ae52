/* What a QEMU that lies says it has. The input is one object with the answers, as recorded in
 * tests/data/qemu. */
#include "driver/qemu/graph.h"
#include "fuzz.h"
#include "util/json.h"

static void look_around (const Graph *graph)
{
    for (guint i = 0; i < graph->disks->len; i++) {
        const GraphDisk *disk = graph->disks->pdata[i];
        g_autoptr (GError) error = NULL;

        MUST (disk->target && disk->names && disk->names->len > 0);
        graph_disk_excluded (disk);
        for (guint k = 0; k < disk->names->len; k++) {
            g_clear_error (&error);
            const GraphDisk *found = graph_disk (graph, disk->names->pdata[k], &error);
            fuzz_error_check (found != NULL, error);
        }
        if (disk->node)
            graph_node (graph, disk->node);
    }
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        MUST (graph_node (graph, node->name) != NULL);
        for (guint k = 0; k < node->bitmaps->len; k++) {
            const GraphBitmap *bitmap = node->bitmaps->pdata[k];
            MUST (!bitmap->name || graph_bitmap (node, bitmap->name));
        }
    }
    for (guint i = 0; i < graph->jobs->len; i++)
        MUST (graph_job (graph, ((const GraphJob *) graph->jobs->pdata[i])->id));
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node =
        json_read_object ((const char *) bytes, (gssize) length, &object, NULL);
    g_autoptr (GError) error = NULL;

    if (!node)
        return;
#define TAKE(field) .field = json_object_get_member (object, #field)
    GraphAnswers answers = {
        TAKE (named_block_nodes),
        TAKE (block),
        TAKE (jobs),
        TAKE (block_jobs),
        TAKE (exports),
        TAKE (status),
        TAKE (uuid),
        TAKE (name),
        TAKE (iothreads),
        TAKE (objects),
        TAKE (device_iothreads),
        TAKE (block_graph),
        TAKE (memory),
        TAKE (cpus),
        TAKE (device_types),
    };
    g_autoptr (Graph) graph = graph_from_answers (&answers, NULL, &error);
    fuzz_error_check (graph != NULL, error);
    if (graph)
        look_around (graph);

    g_autoptr (Caps) caps =
        caps_from_answers (json_object_get_member (object, "schema"),
                           json_object_get_member (object, "commands"), 7002022, "7.2.22", NULL);
}
