#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <glib/gstdio.h>
#include "driver/qemu/agent.h"
#include "helper.h"

typedef struct {
    Helper helper;
    Agent *agent;
    char *record;
} Fixture;

static void start (Fixture *f, const char *fault)
{
    g_autofree char *name = g_strdup_printf ("fakeagent-%d.log", (int) getpid ());
    f->record = g_build_filename (g_get_tmp_dir (), name, NULL);
    const char *const args[] = { "python3",     TESTS "/fake/fakeagent.py",
                                 "--listen-fd", "%FD",
                                 "--record",    f->record,
                                 "--fault",     fault,
                                 NULL };
    helper_start (&f->helper, 1, args);
    f->agent = NULL;
}

static void connect_agent (Fixture *f)
{
    g_autoptr (GError) error = NULL;
    f->agent = agent_connect (f->helper.path, 20000, &error);
    ck_assert_msg (f->agent != NULL, "%s", error ? error->message : "");
}

static char *recorded (Fixture *f)
{
    char *text = NULL;
    g_file_get_contents (f->record, &text, NULL, NULL);
    return text ? text : g_strdup ("");
}

static void finish (Fixture *f)
{
    agent_close (f->agent);
    helper_stop (&f->helper);
    g_unlink (f->record);
    g_free (f->record);
}

/* The last thing that happened to the guest. */
static gboolean guest_is_frozen (Fixture *f)
{
    g_autofree char *text = recorded (f);
    const char *frozen = g_strrstr (text, "\nfrozen\n"), *thawed = g_strrstr (text, "\nthawed\n");
    return frozen && (!thawed || thawed < frozen);
}

static const char *const harmless[] = { "none", "stale", "garbage" };

START_TEST (freeze_and_thaw_count_the_same)
{
    Fixture f;
    start (&f, harmless[_i]);
    connect_agent (&f);
    int frozen = -1, thawed = -1;
    gboolean state = FALSE;
    g_autoptr (GError) error = NULL;
    ck_assert_msg (agent_freeze (f.agent, NULL, 5000, &frozen, &error), "%s",
                   error ? error->message : "");
    ck_assert (agent_status (f.agent, 5000, &state, NULL) && state);
    ck_assert (agent_thaw (f.agent, 5000, &thawed, NULL));
    ck_assert (agent_status (f.agent, 5000, &state, NULL) && !state);
    ck_assert_int_eq (frozen, 2);
    ck_assert_int_eq (thawed, 2);
    finish (&f);
}
END_TEST

START_TEST (a_freeze_of_some_mountpoints_names_them)
{
    Fixture f;
    start (&f, "none");
    connect_agent (&f);
    const char *const mountpoints[] = { "/a", "/b", "/c", NULL };
    int frozen = -1;
    ck_assert (agent_freeze (f.agent, mountpoints, 5000, &frozen, NULL));
    ck_assert_int_eq (frozen, 3);
    finish (&f);
}
END_TEST

START_TEST (an_agent_that_is_absent_is_said_so_in_time)
{
    Fixture f;
    start (&f, "absent");
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (agent_connect (f.helper.path, 300, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_CONNECTION);
    ck_assert_ptr_nonnull (strstr (error->message, "does not answer"));
    finish (&f);
}
END_TEST

START_TEST (no_socket_is_a_connection_error)
{
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (agent_connect ("/no/such/agent", 300, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_CONNECTION);
}
END_TEST

/* However a freeze fails, the guest is not left frozen. */
static const struct {
    const char *fault;
    guint timeout_ms;
    int code;
    const char *says;
} failures[] = {
    { "freeze-fails", 5000, BAK_ERROR_AGENT,
      "GenericError: failed to freeze /: Device or resource busy" },
    { "control", 5000, BAK_ERROR_AGENT, "\\x1b]0;x\\x07: bad\\x1b[2J\\x0d\\x0a%s%n" },
    { "freeze-hangs", 300, BAK_ERROR_TIMEOUT, "guest-fsfreeze-freeze" },
    { "freeze-eof", 5000, BAK_ERROR_CONNECTION, "connection closed" },
    { "freeze-text", 5000, BAK_ERROR_AGENT, "not a number" },
    { "freeze-huge", 5000, BAK_ERROR_AGENT, "its reply is none" },
};

START_TEST (a_freeze_that_fails_leaves_nothing_frozen)
{
    Fixture f;
    start (&f, failures[_i].fault);
    connect_agent (&f);
    int frozen = -1;
    g_autoptr (GError) error = NULL;
    ck_assert (!agent_freeze (f.agent, NULL, failures[_i].timeout_ms, &frozen, &error));
    ck_assert_msg (error->code == failures[_i].code && strstr (error->message, failures[_i].says),
                   "%d: %s", error->code, error->message);
    ck_assert (!guest_is_frozen (&f));
    finish (&f);
}
END_TEST

START_TEST (a_thaw_is_repeated_until_it_is_confirmed)
{
    Fixture f;
    start (&f, "thaw-hangs-once");
    connect_agent (&f);
    int frozen = -1, thawed = -1;
    ck_assert (agent_freeze (f.agent, NULL, 5000, &frozen, NULL));
    ck_assert (agent_thaw (f.agent, 30000, &thawed, NULL));
    ck_assert_int_eq (thawed, 0); /* differs from what was frozen: consistency is not proved */
    ck_assert (!guest_is_frozen (&f));
    finish (&f);
}
END_TEST

START_TEST (a_thaw_that_is_refused_is_an_error_that_says_what_it_means)
{
    Fixture f;
    start (&f, "thaw-fails");
    connect_agent (&f);
    int frozen = -1, thawed = -1;
    g_autoptr (GError) error = NULL;
    ck_assert (agent_freeze (f.agent, NULL, 5000, &frozen, NULL));
    ck_assert (!agent_thaw (f.agent, 5000, &thawed, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_AGENT);
    ck_assert_ptr_nonnull (strstr (error->message, "may still be frozen"));
    finish (&f);
}
END_TEST

START_TEST (a_guest_that_is_thawed_already_needs_no_thaw)
{
    Fixture f;
    start (&f, "thaw-refused-when-thawed");
    connect_agent (&f);
    int thawed = -1;
    ck_assert (agent_thaw (f.agent, 5000, &thawed, NULL));
    ck_assert_int_eq (thawed, 0);
    finish (&f);
}
END_TEST

START_TEST (a_file_system_that_thawed_itself_shows_in_the_count)
{
    Fixture f;
    start (&f, "thaw-fewer");
    connect_agent (&f);
    int frozen = -1, thawed = -1;
    ck_assert (agent_freeze (f.agent, NULL, 5000, &frozen, NULL));
    ck_assert (agent_thaw (f.agent, 5000, &thawed, NULL));
    ck_assert_int_ne (frozen, thawed);
    finish (&f);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("agent");
    TCase *tests = tcase_create ("agent");
    tcase_add_loop_test (tests, freeze_and_thaw_count_the_same, 0, G_N_ELEMENTS (harmless));
    tcase_add_test (tests, a_freeze_of_some_mountpoints_names_them);
    tcase_add_test (tests, an_agent_that_is_absent_is_said_so_in_time);
    tcase_add_test (tests, no_socket_is_a_connection_error);
    tcase_add_loop_test (tests, a_freeze_that_fails_leaves_nothing_frozen, 0,
                         G_N_ELEMENTS (failures));
    tcase_add_test (tests, a_thaw_is_repeated_until_it_is_confirmed);
    tcase_add_test (tests, a_thaw_that_is_refused_is_an_error_that_says_what_it_means);
    tcase_add_test (tests, a_guest_that_is_thawed_already_needs_no_thaw);
    tcase_add_test (tests, a_file_system_that_thawed_itself_shows_in_the_count);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
