#!/usr/bin/python3
"""What root has written is what was looked at: whoever may change the directory can put another file in its place, and no byte gets there."""
import os
import threading

import bed
import faults

MIB = 1 << 20
SIZE = 8 * MIB
PRECIOUS = b'precious' * (SIZE // 8 + 512)     # longer than the disk: its size is not what is refused


class Monitor(faults.Monitor):
    """Does something just before QEMU is told to open a file of that name."""

    def __init__(self, path, real):
        self.wanted = self.swap = None
        self.made = []
        super().__init__(path, real)

    def spoil(self, message):
        command, arguments = message.get('execute'), message.get('arguments', {})
        if command == 'blockdev-create' and 'filename' in arguments.get('options', {}):
            self.made.append(arguments['options']['filename'])
        if command == 'blockdev-add' and self.wanted and self.wanted in arguments.get('filename', ''):
            swap, self.wanted = self.swap, None
            swap(arguments['filename'])


class RaceTest(bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 1)])
        self.qemu = self.engine(self.disk)
        os.mkdir(self.path('theirs'))
        os.mkdir(self.path('ours'))
        self.victim = self.path('ours', 'victim')
        self.monitor = None

    def attach(self, between=True):
        socket = self.qemu.qmp_path
        if between:
            self.monitor = Monitor(self.path('between.sock'), socket)
            self.addCleanup(self.monitor.stop)
            socket = self.monitor.path
        self.must('attach', 'g', '--qmp', socket)

    def put_victim(self):
        with open(self.victim, 'wb') as f:
            f.write(PRECIOUS)

    def symlink(self, path):
        os.rename(path, self.path('aside'))
        os.symlink(self.victim, path)

    def hard_link(self, path):
        os.rename(path, self.path('aside'))
        os.link(self.victim, path)

    def other_directory(self, path):
        """The directory is another one by then, which has a file of that name."""
        there = self.path('ours', os.path.basename(path))
        os.rename(self.victim, there)
        self.victim = there
        os.rename(self.path('theirs'), self.path('moved'))
        os.symlink(self.path('ours'), self.path('theirs'))

    def fifo(self, path):
        os.unlink(path)
        os.mkfifo(path)

    def come_back(self):
        """The attacker takes away what he has put there."""
        if os.path.islink(self.path('theirs')):
            os.unlink(self.path('theirs'))
            os.rename(self.path('moved'), self.path('theirs'))
        for folder in 'theirs', 'ours':
            for name in os.listdir(self.path(folder)):
                os.unlink(self.path(folder, name))

    def assert_refused(self, done, where):
        with open(self.victim, 'rb') as f:
            self.assertEqual(f.read() == PRECIOUS, True, f'{where}: the file was overwritten: {done}')
        self.assertEqual(done.rc, 1, f'{where}: {done}')
        self.assertEqual(self.qemu.ours(), [], where)

    def attack(self, how, *argv):
        self.put_victim()
        self.monitor.wanted, self.monitor.swap = self.path('theirs/'), getattr(self, how)
        done = self.baksh('backup-begin', 'g', *argv)
        self.assertIsNone(self.monitor.wanted, 'QEMU was not told to open it')
        self.assert_refused(done, (how, argv))
        self.come_back()
        return done

    def test_a_target_that_is_exchanged_is_refused_before_a_byte_is_written(self):
        self.attach()
        target = self.path('theirs/t')
        for how in 'symlink', 'hard_link', 'other_directory', 'fifo':
            for form in 'raw', 'qcow2':
                with self.subTest(how=how, form=form):
                    said = self.attack(how, '--target', f'disk0={target}', '--format', form, '--wait').err
                    if how != 'fifo':
                        self.assertIn('another file', said)
        for form in 'raw', 'qcow2':     # what nobody exchanges is good
            self.must('backup-begin', 'g', '--target', f'disk0={target}', '--format', form, '--wait')
            self.assert_same(self.disk, target, fb=form)
            self.come_back()
        self.assertEqual(self.monitor.made, [], 'a file was to be made by its name')

    def test_so_is_one_that_was_there_before(self):
        self.attach()
        target = self.path('theirs/t')
        for how in 'symlink', 'hard_link', 'other_directory':
            with open(target, 'wb') as f:
                f.truncate(SIZE)
            with self.subTest(how=how):
                self.attack(how, '--target', f'disk0={target}', '--format', 'raw', '--reuse-external', '--wait')

    def test_and_a_scratch(self):
        self.attach()
        for how in 'symlink', 'hard_link', 'other_directory':
            with self.subTest(how=how):
                self.attack(how, '--mode', 'pull', '--scratch', self.path('theirs'), '--server', f'unix:{self.path("n")}')

    def test_what_races_never_gets_anything_overwritten(self):
        """By QEMU's own monitor, and through a process of our own: whoever wins, the file stays."""
        self.attach(between=False)
        key = self.path('key')
        with open(key, 'w') as f:
            f.write('secret')
        os.chmod(key, 0o600)
        luks = self.path('luks.xml')
        with open(luks, 'w') as f:
            f.write(f"<domainbackup><disks><disk name='disk0' type='file'><target file='{self.path('theirs/t')}'><encryption format='luks'>"
                    f"<secret type='passphrase' file='{key}'/></encryption></target></disk></disks></domainbackup>")
        for argv in (('--target', f'disk0={self.path("theirs/t")}', '--format', 'raw'), ('--target', f'disk0={self.path("theirs/t")}'), (luks,)):
            for how in (self.symlink, self.hard_link) * 2:
                self.put_victim()
                over = threading.Event()

                def race():
                    while not over.is_set():
                        if os.path.lexists(self.path('theirs/t')):
                            how(self.path('theirs/t'))
                            return
                racer = threading.Thread(target=race)
                racer.start()
                try:
                    done = self.baksh('backup-begin', 'g', *argv, '--wait')
                finally:
                    over.set()
                    racer.join()
                with open(self.victim, 'rb') as f:
                    self.assertEqual(f.read() == PRECIOUS, True, f'{argv}: overwritten: {done}')
                self.assertNotEqual(done.rc, 0, done)
                self.assertEqual(self.qemu.ours(), [])
                self.come_back()


if __name__ == '__main__':
    bed.main()
