/* Guest definitions: checks, and the JSON they are kept as. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "conf/guest_def.h"
#include "util/error.h"

#define UUID "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
#define HUNDRED                                                                                    \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaaaaaa"

static const struct {
    const char *name;
    gboolean ok;
} names[] = {
    { "web", TRUE },        { "_a.b+c-d", TRUE },  { "0", TRUE },    { HUNDRED, TRUE },
    { HUNDRED "a", FALSE }, { "", FALSE },         { NULL, FALSE },  { ".", FALSE },
    { "..", FALSE },        { "-a", FALSE },       { "a/b", FALSE }, { "a b", FALSE },
    { "a\n", FALSE },       { "\303\244", FALSE },
};

START_TEST (a_name_is_safe_as_a_file)
{
    g_autoptr (GError) error = NULL;

    ck_assert_int_eq (guest_name_check (names[_i].name, &error), names[_i].ok);
    ck_assert (names[_i].ok || error_code (error) == BAK_ERROR_INVALID_ARGUMENT);
}
END_TEST

static const struct {
    const char *json, *error;
} rows[] = {
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/run/web.qmp\"}", NULL },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"localhost:4444\",\"agent\":\"[::1]:4445\","
      "\"disks\":[{\"target\":\"vda\",\"id\":\"drive0\"}]}",
      NULL },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"10.0.0.1:65535\",\"disks\":[]}", NULL },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"images\":[{\"target\":\"vda\",\"id\":\"/img/"
      "a\"},{\"target\":\"vdb\",\"id\":\"/img/b\"}]}",
      NULL },
    { "{\"name\":\"web\",\"uuid\":\"" UUID
      "\",\"qmp\":\"/q\",\"agent\":\"/a\",\"images\":[{\"target\":\"vda\",\"id\":\"/a\"}]}",
      NULL },

    { "", "guest definition is damaged: not JSON" },
    { "{", "guest definition is damaged: not JSON" },
    { "{} {} ))", "guest definition is damaged: not JSON: not one value" },
    { "var a = {}", "guest definition is damaged: not JSON: not one value" },
    { "1 2", "guest definition is damaged: not JSON: not one value" },
    { "1{}", "guest definition is damaged: not JSON: not one value" },
    { "\"a\" \"b\"", "guest definition is damaged: not JSON: not one value" },
    { " \"a]\" ", "guest definition is damaged: not a JSON object" },
    { "// a\n{}", "guest definition is damaged: not JSON: not one value" },
    { "[]", "guest definition is damaged: not a JSON object" },
    { "null", "guest definition is damaged" },
    { "{}", "guest definition is damaged: guest name ''" },
    { "{\"name\":1}", "'name': expected text" },
    { "{\"name\":null}", "'name': expected text" },
    { "{\"name\":\"web\",\"colour\":\"red\"}", "'colour': not known" },
    { "{\"name\":\"../web\"}", "guest name '../web'" },
    { "{\"name\":\"web\",\"qmp\":\"/q\"}", "'uuid': missing" },
    { "{\"name\":\"web\",\"uuid\":\"\",\"qmp\":\"/q\"}", "uuid '': expected 36 characters" },
    { "{\"name\":\"web\",\"uuid\":\"0A81F5B2-8403-7B23-C8D6-21CCC2F80D6F\",\"qmp\":\"/q\"}",
      "expected 36 characters, lower case" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\"}", "expected a monitor (--qmp), images" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID
      "\",\"agent\":\"/a\",\"images\":[{\"target\":\"vda\",\"id\":\"/a\"}]}",
      "expect a monitor" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"q\"}",
      "monitor 'q': expected an absolute path of at most 107 bytes, or HOST:PORT" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/\"}", "monitor '/'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/aaaaaaa" HUNDRED "\"}",
      "at most 107 bytes" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"h:0\"}", "monitor 'h:0'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"h:65536\"}", "monitor 'h:65536'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\":1\"}", "monitor ':1'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"[h]:1\"}", "monitor '[h]:1'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"::1:1\"}", "monitor '::1:1'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/q\",\"agent\":\"a\"}", "agent 'a'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/q\",\"disks\":{}}",
      "'disks': expected a list" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/q\",\"disks\":[1]}",
      "'disks': expected a list of objects" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/q\",\"disks\":[{\"target\":\"vda\"}]}",
      "disk 'vda'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID
      "\",\"qmp\":\"/q\",\"disks\":[{\"target\":\"a=b\",\"id\":\"c\"}]}",
      "disk 'a=b'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID
      "\",\"qmp\":\"/q\",\"disks\":[{\"target\":\"a\\nb\",\"id\":\"c\"}]}",
      "disk 'a\\x0ab'" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID
      "\",\"qmp\":\"/q\",\"disks\":[{\"target\":\"a\",\"id\":\"b\",\"x\":1}]}",
      "'x': not known" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/"
      "q\",\"disks\":[{\"target\":\"a\",\"id\":\"b\"},{\"target\":\"a\",\"id\":\"c\"}]}",
      "disk 'a' is given twice" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"qmp\":\"/"
      "q\",\"disks\":[{\"target\":\"a\",\"id\":\"b\"},{\"target\":\"c\",\"id\":\"b\"}]}",
      "disk 'c': 'b' is given twice" },
    { "{\"name\":\"web\",\"uuid\":\"" UUID "\",\"images\":[{\"target\":\"a\",\"id\":\"img\"}]}",
      "image 'img': expected an absolute path" },
};

START_TEST (a_definition_is_read_or_refused_with_a_reason)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (GuestDef) def = guest_def_parse (rows[_i].json, &error);

    if (rows[_i].error) {
        ck_assert_msg (!def, "%s: accepted", rows[_i].json);
        ck_assert_msg (strstr (error->message, rows[_i].error) != NULL, "%s: %s", rows[_i].json,
                       error->message);
        return;
    }
    ck_assert_msg (def != NULL, "%s: %s", rows[_i].json, error ? error->message : "?");
    g_autofree char *first = guest_def_format (def);
    g_autoptr (GuestDef) again = guest_def_parse (first, &error);
    ck_assert_msg (again != NULL, "%s: %s", first, error ? error->message : "?");
    g_autofree char *second = guest_def_format (again);
    ck_assert_str_eq (first, second);
    g_autoptr (GuestDef) copy = guest_def_copy (def);
    g_autofree char *third = guest_def_format (copy);
    ck_assert_str_eq (first, third);
}
END_TEST

START_TEST (every_part_is_kept)
{
    g_autoptr (GuestDef) def = guest_def_parse (rows[1].json, NULL),
                         offline = guest_def_parse (rows[3].json, NULL);
    const GuestDiskDef *disk = def->disks->pdata[0], *image = offline->images->pdata[1];

    ck_assert_str_eq (def->name, "web");
    ck_assert_str_eq (def->uuid, UUID);
    ck_assert_str_eq (def->qmp, "localhost:4444");
    ck_assert_str_eq (def->agent, "[::1]:4445");
    ck_assert_str_eq (disk->target, "vda");
    ck_assert_str_eq (disk->id, "drive0");
    ck_assert_str_eq (image->id, "/img/b");
    ck_assert (!offline->qmp && offline->disks->len == 0);
}
END_TEST

START_TEST (everything_that_ends_takes_nothing)
{
    guest_def_free (NULL);
    guest_disk_def_free (NULL);
    ck_assert_ptr_null (guest_def_copy (NULL));
    ck_assert_ptr_null (guest_def_parse (NULL, NULL));
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("guest definitions");
    TCase *tcase = tcase_create ("JSON");
    tcase_add_loop_test (tcase, a_name_is_safe_as_a_file, 0, G_N_ELEMENTS (names));
    tcase_add_loop_test (tcase, a_definition_is_read_or_refused_with_a_reason, 0,
                         G_N_ELEMENTS (rows));
    tcase_add_test (tcase, every_part_is_kept);
    tcase_add_test (tcase, everything_that_ends_takes_nothing);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
