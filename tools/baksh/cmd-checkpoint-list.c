#include <stdio.h>
#include <string.h>
#include "baksh.h"

static const char *name_of (BakCheckpoint *checkpoint)
{
    return bak_domain_checkpoint_get_name (checkpoint);
}

static const char *parent_of (BakCheckpoint *checkpoint)
{
    return bak_domain_checkpoint_get_parent_name (checkpoint);
}

static int compare_names (const void *a, const void *b)
{
    return strcmp (name_of (*(BakCheckpoint *const *) a), name_of (*(BakCheckpoint *const *) b));
}

static BakCheckpoint *find (BakCheckpoint **list, const char *name)
{
    for (guint i = 0; name && list[i]; i++)
        if (g_str_equal (name_of (list[i]), name))
            return list[i];
    return NULL;
}

/* virsh's tree, blank for blank */

static gint last_child (BakCheckpoint **list, const char *name)
{
    gint last = -1;
    for (guint i = 0; list[i]; i++)
        if (g_strcmp0 (parent_of (list[i]), name) == 0)
            last = i;
    return last;
}

static void print_tree (BakCheckpoint **list, gint index, gint last, gboolean root, GString *indent)
{
    const char *name = name_of (list[index]);
    gsize before = indent->len;
    gint last_of_ours = last_child (list, name);
    g_autofree char *shown = clean (name);

    print ("%s%s%s\n", indent->str, root ? "" : "+- ", shown);
    if (!root)
        g_string_append (indent, index == last ? "  " : "| ");
    if (last_of_ours >= 0)
        print ("%s  |\n", indent->str);
    g_string_append (indent, "  ");
    for (gint i = 0; i <= last_of_ours; i++)
        if (g_strcmp0 (parent_of (list[i]), name) == 0)
            print_tree (list, i, last_of_ours, FALSE, indent);
    g_string_truncate (indent, indent->len - 2);
    if (last_of_ours < 0 && index == last)
        print ("%s\n", indent->str);
    g_string_truncate (indent, before);
}

static void print_trees (BakCheckpoint **list)
{
    g_autoptr (GString) indent = g_string_new (NULL);
    for (gint i = 0; list[i]; i++)
        if (!find (list, parent_of (list[i])))
            print_tree (list, i, i, TRUE, indent);
}

static void print_names (BakCheckpoint **list)
{
    for (guint i = 0; list[i]; i++) {
        g_autofree char *name = clean (name_of (list[i]));
        print ("%s\n", name);
    }
}

static void print_table (BakCheckpoint **list, gboolean parents)
{
    Table *table = parents ? table_new (_("Name"), _("Creation Time"), _("Parent"), NULL)
                           : table_new (_("Name"), _("Creation Time"), NULL);
    for (guint i = 0; list[i]; i++) {
        g_autofree char *time = format_time (bak_domain_checkpoint_get_created (list[i]));
        if (parents)
            table_row (table, name_of (list[i]), time,
                       parent_of (list[i]) ? parent_of (list[i]) : "", NULL);
        else
            table_row (table, name_of (list[i]), time, NULL);
    }
    table_print (table);
}

static void print_as_json (BakCheckpoint **list)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; list[i]; i++) {
        JsonObject *object = json_new ();
        json_text (object, "name", name_of (list[i]));
        json_text (object, "parent", parent_of (list[i]));
        json_time (object, "created", bak_domain_checkpoint_get_created (list[i]));
        json_int (object, "children", bak_domain_checkpoint_get_n_children (list[i]));
        json_text (object, "note", bak_domain_checkpoint_get_note (list[i]));
        json_array_add_object_element (array, object);
    }
    print_json (json_take_list ("checkpoints", array));
}

static guint list_flags (const Args *args)
{
    const struct {
        const char *option;
        guint flag;
    } flags[] = {
        { "roots", BAK_DOMAIN_CHECKPOINT_LIST_ROOTS },
        { "descendants", BAK_DOMAIN_CHECKPOINT_LIST_DESCENDANTS },
        { "topological", BAK_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL },
        { "leaves", BAK_DOMAIN_CHECKPOINT_LIST_LEAVES },
        { "no-leaves", BAK_DOMAIN_CHECKPOINT_LIST_NO_LEAVES },
    };
    guint sum = 0;
    for (guint i = 0; i < G_N_ELEMENTS (flags); i++)
        sum |= args_has (args, flags[i].option) ? flags[i].flag : 0;
    return sum;
}

/* The start itself belongs into its tree. */
static void add_start (BakCheckpoint ***list, int n, BakCheckpoint *start)
{
    BakCheckpoint **longer = g_new0 (BakCheckpoint *, n + 2);
    longer[0] = bak_domain_checkpoint_ref (start);
    memcpy (longer + 1, *list, n * sizeof *longer);
    bak_free (*list);
    *list = longer;
}

static int checkpoint_list_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakCheckpoint **list;
    gboolean from = args_has (args, "from"), tree = args_has (args, "tree");
    guint flags = list_flags (args);
    if (tree && (args_has (args, "leaves") || args_has (args, "no-leaves")))
        return usage (_("--leaves and --tree are mutually exclusive"));
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) start = from ? args_checkpoint (args, "from", &status) : NULL;
    if (status != STATUS_DONE)
        return status;
    int n = from ? bak_domain_checkpoint_list_all_children (start, &list, flags, &error)
                 : bak_domain_list_all_checkpoints (args_domain (args), &list, flags, &error);
    if (n < 0)
        return fail (error);
    if (from && tree)
        add_start (&list, n, start);
    if (!args_has (args, "topological"))
        qsort (list, g_strv_length ((char **) list), sizeof *list, compare_names);
    if (args_json (args))
        print_as_json (list);
    else if (tree)
        print_trees (list);
    else if (args_has (args, "name"))
        print_names (list);
    else
        print_table (list, args_has (args, "parent"));
    LIST_FREE (list, bak_domain_checkpoint_unref);
    return STATUS_DONE;
}

static const Option options[] = {
    { "parent", OPTION_FLAG, 0, NULL, N_("add a column showing parent checkpoint"), WANT_NOTHING },
    { "roots", OPTION_FLAG, 0, NULL, N_("list only checkpoints without parents"), WANT_NOTHING },
    { "leaves", OPTION_FLAG, 0, NULL, N_("list only checkpoints without children"), WANT_NOTHING },
    { "no-leaves", OPTION_FLAG, 0, NULL,
      N_("list only checkpoints that are not leaves (with children)"), WANT_NOTHING },
    { "tree", OPTION_FLAG, 0, NULL, N_("list checkpoints in a tree"), WANT_NOTHING },
    { "from", OPTION_TEXT, 0, "CHECKPOINT", N_("limit list to children of given checkpoint"),
      WANT_CHECKPOINT },
    { "descendants", OPTION_FLAG, 0, NULL, N_("with --from, list all descendants"), WANT_NOTHING },
    { "name", OPTION_FLAG, 0, NULL, N_("list checkpoint names only"), WANT_NOTHING },
    { "topological", OPTION_FLAG, 0, NULL, N_("sort list topologically rather than by name"),
      WANT_NOTHING },
    { 0 },
};

static const Rule rules[] = {
    { RULE_EXCLUSIVE, "tree", "name" },       { RULE_EXCLUSIVE, "parent", "roots" },
    { RULE_EXCLUSIVE, "parent", "tree" },     { RULE_EXCLUSIVE, "roots", "tree" },
    { RULE_EXCLUSIVE, "roots", "from" },      { RULE_EXCLUSIVE, "leaves", "no-leaves" },
    { RULE_REQUIRES, "descendants", "from" }, { 0 },
};

const Command cmd_checkpoint_list = { .name = "checkpoint-list",
                                      .group = "checkpoint",
                                      .help = N_("List checkpoints of a guest"),
                                      .flags = COMMAND_NEEDS_DOMAIN,
                                      .options = options,
                                      .rules = rules,
                                      .run = checkpoint_list_run };
