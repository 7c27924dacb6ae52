/* The engine of steps without a QEMU: every step failing, being cancelled, being unknown. */
#include <check.h>
#include <stdlib.h>
#include "job/build.h"
#include "job/run.h"
#include "util/json.h"

enum { STEPS = 4 };

typedef struct {
    GString *told;  /* what was performed, in order */
    int fails;      /* the step that fails; -1: none */
    int code;       /* with which code */
    int undo_fails; /* the step whose undo fails; -1: none */
    int cancels;    /* the step that is asked to stop after it; -1: none */
    gint cancel;
    gboolean gone; /* what ran the guest cannot be reached */
} Fake;

static gboolean command (Run *run, const Action *action, GError **error)
{
    Fake *fake = run->data;
    int step = json_get_int (action->args, "step", -1);
    gboolean undo = g_str_equal (action->verb, "undo");

    g_string_append_printf (fake->told, "%s%d", undo ? "-" : "+", step);
    if (!undo && step == fake->cancels)
        g_atomic_int_set (&fake->cancel, TRUE);
    if (!undo && step == fake->fails)
        return error_set (error, fake->code, "step %d", step);
    return !undo || step != fake->undo_fails || error_set (error, BAK_ERROR_IO, "undo %d", step);
}

static gboolean reach (Run *run, GError **error)
{
    Fake *fake = run->data;
    return !fake->gone || error_set (error, BAK_ERROR_CONNECTION, "gone");
}

static gpointer picture (Run *run, GError **error)
{
    return g_strdup ("");
}

/* Of all that an action can name only this is there. */
static gboolean guard (gconstpointer picture, JsonObject *guard)
{
    return g_strcmp0 (json_get_string (guard, "node"), "there") == 0;
}

static gboolean may_cancel (Run *run, const char *job, GError **error)
{
    return TRUE;
}

static const RunVerb no_verbs[] = { { NULL } };
static const RunOps ops = { .verbs = no_verbs,
                            .command = command,
                            .reach = reach,
                            .picture = picture,
                            .picture_free = g_free,
                            .guard = guard,
                            .may_cancel = may_cancel };

static Action *action_of (const char *verb, int step)
{
    return qmp_action (verb, obj ("step", "i", (gint64) step, NULL));
}

/* Runs four steps; what was performed. */
static char *run_all (Fake *fake, gboolean *ret_ok, gboolean *ret_undo_failed)
{
    Plan *plan = plan_new ("00000001", BACKUP_MODE_PUSH);
    g_autoptr (GArray) states = g_array_new (FALSE, TRUE, sizeof (StepState));
    g_autoptr (GHashTable) files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr (GError) error = NULL;

    fake->told = g_string_new (NULL);
    for (int i = 0; i < STEPS; i++)
        plan_add (plan, "step", NULL, action_of ("do", i), action_of ("undo", i), NULL);
    g_array_set_size (states, plan->steps->len);
    Run run = { .ops = &ops,
                .data = fake,
                .plan = plan,
                .states = states,
                .files = files,
                .cancel = &fake->cancel };
    *ret_ok = run_steps (&run, &error);
    ck_assert (*ret_ok == (error == NULL));
    *ret_undo_failed = run.undo_failed;
    plan_free (plan);
    return g_string_free (fake->told, FALSE);
}

/* forwards to the step, then back; its own undo first when it may have been done */
static char *expected (int step, gboolean own)
{
    GString *text = g_string_new (NULL);
    for (int i = 0; i <= MIN (step, STEPS - 1); i++)
        g_string_append_printf (text, "+%d", i);
    for (int i = own ? step : step - 1; step < STEPS && i >= 0; i--)
        g_string_append_printf (text, "-%d", i);
    return g_string_free (text, FALSE);
}

static void check_run (Fake fake, const char *wanted, gboolean wanted_ok, gboolean wanted_undo)
{
    gboolean ok, undo_failed;
    g_autofree char *told = run_all (&fake, &ok, &undo_failed);
    ck_assert_str_eq (told, wanted);
    ck_assert_int_eq (ok, wanted_ok);
    ck_assert_int_eq (!undo_failed, wanted_undo);
}

START_TEST (every_step_is_done_once_and_in_order)
{
    g_autofree char *wanted = expected (STEPS, FALSE);
    check_run ((Fake){ .fails = -1, .undo_fails = -1, .cancels = -1 }, wanted, TRUE, TRUE);
}
END_TEST

START_TEST (a_step_that_is_refused_takes_back_those_before_it)
{
    g_autofree char *wanted = expected (_i, FALSE);
    check_run ((Fake){ .fails = _i, .code = BAK_ERROR_MONITOR, .undo_fails = -1, .cancels = -1 },
               wanted, FALSE, TRUE);
}
END_TEST

START_TEST (a_step_whose_outcome_is_unknown_is_taken_back_itself)
{
    g_autofree char *wanted = expected (_i, TRUE);
    check_run ((Fake){ .fails = _i, .code = BAK_ERROR_TIMEOUT, .undo_fails = -1, .cancels = -1 },
               wanted, FALSE, TRUE);
}
END_TEST

START_TEST (an_undo_that_fails_is_told_and_the_others_go_on)
{
    g_autofree char *wanted = expected (STEPS - 1, FALSE);
    check_run (
        (Fake){ .fails = STEPS - 1, .code = BAK_ERROR_MONITOR, .undo_fails = _i, .cancels = -1 },
        wanted, FALSE, FALSE);
}
END_TEST

START_TEST (a_cancelled_run_takes_back_what_it_did)
{
    g_autofree char *wanted = expected (_i, TRUE);
    check_run ((Fake){ .fails = -1, .undo_fails = -1, .cancels = _i }, wanted, FALSE, TRUE);
}
END_TEST

START_TEST (what_cannot_be_reached_is_not_asked)
{
    g_autofree char *all = expected (_i, FALSE), *forward = g_strndup (all, 2 * (_i + 1));
    check_run ((Fake){ .fails = _i,
                       .code = BAK_ERROR_CONNECTION,
                       .undo_fails = -1,
                       .cancels = -1,
                       .gone = TRUE },
               forward, FALSE, TRUE);
}
END_TEST

/* Runs a plan's end: what was performed. */
static char *run_end (Plan *plan, guint *finished, Fake fake, gboolean wanted)
{
    g_autoptr (GError) error = NULL;
    fake.told = g_string_new (NULL);
    Run run = { .ops = &ops, .data = &fake, .plan = plan, .finished = *finished };
    ck_assert_int_eq (run_finish (&run, &error), wanted);
    ck_assert (wanted == (error == NULL));
    *finished = run.finished;
    return g_string_free (fake.told, FALSE);
}

static Action *end_action (int step, const char *node, gboolean proves)
{
    Action *action = guarded (action_of ("do", step), "node", node);
    action->proves = proves;
    return action;
}

static const Fake good = { .fails = -1, .undo_fails = -1, .cancels = -1 };

START_TEST (an_end_leaves_out_what_is_gone_but_not_what_proves_something)
{
    for (int proves = FALSE; proves <= TRUE; proves++) {
        Plan *plan = plan_new ("00000001", BACKUP_MODE_PUSH);
        guint finished = 0;
        g_ptr_array_add (plan->finish, end_action (0, "there", TRUE));
        g_ptr_array_add (plan->finish, end_action (1, "gone", proves));
        g_ptr_array_add (plan->finish, end_action (2, "there", TRUE));
        g_autofree char *told = run_end (plan, &finished, good, !proves);
        ck_assert_str_eq (told, proves ? "+0" : "+0+2");
        plan_free (plan);
    }
}
END_TEST

START_TEST (an_end_that_was_cut_off_goes_on_where_it_stopped)
{
    Plan *plan = plan_new ("00000001", BACKUP_MODE_PUSH);
    Fake cut = good;
    guint finished = 0;

    for (int i = 0; i < 3; i++)
        g_ptr_array_add (plan->finish, end_action (i, "there", TRUE));
    cut.fails = 1;
    cut.code = BAK_ERROR_CONNECTION;
    g_autofree char *first = run_end (plan, &finished, cut, FALSE),
                    *second = run_end (plan, &finished, good, TRUE),
                    *third = run_end (plan, &finished, good, TRUE);
    ck_assert_str_eq (first, "+0+1");
    ck_assert_str_eq (second, "+1+2");
    ck_assert_str_eq (third, "");
    plan_free (plan);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("run");
    TCase *tcase = tcase_create ("steps");

    tcase_add_test (tcase, every_step_is_done_once_and_in_order);
    tcase_add_loop_test (tcase, a_step_that_is_refused_takes_back_those_before_it, 0, STEPS);
    tcase_add_loop_test (tcase, a_step_whose_outcome_is_unknown_is_taken_back_itself, 0, STEPS);
    tcase_add_loop_test (tcase, an_undo_that_fails_is_told_and_the_others_go_on, 0, STEPS - 1);
    tcase_add_loop_test (tcase, a_cancelled_run_takes_back_what_it_did, 0, STEPS - 1);
    tcase_add_loop_test (tcase, what_cannot_be_reached_is_not_asked, 0, STEPS);
    tcase_add_test (tcase, an_end_leaves_out_what_is_gone_but_not_what_proves_something);
    tcase_add_test (tcase, an_end_that_was_cut_off_goes_on_where_it_stopped);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
