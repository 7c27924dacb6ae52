/* What libvirt says, in errors and in XML, turned into ours. No libvirtd. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "driver/libvirt/guest.h"
#include "driver/libvirt/home.h"

static const struct {
    int number, domain;
    const char *text;
    BakErrorCode code;
} errors[] = {
    { VIR_ERR_NO_DOMAIN, VIR_FROM_QEMU, "no domain with matching name 'x'", BAK_ERROR_NO_DOMAIN },
    { VIR_ERR_OPERATION_TIMEOUT, VIR_FROM_QEMU,
      "cannot acquire state change lock (held by monitor=remoteDispatchDomainBackupBegin)",
      BAK_ERROR_BUSY },
    { VIR_ERR_OPERATION_TIMEOUT, VIR_FROM_QEMU, "something else", BAK_ERROR_TIMEOUT },
    { VIR_ERR_OPERATION_INVALID, VIR_FROM_QEMU, "another backup job is already running",
      BAK_ERROR_BUSY },
    { VIR_ERR_OPERATION_INVALID, VIR_FROM_QEMU, "no job is active on the domain",
      BAK_ERROR_NO_JOB },
    { VIR_ERR_CHECKPOINT_INCONSISTENT, VIR_FROM_QEMU, "missing or broken bitmap 'c' for disk 'vda'",
      BAK_ERROR_INEXACT },
    { VIR_ERR_NO_DOMAIN_CHECKPOINT, VIR_FROM_QEMU, "Checkpoint 'c' not found",
      BAK_ERROR_NO_CHECKPOINT },
    { VIR_ERR_NO_DOMAIN_BACKUP, VIR_FROM_QEMU, "no domain backup job present", BAK_ERROR_NO_JOB },
    { VIR_ERR_XML_INVALID_SCHEMA, VIR_FROM_XML, "Extra element disks in interleave",
      BAK_ERROR_XML },
    { VIR_ERR_NO_SUPPORT, VIR_FROM_NONE, "this function is not supported",
      BAK_ERROR_NOT_SUPPORTED },
    { VIR_ERR_INVALID_ARG, VIR_FROM_QEMU, "store '/x' for backup of 'vda' exists",
      BAK_ERROR_EXISTS },
    { VIR_ERR_INVALID_ARG, VIR_FROM_QEMU, "backupXML must not be NULL",
      BAK_ERROR_INVALID_ARGUMENT },
    { VIR_ERR_OPERATION_DENIED, VIR_FROM_DOMAIN, "read only access prevents virDomainBackupBegin",
      BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_SYSTEM_ERROR, VIR_FROM_RPC,
      "Failed to connect socket to '/run/x': No such file or directory", BAK_ERROR_CONNECTION },
    { VIR_ERR_SYSTEM_ERROR, VIR_FROM_QEMU,
      "failed to create image file '/x': No space left on device", BAK_ERROR_NO_SPACE },
    { VIR_ERR_SYSTEM_ERROR, VIR_FROM_QEMU, "failed to create image file '/x': Permission denied",
      BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_INTERNAL_ERROR, VIR_FROM_RPC, "client socket is closed", BAK_ERROR_CONNECTION },
    { VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU,
      "unable to execute QEMU command 'transaction': Bitmap already exists: c1", BAK_ERROR_EXISTS },
    { VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU, "unable to execute QEMU command 'transaction': odd",
      BAK_ERROR_MONITOR },
    { VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU, "disk 'vda' has a blockjob assigned", BAK_ERROR_BUSY },
    { VIR_ERR_AGENT_UNRESPONSIVE, VIR_FROM_QEMU, "QEMU guest agent is not connected",
      BAK_ERROR_CONNECTION },
    { VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU,
      "unable to execute QEMU agent command 'guest-fsfreeze-freeze': no", BAK_ERROR_AGENT },
};

START_TEST (an_error_keeps_its_meaning)
{
    virError error = { .code = errors[_i].number,
                       .domain = errors[_i].domain,
                       .message = (char *) errors[_i].text };
    ck_assert_msg (lv_error_code (&error) == errors[_i].code, "%s: %d, not %d", errors[_i].text,
                   lv_error_code (&error), errors[_i].code);
}
END_TEST

static const struct {
    const char *uri;
    gboolean local;
} uris[] = {
    { "qemu:///system", TRUE },
    { "qemu:///session", TRUE },
    { "qemu+unix:///system?socket=/x", TRUE },
    { "test:///default", TRUE },
    { "qemu+ssh://host/system", FALSE },
    { "qemu+ssh:///system", FALSE },
    { "qemu+tls://host/system", FALSE },
    { "qemu://host/system", FALSE },
    { "qemu+libssh2://u@host/system", FALSE },
    { "", FALSE },
    { "qemu", FALSE },
    { "qemu:system", FALSE },
};

START_TEST (paths_are_ours_only_if_libvirt_is_on_this_host)
{
    ck_assert_msg (lv_uri_is_local (uris[_i].uri) == uris[_i].local, "%s", uris[_i].uri);
}
END_TEST

START_TEST (uris_have_folders_of_their_own)
{
    g_autofree char *a = lv_uri_hash ("qemu:///system"), *b = lv_uri_hash ("qemu:///session"),
                    *again = lv_uri_hash ("qemu:///system");
    ck_assert_uint_eq (strlen (a), 8);
    ck_assert_str_ne (a, b);
    ck_assert_str_eq (a, again);
}
END_TEST

START_TEST (a_name_that_would_leave_the_folder_is_no_guest)
{
    static const char *const bad[] = { "", ".", "..", "a/b", "/" };
    for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
        ck_assert_msg (!lv_guest_name_check (bad[i], NULL), "'%s'", bad[i]);
    g_autofree char *longest = g_strnfill (200, 'x'), *longer = g_strnfill (201, 'x');
    ck_assert (lv_guest_name_check (longest, NULL) && !lv_guest_name_check (longer, NULL)
               && lv_guest_name_check ("my guest", NULL));
}
END_TEST

static const char domain_xml[] =
    "<domain type='kvm' "
    "id='7'><name>g</name><uuid>11111111-2222-3333-4444-555555555555</uuid><memory "
    "unit='KiB'>1048576</memory>"
    "<currentMemory unit='KiB'>524288</currentMemory><vcpu placement='static'>3</vcpu><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' iothread='2'/><source "
    "file='/i/top.qcow2' index='3'/>"
    "<backingStore type='file' index='4'><format type='qcow2'/><source "
    "file='/i/mid.qcow2'/><backingStore type='network'><format type='raw'/>"
    "<source protocol='rbd' name='pool/base'/><backingStore/></backingStore></backingStore><target "
    "dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>"
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source "
    "dev='/dev/vg/b'/><target dev='sda' bus='scsi'/></disk>"
    "<disk type='file' device='cdrom'><driver name='qemu'/><target dev='hda' "
    "bus='ide'/><readonly/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source "
    "file='/i/ro.qcow2'/><target dev='vdb'/><readonly/></disk>"
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' "
    "state='connected'/></channel></devices>"
    "<seclabel type='dynamic' model='apparmor'><label>x</label></seclabel>"
    "<seclabel type='dynamic' model='dac' "
    "relabel='yes'><label>+64055:+108</label></seclabel></domain>";

START_TEST (a_domain_is_read)
{
    g_autoptr (LvPicture) picture = lv_picture_parse (domain_xml, NULL);
    ck_assert_ptr_nonnull (picture);
    ck_assert_str_eq (picture->name, "g");
    ck_assert (picture->active && picture->agent && picture->has_owner);
    ck_assert_uint_eq (picture->uid, 64055);
    ck_assert_uint_eq (picture->gid, 108);
    ck_assert_uint_eq (picture->cpus, 3);
    ck_assert_uint_eq (picture->max_memory, 1ull << 30);
    ck_assert_uint_eq (picture->disks->len, 4);
    const LvDisk *disk = lv_picture_disk (picture, "virtio-disk0", NULL);
    ck_assert_str_eq (disk->target, "vda");
    ck_assert_str_eq (disk->iothread, "2");
    ck_assert_ptr_eq (lv_picture_disk (picture, "/i/top.qcow2", NULL), disk);
    ck_assert_uint_eq (disk->chain->len, 3);
    ck_assert_str_eq (disk->chain->pdata[1], "/i/mid.qcow2");
    ck_assert_str_eq (disk->chain->pdata[2], "");
    ck_assert_ptr_null (lv_disk_excluded (disk));
    ck_assert_str_eq (lv_disk_excluded (lv_picture_disk (picture, "hda", NULL)),
                      "is an empty drive");
    ck_assert_str_eq (lv_disk_excluded (lv_picture_disk (picture, "vdb", NULL)), "is read-only");
    ck_assert_str_eq (lv_picture_disk (picture, "sda", NULL)->source, "/dev/vg/b");
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (lv_picture_disk (picture, "vdz", &error));
    ck_assert (strstr (error->message, "vda, sda, hda, vdb") != NULL);
}
END_TEST

static const char *const not_domains[] = {
    "", "x", "<domain", "<domainbackup/>",
    "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domainx>&e;</domainx>"
};

START_TEST (what_is_no_domain_is_an_error)
{
    g_autoptr (GError) error = NULL;
    ck_assert_ptr_null (lv_picture_parse (not_domains[_i], &error));
    ck_assert_ptr_nonnull (error);
}
END_TEST

START_TEST (a_bare_domain_is_read_without_a_crash)
{
    g_autoptr (LvPicture) picture =
        lv_picture_parse ("<domain><devices><disk/><disk type='file'><source/></disk><disk "
                          "type='volume'><source pool='p'/></disk></devices></domain>",
                          NULL);
    ck_assert_uint_eq (picture->disks->len, 3);
    ck_assert (!picture->active);
}
END_TEST

START_TEST (a_checkpoint_is_read_and_a_lost_bitmap_is_seen)
{
    g_autoptr (LvCheckpoint) checkpoint = lv_checkpoint_parse (
        "<domaincheckpoint><name>c1</name><parent><name>c0</name></"
        "parent><creationTime>1795241873</creationTime><disks>"
        "<disk name='vda' checkpoint='bitmap' bitmap='c1' size='1179648'/><disk name='vdb' "
        "checkpoint='bitmap' bitmap='c1'/><disk name='vdc' checkpoint='no'/></disks>"
        "<domain><devices><disk type='file'><source file='/i/a'/><target "
        "dev='vda'/></disk></devices></domain></domaincheckpoint>",
        NULL);
    ck_assert_str_eq (checkpoint->parent, "c0");
    ck_assert_int_eq (checkpoint->created, 1795241873);
    ck_assert_uint_eq (checkpoint->disks->len, 2);
    ck_assert (lv_checkpoint_disk (checkpoint, "vda")->has_size
               && !lv_checkpoint_disk (checkpoint, "vdb")->has_size);
    ck_assert_ptr_null (lv_checkpoint_disk (checkpoint, "vdc"));
    ck_assert_str_eq (g_hash_table_lookup (checkpoint->sources, "vda"), "/i/a");
}
END_TEST

START_TEST (a_running_backup_is_ours_if_it_writes_where_ours_does)
{
    g_autoptr (LvRunning) running = lv_running_parse (
        "<domainbackup mode='push'><disks><disk name='vda' backup='yes' type='file' "
        "index='4'><target file='/t/a'/></disk>"
        "<disk name='vdb' backup='yes' type='block' index='5'><target dev='/dev/b'/></disk><disk "
        "name='vdc' backup='no'/></disks></domainbackup>",
        NULL);
    PlanDisk a = { .target = (char *) "vda", .path = (char *) "/t/a" },
             b = { .target = (char *) "vdb", .path = (char *) "/dev/b" };
    Plan plan = { .mode = BACKUP_MODE_PUSH, .disks = g_ptr_array_new () };
    g_ptr_array_add (plan.disks, &a);
    ck_assert (!lv_running_is (running, &plan));
    g_ptr_array_add (plan.disks, &b);
    ck_assert (lv_running_is (running, &plan));
    ck_assert_uint_eq (GPOINTER_TO_UINT (g_hash_table_lookup (running->indexes, "vdb")), 5);
    b.path = (char *) "/dev/c";
    ck_assert (!lv_running_is (running, &plan));
    b.path = (char *) "/dev/b";
    plan.mode = BACKUP_MODE_PULL;
    ck_assert (!lv_running_is (running, &plan));
    g_ptr_array_unref (plan.disks);
}
END_TEST

START_TEST (the_disk_that_libvirt_refuses_is_learnt_once)
{
    LvRequest request = { 0 };
    g_autoptr (GError) inexact = g_error_new (
        BAK_ERROR, BAK_ERROR_INEXACT,
        "libvirt: checkpoint inconsistent: missing or broken bitmap 'c' for disk 'vdb'");
    g_autoptr (GError) other = g_error_new (BAK_ERROR, BAK_ERROR_IO, "x for disk 'vda'");
    ck_assert (lv_request_learn (&request, inexact));
    ck_assert (g_hash_table_contains (request.refused, "vdb"));
    ck_assert_msg (!lv_request_learn (&request, inexact), "it would be tried for ever");
    ck_assert (!lv_request_learn (&request, other));
    lv_request_clear (&request);
}
END_TEST

START_TEST (a_guest_on_its_way_is_not_at_home)
{
    static const struct {
        int state, reason;
        gboolean home;
    } states[] = {
        { VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED, TRUE },
        { VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED, TRUE },
        { VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY, FALSE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, TRUE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR, TRUE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION, FALSE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP, FALSE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SAVE, FALSE },
        { VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, FALSE },
        { VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_MIGRATED, TRUE },
    };
    for (guint i = 0; i < G_N_ELEMENTS (states); i++) {
        g_autoptr (GError) error = NULL;
        ck_assert_int_eq (lv_state_is_home (states[i].state, states[i].reason, &error),
                          states[i].home);
        ck_assert (states[i].home || g_error_matches (error, BAK_ERROR, BAK_ERROR_INEXACT));
    }
}
END_TEST

START_TEST (some_space_is_kept)
{
    ck_assert_uint_eq (lv_space_reserve (0), 128 * 1024);
    ck_assert_uint_eq (lv_space_reserve (2 << 20), 256 * 1024);
    ck_assert_uint_eq (lv_space_reserve (1ull << 40), 64 << 20);
}
END_TEST

int main (void)
{
    TCase *words = tcase_create ("words");
    tcase_add_loop_test (words, an_error_keeps_its_meaning, 0, G_N_ELEMENTS (errors));
    tcase_add_loop_test (words, paths_are_ours_only_if_libvirt_is_on_this_host, 0,
                         G_N_ELEMENTS (uris));
    tcase_add_test (words, uris_have_folders_of_their_own);
    tcase_add_test (words, a_name_that_would_leave_the_folder_is_no_guest);
    tcase_add_test (words, a_domain_is_read);
    tcase_add_loop_test (words, what_is_no_domain_is_an_error, 0, G_N_ELEMENTS (not_domains));
    tcase_add_test (words, a_bare_domain_is_read_without_a_crash);
    tcase_add_test (words, a_checkpoint_is_read_and_a_lost_bitmap_is_seen);
    tcase_add_test (words, a_running_backup_is_ours_if_it_writes_where_ours_does);
    tcase_add_test (words, the_disk_that_libvirt_refuses_is_learnt_once);
    tcase_add_test (words, some_space_is_kept);
    tcase_add_test (words, a_guest_on_its_way_is_not_at_home);
    Suite *suite = suite_create ("libvirt words");
    suite_add_tcase (suite, words);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
