/* Disks that the guest has on NBD servers. */
#include <string.h>
#include "driver/qemu/plan.h"
#include "job/plan.h"
#include "util/json.h"
#include "util/nbd_uri.h"

/* "nbd://HOST:PORT/EXPORT", "nbd+unix:///EXPORT?socket=PATH" */
static StoreDef *from_uri (const char *text)
{
    g_auto (NbdAddress) address = { 0 };
    g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_NONE, NULL);
    if (!uri || !nbd_uri_read (text, &address))
        return NULL;
    const char *path = g_uri_get_path (uri);
    StoreDef *store = store_def_new (STORE_NETWORK);
    store->socket = g_strdup (address.socket);
    store->host = g_strdup (address.host);
    store->port = address.port;
    store->name = g_strdup (*path == '/' ? path + 1 : path);
    return store;
}

static const char *member (JsonObject *options, const char *name)
{
    JsonObject *server = json_get_object (options, "server");
    g_autofree char *flat = g_strconcat ("server.", name, NULL);
    const char *text = server ? json_get_string (server, name) : json_get_string (options, flat);
    return text ? text : json_get_string (options, name); /* the form before 2.9 */
}

/* "json:{…}", of what a URI cannot say */
static StoreDef *from_json (const char *text)
{
    JsonObject *options = NULL;
    g_autoptr (JsonNode) node = json_read_object (text, -1, &options, NULL);
    if (!node || g_strcmp0 (json_get_string (options, "driver"), "nbd") != 0)
        return NULL;
    const char *port = member (options, "port");
    StoreDef *store = store_def_new (STORE_NETWORK);
    store->socket = g_strdup (member (options, "path"));
    store->host = g_strdup (member (options, "host"));
    store->port = port ? (guint) g_ascii_strtoull (port, NULL, 10) : 0;
    store->name = g_strdup (json_get_string (options, "export"));
    return store;
}

GPtrArray *plan_look_at_sources (const Graph *graph)
{
    GPtrArray *sources = g_ptr_array_new_with_free_func ((GDestroyNotify) store_def_free);
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (g_strcmp0 (node->driver, "nbd") != 0 || !node->filename)
            continue;
        StoreDef *store = g_str_has_prefix (node->filename, "json:")
                              ? from_json (node->filename + strlen ("json:"))
                              : from_uri (node->filename);
        if (!store)
            continue;
        store->protocol = PROTOCOL_NBD;
        plan_mark_server (store);
        g_ptr_array_add (sources, store);
    }
    return sources;
}
