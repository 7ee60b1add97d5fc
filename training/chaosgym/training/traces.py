"""Traces: how a careful engineer would have asked about recorded incidents, to be imitated.

    opening ──> topology, events, a request ──> metrics, then the log, of whom the pages point to ──> submit

Each question is decided from the compact pages seen so far: the row that is farthest from usual says whom to look at next, and is
kept as the reason. Sometimes another one is looked at first: a dead end. The truth decides two things alone, when to stop and what
to submit: once the pages have shown something of each true culprit, or nothing worth a look is left where nothing is broken. An
investigation that never gets to see a culprit makes no trace, as to name it would teach to guess.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.envs.dossier import Dossier
from chaosgym.incident.compact import draw_handles
from chaosgym.incident.inquiry import SUBMIT, TOOLS, Budget, Inquiry, write_action
from chaosgym.incident.rows import surprise
from chaosgym.incident.vocabulary import ERROR_KINDS, HANDLES

__all__ = ["Step", "Trace", "make_trace"]

_HANDLES = frozenset(HANDLES)
_FAILED = frozenset(ERROR_KINDS)
_NOTABLE = 1.0
"""From here on a row is worth a question."""
_GRAVE = {"fatal": 3.0, "error": 2.0, "warn": 1.5}
_DEAD_END = 0.12
"""How often it is not the worst that is looked at next."""
_LOOKS = 4
"""Components that are measured at least before nothing is said to be broken. Always as many: where it is chance, to ask on is always the
likelier next word, and a model that says the likeliest never stops."""


@dataclass(frozen=True)
class Step:
    """One question."""

    tool: str
    arguments: Mapping[str, Any]
    """With a handle for a component."""
    because: str = ""
    """The row of an earlier page that calls for it; empty for what is asked anyhow."""


@dataclass(frozen=True)
class Trace:
    """One investigation, as questions and a diagnosis; whoever plays it gets the pages."""

    episode: str
    handles: Mapping[str, str]
    """Handle -> name."""
    steps: tuple[Step, ...]
    diagnosis: Diagnosis
    """With handles."""

    def actions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Tool and arguments of each call, `submit` included."""
        yield from ((step.tool, dict(step.arguments)) for step in self.steps)
        healthy = self.diagnosis.verdict == "healthy"
        yield SUBMIT, {"verdict": "healthy"} if healthy else self.diagnosis.model_dump(mode="json")


@dataclass
class _Notes:
    """What has been seen: for each component its worst row, and whose metrics and log were asked for."""

    inquiry: Inquiry
    rng: random.Random
    steps: list[Step] = field(default_factory=list[Step])
    shown: dict[str, None] = field(default_factory=dict[str, None])
    worst: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    measured: set[str] = field(default_factory=set[str])
    read: set[str] = field(default_factory=set[str])

    def can(self, tool: str) -> bool:
        """Whether the budget holds it."""
        budget = self.inquiry.budget
        return self.inquiry.calls < budget.calls and self.inquiry.spent + TOOLS[tool].cost <= budget.cost

    def ask(self, tool: str, because: str = "", **arguments: Any) -> None:
        """Ask and look at the page."""
        self.steps.append(Step(tool, arguments, because))
        if tool in ("metrics", "logs"):
            (self.measured if tool == "metrics" else self.read).add(arguments["component"])
        self.look(self.inquiry.ask(write_action(tool, arguments)).text)

    def look(self, page: str) -> None:
        """Take notes of each row that names a component."""
        for row in page.split("\n"):
            self.shown.update(dict.fromkeys(word for word in row.split(" ") if word in _HANDLES))
            for handle, worth in _worths(row.split(" ")):
                if worth > self.worth(handle):
                    self.worst[handle] = worth, row

    def worth(self, handle: str) -> float:
        """How far from usual the worst row about it is."""
        return self.worst.get(handle, (0.0, ""))[0]


def make_trace(dossier: Dossier, seed: int, budget: Budget, confidence: float = 0.9) -> Trace | None:
    """An investigation of one incident, a function of its arguments; None where the budget does not lead to the culprits."""
    key = f"{dossier.episode} {seed}"
    handles = draw_handles(dossier.evidence.findings, key)
    named = {name: handle for handle, name in handles.items()}
    culprits = [cause.component for cause in dossier.truth.causes]
    if any(name not in named for name in culprits):
        return None
    notes = _Notes(Inquiry(dossier.evidence, budget, handles), random.Random(f"trace {key}"))
    wanted = [named[name] for name in culprits]
    _begin(notes)
    while not _done(notes, wanted) and _go_on(notes):
        pass
    if any(not _found(notes, handle) for handle in wanted):
        return None
    causes = tuple(Cause(component=named[c.component], fault=c.fault, probability=confidence) for c in dossier.truth.causes)
    return Trace(dossier.episode, handles, tuple(notes.steps), Diagnosis(verdict=dossier.truth.verdict, causes=causes))


def _worths(words: Sequence[str]) -> Iterable[tuple[str, float]]:
    """What a row says about each component in it: how far from usual it is."""
    handles = [word for word in words if word in _HANDLES]
    if not handles:
        return
    worth = surprise(words) + 2.0 * any(word in _FAILED for word in words) + 1.0 * ("slow" in words)
    if ">" in words:
        callees = handles[1:] or handles  # users are no component
        yield from ((handle, worth) for handle in callees)
        if len(handles) > 1:
            yield handles[0], 0.25 * worth
    elif len(words) > 2 and words[2] in ("new", "surge"):
        grave = _GRAVE.get(words[1], 0.5)
        yield handles[0], grave
        yield from ((handle, grave + 0.5) for handle in handles[1:])
    else:
        yield handles[0], worth * (0.5 if "earlier" in words else 1.0)


def _begin(notes: _Notes) -> None:
    """Topology, mostly events, and one request where users see something."""
    opening = notes.inquiry.opening()
    notes.look(opening)
    notes.ask("topology")
    if notes.rng.random() < 0.9 and notes.can("events"):
        notes.ask("events")
    words = {word.rstrip("0123456789") for word in opening.split()}
    for sign, order in (("fail", "failing"), ("wait", "slow")):
        if sign in words and notes.can("traces") and notes.rng.random() < 0.6:
            notes.ask("traces", opening.split("\n")[0], order=order, limit=1)
            return


def _go_on(notes: _Notes) -> bool:
    """Ask the next question; False when there is none, or none that the budget holds."""
    unread = [handle for handle in notes.measured - notes.read if notes.worth(handle) >= _NOTABLE]
    unmeasured = [handle for handle in notes.shown if handle not in notes.measured]
    tool, choice = ("logs", unread) if unread and notes.rng.random() < 0.85 else ("metrics", unmeasured)
    if not choice:
        tool, choice = ("logs", unread) if unread else ("metrics", unmeasured)
    if not choice or not notes.can(tool):
        return False
    ranked = sorted(choice, key=lambda handle: (-notes.worth(handle), list(notes.shown).index(handle)))
    handle = notes.rng.choice(ranked[:4]) if notes.rng.random() < _DEAD_END else ranked[0]
    notes.ask(tool, notes.worst.get(handle, (0.0, ""))[1], component=handle)
    return True


def _found(notes: _Notes, handle: str) -> bool:
    """Whether its own figures were looked at, and something on the pages speaks against it."""
    return handle in notes.measured and notes.worth(handle) >= _NOTABLE


def _done(notes: _Notes, culprits: Sequence[str]) -> bool:
    if culprits:
        return all(_found(notes, handle) and (handle in notes.read or not notes.can("logs")) for handle in culprits)
    left = any(notes.worth(handle) >= _NOTABLE and handle not in notes.measured for handle in notes.shown)
    return len(notes.measured) >= min(_LOOKS, len(notes.shown)) and not left
