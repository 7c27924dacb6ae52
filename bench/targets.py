#!/usr/bin/python3
"""A push to each server that runs on this machine, beside a qemu-img convert of the same disk to the same server.

    targets.py [--pairs N] [--size SIZE] [SERVER…]          SERVER: ssh iscsi nfs rbd (default: all)

Both write raw and are run in turn, in an order that alternates; of each the least time counts. The push is the whole command: begin, the
copy by way of the process that opens the target, its flush, its end. A server that is not installed is said so. Goal: a ratio of at most
1.1 beyond half a second, which a begin and an end take. Exit status 1 when one misses it.
"""
import argparse
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import servers  # noqa: E402
import test_stores  # noqa: E402

GOAL, FIXED = 1.1, 0.5


class Place(test_stores.ServerTest):
    """push (n), convert (n): where the n'th copy goes, as baksh and as qemu-img name it."""
    convert_options = ()

    def runTest(self):
        pass

    def boot(self, size):
        self.image = self.make_image('disk.raw', size, fmt='raw', data=[(0, size, 0x5a)])
        qemu = self.engine(self.image, fmt='raw')
        self.must('attach', 'g', '--qmp', qemu.qmp_path)
        self.serve(size)

    def timed(self, way, number):
        begin = time.monotonic()
        if way == 'push':
            self.must('backup-begin', 'g', '--target', f'disk0={self.push(number)}', '--format', 'raw', '--protect', 'no', '--wait', timeout=600)
        else:
            self.img('convert', '-U', '-f', 'raw', '-O', 'raw', *self.convert_options, self.image, self.convert(number), timeout=600, env=self.environment)
        return time.monotonic() - begin


class Ssh(Place, test_stores.SshTest):
    def setUp(self):
        test_stores.SshTest.setUp(self)

    def serve(self, size):
        self.environment['SSH_AUTH_SOCK'] = self.path('agent')

    def push(self, number):
        return self.url(f'push{number}')

    def convert(self, number):
        return f'ssh://root@127.0.0.1:{self.sshd.port}{self.path(f"convert{number}")}?host_key_check=no'


class Iscsi(Place):
    convert_options = ('-n',)

    def serve(self, size):
        self.tgtd = servers.Tgtd(self, (size, size))

    def push(self, number):
        return self.tgtd.url(1)

    def convert(self, number):
        return f'iscsi://127.0.0.1:{self.tgtd.port}/{self.tgtd.iqn}/2'


class Nfs(Place):
    def serve(self, size):
        self.nfs = servers.Ganesha(self)

    def push(self, number):
        return self.nfs.url(f'push{number}')

    def convert(self, number):
        return self.nfs.url(f'convert{number}')


class Rbd(Place):
    def serve(self, size):
        self.ceph = servers.Ceph(self, size='4G')

    def push(self, number):
        return f'rbd:pool/push{number}?user=backup&secret={self.key(self.ceph.key)}&conf={self.ceph.conf}'

    def convert(self, number):
        return f'rbd:pool/convert{number}:id=admin:conf={self.ceph.conf}:keyring={self.ceph.admin}'


PLACES = {'ssh': Ssh, 'iscsi': Iscsi, 'nfs': Nfs, 'rbd': Rbd}


def measure(place, size, pairs):
    took = {'push': [], 'convert': []}
    try:
        place.setUp()
        place.boot(size)
        for number in range(pairs):
            for way in sorted(took, reverse=number % 2):
                took[way].append(place.timed(way, number))
    finally:
        place.doCleanups()
    return min(took['push']), min(took['convert'])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--pairs', type=int, default=3)
    options.add_argument('--size', default='256M')
    options.add_argument('servers', nargs='*', metavar='SERVER', help=' '.join(PLACES))
    given = options.parse_args()
    size, missed = bed.size_of(given.size), False
    for name in given.servers or PLACES:
        try:
            push, convert = measure(PLACES[name](), size, given.pairs)
        except unittest.SkipTest as why:
            print(f'{name:6} skipped: {why}', flush=True)
            continue
        ratio = max(push - FIXED, 0) / convert
        missed = missed or ratio > GOAL
        print(f'{name:6} push {push:6.2f} s, convert {convert:6.2f} s: {push / convert:.2f}, {ratio:.2f} beyond {FIXED} s', flush=True)
    return int(missed)


if __name__ == '__main__':
    sys.exit(main())
