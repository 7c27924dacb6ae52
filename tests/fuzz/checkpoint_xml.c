/* <domaincheckpoint>, new and redefined. What is accepted is written, and read again as a
 * redefinition. */
#include "conf/checkpoint_def.h"
#include "fuzz.h"

static void fuzz_as (const char *text, CheckpointParseFlags flags)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (text, flags, &error);

    fuzz_error_check (def != NULL, error);
    if (!def)
        return;
    g_autofree char *once = checkpoint_def_format (def, NULL, 0);
    g_autoptr (CheckpointDef) again = checkpoint_def_parse (once, flags, &error);
    if (!again)
        g_error ("not valid input again: %s\n%s", error->message, once);
    g_autofree char *twice = checkpoint_def_format (again, NULL, 0);
    MUST (strcmp (once, twice) == 0);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autofree char *text = fuzz_text (bytes, length);

    fuzz_as (text, 0);
    fuzz_as (text, CHECKPOINT_PARSE_REDEFINE);
}
