#!/usr/bin/python3
"""A daemon with peers that mean no good: what they do costs themselves. Nothing here judges time: bench/hostile.py does."""
import os
import re
import signal
import threading

import bed
import daemon
import rpc
import swarm
from rpc import BACKUP, LIBVIRT, string, u32

MIB = 1 << 20


class HostileTest(bed.LiveTest):
    """Guest g will hang, guest b is well."""

    def setUp(self):
        super().setUp()
        os.chmod(self.directory, 0o755)
        self.hung = self.engine(self.make_image('g.qcow2', MIB), name='g')
        self.well = self.engine(self.make_image('b.qcow2', MIB), name='b')
        self.server = daemon.Daemon(self)
        os.chmod(self.server.directory, 0o755)
        self.server.attach('g', self.hung)
        self.server.attach('b', self.well)

    def swarm(self, kind, count, guest='', user='nobody'):
        made = swarm.Swarm(kind, count, self.server.readonly_socket, guest, user)
        self.addCleanup(made.kill)
        return made.wait_ready()

    def hang(self):
        os.kill(self.hung.process.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.hung.process.pid, signal.SIGCONT)

    def work(self, rounds, failures, readonly):
        """What a monitoring client asks, one after the other; each has to be answered."""
        try:
            path = self.server.readonly_socket if readonly else self.server.socket
            with_timeout = rpc.Connection(path, timeout=60 * bed.SLOW).open(readonly)
            domain = with_timeout.domain('b')
            for _ in range(rounds):
                for procedure, payload in ((LIST_ALL, u32(1, 0)), (STATE, domain + u32(0)), (INFO, domain), (XML, domain + u32(0)), (CHECKPOINTS, domain + u32(1, 0))):
                    with_timeout.call(LIBVIRT, procedure, payload)
            with_timeout.close()
        except Exception as e:      # noqa: BLE001, any end of it but the good one
            failures.append(repr(e))

    def clients_work(self, count, rounds):
        failures = []
        threads = [threading.Thread(target=self.work, args=(rounds, failures, n % 2 == 0)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_working_clients_get_all_their_answers_among_hostile_ones(self):
        self.hang()
        crowd = [self.swarm('idle', 60), self.swarm('slow', 12, user='daemon'), self.swarm('hostile', 24, 'g')]
        self.clients_work(8, 5)
        done = self.baksh('backup-begin', 'b', '--target', f'disk0={self.path("b-backup.qcow2")}', '--wait', uri=self.server.uri, timeout=120)
        self.assertEqual(done.rc, 0, done.err)
        ends = [one.end() for one in crowd]
        self.assertEqual(ends[0]['dropped'], 0)
        self.assertGreater(ends[2]['sent'], 100)
        self.assertIsNone(self.server.process.poll())

    def flood(self, program, procedure, payload, opened):
        """150 calls about the hung guest, by one user who may only look."""
        self.hang()
        peers = []
        for _ in range(30):
            peer = opened(rpc.Connection(self.server.readonly_socket, timeout=60))
            peers.append(peer)
            self.addCleanup(peer.close)
            for serial in range(5):
                peer.sock.sendall(rpc.packet(program, procedure, payload, serial=100 + serial))
        self.clients_work(4, 3)

    def test_a_hung_guest_costs_its_own_callers_only_in_libvirts_program(self):
        domain = rpc.Connection(self.server.readonly_socket).open(True).domain('g')
        self.flood(LIBVIRT, INFO, domain, lambda peer: peer.open(True))

    def test_a_hung_guest_that_nobody_has_looked_up_does_too(self):
        """Only its uuid is told, with names that are made up."""
        reader = rpc.Connection(self.server.readonly_socket).open(True).domain('g')
        uuid = reader[-20:-4]
        self.server.restart()
        self.flood(LIBVIRT, INFO, string('another') + uuid + u32(1), lambda peer: peer.open(True))

    def test_and_in_our_own_program(self):
        self.flood(BACKUP, 20, string('g') + u32(0), lambda peer: peer.hello(True))

    def test_what_is_left_unfinished_takes_bounded_memory(self):
        before = self.server.memory()
        slow = self.swarm('slow', 60)
        grown = self.server.memory() - before
        self.assertLess(grown, 120 * MIB)           # 240 MiB were sent; 32 MiB of one user are held, and malloc rounds up
        self.clients_work(2, 1)
        ended = slow.end()
        self.assertGreaterEqual(ended['dropped'], 50)
        self.assertLess(ended['dropped'], 60)       # those within the bound stay until their time is over
        self.assertIn('leaves too much unfinished', self.server.read_log())

    def test_calls_that_wait_take_bounded_memory(self):
        """40 documents of 3 MiB each, for a guest that hangs."""
        self.hang()
        document = string('g') + string('<domainbackup><description>' + 'x' * (3 * MIB) + '</description></domainbackup>') + string('') + u32(0, 0, 0)
        before, peers, refused = self.server.memory(), [], 0
        for _ in range(20):
            peer = rpc.Connection(self.server.readonly_socket, timeout=60).hello(True)
            self.addCleanup(peer.close)
            peers.append((peer, [peer.send(BACKUP, 41, document) for _ in range(2)]))
        self.clients_work(2, 1)
        self.assertLess(self.server.memory() - before, 200 * MIB)
        for peer, _ in peers[-5:]:
            peer.sock.settimeout(60)
            try:
                peer.reply(1 + 1)
            except rpc.WireError as e:
                refused += 'large calls' in e.message
        self.assertEqual(refused, 5)

    def test_no_text_of_a_peer_makes_a_line_of_the_log_or_a_field_of_it(self):
        peer = rpc.Connection(self.server.socket).hello()
        forged = 'x\naudit: peer=1 who=root uid=0 pid=1 from=unix call=FORGED guest=g result=done'
        aside = 'x result=done FORGED=1 "result=done'
        begin = string("<domainbackup><limit bytes_per_sec='65536'/><disks><disk name='disk0' type='file'>"
                       f"<target file='{self.path('limited')}'/></disk></disks></domainbackup>")
        peer.call(BACKUP, 40, string('b') + begin + string('') + u32(0, 0, 0))
        entity = forged.replace('\n', '&#10;').replace('"', '&quot;')
        for text in (forged, aside):
            for procedure, payload in ((47, string('b') + string(text) + u32(0, 1)), (13, string(text) + u32(0)), (65, string('b') + string(text) + u32(0)),
                                       (12, string('n') + string('/x' + text) + string('') + u32(0, 0, 0)), (42, string(text) + string('') + u32(1)),
                                       (40, string('b') + string(f"<domainbackup><disks><disk name='{entity}'/></disks></domainbackup>") + string('') + u32(0, 0, 0))):
                with self.assertRaises(rpc.WireError):
                    peer.call(BACKUP, procedure, payload)
        lines = self.server.read_log().splitlines()
        value = r'(?:[^ "\\]+|"(?:[^"\\]|\\.)*")'
        audits = [line for line in lines if 'audit:' in line]
        self.assertGreater(len([line for line in audits if 'FORGED' in line]), 6)
        for line in lines:
            self.assertFalse(any(ord(c) < 32 for c in line), line)
        for line in audits:
            self.assertRegex(line, rf'audit: peer=\d+ who={value} uid=-?\d+ pid=\d+ from={value} call=\w+ guest={value} result=(done|failed error={value})$')
            self.assertEqual(len(re.findall('audit:', re.sub(r'"(?:[^"\\]|\\.)*"', '', line))), 1, line)

    def test_who_may_only_look_cannot_have_the_host_searched(self):
        for readonly, path in ((True, self.server.socket), (False, self.server.readonly_socket)):
            with self.assertRaises(rpc.WireError) as raised:
                rpc.Connection(path).hello(readonly).call(BACKUP, 14)
            self.assertIn('read only', raised.exception.message)
        self.assertEqual(self.baksh('discover', uri=self.server.uri).rc, 0)


INFO, XML, LIST_ALL, STATE, CHECKPOINTS = 16, 14, 273, 212, 413

if __name__ == '__main__':
    bed.main()
