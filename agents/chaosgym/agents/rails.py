"""Agents that know nothing: what they score is luck and priors, and any agent must be above them."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from chaosgym.agents.answers import ALL_WELL, blame
from chaosgym.diagnosis import Diagnosis
from chaosgym.taxonomy import FAULT_TYPES, HEALTHY

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["MajorityAgent", "NullAgent", "RandomAgent"]

def _draw(seed: int, incident: Incident) -> random.Random:
    """The same numbers for the same incident, whatever came before it."""
    return random.Random(f"{seed}:{zlib.crc32(incident.readable.encode())}")


class NullAgent:
    """Says that nothing is wrong, always."""

    name = "null"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One healthy verdict per incident."""
        return [ALL_WELL] * len(incidents)


class RandomAgent:
    """Draws a verdict, a component and a fault, each label as likely as the next."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One draw per incident, the same for the same incident and seed."""
        return [self._answer(incident, _draw(self._seed, incident)) for incident in incidents]

    def _answer(self, incident: Incident, draw: random.Random) -> str:
        label = draw.choice((HEALTHY, *FAULT_TYPES))
        if label == HEALTHY or not incident.components:
            return ALL_WELL
        return blame((draw.choice(incident.components), label, 1 / len(incident.components) / len(FAULT_TYPES)))


class MajorityAgent:
    """Says what was most often right among the answers it was given: a label, on components of the kind most often at fault.

    Names are drawn anew for each episode, so a kind is all that carries over. Ties go to the first in the alphabet.
    Without answers it says that all is well.
    """

    name = "majority"

    def __init__(self, right: Iterable[tuple[Incident, Diagnosis]] = (), seed: int = 0) -> None:
        pairs = [(self._label(answer), self._kind(incident, answer)) for incident, answer in right]
        counts = Counter(label for label, _ in pairs)
        self.label = min(counts, key=lambda label: (-counts[label], label)) if counts else HEALTHY
        """The most frequent label, `healthy` included."""
        kinds = Counter(kind for label, kind in pairs if label == self.label)
        self.kind = min(kinds, key=lambda kind: (-kinds[kind], kind)) if kinds else ""
        """The kind of component that this label was most often found at."""
        self._share = counts[self.label] / len(pairs) if pairs else 1.0
        self._seed = seed

    @staticmethod
    def _label(answer: Diagnosis) -> str:
        return answer.ranked()[0].fault if answer.causes else HEALTHY

    @staticmethod
    def _kind(incident: Incident, answer: Diagnosis) -> str:
        found = incident.findings.signals.components.get(answer.ranked()[0].component) if answer.causes else None
        return found.kind if found else ""

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """The same label for each, at a component of the kind, drawn where there are several."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        kinds = incident.findings.signals.components
        fitting = [name for name in incident.components if name in kinds and kinds[name].kind == self.kind] or list(incident.components)
        if self.label == HEALTHY or not fitting:
            return ALL_WELL
        return blame((_draw(self._seed, incident).choice(fitting), self.label, self._share / len(fitting)))
