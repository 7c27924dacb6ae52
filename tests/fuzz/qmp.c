/* What a monitor says, to a client that connects, looks at the graph and leaves. The first line is
 * the greeting ("1": a good one); every command is answered with the next line, in which '@' stands
 * for the command's id. After the last line the monitor closes. Every command is answered once, and
 * the end of the input ends everything. */
#include <sys/socket.h>
#include <unistd.h>
#include <glib-unix.h>
#include "driver/qemu/graph.h"
#include "driver/qemu/qmp.h"
#include "fuzz.h"

static const char greeting[] = "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":22,\"minor\":2,"
                               "\"major\":7},\"package\":\"\"},\"capabilities\":[\"oob\"]}}";
static const char commands[] = "[{\"name\":\"query-named-block-nodes\"},{\"name\":\"query-block\"},"
                               "{\"name\":\"query-jobs\"},{\"name\":\"query-status\"},"
                               "{\"name\":\"query-iothreads\"},{\"name\":\"qom-get\"},{\"name\":"
                               "\"x-debug-query-block-graph\"},{\"name\":\"query-block-exports\"}]";

typedef struct {
    int fd;
    const char *at, *end; /* what is left of the input */
    GString *heard;
} Peer;

static void say (Peer *peer, const char *text, gsize length)
{
    if (length > 0 && send (peer->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL) < (gssize) length)
        shutdown (peer->fd, SHUT_WR); /* more than the socket holds: cut off */
}

/* The next line of the input; closes after the last one. */
static void say_next (Peer *peer, const char *id)
{
    const char *stop = memchr (peer->at, '\n', peer->end - peer->at);
    stop = stop ? stop : peer->end;
    g_autoptr (GString) line = g_string_new_len (peer->at, stop - peer->at);
    for (gsize i = 0; id && i < line->len; i++)
        if (line->str[i] == '@')
            g_string_erase (g_string_insert (line, i + 1, id), i, 1);
    say (peer, line->str, line->len);
    peer->at = stop < peer->end ? stop + 1 : stop;
    if (peer->at == peer->end)
        shutdown (peer->fd, SHUT_WR);
}

static gboolean answer (int fd, GIOCondition condition, gpointer data)
{
    Peer *peer = data;
    char buffer[4096];
    gssize n = read (fd, buffer, sizeof buffer);
    if (n <= 0)
        return G_SOURCE_REMOVE;
    g_string_append_len (peer->heard, buffer, n);
    for (char *stop; (stop = strchr (peer->heard->str, '\n'));) {
        const char *id = g_strrstr_len (peer->heard->str, stop - peer->heard->str, "\"bak-");
        g_autofree char *text = id ? g_strndup (id, strcspn (id, "}\n")) : NULL;
        say_next (peer, text);
        g_string_erase (peer->heard, 0, stop - peer->heard->str + 1);
    }
    return G_SOURCE_CONTINUE;
}

static void note_reply (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    MUST ((result == NULL) == (error != NULL));
    ++*(guint *) user_data;
}

static void note_event (Qmp *qmp, const char *name, JsonObject *data, gpointer user_data)
{
    MUST (name && *name && data);
}

static gboolean never (gpointer data)
{
    return FALSE;
}

static void use (Qmp *qmp, Peer *peer)
{
    enum { SENT = 3 };
    guint answered = 0;
    g_autoptr (GError) why = NULL, end = NULL;
    g_autoptr (JsonNode) list = json_from_string (commands, NULL);
    g_autoptr (Caps) caps = caps_from_answers (NULL, list, 7002022, "", NULL);

    qmp_set_event_func (qmp, note_event, NULL);
    for (guint i = 0; i < SENT; i++)
        qmp_send (qmp, "query-jobs", NULL, 0, note_reply, &answered);
    g_autoptr (Graph) graph = graph_load (qmp, caps, GRAPH_ALL, NULL, &why);
    fuzz_error_check (graph != NULL, why);
    shutdown (peer->fd, SHUT_WR);
    MUST (!qmp_wait (qmp, never, NULL, g_get_monotonic_time () + 10 * G_USEC_PER_SEC, "the end",
                     &end));
    MUST (end->code == BAK_ERROR_CONNECTION);
    qmp_close (qmp);
    MUST (answered == SENT);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    int ends[2];
    g_autoptr (GError) error = NULL;
    g_autoptr (GMainContext) context = g_main_context_new ();

    if (length == 0 || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return;
    Peer peer = { .fd = ends[1],
                  .at = (const char *) bytes,
                  .end = (const char *) bytes + length,
                  .heard = g_string_new (NULL) };
    g_autoptr (GSource) source = g_unix_fd_source_new (ends[1], G_IO_IN | G_IO_HUP);
    g_source_set_callback (source, G_SOURCE_FUNC (answer), &peer, NULL);
    g_source_attach (source, context);
    if (length > 2 && bytes[0] == '1' && bytes[1] == '\n') {
        say (&peer, greeting, strlen (greeting));
        peer.at += 2;
    } else
        say_next (&peer, NULL);
    Qmp *qmp = qmp_connect_fd (ends[0], "fuzz", context, 10, &error);
    fuzz_error_check (qmp != NULL, error);
    if (qmp) {
        qmp_set_default_timeout (qmp, 10);
        use (qmp, &peer);
    }
    g_source_destroy (source);
    g_string_free (peer.heard, TRUE);
    close (ends[1]);
}
