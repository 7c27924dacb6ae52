#!/usr/bin/python3
"""The sequences of kept points notice a library that is careless with them."""
import os
import unittest

import broken
import keeping


class NoticeTest(unittest.TestCase):
    versions = ('7.2',)

    def test_a_removal_that_puts_down_nothing_before_it_begins_is_noticed(self):
        folder = broken.build(self, 'careless')
        with self.assertRaisesRegex(keeping.Broken, 'killed at rename [0-9]+: (.|\n)*needs point'):
            keeping.run_every('delete', calls=('rename',), environment={'LD_LIBRARY_PATH': os.path.join(folder, 'src')})


if __name__ == '__main__':
    unittest.main()
