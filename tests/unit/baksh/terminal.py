#!/usr/bin/env python3
"""Names, messages and documents may come from a guest that was taken over: no control character reaches the terminal."""
import json
import re

from commands_list import LINES
from harness import check, contains, main, run

HOSTILE = '\x1b]0;owned\x07\x1b[2J\r\x08A\x7f\u009b31m\u202eB\u2066C\tD\nE'


def harmless(text):
    return not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]', text)


def test_no_command_prints_control_characters():
    for line in LINES:
        for more in [], ['--json']:
            result = run(*line.split(), *more, text=HOSTILE, findings=1, events=6)
            for name, stream in ('out', result.out), ('err', result.err):
                # the progress of blockjob is virsh's own \\r
                assert harmless(stream.removeprefix('\r')), f'{line} {more}: {name}: {stream!r}'


def test_the_text_is_still_there_escaped():
    contains(run('dominfo', 'web', text=HOSTILE).out, '\\x1b]0;owned\\x07')
    check(json.loads(run('dominfo', 'web', '--json', text=HOSTILE).out)['name'], HOSTILE)


def test_an_error_stays_on_its_line():
    result = run('dominfo', 'web', error='domain_info:14:first\nerror: forged\x1b[31m')
    check(result.err, 'error: first\\x0aerror: forged\\x1b[31m\n')


def test_what_the_user_typed_is_escaped_too():
    result = run('dominfo', '\x1b[2J')
    assert harmless(result.err), result
    assert harmless(run('\x1b[2J').err)


def test_bytes_that_are_not_utf8_are_refused_or_shown():
    result = run('dominfo', b'\xff\xfe'.decode(errors='surrogateescape'))
    check(result.status, 2)


main(globals())
