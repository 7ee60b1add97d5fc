"""The truth of an episode: what was broken, where and when. Nothing on the agent's side imports this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chaosgym.episode import TRUTH_FILE, read_json
from chaosgym.errors import did_you_mean
from chaosgym.taxonomy import fault_types, find

__all__ = ["DecoyTruth", "TrueCause", "Truth", "read_truth"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TrueCause(_Frozen):
    """One fault as it was applied."""

    component: str
    """Public name of the component, as in the telemetry."""
    fault: str
    """A label of the taxonomy."""
    parameters: dict[str, Any] = {}
    """As drawn."""

    @field_validator("fault")
    @classmethod
    def _known(cls, label: str) -> str:
        if find(label) is None:
            known = fault_types()
            own = "one of your own has to be installed, or named as in `chaosgym --faults FILE.py ...`"
            raise ValueError(f"unknown fault {label!r}{did_you_mean(label, known)}; {own}; known: {', '.join(known)}")
        return label


class DecoyTruth(_Frozen):
    """Something harmless that happened beside the fault."""

    kind: Literal["deploy", "config", "traffic", "neighbour", "old_error"]
    component: str
    """Public name."""
    parameters: dict[str, Any] = {}


class Truth(_Frozen):
    """Everything that an agent must find out, and what is known besides."""

    scenario: str
    """Name of the scenario."""
    app: str
    split: Literal["train", "seeds", "apps", "faults", "backend", "foreign"] = "train"
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    verdict: Literal["fault", "healthy"]
    causes: tuple[TrueCause, ...] = Field(default=(), max_length=3)
    chain: tuple[str, ...] = ()
    """Public names along which the failure spreads, from the (first) cause to the entry."""
    decoys: tuple[DecoyTruth, ...] = ()
    injected_unix_nano: int | None = None
    """When the fault was in force; None when healthy or when it never was."""
    healed_unix_nano: int | None = None
    visible: bool | None = None
    """False: no symptom reached the telemetry, so nobody is trained or scored on it. None: not judged."""
    symptoms_seen: tuple[str, ...] = ()
    """Which of the fault's symptoms were found, as `where/signal/direction`."""

    @model_validator(mode="after")
    def _agree(self) -> Truth:
        if (self.verdict == "fault") != bool(self.causes):
            raise ValueError(f"verdict {self.verdict!r} with {len(self.causes)} causes: a fault has at least one, healthy has none")
        return self


def read_truth(episode: Path | str) -> Truth:
    """Read `truth.json` of an episode's folder; InputError when it is missing or broken."""
    return read_json(Path(episode) / TRUTH_FILE, Truth)
