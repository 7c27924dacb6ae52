#!/usr/bin/python3
"""A restore writes what it has looked at: whoever may change the folder can put another file in its place, and no byte gets there;
and no image that somebody needs is a target."""
import os
import stat

import bed
import test_points

MIB = 1 << 20
SIZE = test_points.SIZE
PRECIOUS = b'precious' * (SIZE // 8 + 512)     # longer than the disk: its size is not what is refused

# how, as a shell does it just before a program of QEMU's opens the file {x}
HOW = {'symlink': 'mv {x} {aside}; ln -s {victim} {x}',
       'hard_link': 'mv {x} {aside}; ln {victim} {x}',
       'other_directory': 'mv {victim} {ours}/{name}; mv {theirs} {moved}; ln -s {ours} {theirs}',
       'fifo': 'rm {x}; mkfifo {x}'}


class RestoreRaceTest(test_points.PointTest):
    versions = ('7.2',)     # the files are ours; QEMU opens what it is given

    def setUp(self):
        super().setUp()
        self.attach_off()
        self.write(0, 4 * MIB, 5)
        self.create()
        self.ours, self.theirs = self.path('ours'), self.path('theirs')
        self.put_back()
        for variable, tool, when in (('LIBBACKUP_QSD', 'qemu-storage-daemon', 'writable=on'), ('LIBBACKUP_QEMU_IMG', 'qemu-img', 'create')):
            self.come_between(variable, tool, when)

    def come_between(self, variable, tool, when):
        """The program does what the file swap says, once, before it is itself."""
        wrapper, swap = self.path(tool), self.path('swap-' + tool)
        with open(wrapper, 'w') as file:
            file.write(f'#!/bin/sh\ncase "$*" in *{when}*) [ -e {swap} ] && mv {swap} {swap}.done && sh {swap}.done;; esac\n'
                       f'exec {bed.tool(tool, self.version)} "$@"\n')
        os.chmod(wrapper, 0o755)
        self.environment[variable] = wrapper

    def put_back(self):
        """The attacker takes away what he has put there."""
        bed.run('rm', '-rf', self.ours, self.theirs, self.path('moved'), self.path('aside'))
        os.mkdir(self.ours)
        os.mkdir(self.theirs)
        self.victim = self.path('ours', 'victim')
        with open(self.victim, 'wb') as file:
            file.write(PRECIOUS)

    def restore(self, *words, rc=0):
        return self.must('point-restore', 'g@latest', '--target', *words, rc=rc)

    def attack(self, how, tool, name, *words):
        swap = self.path('swap-' + tool)
        with open(swap, 'w') as file:
            file.write(HOW[how].format(x=f'{self.theirs}/{name}', name=name, aside=self.path('aside'), victim=self.victim,
                                       ours=self.ours, theirs=self.theirs, moved=self.path('moved')))
        done = self.restore(*words, rc=1)
        self.assertFalse(os.path.exists(swap), f'{how} {words}: nothing was exchanged: {done}')
        victim = os.path.join(self.ours, name) if how == 'other_directory' else self.victim
        with open(victim, 'rb') as file:
            self.assertTrue(file.read() == PRECIOUS, f'{how} {words}: the file was overwritten: {done}')
        self.assertIn('another', done.err)
        self.assertNotIn('t.restoring', os.listdir(self.path('moved')) if how == 'other_directory' else ())
        self.put_back()

    def test_a_new_file_that_is_exchanged_is_no_restore_and_overwrites_nothing(self):
        for how in HOW:
            for form, tools in (('raw', ['qemu-storage-daemon']), ('qcow2', ['qemu-storage-daemon', 'qemu-img'])):
                for tool in tools:
                    with self.subTest(how=how, form=form, tool=tool):
                        self.attack(how, tool, 't.restoring', f'vda={self.theirs}/t', '--format', form)
        self.restore(f'vda={self.theirs}/t')        # what nobody exchanges is good
        self.img('compare', self.disk, f'{self.theirs}/t')

    def test_so_is_a_file_that_was_there_before(self):
        for how in HOW:
            for form in 'raw', 'qcow2':
                with self.subTest(how=how, form=form):
                    self.img('create', '-q', '-f', form, f'{self.theirs}/t', str(SIZE))
                    self.attack(how, 'qemu-storage-daemon', 't', f'vda={self.theirs}/t', '--format', form, '--reuse-external')

    def test_what_goes_beside_the_disks_stays_in_the_folder_that_was_looked_at(self):
        for name in 'domain.xml', 'README':
            with self.subTest(name=name):
                self.attack('other_directory', 'qemu-storage-daemon', name, self.theirs)

    def test_a_part_that_somebody_else_has_put_there_is_not_gone_on_with(self):
        part = f'{self.theirs}/t.restoring'
        for put in (lambda: os.symlink(self.victim, part), lambda: os.link(self.victim, part), lambda: os.mkfifo(part)):
            put()
            self.assertIn('remove it', self.restore(f'vda={self.theirs}/t', '--format', 'raw', rc=1).err)
            with open(self.victim, 'rb') as file:
                self.assertTrue(file.read() == PRECIOUS)
            os.unlink(part)
        if os.geteuid() == 0:
            with open(part, 'w'):
                os.chown(part, 1, 1)
            self.assertIn("another user's", self.restore(f'vda={self.theirs}/t', '--format', 'raw', rc=1).err)
            os.unlink(part)
        self.restore(f'vda={self.theirs}/t', '--format', 'raw')
        self.assertTrue(stat.S_ISREG(os.lstat(f'{self.theirs}/t').st_mode))


class ClaimTest(test_points.PointTest):
    """Whose the target is."""
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.attach_off()
        self.write(0, 4 * MIB, 5)
        self.create()

    def refused(self, target, text, *words):
        before = bed.run('sha256sum', target).stdout if os.path.exists(target) else None
        self.assertRegex(self.must('point-restore', 'g@latest', '--target', f'vda={target}', *words, rc=1).err, text)
        self.assertEqual(bed.run('sha256sum', target).stdout if os.path.exists(target) else None, before)

    def test_no_image_of_another_guest_is_overwritten_nor_what_it_stands_on(self):
        base, top = self.make_image('base.qcow2', SIZE, data=[(0, SIZE, 3)]), self.path('top.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top)
        self.must('attach', 'other', '--image', f'vda={top}')
        os.link(base, self.path('link'))
        for target in base, top, self.path('link'):
            self.refused(target, "image of guest 'other'.*detach 'other'", '--reuse-external')
        os.rename(top, self.path('away'))
        self.refused(top, "image of guest 'other'")
        self.must('detach', 'other')
        self.must('point-restore', 'g@latest', '--target', f'vda={base}', '--reuse-external')
        self.img('compare', self.disk, base)

    def test_the_guests_own_image_is_what_is_restored_when_it_is_off(self):
        bed.run(bed.tool('qemu-io', self.version), '-f', 'qcow2', '-c', f'write -P 9 {MIB} {MIB}', self.disk)
        self.let_go()
        self.must('point-restore', 'g@latest', '--target', f'vda={self.disk}', '--reuse-external', '--changed-only')
        self.img('convert', '-f', 'qcow2', '-O', 'raw', self.disk, self.path('read'))
        with open(self.path('read'), 'rb') as file:
            self.assertTrue(file.read() == bytes(self.data))

    def test_nor_is_what_a_qemu_has_open_without_a_lock(self):
        path = self.make_image('raw', SIZE, fmt='raw')
        self.engine(extra=['-blockdev', f'driver=file,node-name=f,filename={path},locking=off', '-blockdev', 'driver=raw,node-name=r,file=f'], name='holder')
        self.refused(path, 'in use by a running QEMU', '--reuse-external', '--format', 'raw')

    def test_nor_is_the_target_of_a_running_backup(self):
        self.let_go()
        self.must('backup-begin', 'g', '--target', f'vda={self.path("t")}', '--limit', '64KiB')
        self.refused(self.path('t'), 'in use by a running QEMU', '--reuse-external')
        self.must('backup-stop', 'g', '--abort')


if __name__ == '__main__':
    bed.main()
