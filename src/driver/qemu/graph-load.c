/* The picture of a QEMU that answers: questions go out together, each answer is taken as it comes.
 */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/qemu/graph-build.h"
#include "driver/qemu/qmp.h"
#include "util/json.h"
#include "util/error.h"

/* ---- from a QEMU ---- */

typedef struct {
    Builder builder;
    gboolean has_iothreads;
    JsonObject *types; /* path -> type */
    guint pending, refused;
    GError *error; /* the first */
} Loader;

typedef struct {
    Loader *loader;
    TakeFunc take;
} Query;

static void loader_clear (Loader *loader)
{
    builder_clear (&loader->builder);
    g_clear_pointer (&loader->types, json_object_unref);
    g_clear_error (&loader->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Loader, loader_clear)

/* A question that QEMU declines is a gap in the picture, except the list of nodes, without which
 * there is none. */
static void query_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree Query *query = user_data;
    Loader *loader = query->loader;
    loader->pending--;
    if (loader->error)
        return;
    gboolean needed = query->take == take_nodes || query->take == take_block;
    if (error && (needed || !g_error_matches (error, BAK_ERROR, BAK_ERROR_MONITOR)))
        loader->error = g_error_copy (error);
    else if (result)
        query->take (&loader->builder, result, &loader->error);
}

static gboolean take_iothreads (Builder *builder, JsonNode *answer, GError **error)
{
    Loader *loader = (Loader *) builder; /* its first member */
    loader->has_iothreads =
        JSON_NODE_HOLDS_ARRAY (answer) && json_array_get_length (json_node_get_array (answer)) > 0;
    return TRUE;
}

static void ask (Loader *loader, Qmp *qmp, const Caps *caps, const char *command, JsonObject *args,
                 TakeFunc take)
{
    if (!caps_has_command (caps, command)) {
        g_clear_pointer (&args, json_object_unref);
        return;
    }
    Query *query = g_new0 (Query, 1);
    *query = (Query){ loader, take };
    loader->pending++;
    qmp_send (qmp, command, args, 0, query_answered, query);
}

/* Ends: every command has a deadline. */
static gboolean loader_wait (Loader *loader, Qmp *qmp, GError **error)
{
    while (loader->pending > 0)
        g_main_context_iteration (qmp_get_context (qmp), TRUE);
    if (!loader->error)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&loader->error));
    return FALSE;
}

static JsonObject *one_string (const char *key, const char *value)
{
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, key, value);
    return object;
}

/* Without it every node carries the whole chain below it once more. */
static JsonObject *flat_argument (gboolean known)
{
    if (!known)
        return NULL;
    JsonObject *object = json_object_new ();
    json_object_set_boolean_member (object, "flat", TRUE);
    return object;
}

/* What a job of this type leaves behind until it is dismissed kills a QEMU that lists its nodes.
 * Seen on 5.2 and 7.2, not on 10.0. */
static const struct {
    const char *type;
    guint from, below;
} fatal_jobs[] = {
    { "backup", 4002000, 6000000 },
    { "stream", 6000000, 10000000 },
};

static const char *fatal_type (const Caps *caps)
{
    for (guint i = 0; i < G_N_ELEMENTS (fatal_jobs); i++)
        if (caps->version >= fatal_jobs[i].from && caps->version < fatal_jobs[i].below)
            return fatal_jobs[i].type;
    return NULL;
}

gboolean graph_may_be_asked (Qmp *qmp, const Caps *caps, GError **error)
{
    const char *type = fatal_type (caps);
    if (!type)
        return TRUE;
    g_autoptr (JsonNode) jobs = qmp_execute (qmp, "query-jobs", NULL, 0, error);
    JsonArray *list = jobs && JSON_NODE_HOLDS_ARRAY (jobs) ? json_node_get_array (jobs) : NULL;
    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        JsonObject *job = json_get_element (list, i);
        if (g_strcmp0 (json_get_string (job, "type"), type) == 0
            && g_strcmp0 (json_get_string (job, "status"), "concluded") == 0) {
            g_autofree char *id = text_sanitize (json_get_string (job, "id"), 256);
            return error_set (error, BAK_ERROR_BUSY,
                              _("job '%s' has ended and is not dismissed, and this QEMU (%s) dies "
                                 "when its nodes are asked for meanwhile: let its owner send "
                                 "job-dismiss, then try again"),
                              id, caps->version_text);
        }
    }
    return jobs != NULL;
}

/* Before 5.0 a node may not tell its bitmaps, before 2.8 not even its name: then the devices do. */
static void ask_everything (Loader *loader, Qmp *qmp, const Caps *caps, GraphDetail detail)
{
    ask (loader, qmp, caps, "query-named-block-nodes", flat_argument (caps->named_nodes_flat),
         take_nodes);
    if (detail >= GRAPH_DISKS)
        ask (loader, qmp, caps, "x-debug-query-block-graph", NULL, take_block_graph);
    if (!caps->storage_daemon && (detail >= GRAPH_DISKS || !caps->named_nodes_flat))
        ask (loader, qmp, caps, "query-block", flat_argument (caps->block_flat), take_block);
    if (caps->jobs)
        ask (loader, qmp, caps, "query-jobs", NULL, take_jobs);
    else
        ask (loader, qmp, caps, "query-block-jobs", NULL, take_block_jobs);
    ask (loader, qmp, caps, "query-block-exports", NULL, take_exports);
    ask (loader, qmp, caps, "qom-list", one_string ("path", "/objects"), take_objects);
    gboolean place_matters = !caps->iothread_nbd_safe || !caps->iothread_view_safe;
    if (detail == GRAPH_ALL || (detail == GRAPH_DISKS && place_matters))
        ask (loader, qmp, caps, "query-iothreads", NULL, take_iothreads);
    if (detail >= GRAPH_DISKS) {
        ask (loader, qmp, caps, "query-status", NULL, take_status);
        ask (loader, qmp, caps, "query-migrate", NULL, take_migration);
    }
    if (detail < GRAPH_ALL)
        return;
    ask (loader, qmp, caps, "query-uuid", NULL, take_uuid);
    ask (loader, qmp, caps, "query-name", NULL, take_name);
    ask (loader, qmp, caps, "query-memory-size-summary", NULL, take_memory);
    ask (loader, qmp, caps, "query-cpus-fast", NULL, take_cpus);
}

/* ---- devices: many questions about paths, asked together ---- */

typedef struct {
    Loader *loader;
    GHashTable *values;
    char *path;
} PathQuery;

/* A string; of a list of objects (an "iothread-vq-mapping", 9.0) the first one's iothread. */
static void path_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree PathQuery *query = user_data;
    g_autofree char *path = query->path;
    Loader *loader = query->loader;
    loader->pending--;
    if (error && !g_error_matches (error, BAK_ERROR, BAK_ERROR_MONITOR) && !loader->error)
        loader->error = g_error_copy (error);
    loader->refused += error != NULL;
    const char *value = NULL;
    if (result && JSON_NODE_HOLDS_VALUE (result)
        && json_node_get_value_type (result) == G_TYPE_STRING)
        value = json_node_get_string (result);
    else if (result && JSON_NODE_HOLDS_ARRAY (result))
        value = json_get_string (json_get_element (json_node_get_array (result), 0), "iothread");
    if (value && *value)
        g_hash_table_replace (query->values, g_steal_pointer (&path), g_strdup (value));
}

/* path -> value of this property, where there is one; NULL: the connection failed. */
static GHashTable *qom_get_all (Loader *loader, Qmp *qmp, GPtrArray *paths, const char *property,
                                GError **error)
{
    g_autoptr (GHashTable) values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < paths->len; i++) {
        PathQuery *query = g_new0 (PathQuery, 1);
        *query = (PathQuery){ loader, values, g_strdup (g_ptr_array_index (paths, i)) };
        JsonObject *args = one_string ("path", query->path);
        json_object_set_string_member (args, "property", property);
        loader->pending++;
        qmp_send (qmp, "qom-get", args, 0, path_answered, query);
    }
    return loader_wait (loader, qmp, error) ? g_steal_pointer (&values) : NULL;
}

/* The paths of the devices in use whose type begins so; without a type they might be. */
static GPtrArray *device_paths (Loader *loader, JsonObject *types, const char *prefix)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func (g_free);
    GPtrArray *disks = loader->builder.graph->disks;
    for (guint i = 0; i < disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (disks, i);
        g_autofree char *path = disk->qdev && !disk->empty ? qdev_path (disk->qdev) : NULL;
        const char *type = path ? device_type (types, path) : NULL;
        if (path && (!type || g_str_has_prefix (type, prefix)))
            g_ptr_array_add (paths, g_steal_pointer (&path));
    }
    return paths;
}

/* A link is the path of the object, a mapping names it. */
static void set_iothread (JsonObject *iothreads, const char *device, const char *value)
{
    g_autofree char *id = g_path_get_basename (value);
    json_object_set_string_member (iothreads, device, id);
}

/* Takes the devices that have this property set off paths. */
static gboolean take_iothreads_of (Loader *loader, Qmp *qmp, GPtrArray *paths, const char *property,
                                   JsonObject *iothreads, GError **error)
{
    g_autoptr (GHashTable) values = qom_get_all (loader, qmp, paths, property, error);
    for (guint i = paths->len; values && i-- > 0;) {
        const char *path = g_ptr_array_index (paths, i),
                   *value = g_hash_table_lookup (values, path);
        if (!value)
            continue;
        set_iothread (iothreads, path, value);
        g_ptr_array_remove_index_fast (paths, i);
    }
    return values != NULL;
}

static gboolean ask_virtio_iothreads (Loader *loader, Qmp *qmp, JsonObject *types,
                                      JsonObject *iothreads, GError **error)
{
    g_autoptr (GPtrArray) paths = device_paths (loader, types, "virtio-");
    if (!take_iothreads_of (loader, qmp, paths, "iothread", iothreads, error))
        return FALSE;
    if (paths->len == 0)
        return TRUE;
    /* One is asked first whether there is such a property in this QEMU. */
    g_autoptr (GPtrArray) first = g_ptr_array_new ();
    g_ptr_array_add (first, g_ptr_array_index (paths, 0));
    loader->refused = 0;
    g_autoptr (GHashTable) probe = qom_get_all (loader, qmp, first, "iothread-vq-mapping", error);
    return probe
           && (loader->refused
               || take_iothreads_of (loader, qmp, paths, "iothread-vq-mapping", iothreads, error));
}

/* A SCSI disk's requests run where its controller's do: the bus it is on is a child or grandchild
 * of that. */
static gboolean ask_scsi_iothreads (Loader *loader, Qmp *qmp, JsonObject *types,
                                    JsonObject *iothreads, GError **error)
{
    g_autoptr (GPtrArray) paths = device_paths (loader, types, "scsi-");
    g_autoptr (GHashTable) buses = qom_get_all (loader, qmp, paths, "parent_bus", error);
    if (!buses)
        return FALSE;
    g_autoptr (GPtrArray) above = g_ptr_array_new_with_free_func (g_free);
    GHashTableIter iter;
    gpointer device, bus;
    g_hash_table_iter_init (&iter, buses);
    while (g_hash_table_iter_next (&iter, &device, &bus)) {
        g_autofree char *parent = g_path_get_dirname (bus),
                        *grandparent = g_path_get_dirname (parent);
        if (!g_ptr_array_find_with_equal_func (above, parent, g_str_equal, NULL)) {
            g_ptr_array_add (above, g_steal_pointer (&parent));
            g_ptr_array_add (above, g_steal_pointer (&grandparent));
        }
    }
    g_autoptr (GHashTable) values = qom_get_all (loader, qmp, above, "iothread", error);
    if (!values)
        return FALSE;
    g_hash_table_iter_init (&iter, buses);
    while (g_hash_table_iter_next (&iter, &device, &bus)) {
        g_autofree char *parent = g_path_get_dirname (bus),
                        *grandparent = g_path_get_dirname (parent);
        const char *value = g_hash_table_lookup (values, parent);
        value = value ? value : g_hash_table_lookup (values, grandparent);
        if (value)
            set_iothread (iothreads, device, value);
    }
    return TRUE;
}

static gboolean ask_iothreads (Loader *loader, Qmp *qmp, const Caps *caps, JsonObject *types,
                               JsonObject *iothreads, GError **error)
{
    if (!loader->has_iothreads || !caps_has_command (caps, "qom-get"))
        return TRUE;
    return ask_virtio_iothreads (loader, qmp, types, iothreads, error)
           && ask_scsi_iothreads (loader, qmp, types, iothreads, error);
}

/* One list tells the types of all devices below a path. */
static void types_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree PathQuery *query = user_data;
    g_autofree char *base = query->path;
    query->loader->pending--;
    JsonArray *array =
        result && JSON_NODE_HOLDS_ARRAY (result) ? json_node_get_array (result) : NULL;
    guint count = array ? MIN (json_array_get_length (array), (guint) MAX_ITEMS) : 0;
    for (guint i = 0; i < count; i++) {
        JsonObject *object = json_get_element (array, i);
        const char *name = json_get_string (object, "name"),
                   *type = json_get_string (object, "type");
        if (!name || !type || !g_str_has_prefix (type, "child<") || !g_str_has_suffix (type, ">"))
            continue;
        g_autofree char *path = g_strconcat (base, "/", name, NULL);
        g_autofree char *plain =
            g_strndup (type + strlen ("child<"), strlen (type) - strlen ("child<>"));
        json_object_set_string_member (query->loader->types, path, plain);
    }
}

static void ask_types (Loader *loader, Qmp *qmp, const char *base)
{
    PathQuery *query = g_new0 (PathQuery, 1);
    *query = (PathQuery){ loader, NULL, g_strdup (base) };
    loader->pending++;
    qmp_send (qmp, "qom-list", one_string ("path", base), 0, types_answered, query);
}

/* A disk that another process serves is found there alone. */
static gboolean any_device_below (const Graph *graph, const char *base)
{
    if (g_str_has_prefix (base, "/machine/peripheral"))
        return TRUE;
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        g_autofree char *path = disk->qdev && !disk->empty ? qdev_path (disk->qdev) : NULL;
        if (path && g_str_has_prefix (path, base) && path[strlen (base)] == '/')
            return TRUE;
    }
    return FALSE;
}

static gboolean ask_all_types (Loader *loader, Qmp *qmp, const Caps *caps, GraphDetail detail,
                               GError **error)
{
    static const char *const bases[] = { "/machine/peripheral", "/machine/peripheral-anon",
                                         "/machine/unattached" };
    for (guint i = 0; i < G_N_ELEMENTS (bases); i++)
        if (!caps->storage_daemon && detail >= GRAPH_DISKS && caps_has_command (caps, "qom-list")
            && any_device_below (loader->builder.graph, bases[i]))
            ask_types (loader, qmp, bases[i]);
    return loader_wait (loader, qmp, error);
}

Graph *graph_load (Qmp *qmp, const Caps *caps, GraphDetail detail, GPtrArray *disks, GError **error)
{
    g_auto (Loader) loader = { .types = json_object_new () };
    builder_init (&loader.builder);
    if (!graph_may_be_asked (qmp, caps, error))
        return NULL;
    ask_everything (&loader, qmp, caps, detail);
    if (!loader_wait (&loader, qmp, error))
        return NULL;
    if (detail == GRAPH_HELD)
        return g_steal_pointer (&loader.builder.graph);
    g_autoptr (JsonObject) iothreads = json_object_new ();
    if (!ask_all_types (&loader, qmp, caps, detail, error)
        || !ask_iothreads (&loader, qmp, caps, loader.types, iothreads, error))
        return NULL;
    const char *why = NULL;
    if (!qmp_is_alive (qmp, &why)) {
        error_set (error, BAK_ERROR_CONNECTION, "%s", why);
        return NULL;
    }
    return builder_finish (&loader.builder, disks, loader.types, iothreads, error);
}
