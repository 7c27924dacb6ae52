#!/usr/bin/python3
"""The examples in C, Python and Go do real work: against a daemon, with a QEMU whose disk changes."""
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import bed
import daemon

MIB = 1 << 20
BUILD = os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build')


class Examples:
    """What every language's examples must do; a subclass says how they are started."""
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', 64 * MIB, data=[(0, 4 * MIB, 7)])
        self.qemu = self.engine(self.image)
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('g', self.qemu, vda='disk0')
        self.uri = f'qemu+unix:///system?socket={self.daemon.socket}'

    def program(self, name, *words):
        return self.popen(*self.command(name), *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**self.environment, 'PYTHONPATH': f'{BUILD}/bindings/python', 'LD_LIBRARY_PATH': f'{BUILD}/src'})

    def run_program(self, name, *words, rc=0):
        process = self.program(name, *words)
        out, err = process.communicate(timeout=120 * bed.SLOW)
        self.assertEqual(process.returncode, rc, (out, err))
        return out + err

    def holds(self, path, *parts):
        """The file is zero but for (offset, length, byte), the later over the earlier."""
        with open(path, 'rb') as file:
            data = file.read()
        expected = bytearray(64 * MIB)
        for offset, length, byte in parts:
            expected[offset:offset + length] = bytes([byte]) * length
        self.assertTrue(data == bytes(expected), f'{path} holds something else')

    def test_a_pull_reads_what_changed_since_the_last_one(self):
        folder = self.path('pulled')
        os.mkdir(folder)
        out = self.run_program('pull', self.uri, 'g', folder)
        self.assertIn(f'vda: full, {4 * MIB} bytes read', out)
        self.holds(f'{folder}/vda.raw', (0, 4 * MIB, 7))
        self.qemu.io(self.qemu.node(), 'write -P 9 8M 64k')
        self.qemu.io(self.qemu.node(), 'write -z 1M 64k')
        out = self.run_program('pull', self.uri, 'g', folder)
        self.assertIn(f'vda: incremental, {128 * 1024} bytes read', out)
        self.holds(f'{folder}/vda.raw', (0, 4 * MIB, 7), (8 * MIB, 65536, 9), (MIB, 65536, 0))
        self.assertIn('vda: incremental, 0 bytes read', self.run_program('pull', self.uri, 'g', folder))
        # one checkpoint stays, the newest
        self.assertEqual(len(self.must('checkpoint-list', 'g', '--name', uri=self.uri).out.split()), 1)

    def test_a_pull_that_cannot_write_leaves_no_checkpoint(self):
        folder = self.path('pulled')
        os.makedirs(f'{folder}/vda.raw')
        self.run_program('pull', self.uri, 'g', folder, rc=1)
        self.assertEqual(self.must('checkpoint-list', 'g', '--name', uri=self.uri).out.split(), [])
        self.assertIn('aborted', self.must('backup-info', 'g', uri=self.uri).out)

    def test_a_night_backs_up_every_guest(self):
        other = self.engine(self.make_image('other.qcow2', 64 * MIB, data=[(MIB, MIB, 5)]), name='other')
        self.daemon.attach('h', other, vda='disk0')
        out = self.run_program('nightly', self.uri, self.path('nights'))
        self.assertIn('2 of 2 guests are backed up', out)
        night, = os.listdir(self.path('nights'))
        for guest, parts in (('g', (0, 4 * MIB, 7)), ('h', (MIB, MIB, 5))):
            raw = self.path(f'{guest}.raw')
            bed.run(bed.tool('qemu-img'), 'convert', '-O', 'raw', f'{self.path("nights")}/{night}/{guest}/vda.qcow2', raw)
            self.holds(raw, parts)

    def test_a_follower_survives_a_restart_of_the_daemon(self):
        follows = self.program('follow', self.uri, 'g')
        self.assertEqual(follows.stdout.readline(), 'following\n')
        self.must('backup-begin', 'g', '--target', self.path('t'), '--limit', '1MiB', uri=self.uri)
        self.daemon.restart(signal.SIGKILL)
        self.must('backup-limit', 'g', '0', uri=self.uri)
        out, err = follows.communicate(timeout=120 * bed.SLOW)
        self.assertEqual(follows.returncode, 0, (out, err))
        self.assertTrue(out.endswith('g: completed\n'), out)


class CExamplesTest(Examples, daemon.DaemonTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bin = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.bin)
        library = f'{BUILD}/src'
        for name, more in ('pull', ['-lnbd']), ('nightly', []), ('events', []):
            bed.run('cc', '-Wall', '-Werror', f'{bed.TOP}/examples/{name}.c', '-I', f'{bed.TOP}/include', '-L', library, '-lbackup', *more, '-o', f'{cls.bin}/{name}')

    def command(self, name):
        return f'{self.bin}/{"events" if name == "follow" else name}',


class PythonExamplesTest(Examples, daemon.DaemonTest):
    def command(self, name):
        if not os.path.exists(f'{BUILD}/bindings/python/libbackup/_ffi.abi3.so'):
            raise unittest.SkipTest('the Python module is not built: install python3-cffi and python3-dev, or a sanitizer is in it')
        return '/usr/bin/python3', f'{bed.TOP}/examples/python/{name}.py'


class GoExamplesTest(Examples, daemon.DaemonTest):
    @classmethod
    def setUpClass(cls):
        if not shutil.which('go'):
            raise unittest.SkipTest('go: install golang-go')
        super().setUpClass()
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        shutil.copytree(f'{bed.TOP}/examples/go', f'{folder}/examples')
        os.mkdir(f'{folder}/lib')
        for name in ('api.go', 'base.go', 'callbacks.c', 'callbacks.h', 'go.mod'):
            shutil.copy(f'{BUILD}/bindings/go/libbackup/{name}', f'{folder}/lib')
        with open(f'{folder}/examples/go.mod', 'w') as file:
            file.write('module examples\n\ngo 1.18\n\nrequire libbackup.org/go/libbackup v0.0.0\n\nreplace libbackup.org/go/libbackup => ../lib\n')
        env = {**os.environ, 'GOFLAGS': '-mod=mod', 'GOPROXY': 'off', 'GOSUMDB': 'off', 'GO111MODULE': 'on', 'GOCACHE': f'{BUILD}/go-cache',
               'PKG_CONFIG_PATH': f'{BUILD}/meson-uninstalled', 'LD_LIBRARY_PATH': f'{BUILD}/src'}
        bed.run('go', 'vet', './...', cwd=f'{folder}/examples', env=env)
        bed.run('go', 'build', '-o', f'{folder}/bin/', './...', cwd=f'{folder}/examples', env=env, timeout=400)
        cls.bin = f'{folder}/bin'

    def command(self, name):
        return f'{self.bin}/{name}',


if __name__ == '__main__':
    bed.main()
