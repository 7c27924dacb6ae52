#include <stdio.h>
#include <string.h>
#include "baksh.h"

/* In the order of BakEventId. */
extern const char *const event_names[];
const char *const event_names[] = { "lifecycle",     "job-state", "job-disk",   "progress",
                                    "job-completed", "warning",   "connection", NULL };

typedef struct {
    gboolean json, timestamp, loop, connection;
    guint received;
} Watch;

static const char *state_word (const BakEvent *event)
{
    return bak_job_state_to_string ((BakJobState) bak_event_get_state (event));
}

static const char *connection_word (const BakEvent *event)
{
    return bak_event_get_state (event) == BAK_CONNECTION_RESTORED ? "restored" : "lost";
}

static void print_as_json (BakDomain *domain, const BakEvent *event)
{
    BakEventId id = bak_event_get_id (event);
    JsonObject *object = json_new ();
    json_text (object, "event", event_names[id]);
    json_text (object, "domain", bak_domain_get_name (domain));
    json_text (object, "uuid", bak_event_get_domain_uuid (event));
    json_time (object, "time", bak_event_get_time (event));
    json_text (object, "job", bak_event_get_job (event));
    json_text (object, "disk", bak_event_get_disk (event));
    if (id == BAK_DOMAIN_EVENT_ID_LIFECYCLE)
        json_int (object, "state", bak_event_get_state (event));
    else if (id == BAK_DOMAIN_EVENT_ID_PROGRESS || id == BAK_DOMAIN_EVENT_ID_WARNING)
        json_object_set_null_member (object, "state");
    else if (id == BAK_DOMAIN_EVENT_ID_CONNECTION)
        json_text (object, "state", connection_word (event));
    else
        json_text (object, "state", state_word (event));
    json_text (object, "text", bak_event_get_text (event));
    json_int (object, "bytes", bak_event_get_bytes (event));
    json_int (object, "total", bak_event_get_total (event));
    json_int (object, "rate", bak_event_get_rate (event));
    print_json_line (json_take_object (object));
}

/* The statistics of the job that ended, as virsh prints them under the event. */
static void print_completed (BakDomain *domain, const BakEvent *event)
{
    g_autoptr (BakJob) job = bak_domain_backup_info (domain, bak_event_get_job (event), 0, NULL);
    print ("\toperation: %d\n", BAK_DOMAIN_JOB_OPERATION_BACKUP);
    if (job)
        print ("\ttime_elapsed: %llu\n", bak_job_get_elapsed (job) / 1000);
    if (job && bak_job_get_mode (job) == BAK_JOB_MODE_PUSH) {
        guint64 total = bak_job_get_total (job), done = MIN (bak_job_get_bytes (job), total);
        print ("\tdisk_total: %" G_GUINT64_FORMAT "\n\tdisk_processed: %" G_GUINT64_FORMAT
               "\n\tdisk_remaining: %" G_GUINT64_FORMAT "\n",
               total, done, total - done);
    }
    print ("\tsuccess: %d\n", bak_event_get_state (event) == BAK_JOB_COMPLETED);
    if (bak_event_get_text (event)) {
        g_autofree char *text = clean (bak_event_get_text (event));
        print ("\terrmsg: %s\n", text);
    }
}

static void print_details (BakDomain *domain, const BakEvent *event)
{
    const char *text = bak_event_get_text (event);
    g_autofree char *disk = clean (bak_event_get_disk (event)),
                    *job = clean (bak_event_get_job (event)), *why = clean (text);
    g_autofree char *bytes = format_size (bak_event_get_bytes (event)),
                    *total = format_size (bak_event_get_total (event)),
                    *rate = format_size (bak_event_get_rate (event));
    switch (bak_event_get_id (event)) {
    case BAK_DOMAIN_EVENT_ID_JOB_STATE:
        print (" %s %s%s%s\n", job, state_word (event), text ? ": " : "", why);
        break;
    case BAK_DOMAIN_EVENT_ID_JOB_DISK:
        print (_(" Backup for %s %s%s%s\n"), disk, state_word (event), text ? ": " : "", why);
        break;
    case BAK_DOMAIN_EVENT_ID_PROGRESS:
        print (_(" %s%s%s of %s, %s/s\n"), disk, *disk ? ": " : "", bytes, total, rate);
        break;
    case BAK_DOMAIN_EVENT_ID_CONNECTION: print (" %s: %s\n", connection_word (event), why); break;
    case BAK_DOMAIN_EVENT_ID_JOB_COMPLETED:
        print ("\n");
        print_completed (domain, event);
        break;
    default: print (" %s\n", why);
    }
}

static void on_event (BakConnection *conn, BakDomain *domain, const BakEvent *event, void *opaque)
{
    Watch *watch = opaque;
    if (!watch->loop && watch->received)
        return;
    if (bak_event_get_id (event) == BAK_DOMAIN_EVENT_ID_CONNECTION && !watch->connection) {
        warn ("%s",
              bak_event_get_text (event)); /* not what was asked for, but who waits must know */
        return;
    }
    watch->received++;
    if (watch->json) {
        print_as_json (domain, event);
        return;
    }
    g_autofree char *name = clean (bak_domain_get_name (domain));
    if (watch->timestamp) {
        g_autoptr (GDateTime) time =
            g_date_time_new_from_unix_utc (bak_event_get_time (event) / G_USEC_PER_SEC);
        g_autofree char *text =
            time ? g_date_time_format (time, "%Y-%m-%d %H:%M:%S") : g_strdup ("");
        print ("%s.%03d+0000: ", text, (int) (bak_event_get_time (event) % G_USEC_PER_SEC / 1000));
    }
    print (_("event '%s' for domain '%s':"), event_names[bak_event_get_id (event)], name);
    print_details (domain, event);
    fflush (stdout);
}

static int event_id (const char *name)
{
    for (int i = 0; event_names[i]; i++)
        if (g_str_equal (event_names[i], name))
            return i;
    return -1;
}

/* Until something came, or for ever with --loop. */
static int watch_events (BakConnection *conn, Watch *watch, int fd, guint64 timeout)
{
    gint64 deadline = timeout ? g_get_monotonic_time () + timeout : 0;
    BakError *error = NULL;
    interrupt_await (TRUE);
    int status = STATUS_DONE;
    while (watch->loop || !watch->received) {
        PollResult result =
            interrupt_poll (fd, deadline ? MAX (0, deadline - g_get_monotonic_time ()) : -1);
        if (result == POLL_INTERRUPT) {
            status = STATUS_INTERRUPTED;
            break;
        }
        if (result == POLL_TIMEOUT) {
            status = watch->received ? STATUS_DONE : STATUS_FAILED;
            if (!watch->json)
                print (_("event loop timed out\n"));
            else if (!watch->received)
                fail_with (status, _("no event came in time"));
            break;
        }
        if (bak_connection_dispatch (conn, &error) < 0) {
            status = fail (error);
            break;
        }
    }
    if (status == STATUS_INTERRUPTED && !watch->json)
        print (_("event loop interrupted\n"));
    interrupt_await (FALSE);
    return status;
}

static void print_kinds (gboolean json)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; event_names[i]; i++) {
        json_array_add_string_element (array, event_names[i]);
        if (!json)
            print ("%s\n", event_names[i]);
    }
    g_autoptr (JsonNode) node = json_take_list ("events", array);
    if (json)
        print_json (g_steal_pointer (&node));
}

static int event_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int status = STATUS_DONE;
    if (args_has (args, "list")) {
        print_kinds (args_json (args));
        return STATUS_DONE;
    }
    const char *name = args_text (args, "event");
    if (name && event_id (name) < 0) {
        const char *near = nearest (name, event_names);
        return near ? usage (_("unknown event type %s; did you mean '%s'?"), name, near)
                    : usage (_("unknown event type %s"), name);
    }
    if (!shell_connect (shell, &status))
        return status;
    g_autoptr (BakDomain) domain = args_has (args, "domain")
                                       ? shell_domain (shell, args_text (args, "domain"), &status)
                                       : NULL;
    if (status != STATUS_DONE)
        return status;
    int kind = name ? event_id (name) : BAK_DOMAIN_EVENT_ID_ANY;
    Watch watch = { .json = args_json (args),
                    .timestamp = args_has (args, "timestamp"),
                    .loop = args_has (args, "loop"),
                    .connection = kind == BAK_DOMAIN_EVENT_ID_CONNECTION };
    int fd = bak_connection_get_fd (shell->conn, &error);
    int id = fd < 0 ? -1
                    : bak_connection_domain_event_register_any (shell->conn, domain, kind, on_event,
                                                                &watch, NULL, &error);
    if (id < 0)
        return fail (error);
    status = watch_events (shell->conn, &watch, fd, args_microseconds (args, "timeout"));
    bak_connection_domain_event_deregister_any (shell->conn, id, NULL);
    if (!watch.json)
        print (_("events received: %u\n"), watch.received);
    return status;
}

static const Option options[] = {
    { "domain", OPTION_TEXT, 0, "DOMAIN", N_("only events of this guest"), WANT_DOMAIN },
    { "event", OPTION_TEXT, 0, "EVENT", N_("only this kind; default: all"), WANT_EVENT },
    { "all", OPTION_FLAG, 0, NULL, N_("all kinds (default)"), WANT_NOTHING },
    { "loop", OPTION_FLAG, 0, NULL, N_("until the timeout or an interrupt, not just the first"),
      WANT_NOTHING },
    { "timeout", OPTION_SECONDS, 0, "SECONDS", N_("wait no longer"), WANT_NOTHING },
    { "list", OPTION_FLAG, 0, NULL, N_("list the kinds of events"), WANT_NOTHING },
    { "timestamp", OPTION_FLAG, 0, NULL, N_("show when it happened"), WANT_NOTHING },
    { 0 },
};

static const Rule rules[] = { { RULE_EXCLUSIVE, "all", "event" },
                              { RULE_EXCLUSIVE, "list", "event" },
                              { RULE_EXCLUSIVE, "list", "all" },
                              { 0 } };

const Command cmd_event = { .name = "event",
                            .group = "events",
                            .help = N_("Wait for events and print them"),
                            .description =
                                N_("With --json one object a line, as soon as it happens."),
                            .options = options,
                            .rules = rules,
                            .run = event_run };
