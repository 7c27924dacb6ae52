#!/usr/bin/python3
"""Images that stand on something that does not answer: every program that is run to look at them ends, and the command says which image it was."""
import os

import bed


class MuteTest(bed.LiveTest):
    versions = ('7.2',)         # what hangs is qemu-img, not the guest's QEMU

    def setUp(self):
        super().setUp()
        with open(self.path('config'), 'w') as f:
            f.write('tool_timeout = 1\n')
        self.environment['LIBBACKUP_CONFIG'] = self.path('config')

    def overlay(self, name, backing, fmt='raw'):
        self.img('create', '-q', '-u', '-f', 'qcow2', '-F', fmt, '-b', backing, self.path(name), '1M')
        return self.path(name)

    def over_a_mute_server(self, name):
        """Whoever connects is never greeted."""
        listener = bed.listen_unix(self.path(f'{name}.sock'))
        self.addCleanup(listener.close)
        return self.overlay(name, f'nbd+unix:///?socket={self.path(f"{name}.sock")}')

    def assert_refused(self, image, *argv):
        done = self.baksh(*argv, timeout=60)
        self.assertEqual(done.rc, 1, done)
        self.assertIn(image, done.err)
        self.assertIn('did not end within 1 s', done.err)

    def test_a_scratch_over_a_mute_server_is_refused(self):
        vm = self.engine(self.make_image('disk.qcow2', '1M'))
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        scratch = self.over_a_mute_server('scratch')
        self.assert_refused(scratch, 'backup-begin', 'g', '--mode', 'pull', '--scratch', f'disk0={scratch}', '--reuse-external')
        self.assert_nothing_left(vm)

    def test_an_image_over_a_mute_server_is_not_attached(self):
        image = self.over_a_mute_server('image')
        self.assert_refused(image, 'attach', 'g', '--image', f'vda={image}')
        self.assertNotIn('g', self.must('list', '--all').out.split())

    def test_an_image_over_a_fifo_is_not_attached(self):
        os.mkfifo(self.path('fifo'))
        image = self.overlay('image', self.path('fifo'))
        self.assert_refused(image, 'attach', 'g', '--image', f'vda={image}')

    def test_a_previous_backup_that_is_a_fifo_is_refused(self):
        vm = self.engine(self.make_image('disk.qcow2', '1M'))
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        self.must('checkpoint-create-as', 'g', 'c1')
        os.mkfifo(self.path('fifo'))
        done = self.baksh('backup-begin', 'g', '--since', 'c1', '--target', f'disk0={self.path("t")}', '--onto', f'disk0={self.path("fifo")}', timeout=60)
        self.assertIn(done.rc, (1, 4), done)
        self.assertIn(self.path('fifo'), done.err)
        self.assertFalse(os.path.exists(self.path('t')))
        self.assert_nothing_left(vm)

    def test_a_checkpoint_of_a_guest_that_is_off_fails_when_a_server_below_it_hangs(self):
        server = bed.NbdServer(self, 'memory', '1M')
        image = self.overlay('image', server.uri)
        self.must('attach', 'g', '--image', f'vda={image}')
        server.stop()
        self.assert_refused(image, 'checkpoint-create-as', 'g', 'c1')
        server.go_on()
        self.must('checkpoint-create-as', 'g', 'c1')


if __name__ == '__main__':
    bed.main()
