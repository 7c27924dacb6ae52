/* Slots that come, change and go: the document is read anew under a lock, and replaced as a whole.
 */
#include <glib/gi18n-lib.h>
#include "repository/lock.h"
#include "repository/repository.h"

typedef gboolean (*SlotsFunction) (GPtrArray *slots, gpointer data, GError **error);

/* The key must be there: who has not it cannot make a slot, and should not take one away. */
static gboolean change (Repository *repository, SlotsFunction function, gpointer data,
                        GError **error)
{
    const RepositoryKey *key = repository_key (repository, error);
    if (!repository->slots)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("repository '%s' is not encrypted: it has no slots"),
                          repository->path);
    if (!key)
        return FALSE;
    g_autoptr (Lock) lock = lock_keys (repository, error);
    g_autoptr (Repository) now = lock ? repository_open (repository->path, error) : NULL;
    if (!now)
        return FALSE;
    if (!now->slots || !g_str_equal (now->id, repository->id))
        return error_set (error, BAK_ERROR_INEXACT, _("'%s' is another repository now"),
                          repository->path);
    if (!function (now->slots, data, error) || !repository_write (now, error))
        return FALSE;
    g_mutex_lock (&repository->lock);
    GPtrArray *old = repository->slots;
    repository->slots = g_steal_pointer (&now->slots);
    now->slots = old;
    g_mutex_unlock (&repository->lock);
    return TRUE;
}

static KeySlot *find (const GPtrArray *slots, guint number, guint *ret_index)
{
    for (guint i = 0; i < slots->len; i++) {
        *ret_index = i;
        if (((KeySlot *) slots->pdata[i])->number == number)
            return slots->pdata[i];
    }
    return NULL;
}

/* What is put in. */
typedef struct {
    Repository *repository;
    const KeySource *source;
    const char *note;
    guint number;
} Change;

static KeySlot *make (const Change *change, GError **error)
{
    const Repository *repository = change->repository;
    return key_slot_new (repository->key, change->number, repository->id, change->source,
                         change->note, error);
}

static gboolean add (GPtrArray *slots, gpointer data, GError **error)
{
    Change *change = data;
    if (slots->len >= KEY_SLOTS_MAX)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there are %d slots already"),
                          KEY_SLOTS_MAX);
    change->number = 0;
    for (guint i = 0; i < slots->len; i++)
        change->number = MAX (change->number, ((KeySlot *) slots->pdata[i])->number + 1);
    KeySlot *slot = make (change, error);
    if (slot)
        g_ptr_array_add (slots, slot);
    return slot != NULL;
}

static gboolean replace (GPtrArray *slots, gpointer data, GError **error)
{
    Change *change = data;
    guint index;
    KeySlot *old = find (slots, change->number, &index);
    if (!old)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("slot %u, by which it was opened, is gone meanwhile"), change->number);
    change->note = old->note;
    KeySlot *slot = make (change, error);
    if (!slot)
        return FALSE;
    key_slot_free (old);
    slots->pdata[index] = slot;
    return TRUE;
}

static gboolean take_away (GPtrArray *slots, gpointer data, GError **error)
{
    const Change *change = data;
    guint index;
    if (!find (slots, change->number, &index))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there is no slot %u"),
                          change->number);
    if (change->number == change->repository->key->slot)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("slot %u is the one by which the repository was opened: open it by "
                             "another one, which then stays for sure"),
                          change->number);
    g_ptr_array_remove_index (slots, index);
    return TRUE;
}

gboolean repository_add_slot (Repository *repository, const KeySource *source, const char *note,
                              guint *ret_number, GError **error)
{
    Change what = { repository, source, note, 0 };
    gboolean ok = change (repository, add, &what, error);
    if (ok)
        *ret_number = what.number;
    return ok;
}

gboolean repository_change_slot (Repository *repository, const KeySource *source, GError **error)
{
    const RepositoryKey *key = repository_key (repository, error);
    Change what = { repository, source, NULL, key ? key->slot : 0 };
    return (key || !repository->slots) && change (repository, replace, &what, error);
}

gboolean repository_remove_slot (Repository *repository, guint number, GError **error)
{
    Change what = { .repository = repository, .number = number };
    return change (repository, take_away, &what, error);
}
