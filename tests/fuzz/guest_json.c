/* A guest's definition in the state directory, damaged or forged. What is accepted is written and
 * read the same. */
#include "conf/guest_def.h"
#include "fuzz.h"

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autofree char *text = fuzz_text (bytes, length);
    g_autoptr (GError) error = NULL;
    g_autoptr (GuestDef) def = guest_def_parse (text, &error);

    fuzz_error_check (def != NULL, error);
    if (!def)
        return;
    g_autofree char *once = guest_def_format (def);
    g_autoptr (GuestDef) again = guest_def_parse (once, &error);
    if (!again)
        g_error ("not valid input again: %s\n%s", error->message, once);
    g_autofree char *twice = guest_def_format (again);
    MUST (strcmp (once, twice) == 0);
}
