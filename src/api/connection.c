#include <string.h>
#include "api/api.h"
#include "util/files.h"

/* The messages of the library, for programs of any language. */
static void bind_messages (void)
{
    static gsize done;
    if (g_once_init_enter (&done)) {
        const char *dir = g_getenv ("LIBBACKUP_LOCALE_DIR");
        bindtextdomain (GETTEXT_PACKAGE, dir ? dir : LOCALE_DIR);
        bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
        g_once_init_leave (&done, 1);
    }
}

static BakConnection *connection_new (const char *name, gboolean readonly, const char *function,
                                      BakError **error)
{
    DriverOpenOptions options = { .role = DRIVER_ROLE_CLIENT, .readonly = readonly };
    GError *internal = NULL;

    bind_messages ();
    if (!api_check_text (name, BAK_PATH_MAX, "name", function, error))
        return NULL;
    DriverConn *driver = driver_open (name, &options, &internal);
    if (!driver) {
        api_take_error (error, internal);
        return NULL;
    }
    BakConnection *conn = g_new0 (BakConnection, 1);
    conn->refs = 1;
    conn->driver = driver;
    conn->patience = patience_new ();
    conn->events = event_hub_new (conn);
    driver_conn_set_events (driver, event_hub_take, conn->events);
    return conn;
}

BakConnection *bak_connection_open (const char *name, BakError **error)
{
    return connection_new (name, FALSE, __func__, error);
}

BakConnection *bak_connection_open_read_only (const char *name, BakError **error)
{
    return connection_new (name, TRUE, __func__, error);
}

BakConnection *bak_connection_ref (BakConnection *conn)
{
    if (conn)
        g_atomic_int_inc (&conn->refs);
    return conn;
}

/* The thread of the events holds no reference while it waits; it may come too late. */
BakConnection *connection_try_ref (BakConnection *conn)
{
    for (gint refs = conn ? g_atomic_int_get (&conn->refs) : 0; refs > 0;
         refs = g_atomic_int_get (&conn->refs))
        if (g_atomic_int_compare_and_exchange (&conn->refs, refs, refs + 1))
            return conn;
    return NULL;
}

void bak_connection_unref (BakConnection *conn)
{
    if (!conn || !g_atomic_int_dec_and_test (&conn->refs))
        return;
    DriverConn *driver = conn->driver;
    driver_conn_set_events (driver, NULL, NULL);
    event_hub_close (conn->events);
    driver_close (driver);
    patience_free (conn->patience);
    g_free (conn);
}

char *bak_connection_get_uri (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    return g_strdup (conn->driver->uri);
}

const char *bak_connection_get_type (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    return conn->driver->driver->name;
}

int bak_connection_is_read_only (BakConnection *conn)
{
    return conn && conn->driver->readonly;
}

char *bak_connection_get_product (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    bak_hello_args args = { .uri = conn->driver->uri,
                            .api = 1,
                            .readonly = conn->driver->readonly };
    g_autoptr (Result) result = result_call (conn, CALL_ID_hello, &args, error);
    return result ? g_steal_pointer (&((bak_hello_ret *) result->ret)->product) : NULL;
}

char *bak_connection_get_capabilities (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    bak_none args = { 0 };
    return api_call_text (conn, CALL_ID_capabilities, &args, error);
}

char *bak_connection_describe (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    bak_none args = { 0 };
    return api_call_text (conn, CALL_ID_describe, &args, error);
}

static gboolean domain_wanted (const bak_domain_item *item, unsigned int flags)
{
    unsigned int checkpoints =
        flags & (BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT | BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT);
    return !checkpoints
           || checkpoints
                  & (item->has_checkpoint ? BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT
                                          : BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT);
}

int bak_connection_list_all_domains (BakConnection *conn, BakDomain ***domains, unsigned int flags,
                                     BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    API_FLAGS (flags,
               BAK_CONNECT_LIST_DOMAINS_ACTIVE | BAK_CONNECT_LIST_DOMAINS_INACTIVE
                   | BAK_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT
                   | BAK_CONNECT_LIST_DOMAINS_NO_CHECKPOINT,
               error, -1);
    bak_list_args args = { .flags = flags & (LIST_ACTIVE | LIST_INACTIVE) };
    g_autoptr (Result) result = result_call (conn, CALL_ID_list, &args, error);
    if (!result)
        return -1;
    const bak_list_ret *ret = result->ret;
    BakDomain **list = domains ? g_new0 (BakDomain *, ret->domains.domains_len + 1) : NULL;
    int n = 0;
    for (guint i = 0; i < ret->domains.domains_len; i++) {
        const bak_domain_item *item = &ret->domains.domains_val[i];
        if (!domain_wanted (item, flags))
            continue;
        if (list)
            list[n] = domain_new (conn, item);
        n++;
    }
    if (domains)
        *domains = list;
    return n;
}

static gboolean named_disks_check (const BakNamedDisk *disks, unsigned int n, const char *function,
                                   BakError **error)
{
    if (n > BAK_DISKS_MAX || (n && !disks)) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("disks in %s: expected at most %d"),
                       function, BAK_DISKS_MAX);
        return FALSE;
    }
    for (unsigned int i = 0; i < n; i++) {
        if (!disks[i].target || !disks[i].id) {
            api_refuse_null (disks[i].target ? "id" : "target", function, error);
            return FALSE;
        }
        if (!api_check_text (disks[i].target, BAK_NAME_MAX, "target", function, error)
            || !api_check_text (disks[i].id, BAK_PATH_MAX, "id", function, error))
            return FALSE;
    }
    return TRUE;
}

static bak_named_id *named_disks_borrow (const BakNamedDisk *disks, unsigned int n)
{
    bak_named_id *ids = g_new0 (bak_named_id, n + 1);
    for (unsigned int i = 0; i < n; i++)
        ids[i] = (bak_named_id){ .target = (char *) disks[i].target, .id = (char *) disks[i].id };
    return ids;
}

BakDomain *bak_connection_attach (BakConnection *conn, const BakAttachOptions *options,
                                  BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    API_NOT_NULL (options, error, NULL);
    if (!api_check_size (options->size, sizeof *options, __func__, error))
        return NULL;
    API_NOT_NULL (options->name, error, NULL);
    API_TEXT (options->name, BAK_NAME_MAX, error, NULL);
    API_TEXT (options->qmp, BAK_PATH_MAX, error, NULL);
    API_TEXT (options->agent, BAK_PATH_MAX, error, NULL);
    API_FLAGS (options->flags, BAK_ATTACH_FIND_IMAGES, error, NULL);
    if (!named_disks_check (options->disks, options->n_disks, __func__, error)
        || !named_disks_check (options->images, options->n_images, __func__, error))
        return NULL;

    g_autofree bak_named_id *disks = named_disks_borrow (options->disks, options->n_disks);
    g_autofree bak_named_id *images = named_disks_borrow (options->images, options->n_images);
    bak_attach_args args = {
        .name = (char *) options->name,
        .qmp = api_text (options->qmp),
        .agent = api_text (options->agent),
        .disks = { options->n_disks, disks },
        .images = { options->n_images, images },
        .flags = options->flags,
    };
    g_autoptr (Result) result = result_call (conn, CALL_ID_attach, &args, error);
    return result ? domain_new (conn, &((bak_lookup_ret *) result->ret)->domain) : NULL;
}

int bak_connection_discover (BakConnection *conn, BakGuestProcess ***processes, unsigned int flags,
                             BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_none args = { 0 };
    Result *result = result_call (conn, CALL_ID_discover, &args, error);
    if (!result)
        return -1;
    bak_discover_ret *ret = result->ret;
    return snapshot_list (result, ret->found.found_val, ret->found.found_len, sizeof (bak_found),
                          processes);
}

HANDLE (BakGuestProcess, guest_process, snapshot_free)
GET_NUMBER (long long, bak_guest_process_get_pid, BakGuestProcess, pid)
GET_TEXT (bak_guest_process_get_qmp, BakGuestProcess, qmp)
GET_TEXT (bak_guest_process_get_name, BakGuestProcess, name)
GET_TEXT (bak_guest_process_get_uuid, BakGuestProcess, uuid)
GET_TEXT (bak_guest_process_get_qemu_version, BakGuestProcess, qemu_version)
GET_TEXT (bak_guest_process_get_attached_as, BakGuestProcess, attached_as)
GET_TEXT (bak_guest_process_get_note, BakGuestProcess, note)
