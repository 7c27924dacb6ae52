#!/usr/bin/python3
"""The restore drill: the newest point boots in a machine that reaches nothing, is waited for, reported and thrown away."""
import glob
import os
import signal
import unittest

import bed
import test_night

SERVED = '/var/tmp/libbackup-serve-*'


def machines():
    """{pid: words} of the QEMUs that drills have started."""
    found = {}
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            with open(path, 'rb') as file:
                words = file.read().decode(errors='replace').split('\0')
        except OSError:
            continue
        if 'libbackup-drill' in words:
            found[int(path.split('/')[2])] = words
    return found


class DrillTest(test_night.Night):
    def setUp(self):
        super().setUp()
        self.qemu = bed.tool('qemu-system-x86_64', self.version)
        self.environment['XDG_RUNTIME_DIR'] = self.path()

    def ours(self):
        """Those of this test: its socket is in their command line."""
        return {pid: words for pid, words in machines().items() if self.directory in ' '.join(words)}

    def drill(self, *parts, **keys):
        self.job(drill=', '.join((*parts, f'qemu {self.qemu}')), **keys)

    def assert_gone(self):
        bed.wait_for('the machine to be gone', lambda: not self.ours())
        self.assertEqual([path for path in glob.glob(os.path.join(self.directory, '**', '*drill*'), recursive=True)], [])

    def test_the_newest_point_comes_up_by_its_agent_and_is_thrown_away(self):
        guest = self.guest(disks=2, rate=50)
        self.must('attach', 'g', '--qmp', guest.qmp_path, '--agent', guest.agent_path)
        self.drill('0.01s', 'at most 5m', metrics=self.path('night.prom'))
        run = self.run_job()
        [row] = run['drills']
        self.assertEqual((row['guest'], row['good'], row['proof'], row['error']), ('g', True, 'agent', None), run)
        self.assertEqual(row['point'], 'g@' + self.points('g')[0])
        self.assert_gone()
        self.must('point-verify', '--all', '--repository', self.repository)
        with open(self.path('night.prom')) as file:
            text = file.read()
        self.assertIn('libbackup_last_drill_status{job="nightly",domain="g"} 0\n', text)
        self.assertRegex(text, r'libbackup_last_drill_timestamp_seconds\{job="nightly",domain="g"\} \d+')
        self.assertRegex(self.must('backup-report', 'nightly').out, r'Restore drills\n.* came up in .* \(by its agent\)')
        guest.check_alive()
        self.assert_never_paused(guest)

    def test_words_of_the_console_are_waited_for_and_others_are_none(self):
        guest = self.guest(disks=1, rate=50)
        self.must('attach', 'g', '--qmp', guest.qmp_path)
        self.drill('0.01s', 'at most 5m', 'console ready')
        self.assertEqual(self.run_job()['drills'][0]['proof'], 'console')
        self.drill('0.01s', 'at most 20s', 'console no such words', 'memory 256M')
        [row] = self.run_job(rc=6)['drills']
        self.assertFalse(row['good'])
        self.assertIn('its console said last', row['error'])
        self.assert_gone()

    def test_a_guest_that_does_not_come_up_is_named_and_its_point_stays_good(self):
        self.running('a')
        self.drill('0.01s', 'at most 3s', metrics=self.path('night.prom'))
        run = self.run_job(rc=6)
        self.assertEqual((run['counts']['good'], run['counts']['undrilled']), (1, 1))
        [row] = run['drills']
        self.assertRegex(row['error'], 'neither did its agent answer nor did its console ask for a login within 3')
        self.assertIn('libbackup_last_drill_status{job="nightly",domain="a"} 1\n', open(self.path('night.prom')).read())
        self.must('backup-status', 'nightly')
        self.assert_gone()
        self.drill('0.01s', 'time 2s')         # to run for a while may be all that is asked for
        self.assertEqual(self.run_job()['drills'][0]['proof'], 'time')

    def test_a_machine_that_cannot_be_started_says_why(self):
        self.running('a')
        self.job(drill='0.01s, at most 3s, qemu /bin/false')
        self.assertIn('ended by itself', self.run_job(rc=6)['drills'][0]['error'])
        self.job(drill='0.01s, at most 3s, qemu /no/such/qemu')
        self.assertIn('/no/such/qemu', self.run_job(rc=6)['drills'][0]['error'])

    def test_each_guest_has_its_turn_and_none_a_second_one_before_it_is_due(self):
        for name in 'abc':
            self.off(name)
        self.drill('weekly', 'time 1s')
        seen = [[row['guest'] for row in self.run_job()['drills']] for _ in range(4)]
        self.assertEqual([len(names) for names in seen], [1, 1, 1, 0])
        self.assertEqual(sorted(sum(seen, [])), ['a', 'b', 'c'])

    def test_the_machine_reaches_nothing(self):
        self.running('a')
        self.drill('0.01s', 'time 5s')
        process = self.baksh_start('backup-run')
        bed.wait_for('the machine', self.ours)
        [(pid, words)] = self.ours().items()
        self.assertEqual(words[words.index('-nic') + 1], 'none')
        if os.geteuid() == 0:
            bed.wait_for('a network of its own', lambda: not self.ours() or
                         os.readlink(f'/proc/{pid}/ns/net') != os.readlink('/proc/self/ns/net'))
        self.assertEqual(process.wait(60), 0)

    def test_a_kill_in_the_middle_leaves_nothing(self):
        self.running('a')
        before = set(glob.glob(SERVED))
        self.drill('0.01s', 'time 200s')
        process = self.baksh_start('backup-run')
        bed.wait_for('the machine', self.ours)
        bed.wait_for('its disks to be open', lambda: not glob.glob(os.path.join(self.directory, '**', 'drill.sock'), recursive=True))
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assert_gone()
        self.assertEqual(set(glob.glob(SERVED)) - before, set())
        self.drill('0.01s', 'time 1s')
        self.assertEqual(self.run_job()['drills'][0]['proof'], 'time')

    def test_ctrl_c_ends_a_drill_in_order(self):
        self.running('a')
        self.drill('0.01s', 'time 200s')
        process = self.baksh_start('backup-run')
        bed.wait_for('the machine', self.ours)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        self.assert_gone()

    def test_a_drill_that_is_no_drill_is_refused(self):
        self.off('a')
        for value in ('sometimes', 'weekly, often', 'weekly, console', 'weekly, at most soon', 'weekly, qemu qemu', '0s', 'weekly, memory much'):
            self.job(drill=value)
            refused = self.must('backup-run', rc=2)
            self.assertIn(f"drill: '{value}' is not how often", refused.err)
        self.assertEqual(self.json('point-list', '--repository', self.repository)['points'], [])


if __name__ == '__main__':
    unittest.main()
