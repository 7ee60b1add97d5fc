"""Quantities as people write them in documents: durations (`250ms`) and sizes (`64MiB`)."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

__all__ = ["Count", "Duration", "Name", "Number", "Share", "Size", "as_duration", "as_size", "parse_duration", "parse_size", "within"]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LARGEST = 1e15
_PATTERN = r"(\d{1,15}(?:\.\d{1,15})?) ?(%s)"


def _parse(value: Any, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    """A non-negative finite quantity in base units; ValueError says how to write it."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= _LARGEST:
        return value
    match = re.fullmatch(_PATTERN % "|".join(units), value, re.ASCII) if isinstance(value, str) else None
    if match is None:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        raise ValueError(f"{shown} is not a {what}; write a number and one of {', '.join(units)}, as in '{example}'")
    return float(match[1]) * units[match[2]]


def parse_duration(value: Any) -> float:
    """Seconds from text such as `250ms` or `1.5s`; a plain number counts as seconds. ValueError otherwise."""
    return float(_parse(value, _SECONDS, "duration", "250ms"))


def parse_size(value: Any) -> int:
    """Bytes from text such as `256MiB`; a plain number counts as bytes. ValueError otherwise."""
    return round(_parse(value, _BYTES, "size", "256MiB"))


def as_duration(seconds: float) -> str:
    """Seconds as people write them: 0.25 -> `250ms`, 1.5 -> `1.5s`."""
    unit = next((unit for unit in ("s", "ms") if seconds >= _SECONDS[unit]), "us") if seconds else "s"
    return f"{seconds / _SECONDS[unit]:.4g}{unit}"


def as_size(size: float) -> str:
    """Bytes as people write them: 67108864 -> `64MiB`."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size >= _BYTES[unit]), "B")
    return f"{size / _BYTES[unit]:.4g}{unit}"


def _schema(units: dict[str, float] | dict[str, int], plain: str, number: str) -> WithJsonSchema:
    text = {"type": "string", "pattern": f"^{_PATTERN % '|'.join(units)}$".replace("\\d", "[0-9]")}
    return WithJsonSchema({"anyOf": [text, {"type": number, "minimum": 0, "maximum": _LARGEST}], "description": plain})


def within(low: float, high: float) -> AfterValidator:
    """Bounds of a duration, in seconds, with a message that says how a plain number is read."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(
                f"{value:g} s is out of range; from {low:g} s to {high:g} s (a plain number is seconds; write milliseconds as '250ms')"
            )
        return value

    return AfterValidator(check)


Duration = Annotated[
    float, BeforeValidator(parse_duration), _schema(_SECONDS, "A duration as in '250ms' (a plain number is seconds).", "number")
]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size), _schema(_BYTES, "A size as in '64MiB' (a plain number is bytes).", "number")]
"""Bytes."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
"""A role, an endpoint, a table: lower case, digits and '-'."""
Count = Annotated[int, Field(strict=True)]
"""A whole number; a text or a boolean is not taken for one."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number; a text or a boolean is not taken for one."""
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
"""0 to 1."""
