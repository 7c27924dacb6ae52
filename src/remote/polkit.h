/* polkit's word on a local user, asked over the system bus; nothing of polkit is linked. */
#pragma once
#include <gio/gio.h>
#include "remote/access.h"

#define POLKIT_ACTION "org.libbackup.use"

/* error NULL: he may. BAK_ERROR_ACCESS_DENIED: he may not, or polkit could not be asked (then it
 * says why). */
typedef void (*PolkitFunc) (const GError *error, gpointer data);
/* Answers later, on the thread's default context of now; the user may be asked for a password
 * meanwhile. */
void polkit_ask (const Identity *identity, GCancellable *cancellable, PolkitFunc func,
                 gpointer data);
