"""A Scenario: what to break in an App, when, among which harmless changes, and for which split.

Values that differ from episode to episode are `parameters`, drawn by seed and used as `${name}`
(`chaosgym.parameter`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from chaosgym.app import ApiVersion, Metadata, Strict
from chaosgym.document import Problem, raise_problems
from chaosgym.errors import did_you_mean
from chaosgym.parameter import Choice, LogUniform, Parameter, Reference, Scalar, Uniform, bounds, reference
from chaosgym.source import Loc
from chaosgym.taxonomy import FAULT_TYPES, fault_types, find, normalise
from chaosgym.units import Duration, Name, Number, Share, within

__all__ = [
    "Choice",
    "Decoy",
    "FaultSpec",
    "Intermittent",
    "LogUniform",
    "Scenario",
    "ScenarioMetadata",
    "ScenarioSpec",
    "Split",
    "Timeline",
    "Uniform",
    "Workload",
]

Split = Literal["train", "seeds", "apps", "faults", "backend", "foreign"]


class ScenarioMetadata(Metadata):
    """What a scenario is called, and what it is for."""

    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """As its author sees it; evaluation reports it apart."""
    split: Split = "train"
    """What its episodes may be used for; training takes `train` alone."""
    tags: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    """To find it by."""


class Workload(Strict):
    """What users do to the app."""

    rate: Annotated[Number, Field(gt=0, le=500)] = 20.0
    """Requests a second at the edge (Poisson arrivals)."""


class Timeline(Strict):
    """How long each part lasts; the public windows are the last of baseline and of incident."""

    warmup: Annotated[Duration, within(0, 60)] = 0.3
    """Traffic that is recorded nowhere."""
    baseline: Annotated[Duration, within(0.2, 600)] = 1.2
    """Nothing is broken."""
    incident: Annotated[Duration, within(0.2, 600)] = 1.8
    """The fault is in force for all of it."""
    recovery: Annotated[Duration, Field(ge=0, le=600)] = 0.0
    """How long to go on watching after healing; only checks need it."""


def _known_fault(label: str) -> str:
    if find(label) is not None:
        return label
    known, synonym = fault_types(), normalise(label)
    hint = f" - did you mean '{synonym}'?" if synonym else did_you_mean(label, known)
    raise ValueError(f"unknown fault '{label}'; known: {', '.join(sorted(known))}{hint}")


class Intermittent(Strict):
    """How a fault comes and goes."""

    lasts: Annotated[Duration, within(0.05, 60)] = 0.5
    """How long it is in force."""
    rests: Annotated[Duration, within(0.05, 60)] = 0.3
    """How long it is not, before it comes again."""


class FaultSpec(Strict):
    """One thing that breaks."""

    fault: Annotated[str, AfterValidator(_known_fault), WithJsonSchema({"type": "string", "enum": sorted(FAULT_TYPES)})]
    """A fault type, as `chaosgym faults list` names them."""
    target: Annotated[str, Field(min_length=1, max_length=100)]
    """A component of the app, or `${parameter}`."""
    parameters: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Scalar] = Field(default={}, max_length=20)
    """Of the fault, as `chaosgym faults show` lists them; values may be `${parameter}`."""
    role: Literal["cause", "consequence"] = "cause"
    """A consequence happens as well, because of a cause: the truth names causes alone."""
    after: Annotated[Duration, within(0, 60)] = 0.0
    """How long after the fault before it in the list."""
    intermittent: Intermittent | None = None
    """When it comes and goes instead of staying."""


class Decoy(Strict):
    """Something that harms nothing, so that 'something changed' or 'something is odd' is not the answer."""

    kind: Literal["deploy", "config", "traffic", "neighbour", "old_error"]
    """A rollout of a new version, a changed setting, more or fewer users, a noisy neighbour on the machine for a moment,
    or an error that was there before: a client that has asked for what is not there all along."""
    probability: Share = 0.5
    """How likely it is in an episode."""


class ScenarioSpec(Strict):
    """What happens."""

    app: Name
    """The app that is run, by its name."""
    sandboxes: Annotated[tuple[Literal["local", "docker", "kubernetes"], ...], Field(min_length=1)] | None = None
    """Where it may run; wherever its faults can be done by default."""
    workload: Workload = Workload()
    """What users do."""
    timeline: Timeline = Timeline()
    """How long each part lasts."""
    parameters: dict[Name, Parameter] = Field(default={}, max_length=50)
    """What is drawn by seed."""
    faults: Annotated[tuple[FaultSpec, ...], Field(max_length=3)] = ()
    """What breaks; none is the healthy scenario."""
    decoys: Annotated[tuple[Decoy, ...], Field(max_length=10)] = ()
    """Harmless changes, each drawn on its own."""
    show: Annotated[tuple[Literal["logs", "metrics", "traces", "events"], ...], Field(min_length=1)] = (
        "logs",
        "metrics",
        "traces",
        "events",
    )
    """Which signals the incident report is made from."""


class Scenario(Strict):
    """A file of kind Scenario."""

    api_version: Annotated[ApiVersion, Field(alias="apiVersion")]
    """The version of this schema."""
    kind: Literal["Scenario"]
    """`Scenario`."""
    metadata: ScenarioMetadata
    """What it is called, and what it is for."""
    spec: ScenarioSpec
    """What happens."""

    @model_validator(mode="after")
    def _whole(self) -> Scenario:
        raise_problems("Scenario", [Problem(("spec", *p.loc), p.message, p.key) for p in scenario_problems(self.spec)])
        return self


def scenario_problems(spec: ScenarioSpec) -> list[Problem]:
    """Everything wrong between the fields of a scenario; locations are relative to `spec`."""
    problems = [*_parameter_problems(spec)]
    used: set[str] = set()
    for loc, value in _values(spec):
        try:
            ref = reference(value)
        except ValueError as error:
            problems.append(Problem(loc, str(error)))
            continue
        if ref is not None:
            used.add(ref.parameter)
            problems += [Problem(loc, message) for message in _reference_problems(spec, ref)]
    for name in spec.parameters:
        if name not in used:
            message = f"parameter '{name}' is not used; write ${{{name}}} where it belongs or remove it"
            problems.append(Problem(("parameters", name), message, key=True))
    return problems


def _values(spec: ScenarioSpec) -> Iterator[tuple[Loc, Any]]:
    """Every value that may be a reference, with its location."""
    for index, fault in enumerate(spec.faults):
        yield ("faults", index, "target"), fault.target
        for name, value in fault.parameters.items():
            yield ("faults", index, "parameters", name), value


def _reference_problems(spec: ScenarioSpec, ref: Reference) -> Iterator[str]:
    parameter = spec.parameters.get(ref.parameter)
    if parameter is None:
        known = ", ".join(spec.parameters) or "none"
        yield f"parameter '{ref.parameter}' is not defined; defined: {known}{did_you_mean(ref.parameter, spec.parameters)}"
        return
    first = parameter.choice[0] if isinstance(parameter, Choice) else None
    parts = list(first) if isinstance(first, dict) else []
    if ref.part is None and parts:
        yield f"parameter '{ref.parameter}' has parts; write ${{{ref.parameter}.{parts[0]}}}"
    elif ref.part is not None and ref.part not in parts:
        yield f"parameter '{ref.parameter}' has no part '{ref.part}'; it has {', '.join(parts) or 'none'}{did_you_mean(ref.part, parts)}"


def _parameter_problems(spec: ScenarioSpec) -> Iterator[Problem]:
    for name, parameter in spec.parameters.items():
        loc = ("parameters", name)
        if isinstance(parameter, Choice):
            shapes = [tuple(sorted(c)) if isinstance(c, dict) else None for c in parameter.choice]
            for index, shape in enumerate(shapes):
                if shape != shapes[0] or shape == ():
                    message = "choices are either plain values or mappings that all have the same keys"
                    yield Problem((*loc, "choice", index), message)
            continue
        try:
            bounds(parameter)
        except ValueError as error:
            yield Problem((*loc, "uniform" if isinstance(parameter, Uniform) else "loguniform"), str(error))
