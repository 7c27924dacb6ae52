/* The table of commands, in the order of the help. A row lives at the end of its command's own
 * file. */
#include "baksh.h"

/* clang-format off */
#define COMMANDS(C) \
    C (uri) \
    C (version) \
    C (capabilities) \
    C (list) \
    C (discover) \
    C (attach) \
    C (detach) \
    C (dominfo) \
    C (domstate) \
    C (domblklist) \
    C (domblkinfo) \
    C (domfsfreeze) \
    C (domfsthaw) \
    C (dumpxml) \
    C (backup_begin) \
    C (backup_stop) \
    C (backup_info) \
    C (backup_list) \
    C (backup_wait) \
    C (backup_dumpxml) \
    C (backup_limit) \
    C (domjobinfo) \
    C (domjobabort) \
    C (blockjob) \
    C (blockcommit) \
    C (blockcopy) \
    C (blockpull) \
    C (checkpoint_create) \
    C (checkpoint_create_as) \
    C (checkpoint_list) \
    C (checkpoint_info) \
    C (checkpoint_parent) \
    C (checkpoint_dumpxml) \
    C (checkpoint_edit) \
    C (checkpoint_delete) \
    C (checkpoint_redefine) \
    C (checkpoint_check) \
    C (repository_create) \
    C (repository_info) \
    C (repository_list) \
    C (repository_check) \
    C (repository_key_list) \
    C (repository_key_add) \
    C (repository_key_change) \
    C (repository_key_remove) \
    C (point_create) \
    C (point_list) \
    C (point_info) \
    C (point_diff) \
    C (point_verify) \
    C (point_restore) \
    C (point_serve) \
    C (point_pin) \
    C (point_delete) \
    C (point_prune) \
    C (point_copy) \
    C (point_export) \
    C (point_import) \
    C (backup_run) \
    C (backup_report) \
    C (backup_status) \
    C (event) \
    C (help) \
    C (connect) \
    C (echo) \
    C (quit) \
    C (exit)
/* clang-format on */

#define DECLARE(name) extern const Command cmd_##name;
COMMANDS (DECLARE)

#define ROW(name) &cmd_##name,
const Command *const commands[] = { COMMANDS (ROW) NULL };
