/* The formats of an export: each is told of the disks in order, and of their bytes in address
 * order, all of them proved. */
#pragma once
#include "exchange/output.h"
#include "repository/reading.h"

typedef struct {
    Point *point;
    GPtrArray *targets; /* const char *, NULL-terminated: the disks that are meant */
    Output *output;
    const char *path;    /* of the file; NULL: there is none */
    guint number;        /* of the disk that is read, from 0 */
    const Reading *disk; /* that is read; NULL: between them */
    gpointer state;      /* the format's */
} Export;

typedef struct {
    const char *name;
    gboolean one_disk; /* it has no room for more */
    /* Any of them may be NULL. */
    gboolean (*begin) (Export *export, GError **error);
    gboolean (*begin_disk) (Export *export, GError **error);
    gboolean (*chunk) (Export *export, const MoverChunk *chunk, GError **error);
    gboolean (*end_disk) (Export *export, GError **error);
    /* The last of the output; when it is durable: what stands beside it. */
    gboolean (*end) (Export *export, GError **error);
    gboolean (*beside) (Export *export, GError **error);
    void (*free) (Export *export);
} ExportFormat;

extern const ExportFormat export_vma, export_tar, export_raw;
