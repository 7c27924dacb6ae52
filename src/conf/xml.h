/* What the documents share: reading XML that nobody vouches for, one table an element that both
 * reads and writes its attributes, and errors that name line, element, attribute, value and what
 * would be accepted. */
#pragma once
#include <glib.h>
#include <libxml/tree.h>

enum {
    XML_SIZE_MAX = 4 << 20,
    XML_DEPTH_MAX = 64,
    XML_ATTRIBUTES_MAX = 256,
    XML_NODES_MAX = 400000,
    XML_PATH_MAX = 4095,
    XML_SOCKET_MAX = 107
};

typedef enum {
    XML_IGNORED,     /* accepted whatever it holds */
    XML_CHOICE,      /* one of values; an enum: base + position */
    XML_WORD,        /* one of values; char* */
    XML_PLAIN,       /* one line, not empty, at most max bytes; char* */
    XML_PLAIN_EMPTY, /* the same, may be empty; char* */
    XML_PATH,        /* absolute; char* */
    XML_SOCKET,      /* absolute and short enough for a unix socket; char* */
    XML_HOST,        /* DNS name or IP address; char* */
    XML_NAME,        /* name of a checkpoint; char* */
    XML_NAME_EMPTY,  /* the same; blank is as good as absent; char* */
    XML_UUID,        /* lower case, with dashes; char* */
    XML_UINT,        /* min ... max; guint */
    XML_LONG,        /* digits only, up to 2^63-1; gint64 */
    XML_SIZE,        /* bytes or with a unit, min ... max; guint64 */
    XML_SIZE_POWER,  /* the same, a power of two; guint64 */
} XmlKind;

typedef struct {
    const char *name;
    XmlKind kind;
    gboolean required;
    gsize offset;              /* of the member; XML_NOWHERE: checked only */
    const char *const *values; /* ends with NULL */
    guint base;                /* XML_CHOICE: of the first value */
    guint64 min, max;          /* XML_PLAIN: max bytes */
} XmlAttr;                     /* a table ends with a row without name */

#define XML_NOWHERE G_MAXSIZE

/* The document, or NULL with BAK_ERROR_XML. No network, no DTD, no entities, limits on size and
 * depth. root: what is expected. */
xmlDoc *xml_read (const char *text, const char *root, GError **error);
const xmlNode *xml_root (const xmlDoc *doc);
void xml_free (xmlDoc *doc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlDoc, xml_free)

/* "line 4: <disk name='vda'>: ..."; BAK_ERROR_XML. Returns FALSE. */
gboolean xml_error (const xmlNode *node, GError **error, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
/* "...: attribute backup='maybe': expected ..." */
gboolean xml_error_value (const xmlNode *node, const char *attribute, const char *value,
                          GError **error, const char *format, ...) G_GNUC_PRINTF (5, 6);

/* where: "in a push backup" or just "here", for messages about what does not belong. */
gboolean xml_read_attrs (const xmlNode *node, const XmlAttr *table, const char *where,
                         gpointer object, GError **error);
/* Only these children, each at most once or, with a name ending in '*', any number of times; no
 * text. */
gboolean xml_check_children (const xmlNode *node, const char *const *names, const char *where,
                             GError **error);
/* No children and no text. */
gboolean xml_check_empty (const xmlNode *node, GError **error);
/* The text of an element that has neither attributes nor children. Caller frees. */
gboolean xml_read_text (const xmlNode *node, char **ret_text, GError **error);
/* The same, held to be of the row's kind and put where it says; blank text counts as empty. */
gboolean xml_read_text_as (const xmlNode *node, const XmlAttr *row, gpointer object,
                           GError **error);

gboolean xml_is (const xmlNode *node, const char *name);
/* First child element (of that name, or any); the next one after it. Borrowed. */
xmlNode *xml_child (const xmlNode *node, const char *name);
xmlNode *xml_next (const xmlNode *node, const char *name);
/* NULL when absent. Caller frees. */
char *xml_get (const xmlNode *node, const char *attribute);
gboolean xml_has (const xmlNode *node, const char *attribute);
guint xml_line (const xmlNode *node);

typedef struct {
    GString *out;
    guint depth;
    gboolean open; /* the start tag is not closed yet */
} XmlWriter;

void xml_writer_init (XmlWriter *writer);
char *xml_writer_finish (XmlWriter *writer);
void xml_start (XmlWriter *writer, const char *name);
void xml_end (XmlWriter *writer, const char *name);
/* Nothing when value is NULL. */
void xml_attr (XmlWriter *writer, const char *name, const char *value);
void xml_attr_uint (XmlWriter *writer, const char *name, guint64 value);
/* Members at their default (0, NULL) are left out. */
void xml_attrs (XmlWriter *writer, const XmlAttr *table, gconstpointer object);
void xml_text (XmlWriter *writer, const char *name, const char *text);
/* Ready XML, on lines of its own; nothing when it is NULL. */
void xml_raw (XmlWriter *writer, const char *xml);
