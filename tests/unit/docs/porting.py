#!/usr/bin/env python3
"""The table for those who come from libvirt: names, arguments and values are compared with the headers of both."""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / 'tests/unit/api'))
import headers  # noqa: E402

TEXT = (ROOT / 'docs/porting-from-libvirt.md').read_text()
LIBVIRT = pathlib.Path('/usr/include/libvirt')
ROWS = re.findall(r'^\| `(vir\w+) \(([^)]*)\)` \| (?:`(bak_\w+) \(([^)]*)\)`|none) \|', TEXT, re.M)
CONSTANTS = re.findall(r'^\| `VIR_(\w+)` \| `BAK_(\w+)` \|', TEXT, re.M)
# libvirt's families that have to be complete here
FAMILIES = r'virDomainBackup\w+|virDomainCheckpoint\w+|virDomainListAllCheckpoints|virDomainGetJob\w+|virDomainAbortJob\w*|virDomain(?:Get)?BlockJob\w+|virConnectDomainEvent(?:Der|R)egisterAny'
# how many arguments stand for an array of typed parameters and its length
PARAMETERS = {'virDomainBlockCopy': ('bandwidth', 'granularity', 'buf_size')}
failures = []


def check(ok, message):
    if not ok:
        failures.append(message)


def arguments(text):
    return [re.search(r'(\w+)$', part.strip()).group(1) for part in text.split(',') if part.strip() not in ('', 'void')]


def snake(name):
    """virDomainCheckpointGetXMLDesc -> bak_domain_checkpoint_get_xml_desc"""
    words = re.findall(r'[A-Z]+(?=[A-Z][a-z]|$)|[A-Z][a-z]+', re.sub('^vir', '', name).replace('UUID', 'Uuid'))
    return '_'.join(['bak', *(word.lower() for word in words)]).replace('bak_connect_', 'bak_connection_')


def check_ours():
    declared = headers.declarations(ROOT)
    for vir, vir_arguments, bak, bak_arguments in ROWS:
        if not bak:
            continue
        check(bak in declared, f'{bak} is not declared')
        prototype = re.search(r'\((.*)\)$', declared[bak][1]).group(1) if bak in declared else ''
        check([name.strip().replace('&', '') for name in bak_arguments.split(',') if name.strip()] == arguments(prototype), f'{bak}: the table says ({bak_arguments}), the header ({prototype})')
        theirs, ours = arguments(vir_arguments), [name for name in arguments(prototype) if name != 'error']
        if vir.startswith('virEvent'):
            continue
        if vir in PARAMETERS:
            at = theirs.index('params')
            theirs[at:at + 2] = PARAMETERS[vir]
            check(set(PARAMETERS[vir]) <= set(ours), f'{bak} lacks one of {PARAMETERS[vir]}')
        check(len(theirs) == len(ours), f'{vir} has {len(theirs)} arguments, {bak} {len(ours)}')
        expected = snake(vir).replace('_get_connect', '_get_connection') if vir.endswith('GetConnect') else snake(vir)
        expected = re.sub('_free$|_close$', '_unref', expected) if not vir.startswith('virTyped') else expected
        check(bak == expected, f'{vir}: by the rule it is {expected}, the table says {bak}')
    check(len(ROWS) > 40, f'only {len(ROWS)} rows')


def check_theirs():
    text = ''.join(path.read_text() for path in LIBVIRT.glob('*.h'))
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    prototypes = dict(re.findall(r'\b(vir[A-Z]\w+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\);', text))
    for vir, vir_arguments, _, _ in ROWS:
        check(vir in prototypes, f"{vir} is not in libvirt's headers")
        check(len(arguments(vir_arguments)) == len(arguments(prototypes.get(vir, vir_arguments))), f'{vir}: libvirt has ({prototypes.get(vir)})')
    known = {row[0] for row in ROWS}
    for name in sorted(prototypes):
        if re.fullmatch(FAMILIES, name):
            check(name in known, f'{name} has no row')


def check_values():
    lines = [f'_Static_assert ((int) BAK_{bak} == (int) VIR_{vir}, "{vir}");' for vir, bak in CONSTANTS]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / 'values.c'
        source.write_text('#include <libvirt/libvirt.h>\n#include <libbackup/libbackup.h>\n' + '\n'.join(lines) + '\n')
        done = subprocess.run(['cc', '-fsyntax-only', f'-I{ROOT}/include', str(source)], capture_output=True, text=True)
        check(done.returncode == 0, done.stderr)
    check(len(CONSTANTS) > 40, f'only {len(CONSTANTS)} constants')
    for vir, bak in CONSTANTS:
        check(vir == bak, f'{vir} is not {bak}')


check_ours()
if (LIBVIRT / 'libvirt.h').exists():
    check_theirs()
    check_values()
else:
    print("libvirt's headers are not installed: only ours were compared")
print('\n'.join(failures) or f'{len(ROWS)} calls, {len(CONSTANTS)} constants')
sys.exit(1 if failures else 0)
