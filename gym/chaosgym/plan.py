"""A Plan: one scenario with everything drawn - names, addresses, parameters, decoys - for one seed.

A plan is all that a sandbox needs to run an episode, and it is a function of (app, scenario, seed).
Inside chaosgym components go by their *role* (the key in the App: `orders`); everything an agent can
see uses the *name* drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chaosgym.app import App
from chaosgym.scenario import Scenario

__all__ = ["ComponentPlan", "DecoyPlan", "FaultPlan", "Plan"]


@dataclass(frozen=True)
class ComponentPlan:
    """The public face of a component in this episode."""

    role: str
    """The key in the App; never shown to an agent."""
    name: str
    """`service.name` in the telemetry."""
    host: str
    """DNS-like name that clients use (`server.address`), as in `cart-api.prod.internal`."""
    port: int
    version: str
    """`service.version`, as in `3.14.2`."""
    log_style: str
    """`json`, `logfmt` or `plain` for services; datastores write their own."""
    routes: dict[str, str] = field(default_factory=dict)
    """Endpoint name in the App -> HTTP route drawn, as in `/v2/items/{id}`."""
    tables: dict[str, str] = field(default_factory=dict)
    """Table name in the App -> drawn table name (postgres)."""
    streams: dict[str, str] = field(default_factory=dict)
    """Stream name in the App -> drawn (redis)."""


@dataclass(frozen=True)
class FaultPlan:
    """One fault with target and parameters resolved (seconds)."""

    fault: str
    target: str
    """Role of the component."""
    parameters: dict[str, Any] = field(default_factory=dict)
    cause: bool = True
    """False for a consequence, which the truth does not name."""
    after: float = 0.0
    """How long after the fault before it."""
    intermittent: tuple[float, float] | None = None
    """How long it is in force, and how long not, in turn."""


@dataclass(frozen=True)
class DecoyPlan:
    """Something harmless: `offset` seconds from the start of the baseline (may lie in either window)."""

    kind: str
    target: str
    """Role of the component; the entry for traffic."""
    offset: float
    parameters: dict[str, Any] = field(default_factory=dict)
    """deploy: `version`; config: `key`, `old`, `new` (a knob without effect); traffic: `factor` (0.7 to 1.6);
    neighbour: `seconds` of CPU; old_error: `rate` (requests a second, from the start on)."""


@dataclass(frozen=True)
class Plan:
    """Everything drawn; see the module docstring."""

    app: App
    scenario: Scenario
    seed: int
    components: dict[str, ComponentPlan]
    """By role."""
    parameters: dict[str, Any]
    faults: tuple[FaultPlan, ...]
    decoys: tuple[DecoyPlan, ...]
    inject_offset: float
    """Seconds after the end of the public baseline at which the fault goes in (jittered, private)."""
    proxied: tuple[str, ...] = ()
    """Roles reached through a link proxy: those a network fault needs, and as many at random."""
