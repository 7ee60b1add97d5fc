"""What an agent answers: a verdict and, where something is broken, ranked causes with evidence.

Parsing is lenient (the first JSON object in a text is read, synonyms of fault names are accepted),
scoring is strict: what cannot be read is an invalid diagnosis, not a guess.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chaosgym.taxonomy import normalise

__all__ = ["MAX_CAUSES", "Cause", "Diagnosis", "parse_diagnosis"]

MAX_CAUSES = 3


class Cause(BaseModel):
    """One suspect: which component, which fault type, how sure (0 to 1)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    component: str
    fault: str
    probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0


class Diagnosis(BaseModel):
    """A whole answer; `causes` is ordered by stated probability, ties by the order given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verdict: Literal["fault", "healthy"]
    causes: tuple[Cause, ...] = ()
    evidence: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Diagnosis:
        if self.verdict == "healthy" and self.causes:
            raise ValueError("a healthy verdict names no causes")
        if self.verdict == "fault" and not 1 <= len(self.causes) <= MAX_CAUSES:
            raise ValueError(f"a fault verdict names 1 to {MAX_CAUSES} causes, not {len(self.causes)}")
        return self

    def ranked(self) -> tuple[Cause, ...]:
        """The causes, most probable first; equal probabilities keep their order."""
        return tuple(sorted(self.causes, key=lambda cause: -cause.probability))

    def to_json(self) -> str:
        """The canonical text: compact separators, keys in the order of the model."""
        return json.dumps(self.model_dump(mode="json"), separators=(", ", ": "))


def _first_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, _ = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        return value if isinstance(value, dict) else None
    return None


def parse_diagnosis(text: str) -> Diagnosis | None:
    """Read the first JSON object in `text`; None where there is none or where it breaks the model.

    Fault names are normalised; an unknown fault name is kept as written and scores as wrong.
    """
    found = _first_object(text)
    if found is None:
        return None
    try:
        answer = Diagnosis.model_validate(found)
    except (ValidationError, RecursionError):
        return None
    causes = tuple(c.model_copy(update={"fault": normalise(c.fault) or c.fault}) for c in answer.causes)
    if any(math.isnan(c.probability) for c in causes):
        return None
    return answer.model_copy(update={"causes": causes})
