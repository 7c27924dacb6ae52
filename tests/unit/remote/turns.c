/* Whose turn it is, and what a line of the audit log can be made of. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "remote/audit.h"
#include "remote/turns.h"

enum { WORKERS = 16, PER_GUEST = 4, SHARE = 4, TRUSTED = 12, MANY = 200 };
static const TurnLimits limits = { WORKERS, PER_GUEST, SHARE, TRUSTED };
static const gint64 SECOND = G_USEC_PER_SEC;

static Turns *turns;

static void setup (void)
{
    turns = turns_new (&limits);
}

static void teardown (void)
{
    turns_free (turns);
}

static Turn *wait_for (User *user, const char *guest, guint count)
{
    Turn *made = g_new0 (Turn, count);
    for (guint i = 0; i < count; i++) {
        made[i].user = user;
        made[i].guest = guest;
        turns_add (turns, &made[i]);
    }
    return made;
}

static guint start_all (gint64 now, GPtrArray *started)
{
    guint count = 0;
    for (Turn *turn; (turn = turns_next (turns, now)); count++)
        g_ptr_array_add (started, turn);
    return count;
}

static void end_all (GPtrArray *started, gint64 now)
{
    while (started->len > 0 || turns_waiting (turns) > 0) {
        if (started->len == 0)
            ck_assert_uint_gt (start_all (now, started), 0);
        turns_done (turns, g_ptr_array_steal_index (started, 0));
        start_all (now, started);
    }
}

START_TEST (a_hung_guest_holds_its_own_calls_only)
{
    User *user = turns_user (turns, "root", TRUE);
    g_autoptr (GPtrArray) started = g_ptr_array_new ();
    g_autofree Turn *hung = wait_for (user, "hung", MANY), *good = wait_for (user, "good", 2);
    gint64 now = SECOND;
    ck_assert_uint_eq (start_all (now, started), PER_GUEST + 2);
    /* it hangs for good: nobody else waits for it, and it is given no more */
    now += TURN_STUCK_SECONDS * SECOND;
    turns_done (turns, &hung[0]);
    g_ptr_array_remove (started, &hung[0]);
    ck_assert_uint_eq (start_all (now, started), 0);
    g_autofree Turn *later = wait_for (user, "good", 1);
    ck_assert_uint_eq (start_all (now, started), 0); /* two of it are as old */
    turns_done (turns, &good[0]);
    turns_done (turns, &good[1]);
    g_ptr_array_remove (started, &good[0]);
    g_ptr_array_remove (started, &good[1]);
    ck_assert_uint_eq (start_all (now, started), 1);
    ck_assert_ptr_eq (started->pdata[started->len - 1], later);
    end_all (started, now);
    turns_user_unref (turns, user);
}
END_TEST

START_TEST (who_asks_much_waits_for_himself)
{
    User *greedy = turns_user (turns, "greedy", FALSE),
         *modest = turns_user (turns, "modest", FALSE);
    g_autoptr (GPtrArray) started = g_ptr_array_new ();
    g_autofree Turn *many = wait_for (greedy, NULL, MANY), *few = wait_for (modest, NULL, 2);
    ck_assert_uint_eq (start_all (SECOND, started), SHARE + 2);
    ck_assert_uint_eq (few[0].started, SECOND);
    ck_assert_uint_eq (few[1].started, SECOND);
    ck_assert_uint_eq (many[SHARE].started, 0);
    end_all (started, SECOND);
    turns_user_unref (turns, greedy);
    turns_user_unref (turns, modest);
}
END_TEST

START_TEST (users_take_turns_at_a_worker)
{
    enum { USERS = WORKERS * 2 };
    User *users[USERS];
    Turn *calls[USERS];
    g_autoptr (GPtrArray) started = g_ptr_array_new ();
    for (guint i = 0; i < USERS; i++) {
        g_autofree char *name = g_strdup_printf ("u%u", i);
        users[i] = turns_user (turns, name, FALSE);
        calls[i] = wait_for (users[i], NULL, 2);
    }
    ck_assert_uint_eq (start_all (SECOND, started), WORKERS);
    for (guint i = 0; i < USERS; i++)
        ck_assert_int_eq (calls[i][0].started, i < WORKERS ? SECOND : 0);
    for (guint i = 0; i < WORKERS; i++) {
        turns_done (turns, &calls[i][0]);
        g_ptr_array_remove (started, &calls[i][0]);
        ck_assert_uint_eq (start_all (SECOND, started), 1);
        ck_assert_int_eq (calls[WORKERS + i][0].started, SECOND);
        ck_assert_int_eq (calls[i][1].started, 0);
    }
    end_all (started, SECOND);
    for (guint i = 0; i < USERS; i++) {
        turns_user_unref (turns, users[i]);
        g_free (calls[i]);
    }
}
END_TEST

START_TEST (many_hung_guests_leave_workers_for_the_others)
{
    enum { GUESTS = WORKERS / PER_GUEST };
    static const char *const names[GUESTS] = { "a", "b", "c", "d" };
    User *user = turns_user (turns, "root", TRUE), *other = turns_user (turns, "other", FALSE);
    g_autoptr (GPtrArray) started = g_ptr_array_new ();
    Turn *hung[GUESTS];
    for (guint i = 0; i < GUESTS; i++)
        hung[i] = wait_for (user, names[i], PER_GUEST);
    start_all (SECOND, started);
    gint64 again = turns_look_again (turns, SECOND);
    ck_assert_int_eq (again, SECOND + TURN_STUCK_SECONDS * SECOND);
    start_all (again, started);
    g_autofree Turn *call = wait_for (other, "good", 1);
    ck_assert_uint_eq (start_all (again, started), 1);
    ck_assert_int_eq (call->started, again);
    end_all (started, again + SECOND);
    for (guint i = 0; i < GUESTS; i++)
        g_free (hung[i]);
    turns_user_unref (turns, user);
    turns_user_unref (turns, other);
}
END_TEST

START_TEST (one_user_cannot_have_all_workers_by_what_hangs)
{
    User *user = turns_user (turns, "nobody", FALSE);
    g_autoptr (GPtrArray) started = g_ptr_array_new ();
    g_autofree Turn *calls = wait_for (user, NULL, MANY);
    gint64 now = SECOND;
    for (guint i = 0; i < 10; i++, now += TURN_STUCK_SECONDS * SECOND)
        start_all (now, started);
    ck_assert_uint_eq (started->len, 2 * SHARE);
    end_all (started, now);
    turns_user_unref (turns, user);
}
END_TEST

START_TEST (what_is_held_is_counted_by_user)
{
    User *a = turns_user (turns, "a", FALSE), *b = turns_user (turns, "b", FALSE);
    ck_assert_ptr_null (turns_largest_user (turns));
    user_charge (turns, a, 10);
    user_charge (turns, b, 20);
    ck_assert_ptr_eq (turns_largest_user (turns), b);
    user_charge (turns, b, -15);
    ck_assert_ptr_eq (turns_largest_user (turns), a);
    ck_assert_uint_eq (turns_bytes (turns), 15);
    ck_assert_ptr_eq (turns_user (turns, "a", FALSE), a);
    turns_user_unref (turns, a);
    ck_assert_uint_eq (user_bytes (a), 10);
    turns_user_unref (turns, a);
    turns_user_unref (turns, b);
}
END_TEST

static const struct {
    const char *value, *text;
} values[] = {
    { "plain", "a=plain" },
    { NULL, "a=-" },
    { "", "a=\"\"" },
    { "CN=store,O=Firm", "a=CN=store,O=Firm" },
    { "My Firm", "a=\"My Firm\"" },
    { "x\naudit: who=root", "a=\"x\\x0aaudit: who=root\"" },
    { "x result=done", "a=\"x result=done\"" },
    { "x\" result=\"done", "a=\"x\\\" result=\\\"done\"" },
    { "\x1b[31mred\r", "a=\"\\x1b[31mred\\x0d\"" },
    { "\xff\xfe", "a=\"\\xff\\xfe\"" },
};

START_TEST (no_value_ends_a_line_or_adds_a_field)
{
    g_autofree char *line = audit_line ("a", values[_i].value, "b", "c", NULL);
    g_autofree char *wanted = g_strdup_printf ("audit: %s b=c", values[_i].text);
    ck_assert_str_eq (line, wanted);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("turns");
    TCase *tcase = tcase_create ("turns");
    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_add_test (tcase, a_hung_guest_holds_its_own_calls_only);
    tcase_add_test (tcase, who_asks_much_waits_for_himself);
    tcase_add_test (tcase, users_take_turns_at_a_worker);
    tcase_add_test (tcase, many_hung_guests_leave_workers_for_the_others);
    tcase_add_test (tcase, one_user_cannot_have_all_workers_by_what_hangs);
    tcase_add_test (tcase, what_is_held_is_counted_by_user);
    tcase_add_loop_test (tcase, no_value_ends_a_line_or_adds_a_field, 0, G_N_ELEMENTS (values));
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
