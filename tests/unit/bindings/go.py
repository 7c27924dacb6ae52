#!/usr/bin/env python3
"""The Go package as an importer builds it: vet, then its tests with the race detector. go.py PACKAGE BUILD"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

package, build = sys.argv[1:3]
env = {**os.environ, 'GOFLAGS': '-mod=mod', 'GOPROXY': 'off', 'GOSUMDB': 'off', 'GO111MODULE': 'on', 'GOCACHE': f'{build}/go-cache',
       'PKG_CONFIG_PATH': f'{build}/meson-uninstalled', 'LD_LIBRARY_PATH': f'{build}/src'}
if shutil.which('qemu-storage-daemon'):
    env['HAVE_QEMU'] = 'yes'
with tempfile.TemporaryDirectory() as folder:
    for name in ('api.go', 'base.go', 'callbacks.c', 'callbacks.h', 'go.mod', 'libbackup_test.go'):
        shutil.copy(f'{package}/{name}', folder)
    subprocess.run(['go', 'vet', './...'], cwd=folder, env=env, check=True)
    done = subprocess.run(['go', 'test', '-race', '-json', './...'], cwd=folder, env=env, capture_output=True, text=True)
print(done.stderr, end='', file=sys.stderr)
counts = {'pass': 0, 'fail': 0, 'skip': 0}
for line in done.stdout.splitlines():
    event = json.loads(line)
    if event['Action'] == 'output' and done.returncode:
        print(event['Output'], end='')
    if event.get('Test') and event['Action'] in counts:
        counts[event['Action']] += 1
checks = counts['pass'] + counts['fail']
if done.returncode and not counts['fail'] or not checks:
    sys.exit(f'go test: status {done.returncode}\n{done.stdout}')
print(f'{100 * counts["pass"] // checks}%: Checks: {checks}, Failures: {counts["fail"]}, Errors: 0')
sys.exit(done.returncode)
