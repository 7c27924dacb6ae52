#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "util/config.h"
#include "util/error.h"
#include "util/files.h"

typedef enum { VALUE_TEXT, VALUE_NUMBER, VALUE_YES_NO } ValueKind;

static const struct {
    const char *name;
    ValueKind kind;
} known_keys[] = {
    { "default_uri" },
    { "state_dir" },
    { "scratch_dir" },
    { "target_dir" },
    { "repository" },
    { "passphrase_file" },
    { "key_file" },
    { "chain_limit", VALUE_NUMBER },
    { "keep_jobs", VALUE_NUMBER },
    { "monitor_timeout", VALUE_NUMBER },
    { "freeze_timeout", VALUE_NUMBER },
    { "tool_timeout", VALUE_NUMBER },
    { "remote_timeout", VALUE_NUMBER },
    { "qemu_img" },
    { "storage_daemon" },
    { "libbackupd_path" },
    { "ssh_command" },
    { "tls_x509_dir" },
    { "socket" },
    { "readonly_socket" },
    { "socket_group" },
    { "listen_tls" },
    { "tls_allowed_names" },
    { "policy_file" },
    { "polkit", VALUE_YES_NO },
    { "audit_log", VALUE_YES_NO },
    { "max_peers", VALUE_NUMBER },
    { "max_anonymous_peers", VALUE_NUMBER },
};

static GMutex lock;
static GHashTable *values; /* NULL: not read yet */

static char *all_keys (void)
{
    GString *text = g_string_new (NULL);
    for (guint i = 0; i < G_N_ELEMENTS (known_keys); i++)
        g_string_append_printf (text, "%s%s", i ? ", " : "", known_keys[i].name);
    return g_string_free (text, FALSE);
}

/* NULL: fine; else what it should be. */
static const char *value_fault (ValueKind kind, const char *value)
{
    if (kind == VALUE_NUMBER && !g_ascii_string_to_unsigned (value, 10, 0, G_MAXINT, NULL, NULL))
        return _("a number");
    return kind == VALUE_YES_NO && !g_str_equal (value, "yes") && !g_str_equal (value, "no")
               ? _("yes or no")
               : NULL;
}

static gboolean check_value (const char *path, guint number, const char *key, const char *value,
                             GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS (known_keys); i++) {
        if (!g_str_equal (key, known_keys[i].name))
            continue;
        const char *wanted = value_fault (known_keys[i].kind, value);
        g_autofree char *shown = text_sanitize (value, 128);
        return !wanted
               || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("%s:%u: %s: '%s' is not %s"),
                             path, number, key, shown, wanted);
    }
    g_autofree char *shown = text_sanitize (key, 128), *keys = all_keys ();
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("%s:%u: unknown key '%s'; there are: %s"), path, number, shown, keys);
}

/* Splits "key = value" in place; the value may stand in quotes. FALSE: it is neither that, nor
 * empty, nor a comment; *ret_key NULL: nothing to do. */
static gboolean split_line (char *line, char **ret_key, char **ret_value)
{
    *ret_key = NULL;
    g_strstrip (line);
    if (*line == '\0' || *line == '#')
        return TRUE;
    char *equals = strchr (line, '=');
    if (!equals)
        return FALSE;
    *equals = '\0';
    char *value = g_strstrip (equals + 1);
    gsize length = strlen (value);
    if (length >= 2 && value[0] == '"' && value[length - 1] == '"') {
        value[length - 1] = '\0';
        value++;
    }
    *ret_key = g_strchomp (line);
    *ret_value = value;
    return TRUE;
}

gboolean config_read_pairs (const char *path, ConfigPairFunc func, gpointer data, GError **error)
{
    g_autofree char *text = NULL;
    if (!files_read (path, 1024 * 1024, &text, NULL, error))
        return FALSE;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        ConfigPair pair = { .path = path, .line = i + 1 };
        if (!split_line (lines[i], &pair.key, &pair.value))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("%s:%u: expected 'key = value'"), path, pair.line);
        if (pair.key && !func (&pair, data, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean take_pair (const ConfigPair *pair, gpointer table, GError **error)
{
    if (!check_value (pair->path, pair->line, pair->key, pair->value, error))
        return FALSE;
    g_hash_table_replace (table, g_strdup (pair->key), g_strdup (pair->value));
    return TRUE;
}

static gboolean read_values (GHashTable *table, const char *path, GError **error)
{
    return config_read_pairs (path, take_pair, table, error);
}

static int compare_names (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

static gboolean read_dir (GHashTable *table, const char *path, GError **error)
{
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
    const char *name;
    while (dir && (name = g_dir_read_name (dir)))
        if (g_str_has_suffix (name, ".conf"))
            g_ptr_array_add (names, g_build_filename (path, name, NULL));
    g_ptr_array_sort (names, compare_names);
    for (guint i = 0; i < names->len; i++)
        if (!read_values (table, names->pdata[i], error))
            return FALSE;
    return TRUE;
}

GHashTable *config_read (const char *path, GError **error)
{
    g_autoptr (GHashTable) table = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    if (!path)
        path = g_getenv ("LIBBACKUP_CONFIG");
    if (path && *path)
        return read_values (table, path, error) ? g_steal_pointer (&table) : NULL;
    g_autofree char *user = g_build_filename (g_get_user_config_dir (), "libbackup", NULL);
    return read_dir (table, SYSCONF_DIR, error) && read_dir (table, user, error)
               ? g_steal_pointer (&table)
               : NULL;
}

void config_use (GHashTable *table)
{
    g_mutex_lock (&lock);
    g_clear_pointer (&values, g_hash_table_unref);
    values = table;
    g_mutex_unlock (&lock);
}

char *config_get_string (const char *key)
{
    g_mutex_lock (&lock);
    if (!values) {
        g_autoptr (GError) error = NULL;
        values = config_read (NULL, &error);
        if (!values) {
            g_warning ("%s", error->message);
            values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
        }
    }
    char *value = g_strdup (g_hash_table_lookup (values, key));
    g_mutex_unlock (&lock);
    return value;
}

gint64 config_get_int (const char *key, gint64 fallback)
{
    g_autofree char *text = config_get_string (key);
    gint64 value;
    return text && g_ascii_string_to_signed (text, 10, G_MININT64, G_MAXINT64, &value, NULL)
               ? value
               : fallback;
}

char *config_state_dir (gboolean session)
{
    const char *env = g_getenv ("LIBBACKUP_STATE_DIR");
    if (env && *env)
        return g_canonicalize_filename (env, NULL);
    char *configured = config_get_string ("state_dir");
    if (configured)
        return configured;
    if (!session)
        return g_strdup ("/var/lib/libbackup");
    const char *base = g_getenv ("XDG_STATE_HOME");
    if (base && g_path_is_absolute (base))
        return g_build_filename (base, "libbackup", NULL);
    return g_build_filename (g_get_home_dir (), ".local", "state", "libbackup", NULL);
}

char *config_default_socket (gboolean session)
{
    if (!session)
        return g_strdup ("/run/libbackup/libbackup.sock");
    return g_build_filename (g_get_user_runtime_dir (), "libbackup", "libbackup.sock", NULL);
}

char *config_socket_dir (const char *dir, gsize name)
{
    if (strlen (dir) + strlen ("/") + name < sizeof ((struct sockaddr_un *) NULL)->sun_path)
        return g_strdup (dir);
    g_autofree char *other = config_default_socket (geteuid () != 0);
    return g_path_get_dirname (other);
}
