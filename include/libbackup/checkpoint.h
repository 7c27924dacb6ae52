/* libbackup: checkpoints, the points that increments start from.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBBACKUP_CHECKPOINT_H
#define LIBBACKUP_CHECKPOINT_H

#include <libbackup/domain.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakCheckpoint:
 *
 * A checkpoint of a guest. Name, parent, time and note are a snapshot; calls on it ask anew.
 * Counterpart of virDomainCheckpoint.
 *
 * Since: 0.1
 */
typedef struct BakCheckpoint BakCheckpoint;

/**
 * BakFinding:
 *
 * Something that bak_domain_checkpoint_check() found; a snapshot.
 *
 * Since: 0.1
 */
typedef struct BakFinding BakFinding;

/**
 * BakDomainCheckpointCreateFlags:
 *
 * Flags of bak_domain_checkpoint_create_xml().
 *
 * Since: 0.1
 */
typedef enum {
    /* make known again what exists; parents first */
    BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE = 1 << 0,
    /* freeze the file systems around it */
    BAK_DOMAIN_CHECKPOINT_CREATE_QUIESCE = 1 << 1,
    /* and check its bitmaps; needs REDEFINE */
    BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE = 1 << 2
} BakDomainCheckpointCreateFlags;

/**
 * BakDomainCheckpointXMLFlags:
 *
 * Flags of bak_domain_checkpoint_get_xml_desc().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_CHECKPOINT_XML_SECURE = 1 << 0,
    BAK_DOMAIN_CHECKPOINT_XML_NO_DOMAIN = 1 << 1, /* leave <domain> out */
    /* add the bytes that are dirty since */
    BAK_DOMAIN_CHECKPOINT_XML_SIZE = 1 << 2
} BakDomainCheckpointXMLFlags;

/**
 * BakDomainCheckpointListFlags:
 *
 * Flags of the two calls that list checkpoints.
 *
 * Since: 0.1
 */
typedef enum {
    /* of a guest: only those without a parent */
    BAK_DOMAIN_CHECKPOINT_LIST_ROOTS = 1 << 0,
    /* of a checkpoint: children of children too */
    BAK_DOMAIN_CHECKPOINT_LIST_DESCENDANTS = 1 << 0,
    BAK_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL = 1 << 1, /* parents before children */
    /* only those without children */
    BAK_DOMAIN_CHECKPOINT_LIST_LEAVES = 1 << 2,
    BAK_DOMAIN_CHECKPOINT_LIST_NO_LEAVES = 1 << 3 /* only those with children */
} BakDomainCheckpointListFlags;

/**
 * BakDomainCheckpointDeleteFlags:
 *
 * Flags of bak_domain_checkpoint_delete().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN = 1 << 0,      /* and all that come after it */
    BAK_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY = 1 << 1, /* leave the bitmaps */
    /* only those that come after it */
    BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY = 1 << 2
} BakDomainCheckpointDeleteFlags;

/**
 * BakDomainCheckpointCheckFlags:
 *
 * Flags of bak_domain_checkpoint_check().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_CHECKPOINT_CHECK_REPAIR = 1 << 0 /* do what the findings say */
} BakDomainCheckpointCheckFlags;

/**
 * bak_domain_checkpoint_create_xml:
 * @domain: a guest
 * @xml: <domaincheckpoint>
 * @flags: BakDomainCheckpointCreateFlags
 * @error: return location of an error, or NULL
 *
 * Makes a checkpoint of all its disks at one instant. Counterpart of
 * virDomainCheckpointCreateXML().
 *
 * Returns: the checkpoint, bak_domain_checkpoint_unref() it; NULL on failure: BAK_ERROR_XML,
 * BAK_ERROR_EXISTS, BAK_ERROR_NO_DISK, BAK_ERROR_NO_CHECKPOINT for a missing parent,
 * BAK_ERROR_NOT_SUPPORTED for a disk that cannot bear a bitmap, BAK_ERROR_INEXACT when validation
 * fails
 *
 * Since: 0.1
 */
BakCheckpoint *bak_domain_checkpoint_create_xml (BakDomain *domain, const char *xml,
                                                 unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_get_xml_desc:
 * @checkpoint: a checkpoint
 * @flags: BakDomainCheckpointXMLFlags
 * @error: return location of an error, or NULL
 *
 * Its document; it is valid input for a redefinition. Counterpart of
 * virDomainCheckpointGetXMLDesc().
 *
 * Returns: the document, bak_free() it; NULL on failure: BAK_ERROR_NO_CHECKPOINT
 *
 * Since: 0.1
 */
char *bak_domain_checkpoint_get_xml_desc (BakCheckpoint *checkpoint, unsigned int flags,
                                          BakError **error);

/**
 * bak_domain_list_all_checkpoints:
 * @domain: a guest
 * @checkpoints: return location of an array, or NULL to count only
 * @flags: BakDomainCheckpointListFlags
 * @error: return location of an error, or NULL
 *
 * The checkpoints of a guest. Counterpart of virDomainListAllCheckpoints().
 *
 * Returns: how many; -1 on failure. *@checkpoints is NULL-terminated: bak_domain_checkpoint_unref()
 * each, bak_free() the array
 *
 * Since: 0.1
 */
int bak_domain_list_all_checkpoints (BakDomain *domain, BakCheckpoint ***checkpoints,
                                     unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_list_all_children:
 * @checkpoint: a checkpoint
 * @children: return location of an array, or NULL to count only
 * @flags: BakDomainCheckpointListFlags
 * @error: return location of an error, or NULL
 *
 * The checkpoints that come after this one. Counterpart of virDomainCheckpointListAllChildren().
 *
 * Returns: how many; -1 on failure. *@children is NULL-terminated: bak_domain_checkpoint_unref()
 * each, bak_free() the array
 *
 * Since: 0.1
 */
int bak_domain_checkpoint_list_all_children (BakCheckpoint *checkpoint, BakCheckpoint ***children,
                                             unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_lookup_by_name:
 * @domain: a guest
 * @name: its name
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Finds a checkpoint. Counterpart of virDomainCheckpointLookupByName().
 *
 * Returns: the checkpoint, bak_domain_checkpoint_unref() it; NULL on failure:
 * BAK_ERROR_NO_CHECKPOINT
 *
 * Since: 0.1
 */
BakCheckpoint *bak_domain_checkpoint_lookup_by_name (BakDomain *domain, const char *name,
                                                     unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_get_parent:
 * @checkpoint: a checkpoint
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The checkpoint that it comes after. Counterpart of virDomainCheckpointGetParent().
 *
 * Returns: the parent, bak_domain_checkpoint_unref() it; NULL on failure: BAK_ERROR_NO_CHECKPOINT
 * when it has none
 *
 * Since: 0.1
 */
BakCheckpoint *bak_domain_checkpoint_get_parent (BakCheckpoint *checkpoint, unsigned int flags,
                                                 BakError **error);

/**
 * bak_domain_checkpoint_delete:
 * @checkpoint: a checkpoint
 * @flags: BakDomainCheckpointDeleteFlags
 * @error: return location of an error, or NULL
 *
 * Deletes it with its bitmaps; the others go on recording by themselves. Counterpart of
 * virDomainCheckpointDelete().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_NO_CHECKPOINT, BAK_ERROR_BUSY
 *
 * Since: 0.1
 */
int bak_domain_checkpoint_delete (BakCheckpoint *checkpoint, unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_check:
 * @domain: a guest
 * @names: bitmaps that are not ours and that a repair may touch; NULL: none
 * @n_names: how many
 * @findings: return location of an array, or NULL to count only
 * @flags: BakDomainCheckpointCheckFlags
 * @error: return location of an error, or NULL
 *
 * Compares the recorded checkpoints with the bitmaps that exist, and repairs what differs when it
 * is told to.
 *
 * Returns: how many findings; -1 on failure. *@findings is NULL-terminated: bak_finding_unref()
 * each, bak_free() the array
 *
 * Since: 0.1
 */
int bak_domain_checkpoint_check (BakDomain *domain, const char **names, unsigned int n_names,
                                 BakFinding ***findings, unsigned int flags, BakError **error);

/**
 * bak_domain_checkpoint_ref:
 * @checkpoint: a checkpoint
 *
 * Takes a reference.
 *
 * Returns: @checkpoint
 *
 * Since: 0.1
 */
BakCheckpoint *bak_domain_checkpoint_ref (BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_unref:
 * @checkpoint: a checkpoint, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_domain_checkpoint_unref (BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_name:
 * @checkpoint: a checkpoint
 *
 * Its name. Counterpart of virDomainCheckpointGetName().
 *
 * Returns: a string owned by @checkpoint; NULL for a NULL checkpoint
 *
 * Since: 0.1
 */
const char *bak_domain_checkpoint_get_name (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_domain:
 * @checkpoint: a checkpoint
 *
 * Its guest. Counterpart of virDomainCheckpointGetDomain().
 *
 * Returns: a borrowed reference; NULL for a NULL checkpoint
 *
 * Since: 0.1
 */
BakDomain *bak_domain_checkpoint_get_domain (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_connection:
 * @checkpoint: a checkpoint
 *
 * The connection it came from. Counterpart of virDomainCheckpointGetConnect().
 *
 * Returns: a borrowed reference; NULL for a NULL checkpoint
 *
 * Since: 0.1
 */
BakConnection *bak_domain_checkpoint_get_connection (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_parent_name:
 * @checkpoint: a checkpoint
 *
 * The name of the checkpoint that it comes after.
 *
 * Returns: the name; NULL when it is the first
 *
 * Since: 0.1
 */
const char *bak_domain_checkpoint_get_parent_name (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_created:
 * @checkpoint: a checkpoint
 *
 * When it was made.
 *
 * Returns: microseconds since 1970, whole seconds
 *
 * Since: 0.1
 */
long long bak_domain_checkpoint_get_created (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_n_children:
 * @checkpoint: a checkpoint
 *
 * How many come right after it.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_domain_checkpoint_get_n_children (const BakCheckpoint *checkpoint);

/**
 * bak_domain_checkpoint_get_note:
 * @checkpoint: a checkpoint
 *
 * Something a person should know, as "provisional".
 *
 * Returns: one line; NULL when there is nothing to say
 *
 * Since: 0.1
 */
const char *bak_domain_checkpoint_get_note (const BakCheckpoint *checkpoint);

/**
 * bak_finding_ref:
 * @finding: a finding
 *
 * Takes a reference.
 *
 * Returns: @finding
 *
 * Since: 0.1
 */
BakFinding *bak_finding_ref (BakFinding *finding);

/**
 * bak_finding_unref:
 * @finding: a finding, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_finding_unref (BakFinding *finding);

/**
 * bak_finding_get_kind:
 * @finding: a finding
 *
 * The kind: "orphan", "lost", "inconsistent", "duplicate" and so on, and "foreign": a bitmap of
 * another program, which is no defect.
 *
 * Returns: the word
 *
 * Since: 0.1
 */
const char *bak_finding_get_kind (const BakFinding *finding);

/**
 * bak_finding_get_disk:
 * @finding: a finding
 *
 * The disk it is about.
 *
 * Returns: the name; NULL when it is about none
 *
 * Since: 0.1
 */
const char *bak_finding_get_disk (const BakFinding *finding);

/**
 * bak_finding_get_bitmap:
 * @finding: a finding
 *
 * The bitmap or checkpoint it is about.
 *
 * Returns: the name; NULL when it is about none
 *
 * Since: 0.1
 */
const char *bak_finding_get_bitmap (const BakFinding *finding);

/**
 * bak_finding_get_meaning:
 * @finding: a finding
 *
 * What it means.
 *
 * Returns: one line
 *
 * Since: 0.1
 */
const char *bak_finding_get_meaning (const BakFinding *finding);

/**
 * bak_finding_get_repair:
 * @finding: a finding
 *
 * What a repair does about it.
 *
 * Returns: one line; NULL when nothing can be done
 *
 * Since: 0.1
 */
const char *bak_finding_get_repair (const BakFinding *finding);

/**
 * bak_finding_is_repaired:
 * @finding: a finding
 *
 * Whether it has been repaired.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_finding_is_repaired (const BakFinding *finding);

#ifdef __cplusplus
}
#endif
#endif
