#include <string.h>
#include <glib/gi18n-lib.h>
#include "job/seal.h"

#define SEAL_PREFIX "bak-seal-"
#define SEAL_END "-end"
enum { PAIR_DIGITS = 8, TOKEN_DIGITS = 16 };

char *seal_new_token (void)
{
    g_autofree char *high = record_new_id (), *low = record_new_id ();
    return g_strconcat (high, low, NULL);
}

/* The first digits of a hash. Caller frees. */
static char *digest (guint digits, const char *text, const char *more)
{
    g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
    g_checksum_update (sum, (const guchar *) text, -1);
    g_checksum_update (sum, (const guchar *) "", 1);
    g_checksum_update (sum, (const guchar *) more, -1);
    return g_strndup (g_checksum_get_string (sum), digits);
}

char *seal_name (const char *token, const char *checkpoint, const char *disk)
{
    g_autofree char *pair = digest (PAIR_DIGITS, checkpoint, ""),
                    *own = digest (TOKEN_DIGITS, token, disk);
    return g_strconcat (SEAL_PREFIX, pair, own, NULL);
}

char *seal_end_name (const char *seal)
{
    return g_strconcat (seal, SEAL_END, NULL);
}

gboolean seal_is_end (const char *bitmap)
{
    return seal_is_name (bitmap) && g_str_has_suffix (bitmap, SEAL_END);
}

gboolean seal_is_name (const char *bitmap)
{
    return bitmap && g_str_has_prefix (bitmap, SEAL_PREFIX);
}

gboolean seal_is_beside (const char *seal, const char *bitmap)
{
    g_autofree char *pair = digest (PAIR_DIGITS, bitmap, "");
    return seal_is_name (seal) && g_str_has_prefix (seal + strlen (SEAL_PREFIX), pair);
}

gboolean seal_end_is_cut (const CheckpointDisk *recorded, const SealBitmap *end)
{
    return recorded->guarded && end->there && !end->inconsistent && end->has_count
           && end->count == 0;
}

char *seal_broken (const CheckpointDisk *recorded, const SealBitmap *bitmap, const SealBitmap *seal,
                   const SealBitmap *end)
{
    if (!seal->there || (recorded->guarded && !end->there))
        return g_strdup_printf (
            _("another image than that of the checkpoint, or not as it was then: its seal '%s%s' "
               "is not there (rolled back, restored, swapped, or the seal was removed)"),
            recorded->seal, seal->there ? SEAL_END : "");
    if (seal->inconsistent || (recorded->guarded && end->inconsistent))
        return g_strdup (_("bitmap inconsistent: its seal was not stored when QEMU ended"));
    if (seal_end_is_cut (recorded, end))
        return g_strdup (_("disk was resized: it has been smaller since, and what was cut off is "
                            "in no bitmap"));
    if (bitmap->has_count && seal->has_count && bitmap->count < seal->count)
        return g_strdup_printf (
            _("bitmap touched by somebody else: it was cleared, stopped for a while or made anew, "
               "and shows %" G_GUINT64_FORMAT " bytes where its seal has seen %" G_GUINT64_FORMAT
               " written"),
            bitmap->count, seal->count);
    return NULL;
}

char *seal_missing_note (const char *disk, const char *checkpoint)
{
    return g_strdup_printf (
        _("disk '%s': checkpoint '%s' is not sealed (made by an earlier version, or redefined): "
           "that its image is the one that it was made on is taken on trust"),
        disk, checkpoint);
}
