#!/usr/bin/python3
"""What it costs to prove identity: begin, a whole increment and a checkpoint, with all that is made and looked at for it and without.

    identity.py [--qemu VERSION]… [--pairs N]

Both are the same library, wrong on purpose (tests/broken), which leaves out what is told it; each pair is run in turn, in an order that alternates.
Also the bytes that one checkpoint adds to an image of 512 MiB. Goal: a ratio of at most 1.03. Exit status 1 when one misses it.
"""
import argparse
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import broken  # noqa: E402

GOAL = 1.03
MIB = 1 << 20
SIZE = 512 * MIB
WAYS = ('everything', 'nothing')      # what is left out


class Identity(bed.LiveTest):
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def runTest(self):
        pass

    def boot(self):
        folder = broken.build(self, 'trusting')
        self.environment.update(LD_LIBRARY_PATH=os.path.join(folder, 'src'), LIBBACKUPD=os.path.join(folder, 'tools/libbackupd/libbackupd'))
        self.vm, self.number = {}, 0
        for way in WAYS:
            vm = self.vm[way] = self.engine(self.make_image(f'{way}.qcow2', SIZE, data=[(0, 64 * MIB, 5)]), name=way)
            self.leave_out(way)
            self.must('attach', way, '--qmp', vm.qmp_path)
            self.must('backup-begin', way, '--target', f'disk0={self.path("full-" + way)}', '--checkpoint', 'c', '--wait')

    def leave_out(self, way):
        self.environment['LIBBACKUP_BROKEN'] = way

    def timed(self, *argv):
        begin = time.monotonic()
        self.must(*argv)
        return time.monotonic() - begin

    def round(self, way):
        """{what: seconds}"""
        self.leave_out(way)
        self.number += 1
        target, name = self.path(f'{way}.{self.number}'), f'n{self.number}'
        self.vm[way].io('disk0', f'write -q -P {self.number % 251} 1M 1M')
        took = {'checkpoint': self.timed('checkpoint-create-as', way, name)}
        self.must('checkpoint-delete', way, name)
        argv = ('backup-begin', way, '--target', f'disk0={target}', '--onto', f'disk0={self.path("full-" + way)}', '--since', 'c', '--checkpoint', name)
        took['increment'] = self.timed(*argv, '--wait')
        self.must('checkpoint-delete', way, name)
        os.unlink(target)
        took['begin'] = self.timed(*argv)
        self.must('backup-wait', way)
        self.must('checkpoint-delete', way, name)
        os.unlink(target)
        return took

    def bytes_added(self, way):
        """To an image, by one checkpoint, once QEMU has stored it."""
        image = self.path(f'{way}.qcow2')
        self.leave_out(way)
        sizes = []
        for make in (False, True):
            if make:
                self.must('checkpoint-create-as', way, 'last')
            self.vm[way].quit()
            sizes.append(os.stat(image).st_blocks * 512)
            self.vm[way].start()
        return sizes[1] - sizes[0]


def measure(version, pairs):
    os.environ['QEMU_VERSION'] = version
    bench = Identity()
    bench.setUp()
    try:
        bench.boot()
        rounds = {way: [] for way in WAYS}
        for number in range(pairs):
            for way in WAYS if number % 2 else WAYS[::-1]:
                rounds[way].append(bench.round(way))
        missed = False
        for what in ('begin', 'increment', 'checkpoint'):
            before, after = ([took[what] for took in rounds[way]] for way in WAYS)
            ratio = statistics.median(b / a for a, b in zip(before, after))
            missed |= ratio > GOAL
            print(f'QEMU {version}: {what}: {statistics.median(before) * 1000:.1f} ms without, {statistics.median(after) * 1000:.1f} ms with, '
                  f'ratio {ratio:.3f} (median of {pairs} pairs){" MISSED" if ratio > GOAL else ""}')
        before, after = (bench.bytes_added(way) for way in WAYS)
        print(f'QEMU {version}: a checkpoint adds {before} bytes to an image without, {after} with')
        return missed
    finally:
        bench.doCleanups()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--qemu', action='append')
    parser.add_argument('--pairs', type=int, default=15)
    args = parser.parse_args()
    return 1 if any([measure(version, args.pairs) for version in args.qemu or ['7.2']]) else 0


if __name__ == '__main__':
    sys.exit(main())
