/* The records of jobs. What is read has passed a file system and perhaps an editor; a damaged one
 * is reported by name, never fatal to the others. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "job/entries.h"
#include "job/fields.h"
#include "job/record.h"
#include "util/files.h"
#include "util/json.h"

#define JOB(member, kind, max)                                                                     \
    {                                                                                              \
#member, kind, G_STRUCT_OFFSET(bak_job, member), max                                       \
    }
static const Field job_fields[] = {
    JOB (id, KIND_STRING, BAK_NAME_MAX),
    JOB (domain, KIND_STRING, BAK_NAME_MAX),
    JOB (mode, KIND_MODE, 0),
    JOB (state, KIND_STATE, 0),
    JOB (started, KIND_TIME, 0),
    JOB (ended, KIND_TIME, 0),
    JOB (error, KIND_STRING, BAK_MESSAGE_MAX),
    JOB (error_code, KIND_INT, 0),
    JOB (partial, KIND_BOOL, 0),
    JOB (checkpoint, KIND_STRING, BAK_NAME_MAX),
    JOB (server, KIND_STRING, BAK_PATH_MAX),
    JOB (consistency, KIND_STRING, BAK_NAME_MAX),
    JOB (frozen, KIND_SIZE, 0),
    JOB (notes, KIND_STRINGS, BAK_MESSAGE_MAX),
    JOB (temp_used, KIND_SIZE, 0),
    JOB (temp_total, KIND_SIZE, 0),
    JOB (aborted, KIND_BOOL, 0),
    JOB (acknowledged, KIND_BOOL, 0),
    JOB (owner, KIND_STRING, BAK_NAME_MAX),
    JOB (elapsed, KIND_SIZE, 0),
    JOB (held, KIND_SIZE, 0),
};

#define DISK(member, kind, max)                                                                    \
    {                                                                                              \
#member, kind, G_STRUCT_OFFSET(bak_job_disk, member), max                                  \
    }
static const Field disk_fields[] = {
    DISK (target, KIND_STRING, BAK_NAME_MAX),
    DISK (state, KIND_STATE, 0),
    DISK (type, KIND_STRING, BAK_NAME_MAX),
    DISK (reason, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (bytes, KIND_SIZE, 0),
    DISK (total, KIND_SIZE, 0),
    DISK (error, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (path, KIND_STRING, BAK_PATH_MAX),
    DISK (scratch, KIND_STRING, BAK_PATH_MAX),
    DISK (format, KIND_STRING, BAK_NAME_MAX),
    DISK (export_name, KIND_STRING, BAK_NAME_MAX),
    DISK (bitmap, KIND_STRING, BAK_NAME_MAX),
    DISK (limit, KIND_SIZE, 0),
    DISK (protection, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (since, KIND_STRING, BAK_NAME_MAX),
};

JsonNode *record_to_json (const bak_job *job)
{
    JsonObject *object = fields_to_json (job_fields, G_N_ELEMENTS (job_fields), job);
    JsonArray *disks = json_array_new ();

    json_object_set_int_member (object, "version", RECORD_VERSION);
    for (u_int i = 0; i < job->disks.disks_len; i++)
        json_array_add_object_element (
            disks,
            fields_to_json (disk_fields, G_N_ELEMENTS (disk_fields), &job->disks.disks_val[i]));
    json_object_set_array_member (object, "disks", disks);
    return object_node (object);
}

static gboolean job_from_object (JsonObject *object, bak_job *job, GError **error)
{
    JsonArray *disks;
    guint count;

    if (!version_check (object, error)
        || !fields_from_json (job_fields, G_N_ELEMENTS (job_fields), object, job, error))
        return FALSE;
    if (!record_id_check (job->id))
        return error_set (error, BAK_ERROR_IO, _("'id' is not a job's id"));
    if (!disks_array (object, &disks, &count, error))
        return FALSE;
    job->disks.disks_val = ret_array (count, sizeof (bak_job_disk));
    for (guint i = 0; i < count; i++) {
        bak_job_disk *disk = &job->disks.disks_val[i];
        gboolean ok = fields_from_json (disk_fields, G_N_ELEMENTS (disk_fields),
                                        json_get_element (disks, i), disk, error);
        job->disks.disks_len = i + 1;
        if (!ok)
            return error_note (error, _("disk %u"), i);
    }
    return TRUE;
}

gboolean record_from_json (JsonNode *node, bak_job *ret_job, GError **error)
{
    bak_job job = { 0 };

    if (!JSON_NODE_HOLDS_OBJECT (node))
        return error_set (error, BAK_ERROR_IO, _("not a JSON object"));
    if (!job_from_object (json_node_get_object (node), &job, error)) {
        bak_job_clear (&job);
        return FALSE;
    }
    *ret_job = job;
    return TRUE;
}

char *record_new_id (void)
{
    guint32 value;

    if (getrandom (&value, sizeof value, 0) != sizeof value)
        value = g_random_int ();
    return g_strdup_printf ("%08x", value);
}

gboolean record_id_check (const char *id)
{
    return id && strlen (id) == 8 && strspn (id, "0123456789abcdef") == 8;
}

/* A job as it lies in a file: order is the order in which the jobs of a folder began, which no
 * clock can say. */
typedef struct {
    bak_job job;
    gint64 order;
} StoredJob;

static gboolean read_job (const char *dir, const char *id, StoredJob *ret, GError **error)
{
    g_autofree char *path = entry_path (dir, "jobs", id);
    JsonObject *object;
    g_autoptr (JsonNode) node = read_entry (path, &object, error);

    if (!node)
        return FALSE;
    bak_job job;
    if (!record_from_json (node, &job, error))
        return error_note (error,
                           error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_NOT_SUPPORTED)
                               ? "'%s'"
                               : _("'%s' is damaged"),
                           path);
    if (!g_str_equal (job.id, id)) {
        g_autofree char *found = g_strdup (job.id);
        bak_job_clear (&job);
        return error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it holds job '%s'"), path,
                          found);
    }
    ret->job = job;
    ret->order = json_get_int (object, "order", 0);
    return TRUE;
}

static int compare_stored (gconstpointer a, gconstpointer b)
{
    const StoredJob *left = a, *right = b;

    if (left->order != right->order)
        return left->order > right->order ? -1 : 1;
    if (left->job.started != right->job.started)
        return left->job.started > right->job.started ? -1 : 1;
    return strcmp (left->job.id, right->job.id);
}

static GArray *list_stored (const char *dir, GPtrArray *damaged)
{
    g_autofree char *folder = g_build_filename (dir, "jobs", NULL);
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    GArray *list = g_array_new (FALSE, TRUE, sizeof (StoredJob));
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        g_autofree char *id = entry_name (file);
        g_autoptr (GError) why = NULL;
        StoredJob stored = { 0 };
        if (!id)
            continue;
        if (!record_id_check (id))
            error_set (&why, BAK_ERROR_IO, _("'%s' in '%s' is not the name of a record"), file,
                       folder);
        else if (read_job (dir, id, &stored, &why))
            g_array_append_val (list, stored);
        if (why && damaged)
            g_ptr_array_add (damaged, text_sanitize (why->message, 0));
    }
    g_array_sort (list, compare_stored);
    return list;
}

GArray *record_list (const char *dir, GPtrArray *damaged)
{
    g_autoptr (GArray) stored = list_stored (dir, damaged);
    GArray *jobs = g_array_sized_new (FALSE, TRUE, sizeof (bak_job), stored->len);

    for (guint i = 0; i < stored->len; i++)
        g_array_append_val (jobs, g_array_index (stored, StoredJob, i).job);
    return jobs;
}

/* The order of a job that is saved: what its file says, else one more than any other's. */
static gint64 order_of (const char *dir, const char *id)
{
    gint64 highest = 0;
    StoredJob own;

    if (read_job (dir, id, &own, NULL)) {
        bak_job_clear (&own.job);
        if (own.order > 0)
            return own.order;
    }
    g_autoptr (GArray) stored = list_stored (dir, NULL);
    for (guint i = 0; i < stored->len; i++) {
        StoredJob *entry = &g_array_index (stored, StoredJob, i);
        highest = MAX (highest, entry->order);
        bak_job_clear (&entry->job);
    }
    return highest + (highest < G_MAXINT64);
}

gboolean record_save (const char *dir, const bak_job *job, GError **error)
{
    if (!record_id_check (job->id))
        return error_set (error, BAK_ERROR_INTERNAL, _("a job without an id cannot be recorded"));
    if (!make_folder (dir, "jobs", error))
        return error_note (error, _("record of job '%s'"), job->id);

    g_autofree char *path = entry_path (dir, "jobs", job->id);
    g_autoptr (JsonNode) node = record_to_json (job);
    json_object_set_int_member (json_node_get_object (node), "order", order_of (dir, job->id));
    g_autofree char *text = json_write (node);
    /* Before its end the journal says what a crash of the host needs to know; the end itself must
     * survive one. */
    gboolean ok = job_state_ended (job->state) ? files_write_atomic (path, text, -1, 0600, error)
                                               : files_replace (path, text, -1, 0600, error);
    return ok || error_note (error, _("record of job '%s'"), job->id);
}

static gboolean load_newest (const char *dir, bak_job *ret_job, GError **error)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GArray) jobs = record_list (dir, damaged);

    if (jobs->len == 0)
        return damaged->len ? error_set (error, BAK_ERROR_IO, "%s", (char *) damaged->pdata[0])
                            : error_set (error, BAK_ERROR_NO_JOB, _("no backup job is recorded"));
    *ret_job = g_array_index (jobs, bak_job, 0);
    for (guint i = 1; i < jobs->len; i++)
        bak_job_clear (&g_array_index (jobs, bak_job, i));
    return TRUE;
}

gboolean record_load (const char *dir, const char *id, bak_job *ret_job, GError **error)
{
    StoredJob stored;

    if (!id || !*id)
        return load_newest (dir, ret_job, error);
    g_autofree char *path = record_id_check (id) ? entry_path (dir, "jobs", id) : NULL;
    if (!path || !g_file_test (path, G_FILE_TEST_EXISTS)) {
        g_autofree char *shown = text_sanitize (id, 64);
        return error_set (error, BAK_ERROR_NO_JOB, _("no backup job '%s' is recorded"), shown);
    }
    if (!read_job (dir, id, &stored, error))
        return FALSE;
    *ret_job = stored.job;
    return TRUE;
}

/* What a writer that was killed left: NAME.json.PID.N.tmp of a process that is gone. */
static void remove_leftovers (const char *folder)
{
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        const char *mark = g_str_has_suffix (file, ".tmp") ? strstr (file, ".json.") : NULL;
        int pid = mark ? atoi (mark + strlen (".json.")) : 0;
        g_autofree char *path = g_build_filename (folder, file, NULL);
        if (pid > 0 && pid != getpid () && kill (pid, 0) != 0 && errno == ESRCH)
            g_unlink (path);
    }
}

void record_forget (const char *dir, const char *id)
{
    g_autofree char *path = record_id_check (id) ? entry_path (dir, "jobs", id) : NULL;
    if (path && g_unlink (path) == 0)
        files_fsync_parent (path, NULL);
}

void record_prune (const char *dir, guint keep)
{
    g_autofree char *folder = g_build_filename (dir, "jobs", NULL);
    g_autoptr (GArray) jobs = record_list (dir, NULL);

    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        g_autofree char *path = entry_path (dir, "jobs", job->id);
        if (i >= keep && job_state_ended (job->state))
            g_unlink (path);
        bak_job_clear (job);
    }
    remove_leftovers (folder);
}
