#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/helper-link.h"

enum { INODE_COLUMN = 9 };

/* The inodes of all TCP sockets that the process could have, as "socket:[N]". */
static void read_table (pid_t pid, const char *table, GHashTable *inodes)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/net/%s", (int) pid, table), *text = NULL;

    if (!g_file_get_contents (path, &text, NULL, NULL))
        return;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        guint column = 0;
        g_auto (GStrv) words = g_strsplit_set (lines[i], " ", -1);
        for (guint w = 0; words[w]; w++)
            if (*words[w] && column++ == INODE_COLUMN)
                g_hash_table_add (inodes, g_strdup_printf ("socket:[%s]", words[w]));
    }
}

static int by_text (gconstpointer a, gconstpointer b)
{
    return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* A socket's number is its own as long as it is open. NULL: the process is gone. */
static char *look (pid_t pid, GError **error)
{
    g_autofree char *folder = g_strdup_printf ("/proc/%d/fd", (int) pid);
    g_autoptr (GHashTable) tcp = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GPtrArray) found = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GDir) dir = g_dir_open (folder, 0, error);
    const char *name;

    if (!dir)
        return NULL;
    read_table (pid, "tcp", tcp);
    read_table (pid, "tcp6", tcp);
    while ((name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (folder, name, NULL);
        char *link = g_file_read_link (path, NULL);
        if (link && g_hash_table_contains (tcp, link))
            g_ptr_array_add (found, link);
        else
            g_free (link);
    }
    g_ptr_array_sort (found, by_text);
    g_ptr_array_add (found, NULL);
    return g_strjoinv (" ", (char **) found->pdata);
}

gboolean helper_link_note (pid_t pid, const char *file, GError **error)
{
    g_autofree char *now = look (pid, error);

    if (!now)
        return FALSE;
    if (!*now)
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("its connection to the server cannot be seen"));
    return g_file_set_contents_full (file, now, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
}

gboolean helper_link_same (pid_t pid, const char *file, GError **error)
{
    g_autofree char *then = NULL, *now = look (pid, error);

    if (!now || !g_file_get_contents (file, &then, NULL, error))
        return FALSE;
    return g_str_equal (then, now)
           || error_set (error, BAK_ERROR_IO,
                         _("the connection to the server was lost and made anew: what the server "
                            "had not written yet may be gone"));
}
