/* How fresh the backups are, by the points that there are and by nothing that a run has said. */
#include "night/night.h"

#define DEFAULT_AGE ((guint64) 26 * 3600 * G_USEC_PER_SEC)

typedef struct {
    gint64 oldest, now;
    JsonArray *rows;
    guint stale;
    gboolean failed;
} Looking;

static void look_at (Looking *looking, Night *night, const NightGuest *guest)
{
    BakError *error = NULL;
    BakPoint **points = night_points (night->repository, guest->uuid, &error);
    BakPoint *newest = night_newest_good (points);
    gint64 instant = newest ? bak_point_get_instant (newest) : 0;
    gboolean fresh = instant >= looking->oldest && instant;
    JsonObject *row = json_new ();
    json_text (row, "job", night->job->name);
    json_text (row, "guest", guest->name);
    json_text (row, "uuid", guest->uuid);
    json_bool (row, "fresh", fresh);
    json_time (row, "newest", instant);
    if (instant)
        json_int (row, "age_seconds", (looking->now - instant) / G_USEC_PER_SEC);
    else
        json_text (row, "age_seconds", NULL);
    json_text (row, "error", points ? NULL : bak_error_get_message (error));
    json_array_add_object_element (looking->rows, row);
    looking->stale += fresh ? 0 : 1;
    LIST_FREE (points, bak_point_unref);
    bak_error_unref (error);
}

/* FALSE: the error has been printed, *ret_status. */
static gboolean look_at_job (Looking *looking, Shell *shell, const NightJob *job, int *ret_status)
{
    static const char *const none[] = { NULL };
    NightOptions options = { .dry_run = TRUE, .quiet = TRUE, .domains = none };
    Night night = { .job = job, .options = &options, .shell = shell };
    g_autofree char *error = NULL;
    night_init (&night);
    gboolean good =
        night_open (&night, ret_status, &error) && night_choose (&night, ret_status, &error);
    for (guint i = 0; good && i < night.guests->len; i++)
        look_at (looking, &night, night.guests->pdata[i]);
    looking->failed |= night.unreached > 0;
    if (!good)
        fail_with (*ret_status, _("job '%s': %s"), job->name, error);
    night_clear (&night);
    return good;
}

static void print_metrics (const Looking *looking)
{
    g_autoptr (GString) ages = g_string_new (NULL);
    for (guint i = 0; i < json_array_get_length (looking->rows); i++) {
        JsonObject *row = report_element (looking->rows, i);
        night_add_sample (ages, "libbackup_newest_point_timestamp_seconds",
                          report_get_text (row, "job"), report_get_text (row, "guest"),
                          report_get_time (row, "newest"));
    }
    print (
        "# HELP libbackup_newest_point_timestamp_seconds Point in time of the newest good point; "
        "0: none.\n# TYPE libbackup_newest_point_timestamp_seconds gauge\n%s"
        "# HELP libbackup_stale_guests Guests without a good point that is young enough.\n"
        "# TYPE libbackup_stale_guests gauge\nlibbackup_stale_guests %u\n# EOF\n",
        ages->str, looking->stale);
}

static void print_rows (const Looking *looking)
{
    Table *table = table_new (_("Guest"), _("Job"), _("Newest"), _("Age"), _("Result"), NULL);
    for (guint i = 0; i < json_array_get_length (looking->rows); i++) {
        JsonObject *row = report_element (looking->rows, i);
        gint64 newest = report_get_time (row, "newest");
        gboolean fresh = json_object_get_boolean_member (row, "fresh");
        g_autofree char *time = format_time (newest);
        g_autofree char *age =
            newest ? format_seconds (MAX (0, looking->now - newest)) : g_strdup ("-");
        table_row (table, report_get_text (row, "guest"), report_get_text (row, "job"), time, age,
                   fresh    ? _("good")
                   : newest ? _("TOO OLD")
                            : _("NONE"),
                   NULL);
    }
    table_print (table);
}

static void print_json_rows (const Looking *looking)
{
    JsonObject *object = json_new ();
    json_int (object, "stale", looking->stale);
    json_object_set_array_member (object, "guests", json_array_ref (looking->rows));
    print_json (json_take_object (object));
}

static int backup_status_run (Shell *shell, const Args *args)
{
    guint64 age =
        args_has (args, "older-than") ? args_microseconds (args, "older-than") : DEFAULT_AGE;
    g_autoptr (GPtrArray) jobs = night_jobs (args_all (args, "job"));
    Looking looking = { .now = g_get_real_time (), .rows = json_array_new () };
    int status = jobs ? STATUS_DONE : STATUS_USAGE;
    looking.oldest = looking.now - (gint64) age;
    for (guint i = 0; jobs && i < jobs->len; i++)
        look_at_job (&looking, shell, jobs->pdata[i], &status);
    if (jobs && args_json (args))
        print_json_rows (&looking);
    else if (jobs && args_has (args, "metrics"))
        print_metrics (&looking);
    else if (jobs)
        print_rows (&looking);
    json_array_unref (looking.rows);
    if (status != STATUS_DONE)
        return status;
    return looking.stale || looking.failed ? STATUS_SOME_FAILED : STATUS_DONE;
}

static const Option status_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "JOB",
      N_("whose guests; default: those of all jobs"), WANT_NIGHT },
    { "older-than", OPTION_SECONDS, 0, "DURATION",
      N_("how old the newest good point may be; default: 26h"), WANT_NOTHING },
    { "metrics", OPTION_FLAG, 0, NULL, N_("print it for Prometheus (OpenMetrics)"), WANT_NOTHING },
    { 0 },
};
static const Rule status_rules[] = { { RULE_EXCLUSIVE, "json", "metrics" }, { 0 } };

const Command cmd_backup_status = {
    .name = "backup-status",
    .group = "night",
    .help = N_("Which guests have no fresh backup"),
    .description = N_("Looks at the points in the repositories, not at what runs have said. Exit "
                       "status 6: a guest has no good point that is young enough. Made for "
                       "monitoring."),
    .options = status_options,
    .rules = status_rules,
    .run = backup_status_run
};
