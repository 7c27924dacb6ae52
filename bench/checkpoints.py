#!/usr/bin/python3
"""What a thousand checkpoints on one guest cost: list, an increment since the oldest, delete, beside the same asked of QEMU alone.

    checkpoints.py [--qemu VERSION]… [--count N]

Each is done through the shell, a new process for each, and by bare QMP on the same QEMU. Goal: at most 2 s beyond what QEMU itself takes.
Exit status 1 when one misses it.
"""
import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import lib  # noqa: E402

GOAL = 2.0
MIB = 1 << 20


def timed(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


class Checkpoints(bed.LiveTest):
    folder = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

    def runTest(self):
        pass

    def boot(self, count):
        self.count = count
        self.vm = self.engine(self.make_image('disk.qcow2', 64 * MIB, data=[(0, 16 * MIB, 5)]))
        os.environ.update({key: value for key, value in self.environment.items() if key.startswith(('LIBBACKUP', 'XDG', 'HOME'))})
        os.environ.setdefault('LIBBACKUPD', os.path.join(os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build'), 'tools/libbackupd/libbackupd'))
        self.environment['LIBBACKUPD'] = os.environ['LIBBACKUPD']
        connection = lib.Library().open('qemu:///session')
        guest = connection.attach('g', qmp=self.vm.qmp_path, disks={'vda': 'disk0'})
        for number in range(count):
            guest.checkpoint_create(f"<domaincheckpoint><name>c{number}</name></domaincheckpoint>")
        connection.close()
        self.vm.io('disk0', 'write -P 7 1M 1M')

    def qemu_lists(self):
        self.vm.qmp.execute('query-named-block-nodes', flat=True)

    def qemu_copies(self):
        """The same copy without anything of ours around it."""
        q, path = self.vm.qmp, self.path('bare')
        self.img('create', '-q', '-f', 'qcow2', path, str(64 * MIB))
        q.execute('blockdev-add', driver='qcow2', node_name='target', file={'driver': 'file', 'filename': path}, backing=None)
        q.execute('transaction', actions=[
            {'type': 'block-dirty-bitmap-add', 'data': {'node': 'disk0', 'name': 'new', 'persistent': True}},
            {'type': 'block-dirty-bitmap-add', 'data': {'node': 'disk0', 'name': 'merged', 'disabled': True}},
            {'type': 'block-dirty-bitmap-merge', 'data': {'node': 'disk0', 'target': 'merged', 'bitmaps': ['c0']}},
            {'type': 'blockdev-backup', 'data': {'job-id': 'bare', 'device': 'disk0', 'target': 'target', 'sync': 'incremental', 'bitmap': 'merged',
                                                 'bitmap-mode': 'on-success', 'auto-dismiss': True}}])
        q.wait_event('BLOCK_JOB_COMPLETED', device='bare')
        q.wait_event('JOB_STATUS_CHANGE', id='bare', status='null')
        q.execute('blockdev-del', node_name='target')
        for name in ('new', 'merged'):
            q.execute('block-dirty-bitmap-remove', node='disk0', name=name)

    def qemu_deletes(self, *numbers):
        for number in numbers:
            self.vm.qmp.execute('block-dirty-bitmap-remove', node='disk0', name=f'c{number}')

    def add_again(self, *numbers):
        for number in numbers:
            self.vm.qmp.execute('block-dirty-bitmap-add', node='disk0', name=f'c{number}', persistent=True)

    def rows(self):
        middle, last = self.count // 2, range(self.count // 2 + 1, self.count)
        yield 'list', timed(lambda: self.must('checkpoint-list', 'g', '--tree')), timed(self.qemu_lists)
        yield 'list --topological --parent', timed(lambda: self.must('checkpoint-list', 'g', '--topological', '--parent')), timed(self.qemu_lists)
        yield 'check', timed(lambda: self.must('checkpoint-check', 'g')), timed(self.qemu_lists)
        yield 'push since the oldest', timed(lambda: self.must(
            'backup-begin', 'g', '--target', f'vda={self.path("inc")}', '--since', 'c0', '--checkpoint', 'new1', '--wait')), timed(self.qemu_copies)
        yield 'pull since the oldest', timed(lambda: (self.must(
            'backup-begin', 'g', '--mode', 'pull', '--since', 'c0', '--checkpoint', 'new2'), self.must('backup-stop', 'g'))), timed(self.qemu_copies)
        bare = timed(lambda: self.qemu_deletes(middle))
        self.add_again(middle)
        yield 'delete one', timed(lambda: self.must('checkpoint-delete', 'g', f'c{middle}')), bare
        bare = timed(lambda: self.qemu_deletes(*last))
        self.add_again(*last)
        yield f'delete {len(last)} (--children)', timed(lambda: self.must('checkpoint-delete', 'g', f'c{last[0]}', '--children')), bare


def measure(version, count):
    os.environ['QEMU_VERSION'] = version
    test = Checkpoints()
    test.setUp()
    good = True
    try:
        took = timed(lambda: test.boot(count))
        print(f'QEMU {version}: {count} checkpoints, made in {took:.1f} s; goal: {GOAL:.0f} s beyond QEMU')
        for name, ours, bare in test.rows():
            good = good and ours - bare <= GOAL
            print(f"  {name:30} {ours * 1e3:8.0f} ms   bare QMP {bare * 1e3:8.0f} ms   {'meets it' if ours - bare <= GOAL else 'misses it'}", flush=True)
    finally:
        test.doCleanups()
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--qemu', action='append')
    parser.add_argument('--count', type=int, default=1000)
    options = parser.parse_args()
    return 0 if all([measure(v, options.count) for v in options.qemu or [bed.qemu_version()]]) else 1


if __name__ == '__main__':
    sys.exit(main())
