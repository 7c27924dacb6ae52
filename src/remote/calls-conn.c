/* libvirt's program: the connection itself. */
#include <sys/utsname.h>
#include <unistd.h>
#include "remote/table.h"

enum { FEATURE_KEEPALIVE = 10, FEATURE_CALLBACK_IDS = 14, FEATURE_CLOSE_CALLBACK = 15 };
enum { OPEN_READONLY = 1 };         /* other bits leak from the client */
enum { LIBRARY_VERSION = 9000000 }; /* what tools ask for before they use incremental backups */

gboolean serve_conn_auth_list (Call *call, GError **error)
{
    rpc_auth_list_ret *ret = call->ret;
    ret->kinds.kinds_val = ret_array (1, sizeof (int));
    ret->kinds.kinds_len = 1; /* 0: nothing to do; the client takes the first entry */
    return TRUE;
}

gboolean serve_conn_feature (Call *call, GError **error)
{
    int feature = ((rpc_int *) call->args)->value;
    if (!call->peer->opened && feature != FEATURE_KEEPALIVE)
        return rpc_error_set (error, RPC_ERROR_INTERNAL,
                              "internal error: hypervisor connection not open");
    if (feature == FEATURE_KEEPALIVE)
        /* who never asked is never pinged: not every client can answer */
        call->peer->keepalive = TRUE;
    ((rpc_int *) call->ret)->value = feature == FEATURE_KEEPALIVE || feature == FEATURE_CALLBACK_IDS
                                     || feature == FEATURE_CLOSE_CALLBACK;
    return TRUE;
}

/* qemu:///system, bak:///session, with any transport: the client has found us already. */
static gboolean uri_is_ours (const char *uri)
{
    g_autoptr (GUri) parsed =
        g_uri_parse (uri, G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_PARSE_RELAXED, NULL);
    if (!parsed)
        return FALSE;
    const char *scheme = g_uri_get_scheme (parsed), *path = g_uri_get_path (parsed);
    return (g_str_equal (scheme, "qemu") || g_str_has_prefix (scheme, "qemu+")
            || g_str_equal (scheme, "bak") || g_str_has_prefix (scheme, "bak+"))
           && (g_str_equal (path, "") || g_str_equal (path, "/") || g_str_equal (path, "/system")
               || g_str_equal (path, "/session"));
}

gboolean serve_conn_open (Call *call, GError **error)
{
    const rpc_open_args *args = call->args;
    if (call->peer->opened)
        return rpc_error_set (error, RPC_ERROR_INTERNAL, "internal error: connection already open");
    if (args->uri && !uri_is_ours (*args->uri)) {
        g_autofree char *shown = text_sanitize (*args->uri, 256);
        return rpc_error_set (error, 5, "no connection driver available for %s", shown);
    }
    peer_open (call->peer, args->flags & OPEN_READONLY);
    return TRUE;
}

gboolean serve_conn_close (Call *call, GError **error)
{
    call->closes = TRUE;
    return TRUE;
}

gboolean serve_conn_nothing (Call *call, GError **error)
{
    return TRUE;
}

/* What backup tools ask about and a daemon that starts no guests does not do; in libvirt's words
 * for drivers without it. */
gboolean serve_not_supported (Call *call, GError **error)
{
    return rpc_error_set (error, RPC_ERROR_NO_SUPPORT,
                          "this function is not supported by the connection driver: %s",
                          call->procedure->name);
}

/* About what is behind the daemon; the client adds what its transport is. */
gboolean serve_conn_is_secure (Call *call, GError **error)
{
    ((rpc_int *) call->ret)->value = 1;
    return TRUE;
}

gboolean serve_conn_type (Call *call, GError **error)
{
    ((rpc_string *) call->ret)->text = ret_string ("QEMU");
    return TRUE;
}

/* "7.2.22 (Debian ...)" is 7002022. */
static guint64 version_number (const char *text)
{
    guint major = 0, minor = 0, micro = 0;
    if (sscanf (text, "%u.%u.%u", &major, &minor, &micro) < 2)
        return 0;
    return (guint64) major * 1000000 + minor * 1000 + micro;
}

/* There is no one QEMU: the first running guest's. None: 0, which clients show as unknown. */
gboolean serve_conn_version (Call *call, GError **error)
{
    DriverConn *conn = server_get_conn (call->peer->server);
    bak_list_args args = { .flags = LIST_ACTIVE };
    bak_list_ret list = { 0 };
    guint64 version = 0;
    if (!call_list (conn, &args, &list, error))
        return FALSE;
    for (guint i = 0; i < list.domains.domains_len && !version; i++) {
        bak_domain_arg domain = { .domain = list.domains.domains_val[i].name };
        bak_domain_info info = { 0 };
        if (peer_may (call->peer, domain.domain, VERB_SEE)
            && call_domain_info (conn, &domain, &info, NULL))
            version = version_number (info.qemu_version);
        call_clear_ret (CALL_ID_domain_info, &info);
    }
    call_clear_ret (CALL_ID_list, &list);
    ((rpc_hyper *) call->ret)->value = version;
    return TRUE;
}

gboolean serve_conn_lib_version (Call *call, GError **error)
{
    ((rpc_hyper *) call->ret)->value = LIBRARY_VERSION;
    return TRUE;
}

gboolean serve_conn_hostname (Call *call, GError **error)
{
    ((rpc_string *) call->ret)->text = ret_string (g_get_host_name ());
    return TRUE;
}

gboolean serve_conn_uri (Call *call, GError **error)
{
    ((rpc_string *) call->ret)->text = ret_string (server_get_conn (call->peer->server)->uri);
    return TRUE;
}

gboolean serve_conn_capabilities (Call *call, GError **error)
{
    struct utsname host;
    const char *arch = uname (&host) == 0 ? host.machine : "x86_64";
    g_autofree char *text =
        g_strdup_printf ("<capabilities>\n\n  <host>\n    <cpu>\n      <arch>%s</arch>\n    "
                         "</cpu>\n  </host>\n\n  <guest>\n    <os_type>hvm</os_type>\n"
                         "    <arch name='%s'>\n      <wordsize>64</wordsize>\n      <domain "
                         "type='qemu'/>\n      <domain type='kvm'/>\n    </arch>\n"
                         "  </guest>\n\n</capabilities>\n",
                         arch, arch);
    ((rpc_string *) call->ret)->text = ret_string (text);
    return TRUE;
}

gboolean serve_conn_node_info (Call *call, GError **error)
{
    rpc_node_info_ret *ret = call->ret;
    struct utsname host;
    const char *arch = uname (&host) == 0 ? host.machine : "x86_64";
    for (guint i = 0; arch[i] && i < G_N_ELEMENTS (ret->model) - 1; i++)
        ret->model[i] = arch[i];
    ret->memory = (guint64) sysconf (_SC_PHYS_PAGES) * (guint64) sysconf (_SC_PAGESIZE) / 1024;
    ret->cpus = ret->cores = g_get_num_processors ();
    ret->nodes = ret->sockets = ret->threads = 1;
    return TRUE;
}

/* A text as this protocol's arrays of char, each in a word of its own. */
static void fill_chars (const char *text, guint *ret_length, int **ret_chars)
{
    *ret_length = strlen (text) + 1;
    *ret_chars = ret_array (*ret_length, sizeof (int));
    for (guint i = 0; i < *ret_length; i++)
        (*ret_chars)[i] = text[i];
}

gboolean serve_conn_security_model (Call *call, GError **error)
{
    rpc_security_model_ret *ret = call->ret;
    fill_chars ("none", &ret->model.model_len, &ret->model.model_val);
    fill_chars ("0", &ret->doi.doi_len, &ret->doi.doi_val);
    return TRUE;
}

gboolean serve_conn_pool_by_path (Call *call, GError **error)
{
    g_autofree char *shown = text_sanitize (((rpc_string *) call->args)->text, 256);
    return rpc_error_set (error, RPC_ERROR_NO_POOL,
                          "Storage pool not found: no storage pool with matching target path '%s'",
                          shown);
}
