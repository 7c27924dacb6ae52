#!/usr/bin/python3
"""Defects that backup programs for QEMU have had, each given the same stimulus here. The chain must restore exactly, or be refused.

| defect | test |
| --- | --- |
| what became zero since the last backup is dropped from the increment, and comes back in the restored disk | WhatBecameZero |
| a full copy in the chain leaves out zeroes, so that older bytes show through | WhatBecameZero.test_a_full_copy_over_an_older_one |
| damage is logged, and the end is a success with half of the data | Damage |
| an increment that is missing in the middle is not noticed | Order.test_a_gap, OntoTest in test_checkpoints.py |
| the order of a chain is that of its files' times | Order.test_times_of_records |
| the point in time and the start of tracking are two moments; a write in between is in no backup | OneMoment.test_writes_while_a_chain_is_made |
| such a write makes the next increment fail | the same |
| each disk has a moment of its own | OneMoment.test_all_disks |
| a failed increment costs a new full backup | Failure.test_the_next_increment |
| of two disks one fails, and the other's tracking goes on from the failed backup | Failure.test_one_disk_of_two |
| a raw increment is a file that restores nothing | Order.test_a_raw_increment |
"""
import os
import threading

import bed
import nbdpy
from test_failures import network_target

MIB = 1 << 20
SIZE = 4 * MIB
BLOCK = 65536


class TwoDisks(bed.LiveTest):
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def setUp(self):
        super().setUp()
        self.vm = self.start([self.make_image(f'disk{n}.qcow2', SIZE, data=[(0, SIZE, 5)]) for n in range(2)])
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=top0', '--disk', 'vdb=top1')
        self.data = [bytearray(b'\5' * SIZE) for _ in range(2)]

    def start(self, images):
        extra = ['-object', 'throttle-group,id=tg']
        for n in range(2):
            extra += ['-blockdev', f'driver=throttle,discard=unmap,node-name=top{n},throttle-group=tg,file=disk{n}']
        return self.engine(*images, extra=extra)

    def write(self, disk, offset, length, byte):
        self.vm.io(f'top{disk}', f'write -P {byte} {offset} {length}' if byte else f'write -z -u {offset} {length}')
        self.data[disk][offset:offset + length] = bytes([byte]) * length

    def names(self, number):
        return [self.path(f'{disk}-{number}') for disk in ('vda', 'vdb')]

    def words(self, number, onto=None):
        """The backup of that number makes checkpoint c<number>."""
        words = ['--target', f'vda={self.names(number)[0]}', '--target', f'vdb={self.names(number)[1]}', '--checkpoint', f'c{number}']
        if onto is not None:
            words += ['--since', f'c{onto}', *[word for disk, name in zip(('vda', 'vdb'), self.names(onto)) for word in ('--onto', f'{disk}={name}')]]
        return words

    def backup(self, number, onto=None, rc=0):
        return self.must('backup-begin', 'g', *self.words(number, onto), '--wait', rc=rc)

    def holds(self, path, fmt='qcow2'):
        self.img('convert', '-U', '-f', fmt, '-O', 'raw', path, self.path('restored'))
        with open(self.path('restored'), 'rb') as file:
            return file.read()

    def assert_restored(self, number):
        for disk, path in zip((0, 1), self.names(number)):
            self.assertTrue(self.holds(path) == self.data[disk], f'{path} is not what the disk holds')

    def checkpoints(self):
        return self.must('checkpoint-list', 'g', '--name').out.split()


class WhatBecameZero(TwoDisks):
    def test_is_in_a_pushed_increment(self):
        self.backup(0)
        self.write(0, MIB, MIB, 0)
        self.vm.io('top1', f'discard 0 {MIB}')
        self.data[1][:MIB] = bytes(MIB)
        self.write(0, 3 * MIB, BLOCK, 7)
        self.backup(1, onto=0)
        self.assert_restored(1)

    def test_is_in_the_list_of_a_pulled_increment(self):
        self.backup(0)
        self.write(0, MIB, MIB, 0)
        self.must('backup-begin', 'g', '--mode', 'pull', '--disk', 'vda', '--since', 'c0', '--server', f'unix:{self.path("nbd")}')
        context = 'qemu:dirty-bitmap:backup-vda'
        client = nbdpy.Client(self.path('nbd'), 'vda', [context])
        dirty = [(offset, length) for offset, length, flags in client.extents(context) if flags & 1]
        self.assertEqual(dirty, [(MIB, MIB)])
        self.assertEqual(set(client.read(MIB, MIB)), {0})
        client.close()
        self.must('backup-stop', 'g')

    def test_a_full_copy_over_an_older_one_writes_its_zeroes(self):
        for fmt in ('raw', 'qcow2'):
            old = self.make_image(f'old.{fmt}', SIZE, fmt, data=[(0, SIZE, 9)])
            self.write(0, MIB, MIB, 0)
            self.must('backup-begin', 'g', '--disk', 'vda', '--target', f'vda={old}', '--format', fmt, '--reuse-external', '--wait')
            self.assertTrue(self.holds(old, fmt) == self.data[0], fmt)


class Damage(TwoDisks):
    refused = 4

    def test_a_disk_that_cannot_be_read_fails_the_backup(self):
        self.vm.qmp.execute('blockdev-add', driver='raw', node_name='bad', file={
            'driver': 'blkdebug', 'image': {'driver': 'file', 'filename': self.make_image('bad', SIZE, 'raw', data=[(0, SIZE, 5)])},
            'inject-error': [{'event': 'none', 'iotype': 'read', 'sector': 4096, 'errno': 5}]})
        done = self.must('backup-begin', 'g', '--disk', 'bad', '--target', f'bad={self.path("copy")}', '--wait', rc=3)
        self.assertRegex(done.err, "disk 'bad'.*Input/output error")
        self.assertFalse(os.path.exists(self.path('copy')))

    def test_a_damaged_previous_backup_is_built_on_by_nobody(self):
        self.backup(0)
        os.truncate(self.names(0)[0], 100)
        self.backup(1, onto=0, rc=self.refused)
        self.assertEqual(self.checkpoints(), ['c0'])
        self.assertFalse(os.path.exists(self.names(1)[0]))

    def test_a_damaged_record_is_named_and_nothing_starts_from_it(self):
        self.backup(0)
        record = os.path.join(self.state_dir(), 'checkpoints', 'c0.json')
        os.truncate(record, os.path.getsize(record) // 2)
        self.assertNotEqual(self.baksh('backup-begin', 'g', *self.words(1, onto=0), '--wait').rc, 0)
        self.assertRegex(self.must('checkpoint-check', 'g', rc=4).out, 'damaged.*c0')


class Order(TwoDisks):
    def chain(self):
        self.backup(0)
        for number in (1, 2):
            self.write(number % 2, number * MIB, BLOCK, number)
            self.backup(number, onto=number - 1)

    def test_a_gap_cannot_be_made(self):
        """An increment starts where it is told to, not where the last one ended."""
        self.backup(0)
        self.write(0, MIB, BLOCK, 1)
        self.backup(1, onto=0)
        self.must('checkpoint-delete', 'g', 'c1')
        self.write(0, 2 * MIB, BLOCK, 2)
        self.assertNotEqual(self.baksh('backup-begin', 'g', *self.words(2, onto=1), '--wait').rc, 0)
        self.backup(3, onto=0)
        self.assert_restored(3)

    def test_times_of_records_say_nothing(self):
        """Neither what came first nor what belongs together. That of a previous backup says that it was written to."""
        self.chain()
        folder = os.path.join(self.state_dir(), 'checkpoints')
        for age, name in enumerate(sorted(os.listdir(folder))):
            os.utime(os.path.join(folder, name), (1e9 - age, 1e9 - age))
        self.assertEqual(self.must('checkpoint-list', 'g', '--topological', '--name').out.split(), ['c0', 'c1', 'c2'])
        self.assertEqual(self.must('checkpoint-parent', 'g', 'c2').out.strip(), 'c1')
        self.write(1, 3 * MIB, BLOCK, 3)
        self.backup(3, onto=2)
        self.assert_restored(3)

    def test_a_raw_increment_is_refused_but_over_the_previous_copy(self):
        raw = self.path('copy.raw')
        self.must('backup-begin', 'g', '--disk', 'vda', '--target', raw, '--format', 'raw', '--checkpoint', 'c0', '--wait')
        self.write(0, MIB, BLOCK, 0)
        self.write(0, 2 * MIB, BLOCK, 7)
        words = ['backup-begin', 'g', '--disk', 'vda', '--format', 'raw', '--since', 'c0', '--wait']
        self.assertRegex(self.must(*words, '--target', self.path('inc.raw'), rc=1).err, 'cannot tell what changed')
        self.must(*words, '--target', raw, '--reuse-external')
        self.assertTrue(self.holds(raw, 'raw') == self.data[0])


class OneMoment(TwoDisks):
    # QEMU 5.2 hangs when a copy ends inside the monitor's own write; a guest's write has no such loop around it
    versions = ('7.2', '10.0', '11.1')

    def writing(self, then):
        """then() while numbered blocks are written, one disk after the other."""
        done = threading.Event()

        def write():
            number = 0
            while not done.is_set():
                number += 1
                for disk in range(2):
                    self.write(disk, number % 64 * BLOCK, BLOCK, number % 251 + 1)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            then()
        finally:
            done.set()
            writer.join()

    @staticmethod
    def numbers(data):
        return [data[n * BLOCK] for n in range(64)]

    def test_writes_while_a_chain_is_made_are_in_this_backup_or_the_next(self):
        self.writing(lambda: self.backup(0))
        for number in (1, 2):
            self.writing(lambda: self.backup(number, onto=number - 1))
        self.backup(3, onto=2)
        self.assert_restored(3)

    def test_all_disks_are_of_one_moment(self):
        self.writing(lambda: self.backup(0))
        first, second = (self.numbers(self.holds(path)) for path in self.names(0))
        self.assertNotEqual(set(first), {5}, 'nothing was written before the moment')
        self.assertLessEqual(sum(a != b for a, b in zip(first, second)), 1, f'{first} {second}')


class Failure(TwoDisks):
    def test_the_next_increment_after_a_failed_one_starts_where_that_did(self):
        self.backup(0)
        self.write(0, MIB, 2 * MIB, 1)
        self.must('backup-begin', 'g', *self.words(1, onto=0), '--limit', '64KiB')
        self.write(1, 2 * MIB, BLOCK, 2)
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.checkpoints(), ['c0'])
        self.backup(2, onto=0)
        self.assertEqual({disk['type'] for disk in self.json('backup-info', 'g')['disks']}, {'incremental'})
        self.assert_restored(2)

    def test_one_disk_of_two_that_fails_fails_both(self):
        self.backup(0)
        for disk in range(2):
            self.write(disk, MIB, BLOCK, 1)
        server = nbdpy.Server(self.path('server'), SIZE, bytes(self.data[1]))
        self.addCleanup(server.close)
        server.fail(0, nbdpy.EIO)
        self.make_image('vda-1', SIZE)
        xml = network_target(server, 'vdb').replace(
            '<disks>', f"<incremental>c0</incremental><disks><disk name='vda' type='file'><target file='{self.names(1)[0]}'/></disk>")
        for name, text in (('backup', xml), ('checkpoint', '<domaincheckpoint><name>c1</name></domaincheckpoint>')):
            with open(self.path(name), 'w') as file:
                file.write(text)
        done = self.must('backup-begin', 'g', self.path('backup'), self.path('checkpoint'), '--reuse-external', '--wait', rc=3)
        self.assertRegex(done.err, "disk 'vdb'.*Input/output error")
        self.assertEqual(self.checkpoints(), ['c0'])
        self.backup(2, onto=0)
        self.assert_restored(2)


if __name__ == '__main__':
    bed.main()
