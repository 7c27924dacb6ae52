#include <string.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include "machine.h"

enum { MEMORY_DEFAULT = 1024, MEMORY_MOST = 2048, DOCUMENT_MAX = 1 << 22, DISKS_MAX = 64 };

G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlDoc, xmlFreeDoc)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (xmlXPathObject, xmlXPathFreeObject)

static void disk_free (MachineDisk *disk)
{
    g_free (disk->target);
    g_free (disk->bus);
    g_free (disk->serial);
    g_free (disk);
}

void machine_free (Machine *machine)
{
    if (!machine)
        return;
    g_free (machine->arch);
    g_free (machine->type);
    g_free (machine->kernel);
    g_free (machine->initrd);
    g_free (machine->append);
    g_free (machine->firmware);
    g_free (machine->variables);
    g_ptr_array_unref (machine->disks);
    g_free (machine);
}

/* ---- the definition ---- */

/* NULL: it is empty. */
static char *text_at (xmlXPathContext *context, const char *expression)
{
    g_autofree char *call = g_strdup_printf ("string(%s)", expression);
    g_autoptr (xmlXPathObject) found = xmlXPathEvalExpression ((const xmlChar *) call, context);
    char *text = found && found->stringval && *found->stringval
                     ? g_strdup ((const char *) found->stringval)
                     : NULL;
    return text ? g_strstrip (text) : NULL;
}

/* What becomes a part of a word of the command line. */
static gboolean is_plain (const char *text)
{
    return text && *text
           && strspn (text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
                  == strlen (text);
}

static void read_disks (Machine *machine, xmlXPathContext *context)
{
    for (guint i = 1; i <= DISKS_MAX; i++) {
        g_autofree char *at = g_strdup_printf ("/domain/devices/disk[%u]", i),
                        *name = g_strconcat (at, "/target/@dev", NULL),
                        *on = g_strconcat (at, "/target/@bus", NULL),
                        *number = g_strconcat (at, "/serial", NULL),
                        *target = text_at (context, name);
        if (!target)
            continue;
        MachineDisk *disk = g_new0 (MachineDisk, 1);
        g_autofree char *serial = text_at (context, number);
        disk->target = g_steal_pointer (&target);
        disk->bus = text_at (context, on);
        disk->serial = is_plain (serial) ? g_steal_pointer (&serial) : NULL;
        g_ptr_array_add (machine->disks, disk);
    }
}

/* "pc-i440fx-7.2" is any "pc": another host has another version. */
static char *family_of (const char *type)
{
    static const struct {
        const char *prefix, *family;
    } families[] = { { "pc-q35", "q35" }, { "q35", "q35" },         { "pc", "pc" },
                     { "virt", "virt" },  { "pseries", "pseries" }, { "s390", "s390-ccw-virtio" } };
    for (guint i = 0; type && i < G_N_ELEMENTS (families); i++)
        if (g_str_has_prefix (type, families[i].prefix))
            return g_strdup (families[i].family);
    return NULL;
}

static void read_document (Machine *machine, xmlXPathContext *context, const char *dir)
{
    g_autofree char *type = text_at (context, "/domain/os/type/@machine"),
                    *memory = text_at (context, "/domain/memory"),
                    *cpus = text_at (context, "/domain/vcpu"),
                    *copy = g_build_filename (dir, "nvram", NULL),
                    *arch = text_at (context, "/domain/os/type/@arch");
    machine->arch = g_strdup (is_plain (arch) ? arch : "x86_64");
    machine->type = family_of (type);
    machine->kernel = text_at (context, "/domain/os/kernel");
    machine->initrd = text_at (context, "/domain/os/initrd");
    machine->append = text_at (context, "/domain/os/cmdline");
    machine->firmware = text_at (context, "/domain/os/loader");
    machine->firmware_is_flash = machine->firmware != NULL;
    if (g_file_test (copy, G_FILE_TEST_EXISTS))
        machine->variables = g_steal_pointer (&copy);
    machine->memory = memory ? g_ascii_strtoull (memory, NULL, 10) / 1024 : 0;
    machine->cpus = cpus ? (guint) g_ascii_strtoull (cpus, NULL, 10) : 1;
    read_disks (machine, context);
}

/* ---- the command line of a guest that has no other definition ---- */

static void read_words (Machine *machine, char **words)
{
    const struct {
        const char *word;
        char **place;
    } taken[] = { { "kernel", &machine->kernel },
                  { "initrd", &machine->initrd },
                  { "append", &machine->append },
                  { "bios", &machine->firmware } };
    for (guint i = 0; words[i] && words[i + 1]; i++) {
        const char *word = words[i];
        if (*word != '-')
            continue;
        word += word[1] == '-' ? 2 : 1;
        for (guint k = 0; k < G_N_ELEMENTS (taken); k++)
            if (g_str_equal (word, taken[k].word) && !*taken[k].place)
                *taken[k].place = g_strdup (words[i + 1]);
    }
}

static void read_command_line (Machine *machine, const char *dir)
{
    g_autofree char *path = g_build_filename (dir, "qemu.cmdline", NULL), *text = NULL;
    if (!g_file_get_contents (path, &text, NULL, NULL) || strlen (text) > DOCUMENT_MAX)
        return;
    g_auto (GStrv) words = g_strsplit (text, "\n", -1);
    read_words (machine, words);
}

Machine *machine_read (const char *dir, char **ret_why)
{
    g_autofree char *path = g_build_filename (dir, "domain.xml", NULL), *text = NULL;
    g_autoptr (GError) error = NULL;
    gsize length = 0;
    if (!g_file_get_contents (path, &text, &length, &error) || length > DOCUMENT_MAX) {
        *ret_why = g_strdup_printf (_("the point has no definition of the guest: %s"),
                                    error ? error->message : path);
        return NULL;
    }
    g_autoptr (xmlDoc) doc = xmlReadMemory (
        text, (int) length, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    g_autoptr (xmlXPathContext) context = doc ? xmlXPathNewContext (doc) : NULL;
    if (!context) {
        *ret_why = g_strdup_printf (_("'%s' is no XML document"), path);
        return NULL;
    }
    Machine *machine = g_new0 (Machine, 1);
    machine->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) disk_free);
    read_document (machine, context, dir);
    read_command_line (machine, dir);
    return machine;
}

gboolean machine_is_known (const Machine *machine)
{
    return machine->type && machine->memory;
}

/* ---- QEMU ---- */

static void add (GPtrArray *words, const char *option, const char *format, ...)
    G_GNUC_PRINTF (3, 4);

static void add (GPtrArray *words, const char *option, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (words, g_strdup (option));
    g_ptr_array_add (words, g_strdup_vprintf (format, args));
    va_end (args);
}

/* A comma in a value of QEMU's options is written twice. */
static char *doubled (const char *text)
{
    g_auto (GStrv) parts = g_strsplit (text, ",", -1);
    return g_strjoinv (",,", parts);
}

typedef struct {
    const char *bus, *controller, *device;
} BusRow;

static const BusRow buses[] = {
    { "virtio", NULL, "virtio-blk" },
    { "scsi", "virtio-scsi,id=drill-scsi", "scsi-hd" },
    { "ide", NULL, "ide-hd" },
    { "sata", "ahci,id=drill-sata", "ide-hd" },
    { "usb", "qemu-xhci", "usb-storage" },
    { "nvme", NULL, "nvme" },
};

static const BusRow *bus_of (const Machine *machine, const MachineDisk *disk)
{
    gboolean own_sata = g_strcmp0 (machine->type, "q35") == 0;
    const char *bus = disk->bus ? disk->bus : "virtio";
    if (own_sata && g_str_equal (bus, "sata"))
        bus = "ide";
    for (guint i = 0; i < G_N_ELEMENTS (buses); i++)
        if (g_str_equal (buses[i].bus, bus))
            return &buses[i];
    return &buses[0];
}

static void add_disk (GPtrArray *words, const Machine *machine, guint number, const char *socket,
                      GHashTable *controllers)
{
    const MachineDisk *disk = machine->disks->pdata[number];
    const BusRow *row = bus_of (machine, disk);
    g_autofree char *export = doubled (disk->target), *path = doubled (socket);
    g_autoptr (GString) device = g_string_new (row->device);
    if (row->controller && g_hash_table_add (controllers, (gpointer) row->controller))
        add (words, "-device", "%s", row->controller);
    add (words, "-blockdev",
         "driver=nbd,node-name=drill%u,server.type=unix,server.path=%s,export=%s", number, path,
         export);
    g_string_append_printf (device, ",drive=drill%u,bootindex=%u", number, number + 1);
    if (disk->serial)
        g_string_append_printf (device, ",serial=%s", disk->serial);
    else if (g_str_equal (row->device, "nvme"))
        g_string_append_printf (device, ",serial=drill%u", number);
    if (g_str_equal (row->bus, "sata"))
        g_string_append_printf (device, ",bus=drill-sata.%u", number);
    add (words, "-device", "%s", device->str);
}

static void add_firmware (GPtrArray *words, const Machine *machine)
{
    g_autofree char *file = machine->firmware ? doubled (machine->firmware) : NULL;
    g_autofree char *variables = machine->variables ? doubled (machine->variables) : NULL;
    if (file && !machine->firmware_is_flash)
        add (words, "-bios", "%s", machine->firmware);
    if (file && machine->firmware_is_flash)
        add (words, "-drive", "if=pflash,format=raw,readonly=on,file=%s", file);
    if (file && machine->firmware_is_flash && variables)
        add (words, "-drive", "if=pflash,format=raw,snapshot=on,file=%s", variables);
}

static void add_kernel (GPtrArray *words, const Machine *machine)
{
    if (!machine->kernel)
        return;
    add (words, "-kernel", "%s", machine->kernel);
    if (machine->initrd)
        add (words, "-initrd", "%s", machine->initrd);
    if (machine->append)
        add (words, "-append", "%s", machine->append);
}

GPtrArray *machine_words (const Machine *machine, const char *program, guint64 memory,
                          const char *socket)
{
    GPtrArray *words = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GHashTable) controllers = g_hash_table_new (g_str_hash, g_str_equal);
    guint64 own = machine->memory ? MIN (machine->memory, MEMORY_MOST) : MEMORY_DEFAULT;
    g_ptr_array_add (words, g_strdup (program));
    add (words, "-nodefaults", "%s", "-no-user-config");
    add (words, "-display", "%s", "none");
    add (words, "-nic", "%s", "none");
    add (words, "-no-reboot", "%s", "-name");
    g_ptr_array_add (words, g_strdup ("libbackup-drill"));
    if (machine->type)
        add (words, "-machine", "%s", machine->type);
    add (words, "-cpu", "%s", "max");
    add (words, "-smp", "%u", CLAMP (machine->cpus, 1, g_get_num_processors ()));
    add (words, "-m", "%" G_GUINT64_FORMAT, memory ? MAX (memory >> 20, 1) : own);
    add_firmware (words, machine);
    add_kernel (words, machine);
    add (words, "-device", "%s", "virtio-serial");
    for (guint i = 0; i < machine->disks->len; i++)
        add_disk (words, machine, i, socket, controllers);
    return words;
}
