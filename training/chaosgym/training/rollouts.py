"""What a model answered in training, kept in `rollouts.jsonl` of the run, so that another reward can be put to it later.

One line per answer, in order of steps; `chaosgym rescore` reads it. Each step is appended by a single write, so a run that
is killed leaves whole lines, or one broken line at the end, which readers leave out.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from chaosgym.errors import InfrastructureError, InputError

__all__ = ["ROLLOUT_FILE", "Rollout", "RolloutFile", "read_rollouts"]

ROLLOUT_FILE = "rollouts.jsonl"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollout:
    """One answer, and what it earned then."""

    step: int
    """Updates of the weights before it was given."""
    episode: str
    """Id of the episode."""
    seed: int
    """Of the rendering that the model read."""
    text: str
    """The answer as the model gave it."""
    answer: str
    """As it was scored: with names in place of the handles of a compact report."""
    reward: float | None
    """The total; None where nothing may be scored."""
    terms: dict[str, float] = field(default_factory=dict)
    """Each term before its weight."""


class RolloutFile:
    """Appends rollouts to a file of bounded size: when it is full every second step in it goes, and so of those to come.

    What stays is spread evenly over the run.
    """

    def __init__(self, path: Path, most_bytes: int, first_step: int = 0) -> None:
        """Open for a run that goes on with step `first_step`: what it holds of that and later steps will come again, and goes."""
        self.path, self._most = path, most_bytes
        self._last, self._gap = -1, 0
        if path.is_file():
            self._keep([rollout for rollout in read_rollouts(path) if rollout.step < first_step])

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Append the rollouts of one step. Raises InfrastructureError when they cannot be written."""
        block = "".join(map(_line, rollouts)).encode()
        try:
            if self._size() + len(block) > self._most:
                self._thin()
            step = rollouts[0].step
            if self._size() + len(block) <= self._most and (self._last < 0 or step >= self._last + self._gap):
                self._append(block)
                self._last = step
        except OSError as error:
            remedy = "free some space and go on with --resume"
            raise InfrastructureError(f"{self.path}: cannot be written ({error.strerror}); {remedy}") from error

    def _append(self, block: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(descriptor, block) < len(block):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def _thin(self) -> None:
        rollouts = list(read_rollouts(self.path)) if self._size() else []
        steps = sorted({rollout.step for rollout in rollouts})
        stay = set(steps[::2])
        self._keep([rollout for rollout in rollouts if rollout.step in stay])
        _log.info("%s is full: %d of its %d steps stay", self.path.name, len(stay), len(steps))

    def _keep(self, rollouts: Sequence[Rollout]) -> None:
        """Let the file hold these alone, and go on with steps as far from each other as they are."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text("".join(map(_line, rollouts)), encoding="utf-8")
        partial.replace(self.path)
        steps = sorted({rollout.step for rollout in rollouts})
        self._last = steps[-1] if steps else -1
        self._gap = min((b - a for a, b in pairwise(steps)), default=self._gap)


def _line(rollout: Rollout) -> str:
    """ASCII, whatever a model wrote; the answer stands there once when it is the text."""
    record = asdict(rollout)
    if rollout.answer == rollout.text:
        del record["answer"]
    return json.dumps(record, separators=(",", ":")) + "\n"


def read_rollouts(path: Path) -> Iterator[Rollout]:
    """The rollouts in their order. Raises InputError when there is no such file, or for a broken line but the last."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: no rollouts can be read ({why}); name a run directory of `train grpo` or `train ppo`") from error
    for number, line in enumerate(lines[:-1], 1):  # without its newline the last one is broken, and empty otherwise
        yield _rollout(line, path, number)


def _rollout(line: str, path: Path, number: int) -> Rollout:
    try:
        record: dict[str, Any] = json.loads(line)
        return Rollout(**{"answer": record["text"], **record})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}:{number}: no rollout ({error!r}); it was changed or is of another version: restore it") from error
