/* Attach, detach, list, lookup. Everything here works on files and on short connections; no guest's thread is needed but to
 * detach. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/attach.h"
#include "driver/qemu/image.h"
#include "driver/qemu/info.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/run.h"
#include "util/files.h"
#include "util/json.h"

enum { DEFINITION_MAX = 1024 * 1024, ATTACH_VERSION = 1, LIST_WAIT_MS = 400, ASK_TIMEOUT_MS = 1000, DETACH_WAIT_MS = 4000 };

/* Definitions on disk */

static char *guests_dir (const char *state_dir)
{
    return g_build_filename (state_dir, "guests", NULL);
}

static char *guest_dir (const char *state_dir, const char *name)
{
    return g_build_filename (state_dir, "guests", name, NULL);
}

static int compare_strings (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

GPtrArray *attach_names (const char *state_dir)
{
    g_autofree char *path = guests_dir (state_dir);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
    const char *name;

    while (entries && (name = g_dir_read_name (entries))) {
        g_autofree char *file = g_build_filename (path, name, "guest.json", NULL);
        if (guest_name_check (name, NULL) && g_file_test (file, G_FILE_TEST_IS_REGULAR))
            g_ptr_array_add (names, g_strdup (name));
    }
    g_ptr_array_sort (names, compare_strings);
    return names;
}

static gboolean no_domain (const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 128);
    return error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest '%s' is attached"), shown);
}

GuestDef *attach_load (const char *state_dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename (state_dir, "guests", name, "guest.json", NULL);
    g_autofree char *text = NULL;
    g_autoptr (GuestDef) def = NULL;

    if (!guest_name_check (name, NULL) || !g_file_test (path, G_FILE_TEST_EXISTS)) {
        no_domain (name, error);
        return NULL;
    }
    if (!files_read (path, DEFINITION_MAX, &text, NULL, error))
        return NULL;
    g_autoptr (GError) why = NULL;
    if (!(def = guest_def_parse (text, &why))) {
        error_set (error, error_code (why), _("guest '%s': '%s': %s; restore it, or forget the guest and all that is recorded of it ('detach %s') and attach it again"),
                   name, path, why->message, name);
        return NULL;
    }
    if (g_strcmp0 (def->name, name) != 0) {
        error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it does not define guest '%s'"), path, name);
        return NULL;
    }
    return g_steal_pointer (&def);
}

/* All that can be read; a damaged one hides only itself. */
static GPtrArray *load_all (const char *state_dir)
{
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    GPtrArray *defs = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_def_free);

    for (guint i = 0; i < names->len; i++) {
        g_autoptr (GError) why = NULL;
        GuestDef *def = attach_load (state_dir, names->pdata[i], &why);
        if (def)
            g_ptr_array_add (defs, def);
        else
            g_message ("%s", why->message);
    }
    return defs;
}

static JsonNode *read_findings (const char *dir, JsonObject **ret_object)
{
    g_autofree char *path = g_build_filename (dir, "attach.json", NULL);
    g_autofree char *text = NULL;
    gsize length = 0;

    return files_read (path, DEFINITION_MAX, &text, &length, NULL) ? json_read_object (text, length, ret_object, NULL) : NULL;
}

int attach_number (const char *dir)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);
    gint64 number = json_get_int (object, "number", 0);

    return number > 0 && number <= G_MAXINT ? (int) number : 0;
}

char *attach_image_format (const char *dir, const char *target)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);
    const char *format = json_get_string (json_get_object (object, "formats"), target);

    return image_format_known (format) ? g_strdup (format) : NULL;
}

static char *format_findings (int number, const GuestDef *def, const char *const *formats)
{
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    JsonObject *object = json_object_new (), *table = json_object_new ();
    g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
    g_autofree char *when = g_date_time_format (now, "%Y-%m-%dT%H:%M:%SZ");

    json_node_take_object (node, object);
    json_object_set_int_member (object, "version", ATTACH_VERSION);
    json_object_set_int_member (object, "number", number);
    json_object_set_string_member (object, "attached", when);
    for (guint i = 0; i < def->images->len; i++)
        json_object_set_string_member (table, ((GuestDiskDef *) def->images->pdata[i])->target, formats[i]);
    json_object_set_object_member (object, "formats", table);
    return json_write (node);
}

/* A number that no guest of this state directory has had. The caller holds the state lock. */
static gboolean next_number (const char *state_dir, int *ret_number, GError **error)
{
    g_autofree char *path = g_build_filename (state_dir, "guests", ".number", NULL);
    g_autofree char *text = NULL;
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    gint64 last = 0;

    if (files_read (path, 64, &text, NULL, NULL))
        last = g_ascii_strtoll (text, NULL, 10);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *dir = guest_dir (state_dir, names->pdata[i]);
        last = MAX (last, attach_number (dir));
    }
    *ret_number = last >= 0 && last < G_MAXINT ? last + 1 : 1;
    g_autofree char *next = g_strdup_printf ("%d\n", *ret_number);
    return files_write_atomic (path, next, -1, 0600, error);
}

/* What an attach or detach that was killed left. The caller holds the state lock, so none of them is at work. */
static void remove_leftovers (const char *state_dir)
{
    g_autofree char *path = guests_dir (state_dir);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name (entries)))
        if (g_str_has_prefix (name, ".new-") || g_str_has_prefix (name, ".gone-") || g_str_has_prefix (name, ".number.")) {
            g_autofree char *leftover = g_build_filename (path, name, NULL);
            files_remove_tree (leftover);
        }
}

static int lock_state (const char *state_dir, GError **error)
{
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *path = g_build_filename (state_dir, "attach.lock", NULL);

    if (!files_make_dir (guests, 0700, error))
        return -1;
    int fd = files_lock (path, STATE_LOCK_WAIT_MS, error);
    if (fd >= 0)
        remove_leftovers (state_dir);
    return fd;
}

gboolean attach_write (const char *folder, int number, const GuestDef *def, const char *const *formats, GError **error)
{
    g_autofree char *definition = g_build_filename (folder, "guest.json", NULL);
    g_autofree char *findings = g_build_filename (folder, "attach.json", NULL);
    g_autofree char *text = guest_def_format (def);
    g_autofree char *found = format_findings (number, def, formats);

    return files_make_dir (folder, 0700, error)
        && files_write_atomic (findings, found, -1, 0600, error)
        && files_write_atomic (definition, text, -1, 0600, error);
}

static gboolean check_unused (const char *state_dir, const GuestDef *def, GError **error);

gboolean attach_store (const char *state_dir, const GuestDef *def, const char *const *formats, GError **error)
{
    int fd = lock_state (state_dir, error), number = 0;
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *temporary = g_strdup_printf ("%s/.new-%s", guests, def->name);
    g_autofree char *final = guest_dir (state_dir, def->name);

    if (fd < 0)
        return FALSE;
    gboolean ok = check_unused (state_dir, def, error) && next_number (state_dir, &number, error)
        && attach_write (temporary, number, def, formats, error);
    if (ok && g_rename (temporary, final) != 0)
        ok = error_set_errno (error, errno, _("cannot make '%s'"), final);
    ok = ok && files_fsync (guests, error);
    if (!ok)
        files_remove_tree (temporary);
    close (fd);
    return ok;
}

gboolean attach_remove (const char *state_dir, const char *name, GError **error)
{
    int fd = lock_state (state_dir, error);
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *gone = g_strdup_printf ("%s/.gone-%s", guests, name);
    g_autofree char *path = guest_dir (state_dir, name);

    if (fd < 0)
        return FALSE;
    gboolean ok = g_rename (path, gone) == 0 || error_set_errno (error, errno, _("cannot remove '%s'"), path);
    if (ok) {
        files_remove_tree (gone);
        ok = files_fsync (guests, error);
    }
    close (fd);
    return ok;
}

char *attach_find_monitor (const char *state_dir, const char *address)
{
    g_autoptr (GPtrArray) defs = load_all (state_dir);

    for (guint i = 0; i < defs->len; i++) {
        GuestDef *def = defs->pdata[i];
        if (def->qmp && files_same (def->qmp, address))
            return g_strdup (def->name);
    }
    return NULL;
}

/* Two guests must not share a name, a monitor, an image or a UUID. */
static gboolean check_unused (const char *state_dir, const GuestDef *def, GError **error)
{
    g_autofree char *path = guest_dir (state_dir, def->name);
    g_autoptr (GPtrArray) others = load_all (state_dir);

    if (g_file_test (path, G_FILE_TEST_EXISTS))
        return error_set (error, BAK_ERROR_EXISTS, _("a guest '%s' is attached already"), def->name);
    for (guint i = 0; i < others->len; i++) {
        GuestDef *other = others->pdata[i];
        if (def->qmp && other->qmp && files_same (def->qmp, other->qmp))
            return error_set (error, BAK_ERROR_EXISTS, _("monitor '%s' is attached already, as guest '%s'"), def->qmp, other->name);
        if (def->uuid && g_strcmp0 (def->uuid, other->uuid) == 0)
            return error_set (error, BAK_ERROR_EXISTS, _("the guest with UUID %s is attached already, as '%s'"), def->uuid, other->name);
        for (guint j = 0; j < def->images->len; j++)
            for (guint k = 0; k < other->images->len; k++) {
                const char *file = ((GuestDiskDef *) def->images->pdata[j])->id;
                if (files_same (file, ((GuestDiskDef *) other->images->pdata[k])->id))
                    return error_set (error, BAK_ERROR_EXISTS, _("image '%s' is attached already, with guest '%s'"), file, other->name);
            }
    }
    return TRUE;
}

/* Attach */

static void add_disks (GPtrArray *list, const bak_named_id *ids, guint count)
{
    for (guint i = 0; i < count; i++) {
        GuestDiskDef *disk = g_new0 (GuestDiskDef, 1);
        disk->target = g_strdup (ids[i].target);
        disk->id = g_strdup (ids[i].id);
        g_ptr_array_add (list, disk);
    }
}

static char *address_or_null (const char *address)
{
    return address && *address ? g_path_is_absolute (address) ? g_canonicalize_filename (address, NULL) : g_strdup (address) : NULL;
}

static GuestDef *definition_from_args (const bak_attach_args *args)
{
    GuestDef *def = guest_def_new (args->name);

    def->uuid = g_uuid_string_random ();
    def->qmp = address_or_null (args->qmp);
    def->agent = address_or_null (args->agent);
    add_disks (def->disks, args->disks.disks_val, args->disks.disks_len);
    add_disks (def->images, args->images.images_val, args->images.images_len);
    return def;
}

/* Each --disk TARGET=ID names a disk, no two the same one, and no target is another disk's name. */
static gboolean check_disks (const Graph *graph, GPtrArray *named, GError **error)
{
    g_autoptr (GHashTable) taken = g_hash_table_new (g_direct_hash, g_direct_equal);

    for (guint i = 0; i < named->len; i++) {
        const GuestDiskDef *want = named->pdata[i];
        const GraphDisk *disk = graph_disk (graph, want->id, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (taken, (gpointer) disk))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s' (%s) is named twice"), want->id, disk->target);
        const GraphDisk *other = graph_disk (graph, want->target, NULL);
        if (other && other != disk)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' cannot be the name of disk '%s': another disk answers to it"),
                              want->target, want->id);
    }
    return TRUE;
}

static gboolean uuid_usable (const char *uuid)
{
    return uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") != strlen (uuid);
}

static gboolean holds_ours (const Graph *graph)
{
    gboolean found = FALSE;
    for (guint i = 0; i < graph->jobs->len; i++)
        found = found || g_str_has_prefix (((GraphJob *) graph->jobs->pdata[i])->id, "bak-");
    for (guint i = 0; i < graph->exports->len; i++)
        found = found || g_str_has_prefix (((GraphExport *) graph->exports->pdata[i])->id, "bak-");
    for (guint i = 0; i < graph->nodes->len; i++)
        found = found || g_str_has_prefix (((GraphNode *) graph->nodes->pdata[i])->name, "bak-");
    for (guint i = 0; i < graph->objects->len; i++)
        found = found || g_str_has_prefix (graph->objects->pdata[i], "bak-");
    return found;
}

static gboolean attach_monitor (GuestDef *def, gboolean *ret_unknown, GError **error)
{
    g_autoptr (Qmp) qmp = qmp_connect (def->qmp, NULL, 0, error);
    g_autoptr (Caps) caps = qmp ? caps_load (qmp, error) : NULL;
    g_autoptr (Graph) graph = caps ? graph_load (qmp, caps, GRAPH_ALL, NULL, error) : NULL;

    if (!graph || !check_disks (graph, def->disks, error))
        return FALSE;
    *ret_unknown = holds_ours (graph);
    if (uuid_usable (graph->uuid)) {
        g_free (def->uuid);
        def->uuid = g_ascii_strdown (graph->uuid, -1);
    }
    return TRUE;
}

static gboolean check_agent (const char *agent, GError **error)
{
    struct stat st;

    if (!agent || !g_path_is_absolute (agent))
        return TRUE;
    if (stat (agent, &st) != 0)
        return error_set (error, BAK_ERROR_CONNECTION, _("guest agent '%s': %s"), agent, g_strerror (errno));
    return S_ISSOCK (st.st_mode) || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("guest agent '%s' is not a socket"), agent);
}

/* The format is found out now and holds from now on: what a guest writes into its raw disk later must not turn it into another. */
static gboolean attach_images (GuestDef *def, GPtrArray *formats, GError **error)
{
    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autoptr (ImageInfo) info = image_probe (image->id, NULL, error);
        if (!info)
            return error_note (error, _("disk '%s'"), image->target);
        for (guint j = 0; j < i; j++)
            if (files_same (image->id, ((GuestDiskDef *) def->images->pdata[j])->id))
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': image '%s' is named twice"), image->target, image->id);
        g_ptr_array_add (formats, g_strdup (info->format));
    }
    return TRUE;
}

static void emit_lifecycle (DriverConn *conn, const GuestDef *def, const char *text)
{
    bak_event event = {
        .kind = EVENT_LIFECYCLE, .domain = def->name, .uuid = def->uuid, .job = (char *) "", .disk = (char *) "",
        .text = (char *) text, .when = g_get_real_time (),
    };
    driver_conn_emit (conn, &event);
}

static void fill_items (QemuConn *owner, GPtrArray *defs, gboolean ask, bak_domain_item *items);

/* What a backup left whose records are gone with their directory: only its names tell whose it was. */
static gboolean sweep_unknown (Guest *guest, gpointer data, GError **error)
{
    return run_sweep (guest, "bak-", error);
}

/* The guest is attached in any case; what could not be removed is found by the next look. */
static void clean_up (QemuConn *owner, const GuestDef *def)
{
    g_autoptr (GError) failure = NULL;
    Guest *guest = def->qmp ? guest_get (owner, def->name, NULL) : NULL;
    if (guest && !guest_do (guest, TRUE, sweep_unknown, NULL, &failure))
        g_warning ("guest %s: %s", def->name, failure->message);
    guest_unref (guest);
}

gboolean qemu_attach (DriverConn *conn, const bak_attach_args *args, bak_lookup_ret *ret, GError **error)
{
    QemuConn *owner = conn->priv;
    g_autoptr (GuestDef) def = NULL;
    g_autoptr (GPtrArray) formats = g_ptr_array_new_with_free_func (g_free);
    gboolean has_unknown = FALSE;

    if (args->flags)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("attach: unknown flags 0x%x"), args->flags);
    if (!guest_name_check (args->name, error))
        return FALSE;
    def = definition_from_args (args);
    if (!guest_def_check (def, error) || !check_unused (owner->state_dir, def, error) || !check_agent (def->agent, error))
        return FALSE;
    if (!(def->qmp ? attach_monitor (def, &has_unknown, error) : attach_images (def, formats, error)))
        return FALSE;
    if (!attach_store (owner->state_dir, def, (const char *const *) formats->pdata, error))
        return FALSE;
    if (def->qmp && has_unknown)
        clean_up (owner, def);
    g_autoptr (GPtrArray) defs = g_ptr_array_new ();
    g_ptr_array_add (defs, def);
    fill_items (owner, defs, FALSE, &ret->domain);
    emit_lifecycle (conn, def, "attached");
    return TRUE;
}

/* Detach */

static gboolean has_journal (const char *dir)
{
    g_autofree char *path = g_build_filename (dir, "journal", NULL);
    return g_file_test (path, G_FILE_TEST_EXISTS);
}

static gboolean busy (const char *name, GError **error)
{
    return error_set (error, BAK_ERROR_BUSY, _("guest '%s' is busy: a backup job has not ended; end it first with 'backup-stop %s --abort'"),
                      name, name);
}

/* A job that its owner's death left behind is ended by recover, which every call that asks the guest runs; when QEMU is gone too,
 * recover says so. Whoever asks first does it, here or in a watcher. */
static gboolean settle_jobs (DriverConn *conn, const Guest *guest, GError **error)
{
    bak_domain_arg args = { .domain = guest->def->name };
    bak_state_ret ret = { 0 };

    if (!has_journal (guest->dir))
        return TRUE;
    g_autoptr (GError) why = NULL;
    gboolean asked = call_domain_state (conn, &args, &ret, &why);
    if (!has_journal (guest->dir))
        return TRUE;
    busy (guest->def->name, error);
    return asked ? FALSE : error_note (error, "%s", why->message);
}

/* On the guest's thread. */
static gboolean detach_here (Guest *guest, gpointer data, GError **error)
{
    g_autofree char *path = g_build_filename (guest->dir, "lock", NULL);
    g_autoptr (GError) why = NULL;

    if (guest->job || has_journal (guest->dir))
        return busy (guest->def->name, error);
    guest_release (guest);
    int fd = files_lock (path, DETACH_WAIT_MS, &why);
    if (fd < 0)
        return error_set (error, error_code (why), _("guest '%s' is busy: another libbackup process works with it"), guest->def->name);
    if (guest_is_offline (guest))
        offline_stop (guest);
    gboolean ok = attach_remove (guest->owner->state_dir, guest->def->name, error);
    close (fd);
    return ok;
}

/* A guest whose definition cannot be read any more can only be forgotten. */
static gboolean detach_damaged (QemuConn *owner, const char *name, GError **error)
{
    g_autofree char *dir = guest_dir (owner->state_dir, name);
    g_autofree char *path = g_build_filename (dir, "lock", NULL);
    int fd = files_lock (path, 0, error);

    if (fd < 0)
        return FALSE;
    gboolean ok = attach_remove (owner->state_dir, name, error);
    close (fd);
    return ok;
}

gboolean qemu_detach (DriverConn *conn, const bak_domain_arg *args, bak_none *ret, GError **error)
{
    QemuConn *owner = conn->priv;
    g_autoptr (GError) why = NULL;

    if (args->flags)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("detach: unknown flags 0x%x"), args->flags);
    Guest *guest = guest_get (owner, args->domain, &why);
    if (!guest && guest_name_check (args->domain, NULL) && error_code (why) != BAK_ERROR_NO_DOMAIN)
        return detach_damaged (owner, args->domain, error);
    if (!guest) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    gboolean ok = settle_jobs (conn, guest, error) && guest_do (guest, FALSE, detach_here, NULL, error);
    if (ok) {
        g_mutex_lock (&owner->lock);
        if (g_hash_table_lookup (owner->guests, args->domain) == guest)
            g_hash_table_remove (owner->guests, args->domain);
        g_mutex_unlock (&owner->lock);
        emit_lifecycle (conn, guest->def, "detached");
    }
    guest_unref (guest);
    return ok;
}

/* List and lookup */

static int ask_state (MonitorProbe *probe)
{
    g_autoptr (Qmp) qmp = monitor_take (probe, NULL);
    g_autoptr (JsonNode) node = qmp ? qmp_execute (qmp, "query-status", NULL, ASK_TIMEOUT_MS, NULL) : NULL;
    JsonObject *object = node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    int reason;

    return info_state (json_get_string (object, "status"), &reason);
}

/* An owner that holds the guest's lock has its monitor: it runs, and must not be asked. */
static gboolean guest_locked (const char *dir)
{
    g_autofree char *path = g_build_filename (dir, "lock", NULL);
    return files_is_locked (path);
}

static gboolean has_checkpoints (const char *dir)
{
    g_autofree char *path = g_build_filename (dir, "checkpoints", NULL);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name (entries)))
        if (g_str_has_suffix (name, ".json") && *name != '.')
            return TRUE;
    return FALSE;
}

static int state_of_probe (MonitorProbe *probe)
{
    switch (probe->state) {
    case MONITOR_ABSENT:
        return DOMAIN_STATE_SHUTOFF;
    case MONITOR_DENIED:
        return DOMAIN_STATE_NOSTATE;
    case MONITOR_HELD:
        return DOMAIN_STATE_RUNNING;
    case MONITOR_TALKS:
        return ask_state (probe);
    }
    return DOMAIN_STATE_NOSTATE;
}

static void fill_item (QemuConn *owner, const GuestDef *def, int state, bak_domain_item *item)
{
    g_autofree char *dir = guest_dir (owner->state_dir, def->name);

    item->name = ret_string (def->name);
    item->uuid = ret_string (def->uuid);
    item->state = state;
    item->id = state == DOMAIN_STATE_SHUTOFF ? -1 : attach_number (dir);
    item->has_checkpoint = has_checkpoints (dir);
}

/* ask: wait a moment for each monitor and ask it; else whoever listens is taken to run. */
static void fill_items (QemuConn *owner, GPtrArray *defs, gboolean ask, bak_domain_item *items)
{
    g_autofree MonitorProbe *probes = g_new0 (MonitorProbe, defs->len + 1);
    g_autofree int *states = g_new0 (int, defs->len + 1);
    g_autofree guint *owners = g_new0 (guint, defs->len + 1);
    guint count = 0;

    for (guint i = 0; i < defs->len; i++) {
        const GuestDef *def = defs->pdata[i];
        g_autofree char *dir = guest_dir (owner->state_dir, def->name);
        states[i] = def->qmp ? DOMAIN_STATE_RUNNING : DOMAIN_STATE_SHUTOFF;
        if (!def->qmp || guest_locked (dir))
            continue;
        probes[count].address = def->qmp;
        owners[count++] = i;
    }
    monitor_probe (probes, count, ask ? LIST_WAIT_MS : 0);
    for (guint i = 0; i < count; i++)
        states[owners[i]] = state_of_probe (&probes[i]);
    monitor_probe_clear (probes, count);
    for (guint i = 0; i < defs->len; i++)
        fill_item (owner, defs->pdata[i], states[i], &items[i]);
}

static gboolean item_wanted (const bak_domain_item *item, guint flags)
{
    guint kind = item->state == DOMAIN_STATE_SHUTOFF ? LIST_INACTIVE : LIST_ACTIVE;
    return flags == 0 || (flags & kind);
}

gboolean qemu_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret, GError **error)
{
    QemuConn *owner = conn->priv;

    if (args->flags & ~(guint) (LIST_ACTIVE | LIST_INACTIVE))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("list: unknown flags 0x%x"), args->flags);
    g_autoptr (GPtrArray) defs = load_all (owner->state_dir);
    if (defs->len > BAK_DOMAINS_MAX)
        return error_set (error, BAK_ERROR_INTERNAL, _("more than %d guests are attached"), BAK_DOMAINS_MAX);
    bak_domain_item *items = ret_array (defs->len, sizeof *items);
    fill_items (owner, defs, TRUE, items);
    guint kept = 0;
    for (guint i = 0; i < defs->len; i++) {
        if (item_wanted (&items[i], args->flags)) {
            items[kept++] = items[i];
            continue;
        }
        free (items[i].name);
        free (items[i].uuid);
    }
    ret->domains.domains_len = kept;
    ret->domains.domains_val = items;
    return TRUE;
}

static GuestDef *find_uuid (const char *state_dir, const char *uuid, GError **error)
{
    g_autoptr (GPtrArray) defs = load_all (state_dir);

    for (guint i = 0; i < defs->len; i++)
        if (g_ascii_strcasecmp (((GuestDef *) defs->pdata[i])->uuid, uuid) == 0)
            return g_ptr_array_steal_index (defs, i);
    g_autofree char *shown = text_sanitize (uuid, 64);
    error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest with UUID '%s' is attached"), shown);
    return NULL;
}

/* A guest whose definition is damaged is found by its name alone, so that it can be forgotten; whatever else is asked says what is wrong. */
static GuestDef *find_name (const char *state_dir, const char *name, GError **error)
{
    g_autoptr (GError) why = NULL;
    GuestDef *def = attach_load (state_dir, name, &why);

    if (def || error_code (why) == BAK_ERROR_NO_DOMAIN) {
        if (why)
            g_propagate_error (error, g_steal_pointer (&why));
        return def;
    }
    def = guest_def_new (name);
    def->uuid = g_strdup ("00000000-0000-0000-0000-000000000000");
    return def;
}

/* Of what a guest that runs may do only "running" is sure to be left with an event. */
gboolean qemu_peek_guest (Guest *guest, DriverPeek *ret)
{
    gboolean off = guest_is_offline (guest), runs = FALSE;

    if (!off && !guest_is_watched (guest, &runs))
        return FALSE;
    g_strlcpy (ret->uuid, guest->def->uuid, sizeof ret->uuid);
    ret->id = off ? -1 : guest->number;
    ret->reason = 0;
    ret->state = off ? DOMAIN_STATE_SHUTOFF : runs ? info_state ("running", &ret->reason) : -1;
    return TRUE;
}

gboolean qemu_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret, GError **error)
{
    QemuConn *owner = conn->priv;
    gboolean by_name = args->name && *args->name, by_uuid = args->uuid && *args->uuid;

    if (by_name == by_uuid)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("a guest is looked up either by its name or by its UUID"));
    g_autoptr (GuestDef) def = by_name ? find_name (owner->state_dir, args->name, error) : find_uuid (owner->state_dir, args->uuid, error);
    if (!def)
        return FALSE;
    g_autoptr (GPtrArray) defs = g_ptr_array_new ();
    g_ptr_array_add (defs, def);
    fill_items (owner, defs, FALSE, &ret->domain);
    guest_unref (guest_get (owner, def->name, NULL));   /* the next look-up finds it at hand */
    return TRUE;
}
