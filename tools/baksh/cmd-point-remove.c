#include "long.h"
#include "point.h"

/* A removal that is told row by row. */
typedef struct {
    const Args *args;
    BakRepository *repository;
    BakPointRemoveOptions options;
    BakPruneRules rules;
    GPtrArray *points;         /* of point-delete */
    const char *const *guests; /* of point-prune */
    JsonArray *rows;           /* NULL: print */
    gboolean failed;
    BakError *error;
} Removing;

static JsonObject *row_to_json (const BakPointRemoval *row)
{
    JsonObject *object = json_new ();
    json_text (object, "id", row->id);
    json_text (object, "guest", row->guest);
    json_time (object, "instant", row->instant);
    json_bool (object, "keep", row->why != NULL);
    json_text (object, "why", row->why);
    json_bool (object, "removed", row->removed);
    json_text (object, "way", row->way);
    json_int (object, "cost", row->cost);
    return object;
}

static const char *verdict_of (const BakPointRemoval *row)
{
    return row->why ? _("keep") : row->removed ? _("removed") : _("remove");
}

static void print_row (const BakPointRemoval *row)
{
    g_autofree char *guest = clean (row->guest), *why = clean (row->why);
    g_autofree char *time = format_time (row->instant);
    g_autofree char *cost = format_size (row->cost);
    print (" %-8s %s@%s  %s", verdict_of (row), guest, row->id, time);
    if (row->why)
        print ("  %s\n", why);
    else if (row->way)
        print (_("  %s, writes up to %s\n"), row->way, cost);
    else
        print ("\n");
}

static void on_row (const BakPointRemoval *row, void *data)
{
    Removing *removing = data;
    if (removing->rows)
        json_array_add_object_element (removing->rows, row_to_json (row));
    else
        print_row (row);
}

static void delete_points (LongCall *call, gpointer data)
{
    Removing *removing = data;
    removing->options.cancellation = long_cancellation (call);
    for (guint i = 0; !removing->failed && i < removing->points->len; i++)
        removing->failed =
            bak_point_delete (removing->points->pdata[i], &removing->options, &removing->error) < 0;
}

static void prune_guests (LongCall *call, gpointer data)
{
    static const char *const all[] = { NULL, NULL };
    Removing *removing = data;
    const char *const *guests = *removing->guests ? removing->guests : all;
    removing->options.cancellation = long_cancellation (call);
    do
        removing->failed = bak_repository_prune (removing->repository, *guests, &removing->rules,
                                                 &removing->options, &removing->error)
                           < 0;
    while (!removing->failed && *guests && *++guests);
}

static int run_removal (Shell *shell, Removing *removing, LongFunc function)
{
    removing->options.size = sizeof removing->options;
    removing->options.flags = args_has (removing->args, "dry-run") ? BAK_POINT_REMOVE_DRY_RUN : 0;
    removing->options.limit = args_size (removing->args, "limit");
    removing->options.func = on_row;
    removing->options.opaque = removing;
    removing->rows = args_json (removing->args) ? json_array_new () : NULL;
    gboolean interrupted = long_run (function, removing, NULL, FALSE);
    if (removing->rows) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "points", removing->rows);
        print_json (json_take_object (object));
    }
    if (!removing->failed)
        return STATUS_DONE;
    int status = fail (removing->error);
    return interrupted ? STATUS_INTERRUPTED : status;
}

static int point_delete_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (GPtrArray) points =
        g_ptr_array_new_with_free_func ((GDestroyNotify) bak_point_unref);
    const char *const *names = args_all (args, "point");
    for (guint i = 0; repository && names[i]; i++) {
        BakError *error = NULL;
        BakPoint *point = bak_repository_lookup_point (repository, names[i], 0, &error);
        if (!point)
            return fail (error);
        g_ptr_array_add (points, point);
    }
    Removing removing = { .args = args, .repository = repository, .points = points };
    return repository ? run_removal (shell, &removing, delete_points) : status;
}

static guint count_of (const Args *args, const char *name)
{
    return (guint) MIN (args_size (args, name), G_MAXUINT);
}

static int point_prune_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    Removing removing = { .args = args,
                          .repository = repository,
                          .guests = args_all (args, "domain"),
                          .rules = { .size = sizeof (BakPruneRules),
                                     .last = count_of (args, "keep-last"),
                                     .hourly = count_of (args, "keep-hourly"),
                                     .daily = count_of (args, "keep-daily"),
                                     .weekly = count_of (args, "keep-weekly"),
                                     .monthly = count_of (args, "keep-monthly"),
                                     .yearly = count_of (args, "keep-yearly"),
                                     .within = args_microseconds (args, "keep-within") } };
    return repository ? run_removal (shell, &removing, prune_guests) : status;
}

#define DRY_RUN_OPTION(text)                                                                       \
    {                                                                                              \
        "dry-run", OPTION_FLAG, 0, NULL, text, WANT_NOTHING                                        \
    }
#define LIMIT_OPTION                                                                               \
    {                                                                                              \
        "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"),             \
            WANT_NOTHING                                                                           \
    }

static const Option delete_options[] = {
    { "point", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED | OPTION_REPEATED, "POINT",
      N_("GUEST@latest, GUEST@2026-11-29, GUEST@2026-11-29T01:00:03Z, GUEST@ID, or an id"),
      WANT_POINT },
    REPOSITORY_OPTION,
    LIMIT_OPTION,
    DRY_RUN_OPTION (N_("say what it would take, and remove nothing")),
    { 0 },
};

const Command cmd_point_delete = {
    .name = "point-delete",
    .group = "point",
    .help = N_("Remove points"),
    .description = N_("What other points need of one goes over to them first; each of them reads "
                       "as before. A pinned point, or one that is being read, is refused."),
    .options = delete_options,
    .run = point_delete_run
};

static const Option prune_options[] = {
    { "domain", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "DOMAIN",
      N_("only points of this guest; default: of every guest, each by itself"), WANT_DOMAIN },
    { "keep-last", OPTION_NUMBER, 0, "N", N_("the newest N points"), WANT_NOTHING },
    { "keep-hourly", OPTION_NUMBER, 0, "N", N_("the newest of each of N hours"), WANT_NOTHING },
    { "keep-daily", OPTION_NUMBER, 0, "N", N_("the newest of each of N days"), WANT_NOTHING },
    { "keep-weekly", OPTION_NUMBER, 0, "N", N_("the newest of each of N weeks"), WANT_NOTHING },
    { "keep-monthly", OPTION_NUMBER, 0, "N", N_("the newest of each of N months"), WANT_NOTHING },
    { "keep-yearly", OPTION_NUMBER, 0, "N", N_("the newest of each of N years"), WANT_NOTHING },
    { "keep-within", OPTION_SECONDS, 0, "DURATION",
      N_("all that are at most so much older than the newest, as 36h or 14d"), WANT_NOTHING },
    REPOSITORY_OPTION,
    LIMIT_OPTION,
    DRY_RUN_OPTION (N_("show each point with the rule that keeps it, and remove nothing")),
    { 0 },
};

const Command cmd_point_prune = {
    .name = "point-prune",
    .group = "point",
    .help = N_("Remove the points that no rule keeps"),
    .description = N_(
        "Periods are those of local time; a rule skips periods that an earlier rule kept a point "
        "of. Pinned points stay and count for no rule, and the newest good point of a guest stays "
        "whatever the rules say. A point that is in use stays and is told of."),
    .options = prune_options,
    .run = point_prune_run
};
