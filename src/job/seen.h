/* What steps of a run have made or looked at before somebody else opens it by its name: what was
 * opened is compared with it before a byte is written. Of this process alone, not of the journal.
 */
#pragma once
#include <sys/stat.h>
#include "job/run.h"

void run_note_seen (Run *run, const char *path, const struct stat *st);
/* NULL: not by this process */
const struct stat *run_seen (const Run *run, const char *path);
