#!/usr/bin/python3
"""instant='end': the disks are mirrored until somebody ends that, and the copies show the moment of the end, all of them the same."""
import os
import signal
import time

import bed

SIZE = 16 << 20
TIMES = int(os.environ.get('LIBBACKUP_TEST_TIMES', '6'))


class WritingTest(bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.vm = self.guest(disks=2)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.picture = self.vm.picture()

    def begin(self, name, *options):
        copies = [self.path(f'{disk.target}-{name}') for disk in self.vm.disks]
        targets = [x for disk, copy in zip(self.vm.disks, copies) for x in ('--target', f'{disk.target}={copy}')]
        self.must('backup-begin', 'g', '--instant', 'end', *targets, *options)
        return copies

    def in_step(self):
        bed.wait_for('the disks are in step', lambda: self.json('backup-info', 'g')['state'] == 'ready')

    def test_copies_ended_at_random_moments_are_of_one_instant(self):
        for n in range(TIMES):
            copies = self.begin(n, *(('--wait',) if n % 3 == 2 else ()))
            if n % 3 != 2:
                self.in_step()
                self.vm.wait_rounds(self.random.randrange(1, 60))
                self.must('backup-stop', 'g')
            with self.subTest(f'{n}, seed {self.seed}'):
                self.assert_one_instant(*copies)
                self.assert_nothing_left(self.vm, self.picture)
            self.assertEqual(self.json('backup-info', 'g')['state'], 'completed')
        self.assert_guest_works(self.vm)

    def test_disks_that_end_apart_are_told(self):
        """Negative control, without us: what test_copies… would say if the mirrors ended one after the other."""
        copies = []
        files = {node['file']: node['node-name'] for node in self.vm.nodes() if node['drv'] == 'qcow2'}
        for disk in range(2):
            copies.append(self.path(f'copy{disk}'))
            self.img('create', '-q', '-f', 'qcow2', copies[disk], '64M')
            self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name=f't{disk}', file={'driver': 'file', 'filename': copies[disk]})
            self.vm.qmp.execute('blockdev-mirror', job_id=f'j{disk}', device=files[self.vm.disks[disk].path], target=f't{disk}', sync='full')
        for disk in range(2):
            self.vm.qmp.wait_event('BLOCK_JOB_READY', device=f'j{disk}')
        for disk in range(2):
            self.vm.qmp.execute('block-job-cancel', device=f'j{disk}')
            self.vm.qmp.wait_event('BLOCK_JOB_COMPLETED', device=f'j{disk}')
            self.vm.qmp.execute('blockdev-del', node_name=f't{disk}')
            self.vm.wait_rounds(100)
        self.assertFalse(bed.verify.verify(copies).good)

    def test_a_checkpoint_of_the_end_is_the_base_of_an_exact_increment(self):
        base = self.begin('base', '--checkpoint', 'cp')
        self.in_step()
        self.assertNotIn('cp', [name for _, name in self.vm.bitmaps()], 'it is made at the end')
        self.vm.wait_rounds(30)
        self.must('backup-stop', 'g')
        self.assert_one_instant(*base)
        self.vm.wait_rounds(60)
        targets = [x for disk, below in zip(self.vm.disks, base)
                   for x in ('--target', f'{disk.target}={below}.inc', '--onto', f'{disk.target}={below}')]
        self.must('backup-begin', 'g', '--since', 'cp', *targets, '--wait')
        self.assert_one_instant(*(f'{copy}.inc' for copy in base))
        self.must('checkpoint-delete', 'g', 'cp')
        self.assert_nothing_left(self.vm, self.picture)


class EngineTest(bed.LiveTest):
    """Two disks, one of them copied to a server that can be held."""

    def setUp(self):
        super().setUp()
        images = [self.make_image(f'disk{n}.qcow2', SIZE, data=[(0, 1 << 20, 1 + n)]) for n in range(2)]
        self.vm = self.engine(*images)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.picture = self.vm.picture()
        # the guest: a reader and writer that makes no request but its own
        self.vm.qmp.execute('nbd-server-start', addr={'type': 'unix', 'data': {'path': self.path('guest')}})
        self.vm.qmp.execute('block-export-add', type='nbd', id='guest', node_name='disk1', name='', writable=True)

    def begin(self, second, *options):
        self.must('backup-begin', 'g', '--instant', 'end', '--reuse-external', '--format', 'raw', '--target', f'disk0={self.target()}',
                  '--target', f'disk1={second}', *options)

    def target(self):
        with open(self.path('copy0'), 'wb') as f:
            f.truncate(SIZE)
        return self.path('copy0')

    def in_step(self):
        bed.wait_for('the disks are in step', lambda: self.json('backup-info', 'g')['state'] == 'ready')

    def slow(self):
        """A server that answers each write after a second."""
        return bed.NbdServer(self, 'memory', SIZE, filters=['delay'], options=['delay-write=900ms'])

    def bring_to_rest(self):
        """One disk rests, and the other has a write under way."""
        server = self.slow()
        self.begin(server.uri, '--checkpoint', 'cp')
        self.in_step()
        self.vm.qmp.drain()
        self.vm.qmp.unseen.clear()
        self.write_behind()
        stop = self.baksh_start('backup-stop', 'g')
        self.vm.qmp.wait_event('JOB_STATUS_CHANGE', status='pending')
        return stop

    def write_behind(self):
        """A write of the guest to the second disk, which the mirror has still to follow."""
        self.nbd_reader(f'nbd+unix:///?socket={self.path("guest")}').pwrite(b'9' * 65536, 0)

    def jobs(self):
        return [job['status'] for job in self.vm.qmp.execute('query-jobs')]

    def failed(self, *words):
        info = self.json('backup-info', 'g')
        self.assertEqual(info['state'], 'failed', info)
        for word in words:
            self.assertIn(word, info['error'])
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), [])
        self.assertEqual(self.vm.ours(), [])
        self.vm.io('disk0', 'write -q -P 7 0 64k')
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("next")}', '--disk', 'disk0', '--wait')

    def test_who_dies_while_a_disk_rests_has_a_deputy(self):
        stop = self.bring_to_rest()
        owner = self.owner()
        os.kill(owner, signal.SIGKILL)
        stop.wait()
        bed.wait_for('no disk rests', lambda: 'pending' not in self.jobs())
        self.failed('cancel')

    def test_the_next_owner_lets_go_where_the_deputy_died_too(self):
        stop = self.bring_to_rest()
        for pid in self.watchers():
            os.kill(pid, signal.SIGSTOP)
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        stop.wait()
        self.assertIn('pending', self.jobs(), 'nobody is there who could have let go')
        self.failed()

    def owner(self):
        """The watcher, not its deputy: it is the one that listens for commands."""
        for pid in self.watchers():
            with open(f'/proc/{pid}/stat') as f:
                if os.path.exists(f'/proc/{pid}/fd/5'):
                    return pid
        self.fail('no watcher')

    def test_a_disk_that_does_not_come_to_rest_is_given_up(self):
        server = bed.NbdServer(self, 'memory', SIZE)
        self.begin(server.uri)
        self.in_step()
        server.stop()
        self.write_behind()
        done = self.baksh('backup-stop', 'g')
        self.assertEqual(done.rc, 3, done)
        self.vm.io('disk0', 'write -q -P 7 0 64k')
        self.vm.io('disk1', 'write -q -P 7 0 64k')
        server.go_on()
        self.failed('disk1')

    def test_a_mirror_that_somebody_else_ends_is_a_failure(self):
        for command, words in (('block-job-cancel', 'ended by somebody else'), ('job-cancel', '')):
            self.begin(self.make_image('second', SIZE, 'raw'))
            self.in_step()
            job = [job['id'] for job in self.vm.qmp.execute('query-jobs')][0]
            self.vm.qmp.execute(command, **{'device' if command.startswith('block') else 'id': job})
            done = self.baksh('backup-stop', 'g')
            self.assertEqual(done.rc, 3, done)
            self.failed(words)
            os.unlink(self.path('next'))

    def test_a_stop_before_the_disks_are_in_step_is_no_success(self):
        self.begin(self.slow().uri)
        done = self.baksh('backup-stop', 'g')
        self.assertEqual(done.rc, 3, done)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')
        self.assertEqual(self.vm.ours(), [])

    def test_what_a_mirror_cannot_do_is_refused_by_name(self):
        self.must('checkpoint-create-as', 'g', 'cp')
        target = ('--target', f'disk0={self.path("t")}', '--disk', 'disk0')
        for options, words in ((('--since', 'cp'), 'knows no bitmap'), (('--sync', 'top'), "sync='top'"), (('--compression', 'zlib'), 'cannot compress')):
            done = self.must('backup-begin', 'g', '--instant', 'end', *target, *options, rc=1)
            self.assertIn(words, done.err)
            self.assertIn("disk 'disk0'", done.err)
        self.assertFalse(os.path.exists(self.path('t')))
        done = self.baksh('backup-begin', 'g', '--mode', 'pull', '--instant', 'end')
        self.assertNotEqual(done.rc, 0)
        self.assertIn('instant', done.err)


class ThreadTest(bed.LiveTest):
    def test_a_disk_of_an_io_thread_is_exact_or_refused(self):
        vm = self.guest(disks=1, iothread=True)
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        done = self.baksh('backup-begin', 'g', '--instant', 'end', '--target', f'vda={self.path("copy")}', '--wait')
        if bed.version_tuple(self.version) < (9, 0):
            self.assertEqual(done.rc, 1, done)
            self.assertIn('I/O thread', done.err)
        else:
            self.assertEqual(done.rc, 0, done)
            self.assert_one_instant(self.path('copy'))
        self.assert_guest_works(vm)


if __name__ == '__main__':
    bed.main()
