/* A point as JSON, and what else its commands share. The keys are part of the contract: add, do not
 * rename. */
#include "point.h"

gboolean args_key (const Args *args, const char *prefix, char **ret_key,
                   BakRepositoryKeyKind *ret_kind)
{
    g_autofree char *phrase = g_strconcat (prefix, "passphrase-file", NULL),
                    *descriptor = g_strconcat (prefix, "passphrase-fd", NULL),
                    *file = g_strconcat (prefix, "key-file", NULL);
    guint given = args_has (args, phrase) + args_has (args, descriptor) + args_has (args, file);
    *ret_kind = args_has (args, file) ? BAK_REPOSITORY_KEY_FILE : BAK_REPOSITORY_KEY_PASSPHRASE;
    *ret_key = NULL;
    if (given > 1) {
        usage (_("only one of --%s, --%s and --%s"), phrase, descriptor, file);
        return FALSE;
    }
    if (args_has (args, descriptor))
        *ret_key = g_strdup_printf ("/dev/fd/%" G_GUINT64_FORMAT, args_size (args, descriptor));
    else if (given)
        *ret_key = g_strdup (args_text (args, args_has (args, file) ? file : phrase));
    return TRUE;
}

gboolean args_unlock (const Args *args, const char *prefix, BakRepository *repository,
                      int *ret_status)
{
    BakRepositoryKeyKind kind;
    g_autofree char *key = NULL;
    BakError *error = NULL;
    if (!args_key (args, prefix, &key, &kind)) {
        *ret_status = STATUS_USAGE;
        return FALSE;
    }
    if (!key || bak_repository_unlock (repository, key, kind, &error) == 0)
        return TRUE;
    *ret_status = fail (error);
    return FALSE;
}

BakRepository *args_repository (const Args *args, int *ret_status)
{
    BakError *error = NULL;
    BakRepository *repository = bak_repository_open (args_text (args, "repository"), 0, &error);
    if (!repository) {
        gboolean none = bak_error_get_code (error) == BAK_ERROR_INVALID_ARGUMENT;
        *ret_status = fail (error);
        if (none)
            *ret_status = STATUS_USAGE;
    }
    if (repository && !args_unlock (args, "", repository, ret_status))
        g_clear_pointer (&repository, bak_repository_unref);
    return repository;
}

BakPoint *args_point (const Args *args, BakRepository *repository, int *ret_status)
{
    BakError *error = NULL;
    BakPoint *point =
        bak_repository_lookup_point (repository, args_text (args, "point"), 0, &error);
    if (!point)
        *ret_status = fail (error);
    return point;
}

int point_status (BakErrorCode code)
{
    gboolean ended_badly = code == BAK_ERROR_IO || code == BAK_ERROR_NO_SPACE
                           || code == BAK_ERROR_TIMEOUT || code == BAK_ERROR_ABORTED;
    return ended_badly ? STATUS_BAD_BACKUP : status_of_error (code);
}

int point_fail (BakError *error)
{
    int status = point_status (bak_error_get_code (error));
    fail (error);
    return status;
}

guint64 point_sum (const BakPoint *point, unsigned long long (*get) (const BakPointDisk *disk))
{
    guint64 sum = 0;
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        sum += get (bak_point_get_disk (point, i));
    return sum;
}

void point_warn (const BakPoint *point)
{
    for (guint i = 0; i < bak_point_get_n_warnings (point); i++)
        warn ("%s", bak_point_get_warning (point, i));
}

static JsonObject *disk_to_json (const BakPointDisk *disk)
{
    JsonObject *object = json_new ();
    json_text (object, "target", bak_point_disk_get_target (disk));
    json_int (object, "size", bak_point_disk_get_size (disk));
    json_text (object, "kind", bak_point_disk_get_kind (disk));
    json_text (object, "reason", bak_point_disk_get_reason (disk));
    json_text (object, "base", bak_point_disk_get_base (disk));
    json_int (object, "read", bak_point_disk_get_read (disk));
    json_int (object, "stored", bak_point_disk_get_stored (disk));
    json_int (object, "reused", bak_point_disk_get_reused (disk));
    json_int (object, "file_size", bak_point_disk_get_file_size (disk));
    json_text (object, "path", bak_point_disk_get_path (disk));
    json_text (object, "compression", bak_point_disk_get_compression (disk));
    json_text (object, "root", bak_point_disk_get_root (disk));
    json_int (object, "sampled", bak_point_disk_get_sampled (disk));
    json_bool (object, "tracking_lied", bak_point_disk_is_tracking_wrong (disk));
    return object;
}

static JsonArray *warnings_to_json (const BakPoint *point)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; i < bak_point_get_n_warnings (point); i++)
        json_array_add_string_element (array, bak_point_get_warning (point, i));
    return array;
}

JsonObject *point_to_json (const BakPoint *point)
{
    JsonObject *object = json_new ();
    JsonArray *disks = json_array_new ();
    gint64 verified = bak_point_get_verified (point);
    json_text (object, "id", bak_point_get_id (point));
    json_text (object, "guest", bak_point_get_guest (point));
    json_text (object, "uuid", bak_point_get_guest_uuid (point));
    json_int (object, "sequence", bak_point_get_sequence (point));
    json_time (object, "instant", bak_point_get_instant (point));
    json_text (object, "consistency", bak_point_get_consistency (point));
    json_int (object, "frozen_ms", bak_point_get_frozen_time (point) / 1000);
    json_text (object, "host", bak_point_get_host (point));
    json_text (object, "qemu", bak_point_get_qemu_version (point));
    json_text (object, "checkpoint", bak_point_get_checkpoint (point));
    json_text (object, "parent", bak_point_get_parent (point));
    json_text (object, "note", bak_point_get_note (point));
    json_bool (object, "pinned", bak_point_is_pinned (point));
    json_time (object, "verified", verified);
    if (verified)
        json_bool (object, "good", bak_point_is_verified_good (point));
    else
        json_text (object, "good", NULL);
    json_int (object, "size", point_sum (point, bak_point_disk_get_size));
    json_int (object, "read", point_sum (point, bak_point_disk_get_read));
    json_int (object, "stored", point_sum (point, bak_point_disk_get_stored));
    json_int (object, "reused", point_sum (point, bak_point_disk_get_reused));
    json_text (object, "path", bak_point_get_path (point));
    json_text (object, "damage", bak_point_get_damage (point));
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        json_array_add_object_element (disks, disk_to_json (bak_point_get_disk (point, i)));
    json_object_set_array_member (object, "warnings", warnings_to_json (point));
    json_object_set_array_member (object, "disks", disks);
    return object;
}

JsonObject *repository_to_json (const BakRepository *repository)
{
    JsonObject *object = json_new ();
    json_text (object, "url", bak_repository_get_url (repository));
    json_text (object, "path", bak_repository_get_path (repository));
    json_text (object, "id", bak_repository_get_id (repository));
    json_time (object, "created", bak_repository_get_created (repository));
    json_text (object, "note", bak_repository_get_note (repository));
    json_bool (object, "encrypted", bak_repository_is_encrypted (repository));
    return object;
}
