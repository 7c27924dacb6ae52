/* From what is wanted and what libvirt says of the guest to a list of steps in the qemu driver's
 * form, of which one is the call of libvirt. Pure: nothing is touched. Everything that libvirt's
 * own dialect cannot say is done by another step, or refused naming the feature and the reason. */
#pragma once
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"
#include "driver/libvirt/picture.h"
#include "job/plan.h"
#include "job/checkpoint.h"
#include "job/record.h"

typedef struct {
    const char *job; /* id */
    const char *domain;
    const BackupDef *def;
    const CheckpointDef *checkpoint; /* NULL: none; has a name otherwise */
    const LvPicture *picture;
    GPtrArray *bases;   /* LvCheckpoint*: those that the document names and libvirt has */
    GPtrArray *names;   /* char*: all checkpoints that libvirt has, without provisional ones */
    GPtrArray *records; /* Checkpoint*: what we recorded beside libvirt's checkpoints */
    /* target -> reason: libvirt refused an increment of that disk at a former try; NULL */
    GHashTable *refused;
    /* target -> why the previous backup that its increment is to be laid on is not as it was left;
     * NULL: not looked at */
    GHashTable *touched;
    guint flags; /* BEGIN_* */
    gboolean local;
    const char *job_dir;              /* for a socket of ours; writable for QEMU */
    const char *scratch_dir;          /* NULL: none that could be used without being named */
    const char *target_dir, *tls_dir; /* NULL: not configured */
    guint free_port;
    gulong qemu_version;    /* 7002022 */
    gulong libvirt_version; /* of the library here: 9000000 */
} LvPlanInput;

/* Not pure, so done before: opens the previous backups that increments are to be laid on. */
GHashTable *lv_plan_look_at_backings (const LvPlanInput *input);
Plan *lv_plan_backup (const LvPlanInput *input, GError **error);
/* A checkpoint alone. */
Plan *lv_plan_checkpoint (const LvPlanInput *input, gboolean quiesce, GError **error);
/* Names of the checkpoints that the document starts from (char*, each once); a series gives its
 * newest. */
GPtrArray *lv_plan_bases (const BackupDef *def, GPtrArray *records, GPtrArray *names);
