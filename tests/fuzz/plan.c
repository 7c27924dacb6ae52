/* From any documents, on any QEMU, to a plan or to an error. The input: a line with the flags of
 * the begin and a bit for each thing that this QEMU can do (both in hexadecimal), then
 * <domainbackup>, <domaincheckpoint>, and the answers of QEMU, each after a line "%%". What is not
 * there is not given; without answers there is a guest with two disks, the first of two layers, and
 * checkpoint "c0" on both. */
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"
#include "driver/qemu/plan.h"
#include "fuzz.h"
#include "util/json.h"

enum { PARTS = 4, NODE_NAME_MAX = 31 };

static const char guest[] =
    "{\"named_block_nodes\":["
    "{\"node-name\":\"top\",\"drv\":\"qcow2\",\"file\":\"/g/"
    "a.qcow2\",\"ro\":false,\"backing_file\":\"/g/base.qcow2\",\"backing_file_depth\":1,\"image\":"
    "{\"filename\":\"/g/"
    "a.qcow2\",\"format\":\"qcow2\",\"virtual-size\":1048576,\"backing-filename\":\"/g/"
    "base.qcow2\","
    "\"backing-image\":{\"filename\":\"/g/"
    "base.qcow2\",\"format\":\"qcow2\",\"virtual-size\":1048576}},"
    "\"children\":[{\"child\":\"backing\",\"node-name\":\"base\"},{\"child\":\"file\",\"node-"
    "name\":\"top-file\"}],"
    "\"dirty-bitmaps\":[{\"name\":\"c0\",\"recording\":true,\"busy\":false,\"persistent\":true,"
    "\"granularity\":65536,\"count\":0}]},"
    "{\"node-name\":\"top-file\",\"drv\":\"file\",\"file\":\"/g/"
    "a.qcow2\",\"ro\":false,\"image\":{\"filename\":\"/g/"
    "a.qcow2\",\"format\":\"file\",\"virtual-size\":200000}},"
    "{\"node-name\":\"base\",\"drv\":\"qcow2\",\"file\":\"/g/"
    "base.qcow2\",\"ro\":true,\"image\":{\"filename\":\"/g/"
    "base.qcow2\",\"format\":\"qcow2\",\"virtual-size\":1048576},"
    "\"dirty-bitmaps\":[{\"name\":\"c0\",\"recording\":false,\"busy\":false,\"persistent\":true,"
    "\"granularity\":65536,\"count\":0}]},"
    "{\"node-name\":\"#block7\",\"drv\":\"raw\",\"file\":\"/g/"
    "b.raw\",\"ro\":false,\"image\":{\"filename\":\"/g/"
    "b.raw\",\"format\":\"raw\",\"virtual-size\":8388608},"
    "\"dirty-bitmaps\":[{\"name\":\"c0\",\"recording\":true,\"busy\":false,\"persistent\":false,"
    "\"granularity\":65536,\"count\":0}]}],"
    "\"block\":["
    "{\"device\":\"\",\"qdev\":\"/machine/peripheral/vda/"
    "virtio-backend\",\"locked\":false,\"removable\":false,\"type\":\"unknown\",\"inserted\":"
    "{\"node-name\":\"top\",\"drv\":\"qcow2\",\"file\":\"/g/"
    "a.qcow2\",\"ro\":false,\"image\":{\"filename\":\"/g/"
    "a.qcow2\",\"format\":\"qcow2\",\"virtual-size\":1048576}}},"
    "{\"device\":\"vdb\",\"qdev\":\"/machine/peripheral-anon/"
    "device[0]\",\"locked\":false,\"removable\":false,\"type\":\"unknown\",\"inserted\":"
    "{\"node-name\":\"#block7\",\"drv\":\"raw\",\"file\":\"/g/"
    "b.raw\",\"ro\":false,\"image\":{\"filename\":\"/g/"
    "b.raw\",\"format\":\"raw\",\"virtual-size\":8388608}}},"
    "{\"device\":\"cd0\",\"locked\":false,\"removable\":true,\"type\":\"unknown\",\"tray_open\":"
    "false}],"
    "\"status\":{\"running\":true,\"status\":\"running\"},\"jobs\":[],\"block_jobs\":[],"
    "\"exports\":[],\"objects\":[]}";

static Graph *make_graph (const char *answers_text)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = json_read_object (answers_text, -1, &object, NULL);
    g_autoptr (GError) error = NULL;
    if (!node)
        return NULL;
#define TAKE(field) .field = json_object_get_member (object, #field)
    GraphAnswers answers = {
        TAKE (named_block_nodes), TAKE (block),  TAKE (jobs),    TAKE (block_jobs),
        TAKE (exports),           TAKE (status), TAKE (objects), TAKE (block_graph),
    };
    return graph_from_answers (&answers, NULL, &error);
}

/* The fields from the first flag to the last, a bit each. */
static void make_caps (Caps *caps, guint64 bits)
{
    gboolean *flag = &caps->storage_daemon, *end = &caps->object_add_props;
    caps->version = 7002022;
    caps->version_text = (char *) "7.2.22";
    caps->commands = g_hash_table_new (g_str_hash, g_str_equal);
    caps->drivers = g_hash_table_new (g_str_hash, g_str_equal);
    for (guint i = 0; flag <= end; i++, flag++)
        *flag = (bits >> i) & 1;
}

static GPtrArray *make_checkpoints (void)
{
    GPtrArray *all = g_ptr_array_new_with_free_func ((GDestroyNotify) checkpoint_free);
    Checkpoint *checkpoint = checkpoint_new ("c0");
    static const struct {
        const char *disk, *file;
        guint64 size;
    } disks[] = { { "vda", "/g/base.qcow2", 1048576 }, { "vdb", "/g/b.raw", 8388608 } };
    for (guint i = 0; i < G_N_ELEMENTS (disks); i++) {
        CheckpointDisk *disk = checkpoint_disk_new (disks[i].disk);
        g_free (disk->bitmap);
        g_free (disk->file);
        disk->bitmap = g_strdup ("c0");
        disk->file = g_strdup (disks[i].file);
        disk->size = disks[i].size;
        disk->granularity = 65536;
        disk->persistent = i == 0;
        g_ptr_array_add (checkpoint->disks, disk);
    }
    g_ptr_array_add (all, checkpoint);
    return all;
}

static void check_name (const Action *action, const char *key)
{
    const char *name = json_get_string (action->args, key);
    MUST (!name || g_str_has_prefix (name, "bak-"));
    MUST (!name || strcmp (key, "node-name") != 0 || strlen (name) <= NODE_NAME_MAX);
}

/* What stays in QEMU bears our name and is taken away by an undo. */
static void check_plan (const Plan *plan)
{
    MUST (plan->steps->len > 0);
    for (guint i = 0; i < plan->steps->len; i++) {
        const Step *step = plan->steps->pdata[i];
        const Action *action = step->action;
        static const char *const makers[] = {
            "blockdev-add", "blockdev-create", "object-add", "nbd-server-start",
            "transaction",  "file-create",     NULL
        };
        MUST (step->title && *step->title);
        if (g_strv_contains (makers, action->verb)
            || strcmp (action->verb, "block-export-add") == 0)
            MUST (step->undo->len > 0);
        if (strcmp (action->verb, "blockdev-add") == 0)
            check_name (action, "node-name");
        check_name (action, "job-id");
    }
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        MUST (disk->target && disk->type && disk->protection);
    }
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) node = plan_to_json (plan);
    g_autoptr (Plan) again = plan_from_json (node, &error);
    fuzz_error_check (again != NULL, error);
    MUST (again != NULL);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autofree char *text = fuzz_text (bytes, length);
    g_auto (GStrv) parts = g_strsplit (text, "\n%%\n", PARTS);
    guint count = g_strv_length (parts);
    char *end = parts[0];
    guint flags = end ? g_ascii_strtoull (end, &end, 16) : 0;
    guint64 bits = end ? g_ascii_strtoull (end, &end, 16) : 0;
    g_autoptr (GError) error = NULL;
    g_autoptr (BackupDef) def =
        backup_def_parse (count > 1 && *parts[1] ? parts[1] : "<domainbackup/>", NULL);
    g_autoptr (CheckpointDef) checkpoint =
        count > 2 && *parts[2] ? checkpoint_def_parse (parts[2], 0, NULL) : NULL;
    g_autoptr (Graph) graph = make_graph (count > 3 ? parts[3] : guest);

    if (!def || !graph)
        return;
    if (checkpoint && !checkpoint->name)
        checkpoint->name = g_strdup ("1700000000");
    Caps caps = { 0 };
    make_caps (&caps, bits);
    g_autoptr (GPtrArray) checkpoints = make_checkpoints ();
    const PlanInput input = { .job = "0badcafe",
                              .domain = "g",
                              .def = def,
                              .checkpoint = checkpoint,
                              .graph = graph,
                              .caps = &caps,
                              .checkpoints = checkpoints,
                              .flags = flags,
                              .job_dir = "/state/guests/g",
                              .scratch_dir = "/scratch",
                              .target_dir = bits >> 60 & 1 ? "/targets" : NULL,
                              .tls_dir = bits >> 61 & 1 ? "/pki" : NULL,
                              .now = 1700000000,
                              .free_port = 10809,
                              .agent = bits >> 62 & 1 };
    g_autoptr (Plan) plan = plan_backup (&input, &error);
    fuzz_error_check (plan != NULL, error);
    if (plan)
        check_plan (plan);
    g_hash_table_unref (caps.commands);
    g_hash_table_unref (caps.drivers);
}
