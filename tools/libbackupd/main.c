#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <glib/gi18n.h>
#include "libbackupd.h"
#include "util/error.h"

enum { EXIT_USAGE = 2, LOG_LINE_MAX = 16384 };

static Options options = { .socket_fd = -1, .ready_fd = -1 };

static const GOptionEntry entries[] = {
    { "socket", 0, 0, G_OPTION_ARG_FILENAME, &options.socket, N_("Listen on this unix socket"),
      "PATH" },
    { "readonly-socket", 0, 0, G_OPTION_ARG_FILENAME, &options.readonly_socket,
      N_("Listen here for peers that may only look"), "PATH" },
    { "listen-tls", 0, 0, G_OPTION_ARG_STRING, &options.listen_tls,
      N_("Listen for TLS with certificates on both sides"), "ADDRESS:PORT" },
    { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options.state_dir, N_("Own this state directory"),
      "DIR" },
    { "config", 0, 0, G_OPTION_ARG_FILENAME, &options.config,
      N_("Read this configuration instead of the usual ones"), "FILE" },
    { "config-check", 0, 0, G_OPTION_ARG_NONE, &options.config_check,
      N_("Check the configuration and exit"), NULL },
    { "session", 0, 0, G_OPTION_ARG_NONE, &options.session,
      N_("Serve qemu:///session instead of qemu:///system"), NULL },
    { "stdio", 0, 0, G_OPTION_ARG_NONE, &options.stdio,
      N_("Serve one peer on standard input and output (for ssh)"), NULL },
    { "version", 'V', 0, G_OPTION_ARG_NONE, &options.version, N_("Print the version and exit"),
      NULL },
    { "join", 'U', 0, G_OPTION_ARG_FILENAME, &options.splice,
      N_("Join standard input and output to this socket, as netcat does"), "SOCKET" },
    { "probe", 'q', 0, G_OPTION_ARG_NONE, &options.probe,
      N_("Exit with 0: libvirt's clients ask which options this netcat has"), NULL },
    { "watch", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &options.watch, NULL, NULL },
    { "uri", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_STRING, &options.uri, NULL, NULL },
    { "socket-fd", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_INT, &options.socket_fd, NULL, NULL },
    { "ready-fd", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_INT, &options.ready_fd, NULL, NULL },
    { NULL },
};

static int config_status (void)
{
    g_autoptr (GError) error = NULL;
    if (check_config (&options, &error))
        return EXIT_SUCCESS;
    fprintf (stderr, _("error: %s\n"), error->message);
    return EXIT_FAILURE;
}

static int run (void)
{
    if (options.version) {
        printf ("libbackupd %s\n", LIBBACKUP_VERSION);
        return EXIT_SUCCESS;
    }
    if (options.config_check)
        return config_status ();
    if (options.splice)
        return run_splice (options.splice);
    /* A netcat that says "requires an argument" would be called with -q0; we do without. */
    if (options.probe)
        return EXIT_SUCCESS;
    if (options.watch)
        return run_watcher (&options);
    return options.stdio ? run_stdio (&options) : run_daemon (&options);
}

/* Whatever a message quotes, it stays one line. */
static GLogWriterOutput write_log (GLogLevelFlags level, const GLogField *fields, gsize count,
                                   gpointer data)
{
    g_autofree GLogField *copy = g_memdup2 (fields, count * sizeof *fields);
    g_autofree char *clean = NULL;
    for (gsize i = 0; i < count; i++)
        if (g_str_equal (copy[i].key, "MESSAGE") && copy[i].length < 0) {
            clean = text_sanitize (copy[i].value, LOG_LINE_MAX);
            copy[i].value = clean;
        }
    return g_log_writer_default (level, copy, count, data);
}

int main (int argc, char **argv)
{
    g_autoptr (GOptionContext) context = g_option_context_new (NULL);
    g_autoptr (GError) error = NULL;

    setlocale (LC_ALL, "");
    bindtextdomain (GETTEXT_PACKAGE, LOCALE_DIR);
    textdomain (GETTEXT_PACKAGE);
    signal (SIGPIPE, SIG_IGN);
    g_log_set_writer_func (write_log, NULL, NULL);
    mallopt (M_ARENA_MAX, 2); /* many short-lived threads, little memory */
    g_option_context_set_summary (
        context,
        _("The daemon of libbackup: backs up QEMU guests for its clients and for libvirt's."));
    g_option_context_add_main_entries (context, entries, GETTEXT_PACKAGE);
    if (!g_option_context_parse (context, &argc, &argv, &error)) {
        fprintf (stderr, _("error: %s\n"), error->message);
        return EXIT_USAGE;
    }
    if (argc > 1) {
        fprintf (stderr, _("error: unexpected argument '%s'\n"), argv[1]);
        return EXIT_USAGE;
    }
    if (options.config)
        g_setenv ("LIBBACKUP_CONFIG", options.config, TRUE);
    return run ();
}
