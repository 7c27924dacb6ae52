/* On whose behalf a thread works with files that somebody named: the daemon's client. Where there
 * is one, a file is made or opened only where the policy lets him, or else where he could do that
 * himself, and by a descriptor: what was looked at is what is used.
 *
 * NULL is root, the daemon's own user, and every process that works for its own user. */
#pragma once
#include <sys/stat.h>
#include <sys/types.h>
#include "util/error.h"

typedef struct _Caller Caller;

/* name: for messages. has_user FALSE: of another host; what he "could do himself" here is nothing.
 * dirs: absolute directories (char*) that a policy names for him, NULL or none: what he could do
 * himself. */
Caller *caller_new (const char *name, gboolean has_user, uid_t uid, gid_t gid, const GArray *gids,
                    const GPtrArray *dirs);
Caller *caller_ref (Caller *caller);
void caller_unref (Caller *caller);
/* Of this thread; borrowed. */
Caller *caller_current (void);
void caller_set_current (Caller *caller);

typedef enum {
    CALLER_READS,
    CALLER_WRITES,   /* an image or device that is there */
    CALLER_CONNECTS, /* to a unix socket */
} CallerWish;

/* An open descriptor of what is there, or -1. CONNECTS gives one that can only be looked at.
 * Without a caller: as the process itself. */
int caller_open (Caller *caller, const char *path, CallerWish wish, GError **error);
/* A new file of no name yet in the directory of path, and the directory (*ret_dir, to be closed);
 * -1. A file system without such files: NOT_SUPPORTED. */
int caller_open_unnamed (Caller *caller, const char *path, int *ret_dir, GError **error);
/* Gives it its name; errno is set on FALSE. */
gboolean caller_name (Caller *caller, int fd, int dir, const char *base);
/* A place for a socket that somebody else will bind by its name: no part of the way there may be
 * changed by the caller, else it would lead elsewhere by then. */
gboolean caller_check_socket (Caller *caller, const char *path, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Caller, caller_unref)
