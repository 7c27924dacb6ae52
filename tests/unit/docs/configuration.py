#!/usr/bin/env python3
"""The example configuration has every key that the code knows, once, behind '#', and is a valid file with and without that."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

daemon, root = sys.argv[1], pathlib.Path(sys.argv[2])
code = (root / 'src/util/config.c').read_text()
known = re.findall(r'^    \{ "(\w+)"', code[code.index('known_keys[]'):code.index('};', code.index('known_keys[]'))], re.M)
example = (root / 'data/libbackup.conf').read_text()
shown = re.findall(r'^#(\w+) = \S', example, re.M)
manual = (root / 'docs/man/libbackupd.8').read_text()
assert len(known) > 20, known
assert sorted(shown) == sorted(known), f'only in one: {sorted(set(shown) ^ set(known))}, twice: {[key for key in shown if shown.count(key) > 1]}'
for key in known:
    assert key in manual, f'{key} is not in libbackupd(8)'
assert not re.search(r'^[^#\n]', example, re.M), 'a line of the example is in force'
with tempfile.TemporaryDirectory() as folder:
    for name, text in (('as-it-is', example), ('bare', re.sub(r'^#(\w+ = )', r'\1', example, flags=re.M))):
        path = pathlib.Path(folder) / name
        # what the host of a test has not got
        lines = [line for line in text.split('\n') if not re.match(r'listen_tls|tls_x509_dir|policy_file|socket_group', line)]
        path.write_text('\n'.join(lines))
        done = subprocess.run([daemon, '--config', path, '--config-check'], capture_output=True, text=True)
        assert done.returncode == 0, f'{name}: {done.stderr}'

# what systemd's sandbox and the profile of AppArmor let the daemon do is the same, and the profile lets it run what it runs
profile, unit = (root / 'data/apparmor/usr.sbin.libbackupd').read_text(), (root / 'data/systemd/libbackupd.service.in').read_text()
allowed = set(re.findall(r'^  capability (\w+),', profile, re.M))
bounding = {name.lower()[len('cap_'):] for name in re.search(r'^CapabilityBoundingSet=(.*)', unit, re.M)[1].split()}
assert allowed and allowed == bounding, (allowed, bounding)
families = {name.lower()[len('af_'):] for name in re.search(r'^RestrictAddressFamilies=(.*)', unit, re.M)[1].split()}
assert families == set(re.findall(r'^  network (\w+)', profile, re.M)), families
programs = {match for path in (root / 'src').rglob('*.c') for match in re.findall(r'process_find \("\w+", "\w+", "([\w-]+)"\)', path.read_text())} | {'ssh', 'libbackupd'}
assert len(programs) > 3 and programs == set(re.findall(r'^  /usr/\S*bin/([\w-]+) r\w*x,', profile, re.M)), programs

# profiles can be parsed, where that can be told; the second stands within a profile of libvirt's
if shutil.which('apparmor_parser'):
    with tempfile.TemporaryDirectory() as folder:
        within = pathlib.Path(folder) / 'guest'
        within.write_text(f'profile guest {{\n#include "{root}/data/apparmor/libvirt-qemu.local"\n}}\n')
        for profile in (root / 'data/apparmor/usr.sbin.libbackupd', within):
            done = subprocess.run(['apparmor_parser', '--skip-kernel-load', '--skip-cache', '--stdout', profile], capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
print(f'{len(known)} keys')
