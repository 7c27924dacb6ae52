/* Which <domainbackup> is it: today's, or the proposal of 2016? The same word (type='incremental',
 * type='file') means different things in them, so tokens decide before anything is checked, and
 * nothing is guessed from a mix. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "util/error.h"

static const char *const root_attrs_modern[] = { "mode", "fallback", "series", "instant", NULL };
static const char *const root_children_modern[] = { "incremental", "server", "limit", "guest",
                                                    NULL };
static const char *const root_children_2016[] = { "address", "branch", NULL };
static const char *const disk_attrs_modern[] = {
    "backup", "backupmode", "incremental", "exportname", "exportbitmap",
    "sync",   "fallback",   "granularity", NULL,
};
static const char *const disk_attrs_2016[] = { "present", NULL };
static const char *const disk_children_modern[] = { "target", "scratch", "driver",
                                                    "limit",  "backing", NULL };
static const char *const disk_children_2016[] = { "source", "bitmap", NULL };
static const char *const disk_types_2016[] = { "full", "incremental", NULL };

typedef struct {
    guint line; /* 0: not seen */
    char *text; /* "<address>", "mode='push'" */
} Token;

typedef struct {
    Token modern, old;
} Tokens;

static void take (Token *token, const xmlNode *node, char *text)
{
    if (token->text) {
        g_free (text);
        return;
    }
    token->line = xml_line (node);
    token->text = text;
}

static void take_children (const xmlNode *node, const char *const *names, Token *token)
{
    for (const xmlNode *child = xml_child (node, NULL); child; child = xml_next (child, NULL))
        if (g_strv_contains (names, (const char *) child->name))
            take (token, child, g_strdup_printf ("<%s>", (const char *) child->name));
}

static void take_attr (const xmlNode *node, const char *name, Token *token)
{
    g_autofree char *value = xml_get (node, name);
    g_autofree char *shown = text_sanitize (value, 64);

    if (value)
        take (token, node, g_strdup_printf ("%s='%s'", name, shown));
}

static void take_attrs (const xmlNode *node, const char *const *names, Token *token)
{
    for (; *names; names++)
        take_attr (node, *names, token);
}

static void take_type (const xmlNode *disk, Tokens *tokens)
{
    g_autofree char *type = xml_get (disk, "type");

    if (type && g_strv_contains (disk_types_2016, type))
        take_attr (disk, "type", &tokens->old);
    else if (type && g_strv_contains (words_type, type))
        take_attr (disk, "type", &tokens->modern);
}

static void take_disk (const xmlNode *disk, Tokens *tokens)
{
    take_attrs (disk, disk_attrs_modern, &tokens->modern);
    take_attrs (disk, disk_attrs_2016, &tokens->old);
    take_type (disk, tokens);
    take_children (disk, disk_children_modern, &tokens->modern);
    take_children (disk, disk_children_2016, &tokens->old);
}

gboolean backup_choose_dialect (const xmlNode *root, BackupDialect *ret_dialect, GError **error)
{
    Tokens tokens = { 0 };

    take_attrs (root, root_attrs_modern, &tokens.modern);
    take_children (root, root_children_modern, &tokens.modern);
    take_children (root, root_children_2016, &tokens.old);
    for (const xmlNode *disks = xml_child (root, "disks"); disks; disks = xml_next (disks, "disks"))
        for (const xmlNode *disk = xml_child (disks, "disk"); disk; disk = xml_next (disk, "disk"))
            take_disk (disk, &tokens);

    gboolean mixed = tokens.modern.text && tokens.old.text;
    if (mixed)
        error_set (error, BAK_ERROR_XML,
                   _("line %u: %s is of today's form of <domainbackup>, but %s in line %u is of "
                      "the form of 2016; expected one form only"),
                   tokens.modern.line, tokens.modern.text, tokens.old.text, tokens.old.line);
    else
        *ret_dialect = tokens.old.text ? DIALECT_2016 : DIALECT_MODERN;
    g_free (tokens.modern.text);
    g_free (tokens.old.text);
    return !mixed;
}
