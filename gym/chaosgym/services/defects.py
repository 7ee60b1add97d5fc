"""Real defects that can be switched on in a running service; see `Defect` for their parameters.

spin          a background job that never gets done: a thread that keeps the interpreter busy
leak          a list that only grows
raise         a business rule that throws on some inputs (`rules`)
block         a call in the event loop that should not be there: it sleeps, and everybody with it
burn          a computation that takes its time in every request
deadlock      a lock that somebody took and nobody gives back
queries       one more query for each row that was found
connections   connections of the pool that are not given back
threads       a thread for each request that never ends
files         a file for each request that is never closed
reshape       an answer in which a field is called otherwise
exit          an end shortly after the start
warm_up       not ready yet, for a while after the start
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from typing import IO

from chaosgym.services.config import Defect
from chaosgym.services.failure import Failure
from chaosgym.services.journal import Journal
from chaosgym.services.rules import Rule, compile_rule

__all__ = ["Defects", "compute"]

_PERIOD = 0.1
"""Seconds in which the busy thread works and rests once."""
_CHUNK = 0.02
"""Seconds between two growths of the list."""
_BLOCK = bytes(range(256)) * 32


def compute(seconds: float) -> None:
    """Hash until the thread has had that much CPU."""
    done = time.thread_time() + seconds
    digest = b""
    while time.thread_time() < done:
        digest = hashlib.sha256(digest + _BLOCK).digest()


class Defects:
    """Of one process: at most one is on. Not for use from two threads."""

    def __init__(self, service: str, journal: Journal) -> None:
        self.rule: Rule | None = None
        """Applied to every request; throws on some."""
        self.on: Defect | None = None
        self._service, self._journal = service, journal
        self._begun = time.monotonic()
        self._done = threading.Event()
        self._leak: asyncio.Task[None] | None = None
        self._exit: asyncio.TimerHandle | None = None
        self._kept: list[bytearray] = []
        self._files: list[IO[bytes]] = []
        self._lock = asyncio.Lock()

    def switch(self, defect: Defect | None) -> None:
        """Turn `defect` on and whatever was on off."""
        self._off()
        self.on = defect
        if defect is None:
            return
        match defect.kind:
            case "spin":
                threading.Thread(target=_spin, args=(self._done, defect.duty), name="reindex", daemon=True).start()
            case "leak":
                self._leak = asyncio.get_running_loop().create_task(self._grow(defect.bytes_per_second))
            case "raise":
                self.rule = compile_rule(self._service, defect.flavour, defect.share)
            case "exit":
                self._exit = asyncio.get_running_loop().call_later(defect.seconds, self._give_up)
            case _:
                pass  # acts in `before` a request, or where `is_on` is asked

    def is_on(self, kind: str) -> bool:
        """Whether this defect is on."""
        return self.on is not None and self.on.kind == kind

    async def before(self) -> None:
        """What happens to each request before its steps. Raises Failure."""
        defect = self.on
        if defect is None:
            return
        match defect.kind:
            case "block":
                time.sleep(defect.seconds)  # noqa: ASYNC251 - that is the defect
            case "burn":
                compute(defect.seconds)
            case "deadlock":
                await self._lock.acquire()  # given back by nobody
            case "threads":
                for _ in range(defect.count):
                    threading.Thread(target=self._done.wait, daemon=True).start()
            case "files":
                self._files += [open(os.devnull, "rb") for _ in range(defect.count)]  # noqa: ASYNC230, SIM115 - closed by nobody
            case "warm_up" if (left := self._begun + defect.seconds - time.monotonic()) > 0:
                self._journal.log("WARN", "not_ready", seconds=f"{left:.1f}")
                raise Failure(503, "NotReady", "service is starting up, not ready", peer="", retry=True)
            case _:
                pass

    def _off(self) -> None:
        self._done.set()
        if self._leak is not None:
            self._leak.cancel()
        if self._exit is not None:
            self._exit.cancel()
        for file in self._files:
            file.close()
        if self._lock.locked():
            self._lock.release()
        self._done, self._lock = threading.Event(), asyncio.Lock()
        self._leak, self._exit, self.rule = None, None, None
        self._kept.clear()
        self._files.clear()

    def _give_up(self) -> None:
        self._journal.log("ERROR", "giving_up")
        os._exit(1)

    async def _grow(self, bytes_per_second: float) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(_CHUNK)
            now = time.monotonic()
            with contextlib.suppress(MemoryError):
                self._kept.append(bytearray(b"\x01") * int((now - last) * bytes_per_second))  # written, so resident
            last = now


def _spin(done: threading.Event, duty: float) -> None:
    """Sort again and again: each sort is one call that holds the interpreter for about 10 ms."""
    pending = [(n * 2654435761) % 1_000_003 for n in range(40_000)]
    while not done.is_set():
        begin = time.perf_counter()
        while time.perf_counter() - begin < _PERIOD * duty and not done.is_set():
            sorted(pending)
        done.wait(_PERIOD * (1 - duty))
