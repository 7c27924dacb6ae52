#include <string.h>
#include "repository/sample.h"

typedef enum { CLASS_RECENT, CLASS_DATA, CLASS_ZERO, CLASSES } Class;

/* Of every eight places; what a class cannot fill, the next one gets. */
static const guint shares[CLASSES] = { [CLASS_RECENT] = 4, [CLASS_DATA] = 3, [CLASS_ZERO] = 1 };

typedef struct {
    guint64 total;
    GArray *ranks; /* guint64, rising: which of the class's leaves */
    guint next;    /* rank to find */
    guint64 seen;
} Pick;

static gboolean class_of (LeavesView *view, const LeafRun *run, const LeafHash *zero,
                          Class *ret_class)
{
    if (run->layer == 0)
        return FALSE;
    if (run->known && leaf_equal (&run->hash, zero))
        *ret_class = CLASS_ZERO;
    else
        *ret_class = run->layer == 1 ? CLASS_RECENT : CLASS_DATA;
    return TRUE;
}

typedef void (*RunFunc) (const LeafRun *run, Class class, gpointer data);

static gboolean each_run (LeavesView *view, RunFunc take, gpointer data, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new_keyed (leaves_view_key (view), error);
    guint64 count = leaf_count (leaves_view_size (view));
    if (!hasher)
        return FALSE;
    const LeafHash *zero = hasher_zero_leaf (hasher, LEAF_SIZE);
    for (guint64 index = 0; index < count;) {
        LeafRun run;
        Class class;
        if (!leaves_view_get (view, index, &run, error))
            return FALSE;
        if (class_of (view, &run, zero, &class))
            take (&run, class, data);
        index = run.index + run.count;
    }
    return TRUE;
}

static void count_run (const LeafRun *run, Class class, gpointer data)
{
    ((Pick *) data)[class].total += run->count;
}

static int by_rank (gconstpointer one, gconstpointer other)
{
    guint64 a = *(const guint64 *) one, b = *(const guint64 *) other;
    return a < b ? -1 : a > b;
}

static guint64 random_below (GRand *random, guint64 limit)
{
    guint64 number = (guint64) g_rand_int (random) << 32 | g_rand_int (random);
    return number % limit;
}

static void draw_ranks (Pick *picks, guint count, GRand *random)
{
    guint left = count;
    for (guint class = 0; class < CLASSES; class ++) {
        Pick *pick = &picks[class];
        guint share = class == CLASSES - 1 ? left : MIN (left, count * shares[class] / 8);
        guint drawn = pick->total ? (guint) MIN (share, pick->total) : 0;
        for (guint i = 0; i < drawn; i++) {
            guint64 rank = random_below (random, pick->total);
            g_array_append_val (pick->ranks, rank);
        }
        g_array_sort (pick->ranks, by_rank);
        left -= drawn;
    }
    /* what the later classes left */
    for (guint class = 0; class < CLASSES && left; class ++) {
        Pick *pick = &picks[class];
        for (; pick->total && left; left--) {
            guint64 rank = random_below (random, pick->total);
            g_array_append_val (pick->ranks, rank);
        }
        g_array_sort (pick->ranks, by_rank);
    }
}

typedef struct {
    Pick picks[CLASSES];
    LeafSet *set;
} Choice;

static void find_ranks (const LeafRun *run, Class class, gpointer data)
{
    Choice *choice = data;
    Pick *pick = &choice->picks[class];
    while (pick->next < pick->ranks->len) {
        guint64 rank = g_array_index (pick->ranks, guint64, pick->next);
        if (rank >= pick->seen + run->count)
            break;
        leaf_set_add (choice->set, run->index + (rank - pick->seen), 1);
        pick->next++;
    }
    pick->seen += run->count;
}

static gboolean add_end (LeavesView *view, LeafSet *set, guint64 index, GError **error)
{
    LeafRun run;
    if (!leaves_view_get (view, index, &run, error))
        return FALSE;
    if (run.layer != 0)
        leaf_set_add (set, index, 1);
    return TRUE;
}

LeafSet *sample_choose (LeavesView *view, guint count, GRand *random, GError **error)
{
    Choice choice = { .set = leaf_set_new (leaves_view_size (view)) };
    guint64 leaves = leaf_count (leaves_view_size (view));
    for (guint i = 0; i < CLASSES; i++)
        choice.picks[i].ranks = g_array_new (FALSE, FALSE, sizeof (guint64));
    gboolean ok =
        count == 0 || leaves == 0
        || (add_end (view, choice.set, 0, error) && add_end (view, choice.set, leaves - 1, error)
            && each_run (view, count_run, choice.picks, error));
    if (ok && count > 2) {
        draw_ranks (choice.picks, count - 2, random);
        ok = each_run (view, find_ranks, &choice, error);
    }
    for (guint i = 0; i < CLASSES; i++)
        g_array_unref (choice.picks[i].ranks);
    if (!ok)
        g_clear_pointer (&choice.set, leaf_set_free);
    return choice.set;
}
