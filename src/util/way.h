/* Who else can change where a path leads: what is opened later by its name, by somebody else, is
 * what we have looked at only while nobody can put another thing in its place. */
#pragma once
#include <sys/types.h>
#include <glib.h>

/* The directory on the way to path in which another user than root, this process's and also (-1:
 * none) can exchange what the way goes through; NULL: there is none. Caller frees. */
char *way_others_change (const char *path, gint64 also);
