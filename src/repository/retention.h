/* Which points of one guest a prune keeps, and by which rule. Pure. */
#pragma once
#include <glib.h>

typedef enum {
    KEEP_LAST,
    KEEP_HOURLY,
    KEEP_DAILY,
    KEEP_WEEKLY,
    KEEP_MONTHLY,
    KEEP_YEARLY,
    KEEP_RULES
} KeepRule;

typedef struct {
    guint count[KEEP_RULES]; /* 0: no such rule */
    guint64 within;          /* microseconds back from the newest point; 0: no such rule */
} Keep;

/* What the rules look at, and what they say of it. */
typedef struct {
    gint64 instant;   /* microseconds since 1970 */
    gboolean pinned;  /* stays, and counts for no rule */
    gboolean damaged; /* idem: a person decides about it */

    gboolean keep;
    char *why; /* "daily 2026-11-29", "pinned"; NULL: no rule keeps it */
} KeepPoint;

gboolean keep_is_empty (const Keep *keep);
/* points: the oldest first, by their sequence and not by a clock that may have been set back.
 * Periods are those of local time. The newest point that is neither pinned nor damaged stays if no
 * rule keeps any. */
void keep_choose (const Keep *keep, KeepPoint *points, guint n_points);
void keep_point_clear (KeepPoint *point);
