/* Where the data goes: targets and scratch, checked against each other and against what the guest
 * uses. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

static char *generated_path (Planner *p, const Item *item, const char *dir, const char *suffix)
{
    g_autofree char *file =
        plan_file_name (p->in->domain, item->disk->target, item->index, p->in->job, suffix);
    return g_build_filename (dir, file, NULL);
}

static gboolean check_store (const char *disk, const StoreDef *store, GError **error)
{
    if (store->type != STORE_NETWORK && (!store->path || !g_path_is_absolute (store->path)))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': '%s' is not an absolute path"), disk,
                          store->path ? store->path : "");
    return TRUE;
}

/* A driver of which QEMU says that blockdev-add does not know it; an empty list says nothing. */
static gboolean check_driver (Planner *p, const char *disk, const StoreDef *store, GError **error)
{
    gboolean by_nbd = store->type == STORE_NETWORK || store->encryption;
    if (!by_nbd || g_hash_table_size (p->caps->drivers) == 0 || caps_has_driver (p->caps, "nbd"))
        return TRUE;
    return error_set (
        error, BAK_ERROR_NOT_SUPPORTED,
        _("disk '%s': NBD targets need the driver 'nbd' of blockdev-add (QEMU 2.8); this is %s"),
        disk, p->caps->version_text ? p->caps->version_text : "?");
}

static gboolean check_collisions (Planner *p, const Item *item, const StoreDef *store,
                                  GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        const StoreDef *others[] = { other->target.store, other->scratch.store };
        for (guint k = 0; k < G_N_ELEMENTS (others); k++)
            if (others[k] && others[k] != store && plan_same_place (store, others[k])) {
                g_autofree char *place = store_def_describe (store);
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                                  _("disks '%s' and '%s' would both be written to '%s'"),
                                  other->disk->target, item->disk->target, place);
            }
    }
    for (guint i = 0; store->path && i < p->in->graph->nodes->len; i++) {
        const GraphNode *node = p->in->graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, store->path) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s': '%s' is in use by the guest itself (node '%s')"),
                              item->disk->target, store->path, node->name);
    }
    for (guint i = 0; p->in->sources && i < p->in->sources->len; i++)
        if (plan_same_place (store, p->in->sources->pdata[i])) {
            g_autofree char *place = store_def_describe (store),
                            *source = store_def_describe (p->in->sources->pdata[i]);
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s': '%s' is in use by the guest itself, as '%s'"),
                              item->disk->target, place, source);
        }
    return TRUE;
}

/* given: what the document says, or NULL or without a path: a name of ours in dir. */
static gboolean resolve_place (Planner *p, Item *item, Place *place, const StoreDef *given,
                               const char *dir, char **ret_shown, GError **error)
{
    if (given && (given->type == STORE_NETWORK || given->path)) {
        place->store = store_def_copy (given);
    } else {
        place->store = store_def_new (STORE_FILE);
        const char *format = place->format ? place->format : "qcow2";
        place->store->path = generated_path (p, item, dir, place->scratch ? "scratch" : format);
        place->generated = TRUE;
    }
    if (!place->format)
        place->format = place->store->type == STORE_NETWORK ? "raw" : "qcow2";
    if (!check_store (item->disk->target, place->store, error)
        || !check_driver (p, item->disk->target, place->store, error)
        || !check_collisions (p, item, place->store, error))
        return FALSE;
    *ret_shown =
        place->store->path ? g_strdup (place->store->path) : store_def_describe (place->store);
    return TRUE;
}

gboolean resolve_target (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = item->def ? item->def->target : NULL;
    item->target = (Place){ .format = item->def ? item->def->format : NULL,
                            .role = "tgt",
                            .file_role = "tgf" };
    if (!(given && (given->type == STORE_NETWORK || given->path)) && !p->in->target_dir)
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("disk '%s' has no target: name one (<target file='…'/>, --target %s=FILE) "
               "or set target_dir in the configuration"),
            item->disk->target, item->disk->target);
    if (!resolve_place (p, item, &item->target, given, p->in->target_dir, &item->out->path, error))
        return FALSE;
    item->out->format = g_strdup (item->target.format);
    return TRUE;
}

/* An overlay needs a format with a backing file; beside a filter any file does, and a raw one can
 * be reserved whole. */
gboolean resolve_scratch (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = item->def ? item->def->scratch : NULL;
    const char *dir = given && store_def_is_directory (given) ? given->path : p->in->scratch_dir;
    gboolean pull = p->plan->mode == BACKUP_MODE_PULL;
    item->scratch =
        (Place){ .format = item->way == WAY_ACCESS && !(pull && item->def && item->def->format)
                               ? "raw"
                               : "qcow2",
                 .scratch = TRUE,
                 .role = "scr",
                 .file_role = "scf" };
    if (pull && item->def && item->def->format && !g_str_equal (item->def->format, "qcow2"))
        return error_set (error, BAK_ERROR_XML,
                          _("disk '%s': scratch of a pull backup has format qcow2, not '%s'"),
                          item->disk->target, item->def->format);
    if (given && given->encryption)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("disk '%s': a scratch cannot be encrypted: name a place for it that is "
               "(--scratch)"),
            item->disk->target);
    if (given && given->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': a scratch is a local file or block device: one on the "
                             "network could stall the guest"),
                          item->disk->target);
    if (dir != p->in->scratch_dir)
        given = NULL;
    if ((p->in->flags & BEGIN_REUSE_EXTERNAL) && given && given->path)
        item->scratch.format = "qcow2";
    return resolve_place (p, item, &item->scratch, given, dir, &item->out->scratch, error);
}
