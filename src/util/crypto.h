/* What repositories with a key need of cryptography: all of it is GnuTLS, which is loaded at the
 * first use and stands below libnbd anyway. NOT_SUPPORTED when it is not there. */
#pragma once
#include "util/error.h"

enum {
    CRYPTO_KEY_SIZE = 32,
    CRYPTO_SALT_SIZE = 32,
    CRYPTO_NONCE_SIZE = 12,
    CRYPTO_TAG_SIZE = 16,
    CRYPTO_SEALED_MORE = CRYPTO_NONCE_SIZE + CRYPTO_TAG_SIZE, /* bytes more than what is sealed */
};

typedef struct {
    const void *data;
    gsize size;
} CryptoBytes;

/* Good enough for keys. */
gboolean crypto_random (void *ret, gsize size, GError **error);
/* PBKDF2 with HMAC-SHA-512 (RFC 8018). */
gboolean crypto_stretch (CryptoBytes secret, const guint8 salt[CRYPTO_SALT_SIZE], guint iterations,
                         guint8 ret_key[CRYPTO_KEY_SIZE], GError **error);
/* HKDF-Expand with SHA-256 (RFC 5869): keys for different uses of one key. */
gboolean crypto_expand (const guint8 key[CRYPTO_KEY_SIZE], const char *use,
                        guint8 ret_key[CRYPTO_KEY_SIZE], GError **error);
/* AES-256-GCM: nonce | what was encrypted | tag. bound: what it belongs to, which is not stored,
 * and without which it is not opened. Returns plain.size + CRYPTO_SEALED_MORE bytes; caller frees.
 */
guint8 *crypto_seal (const guint8 key[CRYPTO_KEY_SIZE], CryptoBytes bound, CryptoBytes plain,
                     GError **error);
/* ACCESS_DENIED when the key is another, or it was changed. Returns sealed.size -
 * CRYPTO_SEALED_MORE bytes (and a zero behind them); caller frees. */
guint8 *crypto_open (const guint8 key[CRYPTO_KEY_SIZE], CryptoBytes bound, CryptoBytes sealed,
                     GError **error);
/* A file without a name that holds it, for a program that is to have it: neither its words nor its
 * environment tell. -1: *error; else the caller closes it. */
int crypto_secret_file (const char *text, GError **error);
/* Memory that is neither swapped, as far as the system allows it, nor in a core dump, and that is
 * overwritten when it is freed. Zeros. */
gpointer crypto_alloc (gsize size);
void crypto_free (gpointer memory, gsize size);
