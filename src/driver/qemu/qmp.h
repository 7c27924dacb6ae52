/* A QMP client. Asynchronous: every call has a callback; the blocking form is that plus a wait on
 * the same GMainContext.
 *
 * One Qmp belongs to one thread at a time: the one that iterates its context. Everything that QEMU
 * says is untrusted: replies have a size and depth limit, ids are matched, garbage breaks the
 * connection with an error and nothing else. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

typedef struct _Qmp Qmp;

enum { QMP_MAX_IN_FLIGHT = 7, QMP_MAX_DEPTH = 64 };
enum { QMP_DEFAULT_TIMEOUT_MS = 30000, QMP_CONNECT_TIMEOUT_MS = 4000 };

/* event: the whole object {"event":..., "data":{...}, "timestamp":{...}}, borrowed. Runs while the
 * context is iterated, also in the middle of a blocking call: only take note in it, never call QMP
 * from it. */
typedef void (*QmpEventFunc) (Qmp *qmp, const char *name, JsonObject *data, gpointer user_data);
/* result: the value of "return" (borrowed) or NULL with error (borrowed). */
typedef void (*QmpReplyFunc) (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data);

/* address: absolute path of a unix socket, or HOST:PORT. Connects, waits for the greeting, enables
 * oob, all within timeout_ms (0: default). No greeting: BAK_ERROR_MONITOR_HELD ("monitor PATH:
 * another client holds it, ..."); refused or absent: BAK_ERROR_CONNECTION; not QMP:
 * BAK_ERROR_CONNECTION ("does not speak QMP"). context NULL: a private one. */
Qmp *qmp_connect (const char *address, GMainContext *context, guint timeout_ms, GError **error);
/* The same on a connected socket (takes fd). */
Qmp *qmp_connect_fd (int fd, const char *label, GMainContext *context, guint timeout_ms,
                     GError **error);
/* Answers that are outstanding end with BAK_ERROR_CONNECTION. */
void qmp_close (Qmp *qmp);
void qmp_set_event_func (Qmp *qmp, QmpEventFunc func, gpointer user_data);
GMainContext *qmp_get_context (Qmp *qmp);
const char *qmp_get_address (Qmp *qmp);
/* FALSE after EOF, ECONNRESET, garbage or close; *ret_why (may be NULL) is the reason, borrowed. */
gboolean qmp_is_alive (Qmp *qmp, const char **ret_why);
/* From any thread, while somebody sees to it that qmp is not closed: all that QEMU has said up to
 * now was handed to the event function, which has returned. */
gboolean qmp_is_quiet (Qmp *qmp);
/* The peer's pid by SO_PEERCRED on a unix socket, else 0. */
int qmp_get_peer_pid (Qmp *qmp);
/* The socket, still the connection's: for a process that goes on when this one dies. */
int qmp_get_fd (const Qmp *qmp);
/* All that was to be said has left. */
gboolean qmp_has_sent (const Qmp *qmp);
/* QEMU's version from the greeting, 7*1000000+2*1000+22; text as "7.2.22 (Debian ...)" sanitized.
 */
guint qmp_get_version (Qmp *qmp, const char **ret_text);
gboolean qmp_has_oob (Qmp *qmp);
/* What a timeout_ms of 0 means from now on (at first QMP_DEFAULT_TIMEOUT_MS). */
void qmp_set_default_timeout (Qmp *qmp, guint timeout_ms);

/* args: consumed when not NULL. At most QMP_MAX_IN_FLIGHT are on the wire, the rest queue. Deadline
 * timeout_ms (0: default) counts from the moment of sending. A timed-out command's late reply is
 * recognised by id and dropped. */
void qmp_send (Qmp *qmp, const char *command, JsonObject *args, guint timeout_ms, QmpReplyFunc func,
               gpointer user_data);
/* exec-oob; overtakes the queue. Needs qmp_has_oob(). */
void qmp_send_oob (Qmp *qmp, const char *command, JsonObject *args, guint timeout_ms,
                   QmpReplyFunc func, gpointer user_data);

/* Blocking forms; oob: as qmp_send_oob(). Return the value of "return", owned by the caller, or
 * NULL. BAK_ERROR_MONITOR carries class and text verbatim (sanitized): "CLASS: desc".
 * BAK_ERROR_TIMEOUT: outcome unknown. BAK_ERROR_CONNECTION: outcome unknown. */
JsonNode *qmp_call (Qmp *qmp, const char *command, JsonObject *args, gboolean oob, guint timeout_ms,
                    GError **error);
static inline JsonNode *qmp_execute (Qmp *qmp, const char *command, JsonObject *args,
                                     guint timeout_ms, GError **error)
{
    return qmp_call (qmp, command, args, FALSE, timeout_ms, error);
}
/* When only success matters. */
static inline gboolean qmp_run (Qmp *qmp, const char *command, JsonObject *args, guint timeout_ms,
                                GError **error)
{
    g_autoptr (JsonNode) result = qmp_call (qmp, command, args, FALSE, timeout_ms, error);
    return result != NULL;
}
/* The "class" of the QMP error that *error was made from ("DeviceNotFound" ...), or NULL. */
const char *qmp_error_class (const GError *error);

/* Iterates the context until done(data) is TRUE. FALSE with TIMEOUT (what is put into the message:
 * "timed out waiting for WHAT") or CONNECTION when the monitor died. deadline:
 * g_get_monotonic_time() based. */
gboolean qmp_wait (Qmp *qmp, gboolean (*done) (gpointer data), gpointer data, gint64 deadline,
                   const char *what, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Qmp, qmp_close)
