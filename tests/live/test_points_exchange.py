#!/usr/bin/python3
"""Points that leave as archives and come from them: the same bytes in both directions, and nothing that is damaged comes in."""
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import unittest

import bed
import vma
from test_points_keep import Kept, MIB, SIZE

CONFIG = b'name: tiny\nscsi0: local:vm-1-disk-0,size=1\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n'
VECTOR = '1e19629c2d399e0136f008f0c4733a678a1471b4983cc8d64bd57a47a214248b'


class Exchange(Kept):
    def export(self, point, form, *options, rc=0):
        path = self.path(f'{len(os.listdir(self.directory))}.{form}')
        self.must('point-export', point, path, '--format', form, '--repository', self.repository, *options, rc=rc)
        return path

    def stream(self, *arguments, stdin=b'', stdout=subprocess.PIPE, rc=0):
        """baksh whose standard input and output are bytes."""
        done = subprocess.run([bed.baksh_path(), *arguments, '--repository', self.repository], input=stdin, stdout=stdout,
                              stderr=subprocess.PIPE, env=self.environment, timeout=120 * bed.SLOW, check=False)
        self.assertEqual(done.returncode, rc, done.stderr)
        return done

    def import_(self, path, *options, rc=0):
        done = self.baksh('point-import', path, '--repository', self.repository, '--json', *options)
        self.assertEqual(done.rc, rc, done)
        return json.loads(done.out)['points'] if rc == 0 else done

    def write_file(self, name, data):
        with open(self.path(name), 'wb') as file:
            file.write(data)
        return self.path(name)

    def read_file(self, path):
        with open(path, 'rb') as file:
            return file.read()

    def disk_of(self, point, number=0):
        return self.holds(point['disks'][number]['path'])

    def assert_no_scratch(self):
        self.assertEqual([n for n in os.listdir(self.repository) if n.startswith('.')], [])


class VmaTest(Exchange):
    def test_an_archive_holds_what_the_guest_saw_and_comes_back_as_it_was(self):
        point, _ = self.points(2)
        path = self.export(point, 'vma')
        _, _, configs, disks = vma.read(self.read_file(path))
        self.assertEqual(list(disks), ['drive-virtio0'])
        self.assertTrue(disks['drive-virtio0'] == self.truth[point])
        self.assertIn(b'#qmdump#map:virtio0:drive-virtio0:', configs['qemu-server.conf'])
        with open(path + '.sha256.json') as file:
            said = json.load(file)
        self.assertEqual(said['sha256'], hashlib.sha256(self.read_file(path)).hexdigest())
        [back] = self.import_(path)
        was = next(p for p in self.json('point-list', '--repository', self.repository)['points'] if p['id'] == point)
        for key in ('guest', 'uuid', 'instant', 'consistency'):
            self.assertEqual(back[key], was[key], key)
        self.assertEqual((back['disks'][0]['target'], back['disks'][0]['root']), ('vda', was['disks'][0]['root']))
        self.assertTrue(self.disk_of(back) == self.truth[point])
        self.must('point-verify', back['id'], '--repository', self.repository)
        self.assert_no_scratch()

    def test_two_nights_differ_only_where_the_guest_changed(self):
        first = self.point()
        self.put(3 * MIB, 9)
        second = self.point()
        one, other = (self.read_file(self.export(point, 'vma')) for point in (first, second))
        self.assertEqual(len(one), len(other))
        differ = [at for at in range(0, len(one), 4096) if one[at:at + 4096] != other[at:at + 4096]]
        head = int.from_bytes(one[56:60], 'big')
        self.assertLessEqual(len([at for at in differ if at >= head]), 65536 // 4096 + 1)

    def test_standard_output_and_zstd_and_standard_input(self):
        point, = self.points(1)
        out = self.stream('point-export', point, '-', '--format', 'vma').stdout
        self.assertTrue(vma.read(out)[3]['drive-virtio0'] == self.truth[point])
        packed = subprocess.run([bed.need('zstd', 'zstd'), '-q', '-c'], input=out, capture_output=True, check=True).stdout
        path = self.write_file('night.vma.zst', packed)
        [back] = self.import_(path)
        self.assertTrue(self.disk_of(back) == self.truth[point])
        self.assertIn('cut off', self.import_(self.write_file('cut.vma.zst', packed[:-9]), rc=4).err)
        done = self.stream('point-import', '-', '--json', stdin=out)
        self.assertTrue(self.disk_of(json.loads(done.stdout)['points'][0]) == self.truth[point])

    def test_a_reader_that_goes_away_is_a_failure_and_no_death(self):
        point, = self.points(1)
        read, write = os.pipe()
        os.close(read)
        done = self.stream('point-export', point, '-', '--format', 'vma', stdout=write, rc=1)
        os.close(write)
        self.assertIn(b'Broken pipe', done.stderr)

    def test_every_kind_of_broken_archive_is_refused(self):
        disks = [('drive-scsi0', bytes(4096) + b'A' * 4096 + bytes(57344) + b'B' * 4096), ('drive-scsi1', b'C' * (70 * vma.CLUSTER))]
        self.assertEqual(len(vma.FAULTS), 15)
        for fault in vma.FAULTS:
            with self.subTest(fault):
                archive = vma.make(disks, [('qemu-server.conf', CONFIG)], fault=fault, fill=1 if fault == 'short-extent' else 59)
                with self.assertRaises(vma.Bad):
                    vma.read(archive)
                done = self.import_(self.write_file('broken.vma', archive), rc=1 if fault == 'version' else 4)
                self.assertRegex(done.err, r"error: '.*broken.vma'")
        self.assertEqual(self.listed(), [])
        self.assert_no_scratch()
        self.assertEqual([n for n in os.listdir(self.directory) if n == 'qemu-server.conf'], [])

    def test_archives_in_any_order_and_of_any_size_come_in(self):
        vector = vma.make([('drive-scsi0', bytes(4096) + b'A' * 4096 + bytes(57344) + b'B' * 4096), ('drive-scsi1', b'C' * 512)],
                          [('qemu-server.conf', CONFIG)])
        self.assertEqual(hashlib.sha256(vector).hexdigest(), VECTOR)
        for size in (512, 4096, 65536, 65536 * 59 + 512):
            data = self.rng.randbytes(min(size, 300000)).ljust(size, b'\0')[:size]
            more = self.rng.randbytes(200000).ljust(200192, b'\0')
            for seed, fill in ((None, 59), (7, 58), (8, 1)):
                archive = vma.make([('drive-scsi0', data), ('drive-scsi1', more)], [('qemu-server.conf', CONFIG)], seed=seed, fill=fill)
                [point] = self.import_(self.write_file('good.vma', archive))
                self.assertEqual((point['guest'], point['instant']), ('tiny', '2020-09-13T12:26:40.000000Z'))
                self.assertEqual([d['target'] for d in point['disks']], ['scsi0', 'scsi1'])
                self.assertTrue(self.disk_of(point) == data and self.disk_of(point, 1) == more, f'{size} {seed}')
        [other] = self.import_(self.path('good.vma'), '--domain', 'another')
        self.assertEqual(other['guest'], 'another')
        self.assertNotEqual(other['uuid'], point['uuid'])

    def test_what_was_changed_under_an_archive_of_ours_is_found(self):
        point, = self.points(1)
        path = self.export(point, 'vma')
        archive = bytearray(self.read_file(path))
        archive[int.from_bytes(archive[56:60], 'big') + 512 + 100] ^= 255       # data, which no checksum of the archive covers
        vma.read(archive)
        changed = self.write_file('changed.vma', archive)
        self.assertIn('root differs', self.import_(changed, rc=4).err)
        shutil.copy(path + '.sha256.json', changed + '.sha256.json')
        self.assertIn('hash differs', self.import_(changed, rc=4).err)
        self.assertEqual(self.listed(), [point])

    def test_damage_in_the_repository_ends_an_export_and_leaves_no_file(self):
        point, = self.points(1)
        image = os.path.join(self.point_dir(point), 'vda.qcow2')
        place = json.loads(self.img('map', '--output=json', image).stdout)[0]['offset']
        with open(image, 'r+b') as file:
            file.seek(place + 70000)
            file.write(b'\xff\0\xff')
        for form in ('vma', 'tar', 'raw'):
            path = self.export(point, form, rc=4)
            self.assertEqual([n for n in os.listdir(self.directory) if n.startswith(os.path.basename(path))], [])

    def test_a_file_that_is_there_is_not_written_over(self):
        point, = self.points(1)
        path = self.write_file('there.vma', b'mine')
        done = self.must('point-export', point, path, '--format', 'vma', '--repository', self.repository, rc=1)
        self.assertIn('exists', done.err)
        self.assertEqual(self.read_file(path), b'mine')


class TarTest(Exchange):
    def test_a_point_goes_through_tar_and_comes_back(self):
        point, other = self.points(2)
        out = self.stream('point-export', point, '-', '--format', 'tar').stdout
        self.assertLess(len(out), 8 * MIB)
        with tarfile.open(fileobj=io.BytesIO(out)) as archive:
            self.assertTrue(archive.extractfile('g/vda.raw').read() == self.truth[point])
            self.assertIn('g/domain.xml', archive.getnames())
        subprocess.run(['tar', '-x', '-C', self.directory], input=out, check=True)
        self.assertLess(os.stat(self.path('g', 'vda.raw')).st_blocks * 512, 8 * MIB)
        self.assertTrue(self.read_file(self.path('g', 'vda.raw')) == self.truth[point])
        [back] = self.import_(self.path('g'))
        self.assertTrue(self.disk_of(back) == self.truth[point])
        self.assertEqual(back['guest'], 'g')
        with open(self.path('g', 'vda.raw'), 'r+b') as file:
            file.seek(100)
            file.write(b'changed')
        self.assertIn('root differs', self.import_(self.path('g'), rc=4).err)

    def test_a_disk_of_odd_size_with_a_hole_at_its_end_and_one_without(self):
        for size in (SIZE + 512, 3 * 65536 + 1024):
            self.resize(size)
            for byte in (0, 5):
                self.data[-512:] = bytes([byte]) * 512
                self.vm.io('disk0', f'write -q -P {byte} {size - 512} 512')
                point = self.point()
                path = self.export(point, 'tar')
                with tarfile.open(path) as archive:
                    self.assertTrue(archive.extractfile('g/vda.raw').read() == self.truth[point])
                listed = bed.run('tar', '-tvf', path).stdout
                self.assertIn(str(size), listed)

    def test_one_raw_disk_to_a_file_and_to_a_pipe(self):
        point, = self.points(1)
        path = self.export(point, 'raw')
        self.assertTrue(self.read_file(path) == self.truth[point])
        self.assertLess(os.stat(path).st_blocks * 512, 8 * MIB)
        out = self.stream('point-export', point, '-', '--format', 'raw').stdout
        self.assertTrue(out == self.truth[point])


class DedupTest(Exchange):
    """Two nights by the lines of the page: the second costs what the guest changed, and some of what lies beside it."""
    size = 48 * MIB

    def night(self, name, change):
        """A point after a change, of which the bytes are random."""
        offset, length = change
        data = self.rng.randbytes(length)
        with open(self.path('random'), 'wb') as file:
            file.write(data)
        self.vm.io('disk0', f'write -q -s {self.path("random")} {offset} {length}')
        self.must('point-create', 'web', '--repository', self.repository)

    def setUp(self):
        super().setUp()
        self.must('detach', 'g')
        self.must('attach', 'web', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.vm.qmp.execute('block_resize', node_name='disk0', size=self.size)
        with open(os.path.join(bed.TOP, 'docs', 'exchange.md')) as file:
            self.page = file.read()

    def line(self, tool):
        """The page's pipeline for it, with the programs of this test."""
        line = re.search(rf'^- `(baksh point-export .* \| {tool} .*)`', self.page, re.M).group(1)
        return 'set -o pipefail; ' + line.replace('baksh ', f'{bed.baksh_path()} ', 1)

    def shell(self, line, **env):
        done = subprocess.run(['bash', '-c', line], env={**self.environment, 'LIBBACKUP_REPOSITORY': self.repository, **env}, capture_output=True,
                              text=True, timeout=300 * bed.SLOW, check=False)
        self.assertEqual(done.returncode, 0, f'{line}\n{done.stderr}')
        return done.stdout

    def assert_only_changes_cost(self, stored):
        """stored(): how much the other tool has, after each night: the first, one leaf changed, and, as the control, everything."""
        sizes = [0]
        for number, change in enumerate(((0, self.size), (20 * MIB, 65536), (0, self.size))):
            self.night(number, change)
            sizes.append(stored(number))
        added = [after - before for before, after in zip(sizes, sizes[1:])]
        self.assertGreater(added[0], self.size * 0.9)
        self.assertLess(added[1], self.size / 2)
        self.assertGreater(added[2], self.size * 0.9)

    def test_borg_stores_what_changed(self):
        bed.need('borg', 'borgbackup')
        repository = self.path('borg')
        env = {'BORG_BASE_DIR': self.path('borg-home'), 'BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK': 'yes'}
        self.shell(f'borg init -e none {repository}', **env)

        def stored(number):
            self.shell(self.line('borg').replace('REPO::web-2026-11-29', f'{repository}::night-{number}'), **env)
            return json.loads(self.shell(f'borg info --json {repository}', **env))['cache']['stats']['unique_csize']
        self.assert_only_changes_cost(stored)

    def test_restic_stores_what_changed(self):
        bed.need('restic', 'restic')
        env = {'RESTIC_REPOSITORY': self.path('restic'), 'RESTIC_PASSWORD': 'x', 'RESTIC_CACHE_DIR': self.path('restic-cache')}
        self.shell('restic init', **env)

        def stored(number):
            self.shell(self.line('restic'), **env)
            return json.loads(self.shell('restic stats --mode raw-data --json', **env))['total_size']
        self.assert_only_changes_cost(stored)


class ImagesTest(Exchange):
    def chain(self):
        """base.raw <- one.qcow2 <- two.qcow2; what two holds."""
        data = bytearray(self.rng.randbytes(MIB) + bytes(3 * MIB))
        os.mkdir(self.path('in'))
        with open(self.path('in', 'base.raw'), 'wb') as file:
            file.write(data)
        for name, below, form, place in (('one', 'base.raw', 'raw', 65536), ('two', 'one.qcow2', 'qcow2', 2 * MIB + 512)):
            self.img('create', '-q', '-f', 'qcow2', '-b', below, '-F', form, self.path('in', f'{name}.qcow2'))
            bed.run(bed.need('qemu-io', 'qemu-utils'), '-f', 'qcow2', '-c', f'write -q -P {place % 251} {place} 64k', self.path('in', f'{name}.qcow2'))
            data[place:place + 65536] = bytes([place % 251]) * 65536
        return bytes(data)

    def test_a_chain_comes_in_as_the_guest_saw_it(self):
        data = self.chain()
        [point] = self.import_(self.path('in', 'two.qcow2'), '--domain', 'h')
        self.assertTrue(self.disk_of(point) == data)
        self.assertEqual((point['guest'], point['disks'][0]['target']), ('h', 'two'))
        [whole] = self.import_(self.path('in'), '--domain', 'folder')
        self.assertEqual([d['target'] for d in whole['disks']], ['two'])
        self.assertTrue(self.disk_of(whole) == data)
        # once more: nothing of it is stored again
        [again] = self.import_(self.path('in', 'two.qcow2'), '--domain', 'h')
        self.assertEqual(again['disks'][0]['stored'], 0)

    def test_what_an_image_names_is_not_followed_out_of_its_folder(self):
        self.chain()
        secret = self.write_file('secret.raw', b'secret' * 1024 + bytes(2 * MIB - 6144))
        for name in ('../secret.raw', secret, 'link.raw'):
            if name == 'link.raw':
                os.symlink('../secret.raw', self.path('in', name))
            self.img('create', '-q', '-f', 'qcow2', '-b', name, '-F', 'raw', self.path('in', 'evil.qcow2'))
            self.assertIn('same folder', self.import_(self.path('in', 'evil.qcow2'), rc=1).err)
            os.unlink(self.path('in', 'evil.qcow2'))
        self.img('create', '-q', '-f', 'qcow2', '-u', '-b', 'nbd://localhost/x', '-F', 'raw', self.path('in', 'evil.qcow2'), '1M')
        self.import_(self.path('in', 'evil.qcow2'), rc=1)
        self.img('create', '-q', '-f', 'qcow2', '-o', f'data_file={secret},data_file_raw=on', self.path('in', 'evil2.qcow2'), '2M')
        self.assertIn('another file', self.import_(self.path('in', 'evil2.qcow2'), rc=1).err)
        self.assertEqual(self.listed(), [])

    def test_a_chain_that_is_cut_off_or_has_a_gap_is_refused(self):
        self.chain()
        path = self.path('in', 'one.qcow2')
        whole = self.read_file(path)
        for cut in (1, 65536, len(whole) // 2):
            self.write_file('in/one.qcow2', whole[:-cut])
            self.assertIn('cut off', self.import_(self.path('in', 'two.qcow2'), rc=4).err)
        os.unlink(path)
        self.import_(self.path('in', 'two.qcow2'), rc=1)
        self.import_(self.write_file('odd.raw', bytes(1000)), rc=4)
        self.import_(self.write_file('what.bin', self.rng.randbytes(20000)), rc=4)
        self.assertEqual(self.listed(), [])

    def test_images_as_qemu_img_makes_them_come_in(self):
        raw = self.write_file('plain.raw', self.rng.randbytes(3 * 65536 + 1024) + bytes(4 * MIB - 3 * 65536 - 512))
        truth = self.read_file(raw)
        for number, options in enumerate((['-c'], ['-o', 'cluster_size=4096'], ['-o', 'cluster_size=2M'], ['-o', 'extended_l2=on'],
                                          ['-o', 'compat=0.10'], ['-o', 'preallocation=metadata'])):
            path = self.path(f'i{number}.qcow2')
            self.img('convert', '-f', 'raw', '-O', 'qcow2', *options, raw, path)
            with self.subTest(options):
                [point] = self.import_(path)
                self.assertTrue(self.disk_of(point) == truth)


class DocumentTest(Exchange):
    def test_the_page_about_exchange_can_be_followed_as_it_is_written(self):
        with open(os.path.join(bed.TOP, 'docs', 'exchange.md')) as file:
            blocks = re.findall(r'^```sh\n(.*?)^```', file.read(), re.M | re.S)
        bed.need('zstd', 'zstd')
        self.must('detach', 'g')
        self.must('attach', 'web', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.must('point-create', 'web', '--repository', self.repository)
        os.mkdir(self.path('bin'))
        os.symlink(bed.baksh_path(), self.path('bin', 'baksh'))
        environment = {**self.environment, 'LIBBACKUP_REPOSITORY': self.repository, 'PATH': f'{self.path("bin")}:{os.environ["PATH"]}'}
        os.mkdir(self.path('x'))
        for line in ''.join(blocks).replace('/srv/exchange', self.path('x')).splitlines():
            bed.run('bash', '-o', 'pipefail', '-c', line, env=environment)
        rows = self.json('point-list', '--repository', self.repository)['points']
        self.assertEqual(sorted(p['guest'] for p in rows), ['copy', 'single', 'web', 'web'])
        for row in rows:
            self.assertTrue(self.disk_of(row) == bytes(self.data))


if __name__ == '__main__':
    unittest.main()
