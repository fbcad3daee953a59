"""The Python package, as it is installed. Run with the unittest of an interpreter that has the wheel."""

import asyncio
import gc
import json
import logging
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import hookvisor
from hookvisor import Cancel, Event, HookvisorError, Runtime, Veto
from hookvisor._calls import Call, _running

PATIENCE = 60
IS_SLOW = os.environ.get("HOOKVISOR_SLOW_TESTS") == "1"
# `pid` is written before the hook waits, so that a test knows that it runs.
WAITS = 'case $1 in *slow*) [ "$2" != start ] || { echo $$ > "$0.pid.bak"; exec sleep 3600; } ;; esac'


def start(name: str = "web1", **fields: object) -> Event:
    return Event("mydaemon", name, "start", **fields)


def wait_until(is_so):
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < PATIENCE, "waited in vain"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Hooks(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = pathlib.Path(self.directory.name)

    def script(self, body: str, name: str = "mydaemon") -> pathlib.Path:
        path = self.path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def runtime(self, **options: object) -> Runtime:
        runtime = Runtime(self.path, **options)
        self.addCleanup(runtime.close)
        return runtime

    def log(self) -> str:
        path = self.path / "log"
        return path.read_text() if path.exists() else ""

    def pid_of_hook(self) -> int:
        path = self.path / "mydaemon.pid.bak"
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def python(self, program: str) -> "subprocess.Popen[str]":
        # A shell's background job ignores SIGINT, and Python then raises no KeyboardInterrupt.
        return subprocess.Popen(
            [sys.executable, "-c", program, str(self.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


class Calls(Hooks):
    def test_a_veto_is_an_exception_with_the_report(self) -> None:
        self.script('echo "no $1: $(cat)" >&2; exit 3')
        with self.assertRaises(Veto) as caught:
            self.runtime().start(start(document='{"memory": 512}'))
        veto = caught.exception
        self.assertRegex(str(veto), 'failed with error code 3: no web1: {"memory": 512}$')
        self.assertEqual((veto.report.decision, veto.report.exit_status), ("vetoed", 3))
        self.assertEqual(veto.report.hooks[0].stderr, 'no web1: {"memory": 512}\n')
        self.assertEqual(json.loads(veto.report.json), veto.report.to_dict())
        self.assertEqual(str(pickle.loads(pickle.dumps(veto))), str(veto))

    def test_a_guest_s_end_is_announced_once_whatever_happens(self) -> None:
        self.script('echo "$2 $(cat)" >> "${0%/*}/log"')
        runtime = self.runtime()
        with self.assertRaises(ZeroDivisionError), runtime.admit(start(document=b"\0\xff")):
            self.fail(str(1 / 0))
        self.assertEqual((self.path / "log").read_bytes(), b"start \xff\nstopped \xff\n")
        (self.path / "log").unlink()
        with runtime.admit(start()) as guest:
            guest.stopped()
        runtime.admit(start()).detach()
        lost = runtime.admit(start())
        del lost
        gc.collect()
        self.assertEqual([line.split()[0] for line in self.log().splitlines()], ["start", "stopped"] + ["start"] * 2 + ["stopped"])

    def test_operations_of_one_s_own_and_a_filter(self) -> None:
        self.script("[ $2 != configure ] || sed s/512/1024/")
        runtime = self.runtime(
            conventions="""
            [convention.mydaemon]
            closed = true
            [convention.mydaemon.operations]
            start = "start"
            stopped = "shutdown"
            configure = { stage = "start", filter = "json" }
            """
        )
        report = runtime.run(Event("mydaemon", "web1", "configure", document='{"memory": 512}'))
        self.assertEqual(report.document, b'{"memory": 1024}')
        with self.assertRaisesRegex(Veto, 'driver mydaemon has no operation "begin"'):
            runtime.run(Event("mydaemon", "web1", "begin"))
        with self.assertRaisesRegex(HookvisorError, "line 2: unknown field `open`"):
            self.runtime(conventions="[convention.mydaemon]\nopen = true")

    def test_a_guest_s_end_is_the_operation_of_its_convention(self) -> None:
        self.script('echo "$2 $3 $(cat)" >> "${0%/*}/log"')
        runtime = self.runtime(
            conventions="""
            [convention.mydaemon]
            closed = true
            ended_by = "delete"
            [convention.mydaemon.operations]
            start = "start"
            delete = { stage = "shutdown", sub_operation = "end" }
            """
        )
        with runtime.admit(start(document="{}")) as guest:
            pass
        self.assertEqual(guest.end.decision, "notified")
        self.assertEqual(guest.end.text, b"")

        async def in_a_task() -> None:
            async with await runtime.admit_async(start(document="{}")):
                pass

        asyncio.run(in_a_task())
        lost = runtime.adopt(start(document="{}"))
        del lost
        gc.collect()
        self.assertEqual(self.log(), "start - {}\ndelete end {}\n" * 2 + "delete end {}\n")

    def test_limits_and_cancellation(self) -> None:
        self.script(WAITS)
        runtime = self.runtime(grace=0.1)
        with self.assertRaisesRegex(Veto, "timed out after 200ms"):
            runtime.start(start("slow"), timeout=0.2)
        with self.assertRaises(Veto):
            runtime.start(start("slow"), within=0.2)
        (self.path / "mydaemon.pid.bak").unlink()
        cancel = Cancel()
        threading.Thread(target=lambda: (self.pid_of_hook(), cancel.cancel())).start()
        with self.assertRaises(Veto) as caught:
            runtime.start(start("slow"), cancel=cancel)
        self.assertEqual(caught.exception.report.hooks[0].termination, "cancelled")
        with self.assertRaises(Veto):
            runtime.start(start(), cancel=cancel)
        self.assertEqual(runtime.start(start()).decision, "proceed")

    def test_reload_and_inventory(self) -> None:
        runtime = self.runtime()
        self.assertEqual(runtime.inventory()["hooks"], [])
        self.script("exit 0")
        self.assertEqual([hook["state"] for hook in runtime.reload()["hooks"]], ["ready"])

    def test_which_drivers_there_are(self) -> None:
        self.script("exit 0")
        runtime = self.runtime(known_drivers=["mydaemon", "empty"], require_hooks=True)
        self.assertEqual(runtime.start(start()).decision, "proceed")
        with self.assertRaisesRegex(Veto, r"driver mydeamon is not one of the known drivers \(mydaemon, empty\)"):
            runtime.start(Event("mydeamon", "web1", "start"))
        with self.assertRaisesRegex(Veto, "there are no hooks for driver empty"):
            runtime.start(Event("empty", "web1", "start"))
        for wrong in ("mydaemon", [None], [5]):
            with self.assertRaises(TypeError):
                self.runtime(known_drivers=wrong)
        with self.assertRaises(ValueError):
            self.runtime(known_drivers=["my\0daemon"])

    def test_every_hook_is_confined(self) -> None:
        self.script("exit 0").with_suffix(".toml").write_text("confine = false\n")
        self.assertEqual(self.runtime().start(start()).decision, "proceed")
        with self.assertRaisesRegex(Veto, "every hook is confined here"):
            self.runtime(confine_all=True).start(start())

    def test_a_hook_keeps_files_in_its_own_directory(self) -> None:
        self.script('[ -e "$HOOKVISOR_STATE/kept" ] || : > "$HOOKVISOR_STATE/kept"').with_suffix(".toml").write_text(
            "confine = true\nstate = true\n"
        )
        state = self.path / "state"
        self.assertEqual(self.runtime(state_directory=state).start(start()).decision, "proceed")
        [kept] = state.glob("*/kept")
        self.assertEqual(kept.parent.stat().st_mode & 0o777, 0o700)

    def test_a_compiler_that_is_not_there(self) -> None:
        module = self.path / "mydaemon"
        module.write_bytes(b"\0asm\1\0\0\0")
        module.chmod(0o755)
        with self.assertRaisesRegex(Veto, "/nonexistent/hookvisor"):
            self.runtime(compiler="/nonexistent/hookvisor").start(start())

    def test_the_log_goes_to_logging(self) -> None:
        self.script("exit 3")
        logger = logging.getLogger("test")
        logger.setLevel(logging.DEBUG)
        with self.assertLogs(logger, logging.DEBUG) as logs:
            hookvisor.log_to(logger)
            self.addCleanup(hookvisor.log_to, None)
            with self.assertRaises(Veto):
                self.runtime().start(start())
        topics = [record.topic for record in logs.records if record.topic]
        self.assertEqual(topics, ["started", "ended", "vetoed"])
        ended = next(record for record in logs.records if record.topic == "ended")
        self.assertEqual((ended.driver, ended.object, ended.operation), ("mydaemon", "web1", "start"))
        self.assertEqual((ended.hook, ended.exit_status), (str(self.path / "mydaemon"), 3))
        self.assertGreater(ended.duration_us, 0)


class Misuse(Hooks):
    def test_wrong_types_and_nul(self) -> None:
        for fields in ({"driver": b"qemu"}, {"object": None}, {"extra": 5}, {"document": 5}):
            with self.assertRaises(TypeError):
                Event(**{"driver": "qemu", "object": "web1", "operation": "start", **fields})
        for fields in ({"driver": "a\0"}, {"object": "a\0b"}, {"sub_operation": "\0"}):
            with self.assertRaises(ValueError):
                Event(**{"driver": "qemu", "object": "web1", "operation": "start", **fields})
        runtime = self.runtime()
        with self.assertRaises(TypeError):
            runtime.start("start")
        with self.assertRaises(ValueError):
            runtime.start(start(), timeout=0)
        with self.assertRaises(ValueError):
            Runtime("a\0b")
        with self.assertRaisesRegex(HookvisorError, "contains a newline"):
            runtime.start(start("a\nb"))
        with self.assertRaisesRegex(HookvisorError, "is not a driver's name"):
            runtime.start(Event("../qemu", "web1", "start"))
        with self.assertRaises(HookvisorError):
            Runtime("/nonexistent")

    def test_a_closed_runtime(self) -> None:
        runtime = self.runtime()
        guest = runtime.admit(start())
        runtime.close()
        runtime.close()
        for call in (lambda: runtime.start(start()), runtime.reload, runtime.inventory, guest.stopped):
            with self.assertRaisesRegex(HookvisorError, "the runtime is closed"):
                call()

    def test_a_forked_child(self) -> None:
        self.script("exit 0")
        runtime = self.runtime()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                runtime.start(start())
            except HookvisorError as error:
                if "is a fork of it" in str(error) and Runtime(self.path).start(start()).decision == "proceed":
                    status = 0
            os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(runtime.start(start()).decision, "proceed")

    def test_a_signal_handler_may_call_hooks(self) -> None:
        self.script("[ $1 != asks ] || { kill -USR1 $PPID; sleep 0.2; }")
        runtime = self.runtime()
        seen = []
        former = signal.signal(signal.SIGUSR1, lambda *_: seen.append(runtime.start(start()).decision))
        self.addCleanup(signal.signal, signal.SIGUSR1, former)
        self.assertEqual(runtime.start(start("asks")).decision, "proceed")
        self.assertEqual(seen, ["proceed"])

    def test_a_large_document_is_copied_once(self) -> None:
        size = 1 << 30 if IS_SLOW else 256 << 20
        self.script('test "$(wc -c)" = "$1"')
        process = self.python(
            "import resource, sys; from hookvisor import *\n"
            f"document = b'x' * {size}\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "runtime, before = Runtime(sys.argv[1]), peak()\n"
            f"report = runtime.start(Event('mydaemon', '{size}', 'start', document=document))\n"
            "print(peak() - before)\n"
        )
        grown, error = process.communicate(timeout=5 * PATIENCE)
        self.assertEqual(error, "")
        self.assertLess(int(grown), (size >> 10) + (64 << 10))

    def test_no_memory_for_a_document(self) -> None:
        self.script("exit 0")
        process = self.python(
            "import re, resource, sys; from hookvisor import *\n"
            "runtime, document = Runtime(sys.argv[1]), bytes(256 << 20)\n"
            "size = int(re.search(r'VmSize:\\s+(\\d+)', open('/proc/self/status').read())[1]) << 10\n"
            "resource.setrlimit(resource.RLIMIT_AS, (size + (128 << 20), -1))\n"
            "try: runtime.start(Event('mydaemon', 'web1', 'start', document=document))\n"
            "except HookvisorError as error: print(error)\n"
            "print(runtime.start(Event('mydaemon', 'web1', 'start')).decision)\n"
        )
        said, error = process.communicate(timeout=PATIENCE)
        self.assertEqual(error, "")
        self.assertEqual(said, "there is not enough memory for a copy of the document (268435456 bytes)\nproceed\n")


class Ends(Hooks):
    """A hook does not outlive its call."""

    def test_ctrl_c_ends_the_hooks(self) -> None:
        self.script(WAITS)
        process = self.python(
            "import sys; from hookvisor import *\n"
            "Runtime(sys.argv[1]).admit(Event('mydaemon', 'slow', 'start'))"
        )
        hook = self.pid_of_hook()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
        self.assertIn("KeyboardInterrupt", error)
        self.assertFalse(is_alive(hook))

    def test_a_second_ctrl_c_kills_a_hook_that_ignores_the_first(self) -> None:
        self.script('[ "$2" != start ] || { trap : TERM; echo $$ > "$0.pid.bak"; while :; do sleep 0.1; done; }')
        process = self.python(
            "import sys; from hookvisor import *\n"
            "Runtime(sys.argv[1], grace=3600).start(Event('mydaemon', 'slow', 'start'))"
        )
        hook = self.pid_of_hook()
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < PATIENCE:
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        self.assertIn("KeyboardInterrupt", process.communicate(timeout=PATIENCE)[1])
        self.assertFalse(is_alive(hook))

    def test_the_interpreter_s_exit_ends_the_hooks_of_daemon_threads(self) -> None:
        self.script(WAITS)
        process = self.python(
            "import sys, threading, pathlib, time; from hookvisor import *\n"
            "runtime = Runtime(sys.argv[1])\n"
            "call = lambda: runtime.start(Event('mydaemon', 'slow', 'start'))\n"
            "threading.Thread(target=call, daemon=True).start()\n"
            "while not pathlib.Path(sys.argv[1], 'mydaemon.pid.bak').exists(): time.sleep(0.01)\n"
        )
        hook = self.pid_of_hook()
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0)
        self.assertFalse(is_alive(hook))

    def test_a_cancelled_task_ends_its_hooks_and_an_end_goes_on(self) -> None:
        self.script(WAITS + '\n[ "$2" != stopped ] || { sleep 0.3; echo told >> "${0%/*}/log"; }')
        runtime = self.runtime()

        async def cancelled() -> None:
            task = asyncio.create_task(runtime.admit_async(start("slow")))
            await asyncio.to_thread(self.pid_of_hook)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            guest = await runtime.admit_async(start())
            task = asyncio.create_task(guest.stopped_async())
            await asyncio.sleep(0.05)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        self.assertFalse(is_alive(self.pid_of_hook()))
        wait_until(lambda: self.log() == "told\n")


class Load(Hooks):
    def test_many_threads_and_tasks_leave_nothing(self) -> None:
        self.script("[ $1 != no ] || exit 3")
        runtime = self.runtime(max_in_flight=16)
        calls = 500 if IS_SLOW else 100

        # Large enough to show in the process's memory if it were kept.
        document = bytes(100_000)

        def event(number: int) -> Event:
            return start("no" if number % 4 == 0 else "yes", document=document)

        def ask(number: int) -> bool:
            try:
                with runtime.admit(event(number)):
                    return True
            except Veto:
                return False

        async def ask_all() -> "list[bool]":
            async def ask_one(number: int) -> bool:
                try:
                    async with await runtime.admit_async(event(number)):
                        return True
                except Veto:
                    return False

            return await asyncio.gather(*(ask_one(number) for number in range(calls)))

        expected = [number % 4 != 0 for number in range(calls)]

        def ask_in_threads_and_tasks() -> None:
            with ThreadPoolExecutor(32) as pool:
                self.assertEqual(list(pool.map(ask, range(calls))), expected)
            self.assertEqual(asyncio.run(ask_all()), expected)

        def left() -> "tuple[int, ...]":
            gc.collect()
            objects = sum(isinstance(thing, (Call, hookvisor.Guest, hookvisor.Report)) for thing in gc.get_objects())
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), objects, len(_running)

        def resident_kib() -> int:
            return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])

        ask(1)
        before = left()
        ask_in_threads_and_tasks()
        kib = resident_kib()
        ask_in_threads_and_tasks()
        wait_until(lambda: all(now <= then for now, then in zip(left(), before)))
        # The documents of one round have more than twice as much.
        self.assertLess(resident_kib() - kib, 8 << 10)


if __name__ == "__main__":
    unittest.main()
