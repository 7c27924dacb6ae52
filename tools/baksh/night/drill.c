/* The restore drill: the newest point of a guest is served, on an overlay that is thrown away, to a
 * QEMU that can reach nothing else, and is waited for. What shows that a backup can be restored is
 * a guest that comes up. */
#include <string.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "boot.h"
#include "machine.h"
#include "night.h"

#define DAY ((guint64) 24 * 3600 * G_USEC_PER_SEC)

enum { SOCKET_PATH_MAX = 100 };

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakCancellation, bak_cancellation_unref)

/* ---- serving ---- */

typedef struct {
    BakPoint *point;
    BakPointServeOptions options;
    char *socket;
    GMutex lock;
    GCond changed;
    guint ready; /* disks */
    gboolean ended;
    char *why; /* it failed */
} Service;

static void disk_ready (const char *disk, const char *uri, void *opaque)
{
    Service *service = opaque;
    g_mutex_lock (&service->lock);
    service->ready++;
    g_cond_signal (&service->changed);
    g_mutex_unlock (&service->lock);
}

static gpointer serve (gpointer data)
{
    Service *service = data;
    BakError *error = NULL;
    gboolean ok = bak_point_serve (service->point, &service->options, &error) == 0;
    g_mutex_lock (&service->lock);
    if (!ok)
        service->why = g_strdup (bak_error_get_message (error));
    service->ended = TRUE;
    g_cond_signal (&service->changed);
    g_mutex_unlock (&service->lock);
    bak_error_unref (error);
    return NULL;
}

static gboolean wait_ready (Service *service, char **ret_why)
{
    guint disks = bak_point_get_n_disks (service->point);
    g_mutex_lock (&service->lock);
    while (!service->ended && service->ready < disks)
        g_cond_wait (&service->changed, &service->lock);
    gboolean ready = !service->ended;
    if (!ready)
        *ret_why = g_strdup (service->why ? service->why : _("the run was interrupted"));
    g_mutex_unlock (&service->lock);
    return ready;
}

/* QEMU is connected: who is killed now leaves no name behind. */
static void forget_socket (gpointer data)
{
    g_unlink (((Service *) data)->socket);
}

/* ---- one drill ---- */

/* Of the newest point that knows it: one that was made while the guest was off says little. */
static Machine *find_machine (BakPoint **points, BakPoint *newest, char **ret_why)
{
    g_autoptr (Machine) own = machine_read (bak_point_get_path (newest), ret_why);
    if (!own || machine_is_known (own))
        return g_steal_pointer (&own);
    for (guint i = g_strv_length ((char **) points); i-- > 0;) {
        g_autofree char *why = NULL;
        g_autoptr (Machine) other = machine_read (bak_point_get_path (points[i]), &why);
        if (!other || !machine_is_known (other))
            continue;
        GPtrArray *disks = own->disks; /* those of the point that is booted */
        own->disks = other->disks;
        other->disks = disks;
        return g_steal_pointer (&other);
    }
    return g_steal_pointer (&own);
}

static gboolean has_disk (const BakPoint *point, const char *target)
{
    for (guint i = 0; i < bak_point_get_n_disks (point); i++)
        if (g_strcmp0 (bak_point_disk_get_target (bak_point_get_disk (point, i)), target) == 0)
            return TRUE;
    return FALSE;
}

/* The definition may name disks that no backup takes. */
static void keep_disks_of (Machine *machine, const BakPoint *point)
{
    for (guint i = machine->disks->len; i-- > 0;)
        if (!has_disk (point, ((MachineDisk *) machine->disks->pdata[i])->target))
            g_ptr_array_remove_index (machine->disks, i);
}

static char *find_program (const NightDrill *wish, const Machine *machine, char **ret_why)
{
    g_autofree char *name = g_strdup_printf ("qemu-system-%s", machine->arch);
    char *program = wish->program ? g_strdup (wish->program) : g_find_program_in_path (name);
    if (!program && g_file_test ("/usr/libexec/qemu-kvm", G_FILE_TEST_IS_EXECUTABLE))
        program = g_strdup ("/usr/libexec/qemu-kvm");
    if (!program)
        *ret_why =
            g_strdup_printf (_("'%s' is not installed; 'drill = …, qemu PATH' names it"), name);
    return program;
}

static char *socket_path (const Night *night)
{
    g_autofree char *name = g_strdup_printf ("libbackup-drill-%s.sock", night->job->name);
    char *path = g_build_filename (night->dir, "drill.sock", NULL);
    if (strlen (path) <= SOCKET_PATH_MAX)
        return path;
    g_free (path);
    return g_build_filename (g_get_user_runtime_dir (), name, NULL);
}

static const char *boot_point (Night *night, Service *service, const Machine *machine,
                               char **ret_why)
{
    const NightDrill *wish = &night->job->drill;
    g_autofree char *program = find_program (wish, machine, ret_why);
    if (!program || !wait_ready (service, ret_why))
        return NULL;
    g_autoptr (GPtrArray) words = machine_words (machine, program, wish->memory, service->socket);
    Boot boot = { .words = words,
                  .wish = wish,
                  .cancellation = night->cancellation,
                  .started = forget_socket,
                  .data = service };
    return boot_run (&boot, ret_why);
}

static const char *drill (Night *night, BakPoint **points, BakPoint *point, char **ret_why)
{
    g_autoptr (Machine) machine = find_machine (points, point, ret_why);
    if (!machine)
        return NULL;
    keep_disks_of (machine, point);
    g_autoptr (BakCancellation) enough = bak_cancellation_new ();
    g_autofree char *socket = socket_path (night);
    Service service = { .point = point,
                        .socket = socket,
                        .options = { .size = sizeof (BakPointServeOptions),
                                     .flags = BAK_POINT_SERVE_WRITABLE,
                                     .socket = socket,
                                     .ready = disk_ready,
                                     .opaque = &service,
                                     .cancellation = enough } };
    g_mutex_init (&service.lock);
    g_cond_init (&service.changed);
    GThread *thread = g_thread_new ("drill", serve, &service);
    const char *proof = boot_point (night, &service, machine, ret_why);
    bak_cancellation_cancel (enough);
    g_thread_join (thread);
    g_mutex_clear (&service.lock);
    g_cond_clear (&service.changed);
    g_free (service.why);
    return proof;
}

static void drill_guest (Night *night, const NightGuest *guest)
{
    BakPoint **points = night_points (night->repository, guest->uuid, NULL);
    BakPoint *point = points ? night_newest_good (points) : NULL;
    gint64 begin = g_get_monotonic_time ();
    g_autofree char *why = NULL, *name = NULL;
    if (!point) {
        LIST_FREE (points, bak_point_unref);
        return; /* it has none: that was said already */
    }
    name = g_strdup_printf ("%s@%s", bak_point_get_guest (point), bak_point_get_id (point));
    const char *proof = drill (night, points, point, &why);
    if (proof || !bak_cancellation_is_cancelled (night->cancellation)) {
        JsonObject *row = json_new ();
        json_text (row, "guest", guest->name);
        json_text (row, "uuid", guest->uuid);
        json_text (row, "point", name);
        json_bool (row, "good", proof != NULL);
        json_text (row, "proof", proof);
        json_text (row, "error", why);
        json_time (row, "time", g_get_real_time ());
        json_int (row, "duration_ms", (g_get_monotonic_time () - begin) / 1000);
        night->undrilled += proof ? 0 : 1;
        night_tell (night, "drill", night_copy (row));
        known_take_drill (night, row);
        json_array_add_object_element (night->drills, row);
    }
    LIST_FREE (points, bak_point_unref);
}

/* ---- which ---- */

typedef struct {
    const NightGuest *guest;
    gint64 last; /* 0: never */
} Due;

static int by_last (gconstpointer a, gconstpointer b)
{
    gint64 one = ((const Due *) a)->last, other = ((const Due *) b)->last;
    return one < other ? -1 : one > other;
}

/* Spread over the nights: as many as come round in time if each night has so many. */
static guint share_of (const Night *night)
{
    guint64 every = MAX (night->job->drill.every, 1);
    return every <= DAY ? night->guests->len
                        : (guint) ((night->guests->len * DAY + every - 1) / every);
}

void night_drill (Night *night)
{
    g_autoptr (GArray) due = g_array_new (FALSE, FALSE, sizeof (Due));
    gint64 oldest = g_get_real_time () - (gint64) night->job->drill.every;
    if (!night->job->drill.every)
        return;
    for (guint i = 0; i < night->guests->len; i++) {
        const NightGuest *guest = night->guests->pdata[i];
        Due one = { guest, known_drilled (night, guest->uuid) };
        if (one.last <= oldest)
            g_array_append_val (due, one);
    }
    g_array_sort (due, by_last);
    for (guint i = 0; i < MIN (due->len, share_of (night)); i++)
        if (!bak_cancellation_is_cancelled (night->cancellation))
            drill_guest (night, g_array_index (due, Due, i).guest);
}
