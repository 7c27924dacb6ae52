/* The public functions on a driver that answers what a test wants (../baksh/fakedriver.c). */
#include <check.h>
#include <glib.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libbackup/libbackup.h>

static BakConnection *conn;
static BakDomain *domain;
static BakError *error;

static void setup (void)
{
    conn = bak_connection_open ("libvirt+fake:///", &error);
    ck_assert_msg (conn != NULL, "%s", bak_error_get_message (error));
    domain = bak_domain_lookup_by_name (conn, "web", &error);
    ck_assert_msg (domain != NULL, "%s", bak_error_get_message (error));
}

static void teardown (void)
{
    bak_error_unref (error);
    bak_domain_unref (domain);
    bak_connection_unref (conn);
}

/* The last call failed so; the error is taken. */
static void ck_failed (BakErrorCode code, const char *part)
{
    ck_assert_ptr_nonnull (error);
    ck_assert_int_eq (bak_error_get_code (error), code);
    ck_assert_msg (strstr (bak_error_get_message (error), part) != NULL, "'%s' is not in '%s'",
                   part, bak_error_get_message (error));
    bak_error_unref (error);
    error = NULL;
}

/* Calls with a NULL where none may be: value of the call, what the message names. */
#define NULLS(N)                                                                                   \
    N (bak_connection_get_uri (NULL, &error) == NULL, "conn")                                      \
    N (bak_connection_get_type (NULL, &error) == NULL, "conn")                                     \
    N (bak_connection_get_product (NULL, &error) == NULL, "conn")                                  \
    N (bak_connection_get_capabilities (NULL, &error) == NULL, "conn")                             \
    N (bak_connection_describe (NULL, &error) == NULL, "conn")                                     \
    N (bak_connection_list_all_domains (NULL, NULL, 0, &error) == -1, "conn")                      \
    N (bak_connection_attach (NULL, NULL, &error) == NULL, "conn")                                 \
    N (bak_connection_attach (conn, NULL, &error) == NULL, "options")                              \
    N (bak_connection_discover (NULL, NULL, 0, &error) == -1, "conn")                              \
    N (bak_connection_get_fd (NULL, &error) == -1, "conn")                                         \
    N (bak_connection_dispatch (NULL, &error) == -1, "conn")                                       \
    N (bak_connection_domain_event_register_any (NULL, NULL, -1, NULL, NULL, NULL, &error) == -1,  \
       "conn")                                                                                     \
    N (bak_connection_domain_event_register_any (conn, NULL, -1, NULL, NULL, NULL, &error) == -1,  \
       "callback")                                                                                 \
    N (bak_connection_domain_event_deregister_any (NULL, 1, &error) == -1, "conn")                 \
    N (bak_domain_lookup_by_name (NULL, "web", &error) == NULL, "conn")                            \
    N (bak_domain_lookup_by_name (conn, NULL, &error) == NULL, "name")                             \
    N (bak_domain_lookup_by_uuid_string (conn, NULL, &error) == NULL, "uuid")                      \
    N (bak_domain_get_state (NULL, NULL, NULL, 0, &error) == -1, "domain")                         \
    N (bak_domain_get_state (domain, NULL, NULL, 0, &error) == -1, "state")                        \
    N (bak_domain_get_info (NULL, NULL, &error) == -1, "domain")                                   \
    N (bak_domain_get_info (domain, NULL, &error) == -1, "info")                                   \
    N (bak_domain_get_details (NULL, 0, &error) == NULL, "domain")                                 \
    N (bak_domain_get_xml_desc (NULL, 0, &error) == NULL, "domain")                                \
    N (bak_domain_list_disks (NULL, NULL, 0, &error) == -1, "domain")                              \
    N (bak_domain_lookup_disk (NULL, "vda", 0, &error) == NULL, "domain")                          \
    N (bak_domain_lookup_disk (domain, NULL, 0, &error) == NULL, "disk")                           \
    N (bak_domain_get_chain (domain, NULL, 0, &error) == NULL, "disk")                             \
    N (bak_domain_get_block_info (domain, "vda", NULL, 0, &error) == -1, "info")                   \
    N (bak_domain_fs_freeze (NULL, NULL, 0, 0, &error) == -1, "domain")                            \
    N (bak_domain_fs_thaw (NULL, NULL, 0, 0, &error) == -1, "domain")                              \
    N (bak_domain_detach (NULL, 0, &error) == -1, "domain")                                        \
    N (bak_domain_backup_begin (NULL, "<domainbackup/>", NULL, 0, &error) == -1, "domain")         \
    N (bak_domain_backup_begin (domain, NULL, NULL, 0, &error) == -1, "backup_xml")                \
    N (bak_domain_backup_begin_options (domain, NULL, &error) == NULL, "options")                  \
    N (bak_domain_backup_plan (domain, NULL, &error) == NULL, "options")                           \
    N (bak_domain_backup_stop (NULL, NULL, 0, &error) == NULL, "domain")                           \
    N (bak_domain_backup_info (NULL, NULL, 0, &error) == NULL, "domain")                           \
    N (bak_connection_backup_list (NULL, NULL, 0, &error) == -1, "conn")                           \
    N (bak_domain_backup_list (NULL, NULL, 0, &error) == -1, "domain")                             \
    N (bak_domain_backup_wait (NULL, NULL, 0, &error) == NULL, "domain")                           \
    N (bak_domain_backup_get_xml_desc (NULL, 0, &error) == NULL, "domain")                         \
    N (bak_domain_backup_job_get_xml_desc (domain, NULL, 0, &error) == NULL, "job")                \
    N (bak_domain_backup_limit (NULL, NULL, 0, &error) == -1, "domain")                            \
    N (bak_domain_get_job_info (NULL, NULL, &error) == -1, "domain")                               \
    N (bak_domain_get_job_info (domain, NULL, &error) == -1, "info")                               \
    N (bak_domain_get_job_stats (domain, NULL, NULL, NULL, 0, &error) == -1, "type")               \
    N (bak_domain_abort_job (NULL, &error) == -1, "domain")                                        \
    N (bak_domain_abort_job_flags (NULL, 0, &error) == -1, "domain")                               \
    N (bak_domain_get_block_job_info (domain, NULL, NULL, 0, &error) == -1, "disk")                \
    N (bak_domain_block_job_set_speed (domain, NULL, 1, 0, &error) == -1, "disk")                  \
    N (bak_domain_checkpoint_create_xml (domain, NULL, 0, &error) == NULL, "xml")                  \
    N (bak_domain_checkpoint_get_xml_desc (NULL, 0, &error) == NULL, "checkpoint")                 \
    N (bak_domain_list_all_checkpoints (NULL, NULL, 0, &error) == -1, "domain")                    \
    N (bak_domain_checkpoint_list_all_children (NULL, NULL, 0, &error) == -1, "checkpoint")        \
    N (bak_domain_checkpoint_lookup_by_name (domain, NULL, 0, &error) == NULL, "name")             \
    N (bak_domain_checkpoint_get_parent (NULL, 0, &error) == NULL, "checkpoint")                   \
    N (bak_domain_checkpoint_delete (NULL, 0, &error) == -1, "checkpoint")                         \
    N (bak_domain_checkpoint_check (NULL, NULL, 0, NULL, 0, &error) == -1, "domain")

START_TEST (a_null_argument_is_named)
{
#define N(call, name)                                                                              \
    ck_assert_msg (call, #call);                                                                   \
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, name " in bak_");
    NULLS (N)
#undef N
}
END_TEST

START_TEST (a_caller_may_not_care_for_the_error)
{
    ck_assert_ptr_null (bak_domain_lookup_by_name (conn, "nosuch", NULL));
    ck_assert_ptr_null (bak_domain_lookup_by_name (conn, NULL, NULL));
    ck_assert_int_eq (bak_domain_backup_begin (domain, "<domainbackup/>", NULL, 0x100, NULL), -1);
}
END_TEST

START_TEST (null_handles_have_no_properties)
{
    bak_error_unref (NULL);
    bak_connection_unref (NULL);
    bak_domain_unref (NULL);
    bak_job_unref (NULL);
    bak_disk_unref (NULL);
    bak_domain_details_unref (NULL);
    bak_domain_checkpoint_unref (NULL);
    bak_guest_process_unref (NULL);
    bak_finding_unref (NULL);
    bak_typed_params_free (NULL, 0);
    bak_free (NULL);
    ck_assert_ptr_null (bak_domain_get_name (NULL));
    ck_assert_int_eq (bak_domain_get_id (NULL), -1);
    ck_assert_ptr_null (bak_job_get_id (NULL));
    ck_assert_ptr_null (bak_job_get_disk (NULL, 0));
    ck_assert_ptr_null (bak_job_disk_get_target (NULL));
    ck_assert_uint_eq (bak_job_get_total (NULL), 0);
    ck_assert_ptr_null (bak_domain_checkpoint_get_domain (NULL));
    ck_assert_str_eq (bak_error_get_message (NULL), "");
    ck_assert_int_eq (bak_error_get_code (NULL), BAK_ERROR_NONE);
}
END_TEST

START_TEST (unknown_flags_are_refused)
{
    ck_assert_int_eq (bak_domain_backup_begin (domain, "<domainbackup/>", NULL, 0x100, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "unsupported flags (0x100)");
    ck_assert_ptr_null (bak_domain_get_xml_desc (domain, 1, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT,
               "unsupported flags (0x1) in function bak_domain_get_xml_desc");
    ck_assert_ptr_null (bak_domain_checkpoint_create_xml (domain, "x", 3, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "mutually exclusive");
    ck_assert_ptr_null (bak_domain_checkpoint_create_xml (domain, "x", 4, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "REDEFINE is required");
    ck_assert_int_eq (bak_domain_list_all_checkpoints (domain, NULL, 12, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "mutually exclusive");
    int type, n;
    BakTypedParameter *params;
    ck_assert_int_eq (bak_domain_get_job_stats (domain, &type, &params, &n,
                                                BAK_DOMAIN_JOB_STATS_KEEP_COMPLETED, &error),
                      -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "COMPLETED is required");
}
END_TEST

START_TEST (texts_are_bounded_and_utf8)
{
    g_autofree char *name = g_strnfill (1025, 'x'), *xml = g_strnfill (4194305, 'x');
    ck_assert_ptr_null (bak_domain_lookup_by_name (conn, name, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "longer than 1024 bytes");
    ck_assert_ptr_null (bak_domain_lookup_by_name (conn, "\xff", &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "not UTF-8");
    ck_assert_int_eq (bak_domain_backup_begin (domain, xml, NULL, 0, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "longer than 4194304 bytes");
    ck_assert_int_eq (bak_domain_backup_begin (domain, "<domainbackup/>", "\xc3", 0, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "not UTF-8");
    ck_assert_ptr_null (bak_domain_lookup_by_uuid_string (conn, "1234", &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "not a UUID");
}
END_TEST

START_TEST (options_know_their_size)
{
    BakBackupOptions backup = { .backup_xml = "<domainbackup/>" };
    BakAttachOptions attach = { .name = "web", .qmp = "/q" };
    BakNamedDisk half = { .target = "vda" };
    ck_assert_ptr_null (bak_domain_backup_begin_options (domain, &backup, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "size");
    ck_assert_ptr_null (bak_connection_attach (conn, &attach, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "size");
    attach.size = sizeof attach;
    attach.disks = &half;
    attach.n_disks = 1;
    ck_assert_ptr_null (bak_connection_attach (conn, &attach, &error));
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "id in");
    backup.size = sizeof backup + 64; /* a newer caller */
    char *id = bak_domain_backup_begin_options (domain, &backup, &error);
    ck_assert_str_eq (id, "0a1b2c3d");
    bak_free (id);
}
END_TEST

START_TEST (errors_cross_with_code_and_text)
{
    g_autofree char *fake = g_strdup_printf ("domain_info:%d:disk 'vda': why", _i);
    g_setenv ("FAKE_ERROR", fake, TRUE);
    ck_assert_ptr_null (bak_domain_get_details (domain, 0, &error));
    ck_assert_str_eq (bak_error_get_message (error), "disk 'vda': why");
    ck_assert_str_ne (bak_error_code_to_string (bak_error_get_code (error)), "unknown");
    BakError *second = bak_error_ref (error);
    ck_failed (_i, "disk 'vda': why");
    ck_assert_str_eq (bak_error_get_message (second), "disk 'vda': why");
    bak_error_unref (second);
}
END_TEST

START_TEST (every_name_of_a_code_is_its_own)
{
    for (int a = 0; a <= BAK_ERROR_MONITOR_HELD; a++)
        for (int b = 0; b < a; b++)
            ck_assert_str_ne (bak_error_code_to_string (a), bak_error_code_to_string (b));
    ck_assert_str_eq (bak_error_code_to_string (BAK_ERROR_NO_POINT + 1), "unknown");
    ck_assert_str_eq (bak_error_code_to_string (-1), "unknown");
}
END_TEST

START_TEST (lists_count_and_hold)
{
    BakDomain **domains;
    BakDisk **disks;
    BakJob **jobs;
    BakCheckpoint **checkpoints;
    ck_assert_int_eq (bak_connection_list_all_domains (conn, NULL, 0, &error), 1);
    ck_assert_int_eq (bak_connection_list_all_domains (
                          conn, NULL, BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT, &error),
                      0);
    ck_assert_int_eq (bak_connection_list_all_domains (
                          conn, &domains, BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, &error),
                      1);
    ck_assert_int_eq (bak_domain_list_disks (domain, NULL, 0, &error), 2);
    ck_assert_int_eq (bak_domain_list_disks (domain, &disks, 0, &error), 2);
    ck_assert_int_eq (bak_domain_backup_list (domain, &jobs, 0, &error), 2);
    ck_assert_int_eq (bak_domain_list_all_checkpoints (domain, &checkpoints, 0, &error), 4);
    ck_assert_str_eq (bak_domain_get_name (domains[0]), "web");
    ck_assert_int_eq (bak_domain_get_id (domains[0]), 3);
    ck_assert_str_eq (bak_disk_get_name (disks[1], 1), "disk1");
    ck_assert_ptr_null (bak_disk_get_name (disks[1], 2));
    ck_assert_uint_eq (bak_disk_get_flags (disks[0]), BAK_DISK_SELECTED);
    ck_assert_str_eq (bak_domain_checkpoint_get_parent_name (checkpoints[1]), "c1");
    ck_assert_ptr_null (bak_domain_checkpoint_get_parent_name (checkpoints[0]));
    ck_assert_int_eq (bak_domain_checkpoint_get_created (checkpoints[1]), 1600000001000000);
    ck_assert_ptr_null (domains[1]);
    ck_assert_ptr_null (disks[2]);
    ck_assert_ptr_null (jobs[2]);
    ck_assert_ptr_null (checkpoints[4]);
    /* what was asked for outlives what it came from */
    bak_domain_unref (domain);
    bak_connection_unref (conn);
    conn = bak_connection_ref (bak_domain_get_connection (domains[0]));
    domain = domains[0];
    bak_free (domains);
    bak_domain_checkpoint_unref (checkpoints[0]);
    ck_assert_str_eq (bak_domain_checkpoint_get_name (checkpoints[3]), "c4");
    for (int i = 1; i < 4; i++)
        bak_domain_checkpoint_unref (checkpoints[i]);
    bak_free (checkpoints);
    bak_disk_unref (disks[0]);
    ck_assert_str_eq (bak_disk_get_target (disks[1]), "vdb");
    bak_disk_unref (disks[1]);
    bak_free (disks);
    bak_job_unref (jobs[1]);
    ck_assert_str_eq (bak_job_disk_get_target (bak_job_get_disk (jobs[0], 1)), "vdb");
    bak_job_unref (jobs[0]);
    bak_free (jobs);
}
END_TEST

START_TEST (what_runs_is_listed_for_all_guests_at_once)
{
    BakJob **jobs;
    g_setenv ("FAKE_STATES", "running", TRUE);
    ck_assert_int_eq (bak_connection_backup_list (conn, &jobs, 0, &error), 1);
    ck_assert_str_eq (bak_job_get_domain (jobs[0]), "web");
    ck_assert_int_eq (bak_job_get_state (jobs[0]), BAK_JOB_RUNNING);
    ck_assert_ptr_null (jobs[1]);
    bak_job_unref (jobs[0]);
    bak_free (jobs);
    g_setenv ("FAKE_STATES", "completed", TRUE);
    ck_assert_int_eq (bak_connection_backup_list (conn, NULL, 0, &error), 0);
    g_setenv ("FAKE_ERROR", "backup_info:6:none", TRUE);
    ck_assert_int_eq (bak_connection_backup_list (conn, NULL, 0, &error), 0);
    g_setenv ("FAKE_ERROR", "backup_info:14:the record is damaged", TRUE);
    ck_assert_int_eq (bak_connection_backup_list (conn, NULL, 0, &error), -1);
    ck_failed (BAK_ERROR_IO, "guest 'web': the record is damaged");
}
END_TEST

/* What a callback was told. */
typedef struct {
    BakLogLevel level; /* of the last */
    char text[256];
    guint calls;
    GAsyncQueue *gone; /* something comes when it will not be called again */
} Told;

static void on_log (BakLogLevel level, const char *message, void *opaque)
{
    Told *told = opaque;
    told->level = level;
    told->calls++;
    g_strlcpy (told->text, message, sizeof told->text);
    if (level == BAK_LOG_WARNING) /* it may call the library */
        bak_domain_unref (bak_domain_lookup_by_name (conn, "web", NULL));
}

static void on_log_free (void *opaque)
{
    g_async_queue_push (((Told *) opaque)->gone, opaque);
}

static void listen_to_log (BakLogLevel level, Told *told)
{
    told->gone = g_async_queue_new ();
    bak_log_set_callback (level, on_log, told, on_log_free);
}

static void wait_gone (Told *told)
{
    g_async_queue_pop (told->gone);
    g_async_queue_unref (told->gone);
}

START_TEST (the_log_goes_where_it_is_wanted)
{
    Told debug = { 0 }, warnings = { 0 };
    listen_to_log (BAK_LOG_DEBUG, &debug);
    ck_assert_int_eq (bak_domain_list_disks (domain, NULL, 0, &error), 2);
    listen_to_log (BAK_LOG_WARNING, &warnings);
    wait_gone (&debug);
    ck_assert_uint_eq (debug.calls, 1);
    ck_assert_int_eq (debug.level, BAK_LOG_DEBUG);
    ck_assert_str_eq (debug.text, "call domain_disks on libvirt+fake:///");
    ck_assert_int_eq (bak_domain_list_disks (domain, NULL, 0, &error), 2);
    g_log ("libbackup", G_LOG_LEVEL_WARNING, "look here");
    bak_log_set_callback (BAK_LOG_DEBUG, NULL, NULL, NULL);
    wait_gone (&warnings);
    ck_assert_uint_eq (warnings.calls, 1);
    ck_assert_str_eq (warnings.text, "look here");
    ck_assert_int_eq (warnings.level, BAK_LOG_WARNING);
}
END_TEST

typedef struct {
    GAsyncQueue *go, *gone; /* its first call waits for the one, its end gives the other */
    guint calls, lost;
} Slow;

static void on_log_slowly (BakLogLevel level, const char *message, void *opaque)
{
    Slow *slow = opaque;
    if (slow->calls++ == 0)
        g_async_queue_pop (slow->go);
    if (level == BAK_LOG_WARNING)
        sscanf (message, "%u lines of the log were lost", &slow->lost);
}

static void on_log_slowly_free (void *opaque)
{
    g_async_queue_push (((Slow *) opaque)->gone, opaque);
}

START_TEST (a_slow_reader_of_the_log_is_told_what_it_lost)
{
    Slow slow = { g_async_queue_new (), g_async_queue_new (), 0, 0 };
    bak_log_set_callback (BAK_LOG_MESSAGE, on_log_slowly, &slow, on_log_slowly_free);
    for (guint i = 0; i < 5000; i++)
        g_log ("libbackup", G_LOG_LEVEL_MESSAGE, "line %u", i);
    g_async_queue_push (slow.go, &slow);
    bak_log_set_callback (BAK_LOG_MESSAGE, NULL, NULL, NULL);
    g_async_queue_pop (slow.gone);
    g_async_queue_unref (slow.go);
    g_async_queue_unref (slow.gone);
    ck_assert_uint_gt (slow.lost, 900);
    ck_assert_uint_eq (slow.calls + slow.lost, 5001);
}
END_TEST

START_TEST (a_patient_connection_answers_as_any_other)
{
    ck_assert_int_eq (bak_connection_set_patience (NULL, 1, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "conn in bak_");
    bak_connection_give_up (NULL);
    ck_assert_int_eq (bak_connection_set_patience (conn, ~0ULL, &error), 0);
    ck_assert_int_eq (bak_domain_list_disks (domain, NULL, 0, &error), 2);
    ck_assert_ptr_null (bak_domain_lookup_by_name (conn, "nosuch", &error));
    ck_failed (BAK_ERROR_NO_DOMAIN, "nosuch");
    bak_connection_give_up (conn);
    ck_assert_int_eq (bak_domain_list_disks (domain, NULL, 0, &error), 2);
}
END_TEST

START_TEST (a_parent_is_found_or_named)
{
    BakCheckpoint *child = bak_domain_checkpoint_lookup_by_name (domain, "c2", 0, &error);
    BakCheckpoint *root = bak_domain_checkpoint_get_parent (child, 0, &error);
    ck_assert_str_eq (bak_domain_checkpoint_get_name (root), "c1");
    ck_assert_ptr_null (bak_domain_checkpoint_get_parent (root, 0, &error));
    ck_failed (BAK_ERROR_NO_CHECKPOINT, "checkpoint 'c1' does not have a parent");
    ck_assert_ptr_eq (bak_domain_checkpoint_get_domain (root), domain);
    ck_assert_ptr_eq (bak_domain_checkpoint_get_connection (root), conn);
    bak_domain_checkpoint_unref (root);
    bak_domain_checkpoint_unref (child);
}
END_TEST

START_TEST (units_are_libvirts_where_the_call_is)
{
    BakDomainInfo info;
    BakDomainBlockInfo block;
    ck_assert_int_eq (bak_domain_get_info (domain, &info, &error), 0);
    ck_assert_uint_eq (info.max_mem, 1024 * 1024);
    ck_assert_uint_eq (info.cpu_time, 1500000000);
    ck_assert_int_eq (info.nr_virt_cpu, 2);
    ck_assert_int_eq (bak_domain_get_block_info (domain, "vda", &block, 0, &error), 0);
    ck_assert_uint_eq (block.capacity, 1 << 30);
    ck_assert_uint_eq (block.allocation, 1 << 20);
    ck_assert_uint_eq (block.physical, 1 << 21);
    ck_assert_int_eq (bak_domain_block_job_set_speed (domain, "vda", G_MAXINT64, 0, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "too large");
}
END_TEST

/* state of the newest job -> what libvirt calls it, without and with COMPLETED */
static const struct {
    const char *state;
    int type, completed;
} stats[] = {
    { "preparing", BAK_DOMAIN_JOB_UNBOUNDED, BAK_DOMAIN_JOB_NONE },
    { "running", BAK_DOMAIN_JOB_UNBOUNDED, BAK_DOMAIN_JOB_NONE },
    { "ready", BAK_DOMAIN_JOB_UNBOUNDED, BAK_DOMAIN_JOB_NONE },
    { "stopping", BAK_DOMAIN_JOB_UNBOUNDED, BAK_DOMAIN_JOB_NONE },
    { "completed", BAK_DOMAIN_JOB_NONE, BAK_DOMAIN_JOB_COMPLETED },
    { "failed", BAK_DOMAIN_JOB_NONE, BAK_DOMAIN_JOB_FAILED },
    { "aborted", BAK_DOMAIN_JOB_NONE, BAK_DOMAIN_JOB_CANCELLED },
    { "none", BAK_DOMAIN_JOB_NONE, BAK_DOMAIN_JOB_NONE },
};

START_TEST (job_statistics_speak_libvirt)
{
    g_setenv ("FAKE_STATES", stats[_i].state, TRUE);
    for (unsigned int flags = 0; flags <= BAK_DOMAIN_JOB_STATS_COMPLETED; flags++) {
        BakTypedParameter *params, *found;
        int type, n, wanted = flags ? stats[_i].completed : stats[_i].type;
        ck_assert_int_eq (bak_domain_get_job_stats (domain, &type, &params, &n, flags, &error), 0);
        ck_assert_int_eq (type, wanted);
        ck_assert_int_eq (n > 0, wanted != BAK_DOMAIN_JOB_NONE);
        if (n) {
            ck_assert_int_eq (bak_typed_params_get (params, n, "operation")->value.i,
                              BAK_DOMAIN_JOB_OPERATION_BACKUP);
            ck_assert_uint_eq (bak_typed_params_get (params, n, "time_elapsed")->value.ul, 12000);
            ck_assert_uint_eq (bak_typed_params_get (params, n, "disk_total")->value.ul,
                               2000ull << 20);
            found = bak_typed_params_get (params, n, "success");
            ck_assert_int_eq (found != NULL, wanted > BAK_DOMAIN_JOB_UNBOUNDED);
            if (found)
                ck_assert_int_eq (found->value.b, wanted == BAK_DOMAIN_JOB_COMPLETED);
            ck_assert_int_eq (bak_typed_params_get (params, n, "errmsg") != NULL,
                              wanted == BAK_DOMAIN_JOB_FAILED);
        }
        bak_typed_params_free (params, n);
    }
    BakDomainJobInfo info;
    ck_assert_int_eq (bak_domain_get_job_info (domain, &info, &error), 0);
    ck_assert_int_eq (info.type, stats[_i].type);
    ck_assert_uint_eq (info.file_total, info.type ? 2000ull << 20 : 0);
    ck_assert_uint_eq (info.file_processed + info.file_remaining, info.file_total);
}
END_TEST

START_TEST (no_job_is_no_error_for_statistics)
{
    BakDomainJobInfo info;
    BakDomainBlockJobInfo block;
    g_setenv ("FAKE_ERROR", "job_stats:6:no job", TRUE);
    ck_assert_int_eq (bak_domain_get_job_info (domain, &info, &error), 0);
    ck_assert_int_eq (info.type, BAK_DOMAIN_JOB_NONE);
    ck_assert_int_eq (bak_domain_get_block_job_info (domain, "vda", &block, 0, &error), 0);
    ck_assert_ptr_null (error);
    g_setenv ("FAKE_ERROR", "job_stats:12:gone", TRUE);
    ck_assert_int_eq (bak_domain_get_job_info (domain, &info, &error), -1);
    ck_failed (BAK_ERROR_CONNECTION, "gone");
}
END_TEST

START_TEST (a_block_job_is_one_disk_of_the_backup)
{
    BakDomainBlockJobInfo info;
    g_setenv ("FAKE_STATES", "running", TRUE);
    ck_assert_int_eq (bak_domain_get_block_job_info (
                          domain, "vdb", &info, BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, &error),
                      1);
    ck_assert_int_eq (info.type, BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP);
    ck_assert_uint_eq (info.bandwidth, 1048576);
    ck_assert_uint_eq (info.end, 1000ull << 20);
    ck_assert_int_eq (bak_domain_get_block_job_info (domain, "vdb", &info, 0, &error), 1);
    ck_assert_uint_eq (info.bandwidth, 1);
    ck_assert_int_eq (bak_domain_get_block_job_info (domain, "vdz", &info, 0, &error), 0);
}
END_TEST

START_TEST (a_read_only_connection_refuses_to_write)
{
    BakConnection *reader = bak_connection_open_read_only ("libvirt+fake:///", &error);
    BakDomain *seen = bak_domain_lookup_by_name (reader, "web", &error);
    ck_assert_int_eq (bak_connection_is_read_only (reader), 1);
    ck_assert_int_eq (bak_domain_backup_begin (seen, "<domainbackup/>", NULL, 0, &error), -1);
    ck_failed (BAK_ERROR_ACCESS_DENIED, "read-only");
    bak_domain_unref (seen);
    bak_connection_unref (reader);
}
END_TEST

/* events */

typedef struct {
    GMutex lock;
    GCond changed;
    int events, freed, id;
    gboolean drop;  /* the connection, from inside */
    gboolean leave; /* deregister from inside */
    GThread *thread;
    char *last_text;
} Seen;

static void on_event (BakConnection *from, BakDomain *whose, const BakEvent *event, void *opaque)
{
    Seen *seen = opaque;
    g_mutex_lock (&seen->lock);
    seen->events++;
    seen->thread = g_thread_self ();
    g_free (seen->last_text);
    seen->last_text = g_strdup (bak_event_get_text (event));
    gboolean drop = seen->drop, leave = seen->leave;
    int id = seen->id;
    seen->drop = seen->leave = FALSE;
    g_cond_broadcast (&seen->changed);
    g_mutex_unlock (&seen->lock);
    if (leave)
        bak_connection_domain_event_deregister_any (from, id, NULL);
    if (drop)
        bak_connection_unref (from);
}

static void on_free (void *opaque)
{
    Seen *seen = opaque;
    g_mutex_lock (&seen->lock);
    seen->freed++;
    g_cond_broadcast (&seen->changed);
    g_mutex_unlock (&seen->lock);
}

static void wait_for (Seen *seen, const int *counter, int wanted)
{
    gint64 deadline = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
    g_mutex_lock (&seen->lock);
    while (*counter < wanted)
        ck_assert_msg (g_cond_wait_until (&seen->changed, &seen->lock, deadline), "%d of %d came",
                       *counter, wanted);
    g_mutex_unlock (&seen->lock);
}

START_TEST (callbacks_run_on_a_thread_of_the_library)
{
    Seen seen = { 0 };
    g_setenv ("FAKE_EVENTS", "60", TRUE);
    seen.id = bak_connection_domain_event_register_any (conn, NULL, BAK_DOMAIN_EVENT_ID_ANY,
                                                        on_event, &seen, on_free, &error);
    ck_assert_int_gt (seen.id, 0);
    wait_for (&seen, &seen.events, 60);
    ck_assert_ptr_ne (seen.thread, g_thread_self ());
    ck_assert_int_eq (bak_connection_domain_event_deregister_any (conn, seen.id, &error), 0);
    wait_for (&seen, &seen.freed, 1);
    ck_assert_int_eq (bak_connection_domain_event_deregister_any (conn, seen.id, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "no event callback");
    g_free (seen.last_text);
}
END_TEST

START_TEST (only_the_wanted_kind_and_guest_come)
{
    Seen kind = { 0 }, other = { 0 };
    BakDomain *stranger = NULL;
    ck_assert_int_ge (bak_connection_get_fd (conn, &error), 0);
    g_setenv ("FAKE_TEXT", "elsewhere", TRUE);
    stranger =
        bak_domain_lookup_by_uuid_string (conn, "11111111-2222-3333-4444-555555555555", &error);
    g_unsetenv ("FAKE_TEXT");
    int id = bak_connection_domain_event_register_any (conn, stranger, BAK_DOMAIN_EVENT_ID_ANY,
                                                       on_event, &other, on_free, &error);
    ck_assert_int_gt (id, 0);
    bak_connection_domain_event_deregister_any (conn, id, &error);
    ck_assert_int_eq (other.freed, 1);
    g_setenv ("FAKE_EVENTS", "60", TRUE);
    ck_assert_int_gt (bak_connection_domain_event_register_any (conn, domain,
                                                                BAK_DOMAIN_EVENT_ID_PROGRESS,
                                                                on_event, &kind, NULL, &error),
                      0);
    ck_assert_int_gt (bak_connection_domain_event_register_any (
                          conn, stranger, BAK_DOMAIN_EVENT_ID_ANY, on_event, &other, NULL, &error),
                      0);
    ck_assert_int_eq (bak_connection_dispatch (conn, &error), 60);
    ck_assert_int_eq (kind.events, 10);
    ck_assert_int_eq (other.events, 0);
    bak_domain_unref (stranger);
    g_free (kind.last_text);
}
END_TEST

START_TEST (a_callers_loop_polls_and_dispatches)
{
    Seen seen = { 0 };
    ck_assert_int_eq (bak_connection_dispatch (conn, &error), -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "bak_connection_get_fd");
    struct pollfd fd = { .fd = bak_connection_get_fd (conn, &error), .events = POLLIN };
    ck_assert_int_ge (fd.fd, 0);
    ck_assert_int_eq (bak_connection_get_fd (conn, &error), fd.fd);
    ck_assert_int_eq (poll (&fd, 1, 0), 0);
    g_setenv ("FAKE_EVENTS", "3", TRUE);
    ck_assert_int_gt (bak_connection_domain_event_register_any (conn, NULL, BAK_DOMAIN_EVENT_ID_ANY,
                                                                on_event, &seen, on_free, &error),
                      0);
    ck_assert_int_eq (poll (&fd, 1, 20000), 1);
    ck_assert_int_eq (seen.events, 0);
    ck_assert_int_eq (bak_connection_dispatch (conn, &error), 3);
    ck_assert_int_eq (seen.events, 3);
    ck_assert_ptr_eq (seen.thread, g_thread_self ());
    ck_assert_int_eq (poll (&fd, 1, 0), 0);
    ck_assert_int_eq (bak_connection_dispatch (conn, &error), 0);
    bak_domain_unref (domain);
    bak_connection_unref (conn);
    ck_assert_int_eq (seen.freed, 1);
    conn = NULL;
    domain = NULL;
    g_free (seen.last_text);
}
END_TEST

START_TEST (a_callback_may_leave_and_may_drop_the_connection)
{
    Seen seen = { .leave = TRUE, .drop = TRUE };
    g_setenv ("FAKE_EVENTS", "60", TRUE);
    g_mutex_lock (&seen.lock); /* the callback waits until it knows its number */
    seen.id = bak_connection_domain_event_register_any (conn, NULL, BAK_DOMAIN_EVENT_ID_ANY,
                                                        on_event, &seen, on_free, &error);
    g_mutex_unlock (&seen.lock);
    bak_domain_unref (domain);
    wait_for (&seen, &seen.freed, 1);
    ck_assert_int_eq (seen.events, 1);
    conn = NULL;
    domain = NULL;
    g_free (seen.last_text);
}
END_TEST

START_TEST (a_registration_that_fails_frees_nothing)
{
    Seen seen = { 0 };
    g_setenv ("FAKE_ERROR", "event_register:9:no events here", TRUE);
    ck_assert_int_eq (
        bak_connection_domain_event_register_any (conn, NULL, 0, on_event, &seen, on_free, &error),
        -1);
    ck_failed (BAK_ERROR_NOT_SUPPORTED, "no events here");
    ck_assert_int_eq (
        bak_connection_domain_event_register_any (conn, NULL, 99, on_event, &seen, on_free, &error),
        -1);
    ck_failed (BAK_ERROR_INVALID_ARGUMENT, "unknown event id 99");
    ck_assert_int_eq (seen.freed, 0);
}
END_TEST

typedef struct {
    guint losses;
    char name[64];
} Losses;

static void on_loss (BakConnection *connection, BakDomain *guest, const BakEvent *event,
                     void *opaque)
{
    Losses *losses = opaque;
    if (bak_event_get_id (event) != BAK_DOMAIN_EVENT_ID_CONNECTION)
        return;
    losses->losses++;
    ck_assert_int_eq (bak_event_get_state (event), BAK_CONNECTION_LOST);
    ck_assert_ptr_null (bak_event_get_domain_name (event));
    g_strlcpy (losses->name, bak_domain_get_name (guest), sizeof losses->name);
}

START_TEST (a_lost_connection_is_told_to_every_registration)
{
    static const int kinds[] = { BAK_DOMAIN_EVENT_ID_ANY, BAK_DOMAIN_EVENT_ID_JOB_COMPLETED,
                                 BAK_DOMAIN_EVENT_ID_CONNECTION, BAK_DOMAIN_EVENT_ID_LIFECYCLE };
    Losses losses[G_N_ELEMENTS (kinds)] = { 0 };
    g_setenv ("FAKE_LOST", "1", TRUE);
    ck_assert_int_ge (bak_connection_get_fd (conn, &error), 0);
    for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
        ck_assert_int_ge (bak_connection_domain_event_register_any (conn, i % 2 ? domain : NULL,
                                                                    kinds[i], on_loss, &losses[i],
                                                                    NULL, &error),
                          0);
    ck_assert_int_eq (bak_connection_dispatch (conn, &error), 1);
    for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
        ck_assert_uint_eq (losses[i].losses, 1);
        ck_assert_str_eq (losses[i].name, i % 2 ? "web" : "");
    }
}
END_TEST

START_TEST (a_slow_reader_is_told_what_it_lost)
{
    Seen seen = { 0 }, warnings = { 0 };
    ck_assert_int_ge (bak_connection_get_fd (conn, &error), 0);
    g_setenv ("FAKE_EVENTS", "30000", TRUE);
    bak_connection_domain_event_register_any (conn, NULL, BAK_DOMAIN_EVENT_ID_JOB_COMPLETED,
                                              on_event, &seen, NULL, &error);
    bak_connection_domain_event_register_any (conn, NULL, BAK_DOMAIN_EVENT_ID_WARNING, on_event,
                                              &warnings, NULL, &error);
    ck_assert_int_gt (bak_connection_dispatch (conn, &error), 10000);
    ck_assert_int_gt (warnings.events, 0);
    ck_assert_int_gt (seen.events, 1000);
    ck_assert_int_le (seen.events, 5000);
    g_free (seen.last_text);
    g_free (warnings.last_text);
}
END_TEST

/* threads */

static gpointer hammer (gpointer data)
{
    for (int i = 0; i < 100; i++) {
        BakError *why = NULL;
        BakJob *job = bak_domain_backup_info (domain, NULL, 0, &why);
        BakDomain *found = bak_domain_lookup_by_name (conn, i % 2 ? "web" : "nosuch", &why);
        Seen seen = { 0 };
        int id = bak_connection_domain_event_register_any (conn, domain, BAK_DOMAIN_EVENT_ID_ANY,
                                                           on_event, &seen, on_free, NULL);
        if (!job || (found == NULL) != (why != NULL) || id < 0)
            return GINT_TO_POINTER (1);
        bak_connection_domain_event_deregister_any (conn, id, NULL);
        wait_for (&seen, &seen.freed, 1);
        g_free (seen.last_text);
        bak_job_unref (job);
        bak_domain_unref (found);
        bak_error_unref (why);
    }
    return NULL;
}

START_TEST (any_function_may_run_on_any_thread)
{
    GThread *threads[8];
    g_setenv ("FAKE_EVENTS", "3", TRUE);
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        threads[i] = g_thread_new (NULL, hammer, NULL);
    for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        ck_assert_ptr_null (g_thread_join (threads[i]));
}
END_TEST

START_TEST (the_version_is_that_of_the_headers)
{
    ck_assert_str_eq (bak_version_string (), BAK_VERSION_STRING);
    g_autofree char *text =
        g_strdup_printf ("%lu.%lu.%lu", bak_version_number () / 1000000,
                         bak_version_number () / 1000 % 1000, bak_version_number () % 1000);
    ck_assert_str_eq (text, BAK_VERSION_STRING);
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("api");
    TCase *calls = tcase_create ("calls"), *events = tcase_create ("events");
    tcase_add_checked_fixture (calls, setup, teardown);
    tcase_add_checked_fixture (events, setup, teardown);
    tcase_set_timeout (events, 60);
    tcase_add_test (calls, a_null_argument_is_named);
    tcase_add_test (calls, a_caller_may_not_care_for_the_error);
    tcase_add_test (calls, null_handles_have_no_properties);
    tcase_add_test (calls, unknown_flags_are_refused);
    tcase_add_test (calls, texts_are_bounded_and_utf8);
    tcase_add_test (calls, options_know_their_size);
    tcase_add_loop_test (calls, errors_cross_with_code_and_text, BAK_ERROR_INVALID_ARGUMENT,
                         BAK_ERROR_NO_POINT + 1);
    tcase_add_test (calls, every_name_of_a_code_is_its_own);
    tcase_add_test (calls, lists_count_and_hold);
    tcase_add_test (calls, what_runs_is_listed_for_all_guests_at_once);
    tcase_add_test (calls, the_log_goes_where_it_is_wanted);
    tcase_add_test (calls, a_slow_reader_of_the_log_is_told_what_it_lost);
    tcase_add_test (calls, a_patient_connection_answers_as_any_other);
    tcase_add_test (calls, a_parent_is_found_or_named);
    tcase_add_test (calls, units_are_libvirts_where_the_call_is);
    tcase_add_loop_test (calls, job_statistics_speak_libvirt, 0, G_N_ELEMENTS (stats));
    tcase_add_test (calls, no_job_is_no_error_for_statistics);
    tcase_add_test (calls, a_block_job_is_one_disk_of_the_backup);
    tcase_add_test (calls, a_read_only_connection_refuses_to_write);
    tcase_add_test (calls, the_version_is_that_of_the_headers);
    tcase_add_test (events, callbacks_run_on_a_thread_of_the_library);
    tcase_add_test (events, only_the_wanted_kind_and_guest_come);
    tcase_add_test (events, a_callers_loop_polls_and_dispatches);
    tcase_add_test (events, a_callback_may_leave_and_may_drop_the_connection);
    tcase_add_test (events, a_registration_that_fails_frees_nothing);
    tcase_add_test (events, a_lost_connection_is_told_to_every_registration);
    tcase_add_test (events, a_slow_reader_is_told_what_it_lost);
    tcase_add_test (events, any_function_may_run_on_any_thread);
    suite_add_tcase (suite, calls);
    suite_add_tcase (suite, events);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
