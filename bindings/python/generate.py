#!/usr/bin/env python3
"""Make the Python module from api.json: generate.py cdef|c|python API.JSON

cdef    the declarations, for cffi
c       the extension module libbackup._ffi, which the compiler checks against the real headers
python  libbackup/_api.py: classes, enumerations and functions, with the documentation of the headers
"""
import json
import keyword
import re
import sys

INDENT = '    '


def base(kind):
    return kind.replace('const ', '').replace('*', '').strip()


def class_name(name):
    return name[len('Bak'):]


def safe(name):
    return name + '_' if keyword.iskeyword(name) else name


def c_arguments(arguments):
    return ', '.join(argument['type'] for argument in arguments) or 'void'


def trampoline(name):
    return f'py_{name}'


def cdef(api):
    """What cffi is told; `...` leaves the numbers to the compiler."""
    lines = [f'#define {name} ...' for name, constant in api['constants'].items() if isinstance(constant['value'], int)]
    lines += [f'typedef struct {name} {name};' for name in api['handles']]
    for name, enum in api['enums'].items():
        lines.append('typedef enum { %s } %s;' % (', '.join(f'{value["name"]} = ...' for value in enum['values']), name))
    told = set()

    def tell(name):
        """Structs and callbacks, each after what it names."""
        if name in told or not (name in api['structs'] or name in api['callbacks']):
            return
        told.add(name)
        if name in api['structs']:
            fields = api['structs'][name]['fields']
            for field in fields:
                tell(base(field['type']))
            lines.append(f'typedef struct {{ {" ".join(map(field_declaration, fields))} }} {name};')
            return
        callback = api['callbacks'][name]
        for argument in callback['args']:
            tell(base(argument['type']))
        lines.append(f'typedef {callback["type"]} (*{name}) ({c_arguments(callback["args"])});')
        lines.append(f'extern "Python" {callback["type"]} {trampoline(name)} ({c_arguments(callback["args"])});')

    for name in [*api['structs'], *api['callbacks']]:
        tell(name)
    for name, function in api['functions'].items():
        lines.append(f'{function["type"]} {name} ({c_arguments(function["args"])});')
    return '\n'.join(lines) + '\n'


def field_declaration(field):
    if field['type'] == 'union':
        return 'union { int i; unsigned int ui; long long l; unsigned long long ul; double d; char b; char *s; } value;'
    match = re.match(r'(.*?)(\[.*\])$', field['type'])
    return f'{match[1]} {field["name"]}[...];' if match else f'{field["type"]} {field["name"]};'


def extension(api):
    import cffi
    ffi = cffi.FFI()
    ffi.cdef(cdef(api))
    ffi.set_source('libbackup._ffi', '#include <libbackup/libbackup.h>')
    ffi.emit_c_code(sys.argv[3])


def docstring(text, indent):
    """Documentation of a header in Python's words."""
    text = re.sub(r'@(\w+)', r'`\1`', text or '')
    text = text.replace('\\', '\\\\').replace('"""', "'''")
    lines = text.split('\n')
    if lines[-1].endswith('"'):
        lines[-1] += ' '
    body = ('\n' + indent).join(lines)
    end = '\n' + indent if len(lines) > 1 else ''
    return f'{indent}"""{re.sub(r" +$", "", body, flags=re.M)}{end}"""'


class Writer:
    def __init__(self, api):
        self.api, self.lines = api, []

    def add(self, *lines):
        self.lines += lines

    # types as annotations
    def annotation(self, argument):
        kind, named = argument['kind'], base(argument['type'])
        optional = argument['optional']
        if kind == 'text':
            return 'Optional[str]' if optional else 'str'
        if kind == 'texts':
            return 'Optional[Iterable[str]]' if optional else 'Iterable[str]'
        if kind == 'numbers':
            return 'Iterable[Any]'
        if kind == 'number':
            return 'float' if named == 'double' else 'int'
        if kind == 'enum':
            return class_name(named)
        if kind == 'handle':
            return f'Optional[{class_name(named)}]' if optional else class_name(named)
        if kind == 'callback':
            return f'Optional[{self.callback_annotation(named)}]' if argument['optional'] else self.callback_annotation(named)
        raise ValueError(argument)

    def callback_annotation(self, name):
        return f'Callable[[{", ".join(self.callback_types(name))}], {self.callback_result(name)}]'

    def callback_types(self, name):
        for argument in self.api['callbacks'][name]['args']:
            if argument['kind'] != 'opaque':
                yield {'text': 'Optional[str]', 'number': 'int'}.get(argument['kind']) or class_name(base(argument['type']))

    def callback_result(self, name):
        return 'None' if self.api['callbacks'][name]['type'] == 'void' else 'Optional[int]'

    def enums(self):
        for name, enum in self.api['enums'].items():
            kind = 'IntFlag' if name.endswith('Flags') else 'IntEnum'
            self.add('', '', f'class {class_name(name)}(enum.{kind}):', docstring(enum['doc'], INDENT), '')
            for value in enum['values']:
                short = safe(value['short'])
                self.add(f'{INDENT}{short} = {value["value"]}' + (f'    # {value["doc"]}' if value['doc'] else ''))

    def constants(self):
        self.add('', '')
        for name, constant in self.api['constants'].items():
            if not name.startswith('BAK_VERSION') and not name.endswith('_LENGTH'):
                self.add(f'{name[len("BAK_"):]} = {constant["value"]!r}')

    def structs(self):
        for name, struct in self.api['structs'].items():
            if name == 'BakTypedParameter' or name in self.given():
                continue
            self.add('', '', f'class {class_name(name)}(NamedTuple):', docstring(struct['doc'], INDENT), '')
            fields = [field for field in struct['fields'] if field['kind'] != 'size']
            for field in fields:
                self.add(f'{INDENT}{safe(field["name"])}: {self.struct_type(field)}' + (f'    # {field["doc"]}' if field['doc'] else ''))
            self.add('', f'{INDENT}@classmethod', f'{INDENT}def _from(cls, c):', f'{INDENT * 2}return cls(' +
                     ', '.join(self.struct_value(field) for field in fields) + ')')

    def struct_type(self, field):
        return 'Optional[str]' if field['type'] == 'const char *' else 'int'

    def struct_value(self, field):
        return f'_text_of(c.{field["name"]})' if field['type'] == 'const char *' else f'c.{field["name"]}'

    def given(self):
        """Structs that are given to the library: options, and what stands in them."""
        return {name for name, struct in self.api['structs'].items() if struct['use'] != 'result'}

    def option_fields(self, struct):
        """(name, annotation, default, how it is set, the field) of the fields of options."""
        for field in self.api['structs'][struct]['fields']:
            name, kind, named = field['name'], field['kind'], base(field['type'])
            required = 'required' in field['doc']
            if kind in ('size', 'length', 'opaque', 'free'):
                continue
            if kind == 'text':
                yield name, 'str' if required else 'Optional[str]', None if required else 'None', '_option_text', field
            elif kind == 'texts':
                yield name, 'Optional[Iterable[str]]', 'None', '_option_texts', field
            elif kind == 'items':
                yield name, 'Optional[Items]', 'None', '_option_items', field
            elif kind == 'handle':
                yield name, f'Optional[{class_name(named)}]', 'None', '_option_handle', field
            elif kind == 'callback':
                yield name, f'Optional[{self.callback_annotation(named)}]', 'None', '_option_callback', field
            else:
                yield name, 'int', '0', '_option_number', field

    def signature(self, function):
        """Parameters of the Python function; those that may be left out come last, as in the headers."""
        required, optional, keywords = [], [], []
        for argument in function['args']:
            if argument['kind'] in ('self', 'error', 'length', 'opaque', 'free', 'list') or argument['kind'].startswith('out-'):
                continue
            if argument['kind'] == 'options':
                for name, annotation, default, _, _ in self.option_fields(base(argument['type'])):
                    keywords.append(f'{safe(name)}: {annotation}' + (f' = {default}' if default is not None else ''))
                continue
            text = f'{safe(argument["name"])}: {self.annotation(argument)}'
            if argument['optional']:
                optional.append(text + (' = 0' if argument['kind'] == 'number' else ' = None'))
            elif optional:      # an optional one stands before it in C: it stays where it is and has to be given
                required += [part.rsplit(' = ', 1)[0] for part in optional] + [text]
                optional = []
            else:
                required.append(text)
        return required + optional + (['*'] + keywords if keywords else [])

    def results(self, function):
        """Annotations of what comes back."""
        of = base(function['type'])
        for argument in function['args']:
            if argument['kind'] == 'list':
                return [f'List[{class_name(base(argument["type"]))}]']
        found = {'owned-text': ['Optional[str]' if not function['fails'] else 'str'], 'text': ['str' if not self.may_be_null(function) else 'Optional[str]'],
                 'new': [class_name(of)], 'lent': [class_name(of)], 'enum': [class_name(of)], 'truth': ['bool'], 'number': ['int'],
                 'nothing': [], 'status': []}[function['result']]
        for argument in function['args']:
            if argument['kind'] == 'out-number':
                found.append('int')
            elif argument['kind'] == 'out-text':
                found.append('Optional[str]')
            elif argument['kind'] in ('out-struct', 'out-handle'):
                found.append(class_name(base(argument['type'])))
        if function['result'] == 'number' and len(found) == 2 and any(a['kind'] == 'out-struct' for a in function['args']):
            return [f'Optional[{found[1]}]']     # 0: there is none
        return found

    @staticmethod
    def may_be_null(function):
        return not function['fails'] and bool(re.search(r'\bNULL (?!guest|checkpoint)', function['returns']) or 'NULL when' in function['returns'])

    def returned(self, function):
        found = self.results(function)
        return 'None' if not found else found[0] if len(found) == 1 else f'Tuple[{", ".join(found)}]'

    def passed(self, argument):
        """How an argument goes into the call."""
        name, kind, named = safe(argument['name']), argument['kind'], base(argument['type'])
        if kind == 'self':
            return 'self._use()'
        if kind == 'text':
            return f'_optional_text({name})' if argument['optional'] else f'_text({name})'
        if kind in ('number', 'enum'):
            return name
        if kind == 'handle':
            return f'_optional_handle({name}, {class_name(named)})' if argument['optional'] else f'_handle({name}, {class_name(named)})'
        if kind == 'callback':
            return f'ffi.NULL if {name} is None else lib.{trampoline(named)}' if argument['optional'] else f'lib.{trampoline(named)}'
        if kind == 'free':
            return f'lib.{trampoline(named)}'
        return {'texts': f'_{name}', 'length': f'len(_{argument["name"][2:]})', 'opaque': '_opaque', 'error': '_error', 'options': f'_{name}',
                'list': '_list'}.get(kind, f'_{name}')

    def body(self, name, function, indent):
        """Statements of a call."""
        lines, after, values = [], [], []
        of, raising = base(function['type']), 'self' if function['rule'] != 'constructor' and function.get('of') else 'None'
        for argument in function['args']:
            kind, named, plain = argument['kind'], base(argument['type']), safe(argument['name'])
            if kind == 'texts':
                lines.append(f'_{plain} = _texts({plain})')
            elif kind == 'numbers':
                lines.append(f'_{plain} = _numbers({plain})')
            elif kind == 'options':
                lines.append(f"_{plain}, _kept_{plain} = _new_options('{named}')")
                for field, _, _, setter, entry in self.option_fields(named):
                    more = f", lib.{trampoline(base(entry['type']))}" if setter == '_option_callback' else ''
                    lines.append(f"{setter}(_{plain}, _kept_{plain}, '{field}', {safe(field)}{more})")
            elif kind == 'list':
                lines.append(f"_list = ffi.new('{named} ***')")
            elif kind == 'out-number':
                lines.append(f"_{plain} = ffi.new('{argument['type']}')")
                values.append(f'_{plain}[0]')
            elif kind == 'out-text':
                lines.append(f"_{plain} = ffi.new('char **')")
                values.append(f'_take_text(_{plain}[0])')
            elif kind == 'out-struct':
                lines.append(f"_{plain} = ffi.new('{named} *')")
                values.append(f'{class_name(named)}._from(_{plain})')
            elif kind == 'out-handle':
                lines.append(f"_{plain} = ffi.new('{named} **')")
                values.append(f'{class_name(named)}._take(_{plain}[0])')
            elif kind == 'callback':
                stays = any(a['kind'] == 'free' for a in function['args'])
                lines.append(f'_opaque = ffi.NULL if {plain} is None else _keep({plain})' if argument['optional'] else f'_opaque = _keep({plain})')
                if not stays:
                    after.append('_let_go(_opaque)')
        call = f'lib.{name}({", ".join(self.passed(a) for a in function["args"])})'
        if function['fails']:
            lines.append('_error = _new_error()')
        lines.append(f'_result = {call}' if function['result'] != 'nothing' else call)
        stays = any(a['kind'] == 'free' for a in function['args'])
        if after:       # a callback that lives no longer than the call
            lines[-1:] = ['try:', INDENT + lines[-1], 'finally:'] + [INDENT + line for line in after]
        if function['fails']:
            if stays:
                lines += ['if _error[0] != ffi.NULL:', INDENT + '_let_go(_opaque)']
            lines.append(f'_raise(_error, {raising})')
        return [indent + line for line in lines + self.give_back(function, of, values)]

    def give_back(self, function, of, values):
        result = function['result']
        if result == 'list':
            named = next(base(a['type']) for a in function['args'] if a['kind'] == 'list')
            return [f'return _take_list(_list, {class_name(named)})']
        if result == 'number' and values and any(a['kind'] == 'out-struct' for a in function['args']):
            return [f'return {values[0]} if _result else None']
        first = {'owned-text': '_take_text(_result)', 'text': '_text_of(_result)', 'new': f'{class_name(of)}._take(_result)',
                 'lent': f'{class_name(of)}._lend(_result, self)', 'enum': f'_enum({class_name(of)}, _result)', 'truth': 'bool(_result)',
                 'number': '_result'}.get(result)
        values = ([first] if first else []) + values
        return [f'return {", ".join(values)}'] if values else []

    def documentation(self, function):
        text = function['doc']
        arguments = [a for a in function['args'] if a['kind'] in ('text', 'texts', 'number', 'numbers', 'enum', 'handle', 'callback')]
        if arguments:
            text += '\n\n' + '\n'.join(f'{safe(a["name"])}: {a["doc"]}' for a in arguments)
        for argument in function['args']:
            if argument['kind'] == 'options':
                text += '\n\n' + '\n'.join(f'{name}: {field["doc"]}' for name, _, _, _, field in self.option_fields(base(argument['type'])))
        if function['returns'] and function['result'] != 'status':
            returns = re.sub(r',? bak_\w+\(\) (?:each, bak_free\(\) the array|it)', '', function['returns'])
            text += '\n\nReturns: ' + re.sub(r'\. \*@\w+ is NULL-terminated:?$', '', returns).replace('NULL', 'None')
        return text

    def method(self, name, function):
        rule, short = function['rule'], safe(function['method'])
        parameters = ', '.join((['cls'] if rule == 'constructor' else ['self']) + self.signature(function))
        self.add('')
        if rule in ('property', 'items'):
            self.add(f'{INDENT}@property')
        if rule == 'constructor':
            self.add(f'{INDENT}@classmethod')
        if rule == 'items':
            item = class_name(base(function['type'])) if function['result'] == 'lent' else 'str'
            self.add(f'{INDENT}def {short}(self) -> Tuple[{item}, ...]:', docstring(f'{function["doc"]} All of them.', INDENT * 2))
            value = f'{item}._lend(lib.{name}(_used, _i), self)' if function['result'] == 'lent' else f'_text_of(lib.{name}(_used, _i))'
            self.add(f'{INDENT * 2}_used = self._use()', f'{INDENT * 2}return tuple({value} for _i in range(lib.{function["count"]}(_used)))')
            return
        self.add(f'{INDENT}def {short}({parameters}) -> {self.returned(function)}:', docstring(self.documentation(function), INDENT * 2))
        if rule == 'constructor':
            self.add(f'{INDENT * 2}_may_open()')
        self.add(*self.body(name, function, INDENT * 2))

    def classes(self):
        of = {name: [] for name in self.api['handles']}
        for name, function in self.api['functions'].items():
            if function.get('of') in of and function['rule'] != 'unknown':
                of[function['of']].append((name, function))
        for name, functions in of.items():
            handle = self.api['handles'][name]
            if name == 'BakError':
                continue
            if not handle.get('unref') and any(a['type'].startswith(f'const {name} *') for c in self.api['callbacks'].values() for a in c['args']):
                self.snapshot(name, handle, functions)
                continue
            parent = {'BakConnection': '_base.ConnectionBase', 'BakDomain': '_base.DomainBase'}.get(name, '_base.Handle')
            self.add('', '', f'class {class_name(name)}({parent}):', docstring(handle['doc'], INDENT), '')
            self.add(f"{INDENT}_type = '{name} *'")
            if handle.get('unref'):
                self.add(f'{INDENT}_ref, _unref = lib.{handle["ref"]}, lib.{handle["unref"]}')
            for entry in functions:
                self.method(*entry)

    def snapshot(self, name, handle, functions):
        """What is valid only while a callback runs is copied whole."""
        self.add('', '', f'class {class_name(name)}(NamedTuple):', docstring(handle['doc'].split(', valid')[0], INDENT), '')
        for _, function in functions:
            comment = f'    # {function["doc"]}' if function['doc'] else ''
            self.add(f'{INDENT}{safe(function["method"])}: {self.returned(function)}{comment}')
        self.add(f'{INDENT}domain: Any = None    # the guest, as an object', '', f'{INDENT}@classmethod', f'{INDENT}def _copy(cls, c):')
        values = []
        for function_name, function in functions:
            values.append(self.give_back(function, base(function['type']), [])[0][len('return '):].replace('_result', f'lib.{function_name}(c)'))
        self.add(f'{INDENT * 2}return cls(' + f',\n{INDENT * 5}'.join(values) + ')')

    def functions(self):
        for name, function in self.api['functions'].items():
            if function['rule'] == 'function':
                self.add('', '', f'def {safe(function["method"])}({", ".join(self.signature(function))}) -> {self.returned(function)}:',
                         docstring(self.documentation(function), INDENT), *self.body(name, function, INDENT))

    def callbacks(self):
        for name, callback in self.api['callbacks'].items():
            names = [safe(argument['name']) for argument in callback['args']]
            self.add('', '', '@ffi.def_extern()' if callback['type'] == 'void' else '@ffi.def_extern(error=-1)', f'def {trampoline(name)}({", ".join(names)}):')
            if name == 'BakFreeCallback':
                self.add(f'{INDENT}_let_go(opaque)')
                continue
            values = []
            for argument in callback['args']:
                named, plain = base(argument['type']), safe(argument['name'])
                if argument['kind'] == 'opaque':
                    continue
                if argument['kind'] == 'text':
                    values.append(f'_text_of({plain})')
                elif argument['kind'] == 'handle':
                    values.append(f'{class_name(named)}._lend({plain}, None)' if self.api['handles'][named].get('unref') else f'{class_name(named)}._copy({plain})')
                elif argument['kind'] == 'enum':
                    values.append(f'_enum({class_name(named)}, {plain})')
                elif argument['kind'] == 'struct':
                    values.append(f'{class_name(named)}._from({plain})')
                else:
                    values.append(plain)
            call = f'ffi.from_handle(opaque).function({", ".join(values)})'
            self.add(f'{INDENT}{call}' if callback['type'] == 'void' else f'{INDENT}return int({call} or 0)')

    def module(self):
        self.add('"""Made from the public headers of libbackup; see there. What is by hand is in _base.py."""', 'from __future__ import annotations', '', 'import enum',
                 'from typing import Any, Callable, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union', '',
                 'from . import _base', 'from ._ffi import ffi, lib',
                 'from ._base import (_enum, _handle, _keep, _let_go, _may_open, _new_error, _new_options, _numbers, _option_callback, _option_handle, _option_items, _option_number,',
                 '                    _option_text, _option_texts, _optional_handle, _optional_text, _raise, _take_list, _take_text, _text, _text_of, _texts)', '',
                 'Items = Union[Mapping[str, str], Iterable[Tuple[str, str]]]')
        self.enums()
        self.constants()
        self.structs()
        self.classes()
        self.functions()
        self.callbacks()
        public = [class_name(name) for kind in ('enums', 'structs', 'handles') for name in self.api[kind]
                  if name not in self.given() | {'BakTypedParameter', 'BakTypedParameterType', 'BakError'}]
        public += [f['method'] for f in self.api['functions'].values() if f['rule'] == 'function']
        public += [name[len('BAK_'):] for name in self.api['constants'] if not name.startswith('BAK_VERSION') and not name.endswith('_LENGTH')]
        self.add('', '', f'__all__ = {sorted(public)!r}', '', '_base.complete(globals())')
        return '\n'.join(self.lines) + '\n'


if __name__ == '__main__':
    with open(sys.argv[2]) as file:
        description = json.load(file)
    if sys.argv[1] == 'cdef':
        print(cdef(description), end='')
    elif sys.argv[1] == 'c':
        extension(description)
    else:
        print(Writer(description).module(), end='')
