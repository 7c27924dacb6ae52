/* Packets as libvirt's remote protocol frames them: a length word (that counts itself), six header
 * words, payload; all big-endian. Pure: bytes in, bytes out, no sockets. */
#pragma once
#include <glib.h>

enum { FRAME_HEADER_SIZE = 28 }; /* length word and header: the smallest packet */
enum { FRAME_MAX = 33554436 };   /* libvirt's own limit for the length word */
enum {
    FRAME_CALL = 0,
    FRAME_REPLY = 1,
    FRAME_MESSAGE = 2,
    FRAME_STREAM = 3,
    FRAME_CALL_FDS = 4,
    FRAME_REPLY_FDS = 5
};
/* A call with descriptors has their count before its payload, and behind it a byte for each, which
 * bears it. More than this are nobody's. */
enum { FRAME_FDS_MAX = 16 };
enum { FRAME_OK = 0, FRAME_ERROR = 1, FRAME_CONTINUE = 2 };

#define PROGRAM_LIBVIRT 0x20008086u
#define PROGRAM_BACKUP 0x6261636bu    /* "back" */
#define PROGRAM_KEEPALIVE 0x6b656570u /* "keep" */
enum { KEEPALIVE_PING = 1, KEEPALIVE_PONG = 2 };
enum { BACKUP_EVENT = 200 }; /* message of PROGRAM_BACKUP that carries a bak_event_msg */

typedef struct {
    guint32 program, version;
    gint32 procedure;
    guint32 type, serial, status;
} FrameHeader;

/* Writes length word and header of a packet with this much payload. */
void frame_pack (const FrameHeader *header, gsize payload, guint8 *ret_bytes);
/* bytes: FRAME_HEADER_SIZE of them; the length word is not looked at. */
void frame_unpack (const guint8 *bytes, FrameHeader *ret_header);

/* How many descriptors come with that packet; G_MAXUINT32: it has no room for their count. */
guint32 frame_count_fds (const FrameHeader *header, const guint8 *payload, gsize length);
void frame_pack_count (guint32 n_fds, guint8 *ret_bytes); /* 4 bytes */

/* Cuts a stream of bytes into packets. Holds no memory while it is between two packets. */
typedef struct {
    GByteArray *data;
    gsize start; /* what lies before it is consumed */
    guint32 max; /* largest acceptable length word */
} Splitter;

typedef enum {
    SPLIT_MORE,
    SPLIT_PACKET,
    SPLIT_BAD /* a length that nobody means: the stream is lost */
} SplitResult;

void splitter_init (Splitter *splitter, guint32 max);
void splitter_clear (Splitter *splitter);
void splitter_feed (Splitter *splitter, const guint8 *bytes, gsize length);
/* The next packet; payload points into the splitter and is valid until the next call. */
SplitResult splitter_next (Splitter *splitter, FrameHeader *ret_header, const guint8 **ret_payload,
                           gsize *ret_length);
/* Bytes that wait for the rest of their packet. */
gsize splitter_pending (const Splitter *splitter);
