#include <stdlib.h>
#include <string.h>
#include "fake.h"

enum { GUESTS = 3, JOBS = 8, CHECKPOINTS = 8 };

typedef struct {
    const char *name, *uuid;
    int id;
    guint jobs_ever;
    bak_job jobs[JOBS]; /* the newest last */
    guint job_count;
    char *checkpoints[CHECKPOINTS];
    char *xml;
} FakeGuest;

static FakeGuest guests[GUESTS] = {
    { .name = "one", .uuid = "11111111-2222-3333-4444-555555555555", .id = 1 },
    { .name = "two", .uuid = "21111111-2222-3333-4444-555555555555", .id = 2 },
    { .name = "tree", .uuid = "31111111-2222-3333-4444-555555555555", .id = -1 },
};
static GMutex lock;
static GCond changed;
static guint delay_ms, calls, at_once, most_at_once;
static gboolean waited;

void fake_set_delay (guint ms)
{
    g_mutex_lock (&lock);
    delay_ms = ms;
    g_mutex_unlock (&lock);
}
guint fake_calls (void)
{
    g_mutex_lock (&lock);
    guint n = calls;
    g_mutex_unlock (&lock);
    return n;
}
guint fake_calls_at_once (void)
{
    g_mutex_lock (&lock);
    guint n = most_at_once;
    g_mutex_unlock (&lock);
    return n;
}

void fake_await_wait (void)
{
    g_mutex_lock (&lock);
    while (!waited)
        g_cond_wait (&changed, &lock);
    g_mutex_unlock (&lock);
}

static void enter (void)
{
    g_mutex_lock (&lock);
    calls++;
    at_once++;
    most_at_once = MAX (most_at_once, at_once);
    guint ms = delay_ms;
    g_mutex_unlock (&lock);
    if (ms)
        g_usleep (ms * 1000);
    g_mutex_lock (&lock);
    at_once--;
}

static FakeGuest *guest_find (const char *name, GError **error)
{
    for (guint i = 0; i < GUESTS; i++)
        if (g_str_equal (guests[i].name, name) || g_str_equal (guests[i].uuid, name))
            return &guests[i];
    error_set (error, BAK_ERROR_NO_DOMAIN, "no guest '%s'", name);
    return NULL;
}

void fake_emit (DriverConn *conn, int kind, const char *domain, const char *text)
{
    bak_event event = { .kind = kind,
                        .domain = (char *) domain,
                        .uuid = (char *) "",
                        .job = (char *) "",
                        .disk = (char *) "",
                        .text = (char *) text,
                        .when = g_get_real_time () };
    FakeGuest *guest = guest_find (domain, NULL);
    if (guest)
        event.uuid = (char *) guest->uuid;
    driver_conn_emit (conn, &event);
}

static void emit_job (DriverConn *conn, int kind, const bak_job *job)
{
    bak_event event = { .kind = kind,
                        .domain = job->domain,
                        .uuid = (char *) "",
                        .job = job->id,
                        .disk = (char *) "",
                        .text = job->error,
                        .state = job->state,
                        .when = g_get_real_time () };
    FakeGuest *guest = guest_find (job->domain, NULL);
    if (guest)
        event.uuid = (char *) guest->uuid;
    driver_conn_emit (conn, &event);
}

static void fill_item (const FakeGuest *guest, bak_domain_item *item)
{
    item->name = ret_string (guest->name);
    item->uuid = ret_string (guest->uuid);
    item->id = guest->id;
    item->state = guest->id < 0 ? DOMAIN_STATE_SHUTOFF : DOMAIN_STATE_RUNNING;
}

static gboolean fake_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret,
                           GError **error)
{
    enter ();
    ret->domains.domains_val = ret_array (GUESTS, sizeof (bak_domain_item));
    for (guint i = 0; i < GUESTS; i++)
        if (args->flags == 0 || (args->flags & (guests[i].id < 0 ? LIST_INACTIVE : LIST_ACTIVE)))
            fill_item (&guests[i], &ret->domains.domains_val[ret->domains.domains_len++]);
    g_mutex_unlock (&lock);
    return TRUE;
}

static gboolean fake_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                             GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (*args->name ? args->name : args->uuid, error);
    if (guest)
        fill_item (guest, &ret->domain);
    g_mutex_unlock (&lock);
    return guest != NULL;
}

static gboolean fake_state (DriverConn *conn, const bak_domain_arg *args, bak_state_ret *ret,
                            GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    if (guest)
        *ret =
            (bak_state_ret){ .state = guest->id < 0 ? DOMAIN_STATE_SHUTOFF : DOMAIN_STATE_RUNNING,
                             .reason = 1 };
    g_mutex_unlock (&lock);
    return guest != NULL;
}

static gboolean fake_info (DriverConn *conn, const bak_domain_arg *args, bak_domain_info *ret,
                           GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    if (guest) {
        fill_item (guest, &ret->item);
        ret->reason = 1;
        ret->qemu_version = ret_string ("7.2.22");
        ret->max_memory = ret->memory = 1024 * 1024 * 1024;
        ret->cpus = 2;
        ret->cpu_time = 1500000000;
        ret->qmp = ret_string ("/nowhere");
        ret->agent = ret_string ("");
        ret->persistent = 1;
        ret->job = ret_string ("");
    }
    g_mutex_unlock (&lock);
    return guest != NULL;
}

static gboolean fake_xml (DriverConn *conn, const bak_domain_arg *args, bak_text_ret *ret,
                          GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    if (guest) {
        g_autofree char *id =
            guest->id < 0 ? g_strdup ("") : g_strdup_printf (" id='%d'", guest->id);
        g_autofree char *text = g_strdup_printf (
            "<domain type='qemu'%s>\n  <name>%s</name>\n  <uuid>%s</uuid>\n  "
            "<os><type>hvm</type></os>\n  <devices>\n"
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n      "
            "<source file='/disks/%s.qcow2'/>\n"
            "      <target dev='vda' bus='virtio'/>\n    </disk>\n  </devices>\n</domain>\n",
            id, guest->name, guest->uuid, guest->name);
        ret->text = ret_string (text);
    }
    g_mutex_unlock (&lock);
    return guest != NULL;
}

static void fill_disk (const FakeGuest *guest, bak_disk *disk)
{
    g_autofree char *source = g_strdup_printf ("/disks/%s.qcow2", guest->name);
    *disk = (bak_disk){
        .target = ret_string ("vda"),
        .node = ret_string ("node"),
        .source = ret_string (source),
        .type = ret_string ("file"),
        .device = ret_string ("disk"),
        .format = ret_string ("qcow2"),
        .bus = ret_string ("virtio"),
        .iothread = ret_string (""),
        .note = ret_string (""),
        .capacity = 1 << 30,
        .allocation = 1 << 20,
        .physical = 1 << 21,
        .selected = 1,
    };
}

static gboolean fake_disks (DriverConn *conn, const bak_domain_arg *args, bak_disks_ret *ret,
                            GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    if (guest) {
        ret->disks.disks_val = ret_array (1, sizeof (bak_disk));
        ret->disks.disks_len = 1;
        fill_disk (guest, ret->disks.disks_val);
    }
    g_mutex_unlock (&lock);
    return guest != NULL;
}

static gboolean fake_disk (DriverConn *conn, const bak_disk_arg *args, bak_disk_ret *ret,
                           GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    gboolean ok =
        guest && (g_str_equal (args->disk, "vda") || g_str_has_prefix (args->disk, "/disks/"));
    if (ok)
        fill_disk (guest, &ret->disk);
    else if (guest)
        error_set (error, BAK_ERROR_NO_DISK, "no disk named '%s'", args->disk);
    g_mutex_unlock (&lock);
    return ok;
}

static gboolean fake_freeze (DriverConn *conn, const bak_mounts_args *args, bak_count_ret *ret,
                             GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    ret->count = args->mounts.mounts_len ? (int) args->mounts.mounts_len : 2;
    g_mutex_unlock (&lock);
    return guest != NULL;
}

/* Jobs */

static bak_job *job_find (FakeGuest *guest, const char *id, GError **error)
{
    for (guint i = guest->job_count; i-- > 0;)
        if (*id == '\0' || g_str_equal (guest->jobs[i].id, id))
            return &guest->jobs[i];
    error_set (error, BAK_ERROR_NO_JOB, "no domain backup job present");
    return NULL;
}

static void job_end (DriverConn *conn, bak_job *job, int state, const char *error)
{
    job->state = state;
    job->ended = g_get_real_time ();
    job->elapsed = job->ended - job->started;
    free (job->error);
    job->error = ret_string (error);
    job->error_code = *error ? BAK_ERROR_IO : 0;
    for (guint i = 0; i < job->disks.disks_len; i++) {
        job->disks.disks_val[i].state = state;
        job->disks.disks_val[i].bytes = job->disks.disks_val[i].total;
    }
    g_cond_broadcast (&changed);
}

/* With the lock held; gives it up. */
static void job_tell (DriverConn *conn, const bak_job *job)
{
    bak_job copy;
    bak_job_copy (job, &copy);
    g_mutex_unlock (&lock);
    emit_job (conn, EVENT_JOB_STATE, &copy);
    if (job_state_ended (copy.state))
        emit_job (conn, EVENT_JOB_COMPLETED, &copy);
    bak_job_clear (&copy);
}

void fake_finish_job (DriverConn *conn, const char *domain, int state, const char *error)
{
    g_mutex_lock (&lock);
    FakeGuest *guest = guest_find (domain, NULL);
    bak_job *job = guest ? job_find (guest, "", NULL) : NULL;
    g_assert_nonnull (job);
    job_end (conn, job, state, error);
    job_tell (conn, job);
}

static gboolean fake_begin (DriverConn *conn, const bak_begin_args *args, bak_begin_ret *ret,
                            GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *last = guest && guest->job_count ? &guest->jobs[guest->job_count - 1] : NULL;
    gboolean ok = guest != NULL;
    if (ok && guest->id < 0)
        ok = error_set (error, BAK_ERROR_NOT_SUPPORTED,
                        "cannot perform disk backup for inactive domain");
    if (ok && !strstr (args->backup_xml, "<domainbackup"))
        ok = error_set (error, BAK_ERROR_XML, "expecting root element of 'domainbackup'");
    if (ok && last && !job_state_ended (last->state))
        ok = error_set (error, BAK_ERROR_BUSY, "another backup job is already running: %s",
                        last->id);
    if (!ok) {
        g_mutex_unlock (&lock);
        return FALSE;
    }
    if (guest->job_count == JOBS) {
        bak_job_clear (&guest->jobs[0]);
        memmove (guest->jobs, guest->jobs + 1, sizeof guest->jobs[0] * --guest->job_count);
        memset (&guest->jobs[JOBS - 1], 0, sizeof guest->jobs[0]);
    }
    gboolean pull =
        strstr (args->backup_xml, "mode='pull'") || strstr (args->backup_xml, "mode=\"pull\"");
    g_autofree char *id = g_strdup_printf ("%s-%u", guest->name, ++guest->jobs_ever);
    bak_job *job = &guest->jobs[guest->job_count++];
    *job = (bak_job){
        .id = ret_string (id),
        .domain = ret_string (guest->name),
        .mode = pull ? JOB_MODE_PULL : JOB_MODE_PUSH,
        .state = pull ? JOB_STATE_READY : JOB_STATE_RUNNING,
        .started = g_get_real_time (),
        .error = ret_string (""),
        .checkpoint = ret_string (""),
        .server = ret_string (""),
        .consistency = ret_string ("crash"),
        .owner = ret_string ("test"),
        .temp_used = pull ? 65536 : 0,
        .temp_total = pull ? 1 << 30 : 0,
    };
    job->disks.disks_len = 1;
    job->disks.disks_val = ret_array (1, sizeof (bak_job_disk));
    job->disks.disks_val[0] = (bak_job_disk){
        .target = ret_string ("vda"),
        .state = job->state,
        .type = ret_string ("full"),
        .reason = ret_string (""),
        .bytes = 1 << 20,
        .total = 1 << 30,
        .error = ret_string (""),
        .path = ret_string ("/backups/vda"),
        .scratch = ret_string (""),
        .format = ret_string ("qcow2"),
        .export_name = ret_string ("vda"),
        .bitmap = ret_string (""),
        .protection = ret_string (""),
        .since = ret_string (""),
    };
    g_free (guest->xml);
    guest->xml = g_strdup (args->backup_xml);
    ret->job = ret_string (id);
    job_tell (conn, job);
    return TRUE;
}

static gboolean fake_stop (DriverConn *conn, const bak_stop_args *args, bak_job_ret *ret,
                           GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, args->job, error) : NULL;
    if (!job) {
        g_mutex_unlock (&lock);
        return FALSE;
    }
    if (!job_state_ended (job->state))
        job_end (conn, job,
                 (args->flags & STOP_ABORT) || job->mode == JOB_MODE_PUSH ? JOB_STATE_ABORTED
                                                                          : JOB_STATE_COMPLETED,
                 "");
    bak_job_copy (job, &ret->job);
    job_tell (conn, job);
    return TRUE;
}

static gboolean fake_abort (DriverConn *conn, const bak_domain_arg *args, bak_none *ret,
                            GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, "", NULL) : NULL;
    gboolean ok = job && !job_state_ended (job->state);
    if (ok) {
        job_end (conn, job, job->mode == JOB_MODE_PULL ? JOB_STATE_COMPLETED : JOB_STATE_ABORTED,
                 job->mode == JOB_MODE_PULL ? "" : "Operation canceled");
        job_tell (conn, job);
        return TRUE;
    }
    g_mutex_unlock (&lock);
    return guest ? error_set (error, BAK_ERROR_NO_JOB, "no job is active on the domain") : FALSE;
}

static gboolean fake_job_info (DriverConn *conn, const bak_job_arg *args, bak_job_ret *ret,
                               GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, args->job, error) : NULL;
    if (job)
        bak_job_copy (job, &ret->job);
    g_mutex_unlock (&lock);
    return job != NULL;
}

/* As libvirt counts: a running job, or with STATS_COMPLETED the last one, once. */
static gboolean fake_stats (DriverConn *conn, const bak_job_arg *args, bak_job_ret *ret,
                            GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, "", NULL) : NULL;
    gboolean completed = args->flags & STATS_COMPLETED;
    gboolean ok =
        job && job_state_ended (job->state) == completed && !(completed && job->acknowledged);
    if (ok) {
        bak_job_copy (job, &ret->job);
        if (completed && !(args->flags & STATS_KEEP_COMPLETED))
            job->acknowledged = 1;
    } else if (guest) {
        error_set (error, BAK_ERROR_NO_JOB, "no job");
    }
    g_mutex_unlock (&lock);
    return ok;
}

static gboolean fake_wait (DriverConn *conn, const bak_wait_args *args, bak_job_ret *ret,
                           GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, args->job, error) : NULL;
    gint64 deadline = g_get_monotonic_time () + (gint64) args->timeout;
    waited = TRUE;
    g_cond_broadcast (&changed);
    while (job && args->timeout && !job_state_ended (job->state)
           && g_cond_wait_until (&changed, &lock, deadline))
        ;
    if (job)
        bak_job_copy (job, &ret->job);
    g_mutex_unlock (&lock);
    return job != NULL;
}

static gboolean fake_backup_xml (DriverConn *conn, const bak_job_arg *args, bak_text_ret *ret,
                                 GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    bak_job *job = guest ? job_find (guest, args->job, error) : NULL;
    if (job && job_state_ended (job->state)) {
        error_set (error, BAK_ERROR_NO_JOB, "no domain backup job present");
        job = NULL;
    }
    if (job)
        ret->text = ret_string (guest->xml);
    g_mutex_unlock (&lock);
    return job != NULL;
}

/* Checkpoints: a chain, in the order they were made */

static void fill_checkpoint (const FakeGuest *guest, guint i, bak_checkpoint_item *item)
{
    gboolean leaf = i + 1 == CHECKPOINTS || !guest->checkpoints[i + 1];
    *item = (bak_checkpoint_item){ .name = ret_string (guest->checkpoints[i]),
                                   .parent = ret_string (i ? guest->checkpoints[i - 1] : ""),
                                   .created = 1600000000 + i,
                                   .children = leaf ? 0 : 1,
                                   .note = ret_string ("") };
}

static int checkpoint_find (const FakeGuest *guest, const char *name, GError **error)
{
    for (guint i = 0; i < CHECKPOINTS && guest->checkpoints[i]; i++)
        if (g_str_equal (guest->checkpoints[i], name))
            return i;
    error_set (error, BAK_ERROR_NO_CHECKPOINT, "no domain checkpoint with matching name '%s'",
               name);
    return -1;
}

static gboolean fake_checkpoint_create (DriverConn *conn, const bak_checkpoint_create_args *args,
                                        bak_checkpoint_ret *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    const char *start = strstr (args->xml, "<name>"),
               *end = start ? strstr (start, "</name>") : NULL;
    g_autofree char *name = end ? g_strndup (start + 6, end - start - 6) : g_strdup ("made");
    guint i = 0;
    while (guest && i < CHECKPOINTS && guest->checkpoints[i])
        i++;
    gboolean ok = guest && i < CHECKPOINTS;
    if (ok && checkpoint_find (guest, name, NULL) >= 0)
        ok = error_set (error, BAK_ERROR_EXISTS, "domain moment %s already exists", name);
    if (ok) {
        guest->checkpoints[i] = g_steal_pointer (&name);
        fill_checkpoint (guest, i, &ret->checkpoint);
    }
    g_mutex_unlock (&lock);
    return ok;
}

static gboolean fake_checkpoint_lookup (DriverConn *conn, const bak_checkpoint_arg *args,
                                        bak_checkpoint_ret *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    int i = guest ? checkpoint_find (guest, args->name, error) : -1;
    if (i >= 0)
        fill_checkpoint (guest, i, &ret->checkpoint);
    g_mutex_unlock (&lock);
    return i >= 0;
}

static gboolean fake_checkpoint_xml (DriverConn *conn, const bak_checkpoint_arg *args,
                                     bak_text_ret *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    int i = guest ? checkpoint_find (guest, args->name, error) : -1;
    if (i >= 0) {
        g_autofree char *text = g_strdup_printf (
            "<domaincheckpoint>\n  <name>%s</name>\n  <creationTime>%d</creationTime>\n  <disks>\n"
            "    <disk name='vda' checkpoint='bitmap' bitmap='%s'%s/>\n  "
            "</disks>\n</domaincheckpoint>\n",
            args->name, 1600000000 + i, args->name,
            args->flags & CHECKPOINT_XML_SIZE ? " size='65536'" : "");
        ret->text = ret_string (text);
    }
    g_mutex_unlock (&lock);
    return i >= 0;
}

static gboolean list_from (FakeGuest *guest, guint first, bak_checkpoints_ret *ret)
{
    ret->checkpoints.checkpoints_val = ret_array (CHECKPOINTS, sizeof (bak_checkpoint_item));
    for (guint i = first; i < CHECKPOINTS && guest->checkpoints[i]; i++)
        fill_checkpoint (guest, i,
                         &ret->checkpoints.checkpoints_val[ret->checkpoints.checkpoints_len++]);
    return TRUE;
}

static gboolean fake_checkpoint_list (DriverConn *conn, const bak_domain_arg *args,
                                      bak_checkpoints_ret *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    gboolean ok = guest && list_from (guest, 0, ret);
    g_mutex_unlock (&lock);
    return ok;
}

static gboolean fake_checkpoint_children (DriverConn *conn, const bak_checkpoint_arg *args,
                                          bak_checkpoints_ret *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    int i = guest ? checkpoint_find (guest, args->name, error) : -1;
    gboolean ok = i >= 0 && list_from (guest, i + 1, ret);
    if (ok && !(args->flags & CHECKPOINT_LIST_DESCENDANTS))
        for (; ret->checkpoints.checkpoints_len > 1; ret->checkpoints.checkpoints_len--) {
            bak_checkpoint_item *last =
                &ret->checkpoints.checkpoints_val[ret->checkpoints.checkpoints_len - 1];
            free (last->name);
            free (last->parent);
            free (last->note);
        }
    g_mutex_unlock (&lock);
    return ok;
}

static gboolean fake_checkpoint_delete (DriverConn *conn, const bak_checkpoint_arg *args,
                                        bak_none *ret, GError **error)
{
    enter ();
    FakeGuest *guest = guest_find (args->domain, error);
    int i = guest ? checkpoint_find (guest, args->name, error) : -1;
    if (i >= 0) {
        g_free (guest->checkpoints[i]);
        memmove (&guest->checkpoints[i], &guest->checkpoints[i + 1],
                 sizeof (char *) * (CHECKPOINTS - 1 - i));
        guest->checkpoints[CHECKPOINTS - 1] = NULL;
    }
    g_mutex_unlock (&lock);
    return i >= 0;
}

static gboolean fake_register (DriverConn *conn, const bak_register_args *args,
                               bak_register_ret *ret, GError **error)
{
    ret->id = 1;
    return TRUE;
}

static gboolean fake_probe (const char *uri)
{
    return g_str_equal (uri, "qemu:///system") || g_str_equal (uri, "qemu:///session");
}
static gboolean fake_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    return TRUE;
}
static void fake_close (DriverConn *conn) {}

static const DriverCall fake_rows[CALL_COUNT] = {
    ON_CONN (list, fake_list),
    ON_CONN (lookup, fake_lookup),
    ON_CONN (domain_info, fake_info),
    ON_CONN (domain_state, fake_state),
    ON_CONN (domain_xml, fake_xml),
    ON_CONN (domain_disks, fake_disks),
    ON_CONN (domain_disk, fake_disk),
    ON_CONN (fs_freeze, fake_freeze),
    ON_CONN (fs_thaw, fake_freeze),
    ON_CONN (backup_begin, fake_begin),
    ON_CONN (backup_stop, fake_stop),
    ON_CONN (backup_info, fake_job_info),
    ON_CONN (backup_running, driver_running),
    ON_CONN (backup_wait, fake_wait),
    ON_CONN (backup_xml, fake_backup_xml),
    ON_CONN (job_stats, fake_stats),
    ON_CONN (job_abort, fake_abort),
    ON_CONN (checkpoint_create, fake_checkpoint_create),
    ON_CONN (checkpoint_xml, fake_checkpoint_xml),
    ON_CONN (checkpoint_list, fake_checkpoint_list),
    ON_CONN (checkpoint_children, fake_checkpoint_children),
    ON_CONN (checkpoint_lookup, fake_checkpoint_lookup),
    ON_CONN (checkpoint_delete, fake_checkpoint_delete),
    ON_CONN (event_register, fake_register),
};

static const DriverOps fake_driver = {
    .name = "fake",
    .probe = fake_probe,
    .open = fake_open,
    .close = fake_close,
    .calls = fake_rows,
};

__attribute__ ((constructor)) static void fake_install (void)
{
    driver_set_first (&fake_driver);
}
