/* libvirt's program: what its handlers share. A handler finds its decoded arguments in call->args
 * and fills the zeroed call->ret; table.c has the row of each. */
#pragma once
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/job_stats.h"
#include "remote/peer.h"

/* The guest that a domain means: only its uuid counts. */
typedef struct {
    DriverConn *conn;
    char *name;
    DriverPeek is; /* its state only if the call is tried and it is at hand */
} Target;

/* FALSE also when this peer may not do to it what the row's verb says. From now on the audit line
 * is about it. */
gboolean call_target (Call *call, const rpc_domain *dom, Target *ret, GError **error);
void target_clear (Target *target);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Target, target_clear)
void rpc_domain_fill (rpc_domain *dom, const bak_domain_item *item);
void uuid_to_text (const char *uuid, char *ret_text);       /* 37 bytes */
gboolean uuid_from_text (const char *text, char *ret_uuid); /* 16 bytes; FALSE: zeros */
gboolean call_check_flags (Call *call, guint flags, guint known, GError **error);
void rpc_param_int (rpc_param *param, const char *field, int value);
/* calls-backup.c: statistics as libvirt's clients read them. */
enum { RPC_BLOCK_JOB_BACKUP = 5 };
/* calls-domain.c */
gboolean call_disk (DriverConn *conn, char *name, char *disk, bak_disk_ret *ret, GError **error);
int job_to_params (const bak_job *job, rpc_param *ret_params /* of RPC_PARAMS_MAX */,
                   guint *ret_count);

typedef gboolean CallFunc (Call *call, GError **error);
CallFunc serve_conn_auth_list, serve_conn_feature, serve_conn_open, serve_conn_close,
    serve_conn_type, serve_conn_version, serve_conn_lib_version, serve_conn_hostname,
    serve_conn_uri, serve_conn_capabilities, serve_conn_nothing, serve_not_supported,
    serve_conn_node_info, serve_conn_security_model, serve_conn_pool_by_path, serve_conn_is_secure;
CallFunc serve_domain_list, serve_domain_by_name, serve_domain_by_id, serve_domain_by_uuid,
    serve_domain_get_state, serve_domain_get_info, serve_domain_os_type, serve_domain_get_xml,
    serve_domain_is_active, serve_domain_is_persistent, serve_domain_zero, serve_domain_zero_flags,
    serve_domain_block_info, serve_domain_block_stats, serve_domain_messages, serve_domain_label,
    serve_domain_disk_errors, serve_domain_stats, serve_domain_metadata, serve_domain_freeze,
    serve_domain_thaw;
CallFunc serve_block_job, serve_block_abort, serve_block_speed, serve_block_pull,
    serve_block_rebase, serve_block_commit, serve_block_copy;
CallFunc serve_job_begin, serve_job_xml, serve_job_get_stats, serve_job_get_info, serve_job_abort,
    serve_job_abort_flags, serve_fd_associate;
CallFunc serve_checkpoint_create, serve_checkpoint_get_xml, serve_checkpoint_list,
    serve_checkpoint_children, serve_checkpoint_lookup, serve_checkpoint_parent,
    serve_checkpoint_delete;
CallFunc serve_event_register, serve_event_deregister;
/* One event may be several messages. */
void libvirt_send_event (Server *server, const bak_event *event);
