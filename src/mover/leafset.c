#include "mover/leaves.h"

struct LeafSet {
    guint64 leaves, members;
    guint64 *words;
};

enum { WORD = 64 };

LeafSet *leaf_set_new (guint64 size)
{
    LeafSet *set = g_new0 (LeafSet, 1);

    set->leaves = leaf_count (size);
    set->words = g_new0 (guint64, set->leaves / WORD + 1);
    return set;
}

void leaf_set_free (LeafSet *set)
{
    if (!set)
        return;
    g_free (set->words);
    g_free (set);
}

gboolean leaf_set_has (const LeafSet *set, guint64 index)
{
    return index < set->leaves && set->words[index / WORD] >> index % WORD & 1;
}

void leaf_set_add (LeafSet *set, guint64 index, guint64 count)
{
    g_return_if_fail (index <= set->leaves && count <= set->leaves - index);
    for (; count > 0; index++, count--) {
        set->members += !leaf_set_has (set, index);
        set->words[index / WORD] |= G_GUINT64_CONSTANT (1) << index % WORD;
    }
}

guint64 leaf_set_count (const LeafSet *set)
{
    return set->members;
}

/* The first index at or behind this one where membership is as wanted; the end if none. */
static guint64 seek (const LeafSet *set, guint64 index, gboolean member)
{
    while (index < set->leaves) {
        guint64 word = set->words[index / WORD];
        guint64 rest = (member ? word : ~word) >> index % WORD;
        if (rest != 0)
            return MIN (index + __builtin_ctzll (rest), set->leaves);
        index = (index / WORD + 1) * WORD;
    }
    return set->leaves;
}

gboolean leaf_set_next (const LeafSet *set, guint64 index, guint64 *ret_index, guint64 *ret_count)
{
    guint64 first = seek (set, index, TRUE);

    if (first >= set->leaves)
        return FALSE;
    *ret_index = first;
    *ret_count = seek (set, first, FALSE) - first;
    return TRUE;
}
