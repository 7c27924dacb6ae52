#include <check.h>
#include <string.h>
#include "conf/guest_def.h"
#include "recorded.h"
#include "util/json.h"

static const GraphDisk *need_disk (const Graph *graph, const char *name)
{
    g_autoptr (GError) error = NULL;
    const GraphDisk *disk = graph_disk (graph, name, &error);
    ck_assert_msg (disk != NULL, "%s", error ? error->message : "");
    return disk;
}

/* The versions that have recorded answers. */
static const char *version_of (int i)
{
    return recorded_versions[i + 1];
}

/* ---- what was recorded (record.py says which guest) ---- */

START_TEST (a_disk_answers_to_every_name_it_has)
{
    static const struct {
        const char *name, *target;
    } names[] = {
        { "virtio-disk0", "virtio-disk0" },
        { "/machine/peripheral/virtio-disk0/virtio-backend", "virtio-disk0" },
        { "system-format", "virtio-disk0" },
        { "system-throttle", "virtio-disk0" },
        { "system.qcow2", "virtio-disk0" },
        { "data", "data" },
        { "data.raw", "data" },
        { "/machine/peripheral-anon/device[0]", "data" },
        { "ide0", "ide0" },
        { "empty", "ide0" },
        { "medium", "medium" },
    };
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    for (guint i = 0; i < G_N_ELEMENTS (names); i++)
        ck_assert_str_eq (need_disk (graph, names[i].name)->target, names[i].target);
    ck_assert_uint_eq (graph->disks->len, 4);
}
END_TEST

START_TEST (filters_are_followed_to_the_format_node)
{
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    const GraphDisk *disk = need_disk (graph, "virtio-disk0");
    ck_assert_str_eq (disk->top, "system-throttle");
    ck_assert_str_eq (disk->node, "system-format");
    ck_assert_uint_eq (disk->size, 16 * 1024 * 1024);
    ck_assert (graph_node (graph, disk->top)->is_filter);
    ck_assert_str_eq (graph_node (graph, disk->node)->file, "system-file");
}
END_TEST

START_TEST (the_backing_chain_is_whole)
{
    static const char *const files[] = { "system.qcow2", "middle.qcow2", "base.qcow2" };
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    const GraphNode *node = graph_node (graph, "system-format");
    for (guint i = 0; i < G_N_ELEMENTS (files); i++) {
        ck_assert_ptr_nonnull (node);
        ck_assert_str_eq (node->filename, files[i]);
        ck_assert_str_eq (node->driver, "qcow2");
        node = graph_node (graph, node->backing);
    }
    ck_assert_ptr_null (node);
}
END_TEST

START_TEST (what_is_left_out_by_default_says_why)
{
    static const struct {
        const char *disk, *rule;
    } rules[] = { { "virtio-disk0", NULL },
                  { "data", NULL },
                  { "ide0", "is an empty drive" },
                  { "medium", "is a CD-ROM" } };
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    for (guint i = 0; i < G_N_ELEMENTS (rules); i++)
        ck_assert_pstr_eq (graph_disk_excluded (need_disk (graph, rules[i].disk)), rules[i].rule);
    ck_assert (need_disk (graph, "medium")->read_only);
    ck_assert_ptr_null (need_disk (graph, "ide0")->node);
}
END_TEST

START_TEST (bus_and_iothread_come_from_the_device)
{
    static const struct {
        const char *disk, *bus, *iothread;
    } devices[] = { { "virtio-disk0", "virtio", "io0" },
                    { "data", "scsi", "io0" },
                    { "medium", "ide", NULL } };
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    for (guint i = 0; i < G_N_ELEMENTS (devices); i++) {
        ck_assert_str_eq (need_disk (graph, devices[i].disk)->bus, devices[i].bus);
        ck_assert_pstr_eq (need_disk (graph, devices[i].disk)->iothread, devices[i].iothread);
    }
}
END_TEST

START_TEST (the_machine_is_described)
{
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "guest", NULL);
    ck_assert_str_eq (graph->uuid, "0bba0f2c-6c4b-4a3e-9a43-3d2ab5e3c8a1");
    ck_assert_str_eq (graph->name, "recorded");
    ck_assert_uint_eq (graph->memory, 64 * 1024 * 1024);
    ck_assert_uint_eq (graph->cpus, 1);
    ck_assert (!graph->running);
    ck_assert (g_ptr_array_find_with_equal_func (graph->objects, "tg0", g_str_equal, NULL));
    ck_assert (!g_ptr_array_find_with_equal_func (graph->objects, "type", g_str_equal, NULL));
}
END_TEST

START_TEST (a_backup_of_ours_changes_no_disk)
{
    g_autoptr (Graph) before = recorded_graph (version_of (_i), "guest", NULL);
    g_autoptr (Graph) busy = recorded_graph (version_of (_i), "busy", NULL);
    ck_assert_uint_eq (busy->disks->len, before->disks->len);
    const GraphDisk *disk = need_disk (busy, "virtio-disk0");
    ck_assert_str_eq (disk->top, "system-throttle");
    ck_assert_str_eq (disk->node, "system-format");
    ck_assert_ptr_nonnull (graph_node (busy, "bak-1f3a9c02-flt00"));
    ck_assert_ptr_nonnull (graph_job (busy, "bak-1f3a9c02-job00"));
    ck_assert_str_eq (graph_job (busy, "bak-1f3a9c02-job00")->type, "backup");
    ck_assert_str_eq (graph_node (busy, "bak-1f3a9c02-scr00")->backing, "system-format");
}
END_TEST

START_TEST (bitmaps_are_on_the_format_node)
{
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "busy", NULL);
    const GraphBitmap *bitmap = graph_bitmap (graph_node (graph, "system-format"), "cp1");
    ck_assert_ptr_nonnull (bitmap);
    ck_assert (bitmap->recording && bitmap->persistent && !bitmap->busy && !bitmap->inconsistent);
    ck_assert_uint_eq (bitmap->granularity, 65536);
    ck_assert_ptr_null (graph_bitmap (graph_node (graph, "system-format"), "cp2"));
}
END_TEST

START_TEST (a_storage_daemon_has_its_root_nodes_as_disks)
{
    g_autoptr (Graph) graph = recorded_graph (version_of (_i), "qsd", NULL);
    ck_assert_uint_eq (graph->disks->len, 2);
    ck_assert_str_eq (need_disk (graph, "first")->node, "first");
    ck_assert_str_eq (need_disk (graph, "second")->node, "second");
    ck_assert_str_eq (need_disk (graph, "second-throttle")->target, "second");
    ck_assert_ptr_null (graph->status);
}
END_TEST

/* ---- names ---- */

static GraphDisk *nth_disk (const Graph *graph, guint i)
{
    return g_ptr_array_index (graph->disks, i);
}

static GPtrArray *one_attach_name (GuestDiskDef *def)
{
    GPtrArray *defs = g_ptr_array_new ();
    g_ptr_array_add (defs, def);
    return defs;
}

START_TEST (a_name_given_at_attach_comes_first)
{
    g_autoptr (GPtrArray) defs = one_attach_name (&(GuestDiskDef){ "vda", "system.qcow2" });
    g_autoptr (Graph) graph = recorded_graph ("7.2", "guest", defs);
    ck_assert_str_eq (need_disk (graph, "virtio-disk0")->target, "vda");
    ck_assert_str_eq (need_disk (graph, "vda")->node, "system-format");
    ck_assert_str_eq (g_ptr_array_index (need_disk (graph, "vda")->names, 0), "vda");
}
END_TEST

START_TEST (a_name_given_at_attach_takes_that_of_another_disk_from_it)
{
    g_autoptr (GPtrArray) defs = one_attach_name (&(GuestDiskDef){ "data", "virtio-disk0" });
    g_autoptr (Graph) graph = recorded_graph ("7.2", "guest", defs);
    ck_assert_str_eq (need_disk (graph, "data")->node, "system-format");
    const GraphDisk *other = need_disk (graph, "data.raw");
    ck_assert_str_ne (other->target, "data");
}
END_TEST

START_TEST (an_attach_name_of_a_disk_that_is_gone_does_no_harm)
{
    g_autoptr (GPtrArray) defs = one_attach_name (&(GuestDiskDef){ "vdz", "no-such-disk" });
    g_autoptr (Graph) graph = recorded_graph ("7.2", "guest", defs);
    ck_assert_ptr_null (graph_disk (graph, "vdz", NULL));
    ck_assert_uint_eq (graph->disks->len, 4);
}
END_TEST

START_TEST (an_unknown_disk_is_refused_with_what_there_is)
{
    g_autoptr (Graph) graph = recorded_graph ("7.2", "guest", NULL);
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (graph_disk (graph, "vd\033z", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NO_DISK);
    ck_assert_ptr_nonnull (
        strstr (error->message, "disk 'vd\\x1bz': no such disk; the guest's disks are: "));
    ck_assert_ptr_nonnull (strstr (error->message, "virtio-disk0"));
}
END_TEST

/* ---- answers written by hand; '|' stands for '"' ---- */

static JsonNode *json (const char *text)
{
    g_autofree char *quoted = g_strdelimit (g_strdup (text), "|", '"');
    g_autoptr (GError) error = NULL;
    JsonNode *node = json_from_string (quoted, &error);
    ck_assert_msg (node != NULL, "%s", error ? error->message : quoted);
    return node;
}

static Graph *make (const char *nodes, const char *block, GError **error)
{
    g_autoptr (JsonNode) named_node = json (nodes);
    g_autoptr (JsonNode) block_node = block ? json (block) : NULL;
    g_autoptr (JsonNode) status = json ("{|status|:|running|,|running|:true}");
    GraphAnswers answers = { .named_block_nodes = named_node,
                             .block = block_node,
                             .status = block ? status : NULL };
    return graph_from_answers (&answers, NULL, error);
}

#define NODE(name, drv, file, more)                                                                \
    "{|node-name|:|" name "|,|drv|:|" drv "|,|file|:|" file                                        \
    "|,|ro|:false,|image|:{|filename|:|" file "|,|virtual-size|:1048576" more "}}"

/* As QEMU 2.7 tells it: no edges, bitmaps beside "inserted", no qdev. */
static const char old_nodes[] =
    "[" NODE ("#block100", "qcow2", "/a.qcow2", ",|full-backing-filename|:|/base.qcow2|") "," NODE (
        "#block001", "file", "/a.qcow2",
        "") "," NODE ("#block200", "qcow2", "/base.qcow2",
                      "") "," NODE ("#block201", "file", "/base.qcow2",
                                    "") "," NODE ("#block300", "raw", "/b.raw",
                                                  "") "," NODE ("#block301", "file", "/b.raw",
                                                                "") "]";
static const char old_block[] =
    "[{|device|:|drive-virtio-disk0|,|removable|:false,|inserted|:{|node-name|:|#block100|,|ro|:"
    "false},"
    "|dirty-bitmaps|:[{|name|:|b0|,|count|:0,|granularity|:65536,|status|:|active|},{|name|:|b1|,|"
    "count|:7,|granularity|:512,|status|:|frozen|}]},"
    "{|device|:|drive-ide0-1|,|removable|:false,|inserted|:{|node-name|:|#block300|,|ro|:true}},"
    "{|device|:|bak-1f3a9c02-tgt00|,|removable|:false,|inserted|:{|node-name|:|#block200|,|ro|:"
    "false}},"
    "{|device|:|ide1-cd0|,|removable|:true}]";

START_TEST (a_2_7_tells_enough)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Graph) graph = make (old_nodes, old_block, &error);
    ck_assert_msg (graph != NULL, "%s", error ? error->message : "");
    ck_assert_uint_eq (graph->disks->len, 3);
    /* libvirt's alias, from its drive id */
    const GraphDisk *disk = need_disk (graph, "virtio-disk0");
    ck_assert_str_eq (disk->target, "virtio-disk0");
    ck_assert_str_eq (disk->device, "drive-virtio-disk0");
    ck_assert_str_eq (disk->bus, "virtio");
    const GraphNode *node = graph_node (graph, disk->node);
    ck_assert_str_eq (node->backing, "bak-1f3a9c02-tgt00"); /* ours: known by its backend's id */
    ck_assert_str_eq (graph_node (graph, "bak-1f3a9c02-tgt00")->filename, "/base.qcow2");
    ck_assert_ptr_null (graph_node (graph, "#block200"));
    ck_assert_str_eq (node->file, "#block001");
    ck_assert (graph_bitmap (node, "b0")->recording && !graph_bitmap (node, "b0")->busy);
    ck_assert (graph_bitmap (node, "b1")->busy);
    ck_assert_str_eq (graph_disk_excluded (need_disk (graph, "ide0-1")), "is read-only");
    ck_assert_str_eq (graph_disk_excluded (need_disk (graph, "ide1-cd0")), "is an empty drive");
}
END_TEST

START_TEST (a_file_that_is_open_twice_is_nobodys_backing)
{
    g_autoptr (Graph) graph =
        make ("[" NODE ("top", "qcow2", "/a", ",|full-backing-filename|:|/base|") "," NODE (
                  "x", "qcow2", "/base", "") "," NODE ("y", "qcow2", "/base", "") "]",
              "[]", NULL);
    ck_assert_ptr_null (graph_node (graph, "top")->backing);
}
END_TEST

START_TEST (a_filter_before_4_0_is_followed_by_its_file_name)
{
    g_autoptr (Graph) graph = make (
        "[" NODE ("thr", "throttle", "json:{\\|file\\|: \\|/a.qcow2\\|}", "") "," NODE (
            "fmt", "qcow2", "/a.qcow2", "") "," NODE ("prt", "file", "/a.qcow2", "") "]",
        "[{|device|:||,|qdev|:|vd0|,|removable|:false,|inserted|:{|node-name|:|thr|}}]", NULL);
    ck_assert_str_eq (need_disk (graph, "vd0")->node, "fmt");
    ck_assert_str_eq (need_disk (graph, "vd0")->top, "thr");
}
END_TEST

START_TEST (one_image_under_two_devices_is_one_disk)
{
    g_autoptr (Graph) graph =
        make ("[" NODE ("a", "raw", "/a", "") "]",
              "[{|device|:||,|qdev|:|p1|,|inserted|:{|node-name|:|a|,|ro|:true}},"
              "{|device|:||,|qdev|:|p2|,|inserted|:{|node-name|:|a|,|ro|:false}}]",
              NULL);
    ck_assert_uint_eq (graph->disks->len, 1);
    ck_assert_str_eq (need_disk (graph, "p2")->target, "p1");
    ck_assert (!need_disk (graph, "p1")->read_only);
}
END_TEST

START_TEST (targets_are_unique_and_a_shared_name_is_ambiguous)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Graph) graph =
        make ("[" NODE ("a", "raw", "/same", "") "," NODE ("b", "raw", "/same",
                                                           "") "," NODE ("c", "raw", "/c", "") "]",
              "[{|device|:|x|,|qdev|:|n1|,|inserted|:{|node-name|:|a|}},{|device|:|x|,|qdev|:|n2|,|"
              "inserted|:{|node-name|:|b|}},"
              "{|device|:|n1|,|inserted|:{|node-name|:|c|}}]",
              NULL);
    ck_assert_str_eq (nth_disk (graph, 0)->target, "n1");
    ck_assert_str_eq (nth_disk (graph, 1)->target, "n2");
    ck_assert_str_eq (nth_disk (graph, 2)->target, "c");
    ck_assert_ptr_null (graph_disk (graph, "x", &error));
    ck_assert_ptr_nonnull (strstr (error->message, "more than one disk answers"));
    g_clear_error (&error);
    ck_assert_ptr_null (graph_disk (graph, "/same", &error));
    ck_assert_str_eq (graph_disk (graph, "n1", NULL)->node, "a");
}
END_TEST

START_TEST (firmware_flash_is_left_out)
{
    g_autoptr (Graph) graph =
        make ("[" NODE ("f", "raw", "/vars.fd", "") "]",
              "[{|device|:|pflash1|,|qdev|:|/machine/system.flash1|,|inserted|:{|node-name|:|f|}}]",
              NULL);
    ck_assert_str_eq (graph_disk_excluded (need_disk (graph, "pflash1")), "is firmware flash");
}
END_TEST

/* ---- a QEMU that lies ---- */

static const struct {
    const char *nodes, *block, *says;
} lies[] = {
    { "{}", "[]", "list of nodes is none" },
    { "[7]", "[]", "impossible name" },
    { "[{}]", "[]", "impossible name" },
    { "[" NODE ("a\\u001b[31m", "raw", "/a", "") "]", "[]", "node 'a\\x1b[31m'" },
    { "[" NODE ("../../etc", "raw", "/a", "") "]", "[]", "impossible name" },
    { "[" NODE ("a", "raw", "/a", "") "," NODE ("a", "raw", "/a", "") "]", "[]", "twice" },
    { "[{|node-name|:|a|,|drv|:|raw|,|image|:{|filename|:|f|,|virtual-size|:18446744073709551615}}"
      "]",
      "[]", "impossible size" },
    { "[{|node-name|:|a|,|drv|:|raw|,|image|:{|filename|:|f|,|virtual-size|:9223372036854775807}}]",
      "[]", "impossible size" },
    { "[{|node-name|:|a|,|drv|:|raw|,|image|:{|filename|:|f|,|virtual-size|:-1}}]", "[]",
      "impossible size" },
    { "[{|node-name|:|a|,|drv|:|raw|,|image|:{|filename|:|f|,|virtual-size|:1e30}}]", "[]",
      "impossible size" },
    { "[{|node-name|:|a|,|drv|:|raw|,|image|:{|filename|:|f|,|virtual-size|:|big|}}]", "[]",
      "impossible size" },
    { "[]", "[{|device|:|d\\u0007|,|inserted|:{|node-name|:|x\\n|}}]",
      "disk 'd\\x07': its node 'x\\x0a'" },
    { "[]", "[{|device|:|d|,|inserted|:{}}]", "in no list of nodes" },
    { "[]", "{}", "list of drives is none" },
};

START_TEST (a_lie_is_an_error_that_shows_it_escaped)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Graph) graph = make (lies[_i].nodes, lies[_i].block, &error);
    ck_assert_ptr_null (graph);
    ck_assert_int_eq (error->code, BAK_ERROR_MONITOR);
    ck_assert_msg (strstr (error->message, lies[_i].says) != NULL, "%s", error->message);
    for (const char *p = error->message; *p; p++)
        ck_assert_int_ge ((guchar) *p, ' ');
}
END_TEST

START_TEST (a_million_nodes_are_not_believed)
{
    g_autoptr (JsonArray) array = json_array_new ();
    for (guint i = 0; i < 20001; i++)
        json_array_add_null_element (array);
    g_autoptr (JsonNode) nodes = json_node_init_array (json_node_alloc (), array);
    GraphAnswers answers = { .named_block_nodes = nodes };
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (graph_from_answers (&answers, NULL, &error));
    ck_assert_ptr_nonnull (strstr (error->message, "20001"));
}
END_TEST

START_TEST (filters_in_a_circle_end)
{
    g_autoptr (JsonNode) nodes =
        json ("[" NODE ("f1", "throttle", "", "") "," NODE ("f2", "throttle", "", "") "]");
    g_autoptr (JsonNode) block = json ("[{|device|:|d|,|inserted|:{|node-name|:|f1|}}]");
    g_autoptr (JsonNode) status = json ("{}");
    g_autoptr (JsonNode) edges = json ("{|nodes|:[{|id|:1,|name|:|f1|,|type|:|block-driver|},{|id|:"
                                       "2,|name|:|f2|,|type|:|block-driver|}],"
                                       "|edges|:[{|parent|:1,|child|:2,|name|:|file|},{|parent|:2,|"
                                       "child|:1,|name|:|file|},{|parent|:9,|child|:|x|},7]}");
    GraphAnswers answers = {
        .named_block_nodes = nodes, .block = block, .status = status, .block_graph = edges
    };
    g_autoptr (Graph) graph = graph_from_answers (&answers, NULL, NULL);
    ck_assert_ptr_nonnull (graph);
    ck_assert (graph_node (graph, need_disk (graph, "d")->node)->is_filter);
}
END_TEST

START_TEST (a_disk_that_another_process_serves_is_a_disk_that_cannot_be_read)
{
    static const struct {
        const char *type, *bus;
    } rows[] = { { "vhost-user-blk-pci", "virtio" }, { "vhost-user-scsi-pci", "scsi" },
                 { "vhost-scsi-ccw", "scsi" },       { "vhost-user-fs-pci", NULL },
                 { "vhost-vsock-pci", NULL },        { "virtio-blk-pci", NULL } };
    for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
        g_autofree char *text = g_strdup_printf ("{|/machine/peripheral/d|:|%s|}", rows[i].type);
        g_autoptr (JsonNode) nodes = json ("[]"), types = json (text);
        GraphAnswers answers = { .named_block_nodes = nodes, .device_types = types };
        g_autoptr (Graph) graph = graph_from_answers (&answers, NULL, NULL);
        ck_assert_uint_eq (graph->disks->len, rows[i].bus != NULL);
        if (!rows[i].bus)
            continue;
        const GraphDisk *disk = need_disk (graph, "d");
        ck_assert_str_eq (disk->bus, rows[i].bus);
        ck_assert (disk->elsewhere && !disk->node);
        ck_assert (g_str_has_prefix (graph_disk_excluded (disk), "is served by another process"));
    }
}
END_TEST

START_TEST (jobs_exports_and_objects_of_others_are_shown_escaped)
{
    g_autoptr (JsonNode) jobs = json ("[{|id|:|j\\u001b|,|type|:|backup|,|status|:|running|,|"
                                      "current-progress|:5,|total-progress|:18446744073709551615,"
                                      "|error|:|e\\r|},null]");
    g_autoptr (JsonNode) exports =
        json ("[{|id|:|e1|,|node-name|:|n|,|type|:|nbd|,|shutting-down|:true}]");
    g_autoptr (JsonNode) objects =
        json ("[{|name|:|o\\n1|,|type|:|child<iothread>|},{|name|:|type|,|type|:|string|},8]");
    g_autoptr (JsonNode) uuid = json ("{|UUID|:|00000000-0000-0000-0000-000000000000|}");
    GraphAnswers answers = { .jobs = jobs, .exports = exports, .objects = objects, .uuid = uuid };
    g_autoptr (Graph) graph = graph_from_answers (&answers, NULL, NULL);
    const GraphJob *job = graph_job (graph, "j\\x1b");
    ck_assert_str_eq (job->error, "e\\x0d");
    ck_assert_uint_eq (job->total, 0);
    ck_assert (graph_export (graph, "e1")->shutting_down);
    ck_assert_uint_eq (graph->objects->len, 1);
    ck_assert_ptr_null (graph->uuid);
}
END_TEST

START_TEST (before_3_0_jobs_are_block_jobs)
{
    g_autoptr (JsonNode) jobs =
        json ("[{|device|:|j1|,|type|:|backup|,|offset|:5,|len|:10,|paused|:true}]");
    GraphAnswers answers = { .block_jobs = jobs };
    g_autoptr (Graph) graph = graph_from_answers (&answers, NULL, NULL);
    ck_assert_str_eq (graph_job (graph, "j1")->status, "paused");
    ck_assert_uint_eq (graph_job (graph, "j1")->total, 10);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("graph");
    TCase *tests = tcase_create ("graph");
    enum { RECORDED = 4 };
    tcase_add_loop_test (tests, a_disk_answers_to_every_name_it_has, 0, RECORDED);
    tcase_add_loop_test (tests, filters_are_followed_to_the_format_node, 0, RECORDED);
    tcase_add_loop_test (tests, the_backing_chain_is_whole, 0, RECORDED);
    tcase_add_loop_test (tests, what_is_left_out_by_default_says_why, 0, RECORDED);
    tcase_add_loop_test (tests, bus_and_iothread_come_from_the_device, 0, RECORDED);
    tcase_add_loop_test (tests, the_machine_is_described, 0, RECORDED);
    tcase_add_loop_test (tests, a_backup_of_ours_changes_no_disk, 0, RECORDED);
    tcase_add_loop_test (tests, bitmaps_are_on_the_format_node, 0, RECORDED);
    tcase_add_loop_test (tests, a_storage_daemon_has_its_root_nodes_as_disks, 0, RECORDED);
    tcase_add_test (tests, a_name_given_at_attach_comes_first);
    tcase_add_test (tests, a_name_given_at_attach_takes_that_of_another_disk_from_it);
    tcase_add_test (tests, an_attach_name_of_a_disk_that_is_gone_does_no_harm);
    tcase_add_test (tests, an_unknown_disk_is_refused_with_what_there_is);
    tcase_add_test (tests, a_2_7_tells_enough);
    tcase_add_test (tests, a_file_that_is_open_twice_is_nobodys_backing);
    tcase_add_test (tests, a_filter_before_4_0_is_followed_by_its_file_name);
    tcase_add_test (tests, one_image_under_two_devices_is_one_disk);
    tcase_add_test (tests, targets_are_unique_and_a_shared_name_is_ambiguous);
    tcase_add_test (tests, firmware_flash_is_left_out);
    tcase_add_test (tests, a_disk_that_another_process_serves_is_a_disk_that_cannot_be_read);
    tcase_add_loop_test (tests, a_lie_is_an_error_that_shows_it_escaped, 0, G_N_ELEMENTS (lies));
    tcase_add_test (tests, a_million_nodes_are_not_believed);
    tcase_add_test (tests, filters_in_a_circle_end);
    tcase_add_test (tests, jobs_exports_and_objects_of_others_are_shown_escaped);
    tcase_add_test (tests, before_3_0_jobs_are_block_jobs);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
