"""docs/json.md as something that documents can be compared with.

`{a, b: [x]}` has the keys a and b, b is x or a list of x; `key?` may be missing; `…?`: there may be more."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
MORE = '…?'


def section(text, title):
    return re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', text, re.M | re.S)[1]


def rows(text):
    return [line.strip('|').split('|') for line in text.splitlines() if line.startswith('| `')]


class Document:
    def __init__(self, path=ROOT / 'docs/json.md'):
        text = path.read_text(encoding='utf-8')
        self.commands = {}
        for names, shape, *_ in rows(section(text, 'Commands')):
            for name in re.findall('`([^`]+)`', names):
                assert name not in self.commands, f'{name} is there twice'
                self.commands[name] = shape.strip().strip('`')
        self.objects = {}
        for part in re.split('^### ', section(text, 'Objects'), flags=re.M)[1:]:
            keys = [key for cells in rows(part) for key in re.findall('`([^`]+)`', cells[0])]
            assert keys and len(set(keys)) == len(keys), part
            self.objects[part.split('\n')[0].strip()] = keys

    def used(self):
        """The objects that a command or an object refers to."""
        shapes = [*self.commands.values(), *(f'{{{", ".join(keys)}}}' for keys in self.objects.values())]
        return {name for shape in shapes for name in re.findall(r'\[([\w-]+)\]', shape)} | {s for s in shapes if s[0] != '{'}

    def differences(self, value, shape, where=''):
        """What of value is not as shape says, as texts."""
        keys = shape.strip('{}').split(', ') if shape[0] == '{' else self.objects[shape]
        if not isinstance(value, dict):
            return [f'{where}: no object']
        named = {key.split(':')[0].rstrip('?'): key for key in keys if key != MORE}
        found = [f'{where}{key} is missing' for key, said in named.items() if key not in value and '?' not in said]
        if MORE not in keys:
            found += [f'{where}{key} is not documented' for key in value if key not in named]
        for key, said in named.items():
            kind = re.search(r'\[(.+)\]', said)
            inside = (value.get(key) or []) if kind else []
            for i, item in enumerate(inside if isinstance(inside, list) else [inside]):
                found += self.differences(item, kind[1], f'{where}{key}[{i}].')
        return found

    def shape_of(self, words):
        """Of the command with the option that makes it another document, else of the command."""
        for word in words[1:]:
            if f'{words[0]} {word}' in self.commands:
                return self.commands[f'{words[0]} {word}']
        return self.commands[words[0]]
