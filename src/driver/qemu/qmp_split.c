#include "driver/qemu/qmp.h"
#include "driver/qemu/qmp_split.h"

G_STATIC_ASSERT (QMP_MAX_DEPTH <= 64);

/* What json-glib spends on a parsed byte or token, rounded up; measured by the memory test. */
enum { COST_BYTE = 3, COST_OBJECT = 512, COST_ARRAY = 160, COST_VALUE = 96, COST_MEMBER = 128 };

static gboolean is_space (guint8 c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static QmpSplitResult split_open (QmpSplit *split, gboolean object)
{
    if (split->depth == QMP_MAX_DEPTH)
        return QMP_SPLIT_TOO_DEEP;
    split->kinds = split->kinds << 1 | (object ? 1 : 0);
    split->depth++;
    split->cost += object ? COST_OBJECT : COST_ARRAY;
    return QMP_SPLIT_MORE;
}

static QmpSplitResult split_close (QmpSplit *split, gboolean object)
{
    if ((split->kinds & 1) != (object ? 1 : 0))
        return QMP_SPLIT_GARBAGE;
    split->kinds >>= 1;
    return --split->depth == 0 ? QMP_SPLIT_OBJECT : QMP_SPLIT_MORE;
}

static void split_string_byte (QmpSplit *split, guint8 c)
{
    if (split->escaped)
        split->escaped = FALSE;
    else if (c == '\\')
        split->escaped = TRUE;
    else if (c == '"')
        split->in_string = FALSE;
}

static QmpSplitResult split_byte (QmpSplit *split, guint8 c)
{
    switch (c) {
    case '{': return split_open (split, TRUE);
    case '[': return split_open (split, FALSE);
    case '}': return split_close (split, TRUE);
    case ']': return split_close (split, FALSE);
    case '"': split->in_string = TRUE; break;
    case ',': split->cost += COST_VALUE; break;
    case ':': split->cost += COST_MEMBER; break;
    default:
        /* Comments would hide brackets from us that the parser does not see, or the other way
         * round. */
        if (c >= 0x7f || c == '/' || c == '\'' || (c < ' ' && !is_space (c)))
            return QMP_SPLIT_GARBAGE;
    }
    return QMP_SPLIT_MORE;
}

QmpSplitResult qmp_split_feed (QmpSplit *split, const guint8 *bytes, gsize length, gsize *ret_start,
                               gsize *ret_end)
{
    gsize i = 0;
    if (split->depth == 0)
        while (i < length && is_space (bytes[i]))
            i++;
    *ret_start = i;
    QmpSplitResult result = QMP_SPLIT_MORE;
    if (split->depth == 0 && i < length && bytes[i] != '{')
        result = QMP_SPLIT_GARBAGE;
    while (i < length && result == QMP_SPLIT_MORE) {
        guint8 c = bytes[i++];
        split->length++;
        split->cost += COST_BYTE;
        if (split->in_string)
            split_string_byte (split, c);
        else
            result = split_byte (split, c);
        if (split->length > QMP_SPLIT_MAX_LENGTH || split->cost > QMP_SPLIT_MAX_COST)
            result = QMP_SPLIT_TOO_LONG;
    }
    *ret_end = i;
    if (result == QMP_SPLIT_OBJECT)
        *split = (QmpSplit){ .last_cost = split->cost };
    return result;
}
