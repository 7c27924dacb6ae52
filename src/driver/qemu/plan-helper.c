/* Targets that a helper opens (helper.h): what it is told to open, to make and to serve, and how it
 * is told to close. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/helper.h"
#include "driver/qemu/planner.h"
#include "driver/qemu/protocols.h"

enum { CREATE_MS = 120000, CLOSE_MS = 60000 };

/* Names in a process of our own. */
#define FILE_NODE "file"
#define IMAGE_NODE "image"
#define KEY_ID "key"
#define PASSWORD_ID "password"

static JsonObject *command (const char *name, JsonObject *arguments)
{
    return obj ("execute", "s", name, "arguments", "o", arguments, NULL);
}

static void add_create (JsonArray *commands, JsonObject *options)
{
    JsonObject *create =
        command ("blockdev-create", obj ("job-id", "s", "create", "options", "o", options, NULL));

    json_object_set_string_member (create, "job", "create");
    json_object_set_int_member (create, "timeout", CREATE_MS);
    json_array_add_object_element (commands, create);
}

static void add_secret (JsonArray *commands, const char *id, const char *path, gboolean text)
{
    JsonObject *add = command ("object-add", obj ("qom-type", "s", "secret", "id", "s", id, NULL));

    json_object_set_string_member (add, "secret", path);
    if (text)
        json_object_set_boolean_member (add, "text", TRUE);
    json_array_add_object_element (commands, add);
}

/* ---- what lies below ---- */

static JsonObject *store_options (const Place *place, gboolean read_only)
{
    const StoreDef *store = place->store;
    const ProtocolRow *row = protocol_row (store);
    JsonObject *options = row ? row->options (store, store->auth_file ? PASSWORD_ID : NULL)
                              : obj ("filename", "s", store->path, NULL);

    const char *local = store->type == STORE_BLOCK ? "host_device" : "file";
    json_object_set_string_member (options, "driver", row ? row->driver : local);
    json_object_set_string_member (options, "node-name", FILE_NODE);
    if (read_only)
        json_object_set_boolean_member (options, "read-only", TRUE);
    return options;
}

/* A server makes over what is there without a word. */
static void make_store (Planner *p, JsonArray *commands, const Item *item, const Place *place)
{
    const ProtocolRow *row = protocol_row (place->store);

    if (!row || !row->creates || is_reused (p, place))
        return;
    JsonObject *look = command ("blockdev-add", store_options (place, TRUE));
    json_object_set_boolean_member (look, "absent", TRUE);
    json_array_add_object_element (commands, look);
    JsonObject *location =
        row->options (place->store, place->store->auth_file ? PASSWORD_ID : NULL);
    gboolean raw = g_str_equal (place->format, "raw");
    add_create (commands, obj ("driver", "s", row->driver, "location", "o", location, "size", "i",
                               raw ? (gint64) item->disk->size : (gint64) 0, NULL));
}

/* ---- the image ---- */

static JsonObject *image_options (const Item *item, const Place *place, gboolean read_only)
{
    JsonObject *options = obj ("driver", "s", place->format, "node-name", "s", IMAGE_NODE, "file",
                               "s", FILE_NODE, NULL);

    if (g_str_equal (place->format, "raw"))
        json_object_set_int_member (options, "size", item->disk->size);
    else if (has_backing (place->format))
        json_object_set_null_member (options, "backing");
    if (place->store->encryption && g_str_equal (place->format, "luks"))
        json_object_set_string_member (options, "key-secret", KEY_ID);
    else if (place->store->encryption)
        json_object_set_object_member (
            options, "encrypt", obj ("format", "s", "luks", "key-secret", "s", KEY_ID, NULL));
    if (read_only)
        json_object_set_boolean_member (options, "read-only", TRUE);
    return options;
}

static void make_image (Planner *p, JsonArray *commands, const Item *item, const Place *place)
{
    if (g_str_equal (place->format, "raw") || is_reused (p, place))
        return;
    JsonObject *options = create_options (item, place, FILE_NODE);
    if (place->store->encryption && g_str_equal (place->format, "luks"))
        json_object_set_string_member (options, "key-secret", KEY_ID);
    else if (place->store->encryption)
        json_object_set_object_member (
            options, "encrypt", obj ("format", "s", "luks", "key-secret", "s", KEY_ID, NULL));
    add_create (commands, options);
}

/* ---- steps ---- */

void add_helper (Planner *p, Item *item, const Place *place)
{
    const StoreDef *store = place->store;
    g_autofree char *monitor = helper_monitor (p, item), *server = helper_server (monitor),
                    *shown = store_def_describe (store);
    const ProtocolRow *row = protocol_row (store);
    JsonArray *commands = json_array_new ();

    if (store->encryption)
        add_secret (commands, KEY_ID, store->encryption->secret_file, FALSE);
    if (store->auth_file)
        add_secret (commands, PASSWORD_ID, store->auth_file, row && row->text_secret);
    make_store (p, commands, item, place);
    JsonObject *open = command ("blockdev-add", store_options (place, FALSE));
    if (store->path && !protocol_row (store))
        json_object_set_boolean_member (open, "opens", TRUE);
    json_array_add_object_element (commands, open);
    make_image (p, commands, item, place);
    json_array_add_object_element (commands,
                                   command ("blockdev-add", image_options (item, place, FALSE)));
    json_array_add_object_element (
        commands, command ("nbd-server-start", obj ("addr", "o",
                                                    obj ("type", "s", "unix", "data", "o",
                                                         obj ("path", "s", server, NULL), NULL),
                                                    NULL)));
    json_array_add_object_element (
        commands, command ("block-export-add",
                           obj ("type", "s", "nbd", "id", "s", "export", "node-name", "s",
                                IMAGE_NODE, "name", "s", "", "writable", "b", TRUE, NULL)));
    if (row && row->reconnects)
        json_array_add_object_element (commands, obj ("link", "s", "note", NULL));
    plan_add (
        p->plan, _("have a process of our own open the target"), item->disk->target,
        own_action ("helper-start", obj ("monitor", "s", monitor, "place", "s", shown, "agent", "s",
                                         store->agent, "commands", "a", commands, NULL)),
        own_action ("helper-kill", obj ("monitor", "s", monitor, NULL)), NULL);
}

/* The guest's QEMU has let go of it. */
void finish_helper (Planner *p, const Item *item)
{
    const Place *place = &item->target;
    g_autofree char *monitor = helper_monitor (p, item), *shown = store_def_describe (place->store);
    JsonArray *commands = json_array_new ();
    const ProtocolRow *row = protocol_row (place->store);
    JsonArray *nodes = arr (image_options (item, place, TRUE), NULL);
    JsonObject *reopen = command ("blockdev-reopen", obj ("options", "a", nodes, NULL));

    if (!row || row->reopens)
        json_array_add_object_element (nodes, store_options (place, TRUE));

    JsonObject *end =
        command ("block-export-del", obj ("id", "s", "export", "mode", "s", "hard", NULL));
    json_object_set_string_member (end, "gone", "export");
    json_array_add_object_element (commands, end);
    json_object_set_int_member (reopen, "timeout", CLOSE_MS);
    json_array_add_object_element (commands, reopen);
    if (row && row->reconnects) /* since the flush nothing can be lost */
        json_array_add_object_element (commands, obj ("link", "s", "same", NULL));
    g_ptr_array_add (p->plan->finish,
                     own_action ("helper-finish", obj ("monitor", "s", monitor, "place", "s", shown,
                                                       "commands", "a", commands, NULL)));
}
