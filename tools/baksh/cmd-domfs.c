#include "baksh.h"

typedef int (*FsCall) (BakDomain *domain, const char **mountpoints, unsigned int n,
                       unsigned int flags, BakError **error);

static int fs_run (const Args *args, FsCall call, const char *message)
{
    const char *const *mountpoints = args_all (args, "mountpoint");
    BakError *error = NULL;
    int n = call (args_domain (args), (const char **) mountpoints,
                  g_strv_length ((char **) mountpoints), 0, &error);
    if (n < 0)
        return fail (error);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_int (object, "filesystems", n);
        print_json (json_take_object (object));
    } else {
        print (message, n);
    }
    return STATUS_DONE;
}

static const Option fs_options[] = {
    { "mountpoint", OPTION_TEXT, OPTION_REPEATED | OPTION_POSITIONAL, "DIR",
      N_("only the file system mounted there"), WANT_NOTHING },
    { 0 },
};

static int freeze_run (Shell *shell, const Args *args)
{
    return fs_run (args, bak_domain_fs_freeze, _("Froze %d filesystem(s)\n"));
}

const Command cmd_domfsfreeze = { .name = "domfsfreeze",
                                  .group = "guest",
                                  .help = N_("Freeze a guest's mounted file systems"),
                                  .description =
                                      N_("Needs the guest agent. Who freezes must thaw; "
                                          "backup-begin --quiesce does both by itself."),
                                  .flags = COMMAND_NEEDS_DOMAIN,
                                  .options = fs_options,
                                  .run = freeze_run };

static int thaw_run (Shell *shell, const Args *args)
{
    return fs_run (args, bak_domain_fs_thaw, _("Thawed %d filesystem(s)\n"));
}

const Command cmd_domfsthaw = { .name = "domfsthaw",
                                .group = "guest",
                                .help = N_("Thaw a guest's mounted file systems"),
                                .description = N_("Needs the guest agent."),
                                .flags = COMMAND_NEEDS_DOMAIN,
                                .options = fs_options,
                                .run = thaw_run };
