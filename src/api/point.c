/* What is done with points that are there. */
#include <unistd.h>
#include "api/api.h"
#include "driver/claims.h"
#include "repository/diff.h"
#include "repository/restore.h"
#include "repository/serve.h"
#include "repository/verify.h"
#include "util/config.h"

enum { PATH_MAX_BYTES = 4096, DISK_NAME_MAX = 1024 };

static int ended (gboolean ok, GError *internal, BakError **error)
{
    if (!ok)
        api_take_error (error, internal);
    return ok ? 0 : -1;
}

static gboolean check_names (const char *const *names, const char *function, BakError **error)
{
    for (; names && *names; names++)
        if (!api_check_text (*names, DISK_NAME_MAX, "disks", function, error))
            return FALSE;
    return TRUE;
}

int bak_point_verify (BakPoint *point, const BakPointVerifyOptions *options, BakError **error)
{
    static const BakPointVerifyOptions none = { .size = sizeof none };
    GError *internal = NULL;
    options = options ? options : &none;
    API_NOT_NULL (point, error, -1);
    if (!api_check_size (options->size, sizeof none, __func__, error)
        || !check_names (options->disks, __func__, error))
        return -1;
    gboolean ok = verify_point (point, options, &internal);
    return ended (ok, internal, error);
}

static gboolean check_targets (const BakPointRestoreOptions *options, const char *function,
                               BakError **error)
{
    for (unsigned int i = 0; i < options->n_targets; i++) {
        const BakPointRestoreTarget *target = &options->targets[i];
        if (!target->disk || !target->path)
            return api_refuse_null ("targets", function, error), FALSE;
        if (!api_check_text (target->disk, DISK_NAME_MAX, "targets", function, error)
            || !api_check_text (target->path, PATH_MAX_BYTES, "targets", function, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean may_restore (const Manifest *point, const char *path, const struct stat *st,
                             GError **error)
{
    g_autofree char *state_dir = config_state_dir (geteuid () != 0);
    return claims_allow_restore (state_dir, point->guest_name, point->guest_uuid, path, st, error);
}

int bak_point_restore (BakPoint *point, const BakPointRestoreOptions *options, BakError **error)
{
    enum { FLAGS = BAK_POINT_RESTORE_REUSE_EXTERNAL | BAK_POINT_RESTORE_CHANGED_ONLY };
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (options, error, -1);
    if (!api_check_size (options->size, sizeof *options, __func__, error)
        || !api_check_text (options->directory, PATH_MAX_BYTES, "directory", __func__, error)
        || !api_check_text (options->format, DISK_NAME_MAX, "format", __func__, error)
        || !check_names (options->disks, __func__, error)
        || !check_targets (options, __func__, error))
        return -1;
    API_FLAGS (options->flags, FLAGS, error, -1);
    gboolean ok = restore_point (point, options, may_restore, &internal);
    return ended (ok, internal, error);
}

int bak_point_serve (BakPoint *point, const BakPointServeOptions *options, BakError **error)
{
    enum {
        FLAGS = BAK_POINT_SERVE_WRITABLE | BAK_POINT_SERVE_TLS_PSK | BAK_POINT_SERVE_ALLOW_INSECURE
    };
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (options, error, -1);
    if (!api_check_size (options->size, sizeof *options, __func__, error)
        || !api_check_text (options->socket, PATH_MAX_BYTES, "socket", __func__, error)
        || !api_check_text (options->host, DISK_NAME_MAX, "host", __func__, error)
        || !api_check_text (options->tls_dir, PATH_MAX_BYTES, "tls_dir", __func__, error)
        || !api_check_text (options->scratch, PATH_MAX_BYTES, "scratch", __func__, error)
        || !check_names (options->disks, __func__, error))
        return -1;
    API_FLAGS (options->flags, FLAGS, error, -1);
    gboolean ok = serve_point (point, options, &internal);
    return ended (ok, internal, error);
}

int bak_point_diff (BakPoint *point, BakPoint *before, BakPointDiffFunc function, void *opaque,
                    BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (function, error, -1);
    gboolean ok = diff_points (point, before, function, opaque, &internal);
    return ended (ok, internal, error);
}
