/* libbackup: errors.
 * SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBBACKUP_ERROR_H
#define LIBBACKUP_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakErrorCode:
 *
 * What a caller can act on. The text of an error names the object and the root
 * cause; the code says which kind of reaction makes sense.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_ERROR_NONE = 0,
    BAK_ERROR_INVALID_ARGUMENT = 1, /* an argument, an option or a flag is wrong */
    BAK_ERROR_XML = 2,              /* a document is not well-formed or not valid */
    BAK_ERROR_NO_DOMAIN = 3,        /* no such guest */
    BAK_ERROR_NO_DISK = 4,          /* no such disk, or not one that can be backed up */
    BAK_ERROR_NO_CHECKPOINT = 5,    /* no such checkpoint */
    BAK_ERROR_NO_JOB = 6,           /* no such backup job */
    BAK_ERROR_EXISTS = 7,           /* the thing to be made is there already */
    BAK_ERROR_BUSY = 8,             /* another job runs on this guest */
    /* this QEMU, driver or build cannot do it; the text names the feature */
    BAK_ERROR_NOT_SUPPORTED = 9,
    BAK_ERROR_MONITOR = 10, /* QEMU refused a command: class and text verbatim */
    BAK_ERROR_TIMEOUT = 11, /* a deadline passed */
    /* no connection to the daemon, the monitor or the agent, or it broke */
    BAK_ERROR_CONNECTION = 12,
    BAK_ERROR_ACCESS_DENIED = 13, /* read-only connection, policy or file permissions */
    BAK_ERROR_IO = 14,            /* reading or writing failed */
    BAK_ERROR_NO_SPACE = 15,      /* a file system or device is full */
    /* exactness cannot be shown: broken bitmap, gap in a chain, damaged data */
    BAK_ERROR_INEXACT = 16,
    BAK_ERROR_AGENT = 17,        /* the guest agent refused or failed */
    BAK_ERROR_ABORTED = 18,      /* the job was aborted or cancelled */
    BAK_ERROR_INTERNAL = 19,     /* a defect of libbackup */
    BAK_ERROR_MONITOR_HELD = 20, /* busy: another client holds the guest's monitor */
    BAK_ERROR_NO_POINT = 21,     /* no such repository or restore point */
} BakErrorCode;

/**
 * BakError:
 *
 * Why a call failed. Reference-counted and never changed once made, so that it may be handed to
 * another thread.
 *
 * Since: 0.1
 */
typedef struct BakError BakError;

/**
 * bak_error_ref:
 * @error: an error
 *
 * Takes a reference.
 *
 * Returns: @error
 *
 * Since: 0.1
 */
BakError *bak_error_ref (BakError *error);

/**
 * bak_error_unref:
 * @error: an error, or NULL
 *
 * Drops a reference; the last one frees the error and its text.
 *
 * Since: 0.1
 */
void bak_error_unref (BakError *error);

/**
 * bak_error_get_code:
 * @error: an error, or NULL
 *
 * What a program can act on.
 *
 * Returns: the code; BAK_ERROR_NONE for NULL
 *
 * Since: 0.1
 */
BakErrorCode bak_error_get_code (const BakError *error);

/**
 * bak_error_get_message:
 * @error: an error, or NULL
 *
 * What a person can act on, in the language of the process: names the object and the root cause.
 *
 * Returns: one line of UTF-8 without a final newline, owned by @error; "" for NULL
 *
 * Since: 0.1
 */
const char *bak_error_get_message (const BakError *error);

/**
 * bak_error_code_to_string:
 * @code: a code
 *
 * The stable name of a code, for logs and JSON.
 *
 * Returns: a constant string, as "no-space"; "unknown" for a value that this library does not know
 *
 * Since: 0.1
 */
const char *bak_error_code_to_string (BakErrorCode code);

#ifdef __cplusplus
}
#endif
#endif
