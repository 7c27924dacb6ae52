/* A target as one word of the command line. What it is described as is understood again as the
 * same. */
#include "conf/backup_def.h"
#include "fuzz.h"

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autofree char *text = fuzz_text (bytes, length);
    g_autoptr (GError) error = NULL;
    g_autoptr (StoreDef) def = store_def_from_string (text, &error);

    fuzz_error_check (def != NULL, error);
    if (!def)
        return;
    g_autofree char *once = store_def_describe (def);
    g_autoptr (StoreDef) again = store_def_from_string (once, &error);
    if (!again)
        g_error ("not understood again: %s: %s", once, error->message);
    g_autofree char *twice = store_def_describe (again);
    MUST (strcmp (once, twice) == 0);
}
