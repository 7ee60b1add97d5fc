"""A Scenario: what to break in an App, when, among which harmless changes, and for which split.

Values that differ from episode to episode are `parameters`, drawn by seed and used as `${name}`; a
parameter whose choices are mappings is used by part, as `${name.part}`, so that values which belong
together (a caller and what it calls) are drawn together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from chaosgym.app import ApiVersion, Duration, Metadata, Name, Strict
from chaosgym.document import Problem, raise_problems
from chaosgym.errors import did_you_mean
from chaosgym.source import Loc
from chaosgym.taxonomy import FAULT_TYPES, normalise
from chaosgym.units import Number, Share, parse_duration, parse_size

__all__ = [
    "Choice",
    "Decoy",
    "FaultSpec",
    "LogUniform",
    "Parameter",
    "Reference",
    "Scenario",
    "ScenarioMetadata",
    "ScenarioSpec",
    "Split",
    "Timeline",
    "Uniform",
    "Workload",
    "bounds",
    "reference",
]

Split = Literal["train", "seeds", "apps", "faults", "backend", "foreign"]
Scalar = str | int | float | bool

_REFERENCE = re.compile(r"\$\{([a-z][a-z0-9-]{0,39})(?:\.([a-z][a-z0-9_-]{0,39}))?\}")


class ScenarioMetadata(Metadata):
    """What a scenario is called, and what it is for."""

    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """As its author sees it; evaluation reports it apart."""
    split: Split = "train"
    """What its episodes may be used for; training takes `train` alone."""
    tags: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    """To find it by."""


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


class Workload(Strict):
    """What users do to the app."""

    rate: Annotated[Number, Field(gt=0, le=500)] = 35.0
    """Requests a second at the edge (Poisson arrivals)."""


class Timeline(Strict):
    """How long each part lasts; the public windows are the last of baseline and of incident."""

    warmup: Annotated[Duration, Field(le=60)] = 0.3
    """Traffic that is recorded nowhere."""
    baseline: Annotated[Duration, Field(ge=0.2, le=600)] = 1.2
    """Nothing is broken."""
    incident: Annotated[Duration, Field(ge=0.2, le=600)] = 1.8
    """The fault is in force for all of it."""
    recovery: Annotated[Duration, Field(ge=0, le=600)] = 0.0
    """How long to go on watching after healing; only checks need it."""


def _known_fault(label: str) -> str:
    if label in FAULT_TYPES:
        return label
    synonym = normalise(label)
    hint = f" - did you mean '{synonym}'?" if synonym else did_you_mean(label, FAULT_TYPES)
    raise ValueError(f"unknown fault '{label}'; known: {', '.join(sorted(FAULT_TYPES))}{hint}")


class FaultSpec(Strict):
    """One thing that breaks."""

    fault: Annotated[str, AfterValidator(_known_fault), Field(json_schema_extra={"enum": sorted(FAULT_TYPES)})]
    """A fault type, as `chaosgym faults list` names them."""
    target: Annotated[str, Field(min_length=1, max_length=100)]
    """A component of the app, or `${parameter}`."""
    parameters: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Scalar] = {}
    """Of the fault, as `chaosgym faults show` lists them; values may be `${parameter}`."""


class Decoy(Strict):
    """A change that harms nothing, so that 'something changed' is not the answer."""

    kind: Literal["deploy", "config", "traffic"]
    """A rollout of a new version, a changed setting, or more or fewer users."""
    probability: Share = 0.5
    """How likely it is in an episode."""


class ScenarioSpec(Strict):
    """What happens."""

    app: Name
    """The app that is run, by its name."""
    sandboxes: Annotated[tuple[Literal["local", "docker", "kubernetes"], ...], Field(min_length=1)] = ("local",)
    """Where it can run."""
    workload: Workload = Workload()
    """What users do."""
    timeline: Timeline = Timeline()
    """How long each part lasts."""
    parameters: Annotated[dict[Name, Parameter], Field(max_length=50)] = {}
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
        raise_problems("Scenario", [Problem(("spec", *p.loc), p.message) for p in scenario_problems(self.spec)])
        return self


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
    unused = [name for name in spec.parameters if name not in used]
    return [
        *problems,
        *(Problem(("parameters", n), f"parameter '{n}' is not used; write ${{{n}}} where it belongs or remove it") for n in unused),
    ]


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
