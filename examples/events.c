/* Pushes a backup of a guest and follows it by events in a loop of its own: no thread, no looking at the clock.
 *
 *     cc events.c $(pkg-config --cflags --libs libbackup) -o events
 *     ./events qemu:///system web backup.xml
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <libbackup/libbackup.h>

typedef struct {
    int ended;
    BakJobState state;
} Watch;

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return EXIT_FAILURE;
}

/* Runs inside bak_connection_dispatch(). */
static void on_event (BakConnection *conn, BakDomain *domain, const BakEvent *event, void *opaque)
{
    Watch *watch = opaque;
    const char *disk = bak_event_get_disk (event), *text = bak_event_get_text (event);

    (void) conn;
    switch (bak_event_get_id (event)) {
    case BAK_DOMAIN_EVENT_ID_PROGRESS:
        printf ("%s: %llu of %llu bytes\n", disk ? disk : bak_domain_get_name (domain), bak_event_get_bytes (event), bak_event_get_total (event));
        break;
    case BAK_DOMAIN_EVENT_ID_JOB_DISK:
        printf ("%s: %s%s%s\n", disk, bak_job_state_to_string ((BakJobState) bak_event_get_state (event)), text ? ": " : "", text ? text : "");
        break;
    case BAK_DOMAIN_EVENT_ID_WARNING:
        printf ("warning: %s\n", text);
        break;
    case BAK_DOMAIN_EVENT_ID_JOB_COMPLETED:
        watch->ended = 1;
        watch->state = (BakJobState) bak_event_get_state (event);
        printf ("%s: %s\n", bak_domain_get_name (domain), bak_job_state_to_string (watch->state));
        break;
    default:
        break;
    }
}

static char *read_text (const char *path)
{
    static char text[65536];
    FILE *file = fopen (path, "r");
    size_t length = file ? fread (text, 1, sizeof text - 1, file) : 0;

    if (!file)
        return NULL;
    fclose (file);
    text[length] = '\0';
    return text;
}

static int follow (BakConnection *conn, BakDomain *domain, const char *xml)
{
    Watch watch = { 0, BAK_JOB_NONE };
    BakError *error = NULL;
    struct pollfd fd = { bak_connection_get_fd (conn, &error), POLLIN, 0 };

    if (fd.fd < 0
        || bak_connection_domain_event_register_any (conn, domain, BAK_DOMAIN_EVENT_ID_ANY, on_event, &watch, NULL, &error) < 0
        || bak_domain_backup_begin (domain, xml, NULL, 0, &error) < 0)
        return fail ("begin", error);
    while (!watch.ended)
        if (poll (&fd, 1, -1) > 0 && bak_connection_dispatch (conn, &error) < 0)
            return fail ("events", error);
    return watch.state == BAK_JOB_COMPLETED ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main (int argc, char **argv)
{
    if (argc != 4) {
        fprintf (stderr, "usage: %s URI GUEST XMLFILE\n", argv[0]);
        return 2;
    }
    char *xml = read_text (argv[3]);
    if (!xml) {
        perror (argv[3]);
        return EXIT_FAILURE;
    }
    BakError *error = NULL;
    BakConnection *conn = bak_connection_open (argv[1], &error);
    if (!conn)
        return fail (argv[1], error);
    BakDomain *domain = bak_domain_lookup_by_name (conn, argv[2], &error);
    int status = domain ? follow (conn, domain, xml) : fail (argv[2], error);
    bak_domain_unref (domain);
    bak_connection_unref (conn);
    return status;
}
