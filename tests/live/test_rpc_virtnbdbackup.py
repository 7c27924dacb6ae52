#!/usr/bin/python3
"""virtnbdbackup, unmodified, backs up a bare QEMU through libbackupd and restores what the disk held."""
import os
import shutil

import bed
import daemon

SIZE = 64 << 20


class VirtnbdbackupTest(daemon.DaemonTest):
    versions = ('7.2', '11.1')

    def start(self, client):
        daemon.client_prefix(client, 'virtnbdbackup')
        self.release = client
        names = ('a', 'b')
        self.qemu = self.engine(*[(f'disk-{n}', self.make_image(f'{n}.qcow2', SIZE, data=[(0, 3 << 20, 7)])) for n in names])
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('g', self.qemu, vda='disk-a', vdb='disk-b')

    def run_tool(self, program, *arguments, rc=0):
        got, out, err = self.client(self.release, program, '-U', self.daemon.uri, *arguments, timeout=180)
        self.assertEqual(got, rc, f'{program} ({self.release}) {" ".join(map(str, arguments))}:\n{out[-2000:]}{err[-4000:]}\n{self.daemon.read_log()[-2000:]}')
        return out + err

    def backup(self, level, folder='out', *more):
        # a chroot has another /var/tmp than QEMU
        return self.run_tool('virtnbdbackup', '-d', 'g', '-l', level, '-o', self.path(folder), '-f', self.path('nbd'), '--scratchdir', self.directory, *more)

    def write(self, byte, offset, length='128k'):
        for node in ('disk-a', 'disk-b'):
            self.qemu.io(node, f'write -P {byte} {offset} {length}')

    def snapshot(self, name):
        """What the disks hold now, read from QEMU by a push of our own."""
        text = ''.join(f"<disk name='{d}' type='file'><target file='{self.path(name)}-{d}.qcow2'/><driver type='qcow2'/></disk>" for d in ('vda', 'vdb'))
        with open(self.path(f'{name}.xml'), 'w') as f:
            f.write(f'<domainbackup><disks>{text}</disks></domainbackup>')
        self.virsh_ok(self.daemon.uri, 'backup-begin', 'g', self.path(f'{name}.xml'))
        bed.wait_for('the push', lambda: 'None' in self.virsh_ok(self.daemon.uri, 'domjobinfo', 'g'))

    def restore_equals(self, name, folder='out'):
        shutil.rmtree(self.path('restored'), ignore_errors=True)
        self.run_tool('virtnbdrestore', '-i', self.path(folder), '-o', self.path('restored'), '-f', self.path('nbd-restore'))
        for disk, image in (('vda', 'a'), ('vdb', 'b')):
            self.assert_same(self.path('restored', f'{image}.qcow2'), f'{self.path(name)}-{disk}.qcow2')

    def all_levels(self, client):
        self.start(client)
        self.backup('full')
        self.write(1, '1M')
        self.backup('inc')
        self.write(2, '20M')
        self.write(0, '2M')
        self.backup('inc')
        self.snapshot('after-inc')
        self.restore_equals('after-inc')
        self.write(3, '40M')
        self.backup('diff')
        self.write(4, '41M')
        self.backup('inc')
        self.write(5, '30M')
        self.backup('auto')                 # there is a full: an increment
        self.backup('auto', 'other')        # there is none
        self.snapshot('end')
        self.restore_equals('end', 'other')
        self.backup('copy', 'copy')
        self.restore_equals('end', 'copy')
        self.assert_nothing_left(self.qemu)

    def test_virtnbdbackup_of_debian_12(self):
        self.all_levels('12')

    def test_what_it_saved_becomes_points_and_what_is_damaged_does_not(self):
        self.start('12')
        runs, after = [('full', 1), ('inc', 2), ('diff', 3), ('inc', 4)], []
        for level, byte in runs:
            self.write(byte, f'{byte}M')
            if level != 'full':
                self.write(0, f'{byte - 1}M', '64k')
            self.backup(level, 'out', '-z')
            self.snapshot(f'run-{len(after)}')
            after.append(f'run-{len(after)}')
        self.must('repository-create', self.path('repository'))
        points = self.json('point-import', self.path('out'), '--repository', self.path('repository'))['points']
        self.assertEqual([(p['guest'], [d['target'] for d in p['disks']]) for p in points], [('g', ['vda', 'vdb'])] * 4)
        for name, point in zip(after, points):
            for disk in point['disks']:
                self.assert_same(disk['path'], f'{self.path(name)}-{disk["target"]}.qcow2')
        self.assertLess(sum(d['stored'] for d in points[1]['disks']), 1 << 20)
        self.refuses_damage(self.path('out'))

    def refuses_damage(self, folder):
        """One fault at a time in a copy."""
        def cut(path):
            with open(path, 'r+b') as file:
                file.truncate(os.path.getsize(path) - 1)

        def flip(path):
            with open(path, 'r+b') as file:
                file.seek(os.path.getsize(path) // 2)
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 255]))
        files = sorted(n for n in os.listdir(folder) if n.endswith('.data'))
        inc = next(n for n in files if 'vda.inc' in n and n.endswith('.1.data'))
        for fault, name in ((cut, 'vda.full.data'), (cut, inc), (flip, 'vda.full.data'), (os.unlink, inc), (os.unlink, 'vdb.full.data')):
            copy = self.path('damaged')
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            fault(os.path.join(copy, name))
            repository = self.path(f'repository-{fault.__name__}-{name}')
            self.must('repository-create', repository)
            with self.subTest(fault=fault.__name__, name=name):
                self.must('point-import', copy, '--repository', repository, rc=4)

    def test_virtnbdbackup_of_trixie(self):
        self.all_levels('trixie')

    def test_virtnbdbackup_of_sid(self):
        self.all_levels('sid')

    def test_a_lost_checkpoint_is_defined_again_from_what_it_saved(self):
        """Its own way out after checkpoints are gone: error 103, then checkpoint-create --redefine."""
        self.start('12')
        self.backup('full')
        self.virsh_ok(self.daemon.uri, 'checkpoint-delete', 'g', 'virtnbdbackup.0', '--metadata')
        self.assertNotIn('virtnbdbackup.0', self.virsh_ok(self.daemon.uri, 'checkpoint-list', 'g'))
        self.write(9, '5M')
        self.backup('inc')
        self.assertIn('virtnbdbackup.0', self.virsh_ok(self.daemon.uri, 'checkpoint-list', 'g'))
        self.snapshot('end')
        self.restore_equals('end')


if __name__ == '__main__':
    bed.main()
