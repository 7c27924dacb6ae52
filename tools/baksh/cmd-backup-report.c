#include "night/report.h"

static int print_list (const Args *args, GPtrArray *jobs)
{
    g_autoptr (Table) table = table_new (_("Job"), _("Run"), _("Started"), _("Result"), NULL);
    JsonArray *runs = json_array_new ();
    for (guint i = 0; i < jobs->len; i++) {
        g_autoptr (GPtrArray) ids = report_list (jobs->pdata[i]);
        for (guint j = 0; j < ids->len; j++) {
            JsonObject *report = report_load (jobs->pdata[i], ids->pdata[j]);
            if (!report)
                continue;
            g_autofree char *headline = report_headline (report);
            g_autofree char *started = format_time (report_get_time (report, "started"));
            table_row (table, jobs->pdata[i], ids->pdata[j], started, headline, NULL);
            json_array_add_object_element (runs, report);
        }
    }
    JsonObject *object = json_new ();
    json_object_set_array_member (object, "runs", runs);
    g_autoptr (JsonNode) node = json_take_object (object);
    if (args_json (args))
        print_json (g_steal_pointer (&node));
    else
        table_print (g_steal_pointer (&table));
    return STATUS_DONE;
}

static int print_reports (const Args *args, GPtrArray *jobs)
{
    JsonArray *runs = json_array_new ();
    JsonObject *object = json_new ();
    int status = STATUS_DONE;
    json_object_set_array_member (object, "runs", runs);
    g_autoptr (JsonNode) node = json_take_object (object);
    for (guint i = 0; i < jobs->len; i++) {
        JsonObject *report = report_load (jobs->pdata[i], args_text (args, "run"));
        if (!report) {
            status = fail_with (STATUS_FAILED, _("job '%s': no such report is kept"),
                                (char *) jobs->pdata[i]);
            continue;
        }
        g_autofree char *text = report_text (report);
        json_array_add_object_element (runs, report);
        if (!args_json (args))
            print (i ? "\n%s" : "%s", text);
    }
    if (args_json (args))
        print_json (g_steal_pointer (&node));
    return status;
}

static int backup_report_run (Shell *shell, const Args *args)
{
    const char *const *named = args_all (args, "job");
    g_autoptr (GPtrArray) jobs =
        *named ? g_ptr_array_new_with_free_func (g_free) : night_job_names ();
    for (guint i = 0; named[i]; i++)
        if (night_job_is_name (named[i]))
            g_ptr_array_add (jobs, g_strdup (named[i]));
        else
            return usage (
                _("'%s' is no name of a job: letters, digits, '_', '-' and '.' make one"),
                named[i]);
    return args_has (args, "list") ? print_list (args, jobs) : print_reports (args, jobs);
}

static const Option report_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "JOB",
      N_("whose report; default: of all jobs"), WANT_NIGHT },
    { "list", OPTION_FLAG, 0, NULL, N_("the runs of which reports are kept, a line each"),
      WANT_NOTHING },
    { "run", OPTION_TEXT, 0, "RUN", N_("of this run, as --list has it; default: the last"),
      WANT_NOTHING },
    { 0 },
};
static const Rule report_rules[] = { { RULE_EXCLUSIVE, "list", "run" }, { 0 } };

const Command cmd_backup_report = {
    .name = "backup-report",
    .group = "night",
    .help = N_("How the last run of a job went"),
    .description = N_("Shows the report that backup-run printed. The last 100 of a job are kept."),
    .options = report_options,
    .rules = report_rules,
    .run = backup_report_run
};
