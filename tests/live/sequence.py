"""Random sequences of everything that may happen to a guest's disks between two backups, and the proof after each backup.

A Sequence drives one bare QEMU and one attached guest. Beside them it keeps a model: the bytes of every disk, what every
checkpoint's disk was worth at its instant, and why an increment from it may be refused. After a backup that says that it is
good, the restored chain must equal the model at the instant of begin, byte for byte; a refusal must be `inexact` and have a
reason in the model; a failure must leave nothing. Writes that race with begin are numbered: the copy must hold a prefix of them.

    Sequence(test, seed=7, steps=30).run()          the log of a failure holds the seed and every step
"""
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import bed
import lib
import nbdpy

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512
DEFAULT_GRANULARITY = 64 * KIB


class Disk:
    def __init__(self, name, fmt, size, cluster):
        self.name, self.fmt, self.size, self.cluster = name, fmt, size, cluster
        self.data = bytearray(size)
        self.layers = []            # paths, base first
        self.nodes = []             # their node names
        self.tracked = []           # of each layer above the base: checkpoints that got a bitmap with the snapshot
        self.written = []           # the last extents

    @property
    def node(self):
        return self.nodes[-1]


class Point:
    """A checkpoint on one disk: what the disk held at its instant, and why an increment from it may be refused."""

    def __init__(self, disk, data, persistent, granularity):
        self.data, self.size, self.persistent, self.granularity = bytes(data), disk.size, persistent, granularity
        self.layer = len(disk.layers) - 1
        self.lost = set()           # for ever: killed, shrunk, memory, dropped
        self.file = None            # a qcow2 chain that restores to data


class Broken(AssertionError):
    pass


class Sequence:
    def __init__(self, test, seed, steps=30):
        self.test, self.seed, self.steps = test, seed, steps
        self.random = random.Random(f'sequence {seed}')
        self.version = bed.version_tuple(test.version)
        self.log = []
        self.points = {}            # checkpoint name -> {disk name: Point}, in order of creation
        self.foreign = set()        # (node, bitmap)
        self.copies = {}            # disk name -> an older copy of its image
        self.counter = 0
        self.count = {}
        self.said = time.monotonic()

    # ---- log and chance

    def say(self, text):
        now = time.monotonic()
        self.log.append(f'{(now - self.said) * 1000:5.0f} ms  {text}')
        self.said = now

    def tell(self, what):
        self.count[what] = self.count.get(what, 0) + 1

    def number(self, prefix):
        self.counter += 1
        return f'{prefix}{self.counter}'

    def chance(self, percent):
        return self.random.random() * 100 < percent

    # ---- QEMU

    def make_disks(self):
        r = self.random
        self.real = r.random() < 0.25           # a PC with virtio disks instead of a bare engine
        # by an I/O thread each; before 9.0 QEMU dies of a qemu-io of its monitor there, without any backup
        self.served = self.real and r.random() < 0.5 and self.version >= (9, 0)
        self.disks = []
        for i in range(r.choice([1, 2, 2, 3])):
            fmt = 'raw' if r.random() < 0.15 else 'qcow2'
            size = r.choice([1, 2, 4, 4]) * MIB + r.choice([0, 0, 0, SECTOR * r.randrange(1, 200)])
            disk = Disk(f'vd{"abc"[i]}', fmt, size, r.choice([4, 64, 64, 64, 512]) * KIB if fmt == 'qcow2' else SECTOR)
            path = self.test.path(f'{disk.name}.{fmt}')
            options = ['-o', f'cluster_size={disk.cluster}'] if fmt == 'qcow2' else []
            self.test.img('create', '-q', '-f', fmt, *options, path, str(size))
            disk.layers, disk.nodes = [path], [f'{disk.name}-0']
            self.disks.append(disk)

    def arguments(self):
        out = ['-machine', 'pc', '-accel', 'tcg', '-m', '32', '-S'] if self.real else ['-machine', 'none']
        for disk in self.disks:
            backing = None
            for i, (path, node) in enumerate(zip(disk.layers, disk.nodes)):
                top = i == len(disk.layers) - 1
                out += ['-blockdev', f'driver=file,node-name={node}-f,filename={path},discard=unmap'
                        + ('' if top else ',auto-read-only=on')]    # on top it would change descriptors under a running job
                options = {'driver': disk.fmt, 'node-name': node, 'file': f'{node}-f', 'discard': 'unmap'}
                if disk.fmt == 'qcow2':
                    options['backing'] = backing
                if not top:
                    options['read-only'] = True
                out += ['-blockdev', json.dumps(options)]
                backing = node
            if self.real:
                served = ''
                if self.served:
                    out += ['-object', f'iothread,id=io-{disk.name}']
                    served = f',iothread=io-{disk.name},bootindex={self.disks.index(disk)}'
                out += ['-device', f'virtio-blk-pci,id={disk.name},drive={disk.node},share-rw=on{served}']
            else:
                out += ['-object', f'throttle-group,id=tg-{disk.name}',
                        '-blockdev', f'driver=throttle,discard=unmap,node-name={disk.name}-top,throttle-group=tg-{disk.name},file={disk.node}']
        if self.served:
            out += ['-chardev', f'file,id=bios,path={self.test.path("bios")}', '-device', 'isa-debugcon,iobase=0x402,chardev=bios']
        return out

    def await_firmware(self):
        """It starts the devices, so that their I/O threads have the disks, and finds nothing to boot."""
        self.vm.qmp.execute('cont')

        def read_all():
            with open(self.test.path('bios'), errors='replace') as f:
                return 'No bootable device' in f.read()
        bed.wait_for('the firmware has tried every disk', read_all)

    def start_qemu(self):
        # without our variables, by which watchers are told from other children
        env = {key: value for key, value in os.environ.items() if not key.startswith('LIBBACKUP')}
        self.vm = bed.Qemu(self.test, self.arguments(), name='vm', env=env)
        if self.served:
            self.await_firmware()

    def root(self, disk):
        return disk.node if self.real else f'{disk.name}-top'

    def io(self, disk, command):
        """As a guest does it: above every filter that a backup puts in."""
        at = os.path.getsize(self.vm.stderr_path)
        self.vm.io(f'-d /machine/peripheral/{disk.name}/virtio-backend' if self.real else f'{disk.name}-top', command)
        with open(self.vm.stderr_path, 'rb') as f:      # where qemu-io in a monitor says what went wrong
            f.seek(at)
            said = f.read().decode(errors='replace')
        if 'failed' in said and 'Pattern verification' not in said:
            raise Broken(f'{disk.name}: {command}: {said}')
        return said

    # ---- libbackup

    def open(self):
        self.conn = self.library.open('qemu:///session')

    def setup(self):
        self.library = lib.Library()
        for key in ('LIBBACKUP_STATE_DIR', 'XDG_RUNTIME_DIR', 'XDG_STATE_HOME', 'XDG_CONFIG_HOME', 'HOME', 'LIBBACKUP_CONFIG'):
            if key in self.test.environment:
                os.environ[key] = self.test.environment[key]
        os.environ.setdefault('LIBBACKUPD', os.path.join(os.environ.get('BUILD_DIR') or os.path.join(lib.TOP, 'build'), 'tools/libbackupd/libbackupd'))
        self.make_disks()
        self.start_qemu()
        self.daemon = None
        self.with_daemon = self.chance(50)
        if self.with_daemon:
            self.start_daemon()
        self.open()
        names = None if self.real else {d.name: f'{d.name}-top' for d in self.disks}
        self.guest = self.conn.attach('g', qmp=self.vm.qmp_path, disks=names)
        self.say(f'{len(self.disks)} disks: ' + ', '.join(f'{d.name} {d.fmt} {d.size} cluster {d.cluster}' for d in self.disks)
                 + (' on I/O threads of a PC' if self.served else ' on a PC' if self.real else ' on a bare engine') + (', with a daemon' if self.daemon else ''))

    def start_daemon(self):
        log = open(self.test.path('daemon.log'), 'ab')
        reading, writing = os.pipe()
        notify = self.test.path('notify')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify)

        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(notify)
        ready.settimeout(20 * bed.SLOW)
        os.close(reading)
        os.close(writing)
        self.daemon = subprocess.Popen([os.environ['LIBBACKUPD'], '--socket', self.test.path('daemon.sock')], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, 'NOTIFY_SOCKET': notify})
        log.close()
        self.test.addCleanup(self.end_daemon)
        while b'READY=1' not in ready.recv(4096):
            pass
        ready.close()

    def end_daemon(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def kill_owner(self):
        """kill -9 of whoever owns the guest now."""
        if self.daemon:
            self.end_daemon()
        else:
            for pid in self.test.watchers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def reopen(self):
        self.guest = None
        self.conn.close()
        if self.with_daemon and not self.daemon:
            self.start_daemon()
        self.open()
        self.guest = self.conn.lookup('g')

    # ---- what a guest does

    def extent(self, disk, align=SECTOR):
        r = self.random
        length = r.choice([SECTOR, 4 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 64 * KIB, 192 * KIB])
        length = max(align, length // align * align)
        if disk.size < align:
            return None
        offset = r.randrange(0, disk.size // align) * align
        if r.random() < 0.1:
            offset = max(0, disk.size // align * align - length)          # the tail
        return offset, min(length, disk.size // SECTOR * SECTOR - offset)

    def write(self, times=None):
        done = []
        for _ in range(times or self.random.randrange(1, 8)):
            disk = self.random.choice(self.disks)
            kind = self.random.choice(['write'] * 6 + ['zero', 'zero-unmap', 'discard', 'discard'])
            align = SECTOR if kind != 'discard' or disk.fmt == 'raw' else disk.cluster
            place = self.extent(disk, align)
            if kind != 'write' and disk.written and self.chance(70):    # zeroes matter most where something was
                offset, length = self.random.choice(disk.written)
                start, end = offset // align * align, min(-(-(offset + length) // align) * align, disk.size // align * align)
                place = (start, end - start) if end > start else place
            if not place or place[1] <= 0 or (kind == 'discard' and place[1] % align):
                continue
            offset, length = place
            pattern = self.random.randrange(1, 256)
            self.io(disk, {'write': f'write -P {pattern} {offset} {length}', 'zero': f'write -z {offset} {length}',
                           'zero-unmap': f'write -z -u {offset} {length}', 'discard': f'discard {offset} {length}'}[kind])
            if kind == 'discard' and 'Pattern verification' in self.io(disk, f'read -P 0 {offset} {length}'):
                # QEMU may ignore it, as it does while a backup's filter is in place, which may go in the middle of it
                kind = 'half discard'
                for at in range(offset, offset + length, align):
                    if 'Pattern verification' not in self.io(disk, f'read -P 0 {at} {align}'):
                        disk.data[at:at + align] = bytes(align)
            else:
                disk.data[offset:offset + length] = bytes([pattern if kind == 'write' else 0]) * length
            if kind == 'write':
                disk.written = disk.written[-30:] + [(offset, length)]
            done.append(f'{disk.name} {kind} {offset}+{length}')
        return done

    def step_write(self):
        self.say('writes: ' + ', '.join(self.write()))

    # ---- what an administrator does

    def invalidate(self, why, disk=None, test=lambda point: True):
        for disks in self.points.values():
            for name, point in disks.items():
                if (disk is None or name == disk.name) and test(point):
                    point.lost.add(why)

    def step_resize(self):
        disk = self.random.choice(self.disks)
        old = disk.size
        size = max(MIB // 2, old + SECTOR * self.random.choice([1, 128, 1024, 2048, -1, -128, -1024, -4096]))
        if size < old and len(disk.layers) > 1:
            return self.say('no resize: a shrunk overlay')
        if not self.resize(disk, size) or size > old:
            return
        # a disk that shrinks and grows back is found out whether somebody looks in between or not (docs/checkpoints.md)
        if self.chance(50):
            with contextlib.suppress(lib.Error):
                self.guest.checkpoint_check()
        if self.chance(60):
            self.resize(disk, old)

    def resize(self, disk, size):
        old = disk.size
        try:
            self.vm.qmp.execute('block_resize', node_name=self.root(disk), size=size)
        except bed.QmpError as e:
            self.say(f'resize of {disk.name} refused: {e.desc}')
            return False
        self.resized(disk, old, size)
        # what a cluster held behind the end of a qcow2 image is there again when it grows
        end = size if len(disk.layers) > 1 else min(size, -(-old // disk.cluster) * disk.cluster)
        if end > old:
            self.io(disk, f'write -z {old} {end - old}')
        self.say(f'resize {disk.name} {old} -> {size}')
        self.tell('resize')
        return True

    def resized(self, disk, old, size):
        disk.data = disk.data[:size].ljust(size, b'\0')
        disk.size = size
        if size < old:
            self.invalidate('shrunk', disk)

    def step_snapshot(self):
        disks = [d for d in self.disks if d.fmt == 'qcow2' and len(d.layers) < 4]
        if not disks:
            return self.say('no snapshot: no disk for it')
        disk = self.random.choice(disks)
        path, node = self.test.path(self.number(f'{disk.name}-over') + '.qcow2'), self.number(f'{disk.name}-')
        tracked = []
        if self.chance(50):     # as libvirt does it: bitmaps on the overlay at the same instant
            self.test.img('create', '-q', '-f', 'qcow2', '-b', disk.layers[-1], '-F', 'qcow2', '-o', f'cluster_size={disk.cluster}', path)
            self.vm.qmp.execute('blockdev-add', driver='file', node_name=f'{node}-f', filename=path, discard='unmap')
            self.vm.qmp.execute('blockdev-add', driver='qcow2', node_name=node, file=f'{node}-f', backing=None, discard='unmap')
            actions = [{'type': 'blockdev-snapshot', 'data': {'node': disk.node, 'overlay': node}}]
            for name, points in self.points.items():
                point = points.get(disk.name)
                if point and not point.lost and point.persistent and not self.why_not(disk, name):
                    tracked.append(name)
                    actions.append({'type': 'block-dirty-bitmap-add', 'data': {'node': node, 'name': name, 'persistent': True,
                                                                               'granularity': point.granularity}})
            self.vm.qmp.execute('transaction', actions=actions)
        else:
            self.vm.qmp.execute('blockdev-snapshot-sync', node_name=disk.node, snapshot_file=path, format='qcow2', snapshot_node_name=node)
        disk.layers.append(path)
        disk.nodes.append(node)
        disk.tracked.append(set(tracked))
        self.say(f'snapshot of {disk.name}: {node}, tracked {tracked}')
        self.tell('snapshot')

    def step_commit(self):
        disks = [d for d in self.disks if len(d.layers) > 1]
        if not disks:
            return self.step_snapshot()
        disk = self.random.choice(disks)
        q = self.vm.qmp
        try:
            q.execute('block-commit', job_id='commit', device=self.root(disk), top_node=disk.node, base_node=disk.nodes[-2])
        except bed.QmpError as e:
            return self.say(f'no commit: {e.desc}')
        status = None
        while status not in ('ready', 'null'):
            status = q.wait_event('JOB_STATUS_CHANGE', id='commit')['data']['status']
        if status == 'ready':
            q.execute('job-complete', id='commit')
        done = q.wait_event('BLOCK_JOB_COMPLETED', device='commit')['data']
        if status == 'null':        # a base with an inconsistent bitmap cannot grow to the size of its overlay
            return self.say(f'no commit of {disk.name}: {done["error"]}')
        if 'error' in done:
            raise Broken(f'commit: {done}')
        q.wait_event('JOB_STATUS_CHANGE', id='commit', status='null')
        gone = disk.nodes.pop()
        layer = len(disk.layers) - 1
        disk.layers.pop()
        disk.tracked.pop()
        # what was made on the overlay is gone with it, also a bitmap that a later snapshot carried on
        self.invalidate('committed', disk, lambda point: point.layer >= layer)
        for node in (gone, f'{gone}-f'):
            with contextlib.suppress(bed.QmpError):
                q.execute('blockdev-del', node_name=node)
        self.foreign = {(node, name) for node, name in self.foreign if node != gone}
        self.say(f'commit of {disk.name}: {gone} into {disk.node}')
        self.tell('commit')

    def step_restart(self):
        self.vm.quit()
        self.foreign = {key for key in self.foreign if key[1].startswith('stored')}
        self.invalidate('memory', None, lambda point: not point.persistent)
        self.start_qemu()
        self.say('clean restart')
        self.tell('restart')

    # ---- what somebody does who knows nothing of backups

    def step_touch(self):
        """A second manager plays with the bitmap of a checkpoint."""
        there = [(disk, name) for name, points in self.points.items() for disk in self.disks
                 if disk.name in points and not self.why_not(disk, name) and points[disk.name].layer == len(disk.layers) - 1]
        if not there:
            return self.step_write()
        disk, name = self.random.choice(there)
        bitmap = {'node': disk.node, 'name': name}
        if self.chance(50):
            self.vm.qmp.execute('block-dirty-bitmap-clear', **bitmap)
            how = 'cleared'
        else:
            self.vm.qmp.execute('block-dirty-bitmap-disable', **bitmap)
            self.write()
            self.vm.qmp.execute('block-dirty-bitmap-enable', **bitmap)
            how = 'stopped for a while'
        self.points[name][disk.name].lost.add('touched')
        self.say(f'bitmap {name} on {disk.node} is {how}')
        self.tell('touch')

    def step_stain(self):
        """Somebody writes into a backup: those that lie on it suffer too."""
        kept = [point.file for points in self.points.values() for point in points.values() if point.file and os.path.exists(point.file)]
        if not kept:
            return self.step_write()
        path = self.random.choice(kept)
        bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', '-c', f'write -q -P {self.random.randrange(1, 256)} 0 64k', path)
        for points in self.points.values():
            for point in points.values():
                if point.file and path in self.chain(point.file):
                    point.lost.add('stained')
        self.say(f'written to {os.path.basename(path)}')
        self.tell('stain')

    def chain(self, path):
        said = self.test.img('info', '-U', '--output=json', '--backing-chain', path).stdout
        return [os.path.normpath(os.path.join(os.path.dirname(path), layer['filename'])) for layer in json.loads(said)]

    def step_rollback(self):
        """An image is put back to a copy of it, or, while it is off, a copy is taken for that."""
        disk = self.random.choice(self.disks)
        if len(disk.layers) > 1 or disk.fmt != 'qcow2':
            return self.step_write()
        here = {name: points[disk.name] for name, points in self.points.items() if disk.name in points}
        foreign = {key for key in self.foreign if key[0] == disk.node and key[1].startswith('stored')}
        copy = self.copies.get(disk.name)
        self.vm.quit()
        # what is forgotten since, or was put there by others, would be bitmaps that nobody knows
        if copy and copy['foreign'] == foreign and all(here.get(name) is point for name, point in copy['points'].items()):
            shutil.copy(copy['path'], disk.layers[0])
            disk.data, disk.size = bytearray(copy['data']), copy['size']
            for name, point in here.items():
                if name not in copy['points']:
                    point.lost.add('rolled-back')
            how = 'put back'
        else:
            path = self.test.path(f'copy-of-{disk.name}')
            shutil.copy(disk.layers[0], path)
            self.copies[disk.name] = {'path': path, 'data': bytes(disk.data), 'size': disk.size, 'foreign': foreign,
                                      'points': {name: point for name, point in here.items() if point.persistent}}
            how = 'copied'
        self.foreign = {key for key in self.foreign if key[1].startswith('stored')}
        self.invalidate('memory', None, lambda point: not point.persistent)
        self.start_qemu()
        self.say(f'{disk.name} is {how} while off')
        self.tell('rollback')

    def step_swap(self):
        """Two images are renamed into each other while the guest is off."""
        disks = [disk for disk in self.disks if disk.fmt == 'qcow2' and len(disk.layers) == 1]
        if len(disks) < 2:
            return self.step_write()
        one, two = self.random.sample(disks, 2)
        self.vm.quit()
        aside = self.test.path('aside')
        os.rename(one.layers[0], aside)
        os.rename(two.layers[0], one.layers[0])
        os.rename(aside, two.layers[0])
        for what in 'data', 'size', 'cluster', 'written':
            mine, other = getattr(one, what), getattr(two, what)
            setattr(one, what, other)
            setattr(two, what, mine)
        nodes = {one.node: two.node, two.node: one.node}
        self.foreign = {(nodes.get(node, node), name) for node, name in self.foreign if name.startswith('stored')}
        self.invalidate('memory', None, lambda point: not point.persistent)
        for disk in one, two:
            self.copies.pop(disk.name, None)
            self.invalidate('swapped', disk)
        self.start_qemu()
        self.say(f'{one.name} and {two.name} are swapped while off')
        self.tell('swap')

    def step_rebase(self):
        """An overlay is laid on another base, which differs from the one it had, while the guest is off."""
        disks = [disk for disk in self.disks if len(disk.layers) > 1]
        if not disks:
            return self.step_snapshot()
        disk = self.random.choice(disks)
        self.vm.quit()
        base = self.test.path(self.number(f'{disk.name}-base') + '.qcow2')
        shutil.copy(disk.layers[0], base)
        bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', '-c', f'write -q -P {self.random.randrange(1, 256)} 0 64k', base)
        self.test.img('rebase', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', base, disk.layers[1])
        disk.layers[0] = base
        disk.data = bytearray(self.read_image(disk.layers[-1], disk.fmt))
        self.foreign = {key for key in self.foreign if key[1].startswith('stored')}
        self.invalidate('memory', None, lambda point: not point.persistent)
        self.invalidate('rebased', disk)
        self.start_qemu()
        self.say(f'{disk.name} is laid on another base while off')
        self.tell('rebase')

    def step_move(self):
        """All backups go to another folder: they are what they were."""
        kept = {point.file for points in self.points.values() for point in points.values() if point.file and os.path.exists(point.file)}
        if not kept:
            return self.step_write()
        folder = self.test.path(self.number('moved'))
        os.mkdir(folder)
        files = {path: os.path.join(folder, os.path.relpath(path, self.test.directory)) for top in kept for path in self.chain(top)}
        for path, there in files.items():
            os.makedirs(os.path.dirname(there), exist_ok=True)
            os.rename(path, there)
        for points in self.points.values():
            for point in points.values():
                point.file = files.get(point.file, point.file)
        self.say(f'{len(files)} backups moved to {os.path.basename(folder)}')
        self.tell('move')

    def step_kill(self):
        for disk in self.disks:
            self.io(disk, 'flush')
        self.vm.kill()
        self.after_kill()
        self.say('QEMU killed and started again')
        self.tell('kill')

    def after_kill(self):
        # below an overlay bitmaps are stored and safe; those of the overlay itself are gone
        for disk in self.disks:
            self.invalidate('killed', disk, lambda point: point.layer == len(disk.layers) - 1)
            if disk.tracked:
                disk.tracked[-1] = set()
        for disk in self.disks:     # what had not been flushed may be gone
            data = self.read_image(disk.layers[-1], disk.fmt)
            self.resized(disk, disk.size, len(data))
            disk.data = bytearray(data)
        self.start_qemu()
        self.foreign &= set(self.vm.bitmaps())

    def step_foreign(self):
        disk = self.random.choice([d for d in self.disks if d.fmt == 'qcow2'] or self.disks)
        stored = disk.fmt == 'qcow2' and self.chance(50)
        name = self.number('stored-' if stored else 'memory-')
        self.vm.qmp.execute('block-dirty-bitmap-add', node=disk.node, name=name, persistent=stored)
        self.foreign.add((disk.node, name))
        self.say(f'foreign bitmap {name} on {disk.node}')

    # ---- checkpoints

    def why_not(self, disk, name):
        """Why an increment of the disk since the checkpoint may be refused; None: it may not."""
        point = self.points.get(name, {}).get(disk.name)
        if not point:
            return 'not in the checkpoint'
        if point.lost:
            return ' '.join(sorted(point.lost))
        if point.size != disk.size:
            return 'resized'
        for layer in range(point.layer + 1, len(disk.layers)):
            if name not in disk.tracked[layer - 1]:
                return 'snapshot'
        return None

    def checkpoint_xml(self, name, disks=None):
        rows = []
        granularity = {}
        for disk in disks or self.disks:
            g = self.random.choice([0, 0, 0, 4 * KIB, 32 * KIB, 128 * KIB])
            granularity[disk.name] = g or DEFAULT_GRANULARITY
            if disk.fmt != 'qcow2':
                if not self.chance(70):
                    rows.append(f"<disk name='{disk.name}' checkpoint='no'/>")
                    granularity.pop(disk.name)
                    continue
            rows.append(f"<disk name='{disk.name}'" + (" persistent='no'" if disk.fmt != 'qcow2' else '') + (f" granularity='{g}'" if g else '') + '/>')
        if not granularity:
            return None, {}
        return f'<domaincheckpoint><name>{name}</name><disks>{"".join(rows)}</disks></domaincheckpoint>', granularity

    def add_points(self, name, granularity, data=None):
        self.points[name] = {}
        bitmaps = self.vm.bitmaps()
        for disk in self.disks:
            if disk.name in granularity:
                # the default is QEMU's, by the clusters of whatever image is on top
                bitmap = bitmaps.get((disk.node, name))
                g = bitmap['granularity'] if bitmap else granularity[disk.name]
                self.points[name][disk.name] = Point(disk, (data or {}).get(disk.name, disk.data), disk.fmt == 'qcow2', g)

    def step_checkpoint(self):
        name = self.number('cp')
        disks = self.random.sample(self.disks, self.random.randrange(1, len(self.disks) + 1))
        xml, granularity = self.checkpoint_xml(name, disks)
        if not xml:
            return self.say('no checkpoint: no disk for it')
        self.guest.checkpoint_create(xml)
        self.add_points(name, granularity)
        self.say(f'checkpoint {name} on {sorted(granularity)}')
        self.tell('checkpoint')

    def step_delete(self):
        if not self.points:
            return self.step_checkpoint()
        name = self.random.choice(list(self.points))
        kind = self.random.choice(['', '', '', '', 'children', 'children-only', 'metadata'])
        parents = {c['name']: c['parent'] for c in self.guest.checkpoints()}
        after, more = [], [name]        # a redefined checkpoint is a branch
        while more:
            more = [child for child, parent in parents.items() if parent in more]
            after += more
        flags = {'': 0, 'children': lib.CHILDREN, 'children-only': lib.CHILDREN_ONLY, 'metadata': lib.METADATA_ONLY}[kind]
        xml = self.guest.checkpoint_xml(name) if kind == 'metadata' else None
        try:
            self.guest.checkpoint_delete(name, flags)
        except lib.Error as e:
            raise Broken(f'checkpoint-delete {name} {kind}: {e}')
        gone = {'': [name], 'metadata': [name], 'children': [name, *after], 'children-only': after}[kind]
        if kind == 'metadata':
            whole = all(not self.why_not(d, name) for d in self.disks if d.name in self.points[name])
            try:
                self.guest.checkpoint_create(xml, lib.REDEFINE | (lib.VALIDATE if whole else 0))
                self.points[name] = self.points.pop(name)       # the youngest now
                for disk in self.disks:                         # known again only by its bitmap
                    point = self.points[name].get(disk.name)
                    if point and self.why_not(disk, name):
                        point.lost.add('redefined')
                self.say(f'delete {name} metadata, redefined' + (' and validated' if whole else ''))
                return
            except lib.Error as e:
                if whole:
                    raise Broken(f'redefine of {name}: {e}')
                for key, bitmap in self.vm.bitmaps().items():
                    if key[1] == name:
                        self.foreign.add(key)
        for name in gone:
            self.points.pop(name)
        self.say(f'delete {gone} {kind}')
        self.tell('delete')

    def step_check(self):
        repair = self.chance(40)
        findings = self.guest.checkpoint_check(lib.REPAIR if repair else 0)
        for finding in findings:
            if finding['kind'] in ('foreign', 'busy'):
                continue
            disk = [d for d in self.disks if d.name == finding['disk']]
            if not disk or not self.why_not(disk[0], finding['bitmap']):
                raise Broken(f'checkpoint-check finds {finding}, the model nothing')
            if finding['repaired']:
                self.points[finding['bitmap']].pop(disk[0].name, None)
                if not self.points[finding['bitmap']]:
                    self.points.pop(finding['bitmap'])
            elif repair and not finding['repair'].startswith('nothing'):
                raise Broken(f'checkpoint-check --repair did not: {finding}')
        found = {(f['disk'], f['bitmap']) for f in findings}
        for name, points in self.points.items():
            for disk in self.disks:
                why = self.why_not(disk, name) if disk.name in points else None
                if why and not {'killed', 'memory'}.isdisjoint(why.split()) and (disk.name, name) not in found:
                    raise Broken(f'checkpoint-check does not find {name} on {disk.name}: {why}')
        self.say(f'check{" and repair" if repair else ""}: {len(findings)} findings')
        self.tell('check')

    def step_size(self):
        usable = [n for n, p in self.points.items() if p and not any(self.why_not(d, n) for d in self.disks if d.name in p)]
        if not usable:
            return self.step_write()
        name = self.random.choice(usable)
        xml = self.guest.checkpoint_xml(name, lib.SIZE)
        for disk in self.disks:
            point = self.points[name].get(disk.name)
            if not point:
                continue
            size = int(re.search(rf"name='{disk.name}'[^>]* size='(\d+)'", xml)[1])
            changed = sum(point.data[at:at + point.granularity] != disk.data[at:at + point.granularity] for at in range(0, disk.size, point.granularity))
            if size < min(changed * point.granularity, disk.size) - point.granularity:
                raise Broken(f'{name} says that {size} bytes of {disk.name} are dirty; {changed} granules differ')
        self.say(f'size of {name}')

    # ---- backups

    def read_image(self, path, fmt='qcow2'):
        raw = self.test.path('restored.raw')
        self.test.img('convert', '-U', '-f', fmt, '-O', 'raw', path, raw)
        with open(raw, 'rb') as f:
            data = f.read()
        os.unlink(raw)
        return data

    def step_backup(self):
        Backup(self).run()

    def invariants(self):
        """What must hold whenever no job runs."""
        left = self.vm.ours()
        if left:
            raise Broken(f'QEMU still holds {left}')
        names = [c['name'] for c in self.guest.checkpoints()]
        if sorted(names) != sorted(self.points):
            raise Broken(f'checkpoints are {names}, should be {list(self.points)}')
        bitmaps = self.vm.bitmaps()
        for key in bitmaps:
            if key not in self.foreign and key[1] not in self.points:
                raise Broken(f'the bitmap {key} belongs to nobody; checkpoints: {names}')
        for key in self.foreign:
            if key not in bitmaps:
                raise Broken(f'the foreign bitmap {key} is gone')
        for name, points in self.points.items():
            for disk in self.disks:
                if disk.name in points and not self.why_not(disk, name):
                    bitmap = bitmaps.get((disk.node, name))
                    if not bitmap or not bitmap['recording'] or bitmap.get('inconsistent'):
                        raise Broken(f'the bitmap of {name} on {disk.node} is {bitmap}')
        folder = self.test.path('state/guests/g')
        scratch = os.path.join(folder, 'scratch')
        files = os.listdir(scratch) if os.path.isdir(scratch) else []
        if files or os.path.exists(os.path.join(folder, 'journal')):
            raise Broken(f'left in {folder}: {files} {os.listdir(folder)}')

    # ---- the run

    STEPS = (('write', 24), ('backup', 40), ('checkpoint', 8), ('delete', 6), ('resize', 5), ('snapshot', 5), ('commit', 4),
             ('restart', 4), ('kill', 3), ('foreign', 2), ('check', 5), ('size', 3), ('touch', 2), ('stain', 2), ('rollback', 4),
             ('swap', 2), ('rebase', 2), ('move', 3))

    def run(self):
        began = time.monotonic()
        try:
            self.setup()
            names, weights = zip(*self.STEPS)
            for self.step in range(self.steps):
                kind = self.random.choices(names, weights)[0]
                getattr(self, f'step_{kind}')()
                self.invariants()
            self.finish()
        except Exception as e:
            state = self.stacks() if 'timed out' in str(e) and os.environ.get('LIBBACKUP_TEST_GDB') else ''
            with contextlib.suppress(Exception):
                state += f'QEMU ended: {self.vm.process.poll()}, daemon ended: {self.daemon and self.daemon.poll()}\n'
                state += self.owner_said()
                state += f'QEMU said: {self.vm.stderr()[-600:]}\n'
                state += json.dumps(self.guest.info(), indent=1)
            raise AssertionError(f'{type(e).__name__}: {e}\nQEMU {self.test.version}, seed {self.seed}, step {len(self.log)} of {self.steps}; again with\n'
                                 f'  QEMU_VERSION={self.test.version} LIBBACKUP_SEQUENCE={self.seed} tests/live/test_sequences.py\n'
                                 + '\n'.join(f'{i:3} {line}' for i, line in enumerate(self.log)) + f'\nlast job: {state}\n') from e
        finally:
            self.took = time.monotonic() - began

    def owner_said(self):
        said = ''
        for name in ('daemon.log', 'state/guests/g/watcher.log'):
            with contextlib.suppress(OSError), open(self.test.path(name), errors='replace') as f:
                said += f'{name}: {f.read()[-1500:]}\n'
        return said

    def stacks(self):
        out = ''
        for pid in [self.vm.process.pid, *self.test.watchers(), *([self.daemon.pid] if self.daemon else [])]:
            out += subprocess.run(['gdb', '-p', str(pid), '-batch', '-ex', 'thread apply all bt 25'], capture_output=True, text=True).stdout
        return '\n'.join(line for line in out.splitlines() if line.startswith(('#', 'Thread'))) + '\n'

    def finish(self):
        """The model itself is checked: at the end the images hold what it says."""
        self.vm.quit()
        for disk in self.disks:
            if self.read_image(disk.layers[-1], disk.fmt) != disk.data:
                raise Broken(f'the model of {disk.name} is wrong: a defect of the test')
        with contextlib.suppress(lib.Error):
            self.guest.detach()
        self.conn.close()
        self.end_daemon()


class Racer:
    """Small numbered writes while begin runs: whatever the instant is, the copy holds those up to some number and none after."""

    def __init__(self, sequence):
        self.sequence, self.done, self.stop = sequence, [], threading.Event()
        r = sequence.random
        self.blocks = []
        for disk in sequence.disks:
            for _ in range(r.randrange(1, 5)):
                self.blocks.append((disk, r.randrange(0, disk.size // (4 * KIB)) * 4 * KIB))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.before = {disk.name: bytes(disk.data) for disk in sequence.disks}
        self.error = None

    def __enter__(self):
        self.thread.start()
        return self

    def _run(self):
        number = 0
        while not self.stop.is_set() and number < 5000:
            disk, offset = self.blocks[number % len(self.blocks)]
            number += 1
            try:
                self.sequence.io(disk, f'write -q -P {number % 255 + 1} {offset} {4 * KIB}')
            except Exception as e:      # QEMU was killed
                self.error = e
                return
            self.done.append((disk, offset, number % 255 + 1))

    def __exit__(self, *unused):
        self.stop.set()
        self.thread.join()
        for disk, offset, pattern in self.done:
            disk.data[offset:offset + 4 * KIB] = bytes([pattern]) * (4 * KIB)

    def instant(self, restored):
        """{disk name: bytes} as it was after some number of writes, which the restored disks agree with; None: no such moment."""
        names = set(restored)
        state = {name: bytearray(self.before[name]) for name in names}
        for n in range(len(self.done) + 1):
            if all(restored[d.name][o:o + 4 * KIB] == state[d.name][o:o + 4 * KIB] for d, o in self.blocks if d.name in names):
                return {name: bytes(data) for name, data in state.items()}
            if n < len(self.done):
                disk, offset, pattern = self.done[n]
                if disk.name in names:
                    state[disk.name][offset:offset + 4 * KIB] = bytes([pattern]) * (4 * KIB)
        return None


class Backup:
    """One backup with everything around it."""

    def __init__(self, sequence):
        s = self.s = sequence
        r = self.random = s.random
        self.mode = r.choice(['push', 'push', 'pull'])
        self.disks = r.sample(s.disks, len(s.disks)) if s.chance(80) else r.sample(s.disks, r.randrange(1, len(s.disks) + 1))
        self.disks.sort(key=lambda d: d.name)
        usable = list(s.points)
        self.since = None
        if usable and s.chance(75):
            self.since = usable[-1] if s.chance(65) else r.choice(usable)
        self.name = s.number('cp') if s.chance(75) else None
        self.fallback = s.chance(35)
        self.protect = r.choice(['', '', '', "<guest protect='no'/>"])
        self.fate = r.choices(['good', 'abort', 'bad target', 'kill qemu', 'quit qemu', 'kill owner', 'kill owner early', 'kill qemu early'],
                              [62, 9, 12, 3, 2, 5, 4, 2])[0]
        self.style = r.choice(['qcow2', 'qcow2', 'onto', 'nbd', 'raw']) if self.mode == 'push' else 'pull'
        if self.fate == 'bad target':
            if self.mode == 'push':
                self.style = 'nbd'
            else:
                self.fate = 'abort'
        # QEMU 5.2 hangs when a copy ends inside the monitor's own write; a guest's write has no such loop around it
        self.quiet = s.version < (6, 0) and self.mode == 'push'
        self.race = s.chance(30) and self.may_write_now()
        self.servers, self.paths = {}, {}
        self.allowed_full = set()

    def wants_increment(self, disk):
        return self.since and disk.name in self.s.points[self.since]

    # ---- documents

    def disk_xml(self, disk):
        s, r = self.s, self.random
        since = f" incremental='{self.since}'" if self.since else ''
        fallback = " fallback='full'" if self.fallback and self.since else ''
        head = f"<disk name='{disk.name}'"
        if self.mode == 'pull':
            return f"{head}{since}{fallback}/>"
        path = s.test.path(s.number(f'{disk.name}-copy'))
        if self.style == 'nbd' or (self.style == 'raw' and self.since):
            # a raw increment is laid over the previous copy
            base = s.points[self.since][disk.name].data if self.wants_increment(disk) else b''
            server = self.servers[disk.name] = nbdpy.Server(path + '.sock', disk.size, base[:disk.size])
            return (f"{head} type='network'{since}{fallback}><driver type='raw'/><target protocol='nbd' name=''>"
                    f"<host transport='unix' socket='{server.path}'/></target></disk>")
        self.paths[disk.name] = path
        fmt = 'raw' if self.style == 'raw' else 'qcow2'
        driver = f"<driver type='{fmt}'"
        if fmt == 'qcow2' and r.random() < 0.3:
            driver += f" cluster_size='{r.choice([4, 16, 128]) * KIB}'"
        if fmt == 'qcow2' and r.random() < 0.15:
            driver += " compression='zlib'"
        backing = ''
        point = s.points.get(self.since, {}).get(disk.name)
        if self.style == 'onto' and point and point.file and point.size == disk.size:
            backing = f"<backing file='{point.file}'/>"
        return f"{head} type='file'{since}{fallback}>{driver}/><target file='{path}'/>{backing}</disk>"

    def documents(self):
        s = self.s
        server = f"<server transport='unix' socket='{s.test.path(s.number('nbd'))}'/>" if self.mode == 'pull' else ''
        xml = f"<domainbackup mode='{self.mode}'>{server}<disks>{''.join(map(self.disk_xml, self.disks))}</disks>{self.protect}</domainbackup>"
        checkpoint, self.granularity = None, {}
        if self.name:
            checkpoint, self.granularity = s.checkpoint_xml(self.name, self.disks)
            self.name = self.name if checkpoint else None
        return xml, checkpoint

    # ---- the run

    def run(self):
        try:
            self.body()
        finally:
            for server in self.servers.values():
                server.close()

    def describe(self):
        return (f'{self.mode} {self.style} {[d.name for d in self.disks]} since {self.since} makes {self.name} fate {self.fate}'
                f'{" fallback" if self.fallback else ""}{" unprotected" if self.protect else ""}{" racing" if self.race else ""}')

    def body(self):
        s = self.s
        xml, checkpoint = self.documents()
        s.say(self.describe())
        s.tell(self.fate)
        reasons = {d.name: s.why_not(d, self.since) for d in self.disks} if self.since else {}
        flags = lib.REUSE_EXTERNAL if self.servers else 0
        self.before = {d.name: bytes(d.data) for d in s.disks}
        self.prepare_failures()
        racer = Racer(s) if self.race else None
        killer = self.start_killer()
        job, error = None, None
        with racer or contextlib.nullcontext():
            try:
                job = s.guest.begin(xml, checkpoint, flags)
            except lib.Error as e:
                error = e
        if killer:
            killer.join()
        self.racer = racer
        if self.fate == 'kill qemu early':
            return self.qemu_was_killed()
        if self.fate == 'kill owner early' and self.killed:
            s.reopen()
            job, error = self.find_job(job, error)
        if error:
            return self.refused(error, reasons)
        unjustified = [d for d in self.disks if self.since and not self.fallback and reasons[d.name] in ('not in the checkpoint',)]
        if unjustified:
            raise Broken(f'{self.since} does not cover {unjustified[0].name}, and the backup began')
        self.go_on(job)

    def prepare_failures(self):
        if self.fate == 'bad target' and self.servers:
            server = self.servers[self.random.choice(sorted(self.servers))]
            after = self.random.randrange(0, server.size)
            kind = self.random.choice(['eio', 'enospc', 'dies', 'flush'])
            if kind == 'dies':
                server.die(after)
            elif kind == 'flush':
                server.bad_flush = True
            else:
                server.fail(after, nbdpy.EIO if kind == 'eio' else nbdpy.ENOSPC)
            self.s.say(f'  target of {os.path.basename(server.path)}: {kind} after {after}')

    def start_killer(self):
        self.killed = False
        if 'early' not in self.fate:
            return None
        delay = self.random.random() * 0.06 * bed.SLOW

        def kill():
            time.sleep(delay)
            self.killed = True
            if self.fate == 'kill qemu early':
                self.s.vm.kill()
            else:
                self.s.kill_owner()
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        return killer

    def find_job(self, job, error):
        """After the death of the owner: whether the backup goes on."""
        try:
            info = self.adopted('')
        except lib.Error:
            return job, error
        if job and info['id'] != job:
            return job, error
        if not job:
            if error and error.code in ('inexact', 'no-checkpoint'):
                return None, error
            if self.name and info['checkpoint'] != self.name:
                return None, error
            ours = any(d['path'] in self.paths.values() for d in info['disks'])     # it may be over, and good, before its owner was killed
            if not self.name and not ours and info['state'] not in ('running', 'ready', 'preparing'):
                return None, error
        if info['state'] in ('running', 'ready', 'completed'):
            return info['id'], None
        return info['id'], error or lib.Error(lib.CODES.index('aborted'), info['error'] or '?')

    def refused(self, error, reasons):
        s = self.s
        s.say(f'  begin failed: {error}')
        s.tell(f'refused: {error.code}')
        if error.code == 'inexact':
            why = {n: r for n, r in reasons.items() if r}
            if not why:
                raise Broken(f'refused without a reason: {error}')
        elif error.code == 'no-checkpoint' or (self.fate == 'good' and not self.race):
            raise Broken(f'begin failed: {error}')
        elif self.fate in ('good', 'abort', 'kill qemu', 'quit qemu', 'kill owner') and 'monitor' not in error.code:
            raise Broken(f'begin failed: {error}')
        self.no_checkpoint()
        self.no_files()

    def no_checkpoint(self):
        if self.name and self.name in [c['name'] for c in self.s.guest.checkpoints()]:
            raise Broken(f'the checkpoint {self.name} of a backup that is not good is kept')

    def no_files(self):
        for path in self.paths.values():
            if os.path.exists(path):
                raise Broken(f'{path} is left of a backup that is not good')

    def qemu_was_killed(self):
        s = self.s
        s.after_kill()
        s.reopen()
        s.say('  QEMU was killed meanwhile')
        try:
            info = s.guest.wait('', 30)
            if info['checkpoint'] == self.name and info['state'] == 'completed' and self.name:
                # it had been faster; the bitmaps are lost with QEMU all the same
                self.verify(info)
                self.promote(info)
                for points in s.points[self.name].values():
                    points.lost.add('killed')
                return
        except lib.Error:
            pass
        s.guest.checkpoint_check()      # the next call of anybody ends what is left
        self.no_checkpoint()

    def go_on(self, job):
        s = self.s
        if self.mode == 'pull' and self.fate in ('good',):
            server = s.guest.info(job)['server']
            early = self.chance_to_read(server, 30)
            s.say('  then: ' + ', '.join(s.write()))
            restored = early or self.pull(server)
            return self.end_good(s.guest.stop(job), restored)
        if self.may_write_now():
            s.say('  then: ' + ', '.join(s.write()))
        if self.fate == 'abort':
            info = s.guest.stop(job, lib.ABORT)
        elif self.fate == 'kill qemu':
            s.vm.kill()
            return self.qemu_was_killed()
        elif self.fate == 'quit qemu':
            return self.quit_qemu(job)
        elif self.fate in ('kill owner', 'kill owner early'):
            if self.fate == 'kill owner':
                s.kill_owner()
                s.reopen()
            info = self.adopted(job)
            if self.mode == 'pull' and info['state'] == 'ready':
                restored = self.pull(info['server'])
                return self.end_good(s.guest.stop(job), restored)
            if info['state'] not in ('completed', 'failed', 'aborted'):
                raise Broken(f'nobody takes up job {job}: {info}')
        else:
            info = s.guest.wait(job, 60)
        if info['state'] == 'completed':
            return self.end_good(info, None)
        s.say(f'  ended: {info["state"]}: {info["error"]}')
        s.tell(info['state'])
        if self.fate == 'good':
            raise Broken(f'a backup that nothing disturbed ended as {info["state"]}: {info["error"]}')
        if info['state'] not in ('failed', 'aborted'):
            raise Broken(f'job {job} is {info["state"]}')
        self.no_checkpoint()
        self.no_files()

    def may_write_now(self):
        # without protection a failing target is the guest's failing write, as was asked for
        return not self.quiet and not (self.protect and self.fate == 'bad target')

    def adopted(self, job):
        deadline = bed.Deadline(30)
        while True:
            info = self.s.guest.wait(job, 0.2)
            if info['state'] not in ('preparing', 'running', 'stopping') or deadline.passed():
                return info

    def chance_to_read(self, server, percent):
        return self.pull(server) if self.s.chance(percent) else None

    def quit_qemu(self, job):
        s = self.s
        s.vm.quit()
        s.foreign = {key for key in s.foreign if key[1].startswith('stored')}
        s.invalidate('memory', None, lambda point: not point.persistent)
        restart_first = s.chance(50)
        if restart_first:
            s.start_qemu()
        info = self.adopted(job)
        if not restart_first:
            s.start_qemu()
        s.reopen()
        s.say(f'  QEMU quit: {info["state"]}: {info["error"]}')
        if info['state'] == 'completed':
            self.verify(info)
            self.promote(info)
            s.invalidate('memory', None, lambda point: not point.persistent)
            return
        s.guest.checkpoint_check()
        self.no_checkpoint()
        self.no_files()

    # ---- the proof

    def pull(self, server):
        """What a backup program gets out of the export: {disk name: restored bytes}."""
        s = self.s
        path = re.search(r'socket=(.*)', server)[1]
        info = s.guest.info()
        restored = {}
        for row in info['disks']:
            disk = [d for d in self.disks if d.name == row['target']][0]
            if row['type'] == 'incremental':
                context = f'qemu:dirty-bitmap:{row["bitmap"]}'
                client = nbdpy.Client(path, row['export_name'], [context])
                data = bytearray(s.points[self.since][disk.name].data)
                dirty = [(offset, length) for offset, length, flags in client.extents(context) if flags & 1]
                for offset, length in dirty:
                    length = min(length, disk_size(self, disk) - offset)
                    if length > 0:
                        data[offset:offset + length] = client.read(offset, length)
            else:
                client = nbdpy.Client(path, row['export_name'])
                data = client.read_all()
            if self.random.random() < 0.3:
                whole = client.read_all()
                if whole[:len(data)] != bytes(data):
                    raise Broken(f'{disk.name}: what was read as changed since {self.since} does not give what the export holds')
            client.close()
            restored[disk.name] = bytes(data)
        return restored

    def restore_push(self, disk, row):
        s = self.s
        if disk.name in self.servers:
            return bytes(self.servers[disk.name].data)
        path = self.paths[disk.name]
        fmt = 'raw' if self.style == 'raw' else 'qcow2'
        if row['type'] != 'incremental':
            data = s.read_image(path, fmt)
            if fmt == 'qcow2':
                self.kept[disk.name] = path
            return data
        point = s.points[self.since][disk.name]
        backing = json.loads(s.test.img('info', '-U', '--output=json', path).stdout).get('backing-filename')
        if backing is not None:
            if backing != os.path.relpath(point.file, os.path.dirname(path)):
                raise Broken(f'{path} names {backing} as its backing file, not {point.file}')
            self.kept[disk.name] = path
            return s.read_image(path)
        base = s.test.path('base.raw')
        with open(base, 'wb') as f:
            f.write(point.data)
        s.test.img('rebase', '-u', '-f', 'qcow2', '-b', base, '-F', 'raw', path)
        data = s.read_image(path)
        os.unlink(base)
        return data

    def verify(self, info, restored=None):
        s = self.s
        self.kept = {}
        rows = {row['target']: row for row in info['disks']}
        if set(rows) != {d.name for d in self.disks}:
            raise Broken(f'the job is of {sorted(rows)}')
        for disk in self.disks:
            row = rows[disk.name]
            if row['type'] == 'full' and self.since:
                if not self.fallback:
                    raise Broken(f'{disk.name} became full, which was not allowed')
                if not row['reason']:
                    raise Broken(f'{disk.name} became full without a reason')
        if restored is None:
            restored = {disk.name: self.restore_push(disk, rows[disk.name]) for disk in self.disks}
        expected = self.racer.instant(restored) if self.racer else self.before
        if expected is None:
            raise Broken(f'the copies are not of one instant: {len(self.racer.done)} racing writes')
        for disk in self.disks:
            if restored[disk.name] != expected[disk.name]:
                raise Broken(f'{disk.name} ({rows[disk.name]["type"]} since {self.since}) is not what it was: {difference(restored[disk.name], expected[disk.name])}')
        self.restored = restored

    def end_good(self, info, restored):
        s = self.s
        if info['state'] != 'completed':
            raise Broken(f'the job ended as {info["state"]}: {info["error"]}')
        self.verify(info, restored)
        s.say('  good: ' + ', '.join(f'{row["target"]} {row["type"]}' + (f' ({row["reason"]})' if row['reason'] else '') for row in info['disks']))
        for row in info['disks']:
            s.tell(f'good {row["type"]}')
        self.promote(info)

    def promote(self, info):
        s = self.s
        if not self.name:
            return
        if self.name not in [c['name'] for c in s.guest.checkpoints()]:
            raise Broken(f'the backup is good, and its checkpoint {self.name} is not there')
        s.add_points(self.name, self.granularity, self.restored)
        for name, path in self.kept.items():
            if name in s.points[self.name]:
                s.points[self.name][name].file = path


def disk_size(backup, disk):
    return len(backup.before[disk.name])


def difference(a, b):
    if len(a) != len(b):
        return f'{len(a)} bytes instead of {len(b)}'
    at = next(i for i in range(len(a)) if a[i] != b[i])
    end = next(i for i in range(len(a), 0, -1) if a[i - 1] != b[i - 1])
    return f'bytes {at} to {end} differ: {a[at]:#x} instead of {b[at]:#x}'
