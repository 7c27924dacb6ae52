/* Who works on what. The kernel's locks on open files (OFD) decide: they are gone with their owner,
 * also after kill -9. What is written into a lock's file only tells who.
 *
 * One writer a guest (locks/GUEST-UUID, exclusive): create, prune, delete. Readers of a point hold
 * the manifest.json of each point of its chain shared, so that a repository that cannot be written
 * can be read; who changes or removes a point's files holds its manifest exclusively. */
#pragma once
#include "repository/repository.h"

typedef struct _Lock Lock;

/* BUSY, with who holds it, at once. what: "point-create", … */
Lock *lock_guest (Repository *repository, const char *guest_uuid, const char *what, GError **error);
/* Who changes the slots of the repository's key. */
Lock *lock_keys (Repository *repository, GError **error);
/* lock_guest() of a writer: what a dead process began to remove is finished first. */
Lock *lock_guest_to_write (Repository *repository, const char *guest_uuid, const char *what,
                           GError **error);
/* Shared, on every point of the chains of these disks (targets NULL: all). INEXACT when a chain is
 * broken. */
Lock *lock_point_to_read (Point *point, const char *const *targets, GError **error);
/* Exclusive, on this point alone; BUSY when someone reads it. */
Lock *lock_point_to_change (Point *point, GError **error);
/* The same piece by piece. */
Lock *lock_new (void);
gboolean lock_add_point (Lock *lock, const char *dir, const char *id, GError **error);
void lock_free (Lock *lock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Lock, lock_free)
