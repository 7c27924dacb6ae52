#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <gnutls/crypto.h>
#include "util/crypto.h"
#include "util/library.h"

#define SONAME "libgnutls.so.30"

/* clang-format off */
#define FUNCTIONS(F) \
    F (rnd) \
    F (pbkdf2) \
    F (hkdf_expand) \
    F (aead_cipher_init) \
    F (aead_cipher_encrypt) \
    F (aead_cipher_decrypt) \
    F (aead_cipher_deinit)
/* clang-format on */

static struct {
#define DECLARE(name) __typeof__ (&gnutls_##name) name;
    FUNCTIONS (DECLARE)
} gnutls;

static gboolean load_functions (GError **error)
{
#define SYMBOL(name) { "gnutls_" #name, (gpointer *) &gnutls.name },
    static const LibrarySymbol symbols[] = { FUNCTIONS (SYMBOL) };
    static Library library = { SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error) || error_note (error, _("encryption"));
}

static gboolean check (int failed, const char *what, GError **error)
{
    return failed >= 0
           || error_set (error, BAK_ERROR_NOT_SUPPORTED, _("GnuTLS does not do %s here (%d)"),
                         what, failed);
}

static gnutls_datum_t datum_of (gconstpointer data, gsize size)
{
    return (gnutls_datum_t){ (unsigned char *) data, size };
}

gboolean crypto_random (void *ret, gsize size, GError **error)
{
    return load_functions (error)
           && check (gnutls.rnd (GNUTLS_RND_KEY, ret, size), _("random numbers"), error);
}

gboolean crypto_stretch (CryptoBytes secret, const guint8 salt[CRYPTO_SALT_SIZE], guint iterations,
                         guint8 ret_key[CRYPTO_KEY_SIZE], GError **error)
{
    gnutls_datum_t key = datum_of (secret.data, secret.size);
    gnutls_datum_t salted = datum_of (salt, CRYPTO_SALT_SIZE);

    return load_functions (error)
           && check (gnutls.pbkdf2 (GNUTLS_MAC_SHA512, &key, &salted, iterations, ret_key,
                                    CRYPTO_KEY_SIZE),
                     "PBKDF2", error);
}

gboolean crypto_expand (const guint8 key[CRYPTO_KEY_SIZE], const char *use,
                        guint8 ret_key[CRYPTO_KEY_SIZE], GError **error)
{
    gnutls_datum_t from = datum_of (key, CRYPTO_KEY_SIZE), info = datum_of (use, strlen (use));

    return load_functions (error)
           && check (gnutls.hkdf_expand (GNUTLS_MAC_SHA256, &from, &info, ret_key, CRYPTO_KEY_SIZE),
                     "HKDF", error);
}

static gboolean begin_cipher (const guint8 key[CRYPTO_KEY_SIZE], gnutls_aead_cipher_hd_t *ret,
                              GError **error)
{
    gnutls_datum_t datum = datum_of (key, CRYPTO_KEY_SIZE);

    return load_functions (error)
           && check (gnutls.aead_cipher_init (ret, GNUTLS_CIPHER_AES_256_GCM, &datum),
                     "AES-256-GCM", error);
}

guint8 *crypto_seal (const guint8 key[CRYPTO_KEY_SIZE], CryptoBytes bound, CryptoBytes plain,
                     GError **error)
{
    gsize size = plain.size + CRYPTO_TAG_SIZE;
    g_autofree guint8 *sealed = g_malloc (CRYPTO_NONCE_SIZE + size);
    gnutls_aead_cipher_hd_t cipher;

    if (!crypto_random (sealed, CRYPTO_NONCE_SIZE, error) || !begin_cipher (key, &cipher, error))
        return NULL;
    int failed = gnutls.aead_cipher_encrypt (
        cipher, sealed, CRYPTO_NONCE_SIZE, bound.data, bound.size, CRYPTO_TAG_SIZE,
        plain.size ? plain.data : "", plain.size, sealed + CRYPTO_NONCE_SIZE, &size);
    gnutls.aead_cipher_deinit (cipher);
    return check (failed, "AES-256-GCM", error) ? g_steal_pointer (&sealed) : NULL;
}

guint8 *crypto_open (const guint8 key[CRYPTO_KEY_SIZE], CryptoBytes bound, CryptoBytes sealed,
                     GError **error)
{
    gnutls_aead_cipher_hd_t cipher;

    if (sealed.size < CRYPTO_SEALED_MORE) {
        error_set (error, BAK_ERROR_ACCESS_DENIED, _("it is too short"));
        return NULL;
    }
    if (!begin_cipher (key, &cipher, error))
        return NULL;
    gsize size = sealed.size - CRYPTO_SEALED_MORE;
    g_autofree guint8 *plain = g_malloc0 (size + 1);
    const guint8 *from = sealed.data;
    int failed = gnutls.aead_cipher_decrypt (cipher, from, CRYPTO_NONCE_SIZE, bound.data,
                                             bound.size, CRYPTO_TAG_SIZE, from + CRYPTO_NONCE_SIZE,
                                             sealed.size - CRYPTO_NONCE_SIZE, plain, &size);
    gnutls.aead_cipher_deinit (cipher);
    if (failed >= 0)
        return g_steal_pointer (&plain);
    error_set (error, BAK_ERROR_ACCESS_DENIED, _("the key is another, or it was changed"));
    return NULL;
}

int crypto_secret_file (const char *text, GError **error)
{
    int fd = memfd_create ("libbackup-secret", MFD_CLOEXEC);

    if (fd >= 0 && write (fd, text, strlen (text)) == (ssize_t) strlen (text))
        return fd;
    error_set_errno (error, errno, _("cannot hand over a secret"));
    if (fd >= 0)
        close (fd);
    return -1;
}

gpointer crypto_alloc (gsize size)
{
    gpointer memory = mmap (NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        g_error ("no memory for a key");
    /* either may not be allowed; the key is still needed */
    if (mlock (memory, size) != 0 || madvise (memory, size, MADV_DONTDUMP) != 0)
        g_debug ("a key is in memory that may be swapped or dumped");
    return memory;
}

void crypto_free (gpointer memory, gsize size)
{
    if (!memory)
        return;
    explicit_bzero (memory, size);
    munmap (memory, size);
}
