/* Which guests are at home, so that they can be backed up, and how they are kept there. */
#include <check.h>
#include <string.h>
#include "driver/qemu/migration.h"
#include "driver/qemu/plan.h"
#include "recorded.h"

static const struct {
    const char *status, *migration;
    gboolean home;
} states[] = {
    { "running", NULL, TRUE },
    { "running", "", TRUE },
    { "running", "none", TRUE },
    { "running", "completed", TRUE },
    { "running", "failed", TRUE },
    { "running", "cancelled", TRUE },
    { "paused", "", TRUE },
    { "prelaunch", "", TRUE },
    { "io-error", "", TRUE },
    { "guest-panicked", "", TRUE },
    { "shutdown", "", TRUE },
    { NULL, NULL, TRUE },
    { "inmigrate", "", FALSE },
    { "inmigrate", "active", FALSE },
    { "finish-migrate", "active", FALSE },
    { "postmigrate", "completed", FALSE },
    { "save-vm", "", FALSE },
    { "restore-vm", "", FALSE },
    { "colo", "colo", FALSE },
    { "running", "setup", FALSE },
    { "running", "active", FALSE },
    { "running", "cancelling", FALSE },
    { "running", "wait-unplug", FALSE },
    { "paused", "pre-switchover", FALSE },
    { "paused", "device", FALSE },
    { "running", "postcopy-active", FALSE },
    { "paused", "postcopy-paused", FALSE },
    { "running", "postcopy-recover", FALSE },
    { "running", "colo", FALSE },
    { "running", "a state of a later QEMU", FALSE },
};

START_TEST (a_guest_that_is_not_at_home_is_refused_with_its_state)
{
    g_autoptr (GError) error = NULL;
    gboolean home = migration_allows (states[_i].status, states[_i].migration, &error);
    ck_assert_int_eq (home, states[_i].home);
    if (home)
        return;
    ck_assert (g_error_matches (error, BAK_ERROR, BAK_ERROR_INEXACT));
    ck_assert (strstr (error->message, states[_i].status)
               || strstr (error->message, states[_i].migration));
}
END_TEST

static Plan *plan_of (const char *version, const char *status, const char *barrier,
                      const CheckpointDef *checkpoint, GError **error)
{
    g_autoptr (BackupDef) def = backup_def_parse ("<domainbackup mode='push'/>", error);
    g_autoptr (Caps) caps = recorded_caps (version);
    g_autoptr (Graph) graph = recorded_graph (version, "guest", NULL);
    g_free (graph->status);
    graph->status = g_strdup (status);
    PlanInput input = { .job = "0badcafe",
                        .domain = "g",
                        .def = checkpoint ? NULL : def,
                        .checkpoint = checkpoint,
                        .graph = graph,
                        .caps = caps,
                        .job_dir = "/state/guests/g",
                        .scratch_dir = "/scratch",
                        .target_dir = "/targets",
                        .barrier = barrier };
    return checkpoint ? plan_checkpoint (&input, error) : plan_backup (&input, error);
}

START_TEST (backups_and_checkpoints_of_one_are_refused)
{
    g_autoptr (CheckpointDef) checkpoint = checkpoint_def_new ();
    checkpoint->name = g_strdup ("c1");
    for (guint i = 0; i < 2; i++) {
        g_autoptr (GError) error = NULL;
        g_autoptr (Plan) plan =
            plan_of ("7.2", "postmigrate", "/no.vhd", i ? checkpoint : NULL, &error);
        ck_assert (!plan && g_error_matches (error, BAK_ERROR, BAK_ERROR_INEXACT));
        g_autoptr (Plan) good = plan_of ("7.2", "running", "/no.vhd", i ? checkpoint : NULL, NULL);
        ck_assert (good != NULL);
    }
}
END_TEST

START_TEST (the_barrier_is_the_first_step_and_the_last_undo)
{
    g_autoptr (Plan) plan = plan_of (recorded_versions[_i], "running", "/no.vhd", NULL, NULL),
                     without = plan_of (recorded_versions[_i], "running", NULL, NULL, NULL);
    ck_assert (plan && without);
    ck_assert_uint_eq (plan->steps->len, without->steps->len + 1);
    const Step *first = plan->steps->pdata[0];
    g_autoptr (JsonNode) node = plan_to_json (plan);
    g_autofree char *text = json_to_string (node, FALSE);
    ck_assert (strstr (text, "\"otherwise\":\"migration-check\""));
    ck_assert_str_eq (first->action->otherwise, "migration-check");
    ck_assert (strstr (text, "/no.vhd"));
    const Action *undo = first->undo->pdata[0];
    ck_assert (g_str_has_suffix (undo->verb, "blockdev-del"));
    g_autoptr (Plan) again = plan_from_json (node, NULL);
    ck_assert_str_eq (((Step *) again->steps->pdata[0])->action->otherwise, "migration-check");
}
END_TEST

START_TEST (the_image_is_made_once_and_mended)
{
    g_autofree char *dir = g_dir_make_tmp ("bak-XXXXXX", NULL),
                    *path = g_build_filename (dir, "no.vhd", NULL), *first = NULL, *again = NULL;
    gsize length = 0;
    ck_assert (migration_make_barrier (path, NULL));
    ck_assert (g_file_get_contents (path, &first, &length, NULL));
    ck_assert_uint_eq (length, 1024);
    ck_assert (memcmp (first + 512, "conectix", 8) == 0);
    ck_assert (g_file_set_contents (path, "spoiled", -1, NULL));
    ck_assert (migration_make_barrier (path, NULL));
    ck_assert (g_file_get_contents (path, &again, &length, NULL));
    ck_assert_uint_eq (length, 1024);
    ck_assert (memcmp (first, again, length) == 0);
    unlink (path);
    rmdir (dir);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("migration");
    TCase *tests = tcase_create ("migration");
    tcase_add_loop_test (tests, a_guest_that_is_not_at_home_is_refused_with_its_state, 0,
                         G_N_ELEMENTS (states));
    tcase_add_test (tests, backups_and_checkpoints_of_one_are_refused);
    tcase_add_loop_test (tests, the_barrier_is_the_first_step_and_the_last_undo, 1, 5);
    tcase_add_test (tests, the_image_is_made_once_and_mended);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
