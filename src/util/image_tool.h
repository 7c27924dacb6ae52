/* qemu-img, which does all that is done to image files by a program. */
#pragma once
#include "util/error.h"

/* Runs it with these arguments (NULL-terminated); what it complains of is the error. */
gboolean image_tool (const char *const *args, char **ret_output, GError **error);
/* The same with a secret that images are opened or made with: it is the object IMAGE_TOOL_SECRET,
 * which the arguments name. It is handed over in a file without a name. */
#define IMAGE_TOOL_SECRET "bak-secret"
gboolean image_tool_secret (const char *const *args, const char *secret, char **ret_output,
                            GError **error);
/* The same with an open file, which the arguments name IMAGE_TOOL_FILE: that one and no other,
 * whatever lies at its name by then. */
#define IMAGE_TOOL_FILE "/proc/self/fd/3"
gboolean image_tool_file (const char *const *args, int fd, char **ret_output, GError **error);
