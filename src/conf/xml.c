#include <string.h>
#include <glib/gi18n-lib.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include "conf/names.h"
#include "conf/xml.h"
#include "util/error.h"
#include "util/library.h"
#include "util/units.h"

/* With libxml2 come ICU and libstdc++: a daemon that is asked for no backup has none of them in his
 * memory. */
#if LIBXML_VERSION >= 21400
#define SONAME "libxml2.so.16"
#else
#define SONAME "libxml2.so.2"
#endif
LIBRARY_NOTE (note, SONAME, "xml", "documents of backups and checkpoints");

/* clang-format off */
#define FUNCTIONS(F) \
    F (CtxtReadMemory) \
    F (DocGetRootElement) \
    F (FreeDoc) \
    F (FreeParserCtxt) \
    F (GetLineNo) \
    F (GetNoNsProp) \
    F (HasNsProp) \
    F (InitParser) \
    F (IsBlankNode) \
    F (NewParserCtxt) \
    F (SAX2StartElementNs) \
    F (StopParser)
/* clang-format on */

static struct {
#define DECLARE(name) __typeof__ (&xml##name) name;
    FUNCTIONS (DECLARE)
    xmlFreeFunc *Free; /* a variable */
} libxml;

static gboolean load_libxml (GError **error)
{
#define SYMBOL(name) { "xml" #name, (gpointer *) &libxml.name },
    static const LibrarySymbol symbols[] = { FUNCTIONS (SYMBOL){ "xmlFree",
                                                                 (gpointer *) &libxml.Free } };
    static Library library = { SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error);
}

const xmlNode *xml_root (const xmlDoc *doc)
{
    return libxml.DocGetRootElement (doc);
}

void xml_free (xmlDoc *doc)
{
    if (doc)
        libxml.FreeDoc (doc);
}

/* Reading */

typedef struct {
    const char *refused; /* why we stopped the parser; NULL: we did not */
    char *message;       /* libxml2's first error */
    int line;
    guint nodes; /* elements and attributes so far */
} Reader;

#if LIBXML_VERSION >= 21200
typedef const xmlError XmlErrorArg;
#else
typedef xmlError XmlErrorArg;
#endif

static void refuse (xmlParserCtxt *parser, const char *why)
{
    Reader *reader = parser->_private;

    if (!reader->refused) {
        reader->refused = why;
        reader->line = parser->input ? parser->input->line : 0;
    }
    libxml.StopParser (parser);
}

static void on_error (void *data, XmlErrorArg *why)
{
    Reader *reader = ((xmlParserCtxt *) data)->_private;

    if (reader->message || reader->refused || why->level < XML_ERR_ERROR)
        return;
    g_autofree char *text = g_strchomp (g_strdup (why->message ? why->message : ""));
    reader->message = text_sanitize (text, 512);
    reader->line = why->line;
}

/* A document type is the way to entities, and nothing that we read needs one. */
static void on_doctype (void *data, const xmlChar *name, const xmlChar *external,
                        const xmlChar *system)
{
    refuse (data, _("a document type (<!DOCTYPE>) is not accepted"));
}

static void on_element (void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                        int n_namespaces, const xmlChar **namespaces, int n_attributes,
                        int n_defaulted, const xmlChar **attributes)
{
    xmlParserCtxt *parser = data;
    Reader *reader = parser->_private;

    reader->nodes += 1 + n_attributes;
    if (reader->nodes > XML_NODES_MAX)
        refuse (parser, _("the document has too many elements and attributes"));
    else if (parser->nodeNr >= XML_DEPTH_MAX)
        refuse (parser, _("elements are nested too deep"));
    else
        libxml.SAX2StartElementNs (data, name, prefix, uri, n_namespaces, namespaces, n_attributes,
                                   n_defaulted, attributes);
}

/* libxml2 compares each attribute of an element with each other one. No value can hold a '<', so
 * each one is a new beginning, in a damaged document too. */
static gboolean too_many_attributes (const char *text)
{
    char quote = '\0';
    gboolean tag = FALSE;
    guint count = 0;

    for (const char *p = text; *p; p++) {
        if (*p == '<') {
            tag = p[1] != '!' && p[1] != '?';
            quote = '\0';
            count = 0;
        } else if (quote) {
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '>') {
            tag = FALSE;
        } else if (tag && (*p == '"' || *p == '\'')) {
            quote = *p;
            if (++count > XML_ATTRIBUTES_MAX)
                return TRUE;
        }
    }
    return FALSE;
}

static xmlDoc *read_document (const char *text, gsize length, GError **error)
{
    static gsize once;
    Reader reader = { 0 };

    if (g_once_init_enter (&once)) {
        libxml.InitParser ();
        g_once_init_leave (&once, 1);
    }
    xmlParserCtxt *parser = libxml.NewParserCtxt ();
    if (!parser)
        g_error ("out of memory");
    parser->_private = &reader;
    parser->sax->serror = on_error;
    parser->sax->internalSubset = on_doctype;
    parser->sax->startElementNs = on_element;
    parser->sax->comment = NULL; /* nobody's business, and no memory either */
    parser->sax->processingInstruction = NULL;
    xmlDoc *doc = libxml.CtxtReadMemory (parser, text, length, NULL, NULL,
                                         XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING
                                             | XML_PARSE_BIG_LINES);
    if (reader.refused || (doc && !parser->wellFormed))
        g_clear_pointer (&doc, xml_free);
    libxml.FreeParserCtxt (parser);
    if (!doc && reader.refused)
        error_set (error, BAK_ERROR_XML, _("line %d: %s"), reader.line, reader.refused);
    else if (!doc)
        error_set (error, BAK_ERROR_XML, _("line %d: not XML: %s"), MAX (reader.line, 1),
                   reader.message ? reader.message : _("no document"));
    g_free (reader.message);
    return doc;
}

xmlDoc *xml_read (const char *text, const char *root, GError **error)
{
    gsize length = text ? strnlen (text, XML_SIZE_MAX + 1) : 0;

    if (length > XML_SIZE_MAX) {
        error_set (error, BAK_ERROR_XML, _("the document is larger than %d bytes"), XML_SIZE_MAX);
        return NULL;
    }
    if (length == 0) {
        error_set (error, BAK_ERROR_XML,
                   _("line 1: not XML: the document is empty; expected <%s>"), root);
        return NULL;
    }
    if (too_many_attributes (text)) {
        error_set (error, BAK_ERROR_XML, _("an element has more than %d attributes"),
                   XML_ATTRIBUTES_MAX);
        return NULL;
    }
    g_autoptr (xmlDoc) doc = load_libxml (error) ? read_document (text, length, error) : NULL;
    if (!doc)
        return NULL;
    const xmlNode *node = xml_root (doc);
    if (node && node->ns && strcmp ((const char *) node->name, root) == 0) {
        g_autofree char *shown = text_sanitize ((const char *) node->ns->href, 256);
        xml_error (node, error, _("<%s> is in the namespace '%s': expected no xmlns"), root,
                   shown);
        return NULL;
    }
    if (!node || node->ns || !xml_is (node, root)) {
        xml_error (node, error, _("expected the root element <%s>"), root);
        return NULL;
    }
    return g_steal_pointer (&doc);
}

/* Errors */

guint xml_line (const xmlNode *node)
{
    long line = node ? libxml.GetLineNo (node) : 0;
    return line > 0 ? line : 0;
}

static char *element_label (const xmlNode *node)
{
    g_autofree char *name = text_sanitize ((const char *) node->name, 64);
    g_autofree char *disk = xml_is (node, "disk") ? xml_get (node, "name") : NULL;
    g_autofree char *shown = text_sanitize (disk, 128);

    return *shown ? g_strdup_printf ("<%s name='%s'>", name, shown)
                  : g_strdup_printf ("<%s>", name);
}

/* "<disk name='vda'>: <target>": from the disk or the child of the root down. */
static char *node_label (const xmlNode *node)
{
    g_autofree char *own = element_label (node);
    const xmlNode *parent = node->parent;

    if (xml_is (node, "disk") || !parent || !parent->parent
        || parent->parent->type != XML_ELEMENT_NODE || xml_is (parent, "disks"))
        return g_steal_pointer (&own);
    g_autofree char *above = node_label (parent);
    return g_strdup_printf ("%s: %s", above, own);
}

static gboolean error_at (const xmlNode *node, GError **error, const char *text)
{
    g_autofree char *label = node ? node_label (node) : g_strdup ("");

    return error_set (error, BAK_ERROR_XML, _("line %u: %s: %s"), xml_line (node), label, text);
}

gboolean xml_error (const xmlNode *node, GError **error, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    return error_at (node, error, text);
}

gboolean xml_error_value (const xmlNode *node, const char *attribute, const char *value,
                          GError **error, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *expected = g_strdup_vprintf (format, args);
    va_end (args);
    g_autofree char *name = text_sanitize (attribute, 64);
    g_autofree char *shown = text_sanitize (value, 200);
    g_autofree char *text = g_strdup_printf (_("attribute %s='%s': %s"), name, shown, expected);
    return error_at (node, error, text);
}

/* "'yes' or 'no'"; before and after go around each word; a trailing '*' is not shown. */
static char *list_words (const char *const *words, const char *before, const char *after)
{
    GString *text = g_string_new (NULL);

    for (guint i = 0; words[i]; i++) {
        gsize length = strlen (words[i]) - g_str_has_suffix (words[i], "*");
        if (i > 0)
            g_string_append (text, words[i + 1] ? ", " : _(" or "));
        g_string_append_printf (text, "%s%.*s%s", before, (int) length, words[i], after);
    }
    return g_string_free (text, FALSE);
}

/* Looking around */

gboolean xml_is (const xmlNode *node, const char *name)
{
    return strcmp ((const char *) node->name, name) == 0;
}

static xmlNode *find_element (xmlNode *node, const char *name)
{
    while (node && (node->type != XML_ELEMENT_NODE || (name && !xml_is (node, name))))
        node = node->next;
    return node;
}

xmlNode *xml_child (const xmlNode *node, const char *name)
{
    return find_element (node->children, name);
}

xmlNode *xml_next (const xmlNode *node, const char *name)
{
    return find_element (node->next, name);
}

char *xml_get (const xmlNode *node, const char *attribute)
{
    xmlChar *value = libxml.GetNoNsProp (node, (const xmlChar *) attribute);
    char *copy = g_strdup ((const char *) value);

    (*libxml.Free) (value);
    return copy;
}

gboolean xml_has (const xmlNode *node, const char *attribute)
{
    return libxml.HasNsProp (node, (const xmlChar *) attribute, NULL) != NULL;
}

/* Attributes */

static gboolean is_blank (const char *text)
{
    return strspn (text, " \t\r\n") == strlen (text);
}

static gboolean one_line (const char *text, gsize max)
{
    if (strlen (text) > max)
        return FALSE;
    for (const char *p = text; *p; p = g_utf8_next_char (p))
        if (g_unichar_iscntrl (g_utf8_get_char (p)))
            return FALSE;
    return TRUE;
}

static gboolean path_ok (const char *text, gsize max)
{
    return text[0] == '/' && text[1] != '\0' && one_line (text, max);
}

static gboolean host_ok (const char *text)
{
    g_autofree char *address = g_strdup (text);

    if (*text == '\0' || strlen (text) > 255)
        return FALSE;
    if (!strchr (text, ':'))
        return strspn (text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
               == strlen (text);
    char *zone = strchr (address, '%');
    if (zone) {
        *zone++ = '\0';
        if (*zone == '\0'
            || strspn (zone, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
                   != strlen (zone))
            return FALSE;
    }
    return g_hostname_is_ip_address (address);
}

/* With or without dashes in, lower case with dashes out; NULL: no UUID. */
static char *normal_uuid (const char *text)
{
    GString *out = g_string_new (NULL);
    gboolean dashes = strlen (text) == 36;

    for (const char *p = text; *p; p++) {
        gsize at = p - text;
        if (dashes && (at == 8 || at == 13 || at == 18 || at == 23) && *p == '-')
            continue;
        if (!g_ascii_isxdigit (*p))
            break;
        g_string_append_c (out, g_ascii_tolower (*p));
        if (out->len == 8 || out->len == 13 || out->len == 18 || out->len == 23)
            g_string_append_c (out, '-');
    }
    gboolean whole = out->len == 36 && (dashes || strlen (text) == 32);
    char *uuid = g_string_free (out, FALSE);
    if (whole)
        return uuid;
    g_free (uuid);
    return NULL;
}

static char *expected_text (const XmlAttr *row)
{
    switch (row->kind) {
    case XML_CHOICE:
    case XML_WORD: return list_words (row->values, "'", "'");
    case XML_PLAIN:
        return g_strdup_printf (_("one line of text, 1 to %u bytes"), (guint) row->max);
    case XML_PLAIN_EMPTY:
        return g_strdup_printf (_("one line of text, at most %u bytes"), (guint) row->max);
    case XML_PATH: return g_strdup (_("an absolute path"));
    case XML_SOCKET:
        return g_strdup_printf (_("an absolute path of at most %d bytes"), XML_SOCKET_MAX);
    case XML_HOST: return g_strdup (_("a host name or an IP address"));
    case XML_NAME:
    case XML_NAME_EMPTY:
        return g_strdup (
            _("the name of a checkpoint: letters, digits, '_', '-', and '.' except in front, at "
               "most 200 of them, and not 'bak-' in front"));
    case XML_UUID: return g_strdup (_("a UUID"));
    case XML_UINT:
        return g_strdup_printf (_("a number from %u to %u"), (guint) row->min, (guint) row->max);
    case XML_LONG: return g_strdup (_("a whole number"));
    case XML_SIZE: return g_strdup (_("a number of bytes, or with a unit as in '64KiB'"));
    case XML_SIZE_POWER:
        return g_strdup_printf (
            _("a power of two from %u to %u bytes, with or without a unit as in '64KiB'"),
            (guint) row->min, (guint) row->max);
    case XML_IGNORED: break;
    }
    return g_strdup (_("any text"));
}

/* Position in values, or -1. */
static int find_word (const char *const *values, const char *text)
{
    for (int i = 0; values[i]; i++)
        if (strcmp (values[i], text) == 0)
            return i;
    return -1;
}

static gboolean store_string (gpointer object, const XmlAttr *row, const char *text)
{
    if (row->offset == XML_NOWHERE)
        return TRUE;
    char **member = &G_STRUCT_MEMBER (char *, object, row->offset);
    g_free (*member);
    *member = g_strdup (text);
    return TRUE;
}

static gboolean store_choice (gpointer object, const XmlAttr *row, const char *text)
{
    int position = find_word (row->values, text);

    if (position >= 0 && row->offset != XML_NOWHERE)
        G_STRUCT_MEMBER (guint, object, row->offset) = row->base + position;
    return position >= 0;
}

static gboolean store_uint (gpointer object, const XmlAttr *row, const char *text)
{
    guint64 value;

    if (!units_parse_uint (text, row->min, row->max, &value))
        return FALSE;
    if (row->offset != XML_NOWHERE)
        G_STRUCT_MEMBER (guint, object, row->offset) = value;
    return TRUE;
}

static gboolean store_size (gpointer object, const XmlAttr *row, const char *text)
{
    guint64 value;

    if (!units_parse_size (text, &value) || value < row->min
        || value > (row->max ? row->max : G_MAXINT64))
        return FALSE;
    if (row->kind == XML_SIZE_POWER && (value & (value - 1)) != 0)
        return FALSE;
    if (row->offset != XML_NOWHERE)
        G_STRUCT_MEMBER (guint64, object, row->offset) = value;
    return TRUE;
}

static gboolean store_long (gpointer object, const XmlAttr *row, const char *text)
{
    guint64 value;

    if (!units_parse_uint (text, 0, G_MAXINT64, &value))
        return FALSE;
    if (row->offset != XML_NOWHERE)
        G_STRUCT_MEMBER (gint64, object, row->offset) = value;
    return TRUE;
}

static gboolean store_uuid (gpointer object, const XmlAttr *row, const char *text)
{
    g_autofree char *uuid = normal_uuid (text);

    return uuid && store_string (object, row, uuid);
}

static gboolean store_value (gpointer object, const XmlAttr *row, const char *text)
{
    switch (row->kind) {
    case XML_IGNORED: return TRUE;
    case XML_CHOICE: return store_choice (object, row, text);
    case XML_WORD: return find_word (row->values, text) >= 0 && store_string (object, row, text);
    case XML_PLAIN:
        return *text != '\0' && one_line (text, row->max) && store_string (object, row, text);
    case XML_PLAIN_EMPTY: return one_line (text, row->max) && store_string (object, row, text);
    case XML_PATH: return path_ok (text, XML_PATH_MAX) && store_string (object, row, text);
    case XML_SOCKET: return path_ok (text, XML_SOCKET_MAX) && store_string (object, row, text);
    case XML_HOST: return host_ok (text) && store_string (object, row, text);
    case XML_NAME_EMPTY:
        if (is_blank (text))
            return TRUE;
        G_GNUC_FALLTHROUGH;
    case XML_NAME: return checkpoint_name_check (text, NULL) && store_string (object, row, text);
    case XML_UUID: return store_uuid (object, row, text);
    case XML_UINT: return store_uint (object, row, text);
    case XML_LONG: return store_long (object, row, text);
    case XML_SIZE:
    case XML_SIZE_POWER: return store_size (object, row, text);
    }
    return FALSE;
}

static gboolean bad_value (const xmlNode *node, const XmlAttr *row, const char *value,
                           GError **error)
{
    g_autofree char *expected = expected_text (row);

    return xml_error_value (node, row->name, value, error, _("expected %s"), expected);
}

static gboolean missing (const xmlNode *node, const XmlAttr *row, GError **error)
{
    g_autofree char *expected = expected_text (row);

    return xml_error (node, error, _("attribute %s is missing: expected %s"), row->name, expected);
}

static const XmlAttr *find_row (const XmlAttr *table, const xmlAttr *attribute)
{
    if (attribute->ns)
        return NULL;
    for (const XmlAttr *row = table; row->name; row++)
        if (strcmp (row->name, (const char *) attribute->name) == 0)
            return row;
    return NULL;
}

static gboolean misplaced (const xmlNode *node, const xmlAttr *attribute, const XmlAttr *table,
                           const char *where, GError **error)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    g_autofree char *value = attribute->ns ? NULL : xml_get (node, (const char *) attribute->name);

    for (const XmlAttr *row = table; row->name; row++)
        g_ptr_array_add (names, (gpointer) row->name);
    g_ptr_array_add (names, NULL);
    g_autofree char *expected = names->len > 1
                                    ? list_words ((const char *const *) names->pdata, "", "")
                                    : g_strdup (_("none"));
    return xml_error_value (node, (const char *) attribute->name, value, error,
                            _("not accepted %s: expected %s"), where, expected);
}

gboolean xml_read_attrs (const xmlNode *node, const XmlAttr *table, const char *where,
                         gpointer object, GError **error)
{
    for (const xmlAttr *attribute = node->properties; attribute; attribute = attribute->next) {
        const XmlAttr *row = find_row (table, attribute);
        if (!row)
            return misplaced (node, attribute, table, where, error);
        g_autofree char *value = xml_get (node, row->name);
        if (!store_value (object, row, value))
            return bad_value (node, row, value, error);
    }
    for (const XmlAttr *row = table; row->name; row++)
        if (row->required && !xml_has (node, row->name))
            return missing (node, row, error);
    return TRUE;
}

/* Children and text */

static gboolean text_refused (const xmlNode *node, const xmlNode *text, GError **error)
{
    g_autofree char *copy = g_strstrip (g_strdup ((const char *) text->content));
    g_autofree char *shown = text_sanitize (copy, 64);

    return xml_error (node, error, _("text '%s' is not accepted here"), shown);
}

static gboolean check_nodes (const xmlNode *node, GError **error)
{
    for (const xmlNode *child = node->children; child; child = child->next) {
        if (child->type == XML_CDATA_SECTION_NODE
            || (child->type == XML_TEXT_NODE && !libxml.IsBlankNode (child)))
            return text_refused (node, child, error);
        if (child->type == XML_ENTITY_REF_NODE)
            return xml_error (node, error, _("entities are not accepted"));
    }
    return TRUE;
}

/* The name as the list has it; NULL: not in the list. */
static const char *find_child_name (const xmlNode *child, const char *const *names)
{
    gsize length = strlen ((const char *) child->name);

    if (child->ns)
        return NULL;
    for (; *names; names++)
        if (strncmp (*names, (const char *) child->name, length) == 0
            && ((*names)[length] == '\0' || (*names)[length] == '*'))
            return *names;
    return NULL;
}

gboolean xml_check_children (const xmlNode *node, const char *const *names, const char *where,
                             GError **error)
{
    if (!check_nodes (node, error))
        return FALSE;
    for (const xmlNode *child = xml_child (node, NULL); child; child = xml_next (child, NULL)) {
        const char *name = find_child_name (child, names);
        if (!name) {
            g_autofree char *expected =
                *names ? list_words (names, "<", ">") : g_strdup (_("none"));
            return xml_error (child, error, _("not accepted %s: expected %s"), where, expected);
        }
        if (!g_str_has_suffix (name, "*") && xml_child (node, name) != child)
            return xml_error (child, error, _("given twice"));
    }
    return TRUE;
}

gboolean xml_check_empty (const xmlNode *node, GError **error)
{
    static const char *const none[] = { NULL };

    return xml_check_children (node, none, _("here"), error);
}

gboolean xml_read_text (const xmlNode *node, char **ret_text, GError **error)
{
    static const XmlAttr no_attributes[] = { { NULL } };
    GString *text = g_string_new (NULL);

    for (const xmlNode *child = node->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE || child->type == XML_ENTITY_REF_NODE) {
            g_string_free (text, TRUE);
            return xml_error (child->type == XML_ELEMENT_NODE ? child : node, error,
                              _("not accepted here: expected text"));
        }
        if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE)
            g_string_append (text, (const char *) child->content);
    }
    if (!xml_read_attrs (node, no_attributes, _("here"), NULL, error)) {
        g_string_free (text, TRUE);
        return FALSE;
    }
    *ret_text = g_string_free (text, FALSE);
    return TRUE;
}

gboolean xml_read_text_as (const xmlNode *node, const XmlAttr *row, gpointer object, GError **error)
{
    g_autofree char *text = NULL;

    if (!xml_read_text (node, &text, error))
        return FALSE;
    if (is_blank (text))
        *text = '\0';
    if (store_value (object, row, text))
        return TRUE;
    g_autofree char *shown = text_sanitize (text, 200);
    g_autofree char *expected = expected_text (row);
    return xml_error (node, error, _("text '%s': expected %s"), shown, expected);
}

/* Writing */

void xml_writer_init (XmlWriter *writer)
{
    *writer = (XmlWriter){ g_string_new (NULL), 0, FALSE };
}

char *xml_writer_finish (XmlWriter *writer)
{
    return g_string_free (g_steal_pointer (&writer->out), FALSE);
}

/* What XML has no way to say becomes '?'. */
static void append_escaped (GString *out, const char *text, gboolean attribute)
{
    g_autofree char *valid = g_utf8_make_valid (text, -1);

    for (const char *p = valid; *p; p = g_utf8_next_char (p)) {
        gunichar c = g_utf8_get_char (p);
        if (c == '&')
            g_string_append (out, "&amp;");
        else if (c == '<')
            g_string_append (out, "&lt;");
        else if (c == '>')
            g_string_append (out, "&gt;");
        else if (c == '\'')
            g_string_append (out, "&apos;");
        else if (c == '"')
            g_string_append (out, "&quot;");
        else if (c == '\r' || (attribute && (c == '\t' || c == '\n')))
            g_string_append_printf (out, "&#%u;", c);
        else if ((c < 0x20 && c != '\t' && c != '\n') || c == 0xfffe || c == 0xffff)
            g_string_append_c (out, '?');
        else
            g_string_append_unichar (out, c);
    }
}

static void new_line (XmlWriter *writer)
{
    if (writer->open)
        g_string_append (writer->out, ">\n");
    writer->open = FALSE;
    g_string_append_printf (writer->out, "%*s", 2 * writer->depth, "");
}

void xml_start (XmlWriter *writer, const char *name)
{
    new_line (writer);
    g_string_append_printf (writer->out, "<%s", name);
    writer->open = TRUE;
    writer->depth++;
}

void xml_end (XmlWriter *writer, const char *name)
{
    writer->depth--;
    if (writer->open) {
        g_string_append (writer->out, "/>\n");
        writer->open = FALSE;
        return;
    }
    new_line (writer);
    g_string_append_printf (writer->out, "</%s>\n", name);
}

void xml_attr (XmlWriter *writer, const char *name, const char *value)
{
    if (!value)
        return;
    g_string_append_printf (writer->out, " %s='", name);
    append_escaped (writer->out, value, TRUE);
    g_string_append_c (writer->out, '\'');
}

void xml_attr_uint (XmlWriter *writer, const char *name, guint64 value)
{
    g_string_append_printf (writer->out, " %s='%" G_GUINT64_FORMAT "'", name, value);
}

static guint count_words (const char *const *values)
{
    guint n = 0;

    while (values[n])
        n++;
    return n;
}

static void write_choice (XmlWriter *writer, const XmlAttr *row, guint value)
{
    if (value >= row->base && value - row->base < count_words (row->values))
        xml_attr (writer, row->name, row->values[value - row->base]);
}

static void write_value (XmlWriter *writer, const XmlAttr *row, gconstpointer member)
{
    switch (row->kind) {
    case XML_IGNORED: break;
    case XML_CHOICE: write_choice (writer, row, *(const guint *) member); break;
    case XML_UINT:
        if (*(const guint *) member != 0)
            xml_attr_uint (writer, row->name, *(const guint *) member);
        break;
    case XML_LONG:
    case XML_SIZE:
    case XML_SIZE_POWER:
        if (*(const guint64 *) member != 0)
            xml_attr_uint (writer, row->name, *(const guint64 *) member);
        break;
    default: xml_attr (writer, row->name, *(const char *const *) member);
    }
}

void xml_attrs (XmlWriter *writer, const XmlAttr *table, gconstpointer object)
{
    for (const XmlAttr *row = table; row->name; row++)
        if (row->offset != XML_NOWHERE)
            write_value (writer, row, (const guint8 *) object + row->offset);
}

void xml_text (XmlWriter *writer, const char *name, const char *text)
{
    if (!text)
        return;
    new_line (writer);
    g_string_append_printf (writer->out, "<%s>", name);
    append_escaped (writer->out, text, FALSE);
    g_string_append_printf (writer->out, "</%s>\n", name);
}

void xml_raw (XmlWriter *writer, const char *xml)
{
    if (!xml)
        return;
    g_autofree char *copy = g_strchomp (g_strdup (xml));
    g_auto (GStrv) lines = g_strsplit (copy, "\n", -1);

    for (guint i = 0; lines[i]; i++) {
        new_line (writer);
        g_string_append_printf (writer->out, "%s\n", lines[i]);
    }
}
