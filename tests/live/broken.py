"""Builds that are wrong on purpose (tests/broken), for the tests of the tests."""
import os
import shutil
import tempfile

import bed


def build(test, variant):
    """A folder like that of the build, with the wrong library and daemon in it, until the test ends."""
    made_in = os.path.abspath(os.environ.get('BUILD_DIR') or os.path.join(bed.TOP, 'build'))
    bed.need('ninja', 'ninja-build')
    made = [f'tests/broken/libbackup-{variant}.so', f'tests/broken/libbackupd-{variant}']
    bed.run('ninja', '-C', made_in, *made, timeout=1500)
    folder = tempfile.mkdtemp(prefix='bak-broken-')
    test.addCleanup(shutil.rmtree, folder)
    for name, source in zip(('src/libbackup.so.0', 'tools/libbackupd/libbackupd'), made):
        os.makedirs(os.path.dirname(os.path.join(folder, name)))
        os.symlink(os.path.join(made_in, source), os.path.join(folder, name))
    return folder
