/* The server and the remote driver, joined by a socket in one process, over a driver without QEMU.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "fake.h"
#include "remote/address.h"
#include "remote/codec.h"
#include "remote/frame.h"
#include "remote/peer.h"

/* A server on a thread of its own. */
typedef struct {
    char *dir, *path;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    DriverConn *driver;
    Server *server;
    ServerLimits limits;
    ListenKind kind;
    const char *policy;
    GMutex lock;
    GCond changed;
    gboolean ready;
} Host;

static gboolean host_ready (gpointer data)
{
    Host *host = data;
    g_mutex_lock (&host->lock);
    host->ready = TRUE;
    g_cond_signal (&host->changed);
    g_mutex_unlock (&host->lock);
    return G_SOURCE_REMOVE;
}

static gpointer host_thread (gpointer data)
{
    Host *host = data;
    g_autoptr (GError) error = NULL;
    const DriverOpenOptions options = { .role = DRIVER_ROLE_DAEMON };
    g_main_context_push_thread_default (host->context);
    host->driver = driver_open ("qemu:///system", &options, &error);
    g_assert_no_error (error);
    host->server = server_new (host->driver, &host->limits);
    if (host->policy) {
        g_autoptr (Policy) policy = policy_parse (host->policy, "test", &error);
        g_assert_no_error (error);
        server_set_policy (host->server, policy);
    }
    int fd = server_bind_unix (host->path, 0600, NULL, &error);
    g_assert_no_error (error);
    g_assert_true (server_listen (host->server, fd, host->kind, &error));
    g_autoptr (GSource) source = g_idle_source_new ();
    g_source_set_callback (source, host_ready, host, NULL);
    g_source_attach (source, host->context);
    g_main_loop_run (host->loop);
    server_free (host->server);
    driver_close (host->driver);
    g_main_context_pop_thread_default (host->context);
    return NULL;
}

static void host_run (Host *host)
{
    host->ready = FALSE;
    host->thread = g_thread_new ("host", host_thread, host);
    g_mutex_lock (&host->lock);
    while (!host->ready)
        g_cond_wait (&host->changed, &host->lock);
    g_mutex_unlock (&host->lock);
}

static Host *host_start_with (ServerLimits limits, ListenKind kind, const char *policy)
{
    Host *host = g_new0 (Host, 1);
    host->dir = g_dir_make_tmp ("bak-rpc-XXXXXX", NULL);
    host->path = g_build_filename (host->dir, "sock", NULL);
    host->limits = limits;
    host->kind = kind;
    host->policy = policy;
    host->context = g_main_context_new ();
    host->loop = g_main_loop_new (host->context, FALSE);
    host_run (host);
    return host;
}

static Host *host_start (void)
{
    return host_start_with (server_default_limits, LISTEN_RW, NULL);
}

static void host_stop (Host *host)
{
    g_main_loop_quit (host->loop);
    g_thread_join (host->thread);
    g_main_loop_unref (host->loop);
    g_main_context_unref (host->context);
    g_unlink (host->path);
    g_rmdir (host->dir);
    g_free (host->path);
    g_free (host->dir);
    g_free (host);
}

static DriverConn *open_with (Host *host, gboolean readonly, GError **error)
{
    g_autofree char *uri = g_strdup_printf ("qemu+unix:///system?socket=%s", host->path);
    const DriverOpenOptions options = { .role = DRIVER_ROLE_CLIENT, .readonly = readonly };
    return driver_open (uri, &options, error);
}

static DriverConn *open_client (Host *host)
{
    g_autoptr (GError) error = NULL;
    DriverConn *conn = open_with (host, FALSE, &error);
    g_assert_no_error (error);
    return conn;
}

static bak_domain_arg domain_arg (const char *name)
{
    return (bak_domain_arg){ .domain = (char *) name };
}

static bak_begin_args begin_args (const char *name, const char *mode)
{
    static char xml[128];
    g_snprintf (xml, sizeof xml, "<domainbackup mode='%s'/>", mode);
    return (bak_begin_args){ .domain = (char *) name,
                             .backup_xml = xml,
                             .checkpoint_xml = (char *) "" };
}

START_TEST (a_call_and_its_result_cross_the_wire)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    g_autoptr (GError) error = NULL;
    bak_list_args args = { 0 };
    bak_list_ret ret = { 0 };
    ck_assert (call_list (conn, &args, &ret, &error));
    ck_assert_uint_eq (ret.domains.domains_len, 3);
    ck_assert_str_eq (ret.domains.domains_val[1].name, "two");
    ck_assert_int_eq (ret.domains.domains_val[2].id, -1);
    call_clear_ret (CALL_ID_list, &ret);
    driver_close (conn);
    host_stop (host);
}
END_TEST

START_TEST (an_error_crosses_with_its_code_and_its_text)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    g_autoptr (GError) error = NULL, second = NULL;
    bak_domain_arg args = domain_arg ("grün\nzwei");
    bak_state_ret ret = { 0 };
    bak_count_ret count = { 0 };
    ck_assert (!call_domain_state (conn, &args, &ret, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_NO_DOMAIN);
    ck_assert_str_eq (error->message, "no guest 'grün\nzwei'");
    /* A slot that the driver lacks. */
    bak_limit_args limit = { .domain = (char *) "one", .disk = (char *) "" };
    ck_assert (!driver_call (conn, CALL_ID_backup_limit, &limit, &count, &second));
    ck_assert_int_eq (error_code (second), BAK_ERROR_NOT_SUPPORTED);
    driver_close (conn);
    host_stop (host);
}
END_TEST

START_TEST (a_read_only_connection_may_look_and_not_touch)
{
    Host *host = host_start_with (server_default_limits, _i ? LISTEN_RO : LISTEN_RW, NULL);
    g_autoptr (GError) error = NULL;
    DriverConn *conn = open_with (host, !_i, &error);
    bak_domain_arg args = domain_arg ("one");
    bak_state_ret state = { 0 };
    bak_none none = { 0 };
    ck_assert (call_domain_state (conn, &args, &state, NULL));
    ck_assert (!call_job_abort (conn, &args, &none, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_ACCESS_DENIED);
    driver_close (conn);
    host_stop (host);
}
END_TEST

typedef struct {
    DriverConn *conn;
    guint rounds;
    guint failed;
} Asker;

static gpointer caller_thread (gpointer data)
{
    Asker *caller = data;
    for (guint i = 0; i < caller->rounds; i++) {
        bak_lookup_args args = { .name = (char *) (i % 2 ? "one" : "two"), .uuid = (char *) "" };
        bak_lookup_ret ret = { 0 };
        if (!call_lookup (caller->conn, &args, &ret, NULL)
            || !g_str_equal (ret.domain.name, args.name))
            caller->failed++;
        call_clear_ret (CALL_ID_lookup, &ret);
    }
    return NULL;
}

START_TEST (many_threads_share_a_connection)
{
    Host *host = host_start ();
    Asker callers[8];
    GThread *threads[8];
    DriverConn *conn = open_client (host);
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++) {
        callers[i] = (Asker){ .conn = conn, .rounds = 500 };
        threads[i] = g_thread_new ("caller", caller_thread, &callers[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++) {
        g_thread_join (threads[i]);
        ck_assert_uint_eq (callers[i].failed, 0);
    }
    driver_close (conn);
    host_stop (host);
}
END_TEST

START_TEST (slow_calls_of_one_peer_run_side_by_side_up_to_the_limit)
{
    ServerLimits limits = server_default_limits;
    limits.max_in_work = 3;
    Host *host = host_start_with (limits, LISTEN_RW, NULL);
    Asker callers[8];
    GThread *threads[8];
    DriverConn *conn = open_client (host);
    fake_set_delay (20);
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++) {
        callers[i] = (Asker){ .conn = conn, .rounds = 5 };
        threads[i] = g_thread_new ("caller", caller_thread, &callers[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++) {
        g_thread_join (threads[i]);
        ck_assert_uint_eq (callers[i].failed, 0);
    }
    ck_assert_uint_eq (fake_calls_at_once (), 3);
    driver_close (conn);
    host_stop (host);
}
END_TEST

typedef struct {
    GMutex lock;
    GCond cond;
    guint count;
    int kind, state;
    char *text;
} Heard;

static void hear (DriverConn *conn, const bak_event *event, gpointer data)
{
    Heard *heard = data;
    g_mutex_lock (&heard->lock);
    heard->count++;
    heard->kind = event->kind;
    heard->state = event->state;
    g_free (heard->text);
    heard->text = g_strdup (event->text);
    g_cond_signal (&heard->cond);
    g_mutex_unlock (&heard->lock);
}

static gboolean heard_wait (Heard *heard, guint count, guint ms)
{
    gint64 deadline = g_get_monotonic_time () + ms * 1000;
    gboolean ok = TRUE;
    g_mutex_lock (&heard->lock);
    while (ok && heard->count < count)
        ok = g_cond_wait_until (&heard->cond, &heard->lock, deadline);
    g_mutex_unlock (&heard->lock);
    return ok;
}

static void heard_clear (Heard *heard)
{
    g_free (heard->text);
    heard->text = NULL;
    heard->count = 0;
}

static int subscribe (DriverConn *conn, int kind, const char *domain)
{
    bak_register_args args = { .kind = kind, .domain = (char *) domain };
    bak_register_ret ret = { 0 };
    g_autoptr (GError) error = NULL;
    call_event_register (conn, &args, &ret, &error);
    g_assert_no_error (error);
    return ret.id;
}

START_TEST (events_reach_those_who_asked_for_their_kind_and_guest)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host), *other = open_client (host);
    Heard heard = { 0 }, none = { 0 };
    driver_conn_set_events (conn, hear, &heard);
    driver_conn_set_events (other, hear, &none);
    subscribe (conn, EVENT_WARNING, "");
    int id = subscribe (conn, -1, "two");
    subscribe (other, EVENT_LIFECYCLE, "one");

    fake_emit (host->driver, EVENT_WARNING, "one", "w1");
    ck_assert (heard_wait (&heard, 1, 5000));
    ck_assert_str_eq (heard.text, "w1");
    fake_emit (host->driver, EVENT_PROGRESS, "one", "nobody asked");
    fake_emit (host->driver, EVENT_PROGRESS, "two", "p2");
    ck_assert (heard_wait (&heard, 2, 5000));
    ck_assert_str_eq (heard.text, "p2");
    /* Two registrations meet it: it comes once. */
    fake_emit (host->driver, EVENT_WARNING, "two", "w2");
    bak_deregister_args gone = { .id = id };
    bak_none nothing = { 0 };
    ck_assert (call_event_deregister (conn, &gone, &nothing, NULL));
    fake_emit (host->driver, EVENT_PROGRESS, "two", "not any more");
    fake_emit (host->driver, EVENT_WARNING, "one", "last");
    ck_assert (heard_wait (&heard, 4, 5000));
    ck_assert_str_eq (heard.text, "last");
    ck_assert (!heard_wait (&heard, 5, 50));
    ck_assert_uint_eq (none.count, 0);
    driver_close (conn);
    driver_close (other);
    heard_clear (&heard);
    host_stop (host);
}
END_TEST

static gpointer finish_later (gpointer driver)
{
    fake_await_wait ();
    fake_finish_job (driver, "one", JOB_STATE_FAILED, "No space left on device");
    return NULL;
}

START_TEST (a_wait_ends_with_the_job_and_holds_no_thread)
{
    ServerLimits limits = server_default_limits;
    limits.max_workers = 1;
    Host *host = host_start_with (limits, LISTEN_RW, NULL);
    DriverConn *conn = open_client (host), *other = open_client (host);
    bak_begin_args begin = begin_args ("one", "push");
    bak_begin_ret begun = { 0 };
    g_autoptr (GError) error = NULL;
    ck_assert (call_backup_begin (conn, &begin, &begun, &error));
    GThread *finisher = g_thread_new ("finisher", finish_later, host->driver);

    Asker caller = { .conn = other, .rounds = 100 };
    GThread *calling = g_thread_new ("caller", caller_thread, &caller);
    bak_wait_args args = { .domain = (char *) "one",
                           .job = begun.job,
                           .timeout = 30 * G_USEC_PER_SEC };
    bak_job_ret job = { 0 };
    gint64 before = g_get_monotonic_time ();
    ck_assert (call_backup_wait (conn, &args, &job, &error));
    ck_assert_int_eq (job.job.state, JOB_STATE_FAILED);
    ck_assert_str_eq (job.job.error, "No space left on device");
    ck_assert_int_lt (g_get_monotonic_time () - before, 5 * G_USEC_PER_SEC);
    call_clear_ret (CALL_ID_backup_wait, &job);
    g_thread_join (calling);
    g_thread_join (finisher);
    ck_assert_uint_eq (caller.failed, 0);

    call_clear_ret (CALL_ID_backup_begin, &begun);
    driver_close (conn);
    driver_close (other);
    host_stop (host);
}
END_TEST

START_TEST (a_wait_with_a_deadline_ends_at_it)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    bak_begin_args begin = begin_args ("two", "pull");
    bak_begin_ret begun = { 0 };
    ck_assert (call_backup_begin (conn, &begin, &begun, NULL));
    bak_wait_args args = { .domain = (char *) "two", .job = begun.job, .timeout = 150000 };
    bak_job_ret job = { 0 };
    gint64 before = g_get_monotonic_time ();
    ck_assert (call_backup_wait (conn, &args, &job, NULL));
    ck_assert_int_eq (job.job.state, JOB_STATE_READY);
    ck_assert_int_ge (g_get_monotonic_time () - before, 150000);
    ck_assert_int_lt (g_get_monotonic_time () - before, 3 * G_USEC_PER_SEC);
    call_clear_ret (CALL_ID_backup_wait, &job);
    call_clear_ret (CALL_ID_backup_begin, &begun);
    fake_finish_job (host->driver, "two", JOB_STATE_COMPLETED, "");
    driver_close (conn);
    host_stop (host);
}
END_TEST

START_TEST (a_server_that_goes_breaks_calls_and_the_next_call_connects_again)
{
    Host *host = host_start (), *next;
    DriverConn *conn = open_client (host);
    Heard heard = { 0 };
    g_autoptr (GError) error = NULL;
    bak_domain_arg args = domain_arg ("one");
    bak_state_ret state = { 0 };
    driver_conn_set_events (conn, hear, &heard);
    subscribe (conn, EVENT_WARNING, "one");
    g_autofree char *path = g_strdup (host->path), *dir = g_strdup (host->dir);
    g_main_loop_quit (host->loop);
    g_thread_join (host->thread);
    g_unlink (path);
    ck_assert (heard_wait (&heard, 1, 5000));
    ck_assert_int_eq (heard.kind, EVENT_CONNECTION);
    ck_assert (strstr (heard.text, "broke"));
    ck_assert (!call_domain_state (conn, &args, &state, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_CONNECTION);
    /* A new one at the same place: also the registration is there again. */
    next = host;
    host_run (host);
    ck_assert (call_domain_state (conn, &args, &state, NULL));
    ck_assert (heard_wait (&heard, 2, 5000));
    ck_assert_int_eq (heard.kind, EVENT_CONNECTION);
    fake_emit (next->driver, EVENT_WARNING, "one", "again");
    ck_assert (heard_wait (&heard, 3, 5000));
    ck_assert_str_eq (heard.text, "again");
    driver_close (conn);
    heard_clear (&heard);
    host_stop (next);
}
END_TEST

START_TEST (who_waits_for_events_is_told_of_a_loss_and_hears_the_next_server_without_a_call)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    Heard heard = { 0 };
    driver_conn_set_events (conn, hear, &heard);
    subscribe (conn, EVENT_JOB_COMPLETED, "one");
    for (guint round = 0; round < 2; round++) {
        g_autofree char *path = g_strdup (host->path);
        g_main_loop_quit (host->loop);
        g_thread_join (host->thread);
        g_unlink (path);
        ck_assert (heard_wait (&heard, 3 * round + 1, 5000));
        ck_assert_int_eq (heard.kind, EVENT_CONNECTION);
        ck_assert (strstr (heard.text, "broke"));
        host_run (host);
        ck_assert (heard_wait (&heard, 3 * round + 2, 20000));
        ck_assert_int_eq (heard.kind, EVENT_CONNECTION);
        ck_assert (strstr (heard.text, "again"));
        fake_emit (host->driver, EVENT_JOB_COMPLETED, "one", "done");
        ck_assert (heard_wait (&heard, 3 * round + 3, 5000));
        ck_assert_str_eq (heard.text, "done");
    }
    driver_close (conn);
    heard_clear (&heard);
    host_stop (host);
}
END_TEST

START_TEST (a_connection_closes_while_it_is_lost)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    Heard heard = { 0 };
    driver_conn_set_events (conn, hear, &heard);
    subscribe (conn, EVENT_JOB_COMPLETED, "");
    g_autofree char *path = g_strdup (host->path);
    g_main_loop_quit (host->loop);
    g_thread_join (host->thread);
    g_unlink (path);
    ck_assert (heard_wait (&heard, 1, 5000));
    driver_close (conn);
    heard_clear (&heard);
    host_run (host);
    host_stop (host);
}
END_TEST

static int raw_connect (Host *host)
{
    g_autoptr (GError) error = NULL;
    int fd = unix_connect (host->path, &error);
    g_assert_no_error (error);
    return fd;
}

/* Sends a call of our own program and reads its reply. */
static void raw_call (int fd, CallId id, const void *args)
{
    FrameHeader header = { .program = PROGRAM_BACKUP,
                           .version = 1,
                           .procedure = call_rows[id].number };
    g_autoptr (GByteArray) packet = g_byte_array_new ();
    guint8 reply[4096];
    g_byte_array_set_size (packet, FRAME_HEADER_SIZE);
    g_assert_true (codec_encode (call_rows[id].args_codec, args, packet, 65536, NULL));
    frame_pack (&header, packet->len - FRAME_HEADER_SIZE, packet->data);
    g_assert_cmpint (write (fd, packet->data, packet->len), ==, packet->len);
    g_assert_cmpint (read (fd, reply, sizeof reply), >=, FRAME_HEADER_SIZE);
    frame_unpack (reply, &header);
    g_assert_cmpuint (header.status, ==, FRAME_OK);
}

/* TRUE: the server closed the connection within a second. */
static gboolean raw_is_closed (int fd)
{
    struct timeval timeout = { .tv_sec = 1 };
    char buffer[4096];
    ssize_t n;
    setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    while ((n = read (fd, buffer, sizeof buffer)) > 0)
        ;
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static const struct {
    guint32 length;
    gboolean closes;
} lengths[] = {
    { 0, TRUE },      { 3, TRUE },     { 27, TRUE },       { 28, FALSE },
    { 65536, FALSE }, { 65537, TRUE }, { 33554436, TRUE }, { 0xffffffff, TRUE },
};

START_TEST (a_length_that_nobody_means_closes_the_connection)
{
    Host *host = host_start ();
    DriverConn *conn = open_client (host);
    int fd = raw_connect (host);
    guint32 word = GUINT32_TO_BE (lengths[_i].length);
    ck_assert_int_eq (write (fd, &word, 4), 4);
    ck_assert_int_eq (raw_is_closed (fd), lengths[_i].closes);
    close (fd);
    /* Nobody else is hurt. */
    bak_domain_arg args = domain_arg ("one");
    bak_state_ret state = { 0 };
    ck_assert (call_domain_state (conn, &args, &state, NULL));
    driver_close (conn);
    host_stop (host);
}
END_TEST

START_TEST (a_subscriber_that_does_not_read_is_dropped_and_the_others_hear_all)
{
    enum { EVENTS = 3000 };
    ServerLimits limits = server_default_limits;
    limits.max_queued = 64 * 1024;
    Host *host = host_start_with (limits, LISTEN_RW, NULL);
    DriverConn *conn = open_client (host);
    Heard heard = { 0 };
    g_autofree char *text = g_strnfill (1000, 'e');
    driver_conn_set_events (conn, hear, &heard);
    subscribe (conn, EVENT_WARNING, "");

    int deaf = raw_connect (host), size = 4096;
    setsockopt (deaf, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    bak_hello_args hello = { .uri = (char *) "qemu:///system", .api = 1 };
    bak_register_args all = { .kind = -1, .domain = (char *) "" };
    raw_call (deaf, CALL_ID_hello, &hello);
    raw_call (deaf, CALL_ID_event_register, &all);
    for (guint i = 0; i < EVENTS; i++) {
        fake_emit (host->driver, EVENT_WARNING, "one", text);
        if (i % 100 == 0)
            ck_assert (heard_wait (&heard, i + 1, 5000));
    }
    ck_assert (heard_wait (&heard, EVENTS, 5000));
    ck_assert (raw_is_closed (deaf));
    close (deaf);
    driver_close (conn);
    heard_clear (&heard);
    host_stop (host);
}
END_TEST

static const struct {
    const char *rules, *guest;
    CallId call;
    BakErrorCode code;
} rights[] = {
    { "group:nobody-has-this one see\n", "one", CALL_ID_domain_state, BAK_ERROR_NO_DOMAIN },
    { "tls:* * all\n", "one", CALL_ID_fs_freeze, BAK_ERROR_NONE },
    { "tls:CN=ops* one see\n", "one", CALL_ID_domain_state, BAK_ERROR_NONE },
    { "tls:CN=ops* one see\n", "two", CALL_ID_domain_state, BAK_ERROR_NO_DOMAIN },
    { "tls:CN=ops* one see\n", "one", CALL_ID_fs_freeze, BAK_ERROR_ACCESS_DENIED },
    { "tls:CN=ops* o* backup\n", "one", CALL_ID_fs_freeze, BAK_ERROR_ACCESS_DENIED },
    { "tls:CN=ops* o* backup\n", "one", CALL_ID_domain_state, BAK_ERROR_NONE },
    { "# all\n  tls:CN=ops,O=Example Ltd   *   manage,backup \n", "one", CALL_ID_fs_freeze,
      BAK_ERROR_NONE },
};

START_TEST (a_policy_says_who_may_do_what_with_which_guest)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Policy) policy = policy_parse (rights[_i].rules, "test", &error);
    g_autoptr (Identity) ops = identity_new_tls ("CN=ops,O=Example Ltd", "test"),
                         root = identity_new_trusted ("test");
    g_autoptr (Identity) stranger = identity_new_tls ("CN=stranger", "test");
    const CallRow *row = &call_rows[rights[_i].call];
    g_assert_no_error (error);
    gboolean all = strstr (rights[_i].rules, "tls:* *") != NULL;
    ck_assert (policy_allows (policy, ops, rights[_i].guest, row->verb)
               == (rights[_i].code == BAK_ERROR_NONE));
    ck_assert (policy_allows (policy, ops, rights[_i].guest, VERB_SEE)
               == (rights[_i].code != BAK_ERROR_NO_DOMAIN));
    ck_assert (policy_allows (policy, stranger, rights[_i].guest, VERB_SEE) == all);
    ck_assert (policy_knows (policy, stranger) == all);
    ck_assert (policy_allows (policy, root, rights[_i].guest, row->verb));
}
END_TEST

/* anna of the groups staff and backup, by the socket */
static const struct {
    const char *rules;
    CallVerb verb;
    gboolean allowed;
} local_rights[] = {
    { "", VERB_MANAGE, TRUE },                /* the socket's mode has decided */
    { "tls:* * see\n", VERB_MANAGE, TRUE },   /* says nothing about local users */
    { "user:bert * all\n", VERB_SEE, FALSE }, /* but this does: only what such lines grant */
    { "user:anna o?e backup\n", VERB_BACKUP, TRUE },
    { "user:anna o?e backup\n", VERB_SEE, TRUE },
    { "user:anna o?e backup\n", VERB_RESTORE, FALSE },
    { "user:anna two all\n", VERB_SEE, FALSE },
    { "group:backup * backup\n", VERB_BACKUP, TRUE },
    { "group:back * backup\n", VERB_BACKUP, FALSE },
    { "group:wheel * all\ngroup:staff one manage\n", VERB_MANAGE, TRUE },
    /* a certificate's name is not a user's */
    { "tls:anna * all\nuser:bert * all\n", VERB_SEE, FALSE },
    { "user:a* one see\nuser:anna one restore\n", VERB_RESTORE, TRUE }, /* lines add up */
};

START_TEST (a_policy_holds_for_local_users_once_it_names_some)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Policy) policy = policy_parse (local_rights[_i].rules, "test", &error);
    g_autoptr (Identity) anna = identity_new_trusted ("unix"), root = identity_new_trusted ("unix");
    g_assert_no_error (error);
    anna->kind = IDENTITY_LOCAL;
    g_free (anna->name);
    anna->name = g_strdup ("anna");
    anna->groups = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (anna->groups, g_strdup ("staff"));
    g_ptr_array_add (anna->groups, g_strdup ("backup"));
    ck_assert_int_eq (policy_allows (policy, anna, "one", local_rights[_i].verb),
                      local_rights[_i].allowed);
    ck_assert (policy_allows (policy, root, "one", VERB_MANAGE));
    ck_assert (identity_in_group (anna, "backup") && !identity_in_group (anna, "back")
               && !identity_in_group (root, "backup"));
}
END_TEST

/* Who asks for a guest must be asked for: a call about a guest without a verb would pass every
 * policy. */
START_TEST (every_call_about_a_guest_has_a_verb)
{
    for (guint i = 0; i < CALL_COUNT; i++) {
        ck_assert_msg (!(call_rows[i].flags & CALL_GUEST) || call_rows[i].verb != VERB_NONE, "%s",
                       call_rows[i].name);
        ck_assert_msg (!(call_rows[i].flags & CALL_WRITE) || call_rows[i].verb > VERB_SEE, "%s",
                       call_rows[i].name);
    }
    static const gint32 no_guest[] = { 1,   2,   3,   4,   6,   7,   59,  60,  66,  110,
                                       122, 149, 157, 273, 316, 317, 344, 360, 361, 391 };
    for (guint i = 0; i < program_libvirt.count; i++) {
        const Procedure *row = &program_libvirt.rows[i];
        gboolean none = FALSE;
        for (guint k = 0; k < G_N_ELEMENTS (no_guest); k++)
            none |= no_guest[k] == row->number;
        /* there is nothing in it that could be had */
        gboolean refused = row->args_codec == NULL && row->ret_codec == NULL;
        ck_assert_msg (none || refused || row->verb != VERB_NONE, "%s", row->name);
        ck_assert_msg (!(row->flags & CALL_WRITE) || refused || row->verb > VERB_SEE, "%s",
                       row->name);
    }
}
END_TEST

static const char *const bad_rules[] = {
    "tls:x one\n",     "tls:x one look\n", "one see\n",
    "user: one see\n", "robot:x * all\n",  "\nuser:x * see,\n",
};

START_TEST (a_wrong_line_of_a_policy_is_named)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *text = g_strconcat ("# first\n", bad_rules[_i], NULL);
    ck_assert_ptr_null (policy_parse (text, "/etc/policy", &error));
    ck_assert (strstr (error->message, "/etc/policy:2:")
               || strstr (error->message, "/etc/policy:3:"));
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("remote loopback");
    TCase *tcase = tcase_create ("calls");
    tcase_set_timeout (tcase, 60);
    tcase_add_test (tcase, a_call_and_its_result_cross_the_wire);
    tcase_add_test (tcase, an_error_crosses_with_its_code_and_its_text);
    tcase_add_loop_test (tcase, a_read_only_connection_may_look_and_not_touch, 0, 2);
    tcase_add_test (tcase, many_threads_share_a_connection);
    tcase_add_test (tcase, slow_calls_of_one_peer_run_side_by_side_up_to_the_limit);
    tcase_add_test (tcase, events_reach_those_who_asked_for_their_kind_and_guest);
    tcase_add_test (tcase, a_wait_ends_with_the_job_and_holds_no_thread);
    tcase_add_test (tcase, a_wait_with_a_deadline_ends_at_it);
    tcase_add_test (tcase, a_server_that_goes_breaks_calls_and_the_next_call_connects_again);
    tcase_add_test (
        tcase, who_waits_for_events_is_told_of_a_loss_and_hears_the_next_server_without_a_call);
    tcase_add_test (tcase, a_connection_closes_while_it_is_lost);
    tcase_add_loop_test (tcase, a_length_that_nobody_means_closes_the_connection, 0,
                         G_N_ELEMENTS (lengths));
    tcase_add_test (tcase, a_subscriber_that_does_not_read_is_dropped_and_the_others_hear_all);
    tcase_add_loop_test (tcase, a_policy_says_who_may_do_what_with_which_guest, 0,
                         G_N_ELEMENTS (rights));
    tcase_add_loop_test (tcase, a_policy_holds_for_local_users_once_it_names_some, 0,
                         G_N_ELEMENTS (local_rights));
    tcase_add_test (tcase, every_call_about_a_guest_has_a_verb);
    tcase_add_loop_test (tcase, a_wrong_line_of_a_policy_is_named, 0, G_N_ELEMENTS (bad_rules));
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
