/* The tree of hashes against the definition in mover/tree.h, done by GLib's own SHA-256 in the
 * plainest way. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "mover/tree.h"

static void sha256 (const void *one, gsize one_length, const void *two, gsize two_length,
                    LeafHash *ret)
{
    GChecksum *sum = g_checksum_new (G_CHECKSUM_SHA256);
    gsize length = sizeof ret->bytes;

    g_checksum_update (sum, one, one_length);
    g_checksum_update (sum, two, two_length);
    g_checksum_get_digest (sum, ret->bytes, &length);
    g_checksum_free (sum);
}

/* By recursion over the whole list: the left side is the greatest power of two below n. */
static LeafHash plain_top (const LeafHash *leaves, guint64 n)
{
    LeafHash top;
    guint64 left = 1;

    if (n == 1)
        return leaves[0];
    while (left * 2 < n)
        left *= 2;
    LeafHash both[2] = { plain_top (leaves, left), plain_top (leaves + left, n - left) };
    sha256 ("\1", 1, both, sizeof both, &top);
    return top;
}

static LeafHash plain_root (const LeafHash *leaves, guint64 n, guint64 size)
{
    guint8 all[44] = { 0 };
    LeafHash root, top = { { 0 } };

    if (n > 0)
        top = plain_top (leaves, n);
    for (guint i = 0; i < 8; i++)
        all[i] = size >> 8 * (7 - i);
    all[9] = 1; /* 65536, four bytes */
    memcpy (all + 12, top.bytes, sizeof top.bytes);
    sha256 ("\2", 1, all, sizeof all, &root);
    return root;
}

static const guint64 sizes[] = { 0,          1,          65535,      65536,     65537,
                                 3 * 65536,  4 * 65536,  5 * 65536,  7 * 65536, 8 * 65536 + 512,
                                 33 * 65536, 64 * 65536, 100 * 65536 };

START_TEST (the_root_is_that_of_the_definition_however_leaves_come_in_runs)
{
    guint64 size = sizes[_i], count = leaf_count (size);
    g_autofree LeafHash *leaves = g_new0 (LeafHash, count + 1);
    g_autoptr (GRand) rand = g_rand_new_with_seed (7 + _i);

    for (guint pass = 0; pass < 20; pass++) {
        g_autoptr (GError) error = NULL;
        g_autoptr (Tree) tree = tree_new (size, &error);
        LeafHash root, expected;
        ck_assert_msg (tree != NULL, "%s", error ? error->message : "");
        for (guint64 i = 0, run; i < count; i += run) {
            run = 1 + g_rand_int_range (rand, 0, count - i);
            if (g_rand_boolean (rand))
                run = 1;
            guint8 byte = g_rand_int_range (rand, 0, 3);
            for (guint64 k = 0; k < run; k++)
                memset (&leaves[i + k], byte, sizeof *leaves);
            tree_add (tree, &leaves[i], run);
        }
        ck_assert_msg (tree_root (tree, &root, &error), "%s", error ? error->message : "");
        expected = plain_root (leaves, count, size);
        ck_assert (leaf_equal (&root, &expected));
    }
}
END_TEST

START_TEST (a_leaf_is_the_hash_of_its_bytes_behind_a_zero)
{
    g_autoptr (Hasher) hasher = hasher_new (NULL);
    g_autofree guint8 *bytes = g_malloc0 (LEAF_SIZE);
    LeafHash made, expected;
    static const gsize lengths[] = { 1, 55, 64, 512, 4096, LEAF_SIZE };

    ck_assert_ptr_nonnull (hasher);
    for (guint i = 0; i < G_N_ELEMENTS (lengths); i++) {
        memset (bytes, 0, LEAF_SIZE);
        sha256 ("", 1, bytes, lengths[i], &expected);
        ck_assert (leaf_equal (hasher_zero_leaf (hasher, lengths[i]), &expected));
        for (gsize k = 0; k < lengths[i]; k++)
            bytes[k] = k * 7 + i;
        sha256 ("", 1, bytes, lengths[i], &expected);
        hasher_leaf (hasher, bytes, lengths[i], &made);
        ck_assert (leaf_equal (&made, &expected));
    }
}
END_TEST

START_TEST (size_and_order_change_the_root)
{
    LeafHash a = { { 1 } }, b = { { 2 } }, roots[3];
    const LeafHash *orders[3][2] = { { &a, &b }, { &b, &a }, { &a, &b } };

    for (guint i = 0; i < 3; i++) {
        g_autoptr (Tree) tree = tree_new (i == 2 ? LEAF_SIZE + 1 : 2 * LEAF_SIZE, NULL);
        tree_add (tree, orders[i][0], 1);
        tree_add (tree, orders[i][1], 1);
        ck_assert (tree_root (tree, &roots[i], NULL));
    }
    ck_assert (!leaf_equal (&roots[0], &roots[1]));
    ck_assert (!leaf_equal (&roots[0], &roots[2]));
}
END_TEST

START_TEST (a_tree_that_misses_a_leaf_or_has_one_too_many_has_no_root)
{
    LeafHash hash = { { 1 } }, root;

    for (guint given = 0; given < 5; given++) {
        g_autoptr (GError) error = NULL;
        g_autoptr (Tree) tree = tree_new (3 * LEAF_SIZE, NULL);
        for (guint i = 0; i < given; i++)
            tree_add (tree, &hash, 1);
        ck_assert (tree_root (tree, &root, &error) == (given == 3));
        ck_assert ((error == NULL) == (given == 3));
    }
}
END_TEST

START_TEST (a_tree_of_eight_tebibytes_of_zeros_costs_its_logarithm)
{
    guint64 size = G_GUINT64_CONSTANT (8) << 40;
    g_autoptr (Hasher) hasher = hasher_new (NULL);
    g_autoptr (Tree) one = tree_new (size, NULL), two = tree_new (size, NULL);
    const LeafHash *zero = hasher_zero_leaf (hasher, LEAF_SIZE);
    LeafHash a, b;

    tree_add (one, zero, leaf_count (size));
    tree_add (two, zero, 12345);
    tree_add (two, zero, leaf_count (size) - 12345);
    ck_assert (tree_root (one, &a, NULL) && tree_root (two, &b, NULL));
    ck_assert (leaf_equal (&a, &b));
}
END_TEST

START_TEST (hex_goes_both_ways_and_anything_else_is_refused)
{
    static const char *const bad[] = { "", "00", NULL };
    char hex[LEAF_HEX_SIZE];
    LeafHash hash = { { 0 } }, again;

    for (guint i = 0; i < sizeof hash.bytes; i++)
        hash.bytes[i] = i * 9;
    leaf_to_hex (&hash, hex);
    ck_assert (leaf_from_hex (hex, &again) && leaf_equal (&hash, &again));
    for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
        ck_assert (!leaf_from_hex (bad[i], &again));
    hex[5] = 'G';
    ck_assert (!leaf_from_hex (hex, &again));
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("tree");
    TCase *tcase = tcase_create ("tree");

    tcase_add_loop_test (tcase, the_root_is_that_of_the_definition_however_leaves_come_in_runs, 0,
                         G_N_ELEMENTS (sizes));
    tcase_add_test (tcase, a_leaf_is_the_hash_of_its_bytes_behind_a_zero);
    tcase_add_test (tcase, size_and_order_change_the_root);
    tcase_add_test (tcase, a_tree_that_misses_a_leaf_or_has_one_too_many_has_no_root);
    tcase_add_test (tcase, a_tree_of_eight_tebibytes_of_zeros_costs_its_logarithm);
    tcase_add_test (tcase, hex_goes_both_ways_and_anything_else_is_refused);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
