#include "long.h"
#include "point.h"

typedef struct {
    BakPoint *point;
    BakPointVerifyOptions options;
    BakError *error;
    int ret;
} Verification;

static void verify (LongCall *call, gpointer data)
{
    Verification *verification = data;
    verification->options.progress = long_progress;
    verification->options.opaque = call;
    verification->options.cancellation = long_cancellation (call);
    verification->ret =
        bak_point_verify (verification->point, &verification->options, &verification->error);
}

/* The worst of two: damage is worse than what could not be done. */
static int worse (int one, int other)
{
    return one == STATUS_INTERRUPTED || other == STATUS_INTERRUPTED ? STATUS_INTERRUPTED
           : one == STATUS_INEXACT || other == STATUS_INEXACT       ? STATUS_INEXACT
                                                                    : MAX (one, other);
}

static void add_json (JsonArray *array, BakPoint *point, const BakError *error)
{
    JsonObject *object = json_new ();
    json_text (object, "id", bak_point_get_id (point));
    json_text (object, "guest", bak_point_get_guest (point));
    json_bool (object, "good", error == NULL);
    json_text (object, "error", error ? bak_error_get_message (error) : NULL);
    json_array_add_object_element (array, object);
}

static int verify_one (Shell *shell, const Args *args, BakPoint *point, JsonArray *array)
{
    Verification verification = { .point = point,
                                  .options = { .size = sizeof (BakPointVerifyOptions),
                                               .limit = args_size (args, "limit") } };
    gboolean interrupted = long_run (verify, &verification, bak_point_get_guest (point),
                                     !shell->quiet && !args_json (args));
    g_autofree char *guest = clean (bak_point_get_guest (point));
    add_json (array, point, verification.error);
    if (verification.ret < 0) {
        int status = fail (verification.error);
        return interrupted ? STATUS_INTERRUPTED : status;
    }
    if (!args_json (args))
        print (_("Point %s@%s is good\n"), guest, bak_point_get_id (point));
    return STATUS_DONE;
}

static BakPoint **named_points (const Args *args, BakRepository *repository, int *ret_status)
{
    const char *const *names = args_all (args, "point");
    g_autoptr (GPtrArray) points =
        g_ptr_array_new_with_free_func ((GDestroyNotify) bak_point_unref);
    BakError *error = NULL;
    for (guint i = 0; names[i]; i++) {
        BakPoint *point = bak_repository_lookup_point (repository, names[i], 0, &error);
        if (!point) {
            *ret_status = fail (error);
            return NULL;
        }
        g_ptr_array_add (points, point);
    }
    g_ptr_array_add (points, NULL);
    return (BakPoint **) g_ptr_array_steal (points, NULL);
}

/* Of these, those that were not verified within the time that --since says. */
static void drop_recent (const Args *args, BakPoint **points)
{
    guint64 since = args_microseconds (args, "since");
    gint64 oldest = g_get_real_time () - (gint64) since;
    guint kept = 0;
    for (guint i = 0; points[i]; i++) {
        gboolean recent = since && bak_point_is_verified_good (points[i])
                          && bak_point_get_verified (points[i]) >= oldest;
        if (recent)
            bak_point_unref (points[i]);
        else
            points[kept++] = points[i];
    }
    points[kept] = NULL;
}

static BakPoint **all_points (BakRepository *repository, int *ret_status)
{
    BakError *error = NULL;
    BakPoint **points = NULL;
    if (bak_repository_list_points (repository, NULL, &points, BAK_REPOSITORY_LIST_DAMAGED, &error)
        < 0)
        *ret_status = fail (error);
    return points;
}

static int point_verify_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    gboolean all = args_has (args, "all");
    if (all == (args_all (args, "point")[0] != NULL))
        return usage (_("name points, or --all"));
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    BakPoint **points =
        all ? all_points (repository, &status) : named_points (args, repository, &status);
    if (!points)
        return status;
    drop_recent (args, points);
    JsonArray *array = json_array_new ();
    for (guint i = 0; points[i] && status != STATUS_INTERRUPTED; i++)
        status = worse (status, verify_one (shell, args, points[i], array));
    LIST_FREE (points, bak_point_unref);
    gboolean locked = bak_repository_is_locked (repository);
    if (locked)
        warn (_(
            "the repository's key is not at hand: documents, sizes, hashes of files and trees were "
            "compared, no data was read"));
    JsonObject *object = json_new ();
    json_object_set_array_member (object, "points", array);
    json_bool (object, "data_read", !locked);
    g_autoptr (JsonNode) node = json_take_object (object);
    if (args_json (args))
        print_json (g_steal_pointer (&node));
    return status;
}

static const Option verify_options[] = {
    { "point", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "POINT",
      N_("GUEST@latest, GUEST@2026-11-29, GUEST@2026-11-29T01:00:03Z, GUEST@ID, or an id"),
      WANT_POINT },
    { "all", OPTION_FLAG, 0, NULL, N_("all points of the repository"), WANT_NOTHING },
    { "since", OPTION_SECONDS, 0, "SECONDS",
      N_("leave out those that were found good within so long"), WANT_NOTHING },
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};
static const Rule verify_rules[] = { { RULE_EXCLUSIVE, "all", "point" }, { 0 } };

const Command cmd_point_verify = {
    .name = "point-verify",
    .group = "point",
    .help = N_("Read points and compare them with their hashes"),
    .description = N_("Reads all that a restore would read. What was found is remembered with the "
                       "point and shown by point-list. Without the key of an encrypted repository "
                       "the structure alone is compared, and that is said. Exit status 4: a point "
                       "is damaged."),
    .options = verify_options,
    .rules = verify_rules,
    .run = point_verify_run
};
