#include "baksh.h"

static void print_table (BakGuestProcess **list)
{
    Table *table = table_new (_("PID"), _("Name"), _("QEMU"), _("Attached as"), _("Monitor"),
                              _("Note"), NULL);
    for (guint i = 0; list[i]; i++) {
        const char *name = bak_guest_process_get_name (list[i]),
                   *version = bak_guest_process_get_qemu_version (list[i]);
        const char *attached = bak_guest_process_get_attached_as (list[i]),
                   *qmp = bak_guest_process_get_qmp (list[i]);
        const char *note = bak_guest_process_get_note (list[i]);
        g_autofree char *pid = g_strdup_printf ("%lld", bak_guest_process_get_pid (list[i]));
        table_row (table, pid, name ? name : "-", version ? version : "-",
                   attached ? attached : "-", qmp ? qmp : "-", note ? note : "", NULL);
    }
    table_print (table);
}

static void print_as_json (BakGuestProcess **list)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; list[i]; i++) {
        JsonObject *object = json_new ();
        json_int (object, "pid", bak_guest_process_get_pid (list[i]));
        json_text (object, "name", bak_guest_process_get_name (list[i]));
        json_text (object, "uuid", bak_guest_process_get_uuid (list[i]));
        json_text (object, "qmp", bak_guest_process_get_qmp (list[i]));
        json_text (object, "qemu_version", bak_guest_process_get_qemu_version (list[i]));
        json_text (object, "attached_as", bak_guest_process_get_attached_as (list[i]));
        json_text (object, "note", bak_guest_process_get_note (list[i]));
        json_array_add_object_element (array, object);
    }
    print_json (json_take_list ("processes", array));
}

static int discover_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakGuestProcess **list;
    if (bak_connection_discover (shell->conn, &list, 0, &error) < 0)
        return fail (error);
    if (args_json (args))
        print_as_json (list);
    else
        print_table (list);
    LIST_FREE (list, bak_guest_process_unref);
    return STATUS_DONE;
}

const Command cmd_discover = { .name = "discover",
                               .group = "host",
                               .help = N_("Find running QEMUs that have a QMP socket"),
                               .flags = COMMAND_NEEDS_CONNECTION,
                               .run = discover_run };
