/* Attach, list, lookup, detach, discover, through the driver's calls and on real QEMUs. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "driver/driver.h"
#include "support.h"
#include "util/files.h"
#include "util/process.h"

#define UUID "0f7a1f6e-9d0e-4b0c-8a43-3d4b3c9c2b11"

static char *dir, *state, *image, *monitor;
static DriverConn *conn;
static pid_t qemu;

static DriverConn *open_state (DriverRole role)
{
    DriverOpenOptions options = { .role = role, .state_dir = state };
    g_autoptr (GError) error = NULL;
    DriverConn *opened = driver_open ("qemu:///session", &options, &error);

    ck_assert_msg (opened != NULL, "%s", error ? error->message : "");
    return opened;
}

static void setup (void)
{
    dir = g_mkdtemp (g_strdup ("/tmp/libbackup-gst-XXXXXX"));
    state = g_build_filename (dir, "state", NULL);
    image = g_build_filename (dir, "a.qcow2", NULL);
    monitor = g_build_filename (dir, "qmp.sock", NULL);
    run_ok ("qemu-img", "create", "-q", "-f", "qcow2", image, "8M", NULL);
    qemu = 0;
    conn = open_state (DRIVER_ROLE_DAEMON);
}

static void teardown (void)
{
    driver_close (conn);
    if (qemu)
        stop_program (qemu);
    files_remove_tree (dir);
    g_free (dir);
    g_free (state);
    g_free (image);
    g_free (monitor);
}

/* A QEMU without a machine, with one disk's node; it answers on a socket that listens before it
 * starts. */
static void start_qemu (const char *uuid)
{
    g_autofree char *blockdev =
        g_strdup_printf ("driver=qcow2,node-name=disk0,file.driver=file,file.filename=%s", image);
    const char *argv[] = { "qemu-system-x86_64",
                           "-machine",
                           "none",
                           "-display",
                           "none",
                           "-nodefaults",
                           "-name",
                           "guest=inside",
                           "-blockdev",
                           blockdev,
                           "-chardev",
                           "socket,id=m,fd=3,server=on,wait=off",
                           "-mon",
                           "chardev=m,mode=control",
                           NULL,
                           NULL,
                           NULL };
    int fd = listen_at (monitor);

    if (uuid) {
        argv[14] = "-uuid";
        argv[15] = uuid;
    }
    qemu = start_program (argv, fd);
    close (fd);
}

/* A guest with a device, so that it has a disk. */
static void start_guest (void)
{
    g_autofree char *drive = g_strdup_printf ("file=%s,format=qcow2,if=none,id=d0", image);
    const char *const argv[] = { "qemu-system-x86_64",
                                 "-S",
                                 "-machine",
                                 "pc",
                                 "-m",
                                 "64",
                                 "-smp",
                                 "2",
                                 "-display",
                                 "none",
                                 "-nodefaults",
                                 "-uuid",
                                 UUID,
                                 "-name",
                                 "inside",
                                 "-drive",
                                 drive,
                                 "-device",
                                 "virtio-blk-pci,drive=d0,id=virtio-disk0",
                                 "-chardev",
                                 "socket,id=m,fd=3,server=on,wait=off",
                                 "-mon",
                                 "chardev=m,mode=control",
                                 NULL };
    int fd = listen_at (monitor);

    qemu = start_program (argv, fd);
    close (fd);
}

static bak_domain_item found;

static gboolean attach (const char *name, const char *qmp, bak_named_id *disk,
                        bak_named_id *picture, GError **error)
{
    bak_attach_args args = { .name = (char *) name,
                             .qmp = (char *) (qmp ? qmp : ""),
                             .agent = (char *) "" };
    bak_lookup_ret ret = { 0 };

    args.disks.disks_val = disk;
    args.disks.disks_len = disk != NULL;
    args.images.images_val = picture;
    args.images.images_len = picture != NULL;
    if (!call_attach (conn, &args, &ret, error))
        return FALSE;
    found.id = ret.domain.id;
    found.state = ret.domain.state;
    g_strlcpy (found.uuid, ret.domain.uuid, 40);
    call_clear_ret (CALL_ID_attach, &ret);
    return TRUE;
}

static char uuid_buffer[40];

static void attach_ok (const char *name, const char *qmp)
{
    g_autoptr (GError) error = NULL;
    found.uuid = uuid_buffer;
    ck_assert_msg (attach (name, qmp, NULL, NULL, &error), "%s", error ? error->message : "");
}

static void attach_image (const char *name)
{
    bak_named_id picture = { (char *) "vda", image };
    g_autoptr (GError) error = NULL;

    found.uuid = uuid_buffer;
    ck_assert_msg (attach (name, NULL, NULL, &picture, &error), "%s", error ? error->message : "");
}

static int attach_code (const char *name, const char *qmp, const char *says)
{
    g_autoptr (GError) error = NULL;

    found.uuid = uuid_buffer;
    ck_assert (!attach (name, qmp, NULL, NULL, &error));
    ck_assert_msg (strstr (error->message, says) != NULL, "%s", error->message);
    return error->code;
}

static guint count_guests (guint flags)
{
    bak_list_args args = { flags };
    bak_list_ret ret = { 0 };

    ck_assert (call_list (conn, &args, &ret, NULL));
    guint count = ret.domains.domains_len;
    call_clear_ret (CALL_ID_list, &ret);
    return count;
}

static gboolean detach (const char *name, GError **error)
{
    bak_domain_arg args = { .domain = (char *) name };
    bak_none none = { 0 };
    return call_detach (conn, &args, &none, error);
}

/* Names in STATE/guests but the counter. */
static guint count_folders (void)
{
    g_autofree char *path = g_build_filename (state, "guests", NULL);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    const char *name;
    guint count = 0;

    while (entries && (name = g_dir_read_name (entries)))
        count += !g_str_equal (name, ".number");
    return count;
}

START_TEST (a_running_guest_keeps_its_own_uuid)
{
    start_guest ();
    attach_ok ("g", monitor);
    ck_assert_str_eq (found.uuid, UUID);
    ck_assert_int_eq (found.state, DOMAIN_STATE_RUNNING);
    ck_assert_int_eq (found.id, 1);
    ck_assert_uint_eq (count_guests (0), 1);
    ck_assert_uint_eq (count_guests (LIST_ACTIVE), 1);
    ck_assert_uint_eq (count_guests (LIST_INACTIVE), 0);
}
END_TEST

START_TEST (a_guest_without_uuid_gets_one)
{
    start_qemu (NULL);
    attach_ok ("g", monitor);
    ck_assert (g_uuid_string_is_valid (found.uuid));
    ck_assert_str_ne (found.uuid, "00000000-0000-0000-0000-000000000000");
}
END_TEST

START_TEST (it_is_found_by_name_and_by_uuid_and_survives_a_restart_of_ours)
{
    static const char *const by[][2] = { { "g", "" },
                                         { "", UUID },
                                         { "", "0F7A1F6E-9D0E-4B0C-8A43-3D4B3C9C2B11" } };

    start_guest ();
    attach_ok ("g", monitor);
    driver_close (conn);
    conn = open_state (DRIVER_ROLE_CLIENT);
    for (guint i = 0; i < G_N_ELEMENTS (by); i++) {
        bak_lookup_args args = { (char *) by[i][0], (char *) by[i][1] };
        bak_lookup_ret ret = { 0 };
        ck_assert (call_lookup (conn, &args, &ret, NULL));
        ck_assert_str_eq (ret.domain.name, "g");
        ck_assert_str_eq (ret.domain.uuid, UUID);
        ck_assert_int_eq (ret.domain.state, DOMAIN_STATE_RUNNING);
        call_clear_ret (CALL_ID_lookup, &ret);
    }
}
END_TEST

START_TEST (what_is_not_there_is_not_found)
{
    static const char *const by[][2] = { { "h", "" },     { "", UUID },  { "", "" },
                                         { "../..", "" }, { "a", UUID }, { ".number", "" } };
    static const int codes[] = { BAK_ERROR_NO_DOMAIN,        BAK_ERROR_NO_DOMAIN,
                                 BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_NO_DOMAIN,
                                 BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_NO_DOMAIN };
    bak_lookup_args args = { (char *) by[_i][0], (char *) by[_i][1] };
    bak_lookup_ret ret = { 0 };
    g_autoptr (GError) error = NULL;

    ck_assert (!call_lookup (conn, &args, &ret, &error));
    ck_assert_int_eq (error->code, codes[_i]);
}
END_TEST

START_TEST (name_monitor_uuid_and_image_belong_to_one_guest)
{
    g_autofree char *link = g_build_filename (dir, "link.sock", NULL),
                    *picture_link = g_build_filename (dir, "link.qcow2", NULL);
    bak_named_id picture = { (char *) "vda", picture_link };
    g_autoptr (GError) error = NULL;

    start_guest ();
    ck_assert_int_eq (symlink (monitor, link), 0);
    attach_ok ("g", monitor);
    ck_assert_int_eq (attach_code ("g", "/no/such", "'g' is attached already"), BAK_ERROR_EXISTS);
    ck_assert_int_eq (attach_code ("h", monitor, "as guest 'g'"), BAK_ERROR_EXISTS);
    ck_assert_int_eq (attach_code ("h", link, "as guest 'g'"), BAK_ERROR_EXISTS);
    ck_assert (detach ("g", NULL));
    stop_program (qemu);
    qemu = 0;
    attach_image ("off");
    ck_assert_int_eq (symlink (image, picture_link), 0);
    ck_assert (!attach ("h", NULL, NULL, &picture, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_EXISTS);
    ck_assert_uint_eq (count_folders (), 1);
}
END_TEST

/* A second monitor of the same QEMU is the same guest. */
START_TEST (one_guest_is_not_attached_by_two_monitors)
{
    g_autofree char *other = g_build_filename (dir, "other.sock", NULL),
                    *option = g_strdup_printf ("unix:%s,server=on,wait=off", other);
    const char *const argv[] = { "qemu-system-x86_64",
                                 "-machine",
                                 "none",
                                 "-display",
                                 "none",
                                 "-nodefaults",
                                 "-uuid",
                                 UUID,
                                 "-chardev",
                                 "socket,id=m,fd=3,server=on,wait=off",
                                 "-mon",
                                 "chardev=m,mode=control",
                                 "-qmp",
                                 option,
                                 NULL };
    int fd = listen_at (monitor);

    qemu = start_program (argv, fd);
    close (fd);
    attach_ok ("g", monitor);
    ck_assert_int_eq (attach_code ("h", other, "one QEMU is one guest"), BAK_ERROR_EXISTS);
}
END_TEST

START_TEST (a_monitor_that_cannot_be_used_stores_nothing)
{
    static const char *const says[] = { "cannot connect", "another client holds it",
                                        "does not speak QMP", "absolute path", "cannot connect" };
    static const int codes[] = { BAK_ERROR_CONNECTION, BAK_ERROR_MONITOR_HELD, BAK_ERROR_CONNECTION,
                                 BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_CONNECTION };
    g_autofree char *path = g_build_filename (dir, "x.sock", NULL);
    int listener = -1;

    if (_i == 1 || _i == 2)
        listener = listen_at (path);
    pid_t talker = _i == 2 ? fork () : 0;
    if (_i == 2 && talker == 0) {
        int fd = accept (listener, NULL, NULL);
        if (write (fd, "220 mail.example ESMTP\r\n", 24) == 24)
            pause ();
        _exit (0);
    }
    ck_assert_int_eq (attach_code ("g",
                                   _i == 3   ? "x.sock"
                                   : _i == 4 ? "127.0.0.1:1"
                                             : path,
                                   says[_i]),
                      codes[_i]);
    ck_assert_uint_eq (count_folders (), 0);
    if (talker > 0)
        stop_program (talker);
    if (listener >= 0)
        close (listener);
}
END_TEST

START_TEST (a_named_disk_must_be_one)
{
    bak_named_id good = { (char *) "sys", (char *) "virtio-disk0" },
                 bad = { (char *) "sys", (char *) "nope" };
    bak_domain_arg args = { .domain = (char *) "g" };
    bak_disks_ret disks = { 0 };
    g_autoptr (GError) error = NULL;

    start_guest ();
    found.uuid = uuid_buffer;
    ck_assert (!attach ("g", monitor, &bad, NULL, &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NO_DISK);
    ck_assert_ptr_nonnull (strstr (error->message, "virtio-disk0"));
    ck_assert_uint_eq (count_folders (), 0);
    ck_assert (attach ("g", monitor, &good, NULL, NULL));
    ck_assert (call_domain_disks (conn, &args, &disks, NULL));
    ck_assert_uint_eq (disks.disks.disks_len, 1);
    ck_assert_str_eq (disks.disks.disks_val[0].target, "sys");
    call_clear_ret (CALL_ID_domain_disks, &disks);
}
END_TEST

/* A format that qemu-img knows and that no guest of ours has. */
static void write_bochs (const char *path)
{
    guint8 file[512 + 64] = { 0 };
    const guint32 numbers[] = { GUINT32_TO_LE (0x20000), GUINT32_TO_LE (512),   GUINT32_TO_LE (16),
                                GUINT32_TO_LE (1),       GUINT32_TO_LE (65536), 0 };
    const guint64 size = GUINT64_TO_LE (1024 * 1024);

    strcpy ((char *) file, "Bochs Virtual HD Image");
    strcpy ((char *) file + 32, "Redolog");
    strcpy ((char *) file + 48, "Growing");
    memcpy (file + 64, numbers, sizeof numbers);
    memcpy (file + 88, &size, sizeof size);
    memset (file + 512, 0xff, 64);
    ck_assert (g_file_set_contents (path, (char *) file, sizeof file, NULL));
}

START_TEST (an_image_must_be_there_and_be_one)
{
    g_autofree char *missing = g_build_filename (dir, "none", NULL),
                    *bochs = g_build_filename (dir, "bochs", NULL),
                    *broken = g_build_filename (dir, "b", NULL);
    const char *const files[] = {
        missing, dir, "relative.qcow2", bochs, broken, "nbd://localhost/x"
    };
    static const int codes[] = { BAK_ERROR_IO,
                                 BAK_ERROR_INVALID_ARGUMENT,
                                 BAK_ERROR_INVALID_ARGUMENT,
                                 BAK_ERROR_NOT_SUPPORTED,
                                 BAK_ERROR_IO,
                                 BAK_ERROR_INVALID_ARGUMENT };
    bak_named_id picture = { (char *) "vda", (char *) files[_i] };
    g_autoptr (GError) error = NULL;

    write_bochs (bochs);
    ck_assert (g_file_set_contents (broken, "QFI\xfb\0\0\0\3garbage", 15, NULL));
    found.uuid = uuid_buffer;
    ck_assert (!attach ("g", NULL, NULL, &picture, &error));
    ck_assert_msg (error->code == codes[_i], "%d: %s", error->code, error->message);
    ck_assert_msg (strstr (error->message, files[_i]) != NULL, "%s", error->message);
    ck_assert_uint_eq (count_folders (), 0);
}
END_TEST

START_TEST (a_powered_off_guest_is_off_and_shows_its_disks)
{
    bak_domain_arg args = { .domain = (char *) "off" };
    bak_domain_info info = { 0 };
    bak_disks_ret disks = { 0 };
    bak_text_ret text = { 0 };
    bak_state_ret now = { 0 };

    attach_image ("off");
    ck_assert_int_eq (found.state, DOMAIN_STATE_SHUTOFF);
    ck_assert_int_eq (found.id, -1);
    ck_assert_uint_eq (count_guests (LIST_INACTIVE), 1);
    ck_assert_uint_eq (count_guests (LIST_ACTIVE), 0);
    ck_assert (call_domain_state (conn, &args, &now, NULL));
    ck_assert_int_eq (now.state, DOMAIN_STATE_SHUTOFF);
    ck_assert (call_domain_info (conn, &args, &info, NULL));
    ck_assert_uint_eq (info.images, 1);
    ck_assert_uint_eq (info.notes.notes_len, 0);
    ck_assert_int_eq (info.item.state, DOMAIN_STATE_SHUTOFF);
    call_clear_ret (CALL_ID_domain_info, &info);
    ck_assert (call_domain_disks (conn, &args, &disks, NULL));
    ck_assert_str_eq (disks.disks.disks_val[0].source, image);
    call_clear_ret (CALL_ID_domain_disks, &disks);
    ck_assert (call_domain_xml (conn, &args, &text, NULL));
    ck_assert_msg (strstr (text.text, "<target dev='vda'") && strstr (text.text, image)
                       && !strstr (text.text, " id='"),
                   "%s", text.text);
    call_clear_ret (CALL_ID_domain_xml, &text);
    ck_assert_uint_eq (count_children (), 0);
}
END_TEST

START_TEST (a_running_guest_tells_what_it_is)
{
    bak_domain_arg args = { .domain = (char *) "g" };
    bak_domain_info info = { 0 };
    bak_text_ret text = { 0 };
    bak_state_ret now = { 0 };

    start_guest ();
    attach_ok ("g", monitor);
    ck_assert (call_domain_info (conn, &args, &info, NULL));
    ck_assert_uint_eq (info.max_memory, 64 * 1024 * 1024);
    ck_assert_uint_eq (info.cpus, 2);
    ck_assert_str_eq (info.qmp, monitor);
    ck_assert_int_eq (info.item.id, 1);
    ck_assert_uint_gt (strlen (info.qemu_version), 2);
    call_clear_ret (CALL_ID_domain_info, &info);
    ck_assert (call_domain_state (conn, &args, &now, NULL));
    ck_assert_int_eq (now.state, DOMAIN_STATE_PAUSED); /* -S */
    ck_assert (call_domain_xml (conn, &args, &text, NULL));
    ck_assert_msg (strstr (text.text, "arch='x86_64'") && strstr (text.text, "machine='pc-i440fx-")
                       && strstr (text.text, "<vcpu placement='static'>2<"),
                   "%s", text.text);
    call_clear_ret (CALL_ID_domain_xml, &text);
}
END_TEST

START_TEST (a_guest_whose_qemu_is_gone_is_off)
{
    bak_domain_arg args = { .domain = (char *) "g" };
    bak_domain_info info = { 0 };
    bak_state_ret now = { 0 };
    g_autoptr (GError) error = NULL;

    start_guest ();
    attach_ok ("g", monitor);
    stop_program (qemu);
    qemu = 0;
    ck_assert_uint_eq (count_guests (LIST_INACTIVE), 1);
    ck_assert_msg (call_domain_state (conn, &args, &now, &error), "%s",
                   error ? error->message : "");
    ck_assert_int_eq (now.state, DOMAIN_STATE_SHUTOFF);
    ck_assert_msg (call_domain_info (conn, &args, &info, &error), "%s",
                   error ? error->message : "");
    ck_assert_int_eq (info.item.id, -1);
    ck_assert_uint_eq (info.notes.notes_len, 1);
    ck_assert_ptr_nonnull (strstr (info.notes.notes_val[0], monitor));
    call_clear_ret (CALL_ID_domain_info, &info);
    ck_assert (detach ("g", NULL));
}
END_TEST

START_TEST (list_waits_little_for_monitors_that_others_hold)
{
    char path[64], name[16];
    int listeners[20];
    g_autofree char *guests = g_build_filename (state, "guests", NULL);

    for (guint i = 0; i < G_N_ELEMENTS (listeners); i++) {
        g_snprintf (path, sizeof path, "%s/%u.sock", dir, i);
        g_snprintf (name, sizeof name, "held%02u", i);
        listeners[i] = listen_at (path);
        g_autofree char *folder = g_build_filename (guests, name, NULL),
                        *file = g_build_filename (folder, "guest.json", NULL);
        g_autofree char *text = g_strdup_printf (
            "{\"name\":\"%s\",\"uuid\":\"0f7a1f6e-9d0e-4b0c-8a43-3d4b3c9c2b%02u\",\"qmp\":\"%s\"}",
            name, i, path);
        ck_assert_int_eq (g_mkdir_with_parents (folder, 0700), 0);
        ck_assert (g_file_set_contents (file, text, -1, NULL));
    }
    gint64 before = g_get_monotonic_time ();
    ck_assert_uint_eq (count_guests (LIST_ACTIVE), G_N_ELEMENTS (listeners));
    ck_assert_int_lt (g_get_monotonic_time () - before, 2 * G_USEC_PER_SEC);
}
END_TEST

START_TEST (a_damaged_definition_hides_only_itself_and_can_be_detached)
{
    g_autofree char *folder = g_build_filename (state, "guests", "bad", NULL),
                    *file = g_build_filename (folder, "guest.json", NULL);
    bak_lookup_args args = { (char *) "bad", (char *) "" };
    bak_lookup_ret ret = { 0 };
    bak_domain_arg bad = { .domain = (char *) "bad" };
    bak_domain_info info = { 0 };
    g_autoptr (GError) error = NULL;

    attach_image ("off");
    ck_assert_int_eq (g_mkdir_with_parents (folder, 0700), 0);
    ck_assert (g_file_set_contents (file, "{\"name\": \"other\"", -1, NULL));
    ck_assert_uint_eq (count_guests (0), 1);
    ck_assert (call_lookup (conn, &args, &ret, NULL));
    call_clear_ret (CALL_ID_lookup, &ret);
    ck_assert (!call_domain_info (conn, &bad, &info, &error));
    ck_assert_msg (strstr (error->message, file) != NULL, "%s", error->message);
    ck_assert (detach ("bad", NULL));
    ck_assert_uint_eq (count_folders (), 1);
}
END_TEST

START_TEST (detach_keeps_nothing)
{
    g_autofree char *records = g_build_filename (state, "guests", "off", "jobs", NULL),
                    *record = g_build_filename (records, "x", NULL);
    g_autoptr (GError) error = NULL;

    attach_image ("off");
    ck_assert_int_eq (g_mkdir_with_parents (records, 0700), 0);
    ck_assert (g_file_set_contents (record, "x", -1, NULL));
    ck_assert (detach ("off", NULL));
    ck_assert_uint_eq (count_folders (), 0);
    ck_assert (!detach ("off", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_NO_DOMAIN);
    attach_image ("off");
    bak_lookup_args args = { (char *) "off", (char *) "" };
    bak_lookup_ret ret = { 0 };
    ck_assert (call_lookup (conn, &args, &ret, NULL));
    call_clear_ret (CALL_ID_lookup, &ret);
}
END_TEST

START_TEST (numbers_are_never_given_twice)
{
    start_guest ();
    for (int i = 1; i < 4; i++) {
        attach_ok ("g", monitor);
        ck_assert_int_eq (found.id, i);
        ck_assert (detach ("g", NULL));
    }
}
END_TEST

START_TEST (a_guest_that_another_process_works_with_is_busy)
{
    g_autofree char *lock = g_build_filename (state, "guests", "off", "lock", NULL);
    g_autoptr (GError) error = NULL;

    attach_image ("off");
    int fd = files_lock (lock, 0, NULL);
    ck_assert_int_ge (fd, 0);
    ck_assert (!detach ("off", &error));
    ck_assert_int_eq (error->code, BAK_ERROR_BUSY);
    ck_assert_uint_eq (count_guests (0), 1);
    close (fd);
    ck_assert (detach ("off", NULL));
}
END_TEST

/* kill -9 at some moment of an attach or detach: either the guest is there whole or it is not, and
 * the next one works. */
START_TEST (an_attach_that_is_killed_leaves_all_or_nothing)
{
    for (guint round = 0; round < 12; round++) {
        driver_close (conn);
        conn = NULL;
        pid_t child = fork ();
        if (child == 0) {
            conn = open_state (DRIVER_ROLE_DAEMON);
            for (;;) {
                attach_image ("off");
                detach ("off", NULL);
            }
        }
        g_usleep (20000 + round * 7000);
        stop_program (child);
        conn = open_state (DRIVER_ROLE_DAEMON);
        if (count_guests (0) > 0)
            ck_assert (detach ("off", NULL));
        attach_image ("off");
        ck_assert_uint_eq (count_folders (), 1);
        ck_assert (detach ("off", NULL));
        ck_assert_uint_eq (count_folders (), 0);
    }
}
END_TEST

typedef struct {
    const char *name;
    int code;
} Racer;

static gpointer race (gpointer data)
{
    Racer *racer = data;
    bak_named_id picture = { (char *) "vda", image };
    bak_attach_args args = { .name = (char *) racer->name,
                             .qmp = (char *) "",
                             .agent = (char *) "" };
    bak_lookup_ret ret = { 0 };
    g_autoptr (GError) error = NULL;

    args.images.images_val = &picture;
    args.images.images_len = 1;
    if (call_attach (conn, &args, &ret, &error))
        call_clear_ret (CALL_ID_attach, &ret);
    racer->code = error ? error->code : 0;
    return NULL;
}

START_TEST (of_two_that_attach_at_once_one_wins)
{
    Racer racers[] = { { "a", -1 }, { "a", -1 }, { "b", -1 }, { "c", -1 } };
    GThread *threads[G_N_ELEMENTS (racers)];
    guint won = 0;

    for (guint i = 0; i < G_N_ELEMENTS (racers); i++)
        threads[i] = g_thread_new ("racer", race, &racers[i]);
    for (guint i = 0; i < G_N_ELEMENTS (racers); i++)
        g_thread_join (threads[i]);
    for (guint i = 0; i < G_N_ELEMENTS (racers); i++) {
        won += racers[i].code == 0;
        ck_assert (racers[i].code == 0 || racers[i].code == BAK_ERROR_EXISTS);
    }
    ck_assert_uint_eq (won, 1);
    ck_assert_uint_eq (count_folders (), 1);
}
END_TEST

static const bak_found *found_by_pid (const bak_discover_ret *ret, pid_t pid, guint nth)
{
    for (guint i = 0; i < ret->found.found_len; i++)
        if (ret->found.found_val[i].pid == pid && nth-- == 0)
            return &ret->found.found_val[i];
    return NULL;
}

/* Of our QEMU. Whoever else discovers on this host meanwhile holds what he looks at for a moment.
 */
static const bak_found *discover_unheld (bak_discover_ret *ret)
{
    bak_none none = { 0 };
    for (guint tries = 0;; tries++) {
        ck_assert (call_discover (conn, &none, ret, NULL));
        const bak_found *found = found_by_pid (ret, qemu, 0);
        ck_assert_ptr_nonnull (found);
        if (!strstr (found->note, "another client holds") || tries == 50)
            return found;
        call_clear_ret (CALL_ID_discover, ret);
    }
}

START_TEST (discover_finds_a_qemu_by_the_socket_it_was_handed)
{
    bak_none none = { 0 };
    bak_discover_ret ret = { 0 };

    start_qemu (UUID);
    attach_ok ("g", monitor); /* it runs and answers now */
    ck_assert (detach ("g", NULL));
    const bak_found *one = discover_unheld (&ret);
    ck_assert_str_eq (one->qmp, monitor);
    ck_assert_str_eq (one->name, "inside");
    ck_assert_str_eq (one->uuid, UUID);
    ck_assert_str_eq (one->attached_as, "");
    ck_assert_str_eq (one->note, "");
    ck_assert_uint_gt (strlen (one->qemu_version), 2);
    call_clear_ret (CALL_ID_discover, &ret);
    attach_ok ("g", monitor);
    ck_assert (call_discover (conn, &none, &ret, NULL));
    ck_assert_str_eq (found_by_pid (&ret, qemu, 0)->attached_as, "g");
    call_clear_ret (CALL_ID_discover, &ret);
}
END_TEST

START_TEST (discover_says_what_keeps_a_qemu_from_being_attached)
{
    const char *const argv[] = { "qemu-system-x86_64",
                                 "-machine",
                                 "none",
                                 "-display",
                                 "none",
                                 "-nodefaults",
                                 "-qmp",
                                 "unix:qmp.sock,server=on,wait=off",
                                 "-qmp",
                                 "unix:second.sock,server=on,wait=off",
                                 NULL };
    bak_none none = { 0 };
    bak_discover_ret ret = { 0 };
    g_autofree char *second = g_build_filename (dir, "second.sock", NULL);

    ck_assert_int_eq (chdir (dir), 0); /* relative paths are found too */
    qemu = start_program (argv, -1);
    await_file (second);
    attach_ok ("g", monitor);
    int holder = socket (AF_UNIX, SOCK_STREAM, 0);
    struct {
        sa_family_t family;
        char path[108];
    } address = { .family = AF_UNIX };
    g_strlcpy (address.path, second, sizeof address.path);
    ck_assert_int_eq (connect (holder, (struct sockaddr *) &address, sizeof address), 0);
    char byte;
    ck_assert_int_eq (read (holder, &byte, 1), 1);
    ck_assert_int_eq (unlink (monitor), 0);
    ck_assert (call_discover (conn, &none, &ret, NULL));
    const bak_found *first = found_by_pid (&ret, qemu, 0), *other = found_by_pid (&ret, qemu, 1);
    ck_assert_ptr_nonnull (first);
    ck_assert_ptr_nonnull (other);
    ck_assert_str_eq (first->qmp, monitor);
    ck_assert_msg (strstr (first->note, "cannot be reached") != NULL, "%s", first->note);
    ck_assert_str_eq (other->qmp, second);
    ck_assert_msg (strstr (other->note, "another client holds") != NULL, "%s", other->note);
    call_clear_ret (CALL_ID_discover, &ret);
    close (holder);
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("guests");

    require_programs ("qemu-storage-daemon", "qemu-img", "qemu-system-x86_64", NULL);
    signal (SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture (tcase, setup, teardown);
    tcase_set_timeout (tcase, 90);
    tcase_add_test (tcase, a_running_guest_keeps_its_own_uuid);
    tcase_add_test (tcase, a_guest_without_uuid_gets_one);
    tcase_add_test (tcase, it_is_found_by_name_and_by_uuid_and_survives_a_restart_of_ours);
    tcase_add_loop_test (tcase, what_is_not_there_is_not_found, 0, 6);
    tcase_add_test (tcase, name_monitor_uuid_and_image_belong_to_one_guest);
    tcase_add_test (tcase, one_guest_is_not_attached_by_two_monitors);
    tcase_add_loop_test (tcase, a_monitor_that_cannot_be_used_stores_nothing, 0, 5);
    tcase_add_test (tcase, a_named_disk_must_be_one);
    tcase_add_loop_test (tcase, an_image_must_be_there_and_be_one, 0, 6);
    tcase_add_test (tcase, a_powered_off_guest_is_off_and_shows_its_disks);
    tcase_add_test (tcase, a_running_guest_tells_what_it_is);
    tcase_add_test (tcase, a_guest_whose_qemu_is_gone_is_off);
    tcase_add_test (tcase, list_waits_little_for_monitors_that_others_hold);
    tcase_add_test (tcase, a_damaged_definition_hides_only_itself_and_can_be_detached);
    tcase_add_test (tcase, detach_keeps_nothing);
    tcase_add_test (tcase, numbers_are_never_given_twice);
    tcase_add_test (tcase, a_guest_that_another_process_works_with_is_busy);
    tcase_add_test (tcase, an_attach_that_is_killed_leaves_all_or_nothing);
    tcase_add_test (tcase, of_two_that_attach_at_once_one_wins);
    tcase_add_test (tcase, discover_finds_a_qemu_by_the_socket_it_was_handed);
    tcase_add_test (tcase, discover_says_what_keeps_a_qemu_from_being_attached);
    return run_tcase (tcase);
}
