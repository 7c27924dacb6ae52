/* Completion, of readline and of bash alike: both ask for the candidates of the last word. */
#include <string.h>
#include "baksh.h"
#include "night/job.h"

static void add (GPtrArray *found, const char *text)
{
    g_autofree char *shown = clean (text);
    if (g_str_equal (shown, text)) /* a name with control characters is not offered */
        g_ptr_array_add (found, g_strdup (text));
}

static void add_domains (Shell *shell, GPtrArray *found)
{
    BakDomain **list = NULL;
    bak_connection_list_all_domains (shell->conn, &list, 0, NULL);
    for (guint i = 0; list && list[i]; i++)
        add (found, bak_domain_get_name (list[i]));
    LIST_FREE (list, bak_domain_unref);
}

static void add_disks (BakDomain *domain, GPtrArray *found)
{
    BakDisk **list = NULL;
    bak_domain_list_disks (domain, &list, 0, NULL);
    for (guint i = 0; list && list[i]; i++)
        add (found, bak_disk_get_target (list[i]));
    LIST_FREE (list, bak_disk_unref);
}

static void add_checkpoints (BakDomain *domain, GPtrArray *found)
{
    BakCheckpoint **list = NULL;
    bak_domain_list_all_checkpoints (domain, &list, 0, NULL);
    for (guint i = 0; list && list[i]; i++)
        add (found, bak_domain_checkpoint_get_name (list[i]));
    LIST_FREE (list, bak_domain_checkpoint_unref);
}

static void add_jobs (BakDomain *domain, GPtrArray *found)
{
    BakJob **list = NULL;
    bak_domain_backup_list (domain, &list, 0, NULL);
    for (guint i = 0; list && list[i]; i++)
        add (found, bak_job_get_id (list[i]));
    LIST_FREE (list, bak_job_unref);
}

/* Of the default repository: which one a --repository names is not known here. */
static void add_points (GPtrArray *found)
{
    BakRepository *repository = bak_repository_open (NULL, 0, NULL);
    BakPoint **list = NULL;
    if (repository)
        bak_repository_list_points (repository, NULL, &list, 0, NULL);
    for (guint i = 0; list && list[i]; i++) {
        g_autofree char *name =
            g_strdup_printf ("%s@%s", bak_point_get_guest (list[i]), bak_point_get_id (list[i]));
        add (found, name);
    }
    LIST_FREE (list, bak_point_unref);
    bak_repository_unref (repository);
}

static void add_of_domain (Shell *shell, const char *name, Want want, GPtrArray *found)
{
    g_autoptr (BakDomain) domain =
        name ? bak_domain_lookup_by_name (shell->conn, name, NULL) : NULL;
    if (!domain)
        return;
    if (want == WANT_DISK)
        add_disks (domain, found);
    else if (want == WANT_CHECKPOINT)
        add_checkpoints (domain, found);
    else
        add_jobs (domain, found);
}

static void add_night_jobs (GPtrArray *found)
{
    g_autoptr (GPtrArray) names = night_job_names ();
    for (guint i = 0; i < names->len; i++)
        add (found, names->pdata[i]);
}

extern const char *const event_names[];

static void add_values (Shell *shell, const Option *option, const char *domain, GPtrArray *found)
{
    if (option->kind == OPTION_CHOICE) {
        g_auto (GStrv) words = g_strsplit (option->argument, "|", -1);
        for (guint i = 0; words[i]; i++)
            add (found, words[i]);
    }
    if (option->want == WANT_COMMAND)
        for (guint i = 0; commands[i]; i++)
            add (found, commands[i]->name);
    if (option->want == WANT_POINT)
        add_points (found);
    if (option->want == WANT_NIGHT)
        add_night_jobs (found);
    if (option->want == WANT_EVENT)
        for (guint i = 0; event_names[i]; i++)
            add (found, event_names[i]);
    if (option->want != WANT_DOMAIN && option->want != WANT_DISK && option->want != WANT_CHECKPOINT
        && option->want != WANT_JOB)
        return;
    /* quietly: a connection that fails offers nothing */
    if (!shell->conn)
        shell->conn = bak_connection_open_read_only (shell->uri, NULL);
    if (!shell->conn)
        return;
    if (option->want == WANT_DOMAIN)
        add_domains (shell, found);
    else
        add_of_domain (shell, domain, option->want, found);
}

/* What the words before the last one have settled. */
typedef struct {
    const Option *expects_value, *positional;
    const char *domain;
} Place;

static Place place_of (const Command *command, char **words, guint n)
{
    Place place = { 0 };
    guint taken = 0; /* positionals that have their value */
    for (guint i = 1; i + 1 < n; i++) {
        const Option *option =
            g_str_has_prefix (words[i], "--") ? command_option (command, words[i] + 2) : NULL;
        place.expects_value = NULL;
        if (option && option->kind != OPTION_FLAG) {
            if (i + 2 == n)
                place.expects_value = option;
            else if (g_str_equal (option->name, "domain"))
                place.domain = words[i + 1];
            i++;
        } else if (words[i][0] != '-') {
            if (taken++ == 0 && !place.domain)
                place.domain = words[i];
        }
    }
    const Option *option;
    for (guint i = 0, position = 0; (option = command_option_at (command, i)); i++)
        if (option->flags & OPTION_POSITIONAL
            && (position++ == taken || option->flags & OPTION_REPEATED)) {
            place.positional = option;
            break;
        }
    return place;
}

GPtrArray *complete_words (Shell *shell, char **words)
{
    GPtrArray *found = g_ptr_array_new_with_free_func (g_free);
    guint n = g_strv_length (words);
    if (n == 1 && words[0][0] == '-') {
        static const char *const globals[] = { "--connect", "--readonly", "--quiet", "--help",
                                               "--version" };
        for (guint i = 0; i < G_N_ELEMENTS (globals); i++)
            add (found, globals[i]);
        return found;
    }
    if (n <= 1) {
        for (guint i = 0; commands[i]; i++)
            add (found, commands[i]->name);
        return found;
    }
    const Command *command = command_find (words[0]);
    if (!command)
        return found;
    Place place = place_of (command, words, n);
    const Option *option;
    if (place.expects_value)
        add_values (shell, place.expects_value, place.domain, found);
    else if (g_str_has_prefix (words[n - 1], "-"))
        for (guint i = 0; (option = command_option_at (command, i)); i++) {
            g_autofree char *name = g_strdup_printf ("--%s", option->name);
            add (found, name);
        }
    else if (place.positional)
        add_values (shell, place.positional, place.domain, found);
    return found;
}

void complete_print (Shell *shell, char **words)
{
    g_autoptr (GPtrArray) found = complete_words (shell, words);
    guint n = g_strv_length (words);
    const char *begin = n ? words[n - 1] : "";
    for (guint i = 0; i < found->len; i++)
        if (g_str_has_prefix (found->pdata[i], begin))
            print ("%s\n", (char *) found->pdata[i]);
}
