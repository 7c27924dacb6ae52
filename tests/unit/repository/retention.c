/* Which points a prune keeps: pure rules over instants. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "repository/retention.h"

#define AT(year, month, day, hour) "" #year "-" #month "-" #day "T" #hour ":00:00Z"

typedef struct {
    const char *when; /* UTC */
    char mark;        /* 'p' pinned, 'd' damaged, ' ' plain */
    const char *why;  /* NULL: goes; "*": any */
} Row;

static const struct {
    const char *name;
    Keep keep;
    Row rows[12]; /* oldest first */
} cases[] = {
    { "last keeps the newest",
      { .count = { [KEEP_LAST] = 2 } },
      { { AT (2026, 01, 01, 01), ' ', NULL },
        { AT (2026, 01, 02, 01), ' ', "last" },
        { AT (2026, 01, 03, 01), ' ', "last" } } },
    { "daily keeps the newest of a day",
      { .count = { [KEEP_DAILY] = 2 } },
      { { AT (2026, 01, 01, 05), ' ', NULL },
        { AT (2026, 01, 02, 01), ' ', NULL },
        { AT (2026, 01, 02, 23), ' ', "daily 2026-01-02" },
        { AT (2026, 01, 03, 01), ' ', "daily 2026-01-03" } } },
    { "a rule skips the periods of an earlier one",
      { .count = { [KEEP_LAST] = 1, [KEEP_DAILY] = 1 } },
      { { AT (2026, 01, 01, 05), ' ', NULL },
        { AT (2026, 01, 02, 23), ' ', "daily 2026-01-02" },
        { AT (2026, 01, 03, 01), ' ', NULL },
        { AT (2026, 01, 03, 02), ' ', "last" } } },
    { "weeks are ISO weeks: the first of January may be of the year before",
      { .count = { [KEEP_WEEKLY] = 2 } },
      { { AT (2026, 12, 30, 01), ' ', NULL },
        { AT (2027, 01, 02, 01), ' ', "weekly 2026-W53" },
        { AT (2027, 01, 04, 01), ' ', "weekly 2027-W01" } } },
    { "hours, months and years",
      { .count = { [KEEP_HOURLY] = 1, [KEEP_MONTHLY] = 1, [KEEP_YEARLY] = 1 } },
      { { AT (2024, 06, 01, 01), ' ', NULL },
        { AT (2025, 06, 01, 01), ' ', "yearly 2025" },
        { AT (2026, 01, 01, 01), ' ', "monthly 2026-01" },
        { AT (2026, 02, 01, 01), ' ', "hourly 2026-02-01 01:00" } } },
    { "pinned points stay and count for nothing",
      { .count = { [KEEP_LAST] = 1 } },
      { { AT (2026, 01, 01, 01), ' ', NULL },
        { AT (2026, 01, 02, 01), ' ', "last" },
        { AT (2026, 01, 03, 01), 'p', "pinned" } } },
    { "damaged points stay and count for nothing",
      { .count = { [KEEP_DAILY] = 1 } },
      { { AT (2026, 01, 02, 01), ' ', "daily 2026-01-02" }, { AT (2026, 01, 03, 01), 'd', "*" } } },
    { "within reaches back from the newest point, not from now",
      { .within = 25ull * 3600 * G_USEC_PER_SEC },
      { { AT (2020, 01, 01, 01), ' ', NULL },
        { AT (2020, 01, 02, 00), ' ', "within" },
        { AT (2020, 01, 03, 01), ' ', "within" } } },
    { "the newest good point stays whatever the rules say",
      { { 0 } },
      { { AT (2020, 01, 01, 01), ' ', NULL },
        { AT (2020, 01, 02, 00), ' ', "*" },
        { AT (2020, 01, 03, 01), 'p', "pinned" } } },
    { "order is that of the sequence, whatever a clock that was set back said",
      { .count = { [KEEP_LAST] = 1 } },
      { { AT (2030, 01, 01, 01), ' ', NULL }, { AT (2020, 01, 01, 01), ' ', "last" } } },
};

static gint64 instant (const char *text)
{
    g_autoptr (GDateTime) time = g_date_time_new_from_iso8601 (text, NULL);
    ck_assert_ptr_nonnull (time);
    return g_date_time_to_unix (time) * G_USEC_PER_SEC;
}

START_TEST (rules_keep_what_they_say)
{
    const Row *rows = cases[_i].rows;
    KeepPoint points[12] = { 0 };
    guint count = 0;
    for (; count < 12 && rows[count].when; count++) {
        points[count].instant = instant (rows[count].when);
        points[count].pinned = rows[count].mark == 'p';
        points[count].damaged = rows[count].mark == 'd';
    }
    keep_choose (&cases[_i].keep, points, count);
    for (guint i = 0; i < count; i++) {
        const char *why = rows[i].why;
        ck_assert_msg (points[i].keep == (why != NULL), "%s: row %u: %s", cases[_i].name, i,
                       points[i].keep ? points[i].why : "goes");
        if (why && strcmp (why, "*") != 0)
            ck_assert_str_eq (points[i].why, why);
        keep_point_clear (&points[i]);
    }
}
END_TEST

START_TEST (no_rule_is_told)
{
    Keep none = { { 0 } }, within = { .within = 1 }, yearly = { .count = { [KEEP_YEARLY] = 1 } };
    ck_assert (keep_is_empty (&none));
    ck_assert (!keep_is_empty (&within));
    ck_assert (!keep_is_empty (&yearly));
}
END_TEST

/* A DST change has a day of 23 hours and one of 25: each is one period. */
START_TEST (days_are_local)
{
    g_setenv ("TZ", "Europe/Berlin", TRUE);
    Keep keep = { .count = { [KEEP_DAILY] = 9 } };
    KeepPoint points[] = { { .instant = instant ("2026-10-24T22:30:00Z") },
                           { .instant = instant ("2026-10-25T22:30:00Z") },
                           { .instant = instant ("2026-10-25T23:30:00Z") } };
    keep_choose (&keep, points, 3);
    ck_assert (!points[0].keep);
    ck_assert_str_eq (points[1].why, "daily 2026-10-25");
    ck_assert_str_eq (points[2].why, "daily 2026-10-26");
    for (guint i = 0; i < 3; i++)
        keep_point_clear (&points[i]);
}
END_TEST

int main (void)
{
    g_setenv ("TZ", "UTC", TRUE);
    Suite *suite = suite_create ("retention");
    TCase *tcase = tcase_create ("rules");
    tcase_add_loop_test (tcase, rules_keep_what_they_say, 0, G_N_ELEMENTS (cases));
    tcase_add_test (tcase, no_rule_is_told);
    tcase_add_test (tcase, days_are_local);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
