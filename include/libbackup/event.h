/* libbackup: events.
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Callbacks run on a thread of the library, one a connection, in order. A program with a loop of
 * its own calls bak_connection_get_fd() once, before it registers, and from then on callbacks run
 * only inside bak_connection_dispatch(). A callback may call anything of this library; while it
 * blocks, later events wait. */
#ifndef LIBBACKUP_EVENT_H
#define LIBBACKUP_EVENT_H

#include <libbackup/domain.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakEvent:
 *
 * Something that happened, valid while the callback runs.
 *
 * Since: 0.1
 */
typedef struct BakEvent BakEvent;

/**
 * BakEventId:
 *
 * The kinds of events.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_EVENT_ID_ANY = -1,      /* to register for all */
    BAK_DOMAIN_EVENT_ID_LIFECYCLE = 0, /* state: BakDomainState; text: why */
    /* state: BakJobState; text: the error of a failed job */
    BAK_DOMAIN_EVENT_ID_JOB_STATE = 1,
    /* state of one disk of a job; text: error or reason */
    BAK_DOMAIN_EVENT_ID_JOB_DISK = 2,
    BAK_DOMAIN_EVENT_ID_PROGRESS = 3, /* bytes, total, rate; disk NULL: the whole job */
    /* the job has ended, well or not, and everything is released; state: how */
    BAK_DOMAIN_EVENT_ID_JOB_COMPLETED = 4,
    BAK_DOMAIN_EVENT_ID_WARNING = 5, /* text: something a person should know */
    /* state: BakConnectionState; text: why. Every registration gets it, whatever kind and guest it
     * asked for */
    BAK_DOMAIN_EVENT_ID_CONNECTION = 6
} BakEventId;

/**
 * BakConnectionState:
 *
 * What has become of the connection to a daemon. One that was lost while somebody waits for events
 * is made anew by the library, which tries until it succeeds or the connection is closed; what
 * happened in between is not told: ask for the state of what you wait for.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_CONNECTION_LOST = 0,
    BAK_CONNECTION_RESTORED = 1 /* registrations are in force again */
} BakConnectionState;

/**
 * BakEventCallback:
 * @conn: the connection
 * @domain: the guest; borrowed, bak_domain_ref() it to keep it. For an event that is about no
 * guest: the one registered for, else one with an empty name
 * @event: what happened; borrowed
 * @opaque: what was registered
 *
 * Takes an event. Look at its kind first: BAK_DOMAIN_EVENT_ID_CONNECTION comes to every
 * registration.
 *
 * Since: 0.1
 */
typedef void (*BakEventCallback) (BakConnection *conn, BakDomain *domain, const BakEvent *event,
                                  void *opaque);

/**
 * BakFreeCallback:
 * @opaque: what was registered
 *
 * Frees what belongs to a callback that will not run again.
 *
 * Since: 0.1
 */
typedef void (*BakFreeCallback) (void *opaque);

/**
 * bak_connection_domain_event_register_any:
 * @conn: a connection
 * @domain: only events of this guest; NULL: of all
 * @event_id: a BakEventId
 * @callback: what to call
 * @opaque: passed to @callback
 * @free_callback: called with @opaque when @callback will not run again; NULL: nothing
 * @error: return location of an error, or NULL
 *
 * Asks for events. Counterpart of virConnectDomainEventRegisterAny(), and, by
 * BAK_DOMAIN_EVENT_ID_CONNECTION, of virConnectRegisterCloseCallback().
 *
 * Returns: a number to deregister with; -1 on failure: BAK_ERROR_NOT_SUPPORTED,
 * BAK_ERROR_CONNECTION
 *
 * Since: 0.1
 */
int bak_connection_domain_event_register_any (BakConnection *conn, BakDomain *domain, int event_id,
                                              BakEventCallback callback, void *opaque,
                                              BakFreeCallback free_callback, BakError **error);

/**
 * bak_connection_domain_event_deregister_any:
 * @conn: a connection
 * @callback_id: what registering returned
 * @error: return location of an error, or NULL
 *
 * Wants no more events. A callback that runs meanwhile on another thread is not waited for;
 * @free_callback runs after it. It may be called from a callback. Counterpart of
 * virConnectDomainEventDeregisterAny().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INVALID_ARGUMENT for an unknown number
 *
 * Since: 0.1
 */
int bak_connection_domain_event_deregister_any (BakConnection *conn, int callback_id,
                                                BakError **error);

/**
 * BakLogLevel:
 *
 * How much a line of the log matters.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_LOG_DEBUG = 0,   /* each call, each refusal that is expected */
    BAK_LOG_INFO = 1,    /* what went as it should */
    BAK_LOG_MESSAGE = 2, /* worth to be kept */
    BAK_LOG_WARNING = 3, /* somebody should look */
    BAK_LOG_ERROR = 4    /* a defect of libbackup */
} BakLogLevel;

/**
 * BakLogCallback:
 * @level: how much it matters
 * @message: one message; borrowed
 * @opaque: what was registered
 *
 * Takes what the library says about its work. It runs on a thread of its own, in order, and may
 * call anything of this library.
 *
 * Since: 0.1
 */
typedef void (*BakLogCallback) (BakLogLevel level, const char *message, void *opaque);

/**
 * bak_log_set_callback:
 * @level: the least that is wanted
 * @callback: what takes it; NULL: as in the beginning, warnings and messages go to standard error
 * @opaque: passed to @callback
 * @free_callback: called with @opaque when @callback will not run again; NULL: nothing
 *
 * Where this process's library writes its log: to one callback. It takes the place of the one
 * before, which is still told what was said up to now. A callback that is too slow is told how many
 * lines it lost. Errors of calls are not in the log: the caller has those. The daemon and the
 * watchers of jobs are processes of their own and keep logs of their own.
 *
 * Since: 0.1
 */
void bak_log_set_callback (BakLogLevel level, BakLogCallback callback, void *opaque,
                           BakFreeCallback free_callback);

/**
 * bak_connection_get_fd:
 * @conn: a connection
 * @error: return location of an error, or NULL
 *
 * A file descriptor that polls readable while events wait. From this call on the caller dispatches:
 * the library's own thread runs no callbacks any more.
 *
 * Returns: the descriptor, owned by @conn: poll it, do not read or close it; -1 on failure
 *
 * Since: 0.1
 */
int bak_connection_get_fd (BakConnection *conn, BakError **error);

/**
 * bak_connection_dispatch:
 * @conn: a connection whose descriptor was asked for
 * @error: return location of an error, or NULL
 *
 * Runs the callbacks of all events that wait. It never blocks for new ones.
 *
 * Returns: how many events were dispatched; -1 on failure: BAK_ERROR_INVALID_ARGUMENT without
 * bak_connection_get_fd()
 *
 * Since: 0.1
 */
int bak_connection_dispatch (BakConnection *conn, BakError **error);

/**
 * bak_event_get_id:
 * @event: an event
 *
 * Its kind.
 *
 * Returns: the kind
 *
 * Since: 0.1
 */
BakEventId bak_event_get_id (const BakEvent *event);

/**
 * bak_event_get_domain_name:
 * @event: an event
 *
 * The name of the guest.
 *
 * Returns: the name; NULL when it is about no guest
 *
 * Since: 0.1
 */
const char *bak_event_get_domain_name (const BakEvent *event);

/**
 * bak_event_get_domain_uuid:
 * @event: an event
 *
 * The UUID of the guest.
 *
 * Returns: 36 characters; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_event_get_domain_uuid (const BakEvent *event);

/**
 * bak_event_get_job:
 * @event: an event
 *
 * The job it is about.
 *
 * Returns: the id; NULL when it is about none
 *
 * Since: 0.1
 */
const char *bak_event_get_job (const BakEvent *event);

/**
 * bak_event_get_disk:
 * @event: an event
 *
 * The disk it is about.
 *
 * Returns: the target; NULL when it is about the whole guest or job
 *
 * Since: 0.1
 */
const char *bak_event_get_disk (const BakEvent *event);

/**
 * bak_event_get_state:
 * @event: an event
 *
 * The new state, see BakEventId.
 *
 * Returns: a BakDomainState, BakJobState or BakConnectionState
 *
 * Since: 0.1
 */
int bak_event_get_state (const BakEvent *event);

/**
 * bak_event_get_detail:
 * @event: an event
 *
 * A detail of the state; libvirt's number for the lifecycle.
 *
 * Returns: the detail; 0 when there is none
 *
 * Since: 0.1
 */
int bak_event_get_detail (const BakEvent *event);

/**
 * bak_event_get_text:
 * @event: an event
 *
 * The reason, error or warning.
 *
 * Returns: one line; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_event_get_text (const BakEvent *event);

/**
 * bak_event_get_bytes:
 * @event: an event
 *
 * Progress: what has been copied.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_event_get_bytes (const BakEvent *event);

/**
 * bak_event_get_total:
 * @event: an event
 *
 * Progress: what is to be copied.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_event_get_total (const BakEvent *event);

/**
 * bak_event_get_rate:
 * @event: an event
 *
 * Progress: the speed.
 *
 * Returns: bytes a second
 *
 * Since: 0.1
 */
unsigned long long bak_event_get_rate (const BakEvent *event);

/**
 * bak_event_get_time:
 * @event: an event
 *
 * When it happened.
 *
 * Returns: microseconds since 1970
 *
 * Since: 0.1
 */
long long bak_event_get_time (const BakEvent *event);

#ifdef __cplusplus
}
#endif
#endif
