/* Files of leaves and views of chains, against a plain array that models the disk. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "mover/leaves.h"
#include "util/files.h"

enum { LAYERS = 6, LEAVES_MAX = 3000 };

static char *dir;

static void setup (void)
{
    dir = g_dir_make_tmp ("libbackup-leaves-XXXXXX", NULL);
    ck_assert_ptr_nonnull (dir);
}

static void teardown (void)
{
    files_remove_tree (dir);
    g_clear_pointer (&dir, g_free);
}

static LeafHash hash_of (guint value)
{
    LeafHash hash = { { value, value >> 8, 77 } };
    return hash;
}

static char *path_of (guint layer)
{
    return g_strdup_printf ("%s/%u.leaves", dir, layer);
}

/* What each leaf of the model holds; 0: a hole in the chain. */
typedef struct {
    guint64 size, count;
    guint values[LEAVES_MAX];
} Model;

static void write_layer (GRand *rand, guint layer, guint64 size, Model *model, guint density)
{
    g_autofree char *path = path_of (layer);
    g_autoptr (GError) error = NULL;
    g_autoptr (LeavesWriter) writer = leaves_writer_new (path, size, &error);
    guint64 added = 0;

    ck_assert_msg (writer != NULL, "%s", error ? error->message : "");
    model->size = size;
    model->count = leaf_count (size);
    for (guint64 i = 0, run; i < model->count; i += run) {
        run = 1 + g_rand_int_range (rand, 0, MIN (model->count - i, 40));
        if (g_rand_int_range (rand, 0, 100) >= (gint) density)
            continue;
        guint value = 1 + g_rand_int_range (rand, 0, 5);
        LeafHash hash = hash_of (value);
        ck_assert (leaves_writer_add (writer, i, run, &hash, &error));
        added += run;
        for (guint64 k = 0; k < run; k++)
            model->values[i + k] = value;
    }
    ck_assert_uint_eq (leaves_writer_count (writer), added);
    ck_assert_msg (leaves_writer_finish (writer, &error), "%s", error ? error->message : "");
    ck_assert_msg (leaves_check (path, size, &error), "%s", error ? error->message : "");
}

static LeavesView *open_view (guint layers, guint64 size)
{
    g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GError) error = NULL;

    for (guint i = layers; i-- > 0;)
        g_ptr_array_add (paths, path_of (i));
    g_ptr_array_add (paths, NULL);
    LeavesView *view = leaves_view_open ((const char *const *) paths->pdata, size, NULL, &error);
    ck_assert_msg (view != NULL, "%s", error ? error->message : "");
    return view;
}

static void check_leaf (LeavesView *view, const Model *model, guint64 index)
{
    g_autoptr (GError) error = NULL;
    LeafRun run;

    ck_assert_msg (leaves_view_get (view, index, &run, &error), "%s", error ? error->message : "");
    ck_assert (run.known && run.count > 0 && run.index == index);
    ck_assert_uint_le (index + run.count, model->count);
    for (guint64 i = 0; i < run.count; i++) {
        LeafHash expected = hash_of (model->values[index + i]);
        ck_assert (leaf_equal (&run.hash, &expected));
    }
}

/* As a writer leaves it that dies: without a header, ended anywhere. */
static void cut (const char *path, guint64 length)
{
    static const char nothing[LEAVES_HEADER_SIZE];
    int fd = open (path, O_WRONLY);

    ck_assert (fd >= 0 && pwrite (fd, nothing, sizeof nothing, 0) == sizeof nothing);
    ck_assert_int_eq (ftruncate (fd, length), 0);
    close (fd);
}

static void go_on (const char *path, const Model *model, guint64 end)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (LeavesWriter) writer = leaves_writer_resume (path, model->size, end, &error);

    ck_assert_msg (writer != NULL, "%s", error ? error->message : "");
    for (guint64 i = end; i < model->count; i++) {
        LeafHash hash = hash_of (model->values[i]);
        ck_assert (model->values[i] == 0 || leaves_writer_add (writer, i, 1, &hash, &error));
    }
    ck_assert_msg (leaves_writer_finish (writer, &error), "%s", error ? error->message : "");
    ck_assert_msg (leaves_check (path, model->size, &error), "%s", error ? error->message : "");
}

START_TEST (what_a_dead_writer_left_is_gone_on_with_from_any_leaf)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (500 + _i);
    guint64 size = (guint64) g_rand_int_range (rand, 1, LEAVES_MAX) * LEAF_SIZE - _i % 3;
    g_autofree Model *model = g_new0 (Model, 1), *base = g_new0 (Model, 1);
    g_autofree char *path = path_of (1);
    g_autoptr (GError) error = NULL;
    struct stat st;
    guint64 end;

    write_layer (rand, 0, size, base, 100);
    write_layer (rand, 1, size, model, 60);
    for (int again = 0; again < 3; again++) {
        ck_assert (stat (path, &st) == 0);
        if (again != 1)
            cut (path, g_rand_int_range (rand, LEAVES_HEADER_SIZE, st.st_size + 1));
        ck_assert_msg (leaves_salvage (path, size, &end, &error), "%s",
                       error ? error->message : "");
        ck_assert_uint_le (end, model->count);
        ck_assert_msg (leaves_check (path, size, &error), "%s", error ? error->message : "");
    }
    go_on (path, model, end ? g_rand_int_range (rand, 0, end + 1) : 0);
    for (guint64 i = 0; i < model->count; i++)
        base->values[i] = model->values[i] ? model->values[i] : base->values[i];
    g_autoptr (LeavesView) view = open_view (2, size);
    for (guint64 i = 0; i < base->count; i++)
        check_leaf (view, base, i);
}
END_TEST

START_TEST (a_view_of_a_chain_is_what_was_written_last_in_order_and_at_random)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (100 + _i);
    guint64 size = (guint64) g_rand_int_range (rand, 1, LEAVES_MAX) * LEAF_SIZE;
    g_autofree Model *model = g_new0 (Model, 1);
    LeafRun run;

    write_layer (rand, 0, size, model, 100);
    for (guint layer = 1; layer < LAYERS; layer++)
        write_layer (rand, layer, size, model, 15);
    g_autoptr (LeavesView) view = open_view (LAYERS, size);
    for (guint64 i = 0; i < model->count; i += run.count) {
        check_leaf (view, model, i);
        ck_assert (leaves_view_get (view, i, &run, NULL));
    }
    for (guint i = 0; i < 500; i++)
        check_leaf (view, model, g_rand_int_range (rand, 0, model->count));
}
END_TEST

START_TEST (the_root_of_a_view_is_that_of_its_leaves)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (200 + _i);
    guint64 size = (guint64) g_rand_int_range (rand, 1, 300) * LEAF_SIZE;
    g_autofree Model *model = g_new0 (Model, 1);
    g_autoptr (Tree) tree = tree_new (size, NULL);
    LeafHash root, expected;

    write_layer (rand, 0, size, model, 100);
    write_layer (rand, 1, size, model, 30);
    g_autoptr (LeavesView) view = open_view (2, size);
    for (guint64 i = 0; i < model->count; i++) {
        LeafHash hash = hash_of (model->values[i]);
        tree_add (tree, &hash, 1);
    }
    ck_assert (tree_root (tree, &expected, NULL) && leaves_view_root (view, &root, NULL));
    ck_assert (leaf_equal (&root, &expected));
}
END_TEST

START_TEST (a_gap_in_a_chain_is_refused_and_named)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (1);
    g_autofree Model *model = g_new0 (Model, 1);
    g_autoptr (GError) error = NULL;
    LeafHash root;

    write_layer (rand, 0, 500 * LEAF_SIZE, model, 50);
    g_autoptr (LeavesView) view = open_view (1, 500 * LEAF_SIZE);
    ck_assert (!leaves_view_root (view, &root, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_INEXACT);
}
END_TEST

/* Lower layers that are shorter: zeros behind their end, nothing known of their cut leaf. */
START_TEST (a_disk_that_grew_or_shrank_reads_as_its_images_do)
{
    guint64 sizes[] = { 10 * LEAF_SIZE, 5 * LEAF_SIZE + 512, 9 * LEAF_SIZE };
    g_autoptr (Hasher) hasher = hasher_new (NULL);
    LeafHash a = hash_of (1);
    LeafRun run;

    for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
        g_autofree char *path = path_of (i);
        g_autoptr (LeavesWriter) writer = leaves_writer_new (path, sizes[i], NULL);
        if (i == 0)
            ck_assert (leaves_writer_add (writer, 0, 10, &a, NULL));
        ck_assert (leaves_writer_finish (writer, NULL));
    }
    g_autoptr (LeavesView) view = open_view (G_N_ELEMENTS (sizes), sizes[2]);
    ck_assert (leaves_view_get (view, 4, &run, NULL));
    ck_assert (run.known && run.count == 1 && leaf_equal (&run.hash, &a));
    ck_assert (leaves_view_get (view, 5, &run, NULL));
    ck_assert (!run.known && run.count == 1);
    ck_assert (leaves_view_get (view, 6, &run, NULL));
    ck_assert (run.known && run.count == 3);
    ck_assert (leaf_equal (&run.hash, hasher_zero_leaf (hasher, LEAF_SIZE)));
}
END_TEST

START_TEST (long_runs_are_few_records)
{
    guint64 size = G_GUINT64_CONSTANT (8) << 40;
    g_autofree char *path = path_of (0);
    g_autoptr (LeavesWriter) writer = leaves_writer_new (path, size, NULL);
    LeafHash zero = hash_of (0);
    LeafRun run;
    struct stat st;

    ck_assert (leaves_writer_add (writer, 0, leaf_count (size), &zero, NULL));
    ck_assert (leaves_writer_finish (writer, NULL));
    ck_assert (stat (path, &st) == 0 && st.st_size < 100000);
    g_autoptr (LeavesView) view = open_view (1, size);
    ck_assert (leaves_view_get (view, leaf_count (size) - 1, &run, NULL));
    ck_assert (run.count == 1 && leaf_equal (&run.hash, &zero));
}
END_TEST

START_TEST (what_comes_out_of_turn_or_lies_outside_is_refused)
{
    g_autofree char *path = path_of (0);
    g_autoptr (LeavesWriter) writer = leaves_writer_new (path, 10 * LEAF_SIZE, NULL);
    LeafHash hash = hash_of (1);
    static const guint64 bad[][2] = { { 4, 1 }, { 0, 1 }, { 10, 1 }, { 5, 6 }, { 11, 0 } };

    ck_assert (leaves_writer_add (writer, 3, 2, &hash, NULL));
    for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
        g_autoptr (GError) error = NULL;
        ck_assert (!leaves_writer_add (writer, bad[i][0], bad[i][1], &hash, &error));
        ck_assert_ptr_nonnull (error);
    }
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (leaves_writer_new (path, 10, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_EXISTS);
}
END_TEST

/* Each byte of a small file is changed, each length is cut: never good, never a crash. */
START_TEST (any_changed_byte_and_any_cut_is_found)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (3);
    g_autofree Model *model = g_new0 (Model, 1);
    guint64 size = 200 * LEAF_SIZE;
    g_autofree char *path = path_of (0), *data = NULL;
    gsize length;

    write_layer (rand, 0, size, model, 100);
    ck_assert (g_file_get_contents (path, &data, &length, NULL));
    for (gsize at = 0; at < length; at++) {
        data[at] ^= 1 << at % 8;
        ck_assert (
            g_file_set_contents_full (path, data, length, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
        ck_assert (!leaves_check (path, size, NULL));
        data[at] ^= 1 << at % 8;
    }
    for (gsize cut = 0; cut < length; cut++) {
        ck_assert (
            g_file_set_contents_full (path, data, cut, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
        ck_assert (!leaves_check (path, size, NULL));
    }
}
END_TEST

START_TEST (a_set_of_leaves_tells_its_runs)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (4 + _i);
    guint64 count = g_rand_int_range (rand, 1, 500);
    g_autoptr (LeafSet) set = leaf_set_new (count * LEAF_SIZE);
    gboolean model[500] = { FALSE };
    guint64 members = 0, index, run, at = 0;

    for (guint i = 0; i < 20; i++) {
        guint64 first = g_rand_int_range (rand, 0, count);
        guint64 length = g_rand_int_range (rand, 0, MIN (count - first, 80) + 1);
        leaf_set_add (set, first, length);
        for (guint64 k = 0; k < length; k++)
            model[first + k] = TRUE;
    }
    for (guint64 i = 0; i < count; i++) {
        ck_assert_int_eq (leaf_set_has (set, i), model[i]);
        members += model[i];
    }
    ck_assert_uint_eq (leaf_set_count (set), members);
    for (; leaf_set_next (set, at, &index, &run); at = index + run) {
        for (; at < index; at++)
            ck_assert (!model[at]);
        for (guint64 k = 0; k < run; k++)
            ck_assert (model[index + k]);
        members -= run;
    }
    ck_assert_uint_eq (members, 0);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("leaves");
    TCase *tcase = tcase_create ("leaves");

    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 60);
    tcase_add_loop_test (tcase, a_view_of_a_chain_is_what_was_written_last_in_order_and_at_random,
                         0, 20);
    tcase_add_loop_test (tcase, the_root_of_a_view_is_that_of_its_leaves, 0, 10);
    tcase_add_loop_test (tcase, what_a_dead_writer_left_is_gone_on_with_from_any_leaf, 0, 30);
    tcase_add_test (tcase, a_gap_in_a_chain_is_refused_and_named);
    tcase_add_test (tcase, a_disk_that_grew_or_shrank_reads_as_its_images_do);
    tcase_add_test (tcase, long_runs_are_few_records);
    tcase_add_test (tcase, what_comes_out_of_turn_or_lies_outside_is_refused);
    tcase_add_test (tcase, any_changed_byte_and_any_cut_is_found);
    tcase_add_loop_test (tcase, a_set_of_leaves_tells_its_runs, 0, 20);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
