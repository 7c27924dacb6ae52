/* <domainbackup> and <domaincheckpoint> from options, for those who do not want to write XML. The
 * library judges the document; here only the form of an option is judged. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "baksh.h"

enum { FILE_MAX = 4 * 1024 * 1024, SOCKET_PATH_MAX = 107 };

typedef struct {
    char *name;    /* as the user or the guest calls it */
    BakDisk *disk; /* NULL: the guest has none of this name; the library will say so */
    const char *target, *scratch, *onto;
    char *generated, *laid_on; /* target and onto in a directory */
    char *directory;           /* scratch that several disks name: with a slash at its end */
} Row;

/* An option that says something of disks. */
typedef struct {
    const char *option;
    gsize offset, generated;
    gboolean directories; /* DIR/ is for all */
} Column;

static void row_free (Row *row)
{
    g_free (row->name);
    g_free (row->generated);
    g_free (row->laid_on);
    g_free (row->directory);
    bak_disk_unref (row->disk);
    g_free (row);
}

static gboolean answers_to (BakDisk *disk, const char *name)
{
    for (guint i = 0; disk && i < bak_disk_get_n_names (disk); i++)
        if (g_str_equal (bak_disk_get_name (disk, i), name))
            return TRUE;
    return disk && g_str_equal (bak_disk_get_target (disk), name);
}

static Row *row_find (GPtrArray *rows, const char *name)
{
    for (guint i = 0; i < rows->len; i++) {
        Row *row = rows->pdata[i];
        if (g_str_equal (row->name, name) || answers_to (row->disk, name))
            return row;
    }
    return NULL;
}

static void row_add (GPtrArray *rows, const char *name, BakDisk *disk)
{
    Row *row = g_new0 (Row, 1);
    row->name = g_strdup (name);
    row->disk = bak_disk_ref (disk);
    g_ptr_array_add (rows, row);
}

char **request_selected_disks (BakDomain *domain, int *ret_status)
{
    BakError *error = NULL;
    BakDisk **disks = NULL;
    if (bak_domain_list_disks (domain, &disks, 0, &error) < 0) {
        *ret_status = fail (error);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new ();
    for (guint i = 0; disks[i]; i++)
        if (bak_disk_get_flags (disks[i]) & BAK_DISK_SELECTED)
            g_ptr_array_add (names, g_strdup (bak_disk_get_target (disks[i])));
    g_ptr_array_add (names, NULL);
    LIST_FREE (disks, bak_disk_unref);
    return (char **) g_ptr_array_free (names, FALSE);
}

/* The disks of the backup: those of --disk, else those that the guest's rules select. */
static GPtrArray *rows_new (const Args *args, BakDomain *domain, int *ret_status)
{
    BakError *error = NULL;
    BakDisk **disks = NULL;
    if (g_strv_contains (args_all (args, "disk"), "")) {
        *ret_status = usage (_("option --disk: a disk has a name, as domblklist shows it"));
        return NULL;
    }
    if (bak_domain_list_disks (domain, &disks, 0, &error) < 0) {
        *ret_status = fail (error);
        return NULL;
    }
    GPtrArray *rows = g_ptr_array_new_with_free_func ((GDestroyNotify) row_free);
    const char *const *names = args_all (args, "disk");
    for (guint i = 0; names[i]; i++) {
        BakDisk *disk = NULL;
        for (guint j = 0; !disk && disks[j]; j++)
            disk = answers_to (disks[j], names[i]) ? disks[j] : NULL;
        row_add (rows, names[i], disk);
    }
    for (guint j = 0; !*names && disks[j]; j++)
        if (bak_disk_get_flags (disks[j]) & BAK_DISK_SELECTED)
            row_add (rows, bak_disk_get_target (disks[j]), disks[j]);
    LIST_FREE (disks, bak_disk_unref);
    return rows;
}

static char *rows_describe (GPtrArray *rows)
{
    GString *text = g_string_new (NULL);
    for (guint i = 0; i < rows->len; i++)
        g_string_append_printf (text, "%s%s", i ? ", " : "", ((Row *) rows->pdata[i])->name);
    return g_string_free (text, FALSE);
}

/* TARGET=VALUE names a disk; a URI or an absolute path does not, whatever it contains. */
static const char *split_target (const char *text, char **ret_target)
{
    const char *equals = strchr (text, '=');
    if (!equals || *text == '/' || memchr (text, '/', equals - text)) {
        *ret_target = NULL;
        return text;
    }
    *ret_target = g_strndup (text, equals - text);
    return equals + 1;
}

static gboolean is_uri (const char *text)
{
    g_autofree char *scheme = g_uri_parse_scheme (text);
    return scheme != NULL;
}

static int path_check (const char *option, const char *path)
{
    if (*path == '/')
        return STATUS_DONE;
    return usage (
        _("option --%s: '%s' is not absolute; paths are those of the host that the guest runs on"),
        option, path);
}

/* Gives a value of --target, --scratch or --onto to the row it is for. */
static int row_assign (GPtrArray *rows, const char *option, gsize offset, const char *value)
{
    g_autofree char *target = NULL;
    const char *path = split_target (value, &target);
    Row *row = target ? row_find (rows, target) : rows->len == 1 ? rows->pdata[0] : NULL;
    g_autofree char *disks = rows_describe (rows);

    if (!row && target)
        return usage (_("option --%s: disk '%s' is not part of this backup (%s)"), option, target,
                      disks);
    if (!row)
        return usage (_("option --%s: the backup has %u disks (%s); expected TARGET=%s"), option,
                      rows->len, disks, path);
    if (!(g_str_equal (option, "target") && is_uri (path))) {
        int status = path_check (option, path);
        if (status != STATUS_DONE)
            return status;
    }
    const char **slot = G_STRUCT_MEMBER_P (row, offset);
    if (*slot)
        return usage (_("option --%s: disk '%s' has one already"), option, row->name);
    *slot = path;
    return STATUS_DONE;
}

static const char *suffix_of (const char *format)
{
    return format ? format : "qcow2";
}

/* What the increment that the options mean starts from, and what is known of its backup. */
typedef struct {
    const char *checkpoint; /* NULL: none */
    GHashTable *files;      /* target to file; NULL: not on record */
    gboolean here;          /* paths are those of this host */
} Previous;

static const char *recorded_of (const Previous *previous, const Row *row)
{
    const char *name = row->disk ? bak_disk_get_target (row->disk) : row->name;
    return previous->files ? g_hash_table_lookup (previous->files, name) : NULL;
}

static char *in_directory (const Row *row, const char *option, const char *dir, const char *format,
                           const Previous *previous, int *ret_status)
{
    if (g_str_equal (option, "onto"))
        return onto_find (dir, row->name, recorded_of (previous, row), previous->here, ret_status);
    return g_strdup_printf ("%s%s.%s", dir, row->name, suffix_of (format));
}

/* DIR/ of --target or --onto is for every disk that has no file of its own there. */
static int fill_directory (GPtrArray *rows, const Column *column, const char *dir,
                           const char *format, const Previous *previous)
{
    int status = path_check (column->option, dir);
    for (guint i = 0; status == STATUS_DONE && i < rows->len; i++) {
        Row *row = rows->pdata[i];
        const char **slot = G_STRUCT_MEMBER_P (row, column->offset);
        char **generated = G_STRUCT_MEMBER_P (row, column->generated);
        if (*slot)
            continue;
        if (strchr (row->name, '/'))
            return usage (_("option --%s: disk '%s' needs TARGET=FILE"), column->option,
                          row->name);
        *slot = *generated = in_directory (row, column->option, dir, format, previous, &status);
    }
    return status;
}

/* The files of the backup that made the checkpoint, for the disks that have none named. */
static int fill_onto (GPtrArray *rows, const Previous *previous)
{
    if (!previous->files)
        return fail_with (STATUS_FAILED,
                          _("no push that made checkpoint '%s' is on record: say with --onto "
                             "which files it wrote"),
                          previous->checkpoint);
    for (guint i = 0; i < rows->len; i++) {
        Row *row = rows->pdata[i];
        if (!row->onto && (row->laid_on = g_strdup (recorded_of (previous, row))))
            row->onto = row->laid_on;
    }
    return STATUS_DONE;
}

/* FALSE: ret_status says why; files are freed by the caller. */
static gboolean look_back (Previous *previous, const Args *args, BakDomain *domain,
                           const char *newest, gboolean pull, int *ret_status)
{
    previous->checkpoint = newest ? newest : args_text (args, "since");
    BakConnection *conn = bak_domain_get_connection (domain);
    char *text = conn ? bak_connection_get_uri (conn, NULL) : NULL;
    g_autoptr (GUri) uri = text ? g_uri_parse (text, G_URI_FLAGS_NON_DNS, NULL) : NULL;
    const char *host = uri ? g_uri_get_host (uri) : NULL;
    bak_free (text);
    previous->here = !host || !*host;
    if (previous->checkpoint && !pull && (newest || args_has (args, "onto")))
        previous->files = series_files (domain, previous->checkpoint, ret_status);
    return *ret_status == STATUS_DONE;
}

/* What two disks name for their scratch can only be a directory; which other paths are one is seen
 * where they are. */
static void mark_directories (GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++) {
        Row *row = rows->pdata[i];
        for (guint k = 0; row->scratch && !row->directory && k < rows->len; k++)
            if (k != i && g_strcmp0 (((Row *) rows->pdata[k])->scratch, row->scratch) == 0)
                row->directory = g_strconcat (row->scratch, "/", NULL);
    }
}

static int rows_fill (GPtrArray *rows, const Args *args, const Previous *previous)
{
    static const Column columns[] = {
        { "target", G_STRUCT_OFFSET (Row, target), G_STRUCT_OFFSET (Row, generated), TRUE },
        { "scratch", G_STRUCT_OFFSET (Row, scratch), 0, FALSE },
        { "onto", G_STRUCT_OFFSET (Row, onto), G_STRUCT_OFFSET (Row, laid_on), TRUE },
    };
    int status = STATUS_DONE;
    for (guint c = 0; status == STATUS_DONE && c < G_N_ELEMENTS (columns); c++) {
        const char *const *values = args_all (args, columns[c].option), *dir = NULL;
        for (guint i = 0; values[i]; i++) {
            g_autofree char *target = NULL;
            const char *path = split_target (values[i], &target);
            if (!columns[c].directories && !target)
                continue; /* --scratch DIR is for all */
            if (columns[c].directories && !target && g_str_has_suffix (path, "/")
                && !is_uri (path)) {
                dir = path;
                continue;
            }
            status = row_assign (rows, columns[c].option, columns[c].offset, values[i]);
            if (status != STATUS_DONE)
                return status;
        }
        if (dir)
            status = fill_directory (rows, &columns[c], dir, args_text (args, "format"), previous);
    }
    mark_directories (rows);
    return status;
}

/* text */

static void attribute (GString *xml, const char *name, const char *value)
{
    if (!value)
        return;
    g_autofree char *escaped = g_markup_printf_escaped (" %s='%s'", name, value);
    g_string_append (xml, escaped);
}

static void attribute_number (GString *xml, const char *name, guint64 value)
{
    if (value)
        g_string_append_printf (xml, " %s='%" G_GUINT64_FORMAT "'", name, value);
}

/* What may stand behind '?', by scheme. */
static const struct {
    const char *scheme, *key;
} parameters[] = {
    { "nbd", "socket" },   { "nbds", "socket" },     { "ssh", "host_key_check" },
    { "ssh", "agent" },    { "rbd", "conf" },        { "rbd", "secret" },
    { "iscsi", "secret" }, { "iscsi", "initiator" }, { "nfs", "uid" },
    { "nfs", "gid" },      { "rbd", "user" },
};

static int parameters_check (const char *scheme, GHashTable *query, const char *text)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init (&iter, query);
    while (g_hash_table_iter_next (&iter, &key, NULL)) {
        gboolean known = FALSE;
        for (guint i = 0; !known && i < G_N_ELEMENTS (parameters); i++)
            known =
                g_str_equal (parameters[i].scheme, scheme) && g_str_equal (parameters[i].key, key);
        if (!known)
            return usage (_("option --target: '%s': %s has no parameter '%s'"), text, scheme,
                          (const char *) key);
    }
    return STATUS_DONE;
}

/* iscsi://USER@HOST/IQN/1?secret=FILE&initiator=IQN, rbd:POOL/IMAGE?user=USER&secret=FILE */
static void append_auth (GString *xml, const char *scheme, const char *user, GHashTable *query)
{
    const char *named = g_hash_table_lookup (query, "user"),
               *secret = g_hash_table_lookup (query, "secret"),
               *initiator = g_hash_table_lookup (query, "initiator");

    if (secret || named || (user && !g_str_equal (scheme, "ssh"))) {
        g_string_append (xml, "<auth");
        attribute (xml, "username", named ? named : user);
        g_string_append (xml, ">");
        if (secret) {
            g_string_append (xml, "<secret");
            attribute (xml, "type", g_str_equal (scheme, "rbd") ? "ceph" : scheme);
            attribute (xml, "file", secret);
            g_string_append (xml, "/>");
        }
        g_string_append (xml, "</auth>");
    }
    if (initiator) {
        g_string_append (xml, "<initiator><iqn");
        attribute (xml, "name", initiator);
        g_string_append (xml, "/></initiator>");
    }
}

/* Who one is there, and who the server has to be: ssh://USER@HOST/PATH?host_key_check=sha256:HEX,
 * as QEMU spells it; rbd:POOL/IMAGE?conf=FILE. */
static void append_identity (GString *xml, const char *scheme, GUri *uri, GHashTable *query)
{
    const char *user = g_uri_get_userinfo (uri),
               *key = g_hash_table_lookup (query, "host_key_check"),
               *agent = g_hash_table_lookup (query, "agent"),
               *config = g_hash_table_lookup (query, "conf"),
               *uid = g_hash_table_lookup (query, "uid"), *gid = g_hash_table_lookup (query, "gid");

    if (g_str_equal (scheme, "ssh") && (user || agent)) {
        g_string_append (xml, "<identity");
        attribute (xml, "username", user);
        attribute (xml, "agentsock", agent);
        g_string_append (xml, "/>");
    }
    if (uid || gid) {
        g_string_append (xml, "<identity");
        attribute (xml, "user", uid);
        attribute (xml, "group", gid);
        g_string_append (xml, "/>");
    }
    if (key) {
        g_string_append (xml, "<knownHosts");
        attribute (xml, "fingerprint", key);
        g_string_append (xml, "/>");
    }
    if (config) {
        g_string_append (xml, "<config");
        attribute (xml, "file", config);
        g_string_append (xml, "/>");
    }
    append_auth (xml, scheme, user, query);
}

/* --encrypt luks:FILE */
static void append_encryption (GString *xml, const Args *args)
{
    const char *text = args_text (args, "encrypt");

    if (!text)
        return;
    g_string_append (xml, "<encryption format='luks'><secret type='passphrase'");
    attribute (xml, "file", text + strlen ("luks:"));
    g_string_append (xml, "/></encryption>");
}

static int encryption_check (const Args *args)
{
    const char *text = args_text (args, "encrypt");

    if (!text || (g_str_has_prefix (text, "luks:/") && text[strlen ("luks:/")]))
        return STATUS_DONE;
    return usage (_("option --encrypt: expected luks:FILE with the absolute path of a file that "
                     "holds the pass phrase, not '%s'"),
                  text);
}

/* nbd://HOST[:PORT]/NAME, nbd+unix:///NAME?socket=PATH, and the same of other protocols */
static int append_network_target (GString *xml, const char *text, const Args *args)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_NONE, &error);
    if (!uri)
        return usage (_("option --target: '%s': %s"), text, error->message);
    g_autoptr (GHashTable) query =
        g_uri_get_query (uri)
            ? g_uri_parse_params (g_uri_get_query (uri), -1, "&", G_URI_PARAMS_NONE, &error)
            : g_hash_table_new (g_str_hash, g_str_equal);
    if (!query)
        return usage (_("option --target: '%s': %s"), text, error->message);
    const char *socket = g_hash_table_lookup (query, "socket");
    g_auto (GStrv) scheme = g_strsplit (g_uri_get_scheme (uri), "+", 2);
    gboolean tls = g_str_equal (scheme[0], "nbds");
    if (parameters_check (scheme[0], query, text) != STATUS_DONE)
        return STATUS_USAGE;
    const char *name = g_uri_get_path (uri);
    g_string_append (xml, "      <target");
    gboolean whole_path = g_str_equal (scheme[0], "ssh") || g_str_equal (scheme[0], "nfs");
    attribute (xml, "protocol", tls ? "nbd" : scheme[0]);
    attribute (xml, "name", *name == '/' && !whole_path ? name + 1 : name);
    attribute (xml, "tls", tls ? "yes" : NULL);
    g_string_append (xml, ">");
    if (socket || g_uri_get_host (uri)) { /* rbd finds its servers by its configuration */
        g_string_append (xml, "<host");
        attribute (xml, "transport", socket ? "unix" : NULL);
        attribute (xml, "socket", socket);
        attribute (xml, "name", socket ? NULL : g_uri_get_host (uri));
        attribute_number (xml, "port", socket ? 0 : MAX (0, g_uri_get_port (uri)));
        g_string_append (xml, "/>");
    }
    append_identity (xml, scheme[0], uri, query);
    append_encryption (xml, args);
    g_string_append (xml, "</target>\n");
    return STATUS_DONE;
}

/* A name alone decides, as the guest may be on another host. */
static gboolean is_device (const char *path)
{
    return g_str_has_prefix (path, "/dev/") && !g_str_has_prefix (path, "/dev/shm/");
}

static int append_target (GString *xml, const char *text, const Args *args)
{
    gboolean encrypted = args_has (args, "encrypt");

    if (is_uri (text))
        return append_network_target (xml, text, args);
    g_string_append (xml, "      <target");
    attribute (xml, is_device (text) ? "dev" : "file", text);
    g_string_append (xml, encrypted ? ">" : "/>\n");
    append_encryption (xml, args);
    if (encrypted)
        g_string_append (xml, "</target>\n");
    return STATUS_DONE;
}

/* What qemu-img calls by the same names, and what it can that a backup does not do. */
static const struct {
    const char *name;
    const char *refused; /* NULL: an attribute of <driver> */
} format_options[] = {
    { "compat", NULL },
    { "cluster_size", NULL },
    { "extended_l2", NULL },
    { "preallocation", NULL },
    { "subformat", NULL },
    { "lazy_refcounts",
      N_("an image that was not closed well would have to be repaired before it is read") },
    { "data_file", N_("the backup would be two files, of which one says nothing of the other's "
                       "state; use raw or qcow2 alone") },
    { "backing_file", N_("--onto FILE lays an increment on the previous backup") },
    { "compression_type", N_("--compression says it") },
    { "force_size", N_("a vpc always has the disk's size") },
};

static int append_format_option (GString *xml, const char *text)
{
    g_autofree char *name = g_strndup (text, strcspn (text, "="));
    const char *value = strchr (text, '=');

    for (guint i = 0; value && value[1] && i < G_N_ELEMENTS (format_options); i++) {
        if (!g_str_equal (name, format_options[i].name))
            continue;
        if (format_options[i].refused)
            return usage (_("option --format-options: %s is not taken: %s"), name,
                          _(format_options[i].refused));
        attribute (xml, name,
                   !g_str_equal (name, "extended_l2") ? value + 1
                   : g_str_equal (value + 1, "on")    ? "yes"
                   : g_str_equal (value + 1, "off")   ? "no"
                                                      : value + 1);
        return STATUS_DONE;
    }
    return usage (_("option --format-options: expected NAME=VALUE with one of compat, "
                     "cluster_size, extended_l2, preallocation, subformat, not '%s'"),
                  text);
}

static int append_format_options (GString *xml, const char *text)
{
    g_auto (GStrv) words = g_strsplit (text ? text : "", ",", -1);
    int status = STATUS_DONE;

    for (guint i = 0; status == STATUS_DONE && words[i]; i++)
        status = append_format_option (xml, words[i]);
    return status;
}

static int append_disk (GString *xml, const Row *row, const Args *args, gboolean next)
{
    const char *place = row->target ? row->target : row->scratch, *sync = args_text (args, "sync");
    int status = STATUS_DONE;
    g_string_append (xml, "    <disk");
    attribute (xml, "name", row->name);
    if (place)
        attribute (xml, "type", is_uri (place) ? "network" : is_device (place) ? "block" : "file");
    attribute (xml, "sync", sync ? sync : next ? "incremental" : NULL);
    g_string_append (xml, ">\n");
    if (args_has (args, "format") || args_has (args, "compression")
        || args_has (args, "format-options")) {
        g_string_append (xml, "      <driver");
        attribute (xml, "type", args_text (args, "format"));
        attribute (xml, "compression", args_text (args, "compression"));
        status = append_format_options (xml, args_text (args, "format-options"));
        g_string_append (xml, "/>\n");
    }
    if (status != STATUS_DONE)
        return status;
    if (row->target)
        status = append_target (xml, row->target, args);
    if (row->scratch) {
        g_string_append (xml, "      <scratch");
        attribute (xml, is_device (row->scratch) ? "dev" : "file",
                   row->directory ? row->directory : row->scratch);
        g_string_append (xml, "/>\n");
    }
    if (row->onto) {
        g_string_append (xml, "      <backing");
        attribute (xml, "file", row->onto);
        g_string_append (xml, "/>\n");
    }
    g_string_append (xml, "    </disk>\n");
    return status;
}

/* newest: the checkpoint of the series that an increment starts from, and a push is laid on; NULL:
 * none. */
static int append_disks (GString *xml, const Args *args, BakDomain *domain, const char *newest,
                         gboolean pull)
{
    int status = STATUS_DONE;
    g_autoptr (GPtrArray) rows = rows_new (args, domain, &status);
    if (!rows)
        return status;
    if (!rows->len)
        return fail_with (
            STATUS_FAILED,
            _("'%s' has no disk that a backup takes by default; name some with --disk"),
            bak_domain_get_name (domain));
    Previous previous = { 0 };
    if (look_back (&previous, args, domain, newest, pull, &status))
        status = rows_fill (rows, args, &previous);
    if (status == STATUS_DONE && newest && !pull && !args_has (args, "onto"))
        status = fill_onto (rows, &previous);
    g_clear_pointer (&previous.files, g_hash_table_unref);
    g_string_append (xml, "  <disks>\n");
    for (guint i = 0; status == STATUS_DONE && i < rows->len; i++)
        status = append_disk (xml, rows->pdata[i], args, newest != NULL);
    g_string_append (xml, "  </disks>\n");
    return status;
}

/* tcp:HOST[:PORT], tcp:[HOST]:PORT, unix:PATH */
static int append_address (GString *xml, const char *text)
{
    if (g_str_has_prefix (text, "unix:")) {
        const char *path = text + strlen ("unix:");
        if (strlen (path) > SOCKET_PATH_MAX)
            return usage (
                _("option --server: a socket path has at most %d bytes, this one has %u"),
                SOCKET_PATH_MAX, (guint) strlen (path));
        attribute (xml, "transport", "unix");
        attribute (xml, "socket", path);
        return path_check ("server", path);
    }
    if (!g_str_has_prefix (text, "tcp:") || !text[4])
        return usage (_("option --server: '%s' is neither unix:PATH nor tcp:HOST:PORT"), text);
    const char *host = text + strlen ("tcp:"), *bracket = *host == '[' ? strchr (host, ']') : NULL;
    const char *colon = bracket ? (bracket[1] == ':' ? bracket + 1 : NULL) : strrchr (host, ':');
    const char *name_end = colon ? colon : host + strlen (host);
    g_autofree char *name =
        bracket ? g_strndup (host + 1, bracket - host - 1) : g_strndup (host, name_end - host);
    guint64 port = 0;
    if (!*name)
        return usage (_("option --server: '%s' names no host to listen on"), text);
    if (colon && !g_ascii_string_to_unsigned (colon + 1, 10, 1, 65535, &port, NULL))
        return usage (_("option --server: port '%s' is not a number from 1 to 65535"), colon + 1);
    attribute (xml, "transport", "tcp");
    attribute (xml, "name", name);
    attribute_number (xml, "port", port);
    return STATUS_DONE;
}

/* Options that only one of the modes knows. */
static int mode_check (const Args *args, gboolean pull)
{
    static const char *const of_push[] = { "target",      "encrypt", "format", "format-options",
                                           "compression", "onto",    NULL };
    static const char *const of_pull[] = { "server",         "tls",          "tls-dir", "tls-psk",
                                           "allow-insecure", "idle-timeout", NULL };
    const char *const *strange = pull ? of_push : of_pull;
    for (guint i = 0; strange[i]; i++)
        if (args_has (args, strange[i]))
            return usage (_("option --%s is for --mode %s"), strange[i], pull ? "push" : "pull");
    int status = encryption_check (args);
    if (status != STATUS_DONE)
        return status;
    const char *sync = args_text (args, "sync");
    if (sync && args_has (args, "since") && !g_str_equal (sync, "incremental"))
        return usage (_("option --since is for --sync incremental, not %s"), sync);
    return STATUS_DONE;
}

static int append_server (GString *xml, const Args *args)
{
    const char *server = args_text (args, "server");
    static const char *const directories[] = { "tls-dir", "tls-psk" };
    int status = STATUS_DONE;
    g_string_append (xml, "  <server");
    if (server)
        status = append_address (xml, server);
    else
        attribute (xml, "transport", "auto");
    attribute (xml, "tls",
               args_has (args, "tls") || args_has (args, "tls-dir") || args_has (args, "tls-psk")
                   ? "yes"
                   : NULL);
    for (guint i = 0; status == STATUS_DONE && i < G_N_ELEMENTS (directories); i++)
        if (args_text (args, directories[i]))
            status = path_check (directories[i], args_text (args, directories[i]));
    attribute (xml, "tls-dir", args_text (args, "tls-dir"));
    attribute (xml, "tls-psk", args_text (args, "tls-psk"));
    attribute (xml, "allow-insecure", args_has (args, "allow-insecure") ? "yes" : NULL);
    attribute_number (xml, "idle-timeout",
                      args_microseconds (args, "idle-timeout") / G_USEC_PER_SEC);
    g_string_append (xml, "/>\n");
    return status;
}

/* The plain value of --scratch, which is a directory for all; NULL: none. */
static const char *scratch_dir (const Args *args)
{
    const char *const *values = args_all (args, "scratch");
    for (guint i = 0; values[i]; i++) {
        g_autofree char *target = NULL;
        const char *path = split_target (values[i], &target);
        if (!target)
            return path;
    }
    return NULL;
}

static int append_guest (GString *xml, const Args *args)
{
    const char *dir = scratch_dir (args);
    if (!dir && !args_has (args, "protect") && !args_has (args, "scratch-limit"))
        return STATUS_DONE;
    g_string_append (xml, "  <guest");
    attribute (xml, "protect", args_text (args, "protect"));
    attribute (xml, "scratch", dir);
    attribute_number (xml, "scratch-limit", args_size (args, "scratch-limit"));
    g_string_append (xml, "/>\n");
    return dir ? path_check ("scratch", dir) : STATUS_DONE;
}

static gboolean has_disk_options (const Args *args)
{
    static const char *const names[] = { "disk",           "encrypt",     "target", "format",
                                         "format-options", "compression", "sync",   "onto" };
    for (guint i = 0; i < G_N_ELEMENTS (names); i++)
        if (args_has (args, names[i]))
            return TRUE;
    const char *const *scratch = args_all (args, "scratch");
    for (guint i = 0; scratch[i]; i++) {
        g_autofree char *target = NULL;
        split_target (scratch[i], &target);
        if (target)
            return TRUE;
    }
    return FALSE;
}

char *request_backup_xml (const Args *args, BakDomain *domain, int *ret_status)
{
    g_autoptr (GString) xml = g_string_new ("<domainbackup");
    const char *mode = args_text (args, "mode");
    gboolean pull = mode ? g_str_equal (mode, "pull") : args_has (args, "server");
    *ret_status = mode_check (args, pull);
    if (*ret_status != STATUS_DONE)
        return NULL;
    const char *series = args_text (args, "series");
    g_autofree char *newest = series ? series_newest (domain, series, ret_status) : NULL;
    if (*ret_status != STATUS_DONE)
        return NULL;
    attribute (xml, "mode", pull ? "pull" : "push");
    attribute (xml, "fallback", args_text (args, "fallback"));
    attribute (xml, "series", series);
    attribute (xml, "instant", args_text (args, "instant"));
    g_string_append (xml, ">\n");
    if (args_has (args, "since")) {
        g_autofree char *line = g_markup_printf_escaped ("  <incremental>%s</incremental>\n",
                                                         args_text (args, "since"));
        g_string_append (xml, line);
    }
    if (pull)
        *ret_status = append_server (xml, args);
    if (*ret_status == STATUS_DONE && (newest || has_disk_options (args)))
        *ret_status = append_disks (xml, args, domain, newest, pull);
    if (*ret_status == STATUS_DONE && args_has (args, "limit"))
        g_string_append_printf (xml, "  <limit bytes_per_sec='%" G_GUINT64_FORMAT "'/>\n",
                                args_size (args, "limit"));
    if (*ret_status == STATUS_DONE)
        *ret_status = append_guest (xml, args);
    g_string_append (xml, "</domainbackup>\n");
    return *ret_status == STATUS_DONE ? g_string_free (g_steal_pointer (&xml), FALSE) : NULL;
}

char *request_checkpoint_xml (const char *name, const char *description, const char *const *disks,
                              gboolean memory)
{
    GString *xml = g_string_new ("<domaincheckpoint>\n");
    const struct {
        const char *element, *text;
    } children[] = { { "name", name }, { "description", description } };
    for (guint i = 0; i < G_N_ELEMENTS (children); i++)
        if (children[i].text) {
            g_autofree char *line = g_markup_printf_escaped ("  <%s>%s</%s>\n", children[i].element,
                                                             children[i].text, children[i].element);
            g_string_append (xml, line);
        }
    if (*disks)
        g_string_append (xml, "  <disks>\n");
    for (guint i = 0; disks[i]; i++) {
        g_string_append (xml, "    <disk");
        attribute (xml, "name", disks[i]);
        attribute (xml, "persistent", memory ? "no" : NULL);
        g_string_append (xml, "/>\n");
    }
    if (*disks)
        g_string_append (xml, "  </disks>\n");
    g_string_append (xml, "</domaincheckpoint>\n");
    return g_string_free (xml, FALSE);
}

/* Read by the client, whoever does the work: a file of a person's, of limited size. */
const char *read_file (const char *path, char **ret_text)
{
    FILE *file = fopen (path, "re");
    if (!file)
        return g_strerror (errno);
    g_autofree char *text = g_malloc (FILE_MAX + 2);
    gsize length = fread (text, 1, FILE_MAX + 1, file);
    int failed = ferror (file) ? errno : 0;
    fclose (file);
    text[length] = '\0';
    if (failed)
        return g_strerror (failed);
    if (length > FILE_MAX)
        return _("the file is larger than 4 MiB");
    if (length == 0)
        return _("the file is empty");
    if (strlen (text) != length || !g_utf8_validate (text, length, NULL))
        return _("the file is not UTF-8 text");
    *ret_text = g_strdup (text);
    return NULL;
}
