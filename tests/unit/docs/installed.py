#!/usr/bin/env python3
"""What `meson install` puts somewhere: the files are there, programs compile against them by pkg-config, the examples run."""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT, BUILD = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise SystemExit(f'{command}: status {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def find(folder, name):
    found = sorted(folder.rglob(name))
    if not found:
        raise SystemExit(f'{name} is not installed')
    return found[0]


def environment(libdir, pc):
    env = dict(os.environ)
    preload = [env['LD_LIBRARY_PATH']] if env.get('LD_LIBRARY_PATH') else []
    env.update(LD_LIBRARY_PATH=':'.join([str(libdir), *preload]), PKG_CONFIG_PATH=str(pc.parent))
    return env


def compile_all(folder, pc, env):
    prefix = pc.parent.parent.parent.parent if pc.parent.parent.name not in ('lib', 'lib64') else pc.parent.parent.parent
    flags = run('pkg-config', f'--define-variable=prefix={prefix}', '--cflags', '--libs', 'libbackup', env=env).split()
    assert f'-I{prefix}/include' in flags, flags
    reader = run('pkg-config', '--cflags', '--libs', 'libnbd').split()
    programs = {}
    compiler, sanitize = env['CC'].split(), env['SANITIZE'].split()     # those of the library
    for source in sorted((ROOT / 'examples').glob('*.c')):
        programs[source.stem] = folder / source.stem
        run(*compiler, '-std=c99', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', source, '-o', programs[source.stem], *flags, *sanitize, *(reader if source.stem == 'pull' else []))
    return programs


def check_installed(folder):
    for name in ('libbackup.so', 'libbackup.so.0', 'libbackup.pc', 'libbackup.h', 'backup.h', 'event.h', 'baksh', 'baksh.1*', 'libbackup.3*', 'libbackup.mo',
                 'domainbackup.rng', 'libbackupd', 'libbackupd.8*', 'libbackupd.service', 'libbackupd.socket', 'libbackupd-ro.socket', 'sysusers.d', 'org.libbackup.policy'):
        find(folder, name)
    completion = find(folder, 'completions') / 'baksh'
    assert completion.is_file()
    # the public header compiles from there, and nothing private came along
    headers = {path.name for path in find(folder, 'libbackup.h').parent.iterdir()}
    assert headers == {path.name for path in (ROOT / 'include/libbackup').glob('*.h')}, headers
    return completion


def notes_of(path):
    """The note section .note.dlopen of a program, as its JSON texts."""
    data, texts = path.read_bytes(), []
    offset, entry, count, names = struct.unpack_from('<Q', data, 40)[0], *struct.unpack_from('<HHH', data, 58)
    sections = [struct.unpack_from('<IIQQQQ', data, offset + i * entry) for i in range(count)]
    for name, _, flags, _, place, size in sections:
        if not data.startswith(b'.note.dlopen\0', sections[names][4] + name):
            continue
        assert flags & 2, 'the note is not in memory when the program runs'
        end = place + size
        while place < end:
            owner, length, kind = struct.unpack_from('<III', data, place)
            assert (data[place + 12:place + 12 + owner], kind) == (b'FDO\0', 0x407c0c0a)
            texts.append(data[place + 16:place + 16 + length].rstrip(b'\0').decode())
            place += 16 + (length + 3) // 4 * 4
    return texts


def check_libraries(folder, env):
    """What is loaded by its name is said in the file, by the name that it is loaded by."""
    library = find(folder, 'libbackup.so.0').resolve()
    notes = [json.loads(text) for text in notes_of(library)]
    names = sorted(soname for note in notes for one in note for soname in one['soname'])
    assert [name.split('.so')[0] for name in names] == ['libgnutls', 'liblz4', 'libnbd', 'libxml2', 'libzstd'], names
    assert all(one['priority'] in ('required', 'recommended', 'suggested') and one['feature'] and one['description'] for note in notes for one in note), notes
    written = {match.decode() for match in re.findall(rb'(?<=\0)lib[a-z0-9]+\.so\.[0-9]+(?=\0)', library.read_bytes())}
    needed = set(re.findall(r'NEEDED.*\[(.*)\]', run('readelf', '-d', library)))
    assert written - needed - {'libbackup.so.0'} == set(names), written - needed


def check_configuration(folder):
    """The example lies where the library looks."""
    [example] = [path for path in folder.rglob('libbackup.conf') if path.parent.name == 'libbackup']
    place = b'/' + bytes(example.parent.relative_to(folder)) + b'\0'
    assert place in find(folder, 'libbackup.so.0').read_bytes(), place


def programs_in(document):
    """Whole programs in C that a document shows."""
    text = document.read_text()
    blocks = re.findall(r'```c\n(.*?)```', text, re.S) if document.suffix == '.md' else re.findall(r'\.EX\n(.*?)\.EE', text, re.S)
    unescaped = [block if document.suffix == '.md' else block.replace('\\e', '\0').replace('\\&', '').replace('\\-', '-').replace('\0', '\\') for block in blocks]
    return [block for block in unescaped if 'int main' in block]


def run_shown(folder, pc, env):
    """As written, but that /tmp is a folder of the test."""
    prefix = pc.parent.parent.parent.parent if pc.parent.parent.name not in ('lib', 'lib64') else pc.parent.parent.parent
    flags = run('pkg-config', f'--define-variable=prefix={prefix}', '--cflags', '--libs', 'libbackup', env=env).split()
    for document in ROOT / 'README.md', ROOT / 'docs/man/libbackup.3':
        [program] = programs_in(document)
        place = folder / document.name
        place.mkdir()
        (place / 'shown.c').write_text(program.replace('/tmp/', f'{place}/'))
        run(*env['CC'].split(), '-Wall', '-Wextra', '-Werror', place / 'shown.c', '-o', place / 'shown', *flags, *env['SANITIZE'].split())
        if shutil.which('qemu-storage-daemon') and shutil.which('qemu-img'):
            assert run(place / 'shown', env=env).strip().endswith('completed')
            check_images(place, ('vda',), 'qcow2')


def check_completion(folder, completion, env):
    """In bash, as when TAB is pressed."""
    script = f'''source {completion}; PATH={find(folder, "baksh").parent}:$PATH
        press () {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _baksh; echo "${{COMPREPLY[*]}}"; }}
        press baksh backup-b; press baksh -c libvirt+fake:/// backup-begin web --mode ""; press baksh -c libvirt+fake:/// dominfo w; press baksh --re'''
    env = {**env, 'LIBBACKUP_DRIVER_DIR': str(BUILD / 'tests/unit/baksh')}
    got = run('bash', '--norc', '-c', script, env=env).splitlines()
    assert got == ['backup-begin', 'push pull', 'web', '--readonly'], got


def check_other_shells(folder, env):
    """zsh and fish, where they are: the words of a line, what is offered."""
    env = {**env, 'LIBBACKUP_DRIVER_DIR': str(BUILD / 'tests/unit/baksh'), 'PATH': f'{find(folder, "baksh.1*").parents[3] / "bin"}:{env["PATH"]}'}
    lines = ((('baksh', 'backup-b'), ['backup-begin']), (('baksh', '-c', 'libvirt+fake:///', 'dominfo', 'w'), ['web']), (('baksh', '--re'), ['--readonly']),
             (('baksh', '-c', 'libvirt+fake:///', 'backup-begin', 'web', '--mode', ''), ['push', 'pull']))
    for words, offered in lines:
        if shutil.which('zsh'):
            script = f"compadd () {{ print -l -- \"${{@[3,-1]}}\" }}; _files () {{ print files }}; words=(\"$@\"); CURRENT=$#; source {find(folder, '_baksh')}"
            assert run('zsh', '-f', '-c', script, 'zsh', *words, env=env).splitlines() == offered, words
        if shutil.which('fish'):
            script = f"source {find(folder, 'baksh.fish')}; complete -C '{' '.join(words)}'"
            assert sorted(run('fish', '--no-config', '-c', script, env=env).splitlines()) == sorted(offered), words


def check_images(folder, names, form):
    """The disks of test:///default begin with 2 MiB that say in each 4 KiB block whose and which it is."""
    for disk in names:
        path = folder / f'{disk}.{form}'
        if form == 'qcow2':
            raw = folder / f'{disk}.check'
            run('qemu-img', 'convert', '-O', 'raw', path, raw)
            path = raw
        data = path.read_bytes()
        assert len(data) == 16 << 20, len(data)
        for block in range(512):
            assert data.startswith(f'libbackup test disk {disk} block {block:06d}\n'.encode(), block * 4096), f'{path}: block {block}'
        assert not any(data[2 << 20:]), path


def run_examples(folder, programs, env):
    data = folder / 'data'
    data.mkdir()
    assert 'completed: ' in run(programs['push'], 'test:///default', 'test', data, env=env)
    check_images(data, ('vda', 'vdb'), 'qcow2')
    run(programs['pull'], 'test:///default', 'test', data, env=env)
    check_images(data, ('vda', 'vdb'), 'raw')
    xml = folder / 'backup.xml'
    xml.write_text(f"<domainbackup><disks><disk name='vdb' type='file'><target file='{folder}/vdb.qcow2'/></disk></disks></domainbackup>")
    output = run(programs['events'], 'test:///default', 'test', xml, env=env)
    assert output.endswith('test: completed\n') and 'vdb: completed' in output, output
    check_images(folder, ('vdb',), 'qcow2')
    # and a program that fails says so
    done = subprocess.run([programs['pull'], 'test:///default', 'test', data], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and 'completed' not in done.stdout, done


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', folder / 'root')
        pc = find(folder / 'root', 'libbackup.pc')
        env = environment(find(folder / 'root', 'libbackup.so.0').parent, pc)
        completion = check_installed(folder / 'root')
        check_completion(folder / 'root', completion, env)
        check_other_shells(folder / 'root', env)
        check_libraries(folder / 'root', env)
        check_configuration(folder / 'root')
        run_shown(folder, pc, env)
        programs = compile_all(folder, pc, env)
        if shutil.which('qemu-storage-daemon') and shutil.which('qemu-img'):
            run_examples(folder, programs, env)
        else:
            print('qemu-storage-daemon is not installed: the examples were compiled and not run')


main()
