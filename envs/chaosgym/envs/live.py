"""Live cases: each one breaks real services in a warm sandbox, records what happened and forgets the recording."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from chaosgym.episode import Episode, read_episode
from chaosgym.errors import InfrastructureError, InputError, PrerequisiteError
from chaosgym.scenarios import find_scenarios, load_app, runs_on
from chaosgym.truth import Truth, read_truth

if TYPE_CHECKING:
    from chaosgym.recording.pool import Pool, Recorded

__all__ = ["LiveCases"]

T = TypeVar("T")
ATTEMPTS = 5
"""Runs until one can be scored; an unscorable or invisible one is drawn again with another scenario and seed."""


class LiveCases(Generic[T]):
    """Runs scenarios that match a glob, one sandbox of its own, started on first use."""

    def __init__(self, scenarios: str, split: str | None, make: Callable[[Episode, Truth, int], T]) -> None:
        """Find the scenarios; `make` turns an episode, its truth and a seed into a case and keeps nothing of the episode's folder.

        Raises InputError when no scenario matches.
        """
        self._make = make
        self._scenarios = [s for s in find_scenarios(scenarios) if split in (None, s.metadata.split) and "local" in runs_on(s)]
        if not self._scenarios:
            raise InputError(f"no scenario matches {scenarios!r} in split {split!r}; `chaosgym scenario list` names them")
        self._apps = {name: load_app(name) for name in {s.spec.app for s in self._scenarios}}
        self._open = ExitStack()
        self._pool: Pool | None = None
        self._closer = weakref.finalize(self, self._open.close)

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any]) -> T:
        """Run until an episode can be scored. Raises InfrastructureError after `ATTEMPTS` that could not be."""
        reasons: list[str] = []
        for _ in range(ATTEMPTS):
            scenario = self._scenarios[int(rng.integers(len(self._scenarios)))]
            variant, seed = int(rng.integers(2**31)), int(rng.integers(2**31))
            with tempfile.TemporaryDirectory(prefix="chaosgym-") as folder:
                try:
                    recorded = self._started().record(scenario, self._apps[scenario.spec.app], seed, Path(folder))
                except InfrastructureError as error:
                    reasons.append(f"{scenario.metadata.name}: {error}")
                    continue
                if recorded.status == "ok" and recorded.visible is not False:
                    return self._read(recorded, variant)
                reasons.append(f"{scenario.metadata.name}: {recorded.reason or 'the fault left no visible trace'}")
        raise InfrastructureError(
            f"{ATTEMPTS} live episodes in a row could not be scored, the last because of {reasons[-1]}; "
            "`chaosgym doctor` checks this machine, `chaosgym run` shows one episode"
        )

    def close(self) -> None:
        """Stop the sandbox; the next draw would start another."""
        self._open.close()
        self._pool = None

    def _started(self) -> Pool:
        if self._pool is None:
            try:
                from chaosgym.recording.pool import Pool
            except ImportError as error:
                raise PrerequisiteError(f"a live sandbox needs {error.name}: pip install 'chaosgym[services]'") from error
            self._pool = self._open.enter_context(Pool(1))
        return self._pool

    def _read(self, recorded: Recorded, variant: int) -> T:
        return self._make(read_episode(recorded.path), read_truth(recorded.path), variant)
