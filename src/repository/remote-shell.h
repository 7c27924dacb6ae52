/* Another host's files, by ssh and what every system there has (sh, cat, mv, sync, sha256sum,
 * flock): nothing of ours runs on it. Each command is one ssh that is given up when nothing moves
 * for as long as remote_timeout says. One thread at a time an object. */
#pragma once
#include "mover/mover.h"

typedef struct RemoteShell RemoteShell;
/* ssh://[USER@]HOST[:PORT]/PATH */
RemoteShell *remote_shell_new (const char *url, MoverControl *control, GError **error);
void remote_shell_free (RemoteShell *shell);
gboolean remote_shell_is_url (const char *url);
/* PATH, and a place below it, as sh takes them; caller frees. */
char *remote_shell_quote (const RemoteShell *shell, const char *below);

/* What goes to a command's standard input. */
typedef struct {
    int fd; /* of a file; borrowed */
    guint64 offset, length;
    void (*sent) (guint64 bytes, gpointer data);
    gpointer data;
} RemoteInput;

/* Runs a script (input NULL: with nothing to read). *ret_status: its exit status; *ret_output: what
 * it said, at most 16 MiB. CONNECTION when ssh itself failed, TIMEOUT, ABORTED. */
gboolean remote_shell_run (RemoteShell *shell, const char *script, const RemoteInput *input,
                           int *ret_status, char **ret_output, GError **error);
/* The same when any failure of the script is one. */
gboolean remote_shell_must (RemoteShell *shell, const char *script, const RemoteInput *input,
                            char **ret_output, GError **error);
/* Held until it is freed or this process dies. BUSY when another holds it. */
gboolean remote_shell_lock (RemoteShell *shell, const char *below, GError **error);
gboolean remote_shell_is_locked (RemoteShell *shell); /* still */
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RemoteShell, remote_shell_free)
