#include <check.h>
#include <string.h>
#include <glib/gstdio.h>
#include "driver/qemu/qmp.h"
#include "helper.h"
#include "recorded.h"

/* One column a version of recorded_versions: 2.7, 5.2, 7.2, 10.0, 11.1. */
static const struct {
    const char *field, *expected;
} rows[] = {
    { "blockdev_add_flat", "-++++" },
    { "blockdev_del", "-++++" },
    { "blockdev_create", "-++++" },
    { "jobs", "-++++" },
    { "backup_bitmap_mode", "-++++" },
    { "backup_filter_node_name", "-++++" },
    { "backup_compress", "-++++" },
    { "backup_auto_dismiss", "-++++" },
    { "backup_x_perf", "--+++" },
    { "backup_x_perf_min_cluster", "---++" },
    { "backup_discard_source", "---++" },
    { "backup_on_cbw_error", "----+" },
    { "mirror_skips_zeroes", "----+" },
    { "reopen", "--+++" },
    { "x_reopen", "-+---" },
    { "cbw", "--+++" },
    { "cbw_on_error", "--+++" },
    { "cbw_timeout", "--+++" },
    { "cbw_bitmap", "--+++" },
    { "cbw_min_cluster", "---++" },
    { "snapshot_access", "--+++" },
    { "snapshot_access_exact", "---++" },
    { "nbd_open_timeout", "--+++" },
    { "nbd_reconnect_delay", "-++++" },
    { "nbd_server_max_connections", "-++++" },
    { "export_add", "-++++" },
    { "getfd", "-++++" },
    { "export_bitmap_node", "--+++" },
    { "nbd_server_add", "+++++" },
    { "bitmap_merge", "-++++" },
    { "bitmap_disabled", "-++++" },
    { "yank", "--+++" },
    { "write_threshold", "+++++" },
    { "iothread_nbd_safe", "++-++" },
    { "iothread_view_safe", "---++" },
    { "concluded_backup_safe", "+-+++" },
    { "copies_wait", "--+++" },
    { "qom", "+++++" },
    { "transaction", "+++++" },
    { "qcow2_zstd", "--+++" },
    { "qcow2_extended_l2", "-++++" },
    { "raw_size", "-++++" },
    { "named_nodes_flat", "-++++" },
    { "block_flat", "----+" },
    { "block_graph", "-++++" },
    { "object_add_props", "++---" },
    { "storage_daemon", "-----" },
};

START_TEST (a_feature_is_there_in_the_versions_that_have_it)
{
    for (guint v = 0; recorded_versions[v]; v++) {
        g_autoptr (Caps) caps = recorded_caps (recorded_versions[v]);
        gboolean value = FALSE;
        ck_assert_msg (caps_get (caps, rows[_i].field, &value), "no field %s", rows[_i].field);
        ck_assert_msg (value == (rows[_i].expected[v] == '+'), "%s of %s is %d", rows[_i].field,
                       recorded_versions[v], value);
    }
}
END_TEST

START_TEST (every_field_has_a_row_here)
{
    for (const char *const *field = caps_fields (); *field; field++) {
        gboolean found = FALSE;
        for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
            found |= strcmp (rows[i].field, *field) == 0;
        ck_assert_msg (found, "%s is not tested", *field);
    }
}
END_TEST

START_TEST (a_storage_daemon_is_known_as_one_and_has_no_yank)
{
    for (guint v = 1; recorded_versions[v]; v++) {
        g_autoptr (Caps) caps = recorded_daemon_caps (recorded_versions[v]);
        ck_assert (caps->storage_daemon);
        ck_assert (!caps->yank);
        ck_assert (caps->transaction);
        ck_assert (caps->blockdev_add_flat);
    }
}
END_TEST

START_TEST (drivers_and_commands_are_listed)
{
    for (guint v = 0; recorded_versions[v]; v++) {
        g_autoptr (Caps) caps = recorded_caps (recorded_versions[v]);
        ck_assert (caps_has_driver (caps, "qcow2"));
        ck_assert (!caps_has_driver (caps, "no-such-driver"));
        ck_assert (caps_has_command (caps, "blockdev-backup"));
        ck_assert (!caps_has_command (caps, "BLOCK_JOB_COMPLETED"));
    }
}
END_TEST

START_TEST (commands_alone_tell_about_commands_alone)
{
    g_autoptr (JsonNode) commands = json_from_string (
        "[{\"name\":\"blockdev-del\"},{\"name\":\"query-jobs\"},{\"name\":\"\\u001b[31m\"},7,null]",
        NULL);
    g_autoptr (GError) error = NULL;
    g_autoptr (Caps) caps = caps_from_answers (NULL, commands, 7002000, "7.2\033[2J", &error);
    ck_assert_ptr_nonnull (caps);
    ck_assert (caps->jobs && caps->blockdev_del && !caps->blockdev_add_flat
               && !caps->backup_x_perf);
    ck_assert_uint_eq (g_hash_table_size (caps->commands), 2);
    ck_assert_str_eq (caps->version_text, "7.2\\x1b[2J");
}
END_TEST

static const char *const broken[] = {
    "7",
    "{}",
    "[]",
    "[1,\"x\",null]",
    "[{\"name\":\"blockdev-add\",\"meta-type\":\"command\",\"arg-type\":\"nowhere\"}]",
    "[{\"name\":\"blockdev-add\",\"meta-type\":\"command\",\"arg-type\":\"a\"},{\"name\":\"a\","
    "\"meta-type\":\"array\",\"element-type\":\"a\"}]",
    ("[{\"name\":\"block-export-add\",\"meta-type\":\"command\",\"arg-type\":\"a\"},{\"name\":"
     "\"a\",\"meta-type\":\"alternate\","
     "\"members\":[{\"type\":\"a\"},{\"type\":\"a\"}]}]"),
    "[{\"name\":\"blockdev-backup\",\"meta-type\":\"command\",\"arg-type\":7},{\"name\":\"x\","
    "\"meta-type\":\"object\",\"members\":{}}]",
};

START_TEST (a_schema_that_is_none_does_no_harm)
{
    g_autoptr (JsonNode) schema = json_from_string (broken[_i], NULL);
    g_autoptr (GError) error = NULL;
    g_autoptr (Caps) caps = caps_from_answers (schema, NULL, 0, NULL, &error);
    ck_assert ((caps == NULL) == (error != NULL));
    ck_assert (!caps || !caps->backup_x_perf);
}
END_TEST

START_TEST (an_8_x_reads_snapshots_exactly_and_a_7_2_does_not)
{
    g_autoptr (JsonNode) schema = recorded_schema ("7.2");
    static const struct {
        guint version;
        gboolean exact, iothread_safe, view_safe;
    } gates[] = { { 7001000, FALSE, TRUE, FALSE },  { 7002000, FALSE, FALSE, FALSE },
                  { 7002022, FALSE, FALSE, FALSE }, { 8000000, TRUE, TRUE, FALSE },
                  { 8002001, TRUE, TRUE, FALSE },   { 9000000, TRUE, TRUE, TRUE } };
    for (guint i = 0; i < G_N_ELEMENTS (gates); i++) {
        g_autoptr (Caps) caps = caps_from_answers (schema, NULL, gates[i].version, "", NULL);
        ck_assert_int_eq (caps->snapshot_access_exact, gates[i].exact);
        ck_assert_int_eq (caps->iothread_nbd_safe, gates[i].iothread_safe);
        ck_assert_int_eq (caps->iothread_view_safe, gates[i].view_safe);
    }
}
END_TEST

START_TEST (a_process_is_asked_for_its_schema_once)
{
    g_autofree char *name = g_strdup_printf ("caps-%d.log", (int) getpid ());
    g_autofree char *record = g_build_filename (g_get_tmp_dir (), name, NULL);
    const char *const args[] = {
        "python3", TESTS "/fake/fakeqemu.py", "--listen-fd", "%FD", "--record", record, NULL
    };
    Helper helper = { 0 };
    helper_start (&helper, 1, args);
    for (guint i = 0; i < 3; i++) {
        g_autoptr (GError) error = NULL;
        g_autoptr (Qmp) qmp = qmp_connect (helper.path, NULL, 30000, &error);
        ck_assert_msg (qmp != NULL, "%s", error ? error->message : "");
        g_autoptr (Caps) caps = caps_load (qmp, &error);
        ck_assert_msg (caps != NULL, "%s", error ? error->message : "");
        ck_assert (caps->cbw && caps_has_command (caps, "blockdev-backup")
                   && caps_has_driver (caps, "nbd"));
        ck_assert_uint_eq (caps->version, 7002022);
    }
    helper_stop (&helper);
    g_autofree char *sent = NULL;
    g_file_get_contents (record, &sent, NULL, NULL);
    g_unlink (record);
    const char *first = strstr (sent, "query-qmp-schema");
    ck_assert_ptr_nonnull (first);
    ck_assert_ptr_null (strstr (first + 1, "query-qmp-schema"));
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("caps");
    TCase *tests = tcase_create ("caps");
    tcase_add_loop_test (tests, a_feature_is_there_in_the_versions_that_have_it, 0,
                         G_N_ELEMENTS (rows));
    tcase_add_test (tests, every_field_has_a_row_here);
    tcase_add_test (tests, a_storage_daemon_is_known_as_one_and_has_no_yank);
    tcase_add_test (tests, drivers_and_commands_are_listed);
    tcase_add_test (tests, commands_alone_tell_about_commands_alone);
    tcase_add_loop_test (tests, a_schema_that_is_none_does_no_harm, 0, G_N_ELEMENTS (broken));
    tcase_add_test (tests, an_8_x_reads_snapshots_exactly_and_a_7_2_does_not);
    tcase_add_test (tests, a_process_is_asked_for_its_schema_once);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
