/* The report on its way to a person: by sendmail, or to a command. */
#include <string.h>
#include "night.h"
#include "program.h"

#define TIMEOUT ((guint64) 120 * G_USEC_PER_SEC)

static char *find_sendmail (void)
{
    static const char *const places[] = { "/usr/sbin/sendmail", "/usr/lib/sendmail" };
    char *found = g_find_program_in_path ("sendmail");
    for (guint i = 0; !found && i < G_N_ELEMENTS (places); i++)
        if (g_file_test (places[i], G_FILE_TEST_IS_EXECUTABLE))
            found = g_strdup (places[i]);
    return found;
}

/* As a header takes it: one line, in an encoded word when it is not ASCII. */
static char *subject_of (JsonObject *report)
{
    enum { LONGEST = 100, LONGEST_ENCODED = 40 };
    g_autofree char *headline = report_headline (report);
    g_autofree char *text = g_strdup_printf ("%s (%s): %s", report_get_text (report, "job"),
                                             report_get_text (report, "host"), headline);
    g_autofree char *line = clean (text);
    gboolean ascii = g_str_is_ascii (line);
    glong longest = ascii ? LONGEST : LONGEST_ENCODED;
    g_autofree char *cut = g_utf8_substring (line, 0, MIN (g_utf8_strlen (line, -1), longest));
    if (ascii)
        return g_steal_pointer (&cut);
    g_autofree char *encoded = g_base64_encode ((const guchar *) cut, strlen (cut));
    return g_strdup_printf ("=?UTF-8?B?%s?=", encoded);
}

static char *mail_of (const NightJob *job, JsonObject *report)
{
    g_autofree char *subject = subject_of (report), *text = report_text (report);
    return g_strdup_printf ("To: %s\nSubject: %s\nAuto-Submitted: auto-generated\n"
                            "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
                            "Content-Transfer-Encoding: 8bit\n\n%s",
                            job->mail, subject, text);
}

gboolean night_deliver (Night *night, JsonObject *report, char **ret_why)
{
    const NightJob *job = night->job;
    g_autofree char *sendmail = job->mail ? find_sendmail () : NULL, *why = NULL;
    const char *mail_argv[] = { sendmail, "-t", "-i", NULL };
    if (night->options->dry_run || (!job->mail && !job->report))
        return TRUE;
    if (job->mail && !sendmail) {
        *ret_why = g_strdup (_("the report was not mailed: there is no sendmail"));
        return FALSE;
    }
    g_autofree char *input = job->mail ? mail_of (job, report) : report_text (report);
    Program program = { .argv = job->mail ? mail_argv : (const char *const *) job->report,
                        .facts = report,
                        .input = input,
                        .timeout = TIMEOUT };
    int status = program_run (&program, &why);
    if (status == 0)
        return TRUE;
    if (status > 0)
        why = g_strdup_printf (_("exit status %d"), status);
    *ret_why = g_strdup_printf (_("the report did not arrive: '%s': %s"), program.argv[0], why);
    return FALSE;
}
