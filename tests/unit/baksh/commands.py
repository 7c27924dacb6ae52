#!/usr/bin/env python3
"""Every command: the call it makes, virsh's text, valid JSON."""
import json
import os
import re
import tempfile

from harness import check, contains, main, run

# command line, what --json prints of it (one of its keys)
INFORMATION = {
    'uri': 'uri', 'version': 'library', 'version --daemon': 'daemon', 'capabilities': 'xml', 'list': 'domains', 'list --all': 'domains', 'discover': 'processes',
    'attach web --qmp /q': 'name', 'detach web': 'detached', 'dominfo web': 'name', 'domstate web': 'state', 'domblklist web': 'disks',
    'domblkinfo web vda': 'capacity', 'domblkinfo web --all': 'disks', 'domblkinfo web vda --chain': 'images', 'domfsfreeze web': 'filesystems', 'domfsthaw web': 'filesystems',
    'dumpxml web': 'xml', 'backup-begin web': 'id', 'backup-begin web --wait': 'id', 'backup-begin web --dry-run': 'steps',
    'backup-stop web': 'id', 'backup-info web': 'id', 'backup-list web': 'jobs', 'backup-wait web': 'id', 'backup-dumpxml web': 'xml',
    'backup-limit web 1M': 'limit', 'domjobinfo web': 'type', 'domjobinfo web --completed': 'type', 'domjobabort web': 'ended',
    'blockjob web vda': 'type', 'checkpoint-create web': 'name', 'checkpoint-create-as web c9': 'name',
    'checkpoint-create-as web --print-xml': 'xml', 'checkpoint-list web': 'checkpoints', 'checkpoint-info web c2': 'name',
    'checkpoint-parent web c2': 'parent', 'checkpoint-dumpxml web c1': 'xml', 'checkpoint-delete web c1': 'deleted',
    'checkpoint-check web': 'findings', 'event --event lifecycle': 'event',
}


def test_every_command_prints_one_json_document():
    for line, key in INFORMATION.items():
        result = run(*line.split(), '--json', events=1)
        check(result.status, 0, f'{line}\n{result}')
        document = result.json()
        assert key in document, f'{line}: no {key} in {document}'


def test_the_keys_of_a_job_are_those_of_the_contract():
    job = run('backup-info', 'web', '--json', states='failed').json()
    for key in 'id domain mode state started ended error partial disks'.split():
        assert key in job, key
    for key in 'target state type reason bytes total error'.split():
        assert key in job['disks'][0], key
    check(job['started'], '2020-09-13T12:26:40.123456Z')
    check(job['state'], 'failed')
    check(job['error_code'], 'no-space')
    check(job['disks'][1]['target'], 'vdb')
    check(job['disks'][0]['total'], 1000 << 20)
    check(run('backup-info', 'web', '--json', states='running').json()['ended'], None)


def test_what_is_not_known_is_null_and_not_empty():
    job = run('backup-info', 'web', '--json').json()
    check(job['error'], None)
    check(job['disks'][0]['reason'], None)
    check(run('discover', '--json').json()['processes'][0]['attached_as'], None)


def test_guests_are_listed_as_virsh_does():
    check(run('list').out, ' Id   Name   State\n----------------------\n 3    web    running\n\n')
    check(run('list', '--name').out, 'web\n\n')
    check(run('list', '--uuid', options=['-q']).out, '11111111-2222-3333-4444-555555555555\n')
    check(run('domstate', 'web', options=['-q']).out, 'running\n')


def test_list_asks_for_what_its_options_say():
    check(run('list').log[0], ('list', '1'))
    check(run('list', '--inactive').log[0], ('list', '2'))
    check(run('list', '--all').log[0], ('list', '0'))
    check(run('list', '--without-checkpoint', '--name', options=['-q']).out, '')


def test_a_guest_is_found_by_name_id_and_uuid():
    for name in 'web', '3', '11111111-2222-3333-4444-555555555555':
        check(run('domstate', name).status, 0, name)
    result = run('domstate', 'nosuch')
    check(result.status, 1)
    check(result.err, "error: failed to get domain 'nosuch'\nerror: no guest 'nosuch' is attached\n")


def test_disks_are_listed_with_every_name():
    check(run('domblklist', 'web').out, ' Target   Source              Names\n------------------------------------------\n'
          ' vda      /images/web.qcow2   vda, disk0\n vdb      /images/web.qcow2   vdb, disk1\n\n')
    check(run('domblkinfo', 'web', 'vda').out, 'Capacity:       1073741824\nAllocation:     1048576\nPhysical:       2097152\n\n')
    check(run('domblkinfo', 'web', 'vda', '--human').out, 'Capacity:       1.000 GiB\nAllocation:     1.000 MiB\nPhysical:       2.000 MiB\n\n')


def test_dominfo_looks_as_in_virsh():
    out = run('dominfo', 'web').out
    for line in 'Id:             3', 'Name:           web', 'State:          running', 'CPU(s):         2', 'CPU time:       1.5s', \
                'Max memory:     1048576 KiB', 'Used memory:    1048576 KiB', 'Persistent:     yes':
        contains(out, line + '\n')


def cells(text):
    return [re.split(r' {2,}', line.strip()) for line in text.splitlines() if line and not line.startswith('---')]


def test_the_list_of_backups_says_what_each_is_and_where():
    head, row, _ = cells(run('backup-list', 'web').out)
    check(head, 'Id Mode Type State Started Took Bytes Checkpoint Since File Error'.split())
    check(row, ['0a1b2c3d', 'push', 'full', 'completed', '2020-09-13 12:26:40 +0000', '12.0 s', '1.953 GiB', 'c1', '-', '/backups/'])
    _, row, _ = cells(run('backup-list', 'web', since='c0', path='/backups/%c/disk').out)
    check((row[2], row[8], row[9]), ('full, incremental', 'c0', '2 files'))
    _, row, _ = cells(run('backup-list', 'web', disks=1).out)
    check(row[9], '/backups/vda')
    _, row, _ = cells(run('backup-list', 'web', pull=1, states='failed').out)
    check((row[1], row[9], row[10]), ('pull', '-', "disk 'vda': No space left on device"))


def test_freeze_and_thaw_count():
    check(run('domfsfreeze', 'web').out, 'Froze 2 filesystem(s)\n\n')
    result = run('domfsthaw', 'web', '--mountpoint', '/a', '--mountpoint', '/b', '--mountpoint', '/c')
    check(result.out, 'Thawed 3 filesystem(s)\n\n')
    check(result.log[0], ('fs_freeze', '3'))


def test_attach_says_how_the_guest_is_reached():
    result = run('attach', 'web', '--qmp', '/q', '--agent', '/a', '--disk', 'vda=disk0', '--disk', 'vdb=disk1')
    check(result.out, "Domain 'web' attached\n\n")
    check(result.log[0], ('attach', 'web qmp=/q agent=/a disks=2 images=0'))
    check(run('attach', 'web', '--image', 'vda=/a.qcow2').log[0], ('attach', 'web qmp= agent= disks=0 images=1'))
    check(run('attach', 'web', '--qmp', '/q', '--agent', '/a', '--image', 'a=/b').log[0], ('attach', 'web qmp=/q agent=/a disks=0 images=1'))
    check(run('attach', 'web', '--qmp', '/q', '--image', 'auto').log[0], ('attach', 'web qmp=/q agent= disks=0 images=0 flags=1'))
    for bad in (['attach', 'web'], ['attach', 'web', '--image', 'a=/b', '--agent', '/a'], ['attach', 'web', '--image', 'nothing'],
                ['attach', 'web', '--image', 'auto'], ['attach', 'web', '--image', 'a=/b', '--disk', 'a=b'],
                ['attach', 'web', '--qmp', '/q', '--disk', '=x'], ['attach', '--qmp', '/q']):
        check(run(*bad).status, 2, bad)


def test_job_statistics_are_virshs_line_for_line():
    job = 'Job type:         Unbounded   \nOperation:        Backup      \nTime elapsed:     12000        ms\n'
    check(run('domjobinfo', 'web', states='running').out,
          job + 'File processed:   0.000 B\nFile remaining:   1.953 GiB\nFile total:       1.953 GiB\n\n')
    check(run('domjobinfo', 'web', states='ready', pull=1).out,
          job + 'Temporary disk space use: 64.000 KiB\nTemporary disk space total: 1.000 GiB\n\n')
    check(run('domjobinfo', 'web').out, 'Job type:         None        \n\n')
    check(run('domjobinfo', 'web', '--completed', states='failed').out, 'Job type:         Failed      \nOperation:        Backup      \n\n')
    contains(run('domjobinfo', 'web', '--completed', '--anystats', states='failed').out, "Error message:    disk 'vda': No space left on device\n")
    check(run('domjobinfo', 'web', '--completed', '--rawstats').out,
          'Job type: 3\n\noperation: 9\ntime_elapsed: 12000\ndisk_total: 2097152000\ndisk_processed: 2097152000\ndisk_remaining: 0\nsuccess: 1\n\n')


def test_statistics_are_kept_only_when_asked():
    check(run('domjobinfo', 'web', '--completed').log[0], ('job_stats', '1'))
    check(run('domjobinfo', 'web', '--completed', '--keep-completed').log[0], ('job_stats', '3'))
    result = run('domjobinfo', 'web', '--keep-completed')
    check((result.status, result.err), (2, 'error: Option --completed is required by option --keep-completed\n'))


def test_domjobabort_prints_nothing():
    result = run('domjobabort', 'web')
    check((result.status, result.out), (0, '\n'))
    check(result.log[0], ('job_abort', 'web'))


def test_blockjob_never_says_100_while_something_is_left():
    check(run('blockjob', 'web', 'vda', states='running').err, '\rBackup: [ 0.00 %]\n')
    check(run('blockjob', 'web', 'vda').out, 'No current block job for vda\n\n')
    check(run('blockjob', 'web', 'vda', '--raw', states='running').out, ' type=Backup\n bandwidth=1\n cur=0\n end=1048576000\n\n')
    check(run('blockjob', 'web', 'vda', '--bandwidth', '5').log[0], ('backup_limit', 'vda 5242880'))
    check(run('blockjob', 'web', 'vda', '--abort', states='running').log[1], ('backup_stop', '0a1b2c3d 1'))
    result = run('blockjob', 'web', 'vdz', '--abort', states='running')
    check((result.status, result.err), (1, "error: no backup of disk 'vdz' runs, and no block job\n"))
    check(run('blockjob', 'web', 'vda', '--bandwidth', '5', '--bytes').log[0], ('backup_limit', 'vda 5'))


def test_block_jobs_speak_as_virsh_does():
    check(run('blockcommit', 'web', 'vda', '--active').out, 'Active Block Commit started\n\n')
    check(run('blockcommit', 'web', 'vda', '--top', '/t', '--base', '/b', '5').log[0], ('block_begin', '3 vda /b /t 5242880 0'))
    check(run('blockcommit', 'web', 'vda', '--top', '/t', '--wait').out, 'Commit complete\n\n')
    result = run('blockcommit', 'web', 'vda', '--pivot', '--verbose')
    check((result.out, result.err), ('\nSuccessfully pivoted\n\n', '\rActive Block Commit: [100.00 %]'))
    check(result.log[-2], ('block_end', 'vda 2'))
    check(run('blockcommit', 'web', 'vda', '--keep-overlay').out, 'Commit complete, overlay image kept\n\n')
    check(run('blockcommit', 'web', 'vda', '--active', '--wait').out, 'Now in synchronized phase\n\n')
    check(run('blockpull', 'web', 'vda').out, 'Block Pull started\n\n')
    check(run('blockpull', 'web', 'vda', '--base', '/b', '--wait', '--verbose').out, '\nPull complete\n\n')
    check(run('blockpull', 'web', 'vda', '--drop-checkpoints').err, "warning: checkpoint 'c1' is deleted: why\n")
    check(run('blockpull', 'web', 'vda', '--dry-run').json()['steps'], [])
    check(run('blockcommit', 'web', 'vda', '--pivot', '--keep-overlay').status, 2)
    result = run('blockcopy', 'web', 'vda', '/t', '5', '--format', 'raw', '--shallow', '--granularity', '64K', '--buf-size', '1M')
    check((result.out, result.log[0]), ('Block Copy started\n\n', ('block_begin', '2 vda /t raw 5242880 1 65536 1048576')))
    check(run('blockcopy', 'web', 'vda', "/a'b<", '--blockdev', '--reuse-external').log[0], ('block_begin', "2 vda /a'b<  0 24 0 0"))
    check(run('blockcopy', 'web', 'vda', '/t', '--wait').out, 'Now in mirroring phase\n\n')
    check(run('blockcopy', 'web', 'vda', '/t', '--finish').out, 'Successfully copied\n\n')
    check(run('blockcopy', 'web', 'vda', '/t', '--pivot', '--verbose').err, '\rBlock Copy: [100.00 %]')
    for bad in ([], ['/t', '--pivot', '--finish'], ['/t', '--xml', '/x']):
        check(run('blockcopy', 'web', 'vda', *bad).status, 2)
    contains(run('blockcopy', 'web', 'vda', '--xml', '/nosuch').err, "Failed to open file '/nosuch'")
    for line, state in ('blockpull web vda', 'started'), ('blockpull web vda --wait', 'completed'), ('blockcommit web vda --pivot', 'pivoted'):
        check(run(*line.split(), '--json').json(), {'state': state})


def test_limits_take_units():
    check(run('backup-limit', 'web', '100M').log[0], ('backup_limit', ' 104857600'))
    check(run('backup-limit', 'web', '0', '--disk', 'vda').log[0], ('backup_limit', 'vda 0'))
    for bad in 'fast', '-1', '1Q', '', '9999999999G':
        check(run('backup-limit', 'web', bad).status, 2, bad)


def test_checkpoints_are_listed_in_virshs_forms():
    check(run('checkpoint-list', 'web').out,
          ' Name   Creation Time\n-----------------------------------\n' + ''.join(f' c{i}     2020-09-13 12:26:4{i - 1} +0000\n' for i in range(1, 5)) + '\n')
    contains(run('checkpoint-list', 'web', '--parent').out, ' Name   Creation Time               Parent\n--------------------------------------------\n c1     2020-09-13 12:26:40 +0000   \n c2     2020-09-13 12:26:41 +0000   c1\n')
    check(run('checkpoint-list', 'web', '--name', options=['-q']).out, 'c1\nc2\nc3\nc4\n')
    check(run('checkpoint-list', 'web', '--name', '--roots', options=['-q']).out, 'c1\n')
    check(run('checkpoint-list', 'web', '--name', '--leaves', options=['-q']).out, 'c3\nc4\n')
    check(run('checkpoint-list', 'web', '--name', '--no-leaves', options=['-q']).out, 'c1\nc2\n')
    check(run('checkpoint-list', 'web', '--name', '--from', 'c1', options=['-q']).out, 'c2\n')
    check(run('checkpoint-list', 'web', '--name', '--from', 'c1', '--descendants', options=['-q']).out, 'c2\nc3\nc4\n')


def test_the_tree_is_virshs_blank_for_blank():
    check(run('checkpoint-list', 'web', '--tree', options=['-q']).out,
          'c1\n  |\n  +- c2\n      |\n      +- c3\n      +- c4\n        \n')
    check(run('checkpoint-list', 'web', '--tree', '--from', 'c2', options=['-q']).out, 'c2\n  |\n  +- c3\n  +- c4\n    \n')
    check(run('checkpoint-list', 'web', '--tree', '--from', 'c3', options=['-q']).out, 'c3\n\n')


def test_options_that_do_not_go_together_are_named_as_virsh_does():
    for words, text in {
        '--parent --roots': 'Options --parent and --roots are mutually exclusive', '--tree --name': 'Options --tree and --name are mutually exclusive',
        '--roots --from c1': 'Options --roots and --from are mutually exclusive', '--descendants': 'Option --from is required by option --descendants',
        '--leaves --tree': '--leaves and --tree are mutually exclusive',
    }.items():
        result = run('checkpoint-list', 'web', *words.split())
        check((result.status, result.err), (2, f'error: {text}\n'))


def test_checkpoints_have_info_and_parents():
    check(run('checkpoint-info', 'web', 'c2').out, 'Name:           c2\nDomain:         web\nParent:         c1\nChildren:       2\nDescendants:    2\n\n')
    contains(run('checkpoint-info', 'web', 'c1').out, 'Parent:         -\nChildren:       1\nDescendants:    3\n')
    check(run('checkpoint-parent', 'web', 'c2', options=['-q']).out, 'c1\n')
    result = run('checkpoint-parent', 'web', 'c1')
    check((result.status, result.err), (1, "error: checkpoint 'c1' has no parent\n"))


def test_checkpoints_are_made_as_virsh_makes_them():
    check(run('checkpoint-create', 'web').log[0], ('checkpoint_create', 'flags=0\n<domaincheckpoint/>'))
    result = run('checkpoint-create-as', 'web', 'c9', 'desc', '--diskspec', 'vda,checkpoint=no', '--diskspec', 'vdb,bitmap=x', '--print-xml')
    check(result.out, "<domaincheckpoint>\n  <name>c9</name>\n  <description>desc</description>\n  <disks>\n    <disk name='vda' checkpoint='no'/>\n"
          "    <disk name='vdb' bitmap='x'/>\n  </disks>\n</domaincheckpoint>\n\n")
    check(run('checkpoint-create-as', 'web', 'c9', '--quiesce').log[0], ('checkpoint_create', 'flags=2\n<domaincheckpoint>\n  <name>c9</name>\n</domaincheckpoint>\n'))
    contains(run('checkpoint-create-as', 'web', 'a', 'x<y', '--diskspec', 'v,,1', '--print-xml').out, "<name>a</name>\n  <description>x&lt;y</description>\n  <disks>\n    <disk name='v,1'/>")
    result = run('checkpoint-create-as', 'web', '--diskspec', 'a,b')
    check((result.status, result.err), (2, 'error: unable to parse diskspec: a,b\n'))


def test_a_checkpoint_from_a_file_says_so():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'c.xml')
        open(path, 'w').write('<domaincheckpoint/>')
        check(run('checkpoint-create', 'web', path).out, f"Domain checkpoint c1 created from '{path}'\n\n")
        check(run('checkpoint-redefine', 'web', path, '--validate').log[0][1].split('\n')[0], 'flags=5')
        check(run('checkpoint-create', 'web', path, '--redefine').log[0][1].split('\n')[0], 'flags=1')
    result = run('checkpoint-create', 'web', '/nowhere/c.xml')
    check((result.status, result.err), (1, "error: Failed to open file '/nowhere/c.xml': No such file or directory\n"))


def test_checkpoint_delete_passes_its_flags():
    check(run('checkpoint-delete', 'web', 'c2').log[0], ('checkpoint_delete', 'c2 0'))
    check(run('checkpoint-delete', 'web', 'c2', '--children').log[0], ('checkpoint_delete', 'c2 1'))
    check(run('checkpoint-delete', 'web', 'c2', '--metadata').log[0], ('checkpoint_delete', 'c2 2'))
    result = run('checkpoint-delete', 'web', 'c2', '--children-only')
    check((result.out, result.log[0]), ('Domain checkpoint c2 children deleted\n\n', ('checkpoint_delete', 'c2 4')))


def test_checkpoint_dumpxml_passes_its_flags():
    for words, flags in {'--security-info': 1, '--no-domain': 2, '--size': 4, '--size --no-domain': 6}.items():
        check(run('checkpoint-dumpxml', 'web', 'c1', *words.split()).log[0], ('checkpoint_xml', f'c1 {flags}'))


def test_checkpoint_edit_tells_a_change_from_none():
    result = run('checkpoint-edit', 'web', 'c1', env={'EDITOR': 'true', 'VISUAL': ''})
    check(result.out, 'Checkpoint c1 XML configuration not changed.\n\n')
    check([name for name, _ in result.log if name == 'checkpoint_create'], [])
    result = run('checkpoint-edit', 'web', 'c1', env={'EDITOR': 'sed -i s/c1/c1/;s/domaincheckpoint>/domaincheckpoint >/', 'VISUAL': ''})
    check(result.status, 1, result)
    result = run('checkpoint-edit', 'web', 'c1', env={'EDITOR': "sed -i 's/<name>/<!-- x --><name>/'", 'VISUAL': ''})
    check(result.out, 'Checkpoint c1 edited.\n\n')
    contains([text for name, text in result.log if name == 'checkpoint_create'][0], 'flags=1\n<domaincheckpoint>\n  <!-- x --><name>c1</name>')
    result = run('checkpoint-edit', 'web', 'c1', env={'EDITOR': 'false', 'VISUAL': ''})
    check(result.status, 1)
    check([name for name, _ in result.log if name == 'checkpoint_create'], [])


def test_xpath_selects_as_in_virsh():
    check(run('backup-dumpxml', 'web', '--xpath', '//disk/@name', options=['-q']).out, ' name="vda"\n name="vdb"\n')
    check(run('backup-dumpxml', 'web', '--xpath', '//disk', '--wrap', options=['-q']).out, '<nodes>\n  <disk name="vda"/>\n  <disk name="vdb"/>\n</nodes>\n')
    check(run('backup-dumpxml', 'web', '--xpath', '//[').status, 2)
    check(run('backup-dumpxml', 'web', '--wrap').status, 2)


def test_events_are_printed_and_counted():
    result = run('event', '--event', 'lifecycle', '--timestamp', events=1)
    check(result.out, "2020-09-13 12:26:40.123+0000: event 'lifecycle' for domain 'web': attached\nevents received: 1\n\n")
    check(result.log[-2:], [('event_deregister', '7'), ('close', 'libvirt+fake:///')])
    result = run('event', '--event', 'job-completed', events=6)
    contains(result.out, "event 'job-completed' for domain 'web':\n\toperation: 9\n\ttime_elapsed: 12000\n\tdisk_total: 2097152000\n")
    contains(result.out, '\tsuccess: 1\nevents received: 1\n')
    result = run('event', '--event', 'job-completed', '--timeout', '0.1')
    check((result.status, result.out), (1, 'event loop timed out\nevents received: 0\n\n'))
    result = run('event', '--loop', '--timeout', '0.1', events=12)
    check(result.status, 0)
    contains(result.out, 'events received: 12\n')
    check(run('event', '--list', options=['-q']).out, 'lifecycle\njob-state\njob-disk\nprogress\njob-completed\nwarning\nconnection\n')
    contains(run('event', '--event', 'job-complete').err, "did you mean 'job-completed'?")


def test_a_plan_is_printed_with_its_undo_and_what_is_ours_beside_the_commands():
    check(run('backup-begin', 'web', '--dry-run', options=['-q']).out,
          '1. start the copy\n    do:   {"action":"transaction"}\n          # disk: "vda"\n'
          '    undo: {"execute":"job-cancel"}\n          # timeout-ms: 5, only-after-failure: true\n')


def test_words_are_echoed_as_in_virsh():
    check(run('echo', 'a', 'b c', options=['-q']).out, 'a b c\n')
    check(run('echo', '--shell', 'b c', options=['-q']).out, "'b c'\n")
    check(run('echo', '--xml', 'b<c', options=['-q']).out, 'b&lt;c\n')
    check(run('echo one; domstate web; echo', options=['-q']).out, 'one\nrunning\n\n')
    result = run('echo', '--err', '--prefix', 'p:', 'x', options=['-q'])
    check((result.out, result.err), ('', 'p: x\n'))


def test_scripts_run_from_a_word_and_from_standard_input():
    check(run('domstate web; domstate 3', options=['-q']).out, 'running\nrunning\n')
    check(run('domstate', 'web', ';', 'domstate', '3', options=['-q']).out, 'running\nrunning\n')
    check(run(stdin=b"# a comment\ndomstate 'web'; domstate \"3\"\n\n", options=['-q']).out, 'running\nrunning\n')
    result = run(stdin=b'domstate nosuch\ndomstate web\nquit\nnosuch\n', options=['-q'])
    check((result.status, result.out), (1, 'running\n'))
    check(run("domstate 'web").status, 2)
    check(run('domstate web \\').status, 2)


def test_the_connection_can_be_changed_in_a_session():
    result = run(stdin=b'uri\nconnect libvirt+fake:///second\nuri\n', options=['-q'])
    check(result.out, 'libvirt+fake:///\nlibvirt+fake:///second\n')
    check([text for name, text in result.log if name == 'close'], ['libvirt+fake:///', 'libvirt+fake:///second'])


def test_a_read_only_session_changes_nothing():
    result = run('backup-begin', 'web', options=['-r'])
    check((result.status, result.log), (1, [('close', 'libvirt+fake:///')]))
    contains(result.err, 'read-only')
    check(run('dominfo', 'web', options=['-r']).status, 0)


main(globals())
