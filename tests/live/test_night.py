#!/usr/bin/python3
"""The night: one command backs up all guests of a job, names each that it could not, and keeps no guest from the others."""
import contextlib
import datetime
import glob
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

import bed

MIB = 1 << 20


class Night(bed.LiveTest):
    """Bare block engines as guests, a repository, and jobs in jobs.d."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    size = 2 * MIB

    def setUp(self):
        super().setUp()
        self.repository = self.path('repository')
        self.must('repository-create', self.repository)
        self.jobs = self.path('home', 'libbackup', 'jobs.d')
        os.makedirs(self.jobs)
        self.engines = {}

    def job(self, name='nightly', **keys):
        keys = {'guests': '*', 'repository': self.repository, **keys}
        with open(os.path.join(self.jobs, f'{name}.conf'), 'w') as file:
            file.writelines(f'{key} = {value}\n' for key, value in keys.items() if value is not None)

    def running(self, name):
        disk = self.make_image(f'{name}.qcow2', self.size, data=[(0, MIB, len(self.engines) + 1)])
        self.engines[name] = self.engine(disk, name=name)
        self.must('attach', name, '--qmp', self.engines[name].qmp_path, '--disk', 'vda=disk0')
        return self.engines[name]

    def off(self, name):
        disk = self.make_image(f'{name}.qcow2', self.size, data=[(0, MIB, 77)])
        self.must('attach', name, '--image', f'vda={disk}')
        return disk

    def hung(self, name):
        """A monitor that somebody listens at who never answers."""
        path = self.path(f'{name}.sock')
        self.running(name)
        os.rename(self.engines[name].qmp_path, path + '.was')
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.engines[name].qmp_path)
        listener.listen(16)

    def run_job(self, *options, rc=0, job='nightly', **kw):
        [run] = self.json('backup-run', job, *options, rc=rc, timeout=300, **kw)['runs']
        return run

    def rows(self, run):
        return {row['guest']: row for row in run['guests']}

    def points(self, guest):
        return [p['id'] for p in self.json('point-list', guest, '--repository', self.repository)['points']]


class ChoiceTest(Night):
    def test_guests_are_chosen_by_patterns_and_new_ones_are_found(self):
        self.job(guests='web* db', exclude='*-clone')
        for name in ('web1', 'web-clone', 'db', 'other'):
            self.off(name)
        run = self.run_job()
        self.assertEqual({n: r['result'] for n, r in self.rows(run).items()}, {'db': 'good', 'web1': 'good'})
        self.off('web2')
        run = self.run_job()
        self.assertEqual({n: r['type'] for n, r in self.rows(run).items()}, {'db': 'incremental', 'web1': 'incremental', 'web2': 'full'})
        self.assertEqual(self.points('web-clone') if 'web-clone' in str(self.must('point-list', '--repository', self.repository).out) else [], [])

    def test_a_guest_may_be_named_and_must_be_one_of_the_job(self):
        self.job(exclude='c')
        for name in 'abc':
            self.off(name)
        self.assertEqual(list(self.rows(self.run_job('--domain', 'b'))), ['b'])
        run = self.run_job('--domain', 'c', rc=2)
        self.assertIn("no guest 'c'", run['error'])
        self.assertEqual(run['guests'], [])

    def test_guests_with_a_young_point_are_left_out_when_that_is_asked_for(self):
        self.job()
        self.off('a')
        self.run_job()
        self.off('b')
        self.assertEqual(list(self.rows(self.run_job('--older-than', '20h'))), ['b'])
        self.assertEqual(self.run_job('--older-than', '20h')['guests'], [])

    def test_a_job_that_means_no_guest_fails_and_says_so(self):
        self.job(guests='nobody')
        self.off('a')
        run = self.run_job(rc=2)
        self.assertIn("there is no guest that 'guests = nobody' means", run['error'])

    def test_a_guest_that_is_gone_is_told_of_once_and_one_renamed_goes_on(self):
        self.job()
        disk = self.off('old')
        self.off('other')
        self.run_job()
        self.must('detach', 'other')
        run = self.run_job()
        self.assertEqual(run['warnings'], ["guest 'other' was there last time and is not there now"])
        self.assertEqual(self.run_job()['warnings'], [])
        self.assertTrue(disk)


class WrongTest(Night):
    def wrong(self, expected, **keys):
        self.job(**keys)
        done = self.must('backup-run', rc=2)
        self.assertIn(expected, done.err)

    def test_every_wrong_line_is_named_before_a_guest_is_touched(self):
        self.off('a')
        path = os.path.join(self.jobs, 'nightly.conf')
        for expected, keys in (
                (f"{path}:3: unknown key 'paralel'; did you mean 'parallel'?", {'paralel': 2}),
                (f"{path}:3: parallel: '0' is not a number from 1 to 64", {'parallel': 0}),
                (f"{path}:3: keep: 'last x' is not rules", {'keep': 'last x'}),
                (f"{path}:3: keep: 'last 3; daily 7' is not rules", {'keep': 'last 3; daily 7'}),
                (f"{path}:3: timeout: 'soon' is not a duration", {'timeout': 'soon'}),
                (f"{path}:3: limit: '0' is not bytes a second", {'limit': 0}),
                (f"{path}:3: level: 'incremental' is not auto or full", {'level': 'incremental'}),
                (f"{path}:3: quiesce: 'maybe' is not", {'quiesce': 'maybe'}),
                (f"{path}:3: retry: '-1' is not", {'retry': -1}),
                (f"{path}:3: verify: '30d, 5' is not", {'verify': '30d, 5'}),
                (f"{path}:3: hook: '/nowhere' is not there", {'hook': '/nowhere'}),
                (f"{path}:3: hook: 'hooks' is not the absolute path", {'hook': 'hooks'}),
                (f"{path}:3: metrics: 'here.prom' is not an absolute path", {'metrics': 'here.prom'}),
                (f"{path}:3: report: 'fax me' is not", {'report': 'fax me'}),
                (f"{path}:3: report: 'mail' is not", {'report': 'mail'}),
                (f"{path}:2: repository: 'somewhere' is not", {'repository': 'somewhere'}),
                (f"{path}: 'guests' is missing", {'guests': None})):
            self.wrong(expected, **keys)
        self.assertFalse(os.path.exists(self.path('state', 'night')))
        with open(path, 'w') as file:
            file.write('guests = *\nguests = b\n')
        self.assertIn("nightly.conf:2: 'guests' was set already", self.must('backup-run', rc=2).err)
        with open(path, 'w') as file:
            file.write('guests\n')
        self.assertIn("nightly.conf:1: expected 'key = value'", self.must('backup-run', rc=2).err)

    def test_all_jobs_are_read_before_the_first_runs(self):
        self.off('a')
        self.job('a-good')
        self.job('b-bad', level='no')
        self.must('backup-run', rc=2)
        self.assertFalse(os.path.exists(self.path('state', 'night')))
        self.must('backup-run', 'a-good')

    def test_a_job_that_is_not_there_is_named_with_those_that_are(self):
        self.job()
        self.assertIn("there is no job 'weekly'; there are: nightly", self.must('backup-run', 'weekly', rc=2).err)
        os.unlink(os.path.join(self.jobs, 'nightly.conf'))
        self.assertIn(self.jobs, self.must('backup-run', rc=2).err)


class RunTest(Night):
    def test_good_guests_are_good_whatever_the_others_do(self):
        self.job(parallel=3, timeout='60s')
        self.running('on')
        self.off('off')
        self.running('dead').kill()
        self.hung('hung')
        run = self.run_job(rc=6)
        rows = self.rows(run)
        self.assertEqual({n: r['result'] for n, r in rows.items()}, {'on': 'good', 'off': 'good', 'dead': 'failed', 'hung': 'failed'})
        self.assertEqual({n: r['state'] for n, r in rows.items() if n in ('on', 'off')}, {'on': 'running', 'off': 'off'})
        self.assertEqual((rows['hung']['status'], rows['hung']['code']), (5, 'monitor-held'))
        self.assertTrue(rows['dead']['error'] and rows['hung']['error'])
        self.assertEqual({k: run['counts'][k] for k in ('guests', 'good', 'failed', 'refused')}, {'guests': 4, 'good': 2, 'failed': 2, 'refused': 0})
        self.assertEqual(rows['on']['point'], f'on@{self.points("on")[0]}')

    def test_a_run_in_which_all_failed_ends_with_3(self):
        self.job()
        self.running('dead').kill()
        run = self.run_job(rc=3)
        self.assertEqual(run['counts']['failed'], 1)

    def test_a_run_in_which_all_were_refused_ends_with_4(self):
        disk, other = (self.make_image(f'{name}.qcow2', self.size, data=[(0, MIB, 5)]) for name in ('one', 'other'))
        first = self.engine(disk, name='vm', extra=['-uuid', '17171717-1111-4222-8333-944444444444'])
        self.must('attach', 'one', '--qmp', first.qmp_path)
        first.quit()
        self.engine(other, name='vm', extra=['-uuid', '71717171-1111-4222-8333-944444444444'])      # another guest sits at its monitor
        self.job()
        run = self.run_job(rc=4)
        self.assertEqual((run['counts']['refused'], run['counts']['failed']), (1, 0))
        row = self.rows(run)['one']
        self.assertEqual((row['result'], row['status']), ('refused', 4))
        self.assertIn('another guest', row['error'])
        self.off('good')
        self.run_job(rc=6)

    def test_rules_are_applied_to_a_guest_after_its_success_only(self):
        self.job(keep='last 2')
        self.running('a')
        for _ in range(2):
            self.run_job()
        first = self.points('a')
        run = self.run_job('--dry-run')
        self.assertEqual((self.rows(run)['a']['result'], self.points('a')), ('planned', first))
        run = self.run_job()
        self.assertEqual(self.rows(run)['a']['pruned'], first[:1])
        before = self.points('a')
        self.assertEqual(len(before), 2)
        self.engines['a'].kill()
        self.job(keep='last 1')
        self.run_job(rc=3)
        self.assertEqual(self.points('a'), before)

    def test_a_failed_guest_is_tried_again_at_the_end(self):
        self.job(retry=1)
        self.running('a-dead').kill()
        self.off('b')
        done = self.must('backup-run', '--json-lines', rc=6)
        lines = [json.loads(line) for line in done.out.splitlines()]
        order = [(line['guest'], line['attempt']) for line in lines if line['type'] == 'guest-start']
        self.assertEqual(order, [('a-dead', 1), ('b', 1), ('a-dead', 2)])
        self.assertEqual((lines[0]['type'], lines[-1]['type']), ('run-start', 'summary'))
        self.assertEqual(self.rows(lines[-1])['a-dead']['attempts'], 2)

    def test_everything_is_read_when_the_last_full_read_is_too_old(self):
        self.job(full_every='1s')
        self.off('a')
        self.assertEqual(self.rows(self.run_job())['a']['reason'], 'it is the first point')
        self.job(full_every='1d')
        self.assertEqual(self.rows(self.run_job())['a']['type'], 'incremental')
        time.sleep(1)
        self.job(full_every='1s')
        row = self.rows(self.run_job())['a']
        self.assertEqual(row['type'], 'full')
        self.assertIn('full_every: all was read last at', row['reason'])
        self.job(level='full')
        row = self.rows(self.run_job())['a']
        self.assertEqual((row['type'], row['reason']), ('full', 'level = full'))

    def test_the_limit_is_that_of_all_guests_together(self):
        self.job(limit='1M', parallel=2)
        for name in 'ab':
            self.off(name)
        begin = time.monotonic()
        self.run_job()
        # 2 MiB at 1 MiB/s; each guest alone would take one second
        self.assertGreater(time.monotonic() - begin, 1.5)

    def test_a_guest_that_takes_too_long_is_given_up(self):
        self.job(limit='64K', timeout='2s')
        self.off('slow')
        row = self.rows(self.run_job(rc=3))['slow']
        self.assertEqual((row['result'], row['code']), ('failed', 'timeout'))
        self.assertEqual(self.points('slow') if row['points'] else [], [])

    def test_a_dry_run_changes_nothing_and_says_what_and_why(self):
        self.job()
        self.off('a')
        done = self.must('backup-run', '--dry-run')
        self.assertIn(' a (off): full', done.out)
        self.assertFalse(os.path.exists(self.path('state', 'night')))
        self.assertEqual(self.json('point-list', '--repository', self.repository)['points'], [])


class TogetherTest(Night):
    def start_slow(self):
        self.job(limit='64K')
        self.off('a')
        process = self.baksh_start('backup-run', '--json-lines')
        while json.loads(process.stdout.readline())['type'] != 'progress':
            pass
        return process

    def test_one_run_of_a_job_at_a_time(self):
        process = self.start_slow()
        done = self.must('backup-run', rc=1)
        self.assertRegex(done.err, rf"job 'nightly' runs since 20.* \(process {process.pid}\)")
        self.must('backup-run', '--dry-run', rc=3)      # not of the lock: the guest has a backup
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        summary = json.loads(out.splitlines()[-1])
        self.assertEqual((process.returncode, summary['type'], summary['counts']['interrupted']), (130, 'summary', 1))
        self.job()
        self.assertEqual(self.run_job()['warnings'], [])

    def test_a_run_that_was_killed_is_told_of_and_the_next_is_clean(self):
        process = self.start_slow()
        process.kill()
        process.wait()
        self.job()
        run = self.run_job()
        self.assertEqual(len(run['warnings']), 1)
        self.assertIn('did not come to its end', run['warnings'][0])
        self.assertEqual(len(self.points('a')), 1)
        self.must('repository-check', self.repository, '--read-data')


class MorningTest(Night):
    """What is told of a run, and to whom."""

    def program(self, name, text):
        path = self.path(name)
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\n{text}\n')
        os.chmod(path, 0o755)
        return path

    def said(self, name='said'):
        with contextlib.suppress(FileNotFoundError), open(self.path(name)) as file:
            return file.read()
        return ''

    def metrics(self):
        with open(self.path('night.prom')) as file:
            text = file.read()
        self.assertTrue(text.endswith('# EOF\n'))
        return {line.rsplit(' ', 1)[0]: float(line.rsplit(' ', 1)[1]) for line in text.splitlines() if not line.startswith('#')}

    def test_reports_are_kept_and_shown_again(self):
        self.job()
        self.off('a')
        first = self.run_job()
        self.running('dead').kill()
        shown = self.must('backup-run', rc=6).out
        self.assertRegex(shown, r"Job 'nightly': 1 of 2 guests failed: dead\n")
        self.assertRegex(shown, r'(?m)^ a +good +increment ')
        self.assertRegex(shown, r'(?m)^ dead +FAILED +- ')
        self.assertEqual(self.must('backup-report', 'nightly').out, shown)
        listed = self.json('backup-report', '--list')['runs']
        self.assertEqual(len(listed), len({run['id'] for run in listed}))
        self.assertEqual(listed[0]['id'], first['id'])
        [again] = self.json('backup-report', 'nightly', '--run', first['id'])['runs']
        self.assertEqual(again, first)
        self.assertIn('no such report is kept', self.must('backup-report', 'nightly', '--run', '../guests', rc=1).err)

    def test_hooks_are_told_what_happens(self):
        os.mkdir(self.path('hooks'))
        self.program('hooks/10-tell', f'echo "$1 $LIBBACKUP_GUEST $LIBBACKUP_RESULT $LIBBACKUP_STATUS" >> {self.path("said")}\ncat > {self.path("facts")}-$1')
        self.program('hooks/20-other~', f'echo backup >> {self.path("said")}')
        self.job(hook=self.path('hooks'))
        self.off('a')
        self.running('dead').kill()
        self.run_job(rc=6)
        self.assertEqual(self.said().splitlines(), ['job-start   ', 'guest-start a  ', 'guest-end a good 0', 'guest-start dead  ',
                                                    'guest-failed dead failed 5', 'job-failed   6'])
        facts = json.loads(self.said('facts-guest-end'))
        self.assertEqual((facts['phase'], facts['job'], facts['guest'], facts['final'], facts['repository']), ('guest-end', 'nightly', 'a', True, self.repository))
        self.assertEqual(json.loads(self.said('facts-job-failed'))['counts']['good'], 1)
        self.must('detach', 'dead')
        os.unlink(self.path('said'))
        self.run_job()
        self.assertEqual(self.said().splitlines()[-1], 'job-end   0')

    def test_a_hook_leaves_a_guest_out_with_or_without_alarm(self):
        for name in 'abc':
            self.off(name)
        self.job(hook=self.program('hook', 'case $1-$LIBBACKUP_GUEST in guest-start-a) exit 75;; guest-start-b) exit 1;; esac'))
        rows = self.rows(self.run_job(rc=6))
        self.assertEqual({n: r['result'] for n, r in rows.items()}, {'a': 'skipped', 'b': 'failed', 'c': 'good'})
        self.assertIn('guest-start: hook', rows['b']['error'])
        self.assertEqual(rows['a']['status'], 0)
        self.job(hook=self.program('hook', 'case $1-$LIBBACKUP_GUEST in guest-start-*) exit 75;; esac'))
        self.assertEqual(self.run_job()['counts']['skipped'], 3)

    def test_a_hook_takes_the_alarm_from_a_failure(self):
        self.running('dead').kill()
        self.off('a')
        self.job(hook=self.program('hook', 'case $1 in guest-failed) exit 75;; esac'))
        rows = self.rows(self.run_job())
        self.assertEqual(rows['dead']['result'], 'skipped')
        self.assertTrue(rows['dead']['error'])

    def test_the_first_hook_can_stop_the_job(self):
        self.off('a')
        self.job(hook=self.program('hook', 'case $1 in job-start) exit 3;; esac'))
        run = self.run_job(rc=3)
        self.assertIn('job-start: hook', run['error'])
        self.job(hook=self.program('hook', 'case $1 in job-start) exit 75;; esac'))
        self.assertEqual(self.run_job()['counts']['skipped'], 1)
        self.assertEqual(self.json('point-list', '--repository', self.repository)['points'], [])

    def test_a_hook_that_hangs_is_ended_with_all_that_it_began(self):
        self.off('a')
        self.job(hook=self.program('hook', f'case $1 in guest-end) sleep 1000 & echo $! > {self.path("said")}; wait;; esac') + ', at most 1s')
        row = self.rows(self.run_job())['a']
        self.assertEqual(row['result'], 'good')
        self.assertIn('did not end within', row['warnings'][0])
        bed.wait_for('the child to be gone', lambda: not os.path.exists(f'/proc/{self.said().strip()}') or
                     open(f'/proc/{self.said().strip()}/stat').read().split()[2] == 'Z')

    def test_metrics_never_freshen_a_success_that_was_none(self):
        self.job(metrics=self.path('night.prom'))
        self.running('a')
        self.off('b')
        self.run_job()
        before = self.metrics()
        success = 'libbackup_last_success_timestamp_seconds{job="nightly",domain="a"}'
        run = 'libbackup_last_run_timestamp_seconds{job="nightly",domain="a"}'
        self.assertEqual(before['libbackup_last_status{job="nightly",domain="a"}'], 0)
        self.assertEqual(before['libbackup_last_run_guests{job="nightly",result="good"}'], 2)
        self.engines['a'].kill()
        self.run_job(rc=6)
        after = self.metrics()
        self.assertEqual(after[success], before[success])
        self.assertGreater(after[run], before[run])
        self.assertNotEqual(after['libbackup_last_status{job="nightly",domain="a"}'], 0)
        self.assertGreater(after[success.replace('"a"', '"b"')], before[success.replace('"a"', '"b"')])
        # a run that comes to no guest writes too, and forgets nothing
        os.rename(self.repository, self.repository + '.away')
        for _ in range(2):
            self.run_job(rc=3)
        last = self.metrics()
        self.assertEqual(last[success], before[success])
        self.assertEqual(last['libbackup_job_last_status{job="nightly"}'], 3)
        self.assertGreater(last['libbackup_job_last_run_timestamp_seconds{job="nightly"}'], after['libbackup_job_last_run_timestamp_seconds{job="nightly"}'])
        self.assertEqual(os.listdir(self.directory).count('night.prom'), 1)
        self.assertEqual([n for n in os.listdir(self.directory) if n.startswith('night.prom.')], [])

    def test_two_jobs_share_a_metrics_file(self):
        self.job('one', metrics=self.path('night.prom'), guests='a')
        self.job('two', metrics=self.path('night.prom'), guests='b')
        for name in 'ab':
            self.off(name)
        self.must('backup-run')
        self.must('backup-run', 'one')
        seen = self.metrics()
        self.assertEqual((seen['libbackup_job_last_status{job="one"}'], seen['libbackup_job_last_status{job="two"}']), (0, 0))
        self.assertIn('libbackup_last_success_timestamp_seconds{job="two",domain="b"}', seen)

    def test_the_report_is_mailed_and_a_mail_that_fails_is_a_warning(self):
        self.program('sendmail', f'echo "$@" > {self.path("said")}; cat >> {self.path("said")}')
        self.environment['PATH'] = f'{self.directory}:{os.environ["PATH"]}'
        self.job(report='mail root@example.org')
        self.off('a')
        self.run_job()
        lines = self.said().splitlines()
        self.assertEqual(lines[:2], ['-t -i', 'To: root@example.org'])
        self.assertRegex(lines[2], r'^Subject: nightly \(.+\): all of 1 guests are good$')
        self.assertIn('', lines)
        self.assertTrue(any(line.startswith(' a ') for line in lines))
        self.program('sendmail', 'exit 67')
        self.assertIn('exit status 67', self.run_job()['warnings'][0])
        self.job(report=f'command {self.program("take", "cat > " + self.path("taken"))} now')
        self.run_job()
        self.assertIn("Job 'nightly': all of 1 guests are good", self.said('taken'))

    def test_status_goes_by_the_points_that_there_are(self):
        self.job()
        self.off('a')
        self.assertEqual(self.json('backup-status', rc=6)['stale'], 1)
        self.run_job()
        [guest] = self.json('backup-status')['guests']
        self.assertEqual((guest['guest'], guest['fresh']), ('a', True))
        self.must('backup-status', '--older-than', '0.001', rc=6)
        shown = self.must('backup-status', '--metrics').out
        self.assertRegex(shown, r'(?m)^libbackup_newest_point_timestamp_seconds\{job="nightly",domain="a"\} \d+\.\d+$')
        self.assertIn('\nlibbackup_stale_guests 0\n', shown)
        self.off('b')
        rows = {g['guest']: g['newest'] for g in self.json('backup-status', 'nightly', rc=6)['guests']}
        self.assertIsNone(rows['b'])

    def test_points_are_read_again_the_oldest_look_first_and_damage_is_an_alarm(self):
        self.job(verify='1s, at most 2M')
        self.off('a')
        first = self.run_job()
        self.assertEqual(first['verified'], [])
        time.sleep(1.1)
        self.run_job()
        time.sleep(1.1)
        run = self.run_job()
        self.assertEqual(len(run['verified']), 1)   # the budget is one disk
        self.assertTrue(run['verified'][0]['good'])
        point = next(p for p in self.json('point-list', 'a', '--repository', self.repository)['points'] if f'a@{p["id"]}' == run['verified'][0]['point'])
        self.assertIsNotNone(point['verified'])
        image = self.json('point-list', 'a', '--repository', self.repository)['points'][0]['disks'][0]['path']
        with open(image, 'r+b') as file:
            file.seek(os.path.getsize(image) - 4096)
            file.write(os.urandom(4096))
        time.sleep(1.1)
        self.job(verify='1s')
        run = self.run_job(rc=6)
        self.assertGreaterEqual(run['counts']['damaged'], 1)
        self.assertTrue([row for row in run['verified'] if not row['good'] and row['error']])


class UnitTest(Night):
    """What the systemd unit leaves a run of root's powers, of the file system and of the kernel's calls is enough."""

    def test_a_run_with_hooks_within_the_sandbox_of_the_unit(self):
        if os.geteuid() != 0 or subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode:
            raise unittest.SkipTest('needs root and mount namespaces')
        bed.need('systemd-analyze', 'systemd')
        path = os.path.join(bed.TOP, 'data/systemd/libbackup-run@.service.in')
        with open(path) as file:
            unit = file.read()
        capabilities = re.search(r'^CapabilityBoundingSet=(.*)$', unit, re.M)[1].lower().replace('cap_', '+').split()
        program = self.path('sandbox')
        with open(program, 'w') as file:
            file.write('for d in /usr /etc /boot; do [ ! -d $d ] || { mount --bind $d $d && mount -o remount,bind,ro $d; } || exit 99; done\n'
                       f'exec setpriv --bounding-set=-all,{",".join(capabilities)} --inh-caps=-all {sys.executable} '
                       f'{os.path.join(bed.TOP, "tests/live/seccomp.py")} {path} "$@"\n')
        hook = self.path('hook')
        with open(hook, 'w') as file:
            file.write(f'#!/bin/sh\necho $1 >> {self.path("said")}\n! touch /etc/libbackup-was-here 2>/dev/null\n')
        os.chmod(hook, 0o755)
        self.job(hook=hook, metrics=self.path('night.prom'))
        self.running('on')
        self.off('off')
        self.prefix = ('unshare', '-m', 'sh', program)
        run = self.run_job()
        self.assertEqual((run['counts']['good'], run['counts']['warnings']), (2, 0), run)
        self.assertEqual(open(self.path('said')).read().count('guest-end'), 2)


class SevenNightsTest(Night):
    """Guests of all kinds, seven nights in a row: yesterday is made by moving what is there a day into the past.
    LIBBACKUP_TEST_NIGHTS=7 has seven, a short form has three."""

    def a_day_passes(self):
        for path in glob.glob(os.path.join(self.repository, '*', '*', 'manifest.json')):
            with open(path) as file:
                text = file.read()
            document = json.loads(text)
            old = document['instant']
            moved = datetime.datetime.fromisoformat(old.replace('Z', '+00:00')) - datetime.timedelta(days=1)
            text = text.replace(old, moved.strftime('%Y-%m-%dT%H:%M:%S.%f' if '.' in old else '%Y-%m-%dT%H:%M:%S') + 'Z')
            text = text.replace(document['self'], '0' * 64)
            text = text.replace('"' + '0' * 64 + '"', '"' + hashlib.sha256(text.encode()).hexdigest() + '"')
            with open(path, 'w') as file:
                file.write(text)

    def test_every_good_guest_has_its_points_and_each_bad_one_its_reason(self):
        nights = int(os.environ.get('LIBBACKUP_TEST_NIGHTS', '3'))
        self.job(parallel=3, keep='last 1, daily 3', metrics=self.path('night.prom'), timeout='60s')
        for name in ('on1', 'on2', 'old-name'):
            self.running(name)
        for name in ('off1', 'off2'):
            self.off(name)
        self.running('dead').kill()
        self.hung('hung')
        bad, good = {'dead', 'hung'}, {'on1', 'on2', 'off1', 'off2'}
        for night in range(nights):
            if night:
                self.a_day_passes()
            if night == 2:
                process = self.baksh_start('backup-run')
                time.sleep(self.random.uniform(0.05, 1))
                process.kill()
                process.wait()
            run = self.run_job(rc=6)
            rows = self.rows(run)
            self.assertEqual({n for n, r in rows.items() if r['result'] != 'good'}, bad, run)
            for name in bad:
                self.assertTrue(rows[name]['error'])
                self.assertEqual((rows[name]['attempts'], rows[name]['points']), (1, 0))
            for name in good:
                self.assertLessEqual(len(self.points(name)), 4)
                self.assertGreaterEqual(len(self.points(name)), min(night + 1, 4))
                if night and night != 2:
                    self.assertEqual((rows[name]['type'], rows[name]['reason']), ('incremental', None))
            self.engines['on1'].io('disk0', f'write -q -P {night + 1} {night * 65536} 64k')
        with open(self.path('night.prom')) as file:
            text = file.read()
        self.assertNotIn('libbackup_last_success_timestamp_seconds{job="nightly",domain="hung"}', text)
        self.must('backup-status', rc=6)
        self.must('repository-check', self.repository, '--read-data')

    # twenty guests

    def both(self, name):
        """Attached by monitor and image: it is switched on and off."""
        disk = self.make_image(f'{name}.qcow2', self.size, data=[(0, MIB, 55)])
        self.engines[name] = self.engine(disk, name=name)
        self.must('attach', name, '--qmp', self.engines[name].qmp_path, '--image', f'vda={disk}')

    def named(self, name, uuid):
        disk = self.path('renamed.qcow2')
        if 'renamed' not in self.engines:
            self.make_image('renamed.qcow2', self.size, data=[(0, MIB, 66)])
            self.engines['renamed'] = self.engine(disk, name='renamed', extra=['-uuid', uuid])
        self.must('attach', name, '--qmp', self.engines['renamed'].qmp_path, '--disk', 'vda=disk0')

    def full(self, name):
        """Where its backup's own files go there is no room."""
        self.running(name)
        small = self.small_fs('32K')
        folder = self.state_dir(name)
        for entry in os.listdir(folder):
            bed.run('cp', '-a', os.path.join(folder, entry), small)
        bed.run('mount', '--bind', small, folder)
        self.addCleanup(lambda: bed.run('umount', '-l', folder, check=False))
        with contextlib.suppress(OSError), open(os.path.join(folder, 'fills-it'), 'wb') as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def change(self, night):
        """What guests do by day; those of both kinds are switched over."""
        for name, engine in self.engines.items():
            if name in ('dead', 'hung') or not engine.is_running():
                continue
            engine.io('disk0', f'write -q -P {night + 1} {(night % 7) * 65536} 64k')
            engine.io('disk0', 'flush')
        for name in self.twenty['both']:
            (self.engines[name].quit if self.engines[name].is_running() else self.engines[name].start)()

    def images_of(self):
        return {name: self.path(('renamed' if name in ('new-name', 'old-name') else name) + '.qcow2') for name in self.good}

    def assert_exact(self):
        """The newest point of each good guest is its disk, byte for byte."""
        for name, image in self.images_of().items():
            [disk] = self.json('point-info', f'{name}@latest', '--repository', self.repository)['disks']
            self.img('compare', '-U', image, disk['path'])

    def killed_in_the_middle(self):
        process = self.baksh_start('backup-run')
        time.sleep(self.random.uniform(0.05, 4))
        process.kill()
        process.wait()

    def test_twenty_guests_of_all_kinds_and_a_kill_in_the_middle_of_each_night(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest('a file system that is full needs root')
        nights = int(os.environ.get('LIBBACKUP_TEST_NIGHTS', '2'))
        uuid = '77777777-1111-4222-8333-944444444444'
        with open(self.path('sendmail'), 'w') as file:
            file.write(f'#!/bin/sh\ncat > {self.path("mail")}\n')
        os.chmod(self.path('sendmail'), 0o755)
        self.environment['PATH'] = f'{self.directory}:{os.environ["PATH"]}'
        self.job(parallel=3, keep='last 1, daily 3', metrics=self.path('night.prom'), timeout='60s', report='mail root@example.org', quiesce='if-agent')
        self.twenty = {'running': [f'on{n}' for n in range(6)], 'off': [f'off{n}' for n in range(6)], 'both': [f'both{n}' for n in range(3)]}
        for kind, names in self.twenty.items():
            for name in names:
                getattr(self, kind)(name)
        self.named('old-name', uuid)
        self.running('no-agent')
        self.running('dead').kill()
        self.hung('hung')
        self.full('full')
        bad = {'dead', 'hung', 'full'}
        for night in range(nights):
            self.good = {name for names in self.twenty.values() for name in names} | {'no-agent', 'new-name' if night else 'old-name'}
            if night == 1:
                self.must('detach', 'old-name')
                self.named('new-name', uuid)
            if night:
                self.a_day_passes()
            self.change(night)
            self.killed_in_the_middle()
            run = self.run_job(rc=6)
            rows = self.rows(run)
            self.assertEqual({n for n, r in rows.items() if r['result'] != 'good'}, bad, run)
            self.assertEqual(set(rows), self.good | bad)
            self.assertEqual(run['counts']['guests'], 20)
            self.assert_exact()
            for name in bad:
                self.assertTrue(rows[name]['error'], name)
                self.assertEqual(rows[name]['points'], 0)
            for name in self.good - {'new-name', 'old-name'}:
                self.assertLessEqual(len(self.points(name)), 4)
                self.assertGreaterEqual(len(self.points(name)), min(night + 1, 3))
            with open(self.path('mail')) as file:
                mail = file.read()
            self.assertRegex(mail, r'Subject: nightly \(.+\): 3 of 20 guests failed: ')
            for name in bad:
                self.assertRegex(mail, rf'(?m)^ {name}: ')
            with open(self.path('night.prom')) as file:
                text = file.read()
            for name in self.good | bad:
                line = f'libbackup_last_success_timestamp_seconds{{job="nightly",domain="{name}"}}'
                self.assertEqual(line in text, name in self.good, name)
        for name, engine in self.engines.items():
            if name not in bad and engine.is_running():
                self.assertEqual(engine.ours(), [], name)
        self.must('backup-status', rc=6)
        self.must('repository-check', self.repository, '--read-data')


if __name__ == '__main__':
    unittest.main()
