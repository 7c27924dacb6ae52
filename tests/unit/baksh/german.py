#!/usr/bin/env python3
"""The German catalogue is complete, right in form, and used."""
import pathlib
import re
import subprocess
import sys
import tempfile

from harness import check, contains, main, run

ROOT, LOCALE_DIR = pathlib.Path(sys.argv[2]), sys.argv[3]
LISTED = (ROOT / 'po/POTFILES').read_text().split()
GERMAN = {'LANGUAGE': 'de', 'LC_ALL': 'C.UTF-8', 'LIBBACKUP_LOCALE_DIR': LOCALE_DIR}


def tool(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}\n{done.stdout}{done.stderr}'
    return done.stderr


def test_every_message_of_the_shell_is_translated():
    with tempfile.TemporaryDirectory() as folder:
        now, shell = f'{folder}/now.pot', f'{folder}/files'
        pathlib.Path(shell).write_text('\n'.join(name for name in LISTED if name.startswith('tools/baksh/')))
        tool('xgettext', '--from-code=UTF-8', '--keyword=_', '--keyword=N_', f'--files-from={shell}', '--package-name=libbackup', '-o', now)
        assert pathlib.Path(now).read_text().count('\nmsgid ') > 350
        tool('msgcmp', 'po/de.po', now)


def test_formats_and_headers_are_right():
    contains(tool('msgfmt', '--check', '--statistics', '-o', '/dev/null', 'po/de.po'), 'translated messages.')


def test_every_file_with_a_translatable_text_is_listed():
    check(LISTED, sorted(set(LISTED)), 'po/POTFILES is not in order, or names a file twice')
    for source in sorted(path for folder in ('src', 'tools') for path in (ROOT / folder).rglob('*.[ch]')):
        name = str(source.relative_to(ROOT))
        if re.search(r'\bN?_\(\s*"', source.read_text()) or (name.startswith('tools/baksh/') and name.endswith('.c')):
            assert name in LISTED, f'{name} is not in po/POTFILES'
    for name in LISTED:
        assert (ROOT / name).exists(), f'{name} of po/POTFILES is not there'


def test_german_is_printed():
    contains(run('nosuch', env=GERMAN).err, 'Fehler: unbekannter Befehl: »nosuch«')
    check(run('domstate', 'web', env=GERMAN, options=['-q']).out, 'laufend\n')
    contains(run('backup-begin', 'web', env=GERMAN).out, 'Sicherung begonnen\n')
    contains(run('backup-begin', '--help', env=GERMAN).out, 'ÜBERSICHT')
    contains(run('list', env=GERMAN).out, ' Id   Name   Status\n')
    check(run('domstate', 'web', env={**GERMAN, 'LANGUAGE': 'en'}, options=['-q']).out, 'running\n')


def test_programs_see_no_german():
    for command in 'backup-info web', 'dominfo web', 'domstate web', 'domjobinfo web --completed':
        check(run(*command.split(), '--json', env=GERMAN).out, run(*command.split(), '--json').out)


main(globals())
