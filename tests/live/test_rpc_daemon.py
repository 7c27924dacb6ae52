#!/usr/bin/python3
"""The daemon itself: it may be killed, restarted, flooded, fed with garbage, reached in every way, and keeps guests and jobs."""
import json
import datetime
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest

import bed
import daemon
import rpc
import sshd

MIB = 1 << 20


class OneGuest(daemon.DaemonTest):
    """A daemon with a bare block engine g: disk0 is vda."""
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.qemu = self.engine(self.make_image('disk.qcow2', 64 * MIB, data=[(0, 32 * MIB, 7)]))
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('g', self.qemu, vda='disk0')
        self.uri = f'qemu+unix:///system?socket={self.daemon.socket}'

    def ours(self, *arguments, rc=0, **kw):
        return self.must(*arguments, uri=self.uri, rc=rc, **kw)

    def info(self, *more, **kw):
        return json.loads(self.ours('backup-info', 'g', *more, '--json', **kw).out)

    def begin_push(self, name='target.qcow2', limit=MIB):
        text = f"""<domainbackup><disks><disk name='vda' type='file'><target file='{self.path(name)}'/><driver type='qcow2'/>
          <limit bytes_per_sec='{limit}'/></disk></disks></domainbackup>"""
        self.ours('backup-begin', 'g', self.write('push.xml', text))

    def begin_pull(self, checkpoint=None):
        text = f"""<domainbackup mode='pull'><server transport='unix' socket='{self.path("nbd")}'/><disks>
          <disk name='vda' type='file'><scratch file='{self.path("scratch.qcow2")}'/></disk></disks></domainbackup>"""
        more = [self.write('c.xml', f'<domaincheckpoint><name>{checkpoint}</name></domaincheckpoint>')] if checkpoint else []
        self.ours('backup-begin', 'g', self.write('pull.xml', text), *more)

    def speed_up(self):
        self.ours('backup-limit', 'g', '0')


class DeathTest(OneGuest):
    def push_survives(self, sig):
        self.begin_push()
        bed.wait_for('some bytes', lambda: self.info()['disks'][0]['bytes'] > 0)
        before = self.info()
        status = self.daemon.stop(sig)
        self.assertEqual(status, 0 if sig == signal.SIGTERM else -sig)
        self.daemon.start()
        after = self.info()
        self.assertEqual([after[k] for k in ('id', 'state', 'started', 'mode')], [before[k] for k in ('id', 'state', 'started', 'mode')])
        self.assertEqual(after['disks'][0]['total'], before['disks'][0]['total'])
        self.assertGreaterEqual(after['disks'][0]['bytes'], before['disks'][0]['bytes'])
        asked = time.time()
        elapsed = self.client('12', 'virsh', '-c', self.daemon.uri, 'domjobinfo', 'g', '--rawstats')[1]
        self.assertIn('operation: 9', elapsed)
        begun = datetime.datetime.fromisoformat(before['started'].replace('Z', '+00:00')).timestamp()
        counted = int(re.search(r'time_elapsed: (\d+)', elapsed)[1]) / 1000
        self.assertGreater(counted, asked - begun - 0.1, 'the elapsed time was reset')
        self.speed_up()
        self.ours('backup-wait', 'g')
        self.assertEqual(self.info()['state'], 'completed')
        self.assert_same(self.path('target.qcow2'), self.path('disk.qcow2'))
        self.assert_nothing_left(self.qemu)

    def test_a_push_goes_on_when_the_daemon_is_killed(self):
        self.push_survives(signal.SIGKILL)

    def test_a_push_goes_on_when_the_daemon_is_stopped(self):
        self.push_survives(signal.SIGTERM)

    def pull_survives(self, sig):
        self.begin_pull('c1')
        before = self.info()
        self.daemon.restart(sig)
        after = self.info()
        self.assertEqual(after['state'], 'ready')
        self.assertEqual([after[k] for k in ('id', 'started')], [before[k] for k in ('id', 'started')])
        self.nbdcopy(f'nbd+unix:///vda?socket={self.path("nbd")}', self.path('copy.raw'))
        self.assertEqual(self.ours('checkpoint-list', 'g', '--name').out.split(), ['c1'])       # the provisional one
        self.ours('backup-stop', 'g')
        self.assertEqual(self.info()['state'], 'completed')
        self.assertEqual(self.ours('checkpoint-list', 'g', '--name').out.split(), ['c1'])
        self.assert_same(self.path('copy.raw'), self.path('disk.qcow2'), 'raw', 'qcow2')
        self.assert_nothing_left(self.qemu)

    def test_a_pull_stays_ready_when_the_daemon_is_killed(self):
        self.pull_survives(signal.SIGKILL)

    def test_a_pull_stays_ready_when_the_daemon_is_stopped(self):
        self.pull_survives(signal.SIGTERM)

    def begin_raw(self, connection):
        """The arguments of backup_begin; connected before, so that the time runs from the call on."""
        text = f"""<domainbackup mode='pull'><server transport='unix' socket='{self.path("nbd")}'/><disks>
          <disk name='vda' type='file'><scratch file='{self.path("scratch.qcow2")}'/></disk></disks></domainbackup>"""
        serial = connection.send(rpc.BACKUP, 40, rpc.string('g') + rpc.string(text) + rpc.string('') + rpc.u32(0, 0, 0))
        try:
            connection.reply(serial)
            return True
        except (EOFError, ConnectionResetError):
            return False

    def jobs(self):
        return {(job['id'], job['state']) for job in json.loads(self.ours('backup-list', 'g', '--json').out)['jobs']}

    def test_kills_during_begin_leave_a_true_record_and_no_remains(self):
        """Sooner when the last begin was through, later when it had not begun: most kills come in the middle. Afterwards the job
        is ready or it failed, and after its end nothing is left."""
        states, known, delay = [], set(), 0.03
        for _ in range(12):
            connection = self.daemon.connect()
            killer = threading.Timer(delay * self.random.uniform(0.8, 1.2), self.daemon.process.kill)
            killer.start()
            begun = self.begin_raw(connection)
            killer.join()
            self.daemon.process.wait()
            self.daemon.start()
            new = self.jobs() - known
            self.assertLessEqual(len(new), 1)
            states.append(dict(new).popitem()[1] if new else 'none')
            delay *= {'ready': 0.7, 'none': 1.4}.get(states[-1], self.random.uniform(0.8, 1.2))
            if begun:
                self.assertIn(states[-1], ('ready', 'completed'))
            if states[-1] == 'ready':
                self.ours('backup-stop', 'g', '--abort')
            known = self.jobs()
            self.assertEqual({state for _, state in known} - {'aborted', 'failed'}, set())
            self.assertEqual(self.qemu.ours(), [], f'seed {self.seed}: {states}')
            self.assertFalse(os.path.exists(self.path('scratch.qcow2')), states)
        print('states after the kills:', *states)
        self.assertNotEqual(set(states), {'none'})

    def test_a_client_that_was_connected_goes_on_after_a_restart(self):
        shell = self.popen(bed.baksh_path(), '-c', self.uri, env=self.environment, text=True, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        shell.stdin.write('domstate g\n')
        shell.stdin.flush()
        self.read_until(shell, 'running')
        self.daemon.restart(signal.SIGKILL)
        shell.stdin.write('domuuid g\ndominfo g\n')
        shell.stdin.flush()
        self.read_until(shell, 'UUID:')
        shell.stdin.close()

    def read_until(self, process, word):
        seen = ''
        while word not in seen:
            line = process.stdout.readline()
            self.assertNotEqual(line, '', seen)
            seen += line

    def test_in_process_use_is_refused_while_the_daemon_owns_the_state(self):
        """qemu:///system goes through it; a second daemon ends at once."""
        environment = {'LIBBACKUP_STATE_DIR': self.daemon.state}
        self.must('list', uri='qemu:///system', env=environment)
        done = subprocess.run([daemon.libbackupd_path(), '--state-dir', self.daemon.state, '--socket', self.path('second')],
                              capture_output=True, text=True, timeout=30 * bed.SLOW, env=self.environment)
        self.assertEqual(done.returncode, 1)
        self.assertIn('another libbackupd owns', done.stderr)


class BadPeerTest(OneGuest):
    def assert_serves(self):
        self.virsh_ok(self.daemon.uri, 'domstate', 'g')

    def raw(self, data=b''):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20 * bed.SLOW)
        sock.connect(self.daemon.socket)
        self.addCleanup(sock.close)
        sock.sendall(data)
        return sock

    def assert_dropped(self, sock, what):
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except socket.timeout:
            self.fail(f'{what}: still connected')

    def test_garbage_is_dropped_at_once(self):
        for what, data in {'random': self.random.randbytes(100000), 'http': b'GET / HTTP/1.0\r\n\r\n' * 10,
                           '32 MiB header': rpc.u32(33554432, rpc.LIBVIRT, 1, 66, 0, 0, 0), 'zero': bytes(1000),
                           'before open 64 KiB + 1': rpc.u32(65537) + bytes(70000)}.items():
            with self.subTest(what=what):
                try:
                    sock = self.raw(data)
                except (BrokenPipeError, ConnectionResetError):
                    continue
                self.assert_dropped(sock, what)
        self.assert_serves()

    def test_what_libvirtd_answers_with_an_error_is_answered_with_one(self):
        connection = rpc.Connection(self.daemon.socket)
        self.addCleanup(connection.close)
        for program, procedure, payload, code, words in (
                (rpc.LIBVIRT, rpc.LIST, rpc.u32(1, 0), 1, 'not open'), (rpc.LIBVIRT, 9999, b'', 39, 'unknown procedure: 9999'),
                (rpc.LIBVIRT, 318, b'', 39, 'unknown procedure: 318'), (0x12345678, 1, b'', 39, 'Cannot find program'),
                (rpc.LIBVIRT, 1, b'\0\0', 39, 'Unable to decode'), (rpc.BACKUP, 10, rpc.u32(0), 1, 'not open')):
            with self.assertRaises(rpc.WireError) as caught:
                connection.call(program, procedure, payload)
            self.assertEqual(caught.exception.code, code)
            self.assertIn(words, caught.exception.message)
        connection.open()
        for payload, code in ((rpc.string(b'a\0b'), 8), (rpc.string(b'\xff'), 8), (rpc.u32(4194305) + bytes(20), 39), (b'', 39),
                              (rpc.string('n' * 4000000), 42)):
            with self.assertRaises(rpc.WireError) as caught:
                connection.call(rpc.LIBVIRT, rpc.BY_NAME, payload)
            self.assertEqual(caught.exception.code, code, payload[:20])
            self.assertLessEqual(len(caught.exception.message), 4096)
        connection.sock.sendall(rpc.packet(rpc.LIBVIRT, 66, type_=rpc.MESSAGE))     # in silence
        connection.call(rpc.LIBVIRT, rpc.LIST, rpc.u32(1, 0))
        with self.assertRaises(rpc.WireError):
            connection.open()
        connection.call(rpc.LIBVIRT, rpc.LIST, rpc.u32(1, 0))

    def test_an_answer_may_overtake_an_earlier_one(self):
        """A wait that takes two seconds is asked first."""
        self.begin_pull()
        connection = self.daemon.connect()
        slow = connection.send(rpc.BACKUP, 45, rpc.string('g') + rpc.string('') + rpc.u32(0, 2000000))
        fast = connection.send(rpc.BACKUP, 21, rpc.string('g') + rpc.u32(0))
        connection.reply(fast)
        self.assertNotIn(slow, connection.replies)
        connection.reply(slow)
        self.ours('backup-stop', 'g')

    def test_a_peer_that_does_not_open_or_finish_or_read_is_dropped(self):
        """The limits of time: 10 s to open, 30 s for a whole packet, 30 s to take a reply. The others are served meanwhile."""
        before = self.daemon.memory()
        silent, half = self.raw(), rpc.Connection(self.daemon.socket).open()
        half.sock.sendall(rpc.u32(1000))
        deaf = rpc.Connection(self.daemon.socket).open()
        self.addCleanup(half.close)
        self.addCleanup(deaf.close)
        deaf.sock.setblocking(False)
        sent = 0
        call = rpc.packet(rpc.LIBVIRT, 7)       # capabilities: 20 times as long as the question
        try:
            while sent < 64 * MIB:
                sent += deaf.sock.send(call * 100)
        except BlockingIOError:
            pass
        self.assertLess(sent, 16 * MIB, 'calls of a peer that reads no reply are taken without end')
        self.assert_serves()
        memory = self.daemon.memory()
        self.assertLess(memory, 64 * MIB * bed.SLOW)
        silent.settimeout(25 * bed.SLOW)
        self.assert_dropped(silent, 'never opened')
        half.sock.settimeout(50 * bed.SLOW)
        self.assert_dropped(half.sock, 'half a packet')
        bed.wait_for('the deaf one to be dropped', lambda: 'does not read its replies' in self.daemon.read_log(), timeout=60)
        self.assert_serves()
        if bed.SLOW == 1:
            bed.wait_for('its memory to be given back', lambda: self.daemon.memory() < before + MIB // 2)


class StateTest(OneGuest):
    """What the daemon knows of a guest without asking is never older than what QEMU has told somebody else."""
    versions = ('5.2', '7.2', '11.1')

    def state(self):
        reader = self.connection.call(rpc.LIBVIRT, rpc.STATE, self.guest + rpc.u32(0))
        theirs = reader.i32(), reader.i32()
        reader = self.daemon.connect().call(rpc.BACKUP, 21, rpc.string('g') + rpc.u32(0))
        self.assertEqual((reader.i32(), reader.i32()), theirs, 'our own program')
        return theirs

    def test_every_change_is_seen_at_once(self):
        self.connection = rpc.Connection(self.daemon.socket).open()
        self.addCleanup(self.connection.close)
        self.guest = self.connection.call(rpc.LIBVIRT, rpc.BY_NAME, rpc.string('g')).data
        for _ in range(100):
            self.qemu.qmp.execute('stop')
            self.assertEqual(self.state(), (3, 1))
            self.qemu.qmp.execute('cont')
            self.assertEqual(self.state(), (1, 1))
        with self.qemu.stopped():               # who answers nothing was not asked
            self.assertEqual(self.state(), (1, 1))
            reader = self.connection.call(rpc.LIBVIRT, 150, self.guest)
            self.assertEqual(reader.i32(), 1)
        self.qemu.qmp.execute('stop')
        with self.qemu.stopped():               # negative control: what may be left without an event is asked for
            self.connection.sock.settimeout(0.5)
            with self.assertRaises(OSError):
                self.connection.call(rpc.LIBVIRT, rpc.STATE, self.guest + rpc.u32(0))
        self.connection.close()
        self.connection = rpc.Connection(self.daemon.socket).open()
        self.qemu.qmp.execute('cont')
        self.assertEqual([self.state(), self.state()], [(1, 1)] * 2)
        self.qemu.kill()
        self.assertEqual(self.state()[0], 5)

    def test_a_guest_that_was_detached_behind_the_daemon_is_gone(self):
        connection = rpc.Connection(self.daemon.socket).open()
        self.addCleanup(connection.close)
        guest = connection.call(rpc.LIBVIRT, rpc.BY_NAME, rpc.string('g')).data
        for _ in range(2):
            connection.call(rpc.LIBVIRT, rpc.STATE, guest + rpc.u32(0))
        os.rename(f'{self.daemon.state}/guests/g', self.path('elsewhere'))
        for number, arguments in ((rpc.STATE, guest + rpc.u32(0)), (rpc.BY_NAME, rpc.string('g')), (150, guest)):
            with self.assertRaises(rpc.WireError) as caught:
                connection.call(rpc.LIBVIRT, number, arguments)
            self.assertEqual(caught.exception.code, 42)
        os.rename(self.path('elsewhere'), f'{self.daemon.state}/guests/g')
        connection.call(rpc.LIBVIRT, rpc.STATE, guest + rpc.u32(0))


class ManyPeersTest(OneGuest):
    alone = True

    def test_a_thousand_idle_peers_and_fifty_busy_ones(self):
        """For SECONDS (60 when asked with LIBBACKUP_TEST_LONG): no error, and little memory for each."""
        seconds = 60 if os.environ.get('LIBBACKUP_TEST_LONG') else 5
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))   # ours: a login may have 1024
        rate = self.path('rpc_rate')
        bed.run('cc', '-O2', '-o', rate, os.path.join(bed.TOP, 'bench/rpc_rate.c'))
        self.daemon.restart()                   # nothing is free in its heap that peers could take
        before = self.daemon.memory()
        idle = [rpc.Connection(self.daemon.socket).open() for _ in range(1000)]
        self.addCleanup(lambda: [c.close() for c in idle])
        each = (self.daemon.memory() - before) / 1000
        busy = [self.popen(rate, self.daemon.socket, '23', str(seconds), '1', 'g', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(50)]
        rates = []
        for process in busy:
            out, err = process.communicate(timeout=(seconds + 60) * bed.SLOW)
            self.assertEqual(process.returncode, 0, err)
            rates.append(int(out))
        for connection in idle:
            connection.call(rpc.LIBVIRT, 157)
        print(f'{each:.0f} bytes an idle peer, 50 busy ones {sum(rates)} calls/s in {seconds} s, slowest {min(rates)}; '
              f'resident {self.daemon.memory() / MIB:.1f} MiB')
        if bed.SLOW == 1:           # not what a sanitizer keeps
            self.assertLess(each, 8192)
        self.assertGreater(min(rates), 0)

    def test_ten_thousand_connections_leak_nothing(self):
        def rounds(count):
            for number in range(count):
                connection = rpc.Connection(self.daemon.socket)
                if number % 2:
                    connection.open()
                if number % 4 == 3:
                    connection.call(rpc.LIBVIRT, 316, rpc.u32(0, 0))
                    connection.domain('g')
                if number % 8 == 7:
                    connection.send(rpc.LIBVIRT, rpc.LIST, rpc.u32(1, 0))      # and gone before the answer
                connection.close()
            bed.wait_for('the last peer to be gone', lambda: self.daemon.descriptors() <= self.descriptors)
        self.descriptors = self.daemon.descriptors()
        rounds(1000)
        memory = self.daemon.memory()
        rounds(10000)
        growth = self.daemon.memory() - memory
        print(f'10000 connections: {growth / 1024:.0f} KiB more, {self.daemon.descriptors()} descriptors as before')
        if bed.SLOW == 1:
            self.assertLess(growth, 512 * 1024)


class WaysInTest(OneGuest):
    def test_the_sockets_have_the_modes_that_are_documented(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.socket).st_mode), 0o660)
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.readonly_socket).st_mode), 0o666)

    def test_the_read_only_socket_lets_everybody_look_and_nobody_touch(self):
        uri = f'bak:///system?socket={self.daemon.readonly_socket}'
        self.virsh_ok(uri, 'list', '--all')
        rc, text = self.virsh(uri, 'domjobabort', 'g')
        self.assertEqual(rc, 1)
        self.assertIn('operation forbidden: read only access prevents virDomainAbortJob', text)
        done = self.baksh('backup-begin', 'g', '--mode', 'push', '--target', f'vda={self.path("t")}',
                          uri=f'qemu+unix:///system?socket={self.daemon.readonly_socket}')
        self.assertEqual(done.rc, 1, done)
        self.assertIn('read only', done.err)

    def test_with_polkit_other_users_reach_the_socket_and_stay_out_unless_it_can_be_asked(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest('becoming another user needs root')
        os.chmod(self.directory, 0o755)
        server = daemon.Daemon(self, name='polkit', state=self.path('state-polkit'), config='polkit = yes\n',
                               env={'DBUS_SYSTEM_BUS_ADDRESS': f'unix:path={self.path("no-bus")}'})
        self.assertEqual(stat.S_IMODE(os.stat(server.socket).st_mode), 0o666)

        virsh = bed.need('virsh', 'libvirt-clients')

        def nobody(path, *options):
            return bed.run('setpriv', '--reuid', 'nobody', '--regid', '65534', '--clear-groups', virsh, '-c', f'bak:///system?socket={path}', *options, 'list',
                           check=False, env={**os.environ, 'HOME': '/nonexistent', 'XDG_CACHE_HOME': '/nonexistent'})
        done = nobody(server.socket)
        self.assertEqual(done.returncode, 1)
        self.assertIn('access denied: polkit cannot be asked about nobody', done.stderr)
        self.assertEqual(nobody(server.readonly_socket).returncode, 0)
        self.assertIn('Permission denied', nobody(self.daemon.socket).stderr)
        server.connect().call(rpc.BACKUP, 10, rpc.u32(0))           # root is not asked

    def fake_ssh(self):
        """What ssh would do on the other host: it hands the words to a shell there. Notes them in words."""
        path = self.write('ssh', f"""#!/bin/sh
printf '%s\\n' "$@" > {self.path('words')}
while [ $# -gt 0 ]; do case $1 in
  -e|-p|-l|-o|-i) shift 2 ;;
  --) shift; break ;;
  -*) shift ;;
  *) break ;;
esac; done
shift
PATH={os.path.dirname(daemon.libbackupd_path())}:$PATH LIBBACKUP_STATE_DIR={self.daemon.state} exec sh -c "$*"
""")
        os.chmod(path, 0o755)
        return path

    def test_our_client_comes_by_ssh(self):
        uri = f'qemu+ssh://me@there:2222/system?command={self.fake_ssh()}'
        self.assertIn('running', self.must('list', uri=uri).out)
        with open(self.path('words')) as f:
            self.assertEqual(f.read().split(), ['-T', '-e', 'none', '-p', '2222', '-l', 'me', '--', 'there', 'libbackupd', '--stdio'])
        self.must('list', uri=uri + f'&socket={self.daemon.socket}')
        there = daemon.libbackupd_path()
        self.assertIn('running', self.must('list', uri=uri + f'&libbackupd={there}').out)
        with open(self.path('words')) as f:
            self.assertIn(f"'{there}'", f.read().split())
        self.must('list', uri=uri + '&libbackupd=/none/libbackupd', rc=5)
        # without a daemon the process at the other end does the work itself
        self.daemon.stop()
        self.assertIn('running', self.must('list', uri=uri).out)

    def test_an_ssh_that_fails_is_no_connection(self):
        path = self.write('bad-ssh', '#!/bin/sh\nexit 255\n')
        os.chmod(path, 0o755)
        self.must('list', uri=f'qemu+ssh://there/system?command={path}', rc=5)
        self.must('list', uri='qemu+ssh://there/system?command=/nonexistent/ssh', rc=5)

    def test_stock_clients_come_by_ssh_with_netcat_and_with_our_helper(self):
        ssh, netcat = self.fake_ssh(), daemon.libbackupd_path()
        for more in (f'&netcat={netcat}', '&proxy=netcat' if self.has_unix_netcat() else f'&netcat={netcat}&proxy=netcat'):
            out = self.virsh_ok(f'qemu+ssh://there/system?command={ssh}&socket={self.daemon.socket}&no_verify=1{more}', 'domstate', 'g')
            self.assertIn('running', out)

    @staticmethod
    def has_unix_netcat():
        done = subprocess.run(['sh', '-c', 'nc -h 2>&1'], capture_output=True, text=True)
        return '-U' in done.stdout

    def test_the_helper_for_ssh_joins_standard_input_and_socket(self):
        self.assertEqual(bed.run(daemon.libbackupd_path(), '-q').stdout, '')
        call = rpc.packet(rpc.LIBVIRT, 66)
        done = subprocess.run([daemon.libbackupd_path(), '-U', self.daemon.socket], input=call, capture_output=True, timeout=30 * bed.SLOW)
        self.assertEqual(done.stdout[28:], rpc.u32(1, 0))
        self.assertEqual(done.returncode, 0)
        done = subprocess.run([daemon.libbackupd_path(), '-U', self.path('nosuch')], input=b'', capture_output=True, timeout=30 * bed.SLOW)
        self.assertEqual(done.returncode, 1)

    def test_it_takes_the_sockets_that_a_service_manager_holds(self):
        path, path_ro = self.path('act.sock'), self.path('act-ro.sock')
        listeners = [bed.listen_unix(path), bed.listen_unix(path_ro)]
        # a client may come before the daemon is there
        early = rpc.Connection(path)
        early.sock.sendall(rpc.packet(rpc.LIBVIRT, 66, serial=1))
        script = ('exec 3<&%d 4<&%d; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$@"' % tuple(s.fileno() for s in listeners))
        state = self.path('state2')
        process = self.popen('sh', '-c', script, 'sh', daemon.libbackupd_path(), '--state-dir', state, env=self.environment,
                             pass_fds=[s.fileno() for s in listeners], stderr=subprocess.DEVNULL)
        self.assertEqual(early.receive()[5], rpc.u32(1, 0))
        self.assertIn('Id', self.virsh_ok(f'bak:///system?socket={path}', 'list'))
        rc, text = self.virsh(f'bak:///system?socket={path_ro}', 'domjobabort', 'x')
        self.assertEqual(rc, 1)
        process.terminate()
        self.assertEqual(process.wait(30), 0)
        self.assertTrue(os.path.exists(path), 'the manager owns its sockets')


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="false"/><allow receive_sender="*"/></policy></busconfig>
"""
RULES = """polkit.addRule(function (action, subject) {
  if (action.id == "org.libbackup.use" && subject.user == "nobody")
    return polkit.Result.YES;
  if (action.id == "org.libbackup.use" && subject.user == "bin")
    return polkit.Result.NO;
});
"""


class PolkitTest(OneGuest):
    """A real polkitd on a bus of its own, which sees our action and our rules where it looks for them."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode:
            raise unittest.SkipTest('needs root and mount namespaces')
        polkitd = next((path for path in ('/usr/lib/polkit-1/polkitd', '/usr/libexec/polkitd') if os.access(path, os.X_OK)), None)
        if not polkitd:
            raise unittest.SkipTest('no polkitd here: install polkitd')
        os.chmod(self.directory, 0o755)
        for folder in ('actions', 'rules'):
            os.mkdir(self.path(folder), 0o755)
        shutil.copy(os.path.join(bed.TOP, 'data/org.libbackup.policy'), self.path('actions'))
        self.write('rules/10-test.rules', RULES)
        bus = self.path('bus')
        self.popen(bed.need('dbus-daemon', 'dbus-daemon'), '--nofork', '--nopidfile', f'--config-file={self.write("bus.conf", BUS.format(bus))}', stderr=subprocess.DEVNULL)
        bed.wait_for('the bus', lambda: os.path.exists(bus))
        os.chmod(bus, 0o666)
        self.environment['DBUS_SYSTEM_BUS_ADDRESS'] = f'unix:path={bus}'
        run = f'mount --bind {self.path("actions")} /usr/share/polkit-1/actions && mount --bind {self.path("rules")} /etc/polkit-1/rules.d && exec {polkitd} --no-debug'
        self.polkitd = self.popen('unshare', '-m', 'sh', '-c', run, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bed.wait_for('polkitd', self.is_there)
        self.server = daemon.Daemon(self, name='polkit', state=self.path('state-polkit'), config='polkit = yes\n')
        self.server.attach('h', self.engine(self.make_image('other.qcow2'), name='other'), vda='disk0')

    def is_there(self):
        names = bed.run('dbus-send', '--system', '--print-reply', '--dest=org.freedesktop.DBus', '/', 'org.freedesktop.DBus.ListNames', env=self.environment).stdout
        return 'org.freedesktop.PolicyKit1' in names

    def virsh_as(self, user, *arguments):
        entry = pwd.getpwnam(user)
        done = bed.run('setpriv', '--reuid', user, '--regid', str(entry.pw_gid), '--clear-groups', bed.need('virsh', 'libvirt-clients'), '-c',
                       f'bak:///system?socket={self.server.socket}', *arguments, check=False,
                       env={**self.environment, 'HOME': '/nonexistent', 'XDG_CACHE_HOME': '/nonexistent', 'LC_ALL': 'C.UTF-8'})
        return done.returncode, done.stdout + done.stderr

    def test_it_decides_who_comes_in(self):
        rc, text = self.virsh_as('nobody', 'checkpoint-create-as', 'h', 'c1')
        self.assertEqual(rc, 0, text)
        self.assertRegex(self.server.read_log(), 'audit: .*who=nobody .*call=virDomainCheckpointCreateXML guest=h result=done')
        for user in ('bin', 'daemon'):          # a rule says no; none does, and there is nobody to ask for a password
            rc, text = self.virsh_as(user, 'list')
            self.assertEqual(rc, 1)
            self.assertIn(f'access denied: polkit does not let {user} use the daemon (org.libbackup.use)', text)
        self.write('rules/10-test.rules', RULES.replace('"nobody"', '"daemon"'))        # it is asked each time, so a new rule counts
        bed.wait_for('the new rule', lambda: self.virsh_as('daemon', 'list')[0] == 0)
        self.assertEqual(self.virsh_as('nobody', 'list')[0], 1)
        self.polkitd.terminate()
        self.polkitd.wait(30 * bed.SLOW)
        rc, text = self.virsh_as('daemon', 'list')
        self.assertEqual(rc, 1)
        self.assertIn('access denied: polkit cannot be asked about daemon', text)
        self.server.connect().call(rpc.BACKUP, 10, rpc.u32(0))          # root is not asked


class SshTest(OneGuest):
    """A real ssh and a real sshd, with keys of their own."""

    def setUp(self):
        super().setUp()
        self.sshd = sshd.Sshd(self, f'PATH={os.path.dirname(daemon.libbackupd_path())}:/usr/bin:/bin LIBBACKUP_STATE_DIR={self.daemon.state}')
        self.remote = f'qemu+ssh://127.0.0.1:{self.sshd.port}/system?command={self.sshd.command}'

    def test_our_client_backs_up(self):
        target = self.path('target.qcow2')
        self.must('backup-begin', 'g', '--target', f'vda={target}', '--wait', uri=self.remote)
        self.assert_same(target, self.path('disk.qcow2'))
        self.daemon.stop()                      # without a daemon the process at the other end does it
        os.unlink(target)
        self.must('backup-begin', 'g', '--target', f'vda={target}', '--wait', uri=self.remote)
        self.assert_same(target, self.path('disk.qcow2'))
        self.assert_nothing_left(self.qemu)

    def test_a_point_is_made_through_a_forwarded_socket(self):
        repository = self.path('repo')
        self.must('repository-create', repository)
        point = self.json('point-create', 'g', '--repository', repository, uri=self.remote)
        self.assert_same(point['disks'][0]['path'], self.path('disk.qcow2'))
        again = self.json('point-create', 'g', '--repository', repository, uri=self.remote)
        self.assertEqual((again['disks'][0]['kind'], again['stored']), ('incremental', 0))
        self.assert_same(again['disks'][0]['path'], self.path('disk.qcow2'))
        self.assert_nothing_left(self.qemu)

    def test_stock_clients_come_with_netcat_and_with_our_helper(self):
        for more in [f'&netcat={daemon.libbackupd_path()}'] + ['&proxy=netcat'] * self.has_unix_netcat():
            uri = f'{self.remote}&socket={self.daemon.socket}{more}'
            self.assertIn('running', self.virsh_ok(uri, 'domstate', 'g'))
            rc, text = self.virsh(uri, 'domstate', 'nosuch')
            self.assertEqual((rc, "failed to get domain 'nosuch'" in text), (1, True), text)

    has_unix_netcat = staticmethod(WaysInTest.has_unix_netcat)

    def test_a_host_that_is_not_the_one_that_is_known_is_no_connection(self):
        self.sshd.trust('other')
        done = self.must('list', uri=self.remote, rc=5)
        self.assertIn('Host key verification failed', done.err)


class TlsTest(OneGuest):
    def certificate(self, folder, role, subject, ca='ca', usage='clientAuth'):
        key, cert, request = (f'{folder}/{role}{what}.pem' for what in ('key', 'cert', 'req'))
        bed.run('openssl', 'req', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-subj', subject, '-out', request)
        names = self.write('ext', f'subjectAltName=DNS:localhost,IP:127.0.0.1\nkeyUsage=digitalSignature,keyEncipherment\n'
                           f'extendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n')
        bed.run('openssl', 'x509', '-req', '-in', request, '-CA', self.path(f'{ca}cert.pem'), '-CAkey', self.path(f'{ca}key.pem'),
                '-days', '2', '-extfile', names, '-out', cert, '-set_serial', str(self.random.randrange(1, 1 << 30)))

    def authority(self, name):
        bed.run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', self.path(f'{name}key.pem'), '-out',
                self.path(f'{name}cert.pem'), '-subj', f'/CN={name}', '-days', '2')

    def pki(self, name, subject, ca='ca', role='client', usage='clientAuth'):
        os.mkdir(self.path(name))
        with open(self.path('cacert.pem')) as f:
            self.write(f'{name}/cacert.pem', f.read())
        self.certificate(self.path(name), role, subject, ca, usage)
        return self.path(name)

    def test_certificates_decide_who_comes_in_and_the_policy_what_he_may(self):
        bed.need('openssl', 'openssl')
        self.authority('ca')
        self.authority('other')
        server = self.pki('server', '/CN=localhost', role='server', usage='serverAuth')
        ops, reader = self.pki('ops', '/O=Example Ltd/CN=ops'), self.pki('reader', '/CN=reader')
        stranger, forged = self.pki('stranger', '/CN=stranger'), self.pki('forged', '/CN=ops', ca='other')
        policy = self.write('policy', '# who guest what\ntls:*CN=ops* g all\ntls:CN=reader g see\n')
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        host = daemon.Daemon(self, '--listen-tls', f'127.0.0.1:{port}', name='tls', state=self.path('state-tls'),
                             config=f'tls_x509_dir = {server}\npolicy_file = {policy}\n')
        self.daemon.stop()
        host.attach('g', self.qemu, vda='disk0')
        host.connect().attach('secret', images=[('vda', self.make_image('secret.qcow2'))])

        def virsh(pki, *words):
            return self.virsh(f'qemu+tls://localhost:{port}/system?pkipath={pki}', *words)

        def ours(pki, *words):
            return self.baksh(*words, uri=f'qemu+tls://localhost:{port}/system?pkipath={pki}')

        for listing in (virsh(ops, 'list', '--all', '--name')[1], ours(ops, 'list', '--all', '--name').out):
            self.assertEqual(listing.split(), ['g'])       # the other guest is not there for him
        rc, text = virsh(ops, 'dominfo', 'secret')
        self.assertEqual((rc, 'failed to get domain' in text), (1, True))
        self.assertEqual(virsh(ops, 'checkpoint-create-as', 'g', 'c1')[0], 0)
        rc, text = virsh(reader, 'checkpoint-create-as', 'g', 'c2')
        self.assertIn('access denied: the policy does not let CN=reader backup guest', text)
        self.assertEqual(ours(reader, 'checkpoint-list', 'g', '--name').out.split(), ['c1'])
        done = ours(reader, 'checkpoint-delete', 'g', 'c1')
        self.assertEqual(done.rc, 1, done)
        self.assertIn('does not let CN=reader backup', done.err)
        for pki in (stranger, forged):
            self.assertEqual(virsh(pki, 'list')[0], 1)
            done = ours(pki, 'list')
            self.assertIn(done.rc, (1, 5), done)        # denied, or the handshake failed
            self.assertIn('localhost', done.err)
        # SIGHUP: another policy, at once for the next connection and for those that are there
        self.write('policy', 'tls:CN=stranger * see\n')
        host.process.send_signal(signal.SIGHUP)
        bed.wait_for('the new policy', lambda: 'is read again' in host.read_log())
        self.assertEqual(virsh(ops, 'list')[0], 1)
        self.assertEqual(virsh(stranger, 'list', '--all', '--name')[1].split(), ['g', 'secret'])
        # a wrong one changes nothing
        self.write('policy', 'tls:CN=ops * everything\n')
        host.process.send_signal(signal.SIGHUP)
        bed.wait_for('the complaint', lambda: 'policy:1:' in host.read_log())
        self.assertEqual(virsh(stranger, 'list', '--all', '--name')[1].split(), ['g', 'secret'])
        log = host.read_log()
        self.assertRegex(log, r'audit: .*who="O=Example Ltd,CN=ops" .*call=virDomainCheckpointCreateXML guest=g result=done|'
                              r'audit: .*who="CN=ops,O=Example Ltd" .*call=virDomainCheckpointCreateXML guest=g result=done')
        self.assertRegex(log, r'audit: .*who=CN=reader .*call=virDomainCheckpointCreateXML guest=g result=failed')


class ConfigTest(daemon.DaemonTest):
    versions = ('7.2',)

    def check(self, text):
        return subprocess.run([daemon.libbackupd_path(), '--config', self.write('conf', text), '--config-check'], capture_output=True,
                              text=True, timeout=30 * bed.SLOW, env=self.environment)

    def test_a_wrong_configuration_is_named_by_line_and_nothing_starts(self):
        policy = self.write('policy', 'user:me * see\n')
        bad = self.write('bad-policy', 'user:me * see\nuser:me * look\n')
        self.assertEqual(self.check(f'policy_file = {policy}\n').returncode, 0)
        for text, words in ((f'policy_file = {bad}\n', 'bad-policy:2:'), ('policy_file = /nonexistent\n', '/nonexistent'),
                            ('# fine\nsockets = x\n', "conf:2: unknown key 'sockets'"), ('socket\n', 'conf:1:'),
                            ('max_peers = many\n', "conf:1: max_peers: 'many' is not a number"), ('max_peers = -1\n', 'is not a number'),
                            ('audit_log = maybe\n', 'is not yes or no'), ('listen_tls = here\n', 'expected ADDRESS:PORT'),
                            ('listen_tls = :16515\n', 'set tls_x509_dir'),
                            (f'listen_tls = :16515\ntls_x509_dir = {self.directory}\n', f"authority's certificate '{self.directory}/cacert.pem'")):
            done = self.check(text)
            self.assertEqual(done.returncode, 1, text)
            self.assertIn(words, done.stderr)
            started = self.run_daemon('--config', self.path('conf'))
            self.assertEqual((started.returncode, started.stderr), (1, done.stderr), 'what the check says is what a start says')
            self.assertFalse(os.path.exists(self.path('new-state')))
        done = subprocess.run([daemon.libbackupd_path(), '--nonsense'], capture_output=True, text=True, timeout=30 * bed.SLOW)
        self.assertEqual(done.returncode, 2)

    def run_daemon(self, *options):
        """One that shall not start."""
        return subprocess.run([daemon.libbackupd_path(), '--state-dir', self.path('new-state'), '--socket', self.path('sock'), *options],
                              capture_output=True, text=True, timeout=30 * bed.SLOW, env=self.environment)

    def test_what_is_in_the_way_is_left_alone(self):
        for options, words in ((('--socket', self.write('file', 'mine')), 'exists and is not a socket'),
                               (('--state-dir', self.path('file')), "cannot make directory"),
                               (('--socket', self.path('nosuch', 'n' * 300)), 'is too long'), (('--socket', '/proc/nosuch/sock'), '/proc/nosuch')):
            done = self.run_daemon(*options)
            self.assertEqual(done.returncode, 1, options)
            self.assertIn(words, done.stderr)
        with open(self.path('file')) as f:
            self.assertEqual(f.read(), 'mine')
        listening = bed.listen_unix(self.path('taken'))
        self.assertIn('another process serves', self.run_daemon('--socket', self.path('taken')).stderr)
        listening.close()
        self.assertTrue(os.path.exists(self.path('taken')))
        daemon.Daemon(self, '--socket', self.path('taken'))        # a dead one's is taken over

    def test_a_wrong_configuration_changes_nothing_when_it_is_read_again(self):
        os.mkdir(self.path('new'))
        server = daemon.Daemon(self, config='audit_log = no\n')
        server.connect().attach('off', images=[('vda', self.make_image('off.qcow2'))])
        begin = ('backup-begin', 'off', '--mode', 'push')
        uri = f'qemu+unix:///system?socket={server.socket}'
        for text, word in ((f'audit_log = yes\ntarget_dir = {self.path("new")}\npolicy_file = /nonexistent\n', '/nonexistent'),
                           (f'audit_log = yes\ntarget_dir = {self.path("new")}\nnonsense\n', 'conf:3:')):
            with open(server.config, 'w') as f:
                f.write(text)
            server.process.send_signal(signal.SIGHUP)
            bed.wait_for('the complaint', lambda: word in server.read_log())    # noqa: B023
            self.must(*begin, uri=uri, rc=1)            # there is still no target_dir
        self.assertNotIn('audit:', server.read_log())
        with open(server.config, 'w') as f:
            f.write(f'target_dir = {self.path("new")}\n')
        server.process.send_signal(signal.SIGHUP)
        bed.wait_for('the new one', lambda: 'is read again' in server.read_log())
        self.must(*begin, '--wait', uri=uri)
        self.assertTrue(os.listdir(self.path('new')))
        self.assertIn('audit:', server.read_log())

    def test_too_few_descriptors_turn_peers_away_and_serve_the_others(self):
        program = self.write('few', f'#!/bin/sh\nulimit -n 40\nexec {daemon.libbackupd_path()} "$@"\n')
        os.chmod(program, 0o755)
        server = daemon.Daemon(self, program=program)
        self.assertIn('room for 20 peers only', server.read_log())
        kept, refused = [], 0
        for _ in range(60):
            connection = rpc.Connection(server.socket)
            try:
                kept.append(connection.open())
            except (EOFError, ConnectionResetError, BrokenPipeError):
                connection.close()
                refused += 1
        self.assertEqual((len(kept), refused), (20, 40))
        for connection in kept:
            connection.call(rpc.LIBVIRT, 157)
        kept.pop().close()
        kept.pop().close()
        bed.wait_for('a place', lambda: self.can_open(server))
        server.connect().attach('off', images=[('vda', self.make_image('off.qcow2'))])     # there are some left for work
        for connection in kept:
            connection.close()

    def test_as_many_peers_as_configured(self):
        server = daemon.Daemon(self, config='max_peers = 3\n')
        peers = [rpc.Connection(server.socket).open() for _ in range(3)]
        extra = rpc.Connection(server.socket)
        with self.assertRaises((EOFError, ConnectionResetError, BrokenPipeError)):
            extra.open()
        peers.pop().close()
        bed.wait_for('a place', lambda: self.can_open(server))
        for connection in peers:
            connection.close()

    def test_one_user_cannot_shut_the_others_out(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest('becoming another user needs root')
        os.chmod(self.directory, 0o755)
        server = daemon.Daemon(self, config='max_peers = 40\nmax_anonymous_peers = 20\n')
        script = self.write('flood', """import sys
sys.path.insert(0, sys.argv[1])
import rpc
def opens(connection):
    try: return bool(connection.open(readonly=True))
    except (EOFError, ConnectionResetError, BrokenPipeError): return False
idle = [rpc.Connection(sys.argv[2]) for _ in range(60)]
idle[-1].sock.recv(1)                           # turned away, after all before it
print(sum(opens(connection) for connection in idle), flush=True)
more = [rpc.Connection(sys.argv[2]) for _ in range(60)]
print(sum(opens(connection) for connection in more), flush=True)
sys.stdin.read()
""")

        def flood(user):
            child = self.popen('setpriv', '--reuid', user, '--regid', '65534', '--clear-groups', sys.executable, script, os.path.join(bed.TOP, 'tests/live'),
                               server.readonly_socket, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            return [int(child.stdout.readline()) for _ in range(2)]
        self.assertEqual(flood('nobody'), [5, 5])       # a quarter of 20, and of 40
        self.assertEqual(flood('daemon'), [5, 5])
        self.assertRegex(server.read_log(), 'a connection from (nobody|daemon) was turned away: too many peers')
        self.assertLess(server.read_log().count('turned away'), 6, 'a line a second')
        peers = [rpc.Connection(server.socket).open() for _ in range(20)]       # the others are root's
        for peer in peers:
            peer.close()

    @staticmethod
    def can_open(server):
        connection = rpc.Connection(server.socket)
        try:
            connection.open()
            return True
        except (EOFError, ConnectionResetError, BrokenPipeError):
            return False
        finally:
            connection.close()


class HardenedTest(OneGuest):
    """The daemon with what its systemd unit leaves it of root's powers, of the file system and of the kernel's calls."""

    def setUp(self):
        bed.LiveTest.setUp(self)
        if os.geteuid() != 0 or subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode:
            raise unittest.SkipTest('needs root and mount namespaces')
        bed.need('systemd-analyze', 'systemd')
        path = os.path.join(bed.TOP, 'data/systemd/libbackupd.service.in')
        with open(path) as f:
            unit = f.read()
        capabilities = re.search(r'^CapabilityBoundingSet=(.*)$', unit, re.M)[1].lower().replace('cap_', '+').split()
        self.assertIn('\nProtectSystem=full\nCapabilityBoundingSet=', unit)
        self.assertIn('\nNoNewPrivileges=yes\n', unit)
        program = self.write('hardened', f"""#!/bin/sh
for d in /usr /etc /boot; do [ ! -d $d ] || {{ mount --bind $d $d && mount -o remount,bind,ro $d; }} || exit 1; done
exec setpriv --no-new-privs --bounding-set=-all,{','.join(capabilities)} --inh-caps=-all {sys.executable} {os.path.join(bed.TOP, 'tests/live/seccomp.py')} {path} \\
  ${{WRAPPED:-{daemon.libbackupd_path()}}} "$@"
""")
        self.write('outer', f'#!/bin/sh\nexec unshare -m sh {program} "$@"\n')
        os.chmod(self.path('outer'), 0o755)
        self.qemu = self.engine(self.make_image('disk.qcow2', 64 * MIB, data=[(0, 32 * MIB, 7)]))
        self.daemon = daemon.Daemon(self, program=self.path('outer'))
        self.daemon.attach('g', self.qemu, vda='disk0')
        self.uri = f'qemu+unix:///system?socket={self.daemon.socket}'

    def test_backups_work(self):
        with open(f'/proc/{self.daemon.process.pid}/status') as f:
            status = f.read()
        self.assertIn('NoNewPrivs:\t1', status)
        self.assertIn('Seccomp:\t2', status)
        refused = bed.run(self.path('outer'), '-c', 'import mmap, os, socket\nfor what in (lambda: socket.socket(socket.AF_PACKET), lambda: mmap.mmap(-1, 4096, prot=7), '
                          'lambda: os.chmod("/dev/null", 0o4666), lambda: open("/proc/self/mem").close() or __import__("ctypes").CDLL(None).ptrace(0, 0, 0, 0) and 1 / 0):\n'
                          '  try: what(); print("done")\n  except (OSError, ZeroDivisionError): print("refused")', env={**os.environ, 'WRAPPED': sys.executable}).stdout
        self.assertEqual(refused.split(), ['refused'] * 4, 'negative control')
        self.assertNotEqual(int(re.search(r'CapEff:\t(\w+)', status)[1], 16) & (1 << 21), 1 << 21, 'CAP_SYS_ADMIN')
        self.assertIn('g', self.ours('discover').out)
        self.begin_push(limit=0)
        self.ours('backup-wait', 'g')
        self.assert_same(self.path('target.qcow2'), self.path('disk.qcow2'))
        self.begin_pull('c1')
        self.nbdcopy(f'nbd+unix:///vda?socket={self.path("nbd")}', self.path('copy.raw'))
        self.ours('backup-stop', 'g')
        self.assert_same(self.path('copy.raw'), self.path('disk.qcow2'), 'raw', 'qcow2')
        self.daemon.connect().attach('off', images=[('vda', self.make_image('off.qcow2', data=[(0, MIB, 3)]))])
        self.ours('backup-begin', 'off', '--target', f'vda={self.path("off-target.qcow2")}', '--wait')
        self.assert_same(self.path('off-target.qcow2'), self.path('off.qcow2'))
        done = self.baksh('backup-begin', 'off', '--target', 'vda=/usr/nosuch.qcow2', uri=self.uri)
        self.assertEqual(done.rc, 1)            # negative control: it is read-only
        self.assertIn('Read-only file system', done.err)
        self.assert_nothing_left(self.qemu)


class PythonTest(OneGuest):
    """libvirt-python, unmodified: events, keepalive, a backup with a checkpoint."""

    SCRIPT = """
import libvirt, sys, threading, time
uri, folder = sys.argv[1:]
libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()
conn = libvirt.open(uri)
conn.setKeepAlive(1, 3)
heard, cond = [], threading.Condition()
def hear(conn, dom, *rest):
    with cond:
        heard.append((dom.name(), *rest[:-1]))
        cond.notify()
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, hear, None)
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, hear, None)
dom = conn.lookupByName('g')
assert dom.isActive() and not conn.isEncrypted() and conn.isSecure() and conn.isAlive()
xml = f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd'/><disks><disk name='vda' type='file'><scratch file='{folder}/s'/></disk></disks></domainbackup>"
dom.backupBegin(xml, "<domaincheckpoint><name>c1</name></domaincheckpoint>")
assert dom.jobStats()['operation'] == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP
c1 = dom.checkpointLookupByName('c1')
assert 'vda' in c1.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE)
time.sleep(6)               # keepalive goes both ways
assert conn.isAlive()
dom.abortJob()
with cond:
    assert cond.wait_for(lambda: len(heard) >= 2, 20), heard
assert heard[0][0] == 'g' and heard[0][1]['success'] is True, heard
assert heard[1] == ('g', 'vda', libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP, libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED), heard
assert dom.listAllCheckpoints()[0].getName() == 'c1'
try:
    dom.checkpointLookupByName('nosuch')
except libvirt.libvirtError as e:
    assert e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT, e
else:
    raise AssertionError('found')
conn.close()
print('fine')
"""

    def test_libvirt_python_hears_events_keeps_alive_and_backs_up(self):
        if subprocess.run(['/usr/bin/python3', '-c', 'import libvirt'], capture_output=True).returncode:
            raise unittest.SkipTest('python3-libvirt is not installed')
        done = bed.run('/usr/bin/python3', '-c', self.SCRIPT, self.daemon.uri, self.directory)
        self.assertEqual(done.stdout, 'fine\n')
        self.assert_nothing_left(self.qemu)


if __name__ == '__main__':
    bed.main()
