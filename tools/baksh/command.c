/* From words to a command that runs: finds the row, parses the options it lists, checks its rules,
 * opens what it needs. */
#include <stdio.h>
#include <string.h>
#include "baksh.h"

struct _Args {
    const Command *command;
    GHashTable *values; /* option name -> GPtrArray of char*, NULL-terminated */
    BakDomain *domain;
};

static const Option option_domain = { "domain",
                                      OPTION_TEXT,
                                      OPTION_POSITIONAL | OPTION_REQUIRED,
                                      "DOMAIN",
                                      N_("name, id or UUID of the guest"),
                                      WANT_DOMAIN };
static const Option option_json = {
    "json", OPTION_FLAG, 0, NULL, N_("print one JSON document"), WANT_NOTHING
};
static const Option option_help = { "help",      OPTION_FLAG, 0, NULL, N_("print this help"),
                                    WANT_NOTHING };

static gboolean needs_domain (const Command *command)
{
    return (command->flags & COMMAND_NEEDS_DOMAIN) == COMMAND_NEEDS_DOMAIN;
}

const Option *command_option_at (const Command *command, guint i)
{
    guint own = 0;
    while (command->options && command->options[own].name)
        own++;
    if (needs_domain (command) && i-- == 0)
        return &option_domain;
    if (i < own)
        return &command->options[i];
    i -= own;
    if (!(command->flags & COMMAND_NO_JSON) && i-- == 0)
        return &option_json;
    return i == 0 ? &option_help : NULL;
}

const Option *command_option (const Command *command, const char *name)
{
    const Option *option;
    for (guint i = 0; (option = command_option_at (command, i)); i++)
        if (g_str_equal (option->name, name))
            return option;
    return NULL;
}

const Command *command_find (const char *name)
{
    for (guint i = 0; commands[i]; i++)
        if (g_str_equal (commands[i]->name, name))
            return commands[i];
    return NULL;
}

/* suggestions */

/* Levenshtein's distance with transpositions, capped by the length of the words we have. */
static guint distance (const char *a, const char *b)
{
    enum { MAX_LENGTH = 40 };
    guint d[MAX_LENGTH + 1][MAX_LENGTH + 1], n = strlen (a), m = strlen (b);
    if (n > MAX_LENGTH || m > MAX_LENGTH)
        return G_MAXUINT;
    for (guint i = 0; i <= n; i++)
        for (guint j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            guint best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN (best, MIN (d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN (best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    return d[n][m];
}

const char *nearest (const char *word, const char *const *words)
{
    const char *best = NULL;
    guint best_distance = MAX (2, strlen (word) / 3) + 1;
    for (guint i = 0; words[i]; i++) {
        guint there = distance (word, words[i]);
        if (there < best_distance) {
            best = words[i];
            best_distance = there;
        }
    }
    return best;
}

static int unknown_command (const char *name)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    for (guint i = 0; commands[i]; i++)
        g_ptr_array_add (names, (char *) commands[i]->name);
    g_ptr_array_add (names, NULL);
    const char *near = nearest (name, (const char *const *) names->pdata);
    if (near)
        return usage (_("unknown command: '%s'; did you mean '%s'?"), name, near);
    return usage (_("unknown command: '%s'; 'help' lists the commands"), name);
}

static int unknown_option (const Command *command, const char *name)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    const Option *option;
    for (guint i = 0; (option = command_option_at (command, i)); i++)
        g_ptr_array_add (names, (char *) option->name);
    g_ptr_array_add (names, NULL);
    const char *near = nearest (name, (const char *const *) names->pdata);
    if (near)
        return usage (_("command '%s' doesn't support option --%s; did you mean --%s?"),
                      command->name, name, near);
    return usage (_("command '%s' doesn't support option --%s"), command->name, name);
}

/* parsing */

static int choice_check (const Option *option, const char *value)
{
    g_auto (GStrv) words = g_strsplit (option->argument, "|", -1);
    if (g_strv_contains ((const char *const *) words, value))
        return STATUS_DONE;
    return usage (_("option --%s: '%s' is none of %s"), option->name, value, option->argument);
}

static int value_check (const Option *option, const char *value)
{
    guint64 number;
    switch (option->kind) {
    case OPTION_NUMBER:
        if (!g_ascii_string_to_unsigned (value, 10, 0, G_MAXINT64, &number, NULL))
            return usage (_("option --%s: '%s' is not a number"), option->name, value);
        return STATUS_DONE;
    case OPTION_SIZE:
        if (!size_parse (value, &number))
            return usage (_("option --%s: '%s' is not a size; expected bytes with an optional "
                             "unit, as 512, 64K, 10MiB"),
                          option->name, value);
        return STATUS_DONE;
    case OPTION_SECONDS:
        if (!seconds_parse (value, &number))
            return usage (_("option --%s: '%s' is not a duration; expected seconds, or a number "
                             "with s, m, h, d or w, "
                             "as 90, 30m, 26h, 14d"),
                          option->name, value);
        return STATUS_DONE;
    case OPTION_CHOICE: return choice_check (option, value);
    case OPTION_NAME:
        if (!name_is_possible (value))
            return usage (_("option --%s: '%s' is not a name for a checkpoint; expected letters, "
                             "digits, '_', '-', and '.' except in front, at most 200 of them, not "
                             "'bak-' in front"),
                          option->name, value);
        return STATUS_DONE;
    default: return STATUS_DONE;
    }
}

static int value_add (Args *args, const Option *option, const char *value)
{
    GPtrArray *values = g_hash_table_lookup (args->values, option->name);
    if (values && !(option->flags & OPTION_REPEATED) && option->kind != OPTION_FLAG)
        return usage (_("option --%s was given already"), option->name);
    if (!g_utf8_validate (value, -1, NULL))
        return usage (_("option --%s: the value is not UTF-8"), option->name);
    int status = value_check (option, value);
    if (status != STATUS_DONE)
        return status;
    if (!values) {
        values = g_ptr_array_new_with_free_func (g_free);
        g_ptr_array_add (values, NULL);
        g_hash_table_insert (args->values, (char *) option->name, values);
    }
    g_ptr_array_insert (values, values->len - 1, g_strdup (value));
    return STATUS_DONE;
}

/* The next option that may be given without its name and has no value yet. */
static const Option *next_positional (const Args *args)
{
    const Option *option;
    for (guint i = 0; (option = command_option_at (args->command, i)); i++)
        if (option->flags & OPTION_POSITIONAL
            && (option->flags & OPTION_REPEATED
                || !g_hash_table_contains (args->values, option->name)))
            return option;
    return NULL;
}

/* "--name", "--name=value", "--name value"; advances *word past a value of its own. */
static int named_add (Args *args, char ***word)
{
    const char *text = **word + 2;
    const char *equals = strchr (text, '=');
    g_autofree char *name = equals ? g_strndup (text, equals - text) : g_strdup (text);
    const Option *option = command_option (args->command, name);

    if (!option)
        return unknown_option (args->command, name);
    if (option->kind == OPTION_FLAG && equals)
        return usage (_("option --%s takes no value"), name);
    if (option->kind == OPTION_FLAG)
        return value_add (args, option, "");
    if (!equals && !(*word)[1])
        return usage (_("option --%s expects a value: --%s %s"), name, name, option->argument);
    return value_add (args, option, equals ? equals + 1 : *++*word);
}

static int words_parse (Args *args, char **words)
{
    gboolean names = TRUE;
    for (char **word = words; *word; word++) {
        int status;
        if (names && g_str_equal (*word, "--")) {
            names = FALSE;
            continue;
        }
        if (names && g_str_has_prefix (*word, "--")) {
            status = named_add (args, &word);
        } else if (names && (*word)[0] == '-' && (*word)[1] && !g_ascii_isdigit ((*word)[1])) {
            status = g_str_equal (*word, "-h") ? value_add (args, &option_help, "")
                                               : unknown_option (args->command, *word + 1);
        } else {
            const Option *option = next_positional (args);
            status = option ? value_add (args, option, *word)
                            : usage (_("unexpected data '%s'"), *word);
        }
        if (status != STATUS_DONE)
            return status;
    }
    return STATUS_DONE;
}

static int required_check (const Args *args)
{
    const Option *option;
    for (guint i = 0; (option = command_option_at (args->command, i)); i++)
        if (option->flags & OPTION_REQUIRED && !args_has (args, option->name))
            return usage (option->flags & OPTION_POSITIONAL
                              ? _("command '%s' requires <%s> option")
                              : _("command '%s' requires --%s option"),
                          args->command->name, option->name);
    for (const Rule *rule = args->command->rules; rule && rule->kind; rule++) {
        gboolean first = args_has (args, rule->first), second = args_has (args, rule->second);
        if (rule->kind == RULE_EXCLUSIVE && first && second)
            return usage (_("Options --%s and --%s are mutually exclusive"), rule->first,
                          rule->second);
        if (rule->kind == RULE_REQUIRES && first && !second)
            return usage (_("Option --%s is required by option --%s"), rule->second, rule->first);
    }
    return STATUS_DONE;
}

/* what commands ask */

const Command *args_command (const Args *args)
{
    return args->command;
}

gboolean args_has (const Args *args, const char *name)
{
    g_assert (command_option (args->command, name));
    return g_hash_table_contains (args->values, name);
}

const char *const *args_all (const Args *args, const char *name)
{
    static const char *const none[] = { NULL };
    GPtrArray *values = args_has (args, name) ? g_hash_table_lookup (args->values, name) : NULL;
    return values ? (const char *const *) values->pdata : none;
}

const char *args_text (const Args *args, const char *name)
{
    return *args_all (args, name);
}

guint64 args_size (const Args *args, const char *name)
{
    guint64 value = 0;
    if (args_has (args, name))
        size_parse (args_text (args, name), &value);
    return value;
}

guint64 args_microseconds (const Args *args, const char *name)
{
    guint64 value = 0;
    if (args_has (args, name))
        seconds_parse (args_text (args, name), &value);
    return value;
}

gboolean args_json (const Args *args)
{
    return args_has (args, "json");
}

BakDomain *args_domain (const Args *args)
{
    return args->domain;
}

BakCheckpoint *args_checkpoint (const Args *args, const char *name, int *ret_status)
{
    BakError *error = NULL;
    BakCheckpoint *checkpoint =
        bak_domain_checkpoint_lookup_by_name (args->domain, args_text (args, name), 0, &error);
    if (!checkpoint)
        *ret_status = fail (error);
    return checkpoint;
}

/* running */

static int prepare_and_run (Shell *shell, Args *args, char **words)
{
    const Command *command = args->command;
    int status = words_parse (args, words);
    if (status != STATUS_DONE)
        return status;
    if (args_has (args, "help")) {
        help_command (command);
        return STATUS_DONE;
    }
    status = required_check (args);
    if (status != STATUS_DONE)
        return status;
    if (command->flags & COMMAND_NEEDS_CONNECTION && !shell_connect (shell, &status))
        return status;
    if (needs_domain (command)
        && !(args->domain = shell_domain (shell, args_text (args, "domain"), &status)))
        return status;
    return command->run (shell, args);
}

/* The option by which a program asks for its form; NULL: a person reads it. A command line that is
 * wrong is not parsed to its end. */
static const char *form_for_programs (const Args *args, char **words, int status)
{
    static const char *const forms[] = { "json", "json-lines" };
    for (guint i = 0; i < G_N_ELEMENTS (forms); i++) {
        g_autofree char *word = g_strconcat ("--", forms[i], NULL);
        if (command_option (args->command, forms[i])
            && (args_has (args, forms[i])
                || (status == STATUS_USAGE && g_strv_contains ((const char *const *) words, word))))
            return forms[i];
    }
    return NULL;
}

int command_run (Shell *shell, char **words)
{
    const Command *command = command_find (words[0]);
    if (!command)
        return unknown_command (words[0]);
    Args args = { command,
                  g_hash_table_new_full (g_str_hash, g_str_equal, NULL,
                                         (GDestroyNotify) g_ptr_array_unref),
                  NULL };
    shell->bare = FALSE;
    said_clear ();
    int status = prepare_and_run (shell, &args, words + 1);
    const char *form = form_for_programs (&args, words, status);
    if (form && !shell->bare)
        said_print_error (status, g_str_equal (form, "json-lines"));
    if (!form && !shell->quiet && !shell->bare && !shell->quit)
        print ("\n"); /* as virsh; part of the text form only */
    fflush (stdout);
    bak_domain_unref (args.domain);
    g_hash_table_unref (args.values);
    return status;
}
