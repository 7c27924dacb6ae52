/* Documents and what becomes of them: the parser and the schemas are both held to these rows. */
#pragma once
#include <glib.h>

typedef struct {
    const char *name; /* what the row says */
    const char *xml;
    const char *error; /* part of the message; NULL: accepted */
} Row;

extern const Row backup_rows[], checkpoint_rows[];
extern const guint n_backup_rows, n_checkpoint_rows;
