#!/usr/bin/python3
"""A sample of the fault matrix (faults.py runs all of it), and the proof that it would notice a missing undo."""
import os
import random
import re
from unittest import mock

import bed
import faults

CASES, PLANS = {'7.2': 60}, {'7.2': 10}     # on the others fewer
FEWER_CASES, FEWER_PLANS = 20, 4


class SampleTest(faults.Matrix):
    def test_a_sample_of_the_fault_matrix_holds(self):
        rng = random.Random(self.seed)
        plans = sorted(rng.sample(range(len(faults.PLANS)), PLANS.get(self.version, FEWER_PLANS)))
        failures = self.matrix(CASES.get(self.version, FEWER_CASES), self.seed, plans)
        self.assertEqual(failures, [], f'seed {self.seed}')


class IothreadTest(faults.Matrix):
    iothread = True

    def test_a_sample_on_io_threads_holds(self):
        plans = random.Random(self.seed).sample([n for n, plan in enumerate(faults.PLANS) if self.can(plan)], FEWER_PLANS)
        self.assertEqual(self.matrix(FEWER_CASES, self.seed, plans), [], f'seed {self.seed}')


class MigrationTest(faults.Matrix):
    def test_a_migration_at_any_step_is_refused_or_ends_the_backup(self):
        """Before the barrier stands it is taken; from then on to the end of the last undo QEMU refuses it."""
        taken = set()
        self.bring_up(1)
        for plan in (dict(zip(('mode', 'kind', 'disks', 'checkpoint', 'protect'), (mode, 'full', 1, True, 'yes'))) for mode in ('push', 'pull')):
            steps = len(self.steps_of(plan))
            for step in (0, 1, steps // 2, steps - 2, steps - 1):
                self.case(plan, step, 'migrate', f'c{step}')
                if self.migration_taken:
                    taken.add(step)
        self.assertEqual(taken, {0})


class TwiceTest(faults.Matrix):
    def test_who_recovers_what_was_good_may_be_killed_too(self):
        plan = {'mode': 'push', 'kind': 'full', 'disks': 1, 'checkpoint': True, 'protect': 'yes'}
        self.bring_up(1)
        last = max(n for n, name in enumerate(self.steps_of(plan)) if name == 'job-dismiss')
        self.case(plan, last, 'kill-twice', 'twice', then=0)
        self.assertEqual(self.json('backup-info', self.guest_name)['state'], 'completed')


class SystemCallTest(faults.Matrix):
    """Between QMP's commands too: every thread of an owner is killed as it comes to its n-th system call that leaves something."""
    versions = ('7.2',)
    calls = 'openat,write,sendmsg,linkat,unlink,unlinkat,rename,renameat,renameat2,fsync,fdatasync,fallocate,ftruncate,mkdir,fchown,fchmod'
    cases, last = 30, 150

    def killed_at(self, call):
        """A baksh that is killed so, and every process that it starts."""
        path, out, err = (self.path('baksh-' + part) for part in ('traced', 'out', 'err'))
        with open(path, 'w') as f:      # a tracer holds what it was given, so that not the shell that waits for its end
            f.write(f'#!/bin/sh\n{bed.need("strace", "strace")} -D -f -qq -o {self.path("trace")} -e trace={self.calls} -e inject={self.calls}:signal=SIGKILL:when={call} '
                    f'{bed.baksh_path()} "$@" > {out} 2> {err}\nrc=$?; cat {out}; cat {err} >&2; exit $rc\n')
        os.chmod(path, 0o755)
        return mock.patch.dict(os.environ, {'BAKSH': path})

    def test_an_owner_that_is_killed_at_any_system_call_leaves_nothing(self):
        if bed.run(bed.need('strace', 'strace'), '-qq', '-o', '/dev/null', 'true', check=False).returncode:
            self.skipTest('nothing can be traced here')
        rng, died = random.Random(self.seed), 0
        self.bring_up(1)
        for number in range(self.cases):
            plan, call = dict(rng.choice(faults.PLANS), disks=1), rng.randrange(1, self.last)
            self.write()
            before = self.json('backup-info', self.guest_name)['id']
            with self.killed_at(call):
                result = self.drive(plan, f'c{number}')
            died += result.rc != 0
            self.check(plan, f'c{number}', 'kill', f'system call {call}, seed {self.seed}', result, before)
        self.assertGreater(died, 0, 'nobody was killed')


class ControlTest(faults.Matrix):
    """The owner is killed in the middle, and somebody takes an undo out of its journal before the next one recovers."""

    def kill_in_the_middle(self, edit):
        self.bring_up(1)
        plan = {'mode': 'push', 'kind': 'full', 'disks': 1, 'checkpoint': False, 'protect': 'yes'}
        steps = self.steps_of(plan)
        index = max(n for n, name in enumerate(steps) if name == 'blockdev-add')
        self.write()
        self.monitor.arm(index, 'kill-after')
        journal, kill = self.path('state', 'guests', self.guest_name, 'journal'), os.kill

        def edit_and_kill(pid, sig):
            with open(journal) as f:
                text = f.read()
            with open(journal + '.edited', 'w') as f:
                f.write(edit(text))
            os.rename(journal + '.edited', journal)
            kill(pid, sig)
        with mock.patch.object(os, 'kill', edit_and_kill):
            result = self.drive(plan, 'control')
        self.assertTrue(self.monitor.fired)
        self.monitor.arm(None, None)
        self.check(plan, 'control', 'kill-after', steps[index], result)

    def test_without_an_edit_all_is_undone(self):
        self.kill_in_the_middle(lambda text: text)

    def test_an_undo_that_is_missing_is_caught(self):
        def take_out(text):
            edited, count = re.subn(r'("action"\s*:\s*)"file-remove"', r'\1"thaw"', text)
            self.assertGreater(count, 0)
            return edited
        with self.assertRaisesRegex(AssertionError, 'kill-after at'):
            self.kill_in_the_middle(take_out)


if __name__ == '__main__':
    bed.main()
