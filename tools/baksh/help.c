/* Help, made from the rows. */
#include <stdio.h>
#include <string.h>
#include "baksh.h"

static const struct {
    const char *name, *title;
} groups[] = {
    { "host", N_("Host") },
    { "guest", N_("Guests") },
    { "backup", N_("Backup") },
    { "checkpoint", N_("Checkpoint") },
    { "repository", N_("Repository") },
    { "point", N_("Points") },
    { "night", N_("Night") },
    { "events", N_("Events") },
    { "shell", N_("Shell") },
};

static char *option_usage (const Option *option)
{
    const char *more = option->flags & OPTION_REPEATED ? "..." : "";
    if (option->flags & OPTION_POSITIONAL)
        return g_strdup_printf (option->flags & OPTION_REQUIRED ? "%s%s" : "[%s]%s",
                                option->argument, more);
    g_autofree char *named = option->kind == OPTION_FLAG
                                 ? g_strdup_printf ("--%s", option->name)
                                 : g_strdup_printf ("--%s %s", option->name, option->argument);
    return g_strdup_printf (option->flags & OPTION_REQUIRED ? "%s%s" : "[%s]%s", named, more);
}

static void print_synopsis (const Command *command)
{
    int column = printf ("    %s", command->name);
    const Option *option;
    for (guint i = 0; (option = command_option_at (command, i)); i++) {
        g_autofree char *text = option_usage (option);
        if (column + 1 + strlen (text) > 78)
            column = printf ("\n        ") - 1;
        column += printf (" %s", text);
    }
    print ("\n");
}

static void print_options (const Command *command)
{
    const Option *option;
    for (guint i = 0; (option = command_option_at (command, i)); i++) {
        g_autofree char *named =
            option->kind == OPTION_FLAG
                ? g_strdup_printf ("--%s", option->name)
                : g_strdup_printf (option->flags & OPTION_POSITIONAL ? "[--%s] %s" : "--%s %s",
                                   option->name, option->argument);
        if (strlen (named) > 26)
            print ("    %s\n    %26s %s\n", named, "", _(option->help));
        else
            print ("    %-26s %s\n", named, _(option->help));
    }
}

void help_command (const Command *command)
{
    print (_("  NAME\n    %s - %s\n\n  SYNOPSIS\n"), command->name, _(command->help));
    print_synopsis (command);
    if (command->description)
        print (_("\n  DESCRIPTION\n    %s\n"), _(command->description));
    print (_("\n  OPTIONS\n"));
    print_options (command);
}

static void help_group (guint group)
{
    print (_(" %s (help keyword '%s'):\n"), _(groups[group].title), groups[group].name);
    for (guint i = 0; commands[i]; i++)
        if (g_str_equal (commands[i]->group, groups[group].name))
            print ("    %-30s %s\n", commands[i]->name, _(commands[i]->help));
}

void help_all (void)
{
    for (guint i = 0; i < G_N_ELEMENTS (groups); i++) {
        if (i)
            print ("\n");
        help_group (i);
    }
}

static int help_run (Shell *shell, const Args *args)
{
    const char *topic = args_text (args, "command");
    if (!topic) {
        help_all ();
        return STATUS_DONE;
    }
    const Command *command = command_find (topic);
    if (command) {
        help_command (command);
        return STATUS_DONE;
    }
    for (guint i = 0; i < G_N_ELEMENTS (groups); i++)
        if (g_str_equal (groups[i].name, topic)) {
            help_group (i);
            return STATUS_DONE;
        }
    return usage (_("command or command group '%s' doesn't exist"), topic);
}

static const Option options[] = {
    { "command", OPTION_TEXT, OPTION_POSITIONAL, "COMMAND|GROUP",
      N_("what to explain; default: list all commands"), WANT_COMMAND },
    { 0 },
};

const Command cmd_help = { .name = "help",
                           .group = "shell",
                           .help = N_("Print help"),
                           .flags = COMMAND_NO_JSON,
                           .options = options,
                           .run = help_run };
