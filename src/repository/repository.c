#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/fields.h"
#include "repository/repository.h"
#include "util/config.h"
#include "util/files.h"

static const char document[] = "libbackup-repository.json", encryption_feature[] = "encryption";

char *repository_default_url (void)
{
    const char *variable = g_getenv ("LIBBACKUP_REPOSITORY");
    return variable && *variable ? g_strdup (variable) : config_get_string ("repository");
}

/* "DIR" or "file://DIR". NULL: another scheme. Caller frees. */
static char *path_of_url (const char *url, GError **error)
{
    g_autofree char *scheme = g_uri_parse_scheme (url);
    if (!scheme)
        return g_canonicalize_filename (url, NULL);
    g_autofree char *path =
        g_str_equal (scheme, "file") ? g_filename_from_uri (url, NULL, NULL) : NULL;
    if (path)
        return g_canonicalize_filename (path, NULL);
    error_set (error, BAK_ERROR_INVALID_ARGUMENT,
               _("repository '%s': not a directory's path, nor file:///PATH"), url);
    return NULL;
}

static char *required_url (const char *url, GError **error)
{
    char *found = url ? g_strdup (url) : repository_default_url ();
    if (!found)
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("no repository is named: --repository URL, LIBBACKUP_REPOSITORY, or "
                      "'repository' in the configuration"));
    return found;
}

static gboolean check_features (const GPtrArray *features, gboolean encrypted, GError **error)
{
    gboolean said = FALSE;
    for (guint i = 0; i < features->len; i++) {
        if (g_str_equal (features->pdata[i], encryption_feature)) {
            said = TRUE;
            continue;
        }
        g_autofree char *name = text_sanitize (features->pdata[i], 128);
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("%s: it uses the feature '%s', which this version does not know"),
                          document, name);
    }
    return said == encrypted
           || error_set (error, BAK_ERROR_INEXACT,
                         _("%s: 'features' and 'encryption' contradict each other"), document);
}

static gboolean parse (Repository *repository, const char *text, gsize length, GError **error)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, error);
    if (!node)
        return error_note (error, "%s", document);
    Fields fields = { document, error, FALSE };
    guint64 format = fields_number (&fields, object, "format", G_MAXINT, FIELD_REQUIRED);
    g_autoptr (GPtrArray) features = fields_texts (&fields, object, "features", 1024);
    JsonObject *encryption = fields_object (&fields, object, "encryption", FIELD_OPTIONAL);
    repository->id = fields_name (&fields, object, "id", FIELD_REQUIRED);
    repository->created = fields_time (&fields, object, "created", FIELD_REQUIRED);
    repository->note = fields_text (&fields, object, "note", FIELD_OPTIONAL);
    if (fields.failed)
        return FALSE;
    if (format != REPOSITORY_FORMAT)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("%s: format %" G_GUINT64_FORMAT " is newer than this version, which "
                             "knows %d"),
                          document, format, REPOSITORY_FORMAT);
    if (!check_features (features, encryption != NULL, error))
        return FALSE;
    if (encryption)
        repository->slots = key_slots_parse (&fields, encryption);
    if (fields.failed)
        return FALSE;
    return g_uuid_string_is_valid (repository->id)
           || error_set (error, BAK_ERROR_INEXACT, _("%s: 'id' is no UUID"), document);
}

Repository *repository_open (const char *given, GError **error)
{
    g_autofree char *url = required_url (given, error);
    g_autofree char *path = url ? path_of_url (url, error) : NULL;
    if (!path)
        return NULL;
    g_autofree char *file = g_build_filename (path, document, NULL), *text = NULL;
    g_autoptr (Repository) repository = g_new0 (Repository, 1);
    gsize length;
    g_atomic_ref_count_init (&repository->refs);
    g_mutex_init (&repository->lock);
    repository->url = g_strdup (url);
    repository->path = g_strdup (path);
    if (g_access (file, F_OK) != 0 && errno == ENOENT) {
        error_set (error, BAK_ERROR_NO_POINT,
                   _("'%s' is no repository (it has no %s); repository-create makes one"), path,
                   document);
        return NULL;
    }
    if (!files_read (file, 0, &text, &length, error) || !parse (repository, text, length, error)) {
        error_note (error, _("repository '%s'"), path);
        return NULL;
    }
    return g_steal_pointer (&repository);
}

static gboolean is_empty (const char *path)
{
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name = dir ? g_dir_read_name (dir) : NULL;
    return !name || (g_str_equal (name, "lost+found") && !g_dir_read_name (dir));
}

static char *format_document (const Repository *repository)
{
    g_autofree char *created = fields_format_time (repository->created);
    JsonObject *object = json_object_new ();
    JsonArray *features = json_array_new ();
    if (repository->slots)
        json_array_add_string_element (features, encryption_feature);
    json_object_set_int_member (object, "format", REPOSITORY_FORMAT);
    json_object_set_string_member (object, "id", repository->id);
    json_object_set_string_member (object, "created", created);
    json_object_set_array_member (object, "features", features);
    if (repository->note)
        json_object_set_string_member (object, "note", repository->note);
    if (repository->slots)
        json_object_set_object_member (object, "encryption", key_slots_to_json (repository->slots));
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    return json_write (node);
}

/* Of two that make one at the same time, one wins: link() does not replace. */
static gboolean write_document (const char *path, const char *text, GError **error)
{
    g_autofree char *file = g_build_filename (path, document, NULL);
    g_autofree char *unique = g_uuid_string_random ();
    g_autofree char *temporary = g_strdup_printf ("%s/.%s", path, unique);
    if (!files_write_atomic (temporary, text, -1, 0600, error))
        return FALSE;
    int failed = link (temporary, file) == 0 ? 0 : errno;
    g_unlink (temporary);
    if (failed == EEXIST)
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' is a repository already"), path);
    return failed ? error_set_errno (error, failed, _("cannot write '%s'"), file)
                  : files_fsync (path, error);
}

/* Its document, before anything of it is made. NULL: *error. Caller frees. */
static char *new_document (const char *note, const KeySource *source, GError **error)
{
    g_autofree char *id = g_uuid_string_random ();
    g_autoptr (GPtrArray) slots = g_ptr_array_new_with_free_func (key_slot_free);
    const Repository fresh = { .id = id,
                               .note = (char *) note,
                               .created = g_get_real_time (),
                               .slots = source ? slots : NULL };
    if (source) {
        g_autoptr (RepositoryKey) key = key_new (error);
        KeySlot *slot = key ? key_slot_new (key, 0, id, source, NULL, error) : NULL;
        if (!slot)
            return NULL;
        g_ptr_array_add (slots, slot);
    }
    return format_document (&fresh);
}

Repository *repository_create (const char *given, const char *note, const KeySource *source,
                               GError **error)
{
    g_autofree char *url = required_url (given, error);
    g_autofree char *path = url ? path_of_url (url, error) : NULL;
    g_autofree char *text = path ? new_document (note, source, error) : NULL;
    if (!text)
        return NULL;
    g_autofree char *file = g_build_filename (path, document, NULL);
    g_autofree char *locks = g_build_filename (path, "locks", NULL);
    if (g_file_test (file, G_FILE_TEST_EXISTS)) {
        error_set (error, BAK_ERROR_EXISTS, _("'%s' is a repository already"), path);
        return NULL;
    }
    if (!files_make_dir (path, 0700, error))
        return NULL;
    if (!is_empty (path)) {
        error_set (error, BAK_ERROR_EXISTS,
                   _("'%s' is not empty; a repository wants a directory of its own"), path);
        return NULL;
    }
    if (!files_make_dir (locks, 0700, error) || !write_document (path, text, error)
        || !files_fsync_parent (path, error))
        return NULL;
    return repository_open (url, error);
}

gboolean repository_write (Repository *repository, GError **error)
{
    g_autofree char *file = g_build_filename (repository->path, document, NULL);
    g_autofree char *text = format_document (repository);
    return files_write_atomic (file, text, -1, 0600, error);
}

Repository *repository_ref (Repository *repository)
{
    g_atomic_ref_count_inc (&repository->refs);
    return repository;
}

void repository_unref (Repository *repository)
{
    if (!repository || !g_atomic_ref_count_dec (&repository->refs))
        return;
    g_free (repository->url);
    g_free (repository->path);
    g_free (repository->id);
    g_free (repository->note);
    g_clear_pointer (&repository->slots, g_ptr_array_unref);
    key_free (repository->key);
    g_mutex_clear (&repository->lock);
    g_free (repository);
}

char *repository_guest_dir (const Repository *repository, const char *guest_uuid)
{
    return g_build_filename (repository->path, guest_uuid, NULL);
}

char *repository_point_dir (const Repository *repository, const char *guest_uuid, const char *id)
{
    return g_build_filename (repository->path, guest_uuid, id, NULL);
}

/* ---- the key ---- */

static void take_key (Repository *repository, RepositoryKey *key)
{
    /* whoever has it already keeps it */
    if (!g_atomic_pointer_compare_and_exchange (&repository->key, NULL, key))
        key_free (key);
}

/* The lock is held. */
static gboolean unlock (Repository *repository, const KeySource *source, GError **error)
{
    if (!repository->slots)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("repository '%s' is not encrypted: it has no use for '%s'"),
                          repository->path, source->path);
    RepositoryKey *key = key_find (repository->slots, repository->id, source, error);
    if (!key)
        return error_note (error, _("repository '%s'"), repository->path);
    take_key (repository, key);
    return TRUE;
}

static char *named_by (const char *variable, const char *key)
{
    const char *value = g_getenv (variable);
    return value && *value ? g_strdup (value) : config_get_string (key);
}

gboolean repository_unlock (Repository *repository, const KeySource *source, GError **error)
{
    g_mutex_lock (&repository->lock);
    gboolean ok = unlock (repository, source, error);
    g_mutex_unlock (&repository->lock);
    return ok;
}

static char *default_passphrase_file (void)
{
    return named_by ("LIBBACKUP_PASSPHRASE_FILE", "passphrase_file");
}

static char *default_key_file (void)
{
    return named_by ("LIBBACKUP_KEY_FILE", "key_file");
}

gboolean repository_may_unlock (Repository *repository)
{
    g_autofree char *phrase = default_passphrase_file (), *file = default_key_file ();
    return !repository->slots || g_atomic_pointer_get (&repository->key) || phrase || file;
}

/* What names the secret when nobody was asked. */
static gboolean unlock_by_default (Repository *repository, GError **error)
{
    g_autofree char *phrase = default_passphrase_file (), *file = default_key_file ();
    KeySource source = { file ? file : phrase,
                         file ? BAK_REPOSITORY_KEY_FILE : BAK_REPOSITORY_KEY_PASSPHRASE };
    return source.path
               ? unlock (repository, &source, error)
               : error_set (error, BAK_ERROR_ACCESS_DENIED,
                            _("repository '%s' is encrypted: --passphrase-file or --key-file, "
                               "LIBBACKUP_PASSPHRASE_FILE or LIBBACKUP_KEY_FILE, 'passphrase_file' "
                               "or 'key_file' in the configuration name what opens it"),
                            repository->path);
}

const RepositoryKey *repository_key (Repository *repository, GError **error)
{
    if (!repository->slots)
        return NULL;
    g_mutex_lock (&repository->lock);
    gboolean ok = g_atomic_pointer_get (&repository->key) || unlock_by_default (repository, error);
    g_mutex_unlock (&repository->lock);
    return ok ? repository->key : NULL;
}

gboolean repository_need_key (Repository *repository, GError **error)
{
    return !repository->slots || repository_key (repository, error);
}

const LeafKey *repository_leaf_key (Repository *repository)
{
    static const LeafKey unknown = { .unknown = TRUE };
    const RepositoryKey *key = g_atomic_pointer_get (&repository->key);
    return !repository->slots ? NULL : key ? &key->leaves : &unknown;
}

const char *repository_image_secret (Repository *repository)
{
    const RepositoryKey *key = g_atomic_pointer_get (&repository->key);
    return key ? key->secret : NULL;
}

gboolean repository_may_compress (const Repository *repository, const char *compression,
                                  GError **error)
{
    return !repository->slots || g_strcmp0 (compression, "zstd") != 0
           || error_set (
               error, BAK_ERROR_NOT_SUPPORTED,
               _("compression '%s': QEMU does not compress what it encrypts; an encrypted "
                  "repository takes none"),
               compression);
}
