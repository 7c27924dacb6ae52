/* polkit's part in opening a connection: a private bus, an authority on it that answers as a test
 * wants, a server, and a local user's connection. All on one context. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <gio/gio.h>
#include "fake.h"
#include "remote/codec.h"
#include "remote/frame.h"
#include "remote/polkit.h"
#include "remote/server.h"

typedef enum { SAYS_YES, SAYS_NO, SAYS_ERROR, SAYS_NOTHING, IS_ABSENT } Answer;

typedef struct {
    GTestDBus *bus;
    GDBusConnection *authority;
    Answer answer;
    guint asked;
    guint32 pid;
    guint64 start_time;
    gint32 uid;
    char *action;
    guint32 flags;
} Authority;

static void authority_method (GDBusConnection *bus, const char *sender, const char *path,
                              const char *interface, const char *method, GVariant *parameters,
                              GDBusMethodInvocation *invocation, gpointer data)
{
    Authority *authority = data;
    g_autoptr (GVariant) subject = NULL;
    const char *kind;
    authority->asked++;
    g_free (authority->action);
    g_variant_get (parameters, "((&s@a{sv})sa{ss}us)", &kind, &subject, &authority->action, NULL,
                   &authority->flags, NULL);
    ck_assert_str_eq (kind, "unix-process");
    ck_assert (g_variant_lookup (subject, "pid", "u", &authority->pid)
               && g_variant_lookup (subject, "start-time", "t", &authority->start_time)
               && g_variant_lookup (subject, "uid", "i", &authority->uid));
    if (authority->answer == SAYS_NOTHING)
        g_object_unref (invocation);
    else if (authority->answer == SAYS_ERROR)
        g_dbus_method_invocation_return_dbus_error (
            invocation, "org.freedesktop.PolicyKit1.Error.Failed", "it is confused");
    else
        g_dbus_method_invocation_return_value (
            invocation, g_variant_new ("((bba{ss}))", authority->answer == SAYS_YES, FALSE, NULL));
}

static void authority_start (Authority *authority, Answer answer)
{
    static const char xml[] =
        "<node><interface name='org.freedesktop.PolicyKit1.Authority'><method "
        "name='CheckAuthorization'>"
        "<arg type='(sa{sv})' direction='in'/><arg type='s' direction='in'/><arg type='a{ss}' "
        "direction='in'/><arg type='u' direction='in'/>"
        "<arg type='s' direction='in'/><arg type='(bba{ss})' "
        "direction='out'/></method></interface></node>";
    static const GDBusInterfaceVTable table = { .method_call = authority_method };
    g_autoptr (GError) error = NULL;
    *authority = (Authority){ .answer = answer, .bus = g_test_dbus_new (G_TEST_DBUS_NONE) };
    g_test_dbus_up (authority->bus);
    g_setenv ("DBUS_SYSTEM_BUS_ADDRESS", g_test_dbus_get_bus_address (authority->bus), TRUE);
    if (answer == IS_ABSENT)
        return;
    authority->authority = g_dbus_connection_new_for_address_sync (
        g_test_dbus_get_bus_address (authority->bus),
        G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT
            | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
        NULL, NULL, &error);
    g_assert_no_error (error);
    g_autoptr (GDBusNodeInfo) node = g_dbus_node_info_new_for_xml (xml, NULL);
    g_dbus_connection_register_object (authority->authority,
                                       "/org/freedesktop/PolicyKit1/Authority", node->interfaces[0],
                                       &table, authority, NULL, &error);
    g_assert_no_error (error);
    g_autoptr (GVariant) owned = g_dbus_connection_call_sync (
        authority->authority, "org.freedesktop.DBus", "/org/freedesktop/DBus",
        "org.freedesktop.DBus", "RequestName",
        g_variant_new ("(su)", "org.freedesktop.PolicyKit1", 0), NULL, 0, -1, NULL, &error);
    g_assert_no_error (error);
}

static void authority_stop (Authority *authority)
{
    g_clear_object (&authority->authority);
    g_test_dbus_stop (authority->bus);
    g_object_unref (authority->bus);
    g_free (authority->action);
}

static Identity *user (const char *group)
{
    Identity *identity = identity_new_trusted ("unix");
    identity->kind = IDENTITY_LOCAL;
    identity->uid = 4711;
    identity->pid = 42;
    identity->start_time = 1234567;
    g_free (identity->name);
    identity->name = g_strdup ("anna");
    identity->groups = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (identity->groups, g_strdup (group));
    return identity;
}

static gboolean stop_waiting (gpointer data)
{
    *(gboolean *) data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Status and error text of the reply to libvirt's OPEN; FALSE: none within the time. */
static gboolean reply (int fd, guint ms, guint32 *ret_status, char **ret_text)
{
    guint8 bytes[4096];
    gboolean over = FALSE;
    ssize_t n = -1;
    guint timer = g_timeout_add (ms, stop_waiting, &over);
    while (!over && (n = recv (fd, bytes, sizeof bytes, MSG_DONTWAIT)) < 0)
        g_main_context_iteration (NULL, TRUE);
    if (!over)
        g_source_remove (timer);
    if (n < FRAME_HEADER_SIZE)
        return FALSE;
    FrameHeader header;
    frame_unpack (bytes, &header);
    *ret_status = header.status;
    *ret_text = g_strndup ((char *) bytes + FRAME_HEADER_SIZE + 16,
                           n > FRAME_HEADER_SIZE + 16 ? n - FRAME_HEADER_SIZE - 16 : 0);
    return TRUE;
}

static int connect_as (Server *server, Identity *identity, gboolean readonly)
{
    static const guint8 arguments[8]; /* no URI, no flags */
    const FrameHeader header = {
        .program = PROGRAM_LIBVIRT, .version = 1, .procedure = 1, .type = FRAME_CALL
    };
    guint8 packet[FRAME_HEADER_SIZE + sizeof arguments];
    int pair[2];
    g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    frame_pack (&header, sizeof arguments, packet);
    memcpy (packet + FRAME_HEADER_SIZE, arguments, sizeof arguments);
    server_add_peer (server, pair[1], pair[1], identity, readonly);
    g_assert_cmpint (write (pair[0], packet, sizeof packet), ==, sizeof packet);
    return pair[0];
}

static const struct {
    Answer answer;
    const char *group;
    gboolean readonly;
    guint asked;
    const char *error;
} cases[] = {
    { SAYS_YES, "users", FALSE, 1, NULL },
    { SAYS_NO, "users", FALSE, 1, "polkit does not let anna use the daemon (org.libbackup.use)" },
    { SAYS_ERROR, "users", FALSE, 1, "polkit cannot be asked about anna: " },
    { IS_ABSENT, "users", FALSE, 0, "polkit cannot be asked about anna: " },
    { SAYS_NO, "backup", FALSE, 0, NULL }, /* a member of the group */
    { SAYS_NO, "users", TRUE, 0, NULL },   /* who may only look */
};

START_TEST (polkit_decides_about_users_outside_the_group)
{
    Authority authority;
    g_autoptr (GError) error = NULL;
    g_autofree char *text = NULL;
    guint32 status = 99;
    const DriverOpenOptions options = { .role = DRIVER_ROLE_DAEMON };
    authority_start (&authority, cases[_i].answer);
    DriverConn *driver = driver_open ("qemu:///system", &options, &error);
    g_assert_no_error (error);
    Server *server = server_new (driver, NULL);
    server_set_polkit (server, "backup");
    int fd = connect_as (server, user (cases[_i].group), cases[_i].readonly);
    ck_assert (reply (fd, 20000, &status, &text));
    ck_assert_uint_eq (status, cases[_i].error ? FRAME_ERROR : FRAME_OK);
    ck_assert_msg (!cases[_i].error || strstr (text, cases[_i].error), "%s", text);
    ck_assert_uint_eq (authority.asked, cases[_i].asked);
    if (authority.asked) {
        ck_assert_uint_eq (authority.pid, 42);
        ck_assert_uint_eq (authority.start_time, 1234567);
        ck_assert_int_eq (authority.uid, 4711);
        ck_assert_str_eq (authority.action, "org.libbackup.use");
        ck_assert_uint_eq (authority.flags, 1);
    }
    server_free (server);
    driver_close (driver);
    close (fd);
    authority_stop (&authority);
}
END_TEST

START_TEST (a_question_without_an_answer_holds_up_neither_peers_nor_the_end)
{
    Authority authority;
    g_autofree char *text = NULL;
    guint32 status = 99;
    const DriverOpenOptions options = { .role = DRIVER_ROLE_DAEMON };
    authority_start (&authority, SAYS_NOTHING);
    DriverConn *driver = driver_open ("qemu:///system", &options, NULL);
    Server *server = server_new (driver, NULL);
    server_set_polkit (server, "backup");
    int waiting = connect_as (server, user ("users"), FALSE),
        other = connect_as (server, user ("backup"), FALSE);
    ck_assert (reply (other, 20000, &status, &text));
    ck_assert_uint_eq (status, FRAME_OK);
    while (authority.asked == 0)
        g_main_context_iteration (NULL, TRUE);
    g_clear_pointer (&text, g_free);
    ck_assert (!reply (waiting, 100, &status, &text));
    gint64 before = g_get_monotonic_time ();
    server_free (server);
    ck_assert_int_lt (g_get_monotonic_time () - before, 10 * G_USEC_PER_SEC);
    driver_close (driver);
    close (waiting);
    close (other);
    authority_stop (&authority);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("polkit");
    TCase *tcase = tcase_create ("open");
    tcase_set_timeout (tcase, 60);
    tcase_add_loop_test (tcase, polkit_decides_about_users_outside_the_group, 0,
                         G_N_ELEMENTS (cases));
    tcase_add_test (tcase, a_question_without_an_answer_holds_up_neither_peers_nor_the_end);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
