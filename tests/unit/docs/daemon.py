#!/usr/bin/env python3
"""What is written about the daemon: options and keys as the program has them, examples that it takes, numbers of the sources, units."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT, BUILD = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
sys.path.insert(0, str(ROOT / 'tests/unit/baksh'))
from harness import check, contains, main  # noqa: E402

DAEMON = BUILD / 'tools/libbackupd/libbackupd'
PAGE = (ROOT / 'docs/man/libbackupd.8').read_text().replace('\\-', '-')


def daemon(*words):
    return subprocess.run([DAEMON, *words], capture_output=True, text=True, timeout=60, env={**os.environ, 'LC_ALL': 'C.UTF-8'})


def check_config(text):
    with tempfile.NamedTemporaryFile('w') as file:
        file.write(text)
        file.flush()
        return daemon('--config', file.name, '--config-check')


def section(name):
    return PAGE.split(f'.SH {name}\n')[1].split('\n.SH ')[0]


def source(*paths):
    return '\n'.join((ROOT / path).read_text() for path in paths)


def document(name):
    return (ROOT / 'docs' / name).read_text()


def test_options_in_the_page_are_those_of_the_program():
    shown = set(re.findall(r'^  (?:-\w, )?--([a-z-]+)', daemon('--help').stdout, re.M))
    assert len(shown) >= 12, shown
    check(set(re.findall(r'--([a-z-]+)', '\n'.join(re.findall(r'^\.TP\n(.*)', section('OPTIONS'), re.M)))), shown)


def test_keys_in_the_page_are_those_of_the_program():
    done = check_config('nosuch = 1\n')
    check(done.returncode, 1)
    known = set(done.stderr.split('there are: ')[1].strip().split(', '))
    assert len(known) >= 15, known
    check(set(re.findall(r'[a-z0-9]+(?:_[a-z0-9]+)*', ' '.join(re.findall(r'^\.TP\n\.BR? (.*)', section('CONFIGURATION'), re.M)))), known)
    for key in known:
        if key != 'listen_tls':         # needs certificates
            value = {'policy_file': ROOT / 'docs/meson.build', 'audit_log': 'no', 'polkit': 'yes'}.get(key, '7')
            check(check_config(f'{key} = {value}\n').returncode, int(key == 'policy_file'), key)


def test_defaults_in_the_page_are_those_of_the_sources():
    limits = dict(re.findall(r'\.(max_\w+) = (\d+)', source('src/remote/server.c')))
    keep = re.search(r'RECORD_KEEP_DEFAULT = (\d+)', source('src/job/record.h'))[1]
    for key, value in (('max_peers', limits['max_peers']), ('max_anonymous_peers', limits['max_anonymous']), ('keep_jobs', keep)):
        assert re.search(rf'\.B {key}\n(?:[^.].*\n)*.*\b{value}\b', PAGE), f'{key} {value}'


def test_the_policy_that_is_shown_is_a_policy():
    example = re.search(r'^```\n(# identity.*?)^```', document('access.md'), re.M | re.S)[1]
    with tempfile.NamedTemporaryFile('w') as file:
        file.write(example)
        file.flush()
        check(check_config(f'policy_file = {file.name}\n').returncode, 0)
        file.write('anna * see\n')
        file.flush()
        done = check_config(f'policy_file = {file.name}\n')
    check(done.returncode, 1)
    said = set(re.search(r'verbs ([a-z, ]+)', done.stderr)[1].split(', '))
    check(set(re.findall(r'^\| `(\w+)` \|', document('access.md'), re.M)) | {'all'}, said)


def test_rows_that_are_shown_are_in_the_sources():
    blocks = re.findall(r'^ *```c\n(.*?)^ *```', document('adding-a-call.md'), re.M | re.S)
    check(len(blocks), 7)
    listed = re.findall(r'^CALL \(\d+, +(\w+),.*CALL_GUEST', source('src/driver/calls.def'), re.M)
    for table in ('src/driver/qemu/qemu.c', 'src/driver/libvirt/driver.c'):
        for call in re.findall(r'ON_GUEST \((\w+),', source(table)):
            assert call in listed, f'{table} routes {call} by a guest, which its row does not name'
    sources = ' '.join(source('src/driver/calls.def', 'src/driver/calls.x', 'include/libbackup/backup.h', 'src/remote/table.c',
                              *[path.relative_to(ROOT) for path in (ROOT / 'src/driver').glob('*/*.c')]).split())
    for block in blocks:
        assert ' '.join(block.split()) in sources, block


def test_numbers_of_the_protocol_are_those_of_the_sources():
    text, peer, server, events = document('protocol.md'), source('src/remote/peer.c'), source('src/remote/server.c'), source('src/remote/calls-event.c')
    limits = {name: eval(value) for name, value in re.findall(r'\.(\w+) = ([\d *]+)', server.split('server_default_limits = {')[1].split('}')[0])}
    for name, words in {'open_seconds': 'time to open | {} s', 'half_seconds': 'replies to be read | {} s', 'max_in_work': 'calls of a connection in work | {} ',
                        'max_per_guest': 'calls of a guest in work | {} ', 'max_peers': 'connections | {},', 'max_anonymous': 'of them {} not open'}.items():
        contains(text, words.format(limits[name]))
    check(limits['max_queued'], 4 << 20)
    constants = {name: eval(value) for name, value in re.findall(r'\b([A-Z_]+) = (\d[\d *+]*)', peer)}
    for name, value in {'MAX_PACKET_BEFORE_OPEN': 64 << 10, 'MAX_PACKET': (4 << 20) + (64 << 10), 'REPLIES_QUEUED_MAX': 256 << 10, 'MAX_REGISTRATIONS': 1024,
                        'KEEPALIVE_SECONDS': 5, 'KEEPALIVE_COUNT': 5}.items():
        check(constants[name], value, name)
    ids, messages = (dict(re.findall(rf'{word}_(\w+) = (\d+)', events)) for word in ('EVENT_ID', 'MESSAGE'))
    check({(number, message) for number, message in re.findall(r'^\| (\d+) [a-z0-9 ]+ \| (\d+) \|', text, re.M)},
          {(ids[name], messages[name]) for name in messages})


def units(folder):
    """The units with a program that is there, as systemd-analyze wants it."""
    for path in (BUILD / 'data/libbackupd.service', *sorted((ROOT / 'data/systemd').glob('*.socket'))):
        (folder / path.name).write_text(re.sub(r'^ExecStart=\S+', f'ExecStart={DAEMON}', path.read_text(), flags=re.M))
    for path in (BUILD / 'data/libbackup-run@.service', ROOT / 'data/systemd/libbackup-run@.timer', ROOT / 'examples/night/libbackup-failed@.service'):
        (folder / path.name.replace('@', '@nightly')).write_text(re.sub(r'^ExecStart=\S+/baksh', f'ExecStart={pathlib.Path(sys.argv[1]).resolve()}', path.read_text(), flags=re.M))
    return sorted(str(path) for path in folder.iterdir())


def analyze(*words):
    done = subprocess.run(['systemd-analyze', *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_units_are_right_and_closed():
    if not shutil.which('systemd-analyze'):
        print('systemd-analyze is not installed')
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        paths = units(folder)
        check(len(paths), 6)
        check(analyze('verify', '--man=no', *paths), (0, ''))
        service = folder / 'libbackupd.service'
        level = lambda: analyze('security', '--offline=yes', '--threshold=40', str(service))    # noqa: E731
        check(level()[0], 0)
        # both checks can fail
        service.write_text(service.read_text().replace('NoNewPrivileges=yes', '').replace('CapabilityBoundingSet', 'X-Bounding').replace('SystemCall', 'X-'))
        check(level()[0], 1)
        service.write_text(service.read_text().replace('KillMode=process', 'KillMode=sometimes'))
        assert 'sometimes' in analyze('verify', '--man=no', str(service))[1]


def test_units_say_what_the_program_expects():
    service = (BUILD / 'data/libbackupd.service').read_text()
    for line in ('KillMode=process', 'Type=notify', 'NoNewPrivileges=yes', 'StateDirectory=libbackup'):
        contains(service, f'\n{line}\n')
    files = source('src/util/config.c', 'tools/libbackupd/daemon.c')
    for unit in ('libbackupd', 'libbackupd-ro'):
        path = re.search(r'ListenStream=(\S+)', (ROOT / f'data/systemd/{unit}.socket').read_text())[1]
        assert f'"{path}"' in files or path.endswith('-ro.sock') and '"-ro.sock"' in files, path
        contains(PAGE, path)
    contains(files, '"libbackup"')
    assert re.search(r'^g libbackup ', (ROOT / 'data/systemd/libbackup.sysusers.conf').read_text(), re.M)
    contains((ROOT / 'data/systemd/libbackupd.socket').read_text(), 'SocketGroup=libbackup\n')


main(globals())
