/* A guest that is on its way to another host, or comes from one, is not backed up. */
#pragma once
#include <libvirt/libvirt.h>
#include "util/error.h"

/* By state and reason of virDomainGetState. FALSE with BAK_ERROR_INEXACT and what is wrong. Pure.
 */
gboolean lv_state_is_home (int state, int reason, GError **error);
gboolean lv_check_home (virDomainPtr domain, GError **error);
