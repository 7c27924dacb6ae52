#!/usr/bin/python3
"""No image that a known guest uses is ever a target or a scratch, under whatever name it goes."""
import os
import stat
import struct
import subprocess

import bed
import lvbed

MIB = 1 << 20


class Theirs:
    """What is tried on an image of somebody else; `victims` are the files that must stay as they are."""

    def write(self, path, *more):
        return self.baksh('backup-begin', 'g', '--disk', self.disk, '--target', f'{self.disk}={path}', '--reuse-external', '--wait', *more)

    def pull_into(self, path):
        return self.baksh('backup-begin', 'g', '--mode', 'pull', '--disk', self.disk, '--scratch', f'{self.disk}={path}', '--reuse-external',
                          '--server', f'unix:{self.path("nbd")}')

    def refused(self, path, owner, begin=None):
        before = self.content()
        done = (begin or self.write)(path)
        self.assertEqual(done.rc, 1, done.out + done.err)
        self.assertIn(path, done.err)
        self.assertRegex(done.err, f"guest '{owner}")
        self.assertEqual(self.content(), before)

    def content(self):
        out = {}
        for path in self.victims:
            with open(path, 'rb') as f:
                out[path] = hash(f.read())
        return out

    def chain(self, name):
        """An overlay with a data file of its own, above a base; a user of all three has opened only the first name."""
        base, data, top = (self.path(f'{name}-{part}') for part in ('base.qcow2', 'data.raw', 'top.qcow2'))
        self.img('create', '-q', '-f', 'qcow2', base, '8M')
        self.img('create', '-q', '-f', 'qcow2', '-o', f'data_file={data},backing_file={base},backing_fmt=qcow2', top, '8M')
        return [top, base, data]


class AttachedTest(Theirs, bed.LiveTest):
    disk = 'disk0'

    def setUp(self):
        super().setUp()
        self.qemu = self.engine(self.make_image('mine.qcow2', 8 * MIB, data=[(0, MIB, 1)]))
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path)

    def test_an_image_of_a_guest_that_is_off_is_no_target_and_no_scratch(self):
        self.victims = self.chain('off')
        self.must('attach', 'off', '--image', f'vda={self.victims[0]}')
        for path in self.victims:
            self.refused(path, 'off')
        self.refused(self.victims[0], 'off', self.pull_into)

    def test_another_name_of_it_is_the_same_file(self):
        self.victims = self.chain('off')
        self.must('attach', 'off', '--image', f'vda={self.victims[0]}')
        for number, path in enumerate(self.victims):
            soft, hard = self.path(f'soft{number}'), self.path(f'hard{number}')
            os.symlink(path, soft)
            os.link(path, hard)
            self.refused(soft, 'off')
            self.refused(hard, 'off')
        with open(self.victims[0], 'rb') as f:      # not ours: who listens for QEMU 5.2 is taken for it
            holder = self.popen('sleep', '1000', stdin=f)
        self.refused(f'/proc/{holder.pid}/fd/0', 'off')
        if os.geteuid() == 0:
            os.mkdir(self.path('bound'))
            if subprocess.run(['mount', '--bind', self.directory, self.path('bound')], capture_output=True).returncode == 0:
                self.addCleanup(subprocess.run, ['umount', '-l', self.path('bound')])
                self.refused(self.path('bound', 'off-top.qcow2'), 'off')

    def test_an_image_of_a_guest_that_runs_is_none_without_locks_either(self):
        top, base, data = self.victims = self.chain('runs')
        other = bed.Qemu(self, ['-machine', 'none', '-blockdev', f'driver=qcow2,node-name=x,file.driver=file,file.filename={top},file.locking=off,'
                                f'data-file.driver=file,data-file.filename={data},data-file.locking=off,'
                                f'backing.driver=qcow2,backing.file.driver=file,backing.file.filename={base},backing.file.locking=off'], name='other')
        self.must('attach', 'runs', '--qmp', other.qmp_path)
        for path in self.victims:
            self.refused(path, '')
        other.kill()
        for path in self.victims:
            self.refused(path, 'runs')

    def test_a_qemu_that_nobody_has_attached_is_a_guest_too(self):
        victim = self.make_image('stranger.qcow2', 8 * MIB)
        self.victims = [victim]
        bed.Qemu(self, ['-machine', 'none', '-blockdev', f'driver=qcow2,node-name=x,file.driver=file,file.filename={victim},file.locking=off'], name='stranger')
        self.refused(victim, r'stranger \(QEMU, process')

    def test_the_name_of_an_image_that_is_missing_now_stays_free(self):
        image = self.make_image('away.qcow2', 8 * MIB)
        self.must('attach', 'off', '--image', f'vda={image}')
        os.rename(image, self.path('moved.qcow2'))
        done = self.baksh('backup-begin', 'g', '--target', f'disk0={image}', '--wait')
        self.assertEqual(done.rc, 1, done.err)
        self.assertIn("guest 'off'", done.err)
        self.assertFalse(os.path.exists(image))

    def test_what_a_forgotten_guest_had_may_be_written_to(self):
        victim = self.make_image('old.qcow2', 8 * MIB)
        self.must('attach', 'off', '--image', f'vda={victim}')
        self.must('detach', 'off')
        self.assertEqual(self.write(victim).rc, 0)
        self.assert_same(self.path('mine.qcow2'), victim)

    def loop_device(self):
        """A raw file with one partition, as a device."""
        raw = self.path('disk.raw')
        with open(raw, 'wb') as f:
            f.write(bytes(446) + struct.pack('<8B2I', 0, 0, 0, 0, 0x83, 0, 0, 0, 2048, 65536) + bytes(48) + b'\x55\xaa')
            f.truncate(64 * MIB)
        done = subprocess.run(['losetup', '-f', '--show', '-P', raw], text=True, capture_output=True)
        if done.returncode:
            self.skipTest(f'no loop devices here: {done.stderr.strip()}')
        self.addCleanup(subprocess.run, ['losetup', '-d', done.stdout.strip()])
        self.victims = [raw]
        return raw, done.stdout.strip()

    def write_raw(self, path):
        xml, kind = self.path('x.xml'), ('block', 'dev') if stat.S_ISBLK(os.stat(path).st_mode) else ('file', 'file')
        with open(xml, 'w') as f:
            f.write(f"<domainbackup><disks><disk name='disk0' type='{kind[0]}'><target {kind[1]}='{path}'/><driver type='raw'/></disk></disks></domainbackup>")
        return self.baksh('backup-begin', 'g', xml, '--reuse-external', '--wait')

    def user_of(self, device, name):
        return bed.Qemu(self, ['-machine', 'none', '-blockdev', f'driver=host_device,node-name=x,filename={device},locking=off'], name=name)

    def test_a_device_and_the_file_that_it_is_made_of_are_one_place(self):
        raw, device = self.loop_device()
        other = self.user_of(device, 'other')
        self.refused(raw, 'other', self.write_raw)
        self.refused(device, 'other', self.write_raw)
        other.kill()
        self.must('attach', 'off', '--image', f'vda={raw}')
        self.refused(device, 'off', self.write_raw)

    def test_a_partition_and_its_disk_are_one_place(self):
        raw, device = self.loop_device()
        part, known = self.path('part'), f'/sys/class/block/{os.path.basename(device)}p1/dev'
        if not os.path.exists(known):
            self.skipTest(f'the kernel shows no partition of {device}')
        with open(known) as f:
            os.mknod(part, 0o600 | stat.S_IFBLK, os.makedev(*map(int, f.read().split(':'))))
        for used, tried in ((device, part), (part, device), (part, raw)):
            with self.subTest(used=used, tried=tried):
                other = self.user_of(used, os.path.basename(used))
                self.refused(tried, os.path.basename(used), self.write_raw)
                other.kill()


class OffTest(AttachedTest):
    """The same by a guest that is itself off."""

    def setUp(self):
        bed.LiveTest.setUp(self)
        self.must('attach', 'g', '--image', f'disk0={self.make_image("mine.qcow2", 8 * MIB, data=[(0, MIB, 1)])}')


class LibvirtTest(Theirs, lvbed.OnLibvirt, bed.LiveTest):
    disk = 'vda'

    def setUp(self):
        super().setUp()
        self.vm = self.bare(self.make_image('mine.qcow2', 8 * MIB, data=[(0, MIB, 1)]))
        self.victims = self.chain('defined')
        with open(self.path('defined.xml'), 'w') as f:
            f.write(f"<domain type='qemu'><name>defined</name><memory>65536</memory><os><type>hvm</type></os><devices><disk type='file'>"
                    f"<driver name='qemu' type='qcow2'/><source file='{self.victims[0]}'/><target dev='vda'/></disk></devices></domain>")
        self.virsh('define', self.path('defined.xml'))
        self.addCleanup(self.virsh, 'undefine', 'defined', check=False)

    def test_an_image_of_a_guest_that_libvirt_only_has_defined_is_no_target(self):
        for path in self.victims:
            self.refused(path, 'defined')
        self.refused(self.victims[0], 'defined', self.pull_into)

    def test_nor_one_of_a_guest_that_was_attached(self):
        other = self.make_image('attached.qcow2', 8 * MIB)
        self.assertEqual(self.baksh('attach', 'off', '--image', f'vda={other}', uri='qemu:///system').rc, 0)
        self.victims = [other]
        self.refused(other, 'off')

    def test_nor_while_its_own_guest_is_off(self):
        self.vm.die()
        for path in self.victims:
            self.refused(path, 'defined')


if __name__ == '__main__':
    bed.main()
