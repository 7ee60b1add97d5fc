"""Real defects that can be switched on in a running service; see `Defect` for their parameters.

spin    a background job that never gets done: a thread that keeps the interpreter busy
leak    a list that only grows
raise   a business rule that throws on some inputs (`rules`)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from chaosgym.services.config import Defect
from chaosgym.services.rules import Rule, compile_rule

__all__ = ["Defects"]

_PERIOD = 0.1
"""Seconds in which the busy thread works and rests once."""
_CHUNK = 0.02
"""Seconds between two growths of the list."""


class Defects:
    """Of one process: at most one is on. Not for use from two threads."""

    def __init__(self, service: str) -> None:
        self.rule: Rule | None = None
        """Applied to every request; throws on some."""
        self._service = service
        self._spinning: threading.Event | None = None
        self._leak: asyncio.Task[None] | None = None
        self._kept: list[bytearray] = []

    def switch(self, defect: Defect | None) -> None:
        """Turn `defect` on and whatever was on off."""
        self._off()
        if defect is None:
            return
        if defect.kind == "spin":
            self._spinning = threading.Event()
            threading.Thread(target=_spin, args=(self._spinning, defect.duty), name="reindex", daemon=True).start()
        elif defect.kind == "leak":
            self._leak = asyncio.get_running_loop().create_task(self._grow(defect.bytes_per_second))
        else:
            self.rule = compile_rule(self._service, defect.flavour, defect.share)

    def _off(self) -> None:
        if self._spinning is not None:
            self._spinning.set()
        if self._leak is not None:
            self._leak.cancel()
        self._spinning, self._leak, self.rule = None, None, None
        self._kept.clear()

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
