"""VMA archives for tests, by the published layout and by nothing of the library's: a maker of good and of broken ones, and a strict
reader. Numbers are big-endian, but for the lengths of blobs."""
import hashlib
import random
import struct

BLOCK, CLUSTER, SLOTS, FIXED = 4096, 65536, 59, 12288
UUID = bytes.fromhex('00112233445566778899aabbccddeeff')
# what a reader has to refuse; each is one fault in an archive that is otherwise good
FAULTS = ('head-md5', 'extent-md5', 'uuid', 'magic', 'duplicate', 'missing', 'beyond', 'count-high', 'count-low', 'short', 'short-extent',
          'reserved', 'device', 'version', 'name')


def sealed(head, place):
    """With the MD5 of itself, in which its own place is zero."""
    head = bytearray(head)
    head[place:place + 16] = bytes(16)
    head[place:place + 16] = hashlib.md5(head).digest()
    return head


def make_header(configs, disks, fault, time):
    area, head = bytearray(1), bytearray(FIXED)

    def blob(data):
        place = len(area)
        area.extend(struct.pack('<H', len(data)) + data)
        return place
    for i, (name, data) in enumerate(configs):
        prefix = '../' if fault == 'name' else ''
        struct.pack_into('>I', head, 2044 + 4 * i, blob(f'{prefix}{name}'.encode() + b'\0'))
        struct.pack_into('>I', head, 3068 + 4 * i, blob(data))
    for number, (name, data) in enumerate(disks, 1):
        struct.pack_into('>IIQ', head, 4096 + 32 * number, blob(name.encode() + b'\0'), 0, len(data))
    length = -(-(FIXED + len(area)) // 512) * 512
    struct.pack_into('>4sI16sq', head, 0, b'VMA\0', 2 if fault == 'version' else 1, UUID, time)
    struct.pack_into('>III', head, 48, FIXED, len(area), length)
    if fault == 'reserved':
        head[100] = 1
    whole = sealed((head + area).ljust(length, b'\0'), 32)
    if fault == 'head-md5':
        whole[40] ^= 1
    return bytes(whole)


def make_extent(disks, clusters, fault):
    """fault: only of the last extent."""
    slots, body = b'', b''
    for place, (number, cluster) in enumerate(clusters):
        mask = 0
        for bit, at in enumerate(range(cluster * CLUSTER, (cluster + 1) * CLUSTER, BLOCK)):
            block = disks[number - 1][1][at:at + BLOCK]
            if block.strip(b'\0'):
                mask |= 1 << bit
                body += block.ljust(BLOCK, b'\0')
        last = place == len(clusters) - 1
        slots += struct.pack('>HBBI', mask, 0, number + 7 * (last and fault == 'device'), cluster + (last and fault == 'beyond'))
    count = len(body) // BLOCK + (fault == 'count-high') - (fault == 'count-low')
    head = struct.pack('>4sHH16s16s', b'VMAX' if fault == 'magic' else b'VMAE', 0, count, bytes(16) if fault == 'uuid' else UUID, bytes(16))
    head = sealed(head + slots.ljust(SLOTS * 8, b'\0'), 24)
    if fault == 'extent-md5':
        head[30] ^= 1
    return bytes(head) + body


def make(disks, configs=(), fault=None, seed=None, fill=SLOTS, time=1600000000):
    """disks: (name, bytes). seed: clusters in this random order, else by address. fill: clusters an extent."""
    order = [(number, cluster) for number, (_, data) in enumerate(disks, 1) for cluster in range(-(-len(data) // CLUSTER))]
    if seed is not None:
        random.Random(seed).shuffle(order)
    if fault == 'duplicate':
        order.append(order[0])
    if fault == 'missing':
        del order[len(order) // 2]
    cut = [order[i:i + fill] for i in range(0, len(order), fill)] or [[]]
    parts = [make_extent(disks, clusters, fault if i == len(cut) - 1 else None) for i, clusters in enumerate(cut)]
    if fault == 'short-extent':
        parts.pop()
    archive = make_header(configs, disks, fault, time) + b''.join(parts)
    return archive[:-1000] if fault == 'short' else archive


class Bad(Exception):
    pass


def want(condition, what):
    if not condition:
        raise Bad(what)


def read(archive):
    """(uuid, time, {configuration: bytes}, {disk: bytes}); Bad unless it is whole and right in every byte that has a meaning."""
    want(len(archive) > FIXED and archive[:8] == b'VMA\0\0\0\0\1', 'magic or version')
    uuid, time = archive[8:24], struct.unpack_from('>q', archive, 24)[0]
    place, used, length = struct.unpack_from('>III', archive, 48)
    want(place == FIXED and length % 512 == 0 and FIXED < length <= len(archive) and used <= length - FIXED, 'sizes of the header')
    want(sealed(archive[:length], 32) == archive[:length], 'MD5 of the header')
    want(not any(archive[60:2044]) and not any(archive[4092:4096]) and not any(archive[FIXED + used:length]), 'reserved bytes')

    def blob(at):
        want(0 < at < used - 1, 'place of a blob')
        size = struct.unpack_from('<H', archive, FIXED + at)[0]
        want(at + 2 + size <= used, 'length of a blob')
        return archive[FIXED + at + 2:FIXED + at + 2 + size]

    def text(at):
        data = blob(at)
        want(data[-1:] == b'\0' and data.count(b'\0') == 1 and b'/' not in data and data not in (b'\0', b'.\0', b'..\0'), f'name {data}')
        return data[:-1].decode()
    names, datas = struct.unpack_from('>256I', archive, 2044), struct.unpack_from('>256I', archive, 3068)
    configs = {text(n): blob(d) for n, d in zip(names, datas) if n or d}
    disks, called = {}, {}
    for number in range(256):
        name, zero, size, more = struct.unpack_from('>IIQ16s', archive, 4096 + 32 * number)
        if name or size:
            want(1 <= number <= 254 and not zero and not any(more) and size and size % 512 == 0, f'device {number}')
            called[number], disks[number] = text(name), bytearray(size)
    left = {(number, cluster) for number, data in disks.items() for cluster in range(-(-len(data) // CLUSTER))}
    at = length
    while at < len(archive):
        head = archive[at:at + 512]
        want(len(head) == 512 and head[:6] == b'VMAE\0\0' and head[8:24] == uuid and sealed(head, 24) == head, f'extent at {at}')
        count, at, blocks = struct.unpack_from('>H', head, 6)[0], at + 512, 0
        for slot in range(SLOTS):
            mask, zero, number, cluster = struct.unpack_from('>HBBI', head, 40 + 8 * slot)
            if number == 0:
                want(not mask and not zero and not cluster, 'empty slot')
                continue
            want(not zero and (number, cluster) in left, f'cluster {cluster} of device {number}')
            left.remove((number, cluster))
            for bit in range(16):
                if mask & 1 << bit:
                    start, block = cluster * CLUSTER + bit * BLOCK, archive[at:at + BLOCK]
                    want(start < len(disks[number]) and len(block) == BLOCK, 'block')
                    inside = min(BLOCK, len(disks[number]) - start)
                    want(not any(block[inside:]) and any(block), 'padding, or zeros that are stored')
                    disks[number][start:start + inside] = block[:inside]
                    at, blocks = at + BLOCK, blocks + 1
        want(blocks == count, 'number of blocks')
    want(not left, f'{len(left)} clusters are missing')
    return uuid, time, configs, {called[number]: bytes(data) for number, data in disks.items()}
