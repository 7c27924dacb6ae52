/* What stands in a point beside the disks: the definition, the command line of a guest that has no
 * other, UEFI variables, and a README for the day on which the tool is gone. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include "repository/guest.h"
#include "repository/stored-file.h"
#include "util/files.h"
#include "util/process.h"

enum { VARIABLES_MAX = 64 * 1024 * 1024 };

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDomainDetails, bak_domain_details_unref)

static gboolean add_file (const GuestFiles *to, const char *name, const char *data, gsize length,
                          GError **error)
{
    return stored_file_write (to->repository, to->dir, to->id, name, data, length, to->files,
                              error);
}

static gboolean is_local (BakDomain *domain)
{
    char *uri = bak_connection_get_uri (bak_domain_get_connection (domain), NULL);
    g_autoptr (GUri) parsed = uri ? g_uri_parse (uri, G_URI_FLAGS_NON_DNS, NULL) : NULL;
    const char *host = parsed ? g_uri_get_host (parsed) : NULL;
    gboolean local = parsed && (!host || !*host);
    bak_free (uri);
    return local;
}

/* The words of the command line, one a line. */
static gboolean write_command_line (pid_t pid, const GuestFiles *to, GError **error)
{
    gsize length;
    g_autofree char *line = process_command_line (pid, &length);
    for (gsize i = 0; line && i < length; i++)
        if (line[i] == '\0')
            line[i] = '\n';
    return !line || add_file (to, "qemu.cmdline", line, length, error);
}

/* 0: not to be seen from here. */
static pid_t find_pid (BakDomain *domain)
{
    g_autoptr (BakDomainDetails) details = bak_domain_get_details (domain, 0, NULL);
    return details ? bak_domain_details_get_pid (details) : 0;
}

/* The text of <nvram>; caller frees. */
static char *variables_path (const char *xml)
{
    g_autoptr (GRegex) regex = g_regex_new ("<nvram[^>]*>\\s*([^<]+?)\\s*</nvram>", 0, 0, NULL);
    g_autoptr (GMatchInfo) match = NULL;
    return g_regex_match (regex, xml, 0, &match) ? g_match_info_fetch (match, 1) : NULL;
}

static gboolean write_variables (const char *path, const GuestFiles *to, GPtrArray *warnings,
                                 GError **error)
{
    g_autofree char *data = NULL;
    g_autoptr (GError) why = NULL;
    gsize length;
    if (files_read (path, VARIABLES_MAX, &data, &length, &why))
        return add_file (to, "nvram", data, length, error);
    g_ptr_array_add (warnings, g_strdup_printf (_("the UEFI variables are not in the point: %s"),
                                                why->message));
    return TRUE;
}

gboolean guest_write_files (BakDomain *domain, const GuestFiles *to, GPtrArray *warnings,
                            GError **error)
{
    g_autoptr (GError) why = NULL;
    BakError *public_error = NULL;
    char *xml = bak_domain_get_xml_desc (domain, 0, &public_error);
    gboolean ok = TRUE;
    if (!xml) {
        guest_take_error (public_error, &why);
        g_ptr_array_add (
            warnings, g_strdup_printf (_("the definition is not in the point: %s"), why->message));
        return TRUE;
    }
    g_autofree char *variables = variables_path (xml);
    pid_t pid = is_local (domain) ? find_pid (domain) : 0;
    ok = add_file (to, "domain.xml", xml, strlen (xml), error)
         && (!pid || write_command_line (pid, to, error))
         && (!variables || !is_local (domain) || write_variables (variables, to, warnings, error));
    if (variables && !is_local (domain))
        g_ptr_array_add (warnings, g_strdup (_("the UEFI variables are not in the point: the "
                                                "guest is on another host")));
    if (strstr (xml, "<tpm "))
        g_ptr_array_add (warnings, g_strdup (_("the TPM's state is not in the point: no QEMU "
                                                "tells it")));
    bak_free (xml);
    return ok;
}

static void describe_disk (GString *text, const ManifestDisk *disk, const PlacementDisk *storage)
{
    g_string_append_printf (text, "  %s: %s (%" G_GUINT64_FORMAT " bytes)\n", disk->target,
                            storage->file, disk->size);
    if (storage->backing)
        g_string_append_printf (
            text,
            "      stands on ../%s; storage.json says on what it stands once points are removed\n",
            storage->backing);
    g_string_append_printf (text, "      qemu-img convert -O raw %s /path/to/%s.raw\n",
                            storage->file, disk->target);
}

/* How a key comes in. */
static void describe_key (GString *text, const Placement *storage)
{
    const PlacementDisk *first = storage->disks->len ? storage->disks->pdata[0] : NULL;
    if (first && first->encrypted)
        g_string_append (
            text,
            "\nThe images are encrypted (LUKS in qcow2), the files beside them sealed, all with "
            "the\n"
            "key of the repository, which its pass phrases open: docs/repository.md, \"A key\", "
            "has a\n"
            "script that writes the images' pass phrase to a file. Then, for each image above:\n\n"
            "      qemu-img convert -O raw --object secret,id=k,file=SECRET --image-opts \\\n"
            "        driver=qcow2,encrypt.format=luks,encrypt.key-secret=k,file.filename=IMAGE "
            "OUT\n\n"
            "and for one that stands on others, once more for each: backing.driver=qcow2,\n"
            "backing.encrypt.format=luks,backing.encrypt.key-secret=k,backing.file.filename="
            "BELOW\n");
}

gboolean guest_write_readme (const GuestFiles *to, const Manifest *manifest,
                             const Placement *storage, GError **error)
{
    g_autofree char *name = text_sanitize (manifest->guest_name, 256);
    g_autoptr (GString) text = g_string_new (NULL);
    g_autoptr (GDateTime) time = g_date_time_new_from_unix_utc (manifest->instant / G_USEC_PER_SEC);
    g_autofree char *instant = g_date_time_format_iso8601 (time);
    g_string_append_printf (text,
                            "Restore point %s of guest '%s' (%s) at %s.\n\n"
                            "With libbackup:   baksh point-restore %s --target DIRECTORY\n"
                            "Without it, in this directory, with QEMU's own tool:\n\n",
                            manifest->id, name, manifest->guest_uuid, instant, manifest->id);
    for (guint i = 0; i < manifest->disks->len; i++)
        describe_disk (text, manifest->disks->pdata[i], storage->disks->pdata[i]);
    describe_key (text, storage);
    g_string_append (
        text,
        "\nA file that is shorter than storage.json says reads as zeros without an error: compare\n"
        "the sizes first. Never open an image for writing: later points stand on it.\n\n"
        "domain.xml      the guest's definition\n"
        "qemu.cmdline    the words of QEMU's command line (if there)\n"
        "nvram           UEFI variables (if there), as they were shortly after the instant\n"
        "manifest.json   what the point is; its hash is computed with 64 zeros in \"self\"\n"
        "storage.json    which file is which disk, on what it stands, how long it is\n"
        "*.leaves        SHA-256 of each 64 KiB that this point changed\n");
    return add_file (to, STORED_README, text->str, text->len, error);
}
