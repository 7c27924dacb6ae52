#!/usr/bin/env python3
"""Pulls a backup of all disks of a guest into raw files: full the first time, then only what changed since.

    pull.py URI GUEST DIRECTORY

Each run makes a checkpoint at the instant of the backup. The next run asks which ranges changed since that one, reads only those,
by libnbd, and writes them into the files of the run before. It says "done" only when everything has been read: only then is the backup
good and the new checkpoint kept.
"""
import os
import sys
import time

import libbackup
import nbd

CHUNK = 2 << 20


def ranges(handle, context):
    """(offset, length) of what has to be read: what changed, or everything that is not known to be zero."""
    found, size, at = [], handle.get_size(), 0

    def extent(name, offset, entries, error):
        nonlocal at
        if name != context:
            return 0
        for length, flags in zip(entries[::2], entries[1::2]):
            wanted = flags & 1 if context != nbd.CONTEXT_BASE_ALLOCATION else not flags & nbd.STATE_ZERO
            if wanted:
                found.append((offset, min(length, size - offset)))
            offset += length
        at = offset
        return 0

    while at < size:
        handle.block_status(min(size - at, 1 << 30), at, extent)
    return found


def pull_disk(disk, uri, path):
    """Any error of a read counts: QEMU answers with errors when it can no longer keep the point in time."""
    context = f'qemu:dirty-bitmap:{disk.bitmap}' if disk.bitmap else nbd.CONTEXT_BASE_ALLOCATION
    handle = nbd.NBD()
    handle.add_meta_context(context)
    handle.connect_uri(uri)
    if not handle.can_meta_context(context):
        raise RuntimeError(f'{disk.target}: the export does not tell {context}')
    total = 0
    with open(path, 'r+b' if disk.bitmap else 'xb') as file:
        file.truncate(handle.get_size())
        for offset, length in ranges(handle, context):
            for at in range(offset, offset + length, CHUNK):
                file.seek(at)
                file.write(handle.pread(min(CHUNK, offset + length - at), at))
            total += length
        file.flush()
        os.fsync(file.fileno())
    handle.shutdown()
    print(f'{disk.target}: {disk.type}, {total} bytes read')


def backup(domain, directory):
    before = domain.list_all_checkpoints(libbackup.DomainCheckpointListFlags.LEAVES)
    since = f'<incremental>{before[0].name}</incremental>' if before and os.path.exists(f'{directory}/complete') else ''
    name = time.strftime('pull-%Y%m%d-%H%M%S') + f'-{os.getpid()}'
    domain.backup_begin(f"<domainbackup mode='pull'>{since}<server transport='auto'/></domainbackup>",
                        f'<domaincheckpoint><name>{name}</name></domaincheckpoint>')
    job = domain.backup_info()
    try:
        if since:
            os.unlink(f'{directory}/complete')      # until all of it is written, the files are of no instant
        for index, disk in enumerate(job.disks):
            pull_disk(disk, job.get_export_uri(index), f'{directory}/{disk.target}.raw')
    except BaseException:
        domain.backup_stop(job.id, libbackup.DomainBackupStopFlags.ABORT)
        raise
    ended = domain.backup_stop(job.id)
    if ended.state != libbackup.JobState.COMPLETED:
        raise RuntimeError(f'{libbackup.job_state_to_string(ended.state)}: {ended.error}')
    with open(f'{directory}/complete', 'w') as file:
        file.write(name + '\n')
    for checkpoint in before:
        checkpoint.delete()
    print('completed')


def main():
    if len(sys.argv) != 4:
        sys.exit(f'usage: {sys.argv[0]} URI GUEST DIRECTORY')
    try:
        with libbackup.Connection(sys.argv[1]) as conn:
            backup(conn.lookup_by_name(sys.argv[2]), sys.argv[3])
    except (libbackup.Error, nbd.Error, OSError, RuntimeError) as error:
        sys.exit(f'{sys.argv[0]}: {error}')


if __name__ == '__main__':
    main()
