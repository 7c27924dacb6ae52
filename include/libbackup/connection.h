/* libbackup: connections, and finding guests through them.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBBACKUP_CONNECTION_H
#define LIBBACKUP_CONNECTION_H

#include <libbackup/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakConnection:
 *
 * A way to guests: in this process, through a daemon here or elsewhere, or through libvirt. Every
 * handle that comes from a connection keeps it open.
 *
 * Since: 0.1
 */
typedef struct BakConnection BakConnection;

/**
 * BakDomain:
 *
 * A guest. The handle is a name, not a snapshot: calls on it ask anew.
 *
 * Since: 0.1
 */
typedef struct BakDomain BakDomain;

/**
 * BakGuestProcess:
 *
 * A running QEMU that bak_connection_discover() found; a snapshot.
 *
 * Since: 0.1
 */
typedef struct BakGuestProcess BakGuestProcess;

/**
 * BakListDomainsFlags:
 *
 * Which guests bak_connection_list_all_domains() returns; 0 is all of them.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_CONNECT_LIST_DOMAINS_ACTIVE = 1 << 0,          /* running or paused */
    BAK_CONNECT_LIST_DOMAINS_INACTIVE = 1 << 1,        /* powered off */
    BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT = 1 << 14, /* with at least one checkpoint */
    BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT = 1 << 15   /* without any */
} BakListDomainsFlags;

/**
 * BakNamedDisk:
 *
 * A disk and the name it shall have.
 *
 * Since: 0.1
 */
typedef struct {
    const char *target; /* the name, as "vda" */
    /* attach by monitor: a name the disk answers to in QEMU; by image: the absolute path of the
     * image */
    const char *id;
} BakNamedDisk;

/**
 * BakAttachFlags:
 * @BAK_ATTACH_FIND_IMAGES: the images of a guest that runs now are found in its QEMU: as if each
 *   was given as an image
 *
 * How bak_connection_attach() goes about it.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_ATTACH_FIND_IMAGES = 1 << 0,
} BakAttachFlags;

/**
 * BakAttachOptions:
 *
 * How a guest is reached. Set it to zero and @size to sizeof (BakAttachOptions), then fill in what
 * is needed. Give @qmp (a guest that runs), @images (one that is powered off), or both: one guest,
 * which is backed up by its monitor while it runs and by its images while it is off. Fields are
 * only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size; /* sizeof (BakAttachOptions) */
    const char *name;   /* the guest's name here; required */
    const char *qmp;    /* absolute path of the QMP socket, or HOST:PORT */
    /* absolute path of the guest agent's socket, or HOST:PORT; NULL: none */
    const char *agent;
    const BakNamedDisk *disks; /* names for disks of a running guest */
    unsigned int n_disks;
    const BakNamedDisk *images; /* the disks of a guest while it is powered off */
    unsigned int n_images;
    unsigned int flags; /* BakAttachFlags */
} BakAttachOptions;

/**
 * bak_connection_open:
 * @name: a URI, as "qemu:///system"; NULL: LIBBACKUP_DEFAULT_URI, then the configuration, then
 * qemu:///system for root, else qemu:///session
 * @error: return location of an error, or NULL
 *
 * Opens a connection. Counterpart of virConnectOpen().
 *
 * Returns: a connection, bak_connection_unref() it; NULL on failure: BAK_ERROR_INVALID_ARGUMENT for
 * a URI that no driver knows, BAK_ERROR_CONNECTION when nobody answers, BAK_ERROR_ACCESS_DENIED
 *
 * Since: 0.1
 */
BakConnection *bak_connection_open (const char *name, BakError **error);

/**
 * bak_connection_open_read_only:
 * @name: as for bak_connection_open()
 * @error: return location of an error, or NULL
 *
 * Opens a connection on which everything that changes something fails with BAK_ERROR_ACCESS_DENIED.
 * Counterpart of virConnectOpenReadOnly().
 *
 * Returns: a connection, bak_connection_unref() it; NULL on failure
 *
 * Since: 0.1
 */
BakConnection *bak_connection_open_read_only (const char *name, BakError **error);

/**
 * bak_connection_ref:
 * @conn: a connection
 *
 * Takes a reference.
 *
 * Returns: @conn
 *
 * Since: 0.1
 */
BakConnection *bak_connection_ref (BakConnection *conn);

/**
 * bak_connection_unref:
 * @conn: a connection, or NULL
 *
 * Drops a reference; the last one closes the connection and ends its callbacks. Jobs run on. It may
 * be called from a callback.
 *
 * Since: 0.1
 */
void bak_connection_unref (BakConnection *conn);

/**
 * bak_connection_set_patience:
 * @conn: a connection
 * @timeout: microseconds that each call may wait; 0: as long as it takes, on the caller's thread,
 * which is how a connection begins; ULLONG_MAX: as long as it takes, but bak_connection_give_up()
 * ends it
 * @error: return location of an error, or NULL
 *
 * How long later calls on this connection, and on all that came from it, may wait for an answer. A
 * call that waits longer fails with BAK_ERROR_TIMEOUT. What it asked for is not undone by that: a
 * backup whose begin was given up may run all the same; bak_domain_backup_info() tells, and
 * bak_domain_backup_stop() with BAK_DOMAIN_BACKUP_STOP_ABORT ends it.
 *
 * Returns: 0; -1 on failure
 *
 * Since: 0.1
 */
int bak_connection_set_patience (BakConnection *conn, unsigned long long timeout, BakError **error);

/**
 * bak_connection_give_up:
 * @conn: a connection, or NULL
 *
 * Ends the waits of all calls that run now on this connection, and on all that came from it, in
 * other threads: they fail with BAK_ERROR_ABORTED at once. Calls that were made while it had no
 * patience (bak_connection_set_patience()) are not reached. Later calls wait again.
 *
 * Since: 0.1
 */
void bak_connection_give_up (BakConnection *conn);

/**
 * bak_connection_get_uri:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * The URI in use, the default one spelled out. Counterpart of virConnectGetURI().
 *
 * Returns: the URI, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_connection_get_uri (BakConnection *conn, BakError **error);

/**
 * bak_connection_get_type:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * The driver that serves the connection: "qemu", "remote", "libvirt", "test". Counterpart of
 * virConnectGetType().
 *
 * Returns: a string owned by @conn; NULL on failure
 *
 * Since: 0.1
 */
const char *bak_connection_get_type (BakConnection *conn, BakError **error);

/**
 * bak_connection_is_read_only:
 * @conn: a connection
 *
 * Tells how it was opened.
 *
 * Returns: 1 if it was opened read-only, else 0
 *
 * Since: 0.1
 */
int bak_connection_is_read_only (BakConnection *conn);

/**
 * bak_connection_get_product:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * Name and version of what does the work, which is another process on a remote connection, as
 * "libbackup 0.1.0".
 *
 * Returns: the text, bak_free() it; NULL on failure: BAK_ERROR_NOT_SUPPORTED when the driver does
 * not tell
 *
 * Since: 0.1
 */
char *bak_connection_get_product (BakConnection *conn, BakError **error);

/**
 * bak_connection_get_capabilities:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * What the driver behind this connection can do, as a JSON object: "driver", "features" (name: true
 * or false) and "reasons" (name: why not, or under which condition). Counterpart of
 * virConnectGetCapabilities().
 *
 * Returns: the document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_connection_get_capabilities (BakConnection *conn, BakError **error);

/**
 * bak_connection_describe:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * The calls that the other side knows: a line each of number, name, flags and the version that
 * brought it.
 *
 * Returns: the text, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_connection_describe (BakConnection *conn, BakError **error);

/**
 * bak_connection_list_all_domains:
 * @conn: a connection
 * @domains: return location of an array, or NULL to count only
 * @flags: BakListDomainsFlags; flags of one group (active or not, with checkpoints or not) add up,
 * both groups must hold
 * @error: return location of an error, or NULL
 *
 * The attached guests, ordered by name. Counterpart of virConnectListAllDomains().
 *
 * Returns: how many; -1 on failure. *@domains is NULL-terminated: bak_domain_unref() each,
 * bak_free() the array
 *
 * Since: 0.1
 */
int bak_connection_list_all_domains (BakConnection *conn, BakDomain ***domains, unsigned int flags,
                                     BakError **error);

/**
 * bak_connection_attach:
 * @conn: a connection
 * @options: name of the guest and how it is reached
 * @error: return location of an error, or NULL
 *
 * Makes a guest known, now and after restarts, until bak_domain_detach(). The guest is contacted
 * before it is recorded.
 *
 * Returns: the guest, bak_domain_unref() it; NULL on failure: BAK_ERROR_EXISTS when the name is
 * taken, BAK_ERROR_MONITOR_HELD when another client holds the monitor, BAK_ERROR_CONNECTION when
 * nobody answers there, BAK_ERROR_NO_DISK for an id that no disk answers to
 *
 * Since: 0.1
 */
BakDomain *bak_connection_attach (BakConnection *conn, const BakAttachOptions *options,
                                  BakError **error);

/**
 * bak_connection_discover:
 * @conn: a connection
 * @processes: return location of an array, or NULL to count only
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Finds running QEMUs on that host that have a QMP socket, attached or not.
 *
 * Returns: how many; -1 on failure. *@processes is NULL-terminated: bak_guest_process_unref() each,
 * bak_free() the array
 *
 * Since: 0.1
 */
int bak_connection_discover (BakConnection *conn, BakGuestProcess ***processes, unsigned int flags,
                             BakError **error);

/**
 * bak_guest_process_ref:
 * @process: a found process
 *
 * Takes a reference.
 *
 * Returns: @process
 *
 * Since: 0.1
 */
BakGuestProcess *bak_guest_process_ref (BakGuestProcess *process);

/**
 * bak_guest_process_unref:
 * @process: a found process, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_guest_process_unref (BakGuestProcess *process);

/**
 * bak_guest_process_get_pid:
 * @process: a found process
 *
 * Its process id on the host of the connection.
 *
 * Returns: the process id
 *
 * Since: 0.1
 */
long long bak_guest_process_get_pid (const BakGuestProcess *process);

/**
 * bak_guest_process_get_qmp:
 * @process: a found process
 *
 * Where its monitor listens, in the form that bak_connection_attach() takes.
 *
 * Returns: path or HOST:PORT; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_qmp (const BakGuestProcess *process);

/**
 * bak_guest_process_get_name:
 * @process: a found process
 *
 * The name that the guest was given on QEMU's command line.
 *
 * Returns: the name; NULL when it has none
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_name (const BakGuestProcess *process);

/**
 * bak_guest_process_get_uuid:
 * @process: a found process
 *
 * The UUID that the guest was given.
 *
 * Returns: 36 characters; NULL when it has none
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_uuid (const BakGuestProcess *process);

/**
 * bak_guest_process_get_qemu_version:
 * @process: a found process
 *
 * The version of that QEMU.
 *
 * Returns: as "7.2.22"; NULL when its monitor did not tell
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_qemu_version (const BakGuestProcess *process);

/**
 * bak_guest_process_get_attached_as:
 * @process: a found process
 *
 * The name under which the guest is attached already.
 *
 * Returns: the name; NULL when it is not attached
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_attached_as (const BakGuestProcess *process);

/**
 * bak_guest_process_get_note:
 * @process: a found process
 *
 * What a person should know, as "the monitor is held by another client".
 *
 * Returns: one line; NULL when there is nothing to say
 *
 * Since: 0.1
 */
const char *bak_guest_process_get_note (const BakGuestProcess *process);

#ifdef __cplusplus
}
#endif
#endif
