"""A Sweep: one numeric parameter of a scenario at its low end, in the middle and at its high end; the others stay in their middle.

All doses of a sweep have one seed, so that names, target, decoys and moments are the same and the dose alone differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chaosgym.app import App
from chaosgym.parameter import Choice, LogUniform, Parameter, Uniform, bounds, reference
from chaosgym.recording.record import Task
from chaosgym.scenario import Scenario

__all__ = ["Dose", "Sweep", "doses", "plan_sweeps"]


@dataclass(frozen=True)
class Dose:
    """One value of the parameter, in base units, and the episode that is recorded with it."""

    value: float
    task: Task


@dataclass(frozen=True)
class Sweep:
    """See the module docstring."""

    parameter: str
    faults: tuple[int, ...]
    """Places of the faults that use the parameter: theirs are the symptoms that it may move."""
    doses: tuple[Dose, ...]
    """From low to high; two where a range of whole numbers has no middle."""


def plan_sweeps(scenario: Scenario, app: App, seed: int) -> tuple[Sweep, ...]:
    """One sweep for each numeric parameter that a fault uses."""
    numeric = {name: doses(p) for name, p in scenario.spec.parameters.items() if not isinstance(p, Choice)}
    sweeps: list[Sweep] = []
    for name, values in numeric.items():
        users = _users(scenario, name)
        if users:
            middle = {other: doses(scenario.spec.parameters[other])[1] for other in numeric}
            found = tuple(Dose(value, Task(_pinned(scenario, {**middle, name: value}), app, seed)) for value in dict.fromkeys(values))
            sweeps.append(Sweep(name, users, found))
    return tuple(sweeps)


def doses(parameter: Parameter) -> tuple[float, float, float]:
    """Low end, middle and high end of a range; the middle of `loguniform` is the geometric mean."""
    if isinstance(parameter, Choice):
        raise ValueError("a choice has no ends")
    low, high, whole = bounds(parameter)
    middle = (low + high) / 2 if isinstance(parameter, Uniform) else math.sqrt(low * high)
    return (round(low), round(middle), round(high)) if whole else (low, float(f"{middle:.4g}"), high)


def _users(scenario: Scenario, name: str) -> tuple[int, ...]:
    faults = enumerate(scenario.spec.faults)
    return tuple(i for i, f in faults if any((ref := reference(v)) is not None and ref.parameter == name for v in f.parameters.values()))


def _pinned(scenario: Scenario, values: dict[str, float]) -> Scenario:
    """The scenario with one possible value for each of these parameters. Every parameter draws from a stream of its own."""
    parameters: dict[str, Choice | Uniform | LogUniform] = dict(scenario.spec.parameters)
    parameters |= {name: Choice(choice=(value,)) for name, value in values.items()}
    return scenario.model_copy(update={"spec": scenario.spec.model_copy(update={"parameters": parameters})})
