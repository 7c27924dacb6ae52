/* jobs.d/JOB.conf: every key has a row, and what no row knows is an error before a guest is
 * touched. */
#include <fnmatch.h>
#include <string.h>
#include "job.h"

#define DRILL_TIMEOUT ((guint64) 600 * G_USEC_PER_SEC)
#define HOOK_TIMEOUT ((guint64) 600 * G_USEC_PER_SEC)

/* A row's function: NULL, or what it expected. */
typedef const char *(*SetFunc) (NightJob *job, const char *value);

static GStrv split_words (const char *value)
{
    g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
    g_auto (GStrv) words = g_strsplit_set (value, ", \t", -1);
    for (guint i = 0; words[i]; i++)
        if (*words[i])
            g_strv_builder_add (builder, words[i]);
    return g_strv_builder_end (builder);
}

/* "a b, c d": its parts at the commas, without blanks around them. */
static GStrv split_parts (const char *value)
{
    GStrv parts = g_strsplit (value, ",", -1);
    for (guint i = 0; parts[i]; i++)
        g_strstrip (parts[i]);
    return parts;
}

static const char *set_patterns (GStrv *place, const char *value)
{
    *place = split_words (value);
    return **place ? NULL : _("patterns of names, as '*' or 'web-* db'");
}

static const char *set_guests (NightJob *job, const char *value)
{
    return set_patterns (&job->guests, value);
}

static const char *set_exclude (NightJob *job, const char *value)
{
    return set_patterns (&job->exclude, value);
}

static const char *set_uri (NightJob *job, const char *value)
{
    job->uris = split_words (value);
    return *job->uris ? NULL : _("a connection URI, as qemu:///system");
}

static const char *set_repository (NightJob *job, const char *value)
{
    job->repository = g_strdup (value);
    return g_path_is_absolute (value) || strstr (value, "://")
               ? NULL
               : _("the absolute path or the URL of a repository");
}

static const char *set_level (NightJob *job, const char *value)
{
    job->full = g_str_equal (value, "full");
    return job->full || g_str_equal (value, "auto") ? NULL : _("auto or full");
}

static const char *set_duration (guint64 *place, const char *value)
{
    return seconds_parse (value, place) ? NULL : _("a duration, as 90s, 30m, 26h or 14d");
}

static const char *set_full_every (NightJob *job, const char *value)
{
    return set_duration (&job->full_every, value);
}

static const char *set_timeout (NightJob *job, const char *value)
{
    return set_duration (&job->timeout, value);
}

/* One rule of keep: its word, and the field of BakPruneRules that its number goes to. */
static const struct {
    const char *word;
    gsize offset;
} keep_rules[] = {
    { "last", G_STRUCT_OFFSET (BakPruneRules, last) },
    { "hourly", G_STRUCT_OFFSET (BakPruneRules, hourly) },
    { "daily", G_STRUCT_OFFSET (BakPruneRules, daily) },
    { "weekly", G_STRUCT_OFFSET (BakPruneRules, weekly) },
    { "monthly", G_STRUCT_OFFSET (BakPruneRules, monthly) },
    { "yearly", G_STRUCT_OFFSET (BakPruneRules, yearly) },
};

static gboolean set_keep_rule (BakPruneRules *rules, const char *word, const char *number)
{
    guint64 value, within;
    if (g_str_equal (word, "within") && seconds_parse (number, &within)) {
        rules->within = within;
        return TRUE;
    }
    if (!g_ascii_string_to_unsigned (number, 10, 1, 100000, &value, NULL))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (keep_rules); i++)
        if (g_str_equal (word, keep_rules[i].word)) {
            G_STRUCT_MEMBER (unsigned int, rules, keep_rules[i].offset) = (unsigned int) value;
            return TRUE;
        }
    return FALSE;
}

static const char *set_keep (NightJob *job, const char *value)
{
    g_auto (GStrv) parts = split_parts (value);
    const char *expected =
        _("rules, as 'last 3, daily 7, weekly 4, monthly 6, within 14d', or 'all'");
    job->keep.size = sizeof job->keep;
    if (g_str_equal (value, "all"))
        return NULL;
    job->has_keep = TRUE;
    for (guint i = 0; parts[i]; i++) {
        g_auto (GStrv) words = split_words (parts[i]);
        if (g_strv_length (words) != 2 || !set_keep_rule (&job->keep, words[0], words[1]))
            return expected;
    }
    return NULL;
}

static const char *set_quiesce (NightJob *job, const char *value)
{
    static const struct {
        const char *word;
        BakQuiesce quiesce;
    } words[] = { { "if-agent", BAK_QUIESCE_AUTO },
                  { "auto", BAK_QUIESCE_AUTO },
                  { "yes", BAK_QUIESCE_YES },
                  { "no", BAK_QUIESCE_NO } };
    for (guint i = 0; i < G_N_ELEMENTS (words); i++)
        if (g_str_equal (value, words[i].word)) {
            job->quiesce = words[i].quiesce;
            return NULL;
        }
    return _("if-agent, yes or no");
}

static const char *set_parallel (NightJob *job, const char *value)
{
    return g_ascii_string_to_unsigned (value, 10, 1, 64, &job->parallel, NULL)
               ? NULL
               : _("a number from 1 to 64");
}

static const char *set_retry (NightJob *job, const char *value)
{
    return g_ascii_string_to_unsigned (value, 10, 0, 10, &job->retry, NULL)
               ? NULL
               : _("a number from 0 to 10");
}

static const char *set_limit (NightJob *job, const char *value)
{
    return size_parse (value, &job->limit) && job->limit ? NULL
                                                         : _("bytes a second, as 50M or 1GiB");
}

static const char *set_verify (NightJob *job, const char *value)
{
    g_auto (GStrv) parts = split_parts (value);
    const char *most = parts[0] && parts[1] ? parts[1] : "at most 1h";
    const char *expected = _("a duration and perhaps a budget, as '30d', '30d, at most 2h' or "
                              "'30d, at most 100G'");
    if (!parts[0] || !seconds_parse (parts[0], &job->verify) || (parts[1] && parts[2])
        || !g_str_has_prefix (most, "at most "))
        return expected;
    const char *budget = most + strlen ("at most ");
    /* m is minutes here; a size says M, or another unit */
    gboolean is_time = strpbrk (budget, "smhdw") && seconds_parse (budget, &job->verify_time);
    return is_time || size_parse (budget, &job->verify_bytes) ? NULL : expected;
}

/* The parts behind the first. */
static gboolean set_drill_part (NightDrill *drill, const char *part)
{
    guint64 *duration = NULL;
    const char *rest = strchr (part, ' ');
    g_autofree char *word = rest ? g_strndup (part, rest - part) : g_strdup (part);
    while (rest && *rest == ' ')
        rest++;
    if (g_str_equal (word, "agent") && !rest)
        drill->proof = DRILL_AGENT;
    else if (g_str_equal (word, "console") && rest)
        drill->proof = DRILL_CONSOLE;
    else if (g_str_equal (word, "time") && rest)
        drill->proof = DRILL_TIME;
    else if (g_str_equal (word, "memory") && rest)
        return size_parse (rest, &drill->memory);
    else if (g_str_equal (word, "qemu") && rest && g_path_is_absolute (rest))
        drill->program = g_strdup (rest);
    else if (!g_str_has_prefix (part, "at most "))
        return FALSE;
    if (drill->proof == DRILL_CONSOLE && g_str_equal (word, "console"))
        drill->text = g_strdup (rest);
    if (g_str_equal (word, "time"))
        duration = &drill->timeout;
    if (g_str_equal (word, "at")) {
        duration = &drill->timeout;
        rest = part + strlen ("at most ");
    }
    return !duration || seconds_parse (rest, duration);
}

static const char *set_drill (NightJob *job, const char *value)
{
    static const struct {
        const char *word, *duration;
    } words[] = { { "daily", "20h" }, { "weekly", "156h" }, { "monthly", "30d" } };
    g_auto (GStrv) parts = split_parts (value);
    const char *every = parts[0] ? parts[0] : "";
    gboolean good;
    for (guint i = 0; i < G_N_ELEMENTS (words); i++)
        if (g_str_equal (every, words[i].word))
            every = words[i].duration;
    job->drill.timeout = DRILL_TIMEOUT;
    good = seconds_parse (every, &job->drill.every);
    for (guint i = 1; good && parts[i]; i++)
        good = set_drill_part (&job->drill, parts[i]);
    return good ? NULL
                : _("how often, and perhaps what is waited for, as 'weekly', '7d, at most 10m, "
                     "agent', 'weekly, console login:' or 'monthly, time 2m'; further 'memory "
                     "SIZE' and 'qemu PATH'");
}

/* "PATH" or "PATH, at most DURATION". */
static const char *set_hook (NightJob *job, const char *value)
{
    const char *most = strstr (value, ", at most ");
    job->hook_timeout = HOOK_TIMEOUT;
    job->hook = most ? g_strndup (value, most - value) : g_strdup (value);
    g_strstrip (job->hook);
    if (!g_path_is_absolute (job->hook)
        || (most && !seconds_parse (most + strlen (", at most "), &job->hook_timeout)))
        return _("the absolute path of a program or of a folder of programs, and perhaps "
                  "', at most 5m'");
    return g_file_test (job->hook, G_FILE_TEST_EXISTS)
               ? NULL
               : _("there: the path of a program or of a folder of programs is expected");
}

static const char *set_metrics (NightJob *job, const char *value)
{
    job->metrics = g_strdup (value);
    return g_path_is_absolute (value) ? NULL : _("an absolute path");
}

static const char *set_report (NightJob *job, const char *value)
{
    g_auto (GStrv) words = NULL;
    const char *expected = _("'mail ADDRESS' or 'command PROGRAM [ARGUMENT]…'");
    if (!g_shell_parse_argv (value, NULL, &words, NULL) || !words[1])
        return expected;
    if (g_str_equal (words[0], "mail") && !words[2] && words[1][0] != '-'
        && !strpbrk (words[1], "\r\n"))
        job->mail = g_strdup (words[1]);
    else if (g_str_equal (words[0], "command"))
        job->report = g_strdupv (words + 1);
    else
        return expected;
    return NULL;
}

static const struct {
    const char *name;
    SetFunc set;
} keys[] = {
    { "guests", set_guests },     { "exclude", set_exclude },
    { "uri", set_uri },           { "repository", set_repository },
    { "level", set_level },       { "full_every", set_full_every },
    { "keep", set_keep },         { "quiesce", set_quiesce },
    { "parallel", set_parallel }, { "limit", set_limit },
    { "timeout", set_timeout },   { "retry", set_retry },
    { "verify", set_verify },     { "drill", set_drill },
    { "hook", set_hook },         { "metrics", set_metrics },
    { "report", set_report },
};

static gboolean unknown_key (const char *path, int line, const char *key)
{
    const char *names[G_N_ELEMENTS (keys) + 1] = { NULL };
    for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
        names[i] = keys[i].name;
    const char *near = nearest (key, names);
    g_autofree char *all = g_strjoinv (", ", (char **) names);
    if (near)
        usage (_("%s:%d: unknown key '%s'; did you mean '%s'? There are: %s"), path, line, key,
               near, all);
    else
        usage (_("%s:%d: unknown key '%s'; there are: %s"), path, line, key, all);
    return FALSE;
}

/* seen: a bit for each row. */
static gboolean set_pair (NightJob *job, JsonObject *pair, guint64 *seen)
{
    const char *key = json_object_get_string_member (pair, "key");
    const char *value = json_object_get_string_member (pair, "value");
    int line = (int) json_object_get_int_member (pair, "line");
    for (guint i = 0; i < G_N_ELEMENTS (keys); i++) {
        if (!g_str_equal (key, keys[i].name))
            continue;
        if (*seen & (1ull << i)) {
            usage (_("%s:%d: '%s' was set already"), job->path, line, key);
            return FALSE;
        }
        *seen |= 1ull << i;
        const char *expected = keys[i].set (job, value);
        if (expected)
            usage (_("%s:%d: %s: '%s' is not %s"), job->path, line, key, value, expected);
        return !expected;
    }
    return unknown_key (job->path, line, key);
}

static gboolean set_pairs (NightJob *job, const char *document)
{
    g_autoptr (JsonParser) parser = json_parser_new ();
    guint64 seen = 0;
    if (!json_parser_load_from_data (parser, document, -1, NULL))
        return FALSE;
    JsonArray *pairs = json_object_get_array_member (
        json_node_get_object (json_parser_get_root (parser)), "pairs");
    for (guint i = 0; i < json_array_get_length (pairs); i++)
        if (!set_pair (job, json_array_get_object_element (pairs, i), &seen))
            return FALSE;
    if (job->guests)
        return TRUE;
    usage (_("%s: 'guests' is missing: say which guests the job is for, as 'guests = *'"),
           job->path);
    return FALSE;
}

static NightJob *read_job (const char *name, const char *path)
{
    BakError *error = NULL;
    g_autoptr (NightJob) job = g_new0 (NightJob, 1);
    job->name = g_strdup (name);
    job->path = g_strdup (path);
    job->parallel = 1;
    char *document = bak_configuration_read (path, &error);
    if (!document) {
        fail (error);
        return NULL;
    }
    gboolean good = set_pairs (job, document);
    bak_free (document);
    return good ? g_steal_pointer (&job) : NULL;
}

/* files */

/* Where jobs lie; the user's own win. */
static GStrv job_dirs (void)
{
    g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
    g_autofree char *user =
        g_build_filename (g_get_user_config_dir (), "libbackup", "jobs.d", NULL);
    g_strv_builder_add_many (builder, user, SYSCONF_DIR "/jobs.d", NULL);
    return g_strv_builder_end (builder);
}

gboolean night_job_is_name (const char *name)
{
    enum { LONGEST = 100 };
    gsize length = strlen (name);
    return length > 0 && length <= LONGEST && *name != '.' && *name != '-'
           && strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
                  == length;
}

static int compare_texts (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

GPtrArray *night_job_names (void)
{
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
    g_auto (GStrv) dirs = job_dirs ();
    for (guint i = 0; dirs[i]; i++) {
        g_autoptr (GDir) dir = g_dir_open (dirs[i], 0, NULL);
        const char *file;
        while (dir && (file = g_dir_read_name (dir))) {
            g_autofree char *name = g_str_has_suffix (file, ".conf")
                                        ? g_strndup (file, strlen (file) - strlen (".conf"))
                                        : g_strdup ("");
            if (night_job_is_name (name)
                && !g_ptr_array_find_with_equal_func (names, name, g_str_equal, NULL))
                g_ptr_array_add (names, g_steal_pointer (&name));
        }
    }
    g_ptr_array_sort (names, compare_texts);
    return names;
}

/* Of a job by its name; NULL: there is none. Caller frees. */
static char *find_job (const char *name)
{
    g_auto (GStrv) dirs = job_dirs ();
    for (guint i = 0; night_job_is_name (name) && dirs[i]; i++) {
        g_autofree char *file = g_strconcat (name, ".conf", NULL);
        g_autofree char *path = g_build_filename (dirs[i], file, NULL);
        if (g_file_test (path, G_FILE_TEST_EXISTS))
            return g_steal_pointer (&path);
    }
    return NULL;
}

static NightJob *job_by_path (const char *path)
{
    g_autofree char *base = g_path_get_basename (path);
    g_autofree char *absolute = g_canonicalize_filename (path, NULL);
    if (g_str_has_suffix (base, ".conf"))
        base[strlen (base) - strlen (".conf")] = '\0';
    if (night_job_is_name (base))
        return read_job (base, absolute);
    usage (_("'%s' is no name of a job: letters, digits, '_', '-' and '.' make one"), base);
    return NULL;
}

static NightJob *job_by_name (const char *name)
{
    if (strchr (name, '/'))
        return job_by_path (name);
    g_autofree char *path = find_job (name);
    if (path)
        return read_job (name, path);
    g_autoptr (GPtrArray) names = night_job_names ();
    g_ptr_array_add (names, NULL);
    g_autofree char *all = g_strjoinv (", ", (char **) names->pdata);
    g_auto (GStrv) dirs = job_dirs ();
    if (*all)
        usage (_("there is no job '%s'; there are: %s"), name, all);
    else
        usage (_("there is no job '%s': no file NAME.conf in %s or %s"), name, dirs[0], dirs[1]);
    return NULL;
}

GPtrArray *night_jobs (const char *const *names)
{
    g_autoptr (GPtrArray) all = NULL;
    g_autoptr (GPtrArray) jobs = g_ptr_array_new_with_free_func ((GDestroyNotify) night_job_free);
    gboolean good = TRUE;
    if (!*names) {
        all = night_job_names ();
        g_ptr_array_add (all, NULL);
        names = (const char *const *) all->pdata;
    }
    for (guint i = 0; names[i]; i++) {
        NightJob *job = job_by_name (names[i]);
        if (job)
            g_ptr_array_add (jobs, job);
        good &= job != NULL;
    }
    if (good && !jobs->len) {
        g_auto (GStrv) dirs = job_dirs ();
        usage (_("there is no job: a job is a file NAME.conf in %s or %s"), dirs[0], dirs[1]);
    }
    return good && jobs->len ? g_steal_pointer (&jobs) : NULL;
}

void night_job_free (NightJob *job)
{
    if (!job)
        return;
    g_free (job->name);
    g_free (job->path);
    g_strfreev (job->guests);
    g_strfreev (job->exclude);
    g_strfreev (job->uris);
    g_free (job->repository);
    g_free (job->drill.text);
    g_free (job->drill.program);
    g_free (job->hook);
    g_free (job->metrics);
    g_free (job->mail);
    g_strfreev (job->report);
    g_free (job);
}

static const char *matching (char **patterns, const char *name, const char *uuid)
{
    for (guint i = 0; patterns && patterns[i]; i++)
        if (fnmatch (patterns[i], name, 0) == 0 || g_ascii_strcasecmp (patterns[i], uuid) == 0)
            return patterns[i];
    return NULL;
}

gboolean night_job_wants (const NightJob *job, const char *name, const char *uuid,
                          const char **ret_why)
{
    const char *taken = matching (job->guests, name, uuid);
    const char *left_out = matching (job->exclude, name, uuid);
    *ret_why = taken && left_out ? left_out : taken;
    return taken && !left_out;
}

char *night_job_dir (const char *name)
{
    char *state = bak_configuration_state_dir ();
    char *path = g_build_filename (state, "night", name, NULL);
    bak_free (state);
    return path;
}
