#!/usr/bin/python3
"""The test bed itself: the guest boots and writes, and the verifier calls bad copies bad."""
import os
import shutil
import subprocess
import time

import bed
import verify


class BedTest(bed.LiveTest):
    def test_an_engine_starts_and_answers(self):
        engine = self.engine(self.make_image('a.qcow2'))
        self.assertTrue(engine.qmp.greeting['version']['qemu']['major'] >= 5)
        self.assertIn(('node', 'disk0'), engine.picture())
        self.assert_nothing_left(engine)

    def test_a_storage_daemon_starts_and_answers(self):
        daemon = bed.Qemu(self, ['--blockdev', 'driver=null-co,node-name=n,size=1048576'], binary='qemu-storage-daemon')
        self.assertIn(('node', 'n'), daemon.picture())

    def test_what_is_left_behind_is_found(self):
        engine = self.engine(self.make_image('a.qcow2'))
        picture = engine.picture()
        engine.qmp.execute('blockdev-add', driver='null-co', node_name='bak-left')
        with self.assertRaises(AssertionError):
            self.assert_nothing_left(engine)
        engine.qmp.execute('blockdev-del', node_name='bak-left')
        engine.qmp.execute('block-dirty-bitmap-add', node='disk0', name='bak-left')
        with self.assertRaises(AssertionError):
            self.assert_nothing_left(engine)
        engine.qmp.execute('block-dirty-bitmap-remove', node='disk0', name='bak-left')
        engine.qmp.execute('blockdev-add', driver='null-co', node_name='other')
        with self.assertRaises(AssertionError):
            self.assert_nothing_left(engine, picture)
        engine.qmp.execute('blockdev-del', node_name='other')
        self.assert_nothing_left(engine, picture)

    def test_a_pause_is_seen(self):
        engine = self.engine(self.make_image('a.qcow2'))
        self.assert_never_paused(engine)
        engine.qmp.execute('stop')
        engine.qmp.execute('cont')
        with self.assertRaises(AssertionError):
            self.assert_never_paused(engine)


class NbdTest(bed.LiveTest):
    def target(self, server):
        engine = self.engine(self.make_image('a.qcow2', '8M', data=[(0, '8M', 5)]))
        engine.qmp.execute('blockdev-add', driver='raw', node_name='target',
                           file={'driver': 'nbd', 'server': {'type': 'unix', 'path': server.path}})
        return engine

    def copy(self, engine):
        return engine.qmp.run_job('blockdev-backup', 'copy', device='disk0', target='target', sync='full', auto_dismiss=False)

    def flush(self, engine):
        """What the reopen as read-only says, which flushes first; None: nothing."""
        options = {'driver': 'raw', 'node-name': 'target', 'read-only': True,
                   'file': next(n for n in engine.nodes() if n['drv'] == 'nbd')['node-name']}
        try:
            if bed.version_tuple(self.version) >= (6, 1):
                engine.qmp.execute('blockdev-reopen', options=[options])
            else:
                engine.qmp.execute('x-blockdev-reopen', **options)
        except bed.QmpError as e:
            return e.desc
        return None

    def test_a_good_server_takes_a_copy(self):
        self.make_image('raw', '8M', 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('raw')))
        engine = self.target(server)
        self.assertIsNone(self.copy(engine))
        self.assertIsNone(self.flush(engine))
        engine.quit()
        self.assert_same(self.path('a.qcow2'), self.path('raw'), 'qcow2', 'raw')

    def test_a_server_fails_at_flush_only(self):
        self.make_image('raw', '8M', 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('raw'), flush_fails=True))
        engine = self.target(server)
        self.assertIsNone(self.copy(engine))
        self.assertIn('Input/output error', self.flush(engine))

    def test_a_server_fails_after_so_many_bytes(self):
        self.make_image('raw', '8M', 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('raw'), writes_until=4 << 20))
        self.assertIn('Input/output error', self.copy(self.target(server)))


class GuestTest(bed.LiveTest):
    def copy_by_qemu(self, guest, *names):
        """A reference backup by bare QMP: one transaction, copy-before-write."""
        actions = []
        for disk, name in zip(guest.disks, names):
            self.img('create', '-q', '-f', 'qcow2', self.path(name), '64M')
            guest.qmp.execute('blockdev-add', driver='qcow2', node_name=f'copy-{disk.target}',
                              file={'driver': 'file', 'filename': self.path(name)})
            actions.append({'type': 'blockdev-backup', 'data': {
                'job-id': f'copy-{disk.target}', 'device': disk.node, 'target': f'copy-{disk.target}', 'sync': 'full'}})
        guest.qmp.execute('transaction', actions=actions)
        for disk in guest.disks:
            ended = guest.qmp.wait_event('BLOCK_JOB_COMPLETED', device=f'copy-{disk.target}')
            self.assertNotIn('error', ended['data'])
            guest.qmp.execute('blockdev-del', node_name=f'copy-{disk.target}')
        return [self.path(n) for n in names]

    def naive_copy(self, guest, disk, name):
        """What a copy of a live disk without copy-before-write gives: parts of two moments, a second apart."""
        with open(disk.path, 'rb') as source, open(self.path(name), 'wb') as copy:
            # cut where the writer will be soon
            copy.write(source.read(self.ring_offset(disk.path, (guest.round() + 150) % verify.SLOTS)))
            guest.wait_rounds(300)
            copy.write(source.read())
        return self.path(name)

    def ring_offset(self, path, slot=0):
        out = subprocess.run([verify.sbin('debugfs'), '-R', f'bmap /ring {slot}', path], capture_output=True, text=True)
        return int(out.stdout.split()[0]) * 4096

    def test_the_guest_writes_and_copies_by_qemu_verify(self):
        begin = time.monotonic()
        guest = self.guest(disks=2)
        print(f'guest of QEMU {self.version} up and writing in {time.monotonic() - begin:.1f} s')
        guest.wait_rounds(100)
        with self.subTest('one instant'):
            self.assert_one_instant(*self.copy_by_qemu(guest, 'a1', 'b1'), quiesced=False)
        guest.wait_rounds(100)
        self.copy_by_qemu(guest, 'a2', 'b2')
        for a, b in (('a1', 'b2'), ('a2', 'b1')):
            with self.subTest(f'{a} and {b} are of two moments'):
                report = verify.verify([self.path(a), self.path(b)])
                self.assertFalse(report.good, report)
                self.assertEqual([c.faults for c in report.copies], [[], []])
        with self.subTest('disks in the wrong order'):
            self.assertFalse(verify.verify([self.path('b1'), self.path('a1')]).good)
        with self.subTest('an unfrozen copy is not called quiesced'):
            report = verify.verify([self.path('a1'), self.path('b1')], quiesced=True)
            self.assertFalse(report.good)
            self.assertIn('was not frozen', str(report))
        with self.subTest('a damaged record'):
            shutil.copy(self.path('a1'), self.path('a3'))
            self.img('convert', '-O', 'raw', self.path('a3'), self.path('a3.raw'))
            with open(self.path('a3.raw'), 'r+b') as f:
                f.seek(self.ring_offset(self.path('a3.raw'), 1234) + 2000)
                byte = f.read(1)
                f.seek(-1, 1)
                f.write(bytes([byte[0] ^ 1]))
            self.assertIn('slot 1234: the record is damaged', str(verify.verify([self.path('a3.raw'), self.path('b1')])))
        with self.subTest('an old record in its slot'):
            number = verify.verify([self.path('a1')]).copies[0].newest - 7
            self.img('convert', '-O', 'raw', self.path('a1'), self.path('a4.raw'))
            with open(self.path('a4.raw'), 'r+b') as f:
                f.seek(self.ring_offset(self.path('a4.raw'), number % verify.SLOTS))
                f.write(verify.record(number - verify.SLOTS, 0))
            self.assertFalse(verify.verify([self.path('a4.raw'), self.path('b1')]).good)
        with self.subTest('damaged fill data'):
            self.img('convert', '-O', 'raw', self.path('a1'), self.path('a5.raw'))
            out = subprocess.run([verify.sbin('debugfs'), '-R', 'bmap /fill 100', self.path('a5.raw')], capture_output=True, text=True)
            with open(self.path('a5.raw'), 'r+b') as f:
                f.seek(int(out.stdout.split()[0]) * 4096)
                f.write(b'\0' * 512)
            self.assertIn('fill data are damaged', str(verify.verify([self.path('a5.raw'), self.path('b1')])))
        self.assertEqual(guest.write_errors(), [])
        self.assert_guest_works(guest)

    def test_a_copy_without_copy_before_write_is_bad(self):
        disks = [bed.Disk(self.make_disk(f'{t}.raw', fill='4M', fmt='raw', number=n), t, 'raw')
                 for n, t in enumerate(('vda', 'vdb'))]
        guest = self.guest(disks=disks, agent=False)
        guest.wait_rounds(100)
        copies = [self.naive_copy(guest, disk, f'copy-{disk.target}') for disk in disks]
        report = verify.verify(copies)
        self.assertFalse(report.good)
        for copy in report.copies:
            self.assertIn('not of one instant', str(copy))

    def test_a_frozen_guest_gives_clean_journals(self):
        guest = self.guest(disks=2)
        with bed.Agent(guest) as agent:
            self.assertEqual(agent.execute('guest-fsfreeze-status'), 'thawed')
            self.assertEqual(agent.execute('guest-fsfreeze-freeze'), 2)
            copies = self.copy_by_qemu(guest, 'a', 'b')
            self.assertEqual(agent.execute('guest-fsfreeze-thaw'), 2)
        self.assert_one_instant(*copies, quiesced=True)
        self.assertFalse(verify.verify(copies, quiesced=False).good)
        self.assert_guest_works(guest)

    def test_scsi_and_ide_disks_are_written_too(self):
        disks = [bed.Disk(self.make_disk(f'{t}.qcow2', number=n), t, bus=bus)
                 for n, (t, bus) in enumerate((('sda', 'scsi'), ('hda', 'ide'), ('vda', 'virtio')))]
        guest = self.guest(disks=disks)
        guest.wait_rounds(50)
        self.assert_one_instant(*self.copy_by_qemu(guest, 'a', 'b', 'c'))

    def test_the_writer_goes_on_after_a_restart(self):
        guest = self.guest(disks=2, agent=False)
        guest.wait_rounds(50)
        last = guest.stop_writing()
        guest.power_off()
        guest.start()
        self.assertGreaterEqual(guest.wait_ready(), last)
        guest.wait_rounds(50)
        guest.kill()                                    # and after a crash
        self.assert_one_instant(*(d.path for d in guest.disks))

    def test_latency_and_errors_are_reported(self):
        guest = self.guest(disks=1, agent=False, latency=True)
        guest.wait_line('a window', lambda line: line.startswith('window ') and not line.startswith('window 0'))
        rounds, p50, p99, longest = [w for w in guest.windows() if w[0]][-1]
        self.assertTrue(0 < p50 <= p99 <= longest < 10_000_000, guest.windows())


if __name__ == '__main__':
    bed.main()
