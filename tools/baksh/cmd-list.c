#include "baksh.h"
#include "domain.h"

static guint wanted (const Args *args)
{
    guint flags = args_has (args, "all")        ? 0
                  : args_has (args, "inactive") ? BAK_CONNECT_LIST_DOMAINS_INACTIVE
                                                : BAK_CONNECT_LIST_DOMAINS_ACTIVE;
    if (args_has (args, "with-checkpoint"))
        flags |= BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT;
    if (args_has (args, "without-checkpoint"))
        flags |= BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT;
    return flags;
}

static void print_names (BakDomain **list, gboolean names, gboolean uuids)
{
    for (guint i = 0; list[i]; i++) {
        g_autofree char *name = clean (bak_domain_get_name (list[i]));
        if (names && uuids)
            print ("%-36s %s\n", bak_domain_get_uuid_string (list[i]), name);
        else
            print ("%s\n", names ? name : bak_domain_get_uuid_string (list[i]));
    }
}

static void print_table (BakDomain **list)
{
    Table *table = table_new (_("Id"), _("Name"), _("State"), NULL);
    for (guint i = 0; list[i]; i++) {
        g_autofree char *id = bak_domain_get_id (list[i]) < 0
                                  ? g_strdup ("-")
                                  : g_strdup_printf ("%d", bak_domain_get_id (list[i]));
        table_row (table, id, bak_domain_get_name (list[i]),
                   state_name (bak_domain_get_last_state (list[i])), NULL);
    }
    table_print (table);
}

static void print_as_json (BakDomain **list)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; list[i]; i++)
        json_array_add_object_element (
            array, domain_to_json (list[i], bak_domain_get_last_state (list[i])));
    print_json (json_take_list ("domains", array));
}

static int list_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakDomain **list;
    if (bak_connection_list_all_domains (shell->conn, &list, wanted (args), &error) < 0)
        return fail (error);
    if (args_json (args))
        print_as_json (list);
    else if (args_has (args, "name") || args_has (args, "uuid"))
        print_names (list, args_has (args, "name"), args_has (args, "uuid"));
    else
        print_table (list);
    LIST_FREE (list, bak_domain_unref);
    return STATUS_DONE;
}

static const Option options[] = {
    { "inactive", OPTION_FLAG, 0, NULL, N_("list inactive guests"), WANT_NOTHING },
    { "all", OPTION_FLAG, 0, NULL, N_("list inactive and active guests"), WANT_NOTHING },
    { "with-checkpoint", OPTION_FLAG, 0, NULL, N_("list guests with a checkpoint"), WANT_NOTHING },
    { "without-checkpoint", OPTION_FLAG, 0, NULL, N_("list guests without a checkpoint"),
      WANT_NOTHING },
    { "uuid", OPTION_FLAG, 0, NULL, N_("list UUIDs only"), WANT_NOTHING },
    { "name", OPTION_FLAG, 0, NULL, N_("list names only"), WANT_NOTHING },
    { 0 },
};

const Command cmd_list = { .name = "list",
                           .group = "host",
                           .help = N_("List attached guests"),
                           .flags = COMMAND_NEEDS_CONNECTION,
                           .options = options,
                           .run = list_run };
