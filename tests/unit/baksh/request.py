#!/usr/bin/env python3
"""The documents that backup-begin makes of its options."""
import os
import tempfile

from harness import check, contains, main, run

DISK = "    <disk name='{}'{}>\n{}    </disk>\n"


def document(*options, **fake):
    result = run('backup-begin', 'web', '--print-xml', *options, options=['-q'], **fake)
    check(result.status, 0, f'{options}\n{result}')
    assert not [name for name, _ in result.log if name == 'backup_begin']
    return result.out


def refused(*options, **fake):
    result = run('backup-begin', 'web', *options, **fake)
    check(result.status, 2, f'{options}\n{result}')
    assert not [name for name, _ in result.log if name == 'backup_begin'], options
    return result.err


def test_no_option_is_a_push_of_all_disks():
    check(document(), "<domainbackup mode='push'>\n</domainbackup>\n")


def test_a_pull_exports_where_it_is_told():
    check(document('--mode', 'pull'), "<domainbackup mode='pull'>\n  <server transport='auto'/>\n</domainbackup>\n")
    for address, attributes in {
        'unix:/run/q.sock': "transport='unix' socket='/run/q.sock'", 'tcp:127.0.0.1:10809': "transport='tcp' name='127.0.0.1' port='10809'",
        'tcp:[::1]:10809': "transport='tcp' name='::1' port='10809'", 'tcp:localhost': "transport='tcp' name='localhost'",
        'tcp:[::1]': "transport='tcp' name='::1'",
    }.items():
        check(document('--server', address), f"<domainbackup mode='pull'>\n  <server {attributes}/>\n</domainbackup>\n")


def test_bad_addresses_are_refused():
    for address in 'tcp:', 'tcp:h:0', 'tcp:h:70000', 'tcp:h:x', 'tcp:h:', 'udp:h:1', 'unix:run/q', 'unix:/' + 'x' * 107, '':
        refused('--server', address)
    document('--server', 'unix:/' + 'x' * 106)


def test_every_option_has_its_xml():
    check(document('--mode', 'pull', '--server', 'tcp:0.0.0.0:9', '--allow-insecure', '--idle-timeout', '60', '--tls-dir', '/pki', '--since', 'c.1',
                   '--fallback', 'full', '--limit', '10M', '--protect', 'strict', '--scratch', '/scratch', '--scratch-limit', '1G'),
          "<domainbackup mode='pull' fallback='full'>\n  <incremental>c.1</incremental>\n"
          "  <server transport='tcp' name='0.0.0.0' port='9' tls='yes' tls-dir='/pki' allow-insecure='yes' idle-timeout='60'/>\n"
          "  <limit bytes_per_sec='10485760'/>\n  <guest protect='strict' scratch='/scratch' scratch-limit='1073741824'/>\n</domainbackup>\n")


def test_a_directory_of_previous_backups_serves_every_disk():
    text = document('--target', '/b/new/', '--onto', '/b/old/', '--onto', 'vdb=/c/vdb', '--since', 'c1')
    for line in "<target file='/b/new/vda.qcow2'/>\n      <backing file='/b/old/vda.qcow2'/>", "<target file='/b/new/vdb.qcow2'/>\n      <backing file='/c/vdb'/>":
        contains(text, line)


def test_a_series_begins_with_a_full_backup():
    check(document('--series', 'night'), "<domainbackup mode='push' series='night'>\n</domainbackup>\n")
    refused('--series', 'night', '--since', 'c1')
    refused('--series', 'night', '--checkpoint', 'c1')


def test_disks_get_what_is_theirs():
    check(document('--target', 'vda=/b/a.raw', '--target', 'disk1=/dev/vg/b', '--format', 'raw', '--sync', 'top', '--onto', 'vda=/b/old', '--scratch', 'vdb=/s/b'),
          "<domainbackup mode='push'>\n  <disks>\n"
          + DISK.format('vda', " type='file' sync='top'", "      <driver type='raw'/>\n      <target file='/b/a.raw'/>\n      <backing file='/b/old'/>\n")
          + DISK.format('vdb', " type='block' sync='top'", "      <driver type='raw'/>\n      <target dev='/dev/vg/b'/>\n      <scratch file='/s/b'/>\n")
          + "  </disks>\n</domainbackup>\n")


def test_a_directory_for_the_scratch_of_two_disks_is_one():
    out = document('--mode', 'pull', '--scratch', 'vda=/s', '--scratch', 'vdb=/s')
    check(out.count("<scratch file='/s/'/>"), 2)
    contains(document('--mode', 'pull', '--scratch', 'vda=/s/', '--scratch', 'vdb=/t'), "<scratch file='/t'/>")


def test_a_directory_takes_every_disk():
    out = document('--target', '/b/', '--target', 'vdb=/c/b.raw', '--format', 'raw')
    contains(out, "<target file='/b/vda.raw'/>")
    contains(out, "<target file='/c/b.raw'/>")


def test_only_the_named_disks_are_taken():
    check(document('--disk', 'vdb', '--target', '/b/b'), "<domainbackup mode='push'>\n  <disks>\n"
          + DISK.format('vdb', " type='file'", "      <target file='/b/b'/>\n") + "  </disks>\n</domainbackup>\n")
    contains(document('--disk', 'disk0', '--target', 'vda=/b/a'), "<disk name='disk0' type='file'>\n      <target file='/b/a'/>")
    contains(document('--disk', 'nosuch'), "<disk name='nosuch'>")       # the library says what is wrong with it


def test_one_disk_needs_no_name():
    contains(document('--target', '/b/a', disks=1), "<disk name='vda' type='file'>\n      <target file='/b/a'/>")
    contains(refused('--target', '/b/a'), 'the backup has 2 disks (vda, vdb); expected TARGET=/b/a')


def test_network_targets_are_uris():
    for uri, target in {
        'nbd://h:10810/x': "<target protocol='nbd' name='x'><host name='h' port='10810'/></target>",
        'nbd://h/x': "<target protocol='nbd' name='x'><host name='h'/></target>",
        'nbd+unix:///x?socket=/s%20q': "<target protocol='nbd' name='x'><host transport='unix' socket='/s q'/></target>",
        'nbds://h/x': "<target protocol='nbd' name='x' tls='yes'><host name='h'/></target>",
        'ssh://h/srv/x': "<target protocol='ssh' name='/srv/x'><host name='h'/></target>",
        'iscsi://me@h/iqn.x:y/1?secret=/k&initiator=iqn.z': "<target protocol='iscsi' name='iqn.x:y/1'><host name='h'/><auth username='me'>"
        "<secret type='iscsi' file='/k'/></auth><initiator><iqn name='iqn.z'/></initiator></target>",
        'rbd:p/i?user=me&secret=/k&conf=/c': "<target protocol='rbd' name='p/i'><config file='/c'/><auth username='me'>"
        "<secret type='ceph' file='/k'/></auth></target>",
        'nfs://h/srv/x?uid=1000&gid=100': "<target protocol='nfs' name='/srv/x'><host name='h'/><identity user='1000' group='100'/></target>",
        'iscsi://me@h/iqn.x:y/1': "<target protocol='iscsi' name='iqn.x:y/1'><host name='h'/><auth username='me'></auth></target>",
    }.items():
        contains(document('--disk', 'vda', '--target', uri), f"<disk name='vda' type='network'>\n      {target}\n")


def test_bad_targets_are_refused():
    for options in (['--target', 'vda=rel'], ['--target', 'rel', '--disk', 'vda'], ['--target', 'vdx=/b'], ['--target', 'vda=/a', '--target', 'vda=/b'],
                    ['--onto', 'vda=rel'], ['--scratch', 'rel'], ['--scratch', 'vda=rel'], ['--target', 'dir/'], ['--mode', 'pull', '--target', 'vda=/b'],
                    ['--mode', 'push', '--server', 'unix:/x'], ['--idle-timeout', '5'], ['--allow-insecure'], ['--mode', 'pull', '--format', 'raw'], *(['--since', 'c1', '--sync', sync] for sync in ('full', 'top', 'none'))):
        refused(*options)


def test_what_stands_behind_a_question_mark_is_known_or_refused():
    for uri, name in {'ssh://h/x?agnet=/a': 'agnet', 'nbd://h/x?secret=/k': 'secret', 'iscsi://h/iqn/1?conf=/c': 'conf'}.items():
        contains(refused('--disk', 'vda', '--target', uri), f"'{uri}': {uri.split(':')[0]} has no parameter '{name}'")


def test_names_are_escaped():
    contains(document('--target', "vda=/b/it's<&>\"", '--disk', 'vda'), "<target file='/b/it&apos;s&lt;&amp;&gt;&quot;'/>")


def test_flags_and_time_reach_the_driver():
    for options, flags in {'--reuse-external': 1, '--preserve-domain-on-shutdown': 2, '--quiesce': 0x10000, '--allow-unproved': 0x20000,
                           '--quiesce --reuse-external': 0x10001}.items():
        result = run('backup-begin', 'web', *options.split(), '--timeout', '1.5')
        check(result.log[0][1].split('\n')[0], f'flags={flags:x} timeout=1500000')


def test_a_checkpoint_is_made_of_the_same_disks():
    check(document('--checkpoint', 'c9').split('</domainbackup>\n')[1], '<domaincheckpoint>\n  <name>c9</name>\n</domaincheckpoint>\n')
    contains(document('--checkpoint', 'c9', '--disk', 'vdb'), "<name>c9</name>\n  <disks>\n    <disk name='vdb'/>\n  </disks>")
    contains(document('--checkpoint', 'c9', '--memory-bitmap'), "<disk name='vda' persistent='no'/>\n    <disk name='vdb' persistent='no'/>")


def test_documents_come_from_files_unchanged():
    with tempfile.TemporaryDirectory() as folder:
        one, two = os.path.join(folder, '1.xml'), os.path.join(folder, '2.xml')
        open(one, 'w').write('<domainbackup/>')
        open(two, 'w').write('<domaincheckpoint/>')
        check(run('backup-begin', 'web', one, two).log[0][1], 'flags=0 timeout=0\n<domainbackup/>\n<domaincheckpoint/>')
        check(run('backup-begin', 'web', '--backupxml', one, '--checkpointxml', two, '--quiesce').log[0][1].split('\n')[1:], ['<domainbackup/>', '<domaincheckpoint/>'])
        for option in ['--mode', 'push'], ['--disk', 'vda'], ['--limit', '1'], ['--allow-insecure']:
            contains(refused(one, *option), f'Options --backupxml and {option[0]} are mutually exclusive' if option[0] != '--allow-insecure' else 'error')
        contains(refused(one, two, '--checkpoint', 'x'), 'Options --checkpointxml and --checkpoint are mutually exclusive')


def test_begin_says_what_virsh_says():
    check(run('backup-begin', 'web').out, 'Backup started\n\n')
    check(run('backup-begin', 'web', '--mode', 'pull', pull=1, states='ready').out,
          'Backup started\n vda: nbd+unix:///vda?socket=/run/q.sock\n vdb: nbd+unix:///vdb?socket=/run/q.sock\n\n')
    contains(run('backup-begin', 'web').err, 'warning: a note\n')


main(globals())
