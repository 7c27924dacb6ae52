#!/usr/bin/env python3
"""The exit statuses of the man page, one by one."""
import os
import tempfile

from harness import URI, check, contains, main, run

# code of the library -> status
STATUS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1, 11: 1, 12: 5, 13: 1, 14: 1, 15: 1, 16: 4, 17: 1, 18: 3, 19: 1, 20: 5}

# one command for each call of the driver
CALLS = {
    'capabilities': 'capabilities', 'list': 'list', 'lookup': 'dominfo web', 'attach': 'attach web --qmp /q', 'detach': 'detach web',
    'discover': 'discover', 'domain_info': 'dominfo web', 'domain_state': 'domstate web', 'domain_xml': 'dumpxml web',
    'domain_disks': 'domblklist web', 'domain_disk': 'domblkinfo web vda', 'domain_chain': 'domblkinfo web vda --chain', 'fs_freeze': 'domfsfreeze web',
    'backup_begin': 'backup-begin web', 'backup_plan': 'backup-begin web --dry-run', 'backup_stop': 'backup-stop web',
    'backup_info': 'backup-info web', 'backup_list': 'backup-list web', 'backup_wait': 'backup-wait web', 'backup_xml': 'backup-dumpxml web',
    'backup_limit': 'backup-limit web 1M', 'job_stats': 'domjobinfo web', 'job_abort': 'domjobabort web',
    'checkpoint_create': 'checkpoint-create web', 'checkpoint_xml': 'checkpoint-dumpxml web c1', 'checkpoint_list': 'checkpoint-list web',
    'checkpoint_children': 'checkpoint-info web c1', 'checkpoint_lookup': 'checkpoint-info web c1', 'checkpoint_delete': 'checkpoint-delete web c1',
    'checkpoint_check': 'checkpoint-check web', 'event_register': 'event', 'hello': 'version --daemon',
}


def test_each_error_code_has_its_status():
    for code, status in STATUS.items():
        result = run('dominfo', 'web', error=f'domain_info:{code}:why it failed')
        check((code, result.status), (code, status))
        check(result.err, 'error: why it failed\n')
        check(result.out, '\n')


def test_a_failure_of_any_call_is_a_failure_of_its_command():
    for call, line in CALLS.items():
        result = run(*line.split(), error=f'{call}:14:the disk is gone')
        check(result.status, 1, f'{line}\n{result}')
        contains(result.err, 'error: the disk is gone\n')
        result = run(*line.split(), '--json', error=f'{call}:16:a gap')
        check((result.status, result.json()['error_code'], result.json()['status']), (4, 'inexact', 4), f'{line}\n{result}')
        contains(result.json()['error'], 'a gap')


def test_each_call_is_traced_where_that_is_asked_for():
    for value, calls in (('calls', ['lookup', 'domain_info']), ('call', []), ('', [])):
        result = run('dominfo', 'web', env={'LIBBACKUP_DEBUG': value})
        traced = [line.split('call ')[1] for line in result.err.splitlines() if 'call ' in line]
        check(traced, [f'{name} on {URI}' for name in calls], result)
        check((result.status, result.out), (0, run('dominfo', 'web').out))


def test_a_wrong_command_line_is_2():
    for line in ('nosuch', 'dominfo', 'dominfo web extra', 'dominfo web --nosuch', 'dominfo --domain', 'list --all=yes', 'dominfo web --json=1',
                 'dominfo web --domain web', 'backup-begin web --mode sideways', 'backup-begin web --timeout 0', 'backup-begin web --timeout soon',
                 'backup-begin web --timeout nan', 'backup-begin web --limit x', 'backup-begin web --mode push --mode pull', 'backup-wait web --timeout -1',
                 'backup-begin web --checkpoint a --memory-bitmap --checkpointxml f', 'backup-begin web --memory-bitmap', 'help nosuch', 'dominfo web -x'):
        result = run(*line.split())
        check(result.status, 2, f'{line}\n{result}')
        contains(result.err, 'error: ')
        check([name for name, _ in result.log if name != 'close'], [], line)


def test_a_wrong_option_of_the_shell_is_2():
    for words in (['--nosuch'], ['-x'], ['-c'], ['--connect']):
        check(run(*words, uri=None).status, 2, words)
    check(run('list', uri='nosuch:///').status, 2)


def test_unknown_words_get_a_suggestion():
    check(run('lst').err, "error: unknown command: 'lst'; did you mean 'list'?\n")
    check(run('backup-beign', 'web').err, "error: unknown command: 'backup-beign'; did you mean 'backup-begin'?\n")
    check(run('xyzzyxyzzy').err, "error: unknown command: 'xyzzyxyzzy'; 'help' lists the commands\n")
    check(run('backup-begin', 'web', '--tagret', 'x').err, "error: command 'backup-begin' doesn't support option --tagret; did you mean --target?\n")
    check(run('dominfo').err, "error: command 'dominfo' requires <domain> option\n")


def test_no_connection_is_5():
    result = run('list', error='open:12:nobody answers')
    check((result.status, result.err), (5, 'error: failed to connect to the hypervisor\nerror: nobody answers\n'))
    check(run('list', uri='qemu+unix:///system?socket=/nowhere/sock').status, 5)
    check(run('dominfo', 'web', error='domain_info:20:the monitor is held by another client').status, 5)
    check(run('domfsfreeze', 'web', error='fs_freeze:12:the agent does not answer').status, 5)


def test_a_bad_backup_is_3_wherever_its_end_is_seen():
    for state in 'failed', 'aborted':
        check(run('backup-wait', 'web', states=state).status, 3)
        check(run('backup-begin', 'web', '--wait', states=f'running,{state}').status, 3)
        check(run('backup-stop', 'web', states=state).status, 3)
        check(run('backup-info', 'web', states=state).status, 0)
    check(run('backup-stop', 'web', states='running').status, 0)
    result = run('backup-wait', 'web', states='failed')
    contains(result.err, "error: backup 0a1b2c3d failed: disk 'vda': No space left on device\n")


def test_an_abort_that_was_asked_for_is_0():
    result = run('backup-stop', 'web', '--abort', states='running')
    check((result.status, result.out), (0, 'Backup aborted\n\n'))
    check(result.log[0], ('backup_stop', ' 1'))
    check(run('backup-stop', 'web', '0a1b2c3d').log[0], ('backup_stop', '0a1b2c3d 0'))


def test_json_of_a_bad_backup_is_printed_and_the_status_still_tells():
    result = run('backup-wait', 'web', '--json', states='failed')
    check((result.status, result.json()['state']), (3, 'failed'))
    result = run('backup-stop', 'web', '--json', states='aborted')
    check((result.status, result.json()['state']), (3, 'aborted'))


def test_findings_are_4_until_they_are_repaired():
    check(run('checkpoint-check', 'web').status, 0)
    check(run('checkpoint-check', 'web', findings=1).status, 4)
    check(run('checkpoint-check', 'web', '--json', findings=1).json()['findings'][0]['kind'], 'orphan')
    result = run('checkpoint-check', 'web', '--repair', '--bitmap', 'a', '--bitmap', 'b', findings=1)
    check((result.status, result.log[0]), (0, ('checkpoint_check', '1 2')))


def test_the_first_failure_of_a_script_is_its_status():
    check(run('domstate web; dominfo nosuch; nosuch; domstate web').status, 1)
    check(run('nosuch; dominfo nosuch').status, 2)
    check(run('domstate web; domstate web').status, 0)


def test_output_that_cannot_be_written_is_a_failure():
    if not os.path.exists('/dev/full'):
        return
    import subprocess
    from harness import BAKSH, URI, environment
    with open('/dev/full', 'w') as full:
        done = subprocess.run([BAKSH, '-c', URI, 'dominfo', 'web'], stdout=full, stderr=subprocess.PIPE, env=environment({}))
    check((done.returncode, done.stderr.decode()), (1, 'error: cannot write to standard output\n'))


def test_files_that_are_no_text_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'x')
        for content, text in ((b'a\0b', 'not UTF-8'), (b'\xff\xfe', 'not UTF-8'), (b'x' * (4 << 20) + b'y', 'larger than 4 MiB')):
            open(path, 'wb').write(content)
            result = run('backup-begin', 'web', path)
            check(result.status, 1)
            contains(result.err, text)
        check(run('backup-begin', 'web', folder).status, 1)


main(globals())
