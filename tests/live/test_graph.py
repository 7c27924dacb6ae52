#!/usr/bin/python3
"""What is read of a QEMU: disks on every bus, under filters, with the iothread that serves them."""
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

    def test_disks_are_found_with_all_that_is_known_of_them(self):
        vm = self.start()
        self.must('attach', 'g', '--qmp', vm.qmp_path, '--disk', f'boot={self.path("chain.qcow2")}')
        disks = {disk['target']: disk for disk in self.json('domblklist', 'g')}
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


if __name__ == '__main__':
    bed.main()
