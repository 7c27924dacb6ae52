/* One row a procedure of libvirt's program 0x20008086. Numbers and shapes are that protocol's. */
#include <rpc/rpc.h>
#include <stddef.h>
#include "remote/table.h"

CODEC (rpc_int)
CODEC (rpc_hyper)
CODEC (rpc_string)
CODEC (rpc_id)
CODEC (rpc_dom)
CODEC (rpc_dom_flags)
CODEC (rpc_dom_text_flags)
CODEC (rpc_auth_list_ret)
CODEC (rpc_open_args)
CODEC (rpc_node_info_ret)
CODEC (rpc_security_model_ret)
CODEC (rpc_list_args)
CODEC (rpc_domains_ret)
CODEC (rpc_state_ret)
CODEC (rpc_info_ret)
CODEC (rpc_block_info_ret)
CODEC (rpc_block_commit_args)
CODEC (rpc_block_copy_args)
CODEC (rpc_block_job_ret)
CODEC (rpc_block_pull_args)
CODEC (rpc_block_rebase_args)
CODEC (rpc_block_stats_args)
CODEC (rpc_block_stats_ret)
CODEC (rpc_messages_ret)
CODEC (rpc_label_ret)
CODEC (rpc_disk_errors_args)
CODEC (rpc_disk_errors_ret)
CODEC (rpc_metadata_args)
CODEC (rpc_stats_args)
CODEC (rpc_stats_ret)
CODEC (rpc_mounts_args)
CODEC (rpc_begin_args)
CODEC (rpc_job_stats_ret)
CODEC (rpc_job_info_ret)
CODEC (rpc_checkpoint_ret)
CODEC (rpc_checkpoint_flags)
CODEC (rpc_checkpoint_list_args)
CODEC (rpc_checkpoint_children_args)
CODEC (rpc_checkpoints_ret)
CODEC (rpc_register_args)

#define ARGS(type) .args_size = sizeof (type), .args_codec = codec_##type
/* The same, with the guest whose calls it waits with. */
#define OF_DOMAIN(type) ARGS (type), .domain = offsetof (type, dom) + 1
#define OF_CHECKPOINT(type) ARGS (type), .domain = offsetof (type, checkpoint.dom) + 1
#define RET(type) .ret_size = sizeof (type), .ret_codec = codec_##type
#define LOOK CALL_READ
#define LOOK_SLOW CALL_READ | CALL_SLOW
#define LOOK_TRY LOOK_SLOW | PROCEDURE_TRY
#define CHANGE CALL_WRITE | CALL_SLOW

/* In the order of their numbers, for the search. The names are libvirt's public functions: they
 * stand in errors. */
static const Procedure rows[] = {
    { 1, "virConnectOpen", LOOK | PROCEDURE_OPEN | PROCEDURE_OPENS, ARGS (rpc_open_args),
      .run = serve_conn_open },
    { 2, "virConnectClose", LOOK | PROCEDURE_OPEN, .run = serve_conn_close },
    { 3, "virConnectGetType", LOOK, RET (rpc_string), .run = serve_conn_type },
    { 4, "virConnectGetVersion", LOOK_SLOW, RET (rpc_hyper), .run = serve_conn_version },
    { 6, "virNodeGetInfo", LOOK, RET (rpc_node_info_ret), .run = serve_conn_node_info },
    { 7, "virConnectGetCapabilities", LOOK, RET (rpc_string), .run = serve_conn_capabilities },
    { 14, "virDomainGetXMLDesc", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_string), .run = serve_domain_get_xml },
    { 15, "virDomainGetAutostart", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom), RET (rpc_int),
      .run = serve_domain_zero },
    { 16, "virDomainGetInfo", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom), RET (rpc_info_ret),
      .run = serve_domain_get_info },
    { 19, "virDomainGetOSType", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom), RET (rpc_string),
      .run = serve_domain_os_type },
    { 22, "virDomainLookupByID", LOOK_SLOW, .verb = VERB_SEE, ARGS (rpc_int), RET (rpc_dom),
      .run = serve_domain_by_id },
    { 23, "virDomainLookupByName", LOOK_TRY, .verb = VERB_SEE, ARGS (rpc_string), RET (rpc_dom),
      .run = serve_domain_by_name },
    { 24, "virDomainLookupByUUID", LOOK_TRY, .verb = VERB_SEE, ARGS (rpc_id), RET (rpc_dom),
      .run = serve_domain_by_uuid },
    { 28, "virDomainResume", CALL_WRITE, .run = serve_not_supported },
    { 34, "virDomainSuspend", CALL_WRITE, .run = serve_not_supported },
    { 59, "virConnectGetHostname", LOOK, RET (rpc_string), .run = serve_conn_hostname },
    { 60, "virConnectSupportsFeature", LOOK | PROCEDURE_OPEN, ARGS (rpc_int), RET (rpc_int),
      .run = serve_conn_feature },
    { 66, "auth list", LOOK | PROCEDURE_OPEN, RET (rpc_auth_list_ret),
      .run = serve_conn_auth_list },
    { 110, "virConnectGetURI", LOOK, RET (rpc_string), .run = serve_conn_uri },
    { 121, "virDomainGetSecurityLabel", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom),
      RET (rpc_label_ret), .run = serve_domain_label },
    { 122, "virNodeGetSecurityModel", LOOK, RET (rpc_security_model_ret),
      .run = serve_conn_security_model },
    { 149, "virConnectIsSecure", LOOK, RET (rpc_int), .run = serve_conn_is_secure },
    { 150, "virDomainIsActive", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom), RET (rpc_int),
      .run = serve_domain_is_active },
    { 151, "virDomainIsPersistent", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom), RET (rpc_int),
      .run = serve_domain_is_persistent },
    { 157, "virConnectGetLibVersion", LOOK, RET (rpc_hyper), .run = serve_conn_lib_version },
    { 163, "virDomainGetJobInfo", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom),
      RET (rpc_job_info_ret), .run = serve_job_get_info },
    { 164, "virDomainAbortJob", CHANGE, .verb = VERB_BACKUP, OF_DOMAIN (rpc_dom),
      .run = serve_job_abort },
    { 183, "virDomainHasManagedSaveImage", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_int), .run = serve_domain_zero_flags },
    { 194, "virDomainGetBlockInfo", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_text_flags),
      RET (rpc_block_info_ret), .run = serve_domain_block_info },
    { 212, "virDomainGetState", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_state_ret), .run = serve_domain_get_state },
    { 237, "virDomainBlockJobAbort", CHANGE, .verb = VERB_BACKUP, OF_DOMAIN (rpc_dom_text_flags),
      .run = serve_block_abort },
    { 238, "virDomainGetBlockJobInfo", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_text_flags),
      RET (rpc_block_job_ret), .run = serve_block_job },
    { 239, "virDomainBlockJobSetSpeed", CHANGE, .verb = VERB_BACKUP,
      OF_DOMAIN (rpc_block_pull_args), .run = serve_block_speed },
    { 240, "virDomainBlockPull", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_block_pull_args),
      .run = serve_block_pull },
    { 243, "virDomainBlockStatsFlags", LOOK_SLOW, .verb = VERB_SEE,
      OF_DOMAIN (rpc_block_stats_args), RET (rpc_block_stats_ret),
      .run = serve_domain_block_stats },
    { 263, "virDomainGetDiskErrors", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_disk_errors_args),
      RET (rpc_disk_errors_ret), .run = serve_domain_disk_errors },
    { 265, "virDomainGetMetadata", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_metadata_args),
      RET (rpc_string), .run = serve_domain_metadata },
    { 266, "virDomainBlockRebase", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_block_rebase_args),
      .run = serve_block_rebase },
    { 273, "virConnectListAllDomains", LOOK_SLOW, ARGS (rpc_list_args), RET (rpc_domains_ret),
      .run = serve_domain_list },
    { 290, "virDomainBlockCommit", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_block_commit_args),
      .run = serve_block_commit },
    { 298, "virDomainGetJobStats", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_job_stats_ret), .run = serve_job_get_stats },
    { 316, "virConnectDomainEventRegisterAny", LOOK, ARGS (rpc_register_args), RET (rpc_int),
      .run = serve_event_register },
    { 317, "virConnectDomainEventDeregisterAny", LOOK, ARGS (rpc_int),
      .run = serve_event_deregister },
    { 335, "virDomainFSFreeze", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_mounts_args),
      RET (rpc_int), .run = serve_domain_freeze },
    { 336, "virDomainFSThaw", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_mounts_args),
      RET (rpc_int), .run = serve_domain_thaw },
    { 344, "virConnectGetAllDomainStats", LOOK_SLOW, ARGS (rpc_stats_args), RET (rpc_stats_ret),
      .run = serve_domain_stats },
    { 345, "virDomainBlockCopy", CHANGE, .verb = VERB_MANAGE, OF_DOMAIN (rpc_block_copy_args),
      .run = serve_block_copy },
    { 349, "virDomainGetFSInfo", CALL_WRITE, .run = serve_not_supported },
    { 350, "virDomainDefineXMLFlags", CALL_WRITE, .run = serve_not_supported },
    { 360, "virConnectRegisterCloseCallback", LOOK, .run = serve_conn_nothing },
    { 361, "virConnectUnregisterCloseCallback", LOOK, .run = serve_conn_nothing },
    { 391, "virStoragePoolLookupByTargetPath", LOOK, ARGS (rpc_string),
      .run = serve_conn_pool_by_path },
    { 411, "virDomainCheckpointCreateXML", CHANGE, .verb = VERB_BACKUP,
      OF_DOMAIN (rpc_dom_text_flags), RET (rpc_checkpoint_ret), .run = serve_checkpoint_create },
    { 412, "virDomainCheckpointGetXMLDesc", LOOK_SLOW, .verb = VERB_SEE,
      OF_CHECKPOINT (rpc_checkpoint_flags), RET (rpc_string), .run = serve_checkpoint_get_xml },
    { 413, "virDomainListAllCheckpoints", LOOK_SLOW, .verb = VERB_SEE,
      OF_DOMAIN (rpc_checkpoint_list_args), RET (rpc_checkpoints_ret),
      .run = serve_checkpoint_list },
    { 414, "virDomainCheckpointListAllChildren", LOOK_SLOW, .verb = VERB_SEE,
      OF_CHECKPOINT (rpc_checkpoint_children_args), RET (rpc_checkpoints_ret),
      .run = serve_checkpoint_children },
    { 415, "virDomainCheckpointLookupByName", LOOK_SLOW, .verb = VERB_SEE,
      OF_DOMAIN (rpc_dom_text_flags), RET (rpc_checkpoint_ret), .run = serve_checkpoint_lookup },
    { 416, "virDomainCheckpointGetParent", LOOK_SLOW, .verb = VERB_SEE,
      OF_CHECKPOINT (rpc_checkpoint_flags), RET (rpc_checkpoint_ret),
      .run = serve_checkpoint_parent },
    { 417, "virDomainCheckpointDelete", CHANGE, .verb = VERB_BACKUP,
      OF_CHECKPOINT (rpc_checkpoint_flags), .run = serve_checkpoint_delete },
    { 421, "virDomainBackupBegin", CHANGE, .verb = VERB_BACKUP, OF_DOMAIN (rpc_begin_args),
      .run = serve_job_begin },
    { 422, "virDomainBackupGetXMLDesc", LOOK_SLOW, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_string), .run = serve_job_xml },
    { 426, "virDomainGetMessages", LOOK_TRY, .verb = VERB_SEE, OF_DOMAIN (rpc_dom_flags),
      RET (rpc_messages_ret), .run = serve_domain_messages },
    { 442, "virDomainAbortJobFlags", CHANGE, .verb = VERB_BACKUP, OF_DOMAIN (rpc_dom_flags),
      .run = serve_job_abort_flags },
    { 443, "virDomainFDAssociate", CHANGE | PROCEDURE_FDS, .verb = VERB_BACKUP,
      OF_DOMAIN (rpc_dom_text_flags), .run = serve_fd_associate },
};

static const Procedure *table_find (gint32 number)
{
    guint low = 0, high = G_N_ELEMENTS (rows);
    while (low < high) {
        guint middle = (low + high) / 2;
        if (rows[middle].number == number)
            return &rows[middle];
        if (rows[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const Program program_libvirt = { .number = PROGRAM_LIBVIRT,
                                  .version = 1,
                                  .find = table_find,
                                  .rows = rows,
                                  .count = G_N_ELEMENTS (rows),
                                  .tell_all = libvirt_send_event };
