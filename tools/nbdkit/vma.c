/* nbdkit's plug-in that writes VMA archives: an NBD server that any QEMU pushes to.
 *
 *   nbdkit -U SOCKET libbackup-vma file=OUT.vma verdict=PATH disk=drive-scsi0:16M [disk=…]
 *          [config=qemu-server.conf]… [uuid=UUID] [time=SECONDS]
 *
 * Each disk is an export of its name; all of them go into one archive, in the order in which they
 * come. What is in a stream cannot be taken back: a cluster comes once, whole, and a failure of the
 * output is the end. Nothing on the wire says that a backup is complete, an aborted one closes its
 * connections as well: who runs the job knows it, makes the file that verdict= names, and ends
 * nbdkit. Only then, and only if no cluster is missing, does the archive get its name. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include "exchange/vma.h"

/* One request at a time, over all exports: they share the writer. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

enum { REQUEST_MAX = 32 * 1024 * 1024 };

static char *path, *part, *verdict;
static int output = -1;
static VmaHeader *header;
static VmaWriter *writer;

/* ---- settings ---- */

static void vma_load (void)
{
    header = vma_header_new ();
    header->ctime = time (NULL);
    for (guint i = 0; i < sizeof header->uuid; i++)
        header->uuid[i] = g_random_int ();
}

static int add_disk (const char *value)
{
    const char *colon = strrchr (value, ':');
    g_autofree char *name = colon ? g_strndup (value, colon - value) : NULL;
    int64_t size = colon ? nbdkit_parse_size (colon + 1) : -1;
    if (!name || size <= 0) {
        nbdkit_error ("disk=%s: it is NAME:SIZE", value);
        return -1;
    }
    for (guint i = 1; i <= VMA_DEVICES; i++)
        if (g_strcmp0 (header->devices[i].name, name) == 0
            || (i == VMA_DEVICES && header->devices[i].name)) {
            nbdkit_error ("disk=%s: the name is taken, or there are more than %d", value,
                          VMA_DEVICES);
            return -1;
        }
    vma_header_add_device (header, name, size);
    return 0;
}

static int add_config (const char *value)
{
    g_autofree char *file = nbdkit_realpath (value), *name = g_path_get_basename (value);
    g_autofree char *data = NULL;
    gsize length;
    g_autoptr (GError) error = NULL;
    if (!file)
        return -1;
    if (!g_file_get_contents (file, &data, &length, &error)) {
        nbdkit_error ("%s", error->message);
        return -1;
    }
    vma_header_add_config (header, name, data, length);
    return 0;
}

static int set_uuid (const char *value)
{
    guint digits = 0;
    guint8 uuid[16] = { 0 };
    for (const char *c = value; *c && g_uuid_string_is_valid (value); c++) {
        int digit = g_ascii_xdigit_value (*c);
        if (digit < 0)
            continue;
        uuid[digits / 2] |= digits % 2 ? digit : digit << 4;
        digits++;
    }
    if (digits != 32) {
        nbdkit_error ("uuid=%s: it is no UUID", value);
        return -1;
    }
    memcpy (header->uuid, uuid, sizeof uuid);
    return 0;
}

static int set_time (const char *value)
{
    return nbdkit_parse_int64_t ("time", value, &header->ctime);
}

static int set_file (const char *value)
{
    g_free (path);
    path = nbdkit_absolute_path (value);
    return path ? 0 : -1;
}

static int set_verdict (const char *value)
{
    g_free (verdict);
    verdict = nbdkit_absolute_path (value);
    return verdict ? 0 : -1;
}

static const struct {
    const char *key;
    int (*take) (const char *value);
} settings[] = { { "file", set_file },     { "verdict", set_verdict }, { "disk", add_disk },
                 { "config", add_config }, { "uuid", set_uuid },       { "time", set_time } };

static int vma_config (const char *key, const char *value)
{
    for (guint i = 0; i < G_N_ELEMENTS (settings); i++)
        if (g_str_equal (settings[i].key, key))
            return settings[i].take (value);
    nbdkit_error ("there is no setting '%s'", key);
    return -1;
}

static int vma_config_complete (void)
{
    if (path && verdict && header->devices[1].name)
        return 0;
    nbdkit_error ("file=, verdict= and at least one disk= are needed");
    return -1;
}

/* ---- the archive ---- */

static gboolean write_output (gconstpointer data, gsize length, gpointer user, GError **error)
{
    const char *at = data;
    while (length > 0) {
        ssize_t n = write (output, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO, "cannot write '%s'", part);
        at += n;
        length -= n;
    }
    return TRUE;
}

/* Tells nbdkit, and the client by errno. */
static int refuse (GError *error)
{
    nbdkit_error ("%s", error->message);
    nbdkit_set_error (g_error_matches (error, BAK_ERROR, BAK_ERROR_NO_SPACE) ? ENOSPC : EIO);
    g_error_free (error);
    return -1;
}

static int vma_get_ready (void)
{
    GError *error = NULL;
    part = g_strconcat (path, ".partial", NULL);
    if (g_file_test (path, G_FILE_TEST_EXISTS) || g_file_test (verdict, G_FILE_TEST_EXISTS)) {
        nbdkit_error ("'%s' or '%s' exists", path, verdict);
        return -1;
    }
    output = open (part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (output < 0) {
        nbdkit_error ("cannot make '%s': %m", part);
        return -1;
    }
    writer = vma_writer_new (header, write_output, NULL, &error);
    return writer ? 0 : refuse (error);
}

/* All connections are closed. */
static void vma_cleanup (void)
{
    g_autoptr (GError) error = NULL;
    gboolean good = writer && g_file_test (verdict, G_FILE_TEST_EXISTS);
    if (!good)
        nbdkit_error ("nobody said that the backup is complete: '%s' is removed", part);
    else if (!vma_writer_end (writer, &error))
        nbdkit_error ("'%s' is removed: %s", part, error->message);
    else if (fsync (output) != 0 || link (part, path) != 0)
        nbdkit_error ("cannot make '%s': %m", path);
}

static void vma_unload (void)
{
    if (output >= 0) {
        close (output);
        unlink (part);
    }
    vma_writer_free (writer);
    vma_header_free (header);
    g_free (path);
    g_free (part);
    g_free (verdict);
}

/* ---- exports ---- */

static int vma_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
    for (guint i = 1; i <= VMA_DEVICES; i++)
        if (header->devices[i].name
            && nbdkit_add_export (exports, header->devices[i].name, NULL) != 0)
            return -1;
    return 0;
}

static const char *vma_default_export (int readonly, int is_tls)
{
    return header->devices[2].name ? NULL : header->devices[1].name;
}

static void *vma_open (int readonly)
{
    const char *name = nbdkit_export_name ();
    for (guint i = 1; name && i <= VMA_DEVICES; i++)
        if (header->devices[i].name
            && (g_str_equal (header->devices[i].name, name)
                || (!*name && !header->devices[2].name)))
            return GUINT_TO_POINTER (i);
    nbdkit_error ("there is no disk '%s'", name ? name : "");
    return NULL;
}

static int64_t vma_get_size (void *handle)
{
    return header->devices[GPOINTER_TO_UINT (handle)].size;
}

/* A smaller maximum would cut QEMU's clusters, a larger minimum would not divide every size. */
static int vma_block_size (void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = 1;
    *preferred = VMA_CLUSTER;
    *maximum = REQUEST_MAX;
    return 0;
}

static int yes (void *handle)
{
    return 1;
}

static int no (void *handle)
{
    return 0;
}

/* Whole clusters, or up to the end. */
static gboolean check_request (guint device, uint32_t count, uint64_t offset)
{
    guint64 size = header->devices[device].size, end = offset + count;
    if (offset % VMA_CLUSTER == 0 && (end % VMA_CLUSTER == 0 || end == size))
        return TRUE;
    nbdkit_error ("a request of %" PRIu32 " bytes at %" PRIu64
                  " is not made of whole clusters of 64 KiB",
                  count, offset);
    nbdkit_set_error (EINVAL);
    return FALSE;
}

static int take (void *handle, const guchar *data, uint32_t count, uint64_t offset)
{
    guint device = GPOINTER_TO_UINT (handle);
    if (!check_request (device, count, offset))
        return -1;
    for (uint64_t done = 0; done < count; done += VMA_CLUSTER) {
        GError *error = NULL;
        if (!vma_writer_cluster (writer, device, (offset + done) / VMA_CLUSTER,
                                 data ? data + done : NULL, &error))
            return refuse (error);
    }
    return 0;
}

static int vma_pwrite (void *handle, const void *buffer, uint32_t count, uint64_t offset,
                       uint32_t flags)
{
    return take (handle, buffer, count, offset);
}

static int vma_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return take (handle, NULL, count, offset);
}

static int vma_pread (void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    nbdkit_error ("an archive is written only");
    nbdkit_set_error (EINVAL);
    return -1;
}

static int vma_flush (void *handle, uint32_t flags)
{
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "libbackup-vma",
    .longname = "libbackup: VMA archives",
    .description = "Several disks into one VMA archive, as a QEMU pushes them",
    .config_help = "file=<OUT.vma>      the archive (required)\n"
                   "verdict=<PATH>      who runs the backup makes this file when it is complete, "
                   "then ends nbdkit (required)\n"
                   "disk=<NAME>:<SIZE>  an export; once for each disk (required)\n"
                   "config=<FILE>       a configuration to put in; may be repeated\n"
                   "uuid=<UUID>         of the archive\n"
                   "time=<SECONDS>      since 1970; default: now",
    .load = vma_load,
    .config = vma_config,
    .config_complete = vma_config_complete,
    .get_ready = vma_get_ready,
    .cleanup = vma_cleanup,
    .unload = vma_unload,
    .list_exports = vma_list_exports,
    .default_export = vma_default_export,
    .open = vma_open,
    .get_size = vma_get_size,
    .block_size = vma_block_size,
    .can_write = yes,
    .can_zero = yes,
    .can_flush = yes,
    .can_trim = no,
    .can_multi_conn = no,
    .pread = vma_pread,
    .pwrite = vma_pwrite,
    .zero = vma_zero,
    .flush = vma_flush,
    .errno_is_preserved = 0,
};

/* the one name that nbdkit looks for */
NBDKIT_DLL_PUBLIC struct nbdkit_plugin *plugin_init (void);

NBDKIT_REGISTER_PLUGIN (plugin)
