#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/guest.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDisk, bak_disk_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakJob, bak_job_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakCheckpoint, bak_domain_checkpoint_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDomainDetails, bak_domain_details_unref)

gboolean guest_take_error (BakError *public_error, GError **error)
{
    error_set (error, bak_error_get_code (public_error), "%s",
               bak_error_get_message (public_error));
    bak_error_unref (public_error);
    return FALSE;
}

/* disks */

static void disk_free (gpointer data)
{
    GuestDisk *disk = data;
    g_free (disk->target);
    g_free (disk);
}

static void add_disk (GPtrArray *disks, const BakDisk *disk)
{
    GuestDisk *found = g_new0 (GuestDisk, 1);
    found->target = g_strdup (bak_disk_get_target (disk));
    found->size = bak_disk_get_capacity (disk);
    g_ptr_array_add (disks, found);
}

static gboolean has_target (const GPtrArray *disks, const char *target)
{
    for (guint i = 0; i < disks->len; i++)
        if (g_str_equal (((GuestDisk *) disks->pdata[i])->target, target))
            return TRUE;
    return FALSE;
}

static gboolean add_named (BakDomain *domain, GPtrArray *disks, const char *name, GError **error)
{
    BakError *why = NULL;
    g_autoptr (BakDisk) disk = bak_domain_lookup_disk (domain, name, 0, &why);
    if (!disk)
        return guest_take_error (why, error);
    if (has_target (disks, bak_disk_get_target (disk)))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s' is named twice"), name);
    add_disk (disks, disk);
    return TRUE;
}

static gboolean add_selected (BakDomain *domain, GPtrArray *disks, GError **error)
{
    BakError *why = NULL;
    BakDisk **list = NULL;
    if (bak_domain_list_disks (domain, &list, 0, &why) < 0)
        return guest_take_error (why, error);
    for (guint i = 0; list[i]; i++) {
        if (bak_disk_get_flags (list[i]) & BAK_DISK_SELECTED)
            add_disk (disks, list[i]);
        bak_disk_unref (list[i]);
    }
    bak_free (list);
    return disks->len
           || error_set (error, BAK_ERROR_NO_DISK, _("guest '%s' has no disk to back up"),
                         bak_domain_get_name (domain));
}

GPtrArray *guest_list_disks (BakDomain *domain, const char *const *names, GError **error)
{
    g_autoptr (GPtrArray) disks = g_ptr_array_new_with_free_func (disk_free);
    gboolean ok = names || add_selected (domain, disks, error);
    for (guint i = 0; ok && names && names[i]; i++)
        ok = add_named (domain, disks, names[i], error);
    return ok ? g_steal_pointer (&disks) : NULL;
}

/* checkpoints */

char *guest_checkpoint_prefix (const Repository *repository)
{
    return g_strdup_printf ("point-%.8s-", repository->id);
}

char *guest_checkpoint_name (const Repository *repository, guint64 sequence)
{
    g_autofree char *prefix = guest_checkpoint_prefix (repository);
    return g_strdup_printf ("%s%" G_GUINT64_FORMAT, prefix, sequence);
}

/* By what a checkpoint is known as that of one point, and of no other with the same number in a
 * copy of the repository. Caller frees. */
static char *mark_of (const char *id)
{
    return g_strdup_printf ("libbackup point %s", id);
}

char *guest_check_checkpoint (BakDomain *domain, const Point *point)
{
    const char *name = point->manifest->checkpoint;
    if (!name)
        return g_strdup (_("the newest point was made without a checkpoint"));
    g_autoptr (BakCheckpoint) found = bak_domain_checkpoint_lookup_by_name (domain, name, 0, NULL);
    if (!found)
        return g_strdup_printf (_("the guest has no checkpoint '%s'"), name);
    g_autofree char *mark = mark_of (point->manifest->id);
    g_autofree char *element = g_strdup_printf ("<description>%s</description>", mark);
    char *xml = bak_domain_checkpoint_get_xml_desc (found, 0, NULL);
    gboolean ours = xml && strstr (xml, element);
    bak_free (xml);
    return ours ? NULL
                : g_strdup_printf (_("checkpoint '%s' is not that of the newest point"), name);
}

void guest_delete_checkpoints (BakDomain *domain, const Repository *repository, const char *keep)
{
    g_autofree char *prefix = guest_checkpoint_prefix (repository);
    BakCheckpoint **list = NULL;
    if (bak_domain_list_all_checkpoints (domain, &list, 0, NULL) < 0)
        return;
    for (guint i = 0; list[i]; i++) {
        const char *name = bak_domain_checkpoint_get_name (list[i]);
        BakError *why = NULL;
        if (g_str_has_prefix (name, prefix) && g_strcmp0 (name, keep) != 0
            && bak_domain_checkpoint_delete (list[i], 0, &why) < 0)
            g_debug ("checkpoint '%s': %s", name, bak_error_get_message (why));
        bak_error_unref (why);
        bak_domain_checkpoint_unref (list[i]);
    }
    bak_free (list);
}

/* the pull */

static char *backup_xml (const GuestPull *pull)
{
    GString *xml = g_string_new (NULL);
    g_string_append_printf (xml, "<domainbackup mode='pull'>%s<disks>", pull->server);
    for (guint i = 0; i < pull->choices->len; i++) {
        const BaseChoice *choice = pull->choices->pdata[i];
        g_autofree char *name = g_markup_escape_text (choice->target, -1);
        if (choice->tracked)
            g_string_append_printf (xml, "<disk name='%s' incremental='%s' fallback='%s'/>", name,
                                    pull->base_checkpoint,
                                    pull->refuse_fallback ? "refuse" : "full");
        else
            g_string_append_printf (xml, "<disk name='%s' backupmode='full'/>", name);
    }
    g_string_append (xml, "</disks></domainbackup>");
    return g_string_free (xml, FALSE);
}

static char *checkpoint_xml (const GuestPull *pull)
{
    g_autofree char *mark = mark_of (pull->id);
    return g_strdup_printf ("<domaincheckpoint><name>%s</name><description>%s</description>"
                            "</domaincheckpoint>",
                            pull->checkpoint, mark);
}

typedef char *(*BeginFunc) (BakDomain *domain, const BakBackupOptions *options, BakError **error);

static char *enter (BakDomain *domain, const GuestPull *pull, BeginFunc begin, BakError **why)
{
    g_autofree char *backup = backup_xml (pull);
    g_autofree char *checkpoint = pull->checkpoint ? checkpoint_xml (pull) : NULL;
    BakBackupOptions options = { .size = sizeof options,
                                 .backup_xml = backup,
                                 .checkpoint_xml = checkpoint,
                                 .flags = pull->quiesce ? BAK_DOMAIN_BACKUP_BEGIN_QUIESCE : 0,
                                 .timeout = pull->timeout };
    char *text = begin (domain, &options, why), *copy = g_strdup (text);
    bak_free (text);
    return copy;
}

char *guest_begin_pull (BakDomain *domain, const GuestPull *pull, GError **error)
{
    BakError *why = NULL;
    char *job = enter (domain, pull, bak_domain_backup_begin_options, &why);
    if (!job)
        guest_take_error (why, error);
    return job;
}

char *guest_plan_pull (BakDomain *domain, const GuestPull *pull, GError **error)
{
    BakError *why = NULL;
    char *plan = enter (domain, pull, bak_domain_backup_plan, &why);
    if (!plan)
        guest_take_error (why, error);
    return plan;
}

/* The caller holds the guest's lock in this repository: no living writer of it has a job. */
gboolean guest_abort_orphan (BakDomain *domain, const Repository *repository, const char *job_id,
                             GError **error)
{
    g_autofree char *prefix = guest_checkpoint_prefix (repository);
    g_autoptr (BakJob) job = bak_domain_backup_info (domain, NULL, 0, NULL);
    const char *checkpoint = job ? bak_job_get_checkpoint (job) : NULL;
    gboolean ours = job
                    && (g_strcmp0 (bak_job_get_id (job), job_id) == 0
                        || (checkpoint && g_str_has_prefix (checkpoint, prefix)));
    if (!ours || bak_job_has_ended (job))
        return TRUE;
    BakError *why = NULL;
    g_autoptr (BakJob) ended =
        bak_domain_backup_stop (domain, bak_job_get_id (job), BAK_DOMAIN_BACKUP_STOP_ABORT, &why);
    return ended
           || (guest_take_error (why, error),
               error_note (error, _("aborting the backup that a dead point-create left")));
}

char *guest_check_pull (BakDomain *domain, const char *job_id, const char *checkpoint)
{
    BakError *error = NULL;
    g_autoptr (BakJob) job = bak_domain_backup_info (domain, job_id, 0, &error);
    char *why = NULL;
    if (!job)
        why = g_strdup (bak_error_get_message (error));
    else if (bak_job_has_ended (job))
        why = g_strdup_printf (_("backup %s has ended"), job_id);
    else if (g_strcmp0 (bak_job_get_checkpoint (job), checkpoint) != 0)
        why = g_strdup_printf (_("backup %s is another"), job_id);
    bak_error_unref (error);
    return why;
}

/* what stands in a point beside the disks */

char *guest_host (BakDomain *domain)
{
    char *uri = bak_connection_get_uri (bak_domain_get_connection (domain), NULL);
    g_autoptr (GUri) parsed = uri ? g_uri_parse (uri, G_URI_FLAGS_NON_DNS, NULL) : NULL;
    const char *host = parsed ? g_uri_get_host (parsed) : NULL;
    char *name = g_strdup (host && *host ? host : g_get_host_name ());
    bak_free (uri);
    return name;
}

char *guest_qemu (BakDomain *domain)
{
    g_autoptr (BakDomainDetails) details = bak_domain_get_details (domain, 0, NULL);
    return details ? g_strdup (bak_domain_details_get_qemu_version (details)) : NULL;
}

gboolean guest_has_agent (BakDomain *domain)
{
    g_autoptr (BakDomainDetails) details = bak_domain_get_details (domain, 0, NULL);
    return details && bak_domain_details_get_agent (details);
}
