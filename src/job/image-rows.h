/* A backing chain as a document: an object an image, from the top down. Keys are the same whatever
 * an image is; what does not apply is null. What comes in is QEMU's ImageInfo, be it qemu-img's or
 * a monitor's, and is not trusted. Pure but for image_rows(). */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

/* info: ImageInfo. driver, file: of the node, where there is one; NULL: by the info's own. The
 * bitmaps are those that are stored in it; a monitor knows better: image_row_set_bitmaps(). */
JsonObject *image_row (JsonObject *info, const char *driver, const char *node, const char *file);
/* bitmaps: BlockDirtyInfo of a monitor; NULL: none. */
void image_row_set_bitmaps (JsonObject *row, JsonArray *bitmaps);
/* The image that was opened below it; NULL: none was. */
void image_row_set_opened (JsonObject *row, const char *file);
/* Of an image that nobody has to have open, by `qemu-img info`. */
JsonArray *image_rows (const char *file, const char *format, GError **error);
/* {"disk","live","images"}; takes rows. live: they are a monitor's. Caller frees. */
char *image_rows_document (const char *disk, gboolean live, JsonArray *rows, GError **error);
