#pragma once
#include <glib.h>

/* [a-zA-Z0-9_-][a-zA-Z0-9_.-]*, at most 200 bytes, not beginning with "bak-": it becomes a file
 * name and a bitmap's name, and what begins with bak- in a QEMU is ours to remove. BAK_ERROR_XML.
 */
gboolean checkpoint_name_check (const char *name, GError **error);
