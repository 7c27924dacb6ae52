/* The formats that a target may have: what each of them takes and what it can hold. One row a
 * format; the planner, the document and the shell read it. Pure. */
#pragma once
#include <glib.h>

/* What <driver> may say of a format beside its name. */
typedef enum {
    FORMAT_CLUSTER_SIZE = 1,
    FORMAT_COMPRESSION = 2,
    FORMAT_COMPAT = 4,
    FORMAT_EXTENDED_L2 = 8,
    FORMAT_PREALLOCATION = 16,
    FORMAT_SUBFORMAT = 32,
} FormatOption;

typedef struct {
    const char *name;              /* QEMU's */
    guint options;                 /* FormatOption */
    const char *const *subformats; /* the first is what QEMU makes by itself; NULL: it has none */
    guint64 cluster;               /* bytes; 0: see format_def_cluster() */
    guint64 max;                   /* bytes that QEMU lets it hold; 0: depends, or no limit */
    gboolean sparse;               /* zeroes that are written take no space */
    gboolean proves_flush;         /* QEMU can reopen it, which shows that its flush went well */
    gboolean loses_parts;          /* two writes to one part at once: one of them is lost */
    gboolean tells_changes;        /* what an increment does not hold is told from what it does */
    const char *refused;           /* why it cannot be written; NULL: it can. To be translated */
} FormatDef;

const FormatDef *format_def_find (const char *name); /* NULL: unknown */
/* The names of those that can be written, as "raw, qcow2, …". Caller frees. */
char *format_def_names (void);
/* How many bytes a disk may have for this format as it is to be made; 0: no limit that is known. */
guint64 format_def_max (const FormatDef *format, guint64 cluster_size, gboolean extended_l2);
/* The parts in which an image takes what is written to it, as QEMU makes it: a copy into it goes by
 * them. 0: of any size. */
guint64 format_def_cluster (const FormatDef *format, guint64 size, guint64 cluster_size);
/* The name of an option, as <driver> spells it. */
const char *format_option_to_string (FormatOption option);

extern const char *const words_compat[], *const words_preallocation[], *const words_subformat[];
