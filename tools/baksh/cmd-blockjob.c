/* Block jobs in virsh's words: commit, pull, and whatever runs on one disk. */
#include <stdio.h>
#include <string.h>
#include "baksh.h"

enum { LOOK_MS = 500, MIB = 1024 * 1024 };

static const char *type_name (int type)
{
    switch (type) {
    case BAK_DOMAIN_BLOCK_JOB_TYPE_PULL: return _("Block Pull");
    case BAK_DOMAIN_BLOCK_JOB_TYPE_COPY: return _("Block Copy");
    case BAK_DOMAIN_BLOCK_JOB_TYPE_COMMIT: return _("Block Commit");
    case BAK_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: return _("Active Block Commit");
    case BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP: return _("Backup");
    default: return _("Unknown job");
    }
}

static const char *type_word (int type)
{
    static const char *const words[] = { "unknown", "pull",          "copy",
                                         "commit",  "active-commit", "backup" };
    return words[type > 0 && type < (int) G_N_ELEMENTS (words) ? type : 0];
}

/* ---- one look ---- */

static void print_progress (const BakDomainBlockJobInfo *info)
{
    /* never 100 while something is left */
    double percent = info->end ? info->cur * 100.0 / info->end : 0;
    fprintf (stderr, "\r%s: [%5.2f %%]", type_name (info->type),
             info->cur < info->end ? MIN (percent, 99.99) : 100.0);
}

static void print_block_job (const BakDomainBlockJobInfo *info, gboolean raw)
{
    if (raw) {
        print (_(" type=%s\n bandwidth=%lu\n cur=%llu\n end=%llu\n"), type_name (info->type),
               info->bandwidth, info->cur, info->end);
        return;
    }
    print_progress (info);
    if (info->bandwidth) {
        g_autofree char *rate = format_size (info->bandwidth);
        print (_("    Bandwidth limit: %lu bytes/s (%s/s)\n"), info->bandwidth, rate);
    }
    fputc ('\n', stderr);
}

static void print_block_job_json (int found, const BakDomainBlockJobInfo *info)
{
    JsonObject *object = json_new ();
    json_text (object, "type", found ? type_word (info->type) : NULL);
    json_int (object, "bandwidth", found ? (gint64) info->bandwidth : 0);
    json_int (object, "cur", found ? (gint64) info->cur : 0);
    json_int (object, "end", found ? (gint64) info->end : 0);
    print_json (json_take_object (object));
}

static int blockjob_info (const Args *args)
{
    BakError *error = NULL;
    BakDomainBlockJobInfo info;
    guint flags = args_has (args, "raw") && !args_has (args, "bytes")
                      ? 0
                      : BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES;
    int found = bak_domain_get_block_job_info (args_domain (args), args_text (args, "disk"), &info,
                                               flags, &error);
    if (found < 0)
        return fail (error);
    g_autofree char *disk = clean (args_text (args, "disk"));
    if (args_json (args))
        print_block_job_json (found, &info);
    else if (found)
        print_block_job (&info, args_has (args, "raw"));
    else
        print (_("No current block job for %s\n"), disk);
    return STATUS_DONE;
}

/* FALSE: too large. A bare number is MiB, as for virsh. */
static gboolean read_bandwidth (const Args *args, unsigned long *ret_rate, int *ret_status)
{
    const char *text = args_text (args, "bandwidth");
    guint64 rate = args_has (args, "bandwidth") ? args_size (args, "bandwidth") : 0;
    if (text && text[strspn (text, "0123456789")] == '\0' && !args_has (args, "bytes")) {
        if (rate > (guint64) G_MAXINT64 / MIB) {
            *ret_status = usage (_("option --%s: '%s' is too large"), "bandwidth", text);
            return FALSE;
        }
        rate *= MIB;
    }
    *ret_rate = rate;
    return TRUE;
}

static int blockjob_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    unsigned long rate = 0;
    int status = STATUS_DONE;
    guint flags = args_has (args, "pivot") ? BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0;
    if (args_has (args, "abort") || args_has (args, "pivot"))
        return bak_domain_block_job_abort (args_domain (args), args_text (args, "disk"), flags,
                                           &error)
                       < 0
                   ? fail (error)
                   : STATUS_DONE;
    if (!args_has (args, "bandwidth"))
        return blockjob_info (args);
    if (!read_bandwidth (args, &rate, &status))
        return status;
    return bak_domain_block_job_set_speed (args_domain (args), args_text (args, "disk"), rate,
                                           BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, &error)
                   < 0
               ? fail (error)
               : STATUS_DONE;
}

static const Option blockjob_options[] = {
    { "disk", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "DISK", N_("target of the disk"),
      WANT_DISK },
    { "info", OPTION_FLAG, 0, NULL, N_("how far its job is (default)"), WANT_NOTHING },
    { "abort", OPTION_FLAG, 0, NULL,
      N_("end it: a backup is aborted, all its disks; a block job leaves the disk on the images "
          "that it is on"),
      WANT_NOTHING },
    { "pivot", OPTION_FLAG, 0, NULL,
      N_("end an active commit or a copy that is ready: the guest goes on on the base, or the "
          "copy"),
      WANT_NOTHING },
    { "async", OPTION_FLAG, 0, NULL, N_("accepted and without effect: the end is waited for"),
      WANT_NOTHING },
    { "raw", OPTION_FLAG, 0, NULL, N_("print the numbers as they are"), WANT_NOTHING },
    { "bytes", OPTION_FLAG, 0, NULL, N_("bandwidth is bytes a second, not MiB a second"),
      WANT_NOTHING },
    { "bandwidth", OPTION_SIZE, 0, "RATE", N_("limit its speed; a bare number is MiB a second"),
      WANT_NOTHING },
    { 0 },
};

static const Rule blockjob_rules[] = { { RULE_EXCLUSIVE, "info", "bandwidth" },
                                       { RULE_EXCLUSIVE, "info", "abort" },
                                       { RULE_EXCLUSIVE, "abort", "bandwidth" },
                                       { RULE_EXCLUSIVE, "raw", "bandwidth" },
                                       { RULE_EXCLUSIVE, "pivot", "info" },
                                       { RULE_EXCLUSIVE, "pivot", "bandwidth" },
                                       { 0 } };

const Command cmd_blockjob = { .name = "blockjob",
                               .group = "backup",
                               .help =
                                   N_("The job that runs on one disk: a backup or a block job"),
                               .flags = COMMAND_NEEDS_DOMAIN,
                               .options = blockjob_options,
                               .rules = blockjob_rules,
                               .run = blockjob_run };

/* ---- commit, pull, copy: begin, wait, end ---- */

/* What virsh says of it. ready and below: of one that becomes ready; keeps: the option by which it
 * ends without a pivot. */
typedef struct {
    const char *started, *complete, *aborted, *failed, *ready, *keeps, *kept;
} Words;

static const Words commit_words = { N_("Block Commit started"), N_("Commit complete"),
                                    N_("Commit aborted"), N_("Commit failed") };
static const Words active_words = { N_("Active Block Commit started"),
                                    N_("Commit complete"),
                                    N_("Commit aborted"),
                                    N_("Commit failed"),
                                    N_("Now in synchronized phase"),
                                    "keep-overlay",
                                    N_("Commit complete, overlay image kept") };
static const Words copy_words = { N_("Block Copy started"),     N_("Copy complete"),
                                  N_("Copy aborted"),           N_("Copy failed"),
                                  N_("Now in mirroring phase"), "finish",
                                  N_("Successfully copied") };
static const Words pull_words = { N_("Block Pull started"), N_("Pull complete"),
                                  N_("Pull aborted"), N_("Pull failed") };

typedef enum { WAIT_ENDED, WAIT_READY, WAIT_ABORTED, WAIT_FAILED } WaitResult;

/* state: the same for a program. */
static int say (Shell *shell, const Args *args, const char *state, const char *text)
{
    if (args_json (args))
        print_json (json_one ("state", state));
    else if (!shell->quiet)
        print ("%s%s\n", args_has (args, "verbose") ? "\n" : "", _(text));
    return STATUS_DONE;
}

static WaitResult end_early (const Args *args)
{
    BakError *error = NULL;
    if (bak_domain_block_job_abort (args_domain (args), args_text (args, "disk"), 0, &error) == 0)
        return WAIT_ABORTED;
    fail (error);
    return WAIT_FAILED;
}

static WaitResult wait_for_job (const Args *args, gboolean becomes_ready)
{
    gboolean verbose = args_has (args, "verbose");
    gint64 deadline = args_has (args, "timeout")
                          ? g_get_monotonic_time () + (gint64) args_microseconds (args, "timeout")
                          : G_MAXINT64;
    WaitResult result = WAIT_ENDED;

    interrupt_await (TRUE);
    for (;;) {
        BakError *error = NULL;
        BakDomainBlockJobInfo info;
        int found = bak_domain_get_block_job_info (
            args_domain (args), args_text (args, "disk"), &info,
            BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES | BAK_DOMAIN_BLOCK_JOB_SAY_FAILURE, &error);
        if (found < 0) {
            result = bak_error_get_code (error) == BAK_ERROR_ABORTED ? WAIT_ABORTED : WAIT_FAILED;
            fail (error);
            break;
        }
        if (found && verbose)
            print_progress (&info);
        if (!found)
            break;
        if (becomes_ready && info.cur == info.end) {
            result = WAIT_READY;
            break;
        }
        if (interrupt_count () || g_get_monotonic_time () >= deadline) {
            result = end_early (args);
            break;
        }
        interrupt_poll (-1, LOOK_MS * 1000);
    }
    interrupt_await (FALSE);
    return result;
}

static int end_ready (Shell *shell, const Args *args, const Words *words)
{
    BakError *error = NULL;
    gboolean pivot = args_has (args, "pivot");
    if (!pivot && !args_has (args, words->keeps))
        return say (shell, args, "ready", words->ready);
    if (bak_domain_block_job_abort (args_domain (args), args_text (args, "disk"),
                                    pivot ? BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0, &error)
        < 0) {
        warn (pivot ? _("failed to pivot job for disk %s")
                    : _("failed to finish job for disk %s"),
              args_text (args, "disk"));
        return fail (error);
    }
    return say (shell, args, pivot ? "pivoted" : "kept",
                pivot ? N_("Successfully pivoted") : words->kept);
}

static int begun (Shell *shell, const Args *args, const Words *words)
{
    gboolean ends = words->ready && (args_has (args, "pivot") || args_has (args, words->keeps));
    if (!args_has (args, "wait") && !args_has (args, "timeout") && !ends)
        return say (shell, args, "started", words->started);
    switch (wait_for_job (args, words->ready != NULL)) {
    case WAIT_READY: return end_ready (shell, args, words);
    case WAIT_ENDED: return say (shell, args, "completed", words->complete);
    case WAIT_ABORTED:
        say (shell, args, "aborted", words->aborted);
        return interrupt_count () ? STATUS_INTERRUPTED : STATUS_FAILED;
    default: fprintf (stderr, "\n%s\n", _(words->failed)); return STATUS_FAILED;
    }
}

/* Which checkpoints go, before they do. */
static void say_notes (const char *plan)
{
    g_autoptr (JsonNode) node = json_from_string (plan, NULL);
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    JsonArray *notes = object && json_object_has_member (object, "notes")
                           ? json_object_get_array_member (object, "notes")
                           : NULL;
    for (guint i = 0; notes && i < json_array_get_length (notes); i++)
        warn ("%s", json_array_get_string_element (notes, i));
}

/* TRUE: that was all, or it failed. */
static gboolean planned (Shell *shell, const Args *args, char *plan, BakError *error,
                         int *ret_status)
{
    g_autofree char *text = plan;
    if (!text) {
        *ret_status = fail (error);
        return TRUE;
    }
    if (args_has (args, "dry-run")) {
        shell->bare = TRUE;
        fputs (text, stdout);
        return TRUE;
    }
    say_notes (text);
    return FALSE;
}

static gboolean needs_plan (const Args *args)
{
    return args_has (args, "dry-run") || args_has (args, "drop-checkpoints");
}

static int blockcommit_run (Shell *shell, const Args *args)
{
    BakDomain *domain = args_domain (args);
    BakError *error = NULL;
    const char *disk = args_text (args, "disk"), *base = args_text (args, "base"),
               *top = args_text (args, "top");
    gboolean active =
        args_has (args, "active") || args_has (args, "pivot") || args_has (args, "keep-overlay");
    guint flags =
        (args_has (args, "shallow") ? BAK_DOMAIN_BLOCK_COMMIT_SHALLOW : 0)
        | (args_has (args, "delete") ? BAK_DOMAIN_BLOCK_COMMIT_DELETE : 0)
        | (active ? BAK_DOMAIN_BLOCK_COMMIT_ACTIVE : 0)
        | (args_has (args, "drop-checkpoints") ? BAK_DOMAIN_BLOCK_COMMIT_DROP_CHECKPOINTS : 0);
    unsigned long rate = 0;
    int status = STATUS_DONE;

    if (!read_bandwidth (args, &rate, &status)
        || (needs_plan (args)
            && planned (shell, args,
                        bak_domain_block_commit_plan (domain, disk, base, top, flags, &error),
                        error, &status)))
        return status;
    if (bak_domain_block_commit (domain, disk, base, top, rate,
                                 flags | BAK_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES, &error)
        < 0)
        return fail (error);
    return begun (shell, args, active ? &active_words : &commit_words);
}

#define DISK_OPTION                                                                                \
    {                                                                                              \
        "disk", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "DISK",                          \
            N_("target of the disk"), WANT_DISK                                                   \
    }
#define RATE_OPTION                                                                                \
    {                                                                                              \
        "bandwidth", OPTION_SIZE, OPTION_POSITIONAL, "RATE",                                       \
            N_("limit its speed; a bare number is MiB a second"), WANT_NOTHING                    \
    }
#define FLAG(name, help)                                                                           \
    {                                                                                              \
        name, OPTION_FLAG, 0, NULL, help, WANT_NOTHING                                             \
    }
#define WAIT_OPTIONS                                                                                    \
    FLAG ("bytes", N_("bandwidth is bytes a second, not MiB a second")),                               \
        FLAG ("wait", N_("wait for its end, or until it is ready")),                                   \
        FLAG ("verbose", N_("with --wait: show how far it is")),                                       \
        { "timeout", OPTION_SECONDS, 0, "SECONDS", N_("wait so long, then cancel it"), WANT_NOTHING }, \
        FLAG ("async", N_("accepted and without effect"))
#define RELATIVE_OPTION                                                                            \
    FLAG ("keep-relative",                                                                         \
          N_("accepted and without effect: names of images that are relative stay so"))
#define PLAN_OPTIONS                                                                               \
    FLAG ("drop-checkpoints",                                                                      \
          N_("delete checkpoints that would not survive, instead of refusing")),                  \
        FLAG ("dry-run", N_("print the steps and their undos, and do nothing"))
#define COMMON_OPTIONS DISK_OPTION, RATE_OPTION, WAIT_OPTIONS, RELATIVE_OPTION, PLAN_OPTIONS

static const Option blockcommit_options[] = {
    COMMON_OPTIONS,
    { "base", OPTION_TEXT, 0, "IMAGE", N_("the image that is written to; without: the lowest"),
      WANT_FILE },
    { "top", OPTION_TEXT, 0, "IMAGE", N_("the uppermost image that goes; without: the active one"),
      WANT_FILE },
    { "shallow", OPTION_FLAG, 0, NULL, N_("without --base: what lies directly below the top"),
      WANT_NOTHING },
    { "active", OPTION_FLAG, 0, NULL, N_("the image that the guest writes to may go"),
      WANT_NOTHING },
    { "pivot", OPTION_FLAG, 0, NULL,
      N_("implies --active --wait: then let the guest go on on the base"), WANT_NOTHING },
    { "keep-overlay", OPTION_FLAG, 0, NULL,
      N_("implies --active --wait: then leave the guest on the image that it is on"),
      WANT_NOTHING },
    { "delete", OPTION_FLAG, 0, NULL, N_("delete the files that are no longer used"),
      WANT_NOTHING },
    { 0 },
};

static const Rule blockcommit_rules[] = { { RULE_EXCLUSIVE, "pivot", "keep-overlay" },
                                          { RULE_EXCLUSIVE, "delete", "keep-overlay" },
                                          { 0 } };

const Command cmd_blockcommit = {
    .name = "blockcommit",
    .group = "backup",
    .help = N_("Write what a disk's upper images hold into a lower one, while the guest runs"),
    .description = N_("An active commit becomes ready and ends by --pivot, --keep-overlay or "
                       "blockjob; any other ends by itself. After a pivot the guest is to be "
                       "started with the base."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = blockcommit_options,
    .rules = blockcommit_rules,
    .run = blockcommit_run
};

static int blockpull_run (Shell *shell, const Args *args)
{
    BakDomain *domain = args_domain (args);
    BakError *error = NULL;
    const char *disk = args_text (args, "disk"), *base = args_text (args, "base");
    guint flags =
        args_has (args, "drop-checkpoints") ? BAK_DOMAIN_BLOCK_REBASE_DROP_CHECKPOINTS : 0;
    unsigned long rate = 0;
    int status = STATUS_DONE;

    if (!read_bandwidth (args, &rate, &status)
        || (needs_plan (args)
            && planned (shell, args,
                        bak_domain_block_rebase_plan (domain, disk, base, flags, &error), error,
                        &status)))
        return status;
    if (bak_domain_block_rebase (domain, disk, base, rate,
                                 flags | BAK_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, &error)
        < 0)
        return fail (error);
    return begun (shell, args, &pull_words);
}

static const Option blockpull_options[] = {
    COMMON_OPTIONS,
    { "base", OPTION_TEXT, 0, "IMAGE",
      N_("the image that the active one stands on afterwards; without: none"), WANT_FILE },
    { 0 },
};

const Command cmd_blockpull = {
    .name = "blockpull",
    .group = "backup",
    .help = N_("Copy what a disk's lower images hold into the active one, while the guest runs"),
    .description = N_("The images below are not written to."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = blockpull_options,
    .run = blockpull_run
};

static int copy_with (Shell *shell, const Args *args, const char *xml, guint flags)
{
    BakDomain *domain = args_domain (args);
    BakError *error = NULL;
    const char *disk = args_text (args, "disk");
    unsigned long rate = 0;
    int status = STATUS_DONE;
    guint64 granularity = args_has (args, "granularity") ? args_size (args, "granularity") : 0;

    if (granularity > G_MAXUINT)
        return usage (_("option --%s: '%s' is too large"), "granularity",
                      args_text (args, "granularity"));
    if (!read_bandwidth (args, &rate, &status)
        || (needs_plan (args)
            && planned (shell, args, bak_domain_block_copy_plan (domain, disk, xml, flags, &error),
                        error, &status)))
        return status;
    if (bak_domain_block_copy (domain, disk, xml, rate, granularity,
                               args_has (args, "buf-size") ? args_size (args, "buf-size") : 0,
                               flags, &error)
        < 0)
        return fail (error);
    return begun (shell, args, &copy_words);
}

static const struct {
    const char *option;
    guint flag;
} copy_flags[] = { { "shallow", BAK_DOMAIN_BLOCK_COPY_SHALLOW },
                   { "reuse-external", BAK_DOMAIN_BLOCK_COPY_REUSE_EXT },
                   { "transient-job", BAK_DOMAIN_BLOCK_COPY_TRANSIENT_JOB },
                   { "synchronous-writes", BAK_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES },
                   { "drop-checkpoints", BAK_DOMAIN_BLOCK_COPY_DROP_CHECKPOINTS } };

static char *copy_xml (const Args *args, const char *dest)
{
    gboolean block = args_has (args, "blockdev");
    g_autofree char *path = g_canonicalize_filename (dest, NULL),
                    *source =
                        g_markup_printf_escaped ("<source %s='%s'/>", block ? "dev" : "file", path),
                    *driver = args_has (args, "format") ? g_markup_printf_escaped (
                                  "<driver type='%s'/>", args_text (args, "format"))
                                                        : g_strdup ("");
    return g_strdup_printf ("<disk type='%s'>%s%s</disk>", block ? "block" : "file", source,
                            driver);
}

static int blockcopy_run (Shell *shell, const Args *args)
{
    const char *dest = args_text (args, "dest"), *file = args_text (args, "xml");
    g_autofree char *xml = dest ? copy_xml (args, dest) : NULL;
    guint flags = 0;

    if (!dest && !file)
        return usage (_("a copy needs a destination: --dest or --xml"));
    for (guint i = 0; i < G_N_ELEMENTS (copy_flags); i++)
        if (args_has (args, copy_flags[i].option))
            flags |= copy_flags[i].flag;
    const char *why = dest ? NULL : read_file (file, &xml);
    if (why)
        return fail_with (STATUS_FAILED, _("Failed to open file '%s': %s"), file, why);
    return copy_with (shell, args, xml, flags);
}

static const Option blockcopy_options[] = {
    DISK_OPTION,
    { "dest", OPTION_TEXT, OPTION_POSITIONAL, "FILE", N_("the image of the copy"), WANT_FILE },
    RATE_OPTION,
    { "xml", OPTION_TEXT, 0, "FILE", N_("a <disk> element that says where the copy goes"),
      WANT_FILE },
    { "format", OPTION_TEXT, 0, "FORMAT",
      N_("qcow2 or raw; without: that of the disk's own image"), WANT_NOTHING },
    FLAG ("blockdev", N_("the destination is a block device")),
    FLAG ("shallow", N_("only the active image: the copy stands on what that stands on")),
    FLAG ("reuse-external", N_("the image is there: write to it as it is")),
    FLAG ("pivot", N_("implies --wait: then let the guest go on on the copy")),
    FLAG ("finish", N_("implies --wait: then leave the copy as it is at that instant")),
    WAIT_OPTIONS,
    { "granularity", OPTION_SIZE, 0, "BYTES",
      N_("parts by which writes of the guest are followed, a power of two"), WANT_NOTHING },
    { "buf-size", OPTION_SIZE, 0, "BYTES", N_("how much is on its way at most"), WANT_NOTHING },
    FLAG ("synchronous-writes",
          N_("a write of the guest waits until the copy has it: a slow image holds the guest")),
    FLAG ("transient-job", N_("accepted and without effect: no copy outlives QEMU")),
    PLAN_OPTIONS,
    { 0 },
};

static const Rule blockcopy_rules[] = { { RULE_EXCLUSIVE, "dest", "xml" },
                                        { RULE_EXCLUSIVE, "format", "xml" },
                                        { RULE_EXCLUSIVE, "blockdev", "xml" },
                                        { RULE_EXCLUSIVE, "pivot", "finish" },
                                        { 0 } };

const Command cmd_blockcopy = {
    .name = "blockcopy",
    .group = "backup",
    .help = N_("Copy a disk into another image, while the guest runs"),
    .description = N_("A copy becomes ready, follows the disk from then on, and ends by --pivot, "
                       "--finish or blockjob. After a pivot the guest is to be started with the "
                       "copy."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = blockcopy_options,
    .rules = blockcopy_rules,
    .run = blockcopy_run
};
