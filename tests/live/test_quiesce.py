#!/usr/bin/python3
"""Backups through an agent that misbehaves (tests/fake/fakeagent.py): the guest is never left frozen, and no copy is called
consistent that is not. The good case runs in test_point_in_time.py with the real agent."""
import os

import bed

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fake', 'fakeagent.py')
MIB = 1 << 20


class QuiesceTest(bed.LiveTest):
    def start(self, *faults):
        self.make_image('disk.qcow2', 8 * MIB, data=[(0, MIB, 5)])
        self.vm = self.machine('-blockdev', f'driver=qcow2,node-name=disk,file.driver=file,file.filename={self.path("disk.qcow2")}',
                               '-device', 'virtio-blk-pci,drive=disk,id=vda')
        listener = bed.listen_unix(self.path('agent'))
        self.addCleanup(listener.close)
        self.popen('python3', FAKE, '--listen-fd', listener.fileno(), '--record', self.path('record'),
                   *[word for fault in faults for word in ('--fault', fault)], pass_fds=[listener.fileno()], stdout=bed.subprocess.DEVNULL)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--agent', self.path('agent'))
        os.mkdir(self.path('out'))
        self.picture = self.vm.picture()

    def begin(self):
        return self.baksh('backup-begin', 'g', '--target', f'vda={self.path("out", "copy")}', '--quiesce', '--protect', 'no', '--wait')

    def record(self):
        with open(self.path('record'), encoding='utf-8') as file:
            return file.read().split('\n')

    def assert_thawed(self):
        """The last that happened to the guest; a thaw that waits behind a hanging freeze comes when that ends."""
        def thawed():
            states = [line for line in self.record() if line in ('frozen', 'thawed')]
            return not states or states[-1] == 'thawed'
        bed.wait_for('the guest to be thawed', thawed, timeout=20)

    def assert_refused(self, rc, *words):
        done = self.begin()
        self.assertEqual(done.rc, rc, done.err)
        for word in words:
            self.assertRegex(done.err, word)
        self.assert_thawed()
        self.assert_nothing_left(self.vm, self.picture)
        self.assert_files(self.path('out'))

    def test_a_good_agent_makes_a_quiesced_copy(self):
        self.start()
        self.assertEqual(self.begin().rc, 0)
        self.assertRegex(self.json('backup-info', 'g')['consistency'], 'quiesced|consistent')
        self.assertNotIn('crash', self.json('backup-info', 'g')['consistency'])
        self.assertEqual([line for line in self.record() if line in ('frozen', 'thawed')], ['frozen', 'thawed'])

    def test_an_agent_that_is_absent_is_said_so_before_anything_is_frozen(self):
        self.start('absent')
        self.assert_refused(5, 'agent', 'does not answer')

    def test_a_guest_that_will_not_freeze_is_not_backed_up_as_if(self):
        self.start('freeze-fails')
        self.assert_refused(1, 'failed to freeze /')

    def test_a_connection_that_breaks_in_the_freeze_leaves_nothing_frozen(self):
        self.start('freeze-eof')
        self.assert_refused(5, 'agent')

    def test_a_reply_that_never_ends_leaves_nothing_frozen(self):
        self.start('freeze-huge')
        self.assert_refused(1, 'agent')

    def test_fewer_thawed_than_frozen_is_no_consistent_copy(self):
        self.start('thaw-fewer')
        self.assertEqual(self.begin().rc, 0)
        self.assertIn('crash', self.json('backup-info', 'g')['consistency'])
        self.assert_thawed()

    def test_a_thaw_whose_reply_is_lost_is_no_consistent_copy(self):
        self.start('thaw-hangs-once')
        self.assertEqual(self.begin().rc, 0)
        self.assertIn('crash', self.json('backup-info', 'g')['consistency'])
        self.assert_thawed()

    def test_a_guest_that_stays_frozen_is_said_loudly(self):
        self.start('thaw-fails')
        done = self.begin()
        self.assertNotEqual(done.rc, 0)
        self.assertRegex(done.err, 'may still be frozen')


if __name__ == '__main__':
    bed.main()
