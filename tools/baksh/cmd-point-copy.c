#include <string.h>
#include "long.h"
#include "point.h"

typedef struct {
    BakRepository *to; /* NULL: url, on another host */
    const char *url;
    GPtrArray *points; /* the oldest of each guest first */
    BakPointCopyOptions options;
    JsonArray *rows; /* NULL: print */
    gboolean failed;
    BakError *error;
} Copying;

static void tell_point (const Copying *copying, const BakPoint *point, gboolean copied,
                        guint64 read)
{
    if (copying->rows) {
        JsonObject *object = json_new ();
        json_text (object, "id", bak_point_get_id (point));
        json_text (object, "guest", bak_point_get_guest (point));
        json_bool (object, "copied", copied);
        json_int (object, "read", read);
        json_array_add_object_element (copying->rows, object);
        return;
    }
    g_autofree char *guest = clean (bak_point_get_guest (point)), *size = format_size (read);
    if (copied)
        print (_("Point %s@%s copied, %s read\n"), guest, bak_point_get_id (point), size);
    else
        print (_("Point %s@%s is there already\n"), guest, bak_point_get_id (point));
}

static void copy_points (LongCall *call, gpointer data)
{
    Copying *copying = data;
    copying->options.progress = long_progress;
    copying->options.opaque = call;
    copying->options.cancellation = long_cancellation (call);
    for (guint i = 0; !copying->failed && i < copying->points->len; i++) {
        BakPoint *point = copying->points->pdata[i];
        unsigned long long read = 0;
        int copied =
            copying->to
                ? bak_point_copy (point, copying->to, &copying->options, &read, &copying->error)
                : bak_point_send (point, copying->url, &copying->options, &read, &copying->error);
        copying->failed = copied < 0;
        if (!copying->failed)
            tell_point (copying, point, copied > 0, read);
    }
}

static int by_sequence (gconstpointer one, gconstpointer other)
{
    const BakPoint *a = *(BakPoint *const *) one, *b = *(BakPoint *const *) other;
    unsigned long long x = bak_point_get_sequence (a), y = bak_point_get_sequence (b);
    return x < y ? -1 : x > y;
}

/* NULL: the error has been printed. */
static GPtrArray *points_of (const Args *args, BakRepository *repository, int *ret_status)
{
    g_autoptr (GPtrArray) points =
        g_ptr_array_new_with_free_func ((GDestroyNotify) bak_point_unref);
    const char *const *names = args_all (args, "point");
    BakError *error = NULL;
    if (args_has (args, "all")) {
        BakPoint **all;
        int count = bak_repository_list_points (repository, NULL, &all, 0, &error);
        if (count < 0)
            return *ret_status = fail (error), NULL;
        for (int i = 0; i < count; i++)
            g_ptr_array_add (points, all[i]);
        bak_free (all);
        return g_steal_pointer (&points);
    }
    for (guint i = 0; names[i]; i++) {
        BakPoint *point = bak_repository_lookup_point (repository, names[i], 0, &error);
        if (!point)
            return *ret_status = fail (error), NULL;
        g_ptr_array_add (points, point);
    }
    if (points->len == 0) {
        *ret_status = usage (_("which points? name them, or say --all"));
        return NULL;
    }
    g_ptr_array_sort (points, by_sequence);
    return g_steal_pointer (&points);
}

static int point_copy_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (GPtrArray) points = repository ? points_of (args, repository, &status) : NULL;
    if (!points)
        return status;
    const char *url = args_text (args, "to");
    gboolean remote = strstr (url, "://") && !g_str_has_prefix (url, "file://");
    g_autoptr (BakRepository) to = remote ? NULL : bak_repository_open (url, 0, &error);
    if (!to && !remote)
        return fail (error);
    if (to && !args_unlock (args, "to-", to, &status))
        return status;
    Copying copying = {
        .to = to,
        .url = url,
        .points = points,
        .options = { .size = sizeof copying.options,
                     .flags = args_has (args, "allow-plain") ? BAK_POINT_COPY_ALLOW_PLAIN : 0,
                     .limit = args_size (args, "limit") },
        .rows = args_json (args) ? json_array_new () : NULL
    };
    gboolean interrupted = long_run (copy_points, &copying, NULL, !shell->quiet && !copying.rows);
    if (copying.rows) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "points", copying.rows);
        print_json (json_take_object (object));
    }
    if (!copying.failed)
        return STATUS_DONE;
    status = fail (copying.error);
    return interrupted ? STATUS_INTERRUPTED : status;
}

static const Option options[] = {
    { "point", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "POINT",
      N_("GUEST@latest, GUEST@2026-11-29, GUEST@2026-11-29T01:00:03Z, GUEST@ID, or an id"),
      WANT_POINT },
    { "all", OPTION_FLAG, 0, NULL, N_("every point of the repository"), WANT_NOTHING },
    { "to", OPTION_TEXT, OPTION_REQUIRED, "URL",
      N_("the repository that they are copied to: a directory, or ssh://[USER@]HOST[:PORT]/PATH"),
      WANT_FILE },
    { "to-passphrase-file", OPTION_TEXT, 0, "FILE",
      N_("what opens that one if it is encrypted: a file with a pass phrase"), WANT_FILE },
    { "to-passphrase-fd", OPTION_NUMBER, 0, "FD", N_("the same from an open descriptor"),
      WANT_NOTHING },
    { "to-key-file", OPTION_TEXT, 0, "FILE", N_("the same with a key file"), WANT_FILE },
    { "allow-plain", OPTION_FLAG, 0, NULL,
      N_("also from an encrypted repository to one that is not"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { "limit", OPTION_SIZE, 0, "RATE", N_("bytes a second that are read, as 100M"), WANT_NOTHING },
    { 0 },
};
static const Rule rules[] = { { RULE_EXCLUSIVE, "all", "point" }, { 0 } };

const Command cmd_point_copy = {
    .name = "point-copy",
    .group = "point",
    .help = N_("Copy points to another repository"),
    .description = N_(
        "The oldest first; what is there already is left out, and of a point only what the newest "
        "older point there does not hold is read. What arrives is proved. Broken off, it is "
        "started again by the same command. By ssh the files go as they are, and nothing of this "
        "program is needed on the other host."),
    .options = options,
    .rules = rules,
    .run = point_copy_run
};
