#!/usr/bin/env python3
"""A QEMU that is none: speaks QMP from a script, for what no installed QEMU does.

usage: fakeqemu.py (--socket PATH | --listen-fd N | --fd N) [--recorded DIR [--answers JSON]] [--record FILE] [--lie NAME] [--rules JSON]
                   [--personality 2.7 --disk ID=FILE[:FORMAT]... [--qemu-img PROGRAM]]

--socket, --listen-fd   one client after another, as QEMU: a second one connects and waits. "ready" on stdout when it listens
--fd                    one connected client
--recorded DIR          a folder of tests/data/qemu: its schema and the answers of guest.json
--answers JSON          some of these answers, as in guest.json, replaced
--record FILE           every command that is received, one JSON object a line
--lie NAME              one of LIES below
--rules JSON            a list of {"command": NAME or "*", "nth": N (default: every time), "do": ACTION, ...}, the first that matches counts:
    error {class, desc}      refuse                        answer {return}         this value
    delay {seconds}          then go on as without rule    hang                    no reply, but later commands are served
    freeze                   nothing is read any more      eof                     close without a reply
    eof-in-reply             close in the middle of it     die                     perform the command, then close without a reply
    event {event, data}      send this, then go on         late {seconds}          reply so much later, meanwhile serve others
    job-error {error}        (2.7) the job that this command starts ends so
    job-stays                (2.7) the job that this command starts never ends
    job-waits {file}         (2.7) the job that this command starts goes on when the file is there; then FILE.N is made, for the Nth such job to end

Personality 2.7 keeps drives, nodes, bitmaps and jobs, and copies the data of a backup with qemu-img. What it takes is checked against the
hand-written schema of that version, and by what its code did: a job's device and target are names of block backends ("id"), never of
nodes; an "id" and a "node-name" share one space of names; x-blockdev-del takes one of the two and refuses what is in use.
"""
import argparse
import asyncio
import ctypes
import gzip
import itertools
import json
import os
import re
import socket
import subprocess
import sys

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'data', 'qemu')
MIB = 1024 * 1024


class Refused(Exception):
    def __init__(self, desc, kind='GenericError'):
        super().__init__(desc)
        self.kind = kind


class Gone(Exception):
    """The connection ends here."""


# ---- whether the schema has it: the errors are QEMU's ----

class Schema:
    def __init__(self, entities):
        self.entities = {entity['name']: entity for entity in entities}

    def commands(self):
        return [name for name, entity in self.entities.items() if entity['meta-type'] == 'command']

    def check_command(self, command, args):
        entity = self.entities.get(command)
        if not entity or entity['meta-type'] != 'command':
            raise Refused(f'The command {command} has not been found', 'CommandNotFound')
        if command not in ('device_add', 'object-add'):
            self.check(entity['arg-type'], args, 'arguments')

    def check(self, name, value, where):
        entity = self.entities[name]
        getattr(self, 'check_' + entity['meta-type'])(entity, value, where)

    def check_builtin(self, entity, value, where):
        want = entity['json-type']
        kinds = {'string': str, 'boolean': bool, 'int': int, 'number': (int, float), 'null': type(None), 'value': object}
        if not isinstance(value, kinds[want]) or (want in ('int', 'number') and isinstance(value, bool)):
            raise Refused(f"Invalid parameter type for '{where}', expected: {want}")

    def check_enum(self, entity, value, where):
        values = entity.get('values') or [member['name'] for member in entity['members']]
        if value not in values:
            raise Refused(f"Invalid parameter '{value}'")

    def check_array(self, entity, value, where):
        if not isinstance(value, list):
            raise Refused(f"Invalid parameter type for '{where}', expected: array")
        for item in value:
            self.check(entity['element-type'], item, where)

    def check_alternate(self, entity, value, where):
        for member in entity['members']:
            kind = self.entities[member['type']]
            if isinstance(value, dict) and kind['meta-type'] == 'object':
                return self.check(member['type'], value, where)
            if not isinstance(value, dict) and kind['meta-type'] != 'object':
                try:
                    return self.check(member['type'], value, where)
                except Refused:
                    continue
        raise Refused(f"Invalid parameter type for '{where}', expected: another")

    def check_object(self, entity, value, where):
        if not isinstance(value, dict):
            raise Refused(f"Invalid parameter type for '{where}', expected: object")
        members = {}
        while entity:
            members.update({member['name']: member for member in entity['members']})
            case = next((v for v in entity.get('variants', []) if v['case'] == value.get(entity['tag'])), None) if 'tag' in entity else None
            entity = self.entities[case['type']] if case else None
        for name in value:
            if name not in members:
                raise Refused(f"Invalid parameter '{name}'")
            self.check(members[name]['type'], value[name], name)
        for name, member in members.items():
            if 'default' not in member and name not in value:
                raise Refused(f"Parameter '{name}' is missing")


# ---- what answers: recorded, or the personality of 2.7 ----

class Recorded:
    """Answers of one of the recorded guests; everything else that the schema has succeeds."""
    questions = {'query-named-block-nodes': 'named_block_nodes', 'query-block': 'block', 'query-jobs': 'jobs', 'query-block-jobs': 'block_jobs',
                 'query-block-exports': 'exports', 'query-status': 'status', 'query-uuid': 'uuid', 'query-name': 'name',
                 'query-iothreads': 'iothreads', 'qom-list': 'objects', 'x-debug-query-block-graph': 'block_graph',
                 'query-memory-size-summary': 'memory', 'query-cpus-fast': 'cpus'}

    def __init__(self, folder, answers):
        with gzip.open(os.path.join(folder, 'schema.json.gz')) as file:
            self.entities = json.load(file)
        with open(os.path.join(folder, 'guest.json')) as file:
            self.answers = {**json.load(file), **answers}
        with open(os.path.join(folder, 'version')) as file:
            major, minor, micro = (int(part) for part in file.read().split('.'))
        self.version = {'qemu': {'major': major, 'minor': minor, 'micro': micro}, 'package': 'fake'}
        self.schema = Schema(self.entities)
        self.capabilities = ['oob']

    async def perform(self, command, args, rule):
        self.schema.check_command(command, args)
        if command == 'query-qmp-schema':
            return self.entities
        if command == 'query-version':
            return self.version
        if command == 'qom-get':
            return self.qom_get(args)
        return self.answers.get(self.questions.get(command), {})

    def qom_get(self, args):
        table = {'type': 'device_types', 'iothread': 'device_iothreads'}.get(args['property'])
        value = self.answers.get(table, {}).get(args['path'])
        if value is None:
            raise Refused(f"Property '{args['path']}.{args['property']}' not found")
        return value if table == 'device_types' else '/objects/' + value


PR_SET_NAME = 15


class Node:
    def __init__(self, name, driver, filename, info, read_only=False):
        self.name, self.driver, self.filename, self.info, self.read_only = name, driver, filename, info, read_only
        self.bitmaps = {}
        self.children = []
        self.held = None


class Job:
    def __init__(self, name, source, target, size):
        self.name, self.source, self.target, self.size = name, source, target, size
        self.offset = self.speed = 0
        self.paused = self.cancelled = False
        self.task = None


class Qemu27:
    capabilities = []
    version = {'qemu': {'major': 2, 'minor': 7, 'micro': 1}, 'package': ' (fake)'}

    def __init__(self, disks, qemu_img, emit):
        with open(os.path.join(DATA, 'schema-2.7.json')) as file:
            self.entities = json.load(file)
        self.schema = Schema(self.entities)
        self.img, self.emit = qemu_img, emit
        self.backends, self.nodes, self.jobs, self.owned = {}, {}, {}, set()
        self.legacy = set()
        self.objects, self.nbd, self.running = {}, None, True
        self.counter = itertools.count(101)
        self.ended = 0
        for disk in disks:
            name, _, file = disk.partition('=')
            file, _, kind = file.partition(':')
            self.backends[name] = self.open({'driver': kind or 'raw', 'file': {'driver': 'file', 'filename': file}})
            self.legacy.add(name)

    # images

    def info(self, filename, kind):
        run = subprocess.run([self.img, 'info', '-U', '--output=json', '-f', kind, filename], capture_output=True, text=True, check=False)
        if run.returncode:
            raise Refused(f"Could not open '{filename}': {run.stderr.strip().rpartition(': ')[2]}")
        return json.loads(run.stdout)

    def add_node(self, name, driver, filename, info, read_only):
        node = Node(name or f'#block{next(self.counter)}', driver, filename, info, read_only)
        self.nodes[node.name] = node
        return node

    def open(self, options):
        driver, name = options['driver'], options.get('node-name')
        if name is not None and not re.fullmatch(r'[A-Za-z][A-Za-z0-9._-]{0,30}', name):
            raise Refused('Invalid node name')
        if name in self.backends:
            raise Refused(f'node-name={name} is conflicting with a device id')
        if name in self.nodes:
            raise Refused('Duplicate node name')
        read_only = options.get('read-only', False)
        if 'filename' in options:
            if not os.path.exists(options['filename']):
                raise Refused(f"Could not open '{options['filename']}': No such file or directory")
            node = self.add_node(name, driver, options['filename'], self.info(options['filename'], 'raw'), read_only)
            node.held = os.open(node.filename, os.O_RDONLY)     # as a QEMU holds what it has opened
            return node
        below = options.get('file')
        if isinstance(below, str):
            child = self.nodes.get(below) or self.backends.get(below)
            if not child:
                raise Refused(f"Cannot find device={below} nor node_name={below}")
        elif below:
            child = self.open(below)
        else:
            raise Refused("A block device must be specified for \"file\"")
        try:
            info = self.info(child.filename, driver)
        except Refused:
            if not isinstance(below, str):
                self.drop(child)
            raise
        node = self.add_node(name, driver, child.filename, info, read_only)
        node.children.append((child, isinstance(below, str)))
        return node

    def drop(self, node):
        del self.nodes[node.name]
        if node.held is not None:
            os.close(node.held)
        for child, referenced in node.children:
            if not referenced:
                self.drop(child)

    def described(self, node):
        image = {'filename': node.filename, 'format': node.driver, 'virtual-size': node.info['virtual-size'], 'dirty-flag': False,
                 'actual-size': node.info.get('actual-size', 0)}
        for key in ('cluster-size', 'full-backing-filename', 'backing-filename'):
            if key in node.info:
                image[key] = node.info[key]
        told = {'file': node.filename, 'node-name': node.name, 'ro': node.read_only, 'drv': node.driver, 'image': image,
                'backing_file_depth': int('backing-filename' in image), 'encrypted': False, 'encryption_key_missing': False, 'detect_zeroes': 'off',
                'bps': 0, 'bps_rd': 0, 'bps_wr': 0, 'iops': 0, 'iops_rd': 0, 'iops_wr': 0, 'write_threshold': 0,
                'cache': {'writeback': True, 'direct': False, 'no-flush': False}}
        if 'backing-filename' in image:
            told['backing_file'] = image['backing-filename']
        return told

    # commands

    async def perform(self, command, args, rule):
        self.schema.check_command(command, args)
        method = getattr(self, 'do_' + command.replace('-', '_'), None)
        if not method:
            raise Refused(f'this fake cannot {command}')
        result = method(args, rule)
        return {} if result is None else result

    def do_qmp_capabilities(self, args, rule):
        pass

    def do_query_version(self, args, rule):
        return self.version

    def do_query_qmp_schema(self, args, rule):
        return self.entities

    def do_query_commands(self, args, rule):
        return [{'name': name} for name in self.schema.commands()]

    def do_query_status(self, args, rule):
        return {'running': self.running, 'singlestep': False, 'status': 'running' if self.running else 'paused'}

    def do_stop(self, args, rule):
        self.running = False
        self.emit('STOP', {})

    def do_cont(self, args, rule):
        self.running = True
        self.emit('RESUME', {})

    def do_query_name(self, args, rule):
        return {'name': 'old'}

    def do_query_uuid(self, args, rule):
        return {'UUID': '27000000-0000-4000-8000-000000000027'}

    def do_query_iothreads(self, args, rule):
        return []

    def do_query_cpus(self, args, rule):
        return [{'CPU': 0, 'current': True, 'halted': False, 'qom_path': '/machine/unattached/device[0]', 'thread_id': os.getpid(), 'arch': 'x86', 'pc': 0}]

    def do_query_block(self, args, rule):
        drives = []
        for name, node in self.backends.items():
            drive = {'device': name, 'locked': False, 'removable': False, 'type': 'unknown', 'io-status': 'ok', 'inserted': self.described(node)}
            if node.bitmaps:
                drive['dirty-bitmaps'] = [{'name': bitmap, **state} for bitmap, state in node.bitmaps.items()]
            drives.append(drive)
        return drives

    def do_query_named_block_nodes(self, args, rule):
        return [self.described(node) for node in self.nodes.values()]

    def do_query_blockstats(self, args, rule):
        return [{'device': name, 'stats': {'wr_highest_offset': 0}} for name in self.backends]

    def do_query_block_jobs(self, args, rule):
        return [{'type': 'backup', 'device': job.name, 'len': job.size, 'offset': job.offset, 'busy': not job.paused, 'paused': job.paused,
                 'speed': job.speed, 'io-status': 'ok', 'ready': False} for job in self.jobs.values()]

    def do_qom_list(self, args, rule):
        if args['path'] != '/objects':
            raise Refused(f"Device '{args['path']}' not found", 'DeviceNotFound')
        return [{'name': 'type', 'type': 'string'}] + [{'name': name, 'type': f'child<{kind}>'} for name, kind in self.objects.items()]

    def do_qom_get(self, args, rule):
        raise Refused(f"Device '{args['path']}' not found", 'DeviceNotFound')

    def do_object_add(self, args, rule):
        if args['id'] in self.objects:
            raise Refused(f"attempt to add duplicate property '{args['id']}' to object (type 'container')")
        self.objects[args['id']] = args['qom-type']

    def do_object_del(self, args, rule):
        if not self.objects.pop(args['id'], None):
            raise Refused(f"object '{args['id']}' not found")

    def do_blockdev_add(self, args, rule):
        options = args['options']
        name = options.get('id')
        if name is None and 'node-name' not in options:
            raise Refused("'id' and/or 'node-name' need to be specified for the root node")
        if name is not None and not re.fullmatch(r'[A-Za-z][A-Za-z0-9._-]*', name):
            raise Refused('Invalid device name')
        if name in self.backends:
            raise Refused(f"Device with id '{name}' already exists")
        if name is not None and (name in self.nodes or name == options.get('node-name')):
            raise Refused(f"Device name '{name}' conflicts with an existing node name")
        node = self.open(options)
        if name is None:
            self.owned.add(node.name)
        else:
            self.backends[name] = node

    def do_x_blockdev_del(self, args, rule):
        if len(args) != 1:
            raise Refused('Only one of id and node-name must be specified' if args else 'No block device specified')
        if 'id' in args:
            name = args['id']
            node = self.backends.get(name)
            if not node:
                raise Refused(f'Cannot find block backend {name}')
            if name in self.legacy:
                raise Refused('Deleting block backend added with drive-add is not supported')
        else:
            name = args['node-name']
            node = self.nodes.get(name)
            if not node:
                raise Refused(f'Cannot find node {name}')
            if node in self.backends.values():
                raise Refused(f'Node {name} is in use by {next(n for n, b in self.backends.items() if b is node)}')
            if name not in self.owned:
                raise Refused(f'Node {name} is not owned by the monitor')
        self.check_unused(node, name)
        if 'id' in args:
            del self.backends[name]
        self.owned.discard(node.name)
        self.drop(node)

    def check_unused(self, node, name):
        for job in self.jobs.values():
            if node in (job.source, job.target):
                raise Refused(f"Node '{name}' is busy: block device is in use by block job: backup")
        if any(child is node for other in self.nodes.values() for child, _ in other.children):
            raise Refused(f'Block device {name} is in use')

    def do_block_dirty_bitmap_add(self, args, rule):
        node = self.find_root(args['node'])
        if not args['name'] or args['name'] in node.bitmaps:
            raise Refused(f"Bitmap already exists: {args['name']}" if args['name'] else 'Bitmap name cannot be empty')
        granularity = args.get('granularity', 65536)
        if granularity < 512 or granularity & (granularity - 1):
            raise Refused('Granularity must be power of 2 and at least 512')
        node.bitmaps[args['name']] = {'count': 0, 'granularity': granularity, 'status': 'active'}

    def do_block_dirty_bitmap_remove(self, args, rule):
        node = self.find_root(args['node'])
        if not node.bitmaps.pop(args['name'], None):
            raise Refused(f"Dirty bitmap '{args['name']}' not found")

    def do_block_dirty_bitmap_clear(self, args, rule):
        if args['name'] not in self.find_root(args['node']).bitmaps:
            raise Refused(f"Dirty bitmap '{args['name']}' not found")

    def find_root(self, name):
        node = self.backends.get(name) or self.nodes.get(name)
        if not node:
            raise Refused(f"Cannot find device={name} nor node_name={name}")
        return node

    def prepare_backup(self, args):
        source, target = self.backends.get(args['device']), self.backends.get(args['target'])
        for name, node in ((args['device'], source), (args['target'], target)):
            if not node:
                raise Refused(f"Device '{name}' not found", 'DeviceNotFound')
        name = args.get('job-id', args['device'])
        if not re.fullmatch(r'[A-Za-z][A-Za-z0-9._-]*', name):
            raise Refused(f"Invalid job ID '{name}'")
        if name in self.jobs:
            raise Refused(f"Job ID '{name}' already in use")
        if args['sync'] == 'incremental':
            raise Refused('must provide a valid bitmap name for "incremental" sync mode')
        if source is target:
            raise Refused('Source and target cannot be the same')
        for job in self.jobs.values():
            if {source, target} & {job.source, job.target}:
                raise Refused(f"Node '{source.name}' is busy: block device is in use by block job: backup")
        size = source.info['virtual-size']
        if target.read_only:
            raise Refused('Device is read only')
        if target.info['virtual-size'] != size:
            raise Refused('Source and target image have different sizes')
        job = Job(name, source, target, size)
        job.sync, job.speed = args['sync'], args.get('speed', 0)
        return job

    def start(self, job, rule):
        self.jobs[job.name] = job
        job.task = asyncio.get_running_loop().create_task(self.run(job, rule))

    def do_blockdev_backup(self, args, rule):
        self.start(self.prepare_backup(args), rule)

    def do_transaction(self, args, rule):
        undo, jobs = [], []
        try:
            for action in args['actions']:
                data = action['data']
                if action['type'] == 'blockdev-backup':
                    jobs.append(self.prepare_backup(data))
                    self.jobs[jobs[-1].name] = jobs[-1]
                    undo.append(lambda job=jobs[-1]: self.jobs.pop(job.name))
                elif action['type'] == 'block-dirty-bitmap-add':
                    self.do_block_dirty_bitmap_add(data, rule)
                    undo.append(lambda data=data: self.do_block_dirty_bitmap_remove(data, rule))
                elif action['type'] == 'block-dirty-bitmap-clear':
                    self.do_block_dirty_bitmap_clear(data, rule)
                else:
                    raise Refused('Transaction aborted using Abort action' if action['type'] == 'abort' else f"this fake cannot {action['type']}")
        except Refused:
            for step in reversed(undo):
                step()
            raise
        for job in jobs:
            self.start(job, rule)

    async def run(self, job, rule):
        """Copies everything; sync=none only waits. The point in time is that of the start: nobody writes to the disks of a fake."""
        error = rule.get('error') if rule.get('do') == 'job-error' else None
        try:
            if rule.get('do') == 'job-stays' or job.sync == 'none':
                await asyncio.Event().wait()
            while rule.get('do') == 'job-waits' and not os.path.exists(rule['file']):
                await asyncio.sleep(0.02)
            if not error:
                copy = await asyncio.create_subprocess_exec(
                    self.img, 'convert', '-n', '-U', '-f', job.source.driver, '-O', job.target.driver, job.source.filename, job.target.filename,
                    stderr=subprocess.DEVNULL)
                error = 'Input/output error' if await copy.wait() else None
            if not error:
                job.offset = job.size
        except asyncio.CancelledError:
            job.cancelled = True
        del self.jobs[job.name]
        data = {'device': job.name, 'type': 'backup', 'len': job.size, 'offset': job.offset, 'speed': job.speed}
        if error and not job.cancelled:
            self.emit('BLOCK_JOB_ERROR', {'device': job.name, 'operation': 'write', 'action': 'report'})
            data['error'] = error
        self.emit('BLOCK_JOB_CANCELLED' if job.cancelled else 'BLOCK_JOB_COMPLETED', data)
        if rule.get('do') == 'job-waits':
            self.ended += 1
            open(f"{rule['file']}.{self.ended}", 'w').close()

    def find_job(self, name):
        if name not in self.jobs:
            raise Refused(f"Block job '{name}' not found", 'DeviceNotActive')
        return self.jobs[name]

    def do_block_job_cancel(self, args, rule):
        job = self.find_job(args['device'])
        if job.paused and not args.get('force'):
            raise Refused(f"The block job for device '{job.name}' is currently paused")
        job.task.cancel()

    def do_block_job_pause(self, args, rule):
        self.find_job(args['device']).paused = True

    def do_block_job_resume(self, args, rule):
        self.find_job(args['device']).paused = False

    def do_block_job_set_speed(self, args, rule):
        if args['speed'] < 0:
            raise Refused("Invalid parameter 'speed'")
        self.find_job(args['device']).speed = args['speed']

    def do_nbd_server_start(self, args, rule):
        if self.nbd is not None:
            raise Refused('NBD server already running')
        self.nbd = []

    def do_nbd_server_add(self, args, rule):
        if self.nbd is None:
            raise Refused('NBD server not running')
        if args['device'] not in self.backends:
            raise Refused(f"Device '{args['device']}' not found", 'DeviceNotFound')
        self.nbd.append(args['device'])

    def do_nbd_server_stop(self, args, rule):
        self.nbd = None

    def do_block_set_write_threshold(self, args, rule):
        self.find_root(args['node-name'])

    def do_quit(self, args, rule):
        self.emit('SHUTDOWN', {})
        raise Gone


# ---- lies ----

def absurd_node(name, size):
    return {'node-name': name, 'drv': 'raw', 'ro': False, 'file': '/a', 'image': {'filename': '/a', 'format': 'raw', 'virtual-size': size}}


def million_nodes():
    yield b'{"return": ['
    for i in range(1000000):
        yield json.dumps(absurd_node(f'n{i}', 512)).encode() + (b',' if i < 999999 else b'')
    yield b'], "id": "bak-3"}\r\n'


def largest(unit, head, tail, cost):
    """As much of this as a reply may hold (qmp_split.h): the worst that gets through."""
    return [b'{"id": "bak-3", "return": ' + head, *[unit * 64] * (36 * MIB // (cost * 64) - 40), tail + b'}\r\n']


def members():
    """Objects with as many members as can be, all of other names."""
    for i in range(34 * MIB // 300):
        yield b'"%08x": 0,' % i


def endless(chunk, head):
    yield head
    while True:
        yield chunk


def deep():
    yield b'{"return": ' + b'[' * 5000000


ESCAPE = '\033[2J\007\r\n%s%n'
FOREIGN = [{'event': 'BLOCK_JOB_COMPLETED', 'data': {'device': 'not-yours', 'type': 'backup', 'len': 2**64 - 1, 'offset': -1, 'speed': 0}},
           {'event': 'JOB_STATUS_CHANGE', 'data': {'id': ESCAPE, 'status': 7}}, {'event': ESCAPE, 'data': []}, {'event': 'STOP'}]

# name: (what comes instead of the greeting or None, [rules])
LIES = {
    'silent': ('', []),
    'hmp': ("QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ", []),
    'http': ('HTTP/1.1 400 Bad Request\r\n\r\n', []),
    'json-but-no-greeting': ('{"hello": "world"}\r\n', []),
    'greeting-without-version': ('{"QMP": {"capabilities": []}}\r\n', []),
    'endless-greeting': (lambda: endless(b' ' * 65536, b'{"QMP": {"version": "'), []),
    'endless-spaces': (lambda: endless(b' \r\n' * 20000, b''), []),
    'endless-reply': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: endless(b'"x",' * 16384, b'{"return": [')}]),
    'endless-string': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: endless(b'x' * 65536, b'{"return": "')}]),
    'endless-objects': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: endless(b'{},' * 20000, b'{"return": [')}]),
    'endless-members': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: itertools.chain(
        [b'{"return": {'], (b'"%08x": 0,' % i for i in itertools.count()))}]),
    # Just small enough to be taken: what they cost when parsed.
    'largest-string': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: largest(b'x', b'"', b'"', 3)}]),
    'largest-list': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: largest(b'0,', b'{"a": [', b'0]}', 102)}]),
    'largest-objects': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: largest(b'{},', b'[', b'{}]', 617)}]),
    'largest-small-objects': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes',
                                      'bytes': lambda: largest(b'{"a":0},', b'[', b'{}]', 760)}]),
    'largest-members': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': lambda: itertools.chain(
        [b'{"id": "bak-3", "return": {'], members(), [b'"z": 0}}\r\n'])}]),
    'endless-events': (None, [{'command': 'query-block', 'do': 'bytes', 'bytes': lambda: endless(
        b'{"event": "BLOCK_JOB_ERROR", "data": {"device": "j", "operation": "write", "action": "ignore"}}\r\n' * 500, b'')}]),
    'deep': (None, [{'command': 'query-block', 'do': 'bytes', 'bytes': deep}]),
    'garbage': (None, [{'command': 'query-block', 'do': 'bytes', 'bytes': lambda: [b'\x00\xff\x1b[2J}}}{{{']}]),
    'million-nodes': (None, [{'command': 'query-named-block-nodes', 'do': 'bytes', 'bytes': million_nodes}]),
    'wrong-ids': (None, [{'command': 'query-block', 'do': 'wrong-id'}]),
    'error-without-id': (None, [{'command': 'query-block', 'do': 'bytes', 'bytes': lambda: [
        json.dumps({'error': {'class': 'GenericError', 'desc': 'JSON parse error' + ESCAPE}}).encode()]}]),
    'foreign-events': (None, [{'command': '*', 'do': 'events', 'events': FOREIGN}]),
    'events-before-greeting': ('{"event": "STOP"}\r\n', []),
    'control-characters': (None, [{'command': 'query-block', 'do': 'error', 'class': ESCAPE, 'desc': ESCAPE}]),
    'control-characters-in-names': (None, [{'command': 'query-named-block-nodes', 'do': 'answer', 'return': [absurd_node(ESCAPE, 512)]}]),
    'absurd-sizes': (None, [{'command': 'query-named-block-nodes', 'do': 'answer', 'return': [absurd_node('a', 2**64 - 1)]}]),
    'wrong-types': (None, [{'command': 'query-named-block-nodes', 'do': 'answer', 'return': {'node-name': []}}]),
    'hang': (None, [{'command': 'query-block', 'do': 'hang'}]),
    'freeze': (None, [{'command': 'query-block', 'do': 'freeze'}]),
    'eof-in-reply': (None, [{'command': 'query-named-block-nodes', 'do': 'eof-in-reply'}]),
    'eof': (None, [{'command': 'query-named-block-nodes', 'do': 'eof'}]),
}


# ---- the monitor ----

class Monitor:
    def __init__(self, options):
        self.writer, self.record = None, options.record and open(options.record, 'a', buffering=1)
        self.greeting, self.rules = LIES[options.lie] if options.lie else (None, [])
        self.rules = json.loads(options.rules) + self.rules
        self.seen = {}
        self.pending = set()
        self.dead = asyncio.Event()
        if options.personality:
            self.machine = Qemu27(options.disk, options.qemu_img, self.emit)
        else:
            self.machine = Recorded(options.recorded, json.loads(options.answers))

    def emit(self, event, data):
        """What happens while nobody listens is lost, as it is with QEMU."""
        if self.writer:
            self.write({'timestamp': {'seconds': 0, 'microseconds': 0}, 'event': event, 'data': data})

    def write(self, message):
        self.writer.write(json.dumps(message).encode() + b'\r\n')

    async def serve(self, reader, writer):
        self.writer = writer
        try:
            await self.greet()
            negotiated = False
            decoder, text = json.JSONDecoder(), ''
            while True:
                data = await reader.read(65536)
                if not data:
                    return
                text = (text + data.decode()).lstrip()
                while text:
                    try:
                        message, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    negotiated = await self.handle(message, negotiated)
        except (Gone, ConnectionError):
            pass
        finally:
            self.writer = None
            writer.close()

    async def greet(self):
        if self.greeting is None:
            self.write({'QMP': {'version': self.machine.version, 'capabilities': self.machine.capabilities}})
        elif callable(self.greeting):
            await self.pour(self.greeting())
        else:
            self.writer.write(self.greeting.encode())
        await self.writer.drain()

    async def pour(self, chunks):
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()

    def find_rule(self, command):
        self.seen[command] = self.seen.get(command, 0) + 1
        for rule in self.rules:
            if rule['command'] in (command, '*') and rule.get('nth', self.seen[command]) == self.seen[command]:
                return rule
        return {}

    async def handle(self, message, negotiated):
        command = message.get('execute') or message.get('exec-oob')
        if self.record:
            self.record.write(json.dumps(message) + '\n')
        if command == 'qmp_capabilities':
            self.reply(message, {'return': {}})
            return True
        if not negotiated:
            raise Gone
        rule = self.find_rule(command)
        await getattr(self, 'rule_' + rule.get('do', 'nothing').replace('-', '_'))(rule, message)
        await self.writer.drain()
        return True

    def reply(self, message, answer):
        if 'id' in message:
            answer['id'] = message['id']
        self.write(answer)

    async def answer(self, message, rule):
        command = message.get('execute') or message.get('exec-oob')
        try:
            return {'return': await self.machine.perform(command, message.get('arguments', {}), rule)}
        except Refused as refused:
            return {'error': {'class': refused.kind, 'desc': str(refused)}}

    # one method a rule

    async def rule_nothing(self, rule, message):
        self.reply(message, await self.answer(message, rule))

    rule_job_error = rule_job_stays = rule_job_waits = rule_nothing

    async def rule_error(self, rule, message):
        self.reply(message, {'error': {'class': rule.get('class', 'GenericError'), 'desc': rule.get('desc', 'injected')}})

    async def rule_answer(self, rule, message):
        self.reply(message, {'return': rule['return']})

    async def rule_delay(self, rule, message):
        await asyncio.sleep(rule['seconds'])
        await self.rule_nothing(rule, message)

    async def rule_late(self, rule, message):
        async def later():
            await asyncio.sleep(rule['seconds'])
            if self.writer:
                await self.rule_nothing(rule, message)
        task = asyncio.get_running_loop().create_task(later())
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def rule_hang(self, rule, message):
        pass

    async def rule_freeze(self, rule, message):
        await asyncio.Event().wait()

    async def rule_eof(self, rule, message):
        raise Gone

    async def rule_die(self, rule, message):
        await self.answer(message, rule)
        raise Gone

    async def rule_eof_in_reply(self, rule, message):
        text = json.dumps({**await self.answer(message, rule), 'id': message.get('id')}).encode()
        self.writer.write(text[:len(text) // 2])
        raise Gone

    async def rule_event(self, rule, message):
        self.emit(rule['event'], rule.get('data', {}))
        await self.rule_nothing(rule, message)

    async def rule_events(self, rule, message):
        for event in rule['events']:
            self.write(event)
        await self.rule_nothing(rule, message)
        for event in rule['events']:
            self.write(event)

    async def rule_wrong_id(self, rule, message):
        for wrong in ('bak-99999', 7, None, ['bak-4'], {'id': 'bak-4'}):
            self.write({'return': [], 'id': wrong})

    async def rule_bytes(self, rule, message):
        await self.pour(rule['bytes']())


async def serve_listener(monitor, listener):
    """One client after another: the next one's connection is accepted when the present one has gone."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    print('ready', flush=True)
    while True:
        client, _ = await loop.sock_accept(listener)
        await monitor.serve(*await asyncio.open_unix_connection(sock=client))


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--socket')
    where.add_argument('--listen-fd', type=int)
    where.add_argument('--fd', type=int)
    parser.add_argument('--recorded', default=os.path.join(DATA, '7.2'))
    parser.add_argument('--answers', default='{}')
    parser.add_argument('--record')
    parser.add_argument('--lie', choices=LIES)
    parser.add_argument('--rules', default='[]')
    parser.add_argument('--personality', choices=['2.7'])
    parser.add_argument('--disk', action='append', default=[])
    parser.add_argument('--qemu-img', default='qemu-img')
    options = parser.parse_args()
    if options.personality:     # a name that who looks for QEMU's process knows
        ctypes.CDLL(None).prctl(PR_SET_NAME, b'qemu-system-old', 0, 0, 0)
    monitor = Monitor(options)
    if options.fd is not None:
        await monitor.serve(*await asyncio.open_unix_connection(sock=socket.socket(fileno=options.fd)))
        return
    if options.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(options.socket)
        listener.listen(1)
    else:
        listener = socket.socket(fileno=options.listen_fd)
    await serve_listener(monitor, listener)


if __name__ == '__main__':
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
