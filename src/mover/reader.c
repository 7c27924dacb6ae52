/* Three steps run side by side in one loop: the map asks block status ahead of the reading and
 * sorts leaves into zeros, data and such that nobody wants; data is asked for in chunks while
 * buffers, the rate and the number in flight allow; chunks whose bytes are there leave in order.
 *
 * Only what block status calls "reads as zeros" is taken for zeros, only leaf by leaf, and what it
 * does not speak of is read. */
#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "mover/control.h"
#include "mover/reader.h"

enum {
    CONNECTIONS_MAX = 8,
    STATUS_LEAVES = 16384,    /* of one request for block status: 1 GiB */
    STATUS_WORTH_LEAVES = 16, /* shorter wanted runs are read without asking */
    MAP_RUNS_MAX = 4096,      /* runs that are known ahead of the reading */
    MAP_BYTES_AHEAD = MOVER_MEMORY * 4,
    ORDER_MAX = 512, /* chunks that were begun and have not left */
};

/* What is known of a leaf while a status is being read */
enum { LEAF_DATA = 1, LEAF_DIRTY = 2 };

typedef enum {
    RUN_ZERO,
    RUN_DATA,
} RunKind;

typedef struct {
    guint64 offset, length;
    RunKind kind;
} Run;

typedef struct {
    Chunk *chunk;
    gint64 deadline;
    gboolean flying, done;
    int error;        /* of the request */
    guint64 received; /* bytes from its begin that were answered */
} Order;

typedef struct {
    gboolean asked; /* in flight */
    guint64 offset, length;
    gint64 deadline;
    guint64 covered[2]; /* by context: allocation, bitmap */
    int error;
    gboolean nonsense;
    gboolean done;
    guint8 leaves[STATUS_LEAVES]; /* LEAF_* */
} Status;

struct ReaderState {
    Reader *reader;
    Client *clients[CONNECTIONS_MAX];
    guint connections;
    char *bitmap_context; /* NULL: none is wanted */
    gboolean has_allocation;
    guint64 size, export_size;
    guint64 mapped; /* where the map goes on */
    guint64 ahead;  /* bytes of data in runs */
    GQueue runs;    /* Run* */
    GQueue orders;  /* Order* */
    guint flying, turn;
    guint64 moves; /* of anything from one step to the next: while there are some, nobody waits */
    gint64 limited_until;
    gboolean unwanted; /* the stages behind have ended */
    Status status;
};

static const char allocation_context[] = "base:allocation";

/* Opening */

static Client *open_client (ReaderState *state, GError **error)
{
    const char *contexts[] = { allocation_context, state->bitmap_context, NULL };

    return client_new (state->reader->source, contexts, state->reader->options->timeout_ms,
                       state->reader->stop_fd, error);
}

static gboolean check_export (ReaderState *state, GError **error)
{
    struct nbd_handle *nbd = state->clients[0]->nbd;
    const MoverSource *source = state->reader->source;
    gint64 size = libnbd.get_size (nbd);

    if (size < 0)
        return nbd_failed (_("the size of the export"), error);
    if (source->size != 0 && source->size != (guint64) size)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("the export has %" G_GINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT " as it should"),
            size, source->size);
    if (state->reader->options->size > (guint64) size)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("the export has %" G_GINT64_FORMAT " bytes, fewer than the disk"),
                          size);
    state->size = state->reader->options->size ? state->reader->options->size : (guint64) size;
    state->export_size = size;
    state->mapped = MIN (state->reader->options->begin, state->size);
    state->reader->size = state->size;
    state->has_allocation = libnbd.can_meta_context (nbd, allocation_context) > 0;
    if (state->bitmap_context && libnbd.can_meta_context (nbd, state->bitmap_context) <= 0)
        return error_set (error, BAK_ERROR_INEXACT, _("the export has no dirty bitmap '%s'"),
                          state->reader->options->bitmap);
    return TRUE;
}

static gboolean open_more (ReaderState *state, GError **error)
{
    guint wanted = MIN (state->reader->options->connections, (guint) CONNECTIONS_MAX);

    if (state->reader->source->fd >= 0 || libnbd.can_multi_conn (state->clients[0]->nbd) <= 0)
        return TRUE;
    for (; state->connections < wanted; state->connections++) {
        Client *client = open_client (state, error);
        if (!client)
            return FALSE;
        state->clients[state->connections] = client;
        if ((guint64) libnbd.get_size (client->nbd) != state->export_size)
            return error_set (error, BAK_ERROR_IO,
                              _("the export has another size for each connection"));
    }
    return TRUE;
}

ReaderState *reader_open (Reader *reader, GError **error)
{
    g_autoptr (ReaderState) state = g_new0 (ReaderState, 1);

    state->reader = reader;
    if (reader->options->bitmap)
        state->bitmap_context = g_strconcat ("qemu:dirty-bitmap:", reader->options->bitmap, NULL);
    state->clients[0] = open_client (state, error);
    if (!state->clients[0])
        return NULL;
    state->connections = 1;
    if (!check_export (state, error) || !open_more (state, error))
        return NULL;
    return g_steal_pointer (&state);
}

static void order_free (gpointer data)
{
    Order *order = data;

    mover_chunk_unref (&order->chunk->seen);
    g_free (order);
}

/* The connections first: they end what is in flight into the chunks. */
void reader_close (ReaderState *state)
{
    if (!state)
        return;
    for (guint i = 0; i < CONNECTIONS_MAX; i++)
        client_free (state->clients[i]);
    g_queue_clear_full (&state->runs, g_free);
    g_queue_clear_full (&state->orders, order_free);
    g_free (state->bitmap_context);
    g_free (state);
}

/* The map */

static void add_run (ReaderState *state, guint64 offset, guint64 length, RunKind kind)
{
    Run *last = g_queue_peek_tail (&state->runs);

    if (kind == RUN_DATA)
        state->ahead += length;
    if (last && last->kind == kind && last->offset + last->length == offset) {
        last->length += length;
        return;
    }
    Run *run = g_new (Run, 1);
    *run = (Run){ offset, length, kind };
    g_queue_push_tail (&state->runs, run);
}

/* Marks the leaves of a piece of the status: those that it touches. */
static void mark (Status *status, guint64 offset, guint64 length, guint8 what)
{
    guint64 first = offset / LEAF_SIZE, last = (offset + length - 1) / LEAF_SIZE;

    for (guint64 i = first; i <= last; i++)
        status->leaves[i] |= what;
}

static int on_extents (void *data, const char *context, uint64_t offset, uint32_t *entries,
                       size_t count, int *error)
{
    ReaderState *state = data;
    Status *status = &state->status;
    gboolean bitmap = g_strcmp0 (context, state->bitmap_context) == 0;
    guint64 *covered = &status->covered[bitmap];

    if (offset != status->offset || *covered != 0
        || (!bitmap && !g_str_equal (context, allocation_context))) {
        status->nonsense = TRUE;
        return 0;
    }
    for (size_t i = 0; i + 1 < count && *covered < status->length; i += 2) {
        guint64 length = MIN ((guint64) entries[i], status->length - *covered);
        gboolean zero = entries[i + 1] & LIBNBD_STATE_ZERO, dirty = entries[i + 1] & 1;
        if (length == 0)
            status->nonsense = TRUE;
        if (length > 0 && (bitmap ? dirty : !zero))
            mark (status, *covered, length, bitmap ? LEAF_DIRTY : LEAF_DATA);
        *covered += length;
    }
    return 0;
}

static int on_status_done (void *data, int *error)
{
    Status *status = data;

    status->error = *error;
    status->done = TRUE;
    return 1;
}

static gboolean ask_status (ReaderState *state, guint64 offset, guint64 length, GError **error)
{
    Status *status = &state->status;

    memset (status, 0, sizeof *status);
    status->offset = offset;
    status->length = length;
    status->deadline = client_deadline (state->clients[0]);
    status->asked = TRUE;
    gint64 cookie = libnbd.aio_block_status (
        state->clients[0]->nbd, length, offset,
        (nbd_extent_callback){ .callback = on_extents, .user_data = state },
        (nbd_completion_callback){ .callback = on_status_done, .user_data = status }, 0);
    return cookie >= 0 || nbd_failed (_("asking for block status"), error);
}

/* Where the next leaves are that are wanted; FALSE: nowhere. */
static gboolean next_wanted (const ReaderState *state, guint64 *ret_offset, guint64 *ret_length)
{
    const LeafSet *only = state->reader->options->only;
    guint64 index = state->mapped / LEAF_SIZE, count = leaf_count (state->size) - index;

    if (state->mapped >= state->size || (only && !leaf_set_next (only, index, &index, &count)))
        return FALSE;
    count = MIN (count, (guint64) STATUS_LEAVES);
    *ret_offset = index * LEAF_SIZE;
    *ret_length = MIN (count * LEAF_SIZE, state->size - *ret_offset);
    return TRUE;
}

static gboolean map_more (ReaderState *state, GError **error)
{
    guint64 offset, length;

    while (!state->status.asked && state->ahead < MAP_BYTES_AHEAD
           && state->runs.length < MAP_RUNS_MAX && next_wanted (state, &offset, &length)) {
        gboolean worth = state->has_allocation || state->bitmap_context;
        if (state->reader->options->only && length < STATUS_WORTH_LEAVES * LEAF_SIZE)
            worth = FALSE;
        if (worth)
            return ask_status (state, offset, length, error);
        add_run (state, offset, length, RUN_DATA);
        state->mapped = offset + length;
        state->moves++;
    }
    return TRUE;
}

/* Whole leaves that both contexts have spoken of; at least one, else it is read. */
static guint64 status_known (ReaderState *state)
{
    Status *status = &state->status;
    guint64 known = status->length;

    if (state->has_allocation)
        known = MIN (known, status->covered[0]);
    if (state->bitmap_context)
        known = MIN (known, status->covered[1]);
    if (status->offset + known < state->size)
        known -= known % LEAF_SIZE;
    if (known > 0)
        return known;
    status->leaves[0] = LEAF_DATA | LEAF_DIRTY;
    return MIN (status->length, (guint64) LEAF_SIZE);
}

static gboolean status_sound (ReaderState *state, GError **error)
{
    Status *status = &state->status;
    gboolean silent = (state->has_allocation && status->covered[0] == 0)
                      || (state->bitmap_context && status->covered[1] == 0);

    if (status->error)
        return error_set_errno (error, status->error,
                                _("block status at byte %" G_GUINT64_FORMAT " of the export"),
                                status->offset);
    if (status->nonsense || silent)
        return error_set (error, BAK_ERROR_IO,
                          _("the export answers nonsense for the block status at byte "
                             "%" G_GUINT64_FORMAT),
                          status->offset);
    return TRUE;
}

static gboolean take_status (ReaderState *state, GError **error)
{
    Status *status = &state->status;
    guint8 all = state->bitmap_context ? 0 : LEAF_DIRTY;

    if (!status->asked || !status->done)
        return TRUE;
    if (!status_sound (state, error))
        return FALSE;
    guint64 known = status_known (state);
    if (!state->has_allocation)
        all |= LEAF_DATA;
    for (guint64 at = 0; at < known; at += LEAF_SIZE) {
        guint8 leaf = status->leaves[at / LEAF_SIZE] | all;
        if (leaf & LEAF_DIRTY)
            add_run (state, status->offset + at, MIN ((guint64) LEAF_SIZE, known - at),
                     leaf & LEAF_DATA ? RUN_DATA : RUN_ZERO);
    }
    state->mapped = status->offset + known;
    status->asked = FALSE;
    state->moves++;
    return TRUE;
}

/* Reading */

static Order *order_new (ReaderState *state, Chunk *chunk)
{
    Order *order = g_new0 (Order, 1);

    order->chunk = chunk;
    g_queue_push_tail (&state->orders, order);
    state->moves++;
    state->reader->looked += chunk->seen.length;
    return order;
}

static void run_shorten (ReaderState *state, Run *run, guint64 length)
{
    run->offset += length;
    run->length -= length;
    if (run->length == 0)
        g_free (g_queue_pop_head (&state->runs));
}

/* The last leaf, if it is short, has a hash of its own: it goes by itself. */
static void begin_zero (ReaderState *state, Run *run)
{
    guint64 length = run->length, tail = length % LEAF_SIZE;

    if (length > LEAF_SIZE)
        length -= tail;
    Order *order = order_new (state, chunk_new_zero (state->reader->pool, run->offset, length));
    order->done = TRUE;
    state->reader->zeroed += length;
    run_shorten (state, run, length);
}

/* libnbd takes an answer that speaks of a part only for a whole one. Servers answer in ascending
 * order; one that does not leaves a gap here. */
static int on_part (void *data, const void *part, size_t length, uint64_t offset, unsigned status,
                    int *error)
{
    Order *order = data;

    if (status != LIBNBD_READ_ERROR && offset == order->chunk->seen.offset + order->received)
        order->received += length;
    return 0;
}

static int on_read (void *data, int *error)
{
    Order *order = data;

    order->error = *error;
    if (!order->error && order->received != order->chunk->seen.length)
        order->error = EPROTO;
    order->done = TRUE;
    return 1;
}

static gboolean begin_data (ReaderState *state, Run *run, guint64 length, GError **error)
{
    Client *client = state->clients[state->turn++ % state->connections];
    Order *order = order_new (state, chunk_new_data (state->reader->pool, run->offset, length));

    order->deadline = client_deadline (client);
    order->flying = TRUE;
    state->flying++;
    gint64 cookie = libnbd.aio_pread_structured (
        client->nbd, chunk_buffer (order->chunk), length, run->offset,
        (nbd_chunk_callback){ .callback = on_part, .user_data = order },
        (nbd_completion_callback){ .callback = on_read, .user_data = order }, 0);
    if (cookie < 0)
        return nbd_failed (_("reading the export"), error);
    state->ahead -= length;
    state->reader->read += length;
    run_shorten (state, run, length);
    return TRUE;
}

/* Chunks begin on multiples of their size, so that requests fall on whole clusters. */
static guint64 data_length (const Run *run)
{
    return MIN (run->length, MOVER_CHUNK - run->offset % MOVER_CHUNK);
}

static gboolean begin_more (ReaderState *state, GError **error)
{
    Run *run;

    state->limited_until = 0;
    while (state->orders.length < ORDER_MAX && (run = g_queue_peek_head (&state->runs))) {
        if (run->kind == RUN_ZERO) {
            begin_zero (state, run);
            continue;
        }
        if (state->flying >= MOVER_IN_FLIGHT * state->connections
            || !pool_has (state->reader->pool))
            return TRUE;
        guint64 length = data_length (run);
        gint64 wait = mover_control_take (state->reader->options->control, length);
        if (wait > 0) {
            state->limited_until = g_get_monotonic_time () + wait;
            return TRUE;
        }
        if (!begin_data (state, run, length, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean give_done (ReaderState *state, GError **error)
{
    Order *order;

    while (!state->unwanted && (order = g_queue_peek_head (&state->orders)) && order->done) {
        if (order->error)
            return error_set_errno (
                error, order->error,
                _("reading bytes %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " of the export"),
                order->chunk->seen.offset, order->chunk->seen.offset + order->chunk->seen.length);
        if (order->flying)
            state->flying--;
        g_queue_pop_head (&state->orders);
        state->moves++;
        state->unwanted = !state->reader->give (order->chunk, state->reader->data);
        g_free (order);
    }
    return TRUE;
}

/* The earliest of what is waited for: answers, the rate. */
static gint64 next_deadline (const ReaderState *state)
{
    gint64 deadline = G_MAXINT64;

    if (state->status.asked)
        deadline = state->status.deadline;
    for (const GList *link = state->orders.head; link; link = link->next) {
        const Order *order = link->data;
        if (!order->done)
            deadline = MIN (deadline, order->deadline);
    }
    return deadline;
}

static gboolean wait (ReaderState *state, GError **error)
{
    gint64 deadline = next_deadline (state), now = g_get_monotonic_time ();
    gint64 until = state->limited_until ? MIN (deadline, state->limited_until) : deadline;

    if (deadline <= now)
        return client_timed_out (state->clients[0], error);
    if (until == G_MAXINT64)
        until = now + G_TIME_SPAN_HOUR;
    return client_wait (state->clients, state->connections, pool_wake_fd (state->reader->pool),
                        until, error);
}

static gboolean finished (const ReaderState *state)
{
    guint64 offset, length;

    return state->unwanted
           || (!state->status.asked && state->runs.length == 0 && state->orders.length == 0
               && !next_wanted (state, &offset, &length));
}

static gboolean step (ReaderState *state, GError **error)
{
    return take_status (state, error) && map_more (state, error) && begin_more (state, error)
           && give_done (state, error);
}

gboolean reader_run (ReaderState *state, GError **error)
{
    while (!finished (state)) {
        guint64 moves = state->moves;
        if (!step (state, error))
            return FALSE;
        if (moves == state->moves && !finished (state) && !wait (state, error))
            return FALSE;
    }
    return TRUE;
}
