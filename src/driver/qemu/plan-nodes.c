/* The files and nodes of targets and scratch. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

enum {
    NBD_PORT = 10809,
    NBD_OPEN_TIMEOUT = 10,
    RELAY_PATIENCE = 60,
    RELAY_PATIENCE_UNPROTECTED = 15
};

/* A server that hangs would hold QEMU's main loop, and the guest with it: yank cuts its connection,
 * else the end of a relay of ours does. On a unix socket yank is not enough: a full one that was
 * shut down is never writable again, and QEMU waits for just that. */
static gboolean is_relayed (Planner *p, const Place *place)
{
    if (is_helped (place))
        return TRUE;
    return place->store->type == STORE_NETWORK && (!p->caps->yank || place->store->socket)
           && p->caps->blockdev_add_flat && place->store->tls != TRISTATE_YES;
}

static char *relay_path (Planner *p, const Item *item)
{
    g_autofree char *file = g_strdup_printf ("relay-%s-%u.sock", p->in->job, item->index);
    return g_build_filename (p->in->job_dir, file, NULL);
}

static void add_relay (Planner *p, Item *item, const Place *place)
{
    const StoreDef *store = place->store;
    g_autofree char *path = relay_path (p, item),
                    *helper = is_helped (place) ? helper_socket (p, item) : NULL;
    const char *socket = helper ? helper : store->socket;
    gint64 patience = item->way == WAY_DIRECT ? RELAY_PATIENCE_UNPROTECTED : RELAY_PATIENCE;
    JsonObject *args =
        obj ("path", "s", path, "socket", "s", socket, "host", "s", socket ? NULL : store->host,
             "port", "i", (gint64) (store->port && !helper ? store->port : NBD_PORT), "patience",
             "i", patience, NULL);
    if (helper) /* it is not there before its step */
        json_object_set_boolean_member (args, "ours", TRUE);
    plan_add (p->plan, _("put a helper between QEMU and the target's server"), item->disk->target,
              own_action ("relay-start", args),
              own_action ("relay-cut", obj ("path", "s", path, NULL)), NULL);
}

JsonObject *protocol_options (Planner *p, const Item *item, const Place *place, const char *node)
{
    const StoreDef *store = place->store;
    if (store->type != STORE_NETWORK && !is_helped (place))
        return obj ("driver", "s", store->type == STORE_BLOCK ? "host_device" : "file", "filename",
                    "s", store->path, "node-name", "s", node, NULL);
    g_autofree char *port = g_strdup_printf ("%u", store->port ? store->port : 10809);
    g_autofree char *relay = is_relayed (p, place) ? relay_path (p, item) : NULL;
    JsonObject *server =
        relay || store->socket
            ? obj ("type", "s", "unix", "path", "s", relay ? relay : store->socket, NULL)
            : obj ("type", "s", "inet", "host", "s", store->host, "port", "s", port, NULL);
    g_autofree char *tls = store->tls == TRISTATE_YES ? own_name (p, "tlt", item) : NULL;
    JsonObject *options = obj ("driver", "s", "nbd", "server", "o", server, "export", "s",
                               store->name && !is_helped (place) ? store->name : "", "tls-creds",
                               "s", tls, "node-name", "s", node, NULL);
    if (p->caps->nbd_open_timeout)
        json_object_set_int_member (options, "open-timeout", NBD_OPEN_TIMEOUT);
    return options;
}

JsonObject *format_options (Planner *p, const Item *item, const Place *place, const char *node,
                            const char *file)
{
    const char *format = is_helped (place) ? "raw" : place->format;
    JsonObject *options =
        obj ("driver", "s", format, "node-name", "s", node, "file", "s", file, NULL);
    if (g_str_equal (format, "raw")) {
        if (p->caps->raw_size)
            json_object_set_int_member (options, "size", item->disk->size);
    } else if (place->scratch && item->way != WAY_ACCESS)
        json_object_set_string_member (options, "backing", item->disk->node);
    else if (p->caps->blockdev_add_flat && has_backing (format))
        json_object_set_null_member (options, "backing");
    if (place->scratch)
        json_object_set_string_member (options, "discard", "unmap");
    return options;
}

static void add_target_tls (Planner *p, Item *item)
{
    if (item->target.store->type != STORE_NETWORK || item->target.store->tls != TRISTATE_YES)
        return;
    const char *dir = item->target.store->tls_dir ? item->target.store->tls_dir : p->in->tls_dir;
    g_autofree char *id = own_name (p, "tlt", item);
    plan_add (p->plan, _("check that the certificates are there"), item->disk->target,
              own_action ("tls-check", obj ("dir", "s", dir, "endpoint", "s", "client", NULL)),
              NULL);
    plan_add (p->plan, _("load the certificates for the target"), item->disk->target,
              object_add (p, "tls-creds-x509", id,
                          obj ("endpoint", "s", "client", "dir", "s", dir, NULL)),
              guarded (qmp_action ("object-del", obj ("id", "s", id, NULL)), "object", id), NULL);
}

static void add_file (Planner *p, Item *item, const Place *place)
{
    const char *target = item->disk->target, *path = place->store->path;
    gboolean is_file = place->store->type == STORE_FILE, raw = g_str_equal (place->format, "raw");
    g_autofree char *title = NULL;

    if (!is_file || is_reused (p, place)) {
        title = g_strdup_printf (_("check that '%s' is there"), path);
        plan_add (
            p->plan, title, target,
            own_action ("file-check",
                        obj ("path", "s", path, "kind", "s", is_file ? "file" : "block", "format",
                             "s", is_reused (p, place) && !raw ? place->format : NULL, NULL)),
            NULL);
        /* what it holds would be read in place of what the guest saw */
        if (place->scratch && is_reused (p, place))
            plan_add (p->plan, _("check that it is empty"), target,
                      own_action ("empty-check",
                                  obj ("path", "s", path, "format", "s", place->format, NULL)),
                      NULL);
        return;
    }
    Action *remove = own_action ("file-remove", obj ("path", "s", path, NULL));
    title = g_strdup_printf (_("make the file '%s'"), path);
    JsonObject *made = obj ("path", "s", path, NULL);
    if (raw)
        json_object_set_int_member (made, "size", item->disk->size);
    plan_add (p->plan, title, target, own_action ("file-create", made),
              place->scratch ? remove : kept (remove), NULL);
    if (!raw && !p->caps->blockdev_create)
        plan_add (p->plan, _("format it"), target,
                  own_action ("image-create", obj ("path", "s", path, "format", "s", place->format,
                                                   "size", "i", (gint64) item->disk->size, NULL)),
                  NULL);
    if (must_reserve (p, place))
        plan_add (p->plan, _("reserve its space"), target,
                  timed (own_action ("file-reserve",
                                     obj ("path", "s", path, "size", "i", (gint64) item->disk->size,
                                          "overlay", "b", !raw, NULL)),
                         CREATE_TIMEOUT_MS),
                  NULL);
}

/* The job by which QEMU makes the image in the file of this place; NULL: there is none to be made
 * by it. */
static char *format_job (Planner *p, const Item *item, const Place *place)
{
    gboolean raw = g_str_equal (place->format, "raw");
    return raw || is_helped (place) || is_reused (p, place) || !p->caps->blockdev_create
               ? NULL
               : own_name (p, place->scratch ? "csi" : "cri", item);
}

/* The file (or what stands for it), its protocol node; an image in it is begun. */
static void make_place (Planner *p, Item *item, const Place *place)
{
    const char *target = item->disk->target, *path = place->store->path;
    g_autofree char *file = own_name (p, place->file_role, item),
                    *job = format_job (p, item, place);
    gboolean raw = g_str_equal (place->format, "raw");
    g_autofree char *shown = store_def_describe (place->store);
    g_autofree char *title = g_strdup_printf (_("open '%s'"), shown);

    if (!place->scratch)
        add_target_tls (p, item);
    if (path)
        add_file (p, item, place);
    if (is_helped (place))
        add_helper (p, item, place);
    if (is_relayed (p, place))
        add_relay (p, item, place);
    Action *yank = place->store->type == STORE_NETWORK && p->caps->yank && !is_relayed (p, place)
                       ? node_yank (file)
                       : NULL;
    plan_add (p->plan, title, target, node_add (p, protocol_options (p, item, place, file)),
              yank ? yank : node_del (p, file), yank ? node_del (p, file) : NULL, NULL);
    if (path && !is_helped (place))
        plan_add (p->plan, _("check that QEMU opened the file that we see"), target,
                  own_action ("file-same", obj ("path", "s", path, "node", "s", file, NULL)), NULL);
    if (raw || is_helped (place) || (place->scratch && place->store->type == STORE_BLOCK))
        plan_add (
            p->plan, _("check that it is large enough"), target,
            own_action ("size-check", obj ("node", "s", file, "at-least", "b", TRUE, "size", "i",
                                           (gint64) item->disk->size, "place", "s", shown, NULL)),
            NULL);
    if (job)
        start_create_job (p, _("format it"), item, job, create_options (item, place, file));
}

/* The image and its format node. */
static void open_place (Planner *p, Item *item, const Place *place)
{
    const char *target = item->disk->target;
    g_autofree char *node = own_name (p, place->role, item),
                    *file = own_name (p, place->file_role, item),
                    *job = format_job (p, item, place);
    g_autofree char *shown = store_def_describe (place->store);

    if (job)
        end_create_job (p, item, job);
    plan_add (p->plan, _("open the image"), target,
              node_add (p, format_options (p, item, place, node, file)), node_del (p, node), NULL);
    /* qcow2 is made of any size; others may round it */
    gboolean may_differ = (is_reused (p, place) && !is_helped (place))
                          || (job && !g_str_equal (place->format, "qcow2"));
    if (may_differ && !g_str_equal (place->format, "raw"))
        plan_add (
            p->plan, _("check that it has the size of the disk"), target,
            own_action ("size-check", obj ("node", "s", node, "at-least", "b", FALSE, "size", "i",
                                           (gint64) item->disk->size, "place", "s", shown, NULL)),
            NULL);
    if (place->scratch) {
        item->out->scratch_node = g_strdup (file);
        if (p->in->def->scratch_limit && p->caps->write_threshold)
            plan_add (p->plan, _("have its fill level watched"), target,
                      qmp_action ("block-set-write-threshold",
                                  obj ("node-name", "s", file, "write-threshold", "i",
                                       (gint64) p->in->def->scratch_limit, NULL)),
                      NULL);
    }
}

/* Of all disks; the images are made side by side: each is waited for by the disk. */
void add_places (Planner *p, gboolean scratch)
{
    for (guint pass = 0; pass < 2; pass++)
        for (guint i = 0; i < p->items->len; i++) {
            Item *item = p->items->pdata[i];
            Place *place = scratch ? &item->scratch : &item->target;
            if (place->store)
                (pass == 0 ? make_place : open_place) (p, item, place);
        }
}
