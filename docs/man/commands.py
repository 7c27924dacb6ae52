#!/usr/bin/env python3
"""The commands of baksh as a part of its man page, from the rows that the shell's own help is made of.

    docs/man/commands.py BAKSH              prints it
    docs/man/commands.py BAKSH --write      puts it between the marks of baksh.1
"""
import os
import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).parent / 'baksh.1'
BEGIN, END = '.\\" COMMANDS: made by commands.py from here', '.\\" COMMANDS: to here'


def ask(baksh, *words):
    return subprocess.run([baksh, '-q', *words], check=True, capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C.UTF-8', 'LANGUAGE': ''}).stdout


def roff(text):
    text = text.replace('\\', '\\e').replace('-', '\\-').replace('^', '\\(ha').replace('~', '\\(ti')
    return '\\&' + text if text[:1] in '.\'' else text


def command(baksh, name):
    help_text = ask(baksh, 'help', name)
    title = re.search(r'^    \S+ - (.*)$', help_text, re.M).group(1)
    synopsis = ' '.join(re.search(r'  SYNOPSIS\n(.*?)\n\n', help_text, re.S).group(1).split()[1:])
    description = re.search(r'  DESCRIPTION\n    (.*?)\n\n', help_text, re.S)
    lines = [f'.SS {roff(name)}', f'.B {roff(name)}', roff(synopsis), '.PP', roff(title) + '.']
    if description:
        lines += [roff(description.group(1))]
    options = re.sub(r'\n {28,}', '  ', help_text.split('  OPTIONS\n')[1])
    for line in options.splitlines():
        option, text = re.match(r'    (.+?) {2,}(.*)$|$', line).groups() if '  ' in line[4:] else (None, None)
        if option is None:          # the option reaches the column of the text
            option, text = re.match(r'    (\[?--\S+\]?(?: \S+)?) (.*)$', line).groups()
        if option not in ('--json', '--help'):
            lines += ['.TP', f'.B {roff(option)}', roff(text[0].upper() + text[1:]) + '.']
    return lines


def section(baksh):
    lines = []
    for title, rows in re.findall(r'^ (\S+) \(help keyword .*?\):\n((?:    .*\n)+)', ask(baksh, 'help'), re.M):
        lines.append(f'.SH {roff(title).upper()} COMMANDS')
        for name in re.findall(r'^    (\S+)', rows, re.M):
            lines += command(baksh, name)
    return '\n'.join(lines) + '\n'


def parts(page):
    head, rest = page.split(BEGIN + '\n')
    body, tail = rest.split(END + '\n')
    return head, body, tail


def main():
    text = section(sys.argv[1])
    if '--write' in sys.argv:
        head, _, tail = parts(PAGE.read_text())
        PAGE.write_text(head + BEGIN + '\n' + text + END + '\n' + tail)
    else:
        print(text, end='')


if __name__ == '__main__':
    main()
