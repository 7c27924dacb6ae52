/* Hooks: programs of the administrator's that are run at six moments. */
#include <string.h>
#include <unistd.h>
#include "night.h"
#include "program.h"

enum { EXIT_SKIP = 75 }; /* EX_TEMPFAIL */

static int compare_texts (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

static gboolean is_program (const char *path)
{
    return g_file_test (path, G_FILE_TEST_IS_REGULAR) && access (path, X_OK) == 0;
}

/* Those of a folder in the order of their names; a file is its own. */
static GPtrArray *programs_of (const char *hook)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GDir) dir = g_dir_open (hook, 0, NULL);
    const char *name;
    if (!dir)
        g_ptr_array_add (paths, g_strdup (hook));
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (hook, name, NULL);
        if (*name != '.' && !g_str_has_suffix (name, "~") && is_program (path))
            g_ptr_array_add (paths, g_steal_pointer (&path));
    }
    g_ptr_array_sort (paths, compare_texts);
    return paths;
}

/* What a hook is told beside the facts of its moment. */
static JsonObject *facts_of (Night *night, const char *phase, JsonObject *given)
{
    JsonObject *facts = given ? night_copy (given) : json_new ();
    json_text (facts, "phase", phase);
    json_text (facts, "job", night->job->name);
    json_text (facts, "repository",
               night->repository ? bak_repository_get_url (night->repository)
                                 : night->job->repository);
    return facts;
}

static HookResult run_one (Night *night, const char *path, const char *phase, JsonObject *facts,
                           const char *input, char **ret_why)
{
    const char *argv[] = { path, phase, NULL };
    g_autofree char *why = NULL;
    gboolean ends = g_str_has_prefix (phase, "job-") && !g_str_equal (phase, "job-start");
    Program program = { .argv = argv,
                        .facts = facts,
                        .input = input,
                        .timeout = night->job->hook_timeout,
                        .cancellation = ends ? NULL : night->cancellation };
    int status = program_run (&program, &why);
    if (status == 0)
        return HOOK_GOOD;
    if (status > 0)
        why = g_strdup_printf (
            status == EXIT_SKIP ? _("exit status %d, skip") : _("exit status %d"), status);
    *ret_why = g_strdup_printf (_("%s: hook '%s': %s"), phase, path, why);
    return status == EXIT_SKIP ? HOOK_SKIP : HOOK_FAILED;
}

HookResult night_hook (Night *night, const char *phase, JsonObject *given, char **ret_why)
{
    HookResult result = HOOK_GOOD;
    if (!night->job->hook || night->options->dry_run)
        return HOOK_GOOD;
    g_autoptr (GPtrArray) paths = programs_of (night->job->hook);
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    g_autoptr (JsonObject) facts = facts_of (night, phase, given);
    json_node_set_object (node, facts);
    g_autofree char *input = json_to_string (node, FALSE);
    for (guint i = 0; i < paths->len && result == HOOK_GOOD; i++)
        result = run_one (night, paths->pdata[i], phase, facts, input, ret_why);
    return result;
}
