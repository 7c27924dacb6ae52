/* Points that are read again, so that damage is found before somebody needs them: those that have
 * not been looked at for the longest time first, within a budget. */
#include <stdlib.h>
#include <string.h>
#include "night.h"

/* A point proves itself when it is made; after that, when it is verified. */
static gint64 looked_at (const BakPoint *point)
{
    return MAX (bak_point_get_verified (point), bak_point_get_instant (point));
}

static int by_last_look (gconstpointer a, gconstpointer b)
{
    BakPoint *const *one = a, *const *other = b;
    gint64 first = looked_at (*one), second = looked_at (*other);
    return first < second ? -1 : first > second;
}

static GPtrArray *due_points (Night *night)
{
    GPtrArray *due = g_ptr_array_new_with_free_func ((GDestroyNotify) bak_point_unref);
    gint64 oldest = g_get_real_time () - (gint64) night->job->verify;
    for (guint i = 0; i < night->guests->len; i++) {
        const NightGuest *guest = night->guests->pdata[i];
        BakPoint **points = night_points (night->repository, guest->uuid, NULL);
        for (guint j = 0; points && points[j]; j++)
            if (looked_at (points[j]) <= oldest)
                g_ptr_array_add (due, bak_point_ref (points[j]));
        LIST_FREE (points, bak_point_unref);
    }
    g_ptr_array_sort (due, by_last_look);
    return due;
}

static void verify_point (Night *night, BakPoint *point)
{
    BakError *error = NULL;
    gint64 begin = g_get_monotonic_time ();
    BakPointVerifyOptions options = { .size = sizeof options,
                                      .limit = night->job->limit,
                                      .cancellation = night->cancellation };
    gboolean good = bak_point_verify (point, &options, &error) == 0;
    if (!good && bak_cancellation_is_cancelled (night->cancellation)) {
        bak_error_unref (error);
        return;
    }
    JsonObject *row = json_new ();
    g_autofree char *name =
        g_strdup_printf ("%s@%s", bak_point_get_guest (point), bak_point_get_id (point));
    json_text (row, "guest", bak_point_get_guest (point));
    json_text (row, "point", name);
    json_bool (row, "good", good);
    json_text (row, "error", good ? NULL : bak_error_get_message (error));
    json_int (row, "size", point_sum (point, bak_point_disk_get_size));
    json_int (row, "duration_ms", (g_get_monotonic_time () - begin) / 1000);
    night->damaged += good ? 0 : 1;
    night_tell (night, "verified", night_copy (row));
    json_array_add_object_element (night->verified, row);
    bak_error_unref (error);
}

void night_care (Night *night)
{
    guint64 bytes = 0;
    gint64 end = g_get_monotonic_time () + (gint64) night->job->verify_time;
    if (!night->job->verify)
        return;
    g_autoptr (GPtrArray) due = due_points (night);
    for (guint i = 0; i < due->len; i++) {
        gboolean spent = (night->job->verify_time && g_get_monotonic_time () >= end)
                         || (night->job->verify_bytes && bytes >= night->job->verify_bytes);
        if (spent || bak_cancellation_is_cancelled (night->cancellation))
            return;
        verify_point (night, due->pdata[i]);
        bytes += point_sum (due->pdata[i], bak_point_disk_get_size);
    }
}
