/* libvirt's event loop, on a thread and a main context of our own. libvirt's default loop runs on
 * GLib's default context, which belongs to the program that uses this library. A program that has
 * registered a loop with libvirt before us keeps it, and has to run it. */
#pragma once
#include <glib.h>

/* Idempotent, any thread. Before the first connection. */
void lv_event_init (void);
