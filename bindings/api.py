#!/usr/bin/env python3
"""Read the public headers and say what each function means, for every language: api.py HEADERDIR VERSION > api.json.

The headers follow rules (the first page of libbackup.h); this script is those rules, and nothing in it knows a function by name but
BY_HAND and NOT_A_PROPERTY. A function that no rule takes in is reported: the test "every public function has a binding" then fails.

  last parameter `BakError **error`     the call can fail: raise or return it
  `char *` returned                     the caller's text (bak_free)          "owned-text"
  `const char *` returned               borrowed text                         "text"
  handle returned, with `error`         a new reference                       "new"
  handle returned, without `error`      lent: take a reference or keep the owner   "lent"
  `BakX ***xs`                          a list is the result                  "list"
  `int *x`, `BakStruct *x`, `char **x`  a further result                      "out-number" "out-struct" "out-text"
  `const char **xs, unsigned n_xs`      a list of texts                       "texts"
  `unsigned n_xs, const int *xs`        a list of numbers                     "numbers"
  struct whose first field is `size`    options                               "options"
  a callback, its opaque and, if there is one, what frees that                "callback"
  "NULL" in the parameter's comment     it may be left out
  `flags`                               may be left out
"""
import json
import os
import pathlib
import re
import sys

# What belongs to memory and to the typed parameters of libvirt: each language has its own form of these.
BY_HAND = {'bak_free', 'bak_domain_get_job_stats', 'bak_typed_params_free', 'bak_typed_params_get'}
# To ask for these changes something.
NOT_A_PROPERTY = {'bak_connection_get_fd'}

NUMBERS = ('unsigned long long', 'unsigned long', 'unsigned int', 'unsigned short', 'unsigned char', 'unsigned', 'long long', 'long', 'size_t',
           'int', 'double', 'char')
DOC = r'/\*\*(?P<doc>(?:(?!\*/).)*)\*/\n'


def one_line(text):
    return ' '.join(text.split())


def snake(name):
    return re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()


def parse_doc(text):
    """The parts of a doc comment: what it is about, each @argument, the text, what is returned, since when."""
    lines = [re.sub(r'^ \* ?', '', line) for line in (text or '').strip('\n').split('\n')]
    about, arguments, body, returns, since, last = None, {}, [], [], None, None
    for line in lines:
        if about is None:
            if line.strip():
                about = line.strip().rstrip(':')
        elif match := re.match(r'@(\w+): (.*)', line):
            last = match[1]
            arguments[last] = match[2]
        elif match := re.match(r'Since: (\S+)', line):
            since, last = match[1], None
        elif match := re.match(r'Returns: (.*)', line):
            returns, last = [match[1]], 'Returns'
        elif not line.strip():
            last = None
            body.append('')
        elif last == 'Returns':
            returns.append(line)
        elif last:
            arguments[last] += ' ' + line
        else:
            body.append(line)
    return {'about': about, 'arguments': {name: one_line(text) for name, text in arguments.items()},
            'doc': re.sub(r'\n{2,}', '\n\n', '\n'.join(body)).strip(), 'returns': one_line(' '.join(returns)), 'since': since}


def split_type(text):
    """'const char **mountpoints' -> ('const char **', 'mountpoints')"""
    match = re.match(r'(.*?)(\w+)(\[\w+\])?$', text.strip(), re.S)
    kind = one_line(match[1]) + (match[3] or '')
    return re.sub(r'\s*(\*+)$', r' \1', kind), match[2]


def commented(body, end):
    """Each declaration up to `end`, with its comment: on the lines before it, or behind it on the same line."""
    found, before = [], ''
    for match in re.finditer(r'/\*(?P<comment>.*?)\*/|(?P<text>[^\s/%s][^/%s]*)' % (end, end), body, re.S):
        if match['text']:
            found.append([one_line(match['text']), before])
            before = ''
        elif body[:match.start()].rpartition('\n')[2].strip():
            found[-1][1] = one_line(match['comment'])
        else:
            before = one_line(match['comment'])
    return found


def shorten(enum, names):
    """The names of an enumeration without what they all begin with."""
    names = names + ([re.sub(r'(?<!^)(?=[A-Z][a-z])', '_', enum).upper()] if len(names) == 1 else [])
    common = os.path.commonprefix(names)
    return common[:common.rindex('_') + 1]


class Headers:
    def __init__(self, folder):
        self.texts = {path.name: path.read_text() for path in sorted(pathlib.Path(folder).glob('*.h'))}
        self.handles, self.enums, self.structs, self.callbacks, self.constants, self.functions = {}, {}, {}, {}, {}, {}
        for header, text in self.texts.items():
            self.read_types(header, text)
        for header, text in self.texts.items():
            self.read_functions(header, text)

    def each(self, text, pattern):
        for match in re.finditer(f'(?:{DOC})?^{pattern}', text, re.M | re.S):
            doc = parse_doc(match['doc'])
            yield match, {'doc': doc['doc'], 'since': doc['since']}, doc

    def read_types(self, header, text):
        for match, entry, _ in self.each(text, r'typedef struct (\w+) (?P<name>\w+);'):
            self.handles[match['name']] = {**entry, 'header': header, 'noun': snake(match['name'][3:])}
        for match, entry, _ in self.each(text, r'typedef enum \{(?P<body>[^{}]*)\} (?P<name>\w+);'):
            values = list(self.members(match['body']))
            prefix = shorten(match['name'], [value['name'] for value in values])
            for value in values:
                value['short'] = value['name'][len(prefix):]
            self.enums[match['name']] = {**entry, 'header': header, 'values': values}
        for match, entry, _ in self.each(text, r'typedef struct \{(?P<body>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\} (?P<name>\w+);'):
            self.structs[match['name']] = {**entry, 'header': header, 'fields': list(self.fields(match['body']))}
        for match, entry, doc in self.each(text, r'typedef (?P<type>[\w ]+?\**) ?\(\*(?P<name>\w+)\) \((?P<args>[^;]*)\);'):
            self.callbacks[match['name']] = {**entry, 'header': header, 'type': one_line(match['type']), 'returns': doc['returns'],
                                             'args': self.arguments(match['args'], doc)}
        for match, entry, _ in self.each(text, r'#define (?P<name>BAK_\w+) (?P<value>\S[^\n]*)'):
            value = match['value'].strip()
            self.constants[match['name']] = {**entry, 'header': header, 'value': value.strip('"') if value.startswith('"') else int(value, 0)}

    def members(self, body):
        following = 0
        for text, comment in commented(body, ','):
            name, _, value = (part.strip() for part in text.partition('='))
            number = eval(value, {'__builtins__': {}}) if value else following     # numbers and shifts
            following = number + 1
            yield {'name': name, 'value': number, 'doc': comment}

    def fields(self, body):
        for text, comment in commented(re.sub(r'union \{.*?\} (\w+);', r'union \1;', body, flags=re.S), ';'):
            kind, name = split_type(text)
            yield {'name': name, 'type': kind.strip(), 'doc': comment}

    def arguments(self, text, doc):
        found = []
        for piece in [] if text.strip() == 'void' else text.split(','):
            kind, name = split_type(piece)
            comment = doc['arguments'].get(name, '')
            found.append({'name': name, 'type': kind, 'doc': comment, 'optional': bool(re.search(r'\bNULL\b', comment))})
        return found

    def read_functions(self, header, text):
        for match, entry, doc in self.each(text, r'(?P<type>[A-Za-z][^;{}#\n()]*?)\b(?P<name>bak_\w+) \((?P<args>[^;{}]*)\);'):
            if match['type'].startswith('typedef'):
                continue
            self.functions[match['name']] = {**entry, 'header': header, 'type': re.sub(r'\s*(\*+)$', r' \1', one_line(match['type'])),
                                             'returns': doc['returns'], 'args': self.arguments(match['args'], doc)}


class Rules:
    """Gives every function its place: class, name, kinds of arguments and result."""

    def __init__(self, headers):
        self.h = headers
        for name, handle in headers.handles.items():
            for function in headers.functions:
                if match := re.match(r'bak_(\w+)_unref$', function):
                    if headers.functions[function]['args'][0]['type'] == f'{name} *':
                        handle.update(noun=match[1], ref=f'bak_{match[1]}_ref', unref=function)
        self.unknown = {}
        for name, callback in headers.callbacks.items():
            for argument in self.kinds_of(callback['args'], name):
                if argument['kind'] == 'options':
                    argument['kind'] = 'struct'     # handed to the caller
        self.structs()
        for name, function in headers.functions.items():
            self.place(name, function)
        for name, function in headers.functions.items():
            self.join_lists(name, function)
        for name in self.unknown:
            headers.functions.get(name, {})['rule'] = 'unknown'

    def base(self, kind):
        return kind.replace('const ', '').replace('*', '').strip()

    def kind_of(self, argument, following):
        kind, base, stars = argument['type'], self.base(argument['type']), argument['type'].count('*')
        if argument['name'] == 'error' and kind == 'BakError **':
            return 'error'
        if kind in ('void *',) and argument['name'] == 'opaque':
            return 'opaque'
        if base in self.h.callbacks:
            return 'free' if base == 'BakFreeCallback' else 'callback'
        if kind == 'const char *':
            return 'text'
        if kind in ('const char **', 'const char *const *') and following and following['name'] == f'n_{argument["name"]}':
            return 'texts'
        if argument['name'].startswith('n_') and following and following['name'] == argument['name'][2:] and following['type'] == 'const int *':
            return 'length'
        if kind == 'const int *':
            return 'numbers'
        if kind == 'char **':
            return 'out-text'
        if base in self.h.handles:
            return {1: 'handle', 2: 'out-handle', 3: 'list'}.get(stars)
        if base in self.h.structs and stars == 1:
            if kind.startswith('const'):
                return 'options' if self.h.structs[base]['fields'][0]['name'] == 'size' else None
            return 'out-struct'
        if base in self.h.enums:
            return 'enum' if stars == 0 else 'out-number'
        if base in NUMBERS:
            return 'number' if stars == 0 else 'out-number' if stars == 1 else None
        return None

    def structs(self):
        """Tells options from results, and what each field of options is."""
        told = {self.base(a['type']) for c in self.h.callbacks.values() for a in c['args'] if a['kind'] == 'struct'}
        for name, struct in self.h.structs.items():
            fields = struct['fields']
            struct['use'] = 'options' if fields[0]['name'] == 'size' and name not in told else 'result'
            lengths = {f'n_{field["name"]}' for field in fields}
            for field in fields:
                field['kind'] = 'length' if field['name'] in lengths else self.field_kind(field)
                if field['kind'] is None and struct['use'] == 'options':
                    self.unknown[name] = f'no rule for the field "{field["type"]} {field["name"]}"'
        for struct in [s for s in self.h.structs.values() if s['use'] == 'options']:
            for field in struct['fields']:
                if field['kind'] == 'items':
                    self.h.structs[self.base(field['type'])]['use'] = 'item'

    def field_kind(self, field):
        kind, base = field['type'], self.base(field['type'])
        if field['name'] == 'size':
            return 'size'
        if kind in ('const char *const *', 'const char **'):
            return 'texts'      # NULL-terminated
        if base in self.h.structs and kind == f'const {base} *':
            return 'items'
        plain = self.kind_of(field, None)
        return plain if plain in ('text', 'number', 'enum', 'handle', 'callback', 'opaque', 'free') else None

    def kinds_of(self, arguments, where):
        for number, argument in enumerate(arguments):
            following = arguments[number + 1] if number + 1 < len(arguments) else None
            before = arguments[number - 1] if number else None
            if before and before.get('kind') == 'texts':
                argument['kind'] = 'length'
                continue
            kind = self.kind_of(argument, following)
            if kind is None and where not in BY_HAND:
                self.unknown[where] = f'no rule for the argument "{argument["type"]} {argument["name"]}"'
            argument['kind'] = kind
            if argument['name'] == 'flags' or kind in ('opaque', 'free'):
                argument['optional'] = True
        return arguments

    def result_of(self, name, function):
        kind, base, kinds = function['type'], self.base(function['type']), [a['kind'] for a in function['args']]
        if 'list' in kinds:
            return 'list'
        if kind == 'void':
            return 'nothing'
        if kind == 'char *':
            return 'owned-text'
        if kind == 'const char *':
            return 'text'
        if base in self.h.handles and '*' in kind:
            return 'new' if 'error' in kinds or function['args'] == [] or name.endswith(('_new', '_ref')) else 'lent'
        if base in self.h.enums:
            return 'enum'
        if kind == 'int' and 'error' in kinds and re.match(r'0\b', function['returns']):
            return 'status'
        if kind == 'int' and re.search(r'_(is|has)_', name):
            return 'truth'
        if kind in NUMBERS:
            return 'number'
        self.unknown[name] = f'no rule for the result "{kind}"'
        return None

    def place(self, name, function):
        if name in BY_HAND:
            function['rule'] = 'hand'
            for argument in function['args']:
                argument['kind'] = None
            return
        self.kinds_of(function['args'], name)
        function['fails'] = any(a['kind'] == 'error' for a in function['args'])
        function['result'] = self.result_of(name, function)
        owner = next((h for h in self.h.handles.values() if name in (h.get('ref'), h.get('unref'))), None)
        if owner:
            function['rule'] = 'count'
            return
        first = function['args'][0] if function['args'] else None
        of = self.base(first['type']) if first and first['kind'] == 'handle' else None
        if of:
            self.method(name, function, of)
        elif function['result'] == 'new':
            function.update(rule='constructor', of=self.base(function['type']))
            function['method'] = self.strip(name, function['of'])
        else:
            function.update(rule='function', method=name[len('bak_'):])

    def strip(self, name, *handles):
        for handle in handles:
            prefix = f'bak_{self.h.handles[handle]["noun"]}_' if handle in self.h.handles else None
            if prefix and name.startswith(prefix):
                return name[len(prefix):]
        return name[len('bak_'):]

    def method(self, name, function, of):
        function['args'][0]['kind'] = 'self'
        function.update(rule='method', of=of, method=self.strip(name, of, self.base(function['type'])))
        given = [a for a in function['args'] if a['kind'] not in ('self', 'error') and not a['kind'].startswith('out-')]
        short = function['method']
        if given or name in NOT_A_PROPERTY:
            return
        if short.startswith('get_') and function['result'] != 'nothing':
            function.update(rule='property', method=short[len('get_'):])
        elif short.startswith(('is_', 'has_')) and not function['fails']:
            function['rule'] = 'property'

    def join_lists(self, name, function):
        """get_n_xs() with get_x (index) is a list."""
        if function.get('rule') != 'method' or not function['method'].startswith('get_'):
            return
        given = [a for a in function['args'] if a['kind'] not in ('self', 'error')]
        noun = function['method'][len('get_'):]
        count = f'bak_{self.h.handles[function["of"]]["noun"]}_get_n_{noun}s'
        if len(given) == 1 and given[0]['name'] == 'index' and count in self.h.functions:
            function.update(rule='items', method=f'{noun}s', count=count)


def describe(folder, version):
    headers = Headers(folder)
    rules = Rules(headers)
    page = re.match(r'/\* (.*?)\*/', headers.texts['libbackup.h'], re.S)[1]
    return {'version': version, 'page': re.sub(r'\n \* ?', '\n', page).strip(), 'handles': headers.handles, 'enums': headers.enums,
            'constants': headers.constants, 'structs': headers.structs, 'callbacks': headers.callbacks, 'functions': headers.functions,
            'by_hand': sorted(BY_HAND), 'unknown': rules.unknown}


if __name__ == '__main__':
    json.dump(describe(sys.argv[1], sys.argv[2]), sys.stdout, indent=1)
    print()
