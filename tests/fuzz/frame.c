/* The stream of a peer. How it is cut into reads makes no difference, and no packet is larger than
 * what may come. */
#include "fuzz.h"
#include "remote/frame.h"

enum { MAX = 1 << 16 };

static guint64 split_all (const guint8 *bytes, gsize length, gsize step, SplitResult *ret_last)
{
    Splitter splitter;
    guint64 sum = 5381;

    splitter_init (&splitter, MAX);
    *ret_last = SPLIT_MORE;
    for (gsize at = 0; at < length && *ret_last != SPLIT_BAD; at += step) {
        splitter_feed (&splitter, bytes + at, MIN (step, length - at));
        FrameHeader header;
        const guint8 *payload;
        gsize size;
        while ((*ret_last = splitter_next (&splitter, &header, &payload, &size)) == SPLIT_PACKET) {
            MUST (size + FRAME_HEADER_SIZE <= MAX);
            sum = sum * 33 + header.program;
            for (gsize i = 0; i < size; i++)
                sum = sum * 33 + payload[i];
        }
        MUST (splitter_pending (&splitter) <= length);
    }
    splitter_clear (&splitter);
    return sum;
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    static const gsize steps[] = { 1, 3, 29, 4096 };
    SplitResult whole, part;
    guint64 sum = split_all (bytes, length, MAX (length, 1), &whole);

    for (guint i = 0; i < G_N_ELEMENTS (steps); i++) {
        MUST (split_all (bytes, length, steps[i], &part) == sum);
        MUST (part == whole);
    }
}
