#!/usr/bin/python3
"""Repositories with a key: nothing of the guest is readable without it, everything works with it, and the key is nowhere else."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest

import bed
import test_points_keep

MIB = 1 << 20
SIZE = test_points_keep.SIZE
WORD = b'a word that only the guest knows '


class Encrypted(test_points_keep.Kept):
    """The same engine and chain of points, in a repository that a key file opens."""

    def make_repository(self):
        self.key = self.make_secret('key', os.urandom(48))
        self.environment['LIBBACKUP_KEY_FILE'] = self.key
        self.must('repository-create', self.repository, '--encrypt', '--key-file', self.key)

    def make_secret(self, name, data):
        path = self.path(name)
        with open(path, 'wb') as file:
            file.write(data)
        os.chmod(path, 0o600)
        return path

    def without_key(self):
        return {'LIBBACKUP_KEY_FILE': ''}

    def document(self):
        with open(os.path.join(self.repository, 'libbackup-repository.json')) as file:
            return json.load(file)

    def restored(self, point, repository=None, **kw):
        target = self.path(f'raw-{point}')
        if os.path.exists(target):
            os.unlink(target)
        self.must('point-restore', point, '--target', f'vda={target}', '--format', 'raw', '--repository',
                  repository or self.repository, **kw)
        with open(target, 'rb') as file:
            return file.read()

    def assert_points_hold(self, expected=None, repository=None, **kw):
        there = [p['id'] for p in self.json('point-list', '--repository', repository or self.repository)['points']]
        if expected is not None:
            self.assertEqual(sorted(there), sorted(expected))
        for point in there:
            self.assertTrue(self.restored(point, repository, **kw) == self.truth[point], f'point {point} is not what the disk was')

    def files(self, folder=None):
        return [f for f in glob.glob((folder or self.repository) + '/**', recursive=True, include_hidden=True) if os.path.isfile(f)]

    def write_word(self, offset):
        """A leaf that is full of the word."""
        data = (WORD * (65536 // len(WORD) + 1))[:65536]
        plain = self.path('word')
        with open(plain, 'wb') as file:
            file.write(data)
        self.vm.io('disk0', f'write -q -s {plain} {offset} 64k')
        self.data[offset:offset + 65536] = data


class UseTest(Encrypted):
    def test_nothing_of_the_guest_is_readable_and_with_the_key_everything_is(self):
        self.write_word(MIB)
        points = self.points(3)
        for path in self.files():
            with open(path, 'rb') as file:
                data = file.read()
            self.assertNotIn(WORD, data, path)
            self.assertNotIn(b'<domain', data, path)
        self.assert_points_hold(points)
        self.assertNotIn('origin', json.dumps(self.document()))
        out = self.path('out')
        self.must('point-restore', points[2], '--target', out, '--repository', self.repository)
        with open(os.path.join(out, 'domain.xml')) as file:
            self.assertIn('<name>g</name>', file.read())

    def test_the_control_a_repository_without_a_key_does_hold_the_word(self):
        self.write_word(MIB)
        plain = self.path('plain')
        self.must('repository-create', plain)
        self.must('point-create', 'g', '--repository', plain)
        found = [path for path in self.files(plain) if WORD in open(path, 'rb').read()]
        self.assertTrue(any(path.endswith('.qcow2') for path in found))
        self.assertTrue(any(b'<domain' in open(path, 'rb').read() for path in self.files(plain)))

    def test_hashes_do_not_tell_what_a_leaf_holds(self):
        """Who guesses a leaf cannot try the guess: the same data has other hashes in two repositories, none of them the plain one."""
        self.points(1)
        other = self.path('other')
        self.must('repository-create', other, '--encrypt', '--key-file', self.key)
        plain = self.path('plain')
        self.must('repository-create', plain)
        made = {}
        for repository in (self.repository, other, plain):
            made[repository] = self.json('point-create', 'g', '--repository', repository)['disks'][0]['root']
        self.assertEqual(len(set(made.values())), 3)
        again = self.path('plain-again')
        self.must('repository-create', again)
        self.assertEqual(self.json('point-create', 'g', '--repository', again)['disks'][0]['root'], made[plain])

    def test_without_the_key_points_are_listed_and_nothing_else_comes_out(self):
        points = self.points(2)
        no = self.without_key()
        self.assertEqual(len(self.json('point-list', '--repository', self.repository, env=no)['points']), 2)
        for command in (['point-restore', points[1], '--target', self.path('no')], ['point-export', points[1], '--format', 'raw', self.path('no.raw')],
                        ['point-serve', points[1], '--server', 'unix:' + self.path('no.sock')], ['point-diff', points[1]], ['point-create', 'g']):
            done = self.baksh(*command, '--repository', self.repository, env=no)
            self.assertEqual(done.rc, 1, done)
            self.assertIn('--passphrase-file', done.err)
        self.assertFalse(os.path.exists(self.path('no')) or os.path.exists(self.path('no.raw')) or os.path.exists(self.path('no.sock')))
        self.assert_nothing_left()

    def test_points_go_in_any_order_and_the_others_read_as_before(self):
        left = self.points(5)
        for number in (1, 0, 2):
            gone = left.pop(number if number < len(left) - 1 else 0)
            self.delete(gone)
            self.assert_points_hold(left)
        self.assert_nothing_left()
        self.write()
        left.append(self.point())
        self.assert_points_hold(left)

    def test_a_point_is_served_exported_and_imported_again(self):
        points = self.points(2)
        raw, tar, vma = self.path('e.raw'), self.path('e.tar'), self.path('e.vma')
        for fmt, path in (('raw', raw), ('tar', tar), ('vma', vma)):
            self.must('point-export', points[1], '--format', fmt, path, '--repository', self.repository)
        with open(raw, 'rb') as file:
            self.assertTrue(file.read() == self.truth[points[1]])
        # in a repository without a key, and in one with another
        for name, options in (('plain', ()), ('second', ('--encrypt', '--key-file', self.make_secret('second.key', os.urandom(32))))):
            repository = self.path(name)
            env = {'LIBBACKUP_KEY_FILE': options[-1]} if options else {}
            self.must('repository-create', repository, *options, env=env)
            self.must('point-import', vma, '--repository', repository, env=env)
            [point] = self.json('point-list', '--repository', repository, env=env)['points']
            self.truth[point['id']] = self.truth[points[1]]
            self.assert_points_hold(repository=repository, env=env)
        socket = self.path('s')
        served = self.baksh_start('point-serve', points[1], '--server', f'unix:{socket}', '--repository', self.repository)
        bed.wait_for('the socket', lambda: os.path.exists(socket))
        copy = self.path('served')
        bed.wait_for('a copy', lambda: subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', f'nbd+unix:///vda?socket={socket}', copy],
                                                      capture_output=True).returncode == 0)
        served.terminate()
        served.communicate(timeout=30)
        with open(copy, 'rb') as file:
            self.assertTrue(file.read() == self.truth[points[1]])

    def test_what_is_compressed_is_refused(self):
        done = self.baksh('point-create', 'g', '--compression', 'zstd', '--repository', self.repository)
        self.assertEqual(done.rc, 1)
        self.assertIn('QEMU does not compress what it encrypts', done.err)
        self.assertEqual(self.listed(), [])


class VerifyTest(Encrypted):
    def flip(self, path, place):
        with open(path, 'r+b') as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))

    def verify(self, rc=0, **kw):
        return self.must('point-verify', '--all', '--repository', self.repository, rc=rc, **kw)

    def test_without_the_key_structure_is_compared_and_that_is_said(self):
        points = self.points(2)
        self.resize(SIZE * 2)
        self.put(SIZE + MIB, 5)
        points.append(self.point())
        done = self.verify(env=self.without_key())
        self.assertIn('no data was read', done.err)
        self.must('repository-check', self.repository, env=self.without_key())
        self.assertEqual([p['verified'] for p in self.json('point-list', '--repository', self.repository)['points']], [None] * 3)
        self.assertNotIn('no data', self.verify().err)
        # damage of data is seen with the key alone, that of a file or of leaves without it as well
        folder = self.point_dir(points[2])
        mapped = json.loads(subprocess.run(['qemu-img', 'check', '-U', '--output=json', '--object', f'secret,id=k,data=x', folder + '/vda.qcow2'],
                                           capture_output=True, text=True).stdout or '{}')
        self.assertEqual(mapped.get('image-end-offset'), None)      # without a key QEMU does not even check it
        size = os.path.getsize(folder + '/vda.qcow2')
        self.flip(folder + '/vda.qcow2', size - 40000)
        self.verify(env=self.without_key())
        self.verify(rc=4)
        self.flip(folder + '/vda.qcow2', size - 40000)
        self.verify()
        for name in ('domain.xml', 'vda.leaves'):
            self.flip(os.path.join(folder, name), 60)
            self.verify(rc=4, env=self.without_key())
            self.flip(os.path.join(folder, name), 60)

    def test_a_file_of_another_point_in_its_place_is_found(self):
        points = self.points(2)
        one, two = (os.path.join(self.point_dir(p), 'domain.xml') for p in points)
        shutil.copy(one, two)
        self.verify(rc=4)


class SlotTest(Encrypted):
    def phrase(self, name, text):
        return self.make_secret(name, text.encode() + b'\n')

    def slots(self):
        return self.json('repository-key-list', self.repository)['keys']

    def opens(self, option, path):
        return self.baksh('point-list', '--repository', self.repository, option, path, env=self.without_key()).rc == 0

    def test_slots_come_change_and_go_and_no_data_is_touched(self):
        points = self.points(2)
        data = {f: os.stat(f).st_mtime_ns for f in self.files() if '/locks/' not in f and not f.endswith('repository.json')}
        old, new = self.phrase('old', 'correct horse'), self.phrase('new', 'battery staple')
        self.must('repository-key-add', self.repository, '--new-passphrase-file', old, '--note', 'of Ada')
        self.assertEqual([(s['slot'], s['kind'], s['note']) for s in self.slots()], [(0, 'key-file', None), (1, 'passphrase', 'of Ada')])
        self.assertTrue(self.opens('--passphrase-file', old))
        self.assertFalse(self.opens('--passphrase-file', new))
        no = self.without_key()
        self.must('repository-key-change', self.repository, '--passphrase-file', old, '--new-passphrase-file', new, env=no)
        self.assertEqual((self.opens('--passphrase-file', old), self.opens('--passphrase-file', new)), (False, True))
        self.assertTrue(self.opens('--key-file', self.key))
        # the one that opened it stays
        done = self.must('repository-key-remove', '1', '--repository', self.repository, '--passphrase-file', new, rc=1, env=no)
        self.assertIn('another one', done.err)
        self.must('repository-key-remove', '0', '--repository', self.repository, '--passphrase-file', new, env=no)
        self.assertFalse(self.opens('--key-file', self.key))
        self.assertEqual([s['slot'] for s in self.slots()], [1])
        self.assertEqual({f: os.stat(f).st_mtime_ns for f in data}, data)
        self.assert_points_hold(points, env={'LIBBACKUP_KEY_FILE': '', 'LIBBACKUP_PASSPHRASE_FILE': new})

    def test_a_wrong_pass_phrase_is_a_clear_error_and_changes_nothing(self):
        points = self.points(1)
        wrong = self.phrase('wrong', 'guess')
        for command in (['point-restore', points[0], '--target', self.path('no')], ['repository-key-add', '--new-passphrase-file', wrong],
                        ['point-create', 'g']):
            done = self.must(*command, '--repository', self.repository, '--passphrase-file', wrong, rc=1, env=self.without_key())
            self.assertRegex(done.err, "pass phrase in '.*wrong' is wrong")
        other = self.make_secret('other', os.urandom(48))
        done = self.must('point-list', '--repository', self.repository, '--key-file', other, rc=1)
        self.assertIn('fits no slot', done.err)
        self.assertEqual(len(self.slots()), 1)
        self.assertEqual(self.listed(), points)

    def test_a_slot_fits_its_own_repository_only(self):
        second = self.path('second')
        self.must('repository-create', second, '--encrypt', '--key-file', self.key)
        name = os.path.join(second, 'libbackup-repository.json')
        with open(name) as file:
            document = json.load(file)
        document['encryption']['slots'] = self.document()['encryption']['slots']
        with open(name, 'w') as file:
            json.dump(document, file)
        self.assertIn('fits no slot', self.must('point-list', '--repository', second, '--key-file', self.key, rc=1).err)

    def test_no_repository_comes_of_a_secret_that_cannot_be_read(self):
        empty, short = self.make_secret('empty', b'\n'), self.make_secret('short', b'x' * 31)
        for name, options, rc, said in (('a', ('--passphrase-file', self.path('gone')), 1, 'No such file'), ('b', ('--passphrase-file', empty), 1, 'it is empty'),
                                        ('c', ('--key-file', short), 1, '32 random bytes'), ('d', (), 2, '--encrypt needs'),
                                        ('e', ('--passphrase-fd', '77'), 1, '/dev/fd/77')):
            done = self.must('repository-create', self.path(name), '--encrypt', *options, rc=rc)
            self.assertIn(said, done.err)
            self.assertFalse(os.path.exists(self.path(name)))
        self.must('repository-create', self.path('f'), '--passphrase-file', short, rc=2)

    def test_a_pass_phrase_comes_by_a_descriptor(self):
        read, write = os.pipe()
        os.write(write, b'by a pipe')
        os.close(write)
        repository = self.path('by-pipe')
        argv = [bed.baksh_path(), 'repository-create', repository, '--encrypt', '--passphrase-fd', str(read)]
        done = subprocess.run(argv, pass_fds=[read], capture_output=True, text=True, env={**self.environment, **self.without_key()})
        os.close(read)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.must('point-list', '--repository', repository, '--passphrase-file', self.make_secret('same', b'by a pipe'))

    def test_an_older_version_refuses_it_by_name(self):
        self.assertEqual(self.document()['features'], ['encryption'])

    def test_two_who_add_at_once_both_have_their_slot_or_are_told(self):
        keys = [self.make_secret(f'key{i}', os.urandom(40)) for i in range(4)]
        running = [self.baksh_start('repository-key-add', self.repository, '--new-key-file', key) for key in keys]
        ended = []
        for process in running:
            _, err = process.communicate(timeout=60)
            ended.append((process.returncode, err))
        for (rc, err), key in zip(ended, keys):
            self.assertEqual(self.opens('--key-file', key), rc == 0)
            self.assertTrue(rc == 0 or 'in use' in err, err)
        self.assertTrue(any(rc == 0 for rc, _ in ended))

    def test_random_damage_of_the_slots_opens_nothing_and_crashes_nothing(self):
        name = os.path.join(self.repository, 'libbackup-repository.json')
        with open(name, 'rb') as file:
            good = file.read()
        begin = good.index(b'"slots"')
        for _ in range(40):
            place, bad = self.rng.randrange(begin, len(good)), bytearray(good)
            bad[place] = self.rng.randrange(256)
            with open(name, 'wb') as file:
                file.write(bad)
            done = self.baksh('point-list', '--repository', self.repository, '--key-file', self.key)
            self.assertIn(done.rc, (0, 1, 4), done)
        with open(name, 'wb') as file:
            file.write(good)


class SecretTest(Encrypted):
    """Looked for in all words, environments, open files' names, the log and every file."""

    def test_the_secret_is_nowhere(self):
        secret = b'xyzzy-a-pass-phrase-to-look-for-xyzzy'
        phrase = self.make_secret('phrase', secret)
        self.must('repository-key-add', self.repository, '--new-passphrase-file', phrase)
        self.environment.update(LIBBACKUP_KEY_FILE='', LIBBACKUP_PASSPHRASE_FILE=phrase, G_MESSAGES_DEBUG='all')
        image_secret = subprocess.run([sys.executable, '-c', script_of_the_page(), self.repository, phrase], capture_output=True, check=True).stdout
        self.assertRegex(image_secret, b'^[0-9a-f]{64}$')
        seen, end, looked, output = [], threading.Event(), set(), []

        def look():
            while not end.is_set():
                for pid in filter(str.isdigit, os.listdir('/proc')):
                    for name in ('cmdline', 'environ'):
                        try:
                            with open(f'/proc/{pid}/{name}', 'rb') as file:
                                text = file.read()
                        except OSError:
                            continue
                        if b'qemu-' in text.split(b'\0')[0] and name == 'cmdline' and b'bak-secret' in text:
                            looked.add(os.path.basename(text.split(b'\0')[0]))
                        if secret in text or image_secret in text:
                            seen.append((name, text))
        thread = threading.Thread(target=look)
        thread.start()
        try:
            made = []
            for _ in range(3):
                done = self.must('point-create', 'g', '--repository', self.repository)
                output.append(done.out + done.err)
                made.append(bytes(self.data))
                self.write()
            points = self.listed()
            for command in (['point-verify', points[1]], ['point-restore', points[1], '--target', self.path('out')], ['point-delete', points[0]]):
                done = self.must(*command, '--repository', self.repository)
                output.append(done.out + done.err)
            # QEMU's, that is open long enough to be seen
            served = self.baksh_start('point-serve', points[1], '--server', f'unix:{self.path("s")}', '--repository', self.repository)
            bed.wait_for('the daemon to be looked at', lambda: any('storage-daemon' in name for name in map(bytes.decode, looked)))
            served.terminate()
            output.append(''.join(served.communicate(timeout=30)))
        finally:
            end.set()
            thread.join()
        self.assertEqual(seen, [])
        for text in output:
            self.assertNotIn(secret.decode(), text)
            self.assertNotIn(image_secret.decode(), text)
        for path in self.files(self.directory):
            if path != phrase:
                with open(path, 'rb') as file:
                    data = file.read()
                self.assertFalse(secret in data or image_secret in data, path)


def script_of_the_page():
    with open(os.path.join(bed.TOP, 'docs', 'repository.md')) as file:
        text = file.read()
    return re.search(r'^```python\n(.*?)^```', text, re.M | re.S).group(1)


class DoneWithoutUsTest(Encrypted):
    def test_the_page_tells_how_qemu_img_alone_reads_a_point(self):
        try:
            import cryptography  # noqa: F401
        except ImportError:
            self.skipTest('python3-cryptography is not installed')
        phrase = self.make_secret('phrase', b'opens it\n')
        self.must('repository-key-add', self.repository, '--new-passphrase-file', phrase)
        points = self.points(3)
        secret = self.path('secret')
        with open(secret, 'wb') as file:
            subprocess.run([sys.executable, '-c', script_of_the_page(), self.repository, phrase], stdout=file, check=True)
        layers, rows = [], {p['id']: p for p in self.json('point-list', '--repository', self.repository)['points']}
        point = points[2]
        while point:
            layers.append(rows[point]['disks'][0]['path'])
            with open(os.path.join(rows[point]['path'], 'storage.json')) as file:
                point = json.load(file)['disks'][0]['backing']
        words = []
        for depth, image in enumerate(layers):
            b = 'backing.' * depth
            words += [f'{b}driver=qcow2', f'{b}encrypt.format=luks', f'{b}encrypt.key-secret=k', f'{b}file.filename={image}']
        raw = self.path('by-hand')
        self.img('convert', '-U', '-O', 'raw', '--object', f'secret,id=k,file={secret}', '--image-opts', ','.join(words), raw)
        with open(raw, 'rb') as file:
            self.assertTrue(file.read() == self.truth[points[2]])
        with open(os.path.join(rows[points[2]]['path'], 'README')) as file:
            self.assertIn('encrypt.format=luks', file.read())


class CopyTest(Encrypted):
    def setUp(self):
        super().setUp()
        self.second, self.other = self.path('second'), self.make_secret('other', os.urandom(48))
        self.must('repository-create', self.second, '--encrypt', '--key-file', self.other)

    def copy(self, *words, rc=0, to=None, env=None):
        return self.must('point-copy', *words, '--repository', self.repository, '--to', to or self.second, '--json', rc=rc, env=env)

    def test_points_go_to_another_key_and_only_what_is_missing_is_read(self):
        points = self.points(3)
        rows = json.loads(self.copy('--all', '--to-key-file', self.other).out)['points']
        self.assertEqual([r['copied'] for r in rows], [True] * 3)
        self.assertLess(rows[1]['read'] + rows[2]['read'], rows[0]['read'])
        self.assertEqual([r['copied'] for r in json.loads(self.copy('--all', '--to-key-file', self.other).out)['points']], [False] * 3)
        env = {'LIBBACKUP_KEY_FILE': self.other}
        self.assert_points_hold(points, self.second, env=env)
        self.must('repository-check', self.second, '--read-data', env=env)
        self.assertIn('fits no slot', self.must('repository-check', self.second, '--read-data', rc=1).err)
        # back into one that never had them, through a third: the points are known again
        third = self.path('third')
        self.must('repository-create', third, '--encrypt', '--key-file', self.key)
        self.must('point-copy', '--all', '--repository', self.second, '--key-file', self.other, '--to', third, '--to-key-file', self.key)
        rows = json.loads(self.copy('--all', to=third).out)['points']
        self.assertEqual([r['copied'] for r in rows], [False] * 3)

    def test_a_base_that_is_gone_here_is_compared_by_the_key_there(self):
        points = self.points(4)
        self.copy(points[0], points[1], '--to-key-file', self.other)
        self.delete(points[0])
        self.delete(points[1])
        self.copy('--all', '--to-key-file', self.other)
        env = {'LIBBACKUP_KEY_FILE': self.other}
        self.assert_points_hold(points, self.second, env=env)
        stored = [p['disks'][0]['file_size'] for p in self.json('point-list', '--repository', self.second)['points']]
        self.assertLess(stored[2], stored[0] / 2)

    def test_the_clear_is_refused_unless_it_is_asked_for(self):
        points = self.points(2)
        plain = self.path('plain')
        self.must('repository-create', plain)
        self.assertIn('--allow-plain', self.copy('--all', to=plain, rc=1).err)
        self.assertEqual(self.json('point-list', '--repository', plain)['points'], [])
        self.copy('--all', '--allow-plain', to=plain)
        self.assert_points_hold(points, plain)
        self.must('repository-check', plain, '--read-data')
        # and into one with a key, from one without
        self.must('point-copy', '--all', '--repository', plain, '--to', self.second, '--to-key-file', self.other)
        self.assert_points_hold(points, self.second, env={'LIBBACKUP_KEY_FILE': self.other})

    def test_damage_is_not_copied(self):
        points = self.points(1)
        image = os.path.join(self.point_dir(points[0]), 'vda.qcow2')
        with open(image, 'r+b') as file:
            file.seek(os.path.getsize(image) - MIB)
            file.write(os.urandom(512))
        self.assertIn("disk 'vda'", self.copy('--all', '--to-key-file', self.other, rc=4).err)
        self.assertEqual(self.json('point-list', '--repository', self.second)['points'], [])


if __name__ == '__main__':
    unittest.main()
