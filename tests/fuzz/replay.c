/* Runs files, or all files of folders, through a fuzz target once: what was found once stays found.
 */
#include <stdio.h>
#include "fuzz.h"

static guint replay_file (const char *path)
{
    g_autofree char *data = NULL;
    gsize length;
    g_autoptr (GError) error = NULL;

    if (!g_file_get_contents (path, &data, &length, &error))
        g_error ("%s", error->message);
    g_print ("%s\n", path);
    fuzz_one ((const guint8 *) data, length);
    return 1;
}

static guint replay (const char *path)
{
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    guint n = 0;

    if (!dir)
        return replay_file (path);
    for (const char *name; (name = g_dir_read_name (dir));) {
        g_autofree char *file = g_build_filename (path, name, NULL);
        n += replay_file (file);
    }
    return n;
}

int main (int argc, char **argv)
{
    guint n = 0;

    g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
    for (int i = 1; i < argc; i++)
        n += replay (argv[i]);
    if (n == 0) {
        fprintf (stderr, "no input\n");
        return 1;
    }
    return 0;
}
