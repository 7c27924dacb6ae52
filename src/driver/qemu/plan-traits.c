/* What a place is, for all who make steps of it. */
#include "driver/qemu/helper.h"
#include "driver/qemu/planner.h"
#include "driver/qemu/protocols.h"

gboolean is_reused (Planner *p, const Place *place)
{
    return (p->in->flags & BEGIN_REUSE_EXTERNAL) && !place->generated;
}

/* Nothing that an image names shall be opened beside it. */
gboolean has_backing (const char *format)
{
    static const char *const formats[] = { "qcow2", "qed", "vmdk", NULL };
    return g_strv_contains (formats, format);
}

/* The same set is used for blockdev-add and, with read-only, for the reopen that flushes. */
/* A process of ours opens it, and the guest's QEMU sees an NBD export. */
gboolean is_helped (const Place *place)
{
    return place->store && (protocol_row (place->store) || place->store->encryption);
}

char *helper_monitor (Planner *p, const Item *item)
{
    g_autofree char *file = g_strdup_printf ("store-%s-%u.sock", p->in->job, item->index);
    return g_build_filename (p->in->job_dir, file, NULL);
}

char *helper_socket (Planner *p, const Item *item)
{
    g_autofree char *monitor = helper_monitor (p, item);
    return helper_server (monitor);
}
