/* A session: its connection, and the loop that reads commands. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include <readline/history.h>
#include <readline/readline.h>
#include "baksh.h"

enum { HISTORY_LENGTH = 1000 };

BakConnection *shell_connect (Shell *shell, int *ret_status)
{
    if (shell->conn)
        return shell->conn;
    BakError *error = NULL;
    shell->conn = shell->readonly ? bak_connection_open_read_only (shell->uri, &error)
                                  : bak_connection_open (shell->uri, &error);
    if (!shell->conn) {
        /* a URI that no driver knows is a mistake on the command line */
        gboolean bad_uri = bak_error_get_code (error) == BAK_ERROR_INVALID_ARGUMENT;
        fail_with (STATUS_NO_CONNECTION, _("failed to connect to the hypervisor"));
        *ret_status = fail (error);
        if (bad_uri)
            *ret_status = STATUS_USAGE;
    }
    return shell->conn;
}

static BakDomain *domain_by_id (Shell *shell, const char *name)
{
    guint64 id;
    BakDomain **list = NULL, *found = NULL;
    if (!g_ascii_string_to_unsigned (name, 10, 0, G_MAXINT, &id, NULL)
        || bak_connection_list_all_domains (shell->conn, &list, BAK_CONNECT_LIST_DOMAINS_ACTIVE,
                                            NULL)
               < 0)
        return NULL;
    for (guint i = 0; list[i]; i++)
        if (!found && bak_domain_get_id (list[i]) == (int) id)
            found = bak_domain_ref (list[i]);
    LIST_FREE (list, bak_domain_unref);
    return found;
}

/* By id, UUID or name, in virsh's order. */
BakDomain *shell_domain (Shell *shell, const char *name, int *ret_status)
{
    BakError *error = NULL;
    BakDomain *domain = domain_by_id (shell, name);
    if (!domain && g_uuid_string_is_valid (name))
        domain = bak_domain_lookup_by_uuid_string (shell->conn, name, NULL);
    if (!domain)
        domain = bak_domain_lookup_by_name (shell->conn, name, &error);
    if (!domain) {
        if (bak_error_get_code (error) == BAK_ERROR_NO_DOMAIN)
            fail_with (STATUS_FAILED, _("failed to get domain '%s'"), name);
        *ret_status = fail (error);
    }
    return domain;
}

/* the interactive loop */

static char *history_path (void)
{
    g_autofree char *dir = g_build_filename (g_get_user_cache_dir (), "libbackup", NULL);
    return g_mkdir_with_parents (dir, 0700) == 0 ? g_build_filename (dir, "baksh-history", NULL)
                                                 : NULL;
}

static Shell *completing; /* readline's callbacks carry no data */

static char *next_candidate (const char *text, int state)
{
    static GPtrArray *found;
    static guint next;
    if (state == 0) {
        g_clear_pointer (&found, g_ptr_array_unref);
        g_autofree char *before = g_strndup (rl_line_buffer, rl_point);
        /* only the command under the cursor counts */
        const char *why;
        g_autoptr (GPtrArray) list = script_split (before, &why);
        g_auto (GStrv) words = NULL;
        gboolean fresh = !*before || g_ascii_isspace (before[strlen (before) - 1])
                         || strchr (";", before[strlen (before) - 1]);
        if (list && list->len && !(fresh && strchr (";", before[strlen (before) - 1])))
            words = g_strdupv (list->pdata[list->len - 1]);
        g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
        if (words)
            g_strv_builder_addv (builder, (const char **) words);
        if (fresh)
            g_strv_builder_add (builder, "");
        g_auto (GStrv) line = g_strv_builder_end (builder);
        found = complete_words (completing, line);
        next = 0;
    }
    while (next < found->len) {
        const char *candidate = found->pdata[next++];
        if (g_str_has_prefix (candidate, text))
            return strdup (candidate);
    }
    return NULL;
}

static char **complete_line (const char *text, int start, int end)
{
    char **matches = rl_completion_matches (text, next_candidate);
    rl_attempted_completion_over = matches != NULL; /* otherwise file names */
    return matches;
}

/* Ctrl-C at the prompt drops the line. */
static void drop_line (void)
{
    rl_crlf ();
    rl_replace_line ("", 0);
    rl_on_new_line ();
    rl_redisplay ();
}

/* readline's own would sleep on when the signal came while it did not wait. A Ctrl-C also takes
 * away what was typed before it: a read that could block would wait for what had been there. */
static int get_key (FILE *stream)
{
    static int keys = -1; /* the terminal once more: not to block is nobody else's business */
    unsigned char key;
    ssize_t n;

    if (keys < 0)
        keys = ttyname (fileno (stream)) ? g_open (ttyname (fileno (stream)),
                                                   O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0)
                                         : -1;
    int fd = keys >= 0 ? keys : fileno (stream);
    do {
        while (interrupt_poll (fd, -1) == POLL_INTERRUPT)
            drop_line ();
        n = read (fd, &key, 1);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    return n == 1 ? key : EOF;
}

static char *read_command (Shell *shell)
{
    interrupt_await (TRUE);
    char *line = readline (shell->readonly ? "baksh > " : "baksh # ");
    interrupt_await (FALSE);
    return line;
}

static int run_terminal (Shell *shell)
{
    g_autofree char *path = history_path ();
    completing = shell;
    rl_readline_name = "baksh";
    rl_attempted_completion_function = complete_line;
    rl_completer_word_break_characters = (char *) " \t\n;";
    rl_catch_signals = 0;
    rl_getc_function = get_key;
    using_history ();
    stifle_history (HISTORY_LENGTH);
    if (path)
        read_history (path);
    if (!shell->quiet)
        print (_("Welcome to %s, the backup interactive terminal.\n\n"
                  "Type:  'help' for help with commands\n"
                  "       'quit' to quit\n\n"),
               "baksh");
    char *line;
    while (!shell->quit && (line = read_command (shell))) {
        if (*line) {
            add_history (line);
            script_run (shell, line);
        }
        free (line);
    }
    if (!shell->quit)
        print ("\n");
    if (path && write_history (path) == 0)
        g_chmod (path, 0600);
    return STATUS_DONE;
}

/* A script on standard input: a failure does not end it, but is not forgotten. */
static int run_input (Shell *shell)
{
    int first_failure = STATUS_DONE;
    g_autofree char *line = NULL;
    size_t size = 0;
    while (!shell->quit && getline (&line, &size, stdin) >= 0) {
        int status = script_run (shell, line);
        if (first_failure == STATUS_DONE)
            first_failure = status;
    }
    return first_failure;
}

int shell_interactive (Shell *shell)
{
    shell->interactive = isatty (STDIN_FILENO);
    return shell->interactive ? run_terminal (shell) : run_input (shell);
}
