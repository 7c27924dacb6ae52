/* Chains stay short: a new point whose image would stand on more than so many others gets one that
 * stands on the lowest of them alone, and holds what differs from that. */
#pragma once
#include "mover/mover.h"
#include "repository/repository.h"

enum { CHAIN_LIMIT = 29, CHAIN_LIMIT_MIN = 2 };

/* The disks of a point in its directory that nobody sees yet; storage is what is written of them,
 * and becomes what they are. When it fails, they are as they were. */
gboolean shorten_chains (Repository *repository, const char *dir, const Manifest *manifest,
                         Placement *storage, MoverControl *control, GError **error);
