#!/usr/bin/python3
"""Stock virsh of three Debian releases against a bare QEMU through libbackupd, compared with the same against libvirtd."""
import concurrent.futures
import os
import re
import subprocess
import threading

import bed
import daemon
import rpc

PUSH = """<domainbackup><disks><disk name='vda' type='file'><target file='DIR/push-a.qcow2'/><driver type='qcow2'/></disk>
  <disk name='vdb' type='file'><target file='DIR/push-b.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>"""
PULL = """<domainbackup mode='pull'>{0}<server transport='unix' socket='DIR/nbd'/><disks>
  <disk name='vda' type='file'><scratch file='DIR/scratch-a.qcow2'/></disk>
  <disk name='vdb' type='file'><scratch file='DIR/scratch-b.qcow2'/></disk></disks></domainbackup>"""
FILES = {
    'push': PUSH, 'pull': PULL.format(''), 'inc': PULL.format('<incremental>c1</incremental>'),
    'lost': PULL.format('<incremental>nosuch</incremental>'), 'text': 'hello', 'root': '<domaincheckpoint/>',
    'disk': "<domainbackup><disks><disk name='vdz' type='file'><target file='DIR/z'/></disk></disks></domainbackup>",
    'c1': '<domaincheckpoint><name>c1</name></domaincheckpoint>', 'c2': '<domaincheckpoint><name>c2</name></domaincheckpoint>',
}
SAME = object()


class Refused:
    """The command fails in both; what it says may differ (ours names more), but not how libvirt's client begins it."""

    def __init__(self, beginning, ours=None):
        self.beginning, self.ours = beginning, ours or beginning


# (command, what must hold), in order. A text is what only ours prints, and why is in the comment before it.
SCRIPT = [
    ('list --all', SAME), ('list', SAME), ('list --uuid', SAME), ('list --inactive', SAME), ('list --name', SAME),
    ('list --all --title', SAME), ('list --without-checkpoint', SAME), ('list --with-checkpoint', SAME), ('list --state-paused', SAME), ('list --no-autostart', SAME),
    ('domstats x --state', SAME), ('domstats --list-inactive --state', SAME), ('domstats x --state --enforce', SAME), ('hostname', SAME), ('domhostname nosuch', SAME),
    ('dominfo x', SAME), ('domstate x --reason', SAME), ('domid x', SAME), ('domuuid x', SAME), ('domname ' + daemon.UUID, SAME),
    ('domblklist x', SAME), ('domblklist x --details', SAME), ('domblkinfo x vda', SAME), ('domblkinfo x --all', SAME),
    ('domblkinfo x DIR/a.qcow2', SAME), ('domblkinfo x vdz', SAME), ('domblkerror x', SAME), ('domblkstat x vda', SAME), ('domblkstat x', SAME), ('domblkstat x vda --human', SAME), ('domblkstat x vdz', SAME),
    ('dominfo nosuch', SAME), ('dominfo 777', SAME), ('domstate 11111111-2222-3333-4444-555555555556', SAME),
    ('domjobinfo x', SAME), ('domjobinfo x --completed', SAME), ('domjobinfo x --anystats --rawstats', SAME), ('domjobabort x', SAME), ('backup-dumpxml x', SAME),
    ('blockjob x vda', SAME), ('blockjob x vda --raw', SAME),
    ('domfsfreeze x', Refused('error: Unable to freeze filesystems')), ('domfsthaw x', Refused('error: Unable to thaw filesystems')),
    # what is wrong is said in other words, and of more
    ('backup-begin x DIR/text', Refused("error: (domain_backup):1: Start tag expected, '<' not found", "error: XML error: line 1: not XML")),
    ('backup-begin x DIR/root', Refused('error: XML error: ')),
    ('backup-begin x DIR/disk', Refused("error: unsupported configuration: no disk named 'vdz'", "error: unsupported configuration: disk 'vdz': no such disk")),
    # exactness that cannot be shown is one kind of refusal, whether the base is damaged or gone
    ('backup-begin x DIR/lost', Refused('error: Domain checkpoint not found: ', 'error: checkpoint inconsistent: ')),
    ('checkpoint-list x', SAME), ('checkpoint-info x c1', SAME), ('checkpoint-dumpxml x nosuch', SAME), ('checkpoint-parent x nosuch', SAME),
    ('backup-begin x DIR/push', SAME), ('WAIT', None), ('domjobinfo x', SAME), ('domjobinfo x --completed --keep-completed', SAME),
    ('domjobinfo x --completed --rawstats --keep-completed', SAME), ('domjobinfo x --completed', SAME),
    ('backup-begin x DIR/push', Refused('error: invalid argument: ')),
    ('backup-begin x DIR/pull DIR/c1', SAME), ('domjobinfo x', SAME), ('blockjob x vda --raw', SAME),
    ('checkpoint-list x', SAME), ('checkpoint-info x c1', SAME), ('checkpoint-dumpxml x c1 --no-domain', SAME),
    ('checkpoint-dumpxml x c1 --no-domain --size', SAME),
    ('domjobabort x', SAME), ('WAIT', None),
    # libvirtd puts "Operation canceled" beside "Completed"; a pull that was ended in order has no error here
    ('domjobinfo x --completed --keep-completed', 'no error'), ('checkpoint-list x', SAME), ('backup-dumpxml x', SAME),
    ('backup-begin x DIR/inc DIR/c2', SAME), ('domjobabort x', SAME), ('WAIT', None),
    ('checkpoint-list x --parent', SAME), ('checkpoint-list x --tree', SAME), ('checkpoint-list x --roots', SAME),
    ('checkpoint-list x --leaves', SAME), ('checkpoint-list x --no-leaves --name', SAME), ('checkpoint-list x --topological', SAME),
    ('checkpoint-list x --from c1 --descendants', SAME), ('checkpoint-info x c2', SAME), ('checkpoint-parent x c2', SAME),
    ('checkpoint-parent x c1', SAME), ('checkpoint-dumpxml x c2 --no-domain', SAME),
    ('checkpoint-create x DIR/c2', Refused('error: operation failed: ')),
    ('checkpoint-create-as x c3 text --diskspec vda --diskspec vdb', SAME), ('checkpoint-dumpxml x c3 --no-domain', SAME),
    ('checkpoint-create-as x c4 --diskspec vdz', Refused('error: unsupported configuration: ')),
    ('checkpoint-delete x c2', SAME), ('checkpoint-parent x c3', SAME), ('checkpoint-delete x c1 --children-only', SAME),
    ('checkpoint-list x', SAME), ('checkpoint-delete x c1 --metadata', SAME), ('checkpoint-delete x c1', SAME), ('checkpoint-list x', SAME),
    ('-r list', SAME), ('-r domjobabort x', SAME), ('-r suspend x', SAME), ('-r checkpoint-delete x c3', SAME), ('-r checkpoint-dumpxml x c3 --security-info', SAME), ('-r backup-begin x', SAME), ('-r domfsfreeze x', SAME),
    ('-r dumpxml x --security-info', SAME), ('-r checkpoint-create x DIR/c1', SAME), ('-r backup-dumpxml x', SAME),
]


class StockVirshTest(daemon.DaemonTest):
    versions = ('7.2',)

    def run_both(self, client, command):
        """(rc, text) of libvirtd and of ours, with folders and times made equal."""
        def one(uri, folder):
            rc, out = self.virsh(uri, *command.replace('DIR', folder).split(), client=client)
            return rc, daemon.without_times(out, folder)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(one, (self.libvirtd.uri, self.daemon.uri), (self.libvirtd.images, self.ours)))

    def wait_job(self):
        for uri in (self.libvirtd.uri, self.daemon.uri):
            bed.wait_for('the end of the job', lambda: 'None' in self.virsh(uri, 'domjobinfo', 'x')[1])

    def check(self, client, command, expected):
        theirs, ours = self.run_both(client, command)
        if expected is SAME:
            self.assertEqual(ours, theirs, f'virsh ({client}) {command}')
        elif isinstance(expected, Refused):
            self.assertEqual((theirs[0], ours[0]), (1, 1), f'{command}: {theirs} {ours}')
            self.assertIn(expected.beginning, theirs[1])
            self.assertIn(expected.ours, ours[1])
        else:
            self.assertEqual(ours, (theirs[0], re.sub(r'Error message: +Operation canceled *\n', '', theirs[1])), command)

    def compare(self, client):
        daemon.client_prefix(client, 'virsh')
        self.ours = self.path('o', 'img')
        os.makedirs(self.ours)
        self.libvirtd = daemon.Libvirtd(self, self.path('l'))
        qemu = self.bare_guest(self.ours)
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('x', qemu, vda='virtio-disk0', vdb='virtio-disk1')
        for folder in (self.libvirtd.images, self.ours):
            for name, text in FILES.items():
                with open(os.path.join(folder, name), 'w') as f:
                    f.write(text.replace('DIR', folder))
        for command, expected in SCRIPT:
            if command == 'WAIT':
                self.wait_job()
                continue
            with self.subTest(command=command):
                self.check(client, command, expected)
        self.assert_nothing_left(qemu)

    def test_virsh_of_debian_12_prints_what_it_prints_with_libvirtd(self):
        self.compare('12')

    def test_virsh_of_trixie_prints_what_it_prints_with_libvirtd(self):
        self.compare('trixie')

    def test_virsh_of_sid_prints_what_it_prints_with_libvirtd(self):
        self.compare('sid')


class OtherDaemonTest(daemon.DaemonTest):
    versions = ('7.2',)

    def test_our_client_knows_a_libvirtd_by_its_answer_and_says_the_way_to_its_guests(self):
        libvirtd = daemon.Libvirtd(self, self.path('l'))
        done = self.must('list', uri=libvirtd.uri, rc=5)
        self.assertIn('a libvirtd answers there, not libbackupd; open its guests with libvirt+URI', done.err)
        modules = os.path.join(os.path.dirname(daemon.libbackupd_path()), '../../src/driver/libvirt')
        self.assertEqual(self.must('list', '--name', uri=f'libvirt+{libvirtd.uri}', env={'LIBBACKUP_DRIVER_DIR': modules}).out.split(), ['x'])


class FreezeTest(daemon.DaemonTest):
    versions = ('7.2',)

    def test_virsh_freezes_and_thaws_what_the_agent_can_freeze(self):
        guest = self.guest(disks=1, fill='4M')
        server = daemon.Daemon(self)
        server.attach('g', guest)
        for client in daemon.CLIENTS:
            daemon.client_prefix(client, 'virsh')
            self.assertIn('Froze 1 filesystem(s)', self.virsh_ok(server.uri, 'domfsfreeze', 'g', client=client))
            self.assertIn('Thawed 1 filesystem(s)', self.virsh_ok(server.uri, 'domfsthaw', 'g', client=client))
        self.assert_guest_works(guest)


class DumpTest(daemon.DaemonTest):
    versions = ('7.2',)

    def test_the_descriptions_of_guest_and_job_are_what_clients_look_for(self):
        os.mkdir(self.path('img'))
        qemu = self.bare_guest(self.path('img'))
        server = daemon.Daemon(self)
        server.attach('x', qemu, vda='virtio-disk0', vdb='virtio-disk1')
        dump = self.virsh_ok(server.uri, 'dumpxml', 'x')
        for piece in (f'<uuid>{daemon.UUID}</uuid>', "<driver name='qemu' type='qcow2'/>", f"<source file='{self.path('img')}/a.qcow2'/>",
                      "<target dev='vda'", "<target dev='vdb'"):
            self.assertIn(piece, dump)
        pull = self.write('pull', PULL.format('').replace('DIR', self.directory))
        self.virsh_ok(server.uri, 'backup-begin', 'x', pull)
        dump = self.virsh_ok(server.uri, 'backup-dumpxml', 'x')
        for piece in ("<domainbackup mode='pull'>", f"<server transport='unix' socket='{self.directory}/nbd'/>",
                      "<disk name='vda' backup='yes' type='file' backupmode='full' exportname='vda'"):
            self.assertIn(piece, dump)
        again = self.write('again', dump)
        self.virsh_ok(server.uri, 'domjobabort', 'x')
        self.virsh_ok(server.uri, 'backup-begin', 'x', again)       # output is valid input
        self.virsh_ok(server.uri, 'domjobabort', 'x')


class Listener:
    """`virsh event` of a client, and what it has printed."""

    def __init__(self, test, server, client):
        self.test, self.server, self.lines = test, server, []
        self.process = test.popen(*daemon.client_prefix(client, 'virsh'), '-c', server.uri, 'event', '--all', '--loop',
                                  stdout=subprocess.PIPE, text=True, env={**os.environ, 'LC_ALL': 'C.UTF-8'})
        self.thread = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.thread.start()
        self.connection = server.connect()
        bed.wait_for('the first event', self.pulse)

    def pulse(self):
        """A guest comes and goes: who is registered hears it."""
        self.connection.attach('pulse', images=[('vda', self.test.path('pulse.raw'))])
        self.connection.call(rpc.BACKUP, 13, rpc.string('pulse') + rpc.u32(0))
        return ': Defined Added' in ''.join(self.lines)       # it was registered before the coming, not only before the going

    def wait(self, count, word):
        bed.wait_for(f'{count} times {word}: {self.lines}', lambda: ''.join(self.lines).count(word) >= count)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.thread.join()
        return ''.join(self.lines)


class EventTest(daemon.DaemonTest):
    versions = ('7.2',)

    def hear(self, client):
        """What the client prints of a push and of a pull that is ended."""
        folder = self.path('img')
        os.mkdir(folder)
        with open(self.path('pulse.raw'), 'wb') as f:
            f.truncate(1 << 20)
        qemu = self.bare_guest(folder)
        server = daemon.Daemon(self)
        server.attach('x', qemu, vda='virtio-disk0', vdb='virtio-disk1')
        listener = Listener(self, server, client)
        for count, name in enumerate(('push', 'pull'), 1):
            self.virsh_ok(server.uri, 'backup-begin', 'x', self.write(name, FILES[name].replace('DIR', self.directory)))
            if name == 'pull':
                self.virsh_ok(server.uri, 'domjobabort', 'x')
            listener.wait(2 * count, 'block-job-2')
        return daemon.without_times(listener.end(), folder)

    def check(self, client):
        text = self.hear(client)
        self.assertIn("event 'lifecycle' for domain 'pulse': Defined Added", text)
        self.assertIn("event 'lifecycle' for domain 'pulse': Undefined Removed", text)
        self.assertEqual(text.count("event 'job-completed' for domain 'x':\n\toperation: 9\n\ttime_elapsed: T\n"), 2, text)
        self.assertEqual(text.count('\tsuccess: 1\n'), 2, text)
        for target in ('vda', 'vdb'):
            self.assertEqual(text.count(f"event 'block-job-2' for domain 'x': Backup for {target} completed"), 2, text)
            self.assertEqual(text.count(f"event 'block-job' for domain 'x': Backup for /DIR/{target[2]}.qcow2 completed"), 2, text)
        # in libvirtd's order
        self.assertRegex(text, r"(?s)job-completed.*block-job'.*block-job-2'.*job-completed.*block-job'.*block-job-2'")

    def test_virsh_of_debian_12_hears_the_end_of_a_job(self):
        self.check('12')

    def test_virsh_of_trixie_hears_the_end_of_a_job(self):
        self.check('trixie')

    def test_virsh_of_sid_hears_the_end_of_a_job(self):
        self.check('sid')


if __name__ == '__main__':
    bed.main()
