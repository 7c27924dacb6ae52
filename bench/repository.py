#!/usr/bin/python3
"""Restore points beside what else reads the same guest, in one run.

    repository.py [--scale N] [--pairs N] [full] [increment] [restore] [sparse]

    full        three data sets, each against a bare blockdev-backup (goal 1.6x, the proof included), nbdcopy, qemu-img convert -W -m 16,
                virtnbdbackup (goal: three times as quick), restic and borg reading the same export
    increment   scattered clusters of 64 KiB against a bare blockdev-backup of a bitmap (goal 1.5x, the whole command) and
                virtnbdbackup (goal: five times as quick)
    restore     against qemu-img convert of the same image (goal 1.3x); --changed-only of 1 % against all of it (goal 0.6x); verify
    sparse      8 TiB that hold nothing: time and peak memory (goal 150 MiB). Before QEMU 11.1 the scratch is reserved whole, for
                which no test machine has room: QEMU_VERSION=11.1

--scale 8 makes every data set an eighth. Each contestant's time ends when what it wrote is on the disk. Pairs are run in a drawn order; the
median of the pairs' ratios counts, single figures of a shared machine do not. Exit status 1: a goal was missed. What is not
installed is left out and named. BUILD_DIR names the build.
"""
import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import lvbed  # noqa: E402

MIB = 1 << 20
CLUSTER = 65536


def random_data(file, size):
    for _ in range(size // MIB):
        file.write(os.urandom(MIB))


def scattered(file, size):
    for number in range(size // MIB // 5):          # a twentieth, in clusters of a quarter of a MiB
        file.seek(number * 5 * MIB)
        file.write(os.urandom(MIB // 4))
    file.truncate(size)


def text(file, size):
    words = [bytes(random.choices(b'abcdefghijklmnopqrstuvwxyz', k=random.randrange(2, 11))) for _ in range(4000)]
    while file.tell() < size:
        file.write(b' '.join(random.choices(words, k=200000))[:size - file.tell()])


DATA = {'random': (1024, random_data), 'scattered': (8192, scattered), 'text': (2048, text)}
GOALS = {'full': 1.6, 'increment': 1.5, 'restore': 1.3, 'changed-only': 0.6}


class Bench(lvbed.OnLibvirt, bed.LiveTest):
    missed = []

    def runTest(self):
        pass

    # contestants

    def timed(self, function):
        begin = time.monotonic()
        function()
        return time.monotonic() - begin

    def prepare(self, name):
        megabytes, fill = DATA[name]
        self.size = megabytes * MIB // self.scale
        raw, self.image = self.path('raw'), self.path(f'{name}.qcow2')
        with open(raw, 'wb') as file:
            fill(file, self.size)
        self.img('convert', '-f', 'raw', '-O', 'qcow2', raw, self.image)
        os.unlink(raw)
        self.engine_of(self.image)

    def engine_of(self, image):
        self.vm = bed.LiveTest.engine(self, image, name=f'engine-{os.path.basename(image)}')
        self.environment.pop('LIBBACKUP_DEFAULT_URI', None)
        self.name = 'g-' + os.path.basename(image).split('.')[0]
        bed.LiveTest.must(self, 'attach', self.name, '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.export = self.path(f'nbd-{self.name}')
        self.uri_of_export = f'nbd+unix:///vda?socket={self.export}'

    @contextlib.contextmanager
    def served(self):
        """The export of others: QEMU has one server only, and a point wants its own."""
        self.vm.qmp.execute('nbd-server-start', addr={'type': 'unix', 'data': {'path': self.export}})
        self.vm.qmp.execute('block-export-add', id='bench', type='nbd', **{'node-name': 'disk0', 'name': 'vda'})
        try:
            yield
        finally:
            self.vm.qmp.execute('nbd-server-stop')

    def fresh(self, name):
        path = self.path(name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
        return path

    def point(self, *options):
        bed.LiveTest.must(self, 'point-create', self.name, '--repository', self.path('repo'), *options, timeout=3600)

    def first_point(self, *options):
        bed.LiveTest.must(self, 'repository-create', self.fresh('repo'))
        return self.timed(lambda: self.point('--full-read', *options))

    def backup(self, **how):
        target = self.fresh('bare.qcow2')
        self.img('create', '-q', '-f', 'qcow2', target, str(self.size))

        def run():
            qmp = self.vm.qmp
            qmp.execute('blockdev-add', driver='qcow2', **{'node-name': 'bench', 'file': {'driver': 'file', 'filename': target}})
            qmp.drain()
            qmp.execute('blockdev-backup', device='disk0', target='bench', **{'job-id': 'bench'}, **how)
            qmp.wait_event('JOB_STATUS_CHANGE', timeout=3600, id='bench', status='null')     # not before lets it go of its target
            qmp.execute('blockdev-del', **{'node-name': 'bench'})
            self.sync(target)
        return self.timed(run)

    def sync(self, path):
        bed.run('sync', path)

    def command(self, name, *argv):
        target = self.path(name)

        def run():
            self.fresh(name)
            bed.run(*[a.replace('TARGET', target) for a in argv], timeout=3600)
            self.sync(target)

        def once():
            with self.served():
                return self.timed(run)
        return once

    def piped(self, init, *argv, **env):
        """Reads the export by nbdcopy into a program's standard input; into a new repository of it each time."""
        def once():
            repository = self.fresh('peer')
            environment = {**os.environ, **{k: v.replace('TARGET', repository) for k, v in env.items()}}
            bed.run(*[a.replace('TARGET', repository) for a in init], env=environment)

            def run():
                with subprocess.Popen(['nbdcopy', self.uri_of_export, '-'], stdout=subprocess.PIPE) as reader:
                    subprocess.run([a.replace('TARGET', repository) for a in argv], stdin=reader.stdout, env=environment, check=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                bed.run('sync', '-f', repository)
            with self.served():
                return self.timed(run)
        return once

    def domain(self):
        """A guest of libvirt on a copy, for virtnbdbackup, which knows no other."""
        copy = self.path('domain.qcow2')
        shutil.copy(self.image, copy)
        os.chmod(copy, 0o666)
        self.lv = lvbed.Domain(self, self.daemon, [bed.Disk(copy, 'vda')], domain='bench', bare=True, name='bench')
        self.environment.pop('LIBBACKUP_DEFAULT_URI', None)

    def virtnbdbackup(self, level, output):
        def run():
            bed.run('virtnbdbackup', '-U', self.daemon.uri.replace('qemu+unix', 'qemu'), '-d', 'bench', '-l', level, '-o', output, timeout=3600)
            bed.run('sync', '-f', output)
        return self.timed(run)

    def copy_by_virtnbdbackup(self):
        return self.virtnbdbackup('copy', self.fresh('virtnbd'))

    # results

    def pairs(self, title, goals, **runs):
        times = {name: [] for name in runs}
        for _ in range(self.count):
            for name in random.sample(list(runs), len(runs)):
                times[name].append(runs[name]())
        print(title, flush=True)
        for name, values in times.items():
            ratio = statistics.median(mine / other for mine, other in zip(times['point'], values))
            good = name not in goals or ratio <= goals[name]
            note = '' if name not in goals else f'   goal {goals[name]:.2f}: {"met" if good else "MISSED"}'
            print(f'  {name:22} {statistics.median(values):8.2f} s   point/this {ratio:6.2f}{note}', flush=True)
            if not good:
                self.missed.append(f'{title}: {name}')

    def full(self):
        for name in DATA:
            self.prepare(name)
            runs = {'point': self.first_point, 'blockdev-backup': lambda: self.backup(sync='full'),
                    'nbdcopy': self.command('copy.raw', 'nbdcopy', self.uri_of_export, 'TARGET'),
                    'qemu-img convert': self.command('copy.qcow2', 'qemu-img', 'convert', '-W', '-m', '16', '-f', 'raw', '-O', 'qcow2',
                                                     self.uri_of_export, 'TARGET')}
            if shutil.which('restic'):
                runs['restic'] = self.piped(['restic', 'init'], 'restic', 'backup', '--stdin', RESTIC_REPOSITORY='TARGET', RESTIC_PASSWORD='x')
            if shutil.which('borg'):
                runs['borg'] = self.piped(['borg', 'init', '-e', 'none', 'TARGET'], 'borg', 'create', 'TARGET::one', '-',
                                          BORG_BASE_DIR='TARGET.home')
            if shutil.which('virtnbdbackup'):
                self.domain()
                runs['virtnbdbackup'] = self.copy_by_virtnbdbackup
            for program in ('restic', 'borg', 'virtnbdbackup'):
                if program not in runs:
                    print(f'{program} is not installed')
            self.pairs(f'full, {name}, {self.size // MIB} MiB', {'blockdev-backup': GOALS['full'], 'virtnbdbackup': 1 / 3}, **runs)
            self.vm.quit()
            if shutil.which('virtnbdbackup'):
                self.lv.kill()
                self.virsh('undefine', '--checkpoints-metadata', 'bench', check=False)
            for path in (self.image, self.path('domain.qcow2')):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def dirty(self, write):
        for place in random.sample(range(self.size // CLUSTER), 1638 // self.scale):
            write(f'write -q -P {random.randrange(1, 256)} {place * CLUSTER} {CLUSTER}')

    def increment(self):
        self.prepare('random')
        self.first_point()
        self.vm.qmp.execute('block-dirty-bitmap-add', node='disk0', name='bench')
        outputs = self.path('chain')

        def point():
            self.dirty(lambda c: self.vm.io('disk0', c))
            return self.timed(self.point)

        def bare():
            self.vm.qmp.execute('block-dirty-bitmap-clear', node='disk0', name='bench')
            self.dirty(lambda c: self.vm.io('disk0', c))
            return self.backup(sync='incremental', bitmap='bench')
        runs = {'point': point, 'blockdev-backup': bare}
        if shutil.which('virtnbdbackup'):
            self.domain()
            self.virtnbdbackup('full', outputs)

            def peer():
                self.dirty(lambda c: self.lv.io(0, c))
                return self.virtnbdbackup('inc', outputs)
            runs['virtnbdbackup'] = peer
        self.pairs(f'increment of {1638 // self.scale} clusters', {'blockdev-backup': GOALS['increment'], 'virtnbdbackup': 1 / 5}, **runs)

    def restore(self):
        if not os.path.isdir(self.path('repo')):
            self.prepare('random')
            self.first_point()
        repository = ('--repository', self.path('repo'))
        info = json.loads(bed.LiveTest.must(self, 'point-info', f'{self.name}@latest', '--json', *repository).out)
        image = info['disks'][0]['path']

        def back(*options, target=None):
            path = target or self.fresh('back.qcow2')
            return self.timed(lambda: bed.LiveTest.must(self, 'point-restore', f'{self.name}@latest', '--target', f'vda={path}', *options,
                                                        *repository, timeout=3600))
        self.pairs('restore to a new qcow2', {'qemu-img convert': GOALS['restore']}, point=back,
                   **{'qemu-img convert': self.command('convert.qcow2', 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'qcow2', image, 'TARGET')})

        def changed():
            path = self.path('back.qcow2')
            for place in random.sample(range(self.size // CLUSTER), self.size // CLUSTER // 100):
                bed.run('qemu-io', '-f', 'qcow2', '-c', f'write -q -P 1 {place * CLUSTER} {CLUSTER}', path)
            return back('--reuse-external', '--changed-only', target=path)
        back()
        self.pairs('restore of 1 % that differs', {'all of it': GOALS['changed-only']}, point=changed,
                   **{'all of it': lambda: back(target=self.fresh('all.qcow2'))})
        took = self.timed(lambda: bed.LiveTest.must(self, 'point-verify', f'{self.name}@latest', *repository, timeout=3600))
        print(f'verify: {self.size / MIB / took:.0f} MiB/s')

    def sparse(self):
        image = self.path('sparse.qcow2')
        self.img('create', '-q', '-f', 'qcow2', image, '8T')
        bed.run('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 7 1T 1M', '-c', 'write -q -P 7 7T 64k', image)
        self.engine_of(image)
        bed.LiveTest.must(self, 'repository-create', self.fresh('repo'))
        argv = [bed.baksh_path(), '-q', 'point-create', self.name, '--repository', self.path('repo')]
        for title in ('first point', 'increment'):
            with subprocess.Popen(argv, env=self.environment, stdout=subprocess.DEVNULL) as process:
                begin = time.monotonic()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss / 1024
            print(f'8 TiB that hold 1 MiB, {title}: {time.monotonic() - begin:.1f} s, peak memory {peak:.0f} MiB, exit {process.returncode}',
                  flush=True)
            if process.returncode or peak > 150:
                self.missed.append(f'sparse, {title}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', type=int, default=1)
    parser.add_argument('--pairs', type=int, default=5)
    parser.add_argument('what', nargs='*', choices=[[], 'full', 'increment', 'restore', 'sparse'])
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for what in options.what or ['full', 'increment', 'restore', 'sparse']:
        bench = Bench()
        bench.scale, bench.count = options.scale, options.pairs
        (bed.LiveTest.setUp if what == 'sparse' else Bench.setUp)(bench)
        try:
            getattr(bench, what)()
        finally:
            bench.doCleanups()
    if Bench.missed:
        print('missed: ' + '; '.join(Bench.missed))
    return 1 if Bench.missed else 0


if __name__ == '__main__':
    sys.exit(main())
