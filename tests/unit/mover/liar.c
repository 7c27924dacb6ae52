/* The mover against a small NBD server of this test that is mute, dead, or answers nonsense at a
 * place of its choice: each ends with the disk and a reason, within the deadline of one request. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "mover/mover.h"

enum {
    SIZE = 1024 * 1024,
    TIMEOUT_MS = 400,
    OPTION_SET_META = 10,
    OPTION_STRUCTURED = 8,
    OPTION_GO = 7,
    CMD_READ = 0,
    CMD_DISCONNECT = 2,
    CMD_STATUS = 7,
};

typedef enum {
    GOOD,
    PLAIN,           /* no structured replies, no block status */
    MUTE_HANDSHAKE,  /* says nothing at all */
    MUTE_READ,       /* does not answer the third read */
    MUTE_STATUS,     /* */
    CLOSE_READ,      /* hangs up at the third read */
    ERROR_READ,      /* EIO */
    SHORT_READ,      /* half the bytes, and the end */
    FOREIGN_READ,    /* bytes of another place */
    STATUS_EMPTY,    /* no extent */
    STATUS_NOTHING,  /* an extent of no length */
    STATUS_CONTEXT,  /* a context that was never agreed on */
    STATUS_BYTE,     /* speaks of one byte a time: little, but true */
    STATUS_TOO_LONG, /* speaks of more than was asked for */
    WRONG_SIZE,
    GARBAGE,
} Lie;

typedef struct {
    int fd;
    Lie lie;
    guint reads;
} Server;

static guchar content (guint64 at)
{
    return at / LEAF_SIZE % 4 == 3 ? 0 : 1 + at / 4096 % 200;
}

static gboolean get (int fd, void *data, gsize length)
{
    for (gsize done = 0; done < length;) {
        ssize_t n = recv (fd, (char *) data + done, length - done, 0);
        if (n <= 0)
            return FALSE;
        done += n;
    }
    return TRUE;
}

static void put (int fd, const void *data, gsize length)
{
    for (gsize done = 0; done < length;) {
        ssize_t n = send (fd, (const char *) data + done, length - done, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        done += n;
    }
}

static void put_number (int fd, guint64 number, guint bytes)
{
    guint8 all[8];
    for (guint i = 0; i < bytes; i++)
        all[i] = number >> 8 * (bytes - 1 - i);
    put (fd, all, bytes);
}

static guint64 number_in (const guint8 *data, guint bytes)
{
    guint64 number = 0;
    for (guint i = 0; i < bytes; i++)
        number = number << 8 | data[i];
    return number;
}

static void option_reply (int fd, guint32 option, guint32 type, guint32 length)
{
    put_number (fd, G_GUINT64_CONSTANT (0x3e889045565a9), 8);
    put_number (fd, option, 4);
    put_number (fd, type, 4);
    put_number (fd, length, 4);
}

/* FALSE: transmission does not begin. */
static gboolean answer_option (Server *server, guint32 option, gboolean *ret_ready)
{
    static const char name[] = "base:allocation";
    int fd = server->fd;

    if (option == OPTION_STRUCTURED && server->lie != PLAIN) {
        option_reply (fd, option, 1, 0);
    } else if (option == OPTION_SET_META) {
        option_reply (fd, option, 4, 4 + strlen (name));
        put_number (fd, 1, 4);
        put (fd, name, strlen (name));
        option_reply (fd, option, 1, 0);
    } else if (option == OPTION_GO) {
        option_reply (fd, option, 3, 12);
        put_number (fd, 0, 2);
        put_number (fd, server->lie == WRONG_SIZE ? SIZE - 512 : SIZE, 8);
        put_number (fd, 1, 2);
        option_reply (fd, option, 1, 0);
        *ret_ready = TRUE;
    } else {
        option_reply (fd, option, 0x80000001, 0);
    }
    return TRUE;
}

static gboolean handshake (Server *server)
{
    guint8 flags[4], head[16];
    gboolean ready = FALSE;

    put (server->fd, "NBDMAGICIHAVEOPT", 16);
    put_number (server->fd, 3, 2);
    if (!get (server->fd, flags, 4))
        return FALSE;
    while (!ready) {
        if (!get (server->fd, head, 16))
            return FALSE;
        guint32 length = number_in (head + 12, 4);
        g_autofree guint8 *data = g_malloc (length + 1);
        if (!get (server->fd, data, length)
            || !answer_option (server, number_in (head + 8, 4), &ready))
            return FALSE;
    }
    return TRUE;
}

static void chunk_head (Server *server, guint16 flags, guint16 type, const guint8 *handle,
                        guint32 length)
{
    put_number (server->fd, 0x668e33ef, 4);
    put_number (server->fd, flags, 2);
    put_number (server->fd, type, 2);
    put (server->fd, handle, 8);
    put_number (server->fd, length, 4);
}

static gboolean answer_read (Server *server, const guint8 *handle, guint64 offset, guint32 length)
{
    Lie lie = ++server->reads == 3 ? server->lie : GOOD;
    g_autofree guchar *data = g_malloc (length);

    for (guint32 i = 0; i < length; i++)
        data[i] = content (offset + i);
    if (lie == CLOSE_READ)
        return FALSE;
    if (lie == MUTE_READ)
        return TRUE;
    if (lie == GARBAGE) {
        put (server->fd, data, MIN (length, 64));
        return TRUE;
    }
    if (lie == ERROR_READ) {
        chunk_head (server, 1, 0x8001, handle, 6);
        put_number (server->fd, EIO, 4);
        put_number (server->fd, 0, 2);
        return TRUE;
    }
    if (server->lie == PLAIN) {
        put_number (server->fd, 0x67446698, 4);
        put_number (server->fd, 0, 4);
        put (server->fd, handle, 8);
        put (server->fd, data, length);
        return TRUE;
    }
    guint32 sent = lie == SHORT_READ ? length / 2 : length;
    chunk_head (server, 1, 1, handle, 8 + sent);
    put_number (server->fd, lie == FOREIGN_READ ? offset + SIZE : offset, 8);
    put (server->fd, data, sent);
    return TRUE;
}

static void put_extents (Server *server, guint64 offset, guint32 length)
{
    guint32 step = server->lie == STATUS_BYTE ? MIN (length, 1) : length;

    for (guint64 at = offset; at < offset + step;) {
        guint64 end = MIN ((at / LEAF_SIZE + 1) * LEAF_SIZE, offset + step);
        gboolean zero = content (at) == 0;
        put_number (server->fd, server->lie == STATUS_TOO_LONG ? 4 * LEAF_SIZE : end - at, 4);
        put_number (server->fd, server->lie == STATUS_TOO_LONG ? 0 : zero ? 3 : 0, 4);
        at = end;
    }
}

static void answer_status (Server *server, const guint8 *handle, guint64 offset, guint32 length)
{
    guint32 extents = (offset + length - 1) / LEAF_SIZE - offset / LEAF_SIZE + 1;

    if (server->lie == MUTE_STATUS)
        return;
    if (server->lie == STATUS_EMPTY || server->lie == STATUS_NOTHING) {
        gboolean one = server->lie == STATUS_NOTHING;
        chunk_head (server, 1, 5, handle, 4 + (one ? 8 : 0));
        put_number (server->fd, 1, 4);
        if (one)
            put_number (server->fd, 0, 8);
        return;
    }
    if (server->lie == STATUS_BYTE)
        extents = 1;
    chunk_head (server, 1, 5, handle, 4 + 8 * extents);
    put_number (server->fd, server->lie == STATUS_CONTEXT ? 77 : 1, 4);
    put_extents (server, offset, length);
}

static gpointer serve (gpointer data)
{
    Server *server = data;
    guint8 request[28];
    gboolean on = server->lie != MUTE_HANDSHAKE && handshake (server);

    if (server->lie == MUTE_HANDSHAKE)
        get (server->fd, request, 1);
    while (on && get (server->fd, request, sizeof request)) {
        guint16 command = number_in (request + 6, 2);
        guint64 offset = number_in (request + 16, 8);
        guint32 length = number_in (request + 24, 4);
        if (command == CMD_DISCONNECT)
            break;
        if (command == CMD_READ)
            on = answer_read (server, request + 8, offset, length);
        else if (command == CMD_STATUS)
            answer_status (server, request + 8, offset, length);
    }
    close (server->fd);
    return NULL;
}

static const struct {
    Lie lie;
    gboolean good;
    BakErrorCode code; /* when it is not good; NONE: any */
} rows[] = {
    { GOOD, TRUE },
    { PLAIN, TRUE },
    { STATUS_BYTE, TRUE },
    { STATUS_TOO_LONG, TRUE },
    { MUTE_HANDSHAKE, FALSE, BAK_ERROR_TIMEOUT },
    { MUTE_READ, FALSE, BAK_ERROR_TIMEOUT },
    { MUTE_STATUS, FALSE, BAK_ERROR_TIMEOUT },
    { CLOSE_READ, FALSE, BAK_ERROR_IO },
    { ERROR_READ, FALSE, BAK_ERROR_IO },
    { SHORT_READ, FALSE },
    { FOREIGN_READ, FALSE },
    { STATUS_EMPTY, FALSE },
    { STATUS_NOTHING, FALSE },
    { STATUS_CONTEXT, FALSE },
    { WRONG_SIZE, FALSE, BAK_ERROR_INEXACT },
    { GARBAGE, FALSE },
};

static gboolean compare (MoverChunk *chunk, gpointer data, GError **error)
{
    guint64 *next = data;

    ck_assert_uint_eq (chunk->offset, *next);
    for (guint64 i = 0; i < chunk->length; i++)
        if ((chunk->data ? chunk->data[i] : 0) != content (chunk->offset + i))
            ck_abort_msg ("byte %" G_GUINT64_FORMAT " is wrong", chunk->offset + i);
    *next += chunk->length;
    return TRUE;
}

START_TEST (what_it_says_is_true_or_it_ends_with_disk_and_reason)
{
    int fds[2];
    ck_assert_int_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    Server server = { .fd = fds[1], .lie = rows[_i].lie };
    GThread *thread = g_thread_new ("server", serve, &server);
    guint64 next = 0;
    g_autoptr (Sink) sink = sink_callback_new (compare, &next);
    MoverSource source = { .target = "vda", .fd = fds[0], .export_name = "", .size = SIZE };
    MoverOptions options = { .timeout_ms = TIMEOUT_MS };
    g_autoptr (GError) error = NULL;
    MoverResult result;

    gboolean ok = mover_run (&source, &options, sink, &result, &error);
    g_thread_join (thread);
    ck_assert_msg (ok == rows[_i].good, "%s", error ? error->message : "it passed");
    if (ok) {
        ck_assert_uint_eq (next, SIZE);
        ck_assert (result.has_root);
        return;
    }
    ck_assert_msg (g_str_has_prefix (error->message, "disk 'vda': "), "%s", error->message);
    if (rows[_i].code != BAK_ERROR_NONE)
        ck_assert_msg (error_code (error) == rows[_i].code, "%s", error->message);
}
END_TEST

START_TEST (a_bitmap_that_the_export_does_not_have_is_not_read_as_clean)
{
    int fds[2];
    ck_assert_int_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    Server server = { .fd = fds[1], .lie = GOOD };
    GThread *thread = g_thread_new ("server", serve, &server);
    MoverSource source = { .target = "vda", .fd = fds[0], .export_name = "", .size = SIZE };
    MoverOptions options = { .timeout_ms = TIMEOUT_MS, .bitmap = "b" };
    g_autoptr (GError) error = NULL;

    ck_assert (!mover_run (&source, &options, NULL, NULL, &error));
    g_thread_join (thread);
    ck_assert_msg (error_code (error) == BAK_ERROR_INEXACT, "%s", error->message);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("liar");
    TCase *tcase = tcase_create ("liar");

    tcase_set_timeout (tcase, 60);
    tcase_add_loop_test (tcase, what_it_says_is_true_or_it_ends_with_disk_and_reason, 0,
                         G_N_ELEMENTS (rows));
    tcase_add_test (tcase, a_bitmap_that_the_export_does_not_have_is_not_read_as_clean);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
