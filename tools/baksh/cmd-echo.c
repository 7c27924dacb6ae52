#include <stdio.h>
#include "baksh.h"

/* As virsh has it: the words, quoted if asked, joined by single blanks. */
static int echo_run (Shell *shell, const Args *args)
{
    const char *const *words = args_all (args, "string");
    g_autoptr (GString) line = g_string_new (args_text (args, "prefix"));
    for (guint i = 0; words[i]; i++) {
        g_autofree char *xml =
            args_has (args, "xml") ? g_markup_escape_text (words[i], -1) : g_strdup (words[i]);
        g_autofree char *quoted = args_has (args, "shell") ? g_shell_quote (xml) : g_strdup (xml);
        g_string_append_printf (line, "%s%s", line->len ? " " : "", quoted);
    }
    g_autofree char *shown = clean_document (line->str);
    fflush (stdout);
    fprintf (args_has (args, "err") ? stderr : stdout, "%s\n", shown);
    return STATUS_DONE;
}

static const Option options[] = {
    { "shell", OPTION_FLAG, 0, NULL, N_("quote for a shell"), WANT_NOTHING },
    { "xml", OPTION_FLAG, 0, NULL, N_("escape for XML"), WANT_NOTHING },
    { "err", OPTION_FLAG, 0, NULL, N_("to standard error"), WANT_NOTHING },
    { "prefix", OPTION_TEXT, 0, "TEXT", N_("what comes before the words"), WANT_NOTHING },
    { "string", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REPEATED, "WORD", N_("what to print"),
      WANT_NOTHING },
    { 0 },
};

const Command cmd_echo = { .name = "echo",
                           .group = "shell",
                           .help = N_("Print words"),
                           .description = N_("For scripts, and to see how words are split."),
                           .flags = COMMAND_NO_JSON,
                           .options = options,
                           .run = echo_run };
