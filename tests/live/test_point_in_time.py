#!/usr/bin/python3
"""Push and pull of a guest that writes to two disks, begun at random moments: every copy is exact and of one instant."""
import os

import bed

SIZE = 16 << 20
TIMES = int(os.environ.get('LIBBACKUP_TEST_TIMES', '20'))


class Writing(bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.vm = self.guest(disks=2, fill='24M')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.picture = self.vm.picture()

    def at_a_random_moment(self):
        self.vm.wait_rounds(self.random.randrange(1, 120))

    def remove(self, *names):
        for name in names:
            os.unlink(self.path(name))

    def push(self, *names, fmt='qcow2'):
        targets = [x for disk, name in zip(self.vm.disks, names) for x in ('--target', f'{disk.target}={self.path(name)}')]
        self.must('backup-begin', 'g', '--mode', 'push', *targets, '--format', fmt, '--wait')
        return [self.path(n) for n in names]

    def pull(self, *names, moving=True):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}')
        if moving:
            self.vm.wait_rounds(self.random.randrange(1, 60))
        for disk, name in zip(self.vm.disks, names):
            self.nbdcopy(f'nbd+unix:///{disk.target}?socket={sock}', self.path(name))
        self.must('backup-stop', 'g')
        self.assertFalse(os.path.exists(sock), 'the socket of the export is left')
        return [self.path(n) for n in names]

    def check(self, copies, seed_note):
        with self.subTest(seed_note):
            self.assert_one_instant(*copies)
            self.assert_nothing_left(self.vm, self.picture)
            self.assert_never_paused(self.vm)


class PushTest(Writing):
    def test_pushes_begun_at_random_moments_are_exact(self):
        for n in range(TIMES):
            self.at_a_random_moment()
            fmt = self.random.choice(('qcow2', 'raw'))
            copies = self.push('a', 'b', fmt=fmt)
            self.check(copies, f'push {n} to {fmt}, seed {self.seed}')
            self.remove('a', 'b')
        self.assert_guest_works(self.vm)


class PullTest(Writing):
    def test_pulls_begun_at_random_moments_are_exact(self):
        for n in range(TIMES):
            self.at_a_random_moment()
            copies = self.pull('a', 'b')
            self.check(copies, f'pull {n}, seed {self.seed}')
            self.remove('a', 'b')
        self.assert_guest_works(self.vm)

    def test_an_export_shows_the_same_bytes_as_often_as_it_is_read(self):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}')
        for name in ('first', 'second', 'third'):
            self.nbdcopy(f'nbd+unix:///vda?socket={sock}', self.path(name))
            self.vm.wait_rounds(100)
        self.must('backup-stop', 'g')
        self.assert_same(self.path('first'), self.path('second'), 'raw', 'raw')
        self.assert_same(self.path('first'), self.path('third'), 'raw', 'raw')
        self.assert_guest_works(self.vm)
        self.assert_nothing_left(self.vm, self.picture)


class FrozenTest(Writing):
    def test_a_copy_of_a_frozen_disk_is_the_disk_byte_for_byte(self):
        with self.vm.frozen():
            copies = [self.push('a.qcow2', 'b.qcow2'), self.push('a.raw', 'b.raw', fmt='raw'), self.pull('a', 'b', moving=False)]
            for disk, *of_disk in zip(self.vm.disks, *copies):
                for copy, fmt in zip(of_disk, ('qcow2', 'raw', 'raw')):
                    self.img('compare', '-U', '-f', disk.fmt, '-F', fmt, disk.path, copy)
        for pair in copies:
            self.assert_one_instant(*pair, quiesced=True)
        self.assert_guest_works(self.vm)


class ReusedTest(bed.LiveTest):
    """What an existing file holds shows neither in a copy nor in an export."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(1 << 20, 1 << 20, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.picture = self.vm.picture()
        self.old = [(0, SIZE, 0x55)]

    def test_an_existing_target_is_overwritten_wherever_the_disk_is_empty_too(self):
        for fmt in ('raw', 'qcow2'):
            target = self.make_image(f'old.{fmt}', SIZE, fmt, data=self.old)
            self.must('backup-begin', 'g', '--target', f'vda={target}', '--format', fmt, '--reuse-external', '--wait')
            self.assert_same(self.path('disk.qcow2'), target, 'qcow2', fmt)

    def pull(self, scratch, rc):
        return self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--scratch', f'vda={scratch}',
                         '--reuse-external', rc=rc)

    def test_an_existing_scratch_is_used_if_it_is_empty_and_refused_if_not(self):
        zeroes = self.make_image('zeroes', SIZE)
        bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', '-c', 'write -q -z 1M 64k', zeroes)
        for scratch in (self.make_image('old', SIZE, data=self.old), zeroes):
            done = self.pull(scratch, 1)
            self.assertIn('not empty', done.err)
            self.assertIn(scratch, done.err)
            self.assert_nothing_left(self.vm, self.picture)
        self.pull(self.make_image('empty', SIZE), 0)
        self.nbdcopy(f'nbd+unix:///vda?socket={self.path("nbd")}', self.path('copy'))
        self.must('backup-stop', 'g')
        self.assert_same(self.path('disk.qcow2'), self.path('copy'), 'qcow2', 'raw')

    def test_another_name_of_the_guests_own_image_is_no_target(self):
        os.link(self.path('disk.qcow2'), self.path('hard'))
        os.symlink(self.path('disk.qcow2'), self.path('soft'))
        for name in ('hard', 'soft'):
            done = self.must('backup-begin', 'g', '--target', f'vda={self.path(name)}', '--reuse-external', rc=1)
            self.assertIn('in use by the guest itself', done.err)
            self.assert_nothing_left(self.vm, self.picture)


if __name__ == '__main__':
    bed.main()
