#!/usr/bin/env python3
"""Every command of the shell that README, guide and man pages show is run, on the fake driver: it must be right in form and succeed."""
import pathlib
import re
import shlex
import sys

ROOT = pathlib.Path(sys.argv[2])
sys.path.insert(0, str(ROOT / 'tests/unit/baksh'))
from harness import check, main, run  # noqa: E402


def blocks(path):
    text = path.read_text()
    if path.suffix == '.md':
        return re.findall(r'^```sh\n(.*?)^```', text, re.M | re.S)
    plain = {'\\-': '-', '\\(aq': "'", '\\(dq': '"', '\\e': '\\', '\\&': ''}
    return [re.sub('|'.join(map(re.escape, plain)), lambda found: plain[found.group()], block) for block in re.findall(r'^\.EX\n(.*?)^\.EE', text, re.M | re.S)]


def commands(path):
    """words of each command line of baksh in path, without the shell's own machinery behind it"""
    for block in blocks(path):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(re.sub(r'^[$#] ', '', line.strip()), comments=True)
            if not words or words[0] != 'baksh':
                continue
            for i, word in enumerate(words):
                if word in ('|', '>', '&&', '||', '&') or word.startswith('<') or word.startswith('2>'):
                    words = words[:i]
                    break
            yield line, words[1:]


def files():
    return [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), *sorted((ROOT / 'docs/man').glob('*.[1-9]'))]


def shell_options(words):
    """splits -c URI, -q ... from the command; the URI is replaced by that of the fake"""
    options = []
    while words and words[0].startswith('-'):
        if words[0] in ('-c', '--connect'):
            words = words[2:]
        else:
            options.append(words[0])
            words = words[1:]
    return options, words


def test_every_shown_command_runs():
    count = 0
    for path in files():
        for line, words in commands(path):
            options, words = shell_options(words)
            # the guest of test:///default, one that is off, and the checkpoints of the guide are those of the fake
            words = [re.sub(r'\bnight-\d', 'c1', re.sub(r'\b(test|archive)\b', 'web', word)) for word in words]
            if words[:1] == ['event']:
                words = [*words, '--timeout', '0.2'] if '--timeout' not in words else [*words[:words.index('--timeout') + 1], '0.2']
            # the fake has no export to make a point of: these must be right in form
            if re.match('(repository|point)-|backup-(run|report|status)$', words[0]):
                words = [*words, '--help']
            result = run(*words, options=options, events=6)
            check(result.status, 0, f'{path.name}: {line}\n{result}')
            count += 1
    assert count > 50, f'only {count} commands found'


def test_every_command_of_the_shell_is_shown_somewhere():
    shown = {word for path in files() for _, words in commands(path) for word in re.split(r'[ ;]+', ' '.join(words))}
    for name in ('discover attach list dominfo domblklist backup-begin backup-stop backup-info backup-list backup-wait backup-dumpxml backup-limit '
                 'domjobinfo checkpoint-list checkpoint-delete checkpoint-check event').split():
        assert name in shown, name


main(globals())
