/* Libraries that few runs need are loaded when one does: until then nothing of them is in memory. */
#pragma once
#include <glib.h>

typedef struct {
    const char *name;
    gpointer *where;            /* of the pointer that gets its address */
} LibrarySymbol;

typedef struct {
    const char *soname;
    const LibrarySymbol *symbols;
    guint count;
    gboolean loaded;
} Library;

/* Any thread. FALSE with NOT_SUPPORTED when it, or a symbol of it, is not there. */
gboolean library_load (Library *library, GError **error);
