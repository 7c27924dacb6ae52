/* The owned strings of a struct, by offset: freed and copied in one place, so that none is
 * forgotten. Private to conf. */
#pragma once
#include <glib.h>

static inline void strings_free (gpointer object, const gsize *offsets, gsize count)
{
    for (gsize i = 0; i < count; i++)
        g_free (G_STRUCT_MEMBER (char *, object, offsets[i]));
}

/* copy holds the pointers of the original; they become its own. */
static inline void strings_dup (gpointer copy, const gsize *offsets, gsize count)
{
    for (gsize i = 0; i < count; i++)
        G_STRUCT_MEMBER (char *, copy, offsets[i]) =
            g_strdup (G_STRUCT_MEMBER (char *, copy, offsets[i]));
}
