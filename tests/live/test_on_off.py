#!/usr/bin/python3
"""One guest, on and off: attached by its monitor and by its images, it has one chain. While QEMU answers it is QEMU's guest; when QEMU is off,
its images are opened by a storage daemon of ours; never both."""
import os
import shutil
import unittest

import bed

MIB = 1 << 20
SIZE = 8 * MIB


class OnOff(bed.LiveTest):
    """A guest g of one or two disks whose every byte is known, in a QEMU that comes and goes."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    fmt = 'qcow2'

    def setUp(self):
        super().setUp()
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        self.disk = self.make_image(f'disk.{self.fmt}', SIZE, fmt=self.fmt)
        self.data = bytearray(SIZE)
        self.vm = self.engine(self.disk, fmt=self.fmt, name='vm', start=False)

    def on(self):
        self.vm.start()

    def off(self):
        self.vm.quit()

    def attach(self, *images, rc=0):
        return self.must('attach', 'g', '--qmp', self.vm.qmp_path, *[w for i in images or [f'vda={self.disk}'] for w in ('--image', i)], rc=rc)

    def write(self, offset, length, byte):
        if self.vm.process and self.vm.is_running():
            self.vm.io('disk0', f'write -q -P {byte} {offset} {length}')
            self.vm.io('disk0', 'flush')
        else:
            bed.run(bed.tool('qemu-io', self.version), '-f', self.fmt, '-c', f'write -q -P {byte} {offset} {length}', self.disk)
        self.data[offset:offset + length] = bytes([byte]) * length

    def somewhere(self):
        for _ in range(3):
            length = self.random.randrange(1, 512) * 512
            self.write(self.random.randrange(0, (SIZE - length) // 512) * 512, length, self.random.randrange(1, 256))

    def point(self, kind=None, *options):
        """A point, and what it holds is the guest of now."""
        made = self.json('point-create', 'g', *options)
        if kind:
            self.assertEqual([(d['target'], d['kind']) for d in made['disks']], [('vda', kind)], made)
        self.holds('g@latest')
        return made

    def holds(self, point):
        target = self.path('restored')
        self.must('point-restore', point, '--target', f'vda={target}', '--format', 'raw', *(['--reuse-external'] if os.path.exists(target) else []))
        with open(target, 'rb') as file:
            self.assertEqual(bytes(self.data), file.read())

    def state(self):
        return self.json('domstate', 'g')['state']


class ChainTest(OnOff):
    def test_a_chain_goes_on_whether_the_guest_runs_or_not(self):
        self.on()
        self.write(0, MIB, 7)
        self.attach()
        self.point('full')
        kept = {}
        for night in range(6):
            self.somewhere()
            (self.off if night % 2 == 0 else self.on)()
            self.assertEqual(self.state(), 'running' if night % 2 else 'shut off')
            self.somewhere()
            made = self.point('incremental')
            self.assertEqual([d['reason'] for d in made['disks']], [None])
            kept[made['id']] = bytes(self.data)
        for point, data in kept.items():     # each still holds its own night
            self.data = data
            self.holds(f'g@{point}')
        self.must('checkpoint-check', 'g')

    def test_attached_while_off_it_is_the_same_when_it_runs(self):
        self.write(0, MIB, 7)
        self.vm.arguments += ['-uuid', '12345678-1111-4222-8333-944444444444']
        self.attach()
        uuid = self.json('dominfo', 'g')['uuid']
        self.point('full')
        self.on()
        self.somewhere()
        self.point('incremental')
        self.off()
        self.somewhere()
        self.point('incremental')
        self.on()
        self.point('incremental')
        self.assertEqual(self.json('dominfo', 'g')['uuid'], uuid)

    def test_checkpoints_and_pushed_increments_go_on_too(self):
        self.on()
        self.write(0, MIB, 7)
        self.attach()
        self.must('backup-begin', 'g', '--target', f'vda={self.path("n0")}', '--checkpoint', 'c0', '--wait')
        for night in range(1, 5):
            self.somewhere()
            (self.off if night % 2 else self.on)()
            self.somewhere()
            self.must('backup-begin', 'g', '--target', f'vda={self.path(f"n{night}")}', '--onto', f'vda={self.path(f"n{night - 1}")}',
                      '--since', f'c{night - 1}', '--checkpoint', f'c{night}', '--wait')
            self.assertEqual({d['type'] for d in self.json('backup-info', 'g')['disks']}, {'incremental'})
            self.img('compare', '-U', self.disk, self.path(f'n{night}'))
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual([c['name'] for c in self.listing('checkpoint-list', 'g')], ['c0', 'c2', 'c3', 'c4'])

    def test_after_a_crash_what_is_not_exact_is_read_whole(self):
        self.on()
        self.attach()
        self.somewhere()
        self.point('full')
        self.somewhere()
        self.vm.io('disk0', 'flush')
        self.vm.kill()
        made = self.point('full')
        self.assertTrue(made['disks'][0]['reason'])
        self.somewhere()
        self.point('incremental')


class ImagesTest(OnOff):
    def test_images_are_found_in_the_running_guest(self):
        self.on()
        more = self.make_image('more.qcow2', SIZE, data=[(0, MIB, 3)])
        self.off()
        self.vm.arguments += self.engine(('second', more), name='unused', start=False).arguments[2:]
        self.on()
        self.attach('auto')
        targets = [d['target'] for d in self.listing('domblklist', 'g')]
        self.assertEqual(len(targets), 2)
        self.off()
        off = {d['target']: d['source'] for d in self.listing('domblklist', 'g')}
        self.assertEqual(off, dict(zip(targets, (self.disk, more))))
        self.assertEqual({d['target'] for d in self.json('point-create', 'g')['disks']}, set(targets))

    def test_a_disk_that_was_plugged_in_later_is_there_when_the_guest_is_off(self):
        self.on()
        self.attach()
        self.point('full')
        more = self.make_image('more.qcow2', SIZE, data=[(0, MIB, 3)])
        self.vm.qmp.execute('blockdev-add', **{'node-name': 'extra', 'driver': 'qcow2', 'file': {'driver': 'file', 'filename': more}})
        self.must('dominfo', 'g')
        self.off()
        self.assertEqual({d['target']: d['kind'] for d in self.json('point-create', 'g')['disks']}, {'vda': 'incremental', 'extra': 'full'})

    def test_an_overlay_that_was_put_on_top_is_what_the_guest_is_when_off(self):
        self.on()
        self.write(0, MIB, 7)
        self.attach()
        self.point('full')
        overlay = self.path('overlay.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', self.disk, overlay)
        self.vm.qmp.execute('blockdev-add', **{'node-name': 'top', 'driver': 'qcow2', 'file': {'driver': 'file', 'filename': overlay}, 'backing': None})
        self.vm.qmp.execute('blockdev-snapshot', node='disk0', overlay='top')
        self.vm.io('top', 'write -q -P 9 0 64k')
        self.data[0:65536] = bytes([9]) * 65536
        self.assertEqual(self.listing('domblklist', 'g')[0]['target'], 'vda')
        self.off()
        self.assertEqual(self.listing('domblklist', 'g')[0]['source'], overlay)
        self.point()

    def test_a_disk_that_only_qemu_can_read_keeps_the_guest_from_a_part_of_a_backup(self):
        self.on()
        self.attach()
        self.vm.qmp.execute('blockdev-add', **{'node-name': 'far', 'driver': 'raw', 'file': {'driver': 'null-co', 'size': MIB, 'read-zeroes': True}})
        self.must('dominfo', 'g')
        self.off()
        refused = self.must('point-create', 'g', rc=1)
        self.assertRegex(refused.err, "disk 'far': it is no image file")

    def test_images_that_the_running_guest_does_not_have_are_refused(self):
        self.on()
        other = self.make_image('other.qcow2', SIZE)
        refused = self.attach(f'vda={other}', rc=1)
        self.assertRegex(refused.err, f"disk 'vda': the QEMU at .* has no disk whose image is '{other}'; it has: {self.disk}")
        self.assertEqual(self.listing('list', '--all'), [])
        self.assertIn('--qmp', self.must('attach', 'g', '--image', 'auto', rc=2).err)


class NeverBothTest(OnOff):
    def test_a_qemu_that_does_not_answer_keeps_its_images(self):
        self.on()
        self.attach()
        self.point('full')
        os.rename(self.vm.qmp_path, self.vm.qmp_path + '.gone')       # it runs, and nobody can reach it
        refused = self.must('point-create', 'g', rc=1)
        self.assertRegex(refused.err, r"(?s)disk\.qcow2.*lock|lock.*disk\.qcow2|in use")
        self.assertNotIn('qsd.sock', os.listdir(self.state_dir()))
        os.rename(self.vm.qmp_path + '.gone', self.vm.qmp_path)
        self.somewhere()
        self.point('incremental')

    def test_a_qemu_that_hangs_is_not_taken_for_one_that_is_off(self):
        self.on()
        self.attach()
        with self.vm.stopped():
            refused = self.must('point-create', 'g', rc=5)
            self.assertNotIn('storage daemon', refused.err)
        self.point('full')

    def test_while_images_are_taken_the_guest_cannot_start_and_after_an_abort_it_can(self):
        self.attach()
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}')
        self.assertIn("backup-stop g --abort", ' '.join(self.json('dominfo', 'g')['notes']))
        self.assertEqual([(d['name'], d['state']) for d in self.listing('list', '--all')], [('g', 'shut off')])
        with self.assertRaises(AssertionError):
            self.vm.start()
        self.vm.process.wait(30)
        self.assertIn('lock', self.vm.stderr())
        self.assertEqual(self.json('backup-info', 'g')['state'], 'ready')
        self.must('backup-stop', 'g', '--abort')
        self.on()
        self.assertEqual(self.state(), 'running')
        self.point('full')

    def test_a_backup_that_ran_when_the_guest_was_switched_off_failed_and_the_next_is_exact(self):
        self.on()
        self.attach()
        self.somewhere()
        self.point('full')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--checkpoint', 'c')
        self.off()
        bed.wait_for('the failure', lambda: self.json('backup-info', 'g')['state'] == 'failed')
        self.assertNotIn('c', [c['name'] for c in self.listing('checkpoint-list', 'g')])
        self.somewhere()
        self.point()
        self.on()
        self.somewhere()
        self.point('incremental')


class LieTest(OnOff):
    def chain(self):
        self.on()
        self.write(0, MIB, 7)
        self.attach()
        self.point('full')

    def test_an_image_that_was_replaced_while_off_is_seen(self):
        self.chain()
        self.off()
        other = self.make_image('other.qcow2', SIZE, data=[(0, SIZE, 5)])
        os.rename(other, self.disk)
        self.data[:] = bytes([5]) * SIZE
        for step in (lambda: None, self.on):
            step()
            made = self.point()
            if step != self.on:
                self.assertEqual(made['disks'][0]['kind'], 'full')
                self.assertTrue(made['disks'][0]['reason'])

    def test_an_older_copy_put_in_its_place_is_seen_when_it_runs_again(self):
        self.chain()
        self.off()
        old, before = self.path('old.qcow2'), bytes(self.data)
        shutil.copy(self.disk, old)
        self.on()
        self.somewhere()
        self.point('incremental')
        self.off()
        os.rename(old, self.disk)
        self.data[:] = before
        self.on()
        made = self.point('full')
        self.assertTrue(made['disks'][0]['reason'])

    def test_another_guest_at_the_socket_is_refused(self):
        self.attach()       # while it is off: its QEMU was never seen
        other = self.make_image('other.qcow2', SIZE)
        stranger = self.engine(other, name='vm')
        refused = self.must('point-create', 'g', rc=4)
        self.assertIn('none of the images', refused.err)
        stranger.quit()
        self.point('full')


class RawTest(OnOff):
    """Raw images keep no bitmaps; on and off it is the same guest all the same."""
    fmt = 'raw'

    def test_points_of_raw_disks_are_exact_on_and_off(self):
        self.write(0, MIB, 7)
        self.attach()
        self.point('full')
        self.on()
        self.somewhere()
        self.point('full')
        self.off()
        self.somewhere()
        self.point('full')


if __name__ == '__main__':
    unittest.main()
