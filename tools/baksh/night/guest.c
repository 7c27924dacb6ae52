/* One guest of a run: a point of it, then the rules of keeping. What can be said goes into its row,
 * whatever happens. */
#include <stdlib.h>
#include <string.h>
#include "night.h"

typedef struct {
    Night *night;
    NightGuest *guest;
} Place;

static void note_points (Night *night, NightGuest *guest, JsonObject *row);

static const char *state_word (int state)
{
    static const char *const words[] = {
        [BAK_DOMAIN_RUNNING] = "running",    [BAK_DOMAIN_BLOCKED] = "running",
        [BAK_DOMAIN_PAUSED] = "paused",      [BAK_DOMAIN_SHUTDOWN] = "running",
        [BAK_DOMAIN_SHUTOFF] = "off",        [BAK_DOMAIN_CRASHED] = "crashed",
        [BAK_DOMAIN_PMSUSPENDED] = "paused",
    };
    return (guint) state < G_N_ELEMENTS (words) ? words[state] : NULL;
}

/* All keys, so that a reader finds each of them in every row. */
static JsonObject *new_row (Night *night, NightGuest *guest)
{
    static const char *const texts[] = { "result", "code",    "error",       "type",   "reason",
                                         "point",  "instant", "consistency", "oldest", "newest" };
    static const char *const numbers[] = { "status", "duration_ms", "frozen_ms", "size",
                                           "read",   "stored",      "reused",    "points" };
    static const char *const lists[] = { "disks", "warnings", "pruned" };
    JsonObject *row = json_new ();
    json_text (row, "guest", guest->name);
    json_text (row, "uuid", guest->uuid);
    json_text (row, "uri", guest->uri);
    json_text (row, "state", state_word (guest->state));
    json_int (row, "attempts", guest->attempts);
    json_time (row, "started", g_get_real_time ());
    for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
        json_text (row, texts[i], NULL);
    for (guint i = 0; i < G_N_ELEMENTS (numbers); i++)
        json_int (row, numbers[i], 0);
    for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
        json_object_set_array_member (row, lists[i], json_array_new ());
    return row;
}

static void take_row (Night *night, NightGuest *guest, JsonObject *row)
{
    json_int (row, "duration_ms",
              guest->began ? (g_get_monotonic_time () - guest->began) / 1000 : 0);
    g_mutex_lock (&night->lock);
    if (guest->row)
        json_object_unref (guest->row);
    guest->row = row;
    g_mutex_unlock (&night->lock);
}

static void set_failure (Night *night, JsonObject *row, int status, const char *code,
                         const char *error)
{
    gboolean cancelled = bak_cancellation_is_cancelled (night->cancellation);
    json_text (row, "result",
               cancelled                  ? "interrupted"
               : status == STATUS_INEXACT ? "refused"
                                          : "failed");
    json_int (row, "status", cancelled ? STATUS_INTERRUPTED : status);
    json_text (row, "code", code);
    json_text (row, "error", error);
}

void night_guest_fail (Night *night, NightGuest *guest, int status, const char *code,
                       const char *error)
{
    JsonObject *row = new_row (night, guest);
    set_failure (night, row, status, code, error);
    note_points (night, guest, row);
    take_row (night, guest, row);
}

void night_guest_skip (Night *night, NightGuest *guest, const char *why)
{
    JsonObject *row = new_row (night, guest);
    json_text (row, "result", "skipped");
    json_text (row, "error", why);
    note_points (night, guest, row);
    take_row (night, guest, row);
}

static void set_error (Night *night, JsonObject *row, BakError *error)
{
    BakErrorCode code = bak_error_get_code (error);
    set_failure (night, row, point_status (code), bak_error_code_to_string (code),
                 bak_error_get_message (error));
    bak_error_unref (error);
}

static void add_warning (JsonObject *row, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid (text, -1);
    json_array_add_string_element (json_object_get_array_member (row, "warnings"), valid);
}

static void on_progress (const BakPointProgress *progress, void *opaque)
{
    Place *place = opaque;
    g_mutex_lock (&place->night->lock);
    g_strlcpy (place->guest->phase, progress->phase ? progress->phase : "",
               sizeof place->guest->phase);
    place->guest->done = progress->done;
    place->guest->total = progress->total;
    g_mutex_unlock (&place->night->lock);
}

/* the points that there are */

BakPoint *night_newest_good (BakPoint **points)
{
    BakPoint *newest = NULL;
    for (guint i = 0; points && points[i]; i++)
        if (!bak_point_get_verified (points[i]) || bak_point_is_verified_good (points[i]))
            newest = points[i];
    return newest;
}

BakPoint **night_points (BakRepository *repository, const char *uuid, BakError **error)
{
    BakError *why = NULL;
    BakPoint **points = NULL;
    if (bak_repository_list_points (repository, uuid, &points, 0, &why) >= 0)
        return points;
    if (bak_error_get_code (why) == BAK_ERROR_NO_POINT) {
        bak_error_unref (why);
        return calloc (1, sizeof (BakPoint *));
    }
    if (error)
        *error = why;
    else
        bak_error_unref (why);
    return NULL;
}

static gboolean is_full (const BakPoint *point)
{
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        if (!g_str_equal (bak_point_disk_get_kind (bak_point_get_disk (point, i)), "full"))
            return FALSE;
    return TRUE;
}

/* Why everything shall be read this time; NULL: it need not be. Caller frees. */
static char *why_full (const NightJob *job, BakPoint **points)
{
    gint64 last = 0;
    if (job->full)
        return g_strdup ("level = full");
    for (guint i = 0; points[i]; i++)
        if (is_full (points[i]))
            last = bak_point_get_instant (points[i]);
    if (!job->full_every || !points[0] || g_get_real_time () - last < (gint64) job->full_every)
        return NULL;
    g_autofree char *time = format_time (last);
    return last ? g_strdup_printf (_("full_every: all was read last at %s"), time)
                : g_strdup (_("full_every: no point is there of which all was read"));
}

static void note_points (Night *night, NightGuest *guest, JsonObject *row)
{
    BakPoint **points = night_points (night->repository, guest->uuid, NULL);
    BakPoint *newest = night_newest_good (points);
    guint n = 0;
    while (points && points[n])
        n++;
    json_int (row, "points", n);
    json_time (row, "oldest", points && points[0] ? bak_point_get_instant (points[0]) : 0);
    json_time (row, "newest", newest ? bak_point_get_instant (newest) : 0);
    LIST_FREE (points, bak_point_unref);
}

static void note_rename (NightGuest *guest, JsonObject *row, BakPoint **points)
{
    guint n = 0;
    while (points[n])
        n++;
    const char *before = n ? bak_point_get_guest (points[n - 1]) : guest->name;
    if (g_str_equal (before, guest->name))
        return;
    g_autofree char *text =
        g_strdup_printf (_("it was called '%s' when its newest point was made"), before);
    add_warning (row, text);
}

/* the rules */

static void on_removal (const BakPointRemoval *removal, void *opaque)
{
    JsonObject *row = opaque;
    if (removal->removed || (!removal->why && report_get_text (row, "result") == NULL))
        json_array_add_string_element (json_object_get_array_member (row, "pruned"), removal->id);
}

static void prune (Night *night, NightGuest *guest, JsonObject *row)
{
    BakError *error = NULL;
    BakPointRemoveOptions options = { .size = sizeof options,
                                      .flags =
                                          night->options->dry_run ? BAK_POINT_REMOVE_DRY_RUN : 0,
                                      .limit = night->job->limit / night->job->parallel,
                                      .func = on_removal,
                                      .opaque = row,
                                      .cancellation = night->cancellation };
    if (!night->job->has_keep
        || bak_repository_prune (night->repository, guest->uuid, &night->job->keep, &options,
                                 &error)
               == 0)
        return;
    g_autofree char *text =
        g_strdup_printf (_("the rules of keeping: %s"), bak_error_get_message (error));
    add_warning (row, text);
    bak_error_unref (error);
}

/* the point */

static guint64 share_of_limit (const Night *night)
{
    guint64 at_once = MIN (night->job->parallel, night->guests->len);
    return night->job->limit ? MAX (1, night->job->limit / at_once) : 0;
}

static void note_disk (JsonObject *row, const char *target, const char *kind, const char *reason,
                       const char *base)
{
    JsonObject *object = json_new ();
    json_text (object, "target", target);
    json_text (object, "kind", kind);
    json_text (object, "reason", reason);
    json_text (object, "base", base);
    json_array_add_object_element (json_object_get_array_member (row, "disks"), object);
    if (g_strcmp0 (kind, "full") == 0 || !report_get_text (row, "type"))
        json_text (row, "type", kind);
    if (reason && !report_get_text (row, "reason"))
        json_text (row, "reason", reason);
}

static void note_point (JsonObject *row, const BakPoint *point)
{
    g_autofree char *name =
        g_strdup_printf ("%s@%s", bak_point_get_guest (point), bak_point_get_id (point));
    json_text (row, "point", name);
    json_time (row, "instant", bak_point_get_instant (point));
    json_text (row, "consistency", bak_point_get_consistency (point));
    json_int (row, "frozen_ms", bak_point_get_frozen_time (point) / 1000);
    json_int (row, "size", point_sum (point, bak_point_disk_get_size));
    json_int (row, "read", point_sum (point, bak_point_disk_get_read));
    json_int (row, "stored", point_sum (point, bak_point_disk_get_stored));
    json_int (row, "reused", point_sum (point, bak_point_disk_get_reused));
    for (guint i = 0; i < bak_point_get_n_warnings (point); i++)
        add_warning (row, bak_point_get_warning (point, i));
    for (guint i = 0; i < bak_point_get_n_disks (point); i++) {
        const BakPointDisk *disk = bak_point_get_disk (point, i);
        note_disk (row, bak_point_disk_get_target (disk), bak_point_disk_get_kind (disk),
                   bak_point_disk_get_reason (disk), bak_point_disk_get_base (disk));
    }
}

static gboolean make_plan (Night *night, JsonObject *row, BakDomain *domain,
                           const BakPointCreateOptions *options, BakError **error)
{
    char *plan = bak_repository_plan_point (night->repository, domain, options, error);
    g_autoptr (JsonNode) node = plan ? json_from_string (plan, NULL) : NULL;
    bak_free (plan);
    if (!node)
        return FALSE;
    JsonArray *disks = report_get_array (json_node_get_object (node), "disks");
    for (guint i = 0; i < json_array_get_length (disks); i++) {
        JsonObject *disk = report_element (disks, i);
        note_disk (row, report_get_text (disk, "target"), report_get_text (disk, "kind"),
                   report_get_text (disk, "reason"), report_get_text (disk, "base"));
    }
    return TRUE;
}

static gboolean make_point (Night *night, JsonObject *row, BakDomain *domain,
                            const BakPointCreateOptions *options, BakError **error)
{
    g_autoptr (BakPoint) point =
        bak_repository_create_point (night->repository, domain, options, error);
    if (point)
        note_point (row, point);
    return point != NULL;
}

static gboolean back_up (Night *night, NightGuest *guest, JsonObject *row, BakConnection *conn,
                         BakError **error)
{
    g_autoptr (BakDomain) domain = bak_domain_lookup_by_uuid_string (conn, guest->uuid, error);
    BakPoint **points = domain ? night_points (night->repository, guest->uuid, error) : NULL;
    if (!points)
        return FALSE;
    g_autofree char *full = why_full (night->job, points);
    Place place = { night, guest };
    BakPointCreateOptions options = { .size = sizeof options,
                                      .flags = full ? BAK_POINT_CREATE_FULL_READ : 0,
                                      .quiesce = night->job->quiesce,
                                      .limit = share_of_limit (night),
                                      .timeout = night->job->timeout,
                                      .progress = on_progress,
                                      .opaque = &place,
                                      .cancellation = night->cancellation };
    note_rename (guest, row, points);
    LIST_FREE (points, bak_point_unref);
    if (full)
        json_text (row, "reason", full);
    return night->options->dry_run ? make_plan (night, row, domain, &options, error)
                                   : make_point (night, row, domain, &options, error);
}

gboolean night_guest_run (Night *night, NightGuest *guest, BakConnection *conn)
{
    BakError *error = NULL;
    JsonObject *row = new_row (night, guest);
    gboolean good = back_up (night, guest, row, conn, &error);
    if (good) {
        if (!night->options->dry_run)
            json_text (row, "result", "good");
        prune (night, guest, row);
        json_text (row, "result", night->options->dry_run ? "planned" : "good");
    } else {
        set_error (night, row, error);
    }
    note_points (night, guest, row);
    take_row (night, guest, row);
    return !good;
}
