/* A driver that answers what the test wants, for tests of the shell and of the public functions. It
 * is loaded in place of the libvirt driver (LIBBACKUP_DRIVER_DIR, URI libvirt+fake:///) and steered
 * by the environment:
 *
 *   FAKE_ERROR=CALL:CODE:TEXT   this call fails so
 *   FAKE_TEXT=TEXT              stands in every text of every answer
 *   FAKE_STATES=a,b,c           what successive looks at the job see; the last one stays
 *   FAKE_DISKS=N                the guest has N disks, vda, vdb ...; default 2
 *   FAKE_EVENTS=N               registering for events sends N of them
 *   FAKE_LOG=FILE               a line a call: its name and arguments as JSON */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <json-glib/json-glib.h>
#include "driver/driver.h"

extern const DriverOps libvirt_driver;

static GMutex lock;
static guint looks;
static gboolean aborted;
static gboolean stopped;

static const char *text_or (const char *fallback)
{
    const char *text = g_getenv ("FAKE_TEXT");
    return text ? text : fallback;
}

static char *any (const char *fallback)
{
    return ret_string (text_or (fallback));
}

/* log */

static void log_call (const char *call, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void log_call (const char *call, const char *format, ...)
{
    const char *path = g_getenv ("FAKE_LOG");
    FILE *file = path ? fopen (path, "a") : NULL;
    if (!file)
        return;
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    g_autoptr (JsonNode) node = json_node_init_string (json_node_alloc (), text);
    g_autofree char *json = json_to_string (node, FALSE);
    fprintf (file, "%s %s\n", call, json);
    fclose (file);
}

static gboolean may (const char *call, GError **error)
{
    g_auto (GStrv) parts =
        g_strsplit (g_getenv ("FAKE_ERROR") ? g_getenv ("FAKE_ERROR") : "", ":", 3);
    if (g_strv_length (parts) == 3 && g_str_equal (parts[0], call))
        return error_set (error, atoi (parts[1]), "%s", parts[2]);
    return TRUE;
}

/* guests */

static guint disk_count (void)
{
    const char *text = g_getenv ("FAKE_DISKS");
    return text ? atoi (text) : 2;
}

static void fill_item (bak_domain_item *item)
{
    *item = (bak_domain_item){ .name = any ("web"),
                               .uuid = ret_string ("11111111-2222-3333-4444-555555555555"),
                               .id = 3,
                               .state = DOMAIN_STATE_RUNNING,
                               .has_checkpoint = 1 };
}

static void fill_disk (guint i, bak_disk *disk)
{
    g_autofree char *target = g_strdup_printf ("vd%c", 'a' + i),
                    *alias = g_strdup_printf ("disk%u", i);
    *disk = (bak_disk){
        .target = any (target),
        .node = any ("node"),
        .source = any ("/images/web.qcow2"),
        .type = any ("file"),
        .device = any ("disk"),
        .format = any ("qcow2"),
        .bus = any ("virtio"),
        .iothread = any (""),
        .note = any (""),
        .capacity = 1ull << 30,
        .allocation = 1 << 20,
        .physical = 1 << 21,
        .selected = 1,
        .depth = 1,
    };
    disk->names.names_len = 2;
    disk->names.names_val = ret_array (2, sizeof (char *));
    disk->names.names_val[0] = any (target);
    disk->names.names_val[1] = any (alias);
}

static gboolean fake_hello (DriverConn *conn, const bak_hello_args *args, bak_hello_ret *ret,
                            GError **error)
{
    if (!may ("hello", error))
        return FALSE;
    *ret = (bak_hello_ret){ .api = 1, .product = any ("fake 1"), .state_dir = any ("") };
    return TRUE;
}

static gboolean fake_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret,
                                   GError **error)
{
    if (!may ("capabilities", error))
        return FALSE;
    ret->text = any ("<capabilities/>");
    return TRUE;
}

static gboolean fake_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret,
                           GError **error)
{
    log_call ("list", "%u", args->flags);
    if (!may ("list", error))
        return FALSE;
    ret->domains.domains_val = ret_array (1, sizeof (bak_domain_item));
    ret->domains.domains_len = 1;
    fill_item (ret->domains.domains_val);
    return TRUE;
}

static gboolean fake_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                             GError **error)
{
    if (!may ("lookup", error))
        return FALSE;
    if (*args->name && !g_str_equal (args->name, "web"))
        return error_set (error, BAK_ERROR_NO_DOMAIN, "no guest '%s' is attached", args->name);
    fill_item (&ret->domain);
    return TRUE;
}

static gboolean fake_attach (DriverConn *conn, const bak_attach_args *args, bak_lookup_ret *ret,
                             GError **error)
{
    log_call ("attach", "%s qmp=%s agent=%s disks=%u images=%u%s", args->name, args->qmp,
              args->agent, args->disks.disks_len, args->images.images_len,
              args->flags ? " flags=1" : "");
    if (!may ("attach", error))
        return FALSE;
    fill_item (&ret->domain);
    return TRUE;
}

static gboolean fake_detach (DriverConn *conn, const bak_domain_arg *args, bak_none *ret,
                             GError **error)
{
    log_call ("detach", "%s", args->domain);
    return may ("detach", error);
}

static gboolean fake_discover (DriverConn *conn, const bak_none *args, bak_discover_ret *ret,
                               GError **error)
{
    if (!may ("discover", error))
        return FALSE;
    ret->found.found_val = ret_array (1, sizeof (bak_found));
    ret->found.found_len = 1;
    *ret->found.found_val = (bak_found){ .pid = 42,
                                         .qmp = any ("/run/q"),
                                         .name = any ("web"),
                                         .uuid = any (""),
                                         .qemu_version = any ("7.2"),
                                         .attached_as = any (""),
                                         .note = any ("") };
    return TRUE;
}

static gboolean fake_info (DriverConn *conn, const bak_domain_arg *args, bak_domain_info *ret,
                           GError **error)
{
    if (!may ("domain_info", error))
        return FALSE;
    fill_item (&ret->item);
    ret->qemu_version = any ("7.2.22");
    ret->max_memory = ret->memory = 1ull << 30;
    ret->cpus = 2;
    ret->cpu_time = 1500000000;
    ret->qmp = any ("/run/qmp");
    ret->agent = any ("");
    ret->persistent = 1;
    ret->job = any ("");
    ret->notes.notes_len = 1;
    ret->notes.notes_val = ret_array (1, sizeof (char *));
    ret->notes.notes_val[0] = any ("a note");
    return TRUE;
}

static gboolean fake_state (DriverConn *conn, const bak_domain_arg *args, bak_state_ret *ret,
                            GError **error)
{
    *ret = (bak_state_ret){ DOMAIN_STATE_RUNNING, 1 };
    return may ("domain_state", error);
}

static gboolean fake_domain_xml (DriverConn *conn, const bak_domain_arg *args, bak_text_ret *ret,
                                 GError **error)
{
    if (!may ("domain_xml", error))
        return FALSE;
    ret->text = any ("<domain type='qemu'>\n  <name>web</name>\n</domain>\n");
    return TRUE;
}

static gboolean fake_disks (DriverConn *conn, const bak_domain_arg *args, bak_disks_ret *ret,
                            GError **error)
{
    if (!may ("domain_disks", error))
        return FALSE;
    ret->disks.disks_len = disk_count ();
    ret->disks.disks_val = ret_array (ret->disks.disks_len, sizeof (bak_disk));
    for (guint i = 0; i < ret->disks.disks_len; i++)
        fill_disk (i, &ret->disks.disks_val[i]);
    return TRUE;
}

static gboolean fake_disk (DriverConn *conn, const bak_disk_arg *args, bak_disk_ret *ret,
                           GError **error)
{
    if (!may ("domain_disk", error))
        return FALSE;
    for (guint i = 0; i < disk_count (); i++)
        if (args->disk[0] == 'v' && args->disk[2] == (char) ('a' + i)) {
            fill_disk (i, &ret->disk);
            return TRUE;
        }
    return error_set (error, BAK_ERROR_NO_DISK, "no disk named '%s'", args->disk);
}

static gboolean fake_chain (DriverConn *conn, const bak_disk_arg *args, bak_text_ret *ret,
                            GError **error)
{
    if (!may ("domain_chain", error))
        return FALSE;
    ret->text = any (g_getenv ("FAKE_CHAIN") ? g_getenv ("FAKE_CHAIN") : "{\"images\": []}");
    return TRUE;
}

static gboolean fake_freeze (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                             GError **error)
{
    log_call ("fs_freeze", "%u", args->mounts.mounts_len);
    ret->count = args->mounts.mounts_len ? (int) args->mounts.mounts_len : 2;
    return may ("fs_freeze", error);
}

/* jobs */

static int job_state (gboolean look)
{
    g_auto (GStrv) states =
        g_strsplit (g_getenv ("FAKE_STATES") ? g_getenv ("FAKE_STATES") : "completed", ",", -1);
    guint last = g_strv_length (states) - 1, i = MIN (looks, last);
    looks += look;
    return aborted ? JOB_STATE_ABORTED
           : stopped && !job_state_ended (job_state_from_string (states[i]))
               ? JOB_STATE_COMPLETED
               : job_state_from_string (states[i]);
}

static void fill_job (gboolean look, bak_job *job)
{
    g_mutex_lock (&lock);
    int state = job_state (look);
    guint64 done = MIN (looks, 10) * 100ull << 20, total = 1000ull << 20;
    g_mutex_unlock (&lock);
    gboolean failed = state == JOB_STATE_FAILED, ended = job_state_ended (state),
             pull = g_getenv ("FAKE_PULL") != NULL;
    *job = (bak_job){
        .id = any ("0a1b2c3d"),
        .domain = any (g_getenv ("FAKE_DOMAIN") ? g_getenv ("FAKE_DOMAIN") : "web"),
        .mode = pull ? JOB_MODE_PULL : JOB_MODE_PUSH,
        .state = state,
        .started = 1600000000123456,
        .ended = ended ? 1600000012123456 : 0,
        .elapsed = 12000000,
        .error = any (failed ? "disk 'vda': No space left on device" : ""),
        .error_code = failed ? BAK_ERROR_NO_SPACE : 0,
        .checkpoint = any ("c1"),
        .server = any (pull ? "nbd+unix:///?socket=/run/q.sock" : ""),
        .consistency = any ("crash-consistent"),
        .owner = any (""),
        .temp_used = pull ? 65536 : 0,
        .temp_total = pull ? 1 << 30 : 0,
    };
    job->notes.notes_len = 1;
    job->notes.notes_val = ret_array (1, sizeof (char *));
    job->notes.notes_val[0] = any ("a note");
    job->disks.disks_len = disk_count ();
    job->disks.disks_val = ret_array (job->disks.disks_len, sizeof (bak_job_disk));
    for (guint i = 0; i < job->disks.disks_len; i++) {
        g_autofree char *target = g_strdup_printf ("vd%c", 'a' + i),
                        *path = g_strdup_printf (g_getenv ("FAKE_PATH") ? g_getenv ("FAKE_PATH")
                                                                        : "/backups/vd%c",
                                                 'a' + i);
        job->disks.disks_val[i] = (bak_job_disk){
            .target = any (target),
            .state = state,
            .type = any (i && g_getenv ("FAKE_SINCE") ? "incremental" : "full"),
            .reason = any (""),
            .bytes = state == JOB_STATE_COMPLETED ? total : done,
            .total = total,
            .error = any (failed ? "No space left on device" : ""),
            .path = any (pull ? "" : path),
            .scratch = any (""),
            .format = any ("qcow2"),
            .export_name = any (pull ? target : ""),
            .bitmap = any (""),
            .protection = any (""),
            .since = any (i && g_getenv ("FAKE_SINCE") ? g_getenv ("FAKE_SINCE") : ""),
            .limit = 1048576,
        };
    }
}

static gboolean fake_begin (DriverConn *conn, const bak_begin_args *args, bak_begin_ret *ret,
                            GError **error)
{
    log_call ("backup_begin", "flags=%x timeout=%" G_GUINT64_FORMAT "\n%s\n%s", args->flags,
              (guint64) args->timeout, args->backup_xml, args->checkpoint_xml);
    if (!may ("backup_begin", error))
        return FALSE;
    ret->job = any ("0a1b2c3d");
    return TRUE;
}

static gboolean fake_plan (DriverConn *conn, const bak_begin_args *args, bak_text_ret *ret,
                           GError **error)
{
    log_call ("backup_plan", "%s", args->backup_xml);
    if (!may ("backup_plan", error))
        return FALSE;
    g_autoptr (JsonBuilder) builder = json_builder_new ();
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "steps");
    json_builder_begin_array (builder);
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "title");
    json_builder_add_string_value (builder, text_or ("start the copy"));
    json_builder_set_member_name (builder, "do");
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "action");
    json_builder_add_string_value (builder, text_or ("transaction"));
    json_builder_set_member_name (builder, "disk");
    json_builder_add_string_value (builder, text_or ("vda"));
    json_builder_end_object (builder);
    json_builder_set_member_name (builder, "undo");
    json_builder_begin_array (builder);
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "qmp");
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "execute");
    json_builder_add_string_value (builder, "job-cancel");
    json_builder_end_object (builder);
    json_builder_set_member_name (builder, "timeout-ms");
    json_builder_add_int_value (builder, 5);
    json_builder_set_member_name (builder, "only-after-failure");
    json_builder_add_boolean_value (builder, TRUE);
    json_builder_end_object (builder);
    json_builder_end_array (builder);
    json_builder_end_object (builder);
    json_builder_end_array (builder);
    json_builder_end_object (builder);
    g_autoptr (JsonNode) node = json_builder_get_root (builder);
    g_autofree char *text = json_to_string (node, FALSE);
    ret->text = ret_string (text);
    return TRUE;
}

static gboolean fake_stop (DriverConn *conn, const bak_stop_args *args, bak_job_ret *ret,
                           GError **error)
{
    log_call ("backup_stop", "%s %u", args->job, args->flags);
    if (!may ("backup_stop", error))
        return FALSE;
    g_mutex_lock (&lock);
    aborted |= args->flags & STOP_ABORT;
    stopped = TRUE;
    g_mutex_unlock (&lock);
    fill_job (FALSE, &ret->job);
    return TRUE;
}

static gboolean fake_job_info (DriverConn *conn, const bak_job_arg *args, bak_job_ret *ret,
                               GError **error)
{
    if (!may ("backup_info", error))
        return FALSE;
    fill_job (FALSE, &ret->job);
    return TRUE;
}

static gboolean fake_jobs (DriverConn *conn, const bak_domain_arg *args, bak_jobs_ret *ret,
                           GError **error)
{
    if (!may ("backup_list", error))
        return FALSE;
    ret->jobs.jobs_len = 2;
    ret->jobs.jobs_val = ret_array (2, sizeof (bak_job));
    fill_job (FALSE, &ret->jobs.jobs_val[0]);
    fill_job (FALSE, &ret->jobs.jobs_val[1]);
    return TRUE;
}

/* A job that runs makes the caller wait for his whole time, as a real one does. */
static gboolean fake_wait (DriverConn *conn, const bak_wait_args *args, bak_job_ret *ret,
                           GError **error)
{
    if (!may ("backup_wait", error))
        return FALSE;
    log_call ("backup_wait", "%s", args->job);
    fill_job (TRUE, &ret->job);
    if (!job_state_ended (ret->job.state)) {
        GMutex mutex;
        GCond never;
        g_mutex_init (&mutex);
        g_cond_init (&never);
        g_mutex_lock (&mutex);
        gint64 until = g_get_monotonic_time () + args->timeout;
        while (g_cond_wait_until (&never, &mutex, until))
            continue;
        g_mutex_unlock (&mutex);
    }
    return TRUE;
}

static gboolean fake_backup_xml (DriverConn *conn, const bak_job_arg *args, bak_text_ret *ret,
                                 GError **error)
{
    if (!may ("backup_xml", error))
        return FALSE;
    ret->text = any ("<domainbackup mode='push'>\n  <disks>\n    <disk name='vda'/>\n    <disk "
                     "name='vdb'/>\n  </disks>\n</domainbackup>\n");
    return TRUE;
}

static gboolean fake_limit (DriverConn *conn, const bak_limit_args *args, bak_none *ret,
                            GError **error)
{
    log_call ("backup_limit", "%s %" G_GUINT64_FORMAT, args->disk, (guint64) args->bytes_per_sec);
    return may ("backup_limit", error);
}

/* Of the process: the last command has begun an active commit, which is ready at once. */
static int mirror; /* the type of a job that becomes ready; 0: none */

static gboolean fake_block_begin (DriverConn *conn, const bak_block_args *args, bak_begin_ret *ret,
                                  GError **error)
{
    if (args->type == BLOCK_COPY)
        log_call ("block_begin", "2 %s %s %s %" G_GUINT64_FORMAT " %u %u %" G_GUINT64_FORMAT,
                  args->disk, args->dest, args->format, (guint64) args->bytes_per_sec, args->flags,
                  args->granularity, (guint64) args->buf_size);
    else
        log_call ("block_begin", "%d %s %s %s %" G_GUINT64_FORMAT " %u", args->type, args->disk,
                  args->base, args->top, (guint64) args->bytes_per_sec, args->flags);
    mirror = args->type == BLOCK_COPY     ? BLOCK_COPY
             : args->flags & BLOCK_ACTIVE ? BLOCK_ACTIVE_COMMIT
                                          : 0;
    ret->job = ret_string ("b10c0000");
    return may ("block_begin", error);
}

static gboolean fake_block_plan (DriverConn *conn, const bak_block_args *args, bak_text_ret *ret,
                                 GError **error)
{
    log_call ("block_plan", "%s", args->disk);
    ret->text = ret_string ("{\"steps\": [], \"notes\": [\"checkpoint 'c1' is deleted: why\"]}\n");
    return may ("block_plan", error);
}

static gboolean fake_block_info (DriverConn *conn, const bak_disk_arg *args, bak_block_ret *ret,
                                 GError **error)
{
    log_call ("block_info", "%s", args->disk);
    if (mirror)
        *ret = (bak_block_ret){ .type = mirror, .ready = 1, .cur = 1, .end = 1 };
    ret->job = ret_string ("");
    ret->last_error = ret_string ("");
    ret->last_job = ret_string ("");
    return may ("block_info", error);
}

static gboolean fake_block_end (DriverConn *conn, const bak_disk_arg *args, bak_none *ret,
                                GError **error)
{
    log_call ("block_end", "%s %u", args->disk, args->flags);
    if (!mirror)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, "none runs");
    return may ("block_end", error);
}

static gboolean fake_stats (DriverConn *conn, const bak_job_arg *args, bak_job_ret *ret,
                            GError **error)
{
    log_call ("job_stats", "%u", args->flags);
    if (!may ("job_stats", error))
        return FALSE;
    fill_job (FALSE, &ret->job);
    return TRUE;
}

static gboolean fake_abort (DriverConn *conn, const bak_domain_arg *args, bak_none *ret,
                            GError **error)
{
    log_call ("job_abort", "%s", args->domain);
    return may ("job_abort", error);
}

/* checkpoints: c1 - c2 - c4, c2 - c3 */

static const struct {
    const char *name, *parent;
    guint children;
} tree[] = {
    { "c1", "", 1 },
    { "c2", "c1", 2 },
    { "c3", "c2", 0 },
    { "c4", "c2", 0 },
};

static void fill_checkpoint (guint i, bak_checkpoint_item *item)
{
    *item = (bak_checkpoint_item){ .name = any (tree[i].name),
                                   .parent = any (tree[i].parent),
                                   .created = 1600000000 + i,
                                   .children = tree[i].children,
                                   .note = any ("") };
}

static gboolean descends (guint i, const char *from)
{
    for (guint guard = 0; guard < G_N_ELEMENTS (tree) && *tree[i].parent; guard++) {
        if (g_str_equal (tree[i].parent, from))
            return TRUE;
        for (guint j = 0; j < G_N_ELEMENTS (tree); j++)
            if (g_str_equal (tree[j].name, tree[i].parent)) {
                i = j;
                break;
            }
    }
    return FALSE;
}

static void list_tree (const char *from, guint flags, bak_checkpoints_ret *ret)
{
    ret->checkpoints.checkpoints_val =
        ret_array (G_N_ELEMENTS (tree), sizeof (bak_checkpoint_item));
    for (guint i = 0; i < G_N_ELEMENTS (tree); i++) {
        gboolean first = from ? flags & CHECKPOINT_LIST_DESCENDANTS
                                    ? descends (i, from)
                                    : g_str_equal (tree[i].parent, from)
                              : !(flags & CHECKPOINT_LIST_ROOTS) || !*tree[i].parent;
        if (first && !(flags & CHECKPOINT_LIST_LEAVES && tree[i].children)
            && !(flags & CHECKPOINT_LIST_NO_LEAVES && !tree[i].children))
            fill_checkpoint (i,
                             &ret->checkpoints.checkpoints_val[ret->checkpoints.checkpoints_len++]);
    }
}

static gboolean fake_checkpoint_create (DriverConn *conn, const bak_checkpoint_create_args *args,
                                        bak_checkpoint_ret *ret, GError **error)
{
    log_call ("checkpoint_create", "flags=%u\n%s", args->flags, args->xml);
    if (!may ("checkpoint_create", error))
        return FALSE;
    fill_checkpoint (0, &ret->checkpoint);
    return TRUE;
}

static gboolean fake_checkpoint_xml (DriverConn *conn, const bak_checkpoint_arg *args,
                                     bak_text_ret *ret, GError **error)
{
    log_call ("checkpoint_xml", "%s %u", args->name, args->flags);
    if (!may ("checkpoint_xml", error))
        return FALSE;
    ret->text = any ("<domaincheckpoint>\n  <name>c1</name>\n</domaincheckpoint>\n");
    return TRUE;
}

static gboolean fake_checkpoint_list (DriverConn *conn, const bak_domain_arg *args,
                                      bak_checkpoints_ret *ret, GError **error)
{
    if (!may ("checkpoint_list", error))
        return FALSE;
    list_tree (NULL, args->flags, ret);
    return TRUE;
}

static gboolean fake_checkpoint_children (DriverConn *conn, const bak_checkpoint_arg *args,
                                          bak_checkpoints_ret *ret, GError **error)
{
    if (!may ("checkpoint_children", error))
        return FALSE;
    list_tree (args->name, args->flags, ret);
    return TRUE;
}

static gboolean fake_checkpoint_lookup (DriverConn *conn, const bak_checkpoint_arg *args,
                                        bak_checkpoint_ret *ret, GError **error)
{
    if (!may ("checkpoint_lookup", error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (tree); i++)
        if (g_str_equal (tree[i].name, args->name)) {
            fill_checkpoint (i, &ret->checkpoint);
            return TRUE;
        }
    return error_set (error, BAK_ERROR_NO_CHECKPOINT,
                      "no domain checkpoint with matching name '%s'", args->name);
}

static gboolean fake_checkpoint_delete (DriverConn *conn, const bak_checkpoint_arg *args,
                                        bak_none *ret, GError **error)
{
    log_call ("checkpoint_delete", "%s %u", args->name, args->flags);
    return may ("checkpoint_delete", error);
}

static gboolean fake_check (DriverConn *conn, const bak_check_args *args, bak_check_ret *ret,
                            GError **error)
{
    log_call ("checkpoint_check", "%u %u", args->flags, args->names.names_len);
    if (!may ("checkpoint_check", error))
        return FALSE;
    if (g_getenv ("FAKE_FINDINGS") == NULL)
        return TRUE;
    ret->findings.findings_len = 1;
    ret->findings.findings_val = ret_array (1, sizeof (bak_finding));
    *ret->findings.findings_val = (bak_finding){ .kind = any ("orphan"),
                                                 .disk = any ("vda"),
                                                 .bitmap = any ("c9"),
                                                 .meaning = any ("no checkpoint"),
                                                 .repair = any ("remove it"),
                                                 .repaired = args->flags & CHECK_REPAIR };
    return TRUE;
}

/* events */

static gboolean fake_register (DriverConn *conn, const bak_register_args *args,
                               bak_register_ret *ret, GError **error)
{
    if (!may ("event_register", error))
        return FALSE;
    for (int i = 0; i < (g_getenv ("FAKE_EVENTS") ? atoi (g_getenv ("FAKE_EVENTS")) : 0); i++) {
        bak_event event = { .kind = i % EVENT_CONNECTION,
                            .domain = (char *) text_or ("web"),
                            .uuid = (char *) "11111111-2222-3333-4444-555555555555",
                            .job = (char *) "0a1b2c3d",
                            .disk = (char *) text_or ("vda"),
                            .state = i % EVENT_CONNECTION == EVENT_LIFECYCLE ? DOMAIN_STATE_RUNNING
                                                                             : JOB_STATE_COMPLETED,
                            .text = (char *) text_or (
                                i % EVENT_CONNECTION == EVENT_LIFECYCLE ? "attached" : ""),
                            .bytes = 1 << 20,
                            .total = 1 << 30,
                            .rate = 1 << 20,
                            .when = 1600000000123456 + i };
        driver_conn_emit (conn, &event);
    }
    if (g_getenv ("FAKE_LOST"))
        driver_conn_emit (conn, &(bak_event){ .kind = EVENT_CONNECTION,
                                              .domain = (char *) "",
                                              .uuid = (char *) "",
                                              .job = (char *) "",
                                              .disk = (char *) "",
                                              .state = CONNECTION_LOST,
                                              .text = (char *) "the connection broke",
                                              .when = 1600000000123456 });
    ret->id = 7;
    return TRUE;
}

static gboolean fake_deregister (DriverConn *conn, const bak_deregister_args *args, bak_none *ret,
                                 GError **error)
{
    log_call ("event_deregister", "%d", args->id);
    return may ("event_deregister", error);
}

static gboolean fake_probe (const char *uri)
{
    return TRUE;
}

static gboolean fake_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    return may ("open", error);
}

static void fake_close (DriverConn *conn)
{
    log_call ("close", "%s", conn->uri);
}

static const DriverCall calls[CALL_COUNT] = {
    ON_CONN (hello, fake_hello),
    ON_CONN (capabilities, fake_capabilities),
    ON_CONN (list, fake_list),
    ON_CONN (lookup, fake_lookup),
    ON_CONN (attach, fake_attach),
    ON_CONN (detach, fake_detach),
    ON_CONN (discover, fake_discover),
    ON_CONN (domain_info, fake_info),
    ON_CONN (domain_state, fake_state),
    ON_CONN (domain_xml, fake_domain_xml),
    ON_CONN (domain_disks, fake_disks),
    ON_CONN (domain_disk, fake_disk),
    ON_CONN (domain_chain, fake_chain),
    ON_CONN (fs_freeze, fake_freeze),
    ON_CONN (fs_thaw, fake_freeze),
    ON_CONN (backup_begin, fake_begin),
    ON_CONN (backup_plan, fake_plan),
    ON_CONN (backup_stop, fake_stop),
    ON_CONN (backup_info, fake_job_info),
    ON_CONN (backup_list, fake_jobs),
    ON_CONN (backup_running, driver_running),
    ON_CONN (backup_wait, fake_wait),
    ON_CONN (backup_xml, fake_backup_xml),
    ON_CONN (backup_limit, fake_limit),
    ON_CONN (block_begin, fake_block_begin),
    ON_CONN (block_plan, fake_block_plan),
    ON_CONN (block_info, fake_block_info),
    ON_CONN (block_end, fake_block_end),
    ON_CONN (job_stats, fake_stats),
    ON_CONN (job_abort, fake_abort),
    ON_CONN (checkpoint_create, fake_checkpoint_create),
    ON_CONN (checkpoint_xml, fake_checkpoint_xml),
    ON_CONN (checkpoint_list, fake_checkpoint_list),
    ON_CONN (checkpoint_children, fake_checkpoint_children),
    ON_CONN (checkpoint_lookup, fake_checkpoint_lookup),
    ON_CONN (checkpoint_delete, fake_checkpoint_delete),
    ON_CONN (checkpoint_check, fake_check),
    ON_CONN (event_register, fake_register),
    ON_CONN (event_deregister, fake_deregister),
};

const DriverOps libvirt_driver = {
    .name = "fake",
    .probe = fake_probe,
    .open = fake_open,
    .close = fake_close,
    .calls = calls,
};
