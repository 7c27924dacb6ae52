#include "point.h"

static int point_pin_run (Shell *shell, const Args *args)
{
    int status;
    BakError *error = NULL;
    gboolean pinned = !args_has (args, "off");
    g_autoptr (BakRepository) repository = args_repository (args, &status);
    g_autoptr (BakPoint) point = repository ? args_point (args, repository, &status) : NULL;
    if (!point)
        return status;
    if (bak_point_set_pinned (point, pinned, &error) < 0)
        return fail (error);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "id", bak_point_get_id (point));
        json_bool (object, "pinned", pinned);
        print_json (json_take_object (object));
    } else {
        print (pinned ? _("Point %s pinned\n") : _("Point %s not pinned any more\n"),
               bak_point_get_id (point));
    }
    return STATUS_DONE;
}

static const Option pin_options[] = {
    POINT_OPTION,
    { "off", OPTION_FLAG, 0, NULL, N_("let go of it"), WANT_NOTHING },
    REPOSITORY_OPTION,
    { 0 },
};

const Command cmd_point_pin = { .name = "point-pin",
                                .group = "point",
                                .help = N_("Keep a point whatever the rules say"),
                                .options = pin_options,
                                .run = point_pin_run };
