/* Attach, detach, list, lookup. Everything here works on files and on short connections; no guest's
 * thread is needed but to detach. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/both.h"
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "driver/qemu/info.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/offline.h"
#include "driver/qemu/places.h"
#include "driver/qemu/same-qemu.h"
#include "driver/qemu/verbs.h"
#include "util/files.h"
#include "util/json.h"

enum {
    LIST_WAIT_MS = 400,
    ASK_TIMEOUT_MS = 1000,
    DETACH_WAIT_MS = 4000,
};

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
    return address && *address ? g_path_is_absolute (address)
                                     ? g_canonicalize_filename (address, NULL)
                                     : g_strdup (address)
                               : NULL;
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
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s' (%s) is named twice"), want->id, disk->target);
        const GraphDisk *other = graph_disk (graph, want->target, NULL);
        if (other && other != disk)
            return error_set (
                error, BAK_ERROR_INVALID_ARGUMENT,
                _("'%s' cannot be the name of disk '%s': another disk answers to it"),
                want->target, want->id);
    }
    return TRUE;
}

static gboolean uuid_usable (const char *uuid)
{
    return uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") != strlen (uuid);
}

static gboolean attach_monitor (GuestDef *def, const char *state_dir, gboolean find,
                                GPtrArray *formats, Graph **ret_graph, GError **error)
{
    g_autoptr (Qmp) qmp = qmp_connect (def->qmp, NULL, 0, error);
    g_autoptr (Caps) caps = qmp ? caps_load (qmp, error) : NULL;
    g_autoptr (Graph) graph = caps ? graph_load (qmp, caps, GRAPH_ALL, NULL, error) : NULL;

    if (!graph || !check_disks (graph, def->disks, error)
        || !same_qemu_check (qmp, state_dir, def, G_MAXINT, error)
        || (same_qemu_holds_ours (graph) && !same_qemu_is_alone (qmp, def, error))
        || !both_match (def, graph, qmp_get_peer_pid (qmp), find, formats, error))
        return FALSE;
    if (uuid_usable (graph->uuid)) {
        g_free (def->uuid);
        def->uuid = g_ascii_strdown (graph->uuid, -1);
    }
    *ret_graph = g_steal_pointer (&graph);
    return TRUE;
}

static gboolean check_agent (const char *agent, GError **error)
{
    struct stat st;

    if (!agent || !g_path_is_absolute (agent))
        return TRUE;
    if (stat (agent, &st) != 0)
        return error_set (error, BAK_ERROR_CONNECTION, _("guest agent '%s': %s"), agent,
                          g_strerror (errno));
    return S_ISSOCK (st.st_mode)
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("guest agent '%s' is not a socket"),
                         agent);
}

/* The format is found out now and holds from now on: what a guest writes into its raw disk later
 * must not turn it into another. */
static gboolean attach_images (GuestDef *def, GPtrArray *formats, GError **error)
{
    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autoptr (ImageInfo) info = image_probe (image->id, NULL, error);
        if (!info)
            return error_note (error, _("disk '%s'"), image->target);
        for (guint j = 0; j < i; j++)
            if (files_same (image->id, ((GuestDiskDef *) def->images->pdata[j])->id))
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                                  _("disk '%s': image '%s' is named twice"), image->target,
                                  image->id);
        g_ptr_array_add (formats, g_strdup (info->format));
    }
    return TRUE;
}

static void emit_lifecycle (DriverConn *conn, const GuestDef *def, const char *text)
{
    bak_event event = {
        .kind = EVENT_LIFECYCLE,
        .domain = def->name,
        .uuid = def->uuid,
        .job = (char *) "",
        .disk = (char *) "",
        .text = (char *) text,
        .when = g_get_real_time (),
    };
    driver_conn_emit (conn, &event);
}

static void fill_items (QemuConn *owner, GPtrArray *defs, gboolean ask, bak_domain_item *items);

/* args: whether QEMU holds what a backup left whose records are gone with their directory: only its
 * names tell whose it was. */
static gboolean first_look (Guest *guest, const void *args, void *ret, GError **error)
{
    const gboolean *holds_ours = args;
    if (*holds_ours && !run_sweep_unknown (guest, error))
        return FALSE;
    g_free (guest_xml (guest, NULL)); /* remembered for when it is off */
    if (!guest->job)
        guest_release (guest); /* who asks next may be another process */
    return TRUE;
}

/* The guest is attached in any case; what could not be removed is found by the next look. */
static void look_first (QemuConn *owner, const GuestDef *def, gboolean holds_ours)
{
    g_autoptr (GError) failure = NULL;
    Guest *guest = def->qmp ? guest_get (owner, def->name, NULL) : NULL;
    if (guest && !guest_do (guest, TRUE, first_look, &holds_ours, NULL, &failure))
        g_warning ("guest %s: %s", def->name, failure->message);
    guest_unref (guest);
}

static gboolean look (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_ALL, error);
    if (!guest->job)
        guest_release (guest); /* who asks next may be another process */
    return graph != NULL;
}

/* What a guest that is attached both ways has now is known from now on. */
static gboolean note_images (QemuConn *owner, const GuestDef *def, GError **error)
{
    Guest *guest = guest_get (owner, def->name, error);
    gboolean ok = guest && guest_do (guest, TRUE, look, NULL, NULL, error);

    guest_unref (guest);
    if (!ok)
        attach_remove (owner->state_dir, def->name, NULL);
    return ok;
}

/* Whoever does not listen is off, if there are images to show for it. */
static gboolean find_guest (GuestDef *def, const QemuConn *owner, guint flags, GPtrArray *formats,
                            Graph **ret_graph, GError **error)
{
    gboolean by_images = !def->qmp || (both_ways (def) && both_nobody_listens (def->qmp));

    return by_images ? attach_images (def, formats, error)
                     : attach_monitor (def, owner->state_dir, (flags & ATTACH_FIND_IMAGES) != 0,
                                       formats, ret_graph, error);
}

gboolean qemu_attach (DriverConn *conn, const bak_attach_args *args, bak_lookup_ret *ret,
                      GError **error)
{
    QemuConn *owner = conn->priv;
    g_autoptr (GuestDef) def = NULL;
    g_autoptr (GPtrArray) formats = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (Graph) graph = NULL;

    if (args->flags & ~(guint) ATTACH_FIND_IMAGES)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("attach: unknown flags 0x%x"),
                          args->flags);
    if (!guest_name_check (args->name, error))
        return FALSE;
    def = definition_from_args (args);
    if (!places_check_attach (args, error))
        return FALSE;
    if (!guest_def_check (def, error) || !attach_check_unused (owner->state_dir, def, error)
        || !check_agent (def->agent, error))
        return FALSE;
    if (!find_guest (def, owner, args->flags, formats, &graph, error)
        || !attach_store (owner->state_dir, def, (const char *const *) formats->pdata, error))
        return FALSE;
    if (graph) {
        g_autofree char *dir = attach_dir (owner->state_dir, def->name);
        graph_publish_images (graph, def->name, dir);
        look_first (owner, def, same_qemu_holds_ours (graph));
    }
    if (graph && both_ways (def) && !note_images (owner, def, error))
        return FALSE;
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
    return error_set (error, BAK_ERROR_BUSY,
                      _("guest '%s' is busy: a backup job has not ended; end it first with "
                         "'backup-stop %s --abort'"),
                      name, name);
}

/* A job that its owner's death left behind is ended by recover, which every call that asks the
 * guest runs; when QEMU is gone too, recover says so. Whoever asks first does it, here or in a
 * watcher. */
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
static gboolean detach_here (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autofree char *path = g_build_filename (guest->dir, "lock", NULL);
    g_autoptr (GError) why = NULL;

    if (guest->job || has_journal (guest->dir))
        return busy (guest->def->name, error);
    guest_release (guest);
    int fd = files_lock (path, DETACH_WAIT_MS, &why);
    if (fd < 0)
        return error_set (error, error_code (why),
                          _("guest '%s' is busy: another libbackup process works with it"),
                          guest->def->name);
    if (guest->def->images->len > 0)
        offline_stop (guest);
    gboolean ok = attach_remove (guest->owner->state_dir, guest->def->name, error);
    close (fd);
    return ok;
}

/* A guest whose definition cannot be read any more can only be forgotten. */
static gboolean detach_damaged (QemuConn *owner, const char *name, GError **error)
{
    g_autofree char *dir = attach_dir (owner->state_dir, name);
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
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("detach: unknown flags 0x%x"),
                          args->flags);
    Guest *guest = guest_get (owner, args->domain, &why);
    if (!guest && guest_name_check (args->domain, NULL) && error_code (why) != BAK_ERROR_NO_DOMAIN)
        return detach_damaged (owner, args->domain, error);
    if (!guest) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    gboolean ok =
        settle_jobs (conn, guest, error) && guest_do (guest, FALSE, detach_here, NULL, NULL, error);
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
    g_autoptr (JsonNode) node =
        qmp ? qmp_execute (qmp, "query-status", NULL, ASK_TIMEOUT_MS, NULL) : NULL;
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
    case MONITOR_ABSENT: return DOMAIN_STATE_SHUTOFF;
    case MONITOR_DENIED: return DOMAIN_STATE_NOSTATE;
    case MONITOR_HELD: return DOMAIN_STATE_RUNNING;
    case MONITOR_TALKS: return ask_state (probe);
    }
    return DOMAIN_STATE_NOSTATE;
}

static void fill_item (QemuConn *owner, const GuestDef *def, int state, bak_domain_item *item)
{
    g_autofree char *dir = attach_dir (owner->state_dir, def->name);

    item->name = ret_string (def->name);
    item->uuid = ret_string (def->uuid);
    item->state = state;
    item->id = state == DOMAIN_STATE_SHUTOFF ? -1 : attach_number (dir);
    item->has_checkpoint = has_checkpoints (dir);
}

/* A storage daemon of ours has its images. */
static gboolean is_served (const char *dir, const GuestDef *def)
{
    g_autofree char *socket = offline_socket (dir, def);
    return !both_nobody_listens (socket);
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
        g_autofree char *dir = attach_dir (owner->state_dir, def->name);
        states[i] = def->qmp ? DOMAIN_STATE_RUNNING : DOMAIN_STATE_SHUTOFF;
        if (both_ways (def) && is_served (dir, def))
            states[i] = DOMAIN_STATE_SHUTOFF;
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
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("list: unknown flags 0x%x"),
                          args->flags);
    g_autoptr (GPtrArray) defs = attach_load_all (owner->state_dir);
    if (defs->len > BAK_DOMAINS_MAX)
        return error_set (error, BAK_ERROR_INTERNAL, _("more than %d guests are attached"),
                          BAK_DOMAINS_MAX);
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
    g_autoptr (GPtrArray) defs = attach_load_all (state_dir);

    for (guint i = 0; i < defs->len; i++)
        if (g_ascii_strcasecmp (((GuestDef *) defs->pdata[i])->uuid, uuid) == 0)
            return g_ptr_array_steal_index (defs, i);
    g_autofree char *shown = text_sanitize (uuid, 64);
    error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest with UUID '%s' is attached"), shown);
    return NULL;
}

/* A guest whose definition is damaged is found by its name alone, so that it can be forgotten;
 * whatever else is asked says what is wrong. */
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
    gboolean off = !guest->def->qmp, runs = FALSE;

    if (!off && !guest_is_watched (guest, &runs))
        return FALSE;
    g_strlcpy (ret->uuid, guest->def->uuid, sizeof ret->uuid);
    ret->id = off ? -1 : guest->number;
    ret->reason = 0;
    ret->state = off ? DOMAIN_STATE_SHUTOFF : runs ? info_state ("running", &ret->reason) : -1;
    return TRUE;
}

gboolean qemu_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                      GError **error)
{
    QemuConn *owner = conn->priv;
    gboolean by_name = args->name && *args->name, by_uuid = args->uuid && *args->uuid;

    if (by_name == by_uuid)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a guest is looked up either by its name or by its UUID"));
    g_autoptr (GuestDef) def = by_name ? find_name (owner->state_dir, args->name, error)
                                       : find_uuid (owner->state_dir, args->uuid, error);
    if (!def)
        return FALSE;
    g_autoptr (GPtrArray) defs = g_ptr_array_new ();
    g_ptr_array_add (defs, def);
    fill_items (owner, defs, FALSE, &ret->domain);
    guest_unref (guest_get (owner, def->name, NULL)); /* the next look-up finds it at hand */
    return TRUE;
}
