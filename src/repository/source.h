/* Where the export of a pull is read: on this host by its socket, from another through the same way
 * that its guest is reached (ssh forwards the socket, or TLS). */
#pragma once
#include <libbackup/libbackup.h>
#include "mover/mover.h"

typedef struct _Source Source;

/* The <server> element of a pull that this process can read. Caller frees. */
char *source_server (BakConnection *conn, guint idle_timeout);
Source *source_open (BakDomain *domain, const BakJob *job, GError **error);
/* Fills in where one disk is read; borrowed from source and disk. */
void source_for_disk (const Source *source, const BakJobDisk *disk, MoverSource *ret_source);
/* Ends the forwarding. */
void source_free (Source *source);
