/* A driver without QEMU for the tests of the wire: guests "one", "two" and "tree", jobs that end
 * when they are told to. It answers for qemu:///system in the programs that link it, so that a
 * whole libbackupd can be run on it. */
#pragma once
#include "driver/driver.h"

void fake_set_delay (guint ms);  /* each slow call takes at least this long */
guint fake_calls (void);         /* slots entered so far */
guint fake_calls_at_once (void); /* the most that ran at one time */
void fake_await_wait (void);     /* until somebody waits for a job, or has looked at it to do so */
void fake_emit (DriverConn *conn, int kind, const char *domain, const char *text);
void fake_finish_job (DriverConn *conn, const char *domain, int state, const char *error);
