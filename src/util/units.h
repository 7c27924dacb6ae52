/* Sizes as people write them. */
#pragma once
#include <glib.h>

/* "4096", "64K", "64KiB", "32Kib": whole numbers with an optional unit, in any case and after at
 * most one blank. As in libvirt, B is bytes, K M G T P E and KiB ... EiB are powers of 1024, KB ...
 * EB powers of 1000. FALSE when text is no such size or does not fit; *ret_bytes is then untouched.
 */
gboolean units_parse_size (const char *text, guint64 *ret_bytes);
/* Decimal digits only, within min and max. */
gboolean units_parse_uint (const char *text, guint64 min, guint64 max, guint64 *ret_value);
