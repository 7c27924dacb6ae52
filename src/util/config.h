/* The configuration: the files *.conf of SYSCONF_DIR, then of $XDG_CONFIG_HOME/libbackup (later wins, files in name order),
 * `key = value` lines, # comments. Read once per process; LIBBACKUP_CONFIG names one file instead of all. */
#pragma once
#include <glib.h>

/* NULL: not set. Caller frees. Known keys: default_uri, state_dir, scratch_dir, target_dir, tls_x509_dir, keep_jobs, ... */
char *config_get_string (const char *key);
gint64 config_get_int (const char *key, gint64 fallback);
/* Reads again (SIGHUP). FALSE and *error when a file is wrong: names file, line, key. The old values stay. */
gboolean config_reload (GError **error);
/* Checks one file (or all, path NULL) without using it. */
gboolean config_check (const char *path, GError **error);
