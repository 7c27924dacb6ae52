#!/usr/bin/python3
"""One QEMU is one guest, however many monitors it has and whoever looks at it."""
import os

import bed
import daemon

MIB = 1 << 20


class OneQemuTest(bed.LiveTest):
    """A QEMU with two monitors."""

    def setUp(self):
        super().setUp()
        self.second = self.path('second')
        self.qemu = self.engine(self.make_image('disk.qcow2', 32 * MIB, data=[(0, 32 * MIB, 1)]),
                                extra=['-chardev', f'socket,id=second,path={self.second},server=on,wait=off', '-mon', 'chardev=second,mode=control'])

    def attach(self, name, address, env=None):
        return self.baksh('attach', name, '--qmp', address, env=env)

    def refused(self, done, owner):
        self.assertEqual(done.rc, 1, done.out + done.err)
        self.assertIn(f"guest '{owner}'", done.err)
        self.assertIn('one QEMU is one guest', done.err)

    def begin_slow(self, env=None):
        done = self.baksh('backup-begin', 'g', '--target', f'disk0={self.path("slow.qcow2")}', '--limit', '65536', env=env)
        self.assertEqual(done.rc, 0, done.err)
        return self.qemu.ours()

    def test_it_is_attached_once(self):
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        self.refused(self.attach('again', self.second), 'g')
        link = self.path('link')
        os.symlink(self.second, link)
        self.refused(self.attach('again', link), 'g')
        self.must('detach', 'g')
        self.must('attach', 'again', '--qmp', self.second)
        self.refused(self.attach('g', self.qemu.qmp_path), 'again')

    def test_a_second_name_does_not_touch_the_job_of_the_first(self):
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        held = self.begin_slow()
        self.refused(self.attach('again', self.second), 'g')
        self.assertEqual(self.qemu.ours(), held)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'running')
        self.must('backup-stop', 'g', '--abort')

    def test_two_names_from_before_are_found_out_when_one_is_used(self):
        """QEMU was started anew, and has now both sockets that were two guests' before."""
        other = self.engine(self.make_image('other.qcow2', 8 * MIB), name='other')
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        self.must('attach', 'later', '--qmp', other.qmp_path)
        other.kill()
        os.unlink(other.qmp_path)
        os.symlink(self.second, other.qmp_path)
        done = self.baksh('backup-begin', 'later', '--target', f'disk0={self.path("t.qcow2")}', '--wait')
        self.refused(done, 'g')
        self.assertFalse(os.path.exists(self.path('t.qcow2')))
        self.must('backup-begin', 'g', '--target', f'disk0={self.path("t.qcow2")}', '--wait')

    def test_another_state_directory_does_not_sweep_what_it_has_not_made(self):
        """Two libbackups that know nothing of each other."""
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        held = self.begin_slow()
        os.mkdir(self.path('elsewhere'), 0o700)
        elsewhere = {'LIBBACKUP_STATE_DIR': self.path('elsewhere')}
        done = self.attach('h', self.second, env=elsewhere)
        self.assertEqual(done.rc, 1, done.out)
        self.assertRegex(done.err, 'another libbackup.*engine/qmp')
        self.assertEqual(self.qemu.ours(), held)
        self.assertEqual(self.json('backup-info', 'g')['state'], 'running')
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.attach('h', self.second, env=elsewhere).rc, 0)

    def test_nor_does_a_backup_begin_beside_one_of_another_state_directory(self):
        os.mkdir(self.path('elsewhere'), 0o700)
        elsewhere = {'LIBBACKUP_STATE_DIR': self.path('elsewhere')}
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        self.assertEqual(self.attach('h', self.second, env=elsewhere).rc, 0)
        held = self.begin_slow()
        for command in (('backup-begin', 'h', '--target', f'disk0={self.path("h.qcow2")}'), ('checkpoint-delete', 'h', '--children', 'none')):
            self.assertNotEqual(self.baksh(*command, env=elsewhere).rc, 0)
        self.assertEqual(self.qemu.ours(), held)
        self.assertFalse(os.path.exists(self.path('h.qcow2')))
        self.must('backup-stop', 'g', '--abort')
        done = self.baksh('backup-begin', 'h', '--target', f'disk0={self.path("h.qcow2")}', '--wait', env=elsewhere)
        self.assertEqual(done.rc, 0, done.err)

    def test_what_the_dead_left_is_still_cleared_away(self):
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)
        self.begin_slow()
        for process in self.watchers():
            os.kill(process, 9)
        bed.run('rm', '-rf', self.path('state'))
        os.mkdir(self.path('state'), 0o700)
        self.must('attach', 'h', '--qmp', self.second)
        self.assert_nothing_left(self.qemu)

    def test_through_a_daemon_too(self):
        server = daemon.Daemon(self)
        server.attach('g', self.qemu)
        with self.assertRaisesRegex(daemon.rpc.WireError, "guest 'g'.*one QEMU is one guest"):
            server.connect().attach('again', qmp=self.second)


if __name__ == '__main__':
    bed.main()
