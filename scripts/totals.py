"""Count what a run of "meson test" found: totals.py BUILDDIR. Prints "passed failed skipped".

A program of libcheck's says how many checks it made; each of those counts. Any other program counts once.
"""
import json
import re
import sys

passed = failed = skipped = 0
with open(f'{sys.argv[1]}/meson-logs/testlog.json') as log:
    for line in log:
        test = json.loads(line)
        found = re.search(r'^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)', test.get('stdout') or '', re.M)
        if test['result'] in ('SKIP', 'IGNORED'):
            skipped += 1
        elif found:
            checks, failures, errors = map(int, found.groups())
            bad = failures + errors
            if not bad and test['result'] not in ('OK', 'EXPECTEDFAIL'):
                bad = 1
            passed += max(0, checks - bad)
            failed += bad
        elif test['result'] in ('OK', 'EXPECTEDFAIL'):
            passed += 1
        else:
            failed += 1
print(passed, failed, skipped)
