/* The audit log: one line a call that changes something. The one place where what peers say becomes
 * text of the log, so that nobody can end a line, begin another, or add a field. */
#pragma once
#include <glib.h>

/* KEY=VALUE for each pair, until a NULL key. Values are cut, without control characters, and in
 * quotes when there is anything in them that could end a value; NULL is "-". Caller frees. */
char *audit_line (const char *key, ...) G_GNUC_NULL_TERMINATED;
