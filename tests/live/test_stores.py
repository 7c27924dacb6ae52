#!/usr/bin/python3
"""Targets that a process of ours opens: encrypted ones, and those on servers; what the servers do never reaches the guest."""
import hashlib
import base64
import os
import shlex
import signal
import subprocess

import bed
from servers import Ceph, Ganesha, Tgtd
from sshd import Sshd

MIB = 1 << 20
SECRET = 'correct-horse-battery-staple-4711'


class StoreTest(bed.LiveTest):
    def engine_of(self, size=12 * MIB):
        self.image = self.make_image('disk.qcow2', size, data=[(0, MIB, 0x41), (5 * MIB + 4096, 3 * MIB, 0x42)])
        qemu = self.engine(self.image)
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.before = qemu.picture()
        self.img('convert', '-U', '-O', 'raw', self.image, self.path('want.raw'))
        return qemu

    def key(self, text=SECRET, mode=0o600):
        path = self.path('key')
        with open(path, 'w') as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def helpers(self):
        """Processes of ours that hold a target open."""
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/cmdline', 'rb') as file:
                    words = file.read().split(b'\0')
                name = os.readlink(f'/proc/{pid}/fd/3') if b'qemu-storage-daemon' in words[0] else ''
            except OSError:
                continue
            if name and self.sockets().get(name, '').startswith(self.state_dir() + '/'):
                found.append(int(pid))
        return found

    @staticmethod
    def sockets():
        with open('/proc/net/unix') as file:
            rows = [line.split() for line in file][1:]
        return {f'socket:[{row[6]}]': row[7] for row in rows if len(row) > 7}

    def assert_no_helper(self):
        self.assertEqual(self.helpers(), [])
        left = [name for name in os.listdir(self.state_dir()) if name.startswith(('store-', 'relay-'))]
        self.assertEqual(left, [])

    def assert_secret_nowhere(self, *texts):
        """In no file of ours, no command line, no environment, no answer."""
        for folder, _, names in os.walk(os.path.dirname(os.path.dirname(self.state_dir()))):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, 'rb') as file:
                        content = file.read()
                    for word in (SECRET.encode(), base64.b64encode(SECRET.encode())):
                        self.assertNotIn(word, content, path)
        for pid in filter(str.isdigit, os.listdir('/proc')):
            for part in ('cmdline', 'environ'):
                try:
                    with open(f'/proc/{pid}/{part}', 'rb') as file:
                        self.assertNotIn(SECRET.encode(), file.read(), f'{part} of {pid}')
                except OSError:
                    pass
        for text in texts:
            self.assertNotIn(SECRET, text)


class EncryptedTest(StoreTest):
    def opened(self, path, fmt, key):
        inner = {'luks': f'driver=luks,key-secret=k,file.driver=file,file.filename={path}',
                 'qcow2': f'driver=qcow2,encrypt.format=luks,encrypt.key-secret=k,file.driver=file,file.filename={path}'}[fmt]
        self.img('convert', '--object', f'secret,id=k,file={key}', '--image-opts', inner, '-O', 'raw', self.path(f'{fmt}.raw'))
        return self.path(f'{fmt}.raw')

    def test_an_encrypted_copy_holds_what_the_guest_saw_and_the_secret_is_nowhere(self):
        qemu = self.engine_of()
        key = self.key()
        for fmt in ('luks', 'qcow2'):
            with self.subTest(fmt):
                target = self.path(f'{fmt}.target')
                plan = self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', fmt, '--encrypt', f'luks:{key}', '--dry-run')
                begun = self.baksh_start('backup-begin', 'g', '--target', f'disk0={target}', '--format', fmt, '--encrypt', f'luks:{key}', '--wait')
                out, err = begun.communicate(timeout=120)
                self.assertEqual(begun.returncode, 0, out + err)
                self.assert_secret_nowhere(plan.out, out, err)
                self.assert_no_helper()
                self.assert_nothing_left(qemu, self.before)
                self.assert_same(self.path('want.raw'), self.opened(target, fmt, key), 'raw', 'raw')
                with open(target, 'rb') as file:
                    self.assertNotIn(b'\x42' * 4096, file.read())

    def test_a_secret_that_others_can_read_is_refused_before_anything_is_touched(self):
        qemu = self.engine_of()
        target = self.path('t')
        rows = ((dict(mode=0o644), 'can be read by others (mode 0644)'), (dict(text=''), 'has 0 bytes'))
        for row, words in rows:
            with self.subTest(words):
                done = self.must('backup-begin', 'g', '--target', f'disk0={target}', '--encrypt', f'luks:{self.key(**row)}', rc=1)
                self.assertIn(words, done.err)
        self.assertIn('No such file', self.must('backup-begin', 'g', '--target', f'disk0={target}', '--encrypt', 'luks:/nowhere/key', rc=1).err)
        self.assertIn('expected luks:FILE', self.must('backup-begin', 'g', '--target', f'disk0={target}', '--encrypt', SECRET, rc=2).err)
        if os.geteuid() == 0:
            os.chown(self.key(), 65534, 65534)
            self.assertIn('belongs to user 65534', self.must('backup-begin', 'g', '--target', f'disk0={target}', '--encrypt', f'luks:{self.path("key")}', rc=1).err)
        done = self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', 'luks', rc=1)
        self.assertIn('needs a pass phrase', done.err)
        self.assertFalse(os.path.exists(target))
        self.assert_nothing_left(qemu, self.before)
        self.assert_no_helper()

    def test_a_helper_that_dies_or_hangs_costs_the_backup_and_not_the_guest(self):
        guest = self.guest(disks=1)
        self.must('attach', 'g', '--qmp', guest.qmp_path)
        key = self.key()
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            with self.subTest(sign.name):
                target = self.path(f'{sign.name}.luks')
                self.must('backup-begin', 'g', '--target', f'vda={target}', '--format', 'luks', '--encrypt', f'luks:{key}', '--limit', '1M')
                helper, = self.helpers()
                os.kill(helper, sign)
                guest.wait_rounds(20)
                if sign == signal.SIGSTOP:
                    self.must('backup-stop', 'g', '--abort')
                else:
                    self.must('backup-wait', 'g', rc=3)
                self.assertEqual(guest.write_errors(), [])
                self.assert_never_paused(guest)
                self.assert_nothing_left(guest)
                self.assert_no_helper()
                self.assertFalse(os.path.exists(target))
        self.assert_guest_works(guest)


class ServerTest(StoreTest):
    """What a server does to a backup of the writing guest; subclasses name it."""

    def begin(self, *options, url=None, rc=0, **kw):
        return self.must('backup-begin', 'g', '--target', f'{self.disk}={url or self.url()}', *options, rc=rc, **kw)

    def documented(self, scheme, *changes):
        """The example of docs/targets.md, as it stands there but for these words."""
        with open(os.path.join(bed.TOP, 'docs/targets.md')) as file:
            line, = [line for line in file.read().split('\n') if line.startswith('baksh ') and f'={scheme}:' in line]
        for word, instead, *count in (('backup-begin web', 'backup-begin g'), ('--disk vda', f'--disk {self.disk}'), ('vda=', f'{self.disk}='), *changes):
            self.assertIn(word, line)
            line = line.replace(word, instead, *count)
        return self.must(*shlex.split(line)[1:])

    def writing_guest(self):
        guest = self.guest(disks=1)
        self.must('attach', 'g', '--qmp', guest.qmp_path)
        self.disk = 'vda'
        return guest

    def failed_backup(self, guest, trouble, words, options=('--limit', '1M')):
        """A backup that the trouble meets while it runs: it fails by name, and the guest does not notice."""
        self.begin(*options)
        guest.wait_rounds(5)
        trouble()
        guest.wait_rounds(20)
        done = self.must('backup-wait', 'g', rc=3, timeout=150)
        for word in (self.named, *words):
            self.assertIn(word, done.err)
        self.assert_unharmed(guest)

    def assert_unharmed(self, guest):
        self.assertEqual(guest.write_errors(), [])
        self.assert_never_paused(guest)
        self.assert_nothing_left(guest)
        self.assert_no_helper()


class SshTest(ServerTest):
    def setUp(self):
        super().setUp()
        if subprocess.run(['qemu-storage-daemon', '--blockdev', 'driver=ssh,node-name=x,server.host=127.0.0.1,server.port=1,path=/x'],
                          capture_output=True, text=True).stderr.find("nknown driver 'ssh'") >= 0:
            self.skipTest('no ssh driver for QEMU (qemu-block-extra)')
        self.sshd = Sshd(self)
        self.sshd.agent()
        with open(self.path('host.pub')) as file:
            self.print = hashlib.sha256(base64.b64decode(file.read().split()[1])).hexdigest()

    def url(self, name, finger=None, agent='agent'):
        user = subprocess.run(['id', '-un'], capture_output=True, text=True).stdout.strip()
        return (f'ssh://{user}@127.0.0.1:{self.sshd.port}{self.path(name)}?host_key_check=sha256:{finger or self.print}'
                f'&agent={self.path(agent)}')

    def test_full_and_increment_of_the_writing_guest_over_ssh(self):
        guest = self.guest(disks=1)
        self.must('attach', 'g', '--qmp', guest.qmp_path)
        before = guest.picture()
        self.must('backup-begin', 'g', '--target', f'vda={self.url("full.qcow2")}', '--format', 'qcow2', '--checkpoint', 'c1', '--wait')
        self.assert_one_instant(self.path('full.qcow2'), fmt='qcow2')
        self.must('backup-begin', 'g', '--target', f'vda={self.url("inc.qcow2")}', '--format', 'qcow2', '--since', 'c1', '--wait')
        self.img('rebase', '-u', '-b', self.path('full.qcow2'), '-F', 'qcow2', self.path('inc.qcow2'))
        self.assert_one_instant(self.path('inc.qcow2'), fmt='qcow2')
        self.assert_no_helper()
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_nothing_left(guest, before)
        self.assert_guest_works(guest)

    def test_what_a_server_refuses_is_said_with_host_and_path(self):
        qemu = self.engine_of()
        rows = ((self.url('t.raw', finger='0' * 64), 'does not match'),
                (self.url('t.raw', agent='no-agent'), 'authenticat'),
                (self.url('no/such/folder/t.raw'), 'no/such/folder'))
        for url, words in rows:
            with self.subTest(words):
                done = self.must('backup-begin', 'g', '--target', f'disk0={url}', '--format', 'raw', rc=1)
                self.assertIn(words, done.err)
                self.assertIn(f'ssh://127.0.0.1:{self.sshd.port}', done.err)
        self.must('backup-begin', 'g', '--target', f'disk0={self.url("t.raw")}', '--format', 'raw', '--wait')
        self.assert_same(self.path('want.raw'), self.path('t.raw'), 'raw', 'raw')
        done = self.must('backup-begin', 'g', '--target', f'disk0={self.url("t.raw")}', '--format', 'raw', rc=1)
        self.assertIn('exists already', done.err)
        done = self.must('backup-begin', 'g', '--target', f'disk0={self.url("t.vhdx")}', '--format', 'vhdx', rc=1)
        self.assertIn("two writes go to one part of a 'vhdx'", done.err)
        self.assert_same(self.path('want.raw'), self.path('t.raw'), 'raw', 'raw')
        self.assert_nothing_left(qemu, self.before)
        self.assert_no_helper()

    def test_a_server_that_hangs_or_is_gone_costs_the_backup_and_not_the_guest(self):
        guest = self.writing_guest()
        self.named = f'ssh://127.0.0.1:{self.sshd.port}{self.path("t")}'
        self.begin('--limit', '1M', url=self.url('t'))
        guest.wait_rounds(5)
        self.sshd.stop()
        guest.wait_rounds(20)
        self.must('backup-stop', 'g', '--abort')
        self.assert_unharmed(guest)
        self.sshd.go_on()
        self.named = f'ssh://127.0.0.1:{self.sshd.port}{self.path("u")}'
        self.begin('--limit', '1M', url=self.url('u'))
        self.sshd.cut()
        done = self.must('backup-wait', 'g', rc=3, timeout=150)
        self.assertIn(self.named, done.err)
        self.assert_unharmed(guest)
        self.assert_guest_works(guest)

    def test_a_full_server_fails_the_backup(self):
        self.small_fs('4M', 'full')
        guest = self.writing_guest()
        done = self.begin('--format', 'qcow2', '--wait', url=self.url('full/t'), rc=3)
        self.assertIn(f'ssh://127.0.0.1:{self.sshd.port}{self.path("full/t")}', done.err)
        self.assert_unharmed(guest)
        self.assert_guest_works(guest)


class IscsiTest(ServerTest):
    def server(self, *sizes, initiator=None):
        self.tgtd = Tgtd(self, sizes, chap=('backup', SECRET[:16]), initiator=initiator)
        self.secret = self.key(SECRET[:16])
        self.named = f'iscsi://127.0.0.1:{self.tgtd.port}/{self.tgtd.iqn}/1'

    def url(self, unit=1, **kw):
        return self.tgtd.url(unit, **{'secret': self.secret, **kw})

    def raw_of(self, unit, size):
        """What a unit that is larger than the disk holds of it."""
        path = self.path(f'unit{unit}.raw')
        self.img('convert', '-O', 'raw', '--image-opts', f'driver=raw,size={size},file.driver=file,file.filename={self.tgtd.files[unit - 1]}', path)
        return path

    def test_full_and_increment_of_the_writing_guest_over_iscsi(self):
        self.server('64M', '96M', '96M')
        guest = self.writing_guest()
        before = guest.picture()
        done = self.begin('--format', 'raw', '--checkpoint', 'c1', '--wait')
        self.assert_secret_nowhere(done.out, done.err)
        self.assert_one_instant(self.tgtd.files[0], fmt='raw')
        guest.wait_rounds(10)
        self.begin('--format', 'qcow2', '--checkpoint', 'c2', '--wait', url=self.url(2))
        self.assert_one_instant(self.tgtd.files[1], fmt='qcow2')
        guest.wait_rounds(10)
        self.begin('--format', 'qcow2', '--since', 'c2', '--wait', url=self.url(3))
        self.img('rebase', '-u', '-b', self.tgtd.files[1], '-F', 'qcow2', self.tgtd.files[2])
        self.assert_one_instant(self.tgtd.files[2], fmt='qcow2')
        self.begin('--format', 'raw', '--since', 'c1', '--reuse-external', '--wait')
        self.assert_one_instant(self.tgtd.files[0], fmt='raw')
        self.assert_no_helper()
        self.must('checkpoint-delete', 'g', 'c2')
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_nothing_left(guest, before)
        self.assert_guest_works(guest)

    def test_a_unit_that_hangs_or_dies_costs_the_backup_and_not_the_guest(self):
        self.server('64M')
        guest = self.writing_guest()
        self.begin('--limit', '1M')
        guest.wait_rounds(5)
        self.tgtd.stop()
        guest.wait_rounds(20)
        self.must('backup-stop', 'g', '--abort')
        self.assert_unharmed(guest)
        done = self.begin(rc=1)      # it hangs still
        for words in (self.named, 'does not answer'):
            self.assertIn(words, done.err)
        self.assert_unharmed(guest)
        self.tgtd.go_on()
        self.failed_backup(guest, self.tgtd.kill, ())
        self.assertIn('onnect', self.begin(rc=1).err)      # it is gone
        self.assert_guest_works(guest)

    def test_a_server_that_went_away_and_came_back_is_not_trusted(self):
        """What it had taken and not written may be gone, and the flush of the new session says nothing of it."""
        self.server('64M')
        guest = self.writing_guest()

        def restart():
            self.tgtd.kill()
            self.tgtd.start()
        self.failed_backup(guest, restart, ('was lost and made anew',), ('--limit', '8M'))
        self.begin('--wait')
        self.assert_one_instant(self.tgtd.files[0], fmt='raw')
        self.assert_guest_works(guest)

    def test_what_a_target_refuses_is_said_with_host_and_unit(self):
        self.server('64M', '4M', initiator='iqn.2026-01.test:me')
        qemu = self.engine_of()
        self.disk = 'disk0'
        wrong = self.path('wrong')
        with open(wrong, 'w', opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write('no-such-password')
        me = dict(initiator='iqn.2026-01.test:me')
        rows = ((dict(secret=wrong, **me), 'Authentication failure'),
                (dict(secret=None, user='nobody', **me), '<secret> is missing'),
                (dict(unit=7, **me), 'LOGICAL_UNIT_NOT_SUPPORTED'),
                (dict(), 'Failed to log in'),
                (dict(port=1, **me), 'onnect'),
                (dict(unit=2, **me), 'actual size'))
        for words, reason in rows:
            with self.subTest(reason):
                url = self.url(**words)
                done = self.begin('--format', 'raw', url=url, rc=1)
                self.assertIn(reason, done.err)
                if 'secret' not in reason:
                    self.assertIn(f'iscsi://127.0.0.1:{words.get("port", self.tgtd.port)}/{self.tgtd.iqn}/{words.get("unit", 1)}', done.err)
                self.assert_secret_nowhere(done.err)
        full = self.begin('--format', 'qcow2', '--wait', url=self.url(2, **me), rc=3)       # what is in it is more than it holds
        self.assertIn(f'{self.tgtd.iqn}/2', full.err)
        self.assertIn('names a unit of a target', self.begin(url=f'iscsi://127.0.0.1/{self.tgtd.iqn}', rc=1).err)
        self.assert_nothing_left(qemu, self.before)
        self.assert_no_helper()
        self.documented('iscsi', ('store.example', f'127.0.0.1:{self.tgtd.port}', 1), ('iqn.2026-01.example.store:web', self.tgtd.iqn),
                        ('/etc/libbackup/chap.key', f'{self.secret}&initiator=iqn.2026-01.test:me'))
        self.assert_same(self.path('want.raw'), self.raw_of(1, 12 * MIB), 'raw', 'raw')
        self.assert_nothing_left(qemu, self.before)


class NfsTest(ServerTest):
    def server(self):
        self.nfs = Ganesha(self)
        self.name_it('t')

    def name_it(self, name):
        self.name, self.named = name, f'nfs://127.0.0.1{self.nfs.export}/{name}'

    def url(self, name=None, **words):
        return self.nfs.url(name or self.name, **words)

    def at(self, name):
        return os.path.join(self.nfs.export, name)

    def test_full_and_increment_of_the_writing_guest_over_nfs(self):
        self.server()
        guest = self.writing_guest()
        before = guest.picture()
        self.begin('--format', 'raw', '--checkpoint', 'c0', '--wait', url=self.url('raw'))
        self.assert_one_instant(self.at('raw'), fmt='raw')
        self.begin('--format', 'qcow2', '--checkpoint', 'c1', '--wait', url=self.url('full'))
        self.assert_one_instant(self.at('full'), fmt='qcow2')
        guest.wait_rounds(10)
        self.begin('--format', 'qcow2', '--since', 'c1', '--wait', url=self.url('inc'))
        self.img('rebase', '-u', '-b', self.at('full'), '-F', 'qcow2', self.at('inc'))
        self.assert_one_instant(self.at('inc'), fmt='qcow2')
        self.begin('--format', 'raw', '--since', 'c0', '--reuse-external', '--wait', url=self.url('raw'))
        self.assert_one_instant(self.at('raw'), fmt='raw')
        self.assert_no_helper()
        self.must('checkpoint-delete', 'g', 'c1')
        self.must('checkpoint-delete', 'g', 'c0')
        self.assert_nothing_left(guest, before)
        self.assert_guest_works(guest)

    def test_a_server_that_hangs_or_dies_costs_the_backup_and_not_the_guest(self):
        self.server()
        guest = self.writing_guest()
        self.begin('--limit', '1M')
        guest.wait_rounds(5)
        self.nfs.stop()
        guest.wait_rounds(20)
        self.must('backup-stop', 'g', '--abort')
        self.assert_unharmed(guest)
        done = self.begin(rc=1)      # it hangs still
        for words in (self.named, 'does not answer'):
            self.assertIn(words, done.err)
        self.assert_unharmed(guest)
        self.nfs.go_on()
        self.name_it('u')       # what it was asked while it hung may happen yet
        self.failed_backup(guest, self.nfs.kill, ())
        self.assertIn(self.named, self.begin(rc=1).err)      # it is gone
        self.assert_guest_works(guest)

    def test_a_server_that_went_away_and_came_back_is_not_trusted(self):
        self.server()
        guest = self.writing_guest()

        def restart():
            self.nfs.kill()
            self.nfs.start()
        self.failed_backup(guest, restart, ('was lost and made anew',), ('--limit', '8M'))
        self.begin('--reuse-external', '--wait')
        self.assert_one_instant(self.at('t'), fmt='raw')
        self.assert_guest_works(guest)

    def test_what_a_server_refuses_is_said_with_host_and_path(self):
        self.server()
        qemu = self.engine_of()
        self.disk = 'disk0'
        for name, owner in (('theirs', 0), ('mine', 1000)):
            os.mkdir(self.at(name), 0o700)
            os.chown(self.at(name), owner, owner and 100)
        rows = ((self.url('no/such/folder/t'), 'Failed to mount'),
                (self.url('theirs/t', uid=65534, gid=65534), 'ACCES'),
                ('nfs://127.0.0.1/no/such/export', '/no/such/export'))
        for url, reason in rows:
            with self.subTest(reason):
                done = self.begin('--format', 'raw', url=url, rc=1)
                self.assertIn(reason, done.err)
                self.assertIn(url.split('?')[0], done.err)
        self.assertIn('no port can be named', self.begin(url='nfs://127.0.0.1:2049/x', rc=1).err)
        self.documented('nfs', ('store.example', '127.0.0.1'), ('/backup/web.qcow2', self.at('mine/web.qcow2')))
        self.assertEqual(os.stat(self.at('mine/web.qcow2')).st_uid, 1000)
        self.assert_same(self.path('want.raw'), self.at('mine/web.qcow2'), 'raw', 'qcow2')
        self.assertIn('exists already', self.begin(url=self.url('mine/web.qcow2', uid=1000), rc=1).err)
        self.assert_nothing_left(qemu, self.before)
        self.assert_no_helper()

    def test_a_full_server_fails_the_backup(self):
        small = self.small_fs('4M', 'export')
        self.server()
        guest = self.writing_guest()
        done = self.begin('--format', 'qcow2', '--wait', rc=3)
        for words in (self.named, 'is it full?'):
            self.assertIn(words, done.err)
        self.assert_unharmed(guest)
        self.assertEqual(os.listdir(small), ['t'])
        self.assert_guest_works(guest)


class RbdTest(ServerTest):
    def server(self):
        self.ceph = Ceph(self)
        self.secret = self.key(self.ceph.key)
        self.named = 'rbd:pool/t'

    def url(self, name='t', pool='pool', user='backup', secret=None, conf=None):
        return f'rbd:{pool}/{name}?user={user}&secret={secret or self.secret}&conf={conf or self.ceph.conf}'

    def assert_key_nowhere(self, *texts):
        for text in texts:
            self.assertNotIn(self.ceph.key, text)
        for folder in ('state', 'run', 'home'):
            for at, _, names in os.walk(self.path(folder)):
                for name in names:
                    if os.path.isfile(os.path.join(at, name)):
                        with open(os.path.join(at, name), 'rb') as file:
                            self.assertNotIn(self.ceph.key.encode(), file.read(), name)
        for helper in self.helpers():
            for part in ('cmdline', 'environ'):
                with open(f'/proc/{helper}/{part}', 'rb') as file:
                    self.assertNotIn(self.ceph.key.encode(), file.read())

    def test_full_and_increment_of_the_writing_guest_over_rbd(self):
        self.server()
        guest = self.writing_guest()
        before = guest.picture()
        done = self.begin('--format', 'raw', '--checkpoint', 'c0', '--limit', '8M')
        self.assertEqual(len(self.helpers()), 1)
        self.assert_key_nowhere(done.out, done.err)
        self.must('backup-wait', 'g')
        self.assert_one_instant(self.ceph.image('t'), fmt='raw')
        self.begin('--format', 'qcow2', '--checkpoint', 'c1', '--wait', url=self.url('full'))
        full = self.ceph.image('full')
        self.assert_one_instant(full, fmt='qcow2')
        guest.wait_rounds(10)
        self.begin('--format', 'qcow2', '--since', 'c1', '--wait', url=self.url('inc'))
        self.img('rebase', '-u', '-b', full, '-F', 'qcow2', self.ceph.image('inc'))
        self.assert_one_instant(self.path('inc.content'), fmt='qcow2')
        self.begin('--format', 'raw', '--since', 'c0', '--reuse-external', '--wait')
        self.assert_one_instant(self.ceph.image('t'), fmt='raw')
        self.assert_key_nowhere()
        self.assert_no_helper()
        self.must('checkpoint-delete', 'g', 'c1')
        self.must('checkpoint-delete', 'g', 'c0')
        self.assert_nothing_left(guest, before)
        self.assert_guest_works(guest)

    def test_a_cluster_that_dies_costs_the_backup_and_not_the_guest(self):
        self.server()
        guest = self.writing_guest()
        self.failed_backup(guest, self.ceph.kill, ())
        self.assert_guest_works(guest)

    def test_a_cluster_that_hangs_costs_the_backup_and_not_the_guest(self):
        self.server()
        guest = self.writing_guest()
        self.begin('--limit', '1M')
        guest.wait_rounds(5)
        self.ceph.stop()
        guest.wait_rounds(20)
        self.must('backup-stop', 'g', '--abort')
        self.assert_unharmed(guest)
        done = self.begin(rc=1, url=self.url('u'))      # it hangs still
        for words in ('rbd:pool/u', 'does not answer'):
            self.assertIn(words, done.err)
        self.assert_unharmed(guest)
        self.assert_guest_works(guest)

    def test_what_a_cluster_refuses_is_said_with_pool_and_image(self):
        self.server()
        qemu = self.engine_of()
        self.disk = 'disk0'
        wrong = self.path('wrong')
        with open(wrong, 'w', opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(base64.b64encode(b'\1\0' + 8 * b'\0' + b'\x10\0' + 16 * b'x').decode())
        rows = ((dict(secret=wrong), 'connecting'), (dict(user='nobody'), 'connecting'),
                (dict(pool='nopool'), 'nopool'), (dict(conf='/nowhere/ceph.conf'), '/nowhere/ceph.conf'))
        for words, reason in rows:
            with self.subTest(**words):
                done = self.begin('--format', 'raw', url=self.url(**words), rc=1)
                self.assertIn(reason, done.err)
                self.assertIn(f'rbd:{words.get("pool", "pool")}/t', done.err)
        self.assertIn('no snapshot of it', self.begin(url=self.url('t@s'), rc=1).err)
        self.documented('rbd', ('backup/web', 'pool/web'), ('/etc/libbackup/ceph.key', self.secret), ('/etc/ceph/ceph.conf', self.ceph.conf))
        self.assert_same(self.path('want.raw'), self.ceph.image('web'), 'raw', 'raw')
        self.assertIn('exists already', self.begin(url=self.url('web'), rc=1).err)
        self.assert_nothing_left(qemu, self.before)
        self.assert_no_helper()


if __name__ == '__main__':
    bed.main()
