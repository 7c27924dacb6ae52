/* The images of a disk that a block job is to change, as QEMU has them. */
#include "driver/qemu/blockjob.h"
#include "job/build.h"
#include "util/json.h"

const GraphNode *block_image (const BlockRequest *request, guint depth)
{
    return request->chain->pdata[depth];
}

const char *block_path_of (const BlockRequest *request, const GraphNode *node)
{
    const GraphNode *file = node->file ? graph_node (request->graph, node->file) : NULL;
    return file && *file->filename ? file->filename : node->filename;
}

const char *block_image_path (const BlockRequest *request, guint depth)
{
    return block_path_of (request, block_image (request, depth));
}

JsonObject *block_node_entry (Guest *guest, const char *node, JsonNode **ret_held)
{
    if (!graph_may_be_asked (guest->qmp, guest->caps, NULL))
        return NULL;
    JsonNode *answer = *ret_held =
        qmp_execute (guest->qmp, "query-named-block-nodes",
                     guest->caps->named_nodes_flat ? obj ("flat", "b", TRUE, NULL) : NULL, 0, NULL);
    JsonArray *nodes =
        answer && JSON_NODE_HOLDS_ARRAY (answer) ? json_node_get_array (answer) : NULL;
    for (guint i = 0; nodes && i < json_array_get_length (nodes); i++) {
        JsonObject *entry = json_get_element (nodes, i);
        if (entry && g_strcmp0 (json_get_string (entry, "node-name"), node) == 0)
            return entry;
    }
    return NULL;
}

char *block_stored_backing (Guest *guest, const char *node)
{
    g_autoptr (JsonNode) held = NULL;
    JsonObject *entry = block_node_entry (guest, node, &held);
    return entry ? g_strdup (json_get_string (json_get_object (entry, "image"), "backing-filename"))
                 : NULL;
}
