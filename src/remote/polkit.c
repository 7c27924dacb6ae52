#include <glib/gi18n-lib.h>
#include "remote/polkit.h"

enum { ALLOW_USER_INTERACTION = 1, ASK_TIMEOUT_MS = 120 * 1000 };

typedef struct {
    GVariant *question;
    char *name;
    GCancellable *cancellable;
    PolkitFunc func;
    gpointer data;
} Question;

static void question_end (Question *question, const GError *error)
{
    question->func (error, question->data);
    g_variant_unref (question->question);
    g_clear_object (&question->cancellable);
    g_free (question->name);
    g_free (question);
}

static void question_fail (Question *question, const GError *why)
{
    g_autoptr (GError) error = NULL;
    error_set (&error, BAK_ERROR_ACCESS_DENIED, _("polkit cannot be asked about %s: %s"),
               question->name, why->message);
    question_end (question, error);
}

static void answered (GObject *bus, GAsyncResult *result, gpointer data)
{
    Question *question = data;
    g_autoptr (GError) error = NULL;
    g_autoptr (GVariant) answer =
        g_dbus_connection_call_finish (G_DBUS_CONNECTION (bus), result, &error);
    gboolean yes = FALSE;
    if (!answer) {
        question_fail (question, error);
        return;
    }
    g_variant_get (answer, "((bb@a{ss}))", &yes, NULL, NULL);
    if (!yes)
        error_set (&error, BAK_ERROR_ACCESS_DENIED,
                   _("polkit does not let %s use the daemon (%s)"), question->name, POLKIT_ACTION);
    question_end (question, error);
}

static void connected (GObject *object, GAsyncResult *result, gpointer data)
{
    Question *question = data;
    g_autoptr (GError) error = NULL;
    g_autoptr (GDBusConnection) bus = g_bus_get_finish (result, &error);
    if (!bus) {
        question_fail (question, error);
        return;
    }
    g_dbus_connection_set_exit_on_close (bus, FALSE);
    g_dbus_connection_call (
        bus, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
        "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization", question->question,
        G_VARIANT_TYPE ("((bba{ss}))"), G_DBUS_CALL_FLAGS_NONE, ASK_TIMEOUT_MS,
        question->cancellable, answered, question);
}

/* A process is told by its number and its start, so that a later one with the same number is not
 * it; the user is told beside it, because the process may have changed him since. */
static GVariant *make_question (const Identity *identity)
{
    GVariantBuilder subject, details;
    g_variant_builder_init (&subject, G_VARIANT_TYPE ("a{sv}"));
    g_variant_builder_add (&subject, "{sv}", "pid", g_variant_new_uint32 (identity->pid));
    g_variant_builder_add (&subject, "{sv}", "start-time",
                           g_variant_new_uint64 (identity->start_time));
    g_variant_builder_add (&subject, "{sv}", "uid", g_variant_new_int32 (identity->uid));
    g_variant_builder_init (&details, G_VARIANT_TYPE ("a{ss}"));
    return g_variant_ref_sink (g_variant_new ("((sa{sv})sa{ss}us)", "unix-process", &subject,
                                              POLKIT_ACTION, &details, ALLOW_USER_INTERACTION, ""));
}

void polkit_ask (const Identity *identity, GCancellable *cancellable, PolkitFunc func,
                 gpointer data)
{
    Question *question = g_new0 (Question, 1);
    *question = (Question){ .question = make_question (identity),
                            .name = g_strdup (identity->name),
                            .func = func,
                            .data = data,
                            .cancellable = g_object_ref (cancellable) };
    g_bus_get (G_BUS_TYPE_SYSTEM, cancellable, connected, question);
}
