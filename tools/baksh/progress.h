/* One line about what is on its way: whose it is, how far, how fast, how much longer. It always
 * fits the terminal; what has no room goes, the name and the time left last. */
#pragma once
#include "baksh.h"

typedef struct {
    const char *name;  /* of the guest or the point; NULL: none */
    const char *phase; /* what is being done, or how it stands; NULL: only the numbers */
    guint64 done, total;
    double rate; /* bytes a second; 0: not known */
} ProgressView;

/* At most width columns, without a bar and without what could steer a terminal. Caller frees. */
char *progress_line (const ProgressView *view, int width);
/* The same with a bar where there is room for one. Caller frees. */
char *progress_bar (const ProgressView *view, int width);
/* On standard error: a bar that replaces the one before on a terminal, else a line. */
void progress_show (const ProgressView *view, gboolean terminal);
/* Takes the bar away. */
void progress_clear (gboolean terminal);
