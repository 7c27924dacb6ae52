/* Guests in libvirt's words, from recorded answers of a QEMU with one disk of each kind. */
#include <check.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <stdlib.h>
#include <string.h>
#include "driver/qemu/info.h"
#include "support.h"
#include "util/json.h"

static JsonNode *answers;
static Graph *graph;
static bak_disks_ret disks;
static char *xml;
static xmlDoc *doc;
static xmlXPathContext *xpath;

static JsonNode *member (const char *name)
{
    return json_object_get_member (json_node_get_object (answers), name);
}

static void setup (void)
{
    g_autofree char *path = data_file ("guest-7.2.json"), *text = NULL;
    InfoDomain domain = { .name = "a<b>&'\"",
                          .uuid = "11111111-2222-3333-4444-555555555555",
                          .number = 3,
                          .arch = "x86_64",
                          .machine = "pc-i440fx-7.2",
                          .emulator = "/usr/bin/qemu-system-x86_64",
                          .memory_kib = 262144,
                          .cpus = 2,
                          .loader = "/fw/<code>",
                          .nvram = "/fw/vars&",
                          .nvram_format = "raw",
                          .tpm_model = (char *) "tpm-crb",
                          .tpm_backend = (char *) "passthrough",
                          .tpm_path = (char *) "/dev/tpm0" };
    g_autoptr (GError) error = NULL;

    ck_assert (g_file_get_contents (path, &text, NULL, NULL));
    answers = json_read (text, -1, NULL);
    GraphAnswers given = {
        .named_block_nodes = member ("named_block_nodes"),
        .block = member ("block"),
        .jobs = member ("jobs"),
        .exports = member ("exports"),
        .status = member ("status"),
        .uuid = member ("uuid"),
        .name = member ("name"),
        .block_graph = member ("block_graph"),
        .memory = member ("memory"),
        .cpus = member ("cpus"),
        .iothreads = member ("iothreads"),
    };
    graph = graph_from_answers (&given, NULL, &error);
    ck_assert_msg (graph != NULL, "%s", error ? error->message : "");
    memset (&disks, 0, sizeof disks);
    info_disks (graph, &disks);
    xml = info_xml (&domain, graph, &disks);
    doc = xmlReadMemory (xml, strlen (xml), "x", NULL, XML_PARSE_NONET);
    ck_assert_msg (doc != NULL, "%s", xml);
    xpath = xmlXPathNewContext (doc);
}

static void teardown (void)
{
    xmlXPathFreeContext (xpath);
    xmlFreeDoc (doc);
    g_free (xml);
    call_clear_ret (CALL_ID_domain_disks, &disks);
    graph_free (graph);
    json_node_unref (answers);
}

/* want NULL: nothing is found there. D is the disk with the source that contains the text before
 * the blank. */
static const struct {
    const char *path, *want;
} rows[] = {
    { "string(/domain/@type)", "qemu" },
    { "string(/domain/os/loader[@readonly='yes'][@type='pflash'])", "/fw/<code>" },
    { "string(/domain/os/nvram[@format='raw'])", "/fw/vars&" },
    { "string(/domain/devices/tpm[@model='tpm-crb']/backend/@type)", "passthrough" },
    { "string(/domain/devices/tpm/backend/device/@path)", "/dev/tpm0" },
    { "string(/domain/@id)", "3" },
    { "string(/domain/name)", "a<b>&'\"" },
    { "string(/domain/uuid)", "11111111-2222-3333-4444-555555555555" },
    { "string(/domain/memory)", "262144" },
    { "string(/domain/memory/@unit)", "KiB" },
    { "string(/domain/currentMemory)", "262144" },
    { "string(/domain/vcpu)", "2" },
    { "string(/domain/os/type)", "hvm" },
    { "string(/domain/os/type/@arch)", "x86_64" },
    { "string(/domain/os/type/@machine)", "pc-i440fx-7.2" },
    { "string(/domain/devices/emulator)", "/usr/bin/qemu-system-x86_64" },
    { "string(count(/domain/devices/disk))", "6" },
    { "string(//disk[target/@dev='virtio-disk0']/@type)", "file" },
    { "string(//disk[target/@dev='virtio-disk0']/@device)", "disk" },
    { "string(//disk[target/@dev='virtio-disk0']/driver/@name)", "qemu" },
    { "string(//disk[target/@dev='virtio-disk0']/driver/@type)", "qcow2" },
    { "string(//disk[target/@dev='virtio-disk0']/source/@file)", "/images/top & <1>.qcow2" },
    { "string(//disk[target/@dev='virtio-disk0']/backingStore/@type)", "file" },
    { "string(//disk[target/@dev='virtio-disk0']/backingStore/format/@type)", "qcow2" },
    { "string(//disk[target/@dev='virtio-disk0']/backingStore/source/@file)",
      "/images/base.qcow2" },
    { "string(count(//disk[target/@dev='virtio-disk0']/backingStore/backingStore[not(*)]))", "1" },
    { "string(//disk[source/@file='/images/b.raw']/driver/@type)", "raw" },
    { "string(count(//disk[source/@file='/images/b.raw']/backingStore[not(*)]))", "1" },
    { "string(//disk[source/@protocol='nbd']/@type)", "network" },
    { "string(//disk[source/@protocol='nbd']/source/@name)", "exp" },
    { "string(//disk[source/@protocol='nbd']/source/host/@transport)", "unix" },
    { "string(//disk[source/@protocol='nbd']/source/host/@socket)", "/images/n.sock" },
    { "string(//disk[source/@file='/images/cd.iso']/@device)", "cdrom" },
    { "string(count(//disk[source/@file='/images/cd.iso']/readonly))", "1" },
    { "string(count(//disk[not(source)]))", "2" },
    { "string(count(//disk[not(source)]/backingStore))", "0" },
    { "string(count(//disk[not(target/@dev)]))", "0" },
};

START_TEST (the_document_says_what_the_guest_has)
{
    xmlXPathObject *found = xmlXPathEvalExpression (BAD_CAST rows[_i].path, xpath);

    ck_assert_ptr_nonnull (found);
    ck_assert_msg (g_strcmp0 ((char *) found->stringval, rows[_i].want) == 0, "%s is '%s'\n%s",
                   rows[_i].path, found->stringval, xml);
    xmlXPathFreeObject (found);
}
END_TEST

static const bak_disk *by_source (const char *source)
{
    for (guint i = 0; i < disks.disks.disks_len; i++)
        if (strstr (disks.disks.disks_val[i].source, source))
            return &disks.disks.disks_val[i];
    ck_abort_msg ("no disk with source %s", source);
    return NULL;
}

START_TEST (the_list_says_what_a_backup_would_take)
{
    const bak_disk *first = by_source ("top &"), *throttled = by_source ("b.raw"),
                   *cdrom = by_source ("cd.iso");
    guint empty = 0;

    ck_assert_uint_eq (disks.disks.disks_len, 6);
    ck_assert (first->selected && throttled->selected && by_source ("nbd+unix")->selected
               && !cdrom->selected);
    ck_assert_str_eq (first->note, "");
    ck_assert_uint_eq (first->depth, 1);
    ck_assert_uint_eq (first->capacity, 64 * 1024 * 1024);
    ck_assert_str_eq (throttled->node, "fmt1");
    ck_assert_uint_eq (throttled->depth, 0);
    ck_assert_msg (strstr (cdrom->note, "CD-ROM") || strstr (cdrom->note, "read-only"), "%s",
                   cdrom->note);
    for (guint i = 0; i < disks.disks.disks_len; i++) {
        const bak_disk *disk = &disks.disks.disks_val[i];
        empty += disk->empty;
        ck_assert (!disk->empty || (!disk->selected && *disk->note));
        ck_assert_uint_gt (disk->names.names_len, 0);
        ck_assert_str_eq (disk->names.names_val[0], disk->target);
    }
    ck_assert_uint_eq (empty, 2);
}
END_TEST

static const struct {
    const char *status;
    int state, reason;
} states[] = {
    { "running", DOMAIN_STATE_RUNNING, 1 },
    { "paused", DOMAIN_STATE_PAUSED, 1 },
    { "io-error", DOMAIN_STATE_PAUSED, 5 },
    { "shutdown", DOMAIN_STATE_SHUTDOWN, 0 },
    { "guest-panicked", DOMAIN_STATE_CRASHED, 1 },
    { "suspended", DOMAIN_STATE_PMSUSPENDED, 0 },
    { NULL, DOMAIN_STATE_RUNNING, 0 },
    { "prelaunch", DOMAIN_STATE_PAUSED, 11 },
    { "from-the-future", DOMAIN_STATE_NOSTATE, 0 },
};

START_TEST (states_are_libvirts)
{
    int reason = -1;

    ck_assert_int_eq (info_state (states[_i].status, &reason), states[_i].state);
    ck_assert_int_eq (reason, states[_i].reason);
}
END_TEST

/* What a QEMU that a guest has taken over might call itself. */
START_TEST (no_name_breaks_the_document)
{
    InfoDomain domain = { .name = "\x01\xff]]><!--&",
                          .uuid = "\"",
                          .number = -1,
                          .machine = "'/><x>",
                          .emulator = "\n" };
    bak_disk evil = { .target = (char *) "'\"><&\x02",
                      .source = (char *) "/\xfe'/><disk>",
                      .type = (char *) "file",
                      .device = (char *) "disk",
                      .format = (char *) "raw'",
                      .bus = (char *) "",
                      .iothread = (char *) "<",
                      .node = (char *) "" };
    bak_disks_ret list = { .disks = { 1, &evil } };
    g_autofree char *text = info_xml (&domain, NULL, &list);
    xmlDoc *parsed = xmlReadMemory (text, strlen (text), "x", NULL, XML_PARSE_NONET);

    ck_assert_msg (parsed != NULL, "%s", text);
    ck_assert_ptr_null (strstr (text, " id="));
    xmlFreeDoc (parsed);
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("info");

    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_add_loop_test (tcase, the_document_says_what_the_guest_has, 0, G_N_ELEMENTS (rows));
    tcase_add_test (tcase, the_list_says_what_a_backup_would_take);
    tcase_add_loop_test (tcase, states_are_libvirts, 0, G_N_ELEMENTS (states));
    tcase_add_test (tcase, no_name_breaks_the_document);
    return run_tcase (tcase);
}
