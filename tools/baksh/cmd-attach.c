#include <string.h>
#include "baksh.h"
#include "domain.h"

/* Splits TARGET=VALUE words; the rows borrow from them. */
static int named_disks (const char *option, const char *const *values, GArray *ret_list)
{
    for (guint i = 0; values[i]; i++) {
        const char *equals = strchr (values[i], '=');
        if (!equals || equals == values[i] || !equals[1])
            return usage (_("option --%s: expected TARGET=%s, not '%s'"), option,
                          g_str_equal (option, "disk") ? "ID" : "FILE", values[i]);
        g_autofree char *target = g_strndup (values[i], equals - values[i]);
        BakNamedDisk disk = { g_intern_string (target), equals + 1 };
        g_array_append_val (ret_list, disk);
    }
    return STATUS_DONE;
}

/* The word "auto" is no TARGET=FILE. */
static gboolean finds_images (const char *const *values)
{
    return g_strv_length ((char **) values) == 1 && g_str_equal (values[0], "auto");
}

static int attach_run (Shell *shell, const Args *args)
{
    const char *const *given = args_all (args, "image");
    gboolean find = finds_images (given);

    g_autoptr (GArray) disks = g_array_new (FALSE, FALSE, sizeof (BakNamedDisk)),
                       images = g_array_new (FALSE, FALSE, sizeof (BakNamedDisk));
    int status = named_disks ("disk", args_all (args, "disk"), disks);
    if (status == STATUS_DONE && !find)
        status = named_disks ("image", given, images);
    if (status != STATUS_DONE)
        return status;
    if (!args_has (args, "qmp") && find)
        return usage (_("--image auto finds the images in the QEMU at --qmp PATH|HOST:PORT"));
    if (!args_has (args, "qmp") && !images->len)
        return usage (_("how is '%s' reached? Give --qmp PATH|HOST:PORT, or --image TARGET=FILE "
                         "for a guest that is powered off"),
                      args_text (args, "name"));
    BakAttachOptions options = {
        .size = sizeof options,
        .name = args_text (args, "name"),
        .qmp = args_text (args, "qmp"),
        .agent = args_text (args, "agent"),
        .disks = (const BakNamedDisk *) disks->data,
        .n_disks = disks->len,
        .images = (const BakNamedDisk *) images->data,
        .n_images = images->len,
        .flags = find ? BAK_ATTACH_FIND_IMAGES : 0,
    };
    BakError *error = NULL;
    g_autoptr (BakDomain) domain = bak_connection_attach (shell->conn, &options, &error);
    if (!domain)
        return fail (error);
    if (args_json (args)) {
        print_json (json_take_object (domain_to_json (domain, bak_domain_get_last_state (domain))));
    } else {
        g_autofree char *name = clean (bak_domain_get_name (domain));
        print (_("Domain '%s' attached\n"), name);
    }
    return STATUS_DONE;
}

static const Option attach_options[] = {
    { "name", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "NAME",
      N_("what to call the guest"), WANT_NOTHING },
    { "qmp", OPTION_TEXT, 0, "PATH|HOST:PORT", N_("its QMP monitor"), WANT_FILE },
    { "agent", OPTION_TEXT, 0, "PATH|HOST:PORT", N_("its guest agent"), WANT_FILE },
    { "disk", OPTION_TEXT, OPTION_REPEATED, "TARGET=ID",
      N_("call the disk that answers to ID by the name TARGET"), WANT_NOTHING },
    { "image", OPTION_TEXT, OPTION_REPEATED, "TARGET=FILE|auto",
      N_("a disk of a guest while it is powered off; auto: found in its QEMU"), WANT_FILE },
    { 0 },
};

static const Rule attach_rules[] = {
    { RULE_REQUIRES, "disk", "qmp" },
    { RULE_REQUIRES, "agent", "qmp" },
    { 0 },
};

const Command cmd_attach = { .name = "attach",
                             .group = "guest",
                             .help = N_("Make a guest known"),
                             .description =
                                 N_("A guest stays known, also after restarts, until it is "
                                     "detached. Only one program can hold a QMP monitor."),
                             .flags = COMMAND_NEEDS_CONNECTION,
                             .options = attach_options,
                             .rules = attach_rules,
                             .run = attach_run };

static int detach_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    g_autofree char *name = clean (bak_domain_get_name (args_domain (args)));
    if (bak_domain_detach (args_domain (args), 0, &error) < 0)
        return fail (error);
    if (args_json (args))
        print_json (json_one ("detached", bak_domain_get_name (args_domain (args))));
    else
        print (_("Domain '%s' detached\n"), name);
    return STATUS_DONE;
}

const Command cmd_detach = { .name = "detach",
                             .group = "guest",
                             .help = N_("Forget a guest; it is not touched"),
                             .flags = COMMAND_NEEDS_DOMAIN,
                             .run = detach_run };
