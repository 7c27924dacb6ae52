#include <sys/stat.h>
#include "job/chain-text.h"
#include "util/image_tool.h"

enum { KEPT = 16, KEPT_SECONDS = 10 };

typedef struct {
    char *path, *text;
    struct stat st;
    gint64 when;
} Said;

static GMutex lock; /* guards what follows */
static Said said[KEPT];
static guint next;

static gboolean is_unchanged (const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size
           && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec
           && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void keep (const char *path, const struct stat *st, const char *text)
{
    g_mutex_lock (&lock);
    Said *one = &said[next++ % KEPT];
    g_free (one->path);
    g_free (one->text);
    *one = (Said){ g_strdup (path), g_strdup (text), *st, g_get_monotonic_time () };
    g_mutex_unlock (&lock);
}

/* Whoever compares hashes the heads of the files that it names, in which stands what lies below:
 * a change that the times do not show is found there. */
static char *recall (const char *path, const struct stat *st)
{
    gint64 since = g_get_monotonic_time () - KEPT_SECONDS * G_USEC_PER_SEC;
    char *text = NULL;
    g_mutex_lock (&lock);
    for (guint i = 0; i < KEPT && !text; i++)
        if (said[i].when > since && g_strcmp0 (said[i].path, path) == 0
            && is_unchanged (&said[i].st, st))
            text = g_strdup (said[i].text);
    g_mutex_unlock (&lock);
    return text;
}

char *chain_text (const char *path, const char *format, ChainAsk ask, GError **error)
{
    const char *known[] = { "info", "-U", "--output=json", "--backing-chain", "-f", format, "--",
                            path,   NULL };
    const char *probed[] = { "info", "-U", "--output=json", "--backing-chain", "--", path, NULL };
    struct stat st;
    gboolean there = stat (path, &st) == 0;
    char *text = there && ask == CHAIN_RECALL ? recall (path, &st) : NULL;
    if (text || !image_tool (format ? known : probed, &text, error))
        return text;
    /* what raw data looks like is another matter than what it is */
    if (there && g_strcmp0 (format, "raw") != 0)
        keep (path, &st, text);
    return text;
}
