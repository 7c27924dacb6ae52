/* Migration and jobs exclude each other. QEMU refuses to migrate while a node of certain formats is
 * open, so a job holds one open from its first step to its last: a VHD of one sector, read-only,
 * the same file for all guests. Where QEMU does not take it (--only-migratable), the job watches.
 */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/migration.h"
#include "util/files.h"
#include "util/json.h"

/* Run states in which the disks are not this guest's to read, or are about to be another's. */
static const struct {
    const char *status, *why;
} away[] = {
    { "inmigrate", N_("it waits for a migration that has not arrived, and its disks still belong "
                       "to the other side: back it up there") },
    { "finish-migrate", N_("it is leaving by migration: back it up where it arrives") },
    { "postmigrate", N_("it has left, by migration or into a file, and its disks belong to the "
                         "other side now: back it up there, or let this one go on ('cont') if it "
                         "is the one that lives") },
    { "save-vm", N_("it is being saved: wait until that is done") },
    { "restore-vm", N_("it is being restored: wait until that is done") },
    { "colo", N_("it is one of a COLO pair, which runs on two hosts at once") },
};

/* States of a migration that does not go on; "": there was none yet. */
static const char *const idle[] = { "", "none", "completed", "failed", "cancelled", NULL };

gboolean migration_allows (const char *status, const char *migration, GError **error)
{
    for (guint i = 0; status && i < G_N_ELEMENTS (away); i++)
        if (g_str_equal (away[i].status, status))
            return error_set (error, BAK_ERROR_INEXACT, _("the guest's state is '%s': %s"), status,
                              _(away[i].why));
    if (!migration || g_strv_contains (idle, migration))
        return TRUE;
    return error_set (error, BAK_ERROR_INEXACT,
                      _("the guest is being migrated (migration '%s'): back it up where it "
                         "arrives, or cancel the migration"),
                      migration);
}

static char *ask_status (Guest *guest, const char *command, GError **error)
{
    g_autoptr (JsonNode) answer = qmp_execute (guest->qmp, command, NULL, 0, error);
    JsonObject *object =
        answer && JSON_NODE_HOLDS_OBJECT (answer) ? json_node_get_object (answer) : NULL;
    const char *status = object ? json_get_string (object, "status") : NULL;
    return answer ? text_sanitize (status, 64) : NULL;
}

gboolean migration_check (Guest *guest, GError **error)
{
    if (!caps_has_command (guest->caps, "query-migrate"))
        return TRUE;
    g_autofree char *status = ask_status (guest, "query-status", error),
                    *migration = status ? ask_status (guest, "query-migrate", error) : NULL;
    return migration && migration_allows (status, migration, error);
}

gboolean migration_starts (const char *status)
{
    return g_strcmp0 (status, "setup") == 0 || g_strcmp0 (status, "active") == 0;
}

gboolean migration_has_left (Guest *guest)
{
    g_autofree char *migration = ask_status (guest, "query-migrate", NULL);
    return g_strcmp0 (migration, "completed") == 0;
}

char *migration_barrier (const Guest *guest)
{
    return caps_has_command (guest->caps, "migrate") && caps_has_driver (guest->caps, "vpc")
               ? g_build_filename (guest->owner->state_dir, "no-migration.vhd", NULL)
               : NULL;
}

/* ---- a VHD of one sector: the sector, and a footer that says so ---- */

enum { SECTOR = 512, CHECKSUM_AT = 64 };

static const struct {
    guint at;
    const char *bytes;
    guint length;
} footer[] = {
    { 0, "conectix", 8 },
    { 8, "\0\0\0\2", 4 },                          /* features: the bit that is always set */
    { 12, "\0\1\0\0", 4 },                         /* version 1.0 */
    { 16, "\377\377\377\377\377\377\377\377", 8 }, /* no header follows: of fixed size */
    { 28, "qem2", 4 },                             /* made by: its size is what it says */
    { 32, "\0\5\0\3", 4 },
    { 36, "Wi2k", 4 },
    { 40, "\0\0\0\0\0\0\2\0", 8 }, /* original and current size */
    { 48, "\0\0\0\0\0\0\2\0", 8 },
    { 56, "\0\1\1\1", 4 }, /* cylinders, heads, sectors */
    { 60, "\0\0\0\2", 4 }, /* fixed */
};

static void make_image (guint8 image[2 * SECTOR])
{
    guint8 *at = image + SECTOR;
    guint32 sum = 0;

    memset (image, 0, 2 * SECTOR);
    for (guint i = 0; i < G_N_ELEMENTS (footer); i++)
        memcpy (at + footer[i].at, footer[i].bytes, footer[i].length);
    for (guint i = 0; i < SECTOR; i++)
        sum += at[i];
    sum = GUINT32_TO_BE (~sum);
    memcpy (at + CHECKSUM_AT, &sum, sizeof sum);
}

gboolean migration_make_barrier (const char *path, GError **error)
{
    guint8 image[2 * SECTOR];
    g_autofree char *now = NULL;
    gsize length = 0;

    make_image (image);
    if (files_read (path, sizeof image + 1, &now, &length, NULL) && length == sizeof image
        && memcmp (now, image, length) == 0)
        return TRUE;
    return files_replace (path, (const char *) image, sizeof image, 0644, error);
}
