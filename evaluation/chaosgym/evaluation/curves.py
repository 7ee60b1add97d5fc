"""A Curve: what a training run logged, as series over its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from chaosgym.errors import InputError

__all__ = ["METRICS_FILE", "Curve", "read_curve"]

METRICS_FILE = "metrics.jsonl"


class Curve(NamedTuple):
    """One run."""

    name: str
    """As in `sft`."""
    series: dict[str, list[tuple[float, float]]]
    """Metric -> (step, value), in order of steps."""


def read_curve(path: Path | str, name: str = "") -> Curve:
    """Read a run directory, or its metrics.jsonl: a JSON object a line with `step` and numbers.

    A half-written last line, as a killed run leaves, is dropped. Raises InputError when the file cannot be read.
    """
    file = Path(path) / METRICS_FILE if Path(path).is_dir() else Path(path)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); pass a run directory of `chaosgym train`") from error
    points: dict[str, dict[float, float]] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            step = float(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise InputError(f"{file}:{number}: not an object with a step ({error}); pass a run directory of `chaosgym train`") from error
        for key, value in record.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(key, {})[step] = float(value)  # a resumed run logs some steps again: the last counts
    return Curve(name or file.parent.name, {key: sorted(of.items()) for key, of in points.items()})
