#!/usr/bin/python3
"""Random sequences of what happens to points that are kept: made, pruned, deleted, copied there and back, pinned, by one writer or two at
once, killed at a random moment or at a random system call. After each step

    every point that is listed reads as the disk was, by point-restore, and by qemu-img alone where nothing is encrypted
    none is lost but one that was to go, none came but one that was made or copied, and none that is pinned went
    a command that nobody killed says that it is done, and it is, or why it could not be
    after a point has come nothing lies about that is none; at the end nothing does at all, and repository-check finds nothing

    keeping.py [--seeds N] [--first SEED] [--steps N] [--jobs N]        a seed that found something is printed with what it did
    keeping.py --every delete|rewrite|copy                              one command killed at each of its system calls in turn
"""
import argparse
import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bed  # noqa: E402

MIB = 1 << 20
SIZE = 2 * MIB
LEAF = 65536
POINTS_MAX = 5
KEPT = ('manifest.json', 'storage.json', 'note.json', 'verified.json', 'pinned')
# What leaves something behind; a command dies as one of its threads comes to its n-th of these. Not openat: nearly all of them are those of
# the libraries' loading, and a file that was only made is what the next call finds.
CALLS = ('write', 'pwrite64', 'unlink', 'rename', 'fsync', 'fdatasync', 'mkdir', 'rmdir', 'ioctl', 'ftruncate', 'clone', 'clone3')
KINDS = (*7 * ('plain',), *2 * ('zstd',), 'encrypted')      # the last costs seconds an image to open
# What a command may say that nobody killed: of two at once each may find the other at work, or what it was to do done.
REFUSALS = r'is pinned'
REFUSALS_OF_TWO = r'is pinned|in use|there is no point|has no points|already|is busy|another'


class Broken(Exception):
    """A promise that was not kept."""


class Bed(bed.LiveTest):
    """What a sequence stands on."""
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def runTest(self):
        pass


class Store:
    def __init__(self, path):
        self.path = path
        self.truth = {}         # id -> what the disk was
        self.pinned = set()


# name, words, the store that it writes to, ids that may go from there, {id or None for any: what a point is that may come}
Command = collections.namedtuple('Command', 'name words store may_go may_come')


class Sequence:
    def __init__(self, seed, kind=None, environment=None):
        self.seed = seed
        self.random = random.Random(seed)
        self.kind = kind or self.random.choice(KINDS)
        self.test = Bed()
        self.test.setUp()
        self.test.environment.update(environment or {})
        self.history = []
        self.took = {}                          # command -> seconds, to be killed within
        self.calls = {}                         # command, system call -> how often its busiest thread comes to it
        self.struck = collections.Counter()
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.test.doCleanups()

    def path(self, *names):
        return self.test.path(*names)

    def prepare(self):
        test = self.test
        self.strace = bed.need('strace', 'strace')
        self.disk = test.make_image('disk.qcow2', SIZE, data=[(0, MIB, 7)])
        self.data = bytearray(b'\7' * MIB + bytes(SIZE - MIB))
        self.stores = [Store(self.path('first')), Store(self.path('second'))]
        if self.kind == 'encrypted':
            with open(self.path('key'), 'wb') as file:
                file.write(bytes(range(32)))
            test.environment['LIBBACKUP_KEY_FILE'] = self.path('key')
        for store in self.stores:
            test.must('repository-create', store.path, *(('--encrypt', '--key-file', self.path('key')) if self.kind == 'encrypted' else ()))
        test.must('attach', 'g', '--image', f'vda={self.disk}')
        for _ in range(3):
            self.step(self.command('point-create'), fault=None)
            self.write()

    # drawing

    def write(self):
        """Some leaves, zeros among them; not while a storage daemon still shows the last instant."""
        if bed.holds_lock(self.disk):
            return
        words = []
        for _ in range(self.random.randrange(1, 4)):
            offset = self.random.randrange(SIZE // LEAF) * LEAF + self.random.choice((0, 0, 4096, LEAF - 512))
            length, byte = min(self.random.choice((512, LEAF, 3 * LEAF)), SIZE - offset), self.random.choice((0, *range(1, 256)))
            words += ['-c', f'write -q -P {byte} {offset} {length}' if byte else f'write -q -z -u {offset} {length}']
            self.data[offset:offset + length] = bytes([byte]) * length
        bed.run(bed.tool('qemu-io', '7.2'), '-f', 'qcow2', *words, self.disk)

    def command(self, name, store=None):
        store = store or self.random.choice(self.stores)
        first, other = self.stores[0], self.stores[store is self.stores[0]]
        loose = set(store.truth) - store.pinned
        at = ('--repository', store.path)
        if name == 'point-create':
            options = self.random.choice(((), (), ('--full-read',), ('--resume',)))
            compression = ('--compression', 'zstd') if self.kind == 'zstd' else ()
            return Command(name, ('g', *options, *compression, '--repository', first.path), first, set(), {None: bytes(self.data)})
        if name == 'point-copy':
            what = ('--all',) if self.random.randrange(3) else (self.random.choice(list(store.truth)),)
            return Command(name, (*what, '--to', other.path, *at), other, set(), dict(store.truth))
        if name == 'point-prune':
            return Command(name, ('g', '--keep-last', str(self.random.randrange(1, 4)), *at), store, loose, {})
        victim = self.random.choice(list(store.truth))
        words = {'point-delete': (victim,), 'point-pin': (victim, *self.random.choice(((), ('--off',), ('--off',)))), 'point-verify': (victim,),
                 'repository-check': self.random.choice(((), ('--repair',), ('--read-data',)))}[name]
        return Command(name, (*words, *at), store, {victim} & loose if name == 'point-delete' else set(), {})

    def draw(self):
        full = [store for store in self.stores if len(store.truth) >= POINTS_MAX]
        if full:
            return self.command(self.random.choice(('point-delete', 'point-prune')), full[0])
        store = self.random.choice(self.stores)
        names = ['point-create', 'point-create']
        if store.truth:
            names += ['point-delete', 'point-delete', 'point-prune', 'point-copy', 'point-copy', 'point-pin', 'point-verify', 'repository-check']
        return self.command(self.random.choice(names), store)

    def draw_fault(self, command):
        kind = self.random.choice(('none', 'moment', 'moment', 'call', 'call'))
        if kind == 'moment':
            return 'moment', self.random.random() * self.took.get(command.name, 0.3)
        if kind == 'call' and command.name != 'point-create':       # whose watcher goes on, traced
            call = self.random.choice(CALLS)
            return call, self.random.randrange(1, max(self.calls.get((command.name, call), 8), 1) + 1)
        return None

    # running

    def start(self, command, fault, number=0):
        argv = [bed.baksh_path(), '-q', command.name, *command.words]
        if fault and fault[0] in CALLS:
            argv = [self.strace, '-D', '-f', '-qq', '-o', self.path('trace'), '-e', f'trace={fault[0]}', '-e', f'inject={fault[0]}:signal=SIGKILL:when={fault[1]}',
                    *argv]
        with open(self.path(f'said{number}'), 'wb') as said:       # no pipe: what outlives the command would hold it
            return subprocess.Popen(argv, env=self.test.environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL)

    def said(self, number=0):
        with open(self.path(f'said{number}'), encoding='utf-8', errors='replace') as file:
            return file.read()

    def traces(self, pid):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/cmdline', 'rb') as file:
            words = file.read().split(b'\0')
            return words[0] == self.strace.encode() and self.path('trace').encode() in words
        return False

    def end_tracer(self, command, fault):
        tracers = [pid for pid in os.listdir('/proc') if pid.isdigit() and self.traces(pid)]
        for pid in tracers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        bed.wait_for('the tracers', lambda: not any(self.traces(pid) for pid in tracers))
        with open(self.path('trace'), encoding='utf-8', errors='replace') as file:
            seen = collections.Counter(line.split(' ', 1)[0] for line in file if f' {fault[0]}(' in line)
        self.calls[command.name, fault[0]] = max(seen.values(), default=0)

    def run(self, command, fault):
        """Its exit status; None: it was killed."""
        begin = time.monotonic()
        process = self.start(command, fault)
        try:
            process.wait(timeout=fault[1] if fault and fault[0] == 'moment' else 200 * bed.SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            if not fault:
                raise Broken('it hangs') from None
        if fault and fault[0] in CALLS:
            self.end_tracer(command, fault)
        elif process.returncode >= 0:
            self.took[command.name] = time.monotonic() - begin
        if process.returncode == -signal.SIGKILL and fault:
            self.struck[command.name, fault[0]] += 1
            return None
        return process.returncode

    def run_two(self, commands):
        """At once; one of them may be killed."""
        processes = []
        for number, command in enumerate(commands):
            processes.append(self.start(command, None, number))
            time.sleep(self.random.random() * self.random.choice((0, 0.05, 0.3)))
        if self.random.randrange(3) == 0:
            self.random.choice(processes).kill()
        for process in processes:
            process.wait(timeout=200 * bed.SLOW)
        self.struck['two', 'at once'] += 1
        return [None if p.returncode == -signal.SIGKILL else p.returncode for p in processes]

    # what holds

    def listed(self, store):
        rows = self.test.json('point-list', '--repository', store.path)['points']
        damaged = [row for row in rows if row['damage']]
        if damaged:
            raise Broken(f'point {damaged[0]["id"]} of {store.path} is listed as damaged: {damaged[0]["damage"]}')
        return {row['id']: row for row in rows}

    def take(self, commands):
        """What may have come came, what may have gone went."""
        for store in self.stores:
            rows, mine = self.listed(store), [c for c in commands if c.store is store]
            lost = set(store.truth) - set(rows) - set().union(*(c.may_go for c in mine))
            if lost:
                raise Broken(f'{store.path} has lost {", ".join(sorted(lost))}')
            may_come = dict(itertools.chain.from_iterable(c.may_come.items() for c in mine))
            for name in set(rows) - set(store.truth):
                if name not in may_come and None not in may_come:
                    raise Broken(f'point {name} came to {store.path} from nowhere')
                store.truth[name] = may_come.get(name, may_come.get(None))
            for name in set(store.truth) - set(rows):
                del store.truth[name]
            store.pinned = {name for name, row in rows.items() if row['pinned']}

    def restored(self, store, name, may_go):
        """None: who reads a point that was to go ends its removal first."""
        target = self.path('restored')
        argv = ('point-restore', name, '--target', f'vda={target}', '--format', 'raw', '--repository', store.path)
        if name in may_go:
            done = self.test.baksh(*argv)
            if done.rc and f"there is no point '{name}'" in done.err:
                return None
        else:
            self.test.must(*argv)
        with open(target, 'rb') as file:
            data = file.read()
        os.unlink(target)
        return data

    def by_hand(self, row):
        self.test.img('convert', '-f', 'qcow2', '-O', 'raw', row['disks'][0]['path'], self.path('by-hand'))
        with open(self.path('by-hand'), 'rb') as file:
            return file.read()

    def assert_holds(self, store, name, data, how):
        truth = store.truth[name]
        if data != truth:
            wrong = [i // LEAF for i in range(0, SIZE, LEAF) if data[i:i + LEAF] != truth[i:i + LEAF]]
            raise Broken(f'point {name} of {store.path} is not what the disk was, by {how}: leaves {wrong} of {len(data)} bytes')

    def assert_all_hold(self, commands=(), everything=False):
        """One by point-restore, which also ends what was broken off; then by hand."""
        for store in self.stores:
            names = list(store.truth)
            may_go = set().union(*(c.may_go for c in commands if c.store is store))
            for name in names if everything else self.random.sample(names, min(1, len(names))):
                data = self.restored(store, name, may_go)
                if data is not None:
                    self.assert_holds(store, name, data, 'point-restore')
            if self.kind != 'encrypted':
                for name, row in self.listed(store).items():
                    self.assert_holds(store, name, self.by_hand(row), 'qemu-img')
        self.take(commands)

    def let_time_pass(self):
        """Two hours, for what was being written into a point: only then is it nobody's."""
        for store in self.stores:
            for where, _, names in os.walk(store.path):
                for name in names:
                    if name.endswith('.tmp'):
                        os.utime(os.path.join(where, name), (time.time() - 7200,) * 2)

    def strays(self, store):
        """What lies in a repository and belongs to no point."""
        left = [n for n in os.listdir(store.path) if len(n) != 36 and n not in ('libbackup-repository.json', 'locks')]
        for guest in (n for n in os.listdir(store.path) if len(n) == 36):
            folder = os.path.join(store.path, guest)
            left += [f'{guest}/{n}' for n in os.listdir(folder) if n != 'guest.json' and n not in store.truth]
            for point in store.truth:
                where = os.path.join(folder, point)
                known = set(KEPT)
                for document, member in (('manifest.json', 'files'), ('storage.json', 'disks')):
                    with open(os.path.join(where, document), encoding='utf-8') as file:
                        known |= {value for row in json.load(file).get(member, []) for value in (row.get('name'), row.get('file'), row.get('leaves'))}
                left += [f'{point}/{n}' for n in os.listdir(where) if n not in known]
        return left

    def assert_nothing_left(self, store):
        left = self.strays(store)
        if left:
            raise Broken(f'{store.path}: left behind: {", ".join(left)}')

    def assert_done(self, command, fault, status, before):
        """What a command that nobody killed came to; one whose child was killed says so."""
        if status != 0:
            if not re.search(r'\S' if fault and fault[0] in CALLS else REFUSALS, self.said()):
                raise Broken(f'exit status {status}')
            return
        here = set(command.store.truth)
        if command.name == 'point-create' and len(here - before) != 1:
            raise Broken('no point came')
        if command.name == 'point-delete' and command.words[0] in here:
            raise Broken('the point is still there')
        if command.name == 'point-copy' and '--all' in command.words and set(command.may_come) - here:
            raise Broken('not all points came')
        if command.name == 'point-create' or (command.name == 'point-copy' and here - before):
            self.assert_nothing_left(command.store)

    def step(self, command, fault):
        self.history.append(f'{command.name} {" ".join(command.words)}' + (f', killed at {fault[0]} {fault[1]:.3g}' if fault else ''))
        before = set(command.store.truth)
        self.let_time_pass()
        status = self.run(command, fault)
        self.take([command])
        if status is not None:
            self.assert_done(command, fault, status, before)
        self.assert_all_hold([command])

    def step_of_two(self, commands):
        self.history.append(' and '.join(f'{c.name} {" ".join(c.words)}' for c in commands))
        for number, status in enumerate(self.run_two(commands)):
            if status and not re.search(REFUSALS_OF_TWO, self.said(number)):
                raise Broken(f'{commands[number].name}: exit status {status}: {self.said(number)}')
        self.take(commands)
        self.assert_all_hold(commands)

    def end(self):
        """A repair by rule, then nothing is left and nothing is found; and the next writer."""
        self.let_time_pass()
        for store in self.stores:
            for name in store.pinned:
                self.test.must('point-pin', name, '--off', '--repository', store.path)
            self.test.must('repository-check', store.path, '--repair')
            found = self.test.json('repository-check', store.path, '--read-data')['findings']
            if found:
                raise Broken(f'{store.path}: {found[0]["what"]}')
            self.take([])
            self.assert_nothing_left(store)
        self.step(self.command('point-create'), fault=None)
        self.assert_all_hold(everything=True)

    def go(self, steps):
        for _ in range(steps):
            self.write()
            if self.random.randrange(4) == 0:
                self.step_of_two([self.draw(), self.draw()])
            else:
                command = self.draw()
                self.step(command, self.draw_fault(command))
        self.end()


def run_seed(seed, steps):
    """(what struck, None) or (…, what was found)."""
    made = None
    try:
        made = Sequence(seed)
        made.go(steps)
        return made.struck, None
    except Exception as why:        # whatever it is, the seed is what matters
        trace = '' if isinstance(why, (Broken, AssertionError)) else traceback.format_exc()
        lines = [f'seed {seed} ({made.kind if made else "?"}): {why}', trace, *(made.history if made else ())]
        if made and os.path.exists(made.path('said0')):
            lines += [made.said(n).strip() for n in (0, 1) if os.path.exists(made.path(f'said{n}'))]
        if made and os.environ.get('LIBBACKUP_TEST_KEEP'):
            shutil.copytree(made.test.directory, os.environ['LIBBACKUP_TEST_KEEP'], dirs_exist_ok=True, ignore=lambda d, names: [n for n in names if n.endswith('.sock')])
        return made.struck if made else collections.Counter(), '\n  '.join(line for line in lines if line)
    finally:
        if made:
            made.close()


def run_seeds(first, count, steps, jobs):
    struck, found = collections.Counter(), []
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        for done, what in pool.map(run_seed, range(first, first + count), itertools.repeat(steps)):
            struck += done
            if what:
                found.append(what)
                print(what, flush=True)
    print(f'{count} seeds from {first}, {steps} steps each: {len(found)} found something; '
          + ', '.join(f'{name} killed at a {fault} {n}' if name != 'two' else f'two at once {n}' for (name, fault), n in sorted(struck.items())), flush=True)
    return found


# One command, killed at each of its system calls in turn.

def every_command(made, which):
    """What is to be killed, on fresh ground."""
    first, second = made.stores
    made.write()
    while len(first.truth) < 3:
        made.step(made.command('point-create'), None)
        made.write()
    points = sorted(first.truth, key=lambda name: made.listed(first)[name]['sequence'])
    if which == 'copy':
        shutil.rmtree(second.path)
        second.truth.clear()
        made.test.must('repository-create', second.path)
        return Command('point-copy', ('--all', '--to', second.path, '--repository', first.path), second, set(), dict(first.truth))
    victim = points[0] if which == 'delete' else points[1]
    return Command('point-delete', (victim, '--repository', first.path), first, {victim}, {})


def run_every(which, calls=CALLS, start=1, end=None, environment=None):
    """How often it was killed: at each of these system calls, until it does not come to one any more."""
    made, number, call = Sequence(1, 'plain', environment), 0, None
    try:
        for call in calls:
            for number in itertools.count(start) if end is None else range(start, end):
                command = every_command(made, which)
                made.step(command, (call, number))
                made.let_time_pass()
                made.test.must('repository-check', command.store.path, '--repair')
                made.take([command])
                made.assert_nothing_left(command.store)
                if made.calls[command.name, call] < number:
                    break
        return sum(made.struck.values())
    except (Broken, AssertionError) as why:
        raise Broken(f'{which}, killed at {call} {number}: {why}\n{made.history[-1]}') from why
    finally:
        made.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--first', type=int, default=random.randrange(1 << 24))
    parser.add_argument('--steps', type=int, default=6)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--every', choices=('delete', 'rewrite', 'copy'))
    options = parser.parse_args()
    if options.every:
        print(f'{options.every}: killed {run_every(options.every)} times')
        return 0
    return bool(run_seeds(options.first, options.seeds, options.steps, options.jobs))


if __name__ == '__main__':
    sys.exit(main())
