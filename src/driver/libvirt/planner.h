/* A plan for libvirt in the making; only the files plan*.c see it:
 *
 *   plan.c         the entries; which disks, where the data goes, what libvirt has no word for
 *   plan-since.c   full or incremental
 *   plan-xml.c     libvirt's documents
 *   plan-steps.c   the order of the steps */
#pragma once
#include "driver/libvirt/plan.h"

enum { QEMU_WITHOUT_IOTHREAD_CRASH = 8000000, LIBVIRT_PRESERVE_SHUTDOWN = 11010000 };

typedef struct {
    const LvDisk *disk;
    const BackupDiskDef *def; /* borrowed; NULL: nothing said about it */
    PlanDisk *out;
    gboolean incremental;
    const char *base; /* name of the checkpoint */
    StoreDef *store;  /* target of a push, scratch of a pull */
    gboolean generated;
} Item;

typedef struct {
    const LvPlanInput *in;
    Plan *plan;
    GPtrArray *items; /* Item* */
    gboolean pull;
    gboolean made_here; /* we make the targets, so that their headers never name the live image */
} Planner;

/* plan.c */
void lv_plan_note (Planner *p, const char *format, ...) G_GNUC_PRINTF (2, 3);
gboolean lv_plan_refuse (const char *disk, const char *feature, const char *reason, GError **error);
/* A coarser or finer increment is as exact. */
void lv_note_granularity (Planner *p, const char *disk, guint64 granularity);
JsonArray *lv_images_of_guest (const Planner *p);
gboolean lv_check_increment_target (Planner *p, const Item *item, GError **error);

/* plan-since.c */
const Checkpoint *lv_plan_record (const LvPlanInput *in, const char *name);
const CheckpointDisk *lv_plan_disk_record (const LvPlanInput *in, const char *name,
                                           const char *target);
gboolean lv_wants_increment (Planner *p, const Item *item);
gboolean lv_resolve_incremental (Planner *p, Item *item, GError **error);

/* plan-xml.c */
char *lv_plan_backup_xml (Planner *p);
/* *ret_xml: NULL when no checkpoint is wanted. */
gboolean lv_plan_checkpoint_xml (Planner *p, char **ret_xml, GError **error);

/* plan-steps.c */
Action *lv_thaw_action (void);
void lv_add_freeze (Planner *p);
gboolean lv_plan_push (Planner *p, GError **error);
gboolean lv_plan_pull (Planner *p, GError **error);
