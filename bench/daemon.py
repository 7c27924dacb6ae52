#!/usr/bin/python3
"""libbackupd beside libvirtd: round trips, memory, begin and end of a pull; the same client or the same guest for both, in turn.

    daemon.py [--rounds N] [--seconds N] [--guests N]

The guest that is asked about is one in use, as all are for libvirtd: its monitor is held. Other load on the machine only makes things slower, so the best round counts; the median stands beside it. Goals: five times the sequential round trips, a quarter of the memory, half the time for
begin and end. Exit status 1 when one is missed.
"""
import argparse
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import daemon  # noqa: E402
import rpc  # noqa: E402

PULL = """<domainbackup mode='pull'><server transport='unix' socket='DIR/nbd'/><disks>
  <disk name='vda' type='file'><scratch file='DIR/sa'/></disk><disk name='vdb' type='file'><scratch file='DIR/sb'/></disk></disks></domainbackup>"""
CALLS = {'library version (157)': '157', 'state of a guest (212)': '212', 'look-up by name (23)': '23'}


class Bench(daemon.DaemonTest):
    def runTest(self):
        pass

    def start(self):
        self.ours_images = self.path('o', 'img')
        os.makedirs(self.ours_images)
        self.libvirtd = daemon.Libvirtd(self, self.path('l'))
        self.daemon = daemon.Daemon(self, env={'G_SLICE': 'always-malloc'})       # as its unit has it
        self.idle = {'libvirtd': self.memory_of_libvirtd(), 'libbackupd': self.daemon.memory()}
        self.daemon.attach('x', self.bare_guest(self.ours_images), vda='virtio-disk0', vdb='virtio-disk1')

    def memory_of_libvirtd(self):
        with open(f'{self.libvirtd.directory}/pid') as f:
            return rpc.peers_memory(int(f.read()))

    def rates(self, seconds, rounds):
        """{(call, depth): {who: [rate]}}"""
        program = self.path('rpc_rate')
        bed.run('cc', '-O2', '-o', program, os.path.join(HERE, 'rpc_rate.c'))
        found = {}
        for number in range(rounds):
            for name, call in CALLS.items():
                for depth in (1, 32):
                    pair = [('libvirtd', self.libvirtd.socket, 'qemu:///session'), ('libbackupd', self.daemon.socket, 'qemu:///system')]
                    for who, path, uri in pair if number % 2 else pair[::-1]:
                        rate = int(bed.run(program, path, call, seconds, depth, 'x', uri).stdout)
                        found.setdefault((name, depth), {}).setdefault(who, []).append(rate)
        return found

    def begin_and_end(self, rounds):
        found = {}
        baksh, ways = bed.baksh_path(), {}
        for who, folder in (('libvirtd', self.libvirtd.images), ('libbackupd', self.ours_images)):
            with open(f'{folder}/pull', 'w') as f:
                f.write(PULL.replace('DIR', folder))
        ways['libvirtd, virsh'] = (['virsh', '-c', self.libvirtd.uri, 'backup-begin', 'x', f'{self.libvirtd.images}/pull'],
                                   ['virsh', '-c', self.libvirtd.uri, 'domjobabort', 'x'])
        ways['libbackupd, virsh'] = (['virsh', '-c', self.daemon.uri, 'backup-begin', 'x', f'{self.ours_images}/pull'],
                                     ['virsh', '-c', self.daemon.uri, 'domjobabort', 'x'])
        uri = f'qemu+unix:///system?socket={self.daemon.socket}'
        ways['libbackupd, baksh'] = ([baksh, '-c', uri, 'backup-begin', 'x', f'{self.ours_images}/pull'], [baksh, '-c', uri, 'backup-stop', 'x'])
        for _ in range(rounds):
            for way, commands in ways.items():
                took = 0
                for command in commands:
                    begin = time.monotonic()
                    bed.run(*command, env=self.environment)
                    took += time.monotonic() - begin
                found.setdefault(way, []).append(took * 1000)
                folder = self.libvirtd.images if way.startswith('libvirtd') else self.ours_images
                bed.wait_for('the end', lambda: not os.path.exists(f'{folder}/sa'))     # noqa: B023
                if way.startswith('libvirtd'):
                    bed.wait_for('no job', lambda: 'None' in self.libvirtd.virsh('domjobinfo', 'x').stdout)
        return found

    def with_guests(self, count):
        """Resident memory with so many running guests."""
        xml = daemon.domain_xml(self.libvirtd.images)
        for number in range(count - 1):
            name = f'g{number}'
            one = xml.replace('<name>x<', f'<name>{name}<').replace(daemon.UUID, f'21111111-2222-3333-4444-{number:012}')
            disks = one[one.index('<disk '):one.rindex('</disk>') + 7]
            one = one.replace(disks, '')
            with open(self.path('l', f'{name}.xml'), 'w') as f:
                f.write(one)
            self.libvirtd.virsh('define', f.name)
            self.libvirtd.virsh('start', '--paused', name)
        time.sleep(8)
        libvirtd = self.memory_of_libvirtd()
        for number in range(count - 1):
            self.libvirtd.virsh('destroy', f'g{number}')
        connection = rpc.Connection(self.daemon.socket).open()      # who opens like this is not pinged
        for number in range(count - 1):
            path = self.path('o', f'{number}.qcow2')
            self.img('create', '-q', '-f', 'qcow2', path, '64M')
            qemu = self.engine(path, name=f'e{number}')
            connection.attach(f'g{number}', qmp=qemu.qmp_path, disks=[('vda', 'disk0')])
        for number in range(count - 1):     # each has been asked about its disks and its state
            for call in (23, 21):
                connection.call(rpc.BACKUP, call, rpc.string(f'g{number}') + rpc.u32(0))
        time.sleep(8)                       # both give memory back a little later
        ours = self.daemon.memory()
        for number in range(count - 1):
            connection.call(rpc.BACKUP, 13, rpc.string(f'g{number}') + rpc.u32(0))
        return {'libvirtd': libvirtd, 'libbackupd': ours}

    def memory(self):
        """Resident memory now."""
        return {'libvirtd': self.memory_of_libvirtd(), 'libbackupd': self.daemon.memory()}


def best(values, which):
    return f'{which(values):.0f} ({statistics.median(values):.0f})'


def memory_row(when, memory):
    """Prints it; what is missed."""
    ratio = memory['libbackupd'] / memory['libvirtd']
    print(f"  {when:12} libvirtd {memory['libvirtd'] / 2**20:.1f}, libbackupd {memory['libbackupd'] / 2**20:.1f}: {ratio:.2f}", flush=True)
    return [f'memory, {when}: {ratio:.2f}'] if ratio > 0.25 else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', default='1')
    parser.add_argument('--guests', type=int, default=50)
    options = parser.parse_args()
    bench, missed = Bench(), []
    os.environ.setdefault('QEMU_VERSION', '7.2')
    bench.setUp()
    try:
        bench.start()
        print(f'round trips a second, best of {options.rounds} x {options.seconds} s (median)')
        for (name, depth), by in bench.rates(options.seconds, options.rounds).items():
            ratio = max(by['libbackupd']) / max(by['libvirtd'])
            print(f"  {name:22} {depth:2} in flight: libvirtd {best(by['libvirtd'], max):18} libbackupd {best(by['libbackupd'], max):18} {ratio:.1f} x", flush=True)
            if depth == 1 and ratio < 5:
                missed.append(f'{name}: {ratio:.1f} x')
        print('resident memory, MiB')
        guests = bench.with_guests(options.guests)
        for when, memory in (('idle', bench.idle), (f'{options.guests} guests', guests)):
            missed += memory_row(when, memory)
        print('begin and end of a pull, ms')
        found = bench.begin_and_end(options.rounds * 2)
        for way, times in found.items():
            print(f'  {way:20} {best(times, min)}', flush=True)
        ratio = min(found['libbackupd, baksh']) / min(found['libvirtd, virsh'])
        if ratio > 0.5:
            missed.append(f'begin and end: {ratio:.2f} of the time')
        memory_row('then, MiB', bench.memory())         # no goal: XML, NBD and TLS are in memory now
    finally:
        bench.doCleanups()
    print('missed: ' + '; '.join(missed) if missed else 'all goals are met')
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
