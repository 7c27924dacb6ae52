/* <domainbackup> and <domaincheckpoint> from options, for those who do not want to write XML. The library judges the
 * document; here only the form of an option is judged. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "baksh.h"

enum { FILE_MAX = 4 * 1024 * 1024, SOCKET_PATH_MAX = 107 };

typedef struct {
    char *name;                 /* as the user or the guest calls it */
    BakDisk *disk;              /* NULL: the guest has none of this name; the library will say so */
    const char *target, *scratch, *onto;
    char *generated;            /* target in a directory */
    char *directory;            /* scratch that several disks name: with a slash at its end */
} Row;

static void row_free (Row *row)
{
    g_free (row->name);
    g_free (row->generated);
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
    return usage (_("option --%s: '%s' is not absolute; paths are those of the host that the guest runs on"), option, path);
}

/* Gives a value of --target, --scratch or --onto to the row it is for. */
static int row_assign (GPtrArray *rows, const char *option, gsize offset, const char *value)
{
    g_autofree char *target = NULL;
    const char *path = split_target (value, &target);
    Row *row = target ? row_find (rows, target) : rows->len == 1 ? rows->pdata[0] : NULL;
    g_autofree char *disks = rows_describe (rows);

    if (!row && target)
        return usage (_("option --%s: disk '%s' is not part of this backup (%s)"), option, target, disks);
    if (!row)
        return usage (_("option --%s: the backup has %u disks (%s); expected TARGET=%s"), option, rows->len, disks, path);
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

/* --target DIR/ puts every disk that has no target of its own into that directory. */
static int fill_directory (GPtrArray *rows, const char *dir, const char *format)
{
    int status = path_check ("target", dir);
    for (guint i = 0; status == STATUS_DONE && i < rows->len; i++) {
        Row *row = rows->pdata[i];
        if (row->target)
            continue;
        if (strchr (row->name, '/'))
            return usage (_("option --target: disk '%s' needs TARGET=FILE"), row->name);
        row->generated = g_strdup_printf ("%s%s.%s", dir, row->name, suffix_of (format));
        row->target = row->generated;
    }
    return status;
}

/* What two disks name for their scratch can only be a directory; which other paths are one is seen where they are. */
static void mark_directories (GPtrArray *rows)
{
    for (guint i = 0; i < rows->len; i++) {
        Row *row = rows->pdata[i];
        for (guint k = 0; row->scratch && !row->directory && k < rows->len; k++)
            if (k != i && g_strcmp0 (((Row *) rows->pdata[k])->scratch, row->scratch) == 0)
                row->directory = g_strconcat (row->scratch, "/", NULL);
    }
}

static int rows_fill (GPtrArray *rows, const Args *args)
{
    const struct { const char *option; gsize offset; } columns[] = {
        { "target", G_STRUCT_OFFSET (Row, target) }, { "scratch", G_STRUCT_OFFSET (Row, scratch) }, { "onto", G_STRUCT_OFFSET (Row, onto) },
    };
    const char *dir = NULL;
    for (guint c = 0; c < G_N_ELEMENTS (columns); c++) {
        const char *const *values = args_all (args, columns[c].option);
        for (guint i = 0; values[i]; i++) {
            g_autofree char *target = NULL;
            const char *path = split_target (values[i], &target);
            if (c == 1 && !target)
                continue;       /* --scratch DIR is for all */
            if (c == 0 && !target && g_str_has_suffix (path, "/") && !is_uri (path)) {
                dir = path;
                continue;
            }
            int status = row_assign (rows, columns[c].option, columns[c].offset, values[i]);
            if (status != STATUS_DONE)
                return status;
        }
    }
    mark_directories (rows);
    return dir ? fill_directory (rows, dir, args_text (args, "format")) : STATUS_DONE;
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

/* nbd://HOST[:PORT]/NAME, nbd+unix:///NAME?socket=PATH, and the same of other protocols */
static int append_network_target (GString *xml, const char *text)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_NONE, &error);
    if (!uri)
        return usage (_("option --target: '%s': %s"), text, error->message);
    g_autoptr (GHashTable) query = g_uri_get_query (uri) ? g_uri_parse_params (g_uri_get_query (uri), -1, "&", G_URI_PARAMS_NONE, &error)
                                                         : g_hash_table_new (g_str_hash, g_str_equal);
    if (!query)
        return usage (_("option --target: '%s': %s"), text, error->message);
    const char *socket = g_hash_table_lookup (query, "socket");
    g_auto (GStrv) scheme = g_strsplit (g_uri_get_scheme (uri), "+", 2);
    gboolean tls = g_str_equal (scheme[0], "nbds");
    const char *name = g_uri_get_path (uri);
    g_string_append (xml, "      <target");
    attribute (xml, "protocol", tls ? "nbd" : scheme[0]);
    attribute (xml, "name", *name == '/' ? name + 1 : name);
    attribute (xml, "tls", tls ? "yes" : NULL);
    g_string_append (xml, "><host");
    if (socket) {
        attribute (xml, "transport", "unix");
        attribute (xml, "socket", socket);
    } else {
        attribute (xml, "name", g_uri_get_host (uri));
        attribute_number (xml, "port", MAX (0, g_uri_get_port (uri)));
    }
    g_string_append (xml, "/></target>\n");
    return STATUS_DONE;
}

/* A name alone decides, as the guest may be on another host. */
static gboolean is_device (const char *path)
{
    return g_str_has_prefix (path, "/dev/") && !g_str_has_prefix (path, "/dev/shm/");
}

static int append_target (GString *xml, const char *text)
{
    if (is_uri (text))
        return append_network_target (xml, text);
    g_string_append (xml, "      <target");
    attribute (xml, is_device (text) ? "dev" : "file", text);
    g_string_append (xml, "/>\n");
    return STATUS_DONE;
}

static int append_disk (GString *xml, const Row *row, const Args *args)
{
    const char *place = row->target ? row->target : row->scratch;
    int status = STATUS_DONE;
    g_string_append (xml, "    <disk");
    attribute (xml, "name", row->name);
    if (place)
        attribute (xml, "type", is_uri (place) ? "network" : is_device (place) ? "block" : "file");
    attribute (xml, "sync", args_text (args, "sync"));
    g_string_append (xml, ">\n");
    if (args_has (args, "format") || args_has (args, "compression")) {
        g_string_append (xml, "      <driver");
        attribute (xml, "type", args_text (args, "format"));
        attribute (xml, "compression", args_text (args, "compression"));
        g_string_append (xml, "/>\n");
    }
    if (row->target)
        status = append_target (xml, row->target);
    if (row->scratch) {
        g_string_append (xml, "      <scratch");
        attribute (xml, is_device (row->scratch) ? "dev" : "file", row->directory ? row->directory : row->scratch);
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

static int append_disks (GString *xml, const Args *args, BakDomain *domain)
{
    int status = STATUS_DONE;
    g_autoptr (GPtrArray) rows = rows_new (args, domain, &status);
    if (!rows)
        return status;
    if (!rows->len)
        return fail_with (STATUS_FAILED, _("'%s' has no disk that a backup takes by default; name some with --disk"), bak_domain_get_name (domain));
    status = rows_fill (rows, args);
    g_string_append (xml, "  <disks>\n");
    for (guint i = 0; status == STATUS_DONE && i < rows->len; i++)
        status = append_disk (xml, rows->pdata[i], args);
    g_string_append (xml, "  </disks>\n");
    return status;
}

/* tcp:HOST[:PORT], tcp:[HOST]:PORT, unix:PATH */
static int append_address (GString *xml, const char *text)
{
    if (g_str_has_prefix (text, "unix:")) {
        const char *path = text + strlen ("unix:");
        if (strlen (path) > SOCKET_PATH_MAX)
            return usage (_("option --server: a socket path has at most %d bytes, this one has %u"), SOCKET_PATH_MAX, (guint) strlen (path));
        attribute (xml, "transport", "unix");
        attribute (xml, "socket", path);
        return path_check ("server", path);
    }
    if (!g_str_has_prefix (text, "tcp:") || !text[4])
        return usage (_("option --server: '%s' is neither unix:PATH nor tcp:HOST:PORT"), text);
    const char *host = text + strlen ("tcp:"), *bracket = *host == '[' ? strchr (host, ']') : NULL;
    const char *colon = bracket ? (bracket[1] == ':' ? bracket + 1 : NULL) : strrchr (host, ':');
    g_autofree char *name = bracket ? g_strndup (host + 1, bracket - host - 1) : colon ? g_strndup (host, colon - host) : g_strdup (host);
    guint64 port = 0;
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
    static const char *const of_push[] = { "target", "format", "compression", "onto", NULL };
    static const char *const of_pull[] = { "server", "tls", "tls-dir", "tls-psk", "allow-insecure", "idle-timeout", NULL };
    const char *const *strange = pull ? of_push : of_pull;
    for (guint i = 0; strange[i]; i++)
        if (args_has (args, strange[i]))
            return usage (_("option --%s is for --mode %s"), strange[i], pull ? "push" : "pull");
    const char *sync = args_text (args, "sync");
    if (sync && args_has (args, "since") && !g_str_equal (sync, "incremental"))
        return usage (_("option --since is for --sync incremental, not %s"), sync);
    return STATUS_DONE;
}

static int append_server (GString *xml, const Args *args)
{
    const char *server = args_text (args, "server");
    int status = STATUS_DONE;
    g_string_append (xml, "  <server");
    if (server)
        status = append_address (xml, server);
    else
        attribute (xml, "transport", "auto");
    attribute (xml, "tls", args_has (args, "tls") || args_has (args, "tls-dir") || args_has (args, "tls-psk") ? "yes" : NULL);
    attribute (xml, "tls-dir", args_text (args, "tls-dir"));
    attribute (xml, "tls-psk", args_text (args, "tls-psk"));
    attribute (xml, "allow-insecure", args_has (args, "allow-insecure") ? "yes" : NULL);
    attribute_number (xml, "idle-timeout", args_microseconds (args, "idle-timeout") / G_USEC_PER_SEC);
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
    static const char *const names[] = { "disk", "target", "format", "compression", "sync", "onto" };
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
    attribute (xml, "mode", pull ? "pull" : "push");
    attribute (xml, "fallback", args_text (args, "fallback"));
    g_string_append (xml, ">\n");
    if (args_has (args, "since")) {
        g_autofree char *line = g_markup_printf_escaped ("  <incremental>%s</incremental>\n", args_text (args, "since"));
        g_string_append (xml, line);
    }
    if (pull)
        *ret_status = append_server (xml, args);
    if (*ret_status == STATUS_DONE && has_disk_options (args))
        *ret_status = append_disks (xml, args, domain);
    if (*ret_status == STATUS_DONE && args_has (args, "limit"))
        g_string_append_printf (xml, "  <limit bytes_per_sec='%" G_GUINT64_FORMAT "'/>\n", args_size (args, "limit"));
    if (*ret_status == STATUS_DONE)
        *ret_status = append_guest (xml, args);
    g_string_append (xml, "</domainbackup>\n");
    return *ret_status == STATUS_DONE ? g_string_free (g_steal_pointer (&xml), FALSE) : NULL;
}

char *request_checkpoint_xml (const char *name, const char *description, const char *const *disks, gboolean memory)
{
    GString *xml = g_string_new ("<domaincheckpoint>\n");
    const struct { const char *element, *text; } children[] = { { "name", name }, { "description", description } };
    for (guint i = 0; i < G_N_ELEMENTS (children); i++)
        if (children[i].text) {
            g_autofree char *line = g_markup_printf_escaped ("  <%s>%s</%s>\n", children[i].element, children[i].text, children[i].element);
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
