#!/usr/bin/python3
"""A client hands over the socket that a pull is served on: <server transport='fd'>."""
import json
import os
import signal
import socket
import subprocess
import unittest

import bed
import daemon
import rpc

MIB = 1 << 20
BUILD = os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build')
PULL = "<domainbackup mode='pull'><server transport='fd' fdgroup='nbd'{}/></domainbackup>"


class Passer:
    """A program of Python that is told line by line what to do."""

    def __init__(self, test, uri):
        if not os.path.exists(f'{BUILD}/bindings/python/libbackup/_ffi.abi3.so'):
            raise unittest.SkipTest('the Python module is not built: install python3-cffi and python3-dev, or a sanitizer is in it')
        self.test = test
        self.process = test.popen('/usr/bin/python3', f'{bed.TOP}/tests/live/passer.py', uri, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env={**test.environment, 'PYTHONPATH': f'{BUILD}/bindings/python', 'LD_LIBRARY_PATH': f'{BUILD}/src',
                                       'LIBBACKUPD': daemon.libbackupd_path()})
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        self.test.assertTrue(line, 'the client has ended')
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return self.answer()

    def do(self, line):
        answer = self.ask(line)
        self.test.assertIn('is', answer, line)
        return answer['is']

    def fails(self, line, code, *words):
        answer = self.ask(line)
        self.test.assertEqual(answer.get('code'), code, (line, answer))
        for word in words:
            self.test.assertIn(word, answer['says'])

    def begin(self, more=''):
        return self.do(f'guest.backup_begin_options(backup_xml={PULL.format(more)!r})')

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))


def sockets(pid):
    """Inodes of the sockets that a process has open."""
    found = set()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            found.add(os.readlink(f'/proc/{pid}/fd/{fd}'))
        except OSError:
            pass
    return {name for name in found if name.startswith('socket:')}


def is_traced(pid):
    with open(f'/proc/{pid}/status') as file:
        return 'TracerPid:\t0\n' not in file.read()


class Pulls:
    """What holds in this process and through a daemon; a subclass says how the client connects."""

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', 64 * MIB, data=[(0, 4 * MIB, 7)])
        self.qemu = self.engine(self.image)
        self.passer = Passer(self, self.attached())

    def reads(self, uri):
        """The whole export, compared with what the guest has."""
        self.nbdcopy(f'{uri}disk0' if uri.endswith('/') else uri, self.path('copy.raw'))
        self.assert_same(self.image, self.path('copy.raw'), fb='raw')
        os.unlink(self.path('copy.raw'))

    def export(self):
        return self.passer.do('guest.backup_info().get_export_uri(0)')

    def stop(self):
        self.assertEqual(self.passer.do('int(guest.backup_stop().state)'), 5)

    def test_a_unix_socket_serves_the_pull_once(self):
        picture = self.qemu.picture()
        path = self.path('mine')
        self.passer.do(f'given = listen({path!r})')
        inode = self.passer.do('os.readlink(f"/proc/self/fd/{given.fileno()}")')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.begin()
        self.assertEqual(self.export(), f'nbd+unix:///disk0?socket={path}')
        self.assertIn(inode, sockets(self.qemu.process.pid))
        self.reads(self.export())
        self.stop()
        self.assertNotIn(inode, sockets(self.qemu.process.pid))
        self.assert_nothing_left(self.qemu, picture)
        # QEMU takes the path of a unix socket away with its own end of it: there is no way to the next pull
        self.assertFalse(os.path.exists(path))
        self.passer.fails(f'guest.backup_begin({PULL.format("")!r})', 'INVALID_ARGUMENT', 'there is no socket', 'bind another')

    def test_a_socket_of_tcp_serves_the_pull(self):
        for host in '127.0.0.1', '::1':
            self.passer.do(f'given = listen(host={host!r})')
            port = self.passer.do('given.getsockname()[1]')
            self.passer.do('guest.fd_associate("nbd", [given])')
            self.passer.begin(" allow-insecure='yes'")
            self.assertEqual(self.export(), f'nbd://{f"[{host}]" if ":" in host else host}:{port}/disk0')
            self.reads(self.export())
            self.stop()
            self.assert_nothing_left(self.qemu)
            self.passer.begin(" allow-insecure='yes'")      # it is the client's still, and serves the next
            self.reads(self.export())
            self.stop()

    def test_the_client_may_close_its_own(self):
        path = self.path('mine')
        self.passer.do(f'given = listen({path!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.do('given.close()')
        self.passer.begin()
        self.reads(self.export())
        self.stop()
        self.assert_nothing_left(self.qemu)

    def test_what_is_no_listening_socket_is_refused_with_its_fault(self):
        for made, says in (('open("/dev/null")', 'it is not a socket'), ('socket.socket()', 'it does not listen'),
                           (f'listen({self.path("idle")!r}, backlog=0)', 'it does not listen'),
                           ('listen(kind=socket.SOCK_DGRAM)', 'it is neither a unix nor a TCP stream socket')):
            self.passer.do(f'bad = {made}')
            self.passer.fails('guest.fd_associate("nbd", [bad])', 'INVALID_ARGUMENT', f"group 'nbd', descriptor 1 of 1: {says}")
        self.passer.do(f'good = listen({self.path("good")!r})')
        self.passer.fails('guest.fd_associate("nbd", [good, 999])', 'INVALID_ARGUMENT', 'descriptor 2 of 2: it is not open')
        self.passer.fails('guest.fd_associate("nbd", [])', 'INVALID_ARGUMENT', '0 were given')
        self.passer.fails('guest.fd_associate("nbd", [good] * 17)', 'INVALID_ARGUMENT', '17 were given, 1 to 16')
        self.passer.fails('guest.fd_associate("", [good])', 'INVALID_ARGUMENT', 'needs a name')
        # none of them is there now
        self.passer.fails(f'guest.backup_begin({PULL.format("")!r})', 'INVALID_ARGUMENT', "no socket of that name was passed for guest 'g'")

    def test_what_a_pull_cannot_be_served_on_is_refused_at_begin(self):
        begin = f'guest.backup_begin({PULL.format("")!r})'
        picture = self.qemu.picture()
        self.passer.do(f'good = listen({self.path("good")!r})')
        self.passer.do('guest.fd_associate("nbd", [good, good])')
        self.passer.fails(begin, 'INVALID_ARGUMENT', "group 'nbd' has 2 descriptors: a server takes one")
        self.passer.do('guest.fd_associate("nbd", [listen("\\0abstract-%d" % os.getpid())])')
        self.passer.fails(begin, 'INVALID_ARGUMENT', 'not bound to an absolute path')
        self.passer.do('guest.fd_associate("nbd", [good])')
        os.unlink(self.path('good'))
        self.passer.fails(begin, 'INVALID_ARGUMENT', 'there is no socket', self.path('good'))
        self.passer.do('guest.fd_associate("nbd", [listen(host="0.0.0.0")])')
        self.passer.fails(begin, 'INVALID_ARGUMENT', "readable by anyone who reaches '0.0.0.0'")
        self.assertEqual(self.qemu.picture(), picture)

    def test_nothing_is_left_open_by_it(self):
        self.passer.do('given = listen(host="127.0.0.1")')

        def once():
            self.passer.do('guest.fd_associate("nbd", [given])')
            self.passer.begin()
            self.passer.fails('guest.fd_associate("bad", [given, 999])', 'INVALID_ARGUMENT')
            self.stop()
        once()
        before = self.open_descriptors()
        for _ in range(5):
            once()
        bed.wait_for("what was opened to be closed", lambda: self.open_descriptors() == before)
        inode = self.passer.do('os.readlink(f"/proc/self/fd/{given.fileno()}")')
        self.passer.process.stdin.close()
        self.passer.process.wait(30 * bed.SLOW)
        for pid in self.owners():
            bed.wait_for('the socket to be let go', lambda: inode not in sockets(pid))
        self.assertNotIn(inode, sockets(self.qemu.process.pid))


class WatcherTest(Pulls, bed.LiveTest):
    """Without a daemon: the client, its watcher, QEMU."""
    versions = ('5.2', '7.2', '10.0', '11.1')

    def attached(self):
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path, '--disk', 'disk0=disk0')
        return 'qemu:///session'

    def owners(self):
        return []

    def open_descriptors(self):
        return self.passer.descriptors()

    def test_a_killed_watcher_is_followed_by_one_that_ends_it(self):
        picture = self.qemu.picture()
        self.passer.do(f'given = listen({self.path("mine")!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.begin()
        watcher, = self.watchers_of_guest()
        os.kill(watcher, signal.SIGKILL)
        self.reads(f'nbd+unix:///disk0?socket={self.path("mine")}')
        self.must('backup-stop', 'g')
        self.assert_nothing_left(self.qemu, picture)

    def watchers_of_guest(self):
        found = []
        for pid in self.watchers():
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                if b'--watch' in file.read().split(b'\0'):
                    found.append(pid)
        if not found:   # it is the client's child as long as that lives
            with open(f'/proc/{self.passer.process.pid}/task/{self.passer.process.pid}/children') as file:
                found = [int(pid) for pid in file.read().split()]
        return found

    def test_a_monitor_that_takes_no_descriptors_is_refused(self):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.must('detach', 'g')
        other = self.engine(self.make_image('other.qcow2'), name='other', extra=('-qmp', f'tcp:127.0.0.1:{port},server=on,wait=off'))
        self.must('attach', 'g', '--qmp', f'127.0.0.1:{port}', '--disk', 'disk0=disk0')
        self.passer.do(f'given = listen({self.path("mine")!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        begin = f'guest.backup_begin({PULL.format("")!r})'
        for line in begin, begin.replace('backup_begin(', 'backup_plan(backup_xml='):
            self.passer.fails(line, 'NOT_SUPPORTED', f"its monitor is at '127.0.0.1:{port}'", 'only passed over a unix socket')
        self.assertEqual(other.ours(), [])

    def test_a_guest_that_is_off_is_refused(self):
        self.qemu.quit()
        self.must('detach', 'g')
        self.must('attach', 'g', '--image', f'vda={self.image}')
        self.passer.do(f'given = listen({self.path("mine")!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.fails(f'guest.backup_begin({PULL.format("")!r})', 'NOT_SUPPORTED', "no 'getfd'", 'use unix or tcp')


class DaemonTest(Pulls, daemon.DaemonTest):
    """Through a daemon: the descriptor crosses its socket."""
    versions = ('5.2', '7.2', '10.0', '11.1')

    def attached(self):
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('g', self.qemu, disk0='disk0')
        return f'qemu+unix:///system?socket={self.daemon.socket}'

    def owners(self):
        return [self.daemon.process.pid]

    def open_descriptors(self):
        return self.passer.descriptors(), self.daemon.descriptors(), len(sockets(self.qemu.process.pid))

    def test_a_killed_daemon_finds_the_pull_and_ends_it(self):
        picture = self.qemu.picture()
        self.passer.do(f'given = listen({self.path("mine")!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.begin()
        self.daemon.restart(signal.SIGKILL)
        self.reads(self.export())
        self.stop()
        self.assert_nothing_left(self.qemu, picture)
        # and what was passed is passed again to the next daemon
        self.passer.do('guest.fd_associate("nbd", [listen(host="127.0.0.1")])')
        self.daemon.restart(signal.SIGKILL)
        self.passer.begin()
        self.reads(self.export())
        self.stop()

    def test_a_daemon_that_dies_as_it_hands_on_the_socket_leaves_nothing(self):
        picture = self.qemu.picture()
        self.passer.do(f'given = listen({self.path("mine")!r})')
        inode = self.passer.do('os.readlink(f"/proc/self/fd/{given.fileno()}")')
        self.passer.do('guest.fd_associate("nbd", [given])')
        strace = self.popen(bed.need('strace', 'strace'), '-f', '-qq', '-o', self.path('trace'), '-e', 'trace=sendmsg', '-e', 'inject=sendmsg:signal=SIGKILL:when=1',
                            '-p', self.daemon.process.pid)
        bed.wait_for('strace', lambda: is_traced(self.daemon.process.pid))
        self.passer.fails(f'guest.backup_begin({PULL.format("")!r})', 'CONNECTION')
        self.assertEqual(self.daemon.process.wait(30 * bed.SLOW), -signal.SIGKILL)
        strace.wait(30 * bed.SLOW)
        self.daemon.start()
        self.must('dominfo', 'g', uri=self.daemon.uri)
        bed.wait_for('QEMU to let the socket go', lambda: inode not in sockets(self.qemu.process.pid))
        self.assertEqual(self.qemu.picture(), picture)

    def test_a_server_that_cannot_start_gives_the_socket_back(self):
        picture = self.qemu.picture()
        self.qemu.qmp.execute('nbd-server-start', addr={'type': 'unix', 'data': {'path': self.path('theirs')}})
        self.passer.do(f'given = listen({self.path("mine")!r})')
        inode = self.passer.do('os.readlink(f"/proc/self/fd/{given.fileno()}")')
        self.passer.do('guest.fd_associate("nbd", [given])')
        self.passer.fails(f'guest.backup_begin({PULL.format("")!r})', 'MONITOR', 'NBD server already running')
        self.assertNotIn(inode, sockets(self.qemu.process.pid))
        self.assertEqual(self.qemu.picture(), picture)
        self.qemu.qmp.execute('nbd-server-stop')        # theirs was left alone

    def test_one_clients_socket_is_not_anothers(self):
        self.passer.do(f'given = listen({self.path("mine")!r})')
        self.passer.do('guest.fd_associate("nbd", [given])')
        other = Passer(self, f'qemu+unix:///system?socket={self.daemon.socket}')
        other.fails(f'guest.backup_begin({PULL.format("")!r})', 'INVALID_ARGUMENT', 'no socket of that name was passed')

    def test_a_call_that_only_names_descriptors_passes_none(self):
        """The numbers in its arguments are the caller's; the daemon's own are never meant by them."""
        connection = self.daemon.connect()
        payload = rpc.string('g') + rpc.string('nbd') + rpc.u32(1, 3, 0)
        with self.assertRaisesRegex(rpc.WireError, '0 were given'):
            connection.call(rpc.BACKUP, 51, payload)
        for said, bare, answer in (1, b'x', '1 descriptors were announced, 0 came'), (2, b'xx', '2 descriptors were announced, 1 came'):
            connection.serial += 1
            connection.sock.sendall(rpc.packet(rpc.BACKUP, 51, rpc.u32(said) + payload, type_=4, serial=connection.serial) + bare[1:])
            socket.send_fds(connection.sock, [b'x'], [0] if said == 2 else [])
            with self.assertRaisesRegex(rpc.WireError, answer):
                connection.reply(connection.serial)
        before = self.daemon.descriptors()
        connection.sock.sendall(rpc.packet(rpc.BACKUP, 51, rpc.u32(17) + payload, type_=4))
        with self.assertRaises((EOFError, ConnectionError)):
            connection.receive()
        bed.wait_for('the connection to be gone', lambda: self.daemon.descriptors() < before)

    def test_a_client_of_libvirt_passes_one_too(self):
        path = self.path('mine')
        listener = bed.listen_unix(path)
        self.addCleanup(listener.close)
        connection = rpc.Connection(self.daemon.socket)
        self.addCleanup(connection.close)
        connection.open()
        connection.serial += 1
        connection.sock.sendall(rpc.packet(rpc.LIBVIRT, 443, rpc.u32(1) + connection.domain('g') + rpc.string('nbd') + rpc.u32(0), type_=4, serial=connection.serial))
        socket.send_fds(connection.sock, [b'x'], [listener.fileno()])
        connection.reply(connection.serial)
        connection.call(rpc.LIBVIRT, 421, connection.domain('g') + rpc.string(PULL.format('')) + rpc.u32(0, 0))
        self.reads(f'nbd+unix:///disk0?socket={path}')
        self.stop()

    def test_none_goes_over_ssh(self):
        """In place of ssh: what runs its command here, by the same pipe."""
        ssh = self.path('ssh')
        with open(ssh, 'w') as file:
            file.write('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift 2; eval exec "$@"\n')
        os.chmod(ssh, 0o755)
        client = Passer(self, f'qemu+ssh://there/system?command={ssh}&libbackupd={daemon.libbackupd_path()}&socket={self.daemon.socket}')
        client.do(f'given = listen({self.path("mine")!r})')
        client.fails('guest.fd_associate("nbd", [given])', 'NOT_SUPPORTED', "host 'there'", 'cannot be passed over ssh')
        client.fails(f'guest.backup_begin({PULL.format("")!r})', 'INVALID_ARGUMENT', 'no socket of that name was passed')

    def test_what_is_no_descriptor_at_all_is_a_mistake_of_types(self):
        for wrong in '3', '["x"]', '"3"', '[None]':
            self.assertEqual(self.passer.do(f'kind_of(lambda: guest.fd_associate("nbd", {wrong}))'), 'TypeError')

    def test_a_reader_only_may_not(self):
        reader = Passer(self, f'qemu+unix:///system?socket={self.daemon.readonly_socket}')
        reader.do(f'given = listen({self.path("mine")!r})')
        reader.fails('guest.fd_associate("nbd", [given])', 'ACCESS_DENIED')


if __name__ == '__main__':
    bed.main()
