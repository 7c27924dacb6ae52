"""A real sshd of one's own, with keys of its own, and an ssh that reaches it and nothing else."""
import os
import signal
import socket
import subprocess

import bed


class Sshd:
    """port: where it listens on 127.0.0.1. command: a program that is ssh with the right key. environment: what commands there get."""

    def __init__(self, test, environment=''):
        self.test = test
        sshd = bed.need('sshd', 'openssh-server')
        for key in ('host', 'mine', 'other'):
            bed.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', test.path(key))
        if os.geteuid() == 0:
            os.makedirs('/run/sshd', exist_ok=True)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        config = self._write('sshd', f"""ListenAddress 127.0.0.1
Port {self.port}
HostKey {test.path("host")}
AuthorizedKeysFile {test.path("mine.pub")}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
Subsystem sftp internal-sftp
KbdInteractiveAuthentication no
{environment and "SetEnv " + environment}
""")
        self.trust('host')
        self.process = test.popen(sshd, '-D', '-e', '-f', config, stderr=subprocess.DEVNULL)
        bed.wait_for('sshd', self._can_connect)
        self.command = self._write('ssh', f"""#!/bin/sh
exec ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -i {test.path("mine")} -o UserKnownHostsFile={test.path("known")} "$@"
""")
        os.chmod(self.command, 0o755)

    def _write(self, name, text):
        with open(self.test.path(name), 'w') as f:
            f.write(text)
        return self.test.path(name)

    def _can_connect(self):
        with socket.socket() as sock:
            return sock.connect_ex(('127.0.0.1', self.port)) == 0

    def _processes(self, pid=None):
        """It and one for each who is connected."""
        pid = pid or self.process.pid
        with open(f'/proc/{pid}/task/{pid}/children') as file:
            return [pid, *(one for child in file.read().split() for one in self._processes(int(child)))]

    def stop(self):
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self):
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    def cut(self):
        """Whoever is connected is so no longer."""
        for pid in self._processes()[:0:-1]:
            os.kill(pid, signal.SIGKILL)

    def agent(self):
        """The socket of an agent that has the right key."""
        agent = self.test.path('agent')
        self.test.popen('ssh-agent', '-D', '-a', agent, stdout=subprocess.DEVNULL)
        env = {**os.environ, 'SSH_AUTH_SOCK': agent}
        bed.wait_for('ssh-agent', lambda: bed.run('ssh-add', '-l', env=env, check=False).returncode != 2)     # 2: nobody listens
        bed.run('ssh-add', '-q', self.test.path('mine'), env=env)
        return agent

    def trust(self, key):
        """Which of the keys is the host's, to the client."""
        with open(self.test.path(f'{key}.pub')) as f:
            self._write('known', f'[127.0.0.1]:{self.port} {f.read()}')
