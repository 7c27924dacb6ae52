/* Libraries that few runs need are loaded when one does: until then nothing of them is in memory.
 */
#pragma once
#include <glib.h>

typedef struct {
    const char *name;
    gpointer *where; /* of the pointer that gets its address */
} LibrarySymbol;

typedef struct {
    const char *soname;
    const LibrarySymbol *symbols;
    guint count;
    gboolean loaded;
} Library;

/* Says in the program's file which library it may load by name, for those who make packages and
 * images of it: a note of type 0x407c0c0a, owner FDO, as systemd's "ELF dlopen metadata" has it. */
#define LIBRARY_NOTE(variable, soname, feature, description)                                       \
    LIBRARY_NOTE_JSON (variable,                                                                   \
                       "[{\"soname\":[\"" soname "\"],\"feature\":\"" feature                      \
                       "\",\"description\":\"" description "\",\"priority\":\"recommended\"}]")
#define LIBRARY_NOTE_JSON(variable, json)                                                          \
    __attribute__ ((used, section (".note.dlopen"))) _Alignas(guint32) static const struct {       \
        guint32 name_size, size, type;                                                             \
        char name[4];                                                                              \
        _Alignas(guint32) char text[sizeof (json)];                                                \
    } variable = { 4, sizeof (json), 0x407c0c0a, "FDO", json }

/* Any thread. FALSE with NOT_SUPPORTED when it, or a symbol of it, is not there. */
gboolean library_load (Library *library, GError **error);
