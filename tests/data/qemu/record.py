#!/usr/bin/env python3
"""Records what a QEMU says about itself and about a small guest, for tests that run without it.

usage: record.py BINDIR OUTDIR      BINDIR holds qemu-system-x86_64, qemu-storage-daemon and qemu-img

OUTDIR/schema.json.gz       query-qmp-schema of qemu-system-x86_64
OUTDIR/qsd-schema.json.gz   the same of qemu-storage-daemon
OUTDIR/version              "7.2.22"
OUTDIR/guest.json           the answers that a Graph is made from: two disks, a backing chain, a throttle filter, CD-ROM drives
OUTDIR/busy.json            the same guest with a backup of ours running
OUTDIR/qsd.json             a storage daemon
"""
import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile

ANSWERS = {
    'named_block_nodes': ('query-named-block-nodes', {'flat': True}),
    'block': ('query-block', None),
    'jobs': ('query-jobs', None),
    'block_jobs': ('query-block-jobs', None),
    'exports': ('query-block-exports', None),
    'status': ('query-status', None),
    'uuid': ('query-uuid', None),
    'name': ('query-name', None),
    'iothreads': ('query-iothreads', None),
    'objects': ('qom-list', {'path': '/objects'}),
    'block_graph': ('x-debug-query-block-graph', None),
    'memory': ('query-memory-size-summary', None),
    'cpus': ('query-cpus-fast', None),
}


class Qmp:
    """A QEMU that was started on a socket pair; ends with it."""

    def __init__(self, program, args, cwd):
        ours, theirs = socket.socketpair()
        daemon = 'storage-daemon' in program
        chardev = ['--chardev' if daemon else '-chardev', f'socket,id=m,fd={theirs.fileno()}']
        monitor = ['--monitor', 'chardev=m'] if daemon else ['-mon', 'chardev=m,mode=control']
        self.process = subprocess.Popen([program, *chardev, *monitor, *args], pass_fds=[theirs.fileno()], cwd=cwd)
        theirs.close()
        self.file = ours.makefile('rw')
        self.greeting = json.loads(self.file.readline())
        self.ask('qmp_capabilities')

    def reply(self, command, arguments=None):
        message = {'execute': command}
        if arguments is not None:
            message['arguments'] = arguments
        self.file.write(json.dumps(message) + '\n')
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if 'return' in answer or 'error' in answer:
                return answer

    def ask(self, command, arguments=None):
        answer = self.reply(command, arguments)
        if 'error' in answer:
            raise RuntimeError(f'{command}: {answer["error"]["desc"]}')
        return answer['return']

    def try_ask(self, command, arguments=None):
        return self.reply(command, arguments).get('return')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def device_iothread(qmp, path):
    get = lambda what: qmp.try_ask('qom-get', {'path': what, 'property': 'iothread'})
    found = get(path)
    bus = None if found else qmp.try_ask('qom-get', {'path': path, 'property': 'parent_bus'})
    while not found and bus and bus != '/machine':
        bus = os.path.dirname(bus)
        found = get(bus)
    return os.path.basename(found) if found else None


def record_answers(qmp, path):
    answers = {name: qmp.try_ask(*command) for name, command in ANSWERS.items()}
    types, iothreads = {}, {}
    for drive in answers['block'] or []:
        qdev = drive.get('qdev')
        if not qdev or 'inserted' not in drive:
            continue
        where = qdev if qdev.startswith('/') else '/machine/peripheral/' + qdev
        types[where] = qmp.ask('qom-get', {'path': where, 'property': 'type'})
        iothread = device_iothread(qmp, where)
        if iothread:
            iothreads[where] = iothread
    answers['device_types'], answers['device_iothreads'] = types, iothreads
    with open(path, 'w') as out:
        json.dump({name: value for name, value in answers.items() if value is not None}, out, indent=1, sort_keys=True)
        out.write('\n')


def record_schema(qmp, path):
    data = json.dumps(qmp.ask('query-qmp-schema'), separators=(',', ':')).encode()
    with open(path, 'wb') as out:
        out.write(gzip.compress(data, 9, mtime=0))


def make_images(img, folder):
    def run(*args):
        subprocess.run([img, 'create', '-q', *args], cwd=folder, check=True)
    run('-f', 'qcow2', 'base.qcow2', '16M')
    run('-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'middle.qcow2')
    run('-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', 'system.qcow2')
    run('-f', 'raw', 'data.raw', '8M')
    run('-f', 'qcow2', 'cdrom.qcow2', '1M')
    run('-f', 'qcow2', 'scratch.qcow2', '16M')
    run('-f', 'qcow2', 'daemon.qcow2', '4M')


GUEST = ['-machine', 'q35', '-accel', 'tcg', '-m', '64', '-display', 'none', '-S', '-nodefaults', '-name', 'recorded',
         '-uuid', '0bba0f2c-6c4b-4a3e-9a43-3d2ab5e3c8a1',
         '-object', 'iothread,id=io0', '-object', 'throttle-group,id=tg0',
         '-blockdev', 'driver=file,node-name=system-file,filename=system.qcow2',
         '-blockdev', 'driver=qcow2,node-name=system-format,file=system-file',
         '-blockdev', 'driver=throttle,node-name=system-throttle,throttle-group=tg0,file=system-format',
         '-device', 'virtio-blk-pci,drive=system-throttle,id=virtio-disk0,iothread=io0',
         '-drive', 'if=none,id=data,file=data.raw,format=raw', '-device', 'virtio-scsi-pci,id=scsi0,iothread=io0',
         '-device', 'scsi-hd,drive=data,bus=scsi0.0',
         '-drive', 'if=none,id=empty,media=cdrom', '-device', 'ide-cd,drive=empty,id=ide0',
         '-drive', 'if=none,id=medium,media=cdrom,read-only=on,file=cdrom.qcow2,format=qcow2', '-device', 'ide-cd,drive=medium,bus=ide.1']


def start_backup(qmp):
    qmp.ask('block-dirty-bitmap-add', {'node': 'system-format', 'name': 'cp1', 'persistent': True})
    qmp.ask('blockdev-add', {'driver': 'qcow2', 'node-name': 'bak-1f3a9c02-scr00', 'file': {'driver': 'file', 'filename': 'scratch.qcow2'},
                             'backing': 'system-format'})
    qmp.ask('transaction', {'actions': [{'type': 'blockdev-backup', 'data': {
        'job-id': 'bak-1f3a9c02-job00', 'device': 'system-format', 'target': 'bak-1f3a9c02-scr00', 'sync': 'none', 'auto-dismiss': False,
        'filter-node-name': 'bak-1f3a9c02-flt00'}}]})


def main(bindir, out):
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        make_images(f'{bindir}/qemu-img', folder)
        with Qmp(f'{bindir}/qemu-system-x86_64', GUEST, folder) as qmp:
            version = qmp.greeting['QMP']['version']['qemu']
            with open(f'{out}/version', 'w') as file:
                print(f"{version['major']}.{version['minor']}.{version['micro']}", file=file)
            record_schema(qmp, f'{out}/schema.json.gz')
            record_answers(qmp, f'{out}/guest.json')
            start_backup(qmp)
            record_answers(qmp, f'{out}/busy.json')
        with Qmp(f'{bindir}/qemu-storage-daemon', ['--object', 'throttle-group,id=tg0'], folder) as qmp:
            record_schema(qmp, f'{out}/qsd-schema.json.gz')
            qmp.ask('blockdev-add', {'driver': 'qcow2', 'node-name': 'first', 'file': {'driver': 'file', 'filename': 'system.qcow2'}})
            qmp.ask('blockdev-add', {'driver': 'file', 'node-name': 'second-file', 'filename': 'daemon.qcow2'})
            qmp.ask('blockdev-add', {'driver': 'qcow2', 'node-name': 'second', 'file': 'second-file'})
            qmp.ask('blockdev-add', {'driver': 'throttle', 'node-name': 'second-throttle', 'throttle-group': 'tg0', 'file': 'second'})
            qmp.ask('blockdev-add', {'driver': 'qcow2', 'node-name': 'bak-1f3a9c02-scr00', 'backing': 'first',
                                     'file': {'driver': 'file', 'filename': 'scratch.qcow2'}})
            record_answers(qmp, f'{out}/qsd.json')


if __name__ == '__main__':
    main(*sys.argv[1:])
