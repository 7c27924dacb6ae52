/* What a command line says about monitors. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "driver/qemu/cmdline.h"
#include "support.h"

/* argv is split at blanks ('\x1f' stands for a blank inside). want: one word a monitor, "path",
 * "host:port", "fd=N"; then "!" for a client, "@" for an abstract one. */
static const struct {
    const char *argv, *want, *name, *uuid;
} rows[] = {
    { "qemu-system-x86_64 -qmp unix:/run/q.sock,server=on,wait=off", "/run/q.sock" },
    { "/usr/bin/qemu-system-aarch64 -qmp unix:/run/q.sock,server,nowait -name g", "/run/q.sock",
      "g" },
    { "qemu-kvm --qmp unix:/a,,b,server=on", "/a,b" },
    { "kvm -qmp-pretty unix:path=/x,server", "/x" },
    { "qemu-system-x86_64 -qmp tcp:127.0.0.1:4444,server=on", "127.0.0.1:4444" },
    { "qemu-system-x86_64 -qmp tcp::4444,server", "127.0.0.1:4444" },
    { "qemu-system-x86_64 -qmp tcp:0.0.0.0:4444,server", "127.0.0.1:4444" },
    { "qemu-system-x86_64 -qmp tcp:[fe80::1]:4444,server", "[fe80::1]:4444" },
    { "qemu-system-x86_64 -qmp unix:/x", "/x!" },
    { "qemu-system-x86_64 -qmp tcp:h:1,server=off", "h:1!" },
    { "qemu-system-x86_64 -qmp stdio", "" },
    { "qemu-system-x86_64 -qmp", "" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on,wait=off -mon "
      "chardev=m,mode=control",
      "/x" },
    { "qemu-system-x86_64 -mon m,mode=control -chardev socket,path=/x,server=yes,id=m", "/x" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on -mon chardev=m,mode=readline",
      "" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on -mon chardev=m", "" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on -monitor chardev:m", "" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on -qmp chardev:m", "/x" },
    { "qemu-system-x86_64 -chardev socket,id=m,path=/x,server=on,abstract=on -qmp chardev:m",
      "/x@" },
    { "qemu-system-x86_64 -chardev socket,id=m,host=localhost,port=5,server=on -mon "
      "chardev=m,mode=control",
      "localhost:5" },
    { "qemu-system-x86_64 -chardev socket,id=charmonitor,fd=36,server=on,wait=off -mon "
      "chardev=charmonitor,id=monitor,mode=control"
      " -name guest=vm1,debug-threads=on -uuid 6695EB01-F6A4-8304-79AA-97F2502E193F",
      "fd=36", "vm1", "6695eb01-f6a4-8304-79aa-97f2502e193f" },
    { "qemu-system-x86_64 -chardev socket,id=m,fd=name,server=on -mon chardev=m,mode=control",
      "fd=-1" },
    { "qemu-system-x86_64 -chardev pty,id=m -mon chardev=m,mode=control", "" },
    { "qemu-system-x86_64 -mon chardev=missing,mode=control", "" },
    { "qemu-system-x86_64 -qmp unix:/a,server -qmp unix:/b,server", "/a /b" },
    { "qemu-system-x86_64 -chardev "
      "{\"id\":\"m\",\"backend\":{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\","
      "\"data\":{\"path\":\"/j\"}}}}}"
      " -mon {\"chardev\":\"m\",\"mode\":\"control\"}",
      "/j" },
    { "qemu-system-x86_64 -object monitor-qmp,id=o,chardev=m -chardev "
      "socket,id=m,path=/x,server=on -object monitor-hmp,id=h,chardev=m",
      "/x" },
    { "qemu-system-x86_64 -object {\"qom-type\":\"monitor-qmp\",\"id\":\"o\",\"chardev\":\"m\"} "
      "-chardev socket,id=m,path=/x,server=on",
      "/x" },
    { "qemu-storage-daemon --chardev socket,id=m,path=/s,server=on --monitor m", "/s" },
    { "qemu-storage-daemon --chardev=socket,id=m,path=/s,server=on --monitor=chardev=m", "/s" },
    { "qemu-storage-daemon --monitor {\"chardev\":\"m\"} --chardev "
      "socket,id=m,fd=3,server=on,wait=off",
      "fd=3" },
    { "qemu-system-x86_64 -name process=x,guest=y -uuid nonsense", "", "y" },
    { "qemu-system-x86_64 -drive file=-qmp,unix:/x -name a\x1f"
      "b",
      "", "a b" },
    { "/usr/bin/qemu-img info x", NULL },
    { "bash -c qemu-system-x86_64", NULL },
    { "", NULL },
};

static char *show (const Cmdline *cmdline)
{
    GString *text = g_string_new (NULL);

    for (guint i = 0; i < cmdline->monitors->len; i++) {
        const CmdlineMonitor *monitor = cmdline->monitors->pdata[i];
        g_string_append_printf (text, "%s", i ? " " : "");
        if (monitor->path || monitor->address)
            g_string_append (text, monitor->path ? monitor->path : monitor->address);
        else
            g_string_append_printf (text, "fd=%d", monitor->fd);
        g_string_append_printf (text, "%s%s", monitor->client ? "!" : "",
                                monitor->abstract ? "@" : "");
    }
    return g_string_free (text, FALSE);
}

START_TEST (a_command_line_tells_its_monitors)
{
    g_autofree char *text = g_strdup (rows[_i].argv);
    gsize length = strlen (text) + (*text ? 1 : 0);

    for (char *p = text; p < text + length; p++)
        *p = *p == ' ' ? '\0' : *p == '\x1f' ? ' ' : *p;
    g_autoptr (Cmdline) cmdline = cmdline_parse (text, length);
    if (!rows[_i].want) {
        ck_assert_ptr_null (cmdline);
        return;
    }
    ck_assert_ptr_nonnull (cmdline);
    g_autofree char *shown = show (cmdline);
    ck_assert_str_eq (shown, rows[_i].want);
    ck_assert_pstr_eq (cmdline->name, rows[_i].name);
    ck_assert_pstr_eq (cmdline->uuid, rows[_i].uuid);
}
END_TEST

START_TEST (bytes_of_any_kind_do_no_harm)
{
    static const char base[] = "qemu-system-x86_64\0-chardev\0socket,id=m,path=/"
                               "x,server=on\0-mon\0{\"chardev\":\"m\",\"mode\":\"control\"}\0-"
                               "name\0g=,,,=\0-qmp\0tcp:[]:,server\0";
    guint seed = 7;

    for (guint round = 0; round < 20000; round++) {
        g_autofree char *text = g_memdup2 (base, sizeof base);
        for (guint i = 0; i < 3; i++) {
            seed = seed * 1103515245 + 12345;
            text[(seed >> 8) % sizeof base] = (char) (seed >> 20);
        }
        cmdline_free (cmdline_parse (text, (seed >> 4) % sizeof base));
    }
}
END_TEST

int main (void)
{
    TCase *tcase = tcase_create ("command lines");

    tcase_add_loop_test (tcase, a_command_line_tells_its_monitors, 0, G_N_ELEMENTS (rows));
    tcase_add_test (tcase, bytes_of_any_kind_do_no_harm);
    tcase_set_timeout (tcase, 60);
    return run_tcase (tcase);
}
