/* A journal, cut off where its owner died, damaged or forged: what is read off it is whole, and a
 * plan in it is written the same. */
#include "job/journal.h"
#include "fuzz.h"

static void check_plan (const JournalState *state)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) first = plan_to_json (state->plan);
    g_autoptr (Plan) again = plan_from_json (first, &error);
    fuzz_error_check (again != NULL, error);
    MUST (again != NULL);
    g_autoptr (JsonNode) second = plan_to_json (again);
    g_autofree char *once = json_to_string (first, FALSE), *twice = json_to_string (second, FALSE);
    MUST (strcmp (once, twice) == 0);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autoptr (JournalState) state = journal_parse ((const char *) bytes, length);
    GHashTableIter files;
    gpointer path;

    MUST (state->meta && state->phase);
    MUST (state->states->len == (state->plan ? state->plan->steps->len : 0));
    for (guint i = 0; i < state->states->len; i++)
        MUST (g_array_index (state->states, StepState, i) <= STEP_FAILED);
    g_hash_table_iter_init (&files, state->files);
    while (g_hash_table_iter_next (&files, &path, NULL))
        MUST (g_path_is_absolute (path));
    if (state->plan)
        check_plan (state);
}
