#!/usr/bin/env python3
"""Includes go downwards only: tools > api > driver (remote is a driver) > conf > util."""
import pathlib
import re
import sys

LAYERS = {'tools': 4, 'src/api': 3, 'src/driver': 2, 'src/remote': 2, 'src/conf': 1, 'src/util': 0}
# The shell sees the public headers and nothing else of the library; the daemon enters where the api does.
ONLY_PUBLIC = ('tools/baksh',)


def layer(path):
    for folder, height in LAYERS.items():
        if path == folder or path.startswith(folder + '/'):
            return folder, height
    return None, None


def resolve(root, source, name):
    """The file of this project that source means by name, relative to root; None for a system header."""
    for base in (source.parent, root / 'src', root / 'src/driver', root / 'include', root):
        candidate = (base / name).resolve()
        if candidate.is_file() and root in candidate.parents:
            return str(candidate.relative_to(root))
    return 'src/driver/calls.h' if name == 'calls.h' else None


def wrong(root, source, name):
    target = resolve(root, source, name)
    relative = str(source.relative_to(root))
    if target is None or target.startswith('include/'):
        return None
    if relative.startswith('include/'):
        return 'a public header includes a private one'
    if relative.startswith(ONLY_PUBLIC):
        return None if target.startswith(ONLY_PUBLIC) else 'baksh uses the public headers only'
    here, there = layer(relative)[1], layer(target)[1]
    return 'upwards' if here is not None and there is not None and there > here else None


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    found, count = [], 0
    for folder in ('include', 'src', 'tools'):
        for source in sorted((root / folder).rglob('*.[ch]')):
            for name in re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', source.read_text(), re.M):
                count += 1
                why = wrong(root, source, name)
                if why:
                    found.append(f'{source.relative_to(root)} includes {name}: {why}')
    print('\n'.join(found) or f'{count} includes, all downwards')
    assert count > 50, 'too few includes: the test looks in the wrong place'
    return 1 if found else 0


sys.exit(main())
