#include "baksh.h"

static JsonObject *finding_to_json (BakFinding *finding)
{
    JsonObject *object = json_new ();
    json_text (object, "kind", bak_finding_get_kind (finding));
    json_text (object, "disk", bak_finding_get_disk (finding));
    json_text (object, "bitmap", bak_finding_get_bitmap (finding));
    json_text (object, "meaning", bak_finding_get_meaning (finding));
    json_text (object, "repair", bak_finding_get_repair (finding));
    json_bool (object, "repaired", bak_finding_is_repaired (finding));
    return object;
}

static const char *or_dash (const char *text)
{
    return text ? text : "-";
}

static void print_findings (BakFinding **findings)
{
    Table *table = table_new (_("Kind"), _("Disk"), _("Bitmap"), _("Repaired"), NULL);
    for (guint i = 0; findings[i]; i++)
        table_row (table, or_dash (bak_finding_get_kind (findings[i])),
                   or_dash (bak_finding_get_disk (findings[i])),
                   or_dash (bak_finding_get_bitmap (findings[i])),
                   bak_finding_is_repaired (findings[i]) ? _("yes") : _("no"), NULL);
    table_print (table);
    for (guint i = 0; findings[i]; i++) {
        g_autofree char *bitmap = clean (or_dash (bak_finding_get_bitmap (findings[i]))),
                        *disk = clean (or_dash (bak_finding_get_disk (findings[i])));
        g_autofree char *meaning = clean (bak_finding_get_meaning (findings[i])),
                        *repair = clean (bak_finding_get_repair (findings[i]));
        print (" %s, %s: %s\n", disk, bitmap, meaning);
        if (*repair)
            print (_("   repair: %s\n"), repair);
    }
}

/* A bitmap of others is told, and is in order. */
static gboolean is_open (BakFinding *finding, const char *const *names)
{
    gboolean foreign = g_strcmp0 (bak_finding_get_kind (finding), "foreign") == 0;
    return !bak_finding_is_repaired (finding)
           && (!foreign || g_strv_contains (names, bak_finding_get_bitmap (finding)));
}

static gboolean is_found (BakFinding **findings, const char *bitmap)
{
    for (guint i = 0; findings[i]; i++)
        if (g_strcmp0 (bak_finding_get_bitmap (findings[i]), bitmap) == 0)
            return TRUE;
    return FALSE;
}

static int checkpoint_check_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    BakFinding **findings;
    const char *const *names = args_all (args, "bitmap");
    int n = bak_domain_checkpoint_check (
        args_domain (args), (const char **) names, g_strv_length ((char **) names), &findings,
        args_has (args, "repair") ? BAK_DOMAIN_CHECKPOINT_CHECK_REPAIR : 0, &error);
    if (n < 0)
        return fail (error);
    guint open = 0;
    JsonArray *array = json_array_new ();
    for (guint i = 0; findings[i]; i++) {
        open += is_open (findings[i], names);
        json_array_add_object_element (array, finding_to_json (findings[i]));
    }
    if (args_json (args)) {
        print_json (json_take_list ("findings", array));
    } else {
        json_array_unref (array);
        if (n)
            print_findings (findings);
        if (!open)
            print (_("Checkpoints and bitmaps agree\n"));
    }
    for (guint i = 0; names[i]; i++)
        if (!is_found (findings, names[i]))
            warn (_("bitmap '%s': there is none of that name, or it is that of a checkpoint and "
                     "in order"),
                  names[i]);
    LIST_FREE (findings, bak_finding_unref);
    return open ? STATUS_INEXACT : STATUS_DONE;
}

static const Option options[] = {
    { "repair", OPTION_FLAG, 0, NULL, N_("do what the findings say"), WANT_NOTHING },
    { "bitmap", OPTION_TEXT, OPTION_REPEATED, "NAME",
      N_("a bitmap that is not ours and that --repair may touch"), WANT_NOTHING },
    { 0 },
};

static const Rule rules[] = { { RULE_REQUIRES, "bitmap", "repair" }, { 0 } };

const Command cmd_checkpoint_check = {
    .name = "checkpoint-check",
    .group = "checkpoint",
    .help = N_("Compare what is recorded with the bitmaps that exist"),
    .description =
        N_("Exit status 4 when something is found and not repaired. Bitmaps of other programs "
            "(foreign) are shown, and are no reason for it."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = options,
    .rules = rules,
    .run = checkpoint_check_run
};
