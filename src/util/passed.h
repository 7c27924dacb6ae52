/* Listening sockets that a client has handed over as descriptors, by guest and by a name of the
 * client's choice (libvirt's "fdgroup"): they live as long as his connection. Any thread. */
#pragma once
#include "util/error.h"

enum { PASSED_FDS_MAX = 16, PASSED_GROUPS_MAX = 64 };

typedef struct _Passed Passed;

/* Where a socket listens: path is that of a unix socket, else NULL. */
typedef struct {
    char *path, *host;
    guint port;
    guint64 inode; /* of the socket itself, as /proc shows it to whoever has it open */
} PassedAddress;

Passed *passed_new (void);
Passed *passed_ref (Passed *passed);
void passed_unref (Passed *passed); /* NULL is accepted */
/* INVALID_ARGUMENT, and why, when one of them is no stream socket that listens. */
gboolean passed_check (const char *group, const int *fds, guint n_fds, GError **error);
/* Keeps duplicates; a group of that name is replaced. They are checked first. */
gboolean passed_put (Passed *passed, const char *guest, const char *group, const int *fds,
                     guint n_fds, GError **error);
/* The one descriptor of a group, a duplicate for the caller; -1. */
int passed_get (Passed *passed, const char *guest, const char *group, GError **error);
/* Each group of that guest (NULL: of all), until func gives FALSE. The descriptors are lent. */
gboolean passed_each (Passed *passed, const char *guest,
                      gboolean (*func) (const char *guest, const char *group, const int *fds,
                                        guint n_fds, gpointer data, GError **error),
                      gpointer data, GError **error);
/* Refused when nobody here could connect to it: what it serves is looked at from here. */
gboolean passed_address (int fd, const char *group, PassedAddress *ret, GError **error);
void passed_address_clear (PassedAddress *address);

/* What the client handed over for whom this thread works; borrowed, NULL. */
Passed *passed_current (void);
void passed_set_current (Passed *passed);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Passed, passed_unref)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (PassedAddress, passed_address_clear)
