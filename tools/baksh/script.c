/* Scripts: commands separated by ; or newlines, words by blanks; '…', "…", \ quote, # at the start
 * of a word comments. */
#include <string.h>
#include "baksh.h"

typedef struct {
    GPtrArray *commands, *words;
    GString *word; /* NULL: between words */
} Splitter;

static void end_word (Splitter *s)
{
    if (s->word)
        g_ptr_array_add (s->words, g_string_free (g_steal_pointer (&s->word), FALSE));
}

static void end_command (Splitter *s)
{
    end_word (s);
    if (!s->words->len)
        return;
    g_ptr_array_add (s->words, NULL);
    g_ptr_array_add (s->commands, g_ptr_array_free (s->words, FALSE));
    s->words = g_ptr_array_new_with_free_func (g_free);
}

static void add (Splitter *s, const char *text, gssize length)
{
    if (!s->word)
        s->word = g_string_new (NULL);
    g_string_append_len (s->word, text, length);
}

/* From an opening quote to behind the closing one; NULL: there is none. */
static const char *take_quoted (Splitter *s, const char *p)
{
    char quote = *p++;
    add (s, "", 0);
    for (; *p && *p != quote; p++) {
        if (quote == '"' && *p == '\\' && p[1])
            p++;
        add (s, p, 1);
    }
    return *p ? p + 1 : NULL;
}

GPtrArray *script_split (const char *text, const char **ret_error)
{
    Splitter s = { g_ptr_array_new_with_free_func ((GDestroyNotify) g_strfreev),
                   g_ptr_array_new_with_free_func (g_free), NULL };
    *ret_error = NULL;
    for (const char *p = text; *p && !*ret_error;) {
        if (*p == '\'' || *p == '"') {
            p = take_quoted (&s, p);
            if (!p) {
                *ret_error = _("missing closing quote");
                break;
            }
        } else if (*p == '\\') {
            if (!p[1])
                *ret_error = _("dangling \\");
            else if (p[1] != '\n')
                add (&s, p + 1, 1);
            p += p[1] ? 2 : 1;
        } else if (*p == '#' && !s.word) {
            p += strcspn (p, "\n");
        } else if (*p == ';' || *p == '\n') {
            end_command (&s);
            p++;
        } else if (g_ascii_isspace (*p)) {
            end_word (&s);
            p++;
        } else {
            add (&s, p++, 1);
        }
    }
    end_command (&s);
    g_ptr_array_unref (s.words);
    if (*ret_error)
        g_clear_pointer (&s.commands, g_ptr_array_unref);
    return s.commands;
}

int script_run (Shell *shell, const char *text)
{
    const char *why;
    g_autoptr (GPtrArray) list = script_split (text, &why);
    if (!list)
        return usage ("%s", why);
    int first_failure = STATUS_DONE;
    for (guint i = 0; i < list->len && !shell->quit; i++) {
        int status = command_run (shell, list->pdata[i]);
        if (first_failure == STATUS_DONE)
            first_failure = status;
        if (status == STATUS_INTERRUPTED)
            break;
    }
    return first_failure;
}
