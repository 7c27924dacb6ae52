#!/usr/bin/python3
"""The user guide, as a person follows it: from top to bottom, as it is written, on one real guest."""
import os
import re
import subprocess

import bed

GUIDE = os.path.join(bed.TOP, 'docs', 'user-guide.md')


def blocks():
    """(the words before it, commands) of each block."""
    with open(GUIDE, encoding='utf-8') as file:
        parts = re.split(r'^```sh\n(.*?)^```\n', file.read(), flags=re.M | re.S)
    return list(zip(parts[::2], parts[1::2]))


class GuideTest(bed.LiveTest):
    versions = ('7.2',)

    def place(self, text):
        """The commands with the places of this test; without the one that asks every QEMU of the host, also those of other tests."""
        places = {'/run/web/qmp.sock': self.vm.qmp_path, '/run/web/agent.sock': self.vm.agent_path, '/backup/': self.path('backup') + '/',
                  '/images/': self.path('images') + '/', '/tmp/': self.path('look') + '/'}
        text = re.sub('|'.join(places), lambda shown: places[shown[0]], text.replace('baksh discover\n', ''))
        return text.replace('0a1b2c3d', self.listing('backup-list', 'web')[0]['id']) if '0a1b2c3d' in text else text

    def follow(self, text):
        """A block in a shell that stops at the first command that fails."""
        done = subprocess.run(['bash', '-ec', self.place(text)], capture_output=True, text=True, timeout=300 * bed.SLOW, stdin=subprocess.DEVNULL,
                              env={**self.environment, 'PATH': f'{self.path("bin")}:{os.environ["PATH"]}'})
        self.assertEqual(done.returncode, 0, f'{text}\n{done.stdout}\n{done.stderr}')
        return done.stdout

    def test_the_guide_can_be_followed_from_top_to_bottom(self):
        for name in ('bin', 'images', 'look', 'backup'):
            os.mkdir(self.path(name))
        os.symlink(bed.baksh_path(), self.path('bin', 'baksh'))
        for name in ('archive', 'data'):
            self.make_image(f'images/{name}.qcow2', '1M')
        self.vm = self.guest(disks=2, fill='8M')
        followed, left_out = [], []
        for before, commands in blocks():
            if before.rstrip().endswith('elsewhere:'):
                left_out.append(commands)
                continue
            followed.append(self.follow(commands))
        self.assertEqual(len(left_out), 3, left_out)
        self.assertGreater(len(followed), 20)
        self.assertIn("quiesced", self.must('backup-list', 'web', '--json').out)
        self.assert_one_instant(self.path('backup/web/quiet/vda.qcow2'), self.path('backup/web/quiet/vdb.qcow2'), quiesced=True)
        self.assertEqual(os.path.getsize(self.path('backup/web/disk.raw')), 64 << 20)
        self.assert_nothing_left(self.vm)
        self.assert_never_paused(self.vm)


if __name__ == '__main__':
    bed.main()
