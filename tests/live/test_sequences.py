#!/usr/bin/python3
"""Increments are exact after any sequence of events, or refused: the random sequences of sequence.py.

LIBBACKUP_SEQUENCE=SEED runs one again; LIBBACKUP_SEQUENCES=FIRST-LAST a range. """
import os
import sys
import unittest

import bed
import sequence

STEPS = int(os.environ.get('LIBBACKUP_SEQUENCE_STEPS', '30'))
PARTS = 4
HERE, ELSEWHERE = 100, 25      # how many by default: on 7.2, on the others


def seeds():
    one, many = os.environ.get('LIBBACKUP_SEQUENCE'), os.environ.get('LIBBACKUP_SEQUENCES')
    if one:
        return [int(one)]
    if many:
        first, _, last = many.partition('-')
        return range(int(first), int(last or first) + 1)
    return range(1, HERE + 1)


def one(seed):
    def test(self):
        run = sequence.Sequence(self, seed, STEPS)
        run.run()
        if os.environ.get('LIBBACKUP_SEQUENCE'):
            print('\n'.join(run.log), f'\n{run.took:.1f} s')
    return test


def pick(version, methods):
    """Fewer on the versions that are not this machine's, unless somebody asked for certain ones."""
    if version == '7.2' or len(list(seeds())) != HERE:
        return methods
    return [m for m in methods if int(m.rpartition('_')[2]) <= ELSEWHERE]


for part in range(PARTS):       # a class is what runs beside another
    name = f'Sequence{part}Test'
    methods = {f'test_exact_or_refused_with_seed_{seed:05}': one(seed) for seed in seeds() if seed % PARTS == part}
    methods['pick'] = staticmethod(pick)
    methods['folder'] = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None      # small images, thousands of fsyncs
    globals()[name] = type(name, (bed.LiveTest,), {'__doc__': __doc__, **methods})

if __name__ == '__main__':
    unittest.main(argv=sys.argv)
