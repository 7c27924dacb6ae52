#!/usr/bin/python3
"""Plans for QEMUs that need not be installed: made from what was recorded of them (tests/data/qemu), each command checked against
that version's schema, some of them whole against tests/data/plans. LIBBACKUP_UPDATE_PLANS=1 writes those anew: read the difference.
"""
import gzip
import itertools
import json
import os
import re
import sys

import bed

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'fake'))
import fakeqemu  # noqa: E402
import faults  # noqa: E402

DATA = os.path.join(HERE, '..', 'data')
RECORDED = ('5.2', '7.2', '10.0', '11.1')


def commands(plan):
    """Every QMP command in it, those of the undo too, with nothing in it that is not QMP's."""
    if isinstance(plan, dict):
        if 'qmp' in plan:
            (kind, name), (_, arguments) = plan['qmp'].items()
            assert kind in ('execute', 'exec-oob'), plan
            yield name, arguments
        plan = list(plan.values())
    if isinstance(plan, list):
        for part in plan:
            yield from commands(part)


class PlansTest(bed.LiveTest):
    versions = ('7.2',)         # no QEMU runs here

    def start(self, version, iothreads=False):
        """A guest of that version, of name g<version>; its disks are served by an iothread, or not."""
        name = 'g' + version + ('io' if iothreads else '')
        folder = self.path(name)
        os.mkdir(folder)
        listener = bed.listen_unix(os.path.join(folder, 'monitor'))
        self.addCleanup(listener.close)
        if version == '2.7':
            disks = [('virtio-disk0', 'system.qcow2', 'qcow2', '16M'), ('data', 'data.raw', 'raw', '8M')]
            personality = ['--personality', '2.7', '--qemu-img', bed.tool('qemu-img')]
            for disk, file, fmt, size in disks:
                self.img('create', '-q', '-f', fmt, os.path.join(folder, file), size)
                personality += ['--disk', f'{disk}={os.path.join(folder, file)}:{fmt}']
        else:
            with open(os.path.join(DATA, 'qemu', version, 'guest.json')) as file:
                nodes = json.load(file)['named_block_nodes']
            for node in nodes:
                if node['node-name'] == 'system-format':
                    node['dirty-bitmaps'] = [{'name': 'c0', 'count': 65536, 'granularity': 65536, 'recording': True, 'busy': False, 'persistent': True}]
            answers = {'named_block_nodes': nodes, **({} if iothreads else {'iothreads': []}), 'uuid': {'UUID': f'{RECORDED.index(version) + 1 + 8 * iothreads:08}-0000-4000-8000-000000000000'}}
            personality = ['--recorded', os.path.join(DATA, 'qemu', version), '--answers', json.dumps(answers)]
        self.popen('python3', os.path.join(HERE, '..', 'fake', 'fakeqemu.py'), '--listen-fd', listener.fileno(), *personality,
                   pass_fds=[listener.fileno()], stdout=bed.subprocess.DEVNULL)
        self.must('attach', name, '--qmp', os.path.join(folder, 'monitor'))
        if version != '2.7':
            with open(os.path.join(folder, 'c0.xml'), 'w') as file:
                file.write("<domaincheckpoint><name>c0</name><creationTime>1</creationTime><disks><disk name='virtio-disk0'/></disks></domaincheckpoint>")
            self.must('checkpoint-redefine', name, os.path.join(folder, 'c0.xml'))
        return name

    def schema(self, version):
        if version == '2.7':
            with open(os.path.join(DATA, 'qemu', 'schema-2.7.json')) as file:
                return fakeqemu.Schema(json.load(file))
        with gzip.open(os.path.join(DATA, 'qemu', version, 'schema.json.gz')) as file:
            return fakeqemu.Schema(json.load(file))

    def options(self):
        """A list of lists: what a begin may be asked for."""
        out, scratch = self.path('out') + '/', [o for d in ('virtio-disk0', 'data') for o in ('--scratch', f'{d}={self.path("scratch", d)}')]
        checkpoints = [], ['--checkpoint', 'c1'], ['--checkpoint', 'c1', '--memory-bitmap']
        protections = [], ['--protect', 'no'], ['--protect', 'strict']
        pushes = [['--mode', 'push', '--allow-unproved', '--target', out, '--format', fmt, *scratch] for fmt in ('qcow2', 'raw')]
        pushes.append(['--mode', 'push', '--allow-unproved', '--disk', 'data', '--target', 'nbd://localhost:10809/x', '--reuse-external'])
        pushes.append(['--mode', 'push', '--allow-unproved', '--target', out, '--limit', '10M', '--compression', 'zstd', *scratch])
        increment = ['--since', 'c0', '--disk', 'virtio-disk0', '--scratch', f'virtio-disk0={self.path("scratch", "i")}']
        pushes.append(['--mode', 'push', '--allow-unproved', '--target', out, *increment])
        pulls = [['--mode', 'pull', *increment], ['--mode', 'pull', *scratch], ['--mode', 'pull', *scratch, '--server', 'tcp:localhost:10809']]
        return [list(itertools.chain(*parts)) for parts in itertools.product(pushes + pulls, protections, checkpoints)]

    def make_folders(self):
        for folder in ('out', 'scratch'):
            os.mkdir(self.path(folder))
        self.make_image('out/before.qcow2', '16M')      # what increments are laid on

    def test_every_command_of_every_plan_is_one_that_the_version_takes(self):
        self.make_folders()
        for version in ('2.7', *RECORDED):
            guest, schema, plans = self.start(version), self.schema(version), 0
            for options in self.options():
                with self.subTest(version, options=options):
                    done = self.baksh('backup-begin', guest, *options, '--dry-run', '--json')
                    if done.rc:
                        self.assertRegex(done.err, r'(?m)^error: .')
                        self.assertEqual(done.rc, 4 if 'no exact increment' in done.err else 1, done.err)
                        continue
                    plans += 1
                    for command, arguments in commands(json.loads(done.out)):
                        try:
                            schema.check_command(command, arguments)
                        except fakeqemu.Refused as refused:
                            self.fail(f'{command} {json.dumps(arguments)}: {refused}')
                        if version == '5.2':
                            self.leaves_no_concluded_backup(command, arguments)
            self.assertGreater(plans, 3 if version == '2.7' else 20, version)

    def leaves_no_concluded_backup(self, command, arguments):
        """Until it is dismissed, such a job kills a QEMU 4.2 to 5.2 that anybody asks for its nodes."""
        actions = arguments.get('actions', []) if command == 'transaction' else [{'type': command, 'data': arguments}]
        for action in actions:
            if action['type'] in ('blockdev-backup', 'drive-backup'):
                self.assertTrue(action['data'].get('auto-dismiss', True), action)

    wholes = {
        'push': ['--mode', 'push', '--target', 'DIR/out/', '--protect', 'no', '--allow-unproved'],
        'push-protected-checkpoint': ['--mode', 'push', '--target', 'DIR/out/', '--allow-unproved', '--disk', 'virtio-disk0', '--checkpoint', 'c1',
                                      '--scratch', 'virtio-disk0=DIR/scratch/s'],
        'pull': ['--mode', 'pull', '--scratch', 'virtio-disk0=DIR/scratch/s', '--scratch', 'data=DIR/scratch/d', '--server', 'unix:DIR/nbd'],
        'pull-checkpoint': ['--mode', 'pull', '--disk', 'virtio-disk0', '--checkpoint', 'c1', '--scratch', 'virtio-disk0=DIR/scratch/s',
                            '--server', 'unix:DIR/nbd', '--protect', 'no'],
        'push-increment': ['--mode', 'push', '--disk', 'virtio-disk0', '--target', 'DIR/out/', '--since', 'c0', '--onto', 'DIR/out/before.qcow2', '--checkpoint', 'c1',
                           '--scratch', 'virtio-disk0=DIR/scratch/s'],
        'pull-increment': ['--mode', 'pull', '--disk', 'virtio-disk0', '--since', 'c0', '--checkpoint', 'c1', '--scratch', 'virtio-disk0=DIR/scratch/s',
                           '--server', 'unix:DIR/nbd'],
    }

    def whole(self, guest, options):
        done = self.baksh('backup-begin', guest, *[option.replace('DIR', self.directory) for option in options], '--dry-run')
        text = (done.out + done.err).replace(self.directory, 'DIR')
        text = re.sub(r'\bbak-[0-9a-f]{8}-', 'bak-JOB-', text)
        text = re.sub(r'\bbak-seal-[0-9a-f]{24}', 'bak-seal-TOKEN', text)
        text = re.sub(r'(?m)^(# |warning: ).* bytes free.*\n', '', text)         # what this machine's disk has
        return re.sub(r'#block\d+', '#block', text)

    on_iothreads = ('push-protected-checkpoint', 'pull', 'push-increment')

    def test_plans_are_as_agreed(self):
        self.make_folders()
        for version, iothreads in (('2.7', False), *itertools.product(RECORDED, (False, True))):
            guest = self.start(version, iothreads)
            for name, options in self.wholes.items():
                if iothreads and name not in self.on_iothreads:
                    continue
                name += '-iothread' if iothreads else ''
                with self.subTest(f'{name}, {version}'):
                    plan, path = self.whole(guest, options), os.path.join(DATA, 'plans', f'{name}-{version}')
                    if os.environ.get('LIBBACKUP_UPDATE_PLANS'):
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        with open(path, 'w') as file:
                            file.write(plan)
                    with open(path) as file:
                        self.assertEqual(plan, file.read(), f'{path}: LIBBACKUP_UPDATE_PLANS=1 writes it anew')


class TrafficTest(bed.LiveTest):
    """What QEMU hears in a begin and to its end is what the dry run said."""

    def setUp(self):
        super().setUp()
        self.engine_images = [self.make_image(f'disk{n}.qcow2', 1 << 20, data=[(0, 1 << 19, 1 + n)]) for n in range(2)]
        vm = self.engine(*self.engine_images)
        self.monitor = faults.Monitor(self.path('monitor'), vm.qmp_path)
        self.addCleanup(self.monitor.stop)
        self.must('attach', 'g', '--qmp', self.path('monitor'))
        os.mkdir(self.path('out'))

    def said(self, *argv):
        """The commands of the steps, those of the end, and those of the undos in their order, as in the dry run."""
        plan = self.with_one_seal(json.dumps(self.json(*argv, '--dry-run')))
        self.job_said = plan['job']
        undos = [undo for step in reversed(plan['steps']) for undo in step['undo']]
        return [[act['qmp'] for act in acts if 'qmp' in act] for acts in ([step['do'] for step in plan['steps']], plan['finish'], undos)]

    def heard(self):
        sent = json.dumps(self.monitor.sent)
        job = re.search(r'\bbak-([0-9a-f]{8})-', sent)[1]
        return self.with_one_seal(sent.replace(job, self.job_said))

    def with_one_seal(self, text):
        return json.loads(re.sub(r'\bbak-seal-[0-9a-f]{24}', 'bak-seal-TOKEN', text))

    def assert_in_order(self, some, whole):
        """Some of the whole: the undo of what is not there any more is left out, and what is to be cancelled is paused first."""
        cancelled = [command['arguments'] for command in whole if command['execute'] == 'job-cancel']
        rest = iter(whole)
        for command in some:
            if command['execute'] == 'job-pause' and command['arguments'] in cancelled:
                continue
            self.assertTrue(any(command == other for other in rest), f'{command} was not said, or not at this place')

    def follow(self, end, *argv):
        argv = ['backup-begin', 'g', *argv, '--checkpoint', 'c1']
        steps, finish, undos = self.said(*argv)
        self.assertEqual(self.monitor.sent, [])
        self.must(*argv)
        self.must(*end)
        heard, forward = self.heard(), steps + finish
        ends = slice(len(steps), len(steps) + len([c for c in finish if c['execute'] == 'job-dismiss']))
        for each in heard, forward:         # whichever disk is copied first
            each[ends] = sorted(each[ends], key=str)
        self.assertEqual(heard[:len(forward)], forward)
        self.assert_in_order(heard[len(forward):], undos)
        return heard[len(forward):]

    def test_a_push_is_what_was_printed(self):
        self.follow(['backup-wait', 'g'], '--target', self.path('out') + '/')

    def test_a_pull_is_what_was_printed(self):
        out = self.path('out')
        argv = ['--mode', 'pull', '--server', f'unix:{self.path("nbd")}', '--scratch', f'disk0={out}', '--scratch', f'disk1={out}']
        after = self.follow(['backup-stop', 'g'], *argv)
        self.assertEqual([os.path.dirname(disk['scratch']) for disk in self.json('backup-begin', 'g', *argv, '--dry-run')['disks']], [out, out])
        self.assertEqual(os.listdir(out), [])
        self.assertEqual([c['execute'] for c in after if 'server' in c['execute']], ['nbd-server-stop'])

    def test_what_undoes_a_failure_is_what_was_printed(self):
        argv = ['backup-begin', 'g', '--target', self.path('out') + '/', '--protect', 'no']
        steps, _, undos = self.said(*argv)
        last = [command['execute'] for command in steps].index('transaction')
        self.monitor.arm(last, 'error')
        self.assertIn('injected', self.must(*argv, rc=1).err)
        heard = self.heard()
        self.assertEqual(heard[:last + 1], steps[:last + 1])
        self.assert_in_order(heard[last + 1:], undos)
        self.assertEqual(len(heard) - last - 1, 5, 'two nodes of two targets go, and the barrier')


if __name__ == '__main__':
    bed.main()
