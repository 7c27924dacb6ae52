/* repository-check: is what stands in a repository sound, and what lies about in it? */
#pragma once
#include <libbackup/repository.h>
#include "repository/repository.h"

/* FALSE only when checking itself failed; what is found is told by options->func. */
gboolean check_repository (Repository *repository, const BakRepositoryCheckOptions *options,
                           guint *ret_damaged, GError **error);
