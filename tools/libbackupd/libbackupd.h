/* The modes of libbackupd. main.c reads the command line, one file a mode does the rest. */
#pragma once
#include <gio/gio.h>
#include "remote/server.h"

typedef struct {
    char *socket, *readonly_socket, *listen_tls, *state_dir, *config;
    gboolean config_check, stdio, probe, version, session;
    char *splice; /* -U PATH */
    char *watch;  /* --watch GUEST */
    char *uri;    /* --uri: of what it watches; NULL: qemu:/// */
    int socket_fd, ready_fd;
} Options;

/* Each returns the exit status. */
int run_daemon (const Options *options);
/* Is the configuration right, and all that it names? It is the one in use from now on. */
gboolean check_config (const Options *options, GError **error);
int run_watcher (const Options *options);
int run_stdio (const Options *options);
int run_splice (const char *path);
int splice_fds (int socket_fd); /* stdin to it, it to stdout, until both have ended; takes fd */

/* systemd.c: the few lines of its protocols that we need. */
void systemd_notify (const char *state); /* "READY=1" ...; nothing happens without NOTIFY_SOCKET */
/* how many were inherited, from fd 3 on; the environment is cleaned */
int systemd_listen_fds (void);
#define SYSTEMD_FIRST_FD 3

/* A loop that ends with SIGTERM or SIGINT; hangup may be NULL. */
typedef struct {
    GMainLoop *loop;
    void (*hangup) (gpointer data);
    gpointer data;
} Signals;
void signals_watch (Signals *signals);
