#!/usr/bin/env python3
"""The shell on a terminal: prompt, completion, history, Ctrl-C, quit."""
import os
import pathlib
import pty
import re
import select
import tempfile
import time

from harness import BAKSH, URI, check, contains, environment, main


class Terminal:
    def __init__(self, folder, *options, **fake):
        env = environment(fake)
        env.update(TERM='dumb', INPUTRC='/dev/null', XDG_CACHE_HOME=folder, HOME=folder)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(BAKSH, [BAKSH, '-c', URI, *options], env)
        self.text = ''

    def wait_for(self, pattern, seconds=20):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            try:
                part = os.read(self.fd, 4096).decode() if ready else ''
            except OSError:
                part = ''
            assert part, f'{pattern!r} did not come in\n{self.text!r}'
            self.text += part
        got, self.text = self.text, ''
        return got

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


def test_a_session_from_prompt_to_quit():
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(folder)
        contains(terminal.wait_for('baksh # $'), "Type:  'help' for help with commands")
        terminal.type('domst\t')
        terminal.wait_for('domstate $')
        terminal.type('w\t')
        terminal.wait_for('eb $')
        terminal.type('\n')
        contains(terminal.wait_for('baksh # $'), 'running\r\n')
        terminal.type('nosuch\n')
        contains(terminal.wait_for('baksh # $'), "error: unknown command: 'nosuch'")
        terminal.type('backup-begin web --mo')
        terminal.wait_for('--mo$')
        terminal.type('\t')
        terminal.wait_for('de $')
        terminal.type('pul\t')
        terminal.wait_for('pull $')
        terminal.type('\x03')                       # drops the line, not the session
        terminal.wait_for('baksh # $')
        for _ in range(30):                         # at whatever the shell is doing with the key before
            terminal.type('domst\t')
            terminal.type('\x03')
            terminal.wait_for('baksh # $')
        terminal.type('quit\n')
        check(terminal.end(), 0)
        history = pathlib.Path(folder) / 'libbackup/baksh-history'
        check(history.read_text(), 'domstate web \nnosuch\nquit\n')
        check(history.stat().st_mode & 0o777, 0o600)
        # and the next session remembers
        terminal = Terminal(folder, '-r')
        terminal.wait_for('baksh > $')
        terminal.type('\x10\x10\x10\n')             # three back
        contains(terminal.wait_for('running\r\n[^>]*> $'), 'domstate web')
        terminal.type('\x04')
        check(terminal.end(), 0)


def test_completion_takes_the_command_under_the_cursor():
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(folder, '-q')
        terminal.wait_for('baksh # $')
        terminal.type('domstate web; checkpoint-in\t')
        terminal.wait_for('checkpoint-info $')
        terminal.type('web c4\n')
        terminal.wait_for('Name:           c4\r\n[^#]*# $')
        terminal.type('exit\n')
        check(terminal.end(), 0)


def test_ctrl_c_in_a_wait_comes_back_to_the_prompt():
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(folder, states='running')
        terminal.wait_for('baksh # $')
        terminal.type('backup-wait web\n')
        terminal.wait_for(r'\[[#-]+\]')                 # the bar: it waits
        terminal.type('\x03')
        terminal.wait_for('again within[^#]*# $')       # when no second one came
        terminal.type('quit\n')
        check(terminal.end(), 0)


main(globals())
