#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/claims.h"
#include "driver/qemu/definitions.h"
#include "driver/qemu/cmdline.h"
#include "driver/qemu/qemu-process.h"
#include "util/files.h"
#include "util/json.h"
#include "util/place.h"
#include "util/process.h"

enum { CLAIMS_MAX = 16 * 1024 * 1024, CHAIN_TIMEOUT_MS = 5000, CHAIN_OUTPUT_MAX = 4 * 1024 * 1024 };

#define DRIVER_FOLDER "libvirt-"

/* ---- what is published ---- */

struct _Claims {
    JsonObject *guests; /* name -> {"files": [], "tops": []}: of tops there is more below */
};

Claims *claims_new (void)
{
    Claims *claims = g_new0 (Claims, 1);
    claims->guests = json_object_new ();
    return claims;
}

void claims_free (Claims *claims)
{
    if (!claims)
        return;
    json_object_unref (claims->guests);
    g_free (claims);
}

void claims_add (Claims *claims, const char *guest, const char *file, gboolean whole)
{
    if (!file || !g_path_is_absolute (file))
        return;
    JsonObject *entry = json_get_object (claims->guests, guest);
    if (!entry) {
        entry = json_object_new ();
        json_object_set_array_member (entry, "files", json_array_new ());
        json_object_set_array_member (entry, "tops", json_array_new ());
        json_object_set_object_member (claims->guests, guest, entry);
    }
    json_array_add_string_element (json_get_array (entry, whole ? "files" : "tops"), file);
}

static char *claims_path (const char *dir)
{
    return g_build_filename (dir, "claims.json", NULL);
}

gboolean claims_publish (const Claims *claims, const char *dir, GError **error)
{
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_init_object (node, claims->guests);
    g_autofree char *path = claims_path (dir), *text = json_write (node), *now = NULL;
    return (files_read (path, CLAIMS_MAX, &now, NULL, NULL) && g_str_equal (now, text))
           || files_replace (path, text, -1, 0600, error);
}

/* ---- what is asked ---- */

typedef struct {
    const char *path;
    const struct stat *st;
    char *canonical;    /* of a path where nothing is yet: its directory is resolved */
    char *guest, *file; /* whose it is */
    const char *but;    /* a guest that does not count; NULL */
    int but_pid;        /* nor does this process; 0 */
} Question;

/* The directory without links, and the name in it. */
static char *canonical_name (const char *path)
{
    g_autofree char *dir = g_path_get_dirname (path), *base = g_path_get_basename (path);
    char *real = realpath (dir, NULL);
    char *name = real ? g_build_filename (real, base, NULL) : g_strdup (path);
    free (real);
    return name;
}

static gboolean is_claimed (const Question *question, const char *file)
{
    struct stat st;
    if (question->st)
        return stat (file, &st) == 0 && place_overlaps (question->st, &st);
    g_autofree char *canonical = canonical_name (file);
    return g_str_equal (canonical, question->canonical);
}

static gboolean claim (Question *question, const char *guest, const char *file)
{
    if (!is_claimed (question, file))
        return FALSE;
    question->guest = g_strdup (guest);
    question->file = g_strdup (file);
    return TRUE;
}

/* A name in an image's header: relative to the image. */
static gboolean claim_below (Question *question, const char *guest, const char *image,
                             const char *file)
{
    if (!file || strstr (file, ":/") || g_str_has_prefix (file, "json:"))
        return FALSE;
    g_autofree char *dir = g_path_get_dirname (image);
    g_autofree char *path = g_canonicalize_filename (file, dir);
    return claim (question, guest, path);
}

/* Backing files and data files, as the headers say. What cannot be read claims nothing more. */
static gboolean claim_chain (Question *question, const char *guest, const char *image,
                             const char *format)
{
    g_autofree char *program = process_find ("LIBBACKUP_QEMU_IMG", "qemu_img", "qemu-img");
    g_autofree char *output = NULL;
    const char *argv[] = { program, "info", "-U", "--output=json", "--backing-chain",
                           "-f",    format, "--", image,           NULL };
    int status = -1;

    if (!format) {
        argv[5] = "--";
        argv[6] = image;
        argv[7] = NULL;
    }
    if (!process_run (argv, CHAIN_TIMEOUT_MS, CHAIN_OUTPUT_MAX, &status, &output, NULL, NULL)
        || status != 0)
        return FALSE;
    g_autoptr (JsonNode) node = json_read (output, -1, NULL);
    JsonArray *chain = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    for (guint i = 0; chain && i < json_array_get_length (chain); i++) {
        JsonObject *info = json_get_element (chain, i);
        JsonObject *data = json_get_object (json_get_object (info, "format-specific"), "data");
        const char *file = json_get_string (info, "filename");
        if (claim_below (question, guest, image, file)
            || claim_below (question, guest, file ? file : image,
                            json_get_string (data, "data-file"))
            || claim_below (question, guest, file ? file : image,
                            json_get_string (info, "full-backing-filename")))
            return TRUE;
    }
    return FALSE;
}

static gboolean claim_listed (Question *question, const char *guest, JsonArray *files,
                              gboolean below)
{
    for (guint i = 0; files && i < json_array_get_length (files); i++) {
        const char *file = json_get_string_element (files, i);
        if (file
            && (claim (question, guest, file)
                || (below && claim_chain (question, guest, file, NULL))))
            return TRUE;
    }
    return FALSE;
}

static gboolean claim_published (Question *question, const char *dir)
{
    g_autofree char *path = claims_path (dir), *text = NULL;
    JsonObject *guests = NULL;
    if (!files_read (path, CLAIMS_MAX, &text, NULL, NULL))
        return FALSE;
    g_autoptr (JsonNode) node = json_read_object (text, -1, &guests, NULL);
    if (!node)
        return FALSE;
    g_autoptr (GList) names = json_object_get_members (guests);
    for (GList *name = names; name; name = name->next) {
        if (g_strcmp0 (name->data, question->but) == 0)
            continue;
        JsonObject *entry = json_get_object (guests, name->data);
        if (claim_listed (question, name->data, json_get_array (entry, "files"), FALSE)
            || claim_listed (question, name->data, json_get_array (entry, "tops"), TRUE))
            return TRUE;
    }
    return FALSE;
}

static gboolean claim_attached (Question *question, const char *state_dir)
{
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *dir = g_build_filename (state_dir, "guests", name, NULL);
        g_autoptr (GuestDef) def = attach_load (state_dir, name, NULL);
        if (g_strcmp0 (name, question->but) == 0)
            continue;
        if (claim_published (question, dir))
            return TRUE;
        for (guint k = 0; def && k < def->images->len; k++) {
            const GuestDiskDef *image = def->images->pdata[k];
            g_autofree char *format = attach_image_format (dir, image->target);
            if (claim (question, name, image->id)
                || claim_chain (question, name, image->id, format))
                return TRUE;
        }
    }
    return FALSE;
}

/* ---- the QEMUs of this host ---- */

static gboolean has_open (const Question *question, const char *pid)
{
    g_autofree char *path = g_build_filename ("/proc", pid, "fd", NULL);
    g_autoptr (GDir) fds = g_dir_open (path, 0, NULL);
    const char *fd;
    while (fds && (fd = g_dir_read_name (fds))) {
        g_autofree char *link = g_build_filename (path, fd, NULL);
        struct stat st;
        if (stat (link, &st) == 0 && place_overlaps (question->st, &st))
            return TRUE;
    }
    return FALSE;
}

static char *describe_process (const char *pid)
{
    gsize length = 0;
    g_autofree char *text = process_command_line (atoi (pid), &length);
    g_autoptr (Cmdline) cmdline = text ? cmdline_parse (text, length) : NULL;
    g_autofree char *name = cmdline && cmdline->name ? text_sanitize (cmdline->name, 128) : NULL;
    return name ? g_strdup_printf (_("%s (QEMU, process %s)"), name, pid)
                : g_strdup_printf (_("QEMU, process %s"), pid);
}

static gboolean claim_open (Question *question)
{
    g_autoptr (GDir) processes = question->st ? g_dir_open ("/proc", 0, NULL) : NULL;
    const char *pid;
    while (processes && (pid = g_dir_read_name (processes)))
        if (atoi (pid) != question->but_pid && qemu_process_is (pid) && has_open (question, pid)) {
            question->guest = describe_process (pid);
            question->file = g_strdup (question->path);
            return TRUE;
        }
    return FALSE;
}

/* A driver's folder within the state directory: the guests attached there are others. */
static char *outer_state_dir (const char *state_dir)
{
    g_autofree char *base = g_path_get_basename (state_dir);
    return g_str_has_prefix (base, DRIVER_FOLDER) ? g_path_get_dirname (state_dir) : NULL;
}

static gboolean is_anybodys (Question *question, const char *state_dir)
{
    g_autofree char *outer = outer_state_dir (state_dir);
    return claim_open (question)
           || (outer ? claim_published (question, state_dir) || claim_attached (question, outer)
                     : claim_attached (question, state_dir));
}

gboolean claims_allow_but (const char *state_dir, const char *guest, int pid, const char *path,
                           const struct stat *st, GError **error)
{
    g_autofree char *canonical = canonical_name (path);
    Question question = {
        .path = path, .st = st, .canonical = canonical, .but = guest, .but_pid = pid
    };
    if (!is_anybodys (&question, state_dir))
        return TRUE;
    g_autofree char *whose = question.guest, *file = question.file;
    return error_set (error, BAK_ERROR_BUSY, _("'%s' is needed as it is by guest '%s' ('%s')"),
                      path, whose, file);
}

gboolean claims_allow (const char *state_dir, const char *path, const struct stat *st,
                       GError **error)
{
    g_autofree char *canonical = canonical_name (path);
    Question question = { .path = path, .st = st, .canonical = canonical };

    if (!is_anybodys (&question, state_dir))
        return TRUE;
    g_autofree char *guest = question.guest, *file = question.file;
    if (g_str_equal (file, path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' is an image of guest '%s': a backup would overwrite it; name "
                             "another file"),
                          path, guest);
    return error_set (
        error, BAK_ERROR_INVALID_ARGUMENT,
        _("'%s' is another name of '%s', or lies on it or below it, which is an image "
           "of guest '%s': a backup would overwrite it; name another file"),
        path, file, guest);
}

/* ---- restoring ---- */

/* The name that a guest is known by here; NULL: none of this uuid. */
static char *name_of (const char *state_dir, const char *uuid)
{
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    for (guint i = 0; i < names->len; i++) {
        g_autoptr (GuestDef) def = attach_load (state_dir, names->pdata[i], NULL);
        if (def && g_strcmp0 (def->uuid, uuid) == 0)
            return g_strdup (def->name);
    }
    return NULL;
}

/* The folders of drivers for guests that others attach. */
static gboolean claim_libvirts (Question *question, const char *state_dir)
{
    g_autoptr (GDir) entries = g_dir_open (state_dir, 0, NULL);
    const char *name;
    while (entries && (name = g_dir_read_name (entries))) {
        g_autofree char *dir = g_build_filename (state_dir, name, NULL);
        if (g_str_has_prefix (name, DRIVER_FOLDER) && claim_published (question, dir))
            return TRUE;
    }
    return FALSE;
}

gboolean claims_allow_restore (const char *state_dir, const char *guest, const char *uuid,
                               const char *path, const struct stat *st, GError **error)
{
    g_autofree char *canonical = canonical_name (path), *known = name_of (state_dir, uuid);
    Question question = {
        .path = path, .st = st, .canonical = canonical, .but = known ? known : guest
    };
    gboolean open = claim_open (&question);
    gboolean claimed =
        open || claim_attached (&question, state_dir) || claim_libvirts (&question, state_dir);
    g_autofree char *whose = question.guest, *file = question.file;

    if (!claimed)
        return TRUE;
    if (open)
        return error_set (
            error, BAK_ERROR_BUSY,
            _("'%s' is in use by a running QEMU, %s: stop the guest, or restore to a "
               "new file"),
            path, whose);
    return error_set (error, BAK_ERROR_BUSY,
                      _("'%s' is an image of guest '%s' ('%s'), and the point is of guest '%s': "
                         "restore to a new file, or detach '%s' first"),
                      path, whose, file, guest, whose);
}
