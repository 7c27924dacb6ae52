#!/usr/bin/python3
"""domblkinfo --chain: what is said of every image that a disk stands on, while the guest runs and while it is off."""
import os
import unittest

import bed

MIB = 1 << 20
KEYS = {'source', 'node', 'format', 'subformat', 'capacity', 'allocation', 'physical', 'cluster_size', 'compat', 'compression', 'extended_l2',
        'encryption', 'data_file', 'corrupt', 'backing', 'snapshots', 'bitmaps'}


class ChainTest(bed.LiveTest):
    def chain(self):
        """base (raw) <- middle (a snapshot, a bitmap) <- top (its own cluster size, zstd), the middle named relative to the top"""
        self.make_image('base.raw', 8 * MIB, fmt='raw', data=[(0, MIB, 1)])
        self.img('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', self.path('middle.qcow2'))
        self.img('snapshot', '-c', 'before', self.path('middle.qcow2'))
        self.img('bitmap', '--add', '-g', '65536', self.path('middle.qcow2'), 'old')
        self.compression = 'zlib' if bed.qemu_version() == '5.2' else 'zstd'     # as this 5.2 is built
        self.img('create', '-q', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', '-o',
                 f'cluster_size=131072,compression_type={self.compression}', self.path('top.qcow2'))
        return self.path('top.qcow2')

    def check(self, document, live):
        top, middle, base = document['images']
        for image in document['images']:
            self.assertEqual(set(image), KEYS)
            self.assertEqual(image['capacity'], 8 * MIB)
            self.assertGreater(image['physical'], 0)
        self.assertEqual(document['live'], live)
        self.assertEqual([image['format'] for image in document['images']], ['qcow2', 'qcow2', 'raw'])
        self.assertEqual([image['source'] for image in document['images']], [self.path(n) for n in ('top.qcow2', 'middle.qcow2', 'base.raw')])
        self.assertEqual((top['cluster_size'], top['compression'], top['compat'], top['encryption']), (131072, self.compression, '1.1', None))
        self.assertEqual((middle['cluster_size'], middle['compression']), (65536, 'zlib'))
        self.assertEqual((base['compat'], base['compression'], base['backing']), (None, None, None))
        self.assertEqual(top['backing'], {'stored': 'middle.qcow2', 'resolved': self.path('middle.qcow2'), 'format': 'qcow2',
                                          'opened': self.path('middle.qcow2')})
        snapshot, = middle['snapshots']
        self.assertEqual((snapshot['name'], snapshot['vm_state'], len(snapshot['created'])), ('before', 0, 20))
        old, = middle['bitmaps']
        self.assertEqual((old['name'], old['granularity'], old['recording'], old['persistent'], old['inconsistent']), ('old', 65536, True, True, False))
        self.assertEqual(old['bytes'], 0 if live else None)

    def test_a_running_guest_tells_its_images_from_the_top_down(self):
        qemu = self.engine(self.chain())
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        qemu.qmp.execute('block-dirty-bitmap-add', node='disk0', name='mine', disabled=True)
        document = self.json('domblkinfo', 'g', 'disk0', '--chain')
        self.check(document, True)
        mine, = document['images'][0]['bitmaps']
        self.assertEqual((mine['name'], mine['recording'], mine['persistent'], document['images'][0]['node']), ('mine', False, False, 'disk0'))
        text = self.must('domblkinfo', 'g', 'disk0', '--chain', '--human').out
        self.assertEqual(len(text.strip().splitlines()), 5, text)
        for part in ('128.000 KiB', f'compat 1.1, {self.compression}', 'middle.qcow2 (qcow2)', 'before (', 'old (recording)', 'mine (disabled, in memory only)'):
            self.assertIn(part, text)

    def test_what_was_opened_in_place_of_what_is_stored_is_said(self):
        top = self.chain()
        self.make_image('other.qcow2', 8 * MIB)
        qemu = self.engine(extra=['-blockdev', f'driver=qcow2,node-name=other,file.driver=file,file.filename={self.path("other.qcow2")}',
                                  '-blockdev', f'driver=qcow2,node-name=disk0,file.driver=file,file.filename={top},backing=other'])
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        images = self.json('domblkinfo', 'g', 'disk0', '--chain')['images']
        self.assertEqual([image['node'] for image in images], ['disk0', 'other'])
        self.assertEqual((images[0]['backing']['stored'], images[0]['backing']['opened']), ('middle.qcow2', self.path('other.qcow2')))
        self.assertIn(f"opened as '{self.path('other.qcow2')}'", self.must('domblkinfo', 'g', 'disk0', '--chain').out)

    def test_a_filter_between_images_is_passed_by(self):
        top = self.chain()
        qemu = self.engine(extra=['-blockdev', f'driver=qcow2,node-name=m,file.driver=file,file.filename={self.path("middle.qcow2")}',
                                  '-blockdev', 'driver=copy-on-read,node-name=cor,file=m',
                                  '-blockdev', f'driver=qcow2,node-name=disk0,file.driver=file,file.filename={top},backing=cor'])
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.check(self.json('domblkinfo', 'g', 'disk0', '--chain'), True)

    def test_a_guest_that_is_off_tells_the_same(self):
        top = self.chain()
        self.must('attach', 'g', '--image', f'vda={top}')
        self.check(self.json('domblkinfo', 'g', 'vda', '--chain'), False)
        self.check(self.json('domblkinfo', 'g', top, '--chain'), False)
        result = self.must('domblkinfo', 'g', 'vdz', '--chain', rc=1)
        self.assertIn("guest 'g' has no disk 'vdz'; it has: vda", result.err)
        self.assertEqual(self.baksh('domblkinfo', 'g', '--chain').rc, 2)
        os.rename(self.path('middle.qcow2'), self.path('gone.qcow2'))
        result = self.must('domblkinfo', 'g', 'vda', '--chain', rc=1)
        self.assertIn("disk 'vda'", result.err)
        self.assertIn('middle.qcow2', result.err)

    def test_encryption_and_other_formats_are_named(self):
        secret = self.path('key')
        with open(secret, 'w') as file:
            file.write('a key of the test')
        rows = (    # name, format, options, what is said
            ('a.vmdk', 'vmdk', (), ('subformat', 'monolithicSparse')),
            ('b.qcow2', 'qcow2', ('--object', f'secret,id=s,file={secret}', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'),
             ('encryption', 'luks')),
            ('c.qcow2', 'qcow2', ('-o', f'data_file={self.path("data")}'), ('data_file', self.path('data'))),
            ('d.qcow2', 'qcow2', ('-o', 'extended_l2=on,cluster_size=128k'), ('extended_l2', True)),
            ('e.qcow2', 'qcow2', ('-o', 'compat=0.10'), ('compat', '0.10')),
        )
        version = bed.version_tuple(bed.qemu_version())
        arguments = []
        for name, fmt, options, _ in rows:
            self.make_image(name, 4 * MIB, fmt, options=options)
            key = ',encrypt.format=luks,encrypt.key-secret=s' if name == 'b.qcow2' else ''
            arguments += ['-blockdev', f'driver={fmt},node-name={name[0]},file.driver=file,file.filename={self.path(name)}{key}']
        qemu = self.engine(extra=['-object', f'secret,id=s,file={secret}', *arguments])
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        for name, _, _, (key, value) in rows:
            image, = self.json('domblkinfo', 'g', name[0], '--chain')['images']
            with self.subTest(name, version=version):
                self.assertEqual(image[key], value)


if __name__ == '__main__':
    bed.main()
