"""The static check: can this scenario happen at all? Nothing is started.

Every fault is tried with every choice and with both ends of every range of the parameters it refers to:
its parameters must be valid, its targets must be in the app and of a kind that the fault fits, what
it names (a table, a dependency) must belong to the target, each sandbox must have the capabilities, the fault
itself must have nothing against the target, and no two faults may be in each other's way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from chaosgym.app import App
from chaosgym.document import Problem
from chaosgym.errors import InputError, did_you_mean
from chaosgym.faults import all_faults, refusal
from chaosgym.faults.base import Fault
from chaosgym.graph import edges
from chaosgym.sandbox.base import Capability
from chaosgym.scenario import Scenario
from chaosgym.scenarios.case import Case, cases
from chaosgym.scenarios.conflicts import leaks, pair_problems, reached, slo_problems
from chaosgym.scenarios.load import load_app, load_scenario, origin
from chaosgym.scenarios.objection import objections
from chaosgym.source import Loc, read_source

__all__ = ["SANDBOXES", "check_scenario", "refuse_impossible", "runs_on"]

_ALL = frozenset(get_args(Capability))
SANDBOXES: Mapping[str, frozenset[Capability]] = {
    "local": _ALL - {"platform"}, "docker": _ALL - {"packets", "platform"}, "kubernetes": _ALL - {"packets"},
}  # fmt: skip
"""What each kind of sandbox of this version can do where nothing is refused to it."""

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


def refuse_impossible(scenario: Scenario, app: App) -> None:
    """Raise InputError with every reason why `scenario` cannot happen on `app`; before anything is started for it."""
    problems = check_scenario(scenario, app)
    if problems:
        raise InputError("\n".join(problems))


def runs_on(scenario: Scenario) -> tuple[str, ...]:
    """The sandboxes that it may run on: those that it names, or all that can do its faults."""
    known = all_faults()
    needs = frozenset[Capability]().union(*(known[each.fault].needs for each in scenario.spec.faults if each.fault in known))
    return scenario.spec.sandboxes or tuple(name for name, able in SANDBOXES.items() if needs <= able)


def _problems(scenario: Scenario, app: App | None) -> Iterator[Problem]:
    """Locations are relative to `spec`."""
    yield from slo_problems(scenario)
    try:
        app = app or load_app(scenario.spec.app)
    except InputError as error:
        yield Problem(("app",), str(error))
        return
    users = reached(app)
    asked = scenario.spec.sandboxes or runs_on(scenario)[:1] or ("local",)  # one reason is enough where none was named
    fine: list[Case] = []
    every = [case for index in range(len(scenario.spec.faults)) for (case,) in cases(scenario, app, [index])]
    for case in every:
        problems = list(_case_problems(case, asked, users))
        fine += [] if problems else [case]
        yield from problems
    if len(fine) == len(every):  # else there is nothing to draw a plan from
        yield from objections(scenario, fine)
    yield from pair_problems(scenario, app)
    yield from leaks(scenario)


def _case_problems(case: Case, sandboxes: tuple[str, ...], users: set[str]) -> Iterator[Problem]:
    known, components = all_faults(), case.app.spec.components
    fault, target, place = known.get(case.spec.fault), case.target, case.target_place
    if fault is None:
        yield Problem(("faults", case.index, "fault"), f"this version has no injector for '{case.spec.fault}'; it has {', '.join(known)}")
        return
    if target not in components:
        roles = f"it has {', '.join(components)}{did_you_mean(target, components)}"
        yield Problem(place, f"app '{case.app.metadata.name}' has no component '{target}'; {roles}")
        return
    kind = components[target].kind
    refused = {sandbox: why for sandbox in sandboxes if (why := refusal(fault, kind, SANDBOXES[sandbox])) is not None}
    if refused:
        yield from (Problem(place, f"'{target}' in sandbox '{s}': {why}; {_instead(case, fault, s)}") for s, why in refused.items())
        return
    if target not in users:
        others = ", ".join(role for role, c in components.items() if role in users and c.kind in fault.kinds) or "none that it fits"
        unseen = f"no journey of '{case.app.metadata.name}' touches '{target}', so nobody would see it broken"
        yield Problem(place, f"{unseen}; they touch {others}")
    yield from _parameter_problems(case, fault)
    yield from _belonging_problems(case, fault, place)


def _instead(case: Case, fault: type[Fault], sandbox: str) -> str:
    """Where this fault would work, and which others would work here: of its own family, if there is one."""
    able = SANDBOXES[sandbox]
    kind = case.app.spec.components[case.target].kind
    roles = [role for role, c in case.app.spec.components.items() if refusal(fault, c.kind, able) is None]
    fitting = [other.label for other in all_faults().values() if refusal(other, kind, able) is None]
    family = [label for label in fitting if label.split(".")[0] == fault.label.split(".")[0]]
    others = ", ".join((family or fitting)[:3])
    here = f"in this app {', '.join(roles)} would do" if roles else "this app has nothing else for it"
    return f"{here}, and a {kind} can have {others}" if others else here


def _parameter_problems(case: Case, fault: type[Fault]) -> Iterator[Problem]:
    """What the fault's own model says."""
    written = case.spec.parameters
    try:
        fault(case.target, {name: case.value(value) for name, value in written.items()})
    except ValidationError as error:
        known = list(fault.Parameters.model_fields)
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


def _belonging_problems(case: Case, fault: type[Fault], place: Loc) -> Iterator[Problem]:
    """Tables and dependencies are the target's own."""
    spec, target = case.app.spec, case.target
    called = [edge for edge in edges(spec) if edge.source == target]
    if case.spec.fault == "configuration.credential" and not any(edge.protocol == "postgresql" for edge in called):
        users = sorted({edge.source for edge in edges(spec) if edge.protocol == "postgresql"})
        yield Problem(place, f"'{target}' uses no database, so it has no credential to get wrong; {', '.join(users)} do")
    callers = list(dict.fromkeys(edge.source for edge in edges(spec) if edge.protocol == "http"))
    if "dependency" in fault.Parameters.model_fields and target not in callers:
        yield Problem(place, f"'{target}' calls no other component, so {fault.label} has none to act through; {', '.join(callers)} do")
        return
    options = {"table": list(spec.components[target].tables), "dependency": [edge.target for edge in called if edge.protocol == "http"]}
    for name, known in options.items():
        written = case.spec.parameters.get(name)
        value = case.value(written)
        if written is not None and value not in known:
            message = f"'{target}' has no {name} '{value}'; it has {', '.join(known) or 'none'}{did_you_mean(str(value), known)}"
            yield Problem(case.place(("parameters", name), written), message)
