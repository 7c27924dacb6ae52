/* Errors inside the library are GErrors of one domain whose codes are the public
 * ones; the public functions convert them once, at the edge. */
#pragma once
#include <glib.h>
#include <libbackup/error.h>

#define BAK_ERROR (bak_internal_error_quark ())
GQuark bak_internal_error_quark (void);

/* Sets *error; returns FALSE so that `return error_set (...)` reads well. */
gboolean error_set (GError **error, BakErrorCode code, const char *format, ...)
    G_GNUC_PRINTF (3, 4);

/* Prefixes *error with the object ("disk 'vda': ..."), keeps its code; returns FALSE. */
gboolean error_note (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* Sets *error from errno: ENOSPC/EDQUOT give NO_SPACE, EACCES/EPERM/EROFS ACCESS_DENIED,
 * EEXIST EXISTS, others IO; appends ": strerror". Returns FALSE. */
gboolean error_set_errno (GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* The public code of any GError (of G_IO_ERROR and friends too). */
BakErrorCode error_code (const GError *error);

/* The code that an errno-like text from QEMU ("No space left on device") stands for. */
BakErrorCode error_code_from_text (const char *text);

/* A copy of text in which everything that is not printable UTF-8 is escaped as \xNN and
 * that is at most max bytes long (0: 4096). For every string that came from outside. */
char *text_sanitize (const char *text, gsize max);
