#!/usr/bin/python3
"""The tests of attached guests, on guests that a real libvirtd manages. Every test of these files either runs here too or is in
LEFT_OUT with one of the reasons."""
import os
import unittest

import bed
import lvbed
import test_bad_input
import test_checkpoints
import test_drivers
import test_events
import test_failures
import test_known_defects
import test_point_in_time
import test_quiesce

SIZE = test_checkpoints.SIZE
NETWORK, PROTECTION, COMPRESSION, SYNC = test_drivers.NETWORK, test_drivers.PROTECTION, test_drivers.COMPRESSION, test_drivers.SYNC
REASONS = {NETWORK, PROTECTION, COMPRESSION, SYNC}


class Few:
    """The engine below is the same, so it need not be shown as often."""
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        test_point_in_time.TIMES = min(test_point_in_time.TIMES, 3)


class SamePushTest(lvbed.OnLibvirt, Few, test_point_in_time.PushTest):
    pass


class SamePullTest(lvbed.OnLibvirt, Few, test_point_in_time.PullTest):
    pass


class SameFrozenTest(lvbed.OnLibvirt, test_point_in_time.FrozenTest):
    pass


class SameReusedTest(lvbed.OnLibvirt, test_point_in_time.ReusedTest):
    pass


class SameBadInputTest(lvbed.OnLibvirt, test_bad_input.BadInputTest):
    cdrom, attached_again = 'hdc', 'libvirt'

    def start(self):
        disks = [bed.Disk(self.path(f'{name}.qcow2'), target) for name, target in (('good', 'vda'), ('other', 'vdb'), ('fixed', 'vdc'))]
        disks[2].more_xml = '<readonly/>'
        return self.bare(*disks, xml="<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>")


class Slow(lvbed.OnLibvirt):
    """A limit is set when the copy runs already, so what is copied is read slowly."""

    def engine(self, image):
        self.img('convert', '-O', 'raw', image, self.path('served.raw'))
        slow = self.served_disk('slow.qcow2', os.path.getsize(self.path('served.raw')), self.path('served.raw'))
        self.server.rate = 4 << 20
        return super().engine(slow)


class SameForeignCancelTest(Slow, test_failures.ForeignCancelTest):
    whose_cancel = 'ended by somebody else'


class SameForeignHandTest(Slow, test_failures.ForeignHandTest):
    pass


class SameDeathTest(Slow, test_failures.DeathTest):
    pass


class SameQuiesceTest(lvbed.OnLibvirt, test_quiesce.QuiesceTest):
    no_answer = 'not responding'

    def start(self, *faults):
        self.start_agent(*faults)
        relay = lvbed.AgentRelay(self, self.path('relay'), self.path('agent'))
        disk = bed.Disk(self.make_image('disk.qcow2', '8M', data=[(0, 1 << 20, 5)]), 'vda')
        self.vm = self.guest([disk], mount=0, start_writing=False, wait=False, agent=self.path('relay'))
        relay.wait()
        os.mkdir(self.path('out'))
        self.picture = self.vm.picture()


    def test_a_connection_that_breaks_in_the_freeze_leaves_nothing_frozen(self):
        """libvirt finds the agent again when the guest opens the port again, or when it is started again itself."""
        self.start('freeze-eof')
        done = self.begin()
        self.assertEqual(done.rc, 5, done.err)
        self.assertIn('may still be frozen', done.err)
        self.daemon.restart()
        self.baksh('checkpoint-check', 'g')         # any command that owns the guest
        self.assert_thawed()
        self.assert_files(self.path('out'))


class SameBadAgentTest(lvbed.OnLibvirt, bed.LiveTest):
    def begin(self, rc, *words):
        done = self.must('backup-begin', 'g', '--disk', 'vda', '--target', self.path('copy'), '--quiesce', '--wait', rc=rc)
        for word in words:
            self.assertRegex(done.err, word)
        self.assertEqual(os.path.exists(self.path('copy')), rc == 0)
        self.assert_guest_works(self.vm, rounds=5)

    def agent_is(self, state):
        bed.wait_for(f'the agent is {state}', lambda: f"name='org.qemu.guest_agent.0' state='{state}'" in self.virsh('dumpxml', 'g').stdout)

    def test_an_agent_that_hangs_dies_and_stays_away_leaves_the_guest_thawed(self):
        self.vm = self.guest(disks=1, fill='4M', kernel_words='bak.agent=bad')
        self.environment['LIBBACKUP_CONFIG'] = self.write_xml('libbackup.conf', 'freeze_timeout = 1\n')
        self.agent_is('connected')
        self.begin(5, 'agent')              # it hangs in the freeze
        self.begin(0)                       # it dies then, and comes back
        os.unlink(self.path('copy'))
        bed.wait_for('the agent is back', lambda: [e['data']['open'] for e in self.vm.events if e['event'] == 'VSERPORT_CHANGE'][-2:] == [False, True])
        self.agent_is('connected')
        self.begin(1, 'hook')               # it refuses
        self.agent_is('disconnected')
        self.begin(5, 'agent')


class Chain(lvbed.OnLibvirt):
    """For test_checkpoints: the disk vda of a domain."""

    def start(self):
        if not hasattr(self, 'vm'):
            self.vm = self.bare(self.disk)
        else:
            bed.wait_for('libvirt has seen the end of QEMU', lambda: not self.vm.is_running())
            self.vm.boot_again()

    def resize(self, size):
        self.vm.qmp.execute('block_resize', node_name=self.vm.node(), size=size)

    def plug(self, path):
        self.virsh('attach-disk', 'g', path, 'vdb', '--driver', 'qemu', '--subdriver', 'qcow2')
        return 'vdb'


class SameOntoTest(Chain, test_checkpoints.OntoTest):
    pass


class SameRefusedTest(Chain, test_checkpoints.RefusedTest):
    inconsistent = stopped = 'bitmap missing or inconsistent'
    other_image = 'another file than at the checkpoint'


class SameGoesOnTest(Chain, test_checkpoints.GoesOnTest):
    granularity = 65536         # libvirt has no word for it

    def snapshot(self):
        self.virsh('snapshot-create-as', 'g', '--no-metadata', '--disk-only', '--diskspec', f'vda,file={self.path("over")}')


class SameNamesTest(Chain, test_checkpoints.NamesTest):
    pass


class TwoDisks(lvbed.OnLibvirt):
    def start(self, images):
        return self.bare(*images)


class SameZeroTest(TwoDisks, test_known_defects.WhatBecameZero):
    pass


class SameDamageTest(TwoDisks, test_known_defects.Damage):
    pass


class SameOrderTest(TwoDisks, test_known_defects.Order):
    pass


class SameOneMomentTest(TwoDisks, test_known_defects.OneMoment):
    pass


class SameGuestTest(lvbed.OnLibvirt, test_events.GuestTest):
    def guest(self, **kw):
        image = self.make_disk('vda.raw', '64M', '16M', fmt='raw')
        return super().guest([bed.Disk(self.served_disk('slow.qcow2', '64M', image), 'vda')], agent=False)

    def push(self, rate='4MiB'):
        self.server.rate = 4 << 20
        super().push(rate)

    def reset(self):
        self.virsh('reset', 'g')

    def unplug(self):
        self.assertIn('active block job', self.virsh('detach-disk', 'g', 'vda', check=False).stderr)        # libvirt does not let it go


# What does not run here: of whole classes, and single tests. The first four reasons are what libvirt cannot do for a backup; the rest is
# about a monitor of one's own, which is no row of a table of backups.
ATTACHED = 'it is about attaching, or about a monitor that libvirt has'
MEMORY = 'libvirt keeps checkpoints in qcow2 images only'
ELSEWHERE = 'the same is done with what libvirt has for it: test_libvirt.py, test_libvirt_trouble.py'
TABLE = (test_bad_input, test_checkpoints, test_failures, test_known_defects, test_point_in_time, test_quiesce)
LEFT_OUT = {
    'test_bad_input.BadMonitorTest': ATTACHED,
    'test_failures.FlushTest': NETWORK,
    'test_failures.CancelTest': NETWORK,
    'test_failures.HungTest': NETWORK,
    'test_known_defects.Failure.test_one_disk_of_two_that_fails_fails_both': NETWORK,
    'test_known_defects.Failure.test_the_next_increment_after_a_failed_one_starts_where_that_did': ELSEWHERE,
    'test_known_defects.Damage.test_a_disk_that_cannot_be_read_fails_the_backup': ELSEWHERE,
    'test_checkpoints.SyncTest': SYNC,
    'test_checkpoints.AsVirshPrintsItTest': ELSEWHERE,
    'test_checkpoints.GoesOnTest.test_while_the_guest_is_off_and_on_again': ELSEWHERE,
    'test_checkpoints.RefusedTest.test_a_memory_bitmap_dies_with_qemu_which_is_said': MEMORY,
    'test_checkpoints.RefusedTest.test_a_bitmap_of_another_granularity_is_refused': ATTACHED,
    'test_checkpoints.RefusedTest.test_a_snapshot_whose_overlay_tracks_nothing_is_refused_until_it_is_committed': ATTACHED,
    'test_checkpoints.OntoTest.test_the_guests_own_image_is_refused_where_qemu_has_a_relative_name_for_it': ATTACHED,
    'test_checkpoints.NamesTest.test_a_checkpoint_whose_image_only_qemu_can_find_is_not_deleted_without_it': ATTACHED,
    'test_checkpoints.RepairTest': ATTACHED,
    'test_checkpoints.OtherFormatsTest': MEMORY,
    'test_quiesce.RealAgentTest': ELSEWHERE,
    'test_quiesce.RealBadAgentTest': ELSEWHERE,
    'test_quiesce.QuiesceTest.test_a_reply_that_never_ends_leaves_nothing_frozen': ATTACHED,
    'test_quiesce.QuiesceTest.test_an_agent_that_dies_between_freeze_and_thaw_is_waited_for': ELSEWHERE,
}


def left_out(module, cls, method):
    return LEFT_OUT.get(f'{module}.{cls}') or LEFT_OUT.get(f'{module}.{cls}.{method}')


def tests_of(cls):
    return [name for name in dir(cls) if name.startswith('test')]


class TableTest(unittest.TestCase):
    versions = ('7.2',)

    def test_every_test_of_attached_guests_runs_here_or_has_a_reason(self):
        here = [cls for cls in globals().values() if isinstance(cls, type) and issubclass(cls, lvbed.OnLibvirt)]
        used = set()
        for module in TABLE:
            for name, cls in vars(module).items():
                if not isinstance(cls, type) or cls.__module__ != module.__name__ or not issubclass(cls, bed.LiveTest):
                    continue
                for method in tests_of(cls):
                    runs = any(issubclass(c, cls) and method in tests_of(c) for c in here)
                    reason = left_out(module.__name__, name, method)
                    used |= {key for key in (f'{module.__name__}.{name}', f'{module.__name__}.{name}.{method}') if key in LEFT_OUT}
                    self.assertTrue(runs or reason, f'{module.__name__}.{name}.{method} neither runs on libvirt nor has a reason')
        self.assertEqual(used, set(LEFT_OUT), 'a reason is given for what is not there')


def leave_out():
    """They would only fail."""
    for key in (key for key in LEFT_OUT if key.count('.') == 2):
        _, base, method = key.split('.')
        for cls in globals().values():
            if isinstance(cls, type) and issubclass(cls, lvbed.OnLibvirt) and any(b.__name__ == base for b in cls.__mro__):
                setattr(cls, method, None)


leave_out()


if __name__ == '__main__':
    bed.main()
