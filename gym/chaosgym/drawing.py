"""Drawing: (app, scenario, seed) -> Plan, the same for the same three on every machine.

Names, the fault and the decoys come from streams of random numbers of their own, so that a longer
word list does not move the fault, and a decoy more does not rename anything.
"""

from __future__ import annotations

import hashlib
import math
from random import Random
from typing import Any

from chaosgym.app import App
from chaosgym.errors import InputError, did_you_mean
from chaosgym.graph import component_steps
from chaosgym.naming import Company, next_version
from chaosgym.plan import ComponentPlan, DecoyPlan, FaultPlan, Plan
from chaosgym.scenario import Choice, LogUniform, Parameter, Scenario, bounds, reference
from chaosgym.steps import PublishStep
from chaosgym.taxonomy import FAULT_TYPES, find
from chaosgym.vocabulary import KNOBS

__all__ = ["draw_plan", "next_version", "resolve"]

LINK_FAULTS: dict[str, str | None] = {
    **{label: None for label in FAULT_TYPES if label.startswith("network.")},
    "application.retry_storm": "dependency",
}
"""Our faults that act on the link to a component: the target (None), or the one that a parameter names."""

Components = dict[str, ComponentPlan]
Faults = tuple[FaultPlan, ...]

_PROXIED = 3
_QUIET = 0.35
_ROLLED_OUT = ("gateway", "service", "worker")


def draw_plan(app: App, scenario: Scenario, seed: int) -> Plan:
    """Draw everything for one episode. InputError when the scenario names what the app does not have."""
    parameters = _draw_parameters(scenario, seed)
    faults = _draw_faults(app, scenario, parameters)
    when = _stream(scenario, seed, "when")
    incident = scenario.spec.timeline.incident
    inject_offset = round(when.uniform(0.02, min(0.35, 0.2 * incident)), 4)
    components = _draw_components(app, _stream(scenario, seed, "names"))
    return Plan(
        app=app,
        scenario=scenario,
        seed=seed,
        components=components,
        parameters=parameters,
        faults=faults,
        decoys=_draw_decoys(app, scenario, seed, components, faults, inject_offset),
        inject_offset=inject_offset,
        proxied=_draw_proxied(app, faults, _stream(scenario, seed, "links")),
    )


def _stream(scenario: Scenario, seed: int, what: str) -> Random:
    text = f"{scenario.spec.app}\0{scenario.metadata.name}\0{seed}\0{what}"
    return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))


def _draw_parameters(scenario: Scenario, seed: int) -> dict[str, Any]:
    return {name: _draw(parameter, _stream(scenario, seed, f"parameter {name}")) for name, parameter in scenario.spec.parameters.items()}


def _draw(parameter: Parameter, random: Random) -> Any:
    """One value, in base units (seconds, bytes), to four digits."""
    if isinstance(parameter, Choice):
        return random.choice(parameter.choice)
    low, high, whole = bounds(parameter)
    if isinstance(parameter, LogUniform):
        value = math.exp(random.uniform(math.log(low), math.log(high)))
    else:
        value = random.randint(int(low), int(high)) if whole else random.uniform(low, high)
    value = min(max(value, low), high)
    return round(value) if whole else float(f"{value:.4g}")


def resolve(value: Any, parameters: dict[str, Any]) -> Any:
    """`value`, or what it refers to in the drawn parameters."""
    ref = reference(value)
    if ref is None:
        return value
    drawn = parameters[ref.parameter]
    return drawn if ref.part is None else drawn[ref.part]


def _draw_faults(app: App, scenario: Scenario, parameters: dict[str, Any]) -> Faults:
    faults = tuple(
        FaultPlan(
            spec.fault, str(resolve(spec.target, parameters)), {k: resolve(v, parameters) for k, v in spec.parameters.items()},
            spec.role == "cause", spec.after, (spec.intermittent.lasts, spec.intermittent.rests) if spec.intermittent else None,
        )
        for spec in scenario.spec.faults
    )
    known = app.spec.components
    for fault in faults:
        for role in (fault.target, _linked(fault)):
            if role is not None and role not in known:
                message = f"scenario '{scenario.metadata.name}': app '{app.metadata.name}' has no component '{role}'"
                raise InputError(f"{message}; it has {', '.join(known)}{did_you_mean(role, known)}")
    return faults


def _linked(fault: FaultPlan) -> str | None:
    """The component whose link a fault acts on, if it acts on one."""
    if fault.fault not in LINK_FAULTS:
        own = find(fault.fault)
        return fault.target if own is not None and own.link else None
    parameter = LINK_FAULTS[fault.fault]
    role = fault.target if parameter is None else fault.parameters.get(parameter)
    return None if role is None else str(role)


def _draw_components(app: App, random: Random) -> Components:
    company = Company(random)
    ports: set[int] = set()
    tables: set[str] = set()
    streams: set[str] = set()
    names = {(role, s): company.stream(streams) for role in app.spec.components for s in _streams(app, role)}
    found: Components = {}
    for role, component in app.spec.components.items():
        nouns: set[str] = set()
        name = company.component(component.vocabulary, component.kind)
        found[role] = ComponentPlan(
            role=role,
            name=name,
            host=company.host(name),
            port=company.port(component.kind, ports),
            version=company.version(component.kind),
            log_style=company.log_style_of(component.kind),
            routes={endpoint: company.route(endpoint, nouns) for endpoint in component.endpoints},
            tables={table: company.table(table, tables) for table in component.tables},
            streams={stream: drawn for (owner, stream), drawn in names.items() if owner == role},
        )
    return found


def _streams(app: App, redis: str) -> list[str]:
    """The streams on a redis component, sorted."""
    published = {
        at.step.stream
        for component in app.spec.components.values()
        for at in component_steps(component)
        if isinstance(at.step, PublishStep) and at.step.publish == redis
    }
    return sorted(published)


def _draw_decoys(
    app: App, scenario: Scenario, seed: int, components: Components, faults: Faults, inject_offset: float
) -> tuple[DecoyPlan, ...]:
    """The decoys that happen, by time. A rollout heals what is broken in a process, so none follows a fault on its target."""
    found: list[DecoyPlan] = []
    injected = scenario.spec.timeline.baseline + inject_offset
    for index, decoy in enumerate(scenario.spec.decoys):
        random = _stream(scenario, seed, f"decoy {index}")
        happens = random.random() < decoy.probability
        offset = _draw_offset(random, scenario, injected)
        busy = {fault.target for fault in faults} if offset > injected - _QUIET else set[str]()
        if happens:
            targets = [role for role, c in app.spec.components.items() if c.kind in _ROLLED_OUT and role not in busy]
            found.append(_draw_decoy(decoy.kind, offset, app.spec.entry, [components[role] for role in targets], random))
    return tuple(sorted(found, key=lambda plan: plan.offset))


def _draw_offset(random: Random, scenario: Scenario, injected: float) -> float:
    """Half of the decoys come about when a fault comes (or would), the others at any time."""
    end = scenario.spec.timeline.baseline + scenario.spec.timeline.incident
    near = random.random() < 0.5
    offset = random.gauss(injected, 0.2) if near else random.uniform(0.1, end)
    return round(min(max(offset, 0.05), end - min(0.3, 0.2 * end)), 4)


def _draw_decoy(kind: str, offset: float, entry: str, targets: list[ComponentPlan], random: Random) -> DecoyPlan:
    """One of them; traffic where there is nothing to roll out."""
    if kind == "neighbour":
        return DecoyPlan(kind, entry, offset, {"seconds": round(random.uniform(0.05, 0.2), 3)})
    if kind == "old_error":
        return DecoyPlan(kind, entry, 0.0, {"rate": round(random.uniform(1.5, 4.0), 2)})
    if kind == "traffic" or not targets:
        factor = math.exp(random.uniform(math.log(0.7), math.log(1.6)))
        return DecoyPlan("traffic", entry, offset, {"factor": round(factor, 3)})
    target = random.choice(targets)
    if kind == "deploy":
        return DecoyPlan("deploy", target.role, offset, {"version": next_version(target.version, random)})
    key = random.choice(sorted(KNOBS))
    old, new = random.sample(KNOBS[key], 2)
    return DecoyPlan("config", target.role, offset, {"key": key, "old": old, "new": new})


def _draw_proxied(app: App, faults: Faults, random: Random) -> tuple[str, ...]:
    """As many links through a proxy in every episode, those that a fault needs among them."""
    needed = [role for fault in faults if (role := _linked(fault)) is not None]
    others = [role for role, c in app.spec.components.items() if role not in needed and role != app.spec.entry and c.kind != "worker"]
    more = random.sample(others, min(len(others), max(0, _PROXIED - len(set(needed)))))
    chosen = {*needed, *more}
    return tuple(role for role in app.spec.components if role in chosen)
