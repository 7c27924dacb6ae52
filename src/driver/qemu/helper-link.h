/* Which connections a helper (helper.h) has to a server. The libraries of some protocols connect
 * again by themselves when a server went away, and say nothing. What such a server had taken and
 * not written yet may be gone with it, and the flush of the new connection knows nothing of it. */
#pragma once
#include <sys/types.h>
#include "util/error.h"

/* Keeps in file which they are. */
gboolean helper_link_note (pid_t pid, const char *file, GError **error);
/* FALSE: they are not those of the file. */
gboolean helper_link_same (pid_t pid, const char *file, GError **error);
