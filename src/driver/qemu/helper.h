/* A storage daemon of ours between the guest's QEMU and a target that QEMU should not open itself:
 * on a server that may hang, or behind a pass phrase. It opens the image and serves it over NBD on
 * a local socket, where a relay can cut it off; its death, its hang and its slow close are the
 * backup's trouble. It is nobody's child and is found again by its monitor's socket, so whoever
 * recovers the job can end it.
 *
 * A command is an object {"execute","arguments"} and may have
 *   "job":ID      it starts this job, which is waited for and dismissed
 *   "secret":FILE the file's content becomes the data of the secret object that it makes
 *   "text":true   that content is base64 already
 *   "absent":true it opens what must not be there: success is a failure
 *   "link":"note" or "same": no command; the connections to the server are looked at
 *                 (helper-link.h)
 *   "opens":true  it opens the file of the place, which is compared with what was seen there
 *   "timeout":MS */
#pragma once
#include <sys/stat.h>
#include <json-glib/json-glib.h>
#include "util/error.h"

/* Starts it and has it perform the commands; nothing of it is left when that fails. agent: socket
 * of an ssh agent; NULL. place: for messages. seen: what lay there; NULL. */
gboolean helper_start (const char *monitor, JsonArray *commands, const char *agent,
                       const char *place, const struct stat *seen, GError **error);
/* What can be said beforehand, without starting anything: whether the secrets can be read. */
gboolean helper_look (JsonArray *commands, GError **error);
/* Performs the commands, has it end and waits until it is gone: what it said last counts. */
gboolean helper_finish (const char *monitor, JsonArray *commands, const char *place,
                        GError **error);
/* Ends it, if it is there, whatever it does, and removes its sockets. */
void helper_kill (const char *monitor);
/* Of a file that its owner alone can read, he being root or whoever asks. Caller frees; length may
 * be NULL. The content is not to be shown, written or logged. */
char *helper_read_secret (const char *path, gsize *ret_length, GError **error);
/* Why this host's storage daemon has no driver for such a node, by trying one that cannot be
 * opened; NULL: it has. Caller frees. */
char *helper_cannot (const char *node);
/* The socket beside the monitor's on which it serves. Caller frees. */
char *helper_server (const char *monitor);
