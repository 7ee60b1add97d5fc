"""Parameters: what differs from episode to episode, and the references `${name}` to it.

A parameter is drawn by seed from choices or from a range. One whose choices are mappings is used by
part, as `${name.part}`, so that values which belong together (a caller and what it calls) are drawn together.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import Discriminator, Field, Tag

from chaosgym.document import Strict
from chaosgym.units import Name, parse_duration, parse_size

__all__ = ["Bounds", "Choice", "LogUniform", "Parameter", "Reference", "Scalar", "Uniform", "bounds", "reference"]

Scalar = str | int | float | bool

_REFERENCE = re.compile(r"\$\{([a-z][a-z0-9-]{0,39})(?:\.([a-z][a-z0-9-]{0,39}))?\}")


class Choice(Strict):
    """One of `choice`, all equally likely."""

    choice: Annotated[tuple[Scalar | dict[Name, Scalar], ...], Field(min_length=1, max_length=200)]
    """Plain values, or mappings that all have the same keys."""


class Uniform(Strict):
    """Between two whole numbers (both included), two numbers, two durations or two sizes."""

    uniform: tuple[int | float | str, int | float | str]
    """Lowest and highest."""


class LogUniform(Strict):
    """As `uniform`, but every factor equally likely: as much between 10 and 20 as between 20 and 40."""

    loguniform: tuple[int | float | str, int | float | str]
    """Lowest (above zero) and highest."""


class Bounds(NamedTuple):
    """A range in base units (seconds, bytes or as written)."""

    low: float
    high: float
    whole: bool
    """Only whole numbers (counts and sizes)."""


def bounds(parameter: Uniform | LogUniform) -> Bounds:
    """Read the two ends of a range; ValueError when they are of different kinds or the wrong way round."""
    ends = parameter.uniform if isinstance(parameter, Uniform) else parameter.loguniform
    shown = f"[{ends[0]}, {ends[1]}]"
    low, high = (_quantity(end) for end in ends)
    if low[1] != high[1]:
        raise ValueError(f"{shown} mixes {low[1]} and {high[1]}; write both ends alike, as in [60ms, 250ms]")
    if not low[0] < high[0]:
        raise ValueError(f"{shown} is empty; write the lower end first")
    if isinstance(parameter, LogUniform) and low[0] <= 0:
        raise ValueError(f"{shown} begins at {ends[0]}; the lower end of loguniform is above zero")
    return Bounds(float(low[0]), float(high[0]), low[1] in ("whole numbers", "sizes"))


def _quantity(value: float | str) -> tuple[float, str]:
    """(value in base units, the kind of quantity)."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number, a duration or a size")
    if isinstance(value, int | float):
        if not abs(value) <= 1e15:
            raise ValueError(f"{value} is out of range; at most 1e15")
        return value, "whole numbers" if isinstance(value, int) else "numbers"
    for parse, kind in ((parse_duration, "durations"), (parse_size, "sizes")):
        try:
            return parse(value), kind
        except ValueError:
            continue
    raise ValueError(f"{value!r:.60} is not a number, a duration (as in '250ms') or a size (as in '64MiB')")


def _parameter_tag(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"<{kind}>" for kind in ("choice", "uniform", "loguniform") if kind in value), None)
    kinds = {Choice: "<choice>", Uniform: "<uniform>", LogUniform: "<loguniform>"}
    return kinds.get(type(value))


Parameter = Annotated[
    Annotated[Choice, Tag("<choice>")] | Annotated[Uniform, Tag("<uniform>")] | Annotated[LogUniform, Tag("<loguniform>")],
    Discriminator(
        _parameter_tag,
        custom_error_type="union_tag_parameter",
        custom_error_message="a parameter has one of the keys choice, uniform, loguniform",
    ),
]


class Reference(NamedTuple):
    """`${parameter}` or `${parameter.part}`."""

    parameter: str
    part: str | None


def reference(value: Any) -> Reference | None:
    """The reference that a value is, or None for a plain value; ValueError for a broken one."""
    if not isinstance(value, str) or "$" not in value:
        return None
    match = _REFERENCE.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r:.60} is not a reference; write '${{name}}' or '${{name.part}}' alone, without other text")
    return Reference(match[1], match[2])
