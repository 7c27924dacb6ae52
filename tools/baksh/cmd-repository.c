#include "point.h"

/* create */

static int create_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakRepositoryCreateOptions options = { .size = sizeof options,
                                           .note = args_text (args, "note") };
    g_autofree char *key = NULL;
    if (!args_key (args, "", &key, &options.key_kind))
        return STATUS_USAGE;
    if (args_has (args, "encrypt") && !key)
        return usage (_("--encrypt needs --passphrase-file, --passphrase-fd or --key-file"));
    options.key = key;
    g_autoptr (BakRepository) repository =
        bak_repository_create (args_text (args, "repository"), &options, &error);
    if (!repository)
        return fail (error);
    if (args_json (args)) {
        print_json (json_take_object (repository_to_json (repository)));
    } else {
        g_autofree char *path = clean (bak_repository_get_path (repository));
        print (_("Repository '%s' created\n"), path);
    }
    return STATUS_DONE;
}

#define URL_OPTION                                                                                 \
    {                                                                                              \
        "repository", OPTION_TEXT, OPTION_POSITIONAL, "URL",                                       \
            N_("the repository, a directory; default: LIBBACKUP_REPOSITORY, else the "            \
                "configuration's"),                                                                \
            WANT_FILE                                                                              \
    }

static const Option create_options[] = {
    URL_OPTION,
    { "note", OPTION_TEXT, 0, "TEXT", N_("what people should know of it"), WANT_NOTHING },
    { "encrypt", OPTION_FLAG, 0, NULL, N_("with a key, which a pass phrase or a key file opens"),
      WANT_NOTHING },
    KEY_OPTIONS,
    { 0 },
};
static const Rule create_rules[] = { { RULE_REQUIRES, "passphrase-file", "encrypt" },
                                     { RULE_REQUIRES, "passphrase-fd", "encrypt" },
                                     { RULE_REQUIRES, "key-file", "encrypt" },
                                     { 0 } };

const Command cmd_repository_create = { .name = "repository-create",
                                        .group = "repository",
                                        .help = N_("Make a repository of restore points"),
                                        .description =
                                            N_("The directory must be empty or not be there."),
                                        .options = create_options,
                                        .rules = create_rules,
                                        .run = create_run };

/* info */

typedef struct {
    const char *guest, *uuid;
    guint points;
    gint64 newest;
    guint64 stored;
} GuestSum;

/* The points come one guest after the other, each guest's oldest first. */
static GArray *sum_guests (BakPoint **points)
{
    GArray *sums = g_array_new (FALSE, TRUE, sizeof (GuestSum));
    for (guint i = 0; points[i]; i++) {
        const char *uuid = bak_point_get_guest_uuid (points[i]);
        GuestSum *sum = sums->len ? &g_array_index (sums, GuestSum, sums->len - 1) : NULL;
        if (!sum || !g_str_equal (sum->uuid, uuid)) {
            GuestSum fresh = { .uuid = uuid };
            g_array_append_val (sums, fresh);
            sum = &g_array_index (sums, GuestSum, sums->len - 1);
        }
        sum->guest = bak_point_get_guest (points[i]);
        sum->newest = bak_point_get_instant (points[i]);
        sum->stored += point_sum (points[i], bak_point_disk_get_file_size);
        sum->points++;
    }
    return sums;
}

static JsonArray *sums_to_json (const GArray *sums)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; i < sums->len; i++) {
        const GuestSum *sum = &g_array_index (sums, GuestSum, i);
        JsonObject *object = json_new ();
        json_text (object, "guest", sum->guest);
        json_text (object, "uuid", sum->uuid);
        json_int (object, "points", sum->points);
        json_time (object, "newest", sum->newest);
        json_int (object, "file_size", sum->stored);
        json_array_add_object_element (array, object);
    }
    return array;
}

static void print_sums (const GArray *sums)
{
    Table *table =
        table_new (_("Guest"), _("UUID"), _("Points"), _("Newest"), _("Files"), NULL);
    for (guint i = 0; i < sums->len; i++) {
        const GuestSum *sum = &g_array_index (sums, GuestSum, i);
        g_autofree char *count = g_strdup_printf ("%u", sum->points),
                        *newest = format_time (sum->newest), *size = format_size (sum->stored);
        table_row (table, sum->guest, sum->uuid, count, newest, size, NULL);
    }
    table_print (table);
}

static int info_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    BakPoint **points;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    if (bak_repository_list_points (repository, NULL, &points, 0, &error) < 0)
        return fail (error);
    g_autoptr (GArray) sums = sum_guests (points);
    if (args_json (args)) {
        JsonObject *object = repository_to_json (repository);
        json_object_set_array_member (object, "guests", sums_to_json (sums));
        print_json (json_take_object (object));
    } else {
        g_autofree char *created = format_time (bak_repository_get_created (repository));
        print_label (_("Repository:"), bak_repository_get_path (repository));
        print_label (_("Id:"), bak_repository_get_id (repository));
        print_label (_("Created:"), created);
        print_label (_("Note:"), bak_repository_get_note (repository));
        print_label (_("Encrypted:"),
                     bak_repository_is_encrypted (repository) ? _("yes") : _("no"));
        print ("\n");
        print_sums (sums);
    }
    LIST_FREE (points, bak_point_unref);
    return STATUS_DONE;
}

static const Option info_options[] = { URL_OPTION, KEY_OPTIONS, { 0 } };

const Command cmd_repository_info = { .name = "repository-info",
                                      .group = "repository",
                                      .help = N_("What a repository is, and whose points it has"),
                                      .options = info_options,
                                      .run = info_run };

/* list */

static int list_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    char *url = args_has (args, "repository") ? NULL : bak_repository_default_url ();
    const char *wanted = url ? url : args_text (args, "repository");
    g_autoptr (BakRepository) repository = wanted ? bak_repository_open (wanted, 0, &error) : NULL;
    JsonArray *array = json_array_new ();
    Table *table = table_new (_("Repository"), _("Id"), _("Points"), _("Fault"), NULL);
    if (wanted) {
        int points =
            repository ? bak_repository_list_points (repository, NULL, NULL, 0, &error) : -1;
        JsonObject *object = repository ? repository_to_json (repository) : json_new ();
        g_autofree char *count = points >= 0 ? g_strdup_printf ("%d", points) : g_strdup ("-");
        const char *fault = error ? bak_error_get_message (error) : NULL;
        json_text (object, "url", wanted);
        json_int (object, "points", MAX (points, 0));
        json_text (object, "error", fault);
        json_array_add_object_element (array, object);
        table_row (table, wanted, repository ? bak_repository_get_id (repository) : "-", count,
                   fault ? fault : "", NULL);
    }
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_object_set_array_member (object, "repositories", array);
        print_json (json_take_object (object));
        table_free (table);
    } else {
        json_array_unref (array);
        table_print (table);
    }
    bak_error_unref (error);
    bak_free (url);
    return STATUS_DONE;
}

const Command cmd_repository_list = { .name = "repository-list",
                                      .group = "repository",
                                      .help = N_("The repository that commands use by themselves"),
                                      .options = info_options,
                                      .run = list_run };
