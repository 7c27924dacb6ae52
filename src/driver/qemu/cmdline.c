#include <stdlib.h>
#include <string.h>
#include "driver/qemu/cmdline.h"
#include "util/json.h"

static void monitor_free (CmdlineMonitor *monitor)
{
    g_free (monitor->path);
    g_free (monitor->address);
    g_free (monitor);
}

void cmdline_free (Cmdline *cmdline)
{
    if (!cmdline)
        return;
    g_free (cmdline->program);
    g_free (cmdline->name);
    g_free (cmdline->uuid);
    g_ptr_array_unref (cmdline->monitors);
    g_free (cmdline);
}

/* QEMU's option syntax: key=value,key=value; a comma in a value is doubled; the first value may
 * lack its key. */
static GHashTable *parse_options (const char *text, const char *implied)
{
    GHashTable *options = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);

    for (gboolean first = TRUE; *text; first = FALSE) {
        GString *part = g_string_new (NULL);
        for (; *text && (*text != ',' || text[1] == ','); text++) {
            g_string_append_c (part, *text);
            text += *text == ',';
        }
        if (*text == ',')
            text++;
        char *equals = strchr (part->str, '=');
        if (first && implied && !equals)
            g_hash_table_replace (options, g_strdup (implied), g_strdup (part->str));
        else if (equals)
            g_hash_table_replace (options, g_strndup (part->str, equals - part->str),
                                  g_strdup (equals + 1));
        else
            g_hash_table_replace (options, g_strdup (part->str), g_strdup ("on"));
        g_string_free (part, TRUE);
    }
    return options;
}

/* {"a": {"b": "c"}} as a.b = c; what is no string is its JSON's plain form. */
static void flatten (GHashTable *options, const char *prefix, JsonObject *object)
{
    g_autoptr (GList) members = json_object_get_members (object);

    for (GList *one = members; one; one = one->next) {
        const char *key = one->data;
        JsonNode *node = json_object_get_member (object, key);
        g_autofree char *name = g_strconcat (prefix, *prefix ? "." : "", key, NULL);
        if (JSON_NODE_HOLDS_OBJECT (node))
            flatten (options, name, json_node_get_object (node));
        else if (json_get_string (object, key))
            g_hash_table_replace (options, g_steal_pointer (&name),
                                  g_strdup (json_get_string (object, key)));
        else if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_BOOLEAN)
            g_hash_table_replace (options, g_steal_pointer (&name),
                                  g_strdup (json_node_get_boolean (node) ? "on" : "off"));
    }
}

static GHashTable *parse_any (const char *text, const char *implied)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = *text == '{' ? json_read_object (text, -1, &object, NULL) : NULL;

    if (!node)
        return parse_options (text, implied);
    GHashTable *options = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    flatten (options, "", object);
    return options;
}

static const char *option (GHashTable *options, const char *const *keys)
{
    const char *value = NULL;

    for (; *keys && !value; keys++)
        value = g_hash_table_lookup (options, *keys);
    return value;
}

#define OPTION(options, ...) option (options, (const char *const[]){ __VA_ARGS__, NULL })

static gboolean is_on (const char *value, gboolean fallback)
{
    return value ? g_str_equal (value, "on") || g_str_equal (value, "yes")
                       || g_str_equal (value, "true") || g_str_equal (value, "y")
                 : fallback;
}

/* Anything from `-chardev socket,...`: the keys of the option syntax, of its dotted form, and of
 * chardev-add's JSON. */
static CmdlineMonitor *monitor_from_socket (GHashTable *options, gboolean json)
{
    const char *path =
        OPTION (options, "path", "addr.path", "addr.data.path", "backend.data.addr.data.path");
    const char *host =
        OPTION (options, "host", "addr.host", "addr.data.host", "backend.data.addr.data.host");
    const char *port =
        OPTION (options, "port", "addr.port", "addr.data.port", "backend.data.addr.data.port");
    const char *fd =
        OPTION (options, "fd", "addr.str", "addr.data.str", "backend.data.addr.data.str");
    const char *server = OPTION (options, "server", "backend.data.server");
    const char *abstract = OPTION (options, "abstract", "backend.data.addr.data.abstract");
    char *end = NULL;

    if (!path && !port && !fd)
        return NULL;
    CmdlineMonitor *monitor = g_new0 (CmdlineMonitor, 1);
    monitor->fd = -1;
    monitor->client = !is_on (server, json);
    monitor->abstract = is_on (abstract, FALSE);
    if (path) {
        monitor->path = g_strdup (path);
    } else if (port) {
        gboolean any = !host || !*host || g_str_equal (host, "0.0.0.0");
        host = any ? "127.0.0.1" : g_str_equal (host, "::") ? "::1" : host;
        monitor->address = strchr (host, ':') ? g_strdup_printf ("[%s]:%s", host, port)
                                              : g_strdup_printf ("%s:%s", host, port);
    } else {
        long number = strtol (fd, &end, 10);
        monitor->fd =
            end != fd && *end == '\0' && number >= 0 && number < 1 << 20 ? (int) number : -1;
    }
    return monitor;
}

/* -qmp unix:PATH,server=on and -qmp tcp:HOST:PORT,server=on. The host may be [v6]. */
static CmdlineMonitor *monitor_from_legacy (const char *text)
{
    gboolean is_unix = g_str_has_prefix (text, "unix:");
    g_autoptr (GHashTable) options = NULL;

    if (!is_unix && !g_str_has_prefix (text, "tcp:"))
        return NULL;
    options = parse_options (strchr (text, ':') + 1, is_unix ? "path" : "where");
    const char *where = g_hash_table_lookup (options, "where");
    const char *colon = where ? strrchr (where, ':') : NULL;
    if (colon) {
        gboolean bracket = *where == '[' && colon > where + 1 && colon[-1] == ']';
        g_hash_table_replace (options, g_strdup ("port"), g_strdup (colon + 1));
        g_hash_table_replace (options, g_strdup ("host"),
                              g_strndup (where + bracket, colon - where - 2 * bracket));
    }
    return monitor_from_socket (options, FALSE);
}

typedef struct {
    Cmdline *cmdline;
    GHashTable *chardevs; /* id -> text of -chardev */
    GPtrArray *wanted;    /* char*: chardev ids that a QMP monitor uses */
} Parser;

static void take_monitor (Parser *parser, CmdlineMonitor *monitor)
{
    if (monitor)
        g_ptr_array_add (parser->cmdline->monitors, monitor);
}

static void take_chardev (Parser *parser, const char *text)
{
    g_autoptr (GHashTable) options = parse_any (text, "backend");
    const char *id = g_hash_table_lookup (options, "id");
    const char *backend = OPTION (options, "backend", "type", "backend.type");

    if (id && g_strcmp0 (backend, "socket") == 0)
        g_hash_table_replace (parser->chardevs, g_strdup (id), g_strdup (text));
}

/* QEMU's -mon is HMP unless it says mode=control; the storage daemon knows only QMP. */
static void take_mon (Parser *parser, const char *text)
{
    g_autoptr (GHashTable) options = parse_any (text, "chardev");
    const char *chardev = g_hash_table_lookup (options, "chardev");
    const char *mode = g_hash_table_lookup (options, "mode");

    if (!mode)
        mode = parser->cmdline->storage_daemon ? "control" : "readline";
    if (chardev && g_str_equal (mode, "control"))
        g_ptr_array_add (parser->wanted, g_strdup (chardev));
}

/* -object monitor-qmp,chardev=ID, which is to replace -mon. */
static void take_object (Parser *parser, const char *text)
{
    g_autoptr (GHashTable) options = parse_any (text, "qom-type");
    const char *type = g_hash_table_lookup (options, "qom-type"),
               *chardev = g_hash_table_lookup (options, "chardev");

    if (chardev && g_strcmp0 (type, "monitor-qmp") == 0)
        g_ptr_array_add (parser->wanted, g_strdup (chardev));
}

static void take_qmp (Parser *parser, const char *text)
{
    if (g_str_has_prefix (text, "chardev:"))
        g_ptr_array_add (parser->wanted, g_strdup (text + strlen ("chardev:")));
    else
        take_monitor (parser, monitor_from_legacy (text));
}

static void read_name (Parser *parser, const char *text)
{
    g_autoptr (GHashTable) options = parse_options (text, "guest");
    const char *name = g_hash_table_lookup (options, "guest");

    g_free (parser->cmdline->name);
    parser->cmdline->name = g_strdup (name);
}

static void read_uuid (Parser *parser, const char *text)
{
    g_free (parser->cmdline->uuid);
    parser->cmdline->uuid = g_uuid_string_is_valid (text) ? g_ascii_strdown (text, -1) : NULL;
}

static const struct {
    const char *name;
    void (*take) (Parser *parser, const char *text);
} options_known[] = {
    { "chardev", take_chardev }, { "mon", take_mon },        { "monitor", take_mon },
    { "qmp", take_qmp },         { "qmp-pretty", take_qmp }, { "object", take_object },
    { "name", read_name },       { "uuid", read_uuid },
};

/* -OPTION VALUE, --OPTION VALUE, --OPTION=VALUE. Returns how many arguments it used. `-monitor` of
 * QEMU itself is HMP. */
static guint take_argument (Parser *parser, const char *argument, const char *next)
{
    const char *text = argument + (argument[0] == '-') + (argument[0] == '-' && argument[1] == '-');

    for (guint i = 0; text != argument && i < G_N_ELEMENTS (options_known); i++) {
        gsize length = strlen (options_known[i].name);
        if (strncmp (text, options_known[i].name, length) != 0
            || (text[length] && text[length] != '='))
            continue;
        if (g_str_equal (options_known[i].name, "monitor") && !parser->cmdline->storage_daemon)
            return 1;
        const char *value = text[length] ? text + length + 1 : next;
        if (value)
            options_known[i].take (parser, value);
        return text[length] || !value ? 1 : 2;
    }
    return 1;
}

static gboolean is_qemu (const char *program, gboolean *ret_daemon)
{
    g_autofree char *base = g_path_get_basename (program);

    *ret_daemon = g_str_has_prefix (base, "qemu-storage-daemon");
    return *ret_daemon || g_str_has_prefix (base, "qemu-system-") || g_str_equal (base, "qemu-kvm")
           || g_str_equal (base, "kvm") || g_str_equal (base, "qemu");
}

static void resolve_chardevs (Parser *parser)
{
    for (guint i = 0; i < parser->wanted->len; i++) {
        const char *text = g_hash_table_lookup (parser->chardevs, parser->wanted->pdata[i]);
        g_autoptr (GHashTable) options = text ? parse_any (text, "backend") : NULL;
        if (options)
            take_monitor (parser, monitor_from_socket (options, *text == '{'));
    }
}

Cmdline *cmdline_parse (const char *text, gsize length)
{
    g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
    gboolean daemon;

    for (gsize at = 0; at < length;) {
        gsize size = strnlen (text + at, length - at);
        g_ptr_array_add (argv, g_strndup (text + at, size));
        at += size + 1;
    }
    if (argv->len == 0 || !is_qemu (argv->pdata[0], &daemon))
        return NULL;

    Cmdline *cmdline = g_new0 (Cmdline, 1);
    cmdline->program = g_strdup (argv->pdata[0]);
    cmdline->storage_daemon = daemon;
    cmdline->monitors = g_ptr_array_new_with_free_func ((GDestroyNotify) monitor_free);
    g_autoptr (GHashTable) chardevs =
        g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr (GPtrArray) wanted = g_ptr_array_new_with_free_func (g_free);
    Parser parser = { cmdline, chardevs, wanted };
    for (guint i = 1; i < argv->len;)
        i += take_argument (&parser, argv->pdata[i], i + 1 < argv->len ? argv->pdata[i + 1] : NULL);
    resolve_chardevs (&parser);
    return cmdline;
}
