#!/usr/bin/python3
"""Increments are exact after any sequence of events, or refused: the random sequences of sequence.py.

LIBBACKUP_SEQUENCE=SEED runs one again; LIBBACKUP_SEQUENCES=FIRST-LAST a range. How many by default: 100 on 7.2, 25 elsewhere.
"""
import os
import sys
import unittest

import bed
import sequence

STEPS = int(os.environ.get('LIBBACKUP_SEQUENCE_STEPS', '30'))
PARTS = 4


def seeds():
    one, many = os.environ.get('LIBBACKUP_SEQUENCE'), os.environ.get('LIBBACKUP_SEQUENCES')
    if one:
        return [int(one)]
    if many:
        first, _, last = many.partition('-')
        return range(int(first), int(last or first) + 1)
    return range(1, 101 if bed.qemu_version() == '7.2' else 26)


def one(seed):
    def test(self):
        run = sequence.Sequence(self, seed, STEPS)
        run.run()
        if os.environ.get('LIBBACKUP_SEQUENCE'):
            print('\n'.join(run.log), f'\n{run.took:.1f} s')
    return test


for part in range(PARTS):       # a class is what runs beside another
    name = f'Sequence{part}Test'
    methods = {f'test_exact_or_refused_with_seed_{seed:05}': one(seed) for seed in seeds() if seed % PARTS == part}
    methods['folder'] = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None      # small images, thousands of fsyncs
    globals()[name] = type(name, (bed.LiveTest,), {'__doc__': __doc__, **methods})

if __name__ == '__main__':
    unittest.main(argv=sys.argv)
