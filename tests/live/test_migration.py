#!/usr/bin/python3
"""Migration and backup exclude each other: none starts under a job, and a guest that is on its way, waits for one or has left is not backed up.

The source and its destination have the same image, as on shared storage."""
import os

import bed

BUSY = 'does not support live migration'


class MigrationTest(bed.LiveTest):
    locking = 'auto'
    extra = ()

    def setUp(self):
        super().setUp()
        self.image = self.make_image('disk.qcow2', '8M', data=[(0, 4 << 20, 5)])
        self.source = self.start('source', *self.extra)
        self.must('attach', 'source', '--qmp', self.source.qmp_path)

    def start(self, name, *extra):
        vm = self.machine('-blockdev', f'driver=file,node-name=disk0-file,filename={self.image},locking={self.locking}',
                          '-blockdev', 'driver=qcow2,node-name=disk0,file=disk0-file', '-device', 'virtio-blk-pci,drive=disk0,id=vda', *extra, name=name)
        if '-incoming' not in extra:
            vm.qmp.execute('cont')
        return vm

    def destination(self):
        self.target = self.start('target', '-incoming', 'defer', *self.extra)
        self.must('attach', 'target', '--qmp', self.target.qmp_path)
        self.target.qmp.execute('migrate-incoming', uri=f'unix:{self.path("way")}')

    def migrate(self):
        self.source.qmp.execute('migrate', uri=f'unix:{self.path("way")}')

    def wait_migration(self, *states):
        """Until the source says one of them; returns it."""
        def said():
            status = self.source.qmp.execute('query-migrate').get('status')
            return status if status in states else None
        return bed.wait_for(f'migration is {states}', said)

    def status(self, vm):
        return vm.qmp.execute('query-status')['status']

    def write(self, vm, command):
        vm.qmp.hmp(f'qemu-io disk0 "{command}"')

    def assert_refused(self, guest, word):
        """Push, pull and checkpoint; nothing is left of them."""
        for argv in (['backup-begin', guest, '--target', f'vda={self.path("no")}', '--wait'],
                     ['backup-begin', guest, '--mode', 'pull', '--server', f'unix:{self.path("no.sock")}'], ['checkpoint-create-as', guest, 'no']):
            done = self.must(*argv, rc=4)
            self.assertIn(word, done.err)
        self.assertFalse(os.path.exists(self.path('no')))
        self.assertNotIn('no', self.must('checkpoint-list', guest, '--name').out.split())

    def begin_push(self):
        return self.must('backup-begin', 'source', '--target', f'vda={self.path("copy")}', '--limit', '65536')

    def begin_pull(self):
        return self.must('backup-begin', 'source', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}')


class BarrierTest(MigrationTest):
    def refuse_then_allow(self, begin, *end):
        self.destination()
        picture = self.source.picture()
        begin()
        with self.assertRaisesRegex(bed.QmpError, BUSY):
            self.migrate()
        self.assertEqual(self.status(self.source), 'running')
        self.must('backup-stop', 'source', *end)
        self.assert_nothing_left(self.source, picture)
        self.migrate()
        self.assertEqual(self.wait_migration('completed', 'failed'), 'completed')
        bed.wait_for('the guest runs there', lambda: self.status(self.target) in ('paused', 'running'))

    def test_none_starts_while_a_push_runs(self):
        self.refuse_then_allow(self.begin_push, '--abort')

    def test_none_starts_while_a_pull_is_ready(self):
        self.refuse_then_allow(self.begin_pull)

    def test_a_snapshot_of_the_whole_machine_waits_too(self):
        """savevm and migration are one to QEMU."""
        self.begin_pull()
        self.assertIn(BUSY, self.source.qmp.hmp('savevm one'))
        self.must('backup-stop', 'source')

    def test_a_migration_that_runs_is_not_joined(self):
        self.destination()
        self.source.qmp.execute('migrate-set-capabilities', capabilities=[{'capability': 'pause-before-switchover', 'state': True}])
        self.migrate()
        self.wait_migration('pre-switchover')
        self.assert_refused('source', 'migration')
        self.source.qmp.execute('migrate_cancel')
        self.wait_migration('cancelled', 'failed')
        if self.status(self.source) != 'running':
            self.source.qmp.execute('cont')
        self.must('backup-begin', 'source', '--target', f'vda={self.path("copy")}', '--wait')
        self.assert_same(self.image, self.path('copy'))


class StatesTest(MigrationTest):
    def test_who_waits_and_who_has_left_is_refused_and_who_arrived_is_not(self):
        self.destination()
        self.assert_refused('target', 'inmigrate')
        self.migrate()
        self.wait_migration('completed')
        bed.wait_for('arrival', lambda: self.status(self.target) == 'paused')
        self.target.qmp.execute('cont')
        self.assert_refused('source', 'postmigrate')
        self.write(self.target, 'write -q -P 7 2M 1M')
        self.must('backup-begin', 'target', '--target', f'vda={self.path("copy")}', '--checkpoint', 'c1', '--wait')
        self.write(self.target, 'flush')
        self.assert_same(self.image, self.path('copy'))

    def test_who_was_saved_into_a_file_is_refused_until_it_goes_on(self):
        self.must('checkpoint-create-as', 'source', 'kept')
        self.source.qmp.execute('migrate', uri='exec:cat > /dev/null')
        self.wait_migration('completed')
        self.assertIn('postmigrate', self.must('checkpoint-delete', 'source', 'kept', rc=4).err)
        self.assert_refused('source', 'postmigrate')
        self.source.qmp.execute('cont')
        self.must('backup-begin', 'source', '--target', f'vda={self.path("copy")}', '--wait')
        self.assert_same(self.image, self.path('copy'))
        self.must('checkpoint-delete', 'source', 'kept')
        self.assertEqual(self.source.bitmaps(), {})


class WatchTest(MigrationTest):
    """Where QEMU takes no barrier."""
    extra = ('-only-migratable',)

    def one_lives(self, begin):
        """Either the migration is cancelled, and the job goes on, or it was faster: then the job fails, and the guest lives over there."""
        self.destination()
        said = begin()
        self.assertIn('cannot be kept from migrating', said.out + said.err)
        self.migrate()
        if self.wait_migration('completed', 'failed', 'cancelled') == 'completed':
            self.must('backup-wait', 'source', rc=3)
            job = self.json('backup-info', 'source')
            self.assertEqual(job['state'], 'failed')
            self.assertIn('migrat', job['error'])
            bed.wait_for('it has arrived', lambda: self.status(self.target) in ('running', 'paused'))
            self.target.qmp.execute('cont')
            self.assertEqual(self.status(self.target), 'running')
            return
        bed.wait_for('it goes on here', lambda: self.status(self.source) == 'running')
        self.assertIn(self.json('backup-info', 'source')['state'], ('ready', 'running'))
        self.write(self.source, 'write -q -P 7 2M 1M')
        self.finish()

    def test_no_push_is_torn_by_a_migration(self):
        self.finish = lambda: self.must('backup-stop', 'source', '--abort')
        self.one_lives(self.begin_push)

    def test_no_pull_is_torn_by_a_migration(self):
        def finish():
            self.nbdcopy(f'nbd+unix:///vda?socket={self.path("nbd")}', self.path('copy'))
            self.must('backup-stop', 'source')
            self.assert_same(self.path('before'), self.path('copy'), 'qcow2', 'raw')
        self.finish = finish
        self.img('convert', '-U', '-O', 'qcow2', self.image, self.path('before'))
        self.one_lives(self.begin_pull)


class NoLocksTest(WatchTest):
    """As on shared LVM, RBD or iSCSI: nothing but us keeps the two apart."""
    locking = 'off'


if __name__ == '__main__':
    bed.main()
