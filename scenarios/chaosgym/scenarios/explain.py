"""A scenario in plain words: what will happen when, what is left to chance, and what counts as right."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from chaosgym.app import App
from chaosgym.faults import all_faults
from chaosgym.faults.docs import first_paragraph, symptom_text
from chaosgym.parameter import Choice, LogUniform, Parameter, Uniform, reference
from chaosgym.scenario import Decoy, FaultSpec, Scenario
from chaosgym.scenarios.case import cases
from chaosgym.scenarios.conflicts import held_out_apps, held_out_faults
from chaosgym.units import as_duration

__all__ = ["explain"]

_WIDTH = 110
_DECOYS = {
    "deploy": "a component that is not broken goes out under a new version that does the same",
    "config": "a setting without effect is changed on a component that is not broken",
    "traffic": "users become fewer or more, 0.7 to 1.6 times",
    "neighbour": "another program on the machine is busy for a moment",
    "old_error": "from the start on, a client asks for what is not there",
}
_SPLITS = {
    "train": "training takes its episodes",
    "seeds": "held out to test on seeds that training never sees",
    "apps": "held out to test on an app that training never sees",
    "faults": "held out to test on fault types that training never sees",
    "backend": "held out to test on another kind of sandbox",
    "foreign": "held out to test on telemetry that is not ours",
}


def explain(scenario: Scenario, app: App) -> str:
    """The whole text; `scenario` has passed the check."""
    meta = scenario.metadata
    parts = [
        (f"{meta.name} ({meta.difficulty}): {meta.title}".rstrip(": "), ()),
        ("When", _timeline(scenario)),
        ("What breaks", _faults(scenario, app)),
        ("Left to chance, by the seed", _chances(scenario)),
        ("Harmless beside it", (_decoy(decoy) for decoy in scenario.spec.decoys)),
        ("What the agent sees", [f"a report made from {', '.join(scenario.spec.show)}, in which names are drawn anew each time"]),
        ("What the truth says", _truth(scenario)),
        ("What it is for", _purpose(scenario)),
    ]
    return "\n\n".join("\n".join([head, *_indented(lines)]) for head, lines in parts)


def _indented(lines: Iterator[str] | list[str] | tuple[()]) -> Iterator[str]:
    for line in lines:
        depth = " " * (2 + len(line) - len(line.lstrip()))
        yield from textwrap.wrap(line.strip(), _WIDTH, initial_indent=depth, subsequent_indent=f"{depth}  ", break_on_hyphens=False)


def _timeline(scenario: Scenario) -> Iterator[str]:
    line, spec = scenario.spec.timeline, scenario.spec
    latest = min(0.35, 0.2 * line.incident)
    users = f"users come to '{spec.app}', {spec.workload.rate:g} requests a second"
    yield f"{as_duration(line.warmup)} of warm-up: {users}, and nothing is recorded"
    yield f"{as_duration(line.baseline)} of baseline: all is well, or the episode counts for nothing"
    if spec.faults:
        yield f"then, {as_duration(0.02)} to {as_duration(latest)} later, what is listed below is broken, in that order"
    yield f"{as_duration(line.incident)} of incident" + (", then everything is healed" if spec.faults else "")
    if line.recovery:
        yield f"{as_duration(line.recovery)} of recovery, still watched"


def _faults(scenario: Scenario, app: App) -> Iterator[str]:
    if not scenario.spec.faults:
        yield "nothing: whoever calls it healthy is right"
    for index, spec in enumerate(scenario.spec.faults):
        fault = all_faults()[spec.fault]
        targets = list(dict.fromkeys(case.target for (case,) in cases(scenario, app, [index])))
        yield f"{spec.fault} on {' or '.join(f'{target} ({app.spec.components[target].kind})' for target in targets)}"
        if spec.after:
            yield f"  It comes {as_duration(spec.after)} after the one before it."
        if spec.intermittent:
            yield f"  It comes and goes: {as_duration(spec.intermittent.lasts)} in force, {as_duration(spec.intermittent.rests)} not."
        if spec.role == "consequence":
            yield "  It is a consequence: the truth does not name it."
        yield f"  {first_paragraph(fault)}"
        yield from (f"  {name}, {_given(spec, name)}: {field.description}" for name, field in fault.Parameters.model_fields.items())
        yield f"  It counts when any of this is seen: {'; '.join(symptom_text(symptom) for symptom in fault.symptoms)}."


def _given(spec: FaultSpec, name: str) -> str:
    if name not in spec.parameters:
        default = all_faults()[spec.fault].Parameters.model_fields[name].default
        return "left open" if default is None else f"{default:g} by default" if isinstance(default, float) else f"{default} by default"
    ref = reference(spec.parameters[name])
    return f"always {spec.parameters[name]}" if ref is None else f"drawn as '{ref.parameter}'"


def _chances(scenario: Scenario) -> Iterator[str]:
    yield from (f"{name}: {_chance(parameter)}" for name, parameter in scenario.spec.parameters.items())
    yield "names, hosts, ports, routes, tables, versions and log formats of all components"


def _chance(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        shown = [" with ".join(f"{k} {v}" for k, v in c.items()) if isinstance(c, dict) else str(c) for c in parameter.choice]
        return f"{', '.join(shown)}; each as likely" if len(shown) > 1 else f"always {shown[0]}"
    if isinstance(parameter, Uniform):
        return f"{parameter.uniform[0]} to {parameter.uniform[1]}, everything between as likely"
    assert isinstance(parameter, LogUniform)
    return f"{parameter.loguniform[0]} to {parameter.loguniform[1]}, each doubling as likely"


def _decoy(decoy: Decoy) -> str:
    return f"{decoy.kind}, in {decoy.probability:.0%} of the episodes: {_DECOYS[decoy.kind]}"


def _truth(scenario: Scenario) -> Iterator[str]:
    if not scenario.spec.faults:
        yield "verdict healthy, without causes"
        return
    causes = [f"{spec.fault} on its component" for spec in scenario.spec.faults]
    yield f"verdict fault, with {'the cause' if len(causes) == 1 else 'the causes'} {' and '.join(causes)}, by the name drawn for it"
    yield "an episode in which none of the symptoms is seen counts for nothing"


def _purpose(scenario: Scenario) -> Iterator[str]:
    yield f"split `{scenario.metadata.split}`: {_SPLITS[scenario.metadata.split]}"
    unseen = [spec.fault for spec in scenario.spec.faults if spec.fault in held_out_faults()]
    if unseen:
        yield f"no scenario for training may have {' or '.join(unseen)}"
    if scenario.spec.app in held_out_apps():
        yield f"no scenario for training may run on '{scenario.spec.app}'"
