/* A copy: the disk is mirrored into another image. In step with it, it takes over (a pivot), or is
 * left behind as a whole copy of that instant.
 *
 * QEMU mirrors behind the guest's writes: an image that is slow or fails ends the copy and holds no
 * write, unless synchronous writes were asked for. What was made for it goes with a copy that comes
 * to nothing. */
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/blockjob.h"
#include "driver/qemu/places.h"
#include "driver/qemu/plan.h"
#include "job/build.h"
#include "job/verbs-files.h"
#include "util/json.h"

enum { OPEN_MS = 120000, FLUSH_MS = 120000, BUF_MAX = 1 << 30, MIN_PART = 512 };

static gboolean is (const BlockRequest *request, guint flag)
{
    return (request->args->flags & flag) != 0;
}

/* ---- what was asked for ---- */

static gboolean check_dest (const BlockRequest *request, GError **error)
{
    const char *dest = request->args->dest;
    if (!*dest)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': a copy needs a destination"), request->disk->target);
    for (const char *c = dest; *c; c++)
        if ((guchar) *c < ' ')
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s': a control character is in the destination"),
                              request->disk->target);
    if (!g_path_is_absolute (dest))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': the destination '%s' is not an absolute path"),
                          request->disk->target, dest);
    return places_check_copy (dest, error)
           || error_note (error, _("disk '%s'"), request->disk->target);
}

static gboolean check_tuning (const BlockRequest *request, GError **error)
{
    guint part = request->args->granularity;
    if (part && (part & (part - 1) || part < MIN_PART || part > 64 * 1024 * 1024))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("granularity %u is not a power of two from 512 to 64 MiB"), part);
    return request->args->buf_size <= BUF_MAX
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("a buffer of %" G_GUINT64_FORMAT " bytes is too large; 1 GiB is the "
                            "most"),
                         request->args->buf_size);
}

static gboolean choose_format (BlockRequest *request, GError **error)
{
    const char *asked = request->args->format, *own = block_image (request, 0)->driver;
    request->format = *asked ? asked : own;
    if (!g_str_equal (request->format, "raw") && !g_str_equal (request->format, "qcow2")) {
        g_autofree char *shown = text_sanitize (request->format, 64);
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': a copy is of format qcow2 or raw, not '%s'; name one of "
                             "them (--format)"),
                          request->disk->target, shown);
    }
    return request->base == request->chain->len || g_str_equal (request->format, "qcow2")
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("disk '%s': an image of format raw stands on nothing: a shallow copy "
                            "needs qcow2"),
                         request->disk->target);
}

gboolean block_choose_copy (BlockRequest *request, GError **error)
{
    const Caps *caps = request->guest->caps;

    request->top = 0;
    request->base = is (request, BLOCK_SHALLOW) ? 1 : request->chain->len;
    request->into = request->copy = g_strdup_printf ("%s-copy", request->job);
    if (!caps_has_command (caps, "blockdev-mirror") || !caps->blockdev_create
        || !(caps->reopen || caps->x_reopen))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("copies need blockdev-mirror, blockdev-create and blockdev-reopen "
                             "(QEMU 4.0); this is %s"),
                          caps->version_text);
    for (guint i = 0; i < request->base; i++)
        if (block_image (request, i)->encrypted)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': its image is encrypted, and the copy would not be"),
                              request->disk->target);
    if (!check_dest (request, error) || !check_tuning (request, error)
        || !choose_format (request, error))
        return FALSE;
    request->keeps_bitmaps = g_str_equal (request->format, "qcow2");
    return TRUE;
}

/* ---- the steps of the begin ---- */

static Action *del_node (const char *name)
{
    return guarded (
        timed (qmp_action ("blockdev-del", obj ("node-name", "s", name, NULL)), OPEN_MS), "node",
        name);
}

/* The file that the copy stands on; NULL: none. */
static const char *below (const BlockRequest *request)
{
    return request->base < request->chain->len ? block_image_path (request, request->base) : NULL;
}

/* A new file, or what is there. */
static void add_file (const BlockRequest *request, Plan *plan)
{
    const char *dest = request->args->dest, *target = request->disk->target;
    gboolean raw = g_str_equal (request->format, "raw"), block = is (request, BLOCK_COPY_DEV),
             reused = is (request, BLOCK_REUSE_EXTERNAL);

    if (!block && !reused) {
        JsonObject *made = obj ("path", "s", dest, NULL);
        if (raw)
            json_object_set_int_member (made, "size", request->disk->size);
        plan_add (plan, _("make the file of the copy"), target, own_action ("file-create", made),
                  kept (own_action ("file-remove", obj ("path", "s", dest, NULL))), NULL);
        return;
    }
    plan_add (plan, _("check that the destination is there"), target,
              own_action ("file-check",
                          obj ("path", "s", dest, "kind", "s", block ? "block" : "file", "format",
                               "s", reused && !raw ? request->format : NULL, NULL)),
              NULL);
    if (reused && !raw)
        plan_add (plan, _("check what the image stands on"), target,
                  own_action ("copy-reused", obj ("path", "s", dest, "format", "s", request->format,
                                                  "size", "i", (gint64) request->disk->size,
                                                  "backing", "s", below (request), NULL)),
                  NULL);
}

static char *backing_name (const BlockRequest *request)
{
    g_autofree char *stored = block_stored_backing (request->guest, block_image (request, 0)->name);
    const char *base = below (request);
    if (stored && !g_path_is_absolute (stored) && !strstr (stored, ":")
        && g_path_is_absolute (base))
        return plan_backing_name (request->args->dest, base);
    return g_strdup (base);
}

static void add_format (const BlockRequest *request, Plan *plan, const char *file)
{
    const char *target = request->disk->target, *base = below (request);
    g_autofree char *job = g_strdup_printf ("%s-make", request->job),
                    *backing = base ? backing_name (request) : NULL;
    JsonObject *options =
        obj ("driver", "s", request->format, "file", "s", file, "size", "i",
             (gint64) request->disk->size, "backing-file", "s", backing, "backing-fmt", "s",
             base ? block_image (request, request->base)->driver : NULL, NULL);

    plan_add (
        plan, _("format it"), target,
        qmp_action ("blockdev-create", obj ("job-id", "s", job, "options", "o", options, NULL)),
        guarded (qmp_action ("job-cancel", obj ("id", "s", job, NULL)), "job", job),
        guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job),
        guarded (qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), "job", job), NULL);
    plan_add (plan, _("wait until that is done"), target,
              timed (own_action ("job-wait", obj ("job", "s", job, NULL)), OPEN_MS), NULL);
    plan_add (plan, _("take note of its result"), target,
              qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), NULL);
}

/* How the guest's own image is opened: the one that takes over is opened so too. */
static void take_over (const BlockRequest *request, JsonObject *options, const char *node,
                       gboolean is_format)
{
    g_autoptr (JsonNode) held = NULL;
    JsonObject *entry = node ? block_node_entry (request->guest, node, &held) : NULL,
               *cache = entry ? json_get_object (entry, "cache") : NULL;
    const char *zeroes = entry ? json_get_string (entry, "detect_zeroes") : NULL;

    json_object_set_string_member (options, "discard", "unmap");
    if (cache)
        json_object_set_object_member (options, "cache",
                                       obj ("direct", "b", json_get_bool (cache, "direct", FALSE),
                                            "no-flush", "b",
                                            json_get_bool (cache, "no-flush", FALSE), NULL));
    if (zeroes && is_format)
        json_object_set_string_member (options, "detect-zeroes", zeroes);
}

static JsonObject *file_options (const BlockRequest *request, const char *file)
{
    JsonObject *options = obj ("driver", "s", is (request, BLOCK_COPY_DEV) ? "host_device" : "file",
                               "filename", "s", request->args->dest, "node-name", "s", file, NULL);
    take_over (request, options, block_image (request, 0)->file, FALSE);
    return options;
}

static JsonObject *image_options (const BlockRequest *request, const char *file)
{
    JsonObject *options = obj ("driver", "s", request->format, "node-name", "s", request->copy,
                               "file", "s", file, NULL);
    if (!g_str_equal (request->format, "raw")) {
        if (below (request))
            json_object_set_string_member (options, "backing",
                                           block_image (request, request->base)->name);
        else
            json_object_set_null_member (options, "backing");
    } else if (is (request, BLOCK_COPY_DEV) && request->guest->caps->raw_size)
        json_object_set_int_member (options, "size", request->disk->size);
    take_over (request, options, block_image (request, 0)->name, TRUE);
    return options;
}

static void add_size_check (const BlockRequest *request, Plan *plan, const char *node,
                            gboolean at_least)
{
    plan_add (plan, _("check its size"), request->disk->target,
              own_action ("size-check", obj ("node", "s", node, "at-least", "b", at_least, "size",
                                             "i", (gint64) request->disk->size, "place", "s",
                                             request->args->dest, NULL)),
              NULL);
}

static void add_nodes (const BlockRequest *request, Plan *plan, JsonObject *of_file,
                       JsonObject *of_image)
{
    const char *target = request->disk->target,
               *file = json_object_get_string_member (of_file, "node-name");
    gboolean raw = g_str_equal (request->format, "raw");

    plan_add (plan, _("open the destination"), target,
              timed (qmp_action ("blockdev-add", json_object_ref (of_file)), OPEN_MS),
              del_node (file), NULL);
    plan_add (
        plan, _("check that QEMU opened the file that we see"), target,
        own_action ("file-same", obj ("path", "s", request->args->dest, "node", "s", file, NULL)),
        NULL);
    if (raw)
        add_size_check (request, plan, file, is (request, BLOCK_COPY_DEV));
    else if (!is (request, BLOCK_REUSE_EXTERNAL))
        add_format (request, plan, file);
    plan_add (plan, _("open the image"), target,
              timed (qmp_action ("blockdev-add", json_object_ref (of_image)), OPEN_MS),
              del_node (request->copy), NULL);
    add_size_check (request, plan, request->copy, FALSE);
}

static void start_mirror (const BlockRequest *request, Plan *plan)
{
    const bak_block_args *args = request->args;
    const char *job = request->job;
    JsonObject *data =
        obj ("job-id", "s", job, "device", "s", request->disk->node, "target", "s", request->copy,
             "sync", "s", request->base < request->chain->len ? "top" : "full", "auto-dismiss", "b",
             FALSE, NULL);
    if (args->bytes_per_sec)
        json_object_set_int_member (data, "speed", args->bytes_per_sec);
    if (args->granularity)
        json_object_set_int_member (data, "granularity", args->granularity);
    if (args->buf_size)
        json_object_set_int_member (data, "buf-size", args->buf_size);
    if (is (request, BLOCK_SYNC_WRITES))
        json_object_set_string_member (data, "copy-mode", "write-blocking");
    plan_add (plan, _("start the copy"), request->disk->target,
              timed (qmp_action ("blockdev-mirror", data), OPEN_MS),
              guarded (qmp_action ("job-cancel", obj ("id", "s", job, NULL)), "job", job),
              guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job),
              guarded (qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), "job", job), NULL);
}

void block_add_copy (BlockRequest *request, Plan *plan)
{
    g_autofree char *file = g_strdup_printf ("%s-file", request->job);
    JsonObject *of_file = file_options (request, file), *of_image = image_options (request, file);

    add_file (request, plan);
    add_nodes (request, plan, of_file, of_image);
    start_mirror (request, plan);
    request->proof = arr (of_image, of_file, NULL);
}

/* ---- its end without a pivot ---- */

/* Flushed, and that is told: the deletion of a node would keep a failure to itself. */
static gboolean prove_flush (Guest *guest, JsonArray *proof, GError **error)
{
    for (guint i = 0; proof && i < json_array_get_length (proof); i++) {
        JsonObject *options = obj_copy (json_get_element (proof, i));
        json_object_set_boolean_member (options, "read-only", TRUE);
        gboolean ok =
            guest->caps->reopen
                ? qmp_run (guest->qmp, "blockdev-reopen",
                           obj ("options", "a", arr (options, NULL), NULL), FLUSH_MS, error)
                : qmp_run (guest->qmp, "x-blockdev-reopen", options, FLUSH_MS, error);
        if (!ok)
            return FALSE;
    }
    return TRUE;
}

/* The path of a new file that this job has made; NULL: it has made none. */
static const char *made_by (const BlockJob *job)
{
    const Step *first = job->state->plan->steps->len ? job->state->plan->steps->pdata[0] : NULL;
    return first && g_str_equal (first->action->verb, "file-create")
               ? json_get_string (first->action->args, "path")
               : NULL;
}

gboolean block_prove_copy (Guest *guest, BlockJob *job, Run *run, GError **error)
{
    const char *dest = json_get_string (job->state->meta, "dest");
    g_autoptr (Action) sync = own_action ("file-sync", obj ("path", "s", dest, NULL));

    return (prove_flush (guest, json_get_array (job->state->meta, "proof"), error)
            && run_action (run, sync, error))
           || error_note (error, _("the copy '%s'"), dest ? dest : "?");
}

void block_drop_copy (BlockJob *job, Run *run)
{
    const char *path = made_by (job);
    g_autoptr (GError) error = NULL;
    g_autoptr (Action) remove =
        path ? own_action ("file-remove", obj ("path", "s", path, NULL)) : NULL;

    if (remove && access (path, F_OK) == 0 && !run_file_in_use (path)
        && !run_action (run, remove, &error))
        g_warning ("block job %s: %s", job->id, error->message);
}
