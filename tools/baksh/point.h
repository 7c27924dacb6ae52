/* What the commands on repositories and points share. */
#pragma once
#include "baksh.h"

#define REPOSITORY_OPTION                                                                          \
    { "repository",                                                                                \
      OPTION_TEXT,                                                                                 \
      0,                                                                                           \
      "URL",                                                                                       \
      N_("the repository; default: LIBBACKUP_REPOSITORY, else the configuration's"),              \
      WANT_FILE },                                                                                 \
        KEY_OPTIONS
/* Of an encrypted repository. */
#define KEY_OPTIONS                                                                                \
    { "passphrase-file",                                                                           \
      OPTION_TEXT,                                                                                 \
      0,                                                                                           \
      "FILE",                                                                                      \
      N_("what opens the repository if it is encrypted: a file with a pass phrase"),              \
      WANT_FILE },                                                                                 \
        { "passphrase-fd", OPTION_NUMBER, 0, "FD", N_("the same from an open descriptor"),        \
          WANT_NOTHING },                                                                          \
    {                                                                                              \
        "key-file", OPTION_TEXT, 0, "FILE", N_("the same with a key file"), WANT_FILE             \
    }
#define POINT_OPTION                                                                               \
    {                                                                                              \
        "point", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "POINT",                        \
            N_("GUEST@latest, GUEST@2026-11-29, GUEST@2026-11-29T01:00:03Z, GUEST@ID, or an id"), \
            WANT_POINT                                                                             \
    }

/* Of --repository; NULL: the error has been printed. */
BakRepository *args_repository (const Args *args, int *ret_status);
/* What options with this prefix ("", "new-", "to-") name: *ret_key is NULL when none does; freed by
 * the caller. FALSE: more than one, which has been said. */
gboolean args_key (const Args *args, const char *prefix, char **ret_key,
                   BakRepositoryKeyKind *ret_kind);
/* By options with this prefix; FALSE: the error has been printed. */
gboolean args_unlock (const Args *args, const char *prefix, BakRepository *repository,
                      int *ret_status);
/* Of the option or positional word "point". */
BakPoint *args_point (const Args *args, BakRepository *repository, int *ret_status);
/* As fail(), for calls on points: a backup or a copy that ended badly is STATUS_BAD_BACKUP. */
int point_fail (BakError *error);
int point_status (BakErrorCode code); /* the same without the message */

JsonObject *point_to_json (const BakPoint *point);
JsonObject *repository_to_json (const BakRepository *repository);
/* Warnings of its making, each a line on standard error. */
void point_warn (const BakPoint *point);
guint64 point_sum (const BakPoint *point, unsigned long long (*get) (const BakPointDisk *disk));

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakRepository, bak_repository_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakPoint, bak_point_unref)
