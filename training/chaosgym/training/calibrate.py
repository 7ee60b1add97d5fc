"""`chaosgym train calibrate`: find out how sure a model may be of the causes it names.

    kept-out episodes ──> answers, their log odds ──> right or not ──> slope and intercept, into the model's `chaosgym.json`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chaosgym.agents.certainty import Certainty, state
from chaosgym.agents.slm import SlmAgent
from chaosgym.errors import InputError
from chaosgym.evaluation.calibration import calibration_error
from chaosgym.evaluation.row import Row, make_row
from chaosgym.training.tasks import Source, Task, make_task, read_sources
from chaosgym.training.validation import divide

__all__ = ["Calibrated", "calibrate", "fit"]

_RENDERINGS = 3
"""Times that each episode is asked about, in other words."""
_FEWEST = 40
"""Answers that name a cause, below which two numbers cannot be told from them."""
_STEPS = 50


@dataclass(frozen=True)
class Calibrated:
    """What was found."""

    model: str
    answers: int
    """That name a cause: those which it was found from."""
    right: float
    """Share of them."""
    slope: float
    intercept: float
    error_before: float | None
    """Expected calibration error of all answers as the model writes them; see `calibration_error`."""
    error_after: float | None
    """Likewise, as it states them from now on. Of the same answers, so that others will show a little more."""


def calibrate(model: Path, episodes: Sequence[Path], validation: float = 0.15) -> Calibrated:
    """Ask `model`, a folder, about the share `validation` of `episodes` that training kept out, and save how sure it may be.

    Raises InputError where nothing was kept out, too few answers name a cause, or the model does not read reports.
    """
    if not model.is_dir():
        raise InputError(f"{model}: no such folder; calibrate a model that training wrote")
    agent = SlmAgent(model)
    if agent.format.task != "report":
        raise InputError(f"{model}: it investigates, and only what reads reports can be calibrated")
    _, kept = divide(read_sources(episodes), validation)
    tasks = [make_task(source, -2_000_000 - number, agent.format) for source in kept for number in range(_RENDERINGS)]
    weighed = agent.weigh([task.incident for task in tasks])
    written = [_row(task, answer) for task, (answer, _) in zip(tasks, weighed, strict=True)]
    named = [(odds, found[1]) for (_, odds), row in zip(weighed, written, strict=True) if row.named and (found := row.certainty)]
    if len(named) < _FEWEST:
        told = f"{len(named)} answers to {len(kept)} kept-out episodes name a cause, and {_FEWEST} are needed"
        raise InputError(f"{model}: {told}; record more, or keep more out of training")
    certainty = fit([odds for odds, _ in named], [right for _, right in named])
    stated = [_row(task, state(answer, certainty.probability(odds))) for task, (answer, odds) in zip(tasks, weighed, strict=True)]
    agent.format.model_copy(update={"certainty": certainty}).save(model)
    share = sum(right for _, right in named) / len(named)
    return Calibrated(
        str(model), len(named), share, certainty.slope, certainty.intercept, calibration_error(written), calibration_error(stated)
    )


def _row(task: Task, answer: str) -> Row:
    source: Source = task.source
    return make_row("slm", source.id, source.truth, task.incident.components, answer, 0.0)


def fit(odds: Sequence[float], right: Sequence[bool]) -> Certainty:
    """Logistic regression of `right` on `odds` by Newton's method, towards the targets of Platt (1999), section 2.2, so that it ends."""
    x = np.stack([np.asarray(odds, dtype=float), np.ones(len(odds))], axis=1)
    hits = sum(right)
    high, low = (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2)
    target = np.where(np.asarray(right), high, low)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-x @ weights))
        bend = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(bend, x.T @ (target - p))
        weights = weights + step * min(1.0, 2 / max(1e-12, float(np.abs(step).max())))
    if weights[0] < 0:  # surer where it is wrong: of no use
        weights = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    return Certainty(slope=round(float(weights[0]), 4), intercept=round(float(weights[1]), 4))
