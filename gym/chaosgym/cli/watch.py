"""What a training run says of itself in metrics.jsonl, as a picture that fits a terminal.

    metrics.jsonl, config.json, summary.json ──> Progress ──> a line on steps and time, a sparkline per key figure
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chaosgym.errors import InputError

__all__ = ["Progress", "frame", "read_progress", "sparkline", "watch"]

FIGURES: tuple[tuple[str, str], ...] = (
    ("loss", "loss"),
    ("mean_token_accuracy", "token accuracy"),
    ("reward", "reward"),
    ("term/component", "component, sampled"),
    ("term/fault", "fault, sampled"),
    ("validation/accuracy", "kept out: both right"),
    ("validation/component", "kept out: component"),
    ("validation/fault", "kept out: fault"),
    *((f"accuracy/{split}", f"{split}: both right") for split in ("seeds", "apps", "faults", "backend", "foreign")),
    ("curriculum/success", "expected success"),
    ("zero_variance/share", "groups all alike"),
    ("zero_variance/replaced", "of them replaced"),
    ("entropy", "entropy"),
    ("kl", "KL to the start"),
    ("explained_variance", "explained variance"),
    ("tokens_per_second", "tokens/s"),
)
"""Metric and what it is called; a run shows those that it has."""
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_PACE = 5
"""Logged lines back from which the pace is taken."""
_EVERY = 2.0
"""Seconds between two frames."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, and the course of each figure."""

    run: str
    command: str
    step: int
    of: int
    seconds: float
    """Since the loop began, or was resumed."""
    left: float | None
    """Seconds until the last step or the time limit, whichever is sooner; None before there is a pace."""
    ended: bool
    courses: dict[str, list[float]]
    """Metric -> its values in order of steps."""

    def to_json(self) -> dict[str, Any]:
        """The latest values."""
        latest = {name: values[-1] for name, values in self.courses.items()}
        return {
            "run": self.run, "command": self.command, "step": self.step, "of": self.of, "seconds": self.seconds,
            "left_seconds": self.left, "ended": self.ended, "latest": latest,
        }


def read_progress(run: Path) -> Progress:
    """Read a run directory. Raises InputError when it is none, or a line but the last is broken."""
    from chaosgym.evaluation.curves import read_curve

    series = read_curve(run / "metrics.jsonl").series
    begun = _document(run / "config.json")
    config = begun.get("config", {})
    timed, said = series.get("seconds", []), series.get("of", [])
    of = int(said[-1][1]) if said else config.get("steps", 0)
    ended = (run / "summary.json").is_file()
    left = 0.0 if ended else _left(timed, of, config.get("minutes"))
    courses = {name: [value for _, value in points] for name, points in series.items() if name not in ("of", "seconds")}
    step = max((int(points[-1][0]) for points in series.values()), default=0)
    return Progress(str(run), begun.get("command", ""), step, of, timed[-1][1] if timed else 0.0, left, ended, courses)


def _document(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore it, or begin the run anew") from error


def _left(timed: Sequence[tuple[float, float]], of: int, minutes: float | None) -> float | None:
    """By the pace of the last (step, seconds), and by the time limit."""
    if not timed:
        return None
    step, seconds = timed[-1]
    ends = [minutes * 60 - seconds] if minutes else []
    resumed = max((i + 1 for i, (a, b) in enumerate(pairwise(timed)) if b[1] < a[1]), default=0)  # it counts seconds anew
    before = timed[max(resumed, len(timed) - _PACE)]
    if before[0] < step:
        ends.append((seconds - before[1]) / (step - before[0]) * (of - step))
    return round(max(0.0, min(ends)), 1) if ends else None


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """`values` from the lowest to the highest bar, at most `width` of them; longer courses show the mean of each stretch."""
    count = min(width, len(values))
    cuts = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return _BARS[len(_BARS) // 2] * count
    return "".join(_BARS[min(len(_BARS) - 1, int((mean - low) / (high - low) * len(_BARS)))] for mean in means)


def frame(progress: Progress) -> str:
    """One picture, in plain text."""
    shown = [(name, progress.courses[key]) for key, name in FIGURES if key in progress.courses]
    rows = [(name, f"{values[-1]:.4g}", f"{min(values):.4g} to {max(values):.4g}", sparkline(values)) for name, values in shown]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    body = [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:{widths[2]}}  {bars}" for a, b, c, bars in rows]
    return "\n".join([_headline(progress), *body])


def _headline(progress: Progress) -> str:
    left = "waiting for a second line of metrics" if progress.left is None else f"{_clock(progress.left)} left"
    when = "ended" if progress.ended else left
    return f"{progress.command or 'run'} {progress.run}: step {progress.step} of {progress.of}, {_clock(progress.seconds)}, {when}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def watch(run: Path) -> None:
    """Show frames until the run has ended or the user has; on anything but a terminal, one."""
    progress = read_progress(run)
    if not sys.stdout.isatty():
        print(frame(progress))
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text(frame(progress)), auto_refresh=False) as live:
        while not progress.ended:
            time.sleep(_EVERY)
            progress = read_progress(run)
            live.update(Text(frame(progress)), refresh=True)
