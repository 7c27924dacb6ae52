#!/usr/bin/python3
"""Every procedure of libvirt's program that the daemon has, in raw frames: the reply has the fields that the protocol says and
no byte more, or the error that clients act on. And every other number is unknown."""
import os
import re
import uuid

import bed
import daemon
import rpc

u32, string, optional = rpc.u32, rpc.string, rpc.optional
UUID = uuid.UUID(daemon.UUID).bytes
MIB = 1 << 20


class Error:
    def __init__(self, code, words=''):
        self.code, self.words = code, words


def fields(pattern):
    """A reader of a reply: i u32 as signed, h u64, s text, d guest, c checkpoint, p parameters, x characters in words, [..] array."""
    def read(reader, pattern=pattern):
        values = []
        while pattern:
            if pattern[0] == '[':
                inside, pattern = pattern[1:].split(']', 1)
                values.append([read(reader, inside) for _ in range(reader.u32())])
                continue
            values.append({'i': reader.i32, 'h': reader.u64, 's': reader.string, 'd': reader.domain, 'p': reader.params,
                           'c': lambda: (reader.string(), reader.domain()), 'x': lambda: bytes(reader.u32() & 255 for _ in range(reader.u32()))}[pattern[0]]())
            pattern = pattern[1:]
        return values
    return read


class EveryCallTest(daemon.DaemonTest):
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        os.mkdir(self.path('img'))
        self.qemu = self.bare_guest(self.path('img'))
        self.daemon = daemon.Daemon(self)
        self.daemon.attach('x', self.qemu, vda='virtio-disk0', vdb='virtio-disk1')
        self.connection = rpc.Connection(self.daemon.socket)
        self.addCleanup(self.connection.close)

    def script(self):
        """(number, arguments, fields of the reply or error, what holds of its values)"""
        guest = string('x') + UUID + u32(-1)                    # only the uuid counts
        c1 = string('c1') + guest
        pull = f"""<domainbackup mode='pull'><server transport='unix' socket='{self.path("nbd")}'/><disks>
          <disk name='vda' type='file'><scratch file='{self.path("s")}'/></disk><disk name='vdb' backup='no'/></disks></domainbackup>"""
        is_x = lambda v: (v[0][0], v[0][1]) == ('x', UUID)      # noqa: E731
        return [
            (66, b'', '[i]', [[[0]]]), (60, u32(10), 'i', [1]), (1, optional('qemu:///system') + u32(0), '', []),
            (60, u32(14), 'i', [1]), (60, u32(15), 'i', [1]), (60, u32(3), 'i', [0]), (70, b'', Error(39, 'unknown procedure'), None),
            (3, b'', 's', ['QEMU']), (4, b'', 'h', lambda v: v[0] // 1000000 == 7), (6, b'', 'i' * 32 + 'h' + 'i' * 6, lambda v: v[33] > 0),
            (7, b'', 's', lambda v: v[0].startswith('<capabilities>')), (59, b'', 's', [os.uname().nodename]), (110, b'', 's', ['qemu:///system']),
            (122, b'', 'xx', lambda v: v[0] == b'none\0'), (149, b'', 'i', [1]), (157, b'', 'h', lambda v: v[0] >= 7006000),
            (360, b'', '', []), (361, b'', '', []), (391, string('/nosuch'), Error(49, '/nosuch'), None),
            (273, u32(1, 0), '[d]i', lambda v: v[0][0][0][0] == 'x' and v[1] == 1), (273, u32(0, 0), '[d]i', [[], 1]), (273, u32(1, 2), '[d]i', [[], 0]),
            (23, string('x'), 'd', is_x), (24, UUID, 'd', is_x), (22, u32(self.guest_id()), 'd', is_x), (22, u32(9999), Error(42, '9999'), None),
            (23, string('y'), Error(42, "'y'"), None), (24, bytes(16), Error(42), None), (16, string('x') + bytes(16) + u32(1), Error(42), None),
            (14, guest + u32(0), 's', lambda v: daemon.UUID in v[0]), (15, guest, 'i', [0]), (16, guest, 'ihhih', lambda v: v[:2] == [1, 64 * 1024]),
            (19, guest, 's', ['hvm']), (121, guest, 'xi', lambda v: v[1] == 0), (150, guest, 'i', [1]), (151, guest, 'i', [1]), (183, guest + u32(0), 'i', [0]),
            (194, guest + string('vda') + u32(0), 'hhh', lambda v: v[1] == 64 * MIB), (194, guest + string('vdz') + u32(0), Error(8, 'vdz'), None),
            (212, guest + u32(0), 'ii', [1, 1]), (238, guest + string('vda') + u32(0), 'iihhh', [0] * 5),
            (237, guest + string('vda') + u32(0), Error(8, 'vda'), None), (237, guest + string('vdz') + u32(0), Error(8, 'vdz'), None),
            (239, guest + string('vda') + u32(0, 1) + u32(0), Error(8), None), (240, guest + string('vda') + u32(0, 0) + u32(0), Error(8, 'nothing to pull'), None),
            (266, guest + string('vda') + optional(None) + u32(0, 0) + u32(128), Error(8, '0x80'), None),
            (266, guest + string('vda') + optional('rel') + u32(0, 0) + u32(8), Error(8, 'absolute'), None), (266, guest + string('vda') + optional('/a') + u32(0, 0) + u32(24), Error(8, '0x10'), None),
            (345, guest + string('vda') + string('<disk/>') + u32(0, 0), Error(27, '<source file'), None),
            (345, guest + string('vda') + string("<disk type='block'><source dev='/nosuch'/></disk>") + u32(0, 0), Error(38, '/nosuch'), None),
            (345, guest + string('vda') + string('<disk/>') + u32(0, 16), Error(8, '0x10'), None),
            (345, guest + string('vda') + string('<disk/>') + u32(1) + string('depth') + u32(2, 1, 0), Error(8, 'depth'), None),
            (266, guest + string('vda') + optional('/nosuch') + u32(0, 0) + u32(0), Error(8, 'nothing to pull'), None),
            (290, guest + string('vda') + optional(None) * 2 + u32(0, 0) + u32(4), Error(8, 'no backing file'), None),
            (243, guest + string('vda') + u32(0, 0), 'pi', [{}, 8]),
            (243, guest + string('vda') + u32(16, 0), 'pi', lambda v: len(v[0]) == 8 and 0 < v[0]['rd_bytes'] <= self.bytes_read() and v[0]['wr_bytes'] == 0 and v[1] == 0),
            (243, guest + string('') + u32(3, 0), 'pi', lambda v: sorted(v[0]) == ['rd_bytes', 'wr_bytes', 'wr_operations']), (243, guest + string('vdz') + u32(0, 0), Error(8, 'vdz'), None),
            (243, guest + string('vda') + u32(0, 1), Error(8, '0x1'), None), (263, guest + u32(0, 0), '[si]i', [[], 0]), (265, guest + u32(0, 0, 0), Error(80), None),
            (344, u32(0, 0, 0), '[dp]', lambda v: v[0][0][1] == {'state.state': 1, 'state.reason': 1}), (344, u32(1) + guest + u32(4, 0), '[dp]', lambda v: v[0][0][1] == {}),
            (344, u32(0, 0, 2), '[dp]', [[]]), (344, u32(0, 4, 1 << 31), Error(74, '0x4'), None), (426, guest + u32(0), '[s]', [[]]),
            (298, guest + u32(0), 'ip', [0, {}]), (163, guest, 'i' + 'h' * 11, [0] * 12), (422, guest + u32(0), Error(104), None), (164, guest, Error(55), None),
            (442, guest + u32(0), Error(55), None), (442, guest + u32(1), Error(55, 'post-copy'), None),
            (335, guest + u32(0, 0), Error(86), None), (336, guest + u32(0, 0), Error(86), None),
            (28, guest, Error(3, 'virDomainResume'), None), (34, guest, Error(3, 'virDomainSuspend'), None), (349, guest + u32(0), Error(3), None),
            (350, string('<domain/>') + u32(0), Error(3), None), (443, guest + string('n') + u32(0), Error(8, '0 were given'), None),
            (316, u32(0, 0), 'i', lambda v: v[0] > 0), (316, u32(0, 0), Error(8, 'already'), None), (316, u32(21, 1) + guest, 'i', lambda v: self.keep(v)),
            (316, u32(64, 0), Error(8), None), (317, u32(987654), Error(8, '987654'), None),
            (421, guest + string('<domainbackup') + u32(0, 0), Error(27), None), (421, guest + string('<domainbackup/>') + u32(0, 4), Error(8, '0x4'), None),
            (421, guest + string(pull) + optional('<domaincheckpoint><name>c1</name></domaincheckpoint>') + u32(0), '', []),
            (421, guest + string(pull) + u32(0, 0), Error(55), None),
            (422, guest + u32(0), 's', lambda v: "mode='pull'" in v[0]), (298, guest + u32(0), 'ip', lambda v: v[0] == 2 and v[1]['operation'] == 9),
            (163, guest, 'i' + 'h' * 11, lambda v: v[0] == 2), (238, guest + string('vda') + u32(0), 'iihhh', lambda v: v[:2] == [1, 5]),
            (415, guest + string('c1') + u32(0), 'c', lambda v: v[0][0] == 'c1' and v[0][1][0] == 'x'), (415, guest + string('c9') + u32(0), Error(103, 'c9'), None),
            (442, guest + u32(0), '', []), (298, guest + u32(1), 'ip', lambda v: v[0] == 3 and v[1]['success'] == 1), (298, guest + u32(3), 'ip', lambda v: v[0] == 3), (298, guest + u32(0), 'ip', [0, {}]),
            (411, guest + string('<domaincheckpoint><name>c2</name></domaincheckpoint>') + u32(0), 'c', lambda v: v[0][0] == 'c2'),
            (412, c1 + u32(2), 's', lambda v: '<name>c1</name>' in v[0]), (413, guest + u32(1, 0), '[c]i', lambda v: [c[0][0] for c in v[0]] == ['c1', 'c2'] and v[1] == 2),
            (413, guest + u32(0, 1), '[c]i', [[], 1]), (414, c1 + u32(1, 0), '[c]i', lambda v: v[0][0][0][0] == 'c2'),
            (416, string('c2') + guest + u32(0), 'c', lambda v: v[0][0] == 'c1'), (416, c1 + u32(0), Error(103), None),
            (417, c1 + u32(1), '', []), (417, c1 + u32(0), Error(103), None), (413, guest + u32(1, 0), '[c]i', [[], 0]),
            (317, lambda: u32(self.callback), '', []), (317, lambda: u32(self.callback), Error(8), None), (2, b'', '', []),
        ]

    def guest_id(self):
        connection = rpc.Connection(self.daemon.socket).open()
        self.addCleanup(connection.close)
        return connection.call(rpc.LIBVIRT, rpc.BY_NAME, string('x')).domain()[2]

    def bytes_read(self):
        return self.qemu.qmp.execute('query-blockstats')[0]['stats']['rd_bytes']

    def keep(self, values):
        self.callback = values[0]
        return True

    def one(self, number, arguments, pattern, holds):
        arguments = arguments() if callable(arguments) else arguments
        if isinstance(pattern, Error):
            with self.assertRaises(rpc.WireError) as caught:
                self.connection.call(rpc.LIBVIRT, number, arguments)
            self.assertEqual(caught.exception.code, pattern.code, caught.exception)
            self.assertIn(pattern.words, caught.exception.message)
            return
        reader = self.connection.call(rpc.LIBVIRT, number, arguments)
        values = fields(pattern)(reader)
        reader.done()
        self.assertTrue(holds(values) if callable(holds) else values == holds, values)

    def test_every_procedure_answers_as_the_protocol_says(self):
        script = self.script()
        bed.wait_for('the firmware to read the disk', self.bytes_read)
        for row in script:
            with self.subTest(procedure=row[0], arguments=row[1]):
                self.one(*row)
        with open(os.path.join(bed.TOP, 'src/remote/table.c')) as f:
            known = {int(n) for n in re.findall(r'^    \{ (\d+), "', f.read(), re.M)}
        self.assertGreaterEqual(len(known), 58)
        self.assertEqual(known - {row[0] for row in script}, set(), 'a procedure without a line here')
        self.connection = rpc.Connection(self.daemon.socket).open()
        self.addCleanup(self.connection.close)
        for number in {*range(-1, 500), 1 << 30} - known:
            self.one(number, b'', Error(39, f'unknown procedure: {number}'), None)
        self.assert_nothing_left(self.qemu)

    def test_a_uuid_means_its_guest_whatever_had_its_name_before(self):
        self.connection.open()
        guest, state = string('x') + UUID + u32(-1), (212, 'ii', [1, 1])
        self.one(state[0], guest + u32(0), *state[1:])
        detach = lambda name: self.daemon.connect().call(rpc.BACKUP, 13, string(name) + u32(0))     # noqa: E731
        detach('x')
        self.one(212, guest + u32(0), Error(42, daemon.UUID), None)
        self.daemon.connect().attach('x', images=[('vda', self.make_image('other.qcow2'))])         # the name is another's now
        self.one(212, guest + u32(0), Error(42, daemon.UUID), None)
        self.daemon.attach('y', self.qemu, vda='virtio-disk0', vdb='virtio-disk1')
        self.one(212, guest + u32(0), *state[1:])
        self.one(24, UUID, 'd', lambda v: v[0][0] == 'y')
        detach('x')
        detach('y')
        self.assert_nothing_left(self.qemu)

    def test_a_read_only_connection_is_refused_every_change(self):
        """By the row, before the arguments are looked at."""
        with open(os.path.join(bed.TOP, 'src/remote/table.c')) as f:
            changing = re.findall(r'^    \{ (\d+), "(\w+)", (?:CHANGE|CALL_WRITE)', f.read(), re.M)
        self.assertEqual({int(number) for number, _ in changing}, {28, 34, 164, 237, 239, 240, 266, 290, 335, 336, 345, 349, 350, 411, 417, 421, 442, 443})
        self.connection.open(readonly=True)
        for number, name in changing:
            self.one(int(number), b'', Error(29, f'read only access prevents {name}'), None)
        guest = string('x') + UUID + u32(-1)
        self.one(14, guest + u32(1), Error(29, 'secure'), None)
        self.one(212, guest + u32(0), 'ii', [1, 1])


if __name__ == '__main__':
    bed.main()
