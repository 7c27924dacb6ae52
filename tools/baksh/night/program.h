/* Programs of others: hooks, sendmail, a command that takes the report. No shell. */
#pragma once
#include "../baksh.h"

typedef struct {
    const char *const *argv;       /* argv[0] is a path */
    JsonObject *facts;             /* its texts, numbers and truths become LIBBACKUP_KEY; or NULL */
    const char *input;             /* on standard input */
    guint64 timeout;               /* microseconds */
    BakCancellation *cancellation; /* or NULL */
} Program;

/* Runs it in a process group of its own, its output on our standard error, and waits. The exit
 * status, or -1 and *ret_why (it did not start, did not end in time, died of a signal), which the
 * caller frees. */
int program_run (const Program *program, char **ret_why);
