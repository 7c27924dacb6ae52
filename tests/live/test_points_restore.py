#!/usr/bin/python3
"""Restore points as they are used: restored in every way, verified, served, compared; damage is found and never restored over."""
import glob
import json
import os
import shutil
import signal
import struct
import subprocess

import bed
import test_points
import test_tls
from test_points import LEAF, MIB, SIZE


def contents(path):
    with open(path, 'rb') as file:
        return file.read()


def flip(path, offset, bit=0):
    with open(path, 'r+b') as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


class UseTest(test_points.PointTest):
    """Two points of a disk that is off: the second is an increment with zeros over data."""

    def setUp(self):
        super().setUp()
        self.attach_on()
        self.write(0, 4 * MIB, 5)
        self.write_somewhere(6)
        self.first, self.before = self.create(), bytes(self.data)
        self.write(MIB, LEAF, 0)
        self.write(7 * MIB + 512, 512, 77)
        self.write_somewhere(2)
        self.second = self.create()

    def assert_image(self, path, fmt, data):
        self.img('convert', '-f', fmt, '-O', 'raw', path, self.path('read'))
        self.assertTrue(contents(self.path('read')) == bytes(data), f'{path} is not what the guest saw (seed {self.seed})')

    def restore(self, *words, point='g@latest', **kw):
        return self.must('point-restore', point, *words, **kw)


class RestoreTest(UseTest):
    def test_a_directory_gets_the_disks_the_definition_and_a_readme(self):
        for point, data in ((self.first, self.before), (self.second, self.data)):
            out = self.path(point['id'])
            self.restore('--target', out, point=point['id'])
            self.assert_image(f'{out}/vda.qcow2', 'qcow2', data)
            self.assertEqual(set(os.listdir(out)) - {'qemu.cmdline', 'nvram'}, {'vda.qcow2', 'domain.xml', 'README'})
            self.assertIn(point['id'], contents(f'{out}/README').decode())

    def test_one_disk_goes_to_a_file_of_either_format(self):
        for fmt in ('raw', 'qcow2'):
            self.restore('--target', f'vda={self.path("one")}.{fmt}', '--format', fmt)
            self.assert_image(f'{self.path("one")}.{fmt}', fmt, self.data)
        self.assertLess(os.stat(self.path('one.raw')).st_blocks * 512, SIZE)

    def test_a_name_with_everything_in_it(self):
        path = self.path('a=b, c:d %s.qcow2')
        self.restore('--target', f'vda={path}')
        self.assert_image(f'file:{path}', 'qcow2', self.data)

    def test_what_is_there_is_not_written_without_being_told(self):
        for name in ('there.qcow2', 'out/vda.qcow2', 'out/domain.xml'):
            os.makedirs(self.path('out'), exist_ok=True)
            path = self.path(*name.split('/'))
            with open(path, 'w') as file:
                file.write('mine')
            words = ('--target', self.path('out')) if '/' in name else ('--target', f'vda={path}')
            self.assertRegex(self.restore(*words, rc=1).err, 'exists.*--reuse-external')
            self.assertEqual(contents(path), b'mine')
            os.unlink(path)
            self.assertEqual(os.listdir(self.path('out')), [])

    def test_an_existing_image_is_overwritten_whatever_was_in_it(self):
        for fmt in ('raw', 'qcow2'):
            path = self.make_image(f'old.{fmt}', SIZE, fmt=fmt, data=[(0, SIZE, 9)])
            self.restore('--target', f'vda={path}', '--format', fmt, '--reuse-external')
            self.assert_image(path, fmt, self.data)

    def test_only_what_differs_is_written(self):
        for fmt in ('raw', 'qcow2'):
            path = self.path(f'now.{fmt}')
            self.restore('--target', f'vda={path}', '--format', fmt, point=self.first['id'])
            self.restore('--target', f'vda={path}', '--format', fmt, '--reuse-external', '--changed-only')
            self.assert_image(path, fmt, self.data)

    def test_leaves_that_are_right_are_not_written(self):
        """Zeros that take room still do afterwards."""
        self.restore('--target', f'vda={self.path("sparse")}', '--format', 'raw', point=self.first['id'])
        bed.run('cp', '--sparse=never', self.path('sparse'), self.path('full'))
        zero = sum(not any(self.data[i:i + LEAF]) and not any(self.before[i:i + LEAF]) for i in range(0, SIZE, LEAF))
        self.assertGreater(zero, 0)
        self.restore('--target', f'vda={self.path("full")}', '--format', 'raw', '--reuse-external', '--changed-only')
        self.assert_image(self.path('full'), 'raw', self.data)
        data = sum(any(self.data[i:i + LEAF]) for i in range(0, SIZE, LEAF))
        self.assertGreaterEqual(os.stat(self.path('full')).st_blocks * 512, (zero + data) * LEAF)

    def test_a_disk_that_is_right_already_is_not_written_at_all(self):
        path = self.path('right.raw')
        self.restore('--target', f'vda={path}', '--format', 'raw')
        before = os.stat(path).st_mtime_ns
        self.restore('--target', f'vda={path}', '--format', 'raw', '--reuse-external', '--changed-only')
        with open(path, 'rb') as file:
            self.assertTrue(file.read() == bytes(self.data))
        self.assertEqual(before, os.stat(path).st_mtime_ns)

    def test_a_restore_that_was_killed_is_taken_up_again(self):
        path = self.path('slow.qcow2')
        process = self.baksh_start('point-restore', 'g@latest', '--target', f'vda={path}', '--limit', '200K')
        bed.wait_for('the first part', lambda: os.path.exists(path + '.restoring') and os.stat(path + '.restoring').st_size > 300000)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse(os.path.exists(path), 'a part has the name of the whole')
        bed.wait_for('the storage daemon to be gone', lambda: not bed.holds_lock(path + '.restoring'))
        self.restore('--target', f'vda={path}')
        self.assert_image(path, 'qcow2', self.data)
        self.assertFalse(os.path.exists(path + '.restoring'))

    def test_ctrl_c_says_how_to_go_on(self):
        path = self.path('slow.raw')
        process = self.baksh_start('point-restore', 'g@latest', '--target', f'vda={path}', '--format', 'raw', '--limit', '100K')
        bed.wait_for('the first part', lambda: os.path.exists(path + '.restoring'))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertRegex(err, 'goes on where it was interrupted')
        self.restore('--target', f'vda={path}', '--format', 'raw')
        self.assert_image(path, 'raw', self.data)

    def test_a_target_in_use_is_refused(self):
        path = self.make_image('busy.qcow2', SIZE, data=[(0, SIZE, 9)])
        holder = self.engine(path, name='holder')
        done = self.restore('--target', f'vda={path}', '--reuse-external', rc=1)
        self.assertRegex(done.err, 'in use by a running QEMU')
        done = self.restore('--target', f'vda={path}', '--reuse-external', '--changed-only', rc=1)
        self.assertRegex(done.err, 'in use by a running QEMU')
        holder.quit()
        self.assert_image(path, 'qcow2', b'\x09' * SIZE)

    def test_targets_that_cannot_be_the_disk_are_refused(self):
        small = self.make_image('small.qcow2', SIZE - MIB)
        base = self.make_image('base.qcow2', SIZE, data=[(0, SIZE, 3)])
        over = self.path('over.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', over)
        text = self.path('text')
        with open(text, 'w') as file:
            file.write('no image')
        inside = os.path.join(self.second['path'], 'x.qcow2')
        rows = (((f'vda={small}', '--reuse-external'), 1, 'bytes, the disk of'), ((f'vda={over}', '--reuse-external'), 1, 'stands on another file'),
                ((f'vda={text}', '--reuse-external'), 1, 'no qcow2 image'), ((f'vda={inside}',), 1, 'within the repository'),
                ((f'vda={self.path("nosuch", "x")}',), 1, 'No such file'), ((f'vdz={self.path("x")}',), 1, "no disk 'vdz'"),
                (('vda=/dev/null', '--reuse-external'), 1, 'neither a file nor a block device'),
                ((f'vda={self.path("x")}', '--changed-only'), 2, 'changed-only'))
        for words, rc, text in rows:
            self.assertRegex(self.restore('--target', *words, rc=rc).err, text, words)
        self.assertEqual(contents(self.path('text')), b'no image')
        self.assert_image(over, 'qcow2', b'\3' * SIZE)

    def test_an_older_repository_that_cannot_be_written_restores(self):
        if os.geteuid() == 0 and subprocess.run(['unshare', '-m', 'true'], check=False).returncode:
            self.skipTest('no mount namespaces here')
        out = self.path('out')
        script = f'mount --bind {self.repository} {self.repository} && mount -o remount,ro,bind {self.repository} && exec "$@"'
        done = subprocess.run(['unshare', '-m', 'sh', '-c', script, 'sh', bed.baksh_path(), 'point-restore', 'g@latest', '--target', out],
                              env={**os.environ, **self.environment}, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_image(f'{out}/vda.qcow2', 'qcow2', self.data)


class DeviceTest(UseTest):
    """Block devices: loop devices, which need root."""

    def loop(self, size, content=0x11):
        if os.geteuid() or not os.path.exists('/dev/loop-control'):
            self.skipTest('loop devices need root')
        path = self.path(f'device-{size}')
        with open(path, 'wb') as file:
            file.write(bytes([content]) * size)
        done = subprocess.run(['losetup', '--show', '-f', path], capture_output=True, text=True, check=False)
        if done.returncode:
            self.skipTest(f'no loop device: {done.stderr.strip()}')
        device = done.stdout.strip()
        self.addCleanup(lambda: subprocess.run(['losetup', '-d', device], check=False))
        return device, path

    def test_a_larger_device_gets_the_disk_and_keeps_its_rest(self):
        device, path = self.loop(SIZE + MIB)
        self.assertRegex(self.restore('--target', f'vda={device}', rc=1).err, 'reuse-external')
        for more in ((), ('--changed-only',)):
            self.restore('--target', f'vda={device}', '--reuse-external', *more)
            self.assertTrue(contents(path) == bytes(self.data) + b'\x11' * MIB)

    def test_a_smaller_device_and_one_in_use_are_refused(self):
        device, path = self.loop(SIZE - LEAF)
        self.assertRegex(self.restore('--target', f'vda={device}', '--reuse-external', rc=1).err, 'bytes, the disk')
        device, path = self.loop(SIZE)
        fd = os.open(device, os.O_RDWR | os.O_EXCL)
        self.addCleanup(os.close, fd)
        self.assertRegex(self.restore('--target', f'vda={device}', '--reuse-external', rc=1).err, 'in use')
        self.assertRegex(self.restore('--target', f'vda={path}', '--format', 'raw', '--reuse-external', rc=1).err, 'in use by the device')
        self.assertTrue(contents(path) == b'\x11' * SIZE)


class DamageTest(UseTest):
    """What is damaged is found by verify, and never restored as if it were good."""

    def files(self):
        return sorted(path for point in (self.first, self.second) for path in glob.glob(point['path'] + '/*')
                      if os.path.isfile(path) and os.path.basename(path) not in ('pinned', 'note.json', 'verified.json'))

    def attempt(self, point, data):
        """Restores it; a success must be right. Returns the exit status."""
        out = self.path('attempt')
        shutil.rmtree(out, ignore_errors=True)
        done = self.baksh('point-restore', point['id'], '--target', out)
        if done.rc == 0:
            self.assert_image(f'{out}/vda.qcow2', 'qcow2', data)
        else:
            self.assertFalse(os.path.exists(f'{out}/vda.qcow2'), 'a disk that is not proved is there')
        return done

    def test_a_truncated_image_is_never_read_as_zeros(self):
        """T1: QEMU itself reads zeros there, without an error."""
        for point, data in ((self.first, self.before), (self.second, self.data)):
            image = self.image(self.first)
            whole = contents(image)
            os.truncate(image, len(whole) - LEAF)
            done = self.attempt(point, data)
            self.assertEqual(done.rc, 4, done.err)
            self.assertRegex(done.err, 'is damaged: it has')
            self.assertEqual(self.baksh('point-serve', point['id'], '--server', f'unix:{self.path("s")}', '--idle-timeout', '0.1').rc, 4)
            self.assertEqual(self.baksh('point-verify', point['id']).rc, 4)
            with open(image, 'wb') as file:
                file.write(whole)
            self.assertEqual(self.attempt(point, data).rc, 0)

    def listed(self):
        return {p['id']: p['damage'] for p in self.points()}

    def test_the_list_marks_points_that_cannot_be_whole(self):
        first, second = self.first['id'], self.second['id']
        self.assertEqual(self.listed(), {first: None, second: None})
        image, manifest = self.image(self.first), f'{os.path.dirname(self.image(self.second))}/manifest.json'
        whole = contents(image)
        os.truncate(image, len(whole) - LEAF)
        listed = self.listed()
        self.assertRegex(listed[first], "disk 'vda': '.*' is damaged: it has")
        self.assertRegex(listed[second], f"disk 'vda' needs point '{first}', which is damaged")
        text = self.must('point-list', 'g')
        self.assertEqual(text.out.count('damaged'), 2)
        self.assertIn(listed[first], text.err)
        self.assertIn(listed[first], self.must('point-info', first).out)
        with open(image, 'wb') as file:
            file.write(whole)
        flip(manifest, 30)
        for words in ((), ('g',)):
            points = self.json('point-list', *words)['points']
            self.assertEqual([(p['id'], bool(p['damage']), len(p['disks'])) for p in points], [(first, False, 1), (second, True, 0)])
        self.assertIn(second, self.must('point-list').out)
        verified = self.json('point-verify', '--all', rc=4)['points']
        self.assertEqual([(p['id'], p['good']) for p in verified], [(first, True), (second, False)])
        self.assertEqual(self.baksh('point-delete', second).rc, 4)
        flip(manifest, 30)
        self.assertEqual(self.listed(), {first: None, second: None})

    def test_a_flipped_bit_of_data_names_disk_and_range(self):
        image = self.image(self.first)
        extent = next(e for e in json.loads(self.img('map', '--output=json', image).stdout)
                      if e['data'] and e['start'] <= 3 * MIB < e['start'] + e['length'])
        flip(image, extent['offset'] + 3 * MIB - extent['start'] + 100)
        for point, data in ((self.first, self.before), (self.second, self.data)):
            done = self.attempt(point, data)
            if self.before[3 * MIB:3 * MIB + LEAF] == self.data[3 * MIB:3 * MIB + LEAF] or point is self.first:
                self.assertEqual(done.rc, 4, done.err)
                self.assertRegex(done.err, f"disk 'vda'.*bytes {3 * MIB} to {3 * MIB + LEAF}")
                verified = self.baksh('point-verify', point['id'])
                self.assertEqual(verified.rc, 4)
                self.assertRegex(verified.err, f"disk 'vda'.*bytes {3 * MIB} to {3 * MIB + LEAF}")
        listed = {p['id']: p for p in self.points()}
        self.assertEqual(listed[self.first['id']]['good'], False)

    def test_bits_at_random_places_are_found_or_in_bytes_that_nothing_uses(self):
        """Each flip: verify finds it, or a restore and a plain qemu-img both give what the guest saw."""
        unfound = 0
        for number in range(int(os.environ.get('LIBBACKUP_TEST_FLIPS', '40'))):
            path = self.random.choice(self.files())
            if not os.path.getsize(path):
                continue
            offset, bit = self.random.randrange(os.path.getsize(path)), self.random.randrange(8)
            flip(path, offset, bit)
            found = False
            for point, data in ((self.first, self.before), (self.second, self.data)):
                verified = self.baksh('point-verify', point['id'])
                self.assertIn(verified.rc, (0, 1, 4), verified.err)
                found |= verified.rc != 0
                done = self.attempt(point, data)
                self.assertIn(done.rc, (0, 1, 4), done.err)
                if verified.rc == 0:
                    self.assertEqual(done.rc, 0, f'{path} byte {offset} bit {bit}: good, but not restored: {done.err}')
                    self.assert_image(self.image(point), 'qcow2', data)
            unfound += not found
            flip(path, offset, bit)
        self.assertEqual(self.must('point-verify', '--all').rc, 0)
        print(f'{unfound} flips lay in bytes that nothing uses', flush=True)

    def test_damaged_leaves_do_not_keep_good_data_from_being_restored(self):
        path = self.image(self.first).replace('.qcow2', '.leaves')
        flip(path, os.path.getsize(path) // 2)
        self.assertEqual(self.attempt(self.second, self.data).rc, 0)
        self.assertEqual(self.baksh('point-verify', self.second['id']).rc, 4)

    def test_a_layer_that_is_gone_is_named(self):
        os.unlink(self.image(self.first))
        done = self.attempt(self.second, self.data)
        self.assertEqual(done.rc, 4)
        self.assertRegex(done.err, 'is gone')

    def test_an_image_that_names_another_backing_file_is_not_followed(self):
        other = self.make_image('other.qcow2', SIZE, data=[(0, SIZE, 9)])
        self.img('rebase', '-u', '-b', other, '-F', 'qcow2', self.image(self.second))
        done = self.attempt(self.second, self.data)
        self.assertIn(done.rc, (0, 4), done.err)
        self.assertEqual(self.baksh('point-verify', self.second['id']).rc, 4)


class ServeTest(test_tls.Pki, UseTest):
    def serve(self, *words, point='g@latest'):
        process = self.baksh_start('point-serve', point, *words)
        line = process.stdout.readline()
        self.assertIn(': ', line, 'it did not start')
        return process, line.split(': ', 1)[1].strip()

    def end(self, process):
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 0)

    def test_what_is_served_is_the_point(self):
        for point, data in ((self.first, self.before), (self.second, self.data)):
            process, uri = self.serve('--server', f'unix:{self.path("sock")}', point=point['id'])
            self.img('convert', '-f', 'raw', '-O', 'raw', uri, self.path('served'))
            self.assertTrue(contents(self.path('served')) == bytes(data))
            done = subprocess.run([bed.tool('qemu-io', self.version), '-f', 'raw', '-c', 'write 0 512', uri], capture_output=True, text=True,
                                  check=False)
            self.assertNotIn('wrote 512', done.stdout)
            self.end(process)
            self.assertFalse(os.path.exists(self.path('sock')))

    def test_what_is_written_is_thrown_away(self):
        process, uri = self.serve('--server', f'unix:{self.path("sock")}', '--writable', '--scratch', self.directory)
        bed.run(bed.tool('qemu-io', self.version), '-f', 'raw', '-c', 'write -P 99 0 1M', '-c', 'read -P 99 0 1M', uri)
        self.assertEqual(glob.glob(self.path('libbackup-serve-*')), [])
        self.end(process)
        self.must('point-verify', '--all')
        self.restore('--target', f'vda={self.path("after.raw")}', '--format', 'raw')
        self.assertTrue(contents(self.path('after.raw')) == bytes(self.data))

    def test_it_ends_by_itself_when_nobody_is_there(self):
        process, uri = self.serve('--server', f'unix:{self.path("sock")}', '--idle-timeout', '2')
        reader = self.popen(bed.tool('qemu-io', self.version), '-r', '-f', 'raw', uri, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(5)
        reader.stdin.close()
        reader.wait(30)
        self.assertEqual(process.wait(60), 0)

    def test_tcp_needs_tls_or_leave(self):
        done = self.must('point-serve', 'g@latest', '--server', 'tcp:0.0.0.0:10999', '--idle-timeout', '1', rc=1)
        self.assertRegex(done.err, 'needs TLS')
        done = self.must('point-serve', 'g@latest', '--server', '0.0.0.0:10999', rc=2)
        self.assertRegex(done.err, 'neither unix:PATH nor tcp:HOST:PORT')

    def test_over_tls_with_a_key(self):
        folder = self.path('psk')
        os.makedirs(folder)
        with open(f'{folder}/keys.psk', 'w') as file:
            file.write('alice:' + '5a' * 32 + '\n')
        process, uri = self.serve('--server', f'unix:{self.path("sock")}', '--tls-psk', folder)
        self.assertTrue(uri.startswith('nbds+unix:'), uri)
        self.img('convert', '--object', f'tls-creds-psk,id=t,dir={folder},endpoint=client,username=alice', '--image-opts', '-O', 'raw',
                 f'driver=nbd,server.type=unix,server.path={self.path("sock")},export=vda,tls-creds=t', self.path('served'))
        self.assertTrue(contents(self.path('served')) == bytes(self.data))
        done = subprocess.run([bed.tool('qemu-img', self.version), 'info', uri.replace('nbds', 'nbd')], capture_output=True, text=True, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.end(process)

    def test_over_tcp_with_certificates_of_the_authority_and_no_others(self):
        pki, reader = self.pki('pki', 'server', 'client'), self.pki('reader', 'client', authority='pki')
        stranger = self.pki('stranger', 'client')
        os.unlink(f'{stranger}/ca-cert.pem')        # it knows the authority; the authority does not know it
        os.link(f'{pki}/ca-cert.pem', f'{stranger}/ca-cert.pem')
        port = self.free_port()
        process, uri = self.serve('--server', f'tcp:127.0.0.1:{port}', '--tls-dir', pki)
        self.assertTrue(uri.startswith(f'nbds://127.0.0.1:{port}/vda'), uri)
        place = uri.split('?')[0]
        for certificates in ('?tls-certificates=' + stranger, ''):
            self.refused(place + certificates)
        self.refused(place.replace('nbds', 'nbd'))
        self.nbdcopy(f'{place}?tls-certificates={reader}', self.path('served'))
        self.assertTrue(contents(self.path('served')) == bytes(self.data))
        self.end(process)

    def test_file_recovery_needs_no_root(self):
        """What docs/restore.md says of nbdkit and debugfs, as far as the tools are here."""
        for name, package in (('nbdkit', 'nbdkit'), ('nbdcopy', 'libnbd-bin'), ('debugfs', 'e2fsprogs')):
            bed.need(name, package)
        files, part, whole = self.path('files'), self.path('part.raw'), self.path('whole.raw')
        os.makedirs(f'{files}/etc')
        with open(f'{files}/etc/fstab', 'w') as file:
            file.write('what was lost\n')
        with open(part, 'wb') as file:
            file.truncate(6 * MIB)
        bed.run(bed.need('mke2fs', 'e2fsprogs'), '-q', '-F', '-t', 'ext4', '-d', files, part)
        with open(whole, 'wb') as file:     # a partition table by hand: one of Linux, from 1 MiB on
            file.write(bytes(446) + struct.pack('<B3xB3xII', 0, 0x83, 2048, 12288) + bytes(48) + b'\x55\xaa')
            file.truncate(SIZE)
        bed.run('dd', f'if={part}', f'of={whole}', 'bs=1M', 'seek=1', 'conv=notrunc', 'status=none')
        image = self.path('guest.qcow2')
        self.img('convert', '-f', 'raw', '-O', 'qcow2', whole, image)
        self.must('attach', 'files', '--image', f'vda={image}')
        self.must('point-create', 'files')
        process, uri = self.serve('--disk', 'vda', '--server', f'unix:{self.path("vda.sock")}', point='files@latest')
        sock = self.path('part.sock')
        kit = self.popen('nbdkit', '-f', '-U', sock, '--filter=partition', 'nbd', f'uri=nbd+unix:///vda?socket={self.path("vda.sock")}',
                         'partition=1')
        bed.wait_for('nbdkit', lambda: os.path.exists(sock))
        self.nbdcopy(f'nbd+unix:///?socket={sock}', self.path('part.img'))
        bed.run(bed.need('debugfs', 'e2fsprogs'), '-R', f'dump /etc/fstab {self.path("fstab")}', self.path('part.img'))
        self.assertEqual(contents(self.path('fstab')), b'what was lost\n')
        kit.terminate()
        kit.wait(30)
        self.end(process)

    def test_a_socket_of_one_that_was_killed_is_taken_over(self):
        process, uri = self.serve('--server', f'unix:{self.path("sock")}')
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = self.baksh('point-serve', 'g@latest', '--server', f'unix:{self.path("sock")}', '--idle-timeout', '0.5')
        self.assertEqual(done.rc, 0, done.err)


class DiffTest(UseTest):
    def test_changed_ranges_are_those_that_changed(self):
        changed = [i for i in range(0, SIZE, LEAF) if self.before[i:i + LEAF] != self.data[i:i + LEAF]]
        for words in (('g@latest',), ('g@latest', self.first['id']), (self.first['id'], 'g@latest')):
            disk, = self.json('point-diff', *words)['disks']
            told = [at for r in disk['ranges'] for at in range(r['offset'], r['offset'] + r['length'], LEAF)]
            self.assertEqual(told, changed)
            self.assertEqual((disk['target'], disk['size'], disk['changed']), ('vda', SIZE, len(changed) * LEAF))

    def test_the_first_point_differs_from_nothing_by_its_data(self):
        disk, = self.json('point-diff', self.first['id'])['disks']
        told = {at for r in disk['ranges'] for at in range(r['offset'], r['offset'] + r['length'], LEAF)}
        self.assertEqual(told, {i for i in range(0, SIZE, LEAF) if any(self.before[i:i + LEAF])})

    def test_a_point_does_not_differ_from_itself(self):
        self.assertEqual(self.json('point-diff', 'g@latest', 'g@latest'), {'disks': []})


class VerifyTest(UseTest):
    def test_what_was_verified_is_remembered(self):
        self.must('point-verify', self.second['id'])
        listed = {p['id']: p for p in self.points()}
        self.assertEqual((listed[self.first['id']]['good'], listed[self.second['id']]['good']), (None, True))
        done = self.json('point-verify', '--all', '--since', '3600')
        self.assertEqual([p['id'] for p in done['points']], [self.first['id']])
        self.assertEqual(self.json('point-verify', '--all', '--since', '3600')['points'], [])

    def test_points_are_named_or_all_are_meant(self):
        self.must('point-verify', rc=2)
        self.must('point-verify', '--all', 'g@latest', rc=2)
        self.assertEqual([p['good'] for p in self.json('point-verify', 'g@latest', self.first['id'])['points']], [True, True])


class GuestFromPoint(bed.Guest):
    """The writing guest on exports of a point."""

    def _disk(self, number, disk):
        return ['-blockdev', f'driver=nbd,node-name={disk.node},server.type=unix,server.path={disk.path},export={disk.target}',
                '-device', f'virtio-blk-pci,drive={disk.node},id={disk.target},serial=bak{number}']


class BootTest(bed.LiveTest):
    def test_a_guest_boots_from_a_served_point_and_the_point_stays_as_it_was(self):
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        guest = self.guest(disks=2)
        self.must('attach', 'g', '--qmp', guest.qmp_path, '--agent', guest.agent_path)
        self.must('point-create', 'g')
        guest.wait_rounds(20)
        self.must('point-create', 'g')
        self.assert_never_paused(guest)
        self.must('point-verify', '--all')
        self.must('point-restore', 'g@latest', '--target', self.path('out'))
        targets = [d['target'] for d in self.json('point-info', 'g@latest')['disks']]
        self.assert_one_instant(*[self.path('out', f'{t}.qcow2') for t in targets])
        guest.quit()
        process = self.baksh_start('point-serve', 'g@latest', '--writable', '--server', f'unix:{self.path("sock")}')
        for _ in targets:
            self.assertIn('nbd+unix', process.stdout.readline())
        second = GuestFromPoint(self, [bed.Disk(self.path('sock'), t) for t in targets], name='second', agent=False)
        second.wait_ready()
        second.wait_rounds(20)
        second.quit()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 0)
        self.must('point-verify', '--all')


if __name__ == '__main__':
    bed.main()
