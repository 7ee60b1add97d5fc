"""Addresses, logins and tables of one episode: who binds where, who connects where, with which password.

Every component gets a random loopback address. Clients of a component in `plan.proxied` get another one,
where its link listens, so that a link looks like any address.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from chaosgym.app import Component, QueryStep
from chaosgym.graph import component_steps
from chaosgym.plan import Plan
from chaosgym.sandbox.datastores import DATABASE, POSTGRES_PORT, REDIS_PORT
from chaosgym.services.config import Address
from chaosgym.services.tables import table_statements
from chaosgym.services.wiring import Login, Wiring

__all__ = ["Network", "draw_address", "draw_logins", "make_network", "table_definitions"]

_DATASTORE_PORTS = {"postgres": POSTGRES_PORT, "redis": REDIS_PORT}


@dataclass(frozen=True)
class Network:
    """Of one episode, by role."""

    wiring: Wiring
    direct: Mapping[str, Address]
    """Where each component itself listens; `wiring.client` is where others connect."""
    tables: Mapping[str, str]
    """Table name -> SQL that creates and fills it."""


def draw_address() -> str:
    """A random loopback address, so that sandboxes side by side without a network namespace stay apart."""
    return f"127.{random.randint(16, 250)}.{random.randint(0, 255)}.{random.randint(2, 250)}"


def make_network(plan: Plan, postgres: str, redis: str, otlp: str) -> Network:
    """Draw the network of an episode; `postgres` and `redis` are the addresses of the running servers."""
    components = plan.app.spec.components
    servers = {"postgres": postgres, "redis": redis}
    direct: dict[str, Address] = {}
    for role, component in components.items():
        if component.kind in servers:
            direct[role] = (servers[component.kind], _DATASTORE_PORTS[component.kind])
        else:
            direct[role] = (draw_address(), plan.components[role].port)
    client = {role: (draw_address(), port) if role in plan.proxied else (address, port) for role, (address, port) in direct.items()}
    bind = {role: address for role, address in direct.items() if components[role].kind not in servers}
    return Network(Wiring(bind, client, otlp, DATABASE, draw_logins(plan)), direct, table_definitions(plan))


def draw_logins(plan: Plan) -> dict[str, Login]:
    """What each component that queries signs in with, by role; the passwords are new each time."""
    components = plan.app.spec.components
    return {role: _login(plan.components[role].name) for role, component in components.items() if _queries(component)}


def table_definitions(plan: Plan) -> dict[str, str]:
    """Table name -> SQL that creates and fills it."""
    components = plan.app.spec.components
    return {name: sql for role, c in components.items() if c.kind == "postgres" for name, sql in table_statements(plan, role).items()}


def _queries(component: Component) -> bool:
    return any(isinstance(at.step, QueryStep) for at in component_steps(component))


def _login(name: str) -> Login:
    return Login(name.replace("-", "_"), f"{random.getrandbits(64):016x}")
