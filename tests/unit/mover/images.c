/* The mover between images that a storage daemon serves; what comes out is read by qemu-img. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "mover/mover.h"
#include "mover/storage.h"
#include "util/files.h"
#include "util/image_tool.h"

static char *dir;

static void setup (void)
{
    dir = g_dir_make_tmp ("libbackup-mover-XXXXXX", NULL);
    ck_assert_ptr_nonnull (dir);
}

static void teardown (void)
{
    files_remove_tree (dir);
    g_clear_pointer (&dir, g_free);
}

static char *in_dir (const char *name)
{
    return g_build_filename (dir, name, NULL);
}

#define OK(expression)                                                                             \
    do {                                                                                           \
        g_autoptr (GError) error = NULL;                                                           \
        gboolean done = (expression);                                                              \
        ck_assert_msg (done, "%s", error ? error->message : #expression);                          \
    } while (0)

/* A raw file with data, data that is zero, and holes, some of them smaller than a leaf. */
static guchar *make_raw (const char *path, guint64 size, guint seed)
{
    g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
    guchar *bytes = g_malloc0 (size);
    int fd = g_open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert (fd >= 0 && ftruncate (fd, size) == 0);
    for (guint i = 0; i < 60; i++) {
        guint64 at = (guint64) g_rand_int_range (rand, 0, size / 512) * 512;
        guint64 length =
            512 * (1 + (guint64) g_rand_int_range (rand, 0, MIN ((size - at) / 512, 600)));
        guchar byte = i % 6 == 0 ? 0 : g_rand_int (rand);
        for (guint64 k = 0; k < length; k++)
            bytes[at + k] = byte ? byte + k / 512 : 0;
        ck_assert (pwrite (fd, bytes + at, length, at) == (ssize_t) length);
    }
    close (fd);
    return bytes;
}

static MoverSource source_of (Storage *storage, const char *name, guint64 size)
{
    MoverSource source = {
        .target = "vda", .fd = storage_connect (storage), .export_name = name, .size = size
    };
    ck_assert_int_ge (source.fd, 0);
    return source;
}

static Storage *serve (const char *file, const char *format)
{
    g_autoptr (GError) error = NULL;
    StorageLayer layer = { file, format };
    StorageImage image = { .name = "a,b c", .layers = &layer, .n_layers = 1 };
    Storage *storage = storage_start (&image, 1, 4, &error);

    ck_assert_msg (storage != NULL, "%s", error ? error->message : "");
    return storage;
}

static void assert_reads_as (const char *file, const char *format, const guchar *bytes,
                             guint64 size)
{
    g_autofree char *out = in_dir ("compare.raw"), *data = NULL;
    const char *args[] = { "convert", "-f", format, "-O", "raw", file, out, NULL };
    gsize length;

    OK (image_tool (args, NULL, &error));
    OK (g_file_get_contents (out, &data, &length, &error));
    ck_assert_uint_eq (length, size);
    ck_assert (memcmp (data, bytes, size) == 0);
}

static LeafHash root_of (const guchar *bytes, guint64 size)
{
    g_autoptr (Hasher) hasher = hasher_new (NULL);
    g_autoptr (Tree) tree = tree_new (size, NULL);
    LeafHash hash, root;

    for (guint64 i = 0; i < leaf_count (size); i++) {
        hasher_leaf (hasher, bytes + i * LEAF_SIZE, leaf_length (size, i), &hash);
        tree_add (tree, &hash, 1);
    }
    ck_assert (tree_root (tree, &root, NULL));
    return root;
}

static const guint64 sizes[] = { 8 << 20, (8 << 20) + 512, (8 << 20) - 512, 512, 65536, 1 << 20 };

/* Moves raw into qcow2 image `name`, and checks bytes and root. */
static void move (const char *from, const guchar *bytes, guint64 size, const char *name,
                  const char *compression, MoverResult *ret)
{
    g_autofree char *image = in_dir (name), *file = g_strconcat (image, ".leaves", NULL);
    StorageLayer layers[] = { { from, "raw" }, { image, "qcow2" } };
    StorageImage images[] = { { .name = "from", .layers = &layers[0], .n_layers = 1 },
                              { .name = "to",
                                .layers = &layers[1],
                                .n_layers = 1,
                                .writable = TRUE,
                                .compress = compression != NULL,
                                .size = size } };
    g_autoptr (Storage) storage = NULL;
    g_autoptr (Sink) sink = NULL;
    g_autoptr (LeavesWriter) leaves = NULL;
    LeafHash root = root_of (bytes, size);

    OK (storage_create_image (image, size, NULL, compression, NULL, &error));
    OK ((storage = storage_start (images, 2, 2, &error)) != NULL);
    MoverSource source = source_of (storage, "from", size);
    OK ((sink = sink_nbd_new (storage_connect (storage), "to", size, 0, &error)) != NULL);
    OK ((leaves = leaves_writer_new (file, size, &error)) != NULL);
    MoverOptions options = { .leaves = leaves };
    OK (mover_run (&source, &options, sink, ret, &error));
    OK (leaves_writer_finish (leaves, &error));
    OK (storage_stop (storage, &error));
    ck_assert (ret->has_root && leaf_equal (&ret->root, &root));
    assert_reads_as (image, "qcow2", bytes, size);
}

static LeavesView *view_of (const char *name, guint64 size)
{
    g_autofree char *file = g_strdup_printf ("%s/%s.leaves", dir, name);
    const char *paths[] = { file, NULL };
    LeavesView *view = NULL;

    OK ((view = leaves_view_open (paths, size, NULL, &error)) != NULL);
    return view;
}

START_TEST (a_disk_moves_into_a_qcow2_image_with_its_root)
{
    guint64 size = sizes[_i];
    g_autofree char *from = in_dir ("from.raw");
    g_autofree guchar *bytes = make_raw (from, size, 10 + _i);
    MoverResult result;
    LeafHash root;

    move (from, bytes, size, "plain.qcow2", NULL, &result);
    ck_assert_uint_eq (result.looked, size);
    ck_assert_uint_eq (result.read + result.zeroed, size);
    g_autoptr (LeavesView) view = view_of ("plain.qcow2", size);
    OK (leaves_view_root (view, &root, &error));
    ck_assert (leaf_equal (&root, &result.root));
    move (from, bytes, size, "zstd.qcow2", "zstd", &result);
}
END_TEST

START_TEST (zeros_over_a_backing_file_with_data_stay_zeros)
{
    guint64 size = 4 << 20;
    g_autofree char *base = in_dir ("base.raw"), *from = in_dir ("zero.raw");
    g_autofree char *old = in_dir ("old.qcow2"), *new = in_dir ("new.qcow2");
    g_autofree guchar *bytes = make_raw (base, size, 5), *zeros = g_malloc0 (size);
    MoverResult result;

    move (base, bytes, size, "old.qcow2", NULL, &result);
    int fd = g_open (from, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert (fd >= 0 && ftruncate (fd, size) == 0 && close (fd) == 0);
    OK (storage_create_image (new, size, "old.qcow2", NULL, NULL, &error));
    StorageLayer layers[] = { { from, "raw" }, { new, "qcow2" } };
    StorageImage images[] = {
        { .name = "from", .layers = &layers[0], .n_layers = 1 },
        { .name = "to", .layers = &layers[1], .n_layers = 1, .writable = TRUE }
    };
    g_autoptr (Storage) storage = NULL;
    g_autoptr (Sink) sink = NULL;
    OK ((storage = storage_start (images, 2, 2, &error)) != NULL);
    MoverSource source = source_of (storage, "from", size);
    OK ((sink = sink_nbd_new (storage_connect (storage), "to", size, 0, &error)) != NULL);
    OK (mover_run (&source, &(MoverOptions){ 0 }, sink, &result, &error));
    OK (storage_stop (storage, &error));
    ck_assert_uint_eq (result.read, 0);
    assert_reads_as (new, "qcow2", zeros, size);
    assert_reads_as (old, "qcow2", bytes, size);
}
END_TEST

/* Many disks on long chains are more files than the limit that a session starts with. */
START_TEST (a_chain_longer_than_the_limit_of_open_files_is_opened)
{
    enum { LAYERS = 40, FILES = 32 };
    g_autoptr (GPtrArray) files = g_ptr_array_new_with_free_func (g_free);
    StorageLayer layers[LAYERS];
    struct rlimit before, low;

    for (guint i = 0; i < LAYERS; i++) {
        g_autofree char *name = g_strdup_printf ("layer-%u.qcow2", i);
        g_ptr_array_add (files, in_dir (name));
        layers[i] = (StorageLayer){ files->pdata[i], "qcow2" };
        OK (storage_create_image (layers[i].file, 1 << 20, i ? "below" : NULL, NULL, NULL, &error));
    }
    layers[LAYERS - 1].format = "raw"; /* whatever: it is only opened */
    StorageImage image = { .name = "disk", .layers = layers, .n_layers = LAYERS };
    ck_assert_int_eq (getrlimit (RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = FILES;
    ck_assert_int_eq (setrlimit (RLIMIT_NOFILE, &low), 0);
    g_autoptr (GError) why = NULL;
    g_autoptr (Storage) storage = storage_start (&image, 1, 1, &why);
    setrlimit (RLIMIT_NOFILE, &before);
    ck_assert_msg (storage != NULL, "%s", why ? why->message : "");
    OK (storage_stop (storage, &error));
}
END_TEST

/* Differences at some leaves: proved, reported, skipped when equal. */
START_TEST (only_what_differs_from_a_view_is_passed_on)
{
    guint64 size = (4 << 20) + 1536;
    g_autofree char *one = in_dir ("one.raw"), *two = in_dir ("two.raw");
    g_autofree guchar *bytes = make_raw (one, size, 6);
    static const guint64 changed[] = { 0, 3 * LEAF_SIZE + 5, 20 * LEAF_SIZE, (4 << 20) + 1000 };
    MoverResult result;

    move (one, bytes, size, "one.qcow2", NULL, &result);
    for (guint i = 0; i < G_N_ELEMENTS (changed); i++)
        bytes[changed[i]] ^= 0x55;
    OK (g_file_set_contents (two, (char *) bytes, size, &error));
    g_autofree char *out = in_dir ("one-again.raw");
    const char *args[] = { "convert", "-f", "raw", "-O", "raw", one, out, NULL };
    OK (image_tool (args, NULL, &error));
    int fd = g_open (out, O_RDWR | O_CLOEXEC, 0);
    g_autoptr (Sink) sink = sink_raw_new (fd, size, FALSE);
    g_autoptr (Storage) storage = serve (two, "raw");
    g_autoptr (LeavesView) view = view_of ("one.qcow2", size);
    MoverSource source = source_of (storage, "a,b c", size);
    MoverOptions options = { .view = view, .check = MOVER_CHECK_SKIP_EQUAL };
    OK (mover_run (&source, &options, sink, &result, &error));
    ck_assert_uint_eq (result.differed, 3 * LEAF_SIZE + 1536);
    assert_reads_as (out, "raw", bytes, size);
    close (fd);

    g_autoptr (GError) error = NULL;
    options.check = MOVER_CHECK_PROVE;
    source = source_of (storage, "a,b c", size);
    ck_assert (!mover_run (&source, &options, NULL, &result, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_INEXACT);
    ck_assert_msg (strstr (error->message, "disk 'vda': bytes 0 to 65536 "), "%s", error->message);
    storage_stop (storage, NULL);
}
END_TEST

static gboolean collect (MoverChunk *chunk, gpointer data, GError **error)
{
    LeafSet *set = data;
    leaf_set_add (set, chunk->leaf, chunk->count);
    return TRUE;
}

START_TEST (a_set_of_leaves_is_read_and_nothing_else)
{
    guint64 size = 8 << 20, index, run;
    g_autofree char *file = in_dir ("from.raw");
    g_autofree guchar *bytes = make_raw (file, size, 7);
    g_autoptr (Storage) storage = serve (file, "raw");
    g_autoptr (LeafSet) only = leaf_set_new (size), got = leaf_set_new (size);
    g_autoptr (Sink) sink = sink_callback_new (collect, got);
    MoverSource source = source_of (storage, "a,b c", size);
    MoverOptions options = { .only = only };
    MoverResult result;

    leaf_set_add (only, 1, 1);
    leaf_set_add (only, 5, 40);
    leaf_set_add (only, 127, 1);
    OK (mover_run (&source, &options, sink, &result, &error));
    ck_assert (!result.has_root);
    ck_assert_uint_eq (result.looked, 42 * LEAF_SIZE);
    ck_assert_uint_eq (leaf_set_count (got), 42);
    for (guint64 at = 0; leaf_set_next (only, at, &index, &run); at = index + run)
        for (guint64 k = 0; k < run; k++)
            ck_assert (leaf_set_has (got, index + k));
}
END_TEST

START_TEST (a_sink_that_fails_ends_it_with_its_reason)
{
    guint64 size = 8 << 20;
    g_autofree char *file = in_dir ("from.raw");
    g_autofree guchar *bytes = make_raw (file, size, 8);
    g_autoptr (Storage) storage = serve (file, "raw");
    int fd = g_open ("/dev/full", O_RDWR | O_CLOEXEC, 0);
    g_autoptr (Sink) sink = sink_raw_new (fd, size, TRUE);
    g_autoptr (GError) error = NULL;
    MoverSource source = source_of (storage, "a,b c", size);

    ck_assert (!mover_run (&source, &(MoverOptions){ 0 }, sink, NULL, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_NO_SPACE);
    ck_assert_msg (g_str_has_prefix (error->message, "disk 'vda': "), "%s", error->message);
    close (fd);
}
END_TEST

static gboolean cancel_at_once (MoverChunk *chunk, gpointer data, GError **error)
{
    mover_control_cancel (data);
    return TRUE;
}

/* The limit would take hours: only a cancellation that is heard ends this test. */
START_TEST (it_is_cancelled_while_the_limit_holds_it)
{
    guint64 size = 8 << 20;
    g_autofree char *file = in_dir ("from.raw");
    g_autofree guchar *bytes = make_raw (file, size, 9);
    g_autoptr (Storage) storage = serve (file, "raw");
    g_autoptr (MoverControl) control = mover_control_new ();
    g_autoptr (Sink) sink = sink_callback_new (cancel_at_once, control);
    g_autoptr (GError) error = NULL;
    MoverSource source = source_of (storage, "a,b c", size);
    MoverOptions options = { .control = control };

    mover_control_set_limit (control, 100);
    ck_assert (!mover_run (&source, &options, sink, NULL, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_ABORTED);
}
END_TEST

START_TEST (an_image_that_is_no_image_is_said_at_the_start)
{
    g_autofree char *file = in_dir ("not.qcow2");
    StorageLayer layer = { file, "qcow2" };
    StorageImage image = { .name = "x", .layers = &layer, .n_layers = 1 };
    g_autoptr (GError) error = NULL;

    OK (g_file_set_contents (file, "hello", -1, &error));
    ck_assert_ptr_null (storage_start (&image, 1, 1, &error));
    ck_assert_msg (strstr (error->message, "qcow2"), "%s", error->message);
}
END_TEST

START_TEST (an_image_that_is_there_is_not_made_again)
{
    g_autofree char *file = in_dir ("a:b,c.qcow2");
    g_autoptr (GError) error = NULL;

    OK (storage_create_image (file, 1 << 20, NULL, NULL, NULL, &error));
    ck_assert (!storage_create_image (file, 1 << 20, NULL, NULL, NULL, &error));
    ck_assert_int_eq (error_code (error), BAK_ERROR_EXISTS);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("images");
    TCase *tcase = tcase_create ("images");

    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 90);
    tcase_add_loop_test (tcase, a_disk_moves_into_a_qcow2_image_with_its_root, 0,
                         G_N_ELEMENTS (sizes));
    tcase_add_test (tcase, zeros_over_a_backing_file_with_data_stay_zeros);
    tcase_add_test (tcase, a_chain_longer_than_the_limit_of_open_files_is_opened);
    tcase_add_test (tcase, only_what_differs_from_a_view_is_passed_on);
    tcase_add_test (tcase, a_set_of_leaves_is_read_and_nothing_else);
    tcase_add_test (tcase, a_sink_that_fails_ends_it_with_its_reason);
    tcase_add_test (tcase, it_is_cancelled_while_the_limit_holds_it);
    tcase_add_test (tcase, an_image_that_is_no_image_is_said_at_the_start);
    tcase_add_test (tcase, an_image_that_is_there_is_not_made_again);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
