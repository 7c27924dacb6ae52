#!/usr/bin/python3
"""What a person stumbles over: options that say what is meant, messages that name what is wrong, addresses that can be copied."""
import json
import os

import bed

MIB = 1 << 20


class ShortWordsTest(bed.LiveTest):
    """Two disks, few options."""
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.images = [self.make_image(f'd{i}.qcow2', 16 * MIB, data=[(0, 16 * MIB, i + 1)]) for i in range(2)]
        self.vm = self.engine(*self.images)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def write(self, pattern):
        for disk in range(2):
            self.vm.io(f'disk{disk}', f'write -q -P {pattern + disk} {pattern}M 1M')
            self.vm.io(f'disk{disk}', 'flush')

    def place(self, name):
        os.makedirs(self.path(name), exist_ok=True)
        return self.path(name) + '/'

    def assert_exact(self, folder):
        for disk in range(2):
            self.img('compare', '-U', self.images[disk], f'{folder}disk{disk}.qcow2')

    def test_a_directory_names_the_previous_backup_of_every_disk(self):
        full, more = self.place('full'), self.place('more')
        self.must('backup-begin', 'g', '--target', full, '--checkpoint', 'a', '--wait')
        self.write(5)
        self.must('backup-begin', 'g', '--target', more, '--onto', full, '--since', 'a', '--wait')
        self.assert_exact(more)

    def test_a_series_is_one_command_night_after_night(self):
        for night in range(3):
            folder = self.place(f'night{night}')
            done = self.must('backup-begin', 'g', '--target', folder, '--series', 'night', '--wait', '--json')
            self.assert_exact(folder)
            self.write(3 * night + 3)
            self.assertIn('"type": "incremental"' if night else '"type": "full"', done.out.replace('" : "', '": "'))
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['night.1', 'night.2', 'night.3'])

    def test_a_series_whose_files_are_not_on_record_asks_for_them(self):
        self.must('checkpoint-create-as', 'g', 'night.1')
        said = self.must('backup-begin', 'g', '--target', self.place('x'), '--series', 'night', rc=1).err
        self.assertIn('--onto', said)
        self.assertEqual(os.listdir(self.path('x')), [])

    def test_a_name_that_no_checkpoint_can_have_is_a_wrong_command_line(self):
        for option in (['backup-begin', 'g', '--target', self.path('t') + '/', '--checkpoint'], ['backup-begin', 'g', '--mode', 'pull', '--series'], ['checkpoint-create-as', 'g']):
            for name in ('a b', 'bak-x', '.x', 'a/b', '', 'n' * 201):
                said = self.must(*option, name, rc=2).err
                self.assertNotIn('line ', said)
                self.assertRegex(said, 'at most 200')
                self.assertRegex(said, "'bak-'")

    def test_a_document_says_why_a_name_is_none(self):
        for name in ('bak-x', 'n' * 201, 'a b'):
            with open(self.path('c.xml'), 'w') as f:
                f.write(f'<domaincheckpoint><name>{name}</name></domaincheckpoint>')
            said = self.must('checkpoint-create', 'g', self.path('c.xml'), rc=1).err
            self.assertRegex(said, "at most 200 of them, and not 'bak-' in front")

    def test_empty_words_are_a_wrong_command_line(self):
        begin = ['backup-begin', 'g']
        for more in (['--disk', ''], ['--mode', 'pull', '--server', 'tcp::10810'], ['--mode', 'pull', '--tls-dir', ''], ['--mode', 'pull', '--tls-psk', 'x'],
                     ['--target', ''], ['--mode', 'pull', '--server', ''], ['--mode', 'pull', '--server', 'unix:'], ['--mode', 'pull', '--scratch', '']):
            said = self.must(*begin, *more, rc=2).err
            self.assertRegex(said, f'option {next(m for m in reversed(more) if m.startswith("--"))}: ')
            self.assertNotIn('line ', said)

    def test_an_encrypted_image_is_said_to_be_copied_in_the_clear(self):
        secret = ['--object', 'secret,id=s,data=x']
        path, options = self.path('secret.luks'), ['-f', 'luks', '-o', 'key-secret=s,iter-time=10']
        bed.wait_for('a LUKS image', lambda: not self.img('create', '-q', *secret, *options, path, '1M', check=False).returncode)   # QEMU times itself, in vain on a busy machine
        vm = bed.Qemu(self, ['-machine', 'none', '-object', 'secret,id=s,data=x', '-blockdev',
                             f'driver=luks,node-name=a,key-secret=s,file.driver=file,file.filename={path}'], name='luks')
        self.must('attach', 'l', '--qmp', vm.qmp_path)
        for more in ['--mode', 'pull', '--dry-run'], ['--target', self.place('clear'), '--wait']:
            done = self.must('backup-begin', 'l', *more)
            self.assertIn("disk 'a': its image is encrypted; what is backed up is not", done.out + done.err)

    def test_names_may_be_as_long_as_names_are(self):
        path = self.make_image('one.qcow2', MIB)
        vm = self.engine(path, name='one')
        guest, disk = 'g' * 100, 'd' * 200
        self.must('attach', guest, '--qmp', vm.qmp_path, '--disk', f'{disk}=disk0')
        self.must('backup-begin', guest, '--mode', 'pull')
        [uri] = [d['uri'] for d in self.json('backup-info', guest)['disks']]
        self.assertEqual(bed.run('nbdinfo', '--size', uri).stdout.strip(), str(MIB))
        self.must('backup-stop', guest)
        server = bed.NbdServer(self, 'memory', '1M')
        self.must('backup-begin', guest, '--target', f'nbd+unix:///?socket={server.path}', '--checkpoint', 'c' * 200, '--wait')
        self.must('backup-begin', guest, '--target', self.place('long'), '--since', 'c' * 200, '--wait')
        self.assert_nothing_left(vm)

    def test_a_default_namespace_is_named(self):
        with open(self.path('b.xml'), 'w') as f:
            f.write("<domainbackup xmlns='http://example.org/b'/>")
        said = self.must('backup-begin', 'g', self.path('b.xml'), rc=1).err
        self.assertIn("namespace 'http://example.org/b'", said)

    def test_a_checkpoint_that_is_not_there_is_no_exact_increment(self):
        for more in (['--mode', 'pull'], ['--target', self.place('n')]):
            self.assertIn("checkpoint 'never' does not exist", self.must('backup-begin', 'g', '--since', 'never', *more, rc=4).err)
        with open(self.path('b.xml'), 'w') as f:
            f.write(f"<domainbackup><branch name='s'/><disks><disk name='disk0' type='incremental'><source file='{self.path('x')}'/></disk>"
                    "<disk name='disk1' present='no'/></disks></domainbackup>")
        said = self.must('backup-begin', 'g', self.path('b.xml'), rc=4).err
        self.assertIn("series 's' has no checkpoint yet; make a full backup of it (type='full')", said)    # that form has no fallback

    def test_a_reason_is_told_once(self):
        done = self.must('backup-begin', 'g', '--target', self.place('r'), '--since', 'never', '--fallback', 'full', '--wait')
        for said in done.err, self.must('backup-info', 'g').out:
            self.assertEqual(said.count("disk 'disk0': full instead of incremental"), 1, said)
            self.assertEqual(said.count("'never' does not exist"), 2, said)         # of two disks

    def test_bitmaps_of_others_are_in_order(self):
        self.vm.qmp.execute('block-dirty-bitmap-add', node='disk0', name='alien', persistent=True)
        self.must('checkpoint-create-as', 'g', 'c')
        for more in [], ['--repair']:
            self.assertRegex(self.must('checkpoint-check', 'g', *more).out, '(?s)foreign.*alien.*agree')
        self.assertEqual([f['kind'] for f in self.listing('checkpoint-check', 'g')], ['foreign'])

    def test_a_bitmap_that_was_removed_is_said_to_be_removed(self):
        self.must('checkpoint-create-as', 'g', 'c')
        self.vm.qmp.execute('block-dirty-bitmap-remove', node='disk1', name='c')
        said = self.must('backup-begin', 'g', '--target', self.place('x'), '--since', 'c', rc=4).err
        self.assertIn("disk 'disk1': no exact increment since 'c' is possible: bitmap missing: somebody has removed it", said)
        said = self.must('checkpoint-check', 'g', rc=4).out
        self.assertRegex(said, "(?s)lost.*somebody has removed it.*the seal of checkpoint 'c'")
        self.assertNotIn('killed', said)
        self.must('checkpoint-check', 'g', '--repair')
        self.must('checkpoint-check', 'g')

    def test_a_file_that_is_written_to_as_it_is_must_be_what_is_said(self):
        one = ['backup-begin', 'g', '--disk', 'disk0', '--reuse-external', '--target']
        for fmt in ('raw', 'vmdk', 'vdi', 'vhdx', 'vpc', 'qed'):
            path = self.make_image(f'there.{fmt}', 16 * MIB, fmt)
            self.assertIn(f'is no image of format qcow2: by its first bytes it is {fmt}', self.must(*one, path, rc=1).err)
        secret = self.path('secret')
        self.img('create', '-q', '-f', 'qcow2', secret, '16M')
        with open(secret, 'r+b') as f:          # as one that is made with encrypt.format=luks
            f.seek(32)
            f.write(b'\0\0\0\2')
        self.assertIn('is encrypted', self.must(*one, secret, rc=1).err)
        self.must(*one, self.make_image('there.qcow2', 16 * MIB), '--wait')
        self.img('compare', '-U', self.images[0], self.path('there.qcow2'))

    def test_a_file_system_that_takes_no_files_is_not_said_to_be_missing(self):
        self.assertRegex(self.must('backup-begin', 'g', '--disk', 'disk0', '--target', '/proc/x', rc=1).err, "'/proc' takes no new files")

    def test_a_tree_of_backups_may_be_moved(self):
        folders = [self.place(f'old/{name}') for name in ('full', '2026-11-29T10:00:00', 'last')]
        os.symlink('last', self.path('old/newest'))
        self.must('backup-begin', 'g', '--target', folders[0], '--checkpoint', 'c0', '--wait')
        self.write(3)
        self.must('backup-begin', 'g', '--target', folders[1], '--onto', folders[0], '--since', 'c0', '--checkpoint', 'c1', '--wait')
        self.write(6)
        self.must('backup-begin', 'g', '--target', self.path('old/newest') + '/', '--onto', folders[1], '--since', 'c1', '--checkpoint', 'c2', '--wait')
        self.assert_exact(folders[2])
        os.rename(self.path('old'), self.path('new'))
        self.assert_exact(self.path('new/last/'))
        self.assert_exact(self.path('new/newest/'))
        self.write(9)           # and goes on where it is now
        more = self.place('new/more')
        self.must('backup-begin', 'g', '--target', more, '--onto', self.path('new/last') + '/', '--since', 'c2', '--wait')
        self.assert_exact(more)

    def test_what_an_increment_is_laid_on_is_found_in_its_directory(self):
        folder, named = self.place('full'), []
        for number, name in enumerate(('monday.qcow2', 'other.name')):
            named += ['--target', f'disk{number}={folder}{name}']
        self.must('backup-begin', 'g', *named, '--checkpoint', 'c0', '--wait')
        self.write(3)
        more = self.place('more')
        # the record knows what they are called; what else lies there is not taken for them
        with open(f'{folder}disk0.qcow2', 'wb'):
            pass
        self.must('backup-begin', 'g', '--target', more, '--onto', folder, '--since', 'c0', '--checkpoint', 'c1', '--wait')
        self.assert_exact(more)
        self.assertEqual([json.loads(self.img('info', '-U', '--output=json', f'{more}disk{n}.qcow2').stdout)['backing-filename'].split('/')[-1] for n in range(2)],
                         ['monday.qcow2', 'other.name'])

    def test_what_an_increment_is_laid_on_is_not_guessed(self):
        old = self.place('old')
        self.must('backup-begin', 'g', '--target', old, '--checkpoint', 'c0', '--wait')
        os.rename(self.path('old'), self.path('moved'))
        moved = self.path('moved') + '/'
        begin = ['backup-begin', 'g', '--target', self.place('more'), '--onto', moved, '--since', 'c0', '--wait']
        with open(f'{moved}disk1.raw', 'wb'):
            pass
        said = self.must(*begin, rc=2).err
        self.assertIn(f"the previous backup of disk 'disk1' could be any of disk1.qcow2, disk1.raw in '{moved}'; say which: --onto disk1=FILE", said)
        self.assert_files(self.path('more'))
        self.must(*begin, '--onto', f'disk1={moved}disk1.qcow2')
        self.assert_exact(self.path('more') + '/')

    def test_the_formats_offered_are_those_that_work(self):
        said = self.must('backup-begin', 'g', '--target', self.path('t') + '/', '--format', 'qcow3', rc=2).err
        offered = said.split('is none of ')[1].strip().split('|')
        self.assertIn('qcow2', offered)
        key = self.path('key')
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), 'w') as f:
            f.write('a pass phrase')
        more = {'parallels': ['--allow-unproved'], 'luks': ['--encrypt', f'luks:{key}']}
        for number, form in enumerate(offered):
            self.must('backup-begin', 'g', '--target', self.place(f'f{number}'), '--format', form, '--wait', *more.get(form, []))

    def test_a_quiet_shell_says_nothing_of_success(self):
        done = self.must('-q', 'backup-begin', 'g', '--target', self.place('q'), '--wait')
        self.assertEqual((done.out, done.err), ('', ''))

    def test_every_address_can_be_copied_as_it_is_printed(self):
        for name in ('a b', 'a&b', 'a#b', '100%', 'a"b', "a'b", 'a[b]', 'a?b=c', 'plain'):
            socket = self.place(name) + 's'
            said = self.must('backup-begin', 'g', '--server', f'unix:{socket}').out
            uri = next(word for word in said.split() if word.startswith('nbd+unix:'))
            job = self.json('backup-info', 'g')
            self.assertEqual(job['disks'][0]['uri'], uri)
            self.assertEqual(bed.run('nbdinfo', '--size', uri).stdout.strip(), str(16 * MIB))
            self.assertIn('disk0', bed.run('nbdinfo', '--list', job['server']).stdout)
            with open(self.path('again.xml'), 'w') as f:        # what is printed is valid input that means the same
                f.write(self.must('backup-dumpxml', 'g').out)
            self.must('backup-stop', 'g')
            self.must('backup-begin', 'g', self.path('again.xml'))
            self.assertEqual(self.json('backup-info', 'g')['server'], job['server'])
            self.must('backup-stop', 'g')
            self.assertEqual(os.listdir(self.path(name)), [])


class DescribedTest(bed.LiveTest):
    """What was asked for is in what is printed of the job while it lives, by whoever owns it."""

    def test_all_of_the_document_is_there(self):
        images = [self.make_image(f'{n}.qcow2', 4 * MIB, data=[(0, MIB, 1 + n)]) for n in range(2)]
        qemu = self.engine(*images)
        self.must('attach', 'g', '--qmp', qemu.qmp_path, '--disk', 'vda=disk0', '--disk', 'vdb=disk1')
        self.must('checkpoint-create-as', 'g', 'c1')
        asked = f"""<domainbackup mode='pull'><incremental>c1</incremental><server transport='unix' socket='{self.path("n")}'/><disks>
            <disk name='disk0' type='file'><driver type='qcow2'/><scratch file='{self.path("s")}'><seclabel model='dac' relabel='no'/></scratch></disk>
            <disk name='disk1' backup='no'/></disks></domainbackup>"""
        with open(self.path('asked.xml'), 'w') as f:
            f.write(asked)
        self.must('backup-begin', 'g', self.path('asked.xml'))
        shown = self.must('backup-dumpxml', 'g').out
        for words in ('<incremental>c1</incremental>', "<disk name='vdb' backup='no'/>", "<seclabel model='dac' relabel='no'/>", "<driver type='qcow2'/>",
                      f"<scratch file='{self.path('s')}'>", "name='vda'"):
            self.assertIn(words, shown)
        self.assertNotIn('disk1', shown)
        for pid in self.watchers():
            os.kill(pid, 9)
        self.assertEqual(self.must('backup-dumpxml', 'g').out, shown)
        self.must('backup-stop', 'g')
        with open(self.path('again.xml'), 'w') as f:
            f.write(shown)
        self.must('backup-begin', 'g', self.path('again.xml'))
        self.assertEqual(self.must('backup-dumpxml', 'g').out, shown)
        self.must('backup-stop', 'g')


if __name__ == '__main__':
    bed.main()
