#!/usr/bin/python3
"""One table of what a backup can be, run on an attached guest and on one that libvirt manages. What libvirt cannot do is listed
with the reason, is refused with it, and there are no other reasons than these."""
import os

import bed
import lvbed

SIZE = 4 << 20
NETWORK, PROTECTION, COMPRESSION, SYNC = 'network targets', 'copy-before-write protection', 'compression at push', 'sync modes top and none'
REASONS = {NETWORK, PROTECTION, COMPRESSION, SYNC}
# row: (reason, what is said of it)
NOT_BY_LIBVIRT = {
    'push_over_the_network': (NETWORK, 'network targets'),
    'protected_push': (PROTECTION, 'protect'),
    'compressed_push': (COMPRESSION, 'compression'),
    'sync_top': (SYNC, 'sync='),
    'sync_none': (SYNC, 'sync='),
}
# feature of capabilities: reason, or None for what is no part of a backup
NOT_IN_LIBVIRT = {'target-nbd': NETWORK, 'target-ssh': NETWORK, 'target-iscsi': NETWORK, 'target-rbd': NETWORK, 'target-nfs': NETWORK, 'protection': PROTECTION, 'compression': COMPRESSION, 'sync-top': SYNC, 'sync-none': SYNC,
                  'attach': None, 'discover': None,
                  'memory-bitmaps': 'libvirt keeps checkpoints in qcow2 images only', 'server-psk': 'libvirt exports with certificates only',
                  'server-fd': 'a socket that was passed is not handed on to libvirt'}


class Table:
    """The rows go from top to bottom, on one guest with two disks that nobody else writes to."""

    def setUp(self):
        super().setUp()
        self.data = {name: bytearray(bytes([byte]) * SIZE) for name, byte in (('vda', 5), ('vdb', 6))}
        self.images = [self.make_image(f'{name}.qcow2', SIZE, data=[(0, SIZE, data[0])]) for name, data in self.data.items()]
        self.start()
        os.mkdir(self.path('out'))

    def out(self, name):
        return self.path('out', name)

    def write(self, disk, offset, length, byte):
        self.io(disk, f'write -P {byte} {offset} {length}')
        self.data[disk][offset:offset + length] = bytes([byte]) * length

    def targets(self, name, suffix=''):
        return [x for disk in self.data for x in ('--target', f'{disk}={self.out(f"{name}-{disk}{suffix}")}')]

    def begin(self, *options, rc=0):
        return self.must('backup-begin', 'g', *options, rc=rc)

    def job(self):
        return self.json('backup-info', 'g')

    def assert_holds(self, path, disk, fmt='qcow2'):
        self.img('convert', '-U', '-f', fmt, '-O', 'raw', path, self.path('restored'))
        with open(self.path('restored'), 'rb') as file:
            self.assertTrue(file.read() == self.data[disk], f'{path} is not what {disk} holds')

    def assert_copies(self, name, suffix='', fmt='qcow2'):
        for disk in self.data:
            self.assert_holds(self.out(f'{name}-{disk}{suffix}'), disk, fmt)

    # -- rows

    def full_push(self):
        self.begin(*self.targets('full'), '--checkpoint', 'c0', '--wait')
        self.assert_copies('full')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['full', 'full'])

    def raw_push(self):
        self.begin(*self.targets('plain'), '--format', 'raw', '--wait')
        self.assert_copies('plain', fmt='raw')

    def push_of_one_disk(self):
        self.begin('--disk', 'vdb', '--target', f'vdb={self.out("one")}', '--wait')
        self.assert_holds(self.out('one'), 'vdb')

    def push_over_what_is_there(self):
        self.make_image('out/there', SIZE, data=[(0, 65536, 99)])
        self.begin('--disk', 'vda', '--target', f'vda={self.out("there")}', '--reuse-external', '--wait')
        self.assert_holds(self.out('there'), 'vda')

    def increment_onto_the_full_one(self):
        self.write('vda', 1 << 20, 65536, 7)
        self.write('vdb', 0, 65536, 8)
        onto = [x for disk in self.data for x in ('--onto', f'{disk}={self.out(f"full-{disk}")}')]
        self.begin(*self.targets('increment'), '--since', 'c0', '--checkpoint', 'c1', *onto, '--wait')
        self.assert_copies('increment')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['incremental', 'incremental'])

    def increment_since_an_older_one(self):
        self.begin('--disk', 'vda', '--target', f'vda={self.out("older")}', '--since', 'c0', '--onto', self.out('full-vda'), '--wait')
        self.assert_holds(self.out('older'), 'vda')

    def pull(self):
        self.begin('--mode', 'pull', '--server', f'unix:{self.path("nbd")}')
        self.write('vda', 2 << 20, 65536, 9)
        before = {disk: bytes(data) for disk, data in self.data.items()}
        self.data['vda'][2 << 20:(2 << 20) + 65536] = b'\5' * 65536
        for disk in self.data:
            bed.run('nbdcopy', f'nbd+unix:///{disk}?socket={self.path("nbd")}', self.out(f'pulled-{disk}'))
        self.assert_copies('pulled', fmt='raw')
        self.data = {disk: bytearray(data) for disk, data in before.items()}
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')

    def pull_of_an_increment(self):
        self.begin('--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--since', 'c1', '--checkpoint', 'c2')
        dirty = bed.run('nbdinfo', '--map=qemu:dirty-bitmap:backup-vda', f'nbd+unix:///vda?socket={self.path("nbd")}').stdout
        self.assertRegex(dirty, r'(?m)^ *2097152 +65536 +1')
        self.must('backup-stop', 'g')

    def pull_that_is_aborted(self):
        self.begin('--mode', 'pull', '--checkpoint', 'gone')
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.job()['state'], 'aborted')

    def checkpoints(self):
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c0', 'c1', 'c2'])
        self.assertEqual(self.must('checkpoint-parent', 'g', 'c2').out.strip(), 'c1')
        self.must('checkpoint-check', 'g')
        self.must('checkpoint-delete', 'g', 'c1')
        self.must('checkpoint-create-as', 'g', 'c3')
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c0', 'c2', 'c3'])

    def refusals(self):
        with open(self.out('mine'), 'w') as file:
            file.write('mine')
        rows = ((1, 'exists', '--disk', 'vda', '--target', f'vda={self.out("mine")}'), (1, 'vdz', '--disk', 'vdz', '--target', f'vdz={self.out("x")}'),
                (1, 'vdb', '--target', f'vda={self.out("x")}', '--target', f'vdb={self.out("x")}'), (1, 'agent', *self.targets('x'), '--quiesce'),
                (4, 'nope', *self.targets('x'), '--since', 'nope'), (1, 'in use', '--disk', 'vda', '--target', f'vda={self.images[1]}', '--reuse-external'),
                (2, 'vdz', '--target', f'vdz={self.out("x")}'), (1, 'no/such', '--disk', 'vda', '--target', 'vda=/no/such/x'))
        for rc, words, *options in rows:
            with self.subTest(options):
                done = self.baksh('backup-begin', 'g', *options)
                self.assertIn(done.rc, {rc, 5 if words == 'agent' else rc}, done)
                self.assertIn(words, done.err)
                if words != 'agent':
                    dry = self.baksh('backup-begin', 'g', '--dry-run', *options)
                    self.assertEqual((dry.rc, dry.err), (done.rc, done.err))
        with open(self.out('mine')) as file:
            self.assertEqual(file.read(), 'mine')
        self.assertFalse(os.path.exists(self.out('x')))

    def dry_run(self):
        self.assertTrue(self.json('backup-begin', 'g', *self.targets('dry'), '--dry-run')['steps'])
        self.assertFalse(os.path.exists(self.out('dry-vda')))

    def push_over_the_network(self):
        self.make_image('remote', SIZE, 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('remote')))
        xml = self.path('network.xml')
        with open(xml, 'w') as file:
            file.write(f"<domainbackup><disks><disk name='vda' type='network'><driver type='raw'/><target protocol='nbd' name=''>"
                       f"<host transport='unix' socket='{server.path}'/></target></disk><disk name='vdb' backup='no'/></disks></domainbackup>")
        done = self.baksh('backup-begin', 'g', xml, '--reuse-external', '--wait')
        if not done.rc:
            self.assert_holds(self.path('remote'), 'vda', 'raw')
        return done

    def push_with(self, name, *options):
        return self.baksh('backup-begin', 'g', *self.targets(name), *options, '--wait')

    def protected_push(self):
        return self.push_with('protected', '--protect', 'strict')

    def compressed_push(self):
        return self.push_with('compressed', '--compression', 'zlib')

    def sync_top(self):
        return self.push_with('top', '--sync', 'top')

    def sync_none(self):
        done = self.baksh('backup-begin', 'g', *self.targets('none'), '--sync', 'none')
        if not done.rc:
            self.must('backup-stop', 'g', '--abort')
        return done

    rows = (full_push, raw_push, push_of_one_disk, push_over_what_is_there, increment_onto_the_full_one, increment_since_an_older_one, pull, pull_of_an_increment,
            pull_that_is_aborted, checkpoints, refusals, dry_run, push_over_the_network, protected_push, compressed_push, sync_top, sync_none)
    cannot = {}

    def test_the_rows_of_the_table(self):
        for row in self.rows:
            name = row.__name__
            with self.subTest(name):
                files = sorted(os.listdir(self.path('out')))
                done = row(self)
                if name in self.cannot:
                    self.assertEqual(done.rc, 1, done)
                    self.assertIn(self.cannot[name][1], done.err)
                    self.assert_files(self.path('out'), *files)
                else:
                    self.assertTrue(done is None or done.rc == 0, done)


class AttachedTest(Table, bed.LiveTest):
    versions = ('11.1',)        # where it can do all of it

    def start(self):
        arguments = []
        for name, image in zip(self.data, self.images):
            arguments += ['-blockdev', f'driver=qcow2,node-name=disk-{name},file.driver=file,file.filename={image}', '-device', f'virtio-blk-pci,drive=disk-{name},id={name}']
        self.vm = self.machine(*arguments)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def io(self, disk, command):
        self.vm.io(f'-d /machine/peripheral/{disk}/virtio-backend', command)


class LibvirtTest(lvbed.OnLibvirt, Table, bed.LiveTest):
    versions = ('7.2',)
    cannot = NOT_BY_LIBVIRT

    def start(self):
        self.vm = self.bare(*self.images)

    def io(self, disk, command):
        self.vm.io(list(self.data).index(disk), command)

    def job(self):
        return Table.job(self)

    def test_there_are_no_other_reasons(self):
        self.assertLessEqual({reason for reason, _ in NOT_BY_LIBVIRT.values()}, REASONS)
        self.assertLessEqual(set(NOT_BY_LIBVIRT), {row.__name__ for row in self.rows})
        ours, qemu = (self.json('capabilities', uri=uri)['features'] for uri in (self.uri, 'qemu:///session'))
        self.assertEqual({feature for feature, can in qemu.items() if can and not ours[feature]}, set(NOT_IN_LIBVIRT))


if __name__ == '__main__':
    bed.main()
