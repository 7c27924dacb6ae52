/* From a directory that nobody sees to a point that everybody does, and back: what a dead writer
 * left. The caller holds the guest's lock. */
#pragma once
#include "repository/repository.h"

/* "20261129T010003Z-4f3a9c01" of this instant. Caller frees. */
char *publish_new_id (gint64 instant);
/* Makes REPO/GUEST-UUID/.new-ID, clearing what dead writers left beside it. Caller frees. */
char *publish_begin (Repository *repository, const char *guest_uuid, const char *id,
                     GError **error);
/* The directory of a point that is being made (caller frees), and whether a name is that of one. */
char *publish_new_dir (Repository *repository, const char *guest_uuid, const char *id);
gboolean publish_is_new (const char *name);
/* Writes the documents; from here the directory is complete, fsynced, and not yet seen. */
gboolean publish_prepare (const char *dir, Manifest *manifest, const Placement *storage,
                          GError **error);
/* The rename that makes it a point. */
/* Again, when where it lies has changed meanwhile. */
gboolean publish_placement (const char *dir, const Placement *storage, GError **error);
gboolean publish_commit (Repository *repository, const char *guest_uuid, const char *id,
                         GError **error);
void publish_abandon (const char *dir);
/* What dead writers left. */
void publish_clear (Repository *repository, const char *guest_uuid);
/* The number of the guest's next point, which no point before it had, also none that is gone. */
gboolean publish_next_sequence (Repository *repository, const char *guest_uuid,
                                const char *guest_name, guint64 *ret_sequence, GError **error);
/* What the guest was called (char *), as far as its guest.json tells. */
GPtrArray *publish_guest_names (Repository *repository, const char *guest_uuid);
