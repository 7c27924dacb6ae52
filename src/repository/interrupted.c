#include <errno.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/base.h"
#include "repository/fields.h"
#include "repository/interrupted.h"
#include "repository/publish.h"
#include "util/files.h"

enum { DISKS_MAX = 1024 };

static const char file_name[] = "run.json";

void interrupted_free (Interrupted *run)
{
    if (!run)
        return;
    g_free (run->id);
    g_free (run->job_id);
    g_free (run->checkpoint);
    g_free (run->compression);
    g_clear_pointer (&run->choices, g_ptr_array_unref);
    g_free (run);
}

/* writing */

static void set_text (JsonObject *object, const char *key, const char *value)
{
    if (value)
        json_object_set_string_member (object, key, value);
}

static JsonObject *choice_to_json (const BaseChoice *choice)
{
    JsonObject *object = json_object_new ();
    set_text (object, "target", choice->target);
    json_object_set_int_member (object, "size", choice->size);
    json_object_set_boolean_member (object, "tracked", choice->tracked);
    set_text (object, "reason", choice->reason);
    set_text (object, "base", choice->base ? choice->base->manifest->id : NULL);
    return object;
}

gboolean interrupted_write (const char *dir, const Interrupted *run, GError **error)
{
    g_autofree char *path = g_build_filename (dir, file_name, NULL);
    JsonObject *object = json_object_new ();
    JsonArray *disks = json_array_new ();
    set_text (object, "id", run->id);
    set_text (object, "job", run->job_id);
    set_text (object, "checkpoint", run->checkpoint);
    set_text (object, "compression", run->compression);
    json_object_set_int_member (object, "sequence", run->sequence);
    for (guint i = 0; i < run->choices->len; i++)
        json_array_add_object_element (disks, choice_to_json (run->choices->pdata[i]));
    json_object_set_array_member (object, "disks", disks);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    return files_write_atomic (path, text, -1, 0600, error);
}

gboolean interrupted_forget (const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename (dir, file_name, NULL);
    return g_unlink (path) == 0 || errno == ENOENT
           || error_set_errno (error, errno, _("cannot remove '%s'"), path);
}

/* reading */

typedef struct {
    Repository *repository;
    const char *guest_uuid;
    Interrupted *run;
} Parser;

static void take_choice (Fields *fields, JsonObject *object, gpointer data)
{
    Parser *parser = data;
    BaseChoice *choice = g_new0 (BaseChoice, 1);
    g_autofree char *base = fields_name (fields, object, "base", FIELD_OPTIONAL);
    g_ptr_array_add (parser->run->choices, choice);
    choice->target = fields_text (fields, object, "target", FIELD_REQUIRED);
    choice->size = fields_number (fields, object, "size", G_MAXINT64, FIELD_REQUIRED);
    choice->reason = fields_text (fields, object, "reason", FIELD_OPTIONAL);
    choice->tracked = fields_flag (fields, object, "tracked");
    if (!base)
        return;
    choice->base = point_load (parser->repository, parser->guest_uuid, base, NULL);
    if (!choice->base || !manifest_find_disk (choice->base->manifest, choice->target))
        fields_fail (fields, "base", _("is no point with this disk"));
}

static gboolean parse (Parser *parser, const char *text, gsize length)
{
    Interrupted *run = parser->run;
    JsonObject *object;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, NULL);
    if (!node)
        return FALSE;
    Fields fields = { file_name, NULL, FALSE };
    run->id = fields_name (&fields, object, "id", FIELD_REQUIRED);
    run->job_id = fields_text (&fields, object, "job", FIELD_REQUIRED);
    run->checkpoint = fields_text (&fields, object, "checkpoint", FIELD_OPTIONAL);
    run->compression = fields_text (&fields, object, "compression", FIELD_REQUIRED);
    run->sequence = fields_number (&fields, object, "sequence", G_MAXINT64 - 1, FIELD_REQUIRED);
    fields_each (&fields, object, "disks", DISKS_MAX, take_choice, parser);
    return !fields.failed && run->choices->len > 0
           && (g_str_equal (run->compression, "none") || g_str_equal (run->compression, "zstd"));
}

static Interrupted *read_run (Repository *repository, const char *guest_uuid, const char *dir)
{
    g_autoptr (Interrupted) run = g_new0 (Interrupted, 1);
    g_autofree char *path = g_build_filename (dir, file_name, NULL), *text = NULL;
    Parser parser = { repository, guest_uuid, run };
    gsize length;
    run->choices = g_ptr_array_new_with_free_func ((GDestroyNotify) base_choice_free);
    if (!files_read (path, 0, &text, &length, NULL) || !parse (&parser, text, length))
        return NULL;
    g_autofree char *wanted = publish_new_dir (repository, guest_uuid, run->id);
    return g_str_equal (wanted, dir) ? g_steal_pointer (&run) : NULL;
}

Interrupted *interrupted_find (Repository *repository, const char *guest_uuid)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autoptr (GDir) dir = g_dir_open (guest_dir, 0, NULL);
    Interrupted *found = NULL;
    const char *name;
    while (dir && !found && (name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (guest_dir, name, NULL);
        if (publish_is_new (name))
            found = read_run (repository, guest_uuid, path);
    }
    return found;
}
