/* What plans say about protection is what docs/guest-protection.md says. */
#include <check.h>
#include <string.h>
#include "driver/qemu/plan.h"
#include "recorded.h"

static char *document;

/* disk_says: further attributes of the one disk */
static Plan *plan_of (const char *version, gboolean pull, const char *guest, const char *disk_says,
                      GError **error)
{
    g_autofree char *xml =
        g_strdup_printf ("<domainbackup mode='%s'>%s%s<disks><disk name='vda' "
                         "type='file'%s/></disks></domainbackup>",
                         pull ? "pull" : "push",
                         pull ? "<server transport='unix' socket='/nbd'/>" : "", guest, disk_says);
    g_autoptr (BackupDef) def = backup_def_parse (xml, error);
    if (!def)
        return NULL;
    g_autoptr (Caps) caps = recorded_caps (version);
    g_autoptr (Graph) graph = recorded_graph (version, "guest", NULL);
    /* any writable disk will do */
    BackupDiskDef *disk = def->disks->pdata[0];
    for (guint i = 0; i < graph->disks->len; i++)
        if (!graph_disk_excluded (graph->disks->pdata[i])) {
            g_free (disk->name);
            disk->name = g_strdup (((GraphDisk *) graph->disks->pdata[i])->target);
            GraphDisk *found = graph->disks->pdata[i];
            g_clear_pointer (&found->iothread, g_free);
            break;
        }
    PlanInput input = { .job = "0badcafe",
                        .domain = "g",
                        .def = def,
                        .graph = graph,
                        .caps = caps,
                        .job_dir = "/state/guests/g",
                        .scratch_dir = "/scratch",
                        .target_dir = "/targets",
                        .free_port = 10809 };
    return plan_backup (&input, error);
}

static Plan *plan_for (const char *version, gboolean pull, const char *guest, GError **error)
{
    return plan_of (version, pull, guest, "", error);
}

static const char *const versions[] = { "5.2", "7.2", "10.0", "11.1" };

static const char *words (const Plan *plan)
{
    return ((PlanDisk *) plan->disks->pdata[0])->protection;
}

START_TEST (the_table_of_choices_is_what_plans_say)
{
    const char *version = versions[_i / 2];
    gboolean pull = _i % 2;
    g_autoptr (GError) error = NULL, refusal = NULL;
    g_autoptr (Plan) yes = plan_for (version, pull, "", &error);
    ck_assert_msg (yes != NULL, "%s: %s", version, error ? error->message : "?");
    g_autoptr (Plan) strict = plan_for (version, pull, "<guest protect='strict'/>", &refusal);
    g_autofree char *row =
        g_strdup_printf ("| %s | %s | %s | %s |\n", version, pull ? "pull" : "push", words (yes),
                         strict ? "as 'yes'" : "refused");
    ck_assert_msg (strstr (document, row) != NULL, "not in docs/guest-protection.md: %s", row);
    if (strict)
        ck_assert_str_eq (words (strict), words (yes));
    else
        ck_assert_msg (strstr (refusal->message, "strict") != NULL, "%s", refusal->message);
}
END_TEST

static gboolean has (const Plan *plan, const char *text)
{
    for (guint i = 0; i < plan->notes->len; i++)
        if (strstr (plan->notes->pdata[i], text))
            return TRUE;
    return FALSE;
}

static gboolean acts (const Plan *plan, const char *verb)
{
    for (guint i = 0; i < plan->steps->len; i++) {
        const Step *step = plan->steps->pdata[i];
        if (g_str_equal (step->action->verb, verb))
            return TRUE;
        for (guint k = 0; k < step->undo->len; k++)
            if (g_str_equal (((Action *) step->undo->pdata[k])->verb, verb))
                return TRUE;
    }
    return FALSE;
}

START_TEST (what_is_not_protected_is_said_at_begin)
{
    for (guint v = 0; v < G_N_ELEMENTS (versions); v++) {
        g_autoptr (Plan) whole = plan_for (versions[v], FALSE, "", NULL),
                         asked = plan_for (versions[v], FALSE, "<guest protect='no'/>", NULL);
        g_autoptr (Plan) top = plan_of (versions[v], FALSE, "", " sync='top'", NULL);
        ck_assert (!has (whole, "protection of the guest"));
        ck_assert (!has (asked, "protection of the guest"));
        ck_assert (has (top, "protection of the guest"));
        ck_assert_int_eq (acts (whole, "blockdev-mirror"), v == 0);
        ck_assert (!acts (asked, "blockdev-mirror"));
    }
}
END_TEST

START_TEST (a_scratch_is_reserved_where_its_end_would_be_the_guests)
{
    for (guint v = 0; v < G_N_ELEMENTS (versions); v++)
        for (int pull = 0; pull < 2; pull++) {
            g_autoptr (Plan) plan = plan_for (versions[v], pull, "", NULL),
                             bare = plan_for (versions[v], pull, "<guest protect='no'/>", NULL);
            ck_assert_int_eq (acts (plan, "file-reserve"), v < 3);
            ck_assert (!acts (bare, "file-reserve"));
        }
}
END_TEST

/* The guest's two writable disks, both served by an I/O thread as recorded. */
static Plan *plan_on_iothreads (const char *version, const char *xml, gboolean first_only,
                                GError **error)
{
    g_autoptr (BackupDef) def = backup_def_parse (xml, error);
    g_autoptr (Caps) caps = recorded_caps (version);
    g_autoptr (Graph) graph = recorded_graph (version, "guest", NULL);
    if (!def)
        return NULL;
    for (guint i = 0, seen = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = graph->disks->pdata[i];
        if (!graph_disk_excluded (disk) && seen++ > 0 && first_only)
            g_clear_pointer (&disk->iothread, g_free);
    }
    PlanInput input = { .job = "0badcafe",
                        .domain = "g",
                        .def = def,
                        .graph = graph,
                        .caps = caps,
                        .job_dir = "/state/guests/g",
                        .scratch_dir = "/scratch",
                        .target_dir = "/targets",
                        .free_port = 10809 };
    return plan_backup (&input, error);
}

/* A node on top of what an I/O thread serves kills 5.2 and 7.2. */
static guint count_views (const Plan *plan)
{
    guint views = 0;
    for (guint i = 0; i < plan->steps->len; i++) {
        const Action *action = ((Step *) plan->steps->pdata[i])->action;
        const char *driver =
            g_str_equal (action->verb, "blockdev-add")
                ? json_object_get_string_member_with_default (action->args, "driver", "")
                : "";
        views += g_str_equal (driver, "snapshot-access") || g_str_equal (driver, "throttle");
    }
    return views;
}

START_TEST (no_plan_opens_a_view_of_an_iothread_where_that_kills_qemu)
{
    static const char push[] = "<domainbackup mode='push'/>";
    for (guint v = 0; v < G_N_ELEMENTS (versions); v++) {
        gboolean dies = v < 2;
        g_autoptr (GError) error = NULL, refusal = NULL;
        g_autoptr (Plan) both = plan_on_iothreads (versions[v], push, FALSE, &error),
                         one = plan_on_iothreads (versions[v], push, TRUE, &error);
        ck_assert_msg (both && one, "%s: %s", versions[v], error ? error->message : "?");
        ck_assert_uint_eq (count_views (both), dies ? 0 : 2);
        ck_assert_uint_eq (count_views (one), dies ? 1 : 2);
        ck_assert_int_eq (has (both, "I/O thread 'io0'"), dies);
        ck_assert_int_eq (has (one, "I/O thread 'io0'"), dies);
        ck_assert_int_eq (acts (both, "file-reserve"), v == 2);
        ck_assert_int_eq (acts (one, "file-reserve"), v < 3);
        g_autoptr (Plan) strict = plan_on_iothreads (
            versions[v], "<domainbackup mode='push'><guest protect='strict'/></domainbackup>",
            FALSE, &refusal);
        ck_assert_int_eq (strict != NULL, v == 3);
        ck_assert (!dies || strstr (refusal->message, "I/O thread 'io0'"));
    }
}
END_TEST

START_TEST (a_pull_of_an_iothread_shows_its_overlay_or_is_refused)
{
    static const char pull[] = "<domainbackup mode='pull'><server transport='unix' "
                               "socket='/nbd'/></domainbackup>";
    for (guint v = 0; v < G_N_ELEMENTS (versions); v++) {
        g_autoptr (GError) refusal = NULL;
        g_autoptr (Plan) plan = plan_on_iothreads (versions[v], pull, FALSE, &refusal);
        ck_assert_int_eq (plan != NULL, v != 1);
        ck_assert_uint_eq (plan ? count_views (plan) : 0, v < 2 ? 0 : 2);
        ck_assert (plan || strstr (refusal->message, "without a scratch"));
    }
}
END_TEST

START_TEST (a_target_over_the_network_can_be_cut_off)
{
    static const char target[] = "<domainbackup mode='push'><disks><disk name='%s' "
                                 "type='network'><target protocol='nbd' name='x'>"
                                 "<host%s/></target></disk></disks></domainbackup>";
    for (guint i = 0; i < 2 * G_N_ELEMENTS (versions); i++) {
        guint v = i / 2;
        gboolean local = i % 2;
        g_autoptr (Caps) caps = recorded_caps (versions[v]);
        g_autoptr (Graph) graph = recorded_graph (versions[v], "guest", NULL);
        const char *name = NULL;
        for (guint k = 0; k < graph->disks->len && !name; k++)
            name = graph_disk_excluded (graph->disks->pdata[k])
                       ? NULL
                       : ((GraphDisk *) graph->disks->pdata[k])->target;
        g_autofree char *xml = g_strdup_printf (
            target, name, local ? " transport='unix' socket='/nbd'" : " name='192.0.2.1'");
        g_autoptr (GError) error = NULL;
        g_autoptr (BackupDef) def = backup_def_parse (xml, &error);
        ck_assert_msg (def != NULL, "%s", error ? error->message : "?");
        PlanInput input = { .job = "0badcafe",
                            .domain = "g",
                            .def = def,
                            .graph = graph,
                            .caps = caps,
                            .job_dir = "/state/guests/g",
                            .scratch_dir = "/scratch",
                            .flags = BEGIN_REUSE_EXTERNAL };
        g_autoptr (Plan) plan = plan_backup (&input, &error);
        ck_assert_msg (plan != NULL, "%s", error ? error->message : "?");
        ck_assert_int_eq (acts (plan, "yank"), v > 0 && !local);
        ck_assert_int_eq (acts (plan, "relay-start"), v == 0 || local);
        ck_assert_int_eq (acts (plan, "relay-cut"), v == 0 || local);
    }
}
END_TEST

int main (void)
{
    g_autoptr (GError) error = NULL;
    if (!g_file_get_contents (TESTS "/../docs/guest-protection.md", &document, NULL, &error))
        g_error ("%s", error->message);
    Suite *suite = suite_create ("protection");
    TCase *tests = tcase_create ("protection");
    tcase_add_loop_test (tests, the_table_of_choices_is_what_plans_say, 0,
                         2 * G_N_ELEMENTS (versions));
    tcase_add_test (tests, what_is_not_protected_is_said_at_begin);
    tcase_add_test (tests, a_scratch_is_reserved_where_its_end_would_be_the_guests);
    tcase_add_test (tests, no_plan_opens_a_view_of_an_iothread_where_that_kills_qemu);
    tcase_add_test (tests, a_pull_of_an_iothread_shows_its_overlay_or_is_refused);
    tcase_add_test (tests, a_target_over_the_network_can_be_cut_off);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
