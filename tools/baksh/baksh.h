/* The shell: what its files share.
 *
 * A command is a row at the end of its own file (Command), listed in commands.c. Rows are read by
 * the parser, the help, the completion and the tests of the man page; a command's function finds
 * its options parsed and its connection open. baksh uses the public API only. */
#pragma once
#include <glib.h>
#include <glib/gi18n.h>
#include <json-glib/json-glib.h>
#include <libbackup/libbackup.h>

/* Exit statuses, as the man page lists them. */
typedef enum {
    STATUS_DONE = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 2,
    STATUS_BAD_BACKUP = 3,
    STATUS_INEXACT = 4,
    STATUS_NO_CONNECTION = 5,
    STATUS_SOME_FAILED = 6,
    STATUS_INTERRUPTED = 130,
} Status;

typedef struct {
    char *uri; /* NULL: the default */
    gboolean readonly, quiet, interactive;
    gboolean bare; /* set by a command whose standard output is data: no text goes behind it */
    BakConnection *conn; /* NULL: not open yet */
    gboolean quit;       /* the session shall end */
} Shell;

/* Options */

typedef enum {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_NUMBER,  /* decimal, 0 and up */
    OPTION_SIZE,    /* bytes with a unit: 512, 64K, 10MiB */
    OPTION_SECONDS, /* a positive number of seconds, decimals allowed */
    OPTION_CHOICE,  /* one of the words of .argument, separated by | */
    OPTION_NAME,    /* what a checkpoint can be called */
} OptionKind;

typedef enum {
    OPTION_REPEATED = 1,
    OPTION_POSITIONAL = 2, /* may also be given without its name, in the order of the rows */
    OPTION_REQUIRED = 4,
} OptionFlags;

/* What completes a value. */
typedef enum {
    WANT_NOTHING,
    WANT_DOMAIN,
    WANT_DISK,
    WANT_CHECKPOINT,
    WANT_JOB,
    WANT_POINT,
    WANT_FILE,
    WANT_NIGHT, /* a job of the night */
    WANT_EVENT,
    WANT_COMMAND
} Want;

typedef struct {
    const char *name;
    OptionKind kind;
    guint flags;          /* OptionFlags */
    const char *argument; /* what the help shows for the value; the words of a CHOICE */
    const char *help;
    Want want;
} Option;

typedef enum { RULE_EXCLUSIVE = 1, RULE_REQUIRES } RuleKind;
/* EXCLUSIVE: not both. REQUIRES: first is useless without second. */
typedef struct {
    RuleKind kind;
    const char *first, *second;
} Rule;

/* Commands */

typedef struct _Args Args;
typedef struct _Command Command;

typedef enum {
    COMMAND_NEEDS_CONNECTION = 1,
    /* a first positional --domain is put before the options */
    COMMAND_NEEDS_DOMAIN = 2 | COMMAND_NEEDS_CONNECTION,
    COMMAND_NO_JSON = 4, /* prints nothing that --json could change */
} CommandFlags;

struct _Command {
    const char *name;
    const char *group; /* "host", "guest", "backup", "checkpoint", "repository", "point", "night",
                          "events", "shell" */
    const char *help;  /* one line */
    const char *description;                     /* more, or NULL */
    guint flags;                                 /* CommandFlags */
    const Option *options;                       /* ends with a zero row; NULL: none */
    const Rule *rules;                           /* idem */
    int (*run) (Shell *shell, const Args *args); /* a Status */
};

extern const Command *const commands[];
const Command *command_find (const char *name); /* NULL: unknown */
/* The option of this name, those that every command has included; NULL: unknown. */
const Option *command_option (const Command *command, const char *name);
/* The i-th option in the order of the help: domain, own ones, json, help; NULL after the last. */
const Option *command_option_at (const Command *command, guint i);
/* The nearest word of a NULL-terminated list, or NULL when none is near. */
const char *nearest (const char *word, const char *const *words);
/* Runs one command; words[0] is its name. */
int command_run (Shell *shell, char **words);
/* Splits a script at ; and newlines, with quotes, \ and #, and runs its commands. The status is
 * that of the first failure. */
int script_run (Shell *shell, const char *text);
/* The commands of a script as arrays of words (char **), or NULL and *ret_error. */
GPtrArray *script_split (const char *text, const char **ret_error);
int shell_interactive (Shell *shell);
/* --complete: words up to the one under the cursor, which is the last; prints candidates, one a
 * line. */
void complete_print (Shell *shell, char **words);
GPtrArray *complete_words (Shell *shell, char **words); /* char* */
void help_command (const Command *command);
void help_all (void);

const Command *args_command (const Args *args);
gboolean args_has (const Args *args, const char *name);
const char *args_text (const Args *args, const char *name); /* the last value; NULL: not given */
const char *const *args_all (const Args *args, const char *name); /* never NULL */
guint64 args_size (const Args *args, const char *name);           /* NUMBER, SIZE; 0: not given */
guint64 args_microseconds (const Args *args, const char *name);   /* SECONDS */
BakDomain *args_domain (const Args *args); /* of COMMAND_NEEDS_DOMAIN; borrowed */
/* Looked up; NULL: the error has been printed. */
BakCheckpoint *args_checkpoint (const Args *args, const char *name, int *ret_status);
gboolean args_json (const Args *args);

/* values.c */
gboolean size_parse (const char *text, guint64 *ret_bytes);
gboolean seconds_parse (const char *text, guint64 *ret_microseconds);
gboolean name_is_possible (const char *text); /* for a checkpoint */

/* shell.c */
BakConnection *shell_connect (Shell *shell, int *ret_status); /* NULL: the error has been printed */
BakDomain *shell_domain (Shell *shell, const char *name, int *ret_status);

/* print.c: everything that comes from outside passes through clean() or one of these */
char *clean (const char *text);          /* control characters escaped; caller frees */
char *clean_document (const char *text); /* idem, but keeps newlines and tabs */
int text_width (const char *text);       /* columns on a terminal */
/* At most so many columns, with "..." where the rest was; caller frees. */
char *text_cut (const char *text, int width);
void print (const char *format, ...) G_GNUC_PRINTF (1, 2);
/* "Label:          text", nothing when text is NULL */
void print_label (const char *label, const char *text);
void print_label_format (const char *label, const char *format, ...) G_GNUC_PRINTF (2, 3);
void print_document (const char *text);
void print_json (JsonNode *node);      /* consumes node */
void print_json_line (JsonNode *node); /* idem, without a newline but at its end */
/* With the options of XPATH_OPTIONS, if the command has them; consumes xml, which bak_free() frees;
 * a Status. */
int print_xml (const Args *args, char *xml);
#define XPATH_OPTIONS                                                                              \
    {                                                                                              \
        "xpath",                                                                                   \
        OPTION_TEXT,                                                                               \
        0,                                                                                         \
        "EXPRESSION",                                                                              \
        N_("print only what an XPath expression selects"),                                        \
        WANT_NOTHING                                                                               \
    },                                                                                             \
    {                                                                                              \
        "wrap", OPTION_FLAG, 0, NULL, N_("put what was selected into one <nodes> element"),       \
            WANT_NOTHING                                                                           \
    }
char *format_size (guint64 bytes);          /* "4.200 GiB", as virsh; caller frees */
char *format_short_size (guint64 bytes);    /* "4.20 GiB", three digits; caller frees */
char *format_time (gint64 microseconds);    /* local time, "2026-11-21 02:58:15 +0000"; "-" for 0 */
char *format_rfc3339 (gint64 microseconds); /* UTC; NULL for 0 */
char *format_seconds (guint64 microseconds); /* "12.3 s", "3 min 4 s" */

typedef struct _Table Table;
/* chain.c */
int print_chain (BakDomain *domain, const char *disk, gboolean human, gboolean json);

Table *table_new (const char *first_heading, ...) G_GNUC_NULL_TERMINATED;
/* a cell may be "" */
void table_row (Table *table, const char *first_cell, ...) G_GNUC_NULL_TERMINATED;
char *table_text (Table *table); /* and frees it */
void table_print (Table *table); /* and frees it */
void table_free (Table *table);

/* Objects: absent text is null, sizes are integers, times RFC 3339. */
JsonObject *json_new (void);
void json_text (JsonObject *object, const char *key, const char *text);
void json_int (JsonObject *object, const char *key, gint64 value);
void json_bool (JsonObject *object, const char *key, gboolean value);
void json_time (JsonObject *object, const char *key, gint64 microseconds);
JsonNode *json_take_object (JsonObject *object);
/* A document is never a bare list: one named list can get neighbours later. */
JsonNode *json_take_list (const char *name, JsonArray *array);
/* An object with one text. */
JsonNode *json_one (const char *key, const char *text);

/* errors: on stderr, as "error: ..."; of those of one command a program gets a document */
void said_clear (void);
/* On standard output, if an error was told and no document: {"error", "error_code", "status"}; with
 * a type where each line has one. */
void said_print_error (int status, gboolean is_line);
int fail (BakError *error); /* consumes error; its Status */
int fail_with (int status, const char *format, ...) G_GNUC_PRINTF (2, 3);
int usage (const char *format, ...) G_GNUC_PRINTF (1, 2); /* STATUS_USAGE */
int status_of_error (BakErrorCode code);
void warn (const char *format, ...) G_GNUC_PRINTF (1, 2);
void tell (const char *format, ...) G_GNUC_PRINTF (1, 2); /* what is no cause for worry */

/* interrupt.c: Ctrl-C ends the process with 130, but while it is awaited it is counted. */
void interrupt_init (void);
void interrupt_await (gboolean on); /* on: counts from 0 */
guint interrupt_count (void);
/* SIGTERM too is an interrupt from now on, for what wants to end in order. */
void interrupt_take_terminate (gboolean on);
int interrupt_fd (void); /* polls readable after an interrupt */
typedef enum { POLL_TIMEOUT, POLL_INTERRUPT, POLL_READABLE } PollResult;
/* Waits until an interrupt came, fd (or -1) is readable, or microseconds have passed (-1: for
 * ever). */
PollResult interrupt_poll (int fd, gint64 microseconds);

/* job.c, wait.c */
JsonObject *job_to_json (const BakJob *job);
void job_print (const BakJob *job);
/* One of its notes has the text in it already. */
gboolean job_notes_say (const BakJob *job, const char *text);
void job_print_exports (Shell *shell, const BakJob *job);
int job_status (const BakJob *job); /* of one that has ended: DONE or BAD_BACKUP */
typedef enum {
    WAIT_QUIET = 1,   /* no progress */
    WAIT_AND_END = 2, /* a push with instant='end' is ended as soon as it is ready */
} WaitFlags;
/* Shows progress until the job has ended; deadline is a monotonic time, 0: none (STATUS_FAILED when
 * it passes, the job runs on). Prints how it ended. ret_job may be NULL. */
int job_wait (Shell *shell, BakDomain *domain, const char *id, guint flags, gint64 deadline,
              BakJob **ret_job);

/* series.c: NULL and *ret_status still STATUS_DONE: there is none */
char *series_newest (BakDomain *domain, const char *series, int *ret_status);
/* Target to file of the push that made the checkpoint; NULL as above: none is on record. */
GHashTable *series_files (BakDomain *domain, const char *checkpoint, int *ret_status);

/* onto.c: the file in directory (with a slash at its end) that the next increment of the disk is
 * laid on; recorded: what the record says, or NULL; here: the directory is one of this host. NULL:
 * the error has been printed. */
char *onto_find (const char *directory, const char *target, const char *recorded, gboolean here,
                 int *ret_status);

/* request.c: documents from options */
char *request_backup_xml (const Args *args, BakDomain *domain, int *ret_status);
/* those that are meant where none is named; NULL: failed */
char **request_selected_disks (BakDomain *domain, int *ret_status);
char *request_checkpoint_xml (const char *name, const char *description, const char *const *disks,
                              gboolean memory);
const char *read_file (const char *path, char **ret_text); /* NULL, or why not */

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakConnection, bak_connection_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDomain, bak_domain_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakJob, bak_job_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDisk, bak_disk_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakDomainDetails, bak_domain_details_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakCheckpoint, bak_domain_checkpoint_unref)
/* Frees an array of handles. */
#define LIST_FREE(list, unref)                                                                     \
    G_STMT_START                                                                                   \
    {                                                                                              \
        for (guint i_ = 0; (list) && (list)[i_]; i_++)                                             \
            unref ((list)[i_]);                                                                    \
        bak_free (list);                                                                           \
    }                                                                                              \
    G_STMT_END
