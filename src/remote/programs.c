/* What a server speaks. */
#include "remote/peer.h"

static const Program *const programs[] = { &program_backup, &program_libvirt, NULL };

Server *server_new (DriverConn *conn, const ServerLimits *limits)
{
    return server_make (conn, limits, programs);
}
