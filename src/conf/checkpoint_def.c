/* <domaincheckpoint>: text to structs and back. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "conf/checkpoint_def.h"
#include "conf/strings.h"
#include "util/error.h"

static const gsize checkpoint_strings[] = {
    offsetof (CheckpointDef, name),        offsetof (CheckpointDef, description),
    offsetof (CheckpointDef, parent),      offsetof (CheckpointDef, domain_name),
    offsetof (CheckpointDef, domain_uuid),
};

static const gsize disk_strings[] = { offsetof (CheckpointDiskDef, name),
                                      offsetof (CheckpointDiskDef, bitmap) };

CheckpointDiskDef *checkpoint_disk_def_new (const char *name)
{
    CheckpointDiskDef *disk = g_new0 (CheckpointDiskDef, 1);

    disk->name = g_strdup (name);
    return disk;
}

void checkpoint_disk_def_free (CheckpointDiskDef *disk)
{
    if (!disk)
        return;
    strings_free (disk, disk_strings, G_N_ELEMENTS (disk_strings));
    g_free (disk);
}

CheckpointDef *checkpoint_def_new (void)
{
    CheckpointDef *def = g_new0 (CheckpointDef, 1);

    def->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) checkpoint_disk_def_free);
    return def;
}

void checkpoint_def_free (CheckpointDef *def)
{
    if (!def)
        return;
    strings_free (def, checkpoint_strings, G_N_ELEMENTS (checkpoint_strings));
    g_ptr_array_unref (def->disks);
    g_free (def);
}

static gpointer disk_copy (gconstpointer disk, gpointer unused)
{
    CheckpointDiskDef *copy = g_memdup2 (disk, sizeof *copy);

    strings_dup (copy, disk_strings, G_N_ELEMENTS (disk_strings));
    return copy;
}

CheckpointDef *checkpoint_def_copy (const CheckpointDef *def)
{
    if (!def)
        return NULL;
    CheckpointDef *copy = g_memdup2 (def, sizeof *def);
    strings_dup (copy, checkpoint_strings, G_N_ELEMENTS (checkpoint_strings));
    copy->disks = g_ptr_array_copy (def->disks, disk_copy, NULL);
    g_ptr_array_set_free_func (copy->disks, (GDestroyNotify) checkpoint_disk_def_free);
    return copy;
}

/* Reading */

static const char *const words_checkpoint[] = { "bitmap", "no", NULL };

#define DISK(member) offsetof (CheckpointDiskDef, member)
#define DISK_ALWAYS                                                                                \
    { "name", XML_PLAIN, TRUE, DISK (name), .max = 4096 },                                         \
    {                                                                                              \
        "checkpoint", XML_CHOICE, FALSE, DISK (checkpoint), words_checkpoint, TRISTATE_YES         \
    }
#define GRANULARITY                                                                                \
    {                                                                                              \
        "granularity", XML_SIZE_POWER, FALSE, DISK (granularity), .min = POWER_MIN,                \
                                                                  .max = POWER_MAX                 \
    }

static const XmlAttr disk_no_attrs[] = { DISK_ALWAYS, { NULL } };
static const XmlAttr disk_attrs[] = {
    DISK_ALWAYS,
    { "bitmap", XML_NAME, FALSE, DISK (bitmap) },
    { "size", XML_LONG, FALSE, XML_NOWHERE },
    { "persistent", XML_CHOICE, FALSE, DISK (persistent), words_yes_no, TRISTATE_YES },
    GRANULARITY,
    { NULL },
};

static gboolean read_bitmap (const xmlNode *node, CheckpointDiskDef *disk, GError **error)
{
    static const XmlAttr attrs[] = { { "granularity", XML_SIZE_POWER, TRUE, DISK (granularity),
                                       .min = POWER_MIN, .max = POWER_MAX },
                                     { NULL } };

    if (!node)
        return TRUE;
    if (disk->granularity != 0)
        return xml_error (
            node, error,
            _("not accepted beside granularity= of the disk: expected one of the two"));
    return xml_check_empty (node, error) && xml_read_attrs (node, attrs, _("here"), disk, error);
}

static gboolean read_disk (const xmlNode *node, CheckpointDiskDef *disk, GError **error)
{
    static const char *const names[] = { "bitmap", NULL }, *const none[] = { NULL };
    g_autofree char *checkpoint = xml_get (node, "checkpoint");
    gboolean excluded = g_strcmp0 (checkpoint, "no") == 0;
    const char *where = excluded ? _("with checkpoint='no'") : _("here");

    disk->line = xml_line (node);
    return xml_read_attrs (node, excluded ? disk_no_attrs : disk_attrs, where, disk, error)
           && xml_check_children (node, excluded ? none : names, where, error)
           && read_bitmap (xml_child (node, "bitmap"), disk, error);
}

/* A bitmap bears the name of its checkpoint. */
static gboolean check_disk (const xmlNode *node, const CheckpointDef *def,
                            const CheckpointDiskDef *disk, GHashTable *lines, GError **error)
{
    guint first = GPOINTER_TO_UINT (g_hash_table_lookup (lines, disk->name));

    if (g_hash_table_contains (lines, disk->name))
        return xml_error (node, error,
                          _("the disk is given twice, first in line %u; expected another one"),
                          first);
    g_hash_table_insert (lines, disk->name, GUINT_TO_POINTER (disk->line));
    if (def->name && disk->bitmap && strcmp (def->name, disk->bitmap) != 0)
        return xml_error_value (node, "bitmap", disk->bitmap, error,
                                _("expected '%s', the name of the checkpoint"), def->name);
    return TRUE;
}

static gboolean read_disks (const xmlNode *node, CheckpointDef *def, GError **error)
{
    static const char *const names[] = { "disk*", NULL };
    static const XmlAttr no_attributes[] = { { NULL } };
    g_autoptr (GHashTable) lines = g_hash_table_new (g_str_hash, g_str_equal);

    if (!node)
        return TRUE;
    if (!xml_read_attrs (node, no_attributes, _("here"), NULL, error)
        || !xml_check_children (node, names, _("here"), error))
        return FALSE;
    if (!xml_child (node, "disk"))
        return xml_error (node, error,
                          _("expected at least one <disk>, or no <disks> for every disk"));
    def->has_disks = TRUE;
    for (const xmlNode *child = xml_child (node, "disk"); child; child = xml_next (child, "disk")) {
        CheckpointDiskDef *disk = checkpoint_disk_def_new (NULL);
        g_ptr_array_add (def->disks, disk);
        if (!read_disk (child, disk, error) || !check_disk (child, def, disk, lines, error))
            return FALSE;
    }
    return TRUE;
}

static const XmlAttr name_row = { "name", XML_NAME, TRUE, offsetof (CheckpointDef, name) };
static const XmlAttr parent_row = { "name", XML_NAME, TRUE, offsetof (CheckpointDef, parent) };
static const XmlAttr time_row = { "creationTime", XML_LONG, TRUE,
                                  offsetof (CheckpointDef, creation_time) };

static gboolean read_parent (const xmlNode *node, CheckpointDef *def, GError **error)
{
    static const char *const names[] = { "name", NULL };
    static const XmlAttr no_attributes[] = { { NULL } };

    if (!node)
        return TRUE;
    if (!xml_read_attrs (node, no_attributes, _("here"), NULL, error)
        || !xml_check_children (node, names, _("here"), error))
        return FALSE;
    const xmlNode *name = xml_child (node, "name");
    return name
               ? xml_read_text_as (name, &parent_row, def, error)
               : xml_error (node, error, _("<name> is missing: expected the parent's name in it"));
}

/* The guest's own document: two elements of it are of interest, the rest is not ours to judge. */
static gboolean read_domain (const xmlNode *node, CheckpointDef *def, GError **error)
{
    static const XmlAttr name = { "name", XML_PLAIN, TRUE, offsetof (CheckpointDef, domain_name),
                                  .max = 1024 };
    static const XmlAttr uuid = { "uuid", XML_UUID, TRUE, offsetof (CheckpointDef, domain_uuid) };
    const xmlNode *name_node = node ? xml_child (node, "name") : NULL,
                  *uuid_node = node ? xml_child (node, "uuid") : NULL;

    return (!name_node || xml_read_text_as (name_node, &name, def, error))
           && (!uuid_node || xml_read_text_as (uuid_node, &uuid, def, error));
}

/* What redefine brings back; otherwise checked, and then forgotten. */
static gboolean read_history (const xmlNode *root, CheckpointParseFlags flags, CheckpointDef *def,
                              GError **error)
{
    g_autoptr (CheckpointDef) scrap = checkpoint_def_new ();
    gboolean redefine = (flags & CHECKPOINT_PARSE_REDEFINE) != 0;
    CheckpointDef *into = redefine ? def : scrap;
    const xmlNode *time = xml_child (root, "creationTime");

    if (!read_parent (xml_child (root, "parent"), into, error)
        || (time && !xml_read_text_as (time, &time_row, into, error)))
        return FALSE;
    if (!redefine)
        return TRUE;
    if (!def->name)
        return xml_error (root, error,
                          _("<name> is missing: redefining a checkpoint expects its name"));
    if (def->creation_time == 0)
        return xml_error (root, error,
                          _("<creationTime> is missing: redefining a checkpoint expects the time "
                             "of its creation in seconds"));
    if (g_strcmp0 (def->parent, def->name) == 0)
        return xml_error (root, error,
                          _("checkpoint '%s' is its own parent; expected another one"), def->name);
    return read_domain (xml_child (root, "domain"), def, error);
}

static gboolean read_description (const xmlNode *node, CheckpointDef *def, GError **error)
{
    return !node || xml_read_text (node, &def->description, error);
}

CheckpointDef *checkpoint_def_parse (const char *xml, CheckpointParseFlags flags, GError **error)
{
    static const char *const names[] = { "name",  "description", "parent", "creationTime",
                                         "disks", "domain",      NULL };
    static const XmlAttr no_attributes[] = { { NULL } };
    g_autoptr (xmlDoc) doc = xml_read (xml, "domaincheckpoint", error);
    g_autoptr (CheckpointDef) def = checkpoint_def_new ();

    if (!doc)
        return NULL;
    const xmlNode *root = xml_root (doc), *name = xml_child (root, "name");
    if (!xml_read_attrs (root, no_attributes, _("here"), NULL, error)
        || !xml_check_children (root, names, _("here"), error)
        || (name && !xml_read_text_as (name, &name_row, def, error))
        || !read_description (xml_child (root, "description"), def, error)
        || !read_history (root, flags, def, error)
        || !read_disks (xml_child (root, "disks"), def, error))
        return NULL;
    return g_steal_pointer (&def);
}

/* Writing */

static void write_disk (XmlWriter *writer, const CheckpointDef *def, const CheckpointDiskDef *disk,
                        gboolean size)
{
    gboolean excluded = disk->checkpoint == TRISTATE_NO;

    xml_start (writer, "disk");
    xml_attrs (writer, disk_no_attrs, disk);
    if (!excluded) {
        xml_attr (writer, "bitmap", disk->bitmap);
        if (size && disk->has_size)
            xml_attr_uint (writer, "size", disk->size);
        if (disk->persistent != TRISTATE_ABSENT)
            xml_attr (writer, "persistent", words_yes_no[disk->persistent - TRISTATE_YES]);
        if (disk->granularity != 0)
            xml_attr_uint (writer, "granularity", disk->granularity);
    }
    xml_end (writer, "disk");
}

static void write_domain (XmlWriter *writer, const CheckpointDef *def, const char *domain_xml)
{
    if (domain_xml) {
        xml_raw (writer, domain_xml);
    } else if (def->domain_name || def->domain_uuid) {
        xml_start (writer, "domain");
        xml_text (writer, "name", def->domain_name);
        xml_text (writer, "uuid", def->domain_uuid);
        xml_end (writer, "domain");
    }
}

static void write_history (XmlWriter *writer, const CheckpointDef *def)
{
    if (def->parent) {
        xml_start (writer, "parent");
        xml_text (writer, "name", def->parent);
        xml_end (writer, "parent");
    }
    if (def->creation_time > 0) {
        g_autofree char *seconds = g_strdup_printf ("%" G_GINT64_FORMAT, def->creation_time);
        xml_text (writer, "creationTime", seconds);
    }
}

char *checkpoint_def_format (const CheckpointDef *def, const char *domain_xml,
                             CheckpointFormatFlags flags)
{
    XmlWriter writer;

    xml_writer_init (&writer);
    xml_start (&writer, "domaincheckpoint");
    xml_text (&writer, "name", def->name);
    xml_text (&writer, "description", def->description);
    write_history (&writer, def);
    if (def->disks->len > 0) {
        xml_start (&writer, "disks");
        for (guint i = 0; i < def->disks->len; i++)
            write_disk (&writer, def, def->disks->pdata[i], (flags & CHECKPOINT_FORMAT_SIZE) != 0);
        xml_end (&writer, "disks");
    }
    if (!(flags & CHECKPOINT_FORMAT_NO_DOMAIN))
        write_domain (&writer, def, domain_xml);
    xml_end (&writer, "domaincheckpoint");
    return xml_writer_finish (&writer);
}
