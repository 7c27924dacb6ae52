/* Definitions of guests on disk: STATE/guests/NAME/guest.json (what attach was told) and beside it
 * attach.json (what attach found: a number that is never used again, the formats of images). A
 * folder appears and goes in one rename. */
#pragma once
#include "conf/guest_def.h"

enum { STATE_LOCK_WAIT_MS = 10000 };

/* Names of all attached guests, sorted. Free with g_ptr_array_unref. */
GPtrArray *attach_names (const char *state_dir);
/* BAK_ERROR_NO_DOMAIN when there is none. */
GuestDef *attach_load (const char *state_dir, const char *name, GError **error);
/* Stores def (checked by the caller with guest_def_check) as a new guest; formats: one string an
 * image, as in def->images. */
gboolean attach_store (const char *state_dir, const GuestDef *def, const char *const *formats,
                       GError **error);
/* The same into a folder that may be there already, by a driver that finds its guests otherwise.
 * number: of attach_number(). */
gboolean attach_write (const char *folder, int number, const GuestDef *def,
                       const char *const *formats, GError **error);
/* The guest's libvirt-like number while it runs; 0 when dir is damaged. */
int attach_number (const char *dir);
/* The format that the image of this target had when it was attached; NULL. */
char *attach_image_format (const char *dir, const char *target);
/* What a guest that is attached both ways had when it was last seen running: GuestDiskDef*, "" for
 * one whose image is not of this host. NULL: never seen. ret_uuid: of its QEMU, NULL: none. */
GPtrArray *attach_seen (const char *dir, char **ret_uuid);
/* Formats from now on are these: one string an image. The caller holds the guest's lock. */
gboolean attach_note_seen (const char *dir, const char *uuid, const GPtrArray *images,
                           const char *const *formats, GError **error);
/* Removes a guest's folder. The caller holds the guest's lock. */
gboolean attach_remove (const char *state_dir, const char *name, GError **error);
/* The guest whose monitor is at this address; NULL. */
char *attach_find_monitor (const char *state_dir, const char *address);
/* of attach.c */
char *attach_dir (const char *state_dir, const char *name);
/* All that can be read; a damaged one hides only itself. */
GPtrArray *attach_load_all (const char *state_dir);
/* Two guests must not share a name, a monitor, an image or a UUID. */
gboolean attach_check_unused (const char *state_dir, const GuestDef *def, GError **error);
