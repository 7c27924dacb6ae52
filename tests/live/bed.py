"""The live test bed: real QEMUs, a real guest, a baksh of one's own, and what can be asserted about them.

    class PushTest(bed.LiveTest):
        def test_a_push_is_exact(self):
            guest = self.guest(disks=2)                      # boots, writes on both disks
            self.must('attach', 'g', '--qmp', guest.qmp_path)
            self.must('backup-begin', 'g', '--mode', 'push', '--target', f'vda={self.path("a.qcow2")}', …, '--wait')
            self.assert_one_instant(self.path('a.qcow2'), self.path('b.qcow2'))
            self.assert_never_paused(guest)
            self.assert_nothing_left(guest)

Which QEMU: LiveTest.version, from QEMU_VERSION (5.2, 7.2, 10.0, 11.1; default 7.2, this machine's own).
Nothing sleeps: sockets are handed over listening or connected, and every wait is for an event and has a deadline.
Whatever is started is registered for clean-up at once. A test that cannot run here is skipped and says why.
"""
import collections
import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import verify  # noqa: E402

KNOWN_VERSIONS = ('5.2', '7.2', '10.0', '11.1')
SLOW = float(os.environ.get('LIBBACKUP_TEST_SLOW', '1'))    # deadlines are multiplied by it (sanitizers, valgrind)


def cache_dir():
    if os.environ.get('LIBBACKUP_TEST_CACHE'):
        return os.environ['LIBBACKUP_TEST_CACHE']
    if os.geteuid() == 0:
        return '/var/cache/libbackup-test'
    return os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'libbackup-test')


def qemu_version():
    return os.environ.get('QEMU_VERSION', '7.2')


def version_tuple(version):
    return tuple(int(n) for n in version.split('.'))


def tool(name, version=None):
    """Path of qemu-system-x86_64, qemu-img, qemu-nbd, qemu-io or qemu-storage-daemon of a version; skips if it is not there."""
    version = version or qemu_version()
    if version not in KNOWN_VERSIONS:
        raise ValueError(f'QEMU_VERSION={version}: known are {" ".join(KNOWN_VERSIONS)}')
    path = shutil.which(name) if version == '7.2' else os.path.join(cache_dir(), f'bin-{version}', name)
    if not path or not os.path.exists(path):
        how = 'scripts/setup' if version == '7.2' else 'scripts/qemus'
        raise unittest.SkipTest(f'no {name} of QEMU {version} here: run {how}')
    return path


def need(program, package):
    path = shutil.which(program)
    if not path:
        raise unittest.SkipTest(f'{program} is not installed (package {package})')
    return path


def run(*argv, timeout=120, check=True, **kw):
    """Run a helper program; its output is in the error when it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout * SLOW,
                          stdin=kw.pop('stdin', subprocess.DEVNULL), **kw)
    return succeeded(done) if check else done


def succeeded(done):
    if done.returncode:
        raise AssertionError(f'{" ".join(map(str, done.args))}: exit {done.returncode}\n{done.stdout}{done.stderr}')
    return done


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds * SLOW

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def passed(self):
        return time.monotonic() >= self.end


def wait_for(what, condition, timeout=30):
    """For the few things that have no event (a file that another process removes, a process that ends)."""
    deadline = Deadline(timeout)
    pause = 0.002
    while True:
        got = condition()
        if got:
            return got
        if deadline.passed():
            raise AssertionError(f'timed out after {timeout} s: {what}')
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def holds_lock(path):
    """Some process has locked it; what QEMU writes to is."""
    inode = f':{os.stat(path).st_ino} '
    with open('/proc/locks') as f:
        return any(inode in line for line in f)


def listen_unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(8)
    return s


class QmpError(Exception):
    def __init__(self, command, error):
        self.error_class = error.get('class')
        self.desc = error.get('desc')
        super().__init__(f'{command}: {self.error_class}: {self.desc}')


class Qmp:
    """A blocking QMP client for the tests' own questions. Events are kept; wait_event looks at the kept ones first."""

    def __init__(self, sock, alive=lambda: None, oob=False):
        self.sock = sock
        self.alive = alive
        self.buffer = b''
        self.events = []
        self.unseen = []
        self.replies = {}
        self.next_id = 0
        self._read_until(lambda: getattr(self, 'greeting', None), 'QMP greeting', Deadline(30))
        self.execute('qmp_capabilities', **({'enable': ['oob']} if oob else {}))

    @classmethod
    def connect(cls, path, **kw):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return cls(s, **kw)

    def _take(self, message):
        if 'event' in message:
            self.events.append(message)
            self.unseen.append(message)
        elif 'QMP' in message:
            self.greeting = message['QMP']
        else:
            self.replies[message.get('id')] = message

    def _read_until(self, done, what, deadline):
        while not done():
            if not select.select([self.sock], [], [], min(deadline.left(), 1.0))[0]:
                self.alive()
                if deadline.passed():
                    raise AssertionError(f'timed out: {what}')
                continue
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError:
                data = b''
            if not data:
                self.alive()
                raise AssertionError(f'the monitor was closed: {what}')
            *lines, self.buffer = (self.buffer + data).split(b'\n')
            for line in lines:
                if line.strip():
                    self._take(json.loads(line))

    def send(self, command, oob=False, **arguments):
        self.next_id += 1
        message = {'exec-oob' if oob else 'execute': command, 'id': self.next_id}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        try:
            self.sock.sendall(json.dumps(message).encode() + b'\n')
        except ConnectionError as e:
            self.alive()
            raise AssertionError(f'the monitor was closed: {command}') from e
        return self.next_id

    def reply(self, number, what, timeout=30):
        self._read_until(lambda: number in self.replies, f'reply to {what}', Deadline(timeout))
        message = self.replies.pop(number)
        if 'error' in message:
            raise QmpError(what, message['error'])
        return message['return']

    def execute(self, command, timeout=30, **arguments):
        return self.reply(self.send(command, **arguments), command, timeout)

    def hmp(self, line):
        return self.execute('human-monitor-command', command_line=line)

    def wait_event(self, name, timeout=30, **data):
        """The first event of that name whose data has these values and that no wait has returned yet."""
        deadline = Deadline(timeout)
        looked = 0
        while True:
            self._read_until(lambda: len(self.unseen) > looked, f'event {name} {data or ""}', deadline)
            event = self.unseen[looked]
            if event['event'] == name and all(event.get('data', {}).get(k.replace('_', '-')) == v for k, v in data.items()):
                del self.unseen[looked]
                return event
            looked += 1

    def drain(self):
        """Take in what has arrived, by asking something, so that all events before the answer are kept too."""
        self.execute('query-jobs')
        return self.events

    def run_job(self, command, job_id, timeout=60, **arguments):
        """A command that makes a job: wait until it concluded, dismiss it, return its error text or None."""
        self.execute(command, job_id=job_id, **arguments)
        self.wait_event('JOB_STATUS_CHANGE', timeout=timeout, id=job_id, status='concluded')
        job = [j for j in self.execute('query-jobs') if j['id'] == job_id][0]
        self.execute('job-dismiss', id=job_id)
        return job.get('error')


class Qemu:
    """One running QEMU (or qemu-storage-daemon) with a monitor for libbackup (qmp_path) and one of our own (self.qmp)."""

    def __init__(self, test, arguments, version=None, name='qemu', binary='qemu-system-x86_64', env=None, start=True):
        self.test = test
        self.name = name
        self.version = version or test.version
        self.binary = binary
        self.directory = test.path(name)
        os.makedirs(self.directory, exist_ok=True)
        self.qmp_path = os.path.join(self.directory, 'qmp')
        self.agent_path = os.path.join(self.directory, 'agent')
        self.arguments = list(arguments)
        self.env = env
        self.process = None
        self.qmp = None
        self.stderr_path = os.path.join(self.directory, 'stderr')
        if start:
            self.start()

    def _extra(self, passed):
        """Arguments of what every QEMU here has; appends to passed the sockets that QEMU inherits."""
        self.listener = self._listen(self.qmp_path)
        self.mine, theirs = socket.socketpair()
        passed += [self.listener, theirs]
        return ['--chardev', f'socket,id=bed-qmp,fd={self.listener.fileno()},server=on,wait=off',
                *self._mon('bed-qmp'),
                '--chardev', f'socket,id=bed-own,fd={theirs.fileno()}', *self._mon('bed-own')]

    def _mon(self, chardev):
        if self.binary == 'qemu-storage-daemon':
            return ['--monitor', f'chardev={chardev}']
        return ['-mon', f'chardev={chardev},mode=control']

    def _listen(self, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        s = listen_unix(path)
        s.setblocking(False)        # QEMU's main thread and its monitor's may both see the first client: the second would wait in accept
        return s

    def _argv(self, passed):
        common = [] if self.binary == 'qemu-storage-daemon' else \
            ['-nodefaults', '-no-user-config', '-display', 'none', '-name', self.name]
        return [tool(self.binary, self.version), *common, *self._extra(passed), *self.arguments]

    def start(self):
        passed = []
        argv = self._argv(passed)
        with open(self.stderr_path, 'ab') as stderr:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd=self.directory,
                                            pass_fds=[s.fileno() for s in passed], env=self.env, start_new_session=True)
        self.test.addCleanup(self.kill)
        self.test.addCleanup(self.mine.close)
        for s in passed:
            s.close()
        self.qmp = Qmp(self.mine, alive=self.check_alive)
        return self

    def stderr(self):
        with open(self.stderr_path, errors='replace') as f:
            return f.read()

    def check_alive(self):
        rc = self.process.poll()
        if rc is not None:
            raise AssertionError(f'{self.name} (QEMU {self.version}) ended with {rc}:\n{self.stderr()[-3000:]}')

    def is_running(self):
        return self.process.poll() is None

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            if sig == signal.SIGKILL:
                self.process.wait()
        if self.qmp and sig == signal.SIGKILL:
            self.qmp.sock.close()

    die = kill

    def quit(self, timeout=30):
        """A clean end, in which persistent bitmaps are written."""
        with contextlib.suppress(AssertionError):
            self.qmp.execute('quit')
        self.process.wait(timeout * SLOW)
        self.qmp.sock.close()

    @contextlib.contextmanager
    def stopped(self):
        """SIGSTOP: a QEMU that hangs."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    # What QEMU holds

    def node(self, disk=0):
        """The node of a disk of an engine: disk0, disk1, ..."""
        return f'disk{disk}'

    def nodes(self):
        return self.qmp.execute('query-named-block-nodes', **({'flat': True} if version_tuple(self.version) >= (5, 0) else {}))

    def all_bitmaps(self):
        """{(node, bitmap name): bitmap} of the named ones."""
        return {(n['node-name'], b['name']): b for n in self.nodes() for b in n.get('dirty-bitmaps', []) if b.get('name')}

    def bitmaps(self):
        """The same without the seals that stand beside the bitmap that they were made with."""
        found = self.all_bitmaps()
        beside = {(node, seal_prefix(name)) for node, name in found}
        return {key: bitmap for key, bitmap in found.items() if (key[0], key[1][:len('bak-seal-') + 8]) not in beside}

    def seals(self, node=None):
        """[name] of what the checkpoints have left beside their bitmaps."""
        return sorted(name for at, name in self.all_bitmaps() if name.startswith('bak-seal-') and not name.endswith('-end') and node in (None, at))

    def objects(self):
        """User-made objects: secrets, TLS credentials, throttle groups, iothreads."""
        try:
            return {o['name'] for o in self.qmp.execute('qom-list', path='/objects') if o['type'].startswith('child')}
        except QmpError as e:       # no object was ever made
            if e.error_class == 'DeviceNotFound':
                return set()
            raise

    def picture(self):
        """All names that a backup could leave behind."""
        picture = {'node': {n['node-name'] for n in self.nodes() if not n['node-name'].startswith('#')},
                   'job': {j['id'] for j in self.qmp.execute('query-jobs')},
                   'export': {e['id'] for e in self.qmp.execute('query-block-exports')},
                   'object': self.objects(),
                   'bitmap': {'/'.join(key) for key in self.bitmaps()}}
        return {(kind, name) for kind, names in picture.items() for name in names}

    def ours(self):
        """What is named bak- anywhere."""
        return sorted((kind, name) for kind, name in self.picture() if re.search(r'(^|/)bak-', name))

    def io(self, node, command):
        """qemu-io in this process ("write -P 7 0 64k"): what a guest does, for -machine none."""
        out = self.qmp.hmp(f'qemu-io {node} "{command}"')
        if 'error' in out.lower() or 'failed' in out.lower():
            raise AssertionError(f'qemu-io {node} {command}: {out}')
        return out


def seal_prefix(bitmap):
    """How the seal begins that is made beside a bitmap of this name."""
    return 'bak-seal-' + hashlib.sha256(bitmap.encode() + b'\0').hexdigest()[:8]


class Disk:
    """A disk of a guest: an image file and how it is plugged in. top: driver and options of a node between it and its device."""

    def __init__(self, path, target, fmt='qcow2', bus='virtio', node=None, options='', file_options='', device_options='', top=None):
        self.path, self.target, self.fmt, self.bus = path, target, fmt, bus
        self.node = node or f'disk-{target}'
        self.options, self.file_options, self.device_options, self.top = options, file_options, device_options, top


class Guest(Qemu):
    """The writing guest. See tests/guest/writer.c for what it says and hears on its control port."""

    def __init__(self, test, disks, rate=0, latency=False, agent=True, start_writing=True, mount=None, iothread=False,
                 extra=(), kernel_words='', memory=192, **kw):
        self.disks, self.rate, self.latency, self.agent = disks, rate, latency, agent
        self.start_writing, self.iothread, self.memory = start_writing, iothread, memory
        self.mount = len(disks) if mount is None else mount
        self.kernel_words = kernel_words
        self.lines, self.reader = [], None
        self.have_line = threading.Condition()
        super().__init__(test, extra, **kw)

    def _extra(self, passed):
        out = super()._extra(passed)
        folder = guest_folder()
        self.serial_path = os.path.join(self.directory, 'serial')
        words = (f'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check '
                 f'bak.disks={self.mount} bak.rate={self.rate} '
                 f'bak.start={"go" if self.start_writing else "stop"} bak.latency={"on" if self.latency else "off"} '
                 f'bak.agent={"on" if self.agent else "off"} {self.kernel_words}')
        out += ['-machine', 'pc', '-accel', 'tcg', '-m', str(self.memory),
                '-kernel', f'{folder}/vmlinuz', '-initrd', f'{folder}/initrd', '-append', words,
                '-serial', f'file:{self.serial_path}', '-device', 'virtio-serial-pci,id=bed-serial']
        self.control, theirs = socket.socketpair()
        passed.append(theirs)
        out += ['-chardev', f'socket,id=bed-control,fd={theirs.fileno()}',
                '-device', 'virtserialport,chardev=bed-control,name=org.libbackup.test.0']
        if self.agent:
            listener = self._listen(self.agent_path)
            passed.append(listener)
            out += ['-chardev', f'socket,id=bed-agent,fd={listener.fileno()},server=on,wait=off',
                    '-device', 'virtserialport,id=bed-agent-port,chardev=bed-agent,name=org.qemu.guest_agent.0']
        if self.iothread:
            out += ['-object', 'iothread,id=bed-iothread']
        if any(d.bus == 'scsi' for d in self.disks):
            out += ['-device', 'virtio-scsi-pci,id=bed-scsi' + (',iothread=bed-iothread' if self.iothread else '')]
        for number, disk in enumerate(self.disks):
            out += self._disk(number, disk)
        return out

    def _disk(self, number, disk):
        file_node = f'{disk.node}-file'
        out = ['-blockdev', f'driver=file,node-name={file_node},filename={disk.path},discard=unmap{disk.file_options}',
               '-blockdev', f'driver={disk.fmt},node-name={disk.node},file={file_node},discard=unmap{disk.options}']
        if disk.bus == 'none':      # its device is among the extra arguments
            return out
        device = {'virtio': 'virtio-blk-pci', 'scsi': 'scsi-hd', 'ide': 'ide-hd'}[disk.bus]
        place = {'virtio': ',iothread=bed-iothread' if self.iothread else '', 'scsi': ',bus=bed-scsi.0', 'ide': ''}[disk.bus]
        drive = disk.node
        if disk.top:
            drive = f'{disk.node}-top'
            out += ['-blockdev', f'node-name={drive},file={disk.node},driver={disk.top}']
        return out + ['-device', f'{device},drive={drive},id={disk.target},serial=bak{number}{place}{disk.device_options}']

    @contextlib.contextmanager
    def frozen(self):
        with Agent(self) as agent:
            agent.execute('guest-fsfreeze-freeze')
            try:
                yield
            finally:
                agent.execute('guest-fsfreeze-thaw')

    def start(self):
        if self.reader:     # of the time before: it says that the port has closed
            self.reader.join(30)
        self.lines = []
        super().start()
        self.test.addCleanup(self.control.close)
        self.reader = threading.Thread(target=self._read_control, args=(self.control,), daemon=True)
        self.reader.start()
        return self

    def _read_control(self, control):
        buffer = b''
        while True:
            try:
                data = control.recv(4096)
            except OSError:
                data = b''
            with self.have_line:
                if not data:
                    self.lines.append(None)
                    self.have_line.notify_all()
                    return
                *lines, buffer = (buffer + data).split(b'\n')
                self.lines += [line.decode(errors='replace').strip() for line in lines]
                self.have_line.notify_all()

    def serial(self):
        with open(self.serial_path, errors='replace') as f:
            return f.read()

    def wait_line(self, what, match, since=0, timeout=60):
        """The first line from the writer, at or after the since'th, for which match returns something; returns that."""
        deadline = Deadline(timeout)
        with self.have_line:
            while True:
                for line in self.lines[since:]:
                    got = match(line) if line is not None else None
                    if got:
                        return got
                since = max(since, len(self.lines))
                if self.lines and self.lines[-1] is None:
                    self.check_alive()
                    raise AssertionError(f'{self.name}: the control port closed while waiting for {what}')
                if deadline.passed():
                    raise AssertionError(f'{self.name}: timed out after {timeout} s waiting for {what}; the writer last said '
                                         f'{self.lines[-3:]}; QEMU is {self.condition()}\nserial: {self.serial()[-2000:]}\n{self.stderr()[-1000:]}')
                self.have_line.wait(min(deadline.left(), 0.5))
                if not self.is_running():
                    self.check_alive()

    def condition(self):
        try:
            return self.qmp.execute('query-status')['status']
        except Exception as e:      # of what is told beside another failure
            return f'silent ({e!r})'

    def tell(self, command):
        self.control.sendall(command.encode() + b'\n')

    def ask(self, command, answer, timeout=60):
        since = len(self.lines)
        self.tell(command)
        return self.wait_line(f'answer to "{command}"', lambda line: re.match(answer, line), since, timeout)

    def wait_ready(self, timeout=90):
        return int(self.wait_line('ready', lambda line: re.match(r'ready (\d+)', line), timeout=timeout)[1])

    def round(self):
        """The last whole round."""
        return int(self.ask('where', r'at (\d+)$')[1])

    def wait_rounds(self, more, timeout=60):
        """Until so many more rounds are written: the guest makes progress. Returns the round."""
        return self.wait_round(self.round() + more, timeout)

    def wait_round(self, number, timeout=60):
        def reached(line):
            got = re.match(r'round (\d+)$', line)
            return int(got[1]) if got and int(got[1]) >= number else None
        return self.wait_line(f'round {number}', reached, max(0, len(self.lines) - 50), timeout)

    def write_errors(self):
        return [line for line in self.lines if line and line.startswith('error ')]

    def windows(self):
        """[(rounds, p50, p99, max)] in µs, as the writer measured them while latency was on."""
        return [tuple(map(int, line.split()[1:])) for line in self.lines if line and line.startswith('window ')]

    def stop_writing(self):
        return int(self.ask('stop', r'stopped (\d+)$')[1])

    def go_on_writing(self):
        return int(self.ask('go', r'going (\d+)$')[1])

    def power_off(self, timeout=60):
        self.tell('poweroff')
        self.process.wait(timeout * SLOW)
        self.qmp.sock.close()


class NbdServer:
    """An nbdkit on a unix socket, to be a target that misbehaves on order.

    NbdServer(test, 'memory', '64M')                      a good one
    NbdServer(test, 'memory', '64M', filters=['rate'], options=['rate=80M'])
    NbdServer(test, *failing_server(test, size, …))       one that fails at a chosen point
    """

    def __init__(self, test, *plugin, filters=(), options=(), name='nbd'):
        self.path = test.path(f'{name}.sock')
        self.uri = f'nbd+unix:///?socket={self.path}'
        self.log = test.path(f'{name}.log')
        listener = listen_unix(self.path)
        # socket activation: it listens from the start, so nobody waits for it
        argv = [need('nbdkit', 'nbdkit'), '--foreground', '--exit-with-parent', *(f'--filter={f}' for f in filters),
                *map(str, plugin), *map(str, options)]
        script = 'exec 3<&%d; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"' % listener.fileno()
        with open(self.log, 'wb') as log:
            self.process = test.popen('sh', '-c', script, 'sh', *argv, stdout=log, stderr=log,
                                      pass_fds=[listener.fileno()])
        listener.close()

    def stop(self):
        """SIGSTOP: it holds its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


def failing_server(test, image, flush_fails=False, writes_until=None, name='failing'):
    """Arguments of an nbdkit plugin that serves a raw file and fails: every flush, or every write after so many bytes."""
    written = test.path(f'{name}.written')
    with open(written, 'w') as f:
        f.write('0')
    limit = -1 if writes_until is None else writes_until
    pwrite = (f'n=$(cat {written}); if [ {limit} -ge 0 ] && [ $n -ge {limit} ]; then cat >/dev/null; echo "EIO broken" >&2; exit 1; fi; '
              f'echo $((n + $3)) > {written}; dd of={image} oflag=seek_bytes seek=$4 conv=notrunc bs=1M iflag=fullblock status=none')
    return ('eval', 'thread_model=echo serialize_all_requests', f'get_size=stat -c %s {image}',
            f'pread=dd if={image} iflag=skip_bytes,count_bytes,fullblock skip=$4 count=$3 bs=1M status=none',
            f'pwrite={pwrite}', 'can_write=exit 0', 'can_flush=exit 0',
            f'flush={"echo EIO broken >&2; exit 1" if flush_fails else "exit 0"}')


class Agent:
    """The guest agent, for what a test must see with its own eyes (is it thawed?). One client at a time, so: with Agent(guest)."""

    def __init__(self, guest, timeout=30):
        self.guest, self.timeout = guest, timeout

    def __enter__(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout * SLOW)
        try:
            self.sock.connect(self.guest.agent_path)
            self._sync()
        except BaseException:
            self.sock.close()
            raise
        return self

    def _sync(self):
        token = random.getrandbits(48)
        self.sock.sendall(b'\xff' + json.dumps({'execute': 'guest-sync-delimited', 'arguments': {'id': token}}).encode() + b'\n')
        self.buffer = b''
        while json.loads(self._line().rpartition(b'\xff')[2] or b'{}').get('return') != token:
            pass

    def __exit__(self, *unused):
        self.sock.close()

    def _line(self):
        while b'\n' not in self.buffer:
            data = self.sock.recv(4096)
            if not data:
                raise AssertionError('the guest agent socket was closed')
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b'\n')
        return line

    def execute(self, command, **arguments):
        message = {'execute': command}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        self.sock.sendall(json.dumps(message).encode() + b'\n')
        got = json.loads(self._line())
        if 'error' in got:
            raise QmpError(command, got['error'])
        return got['return']


_guest_folder = None


def guest_folder():
    """Where the test guest's kernel and initramfs are; builds them if need be."""
    global _guest_folder
    if not _guest_folder:
        done = run(os.path.join(TOP, 'tests/guest/build'), timeout=300, check=False,
                   env={**os.environ, 'LIBBACKUP_TEST_CACHE': cache_dir()})
        if done.returncode:
            raise unittest.SkipTest(f'the test guest cannot be built here: {done.stderr.strip()[-500:]}')
        _guest_folder = done.stdout.strip().splitlines()[-1]
    return _guest_folder


def disk_template(size, fill, number):
    """A raw ext4 image in the cache with `fill` bytes of random data in a file, so that a copy takes its time."""
    folder = os.path.join(cache_dir(), 'disks')
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f'{size}-{fill}-{number}.raw')
    if not os.path.exists(path):
        with tempfile.TemporaryDirectory(dir=folder) as tmp:
            files = os.path.join(tmp, 'files')
            os.mkdir(files)
            verify.make_fill(files, fill, number)
            raw = os.path.join(tmp, 'raw')
            with open(raw, 'wb') as f:
                f.truncate(size)
            run(shutil.which('mke2fs') or '/sbin/mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-J', 'size=4', '-m', '0',
                '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', files, raw)
            os.rename(raw, path)
    return path


def baksh_path():
    """BAKSH, else of BUILD_DIR, else of the newest of the usual build folders."""
    if os.environ.get('BAKSH'):
        places = [os.environ['BAKSH']]
    else:
        folders = [os.environ['BUILD_DIR']] if os.environ.get('BUILD_DIR') else \
            [os.path.join(TOP, b) for b in ('build', 'build-check/gcc', 'build-demo')]
        places = [os.path.join(f, 'tools/baksh/baksh') for f in folders]
    found = [p for p in places if os.access(p, os.X_OK)]
    if not found:
        raise unittest.SkipTest(f'no baksh at {" or ".join(places)}: build first, or set BAKSH')
    return max(found, key=os.path.getmtime)


Result = collections.namedtuple('Result', 'rc out err argv')


def _be_subreaper():
    """Processes that baksh leaves running (its watcher) become our children when it ends, so that they can be found."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


class LiveTest(unittest.TestCase):
    maxDiff = None
    folder = None       # where the files of the tests go; None: /tmp
    prefix = ()         # what baksh is run by

    def setUp(self):
        self.version = qemu_version()
        _be_subreaper()
        # short: unix socket paths have 107 bytes
        self.directory = tempfile.mkdtemp(prefix='bak-', dir=os.environ.get('LIBBACKUP_TEST_TMP') or self.folder or '/tmp')
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(self._end_strays)
        self.seed = int(os.environ.get('LIBBACKUP_TEST_SEED') or random.randrange(1 << 32))
        self.random = random.Random(self.seed)
        for name in ('state', 'run', 'home'):
            os.mkdir(self.path(name), 0o700)
        self.environment = {**os.environ, 'LIBBACKUP_STATE_DIR': self.path('state'), 'XDG_RUNTIME_DIR': self.path('run'),
                            'XDG_STATE_HOME': self.path('home'), 'XDG_CONFIG_HOME': self.path('home'), 'HOME': self.path('home'),
                            'LIBBACKUP_DEFAULT_URI': 'qemu:///session', 'LC_ALL': 'C.UTF-8'}
        if os.environ.get('LIBBACKUP_TEST_DAEMON'):
            self._start_daemon()

    def _start_daemon(self):
        """LIBBACKUP_TEST_DAEMON=1: the same tests, all through a libbackupd that owns the state directory."""
        path = os.path.join(os.environ.get('BUILD_DIR') or os.path.join(TOP, 'build'), 'tools/libbackupd/libbackupd')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.path('libbackupd.log'), 'ab') as log:
            ready.bind(self.path('run', 'notify'))
            ready.settimeout(30 * SLOW)
            self.daemon_process = self.popen(path, '--session', stderr=log, env={**self.environment, 'NOTIFY_SOCKET': self.path('run', 'notify')})
            assert ready.recv(100) == b'READY=1'

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def state_dir(self, guest='g'):
        """The folder of a guest in the state directory."""
        return self.path('state', 'guests', guest)

    # Processes

    def _our_children(self):
        mine, ours = f'LIBBACKUP_STATE_DIR={self.path("state")}'.encode(), []
        for pid in self._children():
            with contextlib.suppress(OSError), open(f'/proc/{pid}/environ', 'rb') as f:
                if mine in f.read().split(b'\0'):
                    ours.append(pid)
        return ours

    @staticmethod
    def _children():
        pids = []
        for task in os.listdir('/proc/self/task'):
            with contextlib.suppress(OSError), open(f'/proc/self/task/{task}/children') as f:
                pids += map(int, f.read().split())
        return pids

    def _end_strays(self):
        for _ in range(3):      # a watcher's own children become ours when it ends
            for pid in self._our_children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def watchers(self):
        """Processes of ours that outlived the shell that started them."""
        for pid in self._our_children():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return self._our_children()

    def popen(self, *argv, **kw):
        process = subprocess.Popen([str(a) for a in argv], **{'stdin': subprocess.DEVNULL, **kw})

        def end():
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.addCleanup(end)
        return process

    # baksh

    def baksh(self, *arguments, timeout=120, env=None, stdin=None, uri=None):
        argv = [*self.prefix, baksh_path(), *(['-c', uri] if uri else []), *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout * SLOW, input=stdin,
                              stdin=subprocess.DEVNULL if stdin is None else None, env={**self.environment, **(env or {})})
        return Result(done.returncode, done.stdout, done.stderr, argv[len(self.prefix) + 1:])

    def must(self, *arguments, rc=0, **kw):
        """baksh that has to end with that exit status."""
        done = self.baksh(*arguments, **kw)
        if done.rc != rc:
            self.fail(f'baksh {" ".join(map(str, arguments))}: exit {done.rc}, not {rc}\n{done.out}{done.err}')
        return done

    def json(self, *arguments, rc=0, **kw):
        return json.loads(self.must(*arguments, '--json', rc=rc, **kw).out)

    def listing(self, *arguments, **kw):
        """The one named list that a document is."""
        [rows] = self.json(*arguments, **kw).values()
        return rows

    def baksh_start(self, *arguments, **kw):
        """baksh in the background."""
        return self.popen(baksh_path(), *arguments, env=self.environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **kw)

    # Images

    def img(self, *arguments, **kw):
        """qemu-img of the newest version around for neutral checks: this machine's own.

        It measures its key derivation when it formats LUKS, and gives up where the clock of a busy machine stood still: it is asked again.
        """
        check = kw.pop('check', True)
        for left in reversed(range(10)):
            done = run(tool('qemu-img', '7.2'), *arguments, check=False, **kw)
            if not (done.returncode and left and 'accurate CPU usage' in done.stderr):
                break
        return succeeded(done) if check else done

    def make_disk(self, name, size='64M', fill=0, fmt='qcow2', number=0, options=()):
        """An ext4 disk for the writing guest."""
        path = self.path(name)
        bytes_ = size_of(size)
        self.img('convert', '-f', 'raw', '-O', fmt, *options, disk_template(bytes_, size_of(fill), number), path)
        return path

    def make_image(self, name, size='64M', fmt='qcow2', data=None, options=()):
        """A plain image; data = [(offset, length, byte)] is written into it."""
        path = self.path(name)
        self.img('create', '-q', '-f', fmt, *options, path, str(size_of(size)))
        if data:
            commands = [x for offset, length, byte in data for x in ('-c', f'write -q -P {byte} {offset} {length}')]
            run(tool('qemu-io', '7.2'), '-f', fmt, *commands, path)
        return path

    # Guests

    def guest(self, disks=2, size='64M', fill='16M', fmt='qcow2', bus='virtio', wait=True, name='guest', **kw):
        """Boot the writing guest with so many disks (or these Disk objects) called vda, vdb, …"""
        if isinstance(disks, int):
            letters = 'abcdefghijklmnopqrstuvwxyz'
            disks = [Disk(self.make_disk(f'{name}-vd{letters[n]}.{fmt}', size, fill, fmt, n), f'vd{letters[n]}', fmt, bus)
                     for n in range(disks)]
        guest = Guest(self, disks, name=name, **kw)
        if wait:
            guest.wait_ready()
        return guest

    def engine(self, *images, name='engine', fmt='qcow2', extra=(), **kw):
        """A bare block engine (-machine none), up in 50 ms; images: paths or (node, path), nodes disk0, disk1, …"""
        arguments = ['-machine', 'none']
        for number, image in enumerate(images):
            node, path = image if isinstance(image, tuple) else (f'disk{number}', image)
            arguments += ['-blockdev', f'driver=file,node-name={node}-file,filename={path},discard=unmap',
                          '-blockdev', f'driver={fmt},node-name={node},file={node}-file,discard=unmap']
        return Qemu(self, [*arguments, *extra], name=name, **kw)

    def machine(self, *arguments, name='machine', **kw):
        """A real machine with device models that never runs a guest (-S): for drives, CD-ROMs, read-only disks."""
        return Qemu(self, ['-machine', 'pc', '-accel', 'tcg', '-m', '32', '-S', *arguments], name=name, **kw)

    def small_fs(self, size, name='small'):
        """A file system of so many bytes (tmpfs), to be filled; needs root."""
        path = self.path(name)
        os.makedirs(path)
        if os.geteuid() != 0:
            raise unittest.SkipTest('mounting a small file system needs root')
        done = run('mount', '-t', 'tmpfs', '-o', f'size={size_of(size)},mode=0700', 'bak-test', path, check=False)
        if done.returncode:
            raise unittest.SkipTest(f'cannot mount a tmpfs here: {done.stderr.strip()}')
        self.addCleanup(lambda: run('umount', '-l', path, check=False))
        return path

    def nbd_reader(self, uri):
        """A libnbd handle on an export."""
        try:
            import nbd
        except ImportError:
            raise unittest.SkipTest('python3-libnbd is not installed')
        handle = nbd.NBD()
        handle.set_request_structured_replies(True)
        handle.connect_uri(uri)
        return handle

    def nbdcopy(self, source, target):
        """Read an export to the end, as a user does."""
        return run(need('nbdcopy', 'libnbd-bin'), source, target)

    # What must hold

    def assert_one_instant(self, *copies, fmt=None, quiesced=None):
        report = verify.verify(copies, fmt=fmt, quiesced=quiesced)
        self.assertTrue(report.good, f'seed {self.seed}\n{report}')
        return report

    def assert_same(self, a, b, fa=None, fb=None):
        done = self.img('compare', '-U', *(('-f', fa) if fa else ()), *(('-F', fb) if fb else ()), a, b, check=False)
        self.assertEqual(done.returncode, 0, f'{a} and {b} differ: {done.stdout}{done.stderr}')

    def assert_different(self, a, b):
        self.assertEqual(self.img('compare', '-U', a, b, check=False).returncode, 1, f'{a} and {b} are the same')

    def assert_nothing_left(self, qemu, picture=None):
        """Nothing of ours is in QEMU; with the picture from before, nothing at all is new or gone. Ends a NBD server."""
        self.assertEqual(qemu.ours(), [], 'left in QEMU')
        if picture is not None:
            self.assertEqual(qemu.picture(), picture)
        with self.assertRaisesRegex(QmpError, 'NBD server not running', msg='the NBD server was left running'):
            qemu.qmp.execute('nbd-server-stop')

    def assert_files(self, folder, *names):
        """Just these files are in the folder."""
        self.assertEqual(sorted(os.listdir(folder)), sorted(names))

    def assert_never_paused(self, qemu):
        """Since it was started: it ran all the time, and no device had an I/O error."""
        bad = [e for e in qemu.qmp.drain() if e['event'] in ('STOP', 'BLOCK_IO_ERROR', 'GUEST_PANICKED')]
        self.assertEqual(bad, [])
        self.assertEqual(qemu.qmp.execute('query-status')['status'], 'running')

    def assert_guest_works(self, guest, rounds=50):
        """The writer writes on, and never had an error."""
        guest.wait_rounds(rounds)
        self.assertEqual(guest.write_errors(), [])
        self.assert_never_paused(guest)


def size_of(text):
    """'64M' as bytes."""
    if isinstance(text, int):
        return text
    return int(text[:-1]) << {'k': 10, 'K': 10, 'M': 20, 'G': 30}[text[-1]] if text[-1].isalpha() else int(text)


def main():
    unittest.main(verbosity=2)
