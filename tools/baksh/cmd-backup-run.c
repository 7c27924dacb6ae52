#include <malloc.h>
#include "night/night.h"

static JsonNode *runs_to_json (JsonArray *runs)
{
    JsonObject *object = json_new ();
    json_object_set_array_member (object, "runs", runs);
    return json_take_object (object);
}

static void print_disks (JsonObject *row)
{
    JsonArray *disks = report_get_array (row, "disks"), *pruned = report_get_array (row, "pruned");
    for (guint i = 0; i < json_array_get_length (disks); i++) {
        JsonObject *disk = report_element (disks, i);
        const char *reason = report_get_text (disk, "reason"),
                   *base = report_get_text (disk, "base");
        g_autofree char *target = clean (report_get_text (disk, "target")), *why = clean (reason),
                        *onto = clean (base);
        print ("   %s: %s", target, report_get_text (disk, "kind"));
        if (*onto)
            print (_(", compared with point %s"), onto);
        print (*why ? " (%s)\n" : "\n", why);
    }
    for (guint i = 0; i < json_array_get_length (pruned); i++)
        print (_("   point %s would go\n"), json_array_get_string_element (pruned, i));
}

static void print_plan (JsonObject *report)
{
    JsonArray *rows = report_get_array (report, "guests");
    const char *error = report_get_text (report, "error");
    g_autofree char *name = clean (report_get_text (report, "job"));
    print (_("Job '%s', %u guests:\n"), name, json_array_get_length (rows));
    if (error)
        fail_with (STATUS_FAILED, "%s", error);
    for (guint i = 0; i < json_array_get_length (rows); i++) {
        JsonObject *row = report_element (rows, i);
        const char *full = report_get_text (row, "reason");
        const char *why = report_get_text (row, "error") ? report_get_text (row, "error") : full;
        const char *what = report_get_text (row, "type");
        g_autofree char *guest = clean (report_get_text (row, "guest")), *shown = clean (why);
        print (" %s (%s): %s", guest, report_get_text (row, "state"),
               what ? what : report_get_text (row, "result"));
        print (*shown ? ", %s\n" : "\n", shown);
        print_disks (row);
    }
}

static void print_report (const NightOptions *options, JsonObject *report)
{
    if (options->json || options->lines)
        return;
    if (options->dry_run) {
        print_plan (report);
        return;
    }
    g_autofree char *text = report_text (report);
    print ("%s", text);
}

/* Guests are worked on by threads of their own, and each arena of the C library keeps the most that
 * a thread has ever asked it for: with many processors that would be a copy a guest. */
static void share_memory (void)
{
#ifdef __GLIBC__
    enum { ARENAS = 2 };
    mallopt (M_ARENA_MAX, ARENAS);
#endif
}

static int backup_run_run (Shell *shell, const Args *args)
{
    share_memory ();
    NightOptions options = { .dry_run = args_has (args, "dry-run"),
                             .json = args_json (args),
                             .lines = args_has (args, "json-lines"),
                             .quiet = shell->quiet,
                             .domains = args_all (args, "domain"),
                             .older_than = args_microseconds (args, "older-than") };
    g_autoptr (GPtrArray) jobs = night_jobs (args_all (args, "job"));
    JsonArray *runs = json_array_new ();
    int status = STATUS_USAGE;
    for (guint i = 0; jobs && i < jobs->len; i++) {
        int ended = STATUS_DONE;
        JsonObject *report = night_run (shell, jobs->pdata[i], &options, &ended);
        status = i ? night_worse (status, ended) : ended;
        if (!report)
            continue;
        print_report (&options, report);
        json_array_add_object_element (runs, report);
        if (status == STATUS_INTERRUPTED)
            break;
    }
    g_autoptr (JsonNode) node = runs_to_json (runs);
    if (jobs && options.json)
        print_json (g_steal_pointer (&node));
    return status;
}

static const Option run_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "JOB",
      N_("a file jobs.d/JOB.conf, or the path of a file; default: all jobs"), WANT_NIGHT },
    { "domain", OPTION_TEXT, OPTION_REPEATED, "DOMAIN",
      N_("only this guest of the job; may be repeated"), WANT_DOMAIN },
    { "older-than", OPTION_SECONDS, 0, "DURATION",
      N_("leave out guests that have a good point younger than that, as 20h"), WANT_NOTHING },
    { "dry-run", OPTION_FLAG, 0, NULL,
      N_("say for each guest what would be done and why, and do nothing"), WANT_NOTHING },
    { "json-lines", OPTION_FLAG, 0, NULL,
      N_("print an object a line while it runs; the last is the summary"), WANT_NOTHING },
    { 0 },
};
static const Rule run_rules[] = { { RULE_EXCLUSIVE, "json", "json-lines" },
                                  { RULE_EXCLUSIVE, "dry-run", "json-lines" },
                                  { 0 } };

const Command cmd_backup_run = {
    .name = "backup-run",
    .group = "night",
    .help = N_("Back up all guests of a job"),
    .description = N_(
        "Reads the job's file, makes a point of each guest that it means, applies its rules of "
        "keeping, and reports. Guests are independent of each other. Exit status 0: all are good; "
        "6: some failed; 3: all failed; 4: all that failed was refused, and none is good; 2: the "
        "configuration is wrong, said before any guest is touched; 1: the job runs already."),
    .options = run_options,
    .rules = run_rules,
    .run = backup_run_run
};
