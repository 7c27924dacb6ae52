#!/usr/bin/python3
"""A client that lives as long as its stdin: passer.py URI. Each line is a Python expression (or statement) on `conn` and `guest`
('g' of it); each answer one line of JSON: {"is": value} or {"code": name of the error, "says": its text}."""
import json
import os
import socket
import sys

import libbackup

scope = {'conn': libbackup.Connection(sys.argv[1]), 'os': os, 'socket': socket, 'libbackup': libbackup}


def listen(path=None, host='127.0.0.1', kind=socket.SOCK_STREAM, backlog=8):
    made = socket.socket(socket.AF_UNIX if path else socket.AF_INET6 if ':' in host else socket.AF_INET, kind)
    made.bind(path or (host, 0))
    if backlog and kind == socket.SOCK_STREAM:
        made.listen(backlog)
    return made


def kind_of(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__


scope.update(listen=listen, kind_of=kind_of)
print(json.dumps({'is': 'open'}), flush=True)
for line in sys.stdin:
    try:
        if 'guest' in line and 'guest' not in scope:
            scope['guest'] = scope['conn'].lookup_by_name('g')
        try:
            code = compile(line.strip(), 'line', 'eval')
        except SyntaxError:
            exec(line, scope)
            answer = {'is': None}
        else:
            answer = {'is': eval(code, scope)}
    except libbackup.Error as error:
        answer = {'code': error.code.name, 'says': str(error)}
    print(json.dumps(answer, default=str), flush=True)
