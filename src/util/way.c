#include <sys/stat.h>
#include <unistd.h>
#include "util/way.h"

enum { LINKS_MAX = 40 };

static gboolean is_trusted (uid_t uid, gint64 also)
{
    return uid == 0 || uid == geteuid () || (gint64) uid == also;
}

/* Can somebody else exchange this entry of the directory? In a sticky one only its owner can. */
static gboolean is_loose (const struct stat *dir, const struct stat *entry, gint64 also)
{
    const gboolean group = dir->st_gid != 0 && dir->st_gid != getegid ();
    const gboolean shared = (dir->st_mode & S_IWOTH) || ((dir->st_mode & S_IWGRP) && group);

    if (!is_trusted (dir->st_uid, also))
        return TRUE;
    return shared && (!(dir->st_mode & S_ISVTX) || (entry && !is_trusted (entry->st_uid, also)));
}

static char *look (const char *path, gint64 also, guint links)
{
    g_autofree char *plain = g_canonicalize_filename (path, "/"),
                    *above = g_path_get_dirname (plain);
    struct stat dir, entry;

    if (g_str_equal (plain, "/"))
        return NULL;
    char *found = look (above, also, links);
    if (found)
        return found;
    gboolean there = lstat (plain, &entry) == 0;
    if (stat (above, &dir) == 0 && is_loose (&dir, there ? &entry : NULL, also))
        return g_steal_pointer (&above);
    if (!there || !S_ISLNK (entry.st_mode) || links >= LINKS_MAX)
        return NULL;
    g_autofree char *leads = g_file_read_link (plain, NULL);
    g_autofree char *target = leads ? g_canonicalize_filename (leads, above) : NULL;
    return target ? look (target, also, links + 1) : NULL;
}

char *way_others_change (const char *path, gint64 also)
{
    return look (path, also, 0);
}
