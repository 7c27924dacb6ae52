#!/usr/bin/python3
"""The random sequences notice what they are for: two builds with a defect that a peer has, or had, are caught."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import bed

HERE = os.path.dirname(os.path.abspath(__file__))


class NoticeTest(unittest.TestCase):
    versions = ('7.2',)

    def broken_build(self, variant):
        for program in ('meson', 'ninja'):
            if not shutil.which(program):
                self.skipTest(f'no {program} here')
        folder = tempfile.mkdtemp(prefix='bak-broken-')
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        bed.run('meson', 'setup', folder, bed.TOP, f'-Dbreak={variant}', timeout=300)
        bed.run('ninja', '-C', folder, 'src/libbackup.so.0.1.0', 'tools/libbackupd/libbackupd', timeout=900)
        return folder

    def assert_caught(self, variant, words, seeds):
        folder = self.broken_build(variant)
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
        self.fail(f'-Dbreak={variant} passes with seeds {seeds}')

    def test_a_checkpoint_that_is_kept_when_its_backup_fails_is_noticed(self):
        self.assert_caught('keep-checkpoint', 'the checkpoint cp[0-9]+ of a backup that is not good is kept', range(1, 10))

    def test_zeroes_that_are_dropped_from_an_increment_are_noticed(self):
        self.assert_caught('drop-zeros', 'incremental since cp[0-9]+\\) is not what it was', range(1, 26))


if __name__ == '__main__':
    unittest.main()
