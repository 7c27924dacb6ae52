/* A target as one string, there and back; sizes as people write them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "conf/backup_def.h"
#include "util/error.h"
#include "util/units.h"

typedef struct {
    const char *text;
    StoreType type;
    StoreProtocol protocol;
    const char *name, *host, *socket, *described; /* described: NULL: as text */
    guint port;
    gboolean tls;
} Target;

static const Target targets[] = {
    { "/srv/a.qcow2", STORE_FILE, 0, NULL, NULL, NULL },
    { "/srv/Архив 1/a", STORE_FILE, 0, NULL, NULL, NULL },
    { "/dev/vg/a", STORE_BLOCK, 0, NULL, NULL, NULL },
    { "/device", STORE_FILE, 0, NULL, NULL, NULL },
    { "nbd://host/name", STORE_NETWORK, PROTOCOL_NBD, "name", "host", NULL },
    { "nbd://host", STORE_NETWORK, PROTOCOL_NBD, "", "host", NULL, "nbd://host/" },
    { "nbd://host:10809/a/b", STORE_NETWORK, PROTOCOL_NBD, "a/b", "host", NULL, NULL, 10809 },
    { "nbds://[::1]:7/a%20b", STORE_NETWORK, PROTOCOL_NBD, "a b", "::1", NULL, NULL, 7, TRUE },
    { "nbd+unix:///x?socket=/run/s", STORE_NETWORK, PROTOCOL_NBD, "x", NULL, "/run/s" },
    { "nbd+unix://?socket=/run/s", STORE_NETWORK, PROTOCOL_NBD, "", NULL, "/run/s",
      "nbd+unix:///?socket=/run/s" },
    { "nbds+unix:///x?socket=/run/s", STORE_NETWORK, PROTOCOL_NBD, "x", NULL, "/run/s", NULL, 0,
      TRUE },
    { "ssh://host/srv/x", STORE_NETWORK, PROTOCOL_SSH, "/srv/x", "host", NULL },
    { "ssh://host:2222/srv/x", STORE_NETWORK, PROTOCOL_SSH, "/srv/x", "host", NULL, NULL, 2222 },
    { "nfs://host/srv/x", STORE_NETWORK, PROTOCOL_NFS, "/srv/x", "host", NULL },
    { "gluster://host/vol/x", STORE_NETWORK, PROTOCOL_GLUSTER, "vol/x", "host", NULL },
    { "iscsi://host/iqn.2026-01.example:x/1", STORE_NETWORK, PROTOCOL_ISCSI,
      "iqn.2026-01.example:x/1", "host", NULL },
    { "rbd:pool/image", STORE_NETWORK, PROTOCOL_RBD, "pool/image", NULL, NULL },
};

START_TEST (a_target_is_understood_and_described_alike)
{
    const Target *row = &targets[_i];
    g_autoptr (GError) error = NULL;
    g_autoptr (StoreDef) store = store_def_from_string (row->text, &error);

    ck_assert_msg (store != NULL, "%s: %s", row->text, error ? error->message : "?");
    ck_assert_int_eq (store->type, row->type);
    if (row->type == STORE_NETWORK) {
        ck_assert_int_eq (store->protocol, row->protocol);
        ck_assert_str_eq (store->name, row->name);
        ck_assert_pstr_eq (store->host, row->host);
        ck_assert_pstr_eq (store->socket, row->socket);
        ck_assert_uint_eq (store->port, row->port);
        ck_assert_int_eq (store->tls == TRISTATE_YES, row->tls);
    } else {
        ck_assert_str_eq (store->path, row->text);
    }
    g_autofree char *described = store_def_describe (store);
    ck_assert_str_eq (described, row->described ? row->described : row->text);
    g_autoptr (StoreDef) again = store_def_from_string (described, NULL);
    g_autofree char *twice = store_def_describe (again);
    ck_assert_str_eq (described, twice);
    g_autoptr (StoreDef) copy = store_def_copy (store);
    g_autofree char *copied = store_def_describe (copy);
    ck_assert_str_eq (described, copied);
}
END_TEST

static const struct {
    const char *text, *error;
} wrong[] = {
    { "", "expected an absolute path" },
    { NULL, "expected an absolute path" },
    { "/", "expected an absolute path" },
    { "a.qcow2", "target 'a.qcow2': expected an absolute path" },
    { "./a", "expected an absolute path" },
    { "/a\nb", "target '/a\\x0ab': expected" },
    { "C:\\a", "expected" },
    { "ftp://h/x", "expected nbd://" },
    { "nbd+unix:///x", "expected ?socket=/PATH" },
    { "nbd+unix:///x?socket=s", "expected ?socket=/PATH" },
    { "nbd+unix://h/x?socket=/s", "expected three slashes" },
    { "nbd:///x", "expected a host" },
    { "nbd://h:0/x", "expected a port" },
    { "nbd://h:70000/x", "expected" },
    { "nbd://user:word@h/x", "expected neither a user" },
    { "nbd://h/x#y", "nor a fragment" },
    { "nbd://h/x?a=b", "expected no '?'" },
    { "ssh://h", "expected a name after the host" },
    { "rbd:image", "expected rbd:POOL/IMAGE" },
    { "rbd:pool/image:mon_host=h", "expected rbd:POOL/IMAGE" },
    { "rbd:/image", "expected rbd:POOL/IMAGE" },
    { "ssh+unix:///x?socket=/s", "expected nbd://" },
    { "nbd://h/%0a", "expected a name without control characters" },
};

START_TEST (a_wrong_target_is_refused_with_what_would_be_right)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (StoreDef) store = store_def_from_string (wrong[_i].text, &error);

    ck_assert_msg (!store, "%s: accepted", wrong[_i].text);
    ck_assert_int_eq (error_code (error), BAK_ERROR_INVALID_ARGUMENT);
    ck_assert_msg (strstr (error->message, wrong[_i].error) != NULL, "%s: %s", wrong[_i].text,
                   error->message);
}
END_TEST

START_TEST (a_target_without_anything_is_described_by_nothing)
{
    g_autoptr (StoreDef) store = store_def_new (STORE_FILE);
    g_autofree char *empty = store_def_describe (store), *none = store_def_describe (NULL);

    ck_assert_str_eq (empty, "");
    ck_assert_str_eq (none, "");
    store->type = STORE_NETWORK;
    g_autofree char *bare = store_def_describe (store);
    ck_assert_str_eq (bare, "nbd:");
}
END_TEST

static const struct {
    const char *text;
    gboolean ok;
    guint64 bytes;
} sizes[] = {
    { "0", TRUE, 0 },
    { "1", TRUE, 1 },
    { "512b", TRUE, 512 },
    { "64k", TRUE, 65536 },
    { "64KiB", TRUE, 65536 },
    { "32Kib", TRUE, 32768 },
    { "64kB", TRUE, 64000 },
    { "64 KiB", TRUE, 65536 },
    { "1M", TRUE, 1 << 20 },
    { "2G", TRUE, G_GUINT64_CONSTANT (1) << 31 },
    { "1T", TRUE, G_GUINT64_CONSTANT (1) << 40 },
    { "15E", TRUE, G_GUINT64_CONSTANT (15) << 60 },
    { "18446744073709551615", TRUE, G_MAXUINT64 },
    { "", FALSE },
    { NULL, FALSE },
    { " 1", FALSE },
    { "1 ", FALSE },
    { "1  K", FALSE },
    { "K", FALSE },
    { "-1", FALSE },
    { "1.5K", FALSE },
    { "0x10", FALSE },
    { "1Ki", FALSE },
    { "1KiBs", FALSE },
    { "1Z", FALSE },
    { "1bytes", FALSE },
    { "18446744073709551616", FALSE },
    { "16E", FALSE },
    { "99999999999E", FALSE },
};

START_TEST (a_size_is_a_whole_number_with_or_without_a_unit)
{
    guint64 bytes = 77;

    ck_assert_msg (units_parse_size (sizes[_i].text, &bytes) == sizes[_i].ok, "%s", sizes[_i].text);
    ck_assert_uint_eq (bytes, sizes[_i].ok ? sizes[_i].bytes : 77);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("stores");
    TCase *tcase = tcase_create ("strings");
    tcase_add_loop_test (tcase, a_target_is_understood_and_described_alike, 0,
                         G_N_ELEMENTS (targets));
    tcase_add_loop_test (tcase, a_wrong_target_is_refused_with_what_would_be_right, 0,
                         G_N_ELEMENTS (wrong));
    tcase_add_test (tcase, a_target_without_anything_is_described_by_nothing);
    tcase_add_loop_test (tcase, a_size_is_a_whole_number_with_or_without_a_unit, 0,
                         G_N_ELEMENTS (sizes));
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
