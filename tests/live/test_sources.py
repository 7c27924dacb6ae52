#!/usr/bin/python3
"""Disks as people have them: encrypted, in two files, of odd sizes, of large sectors, throttled, on servers. Each is copied exactly, or refused by name."""
import getpass
import os
import subprocess

import bed
from servers import Ceph, Tgtd, need_driver
from sshd import Sshd

MIB = 1 << 20


def file(path, **options):
    return ','.join(['file.driver=file', f'file.filename={path}', *(f'{key}={value}' for key, value in options.items())])


class SourceTest(bed.LiveTest):
    """All kinds are disks of one guest, which is backed up as a whole. What they hold is known from what was written, and not from any image."""

    def key(self):
        with open(self.path('pass'), 'w') as f:
            f.write('a pass phrase of the test')
        return f'secret,id=pass,file={self.path("pass")}'

    def start(self, kinds, extra=(), **kw):
        """kinds: name -> (size, device and its options, options of a node); what a guest would do is done to a throttle filter on top of that."""
        arguments = ['-object', self.key(), '-object', 'throttle-group,id=group,x-iops-total=100000']
        names = []
        for name, (size, device, node) in kinds.items():
            arguments += ['-blockdev', f'node-name={name}-node,{node}', '-blockdev', f'driver=throttle,node-name={name}-top,throttle-group=group,file={name}-node',
                          '-device', f'{device},id={name},drive={name}-top,share-rw=on']
            names += ['--disk', f'{name}={name}-top']
        self.qemu = self.machine(*extra, *arguments, **kw)
        self.want = {name: bytearray(size) for name, (size, _, _) in kinds.items()}
        self.must('attach', 'g', '--qmp', self.qemu.qmp_path, *names)
        self.picture = self.qemu.picture()

    def write(self, byte, where):
        """One sector of each disk, a byte of its own; where: 0 to 1."""
        for number, (name, disk) in enumerate(self.want.items()):
            at, sector = int((len(disk) - 1) * where), 4096 if len(disk) % 4096 == 0 else 512
            at -= at % sector
            self.qemu.io(f'{name}-top', f'write -P {byte + number} {at} {sector}')
            disk[at:at + sector] = bytes([byte + number]) * sector

    def fill(self):
        """What nobody wrote is noise in an encrypted image."""
        for name, disk in self.want.items():
            self.qemu.io(f'{name}-top', f'write -P 0 0 {len(disk)}')
        for byte, where in ((0x10, 0), (0x20, 0.4), (0x30, 1)):
            self.write(byte, where)

    def instant(self):
        return {name: bytes(disk) for name, disk in self.want.items()}

    def differ(self, folder, fmt, want):
        """The disks whose copies are not what was wanted."""
        wrong = []
        for name, disk in want.items():
            copy = self.path(folder, name)
            if fmt != 'raw':
                self.img('convert', '-f', fmt, '-O', 'raw', copy, f'{copy}.raw')
                copy += '.raw'
            with open(copy, 'rb') as f:
                if f.read() != disk:
                    wrong.append(name)
        return wrong

    def push(self, folder, *more, fmt='qcow2'):
        os.mkdir(self.path(folder))
        self.must('backup-begin', 'g', *[word for name in self.want for word in ('--target', f'{name}={self.path(folder, name)}')],
                  '--format', fmt, *more, '--wait')
        self.assertEqual(self.differ(folder, fmt, self.instant()), [], folder)

    def pull(self, folder, byte, *more):
        os.mkdir(self.path(folder))
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("nbd")}', *more)
        instant = self.instant()
        self.write(byte, 0.4)
        for name in self.want:
            self.nbdcopy(f'nbd+unix:///{name}?socket={self.path("nbd")}', self.path(folder, name))
        self.assertEqual(self.differ(folder, 'raw', instant), [], folder)
        self.assertEqual(self.differ(folder, 'raw', self.instant()), list(self.want))     # so it would be seen
        self.must('backup-stop', 'g')

    def types(self):
        return {disk['type'] for disk in self.json('backup-info', 'g')['disks']}

    def live(self, kinds, *checkpoint, **kw):
        """Full and increment, pushed and pulled, while they are written to; then nothing is left."""
        self.start(kinds, **kw)
        self.fill()
        self.push('full', '--checkpoint', 'c1', *checkpoint)
        self.write(0x40, 1)
        self.push('more', '--since', 'c1', *[word for name in self.want for word in ('--onto', f'{name}={self.path("full", name)}')])
        self.assertEqual(self.types(), {'incremental'})
        self.pull('pulled', 0x50)
        self.pull('pulled-more', 0x60, '--since', 'c1')
        self.assertEqual(self.types(), {'incremental'})
        self.push('raw', fmt='raw')
        self.must('checkpoint-delete', 'g', 'c1')
        self.assert_nothing_left(self.qemu, self.picture)

    def image(self, name, fmt, size, *options):
        return self.make_image(name, size, fmt, options=options)


class ImageTest(SourceTest):
    def test_disks_that_can_keep_a_checkpoint(self):
        size, odd = 2 * MIB, 2 * MIB + 512
        rows = (    # name, size, options of qemu-img, device, options of the node
            ('luks', size, ('--object', self.key(), '-o', 'encrypt.format=luks,encrypt.key-secret=pass,encrypt.iter-time=10'), 'virtio-blk-pci',
             dict(zip(('encrypt.format', 'encrypt.key-secret'), ('luks', 'pass')))),
            ('two', size, ('-o', f'data_file={self.path("two.data")}'), 'virtio-blk-pci', {}),
            ('two-raw', size, ('-o', f'data_file={self.path("two-raw.data")},data_file_raw=on'), 'virtio-blk-pci', {}),
            ('sub', size, ('-o', 'extended_l2=on,cluster_size=128k'), 'virtio-blk-pci', {}),
            ('odd', odd, (), 'virtio-blk-pci', {}),
            ('sector', 512, (), 'virtio-blk-pci', {}),
            ('nvme', size, (), 'nvme,serial=n', {}),
            ('large', size, (), 'virtio-blk-pci,logical_block_size=4096,physical_block_size=4096', {}),
        )
        kinds = {}
        for name, bytes_, create, device, options in rows:
            kinds[name] = (bytes_, device, f'driver=qcow2,{file(self.image(name + ".qcow2", "qcow2", bytes_, *create), **options)}')
        store = self.image('store.qcow2', 'qcow2', size)
        kinds['store'] = (size, 'virtio-blk-pci', f'driver=qcow2,file.driver=blkdebug,file.align=4096,file.image.driver=file,file.image.filename={store}')
        self.live(kinds)
        disks = {disk['target']: disk for disk in self.listing('domblklist', 'g')}
        self.assertEqual({name: (disk['selected'], disk['note']) for name, disk in disks.items()}, {name: (True, None) for name in kinds})
        self.assertEqual(disks['nvme']['bus'], 'nvme')

    def test_disks_that_cannot(self):
        luks = self.image('luks', 'luks', 2 * MIB, '--object', self.key(), '-o', 'key-secret=pass,iter-time=10')
        odd, store = self.path('odd'), self.image('store', 'raw', 2 * MIB)
        with open(odd, 'wb') as f:
            f.truncate(2 * MIB + 100)
        self.live({'luks': (2 * MIB, 'virtio-blk-pci', f'driver=luks,{file(luks)},key-secret=pass'),
                   'odd': (2 * MIB + 512, 'virtio-blk-pci', f'driver=raw,{file(odd)}'),
                   'store': (2 * MIB, 'virtio-blk-pci', f'driver=raw,file.driver=blkdebug,file.align=4096,file.image.driver=file,file.image.filename={store}')},
                  '--memory-bitmap')


class VhostTest(bed.LiveTest):
    def test_a_disk_that_another_process_serves_is_refused_by_name(self):
        image = self.make_image('vda.qcow2', 2 * MIB, data=[(0, MIB, 7)])
        theirs = self.make_image('vdb.raw', 2 * MIB, fmt='raw')
        listener = bed.listen_unix(self.path('vhost'))
        self.popen(bed.tool('qemu-storage-daemon', '7.2'), '--blockdev', f'driver=file,node-name=f,filename={theirs}', '--export',
                   f'type=vhost-user-blk,id=e,node-name=f,writable=on,addr.type=fd,addr.str={listener.fileno()}', pass_fds=[listener.fileno()],
                   stdout=subprocess.DEVNULL)
        qemu = self.machine('-object', 'memory-backend-memfd,id=memory,size=32M,share=on', '-machine', 'memory-backend=memory',
                            '-blockdev', f'driver=qcow2,node-name=vda,{file(image)}', '-device', 'virtio-blk-pci,id=vda,drive=vda',
                            '-chardev', f'socket,id=vhost,path={self.path("vhost")}', '-device', 'vhost-user-blk-pci,id=vdb,chardev=vhost')
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        before = qemu.picture()
        disks = {disk['target']: disk for disk in self.listing('domblklist', 'g')}
        self.assertEqual(sorted(disks), ['vda', 'vdb'])
        self.assertEqual(disks['vdb']['bus'], 'virtio')
        self.assertIn('is served by another process', disks['vdb']['note'])
        self.assertIn('is served by another process', self.must('domblklist', 'g', '--details').out)
        with open(self.path('xml'), 'w') as f:
            f.write('<domainbackup/>')
        with open(self.path('checkpoint'), 'w') as f:
            f.write('<domaincheckpoint/>')
        for command in (['backup-begin', 'g', '--target', self.path() + '/'], ['backup-begin', 'g', '--mode', 'pull'], ['backup-begin', 'g', self.path('xml')],
                        ['backup-begin', 'g', '--disk', 'vda', '--disk', 'vdb', '--mode', 'pull'], ['checkpoint-create', 'g', self.path('checkpoint')]):
            with self.subTest(command):
                self.assertIn("disk 'vdb' cannot", self.must(*command, rc=1).err)
                self.assert_nothing_left(qemu, before)
        self.must('backup-begin', 'g', '--disk', 'vda', '--target', f'vda={self.path("copy")}', '--wait')
        self.assert_same(image, self.path('copy'))
        self.assert_nothing_left(qemu, before)


class ServerTest(SourceTest):
    """Disks on servers, opened by the guest's own QEMU."""

    def served(self, kinds, **kw):
        self.live({name: (2 * MIB, 'virtio-blk-pci', f'driver=raw,{node}') for name, node in kinds.items()}, '--memory-bitmap', **kw)

    def test_a_disk_on_nbd(self):
        server = bed.NbdServer(self, 'memory', '2M')
        self.served({'nbd': f'file.driver=nbd,file.server.type=unix,file.server.path={server.path}'})

    def test_a_disk_on_iscsi(self):
        need_driver('iscsi', 'transport=tcp', 'portal=127.0.0.1:1', 'target=x', 'lun=0', program=bed.tool('qemu-storage-daemon'))
        tgtd = Tgtd(self, ('2M',))
        self.served({'iscsi': f'file.driver=iscsi,file.transport=tcp,file.portal=127.0.0.1:{tgtd.port},file.target={tgtd.iqn},file.lun=1'})

    def test_a_disk_on_rbd(self):
        need_driver('rbd', 'pool=x', 'image=x', 'conf=/nowhere', program=bed.tool('qemu-storage-daemon'))
        ceph = Ceph(self)
        bed.run('rbd', '-c', ceph.conf, '--keyring', ceph.admin, 'create', '--size', '2M', 'pool/disk')
        with open(self.path('ceph.key'), 'w') as f:
            f.write(ceph.key)
        self.served({'rbd': f'file.driver=rbd,file.pool=pool,file.image=disk,file.conf={ceph.conf},file.user=backup,file.key-secret=ceph'},
                    extra=['-object', f'secret,id=ceph,format=base64,file={self.path("ceph.key")}'])

    def test_a_disk_on_ssh(self):
        need_driver('ssh', 'server.host=127.0.0.1', 'server.port=1', 'path=/x', program=bed.tool('qemu-storage-daemon'))
        sshd, image = Sshd(self), self.make_image('disk.raw', 2 * MIB, fmt='raw')
        agent = sshd.agent()
        self.served({'ssh': f'file.driver=ssh,file.server.host=127.0.0.1,file.server.port={sshd.port},file.path={image},file.user={getpass.getuser()},'
                     'file.host-key-check.mode=none'}, env={**os.environ, 'SSH_AUTH_SOCK': agent})


if __name__ == '__main__':
    bed.main()
