/* The proof of a disk: SHA-256 of each leaf of 64 KiB of what the guest saw, and a tree over them.
 *
 *   leaf = SHA-256 (0x00 | its bytes)             the last one may be shorter
 *   node = SHA-256 (0x01 | left | right)          the left side is the greatest power of two
 *   root = SHA-256 (0x02 | size | leaf size | top node)     both big-endian, 8 and 4 bytes
 *
 * A disk of one leaf has that leaf as its top; one of none has 32 zero bytes. Not thread-safe: one
 * thread at a time an object. */
#pragma once
#include "util/error.h"

enum { LEAF_SIZE = 65536, LEAF_HASH_SIZE = 32, LEAF_HEX_SIZE = 2 * LEAF_HASH_SIZE + 1 };

typedef struct {
    guint8 bytes[LEAF_HASH_SIZE];
} LeafHash;

/* How many leaves a disk of this size has; the length of leaf number index. */
guint64 leaf_count (guint64 size);
gsize leaf_length (guint64 size, guint64 index);
gboolean leaf_equal (const LeafHash *one, const LeafHash *other);
/* As it stands in documents: 64 lower-case hex digits. */
void leaf_to_hex (const LeafHash *hash, char hex[LEAF_HEX_SIZE]);
gboolean leaf_from_hex (const char *hex, LeafHash *ret_hash);

/* Hashing, by a library that is loaded at the first use: NULL and *error when it is not there. */
typedef struct Hasher Hasher;
Hasher *hasher_new (GError **error);
void hasher_free (Hasher *hasher);
void hasher_leaf (Hasher *hasher, const void *data, gsize length, LeafHash *ret_hash);
/* The hash of a leaf of zeros; computed once for each length. */
const LeafHash *hasher_zero_leaf (Hasher *hasher, gsize length);
/* Plain SHA-256 of a stream, as `sha256sum` has it: init by the first update after an end. */
void hasher_update (Hasher *hasher, const void *data, gsize length);
void hasher_end (Hasher *hasher, LeafHash *ret_hash);
/* Plain SHA-256 and size of a regular file; ret_size may be NULL. */
gboolean hasher_file (const char *path, LeafHash *ret_hash, guint64 *ret_size, GError **error);
/* With a key a leaf is HMAC-SHA-256 instead of SHA-256, of the same bytes: who has not the key
 * cannot try what a leaf holds. Nodes and root stay plain, so the tree is checked without it. */
typedef struct {
    guint8 bytes[LEAF_HASH_SIZE];
    gboolean unknown; /* there is a key, but not at hand: no leaf can be hashed */
} LeafKey;

/* key: borrowed until hasher_free; NULL: none. */
Hasher *hasher_new_keyed (const LeafKey *key, GError **error);
/* FALSE: neither hasher_leaf nor hasher_zero_leaf may be called. */
gboolean hasher_knows_leaves (const Hasher *hasher);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Hasher, hasher_free)

/* The tree of a disk, fed from leaf 0 to the last; needs the depth of the tree in memory. */
typedef struct Tree Tree;
Tree *tree_new (guint64 size, GError **error);
void tree_free (Tree *tree);
/* The next count leaves have this hash: a run costs its logarithm. */
void tree_add (Tree *tree, const LeafHash *hash, guint64 count);
/* FALSE (INTERNAL) unless every leaf was added, and none too many. */
gboolean tree_root (Tree *tree, LeafHash *ret_root, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Tree, tree_free)
