/* What the command line of a running QEMU says about its monitors. Pure: bytes in, structs out. */
#pragma once
#include <glib.h>

typedef struct {
    char *path;        /* unix socket, as QEMU was told (may be relative); NULL */
    char *address;     /* HOST:PORT; NULL */
    int fd;            /* number of an inherited socket; -1 */
    gboolean client;   /* QEMU connects to it, nobody can connect to QEMU */
    gboolean abstract; /* path is in the abstract name space */
} CmdlineMonitor;

typedef struct {
    char *program;     /* argv[0] */
    char *name, *uuid; /* NULL */
    gboolean storage_daemon;
    GPtrArray *monitors; /* CmdlineMonitor*: QMP ones */
} Cmdline;

/* text: arguments with a NUL behind each, as in /proc/PID/cmdline. NULL when it is not a QEMU. */
Cmdline *cmdline_parse (const char *text, gsize length);
void cmdline_free (Cmdline *cmdline);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Cmdline, cmdline_free)
