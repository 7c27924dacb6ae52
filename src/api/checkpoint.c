#include "api/api.h"

enum {
    LIST_FLAGS = BAK_DOMAIN_CHECKPOINT_LIST_ROOTS | BAK_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL
                 | BAK_DOMAIN_CHECKPOINT_LIST_LEAVES | BAK_DOMAIN_CHECKPOINT_LIST_NO_LEAVES
};

static BakCheckpoint *checkpoint_handle (BakDomain *domain, Result *result,
                                         const bak_checkpoint_item *item)
{
    BakCheckpoint *checkpoint = g_new0 (BakCheckpoint, 1);
    g_atomic_ref_count_init (&checkpoint->refs);
    checkpoint->domain = bak_domain_ref (domain);
    checkpoint->result = result_ref (result);
    checkpoint->data = item;
    return checkpoint;
}

static void checkpoint_destroy (BakCheckpoint *checkpoint)
{
    bak_domain_unref (checkpoint->domain);
    result_unref (checkpoint->result);
    g_free (checkpoint);
}

HANDLE (BakCheckpoint, domain_checkpoint, checkpoint_destroy)

static BakCheckpoint *call_for_one (BakDomain *domain, CallId id, const void *args,
                                    BakError **error)
{
    g_autoptr (Result) result = result_call (domain->conn, id, args, error);
    return result ? checkpoint_handle (domain, result,
                                       &((bak_checkpoint_ret *) result->ret)->checkpoint)
                  : NULL;
}

static int call_for_many (BakDomain *domain, CallId id, const void *args,
                          BakCheckpoint ***checkpoints, BakError **error)
{
    g_autoptr (Result) result = result_call (domain->conn, id, args, error);
    if (!result)
        return -1;
    const bak_checkpoints_ret *ret = result->ret;
    guint n = ret->checkpoints.checkpoints_len;
    if (checkpoints) {
        *checkpoints = g_new0 (BakCheckpoint *, n + 1);
        for (guint i = 0; i < n; i++)
            (*checkpoints)[i] =
                checkpoint_handle (domain, result, &ret->checkpoints.checkpoints_val[i]);
    }
    return n;
}

static gboolean exclusive (unsigned int flags, unsigned int both, const char *names,
                           BakError **error)
{
    if ((flags & both) != both)
        return TRUE;
    api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("flags %s are mutually exclusive"), names);
    return FALSE;
}

BakCheckpoint *bak_domain_checkpoint_create_xml (BakDomain *domain, const char *xml,
                                                 unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (xml, error, NULL);
    API_TEXT (xml, BAK_TEXT_MAX, error, NULL);
    API_FLAGS (flags,
               BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE | BAK_DOMAIN_CHECKPOINT_CREATE_QUIESCE
                   | BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE,
               error, NULL);
    if (!exclusive (flags,
                    BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE | BAK_DOMAIN_CHECKPOINT_CREATE_QUIESCE,
                    "REDEFINE, QUIESCE", error))
        return NULL;
    if ((flags & BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE)
        && !(flags & BAK_DOMAIN_CHECKPOINT_CREATE_REDEFINE)) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("flag %s is required by flag %s"),
                       "REDEFINE", "REDEFINE_VALIDATE");
        return NULL;
    }
    bak_checkpoint_create_args args = { .domain = domain->name,
                                        .xml = (char *) xml,
                                        .flags = flags };
    return call_for_one (domain, CALL_ID_checkpoint_create, &args, error);
}

char *bak_domain_checkpoint_get_xml_desc (BakCheckpoint *checkpoint, unsigned int flags,
                                          BakError **error)
{
    API_NOT_NULL (checkpoint, error, NULL);
    API_FLAGS (flags,
               BAK_DOMAIN_CHECKPOINT_XML_SECURE | BAK_DOMAIN_CHECKPOINT_XML_NO_DOMAIN
                   | BAK_DOMAIN_CHECKPOINT_XML_SIZE,
               error, NULL);
    BakDomain *domain = checkpoint->domain;
    bak_checkpoint_arg args = { .domain = domain->name,
                                .name = checkpoint->data->name,
                                .flags = flags };
    return api_call_text (domain->conn, CALL_ID_checkpoint_xml, &args, error);
}

int bak_domain_list_all_checkpoints (BakDomain *domain, BakCheckpoint ***checkpoints,
                                     unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, LIST_FLAGS, error, -1);
    if (!exclusive (flags, BAK_DOMAIN_CHECKPOINT_LIST_LEAVES | BAK_DOMAIN_CHECKPOINT_LIST_NO_LEAVES,
                    "LEAVES, NO_LEAVES", error))
        return -1;
    bak_domain_arg args = { .domain = domain->name, .flags = flags };
    return call_for_many (domain, CALL_ID_checkpoint_list, &args, checkpoints, error);
}

int bak_domain_checkpoint_list_all_children (BakCheckpoint *checkpoint, BakCheckpoint ***children,
                                             unsigned int flags, BakError **error)
{
    API_NOT_NULL (checkpoint, error, -1);
    API_FLAGS (flags, LIST_FLAGS, error, -1);
    if (!exclusive (flags, BAK_DOMAIN_CHECKPOINT_LIST_LEAVES | BAK_DOMAIN_CHECKPOINT_LIST_NO_LEAVES,
                    "LEAVES, NO_LEAVES", error))
        return -1;
    BakDomain *domain = checkpoint->domain;
    bak_checkpoint_arg args = { .domain = domain->name,
                                .name = checkpoint->data->name,
                                .flags = flags };
    return call_for_many (domain, CALL_ID_checkpoint_children, &args, children, error);
}

BakCheckpoint *bak_domain_checkpoint_lookup_by_name (BakDomain *domain, const char *name,
                                                     unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (name, error, NULL);
    API_TEXT (name, BAK_NAME_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_checkpoint_arg args = { .domain = domain->name, .name = (char *) name };
    return call_for_one (domain, CALL_ID_checkpoint_lookup, &args, error);
}

BakCheckpoint *bak_domain_checkpoint_get_parent (BakCheckpoint *checkpoint, unsigned int flags,
                                                 BakError **error)
{
    API_NOT_NULL (checkpoint, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    const char *parent = bak_domain_checkpoint_get_parent_name (checkpoint);
    if (!parent) {
        api_set_error (error, BAK_ERROR_NO_CHECKPOINT, _("checkpoint '%s' does not have a parent"),
                       checkpoint->data->name);
        return NULL;
    }
    return bak_domain_checkpoint_lookup_by_name (checkpoint->domain, parent, 0, error);
}

int bak_domain_checkpoint_delete (BakCheckpoint *checkpoint, unsigned int flags, BakError **error)
{
    API_NOT_NULL (checkpoint, error, -1);
    API_FLAGS (flags,
               BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN | BAK_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY
                   | BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY,
               error, -1);
    if (!exclusive (flags,
                    BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN
                        | BAK_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY,
                    "CHILDREN, CHILDREN_ONLY", error))
        return -1;
    BakDomain *domain = checkpoint->domain;
    bak_checkpoint_arg args = { .domain = domain->name,
                                .name = checkpoint->data->name,
                                .flags = flags };
    return api_call (domain->conn, CALL_ID_checkpoint_delete, &args, error);
}

int bak_domain_checkpoint_check (BakDomain *domain, const char **names, unsigned int n_names,
                                 BakFinding ***findings, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, BAK_DOMAIN_CHECKPOINT_CHECK_REPAIR, error, -1);
    if (n_names > BAK_NAMES_MAX || (n_names && !names)) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("names in %s: expected at most %d"),
                       __func__, BAK_NAMES_MAX);
        return -1;
    }
    for (unsigned int i = 0; i < n_names; i++) {
        API_NOT_NULL (names[i], error, -1);
        API_TEXT (names[i], BAK_NAME_MAX, error, -1);
    }
    bak_check_args args = { .domain = domain->name,
                            .flags = flags,
                            .names = { n_names, (char **) names } };
    Result *result = result_call (domain->conn, CALL_ID_checkpoint_check, &args, error);
    if (!result)
        return -1;
    bak_check_ret *ret = result->ret;
    return snapshot_list (result, ret->findings.findings_val, ret->findings.findings_len,
                          sizeof (bak_finding), findings);
}

GET_TEXT (bak_domain_checkpoint_get_name, BakCheckpoint, name)
GET_TEXT (bak_domain_checkpoint_get_parent_name, BakCheckpoint, parent)
GET_NUMBER (unsigned int, bak_domain_checkpoint_get_n_children, BakCheckpoint, children)
GET_TEXT (bak_domain_checkpoint_get_note, BakCheckpoint, note)

BakDomain *bak_domain_checkpoint_get_domain (const BakCheckpoint *checkpoint)
{
    return checkpoint ? checkpoint->domain : NULL;
}

BakConnection *bak_domain_checkpoint_get_connection (const BakCheckpoint *checkpoint)
{
    return checkpoint ? checkpoint->domain->conn : NULL;
}

long long bak_domain_checkpoint_get_created (const BakCheckpoint *checkpoint)
{
    return checkpoint ? checkpoint->data->created * G_USEC_PER_SEC : 0;
}

HANDLE (BakFinding, finding, snapshot_free)
GET_TEXT (bak_finding_get_kind, BakFinding, kind)
GET_TEXT (bak_finding_get_disk, BakFinding, disk)
GET_TEXT (bak_finding_get_bitmap, BakFinding, bitmap)
GET_TEXT (bak_finding_get_meaning, BakFinding, meaning)
GET_TEXT (bak_finding_get_repair, BakFinding, repair)
GET_NUMBER (int, bak_finding_is_repaired, BakFinding, repaired)
