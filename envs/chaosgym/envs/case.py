"""A Case: one incident with its truth, ready to be asked about, and where cases come from.

Recorded episodes (`Recordings`) answer from memory; live ones (`chaosgym.envs.live`) are made on demand. What is shown of an
incident differs by environment: `CaseSource` gives a `Case` (a report) or a `chaosgym.envs.dossier.Dossier` (questions).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from chaosgym.episode import Episode, list_episodes, read_episode
from chaosgym.errors import InputError
from chaosgym.incident.analysis import analyse
from chaosgym.incident.answer import read_answer
from chaosgym.incident.findings import Findings
from chaosgym.incident.report import render_incident
from chaosgym.rewards import Score, score
from chaosgym.truth import Truth, read_truth

__all__ = ["Case", "CaseSource", "Recordings", "Rendering", "ScorableEpisodes", "View", "check_source", "make_case", "open_case"]

Rendering = Literal["compact", "readable"]
T_co = TypeVar("T_co", covariant=True)
_SANDBOXES = ("local",)

_VIEWS_KEPT = 16_384
"""Texts kept in memory, about 5 KB each."""


@dataclass(frozen=True)
class View:
    """How a case is shown."""

    rendering: Rendering
    budget: int
    charset: frozenset[str]
    max_length: int

    def fit(self, text: str) -> str:
        """The text within the observation space: unknown characters become `?`, the end is cut."""
        strange = set(text) - self.charset
        return text.translate(dict.fromkeys(map(ord, strange), "?"))[: self.max_length] if strange else text[: self.max_length]


@dataclass(frozen=True)
class Case:
    """What is shown of one incident, and what it takes to score an answer to it."""

    episode: str
    """Id of the episode."""
    report: str
    alert: str
    components: tuple[str, ...]
    handles: Mapping[str, str]
    """Handle -> name where the report (and so the answer) goes by handles, else empty."""
    truth: Truth = field(repr=False)

    def score(self, answer: str) -> Score:
        """Score an answer as the agent wrote it."""
        return score(read_answer(answer, self.handles) if self.handles else answer, self.truth, self.components)


def make_case(findings: Findings, episode: Episode, truth: Truth, seed: int, view: View) -> Case:
    """Render the findings of an episode."""
    incident = render_incident(findings, episode.header.id, seed, view.budget)
    compact = view.rendering == "compact"
    return Case(
        episode=episode.header.id,
        report=view.fit(incident.compact if compact else incident.readable),
        alert=incident.alert,
        components=incident.components,
        handles=dict(incident.handles) if compact else {},
        truth=truth,
    )


def open_case(episode: Episode, truth: Truth, seed: int, view: View) -> Case:
    """Read and measure an episode, then render it."""
    return make_case(analyse(episode), episode, truth, seed, view)


def check_source(episodes: Path | str | None, sandbox: str | None, render_mode: str | None) -> None:
    """What all environments ask of their arguments. Raises InputError that names the one that cannot be."""
    if (episodes is None) == (sandbox is None):
        raise InputError(f"pass episodes=DIR to replay or sandbox='local' to run live, one of them (got {episodes!r} and {sandbox!r})")
    if sandbox is not None and sandbox not in _SANDBOXES:
        raise InputError(f"unknown sandbox {sandbox!r}; known: {', '.join(_SANDBOXES)}")
    if render_mode not in (None, "ansi"):
        raise InputError(f"unknown render_mode {render_mode!r}; known: 'ansi' and None")


class CaseSource(Protocol[T_co]):
    """Where an environment gets its next case from."""

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any]) -> T_co:
        """The next case, a function of `rng` and `options` alone where cases are recorded."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class ScorableEpisodes:
    """The episodes of a folder and split that an answer can be scored on, with their truths; telemetry is not read yet."""

    def __init__(self, folder: Path | str, split: str | None) -> None:
        """Read headers and truths. Raises InputError when nothing is left to ask about."""
        self._episodes: list[tuple[Episode, Truth]] = []
        paths = list_episodes(folder)
        for path in paths:
            episode, truth = read_episode(path), read_truth(path)
            if episode.header.status == "ok" and truth.visible is not False and split in (None, truth.split):
                self._episodes.append((episode, truth))
        if not self._episodes:
            raise InputError(
                f"{folder}: none of its {len(paths)} episodes is scorable and of split {split!r}; record some with `chaosgym record`, "
                "or pass another split (None takes all)"
            )
        self._index = {episode.header.id: i for i, (episode, _) in enumerate(self._episodes)}

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> tuple[Episode, Truth]:
        return self._episodes[index]

    def pick(self, rng: np.random.Generator, options: Mapping[str, Any]) -> int:
        """The index of any episode alike, or of the one whose id `options["episode"]` gives. Raises InputError for another id."""
        wanted = options.get("episode")
        if wanted is None:
            return int(rng.integers(len(self._episodes)))
        if str(wanted) not in self._index:
            raise InputError(f"options['episode']: no episode {str(wanted)!r} here; `chaosgym episodes list` names them")
        return self._index[str(wanted)]


class Recordings:
    """The scorable episodes of a folder and split, each in several renderings (other handles, other order)."""

    def __init__(self, folder: Path | str, split: str | None, view: View, variants: int) -> None:
        """Read headers and truths now, telemetry on first use. Raises InputError when nothing is left to ask about."""
        self._view, self._variants = view, variants
        self._episodes = ScorableEpisodes(folder, split)
        self._findings: dict[int, Findings] = {}
        self._cases: OrderedDict[tuple[int, int], Case] = OrderedDict()

    def __len__(self) -> int:
        return len(self._episodes)

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any]) -> Case:
        """Any episode alike, or the one whose id `options["episode"]` gives."""
        index = self._episodes.pick(rng, options)
        return self._case(index, int(rng.integers(self._variants)))

    def close(self) -> None:
        """Forget everything compiled."""
        self._cases.clear()
        self._findings.clear()

    def _case(self, index: int, variant: int) -> Case:
        case = self._cases.get((index, variant))
        if case is None:
            episode, truth = self._episodes[index]
            case = self._cases[index, variant] = make_case(self._analysed(index), episode, truth, variant, self._view)
            if len(self._cases) > _VIEWS_KEPT:
                self._cases.popitem(last=False)
        return case

    def _analysed(self, index: int) -> Findings:
        if index not in self._findings:
            episode = self._episodes[index][0]
            self._findings[index] = analyse(Episode(episode.path, episode.header))  # a copy, so that its tables are not kept
        return self._findings[index]
