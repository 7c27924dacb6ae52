/* The table of commands, in the order of the help. A row lives at the end of its command's own file. */
#include "baksh.h"

#define COMMANDS(C) \
    C (uri) C (version) C (capabilities) C (list) C (discover) \
    C (attach) C (detach) C (dominfo) C (domstate) C (domblklist) C (domblkinfo) C (domfsfreeze) C (domfsthaw) C (dumpxml) \
    C (backup_begin) C (backup_stop) C (backup_info) C (backup_list) C (backup_wait) C (backup_dumpxml) C (backup_limit) \
    C (domjobinfo) C (domjobabort) C (blockjob) \
    C (checkpoint_create) C (checkpoint_create_as) C (checkpoint_list) C (checkpoint_info) C (checkpoint_parent) \
    C (checkpoint_dumpxml) C (checkpoint_edit) C (checkpoint_delete) C (checkpoint_redefine) C (checkpoint_check) \
    C (event) \
    C (help) C (connect) C (quit) C (exit)

#define DECLARE(name) extern const Command cmd_##name;
COMMANDS (DECLARE)

#define ROW(name) &cmd_##name,
const Command *const commands[] = { COMMANDS (ROW) NULL };
