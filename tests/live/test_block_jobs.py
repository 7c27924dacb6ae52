#!/usr/bin/python3
"""blockcommit, blockpull, blockjob: the images of a disk are merged while the guest writes; its data, its chain and its checkpoints survive."""
import json
import contextlib
import os
import subprocess

import bed
import faults

# more of them where there is time
FAULTS = ('kill-after', 'kill-before', 'disconnect')[:int(os.environ.get('LIBBACKUP_TEST_FAULTS', '1'))]


class Chain(bed.LiveTest):
    """The writing guest, each of whose disks stands on a chain that grows by overlays."""

    def setUp(self):
        super().setUp()
        self.vm = self.guest(disks=1)
        self.disk = self.vm.disks[0]
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.images = [self.disk.path]
        self.nodes = [self.disk.node]

    def overlay(self, *checkpoints):
        """An external snapshot; what is written from here on goes into a new image, which tracks changes for these checkpoints."""
        number = len(self.images)
        path = self.path(f'over{number}.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', os.path.basename(self.images[-1]), '-F', 'qcow2', path)
        node = f'over{number}'
        self.vm.qmp.execute('blockdev-add', driver='file', node_name=f'{node}-file', filename=path)
        self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name=node, file=f'{node}-file', backing=None)
        self.vm.qmp.execute('transaction', actions=[
            {'type': 'blockdev-snapshot', 'data': {'node': self.nodes[-1], 'overlay': node}},
            *({'type': 'block-dirty-bitmap-add', 'data': {'node': node, 'name': name, 'persistent': True}} for name in checkpoints)])
        self.images.append(path)
        self.nodes.append(node)
        self.vm.wait_rounds(20)

    def chain(self):
        return [image['source'] for image in self.json('domblkinfo', 'g', 'vda', '--chain')['images']]

    def back_up(self, name, *options):
        self.must('backup-begin', 'g', '--target', f'vda={self.path(name)}', *options, '--wait')
        self.assert_one_instant(self.path(name))

    def increment_is_exact(self, base, since):
        """What an increment brings is what the disk is then: the guest stands still, so that its image can be compared."""
        self.vm.wait_rounds(20)
        self.vm.qmp.execute('stop')
        self.back_up(f'inc-{since}', '--since', since, '--onto', f'vda={self.path(base)}')
        self.back_up(f'full-{since}')
        self.img('compare', self.path(f'inc-{since}'), self.path(f'full-{since}'))
        self.vm.qmp.execute('cont')

    def nothing_runs(self):
        self.assertEqual(self.vm.qmp.execute('query-jobs'), [])
        self.assertEqual(self.json('blockjob', 'g', 'vda')['type'], None)
        self.assertEqual([n for n in os.listdir(os.path.join(self.state_dir(), 'blockjobs')) if n != 'last'], [])

    def whole(self):
        """The guest goes on, and what it has written is all there."""
        self.nothing_runs()
        self.vm.wait_rounds(20)
        self.vm.stop_writing()
        self.back_up('whole.qcow2')
        self.assertEqual(self.vm.write_errors(), [])


class ChainTest(Chain):
    def test_an_active_commit_pivots_to_the_base(self):
        self.overlay()
        self.overlay()
        result = self.must('blockcommit', 'g', 'vda', '--active', '--pivot', '--wait', '--verbose')
        self.assertIn('Successfully pivoted', result.out)
        self.assertIn('Active Block Commit: [100.00 %]', result.err)
        self.assertEqual(self.chain(), self.images[:1])
        self.assertFalse({'over1', 'over2', 'over1-file', 'over2-file'} & {n['node-name'] for n in self.vm.nodes()})
        self.assertTrue(all(map(os.path.exists, self.images)), 'the files are the user\'s')
        self.whole()

    def test_what_is_no_longer_used_is_deleted_when_asked(self):
        self.overlay()
        self.overlay()
        self.must('blockcommit', 'g', 'vda', '--pivot', '--delete')
        self.assertEqual([os.path.exists(image) for image in self.images], [True, False, False])
        self.whole()

    def test_a_commit_below_the_active_layer_ends_by_itself(self):
        for _ in range(3):
            self.overlay()
        self.must('blockcommit', 'g', 'vda', '--top', self.images[2], '--base', self.images[1], '--wait')
        self.assertEqual(self.chain(), [self.images[3], self.images[1], self.images[0]])
        top = self.json('domblkinfo', 'g', 'vda', '--chain')['images'][0]
        self.assertEqual(top['backing']['stored'], 'over1.qcow2', 'a relative name stays so')
        self.whole()

    def test_a_pull_makes_the_active_image_stand_alone(self):
        for _ in range(3):
            self.overlay()
        self.must('blockpull', 'g', 'vda', '--base', 'vda[2]', '--wait', '--verbose')
        self.assertEqual(self.chain(), [self.images[3], self.images[1], self.images[0]])
        result = self.must('blockpull', 'g', 'vda', '--wait')
        self.assertIn('Pull complete', result.out)
        self.assertEqual(self.chain(), self.images[3:])
        self.whole()

    def test_an_active_commit_can_be_left_where_it_is(self):
        self.overlay()
        self.must('blockcommit', 'g', 'vda', '--keep-overlay')
        self.assertEqual(self.chain(), self.images[::-1])
        self.must('blockcommit', 'g', 'vda', '--active', '--wait')
        self.assertIn('Active Block Commit', self.must('blockjob', 'g', 'vda').err)
        self.must('blockjob', 'g', 'vda', '--abort')
        self.assertEqual(self.chain(), self.images[::-1])
        self.whole()

    def test_a_checkpoint_of_the_overlay_survives_its_commit(self):
        self.overlay()
        self.back_up('base.qcow2', '--checkpoint', 'cp')
        self.vm.wait_rounds(20)
        self.must('blockcommit', 'g', 'vda', '--active', '--wait')
        self.vm.wait_rounds(20)
        self.must('blockjob', 'g', 'vda', '--pivot')
        self.assertEqual([node for node, name in self.vm.bitmaps() if name == 'cp'], [self.disk.node])
        self.increment_is_exact('base.qcow2', 'cp')
        self.must('checkpoint-delete', 'g', 'cp')
        self.assertEqual(self.vm.all_bitmaps(), {})
        self.whole()

    def test_a_checkpoint_below_the_snapshot_survives_the_commit(self):
        self.back_up('base.qcow2', '--checkpoint', 'cp')
        self.overlay()
        self.must('blockcommit', 'g', 'vda', '--pivot')
        self.increment_is_exact('base.qcow2', 'cp')
        self.whole()

    def test_checkpoints_of_each_layer_survive_a_commit_below(self):
        self.overlay()
        self.back_up('one.qcow2', '--checkpoint', 'one')
        self.overlay('one')
        self.back_up('two.qcow2', '--checkpoint', 'two')
        self.overlay('one', 'two')
        self.must('blockcommit', 'g', 'vda', '--top', 'vda[1]', '--wait')
        self.assertEqual(self.chain(), [self.images[3], self.images[0]])
        self.increment_is_exact('two.qcow2', 'two')
        self.increment_is_exact('one.qcow2', 'one')
        self.whole()

    def test_checkpoints_survive_a_pull(self):
        self.back_up('one.qcow2', '--checkpoint', 'one')
        self.overlay('one')
        self.back_up('two.qcow2', '--checkpoint', 'two')
        self.overlay('one', 'two')
        self.must('blockpull', 'g', 'vda', '--wait')
        self.increment_is_exact('two.qcow2', 'two')
        self.increment_is_exact('one.qcow2', 'one')
        self.whole()

    def test_a_checkpoint_that_would_not_survive_is_named_and_goes_only_when_told(self):
        self.back_up('base.qcow2', '--checkpoint', 'cp')
        self.overlay()      # which does not track changes
        result = self.must('blockpull', 'g', 'vda', rc=4)
        for word in ("checkpoint 'cp'", '--drop-checkpoints', 'does not track'):
            self.assertIn(word, result.err)
        self.assertEqual(self.chain(), self.images[::-1])
        result = self.must('blockpull', 'g', 'vda', '--drop-checkpoints', '--wait')
        self.assertIn("checkpoint 'cp' is deleted", result.err)
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), [])
        self.whole()

    def test_an_increment_after_a_broken_off_commit_is_exact(self):
        self.overlay()
        self.back_up('base.qcow2', '--checkpoint', 'cp')
        before = self.vm.all_bitmaps().keys()
        self.must('blockcommit', 'g', 'vda', '--active', '--wait')
        self.vm.wait_rounds(20)
        self.must('blockjob', 'g', 'vda', '--abort')
        self.assertEqual(self.vm.all_bitmaps().keys(), before)
        self.increment_is_exact('base.qcow2', 'cp')
        self.whole()

    def test_a_backup_and_a_block_job_of_one_disk_exclude_each_other(self):
        self.overlay()
        self.must('backup-begin', 'g', '--target', f'vda={self.path("slow.qcow2")}', '--limit', '65536')
        result = self.must('blockcommit', 'g', 'vda', '--active', rc=1)
        self.assertIn('backup job', result.err)
        self.must('backup-stop', 'g', '--abort')
        self.must('blockcommit', 'g', 'vda', '--active', '--wait')
        for command in (['backup-begin', 'g', '--target', f'vda={self.path("no.qcow2")}'], ['blockpull', 'g', 'vda'],
                        ['checkpoint-create-as', 'g', 'cp']):
            result = self.must(*command, rc=1)
            self.assertIn('block job', result.err)
            self.assertIn('active commit', result.err)
        self.must('blockjob', 'g', 'vda', '--pivot')
        self.whole()

    def test_a_base_that_something_else_needs_is_refused_and_named(self):
        self.overlay()
        other = self.path('other.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', self.images[0], '-F', 'qcow2', other)
        self.must('attach', 'second', '--image', f'vda={other}')
        result = self.must('blockcommit', 'g', 'vda', '--active', rc=1)
        self.assertIn("guest 'second'", result.err)
        self.must('detach', 'second')
        self.must('blockcommit', 'g', 'vda', '--pivot')
        self.whole()

    def test_a_base_that_is_a_backup_is_refused_and_named(self):
        self.back_up('base.qcow2', '--checkpoint', 'cp')
        over = self.path('restored.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', self.path('base.qcow2'), '-F', 'qcow2', over)
        vm = self.engine(over, name='restored')
        self.must('attach', 'r', '--qmp', vm.qmp_path)
        result = self.must('blockcommit', 'r', 'disk0', '--active', rc=1)
        for word in ("checkpoint 'cp'", "guest 'g'", 'base.qcow2'):
            self.assertIn(word, result.err)

    def test_wrong_requests_say_what_there_is(self):
        rows = ((['blockpull', 'g', 'vda'], 'no backing image'), (['blockcommit', 'g', 'vda', '--active'], 'no backing file'),
                (['blockpull', 'g', 'vdz'], 'vdz'))
        for command, word in rows:
            self.assertIn(word, self.must(*command, rc=1).err)
        self.overlay()
        rows = ((['blockcommit', 'g', 'vda'], 'requires active flag'), (['blockpull', 'g', 'vda', '--base', '/nosuch'], 'could not find image'),
                (['blockcommit', 'g', 'vda', '--active', '--base', 'vda[0]'], 'is not below top'), (['blockjob', 'g', 'vda', '--pivot'], 'active block job'),
                (['blockpull', 'g', 'vda', '--base', self.images[0]], 'already points to base'))
        for command, word in rows:
            self.assertIn(word, self.must(*command, rc=1).err)
        self.assertEqual(self.chain(), self.images[::-1])
        plan = json.loads(self.must('blockcommit', 'g', 'vda', '--active', '--dry-run').out)
        self.assertEqual(plan['steps'][0]['do']['qmp']['execute'], 'block-commit')
        self.assertEqual(self.chain(), self.images[::-1])

    def test_a_guest_that_ends_in_the_middle_is_told(self):
        self.overlay()
        self.must('blockcommit', 'g', 'vda', '--active', '--wait')
        self.vm.kill()
        self.baksh('blockjob', 'g', 'vda')
        self.assertFalse([n for n in os.listdir(os.path.join(self.state_dir(), 'blockjobs')) if n != 'last'])


class Killed(bed.LiveTest):
    """Who asks is killed at each command in turn that changes anything in QEMU, or at any moment; whoever comes next goes on from there."""

    def start(self, between):
        """between: a process stands before the monitor. Then QEMU's own process is not known, and holds the images like a stranger's."""
        self.vm = self.guest(disks=1)
        if between:
            self.monitor = faults.Monitor(self.path('between'), self.vm.qmp_path)
            self.addCleanup(self.monitor.stop)
        self.must('attach', 'g', '--qmp', self.path('between') if between else self.vm.qmp_path)
        self.images, self.nodes = [self.vm.disks[0].path], [self.vm.disks[0].node]
        self.count = 0

    chain, back_up = Chain.chain, Chain.back_up

    def prepare(self):
        """The name of a backup that an increment is to be laid on, and one image more on the chain."""
        self.count += 1
        copy = f'base{self.count}.qcow2'
        self.images, self.nodes = [self.chain()[0]], [self.json('domblkinfo', 'g', 'vda')['node']]
        self.overlay_again()
        self.back_up(copy, '--checkpoint', f'cp{self.count}')
        self.vm.wait_rounds(5)
        return copy

    def case(self, number, fault, command):
        """TRUE: there was a command of that number."""
        copy = self.prepare()
        self.monitor.arm(number, fault)
        done = self.baksh(*command)
        fired = self.monitor.fired
        self.monitor.arm(None, None)
        if fired is None:
            self.assertEqual(done.rc, 0, done)
        with self.subTest(f'{" ".join(command)}: {fault} at {number}, {fired}'):
            self.recovered(copy)
        return fired is not None

    def overlay_again(self):
        path, node = self.path(f'again{self.count}.qcow2'), f'again{self.count}'
        self.img('create', '-q', '-f', 'qcow2', '-b', self.images[0], '-F', 'qcow2', path)
        self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name=node, file={'driver': 'file', 'filename': path}, backing=None)
        self.vm.qmp.execute('blockdev-snapshot', node=self.nodes[0], overlay=node)
        self.vm.wait_rounds(5)

    def recovered(self, copy):
        def over():
            if self.json('blockjob', 'g', 'vda')['type']:
                self.baksh('blockjob', 'g', 'vda', '--pivot')       # of an active commit that nobody has pivoted
            return not self.json('blockjob', 'g', 'vda')['type']
        bed.wait_for('the block job is over', over)
        self.assertEqual(self.vm.qmp.execute('query-jobs'), [])
        self.vm.wait_rounds(5)
        self.vm.qmp.execute('stop')
        increment, full = self.path(f'inc-{copy}'), self.path(f'full-{copy}')
        self.must('backup-begin', 'g', '--since', f'cp{self.count}', '--target', f'vda={increment}', '--onto', f'vda={self.path(copy)}', '--wait')
        self.must('backup-begin', 'g', '--target', f'vda={full}', '--wait')
        self.assert_one_instant(full)
        self.img('compare', increment, full)
        self.must('checkpoint-delete', 'g', f'cp{self.count}')
        self.assertEqual(self.vm.all_bitmaps(), {}, 'no bitmap is left behind')
        self.vm.qmp.execute('cont')
        for name in (increment, full, self.path(copy)):
            os.unlink(name)


class KilledTest(Killed):
    def test_a_pull_at_every_command(self):
        self.start(between=True)
        for fault in FAULTS:
            number = 0
            while self.case(number, fault, ('blockpull', 'g', 'vda', '--wait')):
                number += 1
            self.assertGreater(number, 1)

    def at_any_moment(self, *command):
        self.start(between=False)
        for _ in range(int(os.environ.get('LIBBACKUP_TEST_KILLS', '6'))):
            copy = self.prepare()
            process = self.baksh_start(*command)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self.random.uniform(0.02, 0.6))
            process.kill()
            process.communicate()
            self.recovered(copy)

    def test_an_active_commit_at_any_moment(self):
        self.at_any_moment('blockcommit', 'g', 'vda', '--pivot')

    def test_a_pull_at_any_moment(self):
        self.at_any_moment('blockpull', 'g', 'vda', '--wait')


if __name__ == '__main__':
    bed.main()
