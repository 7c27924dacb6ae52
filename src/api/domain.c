#include <stdlib.h>
#include <string.h>
#include "api/api.h"

BakDomain *domain_new (BakConnection *conn, const bak_domain_item *item)
{
    BakDomain *domain = g_new0 (BakDomain, 1);
    g_atomic_ref_count_init (&domain->refs);
    domain->conn = bak_connection_ref (conn);
    domain->name = g_strdup (item->name);
    domain->uuid = g_strdup (item->uuid);
    domain->id = item->id;
    domain->state = item->state;
    domain->has_checkpoint = item->has_checkpoint;
    return domain;
}

static void domain_destroy (BakDomain *domain)
{
    bak_connection_unref (domain->conn);
    g_free (domain->name);
    g_free (domain->uuid);
    g_free (domain);
}

HANDLE (BakDomain, domain, domain_destroy)

static BakDomain *lookup (BakConnection *conn, const char *name, const char *uuid, BakError **error)
{
    bak_lookup_args args = { .name = (char *) name, .uuid = (char *) uuid };
    g_autoptr (Result) result = result_call (conn, CALL_ID_lookup, &args, error);
    return result ? domain_new (conn, &((bak_lookup_ret *) result->ret)->domain) : NULL;
}

BakDomain *bak_domain_lookup_by_name (BakConnection *conn, const char *name, BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    API_NOT_NULL (name, error, NULL);
    API_TEXT (name, BAK_NAME_MAX, error, NULL);
    return lookup (conn, name, "", error);
}

BakDomain *bak_domain_lookup_by_uuid_string (BakConnection *conn, const char *uuid,
                                             BakError **error)
{
    API_NOT_NULL (conn, error, NULL);
    API_NOT_NULL (uuid, error, NULL);
    if (!g_uuid_string_is_valid (uuid)) {
        g_autofree char *shown = text_sanitize (uuid, 64);
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' is not a UUID"), shown);
        return NULL;
    }
    g_autofree char *lower = g_ascii_strdown (uuid, -1);
    return lookup (conn, "", lower, error);
}

const char *bak_domain_get_name (const BakDomain *domain)
{
    return domain ? domain->name : NULL;
}

const char *bak_domain_get_uuid_string (const BakDomain *domain)
{
    return domain ? domain->uuid : NULL;
}

int bak_domain_get_id (const BakDomain *domain)
{
    return domain ? domain->id : -1;
}

BakDomainState bak_domain_get_last_state (const BakDomain *domain)
{
    return domain ? (BakDomainState) domain->state : BAK_DOMAIN_NOSTATE;
}

BakConnection *bak_domain_get_connection (const BakDomain *domain)
{
    return domain ? domain->conn : NULL;
}

int bak_domain_has_checkpoints (const BakDomain *domain)
{
    return domain && domain->has_checkpoint;
}

int bak_domain_get_state (BakDomain *domain, int *state, int *reason, unsigned int flags,
                          BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (state, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_domain_arg args = { .domain = domain->name };
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_domain_state, &args, error);
    if (!result)
        return -1;
    *state = ((bak_state_ret *) result->ret)->state;
    if (reason)
        *reason = ((bak_state_ret *) result->ret)->reason;
    return 0;
}

int bak_domain_get_info (BakDomain *domain, BakDomainInfo *info, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (info, error, -1);
    BakDomainDetails *details = bak_domain_get_details (domain, 0, error);
    if (!details)
        return -1;
    *info = (BakDomainInfo){
        .state = details->data->item.state,
        .max_mem = details->data->max_memory / 1024,
        .memory = details->data->memory / 1024,
        .nr_virt_cpu = details->data->cpus,
        .cpu_time = details->data->cpu_time,
    };
    bak_domain_details_unref (details);
    return 0;
}

BakDomainDetails *bak_domain_get_details (BakDomain *domain, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_domain_arg args = { .domain = domain->name };
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_domain_info, &args, error);
    return result ? snapshot_new (result, result->ret) : NULL;
}

char *bak_domain_get_xml_desc (BakDomain *domain, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_domain_arg args = { .domain = domain->name };
    return api_call_text (domain->conn, CALL_ID_domain_xml, &args, error);
}

int bak_domain_list_disks (BakDomain *domain, BakDisk ***disks, unsigned int flags,
                           BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_domain_arg args = { .domain = domain->name };
    Result *result = result_call (domain->conn, CALL_ID_domain_disks, &args, error);
    if (!result)
        return -1;
    bak_disks_ret *ret = result->ret;
    return snapshot_list (result, ret->disks.disks_val, ret->disks.disks_len, sizeof (bak_disk),
                          disks);
}

BakDisk *bak_domain_lookup_disk (BakDomain *domain, const char *disk, unsigned int flags,
                                 BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (disk, error, NULL);
    API_TEXT (disk, BAK_PATH_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_disk_arg args = { .domain = domain->name, .disk = (char *) disk };
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_domain_disk, &args, error);
    return result ? snapshot_new (result, &((bak_disk_ret *) result->ret)->disk) : NULL;
}

char *bak_domain_get_chain (BakDomain *domain, const char *disk, unsigned int flags,
                            BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (disk, error, NULL);
    API_TEXT (disk, BAK_PATH_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_disk_arg args = { .domain = domain->name, .disk = (char *) disk };
    return api_call_text (domain->conn, CALL_ID_domain_chain, &args, error);
}

int bak_domain_get_block_info (BakDomain *domain, const char *disk, BakDomainBlockInfo *info,
                               unsigned int flags, BakError **error)
{
    API_NOT_NULL (info, error, -1);
    BakDisk *found = bak_domain_lookup_disk (domain, disk, flags, error);
    if (!found)
        return -1;
    *info = (BakDomainBlockInfo){ found->data->capacity, found->data->allocation,
                                  found->data->physical };
    bak_disk_unref (found);
    return 0;
}

static int freeze_or_thaw (CallId id, const char *function, BakDomain *domain,
                           const char **mountpoints, unsigned int n_mountpoints, BakError **error)
{
    if (n_mountpoints > BAK_MOUNTS_MAX || (n_mountpoints && !mountpoints)) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT,
                       _("mountpoints in %s: expected at most %d"), function, BAK_MOUNTS_MAX);
        return -1;
    }
    for (unsigned int i = 0; i < n_mountpoints; i++)
        if (!mountpoints[i])
            return api_refuse_null ("mountpoints[i]", function, error), -1;
        else if (!api_check_text (mountpoints[i], BAK_PATH_MAX, "mountpoints", function, error))
            return -1;
    bak_mounts_args args = { .domain = domain->name,
                             .mounts = { n_mountpoints, (char **) mountpoints } };
    g_autoptr (Result) result = result_call (domain->conn, id, &args, error);
    return result ? ((bak_count_ret *) result->ret)->count : -1;
}

int bak_domain_fs_freeze (BakDomain *domain, const char **mountpoints, unsigned int n_mountpoints,
                          unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    return freeze_or_thaw (CALL_ID_fs_freeze, __func__, domain, mountpoints, n_mountpoints, error);
}

int bak_domain_fs_thaw (BakDomain *domain, const char **mountpoints, unsigned int n_mountpoints,
                        unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    return freeze_or_thaw (CALL_ID_fs_thaw, __func__, domain, mountpoints, n_mountpoints, error);
}

int bak_domain_detach (BakDomain *domain, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_domain_arg args = { .domain = domain->name };
    return api_call (domain->conn, CALL_ID_detach, &args, error);
}

HANDLE (BakDomainDetails, domain_details, snapshot_free)
GET_NUMBER (int, bak_domain_details_get_state, BakDomainDetails, item.state)
GET_TEXT (bak_domain_details_get_qemu_version, BakDomainDetails, qemu_version)
GET_NUMBER (unsigned long long, bak_domain_details_get_max_memory, BakDomainDetails, max_memory)
GET_NUMBER (unsigned long long, bak_domain_details_get_memory, BakDomainDetails, memory)
GET_NUMBER (unsigned int, bak_domain_details_get_cpus, BakDomainDetails, cpus)
GET_NUMBER (unsigned long long, bak_domain_details_get_cpu_time, BakDomainDetails, cpu_time)
GET_NUMBER (long long, bak_domain_details_get_pid, BakDomainDetails, pid)
GET_TEXT (bak_domain_details_get_qmp, BakDomainDetails, qmp)
GET_TEXT (bak_domain_details_get_agent, BakDomainDetails, agent)
GET_NUMBER (int, bak_domain_details_is_persistent, BakDomainDetails, persistent)
GET_NUMBER (int, bak_domain_details_is_by_images, BakDomainDetails, images)
GET_TEXT (bak_domain_details_get_job, BakDomainDetails, job)
GET_NUMBER (unsigned int, bak_domain_details_get_n_notes, BakDomainDetails, notes.notes_len)
GET_ITEM (bak_domain_details_get_note, BakDomainDetails, notes)

HANDLE (BakDisk, disk, snapshot_free)
GET_TEXT (bak_disk_get_target, BakDisk, target)
GET_NUMBER (unsigned int, bak_disk_get_n_names, BakDisk, names.names_len)
GET_ITEM (bak_disk_get_name, BakDisk, names)
GET_TEXT (bak_disk_get_node, BakDisk, node)
GET_TEXT (bak_disk_get_source, BakDisk, source)
GET_TEXT (bak_disk_get_type, BakDisk, type)
GET_TEXT (bak_disk_get_device, BakDisk, device)
GET_TEXT (bak_disk_get_format, BakDisk, format)
GET_TEXT (bak_disk_get_bus, BakDisk, bus)
GET_TEXT (bak_disk_get_iothread, BakDisk, iothread)
GET_NUMBER (unsigned long long, bak_disk_get_capacity, BakDisk, capacity)
GET_NUMBER (unsigned long long, bak_disk_get_allocation, BakDisk, allocation)
GET_NUMBER (unsigned long long, bak_disk_get_physical, BakDisk, physical)
GET_NUMBER (unsigned int, bak_disk_get_depth, BakDisk, depth)
GET_TEXT (bak_disk_get_note, BakDisk, note)

unsigned int bak_disk_get_flags (const BakDisk *disk)
{
    if (!disk)
        return 0;
    return (disk->data->readonly ? BAK_DISK_READ_ONLY : 0)
           | (disk->data->empty ? BAK_DISK_EMPTY : 0)
           | (disk->data->removable ? BAK_DISK_REMOVABLE : 0)
           | (disk->data->selected ? BAK_DISK_SELECTED : 0);
}
