/* The guest agent. What it says comes from inside the guest: replies are small or refused, and
 * every exchange begins with a delimited sync, so that a late reply to an earlier command cannot be
 * taken for this one's. */
#include <string.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/agent.h"
#include "driver/qemu/dial.h"
#include "driver/qemu/qmp_split.h"
#include "util/json.h"

#define MAY_BE_FROZEN _("the guest's file systems may still be frozen")
enum {
    SYNC_TIMEOUT_MS = 5000,
    COMMAND_TIMEOUT_MS = 10000,
    FREEZE_TIMEOUT_MS = 60000,
    MAX_THAWS = 16,
    MAX_REPLY = 256 * 1024,
    DELIMITER = 0xff
};

struct _Agent {
    char *address, *label;
    GSocket *socket; /* NULL: lost */
    guint8 in[4096];
    gsize in_pos, in_length;
    QmpSplit split;
    GByteArray *message;
};

static gint64 deadline_in (guint timeout_ms, guint fallback_ms)
{
    return g_get_monotonic_time () + (gint64) (timeout_ms ? timeout_ms : fallback_ms) * 1000;
}

/* ---- bytes ---- */

static gboolean lost (Agent *agent, GError **error, const char *why)
{
    g_clear_object (&agent->socket);
    return error_set (error, BAK_ERROR_CONNECTION, _("guest agent '%s': %s"), agent->label, why);
}

static gboolean wait_for (Agent *agent, GIOCondition condition, gint64 deadline, GError **error)
{
    gint64 left = deadline - g_get_monotonic_time ();
    g_autoptr (GError) failure = NULL;
    if (left > 0 && g_socket_condition_timed_wait (agent->socket, condition, left, NULL, &failure))
        return TRUE;
    if (left > 0 && !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        return lost (agent, error, failure->message);
    return error_set (error, BAK_ERROR_TIMEOUT, _("guest agent '%s': does not answer in time"),
                      agent->label);
}

static gboolean send_all (Agent *agent, const char *text, gint64 deadline, GError **error)
{
    for (gsize done = 0, length = strlen (text); done < length;) {
        g_autoptr (GError) failure = NULL;
        gssize n = g_socket_send (agent->socket, text + done, length - done, NULL, &failure);
        if (n > 0)
            done += n;
        else if (!g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            return lost (agent, error, failure ? failure->message : _("connection closed"));
        else if (!wait_for (agent, G_IO_OUT, deadline, error))
            return FALSE;
    }
    return TRUE;
}

/* Makes agent->in hold something. */
static gboolean fill (Agent *agent, gint64 deadline, GError **error)
{
    while (agent->in_pos == agent->in_length) {
        g_autoptr (GError) failure = NULL;
        gssize n =
            g_socket_receive (agent->socket, (char *) agent->in, sizeof agent->in, NULL, &failure);
        agent->in_pos = 0;
        agent->in_length = MAX (n, 0);
        if (n == 0 || (n < 0 && !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)))
            return lost (agent, error, n == 0 ? _("connection closed") : failure->message);
        if (n < 0 && !wait_for (agent, G_IO_IN, deadline, error))
            return FALSE;
        /* one that talks without end does not answer either */
        if (g_get_monotonic_time () > deadline)
            return error_set (error, BAK_ERROR_TIMEOUT,
                              _("guest agent '%s': does not answer in time"), agent->label);
    }
    return TRUE;
}

static void start_object (Agent *agent)
{
    agent->split = (QmpSplit){ 0 };
    g_byte_array_set_size (agent->message, 0);
}

/* The next object; NULL with *error, or without one when what came is none. */
static JsonNode *read_object (Agent *agent, gint64 deadline, GError **error)
{
    start_object (agent);
    for (;;) {
        if (!fill (agent, deadline, error))
            return NULL;
        gsize start = 0, end = 0;
        QmpSplitResult result = qmp_split_feed (&agent->split, agent->in + agent->in_pos,
                                                agent->in_length - agent->in_pos, &start, &end);
        g_byte_array_append (agent->message, agent->in + agent->in_pos + start, end - start);
        agent->in_pos += end;
        if (result == QMP_SPLIT_MORE && agent->message->len <= MAX_REPLY)
            continue;
        if (result == QMP_SPLIT_OBJECT)
            return json_read ((const char *) agent->message->data, agent->message->len, NULL);
        return NULL;
    }
}

/* ---- the protocol ---- */

static char *command_text (const char *name, JsonObject *args)
{
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "execute", name);
    if (args)
        json_object_set_object_member (object, "arguments", args);
    g_autoptr (JsonNode) root = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_to_string (root, FALSE);
    return g_strconcat (text, "\n", NULL);
}

static gboolean skip_to_delimiter (Agent *agent, gint64 deadline, GError **error)
{
    for (;;) {
        if (!fill (agent, deadline, error))
            return FALSE;
        const guint8 *from = agent->in + agent->in_pos;
        const guint8 *found = memchr (from, DELIMITER, agent->in_length - agent->in_pos);
        agent->in_pos = found ? (gsize) (found - agent->in) + 1 : agent->in_length;
        if (found)
            return TRUE;
    }
}

/* Throws away whatever an earlier client or command left, up to the echo of a number nobody else
 * can have sent. */
static gboolean sync_agent (Agent *agent, gint64 deadline, GError **error)
{
    gint64 id = (gint64) g_random_int () << 31 | (g_random_int () >> 1);
    JsonObject *args = json_object_new ();
    json_object_set_int_member (args, "id", id);
    g_autofree char *command = command_text ("guest-sync-delimited", args);
    g_autofree char *text = g_strdup_printf ("%c%s", DELIMITER, command);
    if (!send_all (agent, text, deadline, error))
        return FALSE;
    for (;;) {
        if (!skip_to_delimiter (agent, deadline, error))
            return FALSE;
        g_autoptr (GError) failure = NULL;
        g_autoptr (JsonNode) root = read_object (agent, deadline, &failure);
        if (failure) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
        if (root && JSON_NODE_HOLDS_OBJECT (root)
            && json_get_int (json_node_get_object (root), "return", -1) == id)
            return TRUE;
    }
}

/* The agent does nothing while it is absent, without any error: that is what no echo means. */
static gboolean sync_or_explain (Agent *agent, gint64 deadline, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (!agent->socket)
        return lost (agent, error, _("connection closed"));
    deadline = MIN (deadline, deadline_in (SYNC_TIMEOUT_MS, 0));
    if (sync_agent (agent, deadline, &failure))
        return TRUE;
    if (!g_error_matches (failure, BAK_ERROR, BAK_ERROR_TIMEOUT)) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    return error_set (error, BAK_ERROR_CONNECTION,
                      _("guest agent '%s': does not answer: it is not running in the guest, "
                         "hangs, or another client holds its socket"),
                      agent->label);
}

static gboolean agent_refused (Agent *agent, JsonObject *object, const char *name, GError **error)
{
    JsonObject *details = json_get_object (object, "error");
    g_autofree char *class = text_sanitize (json_get_string (details, "class"), 64);
    g_autofree char *desc = text_sanitize (json_get_string (details, "desc"), 1024);
    return error_set (error, BAK_ERROR_AGENT, _("guest agent '%s': %s: %s: %s"), agent->label,
                      name, class, desc);
}

/* One synced exchange; the whole reply. args are consumed. */
static JsonNode *exchange (Agent *agent, const char *name, JsonObject *args, gint64 deadline,
                           GError **error)
{
    g_autofree char *text = command_text (name, args);
    g_autoptr (GError) failure = NULL;
    if (!sync_or_explain (agent, deadline, error) || !send_all (agent, text, deadline, error))
        return NULL;
    g_autoptr (JsonNode) root = read_object (agent, deadline, &failure);
    if (failure) {
        g_propagate_error (error, g_steal_pointer (&failure));
        error_note (error, "%s", name);
        return NULL;
    }
    JsonObject *object = root && JSON_NODE_HOLDS_OBJECT (root) ? json_node_get_object (root) : NULL;
    if (object && json_object_has_member (object, "return"))
        return g_steal_pointer (&root);
    if (object && json_object_has_member (object, "error"))
        agent_refused (agent, object, name, error);
    else
        error_set (error, BAK_ERROR_AGENT, _("guest agent '%s': %s: its reply is none"),
                   agent->label, name);
    return NULL;
}

static gboolean exchange_count (Agent *agent, const char *name, JsonObject *args, gint64 deadline,
                                int *ret_count, GError **error)
{
    g_autoptr (JsonNode) root = exchange (agent, name, args, deadline, error);
    if (!root)
        return FALSE;
    gint64 count = json_get_int (json_node_get_object (root), "return", -1);
    if (count < 0 || count > G_MAXINT)
        return error_set (error, BAK_ERROR_AGENT,
                          _("guest agent '%s': %s: its reply is not a number"), agent->label,
                          name);
    *ret_count = count;
    return TRUE;
}

static gboolean exchange_status (Agent *agent, gint64 deadline, gboolean *ret_frozen,
                                 GError **error)
{
    const char *name = "guest-fsfreeze-status";
    g_autoptr (JsonNode) root = exchange (agent, name, NULL, deadline, error);
    const char *status = root ? json_get_string (json_node_get_object (root), "return") : NULL;
    if (!root)
        return FALSE;
    if (g_strcmp0 (status, "frozen") != 0 && g_strcmp0 (status, "thawed") != 0)
        return error_set (error, BAK_ERROR_AGENT,
                          _("guest agent '%s': %s: its reply is neither frozen nor thawed"),
                          agent->label, name);
    *ret_frozen = *status == 'f';
    return TRUE;
}

/* ---- connecting ---- */

static gboolean reach (Agent *agent, gint64 deadline, GError **error)
{
    agent->in_pos = agent->in_length = 0;
    g_autoptr (GError) failure = NULL;
    agent->socket = dial (_("guest agent"), agent->address, deadline, &failure);
    if (agent->socket)
        return TRUE;
    if (g_error_matches (failure, BAK_ERROR, BAK_ERROR_BUSY))
        failure->code = BAK_ERROR_CONNECTION;
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

Agent *agent_connect (const char *address, guint timeout_ms, GError **error)
{
    g_autoptr (Agent) agent = g_new0 (Agent, 1);
    gint64 deadline = deadline_in (timeout_ms, SYNC_TIMEOUT_MS);
    agent->address = g_strdup (address);
    agent->label = text_sanitize (address, 0);
    agent->message = g_byte_array_new ();
    return reach (agent, deadline, error) && sync_or_explain (agent, deadline, error)
               ? g_steal_pointer (&agent)
               : NULL;
}

void agent_close (Agent *agent)
{
    if (!agent)
        return;
    g_clear_object (&agent->socket);
    g_byte_array_unref (agent->message);
    g_free (agent->address);
    g_free (agent->label);
    g_free (agent);
}

/* ---- freezing and thawing ---- */

/* An agent that refuses because nothing is frozen has done what was wanted. */
static gboolean thaw_once (Agent *agent, gint64 deadline, int *ret_count, GError **error)
{
    gboolean frozen = TRUE;
    g_autoptr (GError) failure = NULL;
    if (exchange_count (agent, "guest-fsfreeze-thaw", NULL, deadline, ret_count, &failure))
        return TRUE;
    if (g_error_matches (failure, BAK_ERROR, BAK_ERROR_AGENT)
        && exchange_status (agent, deadline, &frozen, NULL) && !frozen)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* Until the guest is known to be thawed or the deadline passes. A thaw whose reply got lost is
 * repeated, and then counts 0 file systems: callers who compare the counts see that consistency is
 * not proved. */
gboolean agent_thaw (Agent *agent, guint timeout_ms, int *ret_count, GError **error)
{
    gint64 deadline = deadline_in (timeout_ms, COMMAND_TIMEOUT_MS);
    g_autoptr (GError) first = NULL;
    gboolean refused = FALSE;
    for (guint i = 0; i < MAX_THAWS && !refused && (i == 0 || g_get_monotonic_time () < deadline);
         i++) {
        g_autoptr (GError) failure = NULL;
        /* leaves time to ask again */
        gint64 now = g_get_monotonic_time (), attempt = now + (deadline - now) * 2 / 3;
        int count = 0;
        if (!agent->socket && !reach (agent, deadline, &failure)) {
            g_propagate_error (first ? NULL : &first, g_steal_pointer (&failure));
            break;
        }
        if (thaw_once (agent, attempt, &count, &failure)) {
            if (ret_count)
                *ret_count = count;
            return TRUE;
        }
        /* asking again would not change its mind */
        refused = g_error_matches (failure, BAK_ERROR, BAK_ERROR_AGENT);
        g_propagate_error (first ? NULL : &first, g_steal_pointer (&failure));
    }
    g_propagate_error (error, g_steal_pointer (&first));
    return error_note (error, MAY_BE_FROZEN);
}

/* A freeze that failed may have left some frozen; one that hangs may still freeze them. The agent
 * reads its commands one after another, so a thaw that is on its way when the freeze ends is the
 * next thing it does, even if we are gone by then. */
static gboolean undo_freeze (Agent *agent)
{
    int count;
    g_autoptr (GError) error = NULL;
    if (agent_thaw (agent, COMMAND_TIMEOUT_MS, &count, &error))
        return TRUE;
    if (!agent->socket)
        return FALSE;
    g_autofree char *command = command_text ("guest-fsfreeze-thaw", NULL);
    g_autofree char *text = g_strdup_printf ("%c%s", DELIMITER, command);
    send_all (agent, text, deadline_in (1000, 0), NULL);
    return FALSE;
}

gboolean agent_freeze (Agent *agent, const char *const *mountpoints, guint timeout_ms,
                       int *ret_count, GError **error)
{
    JsonObject *args = NULL;
    if (mountpoints) {
        JsonArray *array = json_array_new ();
        for (guint i = 0; mountpoints[i]; i++)
            json_array_add_string_element (array, mountpoints[i]);
        args = json_object_new ();
        json_object_set_array_member (args, "mountpoints", array);
    }
    g_autoptr (GError) failure = NULL;
    gint64 deadline = deadline_in (timeout_ms, FREEZE_TIMEOUT_MS);
    /* Whether it answers at all is found out first: then nothing is frozen that would have to be
     * thawed. */
    if (!sync_or_explain (agent, deadline, error)) {
        g_clear_pointer (&args, json_object_unref);
        return FALSE;
    }
    int count = 0;
    if (exchange_count (agent, mountpoints ? "guest-fsfreeze-freeze-list" : "guest-fsfreeze-freeze",
                        args, deadline, &count, &failure)) {
        *ret_count = count;
        return TRUE;
    }
    gboolean thawed = undo_freeze (agent);
    g_propagate_error (error, g_steal_pointer (&failure));
    return !thawed && error_note (error, MAY_BE_FROZEN);
}

gboolean agent_status (Agent *agent, guint timeout_ms, gboolean *ret_frozen, GError **error)
{
    return exchange_status (agent, deadline_in (timeout_ms, COMMAND_TIMEOUT_MS), ret_frozen, error);
}
