#include <unistd.h>
#include "long.h"
#include "point.h"

typedef struct {
    BakPoint *point;
    BakPointExportOptions options;
    BakError *error;
    int ret;
} Exporting;

static void export(LongCall *call, gpointer data)
{
    Exporting *exporting = data;
    exporting->options.progress = long_progress;
    exporting->options.opaque = call;
    exporting->options.cancellation = long_cancellation (call);
    exporting->ret = bak_point_export (exporting->point, &exporting->options, &exporting->error);
}

static void print_exported (const Args *args, const Exporting *exporting)
{
    const BakPoint *point = exporting->point;
    const char *path = exporting->options.path;
    g_autofree char *guest = clean (bak_point_get_guest (point)), *file = clean (path);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "id", bak_point_get_id (point));
        json_text (object, "guest", bak_point_get_guest (point));
        json_text (object, "format", exporting->options.format);
        json_text (object, "file", path);
        print_json (json_take_object (object));
        return;
    }
    print (_("Point %s@%s exported to '%s', proved by its hashes\n"), guest,
           bak_point_get_id (point), file);
}

static int point_export_run (Shell *shell, const Args *args)
{
    int status;
    const char *file = args_text (args, "file");
    gboolean standard = g_str_equal (file, "-");
    if (standard && args_json (args))
        return usage (_("option --json: standard output is where the archive goes"));
    if (standard && isatty (STDOUT_FILENO))
        return usage (_("standard output is a terminal: an archive goes to a file or a pipe"));
    shell->bare = standard;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    if (!point)
        return status;
    Exporting exporting = { .point = point,
                            .options = { .size = sizeof (BakPointExportOptions),
                                         .format = args_text (args, "format"),
                                         .path = standard ? NULL : file,
                                         .fd = STDOUT_FILENO,
                                         .disks = args_has (args, "disk") ? args_all (args, "disk")
                                                                          : NULL,
                                         .limit = args_size (args, "limit") } };
    gboolean interrupted = long_run (export, &exporting, bak_point_get_guest (point),
                                     !shell->quiet && !args_json (args));
    if (exporting.ret < 0) {
        status = fail (exporting.error);
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    if (!standard)
        print_exported (args, &exporting);
    return STATUS_DONE;
}

static const Option options[] = {
    POINT_OPTION,
    { "file", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "FILE",
      N_("a file that is not there yet; - is standard output"), WANT_FILE },
    { "format", OPTION_CHOICE, OPTION_REQUIRED, "vma|tar|raw",
      N_("an archive that Proxmox restores, a sparse tar archive of all that the point holds, or "
          "the bytes of one disk"),
      WANT_NOTHING },
    { "disk", OPTION_TEXT, OPTION_REPEATED, "DISK", N_("only this disk; may be repeated"),
      WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_point_export = {
    .name = "point-export",
    .group = "point",
    .help = N_("Write a point as one stream for other tools"),
    .description = N_(
        "All that is written is proved by the hashes of the point while it is read. A file has its "
        "name only when it is whole. On standard output the exit status is the verdict: what came "
        "out is good when it is 0, and only then. Two VMA archives of a guest differ only in their "
        "header and where the guest changed; beside a file, FILE.sha256.json has its hash, which "
        "point-import compares."),
    .options = options,
    .run = point_export_run
};
