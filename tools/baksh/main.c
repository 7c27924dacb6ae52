#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "baksh.h"

static void print_usage (void)
{
    print (_("\nbaksh [options]... [<command_string>]\n"
              "baksh [options]... <command> [args...]\n\n"
              "  options:\n"
              "    -c | --connect URI       connection URI\n"
              "    -r | --readonly          connect read-only\n"
              "    -q | --quiet             quiet mode\n"
              "    -h | --help              this help\n"
              "    -v | --version           version\n\n"
              "  commands (non interactive mode):\n\n"));
    help_all ();
    print (_("\n  (specify help <group> for details about the commands in the group)\n"
              "\n  (specify help <command> for details about the command)\n\n"));
}

typedef struct {
    char *connect;
    gboolean readonly, quiet, help, version, complete;
} Globals;

/* Sets *ret_rest to the first word of the command; FALSE: the error has been printed. */
static gboolean globals_parse (Globals *globals, char **argv, char ***ret_rest)
{
    const struct {
        const char *name;
        char letter;
        gboolean *flag;
    } flags[] = {
        { "readonly", 'r', &globals->readonly }, { "quiet", 'q', &globals->quiet },
        { "help", 'h', &globals->help },         { "version", 'v', &globals->version },
        { "version", 'V', &globals->version },   { "complete", 0, &globals->complete },
    };
    for (; *argv && (*argv)[0] == '-' && !globals->complete; argv++) {
        const char *word = *argv;
        if (g_str_equal (word, "--")) {
            argv++;
            break;
        }
        if (g_str_equal (word, "-c") || g_str_equal (word, "--connect")) {
            if (!argv[1]) {
                usage (_("option '%s' requires an argument"), word);
                return FALSE;
            }
            globals->connect = *++argv;
            continue;
        }
        if (g_str_has_prefix (word, "--connect=")) {
            globals->connect = *argv + strlen ("--connect=");
            continue;
        }
        if (g_str_has_prefix (word, "-c")) {
            globals->connect = *argv + 2;
            continue;
        }
        guint i;
        for (i = 0; i < G_N_ELEMENTS (flags); i++)
            if (g_str_has_prefix (word, "--")
                    ? g_str_equal (word + 2, flags[i].name)
                    : flags[i].letter && word[1] == flags[i].letter && !word[2])
                break;
        if (i == G_N_ELEMENTS (flags)) {
            usage (_("unsupported option '%s'. See --help."), word);
            return FALSE;
        }
        *flags[i].flag = TRUE;
    }
    *ret_rest = argv;
    return TRUE;
}

/* Words of an argument vector; a lone ";" separates commands. */
static int run_words (Shell *shell, char **words)
{
    int first_failure = STATUS_DONE;
    while (*words) {
        g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
        for (; *words && !g_str_equal (*words, ";"); words++)
            g_strv_builder_add (builder, *words);
        if (*words)
            words++;
        g_auto (GStrv) command = g_strv_builder_end (builder);
        int status = *command ? command_run (shell, command) : STATUS_DONE;
        if (first_failure == STATUS_DONE)
            first_failure = status;
    }
    return first_failure;
}

static int run (Shell *shell, const Globals *globals, char **words)
{
    if (globals->help && !*words) {
        print_usage ();
        return STATUS_DONE;
    }
    if (globals->help) {
        char *help[] = { (char *) "help", words[0], NULL };
        return command_run (shell, help);
    }
    if (globals->version) {
        print ("%s\n", bak_version_string ());
        return STATUS_DONE;
    }
    if (globals->complete) {
        complete_print (shell, words);
        return STATUS_DONE;
    }
    if (!*words)
        return shell_interactive (shell);
    return words[1] ? run_words (shell, words) : script_run (shell, words[0]);
}

int main (int argc, char **argv)
{
    setlocale (LC_ALL, "");
    const char *locale_dir = g_getenv ("LIBBACKUP_LOCALE_DIR");
    bindtextdomain (GETTEXT_PACKAGE, locale_dir ? locale_dir : LOCALE_DIR);
    bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
    textdomain (GETTEXT_PACKAGE);
    interrupt_init ();

    Globals globals = { 0 };
    Shell shell = { 0 };
    char **words;
    if (!globals_parse (&globals, argv + 1, &words))
        return STATUS_USAGE;
    shell.uri = g_strdup (globals.connect);
    shell.readonly = globals.readonly;
    shell.quiet = globals.quiet;
    int status = run (&shell, &globals, words);
    bak_connection_unref (shell.conn);
    g_free (shell.uri);
    if (fflush (stdout) != 0 || ferror (stdout))
        status = status ? status : fail_with (STATUS_FAILED, _("cannot write to standard output"));
    return status;
}
