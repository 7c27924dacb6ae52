/* The configuration: the files *.conf of SYSCONF_DIR, then of $XDG_CONFIG_HOME/libbackup (later
 * wins, files in name order), `key = value` lines, # comments. Read once per process;
 * LIBBACKUP_CONFIG names one file instead of all. */
#pragma once
#include <glib.h>

/* NULL: not set. Caller frees. The keys are in config.c and libbackupd(8). */
char *config_get_string (const char *key);
gint64 config_get_int (const char *key, gint64 fallback);
/* Reads one file (path NULL: all) into a table of texts without using it. NULL and *error when a
 * file is wrong: names file, line, key. */
GHashTable *config_read (const char *path, GError **error);
/* From now on these are the values; takes them. */
void config_use (GHashTable *values);

/* A file of the same form, with other keys: each pair in the order of the lines, unchecked. */
typedef struct {
    const char *path;
    guint line; /* from 1 */
    char *key, *value;
} ConfigPair;
typedef gboolean (*ConfigPairFunc) (const ConfigPair *pair, gpointer data, GError **error);
gboolean config_read_pairs (const char *path, ConfigPairFunc func, gpointer data, GError **error);
/* Where things are. */
/* LIBBACKUP_STATE_DIR, else configuration, else /var/lib/libbackup (system) or
 * $XDG_STATE_HOME/libbackup. Caller frees. */
char *config_state_dir (gboolean session);
/* /run/libbackup/libbackup.sock or $XDG_RUNTIME_DIR/libbackup/libbackup.sock. Caller frees. */
char *config_default_socket (gboolean session);
/* A directory for sockets whose names have so many bytes: dir, or where their whole paths would not
 * fit into an address, our place for sockets, which need not be there yet. Caller frees. */
char *config_socket_dir (const char *dir, gsize name);
