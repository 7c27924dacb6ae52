/* Two threads and a counter: "race" has no lock and must be reported, "lock" has GLib's and must
 * not. */
#include <glib.h>
#include <string.h>

static GMutex mutex;
static gboolean locked;
static int counter;

static gpointer count (gpointer unused)
{
    for (int i = 0; i < 1000; i++) {
        if (locked)
            g_mutex_lock (&mutex);
        counter++;
        if (locked)
            g_mutex_unlock (&mutex);
    }
    return unused;
}

int main (int argc, char **argv)
{
    locked = argc > 1 && strcmp (argv[1], "lock") == 0;
    GThread *other = g_thread_new ("other", count, NULL);
    count (NULL);
    g_thread_join (other);
    return counter > 0 ? 0 : 1;
}
