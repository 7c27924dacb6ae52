#!/usr/bin/python3
"""What a slow target does to the guest: latency of its writes, without a backup, during a protected push, during one whose limit changes, during an
unprotected one.

    latency.py [--qemu VERSION]… [--seconds N]

The guest writes 4 KiB records with fdatasync on two disks in turn, rewriting in place; the targets are NBD servers that take 10 MB/s between
them, and a quarter of a second for each write.
p99 is over all rounds of a phase (weighted mean of the writer's one-second windows), max the longest round. Goal: protected at most
5 x without or 20 ms, whichever is larger; the unprotected push must fail it, else the measurement shows nothing.
Exit status 1 when a protected push misses the goal or the unprotected one meets it, or the guest saw a write error.
"""
import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402


class Latency(bed.LiveTest):
    def runTest(self):
        pass

    def boot(self):
        self.vm = self.guest(disks=2, size='128M', fill='96M', rate=50, latency=True, agent=False)
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.vm.wait_rounds(100)

    def phase(self, name, begin, running, seconds):
        """Windows from begin until it no longer runs, at most so many seconds."""
        since = len(self.vm.windows())
        begin()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and running():
            time.sleep(0.5)
        time.sleep(1)
        windows = self.vm.windows()[since:]
        rounds = sum(w[0] for w in windows) or 1
        return {'name': name, 'rounds': rounds, 'p50': sum(w[0] * w[1] for w in windows) / rounds / 1e3,
                'p99': sum(w[0] * w[2] for w in windows) / rounds / 1e3, 'max': max([w[3] for w in windows] or [0]) / 1e3}

    def push(self, name, number, seconds, protect='yes', limits=()):
        """limits: set one after the other while it runs."""
        changes = iter(limits)

        def running():
            limit = next(changes, None)
            if limit is not None:
                self.must('backup-limit', 'g', limit)
            return self.json('backup-info', 'g')['state'] == 'running'
        servers = [bed.NbdServer(self, 'memory', '128M', filters=['rate', 'delay'], options=['rate=40M', 'wdelay=250ms'], name=f't{number}{n}') for n in range(2)]
        disks = ''.join(f"<disk name='vd{'ab'[n]}' type='network'><target protocol='nbd' name=''><host transport='unix' socket='{s.path}'/></target>"
                        "<driver type='raw'/></disk>" for n, s in enumerate(servers))
        with open(self.path('backup.xml'), 'w') as f:
            f.write(f"<domainbackup mode='push'><guest protect='{protect}'/><disks>{disks}</disks></domainbackup>")
        result = self.phase(name, lambda: self.must('backup-begin', 'g', self.path('backup.xml'), '--reuse-external'), running, seconds)
        if self.json('backup-info', 'g')['state'] == 'running':
            self.baksh('backup-stop', 'g', '--abort')
        for server in servers:
            server.kill()
        return result


def measure(version, seconds):
    """The rows, of which the first is without a backup and the last must miss the goal; the goal; the guest's write errors."""
    os.environ['QEMU_VERSION'] = version
    test = Latency()
    test.setUp()
    try:
        test.boot()
        rows = [test.phase('no backup', lambda: None, lambda: True, seconds)]
        for number, (name, how) in enumerate((('push', {}), ('push, limit changes', {'limits': ('8MiB', '2MiB', '0')}), ('push, unprotected', {'protect': 'no'}))):
            rows.append(test.push(name, number, seconds, **how))
            test.vm.wait_rounds(100)
        return rows, max(5 * rows[0]['p99'], 20), test.vm.write_errors()
    finally:
        test.doCleanups()


def judge(version, seconds):
    rows, goal, errors = measure(version, seconds)
    print(f'QEMU {version}: goal p99 <= {goal:.1f} ms, {len(errors)} write errors')
    for row in rows:
        verdict = '' if row is rows[0] else 'meets it' if row['p99'] <= goal else 'misses it'
        print(f"  {row['name']:20} {row['rounds']:6} rounds  p50 {row['p50']:8.2f}  p99 {row['p99']:8.2f}  max {row['max']:8.2f} ms  {verdict}", flush=True)
    shows = rows[-1]['p99'] > goal
    if not shows:
        print('  the unprotected push met the goal too: this measurement shows nothing')
    return shows and not errors and all(row['p99'] <= goal for row in rows[1:-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--qemu', action='append')
    parser.add_argument('--seconds', type=float, default=15)
    options = parser.parse_args()
    results = [judge(v, options.seconds) for v in options.qemu or [bed.qemu_version()]]
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
