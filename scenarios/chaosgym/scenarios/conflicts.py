"""What a scenario cannot have together: two faults that undo each other, a split that gives away another, an SLO nobody measures.

Each finding says why, and what would work in its place. Locations are relative to `spec`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations

from chaosgym.app import App
from chaosgym.document import Problem
from chaosgym.drawing import LINK_FAULTS
from chaosgym.faults import all_faults
from chaosgym.faults.base import Fault
from chaosgym.graph import edges
from chaosgym.parameter import reference
from chaosgym.scenario import Scenario
from chaosgym.scenarios.case import Case, cases
from chaosgym.scenarios.load import find_scenarios, shipped_apps
from chaosgym.steps import CacheStep, CallStep, PublishStep, QueryStep, walk_steps
from chaosgym.units import as_duration

__all__ = ["LEAST_REQUESTS", "held_out_apps", "held_out_faults", "leaks", "pair_problems", "reached", "slo_problems"]

LEAST_REQUESTS = 12
"""Expected in the baseline: with fewer, one episode in a hundred or more has not the five that its SLO is measured on."""

_IN_PROCESS = frozenset({"signal", "limit", "defect"})
"""Capabilities whose effect is in the running process and goes with it."""


# ── two faults ─────────────────────────────────────────────────────────────────────────────────────


def pair_problems(scenario: Scenario, app: App) -> Iterator[Problem]:
    """Faults that cannot be in force together, for every combination of what their targets can be."""
    known = all_faults()
    for pair in combinations(range(len(scenario.spec.faults)), 2):
        for first, second in cases(scenario, app, pair):
            classes = [known.get(case.spec.fault) for case in (first, second)]
            if classes[0] is None or classes[1] is None or not {first.target, second.target} <= set(app.spec.components):
                continue
            why = _clash(first, classes[0], second, classes[1])
            if why is not None:
                yield Problem(second.target_place, f"{why}; {_instead(first, second, classes[1])}")


def _clash(first: Case, earlier: type[Fault], second: Case, later: type[Fault]) -> str | None:
    both = f"{earlier.label} and {later.label}"
    link = _link(first, earlier)
    if first.target == second.target and earlier is later:
        return f"{later.label} hits '{second.target}' twice, and an answer can name it only once"
    if link is not None and link == _link(second, later):
        return f"{both} both act on the link to '{link}', where the second replaces the first"
    if "load" in earlier.needs & later.needs:
        return f"{both} both change what comes to the edge, where the second replaces the first"
    return _clash_in_process(both, earlier, second, later) if first.target == second.target else None


def _clash_in_process(both: str, earlier: type[Fault], second: Case, later: type[Fault]) -> str | None:
    """Of two faults on one component; the second goes in while the first is in force."""
    target = second.target
    if "restart" in earlier.needs & later.needs:
        return f"{both} both roll '{target}' out, where the second replaces the first"
    if "hold" in earlier.needs and later.needs & (_IN_PROCESS | {"restart", "hold"}):
        return f"{earlier.label} leaves '{target}' without a process, in which {later.label} would have to be"
    if earlier.needs & _IN_PROCESS and later.needs & {"restart", "hold"}:
        return f"{later.label} ends the process of '{target}' that {earlier.label} is in"
    return None


def _link(case: Case, fault: type[Fault]) -> str | None:
    """The component whose link a fault acts on."""
    if "link" not in fault.needs:
        return None
    parameter = LINK_FAULTS.get(fault.label)
    if parameter is None:
        return case.target
    named = case.value(case.spec.parameters.get(parameter))
    if named is not None:
        return str(named)
    called = [edge.target for edge in edges(case.app.spec) if edge.source == case.target and edge.protocol == "http"]
    return called[0] if called else None


def _instead(first: Case, second: Case, later: type[Fault]) -> str:
    """What would work: another component, and one parameter for both where each has its own."""
    others = [role for role, c in second.app.spec.components.items() if c.kind in later.kinds and role != first.target]
    others.sort(key=lambda role: role == second.app.spec.entry)  # where everything comes together is the last resort
    text = f"break another component with {later.label}, such as '{others[0]}'" if others else "leave one of them out"
    refs = [reference(case.spec.target) for case in (first, second)]
    if refs[0] is not None and refs[1] is not None and refs[0].parameter != refs[1].parameter:
        return f"draw both targets from one parameter with parts, or {text}"
    return text


# ── splits ─────────────────────────────────────────────────────────────────────────────────────────


def held_out_faults() -> dict[str, str]:
    """Fault types that training never sees, each with the shipped scenario that holds it out."""
    return {f.fault: s.metadata.name for s in find_scenarios("*") if s.metadata.split == "faults" for f in s.spec.faults}


def held_out_apps() -> dict[str, str]:
    """Apps that training never sees, each with the shipped scenario that holds it out."""
    return {s.spec.app: s.metadata.name for s in find_scenarios("*") if s.metadata.split == "apps"}


def leaks(scenario: Scenario) -> Iterator[Problem]:
    """What a scenario for training has of that which a shipped one holds out."""
    if scenario.metadata.split != "train":
        return
    unseen, apps = held_out_faults(), held_out_apps()
    for index, fault in enumerate(scenario.spec.faults):
        if fault.fault in unseen:
            free = _nearest(fault.fault, [label for label in all_faults() if label not in unseen])
            why = f"'{unseen[fault.fault]}' holds {fault.fault} out for the split `faults`, and training on it would give it away"
            yield Problem(("faults", index, "fault"), f"{why}; write `split: faults` under metadata, or break with {free}")
    if scenario.spec.app in apps:
        free = ", ".join(sorted(set(shipped_apps()) - set(apps))) or "one of your own"
        why = f"'{apps[scenario.spec.app]}' holds app '{scenario.spec.app}' out for the split `apps`, and training on it would give it away"
        yield Problem(("app",), f"{why}; write `split: apps` under metadata, or use {free}")


def _nearest(label: str, known: Collection[str]) -> str:
    """Of the same family, or any."""
    family = label.split(".")[0]
    return next((other for other in known if other.split(".")[0] == family), next(iter(known), "another"))


# ── the SLO ────────────────────────────────────────────────────────────────────────────────────────


def slo_problems(scenario: Scenario) -> Iterator[Problem]:
    """A baseline in which too few users come to say whether the SLO holds."""
    rate, baseline = scenario.spec.workload.rate, scenario.spec.timeline.baseline
    if rate * baseline < LEAST_REQUESTS:
        place = ("timeline", "baseline") if "timeline" in scenario.spec.model_fields_set else ("workload", "rate")
        yield Problem(
            place,
            f"{rate:g} requests a second in a baseline of {as_duration(baseline)} are about {rate * baseline:.2g}, too few to measure the "
            f"app's SLO; write a baseline of {as_duration(LEAST_REQUESTS / rate)}, or a rate of {LEAST_REQUESTS / baseline:.3g}",
        )


def reached(app: App) -> set[str]:
    """Roles that the journeys of users touch; what happens to another one nobody measures."""
    spec = app.spec
    waiting = [(spec.entry, request) for journey in spec.journeys.values() for request in journey.requests]
    seen: set[tuple[str, str]] = set()
    found: set[str] = set()
    while waiting:
        role, endpoint = waiting.pop()
        if (role, endpoint) in seen:
            continue
        seen.add((role, endpoint))
        found.add(role)
        component = spec.components[role]
        steps = component.endpoints[endpoint].steps if component.consumes is None else component.consumes.steps
        for at in walk_steps(steps):
            if isinstance(at.step, CallStep):
                waiting.append((at.step.call, at.step.endpoint))
            elif isinstance(at.step, QueryStep):
                found.add(at.step.query)
            elif isinstance(at.step, CacheStep):
                found.add(at.step.cache)
            elif isinstance(at.step, PublishStep):
                found.add(at.step.publish)
                waiting += [(worker, at.step.stream) for worker in _consumers(app, at.step)]
    return found


def _consumers(app: App, step: PublishStep) -> list[str]:
    """The workers of a stream."""
    components = app.spec.components.items()
    return [r for r, c in components if c.consumes is not None and (c.consumes.redis, c.consumes.stream) == (step.publish, step.stream)]
