/* <domainbackup>, text to structs and back. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "conf/backup_def.h"
#include "rows.h"
#include "util/error.h"

START_TEST (a_document_is_accepted_or_refused_with_a_reason)
{
    const Row *row = &backup_rows[_i];
    g_autoptr (GError) error = NULL;
    g_autoptr (BackupDef) def = backup_def_parse (row->xml, &error);

    if (row->error) {
        ck_assert_msg (!def, "%s: accepted", row->name);
        ck_assert_msg (strstr (error->message, row->error) != NULL, "%s: said: %s", row->name,
                       error->message);
        ck_assert_int_eq (error_code (error), BAK_ERROR_XML);
    } else {
        ck_assert_msg (def != NULL, "%s: refused: %s", row->name, error ? error->message : "?");
    }
}
END_TEST

START_TEST (what_was_accepted_is_written_so_that_it_is_read_again_as_the_same)
{
    g_autoptr (BackupDef) def = backup_def_parse (backup_rows[_i].xml, NULL);
    g_autoptr (GError) error = NULL;

    if (!def)
        return;
    g_autofree char *first = backup_def_format (def);
    g_autoptr (BackupDef) again = backup_def_parse (first, &error);
    ck_assert_msg (again != NULL, "%s: %s: %s", backup_rows[_i].name, error ? error->message : "?",
                   first);
    ck_assert_int_eq (again->dialect, DIALECT_MODERN);
    g_autofree char *second = backup_def_format (again);
    ck_assert_str_eq (first, second);
    g_autoptr (BackupDef) copy = backup_def_copy (def);
    g_autofree char *third = backup_def_format (copy);
    ck_assert_str_eq (first, third);
}
END_TEST

static BackupDef *parse (const char *xml)
{
    g_autoptr (GError) error = NULL;
    BackupDef *def = backup_def_parse (xml, &error);
    ck_assert_msg (def != NULL, "%s", error ? error->message : "?");
    return def;
}

START_TEST (an_empty_document_means_the_defaults)
{
    g_autoptr (BackupDef) def = parse ("<domainbackup/>");

    ck_assert_int_eq (def->dialect, DIALECT_MODERN);
    ck_assert_int_eq (def->mode, BACKUP_MODE_PUSH);
    ck_assert (!def->has_disks && def->disks->len == 0 && !def->server && !def->incremental
               && !def->series);
    ck_assert (def->limit == 0 && def->protect == PROTECT_DEFAULT && def->cbw_timeout == 0
               && !def->scratch_dir && def->scratch_limit == 0
               && def->fallback == FALLBACK_DEFAULT);
}
END_TEST

START_TEST (every_part_of_a_push_is_kept)
{
    g_autoptr (BackupDef) def =
        parse ("<domainbackup mode='push' fallback='full'>\n<incremental>base</incremental>\n"
               "<guest protect='strict' timeout='30' scratch='/sc' scratch-limit='1G'/><limit "
               "bytes_per_sec='10M'/>\n<disks>\n"
               "<disk name='vda' backup='yes' type='block' sync='incremental' incremental='own' "
               "fallback='refuse' granularity='64K'>\n"
               "<driver type='qcow2' compression='zstd' cluster_size='128K'/><target "
               "dev='/dev/t'/><backing file='/prev'/>"
               "<scratch file='/s'/><limit bytes_per_sec='5'/></disk>\n"
               "<disk name='vdb' type='network' backupmode='full'><target protocol='nbd' name='x' "
               "tls='yes' tls-dir='/tls'><host name='h' port='7'/></target></disk>\n"
               "<disk name='vdc' backup='no'/></disks></domainbackup>");
    const BackupDiskDef *a = def->disks->pdata[0], *b = def->disks->pdata[1],
                        *c = def->disks->pdata[2];

    ck_assert_int_eq (def->fallback, FALLBACK_FULL);
    ck_assert_str_eq (def->incremental, "base");
    ck_assert_int_eq (def->protect, PROTECT_STRICT);
    ck_assert_uint_eq (def->cbw_timeout, 30);
    ck_assert_str_eq (def->scratch_dir, "/sc");
    ck_assert (def->scratch_limit == 1 << 30 && def->limit == 10 << 20 && def->has_disks);
    ck_assert_uint_eq (def->disks->len, 3);
    ck_assert_uint_eq (a->line, 5);
    ck_assert (a->backup == TRISTATE_YES && a->type == STORE_BLOCK && a->has_type
               && a->sync == SYNC_INCREMENTAL && !a->sync_spelled_mode);
    ck_assert_str_eq (a->incremental, "own");
    ck_assert (a->fallback == FALLBACK_REFUSE && a->granularity == 65536
               && a->cluster_size == 131072 && a->limit == 5);
    ck_assert_str_eq (a->format, "qcow2");
    ck_assert_str_eq (a->compression, "zstd");
    ck_assert_str_eq (a->backing, "/prev");
    ck_assert (a->target->type == STORE_BLOCK && a->scratch->type == STORE_FILE);
    ck_assert_str_eq (a->target->path, "/dev/t");
    ck_assert_str_eq (a->scratch->path, "/s");
    ck_assert (b->sync == SYNC_FULL && b->sync_spelled_mode && b->backup == TRISTATE_ABSENT);
    ck_assert (b->target->type == STORE_NETWORK && b->target->protocol == PROTOCOL_NBD
               && b->target->port == 7 && b->target->tls == TRISTATE_YES);
    ck_assert_str_eq (b->target->name, "x");
    ck_assert_str_eq (b->target->host, "h");
    ck_assert_str_eq (b->target->tls_dir, "/tls");
    ck_assert (c->backup == TRISTATE_NO && !c->has_type);
}
END_TEST

START_TEST (every_part_of_a_pull_is_kept)
{
    g_autoptr (BackupDef) def =
        parse ("<domainbackup mode='pull'><server name='10.0.0.7' port='10900' tls='yes' "
               "tls-psk='/psk' allow-insecure='no' idle-timeout='9'/>"
               "<disks><disk name='vda' exportname='' exportbitmap='b'><scratch "
               "file='/s'/></disk></disks></domainbackup>");
    const BackupDiskDef *disk = def->disks->pdata[0];

    ck_assert (def->mode == BACKUP_MODE_PULL && def->server->transport == SERVER_TCP
               && def->server->port == 10900);
    ck_assert (def->server->tls == TRISTATE_YES && def->server->allow_insecure == TRISTATE_NO
               && def->server->idle_timeout == 9);
    ck_assert_str_eq (def->server->name, "10.0.0.7");
    ck_assert_str_eq (def->server->tls_psk, "/psk");
    ck_assert_str_eq (disk->exportname, "");
    ck_assert_str_eq (disk->exportbitmap, "b");
    ck_assert_str_eq (disk->scratch->path, "/s");
    ck_assert (disk->type == STORE_FILE && !disk->has_type && !disk->target);
}
END_TEST

START_TEST (a_generated_socket_is_a_unix_socket_without_a_path)
{
    g_autoptr (BackupDef) def = parse (
        "<domainbackup mode='pull'><server transport='auto' idle-timeout='5'/></domainbackup>");

    ck_assert (def->server->transport == SERVER_UNIX && !def->server->socket
               && def->server->idle_timeout == 5);
}
END_TEST

#define OLD_DISKS                                                                                  \
    "<disks><disk name='sda' type='incremental'><source file='/b.hdd'/><bitmap "                   \
    "granularity='32Kib'/></disk>"                                                                 \
    "<disk name='sdb'/><disk name='sdc' present='no'/></disks></domainbackup>"

START_TEST (with_an_address_the_form_of_2016_is_a_pull_and_source_its_scratch)
{
    g_autoptr (BackupDef) def = parse ("<domainbackup><address type='ip' host='0.0.0.0' "
                                       "port='7000'/><branch name='b1'/>" OLD_DISKS);
    const BackupDiskDef *disk = def->disks->pdata[0], *other = def->disks->pdata[1],
                        *out = def->disks->pdata[2];

    ck_assert (def->dialect == DIALECT_2016 && def->mode == BACKUP_MODE_PULL
               && def->server->transport == SERVER_TCP);
    ck_assert_str_eq (def->server->name, "0.0.0.0");
    ck_assert_uint_eq (def->server->port, 7000);
    ck_assert_str_eq (def->series, "b1");
    ck_assert (!def->incremental && disk->sync == SYNC_INCREMENTAL && disk->granularity == 32768
               && !disk->target);
    ck_assert_str_eq (disk->scratch->path, "/b.hdd");
    ck_assert (other->sync == SYNC_FULL && other->backup != TRISTATE_NO
               && out->backup == TRISTATE_NO);
}
END_TEST

START_TEST (without_an_address_the_form_of_2016_is_a_push_and_source_its_target)
{
    g_autoptr (BackupDef) def = parse ("<domainbackup>" OLD_DISKS);
    const BackupDiskDef *disk = def->disks->pdata[0];

    ck_assert (def->dialect == DIALECT_2016 && def->mode == BACKUP_MODE_PUSH && !def->server
               && !disk->scratch && !def->series);
    ck_assert_str_eq (disk->target->path, "/b.hdd");
}
END_TEST

/* What programs put together */

START_TEST (a_pull_without_a_server_is_written_with_a_generated_socket)
{
    g_autoptr (BackupDef) def = backup_def_new ();
    def->mode = BACKUP_MODE_PULL;
    BackupDiskDef *disk = backup_disk_def_new ("vda");
    disk->backup = TRISTATE_YES;
    disk->format = g_strdup ("qcow2");
    disk->type = STORE_BLOCK;
    g_ptr_array_add (def->disks, disk);
    g_autofree char *xml = backup_def_format (def);
    ck_assert_str_eq (xml, "<domainbackup mode='pull'>\n  <server transport='auto'/>\n  <disks>\n  "
                           "  <disk name='vda' backup='yes' type='file'/>\n"
                           "  </disks>\n</domainbackup>\n");
    g_autoptr (BackupDef) again = parse (xml);
    ck_assert_ptr_nonnull (again);
}
END_TEST

START_TEST (a_pull_is_written_without_what_only_a_push_has)
{
    g_autoptr (BackupDef) def = backup_def_new ();
    BackupDiskDef *disk = backup_disk_def_new ("vda");
    def->mode = BACKUP_MODE_PULL;
    disk->scratch = store_def_new (STORE_BLOCK);
    disk->scratch->path = g_strdup ("/dev/s");
    disk->target = store_def_copy (disk->scratch);
    disk->backing = g_strdup ("/b");
    disk->format = g_strdup ("raw");
    disk->compression = g_strdup ("zlib");
    disk->exportbitmap = g_strdup ("");
    disk->sync = SYNC_TOP;
    g_ptr_array_add (def->disks, disk);
    g_autofree char *xml = backup_def_format (def);
    ck_assert_str_eq (xml,
                      "<domainbackup mode='pull'>\n  <server transport='auto'/>\n  <disks>\n    "
                      "<disk name='vda' type='block'>\n"
                      "      <scratch dev='/dev/s'/>\n    </disk>\n  </disks>\n</domainbackup>\n");
    g_autoptr (BackupDef) again = parse (xml);
    ck_assert_ptr_nonnull (again);
}
END_TEST

START_TEST (a_full_copy_is_written_without_the_base_it_does_not_have)
{
    g_autoptr (BackupDef) def = backup_def_new ();
    BackupDiskDef *disk = backup_disk_def_new ("a<b>'&\"");
    disk->sync = SYNC_FULL;
    disk->incremental = g_strdup ("base");
    disk->exportname = g_strdup ("not in a push");
    disk->index = g_strdup ("3");
    disk->state = g_strdup ("running");
    disk->scratch = store_def_new (STORE_FILE);
    g_ptr_array_add (def->disks, disk);
    g_autofree char *xml = backup_def_format (def);
    ck_assert_ptr_nonnull (strstr (
        xml, "<disk name='a&lt;b&gt;&apos;&amp;&quot;' sync='full' index='3' state='running'/>"));
    g_autoptr (BackupDef) again = parse (xml);
    ck_assert_str_eq (((BackupDiskDef *) again->disks->pdata[0])->name, disk->name);
    ck_assert_ptr_null (((BackupDiskDef *) again->disks->pdata[0])->index);
}
END_TEST

START_TEST (everything_that_ends_takes_nothing)
{
    backup_def_free (NULL);
    backup_disk_def_free (NULL);
    server_def_free (NULL);
    store_def_free (NULL);
    ck_assert (!backup_def_copy (NULL) && !backup_disk_def_copy (NULL) && !server_def_copy (NULL)
               && !store_def_copy (NULL));
    ck_assert_ptr_null (backup_def_parse (NULL, NULL));
}
END_TEST

START_TEST (words_and_values_turn_into_each_other)
{
    SyncMode sync = SYNC_DEFAULT;
    Protect protect = PROTECT_DEFAULT;
    Fallback fallback = FALLBACK_DEFAULT;

    ck_assert (sync_mode_from_string ("top", &sync) && sync == SYNC_TOP);
    ck_assert (sync_mode_from_string ("incremental", &sync) && sync == SYNC_INCREMENTAL);
    ck_assert (!sync_mode_from_string ("", &sync) && !sync_mode_from_string (NULL, &sync)
               && sync == SYNC_INCREMENTAL);
    ck_assert_str_eq (sync_mode_to_string (SYNC_NONE), "none");
    ck_assert_ptr_null (sync_mode_to_string (SYNC_DEFAULT));
    ck_assert (protect_from_string ("strict", &protect) && protect == PROTECT_STRICT
               && !protect_from_string ("x", &protect));
    ck_assert_str_eq (protect_to_string (PROTECT_YES), "yes");
    ck_assert_ptr_null (protect_to_string (99));
    ck_assert (fallback_from_string ("full", &fallback) && fallback == FALLBACK_FULL);
    ck_assert_str_eq (fallback_to_string (FALLBACK_REFUSE), "refuse");
    ck_assert_str_eq (store_protocol_to_string (PROTOCOL_ISCSI), "iscsi");
    ck_assert_ptr_null (store_protocol_to_string (99));
}
END_TEST

/* Limits */

typedef struct {
    const char *name, *before, *repeated, *after, *error;
    guint times;
} Large;

static const Large large[] = {
    { "4 MiB are too much", "<domainbackup>", "          ", "</domainbackup>",
      "larger than 4194304 bytes", 420000 },
    { "elements are not nested without end", "<domainbackup>", "<disks>", "", "nested too deep",
      100 },
    { "nor as deep as libxml2 goes", "<domainbackup>", "<disks>", "", "nested too deep", 100000 },
    { "an element has not any number of attributes", "<domainbackup ", " a=''", "/>",
      "more than 256 attributes", 200000 },
    { "a document has not any number of elements", "<domainbackup>", "<a/>", "</domainbackup>",
      "too many elements and attributes", 500000 },
    { "a document may hold any number of comments", "<domainbackup>", "<!-- --><?a?>",
      "</domainbackup>", NULL, 300000 },
    { "a quote in a comment hides none", "<domainbackup><!-- don't --><disks ", " a=\"'\"",
      "/></domainbackup>", "more than 256 attributes", 1000 },
    { "a comment may hold any number of quotes", "<domainbackup><!-- ", " a='",
      "--></domainbackup>", NULL, 1000 },
    { "a disk's name is not of any length", "<domainbackup><disks><disk name='", "aaaaaaaaaa",
      "'/></disks></domainbackup>", "1 to 1024 bytes", 1000 },
    { "a path is not of any length", "<domainbackup><disks><disk name='a'><target file='/",
      "aaaaaaaaaa", "'/></disk></disks></domainbackup>", "expected an absolute path", 1000 },
};

START_TEST (a_document_stays_within_limits)
{
    const Large *row = &large[_i];
    g_autoptr (GError) error = NULL;
    g_autoptr (GString) xml = g_string_new (row->before);

    for (guint i = 0; i < row->times; i++)
        g_string_append (xml, row->repeated);
    g_string_append (xml, row->after);
    gint64 begin = g_get_monotonic_time ();
    g_autoptr (BackupDef) def = backup_def_parse (xml->str, &error);
    ck_assert_msg (g_get_monotonic_time () - begin < 5 * G_USEC_PER_SEC, "%s: took too long",
                   row->name);
    ck_assert_msg (!def == (row->error != NULL), "%s: %s", row->name,
                   error ? error->message : "accepted");
    ck_assert_msg (!row->error || strstr (error->message, row->error), "%s: %s", row->name,
                   error ? error->message : "?");
    ck_assert_msg (!error || strlen (error->message) < 2000, "%s: the message is too long",
                   row->name);
}
END_TEST

START_TEST (thousands_of_disks_are_read_in_no_time)
{
    g_autoptr (GString) xml = g_string_new ("<domainbackup><disks>");

    for (guint i = 0; i < 50000; i++)
        g_string_append_printf (xml, "<disk name='d%u' type='file'><target file='/t%u'/></disk>", i,
                                i);
    g_string_append (xml, "</disks></domainbackup>");
    gint64 begin = g_get_monotonic_time ();
    g_autoptr (BackupDef) def = parse (xml->str);
    ck_assert_uint_eq (def->disks->len, 50000);
    ck_assert_int_lt (g_get_monotonic_time () - begin, 10 * G_USEC_PER_SEC);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("domainbackup");
    TCase *tcase = tcase_create ("documents");
    tcase_set_timeout (tcase, 120);
    tcase_add_loop_test (tcase, a_document_is_accepted_or_refused_with_a_reason, 0, n_backup_rows);
    tcase_add_loop_test (tcase, what_was_accepted_is_written_so_that_it_is_read_again_as_the_same,
                         0, n_backup_rows);
    tcase_add_test (tcase, an_empty_document_means_the_defaults);
    tcase_add_test (tcase, every_part_of_a_push_is_kept);
    tcase_add_test (tcase, every_part_of_a_pull_is_kept);
    tcase_add_test (tcase, a_generated_socket_is_a_unix_socket_without_a_path);
    tcase_add_test (tcase, with_an_address_the_form_of_2016_is_a_pull_and_source_its_scratch);
    tcase_add_test (tcase, without_an_address_the_form_of_2016_is_a_push_and_source_its_target);
    tcase_add_test (tcase, a_pull_without_a_server_is_written_with_a_generated_socket);
    tcase_add_test (tcase, a_pull_is_written_without_what_only_a_push_has);
    tcase_add_test (tcase, a_full_copy_is_written_without_the_base_it_does_not_have);
    tcase_add_test (tcase, everything_that_ends_takes_nothing);
    tcase_add_test (tcase, words_and_values_turn_into_each_other);
    tcase_add_loop_test (tcase, a_document_stays_within_limits, 0, G_N_ELEMENTS (large));
    tcase_add_test (tcase, thousands_of_disks_are_read_in_no_time);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
