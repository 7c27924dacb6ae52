#!/usr/bin/env python3
"""Every link of the documents leads somewhere, every document is installed, and every file with a text for people is in po/POTFILES."""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])


def broken_links():
    for document in [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md'), ROOT / 'tests/README.md']:
        for target in re.findall(r'\]\(([^)#\s]+)', document.read_text()):
            if '://' not in target and not target.startswith('mailto:') and not (document.parent / target).exists():
                yield f'{document.relative_to(ROOT)} links to {target}, which is not there'


def not_installed():
    listed = (ROOT / 'docs/meson.build').read_text()
    for document in sorted((ROOT / 'docs').glob('*.md')):
        if f"'{document.name}'" not in listed:
            yield f'docs/{document.name} is not installed'


def not_translated():
    listed = set((ROOT / 'po/POTFILES').read_text().split())
    for source in sorted((ROOT / 'tools/baksh').rglob('*.[ch]')):
        name = str(source.relative_to(ROOT))
        if re.search(r'\bN?_\(', source.read_text()) and name not in listed:
            yield f'{name} has a text that po/POTFILES does not name'


found = [*broken_links(), *not_installed(), *not_translated()]
print('\n'.join(found) or 'all documents hold together')
sys.exit(1 if found else 0)
