#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "repository/key.h"

enum {
    SECRET_MAX = 65536,
    KEY_FILE_MIN = 32,          /* bytes */
    KEY_FILE_ITERATIONS = 1000, /* it is random and long: there is nothing to try */
    ITERATIONS_MIN = 600000,
    ITERATIONS_MAX = 50000000, /* of a document that anyone may have written */
    ITERATIONS_MEASURED = 50000,
    STRETCH_US = 1000000, /* that trying one pass phrase costs here, at least */
};

static const char kdf_name[] = "pbkdf2-sha512";

const char *key_kind_name (BakRepositoryKeyKind kind)
{
    return kind == BAK_REPOSITORY_KEY_FILE ? "key-file" : "passphrase";
}

/* A secret as it was read. */
typedef struct {
    guint8 *data; /* SECRET_MAX + 1 of crypto_alloc() */
    gsize size;
} Secret;

static void secret_clear (Secret *secret)
{
    crypto_free (secret->data, SECRET_MAX + 1);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Secret, secret_clear)

static gboolean read_descriptor (int fd, Secret *secret)
{
    ssize_t n = 1;

    while (n != 0 && secret->size <= SECRET_MAX) {
        n = read (fd, secret->data + secret->size, SECRET_MAX + 1 - secret->size);
        if (n < 0 && errno != EINTR)
            return FALSE;
        secret->size += MAX (n, 0);
    }
    return TRUE;
}

static gboolean check_secret (const KeySource *source, const Secret *secret, GError **error)
{
    const char *why = secret->size == 0           ? _("it is empty")
                      : secret->size > SECRET_MAX ? _("it has more than 64 KiB")
                      : source->kind == BAK_REPOSITORY_KEY_FILE && secret->size < KEY_FILE_MIN
                          ? _("a key file has at least 32 random bytes")
                          : NULL;
    return !why || error_set (error, BAK_ERROR_INVALID_ARGUMENT, "'%s': %s", source->path, why);
}

/* A pass phrase ends before the newline at the end of its file; a key file is taken as it is. */
static gboolean read_secret (const KeySource *source, Secret *secret, GError **error)
{
    int fd = open (source->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_set_errno (error, errno, _("cannot read '%s'"), source->path);
    secret->data = crypto_alloc (SECRET_MAX + 1);
    gboolean ok = read_descriptor (fd, secret)
                  || error_set_errno (error, errno, _("cannot read '%s'"), source->path);
    close (fd);
    gboolean newline =
        secret->size > 0 && secret->size <= SECRET_MAX && secret->data[secret->size - 1] == '\n';
    if (source->kind == BAK_REPOSITORY_KEY_PASSPHRASE && newline)
        secret->size--;
    return ok && check_secret (source, secret, error);
}

/* ---- the key ---- */

static void to_hex (const guint8 *bytes, char *ret_hex)
{
    for (guint i = 0; i < CRYPTO_KEY_SIZE; i++)
        g_snprintf (ret_hex + 2 * i, 3, "%02x", bytes[i]);
}

/* The uses stand in the format: docs/repository.md. */
static gboolean derive (RepositoryKey *key, GError **error)
{
    guint8 *images = crypto_alloc (CRYPTO_KEY_SIZE);
    gboolean ok = crypto_expand (key->master, "libbackup images", images, error)
                  && crypto_expand (key->master, "libbackup leaves", key->leaves.bytes, error)
                  && crypto_expand (key->master, "libbackup files", key->files, error);
    if (ok)
        to_hex (images, key->secret);
    crypto_free (images, CRYPTO_KEY_SIZE);
    return ok;
}

void key_free (RepositoryKey *key)
{
    crypto_free (key, sizeof *key);
}

RepositoryKey *key_new (GError **error)
{
    g_autoptr (RepositoryKey) key = crypto_alloc (sizeof *key);
    return crypto_random (key->master, sizeof key->master, error) && derive (key, error)
               ? g_steal_pointer (&key)
               : NULL;
}

/* ---- slots ---- */

void key_slot_free (gpointer data)
{
    KeySlot *slot = data;
    if (!slot)
        return;
    g_free (slot->note);
    g_free (slot);
}

/* What a slot is bound to: it is of no use in another repository, nor as another kind. */
static char *bound_text (const KeySlot *slot, const char *repository_id)
{
    return g_strdup_printf ("%s %s %s %u", repository_id, key_kind_name (slot->kind), kdf_name,
                            slot->iterations);
}

static gboolean stretch (const KeySlot *slot, const Secret *secret, guint8 *ret_key, GError **error)
{
    CryptoBytes bytes = { secret->data, secret->size };
    return crypto_stretch (bytes, slot->salt, slot->iterations, ret_key, error);
}

/* FALSE and no error: it does not fit. */
static gboolean open_slot (const KeySlot *slot, const char *repository_id, const Secret *secret,
                           RepositoryKey *key, GError **error)
{
    g_autofree char *text = bound_text (slot, repository_id);
    CryptoBytes bound = { text, strlen (text) }, sealed = { slot->sealed, sizeof slot->sealed };
    guint8 *stretched = crypto_alloc (CRYPTO_KEY_SIZE), *master = NULL;
    g_autoptr (GError) why = NULL;
    if (stretch (slot, secret, stretched, &why))
        master = crypto_open (stretched, bound, sealed, &why);
    crypto_free (stretched, CRYPTO_KEY_SIZE);
    if (!master) {
        if (error_code (why) != BAK_ERROR_ACCESS_DENIED)
            g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    memcpy (key->master, master, sizeof key->master);
    explicit_bzero (master, sizeof key->master);
    g_free (master);
    key->slot = slot->number;
    return derive (key, error);
}

RepositoryKey *key_find (const GPtrArray *slots, const char *repository_id, const KeySource *source,
                         GError **error)
{
    g_auto (Secret) secret = { 0 };
    g_autoptr (RepositoryKey) key = crypto_alloc (sizeof *key);
    GError *why = NULL;
    if (!read_secret (source, &secret, error))
        return NULL;
    for (guint i = 0; i < slots->len; i++) {
        const KeySlot *slot = slots->pdata[i];
        if (slot->kind == source->kind && open_slot (slot, repository_id, &secret, key, &why))
            return g_steal_pointer (&key);
        if (why) {
            g_propagate_error (error, why);
            return NULL;
        }
    }
    error_set (error, BAK_ERROR_ACCESS_DENIED,
               source->kind == BAK_REPOSITORY_KEY_FILE
                   ? _("the key file '%s' fits no slot of this repository")
                   : _("the pass phrase in '%s' is wrong: it fits no slot of this repository"),
               source->path);
    return NULL;
}

/* So many that one try costs a second on this machine. */
static gboolean choose_iterations (KeySlot *slot, const Secret *secret, GError **error)
{
    guint8 *scratch = crypto_alloc (CRYPTO_KEY_SIZE);
    gint64 start = g_get_monotonic_time ();
    slot->iterations = ITERATIONS_MEASURED;
    gboolean ok = stretch (slot, secret, scratch, error);
    gint64 took = MAX (g_get_monotonic_time () - start, 1);
    crypto_free (scratch, CRYPTO_KEY_SIZE);
    gint64 wanted = (gint64) ITERATIONS_MEASURED * STRETCH_US / took;
    slot->iterations = CLAMP (wanted, ITERATIONS_MIN, ITERATIONS_MAX);
    return ok;
}

static gboolean seal (KeySlot *slot, const RepositoryKey *key, const char *repository_id,
                      const Secret *secret, GError **error)
{
    g_autofree char *text = bound_text (slot, repository_id);
    CryptoBytes bound = { text, strlen (text) }, master = { key->master, sizeof key->master };
    guint8 *stretched = crypto_alloc (CRYPTO_KEY_SIZE);
    g_autofree guint8 *sealed = stretch (slot, secret, stretched, error)
                                    ? crypto_seal (stretched, bound, master, error)
                                    : NULL;
    crypto_free (stretched, CRYPTO_KEY_SIZE);
    if (sealed)
        memcpy (slot->sealed, sealed, sizeof slot->sealed);
    return sealed != NULL;
}

KeySlot *key_slot_new (const RepositoryKey *key, guint number, const char *repository_id,
                       const KeySource *source, const char *note, GError **error)
{
    g_auto (Secret) secret = { 0 };
    g_autoptr (KeySlot) slot = g_new0 (KeySlot, 1);
    slot->number = number;
    slot->kind = source->kind;
    slot->iterations = KEY_FILE_ITERATIONS;
    slot->created = g_get_real_time ();
    slot->note = g_strdup (note);
    gboolean ok =
        read_secret (source, &secret, error) && crypto_random (slot->salt, sizeof slot->salt, error)
        && (source->kind == BAK_REPOSITORY_KEY_FILE || choose_iterations (slot, &secret, error))
        && seal (slot, key, repository_id, &secret, error);
    return ok ? g_steal_pointer (&slot) : NULL;
}

/* ---- their document ---- */

static void set_bytes (JsonObject *object, const char *name, const guint8 *bytes, gsize size)
{
    g_autofree char *text = g_base64_encode (bytes, size);
    json_object_set_string_member (object, name, text);
}

static JsonObject *slot_to_json (const KeySlot *slot)
{
    JsonObject *object = json_object_new ();
    g_autofree char *created = fields_format_time (slot->created);
    json_object_set_int_member (object, "number", slot->number);
    json_object_set_string_member (object, "kind", key_kind_name (slot->kind));
    json_object_set_string_member (object, "kdf", kdf_name);
    json_object_set_int_member (object, "iterations", slot->iterations);
    set_bytes (object, "salt", slot->salt, sizeof slot->salt);
    set_bytes (object, "sealed", slot->sealed, sizeof slot->sealed);
    json_object_set_string_member (object, "created", created);
    if (slot->note)
        json_object_set_string_member (object, "note", slot->note);
    return object;
}

JsonObject *key_slots_to_json (const GPtrArray *slots)
{
    JsonObject *object = json_object_new ();
    JsonArray *array = json_array_new ();
    for (guint i = 0; i < slots->len; i++)
        json_array_add_object_element (array, slot_to_json (slots->pdata[i]));
    json_object_set_string_member (object, "images", "luks");
    json_object_set_string_member (object, "leaves", "hmac-sha256");
    json_object_set_string_member (object, "files", "aes-256-gcm");
    json_object_set_array_member (object, "slots", array);
    return object;
}

static void take_bytes (Fields *fields, JsonObject *object, const char *name, guint8 *ret_bytes,
                        gsize size)
{
    g_autofree char *text = fields_text (fields, object, name, FIELD_REQUIRED);
    gsize length = 0;
    g_autofree guint8 *bytes = text ? g_base64_decode (text, &length) : NULL;
    if (bytes && length == size)
        memcpy (ret_bytes, bytes, size);
    else if (!fields->failed)
        fields_fail (fields, name, _("has not the length that it must have"));
}

static gboolean has_number (const GPtrArray *slots, guint number)
{
    for (guint i = 0; i < slots->len; i++)
        if (((KeySlot *) slots->pdata[i])->number == number)
            return TRUE;
    return FALSE;
}

static void take_slot (Fields *fields, JsonObject *object, gpointer data)
{
    g_autoptr (KeySlot) slot = g_new0 (KeySlot, 1);
    g_autofree char *kind = fields_text (fields, object, "kind", FIELD_REQUIRED);
    g_autofree char *kdf = fields_text (fields, object, "kdf", FIELD_REQUIRED);
    slot->number = fields_number (fields, object, "number", G_MAXINT, FIELD_REQUIRED);
    slot->iterations = fields_number (fields, object, "iterations", ITERATIONS_MAX, FIELD_REQUIRED);
    slot->created = fields_time (fields, object, "created", FIELD_REQUIRED);
    slot->note = fields_text (fields, object, "note", FIELD_OPTIONAL);
    take_bytes (fields, object, "salt", slot->salt, sizeof slot->salt);
    take_bytes (fields, object, "sealed", slot->sealed, sizeof slot->sealed);
    if (fields->failed)
        return;
    slot->kind = g_str_equal (kind, key_kind_name (BAK_REPOSITORY_KEY_FILE))
                     ? BAK_REPOSITORY_KEY_FILE
                     : BAK_REPOSITORY_KEY_PASSPHRASE;
    if (!g_str_equal (kind, key_kind_name (slot->kind)))
        fields_fail (fields, "kind", _("is none that this version knows"));
    else if (!g_str_equal (kdf, kdf_name))
        fields_fail (fields, "kdf", _("is none that this version knows"));
    else if (slot->iterations == 0)
        fields_fail (fields, "iterations", _("is 0"));
    else if (has_number (data, slot->number))
        fields_fail (fields, "number", _("is there twice"));
    else
        g_ptr_array_add (data, g_steal_pointer (&slot));
}

static void check_method (Fields *fields, JsonObject *object, const char *name, const char *known)
{
    g_autofree char *text = fields_text (fields, object, name, FIELD_REQUIRED);
    if (text && !g_str_equal (text, known))
        fields_fail (fields, name, _("is none that this version knows"));
}

GPtrArray *key_slots_parse (Fields *fields, JsonObject *encryption)
{
    GPtrArray *slots = g_ptr_array_new_with_free_func (key_slot_free);
    check_method (fields, encryption, "images", "luks");
    check_method (fields, encryption, "leaves", "hmac-sha256");
    check_method (fields, encryption, "files", "aes-256-gcm");
    fields_each (fields, encryption, "slots", KEY_SLOTS_MAX, take_slot, slots);
    if (!fields->failed && slots->len == 0)
        fields_fail (fields, "slots", _("is empty"));
    return slots;
}
