/* <domaincheckpoint>, text to structs and back. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "conf/checkpoint_def.h"
#include "rows.h"
#include "util/error.h"

START_TEST (a_document_is_accepted_or_refused_with_a_reason)
{
    const Row *row = &checkpoint_rows[_i];
    g_autoptr (GError) error = NULL;
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (row->xml, 0, &error);

    if (row->error) {
        ck_assert_msg (!def, "%s: accepted", row->name);
        ck_assert_msg (strstr (error->message, row->error) != NULL, "%s: said: %s", row->name,
                       error->message);
        ck_assert_int_eq (error_code (error), BAK_ERROR_XML);
    } else {
        ck_assert_msg (def != NULL, "%s: refused: %s", row->name, error ? error->message : "?");
        ck_assert_msg (!def->parent && def->creation_time == 0 && !def->domain_name,
                       "%s: history is for redefining", row->name);
    }
}
END_TEST

static void check_round (const CheckpointDef *def, CheckpointParseFlags flags)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *first = checkpoint_def_format (def, NULL, 0);
    g_autoptr (CheckpointDef) again = checkpoint_def_parse (first, flags, &error);
    ck_assert_msg (again != NULL, "%s: %s", error ? error->message : "?", first);
    g_autofree char *second = checkpoint_def_format (again, NULL, 0);
    ck_assert_str_eq (first, second);
    g_autoptr (CheckpointDef) copy = checkpoint_def_copy (def);
    g_autofree char *third = checkpoint_def_format (copy, NULL, 0);
    ck_assert_str_eq (first, third);
}

START_TEST (what_was_accepted_is_written_so_that_it_is_read_again_as_the_same)
{
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (checkpoint_rows[_i].xml, 0, NULL);

    if (def)
        check_round (def, 0);
}
END_TEST

#define FULL                                                                                       \
    "<domaincheckpoint><name>c1</name><description>a\n&lt;b&gt; "                                  \
    "'c'</description><parent><name>c0</name></parent>"                                            \
    "<creationTime>1700000000</creationTime><disks><disk name='vda' checkpoint='bitmap' "          \
    "bitmap='c1' size='77' persistent='no' granularity='64K'/>"                                    \
    "<disk name='/img/b' checkpoint='no'/><disk name='vdc'><bitmap "                               \
    "granularity='512'/></disk></disks>"                                                           \
    "<domain "                                                                                     \
    "type='kvm'><name>web</name><uuid>0A81F5B2-8403-7B23-C8D6-21CCC2F80D6F</uuid><devices/></"     \
    "domain></domaincheckpoint>"

START_TEST (redefining_keeps_the_history)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (FULL, CHECKPOINT_PARSE_REDEFINE, &error);

    ck_assert_msg (def != NULL, "%s", error ? error->message : "?");
    ck_assert_str_eq (def->name, "c1");
    ck_assert_str_eq (def->description, "a\n<b> 'c'");
    ck_assert_str_eq (def->parent, "c0");
    ck_assert_int_eq (def->creation_time, 1700000000);
    ck_assert_str_eq (def->domain_name, "web");
    ck_assert_str_eq (def->domain_uuid, "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f");
    const CheckpointDiskDef *a = def->disks->pdata[0], *b = def->disks->pdata[1],
                            *c = def->disks->pdata[2];
    ck_assert (def->has_disks && def->disks->len == 3);
    ck_assert (a->checkpoint == TRISTATE_YES && a->persistent == TRISTATE_NO
               && a->granularity == 65536 && !a->has_size && a->line == 3 - 1);
    ck_assert_str_eq (a->bitmap, "c1");
    ck_assert (b->checkpoint == TRISTATE_NO && c->checkpoint == TRISTATE_ABSENT
               && c->granularity == 512);
    check_round (def, CHECKPOINT_PARSE_REDEFINE);
}
END_TEST

static const Row redefined[] = {
    { "no name", "<domaincheckpoint><creationTime>1</creationTime></domaincheckpoint>",
      "line 1: <domaincheckpoint>: <name> is missing" },
    { "no time", "<domaincheckpoint><name>a</name></domaincheckpoint>",
      "<creationTime> is missing" },
    { "time 0", "<domaincheckpoint><name>a</name><creationTime>0</creationTime></domaincheckpoint>",
      "<creationTime> is missing" },
    { "its own parent",
      "<domaincheckpoint><name>a</name><creationTime>1</creationTime><parent><name>a</name></"
      "parent></domaincheckpoint>",
      "checkpoint 'a' is its own parent" },
    { "a wrong uuid",
      "<domaincheckpoint><name>a</name><creationTime>1</creationTime><domain><uuid>x</uuid></"
      "domain></domaincheckpoint>",
      "<domain>: <uuid>: text 'x': expected a UUID" },
    { "a guest without a name",
      "<domaincheckpoint><name>a</name><creationTime>1</creationTime><domain><name/></domain></"
      "domaincheckpoint>",
      "<domain>: <name>: text '': expected one line of text" },
    { "enough", "<domaincheckpoint><name>a</name><creationTime>1</creationTime><domain/></"
                "domaincheckpoint>" },
};

START_TEST (redefining_expects_more)
{
    const Row *row = &redefined[_i];
    g_autoptr (GError) error = NULL;
    g_autoptr (CheckpointDef) def =
        checkpoint_def_parse (row->xml, CHECKPOINT_PARSE_REDEFINE, &error);

    ck_assert_msg (!def == (row->error != NULL), "%s: %s", row->name,
                   error ? error->message : "accepted");
    ck_assert_msg (!row->error || strstr (error->message, row->error), "%s: said: %s", row->name,
                   error ? error->message : "?");
}
END_TEST

START_TEST (sizes_and_the_guest_are_written_on_request)
{
    g_autoptr (CheckpointDef) def = checkpoint_def_new ();
    CheckpointDiskDef *disk = checkpoint_disk_def_new ("vda");
    disk->checkpoint = TRISTATE_YES;
    disk->bitmap = g_strdup ("c1");
    disk->has_size = TRUE;
    disk->size = 65536;
    def->name = g_strdup ("c1");
    def->parent = g_strdup ("c0");
    def->creation_time = 1700000000;
    g_ptr_array_add (def->disks, disk);
    g_autofree char *plain = checkpoint_def_format (
        def, "<domain>\n  <name>web</name>\n</domain>\n", CHECKPOINT_FORMAT_NO_DOMAIN);
    g_autofree char *full = checkpoint_def_format (def, "<domain>\n  <name>web</name>\n</domain>\n",
                                                   CHECKPOINT_FORMAT_SIZE);
    ck_assert_str_eq (
        plain,
        "<domaincheckpoint>\n  <name>c1</name>\n  <parent>\n    <name>c0</name>\n  </parent>\n"
        "  <creationTime>1700000000</creationTime>\n  <disks>\n    <disk name='vda' "
        "checkpoint='bitmap' bitmap='c1'/>\n  </disks>\n"
        "</domaincheckpoint>\n");
    ck_assert_str_eq (
        full,
        "<domaincheckpoint>\n  <name>c1</name>\n  <parent>\n    <name>c0</name>\n  </parent>\n"
        "  <creationTime>1700000000</creationTime>\n  <disks>\n    <disk name='vda' "
        "checkpoint='bitmap' bitmap='c1' size='65536'/>\n  </disks>\n"
        "  <domain>\n    <name>web</name>\n  </domain>\n</domaincheckpoint>\n");
}
END_TEST

static const struct {
    const char *name;
    gboolean ok;
} names[] = {
    { "a", TRUE },      { "_", TRUE },     { "-", TRUE },      { "0.1", TRUE },
    { "backup", TRUE }, { "bak", TRUE },   { "BAK-1", TRUE },  { "", FALSE },
    { NULL, FALSE },    { ".", FALSE },    { "..", FALSE },    { "a/b", FALSE },
    { "a\nb", FALSE },  { "bak-", FALSE }, { "bak-x", FALSE }, { "\303\244", FALSE },
};

START_TEST (a_name_is_safe_as_a_file_and_as_a_bitmap)
{
    g_autoptr (GError) error = NULL;

    ck_assert_int_eq (checkpoint_name_check (names[_i].name, &error), names[_i].ok);
    ck_assert (names[_i].ok || error_code (error) == BAK_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST (everything_that_ends_takes_nothing)
{
    checkpoint_def_free (NULL);
    checkpoint_disk_def_free (NULL);
    ck_assert_ptr_null (checkpoint_def_copy (NULL));
    ck_assert_ptr_null (checkpoint_def_parse (NULL, 0, NULL));
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("domaincheckpoint");
    TCase *tcase = tcase_create ("documents");
    tcase_add_loop_test (tcase, a_document_is_accepted_or_refused_with_a_reason, 0,
                         n_checkpoint_rows);
    tcase_add_loop_test (tcase, what_was_accepted_is_written_so_that_it_is_read_again_as_the_same,
                         0, n_checkpoint_rows);
    tcase_add_test (tcase, redefining_keeps_the_history);
    tcase_add_loop_test (tcase, redefining_expects_more, 0, G_N_ELEMENTS (redefined));
    tcase_add_test (tcase, sizes_and_the_guest_are_written_on_request);
    tcase_add_loop_test (tcase, a_name_is_safe_as_a_file_and_as_a_bitmap, 0, G_N_ELEMENTS (names));
    tcase_add_test (tcase, everything_that_ends_takes_nothing);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
