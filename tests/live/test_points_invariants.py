#!/usr/bin/python3
"""What holds of a repository whatever happens to its commands: drawn sequences of them, each with a fault at a drawn system call of a drawn
kind, or none. After each:

    every point that is listed is what the guest was at its instant, and none is listed as damaged
    no listed point is lost, but by the command that was to remove it, or by the next one when that was broken off within the removal (merge.json)
    a command that says that it was done has done it; one that was not killed ends with a status of its own
    after the next writer nothing costs space that is no point

LIBBACKUP_TEST_INVARIANTS says how many commands (2000 is the whole), LIBBACKUP_TEST_SEED which. What was covered is printed: for each command
and system call, how often each fault struck. SEEDS are those that have found something once: each runs in its short form.
"""
import collections
import contextlib
import glob
import json
import os
import signal
import subprocess
import unittest

import bed
from test_points import PointTest

# What may go wrong with each system call, beside being killed as it begins. Not with those that also wake threads and talk to sockets, where no
# kernel answers so and somebody would wait for ever: a short write is had by a limit of the files' size.
ERRORS = {'openat': ('EIO', 'ENOSPC', 'EROFS', 'EMFILE'), 'read': (), 'pread64': ('EIO',), 'write': (), 'pwrite64': ('EIO', 'ENOSPC'),
          'fsync': ('EIO',), 'fdatasync': ('EIO',), 'rename': ('EIO', 'ENOSPC', 'EROFS'), 'mkdir': ('EIO', 'ENOSPC', 'EROFS'), 'unlink': ('EIO', 'EROFS'),
          'ftruncate': ('EIO', 'ENOSPC'), 'fcntl': (), 'newfstatat': ('EIO',), 'clone': ('EAGAIN',), 'execve': ('ENOENT', 'EACCES')}
COMMANDS = ('point-create', 'point-create', 'point-create', 'point-delete', 'point-delete', 'point-prune', 'point-copy', 'point-pin', 'point-verify',
            'point-restore', 'repository-check')
SEEDS = ()
POINTS_MAX = 6


class InvariantsTest(PointTest):
    count = int(os.environ.get('LIBBACKUP_TEST_INVARIANTS', '8'))

    def setUp(self):
        super().setUp()
        self.strace = bed.need('strace', 'strace')
        if bed.run(self.strace, '-qq', '-o', '/dev/null', 'true', check=False).returncode:
            self.skipTest('nothing can be traced here')
        self.other = self.path('other')
        self.must('repository-create', self.other)
        self.truth = {self.repository: {}, self.other: {}}      # id -> what the guest was
        self.calls = collections.defaultdict(lambda: 6)         # (command, system call): how often it was seen
        self.struck = collections.Counter()
        self.uncalled = set()                                   # (command, system call) that were watched for and did not come
        self.history = []
        self.going = set()                                      # points whose removal was broken off: the next writer ends it
        self.attach_off()

    # drawing

    def draw_command(self):
        """Its words, the points that it may remove, and the repository that it writes."""
        known = list(self.truth[self.repository])
        name = self.random.choice(COMMANDS) if known else 'point-create'
        if len(known) >= POINTS_MAX:
            name = self.random.choice(('point-delete', 'point-prune'))
        victim = self.random.choice(known) if known else None
        words = {'point-create': ('g', *self.random.choice(((), (), ('--full-read',), ('--compression', 'zstd'), ('--resume',), ('--note', 'x')))),
                 'point-delete': (victim,), 'point-prune': ('g', '--keep-last', str(self.random.randrange(1, 4))), 'point-copy': ('--all', '--to', self.other),
                 'point-pin': (victim, *self.random.choice(((), ('--off',), ('--off',)))), 'point-verify': (victim,),
                 'point-restore': (victim, '--target', f'vda={self.path("target")}', '--format', self.random.choice(('raw', 'qcow2'))),
                 'repository-check': self.random.choice(((), ('--read-data',), ('--repair',)))}[name]
        return name, words

    def draw_fault(self, name):
        """None, or a system call, what happens there, and at which of its calls."""
        kind = self.random.choice(('none', 'kill', 'kill', 'error', 'error', 'error', 'short'))
        if kind == 'none':
            return None
        if kind == 'short' and name != 'point-create':      # whose storage daemon would keep the limit beyond it
            return 'write', 'short', self.random.choice((0, 100, 5000, 70000, 300000))
        calls = [c for c in ERRORS if (name, c) not in self.uncalled]
        fresh = [c for c in calls if not any(key[:2] == (name, c) for key in self.struck)]
        call = self.random.choice(fresh if fresh and self.random.randrange(3) else calls)
        return call, 'kill' if kind == 'kill' or not ERRORS[call] else self.random.choice(ERRORS[call]), self.random.randrange(1, self.calls[name, call] + 1)

    # running

    def with_fault(self, name, words, fault):
        """Status -9: it was killed."""
        argv = [bed.baksh_path(), '-q', name, *words]
        if fault and fault[1] == 'short':       # a file that may not grow beyond: the last write is a short one
            argv = ['prlimit', f'--fsize={fault[2]}', *argv]
        elif fault:
            call, what, when = fault
            inject = f'signal=SIGKILL:when={when}' if what == 'kill' else f'error={what}:when={when}'
            argv = [self.strace, '-I', '1', '-D', '-f', '-qq', '-o', self.path('trace'), '-e', f'trace={call}', '-e', f'inject={call}:{inject}', *argv]
        with open(self.path('said'), 'w+', encoding='utf-8', errors='replace') as said:      # no pipe: the daemon of one that was killed would hold it
            done = subprocess.run(argv, env=self.environment, stdout=said, stderr=said, timeout=240, check=False, stdin=subprocess.DEVNULL,
                                  restore_signals=not (fault and fault[1] == 'short'))
            self.end_tracer()
            said.seek(0)
            done.stderr = said.read()
        self.note_coverage(name, fault, done)
        return done

    def traces(self, pid):
        """It is our tracer, and no zombie."""
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                words = file.read().split(b'\0')
        except OSError:
            return False
        return words[0] == self.strace.encode() and self.path('trace').encode() in words

    def end_tracer(self):
        """A storage daemon that outlives the command is not to fail in the next one."""
        tracers = [pid for pid in os.listdir('/proc') if pid.isdigit() and self.traces(pid)]
        for pid in tracers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
        bed.wait_for('the tracers', lambda: not any(self.traces(pid) for pid in tracers))

    def note_coverage(self, name, fault, done):
        if not fault:
            self.struck[name, '-', 'none'] += 1
        elif fault[1] == 'short':
            self.struck[name, 'write', 'short'] += done.returncode != 0
        else:
            with open(self.path('trace'), encoding='utf-8', errors='replace') as file:
                trace = file.read()
            seen = collections.Counter(line.split(' ', 1)[0] for line in trace.splitlines() if f' {fault[0]}(' in line)
            if seen:
                self.calls[name, fault[0]] = max(seen.values())
            elif done.returncode == 0:
                self.uncalled.add((name, fault[0]))
            if 'INJECTED' in trace or (fault[1] == 'kill' and 'killed by SIGKILL' in trace):
                self.struck[name, fault[0], fault[1]] += 1

    # what holds

    def listed(self, repository):
        return {p['id']: p for p in self.json('point-list', '--repository', repository)['points']}

    def assert_point_holds(self, repository, name):
        target = self.path('held')
        self.must('point-restore', name, '--target', f'vda={target}', '--format', 'raw', '--repository', repository)
        with open(target, 'rb') as file:
            self.assertTrue(file.read() == self.truth[repository][name], f'point {name} is not what the guest was')
        os.unlink(target)

    def take_new(self, repository, listed, name, words):
        """What came: of a point-create the guest as it is, of a copy what the original is."""
        for point in set(listed) - set(self.truth[repository]):
            if name == 'point-copy' and repository == self.other:
                self.truth[repository][point] = self.copied[point]
            else:
                self.assertEqual((name, repository), ('point-create', self.repository), f'point {point} came from nowhere')
                self.truth[repository][point] = bytes(self.data)

    def assert_none_lost(self, repository, listed, name, words):
        lost = set(self.truth[repository]) - set(listed)
        may = set() if repository == self.other else {words[0]} if name == 'point-delete' else lost if name == 'point-prune' else set()
        self.assertLessEqual(lost, may | self.going, 'points are lost')
        for point in lost:
            del self.truth[repository][point]

    def assert_done(self, done, name, words, before):
        """It says that it was done."""
        here = set(self.truth[self.repository])
        if name == 'point-create':
            self.assertEqual(len(here - before), 1, 'no point came')
        elif name == 'point-delete':
            self.assertNotIn(words[0], here)
        elif name == 'point-prune':
            self.assertLess(len(here), POINTS_MAX + 1)
        elif name == 'point-copy':
            self.assertLessEqual(here, set(self.truth[self.other]))
        elif name == 'point-restore':
            self.img('convert', '-f', words[-1], '-O', 'raw', self.path('target'), self.path('read'))
            with open(self.path('read'), 'rb') as file:
                self.assertTrue(file.read() == self.truth[self.repository][words[0]], 'a restore said that it was good')

    def note_going(self):
        for path in glob.glob(f'{self.repository}/*/merge.json'):
            with open(path, encoding='utf-8') as file:
                self.going.add(json.load(file)['goes'])

    def assert_invariants(self, name, words, done, fault):
        before = set(self.truth[self.repository])
        self.assertNotIn(done.returncode, (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, 134, 139), done.stderr)
        for repository in self.truth:
            listed = self.listed(repository)
            self.assert_none_lost(repository, listed, name, words)
            self.take_new(repository, listed, name, words)
            self.assertEqual({i: p['damage'] for i, p in listed.items() if p['damage']}, {})
        if done.returncode == 0:
            self.assert_done(done, name, words, before)
        held = [(repository, point) for repository in self.truth for point in self.truth[repository]]
        for repository, point in self.random.sample(held, min(2, len(held))):
            self.assert_point_holds(repository, point)

    def step(self, number):
        if not bed.holds_lock(self.disk):       # else the pull of a point-create that was killed still shows its instant
            self.write_somewhere(2)
        self.copied = dict(self.truth[self.repository])
        name, words = self.draw_command()
        fault = self.draw_fault(name)
        where = f'seed {self.seed}, command {number}: {name} {" ".join(words)}, fault {fault}'
        self.history.append(where)
        try:
            done = self.with_fault(name, words, fault)
            for path in (self.path('target'), self.path('target') + '.restoring'):
                if done.returncode and os.path.exists(path):
                    os.unlink(path)
            self.note_going()
            self.assert_invariants(name, words, done, fault)
        except (AssertionError, subprocess.TimeoutExpired) as why:
            raise self.failureException('\n'.join((str(why), *self.history[-6:]))) from why
        finally:
            if os.path.exists(self.path('target')):
                os.unlink(self.path('target'))

    def end(self):
        """The next writer; then nothing is left that is no point, and each point is good."""
        if len(self.truth[self.repository]) >= POINTS_MAX:
            self.must('point-prune', 'g', '--keep-last', '3')
        self.truth[self.repository][self.create()['id']] = bytes(self.data)
        self.assert_clean()
        self.must('point-copy', '--all', '--to', self.other)
        for repository in self.truth:
            for point in self.listed(repository):
                self.truth[repository].setdefault(point, self.truth[self.repository].get(point))
                self.assert_point_holds(repository, point)
            self.must('point-verify', '--all', '--repository', repository)
            self.must('repository-check', '--read-data', '--repository', repository)

    def print_coverage(self):
        rows = collections.defaultdict(dict)
        for (name, call, fault), count in sorted(self.struck.items()):
            rows[name].setdefault(call, []).append(f'{fault} {count}')
        print(f'seed {self.seed}, {self.count} commands; faults that struck:')
        for name, calls in rows.items():
            for call, faults in calls.items():
                print(f'  {name:17} {call:10} {", ".join(faults)}')
        pairs = {(name, call) for name in COMMANDS for call in ERRORS}
        missing = sorted(f'{name} {call}' for name, call in pairs - self.uncalled if call not in rows[name])
        print(f'  of {len(pairs)} pairs {len(self.uncalled & pairs)} do not occur; not struck: {len(missing)}: {", ".join(missing) or "-"}', flush=True)

    def run_seed(self, count):
        for number in range(count):
            self.step(number)
        self.end()
        self.print_coverage()

    def test_drawn_commands_and_faults_leave_every_point_as_it_was(self):
        self.run_seed(self.count)
        self.assertTrue(any(fault != 'none' for _, _, fault in self.struck), 'no fault struck')

    def test_seeds_that_found_something_once(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                self.doCleanups()
                self.setUp()
                self.seed = seed
                self.random.seed(seed)
                self.run_seed(8)

    def test_a_point_that_is_not_what_it_was_is_noticed(self):
        """The negative control: a byte of an image."""
        made = self.create()
        self.truth[self.repository][made['id']] = bytes(self.data)
        self.assert_point_holds(self.repository, made['id'])
        self.truth[self.repository][made['id']] = bytes(self.data[:-1]) + b'\x01'
        with self.assertRaises(AssertionError):
            self.assert_point_holds(self.repository, made['id'])
        self.truth[self.repository]['gone'] = b''
        with self.assertRaisesRegex(AssertionError, 'lost'):
            self.assert_none_lost(self.repository, self.listed(self.repository), 'point-verify', ('gone',))


if __name__ == '__main__':
    unittest.main()
