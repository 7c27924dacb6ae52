/* What several parts of a plan say: notes, refusals, the images that no target may be. */
#include <glib/gi18n-lib.h>
#include "driver/libvirt/planner.h"
#include "job/build.h"

void lv_plan_note (Planner *p, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (p->plan->notes, g_strdup_vprintf (format, args));
    va_end (args);
}

gboolean lv_plan_refuse (const char *disk, const char *feature, const char *reason, GError **error)
{
    return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': %s: %s"), disk, feature,
                      reason);
}

void lv_note_granularity (Planner *p, const char *disk, guint64 granularity)
{
    if (granularity)
        lv_plan_note (
            p,
            _("disk '%s': its bitmap has QEMU's default granularity, not %" G_GUINT64_FORMAT
               ": libvirt has no word for it"),
            disk, granularity);
}

JsonArray *lv_images_of_guest (const Planner *p)
{
    JsonArray *images = json_array_new ();
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const GPtrArray *chain = ((LvDisk *) p->in->picture->disks->pdata[i])->chain;
        for (guint k = 0; k < chain->len; k++)
            json_array_add_string_element (images, chain->pdata[k]);
    }
    return images;
}

gboolean lv_check_increment_target (Planner *p, const Item *item, GError **error)
{
    gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated;
    if (!item->incremental || p->pull || reuse)
        return TRUE;
    if (g_str_equal (item->out->format, "raw"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': an increment in a new raw file cannot tell what changed "
                             "from what did not; "
                             "use qcow2, or --reuse-external with the previous raw backup"),
                          item->disk->target);
    if (!p->made_here)
        return lv_plan_refuse (
            item->disk->target, _("a pushed increment"),
            _("libvirt would name the live image as its backing file, and the image on "
               "the other host cannot be "
               "re-based from here; make the image there with the right backing file "
               "and use --reuse-external"),
            error);
    return TRUE;
}
