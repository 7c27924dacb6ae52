#include "point.h"

/* What has been told of the disk that is told of now. */
typedef struct {
    JsonArray *disks, *ranges;
    char *disk;
    guint64 size, changed;
    Table *table; /* NULL: JSON */
} Told;

static void end_disk (Told *told)
{
    if (!told->disk)
        return;
    JsonObject *object = json_new ();
    json_text (object, "target", told->disk);
    json_int (object, "size", told->size);
    json_int (object, "changed", told->changed);
    json_object_set_array_member (object, "ranges", told->ranges);
    json_array_add_object_element (told->disks, object);
    g_clear_pointer (&told->disk, g_free);
}

static void take (const char *disk, unsigned long long size, unsigned long long offset,
                  unsigned long long length, void *opaque)
{
    Told *told = opaque;
    if (g_strcmp0 (disk, told->disk) != 0) {
        end_disk (told);
        told->disk = g_strdup (disk);
        told->size = size;
        told->changed = 0;
        told->ranges = json_array_new ();
    }
    told->changed += length;
    JsonObject *range = json_new ();
    json_int (range, "offset", offset);
    json_int (range, "length", length);
    json_array_add_object_element (told->ranges, range);
    g_autofree char *at = g_strdup_printf ("%llu", offset),
                    *bytes = g_strdup_printf ("%llu", length);
    table_row (told->table, disk, at, bytes, NULL);
}

static BakPoint *other_point (const Args *args, BakRepository *repository, int *ret_status)
{
    BakError *error = NULL;
    const char *name = args_text (args, "before");
    *ret_status = STATUS_DONE;
    BakPoint *point = name ? bak_repository_lookup_point (repository, name, 0, &error) : NULL;
    if (name && !point)
        *ret_status = fail (error);
    return point;
}

static int point_diff_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    if (!point)
        return status;
    g_autoptr (BakPoint) before = other_point (args, repository, &status);
    if (status != STATUS_DONE)
        return status;
    Told told = { .disks = json_array_new (),
                  .table = table_new (_("Disk"), _("Offset"), _("Length"), NULL) };
    if (bak_point_diff (point, before, take, &told, &error) < 0)
        status = fail (error);
    end_disk (&told);
    JsonObject *object = json_new ();
    json_object_set_array_member (object, "disks", told.disks);
    g_autoptr (JsonNode) node = json_take_object (object);
    if (status == STATUS_DONE && args_json (args))
        print_json (g_steal_pointer (&node));
    if (status == STATUS_DONE && !args_json (args))
        table_print (told.table);
    else
        table_free (told.table);
    return status;
}

static const Option diff_options[] = {
    POINT_OPTION,
    { "before", OPTION_TEXT, OPTION_POSITIONAL, "POINT",
      N_("another point of the guest; default: the one before it"), WANT_POINT },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_point_diff = {
    .name = "point-diff",
    .group = "point",
    .help = N_("Show which places of the disks changed between two points"),
    .description =
        N_("By the hashes alone: no data is read. Places are in steps of 64 KiB. For the "
            "first point of a guest these are all places that are not zero."),
    .options = diff_options,
    .run = point_diff_run
};
