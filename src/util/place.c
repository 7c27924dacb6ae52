#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include "util/files.h"
#include "util/place.h"

enum { PLACES_MAX = 256 };

typedef struct {
    gboolean block;
    dev_t device; /* of the device itself, or on which the file lies */
    ino_t inode;
} Place;

static gboolean is_of_kind (const struct stat *st)
{
    return S_ISREG (st->st_mode) || S_ISBLK (st->st_mode);
}

static Place place_of (const struct stat *st)
{
    return S_ISBLK (st->st_mode) ? (Place){ TRUE, st->st_rdev, 0 }
                                 : (Place){ FALSE, st->st_dev, st->st_ino };
}

static gboolean place_equal (const Place *a, const Place *b)
{
    return a->block == b->block && a->device == b->device && a->inode == b->inode;
}

gboolean place_is_same (const struct stat *one, const struct stat *other)
{
    const Place a = place_of (one), b = place_of (other);
    return is_of_kind (one) && is_of_kind (other) && place_equal (&a, &b);
}

static gboolean has_place (const GArray *places, const Place *place)
{
    for (guint i = 0; i < places->len; i++)
        if (place_equal (&g_array_index (places, Place, i), place))
            return TRUE;
    return FALSE;
}

static void add_place (GArray *places, Place place)
{
    if (places->len < PLACES_MAX && !has_place (places, &place))
        g_array_append_val (places, place);
}

static void add_device_file (GArray *places, const char *path)
{
    g_autofree char *text = NULL;
    unsigned int major = 0, minor = 0;
    if (files_read (path, 64, &text, NULL, NULL) && sscanf (text, "%u:%u", &major, &minor) == 2)
        add_place (places, (Place){ TRUE, makedev (major, minor), 0 });
}

/* A partition's disk, what a mapped device is made of, the file of a loop device. */
static void add_below_device (GArray *places, dev_t device)
{
    g_autofree char *sys = g_strdup_printf ("/sys/dev/block/%u:%u", major (device), minor (device));
    g_autofree char *partition = g_build_filename (sys, "partition", NULL),
                    *disk = g_build_filename (sys, "..", "dev", NULL),
                    *slaves = g_build_filename (sys, "slaves", NULL),
                    *loop = g_build_filename (sys, "loop", "backing_file", NULL);
    g_autofree char *file = NULL;
    g_autoptr (GDir) entries = g_dir_open (slaves, 0, NULL);
    struct stat st;
    const char *name;

    if (g_file_test (partition, G_FILE_TEST_EXISTS))
        add_device_file (places, disk);
    while (entries && (name = g_dir_read_name (entries))) {
        g_autofree char *slave = g_build_filename (slaves, name, "dev", NULL);
        add_device_file (places, slave);
    }
    if (files_read (loop, PATH_MAX, &file, NULL, NULL) && stat (g_strchomp (file), &st) == 0
        && is_of_kind (&st))
        add_place (places, place_of (&st));
}

/* It and all that it lies on. */
static GArray *places_below (const struct stat *st)
{
    GArray *places = g_array_new (FALSE, FALSE, sizeof (Place));
    add_place (places, place_of (st));
    for (guint i = 0; i < places->len; i++) {
        const Place place = g_array_index (places, Place, i);
        if (place.block)
            add_below_device (places, place.device);
        else
            add_place (places, (Place){ TRUE, place.device, 0 });
    }
    return places;
}

static gboolean lies_on (const struct stat *upper, const struct stat *lower)
{
    g_autoptr (GArray) below = places_below (upper);
    const Place place = place_of (lower);
    return has_place (below, &place);
}

gboolean place_overlaps (const struct stat *one, const struct stat *other)
{
    if (!is_of_kind (one) || !is_of_kind (other))
        return FALSE;
    if (S_ISREG (one->st_mode) && S_ISREG (other->st_mode) && one->st_dev == other->st_dev)
        return one->st_ino == other->st_ino;
    return place_is_same (one, other) || lies_on (one, other) || lies_on (other, one);
}
