"""The oracle: knows the truth, so it must score 1. The only agent that may look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.errors import InputError
from chaosgym.truth import Truth

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["OracleAgent", "right_answer"]


def right_answer(truth: Truth) -> Diagnosis:
    """The diagnosis that says exactly what was done; evidence names the way from the cause to the entry."""
    causes = tuple(Cause(component=cause.component, fault=cause.fault) for cause in truth.causes)
    return Diagnosis(verdict=truth.verdict, causes=causes, evidence=truth.chain if causes else ())


class OracleAgent:
    """Answers from the truths handed over beside the incidents, which it tells apart by their text."""

    name = "oracle"

    def __init__(self, known: Iterable[tuple[Incident, Truth]]) -> None:
        self._answers = {incident.readable: right_answer(truth).to_json() for incident, truth in known}

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """The right answers. Raises InputError for an incident whose truth it was not given."""
        try:
            return [self._answers[incident.readable] for incident in incidents]
        except KeyError as error:
            raise InputError("the oracle was not given the truth of this incident: pass it (incident, truth) of all of them") from error
