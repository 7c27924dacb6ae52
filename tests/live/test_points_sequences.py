#!/usr/bin/python3
"""Random sequences of what happens to points that are kept (keeping.py), in their short form.

LIBBACKUP_TEST_SEEDS says how many, LIBBACKUP_TEST_SEED from which one on.
"""
import os
import random
import unittest

import bed
import keeping


class SequencesTest(unittest.TestCase):
    versions = ('7.2',)
    seed = int(os.environ.get('LIBBACKUP_TEST_SEED') or random.randrange(1 << 24))

    def setUp(self):
        strace = bed.need('strace', 'strace')
        if bed.run(strace, '-qq', '-o', '/dev/null', 'true', check=False).returncode:
            self.skipTest('nothing can be traced here')

    def test_drawn_sequences_keep_every_point(self):
        found = keeping.run_seeds(self.seed, int(os.environ.get('LIBBACKUP_TEST_SEEDS', '2')), steps=4, jobs=2)
        self.assertEqual(found, [])

    def test_a_merge_and_a_copy_that_are_killed_at_drawn_system_calls(self):
        draw = random.Random(self.seed)
        for which in ('delete', 'rewrite', 'copy'):
            call, number = draw.choice((('fsync', 5), ('rename', 2), ('mkdir', 2), ('unlink', 3), ('clone', 1))), draw.randrange(3)
            with self.subTest(f'seed {self.seed}, {which}, {call[0]} {call[1] + number}'):
                keeping.run_every(which, calls=call[:1], start=call[1] + number, end=call[1] + number + 1)

    def test_a_delete_is_killed_at_the_call_that_was_named(self):
        self.assertEqual(keeping.run_every('delete', calls=('rename',), start=1, end=3), 2)

    def test_what_is_not_as_it_was_or_lies_about_is_noticed(self):
        made = keeping.Sequence(self.seed, 'plain')
        self.addCleanup(made.close)
        [store, _] = made.stores
        made.assert_all_hold()
        made.assert_nothing_left(store)
        name, data = next(iter(store.truth.items()))
        store.truth[name] = data[:-1] + b'\1'
        with self.assertRaisesRegex(keeping.Broken, 'not what the disk was'):
            made.assert_all_hold(everything=True)
        store.truth = {**store.truth, name: data, 'gone': data}
        with self.assertRaisesRegex(keeping.Broken, 'has lost gone'):
            made.take([])
        del store.truth['gone'], store.truth[name]
        with self.assertRaisesRegex(keeping.Broken, 'from nowhere'):
            made.take([])
        store.truth[name] = data
        with open(os.path.join(os.path.dirname(made.listed(store)[name]['path']), 'guest.json.1.tmp'), 'w', encoding='utf-8'):
            pass
        with self.assertRaisesRegex(keeping.Broken, 'left behind: .*guest.json.1.tmp'):
            made.assert_nothing_left(store)


if __name__ == '__main__':
    unittest.main()
