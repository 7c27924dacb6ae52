#!/usr/bin/python3
"""QEMU 2.7, which cannot be had: a fake of it (tests/fake/fakeqemu.py) takes only what that version took, and copies the data."""
import json
import os
import signal

import bed

MIB = 1 << 20
FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fake', 'fakeqemu.py')


class OldQemuTest(bed.LiveTest):
    versions = ('7.2',)         # the fake is the same everywhere

    def start(self, *rules):
        self.make_image('system.qcow2', 8 * MIB, data=[(0, MIB, 5), (4 * MIB, MIB, 6)])
        self.make_image('data.raw', 4 * MIB, fmt='raw', data=[(MIB, MIB, 7)])
        listener = bed.listen_unix(self.path('monitor'))
        self.addCleanup(listener.close)
        os.mkdir(self.path('out'))
        self.fake = self.popen('python3', FAKE, '--personality', '2.7', '--listen-fd', listener.fileno(), '--record', self.path('commands'),
                               '--disk', f'system={self.path("system.qcow2")}:qcow2', '--disk', f'data={self.path("data.raw")}',
                               '--qemu-img', bed.tool('qemu-img'), '--rules', json.dumps(rules),
                               pass_fds=[listener.fileno()], stdout=bed.subprocess.DEVNULL)
        self.must('attach', 'old', '--qmp', self.path('monitor'))

    def begin(self, *more, formats='qcow2', **kw):
        return self.baksh('backup-begin', 'old', '--target', f'system={self.path("out", "system")}', '--target',
                          f'data={self.path("out", "data")}', '--format', formats, *more, **kw)

    def sent(self):
        with open(self.path('commands')) as file:
            return [json.loads(line) for line in file]

    def sent_names(self):
        return [message.get('execute') for message in self.sent()]

    def assert_nothing_of_ours(self):
        """A fresh look: whoever owned the monitor is gone or shares it."""
        listed = self.listing('domblklist', 'old')
        self.assertEqual([disk['target'] for disk in listed], ['system', 'data'])
        # what was added was deleted, by the names it was added under
        added = [m['arguments']['options']['id'] for m in self.sent() if m.get('execute') == 'blockdev-add']
        deleted = [m['arguments'].get('id') for m in self.sent() if m.get('execute') == 'x-blockdev-del']
        self.assertEqual(sorted(set(added)), sorted(set(deleted)))

    def test_a_whole_push_is_exact(self):
        self.start()
        self.begin('--allow-unproved', '--wait')
        info = self.json('backup-info', 'old')
        self.assertEqual(info['state'], 'completed', info)
        for name, source in (('system', 'system.qcow2'), ('data', 'data.raw')):
            self.assert_same(self.path(source), self.path('out', name), 'raw' if name == 'data' else 'qcow2', 'qcow2')
        self.assertIn('unproved', json.dumps(info))
        self.assertEqual([disk['bytes'] for disk in info['disks']], [8 * MIB, 4 * MIB])
        self.assert_nothing_of_ours()
        names = set(self.sent_names())
        self.assertFalse(names & {'blockdev-create', 'blockdev-del', 'job-dismiss', 'query-jobs', 'blockdev-reopen'}, names)

    def test_raw_targets_too(self):
        self.start()
        done = self.begin('--allow-unproved', '--wait', formats='raw')
        self.assertEqual(done.rc, 0, done.err)
        self.assert_same(self.path('system.qcow2'), self.path('out', 'system'), 'qcow2', 'raw')
        self.assert_nothing_of_ours()

    def test_durability_that_cannot_be_proved_is_refused_unless_allowed(self):
        self.start()
        done = self.begin()
        self.assertIn(done.rc, (1, 4), done.err)
        self.assertRegex(done.err, 'unproved|cannot (show|prove)')
        self.assertNotIn('blockdev-add', self.sent_names())
        self.assert_files(self.path('out'))

    def test_a_stop_cancels_and_leaves_nothing(self):
        self.start({'command': 'transaction', 'do': 'job-stays'})
        self.assertEqual(self.begin('--allow-unproved').rc, 0)
        self.must('backup-stop', 'old', rc=3)
        self.assertEqual(self.json('backup-info', 'old')['state'], 'aborted')
        self.assert_nothing_of_ours()
        self.assert_files(self.path('out'))

    def test_a_job_that_fails_says_why_and_leaves_nothing(self):
        self.start({'command': 'transaction', 'do': 'job-error', 'error': 'No space left on device'})
        done = self.begin('--allow-unproved', '--wait')
        self.assertEqual(done.rc, 3, done.err)
        self.assertIn('No space left on device', done.out + done.err)
        self.assertEqual(self.json('backup-info', 'old')['state'], 'failed')
        self.assert_nothing_of_ours()
        self.assert_files(self.path('out'))

    def test_a_step_that_is_refused_is_undone(self):
        for number, command in ((1, 'blockdev-add'), (2, 'blockdev-add'), (4, 'blockdev-add'), (1, 'transaction')):
            with self.subTest(f'{command} {number}'):
                self.tearDown()
                self.doCleanups()
                self.setUp()
                self.start({'command': command, 'nth': number, 'do': 'error', 'desc': 'injected here'})
                done = self.begin('--allow-unproved', '--wait')
                self.assertEqual(done.rc, 1, done.err)
                self.assertIn('injected here', done.err)
                self.assert_files(self.path('out'))

    def test_a_result_that_nobody_heard_is_a_failure(self):
        """No job keeps its result before 3.0: who was not there when it ended cannot know it."""
        self.start({'command': 'transaction', 'do': 'job-waits', 'file': self.path('go')})
        self.assertEqual(self.begin('--allow-unproved').rc, 0)
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        open(self.path('go'), 'w').close()
        bed.wait_for('the jobs to end', lambda: os.path.exists(self.path('go.2')))
        self.baksh('backup-wait', 'old')
        info = self.json('backup-info', 'old')
        self.assertEqual(info['state'], 'failed', info)
        self.assert_nothing_of_ours()
        self.assert_files(self.path('out'))

    def test_an_owner_that_is_killed_is_succeeded(self):
        self.start({'command': 'transaction', 'do': 'job-stays'})
        self.assertEqual(self.begin('--allow-unproved').rc, 0)
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
        self.baksh('backup-stop', 'old', '--abort')
        self.assert_nothing_of_ours()
        self.assertIn(self.json('backup-info', 'old')['state'], ('aborted', 'failed'))
        self.assert_files(self.path('out'))


if __name__ == '__main__':
    bed.main()
