/* Linked into everything of a build with the thread sanitizer, and into nothing else.
 *
 * GLib is not built with the sanitizer and locks by futex, so the sanitizer sees no order between
 * threads that GLib orders, and would call all of it a race. These functions stand before GLib's
 * own of the same name and tell it: who takes a lock has seen what was done before it was last
 * released. What goes through queues (main contexts, tasks, thread pools) shares one token, which
 * orders somewhat more than GLib does: a race may hide behind a message, but what is reported is
 * one. */
#include <dlfcn.h>
#include <gio/gio.h>

void __tsan_acquire (void *address);
void __tsan_release (void *address);

#define QUIET __attribute__ ((no_sanitize ("thread")))
#define REAL(name)                                                                                 \
    static typeof (&name) real;                                                                    \
    if (!real)                                                                                     \
    real = (typeof (&name)) dlsym (RTLD_NEXT, #name)

static char queue; /* the token */

/* Locks */

QUIET void (g_mutex_lock) (GMutex *mutex)
{
    REAL (g_mutex_lock);
    real (mutex);
    __tsan_acquire (mutex);
}

QUIET gboolean (g_mutex_trylock) (GMutex *mutex)
{
    REAL (g_mutex_trylock);
    gboolean got = real (mutex);
    if (got)
        __tsan_acquire (mutex);
    return got;
}

QUIET void (g_mutex_unlock) (GMutex *mutex)
{
    REAL (g_mutex_unlock);
    __tsan_release (mutex);
    real (mutex);
}

QUIET void (g_cond_wait) (GCond *cond, GMutex *mutex)
{
    REAL (g_cond_wait);
    __tsan_release (mutex);
    real (cond, mutex);
    __tsan_acquire (mutex);
}

QUIET gboolean (g_cond_wait_until) (GCond *cond, GMutex *mutex, gint64 end)
{
    REAL (g_cond_wait_until);
    __tsan_release (mutex);
    gboolean in_time = real (cond, mutex, end);
    __tsan_acquire (mutex);
    return in_time;
}

QUIET gboolean (g_atomic_ref_count_dec) (gatomicrefcount *count)
{
    REAL (g_atomic_ref_count_dec);
    __tsan_release (count);
    gboolean last = real (count);
    __tsan_acquire (count);
    return last;
}

/* The quick way around g_once_init_enter() is an atomic load in our own code: show it a store that
 * it knows. */
void (g_once_init_leave) (volatile void *location, gsize result)
{
    REAL (g_once_init_leave);
    real (location, result);
    __atomic_store_n ((gsize *) location, result, __ATOMIC_SEQ_CST);
}

/* Main contexts */

QUIET static gint poll_and_see (GPollFD *fds, guint n, gint timeout)
{
    gint ready = g_poll (fds, n, timeout);
    __tsan_acquire (&queue);
    return ready;
}

QUIET gboolean (g_main_context_iteration) (GMainContext *context, gboolean may_block)
{
    REAL (g_main_context_iteration);
    g_main_context_set_poll_func (context, poll_and_see);
    return real (context, may_block);
}

QUIET void (g_main_loop_run) (GMainLoop *loop)
{
    REAL (g_main_loop_run);
    g_main_context_set_poll_func (g_main_loop_get_context (loop), poll_and_see);
    real (loop);
    __tsan_acquire (&queue);
}

QUIET void (g_main_loop_quit) (GMainLoop *loop)
{
    REAL (g_main_loop_quit);
    __tsan_release (&queue);
    real (loop);
}

QUIET guint (g_source_attach) (GSource *source, GMainContext *context)
{
    REAL (g_source_attach);
    __tsan_release (&queue);
    return real (source, context);
}

QUIET void (g_main_context_invoke) (GMainContext *context, GSourceFunc func, gpointer data)
{
    REAL (g_main_context_invoke);
    __tsan_release (&queue);
    real (context, func, data);
}

QUIET void (g_main_context_invoke_full) (GMainContext *context, gint priority, GSourceFunc func,
                                         gpointer data, GDestroyNotify notify)
{
    REAL (g_main_context_invoke_full);
    __tsan_release (&queue);
    real (context, priority, func, data, notify);
}

QUIET void (g_main_context_wakeup) (GMainContext *context)
{
    REAL (g_main_context_wakeup);
    __tsan_release (&queue);
    real (context);
}

/* Tasks, pools, queues */

QUIET static void task_thread (GTask *task, gpointer source, gpointer data,
                               GCancellable *cancellable)
{
    GTaskThreadFunc func = (GTaskThreadFunc) g_object_get_data (G_OBJECT (task), "tsan-func");
    __tsan_acquire (&queue);
    func (task, source, data, cancellable);
    __tsan_release (&queue);
}

QUIET void (g_task_run_in_thread) (GTask *task, GTaskThreadFunc func)
{
    REAL (g_task_run_in_thread);
    g_object_set_data (G_OBJECT (task), "tsan-func", (gpointer) func);
    __tsan_release (&queue);
    real (task, task_thread);
}

QUIET void (g_task_return_boolean) (GTask *task, gboolean result)
{
    REAL (g_task_return_boolean);
    __tsan_release (&queue);
    real (task, result);
}

QUIET void (g_task_return_pointer) (GTask *task, gpointer result, GDestroyNotify destroy)
{
    REAL (g_task_return_pointer);
    __tsan_release (&queue);
    real (task, result, destroy);
}

typedef struct {
    GFunc func;
    gpointer data;
} Pool;

QUIET static void pool_thread (gpointer item, gpointer data)
{
    Pool *pool = data;
    __tsan_acquire (&queue);
    pool->func (item, pool->data);
    __tsan_release (&queue);
}

QUIET GThreadPool *(g_thread_pool_new) (GFunc func, gpointer data, gint max, gboolean exclusive,
                                        GError **error)
{
    REAL (g_thread_pool_new);
    Pool *pool = g_new (Pool, 1); /* for the life of the process */
    *pool = (Pool){ func, data };
    return real (pool_thread, pool, max, exclusive, error);
}

QUIET gboolean (g_thread_pool_push) (GThreadPool *pool, gpointer item, GError **error)
{
    REAL (g_thread_pool_push);
    __tsan_release (&queue);
    return real (pool, item, error);
}

QUIET void (g_thread_pool_free) (GThreadPool *pool, gboolean immediate, gboolean wait)
{
    REAL (g_thread_pool_free);
    real (pool, immediate, wait);
    __tsan_acquire (&queue);
}

QUIET void (g_async_queue_push) (GAsyncQueue *q, gpointer item)
{
    REAL (g_async_queue_push);
    __tsan_release (&queue);
    real (q, item);
}

QUIET gpointer (g_async_queue_pop) (GAsyncQueue *q)
{
    REAL (g_async_queue_pop);
    gpointer item = real (q);
    __tsan_acquire (&queue);
    return item;
}

QUIET gpointer (g_async_queue_try_pop) (GAsyncQueue *q)
{
    REAL (g_async_queue_try_pop);
    gpointer item = real (q);
    __tsan_acquire (&queue);
    return item;
}

QUIET gpointer (g_async_queue_timeout_pop) (GAsyncQueue *q, guint64 timeout)
{
    REAL (g_async_queue_timeout_pop);
    gpointer item = real (q, timeout);
    __tsan_acquire (&queue);
    return item;
}
