/* The configuration: the files *.conf of SYSCONF_DIR, then of $XDG_CONFIG_HOME/libbackup (later wins, files in name order),
 * `key = value` lines, # comments. Read once per process; LIBBACKUP_CONFIG names one file instead of all. */
#pragma once
#include <glib.h>

/* NULL: not set. Caller frees. The keys are in config.c and libbackupd(8). */
char *config_get_string (const char *key);
gint64 config_get_int (const char *key, gint64 fallback);
/* Reads one file (path NULL: all) into a table of texts without using it. NULL and *error when a file is wrong: names file,
 * line, key. */
GHashTable *config_read (const char *path, GError **error);
/* From now on these are the values; takes them. */
void config_use (GHashTable *values);
