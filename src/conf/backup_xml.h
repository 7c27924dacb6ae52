/* <domainbackup>: what the two readers and the writer share. Private to conf. */
#pragma once
#include "conf/backup_def.h"
#include "conf/xml.h"

enum { POWER_MIN = 512 };
#define POWER_MAX (G_GUINT64_CONSTANT (1) << 31)

extern const char *const words_mode[],
    *const words_yes_no[], *const words_fallback[], *const words_sync[],
                                                        *const words_backupmode[],
                                                            *const words_type[],
                                                                *const words_protocol[],
                                                                    *const words_protect[],
                                                                        *const words_transport[],
                                                                            *const words_instant[];

/* Members are at their default when the attribute is absent; choices with a DEFAULT begin at 1. */
extern const XmlAttr limit_attrs[];                            /* guint64 */
extern const XmlAttr guest_attrs[];                            /* BackupDef */
extern const XmlAttr backing_attrs[];                          /* BackupDiskDef */
extern const XmlAttr driver_push_attrs[], driver_pull_attrs[]; /* BackupDiskDef */
/* ServerDef */
const XmlAttr *server_attrs (ServerTransport transport, gboolean generated);

/* By its tokens, before anything is checked; a mix is an error that names one of each. */
gboolean backup_choose_dialect (const xmlNode *root, BackupDialect *ret_dialect, GError **error);
gboolean backup_read_modern (const xmlNode *root, BackupDef *def, GError **error);
gboolean backup_read_2016 (const xmlNode *root, BackupDef *def, GError **error);

/* <disks>, each <disk> by read_disk; node may be NULL. */
typedef gboolean (*ReadDisk) (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                              GError **error);
gboolean backup_read_disks (const xmlNode *node, BackupDef *def, ReadDisk read_disk,
                            GError **error);

/* A <target>, <scratch> or <source> of that type. where: as in xml_read_attrs. */
gboolean store_read (const xmlNode *node, StoreType type, const char *where, StoreDef **ret_store,
                     GError **error);
void store_write (XmlWriter *writer, const char *element, const StoreDef *store);
