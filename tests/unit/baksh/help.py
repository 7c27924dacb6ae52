#!/usr/bin/env python3
"""Help, completion and the rows behind them."""
import re
import subprocess

from harness import BAKSH, URI, check, contains, environment, main, run


def commands():
    return re.findall(r'^    ([a-z-]+) {2,}', run('help', uri=None, options=['-q']).out, re.M)


def test_every_command_explains_itself():
    names = commands()
    assert len(names) >= 39, names
    for name in names:
        result = run(name, '--help', uri=None, options=['-q'])
        check((result.status, result.err), (0, ''), name)
        check(result.out, run('help', name, uri=None, options=['-q']).out)
        contains(result.out, f'  NAME\n    {name} - ')
        contains(result.out, f'  SYNOPSIS\n    {name}')
        options = re.findall(r'^    (?:\[--|--)([a-z-]+)', result.out.split('  OPTIONS\n')[1], re.M)
        check(len(options), len(set(options)), name)
        for line in result.out.split('  OPTIONS\n')[1].splitlines():
            assert re.search(r'\S', line), f'{name}: an option without help'


def test_every_command_of_the_contract_is_there():
    for name in '''uri version capabilities list discover attach detach dominfo domstate domblklist domblkinfo domfsfreeze domfsthaw dumpxml
            backup-begin backup-stop backup-info backup-list backup-wait backup-dumpxml backup-limit domjobinfo domjobabort checkpoint-create
            checkpoint-create-as checkpoint-list checkpoint-info checkpoint-parent checkpoint-dumpxml checkpoint-edit checkpoint-delete
            checkpoint-redefine checkpoint-check event'''.split():
        assert name in commands(), name


def test_groups_have_help():
    for group in 'host', 'guest', 'backup', 'checkpoint', 'events', 'shell':
        contains(run('help', group, uri=None).out, f"(help keyword '{group}')")
    check(run(uri=None, options=['--help']).status, 0)
    contains(run('list', uri=None, options=['-h']).out, '    list - ')


def complete(*words, **fake):
    done = subprocess.run([BAKSH, '-c', URI, '--complete', *words], capture_output=True, text=True, env=environment(fake), timeout=20)
    check((done.returncode, done.stderr), (0, ''))
    return done.stdout.split()


def test_completion_knows_commands_options_and_names():
    check(complete('backup-b'), ['backup-begin'])
    check(complete('checkpoint-cr'), ['checkpoint-create', 'checkpoint-create-as'])
    check(complete('backup-begin', ''), ['web'])
    check(complete('backup-begin', 'web', '--mo'), ['--mode'])
    check(complete('backup-begin', 'web', '--mode', ''), ['push', 'pull'])
    check(complete('backup-begin', 'web', '--disk', ''), ['vda', 'vdb'])
    check(complete('backup-begin', '--mode', 'pull', 'web', '--since', ''), ['c1', 'c2', 'c3', 'c4'])
    check(complete('checkpoint-info', 'web', 'c'), ['c1', 'c2', 'c3', 'c4'])
    check(complete('backup-info', 'web', ''), ['0a1b2c3d', '0a1b2c3d'])
    check(complete('event', '--event', 'job-c'), ['job-completed'])
    check(complete('help', 'domb'), ['domblklist', 'domblkinfo'])
    check(complete('nosuch', ''), [])


def test_completion_is_silent_when_nobody_answers():
    check(complete('dominfo', '', error='open:12:nobody'), [])
    check(complete('dominfo', '', error='list:12:nobody'), [])


def test_completion_offers_no_hostile_names():
    check(complete('dominfo', '', text='\x1b[2J'), [])


main(globals())
