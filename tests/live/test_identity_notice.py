#!/usr/bin/python3
"""Each mechanism that proves identity is what catches its case: in a library that goes without it, and with it alone, the test fails."""
import os
import re
import subprocess
import sys
import unittest

import bed
import broken

HERE = os.path.dirname(os.path.abspath(__file__))

# mechanism -> the tests that must fail without it, and with what
CONTROLS = {
    'seals': ('test_identity ImageTest.test_images_renamed_into_each_other_are_refused BitmapTest.test_a_bitmap_that_was_cleared_is_refused', 'exit 0'),
    'previous': ('test_identity PreviousTest.test_a_previous_backup_that_was_written_to_is_refused', 'exit 0'),
    'layers': ('test_identity BelowTest.test_another_base_is_refused', 'exit 0'),
    'guest': ('test_identity GuestTest.test_another_guest_behind_the_socket_is_refused_and_left_alone', 'exit 0'),
    'claims': ('test_claims AttachedTest.test_an_image_of_a_guest_that_is_off_is_no_target_and_no_scratch', ' != 1 : Backup started'),
    'state': ('test_migration StatesTest.test_who_was_saved_into_a_file_is_refused_until_it_goes_on', 'exit 0'),
    'barrier': ('test_migration BarrierTest.test_none_starts_while_a_push_runs', 'QmpError not raised'),
    'end': ('test_identity EndTest.test_a_disk_that_was_smaller_while_off_is_refused', 'exit 0'),
    'names': ('test_race RaceTest.test_a_target_that_is_exchanged_is_refused_before_a_byte_is_written', 'the file was overwritten'),
    'target': ('test_identity PreviousTest.test_a_chain_that_does_not_open_at_the_end_is_not_completed', 'exit 0'),
    'whole': ('test_identity TargetTest.test_a_target_that_was_cut_while_it_was_written_is_not_completed', 'exit 0'),
}


class NoticeTest(unittest.TestCase):
    versions = ('7.2',)

    def run_tests(self, folder, mechanism, words):
        """(exit status, what was said), of the tests with a library that trusts where that mechanism would look."""
        module, *tests = words.split()
        environment = {**os.environ, 'LD_LIBRARY_PATH': os.path.join(folder, 'src'), 'LIBBACKUP_BROKEN': mechanism, 'QEMU_VERSION': '7.2',
                       'LIBBACKUPD': os.path.join(folder, 'tools/libbackupd/libbackupd')}
        done = subprocess.run([sys.executable, os.path.join(HERE, f'{module}.py'), *tests], capture_output=True, text=True, env=environment,
                              timeout=300 * bed.SLOW)
        return done.returncode, done.stderr

    def test_without_a_mechanism_its_tests_fail(self):
        folder = broken.build(self, 'trusting')
        for mechanism, (tests, words) in CONTROLS.items():
            with self.subTest(without=mechanism):
                status, said = self.run_tests(folder, mechanism, tests)
                self.assertEqual(status, 1, said)
                failed = sum(map(int, re.findall(r'(?:failures|errors)=(\d+)', said)))     # each way in which a test tries it
                self.assertGreaterEqual(failed, len(tests.split()) - 1, said)
                self.assertIn(words, said)

    def test_the_same_library_with_all_of_them_passes(self):
        """What fails above fails for want of the mechanism, not for the way in which the library was made."""
        folder = broken.build(self, 'trusting')
        status, said = self.run_tests(folder, 'nothing', CONTROLS['seals'][0])
        self.assertEqual(status, 0, said)


if __name__ == '__main__':
    unittest.main()
