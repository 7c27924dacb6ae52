"""The story that scripts/demo tells, on the parts of the live test bed. Exit status: 0 all proved, 1 not."""
import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, 'tests/live'))
sys.dont_write_bytecode = True
import bed  # noqa: E402
import verify  # noqa: E402
from test_points_restore import GuestFromPoint  # noqa: E402

RATE = '48M'        # a second and disk: slow enough that progress can be watched and the guest writes much meanwhile


def say(*words):
    print(*words, flush=True)


def head(text):
    say(f'\n\033[1m{text}\033[0m' if sys.stdout.isatty() else f'\n{text}')


class Demo(bed.LiveTest):
    proved = []
    keep = None

    def show(self, *argv):
        """Print a command as a user would type it, and run it before his eyes."""
        say('$ ' + shlex.join(map(str, argv)).replace(self.directory, '$DIR'))
        program = bed.baksh_path() if argv[0] == 'baksh' else argv[0]
        rc = subprocess.run([program, *map(str, argv[1:])], env=self.environment, stdin=subprocess.DEVNULL).returncode
        if rc:
            self.fail(f'{argv[0]} {argv[1]} ended with {rc}')

    def prove(self, text):
        self.proved.append(text)

    def verify(self, what, *copies):
        report = verify.verify(copies)
        if not report.good:
            self.fail(f'{what}:\n{report}')
        a, b = (c.newest for c in report.copies)
        self.prove(f'{what}: each copy holds exactly 2048 records, the last ones up to its newest, with every checksum right '
                   f'and all other data unchanged; newest on disk A {a}, on disk B {b}: one instant')
        return a

    def points(self, guest):
        head('Restore points: backups that are kept, and that need no base to be remembered')
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repository')
        self.show('baksh', 'repository-create', self.path('repository'))
        self.show('baksh', 'point-create', 'demo')
        guest.wait_rounds(50)
        self.show('baksh', 'point-create', 'demo', '--note', 'what changed since, by itself')
        self.show('baksh', 'point-list', 'demo')
        self.show('baksh', 'point-verify', '--all')
        older, newer = self.json('point-list', 'demo')['points']
        self.prove(f'the second point has stored {newer["stored"] >> 20} MiB where the first one stored {older["stored"] >> 20}, '
                   f'and each is good by the hashes of what the guest saw')
        return older, newer

    def restore_beside(self, older, folder):
        head('The older one comes back, beside the guest that goes on')
        self.show('baksh', 'point-restore', older['id'], '--target', folder)

    def boot(self, newer):
        head('The newer one boots at once, without being restored; what it writes is thrown away')
        sock = self.path('served')
        say(f'$ baksh point-serve {newer["id"]} --writable --server unix:$DIR/served &')
        server = self.baksh_start('point-serve', newer['id'], '--writable', '--server', f'unix:{sock}')
        for _ in newer['disks']:
            say(server.stdout.readline().strip().replace(self.directory, '$DIR'))
        second = GuestFromPoint(self, [bed.Disk(sock, disk['target']) for disk in newer['disks']], name='second', agent=False)
        second.wait_ready()
        begin = second.round()
        end = second.wait_rounds(20)
        second.quit()
        server.send_signal(signal.SIGINT)
        self.assertEqual(server.wait(60), 0)
        after = json.loads(self.must('point-verify', newer['id'], '--json').out)
        self.assertTrue(after['points'][0]['good'], after)
        self.prove(f'a second guest booted from the newer point as it was served and wrote {end - begin} records there; the point is '
                   f'what it was, by its hashes')

    def test(self):
        if self.keep:
            os.makedirs(self.keep, exist_ok=True)
            self.directory_of_copies = os.path.abspath(self.keep)
        else:
            self.directory_of_copies = self.path('copies')
            os.mkdir(self.directory_of_copies)
        copy = lambda name: os.path.join(self.directory_of_copies, name)     # noqa: E731

        head('A guest boots: two ext4 disks, and a program that writes numbered, checksummed records to disk A, then B,')
        say('each record durable before the next one. No KVM is needed.')
        guest = self.guest(disks=2, size='256M', fill='160M', latency=True)
        begin = guest.wait_rounds(100)
        say(f'QEMU {bed.run(bed.tool("qemu-system-x86_64"), "--version").stdout.split()[3]}, QMP socket '
            f'{guest.qmp_path.replace(self.directory, "$DIR")}; the guest has written record {begin} ($DIR is {self.directory})')

        head('Attach it')
        self.show('baksh', 'attach', 'demo', '--qmp', guest.qmp_path)
        self.show('baksh', 'domblklist', 'demo')

        head(f'Push: QEMU writes the copies, {RATE}iB/s a disk at most, so that there is something to see')
        before = guest.round()
        self.show('baksh', 'backup-begin', 'demo', '--mode', 'push', '--target', f'vda={copy("push-a.qcow2")}',
                  '--target', f'vdb={copy("push-b.qcow2")}', '--limit', f'{RATE}iB', '--wait')
        say(f'(the guest wrote records {before} to {guest.wait_rounds(10)} meanwhile)')

        head('Pull: QEMU shows the frozen instant over NBD, and any NBD client reads it')
        before = guest.round()
        sock = self.path('nbd')
        self.show('baksh', 'backup-begin', 'demo', '--mode', 'pull', '--server', f'unix:{sock}')
        guest.wait_rounds(200)
        say(f'(the guest goes on writing: it is at record {guest.round()}, the exports still show the instant of the begin)')
        for disk, name in (('vda', 'pull-a.raw'), ('vdb', 'pull-b.raw')):
            self.show('nbdcopy', f'nbd+unix:///{disk}?socket={sock}', copy(name))
        self.show('nbdcopy', f'nbd+unix:///vda?socket={sock}', copy('pull-a-again.raw'))
        self.show('baksh', 'backup-stop', 'demo')
        say(f'(the guest wrote records {before} to {guest.wait_rounds(10)} meanwhile)')
        self.show('baksh', 'backup-list', 'demo')

        older, newer = self.points(guest)
        self.restore_beside(older, copy('older'))
        self.boot(newer)

        head('Is it true?')
        push = self.verify('push', copy('push-a.qcow2'), copy('push-b.qcow2'))
        pull = self.verify('pull', copy('pull-a.raw'), copy('pull-b.raw'))
        self.assert_same(copy('pull-a.raw'), copy('pull-a-again.raw'), 'raw', 'raw')
        self.prove('pull: reading disk A twice, while the guest wrote to it, gave the same bytes twice')
        mixed = verify.verify([copy('pull-a.raw'), copy('push-b.qcow2')])
        self.assertFalse(mixed.good, 'the verifier finds nothing wrong with disks of two instants')
        self.prove(f'the verifier is no yes-man: disk A of the pull with disk B of the push is "{mixed.faults[0]}"')
        self.assertGreater(pull, push)
        restored = self.verify('the older point, restored beside the running guest', copy('older/vda.qcow2'), copy('older/vdb.qcow2'))
        self.assertGreater(restored, pull)
        end = guest.wait_rounds(50)
        self.assert_guest_works(guest)
        slowest = max(w[3] for w in guest.windows())
        self.prove(f'the guest was never paused and had no write error: {end - begin} records on each disk since the first '
                   f'command, the slowest durable write took {slowest / 1000:.0f} ms')
        self.assert_nothing_left(guest)
        self.prove('nothing named bak- is left in QEMU: no node, job, export, object or bitmap')
        for text in self.proved:
            say(f'proved: {text}')
        if self.keep:
            say(f'the copies are in {self.keep}')


def main():
    parser = argparse.ArgumentParser(prog='scripts/demo')
    parser.add_argument('--keep', metavar='DIR')
    Demo.keep = parser.parse_args().keep
    result = unittest.TestResult()
    Demo('test').run(result)
    for _, trace in result.failures + result.errors:
        say(re.sub(r'(?m)^', '  ', trace))
    for _, reason in result.skipped:
        say(f'cannot be shown here: {reason}')
    good = result.wasSuccessful() and not result.skipped
    head('All proved.' if good else 'NOT PROVED.')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
