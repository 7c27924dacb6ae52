#!/usr/bin/env python3
"""The fault matrix: every step of every plan fails in turn, then somebody recovers, then the promises are checked.

A monitor of our own stands between libbackup and a real QEMU and, at the k-th command that changes anything, does one of
  error       answers with an error that QEMU never gave
  timeout     QEMU does it, the answer is lost for ever
  disconnect  QEMU does it, the connection breaks before the answer
  kill-before the owner is killed before QEMU sees the command
  kill-after  the owner is killed after QEMU has done it
  kill-twice  the same, and who recovers is killed too, at one of its first commands
  migrate     somebody else migrates the guest, before QEMU sees the command
Plans: {push, pull} x {full, incremental} x {1, 3 disks} x {with, without checkpoint} x {protected, not}.
After each: the guest runs and can write, nothing named bak- is in QEMU, no file is left, the parent checkpoint is still good for
an exact increment, and the record says failed (with the injected cause) or, where the fault came after the point of no return,
completed with a good copy. Prints its coverage: plans x steps x faults.

With --iothread the disks are those of a machine, each served by an I/O thread of its own.

    faults.py [--iothread] [--sample N] [--seconds N] [--seed S] [--plans push-full-1-nocheckpoint-protected,…] [--faults error,…]
QEMU_VERSION chooses the QEMU. --sample draws N cases at random over all plans, --seconds as many as fit; without them every case runs.
"""
import argparse
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bed  # noqa: E402

FAULTS = ('error', 'timeout', 'disconnect', 'kill-before', 'kill-after', 'kill-twice', 'migrate')
PLANS = [dict(zip(('mode', 'kind', 'disks', 'checkpoint', 'protect'), p)) for p in
         itertools.product(('push', 'pull'), ('full', 'incremental'), (1, 3), (True, False), ('yes', 'no'))]
READS = ('qmp_capabilities', 'query-', 'qom-', 'x-debug-query', 'device-list')
TIMEOUT = 2         # seconds: monitor_timeout of the configuration, so that a lost answer costs no more
SIZE = 1 << 20


def plan_name(plan):
    return '-'.join((plan['mode'], plan['kind'], str(plan['disks']), 'checkpoint' if plan['checkpoint'] else 'nocheckpoint',
                     'protected' if plan['protect'] == 'yes' else 'unprotected'))


def changes(command):
    return not command.startswith(READS)


class Monitor(threading.Thread):
    """Stands between libbackup and QEMU's monitor; armed, it spoils one command."""

    def __init__(self, path, real):
        super().__init__(daemon=True)
        self.real, self.path = real, path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.lock = threading.Lock()
        self.migrate = None     # what the fault of that name does
        self.arm(None, None)
        self.start()

    def arm(self, index, fault, then=0):
        """then: for kill-twice, the command of who recovers."""
        with self.lock:
            self.index, self.fault, self.then, self.seen, self.fired, self.names, self.sent = index, fault, then, 0, None, [], []

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.real)
                pid = struct.unpack('3i', client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                self.serve(client, server, pid)
            except OSError:
                pass
            finally:
                client.close()
                server.close()

    def stop(self):
        self.listener.close()

    def spoil(self, message):
        """The fault for this command, or None; counts the commands that change anything."""
        command = message.get('execute') or message.get('exec-oob') or ''
        if not changes(command):
            return None
        with self.lock:
            number, self.seen = self.seen, self.seen + 1
            self.names.append(command)
            self.sent.append({key: message[key] for key in message if key != 'id'})
            if number != self.index:
                return None
            fault, self.index, self.fired = self.fault, None, self.fired or command
            if fault == 'kill-twice':
                self.index, self.seen, self.fault, fault = self.then, 0, 'kill-after', 'kill-after'
            return fault

    def serve(self, client, server, pid):
        swallow = {}        # id -> what to do when its answer comes
        up, down = b'', b''
        sockets = [client, server]
        while True:
            import select
            ready, _, _ = select.select(sockets, [], [], 60)
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                up += data
                while b'\n' in up or complete(up):
                    text, up = cut(up)
                    message = json.loads(text)
                    fault = self.spoil(message)
                    if fault == 'error':
                        client.sendall(json.dumps({'id': message['id'], 'error': {'class': 'GenericError', 'desc': 'injected by the test'}}).encode() + b'\r\n')
                        continue
                    if fault == 'migrate':
                        fault = self.migrate()
                    if fault == 'kill-before':
                        os.kill(pid, signal.SIGKILL)
                        return
                    if fault:
                        swallow[message['id']] = fault
                    server.sendall(text + b'\n')
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                down += data
                while b'\n' in down:
                    line, down = down.split(b'\n', 1)
                    message = json.loads(line)
                    fault = swallow.pop(message.get('id'), None) if 'id' in message else None
                    if fault == 'timeout':
                        continue
                    if fault == 'kill-after':
                        os.kill(pid, signal.SIGKILL)
                        return
                    if fault == 'disconnect':
                        return
                    client.sendall(line + b'\n')


def complete(buffer):
    try:
        json.JSONDecoder().raw_decode(buffer.decode().lstrip())
        return True
    except (ValueError, UnicodeDecodeError):
        return False


def cut(buffer):
    text = buffer.decode()
    start = len(text) - len(text.lstrip())
    _, end = json.JSONDecoder().raw_decode(text[start:])
    return text[start:start + end].encode(), text[start + end:].lstrip('\r\n').encode()


class Matrix(bed.LiveTest):
    """One QEMU serves many cases; when one goes wrong the next starts with a new one."""
    iothread = False
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None      # small images, thousands of fsyncs

    def bring_up(self, disks):
        self.count = getattr(self, 'count', 0) + 1
        here = self.path(f'm{self.count}')
        os.makedirs(here + '/targets')
        self.targets = here + '/targets'
        self.guest_name = f'g{self.count}'
        images = [self.make_image(f'm{self.count}/disk{n}.qcow2', SIZE, data=[(0, SIZE // 2, 1 + n)]) for n in range(disks)]
        self.images = images
        self.qemu = (self.served if self.iothread else self.engine)(*images, name=f'q{self.count}')
        self.monitor = Monitor(here + '/qmp', self.qemu.qmp_path)
        self.monitor.migrate = self.migrate
        self.addCleanup(self.monitor.stop)
        self.must('attach', self.guest_name, '--qmp', here + '/qmp')
        self.stamp = 0
        # the parent: a full backup with a checkpoint, from which increments are exact
        self.base = self.full_backup('base', checkpoint='parent')

    def served(self, *images, name):
        """The firmware starts the devices, so their I/O threads have the disks; it finds nothing to boot."""
        arguments = []
        for n, image in enumerate(images):
            arguments += ['-object', f'iothread,id=io{n}', '-blockdev', f'driver=file,node-name=disk{n}-file,filename={image},discard=unmap',
                          '-blockdev', f'driver=qcow2,node-name=disk{n},file=disk{n}-file,discard=unmap',
                          '-device', f'virtio-blk-pci,drive=disk{n},id=disk{n},iothread=io{n},bootindex={n}']
        vm = self.machine(*arguments, '-chardev', f'file,id=bios,path={self.path(name + ".bios")}', '-device', 'isa-debugcon,iobase=0x402,chardev=bios', name=name)
        vm.qmp.execute('cont')

        def read_all():
            with open(self.path(name + '.bios'), errors='replace') as f:
                return 'No bootable device' in f.read()
        bed.wait_for('the firmware has tried every disk', read_all)
        return vm

    def migrate(self):
        """Whether QEMU took it; the guest stays what it was, a file gets its state."""
        try:
            self.qemu.qmp.execute('migrate', uri='exec:cat > /dev/null')
            self.migrated = self.migration_taken = True
        except bed.QmpError:
            pass

    def come_back(self):
        def over():
            return self.qemu.qmp.execute('query-migrate').get('status') in ('completed', 'failed', 'cancelled')
        bed.wait_for('the migration is over', over)
        if self.qemu.qmp.execute('query-status')['status'] == 'postmigrate':
            self.qemu.qmp.execute('cont')
        else:
            self.migrated = False       # a job's owner has cancelled it: the guest never left

    def full_backup(self, name, checkpoint=None):
        made = {}
        argv = ['backup-begin', self.guest_name, '--protect', 'no', '--wait']
        for n in range(len(self.images)):
            made[n] = self.path(f'm{self.count}/{name}-{n}.qcow2')
            argv += ['--target', f'disk{n}={made[n]}']
        if checkpoint:
            argv += ['--checkpoint', checkpoint]
        self.must(*argv)
        return made

    def write(self):
        """A guest's write, which also shows that it can."""
        self.stamp = self.stamp % 250 + 1
        for n in range(len(self.images)):
            self.qemu.io(f'disk{n}', f'write -q -P {self.stamp} {(self.stamp * 65536) % SIZE} 64k')

    def begin_argv(self, plan, name):
        argv = ['backup-begin', self.guest_name, '--protect', plan['protect']]
        if plan['mode'] == 'pull':
            argv += ['--mode', 'pull', '--server', f'unix:{self.targets}/{name}.sock']
        else:
            for n in range(plan['disks']):
                argv += ['--target', f'disk{n}={self.targets}/{name}-{n}.qcow2']
        if plan['kind'] == 'incremental':
            argv += ['--since', 'parent']
        if plan['checkpoint']:
            argv += ['--checkpoint', f'cp-{name}']
        return argv

    def drive(self, plan, name):
        """The whole life of a backup, as a user drives it; returns the exit status of what failed first, else 0."""
        begun = self.baksh(*self.begin_argv(plan, name))
        if begun.rc:
            return begun
        if plan['mode'] == 'push':
            return self.baksh('backup-wait', self.guest_name)
        return self.baksh('backup-stop', self.guest_name)

    def steps_of(self, plan):
        self.write()
        self.monitor.arm(None, None)
        done = self.drive(plan, 'count')
        self.assertEqual(done.rc, 0, f'{plan_name(plan)} without a fault: {done}')
        names = list(self.monitor.names)
        self.forget(plan, 'count')
        return names

    def can(self, plan):
        """7.2 dies when a reader leaves an export of a disk on an I/O thread, so that a pull is refused."""
        return not self.iothread or plan['mode'] == 'push' or bed.qemu_version() != '7.2'

    def forget(self, plan, name):
        """Takes away what a good backup left, so that the next case starts from the same state."""
        for file in os.listdir(self.targets):
            os.unlink(os.path.join(self.targets, file))
        if plan['checkpoint']:
            self.baksh('checkpoint-delete', self.guest_name, f'cp-{name}')

    def check(self, plan, name, fault, command, result, before=None):
        """before: the last job before it, when that may still be the last."""
        where = f'{plan_name(plan)}: {fault} at {command} ({self.version}): {result}'
        # whoever comes next recovers; a push that went on ends
        info = self.baksh('backup-info', self.guest_name, '--json')
        self.assertEqual(info.rc, 0, f'{where}\n{info}')
        record = json.loads(info.out)
        if record['state'] in ('running', 'stopping', 'preparing'):
            self.baksh('backup-wait', self.guest_name)
        elif record['state'] == 'ready':
            self.baksh('backup-stop', self.guest_name, '--abort')
        record = self.json('backup-info', self.guest_name)
        self.assertIn(record['state'], ('completed', 'failed', 'aborted'), f'{where}\n{record}')
        self.assertEqual(self.qemu.ours(), [], where)
        scratch = os.path.join(self.path('state'), 'guests', self.guest_name, 'scratch')
        self.assertEqual(os.listdir(scratch) if os.path.isdir(scratch) else [], [], where)
        self.assertFalse(os.path.exists(os.path.join(self.path('state'), 'guests', self.guest_name, 'journal')), where)
        good = record['state'] == 'completed' and record['id'] != before
        if self.migrated:
            self.assertFalse(good or result.rc == 0, f'{where}: completed, though the guest was migrated')
        if not good:
            self.assertEqual(os.listdir(self.targets), [], f'{where}: a file is left, state {record["state"]}')
        if record['state'] != 'completed':
            self.assertTrue(record['error'], where)
            if fault == 'error' and record['state'] == 'failed':
                self.assertIn('injected by the test', record['error'], where)
        self.assertFalse(result.rc == 0 and record['state'] == 'failed', f'{where}: success was said of a failed job\n{record}')
        bitmaps = {name for _, name in self.qemu.bitmaps()}
        self.assertIn('parent', bitmaps, where)
        listed = self.baksh('checkpoint-list', self.guest_name, '--name').out.split()
        has = f'cp-{name}' in bitmaps
        self.assertEqual(has, f'cp-{name}' in listed, f'{where}: bitmap and record of the provisional checkpoint disagree: {bitmaps} {listed}')
        self.assertEqual(has, plan['checkpoint'] and good, f'{where}: {record["state"]}, bitmaps {bitmaps}')
        self.write()
        self.exact_increment(where)
        self.forget(plan, name)

    def exact_increment(self, where):
        """What the parent promises: full + increment since it is the disk as it is now."""
        argv = ['backup-begin', self.guest_name, '--since', 'parent', '--protect', 'no', '--wait']
        for n in range(len(self.images)):
            argv += ['--target', f'disk{n}={self.targets}/inc-{n}.qcow2', '--onto', f'disk{n}={self.base[n]}']
        done = self.baksh(*argv)
        self.assertEqual(done.rc, 0, f'{where}\nthe next increment: {done}')
        for n, image in enumerate(self.images):
            self.qemu.io(f'disk{n}', 'flush')       # what is only in QEMU's caches is in no file
            now = self.img('compare', '-U', image, f'{self.targets}/inc-{n}.qcow2', check=False)
            self.assertEqual(now.returncode, 0, f'{where}\nthe increment from the parent is not the disk: {now.stdout}')
            os.unlink(f'{self.targets}/inc-{n}.qcow2')

    def case(self, plan, index, fault, name, then=None):
        self.write()
        self.migrated = self.migration_taken = False
        before = self.json('backup-info', self.guest_name)['id']
        self.monitor.arm(index, fault, index % 4 if then is None else then)
        result = self.drive(plan, name)
        if fault == 'kill-twice':
            self.baksh('backup-info', self.guest_name)
        fired = self.monitor.fired
        self.monitor.arm(None, None)
        if self.migrated:
            self.come_back()
        self.check(plan, name, fault, f'{index}:{fired}', result, before)
        return fired

    def run_cases(self, cases, progress, seconds=None):
        """cases: (plan index, step, fault); one QEMU a number of disks, a new one after a failure. Returns how many passed, the failures."""
        failures, done, began, share = [], 0, time.monotonic(), 0
        for disks in sorted({PLANS[p]['disks'] for p, _, _ in cases}):
            self.bring_up(disks)
            mine = [c for c in cases if PLANS[c[0]]['disks'] == disks]
            share += len(mine) / len(cases)
            for number, (p, step, fault) in enumerate(mine):
                if seconds and time.monotonic() - began > seconds * share:
                    break
                try:
                    self.case(PLANS[p], step, fault, f'c{number}')
                    done += 1
                except (AssertionError, subprocess.TimeoutExpired) as e:
                    failures.append(f'plan {p}, step {step}, {fault}: {e}')
                    self.bring_up(disks)
                progress(done, failures)
        return done, failures

    def count_steps(self, plans):
        steps = {}
        for disks in sorted({PLANS[p]['disks'] for p in plans}):
            self.bring_up(disks)
            for p in plans:
                if PLANS[p]['disks'] == disks:
                    steps[p] = self.steps_of(PLANS[p])
        return steps

    migrated = migration_taken = False

    def setUp(self):
        super().setUp()
        config = self.path('config')
        with open(config, 'w') as f:
            f.write(f'monitor_timeout = {TIMEOUT}\n')
        self.environment['LIBBACKUP_CONFIG'] = config

    def matrix(self, sample, seed, plans=range(len(PLANS)), faults=FAULTS, seconds=None):
        plans = list(plans)
        steps = self.count_steps(plans)
        cases = [(p, k, f) for p in plans for k in range(len(steps[p])) for f in faults]
        total = len(cases)
        cases = random.Random(seed).sample(cases, min(sample or total, total))
        shown, told = [0], [0]

        def progress(done, failures):
            if sys.stderr.isatty() or done - shown[0] >= 50:
                shown[0] = done
                print(f'  {done}/{len(cases)} cases, {len(failures)} failures', file=sys.stderr)
                sys.stderr.writelines(f'  {failure}\n' for failure in failures[told[0]:])
                told[0] = len(failures)
        done, failures = self.run_cases(cases, progress, seconds)
        print(f'fault matrix on QEMU {self.version}: {len(plans)} plans x {sum(map(len, steps.values())) / len(plans):.1f} steps x {len(faults)} faults = {total} cases; '
              f'{done + len(failures)} run, {done} passed (seed {seed})')
        return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sample', type=int, default=0)
    parser.add_argument('--seconds', type=int)
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 32))
    parser.add_argument('--plans', default='')
    parser.add_argument('--faults', default=','.join(FAULTS))
    parser.add_argument('--iothread', action='store_true')
    options = parser.parse_args()
    plans = [n for n, p in enumerate(PLANS) if not options.plans or plan_name(p) in options.plans.split(',')]
    test = Matrix('setUp')
    test.iothread = options.iothread
    plans = [n for n in plans if test.can(PLANS[n])] if options.iothread else plans
    test.setUp()
    started = time.monotonic()
    try:
        failures = test.matrix(options.sample, options.seed, plans, options.faults.split(','), options.seconds)
    finally:
        test.doCleanups()
    for failure in failures:
        print('FAILED', failure)
    print(f'{time.monotonic() - started:.0f} s')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
