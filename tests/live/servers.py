"""Real servers of one's own on loopback, without systemd and without modules of the kernel; each is gone with its test."""
import contextlib
import fcntl
import glob
import os
import signal
import socket
import subprocess
import tempfile
import unittest
import uuid

import bed


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def need_root(what):
    if os.geteuid() != 0:
        raise unittest.SkipTest(f'{what} needs root')


def need_driver(driver, *options, program='qemu-storage-daemon'):
    """The storage daemon of this host, or this one, can open it: a driver may lie in a module that is not installed."""
    done = subprocess.run([program, '--blockdev', ','.join([f'driver={driver}', 'node-name=x', *options])],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if 'nknown driver' in done.stderr or 'does not accept value' in done.stderr:
        raise unittest.SkipTest(f'no {driver} driver for {program} (qemu-block-extra)')


class Server:
    """process: what hangs when it is stopped and dies when it is killed."""

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Tgtd(Server):
    """A tgtd with a target of so many units, each a file. chap: (user, password) that it asks for. initiator: who alone may come."""
    iqn = 'iqn.2026-01.test.libbackup:disk'

    def __init__(self, test, sizes=('64M',), chap=None, initiator=None):
        need_root('tgtd')
        self.test, self.chap, self.initiator = test, chap, initiator
        self.program, self.tool = bed.need('tgtd', 'tgt'), bed.need('tgtadm', 'tgt')
        need_driver('iscsi', 'transport=tcp', 'portal=127.0.0.1:1', 'target=x', 'lun=0')
        self.port = free_port()
        self.control = 1024 + os.getpid() % 60000
        self.files = [test.path(f'unit{n}') for n in range(1, 1 + len(sizes))]
        for file, size in zip(self.files, sizes):
            with open(file, 'wb') as f:
                f.truncate(bed.size_of(size))
        self.start()

    def start(self):
        self.process = self.test.popen(self.program, '-f', '-C', self.control, '--iscsi', f'portal=127.0.0.1:{self.port}',
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bed.wait_for('tgtd', lambda: self._tell('show', 'target', check=False).returncode == 0)
        self._tell('new', 'target', '--tid', 1, '-T', self.iqn)
        for number, file in enumerate(self.files, 1):
            self._tell('new', 'logicalunit', '--tid', 1, '--lun', number, '-b', file)
        self._tell('bind', 'target', '--tid', 1, *(['-Q', self.initiator] if self.initiator else ['-I', 'ALL']))
        if self.chap:
            user, password = self.chap
            self._tell('new', 'account', '--user', user, '--password', password)
            self._tell('bind', 'account', '--tid', 1, '--user', user)

    def _tell(self, op, mode, *words, **kw):
        return bed.run(self.tool, '-C', self.control, '--lld', 'iscsi', '--op', op, '--mode', mode, *words, **kw)

    def url(self, unit=1, secret=None, user=None, port=None, initiator=None):
        user = user or (self.chap and self.chap[0])
        words = [f'secret={secret}'] * bool(secret) + [f'initiator={initiator}'] * bool(initiator)
        return f'iscsi://{user + "@" if user else ""}127.0.0.1:{port or self.port}/{self.iqn}/{unit}{"?" * bool(words)}{"&".join(words)}'


class Ganesha(Server):
    """An NFS server in user space with one export, a folder. There is one port mapper a machine, so one of these at a time."""

    def __init__(self, test):
        need_root('nfs-ganesha')
        program, mapper = bed.need('ganesha.nfsd', 'nfs-ganesha'), bed.need('rpcbind', 'rpcbind')
        modules = glob.glob('/usr/lib/*/ganesha/libfsalvfs.so')
        if not modules:
            raise unittest.SkipTest('nfs-ganesha cannot export a folder here (package nfs-ganesha-vfs)')
        need_driver('nfs', 'server.type=inet', 'server.host=127.0.0.1', 'path=/x')
        self.test, self.program, self.export = test, program, test.path('export')
        os.makedirs(self.export, exist_ok=True)
        lock = open(os.path.join(tempfile.gettempdir(), 'libbackup-test-nfs.lock'), 'w')
        test.addCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not self._answers(111):
            test.popen(mapper, '-f', '-w', stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            bed.wait_for('rpcbind', lambda: self._answers(111))
        self.port = free_port()
        self.config = test.path('ganesha.conf')
        with open(self.config, 'w') as file:
            file.write(f'''
NFS_CORE_PARAM {{ NFS_Protocols = 3; Bind_addr = 127.0.0.1; NFS_Port = {self.port}; MNT_Port = {free_port()}; Enable_NLM = false;
                  Enable_RQUOTA = false; mount_path_pseudo = false; Plugins_Dir = "{os.path.dirname(modules[0])}"; }}
NFSV4 {{ Graceless = true; RecoveryBackend = fs; }}
EXPORT {{ Export_Id = 1; Path = {self.export}; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash; Protocols = 3;
          Transports = TCP; SecType = sys; PrivilegedPort = false; FSAL {{ Name = VFS; }} }}
''')
        self.start()

    def start(self):
        log = self.test.path('ganesha.log')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
        self.process = self.test.popen(self.program, '-F', '-L', log, '-f', self.config, '-p', self.test.path('ganesha.pid'), '-N', 'EVENT',
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ready():
            with contextlib.suppress(FileNotFoundError), open(log) as file:
                return 'NFS SERVER INITIALIZED' in file.read()
        bed.wait_for('nfs-ganesha', ready)

    @staticmethod
    def _answers(port):
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', port)) == 0

    def url(self, name, **words):
        return f'nfs://127.0.0.1{self.export}/{name}{"?" * bool(words)}{"&".join(f"{key}={value}" for key, value in words.items())}'


class Ceph(Server):
    """A Ceph of one monitor and one OSD in memory, with cephx, a pool and a user of it. It forgets everything when its OSD ends."""
    pool = 'pool'

    def __init__(self, test, size='512M'):
        for program, package in (('ceph-mon', 'ceph-mon'), ('ceph-osd', 'ceph-osd'), ('ceph', 'ceph-common'), ('rbd', 'ceph-common')):
            bed.need(program, package)
        need_driver('rbd', 'pool=x', 'image=x', 'conf=/nowhere')
        self.test, self.folder, self.port = test, test.path('ceph'), free_port()
        for folder in ('', 'mon', 'osd'):
            os.mkdir(os.path.join(self.folder, folder))
        self.conf, self.admin, keys = (self.at(name) for name in ('ceph.conf', 'admin.keyring', 'mon.keyring'))
        fsid = str(uuid.uuid4())
        with open(self.conf, 'w') as file:
            file.write(f"""[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{self.port}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {bed.size_of(size)}
mon data = {self.at('mon')}
osd data = {self.at('osd')}
run dir = {self.folder}
admin socket = {self.folder}/$name.$pid.asok
log file = {self.folder}/$name.log
ms bind msgr2 = false
mon data avail crit = 1
mon data avail warn = 1
osd class load list = *
osd class default list = *
[client]
log file =
admin socket =
""")
        everything = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *']
        bed.run('ceph-authtool', '--create-keyring', self.admin, '--gen-key', '-n', 'client.admin', *everything)
        bed.run('ceph-authtool', '--create-keyring', keys, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *')
        bed.run('ceph-authtool', keys, '--import-keyring', self.admin)
        bed.run('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', f'[v1:127.0.0.1:{self.port}]', self.at('monmap'))
        bed.run('ceph-mon', '-c', self.conf, '--mkfs', '-i', 'a', '--monmap', self.at('monmap'), '--keyring', keys)
        self.monitor = self._daemon('ceph-mon', '-i', 'a')
        osd = str(uuid.uuid4())
        self.tell('osd', 'new', osd)
        with open(self.at('osd', 'keyring'), 'w') as file:
            file.write(self.tell('auth', 'get-or-create', 'osd.0', 'mon', 'allow profile osd', 'osd', 'allow *').stdout)
        bed.run('ceph-osd', '-c', self.conf, '-i', 0, '--mkfs', '--osd-uuid', osd)
        self.process = self._daemon('ceph-osd', '-i', 0)
        self.tell('osd', 'crush', 'add', 'osd.0', '1.0', 'host=lab', 'root=default')
        self.tell('osd', 'pool', 'create', self.pool, '8', '8')
        bed.wait_for('the OSD', lambda: '1 up' in self.tell('osd', 'stat').stdout, timeout=60)
        key = self.tell('auth', 'get-or-create-key', 'client.backup', 'mon', 'profile rbd', 'osd', f'profile rbd pool={self.pool}').stdout
        self.key = key.strip()

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def _daemon(self, program, *words):
        return self.test.popen(program, '-f', '-c', self.conf, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def tell(self, *words):
        return bed.run('ceph', '-c', self.conf, '--keyring', self.admin, '--connect-timeout', 60, *words)

    def image(self, name):
        """Its content, as a file."""
        path = self.test.path(f'{name}.content')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        bed.run('rbd', '-c', self.conf, '--keyring', self.admin, '--no-progress', 'export', f'{self.pool}/{name}', path)
        return path
