#!/usr/bin/python3
"""Restore points as they are made: each holds the guest of its instant, whatever was done to the one before it; what tracking
says is tested; who dies leaves nothing that is in the way."""
import contextlib
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import bed

MIB = 1 << 20
SIZE = 8 * MIB
LEAF = 65536


class PointTest(bed.LiveTest):
    """A guest g with one disk, vda, of which every byte is known, on or off, and a repository."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def setUp(self):
        super().setUp()
        self.data = bytearray(SIZE)
        self.disk = self.make_image('disk.qcow2', SIZE)
        self.vm, self.known = None, False
        self.repository = self.path('repo')
        self.environment['LIBBACKUP_REPOSITORY'] = self.repository
        self.must('repository-create')

    # the guest

    def attach_on(self, image=None, fmt='qcow2'):
        """The image under a filter by which it is written, as a device would: what a pull puts in lies below it."""
        self.vm = self.engine(image or self.disk, fmt=fmt, extra=[
            '-object', 'throttle-group,id=tg', '-blockdev', 'driver=throttle,discard=unmap,node-name=top,throttle-group=tg,file=disk0'])
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=top')

    def attach_off(self):
        if not self.known:
            self.must('attach', 'g', '--image', f'vda={self.disk}')
        self.known = True

    def let_go(self):
        """Until the private storage daemon of a guest that is off has closed the image."""
        bed.wait_for('the image', lambda: not bed.holds_lock(self.disk))

    def io(self, command):
        if self.vm:
            self.vm.io('top', command)
        else:
            bed.run(bed.tool('qemu-io', self.version), '-f', 'qcow2', '-c', command, self.disk)

    def write(self, offset, length, byte):
        self.io(f'write -P {byte} {offset} {length}' if byte else f'write -z -u {offset} {length}')
        self.data[offset:offset + length] = bytes([byte]) * length

    def write_somewhere(self, count=3):
        for _ in range(count):
            length = self.random.randrange(1, 4 * LEAF // 512) * 512
            offset = self.random.randrange(0, (SIZE - length) // 512) * 512
            self.write(offset, length, self.random.randrange(0, 256))

    # its points

    def create(self, *options, rc=0):
        return self.json('point-create', 'g', *options, rc=rc)

    def points(self, domain='g'):
        return self.json('point-list', domain)['points']

    def image(self, point, target='vda'):
        return next(disk['path'] for disk in point['disks'] if disk['target'] == target)

    def holds(self, point):
        """What a person with qemu-img alone gets."""
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.image(point), self.path('restored'))
        with open(self.path('restored'), 'rb') as file:
            return file.read()

    def assert_holds(self, point, data=None):
        held, data = self.holds(point), self.data if data is None else data
        if held != data:
            wrong = [i // LEAF for i in range(0, max(len(held), len(data)), LEAF) if held[i:i + LEAF] != data[i:i + LEAF]]
            self.fail(f'seed {self.seed}: point {point["id"]} is not what the guest saw: leaves {wrong}, '
                      f'{len(held)} bytes for {len(data)}')

    def assert_clean(self):
        """Nothing that is no point, nothing in the guest that is not of the newest one."""
        for path in glob.glob(self.repository + '/*/.*'):
            self.fail(f'{path} is left')
        names = [checkpoint['name'] for checkpoint in self.listing('checkpoint-list', 'g')]
        points = self.points()
        self.assertEqual([n for n in names if n.startswith('point-')], [points[-1]['checkpoint']] if points and points[-1]['checkpoint'] else [])


class CreateTest(PointTest):
    def test_each_point_of_a_changing_disk_holds_what_it_was(self):
        self.attach_on()
        self.write(0, 3 * MIB, 5)
        made = []
        for number in range(6):
            made.append((self.create(*(('--compression', 'zstd') if number % 2 else ())), bytes(self.data)))
            self.write_somewhere()
        for point, data in made:
            self.assert_holds(point, data)
        self.assertEqual([p['id'] for p in self.points()], [p['id'] for p, _ in made])
        self.assertEqual([p['disks'][0]['kind'] for p, _ in made], ['full'] + 5 * ['incremental'])
        self.assert_clean()

    def test_only_what_changed_is_stored(self):
        self.attach_on()
        self.write(0, 4 * MIB, 5)
        first = self.create()
        self.assertEqual((first['stored'], first['reused']), (4 * MIB, 0))
        self.write(MIB, 4096, 6)
        self.write(2 * MIB, LEAF, 5)        # the same again: read, and not stored
        second = self.create()
        self.assertEqual((second['read'] - LEAF * second['disks'][0]['sampled'] <= 2 * LEAF, second['stored']), (True, LEAF))
        whole = self.create('--full-read')
        self.assertEqual((whole['disks'][0]['kind'], whole['read'], whole['stored']), ('full', 4 * MIB, 0))
        self.assertRegex(whole['disks'][0]['reason'], 'asked for')
        self.assert_holds(whole)

    def test_zeros_that_were_data_are_zeros(self):
        self.attach_on()
        self.write(0, 4 * MIB, 5)
        self.create()
        self.write(MIB, MIB, 0)
        self.assert_holds(self.create())
        info = json.loads(self.img('map', '--output=json', self.image(self.points()[-1])).stdout)
        self.assertTrue(any(e['start'] <= MIB < e['start'] + e['length'] and e['zero'] and e['depth'] == 0 for e in info), info)

    def test_the_command_line_is_of_the_guests_own_process_and_no_other_guest_is_asked(self):
        self.attach_on()
        path = self.path('other.sock')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.setblocking(False)
            self.popen('bash', '-c', 'exec -a qemu-system-x86_64 "$0" "$@"', sys.executable, '-c', 'import time; time.sleep(600)',
                       '-qmp', f'unix:{path},server=on,wait=off')
            bed.wait_for('the other guest', lambda: path in self.must('discover').out)
            listener.accept()[0].close()            # whoever looks for guests asks them who they are
            while select.select([listener], [], [], 0)[0]:
                listener.accept()[0].close()
            point = self.create()
            with self.assertRaises(BlockingIOError):
                listener.accept()
        self.assertEqual(self.json('dominfo', 'g')['pid'], self.vm.process.pid)
        with open(f'/proc/{self.vm.process.pid}/cmdline', 'rb') as there, open(f'{os.path.dirname(self.image(point))}/qemu.cmdline', 'rb') as kept:
            self.assertEqual(kept.read().split(b'\n'), there.read().split(b'\0'))

    def test_an_agent_that_does_not_answer_costs_the_freezing_and_not_the_point(self):
        self.vm = self.engine(self.disk)
        listener = bed.listen_unix(self.path('agent'))
        self.addCleanup(listener.close)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0', '--agent', self.path('agent'))
        self.must('point-create', 'g', '--quiesce', 'yes', rc=5)
        point = self.create()
        self.assertRegex(' '.join(point['warnings']), 'not frozen: guest agent .* does not answer')
        self.assert_holds(point)

    def test_a_guest_that_is_off_has_points_too(self):
        self.write(0, 2 * MIB, 3)
        self.attach_off()
        first, before = self.create(), bytes(self.data)
        self.let_go()
        self.write_somewhere()
        self.attach_off()
        second = self.create()
        self.assert_holds(first, before)
        self.assert_holds(second)

    def test_the_tree_is_that_of_the_disk_and_the_same_however_it_was_read(self):
        self.attach_on()
        self.write_somewhere(5)
        first = self.create()
        self.write_somewhere(2)
        second, third = self.create(), self.create('--full-read')
        self.assertNotEqual(first['disks'][0]['root'], second['disks'][0]['root'])
        self.assertEqual(second['disks'][0]['root'], third['disks'][0]['root'])

    def test_several_repositories_live_side_by_side(self):
        self.attach_on()
        other = self.path('other')
        self.must('repository-create', other)
        for _ in range(3):
            self.write_somewhere()
            self.assert_holds(self.create())
            self.assert_holds(self.create('--repository', other))
        self.assertEqual(len(self.listing('checkpoint-list', 'g')), 2)
        self.assertEqual([p['disks'][0]['kind'] for p in self.points()], ['full', 'incremental', 'incremental'])

    def test_a_copy_of_the_repository_does_not_mislead_the_other(self):
        """Two that have the same id: the checkpoint of the one is not taken for that of the other."""
        self.attach_on()
        self.write(0, MIB, 1)
        self.create()
        shutil.copytree(self.repository, self.path('copy'))
        self.write(0, MIB, 2)
        self.create()
        self.write(MIB, MIB, 3)
        self.assert_holds(self.create('--repository', self.path('copy')))
        self.write(2 * MIB, MIB, 3)
        self.assert_holds(self.create())

    def test_a_disk_that_came_grew_or_shrank_is_read_whole(self):
        self.attach_on()
        self.write(0, SIZE, 7)
        self.create()
        self.vm.qmp.execute('block_resize', node_name='top', size=SIZE + MIB + 512)
        self.data += bytes(MIB + 512)
        grown = self.create()
        self.assert_holds(grown)
        self.assertEqual(grown['disks'][0]['kind'], 'full')
        self.assertLessEqual(grown['stored'], LEAF)
        self.write(SIZE + 4096, 4096, 9)
        self.assert_holds(self.create())

    def test_a_shrunk_disk_and_one_that_grew_again(self):
        self.write(0, SIZE, 7)
        self.attach_off()
        self.create()
        self.let_go()
        self.img('bitmap', '--remove', self.disk, self.points()[-1]['checkpoint'], check=False)
        self.img('resize', '--shrink', self.disk, str(5 * MIB + 512))
        del self.data[5 * MIB + 512:]
        self.attach_off()
        self.assert_holds(self.create())
        self.let_go()
        self.img('resize', self.disk, str(SIZE))
        # QEMU may show what was in the last cluster before: what the guest sees is what counts
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.disk, self.path('seen'))
        with open(self.path('seen'), 'rb') as file:
            self.data = bytearray(file.read())
        self.attach_off()
        self.assert_holds(self.create())

    def test_a_raw_disk_costs_reading_and_no_space(self):
        raw = self.make_image('raw.img', SIZE, fmt='raw', data=[(0, 4 * MIB, 6)])
        self.attach_on(raw, 'raw')
        self.data[:4 * MIB] = b'\6' * 4 * MIB
        first = self.create()
        self.assertRegex(first['warnings'][0], 'no checkpoint')
        self.write(MIB, LEAF, 8)
        second = self.create()
        self.assertEqual((second['disks'][0]['kind'], second['stored']), ('full', LEAF))
        self.assert_holds(second)

    def test_a_dry_run_says_what_would_be_done_and_does_nothing(self):
        self.attach_on()
        self.write(0, MIB, 1)
        plan = self.json('point-create', 'g', '--dry-run')
        self.assertEqual((plan['disks'][0]['kind'], plan['disks'][0]['base']), ('full', None))
        self.assertEqual(self.json('point-list')['points'], [])
        first = self.create()
        plan = self.json('point-create', 'g', '--dry-run')
        self.assertEqual((plan['disks'][0]['kind'], plan['disks'][0]['base']), ('incremental', first['id']))
        self.assertIn('steps', plan['pull'])
        self.assertEqual(len(self.points()), 1)
        self.assert_clean()

    def test_fallback_refuse_makes_no_point(self):
        self.attach_on()
        self.write(0, MIB, 1)
        self.create()
        self.must('checkpoint-delete', 'g', self.points()[-1]['checkpoint'])
        done = self.must('point-create', 'g', '--fallback', 'refuse', rc=4)
        self.assertRegex(done.err, "disk 'vda'.*no checkpoint")
        self.assertEqual(len(self.points()), 1)

    def test_a_guest_that_only_has_a_name_in_common_is_another(self):
        self.attach_on()
        self.create()
        self.must('detach', 'g')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=top')
        self.create()
        uuids = {p['uuid'] for p in self.json('point-list')['points']}
        if len(uuids) > 1:
            self.assertRegex(self.must('point-info', 'g@latest', rc=1).err, 'several guests')
        else:
            self.assertEqual(self.json('point-info', 'g@latest')['sequence'], 2)


class NamesTest(PointTest):
    def test_a_point_is_found_by_each_of_its_names(self):
        self.attach_on()
        first = self.create('--note', 'before the update', '--pin')
        second = self.create()
        day = time.strftime('%Y-%m-%d', time.localtime())
        for name, point in ((first['id'], first), (f'g@{first["id"]}', first), ('g@latest', second), (f'{first["uuid"]}@latest', second),
                            (f'g@{first["instant"]}', first), (f'g@{day}', second)):
            self.assertEqual(self.json('point-info', name)['id'], point['id'], name)
        for name in ('g@nosuch', 'nosuch', 'x@latest', 'g@1999-01-01', '../../etc', 'g@../x', 'g@'):
            self.assertRegex(self.must('point-info', name, rc=1).err, 'no point')
        self.assertEqual((first['note'], first['pinned'], second['pinned']), ('before the update', True, False))

    def test_a_pin_is_set_and_let_go(self):
        self.attach_on()
        self.create()
        self.must('point-pin', 'g@latest')
        self.assertTrue(self.points()[0]['pinned'])
        self.must('point-pin', 'g@latest', '--off')
        self.assertFalse(self.points()[0]['pinned'])

    def test_what_is_no_repository_is_said(self):
        self.assertRegex(self.must('point-list', '--repository', self.path('nosuch'), rc=1).err, 'repository-create makes one')
        self.assertRegex(self.must('repository-create', self.directory, rc=1).err, 'not empty')
        self.assertRegex(self.must('repository-create', self.repository, rc=1).err, 'already')
        self.assertRegex(self.must('point-list', '--repository', 's3://x/y', rc=2).err, 's3')
        self.environment.pop('LIBBACKUP_REPOSITORY')
        self.assertRegex(self.must('point-list', rc=2).err, 'LIBBACKUP_REPOSITORY')

    def test_a_repository_with_an_unknown_feature_is_refused(self):
        path = self.path('repo', 'libbackup-repository.json')
        with open(path) as file:
            document = json.load(file)
        document['features'] = ['packs']
        with open(path, 'w') as file:
            json.dump(document, file)
        self.assertRegex(self.must('point-list', rc=1).err, "feature 'packs'")

    def test_a_manifest_that_was_changed_is_no_point(self):
        self.attach_on()
        self.write(0, MIB, 1)
        point = self.create()
        path = os.path.join(point['path'], 'manifest.json')
        with open(path) as file:
            text = file.read()
        with open(path, 'w') as file:
            file.write(text.replace(point['disks'][0]['root'], point['disks'][0]['root'][::-1]))
        self.assertRegex(self.must('point-info', point['id'], rc=4).err, 'was changed')
        [damaged] = self.points()
        self.assertRegex(damaged['damage'], 'was changed')
        self.must('point-restore', point['id'], '--target', self.path('restored'), rc=4)
        self.write(MIB, MIB, 2)
        self.assert_holds(self.create())


class TrackingTest(PointTest):
    """Tracking that lies is found: the next point is exact and says what happened."""

    def first(self):
        self.write(0, SIZE, 5)
        self.attach_off()
        point = self.create()
        self.let_go()
        return point

    def scribble(self):
        """Data changed by what knows nothing of bitmaps."""
        for extent in json.loads(self.img('map', '--output=json', self.disk).stdout):
            with open(self.disk, 'r+b') as file:
                file.seek(extent['offset'])
                file.write(b'\x77' * extent['length'])
            self.data[extent['start']:extent['start'] + extent['length']] = b'\x77' * extent['length']

    def test_a_tool_that_ignores_bitmaps(self):
        first = self.first()
        self.scribble()
        self.attach_off()
        done = self.must('point-create', 'g', '--json')
        point = json.loads(done.out)
        self.assert_holds(point)
        self.assert_holds(first, b'\5' * SIZE)
        self.assertRegex(done.err, "warning: disk 'vda': changed-block tracking missed")
        self.assertEqual((point['disks'][0]['tracking_lied'], point['disks'][0]['kind']), (True, 'full'))
        self.assertRegex(point['disks'][0]['reason'], 'missed')
        self.assert_clean()

    def test_without_the_sample_the_point_would_be_wrong(self):
        """The negative control: nothing else catches it."""
        self.first()
        self.scribble()
        self.attach_off()
        point = self.create('--sample', '0')
        self.assertEqual(point['disks'][0]['kind'], 'incremental')
        self.assertNotEqual(self.holds(point), self.data)

    def test_a_lie_is_an_error_when_a_fallback_is_refused(self):
        self.first()
        self.scribble()
        self.attach_off()
        self.assertRegex(self.must('point-create', 'g', '--fallback', 'refuse', rc=4).err, 'missed')
        self.assertEqual(len(self.points()), 1)
        self.assert_clean()
        self.assert_holds(self.create('--full-read'))

    def assert_caught(self, said, tracked=True):
        """Refused where that is asked for; wrong without the sample, if tracking was believed at all; then exact, and said so."""
        count = len(self.points())
        self.attach_off()
        refused = self.must('point-create', 'g', '--fallback', 'refuse', rc=4)
        self.assertRegex(refused.err, said)
        self.assertEqual(len(self.points()), count)
        if tracked:
            wrong = self.create('--sample', '0')
            self.assertEqual(wrong['disks'][0]['kind'], 'incremental')
            self.assertNotEqual(self.holds(wrong), self.data, 'nothing lied')
            self.must('point-delete', wrong['id'])
        self.attach_off()
        done = self.must('point-create', 'g', '--json')
        point = json.loads(done.out)
        self.assert_holds(point)
        self.assertRegex(done.err, "warning: disk 'vda': .*")
        self.assertEqual(point['disks'][0]['kind'], 'full')
        self.assertRegex(point['disks'][0]['reason'], said if not tracked else 'missed|checkpoint')
        self.assert_clean()
        self.let_go()

    def look(self):
        """What the guest would see now."""
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.disk, self.path('seen'))
        with open(self.path('seen'), 'rb') as file:
            self.data = bytearray(file.read())

    def test_an_image_replaced_by_an_older_copy(self):
        self.first()
        shutil.copy(self.disk, self.path('older'))
        self.write(0, 6 * MIB, 8)
        self.attach_off()
        self.assert_holds(self.create())
        self.let_go()
        shutil.copy(self.path('older'), self.disk)
        self.look()
        self.write(7 * MIB, LEAF, 9)
        self.assert_caught('bitmap', tracked=False)

    def test_an_image_reverted_to_an_internal_snapshot(self):
        self.write(0, SIZE, 5)
        self.img('snapshot', '-c', 'before', self.disk)
        self.write(0, 6 * MIB, 8)
        self.attach_off()
        self.create()
        self.let_go()
        refused = self.img('snapshot', '-a', 'before', self.disk, check=False)
        if refused.returncode:      # newer ones; who wants it all the same takes the bitmaps away
            self.assertIn('bitmaps', refused.stderr)
            for bitmap in json.loads(self.img('info', '--output=json', self.disk).stdout)['format-specific']['data']['bitmaps']:
                self.img('bitmap', '--remove', self.disk, bitmap['name'])
            self.img('snapshot', '-a', 'before', self.disk)
        self.look()
        self.assert_caught('bitmap|missed', tracked=not refused.returncode)

    def test_an_image_shrunk_and_grown_back(self):
        self.first()
        self.img('resize', '--shrink', self.disk, str(3 * MIB))
        self.img('resize', self.disk, str(SIZE))
        self.look()
        self.assert_caught('smaller', tracked=False)      # its checkpoint tells, before any sample is read

    def test_a_restore_over_the_disk_is_tracked_like_any_write(self):
        """It goes through QEMU, which keeps the bitmaps of the image: the guest's checkpoints stay exact."""
        self.write(0, 4 * MIB, 5)
        self.attach_off()
        first, before = self.create(), bytes(self.data)
        self.let_go()
        for options in ((), ('--changed-only',)):
            self.write(MIB, MIB, 6)
            self.write(6 * MIB, LEAF, 7)
            self.create()
            self.let_go()
            self.must('point-restore', first['id'], '--target', f'vda={self.disk}', '--reuse-external', *options)
            self.data[:] = before
            point = self.create('--fallback', 'refuse', '--sample', '100000')
            self.assertEqual((point['disks'][0]['kind'], point['disks'][0]['tracking_lied']), ('incremental', False))
            self.assert_holds(point)
            self.let_go()

    def test_full_read_finds_a_single_changed_leaf(self):
        self.first()
        extent = json.loads(self.img('map', '--output=json', self.disk).stdout)[0]
        with open(self.disk, 'r+b') as file:
            file.seek(extent['offset'] + 5 * LEAF)
            file.write(b'\1')
        self.data[extent['start'] + 5 * LEAF] = 1
        self.attach_off()
        point = self.create('--full-read')
        self.assertEqual(point['stored'], LEAF)
        self.assert_holds(point)


class FailureTest(PointTest):
    def assert_next_is_exact(self, before):
        """Nothing was left, and the increment from the newest point misses nothing."""
        self.assertEqual([p['id'] for p in self.points()], before)
        self.write_somewhere()
        point = self.create()
        self.assert_holds(point)
        self.assert_clean()
        return point

    def ready(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        self.create()
        self.write(0, 6 * MIB, 6)
        return [p['id'] for p in self.points()]

    def test_a_point_that_takes_too_long(self):
        before = self.ready()
        done = self.must('point-create', 'g', '--limit', '256K', '--timeout', '1', rc=3)
        self.assertRegex(done.err, 'too long')
        self.assertEqual(self.assert_next_is_exact(before)['disks'][0]['kind'], 'incremental')

    def test_a_repository_that_is_full(self):
        self.attach_on()
        small = self.small_fs('9M')
        self.must('repository-create', small + '/repo')
        self.environment['LIBBACKUP_REPOSITORY'] = self.repository = small + '/repo'
        self.write(0, 5 * MIB, 5)
        first = self.create()
        self.write(0, 5 * MIB, 6)
        self.must('point-create', 'g', rc=3)
        self.assertEqual([p['id'] for p in self.points()], [first['id']])
        self.assert_clean()
        self.write(0, 5 * MIB, 5)
        self.write(6 * MIB, LEAF, 7)
        self.assert_holds(self.create())

    def test_ctrl_c_gives_up_and_leaves_nothing(self):
        before = self.ready()
        process = self.baksh_start('point-create', 'g', '--limit', '256K')
        bed.wait_for('the directory', lambda: glob.glob(self.repository + '/*/.new-*/*.qcow2'))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assert_next_is_exact(before)

    def test_who_makes_a_point_meanwhile_is_named(self):
        self.ready()
        process = self.baksh_start('point-create', 'g', '--limit', '256K')
        bed.wait_for('the directory', lambda: glob.glob(self.repository + '/*/.new-*/*.qcow2'))
        done = self.must('point-create', 'g', rc=1)
        self.assertRegex(done.err, f'in use by point-create, process {process.pid} on host')
        self.assertTrue(glob.glob(self.repository + '/*/.new-*/*.qcow2'))
        process.kill()

    def test_killed_at_any_moment_the_next_run_is_clean(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        self.create()
        for _ in range(int(os.environ.get('LIBBACKUP_TEST_KILLS', '12'))):
            self.write_somewhere()
            process = self.baksh_start('point-create', 'g', *self.random.choice(((), ('--limit', '8M'), ('--full-read',))))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.random.uniform(0.02, 0.7))
            process.kill()
            process.communicate()
            listed = {p['id'] for p in self.points()}
            self.write_somewhere()
            point = self.create()
            self.assert_holds(point)
            self.assertNotIn(point['id'], listed)
            self.assert_clean()
        self.assertGreater(len({p['sequence'] for p in self.points()}), 1)


class ResumeTest(PointTest):
    """Who makes a point is killed in the middle of reading: the next one goes on with the same instant, or starts clean."""

    def interrupted(self, *options, image=None, fmt='qcow2'):
        """The directory of a point whose maker was killed when some of it was stored; what the guest was at its instant."""
        process = self.baksh_start('point-create', 'g', '--limit', '1M', *options)
        def stored():
            for path in glob.glob(self.repository + '/*/.new-*/*.qcow2'):
                mapped = json.loads(self.img('map', '-U', '--output=json', path, check=False).stdout or '[]')
                return any(extent['depth'] == 0 and extent['data'] for extent in mapped)
        bed.wait_for('something that is stored', stored)
        instant = bytes(self.data)
        self.write_somewhere()
        process.kill()
        process.communicate()
        [directory] = glob.glob(self.repository + '/*/.new-*')
        return directory, instant

    def assert_resumed(self, directory, instant, *options):
        done = self.must('point-create', 'g', '--resume', '--json', *options)
        self.assertEqual(done.err, '')
        point = json.loads(done.out)
        self.assertEqual(point['id'], os.path.basename(directory)[len('.new-'):])
        self.assert_holds(point, instant)
        self.must('point-verify', point['id'])
        self.assertFalse(os.path.exists(os.path.join(point['path'], 'run.json')))
        self.assert_clean()
        self.write_somewhere()
        after = self.create()
        self.assert_holds(after)
        self.assertEqual(after['disks'][0]['kind'], 'incremental')
        return point

    def test_a_first_point_goes_on_where_it_was_interrupted(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        self.write(MIB, MIB, 0)
        point = self.assert_resumed(*self.interrupted())
        self.assertTrue(0 < point['read'] < SIZE - 2 * MIB, point)
        self.assertEqual(point['stored'], SIZE - MIB)

    def test_a_compressed_first_point_goes_on_too(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        directory, instant = self.interrupted('--compression', 'zstd')
        path = os.path.join(directory, 'vda.leaves')    # what it does not tell of is in the image and cannot be written again
        os.truncate(path, 32 + (os.path.getsize(path) - 32) // 40 // 2 * 40)
        point = self.assert_resumed(directory, instant)
        self.assertEqual(point['disks'][0]['compression'], 'zstd')

    def test_an_increment_goes_on_and_has_the_same_base(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        first = self.create()
        for offset in range(0, SIZE, 2 * LEAF):
            self.write(offset, LEAF, 6)
        for options in ((), ('--compression', 'zstd')):
            directory, instant = self.interrupted(*options)
            point = self.assert_resumed(directory, instant)
            self.assertEqual((point['disks'][0]['kind'], point['disks'][0]['compression']), ('incremental', options[-1] if options else 'none'))
            for offset in range(LEAF, SIZE, 2 * LEAF):
                self.write(offset, LEAF, 7)
        self.assert_holds(first, b'\5' * SIZE)

    def test_what_was_stored_is_proved_before_it_is_used(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        directory, instant = self.interrupted()
        path = os.path.join(directory, 'vda.qcow2')
        bed.wait_for('the image', lambda: not bed.holds_lock(path))
        extent = next(e for e in json.loads(self.img('map', '--output=json', path).stdout) if e['data'])
        with open(path, 'r+b') as file:
            file.seek(extent['offset'] + 3 * LEAF + 7)
            file.write(b'\1')
        with open(os.path.join(directory, 'vda.leaves'), 'ab') as file:
            file.write(b'\xff' * 61)
        self.assert_resumed(directory, instant)

    def test_killed_again_and_again(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        directory, instant = self.interrupted()
        for _ in range(3):
            process = self.baksh_start('point-create', 'g', '--resume', '--limit', '1M')
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.random.uniform(0.1, 1))
            process.kill()
            process.communicate()
        self.assert_resumed(directory, instant)

    def test_a_pull_that_is_gone_begins_anew_and_says_so(self):
        self.attach_on()
        self.write(0, SIZE, 5)
        directory, _ = self.interrupted()
        self.must('domjobabort', 'g')
        done = self.must('point-create', 'g', '--resume', '--json')
        self.assertRegex(done.err, 'warning: .*was begun anew')
        point = json.loads(done.out)
        self.assertNotEqual(point['id'], os.path.basename(directory)[len('.new-'):])
        self.assert_holds(point)
        self.assert_clean()

    def test_without_the_option_the_next_run_starts_clean_also_without_a_checkpoint(self):
        raw = self.make_image('raw.img', SIZE, fmt='raw', data=[(0, SIZE, 6)])
        self.attach_on(raw, 'raw')
        self.data[:] = b'\6' * SIZE
        directory, _ = self.interrupted()
        point = self.create()
        self.assert_holds(point)
        self.assertFalse(os.path.exists(directory))
        self.assertEqual(self.create('--resume')['disks'][0]['kind'], 'full')


class WritingGuestTest(bed.LiveTest):
    def test_points_of_a_writing_guest_are_each_of_one_instant(self):
        guest = self.guest(disks=2)
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        self.must('attach', 'g', '--qmp', guest.qmp_path, '--agent', guest.agent_path)
        points = []
        for _ in range(3):
            guest.wait_rounds(30)
            points.append(self.json('point-create', 'g', timeout=300))
        for number, point in enumerate(points):
            copies = []
            for disk in point['disks']:
                copies.append(self.path(f'{disk["target"]}-{number}.raw'))
                self.img('convert', '-f', 'qcow2', '-O', 'raw', disk['path'], copies[-1])
            self.assert_one_instant(*copies, fmt='raw')
        self.assertEqual([d['kind'] for d in points[-1]['disks']], ['incremental', 'incremental'])
        self.assertLess(points[-1]['stored'], points[0]['stored'])
        self.assert_guest_works(guest)


class DriverTest(bed.LiveTest):
    def test_the_test_driver_has_points(self):
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        self.must('point-create test; point-create test --full-read', uri='test:///default')
        points = self.json('point-list', 'test')['points']
        self.assertEqual([p['stored'] > 0 for p in points], [True, False])
        self.assertEqual(points[0]['disks'][0]['root'], points[1]['disks'][0]['root'])


if __name__ == '__main__':
    unittest.main()
