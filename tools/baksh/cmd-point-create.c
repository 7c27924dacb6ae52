#include <string.h>
#include "long.h"
#include "point.h"

typedef struct {
    BakRepository *repository;
    BakDomain *domain;
    BakPointCreateOptions options;
    BakPoint *point;
    BakError *error;
} Creation;

static guint flags_of (const Args *args)
{
    guint flags = 0;
    if (args_has (args, "full-read"))
        flags |= BAK_POINT_CREATE_FULL_READ;
    if (args_has (args, "pin"))
        flags |= BAK_POINT_CREATE_PIN;
    if (args_has (args, "resume"))
        flags |= BAK_POINT_CREATE_RESUME;
    if (g_strcmp0 (args_text (args, "fallback"), "refuse") == 0)
        flags |= BAK_POINT_CREATE_REFUSE_FALLBACK;
    if (args_has (args, "sample") && args_size (args, "sample") == 0)
        flags |= BAK_POINT_CREATE_NO_SAMPLE;
    return flags;
}

static BakQuiesce quiesce_of (const Args *args)
{
    const char *word = args_text (args, "quiesce");
    return g_strcmp0 (word, "yes") == 0  ? BAK_QUIESCE_YES
           : g_strcmp0 (word, "no") == 0 ? BAK_QUIESCE_NO
                                         : BAK_QUIESCE_AUTO;
}

static BakPointCreateOptions options_of (const Args *args)
{
    return (BakPointCreateOptions){
        .size = sizeof (BakPointCreateOptions),
        .flags = flags_of (args),
        .disks = args_has (args, "disk") ? args_all (args, "disk") : NULL,
        .quiesce = quiesce_of (args),
        .samples = (guint) MIN (args_size (args, "sample"), G_MAXUINT),
        .compression = args_text (args, "compression"),
        .limit = args_size (args, "limit"),
        .timeout = args_microseconds (args, "timeout"),
        .note = args_text (args, "note"),
    };
}

static void create (LongCall *call, gpointer data)
{
    Creation *creation = data;
    creation->options.progress = long_progress;
    creation->options.opaque = call;
    creation->options.cancellation = long_cancellation (call);
    creation->point = bak_repository_create_point (creation->repository, creation->domain,
                                                   &creation->options, &creation->error);
}

static void print_disk (const BakPointDisk *disk)
{
    g_autofree char *target = clean (bak_point_disk_get_target (disk));
    g_autofree char *reason = clean (bak_point_disk_get_reason (disk));
    g_autofree char *read = format_size (bak_point_disk_get_read (disk)),
                    *stored = format_size (bak_point_disk_get_stored (disk)),
                    *reused = format_size (bak_point_disk_get_reused (disk));
    print (" %s: %s, ", target, bak_point_disk_get_kind (disk));
    print (_("%s read, %s stored, %s reused"), read, stored, reused);
    print (*reason ? " (%s)\n" : "\n", reason);
}

static void print_created (const BakPoint *point)
{
    g_autofree char *guest = clean (bak_point_get_guest (point));
    print (_("Point %s@%s created\n"), guest, bak_point_get_id (point));
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        print_disk (bak_point_get_disk (point, i));
}

static int print_plan (const Args *args, char *plan)
{
    g_autoptr (JsonParser) parser = json_parser_new ();
    if (!json_parser_load_from_data (parser, plan, -1, NULL))
        return bak_free (plan), STATUS_FAILED;
    bak_free (plan);
    if (args_json (args)) {
        print_json (json_parser_steal_root (parser));
        return STATUS_DONE;
    }
    JsonObject *object = json_node_get_object (json_parser_get_root (parser));
    JsonArray *disks = json_object_get_array_member (object, "disks");
    for (guint i = 0; i < json_array_get_length (disks); i++) {
        JsonObject *disk = json_array_get_object_element (disks, i);
        const char *reason = json_object_get_string_member_with_default (disk, "reason", NULL);
        const char *base = json_object_get_string_member_with_default (disk, "base", NULL);
        g_autofree char *target = clean (json_object_get_string_member (disk, "target")),
                        *why = clean (reason), *onto = clean (base);
        print (" %s: %s", target, json_object_get_string_member (disk, "kind"));
        if (*onto)
            print (_(", compared with point %s"), onto);
        print (*why ? " (%s)\n" : "\n", why);
    }
    return STATUS_DONE;
}

static int show_plan (const Args *args, Creation *creation)
{
    BakError *error = NULL;
    char *plan = bak_repository_plan_point (creation->repository, creation->domain,
                                            &creation->options, &error);
    return plan ? print_plan (args, plan) : fail (error);
}

static int show_created (const Args *args, Creation *creation, gboolean interrupted)
{
    if (!creation->point) {
        int status = point_fail (creation->error);
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    g_autoptr (BakPoint) point = creation->point;
    point_warn (point);
    if (args_json (args))
        print_json (json_take_object (point_to_json (point)));
    else
        print_created (point);
    return STATUS_DONE;
}

static int point_create_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    Creation creation = { .repository = repository,
                          .domain = args_domain (args),
                          .options = options_of (args) };
    if (args_has (args, "dry-run"))
        return show_plan (args, &creation);
    gboolean interrupted = long_run (create, &creation, bak_domain_get_name (creation.domain),
                                     !shell->quiet && !args_json (args));
    return show_created (args, &creation, interrupted);
}

static const Option create_options[] = {
    { "disk", OPTION_TEXT, OPTION_REPEATED, "DISK",
      N_("only this disk; may be repeated; default: all that are writable and not empty"),
      WANT_DISK },
    REPOSITORY_OPTION,
    { "quiesce", OPTION_CHOICE, 0, "auto|yes|no",
      N_("freeze the guest's file systems around the instant: if its agent does it (default), or "
          "fail, or not"),
      WANT_NOTHING },
    { "full-read", OPTION_FLAG, 0, NULL,
      N_("read and compare everything, whatever changed-block tracking says"), WANT_NOTHING },
    { "sample", OPTION_NUMBER, 0, "N",
      N_("places a disk that are read to test changed-block tracking; default: 64"),
      WANT_NOTHING },
    { "fallback", OPTION_CHOICE, 0, "full|refuse",
      N_("a disk that cannot be an increment is read whole (default), or nothing is done"),
      WANT_NOTHING },
    { "compression", OPTION_TEXT, 0, "METHOD", N_("none (default), zstd or zstd:LEVEL"),
      WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    { "note", OPTION_TEXT, 0, "TEXT", N_("what people should know of the point"), WANT_NOTHING },
    { "pin", OPTION_FLAG, 0, NULL, N_("pin the new point, so that nothing removes it"),
      WANT_NOTHING },
    { "timeout", OPTION_SECONDS, 0, "SECONDS", N_("give up after so long"), WANT_NOTHING },
    { "resume", OPTION_FLAG, 0, NULL,
      N_("go on with a point whose maker was killed, if its backup still runs: of the same "
          "instant, "
          "without reading again what was stored"),
      WANT_NOTHING },
    { "dry-run", OPTION_FLAG, 0, NULL,
      N_("show what each disk would be compared with, and do nothing"), WANT_NOTHING },
    { 0 },
};
static const Rule create_rules[] = { { RULE_EXCLUSIVE, "full-read", "sample" },
                                     { RULE_EXCLUSIVE, "full-read", "fallback" },
                                     { RULE_EXCLUSIVE, "resume", "dry-run" },
                                     { 0 } };

const Command cmd_point_create = {
    .name = "point-create",
    .group = "point",
    .help = N_("Back a guest up into a repository"),
    .description = N_(
        "Reads the disks of one instant, stores what differs from the newest point, and "
        "publishes the new point when all of it is durable. What changed-block tracking says is "
        "tested: if it missed a change, all of that disk is read, and a warning says so. Ctrl-C "
        "gives up and leaves nothing behind."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = create_options,
    .rules = create_rules,
    .run = point_create_run
};
