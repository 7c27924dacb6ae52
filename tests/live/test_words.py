#!/usr/bin/python3
"""The commonest failures, word for word (words.txt): what happened, to which object, why, what now.

LIBBACKUP_WRITE_WORDS=1 writes the file anew, to be reviewed."""
import difflib
import os
import re

import bed

SIZE = 4 << 20
GOLDEN = os.path.join(bed.HERE, 'words.txt')


class WordsTest(bed.LiveTest):
    versions = ('7.2',)

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', SIZE, data=[(0, SIZE, 7)]), extra=())
        self.must('attach', 'g', '--qmp', self.vm.qmp_path)
        self.said = []
        os.mkdir(self.path('out'))

    def note(self, title, done):
        text = re.sub(r'\b[0-9a-f]{8}\b', 'JOB', done.err.replace(self.directory, 'DIR'))
        text = re.sub(r'7\.2\.\d+ ?(\([^)]*\))?', '7.2.X', re.sub(r'\b(pid|process) \d+', r'\1 N', text))
        text = re.sub(r'^g: .*\n', '', text, flags=re.M)       # progress
        self.said.append(f'# {title}: exit {done.rc}\n{text.strip()}\n')

    def say(self, title, *argv, **kw):
        self.note(title, self.baksh(*argv, **kw))

    def push(self, title, *more, target=None, rc=None):
        self.say(title, 'backup-begin', 'g', '--mode', 'push', '--target', f'disk0={target or self.path("out/copy")}', *more)

    def xml(self, title, text, *more):
        with open(self.path('b.xml'), 'w') as f:
            f.write(text)
        self.say(title, 'backup-begin', 'g', self.path('b.xml'), *more)

    def network(self, sock):
        return (f"<domainbackup mode='push'><disks><disk name='disk0' type='network'><target protocol='nbd' name=''><host transport='unix' socket='{sock}'/>"
                "</target><driver type='raw'/></disk></disks></domainbackup>")

    def before_begin(self):
        self.say('no such guest', 'backup-begin', 'nobody', '--mode', 'push')
        self.say('no monitor at the path', 'attach', 'h', '--qmp', self.path('nothing'))
        held = bed.Qmp.connect(self.vm.qmp_path)
        self.say('monitor held by another', 'domblklist', 'g')
        held.sock.close()
        self.say('no such disk', 'backup-begin', 'g', '--mode', 'push', '--target', f'sda={self.path("x")}')
        self.say('no target', 'backup-begin', 'g', '--mode', 'push')
        self.xml('not XML', 'this is no XML')
        self.xml('wrong attribute value', "<domainbackup mode='sideways'/>")

    def targets(self):
        with open(self.path('out/there'), 'w') as f:
            f.write('mine')
        self.push('target exists', target=self.path('out/there'))
        self.push('target directory missing', target=self.path('none/copy'))
        self.push('target is the disk itself', '--reuse-external', target=self.path('disk.qcow2'))
        humble = self.engine(self.make_image('humble.qcow2', SIZE), name='humble', extra=('-runas', 'nobody'))
        self.must('attach', 'humble', '--qmp', humble.qmp_path)
        os.mkdir(self.path('private'), 0o700)
        self.say('QEMU may not write there', 'backup-begin', 'humble', '--mode', 'push', '--target', f'disk0={self.path("private/copy")}')
        self.say('QEMU may not listen there', 'backup-begin', 'humble', '--mode', 'pull', '--server', f'unix:{self.path("private/nbd")}', '--scratch', '/tmp')
        self.make_image('out/small', SIZE // 2)
        self.push('reused target of another size', '--reuse-external', target=self.path('out/small'))
        self.push('protection that cannot be kept', '--protect', 'strict')
        self.push('increment without its checkpoint', '--since', 'never')
        self.push('file systems frozen without an agent', '--quiesce')
        self.xml('no NBD server', self.network(self.path('nowhere')), '--reuse-external')
        silent = bed.listen_unix(self.path('silent'))
        self.xml('NBD server that hangs', self.network(self.path('silent')), '--reuse-external')
        silent.close()

    def pulls(self):
        with open(self.path('file'), 'w') as f:
            f.write('mine')
        self.say('socket path is a file', 'backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("file")}')
        listener = bed.listen_unix(self.path('busy'))
        self.say('socket in use', 'backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("busy")}')
        listener.close()
        self.say('readable by anyone', 'backup-begin', 'g', '--mode', 'pull', '--server', 'tcp:0.0.0.0:10899')
        os.mkdir(self.path('certs'))
        self.say('certificates missing', 'backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("s")}', '--tls', '--tls-dir', self.path('certs'))
        small = self.small_fs('1M')
        self.say('no room for the scratch', 'backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("s")}', '--scratch', small)

    def ends(self):
        self.say('nothing to stop', 'backup-stop', 'g')
        self.push('target full', '--wait', target=os.path.join(self.small_fs('2M', 'full'), 'copy'))
        self.must('backup-begin', 'g', '--mode', 'pull', '--server', f'unix:{self.path("s")}')
        self.push('a backup runs already')
        for job in self.vm.qmp.execute('query-jobs'):
            self.vm.qmp.execute('job-cancel', id=job['id'])
        self.say('point in time broken by another', 'backup-stop', 'g')
        self.push('took too long', '--limit', '64KiB', '--timeout', '1', '--wait')
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("out/copy")}', '--limit', '64KiB')
        self.must('backup-stop', 'g', '--abort')
        self.say('aborted on request', 'backup-wait', 'g')
        self.must('backup-begin', 'g', '--mode', 'push', '--target', f'disk0={self.path("out/copy")}', '--limit', '64KiB')
        self.vm.kill()
        self.say('QEMU died', 'backup-wait', 'g')
        self.say('QEMU is not there', 'checkpoint-create-as', 'g', 'late')

    def test_the_commonest_failures_are_told_in_these_words(self):
        for part in (self.before_begin, self.targets, self.pulls, self.ends):
            part()
        self.assertGreaterEqual(len(self.said), 25)
        text = '\n'.join(self.said)
        if os.environ.get('LIBBACKUP_WRITE_WORDS'):
            with open(GOLDEN, 'w') as f:
                f.write(text)
        with open(GOLDEN) as f:
            golden = f.read()
        self.assertEqual(text, golden, '\n'.join(difflib.unified_diff(golden.splitlines(), text.splitlines(), 'words.txt', 'said', lineterm='')))


if __name__ == '__main__':
    bed.main()
