#!/usr/bin/env python3
"""Every function that the library exports follows a rule of the bindings, or stands in the short list by hand."""
import json
import re
import sys

api = json.load(open(sys.argv[1]))
mapped = set(re.findall(r'\b(bak_\w+);', open(sys.argv[2]).read()))
functions, by_hand = api['functions'], set(api['by_hand'])
failures = [f'{name}: {why}: write it by the rules of bindings/api.py, or add a rule there' for name, why in api['unknown'].items()]


def check(ok, message):
    if not ok:
        failures.append(message)


check(len(mapped) > 180, f'only {len(mapped)} functions in the map')
check(set(functions) == mapped, f'not in both, the map and api.json: {sorted(set(functions) ^ mapped)}')
check(by_hand <= mapped, f'by hand and not there: {sorted(by_hand - mapped)}')
check(len(by_hand) <= 5, 'the list by hand grows; it wants a rule')
for name, function in functions.items():
    rule = function.get('rule')
    check((rule == 'hand') == (name in by_hand), f'{name}: by hand or not?')
    check(rule in ('hand', 'count', 'constructor', 'function', 'method', 'property', 'items', 'unknown'), f'{name}: rule {rule}')
    check(function['doc'] and function['since'], f'{name}: no documentation')
    for argument in function['args']:
        check(argument['doc'], f'{name}: {argument["name"]} is not documented')
places = [(f.get('of'), f['method']) for f in functions.values() if f.get('method')]
for place in places:
    check(places.count(place) == 1, f'two functions are {place}')
for name, enum in api['enums'].items():
    check(all(re.match(r'[A-Z]\w*$', value['short']) for value in enum['values']), f'{name}: names of values')

# what the rules read, at one place of each kind
for name, key, want in (
        ('bak_connection_open', 'rule', 'constructor'), ('bak_domain_lookup_by_name', 'of', 'BakConnection'),
        ('bak_domain_lookup_by_name', 'method', 'lookup_by_name'), ('bak_domain_backup_begin', 'result', 'status'),
        ('bak_domain_fs_freeze', 'result', 'number'), ('bak_domain_checkpoint_get_domain', 'result', 'lent'),
        ('bak_domain_backup_list', 'result', 'list'), ('bak_job_get_disk', 'method', 'disks'), ('bak_job_is_partial', 'result', 'truth')):
    check(functions[name].get(key) == want, f'{name}: {key} is {functions[name].get(key)}, not {want}')
optional = {a['name'] for a in functions['bak_domain_backup_begin']['args'] if a['optional'] and a['kind'] != 'error'}
check(optional == {'checkpoint_xml', 'flags'}, f'bak_domain_backup_begin: optional are {optional}')

print('\n'.join(failures) or f'{len(mapped)} functions, {len(by_hand)} by hand')
sys.exit(1 if failures else 0)
