#!/usr/bin/python3
"""Every format that a target may have: made, flushed, closed and compared with what the guest saw; what cannot be proved is refused."""
import os

import bed

MIB = 1 << 20
# format, options, allowed without a proof
FORMATS = (
    ('qcow2', 'compat=0.10'), ('qcow2', 'cluster_size=512'), ('qcow2', 'cluster_size=2M'), ('qcow2', 'preallocation=metadata'),
    ('qcow2', 'preallocation=falloc'), ('qcow2', 'extended_l2=on,cluster_size=128K'),
    ('vhdx', ''), ('vhdx', 'subformat=fixed'), ('vmdk', ''), ('vmdk', 'subformat=streamOptimized'), ('vdi', ''), ('vdi', 'preallocation=metadata'),
    ('vpc', ''), ('vpc', 'subformat=fixed'), ('qed', ''), ('qed', 'cluster_size=1M'), ('parallels', ''),
)
SPARSE = {'qcow2', 'qed'}


class FormatTest(bed.LiveTest):
    SIZE = 20 * MIB + 512       # no multiple of any cluster

    def disk(self):
        return self.make_image('disk.qcow2', self.SIZE, data=[(0, MIB, 0x41), (5 * MIB + 4096, 3 * MIB, 0x42), (self.SIZE - 512, 512, 0x43)])

    def begin(self, fmt, options, target, *more, rc=0):
        return self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', fmt, *(['--format-options', options] if options else []),
                         *(['--allow-unproved'] if fmt == 'parallels' else []), *more, '--wait', rc=rc)

    def test_each_format_holds_what_the_guest_saw(self):
        image = self.disk()
        qemu = self.engine(image)
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        before = qemu.picture()
        self.img('convert', '-U', '-O', 'raw', image, self.path('want.raw'))
        for number, (fmt, options) in enumerate(FORMATS):
            if fmt in ('parallels', 'vhdx') and bed.qemu_version() == '5.2':     # as this 5.2 is built; refused
                continue
            with self.subTest(fmt, options=options):
                target = self.path(f'{number}.{fmt}')
                self.begin(fmt, options, target)
                self.assert_same(self.path('want.raw'), target, 'raw', fmt)
                self.assert_nothing_left(qemu, before)
                if fmt in SPARSE and options in ('', 'cluster_size=512'):
                    self.assertLess(os.stat(target).st_blocks * 512, 10 * MIB)
                self.assertEqual(self.json('backup-info', 'g')['disks'][0]['format'], fmt)

    def test_the_writing_guest_is_exact_in_another_format_or_it_is_refused(self):
        guest = self.guest(disks=2)
        self.must('attach', 'g', '--qmp', guest.qmp_path)
        old = bed.version_tuple(self.version) < (6, 1)
        done = self.must('backup-begin', 'g', '--target', self.path() + '/', '--format', 'vhdx', '--wait', rc=1 if old else 0)
        if old:
            self.assertIn("two writes go to one part of a 'vhdx'", done.err)
        else:
            self.assert_one_instant(self.path('vda.vhdx'), self.path('vdb.vhdx'), fmt='vhdx')
        self.assert_guest_works(guest)

    def needs_vhdx(self):
        if bed.qemu_version() == '5.2':
            self.skipTest('vhdx is refused before QEMU 6.1')

    def test_a_format_that_loses_what_is_written_at_once_is_not_mirrored(self):
        self.needs_vhdx()
        size = 20 * MIB
        image = self.make_image('disk.qcow2', size, data=[(MIB, 18 * MIB, 0x42)])
        qemu = self.engine(image)
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.img('convert', '-U', '-O', 'raw', image, self.path('want.raw'))
        for number in range(4):     # a mirror loses something in every second of them
            target = self.path(f'{number}.vhdx')
            self.begin('vhdx', '', target)
            self.assert_same(self.path('want.raw'), target, 'raw', 'vhdx')
        done = self.must('backup-begin', 'g', '--target', f'disk0={self.path("end.vhdx")}', '--format', 'vhdx', '--instant', 'end', rc=1)
        self.assertIn("two writes go to one part of a 'vhdx'", done.err)
        self.assertFalse(os.path.exists(self.path('end.vhdx')))

    def test_a_flush_that_fails_is_a_failed_backup(self):
        qemu = self.engine(self.disk())
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        for fmt in ('vhdx', 'vmdk', 'vdi', 'vpc', 'qcow2')[bed.qemu_version() == '5.2':]:
            with self.subTest(fmt):
                served = self.path(f'served-{fmt}')
                with open(served, 'wb') as file:
                    file.truncate(64 * MIB)
                *plugin, _ = bed.failing_server(self, served, name=f'failing-{fmt}')
                written = self.path(f'failing-{fmt}.written')       # what makes the image goes well, what ends it does not
                server = bed.NbdServer(self, *plugin, f'flush=[ $(cat {written}) -lt {4 * MIB} ] || {{ echo EIO broken >&2; exit 1; }}', name=fmt)
                done = self.begin(fmt, '', server.uri, rc=3)
                self.assertRegex(done.err, 'disk .disk0.')
                server.kill()
                self.assert_nothing_left(qemu)

    def test_what_a_format_cannot_is_refused_before_anything_is_touched(self):
        big = self.make_image('big.qcow2', 3 << 40)
        qemu = self.engine(big)
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        before = qemu.picture()
        target = self.path('t')
        rows = (    # format, options, exit status, words
            ('vpc', '', 1, "has 3298534883328 bytes, and format 'vpc' holds 2190433320960 at most"),
            ('qcow2', 'cluster_size=512', 1, "format 'qcow2' holds 137438953472 at most with this cluster size"),
            ('raw', 'cluster_size=64K', 1, "format 'raw' has no cluster_size"),
            ('vdi', 'subformat=fixed', 1, "format 'vdi' has no subformat"),
            ('vhdx', 'subformat=streamOptimized', 1, "format 'vhdx' has the subformats dynamic, fixed, not 'streamOptimized'"),
            ('qcow2', 'compat=0.10,extended_l2=on', 1, 'extended_l2 needs compat 1.1'),
            ('qcow2', 'data_file=/tmp/x', 2, 'data_file is not taken: the backup would be two files'),
            ('qcow2', 'lazy_refcounts=on', 2, 'lazy_refcounts is not taken'),
            ('qcow2', 'nosuch=1', 2, "not 'nosuch=1'"),
        )
        for fmt, options, rc, words in rows:
            with self.subTest(fmt, options=options):
                self.assertIn(words, self.begin(fmt, options, target, rc=rc).err)
        done = self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', 'parallels', rc=1)
        self.assertIn('--allow-unproved', done.err)
        self.assert_nothing_left(qemu, before)
        self.assertFalse(os.path.exists(target))

    def test_an_increment_is_written_where_it_can_be_told_from_nothing(self):
        self.needs_vhdx()
        qemu = self.engine(self.make_image('disk.qcow2', 8 * MIB, data=[(0, MIB, 1)]))
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("full.vhdx")}', '--format', 'vhdx', '--checkpoint', 'c1', '--wait')
        qemu.io('disk0', 'write -P 7 2M 1M')
        qemu.io('disk0', 'flush')
        done = self.must('backup-begin', 'g', '--target', f'disk0={self.path("inc.vhdx")}', '--format', 'vhdx', '--since', 'c1', rc=1)
        self.assertIn('an increment in a new vhdx file cannot tell what changed', done.err)
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("full.vhdx")}', '--format', 'vhdx', '--since', 'c1', '--reuse-external', '--wait')
        self.img('convert', '-U', '-O', 'raw', self.path('disk.qcow2'), self.path('want.raw'))
        self.assert_same(self.path('want.raw'), self.path('full.vhdx'), 'raw', 'vhdx')


if __name__ == '__main__':
    bed.main()
