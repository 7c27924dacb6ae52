#!/usr/bin/python3
"""What is read of a QEMU: disks on every bus, under filters, with the iothread that serves them."""
import os
import re

import bed

MIB = 1 << 20


class GraphTest(bed.LiveTest):
    def start(self):
        for name in ('base', 'throttled', 'cow'):
            self.make_image(f'{name}.qcow2', 8 * MIB)
        self.img('create', '-q', '-f', 'qcow2', '-b', self.path('base.qcow2'), '-F', 'qcow2', self.path('chain.qcow2'))
        for name in ('scsi', 'ide', 'medium'):
            self.make_image(f'{name}.raw', 4 * MIB, fmt='raw')

        def node(name, driver='qcow2', suffix='qcow2'):
            return ['-blockdev', f'driver={driver},node-name={name}-format,file.driver=file,file.filename={self.path(f"{name}.{suffix}")}']
        return self.machine(
            '-object', 'iothread,id=io0', '-object', 'iothread,id=io1', '-object', 'throttle-group,id=tg0',
            *node('throttled'), '-blockdev', 'driver=throttle,node-name=throttled-top,throttle-group=tg0,file=throttled-format',
            '-device', 'virtio-blk-pci,id=vda,drive=throttled-top,iothread=io0',
            *node('cow'), '-blockdev', 'driver=copy-on-read,node-name=cow-top,file=cow-format', '-device', 'virtio-blk-pci,drive=cow-top',
            '-drive', f'if=none,id=chain,file={self.path("chain.qcow2")},format=qcow2', '-device', 'virtio-blk-pci,drive=chain',
            '-device', 'virtio-scsi-pci,id=controller,iothread=io1', *node('scsi', 'raw', 'raw'),
            '-device', 'scsi-hd,id=sda,drive=scsi-format,bus=controller.0',
            *node('ide', 'raw', 'raw'), '-device', 'ide-hd,id=hda,drive=ide-format',
            '-drive', f'if=none,id=medium,media=cdrom,file={self.path("medium.raw")},format=raw,read-only=on', '-device', 'scsi-cd,drive=medium,bus=controller.0',
            '-device', 'scsi-cd,id=cd1,bus=controller.0')

    def test_a_disk_below_a_filter_stays_one_disk_while_it_is_pulled(self):
        qemu = self.engine(self.make_image('a.qcow2', '4M'), extra=[
            '-object', 'throttle-group,id=tg', '-blockdev', 'driver=throttle,node-name=top,throttle-group=tg,file=disk0'])
        self.must('attach', 'g', '--qmp', qemu.qmp_path, '--disk', 'vda=top')
        alone = self.listing('domblklist', 'g')
        self.must('backup-begin', 'g', '--mode', 'pull')
        pulled = self.listing('domblklist', 'g')
        self.must('backup-stop', 'g')
        for disks in alone, pulled:
            self.assertEqual([(disk['target'], disk['node']) for disk in disks], [('vda', 'disk0')])
            self.assertLessEqual({'vda', 'top', 'disk0'}, set(disks[0]['names']))

    def test_disks_are_found_with_all_that_is_known_of_them(self):
        vm = self.start()
        self.must('attach', 'g', '--qmp', vm.qmp_path, '--disk', f'boot={self.path("chain.qcow2")}')
        disks = {disk['target']: disk for disk in self.listing('domblklist', 'g')}
        rows = (    # target, bus, iothread, another name, taken by default
            ('vda', 'virtio', 'io0', 'throttled-format', True),
            ('cow-format', 'virtio', None, 'cow-top', True),
            ('boot', 'virtio', None, 'chain', True),
            ('sda', 'scsi', 'io1', 'scsi-format', True),
            ('hda', 'ide', None, 'ide-format', True),
            ('medium', 'scsi', 'io1', self.path('medium.raw'), False),
            ('cd1', 'scsi', None, 'cd1', False),
        )
        for target, bus, iothread, name, selected in rows:
            with self.subTest(target):
                disk = disks[target]
                self.assertEqual((disk['bus'], disk['iothread'], disk['selected']), (bus, iothread, selected))
                self.assertIn(name, disk['names'])
        self.assertEqual(len(disks), len(rows))
        self.assertTrue(disks['cd1']['empty'])
        self.assertEqual(disks['boot']['depth'], 1)

    def test_a_guest_that_is_off_is_shown_as_it_was_seen_last(self):
        disk = self.make_image('disk.qcow2', 8 * MIB)
        for name in ('code', 'vars'):
            with open(self.path(name), 'wb') as f:
                f.truncate(256 << 10)
        vm = self.machine('-drive', f'if=pflash,unit=0,format=raw,readonly=on,file={self.path("code")}',
                          '-blockdev', f'driver=file,node-name=vars-file,filename={self.path("vars")}', '-blockdev', 'driver=raw,node-name=vars,file=vars-file',
                          '-machine', 'pflash1=vars',
                          '-blockdev', f'driver=qcow2,node-name=vda,file.driver=file,file.filename={disk}', '-device', 'virtio-blk-pci,id=vda,drive=vda')
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        running = self.must('dumpxml', 'g').out
        self.assertIn(f"<loader readonly='yes' type='pflash'>{self.path('code')}</loader>", running)
        self.assertIn(f"<nvram format='raw'>{self.path('vars')}</nvram>", running)
        listed, info = self.listing('domblklist', 'g'), self.json('domblkinfo', 'g', 'vda')
        vm.quit()
        self.assertEqual(self.must('domstate', 'g').out.strip(), 'shut off')
        self.assertEqual(self.must('dumpxml', 'g').out, re.sub(r" id='\d+'", '', running, 1))
        self.assertEqual(self.listing('domblklist', 'g'), listed)
        self.assertEqual(self.json('domblkinfo', 'g', 'vda'), info)
        self.must('backup-begin', 'g', '--target', self.path('t'), '--wait', rc=5)

    def test_a_guest_that_was_never_seen_is_not(self):
        vm = self.machine()
        self.must('attach', 'g', '--qmp', vm.qmp_path)
        vm.quit()
        seen, = [os.path.join(folder, name) for folder, _, names in os.walk(self.path('state')) for name in names if name == 'seen.json']
        os.unlink(seen)
        for command in 'dumpxml', 'domblklist':
            self.assertIn('monitor', self.must(command, 'g', rc=5).err)


if __name__ == '__main__':
    bed.main()
