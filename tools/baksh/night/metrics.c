/* The metrics file: what is known of each guest of each job that writes to it, in the text form of
 * Prometheus and OpenMetrics. Replaced as a whole, after each guest. */
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "night.h"

typedef enum { OF_GUEST, OF_JOB } Family;

/* Appends the value of one guest or of the job; FALSE: there is none. */
typedef gboolean (*ValueFunc) (GString *value, JsonObject *from);

static gboolean add_seconds (GString *value, gint64 microseconds)
{
    char buffer[G_ASCII_DTOSTR_BUF_SIZE];
    if (microseconds)
        g_string_append (value, g_ascii_formatd (buffer, sizeof buffer, "%.3f",
                                                 microseconds / (double) G_USEC_PER_SEC));
    return microseconds != 0;
}

static gboolean value_success (GString *value, JsonObject *from)
{
    return add_seconds (value, report_get_time (from, "newest"));
}

static gboolean value_run (GString *value, JsonObject *from)
{
    return add_seconds (value, report_get_time (from, "started"));
}

static gboolean value_status (GString *value, JsonObject *from)
{
    g_string_append_printf (value, "%" G_GINT64_FORMAT, report_get_int (from, "status"));
    return TRUE;
}

static gboolean value_duration (GString *value, JsonObject *from)
{
    return add_seconds (value, report_get_int (from, "duration_ms") * 1000);
}

static gboolean value_bytes (GString *value, JsonObject *from)
{
    g_string_append_printf (value, "%" G_GINT64_FORMAT, report_get_int (from, "read"));
    return report_get_text (from, "type") != NULL;
}

static gboolean value_frozen (GString *value, JsonObject *from)
{
    return add_seconds (value, report_get_int (from, "frozen_ms") * 1000);
}

static gboolean value_drill (GString *value, JsonObject *from)
{
    return add_seconds (value, report_get_time (report_get_object (from, "drill"), "time"));
}

static gboolean value_drill_status (GString *value, JsonObject *from)
{
    JsonObject *drill = report_get_object (from, "drill");
    g_string_append (value, report_get_text (drill, "proof") ? "0" : "1");
    return drill != NULL;
}

static const struct {
    const char *name, *help;
    Family family;
    ValueFunc value;
} families[] = {
    { "libbackup_last_success_timestamp_seconds", "Point in time of the newest good backup.",
      OF_GUEST, value_success },
    { "libbackup_last_run_timestamp_seconds", "When the last backup was begun.", OF_GUEST,
      value_run },
    { "libbackup_last_status", "How it ended, as an exit status: 0 is good.", OF_GUEST,
      value_status },
    { "libbackup_last_duration_seconds", "How long it took.", OF_GUEST, value_duration },
    { "libbackup_last_bytes", "What it read.", OF_GUEST, value_bytes },
    { "libbackup_last_frozen_seconds", "How long file systems were frozen.", OF_GUEST,
      value_frozen },
    { "libbackup_last_drill_timestamp_seconds", "When its newest point was last booted.", OF_GUEST,
      value_drill },
    { "libbackup_last_drill_status", "Whether it came up: 0 is good.", OF_GUEST,
      value_drill_status },
    { "libbackup_job_last_run_timestamp_seconds", "When the job ran last.", OF_JOB, value_run },
    { "libbackup_job_last_status", "The exit status of its last run.", OF_JOB, value_status },
    { "libbackup_last_run_guests", "Guests of the last run by result.", OF_JOB, NULL },
};

static void add_label (GString *line, const char *name, const char *value)
{
    g_string_append_printf (line, "%s=\"", name);
    for (const char *p = value; *p; p++)
        if (*p == '\n')
            g_string_append (line, "\\n");
        else
            g_string_append_printf (line, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    g_string_append_c (line, '"');
}

static void add_guest (GString *text, guint i, const char *job, JsonObject *guest)
{
    g_autoptr (GString) value = g_string_new (NULL);
    const char *type = report_get_text (guest, "type");
    if (!families[i].value (value, guest))
        return;
    g_string_append_printf (text, "%s{", families[i].name);
    add_label (text, "job", job);
    g_string_append_c (text, ',');
    add_label (text, "domain", report_get_text (guest, "guest"));
    if (families[i].value == value_bytes) {
        g_string_append_c (text, ',');
        add_label (text, "type", type);
    }
    g_string_append_printf (text, "} %s\n", value->str);
}

void night_add_sample (GString *text, const char *name, const char *job, const char *domain,
                       gint64 microseconds)
{
    char buffer[G_ASCII_DTOSTR_BUF_SIZE];
    g_string_append_printf (text, "%s{", name);
    add_label (text, "job", job);
    g_string_append_c (text, ',');
    add_label (text, "domain", domain);
    g_string_append_printf (text, "} %s\n",
                            g_ascii_formatd (buffer, sizeof buffer, "%.3f", microseconds / 1e6));
}

static void add_job (GString *text, guint i, const char *job, JsonObject *report)
{
    static const char *const results[] = { "good", "failed", "refused", "skipped", "interrupted" };
    g_autoptr (GString) value = g_string_new (NULL);
    if (families[i].value) {
        if (!families[i].value (value, report))
            return;
        g_string_append_printf (text, "%s{", families[i].name);
        add_label (text, "job", job);
        g_string_append_printf (text, "} %s\n", value->str);
        return;
    }
    for (guint j = 0; j < G_N_ELEMENTS (results); j++) {
        gint64 count = report_get_int (report_get_object (report, "counts"), results[j]);
        g_string_append_printf (text, "%s{", families[i].name);
        add_label (text, "job", job);
        g_string_append_c (text, ',');
        add_label (text, "result", results[j]);
        g_string_append_printf (text, "} %" G_GINT64_FORMAT "\n", count);
    }
}

/* Lines of other jobs in the same file stay. before: what is in it. */
static void add_others (GString *text, const char *name, const char *job, char **before)
{
    g_autofree char *prefix = g_strconcat (name, "{job=\"", NULL);
    g_autofree char *own = g_strconcat (prefix, job, "\"", NULL);
    for (guint i = 0; before && before[i]; i++)
        if (g_str_has_prefix (before[i], prefix) && !g_str_has_prefix (before[i], own))
            g_string_append_printf (text, "%s\n", before[i]);
}

static char *make_text (Night *night, JsonObject *report, char **before)
{
    GString *text = g_string_new (NULL);
    const char *job = night->job->name;
    for (guint i = 0; i < G_N_ELEMENTS (families); i++) {
        g_string_append_printf (text, "# HELP %s %s\n# TYPE %s gauge\n", families[i].name,
                                families[i].help, families[i].name);
        add_others (text, families[i].name, job, before);
        if (families[i].family == OF_JOB) {
            add_job (text, i, job, report);
            continue;
        }
        JsonArray *known = report_get_array (night->known, "guests");
        for (guint j = 0; j < json_array_get_length (known); j++)
            add_guest (text, i, job, report_element (known, j));
    }
    g_string_append (text, "# EOF\n");
    return g_string_free (text, FALSE);
}

/* Two jobs may write to one file: beside it stands what they take turns by. */
static int lock_of (Night *night)
{
    char *state = bak_configuration_state_dir ();
    g_autofree char *path = g_build_filename (state, "night", ".metrics-lock", NULL);
    bak_free (state);
    int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        flock (fd, LOCK_EX);
    return fd;
}

gboolean night_metrics (Night *night, JsonObject *report, char **ret_why)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *old = NULL;
    if (!night->job->metrics || night->options->dry_run)
        return TRUE;
    int lock = lock_of (night);
    g_auto (GStrv) before = g_file_get_contents (night->job->metrics, &old, NULL, NULL)
                                ? g_strsplit (old, "\n", -1)
                                : NULL;
    g_autofree char *text = make_text (night, report, before);
    gboolean written = g_file_set_contents_full (night->job->metrics, text, -1,
                                                 G_FILE_SET_CONTENTS_CONSISTENT, 0644, &error);
    if (lock >= 0)
        close (lock);
    if (!written)
        *ret_why = g_strdup_printf (_("the metrics could not be written: %s"), error->message);
    return written;
}
