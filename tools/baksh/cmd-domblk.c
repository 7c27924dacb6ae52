#include "baksh.h"

static char *names_of (BakDisk *disk)
{
    GString *names = g_string_new (NULL);
    for (guint i = 0; i < bak_disk_get_n_names (disk); i++)
        g_string_append_printf (names, "%s%s", i ? ", " : "", bak_disk_get_name (disk, i));
    return g_string_free (names, FALSE);
}

static JsonObject *disk_to_json (BakDisk *disk)
{
    JsonObject *object = json_new ();
    JsonArray *names = json_array_new ();
    guint flags = bak_disk_get_flags (disk);
    json_text (object, "target", bak_disk_get_target (disk));
    for (guint i = 0; i < bak_disk_get_n_names (disk); i++)
        json_array_add_string_element (names, bak_disk_get_name (disk, i));
    json_object_set_array_member (object, "names", names);
    json_text (object, "node", bak_disk_get_node (disk));
    json_text (object, "source", bak_disk_get_source (disk));
    json_text (object, "type", bak_disk_get_type (disk));
    json_text (object, "device", bak_disk_get_device (disk));
    json_text (object, "format", bak_disk_get_format (disk));
    json_text (object, "bus", bak_disk_get_bus (disk));
    json_text (object, "iothread", bak_disk_get_iothread (disk));
    json_int (object, "capacity", bak_disk_get_capacity (disk));
    json_int (object, "allocation", bak_disk_get_allocation (disk));
    json_int (object, "physical", bak_disk_get_physical (disk));
    json_int (object, "depth", bak_disk_get_depth (disk));
    json_bool (object, "readonly", flags & BAK_DISK_READ_ONLY);
    json_bool (object, "empty", flags & BAK_DISK_EMPTY);
    json_bool (object, "removable", flags & BAK_DISK_REMOVABLE);
    json_bool (object, "selected", flags & BAK_DISK_SELECTED);
    json_text (object, "note", bak_disk_get_note (disk));
    return object;
}

static const char *or_dash (const char *text)
{
    return text ? text : "-";
}

static void print_disks (BakDisk **list, gboolean details)
{
    Table *table = details ? table_new (_("Type"), _("Device"), _("Target"), _("Source"),
                                        _("Names"), _("Note"), NULL)
                           : table_new (_("Target"), _("Source"), _("Names"), NULL);
    for (guint i = 0; list[i]; i++) {
        g_autofree char *names = names_of (list[i]);
        const char *target = bak_disk_get_target (list[i]),
                   *source = or_dash (bak_disk_get_source (list[i])),
                   *note = bak_disk_get_note (list[i]);
        if (details)
            table_row (table, or_dash (bak_disk_get_type (list[i])),
                       or_dash (bak_disk_get_device (list[i])), target, source, names,
                       note ? note : "", NULL);
        else
            table_row (table, target, source, names, NULL);
    }
    table_print (table);
}

static int domblklist_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakDisk **list;
    if (bak_domain_list_disks (args_domain (args), &list, 0, &error) < 0)
        return fail (error);
    if (args_json (args)) {
        JsonArray *array = json_array_new ();
        for (guint i = 0; list[i]; i++)
            json_array_add_object_element (array, disk_to_json (list[i]));
        print_json (json_take_list ("disks", array));
    } else {
        print_disks (list, args_has (args, "details"));
    }
    LIST_FREE (list, bak_disk_unref);
    return STATUS_DONE;
}

static const Option domblklist_options[] = {
    { "details", OPTION_FLAG, 0, NULL, N_("show type, device and notes too"), WANT_NOTHING },
    { 0 },
};

const Command cmd_domblklist = { .name = "domblklist",
                                 .group = "guest",
                                 .help =
                                     N_("List the disks of a guest and all names they answer to"),
                                 .flags = COMMAND_NEEDS_DOMAIN,
                                 .options = domblklist_options,
                                 .run = domblklist_run };

static char *amount (guint64 bytes, gboolean human)
{
    return human ? format_size (bytes) : g_strdup_printf ("%" G_GUINT64_FORMAT, bytes);
}

static void print_sizes (BakDisk *disk, gboolean human)
{
    g_autofree char *capacity = amount (bak_disk_get_capacity (disk), human);
    g_autofree char *allocation = amount (bak_disk_get_allocation (disk), human);
    g_autofree char *physical = amount (bak_disk_get_physical (disk), human);
    print_label (_("Capacity:"), capacity);
    print_label (_("Allocation:"), allocation);
    print_label (_("Physical:"), physical);
}

static int print_all_sizes (BakDomain *domain, gboolean human, gboolean json)
{
    BakError *error = NULL;
    BakDisk **list;
    if (bak_domain_list_disks (domain, &list, 0, &error) < 0)
        return fail (error);
    JsonArray *array = json_array_new ();
    Table *table = table_new (_("Target"), _("Capacity"), _("Allocation"), _("Physical"), NULL);
    for (guint i = 0; list[i]; i++) {
        g_autofree char *capacity = amount (bak_disk_get_capacity (list[i]), human);
        g_autofree char *allocation = amount (bak_disk_get_allocation (list[i]), human);
        g_autofree char *physical = amount (bak_disk_get_physical (list[i]), human);
        table_row (table, bak_disk_get_target (list[i]), capacity, allocation, physical, NULL);
        json_array_add_object_element (array, disk_to_json (list[i]));
    }
    if (json) {
        print_json (json_take_list ("disks", array));
        table_free (table);
    } else {
        json_array_unref (array);
        table_print (table);
    }
    LIST_FREE (list, bak_disk_unref);
    return STATUS_DONE;
}

static int domblkinfo_run (Shell *shell, const Args *args)
{
    if (args_has (args, "all"))
        return print_all_sizes (args_domain (args), args_has (args, "human"), args_json (args));
    if (!args_has (args, "device"))
        return usage (_("command '%s' requires <%s> option"), "domblkinfo", "device");
    if (args_has (args, "chain"))
        return print_chain (args_domain (args), args_text (args, "device"),
                            args_has (args, "human"), args_json (args));
    BakError *error = NULL;
    g_autoptr (BakDisk) disk =
        bak_domain_lookup_disk (args_domain (args), args_text (args, "device"), 0, &error);
    if (!disk)
        return fail (error);
    if (args_json (args))
        print_json (json_take_object (disk_to_json (disk)));
    else
        print_sizes (disk, args_has (args, "human"));
    return STATUS_DONE;
}

static const Option domblkinfo_options[] = {
    { "device", OPTION_TEXT, OPTION_POSITIONAL, "DISK", N_("any name of a disk"), WANT_DISK },
    { "human", OPTION_FLAG, 0, NULL, N_("sizes with units"), WANT_NOTHING },
    { "all", OPTION_FLAG, 0, NULL, N_("all disks"), WANT_NOTHING },
    { "chain", OPTION_FLAG, 0, NULL, N_("every image that the disk stands on, from the top down"),
      WANT_NOTHING },
    { 0 },
};

static const Rule domblkinfo_rules[] = { { RULE_EXCLUSIVE, "all", "device" },
                                         { RULE_EXCLUSIVE, "all", "chain" },
                                         { 0 } };

const Command cmd_domblkinfo = { .name = "domblkinfo",
                                 .group = "guest",
                                 .help = N_("Sizes of a disk, or its images one by one"),
                                 .flags = COMMAND_NEEDS_DOMAIN,
                                 .options = domblkinfo_options,
                                 .rules = domblkinfo_rules,
                                 .run = domblkinfo_run };
