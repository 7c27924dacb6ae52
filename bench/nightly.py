#!/usr/bin/python3
"""The night of many guests that have not changed, beside what QEMU itself needs for it.

    nightly.py [--guests 20] [--parallel 2] [--nights 3]

Each guest is a bare block engine (-machine none) with one disk. A first night makes full points; nothing is written, and nights of increments
follow. Beside each night stand the bare commands of the same increments: what `backup-begin --dry-run` says, sent to each monitor by a client
that does nothing else, guest after guest. In a drawn order; the median of the pairs' ratios counts (goal 1.5).

The night does what the bare commands do not: it asks what there is, reads a sample of what should not have changed, writes a manifest and
makes it durable, drops the checkpoint before, keeps a report. Memory: the peak of the process for all guests beside that for a quarter of
them, as KiB more a guest (goal 128).

Exit status 0: both goals are met; 1: one was missed; 2: it could not be measured. BUILD_DIR names the build.
"""
import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402

MIB = 1 << 20
GOAL, GOAL_KIB = 1.5, 128
OPTIONS = None


class Bare:
    """One guest's increment by nothing but commands."""

    def __init__(self, plan):
        self.steps = plan['steps']

    def job_ends(self, qmp, job):
        deadline = bed.Deadline(30)
        while any(row['id'] == job and row['status'] not in ('concluded', 'pending') for row in qmp.execute('query-jobs')):
            if deadline.passed():
                raise AssertionError(f'job {job} does not end')

    def act(self, qmp, action):
        if 'qmp' in action:
            qmp.execute(action['qmp']['execute'], **action['qmp'].get('arguments', {}))
            return
        given = action.get('arguments', {})
        if action['action'] == 'file-create':
            with open(given['path'], 'x'):
                pass
        elif action['action'] in ('file-remove', 'socket-remove'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(given['path'])
        elif action['action'] in ('job-wait', 'job-wait-end'):
            self.job_ends(qmp, given['job'])

    def run(self, path):
        qmp = bed.Qmp.connect(path)
        for step in self.steps:
            self.act(qmp, step['do'])
        for step in reversed(self.steps):
            for undo in step.get('undo', []):
                with contextlib.suppress(bed.QmpError):     # what is not there any more, as a job that was dismissed
                    self.act(qmp, undo)
        qmp.sock.close()


class Nightly(bed.LiveTest):
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def start_guests(self):
        self.engines = {}
        for number in range(OPTIONS.guests):
            name = f'guest{number:03}'
            self.engines[name] = self.engine(self.make_image(f'{name}.qcow2', MIB, data=[(0, 65536, number % 255 + 1)]), name=name)
            self.must('attach', name, '--qmp', self.engines[name].qmp_path, '--disk', 'vda=disk0')

    def write_job(self, name, guests):
        with open(self.path('home', 'libbackup', 'jobs.d', f'{name}.conf'), 'w') as file:
            file.write(f'guests = {guests}\nrepository = {self.path("repository")}\nparallel = {OPTIONS.parallel}\nkeep = last 2\n')

    def night(self, job):
        """(seconds, KiB at the peak) of a whole run."""
        began = time.monotonic()
        process = subprocess.Popen([bed.baksh_path(), 'backup-run', job, '--json'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.environment)
        report = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        [run] = report['runs']
        self.assertEqual((process.returncode, run['counts']['good']), (0, len(run['guests'])), report)
        return seconds, usage.ru_maxrss, run

    def plans(self):
        """The bare commands of each guest's next increment."""
        plans = {}
        for name in self.engines:
            newest = self.json('checkpoint-list', name)['checkpoints'][-1]['name']
            plan = self.json('backup-begin', name, '--mode', 'pull', '--since', newest, '--checkpoint', 'bare', '--dry-run')
            plans[name] = Bare(plan)
        return plans

    def bare(self):
        plans = self.plans()
        began = time.monotonic()
        for name, plan in plans.items():
            plan.run(self.engines[name].qmp_path)
        return time.monotonic() - began

    def measure_pair(self):
        figures = {}
        for which in random.sample(('night', 'bare'), 2):
            if which == 'bare':
                figures['bare'] = self.bare()
            else:
                figures['night'], self.peak, run = self.night('all')
                self.assertEqual({row['type'] for row in run['guests']}, {'incremental'})
        return figures

    def report(self, pairs, quarter):
        ratio = statistics.median(pair['night'] / pair['bare'] for pair in pairs)
        night, bare = (statistics.median(pair[which] for pair in pairs) for which in ('night', 'bare'))
        more = (self.peak - quarter) / max(1, OPTIONS.guests - OPTIONS.guests // 4)
        print(f'{OPTIONS.guests} guests, {OPTIONS.parallel} at a time, QEMU {bed.qemu_version()}: a night {night:.2f} s ({1000 * night / OPTIONS.guests:.0f} ms a guest), '
              f'bare commands {bare:.2f} s ({1000 * bare / OPTIONS.guests:.0f} ms a guest): {ratio:.2f}x (goal {GOAL}x)')
        print(f'memory: {self.peak} KiB at the peak, {quarter} KiB for a quarter of them: {more:.0f} KiB more a guest (goal {GOAL_KIB})')
        OPTIONS.missed = ratio > GOAL or more > GOAL_KIB

    def test_measure(self):
        os.makedirs(self.path('home', 'libbackup', 'jobs.d'))
        self.must('repository-create', self.path('repository'))
        self.start_guests()
        quarter = max(1, OPTIONS.guests // 4)
        self.write_job('all', '*')
        self.write_job('quarter', ' '.join(list(self.engines)[:quarter]))
        self.night('all')
        _, first, _ = self.night('quarter')
        self.report([self.measure_pair() for _ in range(OPTIONS.nights)], first)


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('guests', 20), ('parallel', 2), ('nights', 3)):
        parser.add_argument(f'--{name}', type=int, default=default)
    OPTIONS = parser.parse_args()
    OPTIONS.missed = None
    result = unittest.TextTestRunner(verbosity=0, stream=sys.stderr).run(unittest.TestSuite([Nightly('test_measure')]))
    if not result.wasSuccessful() or OPTIONS.missed is None:
        return 2
    return 1 if OPTIONS.missed else 0


if __name__ == '__main__':
    sys.exit(main())
