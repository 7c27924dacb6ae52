/* libvirt's program: guests and their disks. */
#include <rpc/rpc.h>
#include "remote/table.h"

/* Flags of "list all", in groups of which each that is named must be met. */
enum { LIST_HAS_CHECKPOINT = 1 << 14, LIST_NO_CHECKPOINT = 1 << 15 };
enum { XML_SECURE = 1, XML_INACTIVE = 2 };
enum { NO_METADATA = 80 };
enum {
    STATS_STATE = 1,
    STATS_ENFORCE = 1u << 31,
    STATS_BACKING = 1 << 30,
    STATS_NO_WAIT = 1 << 29
};

void rpc_domain_fill (rpc_domain *dom, const bak_domain_item *item)
{
    dom->name = ret_string (item->name);
    dom->id = item->id;
    uuid_from_text (item->uuid, dom->uuid);
}

gboolean call_check_flags (Call *call, guint flags, guint known, GError **error)
{
    if ((flags & ~known) == 0)
        return TRUE;
    return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                          "invalid argument: unsupported flags (0x%x) in function %s",
                          flags & ~known, call->procedure->name);
}

static gboolean may_use (Call *call, const char *guest, GError **error)
{
    if (peer_may (call->peer, guest, call->procedure->verb))
        return TRUE;
    g_autofree char *shown = text_sanitize (guest, 256);
    return error_set (error, BAK_ERROR_ACCESS_DENIED, "the policy does not let %s %s guest '%s'",
                      call->peer->identity->name, verb_to_string (call->procedure->verb), shown);
}

/* By one of the two, the other is "". */
static gboolean find_guest (Call *call, const char *name, const char *uuid, Target *ret,
                            GError **error)
{
    bak_lookup_args args = { .name = (char *) name, .uuid = (char *) uuid };
    bak_lookup_ret found = { 0 };
    *ret = (Target){ .conn = server_get_conn (call->peer->server), .is.state = -1 };
    if (call->trying) {
        if (!call_peek (call, name, &ret->is, error))
            return FALSE;
        ret->name = g_strdup (name);
        return TRUE;
    }
    if (!call_lookup (ret->conn, &args, &found, error))
        return FALSE;
    ret->name = g_strdup (found.domain.name);
    ret->is.id = found.domain.id;
    g_strlcpy (ret->is.uuid, found.domain.uuid, sizeof ret->is.uuid);
    call_clear_ret (CALL_ID_lookup, &found);
    return TRUE;
}

/* A guest that the peer may not see is answered for as one that is not there. */
static gboolean lookup (Call *call, const char *name, const char *uuid, Target *ret, GError **error)
{
    g_autoptr (GError) why = NULL;
    gboolean found = find_guest (call, name, uuid, ret, &why);
    if (!found && !g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_DOMAIN)) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    if (found && peer_may (call->peer, ret->name, VERB_SEE)) {
        g_free (call->subject);
        call->subject = g_strdup (ret->name);
        return TRUE;
    }
    target_clear (ret);
    g_autofree char *shown = text_sanitize (*name ? name : uuid, 256);
    return rpc_error_set (error, RPC_ERROR_NO_DOMAIN,
                          "Domain not found: no domain with matching %s '%s'",
                          *name ? "name" : "uuid", shown);
}

/* Every call names its guest by uuid, and a driver has to look through all its guests for one; by
 * name it need not. */
static gboolean lookup_uuid (Call *call, const char *uuid, Target *ret, GError **error)
{
    Server *server = call->peer->server;
    g_autofree char *hint = server_name_hint (server, uuid);
    if (hint && lookup (call, hint, "", ret, NULL)) {
        if (g_ascii_strcasecmp (ret->is.uuid, uuid) == 0)
            return TRUE;
        target_clear (ret);
    }
    if (!lookup (call, "", uuid, ret, error))
        return FALSE;
    server_set_name_hint (server, uuid, ret->name);
    return TRUE;
}

gboolean call_target (Call *call, const rpc_domain *dom, Target *ret, GError **error)
{
    char uuid[37];
    uuid_to_text (dom->uuid, uuid);
    if (!lookup_uuid (call, uuid, ret, error))
        return FALSE;
    if (may_use (call, ret->name, error))
        return TRUE;
    target_clear (ret);
    return FALSE;
}

void target_clear (Target *target)
{
    g_clear_pointer (&target->name, g_free);
}

static void ret_target (Call *call, const Target *found)
{
    rpc_domain *dom = &((rpc_dom *) call->ret)->dom;
    dom->name = ret_string (found->name);
    dom->id = found->is.id;
    uuid_from_text (found->is.uuid, dom->uuid);
}

gboolean serve_domain_by_name (Call *call, GError **error)
{
    g_auto (Target) found = { 0 };
    const char *name = ((rpc_string *) call->args)->text;
    if (*name == '\0')
        return rpc_error_set (error, RPC_ERROR_NO_DOMAIN,
                              "Domain not found: no domain with matching name ''");
    if (!lookup (call, name, "", &found, error))
        return FALSE;
    ret_target (call, &found);
    return TRUE;
}

gboolean serve_domain_by_uuid (Call *call, GError **error)
{
    g_auto (Target) found = { 0 };
    char uuid[37];
    uuid_to_text (((rpc_id *) call->args)->uuid, uuid);
    if (!lookup_uuid (call, uuid, &found, error))
        return FALSE;
    ret_target (call, &found);
    return TRUE;
}

gboolean serve_domain_by_id (Call *call, GError **error)
{
    int id = ((rpc_int *) call->args)->value;
    bak_list_args args = { .flags = LIST_ACTIVE };
    bak_list_ret list = { 0 };
    gboolean found = FALSE;
    if (!call_list (server_get_conn (call->peer->server), &args, &list, error))
        return FALSE;
    for (guint i = 0; i < list.domains.domains_len && !found; i++) {
        const bak_domain_item *item = &list.domains.domains_val[i];
        found = item->id == id && id >= 0 && peer_may (call->peer, item->name, VERB_SEE);
        if (found)
            rpc_domain_fill (&((rpc_dom *) call->ret)->dom, item);
    }
    call_clear_ret (CALL_ID_list, &list);
    return found
           || rpc_error_set (error, RPC_ERROR_NO_DOMAIN,
                             "Domain not found: no domain with matching id %d", id);
}

/* Which bits of its group an item has; our guests are persistent, not started by us, without
 * managed save and snapshots. */
static guint list_bits (const bak_domain_item *item)
{
    gboolean active = item->id >= 0;
    guint bits = (active ? 1 : 2) | 4 | 512 | 2048 | 8192
                 | (item->has_checkpoint ? LIST_HAS_CHECKPOINT : LIST_NO_CHECKPOINT);
    switch (item->state) {
    case DOMAIN_STATE_RUNNING: return bits | 16;
    case DOMAIN_STATE_PAUSED: return bits | 32;
    case DOMAIN_STATE_SHUTOFF: return bits | 64;
    default: return bits | 128;
    }
}

static gboolean list_wants (guint flags, const bak_domain_item *item)
{
    static const guint groups[] = { 1 | 2,
                                    4 | 8,
                                    16 | 32 | 64 | 128,
                                    256 | 512,
                                    1024 | 2048,
                                    4096 | 8192,
                                    LIST_HAS_CHECKPOINT | LIST_NO_CHECKPOINT };
    guint bits = list_bits (item);
    for (guint i = 0; i < G_N_ELEMENTS (groups); i++)
        if ((flags & groups[i]) && !(flags & groups[i] & bits))
            return FALSE;
    return TRUE;
}

gboolean serve_domain_list (Call *call, GError **error)
{
    const rpc_list_args *args = call->args;
    rpc_domains_ret *ret = call->ret;
    bak_list_args all = { 0 };
    bak_list_ret list = { 0 };
    if (!call_check_flags (call, args->flags, 0xffff, error)
        || !call_list (server_get_conn (call->peer->server), &all, &list, error))
        return FALSE;
    rpc_domain *domains = ret_array (list.domains.domains_len, sizeof *domains);
    for (guint i = 0; i < list.domains.domains_len; i++) {
        const bak_domain_item *item = &list.domains.domains_val[i];
        if (!list_wants (args->flags, item) || !peer_may (call->peer, item->name, VERB_SEE))
            continue;
        if (args->need_results)
            rpc_domain_fill (&domains[ret->count], item);
        ret->count++;
    }
    ret->domains.domains_val = domains;
    ret->domains.domains_len = args->need_results ? ret->count : 0;
    call_clear_ret (CALL_ID_list, &list);
    return TRUE;
}

gboolean serve_domain_get_state (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    rpc_state_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    if (!call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_domain_arg arg = { .domain = target.name };
    bak_state_ret state = { .state = target.is.state, .reason = target.is.reason };
    call->unknown = call->trying && state.state < 0;
    if (!call->trying && !call_domain_state (target.conn, &arg, &state, error))
        return FALSE;
    ret->state = state.state;
    ret->reason = state.reason;
    return TRUE;
}

gboolean serve_domain_get_info (Call *call, GError **error)
{
    rpc_info_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error))
        return FALSE;
    bak_domain_arg arg = { .domain = target.name };
    bak_domain_info info = { 0 };
    if (!call_domain_info (target.conn, &arg, &info, error))
        return FALSE;
    ret->state = info.item.state;
    ret->max_memory = info.max_memory / 1024;
    ret->memory = info.memory / 1024;
    ret->cpus = info.cpus;
    ret->cpu_time = info.cpu_time;
    call_clear_ret (CALL_ID_domain_info, &info);
    return TRUE;
}

gboolean serve_domain_os_type (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error))
        return FALSE;
    ((rpc_string *) call->ret)->text = ret_string ("hvm");
    return TRUE;
}

gboolean serve_domain_get_xml (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    if (call->peer->readonly && (args->flags & XML_SECURE))
        return rpc_error_set (error, RPC_ERROR_DENIED,
                              "operation forbidden: virDomainGetXMLDesc with secure flag");
    g_auto (Target) target = { 0 };
    if (!call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_domain_arg arg = { .domain = target.name, .flags = args->flags & XML_INACTIVE };
    bak_text_ret xml = { 0 };
    if (!call_domain_xml (target.conn, &arg, &xml, error))
        return FALSE;
    ((rpc_string *) call->ret)->text = xml.text;
    return TRUE;
}

gboolean serve_domain_is_active (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error))
        return FALSE;
    ((rpc_int *) call->ret)->value = target.is.id >= 0;
    return TRUE;
}

gboolean serve_domain_is_persistent (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error))
        return FALSE;
    ((rpc_int *) call->ret)->value = 1; /* attached guests stay known */
    return TRUE;
}

gboolean serve_domain_zero (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error))
        return FALSE;
    return TRUE;
}

gboolean serve_domain_zero_flags (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_dom_flags *) call->args)->dom, &target, error))
        return FALSE;
    return TRUE;
}

gboolean serve_domain_messages (Call *call, GError **error)
{
    return serve_domain_zero_flags (call, error);
}

gboolean serve_domain_label (Call *call, GError **error)
{
    return serve_domain_zero (call, error);
}

gboolean serve_domain_disk_errors (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_disk_errors_args *) call->args)->dom, &target, error))
        return FALSE;
    return TRUE;
}

gboolean serve_domain_metadata (Call *call, GError **error)
{
    g_auto (Target) target = { 0 };
    if (!call_target (call, &((rpc_metadata_args *) call->args)->dom, &target, error))
        return FALSE;
    return rpc_error_set (error, NO_METADATA,
                          "metadata not found: Requested metadata element is not present");
}

/* Takes why. The words of libvirt differ by the call: before and after the name. */
static gboolean no_disk (const char *before, const char *disk, const char *after, GError *why,
                         GError **error)
{
    if (!g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_DISK)) {
        g_propagate_error (error, why);
        return FALSE;
    }
    g_autofree char *shown = text_sanitize (disk, 256);
    g_error_free (why);
    return rpc_error_set (error, RPC_ERROR_INVALID_ARG, "invalid argument: invalid path%s%s%s",
                          before, shown, after);
}

gboolean call_disk (DriverConn *conn, char *name, char *disk, bak_disk_ret *ret, GError **error)
{
    bak_disk_arg arg = { .domain = name, .disk = disk };
    g_autoptr (GError) why = NULL;
    return call_domain_disk (conn, &arg, ret, &why)
           || no_disk (" ", disk, " not assigned to domain", g_steal_pointer (&why), error);
}

gboolean serve_domain_block_info (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    rpc_block_info_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    if (!call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_disk_ret disk = { 0 };
    if (!call_disk (target.conn, target.name, args->text, &disk, error))
        return FALSE;
    *ret = (rpc_block_info_ret){ .allocation = disk.disk.allocation,
                                 .capacity = disk.disk.capacity,
                                 .physical = disk.disk.physical };
    call_clear_ret (CALL_ID_domain_disk, &disk);
    return TRUE;
}

static void rpc_param_long (rpc_param *param, const char *field, gint64 value)
{
    *param =
        (rpc_param){ .field = ret_string (field), .value = { .kind = 3, .rpc_value_u.l = value } };
}

/* Who asks for none is told how many there are. */
gboolean serve_domain_block_stats (Call *call, GError **error)
{
    const rpc_block_stats_args *args = call->args;
    rpc_block_stats_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    g_autoptr (GError) why = NULL;
    bak_block_stats_ret stats = { 0 };
    if (!call_check_flags (call, args->flags, 0, error)
        || !call_target (call, &args->dom, &target, error))
        return FALSE;
    if (target.is.id < 0)
        return rpc_error_set (error, RPC_ERROR_INVALID,
                              "Requested operation is not valid: domain is not running");
    bak_disk_arg arg = { .domain = target.name, .disk = args->path };
    if (!call_domain_block_stats (target.conn, &arg, &stats, &why))
        return no_disk (": ", args->path, "", g_steal_pointer (&why), error);
    const struct {
        const char *field;
        guint64 value;
    } rows[] = {
        { "wr_bytes", stats.wr_bytes },
        { "wr_operations", stats.wr_operations },
        { "rd_bytes", stats.rd_bytes },
        { "rd_operations", stats.rd_operations },
        { "wr_total_times", stats.wr_time },
        { "rd_total_times", stats.rd_time },
        { "flush_operations", stats.flush_operations },
        { "flush_total_times", stats.flush_time },
    };
    if (args->count == 0) {
        ret->count = G_N_ELEMENTS (rows);
        return TRUE;
    }
    ret->params.params_len = MIN ((guint) MAX (args->count, 0), G_N_ELEMENTS (rows));
    ret->params.params_val = ret_array (ret->params.params_len, sizeof (rpc_param));
    for (guint i = 0; i < ret->params.params_len; i++)
        rpc_param_long (&ret->params.params_val[i], rows[i].field, rows[i].value);
    return TRUE;
}

/* The one group of statistics that we know: the state. Flags pick guests as they do for lists. */
gboolean serve_domain_stats (Call *call, GError **error)
{
    const rpc_stats_args *args = call->args;
    rpc_stats_ret *ret = call->ret;
    DriverConn *conn = server_get_conn (call->peer->server);
    bak_list_args all = { 0 };
    bak_list_ret list = { 0 };
    if (!call_check_flags (call, args->flags,
                           0xffff | STATS_ENFORCE | STATS_BACKING | STATS_NO_WAIT, error))
        return FALSE;
    if ((args->flags & STATS_ENFORCE) && (args->stats & ~STATS_STATE))
        return rpc_error_set (
            error, RPC_ERROR_ARGUMENT,
            "argument unsupported: Stats types bits 0x%x are not supported by this daemon",
            args->stats & ~STATS_STATE);
    if (!call_list (conn, &all, &list, error))
        return FALSE;
    ret->records.records_val = ret_array (list.domains.domains_len, sizeof (rpc_stats_record));
    for (guint i = 0; i < list.domains.domains_len; i++) {
        const bak_domain_item *item = &list.domains.domains_val[i];
        char uuid[RPC_UUID_SIZE];
        gboolean wanted = args->domains.domains_len == 0;
        uuid_from_text (item->uuid, uuid);
        for (guint k = 0; k < args->domains.domains_len && !wanted; k++)
            wanted = memcmp (args->domains.domains_val[k].uuid, uuid, sizeof uuid) == 0;
        if (!wanted || !list_wants (args->flags, item)
            || !peer_may (call->peer, item->name, VERB_SEE))
            continue;
        rpc_stats_record *record = &ret->records.records_val[ret->records.records_len++];
        rpc_domain_fill (&record->dom, item);
        if (args->stats != 0 && !(args->stats & STATS_STATE))
            continue;
        record->params.params_val = ret_array (2, sizeof (rpc_param));
        record->params.params_len = 2;
        rpc_param_int (&record->params.params_val[0], "state.state", item->state);
        rpc_param_int (&record->params.params_val[1], "state.reason",
                       item->state == DOMAIN_STATE_RUNNING ? 1 : 0);
    }
    call_clear_ret (CALL_ID_list, &list);
    return TRUE;
}

static gboolean freeze_or_thaw (Call *call, CallId id, GError **error)
{
    const rpc_mounts_args *args = call->args;
    g_auto (Target) target = { 0 };
    if (!call_target (call, &args->dom, &target, error))
        return FALSE;
    if (!call_check_flags (call, args->flags, 0, error))
        return FALSE;
    bak_mounts_args arg = { .domain = target.name };
    bak_count_ret count = { 0 };
    arg.mounts.mounts_len = args->mounts.mounts_len;
    arg.mounts.mounts_val = args->mounts.mounts_val;
    if (!driver_call (target.conn, id, &arg, &count, error))
        return FALSE;
    ((rpc_int *) call->ret)->value = count.count;
    return TRUE;
}

gboolean serve_domain_freeze (Call *call, GError **error)
{
    return freeze_or_thaw (call, CALL_ID_fs_freeze, error);
}

gboolean serve_domain_thaw (Call *call, GError **error)
{
    return freeze_or_thaw (call, CALL_ID_fs_thaw, error);
}
