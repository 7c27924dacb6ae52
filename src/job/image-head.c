#include <string.h>
#include <unistd.h>
#include "job/image-head.h"

enum { HEAD_SIZE = 128, QCOW2_SIZE = 24, QCOW2_CRYPT = 32 };

static const struct {
    const char *format, *magic;
    guint offset, length;
} magics[] = {
    { "qcow2", "QFI\xfb\0\0\0\2", 0, 8 },
    { "qcow2", "QFI\xfb\0\0\0\3", 0, 8 },
    { "qcow", "QFI\xfb\0\0\0\1", 0, 8 },
    { "qed", "QED\0", 0, 4 },
    { "vmdk", "KDMV", 0, 4 },
    { "vmdk", "# Disk DescriptorFile", 0, 21 },
    { "vhdx", "vhdxfile", 0, 8 },
    { "vpc", "conectix", 0, 8 },
    { "vdi", "\x7f\x10\xda\xbe", 64, 4 },
    { "luks", "LUKS\xba\xbe", 0, 6 },
};

static guint64 big_endian (const guchar *bytes, guint length)
{
    guint64 value = 0;
    for (guint i = 0; i < length; i++)
        value = value << 8 | bytes[i];
    return value;
}

gboolean image_head_read (int fd, ImageHead *ret)
{
    guchar head[HEAD_SIZE] = { 0 };
    off_t size = lseek (fd, 0, SEEK_END);
    if (size < 0 || pread (fd, head, sizeof head, 0) < 0)
        return FALSE;
    *ret = (ImageHead){ .format = "raw", .size = size };
    for (guint i = 0; i < G_N_ELEMENTS (magics) && g_str_equal (ret->format, "raw"); i++)
        if (memcmp (head + magics[i].offset, magics[i].magic, magics[i].length) == 0)
            ret->format = magics[i].format;
    gboolean qcow2 = g_str_equal (ret->format, "qcow2");
    if (qcow2)
        ret->size = big_endian (head + QCOW2_SIZE, 8);
    ret->encrypted =
        g_str_equal (ret->format, "luks") || (qcow2 && big_endian (head + QCOW2_CRYPT, 4) != 0);
    return TRUE;
}
