#include "long.h"
#include "point.h"

typedef struct {
    BakRepository *repository;
    const char *path;
    BakPointImportOptions options;
    BakPoint **points;
    BakError *error;
    int count;
} Importing;

static void import (LongCall *call, gpointer data)
{
    Importing *importing = data;
    importing->options.progress = long_progress;
    importing->options.opaque = call;
    importing->options.cancellation = long_cancellation (call);
    importing->count =
        bak_repository_import_points (importing->repository, importing->path, &importing->points,
                                      &importing->options, &importing->error);
}

static void print_point (const BakPoint *point)
{
    g_autofree char *guest = clean (bak_point_get_guest (point)),
                    *instant = format_time (bak_point_get_instant (point)),
                    *stored = format_size (point_sum (point, bak_point_disk_get_stored));
    print (_("Point %s@%s imported (%s), %s stored\n"), guest, bak_point_get_id (point), instant,
           stored);
    point_warn (point);
}

static void print_imported (const Args *args, const Importing *importing)
{
    JsonArray *rows = args_json (args) ? json_array_new () : NULL;
    for (int i = 0; i < importing->count; i++) {
        if (rows)
            json_array_add_object_element (rows, point_to_json (importing->points[i]));
        else
            print_point (importing->points[i]);
    }
    if (rows) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "points", rows);
        print_json (json_take_object (object));
    }
}

static int point_import_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    Importing importing = { .repository = repository,
                            .path = args_text (args, "file"),
                            .options = { .size = sizeof (BakPointImportOptions),
                                         .domain = args_text (args, "domain"),
                                         .compression = args_text (args, "compression"),
                                         .note = args_text (args, "note"),
                                         .limit = args_size (args, "limit") } };
    gboolean interrupted =
        long_run (import, &importing, importing.options.domain, !shell->quiet && !args_json (args));
    if (importing.count < 0) {
        status = fail (importing.error);
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    print_imported (args, &importing);
    for (int i = 0; i < importing.count; i++)
        bak_point_unref (importing.points[i]);
    bak_free (importing.points);
    return STATUS_DONE;
}

static const Option options[] = {
    { "file", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "FILE|DIR",
      N_("a VMA archive, also packed with zstd (- is one on standard input), a qcow2 or raw "
          "image, a "
          "directory of them, or one of virtnbdbackup"),
      WANT_FILE },
    { "domain", OPTION_TEXT, 0, "NAME",
      N_("the guest that it becomes; default: what it says itself, else its file name"),
      WANT_NOTHING },
    { "compression", OPTION_CHOICE, 0, "none|zstd", N_("of what is stored; default: none"),
      WANT_NOTHING },
    { "note", OPTION_TEXT, 0, "TEXT", N_("for people"), WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_point_import = {
    .name = "point-import",
    .group = "point",
    .help = N_("Make points of what other tools made"),
    .description = N_(
        "What is read is not trusted: it is whole by every rule of its kind, or exit status 4 says "
        "what is wrong with it. Where the guest has points already, only what differs from the "
        "newest is stored. Of a directory of virtnbdbackup each run becomes a point. A backing "
        "file "
        "is followed only within the directory of its image."),
    .options = options,
    .run = point_import_run
};
