#include "job/seen.h"

void run_note_seen (Run *run, const char *path, const struct stat *st)
{
    if (run->seen)
        g_hash_table_replace (run->seen, g_strdup (path), g_memdup2 (st, sizeof *st));
}

const struct stat *run_seen (const Run *run, const char *path)
{
    return run->seen ? g_hash_table_lookup (run->seen, path) : NULL;
}
