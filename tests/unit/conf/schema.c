/* The schemas and the parser accept the same documents, but for the few rules below that no schema
 * can say. Held against every row of the parser's own tests, and against each accepted row changed
 * in every way that one step allows. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"
#include "rows.h"

/* Messages of what only the parser knows. */
static const char *const parser_only[] = {
    "is given twice, first",      /* disks, targets, export names, the backing file */
    "the name of the checkpoint", /* bitmap= of a checkpoint's disk */
    "expected a power of two",    /* granularity, cluster size */
    /* sizes that do not fit */
    "'9223372036854775808': expected a number of bytes",
    "'99999999999E': expected a number of bytes",
    "attribute socket='/яяяяяяяяяя",            /* bytes are not letters */
    "': expected a host name or an IP address", /* "::::" looks like an address */
};

typedef struct {
    const char *file;
    xmlRelaxNG *schema;
} Schema;

static Schema modern = { SCHEMAS "/domainbackup.rng" }, old = { SCHEMAS "/domainbackup-2016.rng" },
              checkpoint = { SCHEMAS "/domaincheckpoint.rng" };

static void schema_load (Schema *schema)
{
    xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt (schema->file);
    schema->schema = xmlRelaxNGParse (parser);
    xmlRelaxNGFreeParserCtxt (parser);
    if (!schema->schema)
        g_error ("%s is no schema", schema->file);
}

static void be_quiet (void *data, const char *format, ...) {}

static gboolean schema_accepts (const Schema *schema, xmlDoc *doc)
{
    xmlRelaxNGValidCtxt *context = xmlRelaxNGNewValidCtxt (schema->schema);
    xmlRelaxNGSetValidErrors (context, be_quiet, be_quiet, NULL);
    int result = xmlRelaxNGValidateDoc (context, doc);
    xmlRelaxNGFreeValidCtxt (context);
    return result == 0;
}

static gboolean backup_schemas_accept (xmlDoc *doc)
{
    return schema_accepts (&modern, doc) || schema_accepts (&old, doc);
}

static gboolean checkpoint_schema_accepts (xmlDoc *doc)
{
    return schema_accepts (&checkpoint, doc);
}

static gboolean backup_parser_accepts (const char *xml, GError **error)
{
    g_autoptr (BackupDef) def = backup_def_parse (xml, error);
    return def != NULL;
}

static gboolean checkpoint_parser_accepts (const char *xml, GError **error)
{
    g_autoptr (CheckpointDef) def = checkpoint_def_parse (xml, 0, error);
    return def != NULL;
}

typedef struct {
    gboolean (*schema) (xmlDoc *doc);
    gboolean (*parser) (const char *xml, GError **error);
} Pair;

static const Pair backup_pair = { backup_schemas_accept, backup_parser_accepts };
static const Pair checkpoint_pair = { checkpoint_schema_accepts, checkpoint_parser_accepts };

static gboolean known_to_the_parser_only (const char *message)
{
    for (guint i = 0; i < G_N_ELEMENTS (parser_only); i++)
        if (strstr (message, parser_only[i]))
            return TRUE;
    return FALSE;
}

static void check_agreement (const Pair *pair, const char *xml, xmlDoc *doc)
{
    g_autoptr (GError) error = NULL;
    gboolean schema = pair->schema (doc), parser = pair->parser (xml, &error);

    ck_assert_msg (!parser || schema, "the parser accepts, no schema does: %s", xml);
    ck_assert_msg (parser || !schema || known_to_the_parser_only (error->message),
                   "a schema accepts, the parser says %s: %s", error ? error->message : "?", xml);
}

static xmlDoc *read_plain (const char *xml)
{
    return xmlReadMemory (xml, strlen (xml), NULL, NULL,
                          XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NONET);
}

static void check_row (const Pair *pair, const Row *row)
{
    xmlDoc *doc = read_plain (row->xml);

    /* not XML, or refused before there is anything to validate */
    if (!doc || xmlGetIntSubset (doc)) {
        ck_assert_ptr_nonnull (row->error);
    } else {
        check_agreement (pair, row->xml, doc);
        ck_assert_msg (row->error || pair->schema (doc), "%s: no schema accepts it", row->name);
    }
    xmlFreeDoc (doc);
}

START_TEST (parser_and_schema_agree_on_a_backup)
{
    check_row (&backup_pair, &backup_rows[_i]);
}
END_TEST

START_TEST (parser_and_schema_agree_on_a_checkpoint)
{
    check_row (&checkpoint_pair, &checkpoint_rows[_i]);
}
END_TEST

/* Changes of one step */

static const struct {
    const char *name, *value;
} attributes[] = {
    { "mode", "push" },
    { "mode", "pull" },
    { "fallback", "full" },
    { "fallback", "no" },
    { "instant", "begin" },
    { "instant", "end" },
    { "instant", "now" },
    { "series", "s" },
    { "series", "" },
    { "name", "n" },
    { "name", "/n" },
    { "backup", "yes" },
    { "backup", "no" },
    { "type", "file" },
    { "type", "block" },
    { "type", "network" },
    { "type", "full" },
    { "type", "incremental" },
    { "type", "qcow2" },
    { "type", "raw" },
    { "type", "ip" },
    { "backupmode", "full" },
    { "backupmode", "incremental" },
    { "sync", "full" },
    { "sync", "top" },
    { "sync", "none" },
    { "sync", "incremental" },
    { "incremental", "i" },
    { "incremental", "" },
    { "incremental", " " },
    { "exportname", "" },
    { "exportname", "e" },
    { "exportbitmap", "e" },
    { "exportbitmap", "" },
    { "index", "1" },
    { "index", "x" },
    { "state", "running" },
    { "present", "yes" },
    { "present", "no" },
    { "granularity", "64K" },
    { "granularity", "0" },
    { "transport", "tcp" },
    { "transport", "unix" },
    { "transport", "fd" },
    { "transport", "auto" },
    { "port", "1" },
    { "port", "0" },
    { "host", "h" },
    { "socket", "/s" },
    { "socket", "s" },
    { "fdgroup", "g" },
    { "tls", "yes" },
    { "tls", "no" },
    { "tls-dir", "/d" },
    { "tls-psk", "/d" },
    { "allow-insecure", "yes" },
    { "idle-timeout", "0" },
    { "file", "/f" },
    { "file", "f" },
    { "dev", "/d" },
    { "protocol", "nbd" },
    { "protocol", "ssh" },
    { "protocol", "rbd" },
    { "compression", "zlib" },
    { "cluster_size", "64K" },
    { "compat", "1.1" },
    { "compat", "2" },
    { "extended_l2", "yes" },
    { "preallocation", "falloc" },
    { "preallocation", "full" },
    { "subformat", "fixed" },
    { "subformat", "monolithicFlat" },
    { "bytes_per_sec", "1" },
    { "protect", "no" },
    { "timeout", "1" },
    { "scratch", "/s" },
    { "scratch-limit", "1" },
    { "model", "dac" },
    { "relabel", "no" },
    { "relabel", "yes" },
    { "labelskip", "yes" },
    { "format", "luks" },
    { "engine", "qemu" },
    { "uuid", "0a81f5b284037b23c8d621ccc2f80d6f" },
    { "usage", "u" },
    { "size", "1" },
    { "hash", "h" },
    { "checkpoint", "no" },
    { "checkpoint", "bitmap" },
    { "bitmap", "c1" },
    { "persistent", "no" },
    { "colour", "red" },
};

static const char *const values[] = {
    "",
    " ",
    "x",
    "no",
    "yes",
    "0",
    "1",
    "-1",
    "+1",
    "007",
    "70000",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "64KiB",
    "64 kib",
    "64  K",
    "64 ",
    " 64",
    "1e3",
    "/",
    "/a",
    "/a ",
    " /a",
    "/a/../b",
    "//",
    "a b",
    "a\nb",
    "/a\nb",
    "/a\tb",
    "\302\205",
    "/\302\205",
    "\302\240",
    "a.b",
    ".a",
    "bak-1",
    "bak",
    "a_b",
    "::1",
    "::",
    ":",
    "1::2::3",
    "fe80::1%lo",
    "%lo",
    "::%",
    "a:b",
    "[::1]",
    "*",
    "file",
    "block",
    "network",
    "full",
    "incremental",
    "qcow2",
    "QCOW2",
    "nbd",
    "ssh",
    "tcp",
    "unix",
    "auto",
    "привет",
    "/путь",
    "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f",
    "0a81f5b28403-7b23-c8d6-21ccc2f80d6f",
};

static const char *const elements[] = {
    "<incremental>a</incremental>",
    "<incremental/>",
    "<server name='h'/>",
    "<guest/>",
    "<limit bytes_per_sec='1'/>",
    "<disks><disk name='new'/></disks>",
    "<disks/>",
    "<address type='ip' host='h' port='1'/>",
    "<branch name='b'/>",
    "<disk name='new'/>",
    "<disk name='new' backup='no'/>",
    "<driver type='qcow2'/>",
    "<driver/>",
    "<target file='/new'/>",
    "<target dev='/new'/>",
    "<target protocol='nbd'><host name='h'/></target>",
    "<scratch file='/new'/>",
    "<scratch dev='/new'/>",
    "<backing file='/new'/>",
    "<source file='/new'/>",
    "<bitmap granularity='64K'/>",
    "<host name='h'/>",
    "<seclabel relabel='no'/>",
    "<seclabel/>",
    "<label>l</label>",
    "<encryption format='luks'><secret type='passphrase' usage='u'/></encryption>",
    "<secret type='passphrase' usage='u'/>",
    "<cipher name='aes' size='256'/>",
    "<ivgen name='plain'/>",
    "<name>c1</name>",
    "<name/>",
    "<description/>",
    "<parent><name>c0</name></parent>",
    "<parent/>",
    "<creationTime>1</creationTime>",
    "<domain/>",
    "<colour/>",
    "text",
    "<!-- comment -->",
    " ",
};

typedef struct {
    const Pair *pair;
    xmlDoc *doc;
    guint changes;
} Changes;

static void changed (Changes *changes)
{
    xmlChar *xml;
    int length;

    xmlDocDumpMemory (changes->doc, &xml, &length);
    xmlDoc *doc = read_plain ((const char *) xml);
    ck_assert_ptr_nonnull (doc);
    check_agreement (changes->pair, (const char *) xml, doc);
    changes->changes++;
    xmlFreeDoc (doc);
    xmlFree (xml);
}

static void change_attribute (Changes *changes, xmlNode *node, const char *name)
{
    xmlChar *was = xmlGetNoNsProp (node, (const xmlChar *) name);

    xmlUnsetProp (node, (const xmlChar *) name);
    changed (changes);
    for (guint i = 0; i < G_N_ELEMENTS (values); i++) {
        xmlSetProp (node, (const xmlChar *) name, (const xmlChar *) values[i]);
        changed (changes);
    }
    xmlSetProp (node, (const xmlChar *) name, was);
    xmlFree (was);
}

static void change_attributes (Changes *changes, xmlNode *node)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);

    for (xmlAttr *attribute = node->properties; attribute; attribute = attribute->next)
        g_ptr_array_add (names, g_strdup ((const char *) attribute->name));
    for (guint i = 0; i < names->len; i++)
        change_attribute (changes, node, names->pdata[i]);
    for (guint i = 0; i < G_N_ELEMENTS (attributes); i++) {
        if (xmlHasNsProp (node, (const xmlChar *) attributes[i].name, NULL))
            continue;
        xmlSetProp (node, (const xmlChar *) attributes[i].name,
                    (const xmlChar *) attributes[i].value);
        changed (changes);
        xmlUnsetProp (node, (const xmlChar *) attributes[i].name);
    }
}

static void add_elements (Changes *changes, xmlNode *node)
{
    for (guint i = 0; i < G_N_ELEMENTS (elements); i++) {
        xmlNode *added = NULL;
        xmlParseInNodeContext (node, elements[i], strlen (elements[i]), XML_PARSE_NOERROR, &added);
        ck_assert_ptr_nonnull (added);
        xmlNode *before = node->children, *copy = xmlDocCopyNode (added, changes->doc, 1);
        xmlFreeNodeList (added);
        if (before && i % 2)
            copy = xmlAddPrevSibling (before, copy);
        else
            copy = xmlAddChild (node, copy);
        changed (changes);
        if (copy->type != XML_TEXT_NODE) {
            xmlUnlinkNode (copy);
            xmlFreeNode (copy);
        } else if (copy == before || strcmp ((const char *) copy->content, elements[i]) != 0) {
            return; /* it was merged into other text */
        } else {
            xmlUnlinkNode (copy);
            xmlFreeNode (copy);
        }
    }
}

static void change_text (Changes *changes, xmlNode *node)
{
    if (!node->children || node->children->type != XML_TEXT_NODE || node->children->next)
        return;
    g_autofree char *was = g_strdup ((const char *) node->children->content);
    for (guint i = 0; i < G_N_ELEMENTS (values); i++) {
        xmlNodeSetContent (node, NULL);
        xmlNodeAddContent (node, (const xmlChar *) values[i]);
        changed (changes);
    }
    xmlNodeSetContent (node, NULL);
    xmlNodeAddContent (node, (const xmlChar *) was);
}

static void change_place (Changes *changes, xmlNode *node)
{
    xmlNode *parent = node->parent, *next = node->next;

    if (parent->type != XML_ELEMENT_NODE)
        return;
    xmlNode *twin = xmlDocCopyNode (node, changes->doc, 1);
    xmlAddNextSibling (node, twin);
    changed (changes);
    xmlUnlinkNode (node);
    xmlAddChild (parent, node); /* last, with its twin where it was */
    xmlUnlinkNode (twin);
    changed (changes);
    xmlUnlinkNode (node);
    changed (changes);
    xmlFreeNode (twin);
    if (next)
        xmlAddPrevSibling (next, node);
    else
        xmlAddChild (parent, node);
}

static void change_all (Changes *changes, xmlNode *node)
{
    change_attributes (changes, node);
    change_text (changes, node);
    change_place (changes, node);
    for (xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE)
            change_all (changes, child);
    add_elements (changes, node);
}

static void check_changes (const Pair *pair, const Row *row)
{
    if (row->error)
        return;
    xmlKeepBlanksDefault (0);
    Changes changes = { pair,
                        xmlReadMemory (row->xml, strlen (row->xml), NULL, NULL,
                                       XML_PARSE_NOBLANKS | XML_PARSE_NONET),
                        0 };
    change_all (&changes, xmlDocGetRootElement (changes.doc));
    ck_assert_uint_gt (changes.changes, 100);
    xmlFreeDoc (changes.doc);
}

START_TEST (parser_and_schema_agree_on_a_changed_backup)
{
    check_changes (&backup_pair, &backup_rows[_i]);
}
END_TEST

START_TEST (parser_and_schema_agree_on_a_changed_checkpoint)
{
    check_changes (&checkpoint_pair, &checkpoint_rows[_i]);
}
END_TEST

int main (void)
{
    schema_load (&modern);
    schema_load (&old);
    schema_load (&checkpoint);
    Suite *suite = suite_create ("schemas");
    TCase *tcase = tcase_create ("agreement");
    tcase_set_timeout (tcase, 240);
    tcase_add_loop_test (tcase, parser_and_schema_agree_on_a_backup, 0, n_backup_rows);
    tcase_add_loop_test (tcase, parser_and_schema_agree_on_a_checkpoint, 0, n_checkpoint_rows);
    tcase_add_loop_test (tcase, parser_and_schema_agree_on_a_changed_backup, 0, n_backup_rows);
    tcase_add_loop_test (tcase, parser_and_schema_agree_on_a_changed_checkpoint, 0,
                         n_checkpoint_rows);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    xmlRelaxNGFree (modern.schema);
    xmlRelaxNGFree (old.schema);
    xmlRelaxNGFree (checkpoint.schema);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
