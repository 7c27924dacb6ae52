/* The documents of a restore point, damaged or forged: read or refused, and what is read is written
 * the same. The first byte says which of the two it is. */
#include "fuzz.h"
#include "repository/fields.h"
#include "repository/manifest.h"

static void fuzz_manifest (const char *text, gsize length)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Manifest) manifest = manifest_parse (text, length, &error);
    fuzz_error_check (manifest != NULL, error);
    if (!manifest)
        return;
    MUST (fields_name_is_safe (manifest->id));
    for (guint i = 0; i < manifest->files->len; i++)
        MUST (fields_name_is_safe (((ManifestFile *) manifest->files->pdata[i])->name));
    g_autofree char *once = manifest_format (manifest);
    g_autoptr (Manifest) again = manifest_parse (once, strlen (once), &error);
    if (!again)
        g_error ("not valid input again: %s\n%s", error->message, once);
    g_autofree char *twice = manifest_format (again);
    MUST (strcmp (once, twice) == 0);
}

static void fuzz_placement (const char *text, gsize length)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Placement) placement = placement_parse (text, length, &error);
    fuzz_error_check (placement != NULL, error);
    if (!placement)
        return;
    for (guint i = 0; i < placement->disks->len; i++) {
        const PlacementDisk *disk = placement->disks->pdata[i];
        MUST (fields_name_is_safe (disk->file) && fields_name_is_safe (disk->leaves));
        MUST (!disk->backing || fields_name_is_safe (disk->backing));
    }
    g_autofree char *once = placement_format (placement);
    g_autoptr (Placement) again = placement_parse (once, strlen (once), &error);
    if (!again)
        g_error ("not valid input again: %s\n%s", error->message, once);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    if (length == 0)
        return;
    if (bytes[0] == 'm')
        fuzz_manifest ((const char *) bytes + 1, length - 1);
    else
        fuzz_placement ((const char *) bytes + 1, length - 1);
}
