#!/usr/bin/python3
"""The guest comes first: whatever happens to target and scratch breaks the backup, never the writing guest (docs/guest-protection.md).

Where the table says that this QEMU cannot do it, the test says what happens instead."""
import os
import signal
import sys
import threading
import time

import bed

sys.path.insert(0, os.path.join(bed.HERE, '..', '..', 'bench'))
import latency  # noqa: E402

SLOW_RATE = '80M'           # nbdkit counts bits: 10 MB/s


def network_target(guest, servers, extra=''):
    disks = ''.join(f"""<disk name='{disk.target}' type='network'><target protocol='nbd' name=''>
      <host transport='unix' socket='{server.path}'/></target><driver type='raw'/></disk>""" for disk, server in zip(guest.disks, servers))
    return f"<domainbackup mode='push'>{extra}<disks>{disks}</disks></domainbackup>"


class Under(bed.LiveTest):
    """A guest of two disks that writes without a pause while something happens to its backup."""
    rate = 60

    def boot(self, **kw):
        self.vm = self.guest(disks=2, rate=self.rate, latency=True, agent=False, **kw)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.picture = self.vm.picture()
        self.since = len(self.vm.lines)

    def breaks_instead(self):
        """A scratch that fails breaks the backup; before, it was reserved whole."""
        return bed.version_tuple(self.version) >= (10, 1)

    def longest(self):
        """The longest that one round of the writer took since the beginning, in seconds."""
        return max([w[3] for w in self.vm.windows()] or [0]) / 1e6

    def wait_stall(self):
        """Until a whole second from now on has passed without a write."""
        since = len(self.vm.windows()) + 1
        bed.wait_for('a second without a write', lambda: (0, 0, 0, 0) in self.vm.windows()[since:])

    def assert_unharmed(self, limit=2.0):
        self.assert_guest_works(self.vm, 20)
        self.assertLess(self.longest(), limit * bed.SLOW, f'the writer met a pause: {self.vm.windows()}')

    def assert_record(self, state, *words):
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], state, job)
        for word in words:
            self.assertIn(word, job['error'], job)
        return job

    def assert_clean(self):
        self.assert_nothing_left(self.vm, self.picture)
        self.assertEqual(os.listdir(self.path('state', 'guests', 'g', 'scratch')) if os.path.isdir(self.path('state', 'guests', 'g', 'scratch')) else [], [])

    def begin(self, xml, *more, rc=0, **kw):
        with open(self.path('backup.xml'), 'w') as f:
            f.write(xml)
        return self.must('backup-begin', 'g', self.path('backup.xml'), '--reuse-external', *more, rc=rc, **kw)

    def servers(self, *plugin, **kw):
        return [bed.NbdServer(self, *plugin, name=f'target{n}', **kw) for n in range(2)]

    def moving(self):
        """Until the job has copied something."""
        bed.wait_for('progress', lambda: sum(d['bytes'] for d in self.json('backup-info', 'g')['disks']) > 0)


class PushTest(Under):
    def setUp(self):
        super().setUp()
        self.boot()

    def test_a_full_target_fails_the_push_and_not_the_guest(self):
        small = self.small_fs('6M')
        began = self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={small}/a', '--target', f'vdb={small}/b')
        done = self.must('backup-wait', 'g', rc=3)
        self.assertIn('o space left on device', done.out + done.err)
        job = self.assert_record('failed', 'o space left on device', small)
        self.assertTrue(any(f"disk '{d}'" in job['error'] for d in ('vda', 'vdb')), job)
        self.assertNotIn('protection of the guest', began.out + began.err)
        self.assert_unharmed()
        self.assert_clean()
        self.assertEqual(os.listdir(small), [])

    def test_a_target_that_fails_fails_the_push_and_not_the_guest(self):
        for n in range(2):
            self.make_image(f'image{n}', '64M', 'raw')
        servers = [bed.NbdServer(self, *bed.failing_server(self, self.path(f'image{n}'), writes_until=2 << 20, name=f'f{n}'), name=f'target{n}') for n in range(2)]
        self.begin(network_target(self.vm, servers))
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('failed', 'Input/output error', "disk 'vd", servers[0].path[:-6])
        self.assert_unharmed()
        self.assert_clean()

    def test_a_target_whose_server_is_killed_fails_the_push_and_not_the_guest(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers))
        self.moving()
        servers[0].kill()
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('failed', "disk 'vda'", servers[0].path)
        self.assert_unharmed()
        self.assert_clean()

    def test_a_target_that_hangs_holds_neither_the_guest_nor_the_abort(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers))
        self.moving()
        for server in servers:
            server.stop()
        self.vm.wait_rounds(120)
        self.must('backup-stop', 'g', '--abort')        # the servers stand still
        self.assert_record('aborted')
        self.assert_unharmed()
        self.assert_clean()

    def test_a_target_that_hangs_ends_by_the_deadline(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers), '--timeout', '4')
        servers[1].stop()
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('aborted', '--timeout')
        self.assert_unharmed()
        self.assert_clean()

    def test_a_server_that_hangs_from_the_start_fails_the_begin(self):
        servers = self.servers('memory', '64M')
        servers[0].stop()
        done = self.begin(network_target(self.vm, servers), rc=1)
        self.assertIn("disk 'vda'", done.err)
        self.assertIn('does not answer', done.err)
        self.assertIn(servers[0].path, done.err)
        servers[0].go_on()
        self.vm.wait_rounds(20)
        self.assertEqual(self.vm.write_errors(), [])
        self.assert_clean()

    def test_a_slow_target_does_not_slow_the_guest(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers))
        self.must('backup-wait', 'g', timeout=200)
        self.assert_record('completed')
        self.assert_unharmed(1.0)
        self.assert_clean()

    def test_the_limit_is_changed_while_a_slow_target_is_written(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers, "<limit bytes_per_sec='1048576'/>"))
        self.moving()
        for limit in ('2MiB', '512KiB', '0'):
            self.must('backup-limit', 'g', limit)
            self.vm.wait_rounds(30)
        self.must('backup-wait', 'g', timeout=200)
        self.assert_record('completed')
        self.assert_unharmed(1.0)
        self.assert_clean()

    def push_unprotected(self, small, *more):
        self.must('backup-begin', 'g', *more, '--protect', 'no', '--target', f'vda={small}/a', '--target', f'vdb={small}/b')

    def assert_goes_on(self):
        bed.wait_for('the guest goes on', lambda: self.vm.qmp.execute('query-status')['status'] == 'running')
        self.vm.wait_rounds(20)
        self.assertEqual(self.vm.write_errors(), [])
        self.assert_clean()

    def test_an_unprotected_push_stops_at_a_full_target_and_the_guest_goes_on(self):
        """The negative control of the rest, and all that can be had of it."""
        small = self.small_fs('6M')
        self.push_unprotected(small)
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('failed', 'o space left on device', small)
        self.assert_goes_on()

    def test_a_guest_that_a_full_target_stopped_while_the_owner_was_dead_goes_on(self):
        self.push_unprotected(self.small_fs('2M'), '--limit', '64KiB')      # it is a write of the guest that finds it full
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        bed.wait_for('the guest stops', lambda: self.vm.qmp.execute('query-status')['status'] == 'io-error')
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('failed', 'o space left on device')
        self.assert_goes_on()

    def test_an_abort_does_not_fail_a_write_that_waits_for_an_unprotected_target(self):
        servers = self.servers('memory', '64M', filters=['rate'], options=[f'rate={SLOW_RATE}'])
        self.begin(network_target(self.vm, servers, "<guest protect='no'/>"))
        for server in servers:
            server.stop()
        self.wait_stall()
        abort = self.baksh_start('backup-stop', 'g', '--abort')
        time.sleep(1)
        self.assertIsNone(abort.poll(), 'it did not wait')
        for server in servers:
            server.go_on()
        self.assertEqual(abort.wait(60), 0)
        self.assert_record('aborted')
        self.assert_guest_works(self.vm, 20)
        self.assert_clean()

    def test_a_full_scratch_fails_the_push_and_not_the_guest(self):
        small = self.small_fs('4M')
        argv = ['backup-begin', 'g', '--mode', 'push', '--limit', '2MiB', '--scratch', small, *(x for d in ('vda', 'vdb') for x in ('--target', f'{d}={self.path(d)}'))]
        if not self.breaks_instead():
            done = self.must(*argv, rc=1)
            self.assertIn(small, done.err)
            self.assertIn('No space left on device', done.err)
        else:
            self.must(*argv)
            self.must('backup-wait', 'g', rc=3)
            self.assert_record('failed', 'scratch', small, 'no space left on device')
        self.assert_unharmed()
        self.assert_clean()
        self.assertFalse(os.path.exists(self.path('vda')))

    def test_strict_is_refused_where_it_cannot_be_kept(self):
        argv = ['backup-begin', 'g', '--mode', 'push', '--protect', 'strict', *(x for d in ('vda', 'vdb') for x in ('--target', f'{d}={self.path(d)}'))]
        if self.breaks_instead():
            self.must(*argv, '--wait')
            self.assert_record('completed')
        else:
            self.assertIn('strict', self.must(*argv, rc=1).err)
        self.assert_clean()


class PullTest(Under):
    def setUp(self):
        super().setUp()
        self.boot()

    def read(self, sock):
        """nbdcopy of a disk in the background: (thread, result)."""
        result = {}

        def work():
            done = bed.run('nbdcopy', f'nbd+unix:///vda?socket={sock}', self.path('copy'), check=False)
            result['rc'], result['err'] = done.returncode, done.stderr
        thread = threading.Thread(target=work)
        thread.start()
        return thread, result

    def test_a_full_scratch_breaks_the_pull_and_not_the_guest(self):
        small, sock = self.small_fs('4M'), self.path('nbd')
        argv = ['backup-begin', 'g', '--mode', 'pull', '--scratch', small, '--server', f'unix:{sock}']
        if not self.breaks_instead():
            done = self.must(*argv, rc=1)
            self.assertIn(small, done.err)
            self.assertIn('No space left on device', done.err)
        else:
            watch = self.baksh_start('event', '--domain', 'g', '--loop', '--timeout', '60')
            self.must(*argv)
            reader = self.nbd_reader(f'nbd+unix:///vda?socket={sock}')
            reader.pread(4096, 0)
            bed.wait_for('the failure', lambda: self.json('backup-info', 'g')['state'] == 'failed', 40)
            import nbd
            with self.assertRaises(nbd.Error):
                reader.pread(4096, 0)
            done = self.baksh('backup-stop', 'g')
            self.assertIn(done.rc, (1, 3), done)
            self.assert_record('failed', 'scratch', small, 'no space left on device', "disk 'vd")
            watch.terminate()
            self.assertIn('no space left on device', watch.communicate()[0])
        self.assert_unharmed()
        self.assert_clean()

    def test_a_stop_of_a_pull_whose_scratch_is_full_says_so(self):
        if not self.breaks_instead():
            self.skipTest('this QEMU has its scratch reserved')
        self.vm.stop_writing()
        small, sock = self.small_fs('192K'), self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--scratch', small, '--server', f'unix:{sock}')
        self.vm.go_on_writing()
        self.vm.wait_rounds(100)
        done = self.must('backup-stop', 'g', rc=3)
        for word in ('scratch', small, 'no space left on device', "disk 'vd"):
            self.assertIn(word, done.out + done.err)
        self.assert_unharmed()
        self.assert_clean()

    def test_a_reader_that_is_slow_stopped_or_killed_costs_the_guest_nothing(self):
        sock = self.path('nbd')
        uri = f'nbd+unix:///vda?socket={sock}'
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}')
        slow = self.nbd_reader(uri)
        copy = self.popen('nbdcopy', '--', uri, '[', 'nbdkit', 'memory', '64M', '--filter=rate', f'rate={SLOW_RATE}', ']', stderr=bed.subprocess.DEVNULL)
        for n in range(10):
            slow.pread(65536, n * 65536)
            self.vm.wait_rounds(6)
        os.kill(copy.pid, signal.SIGSTOP)
        self.vm.wait_rounds(60)
        copy.kill()
        copy.wait()
        self.vm.wait_rounds(60)
        self.assertIn('limit the reader', self.must('backup-limit', 'g', '1MiB', rc=1).err)
        self.must('backup-stop', 'g')
        self.assert_record('completed')
        self.assert_unharmed(1.0)
        self.assert_clean()

    def test_a_pull_that_nobody_reads_ends_by_its_idle_timeout(self):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}', '--idle-timeout', '3')
        reader = self.nbd_reader(f'nbd+unix:///vda?socket={sock}')
        for _ in range(8):          # a reader that reads keeps it
            reader.pread(4096, 0)
            time.sleep(0.7)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'ready')
        reader.shutdown()
        self.must('backup-wait', 'g', rc=3, timeout=60)
        self.assert_record('failed', 'idle')
        self.assert_unharmed()
        self.assert_clean()


class LatencyTest(bed.LiveTest):
    """The guest's writes while targets are slow. How long they take is bench/latency.py's to judge; here is what holds on any machine."""
    versions, alone = ('7.2',), True

    def test_a_slow_target_fails_no_write_and_only_an_unprotected_push_waits_for_it(self):
        (_calm, *_protected, unprotected), _goal, errors = latency.measure(self.version, 3)
        self.assertEqual(errors, [])
        self.assertGreaterEqual(unprotected['max'], 250, 'the target takes as long for a write: nothing was waited for, so this shows nothing')


class ScratchTest(Under):
    """The guest's writes go through the scratch: one on a file system whose store fails or hangs (nbdfuse on an nbdkit)."""

    def setUp(self):
        super().setUp()
        with open(self.path('config'), 'w') as f:
            f.write('monitor_timeout = 3\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('config')
        folder = self.path('fuse')
        os.mkdir(folder)
        store = self.make_image('store', '64M')
        os.truncate(store, 80 << 20)
        self.store = bed.NbdServer(self, 'file', store, filters=['error'], name='store',
                                   options=['error-pwrite=EIO', 'error-pwrite-rate=100%', f'error-pwrite-file={self.path("broken")}'])
        fuse = self.popen(bed.need('nbdfuse', 'libnbd-bin'), folder, self.store.uri, stderr=bed.subprocess.DEVNULL)
        self.addCleanup(lambda: bed.run('umount', '-l', folder, check=False))
        self.scratch = os.path.join(folder, 'nbd')
        bed.wait_for('the file system', lambda: os.path.exists(self.scratch) or fuse.poll() is not None)
        if not os.path.exists(self.scratch):
            self.skipTest('no FUSE here')
        self.boot()

    def start(self, mode):
        push = mode == 'push'
        if push:
            self.make_image('copy', '64M')
        target = f"<target file='{self.path('copy')}'/>" if push else ''
        more = "<limit bytes_per_sec='1048576'/>" if push else f"<server transport='unix' socket='{self.path('nbd')}'/>"
        self.begin(f"<domainbackup mode='{mode}'>{more}<disks><disk name='vda' type='file'>{target}<scratch file='{self.scratch}'/></disk>"
                   "<disk name='vdb' backup='no'/></disks></domainbackup>")

    def fails(self, mode):
        """Before 10.1 QEMU can only let the guest's write fail too."""
        self.start(mode)
        open(self.path('broken'), 'w').close()
        self.must('backup-wait', 'g', rc=3)
        self.assert_record('failed', self.scratch, "disk 'vda'")
        if self.breaks_instead():
            self.assert_unharmed()
        self.assertEqual(self.vm.ours(), [])

    def hangs(self, mode):
        """The guest's writes wait, on every QEMU; who aborts does not, and when the store goes on nothing was lost."""
        self.start(mode)
        self.store.stop()
        self.addCleanup(self.store.go_on)       # first: a QEMU that waits for it cannot even be killed
        self.wait_stall()
        self.must('backup-stop', 'g', '--abort')
        self.assert_record('aborted', 'QEMU did not answer, or did not end its job')
        self.store.go_on()
        self.assert_guest_works(self.vm, 20)
        self.must('domblklist', 'g')
        self.assertEqual(self.vm.ours(), [])

    def test_a_scratch_that_fails_fails_the_push(self):
        self.fails('push')

    def test_a_scratch_that_fails_fails_the_pull(self):
        self.fails('pull')

    def test_a_scratch_that_hangs_does_not_hold_the_abort_of_a_push(self):
        self.hangs('push')

    def test_a_scratch_that_hangs_does_not_hold_the_abort_of_a_pull(self):
        self.hangs('pull')


if __name__ == '__main__':
    bed.main()
