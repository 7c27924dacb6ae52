#include <string.h>
#include "long.h"
#include "point.h"

typedef struct {
    BakPoint *point;
    BakPointRestoreOptions options;
    BakError *error;
    int ret;
} Restoration;

static void restore (LongCall *call, gpointer data)
{
    Restoration *restoration = data;
    restoration->options.progress = long_progress;
    restoration->options.opaque = call;
    restoration->options.cancellation = long_cancellation (call);
    restoration->ret =
        bak_point_restore (restoration->point, &restoration->options, &restoration->error);
}

static gboolean has_disk (const BakPoint *point, const char *target)
{
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        if (g_str_equal (bak_point_disk_get_target (bak_point_get_disk (point, i)), target))
            return TRUE;
    return FALSE;
}

/* "vda=/dev/vg/web" when the point has a disk vda; else a directory, whatever its name. */
static gboolean split_target (const BakPoint *point, const char *text, GArray *targets)
{
    const char *equals = strchr (text, '=');
    g_autofree char *disk = equals ? g_strndup (text, equals - text) : NULL;
    if (!disk || (strchr (disk, '/') && !has_disk (point, disk)))
        return FALSE;
    BakPointRestoreTarget target = { .disk = g_steal_pointer (&disk), .path = equals + 1 };
    g_array_append_val (targets, target);
    return TRUE;
}

static void target_clear (gpointer data)
{
    g_free ((char *) ((BakPointRestoreTarget *) data)->disk);
}

static int take_targets (const Args *args, Restoration *restoration, GArray *targets)
{
    const char *const *texts = args_all (args, "target");
    for (guint i = 0; texts[i]; i++) {
        if (split_target (restoration->point, texts[i], targets))
            continue;
        if (restoration->options.directory)
            return usage (_("option --target: only one directory can be given"));
        restoration->options.directory = texts[i];
    }
    if (restoration->options.directory && targets->len)
        return usage (_("option --target: either a directory or DISK=PATH"));
    if (targets->len && args_has (args, "disk"))
        return usage (_("option --disk goes with a directory; DISK=PATH names the disk itself"));
    restoration->options.targets = (const BakPointRestoreTarget *) targets->data;
    restoration->options.n_targets = targets->len;
    return STATUS_DONE;
}

static void print_restored (const Args *args, const Restoration *restoration)
{
    const BakPoint *point = restoration->point;
    g_autofree char *guest = clean (bak_point_get_guest (point)),
                    *instant = format_time (bak_point_get_instant (point));
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "id", bak_point_get_id (point));
        json_text (object, "guest", bak_point_get_guest (point));
        json_bool (object, "proved", TRUE);
        print_json (json_take_object (object));
        return;
    }
    print (_("Point %s@%s (%s) restored and proved by its hashes\n"), guest,
           bak_point_get_id (point), instant);
}

static int run_restore (Shell *shell, const Args *args, Restoration *restoration)
{
    gboolean interrupted = long_run (restore, restoration, bak_point_get_guest (restoration->point),
                                     !shell->quiet && !args_json (args));
    if (restoration->ret < 0) {
        int status = fail (restoration->error);
        if (interrupted)
            tell (_("The same command again goes on where it was interrupted"));
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    print_restored (args, restoration);
    return STATUS_DONE;
}

static int point_restore_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    g_autoptr (GArray) targets = g_array_new (FALSE, TRUE, sizeof (BakPointRestoreTarget));
    if (!point)
        return status;
    g_array_set_clear_func (targets, target_clear);
    Restoration restoration = {
        .point = point,
        .options = { .size = sizeof (BakPointRestoreOptions),
                     .flags =
                         (args_has (args, "reuse-external") ? BAK_POINT_RESTORE_REUSE_EXTERNAL : 0)
                         | (args_has (args, "changed-only") ? BAK_POINT_RESTORE_CHANGED_ONLY : 0),
                     .disks = args_has (args, "disk") ? args_all (args, "disk") : NULL,
                     .format = args_text (args, "format"),
                     .limit = args_size (args, "limit") }
    };
    status = take_targets (args, &restoration, targets);
    return status == STATUS_DONE ? run_restore (shell, args, &restoration) : status;
}

static const Option restore_options[] = {
    POINT_OPTION,
    { "target", OPTION_TEXT, OPTION_REPEATED | OPTION_REQUIRED, "DIR|DISK=PATH",
      N_("a directory, which gets DISK.FORMAT for each disk, the definition and a README; or "
          "where "
          "one disk goes: a new file, an image, a block device"),
      WANT_FILE },
    { "disk", OPTION_TEXT, OPTION_REPEATED, "DISK",
      N_("with a directory: only this disk; may be repeated"), WANT_NOTHING },
    { "format", OPTION_CHOICE, 0, "raw|qcow2",
      N_("of what is written; default: qcow2, raw on a block device"), WANT_NOTHING },
    { "reuse-external", OPTION_FLAG, 0, NULL, N_("write onto files and devices that are there"),
      WANT_NOTHING },
    { "changed-only", OPTION_FLAG, 0, NULL,
      N_("compare what is there by hashes and write only what differs"), WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};
static const Rule restore_rules[] = { { RULE_REQUIRES, "changed-only", "reuse-external" }, { 0 } };

const Command cmd_point_restore = {
    .name = "point-restore",
    .group = "point",
    .help = N_("Write the disks of a point to files or devices"),
    .description = N_(
        "All that is written is proved by the hashes of the point; exit status 4 and the disk and "
        "range when it is damaged. A new file has its name only when it is whole: until then it is "
        "NAME.restoring, and the same command goes on with it. An image or device that is in use "
        "is refused."),
    .options = restore_options,
    .rules = restore_rules,
    .run = point_restore_run
};
