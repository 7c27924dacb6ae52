/* libbackup: guests and their disks.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBBACKUP_DOMAIN_H
#define LIBBACKUP_DOMAIN_H

#include <libbackup/connection.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakDomainDetails:
 *
 * What is known of a guest beyond BakDomainInfo; a snapshot.
 *
 * Since: 0.1
 */
typedef struct BakDomainDetails BakDomainDetails;

/**
 * BakDisk:
 *
 * A disk of a guest; a snapshot.
 *
 * Since: 0.1
 */
typedef struct BakDisk BakDisk;

/**
 * BakDomainState:
 *
 * What a guest does. The numbers are libvirt's.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_NOSTATE = 0,
    BAK_DOMAIN_RUNNING = 1,
    BAK_DOMAIN_BLOCKED = 2,
    BAK_DOMAIN_PAUSED = 3,
    BAK_DOMAIN_SHUTDOWN = 4,
    BAK_DOMAIN_SHUTOFF = 5,
    BAK_DOMAIN_CRASHED = 6,
    BAK_DOMAIN_PMSUSPENDED = 7
} BakDomainState;

/**
 * BakDomainInfo:
 *
 * Counterpart of virDomainInfo, in its units.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned char state;   /* BakDomainState */
    unsigned long max_mem; /* KiB */
    unsigned long memory;  /* KiB */
    unsigned short nr_virt_cpu;
    unsigned long long cpu_time; /* nanoseconds; 0 when unknown */
} BakDomainInfo;

/**
 * BakDomainBlockInfo:
 *
 * Counterpart of virDomainBlockInfo; bytes.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long long capacity;   /* what the guest sees */
    unsigned long long allocation; /* what is allocated in the image */
    unsigned long long physical;   /* the size of the file or device that holds it */
} BakDomainBlockInfo;

/**
 * BakDiskFlags:
 *
 * What bak_disk_get_flags() tells of a disk.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DISK_READ_ONLY = 1 << 0,
    BAK_DISK_EMPTY = 1 << 1, /* a drive without a medium */
    BAK_DISK_REMOVABLE = 1 << 2,
    BAK_DISK_SELECTED = 1 << 3 /* part of a backup that names no disks */
} BakDiskFlags;

/**
 * bak_domain_lookup_by_name:
 * @conn: a connection
 * @name: the guest's name
 * @error: return location of an error, or NULL
 *
 * Finds an attached guest by its exact name. Counterpart of virDomainLookupByName().
 *
 * Returns: the guest, bak_domain_unref() it; NULL on failure: BAK_ERROR_NO_DOMAIN
 *
 * Since: 0.1
 */
BakDomain *bak_domain_lookup_by_name (BakConnection *conn, const char *name, BakError **error);

/**
 * bak_domain_lookup_by_uuid_string:
 * @conn: a connection
 * @uuid: the guest's UUID, 36 characters
 * @error: return location of an error, or NULL
 *
 * Finds an attached guest by its UUID. Counterpart of virDomainLookupByUUIDString().
 *
 * Returns: the guest, bak_domain_unref() it; NULL on failure: BAK_ERROR_NO_DOMAIN
 *
 * Since: 0.1
 */
BakDomain *bak_domain_lookup_by_uuid_string (BakConnection *conn, const char *uuid,
                                             BakError **error);

/**
 * bak_domain_ref:
 * @domain: a guest
 *
 * Takes a reference.
 *
 * Returns: @domain
 *
 * Since: 0.1
 */
BakDomain *bak_domain_ref (BakDomain *domain);

/**
 * bak_domain_unref:
 * @domain: a guest, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_domain_unref (BakDomain *domain);

/**
 * bak_domain_get_name:
 * @domain: a guest
 *
 * Its name. Counterpart of virDomainGetName().
 *
 * Returns: a string owned by @domain; NULL for a NULL guest
 *
 * Since: 0.1
 */
const char *bak_domain_get_name (const BakDomain *domain);

/**
 * bak_domain_get_uuid_string:
 * @domain: a guest
 *
 * Its UUID. Counterpart of virDomainGetUUIDString().
 *
 * Returns: 36 characters owned by @domain; NULL for a NULL guest
 *
 * Since: 0.1
 */
const char *bak_domain_get_uuid_string (const BakDomain *domain);

/**
 * bak_domain_get_id:
 * @domain: a guest
 *
 * A small number while it runs, as it was when this handle was made. Counterpart of
 * virDomainGetID().
 *
 * Returns: the number; -1 when it is powered off
 *
 * Since: 0.1
 */
int bak_domain_get_id (const BakDomain *domain);

/**
 * bak_domain_get_connection:
 * @domain: a guest
 *
 * The connection it came from. Counterpart of virDomainGetConnect().
 *
 * Returns: a borrowed reference; NULL for a NULL guest
 *
 * Since: 0.1
 */
BakConnection *bak_domain_get_connection (const BakDomain *domain);

/**
 * bak_domain_get_last_state:
 * @domain: a guest
 *
 * What it did when this handle was made. A list of guests knows that of all of them without asking
 * each one again; bak_domain_get_state() asks.
 *
 * Returns: a BakDomainState; BAK_DOMAIN_NOSTATE for a NULL guest
 *
 * Since: 0.1
 */
BakDomainState bak_domain_get_last_state (const BakDomain *domain);

/**
 * bak_domain_has_checkpoints:
 * @domain: a guest
 *
 * Whether it had checkpoints when this handle was made.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_domain_has_checkpoints (const BakDomain *domain);

/**
 * bak_domain_get_state:
 * @domain: a guest
 * @state: return location of a BakDomainState
 * @reason: return location of libvirt's reason for that state (0: unknown), or NULL
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * What the guest does now. Counterpart of virDomainGetState().
 *
 * Returns: 0; -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_get_state (BakDomain *domain, int *state, int *reason, unsigned int flags,
                          BakError **error);

/**
 * bak_domain_get_info:
 * @domain: a guest
 * @info: filled in on success
 * @error: return location of an error, or NULL
 *
 * State, memory and processors. Counterpart of virDomainGetInfo().
 *
 * Returns: 0; -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_get_info (BakDomain *domain, BakDomainInfo *info, BakError **error);

/**
 * bak_domain_get_details:
 * @domain: a guest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Everything that is known of the guest in one question.
 *
 * Returns: a snapshot, bak_domain_details_unref() it; NULL on failure
 *
 * Since: 0.1
 */
BakDomainDetails *bak_domain_get_details (BakDomain *domain, unsigned int flags, BakError **error);

/**
 * bak_domain_get_xml_desc:
 * @domain: a guest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The guest as a <domain> document with its disks, as far as QEMU tells. Counterpart of
 * virDomainGetXMLDesc().
 *
 * Returns: the document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_domain_get_xml_desc (BakDomain *domain, unsigned int flags, BakError **error);

/**
 * bak_domain_list_disks:
 * @domain: a guest
 * @disks: return location of an array, or NULL to count only
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * All drives of the guest in QEMU's order, also those that a backup leaves out.
 *
 * Returns: how many; -1 on failure. *@disks is NULL-terminated: bak_disk_unref() each, bak_free()
 * the array
 *
 * Since: 0.1
 */
int bak_domain_list_disks (BakDomain *domain, BakDisk ***disks, unsigned int flags,
                           BakError **error);

/**
 * bak_domain_lookup_disk:
 * @domain: a guest
 * @disk: any name the disk answers to
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Finds one disk.
 *
 * Returns: the disk, bak_disk_unref() it; NULL on failure: BAK_ERROR_NO_DISK
 *
 * Since: 0.1
 */
BakDisk *bak_domain_lookup_disk (BakDomain *domain, const char *disk, unsigned int flags,
                                 BakError **error);

/**
 * bak_domain_get_block_info:
 * @domain: a guest
 * @disk: any name the disk answers to
 * @info: filled in on success; bytes
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The sizes of a disk. Counterpart of virDomainGetBlockInfo().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_NO_DISK
 *
 * Since: 0.1
 */
int bak_domain_get_block_info (BakDomain *domain, const char *disk, BakDomainBlockInfo *info,
                               unsigned int flags, BakError **error);

/**
 * bak_domain_get_chain:
 * @domain: a guest
 * @disk: any name the disk answers to
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The images that the disk stands on, from the top down, as a JSON object: "disk", "live" (1: what
 * the running QEMU knows; 0: what is in the files) and "images", an array of objects with "source",
 * "node", "format", "subformat", "capacity", "allocation", "physical", "cluster_size", "compat",
 * "compression", "extended_l2", "encryption", "data_file", "corrupt", "backing" ("stored",
 * "resolved", "format", "opened"), "snapshots" and "bitmaps". What does not apply is null.
 *
 * Returns: the document, bak_free() it; NULL on failure: BAK_ERROR_NO_DISK
 *
 * Since: 0.1
 */
char *bak_domain_get_chain (BakDomain *domain, const char *disk, unsigned int flags,
                            BakError **error);

/**
 * bak_domain_fs_freeze:
 * @domain: a guest with an agent
 * @mountpoints: which file systems; NULL: all
 * @n_mountpoints: how many
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Freezes file systems of the guest. Whoever freezes must thaw; a backup with
 * BAK_DOMAIN_BACKUP_BEGIN_QUIESCE does both by itself. Counterpart of virDomainFSFreeze().
 *
 * Returns: how many were frozen; -1 on failure: BAK_ERROR_CONNECTION when the agent is not there,
 * BAK_ERROR_AGENT when it failed, BAK_ERROR_TIMEOUT
 *
 * Since: 0.1
 */
int bak_domain_fs_freeze (BakDomain *domain, const char **mountpoints, unsigned int n_mountpoints,
                          unsigned int flags, BakError **error);

/**
 * bak_domain_fs_thaw:
 * @domain: a guest with an agent
 * @mountpoints: which file systems; NULL: all
 * @n_mountpoints: how many
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Thaws file systems of the guest. Counterpart of virDomainFSThaw().
 *
 * Returns: how many were thawed; -1 on failure, as bak_domain_fs_freeze()
 *
 * Since: 0.1
 */
int bak_domain_fs_thaw (BakDomain *domain, const char **mountpoints, unsigned int n_mountpoints,
                        unsigned int flags, BakError **error);

/**
 * bak_domain_detach:
 * @domain: a guest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Forgets a guest that was attached; the guest itself is not touched.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_BUSY while a backup runs
 *
 * Since: 0.1
 */
int bak_domain_detach (BakDomain *domain, unsigned int flags, BakError **error);

/**
 * bak_domain_details_ref:
 * @details: details of a guest
 *
 * Takes a reference.
 *
 * Returns: @details
 *
 * Since: 0.1
 */
BakDomainDetails *bak_domain_details_ref (BakDomainDetails *details);

/**
 * bak_domain_details_unref:
 * @details: details of a guest, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_domain_details_unref (BakDomainDetails *details);

/**
 * bak_domain_details_get_state:
 * @details: details of a guest
 *
 * The state of the guest.
 *
 * Returns: a BakDomainState
 *
 * Since: 0.1
 */
int bak_domain_details_get_state (const BakDomainDetails *details);

/**
 * bak_domain_details_get_qemu_version:
 * @details: details of a guest
 *
 * The version of the QEMU that runs it.
 *
 * Returns: as "7.2.22"; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_domain_details_get_qemu_version (const BakDomainDetails *details);

/**
 * bak_domain_details_get_max_memory:
 * @details: details of a guest
 *
 * The memory that the guest may have, bytes.
 *
 * Returns: bytes; 0 when unknown
 *
 * Since: 0.1
 */
unsigned long long bak_domain_details_get_max_memory (const BakDomainDetails *details);

/**
 * bak_domain_details_get_memory:
 * @details: details of a guest
 *
 * The memory that the guest has, bytes.
 *
 * Returns: bytes; 0 when unknown
 *
 * Since: 0.1
 */
unsigned long long bak_domain_details_get_memory (const BakDomainDetails *details);

/**
 * bak_domain_details_get_cpus:
 * @details: details of a guest
 *
 * The number of virtual processors.
 *
 * Returns: how many; 0 when unknown
 *
 * Since: 0.1
 */
unsigned int bak_domain_details_get_cpus (const BakDomainDetails *details);

/**
 * bak_domain_details_get_cpu_time:
 * @details: details of a guest
 *
 * The processor time that it used, nanoseconds.
 *
 * Returns: nanoseconds; 0 when unknown
 *
 * Since: 0.1
 */
unsigned long long bak_domain_details_get_cpu_time (const BakDomainDetails *details);

/**
 * bak_domain_details_get_pid:
 * @details: details of a guest
 *
 * The process of the QEMU that runs it, on the host where it runs.
 *
 * Returns: its id; 0 when it is not known, for a guest of libvirt and for one that is off
 *
 * Since: 0.1
 */
long long bak_domain_details_get_pid (const BakDomainDetails *details);

/**
 * bak_domain_details_get_qmp:
 * @details: details of a guest
 *
 * The address of its monitor.
 *
 * Returns: path or HOST:PORT; NULL for a powered-off guest
 *
 * Since: 0.1
 */
const char *bak_domain_details_get_qmp (const BakDomainDetails *details);

/**
 * bak_domain_details_get_agent:
 * @details: details of a guest
 *
 * The address of its guest agent.
 *
 * Returns: path or HOST:PORT; NULL when it has none
 *
 * Since: 0.1
 */
const char *bak_domain_details_get_agent (const BakDomainDetails *details);

/**
 * bak_domain_details_is_persistent:
 * @details: details of a guest
 *
 * Whether it stays known after the daemon or the host restarts.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_domain_details_is_persistent (const BakDomainDetails *details);

/**
 * bak_domain_details_is_by_images:
 * @details: details of a guest
 *
 * Whether it is a powered-off guest, known by its images alone.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_domain_details_is_by_images (const BakDomainDetails *details);

/**
 * bak_domain_details_get_job:
 * @details: details of a guest
 *
 * The id of the backup that runs on it.
 *
 * Returns: the id; NULL when none runs
 *
 * Since: 0.1
 */
const char *bak_domain_details_get_job (const BakDomainDetails *details);

/**
 * bak_domain_details_get_n_notes:
 * @details: details of a guest
 *
 * How many notes there are.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_domain_details_get_n_notes (const BakDomainDetails *details);

/**
 * bak_domain_details_get_note:
 * @details: details of a guest
 * @index: 0 to bak_domain_details_get_n_notes() - 1
 *
 * Something a person should know, as "the image is locked by a storage daemon of libbackup".
 *
 * Returns: one line; NULL when @index is out of range
 *
 * Since: 0.1
 */
const char *bak_domain_details_get_note (const BakDomainDetails *details, unsigned int index);

/**
 * bak_disk_ref:
 * @disk: a disk
 *
 * Takes a reference.
 *
 * Returns: @disk
 *
 * Since: 0.1
 */
BakDisk *bak_disk_ref (BakDisk *disk);

/**
 * bak_disk_unref:
 * @disk: a disk, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_disk_unref (BakDisk *disk);

/**
 * bak_disk_get_target:
 * @disk: a disk
 *
 * Its stable name: the one given at attach, else the alias, the id of the device, of the drive, of
 * the node.
 *
 * Returns: the name
 *
 * Since: 0.1
 */
const char *bak_disk_get_target (const BakDisk *disk);

/**
 * bak_disk_get_n_names:
 * @disk: a disk
 *
 * How many names it answers to; the target is the first.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_disk_get_n_names (const BakDisk *disk);

/**
 * bak_disk_get_name:
 * @disk: a disk
 * @index: 0 to bak_disk_get_n_names() - 1
 *
 * A name that XML documents and options may use for this disk.
 *
 * Returns: the name; NULL when @index is out of range
 *
 * Since: 0.1
 */
const char *bak_disk_get_name (const BakDisk *disk, unsigned int index);

/**
 * bak_disk_get_node:
 * @disk: a disk
 *
 * The node of QEMU that is backed up.
 *
 * Returns: the node name; NULL when the drive is empty
 *
 * Since: 0.1
 */
const char *bak_disk_get_node (const BakDisk *disk);

/**
 * bak_disk_get_source:
 * @disk: a disk
 *
 * The file, device or URI of the image.
 *
 * Returns: the source; NULL when the drive is empty or it has none
 *
 * Since: 0.1
 */
const char *bak_disk_get_source (const BakDisk *disk);

/**
 * bak_disk_get_type:
 * @disk: a disk
 *
 * What the source is: "file", "block", "network".
 *
 * Returns: the type; NULL when unknown
 *
 * Since: 0.1
 */
const char *bak_disk_get_type (const BakDisk *disk);

/**
 * bak_disk_get_device:
 * @disk: a disk
 *
 * What the guest sees: "disk", "cdrom", "floppy", "lun".
 *
 * Returns: the kind; NULL when unknown
 *
 * Since: 0.1
 */
const char *bak_disk_get_device (const BakDisk *disk);

/**
 * bak_disk_get_format:
 * @disk: a disk
 *
 * The format of the image, as "qcow2".
 *
 * Returns: the format; NULL when unknown
 *
 * Since: 0.1
 */
const char *bak_disk_get_format (const BakDisk *disk);

/**
 * bak_disk_get_bus:
 * @disk: a disk
 *
 * The bus it hangs on, as "virtio".
 *
 * Returns: the bus; NULL when unknown
 *
 * Since: 0.1
 */
const char *bak_disk_get_bus (const BakDisk *disk);

/**
 * bak_disk_get_iothread:
 * @disk: a disk
 *
 * The iothread that serves it.
 *
 * Returns: the id; NULL when it is the main loop
 *
 * Since: 0.1
 */
const char *bak_disk_get_iothread (const BakDisk *disk);

/**
 * bak_disk_get_capacity:
 * @disk: a disk
 *
 * The size that the guest sees.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_disk_get_capacity (const BakDisk *disk);

/**
 * bak_disk_get_allocation:
 * @disk: a disk
 *
 * What is allocated in the image.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_disk_get_allocation (const BakDisk *disk);

/**
 * bak_disk_get_physical:
 * @disk: a disk
 *
 * The size of the file or device that holds the image.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_disk_get_physical (const BakDisk *disk);

/**
 * bak_disk_get_depth:
 * @disk: a disk
 *
 * The number of images in its backing chain, the active one included.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_disk_get_depth (const BakDisk *disk);

/**
 * bak_disk_get_flags:
 * @disk: a disk
 *
 * Properties of the disk.
 *
 * Returns: BakDiskFlags
 *
 * Since: 0.1
 */
unsigned int bak_disk_get_flags (const BakDisk *disk);

/**
 * bak_disk_get_note:
 * @disk: a disk
 *
 * Why a backup leaves the disk out, or another thing that a person should know.
 *
 * Returns: one line; NULL when there is nothing to say
 *
 * Since: 0.1
 */
const char *bak_disk_get_note (const BakDisk *disk);

#ifdef __cplusplus
}
#endif
#endif
