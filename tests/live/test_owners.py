#!/usr/bin/python3
"""Who owns a guest may come and go: clients go on, records stay true, and nobody waits for ever."""
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import threading

import bed
import daemon

MIB = 1 << 20


class StoppedTest(bed.LiveTest):
    """An owner that was stopped answers nobody: whoever needs it is told which process that is."""
    versions = ('7.2',)

    def test_a_watcher_that_is_stopped_is_named_and_goes_on_afterwards(self):
        disk = self.make_image('disk.qcow2', 16 * MIB, data=[(0, 16 * MIB, 7)])
        qemu = self.engine(disk)
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.must('backup-begin', 'g', '--target', self.path('t'), '--limit', '64KiB')
        watcher, = self.watchers()
        waits = self.popen(bed.baksh_path(), 'backup-wait', 'g', env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn('g: ', waits.stderr.readline())
        os.kill(watcher, signal.SIGSTOP)
        for argv in ('backup-info', 'g'), ('backup-stop', 'g', '--abort'), ('backup-limit', 'g', '0'), ('checkpoint-create-as', 'g', 'c'), ('domjobinfo', 'g'):
            with self.subTest(argv=argv):
                done = self.must(*argv, rc=5)
                self.assertIn(f'process {watcher} there is stopped', done.err)
                self.assertIn(f'kill -CONT {watcher}', done.err)
        _, err = waits.communicate(timeout=60 * bed.SLOW)
        self.assertEqual(waits.returncode, 5, err)
        self.assertIn(f'kill -CONT {watcher}', err)
        os.kill(watcher, signal.SIGCONT)
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')
        self.assert_same(disk, self.path('t'))
        self.assertEqual(qemu.ours(), [])

    def test_one_that_is_only_slow_is_waited_for(self):
        qemu = self.engine(self.make_image('disk.qcow2', 4 * MIB, data=[(0, 4 * MIB, 7)]))
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.must('backup-begin', 'g', '--target', self.path('t'), '--limit', '64KiB')
        qemu.process.send_signal(signal.SIGSTOP)
        goes_on = threading.Timer(5, qemu.process.send_signal, (signal.SIGCONT,))
        goes_on.start()
        self.addCleanup(goes_on.join)
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')

    def test_a_daemon_that_is_stopped_is_named(self):
        server = daemon.Daemon(self)
        os.kill(server.process.pid, signal.SIGSTOP)
        done = self.must('list', uri=f'qemu+unix:///system?socket={server.socket}', rc=5)
        self.assertIn(f'process {server.process.pid} there is stopped', done.err)
        os.kill(server.process.pid, signal.SIGCONT)
        self.must('list', uri=f'qemu+unix:///system?socket={server.socket}')


class StateTest(bed.LiveTest):
    """What is known of a guest may be taken away under a backup."""
    versions = ('7.2',)

    def test_a_wait_whose_state_directory_is_deleted_says_what_became_of_the_backup(self):
        qemu = self.engine(self.make_image('disk.qcow2', 16 * MIB, data=[(0, 16 * MIB, 7)]))
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.must('backup-begin', 'g', '--target', self.path('t'), '--limit', '64KiB')
        waits = self.popen(bed.baksh_path(), 'backup-wait', 'g', env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn('g: ', waits.stderr.readline())
        state = self.path('state')      # into which the owner may write meanwhile
        bed.wait_for('it is deleted', lambda: shutil.rmtree(state, ignore_errors=True) or not os.path.exists(state))
        _, err = waits.communicate(timeout=60 * bed.SLOW)
        self.assertEqual(waits.returncode, 3, err)
        self.assertRegex(err, "has no good end.*attach the guest again.*(state directory '.*state'|no backup job '.*' is recorded)")
        bed.wait_for('the end of the backup', lambda: not qemu.ours() and not os.path.exists(self.path('t')))
        done = self.must('backup-wait', 'g', rc=1)
        self.assertRegex(done.err, "state directory '.*state' knows of none.*attach g --qmp SOCKET.*was ended")
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.must('backup-begin', 'g', '--target', self.path('t'), '--wait')


class RestartTest(daemon.DaemonTest):
    """The daemon is restarted under clients that wait."""
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.qemu = self.engine(self.make_image('disk.qcow2', 64 * MIB, data=[(0, 32 * MIB, 7)]))
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('g', self.qemu, vda='disk0')
        self.uri = f'qemu+unix:///system?socket={self.daemon.socket}'

    def start(self, *words, **kw):
        return self.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**self.environment, **kw})

    def baksh_start(self, *words):
        return self.start(bed.baksh_path(), '-c', self.uri, *words)

    def runs(self):
        done = self.baksh('backup-info', 'g', '--json', uri=self.uri)
        return done.rc == 0 and json.loads(done.out)['state'] == 'running'

    def end_of(self, process, rc):
        out, err = process.communicate(timeout=60 * bed.SLOW)
        self.assertEqual(process.returncode, rc, (out, err))
        return out, err

    def test_a_wait_goes_on_when_the_daemon_is_restarted(self):
        for number, sig in enumerate((signal.SIGTERM, signal.SIGKILL)):
            waits = self.baksh_start('backup-begin', 'g', '--target', self.path(f't{number}'), '--limit', '4MiB', '--wait')
            bed.wait_for('the push runs', self.runs)
            self.daemon.restart(sig)
            self.must('backup-limit', 'g', '0', uri=self.uri)
            out, err = self.end_of(waits, 0)
            self.assertIn('Backup completed', out)
            self.assertIn('trying again', err)
            self.assertIn('is there again', err)

    def test_a_wait_for_a_daemon_that_stays_away_says_how_to_go_on(self):
        self.must('backup-begin', 'g', '--target', self.path('t'), '--limit', '1MiB', uri=self.uri)
        waits = self.baksh_start('backup-wait', 'g', '--timeout', '3')
        self.assertIn('g: ', waits.stderr.readline())
        self.daemon.stop()
        _, err = self.end_of(waits, 5)
        self.assertRegex(err, r"to wait again:  baksh -c '?qemu\+unix:.* backup-wait g ")

    @contextlib.contextmanager
    def ended_after(self, seconds, process):
        """What reads of it does not wait for ever."""
        timer = threading.Timer(seconds * bed.SLOW, process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def test_a_listener_hears_the_next_daemon(self):
        listens = self.baksh_start('event', '--domain', 'g', '--event', 'job-completed', '--loop', '--json')
        names = iter(range(1000))

        def backup():
            self.must('backup-begin', 'g', '--target', self.path(f't{next(names)}'), '--wait', uri=self.uri)
            return select.select([listens.stdout], [], [], 1)[0]
        bed.wait_for('it listens', backup)
        self.daemon.restart()
        self.assertIn('broke', listens.stderr.readline())
        self.assertIn('is there again', listens.stderr.readline())
        backup()
        heard = ''
        with self.ended_after(30, listens):
            while heard.count('"job-completed"') < 2:
                line = listens.stdout.readline()
                self.assertTrue(line, heard)
                heard += line
        listens.send_signal(signal.SIGINT)
        self.end_of(listens, 130)

    def test_the_example_of_an_event_loop_survives_a_restart(self):
        program = self.path('events')
        library = os.path.join(os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build'), 'src')
        bed.run('cc', os.path.join(bed.TOP, 'examples/events.c'), '-I', os.path.join(bed.TOP, 'include'), '-L', library, '-lbackup', f'-Wl,-rpath,{library}', '-o', program)
        xml = self.write('b.xml', f"<domainbackup><disks><disk name='vda' type='file'><target file='{self.path('t')}'/><limit bytes_per_sec='4194304'/></disk></disks></domainbackup>")
        follows = self.start(program, self.uri, 'g', xml)
        bed.wait_for('the push runs', self.runs)
        self.daemon.stop()
        # it ends while nobody can tell
        copy = next(job['device'] for job in self.qemu.qmp.execute('query-block-jobs') if job['speed'])
        self.qemu.qmp.execute('block-job-set-speed', device=copy, speed=0)
        bed.wait_for('the copy is done', lambda: {job['id']: job['status'] for job in self.qemu.qmp.execute('query-jobs')}.get(copy) in ('concluded', 'pending'))
        self.daemon.start()
        out, _ = self.end_of(follows, 0)
        self.assertIn('g: completed', out)


class EmptyDocumentTest(daemon.DaemonTest):
    versions = ('7.2',)

    def test_an_empty_document_is_none_by_every_way(self):
        qemu = self.engine(self.make_image('disk.qcow2', 8 * MIB))
        server = daemon.Daemon(self, config=f'target_dir = {self.directory}\n')
        server.attach('g', qemu, vda='disk0')
        empty, good = self.write('empty.xml', ''), self.write('b.xml', '<domainbackup/>')
        for command in (['backup-begin', 'g', empty], ['backup-begin', 'g', good, empty], ['checkpoint-create', 'g', empty]):
            rc, said = self.virsh(server.uri, *command)
            self.assertNotEqual(rc, 0, command)
            self.assertIn('the document is empty', said)
        self.assertEqual(self.must('checkpoint-list', 'g', '--name', uri=server.uri).out.strip(), '')
        self.assertEqual(self.listing('backup-list', 'g', uri=server.uri), [])


class KilledReaderTest(bed.LiveTest):
    versions = ('7.2',)

    def test_our_own_look_at_an_export_is_no_reader(self):
        vm = self.engine(self.make_image('disk.qcow2', 64 * MIB, data=[(0, 64 * MIB, 7)]))
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        for number in range(5):
            socket = self.path(f'nbd{number}')
            self.must('backup-begin', 'g', '--server', f'unix:{socket}', '--idle-timeout', '2')
            reader = self.popen('nbdcopy', f'nbd+unix:///disk0?socket={socket}', 'null:')
            reader.kill()
            reader.wait()
            bed.wait_for('it ends without a reader', lambda: self.json('backup-info', 'g')['state'] not in ('ready', 'stopping'), timeout=20)
            job = self.json('backup-info', 'g')
            self.assertEqual((job['state'], 'idle' in job['error']), ('failed', True), job)


class RefusedBeginTest(bed.LiveTest):
    """What never ran is no backup."""

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', 8 * MIB, data=[(0, MIB, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def test_refused_begins_leave_no_record_and_push_none_out(self):
        with open(self.path('there'), 'w') as f:
            f.write('x')
        self.must('backup-begin', 'g', '--target', self.path('good'), '--wait')
        good = self.json('backup-info', 'g')['id']
        for number in range(25):
            said = self.must('backup-begin', 'g', '--target', self.path('there' if number % 2 else 'no/such/folder'), rc=1).err
            self.assertIn('exists already' if number % 2 else 'does not exist', said)
        self.assertEqual([job['id'] for job in self.listing('backup-list', 'g')], [good])
        self.assertEqual(self.json('backup-info', 'g')['id'], good)
        self.must('backup-wait', 'g')
        self.must('backup-begin', 'g', '--target', self.path('next'), '--wait')
        self.assertEqual(len(self.listing('backup-list', 'g')), 2)

    def test_an_event_tells_of_a_refused_begin(self):
        listens = self.baksh_start('event', '--domain', 'g', '--event', 'job-completed', '--json', '--timeout', '60')

        def refused():
            self.must('backup-begin', 'g', '--target', '/no/such/folder/t', rc=1)
            return select.select([listens.stdout], [], [], 1)[0]
        bed.wait_for('it is told', refused)
        event = json.loads(listens.communicate()[0])
        self.assertEqual(event['state'], 'failed')
        self.assertIn('does not exist', event['text'])


if __name__ == '__main__':
    bed.main()
