"""A Dossier: one incident open to questions, with the truth that its answer is scored by.

Evidence read from a folder is shared by all environments of a process: the rollouts of a group ask about the same episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from chaosgym.diagnosis import Diagnosis
from chaosgym.envs.case import ScorableEpisodes
from chaosgym.episode import HEADER_FILE, Episode, read_episode
from chaosgym.incident.inquiry import Evidence, gather
from chaosgym.rewards import Score, score
from chaosgym.truth import Truth

__all__ = ["Dossier", "RecordedDossiers", "open_dossier"]

_EVIDENCE_KEPT = 32
"""Episodes kept in memory, about 4 MB each."""


@dataclass(frozen=True)
class Dossier:
    """What can be asked about one incident, and what it takes to score an answer."""

    episode: str
    """Id of the episode."""
    evidence: Evidence = field(repr=False)
    truth: Truth = field(repr=False)

    def score(self, diagnosis: Diagnosis | None) -> Score:
        """Score what was submitted; None is no answer."""
        return score(None if diagnosis is None else diagnosis.to_json(), self.truth, self.evidence.names)


def open_dossier(episode: Episode, truth: Truth, seed: int) -> Dossier:
    """Read an episode into memory; names are those of the telemetry, so `seed` draws nothing."""
    return Dossier(episode.header.id, gather(episode), truth)


@lru_cache(maxsize=_EVIDENCE_KEPT)
def _read(path: Path, written: int) -> Evidence:
    """`written` tells one recording in a folder from a later one."""
    return gather(read_episode(path))


class RecordedDossiers:
    """The scorable episodes of a folder and split."""

    def __init__(self, folder: Path | str, split: str | None) -> None:
        """Read headers and truths now, telemetry on first use. Raises InputError when nothing is left to ask about."""
        self._episodes = ScorableEpisodes(folder, split)

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Dossier:
        """Any episode alike, or the one whose id `options["episode"]` gives."""
        episode, truth = self._episodes[self._episodes.pick(rng, options)]
        path = episode.path.resolve()
        return Dossier(episode.header.id, _read(path, (path / HEADER_FILE).stat().st_mtime_ns), truth)

    def close(self) -> None:
        """Nothing of its own is held open."""
