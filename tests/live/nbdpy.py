"""A small NBD server that fails on order and a small NBD client that reads dirty bitmaps; standard library only.

The server is a target in this process: its bytes are at hand, and it can be told to hold requests back, to fail with a chosen
errno from a chosen moment on, or to die. The client is what a backup program does with a pull: ask what is dirty, read that.
"""
import contextlib
import mmap
import os
import socket
import struct
import threading
import time

EIO, ENOSPC = 5, 28
MAGIC, OPTION_MAGIC, REPLY_MAGIC = 0x4e42444d41474943, 0x49484156454F5054, 0x3e889045565a9
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_SET_META = 1, 2, 6, 7, 8, 10
REP_ACK, REP_INFO, REP_META, REP_UNSUPPORTED = 1, 3, 4, (1 << 31) + 1
READ, WRITE, DISC, FLUSH, TRIM, ZEROES, STATUS = 0, 1, 2, 3, 4, 6, 7
# has flags, flush, FUA, trim, write zeroes
EXPORT_FLAGS = 1 | 4 | 8 | 32 | 64


def _read(sock, length):
    parts = []
    while length:
        data = sock.recv(min(length, 1 << 20))
        if not data:
            raise ConnectionError('the peer is gone')
        parts.append(data)
        length -= len(data)
    return b''.join(parts)


class Server:
    """One export, kept in memory, or of a file that is only read. fail(after, errno): the write that passes so many bytes and all later
    requests that write fail. hold(): nothing is answered until let_go(). rate: bytes a second that are read; None: any."""

    def __init__(self, path, size, content=b'', file=None):
        self.path, self.size = path, size
        if file:
            with open(file, 'rb') as f:
                self.data = mmap.mmap(f.fileno(), size, access=mmap.ACCESS_READ)
        else:
            self.data = bytearray(content.ljust(size, b'\0'))
        self.rate, self.served, self.turn = None, 0, threading.Lock()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.written, self.limit, self.errno, self.dies, self.bad_flush = 0, None, 0, False, False
        self.held_after = None
        self.flush_gate, self.flushes = threading.Event(), 0
        self.flush_gate.set()
        self.connections = set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def fail(self, after, errno=EIO):
        self.limit, self.errno = after, errno

    def die(self, after):
        """The connection breaks in the middle, and nobody listens any more."""
        self.limit, self.dies = after, True

    def hold(self, after=None):
        """From now on, or from the write on that passes so many bytes."""
        if after is None:
            self.open_gate.clear()
        else:
            self.held_after = after

    def hold_flush(self):
        """Only a flush is not answered."""
        self.flush_gate.clear()

    def let_go(self):
        self.open_gate.set()
        self.flush_gate.set()

    def close(self):
        self.let_go()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in list(self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, sock):
        with contextlib.suppress(OSError, ConnectionError), sock:
            if self._negotiate(sock):
                while self._request(sock):
                    pass
        self.connections.discard(sock)

    def _negotiate(self, sock):
        sock.sendall(struct.pack('>QQH', MAGIC, OPTION_MAGIC, 3))
        no_zeroes = struct.unpack('>I', _read(sock, 4))[0] & 2
        while True:
            _, option, length = struct.unpack('>QII', _read(sock, 16))
            data = _read(sock, length)

            def reply(kind, payload=b''):
                sock.sendall(struct.pack('>QIII', REPLY_MAGIC, option, kind, len(payload)) + payload)
            if option == OPT_EXPORT_NAME:
                sock.sendall(struct.pack('>QH', self.size, EXPORT_FLAGS) + (b'' if no_zeroes else bytes(124)))
                return True
            if option in (OPT_GO, OPT_INFO):
                reply(REP_INFO, struct.pack('>HQH', 0, self.size, EXPORT_FLAGS))
                reply(REP_ACK)
                if option == OPT_GO:
                    return True
            elif option == OPT_ABORT:
                reply(REP_ACK)
                return False
            else:
                reply(REP_UNSUPPORTED, data[:0])

    def _take_time(self, length):
        with self.turn:
            if self.rate:
                time.sleep(length / self.rate)
            self.served += length

    def _request(self, sock):
        _, flags, kind, cookie, offset, length = struct.unpack('>IHHQQI', _read(sock, 28))
        data = _read(sock, length) if kind == WRITE else None
        if kind == DISC:
            return False
        self.open_gate.wait()
        error, answer = 0, b''
        if kind == READ:
            self._take_time(length)
            answer = bytes(self.data[offset:offset + length])
        elif kind in (WRITE, ZEROES, TRIM):
            self.written += length
            if self.held_after is not None and self.written > self.held_after:
                self.held_after = None
                self.open_gate.clear()
                self.open_gate.wait()
            if self.limit is not None and self.written > self.limit:
                if self.dies:
                    self.close()
                    return False
                error = self.errno
            else:
                self.data[offset:offset + length] = data if kind == WRITE else bytes(length)
        elif kind == FLUSH:
            self.flushes += 1
            self.flush_gate.wait()
            error = EIO if self.bad_flush else self.errno if self.limit is not None and self.written > self.limit else 0
        sock.sendall(struct.pack('>IIQ', 0x67446698, error, cookie) + answer)
        return True


class ReadError(Exception):
    pass


class Client:
    """Structured replies, one request at a time. contexts: names of metadata contexts that must be there."""

    def __init__(self, path, export, contexts=()):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(path)
        self.cookie = 0
        self.contexts = {}
        _read(self.sock, 18)
        self.sock.sendall(struct.pack('>I', 3))
        self._option(OPT_STRUCTURED, b'')
        name = export.encode()
        if contexts:
            queries = b''.join(struct.pack('>I', len(c.encode())) + c.encode() for c in contexts)
            for kind, data in self._option(OPT_SET_META, struct.pack('>I', len(name)) + name + struct.pack('>I', len(contexts)) + queries):
                if kind == REP_META:
                    self.contexts[data[4:].decode()] = struct.unpack('>I', data[:4])[0]
            if set(contexts) - set(self.contexts):
                raise ReadError(f'the export {export} has no {set(contexts) - set(self.contexts)}')
        for kind, data in self._option(OPT_GO, struct.pack('>I', len(name)) + name + struct.pack('>H', 0)):
            if kind == REP_INFO and data[:2] == b'\0\0':
                self.size = struct.unpack('>Q', data[2:10])[0]

    def _option(self, option, payload):
        self.sock.sendall(struct.pack('>QII', OPTION_MAGIC, option, len(payload)) + payload)
        replies = []
        while True:
            _, _, kind, length = struct.unpack('>QIII', _read(self.sock, 20))
            data = _read(self.sock, length)
            if kind & (1 << 31):
                raise ReadError(f'option {option} was refused: {kind:#x} {data!r}')
            if kind == REP_ACK:
                return replies
            replies.append((kind, data))

    def _ask(self, kind, offset, length):
        """The chunks of the answer."""
        self.cookie += 1
        self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, kind, self.cookie, offset, length))
        while True:
            magic = struct.unpack('>I', _read(self.sock, 4))[0]
            if magic == 0x67446698:
                error = struct.unpack('>IQ', _read(self.sock, 12))[0]
                if error:
                    raise ReadError(os.strerror(error))
                if kind == READ:
                    yield 1, struct.pack('>Q', offset) + _read(self.sock, length)
                return
            flags, chunk, _, size = struct.unpack('>HHQI', _read(self.sock, 16))
            payload = _read(self.sock, size)
            if chunk & (1 << 15):
                raise ReadError(os.strerror(struct.unpack('>I', payload[:4])[0]))
            yield chunk, payload
            if flags & 1:
                return

    def read(self, offset, length):
        data = bytearray(length)
        for chunk, payload in self._ask(READ, offset, length):
            if chunk in (1, 2):
                at = struct.unpack('>Q', payload[:8])[0] - offset
                if chunk == 1:
                    data[at:at + len(payload) - 8] = payload[8:]
        return bytes(data)

    def extents(self, context, offset=0, end=None):
        """[(offset, length, flags)] of the whole export."""
        end = self.size if end is None else end
        while offset < end:
            for chunk, payload in self._ask(STATUS, offset, min(end - offset, 1 << 30)):
                if chunk == 5 and struct.unpack('>I', payload[:4])[0] == self.contexts[context]:
                    for length, flags in struct.iter_unpack('>II', payload[4:]):
                        length = min(length, end - offset)
                        if length:
                            yield offset, length, flags
                        offset += length

    def read_all(self):
        return b''.join(self.read(at, min(1 << 20, self.size - at)) for at in range(0, self.size, 1 << 20))

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.sendall(struct.pack('>IHHQQI', 0x25609513, 0, DISC, 0, 0, 0))
        self.sock.close()


