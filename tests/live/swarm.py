#!/usr/bin/python3
"""Peers of a daemon that do no good, in a process of their own, as a user of their own.

    swarm.py idle|slow|hostile COUNT SOCKET [GUEST]

Says "ready" when all are there, goes on until its standard input ends, and says then what became of them, as JSON.
idle: open, and silent but for keepalive. slow: most of a large packet, then a byte now and then.
hostile: calls about GUEST (which hangs) as fast as they are taken, garbage, connections that come and go, replies that nobody reads.
"""
import json
import os
import random
import select
import subprocess
import sys
import time

import rpc
from rpc import BACKUP, CALL, LIBVIRT, string, u32

MIB = 1 << 20
SLOW_PACKET = 4 * MIB
SLOW_TICK = 2


def connect(path, opened=True):
    peer = rpc.Connection(path, timeout=60)
    return peer.open(True) if opened else peer


class Idle:
    def __init__(self, count, path, guest):
        self.peers = [connect(path) for _ in range(count)]
        self.dropped = 0

    def turn(self):
        time.sleep(0.2)

    def result(self):
        return {'dropped': sum(self.is_gone(peer) for peer in self.peers)}

    @staticmethod
    def is_gone(peer):
        poll = select.poll()
        poll.register(peer.sock, select.POLLIN | select.POLLRDHUP)
        return any(flags & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, flags in poll.poll(0))


class Slow(Idle):
    """All but the end of a packet of 4 MiB each."""

    def __init__(self, count, path, guest):
        super().__init__(count, path, guest)
        self.sent = 0
        body = u32(SLOW_PACKET, BACKUP, 1, 40, CALL, 1, 0) + bytes(SLOW_PACKET - 64)
        for peer in self.peers:
            try:
                peer.sock.sendall(body)
                self.sent += len(body)
            except OSError:
                pass
        self.next = time.monotonic() + SLOW_TICK

    def turn(self):
        time.sleep(0.2)
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SLOW_TICK
        for peer in self.peers:
            try:
                peer.sock.send(b'\0')
            except OSError:
                pass

    def result(self):
        return {**super().result(), 'sent': self.sent}


class Hostile:
    """Each peer is of one of four kinds, and comes again when it is dropped."""

    def __init__(self, count, path, guest):
        self.path, self.count = path, count
        self.random = random.Random(1)
        self.calls = self.again = 0
        self.domain = connect(path).domain(guest)
        self.peers = [self.fresh(n) for n in range(count)]

    def fresh(self, number):
        try:
            peer = connect(self.path, number % 4 != 3)
        except (OSError, EOFError, rpc.WireError):
            return None
        peer.sock.setblocking(False)
        return peer

    def bytes_of(self, number):
        kind = number % 4
        if kind == 0:           # what has to ask the guest
            return b''.join(rpc.packet(LIBVIRT, procedure, self.domain + more, serial=n)
                            for n, (procedure, more) in enumerate(((16, b''), (14, u32(0)), (194, string('vda') + u32(0)), (298, u32(0)), (422, u32(0)))))
        if kind == 1:           # cheap, large answers, never read
            return rpc.packet(LIBVIRT, 273, u32(1, 0)) * 8
        if kind == 2:           # large documents that cannot be used
            return rpc.packet(BACKUP, 41, string('g') + string('<domainbackup>' + 'x' * 65536) + string('') + u32(0, 0, 0))
        return self.random.randbytes(64)

    def turn(self):
        for number, peer in enumerate(self.peers):
            try:
                if peer is None:
                    raise OSError
                peer.sock.send(self.bytes_of(number))
                self.calls += 1
                if Idle.is_gone(peer):
                    raise OSError
            except BlockingIOError:
                pass
            except OSError:
                self.again += 1
                if peer:
                    peer.close()
                self.peers[number] = self.fresh(number)
        time.sleep(0.005)

    def result(self):
        return {'sent': self.calls, 'again': self.again}


KINDS = {'idle': Idle, 'slow': Slow, 'hostile': Hostile}


def main(kind, count, path, guest=''):
    swarm = KINDS[kind](int(count), path, guest)
    print('ready', flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        swarm.turn()
    print(json.dumps(swarm.result()), flush=True)


class Swarm:
    """One, as seen by who started it. user: None, or a name."""

    def __init__(self, kind, count, path, guest='', user=None):
        self.kind = kind
        as_user = {'user': user, 'group': user if user != 'nobody' else 'nogroup', 'extra_groups': []} if user and os.geteuid() == 0 else {}
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), kind, str(count), path, guest], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}, **as_user)

    def wait_ready(self):
        line = self.process.stdout.readline()
        assert line == 'ready\n', f'the {self.kind} peers are not there: {line!r}'
        return self

    def end(self):
        """What became of them."""
        if self.process.poll() is None:
            self.process.stdin.close()
        line = self.process.stdout.readline()
        self.process.wait()
        return json.loads(line)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
