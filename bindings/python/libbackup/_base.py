"""What is not made from the headers: errors, lifetimes, options, events, asyncio.

A handle of C is held by one object and given back when that goes. The pointer of a call is held by the call itself, so that another
thread may close a connection meanwhile.
"""
import asyncio
import atexit
import contextlib
import os
import threading
from typing import Any, AsyncIterator, Dict, Optional

from ._ffi import ffi, lib

_api: Dict[str, Any] = {}       # the names of _api.py
_opened = False                 # this process has threads of the library
_forked = False                 # it has inherited a connection, but not the threads behind it
_kept: Dict[int, Any] = {}      # callbacks that the library may call


def complete(names):
    _api.update(names)


def _after_fork():
    global _forked
    _forked = _opened


os.register_at_fork(after_in_child=_after_fork)


class Error(Exception):
    """Why a call failed. `code` is an ErrorCode, what a program can act on; `object` is what the call was made on, or None."""

    def __init__(self, code, message, object=None):
        super().__init__(message)
        self.code, self.message, self.object = code, message, object

    def __reduce__(self):
        return Error, (self.code, self.message)     # a connection does not travel


def _invalid(message, object=None):
    return Error(_api['ErrorCode'].INVALID_ARGUMENT, message, object)


def _new_error():
    return ffi.new('BakError **')


def _raise(error, object):
    if error[0] == ffi.NULL:
        return
    try:
        code, message = _enum(_api['ErrorCode'], lib.bak_error_get_code(error[0])), _text_of(lib.bak_error_get_message(error[0]))
    finally:
        lib.bak_error_unref(error[0])
    raise Error(code, message, object)


def _check_fork():
    if _forked:
        raise _invalid('this process was forked while a connection was open, and a connection does not survive that: '
                       'open it after the fork, or start the process with exec (multiprocessing: "spawn")')


def _may_open():
    global _opened
    _check_fork()
    _opened = True


# texts

def _text(value):
    if not isinstance(value, str):
        raise TypeError(f'expected str, not {type(value).__name__}')
    if '\0' in value:
        raise _invalid('a text with a NUL character')
    return value.encode('utf-8', 'surrogateescape')


def _optional_text(value):
    return ffi.NULL if value is None else _text(value)


def _texts(values):
    if values is None:
        return ()
    if isinstance(values, str):
        raise TypeError('expected several texts, not one str')
    return [ffi.new('char[]', _text(value)) for value in values]


def _numbers(values):
    """Numbers, or what has a descriptor: a socket, a file."""
    if isinstance(values, (int, str)) or hasattr(values, 'fileno'):
        raise TypeError('expected several descriptors, not one')
    values = list(values)
    for value in values:
        if not isinstance(value, int) and not hasattr(value, 'fileno'):
            raise TypeError(f'expected a descriptor, not {type(value).__name__}')
    return ffi.new('int[]', [value if isinstance(value, int) else value.fileno() for value in values])


def _text_of(c):
    return None if c == ffi.NULL else ffi.string(c).decode('utf-8', 'backslashreplace')


def _take_text(c):
    if c == ffi.NULL:
        return None
    try:
        return _text_of(c)
    finally:
        lib.bak_free(c)


def _enum(kind, value):
    """A number that this version does not know stays a number."""
    try:
        return kind(value)
    except ValueError:
        return value


# handles

class Handle:
    """A handle of the library. Two objects may stand for the same guest, job or disk."""
    __slots__ = ('_c', '_owner', '__weakref__')
    _type = ''
    _ref: Any = None
    _unref: Any = None

    def __init__(self, *arguments):
        raise TypeError(f'a {type(self).__name__} comes from a call of the library')

    @classmethod
    def _make(cls, c, owner):
        self = cls.__new__(cls)
        self._c, self._owner = c, owner
        return self

    @classmethod
    def _take(cls, c):
        """Of a reference that is ours."""
        if c == ffi.NULL:
            return None
        unref = cls._unref
        return cls._make(ffi.gc(c, lambda pointer: None if _forked else unref(pointer)), None)

    @classmethod
    def _lend(cls, c, owner):
        """Of a borrowed one: a reference is taken, or its owner is kept."""
        if c == ffi.NULL:
            return None
        return cls._take(cls._ref(c)) if cls._ref else cls._make(c, owner)

    def _use(self):
        _check_fork()
        c = self._c
        if c is None:
            raise _invalid('the connection is closed', self)
        return c

    def __repr__(self):
        for name in ('name', 'target', 'id', 'kind', 'uri'):
            if self._c is not None and not _forked and isinstance(getattr(type(self), name, None), property):
                return f'<libbackup.{type(self).__name__} {getattr(self, name)!r}>'
        return f'<libbackup.{type(self).__name__}>'


def _handle(value, kind):
    if not isinstance(value, kind):
        raise TypeError(f'expected a {kind.__name__}, not {type(value).__name__}')
    return value._use()


def _optional_handle(value, kind):
    return ffi.NULL if value is None else _handle(value, kind)


def _take_list(pointer, kind):
    array = pointer[0]
    if array == ffi.NULL:
        return []
    found, at = [], 0
    while array[at] != ffi.NULL:
        found.append(kind._take(array[at]))
        at += 1
    lib.bak_free(array)
    return found


# options

def _new_options(name):
    options = ffi.new(f'{name} *')
    options.size = ffi.sizeof(name)
    return options, []


def _option_text(options, kept, name, value):
    if value is not None:
        kept.append(ffi.new('char[]', _text(value)))
        setattr(options, name, kept[-1])


def _option_number(options, kept, name, value):
    setattr(options, name, value)


def _option_texts(options, kept, name, values):
    """An array that ends with NULL."""
    if values is not None:
        texts = _texts(values)
        array = ffi.new('char *[]', [*texts, ffi.NULL])
        kept += [texts, array]
        setattr(options, name, ffi.cast('const char *const *', array))


def _option_handle(options, kept, name, value):
    if value is not None:
        kept.append(value._use())
        setattr(options, name, kept[-1])


def _option_callback(options, kept, name, function, trampoline):
    """It lives as long as the call."""
    if function is not None:
        kept.append(ffi.new_handle(_Kept(_callable(function))))
        setattr(options, name, trampoline)
        options.opaque = kept[-1]


def _option_items(options, kept, name, value):
    """A mapping, or pairs: an array of structs of two texts."""
    rows = [] if value is None else list(value.items() if hasattr(value, 'items') else value)
    texts = [[ffi.new('char[]', _text(part)) for part in row] for row in rows]
    kind = ffi.typeof(options).item
    struct = dict(kind.fields)[name].type.item
    array = ffi.new(ffi.getctype(struct, '[]'), texts)
    kept += [texts, array]
    setattr(options, name, array if rows else ffi.NULL)
    setattr(options, f'n_{name}', len(rows))


# callbacks

class _Kept:
    __slots__ = ('function',)

    def __init__(self, function):
        self.function = function


def _callable(function):
    if not callable(function):
        raise TypeError(f'expected something that can be called, not {type(function).__name__}')
    return function


def _keep(function):
    opaque = ffi.new_handle(_Kept(_callable(function)))
    _kept[int(ffi.cast('uintptr_t', opaque))] = opaque
    return opaque


def _let_go(opaque):
    _kept.pop(int(ffi.cast('uintptr_t', opaque)), None)


@atexit.register
def _silence():
    """No callback may come while the interpreter goes."""
    for opaque in list(_kept.values()):
        with contextlib.suppress(Exception):
            ffi.from_handle(opaque).function = lambda *arguments: None


class Parameters(dict):
    """Statistics of a job by name; `type` is the DomainJobType."""
    type: Any = None


def _parameter(c):
    kinds = _api['TypedParameterType']
    member = {kinds.INT: 'i', kinds.UINT: 'ui', kinds.LLONG: 'l', kinds.ULLONG: 'ul', kinds.DOUBLE: 'd', kinds.BOOLEAN: 'b', kinds.STRING: 's'}[c.type]
    value = getattr(c.value, member)
    if member == 'b':
        return value != b'\0'
    return _text_of(value) if member == 's' else value


class DomainBase(Handle):
    __slots__ = ()

    def get_job_stats(self, flags: int = 0) -> Parameters:
        """Statistics of the job that runs, or of the newest that has ended, with libvirt's names. Counterpart of virDomainGetJobStats()."""
        kind, array, count, error = ffi.new('int *'), ffi.new('BakTypedParameter **'), ffi.new('int *'), _new_error()
        lib.bak_domain_get_job_stats(self._use(), kind, array, count, flags, error)
        _raise(error, self)
        found = Parameters()
        found.type = _enum(_api['DomainJobType'], kind[0])
        for at in range(count[0]):
            found[_text_of(array[0][at].field)] = _parameter(array[0][at])
        lib.bak_typed_params_free(array[0], count[0])
        return found


class _Following:
    """The readers of one connection's events in one loop."""

    def __init__(self, loop, fd):
        self.loop, self.fd, self.queues = loop, fd, set()


class ConnectionBase(Handle):
    """A connection is a context manager; what came from it keeps it open for as long as it is used."""
    __slots__ = ('_following', '_lock')

    def __new__(cls, uri: Optional[str] = None, read_only: bool = False):
        return object.__new__(cls)

    def __init__(self, uri: Optional[str] = None, read_only: bool = False):
        opened = type(self).open_read_only(uri) if read_only else type(self).open(uri)
        self._c, self._owner = opened._c, None
        self._following, self._lock = None, threading.Lock()

    @classmethod
    def _make(cls, c, owner):
        self = super()._make(c, owner)
        self._following, self._lock = None, threading.Lock()
        return self

    def close(self) -> None:
        """Lets go of it; it is closed when nothing that came from it is left. To close it twice does nothing."""
        self._c = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def fileno(self) -> int:
        """The descriptor of get_fd(), so that select and selectors take the connection itself."""
        return self.get_fd()

    def _dispatch_to(self, following):
        try:
            self.dispatch()
        except Error as error:
            following.loop.remove_reader(following.fd)
            for queue in list(following.queues):
                queue.put_nowait(error)

    def _follow(self, queue):
        loop, fd = asyncio.get_running_loop(), self.get_fd()
        with self._lock:
            if self._following is None:
                self._following = _Following(loop, fd)
                loop.add_reader(fd, self._dispatch_to, self._following)
            elif self._following.loop is not loop:
                raise _invalid('another loop takes the events of this connection', self)
            self._following.queues.add(queue)
            return self._following

    def _unfollow(self, following, queue):
        with self._lock:
            following.queues.discard(queue)
            if not following.queues:
                following.loop.remove_reader(following.fd)
                self._following = None

    async def events(self, domain=None, event_id: int = -1) -> AsyncIterator[Any]:
        """`async for event in connection.events ()`: of one guest or all, of one kind or all, without a thread.

        A daemon that is lost, and comes back, is told as an event CONNECTION; the loop goes on. Calls that wait belong into
        asyncio.to_thread().
        """
        queue: asyncio.Queue = asyncio.Queue()
        following = self._follow(queue)
        number = None
        try:
            number = self.domain_event_register_any(domain, event_id, lambda conn, guest, event: queue.put_nowait(event._replace(domain=guest)))
            while True:
                event = await queue.get()
                if isinstance(event, Error):
                    raise event
                yield event
        finally:
            self._unfollow(following, queue)
            if number is not None and self._c is not None:
                with contextlib.suppress(Error):
                    self.domain_event_deregister_any(number)
