/* A whole connection, from the greeting to the picture of the guest, against a QEMU that somebody
 * has taken over. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "driver/qemu/graph.h"
#include "driver/qemu/qmp.h"
#include "helper.h"

/* code 0: all goes well in spite of it */
static const struct {
    const char *lie;
    int code;
    const char *says;
} lies[] = {
    { "silent", BAK_ERROR_MONITOR_HELD, "another client" },
    { "hmp", BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "http", BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "json-but-no-greeting", BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "greeting-without-version", BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "events-before-greeting", BAK_ERROR_MONITOR_HELD, "no greeting" },
    { "endless-greeting", BAK_ERROR_CONNECTION, "larger than anything" },
    { "endless-spaces", BAK_ERROR_MONITOR_HELD, "another client" },
    { "endless-reply", BAK_ERROR_CONNECTION, "larger than anything" },
    { "endless-string", BAK_ERROR_CONNECTION, "larger than anything" },
    { "endless-objects", BAK_ERROR_CONNECTION, "larger than anything" },
    { "endless-members", BAK_ERROR_CONNECTION, "larger than anything" },
    { "largest-string", BAK_ERROR_MONITOR, "list of nodes" },
    { "largest-list", BAK_ERROR_MONITOR, "list of nodes" },
    { "largest-objects", BAK_ERROR_MONITOR, "nodes" },
    { "largest-small-objects", BAK_ERROR_MONITOR, "nodes" },
    { "largest-members", BAK_ERROR_MONITOR, "list of nodes" },
    { "endless-events", BAK_ERROR_TIMEOUT, "no reply" },
    { "million-nodes", BAK_ERROR_CONNECTION, "larger than anything" },
    { "deep", BAK_ERROR_CONNECTION, "nested too deeply" },
    { "garbage", BAK_ERROR_CONNECTION, "not JSON" },
    { "wrong-ids", BAK_ERROR_TIMEOUT, "no reply to 'query-block'" },
    { "error-without-id", BAK_ERROR_CONNECTION, "could not read" },
    { "foreign-events", 0, NULL },
    { "control-characters", BAK_ERROR_MONITOR, "GenericError: \\x1b[2J" },
    { "control-characters-in-names", BAK_ERROR_MONITOR, "node '\\x1b[2J" },
    { "absurd-sizes", BAK_ERROR_MONITOR, "impossible size" },
    { "wrong-types", BAK_ERROR_MONITOR, "list of nodes" },
    { "hang", BAK_ERROR_TIMEOUT, "no reply to 'query-block'" },
    { "freeze", BAK_ERROR_TIMEOUT, "no reply" },
    { "eof-in-reply", BAK_ERROR_CONNECTION, "monitor" },
    /* both: closed or reset, as the peer left bytes unread or not */
    { "eof", BAK_ERROR_CONNECTION, "monitor" },
};

/* A sanitizer keeps shadows of everything. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED TRUE
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED TRUE
#endif
#endif
#ifndef SANITIZED
#define SANITIZED FALSE
#endif

static guint64 peak_memory (void)
{
    g_autofree char *status = NULL;
    g_file_get_contents ("/proc/self/status", &status, NULL, NULL);
    const char *line = strstr (status, "VmHWM:");
    return line ? g_ascii_strtoull (line + strlen ("VmHWM:"), NULL, 10) * 1024 : 0;
}

/* Timeouts are short where one is expected, and else long enough for a busy machine. */
static Graph *look (const char *path, int expected, GError **error)
{
    g_autoptr (Qmp) qmp =
        qmp_connect (path, NULL, expected == BAK_ERROR_MONITOR_HELD ? 1000 : 30000, error);
    if (!qmp)
        return NULL;
    qmp_set_default_timeout (qmp, expected == BAK_ERROR_TIMEOUT ? 4000 : 30000);
    g_autoptr (Caps) caps = caps_load (qmp, error);
    return caps ? graph_load (qmp, caps, GRAPH_ALL, NULL, error) : NULL;
}

START_TEST (a_lying_monitor_does_no_harm)
{
    const char *const args[] = {
        "python3", TESTS "/fake/fakeqemu.py", "--listen-fd", "%FD", "--lie", lies[_i].lie, NULL
    };
    Helper helper = { 0 };
    helper_start (&helper, 1, args);
    g_autoptr (GError) error = NULL;
    g_autoptr (Graph) graph = look (helper.path, lies[_i].code, &error);
    int code = error ? error->code : 0;
    ck_assert_msg (code == lies[_i].code, "%s: %d: %s", lies[_i].lie, code,
                   error ? error->message : "no error");
    ck_assert_int_eq (graph != NULL, code == 0);
    if (error)
        ck_assert_msg (strstr (error->message, lies[_i].says) != NULL, "%s: %s", lies[_i].lie,
                       error->message);
    for (const char *p = error ? error->message : ""; *p; p++)
        ck_assert_msg ((guchar) *p >= ' ', "%s: a control character in the message", lies[_i].lie);
    if (!SANITIZED)
        ck_assert_msg (peak_memory () < 64 * 1024 * 1024, "%s: %" G_GUINT64_FORMAT " bytes",
                       lies[_i].lie, peak_memory ());
    helper_stop (&helper);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("liar");
    TCase *tests = tcase_create ("liar");
    tcase_add_loop_test (tests, a_lying_monitor_does_no_harm, 0, G_N_ELEMENTS (lies));
    tcase_set_timeout (tests, 120);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
