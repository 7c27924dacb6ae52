/* What this driver can do, as JSON: the keys are the same for all drivers (docs/drivers.md). */
#include <glib/gi18n-lib.h>
#include "job/build.h"
#include "driver/qemu/helper.h"
#include "driver/qemu/local.h"
#include "util/json.h"

static const struct {
    const char *feature;
    gboolean yes;
    const char *reason;
} features[] = {
    { "push", TRUE, NULL },
    { "pull", TRUE, NULL },
    { "full", TRUE, NULL },
    { "incremental", TRUE, NULL },
    { "sync-top", TRUE, NULL },
    { "sync-none", TRUE, NULL },
    { "checkpoints", TRUE, NULL },
    { "checkpoint-redefine", TRUE, NULL },
    { "checkpoint-check", TRUE, NULL },
    { "memory-bitmaps", TRUE, NULL },
    { "quiesce", TRUE, NULL },
    { "limit-at-start", TRUE, NULL },
    { "limit-while-running", TRUE, NULL },
    { "protection", TRUE, NULL },
    { "compression", TRUE, NULL },
    { "offline-guests", TRUE, NULL },
    { "target-file", TRUE, NULL },
    { "target-block", TRUE, NULL },
    { "target-nbd", TRUE, NULL },
    { "target-gluster", FALSE, N_("not delivered yet") },
    { "server-unix", TRUE, NULL },
    { "server-tcp", TRUE, NULL },
    { "server-fd", TRUE, NULL },
    { "server-tls", TRUE, NULL },
    { "server-psk", TRUE, NULL },
    { "attach", TRUE, NULL },
    { "discover", TRUE, NULL },
    { "dry-run", TRUE, NULL },
    { "events", TRUE, NULL },
};

/* What the storage daemon of this host opens targets with. A driver may be named in its schema and
 * lie in a module that is not installed, so each is tried on something that is not there. */
static const struct {
    const char *feature, *node;
} by_daemon[] = {
    { "target-ssh", "driver=ssh,server.host=127.0.0.1,server.port=1,path=/x,node-name=x" },
    { "target-iscsi", "driver=iscsi,transport=tcp,portal=127.0.0.1:1,target=x,lun=0,node-name=x" },
    { "target-nfs", "driver=nfs,server.type=inet,server.host=127.0.0.1,path=/x,node-name=x" },
    { "target-rbd", "driver=rbd,pool=x,image=x,conf=/dev/null/none,node-name=x" },
    { "encryption-luks", "driver=luks,file.driver=null-co,file.size=512,node-name=x" },
};

static void try_daemon (JsonObject *yes, JsonObject *reasons)
{
    for (guint i = 0; i < G_N_ELEMENTS (by_daemon); i++) {
        g_autofree char *why = helper_cannot (by_daemon[i].node);
        json_object_set_boolean_member (yes, by_daemon[i].feature, why == NULL);
        if (why)
            json_object_set_string_member (reasons, by_daemon[i].feature, why);
    }
}

gboolean qemu_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret,
                            GError **error)
{
    JsonObject *yes = json_object_new (), *reasons = json_object_new ();
    for (guint i = 0; i < G_N_ELEMENTS (features); i++) {
        json_object_set_boolean_member (yes, features[i].feature, features[i].yes);
        if (features[i].reason)
            json_object_set_string_member (reasons, features[i].feature, _(features[i].reason));
    }
    try_daemon (yes, reasons);
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_take_object (node, obj ("driver", "s", conn->driver->name, "version", "s",
                                      LIBBACKUP_VERSION, "features", "o", yes, "reasons", "o",
                                      reasons, NULL));
    g_autofree char *text = json_write (node);
    ret->text = ret_string (text);
    return TRUE;
}
