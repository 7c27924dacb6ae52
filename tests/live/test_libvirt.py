#!/usr/bin/python3
"""Guests that libvirt manages: what runs on attached guests runs on them, and what libvirt gets wrong is put right above it.

Where libvirt is wrong the same is first done by plain virsh, as the control: there the test would fail."""
import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import time

import bed
import lvbed

MIB = 1 << 20


class Bare(lvbed.OnLibvirt, bed.LiveTest):
    """A guest without an operating system and with two full disks; the first can be slow, so that a job is under way for certain."""
    images = ('128M', '16M')

    def setUp(self):
        super().setUp()
        self.vm = self.bare(self.served_disk('disk0.qcow2', self.images[0]), *[self.full_disk(f'disk{n}.qcow2', size) for n, size in enumerate(self.images[1:], 1)])

    def targets(self, *names):
        return [x for disk, name in zip(self.vm.disks, names) for x in ('--target', f'{disk.target}={self.path(name)}')]

    def only(self, target, name):
        return '--disk', target, '--target', f'{target}={self.path(name)}'

    def slow_push(self, *extra, names=('a.qcow2', 'b.qcow2')):
        """Takes a minute, if it is let."""
        with self.slowly():
            self.must('backup-begin', 'g', *self.targets(*names), '--limit', '4M', *extra)
        return self.job()['id']

    def plain_push(self, name, *, checkpoint=None, slow=False, since=None, flags=()):
        """The same by libvirt alone."""
        incremental = f'<incremental>{since}</incremental>' if since else ''
        xml = self.write_xml('plain.xml', f"<domainbackup>{incremental}<disks><disk name='vda' type='file'><target file='{self.path(name)}'/></disk></disks></domainbackup>")
        documents = [xml]
        if checkpoint:
            documents.append(self.write_xml('plain-c.xml', f"<domaincheckpoint><name>{checkpoint}</name><disks><disk name='vda'/></disks></domaincheckpoint>"))
        with self.slowly() if slow else contextlib.nullcontext():
            self.virsh('backup-begin', 'g', *documents, *flags)
            if slow:
                self.virsh('blockjob', 'g', 'vda', '--bandwidth', '1')

    def plain_end(self, timeout=60):
        bed.wait_for('libvirt has no job', lambda: 'None' in self.virsh('domjobinfo', 'g').stdout, timeout)

    def bitmaps(self):
        return sorted(name for (node, name) in self.qemu_bitmaps())

    def qemu_bitmaps(self):
        return {(n['node-name'], b['name']) for n in self.vm.qmp.execute('query-named-block-nodes', flat=True)
                for b in n.get('dirty-bitmaps', []) if b.get('name')}

    def assert_clean(self):
        self.assert_no_journal()
        self.assertEqual(self.virsh('domjobinfo', 'g').stdout.split()[-1], 'None')


class BasicsTest(Bare):
    def test_list_and_info_say_what_libvirt_says(self):
        listed = self.listing('list', '--all')
        self.assertEqual([(d['name'], d['state']) for d in listed['domains']] if isinstance(listed, dict) else [(d['name'], d['state']) for d in listed],
                         [('g', 'running')])
        uuid = self.virsh('domuuid', 'g').stdout.strip()
        self.assertEqual(self.json('dominfo', 'g')['uuid'], uuid)
        self.assertEqual(self.must('domstate', 'g').out.strip(), 'running')
        disks = self.must('domblklist', 'g').out
        self.assertIn('vda', disks)
        self.assertIn(self.vm.disks[1].path, disks)
        for disk, size in zip(self.vm.disks, self.images):
            self.assertRegex(self.must('domblkinfo', 'g', disk.target).out, rf'(?m)^Capacity: +{bed.size_of(size)}$')
            chain = self.json('domblkinfo', 'g', disk.target, '--chain')
            self.assertEqual(chain['images'][0]['source'], disk.path)
            self.assertEqual((chain['live'], chain['images'][0]['capacity']), (False, bed.size_of(size)))

    def test_no_such_guest_no_such_uri(self):
        self.assertIn('no-such', self.must('dominfo', 'no-such', rc=1).err)
        self.assertIn('connect', self.must('list', rc=5, uri='libvirt+qemu+unix:///system?socket=/nowhere/sock').err.lower())

    def test_a_disk_answers_to_all_its_names(self):
        self.must('backup-begin', 'g', '--disk', 'virtio-disk1', '--target', f'virtio-disk1={self.path("b")}', '--wait')
        self.assertEqual([d['target'] for d in self.job()['disks']], ['vdb'])
        xml = self.write_xml('x.xml', f"<domainbackup><disks><disk name='{self.vm.disks[1].path}' type='file'><target file='{self.path('c')}'/></disk></disks></domainbackup>")
        self.must('backup-begin', 'g', xml, '--wait')
        self.assertEqual([d['target'] for d in self.job()['disks']], ['vdb'])

    def test_a_dry_run_prints_the_calls_and_makes_none(self):
        before = self.virsh('qemu-monitor-command', 'g', '{"execute":"query-block-jobs"}').stdout
        plan = self.json('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c', '--limit', '1M', '--dry-run')
        verbs = [step['do'].get('action') for step in plan['steps']]
        self.assertIn('virDomainBackupBegin', verbs)
        self.assertLess(verbs.index('file-create'), verbs.index('virDomainBackupBegin'))
        begin = plan['steps'][verbs.index('virDomainBackupBegin')]
        self.assertEqual([u['action'] for u in begin['undo']], ['virDomainAbortJob', 'virDomainCheckpointDelete'])
        self.assertIn("<target file='", begin['do']['arguments']['backup'])
        self.assertFalse(os.path.exists(self.path('a')))
        self.assertEqual(self.vm.checkpoints(), [])
        self.assertEqual(before.split('"id"')[0], self.virsh('qemu-monitor-command', 'g', '{"execute":"query-block-jobs"}').stdout.split('"id"')[0])

    def test_where_others_can_exchange_what_libvirt_opens_nothing_is_written(self):
        theirs, link = self.path('theirs'), self.path('link')
        os.mkdir(theirs)
        os.symlink(theirs, link)
        for owner, mode in ((65534, 0o755), (0, 0o777)):
            os.chown(theirs, owner, -1)
            os.chmod(theirs, mode)
            for folder in theirs, link:
                for argv in (self.targets('theirs/a', 'theirs/b') if folder == theirs else self.targets('link/a', 'link/b')), \
                        ['--mode', 'pull', '--scratch', folder, '--server', f'unix:{self.path("n")}']:
                    for more in [], ['--dry-run']:
                        self.assertIn(f"may change the directory '{folder}'", self.must('backup-begin', 'g', *argv, *more, rc=1).err)
        self.assertEqual(os.listdir(theirs), [])
        os.chown(theirs, 0, -1)
        os.chmod(theirs, 0o755)
        self.must('backup-begin', 'g', *self.targets('theirs/a', 'theirs/b'), '--wait')
        self.assert_clean()

    def test_a_limit_holds_while_the_job_runs(self):
        """libvirt sets it when the job runs already: what QEMU has begun by then (64 MiB at the most) goes through."""
        with self.slowly():
            self.must('backup-begin', 'g', *self.only('vda', 'a'), '--limit', '16M')
        first = bed.wait_for('the first bytes', lambda: (lambda job: job if job['bytes'] > 72 * MIB else None)(self.job()))
        second = bed.wait_for('16 MiB more', lambda: (lambda job: job if job['bytes'] > first['bytes'] + 16 * MIB else None)(self.job()))
        rate = (second['bytes'] - first['bytes']) / (second['elapsed_ms'] - first['elapsed_ms']) * 1000
        self.assertLess(rate, 24 * MIB)         # a slow machine makes it less, none makes it more
        self.assertEqual(second['disks'][0]['limit'], 16 * MIB)
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')
        self.vm.quit()
        self.assert_same(self.path('a'), self.vm.disks[0].path)

    def test_what_libvirt_cannot_do_is_refused_with_the_reason(self):
        sock = self.path('s')
        rows = [(['--sync', 'top'], 'sync='), (['--sync', 'none'], 'sync='), (['--compression', 'zlib'], 'compression'), (['--protect', 'strict'], 'protect'),
                (['--disk', 'vda', '--target', 'vda=nbd://localhost/x'], 'network targets'), (['--checkpoint', 'm', '--memory-bitmap'], 'memory'),
                (['--mode', 'pull', '--server', f'unix:{sock}', '--tls-psk', self.path()], 'certificates'),
                (['--mode', 'pull', '--server', f'unix:{sock}', '--tls-dir', self.path()], 'certificates'),
                (['--preserve-domain-on-shutdown'], '11.10')]
        for options, words in rows:
            with self.subTest(options):
                targets = [] if '--target' in options or 'pull' in options else self.targets('a', 'b')
                done = self.must('backup-begin', 'g', *targets, *options, rc=1)
                self.assertIn(words, done.err)
        self.assertFalse(os.path.exists(self.path('a')))
        self.assertEqual(self.vm.checkpoints(), [])

    def test_bad_input_leaves_nothing(self):
        with open(self.path('there'), 'w') as f:
            f.write('precious')
        self.make_image('small.qcow2', '1M')
        self.full_disk('full.qcow2', self.images[1])
        os.link(self.vm.disks[1].path, self.path('hard'))
        os.symlink(self._full_file(self.images[1]), self.path('soft'))      # of what lies below it
        rows = [(['--disk', 'vdz', '--target', 'vdz=/x'], "no disk 'vdz'"), (self.only('vda', 'there'), 'exists'), (['--disk', 'vda', '--target', 'vda=/no/such/dir/x'], '/no/such/dir'),
                (['--disk', 'vda', '--target', f'vda={self.path("small.qcow2")}', '--reuse-external'], 'size'),
                (['--disk', 'vda', '--target', f'vda={self.vm.disks[1].path}', '--reuse-external'], 'in use by the guest'),
                *[(['--disk', 'vdb', '--target', f'vdb={self.path(name)}', '--format', fmt, '--reuse-external'], 'in use by the guest') for name, fmt in (('hard', 'qcow2'), ('soft', 'raw'))],
                *[(['--disk', 'vdb', '--mode', 'pull', '--scratch', f'vdb={self.path(name)}', '--reuse-external'], 'in use by the guest') for name in ('hard', 'soft')],
                (['--disk', 'vdb', '--mode', 'pull', '--scratch', f'vdb={self.path("full.qcow2")}', '--reuse-external'], 'not empty'),
                (['--disk', 'vda', '--mode', 'pull', '--server', f'unix:{self.path("there")}'], 'not a socket'),
                (['--disk', 'vda', '--mode', 'pull', '--server', 'tcp:0.0.0.0:10999'], 'readable by anyone')]
        for options, words in rows:
            with self.subTest(options):
                self.assertIn(words, self.must('backup-begin', 'g', *options, rc=1).err)
        with open(self.path('there')) as f:
            self.assertEqual(f.read(), 'precious')
        self.assert_clean()

    def test_events_of_a_job_reach_another_shell(self):
        listener = self.baksh_start('event', '--loop', '--timeout', '60')
        self.addCleanup(listener.kill)
        with self.slowly():
            self.must('backup-begin', 'g', *self.targets('a', 'b'))
            self.assertTrue(any('progress' in line for line in iter(listener.stdout.readline, '')), 'no event')
        self.assertTrue(any('job-completed' in line for line in iter(listener.stdout.readline, '')), 'no event of the end')


class PointTest(Bare):
    def test_points_of_a_guest_of_libvirt_hold_its_disks(self):
        self.environment['LIBBACKUP_REPOSITORY'] = self.path('repo')
        self.must('repository-create')
        first = self.json('point-create', 'g')
        second = self.json('point-create', 'g')
        self.assertEqual([d['kind'] for d in second['disks']], len(second['disks']) * ['incremental'])
        for disk, image in zip(second['disks'], self.vm.disks):
            self.assert_same(disk['path'], image.path)
        self.assertEqual([d['root'] for d in first['disks']], [d['root'] for d in second['disks']])


class DocumentedTest(lvbed.OnLibvirt, bed.LiveTest):
    def test_what_each_driver_says_it_can_is_what_the_documentation_says(self):
        with open(os.path.join(bed.TOP, 'docs/drivers.md')) as f:
            rows = re.findall(r'^\| `([a-z-]+)` \| (yes|no) \| (yes|no) \|', f.read(), re.M)
        self.assertGreater(len(rows), 20)
        for column, (driver, uri) in enumerate((('qemu', 'qemu:///session'), ('libvirt', self.uri)), 1):
            with self.subTest(driver):
                said = self.json('capabilities', uri=uri)
                self.assertEqual(said['driver'], driver)
                self.assertEqual({row[0]: row[column] == 'yes' for row in rows}, said['features'])
                for feature, value in said['features'].items():
                    self.assertTrue(value or said['reasons'].get(feature), f'{feature}: no reason')

    def test_the_shell_prints_it_as_a_table(self):
        out = self.must('capabilities').out
        self.assertRegex(out, r'(?m)^ *target-nbd +no +\S')
        self.assertRegex(out, r'(?m)^ *push +yes')


class ProvisionalTest(Bare):
    """The checkpoint of a backup that did not succeed must not stay: an increment from it would miss data."""

    def test_plain_libvirt_keeps_it(self):
        self.plain_push('p', checkpoint='c1', slow=True)
        self.virsh('domjobabort', 'g')
        self.plain_end()
        self.assertEqual(self.vm.checkpoints(), ['c1'])

    def test_an_aborted_push_leaves_neither_checkpoint_nor_target(self):
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c0', '--wait')
        self.vm.io(0, 'write -P 77 1M 1M')
        self.slow_push('--checkpoint', 'c1', names=('a1', 'b1'))
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c0'], 'a provisional checkpoint is shown')
        self.assertIn('provisional', self.must('checkpoint-info', 'g', 'c1', rc=1).err)
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.job()['state'], 'aborted')
        self.assertEqual(self.vm.checkpoints(), ['c0'])
        self.assertEqual(self.bitmaps(), ['c0', 'c0'])
        self.assertFalse(os.path.exists(self.path('a1')) or os.path.exists(self.path('b1')))
        self.assert_clean()
        # the parent misses nothing
        self.must('backup-begin', 'g', *self.only('vda', 'inc'), '--since', 'c0', '--onto', self.path('a'), '--wait')
        self.vm.quit()
        self.assert_same(self.path('inc'), self.vm.disks[0].path)

    def test_a_stop_of_a_running_push_is_a_failure(self):
        self.slow_push('--checkpoint', 'c1')
        self.must('backup-stop', 'g', rc=3)
        self.assertEqual(self.vm.checkpoints(), [])

    def test_a_failed_push_leaves_neither(self):
        small = self.full_soon('small')
        done = self.must('backup-begin', 'g', '--disk', 'vda', '--target', f'vda={small}/a', '--checkpoint', 'c1', '--wait', rc=3)
        self.assertIn('No space left', done.err)
        self.assertEqual(self.vm.checkpoints(), [])
        self.assertEqual(self.bitmaps(), [])
        self.assert_files(small)
        self.assert_clean()

    def test_domjobabort_of_another_client_is_seen(self):
        self.slow_push('--checkpoint', 'c1')
        self.virsh('domjobabort', 'g')
        self.must('backup-wait', 'g', rc=3)
        self.assertIn('somebody else', self.job()['error'])
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_clean()


class VerdictTest(Bare):
    """A pull is a success by its consumer's word only."""

    def pull(self, *extra):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}', *extra)
        return f'nbd+unix:///{{}}?socket={sock}'

    def test_plain_libvirt_calls_an_aborted_pull_completed(self):
        xml = self.write_xml('pull.xml', f"<domainbackup mode='pull'><server transport='unix' socket='{self.path('n')}'/><disks><disk name='vda' type='file'>"
                             f"<scratch file='{self.path('scr')}'/></disk></disks></domainbackup>")
        self.virsh('backup-begin', 'g', xml)
        self.virsh('domjobabort', 'g')
        self.plain_end()
        self.assertIn('Completed', self.virsh('domjobinfo', 'g', '--completed').stdout)

    def test_done_aborted_and_ended_by_another(self):
        rows = [('done', lambda: self.must('backup-stop', 'g'), 'completed', ['c']),
                ('abort', lambda: self.must('backup-stop', 'g', '--abort'), 'aborted', []),
                ('another', lambda: self.virsh('domjobabort', 'g'), 'failed', [])]
        for name, end, state, checkpoints in rows:
            with self.subTest(name):
                self.pull('--checkpoint', 'c')
                self.assertEqual(self.job()['state'], 'ready')
                end()
                self.assertEqual(self.wait_state('completed', 'aborted', 'failed')['state'], state)
                self.assertEqual(self.vm.checkpoints(), checkpoints)
                self.assert_clean()
                self.assertFalse(os.path.exists(self.path('nbd')))
                if checkpoints:
                    self.must('checkpoint-delete', 'g', 'c')

    def test_domjobabort_through_us_is_the_verdict_done(self):
        self.pull('--checkpoint', 'c')
        self.must('domjobabort', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c'])

    def test_an_increment_is_exported_with_its_bitmap(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        self.vm.io(0, 'write -P 9 4M 1M')
        uri = self.pull('--since', 'c0')
        ranges = json.loads(bed.run('nbdinfo', '--json', '--map=qemu:dirty-bitmap:backup-vda', uri.format('vda')).stdout)
        self.assertEqual(sum(r['length'] for r in ranges if r['type'] == 1), MIB)
        self.assertEqual([d['type'] for d in self.job()['disks']], ['incremental', 'incremental'])
        self.must('backup-stop', 'g')

    def test_an_idle_export_ends_by_itself(self):
        self.pull('--idle-timeout', '1')
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(self.path('nbd'))
            time.sleep(4)       # longer than it looks, and than it is given
            self.assertEqual(self.job()['state'], 'ready', 'it ended although a reader was connected')
        self.assertEqual(self.wait_state('aborted', 'failed', timeout=30)['state'], 'failed')
        self.assert_clean()

    def test_tcp_and_a_port_of_our_choice_and_a_scratch_that_was_made_before(self):
        scratch = [x for d, size in zip(self.vm.disks, self.images) for x in ('--scratch', f'{d.target}={self.make_image(f"{d.target}.scratch", size)}')]
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', 'tcp:127.0.0.1', *scratch, '--reuse-external')
        server = self.job()['server']
        bed.run('nbdinfo', f'{server}/vdb')
        self.must('backup-stop', 'g')

    def test_scratch_is_never_beside_the_guests_disk(self):
        before = sorted(os.listdir(self.path()))
        self.must('backup-begin', 'g', '--mode', 'pull')
        scratch = [d['scratch'] for d in self.job()['disks']]
        self.assertTrue(all(s.startswith(self.path('state')) and os.path.exists(s) for s in scratch), scratch)
        self.assertEqual(sorted(os.listdir(self.path())), before)
        self.must('backup-stop', 'g')
        self.assertFalse(any(map(os.path.exists, scratch)))


class ReleasedTest(Bare):
    """Completed means that the target can be opened at once."""
    images = ('4M', '4M')

    @staticmethod
    def locked(path):
        return subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'quit', path], capture_output=True).returncode != 0

    def test_plain_libvirt_says_so_before(self):
        events = self.popen('virsh', '-q', '-c', self.daemon.uri, 'event', '--all', '--domain', 'g', '--loop', stdout=subprocess.PIPE, text=True)
        while not select.select([events.stdout], [], [], 0.1)[0]:       # until it hears
            self.virsh('suspend', 'g')
            self.virsh('resume', 'g')
        self.plain_push('p')
        order = [re.search(r"event '([a-z0-9-]+)'", line)[1] for line in itertools.islice((e for e in iter(events.stdout.readline, '') if 'job' in e), 2)]
        self.assertEqual(order, ['job-completed', 'block-job'], 'the disk is over before the whole')

    def test_ours_never(self):
        for n in range(10):
            self.must('backup-begin', 'g', *self.targets(f'a{n}', f'b{n}'), '--wait')
            self.assertFalse(bed.holds_lock(self.path(f'a{n}')) or bed.holds_lock(self.path(f'b{n}')))
            self.assertFalse(self.locked(self.path(f'b{n}')))


class ReasonTest(Bare):
    """A failed job keeps its reason, of each disk, as often as it is read."""

    def test_plain_libvirt_does_not(self):
        small = self.full_soon('small')
        xml = self.write_xml('p.xml', f"<domainbackup><disks><disk name='vda' type='file'><target file='{small}/p'/></disk></disks></domainbackup>")
        self.virsh('backup-begin', 'g', xml)
        self.plain_end()
        self.assertNotIn('space', self.virsh('domjobinfo', 'g', '--completed').stdout)
        self.assertIn('None', self.virsh('domjobinfo', 'g', '--completed').stdout)

    def test_ours_does(self):
        small = self.full_soon('small')
        with self.slowly():
            self.must('backup-begin', 'g', '--target', f'vda={self.path("a")}', '--target', f'vdb={small}/b', '--limit', '24M')
        self.must('backup-wait', 'g', rc=3)
        for _ in range(3):
            job = self.job()
            self.assertEqual((job['state'], job['error_code']), ('failed', 'no-space') if isinstance(job['error_code'], str) else ('failed', job['error_code']))
            disks = {d['target']: d for d in job['disks']}
            self.assertIn("disk 'vdb'", job['error'])
            self.assertIn('No space left', disks['vdb']['error'])
            self.assertIn(f'{small}/b', disks['vdb']['error'])
            self.assertIn("because disk 'vdb' failed", disks['vda']['error'])
        self.must('backup-wait', 'g', rc=3)
        self.assertFalse(os.path.exists(self.path('a')))
        self.assert_files(small)


class SecondTest(Bare):
    """A second begin is refused at once and says why."""

    def test_plain_libvirt_waits_half_a_minute(self):
        self.plain_push('p', slow=True)
        xml = self.path('plain.xml')
        second = self.popen('virsh', '-c', self.daemon.uri, 'backup-begin', 'g', xml, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with self.assertRaises(subprocess.TimeoutExpired):
            second.wait(4)
        self.virsh('domjobabort', 'g')

    def test_ours_says_so_at_once(self):
        job = self.slow_push()
        done = self.must('backup-begin', 'g', *self.targets('a2', 'b2'), rc=1)
        self.assertEqual(self.job()['state'], 'running')        # it was not waited for
        self.assertIn(job, done.err)
        self.assertIn('running', done.err)
        done = self.must('checkpoint-create-as', 'g', 'c', rc=1)
        self.assertIn(job, done.err)
        self.must('backup-stop', 'g', '--abort')

    def test_a_job_of_another_client_is_named(self):
        self.plain_push('p', slow=True)
        done = self.must('backup-begin', 'g', *self.targets('a', 'b'), rc=1)
        self.assertIn('backup', done.err)
        self.assertIn('another client', done.err)
        self.virsh('domjobabort', 'g')
        self.plain_end()
        self.assertFalse(os.path.exists(self.path('a')))


class ChainTest(Bare):
    """A pushed increment lies on the previous backup, never on the live image."""

    def header(self, name):
        return json.loads(self.img('info', '--output=json', '-U', self.path(name)).stdout).get('backing-filename')

    def test_plain_libvirt_names_the_live_image(self):
        self.plain_push('p0', checkpoint='c0')
        self.plain_end()
        self.plain_push('p1', since='c0')
        self.plain_end()
        self.assertEqual(self.header('p1'), self.vm.disks[0].path)

    def test_a_chain_of_increments_opens_as_it_is(self):
        self.must('backup-begin', 'g', *self.targets('a0', 'b0'), '--checkpoint', 'c0', '--wait')
        for n in (1, 2, 3):
            self.vm.io(0, f'write -P {n} {n}M 1M')
            self.vm.io(0, f'write -z {n + 10}M 256k')
            self.vm.io(1, f'write -P {n + 40} {n}M 128k')
            self.must('backup-begin', 'g', *self.targets(f'a{n}', f'b{n}'), '--since', f'c{n - 1}', '--checkpoint', f'c{n}',
                      '--onto', f'vda={self.path(f"a{n - 1}")}', '--onto', f'vdb={self.path(f"b{n - 1}")}', '--wait')
            job = self.job()
            self.assertEqual([d['type'] for d in job['disks']], ['incremental'] * 2)
            self.assertLess(job['bytes'], 4 * MIB, 'it says that more was copied than changed')
        self.assertTrue(self.header('a3').endswith('a2'), self.header('a3'))
        self.vm.quit()
        self.assert_same(self.path('a3'), self.vm.disks[0].path)
        self.assert_same(self.path('b3'), self.vm.disks[1].path)

    def test_an_increment_of_nothing_has_no_bytes(self):
        self.must('backup-begin', 'g', *self.only('vda', 'a'), '--checkpoint', 'c0', '--wait')
        self.must('backup-begin', 'g', *self.only('vda', 'b'), '--since', 'c0', '--wait')
        self.assertEqual((self.job()['bytes'], self.job()['total']), (0, 0))

    def test_without_a_previous_backup_it_stands_alone(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        self.vm.io(0, 'write -P 3 5M 64k')
        self.must('backup-begin', 'g', *self.only('vda', 'a'), '--since', 'c0', '--wait')
        self.assertIsNone(self.header('a'))
        bed.run('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -q -P 3 5M 64k', '-c', 'read -q -P 0 6M 1M', self.path('a'))

    def test_another_backup_is_no_previous_one(self):
        self.must('backup-begin', 'g', *self.only('vda', 'a'), '--checkpoint', 'c0', '--wait')
        self.must('backup-begin', 'g', *self.only('vda', 'b'), '--since', 'c0', '--checkpoint', 'c1', '--onto', self.path('a'), '--wait')
        done = self.must('backup-begin', 'g', *self.only('vda', 'c'), '--since', 'c1', '--onto', self.path('a'), rc=4)
        self.assertIn("is not the backup of checkpoint 'c1'", done.err)
        self.assertFalse(os.path.exists(self.path('c')))

    def test_a_disk_that_was_seen_smaller_is_refused_for_ever(self):
        self.must('backup-begin', 'g', *self.only('vdb', 'b'), '--checkpoint', 'c0', '--wait')
        for size in ('8M', self.images[1]):
            self.vm.qmp.execute('block_resize', node_name='libvirt-1-format', size=bed.size_of(size))
            self.assertIn('resized', self.must('backup-begin', 'g', *self.only('vdb', 'x'), '--since', 'c0', rc=4).err)

    def test_an_image_of_the_guest_is_no_previous_backup(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        done = self.must('backup-begin', 'g', *self.only('vda', 'a'), '--since', 'c0', '--onto', self.vm.disks[0].path, rc=1)
        self.assertIn('running guest', done.err)
        os.symlink(self.vm.disks[0].path, self.path('link'))
        done = self.must('backup-begin', 'g', *self.only('vda', 'a'), '--since', 'c0', '--onto', self.path('link'), rc=1)
        self.assertIn('image of the guest itself', done.err)

    def test_a_previous_backup_that_was_touched_is_refused_or_covered(self):
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c0', '--wait')
        bed.run('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 77 0 64k', self.path('a'))
        onto = ['--since', 'c0', '--onto', f'vda={self.path("a")}', '--onto', f'vdb={self.path("b")}']
        done = self.must('backup-begin', 'g', *self.targets('x', 'y'), *onto, rc=4)
        self.assertIn('is not as it was left', done.err)
        self.assertIn("disk 'vda'", done.err)
        self.assertIn('--fallback full', done.err)
        self.must('backup-begin', 'g', *self.targets('x', 'y'), *onto, '--fallback', 'full', '--wait')
        self.assertEqual([(d['target'], d['type']) for d in self.job()['disks']], [('vda', 'full'), ('vdb', 'incremental')])
        self.assertIn('is not as it was left', self.job()['disks'][0]['reason'])
        for disk, copy in zip(self.vm.disks, 'xy'):
            self.img('compare', '-U', disk.path, self.path(copy))

    def test_a_base_that_is_missing_or_resized_is_refused_or_made_full_per_disk(self):
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c0', '--wait')
        self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'nope', rc=4)
        self.virsh('blockresize', 'g', 'vdb', '48M')
        done = self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'c0', rc=4)
        self.assertIn("disk 'vdb'", done.err)
        self.assertIn('resized', done.err)
        self.assertFalse(os.path.exists(self.path('x')))
        self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'c0', '--fallback', 'full', '--wait')
        self.assertEqual([(d['target'], d['type']) for d in self.job()['disks']], [('vda', 'incremental'), ('vdb', 'full')])
        self.assertIn('resized', self.job()['disks'][1]['reason'])


class ImageTest(lvbed.OnLibvirt, bed.LiveTest):
    """libvirt's checkpoints have no seal: what the record says of the image's file, and of what lies below it, is compared."""

    def setUp(self):
        super().setUp()
        self.base = self.make_image('base.qcow2', '4M', data=[(0, MIB, 9)])
        self.top = self.path('c.qcow2')
        self.img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', self.base, self.top)
        self.images = [self.make_image(f'{n}.qcow2', '4M', data=[(0, MIB, 1 + n)]) for n in range(2)] + [self.top]
        self.vm = self.bare(*self.images)
        self.must('checkpoint-create-as', 'g', 'c1')

    def increment(self, disk, rc=0, *more):
        name = self.path(f'inc-{disk}-{rc}-{len(more)}')
        return self.must('backup-begin', 'g', '--disk', disk, '--target', f'{disk}={name}', '--since', 'c1', '--wait', *more, rc=rc)

    def restart(self, change):
        self.vm.quit()
        change()
        self.vm.start()

    def swap(self):
        first, second = self.images[:2]
        os.rename(first, self.path('aside'))
        os.rename(second, first)
        os.rename(self.path('aside'), second)

    def test_images_that_are_what_they_were_are_backed_up_from_the_checkpoint(self):
        self.restart(lambda: None)
        self.vm.io(0, 'write -P 7 2M 64k')
        for disk in 'vda', 'vdb', 'vdc':
            self.increment(disk)

    def test_images_renamed_into_each_other_are_refused(self):
        self.restart(self.swap)
        for disk in 'vda', 'vdb':
            self.assertIn('is another file than at the checkpoint', self.increment(disk, 4).err)
        self.increment('vdc')
        self.increment('vda', 0, '--fallback', 'full')
        self.assert_same(self.path('inc-vda-0-2'), self.images[0])

    def test_another_base_is_refused(self):
        other = self.make_image('other.qcow2', '4M', data=[(0, MIB, 5)])
        self.restart(lambda: self.img('rebase', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', other, self.top))
        self.assertIn('other.qcow2', self.increment('vdc', 4).err)
        self.increment('vda')


class RawTest(lvbed.OnLibvirt, bed.LiveTest):
    def setUp(self):
        super().setUp()
        self.vm = self.bare(self.filled('a.qcow2', '4M'), bed.Disk(self.filled('b.raw', '4M', fmt='raw'), 'vdb', 'raw'))

    def test_plain_libvirt_refuses_the_whole_checkpoint(self):
        xml = self.write_xml('c.xml', '<domaincheckpoint><name>c</name></domaincheckpoint>')
        self.assertNotEqual(self.virsh('checkpoint-create', 'g', xml, check=False).returncode, 0)

    def test_ours_leaves_the_raw_disk_out_and_says_so(self):
        done = self.must('backup-begin', 'g', '--target', f'vda={self.path("x")}', '--target', f'vdb={self.path("y")}', '--checkpoint', 'c', '--wait')
        self.assertIn("disk 'vdb' is not in checkpoint 'c'", done.out + done.err)
        self.assertEqual(self.vm.checkpoints(), ['c'])
        self.must('backup-begin', 'g', '--target', f'vda={self.path("x1")}', '--target', f'vdb={self.path("y1")}', '--since', 'c', rc=4)
        self.must('backup-begin', 'g', '--target', f'vda={self.path("x1")}', '--target', f'vdb={self.path("y1")}', '--since', 'c', '--fallback', 'full', '--wait')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['incremental', 'full'])

    def test_named_it_is_refused_with_the_reason(self):
        xml = self.write_xml('c.xml', "<domaincheckpoint><name>c</name><disks><disk name='vdb'/></disks></domaincheckpoint>")
        self.assertIn("'raw'", self.must('checkpoint-create', 'g', xml, rc=1).err)

    def test_a_checkpoint_alone_says_so_too(self):
        self.assertIn("disk 'vdb' is not in checkpoint 'c'", self.must('checkpoint-create-as', 'g', 'c').err)
        self.assertIn("disk 'vdb' is not in checkpoint 'd'", self.json('checkpoint-create-as', 'g', 'd')['note'])

    def test_a_raw_target_stays_sparse(self):
        self.vm.kill()
        self.vm = self.bare(self.make_image('sparse.qcow2', '1G', data=[(512 * MIB, MIB, 7)]))
        self.must('backup-begin', 'g', '--target', f'vda={self.path("sparse.raw")}', '--format', 'raw', '--wait')
        self.vm.quit()
        self.assert_same(self.path('sparse.raw'), self.path('sparse.qcow2'), 'raw', 'qcow2')
        self.assertEqual(os.stat(self.path('sparse.raw')).st_size, 1 << 30)
        self.assertLess(os.stat(self.path('sparse.raw')).st_blocks * 512, 16 * MIB)


class SpaceTest(lvbed.OnLibvirt, bed.LiveTest):
    """A full scratch or target ends the backup; the guest writes on."""

    def setUp(self):
        super().setUp()
        self.vm = self.guest(disks=2, fill='24M')

    def paused(self):
        return self.vm.state() == 'paused'

    def test_plain_libvirt_pauses_the_guest_for_a_full_scratch(self):
        small = self.full_soon('small')
        xml = self.write_xml('pull.xml', f"<domainbackup mode='pull'><server transport='unix' socket='{self.path('n')}'/><disks><disk name='vda' type='file'>"
                             f"<scratch file='{small}/scr'/></disk></disks></domainbackup>")
        self.virsh('backup-begin', 'g', xml)
        bed.wait_for('the guest is paused', self.paused)
        self.virsh('domjobabort', 'g')
        self.assertTrue(self.paused())
        self.virsh('resume', 'g')

    def test_a_full_scratch_ends_the_pull_and_the_guest_runs(self):
        small = self.full_soon('small')
        self.must('backup-begin', 'g', '--mode', 'pull', '--disk', 'vda', '--server', f'unix:{self.path("n")}', '--scratch', f'vda={small}/scr', '--checkpoint', 'c1')
        job = self.wait_state('failed', 'completed', 'aborted')
        self.assertEqual(job['state'], 'failed')
        self.assertIn('No space left', job['error'])
        self.must('backup-wait', 'g', rc=3)
        self.vm.wait_rounds(50)
        self.assertEqual(self.vm.write_errors(), [])
        self.assertFalse(self.paused())
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_files(small)
        self.assert_no_journal()

    def test_a_full_target_ends_the_push_and_the_guest_runs(self):
        medium = self.full_soon('medium')
        for n in range(3):
            self.must('backup-begin', 'g', '--target', f'vda={medium}/a', '--target', f'vdb={medium}/b', '--checkpoint', 'c1', '--wait', rc=3)
            job = self.job()
            self.assertIn('No space left', job['error'])
            self.vm.wait_rounds(50)
            self.assertEqual(self.vm.write_errors(), [])
            self.assertFalse(self.paused())
            self.assertEqual(self.vm.checkpoints(), [])
            self.assert_files(medium)

    def test_a_scratch_limit_ends_the_pull(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--scratch-limit', '1M')
        job = self.wait_state('failed', timeout=90)
        self.assertIn('limit', job['error'])
        self.vm.wait_rounds(20)


class RestartTest(Bare):
    """libvirtd is killed and started again in the middle."""

    def elapsed(self):
        return int(re.search(r'Time elapsed:\s*(\d+)', self.virsh('domjobinfo', 'g').stdout)[1])

    def test_plain_libvirt_starts_counting_anew(self):
        self.plain_push('p', slow=True)
        bed.wait_for('it has run for a moment', lambda: self.elapsed() > 1000)
        restarted = time.monotonic()
        self.daemon.restart()
        counted = self.elapsed()
        self.assertLess(counted, (time.monotonic() - restarted) * 1000 + 500)       # from before the restart it would be 1000 more
        self.virsh('domjobabort', 'g')

    def test_a_push_goes_on_and_its_record_is_true(self):
        job = self.slow_push('--checkpoint', 'c1')
        before = self.job()
        self.daemon.restart()
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')
        after = self.job()
        self.assertEqual((after['id'], after['state'], after['started']), (job, 'completed', before['started']))
        self.assertEqual(after['bytes'], sum(map(bed.size_of, self.images)))
        self.assertTrue(any('connected to libvirt again' in n for n in after['notes']), after['notes'])
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        self.vm.quit()
        self.assert_same(self.path('a.qcow2'), self.vm.disks[0].path)
        self.assert_same(self.path('b.qcow2'), self.vm.disks[1].path)
        self.assertEqual(self.job()['elapsed_ms'] // 1000, after['elapsed_ms'] // 1000)

    def test_a_push_that_ended_while_it_was_away(self):
        with self.slowly():
            self.must('backup-begin', 'g', *self.only('vda', 'a'), '--checkpoint', 'c1')
            self.daemon.kill()
        bed.wait_for('QEMU has copied all', lambda: self.server.served >= bed.size_of(self.images[0]))
        self.daemon.start()
        self.must('backup-wait', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.vm.quit()
        self.assert_same(self.path('a'), self.vm.disks[0].path)

    def test_a_push_that_failed_while_it_was_away_has_a_reason(self):
        medium = self.full_soon('medium')
        with self.slowly():
            self.must('backup-begin', 'g', '--disk', 'vda', '--target', f'vda={medium}/a', '--checkpoint', 'c1', '--protect', 'no')
            self.daemon.kill()
        bed.wait_for('there is no space', lambda: os.statvfs(medium).f_bavail == 0)
        self.daemon.start()
        self.must('backup-wait', 'g', rc=3)
        self.assertIn('No space left', self.job()['error'])
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_files(medium)

    def test_a_pull_goes_on(self):
        sock = self.path('nbd')
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{sock}', '--checkpoint', 'c1')
        self.vm.io(0, 'write -P 99 0 8M')
        self.daemon.restart()
        bed.run('nbdcopy', f'nbd+unix:///vda?socket={sock}', self.path('copy'))
        bed.wait_for('the job is looked after again', lambda: any('again' in n for n in self.job()['notes']))
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        bed.run('qemu-io', '-r', '-f', 'raw', '-c', 'read -q -P 1 0 1M', '-c', 'read -q -P 8 7M 1M', self.path('copy'))
        self.assert_clean()


class HungTest(Bare):
    """libvirtd stops to answer."""
    images = ('8M', '8M')

    def test_nothing_waits_for_it_without_end(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--checkpoint', 'c1')
        self.environment['LIBBACKUP_CONFIG'] = self.write_xml('libbackup.conf', 'monitor_timeout = 1\n')
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            for command in ('backup-info', 'backup-stop', 'domstate'):
                self.assertIn('does not answer for 1 seconds', self.must(command, 'g', rc=5).err)
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)
        del self.environment['LIBBACKUP_CONFIG']
        self.assertEqual(self.job()['state'], 'ready')
        self.must('backup-stop', 'g')
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        self.assert_clean()


class GoneTest(Bare):
    """The guest goes in the middle."""

    def test_plain_libvirt_keeps_the_checkpoint_of_a_destroyed_guests_backup(self):
        self.plain_push('p', checkpoint='c1', slow=True)
        self.virsh('destroy', 'g')
        self.assertEqual(self.vm.checkpoints(), ['c1'])

    def ends_with(self, words):
        self.must('backup-wait', 'g', rc=3)
        job = self.job()
        self.assertEqual(job['state'], 'failed')
        self.assertIn(words, job['error'])
        self.assertFalse(os.path.exists(self.path('a.qcow2')) or os.path.exists(self.path('b.qcow2')))
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_no_journal()
        info = json.loads(self.img('info', '--output=json', self.vm.disks[0].path).stdout)
        self.assertEqual([b['name'] for b in info['format-specific']['data'].get('bitmaps', [])], [])

    def test_destroyed(self):
        self.slow_push('--checkpoint', 'c1')
        self.virsh('destroy', 'g')
        self.ends_with('destroyed')

    def test_destroyed_in_a_pull(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--checkpoint', 'c1')
        self.virsh('destroy', 'g')
        self.ends_with('destroyed')
        self.assertFalse(os.path.exists(self.path('n')), 'the socket of the export is left')

    def test_qemu_killed(self):
        self.slow_push('--checkpoint', 'c1')
        os.kill(self.vm.pid(), signal.SIGKILL)
        self.ends_with('QEMU died')

    def test_a_transient_guest_that_goes(self):
        self.vm.kill()
        self.vm = lvbed.Domain(self, self.daemon, self.vm.disks, bare=True, transient=True, name='transient')
        self.slow_push('--checkpoint', 'c1')
        self.virsh('destroy', 'g')
        self.must('backup-wait', 'g', rc=3)
        self.assertIn('destroyed', self.job()['error'])
        self.assertFalse(os.path.exists(self.path('a.qcow2')))
        info = json.loads(self.img('info', '--output=json', self.vm.disks[0].path).stdout)
        self.assertEqual(info['format-specific']['data'].get('bitmaps', []), [])

    def test_after_a_killed_qemu_the_increment_is_refused_and_the_way_out_works(self):
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c0', '--wait')
        self.vm.quit()
        self.vm.boot_again()
        os.kill(self.vm.pid(), signal.SIGKILL)
        bed.wait_for('libvirt has seen it', lambda: not self.vm.is_running())
        self.vm.boot_again()
        done = self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'c0', rc=4)
        self.assertIn("disk 'vda'", done.err)
        self.assertIn('--fallback full', done.err)
        found = self.must('checkpoint-check', 'g', rc=4)
        self.assertIn('c0', found.out)
        self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'c0', '--fallback', 'full', '--wait')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['full', 'full'])
        self.must('checkpoint-check', 'g', '--repair')
        self.assertEqual(self.vm.checkpoints(), [])
        self.must('checkpoint-check', 'g')


    def test_a_checkpoint_that_died_with_qemu_is_found_and_removed(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        os.kill(self.vm.pid(), signal.SIGKILL)
        bed.wait_for('libvirt has seen it', lambda: not self.vm.is_running())
        self.vm.boot_again()
        self.assertIn('not found in backing chain', self.virsh('checkpoint-delete', 'g', 'c0', check=False).stderr)
        self.assertIn('--repair', self.must('checkpoint-delete', 'g', 'c0', rc=1).err)
        self.must('checkpoint-check', 'g', '--repair')
        self.assertEqual(self.vm.checkpoints(), [])
        self.must('checkpoint-check', 'g')


class OwnerTest(Bare):
    """The process that carries the job is killed."""

    def kill_watcher(self):
        [pid] = self.watchers()
        os.kill(pid, signal.SIGKILL)
        bed.wait_for('the watcher is gone', lambda: not self.watchers())

    def test_a_running_push_is_adopted(self):
        job = self.slow_push('--checkpoint', 'c1')
        self.kill_watcher()
        self.assertEqual(self.job()['state'], 'running')
        self.must('backup-limit', 'g', '0')
        self.must('backup-wait', 'g')
        self.assertEqual((self.job()['id'], self.job()['state']), (job, 'completed'))
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        self.assert_clean()

    def test_a_ready_pull_is_adopted(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--checkpoint', 'c1')
        self.kill_watcher()
        self.must('backup-stop', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.assertEqual(self.vm.checkpoints(), ['c1'])

    def push_unwatched(self, *names, checkpoint):
        with self.slowly():
            self.must('backup-begin', 'g', *self.targets(*names), '--checkpoint', checkpoint)
            bed.wait_for('the record has the sizes', lambda: [d['total'] for d in self.job()['disks']] == [bed.size_of(i) for i in self.images])
            self.kill_watcher()
        self.plain_end()

    def test_a_push_that_ended_unwatched_is_good_only_if_that_can_be_shown(self):
        self.push_unwatched('a', 'b', checkpoint='c1')
        self.must('backup-wait', 'g')
        self.assertEqual(self.job()['state'], 'completed')
        self.must('checkpoint-delete', 'g', 'c1')
        # another client's job has taken the place of the result
        self.push_unwatched('a2', 'b2', checkpoint='c2')
        self.plain_push('p')
        self.plain_end()
        self.must('backup-wait', 'g', rc=3)
        self.assertIn('nothing shows', self.job()['error'])
        self.assertEqual(self.vm.checkpoints(), [])
        self.assertFalse(os.path.exists(self.path('a2')))

    def test_an_abort_after_the_owner_died(self):
        self.slow_push('--checkpoint', 'c1')
        self.kill_watcher()
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.job()['state'], 'aborted')
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_clean()

    def test_both_die(self):
        self.slow_push('--checkpoint', 'c1')
        self.kill_watcher()
        self.daemon.restart()
        self.assertEqual(self.job()['state'], 'running')
        self.must('backup-stop', 'g', '--abort')
        self.assertEqual(self.vm.checkpoints(), [])
        self.assert_clean()


class QuiesceTest(lvbed.OnLibvirt, bed.LiveTest):
    def test_a_quiesced_copy_needs_no_recovery(self):
        vm = self.guest(disks=2, fill='4M')
        bed.wait_for('the agent answers', lambda: self.virsh('qemu-agent-command', 'g', '{"execute":"guest-ping"}', check=False).returncode == 0)
        self.must('backup-begin', 'g', '--quiesce', *[x for d in vm.disks for x in ('--target', f'{d.target}={self.path(d.target)}')], '--wait')
        job = self.job()
        self.assertEqual(job['consistency'], 'quiesced')
        self.assertGreater(job['frozen_ms'], 0)
        self.assert_one_instant(self.path('vda'), self.path('vdb'), quiesced=True)
        self.assert_guest_works(vm)

    def test_without_an_agent_it_is_refused(self):
        vm = self.guest(disks=1, fill='4M', agent=False)
        done = self.must('backup-begin', 'g', '--quiesce', '--target', f'vda={self.path("a")}', rc=1)
        self.assertIn('agent', done.err)
        self.assert_guest_works(vm, rounds=10)

    def test_an_agent_that_is_away_costs_the_backup_and_not_the_guest(self):
        vm = self.bare(self.filled('a.qcow2', '4M'), xml="<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
        done = self.must('backup-begin', 'g', '--quiesce', '--target', f'vda={self.path("a")}', rc=5)
        self.assertIn('agent', done.err.lower())
        self.assertEqual(vm.state(), 'running')
        self.assertFalse(os.path.exists(self.path('a')))
        self.assert_no_journal()


class CheckpointTest(Bare):
    images = ('8M', '8M')

    def test_create_list_describe_delete(self):
        for name in ('c1', 'c2', 'c3'):
            self.must('checkpoint-create-as', 'g', name, f'the {name}')
        self.assertEqual(self.must('checkpoint-list', 'g', '--name').out.split(), ['c1', 'c2', 'c3'])
        self.assertEqual(self.must('checkpoint-parent', 'g', 'c3').out.strip(), 'c2')
        self.assertEqual(self.must('checkpoint-list', 'g', '--name', '--roots').out.split(), ['c1'])
        self.assertEqual(self.must('checkpoint-list', 'g', '--name', '--leaves').out.split(), ['c3'])
        self.vm.io(0, 'write -P 5 0 128k')
        self.assertIn("size='131072'", self.must('checkpoint-dumpxml', 'g', 'c2', '--size').out)
        self.must('checkpoint-delete', 'g', 'c2')
        self.assertEqual(self.vm.checkpoints(), ['c1', 'c3'])
        self.must('checkpoint-delete', 'g', 'c1', '--children')
        self.assertEqual(self.vm.checkpoints(), [])
        self.assertEqual(self.bitmaps(), [])
        self.assertIn('no-such', self.must('checkpoint-info', 'g', 'no-such', rc=1).err)

    def test_one_that_was_lost_is_defined_again_from_its_own_document(self):
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c1', '--wait')
        document = self.write_xml('c1.xml', self.must('checkpoint-dumpxml', 'g', 'c1').out)
        self.virsh('checkpoint-delete', 'g', 'c1', '--metadata')        # as a migration or the end of a transient guest does
        self.must('backup-begin', 'g', *self.targets('x', 'y'), '--since', 'c1', rc=4)
        self.must('checkpoint-redefine', 'g', document)
        self.vm.io(0, 'write -P 5 1M 64k')
        self.must('backup-begin', 'g', *self.only('vda', 'x'), '--since', 'c1', '--onto', self.path('a'), '--wait')
        self.vm.quit()
        self.assert_same(self.path('x'), self.vm.disks[0].path)

    def test_a_transient_guest_gets_its_checkpoints_back(self):
        self.vm.kill()
        disks = self.vm.disks
        self.vm = lvbed.Domain(self, self.daemon, disks, bare=True, transient=True, name='transient')
        self.must('backup-begin', 'g', *self.targets('a', 'b'), '--checkpoint', 'c1', '--wait')
        document = self.write_xml('c1.xml', self.must('checkpoint-dumpxml', 'g', 'c1', '--no-domain').out)
        self.vm.quit()
        self.vm = lvbed.Domain(self, self.daemon, disks, bare=True, transient=True, name='transient')
        self.assertEqual(self.vm.checkpoints(), [])
        found = self.must('checkpoint-check', 'g')
        self.assertIn('foreign', found.out)
        self.must('checkpoint-redefine', 'g', document)
        self.must('checkpoint-check', 'g')
        self.vm.io(0, 'write -P 5 1M 64k')
        self.must('backup-begin', 'g', *self.only('vda', 'x'), '--since', 'c1', '--onto', self.path('a'), '--wait')
        self.vm.quit()
        self.assert_same(self.path('x'), disks[0].path)

    def test_check_finds_what_does_not_fit_and_repairs_what_is_ours(self):
        self.must('checkpoint-create-as', 'g', 'c1')
        self.must('checkpoint-check', 'g')
        nodes = [node for node, name in sorted(self.qemu_bitmaps())]
        self.vm.qmp.execute('block-dirty-bitmap-remove', node=nodes[0], name='c1')
        found = self.listing('checkpoint-check', 'g', rc=4)
        [finding] = found['findings'] if isinstance(found, dict) else found
        self.assertEqual((finding['kind'], finding['bitmap']), ('lost', 'c1'))
        self.must('checkpoint-check', 'g', '--repair')
        self.must('checkpoint-check', 'g')
        self.assertEqual(self.vm.checkpoints(), ['c1'])
        document = self.must('checkpoint-dumpxml', 'g', 'c1', '--no-domain').out
        self.assertEqual(document.count("checkpoint='bitmap'"), 1)


class OfflineTest(Bare):
    """libvirt backs up running guests only."""
    images = ('8M', '8M')

    def setUp(self):
        super().setUp()
        self.vm.quit()

    def test_plain_libvirt_refuses(self):
        xml = self.write_xml('p.xml', '<domainbackup/>')
        self.assertIn('inactive domain', self.virsh('backup-begin', 'g', xml, check=False).stderr)

    def test_a_chain_across_off_and_on(self):
        self.must('backup-begin', 'g', *self.targets('a0', 'b0'), '--checkpoint', 'c0', '--wait')
        self.assertEqual(self.job()['state'], 'completed')
        self.assert_same(self.path('a0'), self.vm.disks[0].path)
        bed.wait_for('libvirt knows the checkpoint', lambda: self.vm.checkpoints() == ['c0'])
        self.vm.boot_again()
        self.vm.io(0, 'write -P 55 1M 64k')
        self.must('backup-begin', 'g', *self.targets('a1', 'b1'), '--since', 'c0', '--checkpoint', 'c1', '--onto', f'vda={self.path("a0")}',
                  '--onto', f'vdb={self.path("b0")}', '--wait')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['incremental'] * 2)
        self.vm.io(0, 'write -P 56 2M 64k')
        self.vm.quit()
        self.must('backup-begin', 'g', *self.targets('a2', 'b2'), '--since', 'c1', '--checkpoint', 'c2', '--onto', f'vda={self.path("a1")}',
                  '--onto', f'vdb={self.path("b1")}', '--wait')
        self.assertEqual([d['type'] for d in self.job()['disks']], ['incremental'] * 2)
        self.assert_same(self.path('a2'), self.vm.disks[0].path)
        self.assert_same(self.path('b2'), self.vm.disks[1].path)
        bed.wait_for('libvirt knows the checkpoint', lambda: self.vm.checkpoints() == ['c0', 'c1', 'c2'])
        self.vm.boot_again()
        self.must('checkpoint-check', 'g')
        self.must('checkpoint-delete', 'g', 'c1')

    def test_checkpoints_of_a_guest_that_is_off(self):
        self.must('checkpoint-create-as', 'g', 'c0')
        self.assertEqual(self.vm.checkpoints(), ['c0'])
        self.must('checkpoint-check', 'g')
        self.must('checkpoint-delete', 'g', 'c0')
        self.assertEqual(self.vm.checkpoints(), [])
        info = json.loads(self.img('info', '--output=json', self.vm.disks[0].path).stdout)
        self.assertEqual(info['format-specific']['data'].get('bitmaps', []), [])

    def test_an_abort_frees_the_images_at_once(self):
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("n")}', '--checkpoint', 'c0')
        self.assertNotEqual(self.virsh('start', 'g', check=False).returncode, 0)
        self.must('backup-stop', 'g', '--abort')
        self.vm.boot_again()
        self.assertEqual(self.vm.checkpoints(), [])


class OtherUserTest(lvbed.OnLibvirt, bed.LiveTest):
    """QEMU as a user of its own, as distributions have it: libvirt changes owners, and what we make QEMU can reach."""
    daemon_options = {'user': 'libvirt-qemu', 'ownership': 1}

    def setUp(self):
        if os.geteuid() or subprocess.run(['id', 'libvirt-qemu'], capture_output=True).returncode:
            self.skipTest('needs root and the user libvirt-qemu')
        super().setUp()
        os.chmod(self.path(), 0o711)
        self.vm = self.bare(self.filled('disk.qcow2', '16M'))

    def test_push_and_pull(self):
        os.mkdir(self.path('out'), 0o711)
        self.must('backup-begin', 'g', '--target', f'vda={self.path("out/a")}', '--checkpoint', 'c0', '--wait')
        self.assertEqual(os.stat(self.path('out/a')).st_uid, 0, 'the target is not given back')
        self.must('backup-begin', 'g', '--mode', 'pull', '--checkpoint', 'c1')
        job = self.job()
        bed.run('nbdcopy', job['server'].replace(':///', ':///vda'), self.path('copy'))
        self.must('backup-stop', 'g')
        self.assert_same(self.path('copy'), self.path('out/a'), 'raw', 'qcow2')
        self.assertEqual(os.stat(os.path.join(self.state_dir(), 'jobs')).st_mode & 0o077, 0, 'the records are open to others')


class SecretTest(Bare):
    images = ('8M',)

    def test_an_encrypted_target_by_a_secret_of_libvirts(self):
        secret = self.write_xml('secret.xml', "<secret ephemeral='no' private='no'><usage type='volume'><volume>bk</volume></usage></secret>")
        self.virsh('secret-define', secret)
        uuid = re.search(r'[0-9a-f-]{36}', self.virsh('secret-list').stdout)[0]
        self.addCleanup(self.virsh, 'secret-undefine', uuid, check=False)
        self.virsh('secret-set-value', uuid, '--base64', 'c2VjcmV0')
        xml = self.write_xml('b.xml', f"<domainbackup><disks><disk name='vda' type='file'><driver type='qcow2'/><target file='{self.path('luks')}'>"
                             f"<encryption format='luks'><secret type='passphrase' uuid='{uuid}'/></encryption></target></disk></disks></domainbackup>")
        for _ in range(10):
            done = self.baksh('backup-begin', 'g', xml, '--wait')
            if 'accurate CPU usage' not in done.err:    # QEMU measures its key derivation, and beside a busy neighbour gives up
                break
        self.assertEqual(done.rc, 0, done)
        self.assertTrue(json.loads(self.img('info', '--output=json', self.path('luks')).stdout)['encrypted'])
        self.vm.quit()
        self.img('convert', '--object', 'secret,id=s,data=secret', '--image-opts', f'driver=qcow2,file.filename={self.path("luks")},encrypt.key-secret=s', '-O', 'raw', self.path('plain'))
        self.assert_same(self.path('plain'), self.vm.disks[0].path)


if __name__ == '__main__':
    bed.main()
