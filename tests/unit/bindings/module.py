#!/usr/bin/env python3
"""The Python module: module.py API.JSON. On the driver of the shell's tests, and on test:///default where QEMU is at hand."""
import asyncio
import inspect
import json
import os
import pickle
import queue
import select
import shutil
import sys
import tempfile
import threading
import unittest

import libbackup
from libbackup import ErrorCode, EventId, JobState

with open(sys.argv.pop(1)) as description:
    API = json.load(description)
HAVE_QEMU = shutil.which('qemu-storage-daemon') and shutil.which('qemu-img')
FAKE = 'libvirt+fake:///'


def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')


class Case(unittest.TestCase):
    def fails(self, code, part, function, *arguments, **keywords):
        with self.assertRaises(libbackup.Error) as caught:
            function(*arguments, **keywords)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertIn(part, str(caught.exception))
        return caught.exception


class ApiTest(Case):
    def test_every_function_of_the_headers_is_there(self):
        for name, function in API['functions'].items():
            if function['rule'] in ('hand', 'count') or function.get('of') == 'BakError':
                continue
            owner = getattr(libbackup, function['of'][3:]) if 'of' in function else libbackup
            with self.subTest(name):
                self.assertTrue(hasattr(owner, function['method']), f'{owner}.{function["method"]}')

    def test_every_value_of_the_headers_is_there(self):
        for name, enum in API['enums'].items():
            for value in enum['values']:
                if name != 'BakTypedParameterType':
                    self.assertEqual(getattr(getattr(libbackup, name[3:]), value['short']), value['value'])

    def test_everything_is_documented_and_annotated(self):
        seen = 0
        for name in libbackup.__all__:
            thing = getattr(libbackup, name)
            members = [thing] + ([m.fget if isinstance(m, property) else getattr(m, '__func__', m) for n, m in vars(thing).items() if n[0] != '_']
                                 if inspect.isclass(thing) and issubclass(thing, libbackup._base.Handle) else [])
            for member in members:
                if inspect.isfunction(member) or inspect.isclass(member):
                    seen += 1
                    self.assertTrue(inspect.getdoc(member), f'{name}: {member}')
                    self.assertFalse(inspect.isfunction(member) and 'return' not in member.__annotations__, f'{name}: {member}')
        self.assertGreater(seen, 180)


class FakeTest(Case):
    def setUp(self):
        self.conn = libbackup.Connection(FAKE)
        self.domain = self.conn.lookup_by_name('web')

    def test_getters_are_properties_and_lists_are_sequences(self):
        self.assertEqual((self.conn.is_read_only, self.domain.name, self.domain.id), (False, 'web', 3))
        disks = self.domain.list_disks()
        self.assertEqual([disk.target for disk in disks], ['vda', 'vdb'])
        self.assertEqual(disks[1].names, ('vdb', 'disk1'))
        self.assertEqual(self.domain.connection.uri, self.conn.uri)
        self.assertIsNone(self.domain.list_all_checkpoints()[0].parent_name)

    def test_an_error_has_code_text_and_object(self):
        error = self.fails(ErrorCode.NO_DOMAIN, 'nosuch', self.conn.lookup_by_name, 'nosuch')
        self.assertIs(error.object, self.conn)
        self.assertIsInstance(error.code, ErrorCode)
        self.assertEqual(pickle.loads(pickle.dumps(error)).code, ErrorCode.NO_DOMAIN)
        self.fails(ErrorCode.INVALID_ARGUMENT, '0x100', self.domain.backup_begin, '<domainbackup/>', None, 0x100)
        self.fails(ErrorCode.INVALID_ARGUMENT, 'NUL', self.conn.lookup_by_name, 'a\0b')
        self.fails(ErrorCode.INVALID_ARGUMENT, 'not UTF-8', self.conn.lookup_by_name, '\udcff')

    def test_wrong_types_never_reach_the_library(self):
        for wrong in (None, 3, b'web'):
            self.assertRaises(TypeError, self.conn.lookup_by_name, wrong)
        self.assertRaises(TypeError, self.domain.fs_freeze, '/')
        self.assertRaises(TypeError, self.conn.domain_event_register_any, self.conn, -1, print)
        self.assertRaises(TypeError, self.conn.domain_event_register_any, None, -1, None)
        self.assertRaises(OverflowError, self.domain.backup_wait, None, -1)
        self.assertRaises(TypeError, libbackup.Domain)

    def test_options_are_keywords(self):
        self.assertEqual(self.domain.backup_begin_options(backup_xml='<domainbackup/>'), '0a1b2c3d')
        self.assertRaises(TypeError, self.domain.backup_begin_options, '<domainbackup/>')
        self.assertRaises(TypeError, self.domain.backup_begin_options, backup_xml='<domainbackup/>', nosuch=1)
        self.fails(ErrorCode.INVALID_ARGUMENT, 'backup_xml', self.domain.backup_begin_options, backup_xml=None)
        self.assertIsInstance(self.conn.attach(name='web', qmp='/q', disks={'vda': 'a', 'vdb': 'b'}), libbackup.Domain)
        self.fails(ErrorCode.INVALID_ARGUMENT, 'id in', self.conn.attach, name='web', qmp='/q', disks=[('vda',)])

    def test_the_log_goes_where_it_is_wanted(self):
        said = queue.Queue()
        libbackup.log_set_callback(libbackup.LogLevel.DEBUG, lambda level, message: said.put((level, message)))
        try:
            self.domain.list_disks()
        finally:
            libbackup.log_set_callback(libbackup.LogLevel.DEBUG)
        self.domain.list_disks()
        self.assertEqual(said.get(timeout=60), (libbackup.LogLevel.DEBUG, 'call domain_disks on libvirt+fake:///'))
        self.assertTrue(said.empty())

    def test_a_handle_outlives_what_it_came_from(self):
        disks = self.domain.list_disks()
        self.domain = None
        self.conn.close()
        self.assertEqual(disks[0].target, 'vda')
        jobs = libbackup.Connection(FAKE).lookup_by_name('web').backup_list()
        self.assertEqual(jobs[0].disks[1].target, 'vdb')

    def test_a_closed_connection_says_so(self):
        with self.conn as conn:
            pass
        conn.close()
        self.fails(ErrorCode.INVALID_ARGUMENT, 'closed', conn.lookup_by_name, 'web')
        self.assertEqual(self.domain.name, 'web')

    def test_handles_in_many_threads(self):
        failures = []

        def work():
            try:
                for _ in range(300):
                    self.assertEqual(self.conn.lookup_by_name('web').list_disks()[0].target, 'vda')
                    self.fails(ErrorCode.NO_DOMAIN, 'nosuch', self.conn.lookup_by_name, 'nosuch')
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_ten_thousand_connections_leave_nothing(self):
        def once():
            with libbackup.Connection(FAKE) as conn:
                domain = conn.lookup_by_name('web')
                domain.backup_list()[0].disks
                number = conn.domain_event_register_any(domain, EventId.ANY, lambda *event: None)
                conn.domain_event_deregister_any(number)
                self.assertRaises(libbackup.Error, conn.lookup_by_name, 'nosuch')
        for _ in range(1000):
            once()
        before = resident()
        for _ in range(10000):
            once()
        self.assertLess(resident() - before, 4 << 20)
        self.assertEqual(len(libbackup._base._kept), 0)

    def test_a_fork_is_refused_with_a_reason(self):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            said = []
            for call in (lambda: self.conn.uri, lambda: libbackup.Connection(FAKE), lambda: self.domain.list_disks()):
                try:
                    call()
                    said.append('no error')
                except libbackup.Error as error:
                    said.append(f'{error.code.name} {error}')
            del self.conn, self.domain
            os.write(write, '\n'.join(said).encode())
            os._exit(0)
        os.close(write)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        said = os.read(read, 65536).decode().split('\n')
        os.close(read)
        self.assertEqual(len(said), 3)
        for line in said:
            self.assertIn('INVALID_ARGUMENT this process was forked', line)
        self.assertEqual(self.conn.lookup_by_name('web').name, 'web')


@unittest.skipUnless(HAVE_QEMU, 'no qemu-storage-daemon')
class EngineTest(Case):
    PULL = "<domainbackup mode='pull'><server transport='auto'/></domainbackup>"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.conn = libbackup.Connection('test:///default')
        self.addCleanup(self.conn.close)
        self.domain = self.conn.lookup_by_name('test')

    def push(self):
        disks = ''.join(f"<disk name='{name}' type='file'><target file='{self.folder.name}/{name}.qcow2'/></disk>" for name in ('vda', 'vdb'))
        return f'<domainbackup><disks>{disks}</disks></domainbackup>'

    def test_a_push_and_what_is_told_of_it(self):
        job = self.domain.backup_wait(self.domain.backup_begin_options(backup_xml=self.push()), 60000000)
        self.assertEqual((job.state, job.has_ended, job.error, job.error_code), (JobState.COMPLETED, True, None, ErrorCode.NONE))
        self.assertEqual([(disk.target, disk.type, disk.total) for disk in job.disks], [('vda', 'full', 16 << 20), ('vdb', 'full', 16 << 20)])
        statistics = self.domain.get_job_stats(libbackup.DomainGetJobStatsFlags.COMPLETED)
        self.assertEqual(statistics.type, libbackup.DomainJobType.COMPLETED)
        self.assertEqual((statistics['operation'], statistics['success'], statistics['disk_total']), (9, True, 32 << 20))
        self.assertEqual(self.domain.job_info.type, libbackup.DomainJobType.NONE)
        self.assertEqual(self.domain.get_block_info('vda').capacity, 16 << 20)
        self.assertIsNone(self.domain.get_block_job_info('vda'))
        self.assertEqual(self.domain.get_state(), (libbackup.DomainState.RUNNING, 0))

    def test_what_runs_is_listed_for_all_guests_at_once(self):
        self.assertEqual(self.conn.backup_list(), [])
        self.domain.backup_begin(self.PULL)
        self.assertEqual([(job.domain, job.state, job.n_disks) for job in self.conn.backup_list()], [('test', JobState.READY, 2)])
        self.domain.backup_stop()
        self.assertEqual(self.conn.backup_list(), [])

    def test_other_threads_run_while_a_call_waits(self):
        """A wait that held the interpreter would only end by its own time-out, with a job that has not ended."""
        self.domain.backup_begin(self.PULL)
        waited = []
        thread = threading.Thread(target=lambda: waited.append(self.domain.backup_wait(None, 30000000)))
        thread.start()
        self.assertEqual(self.domain.backup_stop().state, JobState.COMPLETED)
        thread.join()
        self.assertTrue(waited[0].has_ended)

    def test_a_wait_ends_with_patience_or_by_giving_up(self):
        self.domain.backup_begin(self.PULL)
        job = self.domain.backup_info().id
        self.conn.set_patience(100000)
        self.fails(ErrorCode.TIMEOUT, 'patience', self.domain.backup_wait, None, 3600 * 1000000)
        self.conn.set_patience((1 << 64) - 1)
        said, started = [], threading.Event()

        def wait():
            started.set()
            try:
                said.append(self.domain.backup_wait(None, 3600 * 1000000))
            except libbackup.Error as error:
                said.append(error.code)
        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        while thread.is_alive():        # the call may not have begun to wait yet
            self.conn.give_up()
            thread.join(0.01)
        self.assertEqual(said, [ErrorCode.ABORTED])
        # later calls wait again, and what was given up goes on
        self.assertEqual(self.domain.backup_info().id, job)
        self.fails(ErrorCode.NO_DOMAIN, 'nosuch', self.conn.lookup_by_name, 'nosuch')
        self.fails(ErrorCode.INVALID_ARGUMENT, 'longer', self.conn.lookup_by_name, 'x' * 1025)
        self.conn.set_patience(0)
        self.assertEqual(self.domain.backup_stop().state, JobState.COMPLETED)

    def test_callbacks_come_on_a_thread_of_the_library(self):
        ended, seen = threading.Event(), []

        def on_event(conn, domain, event):
            seen.append((domain.name, conn.uri, threading.current_thread() is threading.main_thread()))
            if event.id == EventId.JOB_COMPLETED:
                ended.set()

        number = self.conn.domain_event_register_any(self.domain, EventId.ANY, on_event)
        self.domain.backup_begin(self.push())
        self.assertTrue(ended.wait(60))
        self.conn.domain_event_deregister_any(number)
        self.assertEqual(set(seen), {('test', 'test:///default', False)})
        self.assertGreater(len(seen), 3)
        self.fails(ErrorCode.INVALID_ARGUMENT, '', self.conn.domain_event_deregister_any, number)

    def test_a_loop_of_ones_own_polls_the_connection(self):
        seen = []
        self.conn.fileno()
        self.conn.domain_event_register_any(None, EventId.JOB_COMPLETED, lambda conn, domain, event: seen.append(event.state))
        self.domain.backup_begin(self.push())
        while not seen:
            self.assertTrue(select.select([self.conn], [], [], 60)[0])
            self.conn.dispatch()
        self.assertEqual(seen, [JobState.COMPLETED])

    def test_asyncio_follows_two_at_once(self):
        async def follow(*arguments):
            kinds = []
            async for event in self.conn.events(*arguments):
                kinds.append((event.id, event.domain.name, event.job))
                if event.id == EventId.JOB_COMPLETED:
                    return kinds

        async def main():
            everything, ends = asyncio.create_task(follow()), asyncio.create_task(follow(self.domain, EventId.JOB_COMPLETED))
            await asyncio.sleep(0)
            await asyncio.to_thread(self.domain.backup_begin, self.PULL)
            job = await asyncio.to_thread(self.domain.backup_info)
            self.assertTrue(job.get_export_uri(1).startswith('nbd+unix:///vdb?'))
            self.assertIsNone(job.get_export_uri(2))
            await asyncio.to_thread(self.domain.backup_stop, job.id)
            return job.id, await asyncio.wait_for(everything, 60), await asyncio.wait_for(ends, 60)

        job, everything, ends = asyncio.run(main())
        self.assertEqual(ends, [(EventId.JOB_COMPLETED, 'test', job)])
        self.assertEqual(everything[-1], ends[0])
        self.assertGreater(len(everything), 4)

    def test_a_callback_that_raises_is_told_and_the_next_one_comes(self):
        told, ended = [], threading.Event()

        def on_event(conn, domain, event):
            if event.id == EventId.JOB_COMPLETED:
                ended.set()
            raise RuntimeError('mine')

        hook, sys.unraisablehook = sys.unraisablehook, lambda what: told.append(str(what.exc_value))
        try:
            self.conn.domain_event_register_any(None, EventId.ANY, on_event)
            self.domain.backup_begin(self.push())
            self.assertTrue(ended.wait(60))
        finally:
            sys.unraisablehook = hook
        self.assertEqual(set(told), {'mine'})


if __name__ == '__main__':
    result = unittest.main(exit=False, verbosity=0).result
    bad = len(result.failures), len(result.errors)
    print(f'{100 * (result.testsRun - sum(bad)) // max(1, result.testsRun)}%: Checks: {result.testsRun}, Failures: {bad[0]}, Errors: {bad[1]}')
    sys.exit(not result.wasSuccessful())
