#include <string.h>
#include "remote/frame.h"

static void put32 (guint8 *bytes, guint32 value)
{
    value = GUINT32_TO_BE (value);
    memcpy (bytes, &value, 4);
}

static guint32 get32 (const guint8 *bytes)
{
    guint32 value;
    memcpy (&value, bytes, 4);
    return GUINT32_FROM_BE (value);
}

void frame_pack (const FrameHeader *header, gsize payload, guint8 *ret_bytes)
{
    const guint32 words[] = { FRAME_HEADER_SIZE + payload,
                              header->program,
                              header->version,
                              header->procedure,
                              header->type,
                              header->serial,
                              header->status };
    for (guint i = 0; i < G_N_ELEMENTS (words); i++)
        put32 (ret_bytes + 4 * i, words[i]);
}

void frame_unpack (const guint8 *bytes, FrameHeader *ret_header)
{
    *ret_header = (FrameHeader){
        .program = get32 (bytes + 4),
        .version = get32 (bytes + 8),
        .procedure = get32 (bytes + 12),
        .type = get32 (bytes + 16),
        .serial = get32 (bytes + 20),
        .status = get32 (bytes + 24),
    };
}

guint32 frame_count_fds (const FrameHeader *header, const guint8 *payload, gsize length)
{
    if (header->type != FRAME_CALL_FDS && header->type != FRAME_REPLY_FDS)
        return 0;
    return length >= 4 ? get32 (payload) : G_MAXUINT32;
}

void frame_pack_count (guint32 n_fds, guint8 *ret_bytes)
{
    put32 (ret_bytes, n_fds);
}

void splitter_init (Splitter *splitter, guint32 max)
{
    *splitter = (Splitter){ .max = max };
}

void splitter_clear (Splitter *splitter)
{
    g_clear_pointer (&splitter->data, g_byte_array_unref);
    splitter->start = 0;
}

gsize splitter_pending (const Splitter *splitter)
{
    return splitter->data ? splitter->data->len - splitter->start : 0;
}

void splitter_feed (Splitter *splitter, const guint8 *bytes, gsize length)
{
    if (!splitter->data)
        splitter->data = g_byte_array_new ();
    if (splitter->start > 0) {
        g_byte_array_remove_range (splitter->data, 0, splitter->start);
        splitter->start = 0;
    }
    g_byte_array_append (splitter->data, bytes, length);
}

SplitResult splitter_next (Splitter *splitter, FrameHeader *ret_header, const guint8 **ret_payload,
                           gsize *ret_length)
{
    gsize pending = splitter_pending (splitter);
    if (pending == 0) {
        splitter_clear (splitter);
        return SPLIT_MORE;
    }
    if (pending < 4)
        return SPLIT_MORE;
    const guint8 *bytes = splitter->data->data + splitter->start;
    guint32 length = get32 (bytes);
    if (length < FRAME_HEADER_SIZE || length > splitter->max)
        return SPLIT_BAD;
    if (pending < length)
        return SPLIT_MORE;
    frame_unpack (bytes, ret_header);
    guint32 n_fds =
        frame_count_fds (ret_header, bytes + FRAME_HEADER_SIZE, length - FRAME_HEADER_SIZE);
    if (n_fds > FRAME_FDS_MAX)
        return SPLIT_BAD;
    if (pending < length + n_fds)
        return SPLIT_MORE;
    *ret_payload = bytes + FRAME_HEADER_SIZE;
    *ret_length = length - FRAME_HEADER_SIZE;
    splitter->start += length + n_fds;
    return SPLIT_PACKET;
}
