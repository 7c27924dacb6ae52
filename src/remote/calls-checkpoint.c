/* libvirt's program: checkpoints. */
#include <rpc/rpc.h>
#include "remote/table.h"

enum {
    LIST_FLAGS = CHECKPOINT_LIST_ROOTS | CHECKPOINT_LIST_TOPOLOGICAL | CHECKPOINT_LIST_LEAVES
                 | CHECKPOINT_LIST_NO_LEAVES
};

static void checkpoint_fill (rpc_checkpoint *ret, const char *name, const rpc_domain *dom,
                             const char *guest)
{
    ret->name = ret_string (name);
    ret->dom.name = ret_string (guest);
    ret->dom.id = dom->id;
    memcpy (ret->dom.uuid, dom->uuid, sizeof ret->dom.uuid);
}

gboolean serve_checkpoint_create (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_checkpoint_ret made = { 0 };
    if (!call_check_flags (call, args->flags,
                           CHECKPOINT_REDEFINE | CHECKPOINT_QUIESCE | CHECKPOINT_REDEFINE_VALIDATE,
                           error)
        || !call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_checkpoint_create_args arg = { .domain = target.name,
                                       .xml = args->text,
                                       .flags = args->flags };
    if (!call_checkpoint_create (target.conn, &arg, &made, error))
        return FALSE;
    checkpoint_fill (&((rpc_checkpoint_ret *) call->ret)->checkpoint, made.checkpoint.name,
                     &args->dom, target.name);
    call_clear_ret (CALL_ID_checkpoint_create, &made);
    return TRUE;
}

gboolean serve_checkpoint_get_xml (Call *call, GError **error)
{
    const rpc_checkpoint_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_text_ret xml = { 0 };
    if (call->peer->readonly && (args->flags & CHECKPOINT_XML_SECURE))
        return rpc_error_set (
            error, RPC_ERROR_DENIED,
            "operation forbidden: virDomainCheckpointGetXMLDesc with secure flag");
    if (!call_check_flags (call, args->flags,
                           CHECKPOINT_XML_SECURE | CHECKPOINT_XML_NO_DOMAIN | CHECKPOINT_XML_SIZE,
                           error)
        || !call_target (call, &args->checkpoint.dom, &target, error))
        return FALSE;
    bak_checkpoint_arg arg = { .domain = target.name,
                               .name = args->checkpoint.name,
                               .flags = args->flags };
    if (!call_checkpoint_xml (target.conn, &arg, &xml, error))
        return FALSE;
    ((rpc_string *) call->ret)->text = xml.text;
    return TRUE;
}

static void fill_list (const bak_checkpoints_ret *list, gboolean want, const rpc_domain *dom,
                       const char *guest, rpc_checkpoints_ret *ret)
{
    guint count = list->checkpoints.checkpoints_len;
    ret->count = count;
    if (!want)
        return;
    ret->checkpoints.checkpoints_len = count;
    ret->checkpoints.checkpoints_val = ret_array (count, sizeof (rpc_checkpoint));
    for (guint i = 0; i < count; i++)
        checkpoint_fill (&ret->checkpoints.checkpoints_val[i],
                         list->checkpoints.checkpoints_val[i].name, dom, guest);
}

gboolean serve_checkpoint_list (Call *call, GError **error)
{
    const rpc_checkpoint_list_args *args = call->args;
    g_auto (Target) target = { 0 };
    bak_checkpoints_ret list = { 0 };
    if (!call_check_flags (call, args->flags, LIST_FLAGS, error)
        || !call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_domain_arg arg = { .domain = target.name, .flags = args->flags };
    if (!call_checkpoint_list (target.conn, &arg, &list, error))
        return FALSE;
    fill_list (&list, args->need_results, &args->dom, target.name, call->ret);
    call_clear_ret (CALL_ID_checkpoint_list, &list);
    return TRUE;
}

gboolean serve_checkpoint_children (Call *call, GError **error)
{
    const rpc_checkpoint_children_args *args = call->args;
    g_auto (Target) target = { 0 };
    bak_checkpoints_ret list = { 0 };
    if (!call_check_flags (call, args->flags, LIST_FLAGS, error)
        || !call_target (call, &args->checkpoint.dom, &target, error))
        return FALSE;
    bak_checkpoint_arg arg = { .domain = target.name,
                               .name = args->checkpoint.name,
                               .flags = args->flags };
    if (!call_checkpoint_children (target.conn, &arg, &list, error))
        return FALSE;
    fill_list (&list, args->need_results, &args->checkpoint.dom, target.name, call->ret);
    call_clear_ret (CALL_ID_checkpoint_children, &list);
    return TRUE;
}

static gboolean find (const Target *target, char *name, bak_checkpoint_ret *ret, GError **error)
{
    bak_checkpoint_arg arg = { .domain = target->name, .name = name };
    g_autoptr (GError) why = NULL;
    if (call_checkpoint_lookup (target->conn, &arg, ret, &why))
        return TRUE;
    if (g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_CHECKPOINT)) {
        g_autofree char *shown = text_sanitize (name, 256);
        return error_set (error, BAK_ERROR_NO_CHECKPOINT,
                          "no domain checkpoint with matching name '%s'", shown);
    }
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

gboolean serve_checkpoint_lookup (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_checkpoint_ret found = { 0 };
    if (!call_check_flags (call, args->flags, 0, error)
        || !call_target (call, &args->dom, &target, error)
        || !find (&target, args->text, &found, error))
        return FALSE;
    checkpoint_fill (&((rpc_checkpoint_ret *) call->ret)->checkpoint, found.checkpoint.name,
                     &args->dom, target.name);
    call_clear_ret (CALL_ID_checkpoint_lookup, &found);
    return TRUE;
}

gboolean serve_checkpoint_parent (Call *call, GError **error)
{
    const rpc_checkpoint_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_checkpoint_ret found = { 0 };
    if (!call_check_flags (call, args->flags, 0, error)
        || !call_target (call, &args->checkpoint.dom, &target, error)
        || !find (&target, args->checkpoint.name, &found, error))
        return FALSE;
    gboolean has = *found.checkpoint.parent != '\0';
    if (has)
        checkpoint_fill (&((rpc_checkpoint_ret *) call->ret)->checkpoint, found.checkpoint.parent,
                         &args->checkpoint.dom, target.name);
    else
        rpc_error_set (error, RPC_ERROR_NO_CHECKPOINT,
                       "Domain checkpoint not found: checkpoint '%s' does not have a parent",
                       found.checkpoint.name);
    call_clear_ret (CALL_ID_checkpoint_lookup, &found);
    return has;
}

gboolean serve_checkpoint_delete (Call *call, GError **error)
{
    const rpc_checkpoint_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_none none = { 0 };
    if (!call_check_flags (call, args->flags,
                           CHECKPOINT_DELETE_CHILDREN | CHECKPOINT_DELETE_METADATA_ONLY
                               | CHECKPOINT_DELETE_CHILDREN_ONLY,
                           error)
        || !call_target (call, &args->checkpoint.dom, &target, error))
        return FALSE;
    bak_checkpoint_arg arg = { .domain = target.name,
                               .name = args->checkpoint.name,
                               .flags = args->flags };
    return call_checkpoint_delete (target.conn, &arg, &none, error);
}
