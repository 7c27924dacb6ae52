#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include <libxml/parser.h>
#include "driver/libvirt/picture.h"

enum { XML_MAX = 16 * 1024 * 1024, CHAIN_MAX = 1024 };

/* ---- libxml2, as GLib strings ---- */

typedef xmlDoc XmlDoc;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (XmlDoc, xmlFreeDoc)

static xmlDoc *parse (const char *xml, const char *root, GError **error)
{
    gsize length = xml ? strlen (xml) : 0;
    xmlDoc *doc = length && length < XML_MAX
                      ? xmlReadMemory (xml, length, NULL, NULL,
                                       XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)
                      : NULL;
    xmlNode *node = doc ? xmlDocGetRootElement (doc) : NULL;
    if (node && xmlStrEqual (node->name, BAD_CAST root))
        return doc;
    xmlFreeDoc (doc);
    error_set (error, BAK_ERROR_INTERNAL, _("libvirt's <%s> is not XML that can be read"), root);
    return NULL;
}

static xmlNode *next_named (xmlNode *node, const char *name)
{
    while (node && (node->type != XML_ELEMENT_NODE || !xmlStrEqual (node->name, BAD_CAST name)))
        node = node->next;
    return node;
}

static xmlNode *child (const xmlNode *node, const char *name)
{
    return node ? next_named (node->children, name) : NULL;
}

#define FOR_EACH(node, parent, name)                                                               \
    for (xmlNode *node = child (parent, name); node; node = next_named (node->next, name))

static char *attribute (xmlNode *node, const char *name)
{
    xmlChar *value = node ? xmlGetNoNsProp (node, BAD_CAST name) : NULL;
    char *copy = value ? g_strdup ((char *) value) : NULL;
    xmlFree (value);
    return copy;
}

static gboolean attribute_is (xmlNode *node, const char *name, const char *wanted)
{
    g_autofree char *value = attribute (node, name);
    return g_strcmp0 (value, wanted) == 0;
}

static char *text (xmlNode *node)
{
    xmlChar *value = node ? xmlNodeGetContent (node) : NULL;
    char *copy = value ? g_strdup ((char *) value) : NULL;
    xmlFree (value);
    return copy;
}

static guint64 number (const char *value)
{
    return value ? g_ascii_strtoull (value, NULL, 10) : 0;
}

/* ---- disks ---- */

static void lv_disk_free (LvDisk *disk)
{
    g_free (disk->target);
    g_ptr_array_unref (disk->names);
    g_free (disk->type);
    g_free (disk->device);
    g_free (disk->format);
    g_free (disk->source);
    g_free (disk->bus);
    g_free (disk->iothread);
    g_free (disk->alias);
    g_ptr_array_unref (disk->chain);
    g_free (disk);
}

/* A path, or what stands for it. NULL: there is no medium. */
static char *source_of (xmlNode *source, const char *type)
{
    if (!source)
        return NULL;
    static const struct {
        const char *type, *attribute;
    } places[] = { { "file", "file" }, { "block", "dev" }, { "dir", "dir" } };
    for (guint i = 0; i < G_N_ELEMENTS (places); i++)
        if (g_strcmp0 (type, places[i].type) == 0)
            return attribute (source, places[i].attribute);
    if (g_strcmp0 (type, "network") == 0) {
        g_autofree char *protocol = attribute (source, "protocol"),
                        *name = attribute (source, "name");
        return g_strdup_printf ("%s:%s", protocol ? protocol : "?", name ? name : "");
    }
    if (g_strcmp0 (type, "volume") == 0) {
        g_autofree char *pool = attribute (source, "pool"), *volume = attribute (source, "volume");
        return g_strdup_printf ("%s/%s", pool ? pool : "?", volume ? volume : "?");
    }
    return g_strdup (type ? type : "?");
}

static void add_chain (LvDisk *disk, xmlNode *element)
{
    xmlNode *layer = element;
    for (guint depth = 0; layer && depth < CHAIN_MAX;
         depth++, layer = child (layer, "backingStore")) {
        g_autofree char *type = attribute (layer, "type");
        g_autofree char *path = source_of (child (layer, "source"), type);
        if (!path)
            break; /* <backingStore/>: the end of the chain */
        gboolean plain = g_strcmp0 (type, "file") == 0 || g_strcmp0 (type, "block") == 0;
        g_ptr_array_add (disk->chain, g_strdup (plain ? path : ""));
    }
}

static LvDisk *parse_disk (xmlNode *element)
{
    xmlNode *target = child (element, "target"), *driver = child (element, "driver"),
            *alias = child (element, "alias");
    LvDisk *disk = g_new0 (LvDisk, 1);

    disk->names = g_ptr_array_new_with_free_func (g_free);
    disk->chain = g_ptr_array_new_with_free_func (g_free);
    disk->target = attribute (target, "dev");
    if (!disk->target)
        disk->target = g_strdup ("");
    disk->type = attribute (element, "type");
    disk->device = attribute (element, "device");
    if (!disk->device)
        disk->device = g_strdup ("disk");
    disk->format = attribute (driver, "type");
    if (!disk->format)
        disk->format = g_strdup ("raw");
    disk->iothread = attribute (driver, "iothread");
    disk->bus = attribute (target, "bus");
    disk->alias = attribute (alias, "name");
    disk->source = source_of (child (element, "source"), disk->type);
    disk->empty = !disk->source || !*disk->source;
    if (!disk->source)
        disk->source = g_strdup ("");
    disk->readonly = child (element, "readonly") != NULL || g_str_equal (disk->device, "cdrom");
    disk->transient = child (element, "transient") != NULL;
    g_ptr_array_add (disk->names, g_strdup (disk->target));
    if (disk->alias)
        g_ptr_array_add (disk->names, g_strdup (disk->alias));
    if (!disk->empty)
        g_ptr_array_add (disk->names, g_strdup (disk->source));
    add_chain (disk, element);
    return disk;
}

const char *lv_disk_excluded (const LvDisk *disk)
{
    if (disk->empty)
        return _("is an empty drive");
    if (g_str_equal (disk->device, "cdrom"))
        return _("is a CD-ROM");
    if (g_str_equal (disk->device, "floppy"))
        return _("is a floppy disk");
    if (disk->readonly)
        return _("is read-only");
    return NULL;
}

const LvDisk *lv_picture_disk (const LvPicture *picture, const char *name, GError **error)
{
    g_autoptr (GString) known = g_string_new (NULL);
    for (guint i = 0; i < picture->disks->len; i++) {
        const LvDisk *disk = picture->disks->pdata[i];
        for (guint k = 0; k < disk->names->len; k++)
            if (g_str_equal (disk->names->pdata[k], name))
                return disk;
        g_string_append_printf (known, "%s%s", known->len ? ", " : "", disk->target);
    }
    g_autofree char *shown = text_sanitize (name, 256);
    error_set (error, BAK_ERROR_NO_DISK, _("guest '%s' has no disk '%s'; it has: %s"),
               picture->name, shown, known->str);
    return NULL;
}

/* ---- the domain ---- */

static guint64 kibibytes (xmlNode *node)
{
    g_autofree char *value = text (node), *unit = attribute (node, "unit");
    if (unit && !g_str_equal (unit, "KiB"))
        return 0; /* libvirt prints KiB */
    return number (value) * 1024;
}

/* <seclabel model='dac'><label>+64055:+64055</label>: who QEMU is. */
static void parse_owner (LvPicture *picture, xmlNode *root)
{
    FOR_EACH (label, root, "seclabel")
    {
        g_autofree char *value = text (child (label, "label"));
        guint uid, gid;
        if (attribute_is (label, "model", "dac") && value
            && sscanf (value, "+%u:+%u", &uid, &gid) == 2) {
            picture->has_owner = TRUE;
            picture->uid = uid;
            picture->gid = gid;
        }
    }
}

static gboolean has_agent (xmlNode *devices)
{
    FOR_EACH (channel, devices, "channel")
    {
        xmlNode *target = child (channel, "target");
        if (attribute_is (target, "name", "org.qemu.guest_agent.0"))
            return TRUE;
    }
    return FALSE;
}

LvPicture *lv_picture_parse (const char *domain_xml, GError **error)
{
    g_autoptr (XmlDoc) doc = parse (domain_xml, "domain", error);
    if (!doc)
        return NULL;
    xmlNode *root = xmlDocGetRootElement (doc), *devices = child (root, "devices");
    LvPicture *picture = g_new0 (LvPicture, 1);
    g_autofree char *id = attribute (root, "id"), *cpus = text (child (root, "vcpu"));

    picture->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) lv_disk_free);
    picture->name = text (child (root, "name"));
    if (!picture->name)
        picture->name = g_strdup ("");
    picture->uuid = text (child (root, "uuid"));
    if (!picture->uuid)
        picture->uuid = g_strdup ("");
    picture->id = id ? (int) number (id) : -1;
    picture->active = id != NULL;
    picture->max_memory = kibibytes (child (root, "memory"));
    picture->memory = kibibytes (child (root, "currentMemory"));
    picture->cpus = number (cpus);
    picture->agent = has_agent (devices);
    parse_owner (picture, root);
    FOR_EACH (disk, devices, "disk")
    if (picture->disks->len < BAK_DISKS_MAX)
        g_ptr_array_add (picture->disks, parse_disk (disk));
    return picture;
}

void lv_picture_free (LvPicture *picture)
{
    if (!picture)
        return;
    g_free (picture->name);
    g_free (picture->uuid);
    g_ptr_array_unref (picture->disks);
    g_free (picture);
}

/* ---- checkpoints ---- */

static void lv_checkpoint_disk_free (LvCheckpointDisk *disk)
{
    g_free (disk->disk);
    g_free (disk->bitmap);
    g_free (disk);
}

LvCheckpoint *lv_checkpoint_parse (const char *xml, GError **error)
{
    g_autoptr (XmlDoc) doc = parse (xml, "domaincheckpoint", error);
    if (!doc)
        return NULL;
    xmlNode *root = xmlDocGetRootElement (doc);
    LvCheckpoint *checkpoint = g_new0 (LvCheckpoint, 1);
    g_autofree char *created = text (child (root, "creationTime"));

    checkpoint->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) lv_checkpoint_disk_free);
    checkpoint->sources = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    checkpoint->name = text (child (root, "name"));
    if (!checkpoint->name)
        checkpoint->name = g_strdup ("");
    checkpoint->parent = text (child (child (root, "parent"), "name"));
    checkpoint->description = text (child (root, "description"));
    checkpoint->created = number (created);
    FOR_EACH (element, child (root, "disks"), "disk")
    {
        g_autofree char *target = attribute (element, "name"), *size = attribute (element, "size");
        if (!target || !attribute_is (element, "checkpoint", "bitmap"))
            continue;
        LvCheckpointDisk *disk = g_new0 (LvCheckpointDisk, 1);
        disk->disk = g_steal_pointer (&target);
        disk->bitmap = attribute (element, "bitmap");
        disk->has_size = size != NULL;
        disk->size = number (size);
        g_ptr_array_add (checkpoint->disks, disk);
    }
    FOR_EACH (element, child (child (root, "domain"), "devices"), "disk")
    {
        g_autofree char *type = attribute (element, "type");
        char *target = attribute (child (element, "target"), "dev"),
             *source = source_of (child (element, "source"), type);
        if (target && source)
            g_hash_table_replace (checkpoint->sources, g_steal_pointer (&target),
                                  g_steal_pointer (&source));
        g_free (target);
        g_free (source);
    }
    return checkpoint;
}

guint64 lv_size_in_picture (const char *name, gconstpointer picture)
{
    const LvDisk *disk = lv_picture_disk (picture, name, NULL);
    return disk ? disk->capacity : 0;
}

void lv_checkpoint_free_parsed (LvCheckpoint *checkpoint)
{
    if (!checkpoint)
        return;
    g_free (checkpoint->name);
    g_free (checkpoint->parent);
    g_free (checkpoint->description);
    g_free (checkpoint->doubt);
    g_ptr_array_unref (checkpoint->disks);
    g_hash_table_unref (checkpoint->sources);
    g_free (checkpoint);
}

const LvCheckpointDisk *lv_checkpoint_disk (const LvCheckpoint *checkpoint, const char *target)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const LvCheckpointDisk *disk = checkpoint->disks->pdata[i];
        if (g_str_equal (disk->disk, target))
            return disk;
    }
    return NULL;
}

/* ---- a running backup ---- */

LvRunning *lv_running_parse (const char *xml, GError **error)
{
    g_autoptr (XmlDoc) doc = parse (xml, "domainbackup", error);
    if (!doc)
        return NULL;
    xmlNode *root = xmlDocGetRootElement (doc);
    LvRunning *running = g_new0 (LvRunning, 1);

    running->pull = attribute_is (root, "mode", "pull");
    running->indexes = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    running->paths = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    FOR_EACH (disk, child (root, "disks"), "disk")
    {
        g_autofree char *name = attribute (disk, "name"), *index = attribute (disk, "index"),
                        *type = attribute (disk, "type");
        xmlNode *store = child (disk, running->pull ? "scratch" : "target");
        g_autofree char *path = source_of (store, type ? type : "file");
        if (!name || attribute_is (disk, "backup", "no"))
            continue;
        if (index)
            g_hash_table_replace (running->indexes, g_strdup (name),
                                  GUINT_TO_POINTER ((guint) number (index)));
        g_hash_table_replace (running->paths, g_strdup (name), g_strdup (path ? path : ""));
    }
    return running;
}

void lv_running_free (LvRunning *running)
{
    if (!running)
        return;
    g_hash_table_unref (running->indexes);
    g_hash_table_unref (running->paths);
    g_free (running);
}

/* ---- asking ---- */

gboolean lv_disk_sizes (virDomainPtr domain, LvDisk *disk)
{
    virDomainBlockInfo info;
    if (disk->empty || virDomainGetBlockInfo (domain, disk->target, &info, 0) != 0)
        return FALSE;
    disk->capacity = info.capacity;
    disk->allocation = info.allocation;
    disk->physical = info.physical;
    return TRUE;
}

LvPicture *lv_picture_load (virDomainPtr domain, gboolean sizes, GError **error)
{
    char *xml = virDomainGetXMLDesc (domain, 0);
    if (!xml) {
        lv_error (error);
        return NULL;
    }
    LvPicture *picture = lv_picture_parse (xml, error);
    free (xml);
    if (!picture)
        return NULL;
    picture->persistent = virDomainIsPersistent (domain) == 1;
    for (guint i = 0; sizes && i < picture->disks->len; i++) {
        LvDisk *disk = picture->disks->pdata[i];
        if (!lv_disk_sizes (domain, disk) && !disk->empty
            && virGetLastErrorCode () == VIR_ERR_OPERATION_TIMEOUT)
            break; /* QEMU hangs: each disk would take as long again */
    }
    return picture;
}

GPtrArray *lv_checkpoint_names (virDomainPtr domain, GError **error)
{
    virDomainCheckpointPtr *checkpoints = NULL;
    int count =
        virDomainListAllCheckpoints (domain, &checkpoints, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);

    if (count < 0 && virGetLastErrorCode () != VIR_ERR_NO_SUPPORT) {
        lv_error (error);
        g_ptr_array_unref (names);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        g_ptr_array_add (names, g_strdup (virDomainCheckpointGetName (checkpoints[i])));
        virDomainCheckpointFree (checkpoints[i]);
    }
    free (checkpoints);
    return names;
}
