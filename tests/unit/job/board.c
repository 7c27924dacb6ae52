/* What readers see of a guest's jobs, without a guest. */
#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include "job/board.h"
#include "job/build.h"
#include "job/moves.h"
#include "job/record.h"
#include "util/files.h"

typedef struct {
    char *dir;
    Board board;
    guint refreshed;
} Fixture;

static Fixture fixture;

static void refresh (DriverGuest *guest)
{
    fixture.refreshed++;
}

static void setup (void)
{
    fixture = (Fixture){ .dir = g_dir_make_tmp ("board-XXXXXX", NULL) };
    ck_assert_ptr_nonnull (fixture.dir);
    board_init (&fixture.board, "g", fixture.dir, NULL, refresh);
}

static void teardown (void)
{
    board_clear (&fixture.board);
    files_remove_tree (fixture.dir);
    g_free (fixture.dir);
}

/* A job in that state; recorded, shown, or both. */
static void make_job (const char *id, int state, gint64 started, gboolean record, gboolean show)
{
    Plan *plan = plan_new (id, BACKUP_MODE_PUSH);
    bak_job job;
    job_record_init (&job, plan, "g");
    job.state = state;
    job.started = started;
    if (record)
        ck_assert (record_save (fixture.dir, &job, NULL));
    if (show)
        board_publish (&fixture.board, &job);
    bak_job_clear (&job);
    plan_free (plan);
}

static void damage (const char *id)
{
    g_autofree char *file = g_strconcat (id, ".json", NULL);
    g_autofree char *path = g_build_filename (fixture.dir, "jobs", file, NULL);
    ck_assert (g_file_set_contents (path, "{", 1, NULL));
}

static int read_code (const char *id)
{
    bak_job job = { 0 };
    g_autoptr (GError) error = NULL;
    if (!board_read (&fixture.board, id, &job, &error))
        return error_code (error);
    bak_job_clear (&job);
    return 0;
}

static int stats_state (const char *id, guint flags, int *ret_code)
{
    bak_job_arg args = { .domain = (char *) "g", .job = (char *) id, .flags = flags };
    bak_job_ret ret = { 0 };
    g_autoptr (GError) error = NULL;
    gboolean ok = board_stats (&fixture.board, &args, &ret, &error);
    int state = ok ? ret.job.state : -1;
    *ret_code = ok ? 0 : (int) error_code (error);
    if (ok)
        bak_job_clear (&ret.job);
    return state;
}

START_TEST (a_guest_without_a_job_says_so_by_name)
{
    bak_job job = { 0 };
    g_autoptr (GError) error = NULL;
    ck_assert (!board_read (&fixture.board, "", &job, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_NO_JOB);
    ck_assert_str_eq (error->message, "guest 'g' has had no backup job");
    ck_assert_int_eq (read_code ("00000001"), BAK_ERROR_NO_JOB);
    ck_assert_int_eq (board_state (&fixture.board), JOB_STATE_NONE);
}
END_TEST

START_TEST (what_runs_is_brought_up_to_date_and_what_has_ended_is_not)
{
    make_job ("00000001", JOB_STATE_RUNNING, 1, FALSE, TRUE);
    ck_assert_int_eq (read_code (""), 0);
    ck_assert_uint_eq (fixture.refreshed, 1);
    ck_assert_int_eq (read_code ("00000002"), BAK_ERROR_NO_JOB);
    make_job ("00000001", JOB_STATE_PREPARING, 1, FALSE, TRUE);
    make_job ("00000001", JOB_STATE_COMPLETED, 1, FALSE, TRUE);
    ck_assert_int_eq (read_code ("00000001"), 0);
    ck_assert_uint_eq (fixture.refreshed, 1);
}
END_TEST

START_TEST (a_begin_that_was_refused_leaves_the_backup_before_it_the_last)
{
    make_job ("00000001", JOB_STATE_COMPLETED, 1, TRUE, FALSE);
    make_job ("00000002", JOB_STATE_PREPARING, 2, FALSE, TRUE);
    board_wipe (&fixture.board);
    bak_job job = { 0 };
    ck_assert (board_read (&fixture.board, "", &job, NULL));
    ck_assert_str_eq (job.id, "00000001");
    bak_job_clear (&job);
}
END_TEST

START_TEST (statistics_say_by_their_state_that_there_is_no_job)
{
    int code;
    ck_assert_int_eq (stats_state ("", 0, &code), JOB_STATE_NONE);
    ck_assert_int_eq (stats_state ("", STATS_COMPLETED, &code), JOB_STATE_NONE);
    make_job ("00000001", JOB_STATE_FAILED, 1, TRUE, FALSE);
    make_job ("00000002", JOB_STATE_RUNNING, 2, TRUE, TRUE);
    ck_assert_int_eq (stats_state ("", 0, &code), JOB_STATE_RUNNING);
    ck_assert_int_eq (stats_state ("", STATS_COMPLETED, &code), JOB_STATE_FAILED);
    make_job ("00000002", JOB_STATE_COMPLETED, 2, TRUE, TRUE);
    ck_assert_int_eq (stats_state ("", 0, &code), JOB_STATE_NONE);
    ck_assert_int_eq (stats_state ("", STATS_COMPLETED, &code), JOB_STATE_COMPLETED);
}
END_TEST

/* "no job" would be a lie that a caller acts on. */
START_TEST (statistics_that_cannot_be_read_are_an_error)
{
    int code;
    make_job ("00000001", JOB_STATE_COMPLETED, 1, TRUE, FALSE);
    damage ("00000001");
    ck_assert_int_eq (stats_state ("00000001", STATS_COMPLETED, &code), -1);
    ck_assert_int_eq (code, BAK_ERROR_IO);
    ck_assert_int_eq (stats_state ("", _i, &code), -1);
    ck_assert_int_eq (code, BAK_ERROR_IO);
}
END_TEST

START_TEST (the_list_has_the_running_job_as_it_is_now)
{
    bak_jobs_ret ret = { 0 };
    make_job ("00000001", JOB_STATE_COMPLETED, 1, TRUE, FALSE);
    make_job ("00000002", JOB_STATE_PREPARING, 2, TRUE, FALSE);
    make_job ("00000002", JOB_STATE_RUNNING, 2, FALSE, TRUE);
    ck_assert (board_list (&fixture.board, &ret, NULL));
    ck_assert_uint_eq (ret.jobs.jobs_len, 2);
    ck_assert_int_eq (ret.jobs.jobs_val[0].state, JOB_STATE_RUNNING);
    ck_assert_int_eq (ret.jobs.jobs_val[1].state, JOB_STATE_COMPLETED);
    call_clear_ret (CALL_ID_backup_list, &ret);
}
END_TEST

static gpointer end_job (gpointer data)
{
    make_job ("00000001", JOB_STATE_COMPLETED, 1, FALSE, TRUE);
    return NULL;
}

START_TEST (who_waits_is_woken_by_the_end_or_by_his_time)
{
    bak_wait_args args = { .domain = (char *) "g", .job = (char *) "", .timeout = 1000 };
    bak_job_ret ret = { 0 };
    make_job ("00000001", JOB_STATE_RUNNING, 1, FALSE, TRUE);
    ck_assert (board_wait (&fixture.board, &args, &ret, NULL));
    ck_assert_int_eq (ret.job.state, JOB_STATE_RUNNING);
    bak_job_clear (&ret.job);
    args.timeout = G_MAXUINT64;
    GThread *thread = g_thread_new ("end", end_job, NULL);
    ck_assert (board_wait (&fixture.board, &args, &ret, NULL));
    ck_assert_int_eq (ret.job.state, JOB_STATE_COMPLETED);
    bak_job_clear (&ret.job);
    g_thread_join (thread);
}
END_TEST

START_TEST (only_a_running_job_has_an_xml_without_its_id)
{
    bak_job_arg args = { .domain = (char *) "g", .job = (char *) "" };
    bak_text_ret ret = { 0 };
    g_autoptr (GError) error = NULL;
    make_job ("00000001", JOB_STATE_COMPLETED, 1, TRUE, TRUE);
    ck_assert (!board_xml (&fixture.board, &args, &ret, &error));
    ck_assert_str_eq (error->message, "guest 'g' has no running backup job");
    args.job = (char *) "00000001";
    ck_assert (board_xml (&fixture.board, &args, &ret, NULL));
    ck_assert (g_str_has_prefix (ret.text, "<domainbackup"));
    call_clear_ret (CALL_ID_backup_xml, &ret);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("board");
    TCase *tcase = tcase_create ("readers");

    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_add_test (tcase, a_guest_without_a_job_says_so_by_name);
    tcase_add_test (tcase, what_runs_is_brought_up_to_date_and_what_has_ended_is_not);
    tcase_add_test (tcase, a_begin_that_was_refused_leaves_the_backup_before_it_the_last);
    tcase_add_test (tcase, statistics_say_by_their_state_that_there_is_no_job);
    tcase_add_loop_test (tcase, statistics_that_cannot_be_read_are_an_error, 0, 2);
    tcase_add_test (tcase, the_list_has_the_running_job_as_it_is_now);
    tcase_add_test (tcase, who_waits_is_woken_by_the_end_or_by_his_time);
    tcase_add_test (tcase, only_a_running_job_has_an_xml_without_its_id);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
