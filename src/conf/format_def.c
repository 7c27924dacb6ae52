#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/format_def.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define GIB (G_GUINT64_CONSTANT (1) << 30)
#define TIB (G_GUINT64_CONSTANT (1) << 40)

enum {
    CLUSTER_DEFAULT = 65536,
    ENTRY = 8,
    ENTRY_EXTENDED = 16,
    /* qcow2 has at most 32 MiB of its first table, qed four clusters of each of its two */
    QCOW2_L1_ENTRIES = 32 * 1024 * 1024 / 8,
    QED_TABLE_CLUSTERS = 4,
};

const char *const words_compat[] = { "0.10", "1.1", NULL };
const char *const words_preallocation[] = { "off", "metadata", "falloc", NULL };
const char *const words_subformat[] = { "dynamic", "fixed", "monolithicSparse", "streamOptimized",
                                        NULL };

static const char *const dynamic_fixed[] = { "dynamic", "fixed", NULL };
static const char *const vmdk_subformats[] = { "monolithicSparse", "streamOptimized", NULL };

#define CANNOT_WRITE N_("QEMU reads it and does not write it")
#define OLD_FORMAT N_("QEMU keeps it for old images only; use qcow2")
#define NO_IMAGE N_("it is no format of a disk image")

static const FormatDef formats[] = {
    { "raw", 0, .sparse = TRUE, .proves_flush = TRUE },
    { "qcow2",
      FORMAT_CLUSTER_SIZE | FORMAT_COMPRESSION | FORMAT_COMPAT | FORMAT_EXTENDED_L2
          | FORMAT_PREALLOCATION,
      .sparse = TRUE, .proves_flush = TRUE, .tells_changes = TRUE },
    { "vhdx", FORMAT_SUBFORMAT, dynamic_fixed, .max = 64 * TIB, .proves_flush = TRUE,
      .loses_parts = TRUE },
    { "vmdk", FORMAT_SUBFORMAT, vmdk_subformats, .cluster = CLUSTER_DEFAULT, .proves_flush = TRUE },
    { "vdi", FORMAT_PREALLOCATION, .cluster = MIB, .max = G_GUINT64_CONSTANT (0x1fffff8000000),
      .proves_flush = TRUE },
    { "vpc", FORMAT_SUBFORMAT, dynamic_fixed, .cluster = 2 * MIB, .max = 2040 * GIB,
      .proves_flush = TRUE },
    { "qed", FORMAT_CLUSTER_SIZE, .sparse = TRUE, .proves_flush = TRUE },
    { "parallels", FORMAT_CLUSTER_SIZE, .cluster = MIB },
    { "luks", 0, .proves_flush = TRUE },
    { "qcow", .refused = OLD_FORMAT },
    { "vhd", .refused = N_("QEMU calls this format vpc") },
    { "ploop", .refused = N_("QEMU calls this format parallels") },
    { "cow", .refused = OLD_FORMAT },
    { "bochs", .refused = CANNOT_WRITE },
    { "cloop", .refused = CANNOT_WRITE },
    { "dmg", .refused = CANNOT_WRITE },
    { "iso", .refused = NO_IMAGE },
    { "fat", .refused = NO_IMAGE },
    { "dir", .refused = NO_IMAGE },
};

static const struct {
    FormatOption option;
    const char *name;
} options[] = {
    { FORMAT_CLUSTER_SIZE, "cluster_size" },
    { FORMAT_COMPRESSION, "compression" },
    { FORMAT_COMPAT, "compat" },
    { FORMAT_EXTENDED_L2, "extended_l2" },
    { FORMAT_PREALLOCATION, "preallocation" },
    { FORMAT_SUBFORMAT, "subformat" },
};

const FormatDef *format_def_find (const char *name)
{
    for (guint i = 0; name && i < G_N_ELEMENTS (formats); i++)
        if (g_str_equal (name, formats[i].name))
            return &formats[i];
    return NULL;
}

char *format_def_names (void)
{
    GString *names = g_string_new (NULL);

    for (guint i = 0; i < G_N_ELEMENTS (formats); i++)
        if (!formats[i].refused)
            g_string_append_printf (names, "%s%s", names->len ? ", " : "", formats[i].name);
    return g_string_free (names, FALSE);
}

const char *format_option_to_string (FormatOption option)
{
    for (guint i = 0; i < G_N_ELEMENTS (options); i++)
        if (options[i].option == option)
            return options[i].name;
    return NULL;
}

/* Two tables, the first of a fixed length, each of whose entries is a table of one cluster. */
static guint64 qcow2_max (guint64 cluster, gboolean extended_l2)
{
    guint64 entries = cluster / (extended_l2 ? ENTRY_EXTENDED : ENTRY);

    return entries > G_MAXINT64 / cluster / QCOW2_L1_ENTRIES ? 0
                                                             : QCOW2_L1_ENTRIES * entries * cluster;
}

static guint64 qed_max (guint64 cluster)
{
    guint64 entries = cluster * QED_TABLE_CLUSTERS / ENTRY;

    return entries > G_MAXINT64 / cluster / entries ? 0 : entries * entries * cluster;
}

guint64 format_def_max (const FormatDef *format, guint64 cluster_size, gboolean extended_l2)
{
    guint64 cluster = cluster_size ? cluster_size : CLUSTER_DEFAULT;

    if (g_str_equal (format->name, "qcow2"))
        return qcow2_max (cluster, extended_l2);
    if (g_str_equal (format->name, "qed"))
        return qed_max (cluster);
    return format->max;
}

static guint64 vhdx_block (guint64 size)
{
    return size > 32 * TIB    ? 64 * MIB
           : size > 100 * GIB ? 32 * MIB
           : size > GIB       ? 16 * MIB
                              : 8 * MIB;
}

guint64 format_def_cluster (const FormatDef *format, guint64 size, guint64 cluster_size)
{
    if (g_str_equal (format->name, "vhdx"))
        return vhdx_block (size);
    if (cluster_size || format->cluster)
        return cluster_size ? cluster_size : format->cluster;
    return format->options & FORMAT_CLUSTER_SIZE ? CLUSTER_DEFAULT : 0;
}
