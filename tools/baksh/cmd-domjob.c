/* The job commands in virsh's words and virsh's columns. */
#include <stdio.h>
#include <string.h>
#include "baksh.h"

static const char *type_name (int type)
{
    switch (type) {
    case BAK_DOMAIN_JOB_BOUNDED: return _("Bounded");
    case BAK_DOMAIN_JOB_UNBOUNDED: return _("Unbounded");
    case BAK_DOMAIN_JOB_COMPLETED: return _("Completed");
    case BAK_DOMAIN_JOB_FAILED: return _("Failed");
    case BAK_DOMAIN_JOB_CANCELLED: return _("Cancelled");
    default: return _("None");
    }
}

/* A parameter as text; caller frees. */
static char *param_text (const BakTypedParameter *param)
{
    switch (param->type) {
    case BAK_TYPED_PARAM_INT: return g_strdup_printf ("%d", param->value.i);
    case BAK_TYPED_PARAM_ULLONG: return g_strdup_printf ("%llu", param->value.ul);
    case BAK_TYPED_PARAM_BOOLEAN: return g_strdup_printf ("%d", param->value.b != 0);
    case BAK_TYPED_PARAM_STRING: return clean (param->value.s);
    default: return g_strdup ("");
    }
}

static void print_raw (int type, const BakTypedParameter *params, int n)
{
    print (_("Job type: %d\n\n"), type);
    for (int i = 0; i < n; i++) {
        g_autofree char *text = param_text (&params[i]);
        print ("%s: %s\n", params[i].field, text);
    }
}

static void print_amount (const char *label, BakTypedParameter *params, int n, const char *field)
{
    const BakTypedParameter *param = bak_typed_params_get (params, n, field);
    if (!param)
        return;
    g_autofree char *size = format_size (param->value.ul);
    print ("%-17s %s\n", label, size);
}

static void print_stats (int type, BakTypedParameter *params, int n, gboolean any)
{
    print ("%-17s %-12s\n", _("Job type:"), type_name (type));
    if (type == BAK_DOMAIN_JOB_NONE)
        return;
    print ("%-17s %-12s\n", _("Operation:"), _("Backup"));
    if ((type == BAK_DOMAIN_JOB_FAILED || type == BAK_DOMAIN_JOB_CANCELLED) && !any)
        return;
    const BakTypedParameter *elapsed = bak_typed_params_get (params, n, "time_elapsed");
    if (elapsed)
        print ("%-17s %-12llu ms\n", _("Time elapsed:"), elapsed->value.ul);
    print_amount (_("File processed:"), params, n, "disk_processed");
    print_amount (_("File remaining:"), params, n, "disk_remaining");
    print_amount (_("File total:"), params, n, "disk_total");
    print_amount (_("Temporary disk space use:"), params, n, "disk_temp_used");
    print_amount (_("Temporary disk space total:"), params, n, "disk_temp_total");
    const BakTypedParameter *message = bak_typed_params_get (params, n, "errmsg");
    if (message && any) {
        g_autofree char *text = clean (message->value.s);
        print ("%-17s %s\n", _("Error message:"), text);
    }
}

static void print_stats_json (int type, const BakTypedParameter *params, int n)
{
    static const char *const names[] = { "none",      "bounded", "unbounded",
                                         "completed", "failed",  "cancelled" };
    JsonObject *object = json_new ();
    json_text (object, "type",
               type >= 0 && type < (int) G_N_ELEMENTS (names) ? names[type] : "unknown");
    for (int i = 0; i < n; i++)
        switch (params[i].type) {
        case BAK_TYPED_PARAM_INT: json_int (object, params[i].field, params[i].value.i); break;
        case BAK_TYPED_PARAM_ULLONG: json_int (object, params[i].field, params[i].value.ul); break;
        case BAK_TYPED_PARAM_BOOLEAN: json_bool (object, params[i].field, params[i].value.b); break;
        default: json_text (object, params[i].field, params[i].value.s);
        }
    print_json (json_take_object (object));
}

static int domjobinfo_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakTypedParameter *params;
    int type, n;
    guint flags = (args_has (args, "completed") ? BAK_DOMAIN_JOB_STATS_COMPLETED : 0)
                  | (args_has (args, "keep-completed") ? BAK_DOMAIN_JOB_STATS_KEEP_COMPLETED : 0);
    if (bak_domain_get_job_stats (args_domain (args), &type, &params, &n, flags, &error) < 0)
        return fail (error);
    if (args_json (args))
        print_stats_json (type, params, n);
    else if (args_has (args, "rawstats"))
        print_raw (type, params, n);
    else
        print_stats (type, params, n, args_has (args, "anystats"));
    bak_typed_params_free (params, n);
    return STATUS_DONE;
}

static const Option info_options[] = {
    { "completed", OPTION_FLAG, 0, NULL, N_("return statistics of a recently completed job"),
      WANT_NOTHING },
    { "keep-completed", OPTION_FLAG, 0, NULL,
      N_("don't hide statistics of a recently completed job when reading"), WANT_NOTHING },
    { "anystats", OPTION_FLAG, 0, NULL,
      N_("print statistics for any kind of job (even failed ones)"), WANT_NOTHING },
    { "rawstats", OPTION_FLAG, 0, NULL, N_("print the raw data"), WANT_NOTHING },
    { 0 },
};

static const Rule info_rules[] = { { RULE_REQUIRES, "keep-completed", "completed" },
                                   { RULE_EXCLUSIVE, "anystats", "rawstats" },
                                   { 0 } };

const Command cmd_domjobinfo = { .name = "domjobinfo",
                                 .group = "backup",
                                 .help = N_("Statistics of a guest's job"),
                                 .description = N_(
                                     "As virsh prints them. The durable record is backup-info."),
                                 .flags = COMMAND_NEEDS_DOMAIN,
                                 .options = info_options,
                                 .rules = info_rules,
                                 .run = domjobinfo_run };

static int domjobabort_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    if (bak_domain_abort_job (args_domain (args), &error) < 0)
        return fail (error);
    if (args_json (args))
        print_json (json_one ("ended", bak_domain_get_name (args_domain (args))));
    return STATUS_DONE;
}

const Command cmd_domjobabort = {
    .name = "domjobabort",
    .group = "backup",
    .help = N_("End the job that runs, as a libvirt client means it"),
    .description = N_("A pull that is ready is done, as with backup-stop; anything else is "
                       "aborted. To abort a ready pull: backup-stop --abort."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .run = domjobabort_run
};
