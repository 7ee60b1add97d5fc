"""A pool of warm sandboxes: claim one, use it, give it back or burn it.

    with Pool(4, SandboxChoice("docker")) as pool:
        path = pool.record(scenario, app, seed=7, out=Path("episodes"))

Each sandbox is a worker process of its own (`chaosgym.recording.worker`). `record` may be called from many threads;
a worker that died, hung or did not come clean is destroyed and replaced by a fresh one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaosgym.app import App
from chaosgym.errors import ChaosgymError, InfrastructureError, PrerequisiteError, SandboxError
from chaosgym.faults.own import loaded_files
from chaosgym.recording.timeline import Progress
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.leftovers import STATE_PREFIX, sign_folder
from chaosgym.scenario import Scenario

__all__ = ["Pool", "Recorded", "Worker", "episode_id"]

BOOT_TIMEOUT = 120.0
JOB_TIMEOUT = 120.0
STOP_TIMEOUT = 45.0
"""Seconds that a worker gets to remove what it made; an engine takes some."""


def _quiet(phase: str, detail: str) -> None:
    return None


def episode_id(scenario: Scenario, app: App, seed: int) -> str:
    """A name that is the same for the same exam and tells nothing about it."""
    text = f"{scenario.model_dump_json(by_alias=True)}{app.metadata.name}{seed}"
    return "e" + hashlib.sha256(text.encode()).hexdigest()[:15]


def cache_folder() -> Path:
    """Where things made once per machine live (`XDG_CACHE_HOME` or `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chaosgym"


@dataclass(frozen=True)
class Recorded:
    """What became of one episode."""

    path: Path
    status: str
    """ok or unscorable."""
    visible: bool | None
    reason: str


class Worker:
    """One worker process, from the runner's side; not thread-safe: one claimant at a time."""

    def __init__(self, choice: SandboxChoice = SandboxChoice()) -> None:  # noqa: B008 - frozen
        ours, theirs = socket.socketpair()
        self.state = Path(tempfile.mkdtemp(prefix=STATE_PREFIX))
        sign_folder(self.state)
        run = secrets.token_hex(6)
        arguments = [
            sys.executable, "-m", "chaosgym.recording.worker", str(theirs.fileno()), str(self.state), str(cache_folder()),
            choice.to_json(), run,
        ]  # fmt: skip
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            arguments, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        self._lines = ours.makefile("rb")
        self.namespaced = False
        self.dirty = False
        """Its last job left something behind: it is destroyed instead of reused."""

    def wait_ready(self) -> None:
        """Block until the sandbox has booted. Raises PrerequisiteError or SandboxError with its reason."""
        self.namespaced = bool(self._read(BOOT_TIMEOUT).get("namespaced"))

    def run(self, job: dict[str, Any], progress: Progress = _quiet) -> dict[str, Any]:
        """Send a job, pass its progress on, return its result. Raises SandboxError when the worker died or hung."""
        try:
            self._socket.sendall(json.dumps(job).encode() + b"\n")
        except OSError as error:
            raise SandboxError(f"the sandbox's worker is gone: {self._last_words() or error}") from error
        deadline = time.monotonic() + JOB_TIMEOUT
        while True:
            message = self._read(deadline - time.monotonic())
            if "progress" not in message:
                return message
            progress(message["progress"], message["detail"])

    def _read(self, timeout: float) -> dict[str, Any]:
        self._socket.settimeout(max(timeout, 0.01))
        try:
            line = self._lines.readline()
        except TimeoutError as error:
            raise SandboxError(f"the sandbox's worker did not answer within {timeout:.0f} s") from error
        except OSError as error:
            raise SandboxError(f"the sandbox's worker is gone: {self._last_words() or error}") from error
        if not line:
            raise SandboxError(f"the sandbox's worker died: {self._last_words() or 'without a word'}")
        message = json.loads(line)
        if "failed" in message:
            kind = PrerequisiteError if message["exit_code"] == PrerequisiteError.exit_code and not self.namespaced else InfrastructureError
            raise kind(message["failed"])
        return message

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """Close the lifeline; the keeper kills everything and removes the state folder."""
        self._lines.close()
        self._socket.close()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()
        shutil.rmtree(self.state, ignore_errors=True)


def _stop(worker: Worker) -> None:
    with contextlib.suppress(OSError):
        worker.stop()


class Pool:
    """`size` warm workers; see the module docstring."""

    def __init__(self, size: int = 1, choice: SandboxChoice = SandboxChoice()) -> None:  # noqa: B008 - frozen
        self.choice = choice
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        self._refills: list[threading.Thread] = []
        self._failure = ""
        """Why the last replacement did not boot."""
        self.size = size

    def __enter__(self) -> Self:
        try:
            workers = [self._spawn() for _ in range(self.size)]
            for worker in workers:
                worker.wait_ready()
                self._idle.put(worker)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _spawn(self) -> Worker:
        worker = Worker(self.choice)
        with self._lock:
            self._all.add(worker)
        return worker

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those alive now."""
        with self._lock:
            return tuple(self._all)

    def close(self) -> None:
        """Stop every worker, all at once: an engine takes seconds for each."""
        with self._lock:
            workers, self._all = self._all, set()
        with ThreadPoolExecutor(max(len(workers), 1)) as stopping:
            stopping.map(_stop, workers)
        for refill in self._refills:
            refill.join()

    @contextmanager
    def claim(self) -> Generator[Worker]:
        """A warm worker for the length of the block; an InfrastructureError inside burns it."""
        worker = self._take()
        try:
            yield worker
        except BaseException:
            self._replace(worker)
            raise
        if worker.dirty:
            self._replace(worker)
        else:
            self._idle.put(worker)

    def _take(self) -> Worker:
        while True:
            try:
                return self._idle.get(timeout=0.5)
            except queue.Empty:
                if not self.workers:  # the replacements of all of them failed to boot
                    reason = f": {self._failure}" if self._failure else ""
                    raise SandboxError(f"no sandbox is left in the pool{reason}; `chaosgym doctor` checks this machine") from None

    def _replace(self, worker: Worker) -> None:
        """Burn it, and have another boot in the background."""
        with self._lock:
            closing = worker not in self._all
            self._all.discard(worker)
        fresh = None if closing else self._spawn()
        refill = threading.Thread(target=self._refill, args=(worker, fresh))
        self._refills.append(refill)
        refill.start()

    def _refill(self, old: Worker, fresh: Worker | None) -> None:
        _stop(old)
        if fresh is None:
            return
        try:
            fresh.wait_ready()
        except (ChaosgymError, OSError, ValueError) as error:  # the latter when the pool is closed meanwhile
            self._failure = str(error)
            with self._lock:
                self._all.discard(fresh)
            _stop(fresh)
        else:
            self._idle.put(fresh)

    def record(self, scenario: Scenario, app: App, seed: int, out: Path, progress: Progress | None = None) -> Recorded:
        """Run one episode live and write it under `out`.

        Raises InfrastructureError when it could not even be recorded as a failure; the worker is replaced.
        """
        job = {
            "app": app.model_dump(mode="json", by_alias=True), "scenario": scenario.model_dump(mode="json", by_alias=True),
            "seed": seed, "out": str(out.absolute()), "id": episode_id(scenario, app, seed), "progress": progress is not None,
            "faults": [str(path) for path in loaded_files()],
        }
        with self.claim() as worker:
            done = worker.run(job, progress or _quiet)
            worker.dirty = "burn" in done
        return Recorded(Path(done["done"]), done["status"], done.get("visible"), done.get("reason", ""))
