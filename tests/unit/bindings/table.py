#!/usr/bin/env python3
"""One table of calls, walked in C, Python and Go, on test:///default and through a daemon: table.py API.JSON BUILD [go].

Every language says the same of every step, and what it says is what tests/data/calls.json expects. Every function of the headers is in
the table, or in LEFT_OUT with the reason.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / 'walk'))
import plan  # noqa: E402

API, ROWS = plan.read(sys.argv[1])
BUILD, HERE = pathlib.Path(sys.argv[2]), pathlib.Path(__file__).parent / 'walk'
LEFT_OUT = {
    'bak_connection_domain_event_register_any': 'a callback: the suite of each language', 'bak_log_set_callback': 'a callback: the suite of each language',
    'bak_configuration_read': 'of this host and no guest: the tests of the night', 'bak_configuration_state_dir': 'of this host and no guest: the tests of the night',
    'bak_point_export': 'files of other tools: the tests of points', 'bak_repository_import_points': 'files of other tools: the tests of points',
    'bak_point_diff': 'a callback: the tests of points', 'bak_point_serve': 'ends only by its cancellation: the tests of points'}
# what differs from run to run, by the getter's name
VOLATILE = {'id', 'started', 'ended', 'elapsed', 'created', 'instant', 'frozen_time', 'uuid', 'guest_uuid', 'owner', 'time', 'cpu_time', 'pid', 'root', 'verified', 'duration', 'stored',
            'file_size', 'time_elapsed', 'finished', 'read'}
CODES = {value['short']: value['value'] for value in API['enums']['BakErrorCode']['values']}
SIZE, DATA, BLOCK = 16 << 20, 2 << 20, 4096
ENV = {**os.environ, 'LC_ALL': 'C.UTF-8', 'LD_LIBRARY_PATH': f'{BUILD}/src', 'PYTHONPATH': f'{BUILD}/bindings/python', 'PYTHONDONTWRITEBYTECODE': '1'}
for name in 'LIBBACKUP_REPOSITORY', 'LIBBACKUP_DEFAULT_URI', 'LIBBACKUP_DRIVER_DIR':
    ENV.pop(name, None)
checks, failures = 0, []


def check(ok, *words):
    global checks
    checks += 1
    if not ok:
        failures.append(' '.join(map(str, words)))
    return ok


# the walkers

def build_c(folder):
    source = folder / 'walk.c'
    source.write_text(subprocess.run([sys.executable, HERE / 'walk_c.py', folder / 'plan.json'], capture_output=True, text=True, check=True).stdout)
    subprocess.run(['cc', '-std=gnu11', '-Wall', '-Werror', '-Wno-unused-function', source, f'-I{plan.ROOT}/include', f'-L{BUILD}/src', '-lbackup', '-o', folder / 'walk-c'], check=True)
    return [str(folder / 'walk-c')]


def build_python(folder):
    if not (BUILD / 'bindings/python/libbackup/_ffi.abi3.so').exists():
        return None
    return ['/usr/bin/python3', str(HERE / 'walk.py'), str(folder / 'plan.json')]


def build_go(folder):
    if sys.argv[3:] != ['go'] or not shutil.which('go'):
        return None
    (folder / 'lib').mkdir()
    (folder / 'walk').mkdir()
    for name in ('api.go', 'base.go', 'callbacks.c', 'callbacks.h', 'go.mod'):
        shutil.copy(BUILD / 'bindings/go/libbackup' / name, folder / 'lib')
    shutil.copy(HERE / 'main.go', folder / 'walk')
    (folder / 'walk/go.mod').write_text('module walk\n\ngo 1.18\n\nrequire libbackup.org/go/libbackup v0.0.0\n\nreplace libbackup.org/go/libbackup => ../lib\n')
    env = {**ENV, 'GOFLAGS': '-mod=mod', 'GOPROXY': 'off', 'GOSUMDB': 'off', 'GO111MODULE': 'on', 'GOCACHE': f'{BUILD}/go-cache', 'PKG_CONFIG_PATH': f'{BUILD}/meson-uninstalled'}
    subprocess.run(['go', 'vet', './...'], cwd=folder / 'walk', env=env, check=True)
    subprocess.run(['go', 'build', '-o', folder / 'walk-go', '.'], cwd=folder / 'walk', env=env, check=True)
    return [str(folder / 'walk-go'), str(folder / 'plan.json')]


# the places

def make_disk(path, target):
    raw = f'{path}.raw'
    with open(raw, 'wb') as file:
        for number in range(DATA // BLOCK):
            line = b'libbackup test disk %s block %06d\n' % (target.encode(), number)
            file.write((line * (BLOCK // len(line) + 1))[:BLOCK])
        file.truncate(SIZE)
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path], check=True)
    os.unlink(raw)


@contextlib.contextmanager
def process(*words, **keywords):
    child = subprocess.Popen(words, **keywords)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def at_test(folder):
    yield 'test:///default'


@contextlib.contextmanager
def at_daemon(folder):
    """The same disks, in an engine that is attached to a daemon."""
    os.makedirs(f'{folder}/engine')
    words = ['qemu-storage-daemon']
    for target in 'vda', 'vdb':
        make_disk(f'{folder}/engine/{target}.qcow2', target)
        words += ['--blockdev', f'qcow2,node-name={target},file.driver=file,file.filename={folder}/engine/{target}.qcow2,file.node-name={target}-file']
    monitor, told = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    monitor.bind(f'{folder}/engine/qmp')
    monitor.listen()
    told.bind(f'{folder}/engine/told')
    told.settimeout(60)
    words += ['--chardev', f'socket,id=m,fd={monitor.fileno()},server=on,wait=on', '--monitor', 'chardev=m']
    env = {**ENV, 'NOTIFY_SOCKET': f'{folder}/engine/told'}
    uri = f'qemu+unix:///system?socket={folder}/engine/socket'
    with process(*words, pass_fds=[monitor.fileno()], stderr=subprocess.DEVNULL), \
            process(BUILD / 'tools/libbackupd/libbackupd', '--socket', f'{folder}/engine/socket', '--state-dir', f'{folder}/state', env=env, stderr=subprocess.DEVNULL):
        while b'READY=1' not in told.recv(4096):
            pass
        subprocess.run([BUILD / 'tools/baksh/baksh', '-c', uri, 'attach', 'test', '--qmp', f'{folder}/engine/qmp'], env=ENV, check=True, stdout=subprocess.DEVNULL)
        yield uri
    monitor.close()
    told.close()


# what was said

def plain(thing, uri, folder, key=None):
    if isinstance(thing, dict):
        return {name: plain(part, uri, folder, name) for name, part in thing.items()}
    if isinstance(thing, list):
        return [plain(part, uri, folder, key) for part in thing]
    if key in VOLATILE and thing is not None:
        return '*'
    if not isinstance(thing, str):
        return thing
    text = thing.replace(uri, '$URI').replace(str(folder), '$DIR')
    for pattern, name in ((r'/[^\s"\'<>]*libbackup-test-[^/\s"\'<>]+', '$DIR'), (r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}', '$UUID'), (r'\b(?=[0-9a-z]*\d)[0-9a-z]{8,32}\b', '$ID'),
                          (r'[12]\d{3}-?\d\d-?\d\dT[\d:.]+Z?', '$TIME'), (r'<creationTime>\d+', '<creationTime>$TIME'), (r'\bpid \d+', 'pid $PID')):
        text = re.sub(pattern, name, text)
    return text


def holds(said, wanted):
    """All that is wanted is there; lists have as many."""
    if isinstance(wanted, dict):
        return isinstance(said, dict) and all(name in said and holds(said[name], part) for name, part in wanted.items())
    if isinstance(wanted, list):
        return isinstance(said, list) and len(said) == len(wanted) and all(map(holds, said, wanted))
    return said == wanted and type(said) is type(wanted)


def expected(place, row, line, raw):
    fails = row.get('fails')
    code = fails.get(place) if isinstance(fails, dict) else fails
    if code is None:
        return 'error' not in line and ('gives' not in row or isinstance(fails, dict) or holds(line['result'], row['gives']))
    return 'error' in line and (code == '*' or line['error'][0] == CODES[code]) and row.get('says', '') in raw


def walk(place, at, walkers, folder):
    said = {}
    for language, words in walkers.items():
        own = folder / place / language
        own.mkdir(parents=True)
        with at(own) as uri:
            done = subprocess.run([*words, uri, str(own)], capture_output=True, text=True, timeout=300, env={**ENV, 'XDG_STATE_HOME': f'{own}/home', 'XDG_RUNTIME_DIR': f'{own}'})
        raw = done.stdout.splitlines()
        lines = [plain(json.loads(line), uri, own) for line in raw]
        check(done.returncode == 0 and len(lines) == len(ROWS), f'{place}: {language}: status {done.returncode} after {len(lines)} of {len(ROWS)} calls: {done.stderr[-2000:]}')
        for number, (row, line) in enumerate(zip(ROWS, lines)):
            check(row.get('any') or expected(place, row, line, raw[number]), f'{place}: {language}: step {number}: {row}\n    says {json.dumps(line)[:1500]}')
        said[language] = lines
    first = next(iter(said))
    for language, lines in said.items():
        for number, (row, one, other) in enumerate(zip(ROWS, said[first], lines)):
            if language != first and not row.get('any'):
                check(one == other, f'{place}: step {number}: {row}\n    {first} says {json.dumps(one)[:1500]}\n    {language} says {json.dumps(other)[:1500]}')
    return said[first]


def covered(transcripts):
    """Every function is walked: called, or a getter of what was shown."""
    called = {row['call'] for row in ROWS}
    seen = set()

    def look(thing):
        if isinstance(thing, dict):
            seen.add(frozenset(thing))
        for part in thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ():
            look(part)

    for lines in transcripts:
        look([line.get('result') for line in lines])
    for name, function in API['functions'].items():
        rule, of = function['rule'], function.get('of')
        if rule in ('count', 'hand') or of == 'BakError' or name in LEFT_OUT:
            continue
        if rule in ('property', 'items'):
            keys = frozenset(g['key'] for g in plan.getters(API, of))
            check(keys in seen or of in UNSHOWN, f'{name}: no {of} is shown by any step')
        else:
            check(name in called or name in {f.get('count') for f in API['functions'].values()}, f'{name} is not in the table: add a row to tests/data/calls.json')
    for name in LEFT_OUT:
        check(name in API['functions'] and name not in called, f'{name} is left out and there')


# handles that no step can have
UNSHOWN = {'BakEvent': 'only in a callback', 'BakFinding': 'there is nothing to find', 'BakGuestProcess': 'whatever runs on this host'}


def main():
    if not shutil.which('qemu-storage-daemon') or not shutil.which('qemu-img'):
        print('no qemu-storage-daemon')
        sys.exit(77)
    made = plan.make(API, ROWS)
    made['unref'] = [(name, handle['unref']) for name, handle in API['handles'].items() if handle.get('unref')]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / 'plan.json').write_text(json.dumps(made))
        walkers = {language: words for language, words in (('C', build_c(folder)), ('Python', build_python(folder)), ('Go', build_go(folder))) if words}
        covered([walk('test', at_test, walkers, folder), walk('daemon', at_daemon, walkers, folder)])
    print('\n'.join(failures))
    print(f'{len(ROWS)} calls at 2 places in {", ".join(walkers)}')
    print(f'{100 * (checks - len(failures)) // checks}%: Checks: {checks}, Failures: {len(failures)}, Errors: 0')
    sys.exit(bool(failures))


main()
