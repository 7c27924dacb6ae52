/* Plans of the libvirt driver: pure, so no libvirtd is needed. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "driver/libvirt/plan.h"
#include "util/json.h"

enum { LIBVIRT_9 = 9000000, QEMU_7_2 = 7002022 };
static const guint64 size_a = 64 << 20, size_b = 32 << 20;

static const char domain_xml[] =
    "<domain id='1'><name>g</name><devices>"
    "<disk type='file'><driver type='qcow2'/><source file='/i/a.qcow2'/><backingStore "
    "type='file'><format type='qcow2'/><source file='/i/base.qcow2'/></backingStore><target "
    "dev='vda'/><alias name='virtio-disk0'/></disk>"
    "<disk type='file'><driver type='raw'/><source file='/i/b.raw'/><target dev='vdb'/></disk>"
    "<disk type='file' device='cdrom'><target dev='hda'/></disk></devices></domain>";

typedef struct {
    LvPlanInput in;
    GError *error;
    Plan *plan;
} Case;

static LvCheckpoint *base (const char *xml)
{
    LvCheckpoint *checkpoint = lv_checkpoint_parse (xml, NULL);
    ck_assert_ptr_nonnull (checkpoint);
    return checkpoint;
}

/* c0 is good for vda; lost is a checkpoint whose bitmap is; moved was made on another image. */
static void make_bases (LvPlanInput *in)
{
    in->bases = g_ptr_array_new_with_free_func ((GDestroyNotify) lv_checkpoint_free_parsed);
    g_ptr_array_add (in->bases,
                     base ("<domaincheckpoint><name>c0</name><disks><disk name='vda' "
                           "checkpoint='bitmap' bitmap='c0' size='65536'/></disks><domain><devices>"
                           "<disk type='file'><source file='/i/base.qcow2'/><target "
                           "dev='vda'/></disk></devices></domain></domaincheckpoint>"));
    g_ptr_array_add (in->bases,
                     base ("<domaincheckpoint><name>lost</name><disks><disk name='vda' "
                           "checkpoint='bitmap' bitmap='lost'/></disks></domaincheckpoint>"));
    g_ptr_array_add (in->bases,
                     base ("<domaincheckpoint><name>moved</name><disks><disk name='vda' "
                           "checkpoint='bitmap' bitmap='moved' size='1'/></disks><domain><devices>"
                           "<disk type='file'><source file='/elsewhere.qcow2'/><target "
                           "dev='vda'/></disk></devices></domain></domaincheckpoint>"));
    in->names = g_ptr_array_new_with_free_func (g_free);
    for (guint i = 0; i < in->bases->len; i++)
        g_ptr_array_add (in->names, g_strdup (((LvCheckpoint *) in->bases->pdata[i])->name));
    in->records = g_ptr_array_new_with_free_func ((GDestroyNotify) checkpoint_free);
}

static void begin (Case *c, const char *xml, const char *checkpoint_xml)
{
    LvPicture *picture = lv_picture_parse (domain_xml, NULL);
    ((LvDisk *) picture->disks->pdata[0])->capacity = size_a;
    ((LvDisk *) picture->disks->pdata[1])->capacity = size_b;
    *c = (Case){ .in = { .job = "0badcafe",
                         .domain = "g",
                         .picture = picture,
                         .local = TRUE,
                         .job_dir = "/job",
                         .scratch_dir = "/scratch",
                         .free_port = 12345,
                         .qemu_version = QEMU_7_2,
                         .libvirt_version = LIBVIRT_9 } };
    make_bases (&c->in);
    c->in.def = backup_def_parse (xml, &c->error);
    ck_assert_msg (c->in.def != NULL, "%s", c->error ? c->error->message : "?");
    if (checkpoint_xml)
        ck_assert_ptr_nonnull (c->in.checkpoint =
                                   checkpoint_def_parse (checkpoint_xml, 0, &c->error));
}

static void end (Case *c)
{
    plan_free (c->plan);
    backup_def_free ((BackupDef *) c->in.def);
    checkpoint_def_free ((CheckpointDef *) c->in.checkpoint);
    lv_picture_free ((LvPicture *) c->in.picture);
    g_ptr_array_unref (c->in.bases);
    g_ptr_array_unref (c->in.names);
    g_ptr_array_unref (c->in.records);
    g_clear_error (&c->error);
}

static const Step *step (const Plan *plan, const char *verb)
{
    for (guint i = 0; i < plan->steps->len; i++)
        if (g_str_equal (((Step *) plan->steps->pdata[i])->action->verb, verb))
            return plan->steps->pdata[i];
    return NULL;
}

static const char *argument (const Plan *plan, const char *verb, const char *name)
{
    const Step *found = step (plan, verb);
    ck_assert_msg (found != NULL, "no step %s", verb);
    return json_get_string (found->action->args, name);
}

#define PUSH_A                                                                                     \
    "<domainbackup><disks><disk name='vda' type='file'><target "                                   \
    "file='/t/a'/></disk></disks></domainbackup>"
#define DISK(attributes, inner)                                                                    \
    "<domainbackup><disks><disk name='vda' type='file' " attributes ">" inner                      \
    "</disk></disks></domainbackup>"
#define T "<target file='/t/a'/>"

START_TEST (a_target_is_made_before_the_begin_and_goes_after_a_failure)
{
    Case c;
    begin (&c, PUSH_A, "<domaincheckpoint><name>c1</name></domaincheckpoint>");
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_msg (c.plan != NULL, "%s", c.error ? c.error->message : "?");
    const Step *create = step (c.plan, "file-create"),
               *call = step (c.plan, "virDomainBackupBegin");
    ck_assert (((Action *) create->undo->pdata[0])->keep);
    ck_assert_str_eq (((Action *) call->undo->pdata[0])->verb, "virDomainAbortJob");
    ck_assert_str_eq (((Action *) call->undo->pdata[1])->verb, "virDomainCheckpointDelete");
    ck_assert (((Action *) call->undo->pdata[1])->keep);
    ck_assert_str_eq (
        argument (c.plan, "virDomainBackupBegin", "backup"),
        "<domainbackup mode='push'><disks><disk name='vda' type='file' backupmode='full'><driver "
        "type='qcow2'/><target file='/t/a'/></disk></disks></domainbackup>");
    ck_assert_str_eq (argument (c.plan, "virDomainBackupBegin", "checkpoint"),
                      "<domaincheckpoint><name>c1</name><disks><disk name='vda' "
                      "checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/><disk name='hda' "
                      "checkpoint='no'/></disks></domaincheckpoint>");
    ck_assert_str_eq (json_get_string_element (json_get_array (call->action->args, "flags"), 0),
                      "VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL");
    ck_assert_str_eq (((Action *) c.plan->finish->pdata[0])->verb, "wait-released");
    ck_assert (strstr (c.plan->notes->pdata[1], "vdb") != NULL);
    end (&c);
}
END_TEST

START_TEST (an_increment_never_names_the_live_image)
{
    static const struct {
        const char *inner;
        const char *backing;
    } rows[] = { { T, NULL },
                 { T "<backing file='/t/full'/>", "full" },
                 { T "<backing file='/elsewhere/full'/>", "/elsewhere/full" } };
    Case c;
    g_autofree char *xml = g_strdup_printf (DISK ("incremental='c0'", "%s"), rows[_i].inner);
    begin (&c, xml, NULL);
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_msg (c.plan != NULL, "%s", c.error ? c.error->message : "?");
    const char *backing = argument (c.plan, "image-create", "backing");
    ck_assert_msg (g_strcmp0 (backing, rows[_i].backing) == 0, "%s", backing ? backing : "none");
    ck_assert (strstr (argument (c.plan, "virDomainBackupBegin", "backup"),
                       "backupmode='incremental' incremental='c0'")
               != NULL);
    end (&c);
}
END_TEST

static void add_record (Case *c, const char *name, gint64 sequence, const char *backup)
{
    Checkpoint *record = checkpoint_new (name);
    CheckpointDisk *disk = checkpoint_disk_new ("vda");
    record->sequence = sequence;
    disk->size = size_a;
    disk->backup = g_strdup (backup);
    g_ptr_array_add (record->disks, disk);
    g_ptr_array_add (c->in.records, record);
}

/* What the records say of where c0's backup went and what went there later; whether the plan says
 * so, or refuses. */
static const struct {
    const char *of_c0, *of_c1;
    gboolean trust;
    const char *refused;
} previous[] = {
    { "/t/full", NULL, FALSE, NULL },
    { NULL, NULL, TRUE, NULL },
    { "/t/full", "/t/full", FALSE,
      "'/t/full' holds the backup of checkpoint 'c1', not that of 'c0'" },
    { "/t/full", "/t/other", FALSE, NULL },
    { NULL, "/t/full", FALSE, "holds the backup of checkpoint 'c1'" },
};

START_TEST (what_an_increment_is_laid_on_is_the_backup_of_its_checkpoint)
{
    Case c;
    begin (&c, DISK ("incremental='c0'", T "<backing file='/t/full'/>"), NULL);
    if (previous[_i].of_c0)
        add_record (&c, "c0", 1, previous[_i].of_c0);
    if (previous[_i].of_c1)
        add_record (&c, "c1", 2, previous[_i].of_c1);
    c.plan = lv_plan_backup (&c.in, &c.error);
    if (previous[_i].refused) {
        ck_assert_ptr_null (c.plan);
        ck_assert_int_eq (c.error->code, BAK_ERROR_INEXACT);
        ck_assert_msg (strstr (c.error->message, previous[_i].refused) != NULL, "%s",
                       c.error->message);
    } else {
        ck_assert_msg (c.plan != NULL, "%s", c.error ? c.error->message : "?");
        gboolean trust = FALSE;
        for (guint i = 0; i < c.plan->notes->len; i++)
            trust = trust || strstr (c.plan->notes->pdata[i], "taken on trust");
        ck_assert_int_eq (trust, previous[_i].trust);
    }
    end (&c);
}
END_TEST

START_TEST (a_checkpoint_whose_record_is_damaged_starts_nothing)
{
    Case c;
    begin (&c, DISK ("incremental='c0'", T), NULL);
    ((LvCheckpoint *) c.in.bases->pdata[0])->doubt = g_strdup ("the record is damaged");
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_ptr_null (c.plan);
    ck_assert_int_eq (c.error->code, BAK_ERROR_INEXACT);
    ck_assert (strstr (c.error->message, "the record is damaged") != NULL);
    end (&c);
}
END_TEST

START_TEST (text_from_documents_is_escaped)
{
    Case c;
    begin (&c,
           "<domainbackup><disks><disk name='vda' type='file'><target "
           "file='/t/&lt;a&apos;&amp;'/></disk></disks></domainbackup>",
           NULL);
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_ptr_nonnull (c.plan);
    ck_assert (
        strstr (argument (c.plan, "virDomainBackupBegin", "backup"), "file='/t/&lt;a&apos;&amp;'")
        || strstr (argument (c.plan, "virDomainBackupBegin", "backup"),
                   "file='/t/&lt;a&#39;&amp;'"));
    end (&c);
}
END_TEST

START_TEST (limits_are_set_right_after_and_shared_by_the_disks)
{
    Case c;
    begin (&c,
           "<domainbackup><limit bytes_per_sec='1000'/><disks><disk name='vda' type='file'><target "
           "file='/t/a'/></disk><disk name='vdb' type='file'><target "
           "file='/t/b'/></disk></disks></domainbackup>",
           NULL);
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_ptr_nonnull (c.plan);
    const Step *limit = step (c.plan, "virDomainBlockJobSetSpeed");
    ck_assert_int_eq (json_get_int (limit->action->args, "bandwidth", 0), 500);
    end (&c);
}
END_TEST

START_TEST (a_pull_has_scratch_server_and_names)
{
    Case c;
    begin (&c,
           "<domainbackup mode='pull'><incremental>c0</incremental><server transport='tcp' "
           "name='127.0.0.1'/><disks><disk name='virtio-disk0'/></disks></domainbackup>",
           NULL);
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_msg (c.plan != NULL, "%s", c.error ? c.error->message : "?");
    ck_assert_str_eq (argument (c.plan, "virDomainBackupBegin", "backup"),
                      "<domainbackup mode='pull'><server transport='tcp' name='127.0.0.1' "
                      "port='12345'/><disks><disk name='vda' type='file' backupmode='incremental' "
                      "incremental='c0' "
                      "exportname='vda' exportbitmap='backup-vda'><driver type='qcow2'/><scratch "
                      "file='/scratch/g-vda-0badcafe.scratch'/></disk></disks></domainbackup>");
    ck_assert_ptr_null (step (c.plan, "file-create"));
    ck_assert_str_eq (c.plan->server, "nbd://127.0.0.1:12345");
    end (&c);
}
END_TEST

START_TEST (freeze_and_thaw_enclose_the_begin)
{
    Case c;
    begin (&c, PUSH_A, NULL);
    ((LvPicture *) c.in.picture)->agent = TRUE;
    c.in.flags = BEGIN_QUIESCE;
    c.plan = lv_plan_backup (&c.in, &c.error);
    GString *order = g_string_new (NULL);
    for (guint i = 0; i < c.plan->steps->len; i++) {
        const char *verb = ((Step *) c.plan->steps->pdata[i])->action->verb;
        if (g_str_has_prefix (verb, "virDomainFS") || g_str_equal (verb, "virDomainBackupBegin")
            || g_str_equal (verb, "image-create"))
            g_string_append_printf (order, "%s ", verb);
    }
    ck_assert_str_eq (order->str,
                      "image-create virDomainFSFreeze virDomainBackupBegin virDomainFSThaw ");
    g_string_free (order, TRUE);
    end (&c);
}
END_TEST

/* flags, remote, document, checkpoint, code, words */
static const struct {
    guint flags;
    gboolean remote;
    const char *xml, *checkpoint;
    BakErrorCode code;
    const char *words;
} refused[] = {
    { 0, 0,
      "<domainbackup><disks><disk name='vda' type='network'><target protocol='nbd' name='x'><host "
      "name='h'/></target></disk></disks></domainbackup>",
      NULL, BAK_ERROR_NOT_SUPPORTED, "network targets (nbd)" },
    { 0, 0, DISK ("sync='top'", T), NULL, BAK_ERROR_NOT_SUPPORTED, "sync='top'" },
    { 0, 0, DISK ("sync='none'", T), NULL, BAK_ERROR_NOT_SUPPORTED, "sync='none'" },
    { 0, 0, DISK ("", "<driver type='qcow2' compression='zstd'/>" T), NULL, BAK_ERROR_NOT_SUPPORTED,
      "compression" },
    { 0, 0, DISK ("", "<driver type='vmdk'/>" T), NULL, BAK_ERROR_NOT_SUPPORTED, "vmdk" },
    { 0, 0,
      "<domainbackup><guest protect='strict'/><disks><disk name='vda' type='file'>" T
      "</disk></disks></domainbackup>",
      NULL, BAK_ERROR_NOT_SUPPORTED, "protect='strict'" },
    { 0, 0, DISK ("incremental='nope'", T), NULL, BAK_ERROR_INEXACT, "'nope' does not exist" },
    { 0, 0, DISK ("incremental='lost'", T), NULL, BAK_ERROR_INEXACT,
      "bitmap missing or inconsistent" },
    { 0, 0, DISK ("incremental='moved'", T), NULL, BAK_ERROR_INEXACT, "image replaced" },
    { 0, 0,
      "<domainbackup><disks><disk name='vdb' type='file' incremental='c0'><target "
      "file='/t/b'/></disk></disks></domainbackup>",
      NULL, BAK_ERROR_INEXACT, "disk not in the checkpoint" },
    { 0, 0, DISK ("incremental='c0'", "<driver type='raw'/>" T), NULL, BAK_ERROR_INVALID_ARGUMENT,
      "raw" },
    { 0, 0, DISK ("incremental='c0'", T "<backing file='/i/base.qcow2'/>"), NULL,
      BAK_ERROR_INVALID_ARGUMENT, "running guest" },
    { 0, 0, DISK ("", "<target file='/i/base.qcow2'/>"), NULL, BAK_ERROR_INVALID_ARGUMENT,
      "in use by the guest" },
    { 0, 1, DISK ("incremental='c0'", T), NULL, BAK_ERROR_NOT_SUPPORTED, "a pushed increment" },
    { 0, 1,
      "<domainbackup mode='pull'><server transport='unix' socket='/s' "
      "idle-timeout='5'/></domainbackup>",
      NULL, BAK_ERROR_NOT_SUPPORTED, "idle-timeout" },
    { 0, 0,
      "<domainbackup mode='pull'><server transport='unix' socket='/s' tls='yes' "
      "tls-psk='/k'/></domainbackup>",
      NULL, BAK_ERROR_NOT_SUPPORTED, "certificates only" },
    { 0, 0,
      "<domainbackup mode='pull'><server transport='tcp' name='10.0.0.1' "
      "port='10809'/></domainbackup>",
      NULL, BAK_ERROR_INVALID_ARGUMENT, "readable by anyone" },
    { 0, 0, "<domainbackup/>", NULL, BAK_ERROR_INVALID_ARGUMENT, "has no target" },
    { 0, 0, "<domainbackup><disks><disk name='hda' type='file'>" T "</disk></disks></domainbackup>",
      NULL, BAK_ERROR_NO_DISK, "is an empty drive" },
    { 0, 0, "<domainbackup><disks><disk name='vda' backup='no'/></disks></domainbackup>", NULL,
      BAK_ERROR_NO_DISK, "no disk is left" },
    { 0, 0, PUSH_A, "<domaincheckpoint><name>c0</name></domaincheckpoint>", BAK_ERROR_EXISTS,
      "'c0' exists already" },
    { 0, 0, PUSH_A,
      "<domaincheckpoint><name>c1</name><disks><disk name='vdb'/></disks></domaincheckpoint>",
      BAK_ERROR_NOT_SUPPORTED, "'raw'" },
    { 0, 0, PUSH_A,
      "<domaincheckpoint><name>c1</name><disks><disk name='vda' "
      "persistent='no'/></disks></domaincheckpoint>",
      BAK_ERROR_NOT_SUPPORTED, "in memory" },
    { 0, 0, PUSH_A,
      "<domaincheckpoint><name>c1</name><disks><disk name='vda' "
      "checkpoint='no'/></disks></domaincheckpoint>",
      BAK_ERROR_NOT_SUPPORTED, "on no disk" },
    { BEGIN_PRESERVE_SHUTDOWN, 0, PUSH_A, NULL, BAK_ERROR_NOT_SUPPORTED, "11.10" },
    { BEGIN_QUIESCE, 0, PUSH_A, NULL, BAK_ERROR_AGENT, "guest agent" },
};

START_TEST (what_cannot_be_is_refused_naming_feature_and_reason)
{
    Case c;
    begin (&c, refused[_i].xml, refused[_i].checkpoint);
    c.in.flags = refused[_i].flags;
    c.in.local = !refused[_i].remote;
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_msg (c.plan == NULL, "accepted: %s", refused[_i].xml);
    ck_assert_msg (strstr (c.error->message, refused[_i].words) != NULL, "%s", c.error->message);
    ck_assert_msg ((BakErrorCode) c.error->code == refused[_i].code, "code %d: %s", c.error->code,
                   c.error->message);
    end (&c);
}
END_TEST

START_TEST (a_bad_base_makes_that_disk_full_where_that_is_allowed)
{
    Case c;
    begin (&c, DISK ("incremental='lost' fallback='full'", T), NULL);
    c.plan = lv_plan_backup (&c.in, &c.error);
    ck_assert_ptr_nonnull (c.plan);
    const PlanDisk *disk = c.plan->disks->pdata[0];
    ck_assert_str_eq (disk->type, "full");
    ck_assert_str_eq (disk->reason, "bitmap missing or inconsistent");
    end (&c);
}
END_TEST

START_TEST (a_plan_survives_the_journal)
{
    Case c;
    begin (&c, PUSH_A, "<domaincheckpoint><name>c1</name></domaincheckpoint>");
    c.plan = lv_plan_backup (&c.in, &c.error);
    g_autoptr (JsonNode) node = plan_to_json (c.plan);
    g_autoptr (Plan) again = plan_from_json (node, &c.error);
    ck_assert_msg (again != NULL, "%s", c.error ? c.error->message : "?");
    g_autoptr (JsonNode) node_again = plan_to_json (again);
    g_autofree char *before = json_to_string (node, FALSE),
                    *after = json_to_string (node_again, FALSE);
    ck_assert_str_eq (before, after);
    end (&c);
}
END_TEST

int main (void)
{
    TCase *plans = tcase_create ("plans");
    tcase_add_test (plans, a_target_is_made_before_the_begin_and_goes_after_a_failure);
    tcase_add_loop_test (plans, an_increment_never_names_the_live_image, 0, 3);
    tcase_add_loop_test (plans, what_an_increment_is_laid_on_is_the_backup_of_its_checkpoint, 0,
                         G_N_ELEMENTS (previous));
    tcase_add_test (plans, a_checkpoint_whose_record_is_damaged_starts_nothing);
    tcase_add_test (plans, text_from_documents_is_escaped);
    tcase_add_test (plans, limits_are_set_right_after_and_shared_by_the_disks);
    tcase_add_test (plans, a_pull_has_scratch_server_and_names);
    tcase_add_test (plans, freeze_and_thaw_enclose_the_begin);
    tcase_add_loop_test (plans, what_cannot_be_is_refused_naming_feature_and_reason, 0,
                         G_N_ELEMENTS (refused));
    tcase_add_test (plans, a_bad_base_makes_that_disk_full_where_that_is_allowed);
    tcase_add_test (plans, a_plan_survives_the_journal);
    Suite *suite = suite_create ("libvirt plans");
    suite_add_tcase (suite, plans);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
