/* A job as text and as JSON. The keys are part of the contract: add, do not rename. */
#include <string.h>
#include "baksh.h"

static JsonObject *disk_to_json (const BakJob *job, guint index)
{
    const BakJobDisk *disk = bak_job_get_disk (job, index);
    char *uri = bak_job_get_export_uri (job, index);
    JsonObject *object = json_new ();
    json_text (object, "target", bak_job_disk_get_target (disk));
    json_text (object, "state", bak_job_state_to_string (bak_job_disk_get_state (disk)));
    json_text (object, "type", bak_job_disk_get_type (disk));
    json_text (object, "reason", bak_job_disk_get_reason (disk));
    json_int (object, "bytes", bak_job_disk_get_bytes (disk));
    json_int (object, "total", bak_job_disk_get_total (disk));
    json_text (object, "error", bak_job_disk_get_error (disk));
    json_text (object, "path", bak_job_disk_get_path (disk));
    json_text (object, "scratch", bak_job_disk_get_scratch (disk));
    json_text (object, "format", bak_job_disk_get_format (disk));
    json_text (object, "export", bak_job_disk_get_export_name (disk));
    json_text (object, "uri", uri);
    json_text (object, "bitmap", bak_job_disk_get_bitmap (disk));
    json_text (object, "since", bak_job_disk_get_since (disk));
    json_int (object, "limit", bak_job_disk_get_limit (disk));
    json_text (object, "protection", bak_job_disk_get_protection (disk));
    bak_free (uri);
    return object;
}

JsonObject *job_to_json (const BakJob *job)
{
    JsonObject *object = json_new ();
    JsonArray *disks = json_array_new (), *notes = json_array_new ();
    BakErrorCode code = bak_job_get_error_code (job);
    json_text (object, "id", bak_job_get_id (job));
    json_text (object, "domain", bak_job_get_domain (job));
    json_text (object, "mode", bak_job_get_mode (job) == BAK_JOB_MODE_PULL ? "pull" : "push");
    json_text (object, "state", bak_job_state_to_string (bak_job_get_state (job)));
    json_time (object, "started", bak_job_get_started (job));
    json_time (object, "ended", bak_job_get_ended (job));
    json_int (object, "elapsed_ms", bak_job_get_elapsed (job) / 1000);
    json_text (object, "error", bak_job_get_error (job));
    json_text (object, "error_code",
               code == BAK_ERROR_NONE ? NULL : bak_error_code_to_string (code));
    json_bool (object, "partial", bak_job_is_partial (job));
    json_text (object, "checkpoint", bak_job_get_checkpoint (job));
    json_text (object, "server", bak_job_get_server (job));
    json_text (object, "consistency", bak_job_get_consistency (job));
    json_int (object, "frozen_ms", bak_job_get_frozen_time (job) / 1000);
    json_int (object, "held_ms", bak_job_get_held_time (job) / 1000);
    json_int (object, "bytes", bak_job_get_bytes (job));
    json_int (object, "total", bak_job_get_total (job));
    json_int (object, "temp_used", bak_job_get_temp_used (job));
    json_int (object, "temp_total", bak_job_get_temp_total (job));
    json_bool (object, "acknowledged", bak_job_is_acknowledged (job));
    json_text (object, "owner", bak_job_get_owner (job));
    for (guint i = 0; i < bak_job_get_n_notes (job); i++)
        json_array_add_string_element (notes, bak_job_get_note (job, i));
    for (guint i = 0; i < bak_job_get_n_disks (job); i++)
        json_array_add_object_element (disks, disk_to_json (job, i));
    json_object_set_array_member (object, "notes", notes);
    json_object_set_array_member (object, "disks", disks);
    return object;
}

int job_status (const BakJob *job)
{
    return bak_job_get_state (job) == BAK_JOB_COMPLETED ? STATUS_DONE : STATUS_BAD_BACKUP;
}

static void print_disks (const BakJob *job)
{
    Table *table =
        table_new (_("Disk"), _("State"), _("Type"), _("Bytes"), _("Total"),
                   bak_job_get_mode (job) == BAK_JOB_MODE_PULL ? _("Export") : _("Target"), NULL);
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        g_autofree char *bytes = format_size (bak_job_disk_get_bytes (disk));
        g_autofree char *total = format_size (bak_job_disk_get_total (disk));
        const char *type = bak_job_disk_get_type (disk),
                   *export = bak_job_disk_get_export_name (disk),
                   *path = bak_job_disk_get_path (disk);
        table_row (table, bak_job_disk_get_target (disk),
                   bak_job_state_to_string (bak_job_disk_get_state (disk)), type ? type : "-",
                   bytes, total,
                   export ? export
                   : path ? path
                          : "-",
                   NULL);
    }
    table_print (table);
}

gboolean job_notes_say (const BakJob *job, const char *text)
{
    for (guint i = 0; i < bak_job_get_n_notes (job); i++)
        if (strstr (bak_job_get_note (job, i), text))
            return TRUE;
    return FALSE;
}

/* What does not fit into the table. */
static void print_disk_texts (const BakJob *job)
{
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        const char *reason = bak_job_disk_get_reason (disk);
        const struct {
            const char *label, *text;
        } lines[] = {
            { _("error"), bak_job_disk_get_error (disk) },
            { bak_job_disk_get_type (disk),
              reason && !job_notes_say (job, reason) ? reason : NULL },
            { _("protection"), bak_job_disk_get_protection (disk) },
        };
        for (guint j = 0; j < G_N_ELEMENTS (lines); j++)
            if (lines[j].text) {
                g_autofree char *target = clean (bak_job_disk_get_target (disk)),
                                *label = clean (lines[j].label), *text = clean (lines[j].text);
                print (" %s: %s: %s\n", target, label, text);
            }
    }
}

void job_print (const BakJob *job)
{
    g_autofree char *started = format_time (bak_job_get_started (job)),
                    *ended = format_time (bak_job_get_ended (job));
    g_autofree char *elapsed = format_seconds (bak_job_get_elapsed (job)),
                    *frozen = format_seconds (bak_job_get_frozen_time (job)),
                    *held = format_seconds (bak_job_get_held_time (job));
    print_label (_("Id:"), bak_job_get_id (job));
    print_label (_("Domain:"), bak_job_get_domain (job));
    print_label (_("Mode:"), bak_job_get_mode (job) == BAK_JOB_MODE_PULL ? "pull" : "push");
    print_label (_("State:"), bak_job_state_to_string (bak_job_get_state (job)));
    print_label (_("Started:"), started);
    print_label (_("Ended:"), ended);
    print_label (_("Elapsed:"), elapsed);
    print_label (_("Error:"), bak_job_get_error (job));
    print_label (_("Partial:"),
                 bak_job_is_partial (job) ? _("yes: not a whole image by itself") : NULL);
    print_label (_("Checkpoint:"), bak_job_get_checkpoint (job));
    print_label (_("Server:"), bak_job_get_server (job));
    print_label (_("Consistency:"), bak_job_get_consistency (job));
    if (bak_job_get_frozen_time (job))
        print_label (_("Frozen for:"), frozen);
    if (bak_job_get_held_time (job))
        print_label (_("Held for:"), held);
    for (guint i = 0; i < bak_job_get_n_notes (job); i++)
        print_label (_("Note:"), bak_job_get_note (job, i));
    if (bak_job_get_n_disks (job)) {
        print ("\n");
        print_disks (job);
        print_disk_texts (job);
    }
}

/* A socket of another host is of no use here as it is. */
static void print_other_host (Shell *shell, const char *uri)
{
    char *connection = shell->conn ? bak_connection_get_uri (shell->conn, NULL) : NULL;
    g_autoptr (GUri) where =
        connection ? g_uri_parse (connection, G_URI_FLAGS_NON_DNS, NULL) : NULL;
    g_autoptr (GUri) export = g_uri_parse (uri, G_URI_FLAGS_NON_DNS, NULL);
    const char *host = where ? g_uri_get_host (where) : NULL, *query = g_uri_get_query (export);
    g_autoptr (GHashTable) values =
        query ? g_uri_parse_params (query, -1, "&", G_URI_PARAMS_NONE, NULL) : NULL;
    const char *socket = values ? g_hash_table_lookup (values, "socket") : NULL;
    bak_free (connection);
    if (!host || !*host || !socket)
        return;
    g_autofree char *shown = clean (socket), *name = clean (host);
    print (_(" The socket is on %s; to read it from here: ssh -N -L ./nbd.sock:%s %s\n"), name,
           shown, name);
}

void job_print_exports (Shell *shell, const BakJob *job)
{
    char *first = NULL;
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        const char *bitmap = bak_job_disk_get_bitmap (disk);
        char *uri = bak_job_get_export_uri (job, i);
        if (!uri)
            continue;
        g_autofree char *shown = clean (uri), *target = clean (bak_job_disk_get_target (disk)),
                        *context = clean (bitmap);
        print (bitmap ? " %s: %s  qemu:dirty-bitmap:%s\n" : " %s: %s\n", target, shown, context);
        if (first)
            bak_free (uri);
        else
            first = uri;
    }
    if (first)
        print_other_host (shell, first);
    bak_free (first);
}
