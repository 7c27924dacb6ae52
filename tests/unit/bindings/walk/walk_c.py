#!/usr/bin/env python3
"""Writes the program that walks the table of calls in C: walk_c.py PLAN > walk.c; then walk URI DIR."""
import json
import sys

with open(sys.argv[1]) as file:
    PLAN = json.load(file)

HEAD = r'''
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libbackup/libbackup.h>

static const char *the_uri, *the_dir;

static void put_text (const char *text)
{
    if (!text || !*text) {
        printf ("null");
        return;
    }
    putchar ('"');
    for (const unsigned char *c = (const unsigned char *) text; *c; c++)
        if (*c < 32 || *c == '"' || *c == '\\')
            printf ("\\u%04x", *c);
        else
            putchar (*c);
    putchar ('"');
}

static void put_owned (char *text)
{
    put_text (text);
    bak_free (text);
}

static void put_error (BakError *error)
{
    printf ("[%d, ", (int) bak_error_get_code (error));
    put_text (bak_error_get_message (error));
    putchar (']');
    bak_error_unref (error);
}

/* "$DIR" and "$URI" in it; lives to the end */
static const char *text (const char *from)
{
    char *to = calloc (1, strlen (from) * 64 + 65536), *at = to;
    while (*from) {
        const char *with = !strncmp (from, "$DIR", 4) ? the_dir : !strncmp (from, "$URI", 4) ? the_uri : NULL;
        if (with) {
            at = stpcpy (at, with);
            from += 4;
        } else {
            *at++ = *from++;
        }
    }
    return to;
}
'''


def literal(value, variables):
    if value is None:
        return 'NULL'
    if value[:1] == '$' and value[1:] in variables:
        return f'v_{value[1:]}'
    return 'text (' + json.dumps(value) + ')'


def put(kind, type_name, expression):
    return {'text': f'put_text ({expression});', 'owned-text': f'put_owned ({expression});', 'truth': f'printf ({expression} ? "true" : "false");',
            'number': f'printf ("%lld", (long long) {expression});', 'enum': f'printf ("%d", (int) {expression});'}.get(kind) or f'show_{type_name} ({expression});'


def show_struct(name, fields):
    print(f'static void show_{name} (const {name} *s)\n{{\n    printf ("{{");')
    for number, field in enumerate(fields):
        print(f'    printf ("{", " if number else ""}\\"{field["c"]}\\": ");')
        print('    ' + put('text' if field['text'] else 'number', None, f's->{field["c"]}'))
    print('    printf ("}");\n}\n')


def show_handle(name, rows):
    print(f'static void show_{name} (const {name} *h)\n{{\n    printf ("{{");')
    for number, row in enumerate(rows):
        print(f'    printf ("{", " if number else ""}\\"{row["key"]}\\": ");')
        handle = f'({name} *) h'
        if row['rule'] == 'items':
            print(f'    printf ("[");\n    for (unsigned int i = 0; i < {row["count"]} ({handle}); i++) {{\n        printf (i ? ", " : "");')
            print('        ' + put(row['result'], row['type'], f'{row["c"]} ({handle}, i)') + '\n    }\n    printf ("]");')
        elif row['result'] == 'lent':
            print(f'    printf ({row["c"]} ({handle}) ? "true" : "null");')
        elif row['struct']:
            print(f'    {{ BakError *e = NULL; {row["struct"]} s; if ({row["c"]} ({handle}, &s, &e) < 0) {{ printf ("{{\\"error\\": "); put_error (e); printf ("}}"); }} '
                  f'else show_{row["struct"]} (&s); }}')
        elif row['fails']:
            kind = {'text': 'const char *', 'owned-text': 'char *'}[row['result']]
            print(f'    {{ BakError *e = NULL; {kind} r = {row["c"]} ({handle}, &e); if (e) {{ printf ("{{\\"error\\": "); put_error (e); printf ("}}"); }} else {put(row["result"], None, "r")} }}')
        else:
            print('    ' + put(row['result'], row['type'], f'{row["c"]} ({handle})'))
    print('    printf ("}");\n}\n')


def step(row, variables, number):
    before, arguments, shows, given = [], [], [], {a['name']: a for a in row['args']}
    for entry in row['all']:
        kind, name, named = entry['kind'], entry['name'], entry['type']
        value = given.get(name, {}).get('value')
        if kind == 'self':
            arguments.append(f'v_{row["on"]}')
        elif kind == 'text':
            arguments.append(literal(value, variables))
        elif kind in ('number', 'enum'):
            arguments.append(f'{value or 0}')
        elif kind == 'handle':
            arguments.append(literal(value, variables))
        elif kind == 'texts':
            texts = ', '.join(literal(part, variables) for part in value or [])
            before.append(f'const char *a_{name}[] = {{ {texts + ", " if texts else ""}NULL }};')
            arguments.append(f'a_{name}')
        elif kind == 'numbers':
            before.append(f'const int a_{name}[] = {{ {", ".join(map(str, value or [0]))} }};')
            arguments.append(f'a_{name}')
        elif kind == 'length':
            arguments.append(f'{len(given[name[2:]]["value"] or [])}')
        elif kind == 'options':
            before += [f'{named} a_{name};', f'memset (&a_{name}, 0, sizeof a_{name});', f'a_{name}.size = sizeof a_{name};']
            for field in value or []:
                if field['kind'] == 'items':
                    rows = ', '.join('{ ' + ', '.join(literal(part, variables) for part in pair) + ' }' for pair in field['value'].items())
                    before += [f'{field["type"]} i_{field["name"]}[] = {{ {rows} }};', f'a_{name}.{field["name"]} = i_{field["name"]};', f'a_{name}.n_{field["name"]} = {len(field["value"])};']
                elif field['kind'] == 'texts':
                    before += [f'const char *i_{field["name"]}[] = {{ {", ".join(literal(part, variables) for part in field["value"])}, NULL }};', f'a_{name}.{field["name"]} = i_{field["name"]};']
                else:
                    plain = literal(field['value'], variables) if field['kind'] in ('text', 'handle') else field['value']
                    before.append(f'a_{name}.{field["name"]} = {plain};')
            arguments.append(f'&a_{name}')
        elif kind == 'list':
            before.append(f'{named} **list = NULL;')
            arguments.append('&list')
        elif kind == 'out-struct':
            before.append(f'{named} o_{name};')
            arguments.append(f'&o_{name}')
            shows.append(f'show_{named} (&o_{name});')
        elif kind == 'out-number':
            before.append(f'{"int" if named == "int" else named} o_{name} = 0;')
            arguments.append(f'&o_{name}')
            shows.append(f'printf ("%lld", (long long) o_{name});')
        elif kind == 'error':
            arguments.append('&error')
        else:
            arguments.append('NULL')
    call, result = f'{row["call"]} ({", ".join(arguments)})', row['result']
    handle = result in ('new', 'lent')
    types = {'owned-text': 'char *', 'text': 'const char *', 'new': f'{row["type"]} *', 'lent': f'{row["type"]} *', 'enum': 'int', 'number': 'long long', 'truth': 'int', 'status': 'int', 'list': 'int'}
    print(f'static void step_{number} (void)\n{{\n    BakError *error = NULL;')
    for line in before:
        print('    ' + line)
    print(f'    {call};' if result == 'nothing' else f'    {types[result]}r = {call};' if types[result][-1] == '*' else f'    {types[result]} r = {call};')
    if row['fails'] and result != 'nothing':     # one says what the other says
        print(f'    if ({"!r" if types[result][-1] == "*" else "r < 0"} ? !error : error != NULL) abort ();')
    elif result == 'status':
        print('    (void) r;')
    print(f'    printf ("{{\\"call\\": \\"{row["call"]}\\", ");\n    if (error) {{ printf ("\\"error\\": "); put_error (error); printf ("}}\\n"); return; }}\n    printf ("\\"result\\": ");')
    if result == 'list':
        named = next(a['type'] for a in row['all'] if a['kind'] == 'list')
        noun = next(n for n in UNREF if n[0] == named)[1]
        print(f'    printf ("[");\n    for (int i = 0; list[i]; i++) {{ printf (i ? ", " : ""); show_{named} (list[i]); {noun} (list[i]); }}\n    printf ("]");\n    bak_free (list);')
    elif result == 'number' and any(a['kind'] == 'out-struct' for a in row['all']):
        print(f'    if (r == 0) printf ("null"); else {shows[0]}')
    else:
        first = {'status': [], 'nothing': []}.get(result, [f'if (!r) printf ("null"); else show_{row["type"]} (r);'] if handle else [put('text' if result == 'owned-text' else result, row['type'], 'r')] if result not in ('status', 'nothing') else [])
        parts = first + shows
        print('    ' + ('printf ("null");' if not parts else parts[0] if len(parts) == 1 else 'printf ("["); ' + ' printf (", "); '.join(parts) + ' printf ("]");'))
    if row['save']:
        variables[row['save']] = True
        print(f'    v_{row["save"]} = r;')
    elif result == 'new':
        print(f'    {next(n for n in UNREF if n[0] == row["type"])[1]} (r);')
    elif result == 'owned-text':
        print('    bak_free (r);')
    print('    printf ("}\\n");\n}\n')


UNREF = PLAN['unref']
print(HEAD)
for name, fields in PLAN['structs'].items():
    show_struct(name, fields)
for name in PLAN['handles']:
    print(f'static void show_{name} (const {name} *h);')
for name, rows in PLAN['handles'].items():
    if name != 'BakEvent':
        print(f'void unused_{name} (void);\nvoid unused_{name} (void) {{ show_{name} (NULL); }}')
    show_handle(name, rows)
saved = {}
for row in PLAN['steps']:
    if row['save'] and row['save'] not in saved:
        saved[row['save']] = True
        print(f'static {"char" if row["result"] == "owned-text" else row["type"]} *v_{row["save"]};')
variables = {}
for number, row in enumerate(PLAN['steps']):
    step(row, variables, number)
print('int main (int argc, char **argv)\n{\n    (void) argc;\n    the_uri = argv[1];\n    the_dir = argv[2];\n    setvbuf (stdout, NULL, _IOLBF, 0);')
for number in range(len(PLAN['steps'])):
    print(f'    step_{number} ();')
print('    return 0;\n}')
