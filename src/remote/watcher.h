/* A watcher: libbackupd run for one guest, with a private socket in the guest's folder. It owns the
 * guest from begin to end. */
#pragma once
#include "util/error.h"

/* Starts one and waits (at most 10 s) until it may be connected. BAK_ERROR_BUSY: one is there
 * already. uri: of the guest's connection, whose own state_dir is; NULL: qemu:///. */
gboolean watcher_spawn (const char *state_dir, const char *guest, const char *uri, GError **error);
/* STATE/guests/GUEST/watcher.sock. Caller frees. Connecting to it fails with BAK_ERROR_CONNECTION
 * when no watcher runs, also when one was just leaving (its socket accepts, then ends before hello
 * is answered): look again then. */
char *watcher_socket (const char *state_dir, const char *guest);
/* The URI that opens the remote driver on it. Caller frees. */
char *watcher_uri (const char *state_dir, const char *guest);
/* Path of the libbackupd that would be started: LIBBACKUPD, configuration, SBIN_DIR, beside the
 * running program. */
char *watcher_program (void);
