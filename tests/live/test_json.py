#!/usr/bin/python3
"""docs/json.md on a real engine: what the fake driver of the unit tests has no data for."""
import json
import os
import sys

import bed

sys.path.insert(0, os.path.join(bed.HERE, '..', 'unit', 'docs'))
from json_doc import Document  # noqa: E402

MIB = 1 << 20
DOCUMENT = Document()


class JsonTest(bed.LiveTest):
    versions = ('7.2', '11.1')

    def setUp(self):
        super().setUp()
        self.vm = self.engine(self.make_image('disk.qcow2', 2 * MIB, data=[(0, MIB, 7)]))
        self.must('attach', 'g', '--qmp', self.vm.qmp_path, '--disk', 'vda=disk0')
        self.environment['LIBBACKUP_REPOSITORY'] = self.repository = self.path('repository')
        os.makedirs(self.path('home', 'libbackup', 'jobs.d'))
        with open(self.path('home', 'libbackup', 'jobs.d', 'nightly.conf'), 'w') as file:
            file.write(f'guests = *\nrepository = {self.repository}\n')

    def document(self, *words, rc=0):
        document = self.json(*words, rc=rc)
        self.assertEqual(DOCUMENT.differences(document, DOCUMENT.shape_of(words)), [], words)
        return document

    def test_points_and_nights_have_the_keys_that_are_said(self):
        see = self.document
        see('repository-create', '--note', 'x')
        see('point-create', 'g', '--dry-run')
        first = see('point-create', 'g')['id']
        see('backup-run', 'nightly', '--dry-run')
        self.vm.io('disk0', 'write -q -P 9 0 64k')
        [run] = see('backup-run', 'nightly')['runs']
        self.assertEqual(run['guests'][0]['type'], 'incremental')
        for words in (['backup-report'], ['backup-report', '--list'], ['backup-status'], ['point-list'], ['point-info', 'g@latest'], ['point-diff', 'g@latest'],
                      ['point-verify', '--all'], ['repository-info'], ['repository-list'], ['repository-check'], ['point-pin', f'g@{first}'],
                      ['point-pin', f'g@{first}', '--off'], ['point-restore', 'g@latest', '--target', self.path('restored') + '/'],
                      ['point-export', 'g@latest', '--format', 'vma', self.path('g.vma')], ['point-import', self.path('g.vma'), '--domain', 'h'],
                      ['point-prune', 'g', '--keep-last', '1', '--dry-run'], ['point-delete', f'g@{first}']):
            see(*words)
        other = self.path('other')
        self.must('repository-create', other)
        self.assertEqual(len(see('point-copy', '--all', '--to', other)['points']), 2)

    def test_keys_of_a_repository_have_the_keys_that_are_said(self):
        for name in 'ab':
            with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT, 0o600), 'w') as file:
                file.write('pass phrase ' + name)
        one = ['--passphrase-file', self.path('a')]
        self.document('repository-create', '--encrypt', *one)
        self.assertEqual(self.document('repository-key-add', *one, '--new-passphrase-file', self.path('b'))['slot'], 1)
        self.assertEqual(len(self.document('repository-key-list', *one)['keys']), 2)

    def test_damage_is_described(self):
        self.must('repository-create')
        point = self.json('point-create', 'g')
        os.truncate(os.path.join(self.repository, point['disks'][0]['path']), 10)
        self.assertTrue(self.document('repository-check', rc=4)['findings'])

    def test_disks_and_plans_have_the_keys_that_are_said(self):
        self.must('checkpoint-create-as', 'g', 'c1')
        [image] = self.document('domblkinfo', 'g', 'vda', '--chain')['images']
        self.assertEqual([b['name'] for b in image['bitmaps'] if not b['seal']], ['c1'])
        self.document('backup-begin', 'g', '--target', self.path('out.qcow2'), '--since', 'c1', '--dry-run')
        self.document('checkpoint-check', 'g')
        self.document('dominfo', 'g')
        self.document('discover')

    def test_lines_of_a_night_are_objects_with_a_type(self):
        self.must('repository-create')
        lines = [json.loads(line) for line in self.must('backup-run', 'nightly', '--json-lines').out.splitlines()]
        self.assertEqual((lines[0]['type'], lines[-1]['type']), ('run-start', 'summary'))
        self.assertEqual(DOCUMENT.differences({key: value for key, value in lines[-1].items() if key not in ('type', 'time')}, 'run'), [])


if __name__ == '__main__':
    bed.main()
