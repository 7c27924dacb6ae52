#!/usr/bin/python3
"""Run the live tests, on any number of QEMU versions, some at a time.

    run.py [--qemu VERSION]… [--jobs N] [--list] [--totals FILE] [WORD…]

WORD picks the tests whose "file.Class.method" contains it; --qemu may be given several times, or be "all".
A class is one unit of work and runs in a process of its own. What a class may say about itself:
    versions = ('7.2',)     the only versions that it is for (default: all)
    alone = True            measures time, so nothing else may run meanwhile
    pick (version, methods) those of its methods that are for this version (default: all)
The last line is "N passed, N failed, N skipped"; the exit status is 1 if any failed or none ran.
"""
import argparse
import collections
import glob
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import bed  # noqa: E402

CLASS_TIMEOUT = 1500

Work = collections.namedtuple('Work', 'version module cls alone words')


def find(words, without=()):
    """[(module, class, [methods])] with the picked methods."""
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, 'test_*.py'))):
        module = os.path.basename(path)[:-3]
        for name, cls in sorted(vars(importlib.import_module(module)).items()):
            if isinstance(cls, type) and issubclass(cls, unittest.TestCase) and cls.__module__ == module:
                methods = [m for m in unittest.TestLoader().getTestCaseNames(cls)
                           if (not words or any(w in f'{module}.{name}.{m}' for w in words))
                           and not any(w in f'{module}.{name}.{m}' for w in without)]
                if methods:
                    found.append((module, cls, methods))
    return found


class Result(unittest.TestResult):
    """One JSON line a test, on the file descriptor that the parent reads."""

    def __init__(self, out):
        super().__init__()
        self.out, self.trouble, self.reason = out, [], None

    def startTest(self, test):
        super().startTest(test)
        self.trouble, self.reason, self.begin = [], None, time.monotonic()

    def addError(self, test, err):
        self.trouble.append(''.join(traceback.format_exception(*err)))
        if isinstance(test, unittest.suite._ErrorHolder):       # setUpClass and the like
            self._say('failed', str(test), 0)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err:
            self.trouble.append(f'{subtest}\n' + ''.join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.reason = reason

    def addUnexpectedSuccess(self, test):
        self.trouble.append('unexpected success')

    def stopTest(self, test):
        outcome = 'failed' if self.trouble else 'skipped' if self.reason is not None else 'passed'
        self._say(outcome, test.id(), time.monotonic() - self.begin)
        super().stopTest(test)

    def _say(self, outcome, name, took):
        print(json.dumps({'outcome': outcome, 'name': name, 'took': round(took, 1),
                          'why': self.reason if outcome == 'skipped' else '\n'.join(self.trouble)}), file=self.out, flush=True)


def child(spec, fd):
    module, cls, *methods = spec
    made = getattr(importlib.import_module(module), cls)
    suite = unittest.TestSuite(made(m) for m in methods if hasattr(made, m))        # a class may have fewer on some versions
    with os.fdopen(fd, 'w') as out:
        suite.run(Result(out))


class Runner:
    def __init__(self):
        self.lock = threading.Lock()
        self.count = collections.Counter()
        self.failed = []
        self.reasons = collections.Counter()

    def report(self, version, one, output=''):
        with self.lock:
            self.count[one['outcome']] += 1
            mark = {'passed': 'ok  ', 'failed': 'FAIL', 'skipped': 'skip'}[one['outcome']]
            why = f': {one["why"]}' if one['outcome'] == 'skipped' else ''
            print(f'{mark} {version:>4} {one["name"]} ({one["took"]} s){why}', flush=True)
            if one['outcome'] == 'failed':
                self.failed.append(f'{version} {one["name"]}')
                print('     ' + one['why'].rstrip().replace('\n', '\n     '), flush=True)
            for line in output.splitlines():
                print(f'     {line}', flush=True)

    def run(self, work):
        reading, writing = os.pipe()
        argv = [sys.executable, os.path.abspath(__file__), '--child', str(writing), work.module, work.cls.__name__, *work.words]
        process = subprocess.Popen(argv, pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors='replace', cwd=HERE,
                                   env={**os.environ, 'QEMU_VERSION': work.version}, start_new_session=True)
        os.close(writing)
        timer = threading.Timer(CLASS_TIMEOUT * bed.SLOW, lambda: os.killpg(process.pid, signal.SIGKILL))
        timer.start()
        output = io.StringIO()
        reader = threading.Thread(target=lambda: output.write(process.stdout.read()))
        reader.start()
        seen = set()
        with os.fdopen(reading) as lines:
            for line in lines:
                one = json.loads(line)
                seen.add(one['name'].rpartition('.')[2])
                self.report(work.version, one)
        process.wait()
        timer.cancel()
        reader.join(10)
        if output.getvalue().strip():
            with self.lock:
                print(f'---- {work.version:>4} {work.module}.{work.cls.__name__} printed:\n{output.getvalue().rstrip()}\n----', flush=True)
        lost = [m for m in work.words if m not in seen]
        if lost and process.returncode:
            for m in lost:
                self.report(work.version, {'outcome': 'failed', 'name': f'{work.module}.{work.cls.__name__}.{m}', 'took': 0,
                                           'why': f'the test process ended with {process.returncode}'})

    def run_all(self, works, jobs):
        waiting = collections.deque(w for w in works if not w.alone)

        def serve():
            while True:
                with self.lock:
                    if not waiting:
                        return
                    work = waiting.popleft()
                self.run(work)
        threads = [threading.Thread(target=serve) for _ in range(jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for work in works:
            if work.alone:
                self.run(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--qemu', action='append', help='QEMU version, or "all" (default: QEMU_VERSION or 7.2)')
    parser.add_argument('--jobs', type=int, default=min(4, (os.cpu_count() or 1) + 1))      # they wait much
    parser.add_argument('--without', action='append', default=[], metavar='WORD', help='leave out the tests that contain it')
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--totals', help='append "passed failed skipped" to this file')
    parser.add_argument('word', nargs='*')
    options = parser.parse_args()
    versions = options.qemu or [bed.qemu_version()]
    if 'all' in versions:
        versions = list(bed.KNOWN_VERSIONS)
    works = []
    for module, cls, methods in find(options.word, options.without):
        for v in versions:
            picked = cls.pick(v, methods) if hasattr(cls, 'pick') else methods
            if picked and v in getattr(cls, 'versions', versions):
                works.append(Work(v, module, cls, getattr(cls, 'alone', False), picked))
    if options.list:
        for w in works:
            for m in w.words:
                print(f'{w.version:>4} {w.module}.{w.cls.__name__}.{m}')
        return 0
    runner = Runner()
    begin = time.monotonic()
    runner.run_all(works, options.jobs)
    c = runner.count
    print(f'live tests on QEMU {" ".join(versions)}: {c.total()} in {time.monotonic() - begin:.0f} s')
    for name in runner.failed:
        print(f'failed: {name}')
    if options.totals:
        with open(options.totals, 'a') as f:
            print(c['passed'], c['failed'], c['skipped'], file=f)
    else:
        print(f'{c["passed"]} passed, {c["failed"]} failed, {c["skipped"]} skipped', flush=True)
    return 1 if c['failed'] or not c['passed'] + c['failed'] else 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['--child']:
        child(sys.argv[3:], int(sys.argv[2]))
    else:
        sys.exit(main())
