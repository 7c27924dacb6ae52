#include <string.h>
#include "baksh.h"

static int create (const Args *args, const char *xml, guint flags, const char *file)
{
    BakError *error = NULL;
    g_autoptr (BakCheckpoint) checkpoint =
        bak_domain_checkpoint_create_xml (args_domain (args), xml, flags, &error);
    if (!checkpoint)
        return fail (error);
    const char *note = bak_domain_checkpoint_get_note (checkpoint);
    if (note)
        tell ("%s", note);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "name", bak_domain_checkpoint_get_name (checkpoint));
        json_text (object, "note", note);
        print_json (json_take_object (object));
        return STATUS_DONE;
    }
    g_autofree char *name = clean (bak_domain_checkpoint_get_name (checkpoint)),
                    *from = clean (file);
    if (file)
        print (_("Domain checkpoint %s created from '%s'\n"), name, from);
    else
        print (_("Domain checkpoint %s created\n"), name);
    return STATUS_DONE;
}

static int create_from_file (const Args *args, const char *file, guint flags)
{
    g_autofree char *xml = NULL;
    const char *why = file ? read_file (file, &xml) : NULL;
    if (why)
        return fail_with (STATUS_FAILED, _("Failed to open file '%s': %s"), file, why);
    return create (args, xml ? xml : "<domaincheckpoint/>", flags, file);
}

static int create_run (Shell *shell, const Args *args)
{
    guint flags =
        (args_has (args, "redefine") ? BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE : 0)
        | (args_has (args, "redefine-validate") ? BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
                                                : 0)
        | (args_has (args, "quiesce") ? BAK_DOMAIN_CHECKPOINT_CREATE_QUIESCE : 0);
    return create_from_file (args, args_text (args, "xmlfile"), flags);
}

static const Option create_options[] = {
    { "xmlfile", OPTION_TEXT, OPTION_POSITIONAL, "XMLFILE",
      N_("file with <domaincheckpoint>; default: all disks, named by the time"), WANT_FILE },
    { "redefine", OPTION_FLAG, 0, NULL, N_("make known again a checkpoint that exists"),
      WANT_NOTHING },
    { "redefine-validate", OPTION_FLAG, 0, NULL, N_("and check its bitmaps"), WANT_NOTHING },
    { "quiesce", OPTION_FLAG, 0, NULL, N_("freeze the guest's file systems around it"),
      WANT_NOTHING },
    { 0 },
};

static const Rule create_rules[] = { { RULE_REQUIRES, "redefine-validate", "redefine" },
                                     { RULE_EXCLUSIVE, "redefine", "quiesce" },
                                     { 0 } };

const Command cmd_checkpoint_create = { .name = "checkpoint-create",
                                        .group = "checkpoint",
                                        .help = N_("Create a checkpoint from XML"),
                                        .flags = COMMAND_NEEDS_DOMAIN,
                                        .options = create_options,
                                        .rules = create_rules,
                                        .run = create_run };

static int redefine_run (Shell *shell, const Args *args)
{
    return create_from_file (
        args, args_text (args, "xmlfile"),
        BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE
            | (args_has (args, "validate") ? BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE : 0));
}

static const Option redefine_options[] = {
    { "xmlfile", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "XMLFILE",
      N_("what checkpoint-dumpxml printed"), WANT_FILE },
    { "validate", OPTION_FLAG, 0, NULL, N_("check its bitmaps"), WANT_NOTHING },
    { 0 },
};

const Command cmd_checkpoint_redefine = { .name = "checkpoint-redefine",
                                          .group = "checkpoint",
                                          .help = N_("Make known again a checkpoint that exists"),
                                          .description = N_("Parents come before their children."),
                                          .flags = COMMAND_NEEDS_DOMAIN,
                                          .options = redefine_options,
                                          .run = redefine_run };

/* checkpoint-create-as */

/* disk[,checkpoint=TYPE][,bitmap=NAME]; ,, is a comma. FALSE: it is none of that. */
static gboolean append_diskspec (GString *xml, const char *spec, gboolean memory)
{
    g_autoptr (GPtrArray) parts = g_ptr_array_new_with_free_func (g_free);
    GString *part = g_string_new (NULL);
    for (const char *p = spec; *p; p++)
        if (*p == ',' && p[1] != ',') {
            g_ptr_array_add (parts, g_string_free (part, FALSE));
            part = g_string_new (NULL);
        } else {
            g_string_append_c (part, *p);
            p += *p == ',';
        }
    g_ptr_array_add (parts, g_string_free (part, FALSE));

    const char *name = parts->pdata[0], *checkpoint = NULL, *bitmap = NULL;
    for (guint i = 1; i < parts->len; i++) {
        const char *text = parts->pdata[i];
        if (!checkpoint && g_str_has_prefix (text, "checkpoint="))
            checkpoint = text + strlen ("checkpoint=");
        else if (!bitmap && g_str_has_prefix (text, "bitmap="))
            bitmap = text + strlen ("bitmap=");
        else
            return FALSE;
    }
    if (!*name)
        return FALSE;
    g_autofree char *head = g_markup_printf_escaped ("    <disk name='%s'", name);
    g_autofree char *type =
        checkpoint ? g_markup_printf_escaped (" checkpoint='%s'", checkpoint) : g_strdup ("");
    g_autofree char *map =
        bitmap ? g_markup_printf_escaped (" bitmap='%s'", bitmap) : g_strdup ("");
    g_string_append_printf (xml, "%s%s%s%s/>\n", head, type, map,
                            memory && g_strcmp0 (checkpoint, "no") != 0 ? " persistent='no'" : "");
    return TRUE;
}

/* A bitmap that lives in memory only must be asked for disk by disk. */
static char **all_disks (const Args *args, int *ret_status)
{
    char **disks = request_selected_disks (args_domain (args), ret_status);
    for (guint i = 0; disks && disks[i]; i++) {
        g_auto (GStrv) parts = g_strsplit (disks[i], ",", -1);
        g_free (disks[i]);
        disks[i] = g_strjoinv (",,", parts);
    }
    return disks;
}

static char *create_as_xml (const Args *args, int *ret_status)
{
    g_autoptr (GString) xml = g_string_new ("<domaincheckpoint>\n");
    const char *const *specs = args_all (args, "diskspec");
    g_auto (GStrv) all =
        !*specs && args_has (args, "memory-bitmap") ? all_disks (args, ret_status) : NULL;
    if (*ret_status != STATUS_DONE)
        return NULL;
    if (all)
        specs = (const char *const *) all;
    const struct {
        const char *element, *text;
    } children[] = { { "name", args_text (args, "name") },
                     { "description", args_text (args, "description") } };
    for (guint i = 0; i < G_N_ELEMENTS (children); i++)
        if (children[i].text) {
            g_autofree char *line = g_markup_printf_escaped ("  <%s>%s</%s>\n", children[i].element,
                                                             children[i].text, children[i].element);
            g_string_append (xml, line);
        }
    if (*specs)
        g_string_append (xml, "  <disks>\n");
    for (guint i = 0; specs[i]; i++)
        if (!append_diskspec (xml, specs[i], args_has (args, "memory-bitmap"))) {
            *ret_status = usage (_("unable to parse diskspec: %s"), specs[i]);
            return NULL;
        }
    if (*specs)
        g_string_append (xml, "  </disks>\n");
    g_string_append (xml, "</domaincheckpoint>\n");
    return g_string_free (g_steal_pointer (&xml), FALSE);
}

static int create_as_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    g_autofree char *xml = create_as_xml (args, &status);
    if (!xml)
        return status;
    if (args_has (args, "print-xml")) {
        if (args_json (args))
            print_json (json_one ("xml", xml));
        else
            print_document (xml);
        return STATUS_DONE;
    }
    return create (args, xml, args_has (args, "quiesce") ? BAK_DOMAIN_CHECKPOINT_CREATE_QUIESCE : 0,
                   NULL);
}

static const Option create_as_options[] = {
    { "name", OPTION_NAME, OPTION_POSITIONAL, "NAME",
      N_("name of the checkpoint; default: the time in seconds"), WANT_NOTHING },
    { "description", OPTION_TEXT, OPTION_POSITIONAL, "DESCRIPTION",
      N_("description of the checkpoint"), WANT_NOTHING },
    { "print-xml", OPTION_FLAG, 0, NULL, N_("print the document and create nothing"),
      WANT_NOTHING },
    { "quiesce", OPTION_FLAG, 0, NULL, N_("freeze the guest's file systems around it"),
      WANT_NOTHING },
    { "diskspec", OPTION_TEXT, OPTION_REPEATED, "DISK[,checkpoint=TYPE][,bitmap=NAME]",
      N_("a disk of the checkpoint; default: all"), WANT_DISK },
    { "memory-bitmap", OPTION_FLAG, 0, NULL,
      N_("bitmaps that die with the QEMU process; for disks that are not qcow2"), WANT_NOTHING },
    { 0 },
};

const Command cmd_checkpoint_create_as = { .name = "checkpoint-create-as",
                                           .group = "checkpoint",
                                           .help = N_("Create a checkpoint from a set of args"),
                                           .flags = COMMAND_NEEDS_DOMAIN,
                                           .options = create_as_options,
                                           .run = create_as_run };
