#!/usr/bin/env python3
"""docs/json.md names every key that --json prints, and none that it does not print."""
import json
import pathlib
import re
import sys

from json_doc import Document

ROOT = pathlib.Path(sys.argv[2])
sys.path.insert(0, str(ROOT / 'tests/unit/baksh'))
from commands_list import LINES  # noqa: E402
from harness import check, main, run  # noqa: E402

DOCUMENT = Document()


def test_every_document_has_the_keys_that_are_said():
    seen = set()
    # the fake has no images to tell of; test_json.py of the live tests has
    for line in [*(line for line in LINES if '--chain' not in line), 'event --list', 'backup-begin web --print-xml']:
        words = line.split()
        result = run(*words, '--json', events=1, findings=1)
        for text in result.out.splitlines() if words[0] == 'event' and '--list' not in words else [result.out]:
            check(DOCUMENT.differences(json.loads(text), DOCUMENT.shape_of(words)), [], line)
        seen.add(DOCUMENT.shape_of(words))
    assert len(seen) > 20, seen


def test_a_difference_is_seen():
    check(DOCUMENT.differences({}, '{uri}'), ['uri is missing'])
    check(DOCUMENT.differences({'uri': 1, 'more': 2}, '{uri}'), ['more is not documented'])
    check(DOCUMENT.differences({'domains': [{'id': 1, 'name': '', 'uuid': '', 'x': 0}]}, '{domains: [domain]}'),
          ['domains[0].state is missing', 'domains[0].x is not documented'])
    check(DOCUMENT.differences({'type': 'none', 'whatever': 0}, 'jobinfo'), [])


def test_every_command_that_takes_json_is_listed_and_every_object_is_used():
    names = re.findall(r'^    ([a-z-]+)  ', run('help').out, re.M)
    assert len(names) > 60, names
    for name in names:
        takes = '--json' in run('help', name).out
        check(name in DOCUMENT.commands, takes, name)
    for line in DOCUMENT.commands:
        assert line.split()[0] in names, line
    check(DOCUMENT.used() - set(DOCUMENT.objects), set(), 'not described')
    check(set(DOCUMENT.objects) - DOCUMENT.used(), set(), 'not used')


def test_an_error_is_a_document_too():
    for words, code, status in ((['dominfo', 'nosuch'], 'no-domain', 1), (['dominfo', 'web', '--nosuch'], 'invalid-argument', 2),
                                (['list', '--nosuch'], 'invalid-argument', 2), (['event', '--timeout', '0.1'], None, 1)):
        result = run(*words, '--json')
        document = result.json()
        check((result.status, document['status'], document['error_code']), (status, status, code), words)
        assert document['error'] and result.err.startswith('error: '), result
        check(run(*words, options=['-q']).out.startswith('{'), False, words)
    check(run('list', '--json', error='open:12:nobody answers').json(),
          {'error': 'failed to connect to the hypervisor: nobody answers', 'error_code': 'connection', 'status': 5})


def test_what_has_a_document_has_no_second_one():
    result = run('backup-wait', 'web', '--json', states='failed')
    check((result.status, result.json()['state']), (3, 'failed'))


def test_a_line_of_json_lines_has_a_type():
    check(run('backup-run', 'no-such-job', '--json-lines').json()['type'], 'error')


def test_an_event_is_a_line():
    lines = run('event', '--loop', '--timeout', '0.1', '--json', events=6).out.splitlines()
    check([json.loads(line)['event'] for line in lines], ['lifecycle', 'job-state', 'job-disk', 'progress', 'job-completed', 'warning'])


main(globals())
