/* Who is at the other end, and what he may do. Pure but for the reading of the policy file.
 *
 * A line of the policy file: IDENTITY GUEST VERB[,VERB]...
 *   IDENTITY   user:NAME  group:NAME  tls:SUBJECT, with * and ? as wildcards
 *   GUEST      a pattern of the same kind
 *   VERB       see  backup  restore  manage  all
 * or IDENTITY into DIRECTORY: what his backups are written to lies there.
 * Root, the daemon's own user and a peer that the daemon's starter vouches for (--stdio) may do
 * everything. Local users that the socket's mode let in may do everything too, unless the file has
 * a line for local identities: then only what such lines grant. TLS identities: only what lines
 * grant. */
#pragma once
#include <sys/types.h>
#include "driver/driver.h"
#include "util/caller.h"

typedef enum { IDENTITY_TRUSTED, IDENTITY_LOCAL, IDENTITY_TLS } IdentityKind;

typedef struct {
    IdentityKind kind;
    uid_t uid;
    gid_t gid;
    pid_t pid; /* of the process that connected */
    /* and when it began, in clock ticks since boot: pid alone may be another's later; 0: unknown */
    guint64 start_time;
    char *name;        /* user's name, or subject of the certificate */
    GPtrArray *groups; /* names; NULL unless LOCAL */
    GArray *gids;      /* gid_t, of the same groups */
    char *address;     /* where from: "unix", "192.0.2.1:4711" */
} Identity;

Identity *identity_new_trusted (const char *address);
/* By SO_PEERCRED. */
Identity *identity_from_socket (int fd, GError **error);
Identity *identity_new_tls (const char *subject, const char *address);
gboolean identity_in_group (const Identity *identity, const char *group);
void identity_free (Identity *identity);

typedef struct _Policy Policy;
/* text NULL or path NULL: no rules. Errors name file and line. */
Policy *policy_parse (const char *text, const char *name, GError **error);
Policy *policy_load (const char *path, GError **error);
Policy *policy_ref (Policy *policy);
void policy_unref (Policy *policy);
gboolean policy_allows (const Policy *policy, const Identity *identity, const char *guest,
                        CallVerb verb);
/* Where this identity may have the daemon write, and whom it acts for; NULL: everywhere. */
Caller *policy_caller (const Policy *policy, const Identity *identity);
/* Does any line grant this identity anything? (A TLS peer that has none is turned away at once.) */
gboolean policy_knows (const Policy *policy, const Identity *identity);
const char *verb_to_string (CallVerb verb);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Identity, identity_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Policy, policy_unref)
