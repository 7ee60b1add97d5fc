"""How sure a model is of the cause it names: the probability that it gave to its own words, put on the scale of being right.

    log odds of the words up to the first stated probability ──slope, intercept──> what is stated in its place

The number that a small model writes is a word like any other, and training shows it one such word; how likely it found its words
tells right answers from wrong ones. `chaosgym train calibrate` finds slope and intercept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from chaosgym.diagnosis import parse_diagnosis

__all__ = ["STATED", "Certainty", "log_odds", "state"]

STATED = '"probability"'
"""What comes before it is the answer, what follows says how sure."""
_SUREST = 1e-6
"""Farthest from 0 and 1 that odds are made of."""


class Certainty(BaseModel):
    """The probability of being right is 1 / (1 + exp(-(slope * log odds + intercept))), as in Platt (1999)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slope: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    intercept: Annotated[float, Field(allow_inf_nan=False)]

    def probability(self, odds: float) -> float:
        """Of an answer with these log odds, from 0 to 1."""
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.slope * odds + self.intercept))))


def log_odds(logs: Sequence[float]) -> float:
    """Of words with these natural logarithms of probabilities, all of them together."""
    likely = min(1 - _SUREST, max(_SUREST, math.exp(sum(logs))))
    return math.log(likely / (1 - likely))


def state(answer: str, probability: float) -> str:
    """The answer with `probability` stated for its first cause, and for those after it no more; as it is without a cause."""
    found = parse_diagnosis(answer)
    if found is None or not found.causes:
        return answer
    said = round(probability, 3)
    first, *others = found.ranked()
    causes = [first.model_copy(update={"probability": said})]
    causes += [cause.model_copy(update={"probability": min(said, cause.probability)}) for cause in others]
    return found.model_copy(update={"causes": tuple(causes)}).to_json()
