#include "long.h"
#include "point.h"

typedef struct {
    BakRepository *repository;
    BakRepositoryCheckOptions options;
    JsonArray *rows; /* NULL: print */
    int damaged;
    BakError *error;
} Check;

static void on_finding (const BakRepositoryFinding *finding, void *data)
{
    Check *check = data;
    if (check->rows) {
        JsonObject *object = json_new ();
        json_text (object, "uuid", finding->guest_uuid);
        json_text (object, "point", finding->point);
        json_text (object, "what", finding->what);
        json_bool (object, "damaged", finding->damaged);
        json_bool (object, "repaired", finding->repaired);
        json_array_add_object_element (check->rows, object);
        return;
    }
    g_autofree char *what = clean (finding->what);
    const char *kind = finding->damaged    ? _("damaged")
                       : finding->repaired ? _("repaired")
                                           : _("left");
    print (" %-8s  %s  %s\n", kind, finding->point ? finding->point : finding->guest_uuid, what);
}

static void check (LongCall *call, gpointer data)
{
    Check *check = data;
    check->options.cancellation = long_cancellation (call);
    check->damaged = bak_repository_check (check->repository, &check->options, &check->error);
}

static guint flags_of (const Args *args)
{
    return (args_has (args, "read-data") ? BAK_REPOSITORY_CHECK_READ_DATA : 0)
           | (args_has (args, "repair") ? BAK_REPOSITORY_CHECK_REPAIR : 0);
}

static int repository_check_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    Check run = { .repository = repository,
                  .options = { .size = sizeof run.options,
                               .flags = flags_of (args),
                               .limit = args_size (args, "limit"),
                               .func = on_finding },
                  .rows = args_json (args) ? json_array_new () : NULL };
    run.options.opaque = &run;
    gboolean interrupted = long_run (check, &run, NULL, FALSE);
    if (run.rows) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "findings", run.rows);
        print_json (json_take_object (object));
    }
    if (run.damaged < 0) {
        status = fail (run.error);
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    if (!args_json (args))
        print (run.damaged ? _("%d findings of damage\n") : _("No damage found\n"), run.damaged);
    return run.damaged ? STATUS_INEXACT : STATUS_DONE;
}

static const Option options[] = {
    { "repository", OPTION_TEXT, OPTION_POSITIONAL, "URL",
      N_("the repository, a directory; default: LIBBACKUP_REPOSITORY, else the configuration's"),
      WANT_FILE },
    KEY_OPTIONS,
    { "read-data", OPTION_FLAG, 0, NULL, N_("read and compare every disk of every point"),
      WANT_NOTHING },
    { "repair", OPTION_FLAG, 0, NULL,
      N_("clear what dead writers left, finish what they began, set damaged points aside"),
      WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    { 0 },
};

const Command cmd_repository_check = {
    .name = "repository-check",
    .group = "repository",
    .help = N_("Is a repository sound?"),
    .description = N_(
        "Compares documents, parentage, sizes, files and trees of hashes of all points; with "
        "--read-data all data too. A repair guesses nothing: a damaged point is set aside, unless "
        "a good one stands on it; then it stays and is marked. Exit status 4: damage was found."),
    .options = options,
    .run = repository_check_run
};
