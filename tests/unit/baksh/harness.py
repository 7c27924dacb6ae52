"""Runs the shell on the fake driver; tests are functions test_*, whose names are sentences."""
import json
import os
import subprocess
import sys
import tempfile
import traceback

BAKSH = sys.argv[1]
URI = 'libvirt+fake:///'


class Result:
    def __init__(self, status, out, err, log):
        self.status, self.out, self.err, self.log = status, out, err, log

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f'status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}'


def environment(fake):
    env = dict(os.environ)
    env.update({f'FAKE_{key.upper()}': str(value) for key, value in fake.items()})
    return env


def run(*words, uri=URI, stdin=None, options=(), env=None, **fake):
    """baksh -c URI WORDS; fake: what the driver shall do, as text='...' for FAKE_TEXT"""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, 'log')
        whole = environment({**fake, 'log': log})
        whole.update(env or {})
        command = [BAKSH, *(['-c', uri] if uri else []), *options, *words]
        done = subprocess.run(command, env=whole, input=stdin, capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL if stdin is None else None)
        calls = []
        if os.path.exists(log):
            with open(log) as lines:
                calls = [(name, json.loads(text)) for name, text in (line.split(' ', 1) for line in lines)]
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode(), calls)


def check(got, wanted, what=''):
    if got != wanted:
        raise AssertionError(f'{what}\n  got:    {got!r}\n  wanted: {wanted!r}')


def contains(text, part):
    if part not in text:
        raise AssertionError(f'{part!r} is not in\n{text}')


def main(tests):
    names = [name for name in tests if name.startswith('test_')]
    failed = 0
    for name in names:
        try:
            tests[name]()
            print(f'ok   {name}')
        except Exception:
            failed += 1
            print(f'FAIL {name}')
            traceback.print_exc(file=sys.stdout)
    print(f'{len(names) - failed} passed, {failed} failed')
    sys.exit(1 if failed or not names else 0)
