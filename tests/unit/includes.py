#!/usr/bin/env python3
"""Includes go downwards only: tools > api > drivers (remote is one) > job > the contract > conf > util;
api > repository > mover > util. Files that call each other in a circle are one file in pieces: none but those
below. A static function bears no name that its file could include."""
import collections
import pathlib
import re
import sys

# The longest that fits counts. What lies in src/driver itself is the contract that the drivers and the life of a job
# stand on; the registry of drivers and the watchers' door stand above it.
LAYERS = {'tools': 7, 'src/api': 6, 'src/exchange': 5, 'src/repository': 5, 'src/driver/qemu': 4, 'src/driver/libvirt': 4,
          'src/driver/test': 4, 'src/remote': 4, 'src/driver/registry': 4, 'src/driver/watchers': 4, 'src/driver/claims': 4, 'src/job': 3,
          'src/driver': 2, 'src/conf': 1, 'src/mover': 1, 'src/util': 0}
# The shell sees the public headers and nothing else of the library; the daemon enters where the api does.
ONLY_PUBLIC = ('tools/baksh',)
# What keeps points uses what a client of the library can use, and nothing of a driver.
ONLY = {'src/exchange': ('src/exchange', 'src/repository', 'src/mover', 'src/util'),
        'src/repository': ('src/repository', 'src/mover', 'src/util'), 'src/mover': ('src/mover', 'src/util')}
# A guest knows no job: what it lets its jobs do is handed in.
NEVER = {'src/driver/qemu/guest.c': 'driver/qemu/job.h'}
# Handles hold each other; a peer is of a server; help and completion are commands that read the table of commands.
CIRCLES = [{'src/api/api.c', 'src/api/connection.c', 'src/api/domain.c', 'src/api/event.c', 'src/api/patience.c'},
           {'src/remote/peer.c', 'src/remote/server.c'},
           {'tools/baksh/command.c', 'tools/baksh/complete.c', 'tools/baksh/help.c', 'tools/baksh/script.c', 'tools/baksh/shell.c'}]


def layer(path):
    fits = [folder for folder in LAYERS if path.startswith((folder + '/', folder + '.'))]
    folder = max(fits, key=len, default=None)
    return folder, LAYERS.get(folder)


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
    folder, here = layer(relative)
    if folder in ONLY and not target.startswith(tuple(f'{name}/' for name in ONLY[folder])):
        return f'{folder} uses {", ".join(ONLY[folder])} only'
    there = layer(target)[1]
    return 'upwards' if here is not None and there is not None and there > here else None


def names_of_file(text):
    """What a file gives to others, and the words that it uses and does not define for itself."""
    bare = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\n\\])*"', ' ', text, flags=re.S)
    given = set(re.findall(r'^(?!static|typedef)[A-Za-z_][\w \*]*?\b(\w+) \([^;{]*?\)\n\{', bare, re.M))
    given |= set(re.findall(r'^const \w+ (\w+)(?:\[\w*\])? = ', bare, re.M))
    own = set(re.findall(r'^static [\w \*]*?\b(\w+)(?: \(|\[| =|;)', bare, re.M))
    return given, set(re.findall(r'\b[A-Za-z_]\w+\b', bare)) - own


def room(path):
    return path.rsplit('/', 1)[0]


def statics(text):
    bare = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\n\\])*"', ' ', text, flags=re.S)
    return set(re.findall(r'^static [\w \*]*?\b(\w+) \(', bare, re.M))


def namesakes(root):
    """Whoever looks for a name finds one function: a static one bears no name that its file could include."""
    texts = {str(path.relative_to(root)): path.read_text() for path in (root / 'src').rglob('*.c')}
    homes = {name: path for path, text in texts.items() for name in names_of_file(text)[0]}
    return [f'{path}: static {name} is a namesake of that in {homes[name]}' for path, text in texts.items()
            for name in sorted(statics(text) & homes.keys())
            if homes[name] != path and may_see(path, homes[name]) and not other_driver(path, homes[name])]


def other_driver(path, home):
    drivers = [room(file) for file in (path, home) if file.startswith(('src/driver/qemu/', 'src/driver/libvirt/', 'src/driver/test/'))]
    return len(set(drivers)) == 2


def may_see(path, home):
    """What includes may not reach is only a namesake."""
    if path.startswith(ONLY_PUBLIC) or home.startswith(ONLY_PUBLIC):
        return room(path) == room(home)
    folder = layer(path)[0]
    if folder in ONLY and not home.startswith(tuple(f'{name}/' for name in ONLY[folder])):
        return False
    return layer(path)[1] >= layer(home)[1]


def arrows(root):
    """file -> the files whose names it uses. A name that two rooms give (two programs) is that of the own room."""
    texts = {str(path.relative_to(root)): path.read_text() for folder in ('src', 'tools') for path in (root / folder).rglob('*.c')}
    names = {path: names_of_file(text) for path, text in texts.items()}
    homes = collections.defaultdict(list)
    for path, (given, _) in names.items():
        for name in given:
            homes[name].append(path)
    found = {path: set() for path in texts}
    for path, (given, used) in names.items():
        for name in used - given:
            there = [home for home in homes.get(name, ()) if may_see(path, home)]
            near = [home for home in there if room(home) == room(path)]
            found[path] |= set(near or (there if len(there) == 1 else ()))
    return found


def circles(arrows):
    """Tarjan's: the sets of files of which each leads to each."""
    number, low, stack, found = {}, {}, [], []

    def visit(file):
        number[file] = low[file] = len(number)
        stack.append(file)
        for other in arrows[file]:
            if other not in number:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], number[other])
        if low[file] == number[file]:
            circle = set(stack[stack.index(file):])
            del stack[stack.index(file):]
            if len(circle) > 1:
                found.append(circle)

    sys.setrecursionlimit(10000)
    for file in arrows:
        if file not in number:
            visit(file)
    return found


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    found, count = [], 0
    for folder in ('include', 'src', 'tools'):
        for source in sorted((root / folder).rglob('*.[ch]')):
            for name in re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', source.read_text(), re.M):
                count += 1
                why = wrong(root, source, name)
                if NEVER.get(str(source.relative_to(root))) == name:
                    why = 'a guest knows no job'
                if why:
                    found.append(f'{source.relative_to(root)} includes {name}: {why}')
    found += [f'call each other in a circle: {", ".join(sorted(circle))}' for circle in circles(arrows(root))
              if not any(circle <= known for known in CIRCLES)]
    found += namesakes(root)
    print('\n'.join(found) or f'{count} includes, all downwards')
    assert count > 50, 'too few includes: the test looks in the wrong place'
    return 1 if found else 0


sys.exit(main())
