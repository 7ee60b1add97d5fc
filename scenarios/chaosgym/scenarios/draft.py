"""A Draft: the scenario that `chaosgym scenario new` writes, from an app, a fault and where it hits.

Each numeric parameter of the fault gets a range around its default. What is drafted has passed the check.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from chaosgym.app import App
from chaosgym.document import parse_document
from chaosgym.errors import InputError
from chaosgym.faults.base import Fault
from chaosgym.graph import edges
from chaosgym.parameter import reference
from chaosgym.scenario import Scenario, Split, Timeline, Workload
from chaosgym.scenarios.check import check_scenario
from chaosgym.scenarios.conflicts import held_out_apps, held_out_faults, reached
from chaosgym.scenarios.load import find_scenarios, load_scenario
from chaosgym.source import parse_source
from chaosgym.taxonomy import declared_type, find
from chaosgym.units import as_duration, as_size, parse_duration, parse_size

__all__ = ["Draft", "default_targets", "draft_scenario", "fitting_targets"]

_SPREAD = 1.5
"""How far a range reaches from the default, up and down: a factor."""
_COMMENT = 90
_PATTERN = "healthy-steady"
"""Whose decoys a draft has: those that all shipped scenarios have, so that they tell nothing."""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.'()-]*")


@dataclass(frozen=True)
class Draft:
    """What `chaosgym scenario new` asks."""

    name: str
    app: App
    fault: type[Fault]
    targets: tuple[str, ...]
    """Roles; one is drawn if there are several."""
    difficulty: str = "medium"


def fitting_targets(app: App, fault: type[Fault]) -> list[str]:
    """Components that the fault fits and that users touch: those that depend on most others first, the entry last."""
    users = reached(app)
    found = [role for role, component in app.spec.components.items() if component.kind in fault.kinds and role in users]
    depends = {role: sum(edge.source == role for edge in edges(app.spec)) for role in found}
    return sorted(found, key=lambda role: (role == app.spec.entry, -depends[role]))


def default_targets(draft: Draft) -> tuple[str, ...]:
    """The first component on which the fault can happen. InputError when there is none."""
    fitting = fitting_targets(draft.app, draft.fault)
    for role in fitting:
        try:
            draft_scenario(Draft(draft.name, draft.app, draft.fault, (role,), draft.difficulty))
        except InputError:
            continue
        return (role,)
    app, kinds = draft.app.metadata.name, ", ".join(sorted(draft.fault.kinds))
    raise InputError(f"app '{app}' has nothing that {draft.fault.label} fits ({kinds}); `chaosgym apps list` and `chaosgym faults list`")


def draft_scenario(draft: Draft) -> str:
    """The text of the file. InputError with every reason when it could not happen."""
    problems: list[str] = []
    kinds = {component.kind for role, component in draft.app.spec.components.items() if role in draft.targets}
    fits = set(draft.targets) <= set(draft.app.spec.components) and kinds <= draft.fault.kinds
    for whole in (True, False):  # ranges that do not go together are left to the defaults
        text = _text(draft, dict(_parameters(draft, whole=whole)) if fits else {})  # what does not fit has no parameters to speak of
        problems = _problems(text, draft)
        if not problems:
            return text
    raise InputError("\n".join(problems))


def _problems(text: str, draft: Draft) -> list[str]:
    """Without their places, which are in no file yet."""
    try:
        lines = check_scenario(parse_document(parse_source(text, draft.name), Scenario), draft.app)
    except InputError as error:
        lines = str(error).splitlines()
    return [line.split(": ", 2)[-1] for line in lines]


def _text(draft: Draft, parameters: dict[str, str]) -> str:
    summary = (find(draft.fault.label) or declared_type(draft.fault)).summary
    drawn = {_name(name): f"{written}  # {_about(draft, name)}" for name, written in parameters.items() if written.startswith("{")}
    several = len(draft.targets) > 1
    if several:
        drawn = {"target": f"{{choice: [{', '.join(draft.targets)}]}}", **drawn}
    lines = [
        *_head(draft, f"{summary[0].upper()}{summary[1:]}"),
        *(["  parameters:", *(f"    {name}: {written}" for name, written in drawn.items())] if drawn else []),
        "  faults:",
        f"    - fault: {draft.fault.label}",
        f"      target: {'${target}' if several else draft.targets[0]}",
        *_given(parameters),
        "  decoys:",
        *(f"    - {{kind: {decoy.kind}, probability: {decoy.probability:g}}}" for decoy in load_scenario(_PATTERN).spec.decoys),
    ]
    return "\n".join([*lines, ""])


def _about(draft: Draft, name: str) -> str:
    """What a parameter of the fault is, for a comment."""
    text = " ".join((draft.fault.Parameters.model_fields[name].description or "").split()).replace("`", "")
    return text if len(text) <= _COMMENT else f"{text[:_COMMENT].rsplit(' ', 1)[0]} ..."


def _head(draft: Draft, title: str) -> Iterator[str]:
    line = Timeline()
    spans = f"warmup: {as_duration(line.warmup)}, baseline: {as_duration(line.baseline)}, incident: {as_duration(line.incident)}"
    yield from ("apiVersion: chaosgym.dev/v1", "kind: Scenario", "metadata:", f"  name: {draft.name}")
    yield f"  title: {title if _PLAIN.fullmatch(title) else json.dumps(title)}"
    yield from (f"  difficulty: {draft.difficulty}", f"  split: {_split(draft)}", "spec:", f"  app: {draft.app.metadata.name}")
    yield from (f"  workload: {{rate: {Workload().rate:g}}}", f"  timeline: {{{spans}}}")


def _split(draft: Draft) -> Split:
    """What may be trained on is trained on."""
    if draft.fault.label in held_out_faults():
        return "faults"
    return "apps" if draft.app.metadata.name in held_out_apps() else "train"


def _given(parameters: dict[str, str]) -> Iterator[str]:
    if parameters:
        yield "      parameters:"
    for name, written in parameters.items():
        yield f"        {name}: {f'${{{_name(name)}}}' if written.startswith('{') else written}"


def _name(field: str) -> str:
    """A scenario's parameter after a fault's."""
    return "dose" if field == "target" else field.replace("_", "-")


# ── values ─────────────────────────────────────────────────────────────────────────────────────────


def _parameters(draft: Draft, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Name -> a value, or what a value is drawn from (a mapping); `whole`: also those that could be left out."""
    for name, field in draft.fault.Parameters.model_fields.items():
        if field.is_required():
            yield name, _required(draft, name, field)
        elif whole and (spread := _spread(field, field.default)) is not None:
            yield name, spread


def _required(draft: Draft, name: str, field: FieldInfo) -> str:
    """What belongs to all targets, what the fault allows, or what a shipped scenario says."""
    if name == "table":
        tables = [set(draft.app.spec.components[target].tables) for target in draft.targets]
        return f"{{choice: [{', '.join(sorted(set.intersection(*tables)))}]}}"
    if get_origin(field.annotation) is Literal:
        return f"{{choice: [{', '.join(map(str, get_args(field.annotation)))}]}}"
    low, high = _limits(field)
    if math.isfinite(high) and (spread := _spread(field, math.sqrt(low * high) if low > 0 else high / 2)) is not None:
        return spread
    for written in _shipped(draft.fault.label, name):
        return written
    raise InputError(
        f"{draft.fault.label} needs parameter '{name}' ({field.description}), which nothing can be said about here; "
        f"write the file by hand: `chaosgym faults show {draft.fault.label}`"
    )


def _shipped(label: str, name: str) -> Iterator[str]:
    for scenario in find_scenarios("*"):
        for fault in scenario.spec.faults:
            written = fault.parameters.get(name) if fault.fault == label else None
            ref = reference(written)
            parameter = scenario.spec.parameters[ref.parameter] if ref is not None and ref.part is None else None
            if parameter is not None:
                yield json.dumps(parameter.model_dump(mode="json"))
            elif written is not None and ref is None:
                yield json.dumps(written)


def _spread(field: FieldInfo, middle: Any) -> str | None:
    """A range around the middle that the field allows; None for what is no quantity, and for zero."""
    kind: Any = field.annotation
    if kind not in (int, float) or not isinstance(middle, int | float) or middle <= 0:
        return None
    low, high = _limits(field)
    ends = max(low, middle / _SPREAD), min(high, middle * _SPREAD)
    if field.annotation is int and not _read_by(field, parse_size):
        ends = max(math.ceil(low), math.floor(ends[0])), min(math.floor(high), math.ceil(ends[1]))
    if not ends[0] < ends[1]:
        return None
    if _read_by(field, parse_duration):
        return f"{{loguniform: [{', '.join(as_duration(float(f'{end:.2g}')) for end in ends)}]}}"
    if _read_by(field, parse_size):
        return f"{{loguniform: [{', '.join(as_size(2 ** round(math.log2(end))) for end in ends)}]}}"
    return f"{{uniform: [{', '.join(_plain(end, field) for end in ends)}]}}"


def _plain(end: float, field: FieldInfo) -> str:
    if field.annotation is int:
        return str(round(end))
    text = f"{end:.2g}"
    return text if "." in text else f"{float(text):.1f}"  # a whole number would make the range one of counts


def _limits(field: FieldInfo) -> tuple[float, float]:
    """What the field allows at least and at most."""
    low, high = -math.inf, math.inf
    for rule in field.metadata:
        low = max([low, *(float(v) for v in (getattr(rule, "ge", None), getattr(rule, "gt", None)) if isinstance(v, int | float))])
        high = min([high, *(float(v) for v in (getattr(rule, "le", None), getattr(rule, "lt", None)) if isinstance(v, int | float))])
    return low, high


def _read_by(field: FieldInfo, parse: Any) -> bool:
    return any(isinstance(rule, BeforeValidator) and rule.func is parse for rule in field.metadata)
