#!/usr/bin/python3
"""Failures that others report as success: each ends with exit 3, a reason, and nothing left behind."""
import os
import signal
import subprocess

import bed
import faults
import nbdpy

SIZE = 16 << 20


def network_target(server, disk='vda', fmt='raw'):
    return f"""<domainbackup mode='push'><disks>
      <disk name='{disk}' type='network'>
        <target protocol='nbd' name=''><host transport='unix' socket='{server.path}'/></target>
        <driver type='{fmt}'/>
      </disk></disks></domainbackup>"""


class FlushTest(bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.picture = self.vm.picture()

    def push_to(self, server, fmt='raw'):
        with open(self.path('backup.xml'), 'w') as f:
            f.write(network_target(server, fmt=fmt))
        return self.baksh('backup-begin', 'g', self.path('backup.xml'), '--wait', '--reuse-external')

    def test_a_good_nbd_target_is_a_success(self):
        self.make_image('target', SIZE, 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('target')))
        done = self.push_to(server)
        self.assertEqual(done.rc, 0, done)
        self.assert_nothing_left(self.vm, self.picture)
        self.assert_same(self.path('disk.qcow2'), self.path('target'), 'qcow2', 'raw')

    def assert_failed(self, done, *words):
        self.assertEqual(done.rc, 3, done)
        for word in words:
            self.assertIn(word, done.out + done.err)
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        self.assertIn('Input/output error', job['error'])
        self.assert_nothing_left(self.vm, self.picture)

    def test_a_flush_error_after_the_job_completed_is_a_failure(self):
        self.make_image('target', SIZE, 'raw')
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('target'), flush_fails=True))
        self.assert_failed(self.push_to(server), 'vda', 'Input/output error')

    def test_metadata_that_cannot_be_written_after_the_job_completed_are_a_failure(self):
        # a qcow2 on the server: data first, tables at the flush
        self.make_image('target.qcow2', SIZE)
        os.truncate(self.path('target.qcow2'), SIZE + (8 << 20))
        server = bed.NbdServer(self, *bed.failing_server(self, self.path('target.qcow2'), writes_until=SIZE))
        self.assert_failed(self.push_to(server, 'qcow2'), 'vda', 'Input/output error')


class HungTest(bed.LiveTest):
    """A target that hangs holds neither QEMU's main loop, and the guest with it, nor an abort."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(*(self.make_image(f'disk{n}.qcow2', SIZE, data=[(0, SIZE, 7)]) for n in range(2)))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.picture = self.vm.picture()
        self.servers = [nbdpy.Server(self.path(f'server{n}'), SIZE) for n in range(2)]
        for server in self.servers:
            self.addCleanup(server.close)

    def begin(self):
        targets = [a for n, s in enumerate(self.servers) for a in ('--target', f'disk{n}=nbd+unix:///?socket={s.path}')]
        self.must('backup-begin', 'g', '--reuse-external', *targets)

    def assert_qemu_answers(self):
        """Its main loop goes round while a target hangs."""
        for _ in range(20):
            self.vm.qmp.execute('query-status')

    def abort(self):
        self.must('backup-stop', 'g', '--abort')        # the server hangs on
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')
        self.assert_nothing_left(self.vm, self.picture)

    def test_one_that_hangs_does_not_hold_qemu_when_another_disk_is_done(self):
        self.servers[1].hold(after=SIZE // 2)
        self.begin()
        bed.wait_for('the other to hang', lambda: not self.servers[1].open_gate.is_set())
        bed.wait_for('the end of the copy of one', lambda: self.json('backup-info', 'g')['disks'][0]['bytes'] == SIZE)
        self.assert_qemu_answers()
        self.abort()

    def test_one_that_fails_while_another_hangs_is_named_and_holds_qemu_no_longer(self):
        self.servers[0].fail(after=SIZE * 3 // 4)
        self.servers[1].hold(after=SIZE // 2)
        self.begin()
        self.must('backup-wait', 'g', rc=3)     # the other server hangs on
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        self.assertIn("disk 'disk0'", job['error'])
        self.assertIn('Input/output error', job['error'])
        self.assert_nothing_left(self.vm, self.picture)

    def test_a_flush_that_takes_long_does_not_hold_qemu(self):
        self.servers[1].hold_flush()
        self.begin()
        bed.wait_for('the flush', lambda: self.servers[1].flushes)
        self.assert_qemu_answers()
        self.assertIn(self.json('backup-info', 'g')['state'], ('running', 'stopping'))      # a mirror (5.2) flushes at its end
        self.servers[1].let_go()
        self.must('backup-wait', 'g')
        self.assertEqual([bytes(s.data) for s in self.servers], [b'\7' * SIZE] * 2)
        self.assert_nothing_left(self.vm, self.picture)

    def test_a_flush_that_hangs_does_not_hold_the_abort(self):
        self.servers[0].hold_flush()
        self.begin()
        bed.wait_for('the flush', lambda: self.servers[0].flushes)
        self.abort()


class CancelTest(bed.LiveTest):
    """A job-cancel that comes while QEMU ends the job ends it twice and QEMU itself with it: what is cancelled stands still."""

    def begin_and_abort(self):
        """Up to the pause: the copy waits for its target and does not stand still yet."""
        vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 0x11)]))
        monitor = faults.Monitor(self.path('monitor'), vm.qmp_path)
        self.addCleanup(monitor.stop)
        server = nbdpy.Server(self.path('server'), SIZE)
        self.addCleanup(server.close)
        server.hold(after=SIZE // 2)
        self.must('attach', 'g', '--qmp', self.path('monitor'))
        self.must('backup-begin', 'g', '--protect', 'no', '--reuse-external', '--target', f'disk0=nbd+unix:///?socket={server.path}')
        job = vm.qmp.execute('query-jobs')[0]['id']
        bed.wait_for('the copy waits for its target', lambda: not server.open_gate.is_set())
        abort = self.popen(bed.baksh_path(), 'backup-stop', 'g', '--abort', env=self.environment, stdout=subprocess.DEVNULL)
        bed.wait_for('the pause', lambda: 'job-pause' in monitor.names)
        self.assertNotIn('job-cancel', monitor.names)
        return vm, server, job, abort

    def test_a_running_copy_is_cancelled_only_once_it_is_paused(self):
        vm, server, job, abort = self.begin_and_abort()
        server.let_go()
        vm.qmp.wait_event('JOB_STATUS_CHANGE', id=job, status='concluded')
        self.assertEqual(abort.wait(30), 0)
        states = [e['data']['status'] for e in vm.qmp.events if e['event'] == 'JOB_STATUS_CHANGE' and e['data']['id'] == job]
        self.assertIn('paused', states[:states.index('aborting')])
        self.assertEqual(vm.ours(), [])

    def test_the_undo_pauses_what_it_cancels(self):
        vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 0x11)]))
        monitor = faults.Monitor(self.path('monitor'), vm.qmp_path)
        self.addCleanup(monitor.stop)
        self.must('attach', 'g', '--qmp', self.path('monitor'))
        for mode in (['--mode', 'pull', '--server', f'unix:{self.path("nbd")}'], ['--limit', '64KiB', '--target', f'disk0={self.path("target")}']):
            monitor.arm(None, None)
            self.must('backup-begin', 'g', *mode)
            self.must('backup-stop', 'g', '--abort')
            ends = [(one['execute'], one['arguments']['id']) for one in monitor.sent if one.get('execute') in ('job-pause', 'job-cancel')]
            cancelled = [job for name, job in ends if name == 'job-cancel']
            self.assertTrue(cancelled)
            for job in cancelled:
                self.assertLess(ends.index(('job-pause', job)), ends.index(('job-cancel', job)))
            self.assertEqual(vm.ours(), [])

    def test_a_copy_left_paused_by_a_killed_owner_is_undone(self):
        vm, server, job, abort = self.begin_and_abort()
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        server.let_go()
        abort.wait(30)
        vm.qmp.wait_event('JOB_STATUS_CHANGE', id=job, status='paused')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')
        self.assertEqual(vm.ours(), [])


class ForeignCancelTest(bed.LiveTest):
    whose_cancel = "disk 'vda': .*(cancel|ended)"

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 0x11)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.picture = self.vm.picture()

    def cancel_by_a_stranger(self):
        jobs = [j['id'] for j in self.vm.qmp.execute('query-jobs')]
        self.assertTrue(jobs, 'a pull without a job')
        self.vm.qmp.execute('job-cancel', id=jobs[0])
        for job in jobs[1:]:        # where one backup is several jobs, we may be quicker than the stranger with the others
            try:
                self.vm.qmp.execute('job-cancel', id=job)
            except bed.QmpError as e:
                self.assertRegex(str(e), "not found|in state 'concluded'")

    def test_a_pull_cancelled_by_a_stranger_while_it_is_read_is_a_failure(self):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}')
        reader = self.nbd_reader(f'nbd+unix:///vda?socket={sock}')
        self.assertEqual(set(reader.pread(1 << 20, 0)), {0x11})
        self.vm.io('disk0', f'write -P 0x22 0 {SIZE}')
        self.assertEqual(set(reader.pread(1 << 20, 0)), {0x11})
        self.cancel_by_a_stranger()
        # what the reader gets from now on is an error, once the export is gone; the verdict is a failure in any case
        self.vm.qmp.wait_event('BLOCK_EXPORT_DELETED', timeout=5)
        import nbd
        with self.assertRaises(nbd.Error):
            for _ in range(100):
                reader.pread(1 << 20, 0)
        done = self.baksh('backup-stop', 'g')
        self.assertEqual(done.rc, 3, done)
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        self.assertRegex(job['error'], self.whose_cancel)
        self.assert_nothing_left(self.vm, self.picture)

    def test_a_push_cancelled_by_a_stranger_is_a_failure(self):
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={self.path("copy")}', '--limit', '1MiB')
        self.cancel_by_a_stranger()
        self.must('backup-wait', 'g', rc=3)
        self.assertIn(self.json('backup-info', 'g')['state'], ('failed', 'aborted'))
        self.assert_nothing_left(self.vm, self.picture)
        self.assertFalse(os.path.exists(self.path('copy')), 'the broken target is left')


class ForeignHandTest(bed.LiveTest):
    """Somebody takes away what a backup that goes on is made of."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.picture = self.vm.picture()

    def assert_failed(self, done, *words):
        self.assertEqual(done.rc, 3, done)
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        for word in words:
            self.assertIn(word, job['error'])
        self.assert_nothing_left(self.vm, self.picture)

    def test_a_target_that_was_replaced_is_no_success_and_left_alone(self):
        for replace in (True, False):
            copy, elsewhere = self.path('copy'), self.path('elsewhere')
            self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={copy}', '--limit', '1MiB')
            os.rename(copy, elsewhere)
            if replace:
                with open(copy, 'w') as f:
                    f.write('mine')
            self.must('backup-limit', 'g', '0')
            self.assert_failed(self.baksh('backup-wait', 'g'), "disk 'vda'", copy, 'moved, removed or replaced')
            self.assertEqual(os.path.exists(copy), replace)
            if replace:
                with open(copy) as f:
                    self.assertEqual(f.read(), 'mine')
                os.unlink(copy)

    def test_a_checkpoint_whose_bitmap_was_removed_is_none(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--checkpoint', 'c1')
        self.vm.qmp.execute('block-dirty-bitmap-remove', node=self.vm.node(), name='c1')
        self.assert_failed(self.baksh('backup-stop', 'g'), "disk 'vda'", "checkpoint 'c1'")
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), [])


class DeathTest(bed.LiveTest):
    def test_a_qemu_that_dies_in_the_middle_of_a_push_is_a_failure(self):
        vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))
        self.must('attach', 'g', '--qmp', vm.qmp_path, '--disk', 'vda=disk0')
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={self.path("copy")}', '--limit', '1MiB')
        vm.die()
        self.must('backup-wait', 'g', rc=3)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'failed')
        self.assertFalse(os.path.exists(self.path('copy')), 'the broken target is left')

    def test_a_qemu_that_dies_in_the_middle_of_a_pull_is_a_failure(self):
        vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))
        self.must('attach', 'g', '--qmp', vm.qmp_path, '--disk', 'vda=disk0')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}')
        vm.die()
        done = self.baksh('backup-stop', 'g')
        self.assertEqual(done.rc, 3, done)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'failed')


if __name__ == '__main__':
    bed.main()
