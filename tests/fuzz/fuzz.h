/* What every fuzzer has in common. A target is one file with fuzz_one(); it is linked twice: with
 * libFuzzer when the build has -Dfuzz=true, and always with replay.c, which runs the corpus as a
 * unit test. */
#pragma once
#include <glib.h>
#include <stdint.h>
#include <string.h>

void fuzz_one (const guint8 *bytes, gsize length);

/* What must hold for any input; unlike g_assert it says where without GLib's formatting, and is
 * never compiled out. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            g_error ("%s:%d: does not hold: %s", __FILE__, __LINE__, #condition);                  \
    } while (0)

/* The bytes as a C string; caller frees. Cut at the first NUL, as the callers of these functions
 * would. */
static inline char *fuzz_text (const guint8 *bytes, gsize length)
{
    return g_strndup ((const char *) bytes, length);
}

/* A failure has an error with a text, a success has none. */
static inline void fuzz_error_check (gboolean ok, const GError *error)
{
    MUST (ok == (error == NULL));
    MUST (ok || (error->message && *error->message));
    MUST (ok || g_utf8_validate (error->message, -1, NULL));
}
