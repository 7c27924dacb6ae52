#include "baksh.h"

static int quit_run (Shell *shell, const Args *args)
{
    shell->quit = TRUE;
    return STATUS_DONE;
}

const Command cmd_quit = { .name = "quit",
                           .group = "shell",
                           .help = N_("Quit this interactive terminal"),
                           .flags = COMMAND_NO_JSON,
                           .run = quit_run };
const Command cmd_exit = { .name = "exit",
                           .group = "shell",
                           .help = N_("Quit this interactive terminal"),
                           .flags = COMMAND_NO_JSON,
                           .run = quit_run };

static int connect_run (Shell *shell, const Args *args)
{
    int status = STATUS_DONE;
    g_clear_pointer (&shell->conn, bak_connection_unref);
    g_free (shell->uri);
    shell->uri = g_strdup (args_text (args, "name"));
    shell->readonly = args_has (args, "readonly");
    shell_connect (shell, &status);
    return status;
}

static const Option connect_options[] = {
    { "name", OPTION_TEXT, OPTION_POSITIONAL, "URI",
      N_("connection URI; default: the default one"), WANT_NOTHING },
    { "readonly", OPTION_FLAG, 0, NULL, N_("read-only connection"), WANT_NOTHING },
    { 0 },
};

const Command cmd_connect = { .name = "connect",
                              .group = "shell",
                              .help = N_("Connect somewhere else"),
                              .flags = COMMAND_NO_JSON,
                              .options = connect_options,
                              .run = connect_run };
