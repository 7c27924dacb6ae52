/* One connection that carries packets: bytes in through a splitter, packets out through a queue.
 * Server and client are both built on it. It belongs to one GMainContext, on which its callbacks
 * run; link_send() may be called from any thread. */
#pragma once
#include <gio/gio.h>
#include "remote/frame.h"

typedef struct _Link Link;

typedef struct {
    /* One whole packet; payload is borrowed. May call link_close(), link_pause(). */
    void (*packet) (Link *link, const FrameHeader *header, const guint8 *payload, gsize length,
                    gpointer data);
    /* Once, last of all callbacks, after EOF, an error or link_close(); error NULL: orderly end. */
    void (*closed) (Link *link, const GError *error, gpointer data);
    /* So many bytes wait for the rest of their packet; may be NULL, may call link_close(). */
    void (*keeps) (Link *link, gsize bytes, gpointer data);
    /* The queue has become empty; may be NULL. */
    void (*drained) (Link *link, gpointer data);
} LinkFuncs;

/* Takes the descriptors (which may be the same). */
Link *link_new_fds (int in_fd, int out_fd, GMainContext *context, const LinkFuncs *funcs);
/* stream: its streams are pollable (TLS). */
Link *link_new_stream (GIOStream *stream, GMainContext *context, const LinkFuncs *funcs);
Link *link_ref (Link *link);
void link_unref (Link *link); /* NULL is accepted */

/* data: for the callbacks. */
void link_start (Link *link, guint32 max_packet, gpointer data);
void link_set_max_packet (Link *link, guint32 max_packet);
/* Takes packet (whole, with its header). FALSE: the link is closed already. */
gboolean link_send (Link *link, GByteArray *packet);
/* The same, with duplicates of descriptors, a byte for each. Only on a unix socket. */
gboolean link_send_fds (Link *link, GByteArray *packet, const int *fds, guint n_fds);
/* For a handler of packets: the descriptors that came with this one, now the caller's; at most
 * FRAME_FDS_MAX. How many there were. Those that are left are closed. */
guint link_take_fds (Link *link, int *ret_fds);
/* Before link_start(): takes descriptors, which are dropped otherwise. */
void link_accept_fds (Link *link);
/* Stops or resumes reading: bytes stay with the peer. */
void link_pause (Link *link, gboolean pause);
/* Closes when everything queued is out. */
void link_finish (Link *link);
void link_close (Link *link, const GError *error);

gsize link_queued (Link *link);       /* bytes not taken by the kernel yet */
gsize link_half (Link *link);         /* bytes of a packet that is not whole yet */
gint64 link_half_since (Link *link);  /* monotonic: since when it is awaited; 0: there is none */
gint64 link_last_input (Link *link);  /* monotonic time of the last bytes that came */
gint64 link_last_output (Link *link); /* of the last bytes that went */
int link_fd (Link *link);             /* -1 for a stream */
gboolean link_is_closed (Link *link);
