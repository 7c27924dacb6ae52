/* Pushes a backup of a guest and follows it by events in a loop of its own: no thread, no looking
 * at the clock. A daemon that is restarted meanwhile is waited for. Without a document it begins
 * none, and follows the next that ends.
 *
 *     cc events.c $(pkg-config --cflags --libs libbackup) -o events
 *     ./events qemu:///system web backup.xml
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <libbackup/libbackup.h>

typedef struct {
    int ended, lost;
    BakJobState state;
} Watch;

/* For how long a daemon that went may be away. */
enum { PATIENCE_MS = 120 * 1000 };

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return EXIT_FAILURE;
}

/* The backup may have ended while nobody could tell. */
static void ask_how_it_stands (BakDomain *domain, Watch *watch)
{
    BakJob *job = bak_domain_backup_info (domain, NULL, 0, NULL);

    if (job && bak_job_has_ended (job)) {
        watch->ended = 1;
        watch->state = bak_job_get_state (job);
        printf ("%s: %s\n", bak_domain_get_name (domain), bak_job_state_to_string (watch->state));
    }
    bak_job_unref (job);
}

/* Runs inside bak_connection_dispatch(). */
static void on_event (BakConnection *conn, BakDomain *domain, const BakEvent *event, void *opaque)
{
    Watch *watch = (Watch *) opaque;
    const char *disk = bak_event_get_disk (event), *text = bak_event_get_text (event);

    (void) conn;
    switch (bak_event_get_id (event)) {
    case BAK_DOMAIN_EVENT_ID_PROGRESS:
        printf ("%s: %llu of %llu bytes\n", disk ? disk : bak_domain_get_name (domain),
                bak_event_get_bytes (event), bak_event_get_total (event));
        break;
    case BAK_DOMAIN_EVENT_ID_JOB_DISK:
        printf ("%s: %s%s%s\n", disk,
                bak_job_state_to_string ((BakJobState) bak_event_get_state (event)),
                text ? ": " : "", text ? text : "");
        break;
    case BAK_DOMAIN_EVENT_ID_WARNING: printf ("warning: %s\n", text); break;
    case BAK_DOMAIN_EVENT_ID_CONNECTION:
        printf ("%s\n", text);
        watch->lost = bak_event_get_state (event) == BAK_CONNECTION_LOST;
        if (!watch->lost)
            ask_how_it_stands (domain, watch);
        break;
    case BAK_DOMAIN_EVENT_ID_JOB_COMPLETED:
        watch->ended = 1;
        watch->state = (BakJobState) bak_event_get_state (event);
        printf ("%s: %s\n", bak_domain_get_name (domain), bak_job_state_to_string (watch->state));
        break;
    default: break;
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
    Watch watch = { 0, 0, BAK_JOB_NONE };
    BakError *error = NULL;
    struct pollfd fd = { bak_connection_get_fd (conn, &error), POLLIN, 0 };

    if (fd.fd < 0
        || bak_connection_domain_event_register_any (conn, domain, BAK_DOMAIN_EVENT_ID_ANY,
                                                     on_event, &watch, NULL, &error)
               < 0
        || (xml && bak_domain_backup_begin (domain, xml, NULL, 0, &error) < 0))
        return fail ("begin", error);
    printf ("following\n");
    while (!watch.ended) {
        int ready = poll (&fd, 1, watch.lost ? PATIENCE_MS : -1);
        if (ready == 0) {
            fprintf (stderr, "the daemon has not come back; the backup may go on without us\n");
            return EXIT_FAILURE;
        }
        if (ready > 0 && bak_connection_dispatch (conn, &error) < 0)
            return fail ("events", error);
    }
    return watch.state == BAK_JOB_COMPLETED ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main (int argc, char **argv)
{
    if (argc != 3 && argc != 4) {
        fprintf (stderr, "usage: %s URI GUEST [XMLFILE]\n", argv[0]);
        return 2;
    }
    setvbuf (stdout, NULL, _IOLBF, 0);
    char *xml = argc == 4 ? read_text (argv[3]) : NULL;
    if (argc == 4 && !xml) {
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
