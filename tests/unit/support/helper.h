/* A helper program that serves a unix socket which it inherits already listening: nothing polls, no
 * path is guessed. */
#pragma once
#include <gio/gio.h>

typedef struct {
    GSubprocess *process;
    char *folder, *path; /* path: of the socket */
} Helper;

/* args: the program and its arguments; "%FD" in one stands for the number of the listening
 * descriptor. Ends the test when it cannot be started. */
void helper_start (Helper *helper, int backlog, const char *const *args);
void helper_stop (Helper *helper);
