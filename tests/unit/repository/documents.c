/* The documents of a restore point, and the choice of its base. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "repository/base.h"
#include "repository/fields.h"
#include "util/json.h"

#define HASH "87d2e9a514a7ded9f2498995dfb25140ae5f7fede9d1db423c0cdd09902eb61e"
#define UUID "6695eb01-f6a4-8304-79aa-97f2502e193f"

static Manifest *new_manifest (const char *id, guint64 sequence, const char *target, guint64 size)
{
    Manifest *manifest = manifest_new ();
    ManifestDisk *disk = manifest_disk_new (target);
    disk->size = size;
    disk->kind = g_strdup ("full");
    disk->root = g_strdup (HASH);
    g_ptr_array_add (manifest->disks, disk);
    manifest->id = g_strdup (id);
    manifest->sequence = sequence;
    manifest->guest_name = g_strdup ("w\"eb\n");
    manifest->guest_uuid = g_strdup (UUID);
    manifest->instant = 1795916409123456;
    g_ptr_array_add (manifest->warnings, g_strdup (HASH));
    return manifest;
}

START_TEST (what_is_written_is_read_again)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Manifest) manifest = new_manifest ("a-1", 7, "vda", 1 << 20);
    g_autofree char *text = manifest_format (manifest);
    g_autoptr (Manifest) again = manifest_parse (text, strlen (text), &error);

    ck_assert_msg (again != NULL, "%s", error ? error->message : "");
    ck_assert_str_eq (again->guest_name, "w\"eb\n");
    ck_assert_uint_eq (again->sequence, 7);
    ck_assert_int_eq (again->instant, manifest->instant);
    ck_assert_uint_eq (manifest_find_disk (again, "vda")->size, 1 << 20);
    g_autofree char *twice = manifest_format (again);
    ck_assert_str_eq (text, twice);
}
END_TEST

START_TEST (a_change_of_any_byte_is_found)
{
    g_autoptr (Manifest) manifest = new_manifest ("a-1", 7, "vda", 1 << 20);
    g_autofree char *text = manifest_format (manifest);
    gsize length = strlen (text);

    for (gsize i = 0; i < length; i++)
        for (guint bit = 0; bit < 8; bit++) {
            text[i] ^= 1 << bit;
            g_autoptr (Manifest) damaged = manifest_parse (text, length, NULL);
            ck_assert_msg (damaged == NULL, "byte %zu bit %u", i, bit);
            text[i] ^= 1 << bit;
        }
}
END_TEST

#define DISK(file, leaves, backing, size)                                                          \
    "{\"disks\":[{\"target\":\"vda\",\"file\":\"" file "\",\"file_size\":" size                    \
    ",\"leaves\":\"" leaves "\",\"leaves_size\":1,\"backing\":" backing "}]}"

static const struct {
    const char *text;
    gboolean ok;
} placements[] = {
    { DISK ("vda.qcow2", "vda.leaves", "null", "9"), TRUE },
    { DISK ("vda.qcow2", "vda.leaves", "\"a-1\"", "9"), TRUE },
    { DISK ("../vda.qcow2", "vda.leaves", "null", "9"), FALSE },
    { DISK ("/etc/passwd", "vda.leaves", "null", "9"), FALSE },
    { DISK (".vda", "vda.leaves", "null", "9"), FALSE },
    { DISK ("vda.qcow2", "a/b", "null", "9"), FALSE },
    { DISK ("vda.qcow2", "vda.leaves", "\"..\"", "9"), FALSE },
    { DISK ("vda.qcow2", "vda.leaves", "7", "9"), FALSE },
    { DISK ("vda.qcow2", "vda.leaves", "null", "-1"), FALSE },
    { DISK ("vda.qcow2", "vda.leaves", "null", "1.5"), FALSE },
    { DISK ("vda.qcow2", "vda.leaves", "null", "\"9\""), FALSE },
    { "{\"disks\":[{}]}", FALSE },
    { "{\"disks\":{}}", FALSE },
    { "[]", FALSE },
    { "", FALSE },
};

START_TEST (what_becomes_a_path_is_checked)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Placement) placement =
        placement_parse (placements[_i].text, strlen (placements[_i].text), &error);

    ck_assert_msg ((placement != NULL) == placements[_i].ok, "%s: %s", placements[_i].text,
                   error ? error->message : "");
}
END_TEST

static Point *new_point (const char *id, guint64 sequence, const char *target, guint64 size)
{
    Point *point = g_new0 (Point, 1);
    g_atomic_ref_count_init (&point->refs);
    point->manifest = new_manifest (id, sequence, target, size);
    point->storage = placement_new ();
    point->disks = g_ptr_array_new ();
    point->verifications = g_ptr_array_new ();
    return point;
}

static const struct {
    const char *text;
    guint count;
    gboolean ok;
} lists[] = {
    { "{\"x\":[\"a\",\"b\"]}", 2, TRUE },
    { "{\"x\":[]}", 0, TRUE },
    { "{\"x\":[2]}", 0, FALSE },
    { "{\"x\":[\"a\",null]}", 1, FALSE },
    { "{\"x\":[\"a\",[],\"b\"]}", 1, FALSE },
    { "{\"x\":[{}]}", 0, FALSE },
    { "{\"x\":{}}", 0, FALSE },
};

START_TEST (what_is_listed_is_text)
{
    g_autoptr (GError) error = NULL;
    JsonObject *object;
    g_autoptr (JsonNode) node =
        json_read_object (lists[_i].text, strlen (lists[_i].text), &object, &error);
    Fields fields = { "x.json", &error, FALSE };
    g_autoptr (GPtrArray) texts = fields_texts (&fields, object, "x", 4);

    ck_assert_int_eq (!fields.failed, lists[_i].ok);
    ck_assert_uint_eq (texts->len, lists[_i].count);
    for (guint i = 0; i < texts->len; i++)
        ck_assert_ptr_nonnull (texts->pdata[i]);
}
END_TEST

static const struct {
    const char *target;
    guint64 size;
    const char *why_none, *base; /* NULL: none */
    gboolean tracked;
} choices[] = {
    { "vdb", 100, NULL, "new", TRUE },  { "vdb", 100, "gone", "new", FALSE },
    { "vdb", 101, NULL, "new", FALSE }, { "vda", 100, NULL, "old", FALSE },
    { "vdc", 100, NULL, NULL, FALSE },
};

START_TEST (the_base_is_the_newest_point_that_has_the_disk)
{
    g_autoptr (GPtrArray) points = g_ptr_array_new_with_free_func ((GDestroyNotify) point_unref);
    BaseDisk disk = { choices[_i].target, choices[_i].size };

    g_ptr_array_add (points, new_point ("old", 1, "vda", 100));
    g_ptr_array_add (points, new_point ("new", 2, "vdb", 100));
    g_autoptr (GPtrArray) chosen = base_choose (points, &disk, 1, choices[_i].why_none);
    const BaseChoice *choice = chosen->pdata[0];
    ck_assert_str_eq (choice->base ? choice->base->manifest->id : "-",
                      choices[_i].base ? choices[_i].base : "-");
    ck_assert_int_eq (choice->tracked, choices[_i].tracked);
    ck_assert_int_eq (choice->reason == NULL, choices[_i].tracked);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("repository");
    TCase *tests = tcase_create ("documents");

    tcase_add_test (tests, what_is_written_is_read_again);
    tcase_add_test (tests, a_change_of_any_byte_is_found);
    tcase_add_loop_test (tests, what_becomes_a_path_is_checked, 0, G_N_ELEMENTS (placements));
    tcase_add_loop_test (tests, what_is_listed_is_text, 0, G_N_ELEMENTS (lists));
    tcase_add_loop_test (tests, the_base_is_the_newest_point_that_has_the_disk, 0,
                         G_N_ELEMENTS (choices));
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_NORMAL);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
