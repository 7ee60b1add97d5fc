"""What the present reward makes of answers given in training: read, score anew, compare. Nothing is changed.

    rollouts.jsonl ──┐
    truths, names ───┴──> score ──> per term, then and now; who changed places within his group
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from chaosgym.envs.investigate import SPENDING_TERM, investigation_reward
from chaosgym.episode import list_episodes, read_header
from chaosgym.errors import InputError
from chaosgym.rewards import WEIGHTS, Score, score
from chaosgym.training.rollouts import ROLLOUT_FILE, Rollout, read_rollouts
from chaosgym.truth import Truth, read_truth

__all__ = ["Change", "Rescored", "rescore"]

TOTAL = "total"
_SAME = 1e-9
"""Rewards nearer than this are the same; sums of terms are rounded."""


@dataclass(frozen=True)
class Change:
    """The mean of a term over answers that both rewards score; None where one of them knows no such term."""

    term: str
    before: float | None
    now: float | None
    changed: int
    """Answers for which it is another now."""


@dataclass(frozen=True)
class Rescored:
    """What came of it."""

    run: str
    answers: int
    """Stored ones."""
    steps: int
    """That they are of."""
    missing: int
    """Whose episodes are no longer there; left out of everything below."""
    unscorable: int
    """That the one or the other reward does not score; left out of everything below."""
    groups: int
    """Of answers to one incident at one step."""
    moved: int
    """Answers with another rank in their group than before; equal rewards share a rank."""
    moved_groups: int
    """Groups that hold one."""
    changes: tuple[Change, ...]
    """The total first, then each term before its weight."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Pair:
    """One answer, scored twice."""

    rollout: Rollout
    now: Score

    @property
    def scored(self) -> bool:
        return self.rollout.reward is not None and self.now.total is not None

    @property
    def totals(self) -> tuple[float, float]:
        return self.rollout.reward or 0.0, self.now.total or 0.0


def rescore(run: Path, episodes: Sequence[Path] = ()) -> Rescored:
    """Score the stored answers of `run` again; its own `episodes` folders are read where none are given.

    Raises InputError when the run has no rollouts, or none of its episodes is there.
    """
    rollouts = list(read_rollouts(run / ROLLOUT_FILE))
    if not rollouts:
        raise InputError(f"{run / ROLLOUT_FILE}: empty; the run was stopped before its first step: go on with --resume")
    folders = list(episodes) or _folders(run)
    known = _truths(folders, {rollout.episode for rollout in rollouts})
    found = [_Pair(r, _score(r, *known[r.episode])) for r in rollouts if r.episode in known]
    if not found:
        where = ", ".join(map(str, folders))
        raise InputError(f"{where}: none of the episodes of {run} is there; name the folders that hold them with --episodes")
    pairs = [pair for pair in found if pair.scored]
    groups = _groups(pairs)
    moved = [_moved(group) for group in groups]
    return Rescored(
        str(run), len(rollouts), len({r.step for r in rollouts}), len(rollouts) - len(found), len(found) - len(pairs),
        len(groups), sum(moved), sum(map(bool, moved)), _changes(pairs),
    )


def _score(rollout: Rollout, truth: Truth, components: tuple[str, ...]) -> Score:
    """What the answer is worth now; of an investigation less what its questions cost."""
    now = score(rollout.answer, truth, components)
    if SPENDING_TERM not in rollout.terms or now.total is None:
        return now
    share = rollout.terms[SPENDING_TERM]
    return replace(now, total=investigation_reward(now, share), terms={**now.terms, SPENDING_TERM: share})


def _folders(run: Path) -> list[Path]:
    """The folders of episodes that the run was given."""
    path = run / "config.json"
    try:
        return [Path(folder) for folder in json.loads(path.read_text(encoding="utf-8"))["config"]["episodes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: does not tell the run's episodes ({error!r}); name their folders with --episodes") from error


def _truths(folders: Iterable[Path], wanted: set[str]) -> dict[str, tuple[Truth, tuple[str, ...]]]:
    """Truth and names of components by episode."""
    paths = (path for folder in folders for path in list_episodes(folder))
    return {
        path.name: (read_truth(path), tuple(component.name for component in read_header(path).components))
        for path in paths if path.name in wanted
    }


def _groups(pairs: Sequence[_Pair]) -> list[list[_Pair]]:
    """Answers to the same rendering of an episode at the same step."""
    found: defaultdict[tuple[int, str, int], list[_Pair]] = defaultdict(list)
    for pair in pairs:
        found[pair.rollout.step, pair.rollout.episode, pair.rollout.seed].append(pair)
    return list(found.values())


def _moved(group: Sequence[_Pair]) -> int:
    """How many of the group have another rank now."""
    before, now = (_ranks([pair.totals[which] for pair in group]) for which in (0, 1))
    return sum(a != b for a, b in zip(before, now, strict=True))


def _ranks(totals: Sequence[float]) -> list[int]:
    """How many are better, for each."""
    return [sum(other > total + _SAME for other in totals) for total in totals]


def _changes(pairs: Sequence[_Pair]) -> tuple[Change, ...]:
    """The total, the terms of the present reward, and those that it has no longer or that are an investigation's alone."""
    others = sorted({term for pair in pairs for term in pair.rollout.terms} - set(WEIGHTS))
    rows = [Change(TOTAL, *_compared([pair.totals for pair in pairs]))] if pairs else []
    for term in (*WEIGHTS, *others):
        both = [(pair.rollout.terms.get(term), pair.now.terms.get(term)) for pair in pairs]
        rows.append(Change(term, *_compared(both)))
    return tuple(rows)


def _compared(values: Sequence[tuple[float | None, float | None]]) -> tuple[float | None, float | None, int]:
    """Mean before, mean now, and how many differ; a term that only one of the two knows does not count as different."""
    before = [a for a, _ in values if a is not None]
    now = [b for _, b in values if b is not None]
    differ = sum(a is not None and b is not None and abs(a - b) > _SAME for a, b in values)
    return sum(before) / len(before) if before else None, sum(now) / len(now) if now else None, differ
