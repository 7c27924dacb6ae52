/* The key of a repository, and the slots in which it is kept.
 *
 * The key is 32 random bytes, made with the repository and never changed. From it come the pass
 * phrase of the images (LUKS), the key of the leaves (HMAC) and that of the files beside the disks
 * (AES-256-GCM). Each slot holds it once, sealed with what a pass phrase or a key file is stretched
 * to, so that slots come, change and go without touching data. */
#pragma once
#include <libbackup/repository.h>
#include "mover/tree.h"
#include "repository/fields.h"
#include "util/crypto.h"

/* Lies in memory of crypto_alloc(); immutable. */
typedef struct {
    guint8 master[CRYPTO_KEY_SIZE];
    guint8 files[CRYPTO_KEY_SIZE];
    LeafKey leaves;
    char secret[2 * CRYPTO_KEY_SIZE + 1]; /* of the images */
    guint slot;                           /* by which it was opened */
} RepositoryKey;

/* Where a pass phrase or key file is read from. */
typedef struct {
    const char *path; /* /dev/fd/N: a descriptor */
    BakRepositoryKeyKind kind;
} KeySource;

typedef struct {
    guint number;
    BakRepositoryKeyKind kind;
    guint iterations;
    guint8 salt[CRYPTO_SALT_SIZE];
    guint8 sealed[CRYPTO_KEY_SIZE + CRYPTO_SEALED_MORE];
    gint64 created;
    char *note; /* or NULL */
} KeySlot;

enum { KEY_SLOTS_MAX = 64 };

RepositoryKey *key_new (GError **error);
void key_free (RepositoryKey *key);
/* ACCESS_DENIED when it fits no slot. repository_id: whose slots they are, to which they are bound.
 */
RepositoryKey *key_find (const GPtrArray *slots, const char *repository_id, const KeySource *source,
                         GError **error);
KeySlot *key_slot_new (const RepositoryKey *key, guint number, const char *repository_id,
                       const KeySource *source, const char *note, GError **error);
void key_slot_free (gpointer slot);
const char *key_kind_name (BakRepositoryKeyKind kind);
/* The member "encryption" of the repository's document. */
JsonObject *key_slots_to_json (const GPtrArray *slots);
GPtrArray *key_slots_parse (Fields *fields, JsonObject *encryption);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RepositoryKey, key_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (KeySlot, key_slot_free)
