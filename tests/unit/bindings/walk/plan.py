"""tests/data/calls.json, made ready for those who walk it: which function of which language a step is, and how what comes back is shown.

A step has "call" (the function of C), "on" (the variable that it is called on), "args" by C's names (what is missing is NULL, 0 or none),
"save" (a variable for the result). "$DIR" in a text is the folder of the run, a text that is "$name" a variable. What is shown of a handle are
all its getters; an absent text and an empty one are null, as Go has no difference.
"""
import importlib.util
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[4]


def generator(language):
    spec = importlib.util.spec_from_file_location(language, ROOT / f'bindings/{language}/generate.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GO, PYTHON = generator('go'), generator('python')
GIVEN = {'text', 'texts', 'number', 'numbers', 'enum', 'handle', 'options'}


def go_name(name, function):
    short = GO.camel(function['method'])
    return GO.type_name(function['of']) + short if function['rule'] == 'constructor' and function['of'] != 'BakConnection' else short


def getters(api, handle):
    found = []
    for name, function in api['functions'].items():
        if function.get('of') != handle or function['rule'] not in ('property', 'items'):
            continue
        outs = [a for a in function['args'] if a['kind'].startswith('out-')]
        found.append({'c': name, 'key': function['method'], 'python': PYTHON.safe(function['method']), 'go': go_name(name, function), 'rule': function['rule'],
                      'result': function['result'], 'type': GO.base(function['type']), 'fails': function['fails'], 'count': function.get('count'),
                      'struct': GO.base(outs[0]['type']) if outs else None})
    return found


def option(field, value):
    return {'name': field['name'], 'kind': field['kind'], 'python': PYTHON.safe(field['name']), 'go': GO.camel(field['name']), 'type': GO.base(field['type']), 'value': value}


def argument(api, entry, value):
    kind, named = entry['kind'], GO.base(entry['type'])
    made = {'name': entry['name'], 'kind': kind, 'type': named, 'value': value}
    if kind == 'options' and value is not None:
        fields = {field['name']: field for field in api['structs'][named]['fields']}
        made['value'] = [option(fields[name], part) for name, part in value.items()]
    return made


def step(api, row):
    function = api['functions'][row['call']]
    given = [a for a in function['args'] if a['kind'] in GIVEN]
    wrong = set(row.get('args', {})) - {a['name'] for a in given}
    assert not wrong, (row['call'], wrong)
    return {'call': row['call'], 'on': row.get('on'), 'save': row.get('save'), 'python': PYTHON.safe(function['method']), 'go': go_name(row['call'], function),
            'rule': function['rule'], 'of': function.get('of'), 'result': function['result'], 'type': GO.base(function['type']), 'fails': function['fails'],
            'args': [argument(api, a, row.get('args', {}).get(a['name'])) for a in given],
            'all': [{'name': a['name'], 'kind': a['kind'], 'type': GO.base(a['type'])} for a in function['args']]}


def make(api, rows):
    structs = {name: [{'c': f['name'], 'python': PYTHON.safe(f['name']), 'go': GO.camel(f['name']), 'text': f['type'] == 'const char *'} for f in s['fields'] if f['kind'] != 'size']
               for name, s in api['structs'].items() if s['use'] == 'result' and name != 'BakTypedParameter'}
    return {'steps': [step(api, row) for row in rows], 'handles': {name: getters(api, name) for name in api['handles'] if name != 'BakError'}, 'structs': structs}


def read(api_json):
    api = json.loads(pathlib.Path(api_json).read_text())
    return api, json.loads((ROOT / 'tests/data/calls.json').read_text())
