/* The key of a repository. */
#include "api/api.h"
#include "repository/repository.h"
#include "util/json.h"

enum { PATH_MAX_BYTES = 4096, KEY_NOTE_MAX = 4000 };

static int ended (gboolean ok, GError *internal, BakError **error)
{
    if (!ok)
        api_take_error (error, internal);
    return ok ? 0 : -1;
}

static gboolean check_kind (BakRepositoryKeyKind kind, const char *function, BakError **error)
{
    if (kind == BAK_REPOSITORY_KEY_PASSPHRASE || kind == BAK_REPOSITORY_KEY_FILE)
        return TRUE;
    api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("%s: there is no such kind of key"),
                   function);
    return FALSE;
}

int bak_repository_unlock (BakRepository *repository, const char *key, BakRepositoryKeyKind kind,
                           BakError **error)
{
    GError *internal = NULL;
    KeySource source = { key, kind };
    API_NOT_NULL (repository, error, -1);
    API_NOT_NULL (key, error, -1);
    API_TEXT (key, PATH_MAX_BYTES, error, -1);
    if (!check_kind (kind, __func__, error))
        return -1;
    gboolean ok = repository_unlock (repository, &source, &internal);
    return ended (ok, internal, error);
}

int bak_repository_is_encrypted (const BakRepository *repository)
{
    return repository && repository->slots;
}

int bak_repository_is_locked (const BakRepository *repository)
{
    return repository && repository_leaf_key ((BakRepository *) repository)
           && repository_leaf_key ((BakRepository *) repository)->unknown;
}

int bak_repository_add_key (BakRepository *repository, const char *key, BakRepositoryKeyKind kind,
                            const char *note, BakError **error)
{
    GError *internal = NULL;
    KeySource source = { key, kind };
    guint number;
    API_NOT_NULL (repository, error, -1);
    API_NOT_NULL (key, error, -1);
    API_TEXT (key, PATH_MAX_BYTES, error, -1);
    API_TEXT (note, KEY_NOTE_MAX, error, -1);
    if (!check_kind (kind, __func__, error))
        return -1;
    if (repository_add_slot (repository, &source, note, &number, &internal))
        return number;
    return ended (FALSE, internal, error);
}

int bak_repository_change_key (BakRepository *repository, const char *key,
                               BakRepositoryKeyKind kind, BakError **error)
{
    GError *internal = NULL;
    KeySource source = { key, kind };
    API_NOT_NULL (repository, error, -1);
    API_NOT_NULL (key, error, -1);
    API_TEXT (key, PATH_MAX_BYTES, error, -1);
    if (!check_kind (kind, __func__, error))
        return -1;
    gboolean ok = repository_change_slot (repository, &source, &internal);
    return ended (ok, internal, error);
}

int bak_repository_remove_key (BakRepository *repository, unsigned int slot, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, -1);
    gboolean ok = repository_remove_slot (repository, slot, &internal);
    return ended (ok, internal, error);
}

static JsonObject *slot_to_json (const KeySlot *slot)
{
    JsonObject *object = json_object_new ();
    g_autofree char *created = fields_format_time (slot->created);
    json_object_set_int_member (object, "slot", slot->number);
    json_object_set_string_member (object, "kind", key_kind_name (slot->kind));
    json_object_set_string_member (object, "created", created);
    json_object_set_int_member (object, "iterations", slot->iterations);
    if (slot->note)
        json_object_set_string_member (object, "note", slot->note);
    else
        json_object_set_null_member (object, "note");
    return object;
}

char *bak_repository_describe_keys (BakRepository *repository)
{
    JsonArray *array = json_array_new ();
    JsonObject *object = json_object_new ();
    if (repository)
        g_mutex_lock (&repository->lock);
    for (guint i = 0; repository && repository->slots && i < repository->slots->len; i++)
        json_array_add_object_element (array, slot_to_json (repository->slots->pdata[i]));
    if (repository)
        g_mutex_unlock (&repository->lock);
    json_object_set_array_member (object, "keys", array);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    return json_write (node);
}
