#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "remote/access.h"
#include "util/files.h"
#include "util/process.h"

typedef enum { RULE_USER, RULE_GROUP, RULE_TLS, RULE_KINDS } RuleKind;
static const char *const rule_prefixes[RULE_KINDS] = { "user:", "group:", "tls:" };
static const struct {
    const char *name;
    guint verbs;
} verb_names[] = {
    { "see", 1 << VERB_SEE },
    { "backup", 1 << VERB_BACKUP },
    { "restore", 1 << VERB_RESTORE },
    { "manage", 1 << VERB_MANAGE },
    { "all", ~0u },
};

typedef struct {
    RuleKind kind;
    GPatternSpec *who, *guest;
    guint verbs; /* bits 1 << CallVerb */
    char *dir;   /* absolute; of a rule that names a directory, and has no guest and no verbs */
} Rule;

struct _Policy {
    gatomicrefcount refs;
    GPtrArray *rules;     /* Rule*: what may be done; Rule* with dir: where */
    gboolean local_rules; /* there is a line for users or groups */
};

static void rule_free (Rule *rule)
{
    g_clear_pointer (&rule->who, g_pattern_spec_free);
    g_clear_pointer (&rule->guest, g_pattern_spec_free);
    g_free (rule->dir);
    g_free (rule);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Rule, rule_free)

const char *verb_to_string (CallVerb verb)
{
    for (guint i = 0; i < G_N_ELEMENTS (verb_names); i++)
        if (verb_names[i].verbs == 1u << verb)
            return verb_names[i].name;
    return "connect";
}

/* "see" is part of every other verb: who may back a guest up may look at it. */
static gboolean parse_verbs (const char *text, guint *ret_verbs)
{
    g_auto (GStrv) words = g_strsplit (text, ",", -1);
    *ret_verbs = 1 << VERB_SEE;
    for (guint i = 0; words[i]; i++) {
        guint k = 0;
        while (k < G_N_ELEMENTS (verb_names) && !g_str_equal (verb_names[k].name, words[i]))
            k++;
        if (k == G_N_ELEMENTS (verb_names))
            return FALSE;
        *ret_verbs |= verb_names[k].verbs;
    }
    return words[0] != NULL;
}

static gboolean parse_subject (Rule *rule, const char *line)
{
    while (rule->kind < RULE_KINDS && !g_str_has_prefix (line, rule_prefixes[rule->kind]))
        rule->kind++;
    if (rule->kind == RULE_KINDS || line[strlen (rule_prefixes[rule->kind])] == '\0')
        return FALSE;
    rule->who = g_pattern_spec_new (line + strlen (rule_prefixes[rule->kind]));
    return TRUE;
}

/* A subject may hold blanks ("CN=ops,O=Example Ltd"), so the line is cut from its end; and so may
 * a directory, which begins behind the last "into /". */
static Rule *parse_rule (char *line)
{
    static const char mark[] = " into /";
    g_autoptr (Rule) rule = g_new0 (Rule, 1);
    char *into = g_strrstr (line, mark), *verbs = strrchr (line, ' ');
    if (into) {
        *into = '\0';
        rule->dir = g_canonicalize_filename (into + strlen (mark) - 1, "/");
        return parse_subject (rule, g_strchomp (line)) ? g_steal_pointer (&rule) : NULL;
    }
    if (!verbs)
        return NULL;
    *verbs++ = '\0';
    char *guest = strrchr (g_strchomp (line), ' ');
    if (!guest || !parse_verbs (verbs, &rule->verbs))
        return NULL;
    *guest++ = '\0';
    if (!parse_subject (rule, g_strchomp (line)))
        return NULL;
    rule->guest = g_pattern_spec_new (guest);
    return g_steal_pointer (&rule);
}

Policy *policy_parse (const char *text, const char *name, GError **error)
{
    g_autoptr (Policy) policy = g_new0 (Policy, 1);
    g_atomic_ref_count_init (&policy->refs);
    policy->rules = g_ptr_array_new_with_free_func ((GDestroyNotify) rule_free);
    g_auto (GStrv) lines = g_strsplit (text ? text : "", "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        g_strdelimit (g_strstrip (lines[i]), "\t", ' ');
        if (*lines[i] == '\0' || *lines[i] == '#')
            continue;
        Rule *rule = parse_rule (lines[i]);
        if (!rule) {
            error_set (
                error, BAK_ERROR_INVALID_ARGUMENT,
                _("%s:%u: expected 'user:NAME|group:NAME|tls:SUBJECT GUEST VERB[,VERB]' "
                   "or '… into DIRECTORY', with the verbs see, backup, restore, manage, all"),
                name, i + 1);
            return NULL;
        }
        policy->local_rules |= rule->kind != RULE_TLS && !rule->dir;
        g_ptr_array_add (policy->rules, rule);
    }
    return g_steal_pointer (&policy);
}

Policy *policy_load (const char *path, GError **error)
{
    g_autofree char *text = NULL;
    if (path && !files_read (path, 1024 * 1024, &text, NULL, error))
        return NULL;
    return policy_parse (text, path, error);
}

Policy *policy_ref (Policy *policy)
{
    g_atomic_ref_count_inc (&policy->refs);
    return policy;
}

void policy_unref (Policy *policy)
{
    if (!policy || !g_atomic_ref_count_dec (&policy->refs))
        return;
    g_ptr_array_unref (policy->rules);
    g_free (policy);
}

static gboolean rule_means (const Rule *rule, const Identity *identity)
{
    if (rule->kind == RULE_TLS)
        return identity->kind == IDENTITY_TLS
               && g_pattern_spec_match_string (rule->who, identity->name);
    if (identity->kind != IDENTITY_LOCAL)
        return FALSE;
    if (rule->kind == RULE_USER)
        return g_pattern_spec_match_string (rule->who, identity->name);
    for (guint i = 0; identity->groups && i < identity->groups->len; i++)
        if (g_pattern_spec_match_string (rule->who, identity->groups->pdata[i]))
            return TRUE;
    return FALSE;
}

static gboolean needs_no_rule (const Policy *policy, const Identity *identity)
{
    return identity->kind == IDENTITY_TRUSTED
           || (identity->kind == IDENTITY_LOCAL && !policy->local_rules);
}

gboolean policy_knows (const Policy *policy, const Identity *identity)
{
    if (needs_no_rule (policy, identity))
        return TRUE;
    for (guint i = 0; i < policy->rules->len; i++) {
        const Rule *rule = policy->rules->pdata[i];
        if (!rule->dir && rule_means (rule, identity))
            return TRUE;
    }
    return FALSE;
}

gboolean policy_allows (const Policy *policy, const Identity *identity, const char *guest,
                        CallVerb verb)
{
    if (verb == VERB_NONE || needs_no_rule (policy, identity))
        return TRUE;
    for (guint i = 0; i < policy->rules->len; i++) {
        const Rule *rule = policy->rules->pdata[i];
        if (!rule->dir && (rule->verbs & (1u << verb)) && rule_means (rule, identity)
            && g_pattern_spec_match_string (rule->guest, guest ? guest : ""))
            return TRUE;
    }
    return FALSE;
}

Caller *policy_caller (const Policy *policy, const Identity *identity)
{
    if (identity->kind == IDENTITY_TRUSTED)
        return NULL;
    g_autoptr (GPtrArray) dirs = g_ptr_array_new ();
    for (guint i = 0; i < policy->rules->len; i++) {
        const Rule *rule = policy->rules->pdata[i];
        if (rule->dir && rule_means (rule, identity))
            g_ptr_array_add (dirs, rule->dir);
    }
    return caller_new (identity->name, identity->kind == IDENTITY_LOCAL, identity->uid,
                       identity->gid, identity->gids, dirs);
}

Identity *identity_new_trusted (const char *address)
{
    Identity *identity = g_new0 (Identity, 1);
    identity->kind = IDENTITY_TRUSTED;
    identity->uid = geteuid ();
    identity->gid = getegid ();
    identity->name = g_strdup (g_get_user_name ());
    identity->address = g_strdup (address);
    return identity;
}

Identity *identity_new_tls (const char *subject, const char *address)
{
    Identity *identity = g_new0 (Identity, 1);
    identity->kind = IDENTITY_TLS;
    identity->uid = (uid_t) -1;
    identity->gid = (gid_t) -1;
    identity->name = g_strdup (subject);
    identity->address = g_strdup (address);
    return identity;
}

static void identity_add_groups (Identity *identity)
{
    gid_t gids[256];
    int count = G_N_ELEMENTS (gids);
    char buffer[4096];
    struct group group, *found;

    identity->groups = g_ptr_array_new_with_free_func (g_free);
    if (getgrouplist (identity->name, identity->gid, gids, &count) < 0)
        count = G_N_ELEMENTS (gids);
    identity->gids = g_array_new (FALSE, FALSE, sizeof (gid_t));
    g_array_append_vals (identity->gids, gids, count);
    for (int i = 0; i < count; i++)
        if (getgrgid_r (gids[i], &group, buffer, sizeof buffer, &found) == 0 && found)
            g_ptr_array_add (identity->groups, g_strdup (found->gr_name));
}

gboolean identity_in_group (const Identity *identity, const char *group)
{
    return identity->groups
           && g_ptr_array_find_with_equal_func (identity->groups, group, g_str_equal, NULL);
}

Identity *identity_from_socket (int fd, GError **error)
{
    struct ucred cred;
    socklen_t size = sizeof cred;
    char buffer[4096];
    struct passwd entry, *found = NULL;

    if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) {
        error_set_errno (error, errno, _("cannot tell who the peer is"));
        return NULL;
    }
    Identity *identity = g_new0 (Identity, 1);
    identity->kind = cred.uid == 0 || cred.uid == geteuid () ? IDENTITY_TRUSTED : IDENTITY_LOCAL;
    identity->uid = cred.uid;
    identity->gid = cred.gid;
    identity->pid = cred.pid;
    identity->address = g_strdup ("unix");
    getpwuid_r (cred.uid, &entry, buffer, sizeof buffer, &found);
    identity->name = found ? g_strdup (found->pw_name) : g_strdup_printf ("%u", (guint) cred.uid);
    if (identity->kind == IDENTITY_LOCAL) {
        identity_add_groups (identity);
        identity->start_time = process_start_time (cred.pid);
    }
    return identity;
}

void identity_free (Identity *identity)
{
    if (!identity)
        return;
    g_free (identity->name);
    g_free (identity->address);
    g_clear_pointer (&identity->groups, g_ptr_array_unref);
    g_clear_pointer (&identity->gids, g_array_unref);
    g_free (identity);
}
