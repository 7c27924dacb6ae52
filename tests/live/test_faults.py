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


class TwiceTest(faults.Matrix):
    def test_who_recovers_what_was_good_may_be_killed_too(self):
        plan = {'mode': 'push', 'kind': 'full', 'disks': 1, 'checkpoint': True, 'protect': 'yes'}
        self.bring_up(1)
        last = max(n for n, name in enumerate(self.steps_of(plan)) if name == 'job-dismiss')
        self.case(plan, last, 'kill-twice', 'twice', then=0)
        self.assertEqual(self.json('backup-info', self.guest_name)['state'], 'completed')


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
