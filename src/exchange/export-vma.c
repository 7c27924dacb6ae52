/* A VMA archive that Proxmox restores: a configuration for its qemu-server, the guest's own
 * definition, and the manifest of the point, by which a later import is proved. uuid and order are
 * fixed, so that two archives of a guest differ only in the header and where the guest changed. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/format.h"
#include "exchange/proxmox.h"
#include "exchange/vma.h"
#include "repository/stored-file.h"
#include "util/files.h"
#include "util/json.h"

enum {
    HEADER_ROUND = 65536, /* a header that grows a little moves nothing */
    VARIABLES_MAX = 64 * 1024 * 1024,
};

typedef struct {
    VmaHeader *header;
    VmaWriter *writer;
    guint devices[VMA_DEVICES + 1]; /* of the disk of this number */
    guint variables;                /* the device of the UEFI variables; 0: none */
    char *nvram;
    gsize nvram_length;
} VmaState;

/* What the point has beside its disks, as far as it fits. */
static gboolean take_files (Export *export, VmaState *state, char **ret_xml, GError **error)
{
    const GPtrArray *files = export->point->manifest->files;
    for (guint i = 0; i < files->len; i++) {
        const ManifestFile *file = files->pdata[i];
        g_autofree char *data = NULL;
        gsize length;
        if (g_str_equal (file->name, "README"))
            continue;
        if (!stored_file_read (export->point, file, &data, &length, error))
            return FALSE;
        if (g_str_equal (file->name, "nvram")) {
            state->nvram = g_steal_pointer (&data);
            state->nvram_length = length;
            continue;
        }
        if (length > 0 && length <= VMA_BLOB_MAX && state->header->configs->len < VMA_CONFIGS - 2)
            vma_header_add_config (state->header, file->name, data, length);
        if (g_str_equal (file->name, "domain.xml"))
            *ret_xml = g_steal_pointer (&data);
    }
    return TRUE;
}

/* Of the disks that are in the archive. */
static void add_manifest (const Export *export, VmaState *state)
{
    g_autofree char *all = manifest_format (export->point->manifest);
    g_autoptr (Manifest) manifest = manifest_parse (all, strlen (all), NULL);
    const char *const *targets = (const char *const *) export->targets->pdata;
    for (guint i = 0; manifest && i < manifest->disks->len;) {
        if (g_strv_contains (targets, ((ManifestDisk *) manifest->disks->pdata[i])->target))
            i++;
        else
            g_ptr_array_remove_index (manifest->disks, i);
    }
    g_autofree char *text = manifest ? manifest_format (manifest) : NULL;
    if (text && strlen (text) <= VMA_BLOB_MAX)
        vma_header_add_config (state->header, "manifest.json", text, strlen (text));
}

/* The guest's, which every archive of it has. */
static void set_uuid (const Export *export, VmaHeader *header)
{
    const char *text = export->point->manifest->guest_uuid;
    guint digits = 0;
    for (; *text && digits < 32; text++) {
        int digit = g_ascii_xdigit_value (*text);
        if (digit < 0)
            continue;
        header->uuid[digits / 2] |= digits % 2 ? digit : digit << 4;
        digits++;
    }
}

static gboolean add_devices (Export *export, VmaState *state, const ProxmoxNames *names,
                             GError **error)
{
    if (export->targets->len - 1 > VMA_DEVICES - 1)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a VMA archive holds at most %d disks"), VMA_DEVICES - 1);
    for (guint i = 0; export->targets->pdata[i]; i++) {
        const ManifestDisk *disk =
            manifest_find_disk (export->point->manifest, export->targets->pdata[i]);
        g_autofree char *name = g_strconcat ("drive-", names->slots->pdata[i], NULL);
        state->devices[i] = vma_header_add_device (state->header, name, disk->size);
    }
    if (state->nvram && state->nvram_length % 512 == 0 && state->nvram_length > 0)
        state->variables =
            vma_header_add_device (state->header, "drive-efidisk0", state->nvram_length);
    return TRUE;
}

static gboolean vma_begin (Export *export, GError **error)
{
    const Manifest *manifest = export->point->manifest;
    VmaState *state = g_new0 (VmaState, 1);
    g_autofree char *xml = NULL;
    export->state = state;
    state->header = vma_header_new ();
    state->header->round = HEADER_ROUND;
    state->header->ctime = manifest->instant / G_USEC_PER_SEC;
    set_uuid (export, state->header);
    g_autoptr (ProxmoxNames) names =
        proxmox_names_new ((const char *const *) export->targets->pdata);
    if (!take_files (export, state, &xml, error) || !add_devices (export, state, names, error))
        return FALSE;
    g_autofree char *config = proxmox_config (manifest, names, xml, state->variables != 0);
    vma_header_add_config (state->header, "qemu-server.conf", config, strlen (config));
    add_manifest (export, state);
    state->writer = vma_writer_new (state->header, output_write, export->output, error);
    return state->writer != NULL;
}

static gboolean vma_chunk (Export *export, const MoverChunk *chunk, GError **error)
{
    VmaState *state = export->state;
    G_STATIC_ASSERT ((int) LEAF_SIZE == (int) VMA_CLUSTER);
    for (guint64 i = 0; i < chunk->count; i++)
        if (!vma_writer_cluster (state->writer, state->devices[export->number], chunk->leaf + i,
                                 chunk->data ? chunk->data + i * LEAF_SIZE : NULL, error))
            return FALSE;
    return TRUE;
}

static gboolean write_variables (VmaState *state, GError **error)
{
    const guchar *data = (const guchar *) state->nvram;
    for (guint64 i = 0; i < vma_clusters (state->nvram_length); i++)
        if (!vma_writer_cluster (state->writer, state->variables, i, data + i * VMA_CLUSTER, error))
            return FALSE;
    return TRUE;
}

static gboolean vma_end (Export *export, GError **error)
{
    VmaState *state = export->state;
    return (!state->variables || write_variables (state, error))
           && vma_writer_end (state->writer, error);
}

/* VMA has no checksum over data: it stands beside the file. */
static gboolean vma_beside (Export *export, GError **error)
{
    const VmaState *state = export->state;
    LeafHash hash;
    char hex[LEAF_HEX_SIZE];
    guint64 length;
    if (!export->path)
        return TRUE;
    output_digest (export->output, &hash, &length);
    leaf_to_hex (&hash, hex);
    JsonObject *object = json_object_new ();
    JsonArray *devices = json_array_new ();
    json_object_set_int_member (object, "size", length);
    json_object_set_string_member (object, "sha256", hex);
    for (guint i = 0; export->targets->pdata[i]; i++) {
        const ManifestDisk *disk =
            manifest_find_disk (export->point->manifest, export->targets->pdata[i]);
        JsonObject *row = json_object_new ();
        json_object_set_string_member (row, "name", state->header->devices[state->devices[i]].name);
        json_object_set_string_member (row, "target", disk->target);
        json_object_set_int_member (row, "size", disk->size);
        json_object_set_string_member (row, "root", disk->root);
        json_array_add_object_element (devices, row);
    }
    json_object_set_array_member (object, "devices", devices);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    g_autofree char *name = g_strconcat (export->path, PROXMOX_SIDE_SUFFIX, NULL);
    return files_write_atomic (name, text, -1, 0600, error);
}

static void vma_free (Export *export)
{
    VmaState *state = export->state;
    if (!state)
        return;
    vma_writer_free (state->writer);
    vma_header_free (state->header);
    g_free (state->nvram);
    g_free (state);
}

const ExportFormat export_vma = { .name = "vma",
                                  .begin = vma_begin,
                                  .chunk = vma_chunk,
                                  .end = vma_end,
                                  .beside = vma_beside,
                                  .free = vma_free };
