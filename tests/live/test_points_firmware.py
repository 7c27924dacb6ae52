#!/usr/bin/python3
"""What a point keeps beside the disks comes back with them: the definition and the UEFI variables; what is not kept is said."""
import os

import bed

MIB = 1 << 20
SIZE = 256 << 10


class FirmwareTest(bed.LiveTest):
    """A machine with UEFI's two flash memories, whose variables are in a file with a name of its own."""

    def setUp(self):
        super().setUp()
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        self.disk = self.make_image('disk.qcow2', 8 * MIB, data=[(0, MIB, 3)])
        with open(self.path('code'), 'wb') as file:
            file.truncate(SIZE)

    def start(self, *variables):
        self.vm = self.machine('-drive', f'if=pflash,unit=0,format=raw,readonly=on,file={self.path("code")}', *variables, '-machine', 'pflash1=vars',
                               '-blockdev', f'driver=qcow2,node-name=vda,file.driver=file,file.filename={self.disk}', '-device', 'virtio-blk-pci,id=vda,drive=vda')
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)

    def restored(self, point, name):
        folder = self.path(point['id'])
        if not os.path.exists(folder):
            self.must('point-restore', point['id'], '--target', folder)
        with open(os.path.join(folder, name), 'rb') as file:
            return file.read()

    def test_the_variables_of_each_point_are_restored_with_it(self):
        path = self.path("va&r's <1>")
        with open(path, 'wb') as file:
            file.write(b'\1' * SIZE)
        self.start('-blockdev', '{"driver": "file", "node-name": "vars-file", "filename": "%s"}' % path, '-blockdev', 'driver=raw,node-name=vars,file=vars-file')
        first = self.json('point-create', 'g')
        self.vm.io('vars', 'write -P 7 4k 4k')
        second = self.json('point-create', 'g')
        self.assertNotIn('UEFI', str(first['warnings']) + str(second['warnings']))
        self.assertEqual(self.restored(first, 'nvram'), b'\1' * SIZE)
        self.assertEqual(self.restored(second, 'nvram'), b'\1' * 4096 + b'\7' * 4096 + b'\1' * (SIZE - 8192))
        self.assertIn(b'<nvram', self.restored(second, 'domain.xml'))
        self.assertIn(b'nvram', self.restored(second, 'README'))

    def test_variables_that_lie_in_no_file_are_said_to_be_missing(self):
        self.start('-blockdev', f'driver=null-co,node-name=vars,size={SIZE},read-zeroes=on')
        self.assertIn('UEFI variables are not in the point', str(self.json('point-create', 'g')['warnings']))

    def test_an_image_of_variables_that_qemu_has_open_may_be_behind(self):
        path = self.make_image('vars.qcow2', SIZE, data=[(0, SIZE, 1)])
        self.start('-blockdev', f'driver=qcow2,node-name=vars,file.driver=file,file.filename={path}')
        point = self.json('point-create', 'g')
        self.assertIn('lately', str(point['warnings']))
        with open(path, 'rb') as file:
            self.assertEqual(self.restored(point, 'nvram'), file.read())


if __name__ == '__main__':
    bed.main()
