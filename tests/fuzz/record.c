/* A record of a job in the state directory, damaged or forged: read or refused, and what is read is
 * written the same. */
#include "job/record.h"
#include "fuzz.h"
#include "util/json.h"

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) node = json_read ((const char *) bytes, (gssize) length, &error);
    bak_job job = { 0 }, again = { 0 };

    fuzz_error_check (node != NULL, error);
    if (!node)
        return;
    gboolean ok = record_from_json (node, &job, &error);
    fuzz_error_check (ok, error);
    if (!ok)
        return;
    g_autoptr (JsonNode) first = record_to_json (&job);
    g_autofree char *once = json_write (first);
    if (!record_from_json (first, &again, &error))
        g_error ("not valid input again: %s\n%s", error->message, once);
    g_autoptr (JsonNode) second = record_to_json (&again);
    g_autofree char *twice = json_write (second);
    MUST (strcmp (once, twice) == 0);
    bak_job_clear (&job);
    bak_job_clear (&again);
}
