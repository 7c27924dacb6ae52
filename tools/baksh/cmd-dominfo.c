#include "baksh.h"
#include "domain.h"

const char *state_name (int state)
{
    switch (state) {
    case BAK_DOMAIN_RUNNING: return _("running");
    case BAK_DOMAIN_BLOCKED: return _("idle");
    case BAK_DOMAIN_PAUSED: return _("paused");
    case BAK_DOMAIN_SHUTDOWN: return _("in shutdown");
    case BAK_DOMAIN_SHUTOFF: return _("shut off");
    case BAK_DOMAIN_CRASHED: return _("crashed");
    case BAK_DOMAIN_PMSUSPENDED: return _("pmsuspended");
    default: return _("no state");
    }
}

/* For JSON: never translated. */
static const char *state_word (int state)
{
    static const char *const words[] = { "no state",    "running",  "idle",    "paused",
                                         "in shutdown", "shut off", "crashed", "pmsuspended" };
    return state >= 0 && state < (int) G_N_ELEMENTS (words) ? words[state] : words[0];
}

JsonObject *domain_to_json (BakDomain *domain, int state)
{
    JsonObject *object = json_new ();
    if (bak_domain_get_id (domain) < 0)
        json_object_set_null_member (object, "id");
    else
        json_int (object, "id", bak_domain_get_id (domain));
    json_text (object, "name", bak_domain_get_name (domain));
    json_text (object, "uuid", bak_domain_get_uuid_string (domain));
    json_text (object, "state", state_word (state));
    return object;
}

static void print_as_json (BakDomain *domain, const BakDomainDetails *details)
{
    JsonObject *object = domain_to_json (domain, bak_domain_details_get_state (details));
    JsonArray *notes = json_array_new ();
    json_int (object, "cpus", bak_domain_details_get_cpus (details));
    json_int (object, "cpu_time_ns", bak_domain_details_get_cpu_time (details));
    json_int (object, "max_memory", bak_domain_details_get_max_memory (details));
    json_int (object, "memory", bak_domain_details_get_memory (details));
    json_bool (object, "persistent", bak_domain_details_is_persistent (details));
    json_bool (object, "by_images", bak_domain_details_is_by_images (details));
    json_text (object, "qemu_version", bak_domain_details_get_qemu_version (details));
    json_int (object, "pid", bak_domain_details_get_pid (details));
    json_text (object, "qmp", bak_domain_details_get_qmp (details));
    json_text (object, "agent", bak_domain_details_get_agent (details));
    json_text (object, "job", bak_domain_details_get_job (details));
    for (guint i = 0; i < bak_domain_details_get_n_notes (details); i++)
        json_array_add_string_element (notes, bak_domain_details_get_note (details, i));
    json_object_set_array_member (object, "notes", notes);
    print_json (json_take_object (object));
}

static void print_text (BakDomain *domain, const BakDomainDetails *details)
{
    if (bak_domain_get_id (domain) < 0)
        print_label (_("Id:"), "-");
    else
        print_label_format (_("Id:"), "%d", bak_domain_get_id (domain));
    print_label (_("Name:"), bak_domain_get_name (domain));
    print_label (_("UUID:"), bak_domain_get_uuid_string (domain));
    print_label (_("OS Type:"), "hvm");
    print_label (_("State:"), state_name (bak_domain_details_get_state (details)));
    print_label_format (_("CPU(s):"), "%u", bak_domain_details_get_cpus (details));
    if (bak_domain_details_get_cpu_time (details))
        print_label_format (_("CPU time:"), "%.1fs",
                            bak_domain_details_get_cpu_time (details) / 1e9);
    print_label_format (_("Max memory:"), "%llu KiB",
                        bak_domain_details_get_max_memory (details) / 1024);
    print_label_format (_("Used memory:"), "%llu KiB",
                        bak_domain_details_get_memory (details) / 1024);
    print_label (_("Persistent:"),
                 bak_domain_details_is_persistent (details) ? _("yes") : _("no"));
    print_label (_("Autostart:"), _("disable"));
    print_label (_("Managed save:"), _("no"));
    print_label (_("QEMU version:"), bak_domain_details_get_qemu_version (details));
    if (bak_domain_details_get_pid (details))
        print_label_format (_("Process:"), "%lld", bak_domain_details_get_pid (details));
    print_label (_("Monitor:"), bak_domain_details_get_qmp (details));
    print_label (_("Agent:"), bak_domain_details_get_agent (details));
    print_label (_("Backup job:"), bak_domain_details_get_job (details));
    for (guint i = 0; i < bak_domain_details_get_n_notes (details); i++)
        print_label (_("Note:"), bak_domain_details_get_note (details, i));
}

static int dominfo_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    g_autoptr (BakDomainDetails) details = bak_domain_get_details (args_domain (args), 0, &error);
    if (!details)
        return fail (error);
    if (args_json (args))
        print_as_json (args_domain (args), details);
    else
        print_text (args_domain (args), details);
    return STATUS_DONE;
}

const Command cmd_dominfo = { .name = "dominfo",
                              .group = "guest",
                              .help = N_("Information about a guest"),
                              .flags = COMMAND_NEEDS_DOMAIN,
                              .run = dominfo_run };

static int domstate_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int state, reason;
    if (bak_domain_get_state (args_domain (args), &state, &reason, 0, &error) < 0)
        return fail (error);
    if (args_json (args)) {
        JsonObject *object = json_new ();
        json_text (object, "state", state_word (state));
        json_int (object, "reason", reason);
        print_json (json_take_object (object));
    } else {
        print ("%s\n", state_name (state));
    }
    return STATUS_DONE;
}

const Command cmd_domstate = { .name = "domstate",
                               .group = "guest",
                               .help = N_("What a guest does now"),
                               .flags = COMMAND_NEEDS_DOMAIN,
                               .run = domstate_run };

static int dumpxml_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    char *xml = bak_domain_get_xml_desc (args_domain (args), 0, &error);
    return xml ? print_xml (args, xml) : fail (error);
}

static const Option dumpxml_options[] = { XPATH_OPTIONS, { 0 } };
static const Rule dumpxml_rules[] = { { RULE_REQUIRES, "wrap", "xpath" }, { 0 } };

const Command cmd_dumpxml = { .name = "dumpxml",
                              .group = "guest",
                              .help = N_("A guest as XML"),
                              .flags = COMMAND_NEEDS_DOMAIN,
                              .options = dumpxml_options,
                              .rules = dumpxml_rules,
                              .run = dumpxml_run };
