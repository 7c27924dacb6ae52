/* What this driver can do, as JSON: the keys are the same for all drivers (docs/drivers.md). */
#include <glib/gi18n-lib.h>
#include "driver/qemu/build.h"
#include "driver/qemu/local.h"
#include "util/json.h"

static const struct { const char *feature; gboolean yes; const char *reason; } features[] = {
    { "push", TRUE, NULL }, { "pull", TRUE, NULL }, { "full", TRUE, NULL }, { "incremental", TRUE, NULL },
    { "sync-top", TRUE, NULL }, { "sync-none", TRUE, NULL }, { "checkpoints", TRUE, NULL }, { "checkpoint-redefine", TRUE, NULL },
    { "checkpoint-check", TRUE, NULL }, { "memory-bitmaps", TRUE, NULL }, { "quiesce", TRUE, NULL }, { "limit-at-start", TRUE, NULL },
    { "limit-while-running", TRUE, NULL }, { "protection", TRUE, NULL }, { "compression", TRUE, NULL }, { "offline-guests", TRUE, NULL },
    { "target-file", TRUE, NULL }, { "target-block", TRUE, NULL }, { "target-nbd", TRUE, NULL },
    { "target-ssh", FALSE, N_("not delivered yet") }, { "target-gluster", FALSE, N_("not delivered yet") },
    { "target-rbd", FALSE, N_("not delivered yet") }, { "target-iscsi", FALSE, N_("not delivered yet") },
    { "target-nfs", FALSE, N_("not delivered yet") }, { "encryption-luks", FALSE, N_("not delivered yet") },
    { "server-unix", TRUE, NULL }, { "server-tcp", TRUE, NULL }, { "server-tls", TRUE, NULL }, { "server-psk", TRUE, NULL },
    { "attach", TRUE, NULL }, { "discover", TRUE, NULL }, { "dry-run", TRUE, NULL }, { "events", TRUE, NULL },
};

gboolean qemu_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret, GError **error)
{
    JsonObject *yes = json_object_new (), *reasons = json_object_new ();
    for (guint i = 0; i < G_N_ELEMENTS (features); i++) {
        json_object_set_boolean_member (yes, features[i].feature, features[i].yes);
        if (features[i].reason)
            json_object_set_string_member (reasons, features[i].feature, _(features[i].reason));
    }
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_take_object (node, obj ("driver", "s", conn->driver->name, "version", "s", LIBBACKUP_VERSION, "features", "o", yes, "reasons", "o", reasons, NULL));
    g_autofree char *text = json_write (node);
    ret->text = ret_string (text);
    return TRUE;
}
