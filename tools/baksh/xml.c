/* Documents that the library returned, whole or what an XPath expression selects of them. */
#include <string.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>
#include "baksh.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlDoc, xmlFreeDoc)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlXPathObject, xmlXPathFreeObject)

static void quiet (void *data, xmlErrorPtr error) {}

/* Each selected node on lines of its own. */
static char *nodes_to_text (xmlDoc *doc, const xmlNodeSet *nodes, gboolean wrap)
{
    GString *text = g_string_new (wrap ? "<nodes>\n" : NULL);
    for (int i = 0; nodes && i < nodes->nodeNr; i++) {
        xmlBuffer *buffer = xmlBufferCreate ();
        xmlNodeDump (buffer, doc, nodes->nodeTab[i], wrap ? 1 : 0, 1);
        g_string_append_printf (text, "%s%s\n", wrap ? "  " : "",
                                (const char *) xmlBufferContent (buffer));
        xmlBufferFree (buffer);
    }
    if (wrap)
        g_string_append (text, "</nodes>\n");
    return g_string_free (text, FALSE);
}

static int select_nodes (const char *xml, const char *expression, gboolean wrap, char **ret_text)
{
    g_autoptr (xmlDoc) doc = xmlReadMemory (xml, strlen (xml), NULL, NULL,
                                            XML_PARSE_NONET | XML_PARSE_NOERROR
                                                | XML_PARSE_NOWARNING | XML_PARSE_NOBLANKS);
    g_autoptr (xmlXPathContext) context = doc ? xmlXPathNewContext (doc) : NULL;
    if (!context)
        return fail_with (STATUS_FAILED, _("the document cannot be parsed"));
    xmlSetStructuredErrorFunc (NULL, quiet);
    g_autoptr (xmlXPathObject) found =
        xmlXPathEvalExpression ((const xmlChar *) expression, context);
    xmlSetStructuredErrorFunc (NULL, NULL);
    if (!found)
        return usage (_("option --xpath: '%s' is not an XPath expression"), expression);
    if (found->type == XPATH_NODESET) {
        *ret_text = nodes_to_text (doc, found->nodesetval, wrap);
    } else {
        xmlChar *value = xmlXPathCastToString (found);
        *ret_text = g_strdup_printf ("%s\n", (const char *) value);
        xmlFree (value);
    }
    return STATUS_DONE;
}

int print_xml (const Args *args, char *xml)
{
    g_autofree char *selected = NULL;
    int status = STATUS_DONE;
    if (command_option (args_command (args), "xpath") && args_has (args, "xpath"))
        status = select_nodes (xml, args_text (args, "xpath"), args_has (args, "wrap"), &selected);
    const char *text = selected ? selected : xml;
    if (status == STATUS_DONE && args_json (args))
        print_json (json_one ("xml", text));
    else if (status == STATUS_DONE)
        print_document (text);
    bak_free (xml);
    return status;
}
