#!/usr/bin/env python3
"""--wait and backup-wait: progress, time-outs, Ctrl-C."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

from harness import BAKSH, URI, check, contains, environment, main, run


def start(*words, terminal=False, columns=80, **fake):
    """The shell in the background; reads its standard error."""
    log = tempfile.mktemp()
    env = environment({**fake, 'log': log})
    if terminal:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('4H', 24, columns, 0, 0))
        process = subprocess.Popen([BAKSH, '-c', URI, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=env)
        os.close(slave)
    else:
        process = subprocess.Popen([BAKSH, '-c', URI, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        master = process.stderr.fileno()
    return process, master, log


def read_until(fd, pattern, seconds=20):
    text, deadline = '', time.monotonic() + seconds
    while not re.search(pattern, text):
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        try:
            part = os.read(fd, 4096) if ready else b''
        except OSError:         # the terminal's other end has gone
            part = b''
        if not part:
            raise AssertionError(f'{pattern!r} did not come in\n{text}')
        text += part.decode()
    return text


def calls(log):
    return open(log).read() if os.path.exists(log) else ''


def test_a_line_a_second_without_a_terminal():
    begun = time.monotonic()
    result = run('backup-wait', 'web', states='running,' * 6 + 'completed')
    seconds = time.monotonic() - begun
    check(result.status, 0, result)
    lines = [line for line in result.err.splitlines() if line]
    assert abs(len(lines) - seconds) <= 1.5, f'{len(lines)} lines in {seconds} s:\n{result.err}'
    for line in lines:
        assert re.fullmatch(r'web: \d+\.\d %, [\d.]+ (B|[KMGT]iB) of [\d.]+ GiB, [\d.]+ (B|[KMGT]iB)/s(, .* left)?', line), line
    check(result.out, 'Backup completed\n\n')


def test_a_bar_on_a_terminal():
    process, fd, _ = start('backup-wait', 'web', terminal=True, states='running')
    text = read_until(fd, r'\rweb \[#+-+\] \d+\.\d %.*\r')
    process.kill()
    process.wait()
    assert '\n' not in text.strip(), text


def bar_of(columns, name='web', pattern=r' left\x1b\[K\r'):
    # the first bar of a terminal of so many columns that matches
    process, fd, _ = start('backup-wait', 'web', terminal=True, columns=columns, states='running', domain=name)
    try:
        text = read_until(fd, pattern)
    finally:
        process.kill()
        process.wait()
    return re.findall(r'([^\r]*)\x1b\[K', text)[-1]


def test_a_bar_fits_the_terminal_and_keeps_guest_and_time_left():
    for columns in (200, 80, 60, 40):
        bar = bar_of(columns)
        assert len(bar) < columns, f'{len(bar)} of {columns}: {bar}'
        assert re.fullmatch(r'web \[#*-+\] \d+\.\d %.*, \d+ (s|min \d+ s) left', bar), bar
    assert ' of ' in bar_of(80) and '/s' in bar_of(80)      # all of it has room where most people are
    assert '/s' not in bar_of(40)


def test_a_bar_goes_before_the_time_left_does():
    bar = bar_of(30)
    assert len(bar) < 30, bar
    assert re.fullmatch(r'web: \d+\.\d %, \d+ (s|min \d+ s) left', bar), bar


def test_a_long_name_is_cut_and_the_time_left_is_not():
    bar = bar_of(80, 'a-guest-with-a-name-that-nobody-would-want-to-type-twice-in-a-day')
    assert len(bar) < 80, bar
    assert re.fullmatch(r'a-guest-with-[a-z-]*\.\.\. \[#*-+\] \d+\.\d %.*, \d+ (s|min \d+ s) left', bar), bar


def test_a_line_fits_80_columns():
    name = 'a-guest-with-a-name-that-nobody-would-want-to-type-twice-in-a-day'
    lines = run('backup-wait', 'web', states='running,' * 8 + 'completed', domain=name).err.splitlines()
    assert lines and all(len(line) <= 80 and '...: ' in line for line in lines), lines


def test_a_quiet_shell_shows_no_progress():
    result = run('backup-wait', 'web', options=['-q'], states='running,running,running,completed')
    check((result.status, result.err), (0, ''))


def test_a_pull_shows_that_it_is_ready():
    contains(run('backup-wait', 'web', pull=1, states='ready,ready,ready,ready,completed').err, 'web: ready, scratch 64.0 KiB\n')


def test_the_wait_ends_at_its_timeout_and_the_job_goes_on():
    begun = time.monotonic()
    result = run('backup-wait', 'web', '--timeout', '0.6', states='running')
    assert 0.5 < time.monotonic() - begun < 5
    check(result.status, 1)
    contains(result.err, 'error: backup 0a1b2c3d has not ended in time; it goes on\n')
    assert not [name for name, _ in result.log if name in ('backup_stop', 'job_abort')]


def test_one_ctrl_c_ends_the_wait_and_says_how_to_go_on():
    process, fd, log = start('backup-begin', 'web', '--wait', states='running')
    read_until(fd, r'web: \d')
    process.send_signal(signal.SIGINT)
    text = read_until(fd, 'again within')
    contains(text, f'baksh -c {URI} backup-wait web 0a1b2c3d\n' if "'" not in text else f"baksh -c '{URI}' backup-wait web 0a1b2c3d\n")
    contains(text, 'backup-stop web --abort\n')
    check(process.wait(20), 130)
    assert 'backup_stop' not in calls(log)


def test_a_second_ctrl_c_aborts_the_job():
    process, fd, log = start('backup-wait', 'web', states='running')
    read_until(fd, r'web: \d')
    process.send_signal(signal.SIGINT)
    read_until(fd, 'again within')
    process.send_signal(signal.SIGINT)
    contains(read_until(fd, 'aborted'), "backup 0a1b2c3d of 'web' was aborted")
    check(process.wait(20), 130)
    contains(calls(log), 'backup_stop "0a1b2c3d 1"')


def test_ctrl_c_outside_a_wait_ends_the_shell():
    process, fd, _ = start('event', '--loop', '--timestamp', events=1)
    assert b'received' not in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    check(process.wait(20), 130)
    contains(process.stdout.read().decode(), 'event loop interrupted\nevents received: 1\n')


def test_begin_and_wait_print_one_json_document():
    result = run('backup-begin', 'web', '--wait', '--json', states='running,running,completed')
    check((result.status, result.json()['state']), (0, 'completed'))
    result = run('backup-begin', 'web', '--wait', '--json', states='running,failed')
    check((result.status, result.json()['state']), (3, 'failed'))


def test_a_connection_that_breaks_while_waiting_is_5():
    check(run('backup-wait', 'web', error='backup_wait:12:the daemon has gone', states='running').status, 5)


main(globals())
