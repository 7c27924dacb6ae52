#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "baksh.h"

static const char *editor (void)
{
    const char *visual = g_getenv ("VISUAL"), *plain = g_getenv ("EDITOR");
    return visual && *visual ? visual : plain && *plain ? plain : "vi";
}

/* The editor may be a command with options, so a shell starts it; the file's name is ours. */
static int edit (const char *path)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *quoted = g_shell_quote (path),
                    *command = g_strdup_printf ("%s %s", editor (), quoted);
    char *argv[] = { (char *) "/bin/sh", (char *) "-c", command, NULL };
    int status;
    if (!g_spawn_sync (NULL, argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL,
                       &status, &error)
        || !g_spawn_check_wait_status (status, &error))
        return fail_with (STATUS_FAILED, _("editor '%s': %s"), editor (), error->message);
    return STATUS_DONE;
}

/* Writes text to a new file, lets it be edited, reads it again; the file is gone afterwards. */
static int edit_text (const char *text, char **ret_text)
{
    g_autofree char *path = NULL;
    g_autoptr (GError) error = NULL;
    int fd = g_file_open_tmp ("baksh-XXXXXX.xml", &path, &error);
    if (fd < 0)
        return fail_with (STATUS_FAILED, "%s", error->message);
    FILE *file = fdopen (fd, "w");
    gboolean written = fputs (text, file) >= 0;
    written = fclose (file) == 0 && written;
    int status = written ? edit (path) : fail_with (STATUS_FAILED, _("cannot write '%s'"), path);
    const char *why = status == STATUS_DONE ? read_file (path, ret_text) : NULL;
    if (why)
        status = fail_with (STATUS_FAILED, _("Failed to open file '%s': %s"), path, why);
    g_unlink (path);
    return status;
}

static int redefine (const Args *args, const char *name, const char *xml)
{
    BakError *error = NULL;
    g_autoptr (BakCheckpoint) edited = bak_domain_checkpoint_create_xml (
        args_domain (args), xml, BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE, &error);
    if (!edited)
        return fail (error);
    if (!g_str_equal (bak_domain_checkpoint_get_name (edited), name))
        warn (_("the name was changed: '%s' was made beside '%s'"),
              bak_domain_checkpoint_get_name (edited), name);
    return STATUS_DONE;
}

static int checkpoint_edit_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    int status = STATUS_DONE;
    g_autoptr (BakCheckpoint) checkpoint = args_checkpoint (args, "checkpointname", &status);
    if (!checkpoint)
        return status;
    const char *name = bak_domain_checkpoint_get_name (checkpoint);
    char *xml =
        bak_domain_checkpoint_get_xml_desc (checkpoint, BAK_DOMAIN_CHECKPOINT_XML_SECURE, &error);
    if (!xml)
        return fail (error);
    g_autofree char *edited = NULL, *shown = clean (name);
    status = edit_text (xml, &edited);
    gboolean changed = status == STATUS_DONE && !g_str_equal (xml, edited);
    bak_free (xml);
    if (changed)
        status = redefine (args, name, edited);
    if (status == STATUS_DONE)
        print (changed ? _("Checkpoint %s edited.\n")
                       : _("Checkpoint %s XML configuration not changed.\n"),
               shown);
    return status;
}

static const Option options[] = {
    { "checkpointname", OPTION_TEXT, OPTION_POSITIONAL | OPTION_REQUIRED, "CHECKPOINT",
      N_("name of the checkpoint"), WANT_CHECKPOINT },
    { 0 },
};

const Command cmd_checkpoint_edit = { .name = "checkpoint-edit",
                                      .group = "checkpoint",
                                      .help = N_("Edit the XML of a checkpoint"),
                                      .description = N_("With $VISUAL, else $EDITOR, else vi."),
                                      .flags = COMMAND_NEEDS_DOMAIN | COMMAND_NO_JSON,
                                      .options = options,
                                      .run = checkpoint_edit_run };
