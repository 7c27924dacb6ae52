/* Either dialect of <domainbackup>. What is accepted is written, read again and written the same.
 */
#include "conf/backup_def.h"
#include "fuzz.h"

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autofree char *text = fuzz_text (bytes, length);
    g_autoptr (GError) error = NULL;
    g_autoptr (BackupDef) def = backup_def_parse (text, &error);

    fuzz_error_check (def != NULL, error);
    if (!def)
        return;
    g_autofree char *once = backup_def_format (def);
    g_autoptr (BackupDef) again = backup_def_parse (once, &error);
    if (!again)
        g_error ("not valid input again: %s\n%s", error->message, once);
    MUST (again->dialect == DIALECT_MODERN);
    g_autofree char *twice = backup_def_format (again);
    MUST (strcmp (once, twice) == 0);
    g_autoptr (BackupDef) copy = backup_def_copy (def);
    g_autofree char *of_copy = backup_def_format (copy);
    MUST (strcmp (once, of_copy) == 0);
}
