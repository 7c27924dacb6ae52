/* Guests as others want to see them: states and sizes in libvirt's terms, and a <domain> document
 * that stock clients read. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/both.h"
#include "driver/qemu/definitions.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/info.h"
#include "driver/qemu/offline.h"
#include "driver/qemu/remember.h"
#include "job/build.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { DEPTH_MAX = 256, ASK_TIMEOUT_MS = 5000 };

/* States */

static const struct {
    const char *status;
    int state, reason;
} states[] = {
    { "running", DOMAIN_STATE_RUNNING, 1 },
    { "paused", DOMAIN_STATE_PAUSED, 1 },
    { "debug", DOMAIN_STATE_PAUSED, 0 },
    { "io-error", DOMAIN_STATE_PAUSED, 5 },
    { "watchdog", DOMAIN_STATE_PAUSED, 6 },
    { "inmigrate", DOMAIN_STATE_PAUSED, 2 },
    { "postmigrate", DOMAIN_STATE_PAUSED, 2 },
    { "finish-migrate", DOMAIN_STATE_PAUSED, 2 },
    { "colo", DOMAIN_STATE_PAUSED, 2 },
    { "save-vm", DOMAIN_STATE_PAUSED, 3 },
    { "restore-vm", DOMAIN_STATE_PAUSED, 7 },
    { "prelaunch", DOMAIN_STATE_PAUSED, 11 },
    { "preconfig", DOMAIN_STATE_PAUSED, 11 },
    { "internal-error", DOMAIN_STATE_PAUSED, 0 },
    { "shutdown", DOMAIN_STATE_SHUTDOWN, 0 },
    { "suspended", DOMAIN_STATE_PMSUSPENDED, 0 },
    { "guest-panicked", DOMAIN_STATE_CRASHED, 1 },
};

int info_state (const char *status, int *ret_reason)
{
    *ret_reason = 0;
    if (!status)
        return DOMAIN_STATE_RUNNING;
    for (guint i = 0; i < G_N_ELEMENTS (states); i++)
        if (g_str_equal (status, states[i].status)) {
            *ret_reason = states[i].reason;
            return states[i].state;
        }
    return DOMAIN_STATE_NOSTATE;
}

/* Disks */

/* Text for a field of at most max bytes. */
static char *ret_text (const char *text, gsize max)
{
    if (!text || (strlen (text) <= max && g_utf8_validate (text, -1, NULL)))
        return ret_string (text);
    g_autofree char *clean = text_sanitize (text, max);
    return ret_string (clean);
}

typedef struct {
    const char *type;
    const char *protocol;
} Source;

static const struct {
    const char *driver;
    Source source;
} sources[] = {
    { "file", { "file", NULL } },        { "host_device", { "block", NULL } },
    { "host_cdrom", { "block", NULL } }, { "nbd", { "network", "nbd" } },
    { "rbd", { "network", "rbd" } },     { "gluster", { "network", "gluster" } },
    { "iscsi", { "network", "iscsi" } }, { "nfs", { "network", "nfs" } },
    { "ssh", { "network", "ssh" } },     { "http", { "network", "http" } },
    { "https", { "network", "https" } }, { "ftp", { "network", "ftp" } },
    { "nvme", { "nvme", NULL } },        { "vvfat", { "dir", NULL } },
};

/* By the protocol node where it is known, else by what the name looks like. */
static Source source_of (const Graph *graph, const GraphNode *node)
{
    const GraphNode *below = node;

    for (int i = 0; i < DEPTH_MAX && below->file && graph_node (graph, below->file); i++)
        below = graph_node (graph, below->file);
    for (guint i = 0; i < G_N_ELEMENTS (sources); i++)
        if (g_str_equal (below->driver, sources[i].driver))
            return sources[i].source;
    g_autofree char *scheme = g_uri_parse_scheme (node->filename);
    for (guint i = 0; scheme && i < G_N_ELEMENTS (sources); i++)
        if (sources[i].source.protocol && g_str_has_prefix (scheme, sources[i].source.protocol))
            return sources[i].source;
    return g_str_has_prefix (node->filename, "/dev/") ? (Source){ "block", NULL }
                                                      : (Source){ "file", NULL };
}

static guint chain_depth (const Graph *graph, const GraphNode *node)
{
    guint depth = 0;

    for (; node && depth < DEPTH_MAX; depth++) {
        if (!node->backing)
            return depth + (node->backing_filename != NULL);
        node = graph_node (graph, node->backing);
    }
    return depth;
}

static void fill_names (const GraphDisk *disk, bak_disk *ret)
{
    guint count = MIN (disk->names->len, BAK_NAMES_MAX);

    ret->names.names_val = ret_array (count, sizeof (bak_path));
    ret->names.names_len = count;
    for (guint i = 0; i < count; i++)
        ret->names.names_val[i] = ret_text (disk->names->pdata[i], BAK_PATH_MAX);
}

static const char *shown_device (const GraphDisk *disk)
{
    if (disk->cdrom)
        return "cdrom";
    return disk->bus && g_str_equal (disk->bus, "fdc") ? "floppy" : "disk";
}

void info_disk (const Graph *graph, const GraphDisk *disk, bak_disk *ret)
{
    const GraphNode *node = disk->node ? graph_node (graph, disk->node) : NULL;
    const char *rule = graph_disk_excluded (disk);

    fill_names (disk, ret);
    ret->target = ret_text (disk->target, BAK_NAME_MAX);
    ret->node = ret_text (disk->node, BAK_NAME_MAX);
    ret->source = ret_text (node ? node->filename : NULL, BAK_PATH_MAX);
    ret->type = ret_string (node ? source_of (graph, node).type : "file");
    ret->device = ret_string (shown_device (disk));
    ret->format = ret_text (node ? node->driver : NULL, BAK_NAME_MAX);
    ret->bus = ret_text (disk->bus, BAK_NAME_MAX);
    ret->iothread = ret_text (disk->iothread, BAK_NAME_MAX);
    ret->capacity = node ? node->virtual_size : disk->size;
    ret->readonly = disk->read_only;
    ret->empty = disk->empty;
    ret->removable = disk->removable;
    ret->selected = rule == NULL || disk->elsewhere; /* to leave it out has to be said */
    ret->note = ret_text (rule, BAK_MESSAGE_MAX);
    ret->depth = node ? chain_depth (graph, node) : 0;
    if (node)
        files_sizes (node->filename, node->has_actual_size, node->actual_size, &ret->allocation,
                     &ret->physical);
}

void info_disks (const Graph *graph, bak_disks_ret *ret)
{
    guint count = MIN (graph->disks->len, BAK_DISKS_MAX);

    ret->disks.disks_val = ret_array (count, sizeof (bak_disk));
    ret->disks.disks_len = count;
    for (guint i = 0; i < count; i++)
        info_disk (graph, graph->disks->pdata[i], &ret->disks.disks_val[i]);
}

/* The document */

/* Whatever text was, it is one attribute or one text of well-formed XML afterwards. */
static char *xml_escape (const char *text)
{
    g_autofree char *clean = text_sanitize (text, BAK_PATH_MAX);
    return g_markup_escape_text (clean, -1);
}

static void xml_attribute (GString *xml, const char *name, const char *value)
{
    g_autofree char *escaped = value && *value ? xml_escape (value) : NULL;
    if (escaped)
        g_string_append_printf (xml, " %s='%s'", name, escaped);
}

static void xml_element (GString *xml, const char *indent, const char *name, const char *text)
{
    g_autofree char *escaped = xml_escape (text);
    g_string_append_printf (xml, "%s<%s>%s</%s>\n", indent, name, escaped, name);
}

/* nbd://HOST:PORT/NAME, nbd+unix:///NAME?socket=PATH; what is no URI is a name. */
static void xml_network (GString *xml, const char *indent, const char *protocol,
                         const char *filename)
{
    g_autoptr (GUri) uri =
        g_uri_parse (filename, G_URI_FLAGS_PARSE_RELAXED | G_URI_FLAGS_NON_DNS, NULL);
    g_autoptr (GHashTable) query =
        uri && g_uri_get_query (uri)
            ? g_uri_parse_params (g_uri_get_query (uri), -1, "&", G_URI_PARAMS_NONE, NULL)
            : NULL;
    const char *socket = query ? g_hash_table_lookup (query, "socket") : NULL;
    const char *host = uri ? g_uri_get_host (uri) : NULL;
    const char *name = uri && (host || socket) ? g_uri_get_path (uri) : filename;
    g_autofree char *port =
        uri && g_uri_get_port (uri) > 0 ? g_strdup_printf ("%d", g_uri_get_port (uri)) : NULL;

    if (name != filename && *name == '/')
        name++;
    else if (name == filename && g_str_has_prefix (name, protocol)
             && name[strlen (protocol)] == ':')
        name += strlen (protocol) + 1;
    g_string_append_printf (xml, "%s<source protocol='%s'", indent, protocol);
    xml_attribute (xml, "name", name);
    if (!socket && !(host && *host)) {
        g_string_append (xml, "/>\n");
        return;
    }
    g_string_append_printf (xml, ">\n%s  <host", indent);
    if (socket) {
        xml_attribute (xml, "transport", "unix");
        xml_attribute (xml, "socket", socket);
    } else {
        xml_attribute (xml, "name", host);
        xml_attribute (xml, "port", port);
    }
    g_string_append_printf (xml, "/>\n%s</source>\n", indent);
}

static void xml_source (GString *xml, const char *indent, const char *type, const char *protocol,
                        const char *filename)
{
    if (!filename || !*filename)
        return;
    if (protocol) {
        xml_network (xml, indent, protocol, filename);
        return;
    }
    g_string_append_printf (xml, "%s<source", indent);
    xml_attribute (xml,
                   g_str_equal (type, "block") ? "dev"
                   : g_str_equal (type, "dir") ? "dir"
                                               : "file",
                   filename);
    g_string_append (xml, "/>\n");
}

static void xml_backing (GString *xml, const char *indent, const Graph *graph,
                         const GraphNode *node, guint depth)
{
    const GraphNode *below = node && node->backing ? graph_node (graph, node->backing) : NULL;

    if (!below || depth > DEPTH_MAX) {
        g_string_append_printf (xml, "%s<backingStore/>\n", indent);
        return;
    }
    g_autofree char *inner = g_strconcat (indent, "  ", NULL);
    Source source = source_of (graph, below);
    g_string_append_printf (xml, "%s<backingStore type='%s'>\n%s<format", indent, source.type,
                            inner);
    xml_attribute (xml, "type", below->driver);
    g_string_append (xml, "/>\n");
    xml_source (xml, inner, source.type, source.protocol, below->filename);
    xml_backing (xml, inner, graph, below, depth + 1);
    g_string_append_printf (xml, "%s</backingStore>\n", indent);
}

static const char *protocol_of (const Graph *graph, const bak_disk *disk)
{
    const GraphNode *node = graph && *disk->node ? graph_node (graph, disk->node) : NULL;
    return node ? source_of (graph, node).protocol : NULL;
}

static void xml_disk (GString *xml, const Graph *graph, const bak_disk *disk)
{
    g_string_append (xml, "    <disk");
    xml_attribute (xml, "type", disk->type);
    xml_attribute (xml, "device", disk->device);
    g_string_append (xml, ">\n      <driver name='qemu'");
    xml_attribute (xml, "type", disk->format);
    xml_attribute (xml, "iothread", disk->iothread);
    g_string_append (xml, "/>\n");
    xml_source (xml, "      ", disk->type, protocol_of (graph, disk), disk->source);
    if (!disk->empty)
        xml_backing (xml, "      ", graph, graph ? graph_node (graph, disk->node) : NULL, 0);
    g_string_append (xml, "      <target");
    xml_attribute (xml, "dev", disk->target);
    xml_attribute (xml, "bus", disk->bus);
    g_string_append (xml, "/>\n");
    if (disk->readonly)
        g_string_append (xml, "      <readonly/>\n");
    g_string_append (xml, "    </disk>\n");
}

static void xml_firmware (GString *xml, const InfoDomain *domain)
{
    g_autofree char *loader = domain->loader ? xml_escape (domain->loader) : NULL,
                    *nvram = domain->nvram ? xml_escape (domain->nvram) : NULL;
    if (loader)
        g_string_append_printf (xml, "    <loader readonly='%s' type='pflash'>%s</loader>\n",
                                domain->loader_writable ? "no" : "yes", loader);
    if (!nvram)
        return;
    g_string_append (xml, "    <nvram");
    xml_attribute (xml, "format", domain->nvram_format);
    g_string_append_printf (xml, ">%s</nvram>\n", nvram);
}

static void xml_tpm (GString *xml, const InfoDomain *domain)
{
    if (!domain->tpm_model)
        return;
    g_string_append (xml, "    <tpm");
    xml_attribute (xml, "model", domain->tpm_model);
    g_string_append (xml, ">\n      <backend");
    xml_attribute (xml, "type", domain->tpm_backend);
    if (domain->tpm_path) {
        g_string_append (xml, ">\n        <device");
        xml_attribute (xml, "path", domain->tpm_path);
        g_string_append (xml, "/>\n      </backend>\n    </tpm>\n");
    } else {
        g_string_append (xml, "/>\n    </tpm>\n");
    }
}

char *info_xml (const InfoDomain *domain, const Graph *graph, const bak_disks_ret *disks)
{
    GString *xml = g_string_new ("<domain");

    xml_attribute (xml, "type", domain->kvm ? "kvm" : "qemu");
    if (domain->number >= 0)
        g_string_append_printf (xml, " id='%d'", domain->number);
    g_string_append (xml, ">\n");
    xml_element (xml, "  ", "name", domain->name);
    xml_element (xml, "  ", "uuid", domain->uuid);
    g_string_append_printf (xml, "  <memory unit='KiB'>%" G_GUINT64_FORMAT "</memory>\n",
                            domain->memory_kib);
    g_string_append_printf (xml,
                            "  <currentMemory unit='KiB'>%" G_GUINT64_FORMAT "</currentMemory>\n",
                            domain->memory_kib);
    g_string_append_printf (xml, "  <vcpu placement='static'>%u</vcpu>\n  <os>\n    <type",
                            MAX (domain->cpus, 1));
    xml_attribute (xml, "arch", domain->arch ? domain->arch : "x86_64");
    xml_attribute (xml, "machine", domain->machine);
    g_string_append (xml, ">hvm</type>\n");
    xml_firmware (xml, domain);
    g_string_append (xml, "  </os>\n  <devices>\n");
    if (domain->emulator)
        xml_element (xml, "    ", "emulator", domain->emulator);
    for (guint i = 0; i < disks->disks.disks_len; i++)
        xml_disk (xml, graph, &disks->disks.disks_val[i]);
    xml_tpm (xml, domain);
    g_string_append (xml, "  </devices>\n</domain>\n");
    return g_string_free (xml, FALSE);
}

/* What a guest is, asked of its monitor or of its images. On the guest's thread. */

static void clear_disks (bak_disks_ret *disks)
{
    call_clear_ret (CALL_ID_domain_disks, disks);
}

typedef bak_disks_ret Disks;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Disks, clear_disks)

/* A guest that runs is asked; one whose monitor is gone is off, which is no error here. *ret_graph
 * NULL: off. */
static gboolean graph_if_running (Guest *guest, Graph **ret_graph, GError **error)
{
    g_autoptr (GError) why = NULL;
    Graph *graph = NULL;

    both_settle (guest);
    if (guest_is_offline (guest) && !guest->qmp) {
        *ret_graph = NULL;
        return TRUE;
    }
    if (guest_acquire (guest, &why))
        graph = checkpoint_look (guest, &why);
    if (graph || error_code (why) == BAK_ERROR_CONNECTION) {
        *ret_graph = graph;
        return TRUE;
    }
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

static void fill_item (Guest *guest, const Graph *graph, bak_domain_item *item, int *ret_reason)
{
    gboolean off = !graph || guest_is_offline (guest);
    g_autofree char *checkpoints = g_build_filename (guest->dir, "checkpoints", NULL);
    g_autoptr (GDir) entries = g_dir_open (checkpoints, 0, NULL);
    const char *name;

    *ret_reason = 0;
    item->name = ret_string (guest->def->name);
    item->uuid = ret_string (guest->def->uuid);
    item->state = off ? DOMAIN_STATE_SHUTOFF : info_state (graph->status, ret_reason);
    item->id = off ? -1 : guest->number;
    while (entries && (name = g_dir_read_name (entries)))
        item->has_checkpoint |= g_str_has_suffix (name, ".json");
}

static void fill_notes (Guest *guest, const Graph *graph, bak_domain_info *ret)
{
    g_autofree char *note = guest_is_offline (guest) ? offline_note (guest) : NULL;

    if (!note && !graph && !guest_is_offline (guest))
        note = g_strdup_printf (_("nobody listens on monitor '%s': the guest does not run"),
                                guest->def->qmp);
    if (!note)
        return;
    ret->notes.notes_val = ret_array (1, sizeof (bak_message));
    ret->notes.notes_len = 1;
    ret->notes.notes_val[0] = ret_text (note, BAK_MESSAGE_MAX);
}

gboolean guest_info (Guest *guest, bak_domain_info *ret, GError **error)
{
    g_autoptr (Graph) graph = NULL;
    const char *version = NULL;

    if (!graph_if_running (guest, &graph, error))
        return FALSE;
    fill_item (guest, graph, &ret->item, &ret->reason);
    fill_notes (guest, graph, ret);
    if (guest->qmp)
        qmp_get_version (guest->qmp, &version);
    ret->qemu_version = ret_text (version, BAK_NAME_MAX);
    ret->qmp = ret_text (guest->def->qmp, BAK_PATH_MAX);
    ret->agent = ret_text (guest->def->agent, BAK_PATH_MAX);
    ret->persistent = TRUE;
    ret->images = guest_shape (guest)->images->len;
    if (graph && !guest_is_offline (guest)) {
        ret->max_memory = ret->memory = graph->memory;
        ret->cpus = graph->cpus;
        ret->pid = discover_process (guest->def->qmp, qmp_get_peer_pid (guest->qmp));
        ret->cpu_time = process_cpu_time (ret->pid);
    }
    ret->job = board_running (&guest->board);
    return TRUE;
}

gboolean guest_state (Guest *guest, bak_state_ret *ret, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (JsonNode) node = NULL;

    guint news = 0;
    ret->state = DOMAIN_STATE_SHUTOFF;
    ret->reason = 0;
    both_settle (guest);
    if (guest_is_offline (guest))
        return TRUE;
    if (guest_acquire (guest, &why)) {
        news = guest->news;
        node = qmp_execute (guest->qmp, "query-status", NULL, ASK_TIMEOUT_MS, &why);
    }
    if (!node && error_code (why) == BAK_ERROR_CONNECTION)
        return TRUE;
    if (!node && g_strcmp0 (qmp_error_class (why), "CommandNotFound") != 0) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    const char *status = json_get_string (object, "status");
    ret->state = info_state (status, &ret->reason);
    if (g_strcmp0 (status, "running") == 0)
        guest_note_running (guest, news);
    return TRUE;
}

gboolean guest_disks (Guest *guest, bak_disks_ret *ret, GError **error)
{
    g_autoptr (Graph) graph = NULL;

    both_settle (guest);
    if (guest_is_offline (guest))
        return offline_disks (guest, ret, error);
    if (!graph_if_running (guest, &graph, error))
        return FALSE;
    if (!graph)
        return remember_disks (guest, ret) || guest_acquire (guest, error);
    info_disks (graph, ret);
    remember_guest (guest, ret, NULL);
    return TRUE;
}

static const struct {
    const char *key;
    gsize offset;
} counters[] = {
#define COUNTER(key, field)                                                                        \
    {                                                                                              \
        key, G_STRUCT_OFFSET (bak_block_stats_ret, field)                                          \
    }
    COUNTER ("wr_bytes", wr_bytes),
    COUNTER ("wr_operations", wr_operations),
    COUNTER ("rd_bytes", rd_bytes),
    COUNTER ("rd_operations", rd_operations),
    COUNTER ("wr_total_time_ns", wr_time),
    COUNTER ("rd_total_time_ns", rd_time),
    COUNTER ("flush_operations", flush_operations),
    COUNTER ("flush_total_time_ns", flush_time),
#undef COUNTER
};

/* QEMU counts by devices: new ones are told by their path or id, old drives by their id. */
static gboolean counts_for (JsonObject *entry, const GraphDisk *disk)
{
    const char *qdev = json_get_string (entry, "qdev"), *device = json_get_string (entry, "device");
    return (disk->qdev && g_strcmp0 (qdev, disk->qdev) == 0)
           || (disk->device && *disk->device && g_strcmp0 (device, disk->device) == 0);
}

/* FALSE: nobody counts for this disk. */
static gboolean add_counters (JsonArray *list, const GraphDisk *disk, bak_block_stats_ret *ret)
{
    gboolean found = FALSE;
    for (guint i = 0; !found && i < json_array_get_length (list); i++) {
        JsonObject *entry = json_get_element (list, i), *stats = json_get_object (entry, "stats");
        found = stats && counts_for (entry, disk);
        for (guint k = 0; found && k < G_N_ELEMENTS (counters); k++)
            *(uint64_t *) ((char *) ret + counters[k].offset) +=
                MAX (0, json_get_int (stats, counters[k].key, 0));
    }
    return found;
}

gboolean guest_block_stats (Guest *guest, const char *name, bak_block_stats_ret *ret,
                            GError **error)
{
    both_settle (guest);
    if (guest_is_offline (guest))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("guest '%s' is attached powered off: it does nothing to its disks"),
                          guest->def->name);
    g_autoptr (Graph) graph =
        guest_acquire (guest, error) ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    const GraphDisk *one = graph && *name ? graph_disk (graph, name, error) : NULL;
    if (!graph || (*name && !one))
        return FALSE;
    g_autoptr (JsonNode) node =
        qmp_execute (guest->qmp, "query-blockstats", NULL, ASK_TIMEOUT_MS, error);
    if (!node)
        return FALSE;
    g_autoptr (JsonArray) none = json_array_new ();
    JsonArray *list = JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : none;
    for (guint i = 0; !one && i < graph->disks->len; i++)
        add_counters (list, graph->disks->pdata[i], ret);
    return !one || add_counters (list, one, ret)
           || error_set (
               error, BAK_ERROR_NOT_SUPPORTED,
               _("disk '%s': no device of the guest uses it, and QEMU counts by devices"),
               one->target);
}

/* The string member of the answer to a question that this QEMU may not know; NULL then. */
static char *ask_string (Guest *guest, const char *command, JsonObject *args, const char *member)
{
    g_autoptr (JsonNode) node = qmp_execute (guest->qmp, command, args, ASK_TIMEOUT_MS, NULL);

    if (!node)
        return NULL;
    if (!member)
        return JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING
                   ? json_node_dup_string (node)
                   : NULL;
    JsonObject *object = JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    return g_strdup (json_get_string (object, member));
}

static gboolean ask_kvm (Guest *guest)
{
    g_autoptr (JsonNode) node = qmp_execute (guest->qmp, "query-kvm", NULL, ASK_TIMEOUT_MS, NULL);

    return node && JSON_NODE_HOLDS_OBJECT (node)
           && json_get_bool (json_node_get_object (node), "enabled", FALSE);
}

/* "pc-i440fx-7.2-machine" is the type of machine pc-i440fx-7.2. */
static char *ask_machine (Guest *guest)
{
    JsonObject *args = json_object_new ();

    json_object_set_string_member (args, "path", "/machine");
    json_object_set_string_member (args, "property", "type");
    char *type = ask_string (guest, "qom-get", args, NULL);
    if (type && g_str_has_suffix (type, "-machine"))
        type[strlen (type) - strlen ("-machine")] = '\0';
    return type;
}

/* The program behind the monitor. A socket that QEMU was handed belongs to whoever made it, which
 * is no QEMU. */
static char *find_emulator (Guest *guest)
{
    g_autofree char *link = g_strdup_printf ("/proc/%d/exe", qmp_get_peer_pid (guest->qmp));
    g_autofree char *path = g_file_read_link (link, NULL);
    g_autofree char *base = path ? g_path_get_basename (path) : NULL;

    return base && g_str_has_prefix (base, "qemu") ? g_steal_pointer (&path) : NULL;
}

static char *ask_machine_property (Guest *guest, const char *property)
{
    return ask_string (guest, "qom-get",
                       obj ("path", "s", "/machine", "property", "s", property, NULL), NULL);
}

/* The node that a drive of this name, or of none, has in it. */
static const GraphNode *firmware_node (const Graph *graph, char *name)
{
    g_autofree char *owned = name;
    const GraphNode *node = name && *name ? graph_node (graph, name) : NULL;
    for (guint i = 0; name && !node && i < graph->disks->len; i++) {
        const GraphDisk *disk = graph->disks->pdata[i];
        if (g_strcmp0 (disk->device, name) == 0)
            node = disk->node ? graph_node (graph, disk->node) : NULL;
    }
    return node;
}

static const char *firmware_file (const Graph *graph, const GraphNode *node)
{
    const GraphNode *file = node && node->file ? graph_node (graph, node->file) : NULL;
    const char *path = file ? file->filename : node ? node->filename : NULL;
    return path && g_path_is_absolute (path) ? path : NULL;
}

/* The first flash holds the program, the second what it remembers. */
static void ask_firmware (Guest *guest, const Graph *graph, InfoDomain *domain)
{
    const GraphNode *code = firmware_node (graph, ask_machine_property (guest, "pflash0")),
                    *variables = firmware_node (graph, ask_machine_property (guest, "pflash1"));
    domain->loader = firmware_file (graph, code);
    domain->loader_writable = code && !code->read_only;
    if (!variables)
        return;
    domain->nvram = firmware_file (graph, variables);
    domain->nvram_format = variables->driver;
    if (!domain->nvram) /* it has some, and they are in no file */
        domain->nvram = "";
}

static void ask_tpm (Guest *guest, InfoDomain *domain)
{
    g_autoptr (JsonNode) node = qmp_execute (guest->qmp, "query-tpm", NULL, ASK_TIMEOUT_MS, NULL);
    JsonArray *list = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    JsonObject *tpm = list && json_array_get_length (list) ? json_get_element (list, 0) : NULL,
               *options = tpm ? json_get_object (tpm, "options") : NULL,
               *data = options ? json_get_object (options, "data") : NULL;
    if (!tpm)
        return;
    domain->tpm_model = g_strdup (json_get_string (tpm, "model"));
    domain->tpm_backend = g_strdup (json_get_string (options, "type"));
    domain->tpm_path = g_strdup (json_get_string (data, "path"));
}

char *guest_xml (Guest *guest, GError **error)
{
    g_autoptr (Graph) graph = NULL;
    g_auto (Disks) disks = { 0 };
    g_autofree char *arch = NULL, *machine = NULL, *emulator = NULL;
    InfoDomain domain = {
        .name = guest->def->name, .uuid = guest->def->uuid, .number = -1, .cpus = 1
    };

    both_settle (guest);
    if (guest_is_offline (guest)) {
        if (!offline_disks (guest, &disks, error))
            return NULL;
    } else {
        if (!graph_if_running (guest, &graph, error))
            return NULL;
        if (!graph) {
            char *seen = remember_xml (guest);
            if (!seen)
                guest_acquire (guest, error);
            return seen;
        }
        info_disks (graph, &disks);
        domain.arch = arch = ask_string (guest, "query-target", NULL, "arch");
        domain.machine = machine = ask_machine (guest);
        domain.emulator = emulator = find_emulator (guest);
        domain.kvm = ask_kvm (guest);
        domain.memory_kib = graph->memory / 1024;
        domain.cpus = graph->cpus;
        ask_firmware (guest, graph, &domain);
        ask_tpm (guest, &domain);
        g_autofree char *seen = info_xml (&domain, graph, &disks);
        remember_guest (guest, &disks, seen);
        domain.number = guest->number;
    }
    char *xml = info_xml (&domain, graph, &disks);
    g_free (domain.tpm_model);
    g_free (domain.tpm_backend);
    g_free (domain.tpm_path);
    return xml;
}
