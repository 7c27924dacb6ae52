/* What a QEMU can do, read off query-qmp-schema: one row a feature. Versions count for
 * bugs only that no schema shows. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/graph.h"
#include "driver/qemu/qmp.h"
#include "util/json.h"

/* how: COMMAND[/STEP]..., each step leads to a type. From an object NAME goes to the member's type
 * and TAG=VALUE to the members of that variant; from an enumeration =VALUE asks for a value; arrays
 * and alternates are looked through; ?NAME is taken where it is there (blockdev-add wrapped its
 * arguments into "options" up to 2.8). */
static const struct {
    const char *field;
    gsize offset;
    const char *how;
} rows[] = {
#define ROW(field, how)                                                                            \
    {                                                                                              \
#field, G_STRUCT_OFFSET(Caps, field), how                                                  \
    }
    ROW (blockdev_add_flat, "blockdev-add/driver"),
    ROW (blockdev_del, "blockdev-del"),
    ROW (blockdev_create, "blockdev-create"),
    ROW (jobs, "query-jobs"),
    ROW (backup_bitmap_mode, "blockdev-backup/bitmap-mode"),
    ROW (backup_filter_node_name, "blockdev-backup/filter-node-name"),
    ROW (backup_compress, "blockdev-backup/compress"),
    ROW (backup_auto_dismiss, "blockdev-backup/auto-dismiss"),
    ROW (backup_x_perf, "blockdev-backup/x-perf"),
    ROW (backup_x_perf_min_cluster, "blockdev-backup/x-perf/min-cluster-size"),
    ROW (backup_discard_source, "blockdev-backup/discard-source"),
    ROW (backup_on_cbw_error, "blockdev-backup/on-cbw-error"),
    ROW (mirror_skips_zeroes, "blockdev-mirror/target-is-zero"),
    ROW (reopen, "blockdev-reopen"),
    ROW (x_reopen, "x-blockdev-reopen"),
    ROW (cbw, "blockdev-add/?options/driver/=copy-before-write"),
    ROW (cbw_on_error, "blockdev-add/driver=copy-before-write/on-cbw-error"),
    ROW (cbw_timeout, "blockdev-add/driver=copy-before-write/cbw-timeout"),
    ROW (cbw_bitmap, "blockdev-add/driver=copy-before-write/bitmap"),
    ROW (cbw_min_cluster, "blockdev-add/driver=copy-before-write/min-cluster-size"),
    ROW (snapshot_access, "blockdev-add/?options/driver/=snapshot-access"),
    ROW (nbd_open_timeout, "blockdev-add/driver=nbd/open-timeout"),
    ROW (nbd_reconnect_delay, "blockdev-add/driver=nbd/reconnect-delay"),
    ROW (nbd_server_max_connections, "nbd-server-start/max-connections"),
    ROW (export_add, "block-export-add"),
    ROW (getfd, "getfd"),
    ROW (export_bitmap_node, "block-export-add/type=nbd/bitmaps/node"),
    ROW (nbd_server_add, "nbd-server-add"),
    ROW (bitmap_merge, "block-dirty-bitmap-merge"),
    ROW (bitmap_disabled, "block-dirty-bitmap-add/disabled"),
    ROW (yank, "yank"),
    ROW (write_threshold, "block-set-write-threshold"),
    ROW (qom, "qom-set"),
    ROW (transaction, "transaction"),
    ROW (qcow2_zstd, "blockdev-create/options/driver=qcow2/compression-type/=zstd"),
    ROW (qcow2_extended_l2, "blockdev-create/options/driver=qcow2/extended-l2"),
    ROW (raw_size, "blockdev-add/?options/driver=raw/size"),
    ROW (named_nodes_flat, "query-named-block-nodes/flat"),
    ROW (block_flat, "query-block/flat"),
    ROW (block_graph, "x-debug-query-block-graph"),
    ROW (object_add_props, "object-add/props"),
    /* Found otherwise, below. */
    ROW (storage_daemon, NULL),
    ROW (snapshot_access_exact, NULL),
    ROW (iothread_nbd_safe, NULL),
    ROW (iothread_view_safe, NULL),
    ROW (concluded_backup_safe, NULL),
    ROW (copies_wait, NULL),
#undef ROW
};

enum { MAX_STEPS = 8, MAX_ENTITIES = 100000 };

static gboolean *caps_flag (const Caps *caps, guint row)
{
    return (gboolean *) ((char *) caps + rows[row].offset);
}

/* ---- walking the schema; entities: name -> JsonObject ---- */

static JsonObject *find_named (JsonObject *object, const char *list, const char *key,
                               const char *name)
{
    JsonArray *array = json_get_array (object, list);
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *item = json_get_element (array, i);
        if (item && g_strcmp0 (json_get_string (item, key), name) == 0)
            return item;
    }
    return NULL;
}

static JsonObject *entity (GHashTable *entities, const char *name)
{
    return name ? g_hash_table_lookup (entities, name) : NULL;
}

static gboolean is_meta (JsonObject *type, const char *meta)
{
    return type && g_strcmp0 (json_get_string (type, "meta-type"), meta) == 0;
}

static JsonObject *through_arrays (GHashTable *entities, JsonObject *type)
{
    for (guint i = 0; i < MAX_STEPS && is_meta (type, "array"); i++)
        type = entity (entities, json_get_string (type, "element-type"));
    return type;
}

static gboolean enum_has (JsonObject *type, const char *value)
{
    if (!is_meta (type, "enum"))
        return FALSE;
    if (find_named (type, "members", "name", value)) /* 6.2 on */
        return TRUE;
    JsonArray *values = json_get_array (type, "values");
    for (guint i = 0; values && i < json_array_get_length (values); i++)
        if (g_strcmp0 (json_get_string_element (values, i), value) == 0)
            return TRUE;
    return FALSE;
}

static JsonObject *step (GHashTable *entities, JsonObject *type, const char *how)
{
    const char *equals = strchr (how, '=');
    if (equals == how)
        return enum_has (type, how + 1) ? type : NULL;
    if (equals) {
        g_autofree char *tag = g_strndup (how, equals - how);
        if (g_strcmp0 (json_get_string (type, "tag"), tag) != 0)
            return NULL;
        JsonObject *variant = find_named (type, "variants", "case", equals + 1);
        return entity (entities, json_get_string (variant, "type"));
    }
    JsonObject *member = find_named (type, "members", "name", how);
    return entity (entities, json_get_string (member, "type"));
}

static gboolean walk (GHashTable *entities, JsonObject *type, char **steps, guint depth)
{
    if (!*steps)
        return TRUE;
    type = through_arrays (entities, type);
    if (!type || depth > 2 * MAX_STEPS)
        return FALSE;
    if (is_meta (type, "alternate")) {
        JsonArray *members = json_get_array (type, "members");
        for (guint i = 0; members && i < json_array_get_length (members); i++) {
            JsonObject *member = json_get_element (members, i);
            if (member
                && walk (entities, entity (entities, json_get_string (member, "type")), steps,
                         depth + 1))
                return TRUE;
        }
        return FALSE;
    }
    gboolean optional = **steps == '?';
    JsonObject *next = step (entities, type, *steps + optional);
    if (optional && !next)
        return walk (entities, type, steps + 1, depth + 1);
    return next && walk (entities, next, steps + 1, depth + 1);
}

static gboolean has_feature (GHashTable *entities, const char *how)
{
    g_auto (GStrv) steps = g_strsplit (how, "/", MAX_STEPS);
    JsonObject *command = entity (entities, steps[0]);
    if (!is_meta (command, "command"))
        return FALSE;
    return !steps[1]
           || walk (entities, entity (entities, json_get_string (command, "arg-type")), steps + 1,
                    0);
}

static GHashTable *index_schema (JsonNode *schema, GError **error)
{
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (schema) ? json_node_get_array (schema) : NULL;
    if (!array || json_array_get_length (array) > MAX_ENTITIES) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("query-qmp-schema gave no schema"));
        return NULL;
    }
    GHashTable *entities = g_hash_table_new (g_str_hash, g_str_equal);
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        const char *name = json_get_string (object, "name");
        if (name)
            g_hash_table_insert (entities, (gpointer) name, object);
    }
    return entities;
}

/* ---- putting it together ---- */

/* A name that QEMU's own grammar allows for commands and drivers; anything else is not worth
 * knowing. */
static void add_name (GHashTable *set, const char *name)
{
    if (name && *name && strlen (name) <= 64
        && strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
               == strlen (name))
        g_hash_table_add (set, g_strdup (name));
}

static void add_commands (Caps *caps, GHashTable *entities, JsonNode *commands)
{
    GHashTableIter iter;
    gpointer name, object;
    if (entities) {
        g_hash_table_iter_init (&iter, entities);
        while (g_hash_table_iter_next (&iter, &name, &object))
            if (is_meta (object, "command"))
                add_name (caps->commands, name);
    }
    JsonArray *array =
        commands && JSON_NODE_HOLDS_ARRAY (commands) ? json_node_get_array (commands) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++)
        add_name (caps->commands, json_get_string (json_get_element (array, i), "name"));
}

static void add_drivers (Caps *caps, GHashTable *entities)
{
    JsonObject *command = entity (entities, "blockdev-add");
    JsonObject *type = entity (entities, json_get_string (command, "arg-type"));
    JsonObject *options = type ? step (entities, type, "options") : NULL;
    JsonObject *drivers = type ? step (entities, options ? options : type, "driver") : NULL;
    JsonArray *members = json_get_array (drivers, "members");
    JsonArray *values = json_get_array (drivers, "values");
    for (guint i = 0; members && i < json_array_get_length (members); i++)
        add_name (caps->drivers, json_get_string (json_get_element (members, i), "name"));
    for (guint i = 0; values && i < json_array_get_length (values); i++)
        add_name (caps->drivers, json_get_string_element (values, i));
}

/* The bugs that only the version tells. */
static void add_version_gates (Caps *caps)
{
    caps->snapshot_access_exact = caps->snapshot_access && caps->version >= 8000000;
    caps->iothread_nbd_safe = caps->version / 1000 != 7002;
    caps->iothread_view_safe = caps->version >= 9000000; /* which has no context lock any more */
    caps->concluded_backup_safe = caps->version < 4002000 || caps->version >= 6000000;
    caps->copies_wait = caps->backup_auto_dismiss && caps->concluded_backup_safe;
}

Caps *caps_from_answers (JsonNode *schema, JsonNode *commands, guint version,
                         const char *version_text, GError **error)
{
    g_autoptr (GHashTable) entities = schema ? index_schema (schema, error) : NULL;
    if (schema && !entities)
        return NULL;
    if (!schema && !commands) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("QEMU tells nothing about its commands"));
        return NULL;
    }
    Caps *caps = g_new0 (Caps, 1);
    caps->refs = 1;
    caps->version = version;
    caps->version_text = text_sanitize (version_text, 128);
    caps->commands = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    caps->drivers = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    add_commands (caps, entities, commands);
    if (entities)
        add_drivers (caps, entities);
    for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
        if (rows[i].how)
            *caps_flag (caps, i) =
                entities ? has_feature (entities, rows[i].how)
                         : !strchr (rows[i].how, '/') && caps_has_command (caps, rows[i].how);
    caps->storage_daemon = !caps_has_command (caps, "query-status");
    add_version_gates (caps);
    return caps;
}

/* ---- asking a QEMU, and remembering what it said: the schema takes it tens of milliseconds ----
 */

static GMutex known_lock;
static GHashTable *known; /* key -> Caps */
enum { MAX_KNOWN = 1024 };

static Caps *caps_ref (Caps *caps)
{
    g_atomic_int_inc (&caps->refs);
    return caps;
}

static gboolean same_set (GHashTable *one, GHashTable *other)
{
    GHashTableIter iter;
    gpointer key;
    gboolean same = g_hash_table_size (one) == g_hash_table_size (other);
    g_hash_table_iter_init (&iter, one);
    while (same && g_hash_table_iter_next (&iter, &key, NULL))
        same = g_hash_table_contains (other, key);
    return same;
}

static gboolean same_caps (const Caps *one, const Caps *other)
{
    gboolean same =
        one->version == other->version && g_strcmp0 (one->version_text, other->version_text) == 0;
    for (guint i = 0; same && i < G_N_ELEMENTS (rows); i++)
        same = *caps_flag (one, i) == *caps_flag (other, i);
    return same && same_set (one->commands, other->commands)
           && same_set (one->drivers, other->drivers);
}

/* What stays the same only as long as the same process answers at this address: its start time.
 * NULL: not to be known. */
static char *process_key (Qmp *qmp, const char *version_text)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/stat", qmp_get_peer_pid (qmp));
    g_autofree char *stat = NULL;
    if (qmp_get_peer_pid (qmp) <= 0 || !g_file_get_contents (path, &stat, NULL, NULL))
        return NULL;
    const char *after = strrchr (stat, ')'); /* the command's name may hold anything */
    g_auto (GStrv) fields = g_strsplit (after ? after : "", " ", 22);
    enum { START_TIME = 20 }; /* the 22nd field of all, the name being the 2nd */
    if (g_strv_length (fields) <= START_TIME)
        return NULL;
    return g_strdup_printf ("%d %s %s %s", qmp_get_peer_pid (qmp), fields[START_TIME], version_text,
                            qmp_get_address (qmp));
}

static Caps *recall (const char *key)
{
    g_mutex_lock (&known_lock);
    Caps *caps = known ? g_hash_table_lookup (known, key) : NULL;
    if (caps)
        caps_ref (caps);
    g_mutex_unlock (&known_lock);
    return caps;
}

/* Takes caps and returns what is to be used in its place: many guests have the same QEMU, and one
 * description of it. */
static Caps *remember (char *key, Caps *caps)
{
    GHashTableIter iter;
    gpointer other;

    g_mutex_lock (&known_lock);
    if (!known)
        known = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) caps_free);
    if (g_hash_table_size (known) >= MAX_KNOWN)
        g_hash_table_remove_all (known);
    g_hash_table_iter_init (&iter, known);
    while (g_hash_table_iter_next (&iter, NULL, &other))
        if (same_caps (other, caps)) {
            caps_free (caps);
            caps = caps_ref (other);
            break;
        }
    g_hash_table_replace (known, key, caps_ref (caps));
    g_mutex_unlock (&known_lock);
    return caps;
}

Caps *caps_load (Qmp *qmp, GError **error)
{
    const char *text = NULL;
    guint version = qmp_get_version (qmp, &text);
    g_autofree char *key = process_key (qmp, text);
    Caps *caps = key ? recall (key) : NULL;
    if (caps)
        return caps;
    g_autoptr (JsonNode) schema = qmp_execute (qmp, "query-qmp-schema", NULL, 0, error);
    caps = schema ? caps_from_answers (schema, NULL, version, text, error) : NULL;
    return caps && key ? remember (g_steal_pointer (&key), caps) : caps;
}

void caps_free (Caps *caps)
{
    if (!caps || !g_atomic_int_dec_and_test (&caps->refs))
        return;
    g_free (caps->version_text);
    g_hash_table_unref (caps->commands);
    g_hash_table_unref (caps->drivers);
    g_free (caps);
}

gboolean caps_get (const Caps *caps, const char *field, gboolean *ret_value)
{
    for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
        if (strcmp (rows[i].field, field) != 0)
            continue;
        *ret_value = *caps_flag (caps, i);
        return TRUE;
    }
    return FALSE;
}

const char *const *caps_fields (void)
{
    static const char *fields[G_N_ELEMENTS (rows) + 1];
    static gsize once;
    if (g_once_init_enter (&once)) {
        for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
            fields[i] = rows[i].field;
        g_once_init_leave (&once, 1);
    }
    return fields;
}

gboolean caps_has_command (const Caps *caps, const char *command)
{
    return g_hash_table_contains (caps->commands, command);
}

gboolean caps_has_driver (const Caps *caps, const char *driver)
{
    return g_hash_table_contains (caps->drivers, driver);
}
