#include <glib/gi18n-lib.h>
#include "driver/libvirt/guest.h"
#include "driver/libvirt/home.h"

static const struct {
    int state, reason;
    const char *what;
} away[] = {
    { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION, N_("paused for a migration") },
    { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SAVE, N_("being saved") },
    { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP, N_("starting, or waits for a migration") },
    { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY, N_("paused in a post-copy migration") },
    { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, N_("left by a post-copy migration") },
    { VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY, N_("in a post-copy migration") },
};

gboolean lv_state_is_home (int state, int reason, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS (away); i++)
        if (away[i].state == state && away[i].reason == reason)
            return error_set (error, BAK_ERROR_INEXACT,
                              _("the guest is %s: what it has on its disks now may be another "
                                 "host's; back it up where it lives, once it has arrived"),
                              _(away[i].what));
    return TRUE;
}

gboolean lv_check_home (virDomainPtr domain, GError **error)
{
    int state = 0, reason = 0;

    if (virDomainGetState (domain, &state, &reason, 0) != 0)
        return lv_error (error);
    return lv_state_is_home (state, reason, error);
}
