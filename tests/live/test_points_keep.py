#!/usr/bin/python3
"""Points that go: what stays reads as before, in whatever order and whoever is killed meanwhile."""
import contextlib
import fcntl
import glob
import json
import os
import random
import re
import shlex
import shutil
import socket
import struct
import subprocess
import unittest
import urllib.parse

import bed
import sshd

MIB = 1 << 20
SIZE = 16 * MIB


class Kept(bed.LiveTest):
    """A bare block engine with one disk, and a chain of points of which the bytes are known."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    compression = 'none'
    seed = int(os.environ.get('LIBBACKUP_TEST_SEED', '1'))

    def setUp(self):
        super().setUp()
        self.rng = random.Random(self.seed)
        self.repository = self.path('repository')
        self.make_repository()
        self.disk = self.make_image('disk.qcow2', SIZE, data=[(0, 6 * MIB, 7)])
        self.data = bytearray(b'\7' * (6 * MIB) + bytes(SIZE - 6 * MIB))
        self.vm = self.engine(self.disk)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.truth = {}

    def make_repository(self):
        self.must('repository-create', self.repository)

    def put(self, offset, byte):
        offset = min(offset, len(self.data) - 65536)
        self.vm.io('disk0', f'write -q -P {byte} {offset} 64k' if byte else f'write -q -z {offset} 64k')
        self.data[offset:offset + 65536] = bytes([byte]) * 65536

    def write(self):
        """Some scattered clusters, and zeros over data that was there."""
        for byte in (*self.rng.sample(range(1, 256), 4), 0):
            self.put(self.rng.randrange(96 if byte == 0 else SIZE // 65536) * 65536, byte)

    def resize(self, size):
        self.vm.qmp.execute('block_resize', node_name='disk0', size=size)
        self.data = (self.data + bytes(size))[:size]

    def point(self, *options):
        made = self.json('point-create', 'g', '--repository', self.repository, '--compression', self.compression, *options)
        self.truth[made['id']] = bytes(self.data)
        return made['id']

    def points(self, count):
        made = []
        for _ in range(count):
            made.append(self.point())
            self.write()
        return made

    def holds(self, image):
        raw = self.path('restored.raw')
        self.img('convert', '-U', '-f', 'qcow2', '-O', 'raw', image, raw)
        with open(raw, 'rb') as file:
            return file.read()

    def listed(self):
        return [p['id'] for p in self.json('point-list', '--repository', self.repository)['points']]

    def assert_points_hold(self, expected=None):
        """With qemu-img alone, by the backing names in the images; then nothing is left beside them."""
        listed = self.listed()
        if expected is not None:
            self.assertEqual(sorted(listed), sorted(expected))
        for point in self.json('point-list', '--repository', self.repository)['points']:
            image = point['disks'][0]['path']
            self.assertTrue(self.holds(image) == self.truth[point['id']], f'point {point["id"]} is not what the disk was')

    def assert_nothing_left(self):
        [guest] = [d for d in os.listdir(self.repository) if len(d) == 36]
        left = [n for n in os.listdir(os.path.join(self.repository, guest)) if n.startswith('.') or n == 'merge.json']
        self.assertEqual(left, [])
        self.must('repository-check', self.repository, '--read-data')

    def point_dir(self, point):
        return next(p['path'] for p in self.json('point-list', '--repository', self.repository)['points'] if p['id'] == point)

    def delete(self, *points, rc=0):
        return self.must('point-delete', *points, '--repository', self.repository, rc=rc)

    def costs(self, point):
        [row] = self.json('point-delete', point, '--repository', self.repository, '--dry-run')['points']
        return row


class DeleteTest(Kept):
    def test_points_go_in_any_order_and_the_others_read_as_before(self):
        left = self.points(6)
        order = list(left)
        self.rng.shuffle(order)
        for point in order[:-1]:
            self.delete(point)
            left.remove(point)
            self.assert_points_hold(left)
        self.assert_nothing_left()
        # an increment goes on from what is left
        self.write()
        left.append(self.point())
        self.assert_points_hold(left)

    def test_the_oldest_goes_in_place_and_costs_what_its_child_holds(self):
        points = self.points(3)
        row = self.costs(points[0])
        child = [p for p in self.json('point-list', '--repository', self.repository)['points'] if p['id'] == points[1]][0]
        self.assertIn(row['way'], ('in-place', 'reflink'))
        self.assertEqual(row['cost'], child['disks'][0]['file_size'])
        self.delete(points[0])
        self.assert_points_hold(points[1:])
        self.assert_nothing_left()

    def test_the_middle_is_rewritten_and_nothing_changes_until_it_is_proved(self):
        points = self.points(3)
        self.assertEqual(self.costs(points[1])['way'], 'rewrite')
        self.delete(points[1])
        self.assert_points_hold([points[0], points[2]])
        self.assert_nothing_left()

    def test_the_newest_goes_and_costs_nothing(self):
        points = self.points(3)
        row = self.costs(points[2])
        self.assertEqual((row['way'], row['cost']), (None, 0))
        self.delete(points[2])
        self.assert_points_hold(points[:2])

    def test_a_disk_that_grew_and_shrank_between_points_reads_as_before(self):
        points = self.points(2)
        for size in (SIZE + 5 * 65536, SIZE // 2, SIZE):
            self.resize(size)
            self.put(size, 9)
            points.append(self.point())
        for point in (points[3], points[0], points[2]):
            self.delete(point)
            points.remove(point)
            self.assert_points_hold(points)
        self.assert_nothing_left()

    def test_damage_below_is_found_before_anything_is_replaced(self):
        points = self.points(3)
        rows = {p['id']: p['disks'][0]['path'] for p in self.json('point-list', '--repository', self.repository)['points']}
        mapped = json.loads(self.img('map', '--output=json', rows[points[1]]).stdout)
        place = next(m for m in mapped if m['depth'] == 0 and m['data'] and 'offset' in m)
        with open(rows[points[1]], 'r+b') as file:
            file.seek(place['offset'] + 100)
            byte = file.read(1)
            file.seek(place['offset'] + 100)
            file.write(bytes([byte[0] ^ 255]))
        before = {name: os.stat(name).st_mtime_ns for name in rows.values()}
        done = self.delete(points[1], rc=4)
        self.assertRegex(done.err, "disk 'vda'")
        self.assertEqual({name: os.stat(name).st_mtime_ns for name in rows.values()}, before)
        self.assertEqual(sorted(self.listed()), sorted(points))

    def test_a_pinned_point_and_one_that_is_read_stay(self):
        points = self.points(3)
        self.must('point-pin', points[0], '--repository', self.repository)
        self.assertIn('pinned', self.delete(points[0], rc=1).err)
        self.must('point-pin', points[0], '--off', '--repository', self.repository)
        with open(os.path.join(self.point_dir(points[1]), 'manifest.json'), 'rb') as reader:
            fcntl.fcntl(reader, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))      # F_OFD_SETLK
            self.assertIn('in use', self.delete(points[0], rc=1).err)
            self.assertEqual(sorted(self.listed()), sorted(points))
            rows = self.json('point-prune', '--keep-last', '1', '--repository', self.repository)['points']
            self.assertEqual([r['removed'] for r in rows], [False, False, False])
            self.assertRegex(rows[0]['why'], 'in use')
        self.delete(points[0])
        self.assert_points_hold(points[1:])


class CheckTest(Kept):
    def damage(self, path):
        with open(path, 'r+b') as file:
            file.truncate(os.path.getsize(path) - 65536)

    def findings(self, *options, rc=0):
        return self.json('repository-check', self.repository, *options, rc=rc)['findings']

    def test_a_sound_repository_has_no_findings(self):
        self.points(3)
        self.assertEqual(self.findings('--read-data'), [])

    def test_a_truncated_image_takes_along_what_stands_on_it_and_only_that(self):
        points = self.points(4)
        self.damage(os.path.join(self.point_dir(points[2]), 'vda.qcow2'))
        found = self.findings(rc=4)
        self.assertEqual([(f['point'], f['damaged']) for f in found], [(points[2], True), (points[3], True)])
        repaired = [f['point'] for f in self.findings('--repair', rc=4) if f['repaired']]
        self.assertEqual(repaired, [points[3], points[2]])
        self.assertEqual(self.findings(), [])
        self.assert_points_hold(points[:2])
        # what is gone with the base is read whole, and stands on what is left
        self.write()
        points[2:] = [self.point()]
        self.assert_points_hold(points)

    def test_damage_that_a_good_point_hides_is_marked_and_stays(self):
        points = self.points(1)
        image = os.path.join(self.point_dir(points[0]), 'vda.qcow2')
        self.put(0, 200)
        points.append(self.point())
        mapped = json.loads(self.img('map', '--output=json', image).stdout)
        with open(image, 'r+b') as file:
            file.seek(mapped[0]['offset'] + 5)
            file.write(b'\xff\0\xff')
        self.assertEqual(self.findings(), [])
        found = self.findings('--read-data', '--repair', rc=4)
        self.assertEqual([(f['point'], f['damaged']) for f in found], [(points[0], True), (points[0], False)])
        self.assertIn(points[1], found[1]['what'])
        self.assertEqual(sorted(self.listed()), sorted(points))

    def test_what_a_dead_writer_left_is_named_and_cleared(self):
        points = self.points(1)
        left = os.path.join(self.repository, os.path.basename(os.path.dirname(self.point_dir(points[0]))), '.new-dead')
        os.mkdir(left)
        [found] = self.findings()
        self.assertIn('.new-dead', found['what'])
        self.findings('--repair')
        self.assertFalse(os.path.exists(left))

    def test_a_definition_that_was_changed_is_found(self):
        points = self.points(1)
        for name in os.listdir(self.point_dir(points[0])):
            if name == 'domain.xml':
                with open(os.path.join(self.point_dir(points[0]), name), 'a') as file:
                    file.write('<!-- -->')
        self.assertIn('domain.xml', self.findings(rc=4)[0]['what'])


class CopyTest(Kept):
    def setUp(self):
        super().setUp()
        self.second = self.path('second')
        self.must('repository-create', self.second)

    def copy(self, *what, rc=0):
        done = self.baksh('point-copy', *what, '--repository', self.repository, '--to', self.second, '--json')
        self.assertEqual(done.rc, rc, done)
        return json.loads(done.out)['points'] if rc == 0 else done

    def assert_second_holds(self, expected):
        first, self.repository = self.repository, self.second
        self.assert_points_hold(expected)
        self.assert_nothing_left()
        self.repository = first

    def test_only_what_is_missing_there_is_read(self):
        points = self.points(3)
        self.must('point-pin', points[1], '--repository', self.repository)
        rows = self.copy('--all')
        self.assertEqual([r['copied'] for r in rows], [True] * 3)
        self.assertLess(rows[1]['read'] + rows[2]['read'], rows[0]['read'])
        self.assertEqual([r['copied'] for r in self.copy('--all')], [False] * 3)
        self.assert_second_holds(points)
        there = self.json('point-list', '--repository', self.second)['points']
        self.assertEqual([p['pinned'] for p in there], [False, True, False])

    def test_a_point_without_its_base_stands_for_itself_and_what_was_thinned_stays_thinned(self):
        points = self.points(5)
        self.copy(points[1])
        self.copy(points[4])
        self.assert_second_holds([points[1], points[4]])
        self.must('point-delete', points[1], '--repository', self.second)
        self.assert_second_holds([points[4]])

    def test_damage_is_not_copied(self):
        points = self.points(2)
        image = os.path.join(self.point_dir(points[0]), 'vda.qcow2')
        mapped = json.loads(self.img('map', '--output=json', image).stdout)
        with open(image, 'r+b') as file:
            file.seek(mapped[0]['offset'] + 70000)
            file.write(b'\xff\0\xff')
        done = self.copy('--all', rc=4)
        self.assertRegex(done.err, "disk 'vda'")
        self.assertEqual(self.json('point-list', '--repository', self.second)['points'], [])

    def test_a_copy_that_is_killed_is_done_again(self):
        strace = bed.need('strace', 'strace')
        if bed.run(strace, '-qq', '-o', '/dev/null', 'true', check=False).returncode:
            self.skipTest('nothing can be traced here')
        points, died = self.points(3), 0
        for _ in range(4):
            call, when = self.rng.choice(('pwrite64', 'rename', 'fsync', 'mkdir', 'clone')), self.rng.randrange(1, 7)
            done = bed.run(strace, '-f', '-qq', '-o', self.path('trace'), '-e', f'trace={call}', '-e', f'inject={call}:signal=SIGKILL:when={when}',
                           bed.baksh_path(), 'point-copy',
                           '--all', '--repository', self.repository, '--to', self.second, check=False, env=self.environment)
            died += done.returncode != 0
            there = [p['id'] for p in self.json('point-list', '--repository', self.second)['points']]
            self.assertEqual(there, points[:len(there)])
        self.copy('--all')
        self.assert_second_holds(points)
        self.assertGreater(died, 0, 'nobody was killed')


class SshTest(Kept):
    """To a directory on another host: a real sshd, and nothing of ours behind it."""

    def setUp(self):
        super().setUp()
        self.ssh = sshd.Sshd(self)
        self.far = self.path('far')
        self.configure()

    def configure(self, timeout=60):
        with open(self.path('ssh.conf'), 'w') as file:
            file.write(f'ssh_command = {self.ssh.command}\nremote_timeout = {timeout}\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('ssh.conf')

    def url(self, folder=None):
        return f'ssh://127.0.0.1:{self.ssh.port}{folder or self.far}'

    def copy(self, *words, rc=0, to=None):
        return self.must('point-copy', *words, '--repository', self.repository, '--to', to or self.url(), '--json', rc=rc)

    def rows(self, *words, **kw):
        return json.loads(self.copy(*words, **kw).out)['points']

    def assert_far_holds(self, expected):
        near, self.repository = self.repository, self.far
        self.assert_points_hold(expected)
        self.assert_nothing_left()
        self.repository = near

    def test_points_go_and_what_is_there_stays(self):
        points = self.points(3)
        self.must('point-pin', points[1], '--repository', self.repository)
        self.assertEqual([r['copied'] for r in self.rows('--all')], [True] * 3)
        self.assertEqual([(r['copied'], r['read']) for r in self.rows('--all')], [(False, 0)] * 3)
        self.assert_far_holds(points)
        self.assertEqual([p['pinned'] for p in self.json('point-list', '--repository', self.far)['points']], [False, True, False])
        # what goes here is still there, and what comes here stands on it
        self.delete(points[0])
        self.write()
        points.append(self.point())
        self.copy('--all')
        self.assert_far_holds(points)

    def test_what_is_refused_says_what_helps(self):
        points = self.points(2)
        self.assertIn('--all', self.copy(points[1], rc=1).err)
        self.assertEqual(glob.glob(self.far + '/*-*/*'), [])
        os.mkdir(self.path('full'))
        with open(self.path('full/other'), 'w'):
            pass
        self.assertIn('not empty', self.copy('--all', rc=1, to=self.url(self.path('full'))).err)
        self.assertEqual(os.listdir(self.path('full')), ['other'])
        for url in ('ssh://127.0.0.1', 'ssh://-oProxyCommand=x/y', 's3://bucket/prefix', 'http://a/b'):
            self.assertIn('ssh://[USER@]HOST', self.copy('--all', rc=1, to=url).err)
        self.ssh.trust('other')
        self.assertIn('ssh to', self.copy('--all', rc=5).err)

    def test_what_a_path_holds_is_no_command(self):
        points = self.points(1)
        far = self.path("a '$(touch pwned)' b;c")
        self.copy('--all', to=self.url(urllib.parse.quote(far)))
        self.assertFalse(os.path.exists('pwned') or os.path.exists(os.path.expanduser('~/pwned')))
        self.assertEqual([p['id'] for p in self.json('point-list', '--repository', far)['points']], points)

    def test_damage_is_not_sent(self):
        points = self.points(2)
        image = os.path.join(self.point_dir(points[1]), 'vda.qcow2')
        mapped = json.loads(self.img('map', '--output=json', image).stdout)
        place = next(m for m in mapped if m['depth'] == 0 and m['data'] and 'offset' in m)
        with open(image, 'r+b') as file:
            file.seek(place['offset'] + 5)
            file.write(b'\xff\0\xff')
        self.assertIn("disk 'vda'", self.copy('--all', rc=4).err)
        self.assert_far_holds(points[:1])

    def test_a_file_that_was_begun_goes_on_and_another_one_does_not(self):
        points = self.points(1)
        other = self.path('mirror')
        self.copy('--all', to=self.url(other))
        [folder] = glob.glob(other + '/*-*/20*')
        size = os.path.getsize(folder + '/vda.qcow2')
        for spoiled in (False, True):
            shutil.rmtree(self.far, ignore_errors=True)
            shutil.copytree(other, self.far)
            [whole] = glob.glob(self.far + '/*-*/20*')
            begun = os.path.join(os.path.dirname(whole), '.new-' + points[0])
            os.rename(whole, begun)
            with open(begun + '/vda.qcow2', 'r+b') as file:
                file.truncate(size - 100000)
                if spoiled:
                    file.seek(5000)
                    file.write(b'something else')
            [row] = self.rows('--all')
            self.assertEqual(row['copied'], True)
            self.assertEqual(row['read'] >= size, spoiled, row)
            self.assert_far_holds(points)

    def test_a_copy_that_is_killed_at_any_moment_goes_on_and_nothing_is_half_listed(self):
        points, died = self.points(3), 0
        for _ in range(int(os.environ.get('LIBBACKUP_TEST_CASES', '6'))):
            process = self.baksh_start('point-copy', '--all', '--repository', self.repository, '--to', self.url(), '--limit', '4M')
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=self.rng.random() * 5)
            died += process.poll() is None
            process.kill()
            process.communicate()
            if os.path.exists(self.far + '/libbackup-repository.json'):
                there = [p['id'] for p in self.json('point-list', '--repository', self.far)['points']]
                self.assertEqual(there, points[:len(there)])
                self.must('repository-check', self.far, '--read-data')
        bed.wait_for('the lock of the last', lambda: self.baksh('point-copy', '--all', '--repository', self.repository, '--to', self.url()).rc == 0)
        self.assert_far_holds(points)
        self.assertGreater(died, 0, 'nobody was killed')

    def test_a_host_that_says_nothing_ends_the_command(self):
        self.points(1)
        self.configure(timeout=2)
        with socket.socket() as mute:
            mute.bind(('127.0.0.1', 0))
            mute.listen()
            done = self.copy('--all', rc=1, to=f'ssh://127.0.0.1:{mute.getsockname()[1]}/x')
        self.assertIn('remote_timeout', done.err)

    def test_an_encrypted_repository_has_a_mirror_that_the_same_key_opens(self):
        key = self.path('key')
        with open(key, 'wb') as file:
            file.write(os.urandom(32))
        self.repository = self.path('secret')
        self.environment['LIBBACKUP_KEY_FILE'] = key
        self.must('repository-create', self.repository, '--encrypt', '--key-file', key)
        points = self.points(2)
        self.copy('--all')
        self.must('repository-check', self.far, '--read-data')
        self.assertEqual([p['id'] for p in self.json('point-list', '--repository', self.far)['points']], points)
        plain = self.path('plain')
        self.must('repository-create', plain)
        self.assertIn('encrypted', self.copy('--all', rc=1, to=self.url(plain)).err)


class CompressedTest(Kept):
    compression = 'zstd'

    def test_compressed_points_stay_compressed(self):
        points = self.points(4)
        sizes = {p['id']: p['disks'][0]['file_size'] for p in self.json('point-list', '--repository', self.repository)['points']}
        self.assertEqual(self.costs(points[0])['way'], 'rewrite')
        self.delete(points[0])
        self.delete(points[2])
        self.assert_points_hold([points[1], points[3]])
        now = {p['id']: p['disks'][0]['file_size'] for p in self.json('point-list', '--repository', self.repository)['points']}
        self.assertLess(now[points[1]], sizes[points[0]] + sizes[points[1]])
        self.assert_nothing_left()


class ChainTest(Kept):
    """However many points are kept, none stands on more than the bound says."""

    def depths(self, repository=None):
        rows = self.json('point-list', '--repository', repository or self.repository)['points']
        below = {}
        for row in rows:
            with open(os.path.join(row['path'], 'storage.json')) as file:
                below[row['id']] = json.load(file)['disks'][0]['backing']
        depth = {None: 0}
        for row in rows:
            depth[row['id']] = depth[below[row['id']]] + 1
        return [depth[row['id']] for row in rows]

    def limit(self, limit):
        with open(self.path('chain.conf'), 'w') as file:
            file.write(f'chain_limit = {limit}\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('chain.conf')

    def test_a_chain_that_would_be_too_long_begins_anew_above_its_lowest_point(self):
        self.limit(4)
        points = self.points(9)
        self.assertEqual(self.depths(), [1, 2, 3, 4, 2, 3, 4, 2, 3])
        self.assert_points_hold(points)
        rows = self.json('point-list', '--repository', self.repository)['points']
        self.assertEqual([r['disks'][0]['kind'] for r in rows], ['full'] + 8 * ['incremental'])
        self.assertLess(rows[4]['disks'][0]['file_size'], rows[0]['disks'][0]['file_size'])
        for gone in (points[0], points[4], points[8], points[2]):
            self.delete(gone)
            points.remove(gone)
            self.assert_points_hold(points)
        self.write()
        points.append(self.point())
        self.assert_points_hold(points)
        self.assertLessEqual(max(self.depths()), 4)
        self.assert_nothing_left()

    def test_a_disk_that_changed_its_size_and_zeros_over_data_survive_it(self):
        self.limit(2)
        points = self.points(2)
        for size in (SIZE + 3 * 65536 + 512, SIZE // 2, SIZE):
            self.resize(size)
            self.put(0, 0)
            self.put(size, 9)
            points.append(self.point())
        self.assertLessEqual(max(self.depths()), 2)
        self.assert_points_hold(points)
        self.assert_nothing_left()

    def test_copies_are_as_short(self):
        points = self.points(5)
        self.limit(3)
        second = self.path('second')
        self.must('repository-create', second)
        self.must('point-copy', '--all', '--repository', self.repository, '--to', second)
        self.assertEqual((self.depths(), self.depths(second)), ([1, 2, 3, 4, 5], [1, 2, 3, 2, 3]))
        self.repository = second
        self.assert_points_hold(points)
        self.assert_nothing_left()

    def test_the_bound_that_nobody_set_is_below_thirty(self):
        points = []
        for number in range(31):
            points.append(self.point())
            self.put(number * 65536, number + 100)
        self.assertEqual(self.depths(), [*range(1, 30), 2, 3])
        self.assert_points_hold(points)


class PruneTest(Kept):
    def test_rules_keep_and_say_so_and_what_stays_reads_as_before(self):
        points = self.points(5)
        self.must('point-pin', points[0], '--repository', self.repository)
        argv = ('point-prune', 'g', '--keep-last', '2', '--keep-daily', '1', '--repository', self.repository)
        rows = self.json(*argv, '--dry-run')['points']
        self.assertEqual([(r['id'], r['keep']) for r in rows], [(p, p in (points[0], points[3], points[4])) for p in points])
        self.assertEqual(sorted(self.listed()), sorted(points))
        rows = self.json(*argv)['points']
        self.assertEqual([r['removed'] for r in rows], [False, True, True, False, False])
        self.assert_points_hold([points[0], points[3], points[4]])
        self.assert_nothing_left()

    def test_no_rule_is_an_error(self):
        self.points(1)
        self.assertIn('keep-last', self.must('point-prune', '--repository', self.repository, rc=1).err)

    def test_the_last_point_stays_whatever_the_rules_say(self):
        [point] = self.points(1)
        self.must('point-prune', '--keep-within', '1s', '--repository', self.repository)
        self.assertEqual(self.listed(), [point])


class KillTest(Kept):
    """Killed as it comes to its n-th system call that leaves something: every point that is listed reads as before, and the next one
    ends it."""
    calls = ('write', 'pwrite64', 'unlink', 'rename', 'fsync', 'mkdir', 'ioctl', 'clone')       # the loading of the libraries has none of them
    cases = int(os.environ.get('LIBBACKUP_TEST_CASES', '10'))

    def test_a_delete_that_is_killed_anywhere_loses_nothing(self):
        strace = bed.need('strace', 'strace')
        if bed.run(strace, '-qq', '-o', '/dev/null', 'true', check=False).returncode:
            self.skipTest('nothing can be traced here')
        left, died = self.points(4), 0
        for number in range(self.cases):
            while len(left) < 4:
                left.append(self.point())
                self.write()
            victim, call, when = self.rng.choice(left[:-1]), self.rng.choice(self.calls), self.rng.randrange(1, 9)
            argv = [strace, '-f', '-qq', '-o', self.path('trace'), '-e', f'trace={call}', '-e', f'inject={call}:signal=SIGKILL:when={when}',
                    bed.baksh_path(), 'point-delete', victim, '--repository', self.repository]
            done = bed.run(*argv, check=False, env=self.environment)
            died += done.returncode != 0
            where = f'case {number}, {call} {when}, seed {self.seed}'
            with self.subTest(where):
                if victim not in self.listed():
                    left.remove(victim)
                    self.must('point-prune', '--keep-last', '99', '--repository', self.repository)
                self.assert_points_hold(left)
                self.must('point-prune', '--keep-last', '99', '--repository', self.repository)
                self.assert_points_hold(left)
                self.assert_nothing_left()
        self.assertGreater(died, 0, 'nobody was killed')


class PendingTest(Kept):
    """A removal in place that stops in its middle: the point that goes is unlisted, and the one above it still stands on it."""

    def setUp(self):
        super().setUp()
        self.made = self.points(3)
        if self.costs(self.made[0])['way'] != 'in-place':
            self.skipTest('nothing is merged in place here')

    def commit_by(self, text):
        """Says what happens in place of a commit."""
        path = self.path('qemu-img')
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\n[ "$1" != commit ] || {text}\nexec {bed.tool("qemu-img")} "$@"\n')
        os.chmod(path, 0o755)
        self.environment['LIBBACKUP_QEMU_IMG'] = path

    def test_nothing_is_called_damaged_and_the_next_reader_ends_it(self):
        self.commit_by('exit 1')
        self.assertIn('qemu-img commit', self.delete(self.made[0], rc=1).err)
        rows = self.json('point-list', '--repository', self.repository)['points']
        self.assertEqual([(r['id'], r['damage']) for r in rows], [(p, None) for p in self.made[1:]])
        [found] = self.json('repository-check', self.repository)['findings']
        self.assertIn('broken off', found['what'])
        self.assertEqual((found['damaged'], found['repaired']), (False, False))
        self.commit_by('true')
        self.must('point-restore', self.made[2], '--target', f'vda={self.path("restored")}', '--format', 'raw', '--repository', self.repository)
        self.assert_points_hold(self.made[1:])
        self.must('point-prune', '--keep-last', '99', '--repository', self.repository)
        self.assertEqual(self.json('repository-check', self.repository)['findings'], [])

    def test_a_base_that_is_gone_without_a_removal_is_damage(self):
        shutil.rmtree(self.point_dir(self.made[0]))
        rows = self.json('point-list', '--repository', self.repository)['points']
        self.assertEqual([bool(r['damage']) for r in rows], [True, True])
        self.assertEqual([f['damaged'] for f in self.json('repository-check', self.repository, rc=4)['findings']], [True, True])

    def test_what_it_had_begun_dies_with_it(self):
        self.commit_by(f'{{ echo $$ >{self.path("pid")}; exec sleep 600; }}')
        process = self.baksh_start('point-delete', self.made[0], '--repository', self.repository)
        pid = bed.wait_for('the commit', lambda: os.path.exists(self.path('pid')) and open(self.path('pid')).read().strip())
        process.kill()
        process.wait()
        bed.wait_for('the end of the commit', lambda: int(pid) not in self.watchers())
        self.commit_by('true')
        self.must('point-prune', '--keep-last', '99', '--repository', self.repository)
        self.assert_points_hold(self.made[1:])
        self.assert_nothing_left()


class DocumentTest(Kept):
    def test_the_page_about_keeping_can_be_followed_as_it_is_written(self):
        with open(os.path.join(bed.TOP, 'docs', 'keeping.md')) as file:
            text = file.read()
        blocks = re.findall(r'^```sh\n(.*?)^```', text, re.M | re.S)
        lines = [line for block in blocks for line in block.splitlines() if line.strip()]
        self.must('detach', 'g')
        self.must('attach', 'web', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        for _ in range(4):
            self.must('point-create', 'web', '--repository', self.repository)
            self.write()
        ssh = sshd.Sshd(self)
        with open(self.path('page.conf'), 'w') as file:
            file.write(f'ssh_command = {ssh.command}\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('page.conf')
        for name, secret in (('key', os.urandom(32)), ('phrase', b'one'), ('phrase-2', b'another')):
            with open(self.path('offsite-' + name), 'wb') as file:
                file.write(secret)
        for line in lines:
            line = line.replace('ssh://backup@offsite/srv/', f'ssh://127.0.0.1:{ssh.port}{self.path("far-")}')
            words = shlex.split(line.replace('/mnt/offsite/', self.path('offsite-')))
            self.assertEqual(words[0], 'baksh', line)
            done = self.baksh(*words[1:], env={'LIBBACKUP_REPOSITORY': self.repository})
            self.assertEqual(done.rc, 0, f'{line}\n{done.out}{done.err}')
        self.assertGreater(len(lines), 5)
        self.assertEqual(len(self.listed()), len(self.json('point-list', '--repository', self.path('offsite-backup'))['points']))


if __name__ == '__main__':
    unittest.main()
