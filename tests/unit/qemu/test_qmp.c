/* The client against a peer that is the other end of a socket pair: what it says is written
 * beforehand, for the ids of the client are known ("bak-1" is qmp_capabilities). */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <gio/gio.h>
#include "driver/qemu/qmp.h"
#include "driver/qemu/qmp_split.h"
#include "util/json.h"

#define GREETING                                                                                   \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "             \
    "\"package\": \"Debian\\u001b[2J\"}, \"capabilities\": [\"oob\"]}}\r\n"
#define OK(id) "{\"return\": {}, \"id\": \"bak-" id "\"}\r\n"
#define EVENT(name)                                                                                \
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"" name                    \
    "\", \"data\": {\"id\": \"j\"}}\r\n"

typedef struct {
    Qmp *qmp;
    int peer;
    GString *log; /* what happened, one letter or word a thing */
} Fixture;

static void say (Fixture *f, const char *text)
{
    ck_assert_int_eq (write (f->peer, text, strlen (text)), (gssize) strlen (text));
}

/* What the client has sent so far. */
static char *hear (Fixture *f)
{
    GString *heard = g_string_new (NULL);
    char buffer[4096];
    gssize n;
    while ((n = recv (f->peer, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
        g_string_append_len (heard, buffer, n);
    return g_string_free (heard, FALSE);
}

static guint count_lines (const char *text)
{
    guint lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static void open_pair (Fixture *f, int *ret_ours)
{
    int ends[2];
    ck_assert_int_eq (socketpair (AF_UNIX, SOCK_STREAM, 0, ends), 0);
    *ret_ours = ends[0];
    f->peer = ends[1];
    f->log = g_string_new (NULL);
}

static void note_event (Qmp *qmp, const char *name, JsonObject *data, gpointer user_data)
{
    g_string_append_printf (((Fixture *) user_data)->log, "%s:%s ", name,
                            json_get_string (data, "id") ? json_get_string (data, "id") : "-");
}

static void note_reply (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    if (error)
        g_string_append_printf (f->log, "E%d ", error->code);
    else
        g_string_append_printf (f->log, "R%" G_GINT64_FORMAT " ",
                                JSON_NODE_HOLDS_OBJECT (result)
                                    ? json_get_int (json_node_get_object (result), "n", -1)
                                    : -2);
}

static void start (Fixture *f)
{
    int ours;
    g_autoptr (GError) error = NULL;
    open_pair (f, &ours);
    say (f, GREETING OK ("1"));
    f->qmp = qmp_connect_fd (ours, "test", NULL, 2000, &error);
    ck_assert_msg (f->qmp != NULL, "%s", error ? error->message : "");
    qmp_set_event_func (f->qmp, note_event, f);
    g_free (hear (f));
}

static void finish (Fixture *f)
{
    qmp_close (f->qmp);
    if (f->peer >= 0)
        close (f->peer);
    g_string_free (f->log, TRUE);
}

static void settle (Fixture *f)
{
    while (g_main_context_iteration (qmp_get_context (f->qmp), FALSE))
        ;
}

static gboolean log_has (gpointer data)
{
    Fixture *f = ((gpointer *) data)[0];
    return strstr (f->log->str, ((gpointer *) data)[1]) != NULL;
}

static void wait_for_log (Fixture *f, const char *part)
{
    gpointer data[] = { f, (gpointer) part };
    g_autoptr (GError) error = NULL;
    gboolean ok = qmp_wait (f->qmp, log_has, data, g_get_monotonic_time () + 5 * G_USEC_PER_SEC,
                            part, &error);
    ck_assert_msg (ok, "%s; log: %s", error ? error->message : "", f->log->str);
}

/* ---- connecting ---- */

START_TEST (the_greeting_gives_version_and_oob)
{
    Fixture f = { 0 };
    start (&f);
    const char *text;
    ck_assert_uint_eq (qmp_get_version (f.qmp, &text), 7002022);
    ck_assert_str_eq (text, "7.2.22 (Debian\\x1b[2J)");
    ck_assert (qmp_has_oob (f.qmp));
    ck_assert_int_eq (qmp_get_peer_pid (f.qmp), getpid ());
    finish (&f);
}
END_TEST

START_TEST (an_event_before_the_greeting_is_passed_over)
{
    Fixture f = { 0 };
    int ours;
    open_pair (&f, &ours);
    say (&f, "{\"event\":\"JOB_STATUS_CHANGE\",\"data\":{}}" GREETING OK ("1"));
    f.qmp = qmp_connect_fd (ours, "test", NULL, 2000, NULL);
    ck_assert_ptr_nonnull (f.qmp);
    finish (&f);
}
END_TEST

static const struct {
    const char *package, *text;
} packages[] = { { "", "2.7.1" },
                 { " (Debian 1:2.7)", "2.7.1 (Debian 1:2.7)" },
                 { "v2.7-1", "2.7.1 (v2.7-1)" },
                 { "\\n\\u001b", "2.7.1 (\\x0a\\x1b)" } };

START_TEST (the_version_is_shown_with_its_package)
{
    Fixture f = { 0 };
    int ours;
    const char *text;
    open_pair (&f, &ours);
    g_autofree char *greeting = g_strdup_printf (
        "{\"QMP\":{\"version\":{\"qemu\":{\"major\":2,\"minor\":7,\"micro\":1},\"package\":\"%s\"},"
        "\"capabilities\":[]}}" OK ("1"),
        packages[_i].package);
    say (&f, greeting);
    f.qmp = qmp_connect_fd (ours, "test", NULL, 2000, NULL);
    qmp_get_version (f.qmp, &text);
    ck_assert_str_eq (text, packages[_i].text);
    finish (&f);
}
END_TEST

START_TEST (out_of_band_is_asked_for_only_where_it_is_offered)
{
    static const struct {
        const char *greeting, *asks;
    } offers[] = { { GREETING, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":["
                               "\"oob\"]},\"id\":\"bak-1\"}\n" },
                   { "{\"QMP\":{\"version\":{\"qemu\":{\"major\":2,\"minor\":7,\"micro\":1},"
                     "\"package\":\"\"},\"capabilities\":[]}}",
                     "{\"execute\":\"qmp_capabilities\",\"id\":\"bak-1\"}\n" } };
    Fixture f = { 0 };
    int ours;
    open_pair (&f, &ours);
    say (&f, offers[_i].greeting);
    say (&f, OK ("1"));
    f.qmp = qmp_connect_fd (ours, "test", NULL, 2000, NULL);
    g_autofree char *heard = hear (&f);
    ck_assert_str_eq (heard, offers[_i].asks);
    ck_assert_int_eq (qmp_has_oob (f.qmp), _i == 0);
    g_autoptr (GError) error = NULL;
    if (_i == 1) {
        ck_assert_ptr_null (qmp_call (f.qmp, "yank", NULL, TRUE, 0, &error));
        ck_assert_int_eq (error->code, BAK_ERROR_NOT_SUPPORTED);
    }
    finish (&f);
}
END_TEST

/* What a peer says instead of a greeting, NULL: nothing more comes. */
static const struct {
    const char *says;
    gboolean closes;
    int code;
    const char *text;
} strangers[] = {
    { "", FALSE, BAK_ERROR_MONITOR_HELD, "another client holds it" },
    { "  \r\n ", FALSE, BAK_ERROR_MONITOR_HELD, "another client holds it" },
    { "{\"QMP\":", FALSE, BAK_ERROR_MONITOR_HELD, "another client holds it" },
    { "{\"event\":\"STOP\"}", FALSE, BAK_ERROR_MONITOR_HELD, "another client holds it" },
    { "", TRUE, BAK_ERROR_CONNECTION, "closed the connection without a greeting" },
    { "{\"QMP\":", TRUE, BAK_ERROR_CONNECTION, "closed the connection without a greeting" },
    { "QEMU 7.2.22 monitor", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "SSH-2.0-OpenSSH_9.2\r\n", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "\xff{\"return\":1}", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "{\"return\":{}}", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "{\"QMP\":{}}", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "{\"QMP\":{\"version\":{\"qemu\":{\"major\":-1,\"minor\":0,\"micro\":0}}}}", FALSE,
      BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "{\"QMP\":{\"version\":{\"qemu\":{\"major\":\"7\",\"minor\":0,\"micro\":0}}}}", FALSE,
      BAK_ERROR_CONNECTION, "does not speak QMP" },
    { "{broken}", FALSE, BAK_ERROR_CONNECTION, "does not speak QMP" },
    { GREETING, FALSE, BAK_ERROR_TIMEOUT, "no reply to 'qmp_capabilities'" },
    { GREETING, TRUE, BAK_ERROR_CONNECTION, "closed the connection" },
    { GREETING "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":\"bak-1\"}", FALSE,
      BAK_ERROR_MONITOR, "GenericError: no" },
    { GREETING GREETING OK ("1"), FALSE, BAK_ERROR_CONNECTION, "greeted a second time" },
    { GREETING "{\"return\":{},\"id\":\"bak-1\"}garbage", FALSE, BAK_ERROR_CONNECTION, "not JSON" },
};

START_TEST (what_is_no_free_monitor_is_told_apart)
{
    Fixture f = { 0 };
    int ours;
    g_autoptr (GError) error = NULL;
    open_pair (&f, &ours);
    say (&f, strangers[_i].says);
    if (strangers[_i].closes)
        shutdown (f.peer, SHUT_WR);
    gint64 began = g_get_monotonic_time ();
    f.qmp = qmp_connect_fd (ours, "/the/monitor", NULL, 200, &error);
    ck_assert_ptr_null (f.qmp);
    ck_assert_msg (error->code == strangers[_i].code && strstr (error->message, strangers[_i].text),
                   "%d: %s", error->code, error->message);
    ck_assert_ptr_nonnull (strstr (error->message, "/the/monitor"));
    ck_assert_int_lt (g_get_monotonic_time () - began, 2 * G_USEC_PER_SEC);
    finish (&f);
}
END_TEST

static char *listen_somewhere (int backlog, int *ret_fd)
{
    g_autofree char *folder = g_dir_make_tmp ("qmp-XXXXXX", NULL);
    char *path = g_build_filename (folder, "monitor", NULL);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_strlcpy (address.sun_path, path, sizeof address.sun_path);
    *ret_fd = socket (AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq (bind (*ret_fd, (struct sockaddr *) &address, sizeof address), 0);
    ck_assert_int_eq (listen (*ret_fd, backlog), 0);
    return path;
}

static void forget (char *path)
{
    g_autofree char *folder = g_path_get_dirname (path);
    unlink (path);
    rmdir (folder);
    g_free (path);
}

START_TEST (a_queue_full_of_waiting_clients_means_held)
{
    int listener;
    char *path = listen_somewhere (0, &listener);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_strlcpy (address.sun_path, path, sizeof address.sun_path);
    int other = socket (AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq (connect (other, (struct sockaddr *) &address, sizeof address), 0);
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (qmp_connect (path, NULL, 200, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_MONITOR_HELD);
    close (other);
    close (listener);
    forget (path);
}
END_TEST

static const struct {
    const char *address;
    int code;
} addresses[] = {
    { "/no/such/socket", BAK_ERROR_CONNECTION },
    { "/dev/null", BAK_ERROR_CONNECTION },
    { "relative", BAK_ERROR_INVALID_ARGUMENT },
    { "host:", BAK_ERROR_INVALID_ARGUMENT },
    { "host:port", BAK_ERROR_INVALID_ARGUMENT },
    { "", BAK_ERROR_INVALID_ARGUMENT },
    { "127.0.0.1:0", BAK_ERROR_INVALID_ARGUMENT },
    { "127.0.0.1:70000", BAK_ERROR_INVALID_ARGUMENT },
    { "/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
      "123456789012345678",
      BAK_ERROR_INVALID_ARGUMENT },
};

START_TEST (an_address_that_leads_nowhere_is_an_error)
{
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (qmp_connect (addresses[_i].address, NULL, 500, &error));
    ck_assert_msg (error->code == addresses[_i].code, "%d: %s", error->code, error->message);
    ck_assert_ptr_nonnull (strstr (error->message, "monitor '"));
}
END_TEST

#define HANGS_UP ""

/* what each client in turn is told, up to NULL */
typedef struct {
    GSocketListener *listener;
    const char *says[5];
} Greeter;

static gpointer greet_all (gpointer data)
{
    const Greeter *greeter = data;

    for (const char *const *says = greeter->says; *says; says++) {
        g_autoptr (GSocketConnection) client =
            g_socket_listener_accept (greeter->listener, NULL, NULL, NULL);
        g_output_stream_write_all (g_io_stream_get_output_stream (G_IO_STREAM (client)), *says,
                                   strlen (*says), NULL, NULL, NULL);
        char byte;
        GInputStream *input = g_io_stream_get_input_stream (G_IO_STREAM (client));
        while (**says && g_input_stream_read (input, &byte, 1, NULL, NULL) > 0)
            ;
    }
    return NULL;
}

static const struct {
    const char *says[5];
    const char *text;
} greeters[] = {
    { { GREETING GREETING OK ("1"), GREETING OK ("1") }, NULL },
    { { GREETING OK ("1") GREETING, GREETING OK ("1") }, NULL },
    { { HANGS_UP, GREETING OK ("1") }, NULL },
    { { HANGS_UP, GREETING GREETING OK ("1"), HANGS_UP, GREETING OK ("1") }, NULL },
    { { GREETING GREETING, HANGS_UP, HANGS_UP, GREETING GREETING }, "greeted a second time" },
    { { HANGS_UP, HANGS_UP, HANGS_UP, HANGS_UP }, "closed the connection without a greeting" },
};

START_TEST (a_peer_that_just_starts_is_asked_once_more)
{
    g_autoptr (GSocketListener) listener = g_socket_listener_new ();
    guint16 port = g_socket_listener_add_any_inet_port (listener, NULL, NULL);
    g_autofree char *address = g_strdup_printf ("127.0.0.1:%u", port);
    Greeter greeter = { .listener = listener };
    memcpy (greeter.says, greeters[_i].says, sizeof greeters[_i].says);
    GThread *thread = g_thread_new ("greeter", greet_all, &greeter);
    g_autoptr (GError) error = NULL;

    Qmp *qmp = qmp_connect (address, NULL, 5000, &error);
    if (greeters[_i].text) {
        ck_assert_ptr_null (qmp);
        ck_assert_ptr_nonnull (strstr (error->message, greeters[_i].text));
    } else {
        ck_assert_msg (qmp != NULL, "%s", error ? error->message : "");
        ck_assert (qmp_is_alive (qmp, NULL));
        qmp_close (qmp);
    }
    g_thread_join (thread);
}
END_TEST

START_TEST (a_monitor_may_be_a_host_and_port)
{
    g_autoptr (GSocketListener) listener = g_socket_listener_new ();
    guint16 port = g_socket_listener_add_any_inet_port (listener, NULL, NULL);
    Greeter greeter = { listener, { GREETING OK ("1") } };
    GThread *server = g_thread_new ("monitor", greet_all, &greeter);
    g_autofree char *address = g_strdup_printf ("localhost:%u", port);
    g_autoptr (GError) error = NULL;
    Qmp *qmp = qmp_connect (address, NULL, 5000, &error);
    ck_assert_msg (qmp != NULL, "%s", error ? error->message : "");
    ck_assert_int_eq (qmp_get_peer_pid (qmp), 0);
    qmp_close (qmp);
    g_thread_join (server);
}
END_TEST

START_TEST (the_socket_is_not_inherited)
{
    Fixture f = { 0 };
    int ours;
    open_pair (&f, &ours);
    say (&f, GREETING OK ("1"));
    f.qmp = qmp_connect_fd (ours, "test", NULL, 2000, NULL);
    ck_assert (fcntl (ours, F_GETFD) & FD_CLOEXEC);
    finish (&f);
}
END_TEST

/* ---- commands and replies ---- */

START_TEST (replies_find_their_command_by_id)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 3; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    say (&f, "{\"return\":{\"n\":4},\"id\":\"bak-4\"}{\"return\":{\"n\":2},\"id\":\"bak-2\"}\n\n{"
             "\"id\":\"bak-3\",\"error\":{\"class\":\"X\",\"desc\":\"d\"}}");
    settle (&f);
    ck_assert_str_eq (f.log->str, "R4 R2 E10 ");
    finish (&f);
}
END_TEST

START_TEST (at_most_seven_are_in_flight)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 20; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    g_autofree char *first = hear (&f);
    ck_assert_uint_eq (count_lines (first), QMP_MAX_IN_FLIGHT);
    say (&f, OK ("5") OK ("2"));
    settle (&f);
    g_autofree char *more = hear (&f);
    ck_assert_uint_eq (count_lines (more), 2);
    ck_assert_ptr_nonnull (strstr (more, "bak-9"));
    finish (&f);
}
END_TEST

START_TEST (out_of_band_overtakes_the_queue)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 10; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    g_free (hear (&f));
    say (&f, "{\"return\":{\"n\":7},\"id\":\"bak-12\"}");
    g_autoptr (JsonNode) result = qmp_call (f.qmp, "yank", NULL, TRUE, 1000, NULL);
    ck_assert_ptr_nonnull (result);
    g_autofree char *heard = hear (&f);
    ck_assert_str_eq (heard, "{\"exec-oob\":\"yank\",\"id\":\"bak-12\"}\n");
    finish (&f);
}
END_TEST

START_TEST (events_before_a_reply_arrive_before_it_and_in_order)
{
    Fixture f = { 0 };
    start (&f);
    qmp_send (f.qmp, "transaction", NULL, 0, note_reply, &f);
    say (&f, EVENT ("A") EVENT ("B") "{\"event\":\"C\"}" OK ("2") EVENT ("D"));
    settle (&f);
    ck_assert_str_eq (f.log->str, "A:j B:j C:- R-1 D:j ");
    finish (&f);
}
END_TEST

START_TEST (events_with_impossible_names_are_dropped)
{
    Fixture f = { 0 };
    start (&f);
    say (&f, "{\"event\":\"A\\u001b[2J\",\"data\":{}}{\"event\":\"\",\"data\":{}}{\"event\":\"X\","
             "\"data\":7}" EVENT ("B"));
    wait_for_log (&f, "B:j");
    ck_assert_str_eq (f.log->str, "X:- B:j ");
    finish (&f);
}
END_TEST

START_TEST (an_event_as_large_as_no_real_one_is_dropped)
{
    Fixture f = { 0 };
    start (&f);
    GString *text = g_string_new ("{\"event\":\"A\",\"data\":{\"id\":\"j\",\"x\":[");
    for (guint i = 0; i < 1000; i++)
        g_string_append (text, "{},");
    g_string_append (text, "0]}}" EVENT ("B"));
    say (&f, text->str);
    wait_for_log (&f, "B:j");
    ck_assert_str_eq (f.log->str, "B:j ");
    g_string_free (text, TRUE);
    finish (&f);
}
END_TEST

START_TEST (a_refusal_carries_class_and_text)
{
    Fixture f = { 0 };
    start (&f);
    g_autoptr (GError) error = NULL;
    say (&f, "{\"id\":\"bak-2\",\"error\":{\"class\":\"DeviceNotActive\",\"desc\":\"Job 'x\\u001b' "
             "GenericError: no\"}}");
    ck_assert (!qmp_run (f.qmp, "job-cancel", NULL, 1000, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_MONITOR);
    ck_assert_str_eq (error->message, "DeviceNotActive: Job 'x\\x1b' GenericError: no");
    ck_assert_str_eq (qmp_error_class (error), "DeviceNotActive");
    error_note (&error, "disk 'vda'");
    ck_assert_str_eq (qmp_error_class (error), "DeviceNotActive");
    finish (&f);
}
END_TEST

START_TEST (an_error_of_another_kind_has_no_class)
{
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (qmp_error_class (NULL));
    error_set (&error, BAK_ERROR_TIMEOUT, "GenericError: no");
    ck_assert_ptr_null (qmp_error_class (error));
}
END_TEST

START_TEST (a_late_reply_is_dropped)
{
    Fixture f = { 0 };
    start (&f);
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (qmp_execute (f.qmp, "query-jobs", NULL, 50, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_TIMEOUT);
    say (&f, "{\"return\":{\"n\":2},\"id\":\"bak-2\"}{\"return\":{\"n\":3},\"id\":\"bak-3\"}");
    g_autoptr (JsonNode) result = qmp_execute (f.qmp, "query-jobs", NULL, 1000, NULL);
    ck_assert_int_eq (json_get_int (json_node_get_object (result), "n", -1), 3);
    finish (&f);
}
END_TEST

START_TEST (a_command_behind_seven_unanswered_ones_is_never_sent)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < QMP_MAX_IN_FLIGHT; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 20, note_reply, &f);
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (qmp_execute (f.qmp, "blockdev-backup", NULL, 100, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_TIMEOUT);
    ck_assert_ptr_nonnull (strstr (error->message, "was not sent"));
    ck_assert_str_eq (f.log->str, "E11 E11 E11 E11 E11 E11 E11 ");
    say (&f, OK ("2")); /* one place is free again */
    settle (&f);
    say (&f, OK ("10"));
    ck_assert (qmp_run (f.qmp, "query-jobs", NULL, 1000, NULL));
    g_autofree char *heard = hear (&f);
    ck_assert_ptr_null (strstr (heard, "blockdev-backup"));
    finish (&f);
}
END_TEST

static gboolean answer_one (gpointer data)
{
    Fixture *f = data;
    static guint id = 2;
    g_autofree char *reply = g_strdup_printf ("{\"return\":{\"n\":%u},\"id\":\"bak-%u\"}", id, id);
    say (f, reply);
    return ++id < 32 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* The last one waits 460 ms for its place, more than its own 300 ms, but never so long without any
 * reply. */
START_TEST (a_queue_that_moves_is_not_late)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 30; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 300, note_reply, &f);
    g_autoptr (GSource) timer = g_timeout_source_new (20);
    g_source_set_callback (timer, answer_one, &f, NULL);
    g_source_attach (timer, qmp_get_context (f.qmp));
    wait_for_log (&f, "R31 ");
    ck_assert_ptr_null (strstr (f.log->str, "E"));
    g_source_destroy (timer);
    finish (&f);
}
END_TEST

/* ---- a connection that ends ---- */

START_TEST (the_end_of_the_connection_answers_everything)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 9; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    g_free (hear (&f));
    say (&f, EVENT ("SHUTDOWN"));
    close (f.peer);
    f.peer = -1;
    settle (&f);
    ck_assert_str_eq (f.log->str, "SHUTDOWN:j E12 E12 E12 E12 E12 E12 E12 E12 E12 ");
    const char *why;
    ck_assert (!qmp_is_alive (f.qmp, &why));
    ck_assert_ptr_nonnull (strstr (why, "closed the connection"));
    g_autoptr (GError) error = NULL;
    ck_assert (!qmp_run (f.qmp, "query-jobs", NULL, 0, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_CONNECTION);
    finish (&f);
}
END_TEST

START_TEST (a_reset_is_an_end_too)
{
    Fixture f = { 0 };
    start (&f);
    qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    close (f.peer); /* with our command unread: ECONNRESET */
    f.peer = -1;
    settle (&f);
    ck_assert_str_eq (f.log->str, "E12 ");
    finish (&f);
}
END_TEST

START_TEST (writing_to_one_who_left_kills_nobody)
{
    Fixture f = { 0 };
    start (&f);
    say (&f, EVENT ("SHUTDOWN"));
    close (f.peer);
    f.peer = -1;
    g_autoptr (GError) error = NULL;
    ck_assert (!qmp_run (f.qmp, "quit", NULL, 0, &error)); /* SIGPIPE would end the test here */
    ck_assert_int_eq (error->code, BAK_ERROR_CONNECTION);
    ck_assert_str_eq (f.log->str, "SHUTDOWN:j ");
    finish (&f);
}
END_TEST

static const char *const garbage[] = {
    "}",
    "\x01",
    "\xff",
    "hello",
    "{\"return\":{},\"id\":\"bak-2\"]",
    "{\"return\" {} }",
    "{\"a\":1}",
    "{/* x */}",
    "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Invalid JSON syntax\"}}"
};

START_TEST (garbage_ends_the_connection_and_nothing_else)
{
    Fixture f = { 0 };
    start (&f);
    qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    say (&f, garbage[_i]);
    settle (&f);
    ck_assert_str_eq (f.log->str, "E12 ");
    ck_assert (!qmp_is_alive (f.qmp, NULL));
    finish (&f);
}
END_TEST

START_TEST (a_peer_that_reads_nothing_blocks_nobody)
{
    Fixture f = { 0 };
    start (&f);
    g_autofree char *long_name = g_strnfill (1024 * 1024, 'x');
    JsonObject *args = json_object_new ();
    json_object_set_string_member (args, "node-name", long_name);
    gint64 began = g_get_monotonic_time ();
    qmp_send (f.qmp, "blockdev-del", args, 100, note_reply, &f);
    qmp_send (f.qmp, "blockdev-backup", NULL, 100, note_reply, &f);
    ck_assert_int_lt (g_get_monotonic_time () - began, G_USEC_PER_SEC / 2);
    wait_for_log (&f, "E11 E11 ");
    g_autoptr (GError) error = NULL;
    ck_assert (!qmp_run (f.qmp, "query-jobs", NULL, 50, &error));
    ck_assert_ptr_nonnull (strstr (error->message, "could not be sent"));
    finish (&f);
}
END_TEST

/* ---- callbacks that do things ---- */

static void send_again (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    note_reply (qmp, result, error, user_data);
    qmp_send (qmp, "query-block", NULL, 0, note_reply, user_data);
}

START_TEST (a_reply_may_send_the_next_command)
{
    Fixture f = { 0 };
    start (&f);
    say (&f, OK ("2") OK ("3"));
    qmp_send (f.qmp, "query-jobs", NULL, 0, send_again, &f);
    wait_for_log (&f, "R-1 R-1 ");
    finish (&f);
}
END_TEST

static void execute_again (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autoptr (GError) failure = NULL;
    gboolean ok = qmp_run (qmp, "query-block", NULL, 1000, &failure);
    g_string_append (((Fixture *) user_data)->log, ok ? "nested " : failure->message);
}

START_TEST (a_reply_may_wait_for_the_next_command)
{
    Fixture f = { 0 };
    start (&f);
    say (&f, OK ("2") EVENT ("A") OK ("3") EVENT ("B"));
    qmp_send (f.qmp, "query-jobs", NULL, 0, execute_again, &f);
    wait_for_log (&f, "nested");
    ck_assert_str_eq (f.log->str, "A:j B:j nested ");
    finish (&f);
}
END_TEST

static void close_now (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    f->qmp = NULL;
    qmp_close (qmp);
}

START_TEST (a_reply_may_close_the_connection)
{
    Fixture f = { 0 };
    start (&f);
    GMainContext *context = g_main_context_ref (qmp_get_context (f.qmp));
    qmp_send (f.qmp, "query-jobs", NULL, 0, close_now, &f);
    qmp_send (f.qmp, "query-block", NULL, 0, note_reply, &f);
    say (&f, OK ("2") OK ("3") EVENT ("A"));
    while (g_main_context_iteration (context, FALSE))
        ;
    ck_assert_str_eq (f.log->str, "E12 ");
    g_main_context_unref (context);
    finish (&f);
}
END_TEST

START_TEST (closing_answers_what_is_outstanding)
{
    Fixture f = { 0 };
    start (&f);
    for (guint i = 0; i < 9; i++)
        qmp_send (f.qmp, "query-jobs", NULL, 0, note_reply, &f);
    qmp_close (f.qmp);
    f.qmp = NULL;
    ck_assert_str_eq (f.log->str, "E12 E12 E12 E12 E12 E12 E12 E12 E12 ");
    finish (&f);
}
END_TEST

/* ---- waiting ---- */

static gboolean never (gpointer data)
{
    return FALSE;
}

START_TEST (a_wait_that_is_too_long_says_for_what)
{
    Fixture f = { 0 };
    start (&f);
    g_autoptr (GError) error = NULL;
    ck_assert (!qmp_wait (f.qmp, never, NULL, g_get_monotonic_time () + 50000, "the moon", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_TIMEOUT);
    ck_assert_ptr_nonnull (strstr (error->message, "timed out waiting for the moon"));
    finish (&f);
}
END_TEST

START_TEST (a_wait_ends_with_the_connection)
{
    Fixture f = { 0 };
    start (&f);
    close (f.peer);
    f.peer = -1;
    g_autoptr (GError) error = NULL;
    ck_assert (!qmp_wait (f.qmp, never, NULL, g_get_monotonic_time () + 60 * G_USEC_PER_SEC,
                          "the moon", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_CONNECTION);
    finish (&f);
}
END_TEST

/* ---- the splitter ---- */

static const struct {
    const char *bytes;
    QmpSplitResult result;
    gsize end;
} pieces[] = {
    { "", QMP_SPLIT_MORE, 0 },
    { " \r\n\t", QMP_SPLIT_MORE, 4 },
    { "{", QMP_SPLIT_MORE, 1 },
    { " {}{}", QMP_SPLIT_OBJECT, 3 },
    { "{\"a\":\"}\"}x", QMP_SPLIT_OBJECT, 9 },
    { "{\"a\":\"\\\"}\"} ", QMP_SPLIT_OBJECT, 11 },
    { "{\"a\":\"\\\\\"}", QMP_SPLIT_OBJECT, 10 },
    { "{\"a\":[{}]}", QMP_SPLIT_OBJECT, 10 },
    { "[]", QMP_SPLIT_GARBAGE, 0 },
    { "x", QMP_SPLIT_GARBAGE, 0 },
    { "}", QMP_SPLIT_GARBAGE, 0 },
    { "{]", QMP_SPLIT_GARBAGE, 2 },
    { "{'a'}", QMP_SPLIT_GARBAGE, 2 },
    { "{// }\n}", QMP_SPLIT_GARBAGE, 2 },
    { "{\"\xff\"}", QMP_SPLIT_OBJECT, 5 },
    { "{\xff}", QMP_SPLIT_GARBAGE, 2 },
};

START_TEST (an_object_ends_where_it_ends)
{
    QmpSplit split = { 0 };
    gsize begin = 0, end = 0;
    const char *bytes = pieces[_i].bytes;
    QmpSplitResult result =
        qmp_split_feed (&split, (const guint8 *) bytes, strlen (bytes), &begin, &end);
    ck_assert_int_eq (result, pieces[_i].result);
    ck_assert_uint_eq (end, pieces[_i].end);
}
END_TEST

START_TEST (the_result_does_not_depend_on_how_bytes_arrive)
{
    const char *bytes = "  {\"a\": [1, {\"b\": \"x\\\"}]\"}]}\r\n{}{\"c\":\"\\\\\"} {";
    for (gsize step = 1; step <= strlen (bytes); step++) {
        QmpSplit split = { 0 };
        GString *seen = g_string_new (NULL);
        for (gsize at = 0; at < strlen (bytes);) {
            gsize begin = 0, end = 0, n = MIN (step, strlen (bytes) - at);
            QmpSplitResult result =
                qmp_split_feed (&split, (const guint8 *) bytes + at, n, &begin, &end);
            g_string_append_len (seen, bytes + at + begin, end - begin);
            if (result == QMP_SPLIT_OBJECT)
                g_string_append_c (seen, '|');
            at += end;
        }
        ck_assert_str_eq (seen->str, "{\"a\": [1, {\"b\": \"x\\\"}]\"}]}|{}|{\"c\":\"\\\\\"}|{");
        g_string_free (seen, TRUE);
    }
}
END_TEST

START_TEST (depth_is_limited)
{
    for (guint depth = QMP_MAX_DEPTH; depth <= QMP_MAX_DEPTH + 1; depth++) {
        GString *text = g_string_new ("{\"a\":");
        for (guint i = 1; i < depth; i++)
            g_string_append_c (text, '[');
        for (guint i = 1; i < depth; i++)
            g_string_append_c (text, ']');
        g_string_append_c (text, '}');
        QmpSplit split = { 0 };
        gsize begin, end;
        ck_assert_int_eq (
            qmp_split_feed (&split, (const guint8 *) text->str, text->len, &begin, &end),
            depth <= QMP_MAX_DEPTH ? QMP_SPLIT_OBJECT : QMP_SPLIT_TOO_DEEP);
        g_string_free (text, TRUE);
    }
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("qmp");
    TCase *tests = tcase_create ("qmp");
    tcase_add_test (tests, the_greeting_gives_version_and_oob);
    tcase_add_test (tests, an_event_before_the_greeting_is_passed_over);
    tcase_add_loop_test (tests, the_version_is_shown_with_its_package, 0, G_N_ELEMENTS (packages));
    tcase_add_loop_test (tests, out_of_band_is_asked_for_only_where_it_is_offered, 0, 2);
    tcase_add_loop_test (tests, what_is_no_free_monitor_is_told_apart, 0, G_N_ELEMENTS (strangers));
    tcase_add_test (tests, a_queue_full_of_waiting_clients_means_held);
    tcase_add_loop_test (tests, an_address_that_leads_nowhere_is_an_error, 0,
                         G_N_ELEMENTS (addresses));
    tcase_add_loop_test (tests, a_peer_that_just_starts_is_asked_once_more, 0,
                         G_N_ELEMENTS (greeters));
    tcase_add_test (tests, a_monitor_may_be_a_host_and_port);
    tcase_add_test (tests, the_socket_is_not_inherited);
    tcase_add_test (tests, replies_find_their_command_by_id);
    tcase_add_test (tests, at_most_seven_are_in_flight);
    tcase_add_test (tests, out_of_band_overtakes_the_queue);
    tcase_add_test (tests, events_before_a_reply_arrive_before_it_and_in_order);
    tcase_add_test (tests, events_with_impossible_names_are_dropped);
    tcase_add_test (tests, an_event_as_large_as_no_real_one_is_dropped);
    tcase_add_test (tests, a_refusal_carries_class_and_text);
    tcase_add_test (tests, an_error_of_another_kind_has_no_class);
    tcase_add_test (tests, a_late_reply_is_dropped);
    tcase_add_test (tests, a_command_behind_seven_unanswered_ones_is_never_sent);
    tcase_add_test (tests, a_queue_that_moves_is_not_late);
    tcase_add_test (tests, the_end_of_the_connection_answers_everything);
    tcase_add_test (tests, a_reset_is_an_end_too);
    tcase_add_test (tests, writing_to_one_who_left_kills_nobody);
    tcase_add_loop_test (tests, garbage_ends_the_connection_and_nothing_else, 0,
                         G_N_ELEMENTS (garbage));
    tcase_add_test (tests, a_peer_that_reads_nothing_blocks_nobody);
    tcase_add_test (tests, a_reply_may_send_the_next_command);
    tcase_add_test (tests, a_reply_may_wait_for_the_next_command);
    tcase_add_test (tests, a_reply_may_close_the_connection);
    tcase_add_test (tests, closing_answers_what_is_outstanding);
    tcase_add_test (tests, a_wait_that_is_too_long_says_for_what);
    tcase_add_test (tests, a_wait_ends_with_the_connection);
    tcase_add_loop_test (tests, an_object_ends_where_it_ends, 0, G_N_ELEMENTS (pieces));
    tcase_add_test (tests, the_result_does_not_depend_on_how_bytes_arrive);
    tcase_add_test (tests, depth_is_limited);
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
