/* Programs that are run to be read: bounded in time and output, no shell. Any thread. */
#pragma once
#include <sys/types.h>
#include "util/error.h"

/* The value of the environment variable, else of the configuration's key, else fallback. Caller
 * frees. */
char *process_find (const char *variable, const char *key, const char *fallback);

/* Runs argv (argv[0] by PATH; LC_ALL=C) and waits for it. Returns TRUE when it ran and ended by
 * itself: *ret_status is its exit status, *ret_output what it wrote on stdout, *ret_messages the
 * first 4 KiB of its stderr (each may be NULL). Otherwise NOT_SUPPORTED (cannot be run), TIMEOUT or
 * IO (more than max_output bytes, died of a signal); it is then killed. */
gboolean process_run (const char *const *argv, guint timeout_ms, gsize max_output, int *ret_status,
                      char **ret_output, char **ret_messages, GError **error);
/* The same with one more open file, which becomes PROCESS_EXTRA_FD there and holds a secret: it
 * dumps no core; -1: none. */
#define PROCESS_EXTRA_FD 3
gboolean process_run_with (const char *const *argv, int extra, guint timeout_ms, gsize max_output,
                           int *ret_status, char **ret_output, char **ret_messages, GError **error);

/* Waits until a process, not necessarily a child, is gone. FALSE: it is still there after
 * timeout_ms. */
gboolean process_wait_gone (pid_t pid, guint timeout_ms);
/* Its command line as the kernel has it (NUL separated, at most 1 MiB); NULL: gone or not ours to
 * see. */
char *process_command_line (pid_t pid, gsize *ret_length);
/* When it started, in clock ticks since boot: with the pid it names a process for ever. 0: gone. */
guint64 process_start_time (pid_t pid);
/* By a signal or a debugger: it does nothing until it is told to go on. */
gboolean process_is_stopped (pid_t pid);
/* User and system time used, nanoseconds. 0: unknown. */
guint64 process_cpu_time (pid_t pid);
/* Whom it runs as, and what confines it (AppArmor, SELinux), in words; NULL: gone. Caller frees. */
char *process_identity (pid_t pid);
/* That process has that socket open. FALSE also when it cannot be looked into. */
gboolean process_has_socket (pid_t pid, guint64 inode);
