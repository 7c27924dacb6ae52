"""What the public headers declare, read as text; shared by the tests here."""
import pathlib
import re


def declarations(root):
    """name -> (header, the declaration on one line, its doc comment or None)"""
    found = {}
    for header in sorted((pathlib.Path(root) / 'include/libbackup').glob('*.h')):
        text = header.read_text()
        for match in re.finditer(r'(/\*\*(?:(?!\*/).)*\*/\n)?^([A-Za-z][^;{}#\n]*?\b(bak_\w+) \([^;{}]*\));', text, re.M | re.S):
            comment, declaration, name = match.groups()
            if not declaration.startswith('typedef'):
                found[name] = (header.name, ' '.join(declaration.split()), comment)
    return found


def types(root):
    """name -> (header, doc comment or None) of every public type, enumeration constant group and macro"""
    found = {}
    for header in sorted((pathlib.Path(root) / 'include/libbackup').glob('*.h')):
        text = header.read_text()
        pattern = r'(/\*\*(?:(?!\*/).)*\*/\n)?^(?:typedef (?:struct|enum|union) (?:\w+ )?\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\} (\w+);|typedef struct \w+ (\w+);|typedef \w+ \(\*(\w+)\)|#define (BAK_\w+) )'
        for match in re.finditer(pattern, text, re.M | re.S):
            name = next(group for group in match.groups()[1:] if group)
            found[name] = (header.name, match.group(1))
    return found
