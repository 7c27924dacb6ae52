#!/usr/bin/env python3
"""The headers, the symbol map and the built library name the same functions; every declaration is documented."""
import re
import subprocess
import sys

import headers

root, library = sys.argv[1:3]
failures = []


def check(ok, message):
    if not ok:
        failures.append(message)


def exported():
    output = subprocess.run(['nm', '-D', '--defined-only', library], check=True, capture_output=True, text=True).stdout
    return dict(line.split()[2].split('@@') for line in output.splitlines() if '@@' in line)


def mapped():
    text = open(f'{root}/src/libbackup.map').read()
    found = {}
    for version, body in re.findall(r'^(LIBBACKUP_[0-9.]+) \{(.*?)^\}', text, re.M | re.S):
        for name in re.findall(r'\b(bak_\w+);', body):
            found[name] = version
    return found


declared = headers.declarations(root)
in_map, in_library = mapped(), exported()
check(len(declared) > 150, f'only {len(declared)} declarations found')
for name in sorted(set(declared) | set(in_map) | set(in_library)):
    where = [label for label, names in (('headers', declared), ('map', in_map), ('library', in_library)) if name in names]
    check(len(where) == 3, f'{name}: only in {", ".join(where)}')
    check(in_map.get(name) == in_library.get(name), f'{name}: map says {in_map.get(name)}, library {in_library.get(name)}')

for name, (header, declaration, comment) in declared.items():
    where = f'{header}: {name}'
    if not comment:
        failures.append(f'{where}: no doc comment')
        continue
    check(f'* {name}:\n' in comment, f'{where}: the comment documents something else')
    check(re.search(r'\* Since: \d+\.\d+', comment), f'{where}: no Since')
    if not declaration.startswith('void '):
        check('* Returns: ' in comment, f'{where}: no Returns')
    arguments = re.search(r'\((.*)\)$', declaration).group(1)
    for argument in [] if arguments == 'void' else arguments.split(','):
        argument_name = re.search(r'(\w+)$', argument.strip()).group(1)
        check(f'* @{argument_name}: ' in comment, f'{where}: @{argument_name} is not documented')
    if 'BakError **error' in declaration:
        check(declaration.endswith('BakError **error)'), f'{where}: error is not last')

documented = headers.types(root)
check(len(documented) > 35, f'only {len(documented)} types found')
for name, (header, comment) in documented.items():
    check(comment and f'* {name}:\n' in comment and 'Since: ' in comment, f'{header}: {name}: no doc comment')

print('\n'.join(failures) or f'{len(declared)} functions, {len(documented)} types')
sys.exit(1 if failures else 0)
