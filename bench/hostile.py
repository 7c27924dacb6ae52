#!/usr/bin/python3
"""A daemon under hostile use: how long working clients wait for their answers alone, and with a crowd of others.

    hostile.py [--seconds N] [--idle 1000] [--slow 250] [--hostile 30] [--working 20]

The crowd: idle connections, slow ones that leave packets of 4 MiB unfinished, hostile ones that call a guest whose QEMU is stopped, send garbage
and come again (tests/live/swarm.py); each kind as a user of its own when run as root. The working clients look guests up, ask for state,
description and checkpoints of a guest that is well, by libvirt's program. Exit status 1 when their p99 under load is more than 5 times that alone,
when one of them got no answer, or when the daemon holds more than it may. BUILD_DIR names the build (default build/).
"""
import argparse
import os
import signal
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'live'))
import bed  # noqa: E402
import daemon  # noqa: E402
import rpc  # noqa: E402
import swarm  # noqa: E402

MIB = 1 << 20
GOAL, GROWN_MAX, PAUSE = 5, 256 * MIB, 0.02


class Bench(bed.LiveTest):
    def runTest(self):
        pass


def work(server, until, times, failures):
    """One client with a little pause between its calls, as a monitoring loop has."""
    try:
        peer = rpc.Connection(server.socket, timeout=60).open()
        domain = peer.domain('b')
        calls = [(23, rpc.string('b')), (212, domain + rpc.u32(0)), (14, domain + rpc.u32(0)), (413, domain + rpc.u32(1, 0)), (16, domain)]
        while time.monotonic() < until:
            for procedure, payload in calls:
                start = time.perf_counter()
                peer.call(rpc.LIBVIRT, procedure, payload)
                times.append(time.perf_counter() - start)
                time.sleep(PAUSE)
        peer.close()
    except Exception as e:      # noqa: BLE001
        failures.append(repr(e))


def measure(server, clients, seconds):
    times, failures, until = [], [], time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(server, until, times, failures)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times), failures


def show(title, times):
    p99 = times[int(len(times) * 0.99)]
    print(f'{title:12} {len(times):7} answers   median {statistics.median(times) * 1000:8.2f} ms   p99 {p99 * 1000:8.2f} ms   worst {times[-1] * 1000:8.2f} ms', flush=True)
    return p99


def run(test, options):
    os.chmod(test.directory, 0o755)
    hung = test.engine(test.make_image('g.qcow2', MIB), name='g')
    well = test.engine(test.make_image('b.qcow2', MIB), name='b')
    server = daemon.Daemon(test)
    os.chmod(server.directory, 0o755)
    server.attach('g', hung)
    server.attach('b', well)
    measure(server, options.working, 1)         # warm-up
    alone, failed_alone = measure(server, options.working, options.seconds)
    p99_alone, before = show('alone', alone), server.memory()

    def crowd(kind, count, user, guest=''):
        made = swarm.Swarm(kind, count, server.readonly_socket, guest, user)
        test.addCleanup(made.kill)
        return made.wait_ready()

    crowds = [crowd('idle', options.idle, 'nobody'), crowd('hostile', options.hostile, 'daemon', 'g')]
    os.kill(hung.process.pid, signal.SIGSTOP)
    test.addCleanup(os.kill, hung.process.pid, signal.SIGCONT)
    crowds.append(crowd('slow', options.slow, 'bin'))
    loaded, failed_loaded = measure(server, options.working, options.seconds)
    p99_loaded, grown = show('under load', loaded), server.memory() - before
    ends = [one.end() for one in crowds]
    ratio = p99_loaded / p99_alone
    print(f'ratio of the p99: {ratio:.2f} (goal: at most {GOAL}); working clients without an answer: {len(failed_alone) + len(failed_loaded)}')
    print(f'memory: {before // MIB} MiB before, {grown / MIB:+.0f} MiB under load (goal: at most {GROWN_MAX // MIB})')
    print(f'idle: {ends[0]["dropped"]} of {options.idle} dropped; hostile: {ends[1]["sent"]} sends, came again {ends[1]["again"]} times; '
          f'slow: {ends[2]["dropped"]} of {options.slow} dropped, {ends[2]["sent"] // MIB} MiB sent')
    return not failed_alone and not failed_loaded and ratio <= GOAL and grown <= GROWN_MAX


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('seconds', 10), ('idle', 1000), ('slow', 250), ('hostile', 30), ('working', 20)):
        parser.add_argument(f'--{name}', type=int, default=default)
    test = Bench()
    test.setUp()
    try:
        good = run(test, parser.parse_args())
    finally:
        test.doCleanups()
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
