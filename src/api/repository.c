#include "api/api.h"
#include "repository/cancellation.h"
#include "repository/check.h"
#include "repository/copy.h"
#include "repository/create.h"
#include "repository/damage.h"
#include "repository/remove.h"
#include "repository/repository.h"
#include "repository/send.h"

enum { URL_MAX = 4096, NAME_MAX_BYTES = 1024, NOTE_MAX = 4000 };

/* Getters of handles that are structs of the repository's. */
#define GET(type, function, Type, expression)                                                      \
    type function (const Type *handle)                                                             \
    {                                                                                              \
        return handle ? (type) (expression) : 0;                                                   \
    }

/* cancellation */

BakCancellation *bak_cancellation_new (void)
{
    BakCancellation *cancellation = g_new0 (BakCancellation, 1);
    g_atomic_ref_count_init (&cancellation->refs);
    cancellation->cancellable = g_cancellable_new ();
    return cancellation;
}

static void cancellation_destroy (BakCancellation *cancellation)
{
    g_object_unref (cancellation->cancellable);
    g_free (cancellation);
}

HANDLE (BakCancellation, cancellation, cancellation_destroy)

void bak_cancellation_cancel (BakCancellation *cancellation)
{
    if (cancellation)
        g_cancellable_cancel (cancellation->cancellable);
}

GET (int, bak_cancellation_is_cancelled, BakCancellation,
     g_cancellable_is_cancelled (handle->cancellable))

/* repositories */

char *bak_repository_default_url (void)
{
    return repository_default_url ();
}

BakRepository *bak_repository_create (const char *url, const BakRepositoryCreateOptions *options,
                                      BakError **error)
{
    static const BakRepositoryCreateOptions none = { .size = sizeof none };
    GError *internal = NULL;
    options = options ? options : &none;
    API_TEXT (url, URL_MAX, error, NULL);
    if (!api_check_size (options->size, sizeof none, __func__, error))
        return NULL;
    API_TEXT (options->note, NOTE_MAX, error, NULL);
    API_TEXT (options->key, URL_MAX, error, NULL);
    KeySource source = { options->key, options->key_kind };
    BakRepository *repository =
        repository_create (url, options->note, options->key ? &source : NULL, &internal);
    if (!repository)
        api_take_error (error, internal);
    return repository;
}

BakRepository *bak_repository_open (const char *url, unsigned int flags, BakError **error)
{
    GError *internal = NULL;
    API_TEXT (url, URL_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    BakRepository *repository = repository_open (url, &internal);
    if (!repository)
        api_take_error (error, internal);
    return repository;
}

BakRepository *bak_repository_ref (BakRepository *repository)
{
    return repository ? repository_ref (repository) : NULL;
}

void bak_repository_unref (BakRepository *repository)
{
    repository_unref (repository);
}

GET (const char *, bak_repository_get_url, BakRepository, handle->url)
GET (const char *, bak_repository_get_path, BakRepository, handle->path)
GET (const char *, bak_repository_get_id, BakRepository, handle->id)
GET (const char *, bak_repository_get_note, BakRepository, handle->note)
GET (long long, bak_repository_get_created, BakRepository, handle->created)

int bak_repository_list_points (BakRepository *repository, const char *guest, BakPoint ***points,
                                unsigned int flags, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, -1);
    API_TEXT (guest, NAME_MAX_BYTES, error, -1);
    API_FLAGS (flags, BAK_REPOSITORY_LIST_DAMAGED, error, -1);
    GPtrArray *found =
        repository_list_guest (repository, guest, flags & BAK_REPOSITORY_LIST_DAMAGED, &internal);
    if (!found) {
        api_take_error (error, internal);
        return -1;
    }
    int count = found->len;
    if (points) {
        g_ptr_array_set_free_func (found, NULL);
        g_ptr_array_add (found, NULL);
        *points = (BakPoint **) g_ptr_array_free (found, FALSE);
    } else {
        g_ptr_array_unref (found);
    }
    return count;
}

BakPoint *bak_repository_lookup_point (BakRepository *repository, const char *name,
                                       unsigned int flags, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, NULL);
    API_NOT_NULL (name, error, NULL);
    API_TEXT (name, NAME_MAX_BYTES, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    BakPoint *point = repository_lookup_point (repository, name, &internal);
    if (point)
        damage_look_at_one (point);
    else
        api_take_error (error, internal);
    return point;
}

/* points are made */

static const BakPointCreateOptions *check_options (const BakPointCreateOptions *options,
                                                   const char *function, BakError **error)
{
    static const BakPointCreateOptions none = { .size = sizeof none };
    enum {
        FLAGS = BAK_POINT_CREATE_FULL_READ | BAK_POINT_CREATE_NO_SAMPLE | BAK_POINT_CREATE_PIN
                | BAK_POINT_CREATE_REFUSE_FALLBACK | BAK_POINT_CREATE_RESUME
    };
    options = options ? options : &none;
    if (!api_check_size (options->size, sizeof none, function, error)
        || !api_check_text (options->note, NOTE_MAX, "note", function, error)
        || !api_check_text (options->compression, NAME_MAX_BYTES, "compression", function, error))
        return NULL;
    if (options->flags & ~(guint) FLAGS)
        return api_refuse_flags (options->flags & ~(guint) FLAGS, function, error), NULL;
    return options;
}

BakPoint *bak_repository_create_point (BakRepository *repository, BakDomain *domain,
                                       const BakPointCreateOptions *options, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, NULL);
    API_NOT_NULL (domain, error, NULL);
    if (!(options = check_options (options, __func__, error)))
        return NULL;
    BakPoint *point = create_point (repository, domain, options, &internal);
    if (!point)
        api_take_error (error, internal);
    return point;
}

char *bak_repository_plan_point (BakRepository *repository, BakDomain *domain,
                                 const BakPointCreateOptions *options, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, NULL);
    API_NOT_NULL (domain, error, NULL);
    if (!(options = check_options (options, __func__, error)))
        return NULL;
    char *plan = create_plan (repository, domain, options, &internal);
    if (!plan)
        api_take_error (error, internal);
    return plan;
}

int bak_point_set_pinned (BakPoint *point, int pinned, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    if (damage_refuse (point, &internal) && point_set_pinned (point, pinned != 0, &internal))
        return 0;
    api_take_error (error, internal);
    return -1;
}

int bak_point_set_note (BakPoint *point, const char *note, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    API_TEXT (note, NOTE_MAX, error, -1);
    if (damage_refuse (point, &internal) && point_set_note (point, note, &internal))
        return 0;
    api_take_error (error, internal);
    return -1;
}

/* points go */

static const BakPointRemoveOptions *check_removal (const BakPointRemoveOptions *options,
                                                   const char *function, BakError **error)
{
    static const BakPointRemoveOptions none = { .size = sizeof none };
    options = options ? options : &none;
    if (!api_check_size (options->size, sizeof none, function, error))
        return NULL;
    if (options->flags & ~(guint) BAK_POINT_REMOVE_DRY_RUN)
        return api_refuse_flags (options->flags & ~(guint) BAK_POINT_REMOVE_DRY_RUN, function,
                                 error),
               NULL;
    return options;
}

int bak_point_delete (BakPoint *point, const BakPointRemoveOptions *options, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    if (!(options = check_removal (options, __func__, error)))
        return -1;
    if (remove_point (point, options, &internal))
        return 0;
    api_take_error (error, internal);
    return -1;
}

int bak_repository_prune (BakRepository *repository, const char *guest, const BakPruneRules *rules,
                          const BakPointRemoveOptions *options, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (repository, error, -1);
    API_TEXT (guest, NAME_MAX_BYTES, error, -1);
    API_NOT_NULL (rules, error, -1);
    if (!api_check_size (rules->size, sizeof *rules, __func__, error)
        || !(options = check_removal (options, __func__, error)))
        return -1;
    Keep keep = { .count = { [KEEP_LAST] = rules->last,
                             [KEEP_HOURLY] = rules->hourly,
                             [KEEP_DAILY] = rules->daily,
                             [KEEP_WEEKLY] = rules->weekly,
                             [KEEP_MONTHLY] = rules->monthly,
                             [KEEP_YEARLY] = rules->yearly },
                  .within = rules->within };
    if (remove_pruned (repository, guest, &keep, options, &internal))
        return 0;
    api_take_error (error, internal);
    return -1;
}

int bak_repository_check (BakRepository *repository, const BakRepositoryCheckOptions *options,
                          BakError **error)
{
    static const BakRepositoryCheckOptions none = { .size = sizeof none };
    enum { FLAGS = BAK_REPOSITORY_CHECK_READ_DATA | BAK_REPOSITORY_CHECK_REPAIR };
    GError *internal = NULL;
    guint damaged;
    options = options ? options : &none;
    API_NOT_NULL (repository, error, -1);
    if (!api_check_size (options->size, sizeof none, __func__, error))
        return -1;
    API_FLAGS (options->flags, FLAGS, error, -1);
    if (check_repository (repository, options, &damaged, &internal))
        return (int) MIN (damaged, G_MAXINT);
    api_take_error (error, internal);
    return -1;
}

int bak_point_copy (BakPoint *point, BakRepository *to, const BakPointCopyOptions *options,
                    unsigned long long *read, BakError **error)
{
    static const BakPointCopyOptions none = { .size = sizeof none };
    GError *internal = NULL;
    gboolean copied;
    guint64 amount;
    options = options ? options : &none;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (to, error, -1);
    if (!api_check_size (options->size, sizeof none, __func__, error))
        return -1;
    API_FLAGS (options->flags, BAK_POINT_COPY_ALLOW_PLAIN, error, -1);
    if (!copy_point (point, to, options, &copied, &amount, &internal)) {
        api_take_error (error, internal);
        return -1;
    }
    if (read)
        *read = amount;
    return copied;
}

int bak_point_send (BakPoint *point, const char *url, const BakPointCopyOptions *options,
                    unsigned long long *sent, BakError **error)
{
    static const BakPointCopyOptions none = { .size = sizeof none };
    GError *internal = NULL;
    gboolean copied;
    guint64 amount;
    options = options ? options : &none;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (url, error, -1);
    API_TEXT (url, URL_MAX, error, -1);
    if (!api_check_size (options->size, sizeof none, __func__, error))
        return -1;
    API_FLAGS (options->flags, BAK_POINT_COPY_ALLOW_PLAIN, error, -1);
    if (!send_point (point, url, options, &copied, &amount, &internal)) {
        api_take_error (error, internal);
        return -1;
    }
    if (sent)
        *sent = amount;
    return copied;
}

/* points */

BakPoint *bak_point_ref (BakPoint *point)
{
    return point ? point_ref (point) : NULL;
}

void bak_point_unref (BakPoint *point)
{
    point_unref (point);
}

static const Verification *last_verification (const BakPoint *point)
{
    guint count = point->verifications->len;
    return count ? point->verifications->pdata[count - 1] : NULL;
}

GET (const char *, bak_point_get_id, BakPoint, handle->manifest->id)
GET (const char *, bak_point_get_guest, BakPoint, handle->manifest->guest_name)
GET (const char *, bak_point_get_guest_uuid, BakPoint, handle->manifest->guest_uuid)
GET (unsigned long long, bak_point_get_sequence, BakPoint, handle->manifest->sequence)
GET (long long, bak_point_get_instant, BakPoint, handle->manifest->instant)
GET (const char *, bak_point_get_consistency, BakPoint, handle->manifest->consistency)
GET (unsigned long long, bak_point_get_frozen_time, BakPoint, handle->manifest->frozen_ms * 1000)
GET (const char *, bak_point_get_host, BakPoint, handle->manifest->host)
GET (const char *, bak_point_get_qemu_version, BakPoint, handle->manifest->qemu)
GET (const char *, bak_point_get_checkpoint, BakPoint, handle->manifest->checkpoint)
GET (const char *, bak_point_get_parent, BakPoint, handle->storage->parent)
GET (const char *, bak_point_get_note, BakPoint, handle->note)
GET (int, bak_point_is_pinned, BakPoint, handle->pinned)
GET (const char *, bak_point_get_path, BakPoint, handle->dir)
GET (const char *, bak_point_get_damage, BakPoint, handle->damage)
GET (long long, bak_point_get_verified, BakPoint,
     last_verification (handle) ? last_verification (handle)->when : 0)
GET (int, bak_point_is_verified_good, BakPoint,
     last_verification (handle) && last_verification (handle)->good)
GET (unsigned int, bak_point_get_n_warnings, BakPoint, handle->manifest->warnings->len)
GET (unsigned int, bak_point_get_n_disks, BakPoint, handle->disks->len)

const char *bak_point_get_warning (const BakPoint *point, unsigned int index)
{
    return point && index < point->manifest->warnings->len ? point->manifest->warnings->pdata[index]
                                                           : NULL;
}

const BakPointDisk *bak_point_get_disk (const BakPoint *point, unsigned int index)
{
    return point && index < point->disks->len ? point->disks->pdata[index] : NULL;
}

GET (const char *, bak_point_disk_get_target, BakPointDisk, handle->manifest->target)
GET (unsigned long long, bak_point_disk_get_size, BakPointDisk, handle->manifest->size)
GET (const char *, bak_point_disk_get_kind, BakPointDisk, handle->manifest->kind)
GET (const char *, bak_point_disk_get_reason, BakPointDisk, handle->manifest->reason)
GET (const char *, bak_point_disk_get_base, BakPointDisk, handle->manifest->base)
GET (unsigned long long, bak_point_disk_get_read, BakPointDisk, handle->manifest->read)
GET (unsigned long long, bak_point_disk_get_stored, BakPointDisk, handle->manifest->stored)
GET (unsigned long long, bak_point_disk_get_reused, BakPointDisk, handle->manifest->reused)
GET (unsigned long long, bak_point_disk_get_file_size, BakPointDisk, handle->storage->file_size)
GET (const char *, bak_point_disk_get_path, BakPointDisk, handle->path)
GET (const char *, bak_point_disk_get_compression, BakPointDisk, handle->storage->compression)
GET (const char *, bak_point_disk_get_root, BakPointDisk, handle->manifest->root)
GET (unsigned int, bak_point_disk_get_sampled, BakPointDisk, handle->manifest->sampled)
GET (int, bak_point_disk_is_tracking_wrong, BakPointDisk, handle->manifest->lied)
