"""A client of the wire written from its description alone: what libbackup's own code gets wrong twice shows here."""
import os
import socket
import struct

LIBVIRT, BACKUP, KEEPALIVE = 0x20008086, 0x6261636b, 0x6b656570
CALL, REPLY, MESSAGE = 0, 1, 2
BY_NAME, BY_UUID, OPEN, CLOSE, LIST, STATE = 23, 24, 1, 2, 273, 212


def u32(*numbers):
    return struct.pack(f'>{len(numbers)}I', *(n & 0xffffffff for n in numbers))


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return u32(len(data)) + data + bytes(-len(data) % 4)


def optional(text):
    return u32(0) if text is None else u32(1) + string(text)


def packet(program, procedure, payload=b'', type_=CALL, serial=0, status=0, version=1):
    return u32(28 + len(payload), program, version, procedure, type_, serial, status) + payload


class Reader:
    """Takes values off a payload; done() says whether all was taken."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at:self.at + count]
        assert len(piece) == count, f'{count} bytes wanted at {self.at} of {len(self.data)}'
        self.at += count
        return piece

    def u32(self):
        return struct.unpack('>I', self.take(4))[0]

    def i32(self):
        return struct.unpack('>i', self.take(4))[0]

    def u64(self):
        return struct.unpack('>Q', self.take(8))[0]

    def string(self):
        length = self.u32()
        text = self.take(length)
        self.take(-length % 4)
        return text.decode()

    def optional(self):
        return self.string() if self.u32() else None

    def domain(self):
        return self.string(), self.take(16), self.i32()

    def param(self):
        field, kind = self.string(), self.u32()
        return field, {1: self.i32, 2: self.u32, 3: self.u64, 4: self.u64, 6: self.i32, 7: self.string}[kind]()

    def params(self):
        return dict(self.param() for _ in range(self.u32()))

    def done(self):
        assert self.at == len(self.data), f'{len(self.data) - self.at} bytes are left over'


class WireError(Exception):
    def __init__(self, payload):
        reader = Reader(payload)
        self.code, self.domain, self.message = reader.i32(), reader.i32(), reader.optional()
        super().__init__(f'{self.code}/{self.domain}: {self.message}')


class Connection:
    """Blocking, one call at a time unless send() and reply() are used by themselves."""

    def __init__(self, path, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.serial, self.replies, self.messages = 0, {}, []

    def close(self):
        self.sock.close()

    def _read(self, count):
        data = b''
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def receive(self):
        """One packet: (program, procedure, type, serial, status, payload)."""
        length = struct.unpack('>I', self._read(4))[0]
        body = self._read(length - 4)
        program, _, procedure, type_, serial, status = struct.unpack('>6I', body[:24])
        return program, procedure, type_, serial, status, body[24:]

    def send(self, program, procedure, payload=b''):
        self.serial += 1
        self.sock.sendall(packet(program, procedure, payload, serial=self.serial))
        return self.serial

    def reply(self, serial):
        while serial not in self.replies:
            got = self.receive()
            if got[2] == REPLY:
                self.replies[got[3]] = got
            else:
                self.messages.append(got)
        got = self.replies.pop(serial)
        if got[4]:
            raise WireError(got[5])
        return Reader(got[5])

    def call(self, program, procedure, payload=b''):
        return self.reply(self.send(program, procedure, payload))

    def open(self, readonly=False):
        self.call(LIBVIRT, OPEN, optional('qemu:///system') + u32(int(readonly)))
        return self

    def hello(self, readonly=False):
        self.call(BACKUP, 1, string('qemu:///system') + u32(1, int(readonly)))
        return self

    def attach(self, name, qmp='', agent='', disks=(), images=()):
        """disks, images: (target, node or file)"""
        pairs = [u32(len(some)) + b''.join(string(a) + string(b) for a, b in some) for some in (disks, images)]
        self.call(BACKUP, 12, string(name) + string(qmp) + string(agent) + pairs[0] + pairs[1] + u32(0))

    def domain(self, name):
        """The bytes that mean this guest in libvirt's calls."""
        reader = self.call(LIBVIRT, BY_NAME, string(name))
        reader.domain()
        reader.done()
        return reader.data


def peers_memory(pid):
    """Resident bytes of a process."""
    with open(f'/proc/{pid}/statm') as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
