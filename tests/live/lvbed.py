"""Guests that a real libvirtd manages, for the live tests.

    class PushTest(lvbed.OnLibvirt, bed.LiveTest):
        def test_a_push_is_exact(self):
            guest = self.guest(disks=2)                      # the writing guest, as a domain called "g"
            self.must('backup-begin', 'g', …)                # by libvirt+URI: it is the default of these tests
            self.virsh('domjobinfo', 'g')                    # what plain libvirt has to say

The daemon is started by hand, once a process: as root in a mount namespace of its own, in which /etc/libvirt, /var/lib/libvirt
and the like are folders of the test; as a user in session mode. The host's libvirt is not touched and need not run.
A test that runs on attached guests runs here too: "attach" is skipped, and guest.qmp goes through virsh.
"""
import atexit
import contextlib
import functools
import glob
import html
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import unittest

import bed
import nbdpy

QEMU_CONF = '''security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
keepalive_interval = -1
'''
ROOT_CONF = '''user = "{user}"
group = "{user}"
dynamic_ownership = {ownership}
remember_owner = {ownership}
'''
NAMESPACE = '''set -e
for pair in etc:/etc/libvirt lib:/var/lib/libvirt cache:/var/cache/libvirt log:/var/log/libvirt run:/run; do
    mount --bind "$0/${pair%%:*}" "${pair#*:}"
done
mkdir -p /run/libvirt
exec "$@"
'''


def host(*argv):
    """The parent of every libvirtd and, when libvirtd lets go of them, of its QEMUs: a process that is dead is dead at once.
    Hears "start" on stdin, says the pid; ends with its stdin, and takes all of them with it."""
    bed._be_subreaper()

    def wait():
        while True:
            try:
                os.wait()
            except ChildProcessError:
                time.sleep(0.05)
    threading.Thread(target=wait, daemon=True).start()
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(2, 1)
            os.execvp(argv[0], argv)
        print(pid, flush=True)
    for _ in range(50):
        children = bed.LiveTest._children()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not children:
            break
        time.sleep(0.1)


def as_user(name):
    """What a command begins with that a user is to run."""
    user = pwd.getpwnam(name)
    return ['setpriv', f'--reuid={user.pw_uid}', f'--regid={user.pw_gid}', '--clear-groups']


class Libvirtd:
    """A libvirtd of our own. kill() and start() again: it finds its guests as a restarted one does."""

    def __init__(self, user='root', ownership=0, tls=None, session=False):
        """tls: a folder of certificates for exports. session: a daemon of that user's own, of which root makes one too."""
        self.program = shutil.which('libvirtd') or '/usr/sbin/libvirtd'
        if not os.path.exists(self.program) or not shutil.which('virsh'):
            raise unittest.SkipTest('no libvirtd or no virsh here (packages libvirt-daemon-system, libvirt-clients)')
        self.directory = tempfile.mkdtemp(prefix='lv-', dir=os.environ.get('LIBBACKUP_TEST_TMP', '/tmp'))
        os.chmod(self.directory, 0o755)
        self.pid = None
        self.log = os.path.join(self.directory, 'libvirtd.log')
        self.as_root = os.geteuid() == 0 and not session
        self.prefix = as_user(user) if session and os.geteuid() == 0 else []
        self.tls = f'backup_tls_x509_cert_dir = "{tls}"\nbackup_tls_x509_verify = 1\n' if tls else ''
        if self.as_root:
            self._configure_root(user, ownership)
        else:
            self._configure_session()
            if self.prefix:
                bed.run('chown', '-R', user, self.directory, self.environment['XDG_CACHE_HOME'])
        atexit.register(self.remove)
        with open(self.path('stderr'), 'ab') as stderr:
            self.host = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=self.environment,
                                         start_new_session=True)
        self.start()

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def _write(self, text, *names):
        os.makedirs(os.path.dirname(self.path(*names)), exist_ok=True)
        with open(self.path(*names), 'w') as f:
            f.write(text)

    def _configure_root(self, user, ownership):
        if subprocess.run(['unshare', '-m', 'true'], capture_output=True).returncode:
            raise unittest.SkipTest('no mount namespace can be made here: a libvirtd of our own would touch the host\'s')
        for name in ('etc', 'lib', 'log', 'run', 'sock'):
            os.mkdir(self.path(name))
        # what libvirtd finds out about QEMU takes it seconds: it is kept
        cache = os.path.join(bed.cache_dir(), f'libvirt-{user}')
        os.makedirs(cache, exist_ok=True)
        os.symlink(cache, self.path('cache'))
        os.mkdir(self.path('lib', 'qemu'))
        for name, size in (('small', '2m'), ('medium', '24m')):         # file systems that are soon full
            os.mkdir(self.path(name))
            bed.run('mount', '-t', 'tmpfs', '-o', f'size={size},mode=1777', 'none', self.path(name))
        os.mkdir(self.path('mounts'))           # what is mounted in it later is there for QEMU too
        bed.run('mount', '--bind', self.path('mounts'), self.path('mounts'))
        bed.run('mount', '--make-shared', self.path('mounts'))
        self._write(QEMU_CONF + self.tls + ROOT_CONF.format(user=user, ownership=ownership), 'etc', 'qemu.conf')
        self._write(f'unix_sock_dir = "{self.path("sock")}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
                    f'log_outputs = "2:file:{self.log}"\n', 'libvirtd.conf')
        self.argv = ['unshare', '-m', '--propagation', 'slave', 'sh', '-c', NAMESPACE, self.directory, *self._host_argv()]
        self.environment = dict(os.environ)
        self.socket = self.path('sock', 'libvirt-sock')
        self.uri = f'qemu+unix:///system?socket={self.socket}'

    def _host_argv(self):
        return ['/usr/bin/python3', os.path.abspath(__file__), self.program, '-f', self.path('libvirtd.conf'), '-p', self.path('pid')]

    def _configure_session(self):
        os.mkdir(self.path('run'), 0o700)
        self._write(QEMU_CONF + self.tls, 'config', 'libvirt', 'qemu.conf')
        self._write(f'log_outputs = "2:file:{self.log}"\n', 'libvirtd.conf')
        self.environment = {**os.environ, 'XDG_RUNTIME_DIR': self.path('run'), 'XDG_CONFIG_HOME': self.path('config'),
                            'XDG_CACHE_HOME': os.path.join(bed.cache_dir(), 'libvirt-session'), 'XDG_DATA_HOME': self.path('data'), 'HOME': self.directory}
        os.makedirs(self.environment['XDG_CACHE_HOME'], exist_ok=True)
        self.argv = [*self.prefix, *self._host_argv()]
        self.socket = self.path('run', 'libvirt', 'libvirt-sock')
        self.uri = f'qemu+unix:///session?socket={self.socket}'

    def is_running(self):
        return self.pid is not None and os.path.exists(f'/proc/{self.pid}')

    def _answers(self):
        if not self.is_running():
            with open(self.path('stderr'), errors='replace') as f:
                raise AssertionError(f'libvirtd ended: {f.read()[-2000:]}')
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            return True
        return False

    def start(self):
        self.host.stdin.write('start\n')
        self.host.stdin.flush()
        self.pid = int(self.host.stdout.readline())
        bed.wait_for('libvirtd listens', self._answers)
        self.virsh('list')

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.pid, sig)
        bed.wait_for('libvirtd is gone', lambda: not self.is_running())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    def restart(self):
        self.kill()
        self.start()

    def virsh(self, *arguments, check=True, timeout=60):
        return bed.run(*self.prefix, 'virsh', '-q', '-c', self.uri, *arguments, check=check, timeout=timeout, env=self.environment)

    def pid_file(self, domain):
        return self.path('run', 'libvirt', 'qemu', *(() if self.as_root else ('run',)), f'{domain}.pid')

    def remove(self):
        if hasattr(self, 'host'):
            self.host.stdin.close()
            self.host.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.host.wait(20)
            self.host.kill()
        for name in ('small', 'medium', 'mounts'):
            subprocess.run(['umount', '-l', self.path(name)], capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


_daemons = {}


def libvirtd(**how):
    key = tuple(sorted(how.items()))
    if key not in _daemons:
        _daemons[key] = Libvirtd(**how)
    return _daemons[key]


class Monitor:
    """What a test asks QEMU behind libvirt's back; the driver never does."""

    def __init__(self, guest):
        self.guest = guest

    def execute(self, command, timeout=30, **arguments):
        message = {'execute': command}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        done = self.guest.daemon.virsh('qemu-monitor-command', self.guest.domain, json.dumps(message), check=False, timeout=timeout)
        if done.returncode:
            raise AssertionError(f'{command}: {done.stderr}')
        reply = json.loads(done.stdout)
        if 'error' in reply:
            raise bed.QmpError(command, reply['error'])
        return reply['return']

    def hmp(self, line):
        return self.execute('human-monitor-command', command_line=line)

    def drain(self):
        """What would be bad, up to now; to resume is not."""
        self.execute('query-jobs')
        return [e for e in self.guest.events if e['event'] in ('STOP', 'BLOCK_IO_ERROR', 'GUEST_PANICKED')]

    def wait_event(self, name, timeout=30, **data):
        def seen():
            return next((e for e in self.guest.events if e['event'] == name and all(e['data'].get(k.replace('_', '-')) == v for k, v in data.items())), None)
        return bed.wait_for(f'event {name} {data or ""}', seen, timeout)


class AgentRelay:
    """Between libvirt and an agent that is none: QEMU is the first who connects to it and hears nothing, libvirt the next. It believes
    that an agent is there because the guest's own has opened the port."""

    def __init__(self, test, path, agent_path):
        self.agent_path, self.connected = agent_path, threading.Event()
        self.listener = bed.listen_unix(path)
        os.chmod(path, 0o777)
        test.addCleanup(self.listener.close)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            of_qemu = self.listener.accept()[0]
            while of_qemu:
                peer = self.listener.accept()[0]
                agent = socket.socket(socket.AF_UNIX)
                try:
                    agent.connect(self.agent_path)
                except OSError:
                    peer.close()
                    continue
                self.connected.set()
                for a, b in ((peer, agent), (agent, peer)):
                    threading.Thread(target=self._pass_on, args=(a, b), daemon=True).start()

    def wait(self):
        """Until libvirt is there: the guest has opened the port."""
        if not self.connected.wait(60 * bed.SLOW):
            raise AssertionError('libvirt does not connect to the agent')

    @staticmethod
    def _pass_on(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


class Domain(bed.Guest):
    """The writing guest as a domain; bare=True: no operating system in it, started in a moment, written to with io(). agent: of the
    guest (True), none, or the path of a relay."""

    def __init__(self, test, daemon, disks, domain='g', bare=False, transient=False, xml='', **kw):
        self.daemon, self.domain, self.bare, self.transient, self.xml = daemon, domain, bare, transient, xml
        self.uuid = uuid.uuid4()        # with which it may be defined again
        super().__init__(test, disks, **kw)

    def _disk_xml(self, number, disk):
        iothread = " iothread='1'" if self.iothread else ''
        options = getattr(disk, 'driver_xml', '')
        kind, name = ('block', 'dev') if disk.path.startswith('/dev/') and not disk.path.startswith('/dev/shm/') else ('file', 'file')
        path = html.escape(disk.path)
        return (f"<disk type='{kind}' device='disk'><driver name='qemu' type='{disk.fmt}' discard='unmap'{iothread}{options}/><source {name}='{path}'/>"
                f"<target dev='{disk.target}' bus='{disk.bus}'/>{getattr(disk, 'more_xml', '')}<serial>bak{number}</serial></disk>")

    def _domain_xml(self):
        disks = ''.join(self._disk_xml(n, d) for n, d in enumerate(self.disks))
        boot = channels = ''
        if not self.bare:
            folder = bed.guest_folder()
            words = (f'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check bak.disks={self.mount} bak.rate={self.rate} '
                     f'bak.start={"go" if self.start_writing else "stop"} bak.latency={"on" if self.latency else "off"} '
                     f'bak.agent={"on" if self.agent else "off"} {self.kernel_words}')
            boot = f'<kernel>{folder}/vmlinuz</kernel><initrd>{folder}/initrd</initrd><cmdline>{words}</cmdline>'
            channels = (f"<serial type='file'><source path='{self.serial_path}'/></serial>"
                        f"<channel type='unix'><source mode='connect' path='{self.control_path}'/><target type='virtio' name='org.libbackup.test.0'/></channel>")
            if self.agent:
                source = f"<source mode='connect' path='{self.agent}'/>" if isinstance(self.agent, str) else ''
                channels += f"<channel type='unix'>{source}<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        iothreads = '<iothreads>1</iothreads>' if self.iothread else ''
        return (f"<domain type='qemu'><name>{html.escape(self.domain)}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>{64 if self.bare else self.memory}</memory><vcpu>1</vcpu>{iothreads}"
                f"<os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os><features><acpi/></features><on_poweroff>destroy</on_poweroff>"
                f"<devices><emulator>{bed.tool('qemu-system-x86_64', '7.2')}</emulator>{disks}{channels}"
                f"<controller type='usb' model='none'/>{self.xml}<memballoon model='none'/></devices></domain>")

    def start(self):
        if self.reader:
            self.reader.join(30)
        self.lines = []
        self.serial_path = os.path.join(self.directory, 'serial')
        self.control_path = os.path.join(self.directory, 'control')
        if not self.bare:
            listener = self._listen(self.control_path)
            os.chmod(self.control_path, 0o777)
        definition = os.path.join(self.directory, 'domain.xml')
        with open(definition, 'w') as f:
            f.write(self._domain_xml())
        self.test.addCleanup(self.kill)
        if self.transient:
            self.virsh('create', definition, '--paused')
        else:
            self.virsh('define', definition)
            self.virsh('start', self.domain, '--paused')
        self.qmp = Monitor(self)
        self._watch()
        if not self.bare:
            listener.settimeout(30)
            self.control, _ = listener.accept()
            listener.close()
            self.test.addCleanup(self.control.close)
            self.reader = threading.Thread(target=self._read_control, args=(self.control,), daemon=True)
            self.reader.start()
        self.virsh('resume', self.domain)
        return self

    def _watch(self):
        """QEMU's own words on pauses, errors and jobs, from before the first instruction on."""
        self.events = []
        self.watcher = self.test.popen('virsh', '-q', '-c', self.daemon.uri, 'qemu-monitor-event', self.domain, '--loop', '--regex', '--event',
                                       '^(STOP|RESUME|BLOCK_IO_ERROR|GUEST_PANICKED|JOB_STATUS_CHANGE|BLOCK_EXPORT_DELETED|DEVICE_DELETED|VSERPORT_CHANGE)$',
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.daemon.environment)
        threading.Thread(target=self._read_events, args=(self.watcher.stdout,), daemon=True).start()

    def _read_events(self, stream):
        with contextlib.suppress(ValueError):
            for line in stream:
                got = re.match(r"event (\w+) at [\d.]+ for domain '.*?':? ?({.*})?", line)
                if got:
                    self.events.append({'event': got[1], 'data': json.loads(got[2] or '{}')})

    def virsh(self, *arguments, **kw):
        return self.daemon.virsh(*arguments, **kw)

    def check_alive(self):
        if not self.is_running():
            raise AssertionError(f'domain {self.domain} does not run')

    def is_running(self):
        done = self.virsh('domstate', self.domain, check=False)
        return done.returncode == 0 and done.stdout.strip() not in ('shut off', 'crashed')

    def state(self):
        return self.virsh('domstate', self.domain).stdout.strip()

    def pid(self):
        with open(self.daemon.pid_file(self.domain)) as f:
            return int(f.read())

    def stderr(self):
        path = self.daemon.path('log', 'qemu', f'{self.domain}.log')
        if not os.path.exists(path):
            return ''
        with open(path, errors='replace') as f:
            return f.read()

    def kill(self, sig=signal.SIGKILL):
        if not self.daemon.is_running():
            self.daemon.start()
        self.virsh('destroy', self.domain, check=False)
        self.virsh('undefine', self.domain, '--checkpoints-metadata', check=False)

    @contextlib.contextmanager
    def frozen(self):
        bed.wait_for('the agent answers', lambda: self.virsh('qemu-agent-command', self.domain, '{"execute":"guest-ping"}', check=False).returncode == 0)
        self.virsh('domfsfreeze', self.domain)
        try:
            yield
        finally:
            self.virsh('domfsthaw', self.domain)

    def die(self):
        """QEMU alone; libvirt finds out."""
        os.kill(self.pid(), signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self):
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def quit(self, timeout=30):
        """A clean end, in which persistent bitmaps are written."""
        self.virsh('destroy', self.domain, '--graceful')

    def power_off(self, timeout=60):
        self.tell('poweroff')
        bed.wait_for('the guest is off', lambda: not self.is_running(), timeout)

    def boot_again(self):
        self.virsh('start', self.domain)
        self._watch()

    def device(self, disk):
        """Of a disk by its number, or a name that ends with it (disk0, top0, top)."""
        number = re.search('[0-9]+$', str(disk))
        return f'/machine/peripheral/virtio-disk{number[0] if number else 0}/virtio-backend'

    def node(self, disk=0):
        """The top of a disk's images, as libvirt names it now; no filter of a running job."""
        top = next(b['inserted'] for b in self.qmp.execute('query-block') if b.get('qdev') == self.device(disk))
        return next(n['node-name'] for n in self.nodes() if n['node-name'].endswith('-format') and n['file'] == top['file'])

    def io(self, disk, command):
        """qemu-io as the guest does it."""
        out = self.qmp.hmp(f'qemu-io -d {self.device(disk)} "{command}"')
        if 'error' in out.lower() or 'failed' in out.lower():
            raise AssertionError(f'qemu-io {command}: {out}')
        return out

    def checkpoints(self):
        return self.virsh('checkpoint-list', self.domain, '--name').stdout.split()


class OnLibvirt:
    """Before bed.LiveTest or a class of tests for attached guests."""
    daemon_options = {}

    def setUp(self):
        if bed.qemu_version() != '7.2':
            self.skipTest('libvirt runs this machine\'s own QEMU')
        super().setUp()
        self.daemon     # a test without a guest needs it too

    @functools.cached_property
    def daemon(self):
        """Made when first used: a setUp below ours may boot a guest at once."""
        modules = os.path.join(os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build'), 'src/driver/libvirt')
        if not os.path.exists(os.path.join(modules, 'libbackup-driver-libvirt.so')):
            self.skipTest('built without libvirt')
        daemon = libvirtd(**self.daemon_options)
        self.addCleanup(lambda: daemon.is_running() or daemon.start())
        self.uri = f'libvirt+{daemon.uri}'
        self.environment.update(LIBBACKUP_DEFAULT_URI=self.uri, LIBBACKUP_DRIVER_DIR=modules)
        return daemon

    def virsh(self, *arguments, **kw):
        return self.daemon.virsh(*arguments, **kw)

    def must(self, *arguments, **kw):
        if arguments and arguments[0] == 'attach':
            return None             # libvirt knows it
        try:
            return super().must(*arguments, **kw)
        except AssertionError as e:
            raise AssertionError(f'{e}\n{self._watcher_logs()}') from None

    def _watcher_logs(self):
        text = ''
        for path in glob.glob(self.path('state', 'libvirt-*', 'guests', '*', 'watcher.log')):
            with open(path, errors='replace') as f:
                text += f'{path}:\n{f.read()[-3000:]}'
        return text

    def guest(self, disks=2, size='64M', fill='16M', fmt='qcow2', bus='virtio', wait=True, name='guest', **kw):
        if isinstance(disks, int):
            disks = [bed.Disk(self.make_disk(f'{name}-vd{chr(97 + n)}.{fmt}', size, fill, fmt, n), f'vd{chr(97 + n)}', fmt, bus) for n in range(disks)]
        guest = Domain(self, self.daemon, disks, name=name, **kw)
        if wait:
            guest.wait_ready()
        return guest

    def bare(self, *images, **kw):
        """A domain without an operating system; images: paths or bed.Disk."""
        disks = [i if isinstance(i, bed.Disk) else bed.Disk(i, f'vd{chr(97 + n)}') for n, i in enumerate(images)]
        return Domain(self, self.daemon, disks, bare=True, name='bare', **kw)

    def engine(self, *images, fmt='qcow2', extra=(), **kw):
        """What is a bare block engine there is a domain without an operating system here; its disks are vda, vdb, ... One with a name is
        not the guest and stays what it is."""
        if 'name' in kw:
            return super().engine(*images, fmt=fmt, extra=extra, **kw)
        return self.bare(*[bed.Disk(image, f'vd{chr(97 + n)}', fmt) for n, image in enumerate(images)])

    def full_soon(self, name):
        """The directory of a file system of 2 MiB ("small") or 24 MiB ("medium")."""
        if not self.daemon.as_root:
            self.skipTest('only root can mount a small file system')
        path = self.daemon.path(name)
        self.addCleanup(lambda: [os.unlink(os.path.join(path, f)) for f in os.listdir(path)])
        return path

    @staticmethod
    def _full_file(size):
        """A raw file full of data, made once."""
        path = os.path.join(bed.cache_dir(), 'disks', f'full-{size}.raw')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as f:
                for number in range(bed.size_of(size) >> 20):
                    f.write(bytes([number % 251 + 1]) * (1 << 20))
            os.chmod(f.name, 0o644)
            os.rename(f.name, path)
        return path

    def full_disk(self, name, size):
        """A qcow2 image full of data; what it holds lies in a file below it."""
        self.img('create', '-q', '-f', 'qcow2', '-b', self._full_file(size), '-F', 'raw', self.path(name), size)
        return self.path(name)

    def served_disk(self, name, size, file=None):
        """The same, with what it holds (or a raw file does) on a server: see slowly()."""
        self.server = nbdpy.Server(self.path(f'{name}.sock'), bed.size_of(size), file=file or self._full_file(size))
        self.addCleanup(self.server.close)
        self.img('create', '-q', '-u', '-f', 'qcow2', '-b', f'nbd+unix:///?socket={self.server.path}', '-F', 'raw', self.path(name), str(size))
        return self.path(name)

    @contextlib.contextmanager
    def slowly(self):
        """Meanwhile the served disk is read slowly: a copy that is begun is not over before its limit is set. (It is not held: QEMU
        waits in the middle of its commands for what is being read.)"""
        self.server.rate = 2 << 20
        try:
            yield
        finally:
            self.server.rate = None

    def filled(self, name, size='64M', fill=None, fmt='qcow2'):
        """An image whose copy takes its time: fill bytes of data (default: all)."""
        data = bed.size_of(fill or size)
        return self.make_image(name, size, fmt, data=[(offset, min(16 << 20, data - offset), offset // (16 << 20) + 1) for offset in range(0, data, 16 << 20)])

    def state_dir(self, guest='g'):
        """The folder of a guest in the state directory."""
        [folder] = [f for f in os.listdir(self.path('state')) if f.startswith('libvirt-')]
        return self.path('state', folder, 'guests', guest)

    def job(self, *arguments, domain='g'):
        return self.json('backup-info', domain, *arguments)

    def wait_state(self, *states, domain='g', timeout=60):
        return bed.wait_for(f'job of {domain} is {states}', lambda: (lambda j: j if j['state'] in states else None)(self.job(domain=domain)), timeout)

    def write_xml(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)
        return self.path(name)

    def assert_no_journal(self, domain='g'):
        folder = self.state_dir(domain)
        self.assertFalse(os.path.exists(os.path.join(folder, 'online', 'journal')), 'a journal is left')
        for name in ('scratch', 'run'):
            if os.path.isdir(os.path.join(folder, name)):
                self.assert_files(os.path.join(folder, name))


if __name__ == '__main__':
    host(*sys.argv[1:])
