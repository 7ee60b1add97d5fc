"""The best single-feature rule: how far does a reader get who looks at one number of the report and knows two faults?

    the component with the largest X is at fault: with A where X is above t, with B where it is not

Every feature X, every t and every pair of faults is tried, and the best is taken on the very episodes that it is then
scored on: nobody finds a better rule of this shape, so what it earns is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from chaosgym.incident import Incident
from chaosgym.incident.findings import Findings
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals
from chaosgym.truth import Truth

__all__ = ["Rule", "best_rule", "features"]

Table = Mapping[str, Mapping[str, float]]
"""Feature -> component -> value; a component that is not there has none."""
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A decision of depth one, with the share of broken episodes in which it names component and fault."""

    feature: str
    above: str
    """The fault named where the largest value is above the threshold."""
    threshold: float | None
    """None: `above` is named always."""
    below: str
    share: float
    episodes: int

    @property
    def sentence(self) -> str:
        """In words."""
        which = f"the component with the largest `{self.feature}` has {self.above}"
        return which if self.threshold is None else f"{which} where that is above {self.threshold:.3g}, else {self.below}"

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        return {**asdict(self), "sentence": self.sentence}


def best_rule(cases: Sequence[tuple[Incident, Truth]]) -> Rule | None:
    """The rule that names component and fault most often in the broken ones of `cases`; None without any."""
    broken = [(features(incident.findings), incident.components, truth) for incident, truth in cases if truth.causes]
    if not broken:
        return None
    labels = sorted({cause.fault for _, _, truth in broken for cause in truth.causes})
    found = (_fit(name, broken, labels) for name in sorted({name for table, _, _ in broken for name in table}))
    return max(found, key=lambda rule: rule.share, default=None)


def _fit(feature: str, broken: Sequence[tuple[Table, Sequence[str], Truth]], labels: Sequence[str]) -> Rule:
    """The best threshold and pair of faults for one feature."""
    picked = [_pick(table.get(feature, {}), components, truth) for table, components, truth in broken]
    value = np.array([top for top, _ in picked])
    earned = np.zeros((len(broken), len(labels)))
    for row, (_, credit), (_, _, truth) in zip(earned, picked, broken, strict=True):
        if credit:
            row[labels.index(truth.causes[0].fault)] = credit
    order = np.argsort(value, kind="stable")
    value, under = value[order], np.cumsum(earned[order], axis=0)
    total: _Floats = under[-1]
    cuts = np.flatnonzero(value[1:] > value[:-1])  # -inf (nowhere known) is below all
    scores = under[cuts].max(axis=1) + (total - under[cuts]).max(axis=1)
    if not len(cuts) or scores.max() <= total.max():
        best = labels[int(total.argmax())]
        return Rule(feature, best, None, best, float(total.max()) / len(broken), len(broken))
    cut = int(cuts[scores.argmax()])
    above, below = labels[int((total - under[cut]).argmax())], labels[int(under[cut].argmax())]
    low, high = float(value[cut]), float(value[cut + 1])
    threshold = high - 1e-9 if math.isinf(low) else (low + high) / 2
    return Rule(feature, above, threshold, below, float(scores.max()) / len(broken), len(broken))


def _pick(values: Mapping[str, float], components: Sequence[str], truth: Truth) -> tuple[float, float]:
    """The largest value, and the chance that a component drawn among those that have it is the culprit.

    One name cannot be all of several true causes, so such an episode earns nothing, as a shortcut's answer would.
    """
    known = {name: value for name in components if not math.isnan(value := values.get(name, math.nan))}
    top = max(known.values(), default=-math.inf)
    tied = [name for name, value in known.items() if value == top] or list(components)
    return top, (truth.causes[0].component in tied) / len(tied) if len(truth.causes) == 1 else 0.0


def features(findings: Findings) -> Table:
    """Everything in a report that is one number of a component."""
    table: dict[str, dict[str, float]] = {}
    for name, signals in findings.signals.components.items():
        for feature, value in (*_signals(signals), *_words(name, findings), *_lines(name, findings)):
            found = table.setdefault(feature, {})
            found[name] = max(value, found.get(name, -math.inf))
    return table


def _signals(signals: ComponentSignals) -> Iterator[tuple[str, float]]:
    """Growth and fall of every golden signal, and seconds of silence."""
    for field in fields(signals):
        value = getattr(signals, field.name)
        if isinstance(value, CallSignals):
            changes = {f"{field.name} {inner.name}": getattr(value, inner.name) for inner in fields(value)}
            for name, change in changes.items():
                if isinstance(change, Change):
                    yield from _change(name, change)
            yield from ((f"{field.name} failing by {kind}", share) for kind, share in value.kinds)
        elif isinstance(value, Change):
            yield from _change(field.name, value)
        elif isinstance(value, float):
            yield f"{field.name} seconds", value


def _change(name: str, change: Change) -> Iterator[tuple[str, float]]:
    yield f"{name} after", change.after
    yield f"growth of {name}", change.growth
    yield f"fall of {name}", -change.growth


def _words(name: str, findings: Findings) -> Iterator[tuple[str, float]]:
    """The words of the report: about the component, about calls to it, and about its calls."""
    rows = [("word", findings.rows.get(name, ()))]
    for (source, target), words in findings.edge_rows.items():
        rows += [("its calls:", words)] * (source == name) + [("calls to it:", words)] * (target == name)
    for where, words in rows:
        for word in words:
            column = word.rstrip("0123456789")
            yield f"{where} {column}", float(word[len(column) :] or 1)


def _lines(name: str, findings: Findings) -> Iterator[tuple[str, float]]:
    """New log lines by what they mean and how grave they are, events, and how early it was."""
    logs, events = findings.logs, [event for event in findings.events if event.component == name and event.seconds >= 0]
    counted: dict[str, float] = {"new lines": 0.0, "events": float(len(events))}
    for log in logs:
        more = float(max(log.after - log.before, 0))
        kinds = (f"lines of {log.severity}", f"lines that say {log.sign}", "new lines") if log.component == name else ()
        for kind in (*kinds, *((f"others' lines about it that say {log.sign}",) if log.peer == name else ())):
            counted[kind] = counted.get(kind, 0.0) + more
    for event in events:
        counted[f"{event.name} late"] = event.seconds
    yield from counted.items()
    if name in findings.onsets:
        yield "first anomaly early", -findings.onsets[name]
