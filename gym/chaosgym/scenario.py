"""A Scenario: what to break in an App, when, among which harmless changes, and for which split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from chaosgym.app import Duration, Metadata, Name, Strict

__all__ = ["Choice", "Decoy", "FaultSpec", "LogUniform", "Scenario", "ScenarioSpec", "Timeline", "Uniform", "Workload"]

Split = Literal["train", "seeds", "apps", "faults", "backend", "foreign"]


class ScenarioMetadata(Metadata):
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    split: Split = "train"
    tags: tuple[str, ...] = ()


class Choice(Strict):
    """One of `choice`, all equally likely."""

    choice: tuple[Any, ...] = Field(min_length=1)


class Uniform(Strict):
    """Between two numbers, or two durations."""

    uniform: tuple[Any, Any]


class LogUniform(Strict):
    """As `uniform`, but every factor equally likely."""

    loguniform: tuple[Any, Any]


class Workload(Strict):
    rate: Annotated[float, Field(gt=0, le=500)] = 35.0
    """Requests a second at the edge (Poisson arrivals)."""


class Timeline(Strict):
    """Seconds of each part; the public windows are the last of baseline and of incident."""

    warmup: Duration = 0.3
    baseline: Duration = 1.2
    incident: Duration = 1.8


class FaultSpec(Strict):
    fault: str
    """A fault type, as `chaosgym faults list` names them."""
    target: str
    """A component, or `${parameter}`."""
    parameters: dict[str, Any] = {}
    """Of the fault; values may be `${parameter}`."""


class Decoy(Strict):
    """A change that harms nothing, so that 'something changed' is not the answer."""

    kind: Literal["deploy", "config", "traffic"]
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5


class ScenarioSpec(Strict):
    app: Name
    sandboxes: tuple[Literal["local", "docker", "kubernetes"], ...] = ("local",)
    workload: Workload = Workload()
    timeline: Timeline = Timeline()
    parameters: dict[Name, Choice | Uniform | LogUniform] = {}
    faults: tuple[FaultSpec, ...] = Field(default=(), max_length=3)
    """Empty: the healthy scenario."""
    decoys: tuple[Decoy, ...] = ()
    show: tuple[Literal["logs", "metrics", "traces", "events"], ...] = ("logs", "metrics", "traces", "events")


class Scenario(Strict):
    """A file of kind Scenario."""

    api_version: Annotated[Literal["chaosgym.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Scenario"]
    metadata: ScenarioMetadata
    spec: ScenarioSpec
