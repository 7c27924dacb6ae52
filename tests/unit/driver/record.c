/* Records of jobs and checkpoints: what is written is what is read, and what is damaged is named.
 */
#include <check.h>
#include <rpc/rpc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "job/checkpoint.h"
#include "job/record.h"
#include "util/files.h"
#include "util/json.h"

static char *dir;

static void setup (void)
{
    dir = g_dir_make_tmp ("libbackup-record-XXXXXX", NULL);
    ck_assert_ptr_nonnull (dir);
}

static void teardown (void)
{
    files_remove_tree (dir);
    g_clear_pointer (&dir, g_free);
}

static guint64 state;

static guint64 next (void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Characters that JSON, XML, paths and terminals stumble over. */
static char *random_text (gsize max)
{
    static const char *const parts[] = { "",     "a",    "\"",   "\\",   "/",   "\n", "\t",
                                         "\x01", "\x7f", "ä",    "€",    "𝄞",   "'",  "<&>",
                                         "%s",   "{}",   "\xff", "\xc3", "[\"", "//" };
    GString *text = g_string_new (NULL);

    for (guint i = next () % 12; i > 0; i--) {
        const char *part = parts[next () % G_N_ELEMENTS (parts)];
        if (text->len + strlen (part) <= max)
            g_string_append (text, part);
    }
    char *copy = ret_string (text->str);
    g_string_free (text, TRUE);
    return copy;
}

static guint64 random_size (void)
{
    static const guint64 edges[] = { 0,           1,          G_MAXINT32,
                                     G_MAXUINT32, G_MAXINT64, (guint64) G_MAXINT64 + 1,
                                     G_MAXUINT64, 1ull << 53 };
    return next () % 2 ? edges[next () % G_N_ELEMENTS (edges)] : next ();
}

static gint64 random_time (void)
{
    static const gint64 edges[] = { 0,
                                    1,
                                    -1,
                                    1763700000123456,
                                    1763700000000000,
                                    G_MAXINT64,
                                    G_MININT64,
                                    253402300799999999,
                                    -62135596800000001 };
    return next () % 2 ? edges[next () % G_N_ELEMENTS (edges)] : (gint64) (next () % (1ull << 51));
}

static guint random_bool (void)
{
    static const guint values[] = { 0, 1, 2, G_MAXUINT };
    return values[next () % 4];
}

static int random_state (void)
{
    static const int values[] = { JOB_STATE_NONE, JOB_STATE_READY, JOB_STATE_ABORTED, 8, -1,
                                  4711,           G_MININT };
    return values[next () % G_N_ELEMENTS (values)];
}

static bak_job_disk random_disk (void)
{
    return (bak_job_disk){
        .target = random_text (20),
        .state = random_state (),
        .type = random_text (20),
        .reason = random_text (90),
        .bytes = random_size (),
        .total = random_size (),
        .error = random_text (90),
        .path = random_text (90),
        .scratch = random_text (90),
        .format = random_text (9),
        .export_name = random_text (90),
        .bitmap = random_text (90),
        .limit = random_size (),
        .protection = random_text (90),
        .since = random_text (90),
    };
}

static bak_job random_job (void)
{
    bak_job job = {
        .id = record_new_id (),
        .domain = random_text (90),
        .mode = next () % 3,
        .state = random_state (),
        .started = random_time (),
        .ended = random_time (),
        .error = random_text (90),
        .error_code = (int) next (),
        .partial = random_bool (),
        .checkpoint = random_text (90),
        .server = random_text (90),
        .consistency = random_text (90),
        .frozen = random_size (),
        .temp_used = random_size (),
        .temp_total = random_size (),
        .aborted = random_bool (),
        .acknowledged = random_bool (),
        .owner = random_text (90),
        .elapsed = random_size (),
        .held = random_size (),
    };
    job.notes.notes_len = next () % 4;
    job.notes.notes_val = ret_array (job.notes.notes_len, sizeof (bak_message));
    for (u_int i = 0; i < job.notes.notes_len; i++)
        job.notes.notes_val[i] = random_text (90);
    job.disks.disks_len = next () % 5;
    job.disks.disks_val = ret_array (job.disks.disks_len, sizeof (bak_job_disk));
    for (u_int i = 0; i < job.disks.disks_len; i++)
        job.disks.disks_val[i] = random_disk ();
    return job;
}

static GBytes *encode (const bak_job *job)
{
    XDR xdrs;
    u_long size = xdr_sizeof ((xdrproc_t) xdr_bak_job, (void *) job);
    char *buffer = g_malloc0 (size);

    xdrmem_create (&xdrs, buffer, size, XDR_ENCODE);
    ck_assert (xdr_bak_job (&xdrs, (bak_job *) job));
    xdr_destroy (&xdrs);
    return g_bytes_new_take (buffer, size);
}

static void assert_same (const bak_job *one, const bak_job *other)
{
    g_autoptr (GBytes) a = encode (one), b = encode (other);
    ck_assert (g_bytes_equal (a, b));
}

START_TEST (every_field_of_a_job_survives_the_round_trip)
{
    state = 88172645463325252ull + _i;
    for (guint i = 0; i < 300; i++) {
        bak_job job = random_job (), back = { 0 };
        g_autoptr (GError) error = NULL;
        g_autoptr (JsonNode) node = record_to_json (&job);
        g_autofree char *text = json_write (node);
        g_autoptr (JsonNode) read = json_read (text, -1, &error);
        ck_assert_msg (read && record_from_json (read, &back, &error), "%s",
                       error ? error->message : "");
        assert_same (&job, &back);
        bak_job_clear (&back);
        bak_job_clear (&job);
    }
}
END_TEST

START_TEST (every_field_of_a_job_survives_on_disk)
{
    state = 4711 + _i;
    bak_job job = random_job (), back = { 0 };
    g_autoptr (GError) error = NULL;

    ck_assert_msg (record_save (dir, &job, &error), "%s", error ? error->message : "");
    ck_assert_msg (record_load (dir, job.id, &back, &error), "%s", error ? error->message : "");
    assert_same (&job, &back);
    bak_job_clear (&back);
    bak_job_clear (&job);
}
END_TEST

static bak_job plain_job (const char *id, int job_state, gint64 started)
{
    bak_job job = {
        .id = ret_string (id), .domain = ret_string ("g"), .state = job_state, .started = started
    };

    job.error = ret_string ("");
    job.checkpoint = ret_string ("");
    job.server = ret_string ("");
    job.consistency = ret_string ("");
    job.owner = ret_string ("");
    return job;
}

static void save_plain (const char *id, int job_state, gint64 started)
{
    bak_job job = plain_job (id, job_state, started);
    ck_assert (record_save (dir, &job, NULL));
    bak_job_clear (&job);
}

static char *job_file (const char *id)
{
    return g_strdup_printf ("%s/jobs/%s.json", dir, id);
}

/* When one of these fails, calls.x has a new field: give it a row in record.c and a value in
 * random_job(), then count it here. */
START_TEST (no_field_of_a_job_is_forgotten)
{
#ifdef __x86_64__
    ck_assert_uint_eq (sizeof (bak_job), 168);
    ck_assert_uint_eq (sizeof (bak_job_disk), 120);
#endif
}
END_TEST

START_TEST (a_record_speaks_the_words_of_the_product)
{
    static const char *const keys[] = { "id",      "domain",     "mode",  "state",
                                        "started", "ended",      "error", "error_code",
                                        "partial", "checkpoint", "disks", "version" };
    bak_job job = plain_job ("00000001", JOB_STATE_COMPLETED, 1763700000123456);
    job.mode = JOB_MODE_PULL;
    g_autoptr (JsonNode) node = record_to_json (&job);
    JsonObject *object = json_node_get_object (node);

    for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
        ck_assert_msg (json_object_has_member (object, keys[i]), "%s", keys[i]);
    ck_assert_str_eq (json_get_string (object, "state"), "completed");
    ck_assert_str_eq (json_get_string (object, "mode"), "pull");
    ck_assert_str_eq (json_get_string (object, "started"), "2025-11-21T04:40:00.123456Z");
    ck_assert (JSON_NODE_HOLDS_NULL (json_object_get_member (object, "ended")));
    bak_job_clear (&job);
}
END_TEST

START_TEST (the_newest_job_is_the_one_that_began_last_even_when_the_clock_stepped_back)
{
    bak_job newest = { 0 };

    save_plain ("0000000a", JOB_STATE_COMPLETED, 2000);
    save_plain ("0000000b", JOB_STATE_FAILED, 1000);
    save_plain ("0000000a", JOB_STATE_COMPLETED, 2000); /* saved again: it did not begin again */
    ck_assert (record_load (dir, "", &newest, NULL));
    ck_assert_str_eq (newest.id, "0000000b");
    bak_job_clear (&newest);
}
END_TEST

START_TEST (prune_keeps_the_newest_and_every_job_that_runs)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autofree char *temporary = g_strdup_printf ("%s/jobs/00000001.json.%d.tmp", dir, 2147483646);

    save_plain ("00000001", JOB_STATE_RUNNING, 1);
    for (guint i = 2; i < 9; i++) {
        g_autofree char *id = g_strdup_printf ("%08x", i);
        save_plain (id, JOB_STATE_COMPLETED, i);
    }
    ck_assert (g_file_set_contents (temporary, "half", -1, NULL));
    record_prune (dir, 3);
    GArray *jobs = record_list (dir, damaged);
    static const char *const left[] = { "00000008", "00000007", "00000006", "00000001" };
    ck_assert_uint_eq (jobs->len, G_N_ELEMENTS (left));
    for (guint i = 0; i < jobs->len; i++) {
        ck_assert_str_eq (g_array_index (jobs, bak_job, i).id, left[i]);
        bak_job_clear (&g_array_index (jobs, bak_job, i));
    }
    g_array_unref (jobs);
    ck_assert_uint_eq (damaged->len, 0);
    ck_assert (!g_file_test (temporary, G_FILE_TEST_EXISTS));
}
END_TEST

#define HEAD "{\"version\": 1, \"id\": \"000000ff\", "

static const struct {
    const char *text;
    const char *complaint;
    int code;
} bad_records[] = {
    { "", "not JSON", BAK_ERROR_IO },
    { "{", "not JSON", BAK_ERROR_IO },
    { "null", "not a JSON object", BAK_ERROR_IO },
    { "[]", "not a JSON object", BAK_ERROR_IO },
    { "{}", "'version'", BAK_ERROR_IO },
    { "{\"version\": \"x\"}", "'version'", BAK_ERROR_IO },
    { "{\"version\": 2, \"id\": \"000000ff\"}", "newer", BAK_ERROR_NOT_SUPPORTED },
    { "{\"version\": 1}", "'id'", BAK_ERROR_IO },
    { "{\"version\": 1, \"id\": \"../../x\"}", "'id'", BAK_ERROR_IO },
    { "{\"version\": 1, \"id\": \"000000fe\"}", "000000fe", BAK_ERROR_IO },
    { HEAD "\"state\": \"dancing\"}", "'state'", BAK_ERROR_IO },
    { HEAD "\"state\": []}", "'state'", BAK_ERROR_IO },
    { HEAD "\"mode\": \"shove\"}", "'mode'", BAK_ERROR_IO },
    { HEAD "\"domain\": 5}", "'domain'", BAK_ERROR_IO },
    { HEAD "\"started\": \"yesterday\"}", "'started'", BAK_ERROR_IO },
    { HEAD "\"started\": \"2025-11-21T04:40:00.1234567Z\"}", "'started'", BAK_ERROR_IO },
    { HEAD "\"frozen\": -1}", "'frozen'", BAK_ERROR_IO },
    { HEAD "\"frozen\": 1.5}", "'frozen'", BAK_ERROR_IO },
    { HEAD "\"frozen\": \"18446744073709551616\"}", "'frozen'", BAK_ERROR_IO },
    { HEAD "\"error_code\": 2147483648}", "'error_code'", BAK_ERROR_IO },
    { HEAD "\"notes\": {}}", "'notes'", BAK_ERROR_IO },
    { HEAD "\"notes\": [\"a\", 1]}", "'notes'", BAK_ERROR_IO },
    { HEAD "\"disks\": {}}", "'disks'", BAK_ERROR_IO },
    { HEAD "\"disks\": [1]}", "'disks'", BAK_ERROR_IO },
    { HEAD "\"disks\": [{}, {\"bytes\": true}]}", "disk 1", BAK_ERROR_IO },
    { HEAD "\"x\": // \"\n [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
      "not JSON", BAK_ERROR_IO },
};

START_TEST (a_damaged_record_is_named_and_hides_nothing_else)
{
    g_autofree char *path = job_file ("000000ff");
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GError) error = NULL;
    bak_job job = { 0 };

    save_plain ("00000001", JOB_STATE_COMPLETED, 1);
    ck_assert (g_file_set_contents (path, bad_records[_i].text, -1, NULL));
    ck_assert (!record_load (dir, "000000ff", &job, &error));
    ck_assert_int_eq (error->code, bad_records[_i].code);
    ck_assert_msg (strstr (error->message, path)
                       && strstr (error->message, bad_records[_i].complaint),
                   "%s", error->message);
    GArray *jobs = record_list (dir, damaged);
    ck_assert_uint_eq (jobs->len, 1);
    ck_assert_uint_eq (damaged->len, 1);
    ck_assert_ptr_nonnull (strstr (damaged->pdata[0], path));
    bak_job_clear (&g_array_index (jobs, bak_job, 0));
    g_array_unref (jobs);
}
END_TEST

static gboolean read_text (const char *text, gsize length)
{
    bak_job job = { 0 };
    g_autoptr (JsonNode) node = json_read (text, length, NULL);
    gboolean ok = node && record_from_json (node, &job, NULL);

    if (ok)
        bak_job_clear (&job);
    return ok;
}

START_TEST (a_record_cut_anywhere_is_an_error_and_no_crash)
{
    state = 1;
    bak_job job = random_job ();
    g_autofree char *path = job_file (job.id), *text = NULL;
    gsize length;

    ck_assert (record_save (dir, &job, NULL));
    ck_assert (g_file_get_contents (path, &text, &length, NULL));
    for (gsize cut = 0; cut + 2 < length; cut++)
        ck_assert (!read_text (text, cut));
    for (guint i = 0; i < 20000; i++) {
        g_autofree char *flipped = g_memdup2 (text, length);
        flipped[next () % length] ^= 1 << next () % 8;
        read_text (flipped, length);
    }
    bak_job_clear (&job);
}
END_TEST

START_TEST (too_long_and_too_many_is_refused)
{
    g_autofree char *path = job_file ("000000ff"), *name = g_strnfill (BAK_NAME_MAX + 1, 'x'),
                    *disks = g_strnfill ((BAK_DISKS_MAX + 1) * 3, ' ');
    g_autofree char *long_name = g_strdup_printf (HEAD "\"owner\": \"%s\"}", name);
    bak_job job = { 0 };

    for (guint i = 0; i <= BAK_DISKS_MAX; i++)
        memcpy (disks + i * 3, i < BAK_DISKS_MAX ? "{}," : "{} ", 3);
    g_autofree char *many = g_strdup_printf (HEAD "\"disks\": [%s]}", disks);
    save_plain ("000000ff", JOB_STATE_FAILED, 1);
    ck_assert (g_file_set_contents (path, long_name, -1, NULL));
    ck_assert (!record_load (dir, "000000ff", &job, NULL));
    ck_assert (g_file_set_contents (path, many, -1, NULL));
    ck_assert (!record_load (dir, "000000ff", &job, NULL));
    ck_assert_int_eq (truncate (path, 1ll << 33), 0);
    ck_assert (!record_load (dir, "000000ff", &job, NULL));
}
END_TEST

START_TEST (unknown_keys_are_left_alone)
{
    g_autofree char *path = job_file ("000000ff");
    bak_job job = { 0 };

    save_plain ("000000ff", JOB_STATE_FAILED, 1);
    ck_assert (g_file_set_contents (
        path, HEAD "\"flavour\": {\"a\": [1]}, \"disks\": [{\"target\": \"vda\", \"taste\": 1}]}",
        -1, NULL));
    ck_assert (record_load (dir, "000000ff", &job, NULL));
    ck_assert_uint_eq (job.disks.disks_len, 1);
    ck_assert_str_eq (job.disks.disks_val[0].target, "vda");
    ck_assert_str_eq (job.disks.disks_val[0].error, "");
    bak_job_clear (&job);
}
END_TEST

START_TEST (a_job_that_is_not_there_is_said_so)
{
    static const char *const ids[] = { "", "0000000a", "../guest", "0000000A", "00000000a" };
    g_autoptr (GError) error = NULL;
    bak_job job = { 0 };

    ck_assert (!record_load (dir, ids[_i], &job, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NO_JOB);
}
END_TEST

START_TEST (a_new_id_is_an_id_and_another_each_time)
{
    g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < 200; i++) {
        char *id = record_new_id ();
        ck_assert (record_id_check (id));
        ck_assert (g_hash_table_add (seen, id));
    }
}
END_TEST

/* Checkpoints */

static Checkpoint *make_checkpoint (const char *name, const char *parent, gint64 sequence)
{
    Checkpoint *checkpoint = checkpoint_new (name);
    CheckpointDisk *disk = checkpoint_disk_new ("vda");

    checkpoint->parent = g_strdup (parent);
    checkpoint->sequence = sequence;
    checkpoint->created = 1763700000 + sequence;
    checkpoint->description = g_strdup ("line\nline \"2\"");
    checkpoint->domain_uuid = g_strdup ("6695eb01-f6a4-8304-79aa-97f2502e193f");
    disk->node = g_strdup ("#block123");
    disk->file = g_strdup ("/images/\xff.qcow2");
    disk->bitmap = g_strdup (name);
    disk->persistent = TRUE;
    disk->size = G_MAXUINT64;
    disk->granularity = 65536;
    disk->shrunk = TRUE;
    disk->backup = g_strdup ("/backup/\xff.qcow2");
    disk->backup_id = g_strdup ("8:1:12345:1763700000.000000001");
    g_ptr_array_add (checkpoint->disks, disk);
    return checkpoint;
}

static void save_checkpoint (const char *name, const char *parent, gint64 sequence)
{
    g_autoptr (Checkpoint) checkpoint = make_checkpoint (name, parent, sequence);
    g_autoptr (GError) error = NULL;
    ck_assert_msg (checkpoint_save (dir, checkpoint, &error), "%s", error ? error->message : "");
}

START_TEST (every_field_of_a_checkpoint_survives_the_round_trip)
{
    g_autoptr (Checkpoint) one = make_checkpoint ("cp1", NULL, 7);

    one->job = g_strdup ("0000000a");
    one->series = g_strdup ("daily");
    ck_assert (checkpoint_save (dir, one, NULL));
    g_autoptr (Checkpoint) two = checkpoint_load (dir, "cp1", NULL);
    ck_assert_ptr_nonnull (two);
    ck_assert_str_eq (two->name, one->name);
    ck_assert_ptr_null (two->parent);
    ck_assert_str_eq (two->description, one->description);
    ck_assert_int_eq (two->created, one->created);
    ck_assert_int_eq (two->sequence, 7);
    ck_assert_str_eq (two->job, "0000000a");
    ck_assert_str_eq (two->series, "daily");
    ck_assert_str_eq (two->domain_uuid, one->domain_uuid);
    ck_assert_uint_eq (two->disks->len, 1);
    const CheckpointDisk *a = one->disks->pdata[0], *b = two->disks->pdata[0];
    ck_assert_str_eq (b->disk, a->disk);
    ck_assert_str_eq (b->node, a->node);
    ck_assert_str_eq (b->file, a->file);
    ck_assert_str_eq (b->bitmap, a->bitmap);
    ck_assert (b->persistent && b->size == a->size && b->granularity == a->granularity
               && b->shrunk);
    ck_assert_str_eq (b->backup, a->backup);
    ck_assert_str_eq (b->backup_id, a->backup_id);
}
END_TEST

START_TEST (checkpoints_come_parents_first_whatever_their_files_claim)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);

    save_checkpoint ("child", "parent", 1); /* a lower number than its parent's */
    save_checkpoint ("parent", "root", 5);
    save_checkpoint ("root", NULL, 6);
    save_checkpoint ("ring-a", "ring-b", 7);
    save_checkpoint ("ring-b", "ring-a", 8);
    save_checkpoint ("orphan", "gone", 9);
    g_autofree char *broken = g_build_filename (dir, "checkpoints", "broken.json", NULL);
    g_autofree char *wrong = g_build_filename (dir, "checkpoints", "..json", NULL);
    ck_assert (g_file_set_contents (broken, "{\"version\": 1, \"name\": \"other\"}", -1, NULL));
    ck_assert (g_file_set_contents (wrong, "{}", -1, NULL));
    g_autoptr (GPtrArray) all = checkpoint_load_all (dir, damaged);
    static const char *const order[] = { "root", "parent", "child", "ring-b", "ring-a", "orphan" };
    ck_assert_uint_eq (all->len, G_N_ELEMENTS (order));
    for (guint i = 0; i < all->len; i++)
        ck_assert_str_eq (((Checkpoint *) all->pdata[i])->name, order[i]);
    ck_assert_uint_eq (damaged->len, 1);
    ck_assert_ptr_nonnull (strstr (damaged->pdata[0], broken));
}
END_TEST

static const struct {
    const char *name;
} bad_names[] = { { "../x" }, { "" }, { "a/b" }, { ".x" }, { "a b" }, { NULL } };

START_TEST (a_name_is_checked_before_it_becomes_a_path)
{
    const char *name = bad_names[_i].name;
    g_autoptr (Checkpoint) checkpoint = make_checkpoint (name, NULL, 1);

    ck_assert (!checkpoint_save (dir, checkpoint, NULL));
    ck_assert (!checkpoint_exists (dir, name));
    if (name) {
        ck_assert_ptr_null (checkpoint_load (dir, name, NULL));
        ck_assert (!checkpoint_remove (dir, name, NULL));
    }
}
END_TEST

START_TEST (a_name_as_long_as_a_file_name_may_be_works_and_a_longer_one_is_refused)
{
    g_autofree char *fits = g_strnfill (200, 'n'), *longer = g_strnfill (300, 'n');
    g_autoptr (Checkpoint) bad = make_checkpoint (longer, NULL, 1);

    save_checkpoint (fits, NULL, 1);
    ck_assert (checkpoint_exists (dir, fits));
    ck_assert (!checkpoint_save (dir, bad, NULL));
}
END_TEST

START_TEST (a_removed_checkpoint_is_gone_and_a_second_removal_says_so)
{
    g_autoptr (GError) error = NULL;

    save_checkpoint ("cp1", NULL, 1);
    ck_assert (checkpoint_remove (dir, "cp1", NULL));
    ck_assert (!checkpoint_exists (dir, "cp1"));
    ck_assert (!checkpoint_remove (dir, "cp1", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NO_CHECKPOINT);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("record");
    TCase *tcase = tcase_create ("record");
    SRunner *runner = srunner_create (suite);

    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 60);
    tcase_add_loop_test (tcase, every_field_of_a_job_survives_the_round_trip, 0, 8);
    tcase_add_loop_test (tcase, every_field_of_a_job_survives_on_disk, 0, 4);
    tcase_add_test (tcase, no_field_of_a_job_is_forgotten);
    tcase_add_test (tcase, a_record_speaks_the_words_of_the_product);
    tcase_add_test (tcase,
                    the_newest_job_is_the_one_that_began_last_even_when_the_clock_stepped_back);
    tcase_add_test (tcase, prune_keeps_the_newest_and_every_job_that_runs);
    tcase_add_loop_test (tcase, a_damaged_record_is_named_and_hides_nothing_else, 0,
                         G_N_ELEMENTS (bad_records));
    tcase_add_test (tcase, a_record_cut_anywhere_is_an_error_and_no_crash);
    tcase_add_test (tcase, too_long_and_too_many_is_refused);
    tcase_add_test (tcase, unknown_keys_are_left_alone);
    tcase_add_loop_test (tcase, a_job_that_is_not_there_is_said_so, 0, 5);
    tcase_add_test (tcase, a_new_id_is_an_id_and_another_each_time);
    tcase_add_test (tcase, every_field_of_a_checkpoint_survives_the_round_trip);
    tcase_add_test (tcase, checkpoints_come_parents_first_whatever_their_files_claim);
    tcase_add_loop_test (tcase, a_name_is_checked_before_it_becomes_a_path, 0,
                         G_N_ELEMENTS (bad_names));
    tcase_add_test (tcase, a_name_as_long_as_a_file_name_may_be_works_and_a_longer_one_is_refused);
    tcase_add_test (tcase, a_removed_checkpoint_is_gone_and_a_second_removal_says_so);
    suite_add_tcase (suite, tcase);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
