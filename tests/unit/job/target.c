/* A target that somebody cut while it was written: seen by its gap, or by its end. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "job/target.h"

enum { PIECE = 65536, PIECES = 8 };

typedef struct {
    const char *name;
    const char *written; /* by pieces, in order: their numbers; 'x': cut to one piece */
    gboolean whole;
} Case;

static const Case cases[] = {
    { "from end to end", "01234567", TRUE },
    { "in any order", "73154206", TRUE },
    { "cut and written on", "0123x4567", FALSE },
    { "cut at the end", "01234567x7", FALSE },
    { "never written in the middle", "0124567", FALSE },
};

static gboolean file_systems_tell (const char *folder)
{
    g_autofree char *path = g_build_filename (folder, "probe", NULL);
    int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert (fd >= 0 && ftruncate (fd, (off_t) PIECE * PIECES) == 0);
    close (fd);
    gboolean told = !target_is_whole (path, PIECE, NULL);
    g_unlink (path);
    return told;
}

static void write_case (const Case *row, const char *path)
{
    static char piece[PIECE];
    int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert (fd >= 0);
    memset (piece, 7, sizeof piece);
    for (const char *at = row->written; *at; at++)
        if (*at == 'x')
            ck_assert (ftruncate (fd, PIECE) == 0);
        else
            ck_assert (pwrite (fd, piece, PIECE, (off_t) PIECE * (*at - '0')) == PIECE);
    close (fd);
}

START_TEST (a_gap_is_seen_and_what_has_none_is_whole)
{
    g_autofree char *folder = g_dir_make_tmp ("bak-target-XXXXXX", NULL),
                    *path = g_build_filename (folder, "file", NULL);
    if (file_systems_tell (folder)) {
        write_case (&cases[_i], path);
        ck_assert_msg (target_is_whole (path, PIECE, NULL) == cases[_i].whole, "%s",
                       cases[_i].name);
    }
    g_unlink (path);
    g_rmdir (folder);
}
END_TEST

START_TEST (a_file_reaches_as_far_as_it_was_written)
{
    g_autofree char *folder = g_dir_make_tmp ("bak-target-XXXXXX", NULL),
                    *path = g_build_filename (folder, "file", NULL);
    write_case (&cases[0], path);
    ck_assert (target_reaches (path, PIECE * PIECES, NULL));
    ck_assert (target_reaches (path, 0, NULL));
    ck_assert (!target_reaches (path, PIECE * PIECES + 1, NULL));
    ck_assert (target_reaches ("/dev/zero", PIECE, NULL));
    g_unlink (path);
    g_rmdir (folder);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("target");
    TCase *tcase = tcase_create ("file");

    tcase_add_loop_test (tcase, a_gap_is_seen_and_what_has_none_is_whole, 0, G_N_ELEMENTS (cases));
    tcase_add_test (tcase, a_file_reaches_as_far_as_it_was_written);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
