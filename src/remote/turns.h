/* Whose turn it is: calls wait here for a worker, so that whoever asks much, or asks a guest that
 * hangs, is the one who waits. Pure bookkeeping on one thread; time is given.
 *
 * A call starts when a worker is free for it, when its guest has fewer than per_guest calls at
 * work, and when its user has fewer than his share. Users take turns; the calls of one user keep
 * their order but for those whose guest is full. A call that has run for TURN_STUCK_SECONDS is
 * stuck: it waits for something outside, and takes no share and no worker from others any more (up
 * to STUCK_FACTOR times as many workers); its guest gets no more of them. */
#pragma once
#include <glib.h>

enum { TURN_STUCK_SECONDS = 1, STUCK_FACTOR = 4 };

typedef struct _Turns Turns;
typedef struct _User User;

/* Embedded in what waits. */
typedef struct {
    User *user;
    const char *guest; /* borrowed while it waits or runs; NULL: about no guest */
    gpointer data;
    gint64 started; /* monotonic; 0: it waits */
    GList link;
} Turn;

/* share: workers that one user may have, of those that are not stuck; trusted: of root and the
 * like. */
typedef struct {
    guint workers, per_guest, share, trusted_share;
} TurnLimits;

Turns *turns_new (const TurnLimits *limits);
void turns_free (Turns *turns); /* nothing waits or runs any more */
/* The user of this name; made when new. Unref when the last use is over. */
User *turns_user (Turns *turns, const char *key, gboolean trusted);
void turns_user_unref (Turns *turns, User *user);
void turns_add (Turns *turns, Turn *turn);
/* The next that may start, marked as running from now on; NULL. */
Turn *turns_next (Turns *turns, gint64 now);
void turns_done (Turns *turns, Turn *turn);
/* Waiting for a turn. */
guint turns_waiting (const Turns *turns);
/* When one that runs becomes stuck, so that others may have their turn; 0: none will. */
gint64 turns_look_again (const Turns *turns, gint64 now);

/* Bytes of this user, and of all, that are held for packets and calls that are not done. */
void user_charge (Turns *turns, User *user, gssize bytes);
gsize user_bytes (const User *user);
gsize turns_bytes (const Turns *turns);
/* The user with the most; NULL: nobody has any. */
User *turns_largest_user (const Turns *turns);
/* Connections of this user, and how many of them are not open yet. */
typedef struct {
    guint peers, anonymous;
} UserPeers;
UserPeers *user_peers (User *user);
