/* The pass phrases and key files that open an encrypted repository. */
#include "point.h"

#define KEY_URL_OPTION                                                                             \
    {                                                                                              \
        "repository", OPTION_TEXT, OPTION_POSITIONAL, "URL",                                       \
            N_("the repository; default: LIBBACKUP_REPOSITORY, else the configuration's"),        \
            WANT_FILE                                                                              \
    }
#define NEW_OPTIONS                                                                                \
    { "new-passphrase-file",                                                                       \
      OPTION_TEXT,                                                                                 \
      0,                                                                                           \
      "FILE",                                                                                      \
      N_("a file with the new pass phrase"),                                                      \
      WANT_FILE },                                                                                 \
        { "new-passphrase-fd", OPTION_NUMBER, 0, "FD", N_("the same from an open descriptor"),    \
          WANT_NOTHING },                                                                          \
    {                                                                                              \
        "new-key-file", OPTION_TEXT, 0, "FILE", N_("a new key file"), WANT_FILE                   \
    }

/* list */

static void add_slot (JsonArray *array, guint index, JsonNode *node, gpointer table)
{
    JsonObject *slot = json_node_get_object (node);
    g_autofree char *number =
        g_strdup_printf ("%d", (int) json_object_get_int_member (slot, "slot"));
    const char *note = json_object_get_null_member (slot, "note")
                           ? ""
                           : json_object_get_string_member (slot, "note");
    table_row (table, number, json_object_get_string_member (slot, "kind"),
               json_object_get_string_member (slot, "created"), note, NULL);
}

static int key_list_run (Shell *shell, const Args *args)
{
    int status;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    char *text = bak_repository_describe_keys (repository);
    g_autoptr (JsonNode) node = json_from_string (text, NULL);
    bak_free (text);
    if (args_json (args)) {
        print_json (g_steal_pointer (&node));
        return STATUS_DONE;
    }
    Table *table = table_new (_("Slot"), _("Kind"), _("Created"), _("Note"), NULL);
    json_array_foreach_element (json_object_get_array_member (json_node_get_object (node), "keys"),
                                add_slot, table);
    table_print (table);
    return STATUS_DONE;
}

static const Option list_options[] = { KEY_URL_OPTION, KEY_OPTIONS, { 0 } };

const Command cmd_repository_key_list = {
    .name = "repository-key-list",
    .group = "repository",
    .help = N_("What opens an encrypted repository"),
    .description = N_("Its slots, without what is in them; no key is needed for that."),
    .options = list_options,
    .run = key_list_run
};

/* add, change */

/* NULL: it has been said. */
static char *new_key (const Args *args, BakRepositoryKeyKind *ret_kind)
{
    char *key;
    if (args_key (args, "new-", &key, ret_kind) && !key)
        usage (
            _("--new-passphrase-file, --new-passphrase-fd or --new-key-file names the new one"));
    return key;
}

static int key_add_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    BakRepositoryKeyKind kind;
    g_autofree char *key = new_key (args, &kind);
    if (!key)
        return STATUS_USAGE;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    int slot = bak_repository_add_key (repository, key, kind, args_text (args, "note"), &error);
    if (slot < 0)
        return fail (error);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_int (object, "slot", slot);
        print_json (json_take_object (object));
    } else {
        print (_("Slot %d added\n"), slot);
    }
    return STATUS_DONE;
}

static const Option add_options[] = {
    KEY_URL_OPTION, KEY_OPTIONS,
    NEW_OPTIONS,    { "note", OPTION_TEXT, 0, "TEXT", N_("whose it is"), WANT_NOTHING },
    { 0 },
};

const Command cmd_repository_key_add = {
    .name = "repository-key-add",
    .group = "repository",
    .help = N_("One more pass phrase or key file opens a repository"),
    .description = N_("The repository is opened by one that it has. No data is touched."),
    .options = add_options,
    .run = key_add_run
};

static int key_change_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    BakRepositoryKeyKind kind;
    g_autofree char *key = new_key (args, &kind);
    if (!key)
        return STATUS_USAGE;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    if (bak_repository_change_key (repository, key, kind, &error) < 0)
        return fail (error);
    print (_("Changed\n"));
    return STATUS_DONE;
}

static const Option change_options[] = { KEY_URL_OPTION, KEY_OPTIONS, NEW_OPTIONS, { 0 } };

const Command cmd_repository_key_change = {
    .name = "repository-key-change",
    .group = "repository",
    .help = N_("Change the pass phrase of a repository"),
    .description = N_(
        "The slot that the given one opens is opened by the new one from then on; the others stay. "
        "No data is touched. The old one still opens a copy of libbackup-repository.json that "
        "somebody made before."),
    .flags = COMMAND_NO_JSON,
    .options = change_options,
    .run = key_change_run
};

/* remove */

static int key_remove_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    if (!repository)
        return status;
    if (bak_repository_remove_key (repository, args_size (args, "slot"), &error) < 0)
        return fail (error);
    print (_("Slot removed\n"));
    return STATUS_DONE;
}

static const Option remove_options[] = {
    { "slot", OPTION_NUMBER, OPTION_POSITIONAL | OPTION_REQUIRED, "SLOT",
      N_("its number, as repository-key-list has it"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_repository_key_remove = {
    .name = "repository-key-remove",
    .group = "repository",
    .help = N_("A pass phrase or key file no longer opens a repository"),
    .description = N_("The repository is opened by another one, which stays."),
    .flags = COMMAND_NO_JSON,
    .options = remove_options,
    .run = key_remove_run
};
