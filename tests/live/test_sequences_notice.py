#!/usr/bin/python3
"""The random sequences notice what they are for: libraries with a defect that others have, or had, are caught."""
import os
import subprocess
import sys
import unittest

import bed
import broken

HERE = os.path.dirname(os.path.abspath(__file__))


class NoticeTest(unittest.TestCase):
    versions = ('7.2',)

    def assert_caught(self, variant, words, seeds):
        folder = broken.build(self, variant)
        environment = {**os.environ, 'BUILD_DIR': folder, 'QEMU_VERSION': '7.2'}
        said = ''
        for seed in seeds:
            done = subprocess.run([sys.executable, os.path.join(HERE, 'test_sequences.py')], capture_output=True, text=True,
                                  env={**environment, 'LIBBACKUP_SEQUENCE': str(seed)}, timeout=300 * bed.SLOW)
            said = done.stderr
            if done.returncode:
                self.assertRegex(said, words)
                self.assertIn(f'seed {seed}', said)
                return
        self.fail(f'{variant} passes with seeds {seeds}')

    def test_a_checkpoint_that_is_kept_when_its_backup_fails_is_noticed(self):
        self.assert_caught('keep-checkpoint', 'the checkpoint cp[0-9]+ of a backup that is not good is kept', range(1, 10))

    def test_zeroes_that_are_dropped_from_an_increment_are_noticed(self):
        self.assert_caught('drop-zeros', 'incremental since cp[0-9]+\\) is not what it was', range(3, 26))

    def test_a_disk_that_shrank_and_grew_back_without_anybody_looking_is_noticed(self):
        self.assert_caught('not-looking', 'is not what it was|does not give what the export holds', (21, 185, *range(60, 120)))


if __name__ == '__main__':
    unittest.main()
