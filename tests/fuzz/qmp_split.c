/* The bytes of a monitor. How they are cut into reads makes no difference, and nothing runs past
 * them. */
#include "driver/qemu/qmp_split.h"
#include "fuzz.h"
#include "util/json.h"

/* Sum of what a splitting gives: ends of objects and how it ended. */
static guint64 split_all (const guint8 *bytes, gsize length, gsize step, QmpSplitResult *ret_last)
{
    QmpSplit split = { 0 };
    guint64 sum = 5381;

    *ret_last = QMP_SPLIT_MORE;
    for (gsize at = 0; at < length;) {
        gsize n = MIN (step, length - at), start = 0, end = 0;
        *ret_last = qmp_split_feed (&split, bytes + at, n, &start, &end);
        if (*ret_last == QMP_SPLIT_MORE) {
            at += n;
            continue;
        }
        if (*ret_last != QMP_SPLIT_OBJECT)
            break;
        MUST (start <= end && end <= n && end > 0);
        at += end;
        sum = sum * 33 + at;
    }
    return sum;
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    static const gsize steps[] = { 1, 2, 7, 4096 };
    QmpSplitResult whole, part;
    guint64 sum = split_all (bytes, length, MAX (length, 1), &whole);

    for (guint i = 0; i < G_N_ELEMENTS (steps); i++) {
        MUST (split_all (bytes, length, steps[i], &part) == sum);
        MUST (part == whole);
    }
}
