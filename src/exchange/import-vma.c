/* A VMA archive: in one pass, whatever its order, into files that nobody sees; nothing is made of
 * it before its last cluster is there. What a manifest or a file beside it says of its hashes is
 * held against it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "exchange/import.h"
#include "exchange/proxmox.h"
#include "exchange/unpack.h"
#include "exchange/vma.h"
#include "repository/fields.h"
#include "util/files.h"

enum { VARIABLES_MAX = 64 * 1024 * 1024 };

typedef struct {
    Import *import;
    Input *input;
    ImportPoint *point;
    Manifest *manifest; /* of ours that stands in it; NULL: none */
    int fds[VMA_DEVICES + 1];
    guint variables; /* device of the UEFI variables; 0: none */
    guint64 variables_size;
} Archive;

static gssize read_input (gpointer buffer, gsize length, gpointer user, GError **error)
{
    return input_read (((Archive *) user)->input, buffer, length, error);
}

static const VmaConfig *find_config (const VmaHeader *header, const char *name)
{
    for (guint i = 0; i < header->configs->len; i++) {
        const VmaConfig *config = header->configs->pdata[i];
        if (g_str_equal (config->name, name))
            return config;
    }
    return NULL;
}

/* The guest's name and uuid, by whoever knows them best. */
static gboolean choose_guest (Archive *archive, const VmaHeader *header, GError **error)
{
    const VmaConfig *xml = find_config (header, "domain.xml"),
                    *conf = find_config (header, "qemu-server.conf");
    g_autofree char *name = NULL, *uuid = NULL;
    if (archive->manifest)
        return import_choose_guest (archive->import, archive->manifest->guest_name,
                                    archive->manifest->guest_uuid, error);
    if (xml)
        import_read_definition ((char *) xml->data, xml->length, &name, &uuid);
    if (!name && conf)
        name = proxmox_config_get ((char *) conf->data, conf->length, "name");
    return import_choose_guest (archive->import, name, uuid, error);
}

static void take_said (Archive *archive, const VmaHeader *header)
{
    Manifest *said = archive->point->said, *manifest = archive->manifest;
    said->instant = header->ctime > 0 && header->ctime < G_MAXINT64 / G_USEC_PER_SEC
                        ? header->ctime * G_USEC_PER_SEC
                        : 0;
    if (!manifest)
        return;
    said->instant = manifest->instant;
    said->timezone = g_strdup (manifest->timezone);
    said->consistency = g_strdup (manifest->consistency);
    said->frozen_ms = manifest->frozen_ms;
    said->host = g_strdup (manifest->host);
    said->qemu = g_strdup (manifest->qemu);
    for (guint i = 0; i < manifest->warnings->len; i++)
        g_ptr_array_add (said->warnings, g_strdup (manifest->warnings->pdata[i]));
}

/* Our manifest has one row for each disk, in the order of the devices. */
static const ManifestDisk *row_of (const Archive *archive, const VmaDevice *device, GError **error)
{
    guint index = archive->point->disks->len;
    const ManifestDisk *row =
        index < archive->manifest->disks->len ? archive->manifest->disks->pdata[index] : NULL;
    if (row && row->size == device->size)
        return row;
    error_set (error, BAK_ERROR_INEXACT, _("the manifest in it does not fit device '%s'"),
               device->name);
    return NULL;
}

static gboolean add_device (Archive *archive, const VmaHeader *header, guint number, GError **error)
{
    const VmaDevice *device = &header->devices[number];
    g_autofree char *slot = proxmox_slot (device->name), *path = NULL;
    const ManifestDisk *row = NULL;
    ImportDisk *disk;
    if ((archive->fds[number] = import_scratch (archive->import, device->size, error)) < 0)
        return FALSE;
    if (g_str_equal (slot, "efidisk0") && device->size <= VARIABLES_MAX) {
        archive->variables = number;
        archive->variables_size = device->size;
        return TRUE;
    }
    if (archive->manifest && !(row = row_of (archive, device, error)))
        return FALSE;
    disk = import_point_add_disk (archive->point, row ? row->target : slot, device->size, error);
    if (!disk)
        return FALSE;
    path = import_scratch_path (archive->fds[number]);
    import_disk_add_layer (disk, path, "raw");
    disk->root = g_strdup (row && !archive->manifest->encrypted ? row->root : NULL);
    return TRUE;
}

static gboolean begin (const VmaHeader *header, gpointer user, GError **error)
{
    Archive *archive = user;
    const VmaConfig *manifest = find_config (header, "manifest.json");
    if (manifest
        && !(archive->manifest = manifest_parse ((char *) manifest->data, manifest->length, error)))
        return FALSE;
    if (!choose_guest (archive, header, error))
        return FALSE;
    take_said (archive, header);
    for (guint i = 0; i < header->configs->len; i++) {
        const VmaConfig *config = header->configs->pdata[i];
        import_point_add_file (archive->point, config->name, (char *) config->data, config->length);
    }
    for (guint i = 1; i <= VMA_DEVICES; i++)
        if (header->devices[i].name && !add_device (archive, header, i, error))
            return FALSE;
    return !archive->manifest || archive->point->disks->len == archive->manifest->disks->len
           || error_set (error, BAK_ERROR_INEXACT, _("the manifest in it names more disks"));
}

static gboolean data (guint device, guint64 offset, const guchar *bytes, gsize length,
                      gpointer user, GError **error)
{
    int fd = ((Archive *) user)->fds[device];
    while (length > 0) {
        ssize_t n = pwrite (fd, bytes, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO,
                                    _("cannot write to the repository"));
        bytes += n;
        offset += n;
        length -= n;
    }
    return TRUE;
}

static gboolean progress (guint64 done, guint64 total, gpointer user, GError **error)
{
    Import *import = ((Archive *) user)->import;
    import->work.phase = "unpack";
    import->work.disk = NULL;
    import->work.total = total * VMA_CLUSTER;
    work_progress (done * VMA_CLUSTER, import->work.total, &import->work);
    return import_check_cancelled (import, error);
}

/* The hash that an export of ours left beside its file. */
static gboolean check_beside (Archive *archive, GError **error)
{
    g_autofree char *name = g_strconcat (archive->import->path, PROXMOX_SIDE_SUFFIX, NULL);
    g_autofree char *text = NULL;
    gsize size;
    JsonObject *object;
    LeafHash hash;
    char hex[LEAF_HEX_SIZE];
    guint64 length;
    if (g_str_equal (archive->import->path, "-") || !g_file_test (name, G_FILE_TEST_EXISTS))
        return TRUE;
    if (!files_read (name, 0, &text, &size, error))
        return FALSE;
    g_autoptr (JsonNode) node = json_read_object (text, size, &object, error);
    if (!node)
        return error_note (error, "'%s'", name);
    Fields fields = { name, error, FALSE };
    g_autofree char *wanted = fields_hash (&fields, object, "sha256", FIELD_REQUIRED);
    guint64 bytes = fields_number (&fields, object, "size", G_MAXINT64, FIELD_REQUIRED);
    if (fields.failed)
        return FALSE;
    input_digest (archive->input, &hash, &length);
    leaf_to_hex (&hash, hex);
    return (length == bytes && g_str_equal (wanted, hex))
           || error_set (error, BAK_ERROR_INEXACT, _("it is not what '%s' says: its hash differs"),
                         name);
}

static gboolean take_variables (Archive *archive, GError **error)
{
    g_autofree char *path = import_scratch_path (archive->fds[archive->variables]);
    g_autofree char *text = NULL;
    gsize length;
    if (!files_read (path, VARIABLES_MAX + 1, &text, &length, error))
        return FALSE;
    import_point_add_file (archive->point, "nvram", text, length);
    return TRUE;
}

static gboolean run (Archive *archive, GError **error)
{
    static const VmaHandler handler = { read_input, begin, data, progress };
    return vma_read (&handler, archive, error) && check_beside (archive, error)
           && (!archive->variables || take_variables (archive, error))
           && import_publish (archive->import, archive->point, error);
}

gboolean import_vma (Import *import, GError **error)
{
    g_autoptr (Input) input = input_open (import->path, error);
    g_autoptr (ImportPoint) point = import_point_new ();
    Archive archive = { .import = import, .input = input, .point = point };
    if (!input)
        return FALSE;
    memset (archive.fds, 0xff, sizeof archive.fds);
    gboolean ok = run (&archive, error);
    for (guint i = 1; i <= VMA_DEVICES; i++)
        if (archive.fds[i] >= 0)
            close (archive.fds[i]);
    g_clear_pointer (&archive.manifest, manifest_free);
    return ok;
}
