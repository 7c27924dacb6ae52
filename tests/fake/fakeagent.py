#!/usr/bin/env python3
"""A guest agent that is none. One client after another, like the chardev of a guest; what the guest does outlives its clients.

usage: fakeagent.py (--socket PATH | --listen-fd N) [--fault NAME]... [--record FILE]

--record FILE   a line a command; after a line "frozen" or "thawed" the guest is so

faults: absent          nothing is ever answered, as when no agent runs in the guest
        stale           replies to an earlier client's commands come first, an old sync among them
        garbage         bytes that are no JSON come before the first sync is answered
        freeze-fails    the guest refuses to freeze (nothing is frozen)
        freeze-hangs    freeze is answered only after 1 s; commands meanwhile wait, as in the real agent
        freeze-eof      the connection breaks in the middle of freeze; the guest is frozen
        freeze-dies     the agent is gone in the middle of it: nobody listens any more; the guest is frozen
        freeze-text     the reply to freeze is not a number
        freeze-huge     the reply to freeze never ends
        thaw-hangs-once the first thaw is not answered (but done)
        thaw-fails      thaw is refused and the guest stays frozen
        thaw-refused-when-thawed    thaw is refused because nothing is frozen
        begins-frozen   it was started again in a guest that an earlier agent had frozen
        thaw-fewer      one file system has thawed itself
        control         an error text full of control characters
"""
import argparse
import json
import socket
import sys
import time

FILE_SYSTEMS = 2


class Agent:
    def __init__(self, options):
        self.faults = set(options.fault)
        self.record = options.record and open(options.record, 'a', buffering=1)
        self.frozen = 'begins-frozen' in self.faults
        self.thaws = 0

    def note(self, text):
        if self.record:
            self.record.write(text + '\n')

    def set_frozen(self, frozen):
        self.frozen = frozen
        self.note('frozen' if frozen else 'thawed')

    def serve(self, client):
        if 'stale' in self.faults:
            client.sendall(b'{"return": 2}\n\xff{"return": 1}\n{"return": "thawed"}\n')
        if 'garbage' in self.faults:
            client.sendall(b'\x00}}]]"hello\xff\xff{"return"\xff[]\xff{}')
        decoder, text = json.JSONDecoder(), ''
        while True:
            data = client.recv(4096)
            if not data:
                return
            if 'absent' in self.faults:
                continue
            text = (text + data.decode('latin-1')).lstrip()
            while text:
                if text[0] == '\xff':
                    text = text[1:].lstrip()
                    continue
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                if not self.perform(client, message):
                    return

    def perform(self, client, message):
        command = message['execute']
        if not command.startswith('guest-sync'):
            self.note(command)
        method = getattr(self, command.replace('-', '_'), None)
        answer = method(message.get('arguments', {})) if method else self.error('CommandNotFound', f'The command {command} has not been found')
        if isinstance(answer, bytes):
            client.sendall(answer)
        elif answer is None:
            return False
        elif answer != 'nothing':
            client.sendall(json.dumps(answer).encode() + b'\n')
        return True

    def error(self, kind, text):
        return {'error': {'class': kind, 'desc': text}}

    def guest_sync_delimited(self, arguments):
        return b'\xff' + json.dumps({'return': arguments['id']}).encode() + b'\n'

    def guest_sync(self, arguments):
        return {'return': arguments['id']}

    def guest_fsfreeze_freeze(self, arguments):
        if 'freeze-fails' in self.faults:
            return self.error('GenericError', 'failed to freeze /: Device or resource busy')
        if 'control' in self.faults:
            return self.error('\033]0;x\007', 'bad\033[2J\r\n%s%n')
        if 'freeze-hangs' in self.faults:
            time.sleep(1)
        self.set_frozen(True)
        if 'freeze-eof' in self.faults:
            return None
        if 'freeze-dies' in self.faults:
            raise SystemExit
        if 'freeze-text' in self.faults:
            return {'return': 'many'}
        if 'freeze-huge' in self.faults:
            return b'{"return": [' + b'0,' * 1000000
        return {'return': len(arguments.get('mountpoints', [])) or FILE_SYSTEMS}

    guest_fsfreeze_freeze_list = guest_fsfreeze_freeze

    def guest_fsfreeze_thaw(self, arguments):
        self.thaws += 1
        if 'thaw-fails' in self.faults:
            return self.error('GenericError', 'failed to thaw')
        if 'thaw-refused-when-thawed' in self.faults and not self.frozen:
            return self.error('GenericError', 'nothing is frozen')
        count = FILE_SYSTEMS if self.frozen else 0
        self.set_frozen(False)
        if 'thaw-hangs-once' in self.faults and self.thaws == 1:
            return 'nothing'
        return {'return': count - ('thaw-fewer' in self.faults)}

    def guest_fsfreeze_status(self, arguments):
        return {'return': 'frozen' if self.frozen else 'thawed'}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--socket')
    where.add_argument('--listen-fd', type=int)
    parser.add_argument('--fault', action='append', default=[])
    parser.add_argument('--record')
    options = parser.parse_args()
    if options.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(options.socket)
        listener.listen(1)
    else:
        listener = socket.socket(fileno=options.listen_fd)
    print('ready', flush=True)
    agent = Agent(options)
    while True:
        client, _ = listener.accept()
        with client:
            try:
                agent.serve(client)
            except OSError:
                pass


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
