#!/usr/bin/python3
"""A client of the daemon has it write only where the policy lets him, or else where he could write himself."""
import json
import os
import stat
import subprocess
import sys

import bed
import daemon
import rpc

MIB = 1 << 20
SIZE = 8 * MIB
NOBODY = 'nobody'
RACES = 25
SERVER = "<server transport='tcp' name='127.0.0.1' port='10878'/>"

# Runs as nobody: calls from standard input as JSON lines, what became of each as JSON.
CLIENT = '''
import json, sys
import rpc
from rpc import BACKUP, LIBVIRT, optional, string, u32
peer, other = rpc.Connection(sys.argv[1], timeout=60).hello(), rpc.Connection(sys.argv[1], timeout=60).open()
for line in sys.stdin:
    call = json.loads(line)
    try:
        if call["how"] == "libvirt":
            other.call(LIBVIRT, 421, other.domain("g") + string(call["xml"]) + optional(None) + u32(call["flags"]))
        elif call["how"] == "attach":
            peer.attach(call["name"], qmp=call.get("qmp", ""), images=[tuple(i) for i in call.get("images", [])])
        elif call["how"] == "copy":
            other.call(LIBVIRT, 266, other.domain("g") + string("disk0") + optional(call["path"]) + u32(0, 0) + u32(call["flags"]))
        elif call["how"] == "abort":
            other.call(LIBVIRT, 237, other.domain("g") + string("disk0") + u32(0))
        elif call["how"] == "stop":
            peer.call(BACKUP, 42, string("g") + string("") + u32(1))
        elif call["how"] == "running":
            jobs = peer.call(BACKUP, 50, u32(0))
            print(json.dumps([jobs.u32(), jobs.string() and jobs.string()]), flush=True)
            continue
        elif call["how"] == "wait":
            peer.call(BACKUP, 45, string("g") + string("") + u32(0, 30000000))
        else:
            peer.call(BACKUP, {"begin": 40, "plan": 41}[call["how"]], string("g") + string(call["xml"]) + string("") + u32(call["flags"], 0, 0))
        print(json.dumps(""), flush=True)
    except rpc.WireError as e:
        print(json.dumps(e.message), flush=True)
'''


@bed.unittest.skipIf(os.geteuid() != 0, 'other users need root')
class CallersTest(bed.LiveTest):
    policy = 'user:nobody g backup\n'

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)
        self.disk = self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 1)])
        self.qemu = self.engine(self.disk)
        for name, mode in (('roots', 0o700), ('his', 0o755), ('given', 0o755)):
            os.mkdir(self.path(name))
            os.chmod(self.path(name), mode)
        os.chown(self.path('his'), 65534, 65534)
        self.victim = self.path('roots/victim')
        with open(self.victim, 'wb') as f:
            f.write(b'precious' * (SIZE // 8))
        os.chmod(self.victim, 0o600)
        with open(self.path('policy'), 'w') as f:
            f.write(self.policy.format(given=self.path('given')))
        self.server = daemon.Daemon(self, config=f'policy_file = {self.path("policy")}\n')
        os.chmod(self.server.directory, 0o755)
        os.chmod(self.server.socket, 0o666)
        self.server.attach('g', self.qemu)
        self.client = subprocess.Popen([sys.executable, '-c', CLIENT, self.server.socket], user=NOBODY, group=65534, extra_groups=[],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                       env={'PYTHONPATH': bed.HERE, 'PYTHONDONTWRITEBYTECODE': '1', 'PATH': os.environ['PATH']})
        self.addCleanup(self.end_client)

    def end_client(self):
        self.client.stdin.close()
        self.client.stdout.close()
        self.client.kill()
        self.client.wait()

    def ask(self, how, **call):
        self.client.stdin.write(json.dumps({'how': how, **call}) + '\n')
        self.client.stdin.flush()
        return json.loads(self.client.stdout.readline())

    def push(self, path, reuse=False, how='begin', more='', form='raw'):
        """What nobody is told when he begins a push into path; a push that began has ended when this returns."""
        said = self.ask(how, xml=f"<domainbackup><disks><disk name='disk0' type='file'><target file='{path}'/><driver type='{form}'/>{more}</disk></disks>"
                        '</domainbackup>', flags=int(reuse))
        if not said and how != 'plan':
            self.ask('wait')
        return said

    def refused(self, said, words='may not use|does not let|could have the way|another file|hard link'):
        self.assertRegex(said, words)
        with open(self.victim, 'rb') as f:
            self.assertEqual(f.read(), b'precious' * (SIZE // 8))
        self.assertEqual(sorted(os.listdir(self.path('roots'))), ['victim'])
        st = os.stat(self.victim)
        self.assertEqual((st.st_uid, stat.S_IMODE(st.st_mode)), (0, 0o600))

    def file_of_his(self, name, size=SIZE, folder='his'):
        path = self.path(folder, name)
        with open(path, 'wb') as f:
            f.truncate(size)
        os.chown(path, 65534, 65534)
        return path


class OwnPlacesTest(CallersTest):
    """No directory is named for him."""

    def test_what_he_could_not_write_himself_he_cannot_have_written(self):
        os.symlink(self.victim, self.path('his/link'))
        os.link(self.victim, self.path('his/hard'))
        os.symlink(self.path('roots'), self.path('his/dir'))
        for how in 'begin', 'libvirt':
            for path, reuse in ((self.path('roots/new'), False), (self.victim, True), (self.path('his/link'), True), (self.path('his/hard'), True),
                                (self.path('his/dir/new'), False), (self.path('his/dir/victim'), True), ('/proc/self/root' + self.victim, True)):
                with self.subTest(how=how, path=path):
                    self.refused(self.push(path, reuse, how=how))

    def test_his_own_places_are_his(self):
        for form in 'raw', 'qcow2':
            path = self.path('his', f'new.{form}')
            self.assertEqual(self.push(path, form=form), '')
            self.assert_same(self.disk, path, fb=form)
            self.assertEqual(os.stat(path).st_uid, 65534)
        again = self.file_of_his('again')
        self.assertEqual(self.push(again, True), '')
        self.assert_same(self.disk, again, fb='raw')

    def test_nothing_is_told_of_what_he_cannot_see(self):
        os.mkdir(self.path('roots/there'))
        for name in 'there', 'absent':
            for xml in (f"<domainbackup mode='pull'><server transport='unix' socket='{self.path('his/s')}'/><guest scratch='{self.path('roots', name)}'/></domainbackup>",
                        f"<domainbackup><disks><disk name='disk0' type='file'><target file='{self.path('roots', name)}/x'/></disk></disks></domainbackup>",
                        f"<domainbackup mode='pull'><server transport='unix' socket='{self.path('roots', name)}/s'/></domainbackup>"):
                said = self.ask('plan', xml=xml, flags=0)
                self.assertNotRegex(said, 'does not exist|No such file')
                self.assertRegex(said, 'may not use')
        os.rmdir(self.path('roots/there'))

    def test_what_runs_on_guests_that_he_cannot_see_is_not_listed(self):
        other = self.engine(self.make_image('other.qcow2', SIZE), name='other')
        self.server.attach('f', other)      # before g in every list
        for guest in 'f', 'g':
            self.must('backup-begin', guest, '--mode', 'pull', uri=self.server.uri)
        self.assertEqual(self.server.connect().call(rpc.BACKUP, 50, rpc.u32(0)).u32(), 2)
        self.assertEqual(self.ask('running'), [1, 'g'])
        self.must('backup-stop', 'g', uri=self.server.uri)
        self.must('backup-stop', 'f', uri=self.server.uri)

    def test_sockets_scratches_keys_and_previous_backups_count_too(self):
        his = self.path('his')
        for xml in (f"<domainbackup mode='pull'><server transport='unix' socket='{self.path('roots/s')}'/></domainbackup>",
                    f"<domainbackup mode='pull'>{SERVER}<guest scratch='{self.path('roots')}'/></domainbackup>",
                    f"<domainbackup mode='pull'>{SERVER}<disks><disk name='disk0' type='file'><scratch file='{self.path('roots/s')}'/></disk></disks></domainbackup>",
                    f"<domainbackup mode='pull'><server transport='tcp' name='127.0.0.1' port='10877' tls='yes' tls-dir='{self.path('roots')}'/></domainbackup>",
                    f"<domainbackup><disks><disk name='disk0' type='file'><target file='{his}/x'/><backing file='{self.victim}'/></disk></disks></domainbackup>"):
            with self.subTest(xml):
                self.refused(self.ask('begin', xml=xml, flags=0))

    def test_a_socket_where_the_way_could_be_moved_is_refused(self):
        """QEMU unlinks and binds by the name: in his directory the name of a directory is his to change."""
        os.mkdir(self.path('his/sub'))
        os.chown(self.path('his/sub'), 65534, 65534)
        xml = "<domainbackup mode='pull'><server transport='unix' socket='{}'/></domainbackup>"
        self.refused(self.ask('begin', xml=xml.format(self.path('his/sub/s')), flags=0), 'could have the way')
        self.assertEqual(self.ask('begin', xml=xml.format(self.path('his/s')), flags=0), '')
        self.assertTrue(stat.S_ISSOCK(os.stat(self.path('his/s')).st_mode))
        self.assertEqual(self.ask('stop'), '')

    def test_an_export_that_every_user_could_read_has_to_be_meant(self):
        xml = "<domainbackup mode='pull'><server transport='tcp' name='127.0.0.1' port='10879'{}/></domainbackup>"
        for how in 'begin', 'libvirt':
            self.refused(self.ask(how, xml=xml.format(''), flags=0), 'every user of this host')
        self.assertEqual(self.ask('begin', xml=xml.format(" allow-insecure='yes'"), flags=0), '')
        self.assertEqual(self.ask('stop'), '')

    def race(self, swap, begin):
        """swap(), as nobody, as fast as it goes, while backups begin. Returns how many began."""
        spin = self.popen(sys.executable, '-c', 'import os, sys\nexec(sys.argv[1])', swap, user=NOBODY, group=65534, extra_groups=[])
        began = 0
        try:
            for _ in range(RACES):
                said = begin()
                began += said == ''
                with open(self.victim, 'rb') as f:
                    self.assertEqual(f.read(), b'precious' * (SIZE // 8), said)
                self.assertEqual(sorted(os.listdir(self.path('roots'))), ['victim'])
        finally:
            spin.kill()
            spin.wait()
        return began

    def test_a_name_that_leads_elsewhere_by_turns_never_reaches_anothers_file(self):
        target = self.path('his/target')
        self.file_of_his('file')
        swap = (f'a, t = {self.path("his/a")!r}, {target!r}\n'
                f'while True:\n os.path.lexists(a) and os.unlink(a); os.link({self.path("his/file")!r}, a); os.rename(a, t) if not os.path.exists(t) or '
                f'not os.path.samefile(a, t) else os.unlink(a)\n os.path.lexists(a) and os.unlink(a); os.symlink({self.victim!r}, a); os.rename(a, t)\n')
        self.race(swap, lambda: self.push(target, True))

    def test_nor_does_a_directory_that_does(self):
        for name in 'one',:
            os.mkdir(self.path('his', name))
            os.chown(self.path('his', name), 65534, 65534)
        self.file_of_his('one/victim')
        swap = (f'os.chdir({self.path("his")!r})\n'
                f'while True:\n os.path.lexists("b") and os.unlink("b"); os.symlink("one", "b"); os.rename("b", "d")\n os.symlink({self.path("roots")!r}, "b"); os.rename("b", "d")\n')
        self.race(swap, lambda: self.push(self.path('his/d/victim'), True))
        count = iter(range(1000))
        self.race(swap, lambda: self.push(self.path('his/d', f'new{next(count)}')))

    def test_root_may_do_everything(self):
        done = self.baksh('backup-begin', 'g', '--target', f'disk0={self.path("roots/by-root")}', '--wait', uri=self.server.uri)
        self.assertEqual(done.rc, 0, done.err)
        os.unlink(self.path('roots/by-root'))


class GivenPlacesTest(CallersTest):
    """The policy names one directory, in which he himself could not write."""
    policy = 'user:nobody g backup\nuser:nobody into {given}\n'

    def test_what_lies_there_is_written_for_him(self):
        for form in 'raw', 'qcow2':
            path = self.path('given', f'new.{form}')
            self.assertEqual(self.push(path, form=form), '')
            self.assert_same(self.disk, path, fb=form)
        again = self.file_of_his('again', folder='given')
        self.assertEqual(self.push(again, True), '')

    def test_and_nowhere_else_nor_by_a_way_out_of_it(self):
        os.symlink(self.victim, self.path('given/link'))
        os.link(self.victim, self.path('given/hard'))
        os.symlink(self.path('roots'), self.path('given/dir'))
        for path, reuse in ((self.path('his/new'), False), (self.path('roots/new'), False), (self.path('given/link'), True), (self.path('given/hard'), True),
                            (self.path('given/dir/new'), False), (self.path('given/../roots/new'), False), (self.path('given-not/new'), False),
                            (self.file_of_his('mine'), True)):
            with self.subTest(path):
                self.refused(self.push(path, reuse))


class ManagerTest(CallersTest):
    policy = 'user:nobody * manage,backup\n'

    def test_he_attaches_only_what_he_could_open(self):
        image = self.make_image('roots.qcow2', MIB)
        os.chmod(image, 0o600)
        self.refused(self.ask('attach', name='x', images=[('vda', image)]))
        other = self.engine(self.make_image('other.qcow2', MIB), name='other')
        os.chmod(other.qmp_path, 0o700)
        self.refused(self.ask('attach', name='x', qmp=other.qmp_path))
        os.chown(other.qmp_path, 65534, 65534)
        self.assertEqual(self.ask('attach', name='x', qmp=other.qmp_path), '')

    def test_a_disk_is_copied_where_he_could_write_and_nowhere_else(self):
        copy, reuse, raw, device = 8, 2, 4, 32
        link, leads, hard = self.path('his/link'), self.path('his/leads'), self.path('his/hard')
        os.symlink(self.victim, link)
        os.symlink(self.path('roots'), leads)
        os.link(self.victim, hard)
        for path, flags in ((self.path('roots/new'), 0), (self.victim, reuse), (link, reuse), (hard, reuse), (f'{leads}/new', 0),
                            (self.path('his/../roots/new'), raw), (self.victim, reuse | device)):
            for form in raw, 0:
                with self.subTest(path, form=form):
                    self.refused(self.ask('copy', path=path, flags=copy | flags | form), 'may not|does not let|could have the way|another file|hard link|not a block')
        self.assertEqual(self.ask('copy', path=self.path('his/copy'), flags=copy), '')
        self.assertEqual(os.stat(self.path('his/copy')).st_uid, 65534)
        self.assertEqual(self.ask('abort'), '')


if __name__ == '__main__':
    bed.main()
