#!/usr/bin/python3
"""The plug-in of nbdkit: any QEMU pushes its disks, at one instant, into one VMA archive; nobody but who runs the job says that it is complete."""
import os
import signal
import subprocess
import unittest

import bed
import vma

MIB = 1 << 20
SIZES = {'disk-a': 5 * MIB + 512, 'disk-b': 2 * MIB}


class PushTest(bed.LiveTest):
    def setUp(self):
        super().setUp()
        folder = os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build')
        self.plugin = os.path.join(folder, 'tools/nbdkit/nbdkit-libbackup-vma-plugin.so')
        if not os.path.exists(self.plugin):
            self.skipTest('the plug-in is not built: nbdkit-plugin-dev is not there')
        images = [(name, self.make_image(f'{name}.raw', size, 'raw')) for name, size in SIZES.items()]
        self.vm = self.engine(*images, fmt='raw')
        self.truth = {}
        for number, (name, size) in enumerate(SIZES.items()):
            self.vm.io(name, f'write -q -P {number + 65} 4096 100k')
            self.vm.io(name, f'write -q -P {number + 70} {size - 512} 512')
            data = bytearray(size)
            data[4096:4096 + 102400] = bytes([number + 65]) * 102400
            data[-512:] = bytes([number + 70]) * 512
            self.truth[f'drive-{name}'] = bytes(data)
        self.socket, self.archive, self.verdict = self.path('vma.sock'), self.path('out.vma'), self.path('complete')
        with open(self.path('qemu-server.conf'), 'w') as file:
            file.write('name: pushed\n')
        disks = [f'disk=drive-{name}:{size}' for name, size in SIZES.items()]
        self.nbdkit = self.popen(bed.need('nbdkit', 'nbdkit'), '--foreground', '--exit-with-parent', '-U', self.socket, self.plugin,
                                 f'file={self.archive}', f'verdict={self.verdict}', f'config={self.path("qemu-server.conf")}', *disks,
                                 stderr=subprocess.PIPE, text=True)
        bed.wait_for('nbdkit', lambda: os.path.exists(self.socket))

    def target(self, name):
        return {'driver': 'raw', 'node-name': f'to-{name}', 'file': {
            'driver': 'nbd', 'server': {'type': 'unix', 'path': self.socket}, 'export': f'drive-{name}'}}

    def push(self, *names):
        """All of them in one transaction, and to their end."""
        for name in names:
            self.vm.qmp.execute('blockdev-add', **self.target(name))
        self.vm.qmp.execute('transaction', actions=[{'type': 'blockdev-backup', 'data': {
            'job-id': f'job-{name}', 'device': name, 'target': f'to-{name}', 'sync': 'full'}} for name in names])
        # what is written now is not in it
        self.vm.io('disk-a', 'write -q -P 99 4096 64k')
        for name in names:
            self.vm.qmp.wait_event('BLOCK_JOB_COMPLETED', device=f'job-{name}')
            bed.wait_for('the job to let go', lambda name=name: not any(j['id'] == f'job-{name}' for j in self.vm.qmp.execute('query-jobs')))
            self.vm.qmp.execute('blockdev-del', node_name=f'to-{name}')

    def end(self, complete):
        if complete:
            with open(self.verdict, 'w'):
                pass
        self.nbdkit.send_signal(signal.SIGTERM)
        return self.nbdkit.communicate(timeout=60 * bed.SLOW)[1]

    def assert_no_archive(self):
        self.assertEqual([n for n in os.listdir(self.directory) if n.startswith('out.vma')], [])

    def test_two_disks_of_one_instant_go_into_one_archive(self):
        self.push(*SIZES)
        self.end(complete=True)
        with open(self.archive, 'rb') as file:
            _, _, configs, disks = vma.read(file.read())
        self.assertEqual(configs, {'qemu-server.conf': b'name: pushed\n'})
        self.assertTrue(disks == self.truth)
        self.must('repository-create', self.path('repository'))
        [point] = self.json('point-import', self.archive, '--repository', self.path('repository'))['points']
        self.assertEqual((point['guest'], len(point['disks'])), ('pushed', 2))
        self.assertEqual([n for n in os.listdir(self.directory) if n.endswith('.partial')], [])

    def test_without_a_word_that_it_is_complete_there_is_no_archive(self):
        self.push(*SIZES)
        self.assertIn('nobody said', self.end(complete=False))
        self.assert_no_archive()

    def test_a_disk_that_did_not_come_is_no_archive_whatever_is_said(self):
        self.push('disk-b')
        self.assertIn('missing', self.end(complete=True))
        self.assert_no_archive()

    def test_a_cluster_that_comes_twice_or_in_pieces_is_refused(self):
        nbd = bed.need('qemu-io', 'qemu-utils')

        def io(*commands):
            uri = f'nbd+unix:///drive-disk-b?socket={self.socket}'
            done = bed.run(nbd, '-f', 'raw', *[w for c in commands for w in ('-c', c)], uri, check=False)
            return done.stdout + done.stderr
        self.assertIn('Invalid argument', io('write 512 64k'))
        self.assertIn('Input/output error', io('write 0 64k', 'write 0 64k'))
        self.assertIn('missing', self.end(complete=True))
        self.assert_no_archive()


if __name__ == '__main__':
    unittest.main()
