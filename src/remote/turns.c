#include "remote/turns.h"

enum { USER_STUCK_FACTOR = 2 };

struct _User {
    char *key;
    gboolean trusted;
    guint refs, running;
    GQueue waiting; /* Turn* */
    GList link;     /* in the round of those who wait */
    gsize bytes;
    UserPeers peers;
};

struct _Turns {
    TurnLimits limits;
    GHashTable *users; /* key -> User* */
    GQueue round;      /* User* that have calls waiting; the first is next */
    GQueue running;    /* Turn*, oldest first */
    guint waiting;
    gsize bytes;
};

Turns *turns_new (const TurnLimits *limits)
{
    Turns *turns = g_new0 (Turns, 1);
    turns->limits = *limits;
    turns->users = g_hash_table_new (g_str_hash, g_str_equal);
    g_queue_init (&turns->round);
    g_queue_init (&turns->running);
    return turns;
}

void turns_free (Turns *turns)
{
    if (!turns)
        return;
    g_hash_table_unref (turns->users);
    g_free (turns);
}

User *turns_user (Turns *turns, const char *key, gboolean trusted)
{
    User *user = g_hash_table_lookup (turns->users, key);
    if (!user) {
        user = g_new0 (User, 1);
        user->key = g_strdup (key);
        user->trusted = trusted;
        user->link.data = user;
        g_queue_init (&user->waiting);
        g_hash_table_insert (turns->users, user->key, user);
    }
    user->refs++;
    return user;
}

void turns_user_unref (Turns *turns, User *user)
{
    if (!user || --user->refs > 0)
        return;
    g_hash_table_remove (turns->users, user->key);
    g_free (user->key);
    g_free (user);
}

void turns_add (Turns *turns, Turn *turn)
{
    User *user = turn->user;
    turn->started = 0;
    turn->link = (GList){ .data = turn };
    user->refs++;
    turns->waiting++;
    if (user->waiting.length == 0)
        g_queue_push_tail_link (&turns->round, &user->link);
    g_queue_push_tail_link (&user->waiting, &turn->link);
}

static gboolean is_stuck (const Turn *turn, gint64 now)
{
    return now - turn->started >= TURN_STUCK_SECONDS * G_USEC_PER_SEC;
}

typedef struct {
    guint running, stuck; /* of all */
    guint lively;         /* of this user, that are not stuck */
} Count;

static Count count_running (const Turns *turns, const User *user, gint64 now)
{
    Count count = { 0 };
    for (const GList *node = turns->running.head; node; node = node->next) {
        const Turn *turn = node->data;
        gboolean stuck = is_stuck (turn, now);
        count.running++;
        count.stuck += stuck;
        count.lively += !stuck && turn->user == user;
    }
    return count;
}

static gboolean worker_is_free (const Turns *turns, gint64 now)
{
    const Count count = count_running (turns, NULL, now);
    guint most = turns->limits.workers * STUCK_FACTOR;
    return count.running - count.stuck < turns->limits.workers && count.running < most;
}

static gboolean user_has_share (const Turns *turns, const User *user, gint64 now)
{
    guint share = user->trusted ? turns->limits.trusted_share : turns->limits.share;
    return user->running < share
           || (user->running < share * USER_STUCK_FACTOR
               && count_running (turns, user, now).lively < share);
}

static gboolean guest_has_room (const Turns *turns, const char *guest, gint64 now)
{
    guint running = 0;
    for (const GList *node = turns->running.head; guest && node; node = node->next) {
        const Turn *turn = node->data;
        if (!turn->guest || !g_str_equal (turn->guest, guest))
            continue;
        if (is_stuck (turn, now))
            return FALSE;
        running++;
    }
    return running < turns->limits.per_guest;
}

/* Many wait for the same guest when it hangs: it is asked about once. */
static Turn *first_of_user (const Turns *turns, User *user, gint64 now)
{
    const char *full = NULL;
    if (!user_has_share (turns, user, now))
        return NULL;
    for (GList *node = user->waiting.head; node; node = node->next) {
        Turn *turn = node->data;
        if (full && turn->guest && g_str_equal (turn->guest, full))
            continue;
        if (guest_has_room (turns, turn->guest, now))
            return turn;
        full = turn->guest;
    }
    return NULL;
}

Turn *turns_next (Turns *turns, gint64 now)
{
    if (turns->waiting == 0 || !worker_is_free (turns, now))
        return NULL;
    for (GList *node = turns->round.head; node; node = node->next) {
        User *user = node->data;
        Turn *turn = first_of_user (turns, user, now);
        if (!turn)
            continue;
        g_queue_unlink (&user->waiting, &turn->link);
        g_queue_unlink (&turns->round, &user->link);
        if (user->waiting.length > 0)
            g_queue_push_tail_link (&turns->round, &user->link);
        turns->waiting--;
        turn->started = now;
        user->running++;
        g_queue_push_tail_link (&turns->running, &turn->link);
        return turn;
    }
    return NULL;
}

void turns_done (Turns *turns, Turn *turn)
{
    g_queue_unlink (&turns->running, &turn->link);
    turn->user->running--;
    turns_user_unref (turns, turn->user);
}

guint turns_waiting (const Turns *turns)
{
    return turns->waiting;
}

gint64 turns_look_again (const Turns *turns, gint64 now)
{
    for (const GList *node = turns->running.head; turns->waiting > 0 && node; node = node->next) {
        const Turn *turn = node->data;
        if (!is_stuck (turn, now))
            return turn->started + TURN_STUCK_SECONDS * G_USEC_PER_SEC;
    }
    return 0;
}

/* ---- memory ---- */

void user_charge (Turns *turns, User *user, gssize bytes)
{
    user->bytes += bytes;
    turns->bytes += bytes;
}

gsize user_bytes (const User *user)
{
    return user->bytes;
}

gsize turns_bytes (const Turns *turns)
{
    return turns->bytes;
}

User *turns_largest_user (const Turns *turns)
{
    GHashTableIter iter;
    gpointer value;
    User *largest = NULL;
    g_hash_table_iter_init (&iter, turns->users);
    while (g_hash_table_iter_next (&iter, NULL, &value)) {
        User *user = value;
        if (user->bytes > (largest ? largest->bytes : 0))
            largest = user;
    }
    return largest;
}

UserPeers *user_peers (User *user)
{
    return &user->peers;
}
