"""The gate *visible*: a declared symptom is in the telemetry, and is not in that of the twin."""

from __future__ import annotations

from collections.abc import Sequence

from chaosgym.faults import make_fault
from chaosgym.faults.base import Symptom
from chaosgym.gates.samples import log_samples, shift_probability, symptom_samples
from chaosgym.gates.share import falls_short
from chaosgym.gates.trial import Observed, Trial
from chaosgym.gates.verdict import Verdict
from chaosgym.recording.visibility import symptoms_seen
from chaosgym.truth import TrueCause

__all__ = ["judge_visible", "shown_symptoms", "symptom_key"]

VISIBLE_SHARE = 0.95
SIGNIFICANT = 0.05


def judge_visible(name: str, trials: Sequence[Trial]) -> Verdict:
    """In nearly every seed a symptom tells the broken run from its twin."""
    pairs = [(t.broken, t.twin) for t in trials if t.broken is not None and t.twin is not None]
    seen = [shown_symptoms(broken.truth.causes, broken, twin) for broken, twin in pairs]
    shown = sorted({symptom for found in seen for symptom in found})
    count = sum(bool(found) for found in seen)
    evidence = f"{count} of {len(pairs)} seeds differ from their twin (p < {SIGNIFICANT:g}): {', '.join(shown) or 'no declared symptom'}"
    passed = bool(pairs) and not falls_short(count, len(pairs), VISIBLE_SHARE)
    advice = "" if passed else "raise the fault's dose, or break a component that users need more"
    return Verdict(name, "visible", passed, evidence, advice, {"seen": count / len(pairs)} if pairs else {})


def shown_symptoms(causes: Sequence[TrueCause], broken: Observed, twin: Observed) -> list[str]:
    """Declared symptoms of `causes` that were noticed in the one, and neither noticed in nor explained by the other."""
    found: list[str] = []
    for cause in causes:
        fault = make_fault(cause.fault, cause.component, cause.parameters)
        noticed, beside = (symptoms_seen({cause.component: fault}, run.episode.tables, run.episode.header) for run in (broken, twin))
        for symptom in fault.symptoms:
            key = symptom_key(symptom)
            if key not in noticed:
                continue
            tested = _tested(symptom, cause.component, broken, twin)
            unheard_of = symptom.signal == "log" and key not in beside
            if unheard_of or (min(tested) < SIGNIFICANT if tested else key not in beside):
                found.append(key)
    return found


def _tested(symptom: Symptom, component: str, broken: Observed, twin: Observed) -> list[float]:
    """One-sided p of each series that the symptom may move."""
    if symptom.signal == "log":
        quiet, loud = (log_samples(symptom, component, run.episode).values for run in (twin, broken))
        return [shift_probability(quiet, loud, up=True)]
    before, after = ({s.name: s.values for s in symptom_samples(symptom, component, run.episode)} for run in (twin, broken))
    return [shift_probability(before[name], after[name], up=symptom.direction == "up") for name in after if name in before]


def symptom_key(symptom: Symptom) -> str:
    """As `symptoms_seen` of a truth spells it."""
    return f"{symptom.where}/{symptom.signal}/{symptom.direction}"
