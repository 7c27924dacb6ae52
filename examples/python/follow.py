#!/usr/bin/env python3
"""Follows a guest's backups in asyncio until one has ended; a daemon that is restarted meanwhile is waited for.

    follow.py URI GUEST
"""
import asyncio
import sys

import libbackup
from libbackup import EventId


async def ended(domain):
    """How the newest job ended, or None; what happened while the daemon was away is not told, so it is asked."""
    try:
        job = await asyncio.to_thread(domain.backup_info)
    except libbackup.Error as error:
        if error.code in (libbackup.ErrorCode.NO_JOB, libbackup.ErrorCode.CONNECTION):
            return None
        raise
    return job.state if job.has_ended else None


async def follow(conn, domain):
    async for event in conn.events(domain):
        if event.id == EventId.PROGRESS and not event.disk:
            print(f'{event.bytes} of {event.total} bytes', flush=True)
        elif event.id == EventId.WARNING:
            print(f'warning: {event.text}', flush=True)
        elif event.id == EventId.CONNECTION:
            print(event.text, flush=True)
            if event.state != libbackup.ConnectionState.LOST and (state := await ended(domain)) is not None:
                return state
        elif event.id == EventId.JOB_STATE:
            print(libbackup.job_state_to_string(event.state), flush=True)
        elif event.id == EventId.JOB_COMPLETED:
            return event.state


async def main():
    if len(sys.argv) != 3:
        sys.exit(f'usage: {sys.argv[0]} URI GUEST')
    try:
        conn = await asyncio.to_thread(libbackup.Connection, sys.argv[1])
        domain = await asyncio.to_thread(conn.lookup_by_name, sys.argv[2])
        following = asyncio.create_task(follow(conn, domain))
        await asyncio.sleep(0)
        print('following', flush=True)
        state = await following
    except libbackup.Error as error:
        sys.exit(f'{sys.argv[0]}: {error}')
    print(f'{domain.name}: {libbackup.job_state_to_string(state)}')
    sys.exit(state != libbackup.JobState.COMPLETED)


if __name__ == '__main__':
    asyncio.run(main())
