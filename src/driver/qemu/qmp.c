/* The QMP client. Owns one socket, one GSource on one GMainContext for its whole life, and the
 * commands that wait.
 *
 * A command is in one of three places: `queue` (nothing of it has left this process), `flying` (in
 * QEMU's hands, or its bytes are on the way), or it is done. After a timeout a flying command keeps
 * its place, without a callback, until its late reply or the end of the connection: QEMU has not
 * taken it off its own queue, and an eighth one would make it stop reading. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/dial.h"
#include "driver/qemu/qemu-process.h"
#include "driver/qemu/qmp.h"
#include "util/config.h"
#include "driver/qemu/qmp_split.h"
#include "util/json.h"

enum {
    READ_SIZE = 65536,
    KEEP_MESSAGE = 1024 * 1024,
    MAX_NAME = 64,
    MAX_EVENT_COST = 64 * 1024,
    CONNECT_TRIES = 4
};

typedef enum { STATE_GREETING, STATE_NEGOTIATING, STATE_READY, STATE_DEAD } State;

typedef struct {
    char *id, *name, *text;
    gsize length, written;
    gboolean oob;
    guint timeout_ms;
    gint64 deadline;   /* 0: not running */
    QmpReplyFunc func; /* NULL: nobody waits any more */
    gpointer user_data;
} Command;

typedef struct {
    GSource base;
    Qmp *qmp;
} QmpSource;

struct _Qmp {
    int refs;
    char *label;
    GMainContext *context;
    GSocket *socket;
    int fd; /* of socket, for qmp_is_quiet; never changes */
    /* atomic: what was read is being handed out (once dead, for ever); a message has begun and not
     * ended */
    gint at_work, half;
    GSource *source;
    gpointer tag;
    State state;
    gboolean closed;     /* by the owner */
    gboolean startled;   /* greeted twice, or not at all before it hung up: see qmp_connect() */
    GError *why;         /* set once, when it dies */
    GError *write_error; /* what is left to read is read first */

    guint8 in[READ_SIZE];
    gsize in_pos, in_length;
    QmpSplit split;
    GByteArray *message; /* the object that is being received */

    GQueue queue;    /* Command*, in-band, waiting for a place */
    GQueue flying;   /* Command*, in the order of sending */
    GQueue writing;  /* Command* of flying whose bytes are not all written */
    gint64 progress; /* when QEMU last answered anything */
    guint64 last_id;

    guint default_timeout_ms;
    guint max_timeout_ms; /* monitor_timeout of the configuration; 0: none */
    int peer_pid;
    guint version;
    char *version_text;
    gboolean offers_oob, oob;
    QmpEventFunc event_func;
    gpointer event_data;
};

static Qmp *qmp_ref (Qmp *qmp)
{
    qmp->refs++;
    return qmp;
}

static void qmp_unref (Qmp *qmp)
{
    if (--qmp->refs > 0)
        return;
    if (qmp->source) {
        g_source_destroy (qmp->source);
        g_source_unref (qmp->source);
    }
    g_clear_object (&qmp->socket);
    g_clear_error (&qmp->why);
    g_clear_error (&qmp->write_error);
    g_byte_array_unref (qmp->message);
    g_main_context_unref (qmp->context);
    g_free (qmp->version_text);
    g_free (qmp->label);
    g_free (qmp);
}

/* ---- commands ---- */

static void command_free (Command *command)
{
    g_free (command->id);
    g_free (command->name);
    g_free (command->text);
    g_free (command);
}

/* Makes the source run its dispatch as soon as the context is iterated. */
static void qmp_wake (Qmp *qmp)
{
    if (qmp->source)
        g_source_set_ready_time (qmp->source, 0);
}

static Command *command_new (Qmp *qmp, const char *name, JsonObject *args, gboolean oob,
                             guint timeout_ms)
{
    Command *command = g_new0 (Command, 1);
    command->id = g_strdup_printf ("bak-%" G_GUINT64_FORMAT, ++qmp->last_id);
    command->name = g_strdup (name);
    command->oob = oob;
    command->timeout_ms = timeout_ms ? timeout_ms : qmp->default_timeout_ms;
    if (qmp->max_timeout_ms)
        command->timeout_ms = MIN (command->timeout_ms, qmp->max_timeout_ms);

    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, oob ? "exec-oob" : "execute", name);
    if (args)
        json_object_set_object_member (object, "arguments", args);
    json_object_set_string_member (object, "id", command->id);
    g_autoptr (JsonNode) root = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *json = json_to_string (root, FALSE);
    command->text = g_strconcat (json, "\n", NULL);
    command->length = strlen (command->text);
    return command;
}

/* Takes command. The callback may do anything, closing qmp included. */
static void command_finish (Qmp *qmp, Command *command, JsonNode *result, const GError *error)
{
    QmpReplyFunc func = command->func;
    gpointer user_data = command->user_data;
    command_free (command);
    if (func)
        func (qmp, result, error, user_data);
}

static void qmp_die (Qmp *qmp, BakErrorCode code, const char *format, ...) G_GNUC_PRINTF (3, 4);
static void qmp_die (Qmp *qmp, BakErrorCode code, const char *format, ...)
{
    if (qmp->state == STATE_DEAD)
        return;
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    error_set (&qmp->why, code, _("monitor '%s': %s"), qmp->label, text);
    qmp->state = STATE_DEAD;
    g_atomic_int_inc (&qmp->at_work);
    if (qmp->tag)
        g_source_remove_unix_fd (qmp->source, g_steal_pointer (&qmp->tag));
    g_socket_close (qmp->socket, NULL);
    qmp->in_pos = qmp->in_length = 0;
    g_byte_array_set_size (qmp->message, 0);
    g_queue_clear (&qmp->writing);
    qmp_wake (qmp);
}

/* Ends every command with the reason why the connection ended. */
static void qmp_fail_all (Qmp *qmp)
{
    Command *command;
    while ((command = g_queue_pop_head (&qmp->flying))
           || (command = g_queue_pop_head (&qmp->queue)))
        command_finish (qmp, command, NULL, qmp->why);
}

/* ---- writing ---- */

static guint qmp_count_in_band (Qmp *qmp)
{
    guint count = 0;
    for (GList *l = qmp->flying.head; l; l = l->next)
        count += !((Command *) l->data)->oob;
    return count;
}

static void qmp_launch (Qmp *qmp, Command *command, gint64 now)
{
    command->deadline = command->func ? now + (gint64) command->timeout_ms * 1000 : 0;
    g_queue_push_tail (&qmp->flying, command);
    if (!command->oob) {
        g_queue_push_tail (&qmp->writing, command);
        return;
    }
    /* Overtakes all but what has partly been written. */
    Command *head = g_queue_peek_head (&qmp->writing);
    g_queue_push_nth (&qmp->writing, command, head && head->written > 0 ? 1 : 0);
}

static void qmp_write (Qmp *qmp)
{
    Command *command;
    while (!qmp->write_error && (command = g_queue_peek_head (&qmp->writing))) {
        g_autoptr (GError) error = NULL;
        gssize n = g_socket_send (qmp->socket, command->text + command->written,
                                  command->length - command->written, NULL, &error);
        if (n < 0 && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            break;
        if (n < 0) {
            qmp->write_error = g_steal_pointer (&error);
            g_queue_clear (&qmp->writing);
            qmp_wake (qmp);
            break;
        }
        command->written += n;
        if (command->written == command->length)
            g_queue_pop_head (&qmp->writing);
    }
}

/* Sends what has a place and arms the source for what is left. */
static void qmp_flush (Qmp *qmp)
{
    if (qmp->state == STATE_DEAD)
        return;
    gint64 now = g_get_monotonic_time ();
    while (qmp->queue.length && qmp_count_in_band (qmp) < QMP_MAX_IN_FLIGHT)
        qmp_launch (qmp, g_queue_pop_head (&qmp->queue), now);
    qmp_write (qmp);
    if (qmp->tag)
        g_source_modify_unix_fd (qmp->source, qmp->tag,
                                 G_IO_IN | (qmp->writing.length ? G_IO_OUT : 0));
}

/* ---- deadlines ---- */

/* A queued command is late when, for as long as it would wait for its own reply, QEMU has answered
 * nothing. */
static gint64 command_deadline (Qmp *qmp, Command *command)
{
    if (command->deadline)
        return command->deadline;
    return command->func ? qmp->progress + (gint64) command->timeout_ms * 1000 : G_MAXINT64;
}

static gboolean qmp_expire_flying (Qmp *qmp, gint64 now)
{
    for (GList *l = qmp->flying.head; l; l = l->next) {
        Command *command = l->data;
        if (!command->deadline || command->deadline > now)
            continue;
        gboolean unsent = command->written == 0 && g_queue_find (&qmp->writing, command);
        g_autoptr (GError) error = NULL;
        error_set (
            &error, BAK_ERROR_TIMEOUT,
            unsent ? _("monitor '%s': '%s' could not be sent within %.3g s: QEMU reads nothing")
                   : _("monitor '%s': no reply to '%s' within %.3g s"),
            qmp->label, command->name, command->timeout_ms / 1000.0);
        if (unsent) {
            g_queue_remove (&qmp->writing, command);
            g_queue_delete_link (&qmp->flying, l);
            command_finish (qmp, command, NULL, error);
            return TRUE;
        }
        QmpReplyFunc func = g_steal_pointer (&command->func);
        command->deadline = 0;
        if (func)
            func (qmp, NULL, error, command->user_data);
        return TRUE;
    }
    return FALSE;
}

static gboolean qmp_expire_queued (Qmp *qmp, gint64 now)
{
    for (GList *l = qmp->queue.head; l; l = l->next) {
        Command *command = l->data;
        if (command_deadline (qmp, command) > now)
            continue;
        g_queue_delete_link (&qmp->queue, l);
        g_autoptr (GError) error = NULL;
        error_set (
            &error, BAK_ERROR_TIMEOUT,
            _("monitor '%s': '%s' was not sent: no reply to the commands before it for %.3g s"),
            qmp->label, command->name, command->timeout_ms / 1000.0);
        command_finish (qmp, command, NULL, error);
        return TRUE;
    }
    return FALSE;
}

static void qmp_expire (Qmp *qmp)
{
    gint64 now = g_get_monotonic_time ();
    while (!qmp->closed && (qmp_expire_flying (qmp, now) || qmp_expire_queued (qmp, now)))
        ; /* callbacks may have changed either list: from the start again */
}

static void qmp_arm (Qmp *qmp)
{
    gint64 next = G_MAXINT64;
    for (GList *l = qmp->flying.head; l; l = l->next)
        if (((Command *) l->data)->deadline)
            next = MIN (next, ((Command *) l->data)->deadline);
    for (GList *l = qmp->queue.head; l; l = l->next)
        next = MIN (next, command_deadline (qmp, l->data));
    gboolean now = qmp->in_pos < qmp->in_length
                   || (qmp->state == STATE_DEAD && (qmp->flying.length || qmp->queue.length))
                   || (qmp->write_error && qmp->state != STATE_DEAD);
    if (qmp->source)
        g_source_set_ready_time (qmp->source, now ? 0 : next == G_MAXINT64 ? -1 : next);
}

/* ---- what QEMU says ---- */

static gboolean name_is_plain (const char *name, gboolean event)
{
    gsize length = strlen (name);
    return length > 0 && length <= MAX_NAME
           && strspn (name, event ? "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
                                  : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
                  == length;
}

/* Whoever takes note of events keeps many of them: no real one comes near the limit. */
static void handle_event (Qmp *qmp, JsonObject *object, const char *name)
{
    if (!qmp->event_func || !name_is_plain (name, TRUE) || qmp->split.last_cost > MAX_EVENT_COST)
        return;
    JsonObject *data = json_get_object (object, "data");
    g_autoptr (JsonObject) none = data ? NULL : json_object_new ();
    qmp->event_func (qmp, name, data ? data : none, qmp->event_data);
}

static Command *take_flying (Qmp *qmp, const char *id)
{
    for (GList *l = qmp->flying.head; l; l = l->next) {
        Command *command = l->data;
        if (strcmp (command->id, id) != 0)
            continue;
        /* a monitor that answers before it has read is not our problem */
        g_queue_remove (&qmp->writing, command);
        g_queue_delete_link (&qmp->flying, l);
        return command;
    }
    return NULL;
}

static GError *reply_error (JsonObject *object)
{
    JsonObject *details = json_get_object (object, "error");
    const char *class = json_get_string (details, "class");
    g_autofree char *desc = text_sanitize (json_get_string (details, "desc"), 1024);
    GError *error = NULL;
    error_set (&error, BAK_ERROR_MONITOR, "%s: %s",
               class && name_is_plain (class, FALSE) ? class : "GenericError", desc);
    return error;
}

static void handle_reply (Qmp *qmp, JsonObject *object)
{
    const char *id = json_get_string (object, "id");
    JsonNode *result = json_object_get_member (object, "return");
    if (!id && !json_object_has_member (object, "id") && !result) {
        /* QEMU could not read us, and does not say which command it was: every outcome is unknown.
         */
        g_autoptr (GError) error = reply_error (object);
        qmp_die (qmp, BAK_ERROR_CONNECTION, _("QEMU could not read what it was sent: %s"),
                 error->message);
        return;
    }
    Command *command = id ? take_flying (qmp, id) : NULL;
    if (!command)
        return;
    qmp->progress = g_get_monotonic_time ();
    g_autoptr (GError) error = result ? NULL : reply_error (object);
    command_finish (qmp, command, result, error);
}

static void handle_greeting (Qmp *qmp, JsonObject *object)
{
    /* an event of the moment in which a client takes over from another */
    if (json_object_has_member (object, "event"))
        return;
    JsonObject *greeting = json_get_object (object, "QMP");
    JsonObject *version = json_get_object (greeting, "version");
    JsonObject *qemu = json_get_object (version, "qemu");
    gint64 major = json_get_int (qemu, "major", -1), minor = json_get_int (qemu, "minor", -1),
           micro = json_get_int (qemu, "micro", -1);
    if (MIN (major, MIN (minor, micro)) < 0 || MAX (major, MAX (minor, micro)) > 999) {
        qmp_die (qmp, BAK_ERROR_CONNECTION,
                 _("does not speak QMP: its first message is not a greeting"));
        return;
    }
    qmp->version = major * 1000000 + minor * 1000 + micro;
    g_autofree char *clean = g_strstrip (text_sanitize (json_get_string (version, "package"), 128));
    gboolean bare = *clean && *clean != '('; /* before 2.11 the parentheses are part of it */
    qmp->version_text =
        g_strdup_printf ("%u.%u.%u%s%s%s%s", (guint) major, (guint) minor, (guint) micro,
                         *clean ? " " : "", bare ? "(" : "", clean, bare ? ")" : "");
    JsonArray *capabilities = json_get_array (greeting, "capabilities");
    for (guint i = 0; capabilities && i < json_array_get_length (capabilities); i++)
        if (g_strcmp0 (json_get_string_element (capabilities, i), "oob") == 0)
            qmp->offers_oob = TRUE;
    qmp->state = STATE_NEGOTIATING;
}

static void handle_object (Qmp *qmp, JsonObject *object)
{
    const char *event = json_get_string (object, "event");
    if (qmp->state == STATE_GREETING)
        handle_greeting (qmp, object);
    else if (event)
        handle_event (qmp, object, event);
    else if (json_object_has_member (object, "return") || json_object_has_member (object, "error"))
        handle_reply (qmp, object);
    else {
        qmp->startled = json_object_has_member (object, "QMP");
        qmp_die (qmp, BAK_ERROR_CONNECTION,
                 qmp->startled ? _("greeted a second time")
                               : _("received what is neither a reply nor an event"));
    }
}

static const char *split_complaint (QmpSplitResult result)
{
    switch (result) {
    case QMP_SPLIT_TOO_LONG:
        return _("received a message that is larger than anything QEMU has to say");
    case QMP_SPLIT_TOO_DEEP: return _("received a message that is nested too deeply");
    default: return _("received what is not JSON");
    }
}

/* The next whole object of the bytes at hand, or NULL. */
static JsonNode *qmp_next (Qmp *qmp)
{
    gsize start = 0, end = 0;
    QmpSplitResult result = qmp_split_feed (&qmp->split, qmp->in + qmp->in_pos,
                                            qmp->in_length - qmp->in_pos, &start, &end);
    if (result == QMP_SPLIT_OBJECT || result == QMP_SPLIT_MORE)
        g_byte_array_append (qmp->message, qmp->in + qmp->in_pos + start, end - start);
    qmp->in_pos += end;
    if (result == QMP_SPLIT_MORE)
        return NULL;
    if (result != QMP_SPLIT_OBJECT) {
        qmp_die (qmp, BAK_ERROR_CONNECTION,
                 qmp->state == STATE_GREETING ? _("does not speak QMP: %s") : "%s",
                 split_complaint (result));
        return NULL;
    }
    g_autoptr (JsonParser) parser = json_parser_new ();
    gboolean ok = json_parser_load_from_data (parser, (const char *) qmp->message->data,
                                              qmp->message->len, NULL);
    if (qmp->message->len > KEEP_MESSAGE) {
        g_byte_array_unref (qmp->message);
        qmp->message = g_byte_array_new ();
    }
    g_byte_array_set_size (qmp->message, 0);
    JsonNode *root = ok ? json_parser_steal_root (parser) : NULL;
    if (!root || !JSON_NODE_HOLDS_OBJECT (root)) {
        g_clear_pointer (&root, json_node_unref);
        qmp_die (qmp, BAK_ERROR_CONNECTION,
                 qmp->state == STATE_GREETING ? _("does not speak QMP: %s") : "%s",
                 _("received what is not JSON"));
    }
    return root;
}

/* Hands out what has been received. A callback that waits iterates the context, and so comes here
 * again: the place in the input is kept in qmp, and the source is told that there is more. */
static void qmp_process (Qmp *qmp)
{
    while (!qmp->closed && qmp->state != STATE_DEAD && qmp->in_pos < qmp->in_length) {
        g_autoptr (JsonNode) root = qmp_next (qmp);
        if (!root)
            continue;
        if (qmp->in_pos < qmp->in_length)
            qmp_wake (qmp);
        gboolean greeting = qmp->state == STATE_GREETING;
        handle_object (qmp, json_node_get_object (root));
        if (greeting)
            break; /* whoever waited for it speaks next */
    }
}

static void qmp_read (Qmp *qmp)
{
    if (qmp->state == STATE_DEAD || qmp->in_pos < qmp->in_length)
        return;
    g_autoptr (GError) error = NULL;
    gssize n = g_socket_receive (qmp->socket, (char *) qmp->in, sizeof qmp->in, NULL, &error);
    qmp->in_pos = 0;
    qmp->in_length = MAX (n, 0);
    if (n > 0)
        return;
    gboolean blocks = n < 0 && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
    qmp->startled |= !blocks && qmp->state == STATE_GREETING;
    if (blocks && qmp->write_error)
        qmp_die (qmp, BAK_ERROR_CONNECTION, _("connection lost: %s"), qmp->write_error->message);
    else if (n < 0 && !blocks)
        qmp_die (qmp, BAK_ERROR_CONNECTION, _("connection lost: %s"), error->message);
    else if (n == 0)
        qmp_die (qmp, BAK_ERROR_CONNECTION,
                 qmp->state == STATE_GREETING ? _("closed the connection without a greeting")
                                              : _("QEMU closed the connection"));
}

static gboolean qmp_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
    Qmp *qmp = qmp_ref (((QmpSource *) source)->qmp);
    g_source_set_ready_time (source, -1);
    g_atomic_int_inc (&qmp->at_work);
    qmp_read (qmp);
    qmp_process (qmp);
    g_atomic_int_set (&qmp->half, qmp->message->len > 0);
    g_atomic_int_add (&qmp->at_work, -1);
    qmp_expire (qmp);
    if (qmp->state == STATE_DEAD)
        qmp_fail_all (qmp);
    if (!qmp->closed) {
        qmp_flush (qmp);
        qmp_arm (qmp);
    }
    qmp_unref (qmp);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { .dispatch = qmp_dispatch };

/* ---- waiting ---- */

static gboolean wait_over (gpointer data)
{
    *(gboolean *) data = TRUE;
    return G_SOURCE_REMOVE;
}

/* Iterates until done or the deadline; FALSE: the deadline passed or qmp died. Ends at once when
 * qmp is dead. */
static gboolean qmp_iterate (Qmp *qmp, gboolean (*done) (gpointer data), gpointer data,
                             gint64 deadline)
{
    gboolean over = FALSE;
    GSource *timer = g_timeout_source_new (0);
    g_source_set_ready_time (timer, deadline);
    g_source_set_callback (timer, wait_over, &over, NULL);
    g_source_attach (timer, qmp->context);
    qmp_ref (qmp);
    gboolean ok;
    while (!(ok = done (data)) && !over && !qmp->closed && qmp->state != STATE_DEAD)
        g_main_context_iteration (qmp->context, TRUE);
    qmp_unref (qmp);
    g_source_destroy (timer);
    g_source_unref (timer);
    return ok;
}

gboolean qmp_wait (Qmp *qmp, gboolean (*done) (gpointer data), gpointer data, gint64 deadline,
                   const char *what, GError **error)
{
    g_return_val_if_fail (qmp && done && what, FALSE);
    qmp_ref (qmp);
    gboolean ok = qmp_iterate (qmp, done, data, deadline);
    if (!ok && qmp->why)
        g_propagate_error (error, g_error_copy (qmp->why));
    else if (!ok)
        error_set (error, BAK_ERROR_TIMEOUT, _("monitor '%s': timed out waiting for %s"),
                   qmp->label, what);
    qmp_unref (qmp);
    return ok;
}

/* ---- sending ---- */

static void qmp_submit (Qmp *qmp, const char *name, JsonObject *args, gboolean oob,
                        guint timeout_ms, QmpReplyFunc func, gpointer user_data)
{
    Command *command = command_new (qmp, name, args, oob, timeout_ms);
    command->func = func;
    command->user_data = user_data;
    gint64 now = g_get_monotonic_time ();
    if (qmp->queue.length == 0)
        qmp->progress = now;
    if (oob && qmp->state != STATE_DEAD)
        qmp_launch (qmp, command, now);
    else
        g_queue_push_tail (&qmp->queue, command);
    qmp_flush (qmp);
    qmp_arm (qmp);
}

void qmp_send (Qmp *qmp, const char *command, JsonObject *args, guint timeout_ms, QmpReplyFunc func,
               gpointer user_data)
{
    g_return_if_fail (qmp && command && !qmp->closed);
    qmp_submit (qmp, command, args, FALSE, timeout_ms, func, user_data);
}

void qmp_send_oob (Qmp *qmp, const char *command, JsonObject *args, guint timeout_ms,
                   QmpReplyFunc func, gpointer user_data)
{
    g_return_if_fail (qmp && command && !qmp->closed && qmp->oob);
    qmp_submit (qmp, command, args, TRUE, timeout_ms, func, user_data);
}

typedef struct {
    gboolean done;
    JsonNode *result;
    GError *error;
} Reply;

static void take_reply (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    Reply *reply = user_data;
    reply->done = TRUE;
    reply->result = result ? json_node_copy (result) : NULL;
    reply->error = error ? g_error_copy (error) : NULL;
}

JsonNode *qmp_call (Qmp *qmp, const char *command, JsonObject *args, gboolean oob, guint timeout_ms,
                    GError **error)
{
    Reply reply = { 0 };
    g_return_val_if_fail (qmp && command && !qmp->closed, NULL);
    if (oob && !qmp->oob) {
        g_clear_pointer (&args, json_object_unref);
        error_set (error, BAK_ERROR_NOT_SUPPORTED,
                   _("monitor '%s': this QEMU takes no commands out of band (QEMU 2.12 does)"),
                   qmp->label);
        return NULL;
    }
    qmp_ref (qmp);
    qmp_submit (qmp, command, args, oob, timeout_ms, take_reply, &reply);
    while (!reply.done) /* ends: the command has a deadline, and closing answers it */
        g_main_context_iteration (qmp->context, TRUE);
    qmp_unref (qmp);
    if (reply.error)
        g_propagate_error (error, reply.error);
    return reply.result;
}

const char *qmp_error_class (const GError *error)
{
    static const char *const classes[] = { "GenericError",   "CommandNotFound", "DeviceNotActive",
                                           "DeviceNotFound", "DeviceEncrypted", "KVMMissingCap" };
    if (!error || !g_error_matches (error, BAK_ERROR, BAK_ERROR_MONITOR))
        return NULL;
    const char *found = NULL, *where = NULL;
    for (guint i = 0; i < G_N_ELEMENTS (classes); i++) {
        g_autofree char *token = g_strconcat (classes[i], ": ", NULL);
        const char *at = strstr (error->message, token);
        if (at && (at == error->message || at[-1] == ' ') && (!where || at < where)) {
            where = at;
            found = classes[i];
        }
    }
    return found;
}

/* ---- connecting ---- */

static gboolean has_greeted (gpointer data)
{
    return ((Qmp *) data)->state != STATE_GREETING;
}

static void read_peer_pid (Qmp *qmp)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (g_socket_get_family (qmp->socket) == G_SOCKET_FAMILY_UNIX
        && getsockopt (g_socket_get_fd (qmp->socket), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        qmp->peer_pid = peer.pid;
    else
        qmp->peer_pid = qemu_process_of_tcp (qmp->socket);
}

static guint remaining_ms (gint64 deadline)
{
    gint64 left = (deadline - g_get_monotonic_time () + 999) / 1000;
    return CLAMP (left, 1, G_MAXINT);
}

static gboolean qmp_negotiate (Qmp *qmp, gint64 deadline, GError **error)
{
    JsonObject *args = NULL;
    if (qmp->offers_oob) {
        args = json_object_new ();
        JsonArray *enable = json_array_new ();
        json_array_add_string_element (enable, "oob");
        json_object_set_array_member (args, "enable", enable);
    }
    if (!qmp_run (qmp, "qmp_capabilities", args, remaining_ms (deadline), error))
        return error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_MONITOR)
                   ? error_note (error, _("monitor '%s'"), qmp->label)
                   : FALSE;
    if (qmp->state == STATE_DEAD) { /* what came behind the answer ended it */
        g_propagate_error (error, g_error_copy (qmp->why));
        return FALSE;
    }
    qmp->oob = qmp->offers_oob;
    qmp->state = STATE_READY;
    return TRUE;
}

static void set_held (GError **error, const char *label, guint timeout_ms)
{
    error_set (
        error, BAK_ERROR_MONITOR_HELD,
        _("monitor '%s': another client holds it, or QEMU hangs (no greeting within %.3g s); "
           "give libbackup a monitor of its own"),
        label, timeout_ms / 1000.0);
}

/* Takes socket. *ret_again: it failed in a way that a QEMU that just starts has. */
static Qmp *qmp_start (GSocket *socket, const char *label, GMainContext *context, gint64 deadline,
                       guint timeout_ms, gboolean *ret_again, GError **error)
{
    g_autoptr (Qmp) qmp = g_new0 (Qmp, 1);
    qmp->refs = 1;
    qmp->default_timeout_ms = QMP_DEFAULT_TIMEOUT_MS;
    qmp->max_timeout_ms = CLAMP (config_get_int ("monitor_timeout", 0), 0, 3600) * 1000;
    qmp->label = text_sanitize (label, 0);
    qmp->context = context ? g_main_context_ref (context) : g_main_context_new ();
    qmp->socket = socket;
    qmp->fd = g_socket_get_fd (socket);
    qmp->message = g_byte_array_new ();
    g_queue_init (&qmp->queue);
    g_queue_init (&qmp->flying);
    g_queue_init (&qmp->writing);
    g_socket_set_blocking (socket, FALSE);
    qmp->source = g_source_new (&source_funcs, sizeof (QmpSource));
    ((QmpSource *) qmp->source)->qmp = qmp;
    g_source_set_can_recurse (qmp->source, TRUE);
    g_source_set_name (qmp->source, "qmp");
    qmp->tag = g_source_add_unix_fd (qmp->source, g_socket_get_fd (socket), G_IO_IN);
    g_source_attach (qmp->source, qmp->context);

    if (!qmp_iterate (qmp, has_greeted, qmp, deadline)) {
        set_held (error, qmp->label, timeout_ms);
        return NULL;
    }
    if (qmp->why) {
        *ret_again = qmp->startled;
        g_propagate_error (error, g_error_copy (qmp->why));
        return NULL;
    }
    read_peer_pid (qmp); /* which has accepted us by now */
    gboolean ok = qmp_negotiate (qmp, deadline, error);
    *ret_again = qmp->startled;
    return ok ? g_steal_pointer (&qmp) : NULL;
}

static Qmp *qmp_connect_once (const char *address, GMainContext *context, gint64 deadline,
                              guint timeout_ms, gboolean *ret_again, GError **error)
{
    g_autoptr (GError) failure = NULL;
    GSocket *socket = dial (_("monitor"), address, deadline, &failure);
    if (socket)
        return qmp_start (socket, address, context, deadline, timeout_ms, ret_again, error);
    if (g_error_matches (failure, BAK_ERROR, BAK_ERROR_BUSY))
        set_held (error, address, timeout_ms);
    else
        g_propagate_error (error, g_steal_pointer (&failure));
    return NULL;
}

/* Two threads of a QEMU that just starts may both see its first client: it is greeted twice, the
 * negotiation may begin anew behind the first answer, or the client is let go without a word.
 * Nothing has been asked yet, so a new connection is all that it takes. One that has ended refuses
 * that, and says so. */
Qmp *qmp_connect (const char *address, GMainContext *context, guint timeout_ms, GError **error)
{
    g_return_val_if_fail (address, NULL);
    if (timeout_ms == 0)
        timeout_ms = QMP_CONNECT_TIMEOUT_MS;
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    for (guint tries = CONNECT_TRIES;; tries--) {
        g_autoptr (GError) failure = NULL;
        gboolean again = FALSE;
        Qmp *qmp = qmp_connect_once (address, context, deadline, timeout_ms, &again, &failure);
        if (qmp)
            return qmp;
        if (!again || tries <= 1) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return NULL;
        }
    }
}

Qmp *qmp_connect_fd (int fd, const char *label, GMainContext *context, guint timeout_ms,
                     GError **error)
{
    if (timeout_ms == 0)
        timeout_ms = QMP_CONNECT_TIMEOUT_MS;
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    g_autoptr (GError) failure = NULL;
    fcntl (fd, F_SETFD, FD_CLOEXEC);
    GSocket *socket = g_socket_new_from_fd (fd, &failure);
    gboolean again = FALSE;
    if (socket)
        return qmp_start (socket, label, context, deadline, timeout_ms, &again, error);
    close (fd);
    error_set (error, BAK_ERROR_CONNECTION, _("monitor '%s': %s"), label, failure->message);
    return NULL;
}

void qmp_close (Qmp *qmp)
{
    if (!qmp || qmp->closed)
        return;
    qmp_die (qmp, BAK_ERROR_CONNECTION, _("closed"));
    qmp->closed = TRUE;
    qmp_ref (qmp);
    qmp_fail_all (qmp);
    g_source_destroy (qmp->source);
    qmp_unref (qmp);
    qmp_unref (qmp);
}

/* ---- questions ---- */

void qmp_set_event_func (Qmp *qmp, QmpEventFunc func, gpointer user_data)
{
    qmp->event_func = func;
    qmp->event_data = user_data;
}

GMainContext *qmp_get_context (Qmp *qmp)
{
    return qmp->context;
}

const char *qmp_get_address (Qmp *qmp)
{
    return qmp->label;
}

gboolean qmp_is_alive (Qmp *qmp, const char **ret_why)
{
    if (ret_why)
        *ret_why = qmp->why ? qmp->why->message : NULL;
    return qmp->state != STATE_DEAD;
}

/* In this order: what is read after the look came after it. */
gboolean qmp_is_quiet (Qmp *qmp)
{
    struct pollfd look = { .fd = qmp->fd, .events = POLLIN };
    return poll (&look, 1, 0) == 0 && g_atomic_int_get (&qmp->at_work) == 0
           && !g_atomic_int_get (&qmp->half);
}

int qmp_get_peer_pid (Qmp *qmp)
{
    return qmp->peer_pid;
}

gboolean qmp_has_sent (const Qmp *qmp)
{
    return qmp->writing.length == 0;
}

int qmp_get_fd (const Qmp *qmp)
{
    return qmp->fd;
}

guint qmp_get_version (Qmp *qmp, const char **ret_text)
{
    if (ret_text)
        *ret_text = qmp->version_text;
    return qmp->version;
}

gboolean qmp_has_oob (Qmp *qmp)
{
    return qmp->oob;
}

void qmp_set_default_timeout (Qmp *qmp, guint timeout_ms)
{
    qmp->default_timeout_ms = timeout_ms;
}
