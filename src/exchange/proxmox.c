#include <string.h>
#include "exchange/proxmox.h"

typedef struct {
    const char *letters; /* of the target's name: "vd" in "vda" */
    const char *bus;
    guint count;
} Bus;

static const Bus buses[] = {
    { "sd", "scsi", 31 }, { "vd", "virtio", 16 }, { "hd", "ide", 4 }, { NULL, "sata", 6 }
};

static gboolean is_free (const GPtrArray *slots, const char *slot)
{
    for (guint i = 0; i < slots->len; i++)
        if (g_strcmp0 (slots->pdata[i], slot) == 0)
            return FALSE;
    return TRUE;
}

static char *take (const GPtrArray *slots, const char *bus, guint number)
{
    g_autofree char *slot = g_strdup_printf ("%s%u", bus, number);
    return is_free (slots, slot) ? g_steal_pointer (&slot) : NULL;
}

/* The slot that the name asks for; NULL: none, or it is taken. */
static char *natural_slot (const GPtrArray *slots, const char *target)
{
    for (guint i = 0; i < G_N_ELEMENTS (buses); i++) {
        gsize length = strlen (buses[i].bus);
        if (g_str_has_prefix (target, buses[i].bus) && target[length]) {
            char *end;
            guint64 number = g_ascii_strtoull (target + length, &end, 10);
            if (!*end && number < buses[i].count && g_ascii_isdigit (target[length]))
                return take (slots, buses[i].bus, number);
        }
        if (buses[i].letters && g_str_has_prefix (target, buses[i].letters) && strlen (target) == 3
            && g_ascii_islower (target[2]) && (guint) (target[2] - 'a') < buses[i].count)
            return take (slots, buses[i].bus, target[2] - 'a');
    }
    return NULL;
}

static char *any_slot (const GPtrArray *slots)
{
    for (guint i = 0; i < G_N_ELEMENTS (buses); i++)
        for (guint number = 0; number < buses[i].count; number++) {
            char *slot = take (slots, buses[i].bus, number);
            if (slot)
                return slot;
        }
    return g_strdup_printf ("unused%u", slots->len);
}

/* Those that ask for one first. */
ProxmoxNames *proxmox_names_new (const char *const *targets)
{
    ProxmoxNames *names = g_new0 (ProxmoxNames, 1);
    guint count = g_strv_length ((char **) targets);
    names->targets = g_strdupv ((char **) targets);
    names->slots = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_set_size (names->slots, count);
    for (guint i = 0; i < count; i++)
        names->slots->pdata[i] = natural_slot (names->slots, targets[i]);
    for (guint i = 0; i < count; i++)
        if (!names->slots->pdata[i])
            names->slots->pdata[i] = any_slot (names->slots);
    return names;
}

void proxmox_names_free (ProxmoxNames *names)
{
    if (!names)
        return;
    g_strfreev (names->targets);
    g_ptr_array_unref (names->slots);
    g_free (names);
}

char *proxmox_slot (const char *device)
{
    static const char prefix[] = "drive-", suffix[] = "-backup";
    char *slot = g_strdup (g_str_has_prefix (device, prefix) ? device + strlen (prefix) : device);
    if (g_str_has_suffix (slot, suffix))
        slot[strlen (slot) - strlen (suffix)] = '\0';
    return slot;
}

/* The number that the pattern catches first; 0: none. */
static guint64 find_number (const char *xml, const char *pattern)
{
    g_autoptr (GRegex) regex = g_regex_new (pattern, 0, 0, NULL);
    g_autoptr (GMatchInfo) match = NULL;
    if (!xml || !g_regex_match (regex, xml, 0, &match))
        return 0;
    g_autofree char *text = g_match_info_fetch (match, 1);
    return g_ascii_strtoull (text, NULL, 10);
}

/* A host's name, which is all that Proxmox takes. */
static char *dns_name (const char *name)
{
    char *text = g_strndup (name, 63);
    for (char *c = text; *c; c++)
        if (!g_ascii_isalnum (*c) && *c != '.')
            *c = '-';
    return text;
}

char *proxmox_config (const Manifest *manifest, const ProxmoxNames *names, const char *xml,
                      gboolean uefi)
{
    g_autofree char *name = dns_name (manifest->guest_name);
    GString *text = g_string_new (NULL);
    guint64 kib = find_number (xml, "<memory(?: unit='KiB')?>\\s*([0-9]+)"),
            processors = find_number (xml, "<vcpu[^>]*>\\s*([0-9]+)");
    g_string_append_printf (text, "name: %s\n", name);
    if (kib / 1024)
        g_string_append_printf (text, "memory: %" G_GUINT64_FORMAT "\n", kib / 1024);
    if (processors)
        g_string_append_printf (text, "cores: %" G_GUINT64_FORMAT "\n", processors);
    if (uefi)
        g_string_append (text, "bios: ovmf\nefidisk0: local:vm-100-disk-efi,size=528K\n");
    for (guint i = 0; i < names->slots->len; i++) {
        const ManifestDisk *disk = manifest_find_disk (manifest, names->targets[i]);
        g_string_append_printf (text, "%s: local:vm-100-disk-%u,size=%" G_GUINT64_FORMAT "K\n",
                                (char *) names->slots->pdata[i], i, (disk->size + 1023) / 1024);
    }
    if (uefi)
        g_string_append (text, "#qmdump#map:efidisk0:drive-efidisk0:local:raw:\n");
    for (guint i = 0; i < names->slots->len; i++)
        g_string_append_printf (text, "#qmdump#map:%s:drive-%s:local:raw:\n",
                                (char *) names->slots->pdata[i], (char *) names->slots->pdata[i]);
    return g_string_free (text, FALSE);
}

char *proxmox_config_get (const char *config, gsize length, const char *key)
{
    g_autofree char *text = g_strndup (config, length);
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    g_autofree char *prefix = g_strconcat (key, ":", NULL);
    for (guint i = 0; lines[i]; i++) {
        /* from here on it is of snapshots */
        if (lines[i][0] == '[')
            break;
        if (g_str_has_prefix (lines[i], prefix))
            return g_strdup (g_strstrip (lines[i] + strlen (prefix)));
    }
    return NULL;
}
