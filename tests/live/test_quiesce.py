#!/usr/bin/python3
"""Backups through an agent that misbehaves (tests/fake/fakeagent.py): the guest is never left frozen, and no copy is called
consistent that is not; and with the real agent in a real guest."""
import os
import signal

import bed
import faults

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fake', 'fakeagent.py')
MIB = 1 << 20


class QuiesceTest(bed.LiveTest):
    no_answer = 'does not answer'

    def start(self, *faults):
        self.make_image('disk.qcow2', 8 * MIB, data=[(0, MIB, 5)])
        self.vm = self.machine('-blockdev', f'driver=qcow2,node-name=disk,file.driver=file,file.filename={self.path("disk.qcow2")}',
                               '-device', 'virtio-blk-pci,drive=disk,id=vda')
        self.start_agent(*faults)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--agent', self.path('agent'))
        os.mkdir(self.path('out'))
        self.picture = self.vm.picture()

    def start_agent(self, *faults):
        listener = bed.listen_unix(self.path('agent'))
        self.agent = self.popen('python3', FAKE, '--listen-fd', listener.fileno(), '--record', self.path('record'),
                                *[word for fault in faults for word in ('--fault', fault)], pass_fds=[listener.fileno()], stdout=bed.subprocess.DEVNULL)
        listener.close()

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
        job = self.json('backup-info', 'g')
        self.assertEqual(job['consistency'], 'quiesced')
        self.assertEqual([line for line in self.record() if line in ('frozen', 'thawed')], ['frozen', 'thawed'])

    def test_an_agent_that_is_absent_is_said_so_before_anything_is_frozen(self):
        self.start('absent')
        self.assert_refused(5, 'agent', self.no_answer)

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

        self.assertRegex(self.must('backup-info', 'g').out, 'thawed 1 of 2 frozen file systems')

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


    def test_an_agent_that_dies_between_freeze_and_thaw_is_waited_for(self):
        """It is said loudly, and whoever comes next thaws the guest once the agent is back."""
        self.start('freeze-dies')
        done = self.begin()
        self.assertEqual(done.rc, 5, done.err)
        self.assertRegex(done.err, 'frozen')
        self.agent.wait()
        os.unlink(self.path('agent'))
        self.start_agent('begins-frozen')
        self.baksh('backup-begin', 'g', '--target', f'vda={self.path("out", "next")}', '--protect', 'no', '--wait')
        self.assert_thawed()
        self.assertEqual([line for line in self.record() if line in ('frozen', 'thawed')], ['frozen', 'thawed'])

    def test_an_owner_that_is_killed_in_the_freeze_leaves_a_thaw_to_the_next(self):
        self.start('freeze-hangs')
        shell = self.baksh_start('backup-begin', 'g', '--target', f'vda={self.path("out", "copy")}', '--quiesce', '--protect', 'no', '--wait')
        bed.wait_for('the freeze', lambda: os.path.exists(self.path('record')) and 'guest-fsfreeze-freeze' in self.record())
        shell.kill()
        shell.wait()
        for pid in self.watchers():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        bed.wait_for('the freeze to be done', lambda: 'frozen' in self.record())
        self.baksh('checkpoint-check', 'g')         # any command that owns the guest
        self.assert_thawed()
        self.assertEqual(self.json('backup-info', 'g')['state'], 'failed')
        self.assert_nothing_left(self.vm, self.picture)
        self.assert_files(self.path('out'))

    def checkpoint(self, *faults, rc=0):
        self.start(*faults)
        done = self.must('checkpoint-create-as', 'g', 'c0', '--quiesce', rc=rc)
        names = ['c0'] if rc == 0 else []
        self.assertEqual([name for _, name in self.vm.bitmaps()], names)
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), names)
        return done.err

    def test_a_checkpoint_alone_is_made_while_nothing_is_written(self):
        self.assertRegex(self.checkpoint(), r'note: quiesced: 2 file systems were frozen for [0-9.]+ ms')
        self.assertEqual([line for line in self.record() if line in ('frozen', 'thawed')], ['frozen', 'thawed'])

    def test_a_checkpoint_alone_says_when_it_is_crash_consistent_only(self):
        self.assertIn('crash-consistent only: 2 file systems were frozen, 1 thawed', self.checkpoint('thaw-fewer'))
        self.assert_thawed()

    def test_no_checkpoint_is_made_when_the_guest_will_not_freeze(self):
        self.assertIn('failed to freeze /', self.checkpoint('freeze-fails', rc=1))
        self.assert_thawed()

    def test_no_checkpoint_is_made_when_the_guest_stays_frozen_which_is_said_loudly(self):
        self.assertIn('may still be frozen', self.checkpoint('thaw-fails', rc=1))


class HeldMonitor(faults.Monitor):
    """Holds the transaction back until something has happened."""
    hold, held = None, False

    def spoil(self, message):
        if message.get('execute') == 'transaction' and self.hold:
            self.hold()
            self.hold, self.held = None, True


class RealAgentTest(bed.LiveTest):
    def test_a_quiesced_copy_needs_no_recovery_of_the_journal_and_another_does(self):
        vm = self.guest(disks=2, fill='4M')
        self.must('attach', 'g', '--qmp', vm.qmp_path, '--agent', vm.agent_path)
        for name, words in (('quiesced', ['--quiesce']), ('bare', [])):
            copies = [self.path(f'{name}-{disk.target}') for disk in vm.disks]
            self.must('backup-begin', 'g', *words, *[w for disk, copy in zip(vm.disks, copies) for w in ('--target', f'{disk.target}={copy}')], '--wait')
            job = self.json('backup-info', 'g')
            self.assertEqual(job['consistency'] == 'quiesced', name == 'quiesced')
            self.assertEqual(job['frozen_ms'] > 0, name == 'quiesced')
            self.assert_one_instant(*copies, quiesced=name == 'quiesced')
        self.assert_guest_works(vm)


class RealBadAgentTest(bed.LiveTest):
    versions = ('7.2',)         # it is the same agent on all

    def begin(self, rc, *words):
        target = self.path('copy')
        done = self.must('backup-begin', 'g', '--disk', 'vda', '--target', target, '--quiesce', '--wait', rc=rc)
        for word in words:
            self.assertRegex(done.err, word)
        self.assertEqual(os.path.exists(target), rc == 0)
        self.assertEqual(self.vm.ours(), [])
        self.assert_guest_works(self.vm, rounds=5)
        return done

    def agent_is_gone(self):
        self.vm.qmp.wait_event('VSERPORT_CHANGE', id='bed-agent-port', open=False)

    def test_an_agent_that_hangs_dies_and_stays_away_leaves_the_guest_thawed(self):
        self.vm = self.guest(disks=1, fill='4M', kernel_words='bak.agent=bad')
        monitor = HeldMonitor(self.path('held'), self.vm.qmp_path)
        self.addCleanup(monitor.stop)
        self.environment['LIBBACKUP_CONFIG'] = self.path('libbackup.conf')
        with open(self.path('libbackup.conf'), 'w') as f:
            f.write('freeze_timeout = 1\n')
        self.must('attach', 'g', '--qmp', self.path('held'), '--agent', self.vm.agent_path)
        self.begin(1, 'guest-fsfreeze-freeze.*does not answer in time')
        monitor.hold = self.agent_is_gone
        self.begin(0)
        self.assertTrue(monitor.held)
        job = self.json('backup-info', 'g')
        self.assertEqual(job['consistency'], 'quiesced')
        self.assertGreater(job['frozen_ms'], 500)
        os.unlink(self.path('copy'))
        self.begin(1, 'guest-fsfreeze-freeze.*hook')
        self.agent_is_gone()
        self.begin(5, 'does not answer')


if __name__ == '__main__':
    bed.main()
