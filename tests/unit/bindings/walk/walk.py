#!/usr/bin/env python3
"""Walks the table of calls in Python: walk.py PLAN URI DIR. A line of JSON a step."""
import enum
import json
import sys

import libbackup

with open(sys.argv[1]) as file:
    PLAN = json.load(file)
URI, DIR = sys.argv[2:4]
variables = {}


def value_of(value):
    if isinstance(value, str) and value[:1] == '$' and value[1:] in variables:
        return variables[value[1:]]
    if isinstance(value, str):
        return value.replace('$DIR', DIR).replace('$URI', URI)
    if isinstance(value, list):
        return [value_of(part) for part in value]
    return {key: value_of(part) for key, part in value.items()} if isinstance(value, dict) else value


def getter(handle, row):
    try:
        return show(getattr(handle, row['python']), row)
    except libbackup.Error as error:
        return {'error': [int(error.code), str(error)]}


def show(thing, row=None):
    if isinstance(thing, libbackup._base.Handle):
        if row and row['rule'] == 'property':
            return True
        return {row['key']: getter(thing, row) for row in PLAN['handles'][f'Bak{type(thing).__name__}']}
    if hasattr(thing, '_fields'):
        return {row['c']: show(getattr(thing, row['python'])) for row in PLAN['structs'][f'Bak{type(thing).__name__}']}
    if isinstance(thing, (list, tuple)):
        return [show(part) for part in thing]
    return int(thing) if isinstance(thing, enum.Enum) else None if thing == '' else thing


def run(step):
    owner = variables[step['on']] if step['on'] else getattr(libbackup, step['of'][3:]) if step['rule'] == 'constructor' else libbackup
    if step['rule'] in ('property', 'items'):
        return getattr(owner, step['python'])
    positional, keywords = [], {}
    for argument in step['args']:
        value = value_of(argument['value'])
        if argument['kind'] == 'options':
            keywords.update({field['python']: value_of(field['value']) for field in argument['value'] or []})
        else:
            positional.append(value if value is not None or argument['kind'] not in ('number', 'enum', 'texts', 'numbers') else [] if argument['kind'] in ('texts', 'numbers') else 0)
    return getattr(owner, step['python'])(*positional, **keywords)


for step in PLAN['steps']:
    line = {'call': step['call']}
    try:
        result = run(step)
        if step['save']:
            variables[step['save']] = result
        line['result'] = show(result)
    except libbackup.Error as error:
        line['error'] = [int(error.code), str(error)]
    print(json.dumps(line), flush=True)
