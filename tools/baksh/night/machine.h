/* The machine that a point is booted on: what its definition and its command line say, without all
 * that reaches out of it. */
#pragma once
#include "../baksh.h"

typedef struct {
    char *target, *bus, *serial;
} MachineDisk;

typedef struct {
    char *arch, *type;              /* "x86_64"; "pc", "q35", "virt"; NULL: QEMU's own */
    char *kernel, *initrd, *append; /* NULL: it boots from its disks */
    char *firmware;                 /* a file to be read only; NULL */
    gboolean firmware_is_flash;     /* as a flash device, else by -bios */
    char *variables;                /* a copy that may be written; NULL */
    guint64 memory;                 /* MiB; 0: not known */
    guint cpus;
    GPtrArray *disks; /* MachineDisk* */
} Machine;

/* Of a point's directory. NULL: *ret_why, which the caller frees. */
Machine *machine_read (const char *dir, char **ret_why);
void machine_free (Machine *machine);
/* It says more of the machine than the disks that it has: it was made while the guest ran. */
gboolean machine_is_known (const Machine *machine);
/* The words of QEMU's command line, but what runs its processors; the disks are exports at socket.
 */
GPtrArray *machine_words (const Machine *machine, const char *program, guint64 memory,
                          const char *socket);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Machine, machine_free)
