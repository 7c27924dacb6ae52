/* The libvirt driver: a connection to libvirt, what it keeps in the state directory, and the guests
 * with jobs of ours.
 *
 *   STATE/libvirt-HASH/uri                      the connection that this folder belongs to
 *   STATE/libvirt-HASH/guests/NAME/jobs/        records, as of every driver
 *   STATE/libvirt-HASH/guests/NAME/checkpoints/ what libvirt does not keep about its checkpoints:
 * sizes, files, the job STATE/libvirt-HASH/guests/NAME/online/      journal and lock of a job that
 * libvirt runs STATE/libvirt-HASH/guests/NAME/             journal and lock of a job on a
 * powered-off guest's images (the qemu driver's) */
#pragma once
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include "driver/driver.h"
#include "driver/watchers.h"

typedef struct _LvConn LvConn;
typedef struct _DriverGuest LvGuest; /* guest.h */
typedef struct _LvListener LvListener;
typedef struct _LvGuestJobs LvGuestJobs; /* guest.h */

struct _LvConn { /* DriverConn.priv */
    DriverConn *conn;
    char *uri;       /* libvirt's own, without libvirt+ */
    char *state_dir; /* STATE/libvirt-HASH */
    DriverRole role;
    char *watch_guest; /* WATCHER */
    const LvGuestJobs *jobs;
    /* With the lock held: a connection was made, or is about to be closed. */
    void (*listen) (LvConn *lv, gboolean open);
    gboolean local; /* libvirt runs on this host: its paths are ours */
    gboolean session;

    GMutex lock;        /* guards what follows */
    virConnectPtr vir;  /* the present connection; replaced when it was lost */
    guint opened;       /* how often one was opened */
    GHashTable *guests; /* name -> LvGuest* */
    GArray *callbacks;  /* int: registered with vir */
    LvListener *listener;
    int registrations, next_registration;

    GMutex engine_lock;
    /* the qemu driver on our state directory, for powered-off guests; NULL until needed */
    DriverConn *engine;
    Watchers *watchers;
};

static inline void lv_domain_free (virDomainPtr domain)
{
    if (domain)
        virDomainFree (domain);
}
static inline void lv_connect_close (virConnectPtr vir)
{
    if (vir)
        virConnectClose (vir);
}
static inline void lv_checkpoint_free (virDomainCheckpointPtr checkpoint)
{
    if (checkpoint)
        virDomainCheckpointFree (checkpoint);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (virDomain, lv_domain_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (virConnect, lv_connect_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (virDomainCheckpoint, lv_checkpoint_free)

/* error.c: *error from libvirt's last error of this thread; returns FALSE. */
gboolean lv_error (GError **error);
BakErrorCode lv_error_code (const virError *error); /* pure */
void lv_error_quiet (virConnectPtr vir); /* libvirt prints errors to stderr unless told otherwise */

/* connect.c: the present connection, opened again when it was lost. A reference: close it. NULL
 * with CONNECTION. */
virConnectPtr lv_connect (LvConn *lv, GError **error);
/* changes when the connection was lost and is there again */
guint lv_connection_number (LvConn *lv);
virDomainPtr lv_domain (LvConn *lv, const char *name, GError **error);
gboolean lv_uri_is_local (const char *uri); /* pure */
char *lv_uri_hash (const char *uri);        /* 8 hex digits; pure */
gboolean lv_guest_name_check (const char *name, GError **error);
char *lv_guest_dir (LvConn *lv, const char *name); /* STATE/libvirt-HASH/guests/NAME */

/* claims.c: tells who is about to write to a file which images libvirt's guests have, those that
 * are off too. */
gboolean lv_publish_images (LvConn *lv, GError **error);

/* events.c; register and deregister with lv->lock held */
LvListener *lv_listener_new (LvConn *lv);
void lv_listener_close (LvListener *listener);
void lv_events_register (LvConn *lv);
void lv_events_deregister (LvConn *lv);

/* domain.c */
/* whoever looks at disks sees whether one is smaller than at a checkpoint */
void lv_look_at_sizes (DriverConn *conn, virDomainPtr domain);
gboolean lv_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret, GError **error);
gboolean lv_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                    GError **error);
gboolean lv_domain_info (DriverConn *conn, const bak_domain_arg *args, bak_domain_info *ret,
                         GError **error);
gboolean lv_domain_state (DriverConn *conn, const bak_domain_arg *args, bak_state_ret *ret,
                          GError **error);
gboolean lv_domain_xml (DriverConn *conn, const bak_domain_arg *args, bak_text_ret *ret,
                        GError **error);
gboolean lv_domain_disks (DriverConn *conn, const bak_domain_arg *args, bak_disks_ret *ret,
                          GError **error);
gboolean lv_domain_chain (DriverConn *conn, const bak_disk_arg *args, bak_text_ret *ret,
                          GError **error);
gboolean lv_domain_disk (DriverConn *conn, const bak_disk_arg *args, bak_disk_ret *ret,
                         GError **error);
gboolean lv_fs_freeze (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                       GError **error);
gboolean lv_fs_thaw (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                     GError **error);
