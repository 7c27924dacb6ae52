#!/usr/bin/python3
"""What the guest and its manager do during a backup: each ends as docs/events-during-backup.md says."""
import contextlib
import json
import os
import signal
import subprocess
import unittest

import bed

SIZE = 16 << 20


class EngineTest(bed.LiveTest):
    """Without a guest: block_resize, external snapshot, migration, quit, kill, stop."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def push(self):
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("copy")}', '--limit', '4MiB')

    def pull(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}')

    def refused(self, command, **arguments):
        with self.assertRaises(bed.QmpError):
            self.vm.qmp.execute(command, **arguments)

    def assert_completed(self):
        self.must('backup-wait', 'g')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'completed')
        self.assertEqual(self.vm.ours(), [])

    def test_a_listener_hears_all_of_a_job_that_another_process_begins(self):
        listener = self.popen(bed.baksh_path(), '-q', 'event', '--domain', 'g', '--event', 'job-state', '--loop', '--timeout', '20', '--json', stdout=subprocess.PIPE, text=True,
                              env=self.environment)
        fds = f'/proc/{listener.pid}/fd'

        def listens():
            for fd in os.listdir(fds):
                with contextlib.suppress(FileNotFoundError):        # it was closed meanwhile
                    if 'inotify' in os.readlink(f'{fds}/{fd}'):
                        return True
            return False
        bed.wait_for('it listens', listens)
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("copy")}', '--wait')
        states = []
        for line in listener.stdout:
            states.append(json.loads(line)['state'])
            if 'completed' in states:
                break
        self.assertEqual(states, ['preparing', 'running', 'stopping', 'completed'])

    def test_a_resize_is_refused_by_qemu_and_the_backup_goes_on(self):
        self.push()
        self.refused('block_resize', node_name='disk0', size=2 * SIZE)
        self.assert_completed()

    def test_an_external_snapshot_and_the_backup_do_not_disturb_each_other(self):
        self.push()
        self.make_image('overlay.qcow2', SIZE)
        self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name='overlay', backing=None, file={'driver': 'file', 'filename': self.path('overlay.qcow2')})
        try:
            self.vm.qmp.execute('blockdev-snapshot', node='disk0', overlay='overlay')
        except bed.QmpError:
            pass
        self.assert_completed()
        run = bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', '-c', f'read -P 7 0 {SIZE}', self.path('copy'))
        self.assertNotIn('verification failed', run.stdout)

    def test_a_migration_is_not_stopped_by_us_and_the_backup_ends_in_a_state(self):
        self.push()
        try:
            self.vm.qmp.execute('migrate', uri=f'exec:cat > {self.path("vmstate")}')
        except bed.QmpError:
            pass
        done = self.baksh('backup-wait', 'g')
        state = self.json('backup-info', 'g')['state']
        self.assertEqual((done.rc, state), (0, 'completed') if state == 'completed' else (3, 'failed'))
        if self.vm.is_running() or bed.version_tuple(self.version) >= (6, 0):        # 5.2 ends itself when it gives up a disk that a job reads
            self.assertEqual(self.vm.ours(), [])

    def test_the_end_of_qemu_fails_a_push_and_a_pull(self):
        for begin in (self.push, self.pull):
            begin()
            self.vm.quit()
            self.must('backup-wait', 'g', rc=3)
            job = self.json('backup-info', 'g')
            self.assertEqual(job['state'], 'failed')
            self.assertTrue('shut down' in job['error'] or 'QEMU is gone' in job['error'], job)
            self.assertFalse(os.path.exists(self.path('copy')))
            self.vm.start()

    def test_a_qemu_that_is_stopped_by_a_signal_is_waited_for(self):
        self.push()
        with self.vm.stopped():
            info = self.baksh('backup-info', 'g', timeout=60)
            self.assertEqual(info.rc, 0, info)
        self.assert_completed()

    def test_nothing_waits_for_a_qemu_that_is_stopped_until_it_goes_on(self):
        with open(self.path('config'), 'w') as f:
            f.write('monitor_timeout = 1\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('config')
        for begin, asked in ((self.push, (['backup-limit', 'g', '8MiB'],)), (self.pull, ())):
            begin()
            with self.vm.stopped():
                for argv, rc in (*((argv, 1) for argv in asked), (['backup-stop', 'g'], 1), (['backup-stop', 'g', '--abort'], 0)):
                    done = self.must(*argv, rc=rc)      # while QEMU stands still: a hang is ended by the time limit
                    if argv == ['backup-stop', 'g']:
                        for word in ('does not answer', self.vm.qmp_path, '--abort'):
                            self.assertIn(word, done.err)
            job = self.json('backup-info', 'g')
            self.assertEqual(job['state'], 'aborted', job)
            self.assertIn('did not answer', job['error'])
            self.must('domblklist', 'g')
            self.assertEqual(self.vm.ours(), [])
            self.assertFalse(os.path.exists(self.path('copy')))

    def test_a_ready_pull_outlives_a_stop_that_qemu_did_not_answer(self):
        with open(self.path('config'), 'w') as f:
            f.write('monitor_timeout = 1\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('config')
        self.pull()
        with self.vm.stopped():
            self.must('backup-stop', 'g', rc=1)
        self.must('backup-stop', 'g')
        self.assert_completed()

    def test_the_death_of_the_owner_costs_a_push_nothing(self):
        self.push()
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        self.assert_completed()

    def test_a_state_directory_that_is_deleted_under_a_living_owner_ends_the_backup(self):
        import shutil
        for argv, made in ((('--target', f'disk0={self.path("t")}', '--limit', '1MiB', '--checkpoint', 'c1'), 't'),
                           (('--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--checkpoint', 'c1'), 'nbd')):
            with self.subTest(argv=argv):
                self.must('backup-begin', 'g', *argv)
                self.assertNotEqual(self.vm.ours(), [])
                shutil.rmtree(self.path('state'))
                os.mkdir(self.path('state'), 0o700)
                bed.wait_for('all of it is undone', lambda: not self.vm.ours() and not os.path.exists(self.path(made)) and not self.vm.bitmaps())
                self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def test_what_a_lost_push_was_writing_to_is_named(self):
        import shutil
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("t")}', '--limit', '1MiB')
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.path('state'))
        os.mkdir(self.path('state'), 0o700)
        done = self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.assertRegex(done.err, f"was writing to '{self.path('t')}'.*remove it")
        self.assertEqual(self.vm.ours(), [])

    def test_a_deleted_state_directory_leaves_nothing_in_qemu_after_the_next_attach(self):
        import shutil
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--checkpoint', 'c1')
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.path('state'))
        os.mkdir(self.path('state'), 0o700)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('dominfo', 'g')
        check = self.baksh('checkpoint-check', 'g')
        self.assertEqual(check.rc, 0, check)      # nobody knows that it was ours
        self.assertIn('c1', check.out)
        self.assertEqual(self.vm.ours(), [])


class StateTest(bed.LiveTest):
    """The state directory is full, read-only, damaged, of a newer version."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]))

    def begin(self, rc):
        return self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("copy")}', '--protect', 'no', '--wait', rc=rc)

    def fill(self, folder):
        with open(os.path.join(folder, 'ballast'), 'wb') as f, contextlib.suppress(OSError):
            while True:
                os.write(f.fileno(), bytes(4096))

    def test_a_full_state_directory_refuses_the_begin_and_says_so(self):
        small = self.small_fs('128K', 'small')
        self.environment['LIBBACKUP_STATE_DIR'] = small
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.fill(small)
        done = self.begin(1)
        self.assertIn('o space left on device', done.err)
        self.assertIn(small, done.err)
        self.assertEqual(self.vm.ours(), [])
        self.assertFalse(os.path.exists(self.path('copy')))

    def test_a_state_directory_that_fills_meanwhile_fails_the_push_and_the_record_says_so_when_it_can(self):
        small = self.small_fs('128K', 'small')
        self.environment['LIBBACKUP_STATE_DIR'] = small
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("copy")}', '--protect', 'no', '--checkpoint', 'c1', '--limit', '16MiB')
        self.fill(small)
        self.assertIn('o space left on device', self.must('backup-wait', 'g', rc=3).err)
        self.assertEqual(self.vm.ours(), [])
        self.assertFalse(os.path.exists(self.path('copy')))
        os.unlink(os.path.join(small, 'ballast'))
        self.must('domblklist', 'g')
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        self.assertTrue(job['error'])
        self.assertEqual((self.vm.bitmaps(), self.must('checkpoint-list', 'g', '--name').out.split()), ({}, []))

    @unittest.skipIf(os.environ.get('LIBBACKUP_TEST_DAEMON'), 'the owner is the daemon then, which the command asks')
    def test_an_owner_that_hangs_is_named_and_nothing_is_said_to_be_aborted(self):
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("copy")}', '--limit', '1MiB')
        watchers = self.watchers()
        for pid in watchers:
            os.kill(pid, signal.SIGSTOP)
        guest = self.path('state', 'guests', 'g')
        os.rename(guest + '/watcher.sock', guest + '/away')       # it would be waited for there for half a minute
        for how in ([], ['--abort']):
            done = self.must('backup-stop', 'g', *how, rc=5)
            for word in ("guest 'g'", guest + '/lock', 'does not answer'):
                self.assertIn(word, done.err)
        os.rename(guest + '/away', guest + '/watcher.sock')
        for pid in watchers:
            os.kill(pid, signal.SIGCONT)
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')

    def test_a_read_only_state_directory_refuses_the_begin_and_says_so(self):
        state = self.small_fs('1M', 'state-fs')
        self.environment['LIBBACKUP_STATE_DIR'] = state
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        bed.run('mount', '-o', 'remount,ro', state)
        done = self.begin(1)
        self.assertIn('Read-only file system', done.err)
        self.assertIn(state, done.err)
        self.assertEqual(self.vm.ours(), [])
        self.assertFalse(os.path.exists(self.path('copy')))
        bed.run('mount', '-o', 'remount,rw', state)
        self.begin(0)

    def test_a_target_that_fills_while_nobody_watches_is_told_by_the_next_command(self):
        small = self.small_fs('4M')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('backup-begin', 'g', '--target', f'disk0={small}/copy', '--limit', '4MiB')
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        bed.wait_for('the end of the job', lambda: [j for j in self.vm.qmp.execute('query-jobs') if j['status'] == 'concluded' and 'space' in j.get('error', '')])
        self.baksh('domblklist', 'g')
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        for word in ('o space left on device', f'{small}/copy', "disk 'disk0'"):
            self.assertIn(word, job['error'])
        self.assertEqual((self.vm.ours(), os.listdir(small)), ([], []))

    def spoil(self, text):
        """A begin is killed in the middle (a job of its own is running), and its journal becomes this."""
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("copy")}', '--limit', '64KiB')
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        journal = self.path('state', 'guests', 'g', 'journal')
        with open(journal) as f:
            old = f.read()
        with open(journal, 'w') as f:
            f.write(text(old))

    def test_a_truncated_journal_is_undone_by_names(self):
        self.spoil(lambda old: old[:len(old) // 3].split('\n')[0][:200])
        self.baksh('domblklist', 'g')
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed', job)
        self.assertIn('journal', job['error'])
        self.assertEqual(self.vm.ours(), [])
        self.assertEqual(os.listdir(self.path('state', 'guests', 'g', 'scratch')), [])

    def test_a_journal_of_a_newer_version_is_left_alone_or_undone_but_never_called_good(self):
        self.spoil(lambda old: old.replace('"version":1', '"version":99', 1))
        done = self.baksh('domblklist', 'g')
        job = self.json('backup-info', 'g')
        self.assertNotEqual(job['state'], 'completed')
        if done.rc:
            self.assertIn('version', done.err)
        else:
            self.assertEqual(self.vm.ours(), [])

    def test_a_damaged_definition_is_named_and_its_guest_can_be_forgotten(self):
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('attach', 'h', '--image', 'disk0=' + self.make_image('other.qcow2', SIZE))
        definition = self.path('state', 'guests', 'g', 'guest.json')
        for damage in (b'', b'\xff{', b'{"version": 99, "name": "g"}'):
            with open(definition, 'wb') as f:
                f.write(damage)
            done = self.must('domblklist', 'g', rc=1)
            for word in ("guest 'g'", definition, 'detach g'):
                self.assertIn(word, done.err)
            self.must('dominfo', 'h')
            self.must('detach', 'g')
            self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def test_an_ended_job_whose_journal_is_left_and_whose_qemu_is_gone_is_cleared_at_once(self):
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("copy")}', '--protect', 'no', '--limit', '64KiB')
        journal = self.path('state', 'guests', 'g', 'journal')
        with open(journal) as f:
            left = f.read()
        self.must('backup-stop', 'g', '--abort')
        bed.wait_for('the journal to end', lambda: not os.path.exists(journal))
        self.vm.kill()
        with open(journal, 'w') as f:      # as if the owner had died between the record and the journal's end
            f.write(left)
        self.assertEqual(self.baksh('checkpoint-create-as', 'g', 'cp', timeout=8).rc, 5)
        self.assertFalse(os.path.exists(journal), 'the journal is left')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')


class GuestTest(bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.vm = self.guest(disks=1, agent=False)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def push(self, rate='4MiB'):
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={self.path("copy")}', '--limit', rate)

    def reset(self):
        self.vm.qmp.execute('system_reset')

    def unplug(self):
        self.vm.qmp.execute('device_del', id='vda')

    def test_a_shutdown_of_the_guest_fails_the_push_and_names_it(self):
        self.push('1MiB')
        self.vm.power_off()
        self.must('backup-wait', 'g', rc=3)
        job = self.json('backup-info', 'g')
        self.assertEqual(job['state'], 'failed')
        self.assertIn('shut down', job['error'])
        self.assertFalse(os.path.exists(self.path('copy')))

    def test_a_reset_of_the_guest_does_not_end_the_push(self):
        self.push('16MiB')
        self.reset()
        self.must('backup-wait', 'g')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'completed')
        self.assertEqual(self.vm.ours(), [])

    def test_a_disk_that_is_unplugged_is_copied_to_the_end(self):
        self.push('16MiB')
        self.vm.stop_writing()
        self.unplug()
        self.must('backup-wait', 'g')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'completed')
        self.assertEqual(self.vm.ours(), [])


if __name__ == '__main__':
    bed.main()
