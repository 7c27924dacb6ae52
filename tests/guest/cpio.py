"""Write a folder as an initramfs (newc cpio, gzip) to standard output: cpio.py FOLDER. Root owns all; same in, same out."""
import gzip
import os
import stat
import sys


def entry(number, name, mode, data, device=(0, 0)):
    name = name.encode() + b'\0'
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
    head = b'070701' + b''.join(b'%08X' % f for f in fields) + name
    head += b'\0' * (-len(head) % 4)
    return head + data + b'\0' * (-len(data) % 4)


def archive(top):
    parts = []
    names = []
    for folder, dirs, files in os.walk(top):
        dirs.sort()
        rel = os.path.relpath(folder, top)
        names += [os.path.normpath(os.path.join(rel, n)) for n in dirs + files]
    for number, name in enumerate(sorted(names), 2):
        path = os.path.join(top, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            data = os.readlink(path).encode()
        elif stat.S_ISREG(mode):
            with open(path, 'rb') as f:
                data = f.read()
        else:
            data = b''
        parts.append(entry(number, name, mode, data))
    # the kernel opens it for init before devtmpfs is mounted
    parts.append(entry(1, 'dev/console', stat.S_IFCHR | 0o600, b'', (5, 1)))
    parts.append(entry(0, 'TRAILER!!!', 0, b''))
    return b''.join(parts)


sys.stdout.buffer.write(gzip.compress(archive(sys.argv[1]), 6, mtime=0))
