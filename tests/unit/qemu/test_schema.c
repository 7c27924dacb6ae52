#include <check.h>
#include "recorded.h"
#include "schema_check.h"

/* versions: those of recorded_versions (2.7, 5.2, 7.2, 10.0, 11.1) that accept it. */
static const struct {
    const char *command, *args, *versions;
} rows[] = {
    { "query-block", NULL, "+++++" },
    { "query-block", "{\"flat\":true}", "----+" },
    { "no-such-command", NULL, "-----" },
    { "BLOCK_JOB_COMPLETED", NULL, "-----" },
    { "blockdev-add",
      "{\"driver\":\"qcow2\",\"node-name\":\"a\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}"
      "}",
      "-++++" },
    { "blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"a\",\"file\":\"b\",\"backing\":null}",
      "-++++" },
    { "blockdev-add",
      "{\"driver\":\"qcow2\",\"node-name\":\"a\",\"file\":{\"driver\":\"file\",\"filename\":7}}",
      "-----" },
    { "blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"a\",\"file\":{\"driver\":\"file\"}}",
      "-----" },
    { "blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"a\"}", "-----" },
    { "blockdev-add", "{\"driver\":\"nonsense\",\"node-name\":\"a\"}", "-----" },
    { "blockdev-add",
      "{\"driver\":\"copy-before-write\",\"node-name\":\"a\",\"file\":\"b\",\"target\":\"c\",\"cbw-"
      "timeout\":45}",
      "--+++" },
    { "blockdev-add",
      "{\"options\":{\"driver\":\"qcow2\",\"id\":\"a\",\"file\":{\"driver\":\"file\",\"filename\":"
      "\"x\"}}}",
      "+----" },
    { "x-blockdev-del", "{\"id\":\"a\"}", "+----" },
    { "blockdev-backup", "{\"job-id\":\"j\",\"device\":\"a\",\"target\":\"b\",\"sync\":\"full\"}",
      "+++++" },
    { "blockdev-backup",
      "{\"job-id\":\"j\",\"device\":\"a\",\"target\":\"b\",\"sync\":\"sometimes\"}", "-----" },
    { "blockdev-backup", "{\"job-id\":\"j\",\"device\":\"a\",\"sync\":\"full\"}", "-----" },
    { "blockdev-backup",
      "{\"job-id\":\"j\",\"device\":\"a\",\"target\":\"b\",\"sync\":\"full\",\"auto-dismiss\":"
      "\"no\"}",
      "-----" },
    { "blockdev-backup",
      "{\"job-id\":\"j\",\"device\":\"a\",\"target\":\"b\",\"sync\":\"full\",\"x-perf\":{\"max-"
      "workers\":8}}",
      "--+++" },
    { "transaction",
      "{\"actions\":[{\"type\":\"blockdev-backup\",\"data\":{\"job-id\":\"j\",\"device\":\"a\","
      "\"target\":\"b\",\"sync\":\"none\"}}]}",
      "+++++" },
    { "transaction",
      "{\"actions\":[{\"type\":\"blockdev-add\",\"data\":{\"driver\":\"raw\",\"file\":\"b\"}}]}",
      "-----" },
    { "transaction",
      "{\"actions\":[{\"type\":\"block-dirty-bitmap-merge\",\"data\":{\"node\":\"a\",\"target\":"
      "\"t\",\"bitmaps\":[\"x\","
      "{\"node\":\"b\",\"name\":\"y\"}]}}],\"properties\":{\"completion-mode\":\"individual\"}}",
      "-++++" },
    { "block-export-add",
      "{\"type\":\"nbd\",\"id\":\"e\",\"node-name\":\"a\",\"bitmaps\":[{\"node\":\"a\",\"name\":"
      "\"b\"}]}",
      "--+++" },
    { "blockdev-reopen",
      "{\"options\":[{\"driver\":\"qcow2\",\"node-name\":\"t\",\"file\":\"tf\",\"read-only\":true}]"
      "}",
      "--+++" },
    { "qom-set", "{\"path\":\"/machine\",\"property\":\"drive\",\"value\":\"cbw\"}", "+++++" },
};

START_TEST (a_command_is_right_for_the_versions_that_take_it)
{
    for (guint v = 0; recorded_versions[v]; v++) {
        g_autoptr (JsonNode) schema = recorded_schema (recorded_versions[v]);
        g_autoptr (JsonNode) args = rows[_i].args ? json_from_string (rows[_i].args, NULL) : NULL;
        ck_assert (!rows[_i].args || args);
        g_autoptr (GError) error = NULL;
        gboolean right = schema_check_command (schema, rows[_i].command,
                                               args ? json_node_get_object (args) : NULL, &error);
        ck_assert_msg (right == (rows[_i].versions[v] == '+'), "row %d on %s: %s", _i,
                       recorded_versions[v], error ? error->message : "accepted");
        ck_assert (right == (error == NULL));
    }
}
END_TEST

START_TEST (a_complaint_names_the_way_to_the_member)
{
    g_autoptr (JsonNode) schema = recorded_schema ("7.2");
    g_autoptr (JsonNode) args = json_from_string (
        "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":7}}", NULL);
    g_autoptr (GError) error = NULL;
    ck_assert (!schema_check_command (schema, "blockdev-add", json_node_get_object (args), &error));
    ck_assert_str_eq (error->message, "blockdev-add: file: filename: string expected (type str)");
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("schema");
    TCase *tests = tcase_create ("schema");
    tcase_add_loop_test (tests, a_command_is_right_for_the_versions_that_take_it, 0,
                         G_N_ELEMENTS (rows));
    tcase_add_test (tests, a_complaint_names_the_way_to_the_member);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
