#!/usr/bin/python3
"""Side by side in one run: what libbackup adds to what QEMU does.

    backup.py begin     time of begin to running for 1, 8 and 32 disks, against the bare QMP commands that --dry-run prints   (goal 1.3x)
    backup.py push      push of 1 GiB of random data against a bare blockdev-backup with its delete and sync (goal 1.02x), and against
                        qemu-img convert -W -m 16 followed by a sync; protect=no, the same x-perf
    backup.py startup   time and peak memory of `baksh version` against `virsh version`

begin and push go through the library to a daemon that runs already, as the bare commands go to a QEMU that does.

Pairs alternate and the order of each pair is drawn; medians and the median of the pairs' ratios are printed. Machines are noisy: look
at the ratios, never at single figures. BUILD_DIR names the build (default build/).
"""
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import lib  # noqa: E402

PAIRS = {'begin': 15, 'push': 9, 'startup': 25}


def pairs(count, **runs):
    """Runs each of the named functions count times, in a drawn order; returns their times."""
    times = {name: [] for name in runs}
    for name in runs:
        runs[name]()                    # warm-up
    for _ in range(count):
        order = list(runs)
        random.shuffle(order)
        for name in order:
            times[name].append(runs[name]())
    return times


def show(title, times, base):
    print(title)
    for name, values in times.items():
        ratios = [v / b for v, b in zip(values, times[base])]
        print(f'  {name:28} median {statistics.median(values) * 1000:9.2f} ms  ({min(values) * 1000:.2f} - {max(values) * 1000:.2f})'
              f'   ratio to {base} {statistics.median(ratios):.3f}')
    return {name: statistics.median(v / b for v, b in zip(values, times[base])) for name, values in times.items()}


class Bench(bed.LiveTest):
    def runTest(self):
        pass

    def remove(self, *paths):
        for path in paths:
            if os.path.exists(path):
                os.unlink(path)

    def guest_of_a_daemon(self, vm):
        """As the library has it, of a daemon that runs already: nobody's start-up is counted."""
        os.environ.update({k: self.environment[k] for k in ('LIBBACKUP_STATE_DIR', 'XDG_RUNTIME_DIR', 'XDG_STATE_HOME', 'XDG_CONFIG_HOME')})
        daemon_socket = self.path('run', 'libbackup', 'libbackup.sock')
        os.makedirs(os.path.dirname(daemon_socket), exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(self.path('notify'))
            notify.settimeout(30)
            self.popen(os.path.join(os.path.dirname(bed.baksh_path()), '..', 'libbackupd', 'libbackupd'), '--socket', daemon_socket,
                       '--state-dir', self.path('state'), stderr=subprocess.DEVNULL, env={**self.environment, 'NOTIFY_SOCKET': self.path('notify')})
            while b'READY=1' not in notify.recv(4096):
                pass
        conn = lib.Library().open(f'qemu+unix:///session?socket={daemon_socket}')
        self.addCleanup(conn.close)
        return conn.attach('g', qmp=vm.qmp_path)

    # begin

    def bare_begin(self, vm, plan):
        """The QMP commands of the plan, as somebody would send them by hand: the job of a blockdev-create is waited for by its event."""
        started = time.monotonic()
        for step in plan['steps']:
            do = step['do']
            if 'qmp' in do:
                vm.qmp.execute(do['qmp']['execute'], **do['qmp']['arguments'])
            elif do['action'] == 'job-wait':
                vm.qmp.wait_event('JOB_STATUS_CHANGE', id=do['arguments']['job'], status='concluded')
            elif do['action'] == 'file-create':
                open(do['arguments']['path'], 'w').close()
        return time.monotonic() - started

    def bare_end(self, vm, plan):
        for disk in plan['disks']:
            vm.qmp.execute('job-cancel', id=disk['job'])
            vm.qmp.wait_event('JOB_STATUS_CHANGE', id=disk['job'], status='concluded')
            vm.qmp.execute('job-dismiss', id=disk['job'])
        for step in reversed(plan['steps']):
            command = step['do'].get('qmp', {})
            if command.get('execute') == 'blockdev-add':
                vm.qmp.execute('blockdev-del', **{'node-name': command['arguments']['node-name']})
        vm.qmp.drain()

    def begin(self, disks):
        images = [self.make_image(f'd{n}.qcow2', '64M', data=[(0, 65536, 1)]) for n in range(disks)]
        vm = self.engine(*images)
        guest = self.guest_of_a_daemon(vm)
        targets = [self.path(f't{n}.qcow2') for n in range(disks)]
        xml = "<domainbackup><limit bytes_per_sec='1000000'/><guest protect='no'/><disks>" + ''.join(
            f"<disk name='disk{n}'><target file='{t}'/></disk>" for n, t in enumerate(targets)) + '</disks></domainbackup>'

        def ours():
            self.remove(*targets)
            started = time.monotonic()
            guest.begin(xml)
            took = time.monotonic() - started
            guest.stop(flags=lib.ABORT)
            vm.qmp.drain()
            return took

        def bare():
            self.remove(*targets)
            plan = guest.plan(xml)
            plan = json.loads(plan) if isinstance(plan, str) else plan
            took = self.bare_begin(vm, plan)
            self.bare_end(vm, plan)
            return took
        ours()      # makes the image that keeps a migration away, which the plan only opens
        result = show(f'begin to running, {disks} disk(s)', pairs(PAIRS['begin'], bare=bare, libbackup=ours), 'bare')
        vm.kill()
        return result

    # push

    def push(self):
        source, target = self.path('source.qcow2'), self.path('target.qcow2')
        raw = self.path('raw')
        with open(raw, 'wb') as f:
            for _ in range(1024):
                f.write(os.urandom(1 << 20))
        self.img('convert', '-O', 'qcow2', raw, source)
        os.unlink(raw)
        vm = self.engine(source)
        guest = self.guest_of_a_daemon(vm)
        xml = f"<domainbackup><guest protect='no'/><disks><disk name='disk0'><target file='{target}'/></disk></disks></domainbackup>"

        def libbackup():
            self.remove(target)
            started = time.monotonic()
            guest.begin(xml)
            assert guest.wait(timeout=120)['state'] == 'completed'
            return time.monotonic() - started

        def bare():
            self.remove(target)
            started = time.monotonic()
            q = vm.qmp
            subprocess.run(['touch', target], check=True)
            q.execute('blockdev-add', driver='file', filename=target, **{'node-name': 'tf'})
            q.run_job('blockdev-create', 'create', options={'driver': 'qcow2', 'file': 'tf', 'size': 1 << 30})
            q.execute('blockdev-add', driver='qcow2', file='tf', **{'node-name': 't'})
            q.execute('blockdev-backup', device='disk0', target='t', sync='full', **{'job-id': 'j', 'auto-dismiss': False,
                      'x-perf': {'max-workers': 8, 'max-chunk': 1 << 20}})
            q.wait_event('JOB_STATUS_CHANGE', id='j', status='concluded', timeout=120)
            q.execute('job-dismiss', id='j')
            q.execute('blockdev-del', **{'node-name': 't'})
            q.execute('blockdev-del', **{'node-name': 'tf'})
            subprocess.run(['sync', target], check=True)
            q.drain()
            return time.monotonic() - started

        def convert():
            self.remove(target)
            started = time.monotonic()
            self.img('convert', '-U', '-W', '-m', '16', '-O', 'qcow2', source, target)
            subprocess.run(['sync', target], check=True)
            return time.monotonic() - started
        return show('push of 1 GiB of random data', pairs(PAIRS['push'], bare=bare, libbackup=libbackup, **{'qemu-img convert -W -m 16': convert}), 'bare')

    # start-up

    def startup(self):
        peaks, measure = {}, bed.need('time', 'time')      # GNU time: a peak that does not count the process that forks

        def once(name, *argv):
            def run():
                started = time.monotonic()
                done = subprocess.run([measure, '-f', '%M', *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                      env={**self.environment, 'LC_ALL': 'C'})
                peaks[name] = max(peaks.get(name, 0), int(done.stderr.split()[-1]))
                return time.monotonic() - started
            return run
        runs = {'virsh': once('virsh', bed.need('virsh', 'libvirt-clients'), '-c', 'test:///default', 'version'),
                'baksh': once('baksh', bed.baksh_path(), 'version')}
        result = show('start-up: version', pairs(PAIRS['startup'], **runs), 'virsh')
        print('  peak memory: ' + ', '.join(f'{name} {peak / 1024:.1f} MiB' for name, peak in peaks.items()))
        return result


def main():
    wanted = sys.argv[1:] or ['begin', 'push', 'startup']
    for what in wanted:
        for argument in ([(1,), (8,), (32,)] if what == 'begin' else [()]):
            bench = Bench()
            bench.setUp()
            try:
                getattr(bench, what)(*argument)
            finally:
                bench.doCleanups()
    return 0


if __name__ == '__main__':
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
