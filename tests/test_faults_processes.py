"""Faults on real processes, read back from the kernel: a small program that listens, spins, leaks and opens files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chaosgym.errors import FaultError
from chaosgym.faults import make_fault
from chaosgym.faults.double import RecordingSandbox
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import ProcessView
from chaosgym.sandbox.proc import read_process

_PROGRAM = """
import asyncio, json, sys, threading, time
defect, kept = {}, []
def spin():
    while defect.get("kind") == "spin":
        end = time.monotonic() + 0.01 * defect["duty"]
        while time.monotonic() < end: pass
        time.sleep(0.01 * (1 - defect["duty"]))
def leak():
    while defect.get("kind") == "leak":
        kept.append(bytearray(defect["bytes_per_second"] // 50)); time.sleep(0.02)
def control():
    for line in sys.stdin:
        defect.clear(); defect.update(json.loads(line) or {})
        if defect: threading.Thread(target={"spin": spin, "leak": leak}[defect["kind"]], daemon=True).start()
        print("ok", flush=True)
async def answer(reader, writer):
    while await reader.read(100): writer.write(b"x")
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    threading.Thread(target=control, daemon=True).start()
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class ProcessSandbox(RecordingSandbox):
    """The component `orders` is a real process; what has nothing to do with processes is noted only."""

    def __init__(self) -> None:
        super().__init__()
        self.port = _free_port()
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _PROGRAM, str(self.port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    async def processes(self, role: str) -> Sequence[int]:
        return [self.process.pid] if self.process.poll() is None else []

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        os.kill(self.process.pid, number)

    async def hold(self, role: str, down: bool) -> None:
        await super().hold(role, down)
        if not down and self.process.poll() is not None:
            self.close()
            self.process = self._spawn()

    async def limit_files(self, role: str, count: int | None) -> None:
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (256 if count is None else count, hard))

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(defect).encode() + b"\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    async def answers(self) -> bool:
        """Whether a new connection is served within 0.3 s."""
        try:
            async with asyncio.timeout(0.3):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                with contextlib.closing(writer):
                    writer.write(b"?")
                    return await reader.read(1) == b"x"
        except (OSError, TimeoutError):
            return False

    def close(self) -> None:
        """End the process and its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _view(sandbox: ProcessSandbox) -> ProcessView:
    view = read_process(sandbox.process.pid)
    assert view is not None
    return view


@pytest.fixture
def sandbox() -> Iterator[ProcessSandbox]:
    running = ProcessSandbox()
    yield running
    running.close()


@pytest.fixture
async def client(sandbox: ProcessSandbox) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that was there before the fault."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    writer.write(b"?")
    assert await reader.read(1) == b"x"
    yield reader, writer
    writer.close()


async def test_a_crash_refuses_connections_until_it_is_healed(sandbox: ProcessSandbox) -> None:
    first = sandbox.process.pid
    async with make_fault("process.crash", "orders").applied(sandbox):
        assert sandbox.process.wait(1) == -signal.SIGKILL
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", sandbox.port)
    assert await sandbox.answers()
    assert sandbox.process.pid != first


async def test_a_hang_accepts_and_does_not_answer(sandbox: ProcessSandbox) -> None:
    async with make_fault("process.hang", "orders").applied(sandbox):
        assert _view(sandbox).state == "T"
        _, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)  # the kernel accepts for it
        writer.close()
        assert not await sandbox.answers()
    assert await sandbox.answers()


async def test_a_signal_that_was_not_sent_is_noticed(sandbox: ProcessSandbox) -> None:
    class Silent(ProcessSandbox):
        async def signal(self, role: str, number: int, pid: int | None = None) -> None:
            return

    silent = Silent()
    try:
        with pytest.raises(FaultError, match="is not stopped; states are"):
            async with make_fault("process.hang", "orders").applied(silent):
                pytest.fail("it was taken for applied")
        with pytest.raises(FaultError, match="still runs after SIGKILL"):
            async with make_fault("process.crash", "orders").applied(silent):
                pytest.fail("it was taken for applied")
    finally:
        silent.close()


def _cpu_seconds(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_spinning_job_burns_cpu_until_it_is_healed(sandbox: ProcessSandbox) -> None:
    async with make_fault("resource.cpu", "orders", {"duty": 0.9}).applied(sandbox):
        before = _cpu_seconds(sandbox.process.pid)
        await asyncio.sleep(0.4)
        assert _cpu_seconds(sandbox.process.pid) - before >= 0.08
    await asyncio.sleep(0.05)
    before = _cpu_seconds(sandbox.process.pid)
    await asyncio.sleep(0.2)
    assert _cpu_seconds(sandbox.process.pid) - before <= 0.03


async def test_a_leak_is_seen_growing(sandbox: ProcessSandbox) -> None:
    fault = make_fault("resource.memory_leak", "orders", {"rate": "100MiB"})
    begin = time.monotonic()
    async with fault.applied(sandbox):
        assert time.monotonic() - begin < 2


async def test_a_leak_that_has_killed_the_process_is_in_force(sandbox: ProcessSandbox) -> None:
    fault = make_fault("resource.memory_leak", "orders")
    await fault.inject(sandbox)
    sandbox.process.kill()
    sandbox.process.wait()
    await fault.verify(sandbox)
    async with unless_dead(sandbox, "orders"):
        await fault.heal(sandbox)
    assert not await sandbox.processes("orders")


@pytest.mark.parametrize("label", ["resource.cpu", "resource.memory_leak"])
async def test_a_defect_without_effect_is_noticed(sandbox: ProcessSandbox, label: str) -> None:
    async def ignore(role: str, defect: Mapping[str, Any] | None) -> None:
        return

    sandbox.defect = ignore
    with pytest.raises(FaultError, match=r"no thread of 'orders' computes|'orders' did not grow"):
        async with make_fault(label, "orders").applied(sandbox):
            pytest.fail("it was taken for applied")


async def test_without_descriptors_old_connections_live_and_new_ones_wait(
    sandbox: ProcessSandbox, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    reader, writer = client
    async with make_fault("resource.file_descriptors", "orders").applied(sandbox):
        assert (_view(sandbox).files_limit or 256) < 64
        writer.write(b"?")
        assert await asyncio.wait_for(reader.read(1), 1) == b"x"
        assert not await sandbox.answers()
    assert True in [await sandbox.answers() for _ in range(6)]  # asyncio looks again a second after it ran out
    assert _view(sandbox).files_limit == 256


async def test_spare_descriptors_are_left(sandbox: ProcessSandbox) -> None:
    async with make_fault("resource.file_descriptors", "orders", {"spare": 1}).applied(sandbox):
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
        writer.write(b"?")
        assert await asyncio.wait_for(reader.read(1), 1) == b"x"
        assert not await sandbox.answers()
        writer.close()


@pytest.mark.parametrize("label", ["process.hang", "resource.cpu", "resource.memory_leak", "resource.file_descriptors"])
async def test_healing_a_component_that_died_is_silent(sandbox: ProcessSandbox, label: str) -> None:
    fault = make_fault(label, "orders")
    await fault.inject(sandbox)
    sandbox.process.kill()
    sandbox.process.wait()
    for _ in range(2):
        await fault.heal(sandbox)
    assert await sandbox.processes("orders") == []


async def test_healing_reports_what_it_could_not_undo_while_the_component_lives(sandbox: ProcessSandbox) -> None:
    async def fails(role: str, count: int | None) -> None:
        raise PermissionError("prlimit")

    sandbox.limit_files = fails
    with pytest.raises(PermissionError, match="prlimit"):
        await make_fault("resource.file_descriptors", "orders").heal(sandbox)


async def test_a_cancelled_incident_is_healed(sandbox: ProcessSandbox) -> None:
    started = asyncio.Event()

    async def incident() -> None:
        async with make_fault("process.hang", "orders").applied(sandbox):
            started.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(incident())
    await started.wait()
    assert _view(sandbox).state == "T"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sandbox.answers()
