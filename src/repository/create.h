/* point-create: from a guest to a published point. What happens in which order is told in
 * create.c. */
#pragma once
#include "repository/repository.h"

Point *create_point (Repository *repository, BakDomain *domain,
                     const BakPointCreateOptions *options, GError **error);
/* What it would do: JSON, caller frees. */
char *create_plan (Repository *repository, BakDomain *domain, const BakPointCreateOptions *options,
                   GError **error);
