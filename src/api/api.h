/* What the public functions share: the structs behind the handles, argument checks, and the one
 * conversion of errors. A public function checks its arguments, enters the driver and converts the
 * error; nothing else happens here. */
#pragma once
#include <libbackup/libbackup.h>
#include <glib.h>
#include <glib/gi18n-lib.h>
#include "driver/driver.h"

typedef struct _EventHub EventHub;
typedef struct _Patience Patience;

struct BakError {
    gatomicrefcount refs;
    BakErrorCode code;
    char *message;
};

struct BakConnection {
    gint refs; /* see connection_try_ref() */
    DriverConn *driver;
    EventHub *events;
    Patience *patience;
};

/* The result of one call, shared by the handles that point into it. */
typedef struct {
    gatomicrefcount refs;
    CallId id;
    gpointer ret;
} Result;

struct BakDomain {
    gatomicrefcount refs;
    BakConnection *conn;
    char *name, *uuid;
    int id, state;
    gboolean has_checkpoint;
};

struct BakCheckpoint {
    gatomicrefcount refs;
    BakDomain *domain;
    Result *result;
    const bak_checkpoint_item *data;
};

/* The snapshots all look like this. */
#define SNAPSHOT(Type, data_type)                                                                  \
    struct Type {                                                                                  \
        gatomicrefcount refs;                                                                      \
        Result *result;                                                                            \
        const data_type *data;                                                                     \
    }
SNAPSHOT (BakJob, bak_job);
SNAPSHOT (BakDisk, bak_disk);
SNAPSHOT (BakDomainDetails, bak_domain_info);
SNAPSHOT (BakGuestProcess, bak_found);
SNAPSHOT (BakFinding, bak_finding);
typedef SNAPSHOT (BakSnapshot, void) Snapshot;

/* ref and unref of a handle whose last reference is released by destroy (handle). */
#define HANDLE(Type, noun, destroy)                                                                \
    Type *bak_##noun##_ref (Type *noun)                                                            \
    {                                                                                              \
        if (noun)                                                                                  \
            g_atomic_ref_count_inc (&noun->refs);                                                  \
        return noun;                                                                               \
    }                                                                                              \
    void bak_##noun##_unref (Type *noun)                                                           \
    {                                                                                              \
        if (noun && g_atomic_ref_count_dec (&noun->refs))                                          \
            destroy (noun);                                                                        \
    }

/* Accessors of snapshots: absent text is NULL outside, "" inside. */
#define GET_TEXT(function, Type, field)                                                            \
    const char *function (const Type *handle)                                                      \
    {                                                                                              \
        return handle ? api_absent_is_null (handle->data->field) : NULL;                           \
    }
#define GET_NUMBER(type, function, Type, field)                                                    \
    type function (const Type *handle)                                                             \
    {                                                                                              \
        return handle ? (type) handle->data->field : 0;                                            \
    }
#define GET_ITEM(function, Type, array)                                                            \
    const char *function (const Type *handle, unsigned int index)                                  \
    {                                                                                              \
        return handle && index < handle->data->array.array##_len                                   \
                   ? handle->data->array.array##_val[index]                                        \
                   : NULL;                                                                         \
    }

/* Argument checks: `API_NOT_NULL (domain, error, -1);` returns from the public function with
 * INVALID_ARGUMENT. */
#define API_NOT_NULL(argument, error, value)                                                       \
    G_STMT_START                                                                                   \
    {                                                                                              \
        if (!(argument))                                                                           \
            return api_refuse_null (#argument, __func__, error), value;                            \
    }                                                                                              \
    G_STMT_END
#define API_FLAGS(flags, allowed, error, value)                                                    \
    G_STMT_START                                                                                   \
    {                                                                                              \
        if (((flags) & ~(unsigned int) (allowed)) != 0)                                            \
            return api_refuse_flags ((flags) & ~(unsigned int) (allowed), __func__, error), value; \
    }                                                                                              \
    G_STMT_END
/* NULL passes: it stands for absent. */
#define API_TEXT(argument, max, error, value)                                                      \
    G_STMT_START                                                                                   \
    {                                                                                              \
        if (!api_check_text (argument, max, #argument, __func__, error))                           \
            return value;                                                                          \
    }                                                                                              \
    G_STMT_END

void api_refuse_null (const char *argument, const char *function, BakError **error);
void api_refuse_flags (unsigned int flags, const char *function, BakError **error);
gboolean api_check_text (const char *text, gsize max, const char *argument, const char *function,
                         BakError **error);
/* Of options structs: `size` is what the caller was compiled with. */
gboolean api_check_size (unsigned long size, gsize minimum, const char *function, BakError **error);
void api_set_error (BakError **error, BakErrorCode code, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
void api_take_error (BakError **error, GError *internal);
const char *api_absent_is_null (const char *text);
static inline char *api_text (const char *text)
{
    return (char *) (text ? text : "");
}

/* Enters the driver; NULL on failure. */
Result *result_call (BakConnection *conn, CallId id, const void *args, BakError **error);
Result *result_ref (Result *result);
void result_unref (Result *result);
/* Calls whose result is nothing: 0 or -1. */
int api_call (BakConnection *conn, CallId id, const void *args, BakError **error);
/* Calls whose result is a text, which becomes the caller's. */
char *api_call_text (BakConnection *conn, CallId id, const void *args, BakError **error);

/* What libvirt's clients ask of the guest's job. NULL and *error unset: there is none. */
Result *api_job_stats (BakDomain *domain, unsigned int flags, gboolean *ret_none, BakError **error);

/* A snapshot of data, which lies in result. */
gpointer snapshot_new (Result *result, gconstpointer data);
void snapshot_free (gpointer snapshot);
/* A NULL-terminated array of snapshots of the n structs of this size at first; consumes result.
 * Returns n. ret_list NULL: only counts. */
int snapshot_list (Result *result, gconstpointer first, guint n, gsize size, gpointer ret_list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Result, result_unref)

BakDomain *domain_new (BakConnection *conn, const bak_domain_item *item);
BakConnection *connection_try_ref (BakConnection *conn); /* NULL when its last reference is gone */

Patience *patience_new (void);
void patience_free (Patience *patience);
gboolean patience_is_set (BakConnection *conn);
/* driver_call(), for as long as the connection has patience */
gboolean patience_call (BakConnection *conn, CallId id, const void *args, gpointer ret,
                        GError **error);

EventHub *event_hub_new (BakConnection *conn);
/* before the driver is closed; may run on the hub's own thread */
void event_hub_close (EventHub *hub);
void event_hub_take (DriverConn *conn, const bak_event *event, gpointer hub);
