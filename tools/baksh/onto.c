/* The previous backup of a disk, where only its directory was named. The record of the backup that
 * made the checkpoint says what it wrote; files that were moved since, or whose record is gone, are
 * called as --target DIR/ calls them. */
#include <string.h>
#include "baksh.h"

/* TARGET.FORMAT, with a format that an image has by its name. */
static gboolean is_of_disk (const char *file, const char *target)
{
    static const char *const formats[] = { "qcow2", "raw", "vhdx",      "vmdk", "vdi",
                                           "vpc",   "qed", "parallels", "luks", NULL };
    gsize length = strlen (target);
    return strncmp (file, target, length) == 0 && file[length] == '.'
           && g_strv_contains (formats, file + length + 1);
}

static gboolean is_in (const char *path, const char *directory)
{
    g_autofree char *there = g_path_get_dirname (path);
    g_autofree char *one = g_canonicalize_filename (there, "/"),
                    *other = g_canonicalize_filename (directory, "/");
    return g_str_equal (one, other);
}

static int compare_names (gconstpointer one, gconstpointer other)
{
    return strcmp (*(const char *const *) one, *(const char *const *) other);
}

/* Names of the files there that are of this disk, in order; none where it cannot be read. */
static GPtrArray *candidates (const char *directory, const char *target)
{
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GDir) open = g_dir_open (directory, 0, NULL);
    const char *name;
    while (open && (name = g_dir_read_name (open)))
        if (is_of_disk (name, target))
            g_ptr_array_add (names, g_strdup (name));
    g_ptr_array_sort (names, compare_names);
    return names;
}

char *onto_find (const char *directory, const char *target, const char *recorded, gboolean here,
                 int *ret_status)
{
    if (recorded && is_in (recorded, directory))
        return g_strdup (recorded);
    g_autoptr (GPtrArray) names =
        here ? candidates (directory, target) : g_ptr_array_new_with_free_func (g_free);
    if (names->len < 2)
        return g_strdup_printf ("%s%s%s", directory, names->len ? (char *) names->pdata[0] : target,
                                names->len ? "" : ".qcow2");
    g_ptr_array_add (names, NULL);
    g_autofree char *all = g_strjoinv (", ", (char **) names->pdata);
    *ret_status = usage (_("option --onto: the previous backup of disk '%s' could be any of %s in "
                            "'%s'; say which: --onto %s=FILE"),
                         target, all, directory, target);
    return NULL;
}
