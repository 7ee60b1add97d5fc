"""The static check: can this scenario happen at all? Nothing is started.

Every fault is tried with every choice and with both ends of every range of the parameters it refers to:
its parameters must be valid, its targets must be in the app and of a kind that the fault fits, what
it names (a table, a dependency) must belong to the target, and each sandbox must have the capabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from chaosgym.app import App
from chaosgym.document import Problem
from chaosgym.drawing import resolve
from chaosgym.errors import InputError, did_you_mean
from chaosgym.faults import FAULTS, refusal
from chaosgym.graph import edges
from chaosgym.parameter import Choice, Parameter, bounds, reference
from chaosgym.sandbox.base import Capability
from chaosgym.scenario import FaultSpec, Scenario
from chaosgym.scenarios.load import load_app, load_scenario, origin
from chaosgym.source import Loc, read_source

__all__ = ["SANDBOXES", "check_scenario"]

SANDBOXES: Mapping[str, frozenset[Capability]] = {"local": frozenset(get_args(Capability))}
"""What each kind of sandbox of this version can do where nothing is refused to it."""

_MOST_COMBINATIONS = 5_000


class _Draw(NamedTuple):
    """One value that a parameter can take, and where the file says so (relative to `spec`)."""

    loc: Loc
    value: Any


@dataclass(frozen=True)
class _Case:
    """A fault of the scenario with one combination of what its parameters can be."""

    app: App
    index: int
    spec: FaultSpec
    drawn: Mapping[str, _Draw]

    def value(self, written: Any) -> Any:
        return resolve(written, {name: draw.value for name, draw in self.drawn.items()})

    def place(self, loc: Loc, written: Any) -> Loc:
        """Where a value comes from: the choice that a reference leads to, or where it is written."""
        ref = reference(written)
        return self.drawn[ref.parameter].loc if ref is not None else ("faults", self.index, *loc)


def check_scenario(scenario: Scenario | str | Path, app: App | None = None) -> list[str]:
    """Every reason why a scenario cannot happen, one line each; an empty list when it can.

    The lines begin with `file:line:column` unless the scenario was built in code. A document that cannot
    be read is InputError. `app` stands in for the one that the scenario names.
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario)
    path = origin(scenario)
    source = read_source(path) if path is not None and path.exists() else None
    found = dict.fromkeys(_problems(scenario, app))
    if source is None:
        return [f"{scenario.metadata.name}: {'.'.join(map(str, ('spec', *p.loc)))}: {p.message}" for p in found]
    ordered = sorted(found, key=lambda p: source.where(("spec", *p.loc), key=p.key))
    return [source.message(("spec", *p.loc), p.message, key=p.key) for p in ordered]


def _problems(scenario: Scenario, app: App | None) -> Iterator[Problem]:
    """Locations are relative to `spec`."""
    for index, sandbox in enumerate(scenario.spec.sandboxes):
        if sandbox not in SANDBOXES:
            yield Problem(("sandboxes", index), f"this version has no '{sandbox}' sandbox; it has {', '.join(SANDBOXES)}")
    try:
        app = app or load_app(scenario.spec.app)
    except InputError as error:
        yield Problem(("app",), str(error))
        return
    for index, fault in enumerate(scenario.spec.faults):
        for drawn in _combinations(scenario, fault):
            yield from _case_problems(_Case(app, index, fault, drawn), scenario.spec.sandboxes)


def _combinations(scenario: Scenario, fault: FaultSpec) -> Iterator[dict[str, _Draw]]:
    """Every choice with every other, and both ends of ranges, of the parameters that the fault refers to."""
    refs = {ref.parameter for written in (fault.target, *fault.parameters.values()) if (ref := reference(written)) is not None}
    names = [name for name in scenario.spec.parameters if name in refs]
    draws = [list(_draws(name, scenario.spec.parameters[name])) for name in names]
    for values in islice(product(*draws), _MOST_COMBINATIONS):
        yield dict(zip(names, values, strict=True))


def _draws(name: str, parameter: Parameter) -> Iterator[_Draw]:
    if isinstance(parameter, Choice):
        yield from (_Draw(("parameters", name, "choice", index), value) for index, value in enumerate(parameter.choice))
    else:
        low, high, whole = bounds(parameter)
        key = next(iter(type(parameter).model_fields))
        yield from (_Draw(("parameters", name, key, index), round(end) if whole else end) for index, end in enumerate((low, high)))


def _case_problems(case: _Case, sandboxes: tuple[str, ...]) -> Iterator[Problem]:
    fault = FAULTS.get(case.spec.fault)
    target = str(case.value(case.spec.target))
    place = case.place(("target",), case.spec.target)
    components = case.app.spec.components
    if fault is None:
        yield Problem(("faults", case.index, "fault"), f"this version has no injector for '{case.spec.fault}'; it has {', '.join(FAULTS)}")
        return
    if target not in components:
        known = ", ".join(components)
        yield Problem(
            place, f"app '{case.app.metadata.name}' has no component '{target}'; it has {known}{did_you_mean(target, components)}"
        )
        return
    refused = [(sandbox, refusal(fault, components[target].kind, SANDBOXES.get(sandbox, fault.needs))) for sandbox in sandboxes]
    if any(why is not None for _, why in refused):
        yield from (Problem(place, f"'{target}' in sandbox '{sandbox}': {why}") for sandbox, why in refused if why is not None)
        return
    yield from _parameter_problems(case, target)
    yield from _belonging_problems(case, target, place)


def _parameter_problems(case: _Case, target: str) -> Iterator[Problem]:
    """What the fault's own model says."""
    written = case.spec.parameters
    try:
        FAULTS[case.spec.fault](target, {name: case.value(value) for name, value in written.items()})
    except ValidationError as error:
        known = list(FAULTS[case.spec.fault].Parameters.model_fields)
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0]) if detail["loc"] else ""
            text = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
            if detail["type"] == "missing":
                yield Problem(("faults", case.index), f"{case.spec.fault} needs parameter '{name}'")
            elif detail["type"] == "extra_forbidden":
                allowed = f"{case.spec.fault} has no parameter '{name}'; it has {', '.join(known) or 'none'}{did_you_mean(name, known)}"
                yield Problem(("faults", case.index, "parameters", name), allowed, key=True)
            else:
                place = case.place(("parameters", name), written.get(name))
                yield Problem(place, f"{name} of {case.spec.fault}: {text}, not {detail['input']!r:.60}")


def _belonging_problems(case: _Case, target: str, place: Loc) -> Iterator[Problem]:
    """Tables and dependencies are the target's own."""
    spec = case.app.spec
    called = [edge for edge in edges(spec) if edge.source == target]
    if case.spec.fault == "configuration.credential" and not any(edge.protocol == "postgresql" for edge in called):
        users = sorted({edge.source for edge in edges(spec) if edge.protocol == "postgresql"})
        yield Problem(place, f"'{target}' uses no database, so it has no credential to get wrong; {', '.join(users)} do")
    options = {"table": list(spec.components[target].tables), "dependency": [edge.target for edge in called if edge.protocol == "http"]}
    for name, known in options.items():
        written = case.spec.parameters.get(name)
        value = case.value(written)
        if written is not None and value not in known:
            message = f"'{target}' has no {name} '{value}'; it has {', '.join(known) or 'none'}{did_you_mean(str(value), known)}"
            yield Problem(case.place(("parameters", name), written), message)
