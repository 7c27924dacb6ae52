#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "exchange/sparse.h"
#include "exchange/unpack.h"
#include "repository/fields.h"
#include "util/files.h"

enum {
    FRAME = 40,
    META_MAX = 1024 * 1024,
    TRAILER_MAX = 256 * 1024 * 1024,
    PIECE = 1024 * 1024,
    PACKED_PIECE_MAX = 72 * 1024 * 1024, /* of 64 MiB */
    PIECE_MAX = 64 * 1024 * 1024,
};

static const char line_end[] = "\r\n";

typedef struct {
    const char *path;
    FILE *file;
    guint64 file_size;
    const SparseMeta *meta;
    int to;
    GArray *packed; /* guint64, of a packed file: sizes of the pieces in order */
    GArray *pieces; /* guint, how many of them each data frame has */
    guint next_piece, next_frame;
    guint64 last_end, covered, data; /* */
    guint32 sum_a, sum_b;            /* Adler-32 of all that was read */
    gboolean (*is_cancelled) (gpointer data, GError **error);
    gpointer user;
} Stream;

typedef struct {
    char kind[5];
    guint64 start, length;
} Frame;

static gboolean damaged (const Stream *stream, const char *why, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: %s"), stream->path, why);
}

/* The sums fit into 32 bits for this many bytes. */
static void add_sum (Stream *stream, const guchar *data, gsize length)
{
    enum { BASE = 65521, RUN = 5552 };
    while (length > 0) {
        gsize run = MIN (length, (gsize) RUN);
        for (gsize i = 0; i < run; i++) {
            stream->sum_a += data[i];
            stream->sum_b += stream->sum_a;
        }
        stream->sum_a %= BASE;
        stream->sum_b %= BASE;
        data += run;
        length -= run;
    }
}

static gboolean take (Stream *stream, void *buffer, gsize length, GError **error)
{
    if (fread (buffer, 1, length, stream->file) != length)
        return ferror (stream->file)
                   ? error_set_errno (error, errno, _("cannot read '%s'"), stream->path)
                   : damaged (stream, _("it is cut off"), error);
    add_sum (stream, buffer, length);
    return TRUE;
}

static gboolean take_line_end (Stream *stream, GError **error)
{
    char text[2];
    return take (stream, text, 2, error)
           && (memcmp (text, line_end, 2) == 0
               || damaged (stream, _("a frame does not end where it should"), error));
}

static gboolean parse_hex (const char *text, guint64 *ret_value)
{
    guint64 value = 0;
    for (guint i = 0; i < 16; i++) {
        int digit = g_ascii_xdigit_value (text[i]);
        if (digit < 0)
            return FALSE;
        value = value << 4 | (guint) digit;
    }
    *ret_value = value;
    return TRUE;
}

static gboolean parse_frame (const Stream *stream, const char text[FRAME], Frame *frame,
                             GError **error)
{
    gboolean ok = text[4] == ' ' && text[21] == ' ' && memcmp (text + 38, line_end, 2) == 0
                  && parse_hex (text + 5, &frame->start) && parse_hex (text + 22, &frame->length);
    memcpy (frame->kind, text, 4);
    frame->kind[4] = '\0';
    return ok || damaged (stream, _("it has no frame where one should be"), error);
}

static gboolean take_frame (Stream *stream, Frame *frame, GError **error)
{
    char text[FRAME];
    return take (stream, text, FRAME, error) && parse_frame (stream, text, frame, error);
}

static gboolean open_stream (Stream *stream, const char *path, GError **error)
{
    struct stat st;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *stream = (Stream){ .path = path, .sum_a = 1 };
    if (fd < 0 || fstat (fd, &st) != 0 || !S_ISREG (st.st_mode)) {
        int saved = fd < 0 ? errno : EINVAL;
        if (fd >= 0)
            close (fd);
        return error_set_errno (error, saved, _("cannot read '%s'"), path);
    }
    stream->file = fdopen (fd, "rb");
    stream->file_size = st.st_size;
    return TRUE;
}

/* Meta */

static void parse_meta (JsonObject *object, SparseMeta *meta, Fields *fields)
{
    JsonNode *packed = json_object_get_member (object, "compressed");
    JsonNode *parent = json_object_get_member (object, "parentCheckpoint");
    g_autofree char *method = fields_text (fields, object, "compressionMethod", FIELD_OPTIONAL);
    meta->size = fields_number (fields, object, "virtualSize", G_MAXINT64, FIELD_REQUIRED);
    meta->data_size = fields_number (fields, object, "dataSize", G_MAXINT64, FIELD_REQUIRED);
    meta->disk = fields_name (fields, object, "diskName", FIELD_REQUIRED);
    meta->date = fields_text (fields, object, "date", FIELD_REQUIRED);
    meta->checkpoint = fields_text (fields, object, "checkpointName", FIELD_OPTIONAL);
    /* of a full one it is null or false */
    if (parent && JSON_NODE_HOLDS_VALUE (parent)
        && json_node_get_value_type (parent) == G_TYPE_STRING)
        meta->parent = fields_text (fields, object, "parentCheckpoint", FIELD_OPTIONAL);
    /* false, true or a level */
    meta->compressed =
        packed && JSON_NODE_HOLDS_VALUE (packed)
        && (json_node_get_value_type (packed) != G_TYPE_BOOLEAN || json_node_get_boolean (packed));
    if (!fields->failed && meta->compressed && method && !g_str_equal (method, "lz4"))
        fields_fail (fields, "compressionMethod", _("lz4 is known"));
}

static gboolean take_meta (Stream *stream, SparseMeta *meta, GError **error)
{
    Frame frame;
    JsonObject *object;
    if (!take_frame (stream, &frame, error))
        return FALSE;
    if (!g_str_equal (frame.kind, "meta") || frame.length > META_MAX)
        return damaged (stream, _("it is no stream of virtnbdbackup"), error);
    g_autofree char *text = g_malloc (frame.length + 1);
    if (!take (stream, text, frame.length, error) || !take_line_end (stream, error))
        return FALSE;
    g_autoptr (JsonNode) node = json_read_object (text, frame.length, &object, error);
    if (!node)
        return error_note (error, "'%s'", stream->path);
    Fields fields = { stream->path, error, FALSE };
    parse_meta (object, meta, &fields);
    return !fields.failed
           && ((meta->size > 0 && meta->size % 512 == 0)
               || damaged (stream, _("its size is none of a disk"), error));
}

gboolean sparse_read_meta (const char *path, SparseMeta *ret_meta, GError **error)
{
    SparseMeta meta = { 0 };
    Stream stream;
    if (!open_stream (&stream, path, error))
        return FALSE;
    gboolean ok = take_meta (&stream, &meta, error);
    fclose (stream.file);
    if (ok)
        *ret_meta = meta;
    else
        sparse_meta_clear (&meta);
    return ok;
}

void sparse_meta_clear (SparseMeta *meta)
{
    g_free (meta->disk);
    g_free (meta->checkpoint);
    g_free (meta->parent);
    g_free (meta->date);
    *meta = (SparseMeta){ 0 };
}

/* The sizes of packed pieces, which stand at the end */

static gboolean add_size (Stream *stream, JsonNode *node)
{
    gboolean number =
        JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_INT64;
    gint64 size = number ? json_node_get_int (node) : 0;
    if (size <= 0 || size > PACKED_PIECE_MAX)
        return FALSE;
    guint64 value = size;
    g_array_append_val (stream->packed, value);
    return TRUE;
}

/* A number, or { "TOTAL": [numbers] }. */
static gboolean add_sizes (Stream *stream, JsonNode *node)
{
    guint count = 1;
    gboolean ok = TRUE;
    if (JSON_NODE_HOLDS_OBJECT (node)) {
        g_autoptr (GList) values = json_object_get_values (json_node_get_object (node));
        JsonArray *array = values && !values->next && JSON_NODE_HOLDS_ARRAY (values->data)
                               ? json_node_get_array (values->data)
                               : NULL;
        count = array ? json_array_get_length (array) : 0;
        for (guint i = 0; i < count && ok; i++)
            ok = add_size (stream, json_array_get_element (array, i));
    } else {
        ok = add_size (stream, node);
    }
    g_array_append_val (stream->pieces, count);
    return ok && count > 0;
}

static gboolean read_trailer (Stream *stream, GError **error)
{
    char text[FRAME];
    Frame frame;
    if (stream->file_size < 2 * FRAME || fseeko (stream->file, -FRAME, SEEK_END) != 0
        || fread (text, 1, FRAME, stream->file) != FRAME)
        return damaged (stream, _("it is cut off"), error);
    if (!parse_frame (stream, text, &frame, error))
        return FALSE;
    guint64 end = stream->file_size - FRAME - 2;
    if (!g_str_equal (frame.kind, "comp") || frame.length > end || frame.length > TRAILER_MAX)
        return damaged (stream, _("the sizes of its packed pieces are not there"), error);
    g_autofree char *json = g_malloc (frame.length + 1);
    if (fseeko (stream->file, end - frame.length, SEEK_SET) != 0
        || fread (json, 1, frame.length, stream->file) != frame.length)
        return damaged (stream, _("it is cut off"), error);
    g_autoptr (JsonNode) node = json_read (json, frame.length, error);
    if (!node || !JSON_NODE_HOLDS_ARRAY (node))
        return node ? damaged (stream, _("the sizes of its packed pieces are not there"), error)
                    : error_note (error, "'%s'", stream->path);
    JsonArray *array = json_node_get_array (node);
    for (guint i = 0; i < json_array_get_length (array); i++)
        if (!add_sizes (stream, json_array_get_element (array, i)))
            return damaged (stream, _("the sizes of its packed pieces are wrong"), error);
    rewind (stream->file);
    return TRUE;
}

/* Frames */

static gboolean put (Stream *stream, const guchar *data, gsize length, guint64 offset,
                     GError **error)
{
    while (length > 0) {
        ssize_t n = pwrite (stream->to, data, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO,
                                    _("cannot write to the repository"));
        data += n;
        offset += n;
        length -= n;
    }
    return TRUE;
}

static gboolean copy_plain (Stream *stream, const Frame *frame, GError **error)
{
    g_autofree guchar *buffer = g_malloc (PIECE);
    for (guint64 done = 0, part; done < frame->length; done += part) {
        part = MIN (frame->length - done, (guint64) PIECE);
        if (stream->is_cancelled (stream->user, error) || !take (stream, buffer, part, error)
            || !put (stream, buffer, part, frame->start + done, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean copy_packed (Stream *stream, const Frame *frame, GError **error)
{
    if (stream->next_frame >= stream->pieces->len)
        return damaged (stream, _("the size of a packed piece is not there"), error);
    guint count = g_array_index (stream->pieces, guint, stream->next_frame++);
    guint64 done = 0;
    g_autofree guchar *data = g_malloc (MIN (frame->length, (guint64) PIECE_MAX) + 1);
    for (guint i = 0; i < count; i++) {
        guint64 size = g_array_index (stream->packed, guint64, stream->next_piece++);
        g_autofree guchar *packed = g_malloc (size);
        gsize made = MIN (frame->length - done, (guint64) PIECE_MAX);
        if (stream->is_cancelled (stream->user, error) || !take (stream, packed, size, error))
            return FALSE;
        if (!unpack_lz4 (packed, size, data, &made, error))
            return error_note (error, "'%s'", stream->path);
        if (!put (stream, data, made, frame->start + done, error))
            return FALSE;
        done += made;
    }
    return done == frame->length
           || damaged (stream, _("a packed piece has another length than was said"), error);
}

static gboolean copy_data (Stream *stream, const Frame *frame, GError **error)
{
    stream->data += frame->length;
    return (stream->meta->compressed ? copy_packed (stream, frame, error)
                                     : copy_plain (stream, frame, error))
           && take_line_end (stream, error);
}

static gboolean check_place (Stream *stream, const Frame *frame, GError **error)
{
    if (frame->length == 0 || frame->start < stream->last_end || frame->start > stream->meta->size
        || frame->length > stream->meta->size - frame->start)
        return damaged (stream, _("a frame lies outside of its place on the disk"), error);
    stream->last_end = frame->start + frame->length;
    stream->covered += frame->length;
    return TRUE;
}

/* Up to the frame that ends it. */
static gboolean copy_frames (Stream *stream, GError **error)
{
    for (;;) {
        Frame frame;
        if (!take_frame (stream, &frame, error))
            return FALSE;
        if (g_str_equal (frame.kind, "stop"))
            return TRUE;
        gboolean data = g_str_equal (frame.kind, "data");
        if (!data && !g_str_equal (frame.kind, "zero"))
            return damaged (stream, _("it has a frame of an unknown kind"), error);
        if (!check_place (stream, &frame, error) || (data && !copy_data (stream, &frame, error)))
            return FALSE;
    }
}

/* What stands behind it; the file ends there. */
static gboolean take_end (Stream *stream, GError **error)
{
    guint64 at = ftello (stream->file), left = stream->file_size - at;
    guchar buffer[4096];
    if (!stream->meta->compressed && left > 0)
        return damaged (stream, _("there is something behind its end"), error);
    if (stream->meta->compressed && stream->next_frame != stream->pieces->len)
        return damaged (stream, _("packed pieces are missing"), error);
    for (guint64 part; left > 0; left -= part) {
        part = MIN (left, (guint64) sizeof buffer);
        if (!take (stream, buffer, part, error))
            return FALSE;
    }
    return TRUE;
}

/* Later versions leave a sum of the file beside it. */
static gboolean check_sum (const Stream *stream, GError **error)
{
    g_autofree char *name = g_strconcat (stream->path, ".chksum", NULL), *text = NULL;
    if (!g_file_test (name, G_FILE_TEST_EXISTS))
        return TRUE;
    if (!files_read (name, 4096, &text, NULL, error))
        return FALSE;
    guint32 sum = stream->sum_b << 16 | stream->sum_a;
    return g_ascii_strtoull (g_strstrip (text), NULL, 10) == sum
           || damaged (stream, _("its checksum differs"), error);
}

static gboolean apply (Stream *stream, gboolean whole, GError **error)
{
    SparseMeta again = { 0 };
    if (stream->meta->compressed && !read_trailer (stream, error))
        return FALSE;
    gboolean ok = take_meta (stream, &again, error);
    sparse_meta_clear (&again);
    if (!ok || !copy_frames (stream, error) || !take_end (stream, error))
        return FALSE;
    if (whole && stream->covered != stream->meta->size)
        return damaged (stream, _("it does not tell of all of the disk"), error);
    if (stream->data != stream->meta->data_size)
        return damaged (stream, _("it holds less or more data than it says"), error);
    return check_sum (stream, error);
}

gboolean sparse_apply (const char *path, const SparseMeta *meta, int fd, gboolean whole,
                       gboolean (*is_cancelled) (gpointer data, GError **error), gpointer data,
                       GError **error)
{
    Stream stream;
    if (!open_stream (&stream, path, error))
        return FALSE;
    stream.meta = meta;
    stream.to = fd;
    stream.is_cancelled = is_cancelled;
    stream.user = data;
    stream.packed = g_array_new (FALSE, FALSE, sizeof (guint64));
    stream.pieces = g_array_new (FALSE, FALSE, sizeof (guint));
    gboolean ok = apply (&stream, whole, error);
    g_array_unref (stream.packed);
    g_array_unref (stream.pieces);
    fclose (stream.file);
    return ok;
}
