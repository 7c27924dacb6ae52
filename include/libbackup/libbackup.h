/* libbackup: live point-in-time backups of QEMU guests.
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * This header includes all others. What holds everywhere:
 *
 * Errors. A function that can fail takes `BakError **error` last; NULL is allowed there. It returns
 * -1 or NULL on failure and then, and only then, sets *error; free it with bak_error_unref(). The
 * code says what a caller can do about it, the text names the object and the root cause.
 *
 * Ownership. Handles are reference-counted: bak_noun_ref(), bak_noun_unref(); unref accepts NULL. A
 * `char *` that is returned is the caller's and is freed with bak_free(); a `const char *` belongs
 * to the handle it came from and lives as long as that. An array of handles is NULL-terminated:
 * unref each handle, then bak_free() the array.
 *
 * Threads. Any function may be called from any thread, also on the same handle at the same time.
 *
 * Units. Sizes are bytes. Times are microseconds; points in time are microseconds since 1970-01-01
 * 00:00 UTC, 0 for "not yet". Where a call has the form of a libvirt call it has libvirt's units,
 * and says so.
 *
 * Text. Strings are UTF-8. Names and messages may come from a guest or from QEMU: escape control
 * characters before showing them on a terminal. */
#ifndef LIBBACKUP_H
#define LIBBACKUP_H

#include <libbackup/error.h>
#include <libbackup/connection.h>
#include <libbackup/domain.h>
#include <libbackup/backup.h>
#include <libbackup/checkpoint.h>
#include <libbackup/event.h>
#include <libbackup/repository.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BAK_VERSION_NUMBER:
 *
 * The version of the headers: major * 1000000 + minor * 1000 + micro.
 *
 * Since: 0.1
 */
#define BAK_VERSION_NUMBER 1000

/**
 * BAK_VERSION_STRING:
 *
 * The version of the headers as text.
 *
 * Since: 0.1
 */
#define BAK_VERSION_STRING "0.1.0"

/**
 * bak_version_number:
 *
 * The version of the library that the program runs with, which may be newer than its headers.
 *
 * Returns: major * 1000000 + minor * 1000 + micro; never fails
 *
 * Since: 0.1
 */
unsigned long bak_version_number (void);

/**
 * bak_version_string:
 *
 * The version of the library that the program runs with, as text.
 *
 * Returns: a constant string, as "0.1.0"; never fails
 *
 * Since: 0.1
 */
const char *bak_version_string (void);

/**
 * bak_configuration_read:
 * @path: a file
 * @error: where an error goes, or NULL
 *
 * Reads a file of the form that all configuration of libbackup has: `key = value` lines, the value
 * perhaps in double quotes, and # comments. What the keys mean is the caller's affair.
 *
 * Returns: a JSON document, bak_free() it: an object with an array "pairs" of objects with "line"
 *   (from 1), "key" and "value", in the order of the file; NULL on failure:
 *   BAK_ERROR_INVALID_ARGUMENT names file and line, BAK_ERROR_ACCESS_DENIED, BAK_ERROR_IO
 *
 * Since: 0.1
 */
char *bak_configuration_read (const char *path, BakError **error);

/**
 * bak_configuration_state_dir:
 *
 * Where this user's connections keep their records, so that a program that adds to what libbackup
 * does may keep its own beside them: LIBBACKUP_STATE_DIR of the environment, else `state_dir` of
 * the configuration, else the default, which is that of qemu:///system for root and that of
 * qemu:///session for others. It need not be there yet.
 *
 * Returns: an absolute path, bak_free() it; never fails
 *
 * Since: 0.1
 */
char *bak_configuration_state_dir (void);

/**
 * bak_free:
 * @memory: what a function of this library returned as `char *`, or an array of handles; NULL is
 * accepted
 *
 * Frees memory that belongs to the caller. It does not drop the references that an array holds.
 *
 * Since: 0.1
 */
void bak_free (void *memory);

#ifdef __cplusplus
}
#endif
#endif
