#include "baksh.h"

static int backup_info_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    g_autoptr (BakJob) job =
        bak_domain_backup_info (args_domain (args), args_text (args, "job"), 0, &error);
    if (!job)
        return fail (error);
    if (args_json (args)) {
        print_json (json_take_object (job_to_json (job)));
    } else {
        job_print (job);
        if (bak_job_get_state (job) == BAK_JOB_READY) {
            print ("\n");
            job_print_exports (shell, job);
        }
    }
    return STATUS_DONE;
}

static const Option info_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL, "JOB", N_("id of the backup; default: the newest"),
      WANT_JOB },
    { 0 },
};

const Command cmd_backup_info = { .name = "backup-info",
                                  .group = "backup",
                                  .help = N_("How a backup stands, or how it ended"),
                                  .flags = COMMAND_NEEDS_DOMAIN,
                                  .options = info_options,
                                  .run = backup_info_run };

/* What the disks have in common, or their words one after the other; caller frees. */
static char *words_of_disks (const BakJob *job, const char *(*get) (const BakJobDisk *disk))
{
    g_autoptr (GPtrArray) words = g_ptr_array_new ();
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const char *word = get (bak_job_get_disk (job, i));
        if (word && !g_ptr_array_find_with_equal_func (words, word, g_str_equal, NULL))
            g_ptr_array_add (words, (char *) word);
    }
    g_ptr_array_add (words, NULL);
    return words->len > 1 ? g_strjoinv (", ", (char **) words->pdata) : g_strdup ("-");
}

/* The file; of several their directory, with a slash at its end; "3 files" of several directories.
 * Caller frees. */
static char *place_of (const BakJob *job)
{
    g_autofree char *common = NULL;
    const char *first = NULL;
    guint count = 0;
    gboolean one_directory = TRUE;
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const char *path = bak_job_disk_get_path (bak_job_get_disk (job, i));
        if (!path)
            continue;
        g_autofree char *directory = g_path_get_dirname (path);
        if (count++ == 0) {
            first = path;
            common = g_steal_pointer (&directory);
        } else {
            one_directory = one_directory && g_str_equal (directory, common);
        }
    }
    if (count < 2)
        return g_strdup (first ? first : "-");
    return one_directory ? g_strconcat (common, "/", NULL)
                         : g_strdup_printf (_("%u files"), count);
}

static void list_row (Table *table, const BakJob *job)
{
    g_autofree char *started = format_time (bak_job_get_started (job)),
                    *took = format_seconds (bak_job_get_elapsed (job)),
                    *bytes = format_size (bak_job_get_bytes (job)),
                    *type = words_of_disks (job, bak_job_disk_get_type),
                    *since = words_of_disks (job, bak_job_disk_get_since), *place = place_of (job);
    const char *error = bak_job_get_error (job), *checkpoint = bak_job_get_checkpoint (job);
    table_row (table, bak_job_get_id (job),
               bak_job_get_mode (job) == BAK_JOB_MODE_PULL ? "pull" : "push", type,
               bak_job_state_to_string (bak_job_get_state (job)), started, took, bytes,
               checkpoint ? checkpoint : "-", since, place, error ? error : "", NULL);
}

static int backup_list_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakJob **jobs;
    if (bak_domain_backup_list (args_domain (args), &jobs, 0, &error) < 0)
        return fail (error);
    JsonArray *array = json_array_new ();
    Table *table =
        table_new (_("Id"), _("Mode"), _("Type"), _("State"), _("Started"), _("Took"),
                   _("Bytes"), _("Checkpoint"), _("Since"), _("File"), _("Error"), NULL);
    for (guint i = 0; jobs[i]; i++) {
        json_array_add_object_element (array, job_to_json (jobs[i]));
        list_row (table, jobs[i]);
    }
    if (args_json (args)) {
        print_json (json_take_list ("jobs", array));
        table_free (table);
    } else {
        json_array_unref (array);
        table_print (table);
    }
    LIST_FREE (jobs, bak_job_unref);
    return STATUS_DONE;
}

const Command cmd_backup_list = { .name = "backup-list",
                                  .group = "backup",
                                  .help = N_("List the recorded backups of a guest, newest first"),
                                  .flags = COMMAND_NEEDS_DOMAIN,
                                  .run = backup_list_run };

static int backup_wait_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    guint64 timeout = args_microseconds (args, "timeout");
    g_autoptr (BakJob) job =
        bak_domain_backup_info (args_domain (args), args_text (args, "job"), 0, &error);
    g_autoptr (BakJob) ended = NULL;
    if (!job)
        return fail (error);
    int status = job_wait (shell, args_domain (args), bak_job_get_id (job), 0,
                           timeout ? g_get_monotonic_time () + timeout : 0, &ended);
    if (ended && args_json (args))
        print_json (json_take_object (job_to_json (ended)));
    else if (status == STATUS_DONE && !shell->quiet)
        print (_("Backup completed\n"));
    return status;
}

static const Option wait_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL, "JOB", N_("id of the backup; default: the newest"),
      WANT_JOB },
    { "timeout", OPTION_SECONDS, 0, "SECONDS", N_("wait no longer; the backup goes on"),
      WANT_NOTHING },
    { 0 },
};

const Command cmd_backup_wait = {
    .name = "backup-wait",
    .group = "backup",
    .help = N_("Wait for the end of a backup and say whether it is good"),
    .description = N_("Shows progress: a bar on a terminal, a line a second elsewhere. Ctrl-C "
                       "ends the wait, a second Ctrl-C aborts the backup."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = wait_options,
    .run = backup_wait_run
};

static int backup_dumpxml_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    const char *job = args_text (args, "job");
    char *xml = job ? bak_domain_backup_job_get_xml_desc (args_domain (args), job, 0, &error)
                    : bak_domain_backup_get_xml_desc (args_domain (args), 0, &error);
    return xml ? print_xml (args, xml) : fail (error);
}

static const Option dumpxml_options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL, "JOB",
      N_("id of the backup; default: the one that runs"), WANT_JOB },
    XPATH_OPTIONS,
    { 0 },
};
static const Rule dumpxml_rules[] = { { RULE_REQUIRES, "wrap", "xpath" }, { 0 } };

const Command cmd_backup_dumpxml = { .name = "backup-dumpxml",
                                     .group = "backup",
                                     .help = N_("A backup as XML, everything chosen spelled out"),
                                     .flags = COMMAND_NEEDS_DOMAIN,
                                     .options = dumpxml_options,
                                     .rules = dumpxml_rules,
                                     .run = backup_dumpxml_run };

static int backup_limit_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    guint64 rate = args_size (args, "rate");
    if (bak_domain_backup_limit (args_domain (args), args_text (args, "disk"), rate, &error) < 0)
        return fail (error);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_int (object, "limit", rate);
        print_json (json_take_object (object));
    } else if (rate) {
        g_autofree char *shown = format_size (rate);
        print (_("Backup limited to %s/s\n"), shown);
    } else {
        print (_("Backup not limited\n"));
    }
    return STATUS_DONE;
}

static const Option limit_options[] = {
    { "rate", OPTION_SIZE, OPTION_POSITIONAL | OPTION_REQUIRED, "RATE",
      N_("bytes a second, as 100M; 0: no limit"), WANT_NOTHING },
    { "disk", OPTION_TEXT, 0, "DISK", N_("only this disk"), WANT_DISK },
    { 0 },
};

const Command cmd_backup_limit = { .name = "backup-limit",
                                   .group = "backup",
                                   .help = N_("Change the speed limit of a running backup"),
                                   .flags = COMMAND_NEEDS_DOMAIN,
                                   .options = limit_options,
                                   .run = backup_limit_run };
