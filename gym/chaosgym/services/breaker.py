"""A circuit breaker: after too many failures in a row, stop calling for a while, then try one."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Of one peer. closed - (`threshold` failures in a row) -> open - (`rest` s) -> half-open: one trial decides."""

    def __init__(self, threshold: int = 8, rest: float = 0.4, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold, self._rest, self._clock = threshold, rest, clock
        self._failures = 0
        self._opened: float | None = None
        self._trial = False

    @property
    def closed(self) -> bool:
        """Calls go through as usual."""
        return self._opened is None

    def allow(self) -> bool:
        """Whether a call may be made now; the caller then reports `succeeded`, `failed` or `abandoned`."""
        if self._opened is None:
            return True
        if self._trial or self._clock() - self._opened < self._rest:
            return False
        self._trial = True
        return True

    def succeeded(self) -> bool:
        """Note a success; True when it closed the breaker."""
        closes = self._opened is not None
        self._failures, self._opened, self._trial = 0, None, False
        return closes

    def failed(self) -> bool:
        """Note a failure; True when it opened the breaker (from closed)."""
        self._failures += 1
        if self._opened is not None:
            self._opened, self._trial = self._clock(), False
            return False
        if self._failures < self._threshold:
            return False
        self._opened = self._clock()
        return True

    def abandoned(self) -> None:
        """The call was given up without telling anything about the peer."""
        self._trial = False
