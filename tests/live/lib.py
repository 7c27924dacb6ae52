"""The C API through ctypes: for tests that make thousands of calls, each of which would otherwise be a process.

    lib = lib.Library(test.environment)          # in a process of its own if the environment matters: state is per process
    conn = lib.open('qemu:///session')
    guest = conn.attach('g', qmp=vm.qmp_path)
    job = guest.begin(xml, checkpoint_xml)
    guest.wait(job)['state']

A failure raises Error with the library's code and text. Strings and records are plain Python values.
"""
import contextlib
import ctypes
import os

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

# include/libbackup/error.h; the exit status of the shell that goes with it is EXIT.get(name, 1)
CODES = ('none', 'invalid-argument', 'xml', 'no-domain', 'no-disk', 'no-checkpoint', 'no-job', 'exists', 'busy', 'not-supported', 'monitor',
         'timeout', 'connection', 'access-denied', 'io', 'no-space', 'inexact', 'agent', 'aborted', 'internal', 'monitor-held')
STATES = ('none', 'preparing', 'running', 'ready', 'stopping', 'completed', 'failed', 'aborted')
REUSE_EXTERNAL, QUIESCE = 1, 1 << 16
REDEFINE, CREATE_QUIESCE, VALIDATE = 1, 2, 4
CHILDREN, METADATA_ONLY, CHILDREN_ONLY = 1, 2, 4
NO_DOMAIN, SIZE = 2, 4
ABORT = REPAIR = 1


class Error(Exception):
    def __init__(self, code, text):
        self.code, self.text = CODES[code] if code < len(CODES) else str(code), text
        super().__init__(f'{self.code}: {text}')


class AttachOptions(ctypes.Structure):
    _fields_ = [('size', ctypes.c_ulong), ('name', ctypes.c_char_p), ('qmp', ctypes.c_char_p), ('agent', ctypes.c_char_p),
                ('disks', ctypes.c_void_p), ('n_disks', ctypes.c_uint), ('images', ctypes.c_void_p), ('n_images', ctypes.c_uint),
                ('flags', ctypes.c_uint)]


class NamedDisk(ctypes.Structure):
    _fields_ = [('target', ctypes.c_char_p), ('id', ctypes.c_char_p)]


class BackupOptions(ctypes.Structure):
    _fields_ = [('size', ctypes.c_ulong), ('backup_xml', ctypes.c_char_p), ('checkpoint_xml', ctypes.c_char_p), ('flags', ctypes.c_uint),
                ('timeout', ctypes.c_ulonglong)]


def _b(text):
    return text.encode() if isinstance(text, str) else text


class Library:
    def __init__(self, path=None):
        path = path or os.path.join(os.environ.get('BUILD_DIR') or os.path.join(TOP, 'build'), 'src/libbackup.so.0')
        self.c = ctypes.CDLL(path)
        self.c.bak_error_get_message.restype = ctypes.c_char_p
        self.c.bak_error_get_message.argtypes = [ctypes.c_void_p]
        self.c.bak_error_get_code.argtypes = [ctypes.c_void_p]
        self.c.bak_error_unref.argtypes = [ctypes.c_void_p]
        self.c.bak_free.argtypes = [ctypes.c_void_p]

    def _function(self, name, restype):
        function = getattr(self.c, name)
        function.restype = restype
        return function

    @staticmethod
    def _convert(arguments):
        return [ctypes.c_uint(a) if isinstance(a, int) else ctypes.c_char_p(_b(a)) if isinstance(a, (str, bytes)) else a for a in arguments]

    def _call(self, name, restype, *arguments):
        """A function whose last parameter is BakError **."""
        error = ctypes.c_void_p()
        result = self._function(name, restype)(*self._convert(arguments), ctypes.byref(error))
        if error.value:
            problem = Error(self.c.bak_error_get_code(error), (self.c.bak_error_get_message(error) or b'').decode())
            self.c.bak_error_unref(error)
            raise problem
        return result

    def pointer(self, name, *arguments):
        return ctypes.c_void_p(self._call(name, ctypes.c_void_p, *arguments))

    def number(self, name, *arguments):
        return self._call(name, ctypes.c_int, *arguments)

    def text(self, name, *arguments):
        pointer = self._call(name, ctypes.c_void_p, *arguments)
        text = ctypes.string_at(pointer).decode()
        self.c.bak_free(ctypes.c_void_p(pointer))
        return text

    def get(self, name, handle, *arguments, kind=ctypes.c_char_p):
        value = self._function(name, kind)(handle, *self._convert(arguments))
        return value.decode() if isinstance(value, bytes) else value

    def items(self, name, before, after, unref, convert):
        """A call that returns an array of handles between these arguments."""
        array = ctypes.POINTER(ctypes.c_void_p)()
        count = self.number(name, *before, ctypes.byref(array), *after)
        handles = [ctypes.c_void_p(array[i]) for i in range(count)]
        result = [convert(handle) for handle in handles]
        for handle in handles:
            self._function(unref, None)(handle)
        self.c.bak_free(ctypes.cast(array, ctypes.c_void_p))
        return result

    def open(self, uri='qemu:///session'):
        return Connection(self, self.pointer('bak_connection_open', uri))


class Connection:
    def __init__(self, lib, handle):
        self.lib, self.handle = lib, handle

    def close(self):
        if self.handle:
            self.lib.c.bak_connection_unref(self.handle)
            self.handle = None

    def attach(self, name, qmp=None, agent=None, disks=None, images=None):
        def named(pairs):
            return (NamedDisk * len(pairs))(*(NamedDisk(_b(target), _b(id_)) for target, id_ in pairs.items()))
        disks, images = named(disks or {}), named(images or {})
        options = AttachOptions(ctypes.sizeof(AttachOptions), _b(name), _b(qmp), _b(agent), ctypes.cast(disks, ctypes.c_void_p), len(disks),
                                ctypes.cast(images, ctypes.c_void_p), len(images), 0)
        return Domain(self, self.lib.pointer('bak_connection_attach', self.handle, ctypes.byref(options)))

    def lookup(self, name):
        return Domain(self, self.lib.pointer('bak_domain_lookup_by_name', self.handle, name))


class Domain:
    def __init__(self, conn, handle):
        self.conn, self.lib, self.handle = conn, conn.lib, handle

    def __del__(self):
        """It holds its connection."""
        self.lib.c.bak_domain_unref(self.handle)

    def detach(self):
        self.lib.number('bak_domain_detach', self.handle, 0)

    # Backups

    def begin(self, xml, checkpoint=None, flags=0, timeout=0):
        options = BackupOptions(ctypes.sizeof(BackupOptions), _b(xml), _b(checkpoint), flags, int(timeout * 1e6))
        return self.lib.text('bak_domain_backup_begin_options', self.handle, ctypes.byref(options))

    def plan(self, xml, checkpoint=None, flags=0):
        options = BackupOptions(ctypes.sizeof(BackupOptions), _b(xml), _b(checkpoint), flags, 0)
        return self.lib.text('bak_domain_backup_plan', self.handle, ctypes.byref(options))

    def _job(self, handle):
        get = self.lib.get
        number = {'kind': ctypes.c_int}
        job = {key: get(f'bak_job_get_{key}', handle) for key in ('id', 'error', 'checkpoint', 'server', 'consistency')}
        job['state'] = STATES[get('bak_job_get_state', handle, **number)]
        job['code'] = CODES[get('bak_job_get_error_code', handle, **number)]
        job['frozen'] = get('bak_job_get_frozen_time', handle, kind=ctypes.c_ulonglong)
        job['notes'] = [get('bak_job_get_note', handle, i) for i in range(get('bak_job_get_n_notes', handle, **number))]
        job['disks'] = []
        for i in range(get('bak_job_get_n_disks', handle, **number)):
            disk = ctypes.c_void_p(get('bak_job_get_disk', handle, i, kind=ctypes.c_void_p))
            job['disks'].append({key: get(f'bak_job_disk_get_{key}', disk) for key in
                                 ('target', 'type', 'reason', 'error', 'path', 'export_name', 'bitmap', 'format')})
            job['disks'][-1]['state'] = STATES[get('bak_job_disk_get_state', disk, **number)]
        self.lib.c.bak_job_unref(handle)
        return job

    def info(self, job=''):
        return self._job(self.lib.pointer('bak_domain_backup_info', self.handle, job, 0))

    def stop(self, job='', flags=0):
        return self._job(self.lib.pointer('bak_domain_backup_stop', self.handle, job, flags))

    def wait(self, job='', timeout=60):
        return self._job(self.lib.pointer('bak_domain_backup_wait', self.handle, job, ctypes.c_ulonglong(int(timeout * 1e6))))

    # Checkpoints

    def _checkpoint(self, handle):
        return {'name': self.lib.get('bak_domain_checkpoint_get_name', handle),
                'parent': self.lib.get('bak_domain_checkpoint_get_parent_name', handle),
                'children': self.lib.get('bak_domain_checkpoint_get_n_children', handle, kind=ctypes.c_uint),
                'note': self.lib.get('bak_domain_checkpoint_get_note', handle)}

    def _one(self, handle):
        result = self._checkpoint(handle)
        self.lib.c.bak_domain_checkpoint_unref(handle)
        return result

    @contextlib.contextmanager
    def _found(self, name):
        handle = self.lib.pointer('bak_domain_checkpoint_lookup_by_name', self.handle, name, 0)
        try:
            yield handle
        finally:
            self.lib.c.bak_domain_checkpoint_unref(handle)

    def checkpoint_create(self, xml='<domaincheckpoint/>', flags=0):
        return self._one(self.lib.pointer('bak_domain_checkpoint_create_xml', self.handle, xml, flags))

    def checkpoint_xml(self, name, flags=0):
        with self._found(name) as handle:
            return self.lib.text('bak_domain_checkpoint_get_xml_desc', handle, flags)

    def checkpoint_delete(self, name, flags=0):
        with self._found(name) as handle:
            self.lib.number('bak_domain_checkpoint_delete', handle, flags)

    def checkpoint_children(self, name, flags=0):
        with self._found(name) as handle:
            return self.lib.items('bak_domain_checkpoint_list_all_children', [handle], [flags], 'bak_domain_checkpoint_unref', self._checkpoint)

    def checkpoints(self, flags=0):
        return self.lib.items('bak_domain_list_all_checkpoints', [self.handle], [flags], 'bak_domain_checkpoint_unref', self._checkpoint)

    def checkpoint_check(self, flags=0, names=()):
        array = (ctypes.c_char_p * max(len(names), 1))(*map(_b, names))

        def finding(handle):
            result = {key: self.lib.get(f'bak_finding_get_{key}', handle) for key in ('kind', 'disk', 'bitmap', 'meaning', 'repair')}
            result['repaired'] = bool(self.lib.get('bak_finding_is_repaired', handle, kind=ctypes.c_int))
            return result
        return self.lib.items('bak_domain_checkpoint_check', [self.handle, array, len(names)], [flags], 'bak_finding_unref', finding)
