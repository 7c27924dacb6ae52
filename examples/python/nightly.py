#!/usr/bin/env python3
"""A night: pushes a backup of every guest that is running, several at a time, and says what became of each.

    nightly.py URI DIRECTORY [AT-ONCE]

Each guest gets a folder of the night. The exit status is 0 when all are good, 6 when some failed, 3 when all did.
"""
import concurrent.futures
import os
import sys
import time
from xml.sax.saxutils import quoteattr

import libbackup

PATIENCE = 6 * 3600 * 1000000


def request(domain, folder):
    """A target for each disk that a backup takes by itself."""
    disks = [disk for disk in domain.list_disks() if disk.flags & libbackup.DiskFlags.SELECTED]
    rows = ''.join(f"<disk name={quoteattr(disk.target)} type='file'><target file={quoteattr(f'{folder}/{disk.target}.qcow2')}/></disk>" for disk in disks)
    return f'<domainbackup><disks>{rows}</disks></domainbackup>'


def back_up(domain, folder):
    """The job as it ended, or the reason why there is none."""
    os.makedirs(folder, mode=0o700)
    try:
        job = domain.backup_begin_options(backup_xml=request(domain, folder), timeout=PATIENCE)
        while True:
            ended = domain.backup_wait(job, 60 * 1000000)
            if ended.has_ended:
                return ended
            print(f'{domain.name}: {ended.bytes >> 20} of {ended.total >> 20} MiB', flush=True)
    except libbackup.Error as error:
        return error


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(f'usage: {sys.argv[0]} URI DIRECTORY [AT-ONCE]')
    night = os.path.join(sys.argv[2], time.strftime('%Y-%m-%dT%H%M%S'))
    try:
        with libbackup.Connection(sys.argv[1]) as conn:
            guests = conn.list_all_domains(libbackup.ListDomainsFlags.ACTIVE)
            with concurrent.futures.ThreadPoolExecutor(int(sys.argv[3]) if len(sys.argv) == 4 else 4) as pool:
                results = list(pool.map(lambda guest: back_up(guest, os.path.join(night, guest.name)), guests))
    except libbackup.Error as error:
        sys.exit(f'{sys.argv[0]}: {error}')
    good = 0
    for guest, result in zip(guests, results):
        if isinstance(result, libbackup.Error):
            print(f'{guest.name}: not begun: {result}')
        elif result.state == libbackup.JobState.COMPLETED:
            good += 1
            print(f'{guest.name}: completed: {result.bytes} bytes in {result.elapsed / 1e6:.1f} s')
        else:
            print(f'{guest.name}: {libbackup.job_state_to_string(result.state)}: {result.error}')
    print(f'{good} of {len(guests)} guests are backed up in {night}')
    sys.exit(0 if good == len(guests) else 6 if good else 3)


if __name__ == '__main__':
    main()
