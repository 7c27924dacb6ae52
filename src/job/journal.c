#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "job/build.h"
#include "job/journal.h"
#include "util/files.h"
#include "util/json.h"

enum { JOURNAL_VERSION = 1, JOURNAL_MAX = 64 * 1024 * 1024 };

struct _Journal {
    int fd;
    char *path;
};

static char *journal_path (const char *dir)
{
    return g_build_filename (dir, "journal", NULL);
}

gboolean journal_exists (const char *dir)
{
    g_autofree char *path = journal_path (dir);
    return g_file_test (path, G_FILE_TEST_EXISTS);
}

/* Not synced: a crash of the host may bring it back, beside a record that says how its job ended.
 * Who finds that does what a crash just before this demands; and the next journal, which is synced,
 * takes its name. */
void journal_remove (const char *dir)
{
    g_autofree char *path = journal_path (dir);
    g_unlink (path);
}

static Journal *journal_open_fd (const char *dir, GError **error)
{
    g_autofree char *path = journal_path (dir);
    int fd = open (path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        error_set_errno (error, errno, _("cannot open the journal '%s'"), path);
        return NULL;
    }
    Journal *journal = g_new0 (Journal, 1);
    journal->fd = fd;
    journal->path = g_steal_pointer (&path);
    return journal;
}

Journal *journal_open (const char *dir, GError **error)
{
    return journal_open_fd (dir, error);
}

Journal *journal_create (const char *dir, const Plan *plan, JsonObject *meta, GError **error)
{
    g_autofree char *path = journal_path (dir);
    g_autoptr (JsonNode) plan_node = plan_to_json (plan);
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_take_object (node, obj ("version", "i", (gint64) JOURNAL_VERSION, "meta", "o", meta,
                                      "plan", "o", json_node_dup_object (plan_node), NULL));
    g_autofree char *text = json_to_string (node, FALSE);
    g_autofree char *line = g_strconcat (text, "\n", NULL);
    Journal *journal =
        files_replace (path, line, -1, 0600, error) ? journal_open_fd (dir, error) : NULL;
    /* The name was given before: what makes the content durable does the same for it, and the wait
     * for the disk is half as long. */
    if (!journal || fsync (journal->fd) == 0)
        return journal;
    error_set_errno (error, errno, _("cannot sync '%s'"), path);
    journal_close (journal);
    journal_remove (dir);
    return NULL;
}

gboolean journal_is_lost (const Journal *journal)
{
    struct stat st;
    return fstat (journal->fd, &st) == 0 && st.st_nlink == 0;
}

void journal_close (Journal *journal)
{
    if (!journal)
        return;
    close (journal->fd);
    g_free (journal->path);
    g_free (journal);
}

static gboolean append (Journal *journal, JsonObject *object, GError **error)
{
    g_autoptr (JsonNode) node = json_node_alloc ();
    json_node_take_object (node, object);
    g_autofree char *text = json_to_string (node, FALSE);
    g_autofree char *line = g_strconcat (text, "\n", NULL);
    gsize length = strlen (line);
    ssize_t n;
    do
        n = write (journal->fd, line, length);
    while (n < 0 && errno == EINTR);
    if (n < 0 || (gsize) n != length)
        return error_set_errno (error, n < 0 ? errno : ENOSPC, _("cannot write the journal '%s'"),
                                journal->path);
    return TRUE;
}

gboolean journal_step (Journal *journal, guint step, StepState state, GError **error)
{
    return append (journal, obj ("step", "i", (gint64) step, "state", "i", (gint64) state, NULL),
                   error);
}

gboolean journal_finish (Journal *journal, guint finished, GError **error)
{
    return append (journal, obj ("finished", "i", (gint64) finished, NULL), error);
}

gboolean journal_file (Journal *journal, const char *path, guint64 device, guint64 inode,
                       GError **error)
{
    return append (
        journal,
        obj ("file", "s", path, "device", "i", (gint64) device, "inode", "i", (gint64) inode, NULL),
        error);
}

gboolean journal_result (Journal *journal, const char *job, const char *error_text, GError **error)
{
    return append (journal,
                   obj ("job", "s", job, "result", "s", error_text ? error_text : "", NULL), error);
}

gboolean journal_frozen (Journal *journal, gboolean frozen, GError **error)
{
    return append (journal, obj ("frozen", "b", frozen, NULL), error);
}

gboolean journal_phase (Journal *journal, const char *phase, int outcome, int error_code,
                        const char *error_text, GError **error)
{
    return append (journal,
                   obj ("phase", "s", phase, "outcome", "i", (gint64) outcome, "code", "i",
                        (gint64) error_code, "error", "s", error_text, NULL),
                   error);
}

static void take_note (JournalState *state, JsonObject *object)
{
    const char *file = json_get_string (object, "file"), *phase = json_get_string (object, "phase");
    gint64 step = json_get_int (object, "step", -1), value = json_get_int (object, "state", -1),
           finished = json_get_int (object, "finished", -1);

    if (state->plan && finished >= 0 && finished <= state->plan->finish->len)
        state->finished = finished;
    if (step >= 0 && step < state->states->len && value >= STEP_PENDING && value <= STEP_FAILED)
        g_array_index (state->states, StepState, step) = value;
    if (file && g_path_is_absolute (file)) {
        JournalFile *made = g_new0 (JournalFile, 1);
        made->device = json_get_int (object, "device", 0);
        made->inode = json_get_int (object, "inode", 0);
        g_hash_table_replace (state->files, g_strdup (file), made);
    }
    if (json_get_string (object, "job") && json_get_string (object, "result"))
        g_hash_table_replace (state->results, g_strdup (json_get_string (object, "job")),
                              g_strdup (json_get_string (object, "result")));
    if (json_object_has_member (object, "frozen"))
        state->frozen = json_get_bool (object, "frozen", FALSE);
    if (phase) {
        g_free (state->phase);
        state->phase = g_strdup (phase);
        state->outcome = json_get_int (object, "outcome", JOB_STATE_FAILED);
        state->error_code = json_get_int (object, "code", 0);
        g_free (state->error);
        state->error = g_strdup (json_get_string (object, "error"));
    }
}

JournalState *journal_parse (const char *text, gsize length)
{
    JournalState *state = g_new0 (JournalState, 1);
    state->states = g_array_new (FALSE, TRUE, sizeof (StepState));
    state->files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    state->results = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    state->phase = g_strdup ("begin");
    state->outcome = JOB_STATE_FAILED;
    gboolean first = TRUE;
    for (const char *line = text, *end = text + length; line < end;) {
        const char *stop = memchr (line, '\n', end - line);
        if (!stop)
            break;
        JsonObject *object = NULL;
        g_autoptr (JsonNode) node = json_read_object (line, stop - line, &object, NULL);
        if (first && object) {
            JsonObject *meta = json_get_object (object, "meta");
            JsonNode *plan = json_object_get_member (object, "plan");
            if (json_get_int (object, "version", 0) == JOURNAL_VERSION && plan)
                state->plan = plan_from_json (plan, NULL);
            if (meta)
                state->meta = json_object_ref (meta);
            g_array_set_size (state->states, state->plan ? state->plan->steps->len : 0);
        } else if (object) {
            take_note (state, object);
        }
        first = FALSE;
        line = stop + 1;
    }
    if (!state->meta)
        state->meta = json_object_new ();
    return state;
}

JournalState *journal_read (const char *dir, GError **error)
{
    g_autofree char *path = journal_path (dir), *text = NULL;
    gsize length;
    if (!files_read (path, JOURNAL_MAX, &text, &length, error))
        return NULL;
    return journal_parse (text, length);
}

void journal_state_free (JournalState *state)
{
    if (!state)
        return;
    plan_free (state->plan);
    json_object_unref (state->meta);
    g_array_unref (state->states);
    g_hash_table_unref (state->files);
    g_hash_table_unref (state->results);
    g_free (state->phase);
    g_free (state->error);
    g_free (state);
}
