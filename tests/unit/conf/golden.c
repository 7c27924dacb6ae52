/* Documents as people write them (NAME.xml) and as we write them (NAME.out.xml), both ways.
 * LIBBACKUP_GOLDEN=write writes the second anew; look at the difference before it is committed. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"

static GPtrArray *names;

static char *path_of (const char *name, const char *suffix)
{
    return g_strconcat (GOLDEN, "/", name, suffix, NULL);
}

static char *read_file (const char *path)
{
    g_autoptr (GError) error = NULL;
    char *text = NULL;
    ck_assert_msg (g_file_get_contents (path, &text, NULL, &error), "%s",
                   error ? error->message : "?");
    return text;
}

static char *convert_backup (const char *xml, GError **error)
{
    g_autoptr (BackupDef) def = backup_def_parse (xml, error);
    return def ? backup_def_format (def) : NULL;
}

static char *convert_checkpoint (const char *xml, GError **error)
{
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (xml, CHECKPOINT_PARSE_REDEFINE, error);
    return def ? checkpoint_def_format (def, NULL, 0) : NULL;
}

START_TEST (a_document_is_written_as_it_was_agreed)
{
    const char *name = names->pdata[_i];
    g_autoptr (GError) error = NULL;
    char *(*convert) (const char *, GError **) =
        g_str_has_prefix (name, "checkpoint-") ? convert_checkpoint : convert_backup;
    g_autofree char *in_path = path_of (name, ".xml"), *out_path = path_of (name, ".out.xml");
    g_autofree char *in = read_file (in_path);
    g_autofree char *out = convert (in, &error);

    ck_assert_msg (out != NULL, "%s: %s", name, error ? error->message : "?");
    if (g_strcmp0 (g_getenv ("LIBBACKUP_GOLDEN"), "write") == 0)
        ck_assert (g_file_set_contents (out_path, out, -1, NULL));
    g_autofree char *expected = read_file (out_path);
    ck_assert_str_eq (out, expected);
    g_autofree char *again = convert (expected, &error);
    ck_assert_str_eq (again, expected);
}
END_TEST

static void find_names (void)
{
    g_autoptr (GDir) dir = g_dir_open (GOLDEN, 0, NULL);
    const char *file;

    names = g_ptr_array_new_with_free_func (g_free);
    while (dir && (file = g_dir_read_name (dir)))
        if (g_str_has_suffix (file, ".xml") && !g_str_has_suffix (file, ".out.xml"))
            g_ptr_array_add (names, g_strndup (file, strlen (file) - strlen (".xml")));
    if (names->len == 0)
        g_error ("no documents in %s", GOLDEN);
}

int main (void)
{
    find_names ();
    Suite *suite = suite_create ("golden documents");
    TCase *tcase = tcase_create ("documents");
    tcase_add_loop_test (tcase, a_document_is_written_as_it_was_agreed, 0, names->len);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    g_ptr_array_unref (names);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
