#!/usr/bin/python3
"""Increments one by one: what they are laid on, what refuses them and the way out of it, what they go on through."""
import json
import os

import bed
import lvbed
import nbdpy
from test_failures import network_target

MIB = 1 << 20
SIZE = 4 * MIB


class Chain(bed.LiveTest):
    """A bare block engine with one disk, vda, of which every byte is known."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def setUp(self):
        super().setUp()
        self.data = bytearray(b'\5' * SIZE)
        self.disk = self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 5)])
        self.start()
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=top')

    def start(self):
        """The image under a filter that stays on top when snapshots come and go."""
        self.vm = self.engine(self.disk, extra=['-object', 'throttle-group,id=tg', '-blockdev',
                                                'driver=throttle,discard=unmap,node-name=top,throttle-group=tg,file=disk0'])

    def write(self, offset, length, byte):
        self.vm.io('top', f'write -P {byte} {offset} {length}' if byte else f'write -z -u {offset} {length}')
        self.data[offset:offset + length] = bytes([byte]) * length

    def resize(self, size):
        self.vm.qmp.execute('block_resize', node_name='top', size=size)

    def begin(self, name, *options, rc=0):
        return self.must('backup-begin', 'g', '--disk', 'vda', '--target', self.path(name), *options, '--wait', rc=rc)

    def full(self, name='full', checkpoint='c0'):
        self.begin(name, '--checkpoint', checkpoint)
        return self.path(name)

    def holds(self, path, fmt='qcow2'):
        self.img('convert', '-U', '-f', fmt, '-O', 'raw', path, self.path('restored'))
        with open(self.path('restored'), 'rb') as file:
            return file.read()

    def assert_is_the_disk(self, path):
        self.assertTrue(self.holds(path) == self.data, f'{path} is not what the disk holds')

    def assert_refused(self, *words, options=(), since='c0'):
        """With status 4, nothing begun, and a way out that works."""
        picture, files = self.vm.picture(), sorted(os.listdir(self.directory))
        done = self.begin('refused', '--since', since, *options, rc=4)
        for word in (*words, "disk 'vda'"):
            self.assertRegex(done.err, word)
        self.assertEqual(self.vm.picture(), picture)
        self.assert_files(self.directory, *files)
        return done

    def assert_full_instead(self, reason, since='c0'):
        self.begin('instead', '--since', since, '--fallback', 'full', '--checkpoint', 'instead')
        disk, = self.json('backup-info', 'g')['disks']
        self.assertEqual(disk['type'], 'full')
        self.assertRegex(disk['reason'], reason)
        self.assert_is_the_disk(self.path('instead'))


class OntoTest(Chain):
    def test_an_increment_on_the_backup_of_its_checkpoint_opens_as_the_disk(self):
        full = self.full()
        self.write(MIB, 65536, 7)
        self.write(0, 65536, 0)
        self.begin('inc', '--since', 'c0', '--onto', full, '--checkpoint', 'c1')
        self.write(2 * MIB, 4096, 8)
        self.begin('inc2', '--since', 'c1', '--onto', self.path('inc'))
        self.assert_is_the_disk(self.path('inc2'))
        self.assertEqual(json.loads(self.img('info', '-U', '--output=json', self.path('inc2')).stdout)['backing-filename'], 'inc')

    def test_it_follows_its_backup_to_another_name(self):
        os.mkdir(self.path('archive'))
        os.rename(self.full(), self.path('archive', 'moved'))
        self.write(MIB, 65536, 7)
        self.begin('inc', '--since', 'c0', '--onto', self.path('archive', 'moved'))
        self.assert_is_the_disk(self.path('inc'))

    def test_another_backup_of_the_same_disk_is_refused(self):
        old = self.full()
        self.write(MIB, 65536, 7)
        self.begin('inc', '--since', 'c0', '--onto', old, '--checkpoint', 'c1')
        self.write(2 * MIB, 65536, 8)
        self.assert_refused(f"'{old}' is not the backup of checkpoint 'c1'.*'{self.path('inc')}'", 'rebase', since='c1', options=('--onto', old))

    def test_a_file_that_took_the_name_of_the_backup_is_refused(self):
        full = self.full()
        os.unlink(full)
        self.make_image('full', SIZE)
        self.assert_refused("is not the backup of checkpoint 'c0'", options=('--onto', full))

    def test_a_later_backup_in_the_same_file_is_refused(self):
        full = self.full()
        self.write(MIB, 65536, 7)
        self.begin('full', '--checkpoint', 'c1', '--reuse-external')
        self.assert_refused("holds the backup of checkpoint 'c1', not that of 'c0'", options=('--onto', full))

    def test_a_file_that_no_record_knows_is_taken_on_trust_which_is_said(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        self.img('convert', '-U', '-f', 'qcow2', '-O', 'qcow2', self.disk, self.path('copied'))
        self.write(MIB, 65536, 7)
        done = self.begin('inc', '--since', 'c0', '--onto', self.path('copied'))
        self.assertIn('taken on trust', done.err)
        self.assert_is_the_disk(self.path('inc'))

    def test_the_guests_own_image_is_refused_under_whatever_name(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        os.symlink(self.disk, self.path('soft'))
        os.link(self.disk, self.path('hard'))
        for path in self.disk, self.path('soft'), self.path('hard'):
            self.assertRegex(self.begin('inc', '--since', 'c0', '--onto', path, rc=1).err, f"'{path}' is an image of the .*guest")
            self.assertFalse(os.path.exists(self.path('inc')))

    def test_the_guests_own_image_is_refused_where_qemu_has_a_relative_name_for_it(self):
        self.must('detach', 'g')
        self.vm.quit()
        self.vm = self.engine('../disk.qcow2', name='relative')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.must('checkpoint-create-as', 'g', 'c1')
        self.assertRegex(self.begin('inc', '--since', 'c1', '--onto', self.disk, rc=1).err, 'is an image of (the|a) guest')

    def test_a_backup_that_somebody_reads_is_laid_on_and_one_that_is_written_to_is_refused(self):
        full = self.full()
        reader = self.engine(name='reader', extra=['-blockdev', f'driver=qcow2,node-name=r,read-only=on,file.driver=file,file.filename={full}'])
        self.begin('inc', '--since', 'c0', '--onto', full)
        reader.quit()
        writer = self.engine(full, name='writer')
        self.assertIn('open for writing', self.begin('inc2', '--since', 'c0', '--onto', full, rc=1).err)
        writer.quit()
        self.begin('inc2', '--since', 'c0', '--onto', full)

    def test_a_full_backup_in_its_place_is_laid_on_nothing(self):
        full = self.full()
        self.vm.qmp.execute('block-dirty-bitmap-remove', node=self.vm.node(), name='c0')
        self.begin('instead', '--since', 'c0', '--fallback', 'full', '--onto', full)
        self.assertNotIn('backing-filename', json.loads(self.img('info', '-U', '--output=json', self.path('instead')).stdout))
        self.assert_is_the_disk(self.path('instead'))


class RefusedTest(Chain):
    inconsistent, stopped, other_image = 'bitmap inconsistent', 'not recording', 'bitmap'

    def kill(self):
        self.vm.die()
        self.start()

    def test_after_a_kill_of_qemu_a_bitmap_that_was_stored_is_inconsistent(self):
        self.full()
        self.vm.quit()
        self.start()
        self.write(MIB, 65536, 7)
        self.vm.io('top', 'flush')
        self.kill()
        self.assert_refused(self.inconsistent, '--fallback full')
        self.assert_full_instead(self.inconsistent)

    def test_after_a_kill_of_qemu_a_bitmap_that_was_never_stored_is_inconsistent_too(self):
        self.full()
        self.write(MIB, 65536, 7)
        self.vm.io('top', 'flush')
        self.kill()
        self.assert_refused(self.inconsistent, '--fallback full')
        self.assert_full_instead(self.inconsistent)
        self.assertRegex(self.must('checkpoint-check', 'g', rc=4).out, '(?s)lost.*killed or crashed')

    def test_a_disk_of_another_size_is_refused(self):
        self.full()
        self.resize(SIZE + MIB)
        self.data += bytes(MIB)
        self.assert_refused(f'resized from {SIZE} to {SIZE + MIB}')
        self.assert_full_instead('resized')

    def test_a_disk_that_was_seen_smaller_is_refused_for_ever(self):
        self.full()
        for number, look in enumerate((['checkpoint-check'], ['dominfo'], ['domblklist'], ['dumpxml'], ['checkpoint-dumpxml', '--checkpointname', 'c0', '--size'])):
            with self.subTest(look[0]):
                base = f'base{number}'
                self.must('checkpoint-create-as', 'g', base)
                self.resize(SIZE - MIB)
                self.assertNotEqual(self.baksh(look[0], '--domain', 'g', *look[1:]).rc, 2)
                self.resize(SIZE)
                self.assertIn('smaller since', self.begin('refused', '--since', base, rc=4).err)
        self.data[SIZE - MIB:] = bytes(MIB)
        self.assert_full_instead('smaller since')

    def test_a_checkpoint_that_was_forgotten_and_defined_again_has_its_size_still(self):
        self.full()
        with open(self.path('c0.xml'), 'w') as f:
            f.write(self.must('checkpoint-dumpxml', 'g', 'c0').out)
        self.must('checkpoint-delete', 'g', 'c0', '--metadata')
        size = SIZE - MIB
        self.resize(size)
        self.data = self.data[:size]
        self.must('checkpoint-redefine', 'g', self.path('c0.xml'))
        self.assert_refused('smaller since')
        self.assert_full_instead('smaller since')

    def test_no_bitmap_of_qemu_tells_of_a_disk_that_shrank_and_grew_back(self):
        """Why somebody has to look in between, as the documentation says. Where this fails, QEMU has learnt it."""
        self.full()
        for size in (SIZE - MIB, SIZE):
            self.resize(size)
        bitmap = self.vm.bitmaps()[self.vm.node(), 'c0']
        self.assertEqual((bitmap['count'], bitmap.get('inconsistent', False)), (0, False))

    def test_a_snapshot_whose_overlay_tracks_nothing_is_refused_until_it_is_committed(self):
        self.full()
        self.vm.qmp.execute('blockdev-snapshot-sync', node_name='disk0', snapshot_file=self.path('over'), format='qcow2', snapshot_node_name='over')
        self.write(MIB, 65536, 7)
        self.assert_refused('external snapshot.*does not track')
        self.assertRegex(self.must('checkpoint-check', 'g', rc=4).out, '(?s)gap.*until then a full backup')
        self.vm.qmp.execute('block-commit', job_id='commit', device='top', top_node='over', base_node='disk0')
        self.vm.qmp.wait_event('BLOCK_JOB_READY', device='commit')
        self.vm.qmp.execute('job-complete', id='commit')
        self.vm.qmp.wait_event('BLOCK_JOB_COMPLETED', device='commit')
        self.begin('inc', '--since', 'c0', '--onto', self.path('full'))
        self.assert_is_the_disk(self.path('inc'))

    def test_another_image_under_the_same_name_is_refused(self):
        self.full()
        self.vm.quit()
        os.rename(self.disk, self.path('old'))
        self.data = bytearray(SIZE)
        self.make_image('disk.qcow2', SIZE)
        self.start()
        self.assert_refused(self.other_image)
        self.assert_full_instead(self.other_image)

    def test_a_bitmap_that_somebody_stopped_is_refused(self):
        self.full()
        self.vm.qmp.execute('block-dirty-bitmap-disable', node=self.vm.node(), name='c0')
        self.assert_refused(self.stopped)

    def test_a_bitmap_of_another_granularity_is_refused(self):
        self.full()
        self.vm.qmp.execute('block-dirty-bitmap-remove', node=self.vm.node(), name='c0')
        self.vm.qmp.execute('block-dirty-bitmap-add', node=self.vm.node(), name='c0', persistent=True, granularity=4096)
        self.assert_refused('granularity')

    def test_a_memory_bitmap_dies_with_qemu_which_is_said(self):
        self.begin('full', '--checkpoint', 'c0', '--memory-bitmap')
        self.write(MIB, 65536, 7)
        self.begin('inc', '--since', 'c0', '--onto', self.path('full'))
        self.assert_is_the_disk(self.path('inc'))
        self.vm.quit()
        self.start()
        self.assert_refused('in memory only and died')

    def plug(self, path):
        """Returns the name of the new disk."""
        self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name='other', file={'driver': 'file', 'filename': path})
        return 'other'

    def test_a_disk_that_came_later_is_full_while_the_other_is_incremental(self):
        self.full()
        image = self.make_image('other.qcow2', SIZE, data=[(0, MIB, 9)])
        other = self.plug(image)
        self.write(MIB, 65536, 7)
        words = ['backup-begin', 'g', '--disk', 'vda', '--disk', other, '--target', f'vda={self.path("a")}', '--target', f'{other}={self.path("b")}',
                 '--onto', f'vda={self.path("full")}', '--since', 'c0', '--wait']
        self.assertRegex(self.must(*words, rc=4).err, f"disk '{other}'.*not in the checkpoint")
        self.must(*words, '--fallback', 'full')
        kinds = {disk['target']: disk['type'] for disk in self.json('backup-info', 'g')['disks']}
        self.assertEqual(kinds, {'vda': 'incremental', other: 'full'})
        self.assert_is_the_disk(self.path('a'))
        self.assert_same(image, self.path('b'))


class GoesOnTest(Chain):
    granularity = 32768

    def test_over_a_clean_restart(self):
        full = self.full()
        self.write(MIB, 65536, 7)
        self.vm.quit()
        self.start()
        self.write(2 * MIB, 4096, 8)
        self.begin('inc', '--since', 'c0', '--onto', full)
        self.assert_is_the_disk(self.path('inc'))

    def snapshot(self):
        q = self.vm.qmp
        self.img('create', '-q', '-f', 'qcow2', '-b', self.disk, '-F', 'qcow2', self.path('over'))
        q.execute('blockdev-add', driver='qcow2', node_name='over', file={'driver': 'file', 'filename': self.path('over')}, backing=None)
        q.execute('transaction', actions=[
            {'type': 'blockdev-snapshot', 'data': {'node': 'disk0', 'overlay': 'over'}},
            {'type': 'block-dirty-bitmap-add', 'data': {'node': 'over', 'name': 'c0', 'persistent': True}}])

    def test_over_a_snapshot_whose_overlay_tracks_on(self):
        full = self.full()
        self.write(MIB, 65536, 7)
        self.snapshot()
        self.write(2 * MIB, 4096, 8)
        self.begin('inc', '--since', 'c0', '--onto', full)
        self.assert_is_the_disk(self.path('inc'))

    def test_while_the_guest_is_off_and_on_again(self):
        """One chain over begins on a running guest and on its image alone."""
        self.full()
        self.write(MIB, 65536, 7)
        self.vm.quit()
        self.must('detach', 'g')
        self.must('attach', 'off', '--image', f'vda={self.disk}')
        self.must('backup-begin', 'off', '--target', f'vda={self.path("first")}', '--checkpoint', 'off0', '--wait')
        self.assert_is_the_disk(self.path('first'))
        bed.run(bed.tool('qemu-io'), '-f', 'qcow2', '-c', 'write -P 8 2M 64k', '-c', 'write -z -u 0 64k', self.disk)
        self.data[2 * MIB:2 * MIB + 65536], self.data[:65536] = b'\x08' * 65536, bytes(65536)
        self.must('backup-begin', 'off', '--target', f'vda={self.path("second")}', '--onto', self.path('first'), '--since', 'off0', '--checkpoint', 'off1', '--wait')
        self.assertEqual(self.json('backup-info', 'off')['disks'][0]['type'], 'incremental')
        self.assert_is_the_disk(self.path('second'))
        self.assertIn('foreign', self.must('checkpoint-check', 'off').out)        # c0, of a guest that is known no more

    def test_in_a_series_of_the_form_of_2016_with_its_granularity(self):
        for number, kind in enumerate(('full', 'incremental', 'incremental')):
            with open(self.path('xml'), 'w') as file:
                file.write(f"<domainbackup><branch name='nightly'/><disks><disk name='vda' type='{kind}'><source file='{self.path(str(number))}'/>"
                           "<bitmap granularity='32Kib'/></disk></disks></domainbackup>")
            self.write(number * MIB, 4096, number + 1)
            self.must('backup-begin', 'g', self.path('xml'), '--wait')
            self.assertEqual(self.json('backup-info', 'g')['disks'][0]['type'], kind)
            if number:
                self.img('rebase', '-u', '-F', 'qcow2', '-b', self.path(str(number - 1)), self.path(str(number)))
        self.assert_is_the_disk(self.path('2'))
        self.assertEqual([bitmap['granularity'] for bitmap in self.vm.bitmaps().values()], [self.granularity] * 3)


class SyncTest(Chain):
    def map_of(self, path):
        """Where an image itself holds something."""
        return [(part['start'], part['length']) for part in json.loads(self.img('map', '-U', '-f', 'qcow2', '--output=json', path).stdout)
                if part['data'] or part.get('present', not part['zero'])]

    def test_top_copies_the_active_image_only_and_is_partial(self):
        self.vm.qmp.execute('blockdev-snapshot-sync', node_name='disk0', snapshot_file=self.path('over'), format='qcow2', snapshot_node_name='over')
        self.write(MIB, 65536, 7)
        self.begin('copy', '--sync', 'top')
        job = self.json('backup-info', 'g')
        self.assertEqual((job['partial'], job['disks'][0]['type']), (True, 'top'))
        self.assertEqual(self.map_of(self.path('copy')), [(MIB, 65536)])
        self.img('rebase', '-u', '-F', 'qcow2', '-b', self.disk, self.path('copy'))
        self.assert_is_the_disk(self.path('copy'))

    def test_none_keeps_what_the_guest_overwrites_until_it_is_stopped(self):
        self.must('backup-begin', 'g', '--disk', 'vda', '--target', self.path('copy'), '--sync', 'none')
        before = bytes(self.data)
        self.write(MIB, 65536, 7)
        self.must('backup-stop', 'g')
        job = self.json('backup-info', 'g')
        self.assertEqual((job['state'], job['partial'], job['disks'][0]['type']), ('completed', True, 'none'))
        self.assertEqual(self.map_of(self.path('copy')), [(MIB, 65536)])
        self.assertEqual(self.holds(self.path('copy'))[MIB:MIB + 65536], before[MIB:MIB + 65536])
        self.assertEqual(self.vm.ours(), [])

    def test_none_whose_target_failed_is_no_success(self):
        """Also when the target works again: where the guest's write went on, the copy lacks what it overwrote."""
        server = nbdpy.Server(self.path('server'), SIZE)
        self.addCleanup(server.close)
        server.fail(0, nbdpy.ENOSPC)
        with open(self.path('xml'), 'w') as file:
            file.write(network_target(server, 'vda').replace("type='network'", "type='network' sync='none'"))
        self.must('backup-begin', 'g', self.path('xml'), '--reuse-external')
        self.vm.qmp.hmp(f'qemu-io top "write -P 7 {MIB} 64k"')
        server.limit = None
        breaks = self.version == '11.1'
        done = self.must('backup-stop', 'g', rc=3 if breaks else 0)
        self.assertRegex(done.err, "disk 'vda': the target failed" if breaks else '^$')
        self.vm.io('top', f'read -P {7 if breaks else 5} {MIB} 64k')
        self.assertNotIn('verification failed', self.vm.stderr())
        self.assertEqual(self.vm.ours(), [])

    def test_none_that_is_aborted_is_no_success(self):
        self.must('backup-begin', 'g', '--disk', 'vda', '--target', self.path('copy'), '--sync', 'none')
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.json('backup-info', 'g')['state'], 'aborted')
        self.assertFalse(os.path.exists(self.path('copy')))

    def test_a_partial_copy_is_no_base(self):
        for sync in ('top', 'none'):
            done = self.begin('copy', '--sync', sync, '--checkpoint', 'c0', rc=1)
            self.assertIn("checkpoint 'c0' would cover no disk", done.err)
            self.assertRegex(self.must('backup-begin', 'g', '--mode', 'pull', '--disk', 'vda', '--sync', sync, rc=1).err, "expected 'full' or 'incremental'")
        self.assertEqual(self.vm.bitmaps(), {})


class NamesTest(Chain):
    def test_a_name_is_taken_as_it_is_or_refused(self):
        for name in ('-x', '--name', 'a.b', '1', 'n' * 200):
            with self.subTest(name):
                self.assertEqual(self.baksh('checkpoint-create-as', '--domain', 'g', f'--name={name}').err, '')
                self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.strip(), name)
                self.begin('inc', f'--since={name}')
                os.unlink(self.path('inc'))
                self.must('checkpoint-delete', 'g', f'--checkpointname={name}')
                self.assertEqual(self.vm.bitmaps(), {})
        picture, records = self.vm.picture(), os.path.join(self.state_dir(), 'checkpoints')
        for name in ('a b', 'é', '%s%n', "it's", '"', '<&>', '*', '$(id)', '.hidden', '~', '#1', '', '.', '..', 'a/b', '../../x', 'n' * 201, 'n' * 300, 'bak-x', 'a\nb', '\x1b[2J'):
            with self.subTest(name):
                done = self.baksh('checkpoint-create-as', '--domain', 'g', f'--name={name}')
                self.assertIn(done.rc, (1, 2))
                self.assertRegex(done.err, '(?m)^error: .')
                self.assertNotIn('\x1b', done.err)
                self.assertEqual(self.vm.picture(), picture)
                self.assert_files(records)

    def test_a_checkpoint_whose_image_only_qemu_can_find_is_not_deleted_without_it(self):
        """Else its bitmap would stay, and nobody would know."""
        self.must('detach', 'g')
        self.vm.quit()
        vm = self.engine('../disk.qcow2', name='relative')
        self.must('attach', 'r', '--qmp', vm.qmp_path, '--disk', 'vda=disk0')
        self.must('checkpoint-create-as', 'r', 'c0')
        vm.quit()
        self.assertRegex(self.must('checkpoint-check', 'r', rc=4).out, "(?s)absent.*'../disk.qcow2' cannot be opened")
        self.assertRegex(self.must('checkpoint-delete', 'r', 'c0', rc=5).err, "checkpoint 'c0' cannot be deleted.*--metadata.*disk 'vda'.*'../disk.qcow2' cannot be found")
        self.assertEqual(self.must('checkpoint-list', 'r', '--name').out.split(), ['c0'])
        self.must('checkpoint-delete', 'r', 'c0', '--metadata')
        self.assertIn('c0', self.img('info', self.disk).stdout)

    def test_a_checkpoint_whose_image_is_gone_can_be_deleted(self):
        self.full()
        self.full('second', 'c1')
        self.vm.quit()
        os.unlink(self.disk)
        self.assertRegex(self.must('checkpoint-check', 'g', rc=4).out, '(?s)absent.*cannot be opened')
        self.must('checkpoint-delete', 'g', 'c0')
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c1'])
        self.must('checkpoint-delete', 'g', 'c1', '--metadata')


class RepairTest(Chain):
    def repair(self, *bitmaps, rc):
        return self.must('checkpoint-check', 'g', '--repair', *[word for name in bitmaps for word in ('--bitmap', name)], rc=rc)

    def test_a_bitmap_that_is_not_ours_is_touched_only_when_it_is_named(self):
        self.full()
        self.vm.qmp.execute('block-dirty-bitmap-add', node=self.vm.node(), name='stray', persistent=True)
        self.assertRegex(self.repair(rc=0).out, '(?s)foreign.*unless it is named.*agree')
        for name in 'c0', 'nope':
            self.assertIn(f"bitmap '{name}': there is none of that name, or it is that of a checkpoint", self.repair(name, rc=0).err)
        self.assertEqual(sorted(name for _, name in self.vm.bitmaps()), ['c0', 'stray'])
        self.repair('stray', rc=0)
        self.assertIn("warning: bitmap 'stray'", self.repair('stray', rc=0).err)
        self.assertEqual([name for _, name in self.vm.bitmaps()], ['c0'])


class OtherFormatsTest(bed.LiveTest):
    """A qcow2 disk, a, beside one that cannot keep a bitmap, b."""

    def setUp(self):
        super().setUp()
        raw = self.make_image('b.raw', SIZE, 'raw')
        self.vm = self.engine(self.make_image('a.qcow2', SIZE), extra=['-blockdev', f'driver=raw,node-name=disk1,file.driver=file,file.filename={raw}'])
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'a=disk0', '--disk', 'b=disk1')

    def bitmaps(self):
        return {node: bitmap['persistent'] for (node, _), bitmap in self.vm.bitmaps().items()}

    def test_a_disk_that_is_left_out_of_a_checkpoint_is_said(self):
        said = "disk 'b' is not in checkpoint 'c0'.*format 'raw' cannot keep a bitmap.*--memory-bitmap"
        self.assertRegex(self.must('checkpoint-create-as', 'g', 'c0').err, f'note: {said}')
        self.must('checkpoint-delete', 'g', 'c0')
        with open(self.path('c0.xml'), 'w') as f:
            f.write('<domaincheckpoint><name>c0</name></domaincheckpoint>')
        self.assertRegex(self.must('checkpoint-create', 'g', self.path('c0.xml')).err, said)
        self.must('checkpoint-delete', 'g', 'c0')
        self.assertRegex(self.json('checkpoint-create-as', 'g', 'c0')['note'], said)
        self.assertEqual(self.bitmaps(), {'disk0': True})
        for name, words in ('c1', ['--diskspec', 'a']), ('c2', ['--diskspec', 'b,checkpoint=no', '--diskspec', 'a']):    # who leaves it out is not told so
            self.assertEqual(self.must('checkpoint-create-as', 'g', name, *words).err, '')
        self.assertRegex(self.must('checkpoint-create-as', 'g', 'c3', '--diskspec', 'b', rc=1).err, "disk 'b'.*'raw' cannot keep a bitmap.*--memory-bitmap")

    def test_so_is_an_image_of_the_old_qcow2(self):
        self.must('detach', 'g')
        self.vm.quit()
        self.img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', self.path('old.qcow2'), str(SIZE))
        self.vm = self.engine(self.path('a.qcow2'), self.path('old.qcow2'), name='old')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.assertIn("disk 'disk1' is not in checkpoint 'c0': an image in format 'qcow2 0.10' cannot keep a bitmap", self.must('checkpoint-create-as', 'g', 'c0').err)
        self.assertEqual(self.bitmaps(), {'disk0': True})
        self.assertIn("'qcow2 0.10'", self.must('checkpoint-create-as', 'g', 'c1', '--diskspec', 'disk1', rc=1).err)

    def test_a_checkpoint_that_would_cover_nothing_is_refused_for_a_reason_that_is_said(self):
        self.must('attach', 'r', '--image', f'x={self.make_image("x.raw", SIZE, "raw")}', '--image', f'y={self.make_image("y.raw", SIZE, "raw")}')
        done = self.must('checkpoint-create-as', 'r', 'c0', rc=1)
        for disk in 'xy':
            self.assertRegex(done.err, f"checkpoint 'c0' would cover no disk: .*disk '{disk}'.*'raw' cannot keep a bitmap.*--memory-bitmap")
        self.assertIn('none is left', self.must('checkpoint-create-as', 'g', 'c0', '--diskspec', 'a,checkpoint=no', rc=1).err)

    def test_on_request_it_has_a_bitmap_in_memory_which_is_said_too(self):
        done = self.must('checkpoint-create-as', 'g', 'c0', '--diskspec', 'b', '--memory-bitmap')
        self.assertRegex(done.err, "disk 'b'.*in memory only: it dies with the QEMU process")
        self.assertEqual(self.bitmaps(), {'disk1': False})
        done = self.must('checkpoint-create-as', 'g', 'c1', '--memory-bitmap')
        for disk in 'ab':
            self.assertRegex(done.err, f"disk '{disk}'.*in memory only")
        self.assertEqual(self.bitmaps(), {'disk0': False, 'disk1': False})
        self.assertRegex(self.must('checkpoint-info', 'g', 'c1').out, 'in memory only: a, b')


class AsVirshPrintsItTest(lvbed.OnLibvirt, bed.LiveTest):
    """The same checkpoints on a guest of libvirt and on one of ours; virsh shows the former, baksh the latter."""
    versions = ('7.2',)

    lists = [['checkpoint-list', 'g', *words] for words in (
        [], ['--parent'], ['--roots'], ['--leaves'], ['--no-leaves'], ['--tree'], ['--name'], ['--topological'], ['--topological', '--parent'], ['--tree', '--name'],
        ['--leaves', '--name'], ['--roots', '--parent'], ['--from', 'c0'], ['--from', 'c0', '--descendants'], ['--from', 'c1', '--descendants', '--name'],
        ['--from', 'c0', '--tree'], ['--from', 'c1', '--leaves'], ['--from', 'c3'], ['--from', 'never'], ['--roots', '--tree'], ['--name', '--parent'],
        ['--roots', '--from', 'c1'])]
    others = [['checkpoint-info', 'g', 'c0'], ['checkpoint-info', 'g', 'c2'], ['checkpoint-parent', 'g', 'c2'], ['checkpoint-parent', 'g', 'c0'],
              ['checkpoint-dumpxml', 'g', 'c1', '--no-domain'], ['checkpoint-info', 'g', 'never'], ['checkpoint-dumpxml', 'g', 'never'], ['checkpoint-parent', 'g', 'never']]

    def setUp(self):
        super().setUp()
        self.vm = self.bare(self.make_image('lv.qcow2', SIZE))
        self.ours = bed.LiveTest.engine(self, self.make_image('ours.qcow2', SIZE))
        self.own('attach', 'g', '--qmp', self.ours.qmp_path, '--disk', 'vda=disk0')

    def own(self, *words):
        return self.baksh(*words, uri='qemu:///session')

    def make(self):
        """c0 <- c1 <- c2, and c3 beside c1."""
        for name in ('c0', 'c1', 'c2', 'c3'):
            self.virsh('checkpoint-create-as', 'g', name, *(['what it is'] if name == 'c1' else []))
        whole = self.virsh('checkpoint-dumpxml', 'g', 'c3').stdout.replace('<name>c2</name>', '<name>c0</name>')
        self.virsh('checkpoint-delete', 'g', 'c3', '--metadata')
        self.virsh('checkpoint-create', 'g', self.write_xml('c3', whole), '--redefine')
        for name in ('c0', 'c1', 'c2', 'c3'):
            document = self.write_xml(name, self.virsh('checkpoint-dumpxml', 'g', name, '--no-domain').stdout)
            self.assertEqual(self.own('checkpoint-redefine', 'g', document).rc, 0)

    def test_word_for_word(self):
        self.make()
        for words in self.lists + self.others:
            with self.subTest(' '.join(words)):
                theirs, ours = bed.run('virsh', '-c', self.daemon.uri, *words, check=False, env=self.daemon.environment), self.own(*words)
                self.assertEqual(ours.rc == 0, theirs.returncode == 0, f'{theirs.stderr}\n{ours.err}')
                order = sorted if '--topological' in words else list         # libvirt's own is by chance
                self.assertEqual(order(ours.out.rstrip().split('\n')), order(theirs.stdout.rstrip().split('\n')), f'{theirs.stderr}\n{ours.err}')


if __name__ == '__main__':
    bed.main()
