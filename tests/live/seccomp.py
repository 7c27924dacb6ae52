#!/usr/bin/python3
"""What a systemd unit's lines about system calls leave of the kernel, without systemd: seccomp.py UNIT PROGRAM ARGUMENT…

SystemCallFilter (its groups as systemd-analyze lists them), RestrictAddressFamilies, MemoryDenyWriteExecute and RestrictSUIDSGID are made into filters by
libseccomp, as systemd does it, and PROGRAM is run under them. What is refused fails with EPERM.
"""
import ctypes
import os
import re
import socket
import subprocess
import sys

ALLOW, REFUSE = 0x7fff0000, 0x00050000 | 1      # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO (EPERM)
EQUAL, MASKED_EQUAL = 4, 7
WRITE, EXECUTE = 2, 4                           # PROT_*
AT_MODE = (('chmod', 1), ('fchmod', 1), ('fchmodat', 2), ('mknod', 1), ('mknodat', 2), ('mkdir', 1), ('mkdirat', 2), ('creat', 1))


class Compare(ctypes.Structure):
    _fields_ = [('argument', ctypes.c_uint), ('how', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]


class Filter:
    library = ctypes.CDLL('libseccomp.so.2', use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p

    def __init__(self, default):
        self.context = ctypes.c_void_p(self.library.seccomp_init(default))

    def rule(self, action, call, *compares):
        number = self.library.seccomp_syscall_resolve_name(call.encode())
        rc = self.library.seccomp_rule_add_array(self.context, action, number, len(compares), (Compare * len(compares))(*compares))
        if number >= 0 and rc != 0:             # below 0: of another architecture
            sys.exit(f'seccomp: rule for {call}: {rc}')

    def load(self):
        rc = self.library.seccomp_load(self.context)
        if rc != 0:
            sys.exit(f'seccomp: load: {rc}')


def calls_of(group):
    """All system calls of a group like @system-service."""
    found = set()
    text = subprocess.run(['systemd-analyze', '--no-pager', 'syscall-filter', group], capture_output=True, text=True, check=True).stdout
    for word in (line.strip() for line in text.splitlines()[1:]):
        if word.startswith('@'):
            found |= calls_of(word)
        elif word and not word.startswith('#'):
            found.add(word)
    return found


def apply(unit):
    with open(unit) as f:
        lines = dict(re.findall(r'^(\w+)=(.*)$', f.read(), re.M))
    allowed = Filter(REFUSE)
    calls = set()
    for word in lines['SystemCallFilter'].split():
        calls |= calls_of(word) if word.startswith('@') else {word}
    for call in calls:
        allowed.rule(ALLOW, call)
    refused = Filter(ALLOW)
    if lines.get('MemoryDenyWriteExecute') == 'yes':
        refused.rule(REFUSE, 'mmap', Compare(2, MASKED_EQUAL, WRITE | EXECUTE, WRITE | EXECUTE))
        for call in ('mprotect', 'pkey_mprotect'):
            refused.rule(REFUSE, call, Compare(2, MASKED_EQUAL, EXECUTE, EXECUTE))
    if lines.get('RestrictSUIDSGID') == 'yes':
        for call, argument in AT_MODE:
            for bit in (0o4000, 0o2000):
                refused.rule(REFUSE, call, Compare(argument, MASKED_EQUAL, bit, bit))
    families = {getattr(socket, name) for name in lines['RestrictAddressFamilies'].split()}
    for family in set(range(46)) - families:
        refused.rule(REFUSE, 'socket', Compare(0, EQUAL, family, 0))
    refused.load()
    allowed.load()


if __name__ == '__main__':
    apply(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
