#include "point.h"

static const char *state_of (const BakPoint *point)
{
    return bak_point_get_damage (point)         ? _("damaged")
           : !bak_point_get_verified (point)    ? ""
           : bak_point_is_verified_good (point) ? _("good")
                                                : _("bad");
}

/* Of a point whose documents cannot be read there is no more. */
static void unread_row (Table *table, const BakPoint *point)
{
    table_row (table, bak_point_get_guest (point), bak_point_get_id (point), "-", "-", "-", "-", "",
               state_of (point), "", NULL);
}

static void list_row (Table *table, const BakPoint *point)
{
    if (!bak_point_get_instant (point)) {
        unread_row (table, point);
        return;
    }
    g_autofree char *instant = format_time (bak_point_get_instant (point)),
                    *size = format_size (point_sum (point, bak_point_disk_get_size)),
                    *stored = format_size (point_sum (point, bak_point_disk_get_stored));
    const char *note = bak_point_get_note (point);
    gboolean full = FALSE;
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        full = full
               || g_strcmp0 (bak_point_disk_get_kind (bak_point_get_disk (point, i)), "full") == 0;
    table_row (table, bak_point_get_guest (point), bak_point_get_id (point), instant,
               full ? "full" : "incremental", size, stored,
               bak_point_is_pinned (point) ? _("yes") : "", state_of (point), note ? note : "",
               NULL);
}

static int point_list_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    BakPoint **points;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    if (bak_repository_list_points (repository, args_text (args, "domain"), &points,
                                    BAK_REPOSITORY_LIST_DAMAGED, &error)
        < 0)
        return fail (error);
    JsonArray *array = json_array_new ();
    Table *table = table_new (_("Guest"), _("Id"), _("Instant"), _("Read"), _("Size"),
                              _("Stored"), _("Pinned"), _("Verified"), _("Note"), NULL);
    for (guint i = 0; points[i]; i++) {
        json_array_add_object_element (array, point_to_json (points[i]));
        list_row (table, points[i]);
        if (bak_point_get_damage (points[i]))
            warn (_("point '%s' is damaged: %s"), bak_point_get_id (points[i]),
                  bak_point_get_damage (points[i]));
    }
    LIST_FREE (points, bak_point_unref);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "points", array);
        print_json (json_take_object (object));
        table_free (table);
    } else {
        json_array_unref (array);
        table_print (table);
    }
    return STATUS_DONE;
}

static const Option list_options[] = {
    { "domain", OPTION_TEXT, OPTION_POSITIONAL, "DOMAIN",
      N_("name or UUID of a guest that has points; default: all"), WANT_DOMAIN },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_point_list = { .name = "point-list",
                                 .group = "point",
                                 .help = N_("List the points of a repository"),
                                 .options = list_options,
                                 .run = point_list_run };

/* point-info */

static void print_head (const BakPoint *point)
{
    g_autofree char *instant = format_time (bak_point_get_instant (point)),
                    *verified = format_time (bak_point_get_verified (point));
    print_label (_("Id:"), bak_point_get_id (point));
    print_label (_("Guest:"), bak_point_get_guest (point));
    print_label (_("UUID:"), bak_point_get_guest_uuid (point));
    print_label (_("Instant:"), instant);
    print_label (_("Consistency:"), bak_point_get_consistency (point));
    print_label (_("Host:"), bak_point_get_host (point));
    print_label (_("QEMU version:"), bak_point_get_qemu_version (point));
    print_label (_("Checkpoint:"), bak_point_get_checkpoint (point));
    print_label (_("Parent:"), bak_point_get_parent (point));
    print_label (_("Pinned:"), bak_point_is_pinned (point) ? _("yes") : _("no"));
    if (bak_point_get_verified (point))
        print_label_format (_("Verified:"), "%s, %s", verified,
                            bak_point_is_verified_good (point) ? _("good") : _("bad"));
    print_label (_("Damage:"), bak_point_get_damage (point));
    print_label (_("Note:"), bak_point_get_note (point));
    print_label (_("Files:"), bak_point_get_path (point));
    for (guint i = 0; i < bak_point_get_n_warnings (point); i++)
        print_label (_("Warning:"), bak_point_get_warning (point, i));
}

static void print_disks (const BakPoint *point)
{
    Table *table = table_new (_("Disk"), _("Size"), _("Kind"), _("Read"), _("Stored"),
                              _("File"), _("Base"), _("Reason"), NULL);
    for (guint i = 0; i < bak_point_get_n_disks (point); i++) {
        const BakPointDisk *disk = bak_point_get_disk (point, i);
        const char *base = bak_point_disk_get_base (disk),
                   *reason = bak_point_disk_get_reason (disk);
        g_autofree char *size = format_size (bak_point_disk_get_size (disk)),
                        *read = format_size (bak_point_disk_get_read (disk)),
                        *stored = format_size (bak_point_disk_get_stored (disk)),
                        *file = format_size (bak_point_disk_get_file_size (disk));
        table_row (table, bak_point_disk_get_target (disk), size, bak_point_disk_get_kind (disk),
                   read, stored, file, base ? base : "-", reason ? reason : "", NULL);
    }
    print ("\n");
    table_print (table);
}

static int point_info_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    if (!point)
        return status;
    if (args_json (args)) {
        print_json (json_take_object (point_to_json (point)));
    } else {
        print_head (point);
        print_disks (point);
    }
    return STATUS_DONE;
}

static const Option info_options[] = { POINT_OPTION, REPOSITORY_OPTION, { 0 } };

const Command cmd_point_info = { .name = "point-info",
                                 .group = "point",
                                 .help = N_("What a point is, and how it was made"),
                                 .options = info_options,
                                 .run = point_info_run };
