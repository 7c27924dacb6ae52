"""Identity is proved, not named: what an increment starts from is the image, at the instant, with the bitmap that the checkpoint was made with."""

import json
import os
import re
import shutil
import socket
import tempfile

import bed

M = 1 << 20


class Identity(bed.LiveTest):
    """One engine with one disk, a full backup with checkpoint c1, and increments from it."""

    def start(self, *images, checkpoint='c1', **kwargs):
        self.images = list(images) or [self.make_image('d.qcow2', 16 * M, data=[(0, 16 * M, 1)])]
        self.engine_ = self.engine(*self.images, **kwargs)
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)
        self.full(checkpoint)
        return self.engine_

    def targets(self, option, name):
        return [word for n in range(len(self.images)) for word in (option, f'disk{n}={self.path(f"{name}{n}")}')]

    def full(self, checkpoint, name='full'):
        self.must('backup-begin', 'g', *self.targets('--target', name), '--checkpoint', checkpoint, '--wait')

    def increment(self, *more, since='c1', name='inc', onto='full', rc=0):
        return self.must('backup-begin', 'g', *self.targets('--target', name), *(self.targets('--onto', onto) if onto else []), '--since', since, '--wait', *more, rc=rc)

    def write(self, pattern, offset, disk=0):
        self.engine_.io(f'disk{disk}', f'write -q -P {pattern} {offset} 64k')

    def assert_exact(self, name='inc'):
        for n, image in enumerate(self.images):
            self.engine_.io(f'disk{n}', 'flush')
            self.img('compare', '-U', image, self.path(f'{name}{n}'))

    def assert_refused(self, words, kind=None, **kwargs):
        """The increment is refused for that reason, checkpoint-check says so, and a fallback makes the disk full and exact."""
        refused = self.increment(rc=4, **kwargs)
        self.assertRegex(refused.err, words)
        if kind:
            self.assertIn(kind, {f['kind'] for f in self.listing('checkpoint-check', 'g', rc=4)})
        self.increment('--fallback', 'full', name='fallback', **kwargs)
        self.assert_exact('fallback')


class SealTest(Identity):
    """What a checkpoint leaves in each image."""

    def test_each_image_has_a_seal_of_its_own_that_goes_with_the_checkpoint(self):
        images = [self.make_image(f'{n}.qcow2', 4 * M, data=[(0, M, 1 + n)]) for n in range(2)]
        engine = self.start(*images)
        first = engine.seals()
        self.assertEqual(len(set(first)), 2)
        engine.quit()
        engine.start()
        self.assertEqual(engine.seals(), first)
        self.write(5, M)
        self.increment('--checkpoint', 'c2')
        self.assert_exact()
        self.assertEqual(len(engine.seals()), 4)
        self.must('checkpoint-check', 'g')
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual(len(engine.seals()), 2)
        self.assertFalse(set(engine.seals()) & set(first))
        self.must('checkpoint-delete', 'g', 'c2')
        self.assertEqual(engine.all_bitmaps(), {})

    def test_disks_of_several_sizes_are_sealed_without_harm(self):
        """Each size has an end of its own, set by a small job."""
        engine = self.start(*[self.make_image(f'{n}.qcow2', (4 + n) * M, data=[(0, M, 1 + n)]) for n in range(3)])
        for number in range(2, 8):
            self.must('checkpoint-create-as', 'g', f'c{number}')
            engine.check_alive()
        self.write(9, M)
        self.increment()
        self.assert_exact()

    def test_no_seal_stays_of_a_backup_that_failed(self):
        engine = self.start()
        seals = engine.seals()
        self.must('backup-begin', 'g', *self.targets('--target', 'slow'), '--checkpoint', 'c2', '--limit', '1MiB')
        self.assertEqual(len(engine.seals()), 2)
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(engine.seals(), seals)
        self.must('checkpoint-create-as', 'g', 'c2', '--memory-bitmap')
        self.assertEqual(len(engine.seals()), 2)
        self.write(3, M)
        self.increment(since='c2', onto=None)
        self.must('checkpoint-delete', 'g', 'c2')
        self.assertEqual(engine.seals(), seals)

    def test_a_stray_seal_is_swept_and_that_of_a_checkpoint_is_not(self):
        engine = self.start()
        seals = engine.seals()
        engine.qmp.execute('block-dirty-bitmap-add', node='disk0', name='bak-seal-' + '0' * 24, persistent=True)
        self.assertEqual([f['kind'] for f in self.listing('checkpoint-check', 'g', rc=4)], ['leftover'])
        self.must('checkpoint-check', 'g', '--repair')
        self.assertEqual(engine.seals(), seals)
        self.must('checkpoint-delete', 'g', 'c1', '--metadata')
        self.must('checkpoint-check', 'g', '--repair', '--bitmap', 'c1')
        self.assertEqual(engine.all_bitmaps(), {})

    def test_a_powered_off_guest_has_them_too(self):
        image = self.make_image('off.qcow2', 4 * M, data=[(0, M, 1)])
        self.must('attach', 'g', '--image', f'disk0={image}')
        self.images = [image]
        self.full('c1')
        info = self.img('info', '-U', image).stdout
        self.assertEqual((info.count('bak-seal-'), info.count('-end')), (2, 1))
        self.must('checkpoint-check', 'g')
        bed.run('qemu-io', '-f', 'qcow2', '-c', f'write -q -P 7 {2 * M} 64k', image)
        self.increment()
        self.img('compare', image, self.path('inc0'))
        self.img('bitmap', '--remove', image, re.search(r'bak-seal-\w+$', info, re.MULTILINE)[0])
        self.assertEqual([f['kind'] for f in self.listing('checkpoint-check', 'g', rc=4)], ['replaced'])
        self.assertIn('seal', self.increment(name='again', rc=4).err)
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertNotIn('c1', self.img('info', '-U', image).stdout)


class ImageTest(Identity):
    """The image under the bitmap."""

    def test_images_renamed_into_each_other_are_refused(self):
        engine = self.start(*[self.make_image(f'{n}.qcow2', 8 * M, data=[(0, 8 * M, 1 + n)]) for n in range(2)])
        engine.quit()
        first, second = self.images
        os.rename(first, self.path('aside'))
        os.rename(second, first)
        os.rename(self.path('aside'), second)
        engine.start()
        self.assert_refused('another image', 'replaced')

    def test_a_checkpoint_of_an_older_state_is_not_one_of_the_same_name(self):
        self.start(checkpoint='daily')
        shutil.copytree(self.path('state'), self.path('old'), ignore=shutil.ignore_patterns('*.sock'))
        self.write(4, 9 * M)
        self.must('checkpoint-delete', 'g', 'daily')
        self.full('daily', 'second')
        self.write(5, 11 * M)
        shutil.rmtree(self.path('state'))
        shutil.copytree(self.path('old'), self.path('state'))
        self.assert_refused('another image', 'replaced', since='daily')

    def test_an_image_that_was_moved_is_known_by_its_seal(self):
        engine = self.start()
        self.write(3, 2 * M)
        engine.quit()
        moved = self.path('moved.qcow2')
        os.rename(self.images[0], moved)
        self.engine_ = self.engine(moved, name='engine')
        self.images = [moved]
        self.write(4, 5 * M)
        self.increment()
        self.assert_exact()
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual(self.engine_.all_bitmaps(), {})

    def test_a_record_without_a_seal_is_used_and_said_to_be_unsealed(self):
        engine = self.start()
        engine.qmp.execute('block-dirty-bitmap-remove', node='disk0', name=engine.seals()[0])
        path = os.path.join(self.state_dir(), 'checkpoints', 'c1.json')
        with open(path) as file:
            record = json.load(file)
        del record['disks'][0]['seal']
        with open(path, 'w') as file:
            json.dump(record, file)
        self.write(3, 2 * M)
        self.assertIn('not sealed', self.increment().err)
        self.assert_exact()


class MovedTest(Identity):
    """The image has gone to another place: nothing of the checkpoint is left behind there."""

    def setUp(self):
        super().setUp()
        self.images = [self.make_image(f'{n}.qcow2', 4 * M, data=[(0, M, 1 + n)]) for n in range(2)]
        self.engine_ = self.engine(*self.images)
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)
        self.must('checkpoint-create-as', 'g', 'c1', '--diskspec', 'disk0')
        self.assertEqual({node for node, _ in self.engine_.all_bitmaps()}, {'disk0'})

    def swap(self):
        self.engine_.quit()
        first, second = self.images
        os.rename(first, self.path('aside'))
        os.rename(second, first)
        os.rename(self.path('aside'), second)

    def assert_stored(self, *expected):
        for image, there in zip(self.images, expected):
            self.assertEqual('bitmaps' in self.img('info', '-U', image).stdout, there, image)

    def test_deleting_takes_the_bitmap_out_of_the_image_that_moved(self):
        self.swap()
        self.engine_.start()
        self.assertEqual({node for node, _ in self.engine_.all_bitmaps()}, {'disk1'})
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual(self.engine_.all_bitmaps(), {})

    def test_so_does_a_repair_that_says_where_the_image_is(self):
        self.swap()
        self.engine_.start()
        found = {f['kind']: f for f in self.listing('checkpoint-check', 'g', rc=4)}
        self.assertIn(self.images[1], found['replaced']['meaning'])
        self.must('checkpoint-check', 'g', '--repair')
        self.assertEqual(self.engine_.all_bitmaps(), {})
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), [])

    def test_a_checkpoint_of_both_disks_goes_from_both(self):
        for how in ('checkpoint-delete', 'g', 'c2'), ('checkpoint-check', 'g', '--repair'):
            with self.subTest(how=how):
                self.must('checkpoint-create-as', 'g', 'c2')
                self.swap()
                self.engine_.start()
                self.must(*how)
                self.assertNotIn('c2', {name for _, name in self.engine_.all_bitmaps()})
                self.assertEqual(len(self.engine_.seals()), 'c1' in {name for _, name in self.engine_.all_bitmaps()})

    def test_so_does_deleting_while_the_guest_is_off(self):
        self.swap()
        self.assert_stored(False, True)
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_stored(False, False)

    def test_an_image_that_the_guest_has_no_more_is_cleared_where_it_lies(self):
        self.engine_.quit()
        self.engine_ = self.engine(self.images[1], name='engine')
        self.assert_stored(True, False)
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_stored(False, False)

    def test_one_that_another_qemu_has_open_is_named_and_the_checkpoint_stays(self):
        self.engine_.quit()
        other = self.engine(self.images[0], name='other')
        self.engine_ = self.engine(self.images[1], name='engine')
        self.assertRegex(self.must('checkpoint-delete', 'g', 'c1', rc=1).err, f"--metadata.*disk 'disk0'.*{self.images[0]}")
        self.must('checkpoint-info', 'g', 'c1')
        other.quit()
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_stored(False, False)

    def test_what_bears_another_seal_is_no_image_of_ours(self):
        """A bitmap of the same name in an image that took a place which the checkpoint does not cover."""
        self.engine_.quit()
        self.img('bitmap', '--add', self.images[1], 'c1')
        self.engine_.start()
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual(set(self.engine_.all_bitmaps()), {('disk1', 'c1')})


class GuestTest(Identity):
    """The guest behind the monitor."""
    first, second = (f'{n * 8}-2222-4333-8444-555555555555' for n in '17')

    def test_another_guest_behind_the_socket_is_refused_and_left_alone(self):
        engine = self.start(extra=['-uuid', self.first])
        engine.quit()
        other = self.make_image('other.qcow2', 16 * M, data=[(0, 16 * M, 5)])
        self.img('bitmap', '--add', other, 'c1')
        self.engine_ = self.engine(other, name='engine', extra=['-uuid', self.second])
        picture = self.engine_.picture()
        for argv in (('dominfo', 'g'), ('backup-begin', 'g', '--target', f'disk0={self.path("full-of-another")}', '--wait'),
                     ('checkpoint-create-as', 'g', 'c2')):
            self.assertRegex(self.must(*argv, rc=4).err, f'another guest .*{self.second}.*{self.first}')
        self.increment(rc=4)
        self.assertFalse(os.path.exists(self.path('full-of-another')))
        self.assertEqual(self.engine_.picture(), picture)
        self.must('detach', 'g')
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)

    def test_the_same_guest_is_the_same_after_a_restart(self):
        engine = self.start(extra=['-uuid', self.first])
        self.write(3, 2 * M)
        engine.quit()
        engine.start()
        self.increment()
        self.assert_exact()


class BelowTest(Identity):
    """What the guest's image stands on."""

    def setUp(self):
        super().setUp()
        for name, byte in (('base', 1), ('other', 2)):
            self.make_image(f'{name}.qcow2', 16 * M, data=[(0, 16 * M, byte)])
        self.image = self.path('top.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', self.path('base.qcow2'), self.image)
        self.start(self.image)
        self.write(3, 2 * M)

    def while_off(self, change):
        self.engine_.quit()
        change()
        self.engine_.start()

    def test_the_same_base_is_the_same_after_a_restart(self):
        self.while_off(lambda: None)
        self.write(4, 5 * M)
        self.increment()
        self.assert_exact()
        self.must('checkpoint-check', 'g')

    def test_another_base_is_refused(self):
        self.while_off(lambda: self.img('rebase', '-u', '-F', 'qcow2', '-b', self.path('other.qcow2'), self.image))
        self.assert_refused('other.qcow2', 'replaced')

    def test_a_base_that_was_written_to_is_refused(self):
        write = ('-f', 'qcow2', '-c', 'write -q -P 7 8M 64k', self.path('base.qcow2'))
        self.while_off(lambda: bed.run(bed.tool('qemu-io', '7.2'), *write))
        self.assert_refused('base.qcow2', 'replaced')

    def test_a_base_far_below_that_was_replaced_is_refused(self):
        """The same for an image that lies two below."""
        self.must('checkpoint-delete', 'g', 'c1')
        self.while_off(lambda: self.img('rebase', '-u', '-F', 'qcow2', '-b', self.path('other.qcow2'), self.path('base.qcow2')))
        self.full('c1', 'again')
        self.while_off(lambda: os.replace(self.make_image('third.qcow2', 16 * M, data=[(0, 16 * M, 9)]), self.path('other.qcow2')))
        self.assert_refused('other.qcow2', 'replaced', onto='again')

    def test_a_base_that_is_gone_from_below_is_refused(self):
        self.while_off(lambda: self.img('rebase', '-u', '-b', '', self.image))
        self.assert_refused('nothing lies below', 'replaced')

    def test_a_base_that_was_copied_with_its_times_is_the_same(self):
        def move():
            shutil.copy2(self.path('base.qcow2'), self.path('copied.qcow2'))
            self.img('rebase', '-u', '-F', 'qcow2', '-b', self.path('copied.qcow2'), self.image)
        self.while_off(move)
        self.increment()
        self.assert_exact()

    def test_a_record_that_does_not_know_is_taken_on_trust(self):
        path = os.path.join(self.state_dir(), 'checkpoints', 'c1.json')
        with open(path) as file:
            record = json.load(file)
        del record['disks'][0]['layers']
        with open(path, 'w') as file:
            json.dump(record, file)
        self.increment()
        self.assert_exact()


class DataFileTest(Identity):
    """An image whose data is in a file of its own."""

    def make(self, name, *more):
        self.img('create', '-q', '-f', 'qcow2', '-o', f'data_file={self.path(name + ".data")}', *more, self.path(f'{name}.qcow2'), '16M')
        bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', '-c', 'write -q -P 1 0 4M', self.path(f'{name}.qcow2'))
        return self.path(f'{name}.qcow2')

    def replace(self, path):
        shutil.copy2(path, path + '.copy')
        os.rename(path + '.copy', path)

    def test_the_same_file_is_the_same_after_a_restart_and_a_copy_is_not(self):
        engine = self.start(self.make('top'))
        self.write(3, 2 * M)
        engine.quit()
        engine.start()
        self.increment(name='first')
        self.assert_exact('first')
        engine.quit()
        self.replace(self.path('top.data'))
        engine.start()
        self.assert_refused("top.data' is another file", 'replaced')

    def test_one_far_below_that_was_written_to_is_refused(self):
        self.make('base')
        image = self.path('top.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', self.path('base.qcow2'), image)
        engine = self.start(image)
        self.write(3, 2 * M)
        engine.quit()
        with open(self.path('base.data'), 'r+b') as file:
            file.seek(5 * M)
            file.write(b'x' * 4096)
        engine.start()
        self.assert_refused("base.data' is not as it was left", 'replaced')


class BitmapTest(Identity):
    """A second manager that plays with the checkpoint's bitmap."""

    def qmp(self, command, **arguments):
        self.engine_.qmp.execute(f'block-dirty-bitmap-{command}', node='disk0', name='c1', **arguments)

    def test_a_bitmap_that_was_cleared_is_refused(self):
        self.start()
        self.write(3, 7 * M)
        self.qmp('clear')
        self.write(4, 9 * M)
        self.assert_refused('touched by somebody else', 'touched')

    def test_a_bitmap_that_was_stopped_for_a_while_is_refused(self):
        self.start()
        self.qmp('disable')
        self.write(3, 7 * M)
        self.qmp('enable')
        self.write(4, 9 * M)
        self.assert_refused('touched by somebody else', 'touched')

    def test_a_bitmap_that_was_made_anew_is_refused_even_after_a_restart(self):
        engine = self.start()
        self.write(3, 7 * M)
        self.qmp('remove')
        self.qmp('add', persistent=True)
        engine.quit()
        engine.start()
        self.assert_refused('touched by somebody else', 'touched')

    def test_what_others_merge_into_it_does_no_harm(self):
        self.start()
        self.write(3, 7 * M)
        self.engine_.qmp.execute('block-dirty-bitmap-add', node='disk0', name='theirs')
        self.write(4, 9 * M)
        self.engine_.qmp.execute('block-dirty-bitmap-merge', node='disk0', target='c1', bitmaps=['theirs'])
        self.increment()
        self.assert_exact()


class EndTest(Identity):
    """The end of the disk, that a resize takes away and gives back empty."""

    def resize_off(self, *sizes):
        self.engine_.quit()
        for size in sizes:
            self.img('resize', '--shrink', self.images[0], str(size))
        self.engine_.start()

    def test_a_disk_that_was_smaller_while_off_is_refused(self):
        self.start()
        self.resize_off(8 * M, 16 * M)
        self.write(4, 16 * M - 65536)      # what hides it from a bitmap that records
        self.assert_refused('has been smaller since', 'resized')

    def test_so_is_one_that_lost_a_sector_only(self):
        self.start()
        self.resize_off(16 * M - 512, 16 * M)
        self.assert_refused('has been smaller since', 'resized')

    def test_so_is_one_that_was_smaller_while_it_ran(self):
        self.start()
        for size in 8 * M, 16 * M:
            self.engine_.qmp.execute('block_resize', node_name='disk0', size=size)
        self.assert_refused('has been smaller since', 'resized')

    def test_one_that_was_larger_for_a_while_lost_nothing(self):
        self.start()
        self.resize_off(20 * M, 16 * M)
        self.write(4, 5 * M)
        self.increment()
        self.assert_exact()

    def test_a_disk_of_any_size_has_an_end(self):
        """One sector, a size that fits no granule, two of one size."""
        sizes = (512, 3 * M + 512, 3 * M + 512, 100 * 1024 * M)
        images = [self.make_image(f'{n}.qcow2', size) for n, size in enumerate(sizes)]
        engine = self.engine(*images)
        self.must('attach', 'g', '--qmp', engine.qmp_path)
        picture = engine.picture()
        self.must('checkpoint-create-as', 'g', 'c1')
        ends = {node: bitmap for (node, name), bitmap in engine.all_bitmaps().items() if name.endswith('-end')}
        self.assertEqual({node: (b['count'], b['recording']) for node, b in ends.items()},
                         {'disk1': (512, False), 'disk2': (512, False), 'disk3': (65536, False)})
        self.must('checkpoint-check', 'g')
        self.must('checkpoint-delete', 'g', 'c1')
        self.assertEqual(engine.all_bitmaps(), {})
        self.assertEqual(engine.picture(), picture)

    def test_a_checkpoint_that_has_none_is_used_as_before(self):
        engine = self.start()
        path = os.path.join(self.state_dir(), 'checkpoints', 'c1.json')
        with open(path) as file:
            record = json.load(file)
        del record['disks'][0]['guarded']
        with open(path, 'w') as file:
            json.dump(record, file)
        engine.qmp.execute('block-dirty-bitmap-remove', node='disk0', name=engine.seals()[0] + '-end')
        self.write(4, 5 * M)
        self.increment()
        self.assert_exact()


class PreviousTest(Identity):
    """The previous backup that an increment is laid on, and all that lies below it."""

    def second(self):
        self.write(3, 7 * M)
        self.increment('--checkpoint', 'c2', name='i')
        self.write(4, 8 * M)

    def scribble(self, name, offset=6 * M):
        bed.run('qemu-io', '-f', 'qcow2', '-c', f'write -q -P 99 {offset} 1M', self.path(name))

    def test_a_previous_backup_that_was_written_to_is_refused(self):
        self.start()
        self.write(3, 7 * M)
        self.scribble('full0')
        self.assert_refused("full0' is not as it was left")

    def test_writing_is_seen_though_the_time_of_the_file_was_put_back(self):
        self.start()
        times = os.stat(self.path('full0'))
        with open(self.path('full0'), 'r+b') as file:
            file.seek(70000)
            file.write(b'x' * 4096)
        os.utime(self.path('full0'), ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assert_refused('content')

    def test_a_previous_backup_that_was_cut_is_refused(self):
        self.start()
        os.truncate(self.path('full0'), os.path.getsize(self.path('full0')) // 2)
        self.assert_refused('full0')

    def test_another_file_far_below_is_refused(self):
        self.start()
        self.second()
        self.img('create', '-q', '-f', 'qcow2', self.path('other'), str(16 * M))
        os.rename(self.path('other'), self.path('full0'))
        self.assert_refused("full0' is not as it was left", since='c2', onto='i')

    def test_a_file_missing_far_below_is_refused(self):
        self.start()
        self.second()
        os.unlink(self.path('full0'))
        self.assert_refused('does not open', since='c2', onto='i')

    def test_a_chain_that_was_moved_as_a_whole_is_the_same(self):
        self.start()
        self.second()
        os.mkdir(self.path('moved'))
        for name in 'full0', 'i0':
            os.rename(self.path(name), self.path('moved', name))
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("moved", "inc0")}', '--onto', f'disk0={self.path("moved", "i0")}', '--since', 'c2', '--wait')
        self.assert_exact('moved/inc')

    def test_an_increment_may_be_given_its_backing_file_by_hand(self):
        self.start()
        self.write(3, 7 * M)
        self.increment('--checkpoint', 'c2', name='i', onto=None)
        self.img('rebase', '-u', '-F', 'qcow2', '-b', 'full0', self.path('i0'))
        self.write(4, 8 * M)
        self.increment(since='c2', onto='i', name='inc')
        self.assert_exact()
        self.scribble('i0')
        self.assert_refused("i0' is not as it was left", since='c2', onto='i')

    def test_a_colon_in_a_name_is_no_protocol(self):
        self.start()
        self.full('c0', 'vd-10:00:')
        self.write(3, 7 * M)
        self.increment(since='c0', onto='vd-10:00:', name='vd-11:00:')
        self.assert_exact('vd-11:00:')

    def gone_at_the_end(self, *more):
        self.start()
        self.engine_.io('disk0', f'write -q -P 3 {2 * M} 1M')
        self.must('backup-begin', 'g', *self.targets('--target', 'i'), *self.targets('--onto', 'full'), '--since', 'c1', '--limit', '512KiB', *more)
        os.rename(self.path('full0'), self.path('aside'))
        self.assertIn('does not open', self.must('backup-wait', 'g', rc=3).err + self.json('backup-info', 'g')['error'])
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c1'])

    def test_a_chain_that_does_not_open_at_the_end_is_not_completed(self):
        self.gone_at_the_end()

    def test_nor_does_it_make_a_checkpoint(self):
        self.gone_at_the_end('--checkpoint', 'c2')


class TargetTest(Identity):
    """What was written is what lies there at the end, whoever could write there too."""

    def setUp(self):
        super().setUp()
        # zeroes in the middle and at the end: what has nothing to be written is no gap
        self.images = [self.make_image('d.qcow2', 16 * M, data=[(0, 6 * M, 1), (9 * M, 5 * M, 2)])]
        self.engine_ = self.engine(*self.images)
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)

    def begin(self, *more):
        self.must('backup-begin', 'g', *self.targets('--target', 'copy'), '--checkpoint', 'c1', '--limit', '8MiB', *more)

    def assert_failed(self, words):
        self.must('backup-wait', 'g', rc=3)
        self.assertRegex(self.json('backup-info', 'g')['error'], words)
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), [])
        self.assertEqual(self.engine_.all_bitmaps(), {})

    def cut(self, *more, grown=False):
        self.begin(*more)
        path = self.path('copy0')
        bed.wait_for('half of the copy', lambda: os.stat(path).st_blocks * 512 > 4 * M)
        os.truncate(path, M)
        if grown:
            os.truncate(path, 16 * M)
        self.assert_failed('somebody has cut it')

    def test_a_target_that_was_cut_while_it_was_written_is_not_completed(self):
        self.cut()

    def test_nor_a_raw_one(self):
        self.cut('--format', 'raw')

    def test_nor_one_that_has_its_length_again(self):
        self.cut('--format', 'raw', grown=True)

    def mirrored(self, target):
        self.must('backup-begin', 'g', '--instant', 'end', *self.targets('--target', target), '--format', 'raw',
                  '--checkpoint', 'c1')
        bed.wait_for('the disks are in step', lambda: self.json('backup-info', 'g')['state'] == 'ready')

    def test_nor_one_that_mirrors_write(self):
        if bed.version_tuple(self.version) > (10, 0):
            self.skipTest('its mirrors leave out what reads as zero: only the length tells')
        self.mirrored('copy')
        for size in M, 16 * M:
            os.truncate(self.path('copy0'), size)
        self.must('backup-stop', 'g', rc=3)
        self.assert_failed('somebody has cut it')

    def test_those_of_mirrors_that_nobody_touches_are(self):
        self.mirrored('copy')
        self.must('backup-stop', 'g')
        self.img('compare', '-U', '-F', 'raw', self.images[0], self.path('copy0'))

    def test_nor_one_in_memory(self):
        with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
            os.symlink(folder, self.path('memory'))
            self.path = lambda *names: os.path.join(self.directory, *(['memory', 'copy0'] if names == ('copy0',) else names))
            self.cut('--format', 'raw')

    def test_those_that_nobody_touches_are(self):
        for name, protect in (('raw', 'yes'), ('raw', 'no'), ('qcow2', 'yes'), ('qcow2', 'no')):
            target = f'{name}-{protect}-'
            self.must('backup-begin', 'g', *self.targets('--target', target), '--format', name, '--protect', protect, '--wait')
            self.img('compare', '-U', '-F', name, self.images[0], self.path(f'{target}0'))
        self.must('backup-begin', 'g', *self.targets('--target', 'small'), '--compression', 'zlib', '--wait')
        self.img('compare', '-U', self.images[0], self.path('small0'))


class ServerTest(Identity):
    """One export has many names, and holds one disk."""

    def test_two_disks_do_not_go_into_one_export(self):
        self.engine_ = self.engine(*[self.make_image(f'{n}.qcow2', 4 * M, data=[(0, M, 1 + n)]) for n in range(2)])
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)
        server, other = (bed.NbdServer(self, 'memory', '4M', name=name) for name in ('one', 'other'))
        os.symlink(server.path, self.path('link'))
        os.link(server.path, self.path('hard'))
        same = [(f'nbd+unix:///?socket={server.path}', f'nbd+unix:///?socket={self.path(name)}') for name in ('link', 'hard')]
        same += [('nbd://localhost:9/', 'nbd://127.0.0.1:9/'), ('nbd://127.0.0.1:10809/x', 'nbd://127.0.0.2/x')]
        for one, two in same:
            done = self.must('backup-begin', 'g', '--target', f'disk0={one}', '--target', f'disk1={two}', '--format', 'raw', rc=1)
            self.assertIn("disks 'disk0' and 'disk1' would both be written to", done.err)
        self.must('backup-begin', 'g', '--target', f'disk0={server.uri}', '--target', f'disk1={other.uri}', '--format', 'raw', '--wait')
        self.assertEqual(self.engine_.ours(), [])

    def serve_both(self):
        """(socket, port) of one process that serves one export at both."""
        path = self.path('both.sock')
        listeners = [bed.listen_unix(path), socket.create_server(('127.0.0.1', 0))]
        port = listeners[1].getsockname()[1]
        fds = [listener.fileno() for listener in listeners]
        script = f'exec 13<&{fds[0]} 14<&{fds[1]} 3<&13 4<&14 13<&- 14<&-; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$@"'
        self.popen('bash', '-c', script, 'bash', bed.need('nbdkit', 'nbdkit'), '--foreground', 'memory', '4M', pass_fds=fds)
        for listener in listeners:
            listener.close()
        return path, port

    def test_a_socket_and_a_port_of_one_process_are_one_server(self):
        path, port = self.serve_both()
        self.engine_ = self.engine(*[self.make_image(f'{n}.qcow2', 4 * M, data=[(0, M, 1 + n)]) for n in range(2)])
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)
        both = f'nbd+unix:///?socket={path}', f'nbd://localhost:{port}/'
        for one, two in (both, both[::-1]):
            done = self.must('backup-begin', 'g', '--target', f'disk0={one}', '--target', f'disk1={two}', '--format', 'raw', rc=1)
            self.assertIn("disks 'disk0' and 'disk1' would both be written to", done.err)

    def test_the_export_that_the_guests_disk_is_is_no_target_under_any_name(self):
        path, port = self.serve_both()
        self.engine_ = bed.Qemu(self, ['-machine', 'none', '-blockdev', f'driver=nbd,node-name=disk0-file,server.type=unix,server.path={path}',
                                       '-blockdev', 'driver=raw,node-name=disk0,file=disk0-file'])
        self.engine_.io('disk0', 'write -q -P 7 0 4M')
        self.must('attach', 'g', '--qmp', self.engine_.qmp_path)
        os.symlink(path, self.path('link'))
        for target in (f'nbd+unix:///?socket={path}', f'nbd+unix:///?socket={self.path("link")}', f'nbd://localhost:{port}/', f'nbd://127.0.0.1:{port}'):
            done = self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', 'raw', '--wait', rc=1)
            self.assertIn('is in use by the guest itself', done.err)
        other = bed.NbdServer(self, 'memory', '4M', name='other')
        self.must('backup-begin', 'g', '--target', f'disk0={other.uri}', '--format', 'raw', '--wait')
        self.img('compare', '-U', '-f', 'raw', '-F', 'raw', f'nbd+unix:///?socket={path}', other.uri)
        self.assertEqual(self.engine_.ours(), [])


if __name__ == '__main__':
    bed.main()
