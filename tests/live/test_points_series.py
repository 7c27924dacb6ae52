#!/usr/bin/python3
"""Points in a row of the writing guest, whatever befalls it between them: each one that is listed is what the guest was at its instant,
at once, at the end, and after others were deleted. LIBBACKUP_TEST_POINTS says how many (30 is the whole)."""
import contextlib
import hashlib
import os
import shutil
import subprocess
import unittest

import bed
import lvbed
import verify

LEAF = 65536
MIB = 1 << 20


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest() if hasattr(hashlib, 'file_digest') else hashlib.sha256(file.read()).hexdigest()


class SeriesTest(bed.LiveTest):
    """Two disks that the guest writes to, and from some point on a third one, of which every byte is known."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    count = int(os.environ.get('LIBBACKUP_TEST_POINTS', '4'))

    # the guest

    def boot(self, disks):
        return self.guest(disks=disks, mount=2, agent=False)

    def make_guest(self):
        disks = [bed.Disk(self.make_disk(f'vd{c}.qcow2', '32M', '8M', 'qcow2', n), f'vd{c}') for n, c in enumerate('ab')]
        self.vm, self.third, self.known = self.boot(disks), None, bytearray()
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def pause(self):
        self.vm.qmp.execute('stop')

    def go_on(self):
        self.vm.qmp.execute('cont')

    def start_again(self):
        self.vm.start()
        self.vm.wait_ready()

    def resize(self, size):
        self.vm.qmp.execute('block_resize', node_name=self.third.node, size=size)

    def write_third(self, offset, length, byte):
        for command in (f'write -P {byte} {offset} {length}', 'flush'):     # or it may be gone with QEMU
            self.vm.io(f'-d /machine/peripheral/{self.third.target}/virtio-backend', command)

    # what befalls it

    def nothing(self):
        pass

    def restart(self):
        self.vm.quit()
        self.start_again()

    def guest_killed(self):
        self.vm.kill()
        self.start_again()

    def client_killed(self):
        process = self.baksh_start('point-create', 'g', *self.random.choice(((), ('--limit', '4M'), ('--full-read', '--limit', '8M'))))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.random.uniform(0.05, 1.5))
        process.kill()
        process.communicate()

    def failed_run(self):
        done = self.baksh('point-create', 'g', '--full-read', '--limit', '256K', '--timeout', '1')
        self.assertEqual(done.rc, 3, done)

    def another_disk(self):
        if self.third:
            return self.disk_grows()
        path = self.make_image('third.qcow2', 3 * MIB)
        self.known = bytearray(3 * MIB)
        self.vm.quit()
        self.third = bed.Disk(path, 'vdc')
        self.vm.disks.append(self.third)
        self.start_again()

    def disk_grows(self):
        if not self.third:
            return self.another_disk()
        self.known += bytes(self.random.randrange(1, 20) * LEAF)
        self.resize(len(self.known))

    events = ('another_disk', 'guest_killed', 'restart', 'client_killed', 'failed_run', 'disk_grows', 'nothing')

    # points

    def point(self):
        """Of the running guest, or of one that stands still, whose images are held then."""
        held = {}
        self.vm.wait_rounds(self.random.randrange(1, 12))
        if self.third:
            length = self.random.randrange(1, 5) * LEAF // 2
            offset = self.random.randrange(0, (len(self.known) - length) // 512) * 512
            byte = self.random.randrange(256)
            self.write_third(offset, length, byte)
            self.known[offset:offset + length] = bytes([byte]) * length
            held['vdc'] = hashlib.sha256(self.known).hexdigest()
        still = self.random.random() < 0.5
        if still:
            self.pause()
            held |= {d.target: self.content(d.path) for d in self.vm.disks[:2]}
        made = self.json('point-create', 'g', *self.random.choice(((), ('--compression', 'zstd'))))
        if still:
            self.go_on()
        self.held[made['id']] = held
        self.assert_held(made)

    def content(self, image):
        self.img('convert', '-U', '-f', 'qcow2', '-O', 'raw', image, self.path('content'))
        return digest(self.path('content'))

    def assert_held(self, point):
        where, held = f'seed {self.seed}: point {point["sequence"]} after {self.story}', self.held[point['id']]
        images = {d['target']: d['path'] for d in point['disks']}
        self.assertEqual(set(images), {'vda', 'vdb', *held}, where)
        for target, wanted in held.items():
            self.assertEqual(self.content(images[target]), wanted, f'{where}: {target} is not what it was')
        if 'vda' not in held:
            report = verify.verify([images['vda'], images['vdb']])
            self.assertTrue(report.good, f'{where}\n{report}')

    def assert_all_held(self):
        for point in self.listed():
            if point['id'] in self.held:
                self.assert_held(point)

    def listed(self):
        return self.json('point-list', 'g')['points']

    def test_each_point_is_what_the_guest_was(self):
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        self.make_guest()
        self.held, self.story = {}, []
        left = []
        for _ in range(self.count):
            if not left:
                left = self.random.sample(self.events, len(self.events))
            self.story.append(left.pop())
            getattr(self, self.story[-1])()
            self.point()
        self.must('point-verify', '--all')
        self.assert_all_held()
        chosen = self.random.choice(list(self.held))
        self.must('point-restore', chosen, '--target', self.path('out'))
        self.assert_held({'id': chosen, 'sequence': 'restored', 'disks': [
            {'target': d['target'], 'path': self.path('out', f'{d["target"]}.qcow2')} for d in self.json('point-info', chosen)['disks']]})
        shutil.rmtree(self.path('out'))
        ids = [p['id'] for p in self.listed()]
        for gone in self.random.sample(ids, len(ids) // 2):
            self.must('point-delete', gone)
            self.assertNotIn(gone, [p['id'] for p in self.listed()])
        self.assert_all_held()
        self.must('point-verify', '--all')
        self.point()
        kinds = [d['kind'] for p in self.listed() for d in p['disks']]
        print(f'seed {self.seed}: {", ".join(self.story)}; {len(self.held)} points, {kinds.count("incremental")} of {len(kinds)} disks '
              f'left are increments', flush=True)


class SeriesOnLibvirtTest(lvbed.OnLibvirt, SeriesTest):
    folder = None       # libvirtd's QEMU must reach it
    count = int(os.environ.get('LIBBACKUP_TEST_POINTS', '2'))

    def pause(self):
        self.virsh('suspend', 'g')

    def go_on(self):
        self.virsh('resume', 'g')

    def resize(self, size):
        self.virsh('blockresize', 'g', 'vdc', f'{size}B')

    def write_third(self, offset, length, byte):
        for command in (f'write -P {byte} {offset} {length}', 'flush'):
            self.vm.io(2, command)

    def start_again(self):
        bed.wait_for('the domain is off', lambda: not self.vm.is_running())
        self.vm.start()
        self.vm.wait_ready()


if __name__ == '__main__':
    unittest.main()
