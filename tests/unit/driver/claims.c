/* Whose an image is, by what it is and not by its name. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "driver/claims.h"
#include "support.h"
#include "util/files.h"
#include "util/place.h"
#include "util/way.h"

static char *dir, *guest_dir, *image;

static char *make_file (const char *name)
{
    char *path = g_build_filename (dir, name, NULL);
    ck_assert (g_file_set_contents (path, name, -1, NULL));
    return path;
}

static void setup (void)
{
    dir = g_mkdtemp (g_strdup ("/tmp/libbackup-claims-XXXXXX"));
    guest_dir = g_build_filename (dir, "guests", "web", NULL);
    ck_assert (files_make_dir (guest_dir, 0700, NULL));
    g_autofree char *definition = g_build_filename (guest_dir, "guest.json", NULL);
    ck_assert (g_file_set_contents (definition,
                                    "{\"version\":1,\"name\":\"web\",\"uuid\":"
                                    "\"6695eb01-f6a4-8304-79aa-97f2502e193f\",\"qmp\":\"/q\"}",
                                    -1, NULL));
    image = make_file ("image");
}

static void teardown (void)
{
    files_remove_tree (dir);
    g_free (dir);
    g_free (guest_dir);
    g_free (image);
}

static void publish (const char *file)
{
    g_autoptr (Claims) claims = claims_new ();
    g_autoptr (GError) error = NULL;
    claims_add (claims, "web", file, TRUE);
    claims_add (claims, "web", "nbd://host/not-a-path", TRUE);
    ck_assert_msg (claims_publish (claims, guest_dir, &error), "%s", error ? error->message : "");
}

static void expect (const char *path, gboolean allowed)
{
    g_autoptr (GError) error = NULL;
    struct stat st;
    gboolean there = stat (path, &st) == 0;
    ck_assert_int_eq (claims_allow (dir, path, there ? &st : NULL, &error), allowed);
    if (allowed)
        return;
    ck_assert_ptr_nonnull (strstr (error->message, path));
    ck_assert_ptr_nonnull (strstr (error->message, "guest 'web'"));
}

START_TEST (test_other_names_of_an_image_are_that_image)
{
    g_autofree char *other = make_file ("other"), *soft = g_build_filename (dir, "soft", NULL),
                    *hard = g_build_filename (dir, "hard", NULL);
    publish (image);
    ck_assert_int_eq (symlink ("image", soft), 0);
    ck_assert_int_eq (link (image, hard), 0);
    int fd = open (image, O_RDONLY);
    g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d", fd);
    expect (image, FALSE);
    expect (soft, FALSE);
    expect (hard, FALSE);
    expect (proc, FALSE);
    expect (other, TRUE);
    close (fd);
}
END_TEST

START_TEST (test_a_name_that_an_image_has_is_not_free_while_it_is_away)
{
    g_autofree char *folder = g_build_filename (dir, "folder", NULL);
    publish (image);
    ck_assert_int_eq (g_unlink (image), 0);
    ck_assert_int_eq (symlink (dir, folder), 0);
    g_autofree char *by_link = g_build_filename (folder, "image", NULL),
                    *beside = g_build_filename (folder, "image2", NULL);
    expect (image, FALSE);
    expect (by_link, FALSE);
    expect (beside, TRUE);
}
END_TEST

START_TEST (test_what_a_guest_has_no_more_is_free)
{
    g_autofree char *other = make_file ("other");
    publish (image);
    publish (other);
    expect (image, TRUE);
    expect (other, FALSE);
}
END_TEST

START_TEST (test_a_damaged_list_hides_only_itself)
{
    g_autofree char *list = g_build_filename (guest_dir, "claims.json", NULL);
    static const char *const texts[] = { "", "{", "[]", "{\"web\":1}",
                                         "{\"web\":{\"files\":[1]}}" };
    for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
        ck_assert (g_file_set_contents (list, texts[i], -1, NULL));
        expect (image, TRUE);
    }
}
END_TEST

START_TEST (test_two_files_of_one_file_system_do_not_overlap)
{
    g_autofree char *other = make_file ("other");
    struct stat a, b;
    ck_assert_int_eq (stat (image, &a), 0);
    ck_assert_int_eq (stat (other, &b), 0);
    ck_assert (place_overlaps (&a, &a));
    ck_assert (!place_overlaps (&a, &b));
    /* the device that both lie on, where that is one */
    const struct stat device = { .st_mode = S_IFBLK, .st_rdev = a.st_dev };
    ck_assert (place_overlaps (&a, &device));
    ck_assert (place_overlaps (&device, &b));
}
END_TEST

typedef struct {
    int mode; /* of the directory */
    uid_t dir, file;
    gboolean link, loose;
} Way;

static const Way ways[] = {
    { 0700, 0, 0, FALSE, FALSE },     { 0755, 65534, 0, FALSE, TRUE },
    { 0755, 1234, 0, FALSE, FALSE }, /* QEMU's user */
    { 0777, 0, 0, FALSE, TRUE },      { 01777, 0, 0, FALSE, FALSE },
    { 01777, 0, 65534, FALSE, TRUE }, { 0755, 0, 65534, FALSE, FALSE },
    { 0755, 65534, 0, TRUE, TRUE },   { 0700, 0, 0, TRUE, FALSE },
};

/* A directory, a file in it, and a link to them from one that is ours alone. */
START_TEST (test_a_way_is_whose_directories_it_goes_through)
{
    const Way *way = &ways[_i];
    g_autofree char *way_dir = g_build_filename (dir, "way", NULL),
                    *file = g_build_filename (way_dir, "file", NULL),
                    *link = g_build_filename (dir, "link", NULL),
                    *by_link = g_build_filename (link, "file", NULL);
    if (geteuid () != 0)
        return; /* only root can give files away */
    ck_assert_int_eq (g_mkdir (way_dir, 0700), 0);
    ck_assert (g_file_set_contents (file, "", 0, NULL));
    ck_assert_int_eq (symlink (way_dir, link), 0);
    ck_assert_int_eq (chown (file, way->file, 0), 0);
    ck_assert_int_eq (chown (way_dir, way->dir, 0), 0);
    ck_assert_int_eq (g_chmod (way_dir, way->mode), 0);
    g_autofree char *found = way_others_change (way->link ? by_link : file, 1234);
    ck_assert_int_eq (found != NULL, way->loose);
    ck_assert_int_eq (g_unlink (file) | g_unlink (link) | g_rmdir (way_dir), 0);
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("claims");
    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_add_test (tcase, test_other_names_of_an_image_are_that_image);
    tcase_add_test (tcase, test_a_name_that_an_image_has_is_not_free_while_it_is_away);
    tcase_add_test (tcase, test_what_a_guest_has_no_more_is_free);
    tcase_add_test (tcase, test_a_damaged_list_hides_only_itself);
    tcase_add_test (tcase, test_two_files_of_one_file_system_do_not_overlap);
    tcase_add_loop_test (tcase, test_a_way_is_whose_directories_it_goes_through, 0,
                         G_N_ELEMENTS (ways));
    return run_tcase (tcase);
}
