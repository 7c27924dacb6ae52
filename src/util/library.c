#include <gmodule.h>
#include <glib/gi18n-lib.h>
#include "util/error.h"
#include "util/library.h"

gboolean library_load (Library *library, GError **error)
{
    static GMutex lock;

    g_mutex_lock (&lock);
    GModule *module =
        library->loaded ? NULL
                        : g_module_open (library->soname, G_MODULE_BIND_LAZY | G_MODULE_BIND_LOCAL);
    gboolean ok = library->loaded || module;
    for (guint i = 0; module && ok && i < library->count; i++)
        ok = g_module_symbol (module, library->symbols[i].name, library->symbols[i].where);
    if (!ok)
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("library %s: %s"), library->soname,
                   g_module_error ());
    library->loaded = ok;
    g_mutex_unlock (&lock);
    return ok;
}
