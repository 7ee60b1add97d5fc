"""What a gate says of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Of one gate on one scenario (or on all of them together)."""

    scenario: str
    """Its name; `*` for all that were tried together."""
    gate: str
    passed: bool | None
    """None: the gate does not apply, as `heals` to a scenario in which nothing breaks, or there was too little to judge by."""
    evidence: str
    """The figures that decided."""
    advice: str = ""
    """What to change; empty when it passed."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """The figures by name, for tables: shares from 0 to 1."""
