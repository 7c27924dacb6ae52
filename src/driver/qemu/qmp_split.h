/* Cuts the bytes of a monitor into JSON objects. A pure state machine over bytes: no memory, no
 * I/O.
 *
 * It also is the gate of what may cost memory: a value that is too long, too deep, or that would be
 * too large once parsed is refused while it arrives, before anything has been built from it. */
#pragma once
#include <glib.h>

enum {
    QMP_SPLIT_MAX_LENGTH = 16 * 1024 * 1024,
    QMP_SPLIT_MAX_COST = 36 * 1024 * 1024, /* estimated bytes of text and tree together */
};

typedef enum {
    QMP_SPLIT_MORE,    /* all bytes used, the object goes on (or none has begun) */
    QMP_SPLIT_OBJECT,  /* one object ends at *ret_end */
    QMP_SPLIT_GARBAGE, /* cannot be an object */
    QMP_SPLIT_TOO_LONG,
    QMP_SPLIT_TOO_DEEP,
} QmpSplitResult;

/* All zero: between two objects. After anything but MORE and OBJECT it must not be used again. */
typedef struct {
    guint64 kinds; /* one bit a level: 1 is an object */
    guint depth;
    gboolean in_string, escaped;
    gsize length, cost;
    gsize last_cost; /* of the object that ended last: about what it takes in memory */
} QmpSplit;

/* The bytes [*ret_start, *ret_end) belong to the present object; the rest of the input has not been
 * looked at. */
QmpSplitResult qmp_split_feed (QmpSplit *split, const guint8 *bytes, gsize length, gsize *ret_start,
                               gsize *ret_end);
