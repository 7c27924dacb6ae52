"""libbackupd, and a libvirtd to compare it with, for tests."""
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

import bed
import rpc

UUID = '11111111-2222-3333-4444-555555555555'
# client commands: this machine's own, and by chroot those of two later releases
CLIENTS = {'12': None, 'trixie': '10.0', 'sid': '11.1'}


def libbackupd_path():
    path = os.environ.get('LIBBACKUPD') or os.path.join(os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build'),
                                                        'tools/libbackupd/libbackupd')
    if not os.access(path, os.X_OK):
        raise unittest.SkipTest(f'no libbackupd at {path}: build first, or set LIBBACKUPD')
    return path


def client_prefix(client, program):
    """The words before a stock client's command of that Debian release."""
    version = CLIENTS[client]
    if version is None:
        return [bed.need(program, 'libvirt-clients' if program == 'virsh' else program)]
    wrapper = os.path.join(bed.cache_dir(), f'bin-{version}', 'client')
    root = os.path.join(bed.cache_dir(), f'root-clients-{version}')
    if not os.access(wrapper, os.X_OK) or not os.path.exists(f'{root}/usr/bin/{program}'):
        raise unittest.SkipTest(f'no {program} of {client} here: run scripts/qemus --clients {version}')
    if os.geteuid() != 0:
        raise unittest.SkipTest(f'{program} of {client} runs by chroot, which needs root')
    return [wrapper, f'/usr/bin/{program}']


class Daemon:
    """One libbackupd, which is ready when this returns (it says so by systemd's protocol)."""

    def __init__(self, test, *options, name='daemon', config='', state=None, program=None, env=None):
        self.test, self.options, self.program = test, options, program
        self.directory = test.path(name)
        os.makedirs(self.directory, exist_ok=True)
        self.socket, self.log = f'{self.directory}/sock', f'{self.directory}/log'
        self.readonly_socket = f'{self.directory}/sock-ro'
        self.state = state or test.path('state')
        self.config = f'{self.directory}/conf'
        self.env = env or {}
        with open(self.config, 'w') as f:
            f.write(config)
        self.start()

    def start(self):
        notify = f'{self.directory}/notify'
        if os.path.exists(notify):
            os.unlink(notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.log, 'ab') as log:
            ready.bind(notify)
            ready.settimeout(30 * bed.SLOW)
            self.process = self.test.popen(
                self.program or libbackupd_path(), '--state-dir', self.state, '--socket', self.socket,
                '--readonly-socket', self.readonly_socket, '--config', self.config, *self.options, stderr=log,
                env={**self.test.environment, 'NOTIFY_SOCKET': notify, **self.env})
            try:
                state = ready.recv(100)
            except socket.timeout:
                raise AssertionError(f'libbackupd is not ready: {self.read_log()}')
            assert state == b'READY=1', state
        return self

    def read_log(self):
        with open(self.log, errors='replace') as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        return self.process.wait(30 * bed.SLOW)

    def restart(self, sig=signal.SIGTERM):
        self.stop(sig)
        return self.start()

    def connect(self):
        """Our own program, by a client that shares no code with it."""
        connection = rpc.Connection(self.socket)
        self.test.addCleanup(connection.close)
        return connection.hello()

    def attach(self, name, qemu, **disks):
        self.connect().attach(name, qmp=qemu.qmp_path, agent=getattr(qemu, 'agent_path', '') if getattr(qemu, 'agent', None) else '',
                              disks=list(disks.items()))

    @property
    def uri(self):
        return f'bak:///system?socket={self.socket}'

    def memory(self):
        return rpc.peers_memory(self.process.pid)

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))


# QEMUs that libvirtd starts become orphans; the test is their reaper (bed._be_subreaper) and does not wait for them, and
# libvirtd takes a zombie for a process that cannot be killed. So something between them reaps.
REAPER = """import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
while os.wait()[0] != pid: pass
"""


class Libvirtd:
    """A private libvirtd (session mode, as nobody when we are root) with one running domain x that has the disks vda, vdb."""

    def __init__(self, test, directory):
        bed.need('libvirtd', 'libvirt-daemon')
        self.directory = directory
        self.images = f'{directory}/img'
        for folder in ('run', 'home', 'img'):
            os.makedirs(f'{directory}/{folder}')
        for letter in 'ab':
            test.img('create', '-q', '-f', 'qcow2', f'{self.images}/{letter}.qcow2', '64M')
        user = []
        if os.geteuid() == 0:
            os.chmod(test.directory, 0o755)
            bed.run('chown', '-R', 'nobody', directory)
            user = [shutil.which('setpriv'), '--reuid', 'nobody', '--regid', str(pwd.getpwnam('nobody').pw_gid), '--clear-groups']
        environment = {**os.environ, 'XDG_RUNTIME_DIR': f'{directory}/run', 'HOME': f'{directory}/home',
                       'XDG_CONFIG_HOME': f'{directory}/home/c', 'XDG_CACHE_HOME': f'{directory}/home/k', 'XDG_DATA_HOME': f'{directory}/home/d'}
        self.socket = f'{directory}/run/libvirt/libvirt-sock'
        self.uri = f'qemu+unix:///session?socket={self.socket}'
        with open(f'{directory}/log', 'wb') as log:
            self.process = test.popen(sys.executable, '-c', REAPER, *user, shutil.which('libvirtd'), '-p', f'{directory}/pid', env=environment, stdout=log, stderr=log)
        bed.wait_for('the socket of libvirtd', lambda: os.path.exists(self.socket))
        test.addCleanup(self.end)
        with open(f'{directory}/x.xml', 'w') as f:
            f.write(domain_xml(self.images))
        self.virsh('define', f'{directory}/x.xml')
        self.virsh('start', 'x')

    def virsh(self, *arguments):
        return bed.run('virsh', '-c', self.uri, *arguments)

    def end(self):
        bed.run('virsh', '-c', self.uri, 'destroy', 'x', check=False)
        with contextlib.suppress(OSError), open(f'{self.directory}/pid') as f:
            os.kill(int(f.read()), signal.SIGTERM)
        self.process.wait(30 * bed.SLOW)


def domain_xml(images):
    disks = ''.join(f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{images}/{letter}.qcow2'/>"
                    f"<target dev='vd{letter}' bus='virtio'/></disk>" for letter in 'ab')
    return (f"<domain type='qemu'><name>x</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            f"<emulator>{bed.tool('qemu-system-x86_64', '7.2')}</emulator>{disks}</devices></domain>")


class DaemonTest(bed.LiveTest):
    def bare_guest(self, images, name='x'):
        """What libvirt would have started for domain x, without libvirt."""
        arguments = ['-machine', 'pc', '-accel', 'tcg', '-m', '64', '-uuid', UUID]
        for number, letter in enumerate('ab'):
            path = f'{images}/{letter}.qcow2'
            if not os.path.exists(path):
                self.img('create', '-q', '-f', 'qcow2', path, '64M')
            arguments += ['-blockdev', f'driver=file,node-name=s{letter},filename={path},discard=unmap',
                          '-blockdev', f'driver=qcow2,node-name=f{letter},file=s{letter},discard=unmap',
                          '-device', f'virtio-blk-pci,drive=f{letter},id=virtio-disk{number}']
        return bed.Qemu(self, arguments, name=name)

    def client(self, client, program, *arguments, timeout=120):
        """A stock client's result: (exit status, output, errors)."""
        environment = {**os.environ, 'LC_ALL': 'C.UTF-8', 'TZ': 'UTC', 'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}
        done = subprocess.run([*client_prefix(client, program), *map(str, arguments)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout * bed.SLOW, env=environment)
        return done.returncode, done.stdout, done.stderr

    def virsh(self, uri, *arguments, client='12'):
        rc, out, err = self.client(client, 'virsh', '-c', uri, *arguments)
        return rc, out + err

    def virsh_ok(self, uri, *arguments, client='12'):
        rc, out = self.virsh(uri, *arguments, client=client)
        self.assertEqual(rc, 0, f'virsh ({client}) {" ".join(map(str, arguments))}: {out}')
        return out

    def write(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)
        return self.path(name)


TIMES = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r'(CPU time: +)[\d.]+s', r'\1T'), (r'((?:rd|wr|flush)_\w+|(?:number|total duration) of [^:]+:) +\d+', r'\1 N'), (r'(Time elapsed: +)\d+ +ms', r'\1T ms'), (r'(time_elapsed: )\d+', r'\1T'),
    (r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', 'DATE'), (r'(<creationTime>)\d+', r'\1T'))]


def without_times(text, *folders):
    """What two runs must have in common; the folders have equal length, because virsh makes tables of them."""
    for folder in folders:
        text = text.replace(folder, '/DIR')
    for pattern, replacement in TIMES:
        text = pattern.sub(replacement, text)
    return text
