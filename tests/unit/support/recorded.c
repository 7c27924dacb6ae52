#include <string.h>
#include <gio/gio.h>
#include "recorded.h"
#include "util/json.h"

const char *const recorded_versions[] = { "2.7", "5.2", "7.2", "10.0", "11.1", NULL };

static char *path_of (const char *version, const char *name)
{
    if (g_str_equal (version, "2.7"))
        return g_strdup_printf ("%s/qemu/%s-2.7.json", TEST_DATA, name);
    return g_strdup_printf ("%s/qemu/%s/%s", TEST_DATA, version, name);
}

static JsonNode *parse (const char *path, const char *text, gsize length)
{
    g_autoptr (GError) error = NULL;
    JsonNode *node = json_read (text, length, &error);
    if (!node)
        g_error ("%s: %s", path, error->message);
    return node;
}

static JsonNode *read_plain (const char *path)
{
    g_autofree char *text = NULL;
    gsize length;
    g_autoptr (GError) error = NULL;
    if (!g_file_get_contents (path, &text, &length, &error))
        g_error ("%s", error->message);
    return parse (path, text, length);
}

static JsonNode *read_packed (const char *path)
{
    g_autoptr (GFile) file = g_file_new_for_path (path);
    g_autoptr (GError) error = NULL;
    g_autoptr (GFileInputStream) packed = g_file_read (file, NULL, &error);
    if (!packed)
        g_error ("%s", error->message);
    g_autoptr (GZlibDecompressor) unzip = g_zlib_decompressor_new (G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    g_autoptr (GInputStream) plain =
        g_converter_input_stream_new (G_INPUT_STREAM (packed), G_CONVERTER (unzip));
    g_autoptr (GOutputStream) all = g_memory_output_stream_new_resizable ();
    if (g_output_stream_splice (all, plain, G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET, NULL, &error) < 0)
        g_error ("%s: %s", path, error->message);
    GMemoryOutputStream *memory = G_MEMORY_OUTPUT_STREAM (all);
    return parse (path, g_memory_output_stream_get_data (memory),
                  g_memory_output_stream_get_data_size (memory));
}

JsonNode *recorded_schema (const char *version)
{
    gboolean packed = !g_str_equal (version, "2.7");
    g_autofree char *path = path_of (version, packed ? "schema.json.gz" : "schema");
    return packed ? read_packed (path) : read_plain (path);
}

JsonNode *recorded_daemon_schema (const char *version)
{
    g_autofree char *path = path_of (version, "qsd-schema.json.gz");
    return read_packed (path);
}

static Caps *make_caps (const char *version, JsonNode *schema)
{
    g_autofree char *text = NULL;
    g_autofree char *path = path_of (version, "version");
    if (g_str_equal (version, "2.7"))
        text = g_strdup ("2.7.1");
    else if (!g_file_get_contents (path, &text, NULL, NULL))
        g_error ("%s is missing", path);
    g_strchomp (text);
    g_auto (GStrv) parts = g_strsplit (text, ".", 3);
    g_autoptr (GError) error = NULL;
    guint number = atoi (parts[0]) * 1000000 + atoi (parts[1]) * 1000 + atoi (parts[2]);
    Caps *caps = caps_from_answers (schema, NULL, number, text, &error);
    if (!caps)
        g_error ("%s: %s", version, error->message);
    return caps;
}

Caps *recorded_caps (const char *version)
{
    g_autoptr (JsonNode) schema = recorded_schema (version);
    return make_caps (version, schema);
}

Caps *recorded_daemon_caps (const char *version)
{
    g_autoptr (JsonNode) schema = recorded_daemon_schema (version);
    return make_caps (version, schema);
}

JsonNode *recorded_answers (const char *version, const char *which)
{
    g_autofree char *name = g_strconcat (which, g_str_equal (version, "2.7") ? "" : ".json", NULL);
    g_autofree char *path = path_of (version, name);
    return read_plain (path);
}

void recorded_fill (JsonNode *answers, GraphAnswers *ret_answers)
{
    JsonObject *object = json_node_get_object (answers);
#define FILL(field) ret_answers->field = json_object_get_member (object, #field)
    FILL (named_block_nodes);
    FILL (block);
    FILL (jobs);
    FILL (block_jobs);
    FILL (exports);
    FILL (status);
    FILL (uuid);
    FILL (name);
    FILL (iothreads);
    FILL (objects);
    FILL (device_iothreads);
    FILL (block_graph);
    FILL (memory);
    FILL (cpus);
    FILL (device_types);
#undef FILL
}

Graph *recorded_graph (const char *version, const char *which, GPtrArray *disks)
{
    g_autoptr (JsonNode) recorded = recorded_answers (version, which);
    GraphAnswers answers = { 0 };
    g_autoptr (GError) error = NULL;
    recorded_fill (recorded, &answers);
    Graph *graph = graph_from_answers (&answers, disks, &error);
    if (!graph)
        g_error ("%s %s: %s", version, which, error->message);
    return graph;
}
