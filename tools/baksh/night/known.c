/* What is known of each guest of a job beyond one run: guests.json in the job's folder. A run that
 * fails before it comes to a guest changes nothing of it. */
#include <string.h>
#include "night.h"

static char *known_path (const Night *night)
{
    return g_build_filename (night->dir, "guests.json", NULL);
}

void known_load (Night *night)
{
    g_autofree char *path = known_path (night);
    night->known = report_load_file (path);
    if (!night->known)
        night->known = json_new ();
    if (!json_object_has_member (night->known, "guests")
        || !JSON_NODE_HOLDS_ARRAY (json_object_get_member (night->known, "guests")))
        json_object_set_array_member (night->known, "guests", json_array_new ());
}

static JsonObject *find (Night *night, const char *uuid, guint *ret_index)
{
    JsonArray *guests = json_object_get_array_member (night->known, "guests");
    for (guint i = 0; i < json_array_get_length (guests); i++) {
        JsonObject *guest = report_element (guests, i);
        if (g_strcmp0 (report_get_text (guest, "uuid"), uuid) == 0) {
            *ret_index = i;
            return guest;
        }
    }
    return NULL;
}

void known_take (Night *night, JsonObject *row)
{
    static const char *const keys[] = { "guest", "uuid", "started",   "status", "duration_ms",
                                        "read",  "type", "frozen_ms", "result", "newest" };
    guint index;
    JsonObject *guest = find (night, report_get_text (row, "uuid"), &index);
    if (!guest) {
        guest = json_new ();
        json_array_add_object_element (json_object_get_array_member (night->known, "guests"),
                                       guest);
    }
    for (guint i = 0; i < G_N_ELEMENTS (keys); i++) {
        JsonNode *node = json_object_get_member (row, keys[i]);
        /* a success that was is not made undone by a repository that cannot be asked */
        gboolean forgets =
            g_str_equal (keys[i], "newest") && (!node || JSON_NODE_HOLDS_NULL (node));
        if (!forgets && node)
            json_object_set_member (guest, keys[i], json_node_copy (node));
    }
}

gint64 known_drilled (Night *night, const char *uuid)
{
    guint index;
    JsonObject *guest = find (night, uuid, &index);
    return report_get_time (report_get_object (guest, "drill"), "time");
}

void known_take_drill (Night *night, JsonObject *row)
{
    guint index;
    JsonObject *guest = find (night, report_get_text (row, "uuid"), &index);
    if (guest)
        json_object_set_object_member (guest, "drill", night_copy (row));
}

static gboolean is_chosen (Night *night, const char *uuid)
{
    for (guint i = 0; i < night->guests->len; i++)
        if (g_ascii_strcasecmp (((NightGuest *) night->guests->pdata[i])->uuid, uuid) == 0)
            return TRUE;
    return FALSE;
}

/* A guest that was there and no longer is may be gone on purpose, or not: said once. One that the
 * job does not mean any more is forgotten silently. */
void known_compare (Night *night)
{
    JsonArray *guests = json_object_get_array_member (night->known, "guests");
    for (guint i = json_array_get_length (guests); i-- > 0;) {
        const char *uuid = report_get_text (report_element (guests, i), "uuid");
        const char *name = report_get_text (report_element (guests, i), "guest"), *why;
        if (uuid && is_chosen (night, uuid))
            continue;
        if (uuid && name && night_job_wants (night->job, name, uuid, &why))
            night_warn (night, _("guest '%s' was there last time and is not there now"), name);
        json_array_remove_element (guests, i);
    }
}

gboolean known_keep (Night *night, char **ret_why)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *path = known_path (night);
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    json_node_set_object (node, night->known);
    g_autofree char *text = json_to_string (node, TRUE);
    if (g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        return TRUE;
    *ret_why = g_strdup (error->message);
    return FALSE;
}
