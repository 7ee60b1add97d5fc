"""How the agents that compute put their answer into words."""

from __future__ import annotations

from chaosgym.diagnosis import Cause, Diagnosis

__all__ = ["ALL_WELL", "blame"]

ALL_WELL = Diagnosis(verdict="healthy").to_json()
"""The answer that nothing is broken."""


def blame(*causes: tuple[str, str, float], evidence: tuple[str, ...] = ()) -> str:
    """The answer that names `causes`, each a component, a fault and a probability."""
    stated = tuple(Cause(component=name, fault=fault, probability=round(min(max(p, 0.0), 1.0), 3)) for name, fault, p in causes)
    return Diagnosis(verdict="fault", causes=stated, evidence=evidence).to_json()
