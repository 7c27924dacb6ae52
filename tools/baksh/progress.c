#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "progress.h"

enum { BAR_LONGEST = 30, BAR_SHORTEST = 8, NAME_PART = 3, DEFAULT_WIDTH = 80 };

/* From all that can be said to what must be. */
enum { DETAIL_AMOUNT = 1, DETAIL_RATE = 2, DETAIL_PHASE = 4 };
static const guint details[] = { DETAIL_AMOUNT | DETAIL_RATE | DETAIL_PHASE,
                                 DETAIL_RATE | DETAIL_PHASE, DETAIL_PHASE, 0 };

/* "57 s", "3 min 4 s", "2 h 5 min", "4 d 3 h"; NULL: so long that nobody can know. */
static char *format_left (double seconds)
{
    enum { MINUTE = 60, HOUR = 3600, DAY = 86400, LONGEST = 100 * DAY };
    if (!(seconds < LONGEST))
        return NULL;
    int whole = (int) seconds + 1;
    if (whole < MINUTE)
        return g_strdup_printf (_("%d s"), whole);
    if (whole < HOUR)
        return g_strdup_printf (_("%d min %d s"), whole / MINUTE, whole % MINUTE);
    if (whole < DAY)
        return g_strdup_printf (_("%d h %d min"), whole / HOUR, whole % HOUR / MINUTE);
    return g_strdup_printf (_("%d d %d h"), whole / DAY, whole % DAY / HOUR);
}

static void add (GString *text, const char *part)
{
    g_string_append_printf (text, "%s%s", text->len ? ", " : "", part);
}

/* "read, 42.0 %, 4.20 GiB of 10.0 GiB, 105 MiB/s, 57 s left" */
static char *describe (const ProgressView *view, guint which)
{
    GString *text = g_string_new (NULL);
    g_autofree char *phase = clean (view->phase);
    if (*phase && (which & DETAIL_PHASE || !view->total))
        add (text, phase);
    if (!view->total)
        return g_string_free (text, FALSE);
    /* never 100 while it has not ended */
    g_autofree char *part =
        g_strdup_printf ("%.1f %%", MIN (99.9, view->done * 100.0 / view->total));
    g_autofree char *done = format_short_size (view->done),
                    *total = format_short_size (view->total),
                    *rate = format_short_size ((guint64) view->rate);
    g_autofree char *amount = g_strdup_printf (_("%s of %s"), done, total),
                    *speed = g_strdup_printf ("%s/s", rate);
    gboolean goes_on = view->rate > 0 && view->done < view->total;
    g_autofree char *left = goes_on ? format_left ((view->total - view->done) / view->rate) : NULL;
    add (text, part);
    if (which & DETAIL_AMOUNT)
        add (text, amount);
    if (which & DETAIL_RATE)
        add (text, speed);
    if (left) {
        g_autofree char *said = g_strdup_printf (_("%s left"), left);
        add (text, said);
    }
    return g_string_free (text, FALSE);
}

/* The most that fits; cut if not even the least does. */
static char *describe_in (const ProgressView *view, int width)
{
    for (guint i = 0; i < G_N_ELEMENTS (details); i++) {
        g_autofree char *text = describe (view, details[i]);
        if (text_width (text) <= width)
            return g_steal_pointer (&text);
        if (i == G_N_ELEMENTS (details) - 1)
            return text_cut (text, width);
    }
    g_assert_not_reached ();
}

static char *name_in (const ProgressView *view, int width)
{
    g_autofree char *name = clean (view->name);
    return text_cut (name, MAX (1, width / NAME_PART));
}

char *progress_line (const ProgressView *view, int width)
{
    g_autofree char *name = name_in (view, width);
    int used = *name ? text_width (name) + (int) strlen (": ") : 0;
    g_autofree char *text = describe_in (view, MAX (0, width - used));
    return g_strconcat (name, *name ? ": " : "", text, NULL);
}

char *progress_bar (const ProgressView *view, int width)
{
    g_autofree char *name = name_in (view, width);
    int used = *name ? text_width (name) + 1 : 0, frame = (int) strlen ("[] ");
    int room = width - used - frame - BAR_SHORTEST;
    g_autofree char *least = describe (view, 0);
    if (!view->total || text_width (least) > room)
        return progress_line (view, width);
    g_autofree char *text = describe_in (view, room);
    int length = MIN (BAR_LONGEST, BAR_SHORTEST + room - text_width (text));
    int full = (int) (MIN (view->done, view->total) / (double) view->total * length);
    g_autofree char *bar = g_strnfill (length, '-');
    memset (bar, '#', full);
    return g_strdup_printf ("%s%s[%s] %s", name, *name ? " " : "", bar, text);
}

static int terminal_width (void)
{
    struct winsize size;
    return ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                            : DEFAULT_WIDTH;
}

void progress_show (const ProgressView *view, gboolean terminal)
{
    /* a cursor in the last column would begin a new line */
    g_autofree char *line =
        terminal ? progress_bar (view, terminal_width () - 1) : progress_line (view, DEFAULT_WIDTH);
    fprintf (stderr, terminal ? "\r%s\033[K" : "%s\n", line);
    fflush (stderr);
}

void progress_clear (gboolean terminal)
{
    if (terminal)
        fprintf (stderr, "\r\033[K");
}
