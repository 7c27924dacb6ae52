#!/usr/bin/python3
"""Bad input: each is an error that says what is wrong, with the exit status that product.md gives it, and leaves nothing."""
import os
import re
import socket
import threading

import bed

MIB = 1 << 20


class BadInputTest(bed.LiveTest):
    """One machine with a good disk, a second one, a read-only one and an empty CD drive, never started."""

    def setUp(self):
        super().setUp()
        for name in ('good', 'other', 'fixed'):
            self.make_image(f'{name}.qcow2', 8 * MIB, data=[(0, MIB, 5)])

        self.vm = self.start()
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        os.mkdir(self.path('out'))
        self.picture = self.vm.picture()

    cdrom, attached_again = 'cd0', 'already|exists'

    def start(self):
        def node(name, more=''):
            return ['-blockdev', f'driver=qcow2,node-name={name},file.driver=file,file.filename={self.path(name + ".qcow2")}{more}']
        return self.machine(*node('good'), '-device', 'virtio-blk-pci,drive=good,id=vda',
                            *node('other'), '-device', 'virtio-blk-pci,drive=other,id=vdb',
                            *node('fixed', ',read-only=on'), '-device', 'virtio-blk-pci,drive=fixed,id=vdc',
                            '-device', 'ide-cd,id=cd0')

    def out(self, name):
        return self.path('out', name)

    def xml(self, text, name='backup.xml'):
        with open(self.path(name), 'w') as f:
            f.write(text)
        return self.path(name)

    def refused(self, what, *arguments, rc=1, words=(), kept=()):
        with self.subTest(what):
            done = self.baksh(*arguments)
            said = done.out + done.err
            self.assertEqual(done.rc, rc, said)
            self.assertRegex(done.err, r'(?m)^error: .')
            for word in words:
                self.assertRegex(done.err, re.compile(word, re.I))
            self.assertNotRegex(said, r'Traceback|assert|CRITICAL|WARNING \*\*')
            self.assert_nothing_left(self.vm, self.picture)
            self.assert_files(self.path('out'), *kept)
            if arguments[0] == 'backup-begin' and not re.search('NBD server at|export at', done.err):      # what QEMU alone can say
                self.assert_same_without_doing(arguments, done)

    def assert_same_without_doing(self, arguments, done):
        """A dry run refuses what begin refuses, in the same words."""
        dry = self.baksh(arguments[0], '--dry-run', *[a for a in arguments[1:] if a != '--wait'])
        self.assertEqual((dry.rc, self.without_job(dry.err)), (done.rc, self.without_job(done.err)), arguments)

    def without_job(self, text):
        return re.sub(r'\b[0-9a-f]{8}\b', 'JOB', text)

    def push(self, *arguments):
        return ('backup-begin', 'g', '--mode', 'push', *arguments)

    def pull(self, *arguments):
        return ('backup-begin', 'g', '--mode', 'pull', *arguments)

    def test_documents(self):
        rows = (
            ('not XML', 'this is no XML', ['XML|document', r'line 1|:1']),
            ('empty', '', ['empty|XML|document']),
            ('cut off', '<domainbackup mode="push"><disks>', [r'line 1|:1']),
            ('wrong root', '<domain/>', ['domain', 'domainbackup']),
            ('both dialects', "<domainbackup mode='pull'><server transport='tcp' name='localhost'/>"
             "<disks><disk name='vda' type='incremental'/></disks></domainbackup>", ['incremental', '2016', 'today']),
            ('unknown mode', "<domainbackup mode='shove'/>", ['mode', 'shove', 'push']),
            ('unknown disk', f"<domainbackup><disks><disk name='vdz' type='file'><target file='{self.out('z')}'/></disk></disks></domainbackup>",
             ['vdz', 'vda']),
            ('duplicate disk', f"<domainbackup><disks><disk name='vda'><target file='{self.out('1')}'/></disk>"
             f"<disk name='vda'><target file='{self.out('2')}'/></disk></disks></domainbackup>", ['vda', 'twice|duplicate|already|more than once']),
            ('all disks excluded', "<domainbackup><disks><disk name='vda' backup='no'/><disk name='vdb' backup='no'/></disks></domainbackup>",
             ['disk']),
            ('empty drive named', f"<domainbackup><disks><disk name='{self.cdrom}'><target file='{self.out('1')}'/></disk></disks></domainbackup>",
             [self.cdrom, 'empty|no medium']),
            ('socket path of 108 bytes', f"<domainbackup mode='pull'><server transport='unix' socket='/{'x' * 107}'/></domainbackup>", ['107']),
            ('read-only disk named', f"<domainbackup><disks><disk name='vdc'><target file='{self.out('1')}'/></disk></disks></domainbackup>",
             ['vdc', 'read-only']),
            ('relative target', "<domainbackup><disks><disk name='vda'><target file='x.qcow2'/></disk>"
             "<disk name='vdb' backup='no'/></disks></domainbackup>", ['x.qcow2', 'absolute']),
            ('port 0', "<domainbackup mode='pull'><server transport='tcp' name='localhost' port='0'/></domainbackup>", ['port', '0']),
            ('port 70000', "<domainbackup mode='pull'><server transport='tcp' name='localhost' port='70000'/></domainbackup>",
             ['port', '70000', '65535']),
            ('an entity bomb', '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
             '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><domainbackup mode="&d;"/>', []),
            ('an entity that reads a file', '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/hostname">]><domainbackup mode="push">&e;</domainbackup>', []),
        )
        for what, text, words in rows:
            self.refused(what, 'backup-begin', 'g', self.xml(text), words=words)
        self.refused('a document that is not there', 'backup-begin', 'g', self.path('none.xml'), words=['none.xml', 'no such file'])

    def test_targets(self):
        target = f'vda={self.out("t")}'
        with open(self.out('t'), 'w') as f:
            f.write('mine')
        only = ('--disk', 'vda')
        self.refused('target exists', *self.push(*only, '--target', target), words=['exists', re.escape(self.out('t'))], kept=['t'])
        with open(self.out('t')) as f:
            self.assertEqual(f.read(), 'mine')
        os.unlink(self.out('t'))
        self.refused('target is a directory', *self.push(*only, '--target', f'vda={self.path("state")}'), words=[re.escape(self.path('state')), 'directory'])
        self.refused('directory missing', *self.push(*only, '--target', f'vda={self.out("no/t")}'), words=['no such file|does not exist', 'no'])
        self.refused('unknown disk', *self.push('--disk', 'vdz', '--target', f'vdz={self.out("t")}'), words=['vdz', 'vda'])
        self.refused('target of an unknown disk', *self.push('--target', f'vdz={self.out("t")}'), rc=2, words=['vdz', 'vda'])
        self.refused('read-only disk', *self.push('--disk', 'vdc', '--target', f'vdc={self.out("t")}'), words=['vdc', 'read-only'])
        self.refused('empty drive', *self.push('--disk', self.cdrom, '--target', f'{self.cdrom}={self.out("t")}'), words=[self.cdrom, 'empty|no medium'])
        self.refused('the same disk twice', *self.push('--target', target, '--target', f'vda={self.out("u")}'), rc=2, words=['vda'])
        self.refused('two disks to one file', *self.push('--target', target, '--target', f'vdb={self.out("t")}'), words=['vdb|vda'])
        self.refused('no target for a disk', *self.push('--target', target), words=['vdb', 'target'])
        self.refused('the disk itself', *self.push(*only, '--target', f'vda={self.path("good.qcow2")}', '--reuse-external'), words=['vda|good'])
        self.refused('not TARGET=FILE', *self.push('--target', self.out('t')), rc=2, words=['target'])
        self.refused('a relative path', *self.push(*only, '--target', 'vda=t'), rc=2, words=['absolute'])
        self.img('create', '-q', '-f', 'qcow2', self.out('small'), str(4 * MIB))
        self.refused('existing target is smaller', *self.push(*only, '--target', f'vda={self.out("small")}', '--reuse-external'),
                     words=['vda', str(4 * MIB), str(8 * MIB)], kept=['small'])

    def test_servers(self):
        self.refused('port 70000', *self.pull('--server', 'tcp:localhost:70000'), rc=2, words=['70000'])
        self.refused('port 0', *self.pull('--server', 'tcp:localhost:0'), rc=2, words=['port'])
        long = '/' + 'x' * 107
        self.assertEqual(len(long), 108)
        self.refused('socket path of 108 bytes', *self.pull('--server', f'unix:{long}'), rc=2, words=['107'])
        with open(self.out('file'), 'w') as f:
            f.write('precious')
        self.refused('socket path is a file', *self.pull('--server', f'unix:{self.out("file")}'),
                     words=[re.escape(self.out('file'))], kept=['file'])
        with open(self.out('file')) as f:
            self.assertEqual(f.read(), 'precious')
        os.unlink(self.out('file'))
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            s.listen()
            port = s.getsockname()[1]
            self.refused('port in use', *self.pull('--server', f'tcp:127.0.0.1:{port}'), words=[str(port), 'in use'])
        self.refused('open to the world', *self.pull('--server', 'tcp:0.0.0.0:10899'), words=['allow-insecure|TLS'])

    def test_a_foreign_nbd_server_is_a_conflict_and_left_alone(self):
        self.vm.qmp.execute('nbd-server-start', addr={'type': 'unix', 'data': {'path': self.path('foreign')}})
        done = self.baksh(*self.pull('--server', f'unix:{self.out("nbd")}'))
        self.assertEqual(done.rc, 1, done)
        self.assertRegex(done.err, 'NBD server')
        self.vm.qmp.execute('nbd-server-stop')      # it was still there
        self.assert_nothing_left(self.vm, self.picture)

    def test_command_lines(self):
        self.refused('unknown command', 'backup-brgin', 'g', rc=2, words=['backup-brgin', 'backup-begin'])
        self.refused('unknown option', 'backup-begin', 'g', '--moed', 'push', rc=2, words=['moed', 'mode'])
        self.refused('missing value', 'backup-begin', 'g', '--mode', rc=2, words=['mode'])
        self.refused('unknown word', 'backup-begin', 'g', '--mode', 'shove', rc=2, words=['shove'])
        self.refused('unknown domain', 'backup-begin', 'h', '--mode', 'pull', words=["'?h'?"])
        self.refused('no domain', 'backup-begin', rc=2, words=['domain'])
        self.refused('nothing to stop', 'backup-stop', 'g', words=['no backup'])
        self.refused('not a number', *self.push('--limit', 'fast'), rc=2, words=['fast'])
        self.refused('attach twice', 'attach', 'g', '--qmp', self.vm.qmp_path, words=[self.attached_again])

    def test_a_second_begin_is_refused_while_the_first_runs_and_names_it(self):
        first = self.json(*self.pull('--server', f'unix:{self.path("nbd")}'))
        done = self.baksh(*self.pull('--server', f'unix:{self.path("nbd2")}'))
        self.assertEqual(done.rc, 1, done)
        self.assertIn(first['id'], done.err)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'ready')
        self.must('backup-stop', 'g')
        self.assert_nothing_left(self.vm, self.picture)


class BadMonitorTest(bed.LiveTest):
    def attach(self, path):
        done = self.baksh('attach', 'bad', '--qmp', path)       # who hangs is ended by its time limit
        self.assertEqual(self.must('list', '--all', '--json').out.count('"bad"'), 0)
        return done

    def answer(self, text, keep=True):
        """A listener that says text to whoever comes, and nothing more."""
        path = self.path('monitor')
        server = bed.listen_unix(path)
        self.addCleanup(server.close)
        held = []

        def serve():
            while True:
                try:
                    peer = server.accept()[0]
                except OSError:
                    return
                held.append(peer)
                try:
                    peer.sendall(text)
                    if not keep:
                        peer.close()
                except OSError:
                    pass
        threading.Thread(target=serve, daemon=True).start()
        return path

    def test_a_monitor_held_by_another_client_is_said_so(self):
        engine = self.engine(self.make_image('a.qcow2'))
        other = bed.Qmp.connect(engine.qmp_path)
        self.addCleanup(other.sock.close)
        done = self.attach(engine.qmp_path)
        self.assertEqual(done.rc, 5, done)
        self.assertRegex(done.err, 'another|held|in use|busy')

    def test_a_monitor_that_never_greets(self):
        done = self.attach(self.answer(b''))
        self.assertEqual(done.rc, 5, done)

    def test_a_monitor_that_is_not_qmp(self):
        done = self.attach(self.answer(b'SSH-2.0-OpenSSH_9.2\r\n'))
        self.assertEqual(done.rc, 5, done)
        self.assertRegex(done.err, 'QMP')

    def test_a_monitor_that_hangs_up(self):
        self.assertEqual(self.attach(self.answer(b'', keep=False)).rc, 5)

    def test_a_monitor_that_is_not_there(self):
        done = self.attach(self.path('none'))
        self.assertEqual(done.rc, 5, done)
        self.assertIn(self.path('none'), done.err)

    def test_a_monitor_that_is_a_file(self):
        with open(self.path('file'), 'w'):
            pass
        self.assertEqual(self.attach(self.path('file')).rc, 5)

    def test_a_monitor_that_speaks_without_end(self):
        done = self.attach(self.answer(b'{"QMP": "' + b'x' * (8 << 20)))
        self.assertEqual(done.rc, 5, done)


if __name__ == '__main__':
    bed.main()
