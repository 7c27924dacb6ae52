/* Which bitmaps say what changed since a checkpoint, and every reason why none do. */
#include <check.h>
#include <string.h>
#include "driver/qemu/plan.h"
#include "recorded.h"

enum { DISK_SIZE = 16 << 20 };

/* A guest whose disk has three images, base <- middle <- system, under a throttle filter. */
typedef struct {
    Graph *graph;
    GraphDisk *disk;
    GraphNode *system, *middle, *base;
    Checkpoint *since;
    CheckpointDisk *recorded;
} Fixture;

static GraphNode *node_of_file (Graph *graph, const char *name)
{
    for (guint i = 0; i < graph->nodes->len; i++) {
        GraphNode *node = graph->nodes->pdata[i];
        if (g_str_equal (node->driver, "qcow2") && g_str_has_suffix (node->filename, name))
            return node;
    }
    g_error ("no node of %s was recorded", name);
}

static GraphBitmap *add_bitmap (GraphNode *node, const char *name)
{
    GraphBitmap *bitmap = g_new0 (GraphBitmap, 1);
    *bitmap = (GraphBitmap){
        .name = g_strdup (name), .granularity = 65536, .recording = TRUE, .persistent = TRUE
    };
    g_ptr_array_add (node->bitmaps, bitmap);
    return bitmap;
}

static void set_up (Fixture *f, const char *version)
{
    f->graph = recorded_graph (version, "guest", NULL);
    f->system = node_of_file (f->graph, "system.qcow2");
    f->middle = node_of_file (f->graph, "middle.qcow2");
    f->base = node_of_file (f->graph, "base.qcow2");
    f->disk = (GraphDisk *) graph_disk (f->graph, "virtio-disk0", NULL);
    ck_assert_ptr_nonnull (f->disk);
    f->since = checkpoint_new ("c0");
    f->recorded = checkpoint_disk_new ("virtio-disk0");
    f->recorded->file = g_strdup (f->system->filename);
    f->recorded->bitmap = g_strdup ("c0");
    f->recorded->persistent = TRUE;
    f->recorded->size = DISK_SIZE;
    f->recorded->granularity = 65536;
    g_ptr_array_add (f->since->disks, f->recorded);
    add_bitmap (f->system, "c0");
}

static void tear_down (Fixture *f)
{
    graph_free (f->graph);
    checkpoint_free (f->since);
}

static GraphBitmap *bitmap (Fixture *f)
{
    return f->system->bitmaps->pdata[0];
}

static void rename_text (char **text, const char *other)
{
    g_free (*text);
    *text = g_strdup (other);
}

static void nothing (Fixture *f) {}
static void inconsistent (Fixture *f)
{
    bitmap (f)->inconsistent = TRUE;
}
static void busy (Fixture *f)
{
    bitmap (f)->busy = TRUE;
}
static void stopped (Fixture *f)
{
    bitmap (f)->recording = FALSE;
}
static void other_granularity (Fixture *f)
{
    bitmap (f)->granularity = 4096;
}
static void unknown_granularity (Fixture *f)
{
    f->recorded->granularity = 0;
    bitmap (f)->granularity = 4096;
}
static void gone (Fixture *f)
{
    rename_text (&bitmap (f)->name, "other");
}
static void gone_from_memory (Fixture *f)
{
    f->recorded->persistent = FALSE;
    gone (f);
}
static void grown (Fixture *f)
{
    f->disk->size += 512;
}
static void smaller (Fixture *f)
{
    f->disk->size -= 512;
}
static void seen_smaller (Fixture *f)
{
    f->recorded->shrunk = TRUE;
}
static void other_disk (Fixture *f)
{
    rename_text (&f->recorded->disk, "data");
}
static void by_another_name (Fixture *f)
{
    rename_text (&f->recorded->disk, f->disk->names->pdata[f->disk->names->len - 1]);
}
static void other_image (Fixture *f)
{
    rename_text (&f->recorded->file, "/elsewhere.qcow2");
    gone (f);
}
static void image_below_unknown (Fixture *f)
{
    rename_text (&f->recorded->file, "/elsewhere.qcow2");
}
static void made_below (Fixture *f)
{
    rename_text (&f->recorded->file, f->middle->filename);
}
static void made_below_and_tracked (Fixture *f)
{
    made_below (f);
    add_bitmap (f->middle, "c0")->recording = FALSE;
}
static void made_below_overlay_untracked (Fixture *f)
{
    made_below_and_tracked (f);
    gone (f);
}
static void made_two_below (Fixture *f)
{
    rename_text (&f->recorded->file, f->base->filename);
    add_bitmap (f->base, "c0");
    gone (f);
}
static void made_below_and_inconsistent (Fixture *f)
{
    made_below (f);
    add_bitmap (f->middle, "c0")->inconsistent = TRUE;
}
static GraphBitmap *sealed (Fixture *f)
{
    f->recorded->seal = seal_name ("0123456789abcdef", "c0", "virtio-disk0");
    bitmap (f)->count = 131072;
    GraphBitmap *seal = add_bitmap (f->system, f->recorded->seal);
    seal->count = 131072;
    return seal;
}
static void sealed_and_whole (Fixture *f)
{
    sealed (f);
}
static void sealed_and_moved (Fixture *f)
{
    sealed (f);
    rename_text (&f->recorded->file, "/elsewhere.qcow2");
}
static void sealed_elsewhere (Fixture *f)
{
    g_autofree char *other = seal_name ("0123456789abcdef", "c0", "another-disk");
    rename_text (&sealed (f)->name, other);
}
static void seal_gone (Fixture *f)
{
    rename_text (&sealed (f)->name, "other");
}
static GraphBitmap *guarded (Fixture *f)
{
    sealed (f);
    g_autofree char *name = seal_end_name (f->recorded->seal);
    f->recorded->guarded = TRUE;
    GraphBitmap *end = add_bitmap (f->system, name);
    end->recording = FALSE;
    end->count = 512;
    return end;
}
static void guarded_and_whole (Fixture *f)
{
    guarded (f);
}
static void end_cut (Fixture *f)
{
    guarded (f)->count = 0;
}
static void end_gone (Fixture *f)
{
    rename_text (&guarded (f)->name, "other");
}
static void seal_inconsistent (Fixture *f)
{
    sealed (f)->inconsistent = TRUE;
}
static void shows_less_than_its_seal (Fixture *f)
{
    sealed (f)->count += 65536;
}
static void shows_more_than_its_seal (Fixture *f)
{
    sealed (f)->count -= 65536;
}
static void sealed_below_and_tracked (Fixture *f)
{
    made_below_and_tracked (f);
    f->recorded->seal = seal_name ("0123456789abcdef", "c0", "virtio-disk0");
    add_bitmap (f->middle, f->recorded->seal)->recording = FALSE;
}

/* says NULL: exact, with so many bitmaps */
static const struct {
    void (*change) (Fixture *f);
    const char *says;
    guint bitmaps;
} cases[] = {
    { nothing, NULL, 1 },
    { unknown_granularity, NULL, 1 },
    { by_another_name, NULL, 1 },
    { made_below_and_tracked, NULL, 2 },
    { inconsistent, "bitmap inconsistent", 0 },
    { made_below_and_inconsistent, "bitmap inconsistent", 0 },
    { busy, "bitmap in use", 0 },
    { stopped, "not recording", 0 },
    { other_granularity, "another granularity", 0 },
    { gone, "bitmap inconsistent: it was never stored", 0 },
    { gone_from_memory, "died with the QEMU process", 0 },
    { grown, "resized from 16777216 to 16777728", 0 },
    { smaller, "resized from 16777216 to 16776704", 0 },
    { seen_smaller, "smaller since", 0 },
    { other_disk, "not in the checkpoint", 0 },
    { other_image, "another image", 0 },
    { image_below_unknown, "gap in the image chain", 0 },
    { made_below, "gap in the image chain", 0 },
    { made_below_overlay_untracked, "overlay does not track", 0 },
    { made_two_below, "overlay does not track", 0 },
    { sealed_and_whole, NULL, 1 },
    { sealed_and_moved, NULL, 1 },
    { sealed_below_and_tracked, NULL, 2 },
    { shows_more_than_its_seal, NULL, 1 },
    { sealed_elsewhere, "another image", 0 },
    { seal_gone, "another image", 0 },
    { guarded_and_whole, NULL, 1 },
    { end_cut, "has been smaller since", 0 },
    { end_gone, "another image", 0 },
    { seal_inconsistent, "bitmap inconsistent", 0 },
    { shows_less_than_its_seal, "touched by somebody else", 0 },
};
static const char *const versions[] = { "5.2", "7.2", "10.0", "11.1" };

START_TEST (every_state_is_exact_or_has_its_reason)
{
    for (guint v = 0; v < G_N_ELEMENTS (versions); v++) {
        Fixture f;
        g_autofree char *reason = NULL;
        set_up (&f, versions[v]);
        cases[_i].change (&f);
        g_autoptr (JsonArray) changes = plan_changes_since (f.graph, f.disk, f.since, &reason);
        if (cases[_i].says) {
            ck_assert_msg (changes == NULL, "%s: exact, should say %s", versions[v],
                           cases[_i].says);
            ck_assert_msg (strstr (reason, cases[_i].says) != NULL, "%s: %s, should say %s",
                           versions[v], reason, cases[_i].says);
        } else {
            ck_assert_msg (changes != NULL, "%s: %s", versions[v], reason);
            ck_assert_uint_eq (json_array_get_length (changes), cases[_i].bitmaps);
            ck_assert_str_eq (
                json_object_get_string_member (json_array_get_object_element (changes, 0), "node"),
                f.system->name);
        }
        tear_down (&f);
    }
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("since");
    TCase *tests = tcase_create ("since");
    tcase_add_loop_test (tests, every_state_is_exact_or_has_its_reason, 0, G_N_ELEMENTS (cases));
    tcase_set_timeout (tests, 60);
    suite_add_tcase (suite, tests);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed != 0;
}
