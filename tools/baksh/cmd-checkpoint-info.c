#include <stdlib.h>
#include <string.h>
#include "baksh.h"

static const Option name_options[] = {
    { "checkpointname", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "CHECKPOINT",
      N_("name of the checkpoint"), WANT_CHECKPOINT },
    { 0 },
};

static int info_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) checkpoint = args_checkpoint (args, "checkpointname", &status);
    if (!checkpoint)
        return status;
    int children = bak_domain_checkpoint_list_all_children (checkpoint, NULL, 0, &error);
    int descendants = children < 0
                          ? -1
                          : bak_domain_checkpoint_list_all_children (
                              checkpoint, NULL, BAK_DOMAIN_CHECKPOINT_LIST_DESCENDANTS, &error);
    if (descendants < 0)
        return fail (error);
    const char *parent = bak_domain_checkpoint_get_parent_name (checkpoint);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "name", bak_domain_checkpoint_get_name (checkpoint));
        json_text (object, "domain", bak_domain_get_name (args_domain (args)));
        json_text (object, "parent", parent);
        json_time (object, "created", bak_domain_checkpoint_get_created (checkpoint));
        json_int (object, "children", children);
        json_int (object, "descendants", descendants);
        json_text (object, "note", bak_domain_checkpoint_get_note (checkpoint));
        print_json (json_take_object (object));
        return STATUS_DONE;
    }
    print_label (_("Name:"), bak_domain_checkpoint_get_name (checkpoint));
    print_label (_("Domain:"), bak_domain_get_name (args_domain (args)));
    print_label (_("Parent:"), parent ? parent : "-");
    print_label_format (_("Children:"), "%d", children);
    print_label_format (_("Descendants:"), "%d", descendants);
    print_label (_("Note:"), bak_domain_checkpoint_get_note (checkpoint));
    return STATUS_DONE;
}

const Command cmd_checkpoint_info = { .name = "checkpoint-info",
                                      .group = "checkpoint",
                                      .help = N_("Information about a checkpoint"),
                                      .flags = COMMAND_NEEDS_DOMAIN,
                                      .options = name_options,
                                      .run = info_run };

static int parent_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) checkpoint = args_checkpoint (args, "checkpointname", &status);
    if (!checkpoint)
        return status;
    const char *parent = bak_domain_checkpoint_get_parent_name (checkpoint);
    if (!parent)
        return fail_with (STATUS_FAILED, _("checkpoint '%s' has no parent"),
                          bak_domain_checkpoint_get_name (checkpoint));
    g_autofree char *shown = clean (parent);
    if (args_json (args))
        print_json (json_one ("parent", parent));
    else
        print ("%s\n", shown);
    return STATUS_DONE;
}

const Command cmd_checkpoint_parent = { .name = "checkpoint-parent",
                                        .group = "checkpoint",
                                        .help = N_("Get the name of the parent of a checkpoint"),
                                        .flags = COMMAND_NEEDS_DOMAIN,
                                        .options = name_options,
                                        .run = parent_run };

static int dumpxml_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) checkpoint = args_checkpoint (args, "checkpointname", &status);
    if (!checkpoint)
        return status;
    guint flags = (args_has (args, "security-info") ? BAK_DOMAIN_CHECKPOINT_XML_SECURE : 0)
                  | (args_has (args, "no-domain") ? BAK_DOMAIN_CHECKPOINT_XML_NO_DOMAIN : 0)
                  | (args_has (args, "size") ? BAK_DOMAIN_CHECKPOINT_XML_SIZE : 0);
    char *xml = bak_domain_checkpoint_get_xml_desc (checkpoint, flags, &error);
    return xml ? print_xml (args, xml) : fail (error);
}

static const Option dumpxml_options[] = {
    { "checkpointname", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "CHECKPOINT",
      N_("name of the checkpoint"), WANT_CHECKPOINT },
    { "security-info", OPTION_FLAG, 0, NULL, N_("include security sensitive information"),
      WANT_NOTHING },
    { "no-domain", OPTION_FLAG, 0, NULL, N_("leave <domain> out"), WANT_NOTHING },
    { "size", OPTION_FLAG, 0, NULL, N_("add the bytes that are dirty since, disk by disk"),
      WANT_NOTHING },
    XPATH_OPTIONS,
    { 0 },
};
static const Rule dumpxml_rules[] = { { RULE_REQUIRES, "wrap", "xpath" }, { 0 } };

const Command cmd_checkpoint_dumpxml = { .name = "checkpoint-dumpxml",
                                         .group = "checkpoint",
                                         .help = N_("A checkpoint as XML"),
                                         .flags = COMMAND_NEEDS_DOMAIN,
                                         .options = dumpxml_options,
                                         .rules = dumpxml_rules,
                                         .run = dumpxml_run };

static int delete_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) checkpoint = args_checkpoint (args, "checkpointname", &status);
    if (!checkpoint)
        return status;
    gboolean children_only = args_has (args, "children-only");
    guint flags = (args_has (args, "children") ? BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN : 0)
                  | (children_only ? BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY : 0)
                  | (args_has (args, "metadata") ? BAK_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY : 0);
    if (bak_domain_checkpoint_delete (checkpoint, flags, &error) < 0)
        return fail (error);
    g_autofree char *name = clean (bak_domain_checkpoint_get_name (checkpoint));
    if (args_json (args))
        print_json (json_one ("deleted", name));
    else if (children_only)
        print (_("Domain checkpoint %s children deleted\n"), name);
    else
        print (_("Domain checkpoint %s deleted\n"), name);
    return STATUS_DONE;
}

static const Option delete_options[] = {
    { "checkpointname", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "CHECKPOINT",
      N_("name of the checkpoint"), WANT_CHECKPOINT },
    { "children", OPTION_FLAG, 0, NULL, N_("delete checkpoint and all children"), WANT_NOTHING },
    { "children-only", OPTION_FLAG, 0, NULL, N_("delete children but not checkpoint"),
      WANT_NOTHING },
    { "metadata", OPTION_FLAG, 0, NULL, N_("delete only what is recorded, leaving the bitmaps"),
      WANT_NOTHING },
    { 0 },
};
static const Rule delete_rules[] = { { RULE_EXCLUSIVE, "children", "children-only" }, { 0 } };

const Command cmd_checkpoint_delete = { .name = "checkpoint-delete",
                                        .group = "checkpoint",
                                        .help = N_("Delete a checkpoint with its bitmaps"),
                                        .flags = COMMAND_NEEDS_DOMAIN,
                                        .options = delete_options,
                                        .rules = delete_rules,
                                        .run = delete_run };
