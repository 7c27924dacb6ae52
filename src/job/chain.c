#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "job/chain.h"
#include "job/chain-text.h"
#include "util/files.h"
#include "util/json.h"

/* What a new backing file changes in an image is in its first cluster. */
enum { HEAD = 65536, BODY = 1048576, TAIL = 262144, PIECE = 65536, CHAIN_MAX = 4096 };

enum { END, SIZE, WRITTEN, HEAD_HASH, BODY_HASH, ID, NAME, FIELDS };

static gboolean hash_part (GChecksum *sum, int fd, gint64 start, gint64 end)
{
    guchar piece[PIECE];
    while (start < end) {
        gssize got = pread (fd, piece, MIN ((gint64) sizeof piece, end - start), start);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        g_checksum_update (sum, piece, got);
        start += got;
    }
    return TRUE;
}

/* Caller frees. */
static char *hash_ends (int fd, gint64 start, gint64 end, gint64 tail, gint64 size)
{
    g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
    gint64 from = MAX (end, size - tail);
    return hash_part (sum, fd, start, end) && hash_part (sum, fd, from, size)
               ? g_strndup (g_checksum_get_string (sum), 32)
               : NULL;
}

/* A file id without the numbers of its device. */
static const char *without_device (const char *id)
{
    const char *minor = id ? strchr (id, ':') : NULL,
               *rest = minor ? strchr (minor + 1, ':') : NULL;
    return rest ? rest + 1 : "-";
}

static gboolean add_file (GString *text, const char *path, ChainEnd end, GError **error)
{
    g_autofree char *name = g_strescape (path, NULL), *id = files_id (path);
    struct stat st;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), path);
    gboolean ok = fstat (fd, &st) == 0;
    gint64 size = ok && S_ISBLK (st.st_mode) ? lseek (fd, 0, SEEK_END) : st.st_size;
    g_autofree char *head = ok ? hash_ends (fd, 0, HEAD, 0, 0) : NULL,
                    *body = ok ? hash_ends (fd, HEAD, HEAD + BODY, TAIL, size) : NULL;
    int saved = errno;
    close (fd);
    if (!head || !body)
        return error_set_errno (error, saved, _("cannot read '%s'"), path);
    g_string_append_printf (
        text, "%s %" G_GINT64_FORMAT " %" G_GINT64_FORMAT ".%09ld %s %s %s %s\n",
        end == CHAIN_OPEN ? "open" : "closed", size, (gint64) st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
        head, body, end == CHAIN_BELOW ? "-" : without_device (id), name);
    return TRUE;
}

/* One that is no file here is known by its name. */
static gboolean add_one (GString *text, const char *file, ChainEnd end, GError **error)
{
    if (file && g_path_is_absolute (file))
        return add_file (text, file, end, error);
    g_autofree char *name = g_strescape (file ? file : "?", NULL);
    g_string_append_printf (text, "closed - - - - - %s\n", name);
    return TRUE;
}

/* Where the data of a qcow2 image is, if it is in a file of its own; NULL. Caller frees. */
static char *data_file (JsonObject *info, const char *image)
{
    JsonObject *data = json_get_object (json_get_object (info, "format-specific"), "data");
    const char *file = json_get_string (data, "data-file");
    g_autofree char *dir = file && image ? g_path_get_dirname (image) : NULL;
    return dir && !g_path_is_absolute (file) && !strchr (file, ':')
               ? g_build_filename (dir, file, NULL)
               : g_strdup (file);
}

static char *seal (const char *path, ChainEnd end, ChainAsk ask, GError **error)
{
    g_autofree char *output = chain_text (path, NULL, ask, error);
    g_autoptr (JsonNode) node = output ? json_read (output, -1, error) : NULL;
    JsonArray *chain = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    guint count = chain ? json_array_get_length (chain) : 0;
    g_autoptr (GString) text = g_string_new (NULL);

    if (!node)
        return NULL;
    if (count == 0 || count > CHAIN_MAX) {
        error_set (error, BAK_ERROR_IO, _("'%s': %u images in a row"), path, count);
        return NULL;
    }
    for (guint i = 0; i < count; i++) {
        const char *file = json_get_string (json_get_element (chain, i), "filename");
        ChainEnd own = end == CHAIN_BELOW || count == 1 ? end : CHAIN_CLOSED;
        g_autofree char *data = data_file (json_get_element (chain, i), file);
        if (!add_one (text, file, own, error)
            || (data && !add_one (text, data, end == CHAIN_BELOW ? end : CHAIN_CLOSED, error)))
            return NULL;
    }
    return g_strdup (text->str);
}

char *chain_seal (const char *path, ChainEnd end, GError **error)
{
    return seal (path, end, CHAIN_RECALL, error);
}

/* NULL: the same. */
static const char *line_differs (char **then, char **now)
{
    gboolean open = g_str_equal (then[END], "open");
    if (!g_str_equal (then[ID], now[ID]))
        return _("another file");
    if (!g_str_equal (then[SIZE], now[SIZE]))
        return _("its size is another one");
    if (!g_str_equal (then[BODY_HASH], now[BODY_HASH])
        || (!open && !g_str_equal (then[HEAD_HASH], now[HEAD_HASH])))
        return _("its content is another one");
    if (!open && !g_str_equal (then[WRITTEN], now[WRITTEN]))
        return _("it was written to since");
    return NULL;
}

char *chain_difference (const char *then, const char *now)
{
    g_auto (GStrv) before = g_strsplit (then, "\n", -1), after = g_strsplit (now, "\n", -1);
    for (guint i = 0; before[i] && *before[i]; i++) {
        g_auto (GStrv) old = g_strsplit (before[i], " ", FIELDS),
                       new = g_strsplit (after[i] ? after[i] : "", " ", FIELDS);
        if (g_strv_length (old) < FIELDS)
            return g_strdup (_("what was recorded of it is damaged"));
        if (g_strv_length (new) < FIELDS)
            return g_strdup_printf (_("'%s' is not below it any more"), old[NAME]);
        const char *differs = line_differs (old, new);
        if (differs)
            return g_strdup_printf (_("'%s' is not as it was left: %s"), new[NAME], differs);
        if (g_str_equal (old[END], "open"))
            return NULL; /* what it was laid on later is not known */
        if ((!before[i + 1] || !*before[i + 1]) && after[i + 1] && *after[i + 1])
            return g_strdup_printf (_("'%s' was laid on another image since"), new[NAME]);
    }
    return NULL;
}

/* Nothing lies below. */
static const char nothing[] = "-";

char *chain_data_id (const char *path)
{
    struct stat st;
    if (!path)
        return g_strdup (nothing);
    if (!g_path_is_absolute (path) || stat (path, &st) != 0)
        return NULL;
    g_autofree char *id = S_ISBLK (st.st_mode) ? NULL : files_id (path);
    return S_ISBLK (st.st_mode) ? realpath (path, NULL)
           : id                 ? g_strdup (without_device (id))
                                : NULL;
}

char *chain_check_data (const char *path, const char *recorded)
{
    g_autofree char *now = chain_data_id (path);
    if (g_strcmp0 (now, recorded) == 0)
        return NULL;
    if (!path)
        return g_strdup (_("its data is not in a file of its own any more"));
    return g_strdup_printf (_("its data file '%s' is another file, or a copy"), path);
}

char *chain_seal_below (const char *path)
{
    if (!path)
        return g_strdup (nothing);
    return g_path_is_absolute (path) ? chain_seal (path, CHAIN_BELOW, NULL) : NULL;
}

char *chain_check_below (const char *path, const char *sealed)
{
    g_autoptr (GError) failure = NULL;
    if (!path)
        return g_str_equal (sealed, nothing)
                   ? NULL
                   : g_strdup (_("nothing lies below the image any more"));
    if (g_str_equal (sealed, nothing))
        return g_strdup_printf (_("the image was laid on '%s' since"), path);
    g_autofree char *now = seal (path, CHAIN_BELOW, CHAIN_ASK, &failure);
    return now ? chain_difference (sealed, now)
               : g_strdup_printf (_("what lies below the image does not open: %s"),
                                  failure->message);
}

gboolean chain_check (const char *path, const char *sealed, GError **error)
{
    g_autoptr (GError) failure = NULL;
    g_autofree char *now = seal (path, CHAIN_CLOSED, CHAIN_ASK, &failure);
    if (!now)
        return error_set (error, BAK_ERROR_INEXACT, _("previous backup '%s' does not open: %s"),
                          path, failure->message);
    g_autofree char *differs = sealed ? chain_difference (sealed, now) : NULL;
    return !differs
           || error_set (error, BAK_ERROR_INEXACT, _("previous backup '%s': %s"), path, differs);
}

gboolean chain_is_backup_of (const char *path, const char *checkpoint, const char *backup,
                             const char *id, GError **error)
{
    g_autofree char *real = realpath (path, NULL),
                    *recorded = backup ? realpath (backup, NULL) : NULL, *now = files_id (path);

    if (!backup || (id ? files_id_same (now, id) : real && g_strcmp0 (real, recorded) == 0))
        return TRUE;
    return error_set (error, BAK_ERROR_INEXACT,
                      _("'%s' is not the backup of checkpoint '%s', which went into '%s'; lay the "
                         "increment on that one, or on none and "
                         "give it its backing file later (qemu-img rebase -u)"),
                      path, checkpoint, backup);
}
