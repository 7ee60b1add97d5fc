"""The gate *calibrated*: a fault is seen over the whole range of its dose, and more of it does not do less.

A fault does not say in which direction its parameter is "more" (spare file descriptors heal, delay hurts), so the data
say it: the ends of the range give the direction, and the middle must lie between them.

    Swept ──> _unseen: at which doses no symptom tells the run from its twin
          └─> _turn:   of the symptom that the dose moves most, is the middle beyond both ends?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chaosgym.faults import make_fault
from chaosgym.gates.samples import Values, shift_probability, symptom_samples
from chaosgym.gates.trial import Observed, Swept
from chaosgym.gates.verdict import Verdict
from chaosgym.gates.visible import shown_symptoms, symptom_key

__all__ = ["judge_calibrated"]

_SIGNIFICANT = 0.025
"""Two questions are asked of the middle (above both ends? below both?), so half of 5 % for each (Bonferroni)."""
_MATERIAL = 0.2
"""Share of the effect by which the middle must be beyond an end: a permutation test of one pair of runs knows nothing of
what differs between any two runs."""
_FEW = 4
"""Fewer values than this are no series."""


@dataclass(frozen=True)
class _Curve:
    """What one symptom did at each dose."""

    key: str
    values: tuple[Values, ...]
    """Means of tenths of a second, by dose."""
    calm: float
    """The mean of the twin."""

    @property
    def means(self) -> list[float]:
        return [float(values.mean()) for values in self.values]

    @property
    def pull(self) -> float:
        """How far the ends are apart, in standard errors (Welch 1947)."""
        low, high = self.values[0], self.values[-1]
        error = math.sqrt(low.var() / len(low) + high.var() / len(high))
        apart = abs(float(high.mean() - low.mean()))
        return apart / error if error else math.inf if apart else 0.0


@dataclass(frozen=True)
class _Found:
    """What is to be said of one parameter."""

    said: str
    advice: str = ""
    """Empty when it is calibrated."""
    spoiled: bool = False


def judge_calibrated(name: str, swept: Sequence[Swept], twin: Observed | None) -> Verdict:
    """At low, middle and high dose; `twin` is the run of the same seed in which nothing was broken."""
    if not swept:
        return Verdict(name, "calibrated", None, "no fault has a numeric parameter that is drawn")
    if twin is None:
        return Verdict(name, "calibrated", None, "the run without the fault was spoiled, so that no dose can be told from it")
    found = [_judge(each, twin) for each in swept]
    evidence, advice = "; ".join(f.said for f in found), "; ".join(f.advice for f in found if f.advice)
    passed = False if advice else None if any(f.spoiled for f in found) else True
    return Verdict(name, "calibrated", passed, evidence, advice, {"calibrated": sum(not f.advice for f in found) / len(found)})


def _judge(swept: Swept, twin: Observed) -> _Found:
    name, doses = swept.sweep.parameter, [dose.value for dose in swept.sweep.doses]
    runs = [run for run in swept.runs if run is not None]
    if len(runs) < len(doses):
        return _Found(f"{name}: {len(doses) - len(runs)} of {len(doses)} doses were spoiled", spoiled=True)
    shown = [shown_symptoms([run.truth.causes[i] for i in swept.sweep.faults], run, twin) for run in runs]
    if not all(shown):
        return _unseen(name, doses, [not symptoms for symptoms in shown])
    seen_once = {key for symptoms in shown for key in symptoms}
    curve = max((c for c in _curves(swept, runs, twin) if c.key in seen_once), key=lambda c: c.pull, default=None)
    seen = f"{name}: seen at {', '.join(map(_number, doses))}"
    return _Found(f"{seen}, in log lines or silence alone") if curve is None else _turn(name, doses, seen, curve)


def _unseen(name: str, doses: Sequence[float], unseen: Sequence[bool]) -> _Found:
    """Name the part of the range in which the fault cannot be seen: up to the next dose at which it can."""
    said = f"{name}: not seen at {', '.join(_number(dose) for dose, not_seen in zip(doses, unseen, strict=True) if not_seen)}"
    low, high, middle = _number(doses[0]), _number(doses[-1]), _number(doses[len(doses) // 2])
    if all(unseen):
        where, cut = f"from {low} to {high}, all of the range", "move the range, or break a component that users need more"
    elif unseen[0] and unseen[-1]:
        where, cut = f"from {low} and up to {high}", f"narrow the range around {middle}"
    elif unseen[0]:
        seen = next(dose for dose, not_seen in zip(doses, unseen, strict=True) if not not_seen)
        where, cut = f"from {low} to below {_number(seen)}", f"cut the low end: begin `{name}` at {_number(seen)}, or nearer to it"
    elif unseen[-1]:
        seen = next(dose for dose, not_seen in reversed(list(zip(doses, unseen, strict=True))) if not not_seen)
        where, cut = f"from above {_number(seen)} to {high}", f"cut the high end: let `{name}` end at {_number(seen)}, or nearer to it"
    else:
        where, cut = f"around {middle}, between {low} and {high}", "the ends are seen and the middle is not: see which symptom each end has"
    return _Found(f"{said} (invisible {where})", cut)


def _curves(swept: Swept, runs: Sequence[Observed], twin: Observed) -> list[_Curve]:
    """Every declared symptom that is a series at all doses and in the twin."""
    curves: list[_Curve] = []
    for cause in (runs[0].truth.causes[i] for i in swept.sweep.faults):
        for symptom in make_fault(cause.fault, cause.component, cause.parameters).symptoms:
            sides = [{s.name: s.averaged() for s in symptom_samples(symptom, cause.component, run.episode)} for run in (twin, *runs)]
            for series in sides[0]:
                calm, *values = [side.get(series) for side in sides]
                whole = tuple(v for v in values if v is not None and len(v) >= _FEW)
                if calm is not None and len(calm) and len(whole) == len(runs):
                    curves.append(_Curve(symptom_key(symptom), whole, float(calm.mean())))
    return curves


def _turn(name: str, doses: Sequence[float], seen: str, curve: _Curve) -> _Found:
    """Whether the effect turns round within the range: the middle beyond both ends, significantly and by much of the effect."""
    means = curve.means
    word = "rises" if means[-1] > means[0] else "falls"
    said = f"{seen}; {curve.key} {' -> '.join(map(_number, means))} ({_number(curve.calm)} without)"
    if len(means) < 3:
        return _Found(said)
    first, middle, last = curve.values
    top, bottom = (first, last) if means[0] > means[-1] else (last, first)
    least = _MATERIAL * max(abs(mean - curve.calm) for mean in means)
    above = means[1] - float(top.mean()) > least and shift_probability(top, middle, up=True) < _SIGNIFICANT
    below = float(bottom.mean()) - means[1] > least and shift_probability(bottom, middle, up=False) < _SIGNIFICANT
    if not above and not below:
        return _Found(said)
    # The half in which it goes against the direction of the whole: the high one when it rises to the middle and falls
    # back to an end that is still above the low one, or falls to the middle and climbs back below it.
    high = above == (word == "rises")
    half = f"from {_number(doses[1])} to {_number(doses[2])}" if high else f"from {_number(doses[0])} to {_number(doses[1])}"
    cut = f"cut the {'high' if high else 'low'} end of `{name}` at {_number(doses[1])}"
    return _Found(f"{said}: it {word} over the range, and turns round {half}", f"{cut}: there more of it does less")


def _number(value: float) -> str:
    return f"{value:.4g}"
