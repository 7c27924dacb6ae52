/* What this driver can do, with the keys that all drivers share (docs/drivers.md). */
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "job/build.h"
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
    { "sync-top", FALSE, N_("libvirt copies a whole disk or an increment since a checkpoint") },
    { "sync-none", FALSE, N_("libvirt copies a whole disk or an increment since a checkpoint") },
    { "checkpoints", TRUE, NULL },
    { "checkpoint-redefine", TRUE, NULL },
    { "checkpoint-check", TRUE, NULL },
    { "memory-bitmaps", FALSE, N_("libvirt keeps checkpoints in qcow2 images only") },
    { "quiesce", TRUE, NULL },
    { "limit-at-start", TRUE,
      N_("set right after the start: libvirt has no limit in the document") },
    { "limit-while-running", TRUE, NULL },
    { "protection", FALSE,
      N_("libvirt does not use copy-before-write filters: space is watched instead, and a guest "
          "that was paused is resumed") },
    { "compression", FALSE, N_("libvirt does not let QEMU compress what a backup writes") },
    { "offline-guests", TRUE,
      N_("on this host, by their images; checkpoints are then redefined in libvirt") },
    { "target-file", TRUE, NULL },
    { "target-block", TRUE, NULL },
    { "target-nbd", FALSE, N_("libvirt writes backups to files and block devices only") },
    { "target-ssh", FALSE, N_("libvirt writes backups to files and block devices only") },
    { "target-gluster", FALSE, N_("libvirt writes backups to files and block devices only") },
    { "target-rbd", FALSE, N_("libvirt writes backups to files and block devices only") },
    { "target-iscsi", FALSE, N_("libvirt writes backups to files and block devices only") },
    { "target-nfs", FALSE,
      N_("libvirt writes backups to files and block devices only; a mounted directory is a file "
          "target") },
    { "encryption-luks", TRUE,
      N_("full push and scratch, with a secret of libvirt's; not an increment") },
    { "server-unix", TRUE, NULL },
    { "server-tcp", TRUE, NULL },
    { "server-fd", FALSE, N_("a socket that was passed is not handed on to libvirt") },
    { "server-tls", TRUE,
      N_("with the certificates of libvirt's configuration, none of one job") },
    { "server-psk", FALSE, N_("libvirt exports with certificates only") },
    { "attach", FALSE, N_("libvirt knows its guests") },
    { "discover", FALSE, N_("libvirt knows its guests") },
    { "dry-run", TRUE, NULL },
    { "events", TRUE, NULL },
};

gboolean lv_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret, GError **error)
{
    JsonObject *yes = json_object_new (), *reasons = json_object_new ();
    g_autoptr (virConnect) vir = lv_connect (conn->priv, error);
    unsigned long library = 0, hypervisor = 0;

    for (guint i = 0; i < G_N_ELEMENTS (features); i++) {
        json_object_set_boolean_member (yes, features[i].feature, features[i].yes);
        if (features[i].reason)
            json_object_set_string_member (reasons, features[i].feature, _(features[i].reason));
    }
    if (vir) {
        virConnectGetLibVersion (vir, &library);
        virConnectGetVersion (vir, &hypervisor);
    }
    g_autofree char *library_text =
        g_strdup_printf ("%lu.%lu.%lu", library / 1000000, library / 1000 % 1000, library % 1000);
    g_autofree char *hypervisor_text = g_strdup_printf (
        "%lu.%lu.%lu", hypervisor / 1000000, hypervisor / 1000 % 1000, hypervisor % 1000);
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_take_object (node, obj ("driver", "s", conn->driver->name, "version", "s",
                                      LIBBACKUP_VERSION, "libvirt", "s", library_text, "qemu", "s",
                                      hypervisor_text, "features", "o", yes, "reasons", "o",
                                      reasons, NULL));
    if (!vir)
        return FALSE;
    g_autofree char *text = json_write (node);
    ret->text = ret_string (text);
    return TRUE;
}
