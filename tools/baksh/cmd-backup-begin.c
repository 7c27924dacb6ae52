#include <stdio.h>
#include <string.h>
#include "baksh.h"

/* Options that make the document; they cannot go with one from a file. */
static const char *const building[] = {
    "mode",     "disk",    "target",         "scratch",       "since",        "server",
    "limit",    "format",  "compression",    "sync",          "onto",         "series",
    "fallback", "protect", "format-options", "scratch-limit", "idle-timeout", "allow-insecure",
    "tls",      "tls-dir", "tls-psk",        "instant",       "encrypt",      NULL,
};

static int load (const char *path, char **ret_xml)
{
    const char *why = read_file (path, ret_xml);
    return why ? fail_with (STATUS_FAILED, _("Failed to open file '%s': %s"), path, why)
               : STATUS_DONE;
}

static int backup_document (const Args *args, char **ret_xml)
{
    int status = STATUS_DONE;
    if (!args_has (args, "backupxml")) {
        *ret_xml = request_backup_xml (args, args_domain (args), &status);
        return status;
    }
    for (guint i = 0; building[i]; i++)
        if (args_has (args, building[i]))
            return usage (_("Options --%s and --%s are mutually exclusive"), "backupxml",
                          building[i]);
    return load (args_text (args, "backupxml"), ret_xml);
}

/* A bitmap that lives in memory only must be asked for disk by disk. */
static char *checkpoint_of_all (const Args *args, int *ret_status)
{
    g_auto (GStrv) names = request_selected_disks (args_domain (args), ret_status);
    return names ? request_checkpoint_xml (args_text (args, "checkpoint"), NULL,
                                           (const char *const *) names, TRUE)
                 : NULL;
}

static int checkpoint_document (const Args *args, char **ret_xml)
{
    int status = STATUS_DONE;
    const char *name = args_text (args, "checkpoint");
    gboolean memory = args_has (args, "memory-bitmap");
    if (args_has (args, "checkpointxml"))
        status = load (args_text (args, "checkpointxml"), ret_xml);
    else if (name && memory && !args_has (args, "disk"))
        *ret_xml = checkpoint_of_all (args, &status);
    else if (name)
        *ret_xml = request_checkpoint_xml (name, NULL, args_all (args, "disk"), memory);
    return status;
}

static guint begin_flags (const Args *args)
{
    return (args_has (args, "reuse-external") ? BAK_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL : 0)
           | (args_has (args, "preserve-domain-on-shutdown")
                  ? BAK_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN
                  : 0)
           | (args_has (args, "quiesce") ? BAK_DOMAIN_BACKUP_BEGIN_QUIESCE : 0)
           | (args_has (args, "allow-unproved") ? BAK_DOMAIN_BACKUP_BEGIN_ALLOW_UNPROVED : 0);
}

/* --dry-run */

/* A line that can be sent as it is, and below it what the plan says beside it. */
static void print_action (const char *label, JsonObject *action)
{
    g_autoptr (JsonObject) command = json_object_new ();
    g_autoptr (GString) beside = g_string_new (NULL);
    g_autoptr (GList) names = json_object_get_members (action);

    for (const GList *name = names; name; name = name->next) {
        JsonNode *value = json_object_get_member (action, name->data);
        if (g_str_equal (name->data, "qmp") && JSON_NODE_HOLDS_OBJECT (value)) {
            g_clear_pointer (&command, json_object_unref);
            command = json_node_dup_object (value);
        } else if (g_str_equal (name->data, "action") || g_str_equal (name->data, "arguments")) {
            json_object_set_member (command, name->data, json_node_copy (value));
        } else {
            g_autofree char *text = json_to_string (value, FALSE);
            g_string_append_printf (beside, "%s%s: %s", beside->len ? ", " : "",
                                    (char *) name->data, text);
        }
    }
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), command);
    g_autofree char *text = json_to_string (node, FALSE), *shown = clean (text),
                    *notes = clean (beside->str);
    print ("    %s %s\n", label, shown);
    if (*notes)
        print ("          # %s\n", notes);
}

static const char *member_text (JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_VALUE (node) ? json_node_get_string (node) : NULL;
}

static JsonArray *member_array (JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

static void print_actions (const char *label, JsonArray *actions)
{
    for (guint i = 0; actions && i < json_array_get_length (actions); i++)
        print_action (label, json_array_get_object_element (actions, i));
}

static void print_plan (JsonObject *plan)
{
    JsonArray *notes = member_array (plan, "notes"), *steps = member_array (plan, "steps"),
              *finish = member_array (plan, "finish");
    for (guint i = 0; notes && i < json_array_get_length (notes); i++) {
        g_autofree char *note = clean (json_array_get_string_element (notes, i));
        print ("# %s\n", note);
    }
    for (guint i = 0; steps && i < json_array_get_length (steps); i++) {
        JsonObject *step = json_array_get_object_element (steps, i);
        g_autofree char *title = clean (member_text (step, "title"));
        print ("%u. %s\n", i + 1, title);
        print_action (_("do:  "), json_object_get_object_member (step, "do"));
        print_actions (_("undo:"), member_array (step, "undo"));
    }
    if (finish && json_array_get_length (finish)) {
        print (_("When the copy is complete:\n"));
        print_actions (_("do:  "), finish);
    }
}

static int dry_run (const Args *args, const BakBackupOptions *options)
{
    BakError *error = NULL;
    char *text = bak_domain_backup_plan (args_domain (args), options, &error);
    if (!text)
        return fail (error);
    g_autoptr (JsonNode) plan = json_from_string (text, NULL);
    bak_free (text);
    if (!plan || !JSON_NODE_HOLDS_OBJECT (plan))
        return fail_with (STATUS_FAILED, _("the plan is not a JSON object"));
    if (args_json (args))
        print_json (json_node_ref (plan));
    else
        print_plan (json_node_get_object (plan));
    return STATUS_DONE;
}

/* running */

static void print_notes (const BakJob *job)
{
    for (guint i = 0; i < bak_job_get_n_notes (job); i++)
        warn ("%s", bak_job_get_note (job, i));
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        const char *reason = bak_job_disk_get_reason (disk);
        if (reason && !job_notes_say (job, reason))
            warn (_("disk '%s': %s: %s"), bak_job_disk_get_target (disk),
                  bak_job_disk_get_type (disk), reason);
    }
}

static void print_completed (const BakJob *job)
{
    g_autofree char *size = format_size (bak_job_get_bytes (job)),
                    *time = format_seconds (bak_job_get_elapsed (job));
    if (bak_job_get_mode (job) == BAK_JOB_MODE_PUSH)
        print (_("Backup completed: %s in %s\n"), size, time);
    else
        print (_("Backup completed\n"));
}

static int begin (Shell *shell, const Args *args, const BakBackupOptions *options)
{
    BakError *error = NULL;
    gboolean json = args_json (args), wait = args_has (args, "wait");
    char *id = bak_domain_backup_begin_options (args_domain (args), options, &error);
    if (!id)
        return fail (error);
    g_autoptr (BakJob) job = bak_domain_backup_info (args_domain (args), id, 0, &error);
    int status = STATUS_DONE;
    if (!json && !shell->quiet)
        print (_("Backup started\n"));
    if (job) {
        print_notes (job);
        if (!json)
            job_print_exports (shell, job);
    } else {
        /* it runs, but how it stands cannot be told */
        status = fail (error);
    }
    fflush (stdout);
    if (wait) {
        g_autoptr (BakJob) ended = NULL;
        status = job_wait (shell, args_domain (args), id, WAIT_AND_END, 0, &ended);
        if (ended && !json && !shell->quiet && status == STATUS_DONE)
            print_completed (ended);
        if (ended) {
            g_clear_pointer (&job, bak_job_unref);
            job = g_steal_pointer (&ended);
        }
    }
    if (json && job)
        print_json (json_take_object (job_to_json (job)));
    bak_free (id);
    return status;
}

static int print_documents (const Args *args, const char *backup, const char *checkpoint)
{
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "xml", backup);
        json_text (object, "checkpoint_xml", checkpoint);
        print_json (json_take_object (object));
        return STATUS_DONE;
    }
    print_document (backup);
    if (checkpoint)
        print_document (checkpoint);
    return STATUS_DONE;
}

static int backup_begin_run (Shell *shell, const Args *args)
{
    g_autofree char *backup_xml = NULL, *checkpoint_xml = NULL;
    int status = backup_document (args, &backup_xml);
    if (status == STATUS_DONE)
        status = checkpoint_document (args, &checkpoint_xml);
    if (status != STATUS_DONE)
        return status;
    BakBackupOptions options = {
        .size = sizeof options,
        .backup_xml = backup_xml,
        .checkpoint_xml = checkpoint_xml,
        .flags = begin_flags (args),
        .timeout = args_microseconds (args, "timeout"),
    };
    if (args_has (args, "print-xml"))
        return print_documents (args, backup_xml, checkpoint_xml);
    return args_has (args, "dry-run") ? dry_run (args, &options) : begin (shell, args, &options);
}

static const Option options[] = {
    { "backupxml", OPTION_TEXT, OPTION_POSITIONAL, "BACKUPXML",
      N_("file with <domainbackup>; default: what the options say"), WANT_FILE },
    { "checkpointxml", OPTION_TEXT, OPTION_POSITIONAL, "CHECKPOINTXML",
      N_("file with <domaincheckpoint> of the same instant"), WANT_FILE },
    { "mode", OPTION_CHOICE, 0, "push|pull",
      N_("push: QEMU writes targets; pull: QEMU exports over NBD. Default: push, with --server "
          "pull"),
      WANT_NOTHING },
    { "disk", OPTION_TEXT, OPTION_REPEATED, "DISK",
      N_("only this disk; default: all that are writable and not empty"), WANT_DISK },
    { "target", OPTION_TEXT, OPTION_REPEATED, "[TARGET=]FILE|URI|DIR/",
      N_("where a disk is written to; TARGET= may be left out if there is one disk"), WANT_FILE },
    { "scratch", OPTION_TEXT, OPTION_REPEATED, "TARGET=FILE|DIR",
      N_("where old data of the guest is kept meanwhile"), WANT_FILE },
    { "since", OPTION_NAME, 0, "CHECKPOINT",
      N_("incremental: only what changed since this checkpoint"), WANT_CHECKPOINT },
    { "onto", OPTION_TEXT, OPTION_REPEATED, "[TARGET=]FILE|DIR/",
      N_("the previous backup that a pushed increment is laid on; in DIR/ it is what the record "
          "says, else TARGET.FORMAT"),
      WANT_FILE },
    { "series", OPTION_NAME, 0, "NAME",
      N_("the next backup of a series: full at first, then what changed since the one before, "
          "laid on its files; makes checkpoint NAME.1, NAME.2 and so on"),
      WANT_NOTHING },
    { "fallback", OPTION_CHOICE, 0, "full|refuse",
      N_("what to do with a disk that has no usable base; default: refuse"), WANT_NOTHING },
    { "sync", OPTION_CHOICE, 0, "full|top|none|incremental",
      N_("QEMU's sync mode; top and none make partial results"), WANT_NOTHING },
    { "server", OPTION_TEXT, 0, "unix:PATH|tcp:HOST:PORT",
      N_("pull: where to export; default: a unix socket in the state directory"), WANT_NOTHING },
    { "tls", OPTION_FLAG, 0, NULL,
      N_("pull: TLS with the configured certificates, peers verified"), WANT_NOTHING },
    { "tls-dir", OPTION_TEXT, 0, "DIR", N_("pull: TLS with the certificates in DIR"), WANT_FILE },
    { "tls-psk", OPTION_TEXT, 0, "DIR", N_("pull: TLS with the keys in DIR/keys.psk"), WANT_FILE },
    { "allow-insecure", OPTION_FLAG, 0, NULL, N_("pull: allow TCP beyond this host without TLS"),
      WANT_NOTHING },
    { "idle-timeout", OPTION_SECONDS, 0, "SECONDS",
      N_("pull: fail when no reader is connected for so long"), WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE",
      N_("bytes a second of the whole backup, as 100M; each disk gets its share"), WANT_NOTHING },
    { "format", OPTION_CHOICE, 0, "qcow2|raw|vhdx|vmdk|vdi|vpc|qed|parallels|luks",
      N_("push: format of what is written; default: qcow2"), WANT_NOTHING },
    { "format-options", OPTION_TEXT, 0, "NAME=VALUE,...",
      N_("push: compat, cluster_size, extended_l2, preallocation, subformat of the format"),
      WANT_NOTHING },
    { "encrypt", OPTION_TEXT, 0, "luks:FILE",
      N_("push: encrypt what is written; FILE holds the pass phrase, byte for byte"),
      WANT_NOTHING },
    { "compression", OPTION_CHOICE, 0, "none|zlib|zstd", N_("compress what is written"),
      WANT_NOTHING },
    { "protect", OPTION_CHOICE, 0, "yes|no|strict",
      N_("protect the guest from a bad target; strict: refuse what cannot be protected"),
      WANT_NOTHING },
    { "scratch-limit", OPTION_SIZE, 0, "BYTES", N_("how much scratch a backup may use"),
      WANT_NOTHING },
    { "checkpoint", OPTION_NAME, 0, "NAME",
      N_("make a checkpoint of the same instant; it stays if the backup succeeds"), WANT_NOTHING },
    { "memory-bitmap", OPTION_FLAG, 0, NULL,
      N_("the checkpoint's bitmaps die with the QEMU process; for disks that are not qcow2"),
      WANT_NOTHING },
    { "instant", OPTION_CHOICE, 0, "begin|end",
      N_("push: the moment that the copy shows; end: that of backup-stop, with --wait as soon as "
          "all "
          "disks are in step"),
      WANT_NOTHING },
    { "quiesce", OPTION_FLAG, 0, NULL,
      N_("freeze the guest's file systems around the instant, through its agent"), WANT_NOTHING },
    { "reuse-external", OPTION_FLAG, 0, NULL,
      N_("targets and scratch files exist already; they are not deleted either"), WANT_NOTHING },
    { "preserve-domain-on-shutdown", OPTION_FLAG, 0, NULL,
      N_("keep a guest that shuts down until the backup has ended"), WANT_NOTHING },
    { "allow-unproved", OPTION_FLAG, 0, NULL,
      N_("accept that an old QEMU cannot prove that the target is durable"), WANT_NOTHING },
    { "wait", OPTION_FLAG, 0, NULL, N_("wait for the end and show progress"), WANT_NOTHING },
    { "timeout", OPTION_SECONDS, 0, "SECONDS", N_("abort the backup if it has not ended by then"),
      WANT_NOTHING },
    { "dry-run", OPTION_FLAG, 0, NULL,
      N_("print the QMP commands that would be sent, with the undo of each, and send none"),
      WANT_NOTHING },
    { "print-xml", OPTION_FLAG, 0, NULL,
      N_("print the documents that would be sent, and send none"), WANT_NOTHING },
    { 0 },
};

static const Rule rules[] = {
    { RULE_EXCLUSIVE, "checkpointxml", "checkpoint" },
    { RULE_EXCLUSIVE, "series", "since" },
    { RULE_EXCLUSIVE, "series", "checkpoint" },
    { RULE_EXCLUSIVE, "series", "checkpointxml" },
    { RULE_REQUIRES, "memory-bitmap", "checkpoint" },
    { RULE_REQUIRES, "allow-insecure", "server" },
    { RULE_EXCLUSIVE, "tls-dir", "tls-psk" },
    { RULE_EXCLUSIVE, "dry-run", "wait" },
    { RULE_EXCLUSIVE, "dry-run", "print-xml" },
    { RULE_EXCLUSIVE, "print-xml", "wait" },
    { 0 },
};

const Command cmd_backup_begin = { .name = "backup-begin",
                                   .group = "backup",
                                   .help = N_("Start a backup of a guest"),
                                   .description =
                                       N_("All disks are taken at one instant. The guest runs on. "
                                           "What to do is said by options or by an XML document."),
                                   .flags = COMMAND_NEEDS_DOMAIN,
                                   .options = options,
                                   .rules = rules,
                                   .run = backup_begin_run };
