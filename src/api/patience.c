/* How long a call may wait, and how to end a wait from another thread.
 *
 * A call of a patient connection runs on a thread of a pool with a copy of its arguments; the
 * caller waits for it, for the deadline, or until somebody gives up. What comes of a call that
 * nobody waits for is freed there. A connection without patience pays nothing: its calls run on the
 * caller's thread. */
#include <string.h>
#include "api/api.h"
#include "util/error.h"

struct _Patience {
    GMutex lock; /* of all below, and of the tasks */
    GCond changed;
    guint64 timeout; /* microseconds; 0: calls run on the caller's thread */
    guint given_up;  /* how often */
};

typedef struct {
    BakConnection *conn;
    CallId id;
    gpointer args, ret;
    GError *error;
    gboolean ok, ended, abandoned;
} Task;

Patience *patience_new (void)
{
    Patience *patience = g_new0 (Patience, 1);
    g_mutex_init (&patience->lock);
    g_cond_init (&patience->changed);
    return patience;
}

void patience_free (Patience *patience)
{
    g_mutex_clear (&patience->lock);
    g_cond_clear (&patience->changed);
    g_free (patience);
}

int bak_connection_set_patience (BakConnection *conn, unsigned long long timeout, BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    g_mutex_lock (&conn->patience->lock);
    conn->patience->timeout = timeout;
    g_mutex_unlock (&conn->patience->lock);
    return 0;
}

void bak_connection_give_up (BakConnection *conn)
{
    if (!conn)
        return;
    g_mutex_lock (&conn->patience->lock);
    conn->patience->given_up++;
    g_cond_broadcast (&conn->patience->changed);
    g_mutex_unlock (&conn->patience->lock);
}

static void task_free (Task *task)
{
    call_clear_args (task->id, task->args);
    g_free (task->args);
    g_clear_error (&task->error);
    g_free (task->ret);
    bak_connection_unref (task->conn);
    g_free (task);
}

static void run_task (gpointer data, gpointer unused)
{
    Task *task = data;
    Patience *patience = task->conn->patience;
    gboolean ok = driver_call (task->conn->driver, task->id, task->args, task->ret, &task->error);
    g_mutex_lock (&patience->lock);
    task->ok = ok;
    task->ended = TRUE;
    gboolean abandoned = task->abandoned;
    g_cond_broadcast (&patience->changed);
    g_mutex_unlock (&patience->lock);
    if (!abandoned)
        return; /* it is the caller's now */
    if (ok)
        call_clear_ret (task->id, task->ret);
    task_free (task);
}

/* With the lock. TRUE: the task has ended; else *error says why nobody waits any more. */
static gboolean wait_for_task (Patience *patience, Task *task, GError **error)
{
    guint before = patience->given_up;
    guint64 timeout = MIN (patience->timeout, (guint64) G_MAXINT64 / 2);
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout;
    while (!task->ended) {
        if (patience->given_up != before)
            return error_set (error, BAK_ERROR_ABORTED, _("%s: given up by the caller"),
                              call_rows[task->id].name);
        if (!g_cond_wait_until (&patience->changed, &patience->lock, deadline) && !task->ended)
            return error_set (error, BAK_ERROR_TIMEOUT,
                              _("%s: no answer within %.3g s, the patience of this connection"),
                              call_rows[task->id].name, timeout / 1e6);
    }
    return TRUE;
}

static GThreadPool *pool (void)
{
    static GThreadPool *the_pool;
    static gsize made;
    if (g_once_init_enter (&made)) {
        the_pool = g_thread_pool_new (run_task, NULL, -1, FALSE, NULL);
        g_once_init_leave (&made, 1);
    }
    return the_pool;
}

gboolean patience_is_set (BakConnection *conn)
{
    g_mutex_lock (&conn->patience->lock);
    gboolean patient = conn->patience->timeout != 0;
    g_mutex_unlock (&conn->patience->lock);
    return patient;
}

gboolean patience_call (BakConnection *conn, CallId id, const void *args, gpointer ret,
                        GError **error)
{
    Patience *patience = conn->patience;
    gpointer copy = g_malloc0 (MAX (call_rows[id].args_size, 1));
    /* arguments beyond the limits are refused by the driver's entry, in words */
    if (!call_copy_args (id, args, copy)) {
        g_free (copy);
        return driver_call (conn->driver, id, args, ret, error);
    }
    Task *task = g_new0 (Task, 1);
    task->conn = bak_connection_ref (conn);
    task->id = id;
    task->args = copy;
    task->ret = g_malloc0 (call_rows[id].ret_size);
    g_thread_pool_push (pool (), task, NULL);

    g_mutex_lock (&patience->lock);
    task->abandoned = !wait_for_task (patience, task, error);
    gboolean ended = task->ended, ok = ended && task->ok;
    g_mutex_unlock (&patience->lock);
    if (!ended)
        return FALSE;
    if (ok)
        memcpy (ret, task->ret, call_rows[id].ret_size);
    else
        g_propagate_error (error, g_steal_pointer (&task->error));
    task_free (task);
    return ok;
}
