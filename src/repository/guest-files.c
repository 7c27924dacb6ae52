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

typedef struct {
    guint depth, at;        /* of elements; at: how many of them lead to <nvram> */
    gboolean found, is_raw; /* */
    GString *text;          /* in it, or the file of its <source> */
} Variables;

static const char *const way_to_variables[] = { "domain", "os", "nvram", "source" };

static void enter_element (GMarkupParseContext *context, const char *name, const char **names,
                           const char **values, gpointer data, GError **error)
{
    Variables *variables = data;
    gboolean leads = variables->at == variables->depth
                     && variables->at < G_N_ELEMENTS (way_to_variables)
                     && g_str_equal (name, way_to_variables[variables->at]);

    variables->depth++;
    variables->at += leads;
    variables->found |= leads && variables->at == 3;
    for (guint i = 0; leads && names[i]; i++)
        if (variables->at == 4 && g_str_equal (names[i], "file"))
            g_string_assign (variables->text, values[i]);
        else if (variables->at == 3 && g_str_equal (names[i], "format"))
            variables->is_raw = g_str_equal (values[i], "raw");
}

static void leave_element (GMarkupParseContext *context, const char *name, gpointer data,
                           GError **error)
{
    Variables *variables = data;
    variables->depth--;
    variables->at = MIN (variables->at, variables->depth);
}

static void take_text (GMarkupParseContext *context, const char *text, gsize length, gpointer data,
                       GError **error)
{
    Variables *variables = data;
    if (variables->at == 3 && variables->depth == 3)
        g_string_append_len (variables->text, text, length);
}

/* Where the UEFI variables are by the definition: "" when the guest has some, but in no file of a
 * host; NULL: it has none. Caller frees. *ret_is_raw: what is in the file is what the guest sees.
 */
static char *variables_path (const char *xml, gboolean *ret_is_raw)
{
    static const GMarkupParser parser = { enter_element, leave_element, take_text, NULL, NULL };
    g_autoptr (GString) text = g_string_new (NULL);
    Variables variables = { .is_raw = TRUE, .text = text };
    g_autoptr (GMarkupParseContext) context =
        g_markup_parse_context_new (&parser, G_MARKUP_PREFIX_ERROR_POSITION, &variables, NULL);

    g_markup_parse_context_parse (context, xml, -1, NULL);
    *ret_is_raw = variables.is_raw;
    if (!variables.found)
        return NULL;
    g_strstrip (text->str);
    return g_strdup (g_path_is_absolute (text->str) ? text->str : "");
}

static gboolean lacks (const char *what, const char *why, GPtrArray *warnings)
{
    g_ptr_array_add (warnings, g_strdup_printf (_("%s not in the point: %s"), what, why));
    return TRUE;
}

static gboolean write_variables (const char *path, gboolean local, const GuestFiles *to,
                                 GPtrArray *warnings, GError **error)
{
    const char *what = _("the UEFI variables are");
    g_autofree char *data = NULL;
    g_autoptr (GError) why = NULL;
    gsize length;
    if (!local)
        return lacks (what, _("the guest is on another host"), warnings);
    if (!*path)
        return lacks (what, _("they are in no file of this host"), warnings);
    if (!files_read (path, VARIABLES_MAX, &data, &length, &why))
        return lacks (what, why->message, warnings);
    return add_file (to, "nvram", data, length, error);
}

gboolean guest_write_files (BakDomain *domain, const GuestFiles *to, GPtrArray *warnings,
                            GError **error)
{
    g_autoptr (GError) why = NULL;
    BakError *public_error = NULL;
    char *xml = bak_domain_get_xml_desc (domain, 0, &public_error);
    gboolean ok = TRUE, is_raw = TRUE;
    if (!xml) {
        guest_take_error (public_error, &why);
        g_ptr_array_add (
            warnings, g_strdup_printf (_("the definition is not in the point: %s"), why->message));
        return TRUE;
    }
    g_autofree char *variables = variables_path (xml, &is_raw);
    pid_t pid = is_local (domain) ? find_pid (domain) : 0;
    ok = add_file (to, "domain.xml", xml, strlen (xml), error)
         && (!pid || write_command_line (pid, to, error))
         && (!variables || write_variables (variables, is_local (domain), to, warnings, error));
    if (variables && *variables && !is_raw && pid)
        lacks (_("what the guest has written of the UEFI variables lately may be"),
               _("QEMU has their image open, which is not raw"), warnings);
    if (strstr (xml, "<tpm "))
        lacks (_("the TPM's state is"), _("no QEMU tells it"), warnings);
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
