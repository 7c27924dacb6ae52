#!/usr/bin/python3
"""Say of copied disks of the test guest whether each is whole and whether all are of one instant.

    verify.py [--quiesced | --not-quiesced] [--format FORMAT] COPY…

COPY is an image in any format that qemu-img reads, in the order of the guest's disks, or an NBD address.
A copy is whole if its ring holds exactly the last 2048 numbers, every record with its own checksum and payload, and the
file of fill data is what was put there. Copies are of one instant if each disk's newest number is that of the disk before
it, or one less for all that follow. A file system that was frozen when it was copied has no journal to recover.
Exit status: 0 good, 1 bad (and why), 2 cannot be read. Nothing is mounted: debugfs reads ext4 out of the image.
"""
import argparse
import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

SLOTS, RECORD, HEADER = 2048, 4096, 24
MAGIC = b'BAKREC1\n'
FILL_SEED = 0x5eed


def record(number, disk):
    """Record number of that disk; must equal what tests/guest/writer.c writes."""
    payload = random.Random(number << 8 | disk).randbytes(RECORD - HEADER)
    head = MAGIC + struct.pack('<QII', number, disk, 0)
    return head[:-4] + struct.pack('<I', zlib.crc32(head + payload)) + payload


def make_fill(folder, size, disk):
    """The unchanging data of a disk, with its digest."""
    digest, source = hashlib.sha256(), random.Random(FILL_SEED << 8 | disk)
    with open(os.path.join(folder, 'fill'), 'wb') as f:
        for offset in range(0, size, 1 << 20):
            data = source.randbytes(min(1 << 20, size - offset))
            digest.update(data)
            f.write(data)
    with open(os.path.join(folder, 'fill.sha256'), 'w') as f:
        f.write(digest.hexdigest() + '\n')


class Unreadable(Exception):
    """Not a disk of the test guest, or not an image at all."""


class Copy:
    """What one image holds: newest number, faults (empty: it is whole), whether its journal is clean."""

    def __init__(self, path, disk):
        self.path, self.disk = path, disk
        self.newest = None
        self.frozen = None
        self.faults = []

    def __str__(self):
        state = 'whole' if not self.faults else 'BAD: ' + '; '.join(self.faults[:5]) + \
            (f'; and {len(self.faults) - 5} more' if len(self.faults) > 5 else '')
        journal = {True: 'journal clean (was frozen)', False: 'journal needs recovery (was not frozen)', None: 'journal unknown'}
        return f'disk {self.disk}: {self.path}: newest record {self.newest}, {journal[self.frozen]}, {state}'


class Report:
    def __init__(self, copies, faults):
        self.copies, self.faults = copies, faults

    @property
    def good(self):
        return not self.faults and not any(c.faults for c in self.copies)

    def __str__(self):
        newest = [c.newest for c in self.copies]
        last = [f'BAD: {f}' for f in self.faults] or \
            ([f'one instant: newest records {newest}'] if self.good and len(newest) > 1 else [])
        return '\n'.join([*map(str, self.copies), *last])


def sbin(name):
    return shutil.which(name) or shutil.which(name, path='/usr/sbin:/sbin') or name


def call(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, errors='replace', stdin=subprocess.DEVNULL,
                          env={**os.environ, 'LC_ALL': 'C'})
    if done.returncode:
        raise Unreadable(f'{" ".join(argv)}: {done.stderr.strip() or done.stdout.strip()}')
    return done.stdout


def check_ring(copy, data):
    if len(data) != SLOTS * RECORD:
        copy.faults.append(f'the ring has {len(data)} bytes')
        return
    numbers = []
    for slot in range(SLOTS):
        one = data[slot * RECORD:(slot + 1) * RECORD]
        number, disk = struct.unpack_from('<QI', one, len(MAGIC))
        if one[:len(MAGIC)] != MAGIC or one != record(number, disk):
            copy.faults.append(f'slot {slot}: the record is damaged')
        elif disk != copy.disk:
            copy.faults.append(f'slot {slot}: the record is of disk {disk}')
        elif number % SLOTS != slot:
            copy.faults.append(f'slot {slot}: has record {number}')
        else:
            numbers.append(number)
    if not numbers:
        return
    copy.newest = max(numbers)
    if not copy.faults and min(numbers) != copy.newest - SLOTS + 1:
        wrong = sum(1 for n in numbers if n <= copy.newest - SLOTS)
        copy.faults.append(f'not of one instant: newest record {copy.newest}, but {wrong} slots still have one of a lap before')


def check_copy(path, disk, fmt, folder):
    copy = Copy(path, disk)
    raw = os.path.join(folder, f'{disk}.raw')
    call('qemu-img', 'convert', *(('-f', fmt) if fmt else ()), '-O', 'raw', path, raw)
    features = call(sbin('dumpe2fs'), '-h', raw)
    features = next((line for line in features.splitlines() if line.startswith('Filesystem features:')), '')
    if 'has_journal' not in features:
        raise Unreadable(f'{path}: no ext4 file system with a journal')
    copy.frozen = 'needs_recovery' not in features
    ring, fill, digest = (os.path.join(folder, f'{disk}.{n}') for n in ('ring', 'fill', 'sha256'))
    script = os.path.join(folder, 'script')
    with open(script, 'w') as f:
        f.write(f'dump /ring {ring}\ndump /fill {fill}\ndump /fill.sha256 {digest}\n')
    call(sbin('debugfs'), '-f', script, raw)
    os.unlink(raw)
    if not os.path.exists(ring):
        raise Unreadable(f'{path}: no ring on it')
    with open(ring, 'rb') as f:
        check_ring(copy, f.read())
    if os.path.exists(digest):
        with open(digest) as d, open(fill, 'rb') as f:
            if hashlib.sha256(f.read()).hexdigest() != d.read().strip():
                copy.faults.append('the fill data are damaged')
    return copy


def check_instant(copies):
    """last(A) - last(B) is 0 or 1; over more disks, the numbers go down once, by one, or not at all."""
    newest = [c.newest for c in copies]
    if None in newest:
        return []
    steps = [a - b for a, b in zip(newest, newest[1:])]
    if any(s < 0 for s in steps) or sum(steps) > 1:
        return [f'not of one instant: newest records {newest}']
    return []


def verify(paths, fmt=None, quiesced=None):
    with tempfile.TemporaryDirectory(prefix='bak-verify-') as folder:
        copies = [check_copy(path, disk, fmt, folder) for disk, path in enumerate(paths)]
    faults = check_instant(copies)
    for copy in copies:
        if quiesced is not None and copy.frozen != quiesced:
            copy.faults.append('its file system was not frozen' if quiesced else 'its file system was frozen')
    return Report(copies, faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--quiesced', action='store_true', default=None, help='the file systems must have been frozen')
    how.add_argument('--not-quiesced', action='store_false', dest='quiesced', help='they must not have been')
    parser.add_argument('--format', help='format of the copies (default: qemu-img guesses)')
    parser.add_argument('copy', nargs='+')
    options = parser.parse_args()
    try:
        report = verify(options.copy, options.format, options.quiesced)
    except Unreadable as e:
        print(e, file=sys.stderr)
        return 2
    print(report)
    print('good' if report.good else 'BAD')
    return 0 if report.good else 1


if __name__ == '__main__':
    sys.exit(main())
