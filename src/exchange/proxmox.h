/* What Proxmox calls things. */
#pragma once
#include "repository/manifest.h"

/* Beside an archive: its size and SHA-256, and what its devices hold. */
#define PROXMOX_SIDE_SUFFIX ".sha256.json"

typedef struct {
    char **targets;
    GPtrArray *slots; /* char *, "scsi0", one a target, each once */
} ProxmoxNames;

/* vda is virtio0, sda scsi0, hda ide0; what is a slot already stays; the rest gets a free one. */
ProxmoxNames *proxmox_names_new (const char *const *targets);
void proxmox_names_free (ProxmoxNames *names);
/* "drive-scsi0", "drive-efidisk0" without "drive-"; other names as they are. Caller frees. */
char *proxmox_slot (const char *device);
/* qemu-server.conf: enough for a restore; xml (NULL: not known) tells memory and processors. */
char *proxmox_config (const Manifest *manifest, const ProxmoxNames *names, const char *xml,
                      gboolean uefi);
/* The value of a key; NULL: none. Caller frees. */
char *proxmox_config_get (const char *config, gsize length, const char *key);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ProxmoxNames, proxmox_names_free)
