"""A foreign application as what the rest of chaosgym knows: an App, a Scenario and a Plan, in which every name is the real one.

The App is a carrier: it tells kinds, edges, users and the SLO. What only an application of chaosgym's own has (steps, limits,
drawn names) stands in it for the form, and no fault that would need it is let through (`chaosgym.foreign.refusal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from chaosgym.app import API_VERSION, App, AppSpec, Component, Endpoint, Journey, Kind, Table
from chaosgym.drawing import draw_plan
from chaosgym.foreign.app import ForeignApp, ForeignComponent, ForeignSpec
from chaosgym.foreign.host import Found
from chaosgym.plan import ComponentPlan, Plan
from chaosgym.scenario import FaultSpec, Scenario, ScenarioMetadata, ScenarioSpec, Workload
from chaosgym.steps import CacheStep, CallStep, QueryStep, Step

__all__ = ["make_app", "make_plan", "make_scenario"]

_VOCABULARY: Mapping[str, str] = {"gateway": "gateway", "postgres": "database", "redis": "cache"}
_ANY = "any"


def kind_of(component: ForeignComponent) -> Kind:
    """As the rest of chaosgym calls it."""
    return "service" if component.kind == "other" else component.kind


def make_app(foreign: ForeignApp) -> App:
    """The carrier; it is not put to the rules between components of an App, which are about chaosgym's own programs."""
    spec = foreign.spec
    components = {role: _component(spec, role, component) for role, component in spec.components.items()}
    journeys = {name: Journey(weight=probe.weight, requests=(name,)) for name, probe in spec.probes.items()}
    return App.model_construct(
        api_version=API_VERSION, kind="App", metadata=foreign.metadata,
        spec=AppSpec(entry=spec.entry, components=components, journeys=journeys, slo=spec.slo),
    )  # fmt: skip


def _component(spec: ForeignSpec, role: str, component: ForeignComponent) -> Component:
    steps = tuple(_step(spec, callee) for callee in component.calls)
    if role == spec.entry:
        endpoints = {name: Endpoint(method=probe.method, steps=steps) for name, probe in spec.probes.items()}
    else:
        endpoints = {_ANY: Endpoint(steps=steps)}
    kind = kind_of(component)
    return Component(
        kind=kind, vocabulary=_VOCABULARY.get(kind, "gateway"), endpoints=endpoints, tables={name: Table() for name in component.tables}
    )


def _step(spec: ForeignSpec, callee: str) -> Step:
    called = spec.components[callee]
    if called.kind == "postgres":
        return QueryStep(query=callee, table=next(iter(called.tables), _ANY))
    return CacheStep(cache=callee, key=_ANY) if called.kind == "redis" else CallStep(call=callee, endpoint=_ANY)


def make_scenario(foreign: ForeignApp, fault: str | None, target: str, parameters: Mapping[str, Any]) -> Scenario:
    """One fault on one component, or none."""
    spec = foreign.spec
    faults = (FaultSpec(fault=fault, target=target, parameters=dict(parameters)),) if fault else ()
    name = f"{fault or 'healthy'}-{target or spec.entry}".replace(".", "-").replace("_", "-")[:40].rstrip("-")
    return Scenario.model_validate({
        "apiVersion": API_VERSION,
        "kind": "Scenario",
        "metadata": ScenarioMetadata(name=name, split="foreign"),
        "spec": ScenarioSpec(app=foreign.metadata.name, workload=Workload(rate=spec.rate), timeline=spec.timeline, faults=faults),
    })


def make_plan(foreign: ForeignApp, scenario: Scenario, seed: int, found: Mapping[str, Found]) -> Plan:
    """What the scenario comes to with this seed. Parameters are drawn as ever, names are not."""
    plan = draw_plan(make_app(foreign), scenario, seed)
    spec = foreign.spec
    components = {
        role: ComponentPlan(
            role=role, name=role, host=component.container or component.workload or role, port=_port(spec, role, component),
            version=found[role].version if role in found else "", log_style="plain", tables=dict(component.tables),
            routes={name: probe.path for name, probe in spec.probes.items()} if role == spec.entry else {},
        )
        for role, component in spec.components.items()
    }  # fmt: skip
    linked = tuple(role for role, component in spec.components.items() if "link" in component.allow)
    return replace(plan, components=components, proxied=linked)


def _port(spec: ForeignSpec, role: str, component: ForeignComponent) -> int:
    if role == spec.entry:
        address = urlsplit(spec.url)
        return address.port or (443 if address.scheme == "https" else 80)
    return component.listens or 0
