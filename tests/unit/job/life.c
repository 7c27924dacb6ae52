/* The life of a job without a QEMU: begin, end and recover against a stand-in whose objects are
 * files, so that an owner can be killed at any act and the next one finds what it left. */
#include <check.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "job/build.h"
#include "job/life.h"
#include "job/record.h"
#include "util/files.h"
#include "util/json.h"

enum { STEPS = 4, KEPT = 1 /* the step whose object a success keeps */, FINISHES = 2 };
enum { KILLED = 99, RECOVERIES = 3 };

typedef enum {
    REFUSED,      /* it did nothing, and says so */
    LOST,         /* it did nothing, and says nothing */
    DONE_UNHEARD, /* it did it, and says nothing */
    KILL_BEFORE,
    KILL_AFTER, /* the owner dies */
    KINDS
} Kind;

/* Where a job may be struck. Those of begin, then those of a good end; in an undo the object that
 * is kept has none. */
static const char *const begin_acts[] = { "do0", "do1", "do2", "do3" };
static const char *const end_acts[] = { "ending", "verify0", "finish0", "finish1", "promote0",
                                        "undo3",  "undo2",   "undo0",   "clean" };
/* the first of end_acts whose failure is no failure of the backup: that is known by then */
enum { FIRST_UNDO = 5 };

struct _JobOwn {
    int unused;
};

/* One owner: this process, or one that is killed. */
struct _DriverGuest {
    Job *job;
    Board board;
    JobPlace place;
    gint cancel;
    GString *told; /* states that listeners heard of */
    guint refreshed, adopted;
};

static struct {
    char *dir, *world;
    const char *act; /* where it is struck; NULL: nowhere */
    Kind kind;
    gboolean aborts;    /* an abort is asked for there */
    gboolean gone;      /* what ran the guest is */
    gboolean otherwise; /* a begin that fails is tried otherwise */
} fake;

static char *object_path (const char *name)
{
    return g_build_filename (fake.world, name, NULL);
}

static gboolean there_is (const char *name)
{
    g_autofree char *path = object_path (name);
    return g_file_test (path, G_FILE_TEST_EXISTS);
}

static void set_object (const char *name, gboolean there)
{
    g_autofree char *path = object_path (name);
    if (there)
        ck_assert (g_file_set_contents (path, "", 0, NULL));
    else
        g_unlink (path);
}

static guint count_objects (void)
{
    g_autoptr (GDir) dir = g_dir_open (fake.world, 0, NULL);
    guint count = 0;
    while (dir && g_dir_read_name (dir))
        count++;
    return count;
}

/* Does it, unless this is where it strikes; once. */
static gboolean act (const char *name, const char *object, gboolean there, GError **error)
{
    gboolean here = g_strcmp0 (fake.act, name) == 0;

    if (here && fake.kind == KILL_BEFORE)
        _exit (KILLED);
    if (object && !(here && (fake.kind == REFUSED || fake.kind == LOST)))
        set_object (object, there);
    if (here && fake.kind == KILL_AFTER)
        _exit (KILLED);
    if (!here)
        return TRUE;
    fake.act = NULL;
    return error_set (error, fake.kind == REFUSED ? BAK_ERROR_MONITOR : BAK_ERROR_TIMEOUT,
                      "struck at %s", name);
}

/* ---- RunOps ---- */

static gboolean command (Run *run, const Action *action, GError **error)
{
    DriverGuest *guest = run->data;
    int step = json_get_int (action->args, "step", -1);
    g_autofree char *name = g_strdup_printf ("%s%d", action->verb, step);
    g_autofree char *object = g_strdup_printf ("object%d", step);
    gboolean makes = g_str_equal (action->verb, "do"), takes = g_str_equal (action->verb, "undo");

    if (fake.aborts && g_strcmp0 (fake.act, name) == 0) {
        g_atomic_int_set (&guest->cancel, TRUE);
        fake.act = NULL;
        if (g_str_equal (action->verb, "finish"))
            return error_set (error, BAK_ERROR_ABORTED, "aborted on request");
    }
    return act (name, makes || takes ? object : NULL, makes, error);
}

static gboolean reach (Run *run, GError **error)
{
    return !fake.gone || error_set (error, BAK_ERROR_CONNECTION, "gone");
}

static gpointer picture (Run *run, GError **error)
{
    return g_strdup ("");
}

static gboolean guard (gconstpointer picture, JsonObject *guard)
{
    return there_is (json_get_string (guard, "node"));
}

static gboolean may_cancel (Run *run, const char *job, GError **error)
{
    return TRUE;
}

static const RunVerb no_verbs[] = { { NULL } };
static const RunOps run_ops = { .verbs = no_verbs,
                                .command = command,
                                .reach = reach,
                                .picture = picture,
                                .picture_free = g_free,
                                .guard = guard,
                                .may_cancel = may_cancel };

/* ---- JobOps ---- */

static void init (Job *job)
{
    job->own = g_new0 (JobOwn, 1);
}

static void clear (Job *job)
{
    g_free (job->own);
}

static void let_go (Job *job)
{
    job->guest->job = NULL;
}

static void emit (DriverGuest *guest, bak_event *event)
{
    if (event->kind == EVENT_JOB_STATE)
        g_string_append_printf (guest->told, "%s ", job_state_to_string (event->state));
    if (event->kind == EVENT_JOB_COMPLETED)
        g_string_append (guest->told, "end");
    bak_event_clear (event);
}

static void refresh (Job *job)
{
    job->guest->refreshed++;
}

static gboolean refused (Job *job, GError **failure)
{
    return fake.otherwise;
}

static void ending (Job *job, JobEvent outcome)
{
    act ("ending", NULL, FALSE, NULL);
}

static gboolean verify (Job *job, GError **error)
{
    return act ("verify0", NULL, FALSE, error);
}

static gboolean promote (Job *job, GError **error)
{
    return act ("promote0", "checkpoint", TRUE, error);
}

static void undone (Job *job, JobEvent outcome, const GError *failure) {}

/* A provisional checkpoint of a job that failed is no checkpoint. */
static gboolean clean (Job *job, JobEvent outcome, const GError *failure)
{
    gboolean swept = act ("clean", NULL, FALSE, NULL);
    if (outcome != JOB_EVENT_GOOD)
        set_object ("checkpoint", FALSE);
    return swept && !job->run.undo_failed;
}

static void inherit (Job *job, const JournalState *state) {}

static void adopted (Job *job)
{
    job->guest->adopted++;
}

static gboolean clean_rest (Job *job, gboolean undone, GError **error)
{
    return undone;
}

static gboolean is_copying (const Job *job, guint disk)
{
    return disk == 0;
}

static gboolean has_copied (const Job *job, guint disk)
{
    return disk != 0;
}

static gboolean set_speed (Job *job, guint disk, guint64 bytes_per_sec, GError **error)
{
    set_object ("limited", TRUE);
    return act ("speed", NULL, FALSE, error);
}

static const JobOps job_ops = { .run = &run_ops,
                                .init = init,
                                .clear = clear,
                                .let_go = let_go,
                                .emit = emit,
                                .refresh = refresh,
                                .refused = refused,
                                .ending = ending,
                                .verify = verify,
                                .promote = promote,
                                .undone = undone,
                                .clean = clean,
                                .inherit = inherit,
                                .adopted = adopted,
                                .clean_rest = clean_rest,
                                .is_copying = is_copying,
                                .has_copied = has_copied,
                                .set_speed = set_speed };

/* ---- owners ---- */

static void no_refresh (DriverGuest *guest) {}

static void owner_init (DriverGuest *guest)
{
    memset (guest, 0, sizeof *guest);
    guest->told = g_string_new (NULL);
    board_init (&guest->board, "g", fake.dir, guest, no_refresh);
    guest->place = (JobPlace){ &job_ops, &guest->board, fake.dir, &guest->cancel };
}

static void owner_clear (DriverGuest *guest)
{
    g_clear_pointer (&guest->job, job_free);
    board_clear (&guest->board);
    g_string_free (guest->told, TRUE);
}

static Action *on_step (const char *verb, int step)
{
    return qmp_action (verb, obj ("step", "i", (gint64) step, NULL));
}

static PlanDisk *disk_new (const char *target)
{
    PlanDisk *disk = g_new0 (PlanDisk, 1);
    disk->target = g_strdup (target);
    disk->type = g_strdup ("full");
    disk->size = 1 << 20;
    return disk;
}

static Plan *make_plan (BackupMode mode)
{
    Plan *plan = plan_new ("00000001", mode);
    for (int i = 0; i < STEPS; i++) {
        g_autofree char *object = g_strdup_printf ("object%d", i);
        Action *undo = guarded (on_step ("undo", i), "node", object);
        plan_add (plan, "step", NULL, on_step ("do", i), i == KEPT ? kept (undo) : undo, NULL);
    }
    for (int i = 0; i < FINISHES; i++)
        g_ptr_array_add (plan->finish, on_step ("finish", i));
    g_ptr_array_add (plan->disks, disk_new ("vda"));
    g_ptr_array_add (plan->disks, disk_new ("vdb"));
    plan->checkpoint = g_strdup ("c1");
    return plan;
}

static gboolean begin (DriverGuest *guest, BackupMode mode, GError **error)
{
    bak_begin_args args = { .domain = (char *) "g", .timeout = 1000000 };
    bak_begin_ret ret = { 0 };
    guest->job = job_new (&guest->place, make_plan (mode), NULL);
    gboolean ok = life_begin (guest->job, &args, json_object_new (), &ret, error);
    if (ok)
        call_clear_ret (CALL_ID_backup_begin, &ret);
    return ok;
}

static void take (Job *job)
{
    job->guest->job = job;
}

static gboolean recover (DriverGuest *guest, GError **error)
{
    g_autoptr (JournalState) state = journal_read (fake.dir, error);
    ck_assert (state && state->plan);
    return life_recover (&guest->place, state, fake.gone ? "QEMU is gone" : NULL, take, error);
}

typedef void (*Life) (DriverGuest *guest);

static void live_begin (DriverGuest *guest)
{
    begin (guest, BACKUP_MODE_PUSH, NULL);
}

static void live_whole (DriverGuest *guest)
{
    if (begin (guest, BACKUP_MODE_PUSH, NULL))
        life_end (guest->job, JOB_EVENT_GOOD, NULL);
}

static void live_recovery (DriverGuest *guest)
{
    recover (guest, NULL);
    if (guest->job && guest->job->record.state == JOB_STATE_RUNNING)
        life_end (guest->job, JOB_EVENT_GOOD, NULL);
}

/* In a process of its own. TRUE: it was killed. */
static gboolean live (Life life)
{
    DriverGuest guest;
    int status;
    pid_t child = fork ();
    ck_assert_int_ge (child, 0);
    if (child == 0) {
        owner_init (&guest);
        life (&guest);
        _exit (0);
    }
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert (WIFEXITED (status));
    return WEXITSTATUS (status) == KILLED;
}

static void strike (const char *name, Kind kind)
{
    fake.act = name;
    fake.kind = kind;
}

/* Owners come until nothing is left to be recovered. */
static void recover_all (void)
{
    fake.act = NULL;
    for (guint i = 0; i < RECOVERIES && journal_exists (fake.dir); i++)
        ck_assert (!live (live_recovery));
    ck_assert (!journal_exists (fake.dir));
}

static int recorded_state (void)
{
    bak_job job = { 0 };
    if (!record_load (fake.dir, "00000001", &job, NULL))
        return JOB_STATE_NONE;
    int state = job.state;
    bak_job_clear (&job);
    return state;
}

/* What a success keeps, or nothing at all. */
static void check_world (int state)
{
    gboolean good = state == JOB_STATE_COMPLETED;
    ck_assert_int_eq (there_is ("object1"), good);
    ck_assert_int_eq (there_is ("checkpoint"), good);
    ck_assert_uint_eq (count_objects (), good ? 2 : 0);
    ck_assert_int_eq (recorded_state (), state);
}

static void setup (void)
{
    memset (&fake, 0, sizeof fake);
    fake.dir = g_dir_make_tmp ("life-XXXXXX", NULL);
    ck_assert_ptr_nonnull (fake.dir);
    fake.world = g_build_filename (fake.dir, "world", NULL);
    ck_assert_int_eq (g_mkdir (fake.world, 0700), 0);
}

static void teardown (void)
{
    files_remove_tree (fake.dir);
    g_free (fake.dir);
    g_free (fake.world);
}

/* ---- begin ---- */

START_TEST (a_job_that_has_begun_runs_and_is_in_journal_and_record)
{
    DriverGuest guest;
    owner_init (&guest);
    ck_assert (begin (&guest, _i ? BACKUP_MODE_PULL : BACKUP_MODE_PUSH, NULL));
    g_autoptr (JournalState) state = journal_read (fake.dir, NULL);
    ck_assert_str_eq (state->phase, "running");
    ck_assert_int_eq (json_get_int (state->meta, "timeout", 0), 1000000);
    ck_assert_int_eq (recorded_state (), _i ? JOB_STATE_READY : JOB_STATE_RUNNING);
    ck_assert_int_eq (board_state (&guest.board), recorded_state ());
    ck_assert_uint_eq (count_objects (), STEPS);
    ck_assert_str_eq (guest.told->str, _i ? "preparing ready " : "preparing running ");
    owner_clear (&guest);
}
END_TEST

static void check_refused (DriverGuest *guest, GError *error)
{
    ck_assert_ptr_nonnull (error);
    ck_assert_ptr_null (guest->job);
    ck_assert (!journal_exists (fake.dir));
    ck_assert_uint_eq (count_objects (), 0);
    ck_assert_int_eq (recorded_state (), JOB_STATE_NONE);
    ck_assert_int_eq (board_state (&guest->board), JOB_STATE_NONE);
}

START_TEST (a_begin_whose_step_fails_leaves_nothing_and_no_last_backup)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    strike (begin_acts[_i / KILL_BEFORE], _i % KILL_BEFORE);
    ck_assert (!begin (&guest, BACKUP_MODE_PUSH, &error));
    check_refused (&guest, error);
    ck_assert_str_eq (guest.told->str, "preparing failed end");
    owner_clear (&guest);
}
END_TEST

START_TEST (a_begin_that_is_tried_otherwise_tells_nobody)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    fake.otherwise = TRUE;
    strike (begin_acts[_i], REFUSED);
    ck_assert (!begin (&guest, BACKUP_MODE_PUSH, &error));
    check_refused (&guest, error);
    ck_assert_str_eq (guest.told->str, "preparing ");
    owner_clear (&guest);
}
END_TEST

/* The one at the last step comes too late for the begin. */
START_TEST (a_begin_that_is_aborted_is_recorded_as_that)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    fake.aborts = TRUE;
    fake.act = begin_acts[_i];
    ck_assert (!begin (&guest, BACKUP_MODE_PUSH, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_ABORTED);
    ck_assert_ptr_null (guest.job);
    ck_assert (!guest.cancel);
    check_world (JOB_STATE_ABORTED);
    owner_clear (&guest);
}
END_TEST

START_TEST (an_owner_that_is_killed_while_it_begins_is_undone_by_the_next)
{
    strike (begin_acts[_i / 2], KILL_BEFORE + _i % 2);
    ck_assert (live (live_begin));
    recover_all ();
    check_world (JOB_STATE_FAILED);
}
END_TEST

START_TEST (nothing_is_done_where_no_record_can_be_written)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    g_autofree char *jobs = g_build_filename (fake.dir, "jobs", NULL);
    owner_init (&guest);
    ck_assert (g_file_set_contents (jobs, "", 0, NULL));
    ck_assert (!begin (&guest, BACKUP_MODE_PUSH, &error));
    check_refused (&guest, error);
    ck_assert_str_eq (guest.told->str, "");
    owner_clear (&guest);
}
END_TEST

START_TEST (an_undo_of_a_begin_that_fails_is_left_to_the_next_owner)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    strike ("undo0", _i);
    Plan *plan = make_plan (BACKUP_MODE_PUSH);
    /* the last step fails for another reason */
    plan_add (plan, "unknown", NULL, own_action ("no-such-verb", NULL), NULL);
    guest.job = job_new (&guest.place, plan, NULL);
    bak_begin_args args = { .domain = (char *) "g" };
    bak_begin_ret ret = { 0 };
    ck_assert (!life_begin (guest.job, &args, json_object_new (), &ret, &error));
    ck_assert (journal_exists (fake.dir));
    ck_assert_int_eq (recorded_state (), JOB_STATE_FAILED);
    owner_clear (&guest);
    recover_all ();
    check_world (JOB_STATE_FAILED);
}
END_TEST

/* ---- end ---- */

START_TEST (a_good_end_keeps_what_it_made_and_nothing_else)
{
    DriverGuest guest;
    owner_init (&guest);
    live_whole (&guest);
    ck_assert_ptr_null (guest.job);
    ck_assert_str_eq (guest.told->str, "preparing running stopping completed end");
    ck_assert (!journal_exists (fake.dir));
    check_world (JOB_STATE_COMPLETED);
    ck_assert_int_eq (board_state (&guest.board), JOB_STATE_COMPLETED);
    owner_clear (&guest);
}
END_TEST

/* Acts that say whether the backup is good fail it; those of the clean-up are left to the next. */
START_TEST (an_end_that_is_struck_says_what_it_knows_and_leaves_nothing)
{
    guint index = 1 + _i / KILL_BEFORE;
    DriverGuest guest;
    owner_init (&guest);
    strike (end_acts[index], _i % KILL_BEFORE);
    live_whole (&guest);
    int wanted = index < FIRST_UNDO ? JOB_STATE_FAILED : JOB_STATE_COMPLETED;
    ck_assert_ptr_null (guest.job);
    ck_assert_int_eq (recorded_state (), wanted);
    owner_clear (&guest);
    recover_all ();
    check_world (wanted);
}
END_TEST

START_TEST (an_owner_that_is_killed_while_it_ends_is_followed_by_one_that_ends_it_well)
{
    strike (end_acts[_i / 2], KILL_BEFORE + _i % 2);
    ck_assert (live (live_whole));
    recover_all ();
    check_world (JOB_STATE_COMPLETED);
}
END_TEST

/* Both were about to do the same, or the second comes that far at all. */
START_TEST (an_owner_that_is_killed_while_it_recovers_is_followed_by_another)
{
    guint acts = G_N_ELEMENTS (end_acts);
    strike (end_acts[_i / acts], KILL_BEFORE + _i % 2);
    ck_assert (live (live_whole));
    strike (end_acts[_i % acts], KILL_AFTER - _i % 2);
    live (live_recovery);
    recover_all ();
    check_world (JOB_STATE_COMPLETED);
}
END_TEST

START_TEST (an_abort_takes_all_back)
{
    DriverGuest guest;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PUSH, NULL));
    life_abort (guest.job, "aborted on request");
    ck_assert_str_eq (guest.told->str, "preparing running stopping aborted end");
    check_world (JOB_STATE_ABORTED);
    ck_assert (!journal_exists (fake.dir));
    owner_clear (&guest);
}
END_TEST

START_TEST (an_abort_while_what_was_copied_is_flushed_is_an_abort)
{
    DriverGuest guest;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PUSH, NULL));
    fake.aborts = TRUE;
    fake.act = _i ? "finish1" : "finish0";
    life_end (guest.job, JOB_EVENT_GOOD, NULL);
    check_world (JOB_STATE_ABORTED);
    ck_assert (!guest.cancel);
    owner_clear (&guest);
}
END_TEST

START_TEST (a_deadline_aborts_and_a_pull_without_readers_fails)
{
    DriverGuest guest;
    gint64 late = g_get_monotonic_time () + (gint64) 3600 * G_USEC_PER_SEC;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PULL, NULL));
    guest.job->plan->idle_timeout = 10;
    ck_assert (life_mind_deadline (guest.job, guest.job->deadline - 1));
    ck_assert (life_mind_readers (guest.job, late, -1));
    ck_assert (life_mind_readers (guest.job, late + 5 * G_USEC_PER_SEC, 0));
    if (_i)
        ck_assert (!life_mind_deadline (guest.job, late));
    else
        ck_assert (!life_mind_readers (guest.job, late + 10 * G_USEC_PER_SEC, 0));
    check_world (_i ? JOB_STATE_ABORTED : JOB_STATE_FAILED);
    owner_clear (&guest);
}
END_TEST

static gboolean stop (DriverGuest *guest, gboolean abort, bak_job *ret, GError **error)
{
    if (abort)
        life_abort (guest->job, "aborted on request");
    else
        life_end (guest->job, JOB_EVENT_GOOD, NULL);
    board_copy (&guest->board, ret);
    return TRUE;
}

/* On a pull that is ready, libvirt's only end is the verdict. */
START_TEST (a_client_of_libvirt_ends_a_pull_well_and_a_push_by_an_abort)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    ck_assert (begin (&guest, _i ? BACKUP_MODE_PULL : BACKUP_MODE_PUSH, NULL));
    ck_assert (life_job_abort (guest.job, stop, &error));
    check_world (_i ? JOB_STATE_COMPLETED : JOB_STATE_ABORTED);
    owner_clear (&guest);
}
END_TEST

START_TEST (a_pull_that_proves_bad_is_an_error_to_a_client_of_libvirt)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PULL, NULL));
    strike ("verify0", REFUSED);
    ck_assert (!life_job_abort (guest.job, stop, &error));
    ck_assert_str_eq (error->message, "struck at verify0");
    check_world (JOB_STATE_FAILED);
    owner_clear (&guest);
}
END_TEST

START_TEST (one_failed_disk_says_what_became_of_the_others)
{
    DriverGuest guest;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PUSH, NULL));
    job_fail_disk (guest.job, _i, "no space left");
    const bak_job_disk *failed = &guest.job->record.disks.disks_val[_i],
                       *other = &guest.job->record.disks.disks_val[!_i];
    ck_assert_int_eq (failed->state, JOB_STATE_FAILED);
    ck_assert_str_eq (failed->error, "no space left");
    ck_assert_int_eq (other->state, JOB_STATE_ABORTED);
    ck_assert_str_eq (other->error, _i ? "cancelled because disk 'vdb' failed"
                                       : "copied, but removed because disk 'vda' failed");
    owner_clear (&guest);
}
END_TEST

START_TEST (a_limit_is_of_copies_that_go_on_and_of_disks_that_there_are)
{
    DriverGuest guest;
    g_autoptr (GError) error = NULL;
    owner_init (&guest);
    ck_assert (begin (&guest, BACKUP_MODE_PUSH, NULL));
    ck_assert (life_limit (guest.job, "", 1000, NULL));
    ck_assert_uint_eq (guest.job->record.disks.disks_val[0].limit, 500);
    ck_assert_uint_eq (guest.job->record.disks.disks_val[1].limit, 0);
    ck_assert (!life_limit (guest.job, "vdz", 1000, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_NO_DISK);
    owner_clear (&guest);
}
END_TEST

/* ---- recover ---- */

START_TEST (what_runs_is_adopted_and_ends_well)
{
    DriverGuest guest;
    ck_assert (!live (live_begin));
    owner_init (&guest);
    ck_assert (recover (&guest, NULL));
    ck_assert_uint_eq (guest.adopted, 1);
    ck_assert_uint_eq (guest.refreshed, 1);
    ck_assert_str_eq (guest.told->str, "running ");
    ck_assert_int_gt (guest.job->deadline, 0);
    life_end (guest.job, JOB_EVENT_GOOD, NULL);
    check_world (JOB_STATE_COMPLETED);
    owner_clear (&guest);
}
END_TEST

/* Only what had finished by then is good. */
START_TEST (what_ran_in_a_qemu_that_is_gone_has_failed_unless_it_had_finished)
{
    strike (end_acts[_i], KILL_BEFORE);
    ck_assert (live (live_whole));
    for (int i = 0; i < STEPS; i++) {
        g_autofree char *object = g_strdup_printf ("object%d", i);
        set_object (object, i == KEPT && there_is (object));
    }
    gboolean finished = g_str_equal (end_acts[_i], "promote0") || _i >= FIRST_UNDO;
    fake.gone = TRUE;
    recover_all ();
    ck_assert_int_eq (recorded_state (), finished ? JOB_STATE_COMPLETED : JOB_STATE_FAILED);
    ck_assert_int_eq (there_is ("checkpoint"), finished);
}
END_TEST

START_TEST (a_damaged_journal_ends_in_a_record_that_says_so)
{
    DriverGuest guest;
    bak_job job;
    ck_assert (!live (live_begin));
    owner_init (&guest);
    life_recover_damaged (&guest.place, "damaged", NULL);
    ck_assert (!journal_exists (fake.dir));
    ck_assert (record_load (fake.dir, "", &job, NULL));
    ck_assert_int_eq (job.state, JOB_STATE_FAILED);
    ck_assert_str_eq (job.error, "damaged");
    bak_job_clear (&job);
    owner_clear (&guest);
}
END_TEST

/* ---- moves ---- */

START_TEST (only_the_moves_of_the_table_are_made)
{
    static const struct {
        int from;
        JobEvent event;
        int to;
    } moves[] = {
        { JOB_STATE_PREPARING, JOB_EVENT_BEGUN_PUSH, JOB_STATE_RUNNING },
        { JOB_STATE_PREPARING, JOB_EVENT_BEGUN_PULL, JOB_STATE_READY },
        { JOB_STATE_PREPARING, JOB_EVENT_END, JOB_STATE_STOPPING },
        { JOB_STATE_PREPARING, JOB_EVENT_BAD, JOB_STATE_FAILED },
        { JOB_STATE_PREPARING, JOB_EVENT_ABORTED, JOB_STATE_ABORTED },
        { JOB_STATE_RUNNING, JOB_EVENT_IN_STEP, JOB_STATE_READY },
        { JOB_STATE_RUNNING, JOB_EVENT_END, JOB_STATE_STOPPING },
        { JOB_STATE_READY, JOB_EVENT_END, JOB_STATE_STOPPING },
        { JOB_STATE_STOPPING, JOB_EVENT_END, JOB_STATE_STOPPING },
        { JOB_STATE_STOPPING, JOB_EVENT_GOOD, JOB_STATE_COMPLETED },
        { JOB_STATE_STOPPING, JOB_EVENT_BAD, JOB_STATE_FAILED },
        { JOB_STATE_STOPPING, JOB_EVENT_ABORTED, JOB_STATE_ABORTED },
    };
    for (int state = -1; state <= JOB_STATE_ABORTED + 1; state++)
        for (int event = 0; event <= JOB_EVENTS; event++) {
            int wanted = -1;
            for (guint i = 0; i < G_N_ELEMENTS (moves); i++)
                if (moves[i].from == state && (int) moves[i].event == event)
                    wanted = moves[i].to;
            ck_assert_int_eq (job_next_state (state, event), wanted);
        }
}
END_TEST

int main (void)
{
    const int begins = G_N_ELEMENTS (begin_acts), ends = G_N_ELEMENTS (end_acts);
    Suite *suite = suite_create ("life");
    TCase *begin = tcase_create ("begin"), *end = tcase_create ("end"),
          *after = tcase_create ("recover"), *table = tcase_create ("moves");
    TCase *const cases[] = { begin, end, after, table };

    tcase_add_loop_test (begin, a_job_that_has_begun_runs_and_is_in_journal_and_record, 0, 2);
    tcase_add_loop_test (begin, a_begin_whose_step_fails_leaves_nothing_and_no_last_backup, 0,
                         begins * KILL_BEFORE);
    tcase_add_loop_test (begin, a_begin_that_is_tried_otherwise_tells_nobody, 0, begins);
    tcase_add_loop_test (begin, a_begin_that_is_aborted_is_recorded_as_that, 0, begins - 1);
    tcase_add_loop_test (begin, an_owner_that_is_killed_while_it_begins_is_undone_by_the_next, 0,
                         begins * 2);
    tcase_add_test (begin, nothing_is_done_where_no_record_can_be_written);
    tcase_add_loop_test (begin, an_undo_of_a_begin_that_fails_is_left_to_the_next_owner, 0,
                         DONE_UNHEARD);
    tcase_add_test (end, a_good_end_keeps_what_it_made_and_nothing_else);
    tcase_add_loop_test (end, an_end_that_is_struck_says_what_it_knows_and_leaves_nothing, 0,
                         (ends - 1) * KILL_BEFORE);
    tcase_add_loop_test (end,
                         an_owner_that_is_killed_while_it_ends_is_followed_by_one_that_ends_it_well,
                         0, ends * 2);
    tcase_add_loop_test (end, an_owner_that_is_killed_while_it_recovers_is_followed_by_another, 0,
                         ends * ends);
    tcase_add_test (end, an_abort_takes_all_back);
    tcase_add_loop_test (end, an_abort_while_what_was_copied_is_flushed_is_an_abort, 0, 2);
    tcase_add_loop_test (end, a_deadline_aborts_and_a_pull_without_readers_fails, 0, 2);
    tcase_add_loop_test (end, a_client_of_libvirt_ends_a_pull_well_and_a_push_by_an_abort, 0, 2);
    tcase_add_test (end, a_pull_that_proves_bad_is_an_error_to_a_client_of_libvirt);
    tcase_add_loop_test (end, one_failed_disk_says_what_became_of_the_others, 0, 2);
    tcase_add_test (end, a_limit_is_of_copies_that_go_on_and_of_disks_that_there_are);
    tcase_add_test (after, what_runs_is_adopted_and_ends_well);
    tcase_add_loop_test (after, what_ran_in_a_qemu_that_is_gone_has_failed_unless_it_had_finished,
                         0, ends - 1);
    tcase_add_test (after, a_damaged_journal_ends_in_a_record_that_says_so);
    tcase_add_test (table, only_the_moves_of_the_table_are_made);
    for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
        tcase_add_checked_fixture (cases[i], setup, teardown);
        suite_add_tcase (suite, cases[i]);
    }
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
