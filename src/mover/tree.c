/* SHA-256 comes from GnuTLS, which libnbd stands on as well: it uses the processor's instructions,
 * GLib's own does not. */
#include <fcntl.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <gnutls/crypto.h>
#include "mover/tree.h"
#include "util/library.h"

#define SONAME "libgnutls.so.30"
LIBRARY_NOTE (note, SONAME, "gnutls", "hashes and encryption of restore points");

enum { LEVELS = 65, FILE_BUFFER = 256 * 1024 };

/* clang-format off */
#define FUNCTIONS(F) \
    F (hash_init) \
    F (hash) \
    F (hash_output) \
    F (hash_deinit) \
    F (hmac_init) \
    F (hmac) \
    F (hmac_output) \
    F (hmac_deinit)
/* clang-format on */

static struct {
#define DECLARE(name) __typeof__ (&gnutls_##name) name;
    FUNCTIONS (DECLARE)
} gnutls;

static gboolean load_gnutls (GError **error)
{
#define SYMBOL(name) { "gnutls_" #name, (gpointer *) &gnutls.name },
    static const LibrarySymbol symbols[] = { FUNCTIONS (SYMBOL) };
    static Library library = { SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error) || error_note (error, _("restore points are hashed"));
}

/* Leaves */

guint64 leaf_count (guint64 size)
{
    return size / LEAF_SIZE + (size % LEAF_SIZE != 0);
}

gsize leaf_length (guint64 size, guint64 index)
{
    guint64 full = size / LEAF_SIZE;

    return index < full ? LEAF_SIZE : index == full ? size % LEAF_SIZE : 0;
}

gboolean leaf_equal (const LeafHash *one, const LeafHash *other)
{
    return memcmp (one, other, sizeof *one) == 0;
}

void leaf_to_hex (const LeafHash *hash, char hex[LEAF_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (guint i = 0; i < LEAF_HASH_SIZE; i++) {
        hex[2 * i] = digits[hash->bytes[i] >> 4];
        hex[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    hex[2 * LEAF_HASH_SIZE] = '\0';
}

gboolean leaf_from_hex (const char *hex, LeafHash *ret_hash)
{
    if (!hex || strlen (hex) != 2 * LEAF_HASH_SIZE
        || strspn (hex, "0123456789abcdef") != 2 * LEAF_HASH_SIZE)
        return FALSE;
    for (guint i = 0; i < LEAF_HASH_SIZE; i++)
        ret_hash->bytes[i] =
            g_ascii_xdigit_value (hex[2 * i]) << 4 | g_ascii_xdigit_value (hex[2 * i + 1]);
    return TRUE;
}

/* Hashing */

struct Hasher {
    gnutls_hash_hd_t state;
    gnutls_hmac_hd_t mac; /* NULL: leaves have no key */
    gboolean blind;       /* they have one that is not known */
    gsize zero_length;    /* 0: none yet */
    LeafHash zero;        /* of the last leaf */
    gboolean has_full_zero;
    LeafHash full_zero;
};

static gboolean begin_mac (Hasher *hasher, const LeafKey *key, GError **error)
{
    hasher->blind = key->unknown;
    return key->unknown
           || gnutls.hmac_init (&hasher->mac, GNUTLS_MAC_SHA256, key->bytes, sizeof key->bytes) >= 0
           || error_set (error, BAK_ERROR_NOT_SUPPORTED, _("GnuTLS does not do HMAC here"));
}

Hasher *hasher_new_keyed (const LeafKey *key, GError **error)
{
    Hasher *hasher = hasher_new (error);

    if (!hasher || !key || begin_mac (hasher, key, error))
        return hasher;
    hasher_free (hasher);
    return NULL;
}

gboolean hasher_knows_leaves (const Hasher *hasher)
{
    return !hasher->blind;
}

Hasher *hasher_new (GError **error)
{
    gnutls_hash_hd_t state;

    if (!load_gnutls (error))
        return NULL;
    if (gnutls.hash_init (&state, GNUTLS_DIG_SHA256) < 0) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("GnuTLS does not do SHA-256 here"));
        return NULL;
    }
    Hasher *hasher = g_new0 (Hasher, 1);
    hasher->state = state;
    return hasher;
}

void hasher_free (Hasher *hasher)
{
    if (!hasher)
        return;
    gnutls.hash_deinit (hasher->state, NULL);
    if (hasher->mac)
        gnutls.hmac_deinit (hasher->mac, NULL);
    g_free (hasher);
}

/* Nothing may go on with a hash that was not made. */
void hasher_update (Hasher *hasher, const void *data, gsize length)
{
    if (gnutls.hash (hasher->state, data, length) < 0)
        g_error ("GnuTLS cannot hash");
}

void hasher_end (Hasher *hasher, LeafHash *ret_hash)
{
    gnutls.hash_output (hasher->state, ret_hash->bytes);
}

static void hash_prefixed (Hasher *hasher, guint8 prefix, const void *data, gsize length,
                           LeafHash *ret_hash)
{
    hasher_update (hasher, &prefix, 1);
    hasher_update (hasher, data, length);
    hasher_end (hasher, ret_hash);
}

void hasher_leaf (Hasher *hasher, const void *data, gsize length, LeafHash *ret_hash)
{
    static const guint8 prefix = 0;

    if (hasher->blind)
        g_error ("a leaf is hashed without its key");
    if (!hasher->mac) {
        hash_prefixed (hasher, prefix, data, length, ret_hash);
        return;
    }
    if (gnutls.hmac (hasher->mac, &prefix, 1) < 0 || gnutls.hmac (hasher->mac, data, length) < 0)
        g_error ("GnuTLS cannot hash");
    gnutls.hmac_output (hasher->mac, ret_hash->bytes);
}

const LeafHash *hasher_zero_leaf (Hasher *hasher, gsize length)
{
    static const guint8 zeros[LEAF_SIZE];

    if (length == LEAF_SIZE) {
        if (!hasher->has_full_zero)
            hasher_leaf (hasher, zeros, length, &hasher->full_zero);
        hasher->has_full_zero = TRUE;
        return &hasher->full_zero;
    }
    if (length != hasher->zero_length)
        hasher_leaf (hasher, zeros, length, &hasher->zero);
    hasher->zero_length = length;
    return &hasher->zero;
}

static gboolean hash_descriptor (Hasher *hasher, int fd, guint64 *ret_size)
{
    g_autofree guint8 *buffer = g_malloc (FILE_BUFFER);
    guint64 size = 0;
    ssize_t n;

    while ((n = read (fd, buffer, FILE_BUFFER)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FALSE;
        hasher_update (hasher, buffer, n);
        size += n;
    }
    *ret_size = size;
    return TRUE;
}

gboolean hasher_file (const char *path, LeafHash *ret_hash, guint64 *ret_size, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new (error);
    guint64 size = 0;
    struct stat st;

    if (!hasher)
        return FALSE;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot read '%s'"), path);
    gboolean regular = fstat (fd, &st) == 0 && S_ISREG (st.st_mode);
    gboolean ok = regular && hash_descriptor (hasher, fd, &size);
    int saved = regular ? errno : EINVAL;
    close (fd);
    if (!ok)
        return error_set_errno (error, saved, _("cannot read '%s'"), path);
    hasher_end (hasher, ret_hash);
    if (ret_size)
        *ret_size = size;
    return TRUE;
}

/* The tree: a stack of complete sub-trees, each lower than the one before. */

typedef struct {
    guint level; /* 2^level leaves are below */
    LeafHash hash;
} Node;

struct Tree {
    Hasher *hasher;
    guint64 size, added;
    Node stack[LEVELS];
    guint depth;
    LeafHash run[LEVELS]; /* sub-trees of leaves that all have the hash run[0] */
    guint run_levels;     /* that are known */
};

Tree *tree_new (guint64 size, GError **error)
{
    Hasher *hasher = hasher_new (error);

    if (!hasher)
        return NULL;
    Tree *tree = g_new0 (Tree, 1);
    tree->hasher = hasher;
    tree->size = size;
    return tree;
}

void tree_free (Tree *tree)
{
    if (!tree)
        return;
    hasher_free (tree->hasher);
    g_free (tree);
}

static void join (Tree *tree, const LeafHash *left, const LeafHash *right, LeafHash *ret_hash)
{
    LeafHash both[2] = { *left, *right };

    hash_prefixed (tree->hasher, 1, both, sizeof both, ret_hash);
}

static void push (Tree *tree, guint level, const LeafHash *hash)
{
    Node node = { level, *hash };

    for (; tree->depth > 0 && tree->stack[tree->depth - 1].level == node.level; node.level++)
        join (tree, &tree->stack[--tree->depth].hash, &node.hash, &node.hash);
    tree->stack[tree->depth++] = node;
}

static const LeafHash *run_of (Tree *tree, const LeafHash *leaf, guint level)
{
    if (tree->run_levels == 0 || !leaf_equal (&tree->run[0], leaf)) {
        tree->run[0] = *leaf;
        tree->run_levels = 1;
    }
    for (; tree->run_levels <= level; tree->run_levels++) {
        const LeafHash *below = &tree->run[tree->run_levels - 1];
        join (tree, below, below, &tree->run[tree->run_levels]);
    }
    return &tree->run[level];
}

void tree_add (Tree *tree, const LeafHash *hash, guint64 count)
{
    if (count == 1) {
        push (tree, 0, hash);
        tree->added++;
        return;
    }
    while (count > 0) {
        guint level = 63 - __builtin_clzll (count);
        if (tree->added != 0)
            level = MIN (level, (guint) __builtin_ctzll (tree->added));
        push (tree, level, run_of (tree, hash, level));
        tree->added += G_GUINT64_CONSTANT (1) << level;
        count -= G_GUINT64_CONSTANT (1) << level;
    }
}

static void put_number (guint8 *where, guint64 number, guint bytes)
{
    for (guint i = 0; i < bytes; i++)
        where[i] = number >> 8 * (bytes - 1 - i);
}

gboolean tree_root (Tree *tree, LeafHash *ret_root, GError **error)
{
    struct {
        guint8 size[8], leaf[4];
        LeafHash top;
    } all = { 0 };
    guint depth = tree->depth;

    if (tree->added != leaf_count (tree->size))
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " leaves were hashed"),
                          tree->added, leaf_count (tree->size));
    if (depth > 0)
        all.top = tree->stack[--depth].hash;
    while (depth > 0)
        join (tree, &tree->stack[--depth].hash, &all.top, &all.top);
    put_number (all.size, tree->size, sizeof all.size);
    put_number (all.leaf, LEAF_SIZE, sizeof all.leaf);
    hash_prefixed (tree->hasher, 2, &all, sizeof all, ret_root);
    return TRUE;
}
