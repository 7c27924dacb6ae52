#!/usr/bin/env python3
"""The man pages: commands as the shell explains them, no warning of man, everything of the contract in it."""
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys

BAKSH, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(ROOT / 'tests/unit/baksh'))
from harness import check, contains, main, run  # noqa: E402

spec = importlib.util.spec_from_file_location('commands', ROOT / 'docs/man/commands.py')
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
PAGES = sorted((ROOT / 'docs/man').glob('*.[1-9]'))
TEXT = (ROOT / 'docs/man/baksh.1').read_text()


def test_the_commands_are_those_of_the_rows():
    made, written = maker.section(BAKSH), maker.parts(TEXT)[1]
    assert made == written, 'run docs/man/commands.py BAKSH --write'


def test_every_command_and_option_is_in_the_page():
    page = TEXT.replace('\\-', '-')
    names = re.findall(r'^    ([a-z-]+) {2,}', run('help', uri=None, options=['-q']).out, re.M)
    assert len(names) >= 39
    for name in names:
        section = re.search(rf'^\.SS {name}\n(.*?)(?=^\.S[SH] )', page, re.M | re.S)
        assert section, name
        for option in re.findall(r'^    \[?--([a-z-]+)', run(name, '--help', uri=None).out, re.M):
            assert option in ('json', 'help') or f'--{option}' in section.group(1), f'{name} --{option}'


def test_man_has_no_complaint():
    if not shutil.which('man'):
        return
    for page in PAGES:
        done = subprocess.run(['man', '--local-file', '--warnings=all', str(page)], capture_output=True, text=True, env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C.UTF-8', 'MANPAGER': 'cat'})
        check((done.returncode, done.stderr), (0, ''), page.name)


def test_exit_statuses_and_keys_are_in_the_page():
    statuses = TEXT.split('.SH EXIT STATUS')[1].split('.SH ')[0]
    check(re.findall(r'^\.B (\d+)$', statuses, re.M), ['0', '1', '2', '3', '4', '5', '6', '130'])
    keys = TEXT.split('.SH JSON')[1].split('.SH ')[0]
    job = run('backup-info', 'web', '--json').json()
    for key in list(job) + list(job['disks'][0]):
        assert re.search(rf'^\.BR? {key}\b', keys.replace('\\-', '-'), re.M), f'{key} is not explained'


main(globals())
