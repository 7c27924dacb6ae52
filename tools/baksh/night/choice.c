/* Which guests a job means tonight: asked anew each time, so that new ones are found. */
#include <string.h>
#include "night.h"

void night_guest_free (NightGuest *guest)
{
    if (!guest)
        return;
    g_free (guest->uri);
    g_free (guest->name);
    g_free (guest->uuid);
    if (guest->row)
        json_object_unref (guest->row);
    g_free (guest);
}

const char *const *night_uris (const NightJob *job, Shell *shell)
{
    static const char *own[] = { "", NULL };
    return job->uris ? (const char *const *) job->uris : own;
}

static NightGuest *find_guest (Night *night, const char *uuid)
{
    for (guint i = 0; i < night->guests->len; i++) {
        NightGuest *guest = night->guests->pdata[i];
        if (g_ascii_strcasecmp (guest->uuid, uuid) == 0)
            return guest;
    }
    return NULL;
}

static gboolean was_named (const char *const *domains, const char *name, const char *uuid)
{
    for (guint i = 0; domains[i]; i++)
        if (g_str_equal (domains[i], name) || g_ascii_strcasecmp (domains[i], uuid) == 0)
            return TRUE;
    return !*domains;
}

static gboolean is_young (Night *night, const char *uuid)
{
    gint64 oldest = g_get_real_time () - (gint64) night->options->older_than;
    if (!night->options->older_than)
        return FALSE;
    BakPoint **points = night_points (night->repository, uuid, NULL);
    BakPoint *newest = night_newest_good (points);
    gboolean young = newest && bak_point_get_instant (newest) > oldest;
    LIST_FREE (points, bak_point_unref);
    return young;
}

static void consider (Night *night, const char *uri, BakDomain *domain)
{
    const char *name = bak_domain_get_name (domain), *uuid = bak_domain_get_uuid_string (domain);
    const char *why;
    if (!night_job_wants (night->job, name, uuid, &why)
        || !was_named (night->options->domains, name, uuid) || is_young (night, uuid))
        return;
    NightGuest *same = find_guest (night, uuid);
    if (same) {
        night_warn (night, _("guest '%s' of %s is guest '%s' of %s: it is backed up once"), name,
                    uri, same->name, same->uri);
        return;
    }
    NightGuest *guest = g_new0 (NightGuest, 1);
    guest->uri = g_strdup (uri);
    guest->name = g_strdup (name);
    guest->uuid = g_strdup (uuid);
    guest->state = bak_domain_get_last_state (domain);
    g_ptr_array_add (night->guests, guest);
}

static gboolean choose_of (Night *night, const char *uri, BakError **error)
{
    const char *opened = *uri ? uri : night->shell->uri;
    g_autoptr (BakConnection) conn = bak_connection_open (opened, error);
    BakDomain **list = NULL;
    if (!conn || bak_connection_list_all_domains (conn, &list, 0, error) < 0)
        return FALSE;
    char *full = bak_connection_get_uri (conn, NULL);
    for (guint i = 0; list[i]; i++)
        consider (night, *uri ? uri : full ? full : "", list[i]);
    LIST_FREE (list, bak_domain_unref);
    bak_free (full);
    return TRUE;
}

static int by_name (gconstpointer a, gconstpointer b)
{
    const NightGuest *const *one = a, *const *other = b;
    return strcmp ((*one)->name, (*other)->name);
}

/* A named guest that the job does not mean is a mistake of the command line. */
static gboolean check_named (Night *night, char **ret_error)
{
    const char *const *domains = night->options->domains;
    for (guint i = 0; domains[i] && !night->options->older_than; i++) {
        gboolean found = FALSE;
        for (guint j = 0; j < night->guests->len && !found; j++) {
            const NightGuest *guest = night->guests->pdata[j];
            found = g_str_equal (domains[i], guest->name)
                    || g_ascii_strcasecmp (domains[i], guest->uuid) == 0;
        }
        if (!found) {
            *ret_error =
                g_strdup_printf (_("job '%s' has no guest '%s'"), night->job->name, domains[i]);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean night_choose (Night *night, int *ret_status, char **ret_error)
{
    const char *const *uris = night_uris (night->job, night->shell);
    g_autofree char *failure = NULL;
    for (guint i = 0; uris[i]; i++) {
        BakError *error = NULL;
        if (choose_of (night, uris[i], &error))
            continue;
        const char *message = bak_error_get_message (error);
        g_autofree char *line =
            *uris[i] ? g_strdup_printf ("%s: %s", uris[i], message) : g_strdup (message);
        if (!failure)
            failure = g_strdup (line);
        night->unreached++;
        night_warn (night, "%s", line);
        bak_error_unref (error);
    }
    g_ptr_array_sort (night->guests, by_name);
    *ret_status = failure ? STATUS_NO_CONNECTION : STATUS_USAGE;
    if (failure && !night->guests->len) {
        *ret_error = g_steal_pointer (&failure);
        return FALSE;
    }
    if (!check_named (night, ret_error))
        return FALSE;
    if (night->guests->len || night->options->older_than) {
        *ret_status = STATUS_DONE;
        return TRUE;
    }
    g_autofree char *patterns = g_strjoinv (" ", night->job->guests);
    *ret_error = g_strdup_printf (
        _("job '%s': there is no guest that 'guests = %s' means; 'baksh list --all' shows what "
           "there is"),
        night->job->name, patterns);
    return FALSE;
}
