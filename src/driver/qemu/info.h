/* What a guest looks like to the outside; pure functions of what was asked. */
#pragma once
#include "driver/qemu/guest.h"

typedef struct {
    const char *name, *uuid;
    int number; /* id while it runs; -1: off */
    gboolean kvm;
    const char *arch, *machine, *emulator; /* NULL: unknown */
    guint64 memory_kib;
    guint cpus;
    /* files of the two flashes; borrowed; NULL: none */
    const char *loader, *nvram, *nvram_format;
    gboolean loader_writable;
    char *tpm_model, *tpm_backend, *tpm_path; /* NULL */
} InfoDomain;

/* DOMAIN_STATE_* of a query-status text (NULL: a storage daemon, which runs); *ret_reason:
 * libvirt's. */
int info_state (const char *status, int *ret_reason);
/* ret: zeroed. Sizes of files that we see are ours, of others QEMU's. */
void info_disk (const Graph *graph, const GraphDisk *disk, bak_disk *ret);
void info_disks (const Graph *graph, bak_disks_ret *ret);
/* graph NULL: disks has all that is known (a guest that is off). */
char *info_xml (const InfoDomain *domain, const Graph *graph, const bak_disks_ret *disks);
