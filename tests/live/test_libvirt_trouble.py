#!/usr/bin/python3
"""Guests of libvirt in odd places: names, devices, other ways to libvirtd; and what goes wrong there while a backup is under way."""
import contextlib
import functools
import os
import signal
import socket
import subprocess
import time

import bed
import lvbed
import sshd
import test_tls
from test_libvirt import MIB, Bare


class BehindOurBackTest(Bare):
    def test_a_guest_that_is_undefined_in_the_middle_is_backed_up_to_the_end(self):
        self.slow_push('--checkpoint', 'c1')
        self.virsh('undefine', 'g', '--checkpoints-metadata')
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        self.virsh('destroy', 'g', '--graceful')
        self.assertEqual(self.job()['state'], 'completed')         # its records outlive it
        self.assert_same(self.path('a.qcow2'), self.vm.disks[0].path)

    def test_the_checkpoint_of_a_running_backup_deleted_by_virsh(self):
        self.slow_push('--checkpoint', 'c1')
        self.virsh('checkpoint-delete', 'g', 'c1')
        self.must('backup-limit', 'g', '0')
        self.assertIn("deleted checkpoint 'c1'", self.must('backup-wait', 'g', rc=3).err)
        self.assertFalse(os.path.exists(self.path('a.qcow2')))
        self.assert_clean()


class NamesTest(lvbed.OnLibvirt, bed.LiveTest):
    def test_odd_names_of_guest_image_and_target(self):
        name = 'gäst "q" \'a\' & <b> %s'
        image = self.make_image('i "m" \'a\' & <b> %s ö,x=y.qcow2', '4M', data=[(0, 4 * MIB, 7)])
        self.vm = self.bare(image, domain=name)
        out = self.path('out "x" \'y\' & <z> ü %d')
        os.mkdir(out)
        for target, extra in (('full "1"', ['--checkpoint', 'c0']), ("inc '2' & ü", ['--since', 'c0', '--onto', os.path.join(out, 'full "1"')])):
            self.vm.io(0, 'write -P 9 1M 64k')
            self.must('backup-begin', name, '--target', f'vda={out}/{target}', *extra, '--wait')
            self.assertEqual(self.job(domain=name)['state'], 'completed')
        self.must('backup-begin', name, '--mode', 'pull', '--server', f'unix:{out}/nbd', '--scratch', f'vda={out}/scr')
        self.must('backup-stop', name)
        self.assert_files(out, 'full "1"', "inc '2' & ü")
        self.vm.quit()
        self.assert_same(os.path.join(out, "inc '2' & ü"), image)


class DevicesTest(lvbed.OnLibvirt, bed.LiveTest):
    """Targets, scratch and disks that are block devices."""

    def loop(self, name, size):
        if os.geteuid():
            self.skipTest('only root can make a block device')
        with open(self.path(name), 'wb') as f:
            f.truncate(bed.size_of(size))
        done = bed.run('losetup', '--find', '--show', self.path(name), check=False)
        if done.returncode:
            self.skipTest(f'no loop device here: {done.stderr.strip()}')
        device = done.stdout.strip()
        self.addCleanup(lambda: bed.run('losetup', '-d', device, check=False))
        return device

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', '8M', data=[(0, 4 * MIB, 7)])
        self.vm = self.bare(self.image)

    def test_push_to_devices(self):
        device, other, raw = self.loop('one', '16M'), self.loop('two', '16M'), self.loop('three', '8M')
        self.must('backup-begin', 'g', '--target', f'vda={device}', '--checkpoint', 'c0', '--wait')
        self.vm.io(0, 'write -P 9 5M 64k')
        self.must('backup-begin', 'g', '--target', f'vda={other}', '--since', 'c0', '--onto', device, '--wait')
        self.must('backup-begin', 'g', '--target', f'vda={raw}', '--format', 'raw', '--wait')
        self.vm.quit()
        self.assert_same(other, self.image, 'qcow2', 'qcow2')
        self.assert_same(raw, self.image, 'raw', 'qcow2')

    def test_scratch_on_a_device(self):
        device = self.loop('one', '16M')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--scratch', f'vda={device}')
        self.vm.io(0, 'write -P 9 0 1M')
        bed.run('nbdcopy', f'nbd+unix:///vda?socket={self.path("nbd")}', self.path('copy'))
        self.must('backup-stop', 'g')
        bed.run('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 7 0 4M', self.path('copy'))

    def test_a_device_that_is_too_small(self):
        device = self.loop('one', '1M')
        done = self.must('backup-begin', 'g', '--target', f'vda={device}', '--checkpoint', 'c0', '--wait', rc=3)
        self.assertIn(device, done.err)
        self.assertEqual(self.vm.checkpoints(), [])
        done = self.must('backup-begin', 'g', '--target', f'vda={device}', '--format', 'raw', rc=1)
        self.assertIn('too small', done.err)


class StoppedTest(Bare):
    """libvirtd stops to answer within a begin."""
    images = ('8M', '8M')

    def setUp(self):
        super().setUp()
        self.environment['LIBBACKUP_CONFIG'] = self.write_xml('libbackup.conf', 'monitor_timeout = 1\n')

    def settle(self):
        """All that may be left is a job that can be stopped, or none at all."""
        if self.baksh('backup-info', 'g').rc == 1:
            return
        job = self.job()
        if job['state'] in ('running', 'ready', 'preparing', 'stopping'):
            self.must('backup-stop', 'g', '--abort')
        self.assertIn(self.job()['state'], ('aborted', 'failed', 'completed'))
        if self.job()['state'] != 'completed':
            self.baksh('checkpoint-check', 'g')     # any command that owns the guest undoes what libvirtd did when it went on
            self.assertEqual(self.vm.checkpoints(), [], 'the checkpoint of a backup that did not succeed is left')
        for name in self.vm.checkpoints():
            self.must('checkpoint-delete', 'g', name)
        self.assert_clean()

    def in_the_middle(self, act, *words, delays=(0.05, 0.12, 0.2)):
        for delay in delays:
            with self.subTest(delay):
                shell = self.baksh_start(*words)
                time.sleep(delay)
                with act():
                    shell.wait(60 * bed.SLOW)
                self.settle()
                for name in ('a', 'b'):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.path(name))

    @contextlib.contextmanager
    def stopped(self):
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)

    def test_stopped_in_a_push(self):
        """The connection is given up for dead after half a minute."""
        self.in_the_middle(self.stopped, 'backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c', delays=(0.11,))


class HungQemuTest(Bare):
    """QEMU stops to answer libvirt, which waits for it without end."""
    images = ('8M', '8M')

    def test_what_is_asked_of_a_backup_is_answered_in_time(self):
        self.environment['LIBBACKUP_CONFIG'] = self.write_xml('libbackup.conf', 'monitor_timeout = 1\n')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--checkpoint', 'c1')
        with self.vm.stopped():
            for _ in range(2):
                self.assertEqual(self.job()['state'], 'ready')
                for words in (['backup-stop', 'g'], ['backup-stop', 'g', '--abort']):
                    self.assertIn('QEMU seems to hang', self.must(*words, rc=1).err)
        self.must('backup-stop', 'g')
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        self.assert_clean()


class TlsTest(lvbed.OnLibvirt, test_tls.Pki, bed.LiveTest):
    @functools.cached_property
    def daemon_options(self):
        return {'tls': self.pki('pki', 'server', 'client')}

    def test_a_certificate_of_the_authority_reads_and_no_other(self):
        self.image = self.make_image('disk.qcow2', '4M', data=[(0, 2 * MIB, 7)])
        self.vm = self.bare(self.image)
        self.environment['LIBBACKUP_CONFIG'] = self.write_xml('libbackup.conf', f'tls_x509_dir = "{self.path("pki")}"\n')
        stranger, reader = self.pki('stranger', 'client'), self.pki('reader', 'client', authority='pki')
        os.unlink(self.path('stranger', 'ca-cert.pem'))
        os.link(self.path('pki', 'ca-cert.pem'), self.path('stranger', 'ca-cert.pem'))
        port = self.free_port()
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'tcp:127.0.0.1:{port}', '--tls', '--checkpoint', 'c')
        self.assertEqual(self.job()['server'], f'nbds://127.0.0.1:{port}')
        self.refused(f'nbd://127.0.0.1:{port}/vda')
        self.refused(f'nbds://127.0.0.1:{port}/vda?tls-certificates={stranger}')
        self.read(f'nbds://127.0.0.1:{port}/vda?tls-certificates={reader}')
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c'])
        self.assert_no_journal()


class SessionTest(lvbed.OnLibvirt, bed.LiveTest):
    """qemu:///session: a daemon, a QEMU and a shell of a user who is not root."""
    daemon_options = {'user': 'nobody', 'session': True}

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', '8M', data=[(0, 4 * MIB, 7)])
        self.prefix = self.daemon.prefix
        if subprocess.run([*self.prefix, 'test', '-x', bed.baksh_path()]).returncode:
            self.skipTest(f'the other user cannot run {bed.baksh_path()}')
        if self.prefix:
            bed.run('chown', '-R', 'nobody', self.path())
        self.vm = self.bare(self.image)
        if self.prefix:
            bed.run('chown', '-R', 'nobody', self.path())

    def test_push_increment_pull(self):
        self.must('backup-begin', 'g', '--target', f'vda={self.path("a")}', '--checkpoint', 'c0', '--wait')
        self.vm.io(0, 'write -P 9 1M 64k')
        self.must('backup-begin', 'g', '--target', f'vda={self.path("b")}', '--since', 'c0', '--onto', self.path('a'), '--wait')
        self.must('backup-begin', 'g', '--mode', 'pull', '--checkpoint', 'c1')
        bed.run('nbdcopy', self.job()['server'].replace(':///', ':///vda'), self.path('copy'))
        self.must('backup-stop', 'g')
        self.assert_same(self.path('copy'), self.path('b'), 'raw', 'qcow2')
        self.assertEqual(self.vm.checkpoints(), ['c0', 'c1'])
        self.vm.quit()
        self.assert_same(self.path('b'), self.image)
        self.must('backup-begin', 'g', '--target', f'vda={self.path("c")}', '--wait')       # and without a guest
        self.assert_same(self.path('c'), self.image)


class SshTest(lvbed.OnLibvirt, bed.LiveTest):
    """libvirt on another host, by a real ssh: what is done there, and what is refused because it would be done here."""

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', '8M', data=[(0, 4 * MIB, 7)])
        self.vm = self.bare(self.image)
        there = sshd.Sshd(self)
        self.environment['LIBBACKUP_DEFAULT_URI'] = self.uri = (f'libvirt+qemu+ssh://127.0.0.1:{there.port}/system?socket={self.daemon.socket}&command={there.command}'
                                                                 f'&keyfile={self.path("mine")}&known_hosts={self.path("known")}')

    def test_push_pull_and_what_is_refused(self):
        self.assertIn('g', self.must('list', '--all', '--name').out.split())
        done = self.must('backup-begin', 'g', '--target', f'vda={self.path("a")}', '--checkpoint', 'c0', '--wait')
        self.assertIn('on another host', done.err)
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'tcp:127.0.0.1:{port}', '--scratch', f'vda={self.path("scr")}', '--since', 'c0', '--checkpoint', 'c1')
        bed.run('nbdcopy', f'nbd://127.0.0.1:{port}/vda', self.path('copy'))
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertIn('re-based from here', self.must('backup-begin', 'g', '--target', f'vda={self.path("b")}', '--since', 'c0', rc=1).err)
        self.assertEqual(self.vm.checkpoints(), ['c0', 'c1'])
        self.vm.quit()
        self.assert_same(self.path('a'), self.image)
        self.assert_same(self.path('copy'), self.image, 'raw', 'qcow2')
        self.assertIn('another host', self.must('backup-begin', 'g', '--target', f'vda={self.path("c")}', rc=1).err)

    def test_a_connection_that_breaks_in_the_middle_costs_nothing(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', 'tcp:127.0.0.1:10899', '--scratch', f'vda={self.path("scr")}', '--checkpoint', 'c1')
        [watcher] = self.watchers()
        tunnels = bed.run('pgrep', '-P', str(watcher)).stdout.split()
        for pid in tunnels:
            os.kill(int(pid), signal.SIGKILL)
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c1'])


class FlushTest(lvbed.OnLibvirt, bed.LiveTest):
    """A file whose server fails when all is written: what libvirt calls completed is in no safe place."""

    def mount(self, **how):
        if os.geteuid() or not os.path.exists('/dev/fuse'):
            self.skipTest('needs root and FUSE')
        self.make_image('served', '4M', 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('served'), **how))
        self.file = self.daemon.path('mounts', 'file')
        with open(self.file, 'w'):
            pass
        fuse = self.popen(bed.need('nbdfuse', 'nbdfuse'), self.file, '--unix', server.path)
        self.addCleanup(lambda: bed.run('umount', '-l', self.file, check=False))
        bed.wait_for('the file is mounted', lambda: fuse.poll() is not None or os.path.getsize(self.file))
        if fuse.poll() is not None:
            self.skipTest('nbdfuse does not work here')

    def push(self, rc):
        self.vm = self.bare(self.make_image('disk.qcow2', '4M', data=[(0, 4 * MIB, 7)]))
        return self.must('backup-begin', 'g', '--target', f'vda={self.file}', '--format', 'raw', '--reuse-external', '--wait', '--checkpoint', 'c', rc=rc)

    def test_a_good_one_is_a_success(self):
        self.mount()
        self.push(0)
        self.assert_same(self.path('disk.qcow2'), self.path('served'), 'qcow2', 'raw')

    def test_an_error_when_it_is_flushed_is_a_failure(self):
        self.mount(flush_fails=True)
        self.assertIn('Input/output error', self.push(3).err)
        self.assertEqual(self.vm.checkpoints(), [])


if __name__ == '__main__':
    bed.main()
