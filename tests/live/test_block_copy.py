#!/usr/bin/python3
"""blockcopy: a disk is mirrored into another image while the guest writes, which takes over or stays as a whole copy."""
import contextlib
import os
import subprocess

import bed
import test_block_jobs


class CopyTest(test_block_jobs.Chain):
    def copy(self, name, *options, rc=0):
        return self.must('blockcopy', 'g', 'vda', self.path(name), *options, rc=rc)

    def nothing_is_held(self):
        self.nothing_runs()
        self.assertEqual([n['node-name'] for n in self.vm.nodes() if n['node-name'].startswith('bakj-')], [])

    def test_a_copy_is_broken_off_or_whole_or_takes_over(self):
        self.overlay()
        self.copy('off.qcow2', '--bytes', '--bandwidth', '4096')
        self.assertTrue(os.path.exists(self.path('off.qcow2')))
        self.must('blockjob', 'g', 'vda', '--abort')
        self.assertFalse(os.path.exists(self.path('off.qcow2')), 'what is not whole goes')
        self.nothing_is_held()
        self.assertIn('Successfully copied', self.copy('copy.qcow2', '--finish').out)
        self.assert_one_instant(self.path('copy.qcow2'))
        self.copy('copy.raw', '--format', 'raw', '--wait')
        self.assertIn('Block Copy', self.must('blockjob', 'g', 'vda').err)
        self.vm.wait_rounds(10)
        self.must('blockjob', 'g', 'vda', '--abort')
        self.assert_one_instant(self.path('copy.raw'), fmt='raw')
        self.nothing_is_held()
        self.assertEqual(self.chain(), self.images[::-1])
        result = self.copy('over.qcow2', '--pivot', '--verbose')
        self.assertIn('Successfully pivoted', result.out)
        self.assertIn('Block Copy: [100.00 %]', result.err)
        self.assertEqual(self.chain(), [self.path('over.qcow2')])
        self.assertFalse({'over1', 'over1-file'} & {n['node-name'] for n in self.vm.nodes()})
        self.assertTrue(all(map(os.path.exists, self.images)), 'the files are the user\'s')
        self.whole()

    def test_checkpoints_go_along(self):
        self.back_up('one.qcow2', '--checkpoint', 'one')
        self.overlay('one')
        self.back_up('two.qcow2', '--checkpoint', 'two')
        before = self.vm.all_bitmaps().keys()
        self.copy('copy.qcow2', '--finish')
        self.assertEqual(self.vm.all_bitmaps().keys(), before, 'a copy that is left behind changes nothing')
        self.copy('shallow.qcow2', '--shallow', '--pivot')
        self.assertEqual(self.chain(), [self.path('shallow.qcow2'), self.images[0]])
        top = self.json('domblkinfo', 'g', 'vda', '--chain')['images'][0]
        self.assertEqual(top['backing']['stored'], os.path.basename(self.images[0]), 'a relative name stays so')
        self.copy('full.qcow2', '--wait')
        self.vm.wait_rounds(10)
        self.must('blockjob', 'g', 'vda', '--pivot')
        self.increment_is_exact('two.qcow2', 'two')
        self.increment_is_exact('one.qcow2', 'one')
        self.must('checkpoint-delete', 'g', 'one')
        self.must('checkpoint-delete', 'g', 'two')
        self.assertEqual(self.vm.all_bitmaps(), {})
        self.whole()

    def test_what_cannot_be_is_refused_with_the_reason(self):
        self.back_up('one.qcow2', '--checkpoint', 'one')
        result = self.copy('copy.raw', '--format', 'raw', rc=4)
        for word in ("checkpoint 'one'", '--drop-checkpoints', 'raw'):
            self.assertIn(word, result.err)
        self.assertFalse(os.path.exists(self.path('copy.raw')))
        self.img('create', '-q', '-f', 'qcow2', self.path('there.qcow2'), '64M')
        self.assertIn('exists already', self.copy('there.qcow2', rc=1).err)
        self.img('bitmap', '--add', self.path('there.qcow2'), 'cp')
        self.assertIn('has bitmaps', self.copy('there.qcow2', '--reuse-external', rc=1).err)
        self.img('create', '-q', '-f', 'qcow2', '-b', 'one.qcow2', '-F', 'qcow2', self.path('there.qcow2'))
        self.assertIn('one.qcow2', self.copy('there.qcow2', '--reuse-external', rc=1).err)
        self.img('create', '-q', '-f', 'qcow2', self.path('there.qcow2'), '1M')
        self.assertIn('1048576 bytes', self.copy('there.qcow2', '--reuse-external', rc=1).err)
        self.assertIn('in use', self.must('blockcopy', 'g', 'vda', self.disk.path, '--reuse-external', rc=1).err)
        self.assertIn("'vmdk'", self.copy('copy.vmdk', '--format', 'vmdk', rc=1).err)
        self.assertIn('power of two', self.copy('copy.qcow2', '--granularity', '3000', rc=1).err)
        plan = self.must('blockcopy', 'g', 'vda', self.path('copy.qcow2'), '--dry-run').out
        self.assertLess(plan.index('file-create'), plan.index('blockdev-mirror'))
        self.assertFalse(os.path.exists(self.path('copy.qcow2')))
        self.nothing_is_held()
        self.img('create', '-q', '-f', 'qcow2', self.path('there.qcow2'), '64M')
        self.copy('there.qcow2', '--reuse-external', '--wait')
        self.assertIn('block job', self.must('checkpoint-create-as', 'g', 'no', rc=1).err)
        self.must('blockjob', 'g', 'vda', '--pivot')
        self.assertEqual(self.chain(), [self.path('there.qcow2')])
        self.increment_is_exact('one.qcow2', 'one')
        self.whole()
        self.copy('half.qcow2', '--bytes', '--bandwidth', '4096')
        self.vm.kill()
        self.baksh('blockjob', 'g', 'vda')
        bed.wait_for('the half copy goes', lambda: not os.path.exists(self.path('half.qcow2')))


class KilledTest(test_block_jobs.Killed):
    def left(self, base, name):
        self.recovered(base)
        if os.path.exists(name) and name not in self.chain():
            self.assert_one_instant(name)       # whole, or gone
            os.unlink(name)

    def test_a_copy_at_any_moment(self):
        self.start(between=False)
        for end in ('--pivot', '--finish') * int(os.environ.get('LIBBACKUP_TEST_KILLS', '2')):
            base = self.prepare()
            name = self.path(f'copy{self.count}.qcow2')
            process = self.baksh_start('blockcopy', 'g', 'vda', name, end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.random.uniform(0.02, 0.8))
            process.kill()
            process.communicate()
            self.left(base, name)

    def at_every_command(self, end, fault):
        number, fired = 0, True
        while fired:
            base = self.prepare()
            name = self.path(f'copy{self.count}.qcow2')
            self.monitor.arm(number, fault)
            done = self.baksh('blockcopy', 'g', 'vda', name, end)
            fired = self.monitor.fired
            self.monitor.arm(None, None)
            if not fired:
                self.assertEqual(done.rc, 0, done)
            with self.subTest(f'{end}: {fault} at {number}, {fired}'):
                self.left(base, name)
            number += 1
        self.assertGreater(number, 8)

    # a quarter of an hour, so only by LIBBACKUP_TEST_MATRIX=1 tests/live/run.py copy_at_every_command
    if os.environ.get('LIBBACKUP_TEST_MATRIX'):
        def test_a_copy_at_every_command(self):
            self.start(between=True)
            for end in '--pivot', '--finish':
                for fault in 'kill-after', 'kill-before', 'disconnect':
                    self.at_every_command(end, fault)


if __name__ == '__main__':
    bed.main()
